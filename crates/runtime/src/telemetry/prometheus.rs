//! The exporter behind the metrics facade, and the text that `/metrics` answers.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::ErrorCounter;

use super::process;
use super::series::Bounded;
use crate::Tasks;

/// In-process calls take microseconds, streams of reasoning models minutes.
const SECONDS: [f64; 20] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0,
    160.0, 320.0,
];

/// Sizes and counts: tokens, rows of a batch.
const AMOUNTS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
];

/// Samples wait in memory until they are summed up.
const UPKEEP: Duration = Duration::from_secs(1);

static INSTALLED: OnceLock<Prometheus> = OnceLock::new();
static LOG_LINES: Mutex<Option<ErrorCounter>> = Mutex::new(None);

/// The metrics of this process.
#[derive(Debug)]
pub struct Prometheus {
    handle: PrometheusHandle,
    service: String,
}

/// The metrics of this process; installs the exporter if nothing has yet.
pub fn prometheus() -> &'static Prometheus {
    install("manifold")
}

pub(super) fn install(service: &str) -> &'static Prometheus {
    INSTALLED.get_or_init(|| {
        let recorder = builder(service).build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(Bounded::new(recorder)).is_err() {
            tracing::warn!("another metrics recorder was installed before, /metrics stays empty");
        }
        Prometheus { handle, service: service.to_owned() }
    })
}

/// Log lines that the writer drops are told among the metrics.
pub(super) fn watch_dropped_lines(counter: ErrorCounter) {
    *LOG_LINES.lock().unwrap_or_else(PoisonError::into_inner) = Some(counter);
}

fn builder(service: &str) -> PrometheusBuilder {
    PrometheusBuilder::new()
        .add_global_label("service", service)
        .set_buckets(&AMOUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .expect("neither list of buckets is empty")
}

impl Prometheus {
    /// Everything as Prometheus text.
    pub fn render(&self) -> String {
        let dropped =
            LOG_LINES.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ErrorCounter::dropped_lines);
        if let Some(dropped) = dropped {
            metrics::counter!("manifold_log_lines_dropped_total").absolute(dropped as u64);
        }
        let mut text = self.handle.render();
        process::render(&mut text, &self.service);
        text
    }

    /// Keeps the memory of samples small until the process ends.
    pub fn start_upkeep(&'static self, tasks: &Tasks) {
        let token = tasks.token();
        tasks.spawn("metrics-upkeep", async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            while token.run_until_cancelled(ticks.tick()).await.is_some() {
                self.handle.run_upkeep();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_histograms_with_buckets_and_the_service_on_all() {
        let recorder = builder("edge").build_recorder();
        let handle = recorder.handle();

        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("manifold_rpc_duration_seconds", "rpc" => "A/B").record(0.003);
            metrics::histogram!("manifold_commit_batch_size").record(100.0);
        });

        let text = handle.render();
        assert!(
            text.contains(r#"manifold_rpc_duration_seconds_bucket{service="edge",rpc="A/B",le="0.005"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"manifold_commit_batch_size_bucket{service="edge",le="128"} 1"#), "{text}");
    }

    #[test]
    fn renders_the_process_itself() {
        let text = prometheus().render();

        for name in [
            "manifold_build_info{",
            "process_resident_memory_bytes{",
            "process_open_fds{",
            "process_cpu_seconds_total{",
        ] {
            assert!(text.contains(name), "{name} in {text}");
        }
    }
}
