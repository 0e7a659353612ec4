//! The provider that `make bench` measures against: answers every chat with the same bytes, as cheaply as a process can.
//!
//! `upstream [address]` prints the address it listens on. `GET /count` tells how many chats it has answered.

#![expect(clippy::print_stdout, reason = "the bench reads the address from standard output")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

const WORDS: [&str; 12] =
    ["The", " answer", " comes", " in", " twelve", " pieces", " and", " is", " always", " the", " same", "."];
const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// The bytes of both answers, built once.
struct Answers {
    whole: Vec<u8>,
    stream: Vec<u8>,
}

/// A request whose bytes have all arrived.
struct Request {
    length: usize,
    kind: Kind,
}

enum Kind {
    Count,
    Whole,
    Stream,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    LocalSet::new().run_until(accept(listener)).await
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let answers = Rc::new(Answers { whole: whole(), stream: stream() });
    let answered = Rc::new(Cell::new(0_u64));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (answers, answered) = (Rc::clone(&answers), Rc::clone(&answered));
        tokio::task::spawn_local(async move {
            // A caller that goes away is its own business.
            drop(serve(socket, &answers, &answered).await);
        });
    }
}

async fn serve(mut socket: TcpStream, answers: &Answers, answered: &Cell<u64>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let request = loop {
            if let Some(request) = parse(&buffer) {
                break request;
            }
            if buffer.len() > MAX_REQUEST || socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        buffer.drain(..request.length);
        match request.kind {
            Kind::Count => socket.write_all(&json(&answered.get().to_string())).await?,
            Kind::Whole => {
                answered.set(answered.get() + 1);
                socket.write_all(&answers.whole).await?;
            }
            Kind::Stream => {
                answered.set(answered.get() + 1);
                socket.write_all(&answers.stream).await?;
            }
        }
    }
}

/// The first request in `bytes`, or None while some of it is missing. Bodies must tell their length.
fn parse(bytes: &[u8]) -> Option<Request> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let length = head + content_length(&bytes[..head]);
    let body = bytes.get(head..length)?;
    let kind = if bytes.starts_with(b"GET /count") {
        Kind::Count
    } else if find(body, b"\"stream\":true").is_some() || find(&bytes[..head], b":streamGenerateContent").is_some() {
        Kind::Stream
    } else {
        Kind::Whole
    };
    Some(Request { length, kind })
}

fn content_length(head: &[u8]) -> usize {
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:"));
    line.and_then(|line| std::str::from_utf8(&line[15..]).ok()).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn json(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn whole() -> Vec<u8> {
    let text = WORDS.concat();
    json(&format!(
        r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1767225600,"model":"llama-3.1-8b-instant","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":24,"completion_tokens":12,"total_tokens":36}}}}"#
    ))
}

/// One HTTP chunk per event, as a provider sends them, but all at once.
fn stream() -> Vec<u8> {
    let mut answer =
        String::from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    let first = event(r#"[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]"#, "null");
    push_chunk(&mut answer, &first);
    for word in WORDS {
        let choices = format!(r#"[{{"index":0,"delta":{{"content":"{word}"}},"finish_reason":null}}]"#);
        push_chunk(&mut answer, &event(&choices, "null"));
    }
    push_chunk(&mut answer, &event(r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#, "null"));
    push_chunk(&mut answer, &event("[]", r#"{"prompt_tokens":24,"completion_tokens":12,"total_tokens":36}"#));
    push_chunk(&mut answer, "data: [DONE]\n\n");
    answer.push_str("0\r\n\r\n");
    answer.into_bytes()
}

fn event(choices: &str, usage: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"llama-3.1-8b-instant\",\"choices\":{choices},\"usage\":{usage}}}\n\n"
    )
}

fn push_chunk(answer: &mut String, data: &str) {
    write!(answer, "{:x}\r\n{data}\r\n", data.len()).expect("a string takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_whole_body() {
        let request = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"stream\":true}";

        assert!(parse(&request[..request.len() - 1]).is_none());
        assert!(parse(request).is_some_and(|r| r.length == request.len() && matches!(r.kind, Kind::Stream)));
    }

    #[test]
    fn chunks_carry_their_size() {
        let mut answer = String::new();

        push_chunk(&mut answer, "data: [DONE]\n\n");

        assert_eq!(answer, "e\r\ndata: [DONE]\n\n\r\n");
    }
}
