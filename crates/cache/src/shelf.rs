//! Values in Redis, where all processes find them: one script looks and takes the lock of who loads, one ends a load, one
//! invalidates. A value is as good as gone when a generation, that of its group or its own, is another one.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use manifold_core::{Result, Timestamp};
use redis::{Script, ScriptInvocation};

use crate::key::{Group, Key};
use crate::redis::Redis;

static LOOK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("look.lua")));
static KEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("keep.lua")));
/// The time makes a generation that never was. It outlives all values of those before, and all loads that began before.
static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::new("local t = redis.call('TIME') redis.call('SET', KEYS[1], t[1] .. '.' .. t[2], 'PX', ARGV[1]) return 1")
});

/// Largest value, in bytes: Redis does one thing at a time, and others wait.
pub(crate) const MAX_SHARED: usize = 1 << 20;
/// How long others wait for a process that loads; of a longer load there are two.
const LOCK: Duration = Duration::from_secs(5);
/// No load takes longer.
const LONGEST_LOAD: Duration = Duration::from_secs(3_600);

/// The values of one name.
pub(crate) struct Shelf {
    redis: Redis,
    name: &'static str,
    /// How long values are kept.
    lifetime: Duration,
    /// Tells this process from others.
    process: u64,
}

/// A value as it was loaded by some process.
pub(crate) struct Kept {
    pub(crate) loaded_at: Timestamp,
    pub(crate) mark: String,
    /// Empty if the mark is the one that was told.
    pub(crate) bytes: Vec<u8>,
}

/// What is to be done about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Load,
    Wait,
    Fresh,
}

/// What was found.
pub(crate) struct Seen {
    pub(crate) state: State,
    pub(crate) generations: String,
    pub(crate) kept: Option<Kept>,
}

impl Shelf {
    pub(crate) fn new(redis: Redis, name: &'static str, lifetime: Duration) -> Self {
        Self { redis, name, lifetime, process: RandomState::new().hash_one(name) }
    }

    /// What makes one load different from all others.
    pub(crate) fn mark(&self, number: u64) -> String {
        format!("{:016x}.{number}", self.process)
    }

    /// Looks for a value that was loaded after `fresh_since`, where the asker has the copy with `mark`. Locks it if it is to
    /// be loaded.
    pub(crate) async fn look(&self, key: &Key, fresh_since: Timestamp, mark: &str) -> Result<Seen> {
        let mut call = LOOK.prepare_invoke();
        self.name(&mut call, key);
        call.arg(fresh_since.micros()).arg(mark).arg(self.process).arg(millis(LOCK));
        let (state, generations, loaded_at, mark, bytes): (u8, String, i64, String, Vec<u8>) =
            self.redis.run(&call).await?;
        let state = match state {
            0 => State::Load,
            1 => State::Wait,
            _ => State::Fresh,
        };
        let kept = (loaded_at != 0).then(|| Kept { loaded_at: Timestamp::from_micros(loaded_at), mark, bytes });
        Ok(Seen { state, generations, kept })
    }

    /// Ends a load that began with these generations. False if the value was invalidated since.
    pub(crate) async fn keep(&self, key: &Key, generations: &str, kept: &Kept) -> Result<bool> {
        self.end(key, generations, kept, millis(self.lifetime)).await
    }

    /// Ends a load of which nothing is to be kept.
    pub(crate) async fn release(&self, key: &Key, generations: &str) -> Result<bool> {
        let nothing = Kept { loaded_at: Timestamp::default(), mark: String::new(), bytes: Vec::new() };
        self.end(key, generations, &nothing, 0).await
    }

    async fn end(&self, key: &Key, generations: &str, kept: &Kept, lifetime: u64) -> Result<bool> {
        let mut call = KEEP.prepare_invoke();
        self.name(&mut call, key);
        call.arg(self.process).arg(lifetime).arg(generations);
        call.arg(&kept.mark).arg(kept.loaded_at.micros()).arg(kept.bytes.as_slice());
        Ok(self.redis.run::<u8>(&call).await? == 1)
    }

    /// Invalidates a value, whoever loads it now.
    pub(crate) async fn forget(&self, key: &Key) -> Result<()> {
        self.renew(format!("mf:generation:{}:{key}", self.name)).await
    }

    /// Invalidates all values of a group.
    pub(crate) async fn forget_group(&self, group: &Group) -> Result<()> {
        self.renew(format!("mf:generation:{}:{group}", self.name)).await
    }

    async fn renew(&self, generation: String) -> Result<()> {
        let mut call = FORGET.prepare_invoke();
        call.key(generation).arg(millis(self.lifetime + LONGEST_LOAD));
        self.redis.run::<u8>(&call).await.map(|_| ())
    }

    fn name(&self, call: &mut ScriptInvocation<'_>, key: &Key) {
        let name = self.name;
        call.key(format!("mf:value:{name}:{key}")).key(format!("mf:generation:{name}:{}", key.group()));
        call.key(format!("mf:generation:{name}:{key}")).key(format!("mf:loading:{name}:{key}"));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
