//! Which protocols a node speaks, and their limits.

use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{self, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, StoreInserts};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, StreamProtocol, identify, mdns, ping};

use super::codec::Exchange;

/// Streams of the exchange on one connection, each way.
const STREAMS_MAX: usize = 8;
/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(25);
/// How often every connection is asked whether somebody is there.
const PING_EVERY: Duration = Duration::from_secs(6);
/// How long that may stay unanswered; the second time in a row the connection is given up.
const PING_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections of one peer.
const PER_PEER_MAX: u32 = 4;
/// Connections that are being made.
const PENDING_MAX: u32 = 64;
/// Bytes of one gossip message.
const GOSSIP_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one record of the network.
const RECORD_BYTES_MAX: usize = 2 * 1024;
/// Records, and things provided, that are kept for the network, each.
const RECORDS_MAX: usize = 4_096;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) exchange: request_response::Behaviour<Exchange>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    pub(super) gossip: gossipsub::Behaviour,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
}

/// A protocol's name within a network.
pub(super) fn protocol(network: &str, what: &str) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(format!("/freehold/{network}/{what}/1"))
        .map_err(|error| error.to_string())
}

impl Behaviour {
    pub(super) fn new(
        keys: &Keypair,
        network: &str,
        mdns_on: bool,
        strangers_max: u32,
    ) -> Result<Self, String> {
        let peer_id = keys.public().to_peer_id();
        Ok(Self {
            limits: limits(strangers_max),
            exchange: exchange(network)?,
            identify: identify::Behaviour::new(
                identify::Config::new(format!("/freehold/{network}/identify/1"), keys.public())
                    .with_agent_version(format!("freehold/{}", env!("CARGO_PKG_VERSION"))),
            ),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_TIME_MAX),
            ),
            kad: kademlia(peer_id, network)?,
            gossip: gossip(keys, network)?,
            mdns: Toggle::from(mdns_behaviour(mdns_on, peer_id)),
        })
    }
}

fn limits(strangers_max: u32) -> connection_limits::Behaviour {
    connection_limits::Behaviour::new(
        ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_MAX))
            .with_max_pending_outgoing(Some(PENDING_MAX))
            .with_max_established_incoming(Some(strangers_max))
            .with_max_established_per_peer(Some(PER_PEER_MAX)),
    )
}

fn exchange(network: &str) -> Result<request_response::Behaviour<Exchange>, String> {
    let config = request_response::Config::default()
        .with_request_timeout(ANSWER_TIME_MAX)
        .with_max_concurrent_streams(STREAMS_MAX);
    let protocols = [(protocol(network, "exchange")?, ProtocolSupport::Full)];
    Ok(request_response::Behaviour::with_codec(Exchange, protocols, config))
}

fn kademlia(peer_id: PeerId, network: &str) -> Result<kad::Behaviour<MemoryStore>, String> {
    let mut config = kad::Config::new(protocol(network, "kad")?);
    // Whatever is stored for the network is judged first.
    config.set_record_filtering(StoreInserts::FilterBoth);
    config.set_query_timeout(Duration::from_secs(10));
    let store = MemoryStore::with_config(
        peer_id,
        MemoryStoreConfig {
            max_records: RECORDS_MAX,
            max_value_bytes: RECORD_BYTES_MAX,
            max_provided_keys: RECORDS_MAX,
            ..MemoryStoreConfig::default()
        },
    );
    let mut kad = kad::Behaviour::with_config(peer_id, store, config);
    // A relay's reservation would turn automatic mode to server; a desktop is one from the start.
    kad.set_mode(Some(kad::Mode::Server));
    Ok(kad)
}

fn gossip(keys: &Keypair, network: &str) -> Result<gossipsub::Behaviour, String> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(GOSSIP_BYTES_MAX)
        .protocol_id_prefix(format!("/freehold/{network}/gossip"))
        .message_id_fn(|message| {
            let mut hash = blake3::Hasher::new();
            hash.update(&message.source.map(|source| source.to_bytes()).unwrap_or_default());
            hash.update(&message.sequence_number.unwrap_or_default().to_be_bytes());
            hash.update(&message.data);
            MessageId::from(hash.finalize().as_bytes().to_vec())
        })
        .build()
        .map_err(|error| error.to_string())?;
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Signed(keys.clone()), config)
        .map_err(str::to_owned)?;
    gossip.with_peer_score(
        gossipsub::PeerScoreParams::default(),
        gossipsub::PeerScoreThresholds::default(),
    )?;
    Ok(gossip)
}

fn mdns_behaviour(on: bool, peer_id: PeerId) -> Option<mdns::tokio::Behaviour> {
    if !on {
        return None;
    }
    // Without an interface that can multicast the node works on without it.
    mdns::tokio::Behaviour::new(mdns::Config::default(), peer_id).ok()
}
