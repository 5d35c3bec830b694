//! Types and elements of ours at other servers, and theirs here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::record;
use super::token::calling_server;
use super::visit;
use crate::model::{
    ATTRIBUTE_BYTES_MAX, Action, Code, Definition, Element, ElementId, EventKind, Json, Key, Name,
    On, PermissionState, Problem, Protection, ProtectionState, Row, Server, ServerId, ServerState,
    TypeDefinition, TypeId, World, bytes_of, hex,
};
use crate::step::{Actor, Halt, Step, above, check_acts, not_offered, outward_definition};

/// Servers that hold one type at most.
const HOLDERS_MAX: usize = 1_000;
/// Bytes of a type as it is sent.
const TYPE_BYTES_MAX: usize = 60 * 1024;
/// Attributes, events and actions of a type that is received.
const MEMBERS_MAX: usize = 768;
/// How long a value may be kept at most, in milliseconds: a day.
const CACHE_MS_MAX: u64 = 86_400_000;
/// Types of other servers that are kept here at most.
const TYPES_MAX: usize = 10_000;

fn own_type(step: &Step<'_>) -> Result<Arc<TypeDefinition>, Halt> {
    let held = step.element_type(step.word("type"), None)?;
    if step.acting()?.id != held.owner || held.home.is_some() {
        let says = format!("only the owner of '{}' may share it", held.definition.name);
        return Err(Problem::new(Code::NotPermitted, says).into());
    }
    Ok(held)
}

/// What of a type a server is sent.
fn outward(step: &Step<'_>, held: &TypeDefinition, server: ServerId) -> Result<Json, Halt> {
    let level = step.level_for(held, server)?;
    let definition = outward_definition(held, level);
    let owner = step.stored().account(held.owner)?;
    let record = owner.map_or_else(String::new, |owner| hex(&owner.record.0));
    let sent = json!({
        "type": held.id,
        "owner": record,
        "revision": held.revision,
        "definition": serde_json::to_value(&definition).unwrap_or_default(),
        "above": above(held, level),
        "retired": held.retired_at.is_some(),
    });
    if bytes_of(&sent) > TYPE_BYTES_MAX {
        let says = format!("a type that is shared has at most {TYPE_BYTES_MAX} bytes");
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    Ok(sent)
}

/// Sends a type to another server.
pub(super) fn share(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = own_type(step)?;
    let server = step.server(step.word("server"))?;
    let sent = outward(step, &held, server.id)?;
    note_holder(step, &held, server.id)?;
    Err(step.forward(server.id, "type.receive", sent)?)
}

/// Notes that a type was sent: only who was sent it holds it. Nothing of it may change from now on.
fn note_holder(step: &mut Step<'_>, held: &TypeDefinition, server: ServerId) -> Result<(), Halt> {
    let key = Key::TypeHolder(held.id, server);
    if step.stored().at(key.clone())?.is_none() {
        if holders(step, held.id)?.len() >= HOLDERS_MAX {
            let says = format!("at most {HOLDERS_MAX} servers hold one type");
            return Err(Problem::new(Code::OverLimit, says).into());
        }
        step.put(key, Row::At(0))?;
    }
    if !held.used {
        let used = TypeDefinition { used: true, ..held.clone() };
        step.put(Key::Type(held.id), Row::Type(Arc::new(used)))?;
    }
    Ok(())
}

/// Another server is not to make elements from a type any more.
pub(super) fn unshare(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = own_type(step)?;
    let server = step.server(step.word("server"))?;
    let key = Key::TypeHolder(held.id, server.id);
    if step.stored().at(key.clone())?.is_none() {
        let says = format!("'{}' does not hold the type '{}'", server.name, held.definition.name);
        return Err(Problem::new(Code::NotFound, says).into());
    }
    step.change(key, None)?;
    let tell = step.tell_of(server.id, "type.forget", json!({"type": held.id}))?;
    step.tell(tell);
    Ok(json!({"id": held.id, "server": server.name}))
}

/// The servers that hold a type, with the revision that each has.
pub(super) fn holders(step: &Step<'_>, id: TypeId) -> Result<Vec<(ServerId, u64)>, Halt> {
    let key = |bytes| Key::TypeHolder(id, ServerId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), HOLDERS_MAX)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, row)| match (key, row) {
            (Key::TypeHolder(_, server), Row::At(revision)) => Some((server, revision)),
            _ => None,
        })
        .collect())
}

