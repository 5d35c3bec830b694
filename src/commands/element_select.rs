//! Elements are listed: those of a world that a selection picks.

use serde_json::json;

use crate::model::{Element, Json};
use crate::step::{Actor, Halt, Step};

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let world = step.world(step.text("world"))?;
    let limit = super::page::limit(step);
    let cursor = step.text("cursor");
    let text = step.text("where").unwrap_or_default();
    let page = step.select(Actor::Caller, world.id, text, cursor, limit)?;
    let items: Vec<Json> = page.found.iter().map(|element| shown(step, element)).collect();
    Ok(json!({"items": items, "next": page.next}))
}

fn shown(step: &Step<'_>, element: &Element) -> Json {
    let element_type = step.stored().element_type(element.type_id).ok().flatten();
    json!({
        "id": element.id,
        "name": element.name.as_ref().map_or_else(|| element.id.to_string(), ToString::to_string),
        "type": element_type.map(|held| held.definition.name.to_string()),
        "owner": element.owner,
    })
}
