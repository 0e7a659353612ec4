//! Providers over TLS: a certificate of a company's own authority is trusted where the machine trusts it, any other is
//! refused before a byte of the request is out.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use manifold_runtime::Tasks;
use manifold_testkit::Upstream;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::program::{MODEL, Program};

/// A door with TLS in front of an upstream, and the certificate to trust, as PEM.
async fn terminate(upstream: SocketAddr, tasks: &Tasks) -> Result<(SocketAddr, String)> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await?);
    let address = listener.local_addr()?;
    let connections = tasks.clone();
    tasks.spawn_until_stop("tls", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn_until_stop("tls connection", async move {
                if let (Ok(mut outside), Ok(mut inside)) =
                    (acceptor.accept(stream).await, TcpStream::connect(upstream).await)
                {
                    drop(copy_bidirectional(&mut outside, &mut inside).await);
                }
            });
        }
    });
    Ok((address, cert.pem()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_called_over_tls_only_if_its_certificate_is_trusted() -> Result<()> {
    let (groq, tasks) = (Upstream::start().await?, Tasks::new());
    let (door, certificate) = terminate(groq.address, &tasks).await?;
    let program =
        Program::new()?.groq(&groq).set("ai.providers.groq.base_url", format!("https://localhost:{}/v1", door.port()));
    let trusted = program.folder().join("authority.pem");
    std::fs::write(&trusted, certificate)?;

    let mut doubting = program.clone().serve().await?;
    let refused = doubting.admin()?.chat(MODEL, "hi").await?;
    doubting.stop().await?;
    let hits_while_doubting = groq.hits();
    let mut trusting = program.variable("SSL_CERT_FILE", trusted.display().to_string()).serve().await?;
    let answered = trusting.admin()?.chat(MODEL, "hi").await?;
    trusting.stop().await?;

    assert_eq!((refused.status, hits_while_doubting), (503, 0), "{}", refused.text);
    assert!(doubting.log().contains(r#""class":"connect""#), "operators are told: {}", doubting.log());
    assert_eq!((answered.status, groq.hits()), (200, 1), "{}", answered.text);
    assert!(tasks.shutdown(std::time::Duration::from_secs(5)).await);
    Ok(())
}
