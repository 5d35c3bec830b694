//! Reading calls: run on a few threads beside the turns, on the state of the last commit.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc};

use super::clock;
use super::hub::HubMessage;
use crate::catalog;
use crate::model::{
    Answer, Answers, Call, Changes, Code, Json, Key, Need, Problem, QUESTIONS_MAX, ROUNDS_MAX, Row,
    ServerId, Timestamp, WorldId,
};
use crate::script::Machine;
use crate::step::Setting;
use crate::store::Store;
use crate::turn::{Read, Table, read};

/// Reading calls that run at the same time.
pub const READERS_MAX: usize = 4;
/// Times that a reading call begins anew because a question changed.
const ATTEMPTS_MAX: u32 = 3;

/// Runs reading calls.
pub(super) struct Readers {
    pub(super) store: Arc<Store>,
    pub(super) setting: Arc<Setting>,
    pub(super) table: Table,
    hub: mpsc::Sender<HubMessage>,
    machines: Mutex<Vec<Machine>>,
    permits: Semaphore,
}

/// Asks others what a reading call must know.
pub(super) trait Asker: Send + Sync {
    /// Asks one question for a call.
    fn ask(
        &self,
        call: &Call,
        need: Need,
    ) -> impl Future<Output = (Need, Result<Json, Problem>)> + Send;
}

impl Readers {
    pub(super) fn new(
        store: Arc<Store>,
        setting: Arc<Setting>,
        table: Table,
        hub: mpsc::Sender<HubMessage>,
    ) -> Self {
        let permits = Semaphore::new(READERS_MAX);
        Self { store, setting, table, hub, machines: Mutex::new(Vec::new()), permits }
    }

    /// Keeps rows of the cache. Whose element we keep a copy of, that world we follow.
    async fn keep(&self, changes: Changes) {
        let followed: Vec<(ServerId, WorldId)> = changes
            .iter()
            .filter_map(|(key, change)| match (key, change) {
                (Key::CachedPlace(server, _), Some(Row::CachedPlace(place))) => {
                    Some((*server, place.world))
                }
                _ => None,
            })
            .collect();
        self.store.keep(changes);
        for (server, world) in followed {
            self.hub.send(HubMessage::Follow(server, world)).await.ok();
        }
    }

    /// Runs a reading call to its end, asking others where it must.
    pub(super) async fn read(
        self: &Arc<Self>,
        call: Call,
        asker: &impl Asker,
    ) -> Result<Json, Problem> {
        let call = Arc::new(call);
        let now = clock::now();
        let mut answers = Answers::new();
        let (mut rounds, mut attempts) = (0, 0);
        loop {
            // With answers at hand it runs on: they say themselves what came too late.
            if rounds == 0 && clock::now() >= call.deadline_at {
                return Err(Problem::new(Code::TimedOut, "the deadline passed before it was done"));
            }
            match self.run(call.clone(), answers.clone(), now).await? {
                Read::Done(result, changes) => {
                    if !changes.is_empty() {
                        self.keep(changes).await;
                    }
                    return result;
                }
                Read::Needs(needs) => {
                    rounds += 1;
                    if rounds > ROUNDS_MAX || answers.len() + needs.len() > QUESTIONS_MAX {
                        return Err(Problem::new(
                            Code::ScriptBudget,
                            "it asked too many questions",
                        ));
                    }
                    let asked = needs.into_iter().map(|need| asker.ask(&call, need));
                    for (need, result) in futures::future::join_all(asked).await {
                        answers.insert(need.place, Answer { question: need.question, result });
                    }
                }
                Read::Slow => {
                    return Err(Problem::new(Code::Internal, "a script ran where none may run"));
                }
                Read::Changed => {
                    attempts += 1;
                    answers.clear();
                    if attempts >= ATTEMPTS_MAX {
                        return Err(Problem::new(Code::Conflict, "changed while asking"));
                    }
                }
            }
        }
    }

    async fn run(
        self: &Arc<Self>,
        call: Arc<Call>,
        answers: Answers,
        now: Timestamp,
    ) -> Result<Read, Problem> {
        if catalog::find(&call.command).is_some_and(catalog::Command::is_quick) {
            match self.run_now(&call, &answers, now, true)? {
                Read::Slow => {}
                read => return Ok(read),
            }
        }
        let internal = |says: String| Problem::new(Code::Internal, says);
        let permit = self.permits.acquire().await.map_err(|error| internal(error.to_string()))?;
        let this = self.clone();
        let ran =
            tokio::task::spawn_blocking(move || this.run_now(&call, &answers, now, false)).await;
        drop(permit);
        ran.map_err(|error| internal(error.to_string()))?
    }

    fn run_now(
        &self,
        call: &Call,
        answers: &Answers,
        now: Timestamp,
        hurried: bool,
    ) -> Result<Read, Problem> {
        let held = self.machines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let machine = match held {
            Some(machine) => machine,
            None => Machine::new(clock::fuse())
                .map_err(|error| Problem::new(Code::Internal, error.to_string()))?,
        };
        let view = self.store.view()?;
        let read = read(self.table, &view, &machine, &self.setting, call, answers, now, hurried);
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).push(machine);
        Ok(read)
    }
}
