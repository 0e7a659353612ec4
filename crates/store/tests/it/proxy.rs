//! A connection to Postgres that breaks at the worst moment: the server has committed, and its answer never arrives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes everything on, except that it breaks the next `cuts` connections on which the server reports a COMMIT.
pub struct Proxy {
    pub address: SocketAddr,
    pub cuts: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        let shared = cuts.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(pass(client, server, shared.clone()));
            }
        });
        Self { address, cuts, _tasks: tasks }
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, cuts: Arc<AtomicU32>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            n = client.read(&mut up) => match n {
                Ok(n) if n > 0 => server.write_all(&up[..n]).await.unwrap(),
                _ => return,
            },
            n = server.read(&mut down) => match n {
                Ok(n) if n > 0 => {
                    let committed = down[..n].windows(7).any(|bytes| bytes == b"COMMIT\0");
                    let cut = |left: u32| left.checked_sub(1);
                    if committed && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut).is_ok() {
                        return;
                    }
                    if client.write_all(&down[..n]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
