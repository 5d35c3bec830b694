//! What a server was offered whose store went back since: it is offered anew, and where it does not know
//! of that it asks for the content. Where it had taken it, its own receipts say so, and it takes it again
//! without a question.

use std::sync::Arc;

use serde_bytes::ByteBuf;
use serde_json::json;

use super::give::{given, offer_of, tell_cancel, tell_content};
use super::receive::{forget_pieces, pieces_of};
use super::{own_word, told, transfers};
use crate::commands::share;
use crate::commands::token::calling_server;
use crate::model::{
    Json, Key, Moving, Row, ServerId, Transfer, TransferId, TransferRole, TransferState, hex, unhex,
};
use crate::presence::{Package, THINGS_MAX};
use crate::step::{Halt, Step};
use crate::trust::DeedKind;

/// How long the content of what was given away is kept, in milliseconds.
const KEPT_MS: u64 = 30 * 86_400_000;
/// Transfers that are offered anew at once, at most: the newest.
const ANEW_MAX: usize = 256;

/// Keeps the content of what is offered.
pub(super) fn keep(step: &mut Step<'_>, id: TransferId, pieces: &[String]) -> Result<(), Halt> {
    forget_old(step)?;
    for (number, piece) in (0..).zip(pieces) {
        step.put(Key::Piece(id, number), Row::Piece(Arc::new(piece.clone())))?;
    }
    Ok(())
}

fn forget_old(step: &mut Step<'_>) -> Result<(), Halt> {
    for transfer in transfers(step)? {
        let is_old = transfer.since.after_ms(KEPT_MS) < step.now;
        if is_gone(&transfer) && is_old {
            forget_pieces(step, transfer.id)?;
        }
    }
    Ok(())
}

/// Whether it was given away.
fn is_gone(transfer: &Transfer) -> bool {
    transfer.role == TransferRole::Giver && transfer.state == TransferState::Accepted
}

/// A server has another life: what is still offered to it, and what it took and as far as we know has
/// still, it is offered anew.
pub(super) fn offer_anew(step: &mut Step<'_>, server: ServerId) -> Result<(), Halt> {
    let mut offered = 0;
    for transfer in transfers(step)?.iter().rev() {
        let is_open =
            transfer.role == TransferRole::Giver && transfer.state == TransferState::Offered;
        if transfer.other != server || !(is_open || is_gone(transfer)) || offered >= ANEW_MAX {
            continue;
        }
        if is_gone(transfer) && !has_all(step, transfer)? {
            continue;
        }
        if is_open && transfer.called_off {
            tell_cancel(step, transfer)?;
            continue;
        }
        if step.stored().row(&Key::Piece(transfer.id, 0))?.is_none() {
            continue;
        }
        let receipts: Vec<String> =
            transfer.things.iter().filter_map(|thing| Some(hex(thing.receipt.as_ref()?))).collect();
        let mut offer = offer_of(step, transfer)?;
        offer["receipts"] = json!(receipts);
        told(step, server, "move.offer", offer)?;
        offered += 1;
    }
    Ok(())
}

/// A server asks for the content of what it is offered anew.
pub(in crate::commands) fn send(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let transfer = given(step, server.id)?;
    let open = transfer.filter(|held| held.state == TransferState::Offered || is_gone(held));
    if let Some(transfer) = open
        && let pieces = pieces_of(step, &transfer)?
        && let Ok(package) = Package::read(&pieces, &transfer.hash)
    {
        for packed in &package.things {
            share::send_anew(step, packed.type_id, server.id)?;
        }
        tell_content(step, &transfer, &pieces)?;
    }
    Ok(json!({"id": server.id}))
}

/// Whether nothing of what was given has gone on from there, or has come back, as far as we know.
fn has_all(step: &Step<'_>, transfer: &Transfer) -> Result<bool, Halt> {
    for thing in &transfer.things {
        let moved = step.stored().moved(thing.element)?;
        if moved.is_none_or(|moved| {
            (moved.server, moved.transfer, moved.epoch)
                != (transfer.other, transfer.id, thing.epoch)
        }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Our own receipts that an offer shows, if all of them are for it: then we took it, in a life that our
/// store knows nothing of.
pub(super) fn receipts_shown(step: &Step<'_>, id: TransferId, giver: ServerId) -> Vec<ByteBuf> {
    let shown = step.arg("receipts").as_array().into_iter().flatten().filter_map(Json::as_str);
    let ours = shown.take(THINGS_MAX).map(|text| {
        let word = unhex(text)?;
        let claim = own_word(step, DeedKind::Receipt, &word)?;
        let is_for = (claim.transfer, claim.giver, claim.receiver);
        (is_for == (id, giver, step.setting.us)).then(|| word.into())
    });
    ours.collect::<Option<Vec<ByteBuf>>>().unwrap_or_default()
}

/// Whether our receipts are for just the things of a transfer.
pub(super) fn was_taken_before(step: &Step<'_>, transfer: &Transfer) -> bool {
    let fits = |(word, thing): (&ByteBuf, &Moving)| {
        own_word(step, DeedKind::Receipt, word)
            .is_some_and(|claim| (claim.element, claim.epoch) == (thing.element, thing.epoch))
    };
    let words = &transfer.taken_before;
    !words.is_empty()
        && words.len() == transfer.things.len()
        && words.iter().zip(&transfer.things).all(fits)
}
