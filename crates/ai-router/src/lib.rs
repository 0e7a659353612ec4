//! Every model behind one contract: which provider answers, what happens when it does not, and what it cost.
//! Providers are pure codecs; this crate decides, sends through `runtime::http`, and accounts for every attempt.

mod attempt;
mod breaker;
mod catalogue;
mod chat;
pub mod classify;
mod config;
mod discover;
mod doctor;
mod echo;
mod embed;
mod events;
mod grpc;
mod ledger;
mod media;
mod meters;
mod models;
pub mod ndjson;
mod plan;
mod price;
pub mod provider;
mod quirk;
mod retry_after;
pub mod sse;
mod store;
mod stream;
mod turns;
mod view;

use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use manifold_bus::Outbox;
use manifold_cache::Redis;
use manifold_contract::ai::v1::inference;
use manifold_core::{Clock, Code, Error, Ids, Result};
use manifold_runtime::http::Client;
use manifold_runtime::{Health, Routes, Tasks};
use manifold_store::{Db, Migrations, Rows};
use tracing::{info, warn};

pub use config::{Alias, Config, ProviderConfig, Tier};
pub use doctor::{Finding, Severity, examine};

use crate::view::{Candidate, View};

const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// What the service is given.
pub struct Deps {
    /// Its own database.
    pub db: Db,
    /// The outbound client.
    pub http: Client,
    /// Where time comes from.
    pub clock: Clock,
    /// Where ids come from.
    pub ids: Ids,
    /// Where background work runs.
    pub tasks: Tasks,
    /// Where it reports its state.
    pub health: Health,
    /// What several processes share.
    pub redis: Option<Redis>,
}

/// A running service.
pub struct Started {
    /// Its rpc.
    pub routes: Routes,
}

/// Tables of the service.
pub fn migrations() -> Migrations {
    manifold_store::migrations!()
}

/// Environment variables under which providers' keys are customarily kept, with the setting that each stands for.
pub fn key_variables() -> Result<Vec<(String, String)>> {
    let rows = catalogue::providers()?;
    Ok(rows.into_iter().filter_map(|row| Some((row.key?, format!("ai.providers.{}.api_key", row.id)))).collect())
}

/// Checks the configuration without starting anything.
pub fn check(config: &Config) -> Result<()> {
    if config.max_attempts == 0 {
        return Err(Error::invalid("CONFIG_INVALID", "ai.max_attempts must be at least 1").at("ai.max_attempts"));
    }
    View::build(config).map(|_| ())
}

/// Checks the configuration, starts the background work and returns the rpc.
pub async fn start(config: Config, deps: Deps) -> Result<Started> {
    let router = Router::new(config, &deps)?;
    let usable: Vec<_> = router
        .view
        .endpoints
        .values()
        .filter(|endpoint| endpoint.usable())
        .map(|endpoint| endpoint.id.to_string())
        .collect();
    info!(providers = usable.join(" "), "ai-router started");
    deps.tasks.spawn_until_stop("ai discovery", discover::run(router.clone()));
    deps.tasks.spawn_until_stop("ai retention", prune(router.clone(), deps.db.clone()));
    deps.health.component("ai-router").ready();
    Ok(Started { routes: Routes::new(inference::offer(router)) })
}

async fn prune(router: Router, db: Db) {
    loop {
        let before = router.clock.now().before(router.config.retention);
        if let Err(error) = store::prune_usage(&db, before).await {
            warn!(error = %error.chain(), "old usage is not deleted, trying again later");
        }
        if let Err(error) = router.outbox.tidy(&db).await {
            warn!(error = %error.chain(), "old events and jobs are not deleted, trying again later");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// What every use case works with. One count for all of it: requests on several cores clone it all the time.
#[derive(Clone)]
pub(crate) struct Router(Arc<Parts>);

/// What [`Router`] stands for.
pub(crate) struct Parts {
    view: View,
    config: Config,
    http: Client,
    clock: Clock,
    ids: Ids,
    rows: Rows,
    outbox: Outbox,
    images: media::Images,
    echo: Candidate,
    random: RandomState,
}

impl Deref for Router {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Router {
    fn new(config: Config, deps: &Deps) -> Result<Self> {
        check(&config)?;
        Ok(Self(Arc::new(Parts {
            view: View::build(&config)?,
            echo: view::echo(&config),
            config,
            http: deps.http.clone(),
            clock: deps.clock.clone(),
            ids: deps.ids.clone(),
            rows: deps.db.rows().clone(),
            outbox: Outbox::new("ai", deps.clock.clone(), deps.ids.clone()),
            images: media::Images::new(deps.http.clone(), deps.redis.clone(), deps.clock.clone()),
            random: RandomState::new(),
        })))
    }

    /// Lets new work begin at the pace at which the rows of finished work become durable; refuses it while they cannot be
    /// written and the queue is full.
    async fn room(&self) -> Result<()> {
        self.rows.room().await;
        if self.rows.is_full() {
            let error = Error::new(
                Code::Unavailable,
                "STORE_UNAVAILABLE",
                "the database is away and the queue of usage rows is full",
            );
            return Err(error.retry_after(Duration::from_secs(5)));
        }
        Ok(())
    }

    /// The provider's id of an answer, or one of ours.
    fn answer_id(&self, told: String) -> String {
        if told.is_empty() { manifold_core::encode_id("chatcmpl", self.ids.next()) } else { told }
    }

    /// The provider's time of an answer, or ours.
    fn answer_time(&self, told: i64) -> i64 {
        if told > 0 { told } else { self.clock.now().seconds() }
    }

    /// A random number in 0..1, for pauses.
    fn chance(&self) -> f64 {
        self.random.hash_one(self.ids.next()) as f64 / u64::MAX as f64
    }
}
