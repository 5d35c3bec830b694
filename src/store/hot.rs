//! What the turns run on: the stored state, the turns that are being flushed, and the rows that
//! were used lately.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::both::{Store, View};
use crate::model::{
    AccountId, Change, Changes, Contact, Damaged, Json, Key, Layered, Row, ServerId, Snapshot,
};

/// Turns in memory at most.
const TURNS_MAX: usize = 32;
/// Events, jobs and items of the turns in memory at most, together.
const TURN_PARTS_MAX: usize = 8_192;
/// Rows in memory at most.
const ROWS_MAX: usize = 20_000;

/// The state after the newest turn, durable or not. Only the thread of the turns has one.
///
/// Invariant: what `rows` holds is the state after every turn in `pending`.
pub struct Hot {
    view: Option<View>,
    pending: VecDeque<Arc<Changes>>,
    rows: RefCell<HashMap<Key, Change>>,
    turns: VecDeque<(Key, Change)>,
}

impl Hot {
    /// The stored state, with nothing pending.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(store: &Store) -> Result<Self, Damaged> {
        Ok(Self {
            view: Some(store.view()?),
            pending: VecDeque::new(),
            rows: RefCell::new(HashMap::new()),
            turns: VecDeque::new(),
        })
    }

    /// Lays a turn over the state. It is not durable yet.
    pub fn push(&mut self, changes: Arc<Changes>) {
        let rows = self.rows.get_mut();
        if rows.len() + changes.len() > ROWS_MAX {
            rows.clear();
        }
        for (key, change) in changes.iter() {
            // A turn's row is large: only the newest are asked for again, as what they told is answered.
            if matches!(key, Key::Turn(_)) {
                self.turns.push_back((key.clone(), change.clone()));
                continue;
            }
            rows.insert(key.clone(), change.clone());
        }
        self.pending.push_back(changes);
        self.drop_old_turns();
    }

    fn drop_old_turns(&mut self) {
        let parts = |change: &Change| match change {
            Some(Row::Turn(turn)) => {
                turn.events.len() + turn.jobs.len() + turn.sent.len() + turn.received.len()
            }
            Some(_) | None => 0,
        };
        let mut held: usize = self.turns.iter().map(|(_, change)| parts(change)).sum();
        while self.turns.len() > TURNS_MAX || held > TURN_PARTS_MAX {
            let Some((_, change)) = self.turns.pop_front() else { return };
            held -= parts(&change);
        }
    }

    /// Notes that the oldest pending turns are durable.
    ///
    /// # Errors
    /// The stored state cannot be read.
    pub fn committed(&mut self, store: &Store, turns: usize) -> Result<(), Damaged> {
        self.view = Some(store.view()?);
        self.pending.drain(..turns.min(self.pending.len()));
        Ok(())
    }

    /// Lets go of everything, so that the file can be opened again.
    pub fn release(&mut self) {
        self.view = None;
        self.pending.clear();
        self.rows.get_mut().clear();
        self.turns.clear();
    }

    fn view(&self) -> Result<&View, Damaged> {
        self.view.as_ref().ok_or_else(|| Damaged("home: it is being opened again".to_owned()))
    }

    /// How many turns are not durable yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Asks something of the pending turns laid over the stored state, newest on top.
    fn layered<T>(
        &self,
        ask: &mut dyn FnMut(&dyn Snapshot) -> Result<T, Damaged>,
    ) -> Result<T, Damaged> {
        over(&self.pending, 0, self.view()?, ask)
    }
}

/// Lays the turns from `at` on over `below`. As deep as turns are pending, and that is bounded.
fn over<T>(
    turns: &VecDeque<Arc<Changes>>,
    at: usize,
    below: &dyn Snapshot,
    ask: &mut dyn FnMut(&dyn Snapshot) -> T,
) -> T {
    match turns.get(at) {
        None => ask(below),
        Some(top) => over(turns, at + 1, &Layered { top, below }, ask),
    }
}

impl Snapshot for Hot {
    fn row(&self, key: &Key) -> Result<Option<Row>, Damaged> {
        if key.is_cached() {
            if let Some(change) = self.pending.iter().rev().find_map(|turn| turn.get(key)) {
                return Ok(change.clone());
            }
            return self.view()?.row(key);
        }
        if let Some((_, change)) = self.turns.iter().rev().find(|(held, _)| held == key) {
            return Ok(change.clone());
        }
        if let Some(change) = self.rows.borrow().get(key) {
            return Ok(change.clone());
        }
        let row = match self.pending.iter().rev().find_map(|turn| turn.get(key)) {
            Some(change) => change.clone(),
            None => self.view()?.row(key)?,
        };
        let mut rows = self.rows.borrow_mut();
        if rows.len() >= ROWS_MAX {
            rows.clear();
        }
        if !matches!(key, Key::Turn(_)) {
            rows.insert(key.clone(), row.clone());
        }
        Ok(row)
    }

    fn rows(&self, first: &Key, last: &Key, limit: usize) -> Result<Vec<(Key, Row)>, Damaged> {
        self.layered(&mut |state| state.rows(first, last, limit))
    }

    fn last_row(&self, first: &Key, last: &Key) -> Result<Option<(Key, Row)>, Damaged> {
        self.layered(&mut |state| state.last_row(first, last))
    }

    fn contact(&self, server: ServerId) -> Contact {
        self.view.as_ref().map(|view| view.contact(server)).unwrap_or_default()
    }

    fn position(&self, account: AccountId) -> Option<Json> {
        self.view.as_ref()?.position(account)
    }
}
