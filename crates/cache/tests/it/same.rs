//! The arithmetic in memory and the scripts in Redis are the same: for every state, the same answer and the same state.
//! A sequence is a chain of such steps.

use proptest::prelude::*;
use redis::{Client, Connection, cmd, pipe};

use crate::server;

#[path = "../../src/gcra.rs"]
mod gcra;
#[path = "../../src/window.rs"]
mod window;

use gcra::Rate;
use window::{Counts, DAY, MONTH, Span};

const GCRA: &str = include_str!("../../src/gcra.lua");
const WINDOW: &str = include_str!("../../src/window.lua");
const YEAR: u64 = 366 * 24 * 3_600 * 1_000_000;
/// In the year 2100.
const LATEST: u64 = 4_102_444_800_000_000;

/// Granted, remaining, wait, reset.
type Answer = (u64, u64, u64, u64);

fn connection() -> Connection {
    Client::open(server::url()).unwrap().get_connection().unwrap()
}

/// The script, and after it what it has left in Redis: at the same instant, so that nothing expires in between.
fn with_state(script: &str, read: &str) -> String {
    format!("local function step()\n{script}\nend\nlocal answer = step()\nreturn {{answer, redis.call({read})}}")
}

/// One step of the script from `state`, and the state after it.
fn gcra_in_redis(
    redis: &mut Connection,
    key: &str,
    rate: Rate,
    state: u64,
    ask: (u64, u64),
    now: u64,
) -> (Answer, u64) {
    let mut script = cmd("EVAL");
    script.arg(with_state(GCRA, "'GET', KEYS[1]")).arg(1).arg(key);
    script.arg(now).arg(ask.0).arg(ask.1).arg(rate.interval).arg(rate.burst);
    let (answer,): ((Answer, u64),) = pipe().set(key, state).ignore().add_command(script).query(redis).unwrap();
    answer
}

fn gcra_here(rate: Rate, state: u64, ask: (u64, u64), now: u64) -> (Answer, u64) {
    match gcra::step(rate, state, ask.0, ask.1, now) {
        gcra::Step::Admit { state, granted, remaining, reset } => ((granted, remaining, 0, reset), state),
        gcra::Step::Deny { state, remaining, wait } => ((0, remaining, wait, 0), state),
    }
}

fn window_in_redis(
    redis: &mut Connection,
    key: &str,
    span: Span,
    counts: Counts,
    ask: (u64, u64),
    now: u64,
) -> (Answer, Counts) {
    let mut script = cmd("EVAL");
    script.arg(with_state(WINDOW, "'HMGET', KEYS[1], 'start', 'current', 'previous'")).arg(1).arg(key);
    script.arg(now).arg(ask.0).arg(ask.1).arg(span.length).arg(span.quota).arg(u8::from(span.slides));
    let fields = [("start", counts.start), ("current", counts.current), ("previous", counts.previous)];
    let ((answer, (start, current, previous)),): ((Answer, (u64, u64, u64)),) =
        pipe().del(key).ignore().hset_multiple(key, &fields).ignore().add_command(script).query(redis).unwrap();
    (answer, Counts { start, current, previous })
}

fn window_here(span: Span, stored: Counts, ask: (u64, u64), now: u64) -> (Answer, Counts) {
    match window::step(span, stored, ask.0, ask.1, now) {
        window::Step::Admit { counts, granted, remaining, reset } => ((granted, remaining, 0, reset), counts),
        window::Step::Deny { counts, remaining, wait } => ((0, remaining, wait, 0), counts),
    }
}

/// Numbers of every size.
fn any_size(max: u64) -> impl Strategy<Value = u64> {
    (0..=64 - max.leading_zeros()).prop_flat_map(move |bits| 1..=max.min(1_u64.checked_shl(bits).unwrap_or(max)))
}

fn rates() -> impl Strategy<Value = Rate> {
    any_size(10_000_000)
        .prop_flat_map(|burst| any_size(YEAR / burst).prop_map(move |interval| Rate { interval, burst }))
}

fn spans() -> impl Strategy<Value = Span> {
    let lasting = (any_size(YEAR / 1_000), any::<bool>()).prop_flat_map(|(length, slides)| {
        let longest = if slides { length } else { 1 };
        any_size((1 << 52) / longest).prop_map(move |quota| Span { length, quota, slides })
    });
    let month = any_size(1 << 52).prop_map(|quota| Span { length: MONTH, quota, slides: false });
    prop_oneof![3 => lasting, 1 => month]
}

/// Pauses and charges, as parts of a full burst or window in thousandths.
fn charges() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    prop::collection::vec((0_u64..1_500, 0_u64..1_100, 0_u64..1_001), 1..12)
}

