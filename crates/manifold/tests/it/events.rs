//! Events between the services of the program, and what an operator sees of them.

use anyhow::Result;
use manifold_testkit::Upstream;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use crate::program::{MODEL, Program, until};

/// Puts an event into the outbox of ai-router that nobody can read.
async fn break_the_next_event(program: &Program) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(program.data().join("ai-router.db"));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let sql = "INSERT INTO outbox (event_id, tenant_id, type, subject, payload, created_at) \
               VALUES (randomblob(16), randomblob(16), 'ai.request.completed', 'x', x'ffff', unixepoch() * 1000000)";
    sqlx::query(sql).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Puts a dead job of long ago and its dead letter into the database of a service.
async fn leave_a_dead_job(program: &Program, service: &str) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(program.data().join(format!("{service}.db")));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let (id, now) = (uuid::Uuid::from_u128(5), 1_763_629_200_000_000_i64);
    let job = "INSERT INTO job (id, tenant_id, kind, args, state, run_at, n_attempts, max_attempts, done, total, error, \
               created_at, finished_at) VALUES ($1, $1, 'export', '{}', 4, $2, 5, 5, 3, 10, 'no luck', $2, $2)";
    sqlx::query(job).bind(id).bind(now).execute(&mut connection).await?;
    let letter = "INSERT INTO dead_letter (id, kind, ref, consumer, tenant_id, reason, payload, error, first_at, last_at, \
                  count) VALUES ($1, 'job', $2, 'export', '', 'MAX_ATTEMPTS', x'', 'no luck', $3, $3, 1)";
    let letter = sqlx::query(letter).bind(id).bind(manifold_core::JobId(id).to_string()).bind(now);
    letter.execute(&mut connection).await?;
    Ok(connection.close().await?)
}

#[tokio::test]
async fn an_operator_sees_jobs_and_queues_dead_ones_again() -> Result<()> {
    let program = Program::new()?;
    program.run(&["db", "migrate"]).await?;
    leave_a_dead_job(&program, "identity").await?;

    let dead = program.run(&["bus", "jobs", "--state", "dead", "--kind", "export"]).await?;
    let redriven = program.run(&["bus", "redrive", "--consumer", "export"]).await?;
    let queued = program.run(&["bus", "jobs", "--state", "queued"]).await?;
    let none = program.run(&["bus", "jobs", "--state", "dead"]).await?;
    let wrong = program.run(&["bus", "jobs", "--state", "asleep"]).await?;

    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let id = manifold_core::JobId(uuid::Uuid::from_u128(5)).to_string();
    let tenant = manifold_core::TenantId(uuid::Uuid::from_u128(5)).to_string();
    let row = format!("{id} export dead 5 of 5 3 of 10 {tenant} no luck");
    assert_eq!(words(dead.out.lines().last().unwrap_or_default()), words(&row), "{}", dead.out);
    assert!(redriven.err.contains("identity: 1 sent again"), "{}", redriven.err);
    assert!(queued.out.contains(&format!("{id}  export  queued  0 of 5")), "{}", queued.out);
    assert!(!none.out.contains("export") && none.out.contains("ATTEMPTS"), "{}", none.out);
    assert!(wrong.code == 2 && wrong.err.contains("queued, running, succeeded, dead, canceled"), "{}", wrong.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_forgets_jobs_and_dead_letters_of_long_ago() -> Result<()> {
    let program = Program::new()?;
    program.run(&["db", "migrate"]).await?;
    leave_a_dead_job(&program, "identity").await?;
    leave_a_dead_job(&program, "ai-router").await?;
    let before = program.run(&["bus", "jobs"]).await?.out;

    let mut server = program.serve().await?;

    until("they are gone", async || {
        let (jobs, letters) = (program.run(&["bus", "jobs"]).await?, program.run(&["bus", "dead-letters"]).await?);
        Ok(jobs.code == 0 && letters.code == 0 && !(jobs.out + &letters.out).contains("export"))
    })
    .await?;
    server.stop().await?;
    assert_eq!(before.matches("export").count(), 2, "{before}");
    Ok(())
}

#[tokio::test]
async fn an_operator_learns_whether_everything_adds_up() -> Result<()> {
    let program = Program::new()?;
    program.run(&["db", "migrate"]).await?;

    let sound = program.run(&["bus", "verify"]).await?;
    break_the_next_event(&program).await?;
    leave_a_dead_job(&program, "identity").await?;
    let broken = program.run(&["bus", "verify"]).await?;

    assert_eq!((sound.code, sound.out.as_str()), (0, "all events and jobs add up\n"), "{}", sound.err);
    assert_eq!(broken.code, 1, "{}", broken.err);
    let lines: Vec<_> = broken.out.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains(" → ")), "{}", broken.out);
    assert!(lines[0].starts_with("dead_letter        identity   1 dead letters of export"), "{}", lines[0]);
    assert!(lines[1].starts_with("outbox.unreadable  ai-router "), "{}", lines[1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_how_far_events_were_read_and_sends_dead_letters_again() -> Result<()> {
    let groq = Upstream::start().await?;
    let program = Program::new()?.groq(&groq);
    let mut server = program.serve().await?;
    server.admin()?.chat(MODEL, "hi").await?;
    until("the event is read", async || Ok(program.run(&["bus", "consumers"]).await?.out.contains("identity__usage")))
        .await?;
    server.stop().await?;
    break_the_next_event(&program).await?;

    let stopped = program.run(&["bus", "consumers"]).await?;
    server = program.serve().await?;
    until("the event is given up", async || {
        Ok(program.run(&["bus", "dead-letters"]).await?.out.contains("UNDECODABLE"))
    })
    .await?;
    let considered = program.run(&["bus", "redrive", "--dry-run"]).await?;
    let redriven = program.run(&["bus", "redrive", "--consumer", "identity__usage"]).await?;
    until("it is given up again", async || {
        let letters = program.run(&["bus", "dead-letters"]).await?.out;
        Ok(letters.lines().any(|line| line.contains("UNDECODABLE") && line.contains("  2  ")))
    })
    .await?;
    let wrong = program.run(&["bus", "redrive", "--id", "dl_1"]).await?;
    server.stop().await?;

    let cursor: Vec<_> = stopped.out.lines().last().unwrap_or_default().split_whitespace().collect();
    assert_eq!(cursor, ["identity__usage", "ai-router", "1", "1", "0"], "{}", stopped.out);
    assert!(considered.err.is_empty() && considered.out.contains("UNDECODABLE"), "{}", considered.err);
    assert!(redriven.err.contains("identity: 1 sent again"), "{}", redriven.err);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    Ok(())
}
