//! Tickets: made here, used by whoever joins with one.

use std::sync::Arc;

use serde_json::json;

use super::token::calling_server;
use crate::model::{
    Code, EntryId, Json, Key, Name, Problem, Protection, ProtectionState, Row, Server, ServerState,
    Ticket, hash_of_ticket, hex, parse_duration_ms, unhex,
};
use crate::step::{Halt, Step};

/// Tickets that are kept at most.
const TICKETS_MAX: usize = 1_000;
/// How long a ticket can be used where nothing is said, in milliseconds.
const LIFE_DEFAULT_MS: u64 = 3_600_000;
/// How long a ticket can be used at most, in milliseconds.
const LIFE_MAX_MS: u64 = 30 * 86_400_000;

fn all(step: &Step<'_>) -> Result<Vec<Arc<Ticket>>, Halt> {
    let key = |bytes| Key::Ticket(EntryId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), TICKETS_MAX)?;
    Ok(rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Ticket(held) => Some(held),
            _ => None,
        })
        .collect())
}

/// Makes what is stored of a ticket; the node adds where it can be reached.
pub(super) fn make(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let list = match step.text("list") {
        Some(list) => Some(step.name(list)?),
        None => None,
    };
    let world = match step.text("to") {
        Some(world) => {
            let world = step.world(Some(world))?;
            Some(super::avatar::name_of(step, &world)?)
        }
        None => None,
    };
    let life_ms = match step.text("expires") {
        None => LIFE_DEFAULT_MS,
        Some(text) => {
            parse_duration_ms(text).filter(|ms| (1_000..=LIFE_MAX_MS).contains(ms)).ok_or_else(
                || Problem::new(Code::Usage, format!("'{text}': a ticket is for 1s to 30d")),
            )?
        }
    };
    let held = all(step)?;
    // What can never be used any more makes room.
    let ended = |ticket: &Ticket| ticket.used.is_some() || ticket.ends_at <= step.now;
    let old: Vec<EntryId> =
        held.iter().filter(|ticket| ended(ticket)).map(|ticket| ticket.id).collect();
    if held.len() - old.len() >= TICKETS_MAX {
        let says = format!("there are {TICKETS_MAX} tickets already");
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    if held.len() >= TICKETS_MAX {
        for id in old {
            step.change(Key::Ticket(id), None)?;
        }
    }
    let secret: [u8; 16] = step.random();
    let id = EntryId::at(step.now, step.random());
    let ends_at = step.now.after_ms(life_ms);
    let ticket = Ticket {
        id,
        hash: hash_of_ticket(&secret),
        list: list.clone(),
        world: world.clone(),
        ends_at,
        added_at: step.now,
        used: None,
    };
    step.put(Key::Ticket(id), Row::Ticket(Arc::new(ticket)))?;
    Ok(json!({
        "id": id,
        "secret": hex(&secret),
        "list": list,
        "world": world,
        "ends_at": ends_at.to_string(),
        "ends_at_ms": ends_at.unix_ms(),
    }))
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let items: Vec<Json> = all(step)?.iter().map(|ticket| shown(step, ticket)).collect();
    Ok(json!({"items": items, "next": null}))
}

fn shown(step: &Step<'_>, ticket: &Ticket) -> Json {
    let by = ticket.used.and_then(|(server, _)| step.stored().server(server).ok().flatten());
    json!({
        "id": ticket.id,
        "list": ticket.list,
        "world": ticket.world,
        "ends_at": ticket.ends_at.to_string(),
        "state": match ticket.used {
            Some(_) => "used",
            None if ticket.ends_at <= step.now => "ended",
            None => "open",
        },
        "used_by": by.map(|server| server.name.to_string()),
        "used_at": ticket.used.map(|(_, at)| at.to_string()),
        "added_at": ticket.added_at.to_string(),
    })
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let text = step.word("ticket").to_lowercase();
    let tickets = all(step)?;
    let named = tickets.iter().find(|ticket| ticket.id.to_string() == text).cloned();
    let found = match named {
        Some(found) => Some(found),
        None => step.only_part(tickets, &text, |ticket| ticket.id.to_string())?,
    };
    let found = found.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no ticket '{text}'"))
            .hint("see them with: freehold ticket ls")
    })?;
    step.change(Key::Ticket(found.id), None)?;
    Ok(json!({"id": found.id}))
}

/// We join with a ticket: its maker is told.
pub(super) fn present(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let server = step.server(step.word("server"))?;
    let args = json!({"secret": step.word("secret")});
    Err(step.forward(server.id, "ticket.use", args)?)
}

/// Somebody joins with a ticket of ours: they are approved, and have a place on its list.
pub(super) fn used(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let refused = |says: &str| Halt::from(Problem::new(Code::Refused, says));
    let secret = unhex(step.word("secret")).ok_or_else(|| refused("the ticket is none"))?;
    let hash = hash_of_ticket(&secret);
    let tickets = all(step)?;
    let ticket = tickets
        .iter()
        .find(|ticket| ticket.hash == hash)
        .ok_or_else(|| refused("there is no such ticket here, or it was revoked"))?;
    if ticket.ends_at <= step.now {
        return Err(refused("the ticket has ended"));
    }
    if let Some((by, _)) = ticket.used
        && (by != server.id || !still_stands(step, &server, ticket)?)
    {
        return Err(refused("the ticket was used already"));
    }
    if server.allowed == ServerState::Denied {
        return Err(refused("this server takes no calls from yours"));
    }
    let spent = Ticket { used: Some((server.id, step.now)), ..ticket.as_ref().clone() };
    step.put(Key::Ticket(spent.id), Row::Ticket(Arc::new(spent)))?;
    let allowed = Server { allowed: ServerState::Allowed, ..server.as_ref().clone() };
    step.put(Key::Server(server.id), Row::Server(Arc::new(allowed)))?;
    super::server::decided(step, server.id)?;
    if let Some(list) = &ticket.list {
        expect(step, &server, list)?;
    }
    Ok(json!({"list": ticket.list, "name": step.setting.name}))
}

/// Whether what a ticket gave was not taken back since: then the answer may have been lost.
fn still_stands(step: &Step<'_>, server: &Server, ticket: &Ticket) -> Result<bool, Halt> {
    let Some(list) = &ticket.list else { return Ok(server.allowed == ServerState::Allowed) };
    let held = step.stored().protection(server.id, &list.key())?;
    let stands =
        |row: &Protection| matches!(row.state, ProtectionState::Asked | ProtectionState::Active);
    Ok(held.is_some_and(|row| stands(&row)))
}

/// Lets what the server offers next for a list be accepted at once: we have said yes already.
fn expect(step: &mut Step<'_>, server: &Server, list: &Name) -> Result<(), Halt> {
    let held = step.stored().protection(server.id, &list.key())?;
    if held.is_some_and(|held| held.state == ProtectionState::Active) {
        return Ok(());
    }
    super::protection::ask_nobody(step, server, list)
}
