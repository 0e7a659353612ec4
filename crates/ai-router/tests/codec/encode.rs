//! What is sent to each provider.

use bytes::Bytes;
use http::Request;
use insta::assert_snapshot;
use manifold_ai_router::classify::Class;
use manifold_ai_router::provider::{Encoded, Mode};
use manifold_contract::ai::v1::{self as ai, Role, embed_input, format, part, tool_choice};
use manifold_core::Secret;

use crate::fixtures::codec;
use crate::requests::{PROVIDERS, body, call, chat, encode, everything, message, result, sent, shown, target, text};

#[test]
fn each_provider_is_sent_everything_in_its_own_words() {
    for id in PROVIDERS {
        let encoded = encode(id, &everything(), Mode::Stream).unwrap();

        assert_snapshot!(*id, shown(&encoded));
    }
}

#[test]
fn texts_and_arguments_are_sent_as_they_are() {
    let rows = [
        ("openai", r#""arguments":"{\"city\":\"Paris\",\"n\":12345678901234567890}""#),
        ("mistral", r#""arguments":"{\"city\":\"Paris\",\"n\":12345678901234567890}""#),
        ("gemini", r#""args":{"city":"Paris","n":12345678901234567890}"#),
        ("gemini", r#""response":{"result":{"t":1.50}}"#),
        ("ollama", r#""arguments":{"city":"Paris","n":12345678901234567890}"#),
    ];

    for (id, expected) in rows {
        let sent = sent(id, &everything());

        assert!(sent.contains(expected), "{id}: {sent}");
    }
}

#[test]
fn the_smallest_request_is_small() {
    let request = chat(vec![text(Role::User, "data: \"hi\"\n\n[DONE] \u{7}")]);
    let content = r#"data: \"hi\"\n\n[DONE] \u0007"#;

    assert_eq!(
        sent("openai", &request),
        format!(r#"{{"model":"a-model","messages":[{{"role":"user","content":"{content}"}}]}}"#)
    );
    assert_eq!(
        sent("gemini", &request),
        format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{content}"}}]}}],"generationConfig":{{}}}}"#)
    );
    assert_eq!(
        sent("ollama", &request),
        format!(
            r#"{{"model":"a-model","messages":[{{"role":"user","content":"{content}"}}],"stream":false,"truncate":false,"options":{{"num_ctx":4096}}}}"#
        )
    );
}

#[test]
fn streams_always_ask_for_usage() {
    let rows = [
        ("openai", r#""stream":true,"stream_options":{"include_usage":true}}"#),
        ("groq", r#""stream":true,"stream_options":{"include_usage":true}}"#),
        ("mistral", r#""stream":true}"#),
        ("ollama", r#""stream":true"#),
    ];

    for (id, expected) in rows {
        let encoded = encode(id, &chat(vec![text(Role::User, "hi")]), Mode::Stream).unwrap();

        assert!(body(&encoded).contains(expected), "{id}: {}", body(&encoded));
    }
}

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> Option<&'a str> {
    request.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn credentials_are_in_headers_and_never_in_addresses() {
    let credential = Secret::from("swordfish");
    let request = chat(vec![text(Role::User, "hi")]);
    let rows = [
        ("openai", "authorization", "Bearer swordfish", "/base/chat/completions"),
        ("ollama", "authorization", "Bearer swordfish", "/base/api/chat"),
        ("gemini", "x-goog-api-key", "swordfish", "/base/models/a-model:streamGenerateContent?alt=sse"),
    ];

    for (id, name, value, path) in rows {
        let Encoded { request, .. } =
            codec(id).encode(&target("a-model", Some(&credential)), &request, Mode::Stream).unwrap();

        assert_eq!(header(&request, name), Some(value), "{id}");
        assert!(request.headers()[name].is_sensitive(), "{id}");
        assert_eq!(request.uri().path_and_query().unwrap(), path, "{id}");
        assert_eq!(header(&request, "content-type"), Some("application/json"), "{id}");
        assert!(!format!("{request:?}").contains("swordfish"), "{id}");
    }
}

#[test]
fn openrouter_learns_who_calls() {
    let Encoded { request, .. } = encode("openrouter", &chat(vec![text(Role::User, "hi")]), Mode::Whole).unwrap();

    assert_eq!(header(&request, "x-title"), Some("Manifold"));
    assert!(header(&request, "http-referer").is_some());
}

#[test]
fn openrouter_keeps_private_prompts_from_those_who_train() {
    let routing = ai::Routing { labels: vec!["confidential".to_owned()], ..ai::Routing::default() };
    let extras = [("provider".to_owned(), r#"{"order":["Groq"],"data_collection":"allow"}"#.to_owned())].into();
    let request = ai::ChatRequest { routing: Some(routing), extras, ..chat(vec![text(Role::User, "hi")]) };

    let sent = sent("openrouter", &request);

    assert!(sent.ends_with(r#""provider":{"data_collection":"deny","order":["Groq"]}}"#), "{sent}");
}

#[test]
fn a_credential_or_a_model_that_could_break_out_is_refused() {
    let broken = Secret::from("a\r\nx-evil: 1");
    let request = chat(vec![text(Role::User, "hi")]);

    let failure = codec("groq").encode(&target("m", Some(&broken)), &request, Mode::Whole).unwrap_err();
    assert_eq!(failure.class, Class::Auth);

    for model in ["../secret", "a?key=1", "a b", "a%2fb", "", "a//b"] {
        let failure = codec("gemini").encode(&target(model, None), &request, Mode::Whole).unwrap_err();

        assert_eq!(failure.class, Class::Gone, "{model}");
    }
}

#[test]
fn needs_that_a_provider_cannot_fulfil_are_refused() {
    let two = ai::Sampling { n: Some(2), ..ai::Sampling::default() };
    let logprobs = ai::Sampling { logprobs: Some(true), ..ai::Sampling::default() };
    let forced = ai::ToolChoice { mode: tool_choice::Mode::Required.into(), ..ai::ToolChoice::default() };
    let base = chat(vec![text(Role::User, "hi")]);
    let tools = vec![ai::Tool { name: "f".to_owned(), ..ai::Tool::default() }];
    let rows = [
        ("groq", ai::ChatRequest { sampling: Some(two.clone()), ..base.clone() }, "n"),
        ("groq", ai::ChatRequest { sampling: Some(logprobs), ..base.clone() }, "logprobs"),
        ("ollama", ai::ChatRequest { sampling: Some(two), ..base.clone() }, "n"),
        ("ollama", ai::ChatRequest { tools, tool_choice: Some(forced), ..base }, "tool_choice"),
    ];

    for (id, request, param) in rows {
        let failure = encode(id, &request, Mode::Whole).unwrap_err();

        assert_eq!((failure.class, failure.param.as_deref()), (Class::Unsupported, Some(param)), "{id}");
    }
}

#[test]
fn forced_tools_are_written_in_each_dialect() {
    let forced = |mode: tool_choice::Mode| ai::ChatRequest {
        tools: vec![ai::Tool { name: "f".to_owned(), ..ai::Tool::default() }],
        tool_choice: Some(ai::ToolChoice { mode: mode.into(), name: "f".to_owned(), parallel: None }),
        ..chat(vec![text(Role::User, "hi")])
    };
    let rows = [
        ("openai", tool_choice::Mode::Required, r#""tool_choice":"required""#),
        ("mistral", tool_choice::Mode::Required, r#""tool_choice":"any""#),
        ("groq", tool_choice::Mode::Named, r#""tool_choice":{"type":"function","function":{"name":"f"}}"#),
        ("gemini", tool_choice::Mode::Required, r#""functionCallingConfig":{"mode":"ANY"}"#),
        ("gemini", tool_choice::Mode::Named, r#""functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f"]}"#),
        ("gemini", tool_choice::Mode::None, r#""functionCallingConfig":{"mode":"NONE"}"#),
    ];

    for (id, mode, expected) in rows {
        assert!(sent(id, &forced(mode)).contains(expected), "{id}: {}", sent(id, &forced(mode)));
    }
    assert!(!sent("ollama", &forced(tool_choice::Mode::None)).contains("tools"));
}

#[test]
fn media_go_as_bytes_or_by_address() {
    let media = |mime: &str, data: &'static [u8], url: &str| ai::Media {
        mime: mime.to_owned(),
        data: Bytes::from_static(data),
        url: url.to_owned(),
        ..ai::Media::default()
    };
    let request = |kind: part::Kind| chat(vec![message(Role::User, vec![kind])]);
    let image = request(part::Kind::Image(media("image/png", b"abc", "")));
    let linked = request(part::Kind::Image(media("", b"", "https://x.example/a.png")));
    let sound = request(part::Kind::Audio(media("audio/mpeg", b"abc", "")));
    let document = request(part::Kind::File(media("application/pdf", b"abc", "")));
    let rows = [
        ("openai", &image, r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,YWJj"}}"#),
        ("openai", &linked, r#"{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}"#),
        ("gemini", &image, r#"{"inlineData":{"mimeType":"image/png","data":"YWJj"}}"#),
        ("ollama", &image, r#""images":["YWJj"]"#),
        ("openai", &sound, r#"{"type":"input_audio","input_audio":{"data":"YWJj","format":"mp3"}}"#),
        ("mistral", &sound, r#"{"type":"input_audio","input_audio":"YWJj"}"#),
        ("openai", &document, r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,YWJj"}}"#),
        ("mistral", &document, r#"{"type":"document_url","document_url":"data:application/pdf;base64,YWJj"}"#),
        ("gemini", &document, r#"{"inlineData":{"mimeType":"application/pdf","data":"YWJj"}}"#),
    ];

    for (id, request, expected) in rows {
        assert!(sent(id, request).contains(expected), "{id}: {}", sent(id, request));
    }
    for id in ["gemini", "ollama"] {
        assert!(codec(id).inlines_media());
        assert_eq!(encode(id, &linked, Mode::Whole).unwrap_err().class, Class::Invalid, "{id}");
    }
    assert_eq!(encode("ollama", &sound, Mode::Whole).unwrap_err().class, Class::Unsupported);
}

#[test]
fn gemini_gets_one_result_for_every_call_in_order() {
    let request = chat(vec![
        message(Role::Assistant, vec![call("a", "f", "{}"), call("b", "g", "not json")]),
        result("b", "second"),
        result("zzz", "nobody asked"),
        text(Role::User, "go on"),
    ]);

    let encoded = encode("gemini", &request, Mode::Whole).unwrap();

    assert_snapshot!("gemini_pairs_calls_and_results", shown(&encoded));
}

#[test]
fn signatures_go_back_only_to_their_maker() {
    let with = |origin: &str| {
        let mut request =
            chat(vec![text(Role::User, "hi"), message(Role::Assistant, vec![call("a", "f", "{}")]), result("a", "1")]);
        request.messages[1].parts[0].opaque = Bytes::from_static(b"CkQ+/==");
        request.messages[1].parts[0].origin = origin.to_owned();
        request
    };
    let sent = |model: &str, origin: &str| {
        let encoded = codec("gemini").encode(&target(model, None), &with(origin), Mode::Whole).unwrap();
        body(&encoded)
    };

    for origin in ["", "gemini/gemini-3-flash"] {
        assert!(sent("gemini-3-flash", origin).contains(r#""thoughtSignature":"CkQ+/==""#), "{origin}");
    }
    assert!(
        sent("gemini-3-pro", "gemini/gemini-3-flash")
            .contains(r#""thoughtSignature":"skip_thought_signature_validator""#)
    );
    assert!(!sent("gemini-2.5-flash", "groq/x").contains("thoughtSignature"));
}

#[test]
fn reasoning_effort_becomes_what_the_model_knows() {
    let rows = [
        ("gemini", "gemini-3-flash", "none", r#""thinkingConfig":{"includeThoughts":false,"thinkingLevel":"MINIMAL"}"#),
        ("gemini", "gemini-3-flash", "max", r#""thinkingConfig":{"includeThoughts":true,"thinkingLevel":"HIGH"}"#),
        ("gemini", "gemini-2.5-flash", "low", r#""thinkingConfig":{"includeThoughts":true,"thinkingBudget":1024}"#),
        ("gemini", "gemini-2.5-flash", "none", r#""thinkingConfig":{"includeThoughts":false,"thinkingBudget":0}"#),
        ("ollama", "qwen3:8b", "high", r#""think":true"#),
        ("ollama", "gpt-oss:20b", "max", r#""think":"high""#),
        ("groq", "m", "minimal", r#""reasoning_effort":"low""#),
    ];

    for (id, model, effort, expected) in rows {
        let request = ai::ChatRequest { reasoning_effort: effort.to_owned(), ..chat(vec![text(Role::User, "hi")]) };

        let encoded = codec(id).encode(&target(model, None), &request, Mode::Whole).unwrap();

        assert!(body(&encoded).contains(expected), "{id} {model} {effort}: {}", body(&encoded));
    }
}

#[test]
fn raw_pieces_that_are_no_json_never_reach_a_body() {
    let evil = r#"{}},"model":"other","#;
    let base = chat(vec![text(Role::User, "hi")]);
    let tool = ai::Tool { name: "f".to_owned(), parameters_json: evil.to_owned(), ..ai::Tool::default() };
    let format =
        ai::Format { kind: format::Kind::JsonSchema.into(), schema_json: evil.to_owned(), ..ai::Format::default() };
    let rows = [
        ai::ChatRequest { tools: vec![tool], ..base.clone() },
        ai::ChatRequest { format: Some(format), ..base.clone() },
    ];

    for request in &rows {
        for id in PROVIDERS {
            assert_eq!(encode(id, request, Mode::Whole).unwrap_err().class, Class::Invalid, "{id}");
        }
    }
    let extra = ai::ChatRequest { extras: [("x".to_owned(), evil.to_owned())].into(), ..base };
    assert_eq!(encode("openai", &extra, Mode::Whole).unwrap_err().class, Class::Invalid);
}

#[test]
fn vectors_are_asked_for_in_each_dialect() {
    let input = |text: &str| ai::EmbedInput { kind: Some(embed_input::Kind::Text(text.to_owned())) };
    let tokens = ai::EmbedInput { kind: Some(embed_input::Kind::Tokens(ai::Tokens { ids: vec![1, 2] })) };
    let request =
        |inputs| ai::EmbedRequest { inputs, dimensions: Some(64), user: "u".to_owned(), ..ai::EmbedRequest::default() };
    let two = request(vec![input("a"), input("b")]);
    let rows = [
        (
            "openai",
            &two,
            "/base/embeddings",
            r#"{"model":"a-model","input":["a","b"],"encoding_format":"float","dimensions":64,"user":"u"}"#,
        ),
        (
            "mistral",
            &two,
            "/base/embeddings",
            r#"{"model":"a-model","input":["a","b"],"encoding_format":"float","output_dimension":64}"#,
        ),
        (
            "ollama",
            &two,
            "/base/api/embed",
            r#"{"model":"a-model","input":["a","b"],"truncate":false,"dimensions":64}"#,
        ),
        (
            "gemini",
            &two,
            "/base/models/a-model:batchEmbedContents",
            r#"{"requests":[{"model":"models/a-model","content":{"parts":[{"text":"a"}]},"outputDimensionality":64},{"model":"models/a-model","content":{"parts":[{"text":"b"}]},"outputDimensionality":64}]}"#,
        ),
        (
            "gemini",
            &request(vec![input("a")]),
            "/base/models/a-model:embedContent",
            r#"{"model":"models/a-model","content":{"parts":[{"text":"a"}]},"outputDimensionality":64}"#,
        ),
        (
            "openai",
            &request(vec![tokens.clone()]),
            "/base/embeddings",
            r#"{"model":"a-model","input":[[1,2]],"encoding_format":"float","dimensions":64,"user":"u"}"#,
        ),
    ];

    for (id, request, path, expected) in rows {
        let encoded = codec(id).encode_embed(&target("a-model", None), request).unwrap();

        assert_eq!((encoded.request.uri().path(), body(&encoded).as_str()), (path, expected), "{id}");
    }
    for id in ["mistral", "gemini", "ollama"] {
        let failure = codec(id).encode_embed(&target("a-model", None), &request(vec![tokens.clone()])).unwrap_err();

        assert_eq!(failure.class, Class::Unsupported, "{id}");
    }
}
