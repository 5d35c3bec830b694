//! The cache: rows that could be fetched again. Written behind, never waited for.

use std::sync::{PoisonError, RwLock};

use moka::sync::Cache as Front;
use redb::Durability;

use super::file::{self, File};
use super::place::Which;
use crate::model::{Change, Changes, Damaged, Key, Row};

/// Bytes in memory in front of the file, about.
const FRONT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of a row in memory beside its value, about.
const ROW_BYTES: usize = 256;
/// Changes that wait to be written, at most; more are written at once.
const PENDING_MAX: usize = 4_096;

pub(super) struct Cache {
    file: File,
    pending: RwLock<Changes>,
    front: Front<Key, Change>,
}

impl Cache {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            pending: RwLock::new(Changes::new()),
            front: Front::builder().max_capacity(FRONT_BYTES_MAX).weigher(weight).build(),
        }
    }

    /// A row as it is known now: a cache has no snapshots. Damage counts as absence.
    pub(super) fn row(&self, key: &Key) -> Option<Row> {
        if let Some(change) = self.front.get(key) {
            return change;
        }
        // Held until the front has the row: whoever puts a newer one comes after.
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        let change = match pending.get(key) {
            Some(change) => change.clone(),
            None => self.read(|rows| file::get(rows, Which::Cache, key)).flatten(),
        };
        self.front.insert(key.clone(), change.clone());
        change
    }

    pub(super) fn rows(&self, first: &Key, last: &Key, limit: usize) -> Vec<(Key, Row)> {
        let pending: Changes = {
            let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
            pending
                .range(first.clone()..=last.clone())
                .map(|(key, change)| (key.clone(), change.clone()))
                .collect()
        };
        let wanted = limit.saturating_add(pending.len());
        let stored = self.read(|rows| file::range(rows, Which::Cache, first, last, wanted));
        let mut merged: std::collections::BTreeMap<Key, Row> =
            stored.unwrap_or_default().into_iter().collect();
        for (key, change) in pending {
            match change {
                Some(row) => merged.insert(key, row),
                None => merged.remove(&key),
            };
        }
        merged.into_iter().take(limit).collect()
    }

    fn read<T>(&self, read: impl FnOnce(&file::Rows) -> Result<T, Damaged>) -> Option<T> {
        let rows = self.file.rows().ok()?;
        read(&rows).ok()
    }

    pub(super) fn put(&self, changes: Changes) {
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        for (key, change) in &changes {
            self.front.insert(key.clone(), change.clone());
        }
        pending.extend(changes);
        let full = pending.len() >= PENDING_MAX;
        drop(pending);
        if full {
            self.flush();
        }
    }

    pub(super) fn waits(&self) -> bool {
        !self.pending.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Writes what waits, without holding up who reads. A cache that cannot be written is a slower cache, not a fault.
    pub(super) fn flush(&self) {
        let changes = self.pending.read().unwrap_or_else(PoisonError::into_inner).clone();
        if changes.is_empty() {
            return;
        }
        self.file.commit(&changes, Durability::Immediate).ok();
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|key, change| changes.get(key) != Some(change));
    }
}

/// Bytes of a row in memory, about.
fn weight(_: &Key, change: &Change) -> u32 {
    let value = match change {
        Some(Row::CachedValue(held)) => held.value.to_string().len(),
        Some(_) | None => 0,
    };
    u32::try_from(ROW_BYTES + value).unwrap_or(u32::MAX)
}
