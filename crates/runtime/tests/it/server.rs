//! A server that answers with exactly the bytes a test wants, however wrong they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use manifold_runtime::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What the server does after it has read a request.
#[derive(Clone, Debug)]
pub enum Step {
    Write(Vec<u8>),
    Wait(Duration),
    Hang,
}

pub struct Server {
    pub address: String,
    n_requests: Arc<AtomicUsize>,
    closed: Arc<Notify>,
    _tasks: Tasks,
}

impl Server {
    /// Answers every request with `steps`, then closes the connection.
    pub async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (tasks, n_requests) = (Tasks::new(), Arc::new(AtomicUsize::new(0)));
        let (spawner, counter) = (tasks.clone(), Arc::clone(&n_requests));
        let closed = Arc::new(Notify::new());
        let close = Arc::clone(&closed);
        tasks.spawn("server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (steps, counter, close) = (steps.clone(), Arc::clone(&counter), Arc::clone(&close));
                spawner.spawn("connection", async move {
                    answer(stream, steps, &counter).await;
                    close.notify_one();
                });
            }
        });
        Self { address, n_requests, closed, _tasks: tasks }
    }

    /// Answers with one piece of text.
    pub async fn says(text: &str) -> Self {
        Self::start(vec![Step::Write(text.as_bytes().to_vec())]).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/path?key=canary", self.address)
    }

    /// Waits until a connection is closed, and until this end can have seen it.
    pub async fn closed(&self) {
        self.closed.notified().await;
        tokio::task::yield_now().await;
    }

    pub fn n_requests(&self) -> usize {
        self.n_requests.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, steps: Vec<Step>, n_requests: &AtomicUsize) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    n_requests.fetch_add(1, Ordering::SeqCst);
    for step in steps {
        match step {
            Step::Write(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Hang => std::future::pending().await,
        }
    }
}