/// Those who hold a type as people see them.
pub(super) fn holders_json(step: &Step<'_>, id: TypeId) -> Result<Json, Halt> {
    // Revision 0 was sent, and not taken yet.
    let taken = holders(step, id)?.into_iter().filter(|(_, revision)| *revision > 0);
    let shown = taken.map(|(server, revision)| {
        let name = super::server::name_of(step, server);
        json!({"id": server, "name": name, "revision": revision})
    });
    Ok(shown.collect())
}

/// Sends a type to a server that has not taken it yet.
pub(super) fn send_unless_held(
    step: &mut Step<'_>,
    held: &TypeDefinition,
    server: ServerId,
) -> Result<(), Halt> {
    // Revision 0: it was sent, and not taken; then it may have been refused.
    if step.stored().at(Key::TypeHolder(held.id, server))?.is_none_or(|revision| revision == 0) {
        note_holder(step, held, server)?;
        send_to(step, held.id, server)?;
    }
    Ok(())
}

/// Sends a type of ours to a server whose store went back: it may not hold it any more.
pub(super) fn send_anew(step: &mut Step<'_>, id: TypeId, server: ServerId) -> Result<(), Halt> {
    if step.stored().at(Key::TypeHolder(id, server))?.is_some() {
        send_to(step, id, server)?;
    }
    Ok(())
}

/// Sends a type again to those who hold it: it has grown, or is retired.
pub(super) fn send_again(step: &mut Step<'_>, id: TypeId) -> Result<(), Halt> {
    for (server, _) in holders(step, id)? {
        send_to(step, id, server)?;
    }
    Ok(())
}

fn send_to(step: &mut Step<'_>, id: TypeId, server: ServerId) -> Result<(), Halt> {
    let held = step.type_of(id)?;
    let sent = outward(step, &held, server)?;
    let tell = step.tell_of(server, "type.receive", sent)?;
    step.tell(tell);
    Ok(())
}

/// A server came onto a list or left it: what it holds of the types that name the list is sent anew.
pub(super) fn list_changed(step: &mut Step<'_>, list: &Name, server: ServerId) -> Result<(), Halt> {
    let key = |bytes| Key::Type(TypeId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), TYPES_MAX)?;
    for (_, row) in rows {
        let Row::Type(held) = row else { continue };
        let names = held.definition.protected.as_ref().is_some_and(|of| of.key() == list.key());
        if names
            && held.home.is_none()
            && step.stored().at(Key::TypeHolder(held.id, server))?.is_some()
        {
            send_to(step, held.id, server)?;
        }
    }
    Ok(())
}

/// Checks that a server may leave types and elements here: one that was allowed, or is on a list.
pub(super) fn check_trusted(step: &Step<'_>, server: &Server) -> Result<(), Halt> {
    let active = |row: &Arc<Protection>| row.state == ProtectionState::Active;
    let is_listed = super::protection::of_server(step, server.id)?.iter().any(active);
    if is_listed || server.allowed == ServerState::Allowed {
        return Ok(());
    }
    let us = &step.setting.name;
    Err(Problem::new(
        Code::NotListed,
        format!("{us} takes nothing from servers that it does not know"),
    )
    .hint(format!("its operator can run: freehold server allow {}", server.name))
    .into())
}

