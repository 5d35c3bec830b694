//! One server's line: what waits for it, what is on its way, when it is tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_bytes::ByteBuf;

use super::outbound::AskOut;
use crate::model::{
    AccountId, Act, ActsFor, Fleeting, Reply, Sent, ServerId, Timestamp, Try, WorldId, bytes_of,
};
use crate::wire::{
    ACTS_MAX, ASKS_MAX, Advance, AskItem, BATCH_BYTES_MAX, Batch, Notice, Report, TELLS_MAX,
    TellItem, WireCall,
};

/// Batches on their way to one server.
pub const BATCHES_MAX: usize = 3;
/// How long a batch may stay unanswered before it counts as lost, in milliseconds.
pub const SILENCE_MAX_MS: u64 = 20_000;
/// Questions that wait for one server.
pub(super) const ASKS_WAITING_MAX: usize = 4_096;
/// Reports and notices that wait for one server, each.
const NEWS_MAX: usize = 1_024;
/// The first pause after a failed try, in milliseconds; doubled with each further one.
const PAUSE_FIRST_MS: u64 = 250;
/// The longest pause, in milliseconds.
const PAUSE_MAX_MS: u64 = 90_000;
/// When something that was started is asked about again, in milliseconds.
pub(super) const STARTED_AGAIN_MS: u64 = 2_000;
/// When an answer that the turns had no room for is offered again, in milliseconds.
pub(super) const SETTLE_AGAIN_MS: u64 = 1_000;
/// How long an advance waits for something to travel with, in milliseconds.
const ADVANCE_AFTER_MS: u64 = 500;
/// Room that is left in a batch for what surrounds its items, in bytes.
const SLACK: usize = 16 * 1024;

/// Accounts whose word is kept for one server.
const CLAIMS_MAX: usize = 1_024;

/// Our word that a call is for an account of ours, if it was given.
fn vouched(
    claims: &BTreeMap<AccountId, Option<(ByteBuf, Timestamp)>>,
    claim: Option<AccountId>,
) -> Option<ActsFor> {
    let account = claim?;
    let (token, _) = claims.get(&account)?.as_ref()?;
    Some(ActsFor { account, token: Some(token.clone()) })
}

/// Sayings that wait for one server.
const SAID_MAX: usize = 256;
/// Bytes of a fleeting act in a batch, at most.
const ACT_BYTES: usize = 2_700;

/// Where something told stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TellState {
    /// Not on its way; not before this time.
    Waiting(Timestamp),
    /// In a batch.
    Flying,
    /// The other side has taken it and not ended it; asked about again at this time.
    Started(Timestamp),
    /// Answered; offered to the turns again at this time, until they forget it.
    Answered(Reply, Timestamp),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) sent: Sent,
    pub(super) state: TellState,
    pub(super) handed: bool,
    pub(super) overdue: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) tells: Vec<u64>,
    pub(super) asks: Vec<AskOut>,
    pub(super) reports: Vec<Report>,
    pub(super) presents: Vec<[u8; 32]>,
    pub(super) lost_at: Timestamp,
}

/// Everything that concerns one server.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) connected: bool,
    pub(super) dialling: bool,
    pub(super) pinned: bool,
    pub(super) tells: BTreeMap<u64, Entry>,
    pub(super) last: u64,
    pub(super) asks: VecDeque<AskOut>,
    pub(super) reports: VecDeque<Report>,
    pub(super) notices: BTreeMap<WorldId, Notice>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) protections: BTreeMap<[u8; 32], Vec<u8>>,
    pub(super) shown: BTreeSet<[u8; 32]>,
    pub(super) told_below: u64,
    pub(super) advance_at: Option<Timestamp>,
    pub(super) failures: u32,
    pub(super) next_try_at: Option<Timestamp>,
    pub(super) tries: Vec<Try>,
    /// What people said, and where they are: the newest of each.
    pub(super) said: VecDeque<Fleeting>,
    /// See `said`.
    pub(super) moved: BTreeMap<(WorldId, AccountId), Fleeting>,
    /// Whether the other side is to hear that we are about to stop.
    pub(super) parting: bool,
    /// Accounts for which something was told or asked, each with our word for it and its end.
    pub(super) claims: BTreeMap<AccountId, Option<(ByteBuf, Timestamp)>>,
}

impl Line {
    pub(super) fn done_below(&self) -> u64 {
        self.tells.first_key_value().map_or(self.last + 1, |(number, _)| *number)
    }

    /// Whether something waits for contact.
    pub(super) fn wants_contact(&self) -> bool {
        let tells = self.tells.values().any(|entry| match entry.state {
            TellState::Waiting(_) | TellState::Flying | TellState::Started(_) => true,
            TellState::Answered(..) => false,
        });
        self.pinned || tells || !self.asks.is_empty() || !self.reports.is_empty()
    }

