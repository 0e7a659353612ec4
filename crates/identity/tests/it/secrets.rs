//! Secrets of tenants: who writes them, what is shown of them, and that every reading is written down.

use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::vault;
use manifold_core::{Code, Page, PageRequest, Principal, Secret, SubjectKind, TenantId};
use manifold_runtime::{CallContext, Channel, Mesh, MeshConfig, from_status, request};
use manifold_store::on;
use uuid::Uuid;

use crate::house::{House, Process, calling, key};

on_both_engines!(
    a_secret_is_written_replaced_listed_and_deleted,
    who_lacks_the_permission_reads_and_writes_nothing,
    a_secret_of_another_tenant_is_not_there,
    a_person_proves_to_be_one_before_writing,
    a_value_stands_in_no_row,
    writers_of_one_secret_at_once_all_succeed,
    a_service_opens_what_it_sealed_and_no_other_service_does,
    a_service_opens_a_secret_by_its_name_and_that_is_written_down,
    nobody_but_a_service_seals_or_opens,
    malformed_requests_to_the_vault_are_refused,
    a_report_is_taken_when_nothing_is_on_its_way,
);

const CANARY: &str = "sk-canary-0123456789";

/// One text from the database.
async fn text(process: &Process, sql: &'static str) -> String {
    on!(&process.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
}

fn first_page() -> PageRequest {
    PageRequest::new(Some(10), None).unwrap()
}

fn service(name: &str) -> CallContext {
    calling(Principal { kind: SubjectKind::Service, subject: name.into(), ..Principal::anonymous() })
}

fn client(process: &Process) -> vault::Client<Channel> {
    let mesh = Mesh::new(MeshConfig::default()).unwrap();
    mesh.provide("identity", process.routes.clone());
    vault::Client::new(mesh.channel("identity"))
}

fn item(row: u128, text: &str) -> proto::SealItem {
    proto::SealItem {
        tenant: TenantId(Uuid::from_u128(7)).to_string(),
        table: "connection".to_owned(),
        column: "secret".to_owned(),
        row_id: Uuid::from_u128(row).to_string(),
        plaintext: text.to_owned().into(),
    }
}

fn sealed(item: &proto::SealItem, sealed: &[u8]) -> proto::OpenItem {
    let proto::SealItem { tenant, table, column, row_id, .. } = item.clone();
    proto::OpenItem { tenant, table, column, row_id, sealed: sealed.to_vec().into(), secret: String::new() }
}

fn by_name(tenant: TenantId, name: &str) -> proto::OpenItem {
    proto::OpenItem { tenant: tenant.to_string(), secret: name.to_owned(), ..Default::default() }
}

async fn a_secret_is_written_replaced_listed_and_deleted(house: &House) {
    let process = house.start().await;
    let (admin, identity) = (process.admin(house).await, &process.identity);

    let made = identity.put_secret(&admin, "stripe", &Secret::from(CANARY)).await.unwrap();
    let replaced = identity.put_secret(&admin, "stripe", &Secret::from("short")).await.unwrap();
    let shown = identity.get_secret(&admin, "stripe").await.unwrap();
    house.clock.advance(std::time::Duration::from_secs(1));
    identity.put_secret(&admin, "github", &Secret::from("x")).await.unwrap();
    let Page { data, .. } = identity.list_secrets(&admin, first_page()).await.unwrap();
    identity.delete_secret(&admin, "stripe").await.unwrap();

    assert_eq!((made.version, made.last4.as_deref()), (1, Some("6789")));
    assert_eq!((replaced.id, replaced.version, replaced.last4.as_deref()), (made.id, 2, None));
    assert_eq!((&shown, &*shown.updated_by), (&replaced, &*admin.principal.subject));
    assert_eq!(data.iter().map(|secret| &*secret.name).collect::<Vec<_>>(), ["github", "stripe"]);
    for name in ["stripe", "never", "NOT A NAME", ""] {
        assert_eq!(identity.get_secret(&admin, name).await.unwrap_err().reason(), "SECRET_NOT_FOUND");
        assert_eq!(identity.delete_secret(&admin, name).await.unwrap_err().reason(), "SECRET_NOT_FOUND");
    }
    let anew = identity.put_secret(&admin, "stripe", &Secret::from("y")).await.unwrap();
    assert_eq!((anew.version, anew.id == made.id), (1, false));
    for (event, n) in [("created", 3), ("updated", 1), ("deleted", 1)] {
        let sql = format!("SELECT COUNT(*) FROM outbox WHERE type = 'identity.secret.{event}'");
        assert_eq!(process.count(&sql).await, n, "{event}");
    }
    process.stop().await;
}

async fn who_lacks_the_permission_reads_and_writes_nothing(house: &House) {
    let process = house.start().await;
    let (admin, identity) = (process.admin(house).await, &process.identity);
    identity.put_secret(&admin, "stripe", &Secret::from(CANARY)).await.unwrap();
    let holder = async |permissions: &[&str]| {
        let made = identity.create_key(&admin, key("k", permissions)).await.unwrap();
        calling(identity.authenticate(made.secret.expose()).await.unwrap())
    };
    let (reader, writer) = (holder(&["vault.secret.read"]).await, holder(&["vault.secret.write"]).await);

    let value = Secret::from("new");
    let refused = [
        identity.put_secret(&reader, "stripe", &value).await.map(|_| ()),
        identity.delete_secret(&reader, "stripe").await,
        identity.get_secret(&writer, "stripe").await.map(|_| ()),
        identity.list_secrets(&writer, first_page()).await.map(|_| ()),
    ];

    for outcome in refused {
        assert_eq!(outcome.unwrap_err().code(), Code::Denied);
    }
    assert_eq!(identity.get_secret(&reader, "stripe").await.unwrap().version, 1);
    assert_eq!(identity.put_secret(&writer, "stripe", &value).await.unwrap().version, 2);
    process.stop().await;
}

async fn a_secret_of_another_tenant_is_not_there(house: &House) {
    let process = house.start().await;
    let (admin, identity) = (process.admin(house).await, &process.identity);
    identity.put_secret(&admin, "stripe", &Secret::from(CANARY)).await.unwrap();
    let tenant = TenantId(Uuid::from_u128(7));
    let stranger = calling(Principal { tenant, ..admin.principal.clone() });

    let shown = identity.get_secret(&stranger, "stripe").await.unwrap_err();
    let deleted = identity.delete_secret(&stranger, "stripe").await.unwrap_err();
    let opened = proto::OpenRequest { items: vec![by_name(tenant, "stripe")] };
    let opened = from_status(client(&process).open(request(opened, service("integrations"))).await.unwrap_err());

    assert!(identity.list_secrets(&stranger, first_page()).await.unwrap().data.is_empty());
    for error in [shown, deleted, opened] {
        assert_eq!(error.reason(), "SECRET_NOT_FOUND");
    }
    process.stop().await;
}

async fn a_person_proves_to_be_one_before_writing(house: &House) {
    let process = house.start().await;
    let (admin, identity) = (process.admin(house).await, &process.identity);
    let person = calling(Principal { kind: SubjectKind::User, auth_time: None, ..admin.principal.clone() });

    let refused = [
        identity.put_secret(&person, "stripe", &Secret::from("x")).await.map(|_| ()),
        identity.delete_secret(&person, "stripe").await,
        identity.rotate_tenant_key(&person).await.map(|_| ()),
    ];

    for outcome in refused {
        assert_eq!(outcome.unwrap_err().reason(), "STEP_UP_REQUIRED");
    }
    let proven = Principal { auth_time: Some(house.clock.now()), ..person.principal };
    assert!(identity.put_secret(&calling(proven), "stripe", &Secret::from("x")).await.is_ok());
    process.stop().await;
}

async fn a_value_stands_in_no_row(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.identity.put_secret(&admin, "stripe", &Secret::from(CANARY)).await.unwrap();
    let items = vec![by_name(admin.principal.tenant, "stripe")];
    client(&process).open(request(proto::OpenRequest { items }, service("integrations"))).await.unwrap();

    let tables = match house.is_postgres() {
        true => "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'identity'",
        false => "SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'",
    };
    let tables = text(&process, tables).await;

    assert!(tables.contains("vault_secret") && tables.contains("outbox"), "{tables}");
    if house.is_postgres() {
        for table in tables.split(',') {
            let hex = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
            let sql =
                format!("SELECT COUNT(*) FROM {table} AS t WHERE t::text LIKE '%sk-canary%' OR t::text LIKE '%{hex}%'");
            assert_eq!(process.count(&sql).await, 0, "{table}");
        }
    }
    process.stop().await;
    for entry in std::fs::read_dir(house.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        // Some go away when the database is closed.
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(9).any(|bytes| bytes == b"sk-canary"), "{}", path.display());
    }
}

