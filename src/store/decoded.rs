//! Rows of the truth that were read lately, decoded. Reading calls find the same few rows again and again:
//! who calls, and what they may.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Change, Changes, Key};

/// Bytes of rows in memory at most, about.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a row in memory beside what is stored of it, about.
const ROW_BYTES: usize = 256;

/// Which commit a state is of. States of one commit are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Generation(u64);

/// What was decoded, for states of any commit.
#[derive(Default)]
pub(super) struct Decoded(Mutex<Held>);

/// Invariant: a row that is held is the same in every state from its generation to the newest one.
#[derive(Default)]
struct Held {
    rows: HashMap<Key, HeldRow>,
    /// Of all rows together.
    bytes: usize,
    newest: u64,
    /// Commits that run. What is read meanwhile may be from before them or from after.
    commits: u32,
}

struct HeldRow {
    from: Generation,
    row: Change,
    bytes: usize,
}

impl Held {
    fn remove(&mut self, key: &Key) {
        if let Some(held) = self.rows.remove(key) {
            self.bytes -= held.bytes;
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
    }
}

impl Decoded {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation of the states that can be opened now; none while a commit runs.
    pub(super) fn generation(&self) -> Option<Generation> {
        let held = self.held();
        (held.commits == 0).then_some(Generation(held.newest))
    }

    /// A row in the state of a generation, if it is held.
    pub(super) fn get(&self, at: Generation, key: &Key) -> Option<Change> {
        let held = self.held();
        held.rows.get(key).filter(|held| held.from <= at).map(|held| held.row.clone())
    }

    /// Holds a row as the state of a generation has it, if that is the newest one. `bytes`: of what is
    /// stored of it.
    pub(super) fn put(&self, at: Generation, key: &Key, row: &Change, bytes: usize) {
        let mut held = self.held();
        if held.commits > 0 || at.0 != held.newest {
            return;
        }
        let bytes = bytes + ROW_BYTES;
        held.remove(key);
        if held.bytes + bytes > BYTES_MAX {
            held.clear();
        }
        held.bytes += bytes;
        held.rows.insert(key.clone(), HeldRow { from: at, row: row.clone(), bytes });
    }

    /// A commit of these changes begins.
    pub(super) fn begin(&self, changes: &Changes) {
        let mut held = self.held();
        held.commits += 1;
        if !held.rows.is_empty() {
            changes.keys().for_each(|key| held.remove(key));
        }
    }

    /// A commit ended. `is_whole`: it did what it was to do; else nobody knows what is stored.
    pub(super) fn end(&self, is_whole: bool) {
        let mut held = self.held();
        held.commits = held.commits.saturating_sub(1);
        held.newest += 1;
        drop(held);
        if !is_whole {
            self.forget();
        }
    }

    /// Another file is read from now on.
    pub(super) fn forget(&self) {
        let mut held = self.held();
        held.newest += 1;
        held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AccountId, Row};

    const KEY: fn(u8) -> Key = |id| Key::Secret(AccountId::from_bytes([id; 16]));

    #[test]
    fn a_row_is_found_again_in_every_state_that_has_it_and_in_no_other() {
        let decoded = Decoded::default();
        let before = decoded.generation().unwrap();
        decoded.put(before, &KEY(1), &row(1), 32);
        decoded.put(before, &KEY(2), &None, 0);
        assert_eq!(decoded.get(before, &KEY(1)), Some(row(1)));
        assert_eq!(decoded.get(before, &KEY(2)), Some(None));
        assert_eq!(decoded.get(before, &KEY(3)), None);

        decoded.begin(&Changes::from([(KEY(1), row(9))]));
        assert_eq!(decoded.generation(), None);
        decoded.put(before, &KEY(1), &row(1), 32);
        decoded.end(true);

        let after = decoded.generation().unwrap();
        assert_eq!([before, after].map(|at| decoded.get(at, &KEY(1))), [None, None]);
        assert_eq!([before, after].map(|at| decoded.get(at, &KEY(2))), [Some(None), Some(None)]);
        // Who still reads the old state neither brings it back nor sees the new one.
        decoded.put(before, &KEY(1), &row(1), 32);
        assert_eq!(decoded.get(after, &KEY(1)), None);
        decoded.put(after, &KEY(1), &row(9), 32);
        assert_eq!([before, after].map(|at| decoded.get(at, &KEY(1))), [None, Some(row(9))]);
    }

    #[test]
    fn after_a_commit_that_failed_nothing_is_held() {
        let decoded = Decoded::default();
        let before = decoded.generation().unwrap();
        decoded.put(before, &KEY(1), &row(1), 32);

        decoded.begin(&Changes::new());
        decoded.end(false);

        assert_eq!(decoded.get(decoded.generation().unwrap(), &KEY(1)), None);
    }

    #[test]
    fn only_so_many_bytes_are_held() {
        let decoded = Decoded::default();
        let at = decoded.generation().unwrap();

        for id in 0..=u8::MAX {
            decoded.put(at, &KEY(id), &row(id), BYTES_MAX / 100);
        }

        let held = (0..=u8::MAX).filter(|id| decoded.get(at, &KEY(*id)).is_some()).count();
        assert!((1..=100).contains(&held), "{held}");
        assert_eq!(decoded.get(at, &KEY(u8::MAX)), Some(row(u8::MAX)));
    }

    fn row(byte: u8) -> Change {
        Some(Row::Secret([byte; 32]))
    }
}
