//! Audit: whatever changes something is an entry of its tenant's chain, and stays one.

use std::time::Duration;

use futures::TryStreamExt;
use manifold_core::{Code, Principal, TenantId};
use manifold_identity::{AuditFault, AuditFilter, AuditFormat, verify_audit_file};
use manifold_runtime::CallContext;
use manifold_store::Db;
use uuid::Uuid;

use crate::factors::code;
use crate::house::{House, LOCAL, Process, calling, eventually, key};
use crate::people::PASSWORD;

on_both_engines!(
    every_change_is_an_entry_of_its_tenants_chain,
    entries_are_never_changed_or_deleted_but_their_detail_can_be_erased,
    a_change_whose_entry_cannot_be_written_does_not_happen,
    failed_logins_of_a_minute_are_one_entry_with_a_count,
    who_got_in_by_what_and_who_was_refused_what_is_on_record,
    changes_at_once_leave_no_gap,
    entries_are_listed_by_filter_and_page_of_the_own_tenant_only,
    whoever_changes_the_database_is_found_out,
    a_tail_that_was_cut_off_contradicts_a_signature_that_is_made_every_hour,
    an_export_is_audited_and_verified_by_itself,
    nobody_reads_exports_or_verifies_without_the_permission,
);

const ENTRIES: &str = "SELECT COUNT(*) FROM audit_entry";

