//! Turns: a batch of calls, each run as a step, committed as one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::queue::{Class, Queue};
use super::read::check;
use crate::catalog::{self, Mode};
use crate::model::{
    ACTS_MAX, ANSWERS_MAX, AccountId, Answer, Answers, Audience, Call, Caller, Changes, Code,
    Damaged, ElementId, EntryId, Event, EventKind, Feed, Head, InboxEntry, InboxKind, Incarnation,
    Job, JobId, JobStatus, Json, Key, Layered, LogId, Need, Outcome, Problem, Question, ROUNDS_MAX,
    Received, Reply, Root, Row, Sent, ServerId, Snapshot, Tell, Timestamp, Touched, Turn, WorldId,
    bytes_of,
};
use crate::script::{FUEL_PER_MS, Machine};
use crate::step::{Command, Decided, Ended, Happened, Left, Setting, Step};
use crate::trust::KeyPair;

/// Steps in one turn.
pub const STEPS_MAX: usize = 256;
/// Bytes of rows that one turn changes, about.
const BYTES_MAX: usize = 1024 * 1024;
/// Script fuel of one turn: 20 ms.
const FUEL_MAX: u64 = 20 * FUEL_PER_MS;
/// Times that a job begins anew because a question changed.
const ATTEMPTS_MAX: u32 = 3;
/// Questions that wait for one person at most.
const ASKED_MAX: usize = 256;
/// Entries of the inbox that are looked at.
const INBOX_LOOK_MAX: usize = 10_000;

/// Finds a command's function by its name.
pub type Table = fn(&str) -> Option<Command>;

/// Something another server told us, as it came in.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who.
    pub server: ServerId,
    /// The life of its store that counts the number.
    pub incarnation: Incarnation,
    /// Its number in the lane.
    pub number: u64,
    /// A hash of what it says.
    pub digest: [u8; 16],
    /// What it says.
    pub call: Call,
    /// Why it may not run, where the door found a reason.
    pub refused: Option<Problem>,
}

/// What a turn takes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A local call.
    Called {
        /// The call.
        call: Call,
        /// The hash of its idempotency key.
        idempotency: Option<[u8; 16]>,
    },
    /// An item of another server's lane; `ticket` finds its answer.
    Told {
        /// Comes back with the answer.
        ticket: u64,
        /// The item.
        told: Box<Told>,
    },
    /// Another server has stored all our answers below this number.
    Advanced {
        /// Who.
        server: ServerId,
        /// The life that counts.
        incarnation: Incarnation,
        /// The number.
        done_below: u64,
    },
    /// An answer to a question of a started job.
    Answered {
        /// The job.
        job: JobId,
        /// Where it was asked.
        place: String,
        /// What was asked.
        question: Question,
        /// What came back.
        result: Result<Json, Problem>,
    },
    /// Another server has answered what we told it.
    Settled {
        /// Who.
        server: ServerId,
        /// The number in our lane to it.
        number: u64,
        /// Its answer.
        reply: Reply,
    },
    /// The deadline of something told passed before it was handed over.
    Undelivered {
        /// For whom it was.
        server: ServerId,
        /// The number in our lane to it.
        number: u64,
        /// Why it could not be delivered.
        problem: Problem,
    },
    /// The deadline of something told passed after it may have been handed over.
    Unanswered {
        /// Who has it.
        server: ServerId,
        /// The number in our lane to it.
        number: u64,
    },
}

/// An input that there was no room for.
#[derive(Debug)]
pub struct Refused {
    /// The input.
    pub input: Input,
    /// Why it cannot wait.
    pub problem: Problem,
}

/// What another server is answered to an item.
#[derive(Clone, PartialEq, Debug)]
pub enum ItemAnswer {
    /// It was run.
    Done(Reply),
    /// It was taken and has not ended.
    Started,
    /// It cannot be taken at all, and why.
    Fault(Problem),
}

