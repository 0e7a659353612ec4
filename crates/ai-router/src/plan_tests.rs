use std::collections::BTreeMap;
use std::time::Duration;

use manifold_contract::ai::v1::{self as ai, part};
use manifold_core::{Code, Secret, Timestamp};

use super::*;
use crate::config::{Alias, Config, ProviderConfig, Tier};

const NOW: Timestamp = Timestamp::from_micros(1_763_629_200_000_000);

fn config(keys: &[&str]) -> Config {
    let with_key =
        |id: &&str| ((*id).to_owned(), ProviderConfig { api_key: Some(Secret::from("k")), ..Default::default() });
    Config {
        max_attempts: 4,
        first_token: Duration::from_secs(30),
        idle: Duration::from_secs(30),
        retention: Duration::from_secs(86_400),
        aliases: BTreeMap::new(),
        providers: keys.iter().map(with_key).collect(),
    }
}

fn view(keys: &[&str]) -> View {
    View::build(&config(keys)).unwrap()
}

fn names(candidates: &[Candidate]) -> Vec<String> {
    candidates.iter().map(Candidate::name).collect()
}

fn planned(view: &View, name: &str, needs: &Needs) -> Plan {
    plan(resolve(view, name, Kind::Chat).unwrap(), needs, Kind::Chat, NOW)
}

#[test]
fn splits_provider_and_model_at_the_first_slash_only() {
    let candidates = resolve(&view(&[]), "openrouter/meta-llama/llama-4:free", Kind::Chat).unwrap();

    assert_eq!(names(&candidates), ["openrouter/meta-llama/llama-4:free"]);
    assert_eq!(&*candidates[0].model.name, "meta-llama/llama-4:free");
}

#[test]
fn a_canonical_name_means_every_provider_that_serves_it() {
    let candidates = resolve(&view(&[]), "llama-3.3-70b", Kind::Chat).unwrap();

    assert_eq!(
        names(&candidates),
        ["groq/llama-3.3-70b-versatile", "openrouter/meta-llama/llama-3.3-70b-instruct:free"]
    );
}

#[test]
fn a_name_that_only_one_provider_uses_needs_no_provider() {
    assert_eq!(
        names(&resolve(&view(&[]), "mistral-small-latest", Kind::Chat).unwrap()),
        ["mistral/mistral-small-latest"]
    );
}

#[test]
fn an_alias_is_an_ordered_list_and_may_hold_aliases() {
    let mut config = config(&[]);
    config.aliases.insert("fast".into(), Alias::Many(vec!["groq/a".into(), "small".into()]));
    config.aliases.insert("small".into(), Alias::One("mistral/b".into()));

    let candidates = resolve(&View::build(&config).unwrap(), "fast", Kind::Chat).unwrap();

    assert_eq!(names(&candidates), ["groq/a", "mistral/b"]);
}

#[test]
fn an_alias_in_a_circle_stops_the_start() {
    let mut config = config(&[]);
    config.aliases.insert("a".into(), Alias::One("b".into()));
    config.aliases.insert("b".into(), Alias::One("a".into()));

    let error = View::build(&config).err().unwrap();

    assert!(error.message().contains("leads back to itself"), "{error}");
}

#[test]
fn an_unknown_model_is_404_with_the_nearest_names() {
    let error = resolve(&view(&[]), "gemini-2.5-flesh", Kind::Chat).err().unwrap();

    assert_eq!((error.code(), error.reason(), error.param()), (Code::NotFound, "MODEL_NOT_FOUND", Some("model")));
    assert!(error.message().contains("gemini-2.5-flash"), "{error}");
}

#[test]
fn auto_is_catalogue_order_of_what_has_a_credential() {
    let plan = planned(&view(&["mistral", "groq"]), "auto", &Needs::default());

    assert_eq!(plan.ordered[0].name(), "groq/llama-3.3-70b-versatile");
    assert!(plan.ordered.iter().all(|candidate| ["groq", "mistral"].contains(&&*candidate.endpoint.id)));
    assert!(
        plan.rejected
            .iter()
            .any(|(candidate, reason)| &*candidate.endpoint.id == "gemini" && *reason == Reason::NoCredential)
    );
}

