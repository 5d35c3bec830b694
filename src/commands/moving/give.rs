//! The giver of things: offers them, calls it off, hears what became of them, and takes back what a
//! server that is gone for good was offered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::json;

use super::again::check_settled;
use super::receive::forget_pieces;
use super::{EPOCH_MAX, Values, bad, shown, store, told, transfer_id, transfers};
use crate::commands::record;
use crate::commands::token::calling_server;
use crate::model::{
    Code, Element, ElementId, EventKind, Json, Key, Moved, Moving, Problem, Rest, Row, Sealed,
    Server, ServerId, Transfer, TransferId, TransferRole, TransferState, TypeDefinition, World,
    hex, unhex,
};
use crate::presence::{GiverHears, GiverWishes, Package, Packed, THINGS_MAX, giver, is_newer};
use crate::step::{Halt, Step, Verdict, above, check_acts, outward_definition};
use crate::trust::{DeedClaim, DeedKind, issue_deed, verify_deed};

/// Moves a thing, and what stands in it, into a world: here at once, elsewhere by an offer.
pub(in crate::commands) fn start(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    crate::commands::element_life::check_owner(step, &element, "move")?;
    if step.arg("cancel") == &Json::Bool(true) {
        return cancel(step, &element);
    }
    let Some(to) = step.text("to") else {
        let says = "say where to: ACCOUNT@SERVER/WORLD, ACCOUNT/WORLD, or --cancel";
        return Err(Problem::new(Code::Usage, says).into());
    };
    check_acts(&element)?;
    put_down(step, &element, to)
}

/// Puts a thing of the acting account into a world.
pub(super) fn put_down(step: &mut Step<'_>, element: &Element, to: &str) -> Result<Json, Halt> {
    step.check_thing(element)?;
    check_ours(element)?;
    if matches!(element.rests, Some(Rest::Moving(_))) {
        return Err(on_its_way(element));
    }
    match step.world_elsewhere(to)? {
        Some((server, world)) => offer_to(step, element, server, &world),
        None => {
            let world = step.world(Some(to))?;
            carry_over(step, element, &world)
        }
    }
}

/// Checks that a thing is no copy of another server's.
pub(super) fn check_ours(element: &Element) -> Result<(), Halt> {
    match element.home {
        None => Ok(()),
        Some(_) => {
            let says = "it is a copy of a thing that is another server's";
            Err(Problem::new(Code::Conflict, says).into())
        }
    }
}

pub(super) fn on_its_way(element: &Element) -> Halt {
    let name = element.name.as_ref().map_or_else(|| element.id.to_string(), ToString::to_string);
    Problem::new(Code::Conflict, format!("'{name}' is on its way to another server"))
        .hint(format!("call it off with: freehold element move {name} --cancel"))
        .into()
}

/// Puts a thing into another world of this server. Whoever owns that world owns the thing from then on.
fn carry_over(step: &mut Step<'_>, element: &Element, world: &World) -> Result<Json, Halt> {
    let things = things_of(step, element)?;
    if world.owner != element.owner {
        let us = step.setting.us;
        if let Verdict::No(problem) = ask_world(step, world, element, us, false)? {
            return Err(problem.into());
        }
    }
    let data = json!({"old": element.owner, "new": world.owner});
    let subjects: Vec<(&Element, EventKind)> = if world.owner == element.owner {
        Vec::new()
    } else {
        things.iter().map(|thing| (thing.as_ref(), EventKind::ElementOwnerChange)).collect()
    };
    step.around(&subjects, &data, |step| step.carry(&things, world))?;
    let id = element.id;
    Ok(
        json!({"id": id, "state": TransferState::Accepted, "world": world.id, "things": things.len()}),
    )
}

