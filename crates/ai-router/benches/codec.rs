//! What the codecs cost: parsing events, a chat there and back, a streamed answer.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use manifold_ai_router::provider::{self, Mode, Provider, Target};
use manifold_ai_router::sse;
use manifold_contract::ai::v1::{self as ai, Role, part};
use manifold_core::Secret;

const TARGET: &str = "http://127.0.0.1:9";

/// A conversation of about 4 KiB.
fn conversation() -> ai::ChatRequest {
    let sentence = "The quick brown fox said \"hello\" to the lazy dog.\n".repeat(8);
    let message = |role: Role| ai::Message {
        role: role.into(),
        parts: vec![ai::Part { kind: Some(part::Kind::Text(sentence.clone())), ..ai::Part::default() }],
        name: String::new(),
    };
    let schema =
        r#"{"type":"object","properties":{"city":{"type":"string","description":"where"}},"required":["city"]}"#;
    ai::ChatRequest {
        messages: (0..8).map(|turn| message(if turn % 2 == 0 { Role::User } else { Role::Assistant })).collect(),
        tools: vec![ai::Tool {
            name: "get_weather".to_owned(),
            description: "Weather of a city".to_owned(),
            parameters_json: schema.to_owned(),
            strict: None,
        }],
        sampling: Some(ai::Sampling {
            max_output_tokens: Some(256),
            temperature: Some(0.7),
            ..ai::Sampling::default()
        }),
        dialect: "openai".to_owned(),
        ..ai::ChatRequest::default()
    }
}

fn whole_answer() -> String {
    let text = "The quick brown fox said \\\"hello\\\".\\n".repeat(20);
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1795174821,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":900,"completion_tokens":200,"total_tokens":1100,"prompt_tokens_details":{{"cached_tokens":0}}}}}}"#
    )
}

fn streamed_answer(n_chunks: usize) -> String {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1795174821,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let deltas: String = (0..n_chunks).map(|_| chunk("{\"content\":\" word\"}", "null")).collect();
    deltas + &chunk("{}", "\"stop\"") + "data: [DONE]\n\n"
}

fn codec(id: &str) -> &'static dyn Provider {
    provider::builtin(id).expect("it is built in")
}

fn chats(criterion: &mut Criterion) {
    let (request, credential) = (conversation(), Secret::from("key"));
    let target = Target { base_url: TARGET, model: "m", credential: Some(&credential), context_length: 0 };
    for id in ["groq", "mistral", "gemini", "ollama"] {
        criterion.bench_function(&format!("encode 4 KiB chat for {id}"), |bencher| {
            bencher.iter(|| codec(id).encode(&target, black_box(&request), Mode::Whole));
        });
    }
    let answer = whole_answer();
    criterion.bench_function("decode 1 KiB answer of groq", |bencher| {
        bencher.iter(|| codec("groq").decode(black_box(answer.as_bytes())));
    });
}

fn streams(criterion: &mut Criterion) {
    let body = streamed_answer(100);
    let mut group = criterion.benchmark_group("100 chunks");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("parse events", |bencher| {
        bencher.iter(|| {
            let (mut parser, mut bytes) = (sse::Parser::default(), 0);
            let outcome = parser.feed(black_box(body.as_bytes()), |event| {
                bytes += event.data.len();
                Ok(())
            });
            (outcome, bytes)
        });
    });
    group.bench_function("decode stream of groq", |bencher| {
        let mut pieces = Vec::new();
        bencher.iter(|| {
            pieces.clear();
            let mut decoder = codec("groq").decoder();
            for chunk in black_box(body.as_bytes()).chunks(1_400) {
                decoder.feed(chunk, &mut pieces).expect("the stream is well-formed");
            }
            decoder.finish(&mut pieces)
        });
    });
    group.finish();
}

criterion_group!(benches, chats, streams);
criterion_main!(benches);
