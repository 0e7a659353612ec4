//! Sliding and fixed windows in whole milliseconds. Pure, and the same as `window.lua`.
//!
//! A sliding window counts what was spent since it began, and of the window before it the share that still lies within
//! one length of now, as if it had been spent evenly. A fixed window forgets everything when the next one begins. Windows
//! begin at multiples of their length since 1970, so one of 24 hours is a day of UTC; a month is as long as the calendar
//! says.
//!
//! Counts of a window that begins more than one length from now were made by a clock that ran ahead: they move to the
//! present window.

/// Milliseconds by which the clocks of those who charge may differ.
pub(crate) const SKEW: u64 = 10_000;

/// Stands for the length of a month of UTC.
pub(crate) const MONTH: u64 = 0;

/// Milliseconds of a day.
pub(crate) const DAY: u64 = 24 * 3_600 * 1_000;

/// A policy in the terms of the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Milliseconds of one window; [`MONTH`] = a month of UTC, which does not slide.
    pub(crate) length: u64,
    /// Units per window: below 2^52, and times the length of a window that slides, too, so that the numbers of Lua are
    /// exact.
    pub(crate) quota: u64,
    /// Whether the window before counts, too.
    pub(crate) slides: bool,
}

/// What a key has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// When the window began, in milliseconds.
    pub(crate) start: u64,
    /// Units since then.
    pub(crate) current: u64,
    /// Units of the window before.
    pub(crate) previous: u64,
}

/// What becomes of a charge. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Store `counts`. Everything has come back after `reset`.
    Admit { counts: Counts, granted: u64, remaining: u64, reset: u64 },
    /// Store `counts`, which are as they were unless a clock has stepped back. The least that was asked for passes after
    /// `wait`.
    Deny { counts: Counts, remaining: u64, wait: u64 },
}

/// Decides about spending `want` units at `now` (microseconds), or fewer but no less than `least`.
pub(crate) fn step(span: Span, stored: Counts, want: u64, least: u64, now: u64) -> Step {
    let Span { quota, slides, .. } = span;
    let now = now / 1_000;
    let (start, length) = window(span.length, now);
    let foreign = stored.start > now + length.max(SKEW);
    let stored = if foreign { Counts { start, ..stored } } else { stored };
    let now = now.max(stored.start);
    let (start, length) = window(span.length, now);
    let elapsed = now - start;
    let (current, previous) = roll(span, stored, start);
    let used = (previous * (length - elapsed)).div_ceil(length) + current;
    let affordable = quota.saturating_sub(used);
    if affordable < least {
        let free = if current.saturating_add(least) <= quota {
            fits(length, previous, quota - current - least)
        } else if slides {
            length + fits(length, current, quota.saturating_sub(least))
        } else {
            length
        };
        return Step::Deny { counts: stored, remaining: affordable, wait: (free - elapsed) * 1_000 };
    }
    let granted = want.min(affordable);
    let counts = Counts { start, current: current + granted, previous };
    let periods = if slides { 2 } else { 1 };
    Step::Admit { counts, granted, remaining: affordable - granted, reset: (periods * length - elapsed) * 1_000 }
}

/// When the window in which `now` lies begins, and how long it is.
pub(crate) fn window(length: u64, now: u64) -> (u64, u64) {
    if length != MONTH {
        return (now - now % length, length);
    }
    let first = first_of_month(now / DAY);
    // A month and 31 days from its first is a day of the next one.
    (first * DAY, (first_of_month(first + 31) - first) * DAY)
}

/// The first day of the month of a day, both counted since 1970. Of the calendar that repeats every 400 years, with years that
/// begin in March, so that a leap day is the last: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn first_of_month(day: u64) -> u64 {
    let of_era = (day + 719_468) % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    day - (of_year - (153 * month + 2) / 5)
}

/// What is counted of the window that begins at `start`, and of the one before.
fn roll(span: Span, stored: Counts, start: u64) -> (u64, u64) {
    let (current, previous) = if start == stored.start {
        (stored.current, stored.previous)
    } else if start == stored.start + span.length {
        (0, stored.current)
    } else {
        (0, 0)
    };
    (current, if span.slides { previous } else { 0 })
}

