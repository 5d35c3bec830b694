//! Avatars: people in worlds, here and elsewhere. Each is in one place; its home keeps where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::look;
use super::record;
use super::share;
use super::token::calling_server;
use super::visit;
use crate::model::{
    Account, AccountId, Code, Element, ElementId, Guest, Json, Key, PermissionState, Presence,
    Problem, Row, Server, ServerId, SystemType, TypeDefinition, Visitor, Whereabouts, World,
    WorldId,
};
use crate::step::{Actor, Halt, Step};

/// People of other servers in our worlds at most.
const GUESTS_MAX: usize = 1_000;
/// People of one other server in our worlds at most.
const GUESTS_OF_SERVER_MAX: usize = 250;
/// Accounts whose whereabouts are looked through.
const PRESENCES_MAX: usize = 10_000;
/// Stands for the world of who is not at the server that is asked.
const NOT_THERE: WorldId = WorldId::from_bytes([0; 16]);
/// The attribute by which an element is the way to a world.
pub(super) const PORTAL: &str = "portal";

pub(super) fn presence_of(step: &Step<'_>, account: AccountId) -> Result<Presence, Halt> {
    let held = step.stored().presence(account)?;
    Ok(held.map_or_else(|| Presence::nowhere(account, step.now), |held| held.as_ref().clone()))
}

fn keep(step: &mut Step<'_>, presence: Presence) -> Result<(), Halt> {
    step.put(Key::Presence(presence.account), Row::Presence(Arc::new(presence)))
}

pub(super) fn world_by_id(step: &Step<'_>, id: WorldId) -> Result<Arc<World>, Halt> {
    let held = step.stored().world(id)?;
    held.ok_or_else(|| Problem::new(Code::NotFound, "that world is gone").into())
}

/// A world's name with its owner's, as others write it.
pub(super) fn name_of(step: &Step<'_>, world: &World) -> Result<String, Halt> {
    let owner = step.stored().account(world.owner)?;
    let owner = owner.map_or_else(|| world.owner.to_string(), |owner| owner.name.to_string());
    Ok(format!("{owner}/{}", world.name))
}

// At home.

/// The acting account's avatar goes into a world, here or at another server.
pub(super) fn enter(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?;
    let text = step.word("world").to_owned();
    let text = portal(step, account.id, &text)?.unwrap_or(text);
    match step.world_elsewhere(&text)? {
        Some((server, name)) => ask_in(step, &account, server, &name),
        None => {
            let world = step.world(Some(&text))?;
            go_to(step, &account, &world)
        }
    }
}

/// Where an element leads, if it is a way to a world: by its name where the account is, or by its place.
fn portal(step: &mut Step<'_>, account: AccountId, text: &str) -> Result<Option<String>, Halt> {
    let is_bare = !text.contains(['/', '@']);
    if is_bare && step.world(Some(text)).is_ok() {
        return Ok(None);
    }
    let element = match presence_of(step, account)?.place {
        _ if !is_bare => step.element_here(text).ok(),
        Whereabouts::Here(world) => {
            let name = Key::ElementName(world, crate::model::name_key(text));
            match step.stored().id_at(name)?.map(ElementId::from_bytes) {
                Some(id) => step.stored().element(world, id)?,
                None => None,
            }
        }
        Whereabouts::There { server, world, .. } => {
            // Who shows nothing has no ways out either.
            let room = match look::look_there(step, server, world) {
                Err(Halt::Problem(_)) => return Ok(None),
                room => room?,
            };
            let exits = room.get("exits").and_then(Json::as_array).into_iter().flatten();
            let mut called = exits.filter(|exit| exit.get("name").is_some_and(|name| name == text));
            return Ok(called.find_map(|exit| exit.get("to")?.as_str().map(str::to_owned)));
        }
        Whereabouts::Nowhere => None,
    };
    let Some(element) = element else { return Ok(None) };
    match step.read_value(Actor::Caller, &element, PORTAL) {
        Ok(reading) => Ok(reading.value.as_str().map(str::to_owned)),
        Err(Halt::Problem(_)) => Ok(None),
        Err(halt) => Err(halt),
    }
}

