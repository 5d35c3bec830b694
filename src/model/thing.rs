//! Things that are kept: accounts, worlds, elements, and what we know of others'.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    AccountId, ElementId, GroupId, Head, Json, KeyId, Kind, LogId, Name, ServerId, TimerId,
    Timestamp, TransferId, TypeId, WorldId,
};

/// A signed record as it was received, byte for byte. What it says is read by `trust`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignedRecord(#[serde(with = "serde_bytes")] pub Vec<u8>);

impl std::fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignedRecord({} bytes)", self.0.len())
    }
}

/// An account at home here: we hold its key and its truth.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Who.
    pub id: AccountId,
    /// Its name here.
    pub name: Name,
    /// Its newest record.
    pub record: SignedRecord,
    /// The records that lead to it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<SignedRecord>,
    /// Since when.
    pub added_at: Timestamp,
}

/// An account of another server: a copy of its record, with a time to live.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CachedAccount {
    /// Who.
    pub id: AccountId,
    /// Its name at its home.
    pub name: Name,
    /// Where it is at home.
    pub home: ServerId,
    /// Its record as received.
    pub record: SignedRecord,
    /// The key that the record names.
    pub key: [u8; 32],
    /// When it was fetched.
    pub fetched_at: Timestamp,
    /// Until when it counts as fresh.
    pub until: Timestamp,
}

/// A container of elements with a change log of its own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct World {
    /// Which.
    pub id: WorldId,
    /// Whose.
    pub owner: AccountId,
    /// Its name among its owner's worlds.
    pub name: Name,
    /// Since when.
    pub added_at: Timestamp,
}

/// An instance of a type, with live attribute values and exactly one owner.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Element {
    /// Which.
    pub id: ElementId,
    /// Where.
    pub world: WorldId,
    /// What it is made from.
    pub type_id: TypeId,
    /// Whose.
    pub owner: AccountId,
    /// Its name in its world, if it has one.
    pub name: Option<Name>,
    /// The values that differ from their defaults, by attribute.
    pub values: BTreeMap<String, Json>,
    /// Attributes that are switched off.
    #[serde(default)]
    pub attributes_off: BTreeSet<String>,
    /// Parents of its type that are switched off.
    #[serde(default)]
    pub parents_off: BTreeSet<TypeId>,
    /// How many sets it stands in.
    #[serde(default)]
    pub in_sets: u32,
    /// The number of its ownership: one more with each time that it is given to another server.
    #[serde(default, skip_serializing_if = "is_first")]
    pub epoch: u64,
    /// What keeps it from acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rests: Option<Rest>,
    /// Signed words of the moves that brought it here, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<ByteBuf>,
    /// The server where it is at home, where this is a copy that stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<ServerId>,
}

const fn is_first(epoch: &u64) -> bool {
    *epoch == 0
}

/// Why an element does not act: it is not read, not written and fires nothing meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Rest {
    /// Its owner has picked it up.
    Held,
    /// It was offered to another server.
    Moving(TransferId),
}

/// A loose collection of elements of one world, defined by an element of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Set {
    /// The element that defines it.
    pub element: ElementId,
    /// Where.
    pub world: WorldId,
    /// How many stand in it.
    pub members: u64,
    /// Since when.
    pub added_at: Timestamp,
}

/// Members and admins, accounts of any server: the unit of permission.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AccountGroup {
    /// Which.
    pub id: GroupId,
    /// Whose.
    pub owner: AccountId,
    /// Its name among its owner's groups.
    pub name: Name,
    /// Since when.
    pub added_at: Timestamp,
    /// The element that hears its events and carries its attributes, if its owner named one.
    pub element: Option<(WorldId, ElementId)>,
}

/// A custom event that is fired at a time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Timer {
    /// Which.
    pub id: TimerId,
    /// Where.
    pub world: WorldId,
    /// On which element.
    pub element: ElementId,
    /// When, as it was meant: the next time is counted from here.
    pub at: Timestamp,
    /// How often again, in milliseconds; none: once.
    pub every_ms: Option<u64>,
    /// What happens then.
    pub does: TimerDoes,
}

/// What a timer does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum TimerDoes {
    /// Fires a custom event with this data.
    Fire(String, Json),
    /// Destroys the element: its time is over.
    Destroy,
    /// Tells the element that the node has started.
    Start,
}

/// A value of another server's element, as its home gave it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CachedValue {
    /// The value.
    pub value: Json,
    /// What its kind is, so that a write can be checked before it is sent.
    pub kind: Kind,
    /// Until when it counts as fresh.
    pub until: Timestamp,
    /// The feed's number when it was read.
    pub head: Head,
    /// Whether something newer is known to exist.
    pub outdated: bool,
}

/// What a remote name stood for when its home last told us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CachedPlace {
    /// The world.
    pub world: WorldId,
    /// The element.
    pub element: ElementId,
}

/// A feed of another's world that we receive.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Following {
    /// Whose world it is.
    pub server: ServerId,
    /// Which.
    pub world: WorldId,
    /// The feed's log; a new one means that its home starts to count anew.
    pub log: LogId,
    /// The newest number that is stored here.
    pub seq: u64,
}

/// A key for programs. What is stored is its hash.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ApiKey {
    /// Which.
    pub id: KeyId,
    /// What its maker calls it.
    pub name: Name,
    /// blake3 of the key.
    pub hash: [u8; 32],
    /// The accounts it may act as.
    pub accounts: Vec<AccountId>,
    /// Whether it is an operator's.
    pub admin: bool,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// Since when.
    pub added_at: Timestamp,
}
