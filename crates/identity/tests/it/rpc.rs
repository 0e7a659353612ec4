//! The service `Keys` as other services call it.

use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::keys;
use manifold_core::Code;
use manifold_runtime::{Channel, Mesh, MeshConfig, from_status, request};

use crate::house::{House, Process};

on_both_engines!(a_key_is_made_shown_listed_and_revoked, refusals_keep_their_reasons, nobody_calls_without_a_caller);

fn wish(name: &str) -> proto::CreateKeyRequest {
    proto::CreateKeyRequest { name: name.to_owned(), ..Default::default() }
}

fn client(process: &Process) -> keys::Client<Channel> {
    let mesh = Mesh::new(MeshConfig::default()).unwrap();
    mesh.provide("identity", process.routes.clone());
    keys::Client::new(mesh.channel("identity"))
}

async fn a_key_is_made_shown_listed_and_revoked(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let client = client(&process);

    let made = client.create_key(request(wish("ci"), admin.clone())).await.unwrap().into_inner();
    let key = made.key.unwrap();
    let shown = client.get_key(request(proto::GetKeyRequest { id: key.id.clone() }, admin.clone())).await.unwrap();
    let page = proto::ListKeysRequest { limit: 1, ..Default::default() };
    let first = client.list_keys(request(page, admin.clone())).await.unwrap().into_inner();
    let page = proto::ListKeysRequest { limit: 1, after: first.next.clone() };
    let second = client.list_keys(request(page, admin.clone())).await.unwrap().into_inner();
    let revoked = client.revoke_key(request(proto::RevokeKeyRequest { id: key.id.clone() }, admin)).await.unwrap();

    assert!(made.secret.starts_with(&key.prefix));
    assert_eq!((key.environment.as_str(), key.state.as_str()), ("live", "active"));
    assert_eq!(key.permissions, ["ai.inference.run"]);
    assert_eq!((key.expires_at_us, key.revoked_at_us), (0, 0));
    assert_eq!(shown.into_inner().key.unwrap(), key);
    assert_eq!((first.keys.len(), second.keys.len()), (1, 1));
    assert_ne!(first.keys, second.keys);
    assert_eq!(second.next, "");
    assert_eq!(revoked.into_inner().key.unwrap().state, "revoked");
    process.stop().await;
}

async fn refusals_keep_their_reasons(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let client = client(&process);

    let unnamed = client.create_key(request(wish(""), admin.clone())).await.unwrap_err();
    let elsewhere = proto::CreateKeyRequest { environment: "prod".to_owned(), ..wish("ci") };
    let elsewhere = client.create_key(request(elsewhere, admin.clone())).await.unwrap_err();
    let unknown =
        client.get_key(request(proto::GetKeyRequest { id: "key_1".to_owned() }, admin.clone())).await.unwrap_err();
    let page = proto::ListKeysRequest { limit: 201, ..Default::default() };
    let greedy = client.list_keys(request(page, admin.clone())).await.unwrap_err();
    let page = proto::ListKeysRequest { after: "x".to_owned(), ..Default::default() };
    let lost = client.list_keys(request(page, admin)).await.unwrap_err();

    for (status, code, param) in [
        (unnamed, Code::Invalid, Some("name")),
        (elsewhere, Code::Invalid, Some("environment")),
        (unknown, Code::NotFound, None),
        (greedy, Code::Invalid, Some("limit")),
        (lost, Code::Invalid, Some("after")),
    ] {
        let error = from_status(status);
        assert_eq!((error.code(), error.param()), (code, param), "{error}");
    }
    process.stop().await;
}

async fn nobody_calls_without_a_caller(house: &House) {
    let process = house.start().await;
    let client = client(&process);

    let status = client.create_key(tonic::Request::new(wish("ci"))).await.unwrap_err();

    assert_eq!(from_status(status).code(), Code::Unauthenticated);
    process.stop().await;
}
