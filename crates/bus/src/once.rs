//! What is asked again with the same idempotency key takes effect once. Where one transaction is the whole effect, the key is
//! claimed and the answer kept in it, so a crash leaves either both or nothing, and who asks meanwhile waits for its end.
//! Whatever is more than that claims the key first and keeps the answer last; who asks meanwhile is told to wait.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Clock, Error, IdempotencyKey, Principal, Result, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sha2::{Digest, Sha256};

/// How long answers are kept: after that, the same key asks for something new.
const RETAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// A request with an idempotency key.
#[derive(Clone, Debug)]
pub struct Asked {
    scope: [u8; 32],
    fingerprint: [u8; 32],
}

impl Asked {
    /// `caller` asks for `operation` with everything that makes a difference to it in `request`. Keys of different tenants,
    /// callers and operations have nothing to do with each other.
    pub fn new(caller: &Principal, operation: &str, key: &IdempotencyKey, request: &[&[u8]]) -> Self {
        let tenant = caller.tenant.0.into_bytes();
        let scope = [tenant.as_slice(), caller.subject.as_bytes(), operation.as_bytes(), key.as_str().as_bytes()];
        Self {
            scope: hash(b"manifold idempotency scope 1", &scope),
            fingerprint: hash(b"manifold idempotency request 1", request),
        }
    }

    /// Claims the key at the beginning of a transaction; gives the answer of the first time, if this is not it. Then the
    /// transaction shall do nothing else. The same key with another request is `IDEMPOTENCY_KEY_REUSED`.
    pub async fn claim(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<Option<Vec<u8>>> {
        if self.insert(tx, now).await? {
            return Ok(None);
        }
        let (answer, _) = self.find(tx).await?;
        answer.map(Some).ok_or_else(|| Error::internal("a transaction claimed an idempotency key and kept no answer"))
    }

    /// Claims the key for work that is more than one transaction; [`Claimed::keep`] or [`Claimed::give_up`] ends it. Who has
    /// done neither for `lease` may have been killed, and the next one who asks has the turn: only then an effect may come
    /// twice. The same key with another request is `IDEMPOTENCY_KEY_REUSED`.
    pub async fn begin(&self, db: &Db, now: Timestamp, lease: Duration) -> Result<Turn> {
        let asked = self.clone();
        let turn = db.write("claim an idempotency key", move |tx| {
            let asked = asked.clone();
            Box::pin(async move { asked.take_turn(tx, now, lease).await })
        });
        turn.await
    }

    async fn take_turn(&self, tx: &mut Tx<'_>, now: Timestamp, lease: Duration) -> Result<Turn> {
        let claimed = Claimed { scope: self.scope, at: now };
        if self.insert(tx, now).await? {
            return Ok(Turn::First(claimed));
        }
        let (answer, begun_at) = self.find(tx).await?;
        if let Some(answer) = answer {
            return Ok(Turn::Again(answer));
        }
        if now.since(begun_at) < lease {
            return Ok(Turn::Busy);
        }
        let take = "UPDATE idempotency SET created_at = $3 WHERE scope = $1 AND created_at = $2 AND answer IS NULL";
        let scope = self.scope.as_slice();
        let taken = on!(tx, |executor| {
            let query = sqlx::query(take).bind(scope).bind(Micros::from(begun_at)).bind(Micros::from(now));
            query.execute(executor).await.map(|done| done.rows_affected())
        });
        let taken = taken.during("take an idempotency key over")?;
        Ok(if taken == 1 { Turn::First(claimed) } else { Turn::Busy })
    }

    /// Whether the key is new.
    async fn insert(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<bool> {
        let claim =
            "INSERT INTO idempotency (scope, fingerprint, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let (scope, fingerprint) = (self.scope.as_slice(), self.fingerprint.as_slice());
        let claimed = on!(tx, |executor| {
            let query = sqlx::query(claim).bind(scope).bind(fingerprint).bind(Micros::from(now));
            query.execute(executor).await.map(|done| done.rows_affected())
        });
        Ok(claimed.during("claim an idempotency key")? == 1)
    }

    /// The answer of the first time, if there is one yet, and when that began.
    async fn find(&self, tx: &mut Tx<'_>) -> Result<(Option<Vec<u8>>, Timestamp)> {
        let find = "SELECT fingerprint, answer, created_at FROM idempotency WHERE scope = $1";
        let scope = self.scope.as_slice();
        let found = on!(tx, |executor| sqlx::query_as(find).bind(scope).fetch_one(executor).await);
        let (before, answer, at): (Vec<u8>, Option<Vec<u8>>, Micros) =
            found.during("read what was asked with an idempotency key")?;
        if before != self.fingerprint {
            let message = "this idempotency key was used with another request; take a new key for each new request";
            return Err(Error::invalid("IDEMPOTENCY_KEY_REUSED", message).at("Idempotency-Key"));
        }
        Ok((answer, at.into()))
    }

    /// Keeps the answer at the end of the transaction that claimed the key. Secrets in it must be sealed.
    pub async fn keep(&self, tx: &mut Tx<'_>, answer: &[u8]) -> Result<()> {
        let keep = "UPDATE idempotency SET answer = $2 WHERE scope = $1";
        let scope = self.scope.as_slice();
        let kept = on!(tx, |executor| sqlx::query(keep).bind(scope).bind(answer).execute(executor).await.map(|_| ()));
        kept.during("keep an answer")
    }
}

/// What becomes of a request that may have come before.
#[derive(Debug)]
pub enum Turn {
    /// It is the first: do it.
    First(Claimed),
    /// It was answered like this.
    Again(Vec<u8>),
    /// It is being done.
    Busy,
}

/// A request that is being done.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    scope: [u8; 32],
    at: Timestamp,
}

impl Claimed {
    /// Keeps the answer for who asks again. Secrets in it must be sealed. Changes nothing if somebody else has taken over.
    pub async fn keep(self, db: &Db, answer: Vec<u8>) -> Result<()> {
        let answer: Arc<[u8]> = answer.into();
        let kept = db.write("keep an answer", move |tx| {
            let answer = Arc::clone(&answer);
            let keep = "UPDATE idempotency SET answer = $3 WHERE scope = $1 AND created_at = $2 AND answer IS NULL";
            Box::pin(async move {
                let (scope, at) = (self.scope.as_slice(), Micros::from(self.at));
                let kept = on!(tx, |executor| {
                    sqlx::query(keep).bind(scope).bind(at).bind(&*answer).execute(executor).await.map(|_| ())
                });
                kept.during("keep an answer")
            })
        });
        kept.await
    }

