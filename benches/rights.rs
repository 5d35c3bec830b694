//! What it costs to check whether a call of another server may be made, as a share of that call, when
//! nothing has changed since the last one.
//!
//! Measured are the functions that every such call passes, on a home that has met the other server
//! ([`ours::met`]):
//!
//! - **limit**: `trust::Meter`, which counts its calls.
//! - **token**: at the door (`post::Inbound`), the word of the user's home is known already; that it is
//!   for this call is looked at again. With it goes what the server has shown of our lists. It is the
//!   door with both, less the door with neither.
//! - **admission**: what `turn::read` asks before a call begins, as every turn does: the entry of the
//!   server with its schedule, its places on our lists, and whether it may act for the user. It is a
//!   call of the server, less the same call of the node itself.
//! - **bond**: in the step, `check_write`: the list of the type, the server's proof, and what the user's
//!   permission is for. It is a step that asks this, less one that only fetches the same rows.
//!
//! The last two once on the state that turns run on, where rows are in memory, and once on a view of
//! the store, as reading calls do it, where each row is read and decoded.
//!
//! In the same run: remote calls of an action, and reads, between two real nodes ([`ours::pair`]), one
//! after another and with 128 in flight. Those are calls for no user and without lists: all that is
//! checked here is held against calls that are cheaper than such. Wanted: at most 5 %, so at least 20
//! checks in the time of one call.

mod floor {
    pub(crate) mod rounds;
}
mod ours {
    pub(crate) mod met;
    pub(crate) mod pair;
    #[expect(dead_code, reason = "nobody here calls anything of its own")]
    pub(crate) mod setting;
}

use std::hint::black_box;
use std::sync::Arc;

use freehold::model::{
    Answers, Call, Caller, Changes, Code, Contact, Element, Json, Layered, Problem, ServerId,
    Snapshot, TypeDefinition,
};
use freehold::script::Machine;
use freehold::step::{Actor, Command, Halt, Setting, Step};
use freehold::store::{Folder, Hot, Store};
use freehold::trust::Meter;
use freehold::turn::{self, Read, Table};

use crate::floor::rounds::{Fault, Line, is_wanted, medians, print, timed};
use crate::ours::met::{AtDoor, LAMP, LIMIT, Met, ON, WORLD};
use crate::ours::pair::Pair;
use crate::ours::setting::setting;

/// The largest share of a call that is wanted.
const SHARE_MAX: f64 = 0.05;
/// Remote calls of one round that wait for each other.
const ALONE_CALLS: usize = 300;
/// Remote calls of one round with many in flight.
const MANY_CALLS: usize = 4_096;
/// How many then are in flight.
const IN_FLIGHT: usize = 128;
/// Calls of one round that are only checked.
const CHECKS: u64 = 25_600;
/// Calls of one batch at the door.
const BATCH: u64 = 128;
/// What a check takes at least, in microseconds: it is a difference, and may come out as nothing.
const US_MIN: f64 = 0.001;

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    let met = Met::new()?;
    let (mut known, call) = AtDoor::known(&met)?;
    let mut unknown = AtDoor::unknown(&met);
    let own_call = Call { caller: Caller::Node, ..call.clone() };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store =
        Store::open(Folder(folder.path().to_owned()), Arc::new(|_: ServerId| Contact::default()))?;
    store.commit(&met.rows()?)?;
    let (hot, view, nothing_new) = (Hot::new(&store)?, store.view()?, Changes::new());
    let turn = Layered { top: &nothing_new, below: &hot };
    let steps = Steps {
        machine: Machine::new(Arc::new(|_: bool| false)).map_err(|error| error.to_string())?,
        setting: Setting { strangers_wait: true, ..setting()? },
        met: &met,
    };
    let pair = Pair::start("/ip4/127.0.0.1/udp/0/quic-v1")?;
    let rates = medians([
        &mut || timed(ALONE_CALLS as u64, || pair.actions(ALONE_CALLS, 1)),
        &mut || timed(MANY_CALLS as u64, || pair.actions(MANY_CALLS, IN_FLIGHT)),
        &mut || timed(ALONE_CALLS as u64, || pair.reads(ALONE_CALLS, 1)),
        &mut || timed(MANY_CALLS as u64, || pair.reads(MANY_CALLS, IN_FLIGHT)),
        &mut || counted(&met),
        &mut || arrive(&mut known),
        &mut || arrive(&mut unknown),
        &mut || steps.run(&turn, &own_call, nothing),
        &mut || steps.run(&turn, &call, nothing),
        &mut || steps.run(&turn, &call, fetching),
        &mut || steps.run(&turn, &call, checking),
        &mut || steps.run(&view, &own_call, nothing),
        &mut || steps.run(&view, &call, nothing),
        &mut || steps.run(&view, &call, fetching),
        &mut || steps.run(&view, &call, checking),
    ])?;
    let us = rates.map(|rate| 1_000_000.0 / rate);
    let [action_alone, action, read_alone, read, limit, door, bare_door, us @ ..] = us;
    let [own, begun, fetched, checked, own_read, begun_read, fetched_read, checked_read] = us;
    let more = |with: f64, without: f64| (with - without).max(US_MIN);
    let token = more(door, bare_door);
    let (admission, bond) = (more(begun, own), more(checked, fetched));
    let (admission_read, bond_read) =
        (more(begun_read, own_read), more(checked_read, fetched_read));
    let of_action = limit + token + admission + bond;
    let of_read = limit + token + admission_read + bond_read;
    let calls = [
        ("action, one after another", action_alone, of_action),
        ("action, 128 in flight", action, of_action),
        ("read, one after another", read_alone, of_read),
        ("read, 128 in flight", read, of_read),
    ];
    let lines: Vec<Line> = calls
        .iter()
        .map(|(name, call, checks)| Line {
            name: format!("{name} (floor: calls)"),
            floor: 1_000_000.0 / call,
            ours: Some(1_000_000.0 / checks),
            ratio_min: Some(1.0 / SHARE_MAX),
        })
        .collect();
    print(&lines);
    print_parts(&[
        ("limit", limit),
        ("token, and what was shown of lists", token),
        ("admission, schedule, user; in a turn", admission),
        ("bond and permission; in a turn", bond),
        ("admission, schedule, user; in a reading call", admission_read),
        ("bond and permission; in a reading call", bond_read),
        ("the door, with all that it does to a call", door),
    ]);
    print_shares(&calls);
    Ok(())
}

