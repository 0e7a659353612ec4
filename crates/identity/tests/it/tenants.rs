//! Tenants: who makes, sees, changes, suspends and deletes them, and what becomes of who is inside.

use std::time::Duration;

use manifold_core::{PageRequest, TenantId};
use manifold_identity::{Entered, NewTenantInfo, Settings, TenantChange, TenantInfo};
use manifold_runtime::CallContext;
use manifold_store::{Engine, on};

use crate::house::{House, LOCAL, Process, calling, eventually, key};
use crate::people::visitor;

on_both_engines!(
    a_tenant_is_made_with_an_owner_who_sees_nothing_else,
    only_the_houses_own_makes_and_suspends_tenants,
    a_suspended_tenant_is_refused_and_comes_back,
    a_deleted_tenant_is_removed_after_its_grace_and_not_before,
    every_table_of_tenants_is_known_to_removal,
    settings_act_on_open_sessions,
    origins_are_those_of_tenants_that_work,
    a_session_moves_to_another_tenant_and_the_old_one_ends,
    a_session_behind_tokens_stays_in_its_tenant,
    keys_need_to_name_an_owner,
    a_tenant_that_is_deleted_again_has_its_whole_grace,
    a_test_key_has_no_power_over_tenants,
);

impl Process {
    pub async fn tenant(&self, by: &CallContext, slug: &str, owner: &str) -> (TenantInfo, CallContext) {
        let new = NewTenantInfo { name: slug.to_owned(), slug: slug.to_owned(), owner: Some(owner.to_owned()) };
        let (tenant, invited) = self.identity.create_tenant(by, new).await.unwrap();
        let entered = self.follow(&invited.unwrap().1.unwrap().token, crate::people::PASSWORD).await.unwrap();
        (tenant, self.caller(&entered).await)
    }

    async fn sees(&self, caller: &CallContext) -> Vec<String> {
        let page = self.identity.list_tenants(caller, PageRequest::new(None, None).unwrap()).await.unwrap();
        let mut slugs: Vec<_> = page.data.into_iter().map(|tenant| tenant.slug).collect();
        slugs.sort();
        slugs
    }

    async fn set_state(&self, by: &CallContext, id: TenantId, suspended: bool) -> TenantInfo {
        let change = TenantChange { suspended: Some(suspended), ..TenantChange::default() };
        self.identity.update_tenant(by, id, change).await.unwrap()
    }

    async fn reason_for(&self, entered: &Entered) -> Option<String> {
        let refused = self.identity.authenticate_session(entered.token.expose(), LOCAL).await.err();
        refused.map(|error| error.reason().to_owned())
    }
}

async fn a_tenant_is_made_with_an_owner_who_sees_nothing_else(house: &House) {
    let process = house.start().await;
    let ada = process.owner(house).await;
    let (acme, grace) = process.tenant(&ada, "acme", "grace@example.org").await;
    let (other, _) = process.tenant(&ada, "other", "joan@example.org").await;

    assert_eq!(process.sees(&ada).await, ["acme", "default", "other"]);
    assert_eq!(process.sees(&grace).await, ["acme"]);
    assert_eq!(grace.principal.tenant, acme.id);
    assert!(process.identity.get_tenant(&grace, acme.id).await.is_ok());
    for foreign in [other.id, ada.principal.tenant, TenantId(uuid::Uuid::new_v4())] {
        let refused = process.identity.get_tenant(&grace, foreign).await.unwrap_err();
        assert_eq!(refused.reason(), "TENANT_NOT_FOUND");
        let change = TenantChange { name: Some("mine".to_owned()), ..TenantChange::default() };
        assert_eq!(
            process.identity.update_tenant(&grace, foreign, change).await.unwrap_err().reason(),
            "TENANT_NOT_FOUND"
        );
        assert_eq!(process.identity.delete_tenant(&grace, foreign).await.unwrap_err().reason(), "TENANT_NOT_FOUND");
    }
    let again = NewTenantInfo { name: "Acme".to_owned(), slug: "acme".to_owned(), owner: None };
    assert_eq!(process.identity.create_tenant(&ada, again).await.unwrap_err().reason(), "SLUG_TAKEN");
    process.stop().await;
}

