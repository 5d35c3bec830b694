//! Things are moved: offered, taken or refused, acknowledged; called off, taken back, and claimed after
//! somebody's store went back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::json;

use super::token::calling_server;
use super::visit;
use crate::model::{
    AccountId, Code, Element, ElementId, EntryId, EventKind, Held, InboxEntry, InboxKind, Json,
    Key, Moved, Moving, Name, PermissionState, Problem, Rest, Row, Sealed, Server, ServerId,
    Transfer, TransferId, TransferRole, TransferState, TypeDefinition, World, hex, unhex,
};
use crate::presence::{
    GiverHears, GiverWishes, PIECE_BYTES_MAX, Package, Packed, ReceiverHears, ReceiverWishes,
    THINGS_MAX, giver, is_newer, receiver,
};
use crate::step::{Halt, Step, Verdict, above, check_acts, is_system_type, outward_definition};
use crate::trust::{DeedClaim, DeedKind, decode_record, issue_deed, verify_deed};

/// Pieces of one transfer at most.
const PIECES_MAX: u32 = 128;
/// Transfers that one server has open here at most.
const OPEN_MAX: usize = 64;
/// Transfers that are looked through.
const TRANSFERS_MAX: usize = 100_000;
/// More moves than any thing makes.
const EPOCH_MAX: u64 = 1 << 53;
/// Signed words that a thing carries at most; the oldest go first.
const CHAIN_MAX: usize = 64;

fn bad(what: &str) -> Halt {
    Problem::new(Code::Usage, format!("the {what} is none")).into()
}

fn shown(step: &Step<'_>, held: &Transfer) -> Json {
    let other = step.stored().server(held.other).ok().flatten();
    let things: Vec<ElementId> = held.things.iter().map(|thing| thing.element).collect();
    json!({
        "id": held.id,
        "role": held.role,
        "state": held.state,
        "name": held.called,
        "server": other.map_or_else(|| held.other.to_string(), |other| other.name.to_string()),
        "world": held.into,
        "things": things,
        "sealed": held.sealed.is_sealed(),
        "stays_behind": {
            "values": held.sealed.values,
            "actions": held.sealed.actions,
            "refused": held.sealed.refused,
        },
        "acknowledged": held.acknowledged,
        "reason": held.reason,
        "since": held.since.to_string(),
    })
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.call.caller.account();
    let is_operator = step.check_operator().is_ok();
    let seen = |held: &Transfer| is_operator || Some(held.account) == account;
    let all = transfers(step)?;
    let items = all.iter().filter(|held| seen(held)).map(|held| shown(step, held));
    Ok(json!({"items": items.collect::<Vec<_>>(), "next": null}))
}

fn transfers(step: &Step<'_>) -> Result<Vec<Arc<Transfer>>, Halt> {
    let key = |bytes| Key::Transfer(TransferId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), TRANSFERS_MAX)?;
    Ok(rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Transfer(held) => Some(held),
            _ => None,
        })
        .collect())
}

fn store(step: &mut Step<'_>, transfer: Transfer) -> Result<(), Halt> {
    step.put(Key::Transfer(transfer.id), Row::Transfer(Arc::new(transfer)))
}

fn told(step: &mut Step<'_>, server: ServerId, command: &str, args: Json) -> Result<(), Halt> {
    let tell = step.tell_of(server, command, args)?;
    step.tell(tell);
    Ok(())
}

// The giver.

