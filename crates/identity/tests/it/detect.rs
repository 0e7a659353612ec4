//! What looks like an attack becomes an incident, and keeps its network out.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, PageRequest, Principal, TenantId};
use manifold_identity::{Environment, Finish, Incident, NewKey, generate_key, parse_block_id, parse_incident_id};
use manifold_runtime::CallContext;
use manifold_store::Db;
use uuid::Uuid;

use crate::house::{House, Process, calling, eventually, key};

const ATTACKER: &str = "203.0.113.9";

on_both_engines!(
    whoever_guesses_keys_is_kept_out_for_a_quarter_of_an_hour,
    a_block_is_everywhere_within_a_second_and_ends_when_it_is_removed,
    many_accounts_tried_from_one_network_are_stuffing_and_one_tried_often_is_brute_force,
    a_key_that_ended_long_ago_is_an_incident_and_one_that_just_ended_is_not,
    an_old_secret_is_dead_an_hour_after_its_rotation_and_the_key_lives_on,
    a_canary_is_an_unknown_key_to_whoever_uses_it_and_tells_where_that_is,
    whoever_probes_or_acts_in_bulk_is_an_incident_of_the_own_tenant,
    a_chain_that_was_changed_while_nobody_ran_is_found_at_the_start,
    the_machine_itself_is_never_blocked,
);

impl Process {
    async fn guess(&self, ip: &str, times: usize) {
        for _ in 0..times {
            let guessed = generate_key(Environment::Live);
            let refused = self.identity.authenticate(guessed.expose()).await.unwrap_err();
            self.identity.note_refused_key(guessed.expose(), ip.parse().unwrap(), &refused);
        }
    }

    fn is_blocked(&self, ip: &str) -> bool {
        self.identity.refuse_blocked(ip.parse().unwrap()).is_err()
    }

    async fn incidents(&self, caller: &CallContext) -> Vec<Incident> {
        self.identity.list_incidents(caller, PageRequest::new(None, None).unwrap()).await.unwrap().data
    }

    /// The incident of this rule, once it is written down.
    async fn incident(&self, caller: &CallContext, rule: &str) -> Incident {
        let found = async || self.incidents(caller).await.into_iter().find(|incident| incident.rule == rule);
        eventually(Duration::from_secs(10), async || found().await.is_some()).await;
        found().await.unwrap()
    }
}

async fn whoever_guesses_keys_is_kept_out_for_a_quarter_of_an_hour(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.guess(ATTACKER, 19).await;
    assert!(!process.is_blocked(ATTACKER) && process.incidents(&admin).await.is_empty());

    process.guess(ATTACKER, 1).await;
    eventually(Duration::from_secs(10), async || process.is_blocked(ATTACKER)).await;

    let refused = process.identity.refuse_blocked("203.0.113.200".parse().unwrap()).unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::Exhausted, "ABNORMAL_USAGE_DETECTED"));
    assert!(refused.delay() > Some(Duration::from_secs(800)), "a neighbour waits, too");
    assert!(!process.is_blocked("203.0.114.9"), "nobody else does");
    let incident = process.incident(&admin, "key_guessing").await;
    assert_eq!((incident.subject.as_str(), incident.count, incident.severity.as_str()), ("203.0.113.0/24", 20, "high"));
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.security.detected'").await, 1);
    assert_eq!(process.identity.verify_audit(&admin).await.unwrap().broken, None);

    house.clock.advance(Duration::from_secs(901));
    assert!(!process.is_blocked(ATTACKER));
    process.stop().await;
}

