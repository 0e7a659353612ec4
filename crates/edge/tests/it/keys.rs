//! `/v1/keys`: the life of an API key.

use serde_json::{Value, json};

use crate::house::House;

#[tokio::test]
async fn a_key_lives_from_creation_to_revocation() {
    let house = House::open().await;

    let made = house.call("POST", "/v1/keys", Some(&json!({"name": "site"}))).await;
    let created = made.json();
    let id = created["id"].as_str().unwrap();
    let path = format!("/v1/keys/{id}");
    let secret = format!("authorization: Bearer {}", created["secret"].as_str().unwrap());
    let body = json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}]});
    let used = house.call_with("POST", "/v1/chat/completions", &[&secret], Some(&body)).await;
    let shown = house.call("GET", &path, None).await;
    let revoked = house.call("DELETE", &path, None).await;
    let refused = house.call_with("POST", "/v1/chat/completions", &[&secret], Some(&body)).await;

    assert_eq!((made.status, made.header("location"), made.header("cache-control")), (201, path.as_str(), "no-store"));
    assert_eq!((used.status, shown.status), (200, 200));
    assert_eq!((&shown.json()["name"], shown.json().get("secret")), (&json!("site"), None));
    assert_eq!((revoked.status, &revoked.json()["state"]), (200, &json!("revoked")));
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let house = House::open().await;
    for name in ["a", "b", "c"] {
        house.call("POST", "/v1/keys", Some(&json!({"name": name}))).await;
    }

    let first = house.call("GET", "/v1/keys?limit=2", None).await;
    let cursor = first.json()["next_cursor"].as_str().unwrap().to_owned();
    let second = house.call("GET", &format!("/v1/keys?limit=2&cursor={cursor}"), None).await.json();

    assert_eq!((first.json()["data"].as_array().unwrap().len(), &first.json()["has_more"]), (2, &json!(true)));
    assert!(first.header("link").contains(&cursor));
    let other_list = house.call("GET", &format!("/v1/invitations?cursor={cursor}"), None).await;
    let plain_id = house.call("GET", "/v1/keys?cursor=key_01h455vb4pex5vsknk084sn02q", None).await;
    for refused in [other_list, plain_id] {
        assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("invalid_cursor")));
    }
    // The admin key is the fourth.
    assert_eq!(
        (second["data"].as_array().unwrap().len(), &second["has_more"], &second["next_cursor"]),
        (2, &json!(false), &json!(null))
    );
}

