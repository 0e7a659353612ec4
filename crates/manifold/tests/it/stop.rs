//! Signals: the first lets work end, the second does not.

use std::time::{Duration, Instant};

use anyhow::Result;
use manifold_testkit::{Answer, End, Upstream, dialect};

use crate::database::sqlite_account;
use crate::program::{MODEL, Program, until};

async fn slow_stream(end: End) -> Result<Upstream> {
    let groq = Upstream::start().await?;
    let (content_type, body) = dialect::stream("groq", "one two three four");
    groq.always(Answer::Chunks {
        content_type: content_type.into(),
        body,
        size: 150,
        pause: Duration::from_millis(80),
        end,
    });
    Ok(groq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_lets_a_running_stream_end() -> Result<()> {
    for signal in ["TERM", "INT"] {
        let groq = slow_stream(End::Proper).await?;
        let program = Program::new()?.groq(&groq);
        let mut server = program.serve().await?;
        let admin = server.admin()?;
        let mut stream = admin.stream(MODEL, "hi").await?;
        let first = stream.next().await?;

        server.signal(signal).await?;
        let rest = stream.rest().await?;
        let code = server.ended().await?;

        assert!(first.is_some() && rest.ends_with("data: [DONE]\n\n"), "{signal}: {rest}");
        assert_eq!(code, 0, "{signal}");
        assert!(admin.get("/healthz").await.is_err(), "nobody is there any more");
        let account = sqlite_account(&program.data()).await?;
        assert_eq!((account.attempts, account.requests), (1, 1), "and its row is written");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once() -> Result<()> {
    let groq = slow_stream(End::Hang).await?;
    let mut server = Program::new()?.groq(&groq).serve().await?;
    let mut stream = server.admin()?.stream(MODEL, "hi").await?;
    stream.next().await?;
    server.signal("TERM").await?;
    until("it says that it stops", async || Ok(server.log().contains("stopping"))).await?;

    let asked = Instant::now();
    server.signal("TERM").await?;
    let code = server.ended().await?;

    assert_eq!(code, 0);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_is_not_ready_before_it_closes_the_door() -> Result<()> {
    let mut server = Program::new()?.set("runtime.drain_delay", "800ms").serve().await?;
    let (operator, admin) = (server.operator()?, server.admin()?);

    server.signal("TERM").await?;
    until("it is not ready", async || Ok(operator.get("/readyz").await?.status == 503)).await?;
    let still = admin.chat("manifold/echo", "hi").await?.status;

    assert_eq!((still, server.ended().await?), (200, 0));
    Ok(())
}
