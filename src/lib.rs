//! Freehold: a peer-to-peer node for worlds you own. The rooms stand in the order in which one may
//! use another; see ARCHITECTURE.md.

/// Turns make and drop many small things; see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod model;

pub mod catalog;

pub mod wire;

pub mod trust;

pub mod script;

pub mod step;

pub mod presence;

pub mod commands;

pub mod turn;

pub mod post;

pub mod store;

pub mod net;

pub mod node;

pub mod api;

pub mod cli;
