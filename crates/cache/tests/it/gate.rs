//! Places that several processes share.

use std::time::Duration;

use manifold_cache::{Entry, Gate, Leaving, OnStoreFailure, Shared};
use manifold_core::Clock;
use tokio::task::JoinSet;

use crate::server::{Network, Process, REPLICAS, name, url};

const MINUTE: Duration = Duration::from_secs(60);

async fn gate(url: &str, name: &str, failure: OnStoreFailure) -> (Gate, Leaving) {
    let shared = Shared { redis: Process::at(url).await.redis, replicas: REPLICAS };
    Gate::shared(name, 6, 100, shared, failure)
}

async fn enter(gate: &Gate, lifetime: Duration) -> Entry {
    gate.enter(7, uuid::Uuid::new_v4().as_u128(), lifetime, Clock::system().now()).await.unwrap()
}

#[tokio::test]
async fn all_processes_together_have_so_many_places() {
    let name = name("gate");
    let (mut gates, mut held, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
    for _ in 0..REPLICAS {
        let (gate, leaving) = gate(&url(), &name, OnStoreFailure::Deny).await;
        tasks.spawn(leaving.run());
        gates.push(gate);
    }

    for _ in 0..4 {
        for gate in &gates {
            held.push(enter(gate, MINUTE).await);
        }
    }
    let left: Vec<_> = held
        .iter()
        .filter_map(|entry| match entry {
            Entry::Entered(place) => Some(place.remaining()),
            Entry::Full { .. } => None,
        })
        .collect();
    let full = enter(&gates[0], MINUTE).await;
    drop(held);
    drop(gates);
    tasks.join_all().await;
    let (gate, _) = self::gate(&url(), &name, OnStoreFailure::Deny).await;

    assert_eq!(left, [5, 4, 3, 2, 1, 0]);
    assert!(matches!(full, Entry::Full { retry_after, .. } if retry_after <= MINUTE && !retry_after.is_zero()));
    assert!(matches!(enter(&gate, MINUTE).await, Entry::Entered(_)), "all have left");
}

#[tokio::test]
async fn who_never_leaves_holds_a_place_until_its_time_is_up() {
    let name = name("gate");
    let (gate, leaving) = gate(&url(), &name, OnStoreFailure::Deny).await;
    drop(leaving);
    for _ in 0..6 {
        drop(enter(&gate, Duration::from_millis(1)).await);
    }

    while matches!(enter(&gate, MINUTE).await, Entry::Full { .. }) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_redis_a_process_has_its_share_of_the_places_or_none() {
    for (failure, places) in [(OnStoreFailure::Local, 2), (OnStoreFailure::Deny, 0)] {
        let network = Network::start().await;
        let (gate, _leaving) = gate(&network.url(), &name("gate"), failure).await;
        network.silence();

        let mut held = Vec::new();
        for holder in 0..4 {
            held.push(gate.enter(7, holder, MINUTE, Clock::system().now()).await);
        }

        let entered = held.iter().filter(|entry| matches!(entry, Ok(Entry::Entered(place)) if place.degraded()));
        assert_eq!(entered.count(), places, "{failure:?}");
    }
}
