//! What works and what does not, told by each component and asked by probes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The health of one process. Clones share the same components.
#[derive(Clone, Debug, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

/// One part that tells how it is.
#[derive(Clone, Debug)]
pub struct Component {
    name: &'static str,
    health: Health,
}

/// What is wrong now. Ready if nothing is failing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Without these the process cannot serve: name and reason.
    pub failing: Vec<(&'static str, String)>,
    /// The process serves in spite of these: name and reason.
    pub degraded: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
enum State {
    Ready,
    Degraded(String),
    Failing(String),
}

impl Health {
    /// No components yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component; until it tells otherwise it is failing with the reason `starting`.
    pub fn component(&self, name: &'static str) -> Component {
        let component = Component { name, health: self.clone() };
        component.set(State::Failing("starting".to_owned()));
        component
    }

    /// What is wrong now.
    pub fn report(&self) -> Report {
        let components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = Report::default();
        for (name, state) in components.iter() {
            match state {
                State::Ready => {}
                State::Degraded(reason) => report.degraded.push((name, reason.clone())),
                State::Failing(reason) => report.failing.push((name, reason.clone())),
            }
        }
        report
    }
}

impl Report {
    /// Whether the process can serve.
    pub fn is_ready(&self) -> bool {
        self.failing.is_empty()
    }
}

impl Component {
    /// It works.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// It works in part; the process goes on serving.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(State::Degraded(reason.into()));
    }

    /// It does not work, and the process cannot serve without it.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(State::Failing(reason.into()));
    }

    fn set(&self, state: State) {
        let level = match state {
            State::Ready => 0,
            State::Degraded(_) => 1,
            State::Failing(_) => 2,
        };
        metrics::gauge!("manifold_health", "component" => self.name).set(level);
        self.health.components.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_component_is_starting_and_the_process_not_ready() {
        let health = Health::new();

        health.component("store");

        assert_eq!(health.report().failing, [("store", "starting".to_owned())]);
        assert!(!health.report().is_ready());
    }

    #[test]
    fn degraded_components_leave_the_process_ready() {
        let health = Health::new();
        let store = health.component("store");
        let mesh = health.component("mesh");

        store.ready();
        mesh.degraded("ai-router is away");

        assert!(health.report().is_ready());
        assert_eq!(health.report().degraded, [("mesh", "ai-router is away".to_owned())]);
    }
}
