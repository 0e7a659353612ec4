//! Words that every crate shares: errors, ids, time, secrets, money, pages, principals, trace context.
//! No IO, no async runtime, no public JSON.

mod decimal;
mod error;
mod error_pages;
mod grant;
mod id;
mod idempotency;
mod money;
mod page;
mod principal;
mod secret;
mod time;
mod trace;

pub use decimal::Decimal;
pub use error::{Code, Error, Result, ResultExt};
pub use error_pages::error_page;
pub use grant::{Grant, NOW, permission_matches};
pub use id::{
    BlockId, EventId, FactorId, Ids, IncidentId, InvitationId, JobId, KeyId, OwnerId, RequestId, RoleId, SecretId,
    SessionId, TenantId, UserId, decode_id, encode_id,
};
pub use idempotency::IdempotencyKey;
pub use money::Nanos;
pub use page::{Page, PageRequest};
pub use principal::{Principal, SubjectKind};
pub use secret::Secret;
pub use time::{Clock, Timestamp, parse_iso_duration};
pub use trace::TraceContext;
