//! One node: the pure rooms, joined as the node's own shell joins them, but in one thread and one
//! effect at a time. What it wants of the world around it, it leaves in `wants`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};

use freehold::commands;
use freehold::model::{
    AccountId, Answers, Budget, Call, Caller, Changes, Code, Contact, DEADLINE_DEFAULT_MS, JobId,
    Json, Key, Limit, Need, Problem, Question, Root, Row, ServerId, Snapshot, Timestamp, Try,
};
use freehold::post::{self, Arrival, AskOut, Door, Inbound, InboundEffect, Outbound};
use freehold::script::Machine;
use freehold::store::{Hot, Outside, Store, View};
use freehold::turn::{self, Done, ItemAnswer, Read, Told, Turns};
use freehold::wire::{
    self, FRAME_HEAD, MessageKind, Report, Request, Response, TellAnswer, encode_request,
    encode_response,
};
use serde_json::json;

use crate::disk::Disk;
use crate::genesis::{FOUNDERS, Founder, KEEP_MS};
use crate::model::{ATTRIBUTES, Records, Values};
use crate::stage::{GRACE_MS, Loss, Stage};

/// Turns that are not durable yet.
const FLUSHING_MAX: usize = 2;

/// A fault that is planted into the shell, for the simulation to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planted {
    /// None.
    Nothing,
    /// What was taken from other servers is not stored, so that a repetition runs again.
    NoReceivedEntries,
    /// What a turn lets out does not wait for its commit.
    AnswersBeforeCommit,
    /// A job is handed the answers to its questions in the order in which they arrive.
    AnswersByOrder,
    /// Nobody is told when a server is there again.
    ForgetsWhoIsBack,
    /// People are taken home as soon as contact is lost.
    NoGrace,
}

/// What a node wants of the world around it.
pub(crate) enum Want {
    /// Dial a server.
    Dial(ServerId),
    /// Send a batch.
    Send {
        /// For whom it is.
        to: ServerId,
        /// Its number here.
        batch: u64,
        /// Its frame.
        bytes: Vec<u8>,
    },
    /// Answer a batch.
    Respond {
        /// How it came.
        channel: Channel,
        /// The answer's frame.
        bytes: Vec<u8>,
    },
    /// Tell the caller that its call was taken.
    Started(JobId),
    /// Tell the caller how its call ended.
    End(JobId, Result<Json, Problem>),
}

impl fmt::Debug for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(server) => write!(f, "Dial({server})"),
            Self::Send { to, batch, bytes } => {
                write!(f, "Send(batch {batch} to {to}, {} bytes)", bytes.len())
            }
            Self::Respond { channel, bytes } => {
                write!(f, "Respond({channel:?}, {} bytes)", bytes.len())
            }
            Self::Started(job) => write!(f, "Started({job})"),
            Self::End(job, result) => write!(f, "End({job}, {result:?})"),
        }
    }
}

/// How a batch came, and so who gets its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    /// The node that sent it.
    pub(crate) peer: usize,
    /// On which connection.
    pub(crate) connection: u64,
    /// The number that the sender gave it.
    pub(crate) batch: u64,
}

/// One thing that a node can do next. Between any two it may fall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// Run a turn.
    Turn,
    /// Make so many of the oldest turns durable.
    Commit(usize),
    /// Carry out one effect of a durable turn.
    Release,
}

/// A node, whether its process runs or not.
pub(crate) struct Node<'m> {
    founder: &'static Founder,
    machine: &'m Machine,
    planted: Planted,
    pinned: Vec<ServerId>,
    keeps_visits: bool,
    /// Its disk.
    pub(crate) disk: Disk,
    /// Counts its processes.
    pub(crate) life: u64,
    /// Its process, if it runs.
    pub(crate) process: Option<Process<'m>>,
}

impl<'m> Node<'m> {
    /// A node that has not started.
    pub(crate) fn new(number: usize, machine: &'m Machine, planted: Planted) -> Self {
        let founder = &FOUNDERS[number];
        let disk = Disk::holding(&founder.image);
        Self {
            founder,
            machine,
            planted,
            pinned: Vec::new(),
            keeps_visits: false,
            disk,
            life: 0,
            process: None,
        }
    }

    /// Lets it keep on dialling the others among these.
    pub(crate) fn pin(&mut self, servers: &[ServerId]) {
        let us = self.server();
        self.pinned = servers.iter().copied().filter(|server| *server != us).collect();
    }

