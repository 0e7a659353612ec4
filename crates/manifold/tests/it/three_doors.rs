//! Three doors on one Postgres, Redis and NATS: what ends at one of them has ended at all within a second, and what happens
//! once happens once whichever of them are asked. Cases 11, 12, 18, 22 and 69 of hostile input.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use http::Method;
use manifold_testkit::{Client, Reply};
use serde_json::{Value, json};

use crate::database::Database;
use crate::limits::redis_url;
use crate::nats::Nats;
use crate::program::{Program, SECRET, Server, until};

const MODEL: &str = "manifold/echo";
const PASSWORD: &str = "correct horse battery staple";
const TYPE: (&str, &str) = ("content-type", "application/json");

/// Three doors, the router behind them, and what they share.
struct House {
    doors: [Server; 3],
    router: Server,
    nats: Nats,
    database: Database,
}

impl House {
    /// Starts it with these settings of the doors.
    async fn open(settings: &[(&str, &str)]) -> Result<Self> {
        let (nats, database) = (Nats::start().await, Database::create().await?);
        let all = Program::new()?.set("store.url", database.url.clone()).set("mesh.secret", SECRET);
        let all = all.set("bus.nats_url", nats.url()).set("bus.jetstream.max_bytes", "100MiB");
        let all = all.set("cache.redis_url", redis_url()?).set("cache.timeout", "10s").set("cache.replicas", "3");
        let router = all.start("ai-router").await?;
        let door = all.set("mesh.ai_router", format!("http://{}", router.grpc()?));
        let door = settings.iter().fold(door, |door, (name, value)| door.set(name, *value));
        let mut doors = [door.start("edge").await?, door.start("edge").await?, door.start("edge").await?];
        for door in &mut doors {
            door.ready().await?;
        }
        Ok(Self { doors, router, nats, database })
    }

    /// All doors, with one key.
    fn clients(&self, key: Option<&str>) -> Result<[Client; 3]> {
        let [one, two, three] = &self.doors;
        Ok([one.client(key)?, two.client(key)?, three.client(key)?])
    }

    /// A key of the house that chats, with its id.
    async fn key(&self) -> Result<(String, String)> {
        let made = self.doors[0].admin()?.post("/v1/keys", &json!({"name": "k"})).await?.json();
        Ok((text(&made["id"])?, text(&made["secret"])?))
    }

    async fn close(self) -> Result<()> {
        for mut server in self.doors.into_iter().chain([self.router]) {
            server.stop().await?;
        }
        self.database.drop().await
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("a text")?.to_owned())
}

/// Somebody who is logged in, at whichever door.
#[derive(Clone)]
struct Person {
    cookie: String,
    csrf: String,
}

impl Person {
    /// What the answer to a login made of it.
    fn of(reply: &Reply) -> Result<Self> {
        let cookie = reply.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        Ok(Self { cookie, csrf: text(&reply.json()["csrf"]).with_context(|| reply.text.clone())? })
    }

    async fn log_in(door: &Client, email: &str) -> Result<Self> {
        Self::of(&door.post("/v1/auth/login", &json!({"email": email, "password": PASSWORD})).await?)
    }

    async fn ask(&self, door: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Reply> {
        let headers = [TYPE, ("cookie", &*self.cookie), ("manifold-csrf", &*self.csrf)];
        door.send(method, path, &headers, body.map(|body| body.to_string().into_bytes()).unwrap_or_default()).await
    }
}

/// A tenant, and its owner.
async fn tenant(admin: &Client, slug: &str) -> Result<(String, Person)> {
    let new = json!({"name": slug, "slug": slug, "owner": format!("{slug}@example.org")});
    let made = admin.post("/v1/tenants", &new).await?.json();
    let joining = json!({"token": made["invitation"]["token"], "name": slug, "password": PASSWORD});
    let joined = admin.with_key(None).post("/v1/auth/register", &joining).await?;
    Ok((text(&made["id"])?, Person::of(&joined)?))
}

/// A member of the owner's tenant, with this role; gives the id.
async fn member(door: &Client, owner: &Person, name: &str, role: &str) -> Result<String> {
    let invitation = json!({"email": format!("{name}@example.org"), "role": role});
    let invited = owner.ask(door, Method::POST, "/v1/invitations", Some(invitation)).await?.json();
    let joining = json!({"token": invited["token"], "name": name, "password": PASSWORD});
    text(&door.post("/v1/auth/register", &joining).await?.json()["user"]["id"])
}

/// Lets something be used at all doors without a pause while `end` ends it at the first one; how long after the end was
/// answered it was still good for somebody.
async fn outlives<U, E>(doors: &[Client; 3], used: U, end: E) -> Result<Duration>
where
    U: AsyncFn(&Client) -> Result<Reply>,
    E: Future<Output = Result<Reply>>,
{
    for door in doors {
        let before = used(door).await?;
        ensure!(before.status < 300, "it works before: {}", before.text);
    }
    let asking = try_join_all(doors.iter().map(async |door| {
        let mut last = Instant::now();
        until("it has ended", async || {
            let began = Instant::now();
            let refused = matches!(used(door).await?.status, 401 | 403);
            last = if refused { last } else { began };
            Ok(refused)
        })
        .await?;
        Ok::<_, anyhow::Error>(last)
    }));
    let ending = async {
        let ended = end.await?;
        ensure!(ended.status < 300, "it was ended: {} {}", ended.status, ended.text);
        Ok(Instant::now())
    };
    let (last, ended) = tokio::join!(asking, ending);
    let ended = ended?;
    for door in doors {
        let after = used(door).await?;
        ensure!(matches!(after.status, 401 | 403), "it stays ended: {}", after.text);
    }
    Ok(last?.into_iter().map(|last| last.saturating_duration_since(ended)).max().unwrap_or_default())
}

#[expect(clippy::print_stdout, reason = "how long it took is of interest, and no reason to fail")]
fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let (middle, longest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{what}: good elsewhere for {middle:?}, at most {longest:?} of {} times", took.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_or_rotated_at_one_door_is_dead_at_all_three_with_nats_and_without() -> Result<()> {
    let mut house = House::open(&[]).await?;
    let admin = house.doors[0].admin()?;
    let models = async |door: &Client| door.get("/v1/models").await;
    let rounds = async |house: &House| -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        for _ in 0..20 {
            let (id, secret) = house.key().await?;
            let (doors, path) = (house.clients(Some(&secret))?, format!("/v1/keys/{id}"));
            took.push(outlives(&doors, models, admin.delete(&path)).await?);
        }
        Ok(took)
    };

