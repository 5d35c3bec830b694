//! Disks in memory. What was synced and what was only written are kept apart, so that a power cut
//! can throw away what did not reach the platter.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use freehold::store::{Place, Which};
use redb::{Database, StorageBackend};

use crate::dice::Dice;

/// The bytes of both files, at rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    home: Vec<u8>,
    cache: Vec<u8>,
}

/// How to take back a change that was not synced.
#[derive(Debug)]
enum Undo {
    Written { at: usize, before: Vec<u8> },
    Resized { length: usize, tail: Vec<u8> },
}

/// One file: its live bytes, and how to get from them to the durable ones.
#[derive(Debug, Default)]
struct Platter {
    live: Vec<u8>,
    unsynced: Vec<Undo>,
}

impl Platter {
    fn holding(bytes: &[u8]) -> Self {
        Self { live: bytes.to_vec(), unsynced: Vec::new() }
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        let end = at + data.len();
        if end > self.live.len() {
            self.resize(end);
        }
        self.unsynced.push(Undo::Written { at, before: self.live[at..end].to_vec() });
        self.live[at..end].copy_from_slice(data);
    }

    fn resize(&mut self, length: usize) {
        let tail = self.live.get(length..).unwrap_or_default().to_vec();
        self.unsynced.push(Undo::Resized { length: self.live.len(), tail });
        self.live.resize(length, 0);
    }

    /// Of what was not synced, only the first `kept` operations stay, and those are durable.
    fn cut(&mut self, kept: usize) {
        while self.unsynced.len() > kept {
            match self.unsynced.pop() {
                Some(Undo::Written { at, before }) => {
                    self.live[at..at + before.len()].copy_from_slice(&before);
                }
                Some(Undo::Resized { length, tail }) => {
                    self.live.truncate(length);
                    self.live.extend_from_slice(&tail);
                }
                None => {}
            }
        }
        self.unsynced.clear();
    }
}

#[derive(Debug, Default)]
struct State {
    home: Platter,
    cache: Platter,
    /// Counts the processes that used the disk: an earlier one can do nothing any more.
    life: u64,
    /// Changing operations until everything fails, the failing one included.
    left: Option<u64>,
}

impl State {
    fn platter(&mut self, which: Which) -> &mut Platter {
        match which {
            Which::Home => &mut self.home,
            Which::Cache => &mut self.cache,
        }
    }
}

/// A node's disk. It outlives the node's process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// A disk with these files.
    pub(crate) fn holding(image: &Image) -> Self {
        let state = State {
            home: Platter::holding(&image.home),
            cache: Platter::holding(&image.cache),
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A copy of both files.
    pub(crate) fn image(&self) -> Image {
        let state = self.state.lock().unwrap();
        Image { home: state.home.live.clone(), cache: state.cache.live.clone() }
    }

    /// Lets the `operations`th change from now on fail, and everything after it.
    pub(crate) fn fail_at(&self, operations: u64) {
        self.state.lock().unwrap().left = Some(operations);
    }

    /// The process was killed: what it wrote stays, synced or not, and it writes no more.
    pub(crate) fn kill(&self) {
        let mut state = self.state.lock().unwrap();
        state.life += 1;
        state.left = None;
    }

    /// The power was cut: what was not synced is lost, but for what had left the disk's cache.
    pub(crate) fn cut(&self, dice: &mut Dice) {
        let mut state = self.state.lock().unwrap();
        state.life += 1;
        state.left = None;
        for which in [Which::Home, Which::Cache] {
            let platter = state.platter(which);
            let kept = if dice.chance(500) { 0 } else { dice.index(platter.unsynced.len() + 1) };
            platter.cut(kept);
        }
    }
}

impl Place for Disk {
    fn open(
        &self,
        which: Which,
        first: &dyn Fn(&Database) -> Result<(), redb::Error>,
    ) -> Result<Database, redb::Error> {
        let (life, is_new) = {
            let mut state = self.state.lock().unwrap();
            (state.life, state.platter(which).live.is_empty())
        };
        let backend = Backend { state: self.state.clone(), which, life };
        let database = which.builder().create_with_backend(backend).map_err(redb::Error::from)?;
        if is_new {
            first(&database)?;
        }
        Ok(database)
    }

    fn remove(&self, which: Which) -> io::Result<()> {
        *self.state.lock().unwrap().platter(which) = Platter::default();
        Ok(())
    }

    fn keep_aside(&self, _which: Which) -> Option<PathBuf> {
        None
    }
}

/// One file as one process has it open.
#[derive(Debug)]
struct Backend {
    state: Arc<Mutex<State>>,
    which: Which,
    life: u64,
}

impl Backend {
    /// The disk, if this process still has it.
    fn reach(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap();
        if state.life != self.life || state.left == Some(0) {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(state)
    }

    /// The disk, for a change.
    fn reach_to_change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.reach()?;
        if let Some(left) = &mut state.left {
            *left -= 1;
        }
        if state.left == Some(0) {
            return Err(io::Error::other("the machine went off"));
        }
        Ok(state)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.reach()?.platter(self.which).live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let mut state = self.reach()?;
        let at = usize::try_from(offset).unwrap();
        let held = state.platter(self.which).live.get(at..at + out.len());
        out.copy_from_slice(held.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let length = usize::try_from(len).unwrap();
        self.reach_to_change()?.platter(self.which).resize(length);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.reach_to_change()?.platter(self.which).unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let at = usize::try_from(offset).unwrap();
        self.reach_to_change()?.platter(self.which).write(at, data);
        Ok(())
    }
}
