//! One redb file: opened, read, committed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use super::encode::{key_bytes, key_from, row_bytes, row_from};
use super::place::{Place, Which};
use crate::model::{Changes, Damaged, Key, Row};

/// The schema that this version writes.
pub const SCHEMA: u64 = 1;

pub(super) const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
pub(super) const ABOUT: TableDefinition<'static, &str, u64> = TableDefinition::new("about");

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0}.redb is in use by another process")]
    InUse(&'static str),
    /// It does not read as a store.
    #[error("{name}.redb is damaged{}", aside.as_ref().map(|path| format!("; a copy was put aside as {}", path.display())).unwrap_or_default())]
    Damaged {
        /// Which.
        name: &'static str,
        /// Where a copy was put.
        aside: Option<PathBuf>,
        /// What redb said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer version of the program wrote it.
    #[error("{name}.redb has schema {found}, this version knows {SCHEMA}")]
    Newer {
        /// Which.
        name: &'static str,
        /// Its schema.
        found: u64,
    },
    /// The file cannot be read or written.
    #[error("{name}.redb cannot be opened")]
    Io {
        /// Which.
        name: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A commit did not become durable. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
#[error("the store takes no changes")]
pub struct CommitError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

pub(super) struct File {
    which: Which,
    database: Database,
}

pub(super) type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

fn first_commit(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ROWS)?;
    transaction.open_table(ABOUT)?.insert("schema", SCHEMA)?;
    transaction.commit()?;
    Ok(())
}

impl File {
    pub(super) fn open(place: &dyn Place, which: Which) -> Result<Self, OpenError> {
        let name = which.name();
        let damaged = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Damaged {
            name,
            aside: place.keep_aside(which),
            source,
        };
        // redb panics on some damage; what it unwinds through is dropped here.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = place.open(which, &first_commit)?;
            let schema = Self::schema_of(&database)?;
            Ok((database, schema))
        }));
        let (database, schema) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(redb::Error::DatabaseAlreadyOpen)) => return Err(OpenError::InUse(name)),
            Ok(Err(redb::Error::Io(error))) if error.kind() != std::io::ErrorKind::InvalidData => {
                return Err(OpenError::Io { name, source: error.into() });
            }
            Ok(Err(error)) => return Err(damaged(error.into())),
            Err(_) => return Err(damaged("it makes no sense as a store".into())),
        };
        match schema {
            Some(SCHEMA) => Ok(Self { which, database }),
            Some(found) if found > SCHEMA => Err(OpenError::Newer { name, found }),
            Some(_) | None => Err(damaged("it names no schema".into())),
        }
    }

    fn schema_of(database: &Database) -> Result<Option<u64>, redb::Error> {
        let transaction = database.begin_read()?;
        let table = transaction.open_table(ABOUT)?;
        let schema = table.get("schema")?.map(|schema| schema.value());
        transaction.open_table(ROWS)?;
        Ok(schema)
    }

    pub(super) fn rows(&self) -> Result<Rows, Damaged> {
        let open =
            || -> Result<Rows, redb::Error> { Ok(self.database.begin_read()?.open_table(ROWS)?) };
        open().map_err(|error| Damaged(format!("{}: {error}", self.which.name())))
    }

    /// Commits the changes that belong to this file. Bytes of the rows that were written.
    pub(super) fn commit(
        &self,
        changes: &Changes,
        durability: Durability,
    ) -> Result<u64, CommitError> {
        let commit = || -> Result<u64, redb::Error> {
            let mut written = 0;
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(durability)?;
            {
                let mut table = transaction.open_table(ROWS)?;
                for (key, change) in changes {
                    let raw = key_bytes(key);
                    match change {
                        Some(row) => {
                            let value = row_bytes(self.which.name(), &raw, row);
                            written += (raw.len() + value.len()) as u64;
                            table.insert(raw.as_slice(), value.as_slice())?;
                        }
                        None => {
                            table.remove(raw.as_slice())?;
                        }
                    }
                }
            }
            transaction.commit()?;
            Ok(written)
        };
        match catch_unwind(AssertUnwindSafe(commit)) {
            Ok(result) => result.map_err(|error| CommitError(error.into())),
            Err(_) => Err(CommitError("the store failed while it was written".into())),
        }
    }
}