    tell("a revoked key", rounds(&house).await?);
    let (id, old) = house.key().await?;
    let rotated = admin.post(&format!("/v1/keys/{id}/rotate"), &json!({"grace": "P1D"})).await?.json();
    let new = house.clients(Some(&text(&rotated["secret"])?))?;
    for door in &new {
        assert_eq!(door.get("/v1/models").await?.status, 200, "the new secret is known everywhere");
    }
    let (path, force) = (format!("/v1/keys/{id}/rotate/finish"), json!({"force": true}));
    let took = outlives(&house.clients(Some(&old))?, models, admin.post(&path, &force)).await?;
    tell("a secret whose rotation ended", vec![took]);
    assert_eq!(new[2].get("/v1/models").await?.status, 200);
    house.nats.kill();
    tell("a revoked key, without NATS", rounds(&house).await?);
    house.nats.resume().await;
    house.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_or_a_right_that_ends_at_one_door_has_ended_at_all_three() -> Result<()> {
    let house = House::open(&[]).await?;
    let (doors, admin) = (house.clients(None)?, house.doors[0].admin()?);
    let (acme, owner) = tenant(&admin, "acme").await?;
    let owner_key =
        owner.ask(&doors[1], Method::POST, "/v1/keys", Some(json!({"name": "k", "permissions": ["*"]}))).await?;
    let owner_key = text(&owner_key.json()["secret"])?;
    let grace = member(&doors[0], &owner, "grace", "admin").await?;
    let log_in = async || Person::log_in(&doors[1], "grace@example.org").await;
    let at_home = |person: &Person| {
        let person = person.clone();
        async move |door: &Client| person.ask(door, Method::GET, "/v1/users/me", None).await
    };

    let here = log_in().await?;
    let end = here.ask(&doors[0], Method::POST, "/v1/auth/logout", None);
    tell("a session that was logged out", vec![outlives(&doors, at_home(&here), end).await?]);

    let (here, lost) = (log_in().await?, log_in().await?);
    let end = here.ask(&doors[0], Method::DELETE, "/v1/sessions", None);
    tell("a session that was ended from another one", vec![outlives(&doors, at_home(&lost), end).await?]);

    let login = json!({"email": "grace@example.org", "password": PASSWORD});
    let tokens = doors[1].post("/v1/auth/login?mode=token", &login).await?.json();
    let bearers = house.clients(Some(&text(&tokens["access_token"])?))?;
    let me = async |door: &Client| door.get("/v1/users/me").await;
    let end = here.ask(&doors[0], Method::DELETE, "/v1/sessions", None);
    tell("an access token whose session was ended", vec![outlives(&bearers, me, end).await?]);

    let read = async |door: &Client| here.ask(door, Method::GET, "/v1/secrets", None).await;
    let path = format!("/v1/users/{grace}");
    let end = owner.ask(&doors[0], Method::PATCH, &path, Some(json!({"roles": ["viewer"]})));
    tell("a right that went with a role", vec![outlives(&doors, read, end).await?]);

    let joan = member(&doors[0], &owner, "joan", "viewer").await?;
    let here = Person::log_in(&doors[1], "joan@example.org").await?;
    let path = format!("/v1/users/{joan}");
    let end = owner.ask(&doors[0], Method::DELETE, &path, None);
    tell("a session of who was removed", vec![outlives(&doors, at_home(&here), end).await?]);

    let new = json!({"name": "Other", "slug": "other", "owner": "grace@example.org"});
    let made = admin.post("/v1/tenants", &new).await?.json();
    let joining = json!({"token": made["invitation"]["token"], "name": "Grace", "password": PASSWORD});
    let joined = doors[0].post("/v1/auth/register", &joining).await?;
    ensure!(joined.status == 201, "{}", joined.text);
    let here = log_in().await?;
    let present = here.ask(&doors[0], Method::GET, "/v1/auth/session", None).await?.json();
    let there = if present["tenant"] == made["id"] { json!(acme) } else { made["id"].clone() };
    let end = here.ask(&doors[0], Method::POST, "/v1/auth/switch", Some(json!({"tenant": there})));
    tell("a session that went to another tenant", vec![outlives(&doors, at_home(&here), end).await?]);

    let list = async |door: &Client| door.get("/v1/users").await;
    let keys = house.clients(Some(&owner_key))?;
    let (path, suspended) = (format!("/v1/tenants/{acme}"), json!({"state": "suspended"}).to_string().into_bytes());
    let end = admin.send(Method::PATCH, &path, &[TYPE], suspended);
    tell("a key whose tenant was suspended", vec![outlives(&keys, list, end).await?]);
    house.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_refresh_at_three_doors_at_most_one_succeeds_and_then_all_is_dead() -> Result<()> {
    let house = House::open(&[]).await?;
    let doors = house.clients(None)?;
    tenant(&house.doors[0].admin()?, "acme").await?;
    let login = json!({"email": "acme@example.org", "password": PASSWORD});
    let tokens = doors[0].post("/v1/auth/login?mode=token", &login).await?.json();
    let refresh = json!({"refresh_token": tokens["refresh_token"]});

    let asked = (0..24).map(|n| doors[n % 3].post("/v1/auth/refresh", &refresh));
    let replies = try_join_all(asked).await?;

    let mut good = replies.iter().filter(|reply| reply.status == 200);
    let successor = good.next().map(Reply::json);
    assert!(good.next().is_none(), "at most one");
    assert!(replies.iter().all(|reply| [200, 400, 401].contains(&reply.status)), "{replies:?}");
    for token in [Some(&tokens), successor.as_ref()].into_iter().flatten() {
        for door in house.clients(Some(&text(&token["access_token"])?))? {
            until("it is dead", async || Ok(door.get("/v1/users/me").await?.status == 401)).await?;
        }
        let again = doors[2].post("/v1/auth/refresh", &json!({"refresh_token": token["refresh_token"]})).await?;
        assert!([400, 401].contains(&again.status), "{}", again.text);
    }
    house.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_at_three_doors_makes_one_thing() -> Result<()> {
    let house = House::open(&[]).await?;
    let doors = [house.doors[0].admin()?, house.doors[1].admin()?, house.doors[2].admin()?];
    let before = doors[0].get("/v1/keys").await?.json()["data"].as_array().map_or(0, Vec::len);
    let headers = [TYPE, ("idempotency-key", "made once")];
    let make =
        async |door: &Client| door.send(Method::POST, "/v1/keys", &headers, br#"{"name": "once"}"#.to_vec()).await;

    let replies = try_join_all((0..24).map(|n| make(&doors[n % 3]))).await?;
    let last = make(&doors[1]).await?;

    let made =
        replies.iter().chain([&last]).filter(|reply| reply.status == 201).map(|reply| reply.json()["id"].clone());
    let mut ids: Vec<_> = made.collect();
    ids.dedup();
    assert_eq!((ids.len(), last.status), (1, 201), "{}", last.text);
    assert!(replies.iter().all(|reply| [201, 409].contains(&reply.status)), "{replies:?}");
    let after = doors[2].get("/v1/keys").await?.json()["data"].as_array().map_or(0, Vec::len);
    assert_eq!(after, before + 1);
    house.close().await
}

/// How many of `n` chats with one key, all at once and at all doors, were answered; the others were told to wait.
async fn answered(house: &House, key: &str, n: usize) -> Result<usize> {
    let doors = house.clients(Some(key))?;
    let replies = join_all((0..n).map(|n| doors[n % 3].chat(MODEL, "hi"))).await;
    let statuses = replies.into_iter().map(|reply| Ok(reply?.status)).collect::<Result<Vec<_>>>()?;
    ensure!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    Ok(statuses.iter().filter(|status| **status == 200).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_and_credits_are_the_same_whichever_of_three_doors_is_asked() -> Result<()> {
    for (mode, exactly) in [("strict", true), ("leased", false)] {
        let limit = [("quota", "90"), ("window", "24h"), ("mode", mode)];
        let names = limit.map(|(name, value)| (format!("edge.limits.per_key.{name}"), value));
        let settings = names.each_ref().map(|(name, value)| (name.as_str(), *value));
        let house = House::open(&settings).await?;
        let (_, key) = house.key().await?;

        let n = answered(&house, &key, 150).await? + answered(&house, &key, 30).await?;

        assert!(n <= 90 && (n == 90 || !exactly) && n > 60, "{mode}: {n}");
        house.close().await?;
    }
    let house = House::open(&[]).await?;
    let made = house.doors[1].admin()?.post("/v1/keys", &json!({"name": "paid", "credits": 100})).await?.json();

    assert_eq!(answered(&house, &text(&made["secret"])?, 200).await?, 100, "a hundred credits are a hundred calls");
    house.close().await
}
