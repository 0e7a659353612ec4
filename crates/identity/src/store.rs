//! All SQL. Every statement on a tenant's rows names the tenant, except the look-up by secret, which finds out whose it is.

pub mod key;
pub mod revocation;
pub mod system;
