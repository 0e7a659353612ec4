//! Which service is where: in this process, or at an address.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use http::HeaderValue;
use manifold_core::{Code, Error, Result, ResultExt, Secret};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::channel::{Channel, Place, Remote};
use crate::rpc::Rpcs;
use crate::{Routes, server, wire};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Where services of other processes are.
#[derive(Clone, Debug, Default)]
pub struct MeshConfig {
    /// Service to address: `ai-router` to `http://10.0.0.7:9000`. The scheme may be left out; `_` counts as `-`.
    pub endpoints: BTreeMap<String, String>,
    /// What members of the mesh know and nobody else. Needed as soon as there is a second process.
    pub secret: Option<Secret<String>>,
}

/// The services this process can call and those it offers. Clones share both.
#[derive(Clone, Debug)]
pub struct Mesh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoints: BTreeMap<String, Endpoint>,
    secret: Option<Secret<String>>,
    places: Mutex<BTreeMap<&'static str, Arc<Place>>>,
    rpcs: Arc<Rpcs>,
}

impl Mesh {
    /// Checks the addresses; connects to nobody yet.
    pub fn new(config: MeshConfig) -> Result<Self> {
        let secret = config.secret.filter(|secret| !secret.expose().is_empty());
        if secret.is_none() && !config.endpoints.is_empty() {
            return Err(
                Error::invalid("CONFIG_INVALID", "mesh.secret must be set to call other processes").at("mesh.secret")
            );
        }
        if let Some(secret) = &secret {
            header(secret)?;
        }
        let mut endpoints = BTreeMap::new();
        for (service, address) in config.endpoints {
            let endpoint = endpoint(&address).map_err(|error| error.at(format!("mesh.{service}")))?;
            endpoints.insert(service.replace('_', "-"), endpoint);
        }
        let inner = Inner { endpoints, secret, places: Mutex::default(), rpcs: Arc::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A channel to a service, wherever it is. Needs no start order: where is decided when it is called. Inside the
    /// async runtime only.
    pub fn channel(&self, service: &'static str) -> Channel {
        Channel { place: self.place(service), rpcs: Arc::clone(&self.inner.rpcs) }
    }

    /// Offers a service of this process: to its own channels and, through [`Mesh::serve`], to other processes.
    pub fn provide(&self, service: &'static str, routes: Routes) {
        if self.place(service).routes.set(routes).is_err() {
            tracing::error!(service, "service was provided twice, the first stays");
        }
    }

    /// The services at an address that do not answer now.
    pub async fn unreachable(&self) -> Vec<String> {
        let probes = self.inner.endpoints.iter().map(|(service, endpoint)| async move {
            let healthy = probe(endpoint, self.inner.secret.as_ref()).await;
            (!healthy).then(|| service.clone())
        });
        join_all(probes).await.into_iter().flatten().collect()
    }

    /// Serves all provided services and the standard health service until `shutdown`, then lets running calls end.
    /// Only calls with the mesh secret carry a caller.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<()> {
        let Some(secret) = self.inner.secret.clone() else {
            let message = "mesh.secret must be set to serve other processes";
            return Err(Error::invalid("CONFIG_INVALID", message).at("mesh.secret"));
        };
        let places: Vec<_> =
            self.inner.places.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let provided = places.iter().filter_map(|place| Some((place.service.as_str(), place.routes.get()?.clone())));
        server::run(provided.collect(), secret, Arc::clone(&self.inner.rpcs), listener, shutdown).await
    }

    fn place(&self, service: &'static str) -> Arc<Place> {
        let mut places = self.inner.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(service).or_insert_with(|| {
            let place = Place { service: service.to_owned(), routes: OnceLock::new(), remote: OnceLock::new() };
            if let Some(remote) = self.remote(service) {
                place.remote.get_or_init(|| remote);
            }
            Arc::new(place)
        }))
    }

    fn remote(&self, service: &str) -> Option<Remote> {
        let endpoint = self.inner.endpoints.get(service)?;
        let secret = header(self.inner.secret.as_ref()?).ok()?;
        Some(Remote { transport: endpoint.connect_lazy(), secret })
    }
}

fn header(secret: &Secret<String>) -> Result<HeaderValue> {
    let refused = |_| Error::invalid("CONFIG_INVALID", "mesh.secret may hold visible ASCII only").at("mesh.secret");
    let mut value = HeaderValue::from_str(secret.expose()).map_err(refused)?;
    value.set_sensitive(true);
    Ok(value)
}

fn endpoint(address: &str) -> Result<Endpoint> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    if !url.starts_with("http://") {
        return Err(Error::invalid("CONFIG_INVALID", format!("{address} is no address of the form http://host:port")));
    }
    let endpoint = Endpoint::from_shared(url).or_err(Code::Invalid, "read the address of a service")?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true))
}

async fn probe(endpoint: &Endpoint, secret: Option<&Secret<String>>) -> bool {
    let check = async {
        let mut client = HealthClient::new(endpoint.connect().await.ok()?);
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert(wire::SECRET_NAME, secret?.expose().parse().ok()?);
        let answer = client.check(request).await.ok()?;
        Some(answer.into_inner().status() == ServingStatus::Serving)
    };
    tokio::time::timeout(PROBE_TIMEOUT, check).await.ok().flatten().unwrap_or(false)
}
