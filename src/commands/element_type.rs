//! Types: published from type files, growing by revisions.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::model::{
    AccountId, Code, Definition, Group, Json, Key, Kind, Problem, Row, TypeDefinition, TypeId, hex,
    with_parents,
};
use crate::script::{bad_type, read_type};
use crate::step::{Actor, Halt, Step, is_system_type};

/// Parents above each other at most.
const DEPTH_MAX: usize = 16;
/// Types that have one as a parent, at most.
const CHILDREN_MAX: usize = 1_000;

pub(super) fn publish(step: &mut Step<'_>) -> Result<Json, Halt> {
    let owner = step.acting()?;
    let file = read_type(step.word("source")).map_err(|mistakes| {
        bad_type("the type file", &mistakes).hint("see all of them with: freehold type check FILE")
    })?;
    let mut published = publish_definition(step, owner.id, file.definition)?;
    published["assumed"] = json!(file.assumed);
    Ok(published)
}

/// Publishes what a type says: new, or as a revision that only adds.
pub(super) fn publish_definition(
    step: &mut Step<'_>,
    owner: AccountId,
    own: Definition,
) -> Result<Json, Halt> {
    let name = own.name.clone();
    let held = match step.stored().id_at(Key::TypeName(owner, name.key()))? {
        Some(id) => Some(step.type_of(TypeId::from_bytes(id))?),
        None => None,
    };
    if let Some(held) = &held
        && held.used
        && !held.own().grows_into(&own)
    {
        let says =
            format!("the type '{name}' has elements: it may grow, but nothing of it may change");
        return Err(Problem::new(Code::TypeInUse, says)
            .hint("add attributes with defaults and actions, or publish it under another name")
            .into());
    }
    let before = held.clone();
    let parents = parents(step, &own)?;
    let ids: Vec<TypeId> = parents.iter().map(|parent| parent.id).collect();
    check_groups(step, &own, owner)?;
    let next = match held {
        Some(held) if held.own().says_the_same(&own) && held.parents == ids => {
            held.as_ref().clone()
        }
        Some(held) => {
            check_cycle(step, held.id, &parents)?;
            let revision = held.revision + 1;
            let definition = whole(&own, &parents)?;
            let own = (!ids.is_empty()).then(|| Arc::new(own));
            TypeDefinition { revision, definition, own, parents: ids, ..held.as_ref().clone() }
        }
        None => TypeDefinition {
            id: TypeId::at(step.now, step.random()),
            owner,
            revision: 1,
            used: false,
            definition: whole(&own, &parents)?,
            own: (!ids.is_empty()).then(|| Arc::new(own)),
            parents: ids,
            retired_at: None,
            home: None,
            public_off: false,
            actions_off: BTreeSet::new(),
            above: Vec::new(),
        },
    };
    check_references(&next.definition)?;
    let (id, revision) = (next.id, next.revision);
    for parent in &next.parents {
        step.put(Key::TypeChild(*parent, id), Row::At(0))?;
    }
    step.put(Key::TypeName(owner, name.key()), Row::Id(*id.as_bytes()))?;
    if let Some(held) = &before {
        step.grow(held, &next)?;
    }
    step.put(Key::Type(id), Row::Type(Arc::new(next)))?;
    if before.is_none_or(|before| before.revision != revision) {
        super::share::send_again(step, id)?;
    }
    pass_on(step, id, 0)?;
    Ok(json!({"id": id, "name": name, "revision": revision}))
}

fn bad(says: String) -> Halt {
    Problem::new(Code::BadType, says).into()
}

fn whole(own: &Definition, parents: &[Arc<TypeDefinition>]) -> Result<Definition, Halt> {
    with_parents(own, parents).map_err(|mistake| bad(mistake.to_string()))
}