fn ask_in(
    step: &mut Step<'_>,
    account: &Account,
    server: ServerId,
    world: &str,
) -> Result<Json, Halt> {
    let presence = presence_of(step, account.id)?;
    keep(step, Presence { asked: Some((server, step.call.deadline_at)), ..presence })?;
    let args = entry(step, account.id, server, world)?;
    Err(step.forward(server, "avatar.enter", args)?)
}

/// What a server is told of somebody who wants to come in. What their avatar is made from goes ahead.
fn entry(
    step: &mut Step<'_>,
    account: AccountId,
    server: ServerId,
    into: &str,
) -> Result<Json, Halt> {
    let held = own_type(step, account)?;
    if let Some(held) = &held {
        share::send_unless_held(step, held, server)?;
    }
    let mut args = json!({"record": record::of(step, account)?, "into": into});
    if let Some(held) = held {
        args["type"] = json!(held.id);
    }
    Ok(args)
}

/// What the avatar of one of ours is made from, where that is a type of their own.
fn own_type(step: &Step<'_>, account: AccountId) -> Result<Option<Arc<TypeDefinition>>, Halt> {
    let Some(id) = presence_of(step, account)?.of_type else { return Ok(None) };
    let held = step.stored().element_type(id)?;
    Ok(held.filter(|held| held.retired_at.is_none()))
}

/// Gives the acting account's avatar a type of its own, or the system's again, from the next world on
/// into which it goes.
pub(super) fn become_type(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?;
    let system = SystemType::Avatar.id();
    let held = match step.text("type") {
        None => None,
        Some(text) => {
            let held = step.element_type(text, Some(account.id))?;
            if held.owner != account.id || held.home.is_some() {
                let says = "an avatar is made from a type of its own account";
                return Err(Problem::new(Code::NotPermitted, says).into());
            }
            if !step.ancestors(&held)?.contains(&system) {
                let says = format!("the type {} is no child of avatar", held.definition.name);
                return Err(Problem::new(Code::Conflict, says)
                    .hint("name server:avatar among its parents")
                    .into());
            }
            Some(held)
        }
    };
    let presence = presence_of(step, account.id)?;
    keep(step, Presence { of_type: held.as_ref().map(|held| held.id), ..presence })?;
    let name = held.map_or_else(|| "avatar".to_owned(), |held| held.definition.name.to_string());
    Ok(json!({"id": account.id.avatar(), "type": name}))
}

/// Puts the avatar of one of ours into a world of ours.
fn go_to(step: &mut Step<'_>, account: &Account, world: &World) -> Result<Json, Halt> {
    let presence = presence_of(step, account.id)?;
    if presence.place != Whereabouts::Here(world.id) {
        leave_place(step, &presence)?;
        stand_here(step, account, world)?;
        keep(step, presence.moved_to(Whereabouts::Here(world.id), step.now))?;
    } else if presence.asked.is_some() || presence.returns.is_some() {
        keep(step, Presence { asked: None, returns: None, ..presence })?;
    }
    Ok(json!({
        "id": world.id,
        "world": world.id,
        "name": name_of(step, world)?,
        "server": step.setting.name,
        "account": account.id,
    }))
}

/// The avatar leaves where it is; the place itself cannot keep it.
fn leave_place(step: &mut Step<'_>, presence: &Presence) -> Result<(), Halt> {
    match &presence.place {
        Whereabouts::Nowhere => Ok(()),
        Whereabouts::Here(world) => stand_out(step, presence.account, *world),
        Whereabouts::There { server, world, .. } => {
            let args = json!({"account": presence.account, "world": world});
            let tell = step.tell_of(*server, "avatar.leave", args)?;
            step.tell(tell);
            Ok(())
        }
    }
}

/// The acting account's avatar goes back to where it came from, or home.
pub(super) fn leave(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?;
    let presence = presence_of(step, account.id)?;
    leave_place(step, &presence)?;
    let back = if step.arg("own") == &Json::Bool(true) {
        let place = own_world(step, account.id)?;
        Presence { place, back: Vec::new(), ..presence.stepped_back(step.now) }
    } else {
        presence.stepped_back(step.now)
    };
    arrive(step, &account, back)
}

