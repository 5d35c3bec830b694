//! The swarm inside the peer: orders in; whatever is heard is noted, and answered as politely as a
//! node would.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use freehold::model::{Code, Problem, Reply};
use freehold::wire::{
    AskAnswer, Batch, BatchAnswer, FRAME_HEAD, Hello, MessageKind, Request, Response, TellAnswer,
    decode_request, encode_response, parse_head,
};
use futures::prelude::*;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetProvidersOk, GetRecordOk, QueryId, QueryResult, Quorum, RecordKey};
use libp2p::request_response::{self, Codec, Message, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, Transport, identify, noise, ping, tcp, yamux,
};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::tap::Heard;

/// Every peer of one test program runs here.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// Orders that wait.
const ORDERS_MAX: usize = 64;

/// Bytes for a stream, and how long it is left open after them.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) linger: Duration,
}

/// A message of gossip.
#[derive(Clone, Debug)]
pub(crate) struct Gossiped {
    pub(crate) author: Option<PeerId>,
    pub(crate) topic: String,
    pub(crate) data: Vec<u8>,
}

/// What was heard so far.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) listen: Vec<Multiaddr>,
    pub(super) identified: HashSet<PeerId>,
    pub(super) connected: HashSet<PeerId>,
    pub(super) ended: HashMap<PeerId, String>,
    pub(super) batches: Vec<Batch>,
    pub(super) gossip: Vec<Gossiped>,
}

/// Where the outcome of an order goes.
pub(super) type Back<T> = SyncSender<T>;
/// What came back on a stream.
pub(super) type Returned = Result<Vec<u8>, String>;
/// Records, each with who gave it.
pub(super) type Found = Vec<(PeerId, Vec<u8>)>;

/// What is to be done.
pub(super) enum Order {
    Dial(PeerId, Multiaddr),
    Leave(PeerId),
    Send(PeerId, Frame, Back<Returned>),
    Inject(PeerId, Frame, Back<Returned>),
    Subscribe(String),
    Put(PeerId, Vec<u8>, Vec<u8>, Back<bool>),
    Find(Vec<u8>, Back<Found>),
    FindProviders(Vec<u8>, Back<HashSet<PeerId>>),
}

/// How the swarm is started.
pub(super) struct Ground {
    pub(super) keys: Keypair,
    pub(super) listens: Option<Multiaddr>,
    pub(super) heard: Heard,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) hello: Arc<Mutex<Hello>>,
}

/// Starts the swarm; it ends when nobody can order anything any more.
pub(super) fn start(ground: Ground) -> mpsc::Sender<Order> {
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    RUNTIME.spawn(async move { Body::new(ground).run(inbox).await });
    orders
}

/// The kind and the body of a whole frame.
pub(super) fn unframed(bytes: &[u8]) -> Option<(MessageKind, &[u8])> {
    let (head, body) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let (kind, length) = parse_head(*head).ok()?;
    (body.len() == length).then_some((kind, body))
}

/// Bytes as they are, both ways.
#[derive(Clone, Debug, Default)]
struct Raw;

async fn read_all<T>(io: &mut T) -> io::Result<Vec<u8>>
where
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

impl Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Frame;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Frame>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(Frame { bytes: read_all(io).await?, linger: Duration::ZERO })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_all(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        frame: Frame,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&frame.bytes).await?;
        io.flush().await?;
        tokio::time::sleep(frame.linger).await;
        io.close().await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await?;
        io.close().await
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    exchange: request_response::Behaviour<Raw>,
    injected: request_response::Behaviour<Raw>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    gossip: gossipsub::Behaviour,
}

fn raw(protocol: &'static str, support: ProtocolSupport) -> request_response::Behaviour<Raw> {
    let config = request_response::Config::default().with_request_timeout(Duration::from_secs(20));
    request_response::Behaviour::with_codec(Raw, [(StreamProtocol::new(protocol), support)], config)
}

fn gossip(keys: &Keypair) -> gossipsub::Behaviour {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .max_transmit_size(64 * 1024)
        .protocol_id_prefix("/freehold/home/gossip")
        .message_id_fn(|message| {
            let mut hash = blake3::Hasher::new();
            hash.update(&message.source.map(|source| source.to_bytes()).unwrap_or_default());
            hash.update(&message.sequence_number.unwrap_or_default().to_be_bytes());
            hash.update(&message.data);
            MessageId::from(hash.finalize().as_bytes().to_vec())
        })
        .build()
        .unwrap();
    gossipsub::Behaviour::new(MessageAuthenticity::Signed(keys.clone()), config).unwrap()
}