/// Checks what another server says of a type as a type file is checked.
fn checked_foreign(mut definition: Definition) -> Result<Definition, Halt> {
    super::element_type::check_references(&definition)?;
    for action in definition.actions.values_mut() {
        // Whose an action is, is said by whose the type is.
        *action = Arc::new(Action {
            defined_by: None,
            ancestor: None,
            depth: 0,
            ..action.as_ref().clone()
        });
    }
    for event in definition.events.values_mut() {
        event.every_ms = None;
    }
    let names = definition.attributes.keys().chain(definition.actions.keys());
    let misnamed_member =
        names.chain(definition.events.keys()).any(|name| Name::new(name).is_err());
    let strange = misnamed_member
        || definition.attributes.values().any(|attribute| {
            let default = &attribute.default;
            attribute.max_bytes > ATTRIBUTE_BYTES_MAX
                || attribute.cache_ms > CACHE_MS_MAX
                || !(default.is_null() || attribute.check(default.clone()).is_ok())
        });
    let misnamed = definition.actions.iter().any(|(name, action)| *name != action.name);
    let members = definition.attributes.len() + definition.actions.len() + definition.events.len();
    if strange || misnamed || members > MEMBERS_MAX || !definition.parents.is_empty() {
        let says = "the type is none that a type file could say";
        return Err(Problem::new(Code::BadType, says).into());
    }
    Ok(definition)
}

/// Whether attributes that both have are of the same kind.
fn keeps_kinds(before: &Definition, after: &Definition) -> bool {
    before
        .attributes
        .iter()
        .all(|(name, held)| after.attributes.get(name).is_none_or(|next| next.kind == held.kind))
}

/// Another server sends a type.
pub(super) fn receive(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let bad =
        |what: &str| Halt::from(Problem::new(Code::BadType, format!("the type's {what} is none")));
    let field = |name: &str| step.arg(name).clone();
    let id: TypeId = serde_json::from_value(field("type")).map_err(|_| bad("id"))?;
    let definition: Definition =
        serde_json::from_value(field("definition")).map_err(|_| bad("definition"))?;
    let above: Vec<(EventKind, Option<String>, bool)> = serde_json::from_value(field("above"))
        .map_err(|_| bad("list of what is above its level"))?;
    let definition = checked_foreign(definition)?;
    let held = step.stored().element_type(id)?;
    if held.is_none() {
        check_trusted(step, &server)?;
    }
    let user = record::of_user(step, &server, "owner")?;
    let owner = visit::know(step, &server, user, PermissionState::Known, None)?.account;
    if held.as_ref().is_some_and(|held| held.home != Some(server.id) || held.owner != owner) {
        return Err(Problem::new(Code::Refused, "that type is at home elsewhere").into());
    }
    if held.as_ref().is_some_and(|held| held.used && !keeps_kinds(&held.definition, &definition)) {
        let says = "elements were made from it: the kinds of its attributes stay";
        return Err(Problem::new(Code::TypeInUse, says).into());
    }
    let revision = step.arg("revision").as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    let retired = step.arg("retired") == &Json::Bool(true);
    let name = definition.name.clone();
    let next = TypeDefinition {
        id,
        owner,
        revision,
        used: held.as_ref().is_some_and(|held| held.used),
        definition,
        own: None,
        parents: Vec::new(),
        retired_at: retired.then_some(step.now),
        home: Some(server.id),
        public_off: false,
        actions_off: BTreeSet::new(),
        above,
    };
    if let Some(held) = &held {
        step.grow(held, &next)?;
    }
    step.put(Key::TypeName(owner, name.key()), Row::Id(*id.as_bytes()))?;
    step.put(Key::Type(id), Row::Type(Arc::new(next)))?;
    let tell = step.tell_of(server.id, "type.held", json!({"type": id, "revision": revision}))?;
    step.tell(tell);
    Ok(json!({"id": id, "name": name, "revision": revision, "server": step.setting.name}))
}

/// Another server has what we sent of a type.
pub(super) fn held(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let id: TypeId = step.word("type").parse().map_err(|_| not_offered("type"))?;
    let revision = step.arg("revision").as_u64().unwrap_or(1);
    if step.stored().at(Key::TypeHolder(id, server.id))?.is_none() {
        return Err(not_offered("type").into());
    }
    step.put(Key::TypeHolder(id, server.id), Row::At(revision))?;
    Ok(json!({"id": id}))
}

/// The home of a type does not share it with us any more.
pub(super) fn forget(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let id: TypeId = step.word("type").parse().map_err(|_| not_offered("type"))?;
    if let Some(held) = step.stored().element_type(id)?.filter(|held| held.home == Some(server.id))
    {
        let retired = TypeDefinition { retired_at: Some(step.now), ..held.as_ref().clone() };
        step.put(Key::Type(id), Row::Type(Arc::new(retired)))?;
    }
    Ok(json!({"id": id}))
}