/// Nothing, or what some other clock or policy has left.
fn stored(max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..max]
}

/// So many thousandths of `whole`, one at least.
fn part(whole: u64, thousandths: u64) -> u64 {
    (u128::from(whole) * u128::from(thousandths) / 1_000).max(1) as u64
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn the_steady_rate_is_the_same_in_redis(
        rate in rates(), start in 1..LATEST, stored in stored(2 * LATEST), charges in charges(),
    ) {
        let (mut redis, key) = (connection(), server::name("gcra"));
        let (mut now, mut state) = (start, stored);
        for (pause, want, least) in charges {
            now += part(rate.interval * rate.burst, pause) / 3;
            let want = part(rate.burst, want);
            let ask = (want, part(want, least));

            let here = gcra_here(rate, state, ask, now);
            let there = gcra_in_redis(&mut redis, &key, rate, state, ask, now);

            prop_assert_eq!(here, there, "{:?} {} {:?} {}", rate, state, ask, now);
            state = here.1;
        }
    }

    #[test]
    fn windows_are_the_same_in_redis(
        span in spans(), start in 1..LATEST, stored in stored(2 * LATEST), charges in charges(),
    ) {
        let (mut redis, key) = (connection(), server::name("window"));
        let (mut now, mut counts) = (start, Counts::default());
        if stored > 0 {
            counts = Counts { start: stored / 1_000, current: span.quota, previous: span.quota / 2 };
        }
        for (pause, want, least) in charges {
            let length = if span.length == MONTH { 31 * DAY } else { span.length };
            now += part(length * 1_000, pause);
            let want = part(span.quota, want);
            let ask = (want, part(want, least));

            let here = window_here(span, counts, ask, now);
            let there = window_in_redis(&mut redis, &key, span, counts, ask, now);

            prop_assert_eq!(here, there, "{:?} {:?} {:?} {}", span, counts, ask, now);
            counts = here.1;
        }
    }
}

#[test]
fn the_published_vectors_hold_in_redis() {
    let (mut redis, key, rate) = (connection(), server::name("gcra"), Rate { interval: 600_000, burst: 3 });
    let mut stored = 0;
    for (now, n, admit, left, until) in [
        (1_000_000, 1, true, 2, 0),
        (1_000_000, 1, true, 1, 0),
        (1_000_000, 1, true, 0, 0),
        (1_000_000, 1, false, 0, 600_000),
        (1_600_000, 1, true, 0, 0),
        (2_500_000, 2, false, 1, 300_000),
        (2_800_000, 2, true, 0, 0),
    ] {
        let ((granted, remaining, wait, _), state) = gcra_in_redis(&mut redis, &key, rate, stored, (n, n), now);
        stored = state;

        assert_eq!((granted == n, remaining, wait), (admit, left, until), "{n} at {now}");
    }
}

#[test]
fn months_are_the_same_in_redis_to_the_millisecond() {
    let (mut redis, key) = (connection(), server::name("month"));
    let span = Span { length: MONTH, quota: 3, slides: false };
    let mut begin = 0;
    while begin < LATEST / 1_000 {
        let length = window::window(MONTH, begin).1;
        let full = Counts { start: begin, current: 3, previous: 0 };
        for now in [begin.max(1), begin + 28 * DAY, begin + length - 1, begin + length] {
            let here = window_here(span, full, (1, 1), now * 1_000);
            let there = window_in_redis(&mut redis, &key, span, full, (1, 1), now * 1_000);

            assert_eq!(here, there, "{now}");
            assert_eq!(here.0.0 > 0, now >= begin + length, "{now}");
        }
        begin += length;
    }
}

#[test]
fn counts_are_forgotten_when_they_are_as_good_as_new() {
    let mut redis = connection();
    let (rate, window) = (server::name("gcra"), server::name("window"));

    let mut script = cmd("EVAL");
    script.arg(GCRA).arg(1).arg(&rate).arg(0).arg(2).arg(2).arg(3_600_000_000_u64).arg(3);
    let answer: Answer = script.query(&mut redis).unwrap();
    cmd("EVAL")
        .arg(WINDOW)
        .arg(1)
        .arg(&window)
        .arg(0)
        .arg(2)
        .arg(2)
        .arg(3_600_000)
        .arg(3)
        .arg(1)
        .exec(&mut redis)
        .unwrap();
    let ttl = |key: &str, redis: &mut Connection| cmd("PTTL").arg(key).query::<i64>(redis).unwrap();

    assert_eq!(answer, (2, 1, 0, 7_200_000_000), "by the clock of Redis");
    assert!((7_100_000..=7_200_001).contains(&ttl(&rate, &mut redis)));
    assert!((3_500_000..=7_200_000).contains(&ttl(&window, &mut redis)));
}
