//! Limits that are given to somebody while the house is open.

use std::time::Duration;

use manifold_cache::{Mode, OnStoreFailure, Window};
use manifold_core::{Code, KeyId, OwnerId, Principal, TenantId, UserId};
use manifold_identity::{Limited, Rule};
use manifold_runtime::CallContext;
use uuid::Uuid;

use crate::house::{House, Process, calling, eventually, key};

on_both_engines!(
    a_limit_is_given_changed_and_taken_away_with_one_event_each,
    every_process_knows_of_a_limit_within_a_moment,
    a_limit_is_still_there_after_a_restart,
    only_subjects_of_the_own_tenant_can_be_limited,
    nobody_limits_who_can_do_more,
    limits_that_cannot_be_counted_are_refused,
    limits_of_a_kind_that_is_not_known_here_leave_all_others_in_force,
);

fn rule(name: &str, quota: u64) -> Rule {
    Rule {
        name: name.to_owned(),
        quota,
        window: Window::Lasting(Duration::from_secs(60)),
        burst: None,
        algorithm: None,
        mode: Mode::Local,
        on_store_failure: OnStoreFailure::Local,
    }
}

/// Names of the limits that a caller meets.
fn met(process: &Process, caller: &Principal) -> Vec<String> {
    let own = process.identity.limits_of(caller);
    own.iter().flat_map(|own| own.policies.iter()).map(|policy| policy.name().to_owned()).collect()
}

async fn app(process: &Process, admin: &CallContext) -> (KeyId, Principal) {
    let made = process.identity.create_key(admin, key("app", &["ai.inference.run"])).await.unwrap();
    (made.key.id, process.identity.authenticate(made.secret.expose()).await.unwrap())
}

const CHANGES: &str = "SELECT COUNT(*) FROM outbox WHERE type = 'identity.limit.changed'";

async fn a_limit_is_given_changed_and_taken_away_with_one_event_each(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (id, caller) = app(&process, &admin).await;
    let (of_key, identity) = (Limited::Key(id), &process.identity);

    let nothing = identity.get_limits(&admin, of_key).await.unwrap();
    let set = identity.set_limits(&admin, of_key, vec![rule("minute", 5), rule("burst", 2)]).await.unwrap();
    identity.set_limits(&admin, of_key, vec![rule("minute", 5), rule("burst", 2)]).await.unwrap();
    identity.set_limits(&admin, Limited::Tenant, vec![rule("all", 9)]).await.unwrap();
    let told = identity.get_limits(&admin, of_key).await.unwrap();

    assert!(nothing.rules.is_empty() && nothing.updated.is_none());
    assert_eq!(set.updated.as_ref().map(|(by, _)| by.as_str()), Some(&*admin.principal.subject));
    assert_eq!((told.rules, told.updated), (set.rules, set.updated));
    assert_eq!(met(&process, &caller), ["key/minute", "key/burst", "tenant/all"]);
    assert_eq!(met(&process, &admin.principal), ["tenant/all"]);
    assert_eq!(process.count(CHANGES).await, 2, "what changes nothing is no event");
    let first = "SELECT payload FROM outbox WHERE type = 'identity.limit.changed' ORDER BY seq LIMIT 1";
    let first = String::from_utf8_lossy(&process.bytes(first).await).into_owned();
    assert!(first.contains("\"before\":[]") && first.contains("\"quota\":5") && first.contains(&id.to_string()));

    identity.set_limits(&admin, of_key, Vec::new()).await.unwrap();

    assert_eq!(met(&process, &caller), ["tenant/all"]);
    assert_eq!(process.count(CHANGES).await, 3);
    process.stop().await;
}

async fn every_process_knows_of_a_limit_within_a_moment(house: &House) {
    let (one, other) = (house.start().await, house.start().await);
    let admin = one.admin(house).await;

    one.identity.set_limits(&admin, Limited::Tenant, vec![rule("all", 9)]).await.unwrap();
    eventually(Duration::from_secs(5), async || met(&other, &admin.principal) == ["tenant/all"]).await;
    one.identity.set_limits(&admin, Limited::Tenant, Vec::new()).await.unwrap();
    eventually(Duration::from_secs(5), async || met(&other, &admin.principal).is_empty()).await;

    other.stop().await;
    one.stop().await;
}

