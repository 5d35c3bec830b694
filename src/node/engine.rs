//! Two threads: one runs turns, the other makes them durable. Turn n+1 runs on n's result while n
//! is being flushed; nothing of n+1 leaves before n is durable; if n fails, both are dropped.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{error, info, warn};

use super::clock;
use super::gather::Gather;
use super::home::Mark;
use crate::commands::find_job;
use crate::model::{Changes, Code, Incarnation, JobId, Key, Problem, Row, Snapshot};
use crate::script::Machine;
use crate::step::Setting;
use crate::store::{Hot, Store};
use crate::turn::{Done, Effect, Input, ItemAnswer, QUEUE_MAX, Table, Turns};

/// Turns that are not durable yet.
const PENDING_MAX: usize = 2;
/// Pending turns, and the order to stop.
const ORDERS_MAX: usize = PENDING_MAX + 1;
/// Pause between two tries to leave the read-only state.
const REOPEN_AFTER_MS: u64 = 1_000;
/// Rows that are written, and removed, to see whether the store takes changes: about 200 KiB.
const PROBE_ROWS: u64 = 4_096;
/// The longest sleep of the turns' thread.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// Scripts inside scripts want room; what is not used is never touched.
const STACK: usize = 64 * 1024 * 1024;

/// An input for the turns, and whether it comes from a server on one of our lists.
pub type Offered = (Input, bool);

/// What the turns' thread hears.
enum Message {
    Inputs(Vec<Offered>),
    /// A turn is durable, and how long that took, where it changed anything.
    Committed(Option<Duration>),
    /// A commit of this generation failed: whether these jobs were taken, what is stored decides.
    Failed(u64, Vec<JobId>),
    Stop,
}

/// A turn on its way to the disk.
struct Flush {
    /// Counts the times that the store was opened: what ran on a turn that failed is dropped.
    generation: u64,
    number: u64,
    changes: Arc<Changes>,
    effects: Vec<Effect>,
}

/// What the commit's thread hears.
enum Order {
    Flush(Flush),
    Stop,
}

/// What the rest of the node does with what a turn leaves.
pub trait Outlet: Send + Sync + 'static {
    /// A turn is durable: its effects may be let out.
    fn let_out(&self, changes: &Changes, effects: Vec<Effect>);
    /// The store takes no changes, or does again.
    fn read_only(&self, read_only: bool);
    /// The store was opened again: what it holds decides what is still to be delivered.
    fn reopened(&self);
    /// A call that waited was dropped.
    fn drop_call(&self, job: JobId, problem: Problem);
}

/// Sends inputs to the turns.
#[derive(Clone)]
pub struct Engine {
    messages: SyncSender<Message>,
}

/// The two threads.
pub struct Threads {
    turns: JoinHandle<()>,
    commits: JoinHandle<()>,
}

impl Threads {
    /// Waits until both have ended.
    pub fn join(self) {
        self.turns.join().ok();
        self.commits.join().ok();
    }
}

impl Engine {
    /// Lets inputs that came together wait for a turn.
    ///
    /// # Errors
    /// Too many wait already, or the node is stopping; with the inputs.
    pub fn offer(&self, inputs: Vec<Offered>) -> Result<(), (Vec<Offered>, Problem)> {
        let full =
            || Problem::new(Code::Busy, "too many calls wait already").with("retry_after_ms", 200);
        self.messages.try_send(Message::Inputs(inputs)).map_err(|error| match error {
            TrySendError::Full(Message::Inputs(inputs)) => (inputs, full()),
            TrySendError::Disconnected(Message::Inputs(inputs)) => {
                (inputs, Problem::new(Code::Busy, "the node is stopping"))
            }
            TrySendError::Full(_) | TrySendError::Disconnected(_) => (Vec::new(), full()),
        })
    }

    /// Ends both threads after what was taken is durable.
    pub fn stop(&self) {
        self.messages.send(Message::Stop).ok();
    }
}

