//! The node's turns and commits without its doors.
//!
//! Does what `node::engine` does, which is not open to benches, and must be changed with it: one
//! thread runs turns, another makes them durable, one commit for each turn; turn n + 1 runs on what
//! turn n left while that is being flushed, and no more than two turns are under way; answers are
//! let out only after the commit. What is missing is `home.mark`, and the state after a fault.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use freehold::commands;
use freehold::model::{
    Budget, Call, Caller, Changes, DEADLINE_DEFAULT_MS, ElementId, JobId, Json, Name, Root,
    Timestamp,
};
use freehold::script::Machine;
use freehold::step::Setting;
use freehold::store::{Hot, Store};
use freehold::trust::KeyPair;
use freehold::turn::{Effect, Input, QUEUE_MAX, Turns};
use jiff::tz::TimeZone;
use serde_json::json;

use super::home::{ALICE, CHARGE, GARDEN, KEEP_MS, US, element_id};
use crate::floor::mixed::mixed;
use crate::floor::rounds::{Fault, now};

/// Turns that are not durable yet.
const PENDING_MAX: usize = 2;
/// When the shell's time begins.
const BEGAN_MS: u64 = 1_750_000_000_000;
/// How long a fetched record counts as fresh.
const RECORD_MS: u64 = 3_600_000;

/// The shell's clock.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn at(self) -> Timestamp {
        let ms = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_ms(BEGAN_MS).after_ms(ms)
    }
}

/// What the turns' thread hears.
enum Message {
    Input(Box<Input>),
    Committed,
    Stop,
}

/// A turn on its way to the disk.
struct Flush {
    changes: Arc<Changes>,
    effects: Vec<Effect>,
}

/// The threads, and the ends of the channels that callers have.
pub(crate) struct Shell {
    messages: SyncSender<Message>,
    answers: Receiver<Vec<Effect>>,
    threads: [JoinHandle<()>; 2],
    clock: Clock,
    drawn: u64,
}

impl Shell {
    /// Starts the threads on a store.
    pub(crate) fn open(store: &Arc<Store>) -> Result<Self, Fault> {
        let clock = Clock(now());
        let (messages, inbox) = sync_channel(QUEUE_MAX);
        let (orders, flushes) = sync_channel(PENDING_MAX + 1);
        let (answered, answers) = sync_channel(PENDING_MAX + 1);
        let turn_store = store.clone();
        let turn_thread = thread::Builder::new().name("turn".to_owned()).spawn(move || {
            if let Err(error) = run_turns(&turn_store, clock, &inbox, &orders) {
                eprintln!("the turns have ended: {error}");
            }
        })?;
        let (commit_store, committed) = (store.clone(), messages.clone());
        let commit_thread = thread::Builder::new().name("commit".to_owned()).spawn(move || {
            if let Err(error) = commit_turns(&commit_store, &flushes, &answered, &committed) {
                eprintln!("the commits have ended: {error}");
            }
        })?;
        Ok(Self { messages, answers, threads: [turn_thread, commit_thread], clock, drawn: 0 })
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
        let input = Box::new(Input::Called { call, idempotency: None });
        self.messages.send(Message::Input(input)).map_err(|_| "the turns have ended")?;
        Ok(())
    }

    fn call(&mut self, element: ElementId, charge: u64) -> Call {
        let at = self.clock.at();
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
            deadline_at: at.after_ms(DEADLINE_DEFAULT_MS),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mixed(self.drawn)
    }

    /// Ends both threads after what was taken is durable.
    pub(crate) fn close(self) -> Result<(), Fault> {
        self.messages.send(Message::Stop).map_err(|_| "the turns have ended")?;
        for thread in self.threads {
            thread.join().map_err(|_| "a thread of the shell panicked")?;
        }
        Ok(())
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

fn run_turns(
    store: &Store,
    clock: Clock,
    inbox: &Receiver<Message>,
    orders: &SyncSender<Flush>,
) -> Result<(), Fault> {
    let setting = setting()?;
    let machine = Machine::new(Arc::new(|_| false)).map_err(|error| error.to_string())?;
    let mut hot = Hot::new(store)?;
    let (mut turns, _) = Turns::load(commands::find, &hot, KEEP_MS)?;
    let mut stopping = false;
    loop {
        let idle = !turns.has_work(clock.at()) || hot.pending() >= PENDING_MAX;
        if stopping && idle && hot.pending() == 0 {
            return Ok(());
        }
        let first = if idle { Some(inbox.recv()?) } else { None };
        for message in first.into_iter().chain(inbox.try_iter()) {
            match message {
                Message::Input(input) => {
                    turns.offer(*input, false).map_err(|problem| problem.says)?;
                }
                Message::Committed => hot.committed(store, 1)?,
                Message::Stop => stopping = true,
            }
        }
        if hot.pending() < PENDING_MAX
            && let Some(done) = turns.run(clock.at(), &hot, &machine, &setting)
        {
            let changes = Arc::new(done.changes);
            hot.push(changes.clone());
            orders
                .send(Flush { changes, effects: done.effects })
                .map_err(|_| "nobody commits any more")?;
        }
    }
}

/// Ends when there are no turns any more.
fn commit_turns(
    store: &Store,
    flushes: &Receiver<Flush>,
    answered: &SyncSender<Vec<Effect>>,
    committed: &SyncSender<Message>,
) -> Result<(), Fault> {
    while let Ok(Flush { changes, effects }) = flushes.recv() {
        store.commit(&changes)?;
        answered.send(effects).map_err(|_| "nobody waits for answers any more")?;
        committed.send(Message::Committed).map_err(|_| "the turns have ended")?;
    }
    Ok(())
}
