//! Durable calls: how many a second, each answered only after it was synced.
//!
//! Floor: rows put into redb directly ([`floor::durable`]), as many calls in a commit as there are
//! callers on our side. Ours: local `element.set` calls through `turn` and `store`, without HTTP,
//! driven as the node drives them ([`ours::shell`]), by 16 and by 128 callers that each wait for
//! their answer. On one hot element, and on elements drawn among 200,000.
//!
//! Wanted: at least 0.8 of the floor. A second table says what was synced and written.

mod floor {
    pub(crate) mod counted;
    pub(crate) mod durable;
    pub(crate) mod mixed;
    pub(crate) mod rounds;
}
mod ours {
    pub(crate) mod home;
    pub(crate) mod place;
    pub(crate) mod setting;
    pub(crate) mod shell;
}

use std::fs;
use std::sync::Arc;

use freehold::store::{Folder, Store};

use crate::floor::counted::{Counts, Written};
use crate::floor::durable::Direct;
use crate::floor::rounds::{Fault, Line, RUNS, is_wanted, medians, print, timed};
use crate::ours::home::{fill, nobody};
use crate::ours::place::CountedFolder;
use crate::ours::shell::Shell;

/// Elements in both stores.
const ELEMENTS: u64 = 200_000;
/// The least ratio of ours to the floor.
const RATIO_MIN: f64 = 0.8;

/// Who calls what in one line of the table.
struct Case {
    name: &'static str,
    callers: u64,
    elements: u64,
    calls: u64,
}

const CASES: [Case; 4] = [
    Case { name: "16 callers, many elements", callers: 16, elements: ELEMENTS, calls: 8_192 },
    Case { name: "128 callers, many elements", callers: 128, elements: ELEMENTS, calls: 32_768 },
    Case { name: "16 callers, one hot element", callers: 16, elements: 1, calls: 16_384 },
    Case { name: "128 callers, one hot element", callers: 128, elements: 1, calls: 65_536 },
];

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    // Beside the build, so that it is a disk and not a folder in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (floor_counts, our_counts) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
    let floor_path = folder.path().join("floor.redb");
    let mut direct = Direct::filled(&floor_path, ELEMENTS, floor_counts.clone())?;
    let home = folder.path().join("home");
    fs::create_dir(&home)?;
    let place = CountedFolder { folder: Folder(home.clone()), counts: our_counts.clone() };
    let store = Arc::new(Store::open(place, nobody())?);
    fill(&store, ELEMENTS)?;
    let mut shell = Shell::open(&store, &home)?;

    let mut lines = Vec::new();
    let mut written = Vec::new();
    for Case { name, callers, elements, calls } in CASES {
        floor_counts.take();
        our_counts.take();
        let [floor, ours] = medians([
            &mut || timed(calls, || direct.calls(calls, callers, elements)),
            &mut || timed(calls, || shell.calls(calls, callers, elements)),
        ])?;
        let line =
            Line { name: name.to_owned(), floor, ours: Some(ours), ratio_min: Some(RATIO_MIN) };
        lines.push(line);
        written.push((name, calls, floor_counts.take(), our_counts.take()));
    }
    shell.close();
    print(&lines);
    print_written(&written);
    Ok(())
}

fn print_written(cases: &[(&str, u64, Written, Written)]) {
    println!();
    println!(
        "{:<46} | {:>11} | {:>12} | {:>12}",
        "name", "syncs a run", "calls a sync", "bytes a call"
    );
    for (name, calls, floor, ours) in cases {
        for (side, written) in [("floor", floor), ("ours", ours)] {
            let all_calls = *calls as f64 * f64::from(RUNS);
            println!(
                "{:<46} | {:>11.0} | {:>12.1} | {:>12.0}",
                format!("{name}: {side}"),
                written.syncs as f64 / f64::from(RUNS),
                all_calls / written.syncs as f64,
                written.bytes as f64 / all_calls,
            );
        }
    }
}