/// Puts an avatar that has left everywhere where its presence says.
fn arrive(step: &mut Step<'_>, account: &Account, presence: Presence) -> Result<Json, Halt> {
    match presence.place.clone() {
        Whereabouts::Nowhere => {
            keep(step, presence)?;
            Ok(json!({"id": null, "world": null, "name": null, "server": step.setting.name}))
        }
        Whereabouts::Here(id) => {
            let Ok(world) = world_by_id(step, id) else {
                return arrive(step, account, presence.stepped_back(step.now));
            };
            let stood = stand_here(step, account, &world);
            if matches!(stood, Err(Halt::Problem(_))) {
                // Nobody is kept where they are by a world that does not let them in.
                return arrive(step, account, Presence { place: Whereabouts::Nowhere, ..presence });
            }
            stood?;
            keep(step, presence)?;
            let name = name_of(step, &world)?;
            Ok(json!({"id": id, "world": id, "name": name, "server": step.setting.name}))
        }
        Whereabouts::There { server, name, .. } => {
            // Until that server has said yes, they are nowhere.
            keep(step, Presence { place: Whereabouts::Nowhere, ..presence })?;
            ask_in(step, account, server, &name)
        }
    }
}

/// The first world of an account, if it has one.
fn own_world(step: &Step<'_>, account: AccountId) -> Result<Whereabouts, Halt> {
    let first = Key::WorldName(account, String::new());
    let last = Key::WorldName(account, "\u{10ffff}".to_owned());
    let rows = step.stored().rows(&first, &last, 1)?;
    Ok(match rows.as_slice() {
        [(_, Row::Id(id))] => Whereabouts::Here(WorldId::from_bytes(*id)),
        _ => Whereabouts::Nowhere,
    })
}

/// Another server has let one of ours in.
pub(super) fn placed(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let (account, world) = account_and_world(step)?;
    let account = step.account_here(&account.to_string())?;
    let name: String = step.word("name").chars().filter(|c| !c.is_control()).take(129).collect();
    let presence = presence_of(step, account.id)?;
    if !presence.is_expected_at(server.id, step.now) || step.stored().world(world)?.is_some() {
        let args = json!({"account": account.id, "world": world});
        let tell = step.tell_of(server.id, "avatar.leave", args)?;
        step.tell(tell);
        return Ok(json!({"id": account.id}));
    }
    let place = Whereabouts::There { server: server.id, world, name };
    // They may be on their way to yet another server.
    let asked = presence.asked.filter(|(at, _)| *at != server.id);
    if presence.place == place {
        keep(step, Presence { asked, returns: None, ..presence })?;
    } else {
        let same_server =
            matches!(&presence.place, Whereabouts::There { server: at, .. } if *at == server.id);
        if !same_server {
            leave_place(step, &presence)?;
        }
        keep(step, Presence { asked, ..presence.moved_to(place, step.now) })?;
    }
    Ok(json!({"id": account.id}))
}

fn account_and_world(step: &Step<'_>) -> Result<(AccountId, WorldId), Halt> {
    let bad = |what: &str| Halt::from(Problem::new(Code::Usage, format!("the {what} is none")));
    let account = step.word("account").parse().map_err(|_| bad("account"))?;
    Ok((account, step.word("world").parse().map_err(|_| bad("world"))?))
}

/// One of ours does not stand in a world of another server any more: it had lost contact, or was started
/// anew, and they go there again now that it can be heard; or it does not let them in.
pub(super) fn put_out(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let (account, world) = account_and_world(step)?;
    let Some(presence) = step.stored().presence(account)? else {
        return Ok(json!({"id": account}));
    };
    let refused = step.arg("refused") == &Json::Bool(true);
    let is_awaited = presence.returns.as_ref().is_some_and(|(at, _)| *at == server.id);
    match &presence.place {
        Whereabouts::There { server: at, world: held, name }
            if *at == server.id && *held == world =>
        {
            if refused {
                come_home(step, &presence, None)?;
            } else {
                go_again(step, account, server.id, name)?;
            }
        }
        _ if refused && is_awaited => {
            keep(step, Presence { returns: None, ..presence.as_ref().clone() })?;
        }
        _ => {}
    }
    Ok(json!({"id": account}))
}

