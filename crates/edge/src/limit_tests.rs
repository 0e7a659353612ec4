use std::net::Ipv6Addr;

use http::{HeaderMap, Method};
use manifold_cache::{Mode, OnStoreFailure, Window};
use manifold_core::{KeyId, TenantId};
use uuid::Uuid;

use super::*;
use crate::config::Config;
use crate::openapi;
use crate::routes::Routes;

const NOW: Timestamp = Timestamp::from_micros(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn policy(name: &str, quota: u64) -> Policy {
    Policy::new(name, quota, MINUTE, None).unwrap()
}

fn rate(per: Per, policy: Policy) -> Checked {
    Checked { per, routes: Vec::new(), count: Count::Rate(policy) }
}

fn places(max: u64) -> Checked {
    let on_store_failure = OnStoreFailure::Local;
    let at_once = AtOnce { name: "key-concurrent".to_owned(), max, shared: false, on_store_failure };
    Checked { per: Per::Key, routes: Vec::new(), count: Count::AtOnce(at_once) }
}

/// A door with these limits.
struct Door {
    limits: Limits,
    routes: Routes,
}

impl Door {
    fn new(limits: impl Into<Vec<Checked>>) -> Self {
        let routes = Routes::new(&openapi::api().1, &Config::default().check().unwrap()).unwrap();
        Self { limits: Limits::new(limits.into(), None, Arc::new(Limiter::new(1, None))).0, routes }
    }

    /// One more request for `path`: what became of it, the two headers of its answer, and its places.
    async fn ask(&self, caller: &Caller, path: &str) -> (Answer<()>, [String; 2], Met) {
        let operation = self.routes.find(&Method::POST, path).unwrap();
        let until = Instant::now() + MINUTE;
        let request = RequestId(Uuid::nil());
        let asking = Asking { operation, client: caller.address, request, caller: None, now: caller.now, until };
        let mut met = Met::default();
        let outcome = match self.limits.charge_address(&asking, &mut met).await {
            Ok(()) => {
                self.limits.charge_caller(&Asking { caller: caller.principal.as_ref(), ..asking }, &[], &mut met).await
            }
            refused => refused,
        };
        let mut headers = HeaderMap::new();
        met.told.describe(&mut headers);
        let told = [told::POLICY, told::STATE];
        let told = told.map(|name| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned());
        (outcome, told, met)
    }

    /// How many of `n` requests pass.
    async fn count(&self, n: usize, path: &str, caller: impl Fn(usize) -> Caller) -> usize {
        let mut passed = 0;
        for turn in 0..n {
            passed += usize::from(self.ask(&caller(turn), path).await.0.is_ok());
        }
        passed
    }
}

const CHAT: &str = "/v1/chat/completions";
const LOGIN: &str = "/v1/auth/login";

struct Caller {
    address: IpAddr,
    principal: Option<Principal>,
    now: Timestamp,
}

fn nobody(address: impl Into<IpAddr>) -> Caller {
    Caller { address: address.into(), principal: None, now: NOW }
}

fn somebody(principal: Principal) -> Caller {
    Caller { address: HOME, principal: Some(principal), now: NOW }
}

fn key(tenant: u128, key: u128) -> Caller {
    let (tenant, key) = (TenantId(Uuid::from_u128(tenant)), KeyId(Uuid::from_u128(key)));
    let subject = key.to_string().into();
    somebody(Principal { tenant, subject, kind: SubjectKind::Key, key: Some(key), ..Principal::anonymous() })
}

fn person(tenant: u128, user: u128) -> Caller {
    let (tenant, user) = (TenantId(Uuid::from_u128(tenant)), UserId(Uuid::from_u128(user)));
    let subject = user.to_string().into();
    somebody(Principal { tenant, subject, kind: SubjectKind::User, ..Principal::anonymous() })
}

#[tokio::test]
async fn tells_what_is_left_and_then_when_to_return() {
    let door = Door::new([rate(Per::Key, policy("key", 2))]);

    let (_, [policy, first], _) = door.ask(&key(1, 1), CHAT).await;
    door.ask(&key(1, 1), CHAT).await.0.unwrap();
    let (refusal, [_, third], _) = door.ask(&key(1, 1), CHAT).await;

    let refusal = refusal.unwrap_err();
    assert_eq!(policy, "\"key\";q=2;w=60");
    assert_eq!([first, third], ["\"key\";r=1;t=30", "\"key\";r=0;t=30"]);
    assert_eq!((refusal.status, refusal.violated.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("key")));
    assert_eq!(refusal.error.delay(), Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_month_is_told_with_its_own_length_and_end() {
    let door = Door::new([rate(Per::Key, Policy::new("key", 1, Window::Month, None).unwrap())]);
    let mut printed = Vec::new();

    for now in ["2024-02-29T23:59:58Z", "2024-02-29T23:59:58Z", "2024-03-01T00:00:00Z"] {
        let caller = Caller { now: Timestamp::parse(now).unwrap(), ..key(1, 1) };
        let (outcome, [policy, state], _) = door.ask(&caller, CHAT).await;
        printed.push((outcome.is_ok(), policy, state));
    }

    let told = |passed, policy: &str, state: &str| (passed, policy.to_owned(), state.to_owned());
    assert_eq!(
        printed,
        [
            told(true, "\"key\";q=1;w=2505600", "\"key\";r=0;t=2"),
            told(false, "\"key\";q=1;w=2505600", "\"key\";r=0;t=2"),
            told(true, "\"key\";q=1;w=2678400", "\"key\";r=0;t=2678400"),
        ]
    );
}

#[tokio::test]
async fn requests_at_once_are_told_beside_those_in_time() {
    let door = Door::new([rate(Per::Key, policy("key", 60)), places(2)]);

    let (_, [policy, first], one) = door.ask(&key(1, 1), CHAT).await;
    let (_, _, _two) = door.ask(&key(1, 1), CHAT).await;
    let (refusal, [_, third], _) = door.ask(&key(1, 1), CHAT).await;
    drop(one);
    let (again, _, _) = door.ask(&key(1, 1), CHAT).await;

    let refusal = refusal.unwrap_err();
    assert_eq!(policy, "\"key\";q=60;w=60, \"key-concurrent\";q=2;qu=\"concurrent-requests\"");
    assert_eq!(first, "\"key\";r=59;t=1, \"key-concurrent\";r=1");
    assert_eq!(third, "\"key\";r=57;t=3, \"key-concurrent\";r=0;t=1");
    assert_eq!((refusal.status, refusal.violated.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("key-concurrent")));
    assert_eq!(refusal.error.delay(), Some(NEXT_PLACE));
    assert!(again.is_ok());
}

#[tokio::test]
async fn a_shared_limit_says_that_it_was_counted_alone() {
    let door = Door::new([rate(Per::Key, policy("key", 2).shared(Mode::Strict, OnStoreFailure::Local))]);

    let (_, [_, first], _) = door.ask(&key(1, 1), CHAT).await;
    door.ask(&key(1, 1), CHAT).await.0.unwrap();
    let (_, [_, third], _) = door.ask(&key(1, 1), CHAT).await;

    assert_eq!([first, third], ["\"key\";r=1;t=30;mf-degraded", "\"key\";r=0;t=30;mf-degraded"]);
}

#[tokio::test]
async fn a_shared_limit_that_may_not_be_exceeded_refuses_while_nobody_counts() {
    let door = Door::new([rate(Per::Key, policy("key", 2).shared(Mode::Strict, OnStoreFailure::Deny))]);

    let (refusal, [policy, state], _) = door.ask(&key(1, 1), CHAT).await;

    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal.error.reason(), "TEMPORARY_REDUCED_CAPACITY");
    assert_eq!((refusal.violated.as_deref(), refusal.error.delay()), (Some("key"), Some(Duration::from_secs(1))));
    assert_eq!([policy.as_str(), &state], ["\"key\";q=2;w=60", ""]);
}

#[tokio::test]
async fn case_69_65536_addresses_of_one_network_are_one_and_callers_take_no_part_in_it() {
    let door = Door::new([rate(Per::Ip, policy("address", 3))]);
    let neighbours = |last: usize| nobody(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last as u16));

    let passed = door.count(1 << 16, LOGIN, neighbours).await;
    let (elsewhere, [policy, state], _) =
        door.ask(&nobody(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1)), LOGIN).await;

    assert_eq!(passed, 3);
    assert!(elsewhere.is_ok());
    assert_eq!([policy.as_str(), &state], ["\"address\";q=3;w=60", "\"address\";r=2;t=20"]);
}

