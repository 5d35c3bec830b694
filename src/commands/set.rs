//! Sets: made, listed, entered and left, tied together, and changed as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::model::{Code, Element, ElementId, EventKind, Json, Key, Problem, Row, Set, WorldId};
use crate::step::{Actor, End, Halt, SELECTED_MAX, Step, Tie, check_count};

/// Members that one operation moves at most.
const MOVED_MAX: usize = 2_000;

pub(super) fn add(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    step.check_set(Actor::Caller, &element, None)?;
    if step.stored().set(element.world, element.id)?.is_none() {
        let set = Set { element: element.id, world: element.world, members: 0, added_at: step.now };
        step.put(Key::Set(element.world, element.id), Row::Set(Arc::new(set)))?;
    }
    Ok(json!({"id": element.id, "name": shown(&element)}))
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("set"))?;
    step.check_set(Actor::Caller, &element, None)?;
    step.empty_set(&element)?;
    Ok(json!({"id": element.id}))
}

fn shown(element: &Element) -> String {
    element.name.as_ref().map_or_else(|| element.id.to_string(), ToString::to_string)
}

/// Without a set the sets of a world, with one its members in order.
pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    match step.text("set") {
        None => sets(step),
        Some(text) => {
            let definer = step.element_here(text)?;
            members(step, &definer)
        }
    }
}

fn sets(step: &Step<'_>) -> Result<Json, Halt> {
    let world = step.world(step.text("world"))?;
    let stored = step.stored();
    super::page::list(
        step,
        |id| Key::Set(world.id, ElementId::from_bytes(id)),
        |row| match row {
            Row::Set(set) => {
                let element = stored.element(world.id, set.element).ok().flatten()?;
                Some(json!({"id": set.element, "name": shown(&element), "members": set.members}))
            }
            _ => None,
        },
    )
}

/// The members of a set in order, as far as the caller sees them in lists.
fn members(step: &mut Step<'_>, definer: &Element) -> Result<Json, Halt> {
    let set = step.set_of(definer)?;
    let (limit, cursor) = (super::page::limit(step), step.text("cursor"));
    let selection = format!("in {}", set.element);
    listed(step, set.world, &selection, cursor, limit)
}

