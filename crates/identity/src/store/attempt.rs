//! SQL of `login_attempt`: how often somebody tried, for all processes.

use std::time::Duration;

use manifold_core::{Result, Timestamp};
use manifold_store::{Micros, SqlResultExt, Tx, on};

/// How long tries are added up.
const WINDOW: Duration = Duration::from_secs(3_600);

/// Whether a try may take place.
pub enum Tried {
    /// It may, and is so many in the last hour.
    Counted(i64),
    /// Not before.
    Early(Timestamp),
}

/// Counts a try of `subject`, of which `free` in an hour need no pause: then 1, 2, 4 … 60 s. One that comes before its time is
/// not counted.
pub async fn begin(tx: &mut Tx<'_>, subject: &str, free: i64, now: Timestamp) -> Result<Tried> {
    // n is that of the tries before this one, since `at`; a pause of 2^(n - free) s stops growing at a minute.
    let sql = "INSERT INTO login_attempt (subject, n, next_at, at) VALUES ($1, 1, $2, $2) ON CONFLICT (subject) DO UPDATE SET \
               n = CASE WHEN login_attempt.at <= $4 THEN 1 ELSE login_attempt.n + 1 END, \
               at = CASE WHEN login_attempt.at <= $4 THEN $2 ELSE login_attempt.at END, \
               next_at = $2 + CASE WHEN login_attempt.at <= $4 OR login_attempt.n < $3 THEN 0 \
               WHEN login_attempt.n - $3 > 5 THEN 60000000 ELSE 1000000 * (1 << CAST(login_attempt.n - $3 AS INTEGER)) END \
               WHERE login_attempt.next_at <= $2 RETURNING n";
    let counted = on!(tx, |executor| {
        let query = sqlx::query_scalar::<_, i64>(sql).bind(subject).bind(Micros::from(now)).bind(free);
        query.bind(Micros::from(now.before(WINDOW))).fetch_optional(executor).await
    });
    if let Some(n) = counted.during("count a try to log in")? {
        return Ok(Tried::Counted(n));
    }
    let sql = "SELECT next_at FROM login_attempt WHERE subject = $1";
    let until = on!(tx, |executor| sqlx::query_scalar::<_, Micros>(sql).bind(subject).fetch_one(executor).await);
    until.during("read when somebody may try again").map(|until| Tried::Early(until.into()))
}

/// Forgets the tries of `subject`, which succeeded.
pub async fn forget(tx: &mut Tx<'_>, subject: &str) -> Result<()> {
    let sql = "DELETE FROM login_attempt WHERE subject = $1";
    on!(tx, |executor| sqlx::query(sql).bind(subject).execute(executor).await.map(|_| ())).during("forget tries")
}

/// Takes one try of `subject` back, which succeeded.
pub async fn take_back(tx: &mut Tx<'_>, subject: &str, now: Timestamp) -> Result<()> {
    let sql = "UPDATE login_attempt SET n = n - 1, next_at = $2 WHERE subject = $1 AND n > 0";
    on!(tx, |executor| sqlx::query(sql).bind(subject).bind(Micros::from(now)).execute(executor).await.map(|_| ()))
        .during("take a try back")
}
