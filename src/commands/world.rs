//! Worlds: containers of elements.

use std::sync::Arc;

use serde_json::json;

use crate::model::{Code, ElementId, Json, Key, Place, Problem, Row, SystemType, World, WorldId};
use crate::step::{Halt, Step};

/// Elements that are counted for `world show`.
const COUNTED_MAX: usize = 10_000;

pub(super) fn add(step: &mut Step<'_>) -> Result<Json, Halt> {
    let text = step.word("name");
    let place =
        Place::parse(text).map_err(|mistake| Problem::new(Code::Usage, mistake.to_string()))?;
    let acting = step.acting();
    let (owner, name) = match place.words.as_slice() {
        [_] => (acting?, text),
        [account, _] => {
            let owner = step.account_here(account)?;
            // The operator may act as any local account, and names it here.
            if step.check_operator().is_err() && acting?.id != owner.id {
                return Err(Problem::new(
                    Code::NotPermitted,
                    format!("only {} may do this", owner.name),
                )
                .into());
            }
            (owner, text.rsplit('/').next().unwrap_or(text))
        }
        _ => return Err(Problem::new(Code::Usage, "a world is named NAME or ACCOUNT/NAME").into()),
    };
    let name = step.name(name)?;
    if step.stored().id_at(Key::WorldName(owner.id, name.key()))?.is_some() {
        let says = format!("{} has a world '{name}' already", owner.name);
        return Err(Problem::new(Code::NameTaken, says).into());
    }
    let id = WorldId::at(step.now, step.random());
    let world = World { id, owner: owner.id, name: name.clone(), added_at: step.now };
    step.put(Key::World(id), Row::World(Arc::new(world)))?;
    step.put(Key::WorldName(owner.id, name.key()), Row::Id(*id.as_bytes()))?;
    step.make_system_element(SystemType::World, id.element(), owner.id, id)?;
    Ok(json!({"id": id, "name": format!("{}/{name}", owner.name)}))
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let owner = match step.text("account") {
        Some(account) => Some(step.account_here(account)?.id),
        None => None,
    };
    let (stored, system) = (step.stored(), step.system_world());
    super::page::list(
        step,
        |id| Key::World(WorldId::from_bytes(id)),
        |row| match row {
            Row::World(world)
                if world.id != system && owner.is_none_or(|owner| owner == world.owner) =>
            {
                let owner = stored.account(world.owner).ok().flatten();
                Some(json!({
                    "id": world.id,
                    "name": owner.as_ref().map_or_else(|| world.name.to_string(), |owner| format!("{}/{}", owner.name, world.name)),
                    "owner": owner.map(|owner| owner.name.to_string()),
                }))
            }
            _ => None,
        },
    )
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    if let Some((server, name)) = step.world_elsewhere(step.word("world"))? {
        // Where its feed stands tells which world it is.
        let answer =
            step.ask_server(server, "feed.pull", &name, json!({"world": name}), None)??;
        let id = answer.get("world").cloned().unwrap_or_default();
        return Ok(json!({"id": id, "name": name, "server": server, "head": answer.get("head")}));
    }
    let world = step.world(step.text("world"))?;
    let owner = step.stored().account(world.owner)?;
    let elements = elements_of(step, &world, COUNTED_MAX)?;
    Ok(json!({
        "id": world.id,
        "name": world.name,
        "server": step.setting.us,
        "owner": owner.map(|owner| owner.name.to_string()),
        "owner_id": world.owner,
        "element": world.id.element(),
        "elements": elements,
        "added_at": world.added_at.to_string(),
    }))
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    let world = step.world(step.text("world"))?;
    check_owner(step, &world)?;
    if elements_of(step, &world, 1)? > 0 {
        return Err(Problem::new(
            Code::Conflict,
            format!("the world '{}' still has elements", world.name),
        )
        .into());
    }
    step.remove_system_element(world.id, world.id.element())?;
    step.change(Key::World(world.id), None)?;
    step.change(Key::WorldName(world.owner, world.name.key()), None)?;
    Ok(json!({"id": world.id}))
}

/// Checks that the world is the acting account's.
pub(super) fn check_owner(step: &Step<'_>, world: &World) -> Result<(), Halt> {
    if step.acting()?.id == world.owner {
        return Ok(());
    }
    Err(Problem::new(Code::NotPermitted, format!("the world '{}' is somebody else's", world.name))
        .hint("name its owner with --as ACCOUNT")
        .into())
}

fn elements_of(step: &Step<'_>, world: &World, limit: usize) -> Result<usize, Halt> {
    let first = Key::Element(world.id, ElementId::from_bytes([0; 16]));
    let last = Key::Element(world.id, ElementId::from_bytes([0xff; 16]));
    // What stands for the world itself is no thing in it.
    let own = step.stored().element(world.id, world.id.element())?.is_some();
    let found = step.stored().rows(&first, &last, limit + usize::from(own))?.len();
    Ok(found - usize::from(own && found > 0))
}
