//! The inbox: what waits for a person.

use std::sync::Arc;

use serde_json::json;

use crate::model::{
    Code, EntryId, InboxEntry, InboxKind, Json, Key, Problem, Row, ServerId, parse_duration_ms,
    peer_id_of,
};
use crate::step::{Halt, Step};

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let is_operator = step.check_operator().is_ok();
    let account = step.call.caller.account();
    let (stored, now) = (step.stored(), step.now);
    let all = step.arg("all") == &Json::Bool(true);
    super::page::list(
        step,
        |id| Key::Inbox(EntryId::from_bytes(id)),
        |row| match row {
            Row::Inbox(entry) => {
                if !is_operator && (entry.owner.is_none() || entry.owner != account) {
                    return None;
                }
                if !all && entry.later_until.is_some_and(|until| now < until) {
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
                        "domain": from.as_ref().and_then(|from| from.domain.clone()),
                        "confirmed": from.as_ref().is_some_and(|from| from.confirmed_at.is_some()),
                        "known_since": from.as_ref().map(|from| from.met_at.to_string()),
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

/// Entries of the inbox that one server may fill.
const INBOX_OF_SERVER_MAX: usize = 100;

/// Checks that there is room for one more entry from a server.
///
/// # Errors
/// Too much waits for an answer already.
pub(super) fn check_room(step: &Step<'_>, from: ServerId) -> Result<(), Halt> {
    let key = |bytes| Key::Inbox(EntryId::from_bytes(bytes));
    let held = step.stored().rows(&key([0; 16]), &key([0xff; 16]), INBOX_MAX)?;
    let of_server = |(_, row): &&(Key, Row)| matches!(row, Row::Inbox(entry) if entry.from == from);
    let from_it = held.iter().filter(of_server).count();
    if held.len() < INBOX_MAX && from_it < INBOX_OF_SERVER_MAX {
        return Ok(());
    }
    Err(Problem::new(Code::Busy, "too much waits for an answer here")
        .with("retry_after_ms", 3_600_000)
        .into())
}

/// Nobody wants to see an entry for a while.
pub(super) fn later(step: &mut Step<'_>) -> Result<Json, Halt> {
    let entry = step.inbox_entry(step.word("entry"))?;
    check_answers(step, &entry)?;
    let text = step.text("after").unwrap_or("1d");
    let ms = parse_duration_ms(text).ok_or_else(|| {
        Problem::new(Code::WrongKind, format!("'{text}' is no span of time"))
            .hint("write 10m, 24h or 7d")
    })?;
    let until = step.now.after_ms(ms);
    let hidden = InboxEntry { later_until: Some(until), ..entry.as_ref().clone() };
    step.put(Key::Inbox(entry.id), Row::Inbox(Arc::new(hidden)))?;
    Ok(json!({"id": entry.id, "until": until.to_string()}))
}

/// Checks that who acts may answer an entry: whose it is, and the operator.
fn check_answers(step: &Step<'_>, entry: &InboxEntry) -> Result<(), Halt> {
    let account = step.call.caller.account();
    if entry.owner.is_none() || entry.owner != account {
        step.check_operator()?;
    }
    Ok(())
}

pub(super) fn approve(step: &mut Step<'_>) -> Result<Json, Halt> {
    answer(step, true)
}

pub(super) fn deny(step: &mut Step<'_>) -> Result<Json, Halt> {
    answer(step, false)
}

fn answer(step: &mut Step<'_>, yes: bool) -> Result<Json, Halt> {
    let entry = step.inbox_entry(step.word("entry"))?;
    check_answers(step, &entry)?;
    match (entry.kind, yes) {
        (InboxKind::Protection, true) => super::protection::approved(step, &entry)?,
        (InboxKind::Protection, false) => {
            let remember = step.arg("remember") == &Json::Bool(true);
            super::protection::denied(step, &entry, remember)?;
        }
        (InboxKind::Server, yes) => super::server::answered(step, &entry, yes)?,
        (InboxKind::Move, yes) => super::moving::answered(step, &entry, yes)?,
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