#[tokio::test]
async fn whatever_is_made_is_made_once_for_one_idempotency_key() {
    let house = House::open().await;
    let wish = json!({"email": "grace@example.org", "role": "developer"});
    let ask = async |key: &str, body: &Value| {
        let authorization = format!("authorization: Bearer {}", house.admin);
        let key = format!("idempotency-key: {key}");
        house.call_with("POST", "/v1/invitations", &[&authorization, &key], Some(body)).await
    };

    let refused = ask("wrong", &json!({"email": "nobody", "role": "developer"})).await;
    let refused_again = ask("wrong", &json!({"email": "nobody", "role": "developer"})).await;
    let corrected = ask("wrong", &wish).await;
    let first = ask("one", &wish).await;
    let again = ask("one", &wish).await;
    let reused = ask("one", &json!({"email": "ada@example.org", "role": "developer"})).await;
    let other = ask("two", &wish).await;

    assert_eq!((refused.status, first.status, first.header("idempotent-replayed")), (422, 201, ""), "{}", first.body);
    assert_eq!(
        (refused_again.status, &refused_again.body, refused_again.header("idempotent-replayed")),
        (422, &refused.body, "true"),
        "a refusal by the operation is an answer"
    );
    assert_eq!(refused_again.header("content-type"), "application/problem+json");
    assert_eq!((corrected.status, &corrected.json()["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!((again.status, &again.body, again.header("idempotent-replayed")), (201, &first.body, "true"));
    assert_eq!((reused.status, &reused.json()["code"]), (422, &json!("idempotency_key_reused")));
    assert_ne!(other.json()["token"], first.json()["token"]);
}

#[tokio::test]
async fn what_was_refused_for_who_asks_or_how_often_is_decided_anew() {
    let house = House::open().await;
    let wish = json!({"name": "site", "permissions": ["users.user.write", "keys.key.verify"], "credits": 0});
    let made = house.call("POST", "/v1/keys", Some(&wish)).await.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let key = format!("authorization: Bearer {}", made["secret"].as_str().unwrap());
    let invite = json!({"email": "grace@example.org", "role": "developer"});
    let question = json!({"key": "nonsense"});
    let ask = async |path: &str, body: &Value| {
        house.call_with("POST", path, &[&key, "idempotency-key: one"], Some(body)).await
    };

    let broke = ask("/v1/keys/verify", &question).await;
    house.call("PATCH", &path, Some(&json!({"credits": 10}))).await;
    let paid = ask("/v1/keys/verify", &question).await;
    let denied = ask("/v1/invitations", &invite).await;
    let all = json!({"permissions": ["*"]});
    house.call("PATCH", &path, Some(&all)).await;
    let allowed = ask("/v1/invitations", &invite).await;

    assert_eq!((broke.status, paid.status, paid.header("idempotent-replayed")), (429, 200, ""), "{}", paid.body);
    assert_eq!((denied.status, &denied.json()["code"]), (403, &json!("escalation")), "{}", denied.body);
    assert_eq!((allowed.status, allowed.header("idempotent-replayed")), (201, ""), "{}", allowed.body);
}

#[tokio::test]
async fn a_key_that_is_known_is_not_sent_again_and_one_that_changed_is_not_revoked_by_mistake() {
    let house = House::open().await;
    let made = house.call("POST", "/v1/keys", Some(&json!({"name": "site"}))).await.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let key = format!("authorization: Bearer {}", house.admin);
    let ask = async |method: &str, condition: &str| house.call_with(method, &path, &[&key, condition], None).await;

    let shown = house.call("GET", &path, None).await;
    let tag = shown.header("etag").to_owned();
    let known = ask("GET", &format!("if-none-match: {tag}")).await;
    let other = ask("DELETE", "if-match: \"a.b\"").await;
    let revoked = ask("DELETE", &format!("if-match: \"a.b\", {tag}")).await;
    let late = ask("DELETE", &format!("if-match: {tag}")).await;
    let gone = house.call_with("DELETE", "/v1/keys/key_01h455vb4pex5vsknk084sn02q", &[&key, "if-match: *"], None).await;

    assert_eq!((known.status, known.header("etag"), known.body.as_str()), (304, tag.as_str(), ""));
    assert_eq!((other.status, &other.json()["code"]), (412, &json!("precondition_failed")));
    assert_eq!((revoked.status, late.status, gone.status), (200, 412, 404));
}

#[tokio::test]
async fn unknown_ids_and_false_cursors_are_refused() {
    let house = House::open().await;

    for (path, status, code) in [
        ("/v1/keys/key_01h455vb4pex5vsknk084sn02q", 404, "key_not_found"),
        ("/v1/keys/nonsense", 404, "key_not_found"),
        ("/v1/keys?cursor=nonsense", 400, "invalid_cursor"),
        ("/v1/keys?limit=0", 422, "limit_invalid"),
    ] {
        let reply = house.call("GET", path, None).await;

        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn a_repetition_with_the_same_idempotency_key_gets_the_first_answer() {
    let house = House::open().await;
    let wish = json!({"name": "site"});
    let ask = async |key: &str, body: &Value| {
        let authorization = format!("authorization: Bearer {}", house.admin);
        house.call_with("POST", "/v1/keys", &[&authorization, &format!("idempotency-key: {key}")], Some(body)).await
    };

    let first = ask("\"8e03978e\"", &wish).await;
    let second = ask("8e03978e", &json!({"environment": "live", "name": "site"})).await;
    let other = ask("8e03978e", &json!({"name": "shop"})).await;
    let malformed = ask("\"8e03978e", &wish).await;

    assert_eq!((first.status, first.header("idempotent-replayed")), (201, ""));
    assert_eq!((second.status, second.header("idempotent-replayed")), (201, "true"));
    assert_eq!((second.json(), second.header("location")), (first.json(), first.header("location")));
    assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!((malformed.status, &malformed.json()["code"]), (400, &json!("idempotency_key_invalid")));
}

#[tokio::test]
async fn a_secret_is_replaced_while_it_is_used() {
    let house = House::open().await;
    let made = house.call("POST", "/v1/keys", Some(&json!({"name": "site"}))).await.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let (rotate, finish, cancel) =
        (format!("{path}/rotate"), format!("{path}/rotate/finish"), format!("{path}/rotate/cancel"));
    let chat = async |key: &Value| {
        let body = json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}]});
        let key = format!("authorization: Bearer {}", key["secret"].as_str().unwrap());
        house.call_with("POST", "/v1/chat/completions", &[&key], Some(&body)).await.status
    };

    let rotated = house.call("POST", &rotate, Some(&json!({"grace": "PT1H"}))).await;
    let shown = house.call("GET", &path, None).await;
    let again = house.call("POST", &rotate, None).await;
    let early = house.call("POST", &finish, None).await;
    let both = (chat(&made).await, chat(&rotated.json()).await);
    let finished = house.call("POST", &finish, Some(&json!({"force": false}))).await;
    let after = (chat(&made).await, chat(&rotated.json()).await);
    let nothing = house.call("POST", &cancel, None).await;
    let long = house.call("POST", &rotate, Some(&json!({"grace": "P31D"}))).await;
    let foreign = house.call("POST", "/v1/keys/key_01h455vb4pex5vsknk084sn02q/rotate", None).await;

    assert_eq!((rotated.status, rotated.header("cache-control")), (200, "no-store"));
    assert_eq!(rotated.json()["rotation"]["old_ends_at"], "2025-11-20T10:00:00Z");
    assert_eq!((shown.json().get("secret"), &shown.json()["rotation"]), (None, &rotated.json()["rotation"]));
    assert_eq!((both, after), ((200, 200), (401, 200)));
    assert_eq!((finished.status, &finished.json()["rotation"]), (200, &json!(null)));
    for (reply, status, code) in [
        (again, 409, "rotation_in_progress"),
        (early, 412, "new_secret_unused"),
        (nothing, 409, "rotation_not_found"),
        (long, 422, "grace_invalid"),
        (foreign, 404, "key_not_found"),
    ] {
        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{}", reply.body);
    }
}

#[tokio::test]
async fn a_restricted_key_is_refused_before_it_pays() {
    let house = House::open_with(|config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let wish = json!({"name": "site", "permissions": ["ai.*", "keys.key.read"], "credits": 2, "restrictions": {
        "ips": ["192.0.2.0/24"], "origins": ["https://app.example"], "methods": ["GET", "POST"], "apis": ["ai", "keys"]}});
    let made = house.call("POST", "/v1/keys", Some(&wish)).await;
    let path = format!("/v1/keys/{}", made.json()["id"].as_str().unwrap());
    let key = format!("authorization: Bearer {}", made.json()["secret"].as_str().unwrap());
    let (ip, origin) = ("x-forwarded-for: 192.0.2.7", "origin: https://app.example");
    let body = json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}]});
    let ask = async |method: &str, path: &str, headers: &[&str], body: Option<&Value>| {
        house.call_with(method, path, &[&[key.as_str()], headers].concat(), body).await
    };

    for (method, path, headers) in [
        ("GET", "/v1/keys", vec![origin]),
        ("GET", "/v1/keys", vec![origin, "x-forwarded-for: 198.51.100.7"]),
        ("GET", "/v1/keys", vec![ip]),
        ("GET", "/v1/keys", vec![ip, "origin: https://evil.example"]),
        ("GET", "/v1/keys", vec![ip, origin, "origin: https://evil.example"]),
        ("DELETE", path.as_str(), vec![ip, origin]),
        ("GET", "/v1/users", vec![ip, origin]),
    ] {
        let reply = ask(method, path, &headers, None).await;

        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (403, &json!("key_restricted")),
            "{method} {path} {headers:?}"
        );
    }
    let lacking = ask("POST", "/v1/keys", &[ip, origin], Some(&json!({"name": "more"}))).await;
    let unknown = ask("GET", "/v1/nothing", &[ip, origin], None).await;
    let before = house.call("GET", &path, None).await.json();
    let chat = ask("POST", "/v1/chat/completions", &[ip, origin], Some(&body)).await;
    let head = ask("HEAD", "/v1/keys", &[ip, origin], None).await;
    let spent = ask("GET", "/v1/keys", &[ip, origin], None).await;

    assert_eq!((lacking.status, unknown.status), (403, 404));
    assert_eq!(
        (&before["credits"], &before["restrictions"]),
        (&json!(2), &wish["restrictions"]),
        "who is refused pays nothing"
    );
    assert_eq!((chat.status, head.status), (200, 200), "{} {}", chat.json(), head.status);
    assert_eq!((spent.status, &spent.json()["code"]), (429, &json!("usage_exceeded")));
}

