//! What a request leaves behind: one event with its rows, in one transaction.

use manifold_testkit::{Answer, Upstream};

use crate::story;

story!(a_failed_request_is_an_event_too, |builder| {
    let groq = Upstream::start().await?;
    groq.always(Answer::status(400, None));
    let mut sandbox = builder.provider("groq", &groq).start().await?;

    sandbox.admin.chat("groq/llama-3.1-8b-instant", "hi").await?;
    sandbox.admin.chat("nobody/knows", "hi").await?;

    sandbox.halt().await;
    assert_eq!(
        sandbox
            .count("SELECT COUNT(*) FROM ai_request WHERE outcome = 'failed' AND class = 'invalid' AND cost_nanos = 0")
            .await?,
        1
    );
    assert_eq!(
        sandbox.count("SELECT COUNT(*) FROM ai_request WHERE class = 'model_not_found' AND n_attempts = 0").await?,
        1
    );
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM outbox WHERE type = 'ai.request.completed'").await?, 2);
    sandbox.stop().await?;
    Ok(())
});
