//! What the system has of its own: the server's account, types that stand for accounts, servers,
//! groups and worlds, and the start of a node.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::model::{
    Account, AccountId, Call, Caller, Code, DEADLINE_DEFAULT_MS, ElementId, EventKind, GroupId,
    JobId, Json, Key, Name, Node, On, Problem, Row, ServerId, SystemType, TypeDefinition, TypeId,
    World, WorldId,
};
use crate::script::read_type;
use crate::step::{Halt, Step};

const NONE: [u8; 16] = [0; 16];
const ALL: [u8; 16] = [0xff; 16];
/// Accounts, groups, servers and worlds, each, that get elements when a home of before is opened.
const FOUND_MAX: usize = 5_000;
/// Types that are looked through for those who listen to the start.
const TYPES_MAX: usize = 10_000;
/// Elements that hear of the start, in one call; the rest follows.
const STARTED_MAX: usize = 10_000;
/// What the server's own account is called, where that is free.
const OWN_NAME: &str = "server";

/// What the system's types say.
const fn source(of: SystemType) -> &'static str {
    match of {
        SystemType::Account => {
            r#"
name = "account"
description = "Stands for an account."
[attributes.description]
kind = "string"
default = ""
read = "public"
cache = "1m"
[attributes.picture]
kind = "bytes"
default = ""
read = "public"
cache = "1m"
max_bytes = 32768
"#
        }
        SystemType::Server => {
            r#"
name = "server"
description = "Stands for a server."
[attributes.description]
kind = "string"
default = ""
read = "public"
cache = "1m"
[attributes.picture]
kind = "bytes"
default = ""
read = "public"
cache = "1m"
max_bytes = 32768
"#
        }
        SystemType::Group => {
            r#"
name = "group"
description = "Stands for a group."
[attributes.description]
kind = "string"
default = ""
"#
        }
        SystemType::Avatar => {
            r#"
name = "avatar"
description = "Somebody in a world."
[attributes.look]
kind = "string"
default = ""
read = "public"
write = "public"
write_group = "owner"
"#
        }
        SystemType::World => {
            r#"
name = "world"
description = "Stands for a world."
[attributes.description]
kind = "string"
default = ""
read = "public"
cache = "1m"
"#
        }
    }
}

/// The node has started: what the system has is there, and who listens to the start hears of it.
pub(super) fn started(step: &mut Step<'_>) -> Result<Json, Halt> {
    let begin = (TypeId::from_bytes(NONE), WorldId::from_bytes(NONE), ElementId::from_bytes(NONE));
    match step.text("after") {
        Some(after) => {
            let place = place_in(after);
            start_elements(step, place.ok_or_else(|| Problem::new(Code::Usage, "no such place"))?)
        }
        None => {
            found(step)?;
            renew(step)?;
            super::avatar::all_gone(step)?;
            start_elements(step, begin)
        }
    }
}

/// One element hears of the start.
pub(super) fn start_one(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    step.tell_started(&element)?;
    Ok(json!({"id": element.id}))
}

/// Lets elements hear of the start, type by type, from a place on. Each hears in a call of its own.
fn start_elements(step: &mut Step<'_>, from: Place) -> Result<Json, Halt> {
    let mut told = 0;
    for element_type in listening(step)?.iter().filter(|held| held.id >= from.0) {
        let (world, element) = if element_type.id == from.0 {
            (from.1, from.2)
        } else {
            (WorldId::from_bytes(NONE), ElementId::from_bytes(NONE))
        };
        let first = Key::ElementOf(element_type.id, world, element);
        let all = (WorldId::from_bytes(ALL), ElementId::from_bytes(ALL));
        let last = Key::ElementOf(element_type.id, all.0, all.1);
        for (key, _) in step.stored().rows(&first, &last, STARTED_MAX + 1)? {
            let Key::ElementOf(id, world, element) = key else { continue };
            if told >= STARTED_MAX {
                go_on(step, (id, world, element));
                return Ok(json!({"told": told}));
            }
            if let Some(element) = step.stored().element(world, element)? {
                step.start_later(&element)?;
                told += 1;
            }
        }
    }
    Ok(json!({"told": told}))
}

/// Where among the elements of types, one after another.
type Place = (TypeId, WorldId, ElementId);

fn place_in(text: &str) -> Option<Place> {
    let mut parts = text.split('/');
    let place =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(place)
}

/// The rest hears in the next call.
fn go_on(step: &mut Step<'_>, (element_type, world, element): Place) {
    let id = JobId::at(step.now, step.random());
    step.send_here(Call {
        id,
        command: "node.started".to_owned(),
        caller: Caller::Node,
        args: json!({"after": format!("{element_type}/{world}/{element}")}),
        world: None,
        meta: Json::Null,
        reply_to: None,
        deadline_at: step.now.after_ms(DEADLINE_DEFAULT_MS),
        root: step.call.root.clone(),
    });
}

/// The types of which somebody listens to the start.
fn listening(step: &Step<'_>) -> Result<Vec<Arc<TypeDefinition>>, Halt> {
    let key = |bytes| Key::Type(TypeId::from_bytes(bytes));
    let on = On::After(EventKind::NodeStarted);
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), TYPES_MAX)?;
    let hears = |held: &TypeDefinition| held.definition.listeners(&on, None).next().is_some();
    let types = rows.into_iter().filter_map(|(_, row)| match row {
        Row::Type(held) if hears(&held) => Some(held),
        _ => None,
    });
    Ok(types.collect())
}

