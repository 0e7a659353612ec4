//! Several processes starting or revoking at once.

use std::fs;
use std::time::Duration;

use manifold_core::{PageRequest, TenantId};
use manifold_identity::{NewTenantInfo, Place};
use uuid::Uuid;

use crate::house::{House, key};
use crate::people::PASSWORD;
use crate::signing::{rotations, states};

on_postgres!(
    two_first_starts_on_one_data_folder_agree,
    two_first_starts_on_two_data_folders_yield_one_key,
    a_second_data_folder_without_the_master_key_is_told_so,
    revocations_at_the_same_time_keep_their_order,
    processes_that_seal_at_the_same_time_share_a_key,
    of_many_processes_that_start_or_rotate_at_once_one_decides,
    who_is_erased_joins_nothing_at_the_same_time,
);

async fn two_first_starts_on_one_data_folder_agree(house: &House) {
    let (left, right) = tokio::join!(house.start(), house.start());

    let made = [&left, &right].iter().filter(|process| process.first_admin_key.is_some()).count();
    assert_eq!(made, 1);
    assert_eq!(left.count("SELECT COUNT(*) FROM tenant").await, 1);
    assert_eq!(left.count("SELECT COUNT(*) FROM api_key").await, 1);
    for process in [left, right] {
        assert!(process.identity.authenticate(&house.admin_key()).await.is_ok());
        process.stop().await;
    }
}

async fn two_first_starts_on_two_data_folders_yield_one_key(house: &House) {
    let other = tempfile::tempdir().unwrap();
    for folder in [house.folder.path(), other.path()] {
        fs::write(folder.join("master.key"), "07".repeat(32)).unwrap();
    }

    let elsewhere = house.config_in(other.path());
    let (left, right) = tokio::join!(house.start(), house.try_start(elsewhere));

    let right = right.unwrap();
    let keys: Vec<_> = [&left, &right].iter().filter_map(|process| process.first_admin_key.clone()).collect();
    let folders = [house.folder.path(), other.path()];
    let files: Vec<_> = folders.iter().filter(|folder| folder.join("admin.key").exists()).collect();
    assert_eq!((keys.len(), files.len()), (1, 1));
    assert_eq!(fs::read_to_string(files[0].join("admin.key")).unwrap().trim(), keys[0].expose());
    for process in [left, right] {
        assert!(process.identity.authenticate(keys[0].expose()).await.is_ok());
        process.stop().await;
    }
}

async fn a_second_data_folder_without_the_master_key_is_told_so(house: &House) {
    house.start().await.stop().await;
    let other = tempfile::tempdir().unwrap();

    let error = house.try_start(house.config_in(other.path())).await.err().unwrap();

    assert_eq!(error.reason(), "MASTER_KEY_MISSING");
    assert!(error.message().contains("another instance"), "{error}");
    assert!(!other.path().join("master.key").exists());
}

async fn revocations_at_the_same_time_keep_their_order(house: &House) {
    let (left, right) = (house.start().await, house.start().await);
    let admin = left.admin(house).await;
    for number in 0..20 {
        left.identity.create_key(&admin, key(&format!("key {number}"), &[])).await.unwrap();
    }
    let keys = left.identity.list_keys(&admin, PageRequest::new(Some(20), None).unwrap()).await.unwrap().data;

    let revoked = keys.iter().enumerate().map(|(index, key)| {
        let process = if index % 2 == 0 { &left } else { &right };
        process.identity.revoke_key(&admin, key.id)
    });
    let revoked = futures::future::join_all(revoked).await;

    let numbers = left.count("SELECT COUNT(DISTINCT seq) FROM revocation WHERE seq BETWEEN 1 AND 20").await;
    assert!(revoked.iter().all(Result::is_ok));
    assert_eq!(numbers, 20);
    assert_eq!(left.count("SELECT seq FROM revocation_head").await, 20);
    left.stop().await;
    right.stop().await;
}

async fn processes_that_seal_at_the_same_time_share_a_key(house: &House) {
    let (left, right) = (house.start().await, house.start().await);
    let place = Place { tenant: TenantId(Uuid::from_u128(7)), table: "test.t", column: "c", row: Uuid::from_u128(1) };

    let (ours, theirs) =
        tokio::join!(left.identity.vault().seal(place, b"ours"), right.identity.vault().seal(place, b"theirs"));

    assert_eq!(left.count("SELECT COUNT(*) FROM vault_key").await, 1 + 1, "and one is the house's own");
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(right.identity.vault().open(place, &ours).await.unwrap().expose(), b"ours");
    assert_eq!(left.identity.vault().open(place, &theirs).await.unwrap().expose(), b"theirs");
    left.stop().await;
    right.stop().await;
}

async fn of_many_processes_that_start_or_rotate_at_once_one_decides(house: &House) {
    let started = futures::future::join_all((0..3).map(|_| house.start())).await;
    assert_eq!(states(&started[0]).await, [1, 1, 0]);
    assert!(started.iter().all(|process| process.identity.jwks() == started[0].identity.jwks()));
    let admin = started[0].admin(house).await;
    house.clock.advance(Duration::from_secs(3_600));

    let outcomes =
        futures::future::join_all(started.iter().map(|process| process.identity.rotate_signing_key(&admin))).await;

    // Whoever came later either found it done, or read the new one that waits.
    assert!(outcomes.iter().any(Result::is_ok));
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(refused.reason(), "SIGNING_KEY_TOO_NEW");
    }
    assert_eq!((states(&started[0]).await, rotations(&started[0]).await), ([1, 1, 1], 1));
    for process in started {
        process.stop().await;
    }
}

async fn who_is_erased_joins_nothing_at_the_same_time(house: &House) {
    let process = house.start().await;
    let ada = process.caller(&process.set_up(house).await).await;
    for n in 0..5 {
        let email = format!("grace{n}@example.org");
        let grace = process.invited(None, &ada, &email, "developer").await;
        let new = NewTenantInfo { slug: format!("team-{n}"), name: "Team".to_owned(), owner: Some(email) };
        let (_, invited) = process.identity.create_tenant(&ada, new).await.unwrap();
        let token = invited.and_then(|(_, token)| token).unwrap().token;

        let (joined, erased) = tokio::join!(process.follow(&token, PASSWORD), process.identity.delete_me(&grace));

        // Who has joined owns the tenant alone, and has to stay.
        assert_ne!(joined.is_ok(), erased.is_ok(), "{joined:?} {erased:?}");
    }
    let left = "SELECT COUNT(*) FROM membership m JOIN user_account u ON u.id = m.user_id WHERE u.state = 'erased'";
    assert_eq!(process.count(left).await, 0);
    process.stop().await;
}
