//! Visitors: 200 from ten nodes walk in one world of an eleventh, ten moves a second each. How many of
//! their moves do the other nodes show, and how soon?
//!
//! Ours ([`ours::crowd`]): real nodes, each a process of its own, with one stream of events open at
//! each. A visitor makes its next `avatar.move` over HTTP, with a key and on its own connection, once
//! the last one was answered and 100 ms have passed. A newer place overtakes one that was not sent yet,
//! so not every move must be seen; the last one of each visitor must, at every other node.
//!
//! Floor ([`floor::gossip`]): the same moves, as large as one is between two of our nodes, through bare
//! gossipsub with signatures and a mesh, among as many peers in one process.
//!
//! Both walk once, for two seconds that do not count and ten that do. Wanted: at least 4 times the
//! reports that the floor carries in a second. A report is a move that a node other than its visitor's
//! own shows for the first time. Ours cannot be more than are made, 20,000 a second; so they walk once
//! more, at twice that pace, which shows what they carry.

mod floor {
    pub(crate) mod gossip;
    pub(crate) mod processor;
    #[expect(dead_code, reason = "each side walks once: there are no rounds")]
    pub(crate) mod rounds;
    pub(crate) mod walk;
}
mod ours {
    pub(crate) mod crowd;
    pub(crate) mod process;
}

use std::time::Duration;

use freehold::model::{AccountId, Act, Fleeting, Incarnation, WorldId};
use freehold::wire::{Advance, Batch, Request, encode_request};
use serde_json::json;
use tokio::runtime::Builder;

use crate::floor::gossip;
use crate::floor::rounds::{Fault, Line, is_wanted, print};
use crate::floor::walk::{COUNTED, EVERY, HOMES, VISITORS, Walked};
use crate::ours::crowd;

/// The least ratio of our reports to those of the floor.
const RATIO_MIN: f64 = 4.0;

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bytes = act_bytes();
    let (floor, floor_used) = runtime.block_on(gossip::walk(bytes))?;
    let ours = runtime.block_on(crowd::walk(EVERY))?;
    let faster = runtime.block_on(crowd::walk(EVERY / 2))?;
    let line = |name: &str, floor, ours, ratio_min| Line {
        name: name.to_owned(),
        floor,
        ours: Some(ours),
        ratio_min,
    };
    let cost =
        |walked: &Walked, used: Duration| walked.rate * COUNTED.as_secs_f64() / used.as_secs_f64();
    print(&[
        line("reports; floor: gossipsub", floor.rate, ours.walked.rate, Some(RATIO_MIN)),
        line("the same, at twice the pace", floor.rate, faster.walked.rate, None),
        line(
            "reports a processor second; floor: gossipsub",
            cost(&floor, floor_used),
            cost(&ours.walked, ours.all),
            None,
        ),
    ]);
    print_walks(&[
        ("gossipsub", &floor),
        ("nodes", &ours.walked),
        ("twice as fast", &faster.walked),
    ]);
    println!();
    println!("{VISITORS} visitors of {HOMES} homes; {bytes} bytes a move");
    let us = ours.host.as_secs_f64() * 1e6 / ours.walked.moves as f64;
    println!("the host: {us:.0} us of the processor a move");
    println!("moves refused: {}; streams that ended early: {}", ours.refused, ours.streams_ended);
    Ok(())
}

/// Bytes that a move adds to a batch between two nodes.
fn act_bytes() -> usize {
    let act = Fleeting {
        world: WorldId::from_bytes([3; 16]),
        account: AccountId::from_bytes([2; 16]),
        name: "w100".to_owned(),
        act: Act::Move(json!({"x": 100, "y": 60})),
    };
    let bytes_of = |count: usize| {
        let lane = Advance { incarnation: Incarnation::from_bytes([5; 16]), done_below: 1 };
        let batch = Batch { acts: vec![act.clone(); count], ..Batch::empty(lane) };
        encode_request(&Request::Batch(Box::new(batch))).len()
    };
    bytes_of(2) - bytes_of(1)
}

fn print_walks(walks: &[(&str, &Walked)]) {
    println!();
    println!(
        "{:<13} | {:>8} | {:>12} | {:>9} | {:>9} | {:>9} | last place not seen",
        "side", "moves", "reports a s", "reached", "p50 ms", "p99 ms"
    );
    for (name, walked) in walks {
        println!(
            "{name:<13} | {:>8} | {:>12.0} | {:>8.2}% | {:>9.2} | {:>9.2} | {} of {}",
            walked.moves,
            walked.rate,
            walked.reached * 100.0,
            walked.p50_ms,
            walked.p99_ms,
            walked.last_missing,
            VISITORS * HOMES,
        );
    }
}
