//! Protections: the agreement of two servers to be on each other's list.

use std::sync::Arc;

use serde_json::json;

use crate::model::{
    AccountId, Code, ElementId, EntryId, InboxEntry, InboxKind, Json, Key, Name, Problem,
    Protection, ProtectionState, Row, Server, ServerId, TypeId, hex, unhex,
};
use crate::step::{Halt, Step};
use crate::trust::{ProtectionClaim, issue_protection, verify_protection};

/// Protections with one server, and entries of the inbox, that are looked through.
const LOOK_MAX: usize = 1_000;
/// Copies of a server's values that are dropped at once.
const COPIES_MAX: usize = 5_000;

fn shown(row: &Protection, name: Option<&str>) -> Json {
    json!({
        "id": row.server,
        "list": row.list,
        "server": name.map_or_else(|| row.server.to_string(), str::to_owned),
        "state": row.state,
        "since": row.since.to_string(),
    })
}

pub(super) fn add(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let list = step.name(step.word("list"))?;
    let server = step.server(step.word("server"))?;
    let held = step.stored().protection(server.id, &list.key())?;
    if let Some(held) = held.filter(|held| held.state == ProtectionState::Active) {
        return Ok(shown(&held, Some(server.name.as_str())));
    }
    // Whoever is asked may have asked us before: then both have said yes.
    if let Some(entry) = asked_by(step, server.id, &list)? {
        approved(step, &entry)?;
        step.change(Key::Inbox(entry.id), None)?;
    } else {
        offer_to(step, &server, &list)?;
    }
    let row = step.stored().protection(server.id, &list.key())?;
    row.map(|row| shown(&row, Some(server.name.as_str())))
        .ok_or_else(|| Problem::new(Code::Internal, "the protection was not noted").into())
}

fn offer_to(step: &mut Step<'_>, server: &Server, list: &Name) -> Result<(), Halt> {
    let id = issue(step, server, list);
    store(step, list, server.id, ProtectionState::Asked, &id, Vec::new())?;
    let args = json!({"list": list, "id": hex(&id)});
    let tell = step.tell_of(server.id, "protection.offer", args)?;
    step.tell(tell);
    Ok(())
}

fn issue(step: &mut Step<'_>, server: &Server, list: &Name) -> Vec<u8> {
    let claim = ProtectionClaim {
        issuer: step.setting.us,
        subject: server.id,
        holder: server.key,
        list: list.clone(),
        nonce: step.random(),
        issued_at: step.now,
    };
    issue_protection(&step.setting.keys, &claim)
}

fn store(
    step: &mut Step<'_>,
    list: &Name,
    server: ServerId,
    state: ProtectionState,
    issued: &[u8],
    held: Vec<u8>,
) -> Result<(), Halt> {
    let issued = *blake3::hash(issued).as_bytes();
    let row = Protection { list: list.clone(), server, state, issued, held, since: step.now };
    step.put(Key::Protection(server, list.key()), Row::Protection(Arc::new(row)))?;
    super::share::list_changed(step, list, server)
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let stored = step.stored();
    super::page::list(
        step,
        |id| Key::Protection(ServerId::from_bytes(id), String::new()),
        |row| match row {
            Row::Protection(row) => {
                let server = stored.server(row.server).ok().flatten();
                Some(shown(row, server.as_ref().map(|server| server.name.as_str())))
            }
            _ => None,
        },
    )
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (row, server) = named(step)?;
    Ok(shown(&row, Some(server.name.as_str())))
}

fn named(step: &mut Step<'_>) -> Result<(Arc<Protection>, Arc<Server>), Halt> {
    let list = step.name(step.word("list"))?;
    let server = step.server(step.word("server"))?;
    match step.stored().protection(server.id, &list.key())? {
        Some(row) => Ok((row, server)),
        None => Err(Problem::new(
            Code::NotFound,
            format!("{} is not on the list '{list}'", server.name),
        )
        .hint("see the lists with: freehold protection ls")
        .into()),
    }
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let (row, server) = named(step)?;
    end(step, &row, ProtectionState::Dropped)?;
    let row =
        Protection { state: ProtectionState::Dropped, since: step.now, ..row.as_ref().clone() };
    Ok(shown(&row, Some(server.name.as_str())))
}

/// Ends a protection and tells the other side. The row stays as a tombstone.
pub(super) fn end(
    step: &mut Step<'_>,
    row: &Protection,
    state: ProtectionState,
) -> Result<(), Halt> {
    let told = matches!(row.state, ProtectionState::Active | ProtectionState::Asked);
    let ended = Protection { state, since: step.now, held: Vec::new(), ..row.clone() };
    step.put(Key::Protection(row.server, row.list.key()), Row::Protection(Arc::new(ended)))?;
    forget_copies(step, row.server)?;
    super::share::list_changed(step, &row.list, row.server)?;
    if told {
        let tell = step.tell_of(row.server, "protection.refuse", json!({"list": row.list}))?;
        step.tell(tell);
    }
    Ok(())
}

