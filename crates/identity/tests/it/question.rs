//! Questions about keys that were presented to others.

use std::collections::BTreeMap;

use manifold_core::{Code, Principal, Secret, TenantId, Timestamp};
use manifold_identity::{KeyChange, NewKey, Question, Restrictions, Terms, VerifyCode, generate_key};
use manifold_runtime::CallContext;
use uuid::Uuid;

use crate::house::{House, Process, calling, key};

on_both_engines!(
    the_first_that_is_wrong_is_told_and_only_who_is_right_pays,
    a_key_of_another_tenant_is_not_found,
    malformed_questions_are_refused_by_name,
    nobody_asks_without_the_permission,
);

fn about(key: &Secret<String>) -> Question {
    Question {
        key: key.clone(),
        permissions: None,
        credits: 0,
        ip: None,
        origin: None,
        method: None,
        api: None,
        tags: BTreeMap::new(),
    }
}

async fn ask(process: &Process, caller: &CallContext, question: &Question) -> VerifyCode {
    process.identity.verify_key(caller, question).await.unwrap().0
}

async fn the_first_that_is_wrong_is_told_and_only_who_is_right_pays(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let restrictions = Restrictions { ips: vec!["192.0.2.0/24".to_owned()], ..Restrictions::default() };
    let metadata = serde_json::json!({"plan": "free"}).as_object().cloned().unwrap();
    let terms = Terms { restrictions, credits: Some(10), metadata: metadata.clone(), ..Terms::default() };
    let ends = house.clock.now().after(std::time::Duration::from_secs(60));
    let wish = NewKey { terms, expires_at: Some(ends), ..key("k", &["ai.*"]) };
    let made = process.identity.create_key(&admin, wish).await.unwrap();
    let right = Question {
        permissions: Some("ai.inference.run AND (keys.key.read OR ai.usage.read)".to_owned()),
        credits: 4,
        ip: "192.0.2.7".parse().ok(),
        ..about(&made.secret)
    };
    let (elsewhere, more) = (about(&made.secret), Some("ai.inference.run AND keys.key.read".to_owned()));
    let left = async || process.identity.get_key(&admin, made.key.id).await.unwrap().terms.credits;

    let (code, verified) = process.identity.verify_key(&admin, &right).await.unwrap();
    let verified = verified.unwrap();
    assert_eq!((code, verified.id, verified.credits), (VerifyCode::Valid, made.key.id, Some(6)));
    assert_eq!((verified.metadata, verified.expires_at, verified.name.as_str()), (metadata, Some(ends), "k"));
    for (question, code) in [
        (&about(&generate_key(manifold_identity::Environment::Live)), VerifyCode::NotFound),
        (&about(&Secret::from("sk-nonsense")), VerifyCode::NotFound),
        (&elsewhere, VerifyCode::Forbidden),
        (&Question { permissions: more.clone(), ..right.clone() }, VerifyCode::InsufficientPermissions),
        (&Question { credits: 7, ..right.clone() }, VerifyCode::UsageExceeded),
        (&Question { credits: 7, permissions: more, ..right.clone() }, VerifyCode::InsufficientPermissions),
        (&Question { credits: 0, ..right.clone() }, VerifyCode::Valid),
    ] {
        assert_eq!(ask(&process, &admin, question).await, code);
    }
    assert_eq!(left().await, Some(6));
    house.clock.set(Timestamp::from_micros(ends.micros()));
    assert_eq!(ask(&process, &admin, &right).await, VerifyCode::Expired);
    let pause = KeyChange { enabled: Some(false), ..KeyChange::default() };
    process.identity.update_key(&admin, made.key.id, pause).await.unwrap();
    let (code, verified) = process.identity.verify_key(&admin, &elsewhere).await.unwrap();
    assert_eq!((code, verified.unwrap().id), (VerifyCode::Disabled, made.key.id), "the first that is wrong");
    assert_eq!(left().await, Some(6));
    process.stop().await;

    let process = house.start().await;
    assert_eq!(process.count("SELECT n FROM key_usage WHERE operation = 'verify' AND outcome = 'forbidden'").await, 1);
    process.stop().await;
}

async fn a_key_of_another_tenant_is_not_found(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let theirs = process.identity.create_key(&admin, key("theirs", &[])).await.unwrap();
    let stranger = calling(Principal { tenant: TenantId(Uuid::new_v4()), ..admin.principal.clone() });

    for secret in [&theirs.secret, &generate_key(manifold_identity::Environment::Live)] {
        let (code, verified) = process.identity.verify_key(&stranger, &about(secret)).await.unwrap();

        assert_eq!((code, verified.is_none()), (VerifyCode::NotFound, true));
    }
    process.stop().await;
}

async fn malformed_questions_are_refused_by_name(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    // Whether the key exists makes no difference.
    let nobody = about(&Secret::from("sk-nonsense"));
    let tags = |n: usize, name: usize, value: usize| {
        (0..n).map(|number| (format!("{number:0name$}"), "x".repeat(value))).collect::<BTreeMap<_, _>>()
    };

    for (question, param) in [
        (Question { permissions: Some("a.b.c OR".to_owned()), ..nobody.clone() }, "permissions"),
        (Question { credits: -1, ..nobody.clone() }, "credits"),
        (Question { tags: tags(11, 2, 1), ..nobody.clone() }, "tags"),
        (Question { tags: tags(1, 33, 1), ..nobody.clone() }, "tags"),
        (Question { tags: tags(1, 1, 129), ..nobody.clone() }, "tags"),
    ] {
        let error = process.identity.verify_key(&admin, &question).await.unwrap_err();

        assert_eq!((error.code(), error.param()), (Code::Invalid, Some(param)));
    }
    let fits = Question { tags: tags(10, 32, 128), ..nobody };
    assert_eq!(ask(&process, &admin, &fits).await, VerifyCode::NotFound);
    process.stop().await;
}

async fn nobody_asks_without_the_permission(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("k", &["keys.key.read", "keys.key.write"])).await.unwrap();
    let caller = calling(process.identity.authenticate(made.secret.expose()).await.unwrap());

    let error = process.identity.verify_key(&caller, &about(&made.secret)).await.unwrap_err();

    assert_eq!((error.code(), error.reason()), (Code::Denied, "INSUFFICIENT_SCOPE"));
    process.stop().await;
}