/// What the turns run on.
pub struct Ground {
    /// Where they are kept.
    pub store: Arc<Store>,
    /// What every step may know of the node.
    pub setting: Arc<Setting>,
    /// The commands.
    pub table: Table,
    /// How long what is old is kept, in milliseconds.
    pub keep_ms: u64,
    /// This life of the store.
    pub incarnation: Incarnation,
    /// Where the newest durable turn is noted.
    pub mark: Mark,
}

/// Starts both threads.
///
/// # Errors
/// The store is damaged, or a thread cannot be started.
pub fn start(ground: Ground, outlet: Arc<dyn Outlet>) -> Result<(Engine, Threads), Problem> {
    let (messages, inbox) = sync_channel(QUEUE_MAX);
    let (orders, flushes) = sync_channel(ORDERS_MAX);
    let internal = |error: &dyn std::fmt::Display| Problem::new(Code::Internal, error.to_string());
    let machine = Machine::new(clock::fuse()).map_err(|error| internal(&error))?;
    let hot = Hot::new(&ground.store)?;
    let (turns, resumed) = Turns::load(ground.table, &hot, &ground.setting.keys, ground.keep_ms)?;
    let commits = Commits {
        store: ground.store.clone(),
        outlet: outlet.clone(),
        messages: messages.clone(),
        mark: ground.mark,
        incarnation: ground.incarnation,
    };
    let commits = std::thread::Builder::new()
        .name("commit".to_owned())
        .spawn(move || commits.run(&flushes))
        .map_err(|error| internal(&error))?;
    let mut runner = Runner {
        store: ground.store,
        setting: ground.setting,
        table: ground.table,
        keep_ms: ground.keep_ms,
        outlet,
        inbox,
        orders,
        machine,
        turns,
        hot,
        gather: Gather::default(),
        node: None,
        undecided: Vec::new(),
        generation: 0,
        read_only: false,
        stopping: false,
    };
    runner.outlet.let_out(&Changes::new(), resumed);
    let turns = std::thread::Builder::new()
        .name("turn".to_owned())
        .stack_size(STACK)
        .spawn(move || runner.run())
        .map_err(|error| internal(&error))?;
    Ok((Engine { messages }, Threads { turns, commits }))
}

struct Runner {
    store: Arc<Store>,
    setting: Arc<Setting>,
    table: Table,
    keep_ms: u64,
    outlet: Arc<dyn Outlet>,
    inbox: Receiver<Message>,
    orders: SyncSender<Order>,
    machine: Machine,
    turns: Turns,
    hot: Hot,
    gather: Gather,
    /// The row that is written again to see whether the store takes changes.
    node: Option<Arc<crate::model::Node>>,
    undecided: Vec<JobId>,
    generation: u64,
    read_only: bool,
    stopping: bool,
}

impl Runner {
    fn run(&mut self) {
        loop {
            if self.stopping && self.hot.pending() == 0 && !self.turns.has_inputs() {
                break;
            }
            if let Some(wait) = self.wait() {
                match self.inbox.recv_timeout(wait) {
                    Ok(message) => self.hear(message),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.hear(message);
            }
            if !self.read_only && self.wait().is_none() {
                self.turn();
            }
        }
        self.orders.send(Order::Stop).ok();
    }

    /// How long to wait for a message before the next turn; not at all where it can run now.
    fn wait(&self) -> Option<Duration> {
        if self.hot.pending() >= PENDING_MAX {
            return Some(SLEEP_MAX);
        }
        if self.stopping {
            return if self.turns.has_inputs() { None } else { Some(SLEEP_MAX) };
        }
        let now = clock::now();
        if self.turns.has_work(now) {
            return self.gather.wait(self.turns.waiting(), self.hot.pending(), clock::instant());
        }
        let due = self.turns.deadline();
        let sleep = due.map_or(SLEEP_MAX, |at| Duration::from_millis(at.ms_since(now).max(1)));
        Some(sleep.min(SLEEP_MAX))
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Inputs(inputs) => self.take_all(inputs),
            Message::Committed(took) => {
                if let Some(took) = took {
                    self.gather.committed(took, clock::instant());
                }
                if let Err(damaged) = self.hot.committed(&self.store, 1) {
                    error!(%damaged, "the store cannot be read");
                }
            }
            Message::Failed(generation, jobs) if generation == self.generation => self.fail(jobs),
            Message::Failed(_, jobs) => {
                // The store was opened again since.
                self.undecided.extend(jobs);
                self.decide();
            }
            Message::Stop => self.stopping = true,
        }
    }

