//! Replacing the secret of a key while it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use manifold_core::{Code, KeyId, Principal, Secret};
use manifold_identity::{Created, Environment, Finish, MAX_GRACE, NewKey};
use manifold_runtime::{CallContext, Tasks};
use uuid::Uuid;

use crate::house::{House, Process, calling, eventually, key};

on_both_engines!(
    both_secrets_are_one_caller_until_the_grace_is_over,
    one_rotation_at_a_time_and_the_next_when_its_grace_is_over,
    a_rotation_is_finished_after_the_new_secret_was_used_or_by_force,
    a_cancelled_rotation_leaves_the_key_as_it_was,
    an_old_secret_never_outlives_its_key,
    nobody_takes_a_secret_of_a_key_that_may_do_more,
    a_rotation_that_does_not_exist_is_refused,
    a_secret_that_ended_elsewhere_is_dead_here_within_a_second,
    a_hundred_clients_notice_nothing_of_a_rotation,
);

const HOUR: Duration = Duration::from_secs(3_600);

async fn authenticate(process: &Process, secret: &Secret<String>) -> Result<Principal, String> {
    process.identity.authenticate(secret.expose()).await.map_err(|error| error.reason().to_owned())
}

/// A key and what became of it.
async fn rotated(process: &Process, admin: &CallContext) -> (Created, Created) {
    let old = process.identity.create_key(admin, key("ci", &["ai.*", "keys.key.read"])).await.unwrap();
    let new = process.identity.rotate_key(admin, old.key.id, HOUR).await.unwrap();
    (old, new)
}

async fn both_secrets_are_one_caller_until_the_grace_is_over(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let wish = NewKey { environment: Environment::Test, ..key("ci", &["ai.*", "keys.key.read"]) };
    let old = process.identity.create_key(&admin, wish).await.unwrap();
    let before = authenticate(&process, &old.secret).await.unwrap();

    let new = process.identity.rotate_key(&admin, old.key.id, HOUR).await.unwrap();

    assert!(new.secret.expose().starts_with("mfk_test_") && new.secret.expose().starts_with(&new.key.prefix));
    let rotation = new.key.rotation.clone().unwrap();
    assert_eq!((&rotation.old_prefix, rotation.old_ends_at), (&old.key.prefix, house.clock.now().after(HOUR)));
    for secret in [&old.secret, &new.secret] {
        assert_eq!(authenticate(&process, secret).await.as_ref(), Ok(&before));
    }
    house.clock.advance(HOUR);
    assert_eq!(authenticate(&process, &old.secret).await, Err("KEY_EXPIRED".to_owned()));
    assert_eq!(authenticate(&process, &new.secret).await.as_ref(), Ok(&before));
    let shown = process.identity.get_key(&admin, old.key.id).await.unwrap();
    assert_eq!((shown.rotation, shown.prefix), (None, new.key.prefix));
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.rotated'").await, 1);
    process.stop().await;
}

async fn one_rotation_at_a_time_and_the_next_when_its_grace_is_over(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (old, new) = rotated(&process, &admin).await;
    let id = old.key.id;

    let again = process.identity.rotate_key(&admin, id, HOUR).await.unwrap_err();
    let forever = process.identity.rotate_key(&admin, id, MAX_GRACE + Duration::from_secs(1)).await.unwrap_err();
    house.clock.advance(HOUR);
    let many = (0..8).map(|_| process.identity.rotate_key(&admin, id, HOUR));
    let many = futures::future::join_all(many).await;

    assert_eq!((again.code(), again.reason()), (Code::Conflict, "ROTATION_IN_PROGRESS"));
    assert_eq!((forever.code(), forever.param()), (Code::Invalid, Some("grace")));
    let made: Vec<_> = many.iter().flatten().collect();
    assert_eq!(made.len(), 1, "one of those who come at the same time");
    for secret in [&new.secret, &made[0].secret] {
        assert!(authenticate(&process, secret).await.is_ok());
    }
    assert_eq!(authenticate(&process, &old.secret).await, Err("KEY_DISABLED".to_owned()));
    process.stop().await;
}

