//! The node's turns and commits without its doors: a thread runs turn n + 1 on what turn n left
//! while another flushes n, channels with bounds between them, answers only after the commit.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Turns that wait to be flushed. All that wait go into one commit.
const PENDING_MAX: usize = 8;
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

/// A turn that has run and is not durable.
struct Turned {
    changes: Arc<Changes>,
    effects: Vec<Effect>,
}

/// The threads, and the ends of the channels that callers have.
pub(crate) struct Shell {
    calls: SyncSender<Call>,
    answers: Receiver<Vec<Effect>>,
    threads: [JoinHandle<()>; 2],
    clock: Clock,
    drawn: u64,
}

impl Shell {
    /// Starts the threads on a store.
    pub(crate) fn open(store: &Arc<Store>) -> Result<Self, Fault> {
        let clock = Clock(now());
        let (calls, offered) = sync_channel(QUEUE_MAX);
        let (turned, waiting) = sync_channel(PENDING_MAX);
        let (answered, answers) = sync_channel(PENDING_MAX);
        let durable = Arc::new(AtomicUsize::new(0));
        let (turn_store, turn_durable) = (store.clone(), durable.clone());
        let turn_thread = thread::Builder::new().name("turn".to_owned()).spawn(move || {
            if let Err(error) = run_turns(&turn_store, clock, &offered, &turned, &turn_durable) {
                eprintln!("the turns have ended: {error}");
            }
        })?;
        let commit_store = store.clone();
        let commit_thread = thread::Builder::new().name("commit".to_owned()).spawn(move || {
            if let Err(error) = commit_turns(&commit_store, &waiting, &answered, &durable) {
                eprintln!("the commits have ended: {error}");
            }
        })?;
        Ok(Self { calls, answers, threads: [turn_thread, commit_thread], clock, drawn: 0 })
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
        self.calls.send(call).map_err(|_| "the turns have ended")?;
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

    /// Lets the threads finish what they have.
    pub(crate) fn close(self) -> Result<(), Fault> {
        let Self { calls, answers, threads, .. } = self;
        drop(calls);
        for thread in threads {
            thread.join().map_err(|_| "a thread of the shell panicked")?;
        }
        drop(answers);
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

/// The thread of the turns. Ends when nobody can call any more.
fn run_turns(
    store: &Store,
    clock: Clock,
    calls: &Receiver<Call>,
    turned: &SyncSender<Turned>,
    durable: &AtomicUsize,
) -> Result<(), Fault> {
    let setting = setting()?;
    let machine = Machine::new(Arc::new(|_| false)).map_err(|error| error.to_string())?;
    let mut hot = Hot::new(store)?;
    let (mut turns, _) = Turns::load(commands::find, &hot, KEEP_MS)?;
    while let Ok(first) = calls.recv() {
        for call in iter::once(first).chain(calls.try_iter()) {
            let input = Input::Called { call, idempotency: None };
            turns.offer(input, false).map_err(|problem| problem.says)?;
        }
        let committed = durable.swap(0, Ordering::AcqRel);
        if committed > 0 {
            hot.committed(store, committed)?;
        }
        while let Some(done) = turns.run(clock.at(), &hot, &machine, &setting) {
            let changes = Arc::new(done.changes);
            hot.push(changes.clone());
            if turned.send(Turned { changes, effects: done.effects }).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The thread of the commits. Ends when there are no turns any more.
fn commit_turns(
    store: &Store,
    waiting: &Receiver<Turned>,
    answered: &SyncSender<Vec<Effect>>,
    durable: &AtomicUsize,
) -> Result<(), Fault> {
    while let Ok(first) = waiting.recv() {
        let more = waiting.try_iter().take(PENDING_MAX);
        let batch: Vec<Turned> = iter::once(first).chain(more).collect();
        match batch.as_slice() {
            [only] => store.commit(&only.changes)?,
            several => store.commit(&merged(several))?,
        }
        durable.fetch_add(batch.len(), Ordering::AcqRel);
        for turned in batch {
            if answered.send(turned.effects).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What several turns change, taken together: the newest change of a row is the one that counts.
fn merged(turns: &[Turned]) -> Changes {
    let mut merged = Changes::new();
    for turned in turns {
        merged.extend(turned.changes.iter().map(|(key, change)| (key.clone(), change.clone())));
    }
    merged
}