/// Reads from a damaged file may panic inside redb: that is damage too.
fn guarded<T>(name: &str, read: impl FnOnce() -> Result<T, Damaged>) -> Result<T, Damaged> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result,
        Err(_) => Err(Damaged(name.to_owned())),
    }
}

/// A row, and how many bytes are stored of it.
pub(super) fn get(rows: &Rows, which: Which, key: &Key) -> Result<Option<(Row, usize)>, Damaged> {
    let raw = key_bytes(key);
    guarded(which.name(), || {
        let found =
            rows.get(raw.as_slice()).map_err(|error| Damaged(format!("{key:?}: {error}")))?;
        let Some(found) = found else { return Ok(None) };
        let bytes = found.value();
        Ok(Some((row_from(which.name(), key, &raw, bytes)?, bytes.len())))
    })
}

pub(super) fn range(
    rows: &Rows,
    which: Which,
    first: &Key,
    last: &Key,
    limit: usize,
) -> Result<Vec<(Key, Row)>, Damaged> {
    let (from, to) = (key_bytes(first), key_bytes(last));
    if from > to {
        return Ok(Vec::new());
    }
    guarded(which.name(), || {
        let range = rows.range(from.as_slice()..=to.as_slice());
        let range = range.map_err(|error| Damaged(format!("{first:?}: {error}")))?;
        range.take(limit).map(|found| decoded(which, found)).collect()
    })
}

/// Shows each row, and how many bytes are stored of it.
pub(super) fn each(
    rows: &Rows,
    which: Which,
    mut show: impl FnMut(Key, Row, u64),
) -> Result<(), Damaged> {
    guarded(which.name(), || {
        for found in rows.iter().map_err(|error| Damaged(error.to_string()))? {
            let bytes = found.as_ref().map_or(0, |(key, value)| size_of_row(key, value));
            let (key, row) = decoded(which, found)?;
            show(key, row, bytes);
        }
        Ok(())
    })
}

/// Bytes of all rows together.
pub(super) fn bytes(rows: &Rows, which: Which) -> Result<u64, Damaged> {
    guarded(which.name(), || {
        let mut bytes = 0;
        for found in rows.iter().map_err(|error| Damaged(error.to_string()))? {
            let (key, value) = found.map_err(|error| Damaged(error.to_string()))?;
            bytes += size_of_row(&key, &value);
        }
        Ok(bytes)
    })
}

type Guard<'a> = redb::AccessGuard<'a, &'static [u8]>;

fn size_of_row(key: &Guard<'_>, value: &Guard<'_>) -> u64 {
    (key.value().len() + value.value().len()) as u64
}

pub(super) fn last(
    rows: &Rows,
    which: Which,
    first: &Key,
    last: &Key,
) -> Result<Option<(Key, Row)>, Damaged> {
    let (from, to) = (key_bytes(first), key_bytes(last));
    if from > to {
        return Ok(None);
    }
    guarded(which.name(), || {
        let range = rows.range(from.as_slice()..=to.as_slice());
        let mut range = range.map_err(|error| Damaged(format!("{first:?}: {error}")))?;
        range.next_back().map(|found| decoded(which, found)).transpose()
    })
}

type Found<'a> = Result<(Guard<'a>, Guard<'a>), redb::StorageError>;

fn decoded(which: Which, found: Found<'_>) -> Result<(Key, Row), Damaged> {
    let (raw, value) = found.map_err(|error| Damaged(error.to_string()))?;
    let key = key_from(raw.value()).ok_or_else(|| Damaged(format!("{:02x?}", raw.value())))?;
    let row = row_from(which.name(), &key, raw.value(), value.value())?;
    Ok((key, row))
}
