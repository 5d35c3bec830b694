//! Events: the system's are listed, custom ones are sent, now or later, to one or to many.

use std::collections::BTreeSet;

use serde_json::json;
use serde_json_path::JsonPath;

use super::action::object;
use crate::model::{
    Caller, Code, Definition, Element, EventDefinition, Json, On, Problem, TimerDoes,
    parse_duration_ms,
};
use crate::step::{Actor, Halt, Replies, Step, Target, not_offered};

/// How long a timer may wait, in milliseconds.
const DELAY_MS_MIN: u64 = 100;
const DELAY_MS_MAX: u64 = 365 * 86_400_000;

/// The kinds of events that the system fires.
pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    if let Some(text) = step.text("type") {
        let held = step.element_type(text, None)?;
        let of_type = |(name, event): (&String, &EventDefinition)| {
            json!({
                "name": name,
                "all_keys": event.all_keys,
                "required_keys": event.required_keys,
                "paths": event.paths,
                "parent": event.parent,
                "every_ms": event.every_ms,
            })
        };
        let items: Vec<Json> = held.definition.events.iter().map(of_type).collect();
        return Ok(json!({"items": items, "next": null}));
    }
    let items: Vec<Json> = crate::catalog::EVENTS
        .iter()
        .map(|event| {
            json!({
                "id": event.kind.id(),
                "name": event.kind.as_str(),
                "when": event.when,
                "heard_by": event.heard_by,
                "data": event.data,
                "refusable": event.kind.has_before(),
                "told": event.kind.has_after(),
            })
        })
        .collect();
    Ok(json!({"items": items, "next": null}))
}

/// Adds a custom event to a type, as a revision of it.
pub(super) fn define(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = step.element_type(step.word("type"), None)?;
    if step.acting()?.id != held.owner {
        let says = format!("only the owner of '{}' may add to it", held.definition.name);
        return Err(Problem::new(Code::NotPermitted, says).into());
    }
    let name = step.name(step.word("event"))?;
    let texts = |name: &str| -> Option<BTreeSet<String>> {
        let given = step.arg(name).as_array()?;
        Some(given.iter().filter_map(Json::as_str).map(str::to_owned).collect())
    };
    let event = EventDefinition {
        all_keys: texts("all_keys"),
        required_keys: texts("required_keys").unwrap_or_default(),
        paths: texts("paths").unwrap_or_default(),
        parent: step.text("parent").map(str::to_owned),
        every_ms: held.own().events.get(name.as_str()).and_then(|before| before.every_ms),
    };
    check_definition(&event)?;
    let mut own = held.own().clone();
    own.events.insert(name.to_string(), event);
    check_events(&own, name.as_str())?;
    let published = super::element_type::publish_definition(step, held.owner, own)?;
    Ok(json!({"id": held.id, "name": name, "revision": published["revision"]}))
}

/// Checks that an event can be fired at all as it is defined.
fn check_definition(event: &EventDefinition) -> Result<(), Halt> {
    let bad = |says: String| Err(Problem::new(Code::Usage, says).into());
    if let Some(all) = &event.all_keys
        && let Some(missing) = event.required_keys.iter().find(|key| !all.contains(*key))
    {
        return bad(format!("'{missing}' is required, and not among all_keys"));
    }
    for path in &event.paths {
        if let Err(error) = JsonPath::parse(path) {
            return bad(format!("'{path}' is no JSON path: {error}"));
        }
    }
    Ok(())
}

/// Events of one type at most.
const EVENTS_MAX: usize = 256;

