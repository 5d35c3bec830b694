//! Lanes: what another server tells is run once, whatever comes twice, late or out of order.

use std::sync::Arc;

use super::turns::{Effect, ItemAnswer, Running, Told, received};
use crate::model::{
    Call, Code, EntryId, InboxEntry, InboxKind, Incarnation, Job, JobId, JobStatus, Key, Lane,
    Name, Problem, Row, Server, ServerId, Snapshot,
};

/// Numbers of one lane that wait for their sender to store the answers.
const TAKEN_MAX: u64 = 8_192;

/// When a server that is paused may offer again what it tells, in milliseconds.
const PAUSED_AGAIN_MS: u64 = 5_000;

impl Running<'_> {
    pub(super) fn told(&mut self, ticket: u64, told: Told) {
        let answer = match self.lane_for(told.server, told.incarnation) {
            Ok(lane) => self.told_in(lane, ticket, told),
            Err(problem) => Some(ItemAnswer::Fault(problem)),
        };
        if let Some(answer) = answer {
            self.effects.push(Effect::Answer { ticket, answer });
        }
    }

    /// The lane of a server's present life. An older life has none.
    fn lane_for(&self, server: ServerId, incarnation: Incarnation) -> Result<Lane, Problem> {
        let view = self.view();
        let stored: &dyn Snapshot = &view;
        let present = stored.server(server)?.map(|entry| entry.incarnation);
        if present != Some(incarnation) {
            let says = "this comes from a life of the store that has ended, or was not announced";
            return Err(Problem::new(Code::Conflict, says));
        }
        let lane = stored.lane(server)?.filter(|lane| lane.incarnation == incarnation);
        Ok(lane.map_or_else(|| Lane::new(incarnation), |lane| lane.as_ref().clone()))
    }

    fn told_in(&mut self, mut lane: Lane, ticket: u64, told: Told) -> Option<ItemAnswer> {
        if told.number < lane.done_below {
            let says = "this number was answered, and the answer stored; it is not run again";
            return Some(ItemAnswer::Fault(Problem::new(Code::Conflict, says)));
        }
        if told.number >= lane.done_below.saturating_add(TAKEN_MAX) {
            let problem =
                Problem::new(Code::Busy, "too many numbers wait").with("retry_after_ms", 200);
            return Some(ItemAnswer::Fault(problem));
        }
        if let Some(turn) = lane.turn_of(told.number) {
            let answer = self.told_again(turn, &told);
            if matches!(&answer, ItemAnswer::Fault(problem) if problem.more.get("clone").is_some())
            {
                self.pause_clone(told.server);
            }
            return Some(answer);
        }
        if self.is_paused(told.server) {
            let problem = Problem::new(Code::Busy, "this server takes nothing from yours for now");
            return Some(ItemAnswer::Fault(problem.with("retry_after_ms", PAUSED_AGAIN_MS)));
        }
        lane.set(told.number, self.turn.number);
        self.changes.insert(Key::Lane(told.server), Some(Row::Lane(Arc::new(lane))));
        self.turn.received.push(received(&told));
        let job = Job { number: Some(told.number), ..self.job_for(told.call) };
        let id = job.call.id;
        match told.refused {
            Some(problem) => self.finish(job, Err(problem)),
            None => self.start(job),
        }
        let answer = self.answer_for(id);
        // What is answered here need not be reported besides.
        self.effects.push(Effect::Answer { ticket, answer });
        None
    }

    /// Whether a server is paused: what it tells waits with it until that ends.
    fn is_paused(&self, server: ServerId) -> bool {
        let held = (&self.view() as &dyn Snapshot).server(server).ok().flatten();
        held.is_some_and(|held| held.paused_at.is_some())
    }

    fn told_again(&self, turn: u64, told: &Told) -> ItemAnswer {
        let held = if turn == self.turn.number {
            self.turn
                .received
                .iter()
                .find(|held| held.server == told.server && held.number == told.number)
                .cloned()
        } else {
            let turn = (&self.view() as &dyn Snapshot).turn(turn).ok().flatten();
            turn.and_then(|turn| {
                turn.received
                    .iter()
                    .find(|held| held.server == told.server && held.number == told.number)
                    .cloned()
            })
        };
        match held {
            Some(held) if held.digest == told.digest => self.answer_in(turn, held.job),
            Some(_) => {
                let says = "the same number came before with other content";
                ItemAnswer::Fault(Problem::new(Code::Conflict, says).with("clone", true))
            }
            None => ItemAnswer::Fault(Problem::new(
                Code::Internal,
                "the answer to this number is not found",
            )),
        }
    }

    /// Two nodes count with one server's numbers: its home was copied and started twice. Nothing of
    /// either runs here until a person has looked at it.
    fn pause_clone(&mut self, server: ServerId) {
        let Ok(Some(entry)) = (&self.view() as &dyn Snapshot).server(server) else { return };
        let Ok(list) = Name::new("clone") else { return };
        if entry.paused_at.is_some() {
            return;
        }
        let asks = format!(
            "two nodes use the key of {}: was its home copied, and started twice?",
            entry.name
        );
        let hash = blake3::derive_key("freehold 1 clone", server.as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash[..10]);
        let id = EntryId::at(self.turn.at, random);
        let waiting = InboxEntry {
            id,
            kind: InboxKind::Server,
            from: server,
            asks,
            list,
            protection: Vec::new(),
            since: self.turn.at,
            owner: None,
            waits: None,
            later_until: None,
        };
        let paused = Server { paused_at: Some(self.turn.at), ..entry.as_ref().clone() };
        self.changes.insert(Key::Server(server), Some(Row::Server(Arc::new(paused))));
        self.changes.insert(Key::Inbox(id), Some(Row::Inbox(Arc::new(waiting))));
    }

    fn answer_for(&self, id: JobId) -> ItemAnswer {
        self.answer_in(self.turn.number, id)
    }

    /// The answer of a job that `turn` took: finished there, or in a row of its own.
    fn answer_in(&self, turn: u64, id: JobId) -> ItemAnswer {
        let view = self.view();
        let stored: &dyn Snapshot = &view;
        if let Ok(Some(job)) = stored.job(id) {
            return Self::answer_of(&job);
        }
        let stored_turn =
            if turn == self.turn.number { None } else { stored.turn(turn).ok().flatten() };
        let jobs = stored_turn.as_ref().map_or(&self.turn.jobs, |turn| &turn.jobs);
        match jobs.iter().find(|job| job.call.id == id) {
            Some(job) => Self::answer_of(job),
            None => ItemAnswer::Fault(Problem::new(
                Code::Internal,
                "the answer to this number is not found",
            )),
        }
    }

    pub(super) fn advance(&mut self, server: ServerId, incarnation: Incarnation, done_below: u64) {
        // Also where we have no lane of that life yet: its numbers may go on from those of the life
        // before, or ours may have gone back to before we met.
        let Ok(mut lane) = self.lane_for(server, incarnation) else { return };
        if lane.forget_below(done_below) {
            self.changes.insert(Key::Lane(server), Some(Row::Lane(Arc::new(lane))));
        }
    }

    /// Stores a call that is to run in a later turn.
    pub(super) fn queue_job(&mut self, call: Call) {
        let id = call.id;
        self.queued += 1;
        // Turns come in order, and so do the calls that each of them leaves.
        let queued = (self.turn.number << 20) | self.queued;
        let job = Job { status: JobStatus::Waiting, queued, ..self.job_for(call) };
        self.changes.insert(Key::Job(id), Some(Row::Job(Arc::new(job))));
        self.run_later(id);
    }

    /// A job that has not run.
    pub(super) fn job_for(&self, call: Call) -> Job {
        let seed = *blake3::keyed_hash(&self.turns.job_secret, call.id.as_bytes()).as_bytes();
        Job {
            call,
            status: JobStatus::Asking { needs: Vec::new() },
            started_at: self.turn.at,
            seed,
            rounds: 0,
            attempts: 0,
            answers: crate::model::Answers::new(),
            number: None,
            trace: Vec::new(),
            touched: Vec::new(),
            queued: 0,
        }
    }
}