/// Every protection with a server.
pub(super) fn of_server(step: &Step<'_>, server: ServerId) -> Result<Vec<Arc<Protection>>, Halt> {
    let first = Key::Protection(server, String::new());
    let rows =
        step.stored().rows(&first, &Key::Protection(server, "\u{10ffff}".to_owned()), LOOK_MAX)?;
    let rows = rows.into_iter().filter_map(|(_, row)| match row {
        Row::Protection(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}

fn asked_by(
    step: &Step<'_>,
    server: ServerId,
    list: &Name,
) -> Result<Option<Arc<InboxEntry>>, Halt> {
    let first = Key::Inbox(EntryId::from_bytes([0; 16]));
    let rows =
        step.stored().rows(&first, &Key::Inbox(EntryId::from_bytes([0xff; 16])), LOOK_MAX)?;
    Ok(rows.into_iter().find_map(|(_, row)| match row {
        Row::Inbox(entry)
            if entry.kind == InboxKind::Protection
                && entry.from == server
                && entry.list.key() == list.key() =>
        {
            Some(entry)
        }
        _ => None,
    }))
}

/// The calling server, its list and the protection id that it gives us, checked.
fn offered(step: &mut Step<'_>) -> Result<(Arc<Server>, Name, Vec<u8>), Halt> {
    let refused = |says: &str| Halt::from(Problem::new(Code::Refused, says));
    let (server, list) = asking(step)?;
    let id = unhex(step.word("id")).ok_or_else(|| refused("the protection id is no hex"))?;
    let claim = verify_protection(&id, &server.key)
        .map_err(|_| refused("the protection id's signature does not hold"))?;
    let ours = claim.issuer == server.id
        && claim.subject == step.setting.us
        && claim.holder == step.setting.keys.public()
        && claim.list.key() == list.key();
    if !ours {
        return Err(refused("the protection id is for somebody else, or for another list"));
    }
    Ok((server, list, id))
}

fn asking(step: &mut Step<'_>) -> Result<(Arc<Server>, Name), Halt> {
    let list = step.name(step.word("list"))?;
    let server = match step.call.caller.server() {
        Some(server) => step.stored().server(server)?,
        None => None,
    };
    match server {
        Some(server) => Ok((server, list)),
        None => Err(Problem::new(Code::Refused, "only a server that was met may ask this").into()),
    }
}

/// Types that one sentence names at most.
const TYPES_NAMED_MAX: usize = 5;

/// Which types name a list, as the end of a sentence.
fn types_of_list(step: &Step<'_>, list: &Name) -> Result<String, Halt> {
    let key = |bytes| Key::Type(TypeId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), LOOK_MAX)?;
    let names: Vec<String> = rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Type(held) => Some(held),
            _ => None,
        })
        .filter(|held| held.definition.protected.as_ref().is_some_and(|of| of.key() == list.key()))
        .take(TYPES_NAMED_MAX)
        .map(|held| held.definition.name.to_string())
        .collect();
    Ok(if names.is_empty() { String::new() } else { format!("; it is for: {}", names.join(", ")) })
}

/// Another server asks for a place on our list, and gives us one on its own.
pub(super) fn offer(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (server, list, id) = offered(step)?;
    let held = step.stored().protection(server.id, &list.key())?;
    if held
        .as_ref()
        .is_some_and(|held| held.state == ProtectionState::Denied && refused_by_us(held))
    {
        let args = json!({"list": list});
        let tell = step.tell_of(server.id, "protection.refuse", args)?;
        step.tell(tell);
        return Ok(json!({"state": ProtectionState::Denied}));
    }
    let agreed = held
        .is_some_and(|held| matches!(held.state, ProtectionState::Asked | ProtectionState::Active));
    if agreed {
        accept_from(step, &server, &list, id)?;
        return Ok(json!({"state": ProtectionState::Active}));
    }
    let named_by = types_of_list(step, &list)?;
    let asks = format!(
        "{} asks to be on your list '{list}', and puts you on its own{named_by}",
        server.name
    );
    let old = asked_by(step, server.id, &list)?;
    if old.is_none() {
        super::inbox::check_room(step, server.id)?;
    }
    let id_of_entry = match old {
        Some(old) => old.id,
        None => EntryId::at(step.now, step.random()),
    };
    let entry = InboxEntry {
        id: id_of_entry,
        kind: InboxKind::Protection,
        from: server.id,
        asks,
        list,
        protection: id,
        since: step.now,
        owner: None,
        waits: None,
        later_until: None,
    };
    step.put(Key::Inbox(id_of_entry), Row::Inbox(Arc::new(entry)))?;
    Ok(json!({"state": ProtectionState::Asked}))
}