#[tokio::test]
async fn a_key_is_changed_by_what_is_named() {
    let house = House::open().await;
    let made =
        house.call("POST", "/v1/keys", Some(&json!({"name": "site", "metadata": {"plan": "free"}}))).await.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let refill = json!({"amount": 10, "every": "month", "at": 1});

    let change = json!({"name": "shop", "enabled": false, "refill": refill, "expires_at": "2027-01-01T00:00:00Z"});
    let changed = house.call("PATCH", &path, Some(&change)).await;
    let back = json!({"enabled": true, "credits": null, "expires_at": null});
    let back = house.call("PATCH", &path, Some(&back)).await.json();

    let shown = changed.json();
    assert_eq!((changed.status, &shown["name"], &shown["state"]), (200, &json!("shop"), &json!("disabled")));
    assert_eq!(
        (&shown["credits"], &shown["refill"], &shown["metadata"]),
        (&json!(10), &refill, &json!({"plan": "free"}))
    );
    assert_eq!(shown["refill_at"], "2025-12-01T00:00:00Z");
    assert_eq!((&back["name"], &back["state"], &back["credits"]), (&json!("shop"), &json!("active"), &json!(null)));
    assert_eq!((&back["refill"], &back["refill_at"], &back["expires_at"]), (&json!(null), &json!(null), &json!(null)));
    for (body, status, code) in [
        (json!({"state": "active"}), 422, "body_invalid"),
        (json!({"tenant_id": "x"}), 422, "body_invalid"),
        (json!({"restrictions": {"ips": ["x"]}}), 422, "restriction_invalid"),
        (json!({"credits": -1}), 422, "credits_invalid"),
        (json!({"metadata": {"x": "y".repeat(5_000)}}), 422, "metadata_too_large"),
    ] {
        let reply = house.call("PATCH", &path, Some(&body)).await;

        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{body}");
    }
    let foreign = house.call("PATCH", "/v1/keys/key_01h455vb4pex5vsknk084sn02q", Some(&json!({}))).await;
    assert_eq!(foreign.status, 404);
}

