//! Outbound calls: limits of time and size, and bodies that break.

use std::time::Duration;

use manifold_runtime::http::{Client, HttpConfig, Outbound, Phase, SendError};
use tokio::time::Instant;

use crate::http::{client, post};
use crate::server::{Server, Step};

const SHORT: Duration = Duration::from_millis(50);
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.";

/// 8 MiB of zeros as 8 kB of gzip.
fn bomb() -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n".to_vec();
    answer.extend_from_slice(include_bytes!("../data/zeros.gz"));
    answer
}

#[tokio::test]
async fn waits_for_the_connection_only_so_long() {
    let silent = Server::start(vec![Step::Hang]).await;
    let outbound = post(&format!("https://{}/", silent.address));
    let sent = outbound.sent.clone();
    let config = HttpConfig { connect_timeout: SHORT, ..HttpConfig::default() };

    let error = Client::new(&config).unwrap().send(outbound).await.unwrap_err();

    assert!(matches!(error, SendError::Timeout(Phase::Connect)), "{error:?}");
    assert!(!sent.get());
}

#[tokio::test]
async fn waits_for_the_head_only_so_long() {
    let server = Server::start(vec![Step::Hang]).await;

    let error = client(&[]).send(Outbound { first_byte: SHORT, ..post(&server.url()) }).await.unwrap_err();

    assert!(matches!(error, SendError::Timeout(Phase::FirstByte)), "{error:?}");
}

#[tokio::test]
async fn waits_for_each_part_of_the_body_only_so_long() {
    let server = Server::start(vec![Step::Write(HEAD.to_vec()), Step::Hang]).await;
    let mut answer = client(&[]).send(Outbound { idle: SHORT, ..post(&server.url()) }).await.unwrap();

    let first = answer.chunk().await.unwrap();
    let error = answer.chunk().await.unwrap_err();

    assert_eq!(first.unwrap(), "five.");
    assert!(matches!(error, SendError::Timeout(Phase::Idle)), "{error:?}");
}

#[tokio::test]
async fn everything_together_has_a_deadline() {
    let slow = [Step::Write(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())].into_iter();
    let drops = (0..100).flat_map(|_| [Step::Wait(Duration::from_millis(20)), Step::Write(b".".to_vec())]);
    let server = Server::start(slow.chain(drops).collect()).await;
    let deadline = Instant::now() + Duration::from_millis(200);

    let answer = client(&[]).send(Outbound { deadline, ..post(&server.url()) }).await.unwrap();
    let error = answer.bytes().await.unwrap_err();

    assert!(matches!(error, SendError::Timeout(Phase::Deadline)), "{error:?}");
}

#[tokio::test]
async fn a_deadline_that_passed_sends_nothing() {
    let server = Server::start(vec![Step::Hang]).await;
    let outbound = Outbound { deadline: Instant::now() - Duration::from_secs(1), ..post(&server.url()) };

    let error = client(&[]).send(outbound).await.unwrap_err();

    assert!(matches!(error, SendError::Timeout(Phase::Deadline)), "{error:?}");
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_not_read() {
    let server = Server::says("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;

    let answer = client(&[]).send(Outbound { max_body: 100, ..post(&server.url()) }).await.unwrap();

    assert!(matches!(answer.bytes().await, Err(SendError::TooLarge(100))));
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_cut() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(10_000, b'.');
    let server = Server::start(vec![Step::Write(answer)]).await;

    let answer = client(&[]).send(Outbound { max_body: 100, ..post(&server.url()) }).await.unwrap();

    assert!(matches!(answer.bytes().await, Err(SendError::TooLarge(100))));
}

#[tokio::test]
async fn a_compressed_body_is_limited_by_what_it_unfolds_to() {
    let server = Server::start(vec![Step::Write(bomb())]).await;

    let answer = client(&[]).send(Outbound { max_body: 1 << 20, ..post(&server.url()) }).await.unwrap();

    assert!(matches!(answer.bytes().await, Err(SendError::TooLarge(_))));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_apart_from_one_that_ends() {
    for cut in [
        HEAD.to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive.\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope".to_vec(),
    ] {
        let server = Server::start(vec![Step::Write(cut.clone())]).await;

        let answer = client(&[]).send(post(&server.url())).await.unwrap();
        let error = answer.bytes().await.unwrap_err();

        assert!(matches!(error, SendError::Broken(_)), "{:?}: {error:?}", String::from_utf8_lossy(&cut));
    }
}

#[tokio::test]
async fn after_an_error_there_is_nothing_more() {
    let server = Server::start(vec![Step::Write(HEAD.to_vec())]).await;
    let mut answer = client(&[]).send(post(&server.url())).await.unwrap();

    while answer.chunk().await.is_ok_and(|chunk| chunk.is_some()) {}

    assert!(matches!(answer.chunk().await, Ok(None)));
}

#[tokio::test]
async fn what_is_no_http_is_broken() {
    let server = Server::says("220 smtp.example.com ESMTP\r\n").await;

    let error = client(&[]).send(post(&server.url())).await.unwrap_err();

    assert!(matches!(error, SendError::Broken(_)), "{error:?}");
}
