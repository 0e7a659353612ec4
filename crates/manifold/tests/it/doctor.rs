//! `manifold doctor`: what it finds, what it advises, and its exit code.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use http::Method;
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
async fn a_door_to_the_network_needs_a_proxy_that_is_named_and_an_https_address() -> Result<()> {
    let open = Program::new()?.set("edge.listen", "0.0.0.0:8080");
    let proxied = open.clone().set("edge.trusted_proxies", r#"["10.0.0.0/8"]"#);
    let named = proxied.clone().set("edge.public_url", "https://api.example");
    let plain = proxied.clone().set("edge.public_url", "http://api.example");

    for (program, remedy) in [(open, "edge.trusted_proxies"), (proxied, "edge.public_url"), (plain, "edge.public_url")]
    {
        let done = program.run(&["doctor", "--offline", "--json"]).await?;
        let found = finding(&done, "risk.plain_http")?;
        assert!(found["remedy"].as_str().is_some_and(|text| text.contains(remedy)), "{found}");
    }
    let well = named.run(&["doctor", "--offline", "--json"]).await?;
    assert!(finding(&well, "risk.plain_http").is_err(), "{}", well.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_that_anybody_on_the_way_can_be_are_risky() -> Result<()> {
    let with = |origins: &str| Ok::<_, anyhow::Error>(Program::new()?.set("edge.cors_origins", origins));

    let plain =
        with(r#"["https://app.example", "http://app.example:8080"]"#)?.run(&["doctor", "--offline", "--json"]).await?;
    let fine = with(r#"["https://app.example", "http://localhost:3000", "http://[::1]"]"#)?;
    let fine = fine.run(&["doctor", "--offline", "--json"]).await?;

    let found = finding(&plain, "risk.cors")?;
    assert!(found["found"].as_str().is_some_and(|text| text.contains("http://app.example:8080")), "{found}");
    assert!(finding(&fine, "risk.cors").is_err(), "{}", fine.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_everybody_reads_are_named_with_their_files() -> Result<()> {
    let program = Program::new()?;
    let (data, file) = (program.data(), program.folder().join("manifold.toml"));
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("master.key"), "k")?;
    std::fs::write(
        &file,
        "[mail]\nurl = \"smtp://ana:canary@mail.example\"\n[edge]\npublic_url = \"https://api.example\"\n",
    )?;
    let config = file.display().to_string();
    let arguments = ["--config", config.as_str(), "doctor", "--offline", "--json"];
    let allow = |mode| -> Result<()> {
        let files = [&data.join("master.key"), &file];
        files.into_iter().try_for_each(|file| Ok(std::fs::set_permissions(file, Permissions::from_mode(mode))?))
    };

    allow(0o644)?;
    let open = program.run(&arguments).await?;
    allow(0o600)?;
    let closed = program.run(&arguments).await?;

    let report: Vec<Value> = serde_json::from_str(&open.out).with_context(|| format!("{open:?}"))?;
    let named = |file: &str| {
        let about = report.iter().filter(|one| one["id"] == "risk.readable_secret");
        about
            .filter(|one| {
                one["remedy"].as_str().is_some_and(|text| text.starts_with("chmod 600") && text.ends_with(file))
            })
            .count()
    };
    assert_eq!((named("master.key"), named("manifold.toml")), (1, 1), "{}", open.out);
    assert!(finding(&closed, "risk.readable_secret").is_err(), "{}", closed.out);
    assert!(!open.out.contains("canary"), "{}", open.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_master_key_beside_no_database_is_risky_where_several_processes_need_it() -> Result<()> {
    let program = Program::new()?.set("store.url", "postgres://127.0.0.1:1/manifold");
    std::fs::create_dir_all(program.data())?;
    std::fs::write(program.data().join("master.key"), "k")?;
    let kept = program.clone().set("identity.master_keys", r#"[{id = "m", env = "MASTER"}]"#).variable("MASTER", "k");

    let lone = program.run(&["doctor", "--offline", "--json"]).await?;
    let kept = kept.run(&["doctor", "--offline", "--json"]).await?;

    let found = finding(&lone, "risk.master_key")?;
    assert!(found["remedy"].as_str().is_some_and(|text| text.contains("secret store")), "{found}");
    assert!(finding(&kept, "risk.master_key").is_err(), "{}", kept.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_house_that_is_open_to_strangers_needs_mail_and_is_risky_with_it() -> Result<()> {
    let program = Program::new()?;
    let mailing = program.clone().set("mail.url", "smtp://127.0.0.1:1").set("edge.public_url", "https://api.example");
    let mut server = mailing.serve().await?;
    let admin = server.admin()?;
    let house = admin.get("/v1/tenants").await?.json();
    let path = format!("/v1/tenants/{}", house["data"][0]["id"].as_str().context("a tenant")?);
    let mut settings = house["data"][0]["settings"].clone();
    settings["registration"] = json!("open");
    let body = json!({ "settings": settings }).to_string().into_bytes();
    let opened = admin.send(Method::PATCH, &path, &[("content-type", "application/json")], body).await?;
    assert_eq!(opened.status, 200, "{}", opened.text);
    server.stop().await?;

    let with_mail = mailing.run(&["doctor", "--offline", "--json"]).await?;
    let without = program.run(&["doctor", "--offline", "--json"]).await?;

    assert_eq!((with_mail.code, state(&with_mail, "mail")?.as_str()), (0, "warn"), "{}", with_mail.out);
    assert_eq!((without.code, state(&without, "mail")?.as_str()), (1, "fail"), "{}", without.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_out_of_reach_is_a_warning_with_the_remedy() -> Result<()> {
    let program = Program::new()?.set("cache.redis_url", format!("redis://127.0.0.1:{}", fixed_port()?));

    let done = program.run(&["doctor", "--offline", "--json"]).await?;

    assert_eq!((done.code, state(&done, "redis")?.as_str()), (0, "warn"), "{}", done.out);
    assert!(finding(&done, "redis")?["remedy"].to_string().contains("cache.redis_url"), "{}", done.out);
    Ok(())
}
