//! The node's turns and commits without its doors.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use freehold::commands;
use freehold::model::{Changes, JobId, Problem};
use freehold::node::{self, Engine, Ground, Mark, Outlet, Threads};
use freehold::store::Store;
use freehold::turn::{Effect, Input, QUEUE_MAX};
use serde_json::json;

use super::home::{ALICE, CHARGE, KEEP_MS, LIFE, element_id};
use super::setting::{call_of, setting};
use crate::floor::mixed::mixed;
use crate::floor::rounds::Fault;

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
        let args = json!({"element": element, "attribute": CHARGE, "value": charge});
        let call = call_of(Some(ALICE), self.draw(), "element.set", args);
        let offered = self.engine.offer(vec![(Input::Called { call, idempotency: None }, false)]);
        offered.map_err(|(_, problem)| problem.says.into())
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