#[test]
fn auto_leaves_out_what_cannot_do_the_job() {
    let needs = Needs { features: vec![Feature::Image], ..Default::default() };

    let plan = planned(&view(&["groq"]), "auto", &needs);

    assert_eq!(names(&plan.ordered), ["groq/meta-llama/llama-4-scout-17b-16e-instruct"]);
}

#[test]
fn nothing_is_ruled_out_for_a_model_of_which_only_the_name_is_known() {
    let needs =
        Needs { features: vec![Feature::Image, Feature::Logprobs], input_tokens: 10_000_000, ..Default::default() };

    assert_eq!(planned(&view(&["groq"]), "groq/brand-new", &needs).ordered.len(), 1);
}

#[test]
fn a_prompt_that_fits_nowhere_is_the_callers_fault() {
    let needs = Needs { input_tokens: 200_000, ..Default::default() };

    let error = nothing_left(&planned(&view(&["groq"]), "llama-3.1-8b", &needs), NOW);

    assert_eq!((error.code(), error.reason()), (Code::Invalid, "CONTEXT_LENGTH_EXCEEDED"));
}

#[test]
fn without_a_provider_the_error_names_what_to_set() {
    let error = nothing_left(&planned(&view(&[]), "auto", &Needs::default()), NOW);

    assert_eq!((error.code(), error.reason()), (Code::Unavailable, "NO_PROVIDER_CONFIGURED"));
    assert!(error.message().contains("GROQ_API_KEY or GEMINI_API_KEY"), "{error}");
}

#[test]
fn a_cooling_candidate_is_left_out_until_its_time() {
    let view = view(&["groq"]);
    let candidate = view.find("groq/llama-3.1-8b-instant").unwrap();
    candidate.model.breaker.block(NOW.after(Duration::from_secs(7)));

    let plan = planned(&view, "groq/llama-3.1-8b-instant", &Needs::default());
    let error = nothing_left(&plan, NOW);

    assert_eq!((error.reason(), error.delay()), ("RATE_LIMIT_EXCEEDED", Some(Duration::from_secs(7))));
}

#[test]
fn confidential_requests_avoid_tiers_that_train() {
    let mut config = config(&["gemini"]);
    config.providers.get_mut("gemini").unwrap().tier = Some(Tier::Free);
    let view = View::build(&config).unwrap();
    let needs = Needs { no_training: true, ..Default::default() };

    let plan = planned(&view, "gemini-2.5-flash", &needs);

    assert_eq!(plan.rejected[0].1, Reason::TrainsOnData);
}

#[test]
fn an_unknown_provider_needs_an_address() {
    let mut config = config(&["acme"]);
    let error = View::build(&config).err().unwrap();
    assert_eq!(error.param(), Some("ai.providers.acme"));

    config.providers.get_mut("acme").unwrap().base_url = Some("http://127.0.0.1:9/v1/".into());
    let view = View::build(&config).unwrap();

    assert_eq!(view.find("acme/m").unwrap().endpoint.base_url, "http://127.0.0.1:9/v1");
}

#[test]
fn reads_needs_from_the_content() {
    let part = |kind| ai::Part { kind: Some(kind), ..Default::default() };
    let request = ai::ChatRequest {
        messages: vec![ai::Message {
            role: ai::Role::User.into(),
            parts: vec![part(part::Kind::Text("a".repeat(40))), part(part::Kind::Image(ai::Media::default()))],
            name: String::new(),
        }],
        tools: vec![ai::Tool::default()],
        sampling: Some(ai::Sampling { n: Some(2), ..Default::default() }),
        routing: Some(ai::Routing { labels: vec!["confidential".into()], ..Default::default() }),
        ..Default::default()
    };

    let needs = needs(&request);

    assert_eq!(needs.features, [Feature::Tools, Feature::N, Feature::Image]);
    assert_eq!((needs.input_tokens, needs.no_training), (14, true));
}
