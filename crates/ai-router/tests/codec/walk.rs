//! Every fixture through its decoder.

use manifold_ai_router::classify::Class;
use manifold_ai_router::provider::{Answer, Vectors};
use manifold_contract::ai::v1::{FinishReason, part};

use crate::collect::{answer, pieces};
use crate::fixtures::{self, Fixture};

#[test]
fn a_stream_amounts_to_the_whole_answer() {
    for stream in fixtures::streams() {
        let whole = fixtures::one(&format!("{}/{}.json", stream.provider, stream.name));

        let collected = answer(&pieces(stream.codec(), [stream.body.as_slice()]).unwrap());

        assert_eq!(collected, whole.codec().decode(&whole.body).unwrap(), "{}", stream.path());
    }
}

#[test]
fn failures_inside_a_success_are_what_their_names_say() {
    let inside = |fixture: &&Fixture| fixture.name.starts_with("inside_") || fixture.name.starts_with("fail_");
    for fixture in fixtures::all().iter().filter(inside) {
        let failure = match fixture.is_stream() {
            true => pieces(fixture.codec(), [fixture.body.as_slice()]).unwrap_err(),
            false => fixture.codec().decode(&fixture.body).unwrap_err(),
        };

        let (_, expected) = fixture.name.split_once('_').unwrap();
        assert!(expected.starts_with(failure.class.as_str()), "{}: {failure}", fixture.path());
        assert!(!failure.message.contains("://"), "{}: {failure}", fixture.path());
    }
}

#[test]
fn vectors_come_in_the_order_of_their_inputs() {
    for fixture in fixtures::all().iter().filter(|fixture| fixture.name.starts_with("embed")) {
        let Vectors { vectors, .. } = fixture.codec().decode_embed(&fixture.body).unwrap();

        assert_eq!(vectors[0].values, [0.125, -0.25], "{}", fixture.path());
        assert_eq!(vectors.len(), if fixture.name == "embed_one" { 1 } else { 2 }, "{}", fixture.path());
    }
}

#[test]
fn models_are_listed_by_name() {
    let rows = [
        ("openai/models.json", ["a-model", "org/b-model"]),
        ("generic/models_bare.json", ["a-model", "org/b-model"]),
        ("gemini/models.json", ["gemini-3-flash", "tunedModels/mine"]),
        ("ollama/models.json", ["qwen3:8b", "nomic-embed-text:latest"]),
    ];

    for (path, expected) in rows {
        let fixture = fixtures::one(path);

        assert_eq!(fixture.codec().decode_models(&fixture.body).unwrap(), expected, "{path}");
    }
}

fn decoded(path: &str) -> Answer {
    let fixture = fixtures::one(path);
    fixture.codec().decode(&fixture.body).unwrap()
}

#[test]
fn tool_calls_keep_their_text_and_end_the_answer() {
    let rows = [
        ("groq/tools.json", r#"{"city":"Paris","n":12345678901234567890,"n":1.50}"#),
        ("mistral/tools.json", r#"{"city": "Paris"}"#),
        ("gemini/tools.json", r#"{"city":"Paris","n":12345678901234567890}"#),
        ("ollama/tools.json", r#"{"city":"Paris","n":12345678901234567890}"#),
        ("openrouter/tools.json", r#"{"city":"Oslo"}"#),
        ("generic/tools_without_index.json", r#"{"city":"Paris"}"#),
    ];

    for (path, expected) in rows {
        let choice = decoded(path).choices.remove(0);

        assert_eq!(choice.finish_reason(), FinishReason::ToolCalls, "{path}");
        let Some(part::Kind::ToolCall(call)) = &choice.parts[0].kind else { panic!("{path}: {:?}", choice.parts) };
        assert_eq!(call.arguments_json, expected, "{path}");
        assert!(!call.id.is_empty(), "{path}");
    }
}

#[test]
fn usage_is_read_where_each_provider_puts_it() {
    let rows = [
        ("openai/two_choices.json", [9, 8, 2, 0]),
        ("groq/reasoning.json", [78, 64, 33, 20]),
        ("mistral/chat.json", [12, 0, 7, 0]),
        ("gemini/thinking.json", [8, 4, 15, 9]),
        ("openrouter/chat.json", [14, 3, 9, 2]),
        ("ollama/chat.json", [11, 0, 5, 0]),
        ("generic/keep_alive.json", [8, 6, 5, 0]),
        ("generic/reasoning_beside_output.json", [10, 0, 101, 100]),
        ("generic/after_the_end.json", [0, 0, 3, 0]),
    ];

    for (path, expected) in rows {
        let usage = decoded(path).usage.unwrap();

        assert_eq!(
            [usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens],
            expected,
            "{path}"
        );
    }
}

#[test]
fn only_openrouter_is_believed_about_cost() {
    assert_eq!(decoded("openrouter/chat.json").reported_cost.unwrap().0, 12_350);

    let fixture = fixtures::one("openrouter/chat.json");
    assert_eq!(fixtures::codec("generic").decode(&fixture.body).unwrap().reported_cost, None);
}

#[test]
fn signatures_stay_with_their_calls() {
    let choice = decoded("gemini/tools.json").choices.remove(0);

    assert_eq!(choice.parts[0].opaque, "CkQBVKhc7s+/==");
    assert_eq!(choice.parts[1].opaque, "");
}

#[test]
fn an_answer_that_is_none_is_malformed() {
    for id in ["openai", "gemini", "ollama"] {
        for body in ["", "<html></html>", "{", "{}", "[]", "null", "42", "{\"choices\":[],\"candidates\":[]}"] {
            let failure = fixtures::codec(id).decode(body.as_bytes()).unwrap_err();

            assert_eq!(failure.class, Class::Malformed, "{id}: {body}");
        }
    }
}