fn listed(
    step: &mut Step<'_>,
    world: WorldId,
    selection: &str,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Json, Halt> {
    let page = step.select(Actor::Caller, world, selection, cursor, limit)?;
    let items: Vec<Json> = page
        .found
        .iter()
        .map(|element| json!({"id": element.id, "name": shown(element)}))
        .collect();
    Ok(json!({"items": items, "next": page.next}))
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let definer = step.element_here(step.word("set"))?;
    let set = step.set_of(&definer)?;
    let ends = |make: fn(WorldId, ElementId, ElementId) -> Key| {
        let key = |bytes| make(set.world, set.element, ElementId::from_bytes(bytes));
        step.tied(&key([0; 16]), &key([0xff; 16]))
    };
    Ok(json!({
        "id": set.element,
        "name": shown(&definer),
        "members": set.members,
        "children": ends(Key::SetChild)?,
        "parents": ends(Key::SetParent)?,
        "links": ends(Key::SetLink)?,
        "linked": ends(Key::SetLinked)?,
        "added_at": set.added_at.to_string(),
    }))
}

pub(super) fn enter(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (definer, element) = both(step, "set", "element")?;
    let changed = step.enter_set(Actor::Caller, &definer, &element, End::Last)?;
    told(step, &definer, changed)
}

pub(super) fn leave(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (definer, element) = both(step, "set", "element")?;
    let changed = step.leave_set(Actor::Caller, &definer, &element)?;
    told(step, &definer, changed)
}

pub(super) fn child(step: &mut Step<'_>) -> Result<Json, Halt> {
    tied(step, Tie::Child)
}

pub(super) fn link(step: &mut Step<'_>) -> Result<Json, Halt> {
    tied(step, Tie::Link)
}

fn tied(step: &mut Step<'_>, tie: Tie) -> Result<Json, Halt> {
    let (one, other) = both(step, "set", "other")?;
    let make = step.arg("remove") != &Json::Bool(true);
    let changed = step.tie(Actor::Caller, tie, &one, &other, make)?;
    told(step, &one, changed)
}

fn both(step: &Step<'_>, one: &str, other: &str) -> Result<(Arc<Element>, Arc<Element>), Halt> {
    Ok((step.element_here(step.word(one))?, step.element_here(step.word(other))?))
}

fn told(step: &Step<'_>, definer: &Element, changed: bool) -> Result<Json, Halt> {
    let set = step.set_of(definer)?;
    Ok(json!({"id": set.element, "members": set.members, "changed": changed}))
}

pub(super) fn push(step: &mut Step<'_>) -> Result<Json, Halt> {
    put_at(step, EventKind::SetPush, End::Last)
}

pub(super) fn unshift(step: &mut Step<'_>) -> Result<Json, Halt> {
    put_at(step, EventKind::SetUnshift, End::First)
}

/// Puts an element at an end: one that stands in the set already is moved there.
fn put_at(step: &mut Step<'_>, kind: EventKind, end: End) -> Result<Json, Halt> {
    let (definer, element) = both(step, "set", "element")?;
    step.check_set(Actor::Caller, &definer, Some(&element))?;
    step.set_of(&definer)?;
    let data = json!({"element": element.id});
    step.around(&[(&definer, kind)], &data, |step| {
        step.leave_set(Actor::Caller, &definer, &element)?;
        step.enter_set(Actor::Caller, &definer, &element, end)
    })?;
    told(step, &definer, true)
}

pub(super) fn pop(step: &mut Step<'_>) -> Result<Json, Halt> {
    take_from(step, EventKind::SetPop, End::Last)
}

pub(super) fn shift(step: &mut Step<'_>) -> Result<Json, Halt> {
    take_from(step, EventKind::SetShift, End::First)
}

fn take_from(step: &mut Step<'_>, kind: EventKind, end: End) -> Result<Json, Halt> {
    let definer = step.element_here(step.word("set"))?;
    step.check_set(Actor::Caller, &definer, None)?;
    let set = step.set_of(&definer)?;
    let found = match end {
        End::First => step.members(&set, None, 1)?.first().copied(),
        End::Last => step.last_member(&set)?,
    };
    let Some((_, id)) = found else {
        return Ok(json!({"id": set.element, "members": 0, "element": null}));
    };
    let element = step.stored().element(set.world, id)?;
    let element = element.ok_or_else(|| Problem::new(Code::Internal, "a member is missing"))?;
    step.around(&[(&definer, kind)], &json!({"element": id}), |step| {
        step.leave_set(Actor::Caller, &definer, &element)
    })?;
    let set = step.set_of(&definer)?;
    Ok(json!({"id": set.element, "members": set.members, "element": id}))
}

pub(super) fn union(step: &mut Step<'_>) -> Result<Json, Halt> {
    combine(step, EventKind::SetUnion, |held, given| given.difference(held).copied().collect())
}

pub(super) fn intersection(step: &mut Step<'_>) -> Result<Json, Halt> {
    combine(step, EventKind::SetIntersection, |held, given| {
        held.difference(given).copied().collect()
    })
}

pub(super) fn difference(step: &mut Step<'_>) -> Result<Json, Halt> {
    combine(step, EventKind::SetDifference, |held, given| {
        held.intersection(given).copied().collect()
    })
}

pub(super) fn symmetric_difference(step: &mut Step<'_>) -> Result<Json, Halt> {
    combine(step, EventKind::SetSymmetricDifference, |_, given| given.clone())
}

type Ids = BTreeSet<ElementId>;

/// Changes a set by a selection: what `moved` picks leaves if it stood there, and enters if not.
fn combine(
    step: &mut Step<'_>,
    kind: EventKind,
    moved: impl Fn(&Ids, &Ids) -> Ids,
) -> Result<Json, Halt> {
    let definer = step.element_here(step.word("set"))?;
    step.check_set(Actor::Caller, &definer, None)?;
    let held = ids_in(step, &definer)?;
    let given = given(step, &definer)?;
    let moved = moved(&held, &given);
    if moved.len() > MOVED_MAX {
        let says = format!("that would move {} elements, one call moves {MOVED_MAX}", moved.len());
        return Err(Problem::new(Code::OverLimit, says).hint("select fewer at a time").into());
    }
    let (leave, enter): (Vec<ElementId>, Vec<ElementId>) =
        moved.iter().copied().partition(|id| held.contains(id));
    let data = json!({"enter": enter.len(), "leave": leave.len()});
    step.around(&[(&definer, kind)], &data, |step| {
        for (ids, enters) in [(&leave, false), (&enter, true)] {
            for id in ids {
                let Some(element) = step.stored().element(definer.world, *id)? else { continue };
                if enters {
                    step.enter_set(Actor::Caller, &definer, &element, End::Last)?;
                } else {
                    step.leave_set(Actor::Caller, &definer, &element)?;
                }
            }
        }
        Ok(())
    })?;
    let set = step.set_of(&definer)?;
    Ok(json!({
        "id": set.element,
        "members": set.members,
        "entered": enter.len(),
        "left": leave.len(),
    }))
}

fn ids_in(step: &Step<'_>, definer: &Element) -> Result<Ids, Halt> {
    let set = step.set_of(definer)?;
    let found = step.members(&set, None, SELECTED_MAX + 1)?;
    check_count(found.len())?;
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// What the operation is done with: another set, or a selection.
fn given(step: &mut Step<'_>, definer: &Element) -> Result<Ids, Halt> {
    match (step.text("with"), step.text("where")) {
        (Some(other), None) => {
            let other = step.element_here(other)?;
            if other.world != definer.world {
                let says = "a set holds elements of its own world alone";
                return Err(Problem::new(Code::Usage, says).into());
            }
            ids_in(step, &other)
        }
        (None, Some(text)) => step.select_all(Actor::Caller, definer.world, text),
        (Some(_), Some(_)) | (None, None) => {
            Err(Problem::new(Code::Usage, "name another set with --with, or select with --where")
                .into())
        }
    }
}

/// What stands in both sets. Nothing changes.
pub(super) fn mutual(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (one, other) = both(step, "set", "other")?;
    step.set_of(&one)?;
    step.set_of(&other)?;
    let data = json!({"other": other.id});
    let element_type = step.type_of(one.type_id)?;
    step.in_event(|step| step.fire_before(&one, &element_type, EventKind::SetMutual, None, data))?;
    let selection = format!("in {} and in {}", one.id, other.id);
    listed(step, one.world, &selection, None, SELECTED_MAX)
}

/// Sets one attribute of every member to one value.
pub(super) fn change(step: &mut Step<'_>) -> Result<Json, Halt> {
    let definer = step.element_here(step.word("set"))?;
    step.check_set(Actor::Caller, &definer, None)?;
    let attribute = step.word("attribute");
    let ids = ids_in(step, &definer)?;
    let data = json!({"attribute": attribute, "value": step.arg("value")});
    let element_type = step.type_of(definer.type_id)?;
    let kind = EventKind::SetValuesChange;
    step.in_event(|step| {
        let heard = step.fire_before(&definer, &element_type, kind, None, data)?;
        let value = heard.get("value").cloned().unwrap_or_default();
        for id in &ids {
            if let Some(member) = step.stored().element(definer.world, *id)? {
                step.set_value(Actor::Caller, &member, attribute, value.clone())?;
            }
        }
        step.note(&definer, &element_type, kind, heard.clone());
        step.wait_after(&definer, kind, None, heard);
        Ok(())
    })?;
    Ok(json!({"id": definer.id, "changed": ids.len()}))
}
