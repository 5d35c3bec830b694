//! What is in a world, as those who are there see it; and where everybody is.

use serde_json::json;

use super::avatar::{PORTAL, guests, name_of, presence_of, presences, world_by_id};
use super::server;
use crate::model::{
    Code, Element, ElementId, Guest, Json, Problem, ServerId, TypeDefinition, Whereabouts, WorldId,
};
use crate::step::{Actor, Halt, Step};

/// Things that a look shows at most.
const SEEN_MAX: usize = 200;

/// What is in a world: things, people, and ways out.
pub(super) fn look(step: &mut Step<'_>) -> Result<Json, Halt> {
    if step.call.caller.server().is_some() {
        let id: WorldId =
            step.word("at").parse().map_err(|_| crate::step::not_offered(step.word("at")))?;
        let user = step.known_user()?.map(|user| user.account);
        let guest = match user {
            Some(account) => step.stored().guest(account)?,
            None => None,
        };
        if guest.is_none_or(|guest| guest.world != id) {
            return Err(crate::step::not_offered(step.word("at")).into());
        }
        return seen(step, id);
    }
    if let Some(text) = step.text("at") {
        let id = step.world(Some(text))?.id;
        return seen(step, id);
    }
    let account = step.acting()?;
    match presence_of(step, account.id)?.place {
        Whereabouts::Nowhere => Err(Problem::new(Code::NotFound, "you are in no world")
            .hint("go into one with: freehold world enter WORLD")
            .into()),
        Whereabouts::Here(id) => seen(step, id),
        Whereabouts::There { server, world, .. } => look_there(step, server, world),
    }
}

/// What is in a world of another server, as it says.
pub(super) fn look_there(
    step: &mut Step<'_>,
    server: ServerId,
    world: WorldId,
) -> Result<Json, Halt> {
    let args = json!({"at": world});
    let mut answer = step.ask_server(server, "world.look", &world.to_string(), args, None)??;
    let known = step.stored().server(server)?;
    answer["server"] = json!(known.map(|known| known.name.to_string()));
    Ok(answer)
}

fn seen(step: &mut Step<'_>, id: WorldId) -> Result<Json, Halt> {
    let world = world_by_id(step, id)?;
    let page = step.select(Actor::Caller, id, "", None, SEEN_MAX)?;
    let (mut things, mut exits, mut people) = (Vec::new(), Vec::new(), Vec::new());
    for element in &page.found {
        let name =
            element.name.as_ref().map_or_else(|| element.id.to_string(), ToString::to_string);
        if element.id == element.owner.avatar() {
            people.push(person(step, element)?);
            continue;
        }
        let held = step.type_of(element.type_id)?;
        match step.read_value(Actor::Caller, element, PORTAL) {
            Ok(reading) => {
                exits.push(json!({"id": element.id, "name": name, "to": reading.value}));
            }
            Err(Halt::Problem(_)) => {
                things.push(json!({
                    "id": element.id,
                    "name": name,
                    "type": held.definition.name,
                    "avatar": kind_of(step, element, &held)?,
                }));
            }
            Err(halt) => return Err(halt),
        }
    }
    let description = match step.stored().element(id, id.element())? {
        Some(element) => step
            .read_value(Actor::Caller, &element, "description")
            .map(|reading| reading.value)
            .unwrap_or_default(),
        None => Json::Null,
    };
    Ok(json!({
        "id": id,
        "name": name_of(step, &world)?,
        "server": step.setting.name,
        "description": description,
        "things": things,
        "people": people,
        "exits": exits,
        "more": page.next.is_some(),
    }))
}

/// Somebody in a world as others see them.
fn person(step: &Step<'_>, avatar: &Element) -> Result<Json, Halt> {
    let account = step.stored().account(avatar.owner)?;
    let guest = step.stored().guest(avatar.owner)?;
    let (name, home) = match (&account, &guest) {
        (Some(account), _) => (account.name.to_string(), step.setting.name.to_string()),
        (None, Some(guest)) => (guest.name.clone(), server::name_of(step, guest.home)),
        (None, None) => (avatar.owner.to_string(), String::new()),
    };
    Ok(json!({
        "id": avatar.id,
        "account": avatar.owner,
        "name": name,
        "server": home,
        "position": step.stored().position(avatar.owner),
    }))
}

/// Where the accounts of this server are.
pub(super) fn whereabouts(step: &mut Step<'_>) -> Result<Json, Halt> {
    let mut items = Vec::new();
    if step.arg("all") == &Json::Bool(true) {
        for guest in guests(step)? {
            items.push(guest_shown(step, &guest)?);
        }
    }
    for presence in presences(step)? {
        let account = step.stored().account(presence.account)?;
        let (server, world, name): (Option<ServerId>, Option<WorldId>, Option<String>) =
            match &presence.place {
                Whereabouts::Nowhere => (None, None, None),
                Whereabouts::Here(id) => {
                    let world = step.stored().world(*id)?;
                    let name = world.map(|world| name_of(step, &world)).transpose()?;
                    (Some(step.setting.us), Some(*id), name)
                }
                Whereabouts::There { server, world, name } => {
                    (Some(*server), Some(*world), Some(name.clone()))
                }
            };
        let avatar: ElementId = presence.account.avatar();
        items.push(json!({
            "id": presence.account,
            "name": account.map(|account| account.name.to_string()),
            "kind": "player",
            "avatar": avatar,
            "server": server,
            "world": world,
            "world_name": name,
            "returns": presence.returns.is_some(),
            "since": presence.since.to_string(),
        }));
    }
    Ok(json!({"items": items, "next": null}))
}

/// Somebody of another server who is in a world of ours.
fn guest_shown(step: &Step<'_>, guest: &Guest) -> Result<Json, Halt> {
    let world = step.stored().world(guest.world)?;
    Ok(json!({
        "id": guest.account,
        "name": guest.name,
        "kind": "proxy",
        "home": server::name_of(step, guest.home),
        "avatar": guest.account.avatar(),
        "server": step.setting.us,
        "world": guest.world,
        "world_name": world.map(|world| name_of(step, &world)).transpose()?,
        "since": guest.since.to_string(),
    }))
}

/// What makes an element act: a person here (`player`), code that runs here (`local`), or somebody or
/// something at another server (`proxy`); none where nothing does.
pub(super) fn kind_of(
    step: &Step<'_>,
    element: &Element,
    held: &TypeDefinition,
) -> Result<Option<&'static str>, Halt> {
    if element.id == element.owner.avatar() {
        let is_ours = step.stored().account(element.owner)?.is_some();
        return Ok(Some(if is_ours { "player" } else { "proxy" }));
    }
    // Nobody learns here that there is something of which they may see nothing.
    let standing = step.standing(Actor::Caller, element, held)?;
    let actions = held.definition.actions.values();
    let mut actions = actions.filter(|action| step.is_offered(standing, held, action));
    let is_there = element.home.is_none() && held.home.is_none();
    Ok(match actions.next() {
        None => element.home.is_some().then_some("proxy"),
        Some(_) if is_there => Some("local"),
        Some(first) => {
            let runs_here =
                element.home.is_none() && (first.portable || actions.any(|action| action.portable));
            Some(if runs_here { "local" } else { "proxy" })
        }
    })
}
