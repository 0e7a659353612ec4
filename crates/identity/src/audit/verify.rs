//! Whether a chain is what it was: entry by entry, in the database or in a file. Pure.

use std::collections::BTreeMap;

use manifold_core::TenantId;
use sha2::{Digest, Sha256};

use super::chain::{Entry, Hash, START};
use super::checkpoint::Checkpoint;

/// What came of looking at a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Entries that were looked at.
    pub n_entries: i64,
    /// The first of them; what stands before it is not vouched for.
    pub from: i64,
    /// Entries whose detail was erased. All else of them holds.
    pub n_erased: i64,
    /// Signatures that hold and that the chain agrees with.
    pub n_checkpoints: i64,
    /// Where it is not what it was, if it is not.
    pub broken: Option<Broken>,
}

/// Where a chain is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The first bad entry.
    pub seq: i64,
    /// In which way.
    pub fault: Fault,
}

/// In which way a chain is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The entry, or one before it, is not what was written.
    Altered,
    /// The detail is neither what was written nor erased.
    DetailAltered,
    /// There is none of this number.
    Missing,
    /// Where it should be stands one of a lower number.
    Reordered,
    /// The chain was longer once.
    Truncated,
    /// It belongs to another chain.
    Foreign,
    /// A signature does not hold, or was given to another chain than this.
    CheckpointDiffers,
}

impl Fault {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::DetailAltered => "detail_altered",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Foreign => "foreign",
            Self::CheckpointDiffers => "checkpoint_differs",
        }
    }
}

/// Looks at the entries of one chain in their order.
pub struct Verifier<'k> {
    tenant: TenantId,
    public: &'k [u8],
    checkpoints: BTreeMap<i64, Checkpoint>,
    last: Option<(i64, Hash)>,
    verdict: Verdict,
}

impl<'k> Verifier<'k> {
    /// Of this tenant's chain, with the public key that its checkpoints are signed by.
    pub fn new(tenant: TenantId, public: &'k [u8], checkpoints: Vec<Checkpoint>) -> Self {
        let checkpoints = checkpoints.into_iter().map(|checkpoint| (checkpoint.seq, checkpoint)).collect();
        Self { tenant, public, checkpoints, last: None, verdict: Verdict::default() }
    }

    /// The next entry. True as long as nothing is wrong.
    pub fn check(&mut self, entry: &Entry) -> bool {
        if self.verdict.broken.is_none() {
            self.verdict.broken = self.look(entry).err().map(|(seq, fault)| Broken { seq, fault });
        }
        self.verdict.broken.is_none()
    }

    /// The next entry cannot be read. False: that is wrong.
    pub fn spoilt(&mut self) -> bool {
        let seq = self.last.map_or(1, |(last, _)| last + 1);
        self.verdict.broken.get_or_insert(Broken { seq, fault: Fault::Altered });
        false
    }

    /// What came of it, where the last entry has this number.
    pub fn finish_at(self, seq: i64) -> Verdict {
        let hash = self.last.map_or(START, |(_, hash)| hash);
        self.finish(Some((seq, &hash)))
    }

    /// What came of it. `head` is the last entry as it is known: its number and hash.
    pub fn finish(mut self, head: Option<(i64, &[u8])>) -> Verdict {
        let (last, hash) = self.last.map_or((0, START), |last| last);
        let longest = self.checkpoints.keys().next_back().copied().unwrap_or_default();
        let longest = longest.max(head.map_or(0, |(seq, _)| seq));
        if self.verdict.broken.is_none() {
            self.verdict.broken = match head {
                _ if longest > last => Some(Broken { seq: last + 1, fault: Fault::Truncated }),
                Some((seq, end)) if seq != last || end != hash => Some(Broken { seq: last, fault: Fault::Altered }),
                _ => None,
            };
        }
        self.verdict
    }