async fn a_block_is_everywhere_within_a_second_and_ends_when_it_is_removed(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.guess(ATTACKER, 20).await;
    eventually(Duration::from_secs(10), async || process.is_blocked(ATTACKER)).await;
    if matches!(process.db, Db::Postgres(_)) {
        let other = house.start().await;
        assert!(other.is_blocked(ATTACKER), "it is known from the start on");
        other.guess("198.51.100.1", 20).await;
        eventually(Duration::from_secs(10), async || process.is_blocked("198.51.100.1")).await;
        other.stop().await;
    }
    let blocks = process.identity.list_blocks(&admin).await.unwrap();
    let block = blocks.iter().find(|block| block.network == "203.0.113.0/24").unwrap();

    let stranger = Principal { tenant: TenantId(Uuid::from_u128(9)), ..admin.principal.clone() };
    let denied = process.identity.remove_block(&calling(stranger.clone()), block.id).await.unwrap_err();
    let unseen = process.identity.list_blocks(&calling(stranger)).await.unwrap_err();
    process.identity.remove_block(&admin, block.id).await.unwrap();
    let again = process.identity.remove_block(&admin, block.id).await.unwrap_err();

    assert_eq!((denied.reason(), unseen.reason()), ("INSUFFICIENT_SCOPE", "INSUFFICIENT_SCOPE"));
    assert!(!process.is_blocked(ATTACKER));
    assert_eq!(again.reason(), "BLOCK_NOT_FOUND");
    assert_eq!(parse_block_id("key_x").unwrap_err().reason(), "BLOCK_NOT_FOUND");
    assert_eq!(process.count("SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.block.removed'").await, 1);
    process.stop().await;
}

async fn many_accounts_tried_from_one_network_are_stuffing_and_one_tried_often_is_brute_force(house: &House) {
    let process = house.start().await;
    process.set_up(house).await;
    let admin = process.admin(house).await;

    for n in 0..20 {
        let email = format!("user{}@example.org", n % 7);
        process.log_in(ATTACKER, &email, "a wrong password").await.unwrap_err();
    }
    let stuffing = process.incident(&admin, "stuffing").await;
    for n in 0..10 {
        process.log_in(&format!("198.51.{n}.1"), "ada@example.org", "a wrong password").await.unwrap_err();
    }
    let brute_force = process.incident(&admin, "brute_force").await;

    assert_eq!((stuffing.subject.as_str(), stuffing.count), ("203.0.113.0/24", 20));
    assert!(process.is_blocked(ATTACKER));
    assert!(brute_force.subject.starts_with("usr_") && !process.is_blocked("198.51.9.1"), "{brute_force:?}");
    process.stop().await;
}

async fn a_key_that_ended_long_ago_is_an_incident_and_one_that_just_ended_is_not(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("app", &["ai.inference.run"])).await.unwrap();
    process.identity.revoke_key(&admin, made.key.id).await.unwrap();
    let try_it = async || {
        let refused = process.identity.authenticate(made.secret.expose()).await.unwrap_err();
        process.identity.note_refused_key(made.secret.expose(), ATTACKER.parse().unwrap(), &refused);
        refused
    };

    assert_eq!(try_it().await.reason(), "KEY_DISABLED");
    house.clock.advance(Duration::from_secs(3_601));
    try_it().await;
    let incident = process.incident(&admin, "dead_credential").await;

    assert_eq!((incident.subject, incident.seen.as_str()), (made.key.id.to_string(), "203.0.113.0/24"));
    assert_eq!(incident.count, 1, "the first use was no incident");
    process.stop().await;
}

async fn an_old_secret_is_dead_an_hour_after_its_rotation_and_the_key_lives_on(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("app", &["ai.inference.run"])).await.unwrap();
    let new = process.identity.rotate_key(&admin, made.key.id, Duration::from_secs(60)).await.unwrap();
    process.identity.finish_rotation(&admin, made.key.id, Finish::Now).await.unwrap();
    let refused =
        |error: &Error| process.identity.note_refused_key(made.secret.expose(), ATTACKER.parse().unwrap(), error);
    let try_it = async || process.identity.authenticate(made.secret.expose()).await.inspect_err(refused).unwrap_err();

    assert_eq!(try_it().await.reason(), "KEY_DISABLED");
    house.clock.advance(Duration::from_secs(3_601));
    try_it().await;
    let incident = process.incident(&admin, "dead_credential").await;

    assert_eq!((incident.subject, incident.count), (made.key.id.to_string(), 1));
    assert!(process.identity.authenticate(new.secret.expose()).await.is_ok());
    process.stop().await;
}