/// A thing with what stands in its set and in the sets that are children of it, of the same owner.
fn things_of(step: &Step<'_>, first: &Element) -> Result<Vec<Arc<Element>>, Halt> {
    let mut found: Vec<Arc<Element>> = Vec::new();
    let mut seen = BTreeSet::from([first.id]);
    let mut waiting = VecDeque::from([Arc::new(first.clone())]);
    while let Some(element) = waiting.pop_front() {
        for id in step.inside(&element)? {
            let Some(inner) = step.stored().element(element.world, id)? else { continue };
            if inner.owner == first.owner && inner.home.is_none() && seen.insert(id) {
                if inner.rests.is_some() {
                    return Err(on_its_way(&inner));
                }
                waiting.push_back(inner);
            }
        }
        found.push(element);
        if found.len() > THINGS_MAX {
            let says = format!("one move takes at most {THINGS_MAX} things");
            return Err(Problem::new(Code::OverLimit, says).into());
        }
    }
    Ok(found)
}

/// Offers things to a world of another server: they rest until it has answered.
fn offer_to(
    step: &mut Step<'_>,
    element: &Element,
    server: ServerId,
    world: &str,
) -> Result<Json, Halt> {
    check_settled(step)?;
    let known = step.server(&server.to_string())?;
    let things = things_of(step, element)?;
    for thing in &things {
        check_acknowledged(step, thing)?;
    }
    let id = TransferId::at(step.now, step.random());
    let data = json!({"old": element.owner, "new": server});
    let mut subjects = Vec::new();
    for thing in &things {
        // To the home of its type a thing can always be handed back: there everybody is asked.
        if step.type_of(thing.type_id)?.home != Some(server) {
            subjects.push((thing.as_ref(), EventKind::ElementOwnerChange));
        }
    }
    step.ask_before(&subjects, &data)?;
    let mut package = Package::default();
    let mut moving = Vec::new();
    let mut sealed = Sealed::default();
    for thing in &things {
        let (packed, kept) = pack(step, thing, &things, server, id, &mut sealed)?;
        package.things.push(packed);
        moving.push(kept);
    }
    let (pieces, hash) =
        package.write().map_err(|mistake| Problem::new(Code::OverLimit, mistake.to_string()))?;
    let called = element.name.as_ref().map_or_else(|| element.id.to_string(), ToString::to_string);
    let transfer = Transfer {
        id,
        role: TransferRole::Giver,
        state: TransferState::Offered,
        other: server,
        account: element.owner,
        called,
        into: world.to_owned(),
        things: moving,
        sealed,
        pieces: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
        hash,
        acknowledged: false,
        since: step.now,
        reason: None,
        called_off: false,
        taken_before: Vec::new(),
    };
    told(step, server, "move.offer", offer_of(step, &transfer)?)?;
    tell_content(step, &transfer, &pieces)?;
    super::anew::keep(step, id, &pieces)?;
    for thing in &things {
        step.rest(thing, Some(Rest::Moving(id)), thing.epoch + 1)?;
    }
    let mut json = shown(step, &transfer);
    json["server"] = json!(known.name);
    store(step, transfer)?;
    Ok(json)
}

/// What the receiver is told of an offer.
pub(super) fn offer_of(step: &Step<'_>, transfer: &Transfer) -> Result<Json, Halt> {
    Ok(json!({
        "transfer": transfer.id,
        "called": transfer.called,
        "into": transfer.into,
        "owner": record::of(step, transfer.account)?,
        "hash": hex(&transfer.hash),
        "pieces": transfer.pieces,
        "sealed": transfer.sealed,
    }))
}

/// Tells the receiver the content of an offer.
pub(super) fn tell_content(
    step: &mut Step<'_>,
    transfer: &Transfer,
    pieces: &[String],
) -> Result<(), Halt> {
    for (number, piece) in pieces.iter().enumerate() {
        let piece = json!({"transfer": transfer.id, "number": number, "data": piece});
        told(step, transfer.other, "move.piece", piece)?;
    }
    Ok(())
}