/// What is to be done once the turn is durable.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Tell whoever waits that the job was taken.
    Started(JobId),
    /// Tell whoever waits for the first that it is the second, made before under the same key.
    Repeats(JobId, JobId),
    /// Tell whoever waits how the job ended.
    End(JobId, Result<Json, Problem>),
    /// Answer an item.
    Answer {
        /// What came with the item.
        ticket: u64,
        /// The answer.
        answer: ItemAnswer,
    },
    /// Tell a server the end of an item that was started.
    Report {
        /// Who told the item.
        server: ServerId,
        /// The number in its lane.
        number: u64,
        /// The answer.
        reply: Reply,
    },
    /// Ask these for a job.
    Ask {
        /// The job.
        job: JobId,
        /// Its deadline.
        deadline_at: Timestamp,
        /// For whom.
        caller: Caller,
        /// The cascade it belongs to.
        root: Root,
        /// What.
        needs: Vec<Need>,
    },
    /// Deliver something told.
    Deliver(Sent),
    /// Forget something told: it is settled.
    Forget {
        /// For whom it was.
        server: ServerId,
        /// The number in our lane to it.
        number: u64,
    },
    /// Show these events.
    Show(Vec<Event>),
}

/// What a turn leaves to be committed.
#[derive(Debug)]
pub struct Done {
    /// Its number.
    pub number: u64,
    /// Rows to be put or removed, the turn's own among them.
    pub changes: Changes,
    /// What to do once they are durable, in order.
    pub effects: Vec<Effect>,
    /// Inputs that it took.
    pub steps: usize,
}

/// The node's turns.
///
/// Invariant: what is held here can be loaded again from the state that the next turn runs on.
pub struct Turns {
    pub(super) table: Table,
    pub(super) queue: Queue<Input>,
    ready: VecDeque<JobId>,
    pub(super) gathering: HashMap<JobId, Answers>,
    deadlines: BTreeSet<(Timestamp, JobId)>,
    /// When the next timer is due.
    pub(super) timer: Option<Timestamp>,
    pub(super) heads: HashMap<LogId, u64>,
    incarnation: Incarnation,
    /// The seed of every job's randomness, known to this node alone: keys are made from it.
    pub(super) job_secret: [u8; 32],
    next: u64,
    last_at: Timestamp,
    pub(super) keep_ms: u64,
    pub(super) since_trim: u32,
}

/// A turn while it runs.
pub(super) struct Running<'a> {
    pub(super) turns: &'a mut Turns,
    pub(super) snapshot: &'a dyn Snapshot,
    pub(super) machine: &'a Machine,
    pub(super) setting: &'a Setting,
    pub(super) changes: Changes,
    pub(super) effects: Vec<Effect>,
    pub(super) turn: Turn,
    pub(super) bytes: usize,
    fuel: u64,
    pub(super) steps: usize,
    /// Calls that it left for a later turn.
    pub(super) queued: u64,
}