    pub(super) fn add_report(&mut self, report: Report) {
        if self.reports.len() < NEWS_MAX {
            self.reports.push_back(report);
        }
    }

    pub(super) fn add_notice(&mut self, notice: Notice) {
        if !self.connected
            || (self.notices.len() >= NEWS_MAX && !self.notices.contains_key(&notice.world))
        {
            return;
        }
        // What has not left yet travels with what is new, as far as both fit together.
        match self.notices.get_mut(&notice.world) {
            Some(held)
                if held.head.log == notice.head.log
                    && held.events.len() + notice.events.len() <= 64 =>
            {
                held.head = notice.head;
                held.events.extend(notice.events);
            }
            _ => {
                self.notices.insert(notice.world, notice);
            }
        }
    }

    /// Notes what somebody in a world does. A place replaces the one before it; of what is said the
    /// oldest is dropped where too much waits. Nothing waits for a server that is away.
    pub(super) fn add_act(&mut self, act: Fleeting) {
        if !self.connected {
            return;
        }
        match act.act {
            Act::Move(_) => {
                let key = (act.world, act.account);
                if self.moved.len() < ACTS_MAX || self.moved.contains_key(&key) {
                    self.moved.insert(key, act);
                }
            }
            Act::Say(_) | Act::Come | Act::Leave => {
                if self.said.len() >= SAID_MAX {
                    self.said.pop_front();
                }
                self.said.push_back(act);
            }
        }
    }

    fn load_acts(&mut self, batch: &mut Batch, room: &mut usize) {
        batch.parting = std::mem::take(&mut self.parting);
        while batch.acts.len() < ACTS_MAX && *room > ACT_BYTES {
            let next = self.said.pop_front().or_else(|| self.moved.pop_first().map(|(_, act)| act));
            let Some(act) = next else { break };
            *room -= ACT_BYTES;
            batch.acts.push(act);
        }
    }