fn behaviour(keys: &Keypair, mode: kad::Mode) -> Behaviour {
    let us = keys.public().to_peer_id();
    let config = kad::Config::new(StreamProtocol::new("/freehold/home/kad/1"));
    let mut kad = kad::Behaviour::with_config(us, MemoryStore::new(us), config);
    kad.set_mode(Some(mode));
    Behaviour {
        exchange: raw("/freehold/home/exchange/1", ProtocolSupport::Full),
        injected: raw("/freehold/home/gossip/1.1.0", ProtocolSupport::Outbound),
        identify: identify::Behaviour::new(identify::Config::new(
            "/freehold/home/identify/1".to_owned(),
            keys.public(),
        )),
        ping: ping::Behaviour::new(ping::Config::new()),
        kad,
        gossip: gossip(keys),
    }
}

/// TCP, Noise, Yamux, and an ear on every stream.
fn transport(keys: &Keypair, heard: Heard) -> Boxed<(PeerId, StreamMuxerBox)> {
    tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keys).unwrap())
        .multiplex(yamux::Config::default())
        .map(move |(peer, muxer), _| (peer, heard.tap(StreamMuxerBox::new(muxer))))
        .boxed()
}

struct Body {
    swarm: Swarm<Behaviour>,
    seen: Arc<Mutex<Seen>>,
    hello: Arc<Mutex<Hello>>,
    sent: HashMap<OutboundRequestId, Back<Returned>>,
    injected: HashMap<OutboundRequestId, Back<Returned>>,
    puts: HashMap<QueryId, Back<bool>>,
    finds: HashMap<QueryId, (Found, Back<Found>)>,
    provider_finds: HashMap<QueryId, (HashSet<PeerId>, Back<HashSet<PeerId>>)>,
}

