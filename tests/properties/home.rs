//! One node, driven in memory: a store whose files are in memory, the hot state in front of it, the
//! turns, and a machine without a fuse. No threads, no clock, no network: time goes on by a
//! millisecond with each turn.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::thread;

use freehold::commands;
use freehold::model::{
    AccountId, Budget, Call, Caller, Changes, Code, Contact, Element, ElementId, Event,
    Incarnation, Job, JobId, Json, Key, LogId, Name, Need, Node, Problem, Root, Row, ServerId,
    Snapshot, Timestamp, WorldId,
};
use freehold::script::Machine;
use freehold::step::Setting;
use freehold::store::{Hot, Place, Store, Which};
use freehold::trust::{Inception, KeyPair, Record, RecordKind};
use freehold::turn::{Done, Effect, Input, Turns};
use jiff::tz::TimeZone;
use proptest::prelude::{ProptestConfig, Strategy};
use proptest::test_runner::TestRunner;
use redb::Database;
use redb::backends::InMemoryBackend;
use serde::de::DeserializeOwned;
use serde_json::json;

/// When the node is made.
const BEGUN_MS: u64 = 1_700_000_000_000;
/// How long making it takes at most.
const FOUNDED_MS: u64 = 1_000;
/// Time that a call has.
const DEADLINE_MS: u64 = 30_000;
/// How long outcomes are kept: longer than any test.
const KEEP_MS: u64 = 86_400_000;
/// Scripts inside scripts want room, as on the turns' own thread.
const STACK: usize = 64 * 1024 * 1024;
/// Smaller inputs that are tried when a property does not hold.
const SHRINKS_MAX: u32 = 256;

/// What is stored, by key.
pub(crate) type Rows = BTreeMap<Key, Row>;

/// How a call ended.
#[derive(PartialEq, Debug)]
pub(crate) struct Ended {
    /// What it gave back, or why nothing.
    pub(crate) result: Result<Json, Problem>,
    /// What its actions logged, and how they answered, in order.
    pub(crate) trace: Vec<String>,
}

impl Ended {
    /// What a call gave back that was done.
    pub(crate) fn answer(self) -> Json {
        match self.result {
            Ok(json) => json,
            Err(problem) => panic!("it was not done: {problem:?} {:#?}", self.trace),
        }
    }

    /// Why a call was not done.
    pub(crate) fn problem(self) -> Problem {
        match self.result {
            Ok(json) => panic!("it was done: {json} {:#?}", self.trace),
            Err(problem) => problem,
        }
    }
}

/// A node with everything that it holds in memory.
pub(crate) struct Home<'m> {
    machine: &'m Machine,
    setting: &'m Setting,
    store: Store,
    hot: Hot,
    turns: Turns,
    now: Timestamp,
    calls: u64,
    results: BTreeMap<JobId, Result<Json, Problem>>,
    traces: BTreeMap<JobId, Vec<String>>,
    logs: BTreeMap<LogId, u64>,
    told: Vec<(ServerId, u64)>,
    asked: Vec<(JobId, Need)>,
}

impl<'m> Home<'m> {
    /// A node that holds alice, her empty garden, and bob.
    pub(crate) fn new(machine: &'m Machine) -> Self {
        let founder: &'static Founder = &FOUNDER;
        let now = Timestamp::from_ms(BEGUN_MS + FOUNDED_MS);
        Self::holding(machine, &founder.setting, &founder.rows, now)
    }