/// Makes those of the system's types that are not there yet, and brings the attributes of those that are
/// up to date.
fn make_types(step: &mut Step<'_>, own: AccountId) -> Result<(), Halt> {
    for of in SystemType::ALL {
        let made = system_type(of, own)?;
        match step.stored().element_type(of.id())? {
            None => put_type(step, made)?,
            Some(held) => {
                let mut now = held.as_ref().clone();
                now.definition.attributes.extend(made.definition.attributes);
                if now.definition != held.definition {
                    now.revision += 1;
                    put_type(step, now)?;
                }
            }
        }
    }
    Ok(())
}

/// Makes what the system has, at the first start.
fn found(step: &mut Step<'_>) -> Result<(), Halt> {
    let world = step.system_world();
    let own = own_account(step)?;
    if step.stored().world(world)?.is_some() {
        return make_types(step, own);
    }
    make_types(step, own)?;
    let name = step.name("system")?;
    let system = World { id: world, owner: own, name, added_at: step.now };
    step.put(Key::World(world), Row::World(Arc::new(system)))?;
    step.make_system_element(SystemType::Server, step.setting.us.element(), own, world)?;
    make_elements(step, own, world)
}

/// The node has a new key: those on our lists are given new ids, and the server's own account has the
/// new record.
fn renew(step: &mut Step<'_>) -> Result<(), Halt> {
    let Some(node) = step.stored().node()?.filter(|node| node.is_rekeyed) else { return Ok(()) };
    let key = |bytes| Key::Server(ServerId::from_bytes(bytes));
    for (_, row) in step.stored().rows(&key(NONE), &key(ALL), FOUND_MAX)? {
        if let Row::Server(server) = row {
            super::protection::renew(step, &server)?;
        }
    }
    if let Some(own) = step.own_account()? {
        let renewed = Account { record: node.record.clone(), ..own.as_ref().clone() };
        step.put(Key::Account(own.id), Row::Account(Arc::new(renewed)))?;
    }
    let done = Node { is_rekeyed: false, ..node.as_ref().clone() };
    step.put(Key::Node, Row::Node(Arc::new(done)))
}

/// Gives an element to what was there before the system's types were.
fn make_elements(step: &mut Step<'_>, own: AccountId, system: WorldId) -> Result<(), Halt> {
    let accounts = |bytes| Key::Account(AccountId::from_bytes(bytes));
    let groups = |bytes| Key::Group(GroupId::from_bytes(bytes));
    let servers = |bytes| Key::Server(ServerId::from_bytes(bytes));
    let worlds = |bytes| Key::World(WorldId::from_bytes(bytes));
    let all: [&dyn Fn([u8; 16]) -> Key; 4] = [&accounts, &groups, &servers, &worlds];
    for key in all {
        for (_, row) in step.stored().rows(&key([0; 16]), &key([0xff; 16]), FOUND_MAX)? {
            match row {
                Row::Account(held) => {
                    let id = held.id.element();
                    step.make_system_element(SystemType::Account, id, held.id, system)?;
                }
                Row::Group(held) => {
                    let id = held.id.element();
                    step.make_system_element(SystemType::Group, id, held.owner, system)?;
                }
                Row::Server(held) => {
                    let id = held.id.element();
                    step.make_system_element(SystemType::Server, id, own, system)?;
                }
                Row::World(held) if held.id != system => {
                    let id = held.id.element();
                    step.make_system_element(SystemType::World, id, held.owner, held.id)?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The server's own account: it has the server's id, and the server's record.
fn own_account(step: &mut Step<'_>) -> Result<AccountId, Halt> {
    let id = AccountId::of_server(step.setting.us);
    if step.stored().account(id)?.is_some() {
        return Ok(id);
    }
    let node = step.stored().node()?;
    let node = node.ok_or_else(|| Problem::new(Code::Internal, "the store has no node"))?;
    let name = free_account_name(step)?;
    let account = Account {
        id,
        name: name.clone(),
        record: node.record.clone(),
        earlier: Vec::new(),
        added_at: step.now,
    };
    step.put(Key::Account(id), Row::Account(Arc::new(account)))?;
    step.put(Key::AccountName(name.key()), Row::Id(*id.as_bytes()))?;
    Ok(id)
}

fn free_account_name(step: &Step<'_>) -> Result<Name, Halt> {
    let mut name = step.name(OWN_NAME)?;
    let mut number = 2;
    while step.stored().id_at(Key::AccountName(name.key()))?.is_some() {
        name = step.name(&format!("{OWN_NAME}-{number}"))?;
        number += 1;
    }
    Ok(name)
}

fn system_type(of: SystemType, owner: AccountId) -> Result<TypeDefinition, Halt> {
    let file = read_type(source(of)).map_err(|mistakes| {
        Problem::new(Code::Internal, format!("the system's own type: {mistakes:?}"))
    })?;
    Ok(TypeDefinition {
        id: of.id(),
        owner,
        revision: 1,
        used: true,
        definition: file.definition,
        own: None,
        parents: Vec::new(),
        retired_at: None,
        home: None,
        public_off: false,
        actions_off: BTreeSet::new(),
        above: Vec::new(),
    })
}

fn put_type(step: &mut Step<'_>, made: TypeDefinition) -> Result<(), Halt> {
    let name = made.definition.name.key();
    step.put(Key::TypeName(made.owner, name), Row::Id(*made.id.as_bytes()))?;
    step.put(Key::Type(made.id), Row::Type(Arc::new(made)))
}