#[tokio::test]
async fn a_tenant_is_limited_whatever_number_of_keys_and_people_it_has() {
    let door = Door::new([rate(Per::Tenant, policy("tenant", 3))]);

    let keys = door.count(20, CHAT, |turn| key(1, turn as u128)).await;
    let (person_of_it, ..) = door.ask(&person(1, 7), CHAT).await;
    let (other, ..) = door.ask(&key(2, 1), CHAT).await;

    assert_eq!((keys, person_of_it.is_ok(), other.is_ok()), (3, false, true));
}

#[tokio::test]
async fn a_person_is_limited_in_all_tenants_and_keys_are_no_persons() {
    let door = Door::new([rate(Per::User, policy("user", 2))]);

    let passed = door.count(5, CHAT, |turn| person(turn as u128, 7)).await;
    let (_, told, _) = door.ask(&key(1, 7), CHAT).await;

    assert_eq!(passed, 2);
    assert_eq!(told, ["", ""], "a limit that does not apply is not told");
}

#[tokio::test]
async fn operations_are_counted_each_by_itself_or_only_some_of_them() {
    let each = Door::new([rate(Per::Route, policy("route", 1))]);
    let some = Checked { routes: vec!["createChatCompletion".to_owned()], ..rate(Per::Tenant, policy("chat", 1)) };
    let some = Door::new([some]);

    let by_itself = [each.count(3, CHAT, |_| key(1, 1)).await, each.count(3, "/v1/keys", |_| key(1, 1)).await];
    let by_address =
        [each.count(3, LOGIN, |_| nobody([10, 0, 0, 1])).await, each.count(3, LOGIN, |_| nobody(HOME)).await];
    let only = [some.count(3, CHAT, |_| key(1, 1)).await, some.count(3, "/v1/keys", |_| key(1, 1)).await];

    assert_eq!((by_itself, by_address, only), ([1, 1], [1, 1], [1, 3]));
}