/// Asks a server to let somebody in who is or was there.
fn go_again(
    step: &mut Step<'_>,
    account: AccountId,
    server: ServerId,
    world: &str,
) -> Result<(), Halt> {
    let presence = presence_of(step, account)?;
    let from = match &presence.place {
        Whereabouts::There { server: at, world, .. } if *at == server => *world,
        Whereabouts::There { .. } | Whereabouts::Here(_) | Whereabouts::Nowhere => NOT_THERE,
    };
    let mut args = entry(step, account, server, world)?;
    args["from"] = json!(from);
    let tell = step.tell_of(server, "avatar.enter", args)?;
    step.tell(tell);
    Ok(())
}

/// One of ours comes home from a server that is away; the visit is remembered.
fn come_home(
    step: &mut Step<'_>,
    presence: &Presence,
    returns: Option<(ServerId, String)>,
) -> Result<(), Halt> {
    let Some(account) = step.stored().account(presence.account)? else { return Ok(()) };
    let place = own_world(step, account.id)?;
    let home = Presence { place: place.clone(), returns, since: step.now, ..presence.clone() };
    if let Whereabouts::Here(id) = place {
        let world = world_by_id(step, id)?;
        let stood = step.unasked(|step| stand_here(step, &account, &world));
        // Their own world may refuse them: then they are nowhere.
        if matches!(stood, Err(Halt::Problem(_))) {
            return keep(step, Presence { place: Whereabouts::Nowhere, ..home });
        }
        stood?;
    }
    keep(step, home)
}

pub(super) fn presences(step: &Step<'_>) -> Result<Vec<Arc<Presence>>, Halt> {
    let key = |bytes| Key::Presence(AccountId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), PRESENCES_MAX)?;
    Ok(rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Presence(held) => Some(held),
            _ => None,
        })
        .collect())
}

/// A server is away: its people leave our worlds, and ours come home from its own.
pub(super) fn away(step: &mut Step<'_>) -> Result<Json, Halt> {
    let id: ServerId = step
        .word("server")
        .parse()
        .map_err(|_| Problem::new(Code::Usage, "the server's id is none"))?;
    // It may be back again, and what was to be done about that have come first.
    if step.arg("announced") == &Json::Bool(true) || !step.stored().contact(id).connected {
        part(step, id, true)?;
    }
    Ok(json!({"id": id}))
}

/// Parts with a server: its people leave our worlds, and ours come home from its own. `returns`: they go
/// there again when it is back.
pub(super) fn part(step: &mut Step<'_>, id: ServerId, returns: bool) -> Result<(), Halt> {
    for guest in guests(step)?.iter().filter(|guest| guest.home == id) {
        show_out(step, guest, !returns)?;
    }
    for presence in presences(step)? {
        let place = &presence.place;
        let is_there = matches!(place, Whereabouts::There { server, .. } if *server == id);
        let is_expected = presence.returns.as_ref().is_some_and(|(server, _)| *server == id);
        if is_there {
            break_off(step, &presence, returns)?;
        } else if is_expected && !returns {
            keep(step, Presence { returns: None, ..presence.as_ref().clone() })?;
        }
    }
    Ok(())
}

/// Ends a visit from here: the host hears that they have left, as soon as it hears anything.
fn break_off(step: &mut Step<'_>, presence: &Presence, returns: bool) -> Result<(), Halt> {
    leave_place(step, presence)?;
    let Whereabouts::There { server, name, .. } = &presence.place else { return Ok(()) };
    come_home(step, presence, returns.then(|| (*server, name.clone())))
}

/// An account is removed: its avatar leaves wherever it is.
pub(super) fn forget(step: &mut Step<'_>, account: AccountId) -> Result<(), Halt> {
    if let Some(presence) = step.stored().presence(account)? {
        leave_place(step, &presence)?;
        step.change(Key::Presence(account), None)?;
    }
    Ok(())
}

