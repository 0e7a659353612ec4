//! Every operation of the contract against everybody who has no right to a thing: for them it is as if there were none, byte
//! for byte, and nobody learns or changes anything. Cases 73 and 75 of hostile input.

pub mod contract;
pub mod things;

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Client, Reply};
use serde_json::{Value, json};

use crate::people::{Browser, PASSWORD, set_up};
use crate::story;
use crate::tenants::{key, tenant};
use contract::{Needs, Operation, operations};
use things::{NAME, Things, never};

/// Somebody who calls, by key or by session.
enum Caller {
    Key(Client),
    Person(Browser),
}

impl Caller {
    async fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        match self {
            Self::Key(client) => {
                let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
                client.send(method.clone(), path, &[("content-type", "application/json")], body).await
            }
            Self::Person(browser) => browser.change(method.clone(), path, body).await,
        }
    }
}

/// Who the six are that ask for the things of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    /// A key of the tenant that was revoked.
    Ended,
    /// A key of the tenant that may do something else.
    Other,
    /// A member who may read some things, with these grants.
    Viewer,
    /// A key of another tenant that may do everything there.
    ForeignKey,
    /// The owner of another tenant.
    ForeignOwner,
}

/// What they get.
enum Sees {
    /// 401.
    Nobody,
    /// 403.
    Refused,
    /// 404, as if the thing had never been.
    AsIfNever,
    /// Something, but none of the things.
    NothingOfIt,
    /// What members may read.
    Shown,
    /// The operation acts on the caller's own.
    OwnThings,
}

/// What somebody gets of an operation. `held` are the viewer's permissions.
fn sees(who: Who, operation: &Operation, held: &[String]) -> Sees {
    let stranger = matches!(who, Who::ForeignKey | Who::ForeignOwner);
    match (who, &operation.needs) {
        (Who::Nobody | Who::Ended, _) => Sees::Nobody,
        (Who::Other, _) | (Who::ForeignKey, Needs::Person) => Sees::Refused,
        (Who::Viewer, Needs::Permission(permission)) if held.contains(permission) => Sees::Shown,
        (Who::Viewer, Needs::Permission(_)) => Sees::Refused,
        // Blocks of networks are the installation's.
        _ if stranger && operation.path.starts_with("/v1/audit/blocks") => Sees::Refused,
        // Names are the tenant's own: who writes one makes it.
        _ if operation.method == Method::PUT && operation.path == "/v1/secrets/{name}" => Sees::OwnThings,
        _ if operation.names_a_thing() => Sees::AsIfNever,
        _ if operation.is_read() => Sees::NothingOfIt,
        _ => Sees::OwnThings,
    }
}

/// A key as there could be one.
const UNKNOWN_KEY: &str = "mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy";

/// What must be alike in two answers about things that are not there: everything but the names of the two requests.
fn essence(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let (mut text, body) = (reply.text.clone(), reply.json());
    for own in ["request_id", "trace_id", "instance"] {
        if let Some(value) = body[own].as_str() {
            text = text.replace(value, own);
        }
    }
    let headers = reply
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id", "x-manifold-request-id"].contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
    (reply.status, headers.collect(), text)
}

/// A member of the owner's tenant.
pub async fn member(owner: &Browser, role: &str) -> Result<Browser> {
    let invitation = json!({"email": format!("{role}@example.org"), "role": role});
    let invited = owner.change(Method::POST, "/v1/invitations", Some(&invitation)).await?;
    let joining = json!({"token": invited.json()["token"], "name": role, "password": PASSWORD});
    Browser::of(owner.client.clone(), &owner.client.post("/v1/auth/register", &joining).await?)
}

/// A key of the owner's tenant, and its id.
async fn key_for(owner: &Browser, permission: &str) -> Result<(String, Client)> {
    let made = owner.change(Method::POST, "/v1/keys", Some(&json!({"name": "k", "permissions": [permission]}))).await?;
    let made = made.json();
    let client = owner.client.with_key(Some(made["secret"].as_str().context("a secret")?));
    Ok((made["id"].as_str().context("an id")?.to_owned(), client))
}

