//! `manifold serve`: everything, until a signal.

use std::process::ExitCode;

use manifold_core::{Clock, Error, Result, ResultExt};
use manifold_runtime::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config::Config;
use crate::node::{self, Node, Service};
use crate::output;

/// Runs the services named in `names`, with commas between them; None = all.
pub fn run(config: Config, names: Option<&str>) -> Result<ExitCode> {
    let services = parse(names)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if Service::are_all(&services) {
        // Requests run in lanes. What runs beside them is one thread's work, and several would keep waking each other.
        runtime.worker_threads(1);
    }
    let runtime = runtime.enable_all().thread_name("manifold").build();
    let runtime = runtime.map_err(|error| Error::internal("start the runtime").because(error))?;
    runtime.block_on(serve(config, services))
}

fn parse(names: Option<&str>) -> Result<Vec<Service>> {
    let Some(names) = names else {
        return Ok(Service::ALL.to_vec());
    };
    let mut services = Vec::new();
    for name in names.split(',').map(str::trim) {
        let known = Service::ALL.map(Service::name).join(", ");
        let service = Service::parse(name).ok_or_else(|| {
            Error::invalid("CONFIG_INVALID", format!("--services: there is no service {name}; there are {known}"))
        })?;
        if !services.contains(&service) {
            services.push(service);
        }
    }
    Ok(services)
}

async fn serve(config: Config, services: Vec<Service>) -> Result<ExitCode> {
    let names: Vec<_> = services.iter().map(|service| service.name()).collect();
    let telemetry = telemetry::init(&config.telemetry, &names.join("+"))?;
    let mut terminate = signal(SignalKind::terminate()).or_err(manifold_core::Code::Internal, "listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).or_err(manifold_core::Code::Internal, "listen for SIGINT")?;
    let node = tokio::select! {
        node = node::start(&config, &services, Clock::system()) => node?,
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    greet(&config, &node);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping: a second signal ends at once");
    tokio::select! {
        _ = node.stop() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    telemetry.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Where to go and, at the first start, with which key.
fn greet(config: &Config, node: &Node) {
    if let Some(public) = node.public {
        output::line(format!("manifold is ready at http://{public}"));
        output::line(format!("  API      http://{public}/v1/chat/completions"));
        output::line(format!("  contract http://{public}/openapi.json"));
    }
    output::line(format!("  metrics  http://{}/metrics", node.management));
    if let Some(grpc) = node.grpc {
        output::line(format!("  mesh     {grpc}"));
    }
    if let Some(key) = &node.first_admin_key {
        output::line(format!("  key      {}", key.expose()));
        output::line(format!("           shown once; kept in {}", config.data_dir().join("admin.key").display()));
    }
    if let Some(token) = &node.setup_token {
        output::line(format!("  owner    {}", token.expose()));
        output::line("           for POST /v1/auth/setup, once, within a day; kept in setup.token beside the key");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_service_is_refused_with_the_known_ones() {
        let error = parse(Some("edge,ai_router")).unwrap_err();

        assert!(error.message().contains("there are edge, ai-router"), "{error}");
        assert_eq!(parse(Some("ai-router")).unwrap(), [Service::AiRouter]);
        assert_eq!(parse(None).unwrap().len(), 2);
    }
}
