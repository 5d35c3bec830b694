//! The hub: one task between the network and the turns. It hands what comes from one to the other,
//! and performs what `post` wants.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::clock;
use super::engine::{Engine, Offered};
use super::pinned::Pinned;
use super::reader::Readers;
use super::start::HubAsker;
use crate::catalog;
use crate::model::{
    AccountId, Call, Changes, Code, Contact, Event, Following, Head, Incarnation, JobId, Json, Key,
    Limit, Name, Need, Problem, ProtectionState, Question, Root, Row, Server, ServerId,
    SignedRecord, Snapshot, Timestamp, Try, WorldId, peer_id_of,
};
use crate::net::{self, Lost, Verdict};
use crate::post::{
    AskOut, Door, Effect as PostEffect, FeedEffect, Feeds, Inbound, InboundEffect,
    Input as PostInput, Outbound,
};
use crate::step::Setting;
use crate::trust::{Verified, decode_record};
use crate::turn::{Effect, Input, ItemAnswer, Told};
use crate::wire::{
    self, Gossip, Hello, Notice, PROTOCOL_VERSION, Report, Request, Response, TellAnswer, WireFault,
};

/// Messages that wait for the hub.
pub(super) const QUEUE_MAX: usize = 16_384;
/// Messages, and as many events, that are dealt with before anything is sent.
const TOGETHER_MAX: usize = 512;
/// How long a peer may take to say who it is, in milliseconds.
const HELLO_TIME_MAX_MS: u64 = 10_000;
/// Faults after which a peer is muted for a time.
const FAULTS_MAX: u64 = 100;
/// How long it is muted, in milliseconds.
const MUTED_MS: u64 = 60_000;
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Accounts that are provided to the network.
const PROVIDED_MAX: usize = 1_000;
/// Bytes of a gossip message above which it names only the head.
const GOSSIP_BYTES_MAX: usize = 32 * 1024;
/// Other servers of which contacts are kept.
const CONTACTS_MAX: usize = 10_000;

/// Who gets an answer.
pub(super) enum AskReply {
    Caller(oneshot::Sender<Result<Json, Problem>>),
    Job(JobId, Need),
    Pull(ServerId, WorldId),
}

/// What the hub hears from the rest of the node.
pub(super) enum HubMessage {
    /// A turn is durable: what is to be done, and what rows it changed that concern the network.
    Effects(Vec<Effect>, Changes),
    /// A question of a reading call.
    Ask {
        need: Need,
        claim: Option<AccountId>,
        root: Root,
        deadline_at: Timestamp,
        reply: oneshot::Sender<Result<Json, Problem>>,
    },
    /// Reading calls of other servers have ended.
    Asked(Vec<(u64, Result<Json, Problem>)>),
    /// The same, and it was a pull of a feed by this server.
    PulledBy(ServerId, WorldId),
    /// The store was opened again.
    Reopened,
    /// A server's entry is stored.
    Met(ServerId),
    /// A page of a feed is stored.
    Stored(ServerId, WorldId, Head, bool),
    /// Follow a world of another server.
    Follow(ServerId, WorldId),
    /// Dial an address, and say who answered.
    Join { key: [u8; 32], address: String, reply: Met },
    /// Keep on dialling a first peer.
    Pin(Box<Pinned>),
    /// Which connections are open.
    Peers(oneshot::Sender<Vec<Json>>),
    /// The time to a server and back.
    Ping(ServerId, oneshot::Sender<Option<f64>>),
    /// The node ends.
    Stop(oneshot::Sender<()>),
}

/// What is known of contacts, shared with those who only look.
pub(super) type ContactBook = Arc<Mutex<HashMap<ServerId, Contact>>>;

/// What the hub stands on.
pub(super) struct HubGround {
    pub(super) setting: Arc<Setting>,
    pub(super) incarnation: Incarnation,
    pub(super) record: SignedRecord,
    pub(super) network: String,
    pub(super) listen: Vec<String>,
    pub(super) limit: Limit,
    pub(super) contacts: ContactBook,
    pub(super) readers: Arc<Readers>,
    pub(super) engine: Engine,
    pub(super) commands: mpsc::Sender<net::Command>,
    pub(super) hub: mpsc::Sender<HubMessage>,
    pub(super) asker: HubAsker,
    pub(super) pinned: Vec<Pinned>,
}

/// A connection to a peer.
struct Peer {
    server: Option<ServerId>,
    incarnation: Option<Incarnation>,
    hello_by: Timestamp,
    address: String,
    dialled: bool,
    ping_ms: Option<f64>,
}

enum Waiting {
    Hello,
    Batch(ServerId, u64),
}

/// Tells who waits for a peer who answered.
type Met = oneshot::Sender<Result<ServerId, Problem>>;

struct Meeting {
    name: String,
    deadline_at: Timestamp,
    token: u64,
}

pub(super) struct Hub {
    ground: HubGround,
    outbound: Outbound,
    inbound: Inbound,
    feeds: Feeds,
    peers: HashMap<[u8; 32], Peer>,
    keys: HashMap<ServerId, [u8; 32]>,
    entries: HashMap<ServerId, Arc<Server>>,
    waiting: HashMap<u64, Waiting>,
    next_request: u64,
    asks: HashMap<u64, AskReply>,
    next_token: u64,
    meetings: Vec<Meeting>,
    finding: HashMap<u64, u64>,
    joins: Vec<([u8; 32], Met)>,
    muted: HashMap<[u8; 32], Timestamp>,
    provide_at: Option<Timestamp>,
    /// Inputs for the turns that came together.
    offers: Vec<Offered>,
    /// Questions of other servers that came together.
    reads: Vec<(u64, ServerId, Call)>,
    /// Who waits for the end.
    stopped: Option<oneshot::Sender<()>>,
}

impl Hub {
    /// A hub that goes on from what is stored.
    pub(super) fn new(ground: HubGround) -> Self {
        let outbound = Outbound::new(ground.incarnation);
        let mut hub = Self {
            ground,
            outbound,
            inbound: Inbound::default(),
            feeds: Feeds::default(),
            peers: HashMap::new(),
            keys: HashMap::new(),
            entries: HashMap::new(),
            waiting: HashMap::new(),
            next_request: 0,
            asks: HashMap::new(),
            next_token: 0,
            meetings: Vec::new(),
            finding: HashMap::new(),
            joins: Vec::new(),
            muted: HashMap::new(),
            provide_at: None,
            offers: Vec::new(),
            reads: Vec::new(),
            stopped: None,
        };
        hub.load();
        hub
    }

