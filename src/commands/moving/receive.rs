//! The receiver of things: checks what is offered, lets the world or its owner decide, and makes the
//! things its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::anew::{receipts_shown, was_taken_before};
use super::{EPOCH_MAX, Values, bad, own_deed, store, told, transfer_id, transfers};
use crate::commands::record;
use crate::commands::token::calling_server;
use crate::commands::visit;
use crate::model::{
    AccountId, Code, Element, ElementId, EntryId, EventKind, InboxEntry, InboxKind, Json, Key,
    Moving, Name, PermissionState, Problem, Row, Sealed, Server, ServerId, Transfer, TransferId,
    TransferRole, TransferState, World, hex, unhex,
};
use crate::presence::{
    PIECE_BYTES_MAX, Package, Packed, ReceiverHears, ReceiverWishes, is_newer, receiver,
};
use crate::step::{Halt, Step, Verdict, is_system_type, outward_definition};
use crate::trust::{DeedClaim, DeedKind, issue_deed, verify_deed};

/// Pieces of one transfer at most.
const PIECES_MAX: u32 = 128;
/// Transfers that one server has open here at most.
const OPEN_MAX: usize = 64;
/// Transfers of one server that are kept here at most, whatever has become of them.
const KEPT_MAX: usize = 10_000;
/// Signed words that a thing carries at most; the oldest go first.
const CHAIN_MAX: usize = 64;

