//! NATS JetStream: the connection, the stream of all events and the durable consumers on it. The stream is fast and may
//! forget; the outboxes are what counts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, Consumer as Durable, pull};
use async_nats::jetstream::context::{ContextBuilder, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, ConnectOptions, Event as Happening, HeaderMap, ServerAddr};
use manifold_core::{Code, Error, EventId, Result, Secret};
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use crate::subscription::Consumer;

/// The stream of all events.
pub(crate) const STREAM: &str = "MF_EVENTS";
/// Which outbox a message comes from, and its place there.
pub(crate) const PLACE: &str = "Mf-Place";
/// Messages that were published and not acknowledged yet.
pub(crate) const IN_FLIGHT: usize = 512;
/// The oldest server on which everything here was tried.
const OLDEST: (u64, u64, u64) = (2, 9, 10);
/// Streams of several replicas were lost by older ones when a process crashed.
const OLDEST_REPLICATED: (u64, u64, u64) = (2, 10, 23);
/// For an answer of the server.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the broker is, and how much it keeps.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `nats://user:password@host:4222` or `tls://…`; several with commas between them.
    pub url: Secret<String>,
    /// Copies of the stream: 1, 3 or 5.
    pub replicas: usize,
    /// How long the stream keeps events.
    pub max_age: Duration,
    /// How much of them it keeps, in bytes.
    pub max_bytes: u64,
    /// For how long the stream knows an event again.
    pub duplicate_window: Duration,
}

/// A connection to NATS, which mends itself. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    context: Arc<Context>,
    client: Arc<Client>,
    config: Arc<BrokerConfig>,
    /// How often the connection was made.
    connections: watch::Receiver<u64>,
}

impl Broker {
    /// Begins to connect, and goes on trying for ever. An address that cannot be one is refused.
    pub async fn connect(config: BrokerConfig) -> Result<Self> {
        let invalid =
            || Error::invalid("CONFIG_INVALID", "bus.nats_url is not like nats://host:4222").at("bus.nats_url");
        let addresses = config.url.expose().split(',').map(|address| ServerAddr::from_str(address.trim()));
        let addresses = addresses.collect::<std::result::Result<Vec<_>, _>>().map_err(|_| invalid())?;
        let (counter, connections) = watch::channel(0);
        let heard = move |happening| {
            if matches!(happening, Happening::Connected) {
                counter.send_modify(|n| *n += 1);
            }
            tell(happening)
        };
        let options = ConnectOptions::new().name("manifold").retry_on_initial_connect().event_callback(heard);
        let options = options.reconnect_delay_callback(|n| Duration::from_millis(50 << n.min(5)));
        let client = options.connect(addresses).await.map_err(|error| invalid().because(error))?;
        let context = ContextBuilder::new().timeout(TIMEOUT);
        Ok(Self {
            context: Arc::new(context.build(client.clone())),
            client: Arc::new(client),
            config: Arc::new(config),
            connections,
        })
    }

