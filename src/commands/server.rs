//! Server entries: who was met, and what they may.

use std::sync::Arc;

use serde_json::json;

use crate::model::{
    Code, Json, Key, Limit, Name, Problem, ProtectionState, Row, Server, ServerId, ServerState,
    SignedRecord, SystemType, unhex,
};
use crate::step::{Halt, Step};
use crate::trust::{Verified, decode_record};

/// Addresses that are kept for a server.
const ADDRESSES_MAX: usize = 8;

fn shown(step: &Step<'_>, server: &Server) -> Json {
    let mut json = server.to_json();
    let contact = step.stored().contact(server.id);
    let limit = server.limit.unwrap_or(Limit::STRANGERS);
    json["calls_made"] = json!(contact.calls_made);
    json["over_limit"] = json!(contact.over_limit);
    json["limit"] = json!(limit);
    json["connected"] = json!(contact.connected);
    json["last_contact"] = json!(contact.last_at.map(|at| at.to_string()));
    json["next_try"] = json!(contact.next_try_at.map(|at| at.to_string()));
    json["faults"] = json!(contact.faults);
    json
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let this = &*step;
    super::page::list(
        this,
        |id| Key::Server(ServerId::from_bytes(id)),
        |row| match row {
            Row::Server(server) => Some(shown(this, server)),
            _ => None,
        },
    )
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = step.server(step.word("server"))?;
    Ok(shown(step, &server))
}

pub(super) fn set(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let server = step.server(step.word("server"))?;
    let name = step.name(step.word("name"))?;
    let holder = step.stored().id_at(Key::ServerName(name.key()))?;
    if holder.is_some_and(|holder| holder != *server.id.as_bytes())
        || name.key() == step.setting.name.key()
    {
        return Err(Problem::new(
            Code::NameTaken,
            format!("another server is called '{name}' already"),
        )
        .into());
    }
    step.change(Key::ServerName(server.name.key()), None)?;
    step.put(Key::ServerName(name.key()), Row::Id(*server.id.as_bytes()))?;
    let renamed = Server { name: name.clone(), ..server.as_ref().clone() };
    step.put(Key::Server(server.id), Row::Server(Arc::new(renamed)))?;
    Ok(json!({"id": server.id, "name": name}))
}

fn change(step: &mut Step<'_>, change: impl FnOnce(&mut Server)) -> Result<Json, Halt> {
    step.check_operator()?;
    let server = step.server(step.word("server"))?;
    let mut changed = server.as_ref().clone();
    change(&mut changed);
    let json = shown(step, &changed);
    step.put(Key::Server(server.id), Row::Server(Arc::new(changed)))?;
    Ok(json)
}

pub(super) fn allow(step: &mut Step<'_>) -> Result<Json, Halt> {
    change(step, |server| server.allowed = ServerState::Allowed)
}

pub(super) fn deny(step: &mut Step<'_>) -> Result<Json, Halt> {
    let json = change(step, |server| server.allowed = ServerState::Denied)?;
    let server = step.server(step.word("server"))?;
    for row in super::protection::of_server(step, server.id)? {
        super::protection::end(step, &row, ProtectionState::Dropped)?;
    }
    Ok(json)
}

pub(super) fn pause(step: &mut Step<'_>) -> Result<Json, Halt> {
    let now = step.now;
    change(step, |server| server.paused_at = Some(now))
}

pub(super) fn resume(step: &mut Step<'_>) -> Result<Json, Halt> {
    change(step, |server| server.paused_at = None)
}

/// A person looked at a server that was paused by itself, and lets it go on.
pub(super) fn go_on(step: &mut Step<'_>, id: ServerId) -> Result<(), Halt> {
    if let Some(server) = step.stored().server(id)? {
        let resumed = Server { paused_at: None, ..server.as_ref().clone() };
        step.put(Key::Server(id), Row::Server(Arc::new(resumed)))?;
    }
    Ok(())
}

pub(super) fn limit(step: &mut Step<'_>) -> Result<Json, Halt> {
    let count = |name: &str| step.arg(name).as_u64().and_then(|count| u32::try_from(count).ok());
    let (Some(calls_per_unit), Some(seconds_in_unit)) =
        (count("calls"), count("seconds").filter(|seconds| *seconds > 0))
    else {
        return Err(Problem::new(
            Code::WrongKind,
            "calls and seconds are whole numbers, seconds from 1",
        )
        .into());
    };
    change(step, |server| server.limit = Some(Limit { calls_per_unit, seconds_in_unit }))
}

/// The node met a server: its record is checked, and an entry made or brought up to date.
pub(super) fn met(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let bad = |says: String| Halt::from(Problem::new(Code::Usage, says));
    let id: ServerId =
        step.word("server").parse().map_err(|_| bad("the server's id is none".to_owned()))?;
    let record = SignedRecord(
        unhex(step.word("record")).ok_or_else(|| bad("the record is no hex".to_owned()))?,
    );
    let incarnation =
        step.word("incarnation").parse().map_err(|_| bad("the incarnation is none".to_owned()))?;
    let held = step.stored().server(id)?;
    let verified = match held.as_ref().and_then(|held| decode_record(&held.record).ok()) {
        Some(held) => Verified::following(&record, &held),
        None => Verified::first_seen(&record),
    };
    let verified =
        verified.map_err(|error| bad(format!("the record cannot be believed: {error}")))?;
    let claims = verified.record().name.clone();
    if verified.record().server_id() != Some(id) {
        return Err(bad("the record is of another server".to_owned()));
    }
    let mut server = match held {
        Some(held) => Server { claims, record, ..held.as_ref().clone() },
        None => {
            let called = step.text("called").and_then(|called| Name::new(called).ok());
            let name = free_name(step, called.as_ref().unwrap_or(&claims))?;
            step.put(Key::ServerName(name.key()), Row::Id(*id.as_bytes()))?;
            Server {
                id,
                name,
                claims,
                record,
                key: verified.record().key,
                sequence: verified.record().sequence,
                allowed: ServerState::Pending,
                paused_at: None,
                limit: None,
                addresses: Vec::new(),
                met_at: step.now,
                incarnation,
            }
        }
    };
    server.key = verified.record().key;
    server.sequence = verified.record().sequence;
    server.incarnation = incarnation;
    if let Some(address) = step.text("address") {
        server.addresses.retain(|held| held != address);
        server.addresses.insert(0, address.to_owned());
        server.addresses.truncate(ADDRESSES_MAX);
    }
    step.put(Key::Server(id), Row::Server(Arc::new(server)))?;
    if let Some(own) = step.own_account()? {
        let world = step.system_world();
        step.make_system_element(SystemType::Server, id.element(), own.id, world)?;
    }
    Ok(json!({"id": id}))
}

/// The name itself if it is free, else `name-2` and so on.
fn free_name(step: &Step<'_>, wanted: &Name) -> Result<Name, Halt> {
    let mut name = wanted.clone();
    let mut number = 2;
    while step.stored().id_at(Key::ServerName(name.key()))?.is_some()
        || name.key() == step.setting.name.key()
    {
        let stem: String = wanted.as_str().chars().take(56).collect();
        name = step.name(&format!("{stem}-{number}"))?;
        number += 1;
    }
    Ok(name)
}
