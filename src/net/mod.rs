//! The only room that knows libp2p: connections, the exchange, Kademlia, gossip, mDNS. Believes
//! nothing that it hears; what it hears goes up.

mod behaviour;
mod codec;
mod events;
mod swarm;

pub use events::{Command, Event, Judge, Lost, NetConfig, StartNetError, Verdict};
pub use swarm::{QUEUE_MAX, check_multiaddr, split_multiaddr, start};