async fn only_the_houses_own_makes_and_suspends_tenants(house: &House) {
    let process = house.start().await;
    let ada = process.owner(house).await;
    let (acme, grace) = process.tenant(&ada, "acme", "grace@example.org").await;
    let new = || NewTenantInfo { name: "Mine".to_owned(), slug: "mine".to_owned(), owner: None };
    assert_eq!(process.identity.create_tenant(&grace, new()).await.unwrap_err().reason(), "INSUFFICIENT_SCOPE");

    let suspended = TenantChange { suspended: Some(true), ..TenantChange::default() };
    let own = process.identity.update_tenant(&grace, acme.id, suspended.clone()).await.unwrap_err();
    let house_itself = process.identity.update_tenant(&ada, ada.principal.tenant, suspended).await.unwrap_err();
    let gone = process.identity.delete_tenant(&ada, ada.principal.tenant).await.unwrap_err();

    assert_eq!(
        (own.reason(), house_itself.reason(), gone.reason()),
        ("INSUFFICIENT_SCOPE", "HOST_TENANT", "HOST_TENANT")
    );
    for slug in ["", "-acme", "acme-", "Acme", "a_b", "a.b", &"a".repeat(64)] {
        let new = NewTenantInfo { slug: slug.to_owned(), ..new() };
        assert_eq!(process.identity.create_tenant(&ada, new).await.unwrap_err().reason(), "SLUG_INVALID", "{slug}");
    }
    process.stop().await;
}

async fn a_suspended_tenant_is_refused_and_comes_back(house: &House) {
    let (process, other) = (house.start().await, house.start().await);
    let ada = process.owner(house).await;
    let (acme, grace) = process.tenant(&ada, "acme", "grace@example.org").await;
    let secret = process.identity.create_key(&grace, key("app", &["ai.inference.run"])).await.unwrap().secret;
    let entered = process.log_in("127.0.0.1", "grace@example.org", crate::people::PASSWORD).await.unwrap();
    assert!(other.identity.authenticate(secret.expose()).await.is_ok());

    assert_eq!(process.set_state(&ada, acme.id, true).await.state, "suspended");

    assert_eq!(process.identity.authenticate(secret.expose()).await.unwrap_err().reason(), "TENANT_SUSPENDED");
    eventually(Duration::from_secs(10), async || other.identity.authenticate(secret.expose()).await.is_err()).await;
    assert_eq!(process.reason_for(&entered).await.as_deref(), Some("TENANT_SUSPENDED"));
    let again = process.log_in("127.0.0.1", "grace@example.org", crate::people::PASSWORD).await.unwrap_err();
    assert_eq!(again.reason(), "TENANT_SUSPENDED");
    assert!(process.identity.authenticate(&house.admin_key()).await.is_ok(), "another tenant goes on");
    process.set_state(&ada, acme.id, false).await;
    assert!(process.identity.authenticate(secret.expose()).await.is_ok());
    assert_eq!(process.reason_for(&entered).await, None);
    process.stop().await;
    other.stop().await;
}

async fn a_deleted_tenant_is_removed_after_its_grace_and_not_before(house: &House) {
    let process = house.start().await;
    let ada = process.owner(house).await;
    let (acme, grace) = process.tenant(&ada, "acme", "grace@example.org").await;
    let secret = process.identity.create_key(&grace, key("app", &["ai.inference.run"])).await.unwrap().secret;

    let ending = process.identity.delete_tenant(&grace, acme.id).await.unwrap();

    let month = Duration::from_secs(30 * 24 * 3_600);
    assert_eq!((ending.state.as_str(), ending.delete_after), ("deleting", Some(house.clock.now().after(month))));
    assert_eq!(process.identity.authenticate(secret.expose()).await.unwrap_err().reason(), "TENANT_SUSPENDED");
    house.clock.advance(month - Duration::from_secs(1));
    process.stop().await;
    // Removal runs at start and now and then.
    let process = house.start().await;
    eventually(Duration::from_secs(10), async || process.count("SELECT COUNT(*) FROM login_attempt").await == 0).await;
    assert_eq!(process.count("SELECT COUNT(*) FROM tenant").await, 2);
    process.stop().await;
    house.clock.advance(Duration::from_secs(1));
    let process = house.start().await;
    eventually(Duration::from_secs(10), async || process.count("SELECT COUNT(*) FROM tenant").await == 1).await;
    assert_eq!(process.count("SELECT COUNT(*) FROM api_key").await, 1, "the admin's");
    assert_eq!(process.count("SELECT COUNT(*) FROM api_key_secret").await, 1);
    assert_eq!(process.count("SELECT COUNT(*) FROM membership").await, 1);
    assert_eq!(process.identity.authenticate(secret.expose()).await.unwrap_err().reason(), "INVALID_KEY");
    process.stop().await;
}

