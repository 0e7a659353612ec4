//! One trace from the caller through both processes to the provider.

use manifold_testkit::Upstream;
use serde_json::json;

use crate::story;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

story!(the_callers_trace_goes_through_to_the_rows_and_the_event, |builder| {
    let groq = Upstream::start().await?;
    let mut sandbox = builder.provider("groq", &groq).start().await?;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let body =
        json!({"model": "groq/llama-3.1-8b-instant", "messages": [{"role": "user", "content": "hi"}]}).to_string();

    let headers = [("content-type", "application/json"), ("traceparent", parent.as_str()), ("x-request-id", "mine-1")];
    let reply = sandbox.admin.send(http::Method::POST, "/v1/chat/completions", &headers, body.into_bytes()).await?;

    assert_eq!((reply.status, reply.header("x-request-id")), (200, "mine-1"));
    sandbox.halt().await;
    assert_eq!(sandbox.count(&format!("SELECT COUNT(*) FROM ai_request WHERE trace_id = '{TRACE}'")).await?, 1);
    sandbox.stop().await?;
    Ok(())
});
