//! What somebody has picked up: it rests until it is put down.

use std::sync::Arc;

use serde_json::json;

use super::give::{check_ours, on_its_way, put_down};
use crate::commands::share::lend;
use crate::model::{
    AccountId, Code, Element, EventKind, Held, Json, Key, Problem, Rest, Row, TransferState,
};
use crate::step::{Halt, Step};

/// Things that one account holds at most.
const HELD_MAX: usize = 1_000;

/// Picks a thing up: it rests, and stands nowhere.
pub(in crate::commands) fn take(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    crate::commands::element_life::check_owner(step, &element, "pick up")?;
    step.check_thing(&element)?;
    check_ours(&element)?;
    match element.rests {
        Some(Rest::Moving(_)) => return Err(on_its_way(&element)),
        Some(Rest::Held) => return Err(Problem::new(Code::Conflict, "it is held already").into()),
        None => {}
    }
    let held = held_by(step, element.owner)?;
    if held.len() >= HELD_MAX {
        let says = format!("nobody holds more than {HELD_MAX} things");
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    let number = held.last().map_or(1, |(number, _)| number + 1);
    let data = json!({"name": element.name});
    step.around(&[(&element, EventKind::ElementTaken)], &data, |step| {
        step.leave_all_sets(&element)
    })?;
    // It rests once it has heard that.
    let current = step.stored().element(element.world, element.id)?;
    let current =
        current.filter(|current| current.owner == element.owner && current.rests.is_none());
    let Some(current) = current else {
        return Err(Problem::new(Code::Conflict, "it is not there any more").into());
    };
    step.rest(&current, Some(Rest::Held), current.epoch)?;
    let row = Held {
        element: current.id,
        world: current.world,
        name: current.name.clone(),
        at: step.now,
    };
    step.put(Key::Held(current.owner, number), Row::Held(Arc::new(row)))?;
    Ok(json!({"id": element.id, "held": held.len() + 1}))
}

fn held_by(step: &Step<'_>, account: AccountId) -> Result<Vec<(u64, Arc<Held>)>, Halt> {
    let all = (Key::Held(account, 0), Key::Held(account, u64::MAX));
    let rows = step.stored().rows(&all.0, &all.1, HELD_MAX)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, row)| match (key, row) {
            (Key::Held(_, number), Row::Held(held)) => Some((number, held)),
            _ => None,
        })
        .collect())
}

/// What the acting account has picked up, the last one first.
pub(in crate::commands) fn held(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?.id;
    let items: Vec<Json> = held_by(step, account)?
        .iter()
        .rev()
        .map(|(_, held)| {
            json!({
                "id": held.element,
                "name": held.name.as_ref().map_or_else(|| held.element.to_string(), ToString::to_string),
                "world": held.world,
                "since": held.at.to_string(),
            })
        })
        .collect();
    Ok(json!({"items": items, "next": null}))
}

/// Puts down what was picked up last. In another's world it becomes theirs, or is lent.
pub(in crate::commands) fn put(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?;
    let lends = step.arg("lend") == &Json::Bool(true);
    if lends && step.text("to").is_none() {
        let says = "say where to lend it: ACCOUNT@SERVER/WORLD";
        return Err(Problem::new(Code::Usage, says).into());
    }
    let last = held_by(step, account.id)?.pop();
    let (number, held) = last.ok_or_else(|| {
        Problem::new(Code::NotFound, "you hold nothing")
            .hint("pick something up with: freehold element take ELEMENT")
    })?;
    step.change(Key::Held(account.id, number), None)?;
    let Some(element) = step.stored().element(held.world, held.element)? else {
        return Ok(json!({"id": held.element, "state": null}));
    };
    if element.rests != Some(Rest::Held) {
        return Ok(json!({"id": held.element, "state": null}));
    }
    let free = Element { rests: None, ..element.as_ref().clone() };
    step.rest(&free, None, free.epoch)?;
    let data = json!({"name": free.name});
    step.around(&[(&free, EventKind::ElementDropped)], &data, |_| Ok(()))?;
    match step.text("to") {
        None => Ok(json!({"id": free.id, "state": TransferState::Accepted, "world": free.world})),
        Some(to) if lends => {
            let to = to.to_owned();
            lend(step, &free, &to)
        }
        Some(to) => put_down(step, &free, to),
    }
}
