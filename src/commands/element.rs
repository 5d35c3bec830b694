//! Elements: shown, read and written, here and elsewhere.

use std::sync::Arc;

use serde_json::json;

use super::account::PATIENCE_MS;
use crate::model::{
    AccountId, Audience, Bond, CachedPlace, CachedValue, Caller, Code, Element, ElementId, Group,
    Head, Json, Key, Kind, LogId, Problem, Row, ServerId, WorldId, hex,
};
use crate::step::{Actor, Halt, Reading, Step, Target, not_offered};

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    let element_type = step.type_of(element.type_id)?;
    let owner = step.stored().account(element.owner)?;
    let mut values = serde_json::Map::new();
    for name in element_type.definition.attributes.keys() {
        if let Ok(reading) = step.read_value(Actor::Caller, &element, name) {
            values.insert(name.clone(), reading.value);
        }
    }
    Ok(json!({
        "id": element.id,
        "name": element.name.as_ref().map_or_else(|| element.id.to_string(), |name| name.to_string()),
        "world": element.world,
        "type": element_type.definition.name,
        "revision": element_type.revision,
        "hash": hex(&element_type.definition.hash()),
        "sets": step.sets_of(&element)?,
        "owner": owner.map(|owner| owner.name.to_string()),
        "avatar": super::look::kind_of(step, &element, &element_type)?,
        "values": values,
    }))
}

pub(super) fn get(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (text, attribute) = (step.word("element"), step.word("attribute"));
    if step.call.caller.server().is_some() {
        return get_for_server(step, text, attribute);
    }
    match step.element(text)? {
        Target::Here(element) => {
            let reading = step.read_value(Actor::Caller, &element, attribute)?;
            let us = step.setting.us;
            Ok(
                json!({"value": reading.value, "origin": us, "cached": false, "cached_until": null, "stale": false}),
            )
        }
        Target::There { server, name } => {
            super::visit::act_for(step, server)?;
            get_there(step, server, &name, attribute)
        }
    }
}

/// What another server is given of a value: with it, how long and for whom it may be kept, and the
/// number of its feed.
fn get_for_server(step: &mut Step<'_>, text: &str, attribute: &str) -> Result<Json, Halt> {
    let named = format!("{text} {attribute}");
    let element = step.element_here(text).map_err(|_| not_offered(&named))?;
    let reading = match step.read_value(Actor::Caller, &element, attribute) {
        Err(Halt::Problem(problem))
            if matches!(problem.code, Code::NotFound | Code::NotOffered) =>
        {
            return Err(not_offered(&named).into());
        }
        reading => reading?,
    };
    let Reading { value, attribute } = reading;
    Ok(json!({
        "value": value,
        "kind": attribute.kind,
        "cache_ms": attribute.cache_ms,
        // What a group may read is for who asked; the rest for everyone there.
        "reader": match attribute.read_group {
            Group::Everyone => None,
            Group::Owner | Group::Named(_) => step.known_user()?.map(|user| user.account),
        },
        "world": element.world,
        "element": element.id,
        "head": head_for_caller(step, &element)?,
    }))
}

/// The newest number of the feed that the calling server may follow.
fn head_for_caller(step: &Step<'_>, element: &Element) -> Result<Option<Head>, Halt> {
    let element_type = step.type_of(element.type_id)?;
    let audience = match (step.bond_with(&element_type)?, &element_type.definition.protected) {
        (Bond::Proven, Some(list)) => Audience::List(list.clone()),
        _ => Audience::Public,
    };
    super::feed::head(step, element.world, &audience).map(Some)
}

fn get_there(
    step: &mut Step<'_>,
    server: ServerId,
    name: &str,
    attribute: &str,
) -> Result<Json, Halt> {
    let known = cached(step, server, name, attribute)?;
    if let Some((_, _, held)) =
        known.as_ref().filter(|(_, _, held)| !held.outdated && step.now < held.until)
    {
        return Ok(shown(server, held, true, false));
    }
    let patience = known.is_some().then_some(PATIENCE_MS);
    let args = json!({"element": name, "attribute": attribute});
    let about = format!("{name} {attribute}");
    match (step.ask_server(server, "element.get", &about, args, patience)?, known) {
        (Ok(answer), known) => {
            let held =
                keep(step, server, name, attribute, &answer, known.map(|(_, _, held)| held))?;
            Ok(shown(server, &held, false, false))
        }
        (Err(problem), Some((_, _, held)))
            if problem.code.exit() == 3 || problem.code == Code::TimedOut =>
        {
            Ok(shown(server, &held, true, true))
        }
        (Err(problem), Some((element, reader, _))) => {
            // The right to it is lost: the copy goes.
            step.change(Key::CachedValue(server, element, reader, attribute.to_owned()), None)?;
            Err(problem.into())
        }
        (Err(problem), None) => Err(problem.into()),
    }
}

