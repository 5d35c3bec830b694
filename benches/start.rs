//! Starting: how long a node with 1,000,000 elements takes until it can run its first turn.
//!
//! Timed are `Store::open`, a view of it, and `Turns::load`. After a clean close: wanted at most
//! 0.1 s. After a kill while commits were under way: wanted at most 1 s. Another process, which is
//! this bench with a variable set, writes until SIGKILL ends it.
//!
//! The table speaks of starts a second, with the wanted rate in the floor's column: 10 for 0.1 s, 1
//! for 1 s. The seconds stand below it.

mod floor {
    pub(crate) mod mixed;
    pub(crate) mod rounds;
}
mod ours {
    pub(crate) mod home;
}

use std::env;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use freehold::commands;
use freehold::model::{Changes, Key, Row, Timestamp, Turn};
use freehold::store::{Folder, Hot, Store};
use freehold::trust::KeyPair;
use freehold::turn::Turns;

use crate::floor::mixed::mixed;
use crate::floor::rounds::{Fault, Line, is_wanted, medians, print, timed};
use crate::ours::home::{KEEP_MS, element, fill, nobody};

/// Elements of the home.
const ELEMENTS: u64 = 1_000_000;
/// Names the home in which the other process writes.
const WRITES: &str = "FREEHOLD_BENCH_WRITES";
/// Elements that it changes in one commit.
const ROWS_IN_COMMIT: u64 = 128;
/// Commits after which it is killed.
const COMMITS_MIN: usize = 64;
/// Seconds that a start may take after a clean close, and after a kill.
const SECONDS_MAX: [f64; 2] = [0.1, 1.0];

fn main() -> Result<(), Fault> {
    if let Some(home) = env::var_os(WRITES) {
        return write_until_killed(Path::new(&home));
    }
    if !is_wanted() {
        return Ok(());
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let home = folder.path();
    fill(&Store::open(Folder(home.to_owned()), nobody())?, ELEMENTS)?;
    // Each start ends with a clean close, so the first side always finds one.
    let rates = medians([&mut || start(home), &mut || {
        write_and_kill(home)?;
        start(home)
    }])?;
    let names = ["after a clean close", "after a kill"];
    let lines: Vec<Line> = names
        .into_iter()
        .zip(SECONDS_MAX)
        .zip(rates)
        .map(|((name, seconds_max), ours)| Line {
            name: format!("{name} (floor: wanted)"),
            floor: 1.0 / seconds_max,
            ours: Some(ours),
            ratio_min: Some(1.0),
        })
        .collect();
    print(&lines);
    println!();
    for ((name, seconds_max), rate) in names.into_iter().zip(SECONDS_MAX).zip(rates) {
        println!("{name}: {:.4} s, wanted at most {seconds_max} s", 1.0 / rate);
    }
    Ok(())
}

/// One start. The close that follows is clean, and not timed.
fn start(home: &Path) -> Result<f64, Fault> {
    let mut started = None;
    let rate = timed(1, || {
        let store = Store::open(Folder(home.to_owned()), nobody())?;
        let hot = Hot::new(&store)?;
        let turns = Turns::load(commands::find, &hot, &KeyPair::from_seed(&[1; 32]), KEEP_MS)?;
        started = Some((turns, hot, store));
        Ok(())
    })?;
    drop(started);
    Ok(rate)
}

/// Has another process write to the home, and kills it in the middle of that.
fn write_and_kill(home: &Path) -> Result<(), Fault> {
    let mut child =
        Command::new(env::current_exe()?).env(WRITES, home).stdout(Stdio::piped()).spawn()?;
    // The pipe stays open until it is dead: without a reader it would end by itself, cleanly.
    let mut lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    let commits = lines.iter_mut().flatten().map_while(Result::ok).take(COMMITS_MIN).count();
    let killed = child.kill();
    let ended = child.wait();
    drop(lines);
    killed?;
    if commits < COMMITS_MIN || ended?.code().is_some() {
        return Err("the process that writes has ended by itself".into());
    }
    Ok(())
}

/// Commits turns without end, a line for each. Ends when nobody reads the lines.
fn write_until_killed(home: &Path) -> Result<(), Fault> {
    let store = Store::open(Folder(home.to_owned()), nobody())?;
    let mut out = stdout();
    for number in 1_u64.. {
        let drawn = |at| mixed(number * ROWS_IN_COMMIT + at) % ELEMENTS;
        let mut changes: Changes =
            (0..ROWS_IN_COMMIT).map(|at| element(drawn(at), number + 1)).collect();
        let turn = Turn { number, at: Timestamp::from_ms(number), ..Turn::default() };
        changes.insert(Key::Turn(number), Some(Row::Turn(Arc::new(turn))));
        store.commit(&changes)?;
        writeln!(out, "{number}")?;
    }
    Ok(())
}
