//! What goes into one transaction, and what becomes of its pieces.

use manifold_core::Error;
use tracing::error;

use crate::Group;
use crate::command::Job;
use crate::fault::{DatabaseError, Fault, translate};
use crate::queue::{Piece, Queue};

/// Commands, which run first and in order, and groups of rows, which are merged.
#[derive(Default)]
pub(super) struct Block {
    pub(super) commands: Vec<Box<dyn Job>>,
    pub(super) groups: Vec<Group>,
}

/// Why a transaction did not happen.
pub(super) enum Failure {
    /// The database failed; every piece may be good.
    Fault { fault: Fault, error: Error },
    /// The database works and refuses a piece.
    Refused { cut: Cut, error: Error },
}

/// Where to cut a block that was refused.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    /// This command failed; those before it did not.
    Command(usize),
    /// Some row.
    Rows,
    /// It came out at the end only.
    Anywhere,
}

impl Failure {
    /// While nothing of ours was involved.
    pub(super) fn fault(message: &'static str, source: impl DatabaseError) -> Self {
        let fault = match source.fault() {
            Fault::Data => Fault::Away,
            fault => fault,
        };
        Self::Fault { fault, error: Error::internal(message).because(source) }
    }

    pub(super) fn of_statement(cut: Cut, message: &'static str, source: impl DatabaseError) -> Self {
        let fault = source.fault();
        let error = Error::internal(message).because(source);
        if fault == Fault::Data { Self::Refused { cut, error } } else { Self::Fault { fault, error } }
    }

    pub(super) fn of_command(index: usize, error: Error) -> Self {
        match Fault::within(&error) {
            Fault::Data => Self::Refused { cut: Cut::Command(index), error },
            fault => Self::Fault { fault, error },
        }
    }
}

impl Block {
    pub(super) fn new(pieces: Vec<Piece>) -> Self {
        let mut block = Self::default();
        for piece in pieces {
            match piece {
                Piece::Command(job) => block.commands.push(job),
                Piece::Rows(group) => block.groups.push(group),
            }
        }
        block
    }

    /// Whether somebody is told of its success once it survives a power cut.
    pub(super) fn lasts(&self) -> bool {
        self.commands.iter().any(|job| job.lasts())
    }

    fn len(&self) -> usize {
        self.commands.len() + self.groups.len()
    }

    /// Everything is durable: answers the callers. Says how many pieces are done.
    pub(super) fn succeed(self) -> usize {
        let n = self.len();
        for job in self.commands {
            job.finish(Ok(()));
        }
        n
    }

    /// A block of one piece, which the database refuses for good. Says how many pieces are done.
    pub(super) fn refuse(self, queue: &Queue, error: Error) -> usize {
        let n = self.len();
        for group in &self.groups {
            let tables: Vec<_> = group.tables().collect();
            error!(service = queue.service, ?tables, error = error.chain(), "the database refuses rows, dropped");
            queue.dropped(group, "refused");
        }
        if let Some(job) = self.commands.into_iter().next() {
            job.finish(Err(translate(error)));
        }
        n
    }

    /// The database is away: answers the callers and gives the rows back.
    pub(super) fn keep(self, fault: Fault) -> Vec<Group> {
        for job in self.commands {
            job.finish(Err(fault.error()));
        }
        self.groups
    }

    /// Its commands, and its rows.
    pub(super) fn apart(self) -> (Self, Self) {
        let commands = Self { commands: self.commands, groups: Vec::new() };
        (commands, Self { commands: Vec::new(), groups: self.groups })
    }

    /// Cuts in two, so that in the end the refused piece stands alone; gives a single piece back.
    pub(super) fn cut(mut self, cut: Cut) -> Result<(Self, Self), Self> {
        if self.len() == 1 {
            return Err(self);
        }
        let n_commands = match cut {
            Cut::Command(index) => index.max(1),
            Cut::Rows => self.commands.len(),
            Cut::Anywhere if self.groups.is_empty() => self.commands.len() / 2,
            Cut::Anywhere => self.commands.len(),
        };
        let mut rest = Self { commands: self.commands.split_off(n_commands), groups: Vec::new() };
        let n_groups = if self.commands.is_empty() { self.groups.len() / 2 } else { 0 };
        rest.groups = self.groups.split_off(n_groups);
        Ok((self, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n_commands: usize, n_groups: usize) -> Block {
        let job = || crate::command::job("test", true, |_| Box::pin(async { Ok(()) })).0 as Box<dyn Job>;
        let commands = (0..n_commands).map(|_| job()).collect();
        Block { commands, groups: (0..n_groups).map(|_| Group::new()).collect() }
    }

    fn shape(block: &Block) -> (usize, usize) {
        (block.commands.len(), block.groups.len())
    }

    #[test]
    fn every_cut_leaves_two_smaller_blocks_in_order() {
        let cases = [
            ((5, 3), Cut::Command(2), (2, 0), (3, 3)),
            ((5, 3), Cut::Command(0), (1, 0), (4, 3)),
            ((5, 3), Cut::Rows, (5, 0), (0, 3)),
            ((0, 3), Cut::Rows, (0, 1), (0, 2)),
            ((2, 1), Cut::Anywhere, (2, 0), (0, 1)),
            ((3, 0), Cut::Anywhere, (1, 0), (2, 0)),
        ];
        for ((n_commands, n_groups), cut, first, rest) in cases {
            let Ok((left, right)) = block(n_commands, n_groups).cut(cut) else { panic!("not cut") };

            assert_eq!((shape(&left), shape(&right)), (first, rest));
        }
        assert!(block(1, 0).cut(Cut::Command(0)).is_err());
        assert!(block(0, 1).cut(Cut::Rows).is_err());
    }
}
