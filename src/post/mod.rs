//! Delivery: what waits for each server, in lanes and batches, with back-off; what comes from each
//! server, answered when its turn is committed; feeds and their gaps. Pure.

mod feeds;
mod inbound;
mod line;
mod outbound;

pub use feeds::{FeedEffect, Feeds};
pub use inbound::{Arrival, Door, Inbound, InboundEffect};
pub use line::{BATCHES_MAX, SILENCE_MAX_MS};
pub use outbound::{AskOut, Effect, Input, Outbound};