/// Another server offers things for a world here; their content follows in pieces.
pub(in crate::commands) fn offer(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let id = transfer_id(step)?;
    // With an offer that is made anew the receipts come, if there are any, and no content.
    let is_again = step.arg("receipts").is_array();
    if let Some(held) = step.stored().transfer(id)? {
        if is_again && held.other == server.id {
            return offered_again(step, &held);
        }
        return Ok(json!({"state": held.state}));
    }
    match offered(step, &server, id) {
        Ok(transfer) => {
            store(step, transfer)?;
            if is_again {
                told(step, server.id, "move.send", json!({"transfer": id}))?;
            }
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

/// An offer is made anew that is known here all the same: some of it came late. With our own receipts it
/// was ours before our store went back, whatever was said of it since; else its content may be missing.
fn offered_again(step: &mut Step<'_>, held: &Transfer) -> Result<Json, Halt> {
    let taken_before = receipts_shown(step, held.id, held.other);
    let is_open = held.state == TransferState::Offered;
    let was_ours = !taken_before.is_empty() && (is_open || held.state == TransferState::Refused);
    let known = Transfer { taken_before, ..held.clone() };
    if was_ours && is_open && was_taken_before(step, &known) {
        return hear(step, &known, ReceiverHears::Yes, None);
    }
    if was_ours || (is_open && held.things.is_empty()) {
        let server = step.server(&held.other.to_string())?;
        let anew = offered(step, &server, held.id)?;
        store(step, anew)?;
        told(step, held.other, "move.send", json!({"transfer": held.id}))?;
    }
    Ok(json!({"state": held.state}))
}

/// The receiver's end of an offer of which no content has come yet.
fn offered(step: &mut Step<'_>, server: &Server, id: TransferId) -> Result<Transfer, Halt> {
    let taken_before = receipts_shown(step, id, server.id);
    if taken_before.is_empty() {
        crate::commands::share::check_trusted(step, server)?;
        check_open(step, server.id)?;
    }
    let world = step.world(Some(step.word("into")))?;
    let user = record::of_user(step, server, "owner")?;
    visit::know(step, server, user, PermissionState::Known, None)?;
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
        called_off: false,
        taken_before,
    })
}

/// Checks that a server has not too much open here, nor made too many offers.
fn check_open(step: &Step<'_>, server: ServerId) -> Result<(), Halt> {
    let all = transfers(step)?;
    let of_server =
        |held: &&Arc<Transfer>| held.other == server && held.role == TransferRole::Receiver;
    let kept = all.iter().filter(of_server);
    let open = kept.clone().filter(|held| held.state == TransferState::Offered);
    if open.count() >= OPEN_MAX {
        let says = "too many offers wait for an answer here";
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    if kept.count() >= KEPT_MAX {
        let says = "that server has made more offers here than are kept";
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    Ok(())
}

/// A piece of what a server has offered. With the last one it is decided about.
pub(in crate::commands) fn piece(step: &mut Step<'_>) -> Result<Json, Halt> {
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
            if was_taken_before(step, &transfer) {
                hear(step, &transfer, ReceiverHears::Yes, None)
            } else {
                decide(step, server, &transfer, &package)
            }
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

/// The pieces of a transfer that are kept here, in order.
pub(super) fn pieces_of(step: &Step<'_>, transfer: &Transfer) -> Result<Vec<String>, Halt> {
    let last = Key::Piece(transfer.id, u64::from(transfer.pieces.max(1) - 1));
    let rows = step.stored().rows(&Key::Piece(transfer.id, 0), &last, PIECES_MAX as usize)?;
    Ok(rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Piece(text) => Some(text.as_ref().clone()),
            _ => None,
        })
        .collect())
}

fn content(step: &Step<'_>, transfer: &Transfer) -> Result<Package, Halt> {
    Package::read(&pieces_of(step, transfer)?, &transfer.hash)
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
    crate::commands::inbox::check_room(step, server.id)?;
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
pub(in crate::commands) fn answered(
    step: &mut Step<'_>,
    entry: &InboxEntry,
    yes: bool,
) -> Result<(), Halt> {
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

/// What a server offered in an earlier life of its store counts for nothing.
pub(super) fn void(step: &mut Step<'_>, transfer: &Transfer) -> Result<(), Halt> {
    let reason = Some("the server that offered it was put back since".to_owned());
    hear(step, transfer, ReceiverHears::No, reason).map(|_| ())
}

fn forget_question(step: &mut Step<'_>, id: TransferId) -> Result<(), Halt> {
    let question = question_of(id);
    if step.stored().inbox(question)?.is_some() {
        step.change(Key::Inbox(question), None)?;
    }
    Ok(())
}

pub(super) fn forget_pieces(step: &mut Step<'_>, id: TransferId) -> Result<(), Halt> {
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

pub(super) fn say_accepted(step: &mut Step<'_>, transfer: &Transfer) -> Result<(), Halt> {
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
pub(super) fn taken(step: &Step<'_>, server: ServerId) -> Result<Option<Arc<Transfer>>, Halt> {
    let held = step.stored().transfer(transfer_id(step)?)?;
    Ok(held.filter(|held| held.other == server && held.role == TransferRole::Receiver))
}

/// The giver asks whether it may be called off.
pub(in crate::commands) fn cancelled(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    match taken(step, server.id)? {
        // It was ours before our store went back: that was decided, and the content is on its way.
        Some(transfer) if !transfer.taken_before.is_empty() => Ok(json!({"state": transfer.state})),
        Some(transfer) => {
            let reason = Some("the giver has called it off".to_owned());
            hear(step, &transfer, ReceiverHears::Cancel, reason)
        }
        None => {
            // It never arrived: then it never will be taken, also where it comes after all.
            let id = transfer_id(step)?;
            let may_offer = crate::commands::share::check_trusted(step, &server)
                .and_then(|()| check_open(step, server.id));
            if may_offer.is_ok() {
                store(step, called_off_unseen(step, id, server.id))?;
            }
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

/// What is kept of an offer that was called off before it was heard of.
fn called_off_unseen(step: &Step<'_>, id: TransferId, giver: ServerId) -> Transfer {
    Transfer {
        id,
        role: TransferRole::Receiver,
        state: TransferState::Refused,
        other: giver,
        account: AccountId::of_server(step.setting.us),
        called: String::new(),
        into: String::new(),
        things: Vec::new(),
        sealed: Sealed::default(),
        pieces: 1,
        hash: [0; 32],
        acknowledged: false,
        since: step.now,
        reason: Some("it was called off before it arrived".to_owned()),
        called_off: false,
        taken_before: Vec::new(),
    }
}

/// The giver has stored that we took the things.
pub(in crate::commands) fn acknowledged(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    if let Some(transfer) = taken(step, server.id)?
        && transfer.state == TransferState::Accepted
    {
        store(step, Transfer { acknowledged: true, ..transfer.as_ref().clone() })?;
    }
    Ok(json!({"state": TransferState::Accepted}))
}

/// The giver has taken the things back.
pub(in crate::commands) fn reclaimed(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    match taken(step, server.id)? {
        Some(transfer) => {
            let reason = Some("the giver has taken it back".to_owned());
            hear(step, &transfer, ReceiverHears::Reclaimed, reason)
        }
        None => Ok(json!({"state": null})),
    }
}