impl Body {
    fn new(ground: Ground) -> Self {
        let Ground { keys, listens, heard, seen, hello } = ground;
        let mode = if listens.is_some() { kad::Mode::Server } else { kad::Mode::Client };
        let mut swarm = Swarm::new(
            transport(&keys, heard),
            behaviour(&keys, mode),
            keys.public().to_peer_id(),
            libp2p::swarm::Config::with_tokio_executor()
                .with_idle_connection_timeout(Duration::from_secs(3_600)),
        );
        if let Some(address) = listens {
            swarm.listen_on(address).unwrap();
        }
        Self {
            swarm,
            seen,
            hello,
            sent: HashMap::new(),
            injected: HashMap::new(),
            puts: HashMap::new(),
            finds: HashMap::new(),
            provider_finds: HashMap::new(),
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    None => return,
                    Some(order) => self.carry_out(order),
                },
                event = self.swarm.select_next_some() => self.hear(event),
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Dial(peer, address) => {
                let options = DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(vec![address])
                    .build();
                if let Err(error) = self.swarm.dial(options) {
                    self.seen().ended.insert(peer, error.to_string());
                }
            }
            Order::Leave(peer) => {
                self.swarm.disconnect_peer_id(peer).ok();
            }
            Order::Send(peer, frame, back) => {
                let id = self.swarm.behaviour_mut().exchange.send_request(&peer, frame);
                self.sent.insert(id, back);
            }
            Order::Inject(peer, frame, back) => {
                let id = self.swarm.behaviour_mut().injected.send_request(&peer, frame);
                self.injected.insert(id, back);
            }
            Order::Subscribe(topic) => {
                self.swarm.behaviour_mut().gossip.subscribe(&IdentTopic::new(topic)).unwrap();
            }
            Order::Put(peer, key, value, back) => {
                let record = kad::Record::new(key, value);
                let kad = &mut self.swarm.behaviour_mut().kad;
                let id = kad.put_record_to(record, std::iter::once(peer), Quorum::One);
                self.puts.insert(id, back);
            }
            Order::Find(key, back) => {
                let id = self.swarm.behaviour_mut().kad.get_record(RecordKey::new(&key));
                self.finds.insert(id, (Found::new(), back));
            }
            Order::FindProviders(key, back) => {
                let id = self.swarm.behaviour_mut().kad.get_providers(RecordKey::new(&key));
                self.provider_finds.insert(id, (HashSet::new(), back));
            }
        }
    }

    fn hear(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => self.seen().listen.push(address),
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.seen().connected.insert(peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                let why = cause.map_or_else(|| "closed".to_owned(), |cause| cause.to_string());
                let mut seen = self.seen();
                seen.connected.remove(&peer_id);
                seen.identified.remove(&peer_id);
                seen.ended.insert(peer_id, why);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => {
                self.seen().ended.insert(peer_id, error.to_string());
            }
            SwarmEvent::Behaviour(BehaviourEvent::Exchange(event)) => self.exchange(event),
            SwarmEvent::Behaviour(BehaviourEvent::Injected(event)) => self.end_injection(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                for address in info.listen_addrs {
                    self.swarm.behaviour_mut().kad.add_address(&peer_id, address);
                }
                self.seen().identified.insert(peer_id);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.kademlia(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                message,
                ..
            })) => {
                let gossiped = Gossiped {
                    author: message.source,
                    topic: message.topic.into_string(),
                    data: message.data,
                };
                self.seen().gossip.push(gossiped);
            }
            _ => {}
        }
    }

    fn exchange(&mut self, event: request_response::Event<Frame, Vec<u8>>) {
        match event {
            request_response::Event::Message {
                message: Message::Request { request, channel, .. },
                ..
            } => {
                if let Some(answer) = self.answer(&request.bytes) {
                    // Whoever asked may be gone.
                    self.swarm.behaviour_mut().exchange.send_response(channel, answer).ok();
                }
            }
            request_response::Event::Message {
                message: Message::Response { request_id, response },
                ..
            } => give(self.sent.remove(&request_id), Ok(response)),
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                give(self.sent.remove(&request_id), Err(error.to_string()));
            }
            request_response::Event::InboundFailure { .. }
            | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn end_injection(&mut self, event: request_response::Event<Frame, Vec<u8>>) {
        match event {
            request_response::Event::Message {
                message: Message::Response { request_id, response },
                ..
            } => give(self.injected.remove(&request_id), Ok(response)),
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                give(self.injected.remove(&request_id), Err(error.to_string()));
            }
            request_response::Event::Message { .. }
            | request_response::Event::InboundFailure { .. }
            | request_response::Event::ResponseSent { .. } => {}
        }
    }

    /// Notes what a node wants, and answers it.
    fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (kind, body) = unframed(bytes)?;
        let response = match decode_request(kind, body).ok()? {
            Request::Hello(_) => Response::Hello(Box::new(self.hello.lock().unwrap().clone())),
            Request::Batch(batch) => {
                let answer = answer_to(&batch);
                self.seen().batches.push(*batch);
                Response::Batch(Box::new(answer))
            }
            Request::Unknown(kind) => Response::Unknown(kind),
        };
        Some(encode_response(&response))
    }

    fn kademlia(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return };
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                if let (Some((records, _)), Some(peer)) = (self.finds.get_mut(&id), found.peer) {
                    records.push((peer, found.record.value));
                }
            }
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                if let Some((found, _)) = self.provider_finds.get_mut(&id) {
                    found.extend(providers);
                }
            }
            QueryResult::PutRecord(result) => give(self.puts.remove(&id), result.is_ok()),
            _ => {}
        }
        if step.last {
            if let Some((found, back)) = self.finds.remove(&id) {
                give(Some(back), found);
            }
            if let Some((found, back)) = self.provider_finds.remove(&id) {
                give(Some(back), found);
            }
        }
    }
}

/// Gives an outcome to whoever waits; a test that failed waits no longer.
fn give<T>(back: Option<Back<T>>, outcome: T) {
    if let Some(back) = back {
        back.try_send(outcome).ok();
    }
}

/// Everything told is done, everything asked is not offered.
fn answer_to(batch: &Batch) -> BatchAnswer {
    let done = || TellAnswer::Done(Reply { result: Ok(json!({})), touched: Vec::new() });
    let refused = || AskAnswer::Done(Err(Problem::new(Code::NotOffered, "a probe offers nothing")));
    BatchAnswer {
        tells: batch.tells.iter().map(|item| (item.number, done())).collect(),
        asks: batch.asks.iter().map(|item| (item.id, refused())).collect(),
        unknown: Vec::new(),
    }
}
