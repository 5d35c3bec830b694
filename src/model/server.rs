//! Other servers: what we keep about them, what joins us to them, what waits for a person.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AccountId, Bounds, EntryId, Incarnation, JobId, Json, Name, ServerId, SignedRecord, Timestamp,
};

/// Calls that a server may make in a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// Calls in one unit.
    pub calls_per_unit: u32,
    /// The length of a unit, in seconds.
    pub seconds_in_unit: u32,
}

impl Limit {
    /// What strangers get: 6,000 calls in 60 s.
    pub const STRANGERS: Self = Self { calls_per_unit: 6_000, seconds_in_unit: 60 };
}

/// Whether a server may call here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Nobody decided: what is public, within the limit for strangers.
    Pending,
    /// An operator said yes.
    Allowed,
    /// An operator said no.
    Denied,
}

/// What we keep about a server. Never sent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Who.
    pub id: ServerId,
    /// Its name here: its claim if that was free, else `name-2`.
    pub name: Name,
    /// What it calls itself.
    pub claims: Name,
    /// Its record as received.
    pub record: SignedRecord,
    /// Its key of today (ed25519), from the record.
    pub key: [u8; 32],
    /// The number of that record.
    pub sequence: u64,
    /// Whether it may call here.
    pub allowed: ServerState,
    /// Since when nothing of its runs here.
    pub paused_at: Option<Timestamp>,
    /// Its limit, where it has one of its own.
    pub limit: Option<Limit>,
    /// Multiaddrs at which it was reached, newest first.
    pub addresses: Vec<String>,
    /// When it was first met.
    pub met_at: Timestamp,
    /// The life of its store that we last spoke with.
    pub incarnation: Incarnation,
    /// The domain that it says is its own: a claim until it is confirmed.
    #[serde(default)]
    pub domain: Option<String>,
    /// When the domain was seen to name its key.
    #[serde(default)]
    pub confirmed_at: Option<Timestamp>,
    /// When it may call; none: at any time.
    #[serde(default)]
    pub schedule: Option<Bounds>,
    /// The life of our store in which it has said all that it took from us; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_in: Option<Incarnation>,
}

/// What joins us to a caller's server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bond {
    /// It is this server.
    Ourselves,
    /// Both servers are on each other's list, and it showed the proof.
    Proven,
    /// Neither.
    Stranger,
}

/// How far a protection has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtectionState {
    /// We asked, the other operator has not answered.
    Asked,
    /// Each has the other's id.
    Active,
    /// The other operator said no.
    Denied,
    /// One side ended it. The row stays, so that nobody re-adds the server by hearsay.
    Dropped,
}

/// A server on one of our lists.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Protection {
    /// The list.
    pub list: Name,
    /// The server.
    pub server: ServerId,
    /// How far it has come.
    pub state: ProtectionState,
    /// The hash of the protection id that we issued for it.
    pub issued: [u8; 32],
    /// The protection id that it issued for us, as received.
    #[serde(with = "serde_bytes")]
    pub held: Vec<u8>,
    /// Since when it is in this state.
    pub since: Timestamp,
}

/// What sort of thing waits for a person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InboxKind {
    /// A server asks to be on a list of ours, and offers us a place on its own.
    Protection,
    /// A server is a copy of another, or one of us.
    Server,
    /// An action asks before it decides.
    Question,
    /// A server asks to act for an account.
    Token,
    /// A server offers things for a world.
    Move,
}

/// Something that waits for a person.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InboxEntry {
    /// Which.
    pub id: EntryId,
    /// What sort.
    pub kind: InboxKind,
    /// Who asks.
    pub from: ServerId,
    /// The question, as one sentence.
    pub asks: String,
    /// The list it is about.
    pub list: Name,
    /// The protection id that came with it.
    #[serde(with = "serde_bytes")]
    pub protection: Vec<u8>,
    /// Since when it waits.
    pub since: Timestamp,
    /// Whose answer it waits for; none: the operator's.
    #[serde(default)]
    pub owner: Option<AccountId>,
    /// The job that waits for the answer, and the place of its question.
    #[serde(default)]
    pub waits: Option<(JobId, String)>,
    /// Until when nobody wants to see it.
    #[serde(default)]
    pub later_until: Option<Timestamp>,
}

/// A try to reach an address, and why it failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Try {
    /// The multiaddr.
    pub address: String,
    /// Why it failed.
    pub reason: String,
}

/// What the network room's contacts look like at present.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Contact {
    /// Whether a connection is open.
    pub connected: bool,
    /// When it was last heard.
    pub last_at: Option<Timestamp>,
    /// When it is tried again.
    pub next_try_at: Option<Timestamp>,
    /// Tries since the last success.
    pub tries: u32,
    /// Faults of its messages, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Calls it made in the running unit.
    pub calls_made: u32,
    /// Calls of its that were refused for being over the limit.
    pub over_limit: u64,
}

/// What stands before an ed25519 key in a peer id: an identity multihash of a protobuf-encoded key.
const PEER_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The bytes of the peer id of an ed25519 key, as libp2p has them: the identity multihash of the
/// protobuf-encoded key.
pub fn peer_bytes_of(key: &[u8; 32]) -> Vec<u8> {
    [&PEER_PREFIX[..], key].concat()
}

/// The ed25519 key in the bytes of a peer id; none where it is no peer id of such a key.
pub fn key_of_peer_bytes(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.strip_prefix(&PEER_PREFIX)?.try_into().ok()
}

/// The peer id of an ed25519 key, as libp2p writes it: its bytes in base58.
pub fn peer_id_of(key: &[u8; 32]) -> String {
    bs58::encode(peer_bytes_of(key)).into_string()
}

/// The ed25519 key in a peer id; none where it is no peer id of such a key.
pub fn key_of_peer_id(peer_id: &str) -> Option<[u8; 32]> {
    key_of_peer_bytes(&bs58::decode(peer_id).into_vec().ok()?)
}

impl Server {
    /// The fields of this entry that a person may see, as JSON.
    pub fn to_json(&self) -> Json {
        serde_json::json!({
            "id": self.id,
            "name": self.name,
            "claims": self.claims,
            "peer_id": peer_id_of(&self.key),
            "state": match (self.paused_at, self.allowed) {
                (Some(_), _) => "paused",
                (None, ServerState::Pending) => "pending",
                (None, ServerState::Allowed) => "allowed",
                (None, ServerState::Denied) => "denied",
            },
            "domain": self.domain,
            "confirmed_at": self.confirmed_at.map(|at| at.to_string()),
            "paused_at": self.paused_at.map(|at| at.to_string()),
            "schedule": self.schedule,
            "met_at": self.met_at.to_string(),
            "addresses": self.addresses,
        })
    }
}
