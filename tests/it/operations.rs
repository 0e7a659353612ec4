//! What operators see: probes, metrics, the contract, a clean stop.

use manifold_testkit::{Sandbox, Shape, Upstream};

use crate::story;

story!(probes_answer_on_both_listeners_and_metrics_on_one, |builder| {
    let sandbox = builder.start().await?;
    sandbox.admin.chat("manifold/echo", "hi").await?;

    let public = [
        sandbox.admin.get("/healthz").await?.status,
        sandbox.admin.get("/readyz").await?.status,
        sandbox.admin.get("/metrics").await?.status,
    ];
    let management =
        [sandbox.management.get("/healthz").await?.status, sandbox.management.get("/readyz").await?.status];
    let metrics = sandbox.management.get("/metrics").await?;

    assert_eq!((public, management), ([200, 200, 404], [200, 200]));
    for name in [
        "http_server_request_duration_seconds",
        "manifold_upstream_attempts_total",
        "manifold_build_info",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.text.contains(name), "{name} is missing in\n{}", metrics.text);
    }
    sandbox.stop().await?;
    Ok(())
});

story!(the_contract_names_every_route_with_its_permission, |builder| {
    let sandbox = builder.start().await?;

    let contract = sandbox.admin.with_key(None).get("/openapi.json").await?.json();

    assert_eq!(contract["openapi"], "3.1.0");
    for path in ["/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/keys"] {
        assert!(contract["paths"][path].is_object(), "{path}");
    }
    assert_eq!(contract["paths"]["/v1/chat/completions"]["post"]["x-permission"], "ai.inference.run");
    sandbox.stop().await?;
    Ok(())
});

story!(a_stop_lets_a_running_stream_end, |builder| {
    let groq = Upstream::start().await?;
    let (content_type, body) = manifold_testkit::dialect::stream("groq", "one two three");
    let pause = std::time::Duration::from_millis(60);
    groq.always(manifold_testkit::Answer::Chunks {
        content_type: content_type.into(),
        body,
        size: 150,
        pause,
        end: manifold_testkit::End::Proper,
    });
    let sandbox = builder.provider("groq", &groq).start().await?;
    let mut stream = sandbox.admin.stream("groq/llama-3.1-8b-instant", "hi").await?;

    let (stopped, text) = tokio::join!(sandbox.stop(), stream.rest());

    assert!(stopped?, "everything ended in time");
    assert!(text?.ends_with("data: [DONE]\n\n"));
    Ok(())
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_process_no_grpc_port_is_open() -> anyhow::Result<()> {
    let sandbox = Sandbox::builder(Shape::One).start().await?;

    assert!(sandbox.grpc().is_none());
    sandbox.stop().await?;
    Ok(())
}
