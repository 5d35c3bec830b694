//! The swarm's loop: commands in, events out.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageId};
use libp2p::identity::{Keypair, ed25519};
use libp2p::kad::{
    self, ProviderRecord, QueryId, QueryResult, Quorum, Record, RecordKey, store::RecordStore,
};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{
    self, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, mdns, noise, ping, tcp, yamux};
use tokio::sync::mpsc;

use super::behaviour::{Behaviour, BehaviourEvent, protocol};
use super::events::{Command, Event, Judge, Lost, NetConfig, StartNetError, Verdict};
use crate::model::Try;
use crate::wire::{Response, WireFault};

/// Commands, and events, that wait.
pub const QUEUE_MAX: usize = 8_192;
/// Requests of others that are not answered yet.
const OPEN_MAX: usize = 4_096;
/// Bytes on their way in one stream that were not read yet: a whole batch fits.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same in all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How long the answers to what was asked last are waited for.
const HEARD_MAX: Duration = Duration::from_millis(300);
/// How long closing the connections may take at the end.
const CLOSING_MAX: Duration = Duration::from_millis(500);
/// How long the last packets have to leave.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// How long listening may take to begin.
const LISTEN_TIME_MAX: Duration = Duration::from_secs(5);
/// How long further addresses of the same listeners are waited for.
const LISTEN_MORE: Duration = Duration::from_millis(100);

type Answer = Result<Response, WireFault>;

/// Starts the network. Gives back the addresses as bound, where to send commands, and where events
/// come from.
///
/// # Errors
/// An address is none, or in use.
pub async fn start(
    config: NetConfig,
) -> Result<(Vec<String>, mpsc::Sender<Command>, mpsc::Receiver<Event>), StartNetError> {
    let other = |error: &dyn std::fmt::Display| StartNetError::Other(error.to_string());
    let mut seed = config.seed;
    let pair = ed25519::SecretKey::try_from_bytes(&mut seed).map_err(|error| other(&error))?;
    let keys = Keypair::from(ed25519::Keypair::from(pair));
    let peer_id = keys.public().to_peer_id();
    let behaviour = Behaviour::new(&keys, &config.network, config.mdns, config.strangers_max)
        .map_err(|error| other(&error))?;
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(keys)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| other(&error))?
        .with_quic_config(|mut quic| {
            quic.max_stream_data = STREAM_WINDOW;
            quic.max_connection_data = CONNECTION_WINDOW;
            quic
        })
        .with_dns()
        .map_err(|error| other(&error))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| other(&error))?
        .with_swarm_config(|swarm| {
            swarm.with_smart_dial().with_idle_connection_timeout(Duration::from_secs(3_600 * 24))
        })
        .build();
    let listen = listen(&mut swarm, &config, peer_id).await?;
    let (commands, inbox) = mpsc::channel(QUEUE_MAX);
    let (events, outbox) = mpsc::channel(QUEUE_MAX);
    let network = Network {
        swarm,
        events,
        judge: config.judge,
        kad_protocol: protocol(&config.network, "kad").map_err(|error| other(&error))?,
        requests: HashMap::new(),
        open: HashMap::new(),
        next_open: 0,
        queries: HashMap::new(),
        heard: HashMap::new(),
        next_heard: 0,
        connected: HashMap::new(),
    };
    tokio::spawn(network.run(inbox));
    Ok((listen, commands, outbox))
}

async fn listen(
    swarm: &mut Swarm<Behaviour>,
    config: &NetConfig,
    us: PeerId,
) -> Result<Vec<String>, StartNetError> {
    let mut waiting: HashSet<ListenerId> = HashSet::new();
    for text in &config.listen {
        let bad = || StartNetError::BadAddress(text.clone());
        let mut address: Multiaddr = text.parse().map_err(|_| bad())?;
        if is_taken(&address) {
            if !config.any_port {
                return Err(StartNetError::InUse(text.clone()));
            }
            address = with_any_port(&address);
        }
        waiting.insert(swarm.listen_on(address).map_err(|_| bad())?);
    }
    let mut addresses = Vec::new();
    loop {
        let patience = if waiting.is_empty() { LISTEN_MORE } else { LISTEN_TIME_MAX };
        match tokio::time::timeout(patience, swarm.select_next_some()).await {
            Ok(SwarmEvent::NewListenAddr { listener_id, address }) => {
                waiting.remove(&listener_id);
                addresses.push(address.with(Protocol::P2p(us)).to_string());
            }
            Ok(SwarmEvent::ListenerClosed { listener_id, reason, .. })
                if waiting.contains(&listener_id) =>
            {
                let reason = reason.err().map(|error| error.to_string()).unwrap_or_default();
                return Err(StartNetError::Other(reason));
            }
            Ok(_) => {}
            Err(_) if waiting.is_empty() => return Ok(addresses),
            Err(_) => {
                return Err(StartNetError::Other("listening did not begin in time".to_owned()));
            }
        }
    }
}