    fn look(&mut self, entry: &Entry) -> Result<(), (i64, Fault)> {
        let seq = entry.seq;
        let wrong = |fault| Err((seq, fault));
        if entry.tenant_id != self.tenant.0 {
            return wrong(Fault::Foreign);
        }
        let hash = match self.last {
            None if seq != 1 => {
                // The beginning of what was exported is taken as it is: its signed end vouches for it.
                self.verdict.from = seq;
                Hash::try_from(entry.hash.as_slice()).map_err(|_| (seq, Fault::Altered))?
            }
            None => {
                self.verdict.from = 1;
                entry.hash_after(&START)
            }
            Some((last, _)) if seq <= last => return Err((last + 1, Fault::Reordered)),
            Some((last, _)) if seq > last + 1 => return Err((last + 1, Fault::Missing)),
            Some((_, before)) => entry.hash_after(&before),
        };
        if hash != *entry.hash {
            return wrong(Fault::Altered);
        }
        match &entry.detail {
            None => self.verdict.n_erased += 1,
            Some(detail) if *Sha256::digest(detail) != *entry.detail_sha256 => return wrong(Fault::DetailAltered),
            Some(_) => {}
        }
        if let Some(checkpoint) = self.checkpoints.get(&seq) {
            let ours = checkpoint.tenant_id == self.tenant.0 && checkpoint.hash == hash;
            if !ours || !checkpoint.is_signed_by(self.public) {
                return wrong(Fault::CheckpointDiffers);
            }
            self.verdict.n_checkpoints += 1;
        }
        self.verdict.n_entries += 1;
        self.last = Some((seq, hash));
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use manifold_core::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::audit::checkpoint::Signer;

    pub const TENANT: TenantId = TenantId(Uuid::from_u128(5));

    pub fn chain(n: i64) -> Vec<Entry> {
        let mut before = START;
        let seal = |seq| {
            let detail = format!("{{\"n\":{seq}}}");
            let mut entry = Entry {
                tenant_id: TENANT.0,
                seq,
                at: Timestamp::from_micros(1_763_629_200_000_000 + seq),
                actor: "usr_01".to_owned(),
                action: "identity.key.created".to_owned(),
                target: format!("key_{seq}"),
                outcome: "ok".to_owned(),
                request_id: Some("req_01".to_owned()),
                trace_id: None,
                detail_sha256: Sha256::digest(&detail).to_vec(),
                detail: Some(detail),
                hash: Vec::new(),
            };
            before = entry.hash_after(&before);
            entry.hash = before.to_vec();
            entry
        };
        (1..=n).map(seal).collect()
    }

    fn verdict(entries: &[Entry], checkpoints: Vec<Checkpoint>, head: Option<(i64, &[u8])>) -> Verdict {
        let signer = Signer::new(1, &[7; 32]).unwrap();
        let mut verifier = Verifier::new(TENANT, signer.public(), checkpoints);
        for entry in entries {
            verifier.check(entry);
        }
        verifier.finish(head)
    }

    fn broken(entries: &[Entry]) -> Option<(i64, Fault)> {
        verdict(entries, Vec::new(), None).broken.map(|broken| (broken.seq, broken.fault))
    }

    pub fn sign(entry: &Entry) -> Checkpoint {
        Signer::new(1, &[7; 32]).unwrap().sign(TENANT, entry.seq, entry.hash.clone(), entry.at)
    }

    #[test]
    fn a_whole_chain_holds_with_its_signatures_and_erased_details() {
        let mut entries = chain(5);
        entries[3].detail = None;
        let (third, head) = (sign(&entries[2]), entries[4].hash.clone());

        let verdict = verdict(&entries, vec![third], Some((5, &head)));

        assert_eq!(verdict, Verdict { n_entries: 5, from: 1, n_erased: 1, n_checkpoints: 1, broken: None });
    }

    #[test]
    fn one_changed_byte_anywhere_names_its_entry() {
        let whole = chain(5);
        let changes: [fn(&mut Entry); 9] = [
            |entry| entry.at = entry.at.after(std::time::Duration::from_micros(1)),
            |entry| entry.actor.push('x'),
            |entry| entry.action.push('x'),
            |entry| entry.target.push('x'),
            |entry| entry.outcome.push('x'),
            |entry| entry.request_id = None,
            |entry| entry.trace_id = Some(String::new()),
            |entry| entry.detail_sha256[0] ^= 1,
            |entry| entry.hash[31] ^= 1,
        ];
        for change in changes {
            let mut entries = whole.clone();
            change(&mut entries[2]);
            assert_eq!(broken(&entries), Some((3, Fault::Altered)), "{:?}", entries[2]);
        }
        let mut entries = whole.clone();
        entries[2].detail = Some("{}".to_owned());
        assert_eq!(broken(&entries), Some((3, Fault::DetailAltered)));
        entries[2] = Entry { tenant_id: Uuid::nil(), ..whole[2].clone() };
        assert_eq!(broken(&entries), Some((3, Fault::Foreign)));
    }

    #[test]
    fn a_gap_another_order_and_a_cut_tail_are_named() {
        let whole = chain(5);
        let mut gap = whole.clone();
        gap.remove(2);
        let mut order = whole.clone();
        order.swap(1, 2);
        let head = whole[4].hash.clone();

        assert_eq!(broken(&gap), Some((3, Fault::Missing)));
        assert_eq!(broken(&order), Some((2, Fault::Missing)));
        assert_eq!(broken(&[whole[0].clone(), whole[1].clone(), whole[0].clone()]), Some((3, Fault::Reordered)));
        let cut = verdict(&whole[..3], Vec::new(), Some((5, &head))).broken.unwrap();
        assert_eq!((cut.seq, cut.fault), (4, Fault::Truncated), "by the head");
        let cut = verdict(&whole[..3], vec![sign(&whole[3])], Some((3, &whole[2].hash))).broken.unwrap();
        assert_eq!((cut.seq, cut.fault), (4, Fault::Truncated), "by the signature, where the head was changed, too");
        assert_eq!(verdict(&[], Vec::new(), None).broken, None);
    }

    #[test]
    fn a_chain_that_was_written_anew_contradicts_its_signature() {
        let signed = sign(&chain(3)[2]);
        let mut anew = chain(3);
        anew[1].actor = "usr_02".to_owned();
        let mut before = START;
        for entry in &mut anew {
            before = entry.hash_after(&before);
            entry.hash = before.to_vec();
        }

        assert_eq!(broken(&anew), None, "nothing else tells");
        let forged = Checkpoint { hash: anew[2].hash.clone(), ..signed.clone() };
        for checkpoint in [signed, forged] {
            let found = verdict(&anew, vec![checkpoint], None).broken.unwrap();
            assert_eq!((found.seq, found.fault), (3, Fault::CheckpointDiffers));
        }
    }

    #[test]
    fn a_part_is_verified_from_its_first_entry_on() {
        let whole = chain(5);
        let mut part = whole[2..].to_vec();
        assert_eq!(verdict(&part, Vec::new(), None), Verdict { n_entries: 3, from: 3, ..Verdict::default() });

        part[2].actor.push('x');

        assert_eq!(broken(&part), Some((5, Fault::Altered)));
    }
}
