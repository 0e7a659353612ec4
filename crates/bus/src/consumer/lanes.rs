//! Lanes: events of one ordering key follow each other, those of other keys need not wait for them.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use manifold_contract::events::v1::Event;

/// What goes side by side.
pub(super) struct Lanes<B>(Vec<B>);

impl<B: Default> Lanes<B> {
    /// At least one.
    pub(super) fn new(n: usize) -> Self {
        Self(std::iter::repeat_with(B::default).take(n.max(1)).collect())
    }

    /// The one in which this event goes: always the same for a key of a tenant.
    pub(super) fn of(&mut self, event: &Event) -> &mut B {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one((&event.tenant_id, &event.ordering_key));
        let n = self.0.len() as u64;
        &mut self.0[(hash % n) as usize]
    }

    pub(super) fn all(self) -> impl Iterator<Item = B> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_key_share_a_lane_and_keys_are_spread() {
        let mut lanes = Lanes::<Vec<usize>>::new(4);
        for n in 0..400 {
            lanes.of(&Event { ordering_key: format!("key {}", n % 40), ..Event::default() }).push(n);
        }

        for lane in lanes.all() {
            assert!((40..=160).contains(&lane.len()), "40 keys in 4 lanes: {}", lane.len());
            assert!(lane.iter().all(|n| lane.contains(&((n + 40) % 400))), "a key is in one lane only");
            assert!(lane.is_sorted(), "in their order");
        }
    }
}