async fn a_rotation_is_finished_after_the_new_secret_was_used_or_by_force(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (old, new) = rotated(&process, &admin).await;
    let (_, forced) = rotated(&process, &admin).await;
    authenticate(&process, &old.secret).await.unwrap();

    let early = process.identity.finish_rotation(&admin, old.key.id, Finish::WhenUsed).await.unwrap_err();
    authenticate(&process, &new.secret).await.unwrap();
    let finished = process.identity.finish_rotation(&admin, old.key.id, Finish::WhenUsed).await.unwrap();
    let by_force = process.identity.finish_rotation(&admin, forced.key.id, Finish::Now).await.unwrap();

    assert_eq!((early.code(), early.reason()), (Code::Precondition, "NEW_SECRET_UNUSED"));
    assert_eq!((finished.rotation, finished.prefix), (None, new.key.prefix));
    assert_eq!((by_force.rotation, by_force.prefix), (None, forced.key.prefix));
    assert_eq!(authenticate(&process, &old.secret).await, Err("KEY_DISABLED".to_owned()));
    assert!(authenticate(&process, &new.secret).await.is_ok());
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.rotation_finished'").await, 2);
    process.stop().await;
}

async fn a_cancelled_rotation_leaves_the_key_as_it_was(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (old, new) = rotated(&process, &admin).await;
    authenticate(&process, &new.secret).await.unwrap();

    let cancelled = process.identity.cancel_rotation(&admin, old.key.id).await.unwrap();
    house.clock.advance(HOUR * 2);

    assert_eq!(cancelled, old.key);
    assert_eq!(authenticate(&process, &new.secret).await, Err("KEY_DISABLED".to_owned()));
    assert!(authenticate(&process, &old.secret).await.is_ok());
    assert!(process.identity.rotate_key(&admin, old.key.id, HOUR).await.is_ok());
    process.stop().await;
}

async fn an_old_secret_never_outlives_its_key(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let ends = house.clock.now().after(HOUR / 2);
    let old = NewKey { expires_at: Some(ends), ..key("short", &[]) };
    let old = process.identity.create_key(&admin, old).await.unwrap();

    let new = process.identity.rotate_key(&admin, old.key.id, HOUR).await.unwrap();

    assert_eq!(new.key.rotation.unwrap().old_ends_at, ends);
    assert_eq!(new.key.expires_at, Some(ends), "a new secret does not forget when the key ends");
    house.clock.advance(HOUR / 2);
    for secret in [&old.secret, &new.secret] {
        assert_eq!(authenticate(&process, secret).await, Err("KEY_EXPIRED".to_owned()));
    }
    process.stop().await;
}

async fn nobody_takes_a_secret_of_a_key_that_may_do_more(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let make = async |wish| process.identity.create_key(&admin, wish).await.unwrap();
    let maker = make(key("maker", &["keys.*"])).await;
    let tester = make(NewKey { environment: Environment::Test, ..key("tester", &["*"]) }).await;
    let (maker_id, maker) = (maker.key.id, calling(authenticate(&process, &maker.secret).await.unwrap()));
    let tester = calling(authenticate(&process, &tester.secret).await.unwrap());
    let mighty = admin.principal.key.unwrap();

    for (caller, id) in [(&maker, mighty), (&tester, maker_id)] {
        let error = process.identity.rotate_key(caller, id, HOUR).await.unwrap_err();

        assert_eq!((error.code(), error.reason()), (Code::Denied, "ESCALATION"));
    }
    assert!(process.identity.rotate_key(&maker, maker_id, HOUR).await.is_ok(), "its own");
    let reader = calling(Principal { permissions: ["keys.key.read".to_owned()].into(), ..maker.principal.clone() });
    assert_eq!(
        process.identity.finish_rotation(&reader, maker_id, Finish::Now).await.unwrap_err().reason(),
        "INSUFFICIENT_SCOPE"
    );
    assert_eq!(process.count("SELECT COUNT(*) FROM api_key_secret WHERE state = 'previous'").await, 1);
    process.stop().await;
}

