//! A bound on series. A label that was thought to have few values and has many must not eat the memory of the process:
//! series beyond the bound are dropped and counted.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

const MAX_SERIES: usize = 2_000;

/// A recorder that takes no more than so many series.
pub(super) struct Bounded<R> {
    inner: R,
    known: RwLock<HashSet<u64>>,
    max_series: usize,
}

impl<R: Recorder> Bounded<R> {
    pub(super) fn new(inner: R) -> Self {
        Self::with(inner, MAX_SERIES)
    }

    fn with(inner: R, max_series: usize) -> Self {
        Self { inner, known: RwLock::default(), max_series }
    }

    fn admits(&self, key: &Key, metadata: &Metadata<'_>) -> bool {
        let hash = key.get_hash();
        if self.known.read().unwrap_or_else(PoisonError::into_inner).contains(&hash) {
            return true;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < self.max_series {
            known.insert(hash);
            return true;
        }
        let dropped = Key::from_static_name("manifold_series_dropped_total");
        self.inner.register_counter(&dropped, metadata).increment(1);
        false
    }
}

impl<R: Recorder> Recorder for Bounded<R> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        if self.admits(key, metadata) { self.inner.register_counter(key, metadata) } else { Counter::noop() }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        if self.admits(key, metadata) { self.inner.register_gauge(key, metadata) } else { Gauge::noop() }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        if self.admits(key, metadata) { self.inner.register_histogram(key, metadata) } else { Histogram::noop() }
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn series_beyond_the_bound_are_dropped_and_counted() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let bounded = Bounded::with(recorder, 2);

        metrics::with_local_recorder(&bounded, || {
            for tenant in ["a", "b", "c", "a"] {
                metrics::counter!("requests_total", "tenant" => tenant).increment(1);
            }
        });

        let text = handle.render();
        assert!(text.contains(r#"requests_total{tenant="a"} 2"#), "{text}");
        assert!(!text.contains(r#"tenant="c""#), "{text}");
        assert!(text.contains("manifold_series_dropped_total 1"), "{text}");
    }
}
