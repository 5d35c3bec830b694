//! Jobs: the open ones have rows of their own, finished ones stand in the turn that finished them.

use std::sync::Arc;

use serde_json::json;

use crate::model::{
    Caller, Code, Damaged, EntryId, Job, JobId, JobStatus, Json, Key, Outcome, Problem, Question,
    Row, Snapshot, Timestamp, Turn,
};
use crate::step::{Halt, Step};

/// Turns that are looked through for one job, from the time of its id on.
const TURNS_MAX: usize = 4_096;
/// Turns that are read at once.
const TURNS_AT_ONCE: usize = 64;

/// A job by its id: open, or finished in some turn.
///
/// # Errors
/// A row is damaged.
pub fn find_job(snapshot: &dyn Snapshot, id: JobId) -> Result<Option<Arc<Job>>, Damaged> {
    if let Some(job) = snapshot.job(id)? {
        return Ok(Some(job));
    }
    let mut number = first_turn_at(snapshot, made_at(id))?;
    let stop = number.saturating_add(TURNS_MAX as u64);
    while number < stop {
        let rows = snapshot.rows(&Key::Turn(number), &Key::Turn(stop), TURNS_AT_ONCE)?;
        let Some((Key::Turn(last), _)) = rows.last() else { return Ok(None) };
        number = last + 1;
        for (_, row) in &rows {
            let Row::Turn(turn) = row else { continue };
            if let Some(job) = turn.jobs.iter().find(|job| job.call.id == id) {
                return Ok(Some(Arc::new(job.clone())));
            }
        }
    }
    Ok(None)
}

/// The time in a version 7 id.
fn made_at(id: JobId) -> Timestamp {
    let bytes = id.as_bytes();
    let ms = bytes[..6].iter().fold(0, |ms, byte| (ms << 8) | u64::from(*byte));
    Timestamp::from_ms(ms)
}

/// The number of the first turn that is not older than `at`. Turns are in the order of time.
fn first_turn_at(snapshot: &dyn Snapshot, at: Timestamp) -> Result<u64, Damaged> {
    let number = |found: Option<(Key, Row)>| match found {
        Some((Key::Turn(number), _)) => number,
        _ => 1,
    };
    let first = snapshot.rows(&Key::Turn(0), &Key::Turn(u64::MAX), 1)?.into_iter().next();
    let (mut low, mut high) =
        (number(first), number(snapshot.last_row(&Key::Turn(0), &Key::Turn(u64::MAX))?) + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match snapshot.turn(middle)? {
            Some(turn) if turn.at < at => low = middle + 1,
            Some(_) => high = middle,
            // Numbers of turns that stored nothing have no row.
            None => {
                match snapshot.rows(&Key::Turn(middle), &Key::Turn(high), 1)?.into_iter().next() {
                    Some((Key::Turn(next), Row::Turn(turn))) if next < high && turn.at < at => {
                        low = next + 1
                    }
                    _ => high = middle,
                }
            }
        }
    }
    Ok(low)
}

/// A job as people and programs see it.
pub fn job_json(job: &Job, shown: impl Fn(crate::model::ServerId) -> String) -> Json {
    let (outcome, problem) = match &job.status {
        JobStatus::Finished { outcome, problem, .. } => (Some(outcome.as_str()), problem.as_ref()),
        JobStatus::Told { unknown: true, .. } => (Some(Outcome::Unknown.as_str()), None),
        JobStatus::Waiting | JobStatus::Told { .. } | JobStatus::Asking { .. } => (None, None),
    };
    let waits_for: Vec<Json> = match &job.status {
        JobStatus::Told { server, .. } => {
            vec![
                json!({"server": shown(*server), "since": job.started_at.to_string(), "tries": job.rounds}),
            ]
        }
        JobStatus::Asking { needs } => needs
            .iter()
            .map(|need| {
                let server = match &need.question {
                    Question::Ask { server, .. } => shown(*server),
                    Question::Meet(name) => name.clone(),
                    Question::Find(account) => account.to_string(),
                    Question::Person { owner, .. } => owner.to_string(),
                };
                json!({"server": server, "since": job.started_at.to_string(), "tries": job.rounds})
            })
            .collect(),
        JobStatus::Waiting | JobStatus::Finished { .. } => Vec::new(),
    };
    let caller = match &job.call.caller {
        Caller::Local { account, operator } => json!({"account": account, "operator": operator}),
        Caller::Remote { server, claim, .. } => json!({"server": shown(*server), "claim": claim}),
        Caller::Node => json!({"node": true}),
    };
    json!({
        "id": job.call.id,
        "command": job.call.command,
        "caller": caller,
        "status": if job.is_finished() { "finished" } else { "started" },
        "outcome": outcome,
        "reason": problem.map(|problem| problem.says.clone()),
        "problem": problem.map(Problem::to_json),
        "deadline_at": job.call.deadline_at.to_string(),
        "started_at": job.started_at.to_string(),
        "waits_for": waits_for,
        "meta": job.call.meta,
        "trace": job.trace,
    })
}

