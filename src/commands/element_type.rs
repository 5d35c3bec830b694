//! Types: published from type files, growing by revisions.

use std::sync::Arc;

use serde_json::json;

use crate::model::{Code, Json, Key, Problem, Row, TypeDefinition, TypeId, hex};
use crate::script::{bad_type, read_type};
use crate::step::{Halt, Step};

pub(super) fn publish(step: &mut Step<'_>) -> Result<Json, Halt> {
    let owner = step.acting()?;
    let file = read_type(step.word("source")).map_err(|mistakes| {
        bad_type("the type file", &mistakes).hint("see all of them with: freehold type check FILE")
    })?;
    let definition = file.definition;
    let name = definition.name.clone();
    let held = match step.stored().id_at(Key::TypeName(owner.id, name.key()))? {
        Some(id) => Some(step.type_of(TypeId::from_bytes(id))?),
        None => None,
    };
    let next = match held {
        Some(held) if held.definition.says_the_same(&definition) => held.as_ref().clone(),
        Some(held) if held.used && !held.definition.grows_into(&definition) => {
            let says = format!(
                "the type '{name}' has elements: it may grow, but nothing of it may change"
            );
            return Err(Problem::new(Code::TypeInUse, says)
                .hint("add attributes with defaults and actions, or publish it under another name")
                .into());
        }
        Some(held) => {
            TypeDefinition { revision: held.revision + 1, definition, ..held.as_ref().clone() }
        }
        None => {
            let id = TypeId::at(step.now, step.random());
            TypeDefinition { id, owner: owner.id, revision: 1, used: false, definition }
        }
    };
    let (id, revision) = (next.id, next.revision);
    step.put(Key::TypeName(owner.id, name.key()), Row::Id(*id.as_bytes()))?;
    step.put(Key::Type(id), Row::Type(Arc::new(next)))?;
    Ok(json!({"id": id, "name": name, "revision": revision, "assumed": file.assumed}))
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let stored = step.stored();
    super::page::list(
        step,
        |id| Key::Type(TypeId::from_bytes(id)),
        |row| match row {
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
        "definition": definition,
    }))
}
