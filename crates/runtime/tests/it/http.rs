//! Outbound calls: what may be called, what counts as sent, and how failures are told apart.

use std::time::Duration;

use bytes::Bytes;
use manifold_runtime::http::{Client, HttpConfig, Outbound, SendError, Sent, Trust};
use tokio::time::Instant;

use crate::server::{Server, Step};

pub fn client(allow: &[&str]) -> Client {
    let allow = allow.iter().map(|entry| (*entry).to_owned()).collect();
    Client::new(&HttpConfig { allow, connect_timeout: Duration::from_secs(2) }).expect("the client is made")
}

pub fn post(url: &str) -> Outbound {
    Outbound {
        request: http::Request::post(url).body(Bytes::from_static(b"{}")).expect("a request"),
        trust: Trust::Operator,
        deadline: Instant::now() + Duration::from_secs(10),
        first_byte: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        max_body: 1 << 20,
        sent: Sent::new(),
    }
}

#[tokio::test]
async fn brings_back_status_headers_and_body() {
    let server = Server::says("HTTP/1.1 404 Not Found\r\nx-limit: 7\r\ncontent-length: 5\r\n\r\nsorry").await;

    let answer = client(&[]).send(post(&server.url())).await.unwrap();

    assert_eq!((answer.head.status.as_u16(), &answer.head.headers["x-limit"]), (404, &"7".parse().unwrap()));
    assert_eq!(answer.bytes().await.unwrap(), "sorry");
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let other = Server::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let redirect = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", other.url());
    let server = Server::says(&redirect).await;

    let answer = client(&[]).send(post(&server.url())).await.unwrap();

    assert_eq!(answer.head.status, 307);
    assert_eq!(other.n_requests(), 0);
}

#[tokio::test]
async fn untrusted_urls_reach_public_addresses_only() {
    let server = Server::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let port = server.address.rsplit(':').next().unwrap();
    for url in [
        server.url(),
        format!("http://localhost:{port}/"),
        format!("http://0x7f000001:{port}/"),
        format!("http://[::1]:{port}/"),
    ] {
        let outbound = Outbound { trust: Trust::Untrusted, ..post(&url) };
        let sent = outbound.sent.clone();

        let refused = client(&[]).send(outbound).await.unwrap_err();

        assert!(matches!(refused, SendError::Denied(_)), "{url}: {refused:?}");
        assert!(!sent.get(), "{url}");
    }
    assert_eq!(server.n_requests(), 0);
}

#[tokio::test]
async fn the_operator_may_allow_a_private_host() {
    let server = Server::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;

    let answer = client(&[&server.address]).send(Outbound { trust: Trust::Untrusted, ..post(&server.url()) }).await;

    assert_eq!(answer.unwrap().head.status, 200);
}

#[tokio::test]
async fn nothing_is_sent_when_nobody_listens() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outbound = post(&format!("http://{free}/?key=canary"));
    let sent = outbound.sent.clone();

    let error = client(&[]).send(outbound).await.unwrap_err();

    assert!(matches!(error, SendError::Connect(_)), "{error:?}");
    assert!(!sent.get());
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn a_request_that_was_written_counts_as_sent_whatever_follows() {
    for method in ["POST", "GET"] {
        let server = Server::start(Vec::new()).await;
        let mut outbound = post(&server.url());
        *outbound.request.method_mut() = method.parse().unwrap();
        if method == "GET" {
            *outbound.request.body_mut() = Bytes::new();
        }
        let sent = outbound.sent.clone();

        let error = client(&[]).send(outbound).await.unwrap_err();

        assert!(matches!(error, SendError::Broken(_)), "{method}: {error:?}");
        assert!(sent.get(), "{method}");
        assert_eq!(server.n_requests(), 1, "{method} was retried");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let server = Server::start(vec![
        Step::Write(ok.clone()),
        Step::Wait(Duration::from_millis(50)),
        Step::Write(ok),
        Step::Hang,
    ])
    .await;
    let client = client(&[]);

    client.send(post(&server.url())).await.unwrap().bytes().await.unwrap();
    let again = client.send(post(&server.url())).await.unwrap().bytes().await.unwrap();

    // A second connection would have counted a second request head.
    assert_eq!((again, server.n_requests()), (Bytes::from_static(b"ok"), 1));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_before_anything_is_sent() {
    let server = Server::says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let client = client(&[]);

    client.send(post(&server.url())).await.unwrap().bytes().await.unwrap();
    server.closed().await;
    let again = client.send(post(&server.url())).await.unwrap().bytes().await.unwrap();

    assert_eq!((again, server.n_requests()), (Bytes::from_static(b"ok"), 2));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_takes_its_connection_along() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no".to_vec();
    let server = Server::start(vec![Step::Write(half), Step::Hang]).await;
    let client = client(&[]);

    drop(client.send(post(&server.url())).await.unwrap());
    client.send(post(&server.url())).await.unwrap();

    assert_eq!(server.n_requests(), 2);
}