/// A server is back: those of ours whose visit was broken off go there again, and those who still are
/// there say so: it may have been started anew.
pub(super) fn back(step: &mut Step<'_>) -> Result<Json, Halt> {
    let id: ServerId = step
        .word("server")
        .parse()
        .map_err(|_| Problem::new(Code::Usage, "the server's id is none"))?;
    for presence in presences(step)? {
        let broken_off = presence.returns.clone();
        let stands = match &presence.place {
            Whereabouts::There { server, name, .. } => Some((*server, name.clone())),
            Whereabouts::Here(_) | Whereabouts::Nowhere => None,
        };
        if let Some((server, world)) = broken_off.or(stands).filter(|(server, _)| *server == id) {
            go_again(step, presence.account, server, &world)?;
        }
    }
    Ok(json!({"id": id}))
}

/// At a start nobody of another server is here yet, and ours are with nobody.
pub(super) fn all_gone(step: &mut Step<'_>) -> Result<(), Halt> {
    for guest in guests(step)? {
        show_out(step, &guest, false)?;
    }
    for presence in presences(step)? {
        if matches!(presence.place, Whereabouts::There { .. }) {
            break_off(step, &presence, true)?;
        }
    }
    Ok(())
}

// In our worlds.

pub(super) fn guests(step: &Step<'_>) -> Result<Vec<Arc<Guest>>, Halt> {
    let key = |bytes| Key::Guest(AccountId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), GUESTS_MAX + 1)?;
    Ok(rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Guest(held) => Some(held),
            _ => None,
        })
        .collect())
}

/// Somebody of another server wants to come into a world of ours. Where their home asks by itself, after
/// contact was lost, it hears of a no too: it may think that they still are there.
pub(super) fn let_in(step: &mut Step<'_>) -> Result<Json, Halt> {
    let home = calling_server(step)?;
    let user = record::of_user(step, &home, "record")?;
    let known = visit::know(step, &home, user, PermissionState::Known, None)?;
    let came = step.in_event(|step| come_in(step, &home, &known));
    let from = step.text("from").map(str::to_owned);
    match (came, from) {
        (Err(Halt::Problem(problem)), Some(world)) => {
            let args = json!({"account": known.account, "world": world, "refused": true});
            let tell = step.tell_of(home.id, "avatar.gone", args)?;
            step.tell(tell);
            Ok(json!({"refused": problem.says}))
        }
        (came, _) => came,
    }
}

fn come_in(step: &mut Step<'_>, home: &Server, known: &Visitor) -> Result<Json, Halt> {
    let text = step.word("into");
    let world = step.world(Some(text)).map_err(|_| crate::step::not_offered(text))?;
    let held = step.stored().guest(known.account)?;
    // Who has come meanwhile is not taken back to where they were.
    let is_again = step.text("from").is_some();
    let world = match &held {
        Some(held) if is_again => world_by_id(step, held.world)?,
        Some(_) | None => world,
    };
    let stays = held.as_ref().is_some_and(|held| held.world == world.id);
    if !stays {
        if let Some(held) = &held {
            stand_out(step, held.account, held.world)?;
        } else {
            check_room(step, home.id)?;
        }
        let of_type = guests_type(step, home)?;
        stand_in(step, known.account, &known.name, &world, of_type)?;
    }
    let guest = Guest {
        account: known.account,
        home: home.id,
        world: world.id,
        name: known.name.clone(),
        since: step.now,
    };
    step.put(Key::Guest(guest.account), Row::Guest(Arc::new(guest)))?;
    let name = name_of(step, &world)?;
    let args = json!({"account": known.account, "world": world.id, "name": name});
    let tell = step.tell_of(home.id, "avatar.placed", args)?;
    step.tell(tell);
    Ok(json!({
        "id": world.id,
        "world": world.id,
        "name": name,
        "account": known.account,
        "called": known.name,
        "server": step.setting.name,
    }))
}

/// What the avatar of somebody who comes is to be made from: a type of their home, where that left it
/// here; what acts in it runs there.
fn guests_type(step: &Step<'_>, home: &Server) -> Result<Option<Arc<TypeDefinition>>, Halt> {
    let Some(id) = step.text("type").and_then(|id| id.parse().ok()) else { return Ok(None) };
    let held = step.stored().element_type(id)?;
    Ok(held.filter(|held| held.home == Some(home.id) && held.retired_at.is_none()))
}

