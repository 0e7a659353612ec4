//! Logs: every line is JSON, a failing request can be found by its ids, files rotate, and secrets are in none of it.

use anyhow::{Context, Result};
use manifold_testkit::{Answer, Reply, Upstream};
use serde_json::{Value, json};

use crate::database::Database;
use crate::program::{MODEL, Program, SECRET, Server, admin_key};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// What callers ask.
const PROMPT: &str = "canary-prompt";
/// A part of it, of the provider's key, and of a wrong one of ours.
const HIDDEN: [&str; 2] = ["canary-", "_canary"];

/// Every line as JSON.
fn lines(log: &str) -> Result<Vec<Value>> {
    log.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
}

/// A request that fails at the provider, which repeats the prompt and the key.
async fn fail(server: &Server, groq: &Upstream) -> Result<Reply> {
    let message = format!("cannot process {PROMPT} with key gsk_canary_provider_key");
    groq.always(Answer::json(500, &json!({"error": {"message": message}})));
    let body = json!({"model": "groq/qwen/qwen3-32b", "messages": [{"role": "user", "content": PROMPT}]}).to_string();
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("content-type", "application/json"), ("traceparent", parent.as_str())];
    server.admin()?.send(http::Method::POST, "/v1/chat/completions", &headers, body.into_bytes()).await
}

/// Lines that work for the request of `reply`.
fn about<'a>(lines: &'a [Value], reply: &Reply) -> Vec<&'a Value> {
    let request = reply.header("x-manifold-request-id");
    lines.iter().filter(|line| line["request_id"] == request && line["trace_id"] == TRACE).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_request_is_found_by_its_ids() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut server = Program::new()?.groq(&groq).set("ai.max_attempts", "1").serve().await?;

    let reply = fail(&server, &groq).await?;
    server.stop().await?;

    let lines = lines(&server.log())?;
    assert!(reply.status >= 500, "{}", reply.text);
    assert!(about(&lines, &reply).iter().any(|line| line["level"] == "WARN"), "{}", server.log());
    for line in &lines {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field} is missing in {line}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_go_into_a_file_that_rotates() -> Result<()> {
    let program = Program::new()?;
    let folder = program.folder().join("logs");
    let file = folder.join("house.log").display().to_string();

    let mut server = program.set("telemetry.log_file", file).set("telemetry.log_rotation", "hourly").serve().await?;
    server.stop().await?;

    let files: Vec<_> = std::fs::read_dir(&folder)?.collect::<std::io::Result<_>>()?;
    let name = files.first().context("a log file")?.file_name().to_string_lossy().into_owned();
    assert!(files.len() == 1 || files.len() == 2, "one file per hour: {files:?}");
    assert!(name.starts_with("house.20") && name.ends_with(".log"), "the hour stands in {name}");
    let log = std::fs::read_to_string(files[0].path())?;
    assert!(lines(&log)?.iter().any(|line| line["message"] == "public listener is open"), "{log}");
    assert!(server.log().is_empty(), "{}", server.log());
    Ok(())
}

/// Every way in which a provider answers, each at a model of its own that is not cooling down from the one before.
fn answers() -> [(&'static str, Answer); 4] {
    [
        ("groq/llama-3.3-70b-versatile", Answer::Good("fine".to_owned())),
        (
            "groq/meta-llama/llama-4-scout-17b-16e-instruct",
            Answer::Raw(b"HTTP/1.1 200 OK\r\n\r\n<html>gsk_canary_provider_key".to_vec()),
        ),
        ("groq/openai/gpt-oss-120b", Answer::Close),
        (MODEL, Answer::json(401, &json!({"error": {"message": "wrong key gsk_canary_provider_key"}}))),
    ]
}

/// Lets much go wrong; what callers and operators were told.
async fn traffic(door: &Server, groq: &Upstream) -> Result<Vec<String>> {
    let (admin, mut said) = (door.admin()?, Vec::new());
    for (model, answer) in answers() {
        let before = groq.hits();
        groq.always(answer);
        said.push(admin.chat(model, PROMPT).await?.text);
        said.push(admin.stream(model, PROMPT).await?.rest().await?);
        anyhow::ensure!(groq.hits() > before, "{model} was never asked: {said:?}");
    }
    said.push(admin.post("/v1/chat/completions", &json!({"model": MODEL, "messages": PROMPT})).await?.text);
    said.push(admin.post("/v1/chat/completions", &json!({"model": [PROMPT], "messages": []})).await?.text);
    said.push(admin.with_key(Some("mfk_live_canary")).chat(MODEL, PROMPT).await?.text);
    said.push(admin.get("/v1/keys").await?.text);
    said.push(door.operator()?.get("/metrics").await?.text);
    Ok(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_prompt_is_in_logs_answers_or_metrics() -> Result<()> {
    let groq = Upstream::start().await?;
    let program = Program::new()?.groq(&groq).set("telemetry.log_level", "debug");
    let mut server = program.serve().await?;

    let mut said = vec![fail(&server, &groq).await?.text];
    said.extend(traffic(&server, &groq).await?);
    server.stop().await?;
    said.push(server.log());

    let key = admin_key(&program.data())?;
    let secret = key.rsplit('_').next().context("the secret part of a key")?;
    for text in &said {
        assert!(!HIDDEN.iter().any(|hidden| text.contains(hidden)) && !text.contains(secret), "{text}");
    }
    assert!(server.log().contains("\"DEBUG\""), "{}", server.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_when_two_processes_talk() -> Result<()> {
    let (groq, database) = (Upstream::start().await?, Database::create().await?);
    let both = Program::new()?.groq(&groq).set("store.url", database.url.clone()).set("mesh.secret", SECRET);
    let both = both.set("telemetry.log_level", "debug");
    let mut router = both.start("ai-router").await?;
    let mut door = both.clone().set("mesh.ai_router", format!("http://{}", router.grpc()?)).start("edge").await?;
    door.ready().await?;

    let reply = fail(&door, &groq).await?;
    let mut said = traffic(&door, &groq).await?;
    said.push(router.operator()?.get("/metrics").await?.text);
    door.stop().await?;
    router.stop().await?;
    said.extend([door.log(), router.log()]);

    let key = admin_key(&both.data())?;
    let secret = key.rsplit('_').next().context("the secret part of a key")?;
    for text in &said {
        assert!(
            !HIDDEN.iter().any(|hidden| text.contains(hidden)) && !text.contains(secret) && !text.contains(SECRET),
            "{text}"
        );
    }
    for server in [&door, &router] {
        assert!(!about(&lines(&server.log())?, &reply).is_empty(), "both name the request: {}", server.log());
    }
    database.drop().await
}
