use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::view::{self, Model};

fn turns(models: &[&str]) -> Turns {
    let config: Config =
        toml::from_str("max_attempts = 4\nfirst_token = '30s'\nidle = '30s'\nretention = '30d'").unwrap();
    let base = view::echo(&config);
    let candidates =
        models.iter().map(|name| Candidate::new(base.endpoint.clone(), Arc::new(Model::unknown("p", name)))).collect();
    Turns::new(candidates, config.max_attempts)
}

fn failure(class: Class) -> Failure {
    Failure::new(class, "because")
}

fn told(class: Class, seconds: u64) -> Failure {
    Failure { retry_after: Some(Duration::from_secs(seconds)), ..failure(class) }
}

fn name(turns: &Turns) -> String {
    turns.current().map(|candidate| candidate.model.name.to_string()).unwrap_or_default()
}

#[test]
fn a_server_error_is_repeated_once_then_passed_on() {
    let mut turns = turns(&["a", "b"]);

    assert_eq!(turns.failed(failure(Class::Server), 0.0), Step::Again(Duration::ZERO));
    assert_eq!(turns.failed(failure(Class::Server), 0.0), Step::Next);

    assert_eq!(name(&turns), "b");
}

#[test]
fn the_callers_fault_is_never_passed_on() {
    let mut turns = turns(&["a", "b"]);

    assert_eq!(turns.failed(failure(Class::Invalid), 0.0), Step::GiveUp);
}

#[test]
fn a_short_told_delay_is_waited_out_and_a_long_one_is_not() {
    assert_eq!(turns(&["a", "b"]).failed(told(Class::Rate, 2), 0.0), Step::Again(Duration::from_secs(2)));
    assert_eq!(turns(&["a", "b"]).failed(told(Class::Rate, 3), 0.0), Step::Next);
    assert_eq!(turns(&["a"]).failed(told(Class::Rate, 3), 0.0), Step::GiveUp);
}

#[test]
fn an_overloaded_candidate_gets_a_second_chance_after_all_others() {
    let mut turns = turns(&["a", "b"]);

    assert_eq!(turns.failed(failure(Class::Overloaded), 0.5), Step::Next);
    assert!(matches!(turns.failed(failure(Class::Auth), 0.5), Step::Again(pause) if pause > Duration::ZERO));
    assert_eq!(name(&turns), "a");
    assert_eq!(turns.failed(failure(Class::Overloaded), 0.5), Step::GiveUp);
}

#[test]
fn never_more_than_the_allowed_attempts() {
    let mut turns = turns(&["a", "b", "c", "d", "e", "f"]);
    let mut attempts = 1;
    while turns.failed(failure(Class::Server), 0.0) != Step::GiveUp {
        attempts += 1;
    }

    assert_eq!(attempts, 4);
}

#[test]
fn the_error_is_that_of_the_most_useful_attempt() {
    let mut turns = turns(&["a", "b", "c"]);
    turns.failed(told(Class::Rate, 9), 0.0);
    turns.failed(failure(Class::Auth), 0.0);

    let error = turns.into_error();

    assert_eq!(
        (error.code(), error.reason(), error.delay()),
        (Code::Exhausted, "RATE_LIMIT_EXCEEDED", Some(Duration::from_secs(9)))
    );
    assert_eq!(error.facts()["attempts"], "2");
}

#[test]
fn a_refused_credential_is_503_and_never_401() {
    let error = to_error(failure(Class::Auth), true);

    assert_eq!((error.code(), error.reason()), (Code::Unavailable, "NO_PROVIDER_LEFT"));
    assert!(!error.message().contains("because"));
}

#[test]
fn a_model_that_is_gone_is_404_only_if_it_was_named() {
    assert_eq!(to_error(failure(Class::Gone), true).code(), Code::NotFound);
    assert_eq!(to_error(failure(Class::Gone), false).code(), Code::Unavailable);
}
