//! What other servers want of us: checked once at the door, answered when its turn is committed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use crate::model::{
    ActsFor, Call, Caller, Code, DEADLINE_DEFAULT_MS, DEADLINE_MAX_MS, Fleeting, Incarnation,
    JobId, Json, Limit, Presented, Problem, Reply, ServerId, Timestamp, User, bytes_of,
};
use crate::trust::{Meter, TokenRefused, UserClaim, issuer_of, verify_protection, verify_user};
use crate::wire::{
    AskAnswer, BATCH_BYTES_MAX, Batch, BatchAnswer, Notice, Report, TellAnswer, WireCall, digest_of,
};

/// Batches of one server that are answered at the same time.
const BATCHES_MAX: usize = 4;
/// Protection ids that are remembered for one connection.
const SHOWN_MAX: usize = 64;
/// User tokens that are remembered for one connection.
const WORDS_MAX: usize = 256;
/// Servers of which calls are counted.
const METERS_MAX: usize = 10_000;
/// Room that is left in an answer for what surrounds its items, in bytes.
const SLACK: usize = 24 * 1024;

/// What the door knows: who we are, and who the sender is.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    /// This server.
    pub us: ServerId,
    /// Our key of today.
    pub key: &'a [u8; 32],
    /// The sender.
    pub server: ServerId,
    /// The sender's key of today.
    pub server_key: &'a [u8; 32],
    /// What the sender may call.
    pub limit: Limit,
    /// The keys of the servers that were met: homes whose word may be shown.
    pub keys: &'a HashMap<ServerId, [u8; 32]>,
}

/// An item as it passed the door.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Finds its answer.
    pub ticket: u64,
    /// The call that it became.
    pub call: Call,
    /// Its number and digest, if it must happen once; else it is asked.
    pub told: Option<(Incarnation, u64, [u8; 16])>,
    /// Why it may not run.
    pub refused: Option<Problem>,
    /// Whether its server showed a protection id that holds.
    pub listed: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum InboundEffect {
    /// Run this.
    Run(Box<Arrival>),
    /// Let a turn note what the sender has stored.
    Advance(ServerId, Incarnation, u64),
    /// Something that we told has ended.
    Report(ServerId, Report),
    /// A feed that we follow has news.
    News(ServerId, Notice),
    /// Somebody in a world does something.
    Act(ServerId, Fleeting),
    /// The server is about to stop.
    Parting(ServerId),
    /// Answer a batch.
    Respond(u64, Box<BatchAnswer>),
}

#[derive(Debug)]
struct Open {
    server: ServerId,
    waiting: usize,
    answer: BatchAnswer,
    room: usize,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Tell(u64),
    Ask(u64),
}

/// Batches of other servers that are not answered yet.
#[derive(Debug, Default)]
pub struct Inbound {
    open: BTreeMap<u64, Open>,
    items: HashMap<u64, (u64, Item)>,
    next_ticket: u64,
    shown: HashMap<ServerId, Vec<Presented>>,
    words: HashMap<ServerId, HashMap<[u8; 32], UserClaim>>,
    meters: HashMap<ServerId, Meter>,
    over: HashMap<ServerId, u64>,
    bad_words: HashMap<ServerId, u64>,
}

impl Inbound {
    /// A batch arrived; `batch_id` finds the one who waits for its answer.
    pub fn received(
        &mut self,
        now: Timestamp,
        door: Door<'_>,
        batch_id: u64,
        batch: Batch,
    ) -> Vec<InboundEffect> {
        let busy =
            self.open.values().filter(|open| open.server == door.server).count() >= BATCHES_MAX;
        let mut effects = vec![InboundEffect::Advance(
            door.server,
            batch.lane.incarnation,
            batch.lane.done_below,
        )];
        let mut open = Open {
            server: door.server,
            waiting: 0,
            answer: BatchAnswer::default(),
            room: BATCH_BYTES_MAX - SLACK,
        };
        for id in &batch.presents {
            if !self.show(door, id) {
                open.answer.unknown.push(blake3::hash(id).as_bytes().to_vec().into());
            }
        }
        effects.extend(
            batch.reports.into_iter().map(|report| InboundEffect::Report(door.server, report)),
        );
        effects.extend(
            batch.notices.into_iter().map(|notice| InboundEffect::News(door.server, notice)),
        );
        effects.extend(batch.acts.into_iter().map(|act| InboundEffect::Act(door.server, act)));
        if batch.parting {
            effects.push(InboundEffect::Parting(door.server));
        }
        if busy {
            let problem =
                Problem::new(Code::Busy, "too many batches at once").with("retry_after_ms", 200);
            let faults =
                batch.tells.iter().map(|item| (item.number, TellAnswer::Fault(problem.clone())));
            open.answer.tells.extend(faults);
            let refusals =
                batch.asks.iter().map(|item| (item.id, AskAnswer::Done(Err(problem.clone()))));
            open.answer.asks.extend(refusals);
            effects.push(InboundEffect::Respond(batch_id, Box::new(open.answer)));
            return effects;
        }
        for item in batch.tells {
            let told = Some((batch.lane.incarnation, item.number, digest_of(&item.call)));
            effects.push(self.arrive(
                now,
                door,
                batch_id,
                Item::Tell(item.number),
                item.call,
                told,
            ));
            open.waiting += 1;
        }
        for item in batch.asks {
            effects.push(self.arrive(now, door, batch_id, Item::Ask(item.id), item.call, None));
            open.waiting += 1;
        }
        if open.waiting == 0 {
            effects.push(InboundEffect::Respond(batch_id, Box::new(open.answer)));
        } else {
            self.open.insert(batch_id, open);
        }
        effects
    }

