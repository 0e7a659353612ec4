//! Requests that may be sent twice: who asks again with the same idempotency key gets the first answer, and nothing is done a
//! second time. Answers may hold secrets, so they are kept sealed.

use std::time::Duration;

use manifold_bus::{Asked, Claimed, Turn};
use manifold_core::{IdempotencyKey, Principal, Result, Secret, TenantId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::Identity;
use crate::vault::envelope::Place;

/// A request with an idempotency key.
#[derive(Debug)]
pub struct Repeatable<'a> {
    /// Who asks.
    pub caller: &'a Principal,
    /// What for: the same key may be used for each operation.
    pub operation: &'a str,
    /// The client's word that two requests are one.
    pub key: &'a IdempotencyKey,
    /// All that makes a difference to the operation.
    pub request: &'a [&'a [u8]],
}

/// What is to be done with it.
#[derive(Debug)]
pub enum Repeat {
    /// What it asks for; then [`Identity::keep_answer`] or [`Identity::forget_request`].
    First(Promise),
    /// Give this answer again.
    Again(Secret<Vec<u8>>),
    /// Nothing: the first one is being answered.
    Busy,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Promise {
    claimed: Claimed,
    tenant: TenantId,
    row: Uuid,
}

impl Identity {
    /// Finds out whether a request came before. One that was begun `lease` ago and never ended is begun anew.
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_REUSED` if the key came with another request.
    pub async fn begin_request(&self, asked: &Repeatable<'_>, lease: Duration) -> Result<Repeat> {
        let (tenant, row) = (asked.caller.tenant, asked.row());
        // With a key: what is kept of a request that holds a password must not tell whether a guess is right.
        let request = [&[self.inner.repeat_key.expose().as_slice()], asked.request].concat();
        let claim = Asked::new(asked.caller, asked.operation, asked.key, &request);
        Ok(match claim.begin(&self.inner.db, self.inner.clock.now(), lease).await? {
            Turn::First(claimed) => Repeat::First(Promise { claimed, tenant, row }),
            Turn::Busy => Repeat::Busy,
            Turn::Again(answer) => Repeat::Again(self.inner.vault.open(place(tenant, row), &answer).await?),
        })
    }

    /// Keeps the answer for 24 hours.
    pub async fn keep_answer(&self, promise: Promise, answer: &[u8]) -> Result<()> {
        let sealed = self.inner.vault.seal(place(promise.tenant, promise.row), answer).await?;
        promise.claimed.keep(&self.inner.db, sealed).await
    }

    /// Nothing was done: who asks again is the first.
    pub async fn forget_request(&self, promise: Promise) -> Result<()> {
        promise.claimed.give_up(&self.inner.db).await
    }
}

impl Repeatable<'_> {
    /// Stands for the request in the seal of its answer.
    fn row(&self) -> Uuid {
        let parts = [self.caller.subject.as_bytes(), self.operation.as_bytes(), self.key.as_str().as_bytes()];
        let mut row = [0; 16];
        row.copy_from_slice(&Sha256::digest(parts.join(&0))[..16]);
        Uuid::from_bytes(row)
    }
}

fn place(tenant: TenantId, row: Uuid) -> Place<'static> {
    Place { tenant, table: "idempotency", column: "answer", row }
}