/// Checks that a type has room for an event, and that none is its own ancestor.
fn check_events(own: &Definition, name: &str) -> Result<(), Halt> {
    let parent = |name: &String| own.events.get(name)?.parent.clone();
    let above = std::iter::successors(parent(&name.to_owned()), parent);
    if above.take(EVENTS_MAX).any(|event| event == name) {
        let says = format!("'{name}' would be its own ancestor");
        return Err(Problem::new(Code::Usage, says).into());
    }
    if own.events.len() > EVENTS_MAX {
        let says = format!("a type has at most {EVENTS_MAX} events");
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    Ok(())
}

pub(super) fn send(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (text, event) = (step.word("element"), step.word("event"));
    let data = object(step.arg("data"));
    if let Caller::Remote { .. } = step.call.caller {
        return send_for_server(step, text, event, data);
    }
    match step.element(text)? {
        Target::Here(element) => match (delay(step, "after")?, delay(step, "every")?) {
            (None, None) => {
                check_offered(step, &element, event)?;
                Ok(json!({"result": last(step.fire_custom(&element, event, data)?)}))
            }
            (after, every_ms) => send_later(step, &element, event, data, after, every_ms),
        },
        Target::There { server, name } => {
            if step.text("after").or(step.text("every")).is_some() {
                return Err(at_home_alone());
            }
            super::visit::act_for(step, server)?;
            let args = json!({"element": name, "event": event, "data": data});
            Err(step.forward(server, "event.send", args)?)
        }
    }
}

fn at_home_alone() -> Halt {
    Problem::new(Code::Usage, "a timer runs at the element's home: ask for it there").into()
}

/// Another server sends: what is not offered to it is not there.
fn send_for_server(step: &mut Step<'_>, text: &str, event: &str, data: Json) -> Result<Json, Halt> {
    let named = format!("{text} {event}");
    if step.text("after").or(step.text("every")).is_some() {
        return Err(at_home_alone());
    }
    let element = step.element_here(text).map_err(|_| not_offered(&named))?;
    let element_type = step.type_of(element.type_id)?;
    let standing = step.standing(Actor::Caller, &element, &element_type)?;
    let heard = On::Custom(event.to_owned());
    let listeners = step.listeners(&element, &element_type, &heard, None);
    if !listeners.iter().any(|action| step.is_offered(standing, &element_type, action)) {
        return Err(not_offered(&named).into());
    }
    step.check_scope(Actor::Caller, &element_type, Some(event))?;
    let mut replies = step.fire_custom(&element, event, data)?;
    // What a private action answers is not for another server.
    let actions = &element_type.definition.actions;
    replies.retain(|(name, _)| {
        actions.get(name).is_some_and(|action| step.is_offered(standing, &element_type, action))
    });
    Ok(json!({"result": last(replies)}))
}

/// What the last action that answered returned.
fn last(replies: Replies) -> Option<Json> {
    replies.into_iter().rev().map(|(_, reply)| reply).find(|reply| !reply.is_null())
}

/// Checks that at least one action on an event is offered to the caller, where any listens.
fn check_offered(step: &Step<'_>, element: &Element, event: &str) -> Result<(), Halt> {
    let element_type = step.type_of(element.type_id)?;
    let standing = step.standing(Actor::Caller, element, &element_type)?;
    let heard = On::Custom(event.to_owned());
    let listeners = step.listeners(element, &element_type, &heard, None);
    if listeners.is_empty()
        || listeners.iter().any(|action| step.is_offered(standing, &element_type, action))
    {
        return Ok(());
    }
    let says = format!("everything that listens to '{event}' is private, for the owner");
    Err(Problem::new(Code::NotPermitted, says).into())
}

fn delay(step: &Step<'_>, name: &str) -> Result<Option<u64>, Halt> {
    let Some(text) = step.text(name) else { return Ok(None) };
    match parse_duration_ms(text) {
        Some(ms) if (DELAY_MS_MIN..=DELAY_MS_MAX).contains(&ms) => Ok(Some(ms)),
        Some(_) => {
            let says = format!("'{text}': a timer waits from 100ms to 365d");
            Err(Problem::new(Code::Usage, says).into())
        }
        None => {
            let says = format!("'{text}' is no span of time: write 500ms, 5s, 10m or 24h");
            Err(Problem::new(Code::Usage, says).into())
        }
    }
}

fn send_later(
    step: &mut Step<'_>,
    element: &Element,
    event: &str,
    data: Json,
    after: Option<u64>,
    every_ms: Option<u64>,
) -> Result<Json, Halt> {
    super::element_life::check_owner(step, element, "start a timer of")?;
    let element_type = step.type_of(element.type_id)?;
    step.check_event(&element_type, event, &data)?;
    let at = step.now.after_ms(after.or(every_ms).unwrap_or(DELAY_MS_MIN));
    let does = TimerDoes::Fire(event.to_owned(), data);
    let id = step.start_timer(element, at, every_ms, does)?;
    Ok(json!({"result": null, "timer": id, "at": at.to_string()}))
}

/// Sends a custom event to what stands in a set, or is selected, page by page.
pub(super) fn broadcast(step: &mut Step<'_>) -> Result<Json, Halt> {
    let event = step.word("event");
    let data = object(step.arg("data"));
    let world = step.world(step.text("world"))?;
    let selection = match (step.text("set"), step.text("where")) {
        (Some(set), None) => format!("in {}", step.element_here(set)?.id),
        (None, Some(selection)) => selection.to_owned(),
        (Some(_), Some(_)) | (None, None) => {
            let says = "name a set with --set, or select with --where";
            return Err(Problem::new(Code::Usage, says).into());
        }
    };
    let (limit, cursor) = (super::page::limit(step), step.text("cursor"));
    let page = step.select(Actor::Caller, world.id, &selection, cursor, limit)?;
    let mut sent = 0;
    for element in &page.found {
        if element.home.is_some() {
            // A copy: who hears its events is at home.
            continue;
        }
        let element_type = step.type_of(element.type_id)?;
        let heard = On::Custom(event.to_owned());
        if step.listeners(element, &element_type, &heard, None).is_empty() {
            continue;
        }
        if check_offered(step, element, event).is_ok() {
            step.fire_custom(element, event, data.clone())?;
            sent += 1;
        }
    }
    Ok(json!({"sent": sent, "selected": page.found.len(), "next": page.next}))
}

/// The node tells an element that a call of its own failed elsewhere.
pub(super) fn failed(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    let data = object(step.arg("data"));
    step.tell_error(&element, data)?;
    Ok(json!({"id": element.id}))
}
