//! A client of the public door, on one raw connection per request, so that it can vanish at any instant.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use manifold_runtime::Tasks;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Somebody with a key.
#[derive(Clone)]
pub struct Client {
    /// Where the door is.
    pub address: SocketAddr,
    key: Option<String>,
    tasks: Tasks,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

/// An answer that is still coming.
pub struct Stream {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Client {
    /// Calls `address` with `key`.
    pub fn new(address: SocketAddr, key: Option<&str>) -> Self {
        Self { address, key: key.map(str::to_owned), tasks: Tasks::new() }
    }

    /// The same door with another key.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// Sends a request and returns when the head of its answer is there.
    pub async fn open(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Stream> {
        let stream = TcpStream::connect(self.address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let task = self.tasks.spawn("client connection", async move {
            let _ = connection.await;
        });
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.address.to_string());
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let abort = AbortOnDrop(task);
        let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await;
        let (head, body) = response.context("an answer")?.into_parts();
        std::mem::forget(abort);
        Ok(Stream { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Reply> {
        let mut stream = self.open(method, path, headers, body).await?;
        let text = stream.rest().await?;
        Ok(Reply { status: stream.status, headers: stream.headers, text })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Reply> {
        self.send(Method::DELETE, path, &[], Vec::new()).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string().into_bytes()).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Reply> {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string().into_bytes()).await
    }

    /// One user message to `model`.
    pub async fn chat(&self, model: &str, text: &str) -> Result<Reply> {
        self.post("/v1/chat/completions", &json!({"model": model, "messages": [{"role": "user", "content": text}]}))
            .await
    }

    /// The same, streamed, up to the head of the answer.
    pub async fn stream(&self, model: &str, text: &str) -> Result<Stream> {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}], "stream": true, "stream_options": {"include_usage": true}});
        self.open(
            Method::POST,
            "/v1/chat/completions",
            &[("content-type", "application/json")],
            body.to_string().into_bytes(),
        )
        .await
    }
}

/// Ends the connection if the answer's head never came: a client that gives up closes its socket.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stream {
    /// The next bytes; None at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Everything that is left, as text.
    pub async fn rest(&mut self) -> Result<String> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(String::from_utf8(all)?)
    }
}

impl Reply {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// A header as text; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The text that the model said.
    pub fn said(&self) -> String {
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }
}
