//! Lists, page by page.

use serde_json::json;

use crate::model::{Code, Json, Key, Problem, Row};
use crate::step::{Halt, Step};

/// Items of a page where the caller does not say.
const LIMIT_DEFAULT: usize = 100;
/// Items of a page at most.
const LIMIT_MAX: usize = 1_000;

/// How many items the caller wants.
pub(super) fn limit(step: &Step<'_>) -> usize {
    let wanted = step.arg("limit").as_u64().and_then(|limit| usize::try_from(limit).ok());
    wanted.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
}

/// One page of the rows whose keys `key` makes of ids. `item` shows a row, or leaves it out.
pub(super) fn list(
    step: &Step<'_>,
    key: impl Fn([u8; 16]) -> Key,
    item: impl Fn(&Row) -> Option<Json>,
) -> Result<Json, Halt> {
    let limit = limit(step);
    let first = match step.text("cursor") {
        None => [0; 16],
        Some(cursor) => after(cursor)?,
    };
    let mut items = Vec::new();
    let mut next = Json::Null;
    let rows = step.stored().rows(&key(first), &key([0xff; 16]), limit + 1)?;
    for (at, (_, row)) in rows.iter().enumerate() {
        if at == limit {
            next =
                rows.get(at - 1).map(|(held, _)| Json::from(cursor_of(held))).unwrap_or_default();
            break;
        }
        items.extend(item(row));
    }
    Ok(json!({"items": items, "next": next}))
}

/// The id after the one that a cursor holds.
fn after(cursor: &str) -> Result<[u8; 16], Halt> {
    let id: uuid::Uuid = cursor.parse().map_err(|_| {
        Problem::new(Code::Usage, "the cursor is none of ours")
            .hint("take `next` of the page before")
    })?;
    Ok(id.as_u128().saturating_add(1).to_be_bytes())
}

fn cursor_of(key: &Key) -> String {
    match key {
        Key::Account(id) => id.to_string(),
        Key::World(id) => id.to_string(),
        Key::Type(id) => id.to_string(),
        Key::Set(_, id) => id.to_string(),
        Key::Group(id) => id.to_string(),
        Key::Server(id) | Key::Protection(id, _) => id.to_string(),
        Key::Inbox(id) => id.to_string(),
        Key::ApiKey(id) => id.to_string(),
        Key::Job(id) => id.to_string(),
        _ => String::new(),
    }
}