    fn holding(machine: &'m Machine, setting: &'m Setting, rows: &Rows, now: Timestamp) -> Self {
        let store = Store::open(Memory, Arc::new(|_: ServerId| Contact::default())).unwrap();
        let changes: Changes =
            rows.iter().map(|(key, row)| (key.clone(), Some(row.clone()))).collect();
        store.commit(&changes).unwrap();
        let hot = Hot::new(&store).unwrap();
        let (turns, _) = Turns::load(commands::find, &hot, &setting.keys, KEEP_MS).unwrap();
        Self {
            machine,
            setting,
            store,
            hot,
            turns,
            now,
            calls: 0,
            results: BTreeMap::new(),
            traces: BTreeMap::new(),
            logs: BTreeMap::new(),
            told: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// The same node once more, on files of its own.
    pub(crate) fn copy(&self) -> Self {
        self.copy_for(self.machine)
    }

    /// The same node once more, on files and with a machine of its own.
    pub(crate) fn copy_for(&self, machine: &'m Machine) -> Self {
        let copy = Self::holding(machine, self.setting, &self.every_row(), self.now);
        Self { calls: self.calls, ..copy }
    }

    /// Starts the turns again, from what is stored. Only what waits in the queue is lost.
    pub(crate) fn restart(&mut self) {
        self.hot = Hot::new(&self.store).unwrap();
        let loaded = Turns::load(commands::find, &self.hot, &self.setting.keys, KEEP_MS);
        self.turns = loaded.unwrap().0;
    }

    // Calls.

    /// A call of alice's that was not made yet.
    pub(crate) fn call(&mut self, command: &str, args: Json) -> Call {
        let caller = Caller::Local { account: Some(FOUNDER.alice), operator: false };
        self.call_by(caller, command, args)
    }

    fn call_by(&mut self, caller: Caller, command: &str, args: Json) -> Call {
        self.calls += 1;
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.calls.to_be_bytes());
        let id = JobId::at(self.now, random);
        Call {
            id,
            command: command.to_owned(),
            caller,
            args,
            world: None,
            meta: Json::Null,
            reply_to: None,
            deadline_at: self.now.after_ms(DEADLINE_MS),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        }
    }

    /// Lets calls wait for the next turn.
    pub(crate) fn offer(&mut self, calls: Vec<Call>) {
        for call in calls {
            self.turns.offer(Input::Called { call, idempotency: None }, false).unwrap();
        }
    }

    /// Runs a turn and commits it; none where there is nothing to do.
    pub(crate) fn turn(&mut self) -> Option<Done> {
        self.now = self.now.after_ms(1);
        let done = self.turns.run(self.now, &self.hot, self.machine, self.setting)?;
        let changes = Arc::new(done.changes.clone());
        self.hot.push(changes.clone());
        self.store.commit(&changes).unwrap();
        self.hot.committed(&self.store, 1).unwrap();
        self.note(&done);
        Some(done)
    }

    fn note(&mut self, done: &Done) {
        for effect in &done.effects {
            match effect {
                Effect::End(job, result) => {
                    self.results.insert(*job, result.clone());
                }
                Effect::Show(events) => self.count(events),
                Effect::Deliver(sent) => self.told.push((sent.tell.server, sent.number)),
                Effect::Ask { job, needs, .. } => {
                    self.asked.extend(needs.iter().map(|need| (*job, need.clone())));
                }
                _ => {}
            }
        }
        for change in done.changes.values() {
            match change {
                Some(Row::Turn(turn)) => {
                    let jobs = turn.jobs.iter();
                    self.traces.extend(jobs.map(|job| (job.call.id, job.trace.clone())));
                }
                Some(Row::Job(job)) => {
                    self.traces.insert(job.call.id, job.trace.clone());
                }
                _ => {}
            }
        }
    }

    /// Checks that every log counts without gaps, whatever was refused meanwhile.
    fn count(&mut self, events: &[Event]) {
        for event in events {
            for head in event.feeds.iter().map(|feed| feed.head).chain([event.head]) {
                if let Some(before) = self.logs.insert(head.log, head.seq) {
                    assert_eq!(head.seq, before + 1, "a log has a gap before {event:?}");
                }
            }
        }
    }

    /// Makes calls at once, and runs turns until nothing is left to do. How each of them ended.
    pub(crate) fn run(&mut self, calls: Vec<Call>) -> Vec<Ended> {
        let ids: Vec<JobId> = calls.iter().map(|call| call.id).collect();
        self.offer(calls);
        while self.turn().is_some() {}
        ids.into_iter().map(|id| self.ended(id)).collect()
    }

    fn ended(&mut self, id: JobId) -> Ended {
        let result = self.results.remove(&id);
        Ended {
            result: result.unwrap_or_else(|| panic!("the job {id} has not ended")),
            trace: self.traces.remove(&id).unwrap_or_default(),
        }
    }

    /// Nothing that was told other servers can be delivered. How the calls ended that come of it.
    pub(crate) fn lose_what_was_told(&mut self) -> Vec<Ended> {
        self.ended_by(|home| {
            for (server, number) in std::mem::take(&mut home.told) {
                home.hear(Input::Undelivered { server, number, problem: nobody_answers() });
            }
        })
    }

    /// Nobody answers what was asked of other servers. How the calls ended that asked, and those
    /// that come of it.
    pub(crate) fn lose_what_was_asked(&mut self) -> Vec<Ended> {
        self.ended_by(|home| {
            while !home.asked.is_empty() {
                for (job, Need { place, question }) in std::mem::take(&mut home.asked) {
                    let result = Err(nobody_answers());
                    home.hear(Input::Answered { job, place, question, result });
                }
                while home.turn().is_some() {}
            }
        })
    }

    fn hear(&mut self, input: Input) {
        self.turns.offer(input, false).unwrap();
    }

    /// How the calls ended, in the order in which they were made, that nobody waited for while
    /// something was done.
    pub(crate) fn ended_by(&mut self, done: impl FnOnce(&mut Self)) -> Vec<Ended> {
        let known: BTreeSet<JobId> = self.results.keys().copied().collect();
        done(self);
        while self.turn().is_some() {}
        let ids: Vec<JobId> = self.results.keys().copied().collect();
        let new = ids.into_iter().filter(|id| !known.contains(id));
        new.map(|id| self.ended(id)).collect()
    }

    /// Time passes in which nobody calls.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
    }