    fn take_all(&mut self, inputs: Vec<Offered>) {
        for (input, listed) in inputs {
            self.take(input, listed);
        }
    }

    fn take(&mut self, input: Input, listed: bool) {
        if self.read_only {
            self.refuse(&input, read_only());
        } else if self.stopping {
            self.refuse(&input, Problem::new(Code::Busy, "the node is stopping"));
        } else if let Err(refused) = self.turns.offer(input, listed) {
            self.refuse(&refused.input, refused.problem);
        }
    }

    /// Tells whoever waits for an input that it is not taken.
    fn refuse(&self, input: &Input, problem: Problem) {
        match input {
            Input::Called { call, .. } => self.outlet.drop_call(call.id, problem),
            Input::Told { ticket, .. } => {
                self.outlet.let_out(&Changes::new(), vec![again(*ticket)])
            }
            // Their senders offer them again.
            Input::Advanced { .. }
            | Input::Answered { .. }
            | Input::Settled { .. }
            | Input::Undelivered { .. }
            | Input::Unanswered { .. } => {}
        }
    }

    fn turn(&mut self) {
        let begun = clock::instant();
        let done = self.turns.run(clock::now(), &self.hot, &self.machine, &self.setting);
        let Some(Done { number, changes, effects, steps }) = done else { return };
        self.gather.ran(steps, begun.elapsed());
        let changes = Arc::new(changes);
        self.hot.push(changes.clone());
        // The commit's thread holds at most as many as are pending, so there is room.
        if self
            .orders
            .send(Order::Flush(Flush { generation: self.generation, number, changes, effects }))
            .is_err()
        {
            self.stopping = true;
        }
    }

