//! The public door: every public byte comes in here, is turned into a checked call with a principal, and is answered.
//! The only crate that knows public JSON. No business rules.

mod auth;
mod body;
mod call;
mod caps;
mod carry;
mod condition;
mod config;
mod cookie;
mod cors;
mod csrf;
mod dialect;
mod edge;
mod guard;
mod headers;
mod idempotency;
mod inflate;
mod json;
mod limit;
mod listen;
pub mod management;
mod measure;
pub mod measured;
mod normalise;
mod openai;
mod openapi;
mod page;
mod pipeline;
mod problem;
mod record;
mod refusal;
mod replay;
mod rest;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use manifold_cache::{Leaving, Shared};
use manifold_contract::ai::v1::inference;
use manifold_core::{Clock, Code, Error, Ids, Result, ResultExt};
use manifold_identity::Identity;
use manifold_runtime::{Health, Lanes, Mesh, Tasks};

use crate::caps::Caps;
pub use crate::config::{Config, Limit, Limits, Per};
use crate::edge::{Edge, House};
use crate::guard::Timers;
use crate::listen::Manners;
use crate::record::InFlight;
use crate::routes::Routes;

/// How often the services behind the door are asked whether they are there.
const WATCH: Duration = Duration::from_secs(2);

/// What the door stands on.
pub struct Deps {
    /// Who calls.
    pub identity: Identity,
    /// The way to the services.
    pub mesh: Mesh,
    /// Time.
    pub clock: Clock,
    /// Ids.
    pub ids: Ids,
    /// Tasks that shutdown waits for.
    pub tasks: Tasks,
    /// Where connections are served.
    pub lanes: Lanes,
    /// What counts limits of several processes, if there are any.
    pub limits: Option<Shared>,
    /// Where it tells how it is, and what `/readyz` answers from.
    pub health: Health,
}

/// A door that is open.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
}

/// The OpenAPI document of the public surface.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::publish(openapi::api().1, None)
}

/// Opens the door: bound and accepting when this returns.
pub async fn start(config: Config, deps: Deps) -> Result<Started> {
    let component = deps.health.component("edge");
    let listener = listen::bind(config.listen)?;
    let address = listener.local_addr().or_err(Code::Internal, "read the address of a listener")?;
    let manners = manners(&config, config.check()?.trusted_proxies);
    let (edge, leaving) = edge(&config, &deps)?;
    let edge = Arc::new(edge);
    let handler = move |peer, request| pipeline::answer(Arc::clone(&edge), peer, request);
    for leaving in leaving {
        deps.tasks.spawn("edge places", leaving.run());
    }
    deps.tasks.spawn("edge listener", listen::accept(listener, manners, handler, deps.lanes, deps.tasks.clone()));
    deps.tasks.spawn("edge watch", watch(deps.mesh, deps.health, deps.tasks.clone()));
    component.ready();
    tracing::info!(%address, "public listener is open");
    Ok(Started { address })
}

fn edge(config: &Config, deps: &Deps) -> Result<(Edge, Vec<Leaving>)> {
    let checked = config.check()?;
    let (router, document) = openapi::api();
    let routes = Routes::new(&document, &checked)?;
    let permissions = openapi::permissions(&document);
    let published = openapi::publish(document, checked.public_url.as_deref());
    let openapi = published.to_json().map_err(|error| Error::internal("print the contract").because(error))?;
    let inference = inference::Client::new(deps.mesh.channel("ai-router"));
    let house = House {
        identity: deps.identity.clone(),
        inference,
        health: deps.health.clone(),
        openapi: openapi.into(),
        permissions,
        cookie: checked.cookie,
        public_url: checked.public_url.clone(),
    };
    let (limits, leaving) =
        limit::Limits::new(checked.limits.clone(), deps.limits.as_ref(), Arc::clone(deps.identity.limiter()));
    let edge = Edge {
        limits,
        config: checked,
        identity: deps.identity.clone(),
        clock: deps.clock.clone(),
        ids: deps.ids.clone(),
        in_flight: InFlight::new(),
        routes,
        router: router.with_state(Arc::new(house)),
        tasks: deps.tasks.clone(),
    };
    Ok((edge, leaving))
}

fn manners(config: &Config, trusted_proxies: Vec<ipnet::IpNet>) -> Manners {
    let timers =
        Timers { first_byte: config.first_byte, head: config.head, idle: config.idle, write_stall: config.write_stall };
    Manners {
        caps: Caps::new(config.max_connections, config.max_connections_per_ip, trusted_proxies),
        timers,
        max_head: usize::try_from(config.max_head.0).unwrap_or(usize::MAX),
        max_headers: config.max_headers,
        drain: config.drain,
    }
}

/// Tells `/readyz` which services behind the door do not answer.
async fn watch(mesh: Mesh, health: Health, tasks: Tasks) {
    let component = health.component("mesh");
    let shutdown = tasks.token();
    loop {
        match mesh.unreachable().await {
            away if away.is_empty() => component.ready(),
            away => component.failed(format!("{} does not answer", away.join(", "))),
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(WATCH)).await.is_none() {
            return;
        }
    }
}
