//! A home that is made by calls through the turns, each answered once it is durable: an account, a
//! world, a type, and elements by the thousand.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use freehold::commands;
use freehold::model::{
    AccountId, Changes, Contact, Incarnation, JobId, Json, Key, Name, Node, Problem, Row,
    SignedRecord,
};
use freehold::node::{self, Engine, Ground, Mark, Outlet, Threads};
use freehold::store::{Folder, Outside, Store};
use freehold::turn::{Effect, Input, QUEUE_MAX};
use serde_json::json;

use super::setting::{GARDEN, US, call_of, setting};
use crate::floor::rounds::Fault;

/// How long the node keeps what is old.
pub(crate) const KEEP_MS: u64 = 86_400_000;

/// This life of its store.
const LIFE: Incarnation = Incarnation::from_bytes([5; 16]);
/// Bytes of a signed record, about.
const RECORD_BYTES: usize = 280;
/// Calls that wait for their answers at the same time: enough that one turn runs while another is
/// made durable.
const IN_FLIGHT_MAX: u64 = 4;

/// Contacts of a node that knows nobody.
pub(crate) fn nobody() -> Arc<dyn Outside> {
    Arc::new(|_| Contact::default())
}

/// Hands on how calls ended, and lets go of what else a turn leaves.
struct Answered(SyncSender<Result<Json, Problem>>);

impl Outlet for Answered {
    fn let_out(&self, _: &Changes, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::End(_, result) = effect {
                // Who waits may be gone; that is its right.
                self.0.send(result).ok();
            }
        }
    }

    fn read_only(&self, _: bool) {}

    fn reopened(&self) {}

    fn drop_call(&self, _: JobId, problem: Problem) {
        self.0.send(Err(problem)).ok();
    }
}

/// The turns of a home that is being made.
pub(crate) struct Maker {
    /// Whose everything is.
    pub(crate) account: Option<AccountId>,
    engine: Engine,
    threads: Threads,
    answers: Receiver<Result<Json, Problem>>,
    calls: u64,
}

impl Maker {
    /// Makes a home in an empty folder, with a world and a type of this file, called `lamp`.
    pub(crate) fn found(folder: &Path, type_file: &str) -> Result<Self, Fault> {
        let store = Arc::new(Store::open(Folder(folder.to_owned()), nobody())?);
        store.commit(&Changes::from([(Key::Node, Some(Row::Node(Arc::new(ourselves()?))))]))?;
        let (answered, answers) = sync_channel(QUEUE_MAX);
        let ground = Ground {
            store,
            setting: Arc::new(setting()?),
            table: commands::find,
            keep_ms: KEEP_MS,
            incarnation: LIFE,
            mark: Mark::open(folder)?,
        };
        let (engine, threads) = node::start_turns(ground, Arc::new(Answered(answered)))
            .map_err(|problem| problem.says)?;
        let mut maker = Self { account: None, engine, threads, answers, calls: 0 };
        let account = maker.call("account.add", json!({"name": "alice"}))?;
        maker.account = Some(serde_json::from_value(account["id"].clone())?);
        maker.call("world.add", json!({"name": GARDEN}))?;
        maker.call("type.publish", json!({"source": type_file}))?;
        Ok(maker)
    }

    /// Makes `count` lamps of each of these charges: one call, one turn and one commit for each.
    pub(crate) fn create(&mut self, charges: Range<u64>, count: u64) -> Result<(), Fault> {
        let mut in_flight = 0;
        for charge in charges {
            if in_flight == IN_FLIGHT_MAX {
                self.answer()?;
                in_flight -= 1;
            }
            let args = json!({"type": "lamp", "values": {"charge": charge}, "count": count});
            self.offer("element.create", args)?;
            in_flight += 1;
        }
        for _ in 0..in_flight {
            self.answer()?;
        }
        Ok(())
    }

    fn call(&mut self, command: &str, args: Json) -> Result<Json, Fault> {
        self.offer(command, args)?;
        self.answer()
    }

    fn offer(&mut self, command: &str, args: Json) -> Result<(), Fault> {
        self.calls += 1;
        let call = call_of(self.account, self.calls, command, args);
        let offered = self.engine.offer(vec![(Input::Called { call, idempotency: None }, false)]);
        offered.map_err(|(_, problem)| problem.says.into())
    }

    fn answer(&self) -> Result<Json, Fault> {
        self.answers.recv()?.map_err(|problem| problem.says.into())
    }

    /// Ends both threads after what was taken is durable, and closes the store.
    pub(crate) fn close(self) {
        self.engine.stop();
        self.threads.join();
    }
}

fn ourselves() -> Result<Node, Fault> {
    Ok(Node {
        server: US,
        name: Name::new("attic")?,
        record: SignedRecord(vec![7; RECORD_BYTES]),
        recovery_hash: [0; 32],
        incarnation: LIFE,
        earlier: Vec::new(),
        is_rekeyed: false,
    })
}
