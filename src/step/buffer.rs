//! The buffer: what a step has changed so far, and what it may still use up.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::tz::TimeZone;

use super::{Command, Ended, Halt};
use crate::model::{
    AccountId, ActsFor, Answers, Budget, Call, Change, Changes, Code, Contact, Damaged, ElementId,
    Event, EventKind, JobId, Json, Key, Layered, Limit, Name, Need, Problem, QUESTIONS_MAX, Row,
    ServerId, Snapshot, Tell, Timestamp, WorldId, bytes_of,
};
use crate::script::Machine;
use crate::trust::KeyPair;

/// Runs inside runs at most.
pub(super) const DEPTH_MAX: u32 = 64;
/// Bytes of a job's trace from one run.
const TRACE_BYTES_MAX: usize = 4_096;
/// Bytes of values that one step may write and tell of.
const STEP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows that one step may change.
const CHANGES_MAX: usize = 60_000;

/// Where a step runs: what is the same for all steps of a node.
pub struct Setting {
    /// This server.
    pub us: ServerId,
    /// Its key of today.
    pub keys: KeyPair,
    /// The name it claims.
    pub name: Name,
    /// blake3 of the recovery key.
    pub recovery_hash: [u8; 32],
    /// The time zone of `world.hour`.
    pub time_zone: TimeZone,
    /// The account that acts where none is named.
    pub account: Option<String>,
    /// How long a fetched account record counts as fresh, in milliseconds.
    pub record_ms: u64,
    /// Whether servers that nobody decided about may use nothing yet.
    pub strangers_wait: bool,
    /// What a server may call that has no limit of its own.
    pub limit: Limit,
}

/// An event as a step notes it; the turn gives it its numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Happened {
    /// What sort.
    pub kind: EventKind,
    /// A custom event's name.
    pub name: Option<String>,
    /// Where.
    pub world: WorldId,
    /// To which element.
    pub element: ElementId,
    /// About which attribute.
    pub attribute: Option<String>,
    /// The new value or the data.
    pub value: Json,
    /// The value before.
    pub old: Json,
    /// Who acted, where it was an account of ours.
    pub by: Option<AccountId>,
    /// Whether the public feed carries it.
    pub public: bool,
    /// The list whose feed carries it.
    pub list: Option<Name>,
    /// Whether feeds say only that it happened.
    pub masked: bool,
}

/// An after-event that waits until the outer event has ended.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) world: WorldId,
    pub(super) element: ElementId,
    pub(super) kind: EventKind,
    pub(super) attribute: Option<String>,
    pub(super) data: Json,
}

/// A person's answer to a question of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decided {
    /// Which job.
    pub job: JobId,
    /// The place of the question.
    pub place: String,
    /// Whether it was a yes.
    pub yes: bool,
}

/// A place in the buffer to which it can be rolled back.
#[derive(Clone, Copy)]
pub(super) struct Savepoint {
    undo: usize,
    happened: usize,
    tells: usize,
    sends: usize,
    waiting: usize,
}