#[tokio::test]
async fn a_question_about_a_key_is_always_answered() {
    let house = House::open().await;
    let made = house.call("POST", "/v1/keys", Some(&json!({"name": "site", "credits": 3}))).await.json();
    let secret = made["secret"].as_str().unwrap();
    let ask = async |body: Value| house.call("POST", "/v1/keys/verify", Some(&body)).await;

    let right = ask(json!({"key": secret, "permissions": "ai.inference.run OR keys.key.read", "credits": 2,
        "ip": "192.0.2.7", "tags": {"route": "/x"}}))
    .await;
    let greedy = ask(json!({"key": secret, "credits": 2})).await;
    let lacking = ask(json!({"key": secret, "permissions": "keys.key.read"})).await;
    let unknown = ask(json!({"key": "sk-nonsense"})).await;

    assert_eq!(
        (right.status, &right.json()["valid"], &right.json()["credits_remaining"]),
        (200, &json!(true), &json!(1))
    );
    assert_eq!((&right.json()["key_id"], &right.json()["name"]), (&made["id"], &json!("site")));
    for (reply, code) in [(greedy, "usage_exceeded"), (lacking, "insufficient_permissions"), (unknown, "not_found")] {
        assert_eq!((reply.status, &reply.json()["valid"], &reply.json()["code"]), (200, &json!(false), &json!(code)));
        assert!(!reply.body.contains(secret));
    }
    for (body, code) in [
        (json!({"key": secret, "permissions": "a AND"}), "query_invalid"),
        (json!({"key": secret, "ip": "192.0.2.7:80"}), "address_invalid"),
        (json!({"key": secret, "tenant": "x"}), "body_invalid"),
        (json!({"permissions": "a.b.c"}), "body_invalid"),
    ] {
        let reply = ask(body).await;

        assert_eq!((reply.status, &reply.json()["code"]), (422, &json!(code)));
        assert!(!reply.body.contains(secret));
    }
}

