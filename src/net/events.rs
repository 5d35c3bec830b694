//! What the network is told, and what it tells. Peers are named by their ed25519 keys.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::model::Try;
use crate::wire::{Request, Response, WireFault};

/// Decides whether a record of the network is kept: its key, its value, and what is held already.
pub type Judge = Arc<dyn Fn(&[u8], &[u8], Option<&[u8]>) -> bool + Send + Sync>;

/// How the network is started.
#[derive(Clone)]
pub struct NetConfig {
    /// The seed of our key.
    pub seed: [u8; 32],
    /// The network's name: part of every protocol's.
    pub network: String,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Whether a port that is taken is replaced by any other.
    pub any_port: bool,
    /// Whether nodes on the local network are found by multicast DNS.
    pub mdns: bool,
    /// Connections from peers that have no slot of their own.
    pub strangers_max: u32,
    /// Judges records of the network.
    pub judge: Judge,
}

/// The network cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartNetError {
    /// An address is none, or of no protocol that we speak.
    #[error("'{0}' is no address to listen on")]
    BadAddress(String),
    /// An address is in use.
    #[error("{0} is in use")]
    InUse(String),
    /// Something else.
    #[error("the network cannot be started: {0}")]
    Other(String),
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Dial a peer at these addresses, or at those that the network knows.
    Dial([u8; 32], Vec<String>),
    /// Send a request; the number comes back with the response.
    Send([u8; 32], u64, Box<Request>),
    /// Answer a request.
    Respond(u64, Box<Response>),
    /// Close every connection to a peer.
    Close([u8; 32]),
    /// Keep a slot for a peer, whatever strangers do.
    Reserve([u8; 32]),
    /// Say in the network that we provide this.
    Provide(Vec<u8>),
    /// Find who provides this.
    FindProviders(u64, Vec<u8>),
    /// Store a record in the network.
    PutRecord(Vec<u8>, Vec<u8>),
    /// Find a record in the network.
    FindRecord(u64, Vec<u8>),
    /// Hear what is published about a topic.
    Subscribe(String),
    /// Publish something about a topic.
    Publish(String, Vec<u8>),
    /// What is to become of a message that was heard.
    Judge(u64, Verdict),
    /// Close what is open, end the network, and say so.
    Stop(oneshot::Sender<()>),
}

/// What becomes of a gossip message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is true: forward it.
    Forward,
    /// It cannot be told: drop it.
    Drop,
    /// It is false: drop it, and remember who sent it.
    Reject,
}

/// Why a request has no response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lost {
    /// The connection ended, or nothing came in time.
    Connection,
    /// The peer speaks none of our protocols: it is of another network or version.
    WrongNetwork,
    /// The response did not hold.
    Fault(WireFault),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A connection is open; whether we dialled it, and where it leads.
    Connected([u8; 32], bool, String),
    /// No connection to the peer is open any more.
    Disconnected([u8; 32]),
    /// A peer could not be reached: why, for each address, whether another peer answered, and the key
    /// of that one.
    DialFailed([u8; 32], Vec<Try>, bool, Option<[u8; 32]>),
    /// A request arrived; the number finds the one who waits.
    Requested([u8; 32], u64, Result<Box<Request>, WireFault>),
    /// A request of ours was answered, or lost.
    Responded([u8; 32], u64, Result<Box<Response>, Lost>),
    /// Who provides what was looked for.
    Providers(u64, Vec<[u8; 32]>),
    /// The record that was looked for.
    Record(u64, Option<Vec<u8>>),
    /// Something was published; the number is for [`Command::Judge`]. The first key signed it.
    Heard {
        /// Finds it for the verdict.
        id: u64,
        /// Who signed it.
        author: [u8; 32],
        /// About what.
        topic: String,
        /// What.
        data: Vec<u8>,
    },
    /// The routing table has a new peer.
    Routed,
    /// A node on the local network was found.
    Found([u8; 32], Vec<String>),
    /// The time to a peer and back, in milliseconds.
    Pinged([u8; 32], f64),
}
