//! Audit: whatever changes something is an entry of its tenant's chain, and stays one.

use std::time::Duration;

use manifold_core::Code;

use crate::house::{House, Process, eventually, key};

on_both_engines!(
    every_change_is_an_entry_of_its_tenants_chain,
    entries_are_never_changed_or_deleted_but_their_detail_can_be_erased,
    a_change_whose_entry_cannot_be_written_does_not_happen,
    failed_logins_of_a_minute_are_one_entry_with_a_count,
    changes_at_once_leave_no_gap,
);

const ENTRIES: &str = "SELECT COUNT(*) FROM audit_entry";

impl Process {
    async fn text(&self, sql: &'static str) -> String {
        manifold_store::on!(&self.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
    }
}

async fn every_change_is_an_entry_of_its_tenants_chain(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("app", &["ai.inference.run"])).await.unwrap();

    process.identity.revoke_key(&admin, made.key.id).await.unwrap();
    process.identity.revoke_key(&admin, made.key.id).await.unwrap();

    assert_eq!(process.count(ENTRIES).await, 3, "of the first key, of the new one and of its end");
    let last = "SELECT e.action || ' ' || e.outcome || ' ' || e.actor || ' ' || e.target || ' ' || e.request_id FROM audit_entry e \
                JOIN audit_head h ON h.tenant_id = e.tenant_id AND h.seq = e.seq AND h.hash = e.hash WHERE e.seq = 3";
    let expected = format!("identity.key.revoked ok {} {} {}", admin.principal.subject, made.key.id, admin.request);
    assert_eq!(process.text(last).await, expected);
    let detail = process.text("SELECT detail FROM audit_entry WHERE seq = 2").await;
    assert!(detail.contains("\"name\":\"app\"") && !detail.contains(&made.secret.expose()[20..]), "{detail}");
    process.stop().await;
}

async fn entries_are_never_changed_or_deleted_but_their_detail_can_be_erased(house: &House) {
    let process = house.start().await;
    for refused in [
        "UPDATE audit_entry SET actor = 'somebody else'",
        "UPDATE audit_entry SET hash = detail_sha256",
        "UPDATE audit_entry SET detail = '{}'",
        "UPDATE audit_entry SET detail = NULL, outcome = 'failed'",
        "DELETE FROM audit_entry",
    ] {
        assert!(process.try_execute(refused).await.is_err(), "{refused}");
    }

    process.execute("UPDATE audit_entry SET detail = NULL").await;

    assert_eq!(process.count("SELECT COUNT(*) FROM audit_entry WHERE detail IS NULL AND outcome = 'ok'").await, 1);
    process.stop().await;
}

async fn a_change_whose_entry_cannot_be_written_does_not_happen(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.execute("ALTER TABLE audit_head RENAME TO audit_lost").await;

    let refused = process.identity.create_key(&admin, key("app", &["ai.inference.run"])).await.unwrap_err();

    assert_eq!(refused.code(), Code::Internal);
    assert_eq!(process.count("SELECT COUNT(*) FROM api_key").await, 1, "of the admin only");
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox").await, 1, "of the admin only");
    process.stop().await;
}

async fn failed_logins_of_a_minute_are_one_entry_with_a_count(house: &House) {
    let process = house.start().await;
    process.set_up(house).await;
    let before = process.count(ENTRIES).await;

    for email in ["ada@example.org", "nobody@example.org", "ada@example.org"] {
        process.log_in("203.0.113.7", email, "a wrong password").await.unwrap_err();
    }
    house.clock.advance(Duration::from_secs(60));
    eventually(Duration::from_secs(15), async || process.count(ENTRIES).await == before + 2).await;

    let known =
        "SELECT detail FROM audit_entry WHERE action = 'identity.login.failed' AND target LIKE 'usr#_%' ESCAPE '#'";
    let detail = process.text(known).await;
    assert!(detail.contains("\"count\":2") && detail.contains("203.0.113.0/24"), "{detail}");
    let unknown = "SELECT target || detail FROM audit_entry WHERE outcome = 'failed' AND target LIKE 'account:%'";
    let unknown = process.text(unknown).await;
    assert!(unknown.contains("\"count\":1") && !unknown.contains("nobody"), "{unknown}");
    process.stop().await;
}

async fn changes_at_once_leave_no_gap(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;

    let all = (0..20).map(|_| process.identity.create_key(&admin, key("app", &["ai.inference.run"])));
    for made in futures::future::join_all(all).await {
        made.unwrap();
    }

    assert_eq!(process.count("SELECT MAX(seq) FROM audit_entry").await, 21);
    assert_eq!(process.count(ENTRIES).await, 21);
    process.stop().await;
}