    /// Lets it bring visits up to date at its start, and while others come and go.
    pub(crate) fn keep_visits(&mut self) {
        self.keeps_visits = true;
    }

    /// Who it is.
    pub(crate) fn server(&self) -> ServerId {
        self.founder.setting.us
    }

    /// Somebody there, as a caller.
    pub(crate) fn caller(&self) -> Caller {
        Caller::Local { account: Some(self.founder.account), operator: false }
    }

    /// Starts a process on what the disk holds.
    pub(crate) fn start(&mut self, now: Timestamp) -> Result<(), String> {
        self.life += 1;
        let mut process = Process::load(self.founder, self.machine, self.planted, &self.disk, now)?;
        if self.keeps_visits {
            process.open_stage(now);
        }
        for server in &self.pinned {
            process.post(now, post::Input::Pinned(*server));
        }
        self.process = Some(process);
        Ok(())
    }
}

/// A turn on its way to the disk.
struct Flushing {
    changes: Arc<Changes>,
    effects: Vec<turn::Effect>,
}

/// A question of a job that is out.
struct Asked {
    job: JobId,
    place: String,
    question: Question,
}

/// What a node holds in memory, and loses when it falls.
pub(crate) struct Process<'m> {
    founder: &'static Founder,
    machine: &'m Machine,
    planted: Planted,
    hot: Hot,
    store: Store,
    turns: Turns,
    outbound: Outbound,
    inbound: Inbound,
    flushing: VecDeque<Flushing>,
    released: VecDeque<turn::Effect>,
    asked: BTreeMap<u64, Asked>,
    next_token: u64,
    channels: BTreeMap<u64, Channel>,
    next_channel: u64,
    /// With whom a connection is open, as commands see it.
    contacts: Book,
    /// Who is away, where it keeps visits.
    stage: Option<Stage>,
    /// Calls of its own that have not ended.
    own: BTreeMap<JobId, &'static str>,
    own_calls: u64,
    /// Whether a commit changed where people are; whoever looks sets it back.
    pub(crate) people_changed: bool,
    /// What went wrong with calls of its own.
    pub(crate) troubles: Vec<String>,
    /// What it wants; whoever lets it do something takes it from here.
    pub(crate) wants: Vec<Want>,
}

/// Servers with which a connection is open.
type Book = Arc<Mutex<BTreeSet<ServerId>>>;

/// What commands see of contacts.
fn contacts_in(book: &Book) -> Arc<dyn Outside> {
    let book = book.clone();
    Arc::new(move |server: ServerId| Contact {
        connected: book.lock().unwrap().contains(&server),
        ..Contact::default()
    })
}

fn said<E: Display>(error: E) -> String {
    error.to_string()
}

fn all_servers() -> (ServerId, ServerId) {
    (ServerId::from_bytes([0; 16]), ServerId::from_bytes([0xff; 16]))
}

fn all_jobs() -> (Key, Key) {
    (Key::Job(JobId::from_bytes([0; 16])), Key::Job(JobId::from_bytes([0xff; 16])))
}

impl<'m> Process<'m> {
    fn load(
        founder: &'static Founder,
        machine: &'m Machine,
        planted: Planted,
        disk: &Disk,
        now: Timestamp,
    ) -> Result<Self, String> {
        let contacts = Book::default();
        let store = Store::open(disk.clone(), contacts_in(&contacts)).map_err(said)?;
        let hot = Hot::new(&store).map_err(said)?;
        let (turns, resumed) =
            Turns::load(commands::find, &hot, &founder.setting.keys, KEEP_MS).map_err(said)?;
        let node = (&hot as &dyn Snapshot).node().map_err(said)?.ok_or("the store has no node")?;
        let mut process = Self {
            founder,
            machine,
            planted,
            hot,
            store,
            turns,
            outbound: Outbound::new(node.incarnation),
            inbound: Inbound::default(),
            flushing: VecDeque::new(),
            released: VecDeque::new(),
            asked: BTreeMap::new(),
            next_token: 0,
            channels: BTreeMap::new(),
            next_channel: 0,
            contacts,
            stage: None,
            own: BTreeMap::new(),
            own_calls: 0,
            people_changed: false,
            troubles: Vec::new(),
            wants: Vec::new(),
        };
        process.load_outboxes(now)?;
        for effect in resumed {
            process.release(now, effect);
        }
        Ok(process)
    }

