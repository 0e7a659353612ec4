//! Images by address, for a provider that takes none.

use std::time::Duration;

use anyhow::Result;
use manifold_testkit::{Answer, Client, Reply, Upstream};
use serde_json::json;

use crate::story;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand the rest";
/// The same in base64.
const ENCODED: &str = "iVBORw0KGgphbmQgdGhlIHJlc3Q=";
const GEMINI: &str = "gemini/gemini-2.5-flash";

fn picture(body: &[u8]) -> Answer {
    Answer::Whole { status: 200, headers: vec![("content-type".into(), "image/png".into())], body: body.to_vec() }
}

async fn describe(client: &Client, model: &str, origin: &Upstream, path: &str) -> Result<Reply> {
    let image = json!({"type": "image_url", "image_url": {"url": format!("http://{}{path}", origin.address)}});
    let content = json!([{"type": "text", "text": "what is this?"}, image]);
    let messages = json!([{"role": "user", "content": content}]);
    client.post("/v1/chat/completions", &json!({"model": model, "messages": messages})).await
}

story!(an_image_by_address_is_sent_inside_and_fetched_once_for_a_while, |builder| {
    let (gemini, origin) = (Upstream::start().await?, Upstream::start().await?);
    origin.always(picture(PNG));
    let builder = builder.provider("gemini", &gemini).set("runtime.egress.allow", origin.address.to_string());
    let sandbox = builder.start().await?;

    for _ in 0..3 {
        let reply = describe(&sandbox.admin, GEMINI, &origin, "/cat.png").await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }

    let sent = gemini.last().expect("it was asked").body;
    assert_eq!(sent["contents"][0]["parts"][1]["inlineData"], json!({"mimeType": "image/png", "data": ENCODED}));
    assert_eq!((gemini.hits(), origin.hits()), (3, 1));
    // Later it is fetched anew, and if it cannot be, the one that is here does for some more time.
    origin.always(Answer::status(503, None));
    sandbox.clock.advance(Duration::from_secs(301));
    assert_eq!(describe(&sandbox.admin, GEMINI, &origin, "/cat.png").await?.status, 200);
    assert_eq!(origin.hits(), 2);
    sandbox.clock.advance(Duration::from_secs(301));
    assert_eq!(describe(&sandbox.admin, GEMINI, &origin, "/cat.png").await?.status, 400);
    sandbox.stop().await?;
    Ok(())
});

story!(what_is_no_image_is_refused_and_not_kept, |builder| {
    let (gemini, origin) = (Upstream::start().await?, Upstream::start().await?);
    origin
        .next(picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>"))
        .next(Answer::status(404, None))
        .always(picture(PNG));
    let builder = builder.provider("gemini", &gemini).set("runtime.egress.allow", origin.address.to_string());
    let sandbox = builder.start().await?;

    let drawing = describe(&sandbox.admin, GEMINI, &origin, "/cat.png").await?;
    let missing = describe(&sandbox.admin, GEMINI, &origin, "/cat.png").await?;
    let found = describe(&sandbox.admin, GEMINI, &origin, "/cat.png").await?;

    let error = |reply: &Reply| (reply.status, reply.json()["error"]["code"].clone());
    assert_eq!(error(&drawing), (400, json!("invalid_image_url")), "{}", drawing.text);
    assert_eq!(error(&missing), (400, json!("invalid_image_url")), "{}", missing.text);
    assert!(drawing.text.contains("no PNG, JPEG, GIF or WebP") && missing.text.contains("does not answer 200"));
    assert_eq!((found.status, gemini.hits()), (200, 1), "{}", found.text);
    sandbox.stop().await?;
    Ok(())
});

story!(an_image_that_cannot_be_fetched_goes_to_a_provider_that_looks_for_itself, |builder| {
    let (gemini, openai, origin) = (Upstream::start().await?, Upstream::start().await?, Upstream::start().await?);
    let models = r#"["gemini/gemini-2.5-flash", "openai/gpt-4o-mini"]"#;
    let builder = builder.provider("gemini", &gemini).provider("openai", &openai).set("ai.aliases.eyes", models);
    let sandbox = builder.start().await?;

    let reply = describe(&sandbox.admin, "eyes", &origin, "/cat.png").await?;

    assert_eq!((reply.status, reply.header("x-manifold-provider")), (200, "openai"), "{}", reply.text);
    let address = format!("http://{}/cat.png", origin.address);
    assert_eq!(
        openai.last().expect("it was asked").body["messages"][0]["content"][1]["image_url"]["url"],
        json!(address)
    );
    assert_eq!((gemini.hits(), origin.hits()), (0, 0), "nothing was sent, and nothing inside the house was asked");
    sandbox.stop().await?;
    Ok(())
});
