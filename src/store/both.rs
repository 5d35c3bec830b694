//! The store: the truth in one file, the cache in the other.

use std::sync::{Arc, PoisonError, RwLock};

use redb::Durability;

use super::backup::{BackupError, Beside};
use super::cache::Cache;
use super::decoded::{Decoded, Generation};
use super::file::{self, CommitError, File, OpenError};
use super::place::{Place, Which};
use crate::model::{AccountId, Changes, Contact, Damaged, Json, Key, Row, ServerId, Snapshot};

/// What a state says that is stored nowhere: it is handed in, and is as it is now.
pub trait Outside: Send + Sync {
    /// What is known of the contact with a server.
    fn contact(&self, server: ServerId) -> Contact;

    /// Where somebody in a world of ours went last, if they moved since they came.
    fn position(&self, _account: AccountId) -> Option<Json> {
        None
    }
}

impl<F: Fn(ServerId) -> Contact + Send + Sync> Outside for F {
    fn contact(&self, server: ServerId) -> Contact {
        self(server)
    }
}

/// Both files.
pub struct Store {
    place: Box<dyn Place>,
    home: RwLock<Option<Arc<File>>>,
    cache: Arc<Cache>,
    decoded: Arc<Decoded>,
    outside: Arc<dyn Outside>,
}

/// The stored state of the last commit.
pub struct View {
    rows: file::Rows,
    cache: Arc<Cache>,
    decoded: Arc<Decoded>,
    /// None: it may be from before a commit or from after it.
    generation: Option<Generation>,
    outside: Arc<dyn Outside>,
}

impl Store {
    /// Opens both files, and makes those that are missing. A damaged cache is made anew.
    ///
    /// # Errors
    /// The truth cannot be opened.
    pub fn open(place: impl Place, outside: Arc<dyn Outside>) -> Result<Self, OpenError> {
        let home = File::open(&place, Which::Home)?;
        let cache = match File::open(&place, Which::Cache) {
            Err(OpenError::Damaged { name, aside, source }) => {
                // What it held can be fetched again; a copy was put aside.
                if place.remove(Which::Cache).is_err() {
                    return Err(OpenError::Damaged { name, aside, source });
                }
                File::open(&place, Which::Cache)?
            }
            opened => opened?,
        };
        Ok(Self {
            place: Box::new(place),
            home: RwLock::new(Some(Arc::new(home))),
            cache: Arc::new(Cache::new(cache)),
            decoded: Arc::default(),
            outside,
        })
    }

    /// Copies a truth with a damaged row aside, and says so.
    pub fn keep_aside(&self, damaged: Damaged) -> OpenError {
        let aside = self.place.keep_aside(Which::Home);
        OpenError::Damaged { name: Which::Home.name(), aside, source: damaged.into() }
    }

    /// The state of the last commit.
    ///
    /// # Errors
    /// The file cannot be read, or is being opened again.
    pub fn view(&self) -> Result<View, Damaged> {
        let home = self.home.read().unwrap_or_else(PoisonError::into_inner).clone();
        let home = home.ok_or_else(|| Damaged("home: it is being opened again".to_owned()))?;
        let before = self.decoded.generation();
        let rows = home.rows()?;
        let generation = before.filter(|_| self.decoded.generation() == before);
        Ok(View {
            rows,
            cache: self.cache.clone(),
            decoded: self.decoded.clone(),
            generation,
            outside: self.outside.clone(),
        })
    }

    /// Commits changes of the truth durably. They are whole there, or not at all.
    ///
    /// # Errors
    /// Nothing of them is stored; the store takes no changes until it is reopened.
    pub fn commit(&self, changes: &Changes) -> Result<(), CommitError> {
        let home = self.home.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(home) = home else { return Err(CommitError("it is being opened again".into())) };
        if changes.keys().any(Key::is_cached) {
            let truth: Changes = changes
                .iter()
                .filter(|(key, _)| !key.is_cached())
                .map(|(key, change)| (key.clone(), change.clone()))
                .collect();
            self.commit_truth(&home, &truth)?;
            self.keep(
                changes
                    .iter()
                    .filter(|(key, _)| key.is_cached())
                    .map(|(key, change)| (key.clone(), change.clone()))
                    .collect(),
            );
            return Ok(());
        }
        self.commit_truth(&home, changes)
    }

    fn commit_truth(&self, home: &File, changes: &Changes) -> Result<(), CommitError> {
        self.decoded.begin(changes);
        let committed = home.commit(changes, Durability::Immediate);
        self.decoded.end(committed.is_ok());
        committed.map(|_| ())
    }

    /// Writes the truth as it is now, and files beside it, to a new file. How many rows it holds.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub fn back_up(&self, to: &std::path::Path, beside: &[Beside]) -> Result<u64, BackupError> {
        let home = self.home.read().unwrap_or_else(PoisonError::into_inner).clone();
        let home = home.ok_or_else(|| BackupError::Io("it is being opened again".to_owned()))?;
        super::backup::write(&home, to, beside)
    }

    /// Bounds what the cache stores, in bytes; 64 MiB unless this is said.
    pub fn bound_cache(&self, bytes_max: u64) {
        self.cache.bound(bytes_max);
    }

    /// Keeps rows of the cache. They are written behind.
    pub fn keep(&self, changes: Changes) {
        self.cache.put(changes);
    }

    /// Writes what of the cache waits to be written.
    pub fn flush_cache(&self) {
        self.cache.flush();
    }

    /// Whether something of the cache waits to be written.
    pub fn cache_waits(&self) -> bool {
        self.cache.waits()
    }

    /// Opens the truth again, after an error made it refuse changes. Views must be gone by then.
    ///
    /// # Errors
    /// It cannot be opened yet; try again.
    pub fn reopen(&self) -> Result<(), OpenError> {
        let mut home = self.home.write().unwrap_or_else(PoisonError::into_inner);
        *home = None;
        let opened = File::open(self.place.as_ref(), Which::Home)?;
        *home = Some(Arc::new(opened));
        self.decoded.forget();
        Ok(())
    }
}

impl Snapshot for View {
    fn row(&self, key: &Key) -> Result<Option<Row>, Damaged> {
        if key.is_cached() {
            return Ok(self.cache.row(key));
        }
        let Some(at) = self.generation.filter(|_| !matches!(key, Key::Turn(_))) else {
            let found = file::get(&self.rows, Which::Home, key)?;
            return Ok(found.map(|(row, _)| row));
        };
        if let Some(change) = self.decoded.get(at, key) {
            return Ok(change);
        }
        let found = file::get(&self.rows, Which::Home, key)?;
        let bytes = found.as_ref().map_or(0, |(_, bytes)| *bytes);
        let row = found.map(|(row, _)| row);
        self.decoded.put(at, key, &row, bytes);
        Ok(row)
    }

    fn rows(&self, first: &Key, last: &Key, limit: usize) -> Result<Vec<(Key, Row)>, Damaged> {
        if first.is_cached() {
            return Ok(self.cache.rows(first, last, limit));
        }
        file::range(&self.rows, Which::Home, first, last, limit)
    }

    fn last_row(&self, first: &Key, last: &Key) -> Result<Option<(Key, Row)>, Damaged> {
        if first.is_cached() {
            return Ok(self.cache.rows(first, last, usize::MAX).pop());
        }
        file::last(&self.rows, Which::Home, first, last)
    }

    fn contact(&self, server: ServerId) -> Contact {
        self.outside.contact(server)
    }

    fn position(&self, account: AccountId) -> Option<Json> {
        self.outside.position(account)
    }
}
