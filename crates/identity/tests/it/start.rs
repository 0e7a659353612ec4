//! First starts: one admin key, private files, and what stops a start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use manifold_core::Secret;
use manifold_identity::{Config, Environment, generate_key};

use crate::house::House;

on_both_engines!(
    makes_one_random_admin_key_in_a_private_file,
    takes_the_configured_admin_key,
    a_malformed_admin_key_stops_the_start_and_nothing_is_made,
    a_start_that_died_before_the_database_knew_its_key_goes_on,
    another_master_key_is_named_with_the_remedy,
);

async fn makes_one_random_admin_key_in_a_private_file(house: &House) {
    let first = house.start().await;
    let key = first.first_admin_key.as_ref().unwrap().expose().clone();
    let admin = first.identity.authenticate(&key).await.unwrap();
    let events = first.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.created'").await;
    first.stop().await;

    let second = house.start().await;

    assert_eq!(&*admin.permissions, ["*".to_owned()]);
    assert_eq!(events, 1);
    assert_eq!(key, house.admin_key());
    for file in ["admin.key", "master.key"] {
        assert_eq!(fs::metadata(house.file(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert!(second.first_admin_key.is_none());
    assert_eq!(second.identity.authenticate(&key).await.unwrap(), admin);
    second.stop().await;
}

async fn takes_the_configured_admin_key(house: &House) {
    let key = generate_key(Environment::Live);
    fs::write(house.file("admin.key"), "left over from before").unwrap();

    let process = house.try_start(Config { admin_key: Some(key.clone()), ..house.config() }).await.unwrap();

    assert_eq!(process.first_admin_key.as_ref().unwrap().expose(), key.expose());
    assert_eq!(&house.admin_key(), key.expose());
    assert!(process.identity.authenticate(key.expose()).await.is_ok());
    process.stop().await;
}

async fn a_malformed_admin_key_stops_the_start_and_nothing_is_made(house: &House) {
    let malformed = Config { admin_key: Some(Secret::from("password")), ..house.config() };

    let error = house.try_start(malformed).await.err().unwrap();

    assert_eq!(error.reason(), "ADMIN_KEY_INVALID");
    assert!(error.message().contains("MANIFOLD_BOOTSTRAP__ADMIN_KEY"), "{error}");
    assert!(error.message().contains("manifold keys generate"), "{error}");
    assert!(!error.chain().contains("password"));
    let process = house.start().await;
    assert!(process.first_admin_key.is_some());
    process.stop().await;
}

async fn a_start_that_died_before_the_database_knew_its_key_goes_on(house: &House) {
    fs::write(house.file("admin.key"), "").unwrap();
    let spoilt = house.try_start(house.config()).await.err().unwrap();
    let key = generate_key(Environment::Live);
    fs::write(house.file("admin.key"), format!("{}\n", key.expose())).unwrap();

    let process = house.start().await;

    assert!(spoilt.message().contains("admin.key") && spoilt.message().contains("remove it"), "{spoilt}");
    assert_eq!(process.first_admin_key.as_ref().unwrap().expose(), key.expose());
    assert!(process.identity.authenticate(key.expose()).await.is_ok());
    process.stop().await;
}

async fn another_master_key_is_named_with_the_remedy(house: &House) {
    house.start().await.stop().await;
    let right = fs::read(house.file("master.key")).unwrap();

    fs::write(house.file("master.key"), "07".repeat(32)).unwrap();
    let wrong = house.try_start(house.config()).await.err().unwrap();
    fs::remove_file(house.file("master.key")).unwrap();
    let missing = house.try_start(house.config()).await.err().unwrap();
    fs::write(house.file("master.key"), right).unwrap();
    let restored = house.start().await;

    assert_eq!((wrong.reason(), missing.reason()), ("MASTER_KEY_WRONG", "MASTER_KEY_MISSING"));
    for error in [wrong, missing] {
        assert!(error.message().contains("master.key") && error.message().contains("backup"), "{error}");
    }
    assert!(restored.identity.authenticate(&house.admin_key()).await.is_ok());
    restored.stop().await;
}
