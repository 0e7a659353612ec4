//! Who is believed between processes.

use manifold_contract::identity::v1::{Principal, SubjectKind};
use manifold_core::Code;
use manifold_runtime::{Mesh, MeshConfig, from_status};
use prost::Message;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::echo::v1::SayRequest;
use crate::echo::v1::echo_client::EchoClient;
use crate::echo::{SECRET, mesh_to, say, serve};

/// What a stranger would send to pass as somebody.
fn forged(secret: Option<&str>) -> tonic::Request<SayRequest> {
    let principal = Principal {
        tenant: manifold_core::TenantId(uuid::Uuid::nil()).to_string(),
        subject: "root".to_owned(),
        kind: SubjectKind::Key.into(),
        permissions: vec!["*".to_owned()],
        ..Principal::default()
    };
    let mut request = tonic::Request::new(SayRequest { text: "who".to_owned() });
    let metadata: &mut MetadataMap = request.metadata_mut();
    metadata.insert_bin("x-manifold-principal-bin", BinaryMetadataValue::from_bytes(&principal.encode_to_vec()));
    metadata.insert("x-manifold-request-id", "req_00000000000000000000000000".parse().expect("ASCII"));
    metadata.insert("grpc-timeout", "10S".parse().expect("ASCII"));
    if let Some(secret) = secret {
        metadata.insert("x-manifold-mesh-secret", secret.parse().expect("ASCII"));
    }
    request
}

#[tokio::test]
async fn a_caller_named_without_the_secret_is_nobody() {
    let (address, _tasks) = serve(SECRET).await;
    let transport = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();

    let status = EchoClient::new(transport).say(forged(None)).await.unwrap_err();

    assert_eq!(from_status(status).reason(), "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let (address, _tasks) = serve(SECRET).await;
    let transport = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();

    for secret in ["", "a secret", "a secret of the mesh "] {
        let status = EchoClient::new(transport.clone()).say(forged(Some(secret))).await.unwrap_err();

        assert_eq!(from_status(status).reason(), "UNAVAILABLE", "{secret:?}");
    }
}

#[tokio::test]
async fn the_right_secret_is_believed() {
    let (address, _tasks) = serve(SECRET).await;
    let transport = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();

    let answer = EchoClient::new(transport).say(forged(Some(SECRET))).await.unwrap();

    assert_eq!(answer.into_inner().text, "root req_00000000000000000000000000");
}

#[tokio::test]
async fn processes_with_different_secrets_do_not_talk() {
    let (address, _tasks) = serve(SECRET).await;

    let status = EchoClient::new(mesh_to(&address, "another").channel("echo")).say(say("who")).await.unwrap_err();

    assert_eq!(from_status(status).code(), Code::Unavailable);
}

#[tokio::test]
async fn metadata_of_the_caller_cannot_replace_the_context() {
    let (address, _tasks) = serve(SECRET).await;
    let mut request = say("who");
    *request.metadata_mut() = forged(Some("wrong")).metadata().clone();

    let answer = EchoClient::new(mesh_to(&address, SECRET).channel("echo")).say(request).await.unwrap();

    assert!(answer.into_inner().text.starts_with("key_ana "));
}

#[tokio::test]
async fn health_is_told_to_everybody() {
    let (address, _tasks) = serve(SECRET).await;
    let transport = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();

    let answer = HealthClient::new(transport).check(HealthCheckRequest { service: "echo".to_owned() }).await;

    assert!(answer.is_ok());
}

#[tokio::test]
async fn two_processes_need_a_secret() {
    let endpoints = [("echo".to_owned(), "127.0.0.1:1".to_owned())].into();

    let error = Mesh::new(MeshConfig { endpoints, secret: None }).unwrap_err();

    assert_eq!(error.param(), Some("mesh.secret"));
}
