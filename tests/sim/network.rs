//! The network between the nodes: which connections are open, who has noticed, and what becomes of
//! a message on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::dice::Dice;

/// A message as it travels.
#[derive(Clone)]
pub(crate) struct Message {
    /// Who sent it.
    pub(crate) from: usize,
    /// For whom it is.
    pub(crate) to: usize,
    /// The connection on which it was sent.
    pub(crate) connection: u64,
    /// The number that the asking side gave the batch.
    pub(crate) batch: u64,
    /// Its frame.
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, connection, batch, bytes } = self;
        let length = bytes.len();
        write!(f, "batch {batch}, {from} to {to} on {connection}, {length} bytes")
    }
}

/// How bad it is, each of 1,000.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Messages that get lost.
    pub(crate) lost: u64,
    /// Messages that arrive twice.
    pub(crate) doubled: u64,
    /// Messages that take long, and are overtaken.
    pub(crate) slow: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub(crate) const CALM: Self = Self { lost: 0, doubled: 0, slow: 0 };
}

/// Connections between pairs of nodes.
#[derive(Debug)]
pub(crate) struct Network {
    open: BTreeMap<(usize, usize), u64>,
    blocked: BTreeSet<(usize, usize)>,
    noticed: BTreeMap<(usize, usize), u64>,
    connections: u64,
    weather: Weather,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    /// No connection is open.
    pub(crate) fn new(weather: Weather) -> Self {
        Self {
            open: BTreeMap::new(),
            blocked: BTreeSet::new(),
            noticed: BTreeMap::new(),
            connections: 0,
            weather,
        }
    }

    /// The connection that is open between two nodes.
    pub(crate) fn connection(&self, a: usize, b: usize) -> Option<u64> {
        self.open.get(&pair(a, b)).copied()
    }

    /// Opens a connection, and gives it a number that no other ever had.
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> u64 {
        self.connections += 1;
        self.open.insert(pair(a, b), self.connections);
        self.connections
    }

    /// Ends the open connection. Neither side has noticed yet.
    pub(crate) fn disconnect(&mut self, a: usize, b: usize) -> Option<u64> {
        self.open.remove(&pair(a, b))
    }

    /// Lets nothing pass between two nodes.
    pub(crate) fn block(&mut self, a: usize, b: usize) {
        self.blocked.insert(pair(a, b));
    }

    /// Lets messages pass again.
    pub(crate) fn unblock(&mut self, a: usize, b: usize) {
        self.blocked.remove(&pair(a, b));
    }

    /// Whether nothing passes between two nodes.
    pub(crate) fn is_blocked(&self, a: usize, b: usize) -> bool {
        self.blocked.contains(&pair(a, b))
    }

    /// The connection that a node believes it has with a peer.
    pub(crate) fn noticed(&self, at: usize, peer: usize) -> Option<u64> {
        self.noticed.get(&(at, peer)).copied()
    }

    /// A node learns of a connection.
    pub(crate) fn notice(&mut self, at: usize, peer: usize, connection: u64) {
        self.noticed.insert((at, peer), connection);
    }

    /// A node learns that it has no connection, or forgets everything.
    pub(crate) fn forget(&mut self, at: usize, peer: usize) {
        self.noticed.remove(&(at, peer));
    }

    /// From now on nothing is blocked, lost, doubled or slow.
    pub(crate) fn calm(&mut self) {
        self.blocked.clear();
        self.weather = Weather::CALM;
    }

    /// How long each copy of a message takes, in milliseconds; none where it is lost.
    pub(crate) fn copies(
        &self,
        from: usize,
        to: usize,
        connection: u64,
        dice: &mut Dice,
    ) -> Vec<u64> {
        let passes = self.connection(from, to) == Some(connection) && !self.is_blocked(from, to);
        if !passes || dice.chance(self.weather.lost) {
            return Vec::new();
        }
        let copies = if dice.chance(self.weather.doubled) { 2 } else { 1 };
        let delay = |dice: &mut Dice| {
            if dice.chance(self.weather.slow) {
                dice.between(30, 2_500)
            } else {
                dice.between(1, 12)
            }
        };
        (0..copies).map(|_| delay(dice)).collect()
    }
}
