//! Spans to a collector: OTLP over gRPC, batched, dropped rather than waited for.

use std::time::Duration;

use manifold_core::{Code, Error, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::trace::EXPORTED;

pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn provider(endpoint: &str, service: &str) -> Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(TIMEOUT).build();
    let exporter = exporter.map_err(|error| {
        let message = "telemetry.otlp_endpoint cannot be used, it has to look like http://collector:4317";
        Error::new(Code::Invalid, "CONFIG_INVALID", message).at("telemetry.otlp_endpoint").because(error)
    })?;
    let resource = Resource::builder_empty()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.namespace", "manifold"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    // Which traces are recorded was decided where they began; below that the parent's word counts.
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).with_sampler(sampler).build())
}

/// Takes the spans made by [`super::trace`] for recorded traces and nothing else: above all not those of the exporter.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let scope = InstrumentationScope::builder("manifold").with_version(env!("CARGO_PKG_VERSION")).build();
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_level(false)
        .with_target(false)
        .with_filter(
            filter_fn(|metadata| metadata.is_span() && metadata.target() == EXPORTED).with_max_level_hint(Level::DEBUG),
        )
}
