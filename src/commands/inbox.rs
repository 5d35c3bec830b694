//! The inbox: what waits for a person.

use serde_json::json;

use crate::model::{EntryId, InboxKind, Json, Key, Row, peer_id_of};
use crate::step::{Halt, Step};

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    if step.check_operator().is_err() {
        // What waits so far is all for the operator; a key sees what is for its own accounts.
        return Ok(json!({"items": [], "next": null}));
    }
    let stored = step.stored();
    super::page::list(
        step,
        |id| Key::Inbox(EntryId::from_bytes(id)),
        |row| match row {
            Row::Inbox(entry) => {
                let from = stored.server(entry.from).ok().flatten();
                Some(json!({
                    "id": entry.id,
                    "kind": entry.kind,
                    "from": {
                        "server": entry.from,
                        "name": from.as_ref().map(|from| from.name.to_string()),
                        "peer_id": from.as_ref().map(|from| peer_id_of(&from.key)),
                    },
                    "asks": entry.asks,
                    "list": entry.list,
                    "since": entry.since.to_string(),
                }))
            }
            _ => None,
        },
    )
}

pub(super) fn approve(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let entry = step.inbox_entry(step.word("entry"))?;
    match entry.kind {
        InboxKind::Protection => super::protection::approved(step, &entry)?,
        InboxKind::Server => super::server::go_on(step, entry.from)?,
    }
    step.change(Key::Inbox(entry.id), None)?;
    Ok(json!({"id": entry.id}))
}

pub(super) fn deny(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let entry = step.inbox_entry(step.word("entry"))?;
    match entry.kind {
        InboxKind::Protection => super::protection::denied(step, &entry)?,
        InboxKind::Server => {}
    }
    step.change(Key::Inbox(entry.id), None)?;
    Ok(json!({"id": entry.id}))
}
