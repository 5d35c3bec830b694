//! Actions: shown, called, asked; custom events sent.

use serde_json::json;

use crate::model::{Body, Caller, Code, Json, On, Problem};
use crate::step::{Actor, Halt, Step, Target, not_offered};

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    let element_type = step.type_of(element.type_id)?;
    let mut actions: Vec<_> = element_type.definition.actions.values().collect();
    actions.sort_by_key(|action| (action.on.to_string(), std::cmp::Reverse(action.priority)));
    let items: Vec<Json> = actions
        .into_iter()
        .map(|action| {
            json!({
                "name": action.name,
                "on": action.on.to_string(),
                "attribute": action.attribute,
                "level": action.level,
                "priority": action.priority,
                "body": kind_of(&action.body),
            })
        })
        .collect();
    Ok(json!({"items": items, "next": null}))
}

fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::Accept => "accept",
        Body::Refuse(_) => "refuse",
        Body::Reply(_) => "reply",
        Body::Script { .. } => "script",
        Body::Call(_) => "call",
        Body::Ask(_) => "ask",
    }
}

/// The kinds of events that the system fires.
pub(super) fn events(_: &mut Step<'_>) -> Result<Json, Halt> {
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

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    let element_type = step.type_of(element.type_id)?;
    let name = step.word("action");
    let action = element_type.definition.actions.get(name).ok_or_else(|| {
        let of = &element_type.definition.name;
        Problem::new(Code::NotFound, format!("the type {of} has no action '{name}'"))
    })?;
    Ok(json!({
        "name": action.name,
        "on": action.on.to_string(),
        "attribute": action.attribute,
        "level": action.level,
        "priority": action.priority,
        "body": kind_of(&action.body),
    }))
}

fn object(json: &Json) -> Json {
    if json.is_null() { json!({}) } else { json.clone() }
}

pub(super) fn call(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (text, action) = (step.word("element"), step.word("action"));
    let args = object(step.arg("args"));
    let job = step.call.id;
    if let Caller::Remote { .. } = step.call.caller {
        let result = answer_server(step, text, action, args)?;
        return Ok(json!({"result": result}));
    }
    match step.element(text)? {
        Target::Here(element) => {
            let result = step.answer(Actor::Caller, &element, action, args)?;
            Ok(json!({"job": job, "result": result}))
        }
        Target::There { server, name } => {
            let args = json!({"element": name, "action": action, "args": args});
            Err(step.forward(server, "action.call", args)?)
        }
    }
}

/// Another server asks: the step may change nothing.
pub(super) fn ask(step: &mut Step<'_>) -> Result<Json, Halt> {
    let args = object(step.arg("args"));
    answer_server(step, step.word("element"), step.word("action"), args)
}

fn answer_server(step: &mut Step<'_>, text: &str, action: &str, args: Json) -> Result<Json, Halt> {
    let named = format!("{text} {action}");
    let element = step.element_here(text).map_err(|_| not_offered(&named))?;
    match step.answer(Actor::Caller, &element, action, args) {
        Err(Halt::Problem(problem)) if problem.code == Code::NotOffered => {
            Err(not_offered(&named).into())
        }
        result => result,
    }
}

pub(super) fn send(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (text, event) = (step.word("element"), step.word("event"));
    let data = object(step.arg("data"));
    if let Caller::Remote { .. } = step.call.caller {
        let named = format!("{text} {event}");
        let element = step.element_here(text).map_err(|_| not_offered(&named))?;
        let element_type = step.type_of(element.type_id)?;
        let standing = step.standing(Actor::Caller, &element, &element_type)?;
        let heard = On::Custom(event.to_owned());
        let offered = element_type
            .definition
            .listeners(&heard, None)
            .any(|action| step.is_offered(standing, action.level));
        if !offered {
            return Err(not_offered(&named).into());
        }
        let mut replies = step.fire_custom(&element, event, data)?;
        // What a private action answers is not for another server.
        let actions = &element_type.definition.actions;
        replies.retain(|name, _| {
            actions.get(name).is_some_and(|action| step.is_offered(standing, action.level))
        });
        return Ok(json!({"result": replies.pop_last().map(|(_, reply)| reply)}));
    }
    match step.element(text)? {
        Target::Here(element) => {
            let element_type = step.type_of(element.type_id)?;
            let standing = step.standing(Actor::Caller, &element, &element_type)?;
            let heard = On::Custom(event.to_owned());
            let mut listeners = element_type.definition.listeners(&heard, None).peekable();
            if listeners.peek().is_some()
                && !listeners.any(|action| step.is_offered(standing, action.level))
            {
                let says =
                    format!("everything that listens to '{event}' is private, for the owner");
                return Err(Problem::new(Code::NotPermitted, says).into());
            }
            let mut replies = step.fire_custom(&element, event, data)?;
            Ok(json!({"result": replies.pop_last().map(|(_, reply)| reply)}))
        }
        Target::There { server, name } => {
            let args = json!({"element": name, "event": event, "data": data});
            Err(step.forward(server, "event.send", args)?)
        }
    }
}
