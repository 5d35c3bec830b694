//! What we want of other servers, delivered: told once, asked until there is an answer.

use std::collections::{BTreeMap, BTreeSet};

use super::line::{
    ASKS_WAITING_MAX, BATCHES_MAX, Entry, Line, SETTLE_AGAIN_MS, STARTED_AGAIN_MS, TellState,
};
use serde_bytes::ByteBuf;

use crate::model::{
    AccountId, ActsFor, Code, Contact, Fleeting, Incarnation, Json, Problem, Reply, Root, Sent,
    ServerId, Timestamp, Try,
};
use crate::wire::{AskAnswer, Batch, BatchAnswer, Notice, Report, TellAnswer};

/// How long before its end our word for an account is given anew, in milliseconds.
const VOUCH_AGAIN_MS: u64 = 60_000;
/// Servers that something waits for at most.
const LINES_MAX: usize = 10_000;

/// A question for another server.
#[derive(Clone, Debug, PartialEq)]
pub struct AskOut {
    /// Finds its answer.
    pub token: u64,
    /// The command.
    pub command: String,
    /// Its arguments.
    pub args: Json,
    /// For whom.
    pub claim: Option<AccountId>,
    /// The cascade it belongs to.
    pub root: Root,
    /// Until when an answer is of use.
    pub until: Timestamp,
    /// The user for whom it is asked.
    pub user: Option<ActsFor>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The store holds this lane: its last number. What is open of it is delivered anew.
    Loaded(ServerId, u64),
    /// Something was told, and is durable.
    Told(Sent),
    /// Something told is settled, and that is durable.
    Settled(ServerId, u64),
    /// Something is asked.
    Asked(ServerId, AskOut),
    /// Something that the server told and that was started has ended.
    Ended(ServerId, Report),
    /// A feed that the server follows has news.
    News(ServerId, Notice),
    /// Somebody in a world does something that the server is to hear of.
    Act(ServerId, Fleeting),
    /// We are about to stop: who is connected hears so.
    Parting,
    /// The protection ids that the server issued for us, by their hashes.
    Protected(ServerId, BTreeMap<[u8; 32], Vec<u8>>),
    /// The server is one of the first peers: it is always redialled.
    Pinned(ServerId),
    /// A connection to this address is open and the hellos were exchanged.
    Connected(ServerId, String),
    /// No connection is open any more.
    Disconnected(ServerId),
    /// The server is being dialled at these addresses.
    Dialling(ServerId, Vec<String>),
    /// The server could not be reached.
    DialFailed(ServerId, Vec<Try>),
    /// A batch was answered.
    Answered(ServerId, u64, Box<BatchAnswer>),
    /// A batch was lost, or refused.
    Lost(ServerId, u64),
    /// The server ended something that it had started.
    Reported(ServerId, Report),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Dial the server.
    Dial(ServerId),
    /// Send a batch.
    Send(ServerId, u64, Box<Batch>),
    /// Give the answer to a question.
    GiveAnswer(u64, Result<Json, Problem>),
    /// Let a turn settle something told.
    Settle(ServerId, u64, Reply),
    /// Let a turn give up something told: it was never handed over.
    GiveUp(ServerId, u64, Problem),
    /// Let a turn note that something handed over was not answered in time.
    CallUnknown(ServerId, u64),
}

/// What waits for other servers.
pub struct Outbound {
    incarnation: Incarnation,
    lines: BTreeMap<ServerId, Line>,
    /// Of whom something changed since the last [`Outbound::flush`].
    due: BTreeSet<ServerId>,
    next_batch: u64,
}