/// Those of the bus go by themselves.
async fn every_table_of_tenants_is_known_to_removal(house: &House) {
    let process = house.start().await;
    let sql = match process.db.engine() {
        Engine::Sqlite(_) => {
            "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'tenant_id'"
        }
        Engine::Postgres(_) => {
            "SELECT table_name::text FROM information_schema.columns WHERE table_schema = current_schema() AND column_name = 'tenant_id'"
        }
    };
    let mut tables: Vec<String> = on!(&process.db, |pool| sqlx::query_scalar(sql).fetch_all(pool).await).unwrap();
    tables.retain(|name| !["outbox", "inbox", "job", "dead_letter"].iter().any(|of_bus| name.starts_with(of_bus)));
    tables.sort();

    let mut known = [&manifold_identity::TENANT_TABLES[..], &manifold_identity::KEPT_TABLES].concat();
    known.sort_unstable();
    assert_eq!(tables, known);
    process.stop().await;
}

async fn settings_act_on_open_sessions(house: &House) {
    let process = house.start().await;
    let ada = process.owner(house).await;
    let entered = process.log_in("127.0.0.1", "ada@example.org", crate::people::PASSWORD).await.unwrap();
    house.clock.advance(Duration::from_secs(6 * 60));
    assert_eq!(process.reason_for(&entered).await, None);
    let noted = "SELECT COUNT(*) FROM session WHERE seen_at > created_at";
    eventually(Duration::from_secs(10), async || process.count(noted).await == 1).await;
    let settings = Settings { session_idle_minutes: 5, session_lifetime_minutes: 10, ..Settings::default() };
    let change = TenantChange { settings: Some(settings.clone()), ..TenantChange::default() };
    let tenant = process.identity.update_tenant(&ada, ada.principal.tenant, change).await.unwrap();
    assert_eq!(tenant.settings, settings);

    house.clock.advance(Duration::from_secs(3 * 60));
    assert_eq!(process.reason_for(&entered).await, None, "it was used three minutes ago");
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(process.reason_for(&entered).await.as_deref(), Some("INVALID_SESSION"));

    let wrong =
        TenantChange { settings: Some(Settings { session_idle_minutes: 31, ..settings }), ..TenantChange::default() };
    let refused = process.identity.update_tenant(&ada, ada.principal.tenant, wrong).await.unwrap_err();
    assert_eq!((refused.reason(), refused.param()), ("SETTINGS_INVALID", Some("settings.session_idle_minutes")));
    process.stop().await;
}

async fn origins_are_those_of_tenants_that_work(house: &House) {
    let (process, other) = (house.start().await, house.start().await);
    let ada = process.owner(house).await;
    let (acme, grace) = process.tenant(&ada, "acme", "grace@example.org").await;
    let settings = Settings { origins: vec!["https://app.example".to_owned()], ..Settings::default() };
    let change = TenantChange { settings: Some(settings), ..TenantChange::default() };
    process.identity.update_tenant(&grace, acme.id, change).await.unwrap();

    let allows = |tenant| other.identity.allows_origin("https://app.example", tenant);
    eventually(Duration::from_secs(10), async || allows(None)).await;
    assert!(allows(Some(acme.id)) && !allows(Some(ada.principal.tenant)));
    assert!(!other.identity.allows_origin("https://evil.example", None));
    process.set_state(&ada, acme.id, true).await;
    eventually(Duration::from_secs(10), async || !allows(None)).await;
    process.stop().await;
    other.stop().await;
}

