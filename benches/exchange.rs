//! Calls between two nodes: how many a second over loopback.
//!
//! Floors, both bare libp2p request-response between two swarms with an own codec
//! ([`floor::exchange`]), 250 bytes out and 100 back for each call, over QUIC and over TCP:
//! batches of 128 calls with 3 in flight, as the node sends them; and one call an exchange with 128
//! in flight, as request-response is used out of the box. No ratio is wanted between the two: they
//! say what batches are worth.
//!
//! Ours, remote calls through two nodes, is compared with the batches over the same transport.

mod floor {
    pub(crate) mod exchange;
    pub(crate) mod rounds;
}

use crate::floor::exchange::{Client, Server, runtime, serve};
use crate::floor::rounds::{Fault, Line, is_wanted, medians, print, timed};

/// Calls of a batch.
const BATCH: usize = 128;
/// Batches in flight.
const BATCHES_IN_FLIGHT: usize = 3;
/// Single calls in flight.
const SINGLE_IN_FLIGHT: usize = 128;
/// Calls of one round in batches.
const BATCHED_CALLS: usize = 2_000 * BATCH;
/// Calls of one round that go one by one.
const SINGLE_CALLS: usize = 64 * BATCH;

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    print(&floor_lines(&serve()?)?);
    Ok(())
}

/// The floors, with our column empty.
fn floor_lines(server: &Server) -> Result<Vec<Line>, Fault> {
    let runtime = runtime()?;
    let connect = |word| runtime.block_on(Client::connect(server, word));
    let (mut quic_batches, mut quic_single) = (connect("/quic-v1")?, connect("/quic-v1")?);
    let (mut tcp_batches, mut tcp_single) = (connect("/tcp/")?, connect("/tcp/")?);
    let batches = |client: &mut Client| {
        timed(BATCHED_CALLS as u64, || {
            runtime.block_on(client.calls(BATCHED_CALLS, BATCH, BATCHES_IN_FLIGHT))
        })
    };
    let single = |client: &mut Client| {
        timed(SINGLE_CALLS as u64, || {
            runtime.block_on(client.calls(SINGLE_CALLS, 1, SINGLE_IN_FLIGHT))
        })
    };
    let rates = medians([
        &mut || batches(&mut quic_batches),
        &mut || single(&mut quic_single),
        &mut || batches(&mut tcp_batches),
        &mut || single(&mut tcp_single),
    ])?;
    let names = [
        "batches of 128, 3 in flight, QUIC",
        "one call an exchange, 128 in flight, QUIC",
        "batches of 128, 3 in flight, TCP",
        "one call an exchange, 128 in flight, TCP",
    ];
    let lines = names.into_iter().zip(rates).map(|(name, floor)| Line {
        name: name.to_owned(),
        floor,
        ours: None,
        ratio_min: None,
    });
    Ok(lines.collect())
}