    /// Nothing was done: the next one who asks has the turn.
    pub async fn give_up(self, db: &Db) -> Result<()> {
        let gone = db.write("give an idempotency key back", move |tx| {
            let forget = "DELETE FROM idempotency WHERE scope = $1 AND created_at = $2 AND answer IS NULL";
            Box::pin(async move {
                let (scope, at) = (self.scope.as_slice(), Micros::from(self.at));
                let gone = on!(tx, |executor| {
                    sqlx::query(forget).bind(scope).bind(at).execute(executor).await.map(|_| ())
                });
                gone.during("give an idempotency key back")
            })
        });
        gone.await
    }
}

/// Forgets answers that are older than 24 hours; counts them.
pub async fn prune_answers(db: &Db, clock: &Clock) -> Result<u64> {
    manifold_store::prune(db, "idempotency", "created_at, scope", "created_at", clock.now().before(RETAIN)).await
}

/// Of all parts with their lengths, so that nothing can move from one to the next.
fn hash(what: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let parts = std::iter::once(&what).chain(parts);
    let hash =
        parts.fold(Sha256::new(), |hash, part| hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use manifold_core::{SubjectKind, TenantId};
    use uuid::Uuid;

    use super::*;

    fn asked(tenant: u128, subject: &str, operation: &str, key: &str, request: &[&[u8]]) -> Asked {
        let caller = Principal {
            tenant: TenantId(Uuid::from_u128(tenant)),
            subject: subject.into(),
            kind: SubjectKind::Key,
            key: None,
            permissions: [].into(),
            environment: "live".into(),
            ..Principal::anonymous()
        };
        Asked::new(&caller, operation, &IdempotencyKey::parse(key).unwrap(), request)
    }

    #[test]
    fn tenants_callers_operations_and_keys_keep_apart() {
        let all = [
            asked(1, "ab", "c", "d", &[]),
            asked(2, "ab", "c", "d", &[]),
            asked(1, "a", "bc", "d", &[]),
            asked(1, "ab", "cd", "d", &[]),
            asked(1, "ab", "c", "dd", &[]),
        ];
        let scopes: std::collections::HashSet<_> = all.iter().map(|asked| asked.scope).collect();

        assert_eq!(scopes.len(), all.len());
    }

    #[test]
    fn requests_are_told_apart_part_by_part() {
        let fingerprint = |request: &[&[u8]]| asked(1, "a", "b", "c", request).fingerprint;

        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_ne!(fingerprint(&[b"ab"]), fingerprint(&[b"ab", b""]));
    }
}
