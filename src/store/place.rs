//! Where the two files are: a folder, or what a test puts in its place.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError};

/// Which of the two files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The truth.
    Home,
    /// What could be fetched again.
    Cache,
}

impl Which {
    /// The file's name, and its table's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Cache => "cache",
        }
    }

    /// Memory for pages, in bytes.
    const fn pages_max(self) -> usize {
        match self {
            Self::Home => 64 * 1024 * 1024,
            Self::Cache => 8 * 1024 * 1024,
        }
    }

    /// How such a file is opened.
    pub fn builder(self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.pages_max());
        builder
    }
}

/// Opens the files of a store.
pub trait Place: Send + Sync + 'static {
    /// Opens a file, or makes it. A file that appears holds at least what `first` put into it.
    ///
    /// # Errors
    /// It is damaged, in use, or cannot be read.
    fn open(
        &self,
        which: Which,
        first: &dyn Fn(&Database) -> Result<(), redb::Error>,
    ) -> Result<Database, redb::Error>;

    /// Removes a file.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, which: Which) -> io::Result<()>;

    /// Copies a damaged file aside, and says where to.
    fn keep_aside(&self, which: Which) -> Option<PathBuf>;
}

/// A folder on disk.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    fn path(&self, which: Which) -> PathBuf {
        self.0.join(format!("{}.redb", which.name()))
    }

    /// Makes a file whole before it has its name: a cut during creation leaves no half file.
    fn create(
        &self,
        which: Which,
        first: &dyn Fn(&Database) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let temporary = self.0.join(format!("{}.redb.new", which.name()));
        if temporary.exists() {
            fs::remove_file(&temporary)?;
        }
        let database = which.builder().create(&temporary).map_err(redb::Error::from)?;
        first(&database)?;
        drop(database);
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, self.path(which))?;
        sync_folder(&self.0)?;
        Ok(())
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Place for Folder {
    fn open(
        &self,
        which: Which,
        first: &dyn Fn(&Database) -> Result<(), redb::Error>,
    ) -> Result<Database, redb::Error> {
        let path = self.path(which);
        if !path.exists() {
            self.create(which, first)?;
        }
        let opened: Result<Database, DatabaseError> = which.builder().open(&path);
        opened.map_err(redb::Error::from)
    }

    fn remove(&self, which: Which) -> io::Result<()> {
        fs::remove_file(self.path(which))
    }

    fn keep_aside(&self, which: Which) -> Option<PathBuf> {
        let path = self.path(which);
        let aside = (1..1_000)
            .map(|number| self.0.join(format!("{}.redb.damaged-{number}", which.name())))
            .find(|aside| !aside.exists())?;
        fs::copy(&path, &aside).ok()?;
        Some(aside)
    }
}
