//! On which terms a key works, beside what it may do.

use manifold_core::{Error, OwnerId, Result, Timestamp};
use serde_json::{Map, Value, json};

use super::credit::{Refill, check_credits};
use super::restriction::Restrictions;

/// Bytes of the metadata of a key, as JSON.
const MAX_METADATA: usize = 4_096;

/// On which terms a key works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// From where and for what it may be used.
    pub restrictions: Restrictions,
    /// What its holder wants to remember with it, up to 4 KiB of JSON.
    pub metadata: Map<String, Value>,
    /// How many calls it has left; None = as many as it wants.
    pub credits: Option<i64>,
    /// How credits are filled up; None = not.
    pub refill: Option<Refill>,
    /// How many days a secret of it shall live at most, 30 to 365: then somebody is reminded. None = no matter.
    pub rotate_every: Option<u16>,
    /// For whom it is; None = nobody in particular.
    pub owner: Option<OwnerId>,
}

impl Terms {
    /// In the form in which they are kept. Who names a refill and no credits begins with a full number of them.
    ///
    /// # Errors
    /// `RESTRICTION_INVALID`, `METADATA_TOO_LARGE`, `CREDITS_INVALID`.
    pub(super) fn read(mut self) -> Result<Self> {
        self.restrictions = self.restrictions.read()?;
        check_metadata(&self.metadata)?;
        if let Some(refill) = &self.refill {
            refill.check()?;
            self.credits.get_or_insert(refill.amount);
        }
        self.credits.map_or(Ok(()), check_credits)?;
        self.rotate_every.map_or(Ok(()), check_rotate_every)?;
        Ok(self)
    }

    /// As events tell them.
    pub(crate) fn to_json(&self) -> Value {
        let Self { restrictions, metadata, credits, refill, rotate_every, owner } = self;
        let owner = owner.map(|owner| owner.to_string());
        json!({ "restrictions": restrictions, "metadata": metadata, "credits": credits, "refill": refill,
            "rotate_every": rotate_every, "owner": owner })
    }
}

/// What its holder wants to remember must be little.
pub(crate) fn check_metadata(metadata: &Map<String, Value>) -> Result<()> {
    let size = serde_json::to_vec(metadata).map_or(usize::MAX, |text| text.len());
    if size > MAX_METADATA {
        return Err(Error::invalid("METADATA_TOO_LARGE", "metadata is at most 4 KiB of JSON").at("metadata"));
    }
    Ok(())
}

/// Secrets live a month at least, and a year at most.
pub(super) fn check_rotate_every(days: u16) -> Result<()> {
    if (30..=365).contains(&days) {
        return Ok(());
    }
    Err(Error::invalid("ROTATE_EVERY_INVALID", "it is a number of days from 30 to 365").at("rotate_every"))
}

/// A key ends in the future, or never.
pub(super) fn check_expiry(expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    if expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Error::invalid("EXPIRY_INVALID", "a key must expire in the future").at("expires_at"));
    }
    Ok(())
}
