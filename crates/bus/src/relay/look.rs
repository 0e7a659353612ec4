//! Looks whether the stream has what it had. Changes nothing.

use async_nats::jetstream::consumer::Info as ConsumerInfo;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use futures::{StreamExt, TryStreamExt, stream};
use manifold_core::Result;
use sqlx::PgPool;

use super::store::{self, Published};
use crate::jetstream::{away, event_of};

/// Events that are looked at beside the last one.
const SAMPLES: i64 = 32;
/// Unread events that are looked at one by one.
const UNREAD: i64 = 10_000;
/// Messages that are asked for at a time.
const AT_A_TIME: usize = 64;

/// When the stream was made, in microseconds. Another one of the same name has another epoch.
pub(super) fn epoch(stream: &Stream) -> i64 {
    i64::try_from(stream.cached_info().created.unix_timestamp_nanos() / 1_000).unwrap_or(0)
}

/// None if the stream has everything; else the number up to which it has.
pub(crate) async fn whole_up_to(pool: &PgPool, stream: &Stream) -> Result<Option<i64>> {
    let epoch = epoch(stream);
    if store::has_other_epochs(pool, epoch).await? {
        return Ok(Some(0));
    }
    let Some(last) = store::last_published(pool, epoch, i64::MAX).await? else { return Ok(None) };
    let first = number(stream.cached_info().state.first_sequence);
    if !holds(stream, last).await? {
        return last_whole(pool, stream, last.stream_seq).await.map(Some);
    }
    for sample in store::samples(pool, epoch, first, last.stream_seq, SAMPLES).await? {
        if !holds(stream, sample).await? {
            return Ok(Some(sample.stream_seq - 1));
        }
    }
    Ok(None)
}

/// The highest number below `missing` under which the stream has our event, by halves.
async fn last_whole(pool: &PgPool, stream: &Stream, missing: i64) -> Result<i64> {
    let (mut whole, mut missing) = (number(stream.cached_info().state.first_sequence) - 1, missing);
    while whole < missing - 1 {
        let middle = whole + (missing - whole) / 2;
        match store::last_published(pool, epoch(stream), middle).await? {
            Some(found) if found.stream_seq > whole => {
                if holds(stream, found).await? {
                    whole = middle;
                } else {
                    missing = found.stream_seq;
                }
            }
            _ => whole = middle,
        }
    }
    Ok(whole)
}

/// Published events that the stream does not have although not all consumers have read them: gone with its oldest messages,
/// or, among the next 10,000, from between the others.
pub(crate) async fn gone_unread(pool: &PgPool, stream: &Stream) -> Result<u64> {
    let first = number(stream.cached_info().state.first_sequence);
    let (epoch, floor) = (epoch(stream), floor(stream).await?);
    let n_first = store::count_between(pool, epoch, floor, first).await?;
    let unread = store::published_above(pool, epoch, floor.max(first - 1), UNREAD).await?;
    let looks = stream::iter(unread).map(|published| holds(stream, published)).buffer_unordered(AT_A_TIME);
    let held: Vec<bool> = looks.try_collect().await?;
    Ok(n_first + held.into_iter().filter(|held| !held).count() as u64)
}

/// The number up to which all consumers have read the stream.
pub(super) async fn floor(stream: &Stream) -> Result<i64> {
    let last = stream.cached_info().state.last_sequence;
    let durables = durables(stream).await?;
    // Without traffic for it, the floor of a consumer does not move.
    let idle = |durable: &ConsumerInfo| durable.num_pending == 0 && durable.num_ack_pending == 0;
    let floor = |durable: ConsumerInfo| if idle(&durable) { last } else { durable.ack_floor.stream_sequence };
    Ok(number(durables.into_iter().map(floor).min().unwrap_or(last)))
}

/// Who reads the stream.
pub(crate) async fn durables(stream: &Stream) -> Result<Vec<ConsumerInfo>> {
    let durables = stream.consumers().try_collect().await;
    durables.map_err(|error| away("the consumers of the stream are not known").because(error))
}

/// Whether the stream has this event, or had it so long ago that it may be gone.
async fn holds(stream: &Stream, published: Published) -> Result<bool> {
    let sequence = u64::try_from(published.stream_seq).unwrap_or(0);
    if sequence < stream.cached_info().state.first_sequence {
        return Ok(true);
    }
    match stream.get_raw_message(sequence).await {
        Ok(message) => Ok(event_of(Some(&message.headers)) == Some(published.event_id)),
        // Or it was removed a moment ago, because everybody has read it.
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
            let info = stream.get_info().await.map_err(|error| away("the stream does not answer").because(error))?;
            Ok(sequence < info.state.first_sequence)
        }
        Err(error) => Err(away("the stream does not show a message").because(error)),
    }
}

pub(super) fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
