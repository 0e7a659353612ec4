//! The service `Keys` as other services call it.

use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::keys;
use manifold_core::Code;
use manifold_runtime::{Channel, Mesh, MeshConfig, from_status, request};

use crate::house::{House, Process};

on_both_engines!(
    a_key_is_made_shown_listed_and_revoked,
    a_secret_is_replaced,
    a_key_is_changed_and_verified,
    refusals_keep_their_reasons,
    nobody_calls_without_a_caller,
);

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

async fn a_secret_is_replaced(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let client = client(&process);
    let made = client.create_key(request(wish("ci"), admin.clone())).await.unwrap().into_inner();
    let (id, old) = (made.key.clone().unwrap().id, made.key.unwrap().prefix);
    let begin = proto::BeginRotationRequest { id: id.clone(), grace_s: 60 };
    let finish = |force| proto::FinishRotationRequest { id: id.clone(), force };

    let first = client.begin_rotation(request(begin.clone(), admin.clone())).await.unwrap().into_inner();
    let cancel = proto::CancelRotationRequest { id: id.clone() };
    let cancelled = client.cancel_rotation(request(cancel, admin.clone())).await.unwrap().into_inner().key.unwrap();
    let second = client.begin_rotation(request(begin, admin.clone())).await.unwrap().into_inner();
    let early = client.finish_rotation(request(finish(false), admin.clone())).await.unwrap_err();
    let finished = client.finish_rotation(request(finish(true), admin)).await.unwrap().into_inner().key.unwrap();

    let rotation = first.key.unwrap().rotation.unwrap();
    assert_eq!((rotation.old_prefix.as_str(), rotation.new_used_at_us), (old.as_str(), 0));
    assert_eq!(rotation.old_ends_at_us, house.clock.now().micros() + 60_000_000);
    assert_eq!((cancelled.prefix, cancelled.rotation), (old, None));
    assert_eq!(from_status(early).reason(), "NEW_SECRET_UNUSED");
    assert!(second.secret.starts_with(&finished.prefix) && finished.rotation.is_none());
    process.stop().await;
}

async fn a_key_is_changed_and_verified(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let client = client(&process);
    let refill = proto::KeyRefill { amount: 9, every: "month".to_owned(), at: 1 };
    let terms = proto::KeyTerms { refill: Some(refill.clone()), rotate_every: 30, ..Default::default() };
    let wish = proto::CreateKeyRequest { terms: Some(terms), ..wish("ci") };
    let made = client.create_key(request(wish, admin.clone())).await.unwrap().into_inner();
    let (id, terms) = (made.key.clone().unwrap().id, made.key.unwrap().terms.unwrap());
    let restrictions = proto::KeyRestrictions { ips: vec!["10.1.2.3/8".to_owned()], ..Default::default() };
    let change = proto::UpdateKeyRequest {
        id: id.clone(),
        restrictions: Some(restrictions),
        metadata_json: Some(r#"{"plan":"free"}"#.to_owned()),
        credits: Some(3),
        rotate_every: Some(0),
        ..Default::default()
    };
    let question = |ip: &str| proto::VerifyKeyRequest {
        key: made.secret.clone(),
        permissions: "ai.inference.run".to_owned(),
        credits: 2,
        ip: ip.to_owned(),
        ..Default::default()
    };
    let free = proto::UpdateKeyRequest { id: id.clone(), credits: Some(-1), ..Default::default() };

    let changed = client.update_key(request(change, admin.clone())).await.unwrap().into_inner().key.unwrap();
    let right = client.verify_key(request(question("10.0.0.1"), admin.clone())).await.unwrap().into_inner();
    let poor = client.verify_key(request(question("10.0.0.1"), admin.clone())).await.unwrap().into_inner();
    let lost = client.verify_key(request(question(""), admin.clone())).await.unwrap().into_inner();
    let wrong = client.verify_key(request(question("here"), admin.clone())).await.unwrap_err();
    let free = client.update_key(request(free, admin)).await.unwrap().into_inner().key.unwrap();

    assert_eq!((terms.credits, terms.refill.as_ref(), terms.rotate_every), (Some(9), Some(&refill), 30));
    let terms = changed.terms.unwrap();
    assert_eq!((terms.restrictions.unwrap().ips, terms.credits), (vec!["10.0.0.0/8".to_owned()], Some(3)));
    assert_eq!((terms.rotate_every, terms.refill.as_ref(), changed.rotation_due_at_us), (0, Some(&refill), 0));
    assert_eq!((right.valid, right.code(), right.key_id), (true, proto::VerifyCode::Valid, id));
    assert_eq!((right.credits_remaining, right.metadata_json.as_str()), (Some(1), r#"{"plan":"free"}"#));
    assert_eq!((poor.valid, poor.code()), (false, proto::VerifyCode::UsageExceeded));
    assert_eq!(lost.code(), proto::VerifyCode::Forbidden);
    assert_eq!(from_status(wrong).param(), Some("ip"));
    let terms = free.terms.unwrap();
    assert_eq!((terms.credits, terms.refill, free.refill_at_us), (None, None, 0));
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
