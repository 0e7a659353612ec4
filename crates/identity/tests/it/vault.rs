//! The vault: what is sealed opens in its place, and only there.

use manifold_core::TenantId;
use manifold_identity::{Place, Vault};
use uuid::Uuid;

use crate::house::House;

on_both_engines!(
    what_is_sealed_opens_in_its_place_and_nowhere_else,
    every_tenant_has_a_key_of_its_own,
    what_belongs_to_no_tenant_is_sealed_too,
    a_key_is_made_once_however_many_ask_at_once,
    a_database_from_before_check_blobs_goes_on,
    the_check_blob_tells_the_wrong_master_key,
    a_key_that_sealed_enough_is_replaced,
    an_opened_key_is_forgotten,
);

const TENANT: TenantId = TenantId(Uuid::from_u128(7));

fn place(row: u128) -> Place<'static> {
    Place { tenant: TENANT, table: "integrations.connection", column: "secret", row: Uuid::from_u128(row) }
}

async fn opened(vault: &Vault, place: Place<'_>, sealed: &[u8]) -> Option<Vec<u8>> {
    vault.open(place, sealed).await.ok().map(|text| text.expose().clone())
}

async fn what_is_sealed_opens_in_its_place_and_nowhere_else(house: &House) {
    let process = house.start().await;
    let vault = process.identity.vault();

    let sealed = vault.seal(place(1), b"sk-canary-1234").await.unwrap();
    let again = vault.seal(place(1), b"sk-canary-1234").await.unwrap();

    assert_ne!(sealed, again, "every seal has a nonce of its own");
    assert_eq!(opened(vault, place(1), &sealed).await.as_deref(), Some(&b"sk-canary-1234"[..]));
    let other = Place { tenant: TenantId(Uuid::from_u128(8)), ..place(1) };
    vault.seal(other, b"has a key of the same version").await.unwrap();
    for place in
        [place(2), other, Place { column: "token", ..place(1) }, Place { table: "integrations.factor", ..place(1) }]
    {
        let error = vault.open(place, &sealed).await.unwrap_err();
        assert_eq!(error.reason(), "INTERNAL", "{place:?}");
        assert!(!error.chain().contains("canary"));
    }
    for spoilt in [&[][..], &[1, 0, 0, 0, 9], b"sk-canary-1234"] {
        assert!(vault.open(place(1), spoilt).await.is_err());
    }
    process.stop().await;
}

async fn every_tenant_has_a_key_of_its_own(house: &House) {
    let process = house.start().await;
    let vault = process.identity.vault();

    for tenant in 1..=3 {
        let place = Place { tenant: TenantId(Uuid::from_u128(tenant)), ..place(1) };
        let sealed = vault.seal(place, b"x").await.unwrap();
        assert_eq!(sealed[..5], [1, 0, 0, 0, 1], "the first version");
    }

    assert_eq!(
        process.count("SELECT COUNT(DISTINCT wrapped) FROM vault_key").await,
        3 + 1,
        "and one is the house's own"
    );
    assert_eq!(process.count("SELECT COUNT(*) FROM vault_key WHERE master_id = 'k1'").await, 3 + 1);
    process.stop().await;
}

async fn what_belongs_to_no_tenant_is_sealed_too(house: &House) {
    let process = house.start().await;
    let vault = process.identity.vault();
    let nobody = Place { tenant: TenantId(Uuid::nil()), ..place(1) };

    let sealed = vault.seal(nobody, b"").await.unwrap();

    assert_eq!(opened(vault, nobody, &sealed).await, Some(Vec::new()));
    process.stop().await;
}

async fn a_key_is_made_once_however_many_ask_at_once(house: &House) {
    let process = house.start().await;
    let vault = process.identity.vault();

    let sealed = futures::future::join_all((0..600).map(|row| vault.seal(place(row), b"x"))).await;

    for (row, sealed) in (0..).zip(sealed) {
        assert!(opened(vault, place(row), &sealed.unwrap()).await.is_some());
    }
    assert_eq!(process.count("SELECT COUNT(*) FROM vault_key").await, 1 + 1, "and one is the house's own");
    assert!(process.count("SELECT MAX(seals) FROM vault_key").await >= 600, "all are counted");
    process.stop().await;
}

async fn a_database_from_before_check_blobs_goes_on(house: &House) {
    let first = house.start().await;
    let admin = house.admin_key();
    for table in ["signing_key", "vault_key", "vault_master"] {
        first.execute(&format!("DELETE FROM {table}")).await;
    }
    first.stop().await;

    let right = std::fs::read(house.file("master.key")).unwrap();
    std::fs::write(house.file("master.key"), "07".repeat(32)).unwrap();
    let wrong = house.try_start(house.config()).await.err().unwrap();
    std::fs::write(house.file("master.key"), right).unwrap();
    let second = house.start().await;

    assert_eq!(wrong.reason(), "MASTER_KEY_WRONG");
    assert!(second.identity.authenticate(&admin).await.is_ok());
    assert_eq!(second.count("SELECT COUNT(*) FROM vault_master WHERE id = 'k1' AND state = 'active'").await, 1);
    second.stop().await;
}

async fn the_check_blob_tells_the_wrong_master_key(house: &House) {
    let first = house.start().await;
    first.execute("DELETE FROM system_key").await;
    first.stop().await;
    std::fs::write(house.file("master.key"), "07".repeat(32)).unwrap();

    let error = house.try_start(house.config()).await.err().unwrap();

    assert_eq!(error.reason(), "MASTER_KEY_WRONG");
    let file = house.file("master.key").display().to_string();
    assert!(error.message().contains("k1") && error.message().contains(&file), "{error}");
}

async fn a_key_that_sealed_enough_is_replaced(house: &House) {
    let process = house.start().await;
    let vault = process.identity.vault();
    let before = vault.seal(place(1), b"before").await.unwrap();
    process.execute("UPDATE vault_key SET seals = 1073741824 - 50").await;

    house.clock.advance(std::time::Duration::from_secs(31));
    let after = vault.seal(place(1), b"after").await.unwrap();

    assert_eq!((before[4], after[4]), (1, 2));
    assert_eq!(opened(vault, place(1), &before).await.as_deref(), Some(&b"before"[..]));
    assert_eq!(opened(vault, place(1), &after).await.as_deref(), Some(&b"after"[..]));
    process.stop().await;
}

async fn an_opened_key_is_forgotten(house: &House) {
    let process = house.start().await;
    let vault = process.identity.vault();
    let sealed = vault.seal(place(1), b"x").await.unwrap();
    assert!(opened(vault, place(1), &sealed).await.is_some());
    process.execute("DELETE FROM vault_key").await;

    let held = opened(vault, place(1), &sealed).await;
    house.clock.advance(std::time::Duration::from_secs(31));
    let error = vault.open(place(1), &sealed).await.unwrap_err();

    assert!(held.is_some());
    assert!(error.message().contains("gone"), "{error}");
    process.stop().await;
}