/// From which millisecond of a window on `count` units of the one before weigh no more than `room`.
fn fits(length: u64, count: u64, room: u64) -> u64 {
    if count <= room { 0 } else { length - room * length / count }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLIDING: Span = Span { length: 1_000, quota: 10, slides: true };
    const FIXED: Span = Span { slides: false, ..SLIDING };

    /// Spends at each time and returns what was admitted.
    fn play(span: Span, times: &[(u64, u64)]) -> Vec<bool> {
        let mut stored = Counts::default();
        let mut admitted = Vec::new();
        for (millis, n) in times {
            let step = step(span, stored, *n, *n, millis * 1_000);
            if let Step::Admit { counts, .. } = step {
                stored = counts;
            }
            admitted.push(matches!(step, Step::Admit { .. }));
        }
        admitted
    }

    #[test]
    fn a_sliding_window_lets_the_one_before_fade() {
        // At 10,500 half of the 10 weigh: 5 more pass, a sixth does not.
        let admitted = play(SLIDING, &[(9_000, 10), (9_999, 1), (10_000, 1), (10_500, 5), (10_500, 1), (12_000, 5)]);

        assert_eq!(admitted, [true, false, false, true, false, true]);
    }

    #[test]
    fn a_fixed_window_forgets_at_its_end() {
        let admitted = play(FIXED, &[(9_999, 10), (9_999, 1), (10_000, 10), (10_500, 1)]);

        assert_eq!(admitted, [true, false, true, false]);
    }

    #[test]
    fn after_the_wait_the_same_charge_passes_and_not_before() {
        for span in [SLIDING, FIXED] {
            for (previous, current, n, elapsed) in [(10, 0, 3, 0), (7, 5, 4, 200), (3, 10, 1, 999), (10, 10, 10, 1)] {
                let stored = Counts { start: 5_000, current, previous };
                let now = (5_000 + elapsed) * 1_000;
                let Step::Deny { wait, .. } = step(span, stored, n, n, now) else { continue };

                let before = step(span, stored, n, n, now + wait - 1_000);
                let after = step(span, stored, n, n, now + wait);

                assert!(matches!(before, Step::Deny { .. }), "{span:?} {stored:?} {n} {before:?}");
                assert!(matches!(after, Step::Admit { .. }), "{span:?} {stored:?} {n} {after:?}");
            }
        }
    }

    /// Days since 1970 on which months begin, counted as everybody does.
    fn firsts() -> Vec<u64> {
        let (mut firsts, mut day) = (Vec::new(), 0);
        for year in 1970..2410 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for length in [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                firsts.push(day);
                day += length;
            }
        }
        firsts
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for pair in firsts().windows(2) {
            let (first, next) = (pair[0], pair[1]);

            for at in [first * DAY, first * DAY + 1, (first + 27) * DAY, next * DAY - 1] {
                assert_eq!(window(MONTH, at), (first * DAY, (next - first) * DAY), "{at}");
            }
        }
        assert_eq!(window(MONTH, 1_709_164_800_000), (1_706_745_600_000, 29 * DAY), "2024-02-29");
    }

    #[test]
    fn a_month_forgets_at_its_end_and_waits_for_it() {
        let span = Span { length: MONTH, ..FIXED };
        // 2023-12-31T23:59:59.999Z
        let last = 1_704_067_199_999;

        let admitted = play(span, &[(last - DAY, 10), (last, 1), (last + 1, 10), (last + 1 + 30 * DAY, 1)]);
        let full = Counts { start: last + 1 - 31 * DAY, current: 10, previous: 0 };
        let refused = step(span, full, 1, 1, (last - DAY) * 1_000);

        assert_eq!(admitted, [true, false, true, false]);
        assert_eq!(refused, Step::Deny { counts: full, remaining: 0, wait: (DAY + 1) * 1_000 });
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_back() {
        let admitted = play(SLIDING, &[(9_500, 10), (3_000, 1), (9_500, 1)]);

        assert_eq!(admitted, [true, false, false]);
    }

    #[test]
    fn after_a_clock_that_ran_ahead_a_key_waits_no_longer_than_usual() {
        for span in [SLIDING, FIXED] {
            let stored = Counts { start: 3_600_000, current: 10, previous: 0 };

            let Step::Deny { counts, wait, .. } = step(span, stored, 1, 1, 5_500_000) else { panic!("a full window") };

            assert_eq!(counts, Counts { start: 5_000, current: 10, previous: 0 });
            assert!(wait <= 2_000_000, "{wait}");
            assert!(matches!(step(span, counts, 1, 1, 5_500_000 + wait), Step::Admit { .. }));
        }
    }
}