    /// For one relay: those that shared the number of messages that may be on their way would wait for each other.
    pub(crate) fn publisher(&self) -> Context {
        let publisher = ContextBuilder::new().timeout(TIMEOUT).ack_timeout(TIMEOUT).max_ack_inflight(IN_FLIGHT);
        publisher.build(Client::clone(&self.client))
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Ends with the next connection: behind it may be another server, and what was asked of the old one is lost.
    pub(crate) fn next_connection(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut connections = self.connections.clone();
        connections.mark_unchanged();
        async move {
            // There is always a sender while there is a connection.
            let _ = connections.changed().await;
        }
    }

    /// Makes the stream if it is not there. `UNAVAILABLE` if no server answers; every other error stays until somebody mends
    /// the server or its stream.
    pub async fn prepare(&self) -> Result<()> {
        self.stream().await.map(|_| ())
    }

    /// The stream, made or widened if need be, with what is known of it now.
    pub(crate) async fn stream(&self) -> Result<Stream> {
        if !self.is_connected() {
            return Err(away("there is no connection to NATS"));
        }
        let version = self.client.server_info().version;
        if version.is_empty() {
            return Err(away("the NATS server has not introduced itself yet"));
        }
        check_version(&version, self.config.replicas)?;
        if let Some(stream) = self.look().await? {
            return self.adopt(stream).await;
        }
        let created = self.context.create_stream(self.wanted()).await;
        created.map_err(|error| match error.kind() {
            CreateStreamErrorKind::JetStream(refusal)
                if refusal.error_code() == ErrorCode::STORAGE_RESOURCES_EXCEEDED =>
            {
                self.too_large()
            }
            _ => away("the stream cannot be made").because(error),
        })
    }

    /// The stream as it is now, neither made nor changed; None if it is not there.
    pub(crate) async fn look(&self) -> Result<Option<Stream>> {
        if !self.is_connected() {
            return Err(away("there is no connection to NATS"));
        }
        match self.context.get_stream(STREAM).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Ok(None)
                }
                _ => Err(away("the stream does not answer").because(error)),
            },
        }
    }

    fn too_large(&self) -> Error {
        let max = self.config.max_bytes;
        let message = format!(
            "the NATS server has no room for a stream of {max} bytes: lower bus.jetstream.max_bytes or raise its \
             jetstream.max_file"
        );
        Error::new(Code::Precondition, "BUS_STREAM_TOO_LARGE", message).at("bus.jetstream.max_bytes")
    }

    fn wanted(&self) -> StreamConfig {
        StreamConfig {
            name: STREAM.to_owned(),
            subjects: vec!["mf.evt.>".to_owned()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            // Nothing is thrown away unread: the relay makes room.
            discard: DiscardPolicy::New,
            max_age: self.config.max_age,
            max_bytes: i64::try_from(self.config.max_bytes).unwrap_or(i64::MAX),
            max_messages: -1,
            max_messages_per_subject: -1,
            max_consumers: -1,
            num_replicas: self.config.replicas,
            duplicate_window: self.config.duplicate_window,
            ..StreamConfig::default()
        }
    }

    /// A stream that is there is widened, and never narrowed; one of another kind is not touched.
    async fn adopt(&self, stream: Stream) -> Result<Stream> {
        let (wanted, found) = (self.wanted(), stream.cached_info().config.clone());
        let kind = |config: &StreamConfig| (config.subjects.clone(), config.retention, config.storage, config.discard);
        if kind(&wanted) != kind(&found) {
            let message = format!(
                "the stream {STREAM} on the NATS server is of another kind: it has {:?}, but {:?} is needed. If nothing else \
                 uses it, remove it with `nats stream rm {STREAM}`: it is made anew and filled from the outboxes",
                kind(&found),
                kind(&wanted)
            );
            return Err(Error::new(Code::Precondition, "BUS_STREAM_DIFFERS", message));
        }
        let unlimited = |bytes: i64| if bytes <= 0 { i64::MAX } else { bytes };
        let forever = |age: Duration| if age.is_zero() { Duration::MAX } else { age };
        let widened = StreamConfig {
            max_age: if forever(found.max_age) < wanted.max_age { wanted.max_age } else { found.max_age },
            max_bytes: if unlimited(found.max_bytes) < wanted.max_bytes { wanted.max_bytes } else { found.max_bytes },
            duplicate_window: found.duplicate_window.max(wanted.duplicate_window),
            num_replicas: found.num_replicas.max(wanted.num_replicas),
            ..found.clone()
        };
        if widened != found {
            let updated = self.context.update_stream(widened).await;
            updated.map_err(|error| away("the stream cannot be widened").because(error))?;
        }
        Ok(stream)
    }

    /// The place of `consumer` in the stream, made if need be.
    pub(crate) async fn durable(&self, consumer: &Consumer) -> Result<Durable<pull::Config>> {
        let stream = self.stream().await?;
        let wanted = pull::Config {
            durable_name: Some(consumer.name.to_owned()),
            filter_subject: consumer.filter.subject(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: consumer.ack_wait,
            // Counted by the consumer, which knows why an event came again.
            max_deliver: -1,
            max_ack_pending: i64::from(consumer.batch).saturating_mul(8).max(1_024),
            ..pull::Config::default()
        };
        let filter = wanted.filter_subject.clone();
        let durable = stream.get_or_create_consumer(consumer.name, wanted).await;
        let durable = durable.map_err(|error| away("the durable consumer cannot be made").because(error))?;
        let found = &durable.cached_info().config.filter_subject;
        if *found != filter {
            let (name, message) = (consumer.name, "on the NATS server reads other events than this version");
            let mend = format!("the consumer {name} {message}: remove it with `nats consumer rm {STREAM} {name}`");
            return Err(Error::new(Code::Precondition, "BUS_CONSUMER_DIFFERS", mend));
        }
        Ok(durable)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Broker").field("connected", &self.is_connected()).finish()
    }
}

/// Under which id the stream knows an event: another one after each time that it was removed from the stream, which would
/// otherwise think that it has it.
pub(crate) fn message_id(event: Uuid, n_removed: i32) -> String {
    let id = EventId(event).to_string();
    if n_removed == 0 { id } else { format!("{id}.{n_removed}") }
}

/// The event that has this id in the stream.
pub(crate) fn event_of(message: Option<&HeaderMap>) -> Option<Uuid> {
    let id = message?.get("Nats-Msg-Id")?.as_str();
    EventId::parse(id.split_once('.').map_or(id, |(event, _)| event)).map(|id| id.0)
}

/// No server, or one that does not do now what it usually does.
pub(crate) fn away(message: &'static str) -> Error {
    Error::new(Code::Unavailable, "BUS_UNAVAILABLE", message)
}

fn check_version(version: &str, replicas: usize) -> Result<()> {
    let oldest = if replicas > 1 { OLDEST_REPLICATED } else { OLDEST };
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    if (next(), next(), next()) >= oldest {
        return Ok(());
    }
    let (major, minor, patch) = oldest;
    let message = format!("NATS {version} is too old for {replicas} replicas: use {major}.{minor}.{patch} or later");
    Err(Error::new(Code::Precondition, "BUS_VERSION", message))
}

fn tell(happening: Happening) -> std::future::Ready<()> {
    match happening {
        Happening::Connected => info!("connected to NATS"),
        Happening::Disconnected => warn!("NATS is away: events wait in the outboxes"),
        other => warn!(%other, "NATS says"),
    }
    std::future::ready(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_lose_streams_are_refused() {
        for (version, replicas, good) in [
            ("2.9.10", 1, true),
            ("2.9.9", 1, false),
            ("2.9.10", 3, false),
            ("2.10.22", 3, false),
            ("2.10.23-rc.1", 3, true),
            ("2.12.0", 3, true),
            ("1.4.1", 1, false),
        ] {
            assert_eq!(check_version(version, replicas).is_ok(), good, "{version} {replicas}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_without_showing_it() {
        for url in ["http://user:hidden@host", "nats://user:hidden@host:port"] {
            let config = BrokerConfig {
                url: Secret::new(url.to_owned()),
                replicas: 1,
                max_age: Duration::from_secs(60),
                max_bytes: 1,
                duplicate_window: Duration::from_secs(60),
            };
            let error = Broker::connect(config).await.unwrap_err();

            assert_eq!(error.reason(), "CONFIG_INVALID");
            assert!(!error.chain().to_string().contains("hidden"), "{}", error.chain());
        }
    }
}
