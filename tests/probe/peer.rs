//! The peer as a test holds it. Everything here waits until it is done.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use freehold::model::{
    Budget, Incarnation, JobId, Json, Name, Problem, Root, ServerId, SignedRecord, key_of_peer_id,
};
use freehold::trust::{Inception, KeyPair, Record, RecordKind};
use freehold::wire::{
    Advance, AskAnswer, AskItem, Batch, BatchAnswer, Hello, Notice, PROTOCOL_VERSION, Request,
    Response, TellAnswer, TellItem, WireCall, decode_response, encode_request,
};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::body::{Found, Frame, Gossiped, Ground, Order, Returned, Seen, start, unframed};
use super::tap::Heard;
use crate::support::Node;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A peer that keeps to no rule but the protocols'.
pub(crate) struct Probe {
    pub(crate) name: String,
    /// Signs its records and protection ids.
    pub(crate) keys: KeyPair,
    /// The same key, as libp2p has it.
    pub(crate) pair: Keypair,
    pub(crate) record: SignedRecord,
    pub(crate) server: ServerId,
    orders: mpsc::Sender<Order>,
    seen: Arc<Mutex<Seen>>,
    heard: Heard,
    hello: Arc<Mutex<Hello>>,
    next_number: AtomicU64,
}

impl Probe {
    /// A peer that only dials.
    pub(crate) fn new(name: &str) -> Self {
        Self::start(name, None)
    }

    /// A peer that can be dialled, and takes part in Kademlia.
    pub(crate) fn listening(name: &str) -> Self {
        let probe = Self::start(name, Some("/ip4/127.0.0.1/tcp/0".parse().unwrap()));
        wait_for("an address", || (!probe.seen().listen.is_empty()).then_some(()));
        probe
    }

