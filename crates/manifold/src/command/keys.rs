//! `manifold keys`: API keys of a running server, through its public REST like any other client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Subcommand;
use http::{HeaderValue, Method, Request, header};
use manifold_core::{Code, Error, Result, ResultExt, Secret};
use manifold_identity::Environment;
use manifold_runtime::http::{Client, HttpConfig, Outbound, Sent, Trust};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::Config;
use crate::output;

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: u64 = 4 << 20;

/// `manifold keys …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and print its secret, once
    Create {
        /// What a person calls it
        name: String,
        /// Granted permission; repeat for several [default: ai.inference.run]
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// Make it a test key
        #[arg(long)]
        test: bool,
        /// When it ends, as 2027-01-31T00:00:00Z [default: never]
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List keys, newest first
    List,
    /// End a key for good
    Revoke {
        /// Its id, `key_…`
        id: String,
    },
    /// Show what a key was used for, by hour
    Usage {
        /// Its id, `key_…`
        id: String,
        /// How far back, such as 24h or 7d
        #[arg(long, value_name = "TIME", default_value = "24h")]
        window: String,
    },
    /// Print a new key without storing it, for MANIFOLD_BOOTSTRAP__ADMIN_KEY
    Generate {
        /// Make it a test key
        #[arg(long)]
        test: bool,
    },
}

/// Prints a fresh key that no server knows.
pub fn generate(test: bool) {
    output::line(manifold_identity::generate_key(if test { Environment::Test } else { Environment::Live }).expose());
}

/// Calls the server.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let api = Api::new(&config)?;
    match command {
        Command::Create { name, permissions, test, expires_at } => {
            let mut body = json!({"name": name, "environment": if test { "test" } else { "live" }});
            if !permissions.is_empty() {
                body["permissions"] = json!(permissions);
            }
            if let Some(expires_at) = expires_at {
                body["expires_at"] = json!(expires_at);
            }
            let made = api.call(Method::POST, "/v1/keys", Some(&body)).await?;
            output::line(made["secret"].as_str().unwrap_or_default());
        }
        Command::List => list(&api).await?,
        Command::Revoke { id } => {
            api.call(Method::DELETE, &format!("/v1/keys/{id}"), None).await?;
            output::line(format!("{id} is revoked"));
        }
        Command::Usage { id, window } => usage(&api, &id, &window).await?,
        Command::Generate { test } => generate(test),
    }
    Ok(ExitCode::SUCCESS)
}

async fn usage(api: &Api, id: &str, window: &str) -> Result<()> {
    let columns =
        ["hour", "operation", "outcome", "n_requests", "input_tokens", "output_tokens", "cost", "mean_duration_ms"];
    let answer = api.call(Method::GET, &format!("/v1/keys/{id}/usage?window={window}"), None).await?;
    let hours = answer["data"].as_array().into_iter().flatten();
    let cells = |hour: &Value| columns.iter().map(|column| cell(&hour[*column])).collect();
    let rows: Vec<_> = std::iter::once(columns.map(str::to_uppercase).to_vec()).chain(hours.map(cells)).collect();
    output::table(&rows);
    Ok(())
}

async fn list(api: &Api) -> Result<()> {
    let columns = ["id", "name", "environment", "state", "permissions", "created_at", "last_used_at"];
    let mut rows = vec![columns.map(str::to_uppercase).to_vec()];
    let mut path = "/v1/keys?limit=200".to_owned();
    loop {
        let page = api.call(Method::GET, &path, None).await?;
        for key in page["data"].as_array().into_iter().flatten() {
            rows.push(columns.iter().map(|column| cell(&key[*column])).collect());
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/keys?limit=200&cursor={cursor}");
    }
    output::table(&rows);
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

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
        let (status, text) = self.send(request).await?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let detail = value["detail"].as_str().or(value["title"].as_str()).unwrap_or("no reason given").to_owned();
        Err(Error::new(Code::Precondition, "SERVER_REFUSED", format!("the server answered {status}: {detail}")))
    }

    /// A call without a key: status and body.
    pub async fn get_anonymous(&self, path: &str) -> Result<(u16, String)> {
        self.send(self.request(Method::GET, path, Bytes::new())?).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json");
        request.body(body).or_err(Code::Invalid, "build the request")
    }

    async fn send(&self, request: Request<Bytes>) -> Result<(u16, String)> {
        let outbound = Outbound {
            request,
            trust: Trust::Operator,
            deadline: Instant::now() + PATIENCE,
            first_byte: PATIENCE,
            idle: PATIENCE,
            max_body: MAX_ANSWER,
            sent: Sent::default(),
        };
        let failed = |source| {
            Error::new(Code::Unavailable, "SERVER_UNREACHABLE", format!("no server answers at {}", self.base))
                .because(source)
        };
        let inbound = self.client.send(outbound).await.map_err(failed)?;
        let status = inbound.head.status.as_u16();
        let body = inbound.bytes().await.map_err(failed)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}
