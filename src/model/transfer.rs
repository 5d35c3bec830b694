//! Transfers: things on their way to another server, as either end keeps them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{AccountId, ElementId, Json, Name, ServerId, Timestamp, TransferId, WorldId};

/// Which end of a transfer this is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferRole {
    /// The things were ours.
    Giver,
    /// The things are to be ours.
    Receiver,
}

/// What has become of a transfer. The receiver alone decides; a row stays for good.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// It was offered, and nobody has decided. The things rest at the giver.
    Offered,
    /// The receiver has taken the things.
    Accepted,
    /// The receiver has not taken them, or the giver has called it off in time. They are the giver's.
    Refused,
    /// The giver has taken them back without an answer: the receiver was gone for good.
    Reclaimed,
}

/// What stays behind where a thing is moved to a server that may not see all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sealed {
    /// Values that stay at the giver until the thing comes back.
    pub values: u32,
    /// Actions that run nowhere while it is away.
    pub actions: u32,
    /// Events that are refused while it is away.
    pub refused: u32,
}

impl Sealed {
    /// Whether something stays behind.
    pub const fn is_sealed(&self) -> bool {
        self.values > 0 || self.actions > 0 || self.refused > 0
    }
}

/// One thing of a transfer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Moving {
    /// Which.
    pub element: ElementId,
    /// The world that it is in at the giver.
    pub world: WorldId,
    /// The number that its ownership has in this transfer: it was one less before.
    pub epoch: u64,
    /// The giver's signed word that it was offered.
    pub deed: ByteBuf,
    /// The receiver's signed word that it was taken.
    pub receipt: Option<ByteBuf>,
    /// Values that the receiver may not see: kept by the giver.
    pub kept: BTreeMap<String, Json>,
}

/// Things on their way from one server to another.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// Which.
    pub id: TransferId,
    /// Which end this is.
    pub role: TransferRole,
    /// What has become of it.
    pub state: TransferState,
    /// The server at the other end.
    pub other: ServerId,
    /// Whose the things are or were at our end.
    pub account: AccountId,
    /// What it is called by: the name of the first thing, or its id.
    pub called: String,
    /// The world at the receiver, as it is named there.
    pub into: String,
    /// The things; the first one is what was named, the others come along with it.
    pub things: Vec<Moving>,
    /// What stays behind.
    pub sealed: Sealed,
    /// Pieces in which the content came, and blake3 of all of it.
    pub pieces: u32,
    /// See `pieces`.
    pub hash: [u8; 32],
    /// Whether the giver has stored that we took them: then nothing can be taken back.
    pub acknowledged: bool,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why it was refused.
    pub reason: Option<String>,
    /// Whether its owner has called it off: it is not offered again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub called_off: bool,
    /// Our own receipts that it was offered with: we took it before, and our store went back since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_before: Vec<ByteBuf>,
}

/// Where a thing is that was ours.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Moved {
    /// The server that took it.
    pub server: ServerId,
    /// The number of its ownership there.
    pub epoch: u64,
    /// The transfer by which it left.
    pub transfer: TransferId,
    /// When it left.
    pub at: Timestamp,
}

/// A thing that somebody has picked up: it rests, and stands nowhere.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The element.
    pub element: ElementId,
    /// The world from which it was taken.
    pub world: WorldId,
    /// Its name there.
    pub name: Option<Name>,
    /// Since when.
    pub at: Timestamp,
}
