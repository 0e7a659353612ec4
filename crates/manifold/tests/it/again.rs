//! kill -9 while keys are made: who got no answer asks again with the same idempotency key, and everything was made once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use futures::future::{join_all, try_join_all};
use http::Method;
use manifold_core::KeyId;
use manifold_testkit::{Client, Reply};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, postgres_keys, sqlite_keys};
use crate::kill::rounds;
use crate::program::{Program, Server};

const CALLERS: usize = 8;

/// A key that was asked for.
struct Wish {
    idempotency_key: String,
    /// What was answered before the kill.
    answer: Option<Value>,
}

impl Wish {
    async fn ask(&self, door: &Client) -> Result<Reply> {
        let headers = [("content-type", "application/json"), ("idempotency-key", &*self.idempotency_key)];
        let body = json!({"name": self.idempotency_key}).to_string().into_bytes();
        door.send(Method::POST, "/v1/keys", &headers, body).await
    }
}

/// Asks for one key after the other until told to stop or left without an answer.
async fn ask(door: &Client, name: String, stop: &CancellationToken) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    while !stop.is_cancelled() {
        let mut wish = Wish { idempotency_key: format!("{name} {}", wishes.len()), answer: None };
        match wish.ask(door).await {
            Ok(reply) => {
                assert_eq!((reply.status, reply.header("idempotent-replayed")), (201, ""), "{}", reply.text);
                wish.answer = Some(reply.json());
                wishes.push(wish);
            }
            Err(_) => {
                wishes.push(wish);
                break;
            }
        }
    }
    wishes
}

/// What callers asked for until the process was killed under them.
async fn kill_while_asking(door: &Client, victim: &mut Server, round: usize, after: Duration) -> Result<Vec<Wish>> {
    let stop = CancellationToken::new();
    let fate = async {
        // Another instant in each round; a tenth of what chats get, because every wish is asked twice.
        sleep(after / 10).await;
        let killed = victim.kill().await;
        stop.cancel();
        killed
    };
    let asking = join_all((0..CALLERS).map(|caller| ask(door, format!("round {round} caller {caller}"), &stop)));
    let (wishes, killed) = tokio::join!(asking, fate);
    killed?;
    Ok(wishes.into_iter().flatten().collect())
}

/// Asks for everything again; gives the ids of what was made.
async fn ask_again(door: &Client, wishes: &[Wish]) -> Result<BTreeSet<KeyId>> {
    let again = async |wish: &Wish| {
        let reply = wish.ask(door).await?;
        assert_eq!(reply.status, 201, "{}", reply.text);
        if let Some(answer) = &wish.answer {
            assert_eq!((reply.header("idempotent-replayed"), &reply.json()), ("true", answer));
        }
        let key = reply.json();
        let works = door.with_key(key["secret"].as_str()).chat("manifold/echo", "hi").await?;
        assert_eq!(works.status, 200, "{}", works.text);
        Ok::<_, anyhow::Error>(KeyId::parse(key["id"].as_str().unwrap_or_default()).expect("a key has an id"))
    };
    let mut made = BTreeSet::new();
    for some in wishes.chunks(CALLERS) {
        made.extend(try_join_all(some.iter().map(&again)).await?);
    }
    assert_eq!(made.len(), wishes.len(), "a key for each wish");
    Ok(made)
}

/// Every key that exists was asked for, except the admin's, and each has one event.
fn adds_up(made: &BTreeSet<KeyId>, (keys, told): (Vec<KeyId>, Vec<KeyId>)) {
    assert_eq!(keys.len(), made.len() + 1);
    assert!(made.iter().all(|key| keys.contains(key)));
    assert_eq!(told, keys);
}

/// Kills the process again and again while keys are asked for, and asks again; gives the ids of what was made.
async fn kill_and_ask_again(program: &Program) -> Result<BTreeSet<KeyId>> {
    let (mut server, mut made) = (program.serve().await?, BTreeSet::new());
    for (round, after) in rounds().enumerate() {
        let wishes = kill_while_asking(&server.admin()?, &mut server, round, after).await?;
        server = program.serve().await?;
        made.extend(ask_again(&server.admin()?, &wishes).await?);
    }
    server.stop().await?;
    Ok(made)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_after_a_kill_was_made_once_on_sqlite() -> Result<()> {
    let program = Program::new()?;

    let made = kill_and_ask_again(&program).await?;

    adds_up(&made, sqlite_keys(&program.data()).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_after_a_kill_was_made_once_on_postgres() -> Result<()> {
    let database = Database::create().await?;
    let program = Program::new()?.set("store.url", database.url.clone());

    let made = kill_and_ask_again(&program).await?;

    adds_up(&made, postgres_keys(&database.url).await?);
    database.drop().await
}