async fn writers_of_one_secret_at_once_all_succeed(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;

    let values: Vec<_> = (0..8).map(|number| Secret::new(format!("value {number}"))).collect();
    let written = values.iter().map(|value| process.identity.put_secret(&admin, "stripe", value));
    let written = futures::future::join_all(written).await;

    let mut versions: Vec<_> = written.into_iter().map(|secret| secret.unwrap().version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    process.stop().await;
}

async fn a_service_opens_what_it_sealed_and_no_other_service_does(house: &House) {
    let process = house.start().await;
    let (client, integrations) = (client(&process), service("integrations"));
    let items = vec![item(1, CANARY), item(2, "")];

    let answer = client.seal(request(proto::SealRequest { items: items.clone() }, integrations.clone())).await.unwrap();
    let kept = answer.into_inner().sealed;
    let wanted = |one: &proto::SealItem| proto::OpenRequest { items: vec![sealed(one, &kept[0])] };
    let all = items.iter().zip(&kept).map(|(item, kept)| sealed(item, kept)).collect();
    let opened = client.open(request(proto::OpenRequest { items: all }, integrations.clone())).await.unwrap();

    assert_eq!(opened.into_inner().plaintext, [CANARY.as_bytes(), b""]);
    assert!(client.open(request(wanted(&items[0]), service("webhooks"))).await.is_err(), "another service");
    assert!(client.open(request(wanted(&items[1]), integrations.clone())).await.is_err(), "another row");
    let factor = proto::SealItem { table: "factor".to_owned(), ..items[0].clone() };
    assert!(client.open(request(wanted(&factor), integrations)).await.is_err(), "another table");
    let read = "SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.secret.read'";
    assert_eq!(process.count(read).await, 2, "only what was opened");
    process.stop().await;
}

async fn a_service_opens_a_secret_by_its_name_and_that_is_written_down(house: &House) {
    let process = house.start().await;
    let (admin, client) = (process.admin(house).await, client(&process));
    let secret = process.identity.put_secret(&admin, "stripe", &Secret::from(CANARY)).await.unwrap();

    let wanted = proto::OpenRequest { items: vec![by_name(admin.principal.tenant, "stripe")] };
    let opened = client.open(request(wanted, service("integrations"))).await.unwrap();

    assert_eq!(opened.into_inner().plaintext, [CANARY.as_bytes()]);
    let detail = "SELECT detail FROM audit_entry WHERE action = 'identity.secret.read' AND actor = 'integrations'";
    let detail = text(&process, detail).await;
    assert!(detail.contains("stripe") && detail.contains("integrations") && !detail.contains("canary"), "{detail}");
    assert_eq!(
        text(&process, "SELECT target FROM audit_entry WHERE action = 'identity.secret.read'").await,
        secret.id.to_string()
    );
    process.stop().await;
}

async fn nobody_but_a_service_seals_or_opens(house: &House) {
    let process = house.start().await;
    let (admin, client) = (process.admin(house).await, client(&process));
    process.identity.put_secret(&admin, "stripe", &Secret::from(CANARY)).await.unwrap();

    for caller in [admin.clone(), service(""), service("Up"), service("a|b"), calling(Principal::anonymous())] {
        let seal = client.seal(request(proto::SealRequest { items: vec![item(1, "x")] }, caller.clone())).await;
        let open = proto::OpenRequest { items: vec![by_name(admin.principal.tenant, "stripe")] };
        let open = client.open(request(open, caller.clone())).await;
        let report = client.report_reseal(request(proto::ReportResealRequest::default(), caller)).await;
        for status in [seal.unwrap_err(), open.unwrap_err(), report.unwrap_err()] {
            assert_eq!(from_status(status).reason(), "SERVICE_REQUIRED");
        }
    }
    process.stop().await;
}

async fn malformed_requests_to_the_vault_are_refused(house: &House) {
    let process = house.start().await;
    let client = client(&process);
    let good = item(1, "x");

    for items in [
        vec![good.clone(); 101],
        vec![proto::SealItem { tenant: "ten_1".to_owned(), ..good.clone() }],
        vec![proto::SealItem { table: "a|b".to_owned(), ..good.clone() }],
        vec![proto::SealItem { table: "other.table".to_owned(), ..good.clone() }],
        vec![proto::SealItem { column: String::new(), ..good.clone() }],
        vec![proto::SealItem { row_id: "7".to_owned(), ..good.clone() }],
        vec![proto::SealItem { plaintext: vec![0; 65_537].into(), ..good.clone() }],
    ] {
        let status = client.seal(request(proto::SealRequest { items }, service("integrations"))).await.unwrap_err();
        assert_eq!(from_status(status).reason(), "VAULT_REQUEST_INVALID");
    }
    let both = proto::OpenItem { secret: "stripe".to_owned(), ..sealed(&good, b"x") };
    let both = proto::OpenRequest { items: vec![both] };
    let status = client.open(request(both, service("integrations"))).await.unwrap_err();
    assert_eq!(from_status(status).reason(), "VAULT_REQUEST_INVALID");
    assert_eq!(process.count("SELECT COUNT(*) FROM vault_holder").await, 0);
    process.stop().await;
}

async fn a_report_is_taken_when_nothing_is_on_its_way(house: &House) {
    let process = house.start().await;
    let client = client(&process);
    let report = async |lowest_version| {
        let tenant = TenantId(Uuid::from_u128(7)).to_string();
        let report = proto::ReportResealRequest { tenant, table: "connection".to_owned(), lowest_version };
        let answer = client.report_reseal(request(report, service("integrations"))).await;
        answer.map(|answer| answer.into_inner().accepted).map_err(|status| from_status(status).reason().to_owned())
    };
    client.seal(request(proto::SealRequest { items: vec![item(1, "x")] }, service("integrations"))).await.unwrap();
    process.execute("UPDATE vault_key SET seals = 1073741824").await;
    house.clock.advance(std::time::Duration::from_secs(31));
    client.seal(request(proto::SealRequest { items: vec![item(1, "x")] }, service("integrations"))).await.unwrap();

    let lowest = "SELECT CAST(lowest AS BIGINT) FROM vault_holder WHERE holder = 'integrations.connection'";
    assert_eq!(report(2).await, Ok(false), "another process may still seal under the first version");
    assert_eq!(report(3).await, Err("VAULT_REQUEST_INVALID".to_owned()));
    assert_eq!(process.count(lowest).await, 1);
    house.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(report(1).await, Ok(true));
    assert_eq!(process.count(lowest).await, 1);
    assert_eq!(report(0).await, Ok(true), "nothing is left");
    assert_eq!(process.count(lowest).await, 2);
    process.stop().await;
}
