//! Actions: shown, called, asked; custom events sent.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::json;

use crate::model::{Action, Body, Caller, Code, EventKind, Json, On, Problem};
use crate::step::{Actor, Halt, Step, Target, not_offered};

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    let element_type = step.type_of(element.type_id)?;
    let actions: Vec<Arc<Action>> = match step.text("on") {
        Some(on) => step.listeners(&element, &element_type, &on_of(on)?, step.text("attribute")),
        None => {
            let mut all: Vec<_> = element_type.definition.actions.values().cloned().collect();
            all.sort_by_key(|action| {
                (action.on.to_string(), Reverse((action.priority, action.depth)))
            });
            all
        }
    };
    let mut items = Vec::new();
    for action in actions {
        let ancestor = match action.ancestor {
            Some(id) => Some(step.type_of(id)?.definition.name.clone()),
            None => None,
        };
        items.push(json!({
            "name": action.name,
            "on": action.on.to_string(),
            "attribute": action.attribute,
            "level": action.level,
            "priority": action.priority,
            "body": kind_of(&action.body),
            "parent": ancestor,
        }));
    }
    Ok(json!({"items": items, "next": null}))
}

/// What an action listens to, as type files write it.
fn on_of(text: &str) -> Result<On, Halt> {
    let on = match text.split_once(':') {
        Some(("before", kind)) => EventKind::named(kind).map(On::Before),
        Some(("after", kind)) => EventKind::named(kind).map(On::After),
        Some(("event", name)) => Some(On::Custom(name.to_owned())),
        Some(_) | None => None,
    };
    on.ok_or_else(|| {
        Problem::new(
            Code::Usage,
            format!("'{text}' is no event: before:KIND, after:KIND or event:NAME"),
        )
        .hint("see the kinds with: freehold event ls")
        .into()
    })
}

fn kind_of(body: &Body) -> &'static str {
    match body {
        Body::Accept => "accept",
        Body::Refuse(_) => "refuse",
        Body::Reply(_) => "reply",
        Body::Script { .. } => "script",
        Body::Call(_) => "call",
        Body::Ask(_) => "ask",
        Body::Home => "home",
    }
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

pub(super) fn object(json: &Json) -> Json {
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
            super::visit::act_for(step, server)?;
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
