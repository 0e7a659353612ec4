//! Keys that are changed, pause, are restricted, or have credits.

use std::time::Duration;

use futures::future::join_all;
use manifold_core::{Code, KeyId, Principal};
use manifold_identity::{Created, Environment, Every, KeyChange, KeyState, NewKey, Refill, Restrictions, Terms, Visit};
use manifold_runtime::CallContext;
use uuid::Uuid;

use crate::house::{House, Process, calling, eventually, key};

on_both_engines!(
    a_change_counts_at_once_and_is_told_once,
    a_key_that_pauses_elsewhere_is_refused_here_within_a_second,
    nobody_makes_more_of_a_key_than_he_may_do,
    malformed_changes_are_refused_by_name,
    a_restricted_key_is_refused_elsewhere_counted_and_pays_nothing,
    a_hundred_credits_are_a_hundred_calls_however_many_come_at_once,
    credits_are_filled_up_by_the_first_call_after_their_time,
    who_gets_credits_again_may_call_again,
    keys_without_credits_pay_nothing,
);

async fn make(process: &Process, admin: &CallContext, terms: Terms) -> Created {
    process.identity.create_key(admin, NewKey { terms, ..key("k", &[]) }).await.unwrap()
}

fn credits(credits: i64, refill: Option<Refill>) -> Terms {
    Terms { credits: Some(credits), refill, ..Terms::default() }
}

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(ToString::to_string).collect()
}

/// The caller that a key makes.
async fn caller(process: &Process, key: &Created) -> CallContext {
    calling(process.identity.authenticate(key.secret.expose()).await.unwrap())
}

async fn a_change_counts_at_once_and_is_told_once(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = make(&process, &admin, Terms::default()).await;
    let (id, secret) = (made.key.id, made.secret.expose());
    process.identity.authenticate(secret).await.unwrap();
    let metadata = serde_json::json!({"plan": "free"}).as_object().cloned();
    let ends = house.clock.now().after(Duration::from_secs(60));
    let change = KeyChange {
        name: Some(" site ".to_owned()),
        permissions: Some(list(&["ai.*"])),
        expires_at: Some(Some(ends)),
        metadata: metadata.clone(),
        ..KeyChange::default()
    };

    let changed = process.identity.update_key(&admin, id, change.clone()).await.unwrap();
    let again = process.identity.update_key(&admin, id, change).await.unwrap();
    let pause = KeyChange { enabled: Some(false), ..KeyChange::default() };
    let paused = process.identity.update_key(&admin, id, pause).await.unwrap();
    let refused = process.identity.authenticate(secret).await.unwrap_err();
    let resume = KeyChange { enabled: Some(true), expires_at: Some(None), ..KeyChange::default() };
    let resumed = process.identity.update_key(&admin, id, resume).await.unwrap();

    assert_eq!(
        (changed.name.as_str(), &changed.permissions, changed.expires_at),
        ("site", &list(&["ai.*"]), Some(ends))
    );
    assert_eq!((Some(&changed.terms.metadata), &again), (metadata.as_ref(), &changed));
    assert_eq!((paused.state, refused.reason()), (KeyState::Disabled, "KEY_DISABLED"));
    assert_eq!((resumed.state, resumed.expires_at), (KeyState::Active, None));
    assert_eq!(*process.identity.authenticate(secret).await.unwrap().permissions, list(&["ai.*"]));
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.updated'").await, 3);
    process.identity.revoke_key(&admin, id).await.unwrap();
    let resume = KeyChange { enabled: Some(true), ..KeyChange::default() };
    assert_eq!(process.identity.update_key(&admin, id, resume).await.unwrap_err().reason(), "KEY_REVOKED");
    process.stop().await;
}

async fn a_key_that_pauses_elsewhere_is_refused_here_within_a_second(house: &House) {
    let (here, there) = (house.start().await, house.start().await);
    let admin = there.admin(house).await;
    let made = make(&there, &admin, Terms::default()).await;
    assert!(here.identity.authenticate(made.secret.expose()).await.is_ok());

    let pause = KeyChange { enabled: Some(false), ..KeyChange::default() };
    there.identity.update_key(&admin, made.key.id, pause).await.unwrap();

    eventually(Duration::from_secs(1), || async {
        here.identity.authenticate(made.secret.expose()).await.is_err_and(|error| error.reason() == "KEY_DISABLED")
    })
    .await;
    here.stop().await;
    there.stop().await;
}