#[tokio::test]
async fn all_limits_that_apply_are_told_in_order_also_when_the_first_refuses() {
    let door = Door::new([
        rate(Per::Key, policy("key", 1)),
        rate(Per::Tenant, policy("tenant", 60)),
        rate(Per::User, policy("user", 60)),
    ]);

    let (_, [policies, first], _) = door.ask(&key(1, 1), CHAT).await;
    let (refused, [told, second], _) = door.ask(&key(1, 1), CHAT).await;
    let (_, [_, other], _) = door.ask(&key(1, 2), CHAT).await;

    assert_eq!(policies, "\"key\";q=1;w=60, \"tenant\";q=60;w=60");
    assert_eq!(first, "\"key\";r=0;t=60, \"tenant\";r=59;t=1");
    assert_eq!((told, second.as_str()), (policies, "\"key\";r=0;t=60"));
    assert_eq!(refused.unwrap_err().violated.as_deref(), Some("key"));
    assert_eq!(other, "\"key\";r=0;t=60, \"tenant\";r=58;t=2", "what was refused before cost the tenant nothing");
}

#[test]
fn the_wait_is_spread_by_a_tenth_or_a_minute_at_most() {
    let (wait, month) = (Duration::from_secs(100), Duration::from_secs(30 * 86_400));

    for micros in [0, 50, 99] {
        let longer = spread(wait, Timestamp::from_micros(micros));

        assert!(longer >= wait && longer <= wait + wait / 10);
        assert!(spread(month, Timestamp::from_micros(micros)) <= month + MINUTE);
    }
}
