//! The connection to Redis: one for all requests at once, never waited for longer than a moment. It is made and mended
//! beside the requests, by whoever calls [`Redis::refresh`] again and again.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use manifold_core::{Code, Error, Result, Secret};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind};
use tokio::time::timeout;

/// For a connection, and for the answer to a probe.
const CONNECT: Duration = Duration::from_secs(1);

/// A Redis that may be away. Clones share the connection.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    patience: Duration,
    /// None = away.
    link: RwLock<Option<Link>>,
    /// What Redis refused to a request since the last probe.
    refusal: Mutex<Option<RedisError>>,
}

#[derive(Clone)]
struct Link {
    connection: MultiplexedConnection,
    /// Tells one connection from the next.
    mark: Arc<()>,
}

impl Redis {
    /// Reads an address such as `redis://user:password@host:6379/0`; `rediss://` = with TLS. Requests wait for its
    /// answers no longer than `patience`. Connects to nothing: that is what [`Self::refresh`] does.
    ///
    /// # Errors
    /// `CONFIG_INVALID` if it is no address of a Redis.
    pub fn new(url: &Secret<String>, patience: Duration) -> Result<Self> {
        let client = Client::open(url.expose().as_str()).map_err(|_| {
            Error::invalid(
                "CONFIG_INVALID",
                "is no address of a Redis; write redis://user:password@host:6379/0, or rediss:// for TLS",
            )
        })?;
        Ok(Self { inner: Arc::new(Inner { client, patience, link: RwLock::new(None), refusal: Mutex::new(None) }) })
    }

    /// Looks whether Redis takes a write, and connects if there is no connection. To be called a few times per second:
    /// what has failed once is not tried again by requests, but here.
    ///
    /// # Errors
    /// `UNAVAILABLE` if it does not take one within a second, or has refused a request since the last look.
    pub async fn refresh(&self) -> Result<()> {
        let link = self.link();
        let probed = timeout(CONNECT, async {
            let mut link = match &link {
                Some(link) => link.clone(),
                None => self.connect().await?,
            };
            // One that is full, or a replica, answers to PING and counts nothing.
            redis::cmd("SET").arg("mf:probe").arg(1).arg("PX").arg(1_000).exec_async(&mut link.connection).await?;
            Ok(link)
        });
        let refusal = self.refusal().take();
        match flatten(probed.await) {
            Ok(answering) => {
                *self.inner.link.write().unwrap_or_else(PoisonError::into_inner) = Some(answering);
                refusal.map_or(Ok(()), |error| Err(failed(error)))
            }
            Err(error) => {
                self.give_up(link.as_ref());
                Err(error)
            }
        }
    }

    /// Runs a script.
    ///
    /// # Errors
    /// `UNAVAILABLE` at once if there is no connection, if there is no answer in time, and if Redis refuses. A refusal
    /// concerns this request only: others go on with the connection.
    pub(crate) async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        let mut link = self.link().ok_or_else(|| away("there is no connection to Redis"))?;
        let answer = timeout(self.inner.patience, script.invoke_async(&mut link.connection)).await;
        match &answer {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if is_refusal(error) => *self.refusal() = Some(error.clone()),
            _ => self.give_up(Some(&link)),
        }
        flatten(answer)
    }

    fn refusal(&self) -> MutexGuard<'_, Option<RedisError>> {
        self.inner.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> redis::RedisResult<Link> {
        // Whoever asks knows how long to wait.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.inner.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Link { connection, mark: Arc::default() })
    }

    fn link(&self) -> Option<Link> {
        self.inner.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets a connection that failed, unless another one has taken its place.
    fn give_up(&self, failed: Option<&Link>) {
        let mut link = self.inner.link.write().unwrap_or_else(PoisonError::into_inner);
        if failed.zip(link.as_ref()).is_some_and(|(failed, current)| Arc::ptr_eq(&failed.mark, &current.mark)) {
            *link = None;
        }
    }
}

/// Whether Redis is there and has said no. A replica that takes no writes is as good as away: another one is the master.
fn is_refusal(error: &RedisError) -> bool {
    error.code().is_some() && error.kind() != ErrorKind::Server(ServerErrorKind::ReadOnly)
}

fn flatten<T>(answer: std::result::Result<redis::RedisResult<T>, tokio::time::error::Elapsed>) -> Result<T> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(error)),
        Err(elapsed) => Err(away("Redis does not answer").because(elapsed)),
    }
}

fn failed(error: RedisError) -> Error {
    let message = match error.code() {
        Some(code) => Cow::from(format!("Redis refuses what it is asked: {code}")),
        None => "Redis does not do what it is asked".into(),
    };
    away(message).because(error)
}

fn away(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::Unavailable, "UNAVAILABLE", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_refused_without_its_password() {
        for url in ["", "redis.example:6379", "http://redis.example", "redis://:canary@host:port"] {
            let error = Redis::new(&Secret::from(url), CONNECT).map(|_| ()).unwrap_err();

            assert_eq!(error.reason(), "CONFIG_INVALID", "{url}");
            assert!(!error.chain().contains("canary"));
        }
        assert!(Redis::new(&Secret::from("rediss://user:password@redis.example:6380/2"), CONNECT).is_ok());
    }
}
