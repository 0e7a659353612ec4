//! New master keys and new keys of tenants, while everything goes on.

use std::time::Duration;

use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::vault;
use manifold_core::{Code, Principal, Secret, SubjectKind, TenantId};
use manifold_identity::{Config, MasterKey, MasterSource, Place, master_status, rotate_master};
use manifold_runtime::{CallContext, Mesh, MeshConfig, request};
use uuid::Uuid;

use crate::house::{House, Process, calling, eventually, key};

on_both_engines!(
    a_new_master_key_seals_everything_and_the_old_one_can_go,
    an_interrupted_change_of_the_master_key_goes_on,
    a_process_that_lacks_the_new_key_says_which_one_it_is,
    a_key_from_a_variable_is_as_good_as_one_from_a_file,
    a_new_key_of_a_tenant_seals_everything_anew_and_the_old_one_is_destroyed,
    a_key_that_another_service_needs_is_not_destroyed,
    a_row_that_does_not_open_keeps_its_key_alive,
    who_may_not_rotate_changes_nothing,
    a_hundred_writers_notice_nothing_of_new_keys,
);

const WITHIN: Duration = Duration::from_secs(30);
/// A replaced key is kept for so long.
const DAY: Duration = Duration::from_secs(25 * 3_600 + 1);

fn file(house: &House, id: &str) -> MasterKey {
    MasterKey { id: id.to_owned(), source: MasterSource::File(house.file(&format!("{id}.key"))) }
}

/// With the key of the data folder and another one, which is made.
fn two_keys(house: &House) -> Config {
    std::fs::write(house.file("k2.key"), "0f".repeat(32)).unwrap();
    let mut config = house.config();
    config.master_keys.push(file(house, "k2"));
    config
}

/// With the other one alone.
fn second_key(house: &House) -> Config {
    Config { master_keys: vec![file(house, "k2")], ..house.config() }
}

fn place(tenant: u128, row: u128) -> Place<'static> {
    let tenant = TenantId(Uuid::from_u128(tenant));
    Place { tenant, table: "integrations.connection", column: "secret", row: Uuid::from_u128(row) }
}

/// Lets opened keys be forgotten.
fn forget(house: &House) {
    house.clock.advance(Duration::from_secs(31));
}

/// Waits until the installation's own key is there, which seals the keys that sign tokens.
async fn settled(process: &Process) {
    eventually(WITHIN, async || process.count("SELECT COUNT(*) FROM signing_key").await > 0).await;
}

/// Versions of the caller's key that are still there, beside the active one.
async fn replaced(process: &Process, caller: &CallContext) -> Vec<i32> {
    process.identity.vault_info(caller).await.unwrap().replaced.iter().map(|key| key.version).collect()
}

async fn a_new_master_key_seals_everything_and_the_old_one_can_go(house: &House) {
    let config = two_keys(house);
    let process = house.try_start(config.clone()).await.unwrap();
    settled(&process).await;
    let admin = process.admin(house).await;
    process.identity.put_secret(&admin, "stripe", &Secret::from("x")).await.unwrap();
    let mut sealed = Vec::new();
    for tenant in 1..=250 {
        sealed.push(process.identity.vault().seal(place(tenant, 1), b"sk-canary").await.unwrap());
    }
    let n_system = process.count("SELECT COUNT(*) FROM system_key").await as usize;

    let done = rotate_master(&process.db, &house.clock, &config.master_keys, "k2").await.unwrap();
    let again = rotate_master(&process.db, &house.clock, &config.master_keys, "k2").await.unwrap();
    forget(house);
    for (tenant, sealed) in (1..).zip(&sealed) {
        assert!(process.identity.vault().open(place(tenant, 1), sealed).await.is_ok(), "the running process goes on");
    }
    let new = process.identity.vault().seal(place(900, 1), b"new").await.unwrap();
    let key = process.count("SELECT COUNT(*) FROM vault_key WHERE master_id = 'k2'").await;
    let state = master_status(&process.db).await.unwrap();
    process.stop().await;
    std::fs::remove_file(house.file("master.key")).unwrap();
    let process = house.try_start(second_key(house)).await.unwrap();

    assert_eq!((done.n_keys, done.retired), (252 + n_system, vec!["k1".to_owned()]));
    assert_eq!((again.n_keys, again.retired.len()), (0, 0));
    assert_eq!(key, 253);
    let state: Vec<_> = state.iter().map(|key| (&*key.id, &*key.state, key.n_keys)).collect();
    assert_eq!(state, [("k1", "retired", 0), ("k2", "active", 253 + n_system as i64)]);
    assert_eq!(process.identity.vault().open(place(900, 1), &new).await.unwrap().expose(), b"new");
    assert_eq!(process.identity.authenticate(&house.admin_key()).await.unwrap(), admin.principal);
    assert_eq!(process.count("SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.vault.key_rotated'").await, 1);
    process.stop().await;
}