async fn nobody_makes_more_of_a_key_than_he_may_do(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let new = async |wish| process.identity.create_key(&admin, wish).await.unwrap();
    let made = new(key("maker", &["keys.*", "ai.inference.run"])).await;
    let (maker, own) = (caller(&process, &made).await, made.key.id);
    let tester = new(NewKey { environment: Environment::Test, ..key("tester", &["*"]) }).await;
    let tester = caller(&process, &tester).await;
    let (other, mighty) = (new(key("other", &[])).await.key.id, admin.principal.key.unwrap());
    let rename = || KeyChange { name: Some("mine".to_owned()), ..KeyChange::default() };
    let grant = |permission| KeyChange { permissions: Some(list(&[permission])), ..KeyChange::default() };

    for (who, id, change) in [
        (&maker, mighty, rename()),
        (&maker, other, grant("*")),
        (&maker, other, grant("ai.*")),
        (&maker, own, rename()),
        (&tester, other, rename()),
    ] {
        let error = process.identity.update_key(who, id, change).await.unwrap_err();

        assert_eq!((error.code(), error.reason()), (Code::Denied, "ESCALATION"), "{error}");
    }
    assert!(process.identity.update_key(&maker, other, grant("keys.key.read")).await.is_ok());
    let stranger = calling(Principal { tenant: manifold_core::TenantId(Uuid::new_v4()), ..admin.principal.clone() });
    for (who, id) in [(&stranger, other), (&admin, KeyId(Uuid::new_v4()))] {
        assert_eq!(process.identity.update_key(who, id, rename()).await.unwrap_err().reason(), "KEY_NOT_FOUND");
    }
    let reader = Principal { permissions: list(&["keys.key.read"]).into(), ..admin.principal.clone() };
    let error = process.identity.update_key(&calling(reader), other, rename()).await.unwrap_err();
    assert_eq!(error.reason(), "INSUFFICIENT_SCOPE");
    process.stop().await;
}

async fn malformed_changes_are_refused_by_name(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let id = make(&process, &admin, Terms::default()).await.key.id;
    let nothing = KeyChange::default;
    let metadata = serde_json::json!({"x": "y".repeat(4_090)}).as_object().cloned();
    let ips = Restrictions { ips: list(&["nowhere"]), ..Restrictions::default() };
    let refill = Refill { amount: 1, every: Every::Day, at: 24 };

    for (change, param) in [
        (KeyChange { name: Some(" ".to_owned()), ..nothing() }, "name"),
        (KeyChange { permissions: Some(Vec::new()), ..nothing() }, "permissions"),
        (KeyChange { permissions: Some(list(&["AI"])), ..nothing() }, "permissions[0]"),
        (KeyChange { expires_at: Some(Some(house.clock.now())), ..nothing() }, "expires_at"),
        (KeyChange { metadata: metadata.clone(), ..nothing() }, "metadata"),
        (KeyChange { restrictions: Some(ips.clone()), ..nothing() }, "restrictions.ips[0]"),
        (KeyChange { credits: Some(Some(-1)), ..nothing() }, "credits"),
        (KeyChange { refill: Some(Some(refill)), ..nothing() }, "refill.at"),
    ] {
        let error = process.identity.update_key(&admin, id, change).await.unwrap_err();

        assert_eq!((error.code(), error.param()), (Code::Invalid, Some(param)));
    }
    for terms in [
        Terms { metadata: metadata.unwrap(), ..Terms::default() },
        Terms { restrictions: ips, ..Terms::default() },
        credits(1, Some(refill)),
        credits(-1, None),
    ] {
        let made = process.identity.create_key(&admin, NewKey { terms, ..key("k", &[]) }).await;

        assert_eq!(made.unwrap_err().code(), Code::Invalid);
    }
    process.stop().await;
}

async fn a_restricted_key_is_refused_elsewhere_counted_and_pays_nothing(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let restrictions = Restrictions {
        ips: list(&["192.0.2.0/24"]),
        origins: list(&["https://app.example"]),
        methods: list(&["GET"]),
        apis: list(&["keys"]),
    };
    let made = make(&process, &admin, Terms { restrictions, ..credits(5, None) }).await;
    let right = Visit {
        ip: "192.0.2.7".parse().ok(),
        origin: Some("https://app.example"),
        method: Some("GET"),
        api: Some("keys"),
        carries: false,
    };

    for visit in [
        Visit { ip: "198.51.100.7".parse().ok(), ..right },
        Visit { origin: Some("https://evil.example"), ..right },
        Visit { origin: None, ..right },
        Visit { method: Some("POST"), ..right },
        Visit { api: Some("ai"), ..right },
        Visit::default(),
    ] {
        let error = process.identity.admit(made.secret.expose(), &visit).await.unwrap_err();

        assert_eq!((error.code(), error.reason()), (Code::Denied, "KEY_RESTRICTED"), "{visit:?}");
        assert!(!error.message().contains("192.0.2") && !error.message().contains("app.example"));
    }
    assert!(process.identity.admit(made.secret.expose(), &right).await.unwrap().metered);
    let pause = KeyChange { enabled: Some(false), ..KeyChange::default() };
    process.identity.update_key(&admin, made.key.id, pause).await.unwrap();
    assert!(process.identity.admit(made.secret.expose(), &right).await.is_err());
    process.stop().await;

    let process = house.start().await;
    assert_eq!(process.count("SELECT n FROM key_usage WHERE outcome = 'key_restricted'").await, 6);
    assert_eq!(process.count("SELECT n FROM key_usage WHERE outcome = 'key_disabled'").await, 1);
    assert_eq!(process.identity.get_key(&admin, made.key.id).await.unwrap().terms.credits, Some(5));
    process.stop().await;
}

