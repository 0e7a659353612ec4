//! Vectors, in both encodings, and only from the model that was named.

use manifold_testkit::{Answer, Upstream};
use serde_json::json;

use crate::story;

const MODELS: [(&str, &str); 5] = [
    ("groq", "groq/some-embedder"),
    ("mistral", "mistral/mistral-embed"),
    ("gemini", "gemini/gemini-embedding-001"),
    ("openrouter", "openrouter/some-embedder"),
    ("ollama", "ollama/nomic-embed-text"),
];

story!(each_of_the_five_providers_makes_vectors, |builder| {
    let upstream = Upstream::start().await?;
    let builder = MODELS.iter().fold(builder, |builder, (provider, _)| builder.provider(provider, &upstream));
    let sandbox = builder.start().await?;

    for (provider, model) in MODELS {
        let plain = sandbox.admin.post("/v1/embeddings", &json!({"model": model, "input": ["a", "b"]})).await?;
        let packed = sandbox
            .admin
            .post("/v1/embeddings", &json!({"model": model, "input": "a", "encoding_format": "base64"}))
            .await?;

        assert_eq!(plain.status, 200, "{provider}: {}", plain.text);
        assert_eq!(
            plain.json()["data"][1],
            json!({"object": "embedding", "index": 1, "embedding": [0.25, -0.5, 1.0]}),
            "{provider}"
        );
        assert_eq!(packed.json()["data"][0]["embedding"], "AACAPgAAAL8AAIA/", "{provider}: little-endian f32");
    }
    sandbox.stop().await?;
    Ok(())
});

story!(vectors_never_come_from_another_model, |builder| {
    let (mistral, openai) = (Upstream::start().await?, Upstream::start().await?);
    mistral.always(Answer::status(500, None));
    let builder = builder.provider("mistral", &mistral).provider("openai", &openai);
    let sandbox = builder
        .set("ai.aliases.vectors", r#"["mistral/mistral-embed", "openai/text-embedding-3-small"]"#)
        .start()
        .await?;

    let reply = sandbox.admin.post("/v1/embeddings", &json!({"model": "vectors", "input": "a"})).await?;

    assert_eq!((reply.status, openai.hits()), (502, 0), "{}", reply.text);
    sandbox.stop().await?;
    Ok(())
});
