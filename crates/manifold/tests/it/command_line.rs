//! The command line: what it prints, and with which code it ends.

use std::net::TcpListener;

use anyhow::Result;
use serde_json::{Value, json};

use crate::database::Database;
use crate::program::{Program, SECRET};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_end_with_2_naming_source_key_and_remedy() -> Result<()> {
    let cases = [
        ("MANIFOLD_EDGE__LISTNE", "127.0.0.1:1", ["MANIFOLD_EDGE__LISTNE", "edge.listne", "did you mean edge.listen?"]),
        ("MANIFOLD_EDGE__IDLE", "soon", ["MANIFOLD_EDGE__IDLE", "edge.idle", "75s"]),
        ("MANIFOLD_STORE__DURABILITY", "maybe", ["MANIFOLD_STORE__DURABILITY", "store.durability", "full"]),
        ("MANIFOLD_MESH__SECRET", "short", ["MANIFOLD_MESH__SECRET", "mesh.secret", "at least 16 characters"]),
        ("MANIFOLD_STORE__URL", "mysql://db/x", ["MANIFOLD_STORE__URL", "store.url", "postgres://"]),
        ("MANIFOLD_AI__MAX_ATTEMPTS", "0", ["MANIFOLD_AI__MAX_ATTEMPTS", "ai.max_attempts", "at least 1"]),
        (
            "MANIFOLD_EDGE__CORS_ORIGINS",
            "*",
            ["MANIFOLD_EDGE__CORS_ORIGINS", "edge.cors_origins", "https://app.example"],
        ),
        ("MANIFOLD_TELEMETRY__LOG_LEVEL", "a=b=c", ["MANIFOLD_TELEMETRY__LOG_LEVEL", "telemetry.log_level", "info"]),
    ];
    for (name, value, words) in cases {
        let done = Program::new()?.variable(name, value).run(&["serve"]).await?;

        assert_eq!(done.code, 2, "{name}={value}: {}", done.err);
        for word in words {
            assert!(done.err.contains(word), "{name}={value}: {word:?} is missing in {}", done.err);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_file_is_named_with_all_its_problems_at_once() -> Result<()> {
    let program = Program::new()?;
    let file = program.folder().join("house.toml");
    std::fs::write(&file, "[edge]\nlisen = \"127.0.0.1:1\"\nmax_headers = \"many\"\n")?;
    let file = file.display().to_string();

    let done = program.run(&["config", "check", "--config", &file]).await?;
    let absent = program.run(&["config", "check", "--config", "absent.toml"]).await?;

    assert_eq!((done.code, absent.code), (2, 2));
    for word in [file.as_str(), "edge.lisen", "did you mean edge.listen?", "edge.max_headers", "100"] {
        assert!(done.err.contains(word), "{word:?} is missing in {}", done.err);
    }
    assert!(absent.err.contains("absent.toml"), "{}", absent.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_what_would_stop_the_start() -> Result<()> {
    let cases =
        [("store.url", "mysql://db/x"), ("mesh.ai_router", "https://router"), ("runtime.egress.allow", "no-port")];
    for (key, value) in cases {
        let program = Program::new()?.set("mesh.secret", SECRET).set(key, value);

        let (checked, started) = (program.run(&["config", "check"]).await?, program.run(&["serve"]).await?);

        assert_eq!((checked.code, started.code), (2, 2), "{key}: {} {}", checked.err, started.err);
        for done in [checked, started] {
            assert!(done.err.contains(key) && done.err.contains("environment variable MANIFOLD_"), "{}", done.err);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_ends_with_4_naming_the_address() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let cases: [(&[&str], &str); 3] = [
        (&["serve", "--listen", &address], "edge.listen"),
        (&["serve", "--management", &address], "management.listen"),
        (&["serve", "--services", "ai-router"], "grpc.listen"),
    ];
    for (arguments, key) in cases {
        let program = Program::new()?.set("mesh.secret", SECRET).set("grpc.listen", address.clone());

        let done = program.run(arguments).await?;

        assert_eq!(done.code, 4, "{arguments:?}: {}", done.err);
        assert!(done.err.contains(&address) && done.err.contains(key), "{arguments:?}: {}", done.err);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_folder_is_refused_naming_the_first() -> Result<()> {
    let program = Program::new()?;
    let mut server = program.serve().await?;

    let second = program.run(&["serve"]).await?;

    assert_eq!(second.code, 2, "{}", second.err);
    assert!(second.err.contains(&format!("process {}", server.pid()?)), "{}", second.err);
    assert_eq!(server.admin()?.chat("manifold/echo", "hi").await?.status, 200, "the first goes on");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_stand_apart_need_a_secret() -> Result<()> {
    let done = Program::new()?.run(&["serve", "--services", "ai-router"]).await?;
    let unknown = Program::new()?.run(&["serve", "--services", "edge,search"]).await?;

    assert_eq!((done.code, unknown.code), (2, 2));
    assert!(done.err.contains("mesh.secret"), "{}", done.err);
    assert!(unknown.err.contains("search") && unknown.err.contains("ai-router"), "{}", unknown.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_shown_with_its_sources_and_without_its_secrets() -> Result<()> {
    let program = Program::new()?
        .set("store.url", "postgres://ana:canary-password@db.example/manifold")
        .set("mesh.secret", "canary-mesh-secret-1")
        .set("bootstrap.admin_key", "canary-admin-key")
        .variable("GROQ_API_KEY", "canary-groq-key");

    let shown = program.run(&["config", "show"]).await?;
    let checked = program.run(&["config", "check"]).await?;

    assert_eq!((shown.code, checked.code), (0, 0), "{}{}", shown.err, checked.err);
    assert!(!format!("{shown:?}{checked:?}").contains("canary"), "{}", shown.out);
    for word in ["ai.providers.groq.api_key", "GROQ_API_KEY", "store.url", "db.example", "MANIFOLD_MESH__SECRET", "***"]
    {
        assert!(shown.out.contains(word), "{word:?} is missing in {}", shown.out);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_listed_and_revoked_on_a_running_server() -> Result<()> {
    let program = Program::new()?;
    let mut server = program.serve().await?;
    let here = program.beside(&server)?;

    let made = here.run(&["keys", "create", "website", "--test", "--expires-at", "2999-01-01T00:00:00Z"]).await?;
    let secret = made.out.trim().to_owned();
    let client = server.client(Some(&secret))?;
    let before = client.chat("manifold/echo", "hi").await?.status;
    let listed = here.run(&["keys", "list"]).await?;
    let id = listed
        .out
        .lines()
        .find(|line| line.contains("website"))
        .and_then(|line| line.split(' ').next())
        .unwrap_or_default();
    let revoked = here.run(&["keys", "revoke", id]).await?;
    let after = client.chat("manifold/echo", "hi").await?.status;

    assert_eq!((made.code, listed.code, revoked.code), (0, 0, 0), "{}{}{}", made.err, listed.err, revoked.err);
    assert!(secret.starts_with("mfk_test_"), "{secret}");
    assert_eq!((before, after), (200, 401));
    assert!(!listed.out.contains(&secret) && id.starts_with("key_"), "{}", listed.out);
    let again = here.run(&["keys", "revoke", "key_00000000000000000000000000"]).await?;
    assert_eq!((again.code, again.err.contains("404")), (70, true), "{}", again.err);
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_invited_given_roles_and_removed_on_a_running_server() -> Result<()> {
    let program = Program::new()?;
    let mut server = program.serve().await?;
    let (here, nobody) = (program.beside(&server)?, server.client(None)?);
    let setup = std::fs::read_to_string(program.data().join("setup.token"))?;
    assert!(server.output().contains(setup.trim()), "the first start prints it");
    let ada = json!({"token": setup.trim(), "email": "ada@example.org", "name": "Ada", "password": "four words that fit well"});
    assert_eq!(nobody.post("/v1/auth/setup", &ada).await?.status, 201);

    let invited = here.run(&["users", "invite", "grace@example.org", "--role", "viewer"]).await?;
    let waiting = here.run(&["users", "invitations"]).await?;
    let grace = json!({"token": invited.out.trim(), "name": "Grace", "password": "four words that rhyme not"});
    let joined = nobody.post("/v1/auth/register", &grace).await?;
    let id = joined.json()["user"]["id"].as_str().unwrap_or_default().to_owned();
    let roles = here.run(&["users", "roles", &id, "developer", "operator"]).await?;
    let link = here.run(&["users", "reset-link", &id]).await?;
    let reset = json!({"token": link.out.trim(), "password": "other four words here"});
    let reset = nobody.post("/v1/auth/reset", &reset).await?.status;
    let removed = here.run(&["users", "remove", &id]).await?;
    let listed = here.run(&["users", "list"]).await?;

    assert!(waiting.out.contains("grace@example.org") && waiting.out.contains("inv_"), "{}", waiting.out);
    assert!(!waiting.out.contains(invited.out.trim()), "a token is shown once");
    assert!(roles.out.contains("developer,operator"), "{}{}", roles.out, roles.err);
    assert_eq!((joined.status, reset, removed.code), (201, 204, 0), "{}{}", joined.text, removed.err);
    assert!(listed.out.contains("ada@example.org") && !listed.out.contains("grace"), "{}", listed.out);
    let id = waiting.out.lines().nth(1).and_then(|line| line.split(' ').next()).unwrap_or_default();
    let late = here.run(&["users", "uninvite", id]).await?;
    assert!(late.code != 0 && late.err.contains("404"), "it was followed: {}", late.err);
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_without_server_or_admin_key_say_what_is_missing() -> Result<()> {
    let program = Program::new()?.set("edge.listen", "127.0.0.1:1");
    let keyless = program.run(&["keys", "list"]).await?;
    std::fs::create_dir(program.data())?;
    std::fs::write(program.data().join("admin.key"), "mfk_live_x")?;

    let lonely = program.run(&["keys", "list"]).await?;

    assert!(keyless.code != 0 && keyless.err.contains("--data-dir"), "{keyless:?}");
    assert!(lonely.code != 0 && lonely.err.contains("127.0.0.1:1"), "{lonely:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_key_is_new_each_time_and_needs_no_configuration() -> Result<()> {
    let program = Program::new()?.set("edge.lisen", "wrong");

    let (live, test) = (program.run(&["keys", "generate"]).await?, program.run(&["keys", "generate", "--test"]).await?);

    assert_eq!((live.code, test.code), (0, 0));
    assert!(live.out.starts_with("mfk_live_") && test.out.starts_with("mfk_test_"), "{}{}", live.out, test.out);
    assert_ne!(live.out[9..], test.out[9..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_by_its_code_whether_the_server_is_ready() -> Result<()> {
    let program = Program::new()?;
    let mut server = program.serve().await?;
    let here = program.beside(&server)?;

    let (up, quiet) = (here.run(&["status"]).await?, here.run(&["status", "--quiet"]).await?);
    server.stop().await?;
    let down = here.run(&["status", "--quiet"]).await?;

    assert_eq!((up.code, quiet.code, down.code), (0, 0, 1));
    assert!(up.out.contains("\"ready\"") && quiet.out.is_empty() && down.out.is_empty(), "{up:?} {quiet:?} {down:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_and_completions_are_printed_without_any_configuration() -> Result<()> {
    let program = Program::new()?.set("edge.lisen", "wrong");

    let contract = program.run(&["openapi"]).await?;
    let completions = program.run(&["completions", "bash"]).await?;

    let document: Value = serde_json::from_str(&contract.out)?;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    assert!(document["paths"]["/v1/chat/completions"]["post"].is_object());
    assert_eq!((contract.code, completions.code), (0, 0));
    assert!(completions.out.contains("complete -F _manifold") && completions.out.contains("--data-dir"));
    Ok(())
}

async fn migrates_once(program: &Program) -> Result<()> {
    let first = program.run(&["db", "migrate"]).await?;
    let second = program.run(&["db", "migrate"]).await?;

    assert_eq!((first.code, second.code), (0, 0), "{}{}", first.err, second.err);
    for service in ["identity", "ai-router"] {
        assert!(!first.out.contains(&format!("{service}: up to date")), "{}", first.out);
        assert!(second.out.contains(&format!("{service}: up to date")), "{}", second.out);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_run_by_hand_on_sqlite() -> Result<()> {
    let program = Program::new()?;

    migrates_once(&program).await?;

    program.serve().await?.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_run_by_hand_on_postgres() -> Result<()> {
    let database = Database::create().await?;
    let program = Program::new()?.set("store.url", database.url.clone());

    migrates_once(&program).await?;

    program.serve().await?.stop().await?;
    database.drop().await
}