    /// Delivers anew what no answer is stored for.
    fn load_outboxes(&mut self, now: Timestamp) -> Result<(), String> {
        let view = self.store.view().map_err(said)?;
        let (none, all) = all_servers();
        let outboxes = view.rows(&Key::Outbox(none), &Key::Outbox(all), usize::MAX);
        for (key, row) in outboxes.map_err(said)? {
            let (Key::Outbox(server), Row::Outbox(outbox)) = (key, row) else { continue };
            self.post(now, post::Input::Loaded(server, outbox.last));
            for span in &outbox.open {
                let held = (&view as &dyn Snapshot).turn(span.turn).map_err(said)?;
                let held = held.ok_or("a turn that holds something open is gone")?;
                let open = held.sent.iter().filter(|sent| {
                    sent.tell.server == server && (span.first..=span.last).contains(&sent.number)
                });
                for sent in open {
                    self.post(now, post::Input::Told(sent.clone()));
                }
            }
        }
        Ok(())
    }

    // What it does of itself.

    /// What it can do next.
    pub(crate) fn works(&self, now: Timestamp) -> Vec<Work> {
        let mut works: Vec<Work> = (1..=self.flushing.len()).map(Work::Commit).collect();
        if !self.released.is_empty() {
            works.push(Work::Release);
        }
        if self.flushing.len() < FLUSHING_MAX && self.turns.has_work(now) {
            works.push(Work::Turn);
        }
        works
    }

    /// Does one thing.
    pub(crate) fn work(&mut self, now: Timestamp, work: Work) -> Result<(), String> {
        match work {
            Work::Turn => self.turn(now),
            Work::Commit(turns) => return self.commit(turns),
            Work::Release => {
                if let Some(effect) = self.released.pop_front() {
                    self.release(now, effect);
                }
            }
        }
        Ok(())
    }

