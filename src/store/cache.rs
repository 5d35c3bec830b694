//! The cache: rows that could be fetched again. Written behind, never waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use moka::sync::Cache as Front;
use redb::Durability;

use super::evict;
use super::file::{self, File};
use super::place::Which;
use crate::model::{Change, Changes, Damaged, Key, Row};

/// Bytes in memory in front of the file, about.
const FRONT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of a row in memory beside its value, about.
const ROW_BYTES: usize = 256;
/// Changes that wait to be written, at most; more are written at once.
const PENDING_MAX: usize = 4_096;

/// Bytes of rows that are stored at most, unless told otherwise.
const STORED_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) struct Cache {
    file: File,
    bytes_max: AtomicU64,
    /// Bytes of the rows that are stored, at most: what was counted, and all that was written since; none
    /// before it was counted. Whoever holds it writes.
    stored: Mutex<Option<u64>>,
    pending: RwLock<Changes>,
    front: Front<Key, Change>,
}

impl Cache {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            bytes_max: AtomicU64::new(STORED_BYTES_MAX),
            stored: Mutex::new(None),
            pending: RwLock::new(Changes::new()),
            front: Front::builder().max_capacity(FRONT_BYTES_MAX).weigher(weight).build(),
        }
    }

    pub(super) fn bound(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
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
            None => {
                let found = self.read(|rows| file::get(rows, Which::Cache, key)).flatten();
                found.map(|(row, _)| row)
            }
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
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.file.commit(&changes, Durability::Immediate).unwrap_or(0);
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|key, change| changes.get(key) != Some(change));
        drop(pending);
        *stored = match *stored {
            Some(bytes) => Some(bytes + written),
            None => self.count(),
        };
        if stored.is_some_and(|bytes| bytes > self.bytes_max.load(Ordering::Relaxed)) {
            self.evict();
            *stored = self.count();
        }
    }

    fn count(&self) -> Option<u64> {
        self.read(|rows| file::bytes(rows, Which::Cache))
    }

    /// Makes room. Who reads is not held up.
    fn evict(&self) {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let is_used = |key: &Key| self.front.contains_key(key);
        let Some(evicted) = self.read(|rows| evict::evicted(rows, bytes_max, is_used)) else {
            return;
        };
        self.file.commit(&evicted, Durability::Immediate).ok();
        // Whoever puts a newer one comes after.
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        for key in evicted.keys().filter(|key| !pending.contains_key(key)) {
            self.front.invalidate(key);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        CachedPlace, CachedValue, ElementId, Head, Json, Kind, LogId, ServerId, Timestamp, WorldId,
    };
    use crate::store::{Folder, Place};

    const BYTES_MAX: u64 = 64 * 1024;
    const VALUE_BYTES: usize = 1_000;

    #[test]
    fn what_is_stored_stays_within_its_bound_and_what_is_old_and_unused_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = bounded(&Folder(folder.path().to_owned()));
        for number in 1..=200 {
            cache.put(value(number));
            cache.flush();
        }

        assert!(cache.count().unwrap() <= BYTES_MAX, "{:?}", cache.count());
        let newest = value(200).into_iter().next().unwrap();
        assert_eq!(cache.row(&newest.0), newest.1);
        drop(cache);
        // Nothing is known of who used what before the start: age alone decides.
        let cache = bounded(&Folder(folder.path().to_owned()));
        let kept = |cache: &Cache| -> Vec<u8> {
            (1..=230).filter(|number| cache.stores(&key(*number))).collect()
        };
        let before = kept(&cache);
        assert_eq!(before, (before[0]..=200).collect::<Vec<u8>>());
        let used = before[0];
        assert!(cache.row(&key(used)).is_some());
        for number in 201..=230 {
            cache.put(value(number));
            cache.front.invalidate(&key(number));
            cache.flush();
        }
        let after = kept(&cache);
        assert!(after.contains(&used), "{after:?}");
        assert!(!after.contains(&before[1]), "{after:?}");
        assert!(after.contains(&230), "{after:?}");
        assert!(cache.count().unwrap() <= BYTES_MAX);
    }

    #[test]
    fn a_name_goes_with_what_it_stands_for() {
        let folder = tempfile::tempdir().unwrap();
        let cache = bounded(&Folder(folder.path().to_owned()));
        for number in 1..=200 {
            cache.put(value(number));
            cache.put(place(number));
            cache.front.invalidate_all();
            cache.flush();
        }

        for number in 1..=200 {
            let name = place(number).into_keys().next().unwrap();
            // One may go before the other where the bound lies between them.
            let next = number.saturating_add(1).min(200);
            assert!(!cache.stores(&name) || cache.stores(&key(next)), "{number}");
        }
        assert!(cache.stores(&key(200)) && cache.row(&key(200)).is_some());
    }

    fn bounded(folder: &dyn Place) -> Cache {
        let cache = Cache::new(File::open(folder, Which::Cache).unwrap());
        cache.bound(BYTES_MAX);
        cache
    }

    impl Cache {
        fn stores(&self, key: &Key) -> bool {
            self.read(|rows| file::get(rows, Which::Cache, key)).flatten().is_some()
        }
    }

    fn key(number: u8) -> Key {
        let server = ServerId::from_bytes([1; 16]);
        Key::CachedValue(server, ElementId::from_bytes([number; 16]), None, "on".to_owned())
    }

    fn value(number: u8) -> Changes {
        let log = LogId::from_bytes([1; 16]);
        let held = CachedValue {
            value: Json::String("x".repeat(VALUE_BYTES)),
            kind: Kind::String,
            until: Timestamp::from_ms(u64::from(number)),
            head: Head { log, seq: 0 },
            outdated: false,
        };
        Changes::from([(key(number), Some(Row::CachedValue(Arc::new(held))))])
    }

    fn place(number: u8) -> Changes {
        let key = Key::CachedPlace(ServerId::from_bytes([1; 16]), format!("bob/yard/{number}"));
        let (world, element) = (WorldId::from_bytes([1; 16]), ElementId::from_bytes([number; 16]));
        Changes::from([(key, Some(Row::CachedPlace(CachedPlace { world, element })))])
    }
}