async fn a_hundred_credits_are_a_hundred_calls_however_many_come_at_once(house: &House) {
    let replicas = [house.start().await, house.start().await, house.start().await];
    let admin = replicas[0].admin(house).await;
    let made = make(&replicas[0], &admin, credits(100, None)).await;
    let caller = caller(&replicas[0], &made).await;

    let calls = (0..200).map(|number| replicas[number % 3].identity.charge(&caller));
    let calls = join_all(calls).await;

    let paid = calls.iter().filter(|call| call.is_ok()).count();
    let refused = calls.iter().filter_map(|call| call.as_ref().err());
    assert_eq!(paid, 100);
    for error in refused {
        assert_eq!((error.code(), error.reason()), (Code::Exhausted, "USAGE_EXCEEDED"), "{error}");
    }
    assert_eq!(replicas[0].count("SELECT credits FROM api_key WHERE credits IS NOT NULL").await, 0);
    let told = "SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.exhausted'";
    assert_eq!(replicas[0].count(told).await, 1);
    for process in replicas {
        process.stop().await;
    }
}

async fn credits_are_filled_up_by_the_first_call_after_their_time(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    // It is 9 o'clock.
    let refill = Refill { amount: 3, every: Every::Day, at: 12 };
    let made = make(&process, &admin, Terms { refill: Some(refill), ..Terms::default() }).await;
    let caller = caller(&process, &made).await;
    let spend = async |n: usize| {
        let calls = join_all((0..n).map(|_| process.identity.charge(&caller))).await;
        calls.into_iter().filter(Result::is_ok).count()
    };

    assert_eq!((made.key.terms.credits, spend(5).await), (Some(3), 3), "it begins with as many");
    let wait = process.identity.charge(&caller).await.unwrap_err();
    assert_eq!(wait.delay(), Some(Duration::from_secs(3 * 3_600)));
    house.clock.advance(Duration::from_secs(3 * 3_600));
    assert_eq!(spend(5).await, 3);
    house.clock.advance(Duration::from_secs(24 * 3_600 - 1));
    assert_eq!(spend(1).await, 0);
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(spend(1).await, 1);
    let more = KeyChange { credits: Some(Some(50)), ..KeyChange::default() };
    process.identity.update_key(&admin, made.key.id, more).await.unwrap();
    house.clock.advance(Duration::from_secs(24 * 3_600));
    spend(1).await;
    let left = process.identity.get_key(&admin, made.key.id).await.unwrap();
    assert_eq!(left.terms.credits, Some(49), "whoever has more keeps it");
    assert_eq!(process.count("SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.key.exhausted'").await, 2);
    process.stop().await;
}

async fn who_gets_credits_again_may_call_again(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = make(&process, &admin, credits(0, None)).await;
    let caller = caller(&process, &made).await;
    let refused = process.identity.charge(&caller).await.unwrap_err();

    let more = KeyChange { credits: Some(Some(1)), ..KeyChange::default() };
    process.identity.update_key(&admin, made.key.id, more).await.unwrap();
    let first = process.identity.charge(&caller).await;
    let second = process.identity.charge(&caller).await;
    let free = KeyChange { credits: Some(None), ..KeyChange::default() };
    process.identity.update_key(&admin, made.key.id, free).await.unwrap();

    assert_eq!((refused.reason(), refused.delay()), ("USAGE_EXCEEDED", None));
    assert!(first.is_ok() && second.is_err());
    assert!(process.identity.charge(&caller).await.is_ok(), "who was metered a moment ago");
    assert!(!process.identity.authenticate(made.secret.expose()).await.unwrap().metered);
    assert_eq!(process.count("SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.key.exhausted'").await, 2);
    process.stop().await;
}

async fn keys_without_credits_pay_nothing(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = make(&process, &admin, Terms::default()).await;

    assert!(!process.identity.authenticate(made.secret.expose()).await.unwrap().metered);
    assert_eq!((made.key.terms.credits, made.key.refill_at), (None, None));
    process.stop().await;
}
