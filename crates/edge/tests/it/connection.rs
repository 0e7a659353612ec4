//! Connections: reused, slow, oversize, too many.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{House, exchange, parse};

/// The bytes that come until the other side closes or is silent for a while.
async fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(300), stream.read_buf(&mut bytes)).await {}
    bytes
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let house = House::open().await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();

    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();

        assert_eq!(parse(&read_some(&mut stream).await).body, "ok");
    }
}

#[tokio::test]
async fn a_refused_body_does_not_cost_a_small_client_its_connection() {
    let house = House::open().await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();

    stream.write_all(b"POST /v1/keys HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    let refused = parse(&read_some(&mut stream).await);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let next = parse(&read_some(&mut stream).await);

    assert_eq!((refused.status, next.status), (401, 200));
}

#[tokio::test]
async fn an_oversize_body_is_refused_before_it_is_read_and_the_answer_arrives() {
    let house = House::open().await;
    let mut request = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        house.admin,
        8 << 20
    )
    .into_bytes();
    request.resize(request.len() + (8 << 20), b'x');

    let reply = exchange(house.address, &request).await;

    assert_eq!((reply.status, reply.header("connection")), (413, "close"));
    assert_eq!(reply.json()["code"], "request_too_large");
}

#[tokio::test]
async fn a_chunked_body_is_counted_while_it_comes() {
    let house = House::open().await;
    let mut request = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n",
        house.admin
    )
    .into_bytes();
    request.resize(request.len() + 0x20_0000, b'x');
    request.extend(b"\r\n0\r\n\r\n");

    let reply = exchange(house.address, &request).await;

    assert_eq!((reply.status, reply.header("connection")), (413, "close"));
}

#[tokio::test]
async fn a_slow_body_gets_a_408() {
    let house = House::open_with(|config| config.body_idle = Duration::from_millis(200)).await;
    let request =
        format!("POST /v1/keys HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\ncontent-length: 50\r\n\r\n{{", house.admin);

    let reply = exchange(house.address, request.as_bytes()).await;

    assert_eq!((reply.status, reply.header("connection")), (408, "close"));
    assert_eq!(reply.json()["code"], "body_timeout");
}

#[tokio::test]
async fn clients_that_do_not_go_on_are_closed() {
    let soon = Duration::from_millis(200);
    let house = House::open_with(|config| (config.first_byte, config.head, config.idle) = (soon, soon, soon)).await;

    for sent in [&b""[..], b"GET /healthz HTTP/1.1\r\nhos", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let before = Instant::now();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;

        let took = before.elapsed();
        assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(5), "{sent:?} {took:?}");
    }
}

#[tokio::test]
async fn one_address_holds_only_so_many_connections() {
    let house = House::open_with(|config| config.max_connections_per_ip = 1).await;
    let mut first = TcpStream::connect(house.address).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(parse(&read_some(&mut first).await).status, 200);

    let mut second = TcpStream::connect(house.address).await.unwrap();
    let refused = matches!(second.read(&mut [0; 1]).await, Ok(0) | Err(_));
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let third = exchange(house.address, b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;

    assert!(refused);
    assert_eq!(third.status, 200);
}

#[tokio::test]
async fn heads_and_targets_beyond_the_limits_are_refused() {
    let house = House::open().await;
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "a".repeat(9_000));
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(40_000));

    assert_eq!(exchange(house.address, target.as_bytes()).await.status, 414);
    assert_eq!(exchange(house.address, head.as_bytes()).await.status, 431);
}