/// Checks that whoever gave us a thing has stored that: until then they may take it back.
fn check_acknowledged(step: &Step<'_>, thing: &Element) -> Result<(), Halt> {
    let Some(word) = thing.chain.last() else { return Ok(()) };
    let claim = verify_deed(word, DeedKind::Receipt, &step.setting.keys.public()).ok();
    let transfer = match claim {
        Some(claim) => step.stored().transfer(claim.transfer)?,
        None => None,
    };
    let is_open = |held: &Arc<Transfer>| held.role == TransferRole::Receiver && !held.acknowledged;
    if transfer.as_ref().is_some_and(is_open) {
        let says = "the server that gave it has not answered yet that it knows of that";
        return Err(Problem::new(Code::Conflict, says).hint("try again when it is online").into());
    }
    Ok(())
}

/// One thing as it is sent, and what of it is kept here.
fn pack(
    step: &mut Step<'_>,
    thing: &Element,
    things: &[Arc<Element>],
    server: ServerId,
    transfer: TransferId,
    sealed: &mut Sealed,
) -> Result<(Packed, Moving), Halt> {
    let held = step.type_of(thing.type_id)?;
    let (values, kept) = split_values(step, thing, &held, server, sealed)?;
    if held.home.is_none() {
        crate::commands::share::send_unless_held(step, &held, server)?;
    }
    let epoch = thing.epoch + 1;
    let claim = DeedClaim {
        element: thing.id,
        epoch,
        transfer,
        giver: step.setting.us,
        receiver: server,
        at: step.now,
    };
    let deed = issue_deed(&step.setting.keys, DeedKind::Deed, &claim);
    let goes = |id: &ElementId| things.iter().any(|thing| thing.id == *id);
    let members = match step.stored().set(thing.world, thing.id)? {
        Some(set) => {
            let members = step.members(&set, None, THINGS_MAX)?.into_iter().map(|(_, id)| id);
            Some(members.filter(goes).collect())
        }
        None => None,
    };
    let children = step.child_sets(thing)?.into_iter().filter(goes).collect();
    let packed = Packed {
        element: thing.id,
        type_id: thing.type_id,
        name: thing.name.as_ref().map(ToString::to_string),
        values,
        epoch,
        chain: thing.chain.iter().map(|word| hex(word)).collect(),
        deed: hex(&deed),
        members,
        children,
    };
    let moving = Moving {
        element: thing.id,
        world: thing.world,
        epoch,
        deed: deed.into(),
        receipt: None,
        kept,
    };
    Ok((packed, moving))
}

/// The values that a server may see, and those that stay here until the thing comes back.
fn split_values(
    step: &Step<'_>,
    thing: &Element,
    held: &TypeDefinition,
    server: ServerId,
    sealed: &mut Sealed,
) -> Result<(Values, Values), Halt> {
    if held.home.is_some() {
        // Of another server's type we have nothing that its holders may not see.
        return Ok((thing.values.clone(), Values::new()));
    }
    let level = step.level_for(held, server)?;
    let shown = outward_definition(held, level);
    let (values, kept): (Values, Values) =
        thing.values.iter().map(|(name, value)| (name.clone(), value.clone())).partition(
            |(name, _)| shown.attributes.get(name).is_some_and(|attribute| attribute.read >= level),
        );
    let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
    sealed.values += count(kept.len());
    sealed.actions += count(held.definition.actions.len() - shown.actions.len());
    sealed.refused += count(above(held, level).iter().filter(|(_, _, refuses)| *refuses).count());
    Ok((values, kept))
}

/// Asks the receiver whether it may be called off: it alone decides.
fn cancel(step: &mut Step<'_>, element: &Element) -> Result<Json, Halt> {
    let transfer = open_of(step, element)?;
    tell_cancel(step, &transfer)?;
    store(step, Transfer { called_off: true, ..transfer.as_ref().clone() })?;
    Ok(shown(step, &transfer))
}

/// Asks the receiver whether an offer may be called off.
pub(super) fn tell_cancel(step: &mut Step<'_>, transfer: &Transfer) -> Result<(), Halt> {
    told(step, transfer.other, "move.cancel", json!({"transfer": transfer.id}))
}