fn named_type(step: &Step<'_>) -> Result<Arc<TypeDefinition>, Halt> {
    let text = step.word("type");
    let id: TypeId = text.parse().map_err(|_| not_offered(text))?;
    let held = step.stored().element_type(id)?.filter(|held| held.home.is_none());
    held.ok_or_else(|| not_offered(text).into())
}

/// Another server asks whether somebody there may make an element from a type of ours.
pub(super) fn ask(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let held = named_type(step)?;
    if step.stored().at(Key::TypeHolder(held.id, server.id))?.is_none() {
        return Err(not_offered(step.word("type")).into());
    }
    let name = &held.definition.name;
    if held.retired_at.is_some() {
        let says = format!("the type '{name}' is retired: no elements are made from it any more");
        return Err(Problem::new(Code::Conflict, says).into());
    }
    if step.is_owners_alone(Actor::Caller, &held.definition.create_group, &held)? {
        let says = format!("you may not make elements from the type '{name}'");
        return Err(Problem::new(Code::NotPermitted, says)
            .hint("its owner says who may, with create_group in its file")
            .into());
    }
    Ok(json!({"id": held.id}))
}

/// Another server asks an action of a type of ours before something happens there.
pub(super) fn decide(step: &mut Step<'_>) -> Result<Json, Halt> {
    run_action(step, |on| !matches!(on, On::After(_)))
}

/// Another server has an action of a type of ours run after something has happened there.
pub(super) fn run(step: &mut Step<'_>) -> Result<Json, Halt> {
    run_action(step, |on| matches!(on, On::After(_)))
}

fn run_action(step: &mut Step<'_>, fits: fn(&On) -> bool) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let held = named_type(step)?;
    if step.stored().at(Key::TypeHolder(held.id, server.id))?.is_none() {
        return Err(not_offered(step.word("type")).into());
    }
    let action = step.word("action");
    if !held.definition.actions.get(action).is_some_and(|action| fits(&action.on)) {
        return Err(not_offered(action).into());
    }
    let id: ElementId =
        step.word("element").parse().map_err(|_| not_offered(step.word("element")))?;
    let element = match copied(step, id, server.id)? {
        Some(element) => element,
        None => Arc::new(described(step, &held, id)?),
    };
    let reply = step.run_for_copy(&held, action, &element, step.arg("data").clone())?;
    Ok(json!({"reply": reply}))
}

/// An element of ours of which a server holds a copy.
fn copied(step: &Step<'_>, id: ElementId, server: ServerId) -> Result<Option<Arc<Element>>, Halt> {
    match step.stored().id_at(Key::ElementHolder(id, server))? {
        Some(world) => Ok(step.stored().element(crate::model::WorldId::from_bytes(world), id)?),
        None => Ok(None),
    }
}

/// An element of another server, as it describes it: with the values that it says.
fn described(step: &Step<'_>, held: &TypeDefinition, id: ElementId) -> Result<Element, Halt> {
    let values = step.checked_values(held, step.arg("values"))?;
    Ok(Element {
        id,
        world: step.system_world(),
        type_id: held.id,
        // It acts here with the rights of the type's owner, and no others.
        owner: held.owner,
        name: step.text("name").and_then(|name| Name::new(name).ok()),
        values,
        attributes_off: BTreeSet::new(),
        parents_off: BTreeSet::new(),
        in_sets: 0,
        epoch: 0,
        rests: None,
        chain: Vec::new(),
        home: None,
    })
}

/// Puts a copy of an element into a world of another server.
pub(super) fn share_element(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    super::element_life::check_owner(step, &element, "share")?;
    let to = step.word("to").to_owned();
    lend(step, &element, &to)
}

