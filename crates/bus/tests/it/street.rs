//! A publisher and a consumer, and between them NATS.

use std::time::Duration;

use manifold_bus::{Broker, BrokerConfig, Bus, Consumer, Filter, Source, consume, relay};
use manifold_core::Secret;
use manifold_store::{Db, on};
use tokio::task::JoinSet;

use crate::consumer::{Consuming, Scribe, eventually};
use crate::house::{House, draft};
use crate::nats::Nats;
use crate::scratch::Scratch;

/// A publisher and a consumer, which meet on a NATS server only.
pub struct Street {
    pub house: House,
    pub service: Consuming,
    pub broker: Broker,
    pub relays: JoinSet<()>,
    n: usize,
    _scratch: Scratch,
}

/// A stream of 64 MiB.
pub fn config(url: String) -> BrokerConfig {
    let (week, window) = (Duration::from_secs(7 * 24 * 3_600), Duration::from_secs(600));
    BrokerConfig { url: Secret::new(url), replicas: 1, max_age: week, max_bytes: 64 << 20, duplicate_window: window }
}

impl Street {
    pub async fn open(nats: &Nats) -> Self {
        Self::with(config(nats.url())).await
    }

    pub async fn with(config: BrokerConfig) -> Self {
        let scratch = Scratch::postgres().await;
        let house = House::open(&scratch).await;
        let service = Consuming::open(&scratch).await;
        let broker = Broker::connect(config).await.unwrap();
        eventually(async || broker.prepare().await.is_ok()).await;
        Self { house, service, broker, relays: JoinSet::new(), n: 0, _scratch: scratch }
    }

    pub fn relay(&mut self) {
        let source = Source { name: "test-bus", db: self.house.db.clone() };
        self.relays.spawn(relay(self.broker.clone(), source, self.house.clock.clone()));
    }

    pub fn consume(&mut self, scribe: &Scribe, max_deliver: i64) {
        let ack_wait = Duration::from_millis(500);
        let consumer = Consumer { max_deliver, ack_wait, ..Consumer::new("test__scribe", Filter::Domain("ai")) };
        let bus = Bus::JetStream(self.broker.clone());
        let (db, clock) = (self.service.db.clone(), self.house.clock.clone());
        self.service.running.spawn(consume(consumer, bus, db, clock, scribe.clone()));
    }

    pub fn run(&mut self) {
        self.relay();
        self.consume(&Scribe::default(), 10);
    }

    /// Publishes so many events, in commands of 20.
    pub async fn publish(&mut self, n: usize) {
        let names: Vec<_> = (self.n..self.n + n).map(name).collect();
        for part in names.chunks(20) {
            self.house.append(part.iter().map(|name| draft(name)).collect(), None).await.unwrap();
        }
        self.n += n;
    }

    /// Every event took effect, and none twice.
    pub async fn adds_up(&self) {
        let all: Vec<_> = (0..self.n).map(name).collect();
        eventually(async || {
            // An event that was being tried when its consumer was killed waits for a minute.
            self.house.clock.advance(Duration::from_secs(1));
            self.service.effects().await.len() >= all.len()
        })
        .await;
        assert_eq!(self.service.effects().await, all);
    }

    /// The stream has so many events of this outbox.
    pub async fn published(&self, n: usize) {
        let count = "SELECT COUNT(*) FROM outbox WHERE published_at IS NOT NULL";
        eventually(async || count_of(&self.house.db, count).await >= n as i64).await;
    }

    /// The relay has looked at the stream once more, as it does every 30 seconds.
    pub async fn inspected(&self) {
        self.house.clock.advance(Duration::from_secs(31));
        let now = self.house.clock.now().micros();
        let told = "SELECT COALESCE(MAX(moved_at), 0) FROM outbox_reader WHERE last_xid > 0";
        eventually(async || count_of(&self.house.db, told).await >= now).await;
    }

    /// The stream has every event.
    pub async fn relayed(&self) {
        let count = "SELECT COUNT(*) FROM outbox WHERE published_at IS NULL";
        eventually(async || count_of(&self.house.db, count).await == 0).await;
    }
}

/// The subject of the n-th event.
pub fn name(n: usize) -> String {
    format!("{n:05}")
}

/// One number from a database.
pub async fn count_of(db: &Db, sql: &'static str) -> i64 {
    on!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
}
