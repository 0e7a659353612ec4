//! `manifold doctor`: what it finds, what it advises, and its exit code.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use manifold_runtime::Tasks;
use manifold_testkit::Upstream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::program::{Done, Program, fixed_port};

/// The finding with this id.
fn finding(done: &Done, id: &str) -> Result<Value> {
    let report: Vec<Value> = serde_json::from_str(&done.out).with_context(|| format!("{done:?}"))?;
    let found = report.iter().find(|finding| finding["id"] == id).cloned();
    found.with_context(|| format!("{id} in {}", done.out))
}

fn state(done: &Done, id: &str) -> Result<String> {
    Ok(finding(done, id)?["state"].as_str().unwrap_or_default().to_owned())
}

/// A provider that refuses every key, and repeats it.
async fn refusing(tasks: &Tasks) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tasks.spawn_until_stop("provider", async move {
        let body = r#"{"error":{"message":"Invalid API Key gsk_canary","type":"invalid_request_error"}}"#;
        let answer = format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4_096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_installation_is_well_and_nothing_is_made_by_looking() -> Result<()> {
    let program = Program::new()?;

    let text = program.run(&["doctor", "--offline"]).await?;
    let json = program.run(&["doctor", "--offline", "--json"]).await?;

    assert_eq!((text.code, json.code), (0, 0), "{}", text.out);
    assert!(text.out.contains("GROQ_API_KEY") && text.out.contains("→"), "{}", text.out);
    assert_eq!(state(&json, "configuration")?, "ok");
    assert_eq!(state(&json, "provider.groq")?, "skip");
    assert_eq!(state(&json, "fallback.chat")?, "warn");
    assert!(!program.data().exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_that_answer_are_well_and_two_of_them_back_each_other() -> Result<()> {
    let (groq, mistral) = (Upstream::start().await?, Upstream::start().await?);
    let program = Program::new()?
        .groq(&groq)
        .set("ai.providers.mistral.base_url", format!("http://{}/v1", mistral.address))
        .variable("MISTRAL_API_KEY", "canary-mistral");

    let done = program.run(&["doctor", "--json"]).await?;

    assert_eq!(done.code, 0, "{}", done.out);
    for id in ["provider.groq", "provider.mistral", "fallback.chat", "fallback.tools"] {
        assert_eq!(state(&done, id)?, "ok", "{id} in {}", done.out);
    }
    assert!(finding(&done, "provider.groq")?["found"].as_str().is_some_and(|found| found.contains(" ms")));
    assert_eq!((groq.hits(), mistral.hits()), (0, 0), "only free calls are made");
    assert!(!done.out.contains("canary"), "{}", done.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_fails_with_the_remedy_and_without_the_key() -> Result<()> {
    let tasks = Tasks::new();
    let program = Program::new()?.set("ai.providers.groq.base_url", format!("http://{}/v1", refusing(&tasks).await?));

    let done = program.variable("GROQ_API_KEY", "gsk_canary").run(&["doctor", "--json"]).await?;

    let groq = finding(&done, "provider.groq")?;
    assert_eq!((done.code, &groq["state"], &groq["remedy"]), (1, &json!("fail"), &json!("renew its key")), "{groq}");
    assert!(!done.out.contains("canary"), "{}", done.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_out_of_reach_fails_with_the_remedy() -> Result<()> {
    let program = Program::new()?
        .set("ai.providers.groq.base_url", "http://127.0.0.1:1/v1")
        .set("ai.providers.groq.api_key", "k");

    let done = program.run(&["doctor"]).await?;

    assert_eq!(done.code, 1);
    assert!(
        done.out.lines().any(|line| line.starts_with("fail provider.groq") && line.contains("base_url")),
        "{}",
        done.out
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_out_of_reach_fails_with_the_remedy_and_without_its_password() -> Result<()> {
    let program = Program::new()?.set("store.url", "postgres://ana:canary@127.0.0.1:1/manifold");

    let done = program.run(&["doctor", "--offline", "--json"]).await?;

    assert_eq!((done.code, state(&done, "database.identity")?.as_str()), (1, "fail"), "{}", done.out);
    assert!(
        finding(&done, "database.ai-router")?["remedy"].as_str().is_some_and(|remedy| remedy.contains("store.url"))
    );
    assert!(!done.out.contains("canary"), "{}", done.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_is_a_finding_and_not_a_crash() -> Result<()> {
    let done = Program::new()?.set("edge.lisen", "127.0.0.1:1").run(&["doctor", "--json"]).await?;

    let found = finding(&done, "configuration")?;
    assert_eq!((done.code, &found["state"]), (1, &json!("fail")), "{found}");
    assert!(found["found"].as_str().is_some_and(|found| found.contains("edge.lisen")), "{found}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn risky_settings_are_warned_about_beside_a_running_server() -> Result<()> {
    let program = Program::new()?;
    let mut server = program.serve().await?;
    let risky = program
        .set("edge.listen", "0.0.0.0:8080")
        .set("management.listen", "0.0.0.0:9090")
        .variable("HTTPS_PROXY", "http://proxy.example:3128");

    let done = risky.run(&["doctor", "--offline", "--json"]).await?;

    assert_eq!(done.code, 0, "{}", done.out);
    for risk in ["plain_http", "management", "admin_key", "master_key", "no_limit", "proxy"] {
        let found = finding(&done, &format!("risk.{risk}"))?;
        assert_eq!(found["state"], "warn", "{found}");
        assert!(found["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{found}");
    }
    assert_eq!(state(&done, "database.identity")?, "ok");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_out_of_reach_is_a_warning_with_the_remedy() -> Result<()> {
    let program = Program::new()?.set("cache.redis_url", format!("redis://127.0.0.1:{}", fixed_port()?));

    let done = program.run(&["doctor", "--offline", "--json"]).await?;

    assert_eq!((done.code, state(&done, "redis")?.as_str()), (0, "warn"), "{}", done.out);
    assert!(finding(&done, "redis")?["remedy"].to_string().contains("cache.redis_url"), "{}", done.out);
    Ok(())
}