fn parents(step: &Step<'_>, own: &Definition) -> Result<Vec<Arc<TypeDefinition>>, Halt> {
    let mut found = Vec::new();
    for name in &own.parents {
        let parent = step.element_type(name, None)?;
        if parent.home.is_some() {
            let says =
                format!("the type '{name}' is of another server: it cannot be a parent here");
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        let group = &parent.definition.create_group;
        if step.acting()?.id != parent.owner
            && step.is_owners_alone(Actor::Caller, group, &parent)?
        {
            let says = format!("you may not make anything from the type '{name}'");
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        found.push(parent);
    }
    Ok(found)
}

/// Checks that a type does not become its own ancestor.
fn check_cycle(step: &Step<'_>, id: TypeId, parents: &[Arc<TypeDefinition>]) -> Result<(), Halt> {
    for parent in parents {
        if parent.id == id || step.ancestors(parent)?.contains(&id) {
            let says =
                format!("by its parent '{}' it would be its own ancestor", parent.definition.name);
            return Err(bad(says));
        }
    }
    Ok(())
}

/// Checks that every group that a file names is there.
fn check_groups(step: &Step<'_>, own: &Definition, owner: AccountId) -> Result<(), Halt> {
    let of_attributes = own
        .attributes
        .values()
        .flat_map(|attribute| [&attribute.read_group, &attribute.write_group]);
    for group in of_attributes.chain([&own.create_group, &own.see_group]) {
        if let Group::Named(name) = group
            && step.stored().id_at(Key::GroupName(owner, name.key()))?.is_none()
        {
            return Err(Problem::new(
                Code::NotFound,
                format!("there is no group '{name}' of yours"),
            )
            .hint(format!("make it with: freehold group add {name}"))
            .into());
        }
    }
    Ok(())
}

/// Checks that what actions listen to is there, in the file or in a parent.
pub(super) fn check_references(definition: &Definition) -> Result<(), Halt> {
    for action in definition.actions.values() {
        if let Some(name) = &action.attribute
            && !definition.attributes.contains_key(name)
        {
            let says = format!("the action '{}': there is no attribute '{name}'", action.name);
            return Err(bad(says));
        }
    }
    for (name, held) in &definition.attributes {
        if let Some(parent) = &held.parent
            && !definition.attributes.contains_key(parent)
        {
            return Err(bad(format!("'{name}': there is no attribute '{parent}'")));
        }
    }
    for (name, held) in &definition.events {
        if let Some(parent) = &held.parent
            && !definition.events.contains_key(parent)
        {
            return Err(bad(format!("'{name}': there is no event '{parent}'")));
        }
    }
    if definition.attributes.values().filter(|attribute| attribute.expires).count() > 1 {
        return Err(bad("only one attribute says when an element's time is over".to_owned()));
    }
    check_areas(definition)
}

/// Checks that every area is one of a position.
fn check_areas(definition: &Definition) -> Result<(), Halt> {
    let of_attributes = definition.attributes.values().map(|attribute| &attribute.bounds);
    let areas = of_attributes.chain([&definition.bounds]).filter_map(|bounds| bounds.area.as_ref());
    for area in areas {
        let kind = definition.attributes.get(&area.attribute).map(|attribute| attribute.kind);
        if kind != Some(Kind::Position) {
            return Err(bad(format!("an area: there is no position '{}'", area.attribute)));
        }
    }
    Ok(())
}

/// Gives what a type says now to the types that have it as a parent.
fn pass_on(step: &mut Step<'_>, id: TypeId, depth: usize) -> Result<(), Halt> {
    if depth > DEPTH_MAX {
        return Err(bad(format!("parents are nested deeper than {DEPTH_MAX}")));
    }
    let key = |bytes| Key::TypeChild(id, TypeId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), CHILDREN_MAX)?;
    for (key, _) in rows {
        let Key::TypeChild(_, child) = key else { continue };
        let held = step.type_of(child)?;
        if !held.parents.contains(&id) {
            // It has other parents by now.
            step.change(key, None)?;
            continue;
        }
        let parents: Vec<Arc<TypeDefinition>> =
            held.parents.iter().map(|parent| step.type_of(*parent)).collect::<Result<_, _>>()?;
        let definition = whole(held.own(), &parents)?;
        if definition != held.definition {
            check_references(&definition)?;
            if held.used && !held.definition.grows_into(&definition) {
                let says = format!(
                    "the type '{}' has this one as a parent, and has elements: nothing of it may change",
                    held.definition.name
                );
                return Err(Problem::new(Code::TypeInUse, says).into());
            }
            let revision = held.revision + 1;
            let next = TypeDefinition { revision, definition, ..held.as_ref().clone() };
            step.grow(&held, &next)?;
            step.put(Key::Type(child), Row::Type(Arc::new(next)))?;
            super::share::send_again(step, child)?;
            pass_on(step, child, depth + 1)?;
        }
    }
    Ok(())
}

pub(super) fn retire(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = step.element_type(step.word("type"), None)?;
    if step.acting()?.id != held.owner {
        let says = format!("only the owner of '{}' may retire it", held.definition.name);
        return Err(Problem::new(Code::NotPermitted, says).into());
    }
    let retired_at = held.retired_at.or(Some(step.now));
    let retired = TypeDefinition { retired_at, ..held.as_ref().clone() };
    step.put(Key::Type(held.id), Row::Type(Arc::new(retired)))?;
    super::share::send_again(step, held.id)?;
    Ok(json!({"id": held.id, "retired_at": retired_at.map(|at| at.to_string())}))
}

/// Switches what is public of a type's actions off, or on again, for servers that are not on its list.
pub(super) fn switch(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = step.element_type(step.word("type"), None)?;
    if step.acting()?.id != held.owner || held.home.is_some() {
        let says = format!("only the owner of '{}' may do this", held.definition.name);
        return Err(Problem::new(Code::NotPermitted, says).into());
    }
    let off = step.arg("off") == &Json::Bool(true);
    let mut changed = held.as_ref().clone();
    match step.text("action") {
        None => changed.public_off = off,
        Some(action) if !held.definition.actions.contains_key(action) => {
            let of = &held.definition.name;
            let says = format!("the type {of} has no action '{action}'");
            return Err(Problem::new(Code::NotFound, says).into());
        }
        Some(action) if off => {
            changed.actions_off.insert(action.to_owned());
        }
        Some(action) => {
            changed.actions_off.remove(action);
        }
    }
    let (id, off) = (held.id, changed.actions_off.clone());
    let public_off = changed.public_off;
    step.put(Key::Type(id), Row::Type(Arc::new(changed)))?;
    super::share::send_again(step, id)?;
    Ok(json!({"id": id, "off": public_off, "actions_off": off}))
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let stored = step.stored();
    super::page::list(
        step,
        |id| Key::Type(TypeId::from_bytes(id)),
        |row| match row {
            // What the system has of its own is named where it is of use.
            Row::Type(held) if is_system_type(held.id) => None,
            Row::Type(held) => {
                let owner = stored.account(held.owner).ok().flatten();
                Some(json!({
                    "id": held.id,
                    "name": owner.map_or_else(|| held.definition.name.to_string(), |owner| format!("{}:{}", owner.name, held.definition.name)),
                    "revision": held.revision,
                    "description": held.definition.description,
                }))
            }
            _ => None,
        },
    )
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = step.element_type(step.word("type"), None)?;
    let definition = serde_json::to_value(&held.definition).unwrap_or_default();
    Ok(json!({
        "id": held.id,
        "name": held.definition.name,
        "owner": held.owner,
        "revision": held.revision,
        "hash": hex(&held.definition.hash()),
        "parents": held.parents,
        "retired_at": held.retired_at.map(|at| at.to_string()),
        "off": held.public_off,
        "actions_off": held.actions_off,
        "home": held.home,
        "holders": super::share::holders_json(step, held.id)?,
        "definition": definition,
    }))
}