#[tokio::test]
async fn an_owner_has_keys_and_is_deleted_when_they_are_revoked() {
    let house = House::open().await;
    let body = json!({"external_id": "customer-42", "name": "Ada", "metadata": {"plan": "free"}});

    let made = house.call("POST", "/v1/owners", Some(&body)).await;
    let owner = made.json();
    let path = format!("/v1/owners/{}", owner["id"].as_str().unwrap());
    let key = house.call("POST", "/v1/keys", Some(&json!({"name": "site", "owner": owner["id"]}))).await.json();
    let key_path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let verdict = house.call("POST", "/v1/keys/verify", Some(&json!({"key": key["secret"]}))).await.json();
    let renamed = house.call("PATCH", &path, Some(&json!({"name": "Ada's shop"}))).await.json();
    let listed = house.call("GET", "/v1/owners", None).await.json();
    let usage = house.call("GET", &format!("{path}/usage?window=1h"), None).await;
    let again = house.call("POST", "/v1/owners", Some(&body)).await;
    let used = house.call("DELETE", &path, None).await;
    house.call("DELETE", &key_path, None).await;
    let deleted = house.call("DELETE", &path, None).await;
    let gone = house.call("GET", &path, None).await;

    assert_eq!((made.status, made.header("location")), (201, path.as_str()));
    assert_eq!((&key["owner"], &verdict["owner"]), (&owner["id"], &owner["id"]));
    assert_eq!((&renamed["name"], &renamed["metadata"]), (&json!("Ada's shop"), &json!({"plan": "free"})));
    assert_eq!((&listed["data"], usage.status), (&json!([renamed]), 200));
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("owner_exists")));
    assert_eq!((used.status, &used.json()["code"]), (409, &json!("owner_in_use")));
    assert_eq!((deleted.status, gone.status, &gone.json()["code"]), (204, 404, &json!("owner_not_found")));
    for (method, path, body, status, code) in [
        ("POST", "/v1/keys", json!({"name": "x", "owner": "own_01h455vb4pex5vsknk084sn02q"}), 422, "owner_unknown"),
        ("POST", "/v1/keys", json!({"name": "x", "owner": "nobody"}), 422, "owner_unknown"),
        ("POST", "/v1/owners", json!({"external_id": "a b", "name": "x"}), 422, "external_id_invalid"),
        ("PATCH", "/v1/owners/nobody", json!({"name": "x"}), 404, "owner_not_found"),
    ] {
        let reply = house.call(method, path, Some(&body)).await;

        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{path} {body}");
    }
}
