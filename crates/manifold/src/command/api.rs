//! The public REST of a running server, as the commands call it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use manifold_core::{Code, Error, Result, ResultExt, Secret};
use manifold_runtime::http::{Client, HttpConfig, Inbound, Outbound, SendError, Sent, Trust};
use serde_json::Value;
use tokio::time::Instant;

use crate::config::Config;
use crate::output;

const PATIENCE: Duration = Duration::from_secs(10);
/// How long a download may take.
const DOWNLOAD: Duration = Duration::from_secs(3_600);
const MAX_ANSWER: u64 = 4 << 20;

/// A running server, as its own client sees it.
pub struct Api {
    client: Client,
    base: String,
    key: Option<Secret<String>>,
}

impl Api {
    /// The server of this configuration, with the admin key of its data folder.
    pub fn new(config: &Config) -> Result<Self> {
        let listen = config.edge.listen;
        let host = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
        let key = std::fs::read_to_string(config.admin_key_file()).ok().map(|text| Secret::new(text.trim().to_owned()));
        let client = Client::new(&HttpConfig { allow: Vec::new(), connect_timeout: PATIENCE })?;
        Ok(Self { client, base: format!("http://{}", SocketAddr::new(host, listen.port())), key })
    }

    /// A call with the admin key; anything but 2xx is an error.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.send(self.authorised(method, path, body)?, PATIENCE, MAX_ANSWER).await?;
        let (status, text) = self.text(answer).await?;
        if (200..300).contains(&status) { Ok(parse(&text)) } else { Err(refused(status, &text)) }
    }

    /// What the server answers to a GET with the admin key, written as it comes.
    pub async fn download(&self, path: &str, file: &mut impl Write) -> Result<()> {
        let mut answer = self.send(self.authorised(Method::GET, path, None)?, DOWNLOAD, u64::MAX).await?;
        if !answer.head.status.is_success() {
            let (status, text) = self.text(answer).await?;
            return Err(refused(status, &text));
        }
        while let Some(piece) = answer.chunk().await.map_err(|source| self.unreachable(source))? {
            file.write_all(&piece).or_err(Code::Internal, "write what the server sends")?;
        }
        Ok(())
    }

    fn authorised(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<Bytes>> {
        let Some(key) = &self.key else {
            return Err(Error::new(
                Code::Unauthenticated,
                "INVALID_KEY",
                "no admin key: run this where the server's data folder is, or name it with --data-dir",
            ));
        };
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = self.request(method, path, bytes)?;
        let bearer =
            HeaderValue::from_str(&format!("Bearer {}", key.expose())).or_err(Code::Invalid, "read the admin key")?;
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        Ok(request)
    }

    /// All rows of a list, page by page.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let (mut rows, mut next) = (Vec::new(), format!("{path}?limit=200"));
        loop {
            let mut page = self.call(Method::GET, &next, None).await?;
            if let Value::Array(data) = page["data"].take() {
                rows.extend(data);
            }
            let Some(cursor) = page["next_cursor"].as_str() else { return Ok(rows) };
            next = format!("{path}?limit=200&cursor={cursor}");
        }
    }

    /// A call without a key: status and body.
    pub async fn get_anonymous(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.send(self.request(Method::GET, path, Bytes::new())?, PATIENCE, MAX_ANSWER).await?;
        self.text(answer).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        request.body(body).or_err(Code::Invalid, "build the request")
    }

    async fn send(&self, request: Request<Bytes>, patience: Duration, max_body: u64) -> Result<Inbound> {
        let outbound = Outbound {
            request,
            trust: Trust::Operator,
            deadline: Instant::now() + patience,
            first_byte: PATIENCE,
            idle: PATIENCE,
            max_body,
            sent: Sent::default(),
        };
        self.client.send(outbound).await.map_err(|source| self.unreachable(source))
    }

    async fn text(&self, answer: Inbound) -> Result<(u16, String)> {
        let status = answer.head.status.as_u16();
        let body = answer.bytes().await.map_err(|source| self.unreachable(source))?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn unreachable(&self, source: SendError) -> Error {
        Error::new(Code::Unavailable, "SERVER_UNREACHABLE", format!("no server answers at {}", self.base))
            .because(source)
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn refused(status: u16, text: &str) -> Error {
    let problem = parse(text);
    let detail = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("no reason given");
    Error::new(Code::Precondition, "SERVER_REFUSED", format!("the server answered {status}: {detail}"))
}

/// Rows as a table of these fields.
pub fn print<'v>(columns: &[&str], rows: impl IntoIterator<Item = &'v Value>) {
    let head = columns.iter().map(|column| column.to_uppercase()).collect();
    let cells = |row: &Value| columns.iter().map(|column| cell(&row[*column])).collect();
    let table: Vec<_> = std::iter::once(head).chain(rows.into_iter().map(cells)).collect();
    output::table(&table);
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