    /// Remembers a protection id for the connection, if it holds.
    fn show(&mut self, door: Door<'_>, id: &[u8]) -> bool {
        let Ok(claim) = verify_protection(id, door.key) else { return false };
        let fits = claim.issuer == door.us
            && claim.subject == door.server
            && claim.holder == *door.server_key;
        if fits {
            let shown = self.shown.entry(door.server).or_default();
            let presented =
                Presented { list: claim.list.key(), hash: *blake3::hash(id).as_bytes() };
            if !shown.contains(&presented) {
                if shown.len() >= SHOWN_MAX {
                    shown.remove(0);
                }
                shown.push(presented);
            }
        }
        fits
    }

    fn arrive(
        &mut self,
        now: Timestamp,
        door: Door<'_>,
        batch_id: u64,
        item: Item,
        call: WireCall,
        told: Option<(Incarnation, u64, [u8; 16])>,
    ) -> InboundEffect {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.items.insert(ticket, (batch_id, item));
        let refused = self.charge(now, door).err().or_else(|| {
            // A root that comes back may ask here, not change: that could be a circle.
            let again =
                told.is_some() && call.root.path.contains(&door.us) && call.root.path.len() > 8;
            again.then(|| {
                Problem::new(
                    Code::ScriptBudget,
                    format!("the call runs in a circle: {}", path(&call)),
                )
            })
        });
        // What is refused anyway costs no more.
        let user = match (&refused, &call.user) {
            (None, Some(acts)) => self.user(now, door, acts).map(Some),
            (Some(_), _) | (None, None) => Ok(None),
        };
        let refused = refused.or_else(|| user.as_ref().err().cloned());
        let user = user.ok().flatten();
        let presented = self.shown.get(&door.server).cloned().unwrap_or_default();
        let listed = !presented.is_empty();
        let left = call.time_left_ms.unwrap_or(DEADLINE_DEFAULT_MS).min(DEADLINE_MAX_MS);
        let call = Call {
            id: job_id(now, door.server, ticket, told),
            command: call.command,
            caller: Caller::Remote { server: door.server, claim: call.claim, presented, user },
            args: call.args,
            world: None,
            meta: Json::Null,
            reply_to: None,
            deadline_at: now.after_ms(left),
            root: bounded(call.root),
        };
        InboundEffect::Run(Box::new(Arrival { ticket, call, told, refused, listed }))
    }

    /// The user for whom a call is, with the word of their home. A word is verified once for a
    /// connection.
    fn user(&mut self, now: Timestamp, door: Door<'_>, acts: &ActsFor) -> Result<User, Problem> {
        let account = acts.account;
        let Some(token) = &acts.token else {
            // Its home is here, or it counts for nothing: the turn looks at the permission.
            return Ok(User { account, home: door.us, scope: Vec::new() });
        };
        let hash = *blake3::hash(token).as_bytes();
        let words = self.words.entry(door.server).or_default();
        let checked = word(words, hash, door, token).and_then(|claim| {
            claim.check(account, door.server_key, door.us, now)?;
            Ok(User { account, home: claim.issuer, scope: claim.scope.clone() })
        });
        checked.map_err(|refused| {
            *self.bad_words.entry(door.server).or_default() += 1;
            Problem::new(Code::NotPermitted, refused.to_string())
        })
    }

    /// User tokens of a server that did not hold since this was asked last.
    pub fn take_bad_words(&mut self, server: ServerId) -> u64 {
        self.bad_words.remove(&server).unwrap_or(0)
    }

    fn charge(&mut self, now: Timestamp, door: Door<'_>) -> Result<(), Problem> {
        if self.meters.len() >= METERS_MAX && !self.meters.contains_key(&door.server) {
            self.meters.retain(|_, meter| meter.calls_made(now) > 0);
        }
        let meter = self.meters.entry(door.server).or_default();
        meter.charge(now, door.limit).map_err(|over| {
            *self.over.entry(door.server).or_default() += 1;
            Problem::new(Code::OverLimit, over.to_string())
                .with("retry_after_ms", over.retry_after_ms)
        })
    }

    /// Calls that a server made in the running unit, and those that were over its limit.
    pub fn counted(&self, now: Timestamp, server: ServerId) -> (u32, u64) {
        let made = self.meters.get(&server).map_or(0, |meter| meter.calls_made(now));
        (made, self.over.get(&server).copied().unwrap_or(0))
    }

