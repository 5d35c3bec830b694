//! Elements are made, destroyed, given away, and switched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use crate::model::{
    Account, Code, Element, ElementId, EventKind, Json, Key, Name, On, Problem, Row,
    TypeDefinition, World,
};
use crate::step::{Actor, Halt, Step};

/// Elements that one call makes at most.
const BATCH_MAX: u64 = 10_000;

pub(super) fn create(step: &mut Step<'_>) -> Result<Json, Halt> {
    let world = step.world(step.text("world"))?;
    let owner = step.acting()?;
    let element_type = step.element_type(step.word("type"), Some(world.owner))?;
    check_creation(step, &world, &element_type, &owner)?;
    let values = values(step, &element_type)?;
    match step.arg("count").as_u64() {
        None => create_one(step, &world, &element_type, &owner, values),
        Some(count) => create_many(step, &world, &element_type, &owner, &values, count),
    }
}

/// Who makes something in a world is its owner; the type says who may make elements from it.
fn check_creation(
    step: &Step<'_>,
    world: &World,
    element_type: &TypeDefinition,
    owner: &Account,
) -> Result<(), Halt> {
    super::world::check_owner(step, world)?;
    let name = &element_type.definition.name;
    if element_type.retired_at.is_some() {
        let says = format!("the type '{name}' is retired: no elements are made from it any more");
        return Err(Problem::new(Code::Conflict, says).into());
    }
    let group = &element_type.definition.create_group;
    if owner.id != element_type.owner && step.is_owners_alone(Actor::Caller, group, element_type)? {
        let says = format!("you may not make elements from the type '{name}'");
        return Err(Problem::new(Code::NotPermitted, says)
            .hint("its owner says who may, with create_group in its file")
            .into());
    }
    Ok(())
}

fn values(step: &Step<'_>, element_type: &TypeDefinition) -> Result<BTreeMap<String, Json>, Halt> {
    let mut values = BTreeMap::new();
    for (attribute, value) in step.arg("values").as_object().into_iter().flatten() {
        let definition = step.attribute(element_type, attribute)?;
        if definition.is_static {
            let says = format!("'{attribute}' is the type's, the same for all its elements");
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        let value = definition.check(value.clone()).map_err(|mistake| {
            Problem::new(Code::WrongKind, format!("'{attribute}': {mistake}"))
        })?;
        values.insert(attribute.clone(), value);
    }
    Ok(values)
}

fn element(
    step: &mut Step<'_>,
    world: &World,
    element_type: &TypeDefinition,
    owner: &Account,
    values: BTreeMap<String, Json>,
) -> Element {
    Element {
        id: ElementId::at(step.now, step.random()),
        world: world.id,
        type_id: element_type.id,
        owner: owner.id,
        name: None,
        values,
        attributes_off: BTreeSet::new(),
        parents_off: BTreeSet::new(),
        in_sets: 0,
    }
}

fn create_one(
    step: &mut Step<'_>,
    world: &World,
    element_type: &Arc<TypeDefinition>,
    owner: &Account,
    values: BTreeMap<String, Json>,
) -> Result<Json, Halt> {
    let name = free_name(step, world)?;
    let element = Element { name, ..element(step, world, element_type, owner, values) };
    step.in_event(|step| make(step, &element, element_type))?;
    let id = element.id;
    let shown = element.name.map_or_else(|| id.to_string(), |name| name.to_string());
    Ok(json!({"id": id, "name": shown, "world": world.id}))
}

/// The name that the element is to have, if it is to have one.
fn free_name(step: &Step<'_>, world: &World) -> Result<Option<Name>, Halt> {
    let Some(text) = step.text("name") else { return Ok(None) };
    let name = step.name(text)?;
    if step.stored().id_at(Key::ElementName(world.id, name.key()))?.is_some() {
        let says = format!("the world '{}' has a '{name}' already", world.name);
        return Err(Problem::new(Code::NameTaken, says).into());
    }
    Ok(Some(name))
}

/// Makes many elements alike. Who refuses one of them refuses all.
fn create_many(
    step: &mut Step<'_>,
    world: &World,
    element_type: &Arc<TypeDefinition>,
    owner: &Account,
    values: &BTreeMap<String, Json>,
    count: u64,
) -> Result<Json, Halt> {
    if !(1..=BATCH_MAX).contains(&count) {
        let says = format!("one call makes 1 to {BATCH_MAX} elements, not {count}");
        return Err(Problem::new(Code::Usage, says).hint("make them in several calls").into());
    }
    if step.text("name").is_some() {
        let says = "many elements cannot share one name";
        return Err(Problem::new(Code::Usage, says).into());
    }
    let first = element(step, world, element_type, owner, values.clone());
    let id = first.id;
    let data = json!({
        "type": element_type.definition.name,
        "owner": owner.id,
        "count": count,
    });
    let kind = EventKind::ElementBatchCreation;
    step.in_event(|step| {
        step.fire_before(&first, element_type, kind, None, data.clone())?;
        make(step, &first, element_type)?;
        for _ in 1..count {
            let next = element(step, world, element_type, owner, values.clone());
            make(step, &next, element_type)?;
        }
        step.note(&first, element_type, kind, data.clone());
        step.wait_after(&first, kind, None, data);
        Ok(())
    })?;
    Ok(json!({"id": id, "world": world.id, "count": count}))
}

fn life_data(element: &Element, element_type: &TypeDefinition) -> Json {
    json!({
        "name": element.name,
        "type": element_type.definition.name,
        "owner": element.owner,
    })
}

fn make(
    step: &mut Step<'_>,
    element: &Element,
    element_type: &Arc<TypeDefinition>,
) -> Result<(), Halt> {
    let kind = EventKind::ElementCreation;
    let data = life_data(element, element_type);
    let heard = |on: On| element_type.definition.listeners(&on, None).next().is_some();
    if heard(On::Before(kind)) {
        step.fire_before(element, element_type, kind, None, data.clone())?;
    }
    if !element_type.used && step.type_of(element_type.id)?.as_ref() == element_type.as_ref() {
        let used = TypeDefinition { used: true, ..element_type.as_ref().clone() };
        step.put(Key::Type(element_type.id), Row::Type(Arc::new(used)))?;
    }
    if let Some(name) = &element.name {
        step.put(Key::ElementName(element.world, name.key()), Row::Id(*element.id.as_bytes()))?;
    }
    step.put(Key::Element(element.world, element.id), Row::Element(Arc::new(element.clone())))?;
    step.reindex(element_type, None, Some(element), None)?;
    let shown = Json::from(element.name.as_ref().map(ToString::to_string));
    step.note(element, element_type, kind, shown);
    if heard(On::After(kind)) {
        step.wait_after(element, kind, None, data);
    }
    Ok(())
}

pub(super) fn destroy(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "destroy")?;
    let element_type = step.type_of(element.type_id)?;
    let kind = EventKind::ElementDestruction;
    let data = life_data(&element, &element_type);
    // What is destroyed still hears the after-event of its own end.
    step.in_event(|step| {
        let heard = step.fire_before(&element, &element_type, kind, None, data)?;
        step.wait_after(&element, kind, None, heard);
        Ok(())
    })?;
    step.remove_element(&element, &element_type)?;
    let shown = Json::from(element.name.as_ref().map(ToString::to_string));
    step.note(&element, &element_type, kind, shown);
    Ok(json!({"id": element.id}))
}

