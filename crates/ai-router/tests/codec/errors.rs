//! What every error body means.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use manifold_ai_router::classify::{Class, Failure};
use manifold_ai_router::provider::Target;
use manifold_core::Secret;

use crate::fixtures::{self, Fixture};

/// 2026-11-20T11:40:21Z, when it is 03:40 in California.
const NOW: i64 = 1_795_174_821;
const TO_UTC_MIDNIGHT: u64 = 44_379_000;
const TO_PACIFIC_MIDNIGHT: u64 = 73_179_000;

/// Fixture without `error_`, headers, class, milliseconds to wait, field to leave out.
type Row = (&'static str, &'static [(&'static str, &'static str)], Class, Option<u64>, Option<&'static str>);

const ROWS: &[Row] = &[
    ("openai/401_key", &[], Class::Auth, None, None),
    ("openai/429_insufficient_quota", &[], Class::Billing, None, None),
    ("openai/429_rpm", &[("retry-after-ms", "1500"), ("retry-after", "2")], Class::Rate, Some(1_500), None),
    ("openai/400_context", &[], Class::Context, None, None),
    ("openai/400_unsupported_value", &[], Class::Quirk, None, Some("temperature")),
    ("openai/400_unknown_argument", &[], Class::Quirk, None, Some("foo_bar")),
    ("openai/400_bad_role", &[], Class::Invalid, None, None),
    ("openai/404_model", &[], Class::Gone, None, None),
    ("openai/400_filter", &[], Class::Blocked, None, None),
    ("openai/500", &[("x-ratelimit-reset-requests", "9s")], Class::Server, None, None),
    ("openai/503", &[("retry-after", "3")], Class::Overloaded, Some(3_000), None),
    ("openai/413", &[], Class::TooLarge, None, None),
    ("groq/400_tool_use_failed", &[], Class::ToolFormat, None, None),
    ("groq/429_tpd", &[], Class::Quota, Some(578_016), None),
    (
        "groq/429_tpm",
        &[("retry-after", "5"), ("x-ratelimit-remaining-requests", "900")],
        Class::Rate,
        Some(5_000),
        None,
    ),
    ("groq/413_tpm", &[], Class::TooLarge, None, None),
    ("groq/400_context", &[], Class::Context, None, None),
    ("groq/400_decommissioned", &[], Class::Gone, None, None),
    ("groq/400_property", &[], Class::Quirk, None, Some("logit_bias")),
    ("groq/400_reasoning", &[], Class::Quirk, None, Some("reasoning_effort")),
    ("groq/498", &[], Class::Overloaded, None, None),
    ("groq/503", &[], Class::Overloaded, None, None),
    ("groq/401", &[], Class::Auth, None, None),
    ("groq/404_model", &[], Class::Gone, None, None),
    ("mistral/429_rate", &[("x-ratelimit-remaining-req-minute", "0")], Class::Rate, None, None),
    ("mistral/429_capacity", &[], Class::Overloaded, None, None),
    ("mistral/400_capacity", &[], Class::Overloaded, None, None),
    ("mistral/400_model", &[], Class::Gone, None, None),
    ("mistral/400_tool_id", &[], Class::Invalid, None, None),
    ("mistral/400_context", &[], Class::Context, None, None),
    ("mistral/422_extra", &[], Class::Quirk, None, Some("logit_bias")),
    ("mistral/422_extra_inside", &[], Class::Quirk, None, Some("store")),
    ("mistral/422_type", &[], Class::Invalid, None, None),
    ("mistral/401", &[], Class::Auth, None, None),
    ("mistral/401_message", &[], Class::Auth, None, None),
    ("gemini/429_minute", &[], Class::Rate, Some(25_000), None),
    ("gemini/429_day", &[], Class::Quota, Some(TO_PACIFIC_MIDNIGHT), None),
    ("gemini/429_limit_0", &[], Class::Quota, Some(25_000), None),
    ("gemini/429_text", &[], Class::Rate, Some(25_465), None),
    ("gemini/429_nested", &[], Class::Quota, Some(TO_PACIFIC_MIDNIGHT), None),
    ("gemini/429_array", &[], Class::Rate, Some(7_000), None),
    ("gemini/400_key", &[], Class::Auth, None, None),
    ("gemini/400_unknown", &[], Class::Quirk, None, Some("reasoning_effort")),
    ("gemini/400_penalty", &[], Class::Quirk, None, Some("presence_penalty")),
    ("gemini/400_signature", &[], Class::Signature, None, None),
    ("gemini/400_tokens", &[], Class::Context, None, None),
    ("gemini/400_location", &[], Class::Forbidden, None, None),
    ("gemini/400_contents", &[], Class::Invalid, None, None),
    ("gemini/403_leaked", &[], Class::Auth, None, None),
    ("gemini/404_model", &[], Class::Gone, None, None),
    ("gemini/503", &[], Class::Overloaded, None, None),
    ("gemini/500", &[], Class::Server, None, None),
    ("openrouter/429_free_day", &[], Class::Quota, Some(TO_UTC_MIDNIGHT), None),
    ("openrouter/429_free_minute", &[], Class::Rate, Some(39_000), None),
    ("openrouter/429_upstream", &[], Class::Rate, None, None),
    ("openrouter/402_in_flight", &[("retry-after", "1")], Class::Rate, Some(1_000), None),
    ("openrouter/402_credits", &[], Class::Billing, None, None),
    ("openrouter/403_moderation", &[], Class::Blocked, None, None),
    ("openrouter/404_tools", &[], Class::Unsupported, None, None),
    ("openrouter/404_policy", &[], Class::Forbidden, None, None),
    ("openrouter/400_model", &[], Class::Gone, None, None),
    ("openrouter/400_raw_context", &[], Class::Context, None, None),
    ("openrouter/401", &[], Class::Auth, None, None),
    ("openrouter/408", &[], Class::Server, None, None),
    ("openrouter/502", &[], Class::Server, None, None),
    ("ollama/404_model", &[], Class::Gone, None, None),
    ("ollama/400_tools", &[], Class::Unsupported, None, None),
    ("ollama/400_thinking", &[], Class::Quirk, None, Some("reasoning_effort")),
    ("ollama/500", &[], Class::Server, None, None),
    ("ollama/503_busy", &[], Class::Overloaded, None, None),
    ("ollama/400_context", &[], Class::Context, None, None),
    ("ollama/400_context_inside", &[], Class::Context, None, None),
    ("ollama/401", &[], Class::Auth, None, None),
    ("ollama/429_concurrent", &[], Class::Concurrency, None, None),
    ("ollama/429_hourly", &[], Class::Quota, None, None),
    ("ollama/429_object", &[], Class::Concurrency, None, None),
    (
        "generic/429_cerebras_quota",
        &[("x-ratelimit-reset-requests-day", "33011.38"), ("x-ratelimit-remaining-requests-day", "0")],
        Class::Quota,
        Some(33_011_380),
        None,
    ),
    ("generic/429_cerebras_queue", &[], Class::Overloaded, None, None),
    ("generic/429_cloudflare", &[], Class::Quota, Some(TO_UTC_MIDNIGHT), None),
    ("generic/429_cohere_month", &[], Class::Quota, None, None),
    ("generic/429_zai", &[], Class::Concurrency, None, None),
    ("generic/400_cohere_tokens", &[], Class::Context, None, None),
    ("generic/402_deepseek", &[], Class::Billing, None, None),
    ("generic/400_deepseek_thinking", &[], Class::Signature, None, None),
    ("generic/529_anthropic", &[], Class::Overloaded, None, None),
    ("generic/400_anthropic_long", &[], Class::Context, None, None),
    ("generic/410_gone", &[], Class::Gone, None, None),
    ("generic/400_llama_cpp", &[], Class::Context, None, None),
    ("generic/400_fastapi", &[], Class::Invalid, None, None),
    ("generic/502_page", &[], Class::Server, None, None),
    ("generic/503_text", &[], Class::Overloaded, None, None),
    ("generic/500_empty", &[], Class::Server, None, None),
    ("generic/307_redirect", &[("location", "https://login.example/")], Class::Malformed, None, None),
];

/// What a provider's text must never show.
const HIDDEN: &[&str] = &[
    "://",
    "sk-proj",
    "org_01",
    "org-Ab",
    "user_2",
    "10.0.0.7",
    "10.4.2.9",
    "<html",
    "groqstatus.com",
    "generativelanguage.googleapis.com",
];

fn classify(provider: &str, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Failure {
    let mut answer = http::Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    let (head, ()) = answer.body(()).unwrap().into_parts();
    fixtures::codec(provider).classify(&head, body, NOW)
}

fn status_of(fixture: &Fixture) -> u16 {
    fixture.name.split('_').nth(1).unwrap().parse().unwrap()
}

#[test]
fn every_error_body_has_its_class() {
    for (path, headers, class, wait, quirk) in ROWS {
        let fixture = fixtures::one(&format!("{}.json", path.replace('/', "/error_")));
        let status = status_of(&fixture);

        let failure = classify(&fixture.provider, status, headers, &fixture.body);

        let told = failure.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap());
        assert_eq!((failure.class, told, failure.quirk.as_deref()), (*class, *wait, *quirk), "{path}: {failure:?}");
        assert_eq!(failure.status, Some(status), "{path}");
        assert!(!failure.message.is_empty(), "{path}");
        for hidden in HIDDEN {
            assert!(!failure.message.contains(hidden), "{path} shows {hidden}: {}", failure.message);
        }
    }
}

#[test]
fn every_error_fixture_is_in_the_table() {
    let listed: BTreeSet<String> = ROWS.iter().map(|(path, ..)| path.replace('/', "/error_")).collect();
    let errors = fixtures::all().into_iter().filter(|fixture| fixture.name.starts_with("error_"));
    let present: BTreeSet<String> = errors.map(|fixture| format!("{}/{}", fixture.provider, fixture.name)).collect();

    assert_eq!(listed, present);
}

#[test]
fn a_status_without_a_body_decides_alone() {
    let rows = [
        (400, Class::Invalid),
        (401, Class::Auth),
        (402, Class::Billing),
        (403, Class::Forbidden),
        (404, Class::Gone),
        (405, Class::Invalid),
        (408, Class::Server),
        (409, Class::Invalid),
        (410, Class::Gone),
        (413, Class::TooLarge),
        (418, Class::Invalid),
        (422, Class::Invalid),
        (429, Class::Rate),
        (498, Class::Overloaded),
        (500, Class::Server),
        (502, Class::Server),
        (503, Class::Overloaded),
        (504, Class::Server),
        (522, Class::Server),
        (529, Class::Overloaded),
        (301, Class::Malformed),
        (308, Class::Malformed),
    ];

    for (status, class) in rows {
        for body in ["", "{}", "[]", "null", "oops", "{\"error\":null}", "{\"error\":{}}"] {
            assert_eq!(classify("generic", status, &[], body.as_bytes()).class, class, "{status} {body}");
        }
    }
}

#[test]
fn the_same_header_means_a_day_at_groq_and_a_minute_elsewhere() {
    let headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6s")];

    assert_eq!(classify("groq", 429, &headers, b"").class, Class::Quota);
    assert_eq!(classify("openai", 429, &headers, b"").class, Class::Rate);
    assert_eq!(
        classify(
            "mistral",
            429,
            &[("x-ratelimit-remaining-tokens-month", "0"), ("x-ratelimit-remaining-req-minute", "3")],
            b""
        )
        .class,
        Class::Quota
    );
}

#[test]
fn a_long_wait_is_a_quota() {
    let failure = classify("generic", 429, &[("retry-after", "7200")], b"");

    assert_eq!((failure.class, failure.retry_after), (Class::Quota, Some(Duration::from_secs(7_200))));
}

#[test]
fn the_credential_and_the_host_are_hidden_wherever_they_are_repeated() {
    let credential = Secret::from("swordfish");
    let target =
        Target { base_url: "http://ollama.corp:8080/v1", model: "m", credential: Some(&credential), context_length: 0 };
    let body = br#"{"error":{"message":"token swordfish refused by ollama.corp:8080","param":"swordfish","code":"swordfish"}}"#;

    let failure = classify("generic", 400, &[], body).redacted(&target);

    let shown = format!("{failure:?}");
    assert!(!shown.contains("swordfish") && !shown.contains("ollama.corp"), "{shown}");
}

#[test]
fn only_the_callers_own_faults_spare_the_others() {
    for class in [Class::Invalid, Class::Blocked, Class::Cancelled] {
        assert!(!class.tries_next() && !class.repeats_same() && !class.counts_for_breaker(), "{class:?}");
    }
    for class in
        [Class::Overloaded, Class::Server, Class::Connect, Class::Timeout, Class::Malformed, Class::Interrupted]
    {
        assert!(class.tries_next() && class.counts_for_breaker(), "{class:?}");
    }
    for class in [Class::Quota, Class::Rate, Class::Auth, Class::Billing, Class::Context, Class::Unsupported] {
        assert!(class.tries_next() && !class.counts_for_breaker(), "{class:?}");
    }
}

#[test]
fn an_endless_error_body_is_read_in_bounded_time() {
    let deep = Bytes::from("[".repeat(200_000));
    let nested = format!("{{\"message\":{}1{}}}", "[".repeat(100), "]".repeat(100));

    assert_eq!(classify("generic", 500, &[], &deep).class, Class::Server);
    assert_eq!(classify("generic", 400, &[], nested.as_bytes()).class, Class::Invalid);
}