/// Checks that there is room for one more guest.
fn check_room(step: &Step<'_>, home: ServerId) -> Result<(), Halt> {
    let here = guests(step)?;
    let of_home = here.iter().filter(|guest| guest.home == home).count();
    if here.len() < GUESTS_MAX && of_home < GUESTS_OF_SERVER_MAX {
        return Ok(());
    }
    let says = format!(
        "at most {GUESTS_MAX} people of other servers are let in here, and {GUESTS_OF_SERVER_MAX} of one"
    );
    Err(Problem::new(Code::OverLimit, says).into())
}

/// Somebody of another server leaves.
pub(super) fn let_out(step: &mut Step<'_>) -> Result<Json, Halt> {
    let home = calling_server(step)?;
    let (account, world) = account_and_world(step)?;
    if let Some(guest) = step.stored().guest(account)?
        && guest.home == home.id
        && guest.world == world
    {
        remove_guest(step, &guest)?;
    }
    Ok(json!({"id": account}))
}

/// Puts a guest out, and says so. `for_good`: they are not let in again.
fn show_out(step: &mut Step<'_>, guest: &Guest, for_good: bool) -> Result<(), Halt> {
    remove_guest(step, guest)?;
    let args = json!({"account": guest.account, "world": guest.world, "refused": for_good});
    let tell = step.tell_of(guest.home, "avatar.gone", args)?;
    step.tell(tell);
    Ok(())
}

fn remove_guest(step: &mut Step<'_>, guest: &Guest) -> Result<(), Halt> {
    stand_out(step, guest.account, guest.world)?;
    step.change(Key::Guest(guest.account), None)
}

/// Puts the avatar of one of ours into a world of ours.
fn stand_here(step: &mut Step<'_>, account: &Account, world: &World) -> Result<(), Halt> {
    let of_type = own_type(step, account.id)?;
    stand_in(step, account.id, account.name.as_str(), world, of_type)
}

/// Puts an avatar into a world: among those who stand in the set of the world, which may refuse.
fn stand_in(
    step: &mut Step<'_>,
    account: AccountId,
    called: &str,
    world: &World,
    of_type: Option<Arc<TypeDefinition>>,
) -> Result<(), Halt> {
    let definer = step.stored().element(world.id, world.id.element())?;
    let definer = definer
        .ok_or_else(|| Problem::new(Code::Internal, "the world has no element of its own"))?;
    let held = match of_type {
        Some(held) => held,
        None => step.type_of(SystemType::Avatar.id())?,
    };
    let name = called.replace('.', "-");
    let name = if step
        .stored()
        .id_at(Key::ElementName(world.id, crate::model::name_key(&name)))?
        .is_none()
    {
        crate::model::Name::new(&name).ok()
    } else {
        None
    };
    let avatar = Element {
        id: account.avatar(),
        world: world.id,
        type_id: held.id,
        owner: account,
        name,
        values: BTreeMap::new(),
        attributes_off: BTreeSet::new(),
        parents_off: BTreeSet::new(),
        in_sets: 0,
        epoch: 0,
        rests: None,
        chain: Vec::new(),
        home: None,
    };
    step.in_event(|step| {
        let avatar = step.take_over(avatar)?;
        step.make_set(&definer)?;
        step.admit(&definer, &avatar)
    })
}

/// Takes an avatar out of a world: nobody can keep it, and who stands there is told.
fn stand_out(step: &mut Step<'_>, account: AccountId, world: WorldId) -> Result<(), Halt> {
    let Some(avatar) = step.stored().element(world, account.avatar())? else { return Ok(()) };
    if let Some(definer) = step.stored().element(world, world.element())? {
        step.dismiss(&definer, &avatar)?;
    }
    let current = step.stored().element(world, account.avatar())?;
    let held = step.type_of(avatar.type_id)?;
    step.remove_element(current.as_deref().unwrap_or(&avatar), &held)
}