    fn start(name: &str, listens: Option<Multiaddr>) -> Self {
        let seed = blake3::derive_key("freehold test probe", name.as_bytes());
        let keys = KeyPair::from_seed(&seed);
        let inception = Inception {
            kind: RecordKind::Server,
            key: keys.public(),
            recovery_hash: [7; 32],
            nonce: [9; 16],
        };
        let record = Record::first(inception, Name::new(name).unwrap(), None);
        let server = record.server_id().unwrap();
        let record = record.sign(&keys);
        let hello = Arc::new(Mutex::new(Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: Vec::new(),
            record: record.clone(),
            incarnation: Incarnation::from_bytes([1; 16]),
            addresses: Vec::new(),
            knows: None,
            taken: 0,
            earlier: Vec::new(),
            domain: None,
        }));
        let (seen, heard) = (Arc::<Mutex<Seen>>::default(), Heard::default());
        let pair = keypair(seed);
        let orders = start(Ground {
            keys: pair.clone(),
            listens,
            heard: heard.clone(),
            seen: seen.clone(),
            hello: hello.clone(),
        });
        Self {
            name: name.to_owned(),
            keys,
            pair,
            record,
            server,
            orders,
            seen,
            heard,
            hello,
            next_number: AtomicU64::new(1),
        }
    }

    /// Its peer id.
    pub(crate) fn peer(&self) -> PeerId {
        self.pair.public().to_peer_id()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn order(&self, order: Order) {
        assert!(self.orders.blocking_send(order).is_ok(), "{}: the swarm has ended", self.name);
    }

    fn ordered<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> T {
        let (back, outcome) = sync_channel(1);
        self.order(order(back));
        outcome.recv_timeout(PATIENCE).unwrap()
    }

    // Connections.

    /// Connects to a node, and waits until the node has said what it speaks; else says why not.
    pub(crate) fn dial(&self, node: &Node) -> Result<PeerId, String> {
        let peer = peer_of(node);
        self.seen().ended.remove(&peer);
        self.order(Order::Dial(peer, tcp_address(node).parse().unwrap()));
        wait_for("the end of a dial", || {
            let mut seen = self.seen();
            if seen.identified.contains(&peer) {
                return Some(Ok(peer));
            }
            seen.ended.remove(&peer).map(Err)
        })
    }

    /// Says hello, and gives back what the node says.
    pub(crate) fn hello(&self, to: PeerId) -> Hello {
        match self.request(to, &Request::Hello(Box::new(self.own_hello()))) {
            Response::Hello(hello) => *hello,
            other => panic!("{}: no hello but {other:?}", self.name),
        }
    }

    /// What it says of itself.
    pub(crate) fn own_hello(&self) -> Hello {
        self.hello.lock().unwrap().clone()
    }

    /// Connects to a node, says hello, and waits until the node knows it.
    pub(crate) fn meet(&self, node: &Node) -> PeerId {
        let peer = self.dial(node).unwrap();
        self.hello(peer);
        node.until(&["server", "show", &self.name], |_| true);
        peer
    }

    /// Ends its connections to a node.
    pub(crate) fn leave(&self, peer: PeerId) {
        self.order(Order::Leave(peer));
        self.wait_gone(peer);
    }

    /// Waits until no connection to a node is left.
    pub(crate) fn wait_gone(&self, peer: PeerId) {
        wait_for("the end of a connection", || (!self.is_connected(peer)).then_some(()));
    }

    /// Whether a connection to a node is open.
    pub(crate) fn is_connected(&self, peer: PeerId) -> bool {
        self.seen().connected.contains(&peer)
    }

    // The exchange.

    /// Sends bytes on a stream of the exchange, and gives back what came.
    pub(crate) fn send(&self, to: PeerId, frame: Frame) -> Returned {
        self.ordered(|back| Order::Send(to, frame, back))
    }

    /// Sends a frame's bytes, and reads the response.
    pub(crate) fn raw(&self, to: PeerId, bytes: &[u8]) -> Response {
        let frame = Frame { bytes: bytes.to_vec(), linger: Duration::ZERO };
        let came = self.send(to, frame).unwrap();
        let (kind, body) = unframed(&came).unwrap();
        decode_response(kind, body).unwrap()
    }

    fn request(&self, to: PeerId, request: &Request) -> Response {
        self.raw(to, &encode_request(request))
    }

    /// Sends a batch, and gives back what became of it.
    pub(crate) fn batch(&self, to: PeerId, batch: Batch) -> BatchAnswer {
        match self.request(to, &Request::Batch(Box::new(batch))) {
            Response::Batch(answer) => *answer,
            other => panic!("{}: no answer but {other:?}", self.name),
        }
    }

    /// A batch with nothing in it, of its present life.
    pub(crate) fn empty(&self) -> Batch {
        Batch::empty(self.lane())
    }

    /// Its lane: nothing is stored of what was answered.
    pub(crate) fn lane(&self) -> Advance {
        Advance { incarnation: self.own_hello().incarnation, done_below: 1 }
    }

    /// Begins another life of its store; who is told so learns it with the next hello.
    pub(crate) fn begin_life(&self, life: u8) {
        self.hello.lock().unwrap().incarnation = Incarnation::from_bytes([life; 16]);
    }

    fn call(&self, number: u64, command: &str, args: Json) -> WireCall {
        let mut job = [0; 16];
        job[8..].copy_from_slice(&number.to_be_bytes());
        WireCall {
            command: command.to_owned(),
            args,
            claim: None,
            root: Root {
                job: JobId::from_bytes(job),
                path: vec![self.server],
                budget: Budget::FULL,
            },
            time_left_ms: Some(20_000),
            user: None,
        }
    }

    /// Something that must happen once, by its number. The same words are the same content.
    pub(crate) fn item(&self, number: u64, command: &str, args: Json) -> TellItem {
        TellItem { number, call: self.call(number, command, args) }
    }

    /// A number that was not used yet.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// A batch with one question in it.
    pub(crate) fn asking(&self, command: &str, args: Json) -> Batch {
        let mut batch = self.empty();
        batch.asks.push(AskItem { id: 1, call: self.call(0, command, args) });
        batch
    }

    /// Asks something.
    pub(crate) fn ask(&self, to: PeerId, command: &str, args: Json) -> Result<Json, Problem> {
        let mut answer = self.batch(to, self.asking(command, args));
        match answer.asks.pop() {
            Some((1, AskAnswer::Done(result))) => result,
            other => panic!("{}: {command} is answered {other:?}", self.name),
        }
    }

    /// Tells something under a fresh number.
    pub(crate) fn tell(&self, to: PeerId, command: &str, args: Json) -> Result<Json, Problem> {
        self.tell_with(to, &[], command, args)
    }

    /// Tells something under a fresh number, and shows protection ids with it.
    pub(crate) fn tell_with(
        &self,
        to: PeerId,
        ids: &[&[u8]],
        command: &str,
        args: Json,
    ) -> Result<Json, Problem> {
        let mut batch = self.empty();
        batch.presents = ids.iter().map(|id| serde_bytes::ByteBuf::from(id.to_vec())).collect();
        batch.tells.push(self.item(self.next_number(), command, args));
        match self.batch(to, batch).tells.pop() {
            Some((_, TellAnswer::Done(reply))) => reply.result,
            Some((_, TellAnswer::Fault(problem))) => Err(problem),
            other => panic!("{}: {command} is answered {other:?}", self.name),
        }
    }

    // What it heard.

    /// Every byte that came in, by stream.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.streams()
    }

    /// Things that nodes told it to do: the command and its arguments.
    pub(crate) fn told(&self) -> Vec<(String, Json)> {
        let seen = self.seen();
        let items = seen.batches.iter().flat_map(|batch| &batch.tells);
        items.map(|item| (item.call.command.clone(), item.call.args.clone())).collect()
    }

    /// News of feeds that nodes told it.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.seen().batches.iter().flat_map(|batch| batch.notices.clone()).collect()
    }

    /// Messages of gossip.
    pub(crate) fn gossip(&self) -> Vec<Gossiped> {
        self.seen().gossip.clone()
    }

    // Gossip and Kademlia.

    /// Hears what is published about a topic.
    pub(crate) fn subscribe(&self, topic: &str) {
        self.order(Order::Subscribe(topic.to_owned()));
    }

    /// Sends bytes on a stream of gossip of their own, and waits until the node has read them.
    pub(crate) fn inject(&self, to: PeerId, bytes: Vec<u8>) {
        let frame = Frame { bytes, linger: Duration::ZERO };
        // A node may end the stream instead of answering: then it was read as well.
        self.ordered(|back| Order::Inject(to, frame, back)).ok();
    }

    /// Asks one node to keep a record.
    pub(crate) fn put(&self, to: PeerId, key: &[u8], value: &[u8]) {
        let (key, value) = (key.to_vec(), value.to_vec());
        assert!(self.ordered(|back| Order::Put(to, key, value, back)), "it was not taken");
    }

    /// The records that nodes keep under a key.
    pub(crate) fn find(&self, key: &[u8]) -> Found {
        let key = key.to_vec();
        self.ordered(|back| Order::Find(key, back))
    }

    /// The record that one node keeps under a key.
    pub(crate) fn find_at(&self, node: PeerId, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.find(key);
        found.into_iter().find(|(peer, _)| *peer == node).map(|(_, value)| value)
    }

    /// Who provides what is under a key.
    pub(crate) fn providers(&self, key: &[u8]) -> HashSet<PeerId> {
        let key = key.to_vec();
        self.ordered(|back| Order::FindProviders(key, back))
    }
}

/// A pair of libp2p's.
pub(crate) fn keypair(seed: [u8; 32]) -> Keypair {
    Keypair::ed25519_from_bytes(seed).unwrap()
}

/// A node's peer id.
pub(crate) fn peer_of(node: &Node) -> PeerId {
    node.ready["peer_id"].as_str().unwrap().parse().unwrap()
}

/// A node's key.
pub(crate) fn key_of(node: &Node) -> [u8; 32] {
    key_of_peer_id(node.ready["peer_id"].as_str().unwrap()).unwrap()
}

/// A node's server id.
pub(crate) fn server_of(node: &Node) -> ServerId {
    node.ready["server_id"].as_str().unwrap().parse().unwrap()
}

/// Where a node listens by TCP, without its peer id.
pub(crate) fn tcp_address(node: &Node) -> String {
    let address = node.listen().into_iter().find(|address| address.contains("/tcp/")).unwrap();
    address.split("/p2p/").next().unwrap().to_owned()
}

/// Looks again and again until there is something.
pub(crate) fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / LOOK_AGAIN.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    panic!("{what} did not come");
}