async fn a_limit_is_still_there_after_a_restart(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.identity.set_limits(&admin, Limited::Tenant, vec![rule("all", 9)]).await.unwrap();
    process.stop().await;

    let process = house.start().await;

    assert_eq!(met(&process, &admin.principal), ["tenant/all"]);
    process.stop().await;
}

async fn only_subjects_of_the_own_tenant_can_be_limited(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (id, caller) = app(&process, &admin).await;
    let foreign = calling(Principal { tenant: TenantId(Uuid::new_v4()), ..admin.principal.clone() });
    let identity = &process.identity;

    let nobody = Uuid::new_v4();
    for of in [Limited::Key(KeyId(nobody)), Limited::Owner(OwnerId(nobody)), Limited::User(UserId(nobody))] {
        let refused = identity.set_limits(&admin, of, vec![rule("a", 1)]).await.unwrap_err();
        let hidden = identity.get_limits(&admin, of).await.unwrap_err();
        assert_eq!([refused.reason(), hidden.reason()], ["SUBJECT_NOT_FOUND"; 2]);
    }
    let refused = identity.set_limits(&foreign, Limited::Key(id), vec![rule("a", 1)]).await.unwrap_err();
    let powerless = identity.set_limits(&calling(caller.clone()), Limited::Key(id), Vec::new()).await.unwrap_err();

    assert_eq!((refused.reason(), powerless.reason()), ("SUBJECT_NOT_FOUND", "INSUFFICIENT_SCOPE"));
    assert!(
        ["tenant ", "key_x", "", "ten_01h455vb4pex5vsknk084sn02q"].iter().all(|text| Limited::parse(text).is_err())
    );
    assert!(met(&process, &caller).is_empty());
    process.stop().await;
}

async fn nobody_limits_who_can_do_more(house: &House) {
    let process = house.start().await;
    let owner = process.set_up(house).await;
    let owner = process.caller(&owner).await;
    let grace = process.join(&owner, "grace@example.org", "admin").await;
    let grace = process.caller(&grace).await;
    let of = |caller: &CallContext| Limited::parse(&caller.principal.subject).unwrap();
    let test = calling(Principal { environment: "test".into(), ..owner.principal.clone() });

    let upwards = process.identity.set_limits(&grace, of(&owner), vec![rule("a", 1)]).await.unwrap_err();
    let by_test = process.identity.set_limits(&test, Limited::Tenant, vec![rule("a", 1)]).await.unwrap_err();
    process.identity.set_limits(&owner, of(&grace), vec![rule("a", 1)]).await.unwrap();

    assert_eq!(
        [(upwards.code(), upwards.reason()), (by_test.code(), by_test.reason())],
        [(Code::Denied, "ESCALATION"); 2]
    );
    assert_eq!(met(&process, &grace.principal), ["user/a"]);
    assert!(met(&process, &owner.principal).is_empty());
    process.stop().await;
}

async fn limits_that_cannot_be_counted_are_refused(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let many = (0..11).map(|index| rule(&format!("r{index}"), 1)).collect();
    for (rules, param) in [
        (vec![rule("a", 1), rule("a", 2)], "limits[1].name"),
        (vec![rule("A", 1)], "limits[0].name"),
        (vec![rule("", 1)], "limits[0].name"),
        (vec![rule("a", 0)], "limits[0]"),
        (vec![rule("a", 1), rule("b", 1_000_000)], "limits[1]"),
        (many, "limits"),
    ] {
        let refused = process.identity.set_limits(&admin, Limited::Tenant, rules).await.unwrap_err();

        assert_eq!((refused.code(), refused.reason(), refused.param()), (Code::Invalid, "LIMIT_INVALID", Some(param)));
    }
    process.stop().await;
}

async fn limits_of_a_kind_that_is_not_known_here_leave_all_others_in_force(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (id, caller) = app(&process, &admin).await;
    process.identity.set_limits(&admin, Limited::Key(id), vec![rule("minute", 5)]).await.unwrap();

    process.execute("UPDATE limit_rule SET rules = '[{\"of a newer program\":1}]'").await;
    process.identity.set_limits(&admin, Limited::Tenant, vec![rule("all", 9)]).await.unwrap();
    let kept = met(&process, &caller);
    process.stop().await;
    let process = house.start().await;

    assert_eq!(kept, ["key/minute", "tenant/all"], "as it was known");
    assert_eq!(met(&process, &caller), ["tenant/all"], "the program starts");
    process.stop().await;
}