async fn an_interrupted_change_of_the_master_key_goes_on(house: &House) {
    let config = two_keys(house);
    let process = house.try_start(config.clone()).await.unwrap();
    settled(&process).await;
    for tenant in 1..=3 {
        process.identity.vault().seal(place(tenant, 1), b"x").await.unwrap();
    }
    rotate_master(&process.db, &house.clock, &config.master_keys, "k2").await.unwrap();
    process.identity.vault().seal(place(4, 1), b"x").await.unwrap();
    // Back to the first key, and stopped before the fourth tenant: its key still names the second.
    let back = "UPDATE vault_master SET state = CASE id WHEN 'k1' THEN 'retired' ELSE 'retiring' END";
    process.execute(back).await;
    process.execute("UPDATE vault_master SET state = 'active' WHERE id = 'k1'").await;

    let done = rotate_master(&process.db, &house.clock, &config.master_keys, "k1").await.unwrap();

    assert_eq!(done.retired, ["k2"]);
    assert_eq!(
        process.count("SELECT COUNT(*) FROM vault_key WHERE master_id = 'k1'").await,
        5,
        "and the installation's own"
    );
    process.stop().await;
    house.start().await.stop().await;
}

async fn a_process_that_lacks_the_new_key_says_which_one_it_is(house: &House) {
    let behind = house.start().await;
    let sealed = behind.identity.vault().seal(place(1, 1), b"x").await.unwrap();
    let config = two_keys(house);

    let unknown = rotate_master(&behind.db, &house.clock, &house.config().master_keys, "k2").await.unwrap_err();
    rotate_master(&behind.db, &house.clock, &config.master_keys, "k2").await.unwrap();
    forget(house);
    let lost = behind.identity.vault().open(place(1, 1), &sealed).await.unwrap_err();
    behind.stop().await;
    let stopped = house.try_start(house.config()).await.err().unwrap();

    for error in [unknown, lost, stopped] {
        assert_eq!(error.reason(), "MASTER_KEY_MISSING");
        assert!(error.message().contains("k2") && error.message().contains("identity.master_keys"), "{error}");
    }
    house.try_start(config).await.unwrap().stop().await;
}

async fn a_key_from_a_variable_is_as_good_as_one_from_a_file(house: &House) {
    let variable = |text: &str| Config {
        master_keys: vec![MasterKey {
            id: "v".to_owned(),
            source: MasterSource::Variable("VAULT_V".to_owned(), Some(Secret::from(text))),
        }],
        ..house.config()
    };

    house.try_start(variable(&"0f".repeat(32))).await.unwrap().stop().await;
    let wrong = house.try_start(variable(&"0e".repeat(32))).await.err().unwrap();
    house.try_start(variable(&"0f".repeat(32))).await.unwrap().stop().await;

    assert_eq!(wrong.reason(), "MASTER_KEY_WRONG");
    assert!(wrong.message().contains("VAULT_V") && !wrong.message().contains("0e0e"), "{wrong}");
    assert!(!house.file("master.key").exists());
}

