//! Backups: one file that holds the truth as it was at one moment, and the small files beside it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::encode::{key_from, row_from};
use super::file::{ABOUT, File, OpenError, ROWS, SCHEMA};
use super::place::{Folder, Which};

/// The small files by their names: the hash of each, and what it holds.
const FILES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("files");
/// Rows that are copied in one transaction.
const AT_ONCE: usize = 50_000;

/// A small file beside the store: its name, and what it holds.
pub type Beside = (String, Vec<u8>);

/// A backup cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file is there already; nothing is overwritten.
    #[error("{0} is there already")]
    Exists(String),
    /// It is no backup, or damaged.
    #[error("it is no backup of this program, or damaged: {0}")]
    Damaged(String),
    /// It cannot be read or written.
    #[error("{0}")]
    Io(String),
}

impl From<redb::Error> for BackupError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                Self::Io(error.to_string())
            }
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// Writes what a file of the store holds now, and the files beside it, to a new file.
pub(super) fn write(from: &File, to: &Path, beside: &[Beside]) -> Result<u64, BackupError> {
    if to.exists() {
        return Err(BackupError::Exists(to.display().to_string()));
    }
    let written = write_rows(from, to, beside);
    if written.is_err() {
        // A half backup is none.
        fs::remove_file(to).ok();
    }
    written
}

fn write_rows(from: &File, to: &Path, beside: &[Beside]) -> Result<u64, BackupError> {
    let damaged = |error: &dyn std::fmt::Display| BackupError::Damaged(error.to_string());
    let database = Database::create(to).map_err(redb::Error::from)?;
    let rows = from.rows().map_err(|error| damaged(&error))?;
    let copied = copy(&rows, &database)?;
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut files = transaction.open_table(FILES).map_err(redb::Error::from)?;
        for (name, bytes) in beside {
            let summed = [blake3::hash(bytes).as_bytes(), bytes.as_slice()].concat();
            files.insert(name.as_str(), summed.as_slice()).map_err(redb::Error::from)?;
        }
        let mut about = transaction.open_table(ABOUT).map_err(redb::Error::from)?;
        about.insert("schema", SCHEMA).map_err(redb::Error::from)?;
    }
    transaction.commit().map_err(redb::Error::from)?;
    Ok(copied)
}

/// Copies every row into another database, checking each.
fn copy(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    to: &Database,
) -> Result<u64, BackupError> {
    let mut copied = 0;
    let mut all = rows.iter().map_err(redb::Error::from)?.peekable();
    loop {
        let transaction = to.begin_write().map_err(redb::Error::from)?;
        {
            let mut table = transaction.open_table(ROWS).map_err(redb::Error::from)?;
            for found in all.by_ref().take(AT_ONCE) {
                let (raw, value) = found.map_err(redb::Error::from)?;
                check(raw.value(), value.value())?;
                table.insert(raw.value(), value.value()).map_err(redb::Error::from)?;
                copied += 1;
            }
        }
        transaction.commit().map_err(redb::Error::from)?;
        if all.peek().is_none() {
            return Ok(copied);
        }
    }
}

fn check(raw: &[u8], value: &[u8]) -> Result<(), BackupError> {
    let damaged = || BackupError::Damaged(format!("the row {raw:02x?}"));
    let key = key_from(raw).ok_or_else(damaged)?;
    row_from(Which::Home.name(), &key, raw, value).map(|_| ()).map_err(|_| damaged())
}

/// Puts what a backup holds into a folder that has no store. `keep` puts the files beside it where they
/// belong, before the store is there.
///
/// # Errors
/// It is no backup, or the folder has a store already. Nothing is left behind then.
pub fn restore<E: std::fmt::Display>(
    from: &Path,
    folder: &Folder,
    keep: impl FnOnce(&[Beside]) -> Result<(), E>,
) -> Result<(), BackupError> {
    let home = folder.0.join("home.redb");
    if home.exists() {
        return Err(BackupError::Exists(home.display().to_string()));
    }
    let temporary = folder.0.join("home.redb.restored");
    fs::remove_file(&temporary).ok();
    // redb panics on some damage; what it unwinds through is dropped here.
    let restored = catch_unwind(AssertUnwindSafe(|| restore_into(from, &temporary)))
        .unwrap_or_else(|_| Err(BackupError::Damaged("it makes no sense as a store".to_owned())));
    let named = restored.and_then(|beside| {
        keep(&beside).map_err(|error| BackupError::Io(error.to_string()))?;
        fs::File::open(&temporary)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &home))
            .and_then(|()| fs::File::open(&folder.0)?.sync_all())
            .map_err(|error| BackupError::Io(error.to_string()))
    });
    if named.is_err() {
        fs::remove_file(&temporary).ok();
    }
    named
}

fn restore_into(from: &Path, to: &Path) -> Result<Vec<Beside>, BackupError> {
    if !from.is_file() {
        return Err(BackupError::Io(format!("{} is no file", from.display())));
    }
    let backup = Database::open(from).map_err(redb::Error::from)?;
    let reading = backup.begin_read().map_err(redb::Error::from)?;
    let about = reading.open_table(ABOUT).map_err(redb::Error::from)?;
    let schema = about.get("schema").map_err(redb::Error::from)?.map(|schema| schema.value());
    if schema != Some(SCHEMA) {
        return Err(BackupError::Damaged(format!("its schema is {schema:?}, not {SCHEMA}")));
    }
    let rows = reading.open_table(ROWS).map_err(redb::Error::from)?;
    let database = Which::Home.builder().create(to).map_err(redb::Error::from)?;
    copy(&rows, &database)?;
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut about = transaction.open_table(ABOUT).map_err(redb::Error::from)?;
        about.insert("schema", SCHEMA).map_err(redb::Error::from)?;
    }
    transaction.commit().map_err(redb::Error::from)?;
    let files = reading.open_table(FILES).map_err(redb::Error::from)?;
    let mut beside = Vec::new();
    for found in files.iter().map_err(redb::Error::from)? {
        let (name, bytes) = found.map_err(redb::Error::from)?;
        let checked = bytes
            .value()
            .split_first_chunk::<{ blake3::OUT_LEN }>()
            .filter(|(sum, bytes)| blake3::hash(bytes) == **sum)
            .map(|(_, bytes)| bytes.to_vec());
        let name = name.value().to_owned();
        let checked =
            checked.ok_or_else(|| BackupError::Damaged(format!("the file {name} in it")))?;
        beside.push((name, checked));
    }
    Ok(beside)
}

impl From<OpenError> for BackupError {
    fn from(error: OpenError) -> Self {
        Self::Io(error.to_string())
    }
}