    fn load(&mut self) {
        let Ok(view) = self.ground.readers.store.view() else { return };
        let (none, all) = (ServerId::from_bytes([0; 16]), ServerId::from_bytes([0xff; 16]));
        for (_, row) in
            view.rows(&Key::Server(none), &Key::Server(all), CONTACTS_MAX).unwrap_or_default()
        {
            if let Row::Server(server) = row {
                self.learn(server);
            }
        }
        for (_, row) in view
            .rows(
                &Key::Protection(none, String::new()),
                &Key::Protection(all, "\u{10ffff}".to_owned()),
                CONTACTS_MAX,
            )
            .unwrap_or_default()
        {
            if let Row::Protection(row) = row {
                self.protected(row.server);
            }
        }
        for (key, row) in
            view.rows(&Key::Outbox(none), &Key::Outbox(all), CONTACTS_MAX).unwrap_or_default()
        {
            let (Key::Outbox(server), Row::Outbox(outbox)) = (key, row) else { continue };
            self.post(PostInput::Loaded(server, outbox.last));
            for span in &outbox.open {
                let Ok(Some(turn)) = (&view as &dyn Snapshot).turn(span.turn) else { continue };
                for sent in &turn.sent {
                    if sent.tell.server == server && (span.first..=span.last).contains(&sent.number)
                    {
                        self.post(PostInput::Told(sent.clone()));
                    }
                }
            }
        }
        let (first, last) = (WorldId::from_bytes([0; 16]), WorldId::from_bytes([0xff; 16]));
        for (_, row) in view
            .rows(&Key::Following(none, first), &Key::Following(all, last), CONTACTS_MAX)
            .unwrap_or_default()
        {
            if let Row::Following(held) = row {
                self.follow(held.server, held.world, Some(&held));
            }
        }
    }