/// One call's run.
pub struct Step<'a> {
    pub(super) snapshot: &'a dyn Snapshot,
    pub(super) machine: &'a Machine,
    pub(super) answers: &'a Answers,
    /// Where it runs.
    pub setting: &'a Setting,
    /// What is called.
    pub call: &'a Call,
    /// The time of its first run.
    pub now: Timestamp,
    seed: [u8; 32],
    drawn: u64,
    changes: Changes,
    undo: Vec<(Key, Option<Change>)>,
    /// Bytes of values that it wrote and told of, undone ones too.
    bytes: usize,
    happened: Vec<Happened>,
    stored_events: Vec<Event>,
    tells: Vec<Tell>,
    sends: Vec<Call>,
    errors: Vec<Call>,
    decided: Vec<Decided>,
    trace: Vec<String>,
    traced: usize,
    needs: Vec<Need>,
    asked: BTreeMap<String, u32>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) path: Vec<String>,
    /// The actions that ran last.
    pub(super) recent: VecDeque<String>,
    /// Whose action runs, and in which world: names that it says are looked up from there.
    pub(super) scope: Vec<(AccountId, WorldId)>,
    pub(super) budget: Budget,
    /// Fuel that the run at hand was given.
    pub(super) granted: u64,
    /// Fuel that the runs around it have used so far.
    pub(super) used_outside: u64,
    pub(super) depth: u32,
    pub(super) reading: u32,
    pub(super) end: Option<Halt>,
    pub(super) fresh: bool,
    /// Which element's action wrote an attribute of another in the outermost event at hand.
    pub(super) writers: HashMap<(ElementId, String), ElementId>,
    /// How many neighbours of other owners are being told, one inside another.
    pub(super) beside: u32,
    /// Fuel that neighbours of other owners have used.
    pub(super) beside_fuel: u64,
    /// Whether actions may write only what is their own element's.
    pub(super) own_only: bool,
    /// Whether a script would take too long here.
    pub(super) hurried: bool,
    /// The user of another server for whom it asks and tells.
    pub(super) acts_for: Option<ActsFor>,
}

/// What a step leaves behind.
#[derive(Debug)]
pub struct Left {
    /// How it ended.
    pub ended: Ended,
    /// Rows it changed; empty unless it was done.
    pub changes: Changes,
    /// What happened; empty unless it was done.
    pub happened: Vec<Happened>,
    /// Events of other servers' feeds; empty unless it was done.
    pub stored_events: Vec<Event>,
    /// What is to be told to other servers; empty unless it was done.
    pub tells: Vec<Tell>,
    /// What is to be called here afterwards; empty unless it was done.
    pub sends: Vec<Call>,
    /// What elements are told of questions that failed elsewhere, however it ended.
    pub errors: Vec<Call>,
    /// Questions that a person answered; empty unless it was done.
    pub decided: Vec<Decided>,
    /// What its scripts logged.
    pub trace: Vec<String>,
    /// What is left of its root's budget.
    pub budget: Budget,
}