async fn a_canary_is_an_unknown_key_to_whoever_uses_it_and_tells_where_that_is(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let bait = NewKey { canary: true, ..key("bait", &["*"]) };
    let made = process.identity.create_key(&admin, bait).await.unwrap();
    assert!(process.identity.get_key(&admin, made.key.id).await.unwrap().canary);
    let unknown = process.identity.authenticate(generate_key(Environment::Live).expose()).await.unwrap_err();

    let refused = process.identity.authenticate(made.secret.expose()).await.unwrap_err();
    process.identity.note_refused_key(made.secret.expose(), ATTACKER.parse().unwrap(), &refused);

    let told = |error: &Error| (error.code(), error.reason().to_owned(), error.message().to_owned());
    assert_eq!(told(&refused), told(&unknown));
    let incident = process.incident(&admin, "canary").await;
    assert_eq!((&*incident.severity, &*incident.subject), ("critical", "203.0.113.0/24"));
    assert_eq!(incident.seen, made.key.id.to_string());
    eventually(Duration::from_secs(10), async || process.is_blocked(ATTACKER)).await;
    assert_eq!(process.count("SELECT COUNT(*) FROM api_key WHERE canary AND last_used_at IS NOT NULL").await, 0);
    process.stop().await;
}

async fn whoever_probes_or_acts_in_bulk_is_an_incident_of_the_own_tenant(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (tenant, subject) = (admin.principal.tenant, Arc::clone(&admin.principal.subject));

    for _ in 0..10 {
        process.identity.create_key(&admin, key("app", &["ai.inference.run"])).await.unwrap();
        process.identity.note_denied(tenant, &subject, ATTACKER.parse().unwrap(), "POST /v1/keys".to_owned());
        process.identity.note_missed(tenant, &subject, "GET /v1/keys/{id}".to_owned());
    }
    let (probing, bulk) = (process.incident(&admin, "probing").await, process.incident(&admin, "bulk_keys").await);

    assert_eq!((probing.count, bulk.count), (20, 10));
    let stranger = calling(Principal { tenant: TenantId(Uuid::from_u128(9)), ..admin.principal.clone() });
    assert!(process.incidents(&stranger).await.is_empty());
    let foreign = process.identity.acknowledge_incident(&stranger, probing.id).await.unwrap_err();
    assert_eq!(foreign.reason(), "INCIDENT_NOT_FOUND");
    assert_eq!(parse_incident_id("x").unwrap_err().reason(), "INCIDENT_NOT_FOUND");
    let closed = process.identity.acknowledge_incident(&admin, probing.id).await.unwrap();
    let again = process.identity.acknowledge_incident(&admin, probing.id).await.unwrap();
    assert_eq!(closed.acknowledged.as_ref().map(|(by, _)| by.as_str()), Some(&*subject));
    assert_eq!(closed, again);
    for _ in 0..20 {
        process.identity.note_missed(tenant, &subject, "GET /v1/keys/{id}".to_owned());
    }
    let open = async || process.incidents(&admin).await.iter().filter(|one| one.rule == "probing").count();
    eventually(Duration::from_secs(10), async || open().await == 2).await;
    process.stop().await;
}

async fn a_chain_that_was_changed_while_nobody_ran_is_found_at_the_start(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.unprotect().await;
    process.execute("UPDATE audit_entry SET actor = 'somebody else' WHERE seq = 1").await;
    process.stop().await;

    let process = house.start().await;
    let incident = process.incident(&admin, "chain_broken").await;

    assert_eq!((incident.severity.as_str(), incident.seen.as_str()), ("critical", "altered at seq 1"));
    process.stop().await;
}

async fn the_machine_itself_is_never_blocked(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;

    process.guess("127.0.0.1", 20).await;
    process.incident(&admin, "key_guessing").await;

    assert!(!process.is_blocked("127.0.0.1"));
    assert!(process.identity.list_blocks(&admin).await.unwrap().is_empty());
    process.stop().await;
}
