//! Properties that hold for all inputs.

use manifold_ai_router::{ndjson, sse};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::collect::{answer, pieces};
use crate::fixtures::codec;

/// A delta: text of the model or of its thinking.
fn deltas() -> impl Strategy<Value = Vec<(bool, String)>> {
    vec((any::<bool>(), ".{1,12}"), 1..8)
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let body = json!({"id": "x", "created": 5, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!("data: {body}\n\n")
}

/// Cuts bytes at pseudo-random places.
fn cut(bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let (mut rest, mut state, mut chunks) = (bytes, seed, Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (chunk, tail) = rest.split_at(usize::try_from(state >> 33).unwrap() % rest.len() + 1);
        chunks.push(chunk);
        rest = tail;
    }
    chunks
}

proptest! {
    #[test]
    fn any_stream_in_any_pieces_amounts_to_its_whole(deltas in deltas(), arguments in ".{0,40}", seed: u64) {
        let mut thinking_first = deltas.clone();
        thinking_first.sort_by_key(|(is_text, _)| *is_text);
        let join = |wanted: bool| thinking_first.iter().filter(|(is_text, _)| *is_text == wanted).map(|(_, text)| text.as_str()).collect::<String>();
        let call = |arguments: &str| json!([{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": arguments}}]);
        let mut stream: String = thinking_first.iter().map(|(is_text, text)| chunk(&json!({if *is_text { "content" } else { "reasoning" }: text}), None)).collect();
        let middle = arguments.char_indices().nth(arguments.chars().count() / 2).map_or(0, |(at, _)| at);
        stream += &chunk(&json!({"tool_calls": call(&arguments[..middle])}), None);
        stream += &chunk(&json!({"tool_calls": [{"index": 0, "function": {"arguments": &arguments[middle..]}}]}), Some("stop"));
        let message = json!({"content": join(true), "reasoning": join(false), "tool_calls": call(&arguments)});
        let whole = json!({"id": "x", "created": 5, "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});

        let collected = answer(&pieces(codec("generic"), cut(stream.as_bytes(), seed)).unwrap());

        prop_assert_eq!(collected, codec("generic").decode(whole.to_string().as_bytes()).unwrap());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200), seed: u64) {
        for id in ["openai", "gemini", "ollama"] {
            prop_assert!(pieces(codec(id), cut(&bytes, seed)).is_err());
            prop_assert!(codec(id).decode(&bytes).is_err());
        }
    }

    #[test]
    fn events_do_not_depend_on_how_they_are_cut(text in "(data: ?|event: ?|:|[a-z{}é]|\r|\n|\r\n){0,60}", seed: u64) {
        let events = |chunks: Vec<&[u8]>| {
            let (mut parser, mut found) = (sse::Parser::default(), Vec::new());
            for chunk in chunks {
                parser.feed(chunk, |event| { found.push((event.name.to_vec(), event.data.to_vec())); Ok(()) }).unwrap();
            }
            parser.finish(|event| { found.push((event.name.to_vec(), event.data.to_vec())); Ok(()) }).unwrap();
            (found, parser.stray().to_vec())
        };

        prop_assert_eq!(events(cut(text.as_bytes(), seed)), events(vec![text.as_bytes()]));
    }

    #[test]
    fn lines_do_not_depend_on_how_they_are_cut(text in "([a-zé ]|\r|\n){0,60}", seed: u64) {
        let lines = |chunks: Vec<&[u8]>| {
            let (mut parser, mut found) = (ndjson::Parser::default(), Vec::new());
            for chunk in chunks {
                parser.feed(chunk, |line| { found.push(line.to_vec()); Ok(()) }).unwrap();
            }
            parser.finish(|line| { found.push(line.to_vec()); Ok(()) }).unwrap();
            found
        };

        prop_assert_eq!(lines(cut(text.as_bytes(), seed)), lines(vec![text.as_bytes()]));
    }
}
