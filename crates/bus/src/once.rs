//! What is asked again with the same idempotency key takes effect once: the key is claimed and the answer kept in the
//! transaction of the effect, so a crash leaves either both or nothing, and who asks meanwhile waits for its end.

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
        let claim =
            "INSERT INTO idempotency (scope, fingerprint, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let (scope, fingerprint) = (self.scope.as_slice(), self.fingerprint.as_slice());
        let claimed = on!(tx, |executor| {
            let query = sqlx::query(claim).bind(scope).bind(fingerprint).bind(Micros::from(now));
            query.execute(executor).await.map(|done| done.rows_affected())
        });
        if claimed.during("claim an idempotency key")? == 1 {
            return Ok(None);
        }
        let find = "SELECT fingerprint, answer FROM idempotency WHERE scope = $1";
        let found = on!(tx, |executor| sqlx::query_as(find).bind(scope).fetch_one(executor).await);
        let (before, answer): (Vec<u8>, Option<Vec<u8>>) =
            found.during("read what was asked with an idempotency key")?;
        if before != fingerprint {
            let message = "this idempotency key was used with another request; take a new key for each new request";
            return Err(Error::invalid("IDEMPOTENCY_KEY_REUSED", message).at("Idempotency-Key"));
        }
        answer.map(Some).ok_or_else(|| Error::internal("a transaction claimed an idempotency key and kept no answer"))
    }

    /// Keeps the answer at the end of the transaction that claimed the key. Secrets in it must be sealed.
    pub async fn keep(&self, tx: &mut Tx<'_>, answer: &[u8]) -> Result<()> {
        let keep = "UPDATE idempotency SET answer = $2 WHERE scope = $1";
        let scope = self.scope.as_slice();
        let kept = on!(tx, |executor| sqlx::query(keep).bind(scope).bind(answer).execute(executor).await.map(|_| ()));
        kept.during("keep an answer")
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
