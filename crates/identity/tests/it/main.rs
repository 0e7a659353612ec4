//! The service on real databases. Each story runs on SQLite and on Postgres.
#![expect(clippy::unwrap_used, reason = "a story fails where it cannot go on")]

/// Runs each story on both engines: a test per story and engine.
macro_rules! on_both_engines {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    let house = $crate::house::House::sqlite();
                    super::$story(&house).await;
                }
            )*
        }

        on_postgres!($($story),*);
    };
}

/// Runs each story on Postgres: what several processes do at once that never share a SQLite file.
macro_rules! on_postgres {
    ($($story:ident),* $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    let house = $crate::house::House::postgres().await;
                    super::$story(&house).await;
                    house.tear_down().await;
                }
            )*
        }
    };
}

mod account;
mod again;
mod audit;
mod detect;
mod directory;
mod factors;
mod hostile_tokens;
mod house;
mod invitations;
mod keys;
mod limits;
mod lost_factors;
mod mail;
#[path = "../../../testkit/src/mailbox.rs"]
mod mailbox;
mod mark;
mod members;
mod owner;
mod people;
mod question;
mod race;
mod registration;
mod reminder;
mod repeat;
mod restricted;
mod roles;
mod rotate;
mod rotation;
mod rpc;
mod secrets;
mod signing;
mod start;
mod step_up;
mod tenants;
mod terms;
mod tokens;
mod vault;
mod verify;
