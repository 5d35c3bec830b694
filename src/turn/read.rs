//! Reading calls: run beside the turn, never durable, simply asked again.

use super::turns::Table;
use crate::catalog::{self, Audience as For};
use crate::model::{
    Answers, Bond, Call, Caller, Changes, Code, Json, Name, Need, Presented, Problem, Server,
    ServerId, ServerState, Snapshot, Timestamp,
};
use crate::script::Machine;
use crate::step::{Ended, Setting, Step};
use crate::trust;

/// How one run of a reading call ended.
#[derive(Debug)]
pub enum Read {
    /// With this result; rows of the cache changed with it.
    Done(Result<Json, Problem>, Changes),
    /// These must be known first.
    Needs(Vec<Need>),
    /// The questions changed: begin anew without answers.
    Changed,
    /// It runs a script, and was to be quick: run it again where there is time.
    Slow,
}

/// Runs a reading call on `snapshot`. `hurried`: it may not run a script.
#[expect(clippy::too_many_arguments, reason = "everything that a reading call depends on")]
pub fn read(
    table: Table,
    snapshot: &dyn Snapshot,
    machine: &Machine,
    setting: &Setting,
    call: &Call,
    answers: &Answers,
    now: Timestamp,
    hurried: bool,
) -> Read {
    if let Err(problem) = check(snapshot, setting, call, now) {
        return Read::Done(Err(problem), Changes::new());
    }
    let found = catalog::find(&call.command).and_then(|command| table(command.name));
    let Some(command) = found else {
        let problem =
            Problem::new(Code::UnknownCommand, format!("there is no command '{}'", call.command));
        return Read::Done(Err(problem), Changes::new());
    };
    let seed = *blake3::hash(call.id.as_bytes()).as_bytes();
    let step = Step::new(snapshot, machine, setting, call, answers, now, seed, true);
    let step = if hurried { step.hurried() } else { step };
    let left = step.run(command);
    match left.ended {
        Ended::Done(json) => Read::Done(Ok(json), left.changes),
        Ended::Problem(problem) => match call.caller {
            Caller::Remote { .. } => Read::Done(Err(trust::outward(problem)), Changes::new()),
            Caller::Local { .. } | Caller::Node => Read::Done(Err(problem), Changes::new()),
        },
        Ended::Needs(needs) => Read::Needs(needs),
        Ended::Changed => Read::Changed,
        Ended::Slow => Read::Slow,
        Ended::Forward(_) => {
            let problem = Problem::new(Code::Internal, "a reading call cannot be forwarded");
            Read::Done(Err(problem), Changes::new())
        }
    }
}

/// Checks that the caller may use the command at all: the rights to things are asked where it runs.
pub(super) fn check(
    snapshot: &dyn Snapshot,
    setting: &Setting,
    call: &Call,
    now: Timestamp,
) -> Result<(), Problem> {
    may_call(snapshot, setting, call, now)?;
    may_act_for(snapshot, setting, &call.caller, now)?;
    let unknown =
        || Problem::new(Code::UnknownCommand, format!("there is no command '{}'", call.command));
    let command = catalog::find(&call.command).ok_or_else(unknown)?;
    let allowed = match (&call.caller, command.audience) {
        (Caller::Local { operator: true, .. }, For::Account | For::Operator | For::Both) => true,
        (Caller::Local { operator: false, .. }, For::Account | For::Both) => true,
        (Caller::Remote { .. }, For::Both | For::Server) => true,
        (Caller::Node, _) => true,
        (Caller::Local { operator: false, .. }, For::Operator) => {
            return Err(Problem::new(Code::NotPermitted, "only the operator may do this")
                .hint("use the control socket, or a key made with --admin"));
        }
        (Caller::Local { .. }, For::Server | For::Node)
        | (Caller::Remote { .. }, For::Account | For::Operator | For::Node) => false,
    };
    if !allowed {
        return Err(unknown());
    }
    // What a server sends is checked as what a person types.
    catalog::check_args(command, &call.args)
}

/// What a server may ask before anybody decided about it: to be admitted.
const BEFORE_ADMISSION: [&str; 4] =
    ["protection.offer", "protection.accept", "protection.refuse", "ticket.use"];

