//! Elements are made, destroyed, given away, and switched.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::model::{
    Account, Code, Element, EventKind, Json, Key, Problem, Row, TypeDefinition, World,
};
use crate::step::{Actor, Halt, Step, check_acts};

/// Elements that one call makes at most.
const BATCH_MAX: u64 = 10_000;

pub(super) fn create(step: &mut Step<'_>) -> Result<Json, Halt> {
    let world = step.world(step.text("world"))?;
    let owner = step.acting()?;
    let element_type = step.element_type(step.word("type"), Some(world.owner))?;
    step.check_creation(Actor::Caller, &world, &element_type, owner.id)?;
    let values = step.checked_values(&element_type, step.arg("values"))?;
    match step.arg("count").as_u64() {
        None => create_one(step, &world, &element_type, &owner, values),
        Some(count) => create_many(step, &world, &element_type, &owner, &values, count),
    }
}

fn create_one(
    step: &mut Step<'_>,
    world: &World,
    element_type: &Arc<TypeDefinition>,
    owner: &Account,
    values: BTreeMap<String, Json>,
) -> Result<Json, Halt> {
    let name = match step.text("name") {
        Some(text) => Some(step.free_name(world, text)?),
        None => None,
    };
    let element = step.new_element(world.id, element_type, owner.id, name, values);
    step.in_event(|step| step.make_element(&element, element_type))?;
    let id = element.id;
    let shown = element.name.map_or_else(|| id.to_string(), |name| name.to_string());
    Ok(json!({"id": id, "name": shown, "world": world.id}))
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
    let first = step.new_element(world.id, element_type, owner.id, None, values.clone());
    let id = first.id;
    let data = json!({
        "type": element_type.definition.name,
        "owner": owner.id,
        "count": count,
    });
    let kind = EventKind::ElementBatchCreation;
    step.in_event(|step| {
        step.fire_before(&first, element_type, kind, None, data.clone())?;
        step.make_element(&first, element_type)?;
        for _ in 1..count {
            let next = step.new_element(world.id, element_type, owner.id, None, values.clone());
            step.make_element(&next, element_type)?;
        }
        step.note(&first, element_type, kind, data.clone());
        step.wait_after(&first, kind, None, data);
        Ok(())
    })?;
    Ok(json!({"id": id, "world": world.id, "count": count}))
}

pub(super) fn destroy(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    if let Some(home) = element.home {
        return super::share::remove_copy(step, &element, home);
    }
    check_owner(step, &element, "destroy")?;
    step.destroy_element(&element)?;
    Ok(json!({"id": element.id}))
}

/// Checks that who acts owns the element; the node itself may end what has had its time.
pub(super) fn check_owner(step: &Step<'_>, element: &Element, what: &str) -> Result<(), Halt> {
    if step.call.caller == crate::model::Caller::Node || step.acting()?.id == element.owner {
        return Ok(());
    }
    let says = format!("only its owner may {what} an element");
    Err(Problem::new(Code::NotPermitted, says).hint("name its owner with --as ACCOUNT").into())
}

pub(super) fn give(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "give away")?;
    check_acts(&element)?;
    step.check_thing(&element)?;
    let account = step.account_here(step.word("account"))?;
    let data = json!({"old": element.owner, "new": account.id});
    if account.id != element.owner {
        step.around(&[(&element, EventKind::ElementOwnerChange)], &data, |step| {
            let current = step.stored().element(element.world, element.id)?;
            let current = current.as_deref().unwrap_or(&element).clone();
            let given = Element { owner: account.id, ..current };
            // What the old owner set going does not run in the new one's name.
            step.stop_own_timers(&given)?;
            step.take_copies_back(given.id)?;
            step.put(Key::Element(given.world, given.id), Row::Element(Arc::new(given)))
        })?;
    }
    Ok(json!({"id": element.id, "owner": account.name}))
}

pub(super) fn switch(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "switch parts of")?;
    check_acts(&element)?;
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
    let is_off = match parent {
        None => element.attributes_off.contains(what),
        Some(id) => element.parents_off.contains(&id),
    };
    if is_off != off {
        let data = json!({"part": what});
        step.in_event(|step| {
            step.fire_before(&element, &element_type, kind, attribute, data.clone())?;
            // An action before may have written values of it.
            let current = step.stored().element(element.world, element.id)?;
            let mut switched = current.as_deref().unwrap_or(&element).clone();
            match parent {
                None if off => switched.attributes_off.insert(what.to_owned()),
                None => switched.attributes_off.remove(what),
                Some(id) if off => switched.parents_off.insert(id),
                Some(id) => switched.parents_off.remove(&id),
            };
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

/// Makes an element one of a type that is a child of its own.
pub(super) fn become_type(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    check_owner(step, &element, "change the type of")?;
    check_acts(&element)?;
    let from = step.type_of(element.type_id)?;
    let to = step.element_type(step.word("type"), Some(element.owner))?;
    if to.id != from.id && !step.ancestors(&to)?.contains(&from.id) {
        let (from, to) = (&from.definition.name, &to.definition.name);
        let says =
            format!("the type {to} is no child of {from}: nothing of the element may be lost");
        return Err(Problem::new(Code::Conflict, says)
            .hint(format!("name {from} among the parents of {to}"))
            .into());
    }
    step.check_making(Actor::Caller, &to, element.owner)?;
    if to.id != from.id {
        let data = json!({"part": to.definition.name});
        step.around(&[(&element, EventKind::ParentOn)], &data, |step| {
            step.change_type(&element, &to)
        })?;
    }
    Ok(json!({"id": element.id, "type": to.definition.name}))
}