impl Turns {
    /// The turns of the node with these keys, that go on from `snapshot`, and what its open jobs ask again.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn load(
        table: Table,
        snapshot: &dyn Snapshot,
        keys: &KeyPair,
        keep_ms: u64,
    ) -> Result<(Self, Vec<Effect>), Damaged> {
        let last = snapshot.last_row(&Key::Turn(0), &Key::Turn(u64::MAX))?;
        let (number, last_at) = match last {
            Some((Key::Turn(number), Row::Turn(turn))) => (number, turn.at),
            _ => (0, Timestamp::default()),
        };
        let node = snapshot.node()?.ok_or_else(|| Damaged("Node".to_owned()))?;
        let mut turns = Self {
            table,
            queue: Queue::default(),
            ready: VecDeque::new(),
            gathering: HashMap::new(),
            deadlines: BTreeSet::new(),
            timer: super::timer::first(snapshot)?,
            heads: HashMap::new(),
            incarnation: node.incarnation,
            job_secret: blake3::derive_key("freehold 1 job seed", &keys.seed()),
            next: number + 1,
            last_at,
            keep_ms,
            since_trim: 0,
        };
        let effects = turns.resume(snapshot)?;
        Ok((turns, effects))
    }

    fn resume(&mut self, snapshot: &dyn Snapshot) -> Result<Vec<Effect>, Damaged> {
        let mut effects = Vec::new();
        let mut waiting = Vec::new();
        let (first, last) =
            (Key::Job(JobId::from_bytes([0; 16])), Key::Job(JobId::from_bytes([0xff; 16])));
        for (_, row) in snapshot.rows(&first, &last, usize::MAX)? {
            let Row::Job(job) = row else { continue };
            let id = job.call.id;
            match &job.status {
                JobStatus::Waiting => waiting.push((job.queued, id)),
                JobStatus::Asking { needs } => {
                    self.deadlines.insert((job.call.deadline_at, id));
                    effects.push(ask(&job.call, needs.clone()));
                }
                JobStatus::Told { .. } | JobStatus::Finished { .. } => {}
            }
        }
        waiting.sort_unstable();
        self.ready.extend(waiting.into_iter().map(|(_, id)| id));
        Ok(effects)
    }

    /// Lets an input wait for the next turn.
    ///
    /// # Errors
    /// The queue is full.
    pub fn offer(&mut self, input: Input, listed: bool) -> Result<(), Box<Refused>> {
        let (class, server, account) = match &input {
            Input::Called { call, .. } => match &call.caller {
                Caller::Local { account, .. } => (Class::Own, None, *account),
                Caller::Node => (Class::Node, None, None),
                Caller::Remote { server, .. } => (Class::Public, Some(*server), None),
            },
            Input::Told { told, .. } => {
                let class = if listed { Class::Protected } else { Class::Public };
                (class, Some(told.server), None)
            }
            Input::Advanced { .. }
            | Input::Answered { .. }
            | Input::Settled { .. }
            | Input::Undelivered { .. }
            | Input::Unanswered { .. } => (Class::Node, None, None),
        };
        let pushed = self.queue.push(class, server, account, input);
        pushed.map_err(|(input, problem)| Box::new(Refused { input, problem }))
    }

    /// Takes back what waits, where the turns cannot go on.
    pub fn drain(&mut self) -> Vec<Input> {
        std::iter::from_fn(|| self.queue.pop()).collect()
    }

    /// When the next turn is due without any input: at the first deadline of a job that asks, or
    /// the first timer.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at).into_iter().chain(self.timer).min()
    }

    /// How many inputs and stored jobs wait for a turn.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.ready.len()
    }

    /// Whether somebody's input waits; what is stored can wait for the next start.
    pub fn has_inputs(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a turn would find something to do at `now`.
    pub fn has_work(&self, now: Timestamp) -> bool {
        !self.queue.is_empty()
            || !self.ready.is_empty()
            || self.deadline().is_some_and(|at| at <= now)
    }

    /// Runs one turn; none where there is nothing to do.
    pub fn run(
        &mut self,
        clock: Timestamp,
        snapshot: &dyn Snapshot,
        machine: &Machine,
        setting: &Setting,
    ) -> Option<Done> {
        if !self.has_work(clock) {
            return None;
        }
        let at = clock.max(self.last_at);
        let turn = Turn { number: self.next, at, ..Turn::default() };
        let mut running = Running {
            turns: self,
            snapshot,
            machine,
            setting,
            changes: Changes::new(),
            effects: Vec::new(),
            turn,
            bytes: 0,
            fuel: 0,
            steps: 0,
            queued: 0,
        };
        running.take_all();
        Some(running.done())
    }
}

/// What an open job asks.
fn ask(call: &Call, needs: Vec<Need>) -> Effect {
    Effect::Ask {
        job: call.id,
        deadline_at: call.deadline_at,
        caller: call.caller.clone(),
        root: call.root.clone(),
        needs,
    }
}