/// The limit alone: checks a second.
fn counted(met: &Met) -> Result<f64, Fault> {
    let mut meter = Meter::default();
    timed(CHECKS, || {
        for _ in 0..CHECKS {
            black_box(&mut meter).charge(black_box(met.now), LIMIT)?;
        }
        Ok(())
    })
}

/// Calls through the door, a second. What makes a batch and answers it is not timed.
fn arrive(door: &mut AtDoor<'_>) -> Result<f64, Fault> {
    let mut seconds = 0.0;
    for _ in 0..CHECKS / BATCH {
        seconds += door.batch(BATCH)?.as_secs_f64();
    }
    Ok(CHECKS as f64 / seconds)
}

/// Where calls run as steps.
struct Steps<'m> {
    machine: Machine,
    setting: Setting,
    met: &'m Met,
}

impl Steps<'_> {
    /// Runs a call again and again: how often a second.
    fn run(&self, state: &dyn Snapshot, call: &Call, table: Table) -> Result<f64, Fault> {
        let (answers, now) = (Answers::new(), self.met.now);
        timed(CHECKS, || {
            for _ in 0..CHECKS {
                let (machine, setting) = (&self.machine, &self.setting);
                let ran = turn::read(table, state, machine, setting, call, &answers, now, false);
                let Read::Done(result, _) = ran else { return Err("it did not end".into()) };
                result.map_err(|problem| problem.says)?;
            }
            Ok(())
        })
    }
}

/// A table in which every command does nothing.
fn nothing(_: &str) -> Option<Command> {
    let command: Command = |_: &mut Step<'_>| Ok(Json::Null);
    Some(command)
}

/// A table in which every command fetches the thing and its type.
fn fetching(_: &str) -> Option<Command> {
    let command: Command = |step: &mut Step<'_>| {
        black_box(fetched(step)?);
        Ok(Json::Null)
    };
    Some(command)
}

/// A table in which every command fetches the same, and checks that its caller may write there.
fn checking(_: &str) -> Option<Command> {
    let command: Command = |step: &mut Step<'_>| {
        let (lamp, held) = fetched(step)?;
        let attribute = step.attribute(&held, ON)?;
        step.check_write(Actor::Caller, &lamp, attribute, ON, &held)?;
        Ok(Json::Null)
    };
    Some(command)
}

/// The thing and its type.
type Fetched = (Arc<Element>, Arc<TypeDefinition>);

fn fetched(step: &Step<'_>) -> Result<Fetched, Halt> {
    let lamp = step.stored().element(WORLD, LAMP)?;
    let lamp = lamp.ok_or_else(|| Problem::new(Code::NotFound, "there is no lamp"))?;
    let held = step.type_of(lamp.type_id)?;
    Ok((lamp, held))
}

fn print_parts(parts: &[(&str, f64)]) {
    println!();
    println!("{:<46} | {:>9}", "what is checked", "us");
    for (name, us) in parts {
        println!("{name:<46} | {us:>9.3}");
    }
}

fn print_shares(calls: &[(&str, f64, f64)]) {
    println!();
    println!("{:<46} | {:>9} | {:>9} | {:>7} | wanted", "remote call", "us", "checks us", "share");
    for (name, call, checks) in calls {
        let share = checks / call;
        let is_met = if share <= SHARE_MAX { "met" } else { "MISSED" };
        println!(
            "{name:<46} | {call:>9.1} | {checks:>9.2} | {:>6.2}% | <= {:.0}% {is_met}",
            share * 100.0,
            SHARE_MAX * 100.0,
        );
    }
}