/// libp2p shares a TCP port with whoever listens there already; a node does not.
fn is_taken(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => std::net::IpAddr::from(ip),
        _ => return false,
    };
    let in_use = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => {
            TcpListener::bind(SocketAddr::new(ip, port)).err().is_some_and(in_use)
        }
        Some(Protocol::Udp(port)) if port != 0 => {
            UdpSocket::bind(SocketAddr::new(ip, port)).err().is_some_and(in_use)
        }
        _ => false,
    }
}

fn with_any_port(address: &Multiaddr) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(_) => Protocol::Tcp(0),
            Protocol::Udp(_) => Protocol::Udp(0),
            other => other,
        })
        .collect()
}

/// Whether a text is a multiaddr.
pub fn check_multiaddr(text: &str) -> bool {
    text.parse::<Multiaddr>().is_ok()
}

/// Splits `/ip4/.../p2p/PEER_ID` into the address and the peer's key; none where it is none, or
/// the peer's key is of another kind than ours.
pub fn split_multiaddr(text: &str) -> Option<(String, [u8; 32])> {
    let mut address: Multiaddr = text.parse().ok()?;
    let Some(Protocol::P2p(peer)) = address.pop() else { return None };
    Some((address.to_string(), key_of(&peer)?))
}

fn key_of(peer: &PeerId) -> Option<[u8; 32]> {
    crate::model::key_of_peer_bytes(&peer.to_bytes())
}

fn peer_of(key: &[u8; 32]) -> Option<PeerId> {
    PeerId::from_bytes(&crate::model::peer_bytes_of(key)).ok()
}

enum Query {
    Providers(u64, HashSet<PeerId>),
    Record(u64),
}

struct Network {
    swarm: Swarm<Behaviour>,
    events: mpsc::Sender<Event>,
    judge: Judge,
    kad_protocol: libp2p::StreamProtocol,
    requests: HashMap<OutboundRequestId, u64>,
    open: HashMap<u64, ResponseChannel<Answer>>,
    next_open: u64,
    queries: HashMap<QueryId, Query>,
    heard: HashMap<u64, (MessageId, PeerId)>,
    next_heard: u64,
    connected: HashMap<PeerId, u32>,
}

