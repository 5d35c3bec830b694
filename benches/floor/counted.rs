//! A file under redb that counts what is written to it, and how often it is synced.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

/// What was written and synced, counted where it happens.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    bytes: AtomicU64,
    syncs: AtomicU64,
}

/// What was written and synced in some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Bytes handed to the operating system.
    pub(crate) bytes: u64,
    /// Syncs of the file.
    pub(crate) syncs: u64,
}

impl Counts {
    /// What was counted since this was called before.
    pub(crate) fn take(&self) -> Written {
        Written {
            bytes: self.bytes.swap(0, Ordering::Relaxed),
            syncs: self.syncs.swap(0, Ordering::Relaxed),
        }
    }
}

/// The file. It takes no lock: nobody else has it.
#[derive(Debug)]
pub(crate) struct CountedFile {
    file: FileBackend,
    counts: Arc<Counts>,
}

impl CountedFile {
    /// Opens a file, or makes it.
    pub(crate) fn open(path: &Path, counts: Arc<Counts>) -> Result<Self, redb::Error> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file: FileBackend::new(file)?, counts })
    }
}

impl StorageBackend for CountedFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.counts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }
}