/// Puts a copy of an element of ours into a world of another server.
pub(super) fn lend(step: &mut Step<'_>, element: &Element, place: &str) -> Result<Json, Halt> {
    step.check_thing(element)?;
    check_acts(element)?;
    let Some((server, world)) = step.world_elsewhere(place)? else {
        let says = format!("'{place}' is no world of another server");
        return Err(Problem::new(Code::Usage, says).hint("write ACCOUNT@SERVER/WORLD").into());
    };
    let held = step.type_of(element.type_id)?;
    let known = step.server(&server.to_string())?;
    let data = json!({"server": server, "name": known.name});
    step.around(&[(element, EventKind::ServerAddElement)], &data, |step| {
        send_unless_held(step, &held, server)?;
        step.put(Key::ElementHolder(element.id, server), Row::Id(*element.world.as_bytes()))
    })?;
    let args = json!({
        "element": element.id,
        "type": held.id,
        "owner": record::of(step, element.owner)?,
        "name": element.name,
        "into": world,
    });
    Err(step.forward(server, "element.receive", args)?)
}

/// Takes the copies of an element back.
pub(super) fn unshare_element(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    super::element_life::check_owner(step, &element, "share")?;
    check_acts(&element)?;
    let server = step.server(step.word("server"))?;
    step.take_copy_back(element.id, server.id)?;
    Ok(json!({"id": element.id, "server": server.name}))
}

/// Another server puts a copy of an element into a world of ours.
pub(super) fn receive_element(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    check_trusted(step, &server)?;
    let bad = |what: &str| Halt::from(Problem::new(Code::Usage, format!("the {what} is none")));
    let id: ElementId = step.word("element").parse().map_err(|_| bad("element"))?;
    let type_id: TypeId = step.word("type").parse().map_err(|_| bad("type"))?;
    let user = record::of_user(step, &server, "owner")?;
    let owner = visit::know(step, &server, user, PermissionState::Known, None)?.account;
    let world = step.world(Some(step.word("into")))?;
    let held = step.type_of(type_id)?;
    if held.home != Some(server.id) {
        return Err(Problem::new(Code::Refused, "that type is at home elsewhere").into());
    }
    if step.stored().element(world.id, id)?.is_some() {
        return Ok(lent(step, id));
    }
    let name = free_or_none(step, &world)?;
    let made = step.new_element(world.id, &held, owner, name, BTreeMap::new());
    let copy = Element { id, home: Some(server.id), ..made };
    step.put_copy(&copy, &held)?;
    Ok(lent(step, id))
}

fn lent(step: &Step<'_>, id: ElementId) -> Json {
    json!({"id": id, "state": "lent", "server": step.setting.name, "world": step.word("into")})
}

/// The name that a copy has at home, where it is free here.
fn free_or_none(step: &Step<'_>, world: &World) -> Result<Option<Name>, Halt> {
    let Some(name) = step.text("name").and_then(|name| Name::new(name).ok()) else {
        return Ok(None);
    };
    let taken = step.stored().id_at(Key::ElementName(world.id, name.key()))?;
    Ok(taken.is_none().then_some(name))
}

/// The home of an element takes its copy back.
pub(super) fn forget_element(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let text = step.word("element");
    let id: ElementId = text.parse().map_err(|_| not_offered(text))?;
    for copy in step.elements_with_id(id)? {
        if copy.home == Some(server.id) {
            let held = step.type_of(copy.type_id)?;
            step.remove_element(&copy, &held)?;
        }
    }
    Ok(json!({"id": id}))
}

/// Whoever owns the world in which a copy stands removes it; its home is told.
pub(super) fn remove_copy(
    step: &mut Step<'_>,
    copy: &Element,
    home: ServerId,
) -> Result<Json, Halt> {
    let world = step.stored().world(copy.world)?;
    let account = step.acting()?.id;
    if world.is_none_or(|world| world.owner != account) {
        let says = "only the owner of the world may remove a copy that stands in it";
        return Err(Problem::new(Code::NotPermitted, says).into());
    }
    let held = step.type_of(copy.type_id)?;
    step.remove_element(copy, &held)?;
    let tell = step.tell_of(home, "element.gone", json!({"element": copy.id}))?;
    step.tell(tell);
    Ok(json!({"id": copy.id}))
}

/// Another server has no copy of an element of ours any more.
pub(super) fn gone(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let text = step.word("element");
    let id: ElementId = text.parse().map_err(|_| not_offered(text))?;
    step.change(Key::ElementHolder(id, server.id), None)?;
    Ok(json!({"id": id}))
}
