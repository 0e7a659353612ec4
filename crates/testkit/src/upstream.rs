//! A simulated provider. It answers in the dialect that is asked for, counts what arrives, and misbehaves on command.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use manifold_runtime::Tasks;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::dialect;
use crate::http1::{self, Request};

/// What the provider does with one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A good answer in the dialect of the path, saying this text.
    Good(String),
    /// This status, headers and body, with its length.
    Whole {
        /// HTTP status.
        status: u16,
        /// Such as `("retry-after", "1")`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// 200 and this body in chunks of `size` bytes with a pause after each, then what `end` says.
    Chunks {
        /// Such as `text/event-stream`.
        content_type: String,
        /// The body.
        body: Vec<u8>,
        /// Bytes per chunk.
        size: usize,
        /// Pause after each chunk.
        pause: Duration,
        /// How it ends.
        end: End,
    },
    /// Reads the request and never answers.
    Hang,
    /// Closes the connection without a byte.
    Close,
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
}

/// How a body in chunks ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Proper,
    /// The connection closes in the middle.
    Cut,
    /// Nothing more comes.
    Hang,
}

impl Answer {
    /// A JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Whole {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }

    /// An empty error with a header.
    pub fn status(status: u16, header: Option<(&str, &str)>) -> Self {
        let headers = header.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self::Whole {
            status,
            headers: headers.into_iter().collect(),
            body: br#"{"error":{"message":"scripted","type":"scripted"}}"#.to_vec(),
        }
    }

    /// A stream that ends after its first `at` bytes.
    pub fn cut(content_type: &str, body: &[u8], at: usize, end: End) -> Self {
        Self::Chunks {
            content_type: content_type.to_owned(),
            body: body[..at].to_vec(),
            size: usize::MAX,
            pause: Duration::ZERO,
            end,
        }
    }
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON; null if it is none.
    pub body: Value,
}

/// A running provider. Requests for lists of models are answered and not counted.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: Tasks,
}

struct State {
    once: Mutex<VecDeque<Answer>>,
    always: Mutex<Answer>,
    seen: Mutex<Vec<Seen>>,
    hits: AtomicUsize,
}

impl Upstream {
    /// Starts on a free port with good answers.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            once: Mutex::default(),
            always: Mutex::new(Answer::Good("hello from upstream".into())),
            seen: Mutex::default(),
            hits: AtomicUsize::new(0),
        });
        let tasks = Tasks::new();
        let (shared, spawner) = (state.clone(), tasks.clone());
        tasks.spawn("upstream", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                spawner.spawn("upstream connection", async move {
                    // A client that vanishes is what many stories are about.
                    let _ = converse(stream, &state).await;
                });
            }
        });
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Answers the next request so, after those scripted before.
    pub fn next(&self, answer: Answer) -> &Self {
        lock(&self.state.once).push_back(answer);
        self
    }

    /// Answers so from now on.
    pub fn always(&self, answer: Answer) -> &Self {
        *lock(&self.state.always) = answer;
        self
    }

    /// Answers that are scripted and not yet used.
    pub fn scripted(&self) -> usize {
        lock(&self.state.once).len()
    }

    /// Forgets what is scripted.
    pub fn clear(&self) -> &Self {
        lock(&self.state.once).clear();
        self
    }

    /// Requests that arrived whole, lists of models left out.
    pub fn hits(&self) -> usize {
        self.state.hits.load(Ordering::SeqCst)
    }

    /// The requests themselves.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// The last request.
    pub fn last(&self) -> Option<Seen> {
        lock(&self.state.seen).last().cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(mut stream: TcpStream, state: &State) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = http1::read(&mut stream, &mut buffer).await? {
        if let Some(list) = dialect::models(&request.target) {
            reply(&mut stream, &request, Answer::json(200, &list)).await?;
            continue;
        }
        state.hits.fetch_add(1, Ordering::SeqCst);
        lock(&state.seen).push(Seen {
            target: request.target.clone(),
            headers: request.headers.clone(),
            body: serde_json::from_slice(&request.body).unwrap_or(Value::Null),
        });
        let scripted = lock(&state.once).pop_front();
        let answer = scripted.unwrap_or_else(|| lock(&state.always).clone());
        if !reply(&mut stream, &request, answer).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers; false if the connection is over.
async fn reply(stream: &mut TcpStream, request: &Request, answer: Answer) -> Result<bool> {
    match answer {
        Answer::Good(text) => {
            return Box::pin(reply(stream, request, dialect::good(&request.target, &request.body, &text))).await;
        }
        Answer::Whole { status, headers, body } => {
            http1::write_head(stream, status, &headers, Some(body.len())).await?;
            stream.write_all(&body).await?;
        }
        Answer::Chunks { content_type, body, size, pause, end } => {
            http1::write_head(stream, 200, &[("content-type".into(), content_type)], None).await?;
            for chunk in body.chunks(size.min(body.len()).max(1)) {
                http1::write_chunk(stream, chunk).await?;
                tokio::time::sleep(pause).await;
            }
            match end {
                End::Proper => http1::write_chunk(stream, b"").await?,
                End::Cut => return Ok(false),
                End::Hang => std::future::pending().await,
            }
        }
        Answer::Hang => std::future::pending().await,
        Answer::Close => return Ok(false),
        Answer::Raw(bytes) => {
            stream.write_all(&bytes).await?;
            return Ok(false);
        }
    }
    Ok(true)
}
