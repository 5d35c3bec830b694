//! Moves through bare gossipsub: signed by the peer that publishes, verified by each that hears, and
//! passed on in a mesh. All peers are in one process, and each knows every other.
//!
//! A peer publishes the moves of its visitors when they are due. It leaves one out while too many of
//! its last ones have not been seen everywhere, so that nothing drowns in its own queues: what is
//! carried is about the most that can be.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder};
use tokio::time::{MissedTickBehavior, interval};

use super::processor::used_by;
use super::rounds::Fault;
use super::walk::{
    EVERY, HOMES, STEPS_MAX, VISITORS_OF_HOME, View, Walk, Walked, see, sum_up, views, watched,
};

const LISTEN: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TOPIC: &str = "garden";
/// How long the peers have to find each other and to form their mesh.
const SETTLE: Duration = Duration::from_secs(4);
/// When the mesh is looked after for the first time.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(500);
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(3_600);
/// Moves of one peer that are not seen everywhere yet, at most.
const ON_THEIR_WAY_MAX: usize = 8;
/// After this time a move counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// Bytes that say which move it is.
const HEAD: usize = 16;

type Gossip = Swarm<gossipsub::Behaviour>;

fn behaviour(keys: &Keypair) -> Result<gossipsub::Behaviour, Fault> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .heartbeat_initial_delay(FIRST_HEARTBEAT)
        .build()?;
    Ok(gossipsub::Behaviour::new(MessageAuthenticity::Signed(keys.clone()), config)?)
}

fn swarm() -> Result<Gossip, Fault> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(behaviour)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(SILENCE_MAX))
        .build();
    Ok(swarm)
}

/// Peers that listen, each of which dials those before it.
async fn peers() -> Result<Vec<Gossip>, Fault> {
    let mut addresses: Vec<Multiaddr> = Vec::new();
    let mut swarms = Vec::new();
    for _ in 0..=HOMES {
        let mut swarm = swarm()?;
        swarm.behaviour_mut().subscribe(&IdentTopic::new(TOPIC))?;
        swarm.listen_on(LISTEN.parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        for other in &addresses {
            swarm.dial(other.clone())?;
        }
        addresses.push(address);
        swarms.push(swarm);
    }
    Ok(swarms)
}

/// A peer, and what it sees of the others' visitors.
struct Peer {
    node: usize,
    swarm: Gossip,
    topic: IdentTopic,
    bytes: usize,
    walk: Arc<Walk>,
    view: Arc<Mutex<View>>,
    /// Moves that were due so far.
    due: usize,
    on_their_way: VecDeque<(usize, usize)>,
}

impl Peer {
    /// Publishes and hears until it is aborted.
    async fn run(mut self) {
        // Its visitors one after another, each as often as it moves.
        let mut ticks = interval(EVERY / VISITORS_OF_HOME as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => {
                    if let SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) = event
                        && let Some((visitor, step)) = read(&message.data)
                    {
                        see(&self.view, visitor, step);
                    }
                }
                _ = ticks.tick() => {
                    if self.node > 0 && self.walk.is_on() {
                        self.publish();
                    }
                }
            }
        }
    }

    fn publish(&mut self) {
        let visitor = (self.node - 1) * VISITORS_OF_HOME + self.due % VISITORS_OF_HOME;
        let step = self.due / VISITORS_OF_HOME;
        self.due += 1;
        if step >= STEPS_MAX || !self.has_room() {
            return;
        }
        let message = written(visitor, step, self.bytes);
        self.walk.make(visitor, step);
        match self.swarm.behaviour_mut().publish(self.topic.clone(), message) {
            Ok(_) => self.on_their_way.push_back((visitor, step)),
            // Its queues are full, or it has nobody yet.
            Err(_) => self.walk.unmake(visitor, step),
        }
    }

    fn has_room(&mut self) -> bool {
        while let Some((visitor, step)) = self.on_their_way.front()
            && !self.walk.is_on_its_way(*visitor, *step, LOST_AFTER)
        {
            self.on_their_way.pop_front();
        }
        self.on_their_way.len() < ON_THEIR_WAY_MAX
    }
}

/// A message of so many bytes.
fn written(visitor: usize, step: usize, bytes: usize) -> Vec<u8> {
    let mut message = vec![7; bytes.max(HEAD)];
    message[..8].copy_from_slice(&(visitor as u64).to_be_bytes());
    message[8..HEAD].copy_from_slice(&(step as u64).to_be_bytes());
    message
}

/// Which move a message is of.
fn read(message: &[u8]) -> Option<(usize, usize)> {
    let (visitor, rest) = message.split_first_chunk::<8>()?;
    let (step, _) = rest.split_first_chunk::<8>()?;
    let number = |bytes: &[u8; 8]| usize::try_from(u64::from_be_bytes(*bytes)).ok();
    Some((number(visitor)?, number(step)?))
}

/// One walk, with messages of so many bytes. Says what came of it, and what it used of the processor.
pub(crate) async fn walk(bytes: usize) -> Result<(Walked, Duration), Fault> {
    let swarms = peers().await?;
    let walk = Arc::new(Walk::beginning_in(SETTLE));
    let views = views(&walk);
    let tasks: Vec<_> = swarms
        .into_iter()
        .zip(&views)
        .enumerate()
        .map(|(node, (swarm, view))| {
            let peer = Peer {
                node,
                swarm,
                topic: IdentTopic::new(TOPIC),
                bytes,
                walk: walk.clone(),
                view: view.clone(),
                due: 0,
                on_their_way: VecDeque::new(),
            };
            tokio::spawn(peer.run())
        })
        .collect();
    let [used] = watched(&walk, || Ok([used_by("self")?])).await?;
    for task in tasks {
        task.abort();
        // It was aborted: there is no other end.
        task.await.ok();
    }
    Ok((sum_up(&walk, &views), used))
}
