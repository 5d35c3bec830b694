//! Values in a `HashMap` of Arcs behind one lock: what a read from memory costs at least.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

/// Whose value, of which element, which attribute: fixed bytes, so that a look-up needs no heap.
pub(crate) type Place = [u8; 48];

/// A value as a reader keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    value: serde_json::Value,
    kind: u8,
    until_ms: u64,
    log: (u64, u64),
    seq: u64,
    outdated: bool,
}

impl Held {
    /// A value that differs from every other.
    pub(crate) fn numbered(number: u64) -> Self {
        Self {
            value: serde_json::Value::from(number),
            kind: 1,
            until_ms: number,
            log: (number, !number),
            seq: number,
            outdated: false,
        }
    }
}

/// The bytes of a place. An attribute's name is told apart by its first 16 bytes.
pub(crate) fn place(server: &[u8; 16], element: &[u8; 16], attribute: &str) -> Place {
    let mut place = [0; 48];
    place[..16].copy_from_slice(server);
    place[16..32].copy_from_slice(element);
    for (to, from) in place[32..].iter_mut().zip(attribute.bytes()) {
        *to = from;
    }
    place
}

/// The map. Readers on several threads share it.
pub(crate) struct Map(RwLock<HashMap<Place, Arc<Held>>>);

impl Map {
    /// A map that holds these.
    pub(crate) fn of(values: impl Iterator<Item = (Place, Held)>) -> Self {
        Self(RwLock::new(values.map(|(place, held)| (place, Arc::new(held))).collect()))
    }

    /// The value at a place.
    pub(crate) fn get(&self, place: &Place) -> Option<Arc<Held>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }
}
