//! Things are moved: offered, taken or refused, acknowledged; called off, taken back, and claimed after
//! somebody's store went back.

mod again;
mod anew;
mod give;
mod held;
mod receive;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::model::{Code, ElementId, Json, Key, Problem, Row, ServerId, Transfer, TransferId};
use crate::step::{Halt, Step};
use crate::trust::{DeedClaim, DeedKind, decode_record, verify_deed};
pub(super) use again::{claimed, met_again, settled, unknown};
pub(super) use anew::send;
pub(super) use give::{accepted, reclaim, refused, start, went};
pub(super) use held::{held, put, take};
pub(super) use receive::{acknowledged, answered, cancelled, offer, piece, reclaimed};

/// Transfers that are looked through.
const TRANSFERS_MAX: usize = 100_000;
/// More moves than any thing makes.
const EPOCH_MAX: u64 = 1 << 53;

fn bad(what: &str) -> Halt {
    Problem::new(Code::Usage, format!("the {what} is none")).into()
}

fn shown(step: &Step<'_>, held: &Transfer) -> Json {
    let things: Vec<ElementId> = held.things.iter().map(|thing| thing.element).collect();
    json!({
        "id": held.id,
        "role": held.role,
        "state": held.state,
        "name": held.called,
        "server": super::server::name_of(step, held.other),
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

type Values = BTreeMap<String, Json>;

fn transfer_id(step: &Step<'_>) -> Result<TransferId, Halt> {
    step.word("transfer").parse().map_err(|_| bad("transfer"))
}

/// What a deed says that we signed.
fn own_deed(step: &Step<'_>, deed: &[u8]) -> Option<DeedClaim> {
    own_word(step, DeedKind::Deed, deed)
}

/// What a word of this kind says that we signed, with our key of today or one before it.
fn own_word(step: &Step<'_>, kind: DeedKind, word: &[u8]) -> Option<DeedClaim> {
    let node = step.stored().node().ok()??;
    let earlier = node.earlier.iter().filter_map(|record| Some(decode_record(record).ok()?.key));
    let mut keys = std::iter::once(step.setting.keys.public()).chain(earlier);
    keys.find_map(|key| verify_deed(word, kind, &key).ok())
}
