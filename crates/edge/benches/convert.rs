//! What it costs to turn OpenAI's JSON into the contract and back.
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it cannot go on")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use manifold_contract::ai::v1::chat_stream_response::Kind;
use manifold_contract::ai::v1::part::Kind as PartKind;
use manifold_contract::ai::v1::{
    ChatResponse, ChatStreamResponse, Choice, ChoiceEnd, Part, Served, Started, TextDelta, Usage,
};
use manifold_core::RequestId;
use manifold_edge::measured::{decode_chat, encode_chat, encode_stream};

/// A chat of about `size` bytes in ten turns, with a line end in each so that text has escapes.
fn request(size: usize) -> Vec<u8> {
    let turn = |role: &str| format!(r#"{{"role":"{role}","content":"{}\n"}}"#, "word ".repeat(size / 50));
    let turns: Vec<_> = (0..5).flat_map(|_| [turn("user"), turn("assistant")]).collect();
    let head = r#""model":"groq/llama-3.3-70b-versatile","temperature":0.7,"max_tokens":500,"stream":false"#;
    format!(r#"{{{head},"messages":[{}]}}"#, turns.join(",")).into_bytes()
}

fn served() -> Served {
    Served {
        provider: "groq".to_owned(),
        model: "llama-3.3-70b-versatile".to_owned(),
        n_attempts: 1,
        cost_nanos: Some(412_000),
        price_state: "priced".to_owned(),
        ..Served::default()
    }
}

fn response(size: usize) -> ChatResponse {
    let part = Part { kind: Some(PartKind::Text("word ".repeat(size / 5))), ..Part::default() };
    let choice = Choice { parts: vec![part], finish_reason: 1, ..Choice::default() };
    let usage = Some(Usage { input_tokens: 9, output_tokens: 12, ..Usage::default() });
    ChatResponse { id: "chatcmpl-1".to_owned(), created: 7, choices: vec![choice], usage, served: Some(served()) }
}

fn stream(pieces: usize) -> Vec<ChatStreamResponse> {
    let started = Kind::Started(Started { id: "chatcmpl-1".to_owned(), created: 7, served: Some(served()) });
    let piece = || Kind::TextDelta(TextDelta { text: " word".to_owned(), ..TextDelta::default() });
    let end = [Kind::ChoiceEnd(ChoiceEnd { choice: 0, finish_reason: 1 }), Kind::Finished(served())];
    let kinds = std::iter::once(started).chain((0..pieces).map(|_| piece())).chain(end);
    kinds.map(|kind| ChatStreamResponse { kind: Some(kind) }).collect()
}

fn convert(criterion: &mut Criterion) {
    for size in [300, 4_096] {
        let (body, answer) = (request(size), response(size));
        let mut group = criterion.benchmark_group("openai");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("decode a chat of {size} bytes"), |bencher| {
            bencher.iter(|| decode_chat(black_box(&body)).unwrap());
        });
        group.bench_function(format!("encode an answer of {size} bytes"), |bencher| {
            bencher.iter(|| encode_chat(black_box(&answer)).unwrap());
        });
        group.finish();
    }
    let messages = stream(1_000);
    criterion.bench_function("openai/encode a stream of 1000 pieces", |bencher| {
        bencher.iter(|| encode_stream(RequestId(uuid::Uuid::nil()), black_box(messages.clone())).unwrap());
    });
}

criterion_group!(benches, convert);
criterion_main!(benches);