    /// Runs until the node ends.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<HubMessage>,
        mut events: mpsc::Receiver<net::Event>,
    ) {
        loop {
            self.tick();
            self.flush();
            let sleep = self.sleep();
            tokio::select! {
                message = inbox.recv() => match message {
                    None => return,
                    Some(message) => self.hear(message),
                },
                event = events.recv() => match event {
                    None => return,
                    Some(event) => self.network(event),
                },
                () = tokio::time::sleep(sleep) => {}
            }
            // What came meanwhile is dealt with together: it leaves in fewer batches.
            for _ in 0..TOGETHER_MAX {
                let Ok(message) = inbox.try_recv() else { break };
                self.hear(message);
            }
            for _ in 0..TOGETHER_MAX {
                let Ok(event) = events.try_recv() else { break };
                self.network(event);
            }
            if let Some(done) = self.stopped.take() {
                self.command(net::Command::Stop(done));
                return;
            }
        }
    }

    fn sleep(&self) -> Duration {
        let now = clock::now();
        let hellos =
            self.peers.values().filter(|peer| peer.server.is_none()).map(|peer| peer.hello_by);
        let pinned =
            self.ground.pinned.iter().filter(|pinned| !pinned.connected && !pinned.dialling);
        let pinned = pinned.filter_map(|pinned| pinned.next_try_at);
        let meetings = self.meetings.iter().map(|meeting| meeting.deadline_at);
        let due = self.outbound.deadline().into_iter().chain(self.feeds.deadline());
        let due = due.chain(hellos).chain(pinned).chain(meetings).chain(self.provide_at);
        let next = due.min().map_or(SLEEP_MAX, |at| Duration::from_millis(at.ms_since(now).max(1)));
        next.min(SLEEP_MAX)
    }

    fn tick(&mut self) {
        let now = clock::now();
        if self.outbound.deadline().is_some_and(|at| at <= now) {
            self.post(PostInput::Tick);
        }
        for effect in self.feeds.tick(now) {
            self.feed(effect);
        }
        let late: Vec<[u8; 32]> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.server.is_none() && peer.hello_by <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in late {
            self.peers.remove(&key);
            self.command(net::Command::Close(key));
        }
        self.dial_pinned(now);
        self.end_meetings(now);
        if self.provide_at.is_some_and(|at| at <= now) {
            self.provide_at = None;
            self.provide();
        }
    }

    fn command(&self, command: net::Command) {
        if self.ground.commands.try_send(command).is_err() {
            // What was lost is noticed by its deadline, and tried again.
            warn!("the network has more to do than it may keep waiting");
        }
    }

    // What the node wants.

    fn hear(&mut self, message: HubMessage) {
        match message {
            HubMessage::Effects(effects, changes) => {
                self.changed(&changes);
                for effect in effects {
                    self.perform(effect);
                }
            }
            HubMessage::Ask { need, claim, root, deadline_at, reply } => {
                self.ask(need.question, claim, root, deadline_at, AskReply::Caller(reply));
            }
            HubMessage::Asked(results) => {
                for (ticket, result) in results {
                    let effect = self.inbound.asked(ticket, result);
                    self.come(effect);
                }
            }
            HubMessage::PulledBy(server, world) => self.feeds.pulled_by(server, world),
            HubMessage::Reopened => self.load(),
            HubMessage::Met(server) => self.stored_entry(server),
            HubMessage::Stored(server, world, held, more) => {
                self.feeds.stored(server, world, held);
                self.feeds.pulled(clock::now(), server, world, more);
            }
            HubMessage::Follow(server, world) => self.follow(server, world, None),
            HubMessage::Join { key, address, reply } => self.join(key, address, reply),
            HubMessage::Pin(pinned) => self.pin(*pinned),
            HubMessage::Peers(reply) => {
                reply.send(self.peers_json()).ok();
            }
            HubMessage::Ping(server, reply) => {
                let peer = self.keys.get(&server).and_then(|key| self.peers.get(key));
                reply.send(peer.and_then(|peer| peer.ping_ms)).ok();
            }
            HubMessage::Stop(done) => self.stopped = Some(done),
        }
    }

    fn changed(&mut self, changes: &Changes) {
        for (key, change) in changes {
            match (key, change) {
                (Key::Server(_), Some(Row::Server(server))) => self.learn(server.clone()),
                (Key::Protection(server, _), _) => self.protected(*server),
                (Key::Type(_) | Key::Element(..), Some(_)) if self.provide_at.is_none() => {
                    if matches!(key, Key::Type(_)) {
                        self.provide_at = Some(clock::now().after_ms(500));
                    }
                }
                (Key::Following(..), Some(Row::Following(held))) => {
                    self.feeds.stored(
                        held.server,
                        held.world,
                        Head { log: held.log, seq: held.seq },
                    );
                }
                _ => {}
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Started(_) | Effect::End(..) => {}
            Effect::Answer { ticket, answer } => {
                let answer = match answer {
                    ItemAnswer::Done(reply) => TellAnswer::Done(reply),
                    ItemAnswer::Started => TellAnswer::Started,
                    ItemAnswer::Fault(problem) => TellAnswer::Fault(problem),
                };
                let effect = self.inbound.told(ticket, answer);
                self.come(effect);
            }
            Effect::Report { server, number, reply } => {
                self.post(PostInput::Ended(server, Report { number, reply }))
            }
            Effect::Ask { job, deadline_at, caller, root, needs } => {
                for need in needs {
                    let root = root.clone();
                    let question = need.question.clone();
                    self.ask(
                        question,
                        caller.account(),
                        root,
                        deadline_at,
                        AskReply::Job(job, need),
                    );
                }
            }
            Effect::Deliver(sent) => self.post(PostInput::Told(sent)),
            Effect::Forget { server, number } => self.post(PostInput::Settled(server, number)),
            Effect::Show(events) => self.show(&events),
        }
    }

    fn show(&mut self, events: &[Event]) {
        let inbound = &self.inbound;
        let effects = self.feeds.happened(events, |server| inbound.shown(server).to_vec());
        for effect in effects {
            self.feed(effect);
        }
    }

    fn feed(&mut self, effect: FeedEffect) {
        match effect {
            FeedEffect::Pull(server, world, held) => {
                let args = match held {
                    Some(held) => {
                        json!({"world": world.to_string(), "since": held.seq, "log": held.log.to_string()})
                    }
                    None => json!({"world": world.to_string()}),
                };
                let question = Question::Ask {
                    server,
                    command: "feed.pull".to_owned(),
                    args,
                    patience_ms: None,
                };
                let deadline_at = clock::now().after_ms(10_000);
                let root = root_of(self.fresh_job());
                self.ask(question, None, root, deadline_at, AskReply::Pull(server, world));
            }
            FeedEffect::Store(server, notice) => self.store_events(server, &notice, false),
            FeedEffect::Tell(server, notice) => self.post(PostInput::News(server, notice)),
            FeedEffect::Publish(mut notice) => {
                let topic = self.topic(notice.world);
                let server = self.ground.setting.us;
                let mut data = wire::encode_gossip(&Gossip { server, notice: notice.clone() });
                if data.len() > GOSSIP_BYTES_MAX {
                    notice.events.clear();
                    data = wire::encode_gossip(&Gossip { server, notice });
                }
                self.command(net::Command::Publish(topic, data));
            }
        }
    }

    fn topic(&self, world: WorldId) -> String {
        format!("/freehold/{}/feed/1/{world}", self.ground.network)
    }

    fn store_events(&mut self, server: ServerId, notice: &Notice, more: bool) {
        let page = json!({"world": notice.world, "head": notice.head, "events": notice.events, "resync": false});
        self.store_page(server, notice.world, page, more);
    }

    fn store_page(&mut self, server: ServerId, world: WorldId, page: Json, more: bool) {
        let head: Option<Head> =
            page.get("head").and_then(|head| serde_json::from_value(head.clone()).ok());
        let asker = self.ground.asker.clone();
        let hub = self.ground.hub.clone();
        tokio::spawn(async move {
            let args = json!({"server": server.to_string(), "page": page});
            match (asker.call_as_node("feed.store", args).await, head) {
                (Ok(stored), Some(head)) => {
                    let seq = stored.get("seq").and_then(Json::as_u64).unwrap_or(head.seq);
                    let behind = more || seq < head.seq;
                    hub.send(HubMessage::Stored(
                        server,
                        world,
                        Head { log: head.log, seq },
                        behind,
                    ))
                    .await
                    .ok();
                }
                (Err(problem), _) => debug!(says = problem.says, "a page of a feed was not stored"),
                (Ok(_), None) => {}
            }
        });
    }

    fn follow(&mut self, server: ServerId, world: WorldId, held: Option<&Following>) {
        let held = held.map(|held| Head { log: held.log, seq: held.seq });
        let connected = self
            .keys
            .get(&server)
            .is_some_and(|key| self.peers.get(key).is_some_and(|peer| peer.server.is_some()));
        if self.feeds.follow(clock::now(), server, world, held, connected) {
            let topic = self.topic(world);
            self.command(net::Command::Subscribe(topic));
        }
    }

    fn fresh_job(&mut self) -> JobId {
        self.next_token += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.next_token.to_be_bytes());
        JobId::at(clock::now(), random)
    }

    fn ask(
        &mut self,
        question: Question,
        claim: Option<AccountId>,
        root: Root,
        deadline_at: Timestamp,
        reply: AskReply,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        self.asks.insert(token, reply);
        match question {
            Question::Ask { server, command, args, patience_ms } => {
                let Some(root) = passed_on(root, self.ground.setting.us) else {
                    let says = "the call passed too many servers";
                    self.answer(token, Err(Problem::new(Code::ScriptBudget, says)));
                    return;
                };
                let patience = patience_ms.map(|ms| clock::now().after_ms(ms));
                let until = patience.map_or(deadline_at, |at| at.min(deadline_at));
                let ask = AskOut { token, command, args, claim, root, until };
                self.post(PostInput::Asked(server, ask));
            }
            Question::Meet(name) => {
                self.meetings.push(Meeting { name, deadline_at, token });
                self.end_meetings(clock::now());
            }
            Question::Find(account) => {
                self.finding.insert(token, token);
                self.command(net::Command::FindProviders(token, account.as_bytes().to_vec()));
            }
        }
    }

    fn answer(&mut self, token: u64, result: Result<Json, Problem>) {
        match self.asks.remove(&token) {
            Some(AskReply::Caller(reply)) => {
                // The caller may have stopped waiting; that is its right.
                reply.send(result).ok();
            }
            Some(AskReply::Job(job, need)) => {
                let input =
                    Input::Answered { job, place: need.place, question: need.question, result };
                self.offer(input, true);
            }
            Some(AskReply::Pull(server, world)) => self.pulled(server, world, result),
            None => {}
        }
    }

    /// Lets an input wait for the turns; it goes with what else came together.
    fn offer(&mut self, input: Input, listed: bool) {
        self.offers.push((input, listed));
    }

    /// What to do with an input for which the turns had no room.
    fn no_room(&mut self, input: Input, problem: Problem) {
        match input {
            Input::Told { ticket, .. } => {
                let effect = self.inbound.told(ticket, TellAnswer::Fault(problem));
                self.come(effect);
            }
            // Nobody offers these again but we.
            Input::Answered { .. } | Input::Unanswered { .. } => {
                tokio::spawn(offer_until_taken(self.ground.engine.clone(), input));
            }
            // These are offered again by who found them out.
            Input::Settled { .. }
            | Input::Undelivered { .. }
            | Input::Advanced { .. }
            | Input::Called { .. } => {}
        }
    }

    fn pulled(&mut self, server: ServerId, world: WorldId, result: Result<Json, Problem>) {
        match result {
            Ok(page) => {
                let more = page.get("more") == Some(&Json::Bool(true));
                self.store_page(server, world, page, more);
            }
            Err(problem) => {
                debug!(says = problem.says, "a feed could not be pulled");
                self.feeds.pulled(clock::now(), server, world, false);
            }
        }
    }

    // Delivery.

    fn post(&mut self, input: PostInput) {
        let effects = self.outbound.handle(clock::now(), input);
        for effect in effects {
            self.deliver(effect);
        }
    }

    /// Lets out what waits: for the turns, for other servers, and for the threads that read.
    fn flush(&mut self) {
        let offers = std::mem::take(&mut self.offers);
        if !offers.is_empty()
            && let Err((inputs, problem)) = self.ground.engine.offer(offers)
        {
            for (input, _) in inputs {
                self.no_room(input, problem.clone());
            }
        }
        for effect in self.outbound.flush(clock::now()) {
            self.deliver(effect);
        }
        let reads = std::mem::take(&mut self.reads);
        let (quick, long): (Vec<_>, Vec<_>) = reads.into_iter().partition(|(_, _, call)| {
            catalog::find(&call.command).is_some_and(catalog::Command::is_quick)
        });
        for read in long {
            self.read_for(vec![read]);
        }
        if !quick.is_empty() {
            self.read_for(quick);
        }
    }

    fn deliver(&mut self, effect: PostEffect) {
        match effect {
            PostEffect::Dial(server) => self.dial(server),
            PostEffect::Send(server, batch, content) => {
                let Some(key) = self.keys.get(&server).copied() else { return };
                let id = self.next_request;
                self.next_request += 1;
                self.waiting.insert(id, Waiting::Batch(server, batch));
                self.command(net::Command::Send(key, id, Box::new(Request::Batch(content))));
            }
            PostEffect::GiveAnswer(token, result) => self.answer(token, result),
            PostEffect::Settle(server, number, reply) => {
                for touched in &reply.touched {
                    self.feeds.heard(clock::now(), server, touched.world, touched.head);
                }
                self.offer(Input::Settled { server, number, reply }, true);
            }
            PostEffect::GiveUp(server, number, problem) => {
                self.offer(Input::Undelivered { server, number, problem }, true);
            }
            PostEffect::CallUnknown(server, number) => {
                self.offer(Input::Unanswered { server, number }, true);
            }
        }
    }

    fn dial(&mut self, server: ServerId) {
        let Some(entry) = self.entries.get(&server).cloned() else {
            self.post(PostInput::DialFailed(server, Vec::new()));
            return;
        };
        let mut addresses = entry.addresses.clone();
        for pinned in &self.ground.pinned {
            if pinned.key == entry.key {
                addresses.extend(pinned.addresses.iter().cloned());
            }
        }
        addresses.dedup();
        self.post(PostInput::Dialling(server, addresses.clone()));
        self.command(net::Command::Dial(entry.key, addresses));
    }

    fn learn(&mut self, server: Arc<Server>) {
        if self.entries.len() >= CONTACTS_MAX && !self.entries.contains_key(&server.id) {
            return;
        }
        self.keys.insert(server.id, server.key);
        self.entries.insert(server.id, server);
    }

    fn protected(&mut self, server: ServerId) {
        let Ok(view) = self.ground.readers.store.view() else { return };
        let first = Key::Protection(server, String::new());
        let last = Key::Protection(server, "\u{10ffff}".to_owned());
        let mut held = BTreeMap::new();
        for (_, row) in view.rows(&first, &last, 1_000).unwrap_or_default() {
            if let Row::Protection(row) = row
                && row.state == ProtectionState::Active
            {
                held.insert(*blake3::hash(&row.held).as_bytes(), row.held.clone());
            }
        }
        if let Some(key) = self.keys.get(&server).filter(|_| !held.is_empty()) {
            self.command(net::Command::Reserve(*key));
        }
        self.post(PostInput::Protected(server, held));
    }

    // What the network brings.

    fn network(&mut self, event: net::Event) {
        match event {
            net::Event::Connected(key, dialled, address) => self.connected(key, dialled, address),
            net::Event::Disconnected(key) => self.disconnected(key),
            net::Event::DialFailed(key, tries, wrong) => self.dial_failed(key, tries, wrong),
            net::Event::Requested(key, id, request) => self.requested(key, id, request),
            net::Event::Responded(key, id, result) => self.responded(key, id, result),
            net::Event::Providers(id, keys) => self.found(id, &keys),
            net::Event::Record(..) => {}
            net::Event::Heard { id, author, topic, data } => self.heard(id, author, &topic, &data),
            net::Event::Routed => {
                if self.provide_at.is_none() {
                    self.provide_at = Some(clock::now().after_ms(500));
                }
            }
            net::Event::Found(key, addresses) => {
                if !self.peers.contains_key(&key) {
                    self.command(net::Command::Dial(key, addresses));
                }
            }
            net::Event::Pinged(key, ms) => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.ping_ms = Some(ms);
                }
            }
        }
    }

    fn connected(&mut self, key: [u8; 32], dialled: bool, address: String) {
        let now = clock::now();
        if self.muted.get(&key).is_some_and(|until| *until > now) {
            self.command(net::Command::Close(key));
            return;
        }
        if let Some(peer) = self.peers.get(&key) {
            // A second connection to the same peer says nothing new, but to whoever waits for it.
            if let Some(server) = peer.server {
                let address = peer.address.clone();
                self.end_joins(key, Ok(server));
                self.post(PostInput::Connected(server, address));
            }
            return;
        }
        let hello_by = now.after_ms(HELLO_TIME_MAX_MS);
        self.peers.insert(
            key,
            Peer { server: None, incarnation: None, hello_by, address, dialled, ping_ms: None },
        );
        if dialled {
            let id = self.next_request;
            self.next_request += 1;
            self.waiting.insert(id, Waiting::Hello);
            let hello = self.hello(&key);
            self.command(net::Command::Send(key, id, Box::new(Request::Hello(Box::new(hello)))));
        }
    }

    fn hello(&self, key: &[u8; 32]) -> Hello {
        let known = self.entries.values().find(|entry| entry.key == *key);
        Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: wire::FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            record: self.ground.record.clone(),
            incarnation: self.ground.incarnation,
            addresses: self.ground.listen.clone(),
            knows: known.map(|entry| entry.incarnation),
            taken: 0,
        }
    }

    fn disconnected(&mut self, key: [u8; 32]) {
        let now = clock::now();
        let Some(peer) = self.peers.remove(&key) else { return };
        if let Some(server) = peer.server {
            self.inbound.gone(server);
            self.feeds.contact(now, server, false);
            self.post(PostInput::Disconnected(server));
            self.note(server, |contact| contact.connected = false);
        }
        if let Some(pinned) = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key) {
            pinned.connected = false;
            pinned.dialling = false;
            pinned.next_try_at = Some(now.after_ms(250));
        }
        info!(peer = peer_id_of(&key), "disconnected");
    }

    fn dial_failed(&mut self, key: [u8; 32], tries: Vec<Try>, wrong: bool) {
        let now = clock::now();
        let elsewhere =
            |tried: &Try| !self.ground.listen.iter().any(|own| own.starts_with(&tried.address));
        if wrong && key == self.ground.setting.keys.public() && tries.iter().any(elsewhere) {
            self.clone_seen();
        }
        if let Some(pinned) = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key) {
            pinned.failed(now, tries.clone());
        }
        let reason = tries.first().map(|tried| tried.reason.clone()).unwrap_or_default();
        let code = if wrong { Code::WrongPeer } else { Code::PeerUnreachable };
        let shown: Vec<Json> = tries
            .iter()
            .map(|tried| json!({"address": tried.address, "reason": tried.reason}))
            .collect();
        let problem = Problem::new(code, format!("the peer could not be reached: {reason}"))
            .with("tries", shown);
        self.end_joins(key, Err(problem));
        let servers: Vec<ServerId> =
            self.keys.iter().filter(|(_, held)| **held == key).map(|(server, _)| *server).collect();
        for server in servers {
            self.post(PostInput::DialFailed(server, tries.clone()));
            self.note(server, |_| {});
        }
        self.end_meetings(now);
    }

    fn requested(&mut self, key: [u8; 32], id: u64, request: Result<Box<Request>, WireFault>) {
        match request {
            Err(fault) => {
                self.fault(key, &fault.to_string());
                let problem =
                    Problem::new(Code::BadBody, format!("the message does not hold: {fault}"));
                self.respond(id, Response::Refused(problem));
            }
            Ok(request) => match *request {
                Request::Hello(hello) => match self.meet(key, &hello) {
                    Ok(server) => {
                        let ours = self.hello(&key);
                        self.respond(id, Response::Hello(Box::new(ours)));
                        self.met(key, server, &hello_address(&self.peers, &key), &hello);
                        self.introduced(key, server);
                    }
                    Err(problem) => self.respond(id, Response::Refused(problem)),
                },
                Request::Batch(batch) => self.batch(key, id, *batch),
                Request::Unknown(kind) => {
                    // Not a fault: a later version may know more than we do.
                    let says = format!("messages of kind {kind} are not known to this version");
                    self.respond(id, Response::Refused(Problem::new(Code::UnknownCommand, says)));
                }
            },
        }
    }

    fn respond(&self, id: u64, response: Response) {
        self.command(net::Command::Respond(id, Box::new(response)));
    }

    /// Checks who a peer says it is.
    fn meet(&mut self, key: [u8; 32], hello: &Hello) -> Result<ServerId, Problem> {
        let refused = |says: &str| Problem::new(Code::Refused, says);
        if hello.version_min > PROTOCOL_VERSION || hello.version_max < PROTOCOL_VERSION {
            let says = format!("this version speaks the exchange {PROTOCOL_VERSION}");
            return Err(Problem::new(Code::WrongNetwork, says));
        }
        let verified =
            Verified::first_seen(&hello.record).map_err(|error| refused(&error.to_string()));
        let verified = match verified {
            Ok(verified) => verified,
            Err(problem) => {
                self.fault(key, "bad_record");
                return Err(problem);
            }
        };
        let record = verified.record();
        let Some(server) = record.server_id().filter(|_| record.key == key) else {
            self.fault(key, "bad_record");
            return Err(refused("the record is of another key than the connection"));
        };
        if server == self.ground.setting.us {
            self.clone_seen();
            return Err(refused("that is this server itself"));
        }
        if let Some(held) =
            self.entries.get(&server).and_then(|entry| decode_record(&entry.record).ok())
            && Verified::following(&hello.record, &held).is_err()
        {
            self.fault(key, "old_record");
            return Err(refused("the record does not follow the one that is known"));
        }
        Ok(server)
    }

    fn clone_seen(&self) {
        warn!("another node has our key: a home that was copied must not be started twice");
    }

    /// A peer is who it says: its entry is stored, and what waits for it goes out.
    fn met(&mut self, key: [u8; 32], server: ServerId, address: &str, hello: &Hello) {
        let now = clock::now();
        self.keys.insert(server, key);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.server = Some(server);
            peer.incarnation = Some(hello.incarnation);
        }
        let called = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key).map(|pinned| {
            pinned.connected = true;
            pinned.dialling = false;
            pinned.failures = 0;
            pinned.name.clone()
        });
        let pinned = called.is_some();
        let dialled = self.peers.get(&key).is_some_and(|peer| peer.dialled);
        let own = hello
            .addresses
            .iter()
            .filter_map(|address| net::split_multiaddr(address))
            .map(|(address, _)| address);
        let address =
            if dialled { Some(address.to_owned()) } else { reachable(own.collect(), address) };
        let name =
            decode_record(&hello.record).map(|record| record.name.to_string()).unwrap_or_default();
        let args = json!({
            "server": server.to_string(),
            "record": hello.record.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "name": name,
            "called": called.flatten(),
            "address": address,
            "incarnation": hello.incarnation.to_string(),
        });
        let asker = self.ground.asker.clone();
        let hub = self.ground.hub.clone();
        tokio::spawn(async move {
            match asker.call_as_node("server.met", args).await {
                Ok(_) => {
                    hub.send(HubMessage::Met(server)).await.ok();
                }
                Err(problem) => {
                    warn!(says = problem.says, "a server that was met could not be stored")
                }
            }
        });
        self.note(server, |contact| {
            contact.connected = true;
            contact.last_at = Some(now);
        });
        if pinned {
            self.command(net::Command::Reserve(key));
            self.post(PostInput::Pinned(server));
        }
        info!(peer = peer_id_of(&key), name, "connected");
    }

    fn introduced(&mut self, key: [u8; 32], server: ServerId) {
        let now = clock::now();
        self.end_joins(key, Ok(server));
        self.protected(server);
        self.post(PostInput::Connected(server, hello_address(&self.peers, &key)));
        self.feeds.contact(now, server, true);
        self.note(server, |contact| contact.connected = true);
    }

    fn stored_entry(&mut self, server: ServerId) {
        if let Ok(view) = self.ground.readers.store.view()
            && let Ok(Some(entry)) = (&view as &dyn Snapshot).server(server)
        {
            let key = entry.key;
            for pinned in self.ground.pinned.iter_mut().filter(|pinned| pinned.key == key) {
                pinned.server = Some(server);
            }
            self.learn(entry);
        }
        self.end_meetings(clock::now());
    }

    fn batch(&mut self, key: [u8; 32], id: u64, batch: wire::Batch) {
        let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) else {
            self.respond(id, Response::Refused(Problem::new(Code::Refused, "say hello first")));
            return;
        };
        let announced = self.peers.get(&key).and_then(|peer| peer.incarnation);
        let stored = self.entries.get(&server).map(|entry| entry.incarnation);
        if announced == Some(batch.lane.incarnation) && stored != announced {
            // Its entry is on its way to the store; what it tells has no lane before that.
            let problem =
                Problem::new(Code::Busy, "the hello is not stored yet").with("retry_after_ms", 50);
            self.respond(id, Response::Refused(problem));
            return;
        }
        let now = clock::now();
        let limit =
            self.entries.get(&server).and_then(|entry| entry.limit).unwrap_or(self.ground.limit);
        let setting = self.ground.setting.clone();
        let our_key = setting.keys.public();
        let door = Door { us: setting.us, key: &our_key, server, server_key: &key, limit };
        let effects = self.inbound.received(now, door, id, batch);
        let (calls_made, over_limit) = self.inbound.counted(now, server);
        self.note(server, |contact| {
            contact.last_at = Some(now);
            contact.calls_made = calls_made;
            contact.over_limit = over_limit;
        });
        for effect in effects {
            self.come(Some(effect));
        }
    }

    fn come(&mut self, effect: Option<InboundEffect>) {
        match effect {
            None => {}
            Some(InboundEffect::Run(arrival)) => self.run_arrival(*arrival),
            Some(InboundEffect::Advance(server, incarnation, done_below)) => {
                self.offer(Input::Advanced { server, incarnation, done_below }, true);
            }
            Some(InboundEffect::Report(server, report)) => {
                self.post(PostInput::Reported(server, report))
            }
            Some(InboundEffect::News(server, notice)) => self.news(server, notice),
            Some(InboundEffect::Respond(id, answer)) => self.respond(id, Response::Batch(answer)),
        }
    }

    fn news(&mut self, server: ServerId, notice: Notice) {
        if let Some(effect) = self.feeds.news(clock::now(), server, notice) {
            self.feed(effect);
        }
    }

    fn run_arrival(&mut self, arrival: crate::post::Arrival) {
        let ticket = arrival.ticket;
        let server = arrival.call.caller.server();
        if let (Some((incarnation, number, digest)), Some(server)) = (arrival.told, server) {
            let told = Told {
                server,
                incarnation,
                number,
                digest,
                call: arrival.call,
                refused: arrival.refused,
            };
            self.offer(Input::Told { ticket, told: Box::new(told) }, arrival.listed);
            return;
        }
        if let Some(problem) = arrival.refused {
            let effect = self.inbound.asked(ticket, Err(problem));
            self.come(effect);
            return;
        }
        if let Some(server) = server {
            self.reads.push((ticket, server, arrival.call));
        }
    }

    fn read_for(&self, reads: Vec<(u64, ServerId, Call)>) {
        let readers = self.ground.readers.clone();
        let asker = self.ground.asker.clone();
        let hub = self.ground.hub.clone();
        tokio::spawn(async move {
            let ran = reads.into_iter().map(async |(ticket, server, call)| {
                let pull = call.command == "feed.pull";
                let result = readers.read(call, &asker).await;
                if let (true, Ok(page)) = (pull, &result)
                    && let Some(world) = page.get("world").and_then(Json::as_str)
                    && let Ok(world) = world.parse()
                {
                    hub.send(HubMessage::PulledBy(server, world)).await.ok();
                }
                (ticket, result)
            });
            let results = futures::future::join_all(ran).await;
            hub.send(HubMessage::Asked(results)).await.ok();
        });
    }

    fn responded(&mut self, key: [u8; 32], id: u64, result: Result<Box<Response>, Lost>) {
        match (self.waiting.remove(&id), result) {
            (Some(Waiting::Hello), Ok(response)) => self.answered_hello(key, *response),
            (Some(Waiting::Hello), Err(lost)) => self.no_hello(key, &lost),
            (Some(Waiting::Batch(server, batch)), Ok(response)) => match *response {
                Response::Batch(answer) => {
                    let now = clock::now();
                    self.note(server, |contact| contact.last_at = Some(now));
                    self.post(PostInput::Answered(server, batch, answer));
                }
                Response::Refused(problem) => {
                    debug!(says = problem.says, "a batch was refused");
                    self.post(PostInput::Lost(server, batch));
                }
                Response::Hello(_) | Response::Unknown(_) => {
                    self.post(PostInput::Lost(server, batch))
                }
            },
            (Some(Waiting::Batch(server, batch)), Err(lost)) => {
                if let Lost::Fault(fault) = lost {
                    self.fault(key, &fault.to_string());
                }
                self.post(PostInput::Lost(server, batch));
            }
            (None, _) => {}
        }
    }

    fn answered_hello(&mut self, key: [u8; 32], response: Response) {
        match response {
            Response::Hello(hello) => match self.meet(key, &hello) {
                Ok(server) => {
                    self.met(key, server, &hello_address(&self.peers, &key), &hello);
                    self.introduced(key, server);
                }
                Err(problem) => {
                    self.end_joins(key, Err(problem));
                    self.command(net::Command::Close(key));
                }
            },
            Response::Refused(problem) => {
                self.end_joins(key, Err(problem));
                self.command(net::Command::Close(key));
            }
            Response::Batch(_) | Response::Unknown(_) => self.fault(key, "malformed"),
        }
    }

    fn no_hello(&mut self, key: [u8; 32], lost: &Lost) {
        let problem = match lost {
            Lost::WrongNetwork => Problem::new(
                Code::WrongNetwork,
                "the peer is of another network, or of another version",
            )
            .hint("compare the name under [network] in both bootstrap.toml"),
            Lost::Connection | Lost::Fault(_) => {
                Problem::new(Code::PeerUnreachable, "the peer did not say who it is")
            }
        };
        let now = clock::now();
        let tries =
            vec![Try { address: hello_address(&self.peers, &key), reason: problem.says.clone() }];
        if let Some(pinned) = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key) {
            pinned.failed(now, tries);
        }
        self.end_joins(key, Err(problem));
        self.peers.remove(&key);
        self.command(net::Command::Close(key));
    }

    /// Counts a fault of a peer, and mutes one that makes too many.
    fn fault(&mut self, key: [u8; 32], kind: &str) {
        let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) else { return };
        let mut total = 0;
        self.note(server, |contact| {
            *contact.faults.entry(kind.to_owned()).or_default() += 1;
            total = contact.faults.values().sum();
        });
        if total > 0 && total % FAULTS_MAX == 0 {
            self.muted.insert(key, clock::now().after_ms(MUTED_MS));
            self.command(net::Command::Close(key));
        }
    }

    fn note(&self, server: ServerId, change: impl FnOnce(&mut Contact)) {
        let mut book = self.ground.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        if book.len() < CONTACTS_MAX || book.contains_key(&server) {
            let contact = book.entry(server).or_default();
            change(contact);
            self.outbound.describe(server, contact);
        }
    }

    // Finding others.

    fn dial_pinned(&mut self, now: Timestamp) {
        let mut dials = Vec::new();
        for pinned in &mut self.ground.pinned {
            if pinned.is_due(now) {
                pinned.dialling = true;
                dials.push((pinned.key, pinned.addresses.clone()));
            }
        }
        for (key, addresses) in dials {
            self.command(net::Command::Dial(key, addresses));
        }
    }

    fn pin(&mut self, pinned: Pinned) {
        if self.ground.pinned.iter().all(|held| held.key != pinned.key) {
            self.ground.pinned.push(pinned);
        }
    }

    fn join(&mut self, key: [u8; 32], address: String, reply: Met) {
        if let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) {
            reply.send(Ok(server)).ok();
            return;
        }
        self.joins.push((key, reply));
        self.command(net::Command::Dial(key, vec![address]));
    }

    fn end_joins(&mut self, key: [u8; 32], result: Result<ServerId, Problem>) {
        let (ended, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.joins).into_iter().partition(|(held, _)| *held == key);
        self.joins = kept;
        for (_, reply) in ended {
            reply.send(result.clone()).ok();
        }
    }

    /// Ends what waits for a server to be met: it is there, or cannot come any more.
    fn end_meetings(&mut self, now: Timestamp) {
        if self.meetings.is_empty() {
            return;
        }
        let unmet = self.ground.pinned.iter().any(|pinned| pinned.server.is_none());
        let meetings = std::mem::take(&mut self.meetings);
        let Ok(view) = self.ground.readers.store.view() else { return };
        for meeting in meetings {
            let key = Name::new(&meeting.name).map(|name| name.key()).unwrap_or_default();
            let by_name = (&view as &dyn Snapshot)
                .id_at(Key::ServerName(key))
                .ok()
                .flatten()
                .map(ServerId::from_bytes);
            let by_key = self.entries.values().find(|entry| {
                peer_id_of(&entry.key) == meeting.name || entry.id.to_string() == meeting.name
            });
            let found = by_name.or_else(|| by_key.map(|entry| entry.id));
            let result = match found {
                Some(server) => Ok(json!({"server": server})),
                None if unmet && meeting.deadline_at > now => {
                    self.meetings.push(meeting);
                    continue;
                }
                None => Err(self.never_met(&meeting.name, unmet)),
            };
            self.answer(meeting.token, result);
        }
    }

    fn never_met(&self, name: &str, unmet: bool) -> Problem {
        if unmet {
            let tries: Vec<Json> = self
                .ground
                .pinned
                .iter()
                .filter(|pinned| pinned.server.is_none())
                .flat_map(|pinned| &pinned.tries)
                .map(|tried| json!({"address": tried.address, "reason": tried.reason}))
                .collect();
            return Problem::new(
                Code::PeerUnreachable,
                format!(
                    "no server called '{name}' was met, and not every first peer could be reached"
                ),
            )
            .hint("see who was met with: freehold server ls")
            .with("tries", tries);
        }
        Problem::new(Code::NotFound, format!("no server called '{name}' was met")).hint(
            "see who was met with: freehold server ls; meet one with: freehold join MULTIADDR",
        )
    }

    fn found(&mut self, id: u64, keys: &[[u8; 32]]) {
        let Some(token) = self.finding.remove(&id) else { return };
        let us = self.ground.setting.keys.public();
        let Some(key) = keys.iter().find(|key| **key != us).copied() else {
            let problem = Problem::new(
                Code::NotFound,
                "nobody in the network says it is the home of this account",
            )
            .hint("is its home running, and has it something public?");
            self.answer(token, Err(problem));
            return;
        };
        if let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) {
            self.answer(token, Ok(json!({"server": server})));
            return;
        }
        let (reply, met) = oneshot::channel();
        self.join(key, String::new(), reply);
        let asker = self.ground.asker.clone();
        let reply = self.asks.remove(&token);
        let engine = self.ground.engine.clone();
        tokio::spawn(async move {
            let waited = tokio::time::timeout(Duration::from_secs(15), met).await;
            let met = waited.ok().and_then(Result::ok);
            let result = match met {
                Some(Ok(server)) => {
                    asker.wait_for_entry(server).await;
                    Ok(json!({"server": server}))
                }
                Some(Err(problem)) => Err(problem),
                None => Err(Problem::new(
                    Code::PeerUnreachable,
                    "the account's home could not be reached",
                )),
            };
            match reply {
                Some(AskReply::Caller(reply)) => {
                    reply.send(result).ok();
                }
                Some(AskReply::Job(job, need)) => {
                    let input =
                        Input::Answered { job, place: need.place, question: need.question, result };
                    offer_until_taken(engine, input).await;
                }
                Some(AskReply::Pull(..)) | None => {}
            }
        });
    }

    /// Says in the network whose home we are: of those who have something public.
    fn provide(&mut self) {
        let Ok(view) = self.ground.readers.store.view() else { return };
        let (none, all) = (
            crate::model::TypeId::from_bytes([0; 16]),
            crate::model::TypeId::from_bytes([0xff; 16]),
        );
        let mut owners = std::collections::BTreeSet::new();
        for (_, row) in view.rows(&Key::Type(none), &Key::Type(all), 10_000).unwrap_or_default() {
            let Row::Type(held) = row else { continue };
            let public = crate::model::Level::Public;
            let shown =
                held.definition.attributes.values().any(|attribute| attribute.read == public)
                    || held.definition.actions.values().any(|action| action.level == public);
            if shown && owners.len() < PROVIDED_MAX {
                owners.insert(held.owner);
            }
        }
        for owner in owners {
            self.command(net::Command::Provide(owner.as_bytes().to_vec()));
        }
        let us = self.ground.setting.us.as_bytes().to_vec();
        self.command(net::Command::PutRecord(us, self.ground.record.0.clone()));
    }

    /// News of a world's public feed, from gossip: believed only from its home, and only as a hint
    /// to what its home will tell.
    fn heard(&mut self, id: u64, author: [u8; 32], topic: &str, data: &[u8]) {
        let verdict = match wire::decode_gossip(data) {
            Err(_) => Verdict::Reject,
            Ok(gossip) if self.topic(gossip.notice.world) != topic => Verdict::Reject,
            Ok(gossip) => match self.keys.get(&gossip.server) {
                Some(key) if *key != author => Verdict::Reject,
                None => Verdict::Drop,
                Some(_) if !self.feeds.follows(gossip.server, gossip.notice.world) => {
                    Verdict::Reject
                }
                Some(_) if !self.feeds.is_news(gossip.server, &gossip.notice) => Verdict::Drop,
                Some(_) => {
                    self.news(gossip.server, gossip.notice);
                    Verdict::Forward
                }
            },
        };
        self.command(net::Command::Judge(id, verdict));
    }

    fn peers_json(&self) -> Vec<Json> {
        let shown = self.peers.iter().map(|(key, peer)| {
            let entry = peer.server.and_then(|server| self.entries.get(&server));
            json!({
                "id": peer.server,
                "name": entry.map(|entry| entry.name.to_string()),
                "peer_id": peer_id_of(key),
                "address": peer.address,
                "dialled": peer.dialled,
                "ping_ms": peer.ping_ms,
            })
        });
        shown.collect()
    }
}

