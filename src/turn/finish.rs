//! How jobs end: here, or as another server answers.

use std::sync::Arc;

use serde_json::json;

use super::turns::{Effect, ItemAnswer, Running, outcome_of};
use crate::model::{
    Call, Caller, Code, DEADLINE_DEFAULT_MS, Element, Job, JobId, JobStatus, Json, Key, Outbox,
    Problem, Reply, ReplyTo, Row, ServerId, Snapshot, Tell, bytes_of,
};
use crate::step::outdated;
use crate::trust;

impl Running<'_> {
    /// Ends a job: notes its outcome and tells whoever waits for it.
    pub(super) fn finish(&mut self, mut job: Job, result: Result<Json, Problem>) {
        let id = job.call.id;
        let result = match job.call.caller {
            Caller::Remote { .. } => result.map_err(trust::outward),
            Caller::Local { .. } | Caller::Node => result,
        };
        // Only a job that never asked, and waits for nothing, has no row of its own.
        let was_started = !matches!(&job.status, JobStatus::Asking { needs } if needs.is_empty());
        if was_started {
            self.turns.gathering.remove(&id);
        }
        self.forget_people(&job);
        self.bytes += 400 + result.as_ref().map_or(200, bytes_of);
        self.report(&job, &result, was_started);
        self.reply_by_event(&job, &result);
        self.effects.push(Effect::End(id, result.clone()));
        let outcome = outcome_of(&result);
        let (result, problem) = match result {
            Ok(json) => (without_secrets(&job.call.command, json), None),
            Err(problem) => (Json::Null, Some(problem)),
        };
        job.status = JobStatus::Finished { outcome, result, problem, at: self.turn.at };
        job.answers.clear();
        job.seed = [0; 32];
        job.call.args = Json::Null;
        if was_started {
            self.changes.insert(Key::Job(id), Some(Row::Job(Arc::new(job))));
        } else if job.queued > 0 || !matches!(job.call.caller, Caller::Node) {
            self.turn.jobs.push(job);
        }
    }

    /// Answers the server that told the job, where one did and it ended after it was started.
    fn report(&mut self, job: &Job, result: &Result<Json, Problem>, was_started: bool) {
        let (Some(server), Some(number)) = (job.call.caller.server(), job.number) else { return };
        let reply = Reply { result: result.clone(), touched: job.touched.clone() };
        if was_started {
            self.effects.push(Effect::Report { server, number, reply });
        }
    }

    /// Sends the outcome as an event, where an element waits for it.
    fn reply_by_event(&mut self, job: &Job, result: &Result<Json, Problem>) {
        let Some(to) = job.call.reply_to.clone() else { return };
        self.send_reply(&to, &job.call, result);
    }

    fn send_reply(&mut self, to: &ReplyTo, cause: &Call, result: &Result<Json, Problem>) {
        let Ok(Some(element)) = (&self.view() as &dyn Snapshot).element(to.world, to.element)
        else {
            return;
        };
        if let Some(event) = &to.event {
            let data = match result {
                Ok(result) => {
                    json!({"done": true, "result": result.get("result").unwrap_or(result)})
                }
                Err(problem) => json!({"done": false, "problem": problem.to_json()}),
            };
            let args = json!({"element": to.element, "event": event, "data": data});
            self.queue_reply("event.send", args, cause, &element);
        }
        if let (Some(Json::Object(said)), Err(problem)) = (&to.error, result) {
            let mut data = said.clone();
            data.insert("problem".to_owned(), problem.to_json());
            let args = json!({"element": to.element, "data": data});
            self.queue_reply("event.failed", args, cause, &element);
        }
    }

    /// Lets the element hear of an outcome, as a call of its owner that follows from the cause.
    fn queue_reply(&mut self, command: &str, args: Json, cause: &Call, element: &Element) {
        let Some(hops) = cause.root.budget.hops.checked_sub(1) else { return };
        let mut root = cause.root.clone();
        root.budget.hops = hops;
        let mut hash = blake3::Hasher::new_derive_key("freehold 1 reply");
        hash.update(cause.id.as_bytes()).update(command.as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.finalize().as_bytes()[..10]);
        let caller = match command {
            "event.failed" => Caller::Node,
            _ => Caller::Local { account: Some(element.owner), operator: false },
        };
        let call = Call {
            id: JobId::at(self.turn.at, random),
            command: command.to_owned(),
            caller,
            args,
            world: Some(element.world.to_string()),
            meta: Json::Null,
            reply_to: None,
            deadline_at: self.turn.at.after_ms(DEADLINE_DEFAULT_MS),
            root,
        };
        self.queue_job(call);
    }

    /// Another server answered, or never can: the number is closed, and the job that waits ends.
    pub(super) fn settled(&mut self, server: ServerId, number: u64, reply: Reply) {
        let Some((mut outbox, tell)) = self.open_tell(server, number) else { return };
        outbox.close(number);
        self.changes.insert(Key::Outbox(server), Some(Row::Outbox(Arc::new(outbox))));
        self.effects.push(Effect::Forget { server, number });
        for touched in &reply.touched {
            let marked = outdated(&self.view(), server, touched).unwrap_or_default();
            self.changes.extend(marked.into_iter().map(|(key, row)| (key, Some(row))));
        }
        let job = tell.job.and_then(|id| (&self.view() as &dyn Snapshot).job(id).ok().flatten());
        if let Some(job) = job.filter(|job| !job.is_finished()) {
            let result = reply.result.map(|mut json| {
                // The caller's job is the one here, whatever the other server calls its own.
                if job.call.command == "action.call"
                    && let Some(members) = json.as_object_mut()
                {
                    members.insert("job".to_owned(), json!(job.call.id));
                }
                json
            });
            self.finish(job.as_ref().clone(), result);
        } else if let Some(to) = &tell.reply_to {
            let call = reply_call(&tell, self.turn.at, number);
            self.send_reply(to, &call, &reply.result);
        }
    }

    fn open_tell(&self, server: ServerId, number: u64) -> Option<(Outbox, Tell)> {
        let view = self.view();
        let stored: &dyn Snapshot = &view;
        let outbox = stored.outbox(server).ok()??;
        let turn = outbox.turn_of(number)?;
        let tell = if turn == self.turn.number {
            self.turn
                .sent
                .iter()
                .find(|sent| sent.number == number && sent.tell.server == server)?
                .tell
                .clone()
        } else {
            let turn = stored.turn(turn).ok()??;
            turn.sent
                .iter()
                .find(|sent| sent.number == number && sent.tell.server == server)?
                .tell
                .clone()
        };
        Some((outbox.as_ref().clone(), tell))
    }

    /// The deadline passed after it was handed over: whoever waits is told so, and the job goes on.
    pub(super) fn unanswered(&mut self, server: ServerId, number: u64) {
        let Some((_, tell)) = self.open_tell(server, number) else { return };
        let Some(id) = tell.job else { return };
        let Ok(Some(job)) = (&self.view() as &dyn Snapshot).job(id) else { return };
        if !matches!(job.status, JobStatus::Told { unknown: false, .. }) {
            return;
        }
        let mut job = job.as_ref().clone();
        job.status = JobStatus::Told { server, number, unknown: true };
        let problem =
            Problem::new(Code::OutcomeUnknown, "it was handed over, and no answer came yet")
                .hint(format!("it settles by itself; see how with: freehold job show {id}"))
                .with("job", id.to_string());
        self.effects.push(Effect::End(id, Err(problem)));
        self.changes.insert(Key::Job(id), Some(Row::Job(Arc::new(job))));
    }

    /// The answer to an item whose job has ended or not.
    pub(super) fn answer_of(job: &Job) -> ItemAnswer {
        match job.result() {
            Some(result) => ItemAnswer::Done(Reply { result, touched: job.touched.clone() }),
            None => ItemAnswer::Started,
        }
    }
}

/// A result as it is stored: without what is shown once.
fn without_secrets(command: &str, mut result: Json) -> Json {
    let secret = crate::catalog::find(command).map_or(&[][..], crate::catalog::Command::shown_once);
    if let Some(members) = result.as_object_mut() {
        members.retain(|name, _| !secret.contains(&name.as_str()));
    }
    result
}

/// Stands for something told that no job waits for, where its outcome is sent as an event.
fn reply_call(tell: &Tell, now: crate::model::Timestamp, number: u64) -> Call {
    let mut hash = blake3::Hasher::new_derive_key("freehold 1 told");
    hash.update(tell.server.as_bytes()).update(&number.to_be_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&hash.finalize().as_bytes()[..10]);
    Call {
        id: JobId::at(now, random),
        command: tell.command.clone(),
        caller: Caller::Node,
        args: Json::Null,
        world: None,
        meta: Json::Null,
        reply_to: None,
        deadline_at: now,
        root: tell.root.clone(),
    }
}
