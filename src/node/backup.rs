//! Backups: written while the node runs, put back into an empty home.

use std::path::Path;

use serde_json::json;

use super::home::Home;
use super::start::{Node, StartError};
use crate::model::{Code, Incarnation, Json, Problem};
use crate::store::{BackupError, Beside, Folder, restore as restore_store};

/// Files of a home that go with its store.
const BESIDE: [&str; 4] = ["identity.key", "recovery.words", "freehold.toml", "bootstrap.toml"];
/// More turns than any node has answered: a store that is put back is always one that went back.
const ANSWERED_BEFORE: u64 = u64::MAX;

fn problem(error: BackupError) -> Problem {
    let says = error.to_string();
    match error {
        BackupError::Exists(_) => {
            Problem::new(Code::Conflict, says).hint("nothing is overwritten: name another")
        }
        BackupError::Damaged(_) => Problem::new(Code::Damaged, says),
        BackupError::Io(_) => Problem::new(Code::Usage, says),
    }
}

/// Writes everything that makes up the node to one new file, as it is at one moment.
pub(super) async fn back_up(node: &Node, to: &str) -> Result<Json, Problem> {
    let beside = beside(&node.home)?;
    let (store, path) = (node.store.clone(), Path::new(to).to_owned());
    let written = tokio::task::spawn_blocking(move || store.back_up(&path, &beside)).await;
    let rows = written
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?
        .map_err(problem)?;
    Ok(json!({"file": to, "rows": rows}))
}

fn beside(home: &Home) -> Result<Vec<Beside>, Problem> {
    let mut found = Vec::new();
    for name in BESIDE {
        if let Some(bytes) = home.read(name).map_err(StartError::from)? {
            found.push((name.to_owned(), bytes));
        }
    }
    Ok(found)
}

/// Puts a backup into a home that has no store and no key. At its next start the node begins a new life: what was
/// told and taken since the backup is not known to it.
///
/// # Errors
/// It is no backup, or the home has a store or a key already; then nothing has changed.
pub fn restore(path: &Path, from: &Path) -> Result<Json, Problem> {
    let (home, _) = Home::open(path).map_err(StartError::from)?;
    let key = home.path().join("identity.key");
    if key.exists() {
        return Err(problem(BackupError::Exists(key.display().to_string())));
    }
    restore_store(from, &Folder(home.path().to_owned()), |beside| {
        for (name, bytes) in beside {
            // Only names that a backup of ours has: it says nothing about other files.
            if BESIDE.contains(&name.as_str()) {
                home.write(name, bytes)?;
            }
        }
        // Without it the old life would go on, and its numbers be given twice.
        home.write_mark(Incarnation::from_bytes([0; 16]), ANSWERED_BEFORE)
    })
    .map_err(problem)?;
    Ok(json!({"home": home.path().display().to_string(), "file": from.display().to_string()}))
}
