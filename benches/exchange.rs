//! Calls between two nodes: how many a second over loopback.
//!
//! Floors, bare libp2p request-response between two swarms with an own codec
//! ([`floor::exchange`]), 250 bytes out and 100 back for each call, over QUIC: batches of 128 calls
//! with 3 in flight, as the node sends them; one call an exchange with 128 in flight, as
//! request-response is used out of the box; and one call at a time. Beside these, the floor of
//! durable calls ([`floor::durable`]): 128 in a commit, and one.
//!
//! Ours: an action by script, durable on both sides, and a read that no cache answers, from one
//! node to another ([`ours::pair`]).

mod floor {
    #[expect(dead_code, reason = "what was written is shown beside durable calls alone")]
    pub(crate) mod counted;
    pub(crate) mod durable;
    pub(crate) mod exchange;
    pub(crate) mod mixed;
    pub(crate) mod rounds;
}
mod ours {
    pub(crate) mod pair;
}

use std::cell::RefCell;
use std::sync::Arc;

use crate::floor::counted::Counts;
use crate::floor::durable::Direct;
use crate::floor::exchange::{Client, Server, runtime, serve};
use crate::floor::rounds::{Fault, Line, is_wanted, medians, print, timed};
use crate::ours::pair::Pair;

/// Elements of the floor of durable calls.
const ELEMENTS: u64 = 200_000;
/// Calls of a batch.
const BATCH: usize = 128;
/// Batches in flight.
const BATCHES_IN_FLIGHT: usize = 3;
/// Single calls in flight.
const SINGLE_IN_FLIGHT: usize = 128;
/// Calls of one round in batches.
const BATCHED_CALLS: usize = 2_000 * BATCH;
/// Calls of one round through two nodes.
const OUR_CALLS: usize = 32 * BATCH;
/// Calls of one round that wait for each other.
const ALONE_CALLS: usize = 300;
/// Calls of one round that go one by one.
const SINGLE_CALLS: usize = 64 * BATCH;

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    print(&lines(&serve()?)?);
    Ok(())
}

/// Floors and ours in the same run. Ours over QUIC and TCP alike; wanted is at least twice what one
/// call an exchange does for actions, and three times that for reads.
fn lines(server: &Server) -> Result<Vec<Line>, Fault> {
    let runtime = runtime()?;
    let connect = |word| runtime.block_on(Client::connect(server, word));
    let (mut batched, mut single, mut alone) =
        (connect("/quic-v1")?, connect("/quic-v1")?, connect("/quic-v1")?);
    let pair = Pair::start("/ip4/127.0.0.1/udp/0/quic-v1")?;
    // Beside the build, so that it is a disk and not a folder in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = folder.path().join("floor.redb");
    let mut direct = Direct::filled(&path, ELEMENTS, Arc::new(Counts::default()))?;
    let direct = RefCell::new(&mut direct);
    let rates = medians([
        &mut || {
            timed(BATCHED_CALLS as u64, || {
                runtime.block_on(batched.calls(BATCHED_CALLS, BATCH, BATCHES_IN_FLIGHT))
            })
        },
        &mut || {
            timed(SINGLE_CALLS as u64, || {
                runtime.block_on(single.calls(SINGLE_CALLS, 1, SINGLE_IN_FLIGHT))
            })
        },
        &mut || timed(ALONE_CALLS as u64, || runtime.block_on(alone.calls(ALONE_CALLS, 1, 1))),
        &mut || timed(OUR_CALLS as u64, || pair.actions(OUR_CALLS, SINGLE_IN_FLIGHT)),
        &mut || timed(ALONE_CALLS as u64, || pair.actions(ALONE_CALLS, 1)),
        &mut || timed(OUR_CALLS as u64, || pair.reads(OUR_CALLS, SINGLE_IN_FLIGHT)),
        &mut || {
            let (calls, callers) = (OUR_CALLS as u64, SINGLE_IN_FLIGHT as u64);
            timed(calls, || direct.borrow_mut().calls(calls, callers, ELEMENTS))
        },
        &mut || {
            let calls = ALONE_CALLS as u64;
            timed(calls, || direct.borrow_mut().calls(calls, 1, ELEMENTS))
        },
    ])?;
    let [batched, single, alone, actions, action_alone, reads, durable, commit] = rates;
    let exchange_and_commits = 1.0 / (1.0 / alone + 2.0 / commit);
    let line = |name: &str, floor, ours, ratio_min| Line {
        name: name.to_owned(),
        floor,
        ours: Some(ours),
        ratio_min,
    };
    Ok(vec![
        line("actions, 128 in flight; floor: batches of 128", batched, actions, None),
        line("actions, 128 in flight; floor: durable calls", durable, actions, Some(0.7)),
        line("actions, 128 in flight; floor: one an exchange", single, actions, Some(2.0)),
        line(
            "actions alone; floor: exchange + 2 commits",
            exchange_and_commits,
            action_alone,
            Some(0.5),
        ),
        line("reads, 128 in flight; floor: one an exchange", single, reads, Some(3.0)),
    ])
}
