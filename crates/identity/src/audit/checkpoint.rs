//! Checkpoints: every thousand entries or every hour the end of a chain is signed, and the signature leaves by the bus. Whoever
//! cuts the chain or writes it anew has to forge it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manifold_bus::{Cause, Draft};
use manifold_core::{Error, Principal, RequestId, Result, TenantId, Timestamp, TraceContext};
use manifold_store::Micros;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::json;
use sqlx::FromRow;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use uuid::Uuid;

use crate::Identity;
use crate::hex::to_hex;
use crate::store::audit as store;

const EVERY: Duration = Duration::from_secs(60);
/// A chain that grew by so many entries is signed again.
pub const ENTRIES: i64 = 1_000;
/// A chain that grew at all is signed again after this time.
pub const INTERVAL: Duration = Duration::from_secs(3_600);
/// Keeps these signatures apart from all others.
const DOMAIN: &[u8] = b"manifold-audit-cp-v1\0";

/// The end of a chain at some time, signed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Checkpoint {
    /// Whose chain.
    pub tenant_id: Uuid,
    /// Its last entry then.
    pub seq: i64,
    /// The hash of that entry.
    pub hash: Vec<u8>,
    /// When.
    #[sqlx(try_from = "Micros")]
    pub at: Timestamp,
    /// Version of the key that signed.
    pub kid: String,
    /// Ed25519.
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// `domain ‖ tenant ‖ seq ‖ hash ‖ at`, numbers as i64, big-endian.
    fn message(&self) -> Vec<u8> {
        let (seq, at) = (self.seq.to_be_bytes(), self.at.micros().to_be_bytes());
        [DOMAIN, self.tenant_id.as_bytes(), &seq, &self.hash, &at].concat()
    }

    /// Whether the holder of this public key signed it.
    pub fn is_signed_by(&self, public: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, public).verify(&self.message(), &self.signature).is_ok()
    }
}

/// What signs.
pub struct Signer {
    key: Ed25519KeyPair,
    kid: String,
}

impl Signer {
    /// By the newest version of a system key, which is the seed.
    pub fn new(version: i32, seed: &[u8; 32]) -> Result<Self> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed);
        let key = key.map_err(|_| Error::internal("the key of checkpoints is none"))?;
        Ok(Self { key, kid: format!("audit-{version}") })
    }

    /// The public key, 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// The public key as [`read_public`] reads it.
    pub fn printed(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.public())
    }

    /// The name of the key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn sign(&self, tenant: TenantId, seq: i64, hash: Vec<u8>, at: Timestamp) -> Checkpoint {
        let unsigned = Checkpoint { tenant_id: tenant.0, seq, hash, at, kid: self.kid.clone(), signature: Vec::new() };
        Checkpoint { signature: self.key.sign(&unsigned.message()).as_ref().to_vec(), ..unsigned }
    }
}

/// Reads a public key: base64url.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is none.
pub fn read_public(text: &str) -> Result<Vec<u8>> {
    let wrong = |_| Error::invalid("INVALID_ARGUMENT", "the key is not what `manifold audit key` prints").at("key");
    URL_SAFE_NO_PAD.decode(text.trim()).map_err(wrong)
}

/// Signs chains until shutdown.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = sign_due(&identity).await {
            warn!(%error, "cannot sign audit chains");
        }
    }
}

/// Signs the chains that are due.
pub(crate) async fn sign_due(identity: &Identity) -> Result<()> {
    let now = identity.inner.clock.now();
    for (tenant, seq, hash) in store::list_unsigned(&identity.inner.db, ENTRIES, now.before(INTERVAL)).await? {
        let checkpoint = identity.inner.signer.sign(TenantId(tenant), seq, hash, now);
        let work = Arc::new((identity.clone(), event(&checkpoint), checkpoint));
        let written = identity.inner.db.write("sign an audit chain", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, event, checkpoint) = &*work;
                if !store::insert_checkpoint(tx, checkpoint).await? {
                    return Ok(());
                }
                let (principal, trace) = (Principal::anonymous(), TraceContext::root());
                let request = RequestId(identity.inner.ids.next());
                let cause = Cause::Request { principal: &principal, request, trace: &trace };
                // It is no entry itself: it would be signed in turn, for ever.
                identity.inner.outbox.publish(tx, std::slice::from_ref(event), &cause).await
            })
        });
        written.await?;
    }
    Ok(())
}

fn event(checkpoint: &Checkpoint) -> Draft {
    let tenant = TenantId(checkpoint.tenant_id);
    let data = json!({
        "seq": checkpoint.seq,
        "hash": to_hex(&checkpoint.hash),
        "at": checkpoint.at.micros(),
        "kid": checkpoint.kid,
        "signature": to_hex(&checkpoint.signature),
    });
    Draft { type_: "identity.audit.signed", subject: tenant.to_string(), tenant, data: data.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_exactly_what_was_signed() {
        let signer = Signer::new(1, &[7; 32]).unwrap();
        let signed = signer.sign(TenantId(Uuid::from_u128(5)), 3, vec![9; 32], Timestamp::from_micros(1));
        let other = Signer::new(1, &[8; 32]).unwrap();

        assert!(signed.is_signed_by(signer.public()));
        assert!(!signed.is_signed_by(other.public()));
        for forged in [
            Checkpoint { tenant_id: Uuid::from_u128(6), ..signed.clone() },
            Checkpoint { seq: 4, ..signed.clone() },
            Checkpoint { hash: vec![8; 32], ..signed.clone() },
            Checkpoint { at: Timestamp::from_micros(2), ..signed.clone() },
        ] {
            assert!(!forged.is_signed_by(signer.public()), "{forged:?}");
        }
    }
}