type Cached = (ElementId, Option<AccountId>, Arc<CachedValue>);

fn cached(
    step: &Step<'_>,
    server: ServerId,
    name: &str,
    attribute: &str,
) -> Result<Option<Cached>, Halt> {
    let Some(place) = step.stored().cached_place(server, name)? else { return Ok(None) };
    // A copy belongs to the reader that its origin named; one for everyone serves every reader.
    let readers = [None, step.call.caller.account()];
    for reader in readers {
        if let Some(held) = step.stored().cached_value(server, place.element, reader, attribute)? {
            return Ok(Some((place.element, reader, held)));
        }
    }
    Ok(None)
}

fn keep(
    step: &mut Step<'_>,
    server: ServerId,
    name: &str,
    attribute: &str,
    answer: &Json,
    held: Option<Arc<CachedValue>>,
) -> Result<Arc<CachedValue>, Halt> {
    let strange =
        || Halt::from(Problem::new(Code::Internal, "the server's answer is not understood"));
    let field = |name: &str| answer.get(name).cloned().unwrap_or_default();
    let parsed: Option<(WorldId, ElementId, Kind, Head)> = (|| {
        Some((
            serde_json::from_value(field("world")).ok()?,
            serde_json::from_value(field("element")).ok()?,
            serde_json::from_value(field("kind")).ok()?,
            serde_json::from_value(field("head")).ok()?,
        ))
    })();
    let (world, element, kind, head) = parsed.ok_or_else(strange)?;
    let cache_ms = field("cache_ms").as_u64().unwrap_or(0).min(86_400_000);
    let newer =
        held.filter(|held| held.head.log == head.log && held.head.seq > head.seq && !held.outdated);
    if let Some(newer) = newer {
        // Answers may overtake each other; nothing goes back in time.
        return Ok(newer);
    }
    let until = step.now.after_ms(cache_ms);
    let value = Arc::new(CachedValue { value: field("value"), kind, until, head, outdated: false });
    if cache_ms > 0 {
        let reader = serde_json::from_value(field("reader")).unwrap_or_default();
        let key = Key::CachedValue(server, element, reader, attribute.to_owned());
        step.put(
            Key::CachedPlace(server, name.to_owned()),
            Row::CachedPlace(CachedPlace { world, element }),
        )?;
        step.put(key, Row::CachedValue(value.clone()))?;
    }
    Ok(value)
}

fn shown(server: ServerId, held: &CachedValue, cached: bool, stale: bool) -> Json {
    json!({
        "value": held.value,
        "origin": server,
        "cached": cached,
        "cached_until": held.until.to_string(),
        "stale": stale,
    })
}

pub(super) fn set(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (text, attribute) = (step.word("element"), step.word("attribute"));
    let value = step.arg("value").clone();
    if let Caller::Remote { .. } = step.call.caller {
        let named = format!("{text} {attribute}");
        let element = step.element_here(text).map_err(|_| not_offered(&named))?;
        return match step.set_value(Actor::Caller, &element, attribute, value) {
            Err(Halt::Problem(problem))
                if matches!(problem.code, Code::NotFound | Code::NotOffered) =>
            {
                Err(not_offered(&named).into())
            }
            Err(halt) => Err(halt),
            Ok(value) => Ok(json!({"value": value})),
        };
    }
    match step.element(text)? {
        Target::Here(element) => {
            let value = step.set_value(Actor::Caller, &element, attribute, value)?;
            Ok(json!({"value": value}))
        }
        Target::There { server, name } => {
            super::visit::act_for(step, server)?;
            let args = json!({"element": name, "attribute": attribute, "value": value});
            Err(step.forward(server, "element.set", args)?)
        }
    }
}

/// The log of a world for an audience, in this life of the store.
pub(super) fn log_of(step: &Step<'_>, world: WorldId, audience: &Audience) -> Result<LogId, Halt> {
    let node = step.stored().node()?;
    let node = node.ok_or_else(|| Problem::new(Code::Internal, "the store has no node"))?;
    Ok(LogId::of(node.incarnation, world, audience))
}
