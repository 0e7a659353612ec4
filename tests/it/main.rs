//! The promises of the product, told as stories: against real sockets, on SQLite in one process and on Postgres in two.

mod architecture;
mod attack;
mod audit;
mod batch;
mod chat;
mod claims;
mod conditions;
mod disconnect;
mod embeddings;
mod errors;
mod events;
mod fallback;
mod hygiene;
mod images;
mod keys;
mod limits;
mod mail;
mod matrix;
mod operations;
mod people;
mod reasons;
mod secrets;
mod store_faults;
mod streams;
mod tenants;
mod tokens;
mod trace;

/// Asks until it is so, which takes as long as the answers; fails after ten seconds.
async fn until(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let asking = async {
        while !ask().await? {}
        Ok(())
    };
    let asked = tokio::time::timeout(std::time::Duration::from_secs(10), asking).await;
    asked.unwrap_or_else(|_| Err(anyhow::anyhow!("waited in vain until {what}")))
}

/// Tells one story in both shapes.
macro_rules! story {
    ($name:ident, |$builder:ident| $body:block) => {
        async fn $name($builder: manifold_testkit::Builder) -> anyhow::Result<()> $body

        mod $name {
            use manifold_testkit::{Sandbox, Shape};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_one_process_on_sqlite() -> anyhow::Result<()> {
                super::$name(Sandbox::builder(Shape::One)).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_two_processes_on_postgres() -> anyhow::Result<()> {
                super::$name(Sandbox::builder(Shape::Two)).await
            }
        }
    };
}
pub(crate) use story;