impl Network {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Stop(done)) => {
                        self.close().await;
                        done.send(()).ok();
                        return;
                    }
                    Some(command) => self.perform(command).await,
                },
                event = self.swarm.select_next_some() => self.tell(event).await,
            }
        }
    }

    /// Closes every connection, so that nobody waits for us to answer. What was said last is heard before.
    async fn close(&mut self) {
        let heard = async {
            while !self.requests.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.tell(event).await;
            }
        };
        tokio::time::timeout(HEARD_MAX, heard).await.ok();
        for peer in self.connected.keys().copied().collect::<Vec<_>>() {
            self.swarm.disconnect_peer_id(peer).ok();
        }
        let closed = async {
            while !self.connected.is_empty() {
                if let SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } =
                    self.swarm.select_next_some().await
                {
                    self.connected.remove(&peer_id);
                }
            }
        };
        tokio::time::timeout(CLOSING_MAX, closed).await.ok();
        // QUIC sends its last words from a task of its own.
        tokio::time::sleep(LAST_WORDS).await;
    }

    async fn emit(&mut self, event: Event) {
        // Whoever reads is gone only when the node ends.
        self.events.send(event).await.ok();
    }

    async fn perform(&mut self, command: Command) {
        match command {
            Command::Dial(key, addresses) => self.dial(key, addresses).await,
            Command::Send(key, id, request) => {
                if let Some(peer) = peer_of(&key) {
                    let sent =
                        self.swarm.behaviour_mut().exchange.send_request(&peer, Ok(*request));
                    self.requests.insert(sent, id);
                }
            }
            Command::Respond(id, response) => {
                if let Some(channel) = self.open.remove(&id) {
                    // The peer may be gone: then nobody waits.
                    self.swarm.behaviour_mut().exchange.send_response(channel, Ok(*response)).ok();
                }
            }
            Command::Close(key) => {
                if let Some(peer) = peer_of(&key) {
                    self.swarm.disconnect_peer_id(peer).ok();
                }
            }
            Command::Reserve(key) => {
                if let Some(peer) = peer_of(&key) {
                    self.swarm.behaviour_mut().limits.bypass_peer_id(&peer);
                }
            }
            Command::Provide(key) => {
                self.swarm.behaviour_mut().kad.start_providing(RecordKey::new(&key)).ok();
            }
            Command::FindProviders(id, key) => {
                let query = self.swarm.behaviour_mut().kad.get_providers(RecordKey::new(&key));
                self.queries.insert(query, Query::Providers(id, HashSet::new()));
            }
            Command::PutRecord(key, value) => {
                let record = Record::new(key, value);
                self.swarm.behaviour_mut().kad.put_record(record, Quorum::One).ok();
            }
            Command::FindRecord(id, key) => {
                let query = self.swarm.behaviour_mut().kad.get_record(RecordKey::new(&key));
                self.queries.insert(query, Query::Record(id));
            }
            Command::Subscribe(topic) => {
                self.swarm.behaviour_mut().gossip.subscribe(&IdentTopic::new(topic)).ok();
            }
            Command::Publish(topic, data) => {
                // Without anybody who listens there is nobody to tell.
                self.swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic), data).ok();
            }
            Command::Judge(id, verdict) => self.pass(id, verdict),
            Command::Stop(_) => {}
        }
    }

    async fn dial(&mut self, key: [u8; 32], addresses: Vec<String>) {
        let Some(peer) = peer_of(&key) else { return };
        if self.swarm.is_connected(&peer) {
            let address = addresses.into_iter().next().unwrap_or_default();
            self.emit(Event::Connected(key, true, address)).await;
            return;
        }
        let parsed: Vec<Multiaddr> =
            addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let options = DialOpts::peer_id(peer)
            .addresses(parsed)
            .extend_addresses_through_behaviour()
            .condition(PeerCondition::NotDialing)
            .build();
        if let Err(error) = self.swarm.dial(options)
            && !matches!(error, DialError::DialPeerConditionFalse(_))
        {
            let (tries, wrong) = tries_of(&error);
            self.emit(Event::DialFailed(key, tries, wrong, obtained_in(&error))).await;
        }
    }

    fn pass(&mut self, id: u64, verdict: Verdict) {
        let Some((message, source)) = self.heard.remove(&id) else { return };
        let acceptance = match verdict {
            Verdict::Forward => MessageAcceptance::Accept,
            Verdict::Drop => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        self.swarm
            .behaviour_mut()
            .gossip
            .report_message_validation_result(&message, &source, acceptance);
    }

    async fn tell(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                *self.connected.entry(peer_id).or_default() += 1;
                if let Some(key) = key_of(&peer_id) {
                    let address = endpoint.get_remote_address().to_string();
                    self.emit(Event::Connected(key, endpoint.is_dialer(), address)).await;
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.connected.remove(&peer_id);
                if let Some(key) = key_of(&peer_id) {
                    self.emit(Event::Disconnected(key)).await;
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                if let Some(key) = key_of(&peer)
                    && !self.swarm.is_connected(&peer)
                {
                    let (tries, wrong) = tries_of(&error);
                    let obtained = obtained_in(&error);
                    self.emit(Event::DialFailed(key, tries, wrong, obtained)).await;
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Exchange(event)) => self.exchange(event).await,
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) if info.protocols.contains(&self.kad_protocol) => {
                for address in info.listen_addrs {
                    self.swarm.behaviour_mut().kad.add_address(&peer_id, address);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(time),
                ..
            })) => {
                if let Some(key) = key_of(&peer) {
                    self.emit(Event::Pinged(key, time.as_secs_f64() * 1_000.0)).await;
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
                ..
            })) => {
                // Nobody is there any more, whatever the socket says; a new one may get through.
                self.swarm.close_connection(connection);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.kademlia(event).await,
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => self.gossip(propagation_source, message_id, message).await,
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => {
                for (peer, address) in found {
                    if let Some(key) = key_of(&peer) {
                        self.emit(Event::Found(key, vec![address.to_string()])).await;
                    }
                }
            }
            _ => {}
        }
    }

    async fn exchange(
        &mut self,
        event: request_response::Event<Result<crate::wire::Request, WireFault>, Answer>,
    ) {
        match event {
            request_response::Event::Message {
                peer,
                message: Message::Request { request, channel, .. },
                ..
            } => {
                let Some(key) = key_of(&peer) else { return };
                if self.open.len() >= OPEN_MAX {
                    return;
                }
                let id = self.next_open;
                self.next_open += 1;
                self.open.insert(id, channel);
                self.emit(Event::Requested(key, id, request.map(Box::new))).await;
            }
            request_response::Event::Message {
                peer,
                message: Message::Response { request_id, response },
                ..
            } => {
                if let (Some(key), Some(id)) = (key_of(&peer), self.requests.remove(&request_id)) {
                    let result = response.map(Box::new).map_err(Lost::Fault);
                    self.emit(Event::Responded(key, id, result)).await;
                }
            }
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                let lost = match error {
                    OutboundFailure::UnsupportedProtocols => Lost::WrongNetwork,
                    OutboundFailure::DialFailure
                    | OutboundFailure::Timeout
                    | OutboundFailure::ConnectionClosed
                    | OutboundFailure::Io(_) => Lost::Connection,
                };
                if let (Some(key), Some(id)) = (key_of(&peer), self.requests.remove(&request_id)) {
                    self.emit(Event::Responded(key, id, Err(lost))).await;
                }
            }
            request_response::Event::InboundFailure { .. } => {
                // Channels whose stream is gone answer nobody.
                self.open.retain(|_, channel| channel.is_open());
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    async fn kademlia(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => self.emit(Event::Routed).await,
            kad::Event::InboundRequest {
                request: kad::InboundRequest::PutRecord { record: Some(record), .. },
            } => {
                self.keep_record(record);
            }
            kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { record: Some(record) },
            } => {
                self.keep_provider(record);
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.query(id, result, step.last).await
            }
            _ => {}
        }
    }

    fn keep_record(&mut self, record: Record) {
        let store = self.swarm.behaviour_mut().kad.store_mut();
        let held = store.get(&record.key).map(|held| held.value.clone());
        if (self.judge)(record.key.as_ref(), &record.value, held.as_deref()) {
            store.put(record).ok();
        }
    }

    fn keep_provider(&mut self, record: ProviderRecord) {
        // Kademlia took it from the provider's own connection. An id is 16 bytes; whether the
        // provider is the account's home shows when the account is asked for there.
        if record.key.as_ref().len() == 16 {
            self.swarm.behaviour_mut().kad.store_mut().add_provider(record).ok();
        }
    }

    async fn query(&mut self, id: QueryId, result: QueryResult, last: bool) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        let event = match (query, result) {
            (
                Query::Providers(_, found),
                QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders {
                    providers,
                    ..
                })),
            ) => {
                found.extend(providers);
                None
            }
            (
                Query::Record(asked),
                QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))),
            ) => Some(Event::Record(*asked, Some(found.record.value))),
            _ => None,
        };
        if let Some(event) = event {
            self.queries.remove(&id);
            self.emit(event).await;
        } else if last {
            match self.queries.remove(&id) {
                Some(Query::Providers(asked, found)) => {
                    let keys = found.iter().filter_map(key_of).collect();
                    self.emit(Event::Providers(asked, keys)).await;
                }
                Some(Query::Record(asked)) => self.emit(Event::Record(asked, None)).await,
                None => {}
            }
        }
    }

    async fn gossip(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) {
        let author = message.source.as_ref().and_then(key_of);
        let Some(author) = author.filter(|_| self.heard.len() < OPEN_MAX) else {
            let ignore = MessageAcceptance::Ignore;
            self.swarm
                .behaviour_mut()
                .gossip
                .report_message_validation_result(&id, &source, ignore);
            return;
        };
        let number = self.next_heard;
        self.next_heard += 1;
        self.heard.insert(number, (id, source));
        let topic = message.topic.into_string();
        self.emit(Event::Heard { id: number, author, topic, data: message.data }).await;
    }
}

