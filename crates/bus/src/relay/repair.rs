//! The stream may forget: it is made anew, its files come back from an older copy, or a crash takes what was acknowledged but
//! not on the disk yet. Numbers alone do not tell, because others go on publishing; the ids of the events behind them do.

use async_nats::jetstream::consumer::{DeliverPolicy, FromConsumer, pull};
use manifold_core::Result;
use sqlx::PgConnection;
use tracing::{error, warn};

use super::look::{durables, epoch, floor, number, whole_up_to};
use super::store;
use super::{Before, Leading, Relay};
use crate::jetstream::away;

impl Relay {
    /// Looks whether the stream has what it had, and repairs it if not.
    pub(super) async fn inspect(&self, lock: &mut PgConnection, before: Before) -> Result<Leading> {
        let stream = self.broker.stream().await?;
        let epoch = epoch(&stream);
        let mut leading = Leading { stream, epoch, highest: 0, floor: 0 };
        if let Some(whole) = whole_up_to(&self.pool, &leading.stream).await? {
            store::lock_repair(lock).await?;
            self.repair(&leading, whole).await?;
            store::unlock_repair(lock).await?;
        } else {
            self.fill_gap(&leading, before).await?;
        }
        leading.floor = floor(&leading.stream).await?;
        self.make_room(&leading).await?;
        leading.highest =
            store::last_published(&self.pool, epoch, i64::MAX).await?.map_or(0, |published| published.stream_seq);
        Ok(leading)
    }

    /// Consumers read again from where the stream is whole, or from where they were if that is earlier; what it lacks is
    /// published again.
    async fn repair(&self, leading: &Leading, whole: i64) -> Result<()> {
        metrics::counter!("manifold_relay_regressions_total", "service" => self.source.name).increment(1);
        error!(service = self.source.name, whole, "the stream lost events, they are published again");
        for durable in durables(&leading.stream).await? {
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
}