/// Moves a thing, and what stands in it, into a world: here at once, elsewhere by an offer.
pub(super) fn start(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    super::element_life::check_owner(step, &element, "move")?;
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
fn check_ours(element: &Element) -> Result<(), Halt> {
    match element.home {
        None => Ok(()),
        Some(_) => {
            let says = "it is a copy of a thing that is another server's";
            Err(Problem::new(Code::Conflict, says).into())
        }
    }
}

fn on_its_way(element: &Element) -> Halt {
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
    let offer = json!({
        "transfer": id,
        "called": called,
        "into": world,
        "owner": visit::record_of(step, element.owner)?,
        "hash": hex(&hash),
        "pieces": pieces.len(),
        "sealed": sealed,
    });
    told(step, server, "move.offer", offer)?;
    for (number, piece) in pieces.iter().enumerate() {
        told(step, server, "move.piece", json!({"transfer": id, "number": number, "data": piece}))?;
    }
    for thing in &things {
        step.rest(thing, Some(Rest::Moving(id)), thing.epoch + 1)?;
    }
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
    };
    let mut json = shown(step, &transfer);
    json["server"] = json!(known.name);
    store(step, transfer)?;
    Ok(json)
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
        super::share::send_unless_held(step, &held, server)?;
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

type Values = BTreeMap<String, Json>;

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
    told(step, transfer.other, "move.cancel", json!({"transfer": transfer.id}))?;
    Ok(shown(step, &transfer))
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
pub(super) fn reclaim(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    super::element_life::check_owner(step, &element, "take back")?;
    let transfer = open_of(step, &element)?;
    let (state, wishes) = giver(transfer.state, GiverHears::Reclaim);
    let next = Transfer { state, since: step.now, ..transfer.as_ref().clone() };
    carry_out(step, &next, wishes)?;
    let json = shown(step, &next);
    store(step, next)?;
    Ok(json)
}

/// The receiver has taken the things.
pub(super) fn accepted(step: &mut Step<'_>) -> Result<Json, Halt> {
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
fn given(step: &Step<'_>, server: ServerId) -> Result<Option<Arc<Transfer>>, Halt> {
    let held = step.stored().transfer(transfer_id(step)?)?;
    Ok(held.filter(|held| held.other == server && held.role == TransferRole::Giver))
}

fn transfer_id(step: &Step<'_>) -> Result<TransferId, Halt> {
    step.word("transfer").parse().map_err(|_| bad("transfer"))
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
pub(super) fn refused(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let Some(transfer) = given(step, server.id)? else { return Ok(json!({"state": null})) };
    let (state, wishes) = giver(transfer.state, GiverHears::Refused);
    let mut next = Transfer { state, ..transfer.as_ref().clone() };
    if state != transfer.state {
        next.since = step.now;
        next.reason = step.text("reason").map(str::to_owned);
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
pub(super) fn went(step: &mut Step<'_>) -> Result<Json, Halt> {
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

// The receiver.

/// Another server offers things for a world here; their content follows in pieces.
pub(super) fn offer(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let id = transfer_id(step)?;
    if let Some(held) = step.stored().transfer(id)? {
        return Ok(json!({"state": held.state}));
    }
    match offered(step, &server, id) {
        Ok(transfer) => {
            store(step, transfer)?;
            Ok(json!({"state": TransferState::Offered}))
        }
        Err(Halt::Problem(problem)) => {
            let args = json!({"transfer": id, "reason": problem.says});
            told(step, server.id, "move.refused", args)?;
            Ok(json!({"state": TransferState::Refused}))
        }
        Err(halt) => Err(halt),
    }
}

/// The receiver's end of an offer of which no content has come yet.
fn offered(step: &mut Step<'_>, server: &Server, id: TransferId) -> Result<Transfer, Halt> {
    super::share::check_trusted(step, server)?;
    check_open(step, server.id)?;
    let world = step.world(Some(step.word("into")))?;
    let record = visit::record_in(step, "owner")?;
    visit::know(step, server, &record, PermissionState::Known, None)?;
    let hash: [u8; 32] = unhex(step.word("hash"))
        .and_then(|hash| hash.try_into().ok())
        .ok_or_else(|| bad("hash"))?;
    let pieces = step.arg("pieces").as_u64().and_then(|pieces| u32::try_from(pieces).ok());
    let pieces = pieces.filter(|pieces| (1..=PIECES_MAX).contains(pieces));
    let sealed: Sealed =
        serde_json::from_value(step.arg("sealed").clone()).map_err(|_| bad("seal"))?;
    Ok(Transfer {
        id,
        role: TransferRole::Receiver,
        state: TransferState::Offered,
        other: server.id,
        account: world.owner,
        called: step.word("called").chars().filter(|c| !c.is_control()).take(64).collect(),
        into: world.id.to_string(),
        things: Vec::new(),
        sealed,
        pieces: pieces.ok_or_else(|| bad("number of pieces"))?,
        hash,
        acknowledged: false,
        since: step.now,
        reason: None,
    })
}

/// Checks that a server has not too much open here.
fn check_open(step: &Step<'_>, server: ServerId) -> Result<(), Halt> {
    let open = |held: &&Arc<Transfer>| {
        held.other == server
            && held.role == TransferRole::Receiver
            && held.state == TransferState::Offered
    };
    if transfers(step)?.iter().filter(open).count() >= OPEN_MAX {
        let says = "too many offers wait for an answer here";
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    Ok(())
}

/// A piece of what a server has offered. With the last one it is decided about.
pub(super) fn piece(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let number = step.arg("number").as_u64().ok_or_else(|| bad("piece's number"))?;
    let data = step.word("data");
    let open = taken(step, server.id)?
        .filter(|held| held.state == TransferState::Offered && number < u64::from(held.pieces));
    // What was refused meanwhile needs no content.
    let Some(transfer) = open else { return Ok(json!({"number": number})) };
    if data.len() > PIECE_BYTES_MAX {
        return Err(bad("piece"));
    }
    step.put(Key::Piece(transfer.id, number), Row::Piece(Arc::new(data.to_owned())))?;
    if number + 1 == u64::from(transfer.pieces) && transfer.things.is_empty() {
        arrived(step, &server, &transfer)?;
    }
    Ok(json!({"number": number}))
}

/// All of the content is here: it is checked, and decided about.
fn arrived(step: &mut Step<'_>, server: &Server, transfer: &Transfer) -> Result<(), Halt> {
    let decided = match received(step, server, transfer) {
        Ok((transfer, package)) => {
            store(step, transfer.clone())?;
            decide(step, server, &transfer, &package)
        }
        Err(halt) => Err(halt),
    };
    match decided {
        Err(Halt::Problem(problem)) => {
            let reason = match problem.code {
                Code::ScriptFailed | Code::ScriptBudget => "a rule of the world failed".to_owned(),
                _ => problem.says,
            };
            hear(step, transfer, ReceiverHears::No, Some(reason)).map(|_| ())
        }
        decided => decided.map(|_| ()),
    }
}

/// Checks what was offered, and notes the things.
fn received(
    step: &Step<'_>,
    server: &Server,
    transfer: &Transfer,
) -> Result<(Transfer, Package), Halt> {
    let package = content(step, transfer)?;
    let mut things = Vec::new();
    for packed in &package.things {
        things.push(checked(step, server, transfer.id, packed)?);
    }
    Ok((Transfer { things, ..transfer.clone() }, package))
}

fn content(step: &Step<'_>, transfer: &Transfer) -> Result<Package, Halt> {
    let last = Key::Piece(transfer.id, u64::from(transfer.pieces - 1));
    let rows = step.stored().rows(&Key::Piece(transfer.id, 0), &last, PIECES_MAX as usize)?;
    let texts: Vec<String> = rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Piece(text) => Some(text.as_ref().clone()),
            _ => None,
        })
        .collect();
    Package::read(&texts, &transfer.hash)
        .map_err(|mistake| Problem::new(Code::BadBody, mistake.to_string()).into())
}

/// Checks that a thing was given away by who offers it, is made from a type that is known here, and is
/// not ours already.
fn checked(
    step: &Step<'_>,
    server: &Server,
    transfer: TransferId,
    packed: &Packed,
) -> Result<Moving, Halt> {
    let refused = |says: String| Halt::from(Problem::new(Code::Refused, says));
    let deed = unhex(&packed.deed).unwrap_or_default();
    let claim = verify_deed(&deed, DeedKind::Deed, &server.key)
        .map_err(|_| refused("the deed of a thing does not hold".to_owned()))?;
    let fits = claim.element == packed.element
        && claim.epoch == packed.epoch
        && claim.transfer == transfer
        && claim.giver == server.id
        && claim.receiver == step.setting.us;
    if !fits {
        return Err(refused("the deed is of another thing, or for somebody else".to_owned()));
    }
    let Some(held) = step.stored().element_type(packed.type_id)? else {
        return Err(refused("the type of a thing is not known here: share it first".to_owned()));
    };
    if packed.chain.len() > CHAIN_MAX || packed.epoch >= EPOCH_MAX {
        return Err(refused("the thing has moved more often than can be".to_owned()));
    }
    if is_system_type(held.id) {
        return Err(refused("it stands for something, and stays with that".to_owned()));
    }
    let was_ours = step.stored().moved(packed.element)?;
    // Of a type of ours others have what we gave them, or sent them the type for.
    let is_theirs = held.home.is_some()
        || was_ours.is_some()
        || step.stored().at(Key::TypeHolder(held.id, server.id))?.is_some();
    if !is_theirs {
        return Err(refused("the type of a thing is ours, and not for that server".to_owned()));
    }
    let words: Vec<Vec<u8>> = packed.chain.iter().filter_map(|word| unhex(word)).collect();
    for element in step.elements_with_id(packed.element)? {
        let gave_away = |word: &Vec<u8>| {
            own_deed(step, word).is_some_and(|claim| {
                claim.element == element.id && is_newer(claim.epoch, element.epoch)
            })
        };
        // Our store may have gone back: then our own word says that it was given away.
        if element.home.is_none() && (step.is_stand_in(&element) || !words.iter().any(gave_away)) {
            return Err(refused("the thing is ours already".to_owned()));
        }
        // A copy says whose the thing is.
        if let Some(home) = element.home
            && home != server.id
            && !leads_to(step, &words, (home, 0), packed.element, server.id)?
        {
            return Err(refused("the thing is another server's".to_owned()));
        }
    }
    if let Some(moved) = was_ours
        && moved.server != server.id
        && !leads_to(step, &words, (moved.server, moved.epoch), packed.element, server.id)?
    {
        return Err(refused("its deeds do not lead from us to that server".to_owned()));
    }
    Ok(Moving {
        element: packed.element,
        world: crate::model::WorldId::from_bytes([0; 16]),
        epoch: packed.epoch,
        deed: deed.into(),
        receipt: None,
        kept: BTreeMap::new(),
    })
}

/// Whether the signed words of a thing lead from a server, where it had this epoch, to another.
fn leads_to(
    step: &Step<'_>,
    words: &[Vec<u8>],
    from: (ServerId, u64),
    element: ElementId,
    server: ServerId,
) -> Result<bool, Halt> {
    let (mut holder, mut epoch) = from;
    for word in words {
        let Some(known) = step.stored().server(holder)? else { return Ok(false) };
        let claim = verify_deed(word, DeedKind::Deed, &known.key).ok();
        let next = claim.filter(|claim| {
            claim.element == element && claim.giver == holder && is_newer(claim.epoch, epoch)
        });
        if let Some(claim) = next {
            (holder, epoch) = (claim.receiver, claim.epoch);
        }
    }
    Ok(holder == server)
}

/// Lets the world decide, else the person who owns it.
fn decide(
    step: &mut Step<'_>,
    server: &Server,
    transfer: &Transfer,
    package: &Package,
) -> Result<Json, Halt> {
    let world = step.world(Some(&transfer.into))?;
    let first = package.things.first().ok_or_else(|| bad("content"))?;
    let type_name = step.type_of(first.type_id)?.definition.name.clone();
    let data = json!({
        "element": first.element,
        "name": transfer.called,
        "type": type_name,
        "server": server.id,
        "sealed": transfer.sealed.is_sealed(),
    });
    let verdict = match step.stored().element(world.id, world.id.element())? {
        Some(element) => step.verdict(&element, EventKind::ElementOffered, data)?,
        None => Verdict::Open,
    };
    match verdict {
        Verdict::Yes => hear(step, transfer, ReceiverHears::Yes, None),
        Verdict::No(problem) => hear(step, transfer, ReceiverHears::No, Some(problem.says)),
        Verdict::Open => {
            ask_owner(step, server, transfer, &world, &type_name)?;
            Ok(json!({"state": transfer.state}))
        }
    }
}

fn ask_owner(
    step: &mut Step<'_>,
    server: &Server,
    transfer: &Transfer,
    world: &World,
    type_name: &Name,
) -> Result<(), Halt> {
    super::inbox::check_room(step, server.id)?;
    let count = transfer.things.len();
    let more = if count > 1 { format!(" with {} things", count - 1) } else { String::new() };
    let sealed = if transfer.sealed.is_sealed() {
        format!(
            "; sealed: {} values and {} actions stay behind, {} events would be refused",
            transfer.sealed.values, transfer.sealed.actions, transfer.sealed.refused
        )
    } else {
        String::new()
    };
    let asks = format!(
        "{} offers you '{}' ({type_name}){more} for your world '{}'{sealed}",
        server.name, transfer.called, world.name,
    );
    let entry = InboxEntry {
        id: question_of(transfer.id),
        kind: InboxKind::Move,
        from: server.id,
        asks,
        list: world.name.clone(),
        protection: transfer.id.as_bytes().to_vec(),
        since: step.now,
        owner: Some(world.owner),
        waits: None,
        later_until: None,
    };
    step.put(Key::Inbox(entry.id), Row::Inbox(Arc::new(entry)))
}

fn question_of(transfer: TransferId) -> EntryId {
    EntryId::of_hash(&blake3::derive_key("freehold 1 offer", transfer.as_bytes()))
}

/// A person answered an offer.
pub(super) fn answered(step: &mut Step<'_>, entry: &InboxEntry, yes: bool) -> Result<(), Halt> {
    let Ok(bytes) = <[u8; 16]>::try_from(entry.protection.as_slice()) else { return Ok(()) };
    let Some(transfer) = step.stored().transfer(TransferId::from_bytes(bytes))? else {
        return Ok(());
    };
    let hears = if yes { ReceiverHears::Yes } else { ReceiverHears::No };
    let reason = (!yes).then(|| "the owner of the world said no".to_owned());
    hear(step, &transfer, hears, reason).map(|_| ())
}

/// The receiver's end hears something, and does what follows.
fn hear(
    step: &mut Step<'_>,
    transfer: &Transfer,
    hears: ReceiverHears,
    reason: Option<String>,
) -> Result<Json, Halt> {
    let (state, wishes) = receiver(transfer.state, transfer.acknowledged, hears);
    let mut next = transfer.clone();
    if state != transfer.state {
        (next.state, next.since, next.reason) = (state, step.now, reason);
        forget_question(step, transfer.id)?;
    }
    match wishes {
        ReceiverWishes::Nothing => {}
        // Where it fails, nothing of it has happened.
        ReceiverWishes::Own => step.in_event(|step| own(step, &mut next))?,
        ReceiverWishes::SayAccepted => say_accepted(step, &next)?,
        ReceiverWishes::SayRefused => {
            let args = json!({"transfer": next.id, "reason": next.reason});
            told(step, next.other, "move.refused", args)?;
        }
        ReceiverWishes::GiveUp => give_up(step, &next)?,
    }
    if state != TransferState::Offered {
        forget_pieces(step, next.id)?;
    }
    store(step, next)?;
    Ok(json!({"state": state}))
}

fn forget_question(step: &mut Step<'_>, id: TransferId) -> Result<(), Halt> {
    let question = question_of(id);
    if step.stored().inbox(question)?.is_some() {
        step.change(Key::Inbox(question), None)?;
    }
    Ok(())
}

fn forget_pieces(step: &mut Step<'_>, id: TransferId) -> Result<(), Halt> {
    let all = (Key::Piece(id, 0), Key::Piece(id, u64::MAX));
    for (key, _) in step.stored().rows(&all.0, &all.1, 1 << 10)? {
        step.change(key, None)?;
    }
    Ok(())
}

/// The things are ours from here on.
fn own(step: &mut Step<'_>, transfer: &mut Transfer) -> Result<(), Halt> {
    let package = content(step, transfer)?;
    let world = step.world(Some(&transfer.into))?;
    let giver = step.server(&transfer.other.to_string())?;
    let mut owned = Vec::new();
    for (packed, thing) in package.things.iter().zip(transfer.things.iter_mut()) {
        // It may have been offered long ago.
        checked(step, &giver, transfer.id, packed)?;
        let claim = DeedClaim {
            element: thing.element,
            epoch: thing.epoch,
            transfer: transfer.id,
            giver: transfer.other,
            receiver: step.setting.us,
            at: step.now,
        };
        let receipt = issue_deed(&step.setting.keys, DeedKind::Receipt, &claim);
        thing.receipt = Some(receipt.clone().into());
        thing.world = world.id;
        owned.push(step.take_over(unpacked(step, &giver, packed, &world, &receipt)?)?);
    }
    for packed in &package.things {
        step.rebuild_set(world.id, packed.element, packed.members.as_deref(), &packed.children)?;
    }
    let data = json!({"old": transfer.other, "new": world.owner});
    step.tell_after(&owned, EventKind::ElementOwnerChange, &data)?;
    say_accepted(step, transfer)
}

/// A thing as it will stand here.
fn unpacked(
    step: &Step<'_>,
    giver: &Server,
    packed: &Packed,
    world: &World,
    receipt: &[u8],
) -> Result<Element, Halt> {
    let held = step.type_of(packed.type_id)?;
    let mut values = kept_here(step, packed.element)?;
    let mut sent = packed.values.clone();
    if held.home.is_none() {
        // Of a type of ours they say no more than they may see, and nothing of what stayed here.
        let level = step.level_for(&held, giver.id)?;
        let shown = outward_definition(&held, level);
        sent.retain(|name, _| {
            shown.attributes.get(name).is_some_and(|attribute| attribute.read >= level)
        });
    }
    for (name, value) in sent {
        values.entry(name).or_insert(value);
    }
    // Of what came, only what the type allows is taken.
    values.retain(|name, value| {
        held.definition
            .attributes
            .get(name)
            .is_some_and(|attribute| !attribute.is_static && attribute.check(value.clone()).is_ok())
    });
    let words = packed.chain.iter().chain([&packed.deed]).filter_map(|word| unhex(word));
    let mut chain: Vec<_> = words.chain([receipt.to_vec()]).map(Into::into).collect();
    let over = chain.len().saturating_sub(CHAIN_MAX);
    chain.drain(..over);
    let name = packed.name.as_deref().and_then(|name| Name::new(name).ok());
    let name = match name {
        Some(name) if step.free_name(world, name.as_str()).is_ok() => Some(name),
        Some(_) | None => None,
    };
    Ok(Element {
        id: packed.element,
        world: world.id,
        type_id: held.id,
        owner: world.owner,
        name,
        values,
        attributes_off: BTreeSet::new(),
        parents_off: BTreeSet::new(),
        in_sets: 0,
        epoch: packed.epoch,
        rests: None,
        chain,
        home: None,
    })
}

/// Values that stayed here when the thing was given away: it has come back.
fn kept_here(step: &Step<'_>, element: ElementId) -> Result<Values, Halt> {
    let Some(moved) = step.stored().moved(element)? else { return Ok(Values::new()) };
    let transfer = step.stored().transfer(moved.transfer)?;
    let thing = transfer
        .as_ref()
        .and_then(|held| held.things.iter().find(|thing| thing.element == element));
    Ok(thing.map(|thing| thing.kept.clone()).unwrap_or_default())
}

fn say_accepted(step: &mut Step<'_>, transfer: &Transfer) -> Result<(), Halt> {
    let receipts: Vec<String> = transfer
        .things
        .iter()
        .map(|thing| thing.receipt.as_ref().map_or_else(String::new, |receipt| hex(receipt)))
        .collect();
    told(
        step,
        transfer.other,
        "move.accepted",
        json!({"transfer": transfer.id, "receipts": receipts}),
    )
}

/// The giver took the things back before it knew that they were taken: ours are copies from now on.
fn give_up(step: &mut Step<'_>, transfer: &Transfer) -> Result<(), Halt> {
    for thing in &transfer.things {
        for element in step.elements_with_id(thing.element)? {
            if element.home.is_none() && element.epoch == thing.epoch {
                step.make_copy(&element, transfer.other)?;
            }
        }
    }
    Ok(())
}

/// A transfer by which a server gave, or gives, something to us.
fn taken(step: &Step<'_>, server: ServerId) -> Result<Option<Arc<Transfer>>, Halt> {
    let held = step.stored().transfer(transfer_id(step)?)?;
    Ok(held.filter(|held| held.other == server && held.role == TransferRole::Receiver))
}

/// The giver asks whether it may be called off.
pub(super) fn cancelled(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    match taken(step, server.id)? {
        Some(transfer) => {
            let reason = Some("the giver has called it off".to_owned());
            hear(step, &transfer, ReceiverHears::Cancel, reason)
        }
        None => {
            // It never arrived: then it never will be taken.
            let id = transfer_id(step)?;
            told(
                step,
                server.id,
                "move.refused",
                json!({"transfer": id, "reason": "it is not known here"}),
            )?;
            Ok(json!({"state": TransferState::Refused}))
        }
    }
}

/// The giver has stored that we took the things.
pub(super) fn acknowledged(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    if let Some(transfer) = taken(step, server.id)?
        && transfer.state == TransferState::Accepted
    {
        store(step, Transfer { acknowledged: true, ..transfer.as_ref().clone() })?;
    }
    Ok(json!({"state": TransferState::Accepted}))
}

/// The giver has taken the things back.
pub(super) fn reclaimed(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    match taken(step, server.id)? {
        Some(transfer) => {
            let reason = Some("the giver has taken it back".to_owned());
            hear(step, &transfer, ReceiverHears::Reclaimed, reason)
        }
        None => Ok(json!({"state": null})),
    }
}

/// A server is met again. Where its store went back, it hears again what it gave us; else it hears what we
/// took, if we do not know yet that it knows.
pub(super) fn met_again(
    step: &mut Step<'_>,
    server: ServerId,
    is_another_life: bool,
) -> Result<(), Halt> {
    for transfer in transfers(step)? {
        let is_ours = transfer.other == server
            && transfer.role == TransferRole::Receiver
            && transfer.state == TransferState::Accepted;
        if is_ours && is_another_life {
            claim(step, &transfer)?;
        } else if is_ours && !transfer.acknowledged {
            say_accepted(step, &transfer)?;
        }
    }
    Ok(())
}

/// A server does not know of a transfer of its own.
pub(super) fn unknown(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let transfer = taken(step, server.id)?;
    if let Some(transfer) = transfer.filter(|held| held.state == TransferState::Accepted) {
        claim(step, &transfer)?;
    }
    Ok(json!({"id": server.id}))
}

/// Shows a server its own word for what it gave us.
fn claim(step: &mut Step<'_>, transfer: &Transfer) -> Result<(), Halt> {
    let mut things = Vec::new();
    for thing in &transfer.things {
        // What went back there is theirs.
        let moved = step.stored().moved(thing.element)?;
        if moved.is_none_or(|moved| moved.server != transfer.other) {
            things.push(json!({"element": thing.element, "deed": hex(&thing.deed)}));
        }
    }
    if things.is_empty() {
        return Ok(());
    }
    let acknowledged = transfer.acknowledged;
    let args = json!({"transfer": transfer.id, "things": things, "acknowledged": acknowledged});
    told(step, transfer.other, "move.claim", args)
}

/// A server says that we gave it things, and shows our own word for that.
pub(super) fn claimed(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let id = transfer_id(step)?;
    let said = step.arg("things").as_array().cloned().unwrap_or_default();
    let is_theirs = step.arg("acknowledged") == &Json::Bool(true) && went_back_since(step, id)?;
    let mut let_go_of = 0;
    for thing in said.iter().take(THINGS_MAX) {
        let deed = thing.get("deed").and_then(Json::as_str).and_then(unhex).unwrap_or_default();
        let claim = own_deed(step, &deed).filter(|claim| {
            claim.receiver == server.id && claim.giver == step.setting.us && claim.transfer == id
        });
        let Some(claim) = claim else {
            let says = "the deed is none of ours";
            return Err(Problem::new(Code::Refused, says).into());
        };
        let_go_of += u32::from(yield_to(step, &server, &claim, is_theirs)?);
    }
    let taken_back = step.stored().transfer(id)?;
    let taken_back = taken_back.is_some_and(|held| held.state == TransferState::Reclaimed);
    let answer = if taken_back && !is_theirs { "move.reclaimed" } else { "move.acknowledged" };
    told(step, server.id, answer, json!({"transfer": id}))?;
    if let Some(transfer) = step.stored().transfer(id)?
        && matches!(transfer.state, TransferState::Offered | TransferState::Reclaimed)
        && let_go_of > 0
    {
        let state = TransferState::Accepted;
        store(step, Transfer { state, since: step.now, ..transfer.as_ref().clone() })?;
    }
    Ok(json!({"things": let_go_of}))
}

/// Whether a transfer that we took back was offered by an earlier life of our store: it may have heard
/// more than we know.
fn went_back_since(step: &Step<'_>, id: TransferId) -> Result<bool, Halt> {
    let (held, node) = (step.stored().transfer(id)?, step.stored().node()?);
    let is_reclaimed = held.is_some_and(|held| {
        held.state == TransferState::Reclaimed && held.role == TransferRole::Giver
    });
    // Both ids begin with the time at which they were made.
    let began = node.map(|node| *node.incarnation.as_bytes());
    Ok(is_reclaimed && began.is_some_and(|began| began > *id.as_bytes()))
}

/// What a deed says that we signed, with our key of today or one before it.
fn own_deed(step: &Step<'_>, deed: &[u8]) -> Option<DeedClaim> {
    let node = step.stored().node().ok()??;
    let earlier = node.earlier.iter().filter_map(|record| Some(decode_record(record).ok()?.key));
    let mut keys = std::iter::once(step.setting.keys.public()).chain(earlier);
    keys.find_map(|key| verify_deed(deed, DeedKind::Deed, &key).ok())
}

/// Lets go of a thing that we own with a lower epoch than the one that we gave away.
fn yield_to(
    step: &mut Step<'_>,
    server: &Server,
    claim: &DeedClaim,
    is_theirs: bool,
) -> Result<bool, Halt> {
    for element in step.elements_with_id(claim.element)? {
        if element.home.is_some() {
            continue;
        }
        let in_transit = element.rests == Some(Rest::Moving(claim.transfer));
        let taken_back = is_theirs && element.epoch == claim.epoch + 1;
        if in_transit || taken_back || is_newer(claim.epoch, element.epoch) {
            step.make_copy(&element, server.id)?;
            let moved = Moved {
                server: server.id,
                epoch: claim.epoch,
                transfer: claim.transfer,
                at: step.now,
            };
            step.put(Key::Moved(claim.element), Row::Moved(Arc::new(moved)))?;
            return Ok(true);
        }
    }
    Ok(false)
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

// Carrying.

/// Things that one account holds at most.
const HELD_MAX: usize = 1_000;

/// Picks a thing up: it rests, and stands nowhere.
pub(super) fn take(step: &mut Step<'_>) -> Result<Json, Halt> {
    let element = step.element_here(step.word("element"))?;
    super::element_life::check_owner(step, &element, "pick up")?;
    step.check_thing(&element)?;
    check_ours(&element)?;
    match element.rests {
        Some(Rest::Moving(_)) => return Err(on_its_way(&element)),
        Some(Rest::Held) => return Err(Problem::new(Code::Conflict, "it is held already").into()),
        None => {}
    }
    let held = held_by(step, element.owner)?;
    if held.len() >= HELD_MAX {
        let says = format!("nobody holds more than {HELD_MAX} things");
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    let number = held.last().map_or(1, |(number, _)| number + 1);
    let data = json!({"name": element.name});
    step.around(&[(&element, EventKind::ElementTaken)], &data, |step| {
        step.leave_all_sets(&element)
    })?;
    // It rests once it has heard that.
    let current = step.stored().element(element.world, element.id)?;
    let current =
        current.filter(|current| current.owner == element.owner && current.rests.is_none());
    let Some(current) = current else {
        return Err(Problem::new(Code::Conflict, "it is not there any more").into());
    };
    step.rest(&current, Some(Rest::Held), current.epoch)?;
    let row = Held {
        element: current.id,
        world: current.world,
        name: current.name.clone(),
        at: step.now,
    };
    step.put(Key::Held(current.owner, number), Row::Held(Arc::new(row)))?;
    Ok(json!({"id": element.id, "held": held.len() + 1}))
}

fn held_by(step: &Step<'_>, account: AccountId) -> Result<Vec<(u64, Arc<Held>)>, Halt> {
    let all = (Key::Held(account, 0), Key::Held(account, u64::MAX));
    let rows = step.stored().rows(&all.0, &all.1, HELD_MAX)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, row)| match (key, row) {
            (Key::Held(_, number), Row::Held(held)) => Some((number, held)),
            _ => None,
        })
        .collect())
}

/// What the acting account has picked up, the last one first.
pub(super) fn held(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?.id;
    let items: Vec<Json> = held_by(step, account)?
        .iter()
        .rev()
        .map(|(_, held)| {
            json!({
                "id": held.element,
                "name": held.name.as_ref().map_or_else(|| held.element.to_string(), ToString::to_string),
                "world": held.world,
                "since": held.at.to_string(),
            })
        })
        .collect();
    Ok(json!({"items": items, "next": null}))
}

/// Puts down what was picked up last.
pub(super) fn put(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?;
    let last = held_by(step, account.id)?.pop();
    let (number, held) = last.ok_or_else(|| {
        Problem::new(Code::NotFound, "you hold nothing")
            .hint("pick something up with: freehold element take ELEMENT")
    })?;
    step.change(Key::Held(account.id, number), None)?;
    let Some(element) = step.stored().element(held.world, held.element)? else {
        return Ok(json!({"id": held.element, "state": null}));
    };
    if element.rests != Some(Rest::Held) {
        return Ok(json!({"id": held.element, "state": null}));
    }
    let free = Element { rests: None, ..element.as_ref().clone() };
    step.rest(&free, None, free.epoch)?;
    let data = json!({"name": free.name});
    step.around(&[(&free, EventKind::ElementDropped)], &data, |_| Ok(()))?;
    match step.text("to") {
        None => Ok(json!({"id": free.id, "state": TransferState::Accepted, "world": free.world})),
        Some(to) => put_down(step, &free, to),
    }
}
