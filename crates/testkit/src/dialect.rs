//! Good answers in the wire formats of the five providers, written from their documentation.

use std::time::Duration;

use serde_json::{Value, json};

use crate::upstream::{Answer, End};

/// The providers that every story about streams is told with, and a model of each.
pub const PROVIDERS: [(&str, &str); 5] = [
    ("groq", "groq/llama-3.3-70b-versatile"),
    ("mistral", "mistral/mistral-small-latest"),
    ("gemini", "gemini/gemini-2.5-flash"),
    ("openrouter", "openrouter/openai/gpt-oss-120b"),
    ("ollama", "ollama/qwen3:8b"),
];

/// The answer to a request for a list of models; None if the path asks for something else.
pub fn models(target: &str) -> Option<Value> {
    let path = target.split('?').next().unwrap_or_default();
    match path {
        "/api/tags" => Some(json!({"models": [{"name": "qwen3:8b", "model": "qwen3:8b"}]})),
        "/v1beta/models" => Some(json!({"models": [{"name": "models/gemini-2.5-flash"}]})),
        _ if path.ends_with("/models") => Some(json!({"object": "list", "data": [{"id": "m", "object": "model"}]})),
        _ => None,
    }
}

/// A good answer to the request, saying `text`.
pub fn good(target: &str, body: &[u8], text: &str) -> Answer {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let stream = body["stream"] == json!(true);
    if target.contains(":streamGenerateContent") {
        return sse(gemini_stream(text));
    }
    match target.split('?').next().unwrap_or_default() {
        "/api/chat" if stream => chunks("application/x-ndjson", ollama_stream(text).into_bytes()),
        "/api/chat" => Answer::json(200, &ollama_chat(text)),
        "/api/embed" => {
            Answer::json(200, &json!({"model": "m", "embeddings": vectors(&body["input"]), "prompt_eval_count": 3}))
        }
        path if path.ends_with(":generateContent") => Answer::json(200, &gemini_chat(text)),
        path if path.ends_with(":batchEmbedContents") => {
            let n = body["requests"].as_array().map_or(0, Vec::len);
            Answer::json(200, &json!({"embeddings": vec![json!({"values": [0.25, -0.5, 1.0]}); n]}))
        }
        path if path.ends_with(":embedContent") => {
            Answer::json(200, &json!({"embedding": {"values": [0.25, -0.5, 1.0]}}))
        }
        path if path.ends_with("/embeddings") => Answer::json(200, &openai_vectors(&body["input"])),
        _ if stream => sse(openai_stream(text)),
        _ => Answer::json(200, &openai_chat(text)),
    }
}

/// The stream that [`good`] sends for a provider, as content type and bytes.
pub fn stream(provider: &str, text: &str) -> (&'static str, Vec<u8>) {
    match provider {
        "ollama" => ("application/x-ndjson", ollama_stream(text).into_bytes()),
        "gemini" => ("text/event-stream", gemini_stream(text).into_bytes()),
        _ => ("text/event-stream", openai_stream(text).into_bytes()),
    }
}

fn sse(body: String) -> Answer {
    chunks("text/event-stream", body.into_bytes())
}

fn chunks(content_type: &str, body: Vec<u8>) -> Answer {
    Answer::Chunks {
        content_type: content_type.to_owned(),
        body,
        size: usize::MAX,
        pause: Duration::ZERO,
        end: End::Proper,
    }
}

/// OpenAI's chat completion.
pub fn openai_chat(text: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1_763_629_200, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": null}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}})
}

fn openai_stream(text: &str) -> String {
    let head = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_763_629_200, "model": "m"});
    let chunk = |choices: Value| {
        let mut chunk = head.clone();
        chunk["choices"] = choices;
        chunk
    };
    let mut events =
        vec![chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]))];
    for word in text.split_inclusive(' ') {
        events.push(chunk(json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}])));
    }
    events.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}])));
    let mut last = chunk(json!([]));
    last["usage"] = json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13});
    events.push(last);
    let mut body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    body.push_str("data: [DONE]\n\n");
    body
}

fn openai_vectors(input: &Value) -> Value {
    let data: Vec<_> = vectors(input)
        .into_iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}))
        .collect();
    json!({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
}

fn vectors(input: &Value) -> Vec<Value> {
    let n = input.as_array().map_or(1, Vec::len);
    vec![json!([0.25, -0.5, 1.0]); n]
}

fn gemini_chat(text: &str) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}, "modelVersion": "gemini-2.5-flash", "responseId": "g1"})
}

fn gemini_stream(text: &str) -> String {
    let words: Vec<_> = text.split_inclusive(' ').collect();
    let last = words.len().saturating_sub(1);
    let events = words.iter().enumerate().map(|(index, word)| {
        let mut event = gemini_chat(word);
        if index < last
            && let Some(candidate) = event["candidates"][0].as_object_mut()
        {
            candidate.remove("finishReason");
        }
        format!("data: {event}\r\n\r\n")
    });
    events.collect()
}

fn ollama_chat(text: &str) -> Value {
    json!({"model": "qwen3:8b", "created_at": "2026-11-20T09:00:00Z", "message": {"role": "assistant", "content": text},
        "done": true, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4})
}

fn ollama_stream(text: &str) -> String {
    let mut lines: Vec<_> = text
        .split_inclusive(' ')
        .map(|word| json!({"model": "qwen3:8b", "created_at": "2026-11-20T09:00:00Z", "message": {"role": "assistant", "content": word}, "done": false}))
        .collect();
    lines.push(ollama_chat(""));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
