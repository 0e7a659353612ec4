//! The stream may forget: it is made anew, its files come back from an older copy, or a crash takes what was acknowledged but
//! not on the disk yet. Numbers alone do not tell, because others go on publishing; the ids of the events behind them do.

use async_nats::jetstream::consumer::{DeliverPolicy, FromConsumer, Info as ConsumerInfo, pull};
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use futures::TryStreamExt;
use manifold_core::Result;
use sqlx::PgConnection;
use tracing::{error, warn};

use super::store::{self, Published};
use super::{Before, Leading, Relay};
use crate::jetstream::{away, event_of};

/// Events that are looked at beside the last one.
const SAMPLES: i64 = 32;

impl Relay {
    /// Looks whether the stream has what it had, and repairs it if not.
    pub(super) async fn inspect(&self, lock: &mut PgConnection, before: Before) -> Result<Leading> {
        let stream = self.broker.stream().await?;
        let info = stream.cached_info();
        let epoch = i64::try_from(info.created.unix_timestamp_nanos() / 1_000).unwrap_or(0);
        let mut leading = Leading { stream, epoch, highest: 0, floor: 0 };
        if let Some(whole) = self.whole_up_to(&leading).await? {
            store::lock_repair(lock).await?;
            self.repair(&leading, whole).await?;
            store::unlock_repair(lock).await?;
        } else {
            self.fill_gap(&leading, before).await?;
        }
        leading.floor = self.floor(&leading.stream).await?;
        self.make_room(&leading).await?;
        leading.highest =
            store::last_published(&self.pool, epoch, i64::MAX).await?.map_or(0, |published| published.stream_seq);
        Ok(leading)
    }

    /// None if the stream has everything; else the number up to which it has.
    async fn whole_up_to(&self, leading: &Leading) -> Result<Option<i64>> {
        if store::has_other_epochs(&self.pool, leading.epoch).await? {
            return Ok(Some(0));
        }
        let Some(last) = store::last_published(&self.pool, leading.epoch, i64::MAX).await? else { return Ok(None) };
        let first = number(leading.stream.cached_info().state.first_sequence);
        if !holds(&leading.stream, last).await? {
            return self.last_whole(leading, last.stream_seq).await.map(Some);
        }
        let samples = store::samples(&self.pool, leading.epoch, first, last.stream_seq, SAMPLES).await?;
        for sample in samples {
            if !holds(&leading.stream, sample).await? {
                return Ok(Some(sample.stream_seq - 1));
            }
        }
        Ok(None)
    }

    /// The highest number below `missing` under which the stream has our event, by halves.
    async fn last_whole(&self, leading: &Leading, missing: i64) -> Result<i64> {
        let (mut whole, mut missing) = (number(leading.stream.cached_info().state.first_sequence) - 1, missing);
        while whole < missing - 1 {
            let middle = whole + (missing - whole) / 2;
            match store::last_published(&self.pool, leading.epoch, middle).await? {
                Some(found) if found.stream_seq > whole => {
                    if holds(&leading.stream, found).await? {
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

    /// Consumers read again from where the stream is whole, or from where they were if that is earlier; what it lacks is
    /// published again.
    async fn repair(&self, leading: &Leading, whole: i64) -> Result<()> {
        metrics::counter!("manifold_relay_regressions_total", "service" => self.source.name).increment(1);
        error!(service = self.source.name, whole, "the stream lost events, they are published again");
        for durable in self.durables(&leading.stream).await? {
            let floor = number(durable.ack_floor.stream_sequence);
            let start = u64::try_from(whole.min(floor)).unwrap_or(0) + 1;
            let config = pull::Config::try_from_consumer_config(durable.config);
            let config = config.map_err(|_| away("a consumer of the stream takes no requests"))?;
            let config =
                pull::Config { deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start }, ..config };
            let deleted = leading.stream.delete_consumer(&durable.name).await;
            deleted.map_err(|error| away("a consumer cannot be set back").because(error))?;
            let created = leading.stream.create_consumer(config).await;
            created.map_err(|error| away("a consumer cannot be set back").because(error))?;
        }
        let n = store::publish_again(&self.pool, leading.epoch, whole).await?;
        warn!(service = self.source.name, n, "events will be published again");
        Ok(())
    }

    /// What is gone from the stream before all consumers had read it, by its age or somebody's hand, is published again.
    async fn fill_gap(&self, leading: &Leading, before: Before) -> Result<()> {
        let first = number(leading.stream.cached_info().state.first_sequence);
        let n = match before {
            Before::Floor(floor) if floor + 1 >= first => 0,
            Before::Floor(floor) => store::publish_between(&self.pool, leading.epoch, floor, first).await?,
            Before::Reported(place) => store::publish_behind(&self.pool, leading.epoch, place, first).await?,
        };
        if n > 0 {
            metrics::counter!("manifold_consumer_gap_total", "service" => self.source.name).increment(n);
            error!(service = self.source.name, n, "events are gone from the stream unread, they are published again");
        }
        Ok(())
    }

    /// A stream that is nearly full loses what all consumers have read. What they have not read stays, and events wait in the
    /// outboxes then.
    async fn make_room(&self, leading: &Leading) -> Result<()> {
        let info = leading.stream.cached_info();
        let room = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
        let read = leading.floor >= number(info.state.first_sequence).max(1);
        // Without consumers nobody has read anything. To purge below 1 would be to purge everything.
        if info.state.bytes < room / 10 * 9 || info.state.consumer_count == 0 || !read {
            return Ok(());
        }
        warn!(leading.floor, "the stream is nearly full, what everybody has read is removed");
        let purged = leading.stream.purge().sequence(u64::try_from(leading.floor).unwrap_or(0) + 1).await;
        purged.map(|_| ()).map_err(|error| away("the stream cannot be made smaller").because(error))
    }

    /// The number up to which all consumers have read the stream.
    async fn floor(&self, stream: &Stream) -> Result<i64> {
        let last = stream.cached_info().state.last_sequence;
        let durables = self.durables(stream).await?;
        // Without traffic for it, the floor of a consumer does not move.
        let idle = |durable: &ConsumerInfo| durable.num_pending == 0 && durable.num_ack_pending == 0;
        let floor = |durable: ConsumerInfo| if idle(&durable) { last } else { durable.ack_floor.stream_sequence };
        Ok(number(durables.into_iter().map(floor).min().unwrap_or(last)))
    }

    async fn durables(&self, stream: &Stream) -> Result<Vec<ConsumerInfo>> {
        stream
            .consumers()
            .try_collect()
            .await
            .map_err(|error| away("the consumers of the stream are not known").because(error))
    }
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

fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
