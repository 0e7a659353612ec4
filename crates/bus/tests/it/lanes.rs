//! Lanes of a stream: keys that go side by side.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use manifold_bus::{Bus, Consumer, Draft, Failure, Filter, Handler, consume};
use manifold_contract::events::v1::Event;
use manifold_store::Tx;
use tokio::sync::Semaphore;

use crate::consumer::eventually;
use crate::house::draft;
use crate::nats::Nats;
use crate::street::Street;

/// Notes what comes. The first event of "slow" is done when one of another key is.
#[derive(Clone)]
struct Patient {
    came: Arc<Mutex<Vec<(String, bytes::Bytes)>>>,
    another: Arc<Semaphore>,
}

impl Handler for Patient {
    fn handle<'t>(&'t self, _: &'t mut Tx<'_>, events: &'t [Event]) -> BoxFuture<'t, Result<(), Failure>> {
        async move {
            for event in events {
                match event.subject.as_str() {
                    "slow" => drop(self.another.acquire().await),
                    _ => self.another.add_permits(1),
                }
                self.came.lock().unwrap().push((event.subject.clone(), event.data.clone()));
            }
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_slow_key_keeps_its_order_and_keeps_no_other_lane_waiting() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    let data = |n: u32| bytes::Bytes::from(n.to_string());
    let others = (0..8).map(|n| format!("quick {n}"));
    let subjects: Vec<String> = std::iter::repeat_n("slow".to_owned(), 3).chain(others).collect();
    let numbered = subjects.iter().zip(0..).map(|(subject, n)| Draft { data: data(n), ..draft(subject) });
    street.house.append(numbered.collect(), None).await.unwrap();
    street.relay();
    street.relayed().await;

    let patient = Patient { came: Arc::default(), another: Arc::new(Semaphore::new(0)) };
    // Long enough for all of them to come at once.
    let consumer = Consumer::new("test__lanes", Filter::Domain("ai")).gathering(128, Duration::from_millis(500));
    let (bus, db) = (Bus::JetStream(street.broker.clone()), street.service.db.clone());
    let running = consume(consumer.in_lanes(4), bus, db, street.house.clock.clone(), patient.clone());
    street.service.running.spawn(running);

    eventually(async || patient.came.lock().unwrap().len() == subjects.len()).await;
    let came = patient.came.lock().unwrap();
    let slow: Vec<_> = came.iter().filter(|(subject, _)| subject == "slow").map(|(_, data)| data.clone()).collect();
    assert_ne!(came[0].0, "slow");
    assert_eq!(slow, [data(0), data(1), data(2)]);
}
