//! A folder whose truth is counted as it is written. Beside that it is the node's own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use freehold::store::{Folder, Place, Which};
use redb::Database;

use crate::floor::counted::{CountedFile, Counts};

/// The folder.
pub(crate) struct CountedFolder {
    /// Where the files are.
    pub(crate) folder: Folder,
    /// What was written to the truth.
    pub(crate) counts: Arc<Counts>,
}

impl Place for CountedFolder {
    fn open(
        &self,
        which: Which,
        first: &dyn Fn(&Database) -> Result<(), redb::Error>,
    ) -> Result<Database, redb::Error> {
        match which {
            Which::Cache => self.folder.open(which, first),
            Which::Home => {
                let path = self.folder.0.join("home.redb");
                let is_new = !path.exists();
                let file = CountedFile::open(&path, self.counts.clone())?;
                let database = which.builder().create_with_backend(file)?;
                if is_new {
                    first(&database)?;
                }
                Ok(database)
            }
        }
    }

    fn remove(&self, which: Which) -> io::Result<()> {
        self.folder.remove(which)
    }

    fn keep_aside(&self, which: Which) -> Option<PathBuf> {
        self.folder.keep_aside(which)
    }
}