async fn a_new_key_of_a_tenant_seals_everything_anew_and_the_old_one_is_destroyed(house: &House) {
    let process = house.start().await;
    let (admin, identity) = (process.admin(house).await, &process.identity);
    let before = identity.rotate_tenant_key(&admin).await.unwrap();
    for number in 0..20 {
        let value = Secret::new(format!("value {number}"));
        identity.put_secret(&admin, &format!("secret-{number}"), &value).await.unwrap();
    }

    let rotated = identity.rotate_tenant_key(&admin).await.unwrap();
    let left = "SELECT COUNT(*) FROM vault_secret WHERE substr(hex(sealed), 1, 10) <> '0100000002'";
    let left = if house.is_postgres() { left.replace("hex(sealed)", "encode(sealed, 'hex')") } else { left.to_owned() };
    eventually(WITHIN, async || process.count(&left).await == 0).await;
    let early = replaced(&process, &admin).await;
    house.clock.advance(DAY);
    identity.rotate_tenant_key(&admin).await.unwrap();
    eventually(WITHIN, async || replaced(&process, &admin).await == [2]).await;

    assert_eq!((before.version, before.replaced.len()), (Some(1), 0), "there was none before");
    assert_eq!((rotated.version, rotated.replaced.len()), (Some(2), 1));
    assert_eq!(early, [1], "an answer may still be repeated");
    assert_eq!(opened(&process, &admin, "secret-7").await, "value 7");
    assert_eq!(identity.get_secret(&admin, "secret-7").await.unwrap().version, 1, "it is the same value");
    let destroyed = "SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.vault.key_destroyed'";
    assert_eq!(process.count(destroyed).await, 1);
    process.stop().await;
}

/// A secret, as a service opens it.
async fn opened(process: &Process, owner: &CallContext, name: &str) -> String {
    let tenant = owner.principal.tenant.to_string();
    let item = proto::OpenItem { tenant, secret: name.to_owned(), ..Default::default() };
    let answer = client(process).open(request(proto::OpenRequest { items: vec![item] }, service())).await.unwrap();
    String::from_utf8(answer.into_inner().plaintext[0].to_vec()).unwrap()
}

fn client(process: &Process) -> vault::Client<manifold_runtime::Channel> {
    let mesh = Mesh::new(MeshConfig::default()).unwrap();
    mesh.provide("identity", process.routes.clone());
    vault::Client::new(mesh.channel("identity"))
}

fn service() -> CallContext {
    calling(Principal { kind: SubjectKind::Service, subject: "integrations".into(), ..Principal::anonymous() })
}

async fn a_key_that_another_service_needs_is_not_destroyed(house: &House) {
    let process = house.start().await;
    settled(&process).await;
    let (admin, client) = (process.admin(house).await, client(&process));
    // Of another tenant, and destroyed right after the one in question was looked at.
    process.identity.vault().seal(place(1, 1), b"x").await.unwrap();
    process.execute("UPDATE vault_key SET state = 'replaced', replaced_at = 1763629200000001").await;
    let item = proto::SealItem {
        tenant: admin.principal.tenant.to_string(),
        table: "connection".to_owned(),
        column: "secret".to_owned(),
        row_id: Uuid::from_u128(1).to_string(),
        plaintext: b"x".to_vec().into(),
    };
    client.seal(request(proto::SealRequest { items: vec![item] }, service())).await.unwrap();

    process.identity.rotate_tenant_key(&admin).await.unwrap();
    house.clock.advance(DAY);
    process.identity.rotate_tenant_key(&admin).await.unwrap();
    let tenants = "SELECT COUNT(DISTINCT tenant_id) FROM vault_key";
    eventually(WITHIN, async || process.count(tenants).await == 2).await;
    let info = process.identity.vault_info(&admin).await.unwrap();
    let tenant = admin.principal.tenant.to_string();
    let report = proto::ReportResealRequest { tenant, table: "connection".to_owned(), lowest_version: 2 };
    let accepted = client.report_reseal(request(report, service())).await.unwrap().into_inner().accepted;
    process.identity.rotate_tenant_key(&admin).await.unwrap();
    eventually(WITHIN, async || replaced(&process, &admin).await == [2, 3]).await;

    assert_eq!(info.replaced[0].tables, ["integrations.connection"]);
    assert_eq!(info.replaced.iter().map(|key| key.version).collect::<Vec<_>>(), [1, 2]);
    assert!(accepted);
    process.stop().await;
}