    /// A commit failed: everything that is not durable is dropped, and the store is tried again
    /// until it takes changes.
    fn fail(&mut self, jobs: Vec<JobId>) {
        self.undecided.extend(jobs);
        for input in self.turns.drain() {
            self.refuse(&input, read_only());
        }
        if !self.read_only {
            warn!("the store takes no changes: the node is read-only until it does");
            self.read_only = true;
            self.outlet.read_only(true);
        }
        // At once, since reading too needs the store to be opened again; then from time to time.
        self.try_again();
        let mut next = clock::now().after_ms(REOPEN_AFTER_MS);
        while self.read_only && !self.stopping {
            let pause = Duration::from_millis(next.ms_since(clock::now()));
            if pause.is_zero() {
                self.try_again();
                next = clock::now().after_ms(REOPEN_AFTER_MS);
                continue;
            }
            match self.inbox.recv_timeout(pause) {
                Ok(Message::Inputs(inputs)) => self.take_all(inputs),
                Ok(Message::Stop) => self.stopping = true,
                Ok(Message::Failed(_, jobs)) => self.undecided.extend(jobs),
                Ok(Message::Committed(_)) => {}
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        if self.stopping {
            self.read_only = false;
            self.decide();
        }
    }

    /// Tells who waits for a turn whose commit failed what became of it: what is stored decides.
    fn decide(&mut self) {
        let view = self.store.view();
        for job in std::mem::take(&mut self.undecided) {
            let held = view.as_ref().ok().and_then(|view| find_job(view, job).ok().flatten());
            match held.and_then(|held| held.result()) {
                Some(result) => {
                    self.outlet.let_out(&Changes::new(), vec![Effect::End(job, result)])
                }
                None => self.outlet.drop_call(job, read_only()),
            }
        }
    }

    fn try_again(&mut self) {
        // The old handle must be gone before the file can be opened again.
        if let Ok(Some(node)) = (&self.hot as &dyn Snapshot).node() {
            self.node = Some(node);
        }
        self.hot.release();
        if let Err(error) = self.store.reopen() {
            warn!(%error, "the store cannot be opened yet");
            return;
        }
        self.decide();
        let Some(node) = self.node.clone() else { return };
        if !self.has_room(node) {
            // The try made this handle refuse reads as well: another one reads on.
            self.store.reopen().ok();
            return;
        }
        let reloaded = Hot::new(&self.store).and_then(|hot| {
            let (turns, resumed) = Turns::load(self.table, &hot, &self.setting.keys, self.keep_ms)?;
            Ok((hot, turns, resumed))
        });
        match reloaded {
            Ok((hot, turns, resumed)) => {
                info!("the store takes changes again");
                (self.hot, self.turns, self.read_only) = (hot, turns, false);
                self.generation += 1;
                self.outlet.read_only(false);
                self.outlet.reopened();
                self.outlet.let_out(&Changes::new(), resumed);
            }
            Err(damaged) => error!(%damaged, "the store cannot be read"),
        }
    }
}

impl Runner {
    /// Whether the store takes as much as a turn of some calls writes: with less room it would be
    /// read-only again at once.
    fn has_room(&self, node: Arc<crate::model::Node>) -> bool {
        let key = |number: u64| {
            let mut bytes = [0xff; 16];
            bytes[8..].copy_from_slice(&number.to_be_bytes());
            Key::Idempotency(bytes)
        };
        let filler = Some(Row::Id([0xff; 16]));
        let mut probe = Changes::from([(Key::Node, Some(Row::Node(node)))]);
        probe.extend((0..PROBE_ROWS).map(|number| (key(number), filler.clone())));
        let cleared: Changes = (0..PROBE_ROWS).map(|number| (key(number), None)).collect();
        self.store.commit(&probe).is_ok() && self.store.commit(&cleared).is_ok()
    }
}

/// Asks the sender of an item to send it again later.
fn again(ticket: u64) -> Effect {
    let problem = Problem::new(Code::Busy, "the store takes no changes at present")
        .with("retry_after_ms", 1_000);
    Effect::Answer { ticket, answer: ItemAnswer::Fault(problem) }
}

pub(super) fn read_only() -> Problem {
    Problem::new(Code::ReadOnly, "the store takes no changes at present; reading goes on")
        .hint("is the disk full? The node goes on by itself when there is room")
}

struct Commits {
    store: Arc<Store>,
    outlet: Arc<dyn Outlet>,
    messages: SyncSender<Message>,
    mark: Mark,
    incarnation: Incarnation,
}

impl Commits {
    fn run(self, flushes: &Receiver<Order>) {
        let mut failed = None;
        while let Ok(Order::Flush(flush)) = flushes.recv() {
            if failed == Some(flush.generation) {
                // It ran on the result of a turn that failed.
                let generation = flush.generation;
                let jobs = self.dropped(flush);
                self.messages.send(Message::Failed(generation, jobs)).ok();
                continue;
            }
            if flush.changes.is_empty() {
                self.outlet.let_out(&flush.changes, flush.effects);
                self.messages.send(Message::Committed(None)).ok();
                continue;
            }
            let begun = clock::instant();
            match self.store.commit(&flush.changes) {
                Ok(()) => {
                    self.mark.write(self.incarnation, flush.number);
                    self.messages.send(Message::Committed(Some(begun.elapsed()))).ok();
                    self.outlet.let_out(&flush.changes, flush.effects);
                }
                Err(error) => {
                    error!(error = %std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default(), "a commit failed");
                    failed = Some(flush.generation);
                    let generation = flush.generation;
                    let jobs = self.dropped(flush);
                    self.messages.send(Message::Failed(generation, jobs)).ok();
                }
            }
        }
    }

    /// Items are asked for again; the jobs that somebody waits for are given back.
    fn dropped(&self, flush: Flush) -> Vec<JobId> {
        let mut jobs = Vec::new();
        for effect in flush.effects {
            match effect {
                Effect::End(job, _) | Effect::Started(job) | Effect::Repeats(job, _) => {
                    jobs.push(job);
                }
                Effect::Answer { ticket, .. } => {
                    self.outlet.let_out(&Changes::new(), vec![again(ticket)])
                }
                _ => {}
            }
        }
        jobs
    }
}
