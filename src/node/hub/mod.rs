//! The hub: one task between the network and the turns. It hands what comes from one to the other,
//! and performs what `post` wants.

mod deliver;
mod find;
mod follow;
mod greet;
mod stage;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

pub(super) use stage::{SAY_CHARS_MAX, is_text};

use super::clock;
use super::engine::{Engine, Offered};
use super::pinned::Pinned;
use super::reader::Readers;
use super::start::HubAsker;
use crate::model::{
    AccountId, Act, Call, Changes, Contact, Head, Incarnation, JobId, Json, Key, Limit, Need,
    Problem, ProtectionState, Root, Row, Server, ServerId, SignedRecord, Snapshot, Timestamp,
    WorldId, peer_id_of,
};
use crate::net;
use crate::post::{Feeds, Inbound, Input as PostInput, Outbound};
use crate::step::Setting;
use crate::store::Outside;
use crate::turn::{Effect, ItemAnswer};
use crate::wire::{Report, TellAnswer};

/// Messages that wait for the hub.
pub(super) const QUEUE_MAX: usize = 16_384;
/// Messages, and as many events, that are dealt with before anything is sent.
const TOGETHER_MAX: usize = 512;
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(60);
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
    /// Dial a server that was met, now.
    Connect { server: ServerId, reply: Met },
    /// Keep on dialling a first peer.
    Pin(Box<Pinned>),
    /// Which connections are open.
    Peers(oneshot::Sender<Vec<Json>>),
    /// Exchange messages with a server that say nothing; gone unanswered where there is no contact.
    Exchange(ServerId, oneshot::Sender<()>),
    /// Somebody of ours does something fleeting where they are.
    Act { account: AccountId, name: String, act: Act, reply: oneshot::Sender<Result<(), Problem>> },
    /// The node ends.
    Stop(oneshot::Sender<()>),
}

/// What the hub knows that is stored nowhere, shared with those who only look.
#[derive(Clone, Default)]
pub(super) struct Known {
    contacts: Arc<Mutex<HashMap<ServerId, Contact>>>,
    /// Where people in our worlds went last.
    positions: Arc<Mutex<HashMap<AccountId, Json>>>,
}

impl Outside for Known {
    fn contact(&self, server: ServerId) -> Contact {
        let contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        contacts.get(&server).cloned().unwrap_or_default()
    }

    fn position(&self, account: AccountId) -> Option<Json> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).get(&account).cloned()
    }
}

/// What the hub stands on.
pub(super) struct HubGround {
    pub(super) setting: Arc<Setting>,
    pub(super) incarnation: Incarnation,
    pub(super) record: SignedRecord,
    pub(super) earlier: Vec<SignedRecord>,
    pub(super) network: String,
    pub(super) listen: Vec<String>,
    pub(super) limit: Limit,
    pub(super) known: Known,
    pub(super) readers: Arc<Readers>,
    pub(super) engine: Engine,
    pub(super) commands: mpsc::Sender<net::Command>,
    pub(super) hub: mpsc::Sender<HubMessage>,
    pub(super) asker: HubAsker,
    pub(super) domain: Option<String>,
    pub(super) live: tokio::sync::broadcast::Sender<Arc<crate::model::Event>>,
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
    Nothing(oneshot::Sender<()>),
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
    stage: stage::Stage,
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
        let stage = stage::Stage::new(ground.live.clone(), ground.incarnation);
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
            stage,
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
        self.load_stage(&view);
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
        let due = due.chain(self.stage.deadline());
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
        self.end_grace(now);
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
            HubMessage::Connect { server, reply } => self.connect(server, reply),
            HubMessage::Pin(pinned) => self.pin(*pinned),
            HubMessage::Peers(reply) => {
                reply.send(self.peers_json()).ok();
            }
            HubMessage::Exchange(server, reply) => self.exchange_nothing(server, reply),
            HubMessage::Act { account, name, act, reply } => {
                let acted = self.act(account, name, act);
                reply.send(acted).ok();
            }
            HubMessage::Stop(done) => {
                self.post(PostInput::Parting);
                self.flush();
                self.stopped = Some(done);
            }
        }
    }

    fn changed(&mut self, changes: &Changes) {
        self.stage_changed(changes);
        for (key, change) in changes {
            match (key, change) {
                (Key::Server(_), Some(Row::Server(server))) => self.learn(server.clone()),
                (Key::Server(server), None) => self.unlearn(*server),
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
            Effect::Started(_) | Effect::Repeats(..) | Effect::End(..) => {}
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

    /// A server was removed: nothing joins us to it any more.
    fn unlearn(&mut self, server: ServerId) {
        self.entries.remove(&server);
        if let Some(key) = self.keys.remove(&server) {
            self.command(net::Command::Close(key));
        }
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

    fn network(&mut self, event: net::Event) {
        match event {
            net::Event::Connected(key, dialled, address) => self.connected(key, dialled, address),
            net::Event::Disconnected(key) => self.disconnected(key),
            net::Event::DialFailed(key, tries, wrong, obtained) => {
                self.dial_failed(key, tries, wrong, obtained);
            }
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

    fn note(&self, server: ServerId, change: impl FnOnce(&mut Contact)) {
        let mut book = self.ground.known.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        if book.len() < CONTACTS_MAX || book.contains_key(&server) {
            let contact = book.entry(server).or_default();
            change(contact);
            self.outbound.describe(server, contact);
        }
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

/// The root of a call that begins here.
pub(super) fn root_of(job: JobId) -> Root {
    Root { job, path: Vec::new(), budget: crate::model::Budget::FULL }
}