impl<'a> Step<'a> {
    /// A step that has not begun. `seed` and `now` are those of the job's first run.
    #[expect(
        clippy::too_many_arguments,
        reason = "everything that a step depends on, and nothing hidden"
    )]
    pub fn new(
        snapshot: &'a dyn Snapshot,
        machine: &'a Machine,
        setting: &'a Setting,
        call: &'a Call,
        answers: &'a Answers,
        now: Timestamp,
        seed: [u8; 32],
        only_reading: bool,
    ) -> Self {
        Self {
            snapshot,
            machine,
            answers,
            setting,
            call,
            now,
            seed,
            drawn: 0,
            changes: Changes::new(),
            undo: Vec::new(),
            bytes: 0,
            happened: Vec::new(),
            stored_events: Vec::new(),
            tells: Vec::new(),
            sends: Vec::new(),
            errors: Vec::new(),
            decided: Vec::new(),
            trace: Vec::new(),
            traced: 0,
            needs: Vec::new(),
            asked: BTreeMap::new(),
            waiting: VecDeque::new(),
            path: Vec::new(),
            recent: VecDeque::new(),
            scope: Vec::new(),
            budget: call.root.budget,
            granted: 0,
            used_outside: 0,
            depth: 0,
            reading: u32::from(only_reading),
            end: None,
            fresh: false,
            writers: HashMap::new(),
            beside: 0,
            beside_fuel: 0,
            own_only: false,
            hurried: false,
            acts_for: None,
        }
    }

    /// The same step where no script may run: one that meets a script ends at once.
    pub fn hurried(self) -> Self {
        Self { hurried: true, ..self }
    }

    /// Runs a command to its end.
    pub fn run(mut self, command: Command) -> Left {
        let result = command(&mut self);
        let ended = match (result, self.needs.is_empty()) {
            // A need is sticky, whatever a script did with the error.
            (_, false) => Ended::Needs(std::mem::take(&mut self.needs)),
            (Ok(json), true) => Ended::Done(json),
            (Err(Halt::Problem(problem)), true) => Ended::Problem(problem),
            (Err(Halt::Forward(tell)), true) => Ended::Forward(tell),
            (Err(Halt::Changed), true) => Ended::Changed,
            (Err(Halt::Slow), true) => Ended::Slow,
            (Err(Halt::Needs | Halt::Memory), true) => {
                Ended::Problem(Problem::new(Code::Internal, "the step ended without a reason"))
            }
        };
        // What a call changes here before it is forwarded stays, whatever becomes of it there.
        let done = matches!(ended, Ended::Done(_) | Ended::Forward(_));
        self.share_budget();
        if !done {
            self.rollback(Savepoint { undo: 0, happened: 0, tells: 0, sends: 0, waiting: 0 });
        }
        Left {
            ended,
            changes: self.changes,
            happened: self.happened,
            stored_events: if done { self.stored_events } else { Vec::new() },
            tells: self.tells,
            sends: self.sends,
            errors: self.errors,
            decided: if done { self.decided } else { Vec::new() },
            trace: self.trace,
            budget: self.budget,
        }
    }

    /// Shares what is left of the root's budget among all that follows: together they may do no more
    /// than this step might have done itself.
    fn share_budget(&mut self) {
        let parts = (self.sends.len() + self.errors.len() + self.tells.len()).max(1);
        let (count, events) = (parts as u64, u32::try_from(parts).unwrap_or(u32::MAX));
        let calls = self.sends.iter_mut().chain(self.errors.iter_mut());
        let roots = calls.map(|call| &mut call.root);
        for root in roots.chain(self.tells.iter_mut().map(|tell| &mut tell.root)) {
            root.budget.fuel = self.budget.fuel / count;
            root.budget.events = self.budget.events / events;
        }
    }

    /// An argument of the call; null where it is missing.
    pub fn arg(&self, name: &str) -> &'a Json {
        const NULL: &Json = &Json::Null;
        self.call.args.get(name).unwrap_or(NULL)
    }

    /// A text argument, if it is given.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.arg(name).as_str()
    }

    /// A text argument that the catalog requires.
    pub fn word(&self, name: &str) -> &'a str {
        self.text(name).unwrap_or_default()
    }

    /// The stored state with what the step changed so far laid over it.
    pub fn view(&self) -> Layered<'_> {
        Layered { top: &self.changes, below: self.snapshot }
    }

    /// Puts or removes a row.
    ///
    /// # Errors
    /// Nothing may change here, or too much has.
    pub fn change(&mut self, key: Key, change: Change) -> Result<(), Halt> {
        if self.reading > 0 && !key.is_cached() {
            let says = "nothing may change while a question is answered";
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        if self.changes.len() >= CHANGES_MAX {
            let says = format!("one call may change at most {CHANGES_MAX} things");
            return Err(Problem::new(Code::ScriptBudget, says).into());
        }
        if let Some(Row::Element(element)) = &change {
            self.bytes += element.values.values().map(bytes_of).sum::<usize>();
        }
        if self.bytes > STEP_BYTES_MAX {
            let says = format!("one call may change at most {STEP_BYTES_MAX} bytes");
            return Err(Problem::new(Code::ScriptBudget, says).into());
        }
        let before = self.changes.insert(key.clone(), change);
        self.undo.push((key, before));
        Ok(())
    }

    /// Puts a row.
    ///
    /// # Errors
    /// As [`Step::change`].
    pub fn put(&mut self, key: Key, row: Row) -> Result<(), Halt> {
        self.change(key, Some(row))
    }

    /// Notes an event.
    pub fn happen(&mut self, happened: Happened) {
        self.bytes += bytes_of(&happened.value) + bytes_of(&happened.old);
        self.happened.push(happened);
    }

    /// Notes an event of a feed that we follow, numbered by its home.
    pub fn store_event(&mut self, event: Event) {
        self.stored_events.push(event);
    }

    /// Notes something to be told to another server once this is committed.
    pub fn tell(&mut self, tell: Tell) {
        self.tells.push(tell);
    }

    /// Notes a call to be made here once this is committed.
    pub fn send_here(&mut self, call: Call) {
        self.sends.push(call);
    }

    /// Notes a call that tells an element of a question that failed elsewhere: it is made once this
    /// has ended, however that is.
    pub(super) fn send_error(&mut self, call: Call) {
        if self.errors.len() < QUESTIONS_MAX {
            self.errors.push(call);
        }
    }

    /// Notes that a person answered a question of a job.
    pub fn decide(&mut self, job: JobId, place: String, yes: bool) {
        self.decided.push(Decided { job, place, yes });
    }

    /// Adds a line to the trace, as far as there is room.
    pub fn log(&mut self, line: &str) {
        let room = TRACE_BYTES_MAX.saturating_sub(self.traced);
        let line: String =
            line.char_indices().take_while(|(at, _)| *at < room).map(|(_, c)| c).collect();
        if !line.is_empty() {
            self.traced += line.len() + 1;
            self.trace.push(line);
        }
    }

    /// Random bytes that depend on nothing but the job's seed and the count of those drawn before.
    pub fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut hash = blake3::Hasher::new_keyed(&self.seed);
        hash.update(b"step");
        hash.update(&self.drawn.to_be_bytes());
        self.drawn += 1;
        let mut bytes = [0; N];
        hash.finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Random bits for a script at the present place.
    pub(super) fn random_at(&self, drawn: u64) -> u64 {
        let mut hash = blake3::Hasher::new_keyed(&self.seed);
        hash.update(b"script");
        hash.update(self.path.join("/").as_bytes());
        hash.update(&drawn.to_be_bytes());
        let mut bytes = [0; 8];
        hash.finalize_xof().fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint {
            undo: self.undo.len(),
            happened: self.happened.len(),
            tells: self.tells.len(),
            sends: self.sends.len(),
            waiting: self.waiting.len(),
        }
    }

    pub(super) fn rollback(&mut self, to: Savepoint) {
        while self.undo.len() > to.undo {
            if let Some((key, before)) = self.undo.pop() {
                match before {
                    Some(change) => self.changes.insert(key, change),
                    None => self.changes.remove(&key),
                };
            }
        }
        self.happened.truncate(to.happened);
        self.tells.truncate(to.tells);
        self.sends.truncate(to.sends);
        self.waiting.truncate(to.waiting);
    }

    /// The place of a question that comes up now: the path, what it is about, and its count there.
    pub(super) fn place_of(&mut self, about: &str) -> String {
        let stem = format!("{}|{about}", self.path.join("/"));
        let count = self.asked.entry(stem.clone()).or_default();
        *count += 1;
        format!("{stem}|{count}")
    }

    /// Notes that something must be known first.
    pub(super) fn need(&mut self, need: Need) -> Result<(), Halt> {
        if self.needs.len() + self.answers.len() >= QUESTIONS_MAX {
            let says = format!("one call may ask at most {QUESTIONS_MAX} questions");
            return Err(Problem::new(Code::ScriptBudget, says).into());
        }
        self.needs.push(need);
        Ok(())
    }
}

impl Snapshot for Step<'_> {
    fn row(&self, key: &Key) -> Result<Option<Row>, Damaged> {
        self.view().row(key)
    }

    fn rows(&self, first: &Key, last: &Key, limit: usize) -> Result<Vec<(Key, Row)>, Damaged> {
        self.view().rows(first, last, limit)
    }

    fn last_row(&self, first: &Key, last: &Key) -> Result<Option<(Key, Row)>, Damaged> {
        self.view().last_row(first, last)
    }

    fn contact(&self, server: ServerId) -> Contact {
        self.snapshot.contact(server)
    }

    fn position(&self, account: AccountId) -> Option<Json> {
        self.snapshot.position(account)
    }
}

impl Step<'_> {
    /// What is stored, as it stands now.
    pub fn stored(&self) -> &dyn Snapshot {
        self
    }
}
