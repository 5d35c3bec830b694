//! What the cache lets go of, where it holds more than it may: first what was not used lately, and of that
//! the oldest.

use std::collections::HashMap;

use super::file::{self, Rows};
use super::place::Which;
use crate::model::{AccountId, Changes, Damaged, ElementId, Key, Row, Timestamp};

/// Eighths of its bound that the cache is cut down to.
const KEPT_EIGHTHS: u64 = 7;

/// How worthy a row is to be kept: whether it was used lately, and how long it is fresh.
type Worth = (bool, Timestamp);

/// What the age of a row is that of.
enum Age {
    Own(Timestamp),
    Account(AccountId),
    Element(ElementId),
}

struct Entry {
    key: Key,
    bytes: u64,
    is_used: bool,
    age: Age,
}

/// Changes that take so much out of the cache that it holds less than `bytes_max`.
pub(super) fn evicted(
    rows: &Rows,
    bytes_max: u64,
    is_used: impl Fn(&Key) -> bool,
) -> Result<Changes, Damaged> {
    let mut entries = Vec::new();
    file::each(rows, Which::Cache, |key, row, bytes| {
        let age = age_of(&row);
        entries.push(Entry { bytes, is_used: is_used(&key), age, key });
    })?;
    let stored: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut excess = stored.saturating_sub(bytes_max / 8 * KEPT_EIGHTHS);
    let worths = worths(&entries);
    let mut ranked: Vec<(Worth, Entry)> = worths.into_iter().zip(entries).collect();
    ranked.sort_by_key(|(worth, _)| *worth);
    let mut changes = Changes::new();
    for (_, entry) in ranked {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(entry.bytes);
        changes.insert(entry.key, None);
    }
    Ok(changes)
}

fn age_of(row: &Row) -> Age {
    match row {
        Row::CachedAccount(held) => Age::Own(held.until),
        Row::CachedValue(held) => Age::Own(held.until),
        Row::CachedPlace(place) => Age::Element(place.element),
        Row::Id(account) => Age::Account(AccountId::from_bytes(*account)),
        _ => Age::Own(Timestamp::from_ms(0)),
    }
}

/// What each entry is worth. A name is worth what the best of that is that it stands for.
fn worths(entries: &[Entry]) -> Vec<Worth> {
    let mut accounts: HashMap<AccountId, Worth> = HashMap::new();
    let mut elements: HashMap<ElementId, Worth> = HashMap::new();
    for entry in entries {
        let Age::Own(at) = entry.age else { continue };
        let worth = (entry.is_used, at);
        match &entry.key {
            Key::CachedAccount(id) => {
                accounts.insert(*id, worth);
            }
            Key::CachedValue(_, element, ..) => {
                let best = elements.entry(*element).or_insert(worth);
                *best = worth.max(*best);
            }
            _ => {}
        }
    }
    let none = (false, Timestamp::from_ms(0));
    let worth = |entry: &Entry| {
        let own = match &entry.age {
            Age::Own(at) => (entry.is_used, *at),
            Age::Account(id) => accounts.get(id).copied().unwrap_or(none),
            Age::Element(id) => elements.get(id).copied().unwrap_or(none),
        };
        (own.0 || entry.is_used, own.1)
    };
    entries.iter().map(worth).collect()
}