async fn a_session_moves_to_another_tenant_and_the_old_one_ends(house: &House) {
    let process = house.start().await;
    let ada = process.owner(house).await;
    let (foreign, _) = process.tenant(&ada, "other", "joan@example.org").await;
    let new = NewTenantInfo { name: "Acme".to_owned(), slug: "acme".to_owned(), owner: None };
    let (acme, invited) = process.identity.create_tenant(&ada, new).await.unwrap();
    assert!(invited.is_none(), "she owns it herself");
    let before = process.log_in("127.0.0.1", "ada@example.org", crate::people::PASSWORD).await.unwrap();
    let caller = process.caller(&before).await;
    house.clock.advance(Duration::from_secs(60));

    let moved = process.identity.switch_tenant(&caller, visitor("127.0.0.1"), acme.id).await.unwrap();

    assert_eq!(moved.session.tenant, acme.id);
    assert_eq!(process.count("SELECT COUNT(DISTINCT expires_at) FROM session").await, 1, "as long as it would have");
    assert_eq!(process.reason_for(&before).await.as_deref(), Some("INVALID_SESSION"));
    assert_eq!(process.caller(&moved).await.principal.tenant, acme.id);
    let again = process.identity.switch_tenant(&caller, visitor("127.0.0.1"), acme.id).await.unwrap_err();
    assert_eq!(again.reason(), "INVALID_SESSION");
    let caller = process.caller(&moved).await;
    let refused = process.identity.switch_tenant(&caller, visitor("127.0.0.1"), foreign.id).await.unwrap_err();
    assert_eq!(refused.reason(), "TENANT_NOT_FOUND");
    process.stop().await;
}

async fn a_session_behind_tokens_stays_in_its_tenant(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;
    let ada = process.by(&tokens).await;
    let new = NewTenantInfo { name: "Acme".to_owned(), slug: "acme".to_owned(), owner: None };
    let (acme, _) = process.identity.create_tenant(&ada, new).await.unwrap();

    let refused = process.identity.switch_tenant(&ada, visitor("127.0.0.1"), acme.id).await.unwrap_err();

    assert_eq!(refused.reason(), "SESSION_OF_TOKENS");
    assert!(!process.is_dead(&tokens).await && process.refresh(&tokens.refresh).await.is_ok(), "all goes on as it was");
    process.stop().await;
}

async fn keys_need_to_name_an_owner(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let new = NewTenantInfo { name: "Acme".to_owned(), slug: "acme".to_owned(), owner: None };

    let refused = process.identity.create_tenant(&admin, new).await.unwrap_err();

    assert_eq!((refused.reason(), refused.param()), ("OWNER_REQUIRED", Some("owner")));
    let weaker =
        calling(manifold_core::Principal { permissions: ["tenants.tenant.read".to_owned()].into(), ..admin.principal });
    assert_eq!(process.sees(&weaker).await, ["default"]);
    process.stop().await;
}

async fn a_tenant_that_is_deleted_again_has_its_whole_grace(house: &House) {
    let process = house.start().await;
    let ada = process.admin(house).await;
    let (acme, _) = process.tenant(&ada, "acme", "grace@example.org").await;
    process.identity.delete_tenant(&ada, acme.id).await.unwrap();
    let month = Duration::from_secs(30 * 24 * 3_600);
    house.clock.advance(month - Duration::from_secs(60));

    let suspended = process.set_state(&ada, acme.id, true).await;
    let again = process.identity.delete_tenant(&ada, acme.id).await.unwrap();

    assert_eq!((suspended.state.as_str(), suspended.delete_after), ("suspended", None));
    assert_eq!(again.delete_after, Some(house.clock.now().after(month)));
    let once_more = process.identity.delete_tenant(&ada, acme.id).await.unwrap();
    assert_eq!(once_more.delete_after, again.delete_after, "who deletes it twice does not put it off");
    process.stop().await;
}

async fn a_test_key_has_no_power_over_tenants(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let (acme, _) = process.tenant(&admin, "acme", "grace@example.org").await;
    let test = calling(manifold_core::Principal { environment: "test".into(), ..admin.principal });
    let new = NewTenantInfo { name: "x".to_owned(), slug: "x".to_owned(), owner: Some("x@example.org".to_owned()) };
    let change = TenantChange { suspended: Some(true), ..TenantChange::default() };

    for refused in [
        process.identity.create_tenant(&test, new).await.unwrap_err(),
        process.identity.update_tenant(&test, acme.id, change).await.unwrap_err(),
        process.identity.delete_tenant(&test, acme.id).await.unwrap_err(),
    ] {
        assert_eq!(refused.reason(), "ESCALATION");
    }
    process.stop().await;
}