/// All that a tenant has, as its owner reads it; when keys were used last is no change.
pub async fn all_there_is(owner: &Browser, operations: &[Operation], things: &Things) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for operation in operations.iter().filter(|operation| matches!(operation.needs, Needs::Permission(_))) {
        let moves = operation.path.starts_with("/v1/audit") || operation.path.ends_with("/usage");
        if operation.is_read() && !moves && operation.path != "/v1/models/{id}" {
            let path =
                if operation.names_a_thing() { operation.at(things.of(operation)?.0) } else { operation.path.clone() };
            let mut body = owner.get(&path).await?.json();
            for row in body["data"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                row.remove("last_used_at");
            }
            found.push(body);
        }
    }
    Ok(found)
}

story!(nobody_gets_more_of_a_tenant_than_the_contract_says, |builder| {
    let sandbox = builder.start().await?;
    set_up(&sandbox).await?;
    let ((acme, grace), (_, joan)) = (tenant(&sandbox, "acme").await?, tenant(&sandbox, "other").await?);
    let (foreign, viewer) = (key(&joan).await?, member(&grace, "viewer").await?);
    let ((_, other), (ended_id, ended)) = (key_for(&grace, "ai.nothing.run").await?, key_for(&grace, "*").await?);
    assert_eq!(grace.change(Method::DELETE, &format!("/v1/keys/{ended_id}"), None).await?.status, 200);
    let things = Things::make(&grace, &acme).await?;
    let role = grace.get("/v1/roles/viewer").await?.json();
    let grants = role["grants"].as_array().context("grants")?.iter();
    let held: Vec<_> = grants.filter_map(|grant| grant["permission"].as_str().map(str::to_owned)).collect();
    let callers = [
        (Who::Nobody, Caller::Key(sandbox.admin.with_key(None))),
        (Who::Ended, Caller::Key(ended)),
        (Who::Other, Caller::Key(other)),
        (Who::Viewer, Caller::Person(viewer)),
        (Who::ForeignKey, Caller::Key(foreign)),
        (Who::ForeignOwner, Caller::Person(joan)),
    ];
    let operations = operations(&sandbox).await?;
    let before = all_there_is(&grace, &operations, &things).await?;

    let mut asked = [0; 6];
    for operation in &operations {
        let (id, never) = if operation.names_a_thing() { things.of(operation)? } else { ("x", "x") };
        let (theirs, nobodys, body) = (operation.at(id), operation.at(never), operation.body.as_ref());
        for (index, (who, caller)) in callers.iter().enumerate() {
            let expected = sees(*who, operation, &held);
            if matches!(expected, Sees::OwnThings) {
                continue;
            }
            let reply = caller.ask(&operation.method, &theirs, body).await?;
            let what = format!("{who:?} {} {theirs}: {} {}", operation.method, reply.status, reply.text);
            match expected {
                Sees::Nobody => assert_eq!(reply.status, 401, "{what}"),
                Sees::Refused => assert_eq!(reply.status, 403, "{what}"),
                Sees::Shown => assert!(reply.status == 200 && operation.is_read(), "{what}"),
                Sees::AsIfNever => {
                    let none = caller.ask(&operation.method, &nobodys, body).await?;
                    assert_eq!(reply.status, 404, "{what}");
                    assert_eq!(essence(&reply), essence(&none), "{what}");
                }
                Sees::NothingOfIt | Sees::OwnThings => {
                    assert!(reply.status < 500, "{what}");
                    assert_eq!(things.shown_in(&reply.text), None, "{what}");
                }
            }
            asked[index] += 1;
        }
    }

    assert_eq!(asked[..3], [operations.len(); 3], "these three have nothing of their own");
    assert!(asked.iter().all(|n| *n >= 45), "{asked:?} of {}", operations.len());
    assert_eq!(all_there_is(&grace, &operations, &things).await?, before, "nothing was changed");
    there_is_something_to_find(&Caller::Person(grace), operations, &things).await?;
    sandbox.stop().await?;
    Ok(())
});

