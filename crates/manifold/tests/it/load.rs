//! Callers of many kinds, and what they were answered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt, join_all};
use manifold_testkit::{Client, Reply};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::program::MODEL;

/// Between two requests of one caller: a steady load, which leaves the machine time for everything else.
const PAUSE: Duration = Duration::from_millis(10);
/// Callers per door that chat with a key that the door knows.
const CHATTING: usize = 3;

/// What callers were answered.
#[derive(Default)]
pub struct Seen {
    /// Chats that were answered.
    pub chats: usize,
    /// Secrets of the keys that were handed out.
    pub keys: Vec<String>,
    /// Clear refusals: what was asked, status and code, and how often.
    pub refused: BTreeMap<String, usize>,
    /// Everything else.
    pub wrong: Vec<String>,
    slowest: Duration,
}

impl Seen {
    /// Takes an answer down; whether it is the right one. Whoever is refused is told why and when to come again.
    fn take(&mut self, what: &str, right: u16, took: Duration, reply: &Result<Reply>) -> bool {
        self.slowest = self.slowest.max(took);
        match reply {
            Ok(reply) if reply.status == right => return true,
            Ok(reply) if matches!(reply.status, 429 | 503) && clear(reply).is_some() => {
                let kind = format!("{what}: {} {}", reply.status, clear(reply).unwrap_or_default());
                *self.refused.entry(kind).or_default() += 1;
            }
            Ok(reply) => self.wrong.push(format!("{what}: {} {:?} {}", reply.status, reply.headers, reply.text)),
            Err(error) => self.wrong.push(format!("{what}: {error:#}")),
        }
        false
    }

    fn add(mut self, other: Self) -> Self {
        self.chats += other.chats;
        self.keys.extend(other.keys);
        for (kind, n) in other.refused {
            *self.refused.entry(kind).or_default() += n;
        }
        self.wrong.extend(other.wrong);
        self.slowest = self.slowest.max(other.slowest);
        self
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chats, keys, refused, wrong, slowest } = self;
        let (keys, wrong) = (keys.len(), wrong.len());
        write!(
            formatter,
            "{chats} chats and {keys} new keys, refused {refused:?}, wrong {wrong}, slowest {slowest:.1?}"
        )
    }
}

/// The code of a refusal that says when to come again, in the shape of this API.
fn clear(reply: &Reply) -> Option<String> {
    let body = reply.json();
    let native = reply.header("content-type") == "application/problem+json";
    let code = if native { &body["code"] } else { &body["error"]["code"] };
    (!reply.header("retry-after").is_empty()).then_some(code.as_str()?.to_owned())
}

/// Calls both doors steadily until told to stop.
pub async fn load(doors: &[Client], revoked: &str, stop: &CancellationToken) -> Seen {
    let mut callers: Vec<BoxFuture<'_, Seen>> = Vec::new();
    for door in doors {
        callers.extend((0..CHATTING).map(|_| chat(door, stop).boxed()));
        callers.push(create_keys(door, stop).boxed());
        callers.push(insist(door.with_key(Some(revoked)), stop).boxed());
    }
    join_all(callers).await.into_iter().fold(Seen::default(), Seen::add)
}

async fn chat(door: &Client, stop: &CancellationToken) -> Seen {
    let mut seen = Seen::default();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let reply = door.chat(MODEL, "hi").await;
        if seen.take("chat", 200, begun.elapsed(), &reply) {
            seen.chats += 1;
            let said = reply.map(|reply| reply.said()).unwrap_or_default();
            if said != "hello from upstream" {
                seen.wrong.push(format!("chat: {said}"));
            }
        }
        sleep(PAUSE).await;
    }
    seen
}

async fn create_keys(door: &Client, stop: &CancellationToken) -> Seen {
    let mut seen = Seen::default();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let reply = door.post("/v1/keys", &json!({"name": "made under load"})).await;
        if seen.take("create key", 201, begun.elapsed(), &reply) {
            seen.keys.extend(reply.ok().and_then(|reply| Some(reply.json()["secret"].as_str()?.to_owned())));
        }
        sleep(PAUSE).await;
    }
    seen
}

/// Somebody whose key was revoked is never let in.
async fn insist(door: Client, stop: &CancellationToken) -> Seen {
    let mut seen = Seen::default();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let reply = door.get("/v1/models").await;
        seen.take("revoked key", 401, begun.elapsed(), &reply);
        sleep(PAUSE).await;
    }
    seen
}