    /// Alice calls.
    pub(crate) fn say(&mut self, command: &str, args: Json) -> Ended {
        let call = self.call(command, args);
        self.run(vec![call]).remove(0)
    }

    /// The node itself calls.
    pub(crate) fn say_as_node(&mut self, command: &str, args: Json) -> Ended {
        let call = self.call_by(Caller::Node, command, args);
        self.run(vec![call]).remove(0)
    }

    /// Alice calls, and it is done.
    pub(crate) fn done(&mut self, command: &str, args: Json) -> Json {
        self.say(command, args).answer()
    }

    /// Alice makes these calls at once, and all of them are done.
    pub(crate) fn all(&mut self, said: Vec<(&str, Json)>) {
        let calls: Vec<Call> =
            said.into_iter().map(|(command, args)| self.call(command, args)).collect();
        for ended in self.run(calls) {
            ended.answer();
        }
    }

    /// Alice publishes a type.
    pub(crate) fn publish(&mut self, source: &str) {
        self.done("type.publish", json!({"source": source}));
    }

    /// Alice makes an element of her garden.
    pub(crate) fn create(&mut self, element_type: &str, name: &str) -> ElementId {
        id_in(&self.done("element.create", json!({"type": element_type, "name": name})))
    }

    // What is looked at.

    /// Every durable row.
    fn every_row(&self) -> Rows {
        let view = self.store.view().unwrap();
        // The first key there is, and the last.
        let all = [0xff; 16];
        let last = Key::Guest(AccountId::from_bytes(all));
        let rows = view.rows(&Key::Node, &last, usize::MAX).unwrap();
        rows.into_iter().collect()
    }

    /// Every durable row but those that tell how calls ended.
    pub(crate) fn rows(&self) -> Rows {
        let mut rows = self.every_row();
        rows.retain(|key, _| !matches!(key, Key::Turn(_) | Key::Job(_)));
        rows
    }

    /// Every durable job that waited for a turn after the one that made it.
    pub(crate) fn jobs(&self) -> Vec<Arc<Job>> {
        let jobs = self.every_row().into_values().flat_map(|row| match row {
            Row::Job(job) => vec![job],
            Row::Turn(turn) => {
                turn.jobs.iter().filter(|job| job.queued > 0).cloned().map(Arc::new).collect()
            }
            _ => Vec::new(),
        });
        jobs.collect()
    }

    /// The element of the garden with this name, if there is one.
    pub(crate) fn element(&self, name: &str) -> Option<Arc<Element>> {
        let view = self.store.view().unwrap();
        let stored: &dyn Snapshot = &view;
        let id = stored.id_at(Key::ElementName(FOUNDER.garden, name.to_owned())).unwrap()?;
        stored.element(FOUNDER.garden, ElementId::from_bytes(id)).unwrap()
    }

    /// The id of an element that is there.
    pub(crate) fn id(&self, name: &str) -> ElementId {
        self.element(name).unwrap().id
    }

    /// A value of an element that is there; null while it is the default.
    pub(crate) fn value(&self, name: &str, attribute: &str) -> Json {
        self.element(name).unwrap().values.get(attribute).cloned().unwrap_or_default()
    }

    /// Puts rows into the store as if they had always been there.
    pub(crate) fn plant(&mut self, rows: Rows) {
        let changes: Changes = rows.into_iter().map(|(key, row)| (key, Some(row))).collect();
        self.store.commit(&changes).unwrap();
        self.restart();
    }
}

/// Who acts where nobody is named.
pub(crate) fn alice() -> AccountId {
    FOUNDER.alice
}

/// Somebody else of this node.
pub(crate) fn bob() -> AccountId {
    FOUNDER.bob
}

/// Alice's only world.
pub(crate) fn garden() -> WorldId {
    FOUNDER.garden
}