async fn a_rotation_that_does_not_exist_is_refused(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (old, _) = rotated(&process, &admin).await;
    let idle = process.identity.create_key(&admin, key("idle", &[])).await.unwrap().key.id;
    let revoked = process.identity.create_key(&admin, key("revoked", &[])).await.unwrap().key.id;
    process.identity.revoke_key(&admin, revoked).await.unwrap();
    house.clock.advance(HOUR);

    for (id, code, reason) in [
        (idle, Code::Conflict, "ROTATION_NOT_FOUND"),
        (old.key.id, Code::Conflict, "ROTATION_NOT_FOUND"),
        (revoked, Code::Conflict, "KEY_REVOKED"),
        (KeyId(Uuid::new_v4()), Code::NotFound, "KEY_NOT_FOUND"),
    ] {
        let finished = process.identity.finish_rotation(&admin, id, Finish::Now).await.unwrap_err();
        let cancelled = process.identity.cancel_rotation(&admin, id).await.unwrap_err();

        for error in [finished, cancelled] {
            assert_eq!((error.code(), error.reason()), (code, reason));
        }
    }
    assert_eq!(process.identity.rotate_key(&admin, revoked, HOUR).await.unwrap_err().reason(), "KEY_REVOKED");
    process.stop().await;
}

async fn a_secret_that_ended_elsewhere_is_dead_here_within_a_second(house: &House) {
    let (here, there) = (house.start().await, house.start().await);
    let admin = there.admin(house).await;
    let (old, _) = rotated(&there, &admin).await;
    assert!(authenticate(&here, &old.secret).await.is_ok());

    there.identity.finish_rotation(&admin, old.key.id, Finish::Now).await.unwrap();

    eventually(Duration::from_secs(1), || async {
        authenticate(&here, &old.secret).await == Err("KEY_DISABLED".to_owned())
    })
    .await;
    here.stop().await;
    there.stop().await;
}

async fn a_hundred_clients_notice_nothing_of_a_rotation(house: &House) {
    let process = Arc::new(house.start().await);
    let admin = process.admin(house).await;
    let old = process.identity.create_key(&admin, key("ci", &[])).await.unwrap();
    let secret = Arc::new(std::sync::Mutex::new(old.secret.expose().clone()));
    let (failed, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients = Tasks::new();
    for _ in 0..100 {
        let (process, secret) = (Arc::clone(&process), Arc::clone(&secret));
        let (stop, failed, calls) = (clients.token(), Arc::clone(&failed), Arc::clone(&calls));
        clients.spawn("client", async move {
            while !stop.is_cancelled() {
                let presented = secret.lock().unwrap().clone();
                if process.identity.authenticate(&presented).await.is_err() {
                    failed.fetch_add(1, Ordering::SeqCst);
                }
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
    }
    let called = async |more: usize| {
        let until = calls.load(Ordering::SeqCst) + more;
        eventually(Duration::from_secs(30), || async { calls.load(Ordering::SeqCst) >= until }).await;
    };

    called(1_000).await;
    let new = process.identity.rotate_key(&admin, old.key.id, HOUR).await.unwrap();
    called(1_000).await;
    *secret.lock().unwrap() = new.secret.expose().clone();
    // Whoever took the old secret before has used it when all have called once more.
    called(1_000).await;
    process.identity.finish_rotation(&admin, old.key.id, Finish::WhenUsed).await.unwrap();
    called(1_000).await;
    assert!(clients.shutdown(Duration::from_secs(10)).await);

    assert_eq!(failed.load(Ordering::SeqCst), 0);
    Arc::into_inner(process).unwrap().stop().await;
}