impl Process {
    async fn text(&self, sql: &'static str) -> String {
        manifold_store::on!(&self.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
    }

    /// The admin, after making so many keys, each an entry after the first.
    async fn busy_admin(&self, house: &House, n_keys: usize) -> CallContext {
        let admin = self.admin(house).await;
        for n in 0..n_keys {
            self.identity.create_key(&admin, key(&format!("app {n}"), &["ai.inference.run"])).await.unwrap();
        }
        admin
    }

    async fn export(&self, caller: &CallContext, format: AuditFormat) -> Vec<u8> {
        let pieces = self.identity.export_audit(caller, AuditFilter::default(), format).await.unwrap();
        pieces.try_collect::<Vec<_>>().await.unwrap().concat()
    }

    /// Takes the protection off, as somebody would who owns the database.
    pub async fn unprotect(&self) {
        let triggers: &[&str] = match &self.db {
            Db::Sqlite(_) => &[
                "DROP TRIGGER audit_entry_is_not_changed",
                "DROP TRIGGER audit_detail_is_only_erased",
                "DROP TRIGGER audit_entry_is_not_deleted",
            ],
            Db::Postgres(_) => &["ALTER TABLE audit_entry DISABLE TRIGGER ALL"],
        };
        for trigger in triggers {
            self.execute(trigger).await;
        }
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
    let unknown = "SELECT target || detail FROM audit_entry WHERE outcome = 'failed' AND target = 'nobody'";
    let unknown = process.text(unknown).await;
    assert!(unknown.contains("\"count\":1") && !unknown.contains("example.org"), "{unknown}");
    process.stop().await;
}

async fn who_got_in_by_what_and_who_was_refused_what_is_on_record(house: &House) {
    let process = house.start().await;
    let first = process.set_up(house).await;
    let plain = process.log_in("203.0.113.7", "ada@example.org", PASSWORD).await.unwrap().session;
    let (_, secret) = process.add_factor(house, &first).await;
    let proven = process.log_in_with("203.0.113.7", &code(&secret, house.clock.now())).await.unwrap().session;
    let who = plain.user.id.to_string();
    process.identity.note_denied(plain.tenant, &who.as_str().into(), LOCAL, "POST /v1/keys".to_owned());
    house.clock.advance(Duration::from_secs(60));

    let written = "SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.access.denied' AND outcome = 'denied'";
    eventually(Duration::from_secs(15), async || process.count(written).await == 1).await;
    let denied = "SELECT target || ' ' || detail FROM audit_entry WHERE action = 'identity.access.denied'";
    let denied = process.text(denied).await;
    assert!(denied.starts_with(&who), "{denied}");
    assert!(denied.contains("POST /v1/keys") && denied.contains("127.0.0.0/24"), "{denied}");
    let logins = "SELECT detail FROM audit_entry WHERE action = 'identity.login.succeeded' AND outcome = 'ok'";
    let logins = manifold_store::on!(&process.db, |pool| sqlx::query_scalar(logins).fetch_all(pool).await);
    let logins: Vec<String> = logins.unwrap();
    for (session, factor) in [(plain.id, "null"), (proven.id, "\"totp\"")] {
        let entry = logins.iter().find(|entry| entry.contains(&session.to_string()));
        assert!(entry.is_some_and(|entry| entry.contains(&format!("\"second_factor\":{factor}"))), "{logins:?}");
    }
    process.stop().await;
}

async fn changes_at_once_leave_no_gap(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;

    let all = (0..20).map(|_| process.identity.create_key(&admin, key("app", &["ai.inference.run"])));
    for made in futures::future::join_all(all).await {
        made.unwrap();
    }

    let gaps = "SELECT MAX(seq) - COUNT(*) FROM audit_entry";
    assert_eq!(process.count(gaps).await, 0);
    assert!(process.count(ENTRIES).await >= 21);
    process.stop().await;
}

async fn entries_are_listed_by_filter_and_page_of_the_own_tenant_only(house: &House) {
    let process = house.start().await;
    let admin = process.busy_admin(house, 4).await;
    let list = async |filter: AuditFilter, limit, before| {
        let page = process.identity.list_audit(&admin, &filter, limit, before).await.unwrap();
        (page.data.iter().map(|entry| entry.seq).collect::<Vec<_>>(), page.next)
    };
    let by = |actor: &str| AuditFilter { actor: Some(actor.to_owned()), ..AuditFilter::default() };

    assert_eq!(list(AuditFilter::default(), Some(3), None).await, (vec![5, 4, 3], Some(3)));
    assert_eq!(list(AuditFilter::default(), Some(3), Some(3)).await, (vec![2, 1], None));
    assert_eq!(list(by(&admin.principal.subject), None, None).await.0, [5, 4, 3, 2]);
    assert_eq!(list(by("manifold/identity"), None, None).await.0, [1]);
    assert!(list(by("somebody else' OR 1 = 1 --"), None, None).await.0.is_empty());
    let now = house.clock.now();
    let since = AuditFilter { from: Some(now.after(Duration::from_secs(1))), ..AuditFilter::default() };
    assert!(list(since, None, None).await.0.is_empty());
    let until = AuditFilter { to: Some(now), outcome: Some("ok".to_owned()), ..AuditFilter::default() };
    assert!(list(until, None, None).await.0.is_empty(), "before now there is nothing");

    let stranger = Principal { tenant: TenantId(Uuid::from_u128(9)), ..admin.principal.clone() };
    let foreign = process.identity.list_audit(&calling(stranger), &AuditFilter::default(), None, None).await.unwrap();
    assert!(foreign.data.is_empty());
    process.stop().await;
}

async fn whoever_changes_the_database_is_found_out(house: &House) {
    let process = house.start().await;
    let admin = process.busy_admin(house, 4).await;
    let whole = process.identity.verify_audit(&admin).await.unwrap();
    assert_eq!((whole.n_entries, whole.n_erased, whole.broken), (5, 0, None));
    process.execute("UPDATE audit_entry SET detail = NULL WHERE seq = 2").await;
    let erased = process.identity.verify_audit(&admin).await.unwrap();
    assert_eq!((erased.n_entries, erased.n_erased, erased.broken), (5, 1, None), "an erased detail is no fault");
    process.unprotect().await;

    for (attack, undo, seq, fault) in [
        (
            "UPDATE audit_entry SET actor = 'x' || actor WHERE seq = 3",
            "UPDATE audit_entry SET actor = SUBSTR(actor, 2) WHERE seq = 3",
            3,
            AuditFault::Altered,
        ),
        (
            "UPDATE audit_entry SET at = at + 1 WHERE seq = 5",
            "UPDATE audit_entry SET at = at - 1 WHERE seq = 5",
            5,
            AuditFault::Altered,
        ),
        (
            "UPDATE audit_entry SET detail = detail || ' ' WHERE seq = 4",
            "UPDATE audit_entry SET detail = SUBSTR(detail, 1, LENGTH(detail) - 1) WHERE seq = 4",
            4,
            AuditFault::DetailAltered,
        ),
        (
            "UPDATE audit_entry SET seq = 30 WHERE seq = 3",
            "UPDATE audit_entry SET seq = 3 WHERE seq = 30",
            3,
            AuditFault::Missing,
        ),
    ] {
        process.execute(attack).await;
        let found = process.identity.verify_audit(&admin).await.unwrap().broken.unwrap();
        assert_eq!((found.seq, found.fault), (seq, fault), "{attack}");
        process.execute(undo).await;
        assert_eq!(process.identity.verify_audit(&admin).await.unwrap().broken, None, "{undo}");
    }
    for swap in ["seq = 30 WHERE seq = 2", "seq = 2 WHERE seq = 3", "seq = 3 WHERE seq = 30"] {
        process.execute(&format!("UPDATE audit_entry SET {swap}")).await;
    }
    assert_eq!(process.identity.verify_audit(&admin).await.unwrap().broken.unwrap().seq, 2, "two that changed places");
    process.stop().await;
}

async fn a_tail_that_was_cut_off_contradicts_a_signature_that_is_made_every_hour(house: &House) {
    let process = house.start().await;
    let admin = process.busy_admin(house, 3).await;
    process.stop().await;
    house.clock.advance(Duration::from_secs(3_601));
    let process = house.start().await;
    let signed = "SELECT COUNT(*) FROM audit_checkpoint WHERE seq = 4";
    eventually(Duration::from_secs(10), async || process.count(signed).await == 1).await;
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.audit.signed'").await, 1);
    assert_eq!(process.identity.verify_audit(&admin).await.unwrap().n_checkpoints, 1);
    process.unprotect().await;

    process.execute("DELETE FROM audit_entry WHERE seq > 2").await;
    process.execute("UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_entry WHERE seq = 2)").await;
    let found = process.identity.verify_audit(&admin).await.unwrap().broken.unwrap();

    assert_eq!((found.seq, found.fault), (3, AuditFault::Truncated));
    process.stop().await;
}

async fn an_export_is_audited_and_verified_by_itself(house: &House) {
    let process = house.start().await;
    let admin = process.busy_admin(house, 2).await;

    let file = process.export(&admin, AuditFormat::Ndjson).await;
    let table = process.export(&admin, AuditFormat::Csv).await;

    let key = process.identity.audit_key().public;
    let verdict = verify_audit_file(file.as_slice(), &key).unwrap();
    assert_eq!((verdict.n_entries, verdict.broken), (4, None), "three changes, and the export");
    let text = String::from_utf8(file).unwrap();
    assert!(text.lines().last().unwrap().contains("identity.audit.exported"), "{text}");
    let forged = text.replacen("app 1", "app 2", 1);
    let found = verify_audit_file(forged.as_bytes(), &key).unwrap().broken.unwrap();
    assert_eq!((found.seq, found.fault), (3, AuditFault::DetailAltered));
    let table = String::from_utf8(table).unwrap();
    assert_eq!(table.lines().count(), 6, "the heading and five entries: {table}");
    process.stop().await;
}

async fn nobody_reads_exports_or_verifies_without_the_permission(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let reader = Principal { permissions: ["audit.entry.read".to_owned()].into(), ..admin.principal.clone() };
    let (reader, app) = (calling(reader), calling(Principal { permissions: [].into(), ..admin.principal }));
    let filter = AuditFilter::default;

    assert!(process.identity.list_audit(&reader, &filter(), None, None).await.is_ok());
    let listed = process.identity.list_audit(&app, &filter(), None, None).await.err();
    let exported = process.identity.export_audit(&reader, filter(), AuditFormat::Csv).await.err();
    let verified = process.identity.verify_audit(&reader).await.err();

    for refused in [listed, exported, verified] {
        assert_eq!(refused.unwrap().reason(), "INSUFFICIENT_SCOPE");
    }
    process.stop().await;
}