fn open_of(step: &Step<'_>, element: &Element) -> Result<Arc<Transfer>, Halt> {
    let transfer = match element.rests {
        Some(Rest::Moving(id)) => step.stored().transfer(id)?,
        Some(Rest::Held) | None => None,
    };
    transfer.ok_or_else(|| {
        Problem::new(Code::Conflict, "it is not on its way to another server").into()
    })
}

/// Takes back what was offered to a server that is gone for good, without its answer.
pub(in crate::commands) fn reclaim(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    crate::commands::element_life::check_owner(step, &element, "take back")?;
    let transfer = open_of(step, &element)?;
    let taken_back = take_back(step, &transfer)?;
    Ok(shown(step, &taken_back))
}

/// Takes back all that was offered, without an answer.
pub(super) fn take_back(step: &mut Step<'_>, transfer: &Transfer) -> Result<Transfer, Halt> {
    let (state, wishes) = giver(transfer.state, GiverHears::Reclaim);
    let next = Transfer { state, since: step.now, ..transfer.clone() };
    carry_out(step, &next, wishes)?;
    forget_pieces(step, next.id)?;
    store(step, next.clone())?;
    Ok(next)
}

/// The receiver has taken the things.
pub(in crate::commands) fn accepted(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let Some(transfer) = given(step, server.id)? else {
        // Our store went back to before it: then they show our own word.
        told(step, server.id, "move.unknown", json!({"transfer": transfer_id(step)?}))?;
        return Ok(json!({"state": null}));
    };
    let receipts = receipts_in(step, &transfer, &server)?;
    let (state, wishes) = giver(transfer.state, GiverHears::Accepted);
    let mut next = Transfer { state, ..transfer.as_ref().clone() };
    if state != transfer.state {
        next.since = step.now;
        for (thing, receipt) in next.things.iter_mut().zip(receipts) {
            thing.receipt = Some(receipt.into());
        }
    }
    carry_out(step, &next, wishes)?;
    store(step, next)?;
    Ok(json!({"state": state}))
}

/// A transfer by which we gave, or give, something to a server.
pub(super) fn given(step: &Step<'_>, server: ServerId) -> Result<Option<Arc<Transfer>>, Halt> {
    let held = step.stored().transfer(transfer_id(step)?)?;
    Ok(held.filter(|held| held.other == server && held.role == TransferRole::Giver))
}

/// The receiver's signed words, one for each thing, in order.
fn receipts_in(
    step: &Step<'_>,
    transfer: &Transfer,
    server: &Server,
) -> Result<Vec<Vec<u8>>, Halt> {
    let given = step.arg("receipts").as_array().into_iter().flatten().filter_map(Json::as_str);
    let receipts: Vec<Vec<u8>> = given.filter_map(unhex).collect();
    let holds = |(receipt, thing): (&Vec<u8>, &Moving)| {
        verify_deed(receipt, DeedKind::Receipt, &server.key).is_ok_and(|claim| {
            claim.element == thing.element
                && claim.epoch == thing.epoch
                && claim.transfer == transfer.id
                && claim.receiver == server.id
        })
    };
    let all =
        receipts.len() == transfer.things.len() && receipts.iter().zip(&transfer.things).all(holds);
    if all {
        return Ok(receipts);
    }
    Err(Problem::new(Code::Refused, "the receipts are not for what was offered").into())
}

/// The receiver has not taken the things.
pub(in crate::commands) fn refused(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let Some(transfer) = given(step, server.id)? else { return Ok(json!({"state": null})) };
    let (state, wishes) = giver(transfer.state, GiverHears::Refused);
    let mut next = Transfer { state, ..transfer.as_ref().clone() };
    if state != transfer.state {
        next.since = step.now;
        next.reason = step.text("reason").map(str::to_owned);
        forget_pieces(step, next.id)?;
    }
    carry_out(step, &next, wishes)?;
    store(step, next)?;
    Ok(json!({"state": state}))
}