/// The key of the peer that answered in the place of the one that was dialled.
fn obtained_in(error: &DialError) -> Option<[u8; 32]> {
    match error {
        DialError::WrongPeerId { obtained, .. } => key_of(obtained),
        _ => None,
    }
}

/// Why a peer could not be reached, for each address, and whether another peer answered.
fn tries_of(error: &DialError) -> (Vec<Try>, bool) {
    let one = |address: String, reason: String| vec![Try { address, reason }];
    match error {
        DialError::WrongPeerId { obtained, address } => {
            (one(address.to_string(), format!("another peer answered: {obtained}")), true)
        }
        DialError::Transport(errors) => {
            let tries = errors.iter().map(|(address, error)| Try {
                address: address.to_string(),
                reason: reason_of(error),
            });
            (tries.collect(), false)
        }
        DialError::LocalPeerId { address } => {
            (one(address.to_string(), "that is this node itself".to_owned()), true)
        }
        DialError::NoAddresses => {
            (one(String::new(), "no address of it is known".to_owned()), false)
        }
        DialError::Denied { .. } => {
            (one(String::new(), "too many connections are open".to_owned()), false)
        }
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => {
            (one(String::new(), "the dial was given up".to_owned()), false)
        }
    }
}

/// The innermost reason, which is the one that says something.
fn reason_of(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
