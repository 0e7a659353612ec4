//! TLS of outbound calls: rustls over ring, with the certificates of the machine, or Mozilla's where it has none.

use std::sync::Arc;

use manifold_core::{Code, Result, ResultExt};
use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

pub(super) fn config() -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .or_err(Code::Internal, "set up TLS")?
        .with_root_certificates(roots())
        .with_no_client_auth())
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (n_added, n_ignored) = roots.add_parsable_certificates(found.certs);
    if n_ignored > 0 {
        warn!(n_ignored, "some certificates of the machine cannot be read");
    }
    if n_added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