fn carry_out(step: &mut Step<'_>, transfer: &Transfer, wishes: GiverWishes) -> Result<(), Halt> {
    let args = json!({"transfer": transfer.id});
    match wishes {
        GiverWishes::Nothing => Ok(()),
        GiverWishes::LetGo => {
            for thing in &transfer.things {
                let_go(step, thing, transfer)?;
            }
            told(step, transfer.other, "move.acknowledged", args)
        }
        GiverWishes::Acknowledge => told(step, transfer.other, "move.acknowledged", args),
        GiverWishes::Thaw => thaw(step, transfer, 0),
        GiverWishes::TakeBack => {
            thaw(step, transfer, 1)?;
            told(step, transfer.other, "move.reclaimed", args)
        }
        GiverWishes::SayTakenBack => told(step, transfer.other, "move.reclaimed", args),
    }
}

/// The thing is the receiver's: here stays where it is.
fn let_go(step: &mut Step<'_>, thing: &Moving, transfer: &Transfer) -> Result<(), Halt> {
    let Some(element) = resting(step, thing, transfer)? else { return Ok(()) };
    step.remove_for_good(&element)?;
    let moved =
        Moved { server: transfer.other, epoch: thing.epoch, transfer: transfer.id, at: step.now };
    step.put(Key::Moved(thing.element), Row::Moved(Arc::new(moved.clone())))?;
    tell_giver(step, thing.element, &moved)
}

/// A thing that rests here for a transfer, if it still does.
fn resting(
    step: &Step<'_>,
    thing: &Moving,
    transfer: &Transfer,
) -> Result<Option<Arc<Element>>, Halt> {
    let element = step.stored().element(thing.world, thing.element)?;
    Ok(element.filter(|element| element.rests == Some(Rest::Moving(transfer.id))))
}

/// Whoever gave us a thing that has gone on hears where it is, so that its old name there finds it.
fn tell_giver(step: &mut Step<'_>, element: ElementId, moved: &Moved) -> Result<(), Halt> {
    let all = transfers(step)?;
    let brought = all.iter().rev().find(|held| {
        held.role == TransferRole::Receiver
            && held.state == TransferState::Accepted
            && held.things.iter().any(|thing| thing.element == element)
    });
    match brought.map(|held| held.other).filter(|giver| *giver != moved.server) {
        Some(giver) => {
            let args = json!({"element": element, "server": moved.server, "epoch": moved.epoch});
            told(step, giver, "move.went", args)
        }
        None => Ok(()),
    }
}

/// A thing that we gave to a server has gone on from there.
pub(in crate::commands) fn went(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let element = step.word("element").parse().map_err(|_| bad("element"))?;
    let to = step.word("server").parse().map_err(|_| bad("server"))?;
    let epoch = step.arg("epoch").as_u64().filter(|epoch| *epoch < EPOCH_MAX);
    let epoch = epoch.ok_or_else(|| bad("epoch"))?;
    if let Some(moved) = step.stored().moved(element)?
        && moved.server == server.id
        && is_newer(epoch, moved.epoch)
        && to != step.setting.us
    {
        let moved = Moved { server: to, epoch, ..moved.as_ref().clone() };
        step.put(Key::Moved(element), Row::Moved(Arc::new(moved.clone())))?;
        tell_giver(step, element, &moved)?;
    }
    Ok(json!({"id": element}))
}

/// The things act here again.
fn thaw(step: &mut Step<'_>, transfer: &Transfer, by: u64) -> Result<(), Halt> {
    for thing in &transfer.things {
        if let Some(element) = resting(step, thing, transfer)? {
            step.rest(&element, None, element.epoch + by)?;
        }
    }
    Ok(())
}

/// Asks the world whether a thing may be put down in it.
fn ask_world(
    step: &mut Step<'_>,
    world: &World,
    element: &Element,
    server: ServerId,
    sealed: bool,
) -> Result<Verdict, Halt> {
    let Some(hears) = step.stored().element(world.id, world.id.element())? else {
        return Ok(Verdict::Open);
    };
    let held = step.type_of(element.type_id)?;
    let data = json!({
        "element": element.id,
        "name": element.name,
        "type": held.definition.name,
        "server": server,
        "sealed": sealed,
    });
    step.verdict(&hears, EventKind::ElementOffered, data)
}
