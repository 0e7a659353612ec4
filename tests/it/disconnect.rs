//! Callers that vanish. Whatever was sent upstream is accounted for: the rows equal the provider's own counter.

use std::time::Duration;

use anyhow::Result;
use manifold_testkit::{Answer, Builder, End, Sandbox, Shape, Upstream, dialect};

const ROUNDS: u64 = 250;

/// A quarter of the thousand: plain or streamed, in one process or in two.
async fn vanish(builder: Builder, streamed: bool) -> Result<()> {
    let groq = Upstream::start().await?;
    let (content_type, body) = dialect::stream("groq", "one two three four five six");
    groq.always(if streamed {
        Answer::Chunks {
            content_type: content_type.into(),
            body,
            size: 120,
            pause: Duration::from_millis(2),
            end: End::Proper,
        }
    } else {
        Answer::Good("hello".into())
    });
    let mut sandbox = builder.provider("groq", &groq).start().await?;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;

    for _ in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let patience = Duration::from_micros(random % if streamed { 40_000 } else { 8_000 });
        let call = async {
            if streamed {
                sandbox.admin.stream("groq/llama-3.1-8b-instant", "hi").await?.rest().await.map(|_| ())
            } else {
                sandbox.admin.chat("groq/llama-3.1-8b-instant", "hi").await.map(|_| ())
            }
        };
        let _ = tokio::time::timeout(patience, call).await;
    }

    sandbox.halt().await;
    let rows = sandbox.count("SELECT COUNT(*) FROM ai_attempt").await?;
    assert_eq!(rows, i64::try_from(groq.hits())?, "rows of attempts against requests that the provider counted");
    let requests = sandbox.count("SELECT COUNT(*) FROM ai_request").await?;
    assert_eq!(
        sandbox.count("SELECT COUNT(*) FROM outbox").await? - keys(&sandbox).await?,
        requests,
        "never a row without its event"
    );
    assert!(
        sandbox.count("SELECT COUNT(*) FROM ai_attempt WHERE class = 'cancelled'").await? > 0,
        "some callers did vanish in time"
    );
    sandbox.stop().await?;
    Ok(())
}

/// Events of other kinds in the same outbox.
async fn keys(sandbox: &Sandbox) -> Result<i64> {
    sandbox.count("SELECT COUNT(*) FROM outbox WHERE type <> 'ai.request.completed'").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_in_one_process() -> Result<()> {
    vanish(Sandbox::builder(Shape::One), false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_in_two_processes() -> Result<()> {
    vanish(Sandbox::builder(Shape::Two), false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streamed_in_one_process() -> Result<()> {
    vanish(Sandbox::builder(Shape::One), true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streamed_in_two_processes() -> Result<()> {
    vanish(Sandbox::builder(Shape::Two), true).await
}