    /// When something is due without anything happening.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let grace = self.stage.as_ref().and_then(Stage::deadline);
        self.outbound.deadline().into_iter().chain(self.turns.deadline()).chain(grace).min()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        if self.outbound.deadline().is_some_and(|at| at <= now) {
            self.post(now, post::Input::Tick);
        }
        self.end_grace(now);
    }

    fn turn(&mut self, now: Timestamp) {
        let setting = &self.founder.setting;
        let Some(done) = self.turns.run(now, &self.hot, self.machine, setting) else { return };
        let Done { mut changes, mut effects, .. } = done;
        if self.planted == Planted::NoReceivedEntries {
            changes.retain(|key, _| !matches!(key, Key::Lane(_)));
        }
        let changes = Arc::new(changes);
        self.hot.push(changes.clone());
        if self.planted == Planted::AnswersBeforeCommit {
            self.released.extend(effects.drain(..));
        }
        self.flushing.push_back(Flushing { changes, effects });
    }

    fn commit(&mut self, turns: usize) -> Result<(), String> {
        let mut changes = Changes::new();
        for flushing in self.flushing.iter().take(turns) {
            let later = flushing.changes.iter();
            changes.extend(later.map(|(key, change)| (key.clone(), change.clone())));
        }
        if !changes.is_empty() {
            self.store.commit(&changes).map_err(said)?;
        }
        self.people_changed |=
            changes.keys().any(|key| matches!(key, Key::Guest(_) | Key::Presence(_)));
        self.hot.committed(&self.store, turns).map_err(said)?;
        for flushing in self.flushing.drain(..turns) {
            self.released.extend(flushing.effects);
        }
        Ok(())
    }

    // What a turn wants.

    fn release(&mut self, now: Timestamp, effect: turn::Effect) {
        match effect {
            turn::Effect::Started(job) => self.wants.push(Want::Started(job)),
            turn::Effect::Repeats(..) => {}
            turn::Effect::End(job, result) => {
                if let (Some(command), Err(problem)) = (self.own.remove(&job), &result) {
                    self.troubles.push(format!("{command}: {problem:?}"));
                }
                self.wants.push(Want::End(job, result));
            }
            turn::Effect::Answer { ticket, answer } => {
                let answer = match answer {
                    ItemAnswer::Done(reply) => TellAnswer::Done(reply),
                    ItemAnswer::Started => TellAnswer::Started,
                    ItemAnswer::Fault(problem) => TellAnswer::Fault(problem),
                };
                let effect = self.inbound.told(ticket, answer);
                self.come(now, effect);
            }
            turn::Effect::Report { server, number, reply } => {
                self.post(now, post::Input::Ended(server, Report { number, reply }));
            }
            turn::Effect::Ask { job, deadline_at, caller, root, needs } => {
                for Need { place, question } in needs {
                    let asked = Asked { job, place, question };
                    self.ask(now, asked, caller.account(), root.clone(), deadline_at);
                }
            }
            turn::Effect::Deliver(sent) => self.post(now, post::Input::Told(sent)),
            turn::Effect::Forget { server, number } => {
                self.post(now, post::Input::Settled(server, number));
            }
            turn::Effect::Show(_) => {}
        }
    }

    fn ask(
        &mut self,
        now: Timestamp,
        asked: Asked,
        claim: Option<AccountId>,
        root: Root,
        deadline_at: Timestamp,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        let question = asked.question.clone();
        self.asked.insert(token, asked);
        match question {
            Question::Ask { server, command, args, patience_ms, .. } => {
                let patience = patience_ms.map(|ms| now.after_ms(ms));
                let until = patience.map_or(deadline_at, |at| at.min(deadline_at));
                let ask = AskOut { token, command, args, claim, root, until, user: None };
                self.post(now, post::Input::Asked(server, ask));
            }
            Question::Meet(_) | Question::Find(_) | Question::Person { .. } => {
                let says = "everybody here knows everybody";
                self.answer(token, Err(Problem::new(Code::NotFound, says)));
            }
        }
    }

    fn answer(&mut self, token: u64, result: Result<Json, Problem>) {
        let Some(mut asked) = self.asked.remove(&token) else { return };
        if self.planted == Planted::AnswersByOrder {
            let mut earlier = self.asked.range_mut(..token).map(|(_, earlier)| earlier);
            if let Some(earlier) = earlier.find(|earlier| earlier.job == asked.job) {
                std::mem::swap(earlier, &mut asked);
            }
        }
        let Asked { job, place, question } = asked;
        self.offer(turn::Input::Answered { job, place, question, result });
    }

    fn offer(&mut self, input: turn::Input) {
        self.turns.offer(input, true).expect("so few inputs fit into the queue");
    }

    // What the post wants.

    fn post(&mut self, now: Timestamp, input: post::Input) {
        let mut effects = self.outbound.handle(now, input);
        effects.extend(self.outbound.flush(now));
        for effect in effects {
            match effect {
                post::Effect::Dial(server) => self.wants.push(Want::Dial(server)),
                post::Effect::Send(to, batch, content) => {
                    let bytes = encode_request(&Request::Batch(content));
                    self.wants.push(Want::Send { to, batch, bytes });
                }
                post::Effect::GiveAnswer(token, result) => self.answer(token, result),
                post::Effect::Settle(server, number, reply) => {
                    self.offer(turn::Input::Settled { server, number, reply });
                }
                post::Effect::GiveUp(server, number, problem) => {
                    self.offer(turn::Input::Undelivered { server, number, problem });
                }
                post::Effect::CallUnknown(server, number) => {
                    self.offer(turn::Input::Unanswered { server, number });
                }
            }
        }
    }

    fn come(&mut self, now: Timestamp, effect: Option<InboundEffect>) {
        match effect {
            None => {}
            Some(InboundEffect::Run(arrival)) => self.arrive(now, *arrival),
            Some(InboundEffect::Advance(server, incarnation, done_below)) => {
                self.offer(turn::Input::Advanced { server, incarnation, done_below });
            }
            Some(InboundEffect::Report(server, report)) => {
                self.post(now, post::Input::Reported(server, report));
            }
            Some(InboundEffect::Parting(server)) => self.contact_lost(now, server, Loss::Announced),
            Some(InboundEffect::News(..) | InboundEffect::Act(..)) => {}
            Some(InboundEffect::Respond(id, answer)) => {
                if let Some(channel) = self.channels.remove(&id) {
                    let bytes = encode_response(&Response::Batch(answer));
                    self.wants.push(Want::Respond { channel, bytes });
                }
            }
        }
    }

    fn arrive(&mut self, now: Timestamp, arrival: Arrival) {
        let Arrival { ticket, call, told, refused, listed } = arrival;
        let (Some((incarnation, number, digest)), Some(server)) = (told, call.caller.server())
        else {
            let result = match refused {
                Some(problem) => Err(problem),
                None => self.read(now, &call),
            };
            let effect = self.inbound.asked(ticket, result);
            self.come(now, effect);
            return;
        };
        let told = Told { server, incarnation, number, digest, call, refused };
        let input = turn::Input::Told { ticket, told: Box::new(told) };
        if let Err(refused) = self.turns.offer(input, listed) {
            let effect = self.inbound.told(ticket, TellAnswer::Fault(refused.problem));
            self.come(now, effect);
        }
    }

    /// Answers a question of another server, on the state of the last commit.
    fn read(&self, now: Timestamp, call: &Call) -> Result<Json, Problem> {
        let view = self.store.view()?;
        let (machine, setting) = (self.machine, &self.founder.setting);
        let answers = Answers::new();
        match turn::read(commands::find, &view, machine, setting, call, &answers, now, false) {
            Read::Done(result, changes) => {
                self.store.keep(changes);
                result
            }
            Read::Needs(_) | Read::Changed | Read::Slow => {
                Err(Problem::new(Code::Internal, "what is asked here asks nobody"))
            }
        }
    }

    // People in worlds, as the hub sees to them.

    fn open_stage(&mut self, now: Timestamp) {
        let grace_ms = if self.planted == Planted::NoGrace { 0 } else { GRACE_MS };
        self.stage = Some(Stage::new(grace_ms));
        self.call_as_node(now, "node.started", json!({}));
    }

    fn contact_lost(&mut self, now: Timestamp, server: ServerId, loss: Loss) {
        if let Some(stage) = &mut self.stage {
            stage.lost(now, server, loss);
        }
    }

    fn contact_made(&mut self, now: Timestamp, server: ServerId) {
        let Some(stage) = &mut self.stage else { return };
        stage.found(server);
        if self.planted != Planted::ForgetsWhoIsBack {
            self.call_as_node(now, "avatar.back", json!({"server": server.to_string()}));
        }
    }

    fn end_grace(&mut self, now: Timestamp) {
        let Some(stage) = &mut self.stage else { return };
        for (server, loss) in stage.take_ended(now) {
            let announced = loss == Loss::Announced;
            let args = json!({"server": server.to_string(), "announced": announced});
            self.call_as_node(now, "avatar.away", args);
        }
    }

    /// Makes a call of its own; nobody waits for it, but it must be done.
    fn call_as_node(&mut self, now: Timestamp, command: &'static str, args: Json) {
        self.own_calls += 1;
        let mut hash = blake3::Hasher::new();
        hash.update(self.founder.setting.us.as_bytes()).update(&self.own_calls.to_be_bytes());
        hash.update(&now.unix_ms().to_be_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.finalize().as_bytes()[..10]);
        let id = JobId::at(now, random);
        self.own.insert(id, command);
        self.called(Call {
            id,
            command: command.to_owned(),
            caller: Caller::Node,
            args,
            world: None,
            meta: Json::Null,
            reply_to: None,
            deadline_at: now.after_ms(DEADLINE_DEFAULT_MS),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        });
    }

    /// Says to who is connected that it is about to stop.
    pub(crate) fn part(&mut self, now: Timestamp) {
        self.post(now, post::Input::Parting);
    }

    // What the network brings.

    /// Somebody here calls.
    pub(crate) fn called(&mut self, call: Call) {
        self.offer(turn::Input::Called { call, idempotency: None });
    }

    /// A connection is open.
    pub(crate) fn connected(&mut self, now: Timestamp, server: ServerId) {
        self.contact_made(now, server);
        self.post(now, post::Input::Connected(server, String::new()));
        self.contacts.lock().unwrap().insert(server);
    }

    /// No connection is open any more.
    pub(crate) fn disconnected(&mut self, now: Timestamp, peer: usize, server: ServerId) {
        self.inbound.gone(server);
        self.channels.retain(|_, channel| channel.peer != peer);
        self.post(now, post::Input::Disconnected(server));
        self.contacts.lock().unwrap().remove(&server);
        self.contact_lost(now, server, Loss::Silent);
    }

    /// A server could not be reached.
    pub(crate) fn dial_failed(&mut self, now: Timestamp, server: ServerId) {
        let tried =
            Try { address: "/memory/1".to_owned(), reason: "nobody answers there".to_owned() };
        self.post(now, post::Input::DialFailed(server, vec![tried]));
    }

    /// A batch came.
    pub(crate) fn requested(
        &mut self,
        now: Timestamp,
        from: ServerId,
        channel: Channel,
        frame: &[u8],
    ) -> Result<(), String> {
        let (kind, body) = split(frame)?;
        let Request::Batch(batch) = wire::decode_request(kind, body).map_err(said)? else {
            return Err("a request is no batch".to_owned());
        };
        let entry = (&self.hot as &dyn Snapshot).server(from).map_err(said)?;
        let entry = entry.ok_or("a stranger sent a batch")?;
        // Everybody here calls for nobody but themselves.
        let keys = std::collections::HashMap::new();
        let door = Door {
            us: self.founder.setting.us,
            key: &self.founder.key,
            server: from,
            server_key: &entry.key,
            limit: entry.limit.unwrap_or(Limit::STRANGERS),
            keys: &keys,
        };
        let id = self.next_channel;
        self.next_channel += 1;
        self.channels.insert(id, channel);
        for effect in self.inbound.received(now, door, id, *batch) {
            self.come(now, Some(effect));
        }
        Ok(())
    }

    /// A batch of ours was answered.
    pub(crate) fn responded(
        &mut self,
        now: Timestamp,
        from: ServerId,
        batch: u64,
        frame: &[u8],
    ) -> Result<(), String> {
        let (kind, body) = split(frame)?;
        let Response::Batch(answer) = wire::decode_response(kind, body).map_err(said)? else {
            return Err("a response is no answer to a batch".to_owned());
        };
        self.post(now, post::Input::Answered(from, batch, answer));
        Ok(())
    }

    /// A batch of ours was lost, and that was noticed.
    pub(crate) fn lost(&mut self, now: Timestamp, server: ServerId, batch: u64) {
        self.post(now, post::Input::Lost(server, batch));
    }

    // What is looked at from outside.

    /// What is durable.
    pub(crate) fn state(&self) -> Result<View, String> {
        self.store.view().map_err(said)
    }

    /// The durable values of one of its elements.
    pub(crate) fn values(&self, number: usize) -> Result<Values, String> {
        let view = self.store.view().map_err(said)?;
        let (world, element) = (self.founder.world, self.founder.things[number]);
        let held = (&view as &dyn Snapshot).element(world, element).map_err(said)?;
        let held = held.ok_or("an element is gone")?;
        Ok(ATTRIBUTES.map(|name| held.values.get(name).and_then(Json::as_i64).unwrap_or(0)))
    }

    /// Every job that is durable.
    pub(crate) fn records(&self) -> Result<Records, String> {
        let view = self.store.view().map_err(said)?;
        let mut records = Records::new();
        let turns = view.rows(&Key::Turn(0), &Key::Turn(u64::MAX), usize::MAX).map_err(said)?;
        for (_, row) in turns {
            if let Row::Turn(held) = row {
                records.extend(held.jobs.iter().map(|job| (job.call.id, job.result())));
            }
        }
        let (first, last) = all_jobs();
        for (_, row) in view.rows(&first, &last, usize::MAX).map_err(said)? {
            if let Row::Job(job) = row {
                records.insert(job.call.id, job.result());
            }
        }
        Ok(records)
    }

    /// What is still to be done here, if anything is.
    pub(crate) fn unrest(&self, now: Timestamp) -> Result<Option<String>, String> {
        if let Some(work) = self.works(now).first() {
            return Ok(Some(format!("{work:?}")));
        }
        let view = self.store.view().map_err(said)?;
        let (first, last) = all_jobs();
        for (_, row) in view.rows(&first, &last, usize::MAX).map_err(said)? {
            if let Row::Job(job) = row
                && !job.is_finished()
            {
                return Ok(Some(format!("{} {:?}", job.call.id, job.status)));
            }
        }
        let (none, all) = all_servers();
        let outboxes = view.rows(&Key::Outbox(none), &Key::Outbox(all), usize::MAX);
        for (_, row) in outboxes.map_err(said)? {
            if let Row::Outbox(outbox) = row
                && !outbox.open.is_empty()
            {
                return Ok(Some(format!("{outbox:?}")));
            }
        }
        Ok(None)
    }
}

/// Splits a frame into its kind and its body.
fn split(frame: &[u8]) -> Result<(MessageKind, &[u8]), String> {
    let (head, body) = frame.split_first_chunk::<FRAME_HEAD>().ok_or("a frame has no head")?;
    let (kind, length) = wire::parse_head(*head).map_err(said)?;
    if body.len() == length { Ok((kind, body)) } else { Err("a frame is cut".to_owned()) }
}
