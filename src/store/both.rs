//! The store: the truth in one file, the cache in the other.

use std::sync::{Arc, PoisonError, RwLock};

use redb::Durability;

use super::backup::{BackupError, Beside};
use super::cache::Cache;
use super::file::{self, CommitError, File, OpenError};
use super::place::{Place, Which};
use crate::model::{Changes, Contact, Damaged, Key, Row, ServerId, Snapshot};

/// What is known of contacts, handed in: it is stored nowhere.
pub type Contacts = Arc<dyn Fn(ServerId) -> Contact + Send + Sync>;

/// Both files.
pub struct Store {
    place: Box<dyn Place>,
    home: RwLock<Option<Arc<File>>>,
    cache: Arc<Cache>,
    contacts: Contacts,
}

/// The stored state of the last commit.
pub struct View {
    rows: file::Rows,
    cache: Arc<Cache>,
    contacts: Contacts,
}

impl Store {
    /// Opens both files, and makes those that are missing. A damaged cache is made anew.
    ///
    /// # Errors
    /// The truth cannot be opened.
    pub fn open(place: impl Place, contacts: Contacts) -> Result<Self, OpenError> {
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
            contacts,
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
        Ok(View { rows: home.rows()?, cache: self.cache.clone(), contacts: self.contacts.clone() })
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
            home.commit(&truth, Durability::Immediate)?;
            self.keep(
                changes
                    .iter()
                    .filter(|(key, _)| key.is_cached())
                    .map(|(key, change)| (key.clone(), change.clone()))
                    .collect(),
            );
            return Ok(());
        }
        home.commit(changes, Durability::Immediate)
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
        Ok(())
    }
}

impl Snapshot for View {
    fn row(&self, key: &Key) -> Result<Option<Row>, Damaged> {
        if key.is_cached() {
            return Ok(self.cache.row(key));
        }
        file::get(&self.rows, Which::Home, key)
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
        (self.contacts)(server)
    }
}