impl Running<'_> {
    pub(super) fn view(&self) -> Layered<'_> {
        Layered { top: &self.changes, below: self.snapshot }
    }

    fn is_full(&self) -> bool {
        self.steps >= STEPS_MAX || self.bytes >= BYTES_MAX || self.fuel >= FUEL_MAX
    }

    fn take_all(&mut self) {
        self.expire();
        self.fire_timers();
        // In turns, so that neither what waits here nor who calls keeps the other waiting.
        let mut stored_first = true;
        while !self.is_full() {
            let order: [fn(&mut Self) -> bool; 2] = if stored_first {
                [Self::run_stored, Self::take_next]
            } else {
                [Self::take_next, Self::run_stored]
            };
            if !order.into_iter().any(|run| run(self)) {
                break;
            }
            stored_first = !stored_first;
        }
    }

    fn run_stored(&mut self) -> bool {
        let Some(job) = self.turns.ready.pop_front() else { return false };
        self.run_again(job);
        true
    }

    fn take_next(&mut self) -> bool {
        let Some(input) = self.turns.queue.pop() else { return false };
        self.take(input);
        true
    }

    /// Lets a stored job run in this turn or the next.
    pub(super) fn run_later(&mut self, id: JobId) {
        self.turns.ready.push_back(id);
    }

    fn expire(&mut self) {
        let now = self.turn.at;
        while let Some((at, id)) =
            self.turns.deadlines.first().copied().filter(|(at, _)| *at <= now)
        {
            self.turns.deadlines.remove(&(at, id));
            if let Ok(Some(job)) = (&self.view() as &dyn Snapshot).job(id)
                && matches!(job.status, JobStatus::Asking { .. })
            {
                let job = job.as_ref().clone();
                self.finish(job, Err(timed_out()));
            }
        }
    }

    fn take(&mut self, input: Input) {
        self.steps += 1;
        match input {
            Input::Called { call, idempotency } => self.called(call, idempotency),
            Input::Told { ticket, told } => self.told(ticket, *told),
            Input::Advanced { server, incarnation, done_below } => {
                self.advance(server, incarnation, done_below)
            }
            Input::Answered { job, place, question, result } => {
                self.answered(job, place, question, result)
            }
            Input::Settled { server, number, reply } => self.settled(server, number, reply),
            Input::Undelivered { server, number, problem } => {
                self.settled(server, number, Reply { result: Err(problem), touched: Vec::new() });
            }
            Input::Unanswered { server, number } => self.unanswered(server, number),
        }
    }

    fn called(&mut self, call: Call, idempotency: Option<[u8; 16]>) {
        if let Some(key) = idempotency {
            let held = (&self.view() as &dyn Snapshot).id_at(Key::Idempotency(key));
            if let Ok(Some(held)) = held {
                // The caller asks for what it has asked already: it is pointed at that job.
                self.effects.push(Effect::Repeats(call.id, JobId::from_bytes(held)));
                return;
            }
            self.changes.insert(Key::Idempotency(key), Some(Row::Id(*call.id.as_bytes())));
        }
        let job = self.job_for(call);
        self.start(job);
    }

    /// Runs a job for the first time.
    pub(super) fn start(&mut self, job: Job) {
        if let Err(problem) = check(&self.view(), self.setting, &job.call, self.turn.at) {
            self.finish(job, Err(problem));
            return;
        }
        self.note_act(&job.call);
        self.run_job(job);
    }

    /// Notes what a server does for an account of ours, so that its owner can see it.
    fn note_act(&mut self, call: &Call) {
        let (Some(user), Some(server)) = (call.caller.user(), call.caller.server()) else { return };
        let Ok(Some(held)) = (&self.view() as &dyn Snapshot).permission(user.account, server)
        else {
            return;
        };
        let mut noted = held.as_ref().clone();
        let element = call.args.get("element").and_then(Json::as_str).unwrap_or_default();
        noted.used += 1;
        noted.acts.push((self.turn.at, format!("{} {element}", call.command)));
        if noted.acts.len() > ACTS_MAX {
            noted.acts.remove(0);
        }
        let key = Key::Permission(user.account, server);
        self.changes.insert(key, Some(Row::Permission(Arc::new(noted))));
    }

    fn run_again(&mut self, id: JobId) {
        self.steps += 1;
        if let Ok(Some(job)) = (&self.view() as &dyn Snapshot).job(id)
            && matches!(job.status, JobStatus::Waiting)
        {
            // It needs a row of its own again only if it does not end here.
            self.changes.insert(Key::Job(id), None);
            let status = JobStatus::Asking { needs: Vec::new() };
            let mut job = Job { status, ..job.as_ref().clone() };
            // Its time begins now: how long it waited, over a restart too, was not its own.
            let deadline_at = self.turn.at.after_ms(crate::model::DEADLINE_DEFAULT_MS);
            job.call.deadline_at = job.call.deadline_at.max(deadline_at);
            self.run_once_more(job);
        }
    }

    /// Runs a job that has waited: what its caller may do can have changed since.
    fn run_once_more(&mut self, job: Job) {
        let may = check(&self.view(), self.setting, &job.call, self.turn.at);
        match may {
            Ok(()) => self.run_job(job),
            Err(problem) => self.finish(job, Err(problem)),
        }
    }

    fn run_job(&mut self, mut job: Job) {
        if job.call.deadline_at <= self.turn.at {
            self.finish(job, Err(timed_out()));
            return;
        }
        let Some(command) = (self.turns.table)(&job.call.command) else {
            let says = format!("there is no command '{}'", job.call.command);
            self.finish(job, Err(Problem::new(Code::UnknownCommand, says)));
            return;
        };
        loop {
            let left = self.run_step(&job, command);
            self.fuel += job.call.root.budget.fuel.saturating_sub(left.budget.fuel);
            job.trace.clone_from(&left.trace);
            match left.ended.clone() {
                Ended::Done(json) => {
                    self.queue_errors(&left.errors);
                    self.apply(&mut job, left);
                    self.finish(job, Ok(json));
                }
                Ended::Problem(problem) => {
                    self.queue_errors(&left.errors);
                    self.finish(job, Err(problem));
                }
                Ended::Needs(needs) => self.ask(job, needs),
                Ended::Forward(tell) => {
                    self.apply(&mut job, left);
                    self.forward(job, *tell);
                }
                Ended::Slow => {
                    let says = "the step ended without a reason";
                    self.finish(job, Err(Problem::new(Code::Internal, says)));
                }
                Ended::Changed => {
                    job.attempts += 1;
                    job.answers.clear();
                    if job.attempts < ATTEMPTS_MAX {
                        continue;
                    }
                    self.finish(job, Err(Problem::new(Code::Conflict, "changed while asking")));
                }
            }
            return;
        }
    }

    fn run_step(&self, job: &Job, command: Command) -> Left {
        let view = self.view();
        let reading =
            catalog::find(&job.call.command).is_some_and(|command| command.mode == Mode::Read);
        let step = Step::new(
            &view,
            self.machine,
            self.setting,
            &job.call,
            &job.answers,
            job.started_at,
            job.seed,
            reading,
        );
        step.run(command)
    }

    /// What elements hear of questions that failed elsewhere survives a step that failed.
    fn queue_errors(&mut self, errors: &[Call]) {
        for call in errors {
            self.queue_job(call.clone());
        }
    }

    fn apply(&mut self, job: &mut Job, left: Left) {
        self.bytes += left.changes.len() * 256;
        self.end_cancelled(&left.changes);
        self.changes.extend(left.changes);
        for happened in left.happened {
            let event = self.number(happened);
            self.bytes += 300 + bytes_of(&event.value) + bytes_of(&event.old);
            job.touched.extend(touched(&event, &job.call.caller));
            self.turn.events.push(event);
        }
        for event in left.stored_events {
            self.mark(event.head);
            self.turn.events.push(event);
        }
        for tell in left.tells {
            self.tell(tell);
        }
        for call in left.sends {
            self.queue_job(call);
        }
        for Decided { job, place, yes } in left.decided {
            self.decided(job, place, yes);
        }
    }

    /// Tells who waits for a job that a call ended.
    fn end_cancelled(&mut self, changes: &Changes) {
        let (first, last) =
            (Key::Job(JobId::from_bytes([0; 16])), Key::Job(JobId::from_bytes([0xff; 16])));
        for row in changes.range(first..=last).filter_map(|(_, row)| row.as_ref()) {
            if let Row::Job(job) = row
                && let Some(result) = job.result()
            {
                self.effects.push(Effect::End(job.call.id, result));
            }
        }
    }

    /// A person answered a question of a job.
    fn decided(&mut self, id: JobId, place: String, yes: bool) {
        let Ok(Some(job)) = (&self.view() as &dyn Snapshot).job(id) else { return };
        let JobStatus::Asking { needs } = &job.status else { return };
        let Some(need) = needs.iter().find(|need| need.place == place) else { return };
        self.answered(id, place, need.question.clone(), Ok(Json::Bool(yes)));
    }

    /// Gives an event its numbers: in the home's own log, and in the feeds that carry it.
    fn number(&mut self, happened: Happened) -> Event {
        let head = self.next_in(happened.world, &Audience::Home);
        let mut feeds = Vec::new();
        let audiences = happened.public.then_some(Audience::Public).into_iter();
        for audience in audiences.chain(happened.list.map(Audience::List)) {
            let head = self.next_in(happened.world, &audience);
            feeds.push(Feed { audience, head });
        }
        Event {
            head,
            feeds,
            kind: happened.kind,
            name: happened.name,
            world: happened.world,
            element: happened.element,
            attribute: happened.attribute,
            value: happened.value,
            old: happened.old,
            origin: self.setting.us,
            by: happened.by,
            at: self.turn.at,
            masked: happened.masked,
        }
    }

    fn next_in(&mut self, world: WorldId, audience: &Audience) -> Head {
        let log = LogId::of(self.turns.incarnation, world, audience);
        let seq = match self.turns.heads.get(&log) {
            Some(seq) => *seq,
            None => match self.view().last_row(&Key::FeedAt(log, 0), &Key::FeedAt(log, u64::MAX)) {
                Ok(Some((Key::FeedAt(_, seq), _))) => seq,
                _ => 0,
            },
        };
        let head = Head { log, seq: seq + 1 };
        self.turns.heads.insert(log, head.seq);
        self.mark(head);
        head
    }

    /// Notes that this turn holds a feed's events up to `head`.
    fn mark(&mut self, head: Head) {
        let number = self.turn.number;
        // One mark a turn and feed is enough: the one for its last event.
        let before = Key::FeedAt(head.log, head.seq.wrapping_sub(1));
        if let Some(Some(Row::At(turn))) = self.changes.get(&before)
            && *turn == number
        {
            self.changes.remove(&before);
        }
        self.changes.insert(Key::FeedAt(head.log, head.seq), Some(Row::At(number)));
    }

    fn ask(&mut self, mut job: Job, needs: Vec<Need>) {
        job.rounds += 1;
        if job.rounds > ROUNDS_MAX {
            let says = format!("it asked other servers more than {ROUNDS_MAX} times in a row");
            self.finish(job, Err(Problem::new(Code::ScriptBudget, says)));
            return;
        }
        if let Some(problem) = self.too_much_asked(&needs) {
            self.finish(job, Err(problem));
            return;
        }
        self.turns.deadlines.insert((job.call.deadline_at, job.call.id));
        self.ask_people(&job, &needs);
        self.effects.push(ask(&job.call, needs.clone()));
        job.status = JobStatus::Asking { needs };
        self.keep_started(job);
    }

    /// Why a person cannot be asked any more, where too much waits for one of them already.
    fn too_much_asked(&self, needs: &[Need]) -> Option<Problem> {
        let owners = needs.iter().filter_map(|need| match &need.question {
            Question::Person { owner, .. } => Some(*owner),
            Question::Ask { .. } | Question::Meet(_) | Question::Find(_) => None,
        });
        let owners: BTreeSet<AccountId> = owners.collect();
        if owners.is_empty() {
            return None;
        }
        let key = |bytes| Key::Inbox(EntryId::from_bytes(bytes));
        let rows = self.view().rows(&key([0; 16]), &key([0xff; 16]), INBOX_LOOK_MAX).ok()?;
        let waits = |owner: AccountId| {
            let theirs = |row: &Row| matches!(row, Row::Inbox(entry) if entry.owner == Some(owner));
            rows.iter().filter(|(_, row)| theirs(row)).count()
        };
        let busy = owners.into_iter().any(|owner| waits(owner) >= ASKED_MAX);
        busy.then(|| {
            let says = format!("{ASKED_MAX} questions wait for that person already");
            Problem::new(Code::Busy, says).with("retry_after_ms", 60_000)
        })
    }

    /// Puts what people are asked into their inbox.
    fn ask_people(&mut self, job: &Job, needs: &[Need]) {
        for need in needs {
            let Question::Person { owner, asks, about } = &need.question else { continue };
            let Ok(list) = crate::model::Name::new("question") else { continue };
            let id = EntryId::of_question(job.call.id, &need.place);
            let entry = InboxEntry {
                id,
                kind: InboxKind::Question,
                from: self.setting.us,
                asks: asks.clone(),
                list,
                protection: Vec::new(),
                since: self.turn.at,
                owner: Some(*owner),
                waits: Some((job.call.id, need.place.clone())),
                later_until: None,
            };
            self.changes.insert(Key::Inbox(id), Some(Row::Inbox(Arc::new(entry))));
            if let Some((world, element)) = *about {
                self.show_question(id, *owner, asks, world, element);
            }
        }
    }

    /// Lets those who follow what happens here see that somebody is asked.
    fn show_question(
        &mut self,
        entry: EntryId,
        owner: AccountId,
        asks: &str,
        world: WorldId,
        element: ElementId,
    ) {
        let event = self.number(Happened {
            kind: EventKind::Question,
            name: None,
            world,
            element,
            attribute: None,
            value: serde_json::json!({"entry": entry, "asks": asks, "owner": owner}),
            old: Json::Null,
            by: None,
            public: false,
            list: None,
            masked: false,
        });
        self.turn.events.push(event);
    }

    /// Takes back what people were asked for a job that ends.
    pub(super) fn forget_people(&mut self, job: &Job) {
        for need in job.needs() {
            if matches!(need.question, Question::Person { .. }) {
                self.changes
                    .insert(Key::Inbox(EntryId::of_question(job.call.id, &need.place)), None);
            }
        }
    }

    pub(super) fn keep_started(&mut self, job: Job) {
        self.effects.push(Effect::Started(job.call.id));
        self.bytes += 512;
        self.changes.insert(Key::Job(job.call.id), Some(Row::Job(Arc::new(job))));
    }

    fn answered(
        &mut self,
        id: JobId,
        place: String,
        question: Question,
        result: Result<Json, Problem>,
    ) {
        let Ok(Some(job)) = (&self.view() as &dyn Snapshot).job(id) else { return };
        let JobStatus::Asking { needs } = &job.status else { return };
        if !needs.iter().any(|need| need.place == place && need.question == question) {
            return;
        }
        let gathered = self.turns.gathering.entry(id).or_default();
        gathered.insert(place, Answer { question, result });
        if !needs.iter().all(|need| gathered.contains_key(&need.place)) {
            return;
        }
        let gathered = self.turns.gathering.remove(&id).unwrap_or_default();
        self.turns.deadlines.remove(&(job.call.deadline_at, id));
        let mut job = job.as_ref().clone();
        job.answers.extend(gathered);
        let bytes: usize = job
            .answers
            .values()
            .map(|answer| answer.result.as_ref().map_or(0, |json| json.to_string().len()))
            .sum();
        if bytes > ANSWERS_MAX {
            let says = format!("the answers of other servers are larger than {ANSWERS_MAX} bytes");
            self.finish(job, Err(Problem::new(Code::ScriptBudget, says)));
            return;
        }
        self.run_once_more(job);
    }

    fn forward(&mut self, mut job: Job, tell: Tell) {
        let server = tell.server;
        let number = self.tell(tell);
        job.status = JobStatus::Told { server, number, unknown: false };
        self.keep_started(job);
    }

    /// Gives something told its number in the server's lane.
    pub(super) fn tell(&mut self, tell: Tell) -> u64 {
        let server = tell.server;
        let mut outbox = match (&self.view() as &dyn Snapshot).outbox(server) {
            Ok(Some(outbox)) => outbox.as_ref().clone(),
            Ok(None) | Err(_) => crate::model::Outbox::default(),
        };
        let number = outbox.push(self.turn.number);
        self.changes.insert(Key::Outbox(server), Some(Row::Outbox(Arc::new(outbox))));
        let sent = Sent { number, tell };
        self.bytes += 512 + bytes_of(&sent.tell.args);
        self.effects.push(Effect::Deliver(sent.clone()));
        self.turn.sent.push(sent);
        number
    }

    fn done(mut self) -> Done {
        self.trim();
        self.note_timers();
        let number = self.turn.number;
        if !self.turn.events.is_empty() {
            // Before anybody is answered, so that whoever was answered has been shown what happened.
            self.effects.insert(0, Effect::Show(self.turn.events.clone()));
        }
        self.turns.last_at = self.turn.at;
        let nothing = self.changes.is_empty()
            && self.turn.jobs.is_empty()
            && self.turn.received.is_empty()
            && self.turn.sent.is_empty();
        if !nothing {
            self.turns.next += 1;
            self.changes.insert(Key::Turn(number), Some(Row::Turn(Arc::new(self.turn))));
        }
        Done { number, changes: self.changes, effects: self.effects, steps: self.steps }
    }
}

pub(super) fn timed_out() -> Problem {
    Problem::new(Code::TimedOut, "the deadline passed before it was done")
        .hint("give it more time with --timeout")
}

/// What of an event another server that caused it may see.
fn touched(event: &Event, caller: &Caller) -> Option<Touched> {
    let Caller::Remote { presented, .. } = caller else { return None };
    let attribute = event.attribute.clone()?;
    let listed = event.feeds.iter().find(|feed| match &feed.audience {
        Audience::List(list) => presented.iter().any(|shown| shown.list == list.key()),
        Audience::Public | Audience::Home => false,
    });
    let public = event.feeds.iter().find(|feed| feed.audience == Audience::Public);
    let head = listed.or(public)?.head;
    Some(Touched { world: event.world, element: event.element, attribute, head })
}

/// How a job that ended with `result` ended.
pub(super) fn outcome_of(result: &Result<Json, Problem>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(problem) => Outcome::of(problem),
    }
}

/// An item of a lane as this turn took it.
pub(super) fn received(told: &Told) -> Received {
    Received { server: told.server, number: told.number, digest: told.digest, job: told.call.id }
}
