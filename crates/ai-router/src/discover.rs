//! Finding Ollama by itself: its list of models is free, and asking for it tells whether it runs.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::Timestamp;
use manifold_runtime::http::{Client, Outbound, Sent, Trust};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::Router;
use crate::attempt::from_send_error;
use crate::catalogue::Kind;
use crate::classify::{Class, Failure};
use crate::provider::Target;
use crate::view::{Endpoint, Model};

const EVERY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(3);
const MAX_LIST: u64 = 8 << 20;

/// Asks every provider that needs no key for its models, again and again, until the future is dropped.
pub async fn run(router: Router) {
    loop {
        for endpoint in
            router.view.endpoints.values().filter(|endpoint| endpoint.enabled && endpoint.key_variable.is_none())
        {
            refresh(&router, endpoint).await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn refresh(router: &Router, endpoint: &Arc<Endpoint>) {
    match models(&router.http, endpoint, router.clock.now()).await {
        Ok(names) => {
            let known = endpoint.discovered.load();
            if known.len() == names.len() && known.iter().zip(&names).all(|(model, name)| *model.name == **name) {
                return;
            }
            info!(provider = %endpoint.id, models = names.len(), "models found");
            let fresh = names.iter().map(|name| {
                let kept = known.iter().find(|model| *model.name == **name).cloned();
                kept.unwrap_or_else(|| Arc::new(discovered(&endpoint.id, name)))
            });
            endpoint.discovered.store(Arc::new(fresh.collect()));
        }
        Err(failure) => {
            debug!(provider = %endpoint.id, class = failure.class.as_str(), "no list of models");
            if failure.class == Class::Connect && !endpoint.discovered.load().is_empty() {
                endpoint.discovered.store(Arc::default());
            }
        }
    }
}

/// A model of which only the name is known.
pub fn discovered(provider: &str, name: &str) -> Model {
    let kind = if name.contains("embed") { Kind::Embedding } else { Kind::Chat };
    Model { kind: Some(kind), ..Model::unknown(provider, name) }
}

/// The provider's own list of models. Free at every provider.
pub async fn models(http: &Client, endpoint: &Endpoint, now: Timestamp) -> Result<Vec<String>, Failure> {
    let target =
        Target { base_url: &endpoint.base_url, model: "", credential: endpoint.credential.as_ref(), context_length: 0 };
    let encoded = endpoint.codec.encode_models(&target)?;
    let outbound = Outbound {
        request: encoded.request,
        trust: Trust::Operator,
        deadline: Instant::now() + PATIENCE,
        first_byte: PATIENCE,
        idle: PATIENCE,
        max_body: MAX_LIST,
        sent: Sent::default(),
    };
    let inbound = http.send(outbound).await.map_err(from_send_error)?;
    let head = inbound.head.clone();
    let body = inbound.bytes().await.map_err(from_send_error)?;
    if !head.status.is_success() {
        return Err(endpoint.codec.classify(&head, &body, now.seconds()).redacted(&target));
    }
    endpoint.codec.decode_models(&body)
}
