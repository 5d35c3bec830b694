//! The node's turns and commits without its doors.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use freehold::commands;
use freehold::model::{
    Budget, Call, Caller, Changes, DEADLINE_DEFAULT_MS, ElementId, JobId, Json, Name, Problem, Root,
};
use freehold::node::{self, Engine, Ground, Mark, Outlet, Threads};
use freehold::step::Setting;
use freehold::store::Store;
use freehold::trust::KeyPair;
use freehold::turn::{Effect, Input, QUEUE_MAX};
use jiff::tz::TimeZone;
use serde_json::json;

use super::home::{ALICE, CHARGE, GARDEN, KEEP_MS, LIFE, US, element_id};
use crate::floor::mixed::mixed;
use crate::floor::rounds::Fault;

/// How long a fetched record counts as fresh.
const RECORD_MS: u64 = 3_600_000;

/// Hands what was answered to who called.
struct Answered(SyncSender<Vec<Effect>>);

impl Outlet for Answered {
    fn let_out(&self, _: &Changes, effects: Vec<Effect>) {
        self.0.send(effects).ok();
    }

    fn read_only(&self, _: bool) {}

    fn reopened(&self) {}

    fn drop_call(&self, job: JobId, problem: Problem) {
        self.0.send(vec![Effect::End(job, Err(problem))]).ok();
    }
}

/// The turns, and the answers that come from them.
pub(crate) struct Shell {
    engine: Engine,
    threads: Threads,
    answers: Receiver<Vec<Effect>>,
    drawn: u64,
}

impl Shell {
    /// Starts the turns on a store in a folder.
    pub(crate) fn open(store: &Arc<Store>, folder: &Path) -> Result<Self, Fault> {
        let (answered, answers) = sync_channel(QUEUE_MAX);
        let ground = Ground {
            store: store.clone(),
            setting: Arc::new(setting()?),
            table: commands::find,
            keep_ms: KEEP_MS,
            incarnation: LIFE,
            mark: Mark::open(folder)?,
        };
        let (engine, threads) = node::start_turns(ground, Arc::new(Answered(answered)))
            .map_err(|problem| problem.says)?;
        Ok(Self { engine, threads, answers, drawn: 0 })
    }

    /// Makes `calls` calls by so many callers, each of which makes its next one when its last one
    /// was answered, on elements drawn among the first `elements`.
    pub(crate) fn calls(&mut self, calls: u64, callers: u64, elements: u64) -> Result<(), Fault> {
        let mut offered = callers.min(calls);
        for _ in 0..offered {
            self.offer(elements)?;
        }
        let mut answered = 0;
        while answered < calls {
            for effect in self.answers.recv()? {
                let Effect::End(_, result) = effect else { continue };
                result.map_err(|problem| problem.says)?;
                answered += 1;
                if offered < calls {
                    self.offer(elements)?;
                    offered += 1;
                }
            }
        }
        Ok(())
    }

    fn offer(&mut self, elements: u64) -> Result<(), Fault> {
        let element = element_id(self.draw() % elements);
        let charge = self.draw() % 1_000_000 + 1;
        let call = self.call(element, charge);
        let offered = self.engine.offer(vec![(Input::Called { call, idempotency: None }, false)]);
        offered.map_err(|(_, problem)| problem.says.into())
    }

    fn call(&mut self, element: ElementId, charge: u64) -> Call {
        let at = node::now();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.draw().to_be_bytes());
        let id = JobId::at(at, random);
        Call {
            id,
            command: "element.set".to_owned(),
            caller: Caller::Local { account: Some(ALICE), operator: true },
            args: json!({"element": element, "attribute": CHARGE, "value": charge}),
            world: Some(GARDEN.to_owned()),
            meta: Json::Null,
            reply_to: None,
            deadline_at: at.after_ms(DEADLINE_DEFAULT_MS),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mixed(self.drawn)
    }

    /// Ends both threads after what was taken is durable.
    pub(crate) fn close(self) {
        self.engine.stop();
        self.threads.join();
    }
}

fn setting() -> Result<Setting, Fault> {
    Ok(Setting {
        us: US,
        keys: KeyPair::from_seed(&[1; 32]),
        name: Name::new("attic")?,
        recovery_hash: [0; 32],
        time_zone: TimeZone::UTC,
        account: None,
        record_ms: RECORD_MS,
    })
}
