//! The inbox: what waits for a person.

use serde_json::json;

use crate::model::{Code, EntryId, InboxKind, Json, Key, Problem, Row, peer_id_of};
use crate::step::{Halt, Step};

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let is_operator = step.check_operator().is_ok();
    let account = step.call.caller.account();
    let stored = step.stored();
    super::page::list(
        step,
        |id| Key::Inbox(EntryId::from_bytes(id)),
        |row| match row {
            Row::Inbox(entry) => {
                if !is_operator && (entry.owner.is_none() || entry.owner != account) {
                    return None;
                }
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

/// Entries of the inbox that other servers may fill.
const INBOX_MAX: usize = 1_000;

/// Checks that there is room for one more entry.
///
/// # Errors
/// Too much waits for an answer already.
pub(super) fn check_room(step: &Step<'_>) -> Result<(), Halt> {
    let key = |bytes| Key::Inbox(EntryId::from_bytes(bytes));
    if step.stored().rows(&key([0; 16]), &key([0xff; 16]), INBOX_MAX)?.len() < INBOX_MAX {
        return Ok(());
    }
    Err(Problem::new(Code::Busy, "too much waits for an answer here")
        .with("retry_after_ms", 3_600_000)
        .into())
}

pub(super) fn approve(step: &mut Step<'_>) -> Result<Json, Halt> {
    answer(step, true)
}

pub(super) fn deny(step: &mut Step<'_>) -> Result<Json, Halt> {
    answer(step, false)
}

fn answer(step: &mut Step<'_>, yes: bool) -> Result<Json, Halt> {
    let entry = step.inbox_entry(step.word("entry"))?;
    let account = step.call.caller.account();
    if entry.owner.is_none() || entry.owner != account {
        step.check_operator()?;
    }
    match (entry.kind, yes) {
        (InboxKind::Protection, true) => super::protection::approved(step, &entry)?,
        (InboxKind::Protection, false) => super::protection::denied(step, &entry)?,
        (InboxKind::Server, true) => super::server::go_on(step, entry.from)?,
        (InboxKind::Server, false) => {}
        (InboxKind::Token, yes) => super::token::answered(step, &entry, yes)?,
        (InboxKind::Question, yes) => {
            if let Some((job, place)) = entry.waits.clone() {
                step.decide(job, place, yes);
            }
        }
    }
    step.change(Key::Inbox(entry.id), None)?;
    Ok(json!({"id": entry.id}))
}
