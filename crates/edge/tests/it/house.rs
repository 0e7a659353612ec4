//! One door per story, and a client that shows every byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use manifold_contract::ai::v1::inference;
use manifold_core::{Clock, Ids, Timestamp};
use manifold_edge::{Config, Deps};
use manifold_identity::{Environment, generate_key};
use manifold_runtime::{Health, Lanes, Mesh, MeshConfig, Routes, Tasks};
use manifold_store::{Db, Location, WriterConfig};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fake::Fake;

pub struct House {
    pub address: SocketAddr,
    pub management: SocketAddr,
    pub admin: String,
    pub fake: Fake,
    pub tasks: Tasks,
    _folder: TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl House {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    pub async fn open_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Clock::manual(Timestamp::from_micros(1_763_629_200_000_000));
        let (ids, tasks, health) = (Ids::new(clock.clone()), Tasks::new(), Health::new());
        let location = Location::Sqlite { folder: folder.path().to_owned() };
        let migrations = [&manifold_bus::migrations(), &manifold_identity::migrations()];
        let (db, writer) = Db::open(&location, "identity", &migrations, &WriterConfig::default()).await.unwrap();
        let token = tasks.token();
        tasks.spawn("writer", async move { writer.run(token.cancelled()).await });
        let admin = generate_key(Environment::Live).expose().clone();
        let config = manifold_identity::Config {
            data_dir: folder.path().to_owned(),
            master_keys: vec![manifold_identity::MasterKey::of_folder(folder.path())],
            admin_key: Some(admin.as_str().into()),
            grace: Duration::from_secs(600),
            mail: manifold_identity::MailConfig::default(),
            public_url: String::new(),
        };
        let deps = manifold_identity::Deps {
            db,
            clock: clock.clone(),
            ids: ids.clone(),
            bus: manifold_bus::Bus::Embedded(Vec::new()),
            limits: None,
            health: health.clone(),
            tasks: tasks.clone(),
        };
        let identity = manifold_identity::start(config, deps).await.unwrap().identity;
        let mesh = Mesh::new(MeshConfig::default()).unwrap();
        let fake = Fake::default();
        mesh.provide("ai-router", Routes::new(inference::offer(fake.clone())));
        let mut config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        change(&mut config);
        let deps = Deps {
            identity,
            mesh,
            clock,
            ids,
            tasks: tasks.clone(),
            lanes: Lanes::start().unwrap(),
            limits: None,
            health: health.clone(),
        };
        let address = manifold_edge::start(config, deps).await.unwrap().address;
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let management = manifold_edge::management::start(local, health, &tasks).await.unwrap();
        Self { address, management, admin, fake, tasks, _folder: folder }
    }

    /// A request with the admin key.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let key = format!("authorization: Bearer {}", self.admin);
        self.call_with(method, path, &[&key], body).await
    }

    /// A request with just these headers.
    pub async fn call_with(&self, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        if let Some(body) = body {
            let body = body.to_string();
            request
                .push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        } else {
            request.push_str("\r\n");
        }
        exchange(self.address, request.as_bytes()).await
    }

    pub async fn chat(&self, body: &Value) -> Reply {
        self.call("POST", "/v1/chat/completions", Some(body)).await
    }
}

/// Sends bytes and reads until the other side closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.unwrap();
    parse(&bytes)
}

/// Reads an answer; a chunked body is joined.
pub fn parse(bytes: &[u8]) -> Reply {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<_, _> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if chunked { join_chunks(body) } else { body.to_owned() };
    Reply { status, headers, body }
}

fn join_chunks(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(data) = after.get(..size).filter(|_| size > 0) else { break };
        body.push_str(data);
        rest = &after[size + 2..];
    }
    body
}