    /// The pause before the next try, with jitter that depends on the server and the count.
    pub(super) fn pause_ms(&self, server: ServerId) -> u64 {
        let doubled = PAUSE_FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX_MS);
        let mut hash = blake3::Hasher::new();
        hash.update(server.as_bytes()).update(&self.failures.to_be_bytes());
        let jitter = u64::from(hash.finalize().as_bytes()[0]);
        doubled - doubled * jitter / 1_024
    }

    /// Takes what waits into one batch; none where nothing does.
    pub(super) fn load(
        &mut self,
        now: Timestamp,
        incarnation: crate::model::Incarnation,
    ) -> Option<(Batch, Flight)> {
        let mut batch = Batch::empty(Advance { incarnation, done_below: self.done_below() });
        let mut flight = Flight {
            tells: Vec::new(),
            asks: Vec::new(),
            reports: Vec::new(),
            presents: Vec::new(),
            lost_at: now.after_ms(SILENCE_MAX_MS),
        };
        let mut room = BATCH_BYTES_MAX - SLACK;
        // One batch with things told at a time: their order is the order of running.
        if self.flights.values().all(|flight| flight.tells.is_empty()) {
            self.load_tells(now, &mut batch, &mut flight, &mut room);
        }
        self.load_asks(now, &mut batch, &mut flight, &mut room);
        self.load_news(&mut batch, &mut flight, &mut room);
        self.load_acts(&mut batch, &mut room);
        let advance_due = self.advance_at.is_some_and(|at| at <= now);
        if batch.is_empty() && !advance_due {
            return None;
        }
        for (hash, id) in &self.protections {
            if self.shown.insert(*hash) {
                batch.presents.push(ByteBuf::from(id.clone()));
                flight.presents.push(*hash);
            }
        }
        self.told_below = batch.lane.done_below;
        self.advance_at = None;
        Some((batch, flight))
    }

    fn load_tells(
        &mut self,
        now: Timestamp,
        batch: &mut Batch,
        flight: &mut Flight,
        room: &mut usize,
    ) {
        for (number, entry) in &mut self.tells {
            let due = match entry.state {
                TellState::Waiting(at) | TellState::Started(at) => at <= now,
                TellState::Flying | TellState::Answered(..) => false,
            };
            // What comes after something that waits must wait too.
            if !due {
                if matches!(entry.state, TellState::Waiting(_)) {
                    break;
                }
                continue;
            }
            let tell = &entry.sent.tell;
            let bytes = 256 + bytes_of(&tell.args);
            if batch.tells.len() >= TELLS_MAX || bytes > *room {
                break;
            }
            *room -= bytes;
            entry.state = TellState::Flying;
            entry.handed = true;
            flight.tells.push(*number);
            batch.tells.push(TellItem {
                number: *number,
                call: WireCall {
                    command: tell.command.clone(),
                    args: tell.args.clone(),
                    claim: tell.claim,
                    root: tell.root.clone(),
                    time_left_ms: tell.deadline_at.map(|at| at.ms_since(now)),
                    user: tell.user.clone().or_else(|| {
                        let claim = tell.claim.filter(|_| !tell.is_unvouched);
                        vouched(&self.claims, claim)
                    }),
                },
            });
        }
    }

    fn load_asks(
        &mut self,
        now: Timestamp,
        batch: &mut Batch,
        flight: &mut Flight,
        room: &mut usize,
    ) {
        while let Some(ask) = self.asks.front() {
            let bytes = 256 + bytes_of(&ask.args);
            if batch.asks.len() >= ASKS_MAX || bytes > *room {
                break;
            }
            *room -= bytes;
            let Some(ask) = self.asks.pop_front() else { break };
            batch.asks.push(AskItem {
                id: ask.token,
                call: WireCall {
                    command: ask.command.clone(),
                    args: ask.args.clone(),
                    claim: ask.claim,
                    root: ask.root.clone(),
                    time_left_ms: Some(ask.until.ms_since(now)),
                    user: ask.user.clone().or_else(|| vouched(&self.claims, ask.claim)),
                },
            });
            flight.asks.push(ask);
        }
    }

    fn load_news(&mut self, batch: &mut Batch, flight: &mut Flight, room: &mut usize) {
        while let Some(report) = self.reports.front() {
            let bytes = 256
                + report.reply.result.as_ref().map_or(256, bytes_of)
                + report.reply.touched.len() * 128;
            if bytes > *room {
                break;
            }
            *room -= bytes;
            let Some(report) = self.reports.pop_front() else { break };
            flight.reports.push(report.clone());
            batch.reports.push(report);
        }
        while let Some((world, notice)) = self.notices.first_key_value() {
            let events: usize = notice
                .events
                .iter()
                .map(|event| 200 + bytes_of(&event.value) + bytes_of(&event.old))
                .sum();
            let (world, bytes) = (*world, 64 + events);
            if bytes > *room {
                break;
            }
            *room -= bytes;
            batch.notices.extend(self.notices.remove(&world));
        }
    }

    /// Puts back what was on its way in a batch that is lost.
    pub(super) fn put_back(&mut self, now: Timestamp, flight: Flight) {
        for number in flight.tells {
            if let Some(entry) = self.tells.get_mut(&number)
                && entry.state == TellState::Flying
            {
                entry.state = TellState::Waiting(now);
            }
        }
        for ask in flight.asks.into_iter().rev() {
            self.asks.push_front(ask);
        }
        for report in flight.reports.into_iter().rev() {
            self.reports.push_front(report);
        }
        for hash in flight.presents {
            self.shown.remove(&hash);
        }
    }

    /// Notes that less is open than the other side knows: told soon, with whatever else is.
    pub(super) fn note_advance(&mut self, now: Timestamp) {
        if self.done_below() > self.told_below && self.advance_at.is_none() {
            self.advance_at = Some(now.after_ms(ADVANCE_AFTER_MS));
        }
    }

    /// Notes for whom something is told or asked.
    pub(super) fn note_claim(&mut self, claim: Option<AccountId>) {
        let Some(account) = claim else { return };
        if self.claims.len() >= CLAIMS_MAX && !self.claims.contains_key(&account) {
            self.claims.pop_first();
        }
        self.claims.entry(account).or_default();
    }

    /// When this line wants to be looked at again.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let may_tell =
            self.connected && self.flights.values().all(|flight| flight.tells.is_empty());
        let tells = self.tells.values().flat_map(|entry| {
            let overdue = entry.sent.tell.deadline_at.filter(|_| !entry.overdue);
            match &entry.state {
                TellState::Waiting(at) | TellState::Started(at) => {
                    [Some(*at).filter(|at| may_tell && *at > Timestamp::default()), overdue]
                }
                TellState::Answered(_, at) => [Some(*at), None],
                TellState::Flying => [None, overdue],
            }
        });
        let asks = self
            .asks
            .iter()
            .chain(self.flights.values().flat_map(|flight| &flight.asks))
            .map(|ask| ask.until);
        let flights = self.flights.values().map(|flight| flight.lost_at);
        let again =
            self.next_try_at.filter(|_| !self.connected && !self.dialling && self.wants_contact());
        let advance =
            self.advance_at.filter(|_| self.connected && self.flights.len() < BATCHES_MAX);
        tells.flatten().chain(asks).chain(flights).chain(again).chain(advance).min()
    }
}
