//! The connection to NATS, if there is to be one.

use std::time::Duration;

use manifold_bus::{Broker, BrokerConfig};
use manifold_core::{Code, Result};
use manifold_runtime::health::Component;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::config::Config;

/// How long a start waits for the broker before it goes on without.
const BROKER_PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the broker, if there is to be one. Waits for it for some seconds, and changes nothing there.
pub async fn find_broker(config: &Config) -> Result<Option<Broker>> {
    let Some(broker) = open_broker(config).await? else { return Ok(None) };
    let patience = Instant::now() + BROKER_PATIENCE;
    while !broker.is_connected() && Instant::now() < patience {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(Some(broker))
}

/// Begins to connect.
async fn open_broker(config: &Config) -> Result<Option<Broker>> {
    if config.bus.nats_url.expose().is_empty() {
        return Ok(None);
    }
    let stream = &config.bus.jetstream;
    let broker = Broker::connect(BrokerConfig {
        url: config.bus.nats_url.clone(),
        replicas: stream.replicas,
        max_age: stream.max_age,
        max_bytes: stream.max_bytes.as_u64(),
        duplicate_window: stream.duplicate_window,
    });
    broker.await.map(Some)
}

/// Connects to the broker, if there is to be one, and waits for it for some seconds.
pub async fn connect_broker(config: &Config) -> Result<Option<Broker>> {
    let Some(broker) = open_broker(config).await? else { return Ok(None) };
    let patience = Instant::now() + BROKER_PATIENCE;
    loop {
        match broker.prepare().await {
            Ok(()) => return Ok(Some(broker)),
            Err(error) if error.code() != Code::Unavailable => return Err(error),
            Err(error) if Instant::now() >= patience => {
                warn!(error = error.chain(), "NATS is away: events wait in the databases");
                return Ok(Some(broker));
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A broker that went away degrades the process: events wait in the outboxes.
pub(super) async fn watch(broker: Broker, health: Component) {
    loop {
        if broker.is_connected() {
            health.ready();
        } else {
            health.degraded("NATS is away: events wait in the databases");
        }
        sleep(Duration::from_secs(1)).await;
    }
}