async fn a_row_that_does_not_open_keeps_its_key_alive(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    for name in ["spoilt", "good"] {
        process.identity.put_secret(&admin, name, &Secret::from("x")).await.unwrap();
    }
    let spoil = if house.is_postgres() { r"sealed || '\x00'::bytea" } else { "CAST(sealed || x'00' AS BLOB)" };
    process.execute(&format!("UPDATE vault_secret SET sealed = {spoil} WHERE name = 'spoilt'")).await;

    process.identity.rotate_tenant_key(&admin).await.unwrap();
    house.clock.advance(DAY);
    process.identity.rotate_tenant_key(&admin).await.unwrap();
    let rows =
        async || process.identity.vault_info(&admin).await.unwrap().replaced.iter().map(|key| key.n_rows).sum::<i64>();
    eventually(WITHIN, async || rows().await == 1).await;

    assert_eq!(replaced(&process, &admin).await, [1, 2]);
    assert_eq!(opened(&process, &admin, "good").await, "x");
    process.stop().await;
}

async fn who_may_not_rotate_changes_nothing(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("k", &["vault.key.read", "vault.secret.*"])).await.unwrap();
    let reader = calling(process.identity.authenticate(made.secret.expose()).await.unwrap());

    let refused = process.identity.rotate_tenant_key(&reader).await.unwrap_err();

    assert_eq!(refused.code(), Code::Denied);
    assert_eq!(process.identity.vault_info(&reader).await.unwrap().version, None);
    process.stop().await;
}

async fn a_hundred_writers_notice_nothing_of_new_keys(house: &House) {
    const WRITERS: usize = 100;
    const ROUNDS: usize = 6;
    let config = two_keys(house);
    let process = house.try_start(config.clone()).await.unwrap();
    let (admin, identity) = (process.admin(house).await, &process.identity);

    let writers = futures::future::join_all((0..WRITERS).map(async |writer| {
        for round in 0..ROUNDS {
            let value = Secret::new(format!("{writer} in round {round}"));
            identity.put_secret(&admin, &format!("secret-{writer}"), &value).await.unwrap();
        }
    }));
    let rotations = async {
        identity.rotate_tenant_key(&admin).await.unwrap();
        rotate_master(&process.db, &house.clock, &config.master_keys, "k2").await.unwrap();
        identity.rotate_tenant_key(&admin).await.unwrap();
    };
    tokio::join!(writers, rotations);
    house.clock.advance(DAY);
    identity.rotate_tenant_key(&admin).await.unwrap();
    let newest = identity.vault_info(&admin).await.unwrap().version.unwrap();
    eventually(WITHIN, async || replaced(&process, &admin).await == [newest - 1]).await;

    let rows = "SELECT COUNT(*) FROM vault_secret WHERE version = 6";
    assert_eq!(process.count(rows).await, WRITERS as i64);
    assert_eq!(process.count("SELECT COUNT(*) FROM vault_key WHERE master_id <> 'k2'").await, 0);
    eventually(WITHIN, async || identity.vault_info(&admin).await.unwrap().replaced.iter().all(|key| key.n_rows == 0))
        .await;
    for writer in 0..WRITERS {
        assert_eq!(opened(&process, &admin, &format!("secret-{writer}")).await, format!("{writer} in round 5"));
    }
    process.stop().await;
}