impl Outbound {
    /// Nothing waits. `incarnation` is the life of our store.
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, lines: BTreeMap::new(), due: BTreeSet::new(), next_batch: 1 }
    }

    /// Sends what waits, or dials, after any number of inputs: what came together leaves together.
    pub fn flush(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for server in std::mem::take(&mut self.due) {
            self.pump(now, server, &mut effects);
        }
        effects
    }

    /// Accounts for which something is about to leave without our word for it, or with one that ends
    /// soon.
    pub fn unvouched(&self, now: Timestamp) -> Vec<(ServerId, AccountId)> {
        let ends_soon = now.after_ms(VOUCH_AGAIN_MS);
        let lines = self.due.iter().filter_map(|server| Some((*server, self.lines.get(server)?)));
        lines
            .filter(|(_, line)| line.connected)
            .flat_map(|(server, line)| {
                let missing = line.claims.iter().filter(|(_, word)| {
                    word.as_ref().is_none_or(|(_, ends_at)| *ends_at <= ends_soon)
                });
                missing.map(move |(account, _)| (server, *account)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Takes our word for an account; none: it is not ours, and nothing goes along for it.
    pub fn vouch(
        &mut self,
        server: ServerId,
        account: AccountId,
        word: Option<(Vec<u8>, Timestamp)>,
    ) {
        let line = self.line(server);
        match word {
            Some((token, ends_at)) => {
                line.claims.insert(account, Some((ByteBuf::from(token), ends_at)));
            }
            None => {
                line.claims.remove(&account);
            }
        }
    }

    /// Applies one input. What it lets leave is sent by the next [`Outbound::flush`].
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Loaded(server, last) => self.line(server).last = last,
            Input::Told(sent) => self.told(sent),
            Input::Settled(server, number) => self.settled(now, server, number),
            Input::Asked(server, ask) => self.asked(server, ask, &mut effects),
            Input::Ended(server, report) => {
                self.line(server).add_report(report);
                self.due.insert(server);
            }
            Input::News(server, notice) => {
                self.line(server).add_notice(notice);
                self.due.insert(server);
            }
            Input::Act(server, act) => {
                self.line(server).add_act(act);
                self.due.insert(server);
            }
            Input::Parting => {
                for (server, line) in self.lines.iter_mut().filter(|(_, line)| line.connected) {
                    line.parting = true;
                    self.due.insert(*server);
                }
            }
            Input::Protected(server, ids) => self.protected(server, ids),
            Input::Pinned(server) => {
                self.line(server).pinned = true;
                self.due.insert(server);
            }
            Input::Connected(server, address) => self.connected(server, address),
            Input::Disconnected(server) => self.disconnected(now, server),
            Input::Dialling(server, addresses) => {
                let line = self.line(server);
                if line.tries.is_empty() {
                    let reason = "no answer yet".to_owned();
                    line.tries = addresses
                        .into_iter()
                        .map(|address| Try { address, reason: reason.clone() })
                        .collect();
                }
            }
            Input::DialFailed(server, tries) => self.dial_failed(now, server, tries),
            Input::Answered(server, batch, answer) => {
                self.answered(now, server, batch, *answer, &mut effects)
            }
            Input::Lost(server, batch) => self.lost(now, server, batch),
            Input::Reported(server, report) => {
                self.settle(now, server, report.number, report.reply, &mut effects);
            }
            Input::Tick => self.tick(now, &mut effects),
        }
        effects
    }

    /// When the next [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.lines.values().filter_map(Line::deadline).min()
    }

    /// Adds what is known of the contact with a server.
    pub fn describe(&self, server: ServerId, contact: &mut Contact) {
        if let Some(line) = self.lines.get(&server) {
            contact.connected = line.connected;
            contact.next_try_at = line.next_try_at.filter(|_| !line.connected);
            contact.tries = line.failures;
        }
    }

    fn line(&mut self, server: ServerId) -> &mut Line {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&server) {
            // A line with nothing in it is known again when something is.
            self.lines
                .retain(|_, line| line.connected || line.wants_contact() || !line.tells.is_empty());
        }
        self.lines.entry(server).or_default()
    }

    fn told(&mut self, sent: Sent) {
        let server = sent.tell.server;
        let line = self.line(server);
        line.note_claim(sent.tell.claim);
        // What was there before this start may have been handed over by then.
        let handed = sent.number <= line.last;
        line.last = line.last.max(sent.number);
        let entry =
            Entry { sent, state: TellState::Waiting(Timestamp::default()), handed, overdue: false };
        line.tells.entry(entry.sent.number).or_insert(entry);
        self.due.insert(server);
    }

    fn settled(&mut self, now: Timestamp, server: ServerId, number: u64) {
        let line = self.line(server);
        line.tells.remove(&number);
        line.note_advance(now);
    }

    fn asked(&mut self, server: ServerId, ask: AskOut, effects: &mut Vec<Effect>) {
        let line = self.line(server);
        if line.asks.len() >= ASKS_WAITING_MAX {
            let problem = Problem::new(Code::Busy, "too many questions wait for that server")
                .with("retry_after_ms", 200);
            effects.push(Effect::GiveAnswer(ask.token, Err(problem)));
            return;
        }
        line.note_claim(ask.claim);
        line.asks.push_back(ask);
        self.due.insert(server);
    }

    fn protected(&mut self, server: ServerId, ids: BTreeMap<[u8; 32], Vec<u8>>) {
        let line = self.line(server);
        line.shown.retain(|hash| ids.contains_key(hash));
        line.protections = ids;
    }

    fn connected(&mut self, server: ServerId, address: String) {
        let line = self.line(server);
        line.connected = true;
        line.dialling = false;
        // Contact resets the timer; the count goes back when a batch is answered.
        line.next_try_at = None;
        let reason = "connected, and no answer comes".to_owned();
        line.tries = vec![Try { address, reason }];
        line.shown.clear();
        for entry in line.tells.values_mut() {
            if let TellState::Waiting(at) | TellState::Started(at) = &mut entry.state {
                *at = Timestamp::default();
            }
        }
        self.due.insert(server);
    }

    fn disconnected(&mut self, now: Timestamp, server: ServerId) {
        let line = self.line(server);
        line.connected = false;
        line.dialling = false;
        line.notices.clear();
        line.said.clear();
        line.moved.clear();
        for (_, flight) in std::mem::take(&mut line.flights) {
            line.put_back(now, flight);
        }
        self.due.insert(server);
    }

    fn dial_failed(&mut self, now: Timestamp, server: ServerId, tries: Vec<Try>) {
        let line = self.line(server);
        line.dialling = false;
        line.failures = line.failures.saturating_add(1);
        line.tries = tries;
        line.next_try_at = Some(now.after_ms(line.pause_ms(server)));
    }

    fn answered(
        &mut self,
        now: Timestamp,
        server: ServerId,
        batch: u64,
        answer: BatchAnswer,
        effects: &mut Vec<Effect>,
    ) {
        let line = self.line(server);
        let Some(mut flight) = line.flights.remove(&batch) else { return };
        line.failures = 0;
        for (number, answer) in answer.tells {
            if !flight.tells.contains(&number) {
                continue;
            }
            match answer {
                TellAnswer::Done(reply) => self.settle(now, server, number, reply, effects),
                TellAnswer::Started => {
                    self.wait(server, number, TellState::Started(now.after_ms(STARTED_AGAIN_MS)))
                }
                TellAnswer::Fault(problem) if problem.code == Code::Busy => {
                    let after =
                        problem.more.get("retry_after_ms").and_then(Json::as_u64).unwrap_or(200);
                    self.wait(
                        server,
                        number,
                        TellState::Waiting(now.after_ms(after.clamp(50, 60_000))),
                    );
                }
                TellAnswer::Fault(problem) => {
                    let reply = Reply { result: Err(problem), touched: Vec::new() };
                    self.settle(now, server, number, reply, effects);
                }
            }
        }
        for (token, answer) in answer.asks {
            let Some(at) = flight.asks.iter().position(|ask| ask.token == token) else { continue };
            let ask = flight.asks.swap_remove(at);
            match answer {
                AskAnswer::Done(result) => effects.push(Effect::GiveAnswer(token, result)),
                AskAnswer::Again => self.line(server).asks.push_front(ask),
            }
        }
        let line = self.line(server);
        flight.reports.clear();
        flight.presents.clear();
        // What was not answered at all is asked once more.
        line.put_back(now, flight);
        self.due.insert(server);
    }

    fn wait(&mut self, server: ServerId, number: u64, state: TellState) {
        if let Some(entry) = self.line(server).tells.get_mut(&number) {
            entry.state = state;
        }
    }

    fn settle(
        &mut self,
        now: Timestamp,
        server: ServerId,
        number: u64,
        reply: Reply,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.line(server).tells.get_mut(&number) else { return };
        if matches!(entry.state, TellState::Answered(..)) {
            return;
        }
        entry.state = TellState::Answered(reply.clone(), now.after_ms(SETTLE_AGAIN_MS));
        effects.push(Effect::Settle(server, number, reply));
    }

    fn lost(&mut self, now: Timestamp, server: ServerId, batch: u64) {
        let line = self.line(server);
        if let Some(flight) = line.flights.remove(&batch) {
            line.put_back(now, flight);
            // A peer that loses batches is not asked at once again.
            line.failures = line.failures.saturating_add(1);
            let again = now.after_ms(line.pause_ms(server));
            for entry in line.tells.values_mut() {
                if let TellState::Waiting(at) = &mut entry.state {
                    *at = again;
                }
            }
        }
        self.due.insert(server);
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let servers: Vec<ServerId> = self.lines.keys().copied().collect();
        for server in servers {
            self.expire(now, server, effects);
            self.due.insert(server);
        }
    }

    fn expire(&mut self, now: Timestamp, server: ServerId, effects: &mut Vec<Effect>) {
        let line = self.line(server);
        let lost: Vec<u64> = line
            .flights
            .iter()
            .filter(|(_, flight)| flight.lost_at <= now)
            .map(|(batch, _)| *batch)
            .collect();
        for batch in lost {
            if let Some(flight) = line.flights.remove(&batch) {
                line.put_back(now, flight);
            }
        }
        let unreachable = unreachable(&line.tries);
        for (number, entry) in &mut line.tells {
            let due = entry.sent.tell.deadline_at.is_some_and(|at| at <= now) && !entry.overdue;
            match (&entry.state, entry.handed) {
                (TellState::Answered(reply, at), _) if *at <= now => {
                    effects.push(Effect::Settle(server, *number, reply.clone()));
                    entry.state = TellState::Answered(reply.clone(), now.after_ms(SETTLE_AGAIN_MS));
                }
                (TellState::Waiting(_), false) if due => {
                    entry.overdue = true;
                    let reply = Reply { result: Err(unreachable.clone()), touched: Vec::new() };
                    entry.state = TellState::Answered(reply, now.after_ms(SETTLE_AGAIN_MS));
                    effects.push(Effect::GiveUp(server, *number, unreachable.clone()));
                }
                (TellState::Waiting(_) | TellState::Flying | TellState::Started(_), true)
                    if due =>
                {
                    entry.overdue = true;
                    effects.push(Effect::CallUnknown(server, *number));
                }
                _ => {}
            }
        }
        line.asks.retain(|ask| {
            let alive = ask.until > now;
            if !alive {
                effects.push(Effect::GiveAnswer(ask.token, Err(unreachable.clone())));
            }
            alive
        });
        for flight in line.flights.values_mut() {
            flight.asks.retain(|ask| {
                let alive = ask.until > now;
                if !alive {
                    let problem =
                        Problem::new(Code::TimedOut, "the other server did not answer in time");
                    effects.push(Effect::GiveAnswer(ask.token, Err(problem)));
                }
                alive
            });
        }
    }

    /// Sends what waits, or dials.
    fn pump(&mut self, now: Timestamp, server: ServerId, effects: &mut Vec<Effect>) {
        let incarnation = self.incarnation;
        let mut next = self.next_batch;
        let line = self.line(server);
        if !line.connected {
            let due = line.next_try_at.is_none_or(|at| at <= now);
            if line.wants_contact() && !line.dialling && due {
                line.dialling = true;
                effects.push(Effect::Dial(server));
            }
            return;
        }
        while line.flights.len() < BATCHES_MAX
            && let Some((batch, flight)) = line.load(now, incarnation)
        {
            line.flights.insert(next, flight);
            effects.push(Effect::Send(server, next, Box::new(batch)));
            next += 1;
        }
        self.next_batch = next;
    }
}

/// What somebody is told whose call could not be handed over.
fn unreachable(tries: &[Try]) -> Problem {
    let tries: Vec<Json> = tries
        .iter()
        .map(|tried| serde_json::json!({"address": tried.address, "reason": tried.reason}))
        .collect();
    let says = match tries.first() {
        Some(first) => {
            let reason = first.get("reason").and_then(Json::as_str).unwrap_or_default();
            format!("the other server could not be reached: {reason}")
        }
        None => "the other server could not be reached: no address of it is known".to_owned(),
    };
    Problem::new(Code::PeerUnreachable, says)
        .hint("nothing was handed over; see it with: freehold server show NAME")
        .with("tries", tries)
}
