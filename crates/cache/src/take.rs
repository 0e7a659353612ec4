//! Spending from a count in Redis: one call of one script.

use std::sync::LazyLock;

use manifold_core::Result;
use redis::Script;

use crate::policy::{Policy, Rule};
use crate::redis::Redis;

static GCRA: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("gcra.lua")));
static WINDOW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("window.lua")));

/// Stands for the clock of Redis, which all processes share.
const NOW: u64 = 0;

/// What Redis answered. Times in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Units that were granted; 0 = refused.
    pub(crate) granted: u64,
    pub(crate) remaining: u64,
    /// When the least that was asked for passes, if it was refused.
    pub(crate) wait: u64,
    /// When everything has come back, if it was granted.
    pub(crate) reset: u64,
}

/// Takes `want` units of what `policy` grants to `key`, or fewer but no less than `least`.
pub(crate) async fn take(redis: &Redis, policy: &Policy, key: u128, want: u64, least: u64) -> Result<Taken> {
    let (script, kind) = match policy.rule() {
        Rule::Gcra(_) => (&GCRA, "gcra"),
        Rule::Window(_) => (&WINDOW, "window"),
    };
    let mut call = script.prepare_invoke();
    call.key(format!("mf:{kind}:{}:{key:032x}", policy.name())).arg(NOW).arg(want).arg(least);
    match policy.rule() {
        Rule::Gcra(rate) => call.arg(rate.interval).arg(rate.burst),
        Rule::Window(span) => call.arg(span.length).arg(span.quota).arg(u8::from(span.slides)),
    };
    let (granted, remaining, wait, reset) = redis.run(&call).await?;
    Ok(Taken { granted, remaining, wait, reset })
}
