//! A wire that a story can cut: a TCP proxy in front of a database.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use manifold_runtime::Tasks;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes through until it is cut; then every connection ends and new ones are refused.
pub struct Wire {
    /// Where it listens.
    pub address: SocketAddr,
    whole: watch::Sender<bool>,
    _tasks: Tasks,
}

impl Wire {
    /// A wire to `target`, `host:port`.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr().context("an address")?;
        let (whole, watched) = watch::channel(true);
        let (tasks, target) = (Tasks::new(), target.to_owned());
        let spawner = tasks.clone();
        tasks.spawn("wire", async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut watched, target) = (watched.clone(), target.clone());
                spawner.spawn("wire connection", async move {
                    tokio::select! {
                        _ = pass(near, &target) => {}
                        _ = watched.wait_for(|whole| !*whole) => {}
                    }
                });
            }
        });
        Ok(Self { address, whole, _tasks: tasks })
    }

    /// The URL of the target, through this wire.
    pub fn route(&self, url: &str) -> Result<String> {
        let (credentials, rest) = url.split_once('@').context("user@host in the URL")?;
        let (_, database) = rest.split_once('/').context("host/database in the URL")?;
        Ok(format!("{credentials}@{}/{database}", self.address))
    }

    /// Ends every connection and lets none through.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(mut near: TcpStream, target: &str) -> Result<()> {
    let mut far = TcpStream::connect(target).await?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