/// Checks that who acts owns the element; the node itself may end what has had its time.
fn check_owner(step: &Step<'_>, element: &Element, what: &str) -> Result<(), Halt> {
    if step.call.caller == crate::model::Caller::Node || step.acting()?.id == element.owner {
        return Ok(());
    }
    let says = format!("only its owner may {what} an element");
    Err(Problem::new(Code::NotPermitted, says).hint("name its owner with --as ACCOUNT").into())
}

pub(super) fn give(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "give away")?;
    let account = step.account_here(step.word("account"))?;
    let data = json!({"old": element.owner, "new": account.id});
    if account.id != element.owner {
        step.around(&[(&element, EventKind::ElementOwnerChange)], &data, |step| {
            let current = step.stored().element(element.world, element.id)?;
            let current = current.as_deref().unwrap_or(&element).clone();
            let given = Element { owner: account.id, ..current };
            step.put(Key::Element(given.world, given.id), Row::Element(Arc::new(given)))
        })?;
    }
    Ok(json!({"id": element.id, "owner": account.name}))
}

pub(super) fn switch(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "switch parts of")?;
    let element_type = step.type_of(element.type_id)?;
    let off = step.arg("off") == &Json::Bool(true);
    let what = step.word("part");
    let is_attribute = element_type.definition.attributes.contains_key(what);
    let (kind, attribute) = match (is_attribute, off) {
        (true, true) => (EventKind::AttributeOff, Some(what)),
        (true, false) => (EventKind::AttributeOn, Some(what)),
        (false, true) => (EventKind::ParentOff, None),
        (false, false) => (EventKind::ParentOn, None),
    };
    let parent = if is_attribute { None } else { Some(parent_named(step, &element_type, what)?) };
    let mut switched = element.as_ref().clone();
    let changed = match parent {
        None if off => switched.attributes_off.insert(what.to_owned()),
        None => switched.attributes_off.remove(what),
        Some(id) if off => switched.parents_off.insert(id),
        Some(id) => switched.parents_off.remove(&id),
    };
    if changed {
        let data = json!({"part": what});
        step.in_event(|step| {
            step.fire_before(&element, &element_type, kind, attribute, data.clone())?;
            let key = Key::Element(element.world, element.id);
            step.put(key, Row::Element(Arc::new(switched)))?;
            step.note(&element, &element_type, kind, data.clone());
            step.wait_after(&element, kind, attribute, data);
            Ok(())
        })?;
    }
    Ok(json!({"id": element.id, "part": what, "on": !off}))
}

fn parent_named(
    step: &Step<'_>,
    element_type: &TypeDefinition,
    name: &str,
) -> Result<crate::model::TypeId, Halt> {
    let found = step.element_type(name, Some(element_type.owner));
    let ancestors = step.ancestors(element_type)?;
    match found {
        Ok(parent) if ancestors.contains(&parent.id) => Ok(parent.id),
        Ok(_) | Err(_) => {
            let of = &element_type.definition.name;
            let says = format!("the type {of} has neither an attribute nor a parent '{name}'");
            Err(Problem::new(Code::NotFound, says).into())
        }
    }
}
