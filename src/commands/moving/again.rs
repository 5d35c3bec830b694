//! What two servers tell each other of moves when they meet again, and when a store went back.

use std::sync::Arc;

use serde_json::json;

use super::anew::offer_anew;
use super::give::take_back;
use super::receive::{say_accepted, taken, void};
use super::{own_deed, store, told, transfer_id, transfers};
use crate::commands::token::calling_server;
use crate::model::{
    Code, Element, Json, Key, Moved, Problem, Rest, Row, Server, ServerId, ServerState, Transfer,
    TransferId, TransferRole, TransferState, hex, unhex,
};
use crate::presence::{THINGS_MAX, is_newer};
use crate::step::{Halt, Step};
use crate::trust::DeedClaim;

/// Servers that are looked through.
const SERVERS_MAX: usize = 10_000;
/// Servers that a problem names at most.
const NAMED_MAX: usize = 10;

/// A server is met again. Where its store went back, it hears again what it gave us, and what we gave it;
/// else it hears what we took, if we do not know yet that it knows.
pub(in crate::commands) fn met_again(
    step: &mut Step<'_>,
    server: ServerId,
    is_another_life: bool,
) -> Result<(), Halt> {
    for transfer in transfers(step)? {
        if transfer.other != server || transfer.role != TransferRole::Receiver {
            continue;
        }
        match (transfer.state, is_another_life) {
            (TransferState::Accepted, true) => claim(step, &transfer)?,
            (TransferState::Accepted, false) if !transfer.acknowledged => {
                say_accepted(step, &transfer)?;
            }
            // It may not know of the offer any more, and give the things to somebody else.
            (TransferState::Offered, true) => void(step, &transfer)?,
            _ => {}
        }
    }
    if !is_another_life {
        return Ok(());
    }
    offer_anew(step, server)?;
    told(step, server, "move.settled", json!({}))
}

/// A server has said all that it took from us.
pub(in crate::commands) fn settled(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let settled_in = step.stored().node()?.map(|node| node.incarnation);
    let known = Server { settled_in, ..server.as_ref().clone() };
    step.put(Key::Server(server.id), Row::Server(Arc::new(known)))?;
    Ok(json!({"id": server.id}))
}

/// Checks that nobody may have what we are about to give away: a server that was not heard since our store
/// went back may have taken it.
pub(super) fn check_settled(step: &Step<'_>) -> Result<(), Halt> {
    let Some(node) = step.stored().node()? else { return Ok(()) };
    let key = |bytes| Key::Server(ServerId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), SERVERS_MAX)?;
    let unheard = rows.iter().filter_map(|(_, row)| match row {
        Row::Server(server) if server.allowed != ServerState::Denied => {
            let is_settled = server.settled_in.is_none_or(|life| life == node.incarnation);
            (!is_settled).then(|| server.name.as_str())
        }
        _ => None,
    });
    let unheard: Vec<&str> = unheard.take(NAMED_MAX).collect();
    let Some(first) = unheard.first() else { return Ok(()) };
    let says = format!(
        "this node was put back, and has not heard from {} since: what stands here again may be there",
        unheard.join(", ")
    );
    Err(Problem::new(Code::Conflict, says)
        .hint(format!(
            "reach it with: freehold peer connect {first}; if it is gone for good: freehold server rm {first}"
        ))
        .into())
}

/// A server does not know of a transfer of its own.
pub(in crate::commands) fn unknown(step: &mut Step<'_>) -> Result<Json, Halt> {
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
pub(in crate::commands) fn claimed(step: &mut Step<'_>) -> Result<Json, Halt> {
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

/// Lets go of a thing that we own with a lower epoch than the one that we gave away, or that we gave away
/// in an earlier life of our store, whatever was done with it since.
fn yield_to(
    step: &mut Step<'_>,
    server: &Server,
    claim: &DeedClaim,
    is_theirs: bool,
) -> Result<bool, Halt> {
    let is_forgotten = step.stored().transfer(claim.transfer)?.is_none();
    for element in step.elements_with_id(claim.element)? {
        if element.home.is_some() {
            continue;
        }
        let in_transit = element.rests == Some(Rest::Moving(claim.transfer));
        let taken_back = is_theirs && element.epoch == claim.epoch + 1;
        let given_before = is_forgotten && !came_back_since(step, &element, claim);
        if in_transit || taken_back || given_before || is_newer(claim.epoch, element.epoch) {
            let element = not_offered_elsewhere(step, element, claim.transfer)?;
            step.make_copy(&element, server.id)?;
            note_moved(step, server, claim)?;
            return Ok(true);
        }
    }
    // What is not here any more, or not yet again, is theirs all the same.
    let is_known = step.stored().moved(claim.element)?.is_some_and(|moved| {
        moved.transfer == claim.transfer || !is_newer(claim.epoch, moved.epoch)
    });
    if is_forgotten && !is_known && step.elements_with_id(claim.element)?.is_empty() {
        note_moved(step, server, claim)?;
    }
    Ok(false)
}

/// Notes where a thing is that we gave away.
fn note_moved(step: &mut Step<'_>, server: &Server, claim: &DeedClaim) -> Result<(), Halt> {
    let (epoch, transfer) = (claim.epoch, claim.transfer);
    let moved = Moved { server: server.id, epoch, transfer, at: step.now };
    step.put(Key::Moved(claim.element), Row::Moved(Arc::new(moved)))
}

/// Whether a thing carries the word by which we gave it away: then it has come back since.
fn came_back_since(step: &Step<'_>, element: &Element, claim: &DeedClaim) -> bool {
    let mut words = element.chain.iter().filter_map(|word| own_deed(step, word));
    words.any(|word| word.transfer == claim.transfer)
}

/// Takes back what was offered without a right to it; gives back the thing as it is then.
fn not_offered_elsewhere(
    step: &mut Step<'_>,
    element: Arc<Element>,
    claimed: TransferId,
) -> Result<Arc<Element>, Halt> {
    let Some(Rest::Moving(id)) = element.rests.filter(|rest| *rest != Rest::Moving(claimed)) else {
        return Ok(element);
    };
    if let Some(transfer) = step.stored().transfer(id)? {
        take_back(step, &transfer)?;
    }
    let thawed = step.stored().element(element.world, element.id)?;
    Ok(thawed.unwrap_or(element))
}