fn shown(step: &Step<'_>, job: &Job) -> Json {
    job_json(job, |id| match step.stored().server(id) {
        Ok(Some(server)) => server.name.to_string(),
        Ok(None) | Err(_) => id.to_string(),
    })
}

/// Whether the caller may see a job: its own, or as the operator every one.
fn may_see(step: &Step<'_>, job: &Job) -> bool {
    match &step.call.caller {
        Caller::Local { operator: true, .. } | Caller::Node => true,
        Caller::Local { account, .. } => account.is_some() && job.call.caller.account() == *account,
        Caller::Remote { .. } => false,
    }
}

fn job(step: &Step<'_>) -> Result<Arc<Job>, Halt> {
    let text = step.word("job");
    let missing = || Problem::new(Code::NotFound, format!("there is no job '{text}' here"));
    let id: JobId = text.parse().map_err(|_| missing())?;
    let job = find_job(step.stored(), id)?.filter(|job| may_see(step, job));
    job.ok_or_else(|| missing().hint("outcomes are kept for a day").into())
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let job = job(step)?;
    Ok(shown(step, &job))
}

pub(super) fn data(step: &mut Step<'_>) -> Result<Json, Halt> {
    match job(step)?.result() {
        Some(Ok(result)) => Ok(json!({"result": result})),
        Some(Err(problem)) => Err(problem.into()),
        None => Err(Problem::new(Code::Conflict, "the job has not ended")
            .hint("wait for it with: freehold job wait JOB")
            .into()),
    }
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let limit = super::page::limit(step);
    let wanted = step.text("outcome");
    let fits = |job: &Job| {
        let outcome = job.outcome().map(Outcome::as_str);
        may_see(step, job) && wanted.is_none_or(|wanted| outcome == Some(wanted))
    };
    let mut items = Vec::new();
    let before = match step.text("cursor") {
        None => {
            let rows = step.stored().rows(
                &Key::Job(JobId::from_bytes([0; 16])),
                &Key::Job(JobId::from_bytes([0xff; 16])),
                10_000,
            )?;
            for (_, row) in rows.iter().rev() {
                if let Row::Job(job) = row
                    && fits(job)
                {
                    items.push(shown(step, job));
                }
            }
            u64::MAX
        }
        Some(cursor) => {
            cursor.parse().map_err(|_| Problem::new(Code::Usage, "the cursor is none of ours"))?
        }
    };
    let mut last = before;
    let mut looked = 0;
    while items.len() < limit && looked < TURNS_MAX {
        let found = step.stored().last_row(&Key::Turn(0), &Key::Turn(last.saturating_sub(1)))?;
        let Some((Key::Turn(number), Row::Turn(turn))) = found else {
            return Ok(json!({"items": items, "next": null}));
        };
        last = number;
        looked += 1;
        finished(&turn, &fits).for_each(|job| items.push(shown(step, job)));
    }
    Ok(json!({"items": items, "next": last.to_string()}))
}

fn finished<'t>(turn: &'t Turn, fits: &'t impl Fn(&Job) -> bool) -> impl Iterator<Item = &'t Job> {
    turn.jobs.iter().rev().filter(move |job| fits(job))
}

pub(super) fn cancel(step: &mut Step<'_>) -> Result<Json, Halt> {
    let job = job(step)?;
    match &job.status {
        JobStatus::Finished { outcome, .. } => {
            let says = format!("the job has ended already: {}", outcome.as_str());
            Err(Problem::new(Code::Conflict, says).into())
        }
        JobStatus::Told { .. } => {
            Err(Problem::new(Code::Conflict, "the call was handed over and cannot be taken back")
                .hint("wait for its outcome with: freehold job wait JOB")
                .into())
        }
        JobStatus::Waiting | JobStatus::Asking { .. } => {
            let problem = Problem::new(Code::Conflict, "the job was cancelled");
            let status = JobStatus::Finished {
                outcome: Outcome::Failed,
                result: Json::Null,
                problem: Some(problem),
                at: step.now,
            };
            for need in job.needs() {
                if matches!(need.question, Question::Person { .. }) {
                    step.change(Key::Inbox(EntryId::of_question(job.call.id, &need.place)), None)?;
                }
            }
            let ended = Job { status, ..job.as_ref().clone() };
            step.put(Key::Job(job.call.id), Row::Job(Arc::new(ended)))?;
            Ok(json!({"id": job.call.id, "outcome": Outcome::Failed.as_str()}))
        }
    }
}