/// Checks that the calling server is neither denied nor paused, was admitted where that is asked for,
/// and calls at a time at which it may.
fn may_call(
    snapshot: &dyn Snapshot,
    setting: &Setting,
    call: &Call,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some(server) = call.caller.server() else { return Ok(()) };
    let Some(entry) = snapshot.server(server)? else { return Ok(()) };
    let may_wait = BEFORE_ADMISSION.contains(&call.command.as_str());
    admits(&entry, setting, || Ok(may_wait || is_listed(snapshot, &call.caller)?), now)
}

/// Checks that a server is neither denied nor paused, was admitted where that is asked for, and that it
/// is a time at which it may call. `is_listed`: whether it is on a list of ours, so that somebody has
/// decided; asked only where that matters.
///
/// # Errors
/// Says why it is told nothing.
pub fn admits(
    entry: &Server,
    setting: &Setting,
    is_listed: impl FnOnce() -> Result<bool, Problem>,
    now: Timestamp,
) -> Result<(), Problem> {
    if let Some(schedule) = &entry.schedule
        && !schedule.hold_at(now, &setting.time_zone)
    {
        let says = "this server takes calls from yours at other times";
        return Err(Problem::new(Code::OutsideSchedule, says));
    }
    let waits = setting.strangers_wait && entry.allowed == ServerState::Pending;
    if waits && !is_listed()? {
        let says = "this server has not decided yet whether yours may call it";
        return Err(Problem::new(Code::ServerDenied, says)
            .hint("its operator finds the question in the inbox"));
    }
    match (entry.allowed, entry.paused_at) {
        (ServerState::Denied, _) => {
            Err(Problem::new(Code::ServerDenied, "this server takes no calls from yours"))
        }
        (_, Some(_)) => {
            Err(Problem::new(Code::ServerDenied, "this server takes no calls from yours for now"))
        }
        (ServerState::Pending | ServerState::Allowed, None) => Ok(()),
    }
}

/// Checks that the calling server may act for the user for whom it calls: as the user permitted, where
/// their home is here; else their home has said so.
fn may_act_for(
    snapshot: &dyn Snapshot,
    setting: &Setting,
    caller: &Caller,
    now: Timestamp,
) -> Result<(), Problem> {
    let (Some(user), Some(server)) = (caller.user(), caller.server()) else { return Ok(()) };
    let refused = |says: &str| Err(Problem::new(Code::NotPermitted, says));
    if snapshot.account(user.account)?.is_some() {
        if user.home != setting.us {
            return refused("the user is at home here");
        }
        let held = snapshot.permission(user.account, server)?;
        return match held {
            Some(held) if held.holds(now) => Ok(()),
            Some(_) | None => Err(not_permitted()),
        };
    }
    match snapshot.visitor(user.account)? {
        Some(known) if known.home != user.home => refused("the user is at home elsewhere"),
        Some(_) => Ok(()),
        None if user.home == setting.us => refused("there is no such user here"),
        // Somebody's word for somebody who is not known here: it gives nothing.
        None => Ok(()),
    }
}

/// Whether the calling server showed that it is on a list of ours.
fn is_listed(snapshot: &dyn Snapshot, caller: &Caller) -> Result<bool, Problem> {
    let Caller::Remote { server, presented, .. } = caller else { return Ok(false) };
    Ok(!lists_of(snapshot, *server, presented)?.is_empty())
}

/// The lists of ours that a server is on, of those whose ids it has shown.
///
/// # Errors
/// A row is damaged.
pub fn lists_of(
    snapshot: &dyn Snapshot,
    server: ServerId,
    presented: &[Presented],
) -> Result<Vec<Name>, Problem> {
    let mut lists = Vec::new();
    for shown in presented {
        let row = snapshot.protection(server, &shown.list)?;
        if trust::bond(row.as_deref(), presented) == Bond::Proven {
            lists.extend(row.map(|row| row.list.clone()));
        }
    }
    Ok(lists)
}

fn not_permitted() -> Problem {
    Problem::new(Code::NotPermitted, "the user has not permitted your server to act for them")
        .hint("the user can do so at their home: freehold token permit SERVER")
}
