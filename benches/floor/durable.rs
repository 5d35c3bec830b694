//! Rows put into redb and nothing else: what a durable call costs at least.
//!
//! A call changes one element's row (200 bytes) and adds 400 bytes to the one row of its turn. A
//! commit takes so many calls, puts their elements' rows in the order of keys, and is synced. What
//! is written is another thing each time.

use std::path::Path;
use std::sync::Arc;

use redb::{Builder, Database, Durability, TableDefinition};

use super::counted::{CountedFile, Counts};
use super::mixed::mixed;
use super::rounds::Fault;

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
/// Bytes of an element's row.
const ELEMENT_BYTES: usize = 200;
/// Bytes that a call adds to its turn's row.
const CALL_BYTES: usize = 400;
/// Rows of one commit while the store is being filled.
const FILLED_AT_ONCE: usize = 10_000;

/// A tag, a world and an element.
type ElementKey = [u8; 33];

/// A store of rows without a product around it.
pub(crate) struct Direct {
    database: Database,
    turn: u64,
    drawn: u64,
}

impl Direct {
    /// A store with so many elements.
    pub(crate) fn filled(
        path: &Path,
        elements: u64,
        counts: Arc<Counts>,
    ) -> Result<Self, redb::Error> {
        let file = CountedFile::open(path, counts)?;
        let database = Builder::new().create_with_backend(file)?;
        let mut direct = Self { database, turn: 0, drawn: 0 };
        for first in (0..elements).step_by(FILLED_AT_ONCE) {
            let last = elements.min(first + FILLED_AT_ONCE as u64);
            let mut keys: Vec<ElementKey> = (first..last).map(element_key).collect();
            keys.sort_unstable();
            direct.commit(&keys, 0)?;
        }
        Ok(direct)
    }

    /// Makes `calls` calls, `in_commit` of them in each commit, on elements drawn among the first
    /// `elements`.
    pub(crate) fn calls(&mut self, calls: u64, in_commit: u64, elements: u64) -> Result<(), Fault> {
        let mut left = calls;
        let mut keys: Vec<ElementKey> = Vec::new();
        while left > 0 {
            let taken = left.min(in_commit);
            keys.clear();
            keys.extend((0..taken).map(|_| element_key(self.draw() % elements)));
            keys.sort_unstable();
            keys.dedup();
            self.commit(&keys, usize::try_from(taken)?)?;
            left -= taken;
        }
        Ok(())
    }

    fn commit(&mut self, keys: &[ElementKey], calls: usize) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            let mut element = [0; ELEMENT_BYTES];
            for key in keys {
                self.fill(&mut element);
                rows.insert(key.as_slice(), element.as_slice())?;
            }
            let mut turn = vec![0; calls * CALL_BYTES];
            self.fill(&mut turn);
            self.turn += 1;
            rows.insert(turn_key(self.turn).as_slice(), turn.as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mixed(self.drawn)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let drawn = self.draw().to_le_bytes();
            part.copy_from_slice(&drawn[..part.len()]);
        }
    }
}

fn turn_key(number: u64) -> [u8; 9] {
    let mut key = [1; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn element_key(number: u64) -> ElementKey {
    let mut key = [9; 33];
    key[17..25].copy_from_slice(&mixed(number).to_be_bytes());
    key[25..].copy_from_slice(&mixed(!number).to_be_bytes());
    key
}
