//! Clients that are slow on purpose: they are shown out, and nobody waits for them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::program::{Program, Server, admin_key};

async fn impatient() -> Result<(Program, Server)> {
    let program = Program::new()?;
    let hasty = program.clone().set("edge.first_byte", "300ms").set("edge.head", "400ms").set("edge.idle", "500ms");
    let server = hasty.set("edge.body_idle", "300ms").set("edge.body_total", "700ms").serve().await?;
    Ok((program, server))
}

/// Sends `first`, then `drop` again and again; what came back until the connection ended, and when it did.
async fn drip(door: SocketAddr, first: &str, drop: &str, pause: Duration) -> Result<(String, Duration)> {
    let begun = Instant::now();
    let (mut reader, mut writer) = TcpStream::connect(door).await?.into_split();
    writer.write_all(first.as_bytes()).await?;
    let mut answer = Vec::new();
    let dripping = async {
        while writer.write_all(drop.as_bytes()).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // A connection that is reset has ended, too.
        _ = timeout(Duration::from_secs(10), reader.read_to_end(&mut answer)) => {}
        () = dripping => {}
    }
    Ok((String::from_utf8_lossy(&answer).into_owned(), begun.elapsed()))
}

fn head(key: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_is_answered_with_408() -> Result<()> {
    let (program, mut server) = impatient().await?;
    let head = head(&admin_key(&program.data())?, 5_000);
    let door = server.public()?;

    let stalled = drip(door, &head, "", Duration::from_secs(20)).await?;
    let dripping = drip(door, &head, " ", Duration::from_millis(50)).await?;

    for (answer, took) in [stalled, dripping] {
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_head_and_a_silent_connection_are_ended() -> Result<()> {
    let (_program, mut server) = impatient().await?;
    let door = server.public()?;
    let pause = Duration::from_millis(50);

    let silent = drip(door, "", "", Duration::from_secs(20)).await?;
    let stalled = drip(door, "GET /healthz HTTP/1.1\r\nhost: a", "", Duration::from_secs(20)).await?;
    let dripping = drip(door, "GET /healthz HTTP/1.1\r\nhost: a\r\nx: ", "x", pause).await?;
    let idle = drip(door, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", "", Duration::from_secs(20)).await?;

    for (answer, took) in [silent, stalled, dripping] {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    assert!(idle.0.starts_with("HTTP/1.1 200 ") && idle.1 < Duration::from_secs(4), "{idle:?}");
    server.stop().await
}

/// A connection of a client with this address.
async fn connect(from: [u8; 4], door: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    Ok(socket.connect(door).await?)
}

/// The status line of `/healthz` over a new connection; empty if it was closed.
async fn healthy(from: [u8; 4], door: SocketAddr) -> Result<String> {
    let mut stream = connect(from, door).await?;
    let mut answer = String::new();
    let asked = async {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
        stream.read_to_string(&mut answer).await
    };
    // A connection that is refused may be reset before it has asked.
    let _ = timeout(Duration::from_secs(5), asked).await.context("an answer in time")?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_idle_connections_hinder_nobody() -> Result<()> {
    let mut server = Program::new()?.set("edge.max_connections_per_ip", "400").serve().await?;
    let (door, admin) = (server.public()?, server.admin()?);
    let idle = try_join_all((0..300).map(|_| connect([127, 0, 0, 1], door))).await?;

    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(admin.chat("manifold/echo", "hi").await?.status, 200);
    }

    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(idle);
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_take_all_connections() -> Result<()> {
    let mut server = Program::new()?.serve().await?;
    let door = server.public()?;
    let idle = try_join_all((0..300).map(|_| connect([127, 0, 0, 2], door))).await?;

    let (greedy, other) = (healthy([127, 0, 0, 2], door).await?, healthy([127, 0, 0, 3], door).await?);

    assert_eq!((greedy.as_str(), other.as_str()), ("", "HTTP/1.1 200 OK"));
    drop(idle);
    server.stop().await
}
