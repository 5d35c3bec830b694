//! Reading calls: run beside the turn, never durable, simply asked again.

use super::turns::Table;
use crate::catalog;
use crate::model::{
    Answers, Call, Caller, Changes, Code, Json, Need, Problem, ServerState, Snapshot, Timestamp,
};
use crate::script::Machine;
use crate::step::{Ended, Setting, Step};

/// How one run of a reading call ended.
#[derive(Debug)]
pub enum Read {
    /// With this result; rows of the cache changed with it.
    Done(Result<Json, Problem>, Changes),
    /// These must be known first.
    Needs(Vec<Need>),
    /// The questions changed: begin anew without answers.
    Changed,
}

/// Runs a reading call on `snapshot`.
pub fn read(
    table: Table,
    snapshot: &dyn Snapshot,
    machine: &Machine,
    setting: &Setting,
    call: &Call,
    answers: &Answers,
    now: Timestamp,
) -> Read {
    if let Err(problem) = may_call(snapshot, &call.caller) {
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
    let left = step.run(command);
    match left.ended {
        Ended::Done(json) => Read::Done(Ok(json), left.changes),
        Ended::Problem(problem) => Read::Done(Err(problem), Changes::new()),
        Ended::Needs(needs) => Read::Needs(needs),
        Ended::Changed => Read::Changed,
        Ended::Forward(_) => {
            let problem = Problem::new(Code::Internal, "a reading call cannot be forwarded");
            Read::Done(Err(problem), Changes::new())
        }
    }
}

/// Checks that the calling server is neither denied nor paused.
pub(super) fn may_call(snapshot: &dyn Snapshot, caller: &Caller) -> Result<(), Problem> {
    let Some(server) = caller.server() else { return Ok(()) };
    let Some(entry) = snapshot.server(server)? else { return Ok(()) };
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