/// What strangers cannot tell apart, the owner can. Things end last, and the tenant last of all.
async fn there_is_something_to_find(owner: &Caller, mut operations: Vec<Operation>, things: &Things) -> Result<()> {
    let is_name = |one: &Operation| one.method == Method::PUT && one.path == "/v1/secrets/{name}";
    operations.retain(|one| one.names_a_thing() && !one.path.starts_with("/v1/audit/blocks") && !is_name(one));
    operations.sort_by_key(|one| {
        let late = ["/v1/keys/{", "/v1/tenants/{"].iter().position(|late| one.path.starts_with(late));
        (one.method == Method::DELETE, late)
    });
    for operation in &operations {
        let ((id, never), body) = (things.of(operation)?, operation.body.as_ref());
        let nobodys = owner.ask(&operation.method, &operation.at(never), body).await?;
        let own = owner.ask(&operation.method, &operation.at(id), body).await?;
        let what = format!("{} {}: {} {}", operation.method, operation.path, own.status, own.text);
        assert!(own.status != 404 && own.status < 500 && nobodys.status == 404, "{what} {}", nobodys.text);
    }
    Ok(())
}

story!(a_foreign_id_in_a_body_or_a_query_is_as_if_it_never_was, |builder| {
    let sandbox = builder.start().await?;
    set_up(&sandbox).await?;
    let ((acme, grace), (_, joan)) = (tenant(&sandbox, "acme").await?, tenant(&sandbox, "other").await?);
    let things = Things::make(&grace, &acme).await?;
    let user = joan.get("/v1/users/me").await?.json()["id"].as_str().context("an id")?.to_owned();
    let secret = grace.change(Method::POST, "/v1/keys", Some(&json!({"name": NAME}))).await?.json()["secret"].clone();
    let page = grace.get("/v1/keys?limit=1").await?.json()["next_cursor"].clone();
    let role = |id: &str| json!({"email": "x@example.org", "role": id});
    let owned = |id: &str| json!({"name": "x", "owner": id});

    for (method, path, foreign, none) in [
        (Method::POST, "/v1/auth/switch", json!({"tenant": acme}), json!({"tenant": never(&acme)})),
        (Method::POST, "/v1/invitations", role(things.id("/v1/roles/")), role(&never(things.id("/v1/roles/")))),
        (Method::POST, "/v1/keys", owned(things.id("/v1/owners/")), owned(&never(things.id("/v1/owners/")))),
        (Method::POST, "/v1/keys/verify", json!({"key": secret}), json!({"key": UNKNOWN_KEY})),
        (
            Method::PATCH,
            &*format!("/v1/users/{user}"),
            json!({"roles": ["owner", things.id("/v1/roles/")]}),
            json!({"roles": ["owner", never(things.id("/v1/roles/"))]}),
        ),
    ] {
        let foreign = joan.change(method.clone(), path, Some(&foreign)).await?;
        let none = joan.change(method, path, Some(&none)).await?;
        let refused =
            foreign.status == 200 && foreign.json()["code"] == "not_found" || (400..500).contains(&foreign.status);
        assert!(refused && !foreign.text.contains(NAME), "{path}: {}", foreign.text);
        assert_eq!(essence(&foreign), essence(&none), "{path}");
    }
    for (filter, id) in [("actor", things.id("/v1/users/")), ("target", things.id("/v1/keys/"))] {
        assert_eq!(joan.get(&format!("/v1/audit?{filter}={id}")).await?.json()["data"], json!([]), "{filter}");
        assert_ne!(grace.get(&format!("/v1/audit?{filter}={id}")).await?.json()["data"], json!([]), "{filter}");
    }
    let page = format!("/v1/keys?cursor={}", page.as_str().context("a page that follows")?);
    assert_eq!((joan.get(&page).await?.status, grace.get(&page).await?.status), (400, 200), "a cursor is its tenant's");
    sandbox.stop().await?;
    Ok(())
});
