//! The bus on both engines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod chain;
mod clock;
mod consumer;
mod dead;
mod forgetful;
mod house;
mod job;
mod lanes;
mod moved;
mod nats;
mod outbox;
#[path = "../../../store/tests/it/scratch.rs"]
mod scratch;
mod stream;
mod street;
mod verify;

/// Each scenario on SQLite and on Postgres.
macro_rules! on_both_engines {
    ($($scenario:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(&crate::scratch::Scratch::sqlite()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(&crate::scratch::Scratch::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;