fn hello_address(peers: &HashMap<[u8; 32], Peer>, key: &[u8; 32]) -> String {
    peers.get(key).map(|peer| peer.address.clone()).unwrap_or_default()
}

/// Offers the turns what must not be lost, until there is room for it.
async fn offer_until_taken(engine: Engine, input: Input) {
    let mut offers = vec![(input, true)];
    let mut pause = Duration::from_millis(50);
    while let Err((left, _)) = engine.offer(offers) {
        if pause > Duration::from_secs(30) {
            return;
        }
        offers = left;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Of the addresses that a peer says it listens on, one at which it can be reached from here: one
/// with the address that its connection comes from.
fn reachable(own: Vec<String>, seen: &str) -> Option<String> {
    let ip = |address: &str| address.split('/').take(3).collect::<Vec<_>>().join("/");
    own.iter().find(|address| ip(address) == ip(seen)).or_else(|| own.first()).cloned()
}

/// A root as the next server sees it: one more on its path, one less to pass.
fn passed_on(mut root: Root, us: ServerId) -> Option<Root> {
    root.budget.hops = root.budget.hops.checked_sub(1)?;
    root.path.push(us);
    Some(root)
}

/// The root of a call that begins here.
pub(super) fn root_of(job: JobId) -> Root {
    Root { job, path: Vec::new(), budget: crate::model::Budget::FULL }
}