    /// Something told was answered by its turn.
    pub fn told(&mut self, ticket: u64, answer: TellAnswer) -> Option<InboundEffect> {
        let (batch_id, item) = self.items.remove(&ticket)?;
        let open = self.open.get_mut(&batch_id)?;
        if let Item::Tell(number) = item {
            let bytes = match &answer {
                TellAnswer::Done(reply) => bytes_of_reply(reply),
                TellAnswer::Started | TellAnswer::Fault(_) => 512,
            };
            let answer = match open.room.checked_sub(bytes) {
                Some(left) => {
                    open.room = left;
                    answer
                }
                // It is kept, and given when it is asked about again.
                None => TellAnswer::Started,
            };
            open.answer.tells.push((number, answer));
        }
        self.count_down(batch_id)
    }

    /// Something asked was answered.
    pub fn asked(&mut self, ticket: u64, result: Result<Json, Problem>) -> Option<InboundEffect> {
        let (batch_id, item) = self.items.remove(&ticket)?;
        let open = self.open.get_mut(&batch_id)?;
        if let Item::Ask(id) = item {
            let bytes = 64 + result.as_ref().map_or(512, bytes_of);
            let answer = match open.room.checked_sub(bytes) {
                Some(left) => {
                    open.room = left;
                    AskAnswer::Done(result)
                }
                None => AskAnswer::Again,
            };
            open.answer.asks.push((id, answer));
        }
        self.count_down(batch_id)
    }

    fn count_down(&mut self, batch_id: u64) -> Option<InboundEffect> {
        let open = self.open.get_mut(&batch_id)?;
        open.waiting -= 1;
        if open.waiting > 0 {
            return None;
        }
        let open = self.open.remove(&batch_id)?;
        Some(InboundEffect::Respond(batch_id, Box::new(open.answer)))
    }

    /// The connection of a server ended: nobody waits for its answers, and nothing is shown.
    pub fn gone(&mut self, server: ServerId) {
        self.shown.remove(&server);
        self.words.remove(&server);
        let gone: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.server == server)
            .map(|(batch, _)| *batch)
            .collect();
        for batch in &gone {
            self.open.remove(batch);
        }
        self.items.retain(|_, (batch, _)| !gone.contains(batch));
    }

    /// What a server showed on its connection.
    pub fn shown(&self, server: ServerId) -> &[Presented] {
        self.shown.get(&server).map_or(&[], Vec::as_slice)
    }
}

/// What a user token says, where its issuer is known and signed it.
/// What a word says: as it was verified before, else it is verified now. That it is for this call is
/// not known yet.
fn word<'w>(
    words: &'w mut HashMap<[u8; 32], UserClaim>,
    hash: [u8; 32],
    door: Door<'_>,
    token: &[u8],
) -> Result<&'w UserClaim, TokenRefused> {
    if words.len() >= WORDS_MAX && !words.contains_key(&hash) {
        words.clear();
    }
    match words.entry(hash) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(place) => Ok(place.insert(verified(door, token)?)),
    }
}

fn verified(door: Door<'_>, token: &[u8]) -> Result<UserClaim, TokenRefused> {
    let issuer = issuer_of(token).ok_or(TokenRefused::BadSignature)?;
    let key = if issuer == door.server { Some(door.server_key) } else { door.keys.get(&issuer) };
    verify_user(token, key.ok_or(TokenRefused::UnknownHome)?)
}

fn path(call: &WireCall) -> String {
    let path: Vec<String> = call.root.path.iter().map(ToString::to_string).collect();
    path.join(" > ")
}

fn bytes_of_reply(reply: &Reply) -> usize {
    256 + reply.result.as_ref().map_or(512, bytes_of) + reply.touched.len() * 128
}

/// A root's budget as far as it may come from elsewhere: never more than one of our own.
fn bounded(mut root: crate::model::Root) -> crate::model::Root {
    root.budget.events = root.budget.events.min(crate::model::Budget::FULL.events);
    root.budget.fuel = root.budget.fuel.min(crate::model::Budget::FULL.fuel);
    root.budget.hops = root.budget.hops.min(crate::model::Budget::FULL.hops);
    root
}

fn job_id(
    now: Timestamp,
    server: ServerId,
    ticket: u64,
    told: Option<(Incarnation, u64, [u8; 16])>,
) -> JobId {
    let mut hash = blake3::Hasher::new_derive_key("freehold 1 remote job");
    hash.update(server.as_bytes());
    match told {
        Some((incarnation, number, digest)) => {
            hash.update(incarnation.as_bytes()).update(&number.to_be_bytes()).update(&digest);
        }
        None => {
            hash.update(&ticket.to_be_bytes());
        }
    }
    let mut random = [0; 10];
    random.copy_from_slice(&hash.finalize().as_bytes()[..10]);
    JobId::at(now, random)
}