/// Gives a server new ids for the lists on which it is: its key, or ours, is another.
pub(super) fn renew(step: &mut Step<'_>, server: &Server) -> Result<(), Halt> {
    for row in of_server(step, server.id)? {
        if row.state == ProtectionState::Active {
            accept_from(step, server, &row.list, row.held.clone())?;
        }
    }
    Ok(())
}

/// Whether it was us who said no for good: then no id was ever issued.
fn refused_by_us(held: &Protection) -> bool {
    held.issued == *blake3::hash(&[]).as_bytes()
}

/// Notes that we said yes to a server for a list before it offers us its own.
pub(super) fn ask_nobody(step: &mut Step<'_>, server: &Server, list: &Name) -> Result<(), Halt> {
    let id = issue(step, server, list);
    store(step, list, server.id, ProtectionState::Asked, &id, Vec::new())
}

/// Both sides have said yes: we store its id, and give it ours.
fn accept_from(
    step: &mut Step<'_>,
    server: &Server,
    list: &Name,
    held: Vec<u8>,
) -> Result<(), Halt> {
    let id = issue(step, server, list);
    store(step, list, server.id, ProtectionState::Active, &id, held)?;
    let tell =
        step.tell_of(server.id, "protection.accept", json!({"list": list, "id": hex(&id)}))?;
    step.tell(tell);
    Ok(())
}

/// A person said yes to what another server asked.
pub(super) fn approved(step: &mut Step<'_>, entry: &InboxEntry) -> Result<(), Halt> {
    let Some(server) = step.stored().server(entry.from)? else {
        return Err(
            Problem::new(Code::NotFound, "the server that asked is not known any more").into()
        );
    };
    accept_from(step, &server, &entry.list, entry.protection.clone())
}

/// A person said no to what another server asked.
pub(super) fn denied(step: &mut Step<'_>, entry: &InboxEntry, remember: bool) -> Result<(), Halt> {
    if remember {
        // It is not asked again: the row says no for us.
        store(step, &entry.list, entry.from, ProtectionState::Denied, &[], Vec::new())?;
    }
    let tell = step.tell_of(entry.from, "protection.refuse", json!({"list": entry.list}))?;
    step.tell(tell);
    Ok(())
}

/// The other server said yes to what we asked.
pub(super) fn accept(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (server, list, id) = offered(step)?;
    let held = step.stored().protection(server.id, &list.key())?;
    match held {
        Some(held) if matches!(held.state, ProtectionState::Asked | ProtectionState::Active) => {
            let row = Protection {
                state: ProtectionState::Active,
                held: id,
                since: step.now,
                ..held.as_ref().clone()
            };
            step.put(Key::Protection(server.id, list.key()), Row::Protection(Arc::new(row)))?;
            super::share::list_changed(step, &list, server.id)?;
            Ok(json!({"state": ProtectionState::Active}))
        }
        Some(_) | None => {
            Err(Problem::new(Code::Refused, format!("'{list}' was not asked of you")).into())
        }
    }
}

/// The other server said no to what we asked, or ended what we had.
pub(super) fn refuse(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (server, list) = asking(step)?;
    if let Some(entry) = asked_by(step, server.id, &list)? {
        step.change(Key::Inbox(entry.id), None)?;
    }
    let Some(held) = step.stored().protection(server.id, &list.key())? else {
        return Ok(json!({"state": null}));
    };
    let state = match held.state {
        ProtectionState::Asked => ProtectionState::Denied,
        ProtectionState::Active => ProtectionState::Dropped,
        ended @ (ProtectionState::Denied | ProtectionState::Dropped) => ended,
    };
    let row = Protection { state, held: Vec::new(), since: step.now, ..held.as_ref().clone() };
    step.put(Key::Protection(server.id, list.key()), Row::Protection(Arc::new(row)))?;
    forget_copies(step, server.id)?;
    super::share::list_changed(step, &list, server.id)?;
    Ok(json!({"state": state}))
}

/// Drops what we hold of a server's values: the right to them may be lost.
fn forget_copies(step: &mut Step<'_>, server: ServerId) -> Result<(), Halt> {
    let first = Key::CachedValue(server, ElementId::from_bytes([0; 16]), None, String::new());
    let all = ElementId::from_bytes([0xff; 16]);
    let last = Key::CachedValue(
        server,
        all,
        Some(AccountId::from_bytes([0xff; 16])),
        "\u{10ffff}".to_owned(),
    );
    for (key, _) in step.stored().rows(&first, &last, COPIES_MAX)? {
        step.change(key, None)?;
    }
    Ok(())
}
