//! The messages of the exchange. Fields are only ever added at the end, with a default.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::model::{
    AccountId, ActsFor, Event, Fleeting, Head, Incarnation, Json, Problem, Reply, Root, ServerId,
    SignedRecord, WorldId,
};

/// The version of the exchange that this program speaks.
pub const PROTOCOL_VERSION: u16 = 1;
/// What this program can do beyond the first version.
pub const FEATURES: &[&str] = &["feeds", "users"];
/// Things told in one batch.
pub const TELLS_MAX: usize = 256;
/// Things asked in one batch.
pub const ASKS_MAX: usize = 256;
/// Fleeting acts in one batch.
pub const ACTS_MAX: usize = 1_024;
/// Bytes of one call's arguments, or of one answer.
pub const CALL_BYTES_MAX: usize = 64 * 1024;

/// The first thing on a connection, in both directions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version of the exchange that is understood.
    pub version_min: u16,
    /// The newest.
    pub version_max: u16,
    /// What the program can do beyond the first version.
    pub features: Vec<String>,
    /// Who it is: its key must be the one that the connection was made with.
    pub record: SignedRecord,
    /// The life of its store.
    pub incarnation: Incarnation,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// The life of ours that it knows, if it knows us.
    pub knows: Option<Incarnation>,
    /// The highest number that it took from us in that life.
    pub taken: u64,
    /// Its records before that one, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<SignedRecord>,
    /// The domain that it says is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// A call as it travels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WireCall {
    /// The command.
    pub command: String,
    /// Its arguments.
    pub args: Json,
    /// For whom it is said to be.
    pub claim: Option<AccountId>,
    /// The cascade that it belongs to.
    pub root: Root,
    /// How long it is still worth doing, in milliseconds; none: whenever it arrives.
    pub time_left_ms: Option<u64>,
    /// The user for whom it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ActsFor>,
}

/// Something that must happen once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TellItem {
    /// Its number in the sender's lane.
    pub number: u64,
    /// What.
    pub call: WireCall,
}

/// A question.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AskItem {
    /// Finds its answer.
    pub id: u64,
    /// What.
    pub call: WireCall,
}

/// The end of something that the other side told and that was started.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The number in the other side's lane.
    pub number: u64,
    /// The answer.
    pub reply: Reply,
}

/// New events of a feed that the other side follows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The world.
    pub world: WorldId,
    /// Where the feed stands.
    pub head: Head,
    /// The events up to there; empty: pull them.
    pub events: Vec<Event>,
}

/// What the sender has stored of our answers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Advance {
    /// The life of the sender's store that counts its lane.
    pub incarnation: Incarnation,
    /// Every answer below this number is stored there.
    pub done_below: u64,
}

/// Everything that waits for a peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// The sender's lane.
    pub lane: Advance,
    /// Protection ids that the other side issued for the sender, where they were not shown on this
    /// connection before.
    pub presents: Vec<ByteBuf>,
    /// What must happen once, in order.
    pub tells: Vec<TellItem>,
    /// What is asked.
    pub asks: Vec<AskItem>,
    /// What was told before and has ended.
    pub reports: Vec<Report>,
    /// News of feeds.
    pub notices: Vec<Notice>,
    /// What people in worlds do: fleeting, told to who is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<Fleeting>,
    /// Whether the sender is about to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parting: bool,
}

impl Batch {
    /// A batch with nothing in it.
    pub const fn empty(lane: Advance) -> Self {
        Self {
            lane,
            presents: Vec::new(),
            tells: Vec::new(),
            asks: Vec::new(),
            reports: Vec::new(),
            notices: Vec::new(),
            acts: Vec::new(),
            parting: false,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.presents.is_empty()
            && self.tells.is_empty()
            && self.asks.is_empty()
            && self.reports.is_empty()
            && self.notices.is_empty()
            && self.acts.is_empty()
            && !self.parting
    }
}

/// The answer to something told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum TellAnswer {
    /// It ended so.
    Done(Reply),
    /// It was taken and has not ended; a report follows.
    Started,
    /// It was not taken, and why.
    Fault(Problem),
}

/// The answer to something asked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum AskAnswer {
    /// This.
    Done(Result<Json, Problem>),
    /// There was no room for it in this answer: ask again.
    Again,
}

/// The answers to a batch, after its turn was committed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// By number.
    pub tells: Vec<(u64, TellAnswer)>,
    /// By id.
    pub asks: Vec<(u64, AskAnswer)>,
    /// Protection ids that do not hold here, by their hash: they need not be shown again.
    pub unknown: Vec<ByteBuf>,
}

/// A request on the exchange.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Who we are.
    Hello(Box<Hello>),
    /// What waits for you.
    Batch(Box<Batch>),
    /// A kind that this version does not know.
    Unknown(u8),
}

/// A response on the exchange.
#[derive(Clone, PartialEq, Debug)]
pub enum Response {
    /// Who we are.
    Hello(Box<Hello>),
    /// What became of the batch.
    Batch(Box<BatchAnswer>),
    /// Why there is no answer.
    Refused(Problem),
    /// A kind that this version does not know.
    Unknown(u8),
}

/// A world's public feed as gossipsub carries it, once a turn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gossip {
    /// Whose world it is; must be the one who signed the message.
    pub server: ServerId,
    /// What is new.
    pub notice: Notice,
}

/// A hash of what an item says, to tell whether the same number comes with other content.
pub fn digest_of(call: &WireCall) -> [u8; 16] {
    let mut hash = blake3::Hasher::new();
    hash.update(call.command.as_bytes()).update(&[0]);
    hash.update(call.args.to_string().as_bytes()).update(&[0]);
    hash.update(&call.claim.map_or([0; 16], |claim| *claim.as_bytes()));
    hash.update(call.root.job.as_bytes());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    digest
}

/// A gossip message's bytes.
pub fn encode_gossip(gossip: &Gossip) -> Vec<u8> {
    super::frame::to_cbor(gossip)
}

/// Reads a gossip message.
///
/// # Errors
/// It is none.
pub fn decode_gossip(bytes: &[u8]) -> Result<Gossip, super::WireFault> {
    super::frame::from_cbor(bytes)
}
