//! A peer of another make: it speaks a node's protocols, sends whatever bytes it is told to, and
//! keeps every byte that it is sent.

#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

mod body;
mod peer;
mod rpc;
mod tap;

pub(crate) use body::Frame;
pub(crate) use peer::{Probe, key_of, keypair, peer_of, server_of, tcp_address, wait_for};
pub(crate) use rpc::published;