/// What is stored differently, one line for each key.
pub(crate) fn differences(before: &Rows, after: &Rows) -> Vec<String> {
    let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    changed
        .map(|key| format!("{key:?}: {:?} became {:?}", before.get(key), after.get(key)))
        .collect()
}

/// Tries a property with drawn values, each on a copy of a node that was furnished once.
pub(crate) fn holds<S: Strategy>(
    cases: u32,
    strategy: impl FnOnce() -> S + Send,
    furnish: impl FnOnce(&mut Home<'_>) + Send,
    property: impl Fn(Home<'_>, S::Value) + Send,
) {
    on_a_machine(move |machine| {
        let mut home = Home::new(machine);
        furnish(&mut home);
        let config = ProptestConfig {
            failure_persistence: None,
            max_shrink_iters: SHRINKS_MAX,
            ..ProptestConfig::with_cases(cases)
        };
        let held = TestRunner::new(config).run(&strategy(), |value| {
            property(home.copy(), value);
            Ok(())
        });
        if let Err(error) = held {
            panic!("{error}");
        }
    });
}

/// Furnishes nothing: the property makes all that it wants.
pub(crate) fn bare(_: &mut Home<'_>) {}

/// Runs a test on a thread with room for scripts inside scripts.
pub(crate) fn on_a_machine(test: impl FnOnce(&Machine) + Send) {
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(STACK);
        let running = builder.spawn_scoped(scope, move || test(&machine())).unwrap();
        if let Err(says) = running.join() {
            std::panic::resume_unwind(says);
        }
    });
}

/// A machine without a fuse: fuel alone ends every run, so that all runs are the same.
pub(crate) fn machine() -> Machine {
    Machine::new(Arc::new(|_: bool| false)).unwrap()
}

fn nobody_answers() -> Problem {
    Problem::new(Code::PeerUnreachable, "nobody answers there")
}

/// The id in the answer of a command that makes something.
fn id_in<T: DeserializeOwned>(answer: &Json) -> T {
    serde_json::from_value(answer["id"].clone()).unwrap()
}

/// A node as every test finds it. Made once, because keys and signatures are slow.
struct Founder {
    setting: Setting,
    alice: AccountId,
    bob: AccountId,
    garden: WorldId,
    rows: Rows,
}

static FOUNDER: LazyLock<Founder> = LazyLock::new(founder);

fn founder() -> Founder {
    let keys = KeyPair::from_seed(&[1; 32]);
    let name = Name::new("attic").unwrap();
    let recovery_hash = *blake3::hash(&[1; 32]).as_bytes();
    let inception =
        Inception { kind: RecordKind::Server, key: keys.public(), recovery_hash, nonce: [1; 16] };
    let record = Record::first(inception, name.clone(), None);
    let server = record.server_id().unwrap();
    let node = Node {
        server,
        name: name.clone(),
        record: record.sign(&keys),
        recovery_hash,
        incarnation: Incarnation::from_bytes([1; 16]),
        earlier: Vec::new(),
        is_rekeyed: false,
    };
    let setting = Setting {
        us: server,
        keys,
        name,
        recovery_hash,
        time_zone: TimeZone::UTC,
        account: None,
        record_ms: 3_600_000,
        strangers_wait: false,
        limit: freehold::model::Limit::STRANGERS,
    };
    let machine = machine();
    let beginning = Rows::from([(Key::Node, Row::Node(Arc::new(node)))]);
    let mut home = Home::holding(&machine, &setting, &beginning, Timestamp::from_ms(BEGUN_MS));
    let mut done = |command: &str, args: Json| {
        let operator = Caller::Local { account: None, operator: true };
        let call = home.call_by(operator, command, args);
        home.run(vec![call]).remove(0).answer()
    };
    let alice = id_in(&done("account.add", json!({"name": "alice"})));
    let bob = id_in(&done("account.add", json!({"name": "bob"})));
    let garden = id_in(&done("world.add", json!({"name": "alice/garden"})));
    let rows = home.every_row();
    drop(home);
    Founder { setting, alice, bob, garden, rows }
}

/// Files that are gone with the store.
pub(crate) struct Memory;

impl Place for Memory {
    fn open(
        &self,
        which: Which,
        first: &dyn Fn(&Database) -> Result<(), redb::Error>,
    ) -> Result<Database, redb::Error> {
        let backend = InMemoryBackend::new();
        let database = which.builder().create_with_backend(backend).map_err(redb::Error::from)?;
        first(&database)?;
        Ok(database)
    }

    fn remove(&self, _which: Which) -> io::Result<()> {
        Ok(())
    }

    fn keep_aside(&self, _which: Which) -> Option<PathBuf> {
        None
    }
}
