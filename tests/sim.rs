//! Several nodes in one thread, from one seed: what the rooms decide is run as the node runs it,
//! with lost, doubled and late messages, broken connections, partitions, crashes and power cuts
//! between any two effects, and compared with a model that counts everything again.
//!
//! `SEED=17 cargo test --test sim -- --nocapture` replays one seed and tells what happens;
//! `SEEDS=5000 cargo test --test sim` runs more of them.

#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on must end, and say where")]

#[path = "sim/away.rs"]
mod away;
#[path = "sim/crash.rs"]
mod crash;
#[path = "sim/dice.rs"]
mod dice;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/genesis.rs"]
mod genesis;
#[path = "sim/model.rs"]
mod model;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/stage.rs"]
mod stage;
#[path = "sim/visits.rs"]
mod visits;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use freehold::script::Machine;

use genesis::{NODES_MAX, machine};
use node::Planted;
use run::{Narrates, Summary, run};

/// Seeds that are run where nobody asks for more.
const SEEDS: u64 = 200;
/// Threads that run seeds, each its own.
const THREADS: usize = 2;

#[test]
fn two_hundred_seeds_agree_with_the_model() {
    let (seeds, narrates) = wanted();

    let failures: Vec<String> = all(&seeds, narrates).into_iter().filter_map(Result::err).collect();

    assert!(
        failures.is_empty(),
        "{} of {} seeds fail; the first ones:\n{}",
        failures.len(),
        seeds.len(),
        failures.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn the_same_seed_runs_the_same_in_a_fresh_machine() {
    for seed in [3, 4] {
        let first = run(seed, Planted::Nothing, &machines(), Narrates::Nothing);
        let again = run(seed, Planted::Nothing, &machines(), Narrates::Nothing);

        assert_eq!(first, again, "SEED={seed}");
    }
}

#[test]
fn without_received_entries_the_simulation_fails() {
    assert_is_found(Planted::NoReceivedEntries);
}

#[test]
fn an_answer_before_the_commit_makes_the_simulation_fail() {
    assert_is_found(Planted::AnswersBeforeCommit);
}

#[test]
fn answers_matched_by_order_make_the_simulation_fail() {
    assert_is_found(Planted::AnswersByOrder);
}

/// The seeds that the environment asks for, and whether their runs tell what happens.
fn wanted() -> (Vec<u64>, Narrates) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => (vec![seed], Narrates::Everything),
        (None, seeds) => ((1..=seeds.unwrap_or(SEEDS)).collect(), Narrates::Nothing),
    }
}

/// A machine for each node. They are slow to make, and serve one run after another.
fn machines() -> Vec<Machine> {
    (0..NODES_MAX).map(|_| machine()).collect()
}

/// Names the seed whose run has panicked.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it panicked: SEED={} cargo test --test sim", self.0);
        }
    }
}

/// Runs every seed, and prints how it went. In the order of the seeds.
fn all(seeds: &[u64], narrates: Narrates) -> Vec<Result<Summary, String>> {
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(Vec::new());
    let worker = || {
        let machines = machines();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let replay = Replay(*seed);
            let result = run(*seed, Planted::Nothing, &machines, narrates);
            drop(replay);
            match &result {
                Ok(summary) => println!("{summary}"),
                Err(says) => println!("{says}"),
            }
            ended.lock().unwrap().push((*seed, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(worker);
        }
    });
    let mut ended = ended.into_inner().unwrap();
    ended.sort_by_key(|(seed, _)| *seed);
    ended.into_iter().map(|(_, result)| result).collect()
}

/// Asserts that a planted fault makes a run fail that is right without it.
fn assert_is_found(planted: Planted) {
    let machines = machines();
    let is_right = |seed| run(seed, Planted::Nothing, &machines, Narrates::Nothing).is_ok();

    let found = (1..=SEEDS).find_map(|seed| {
        let says = run(seed, planted, &machines, Narrates::Nothing).err()?;
        is_right(seed).then_some(says)
    });

    match found {
        Some(says) => println!("{planted:?} is found: {says}"),
        None => panic!("{SEEDS} seeds do not find {planted:?}"),
    }
}
