//! A home that has met another server, put there as rows: the server is on a list of ours, may call at
//! set times and so often, and calls for a user of its own who is known here. And the door at which its
//! calls arrive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use freehold::model::{
    AccountId, ActsFor, Bounds, Budget, Call, Changes, Element, ElementId, Incarnation, JobId,
    Json, Key, Limit, Name, PermissionState, Protection, ProtectionState, Root, Row, Server,
    ServerId, ServerState, SignedRecord, Timestamp, TypeDefinition, TypeId, Visitor, WorldId,
};
use freehold::node;
use freehold::post::{Door, Inbound, InboundEffect};
use freehold::script::read_type;
use freehold::trust::{
    KeyPair, ProtectionClaim, TOKEN_LIFE_MS, UserClaim, issue_protection, issue_user,
};
use freehold::wire::{Advance, AskItem, Batch, WireCall};
use serde_bytes::ByteBuf;
use serde_json::json;

use super::setting::{US, setting};
use crate::floor::rounds::{Fault, now};

/// The command that is called.
pub(crate) const COMMAND: &str = "element.set";
/// The world of the thing.
pub(crate) const WORLD: WorldId = WorldId::from_bytes([3; 16]);
/// The thing.
pub(crate) const LAMP: ElementId = ElementId::from_bytes([6; 16]);
/// Its attribute, which is for servers on the list.
pub(crate) const ON: &str = "on";

/// The other server.
const KITCHEN: ServerId = ServerId::from_bytes([8; 16]);
/// The life of its store.
const LIFE: Incarnation = Incarnation::from_bytes([5; 16]);
/// Its user, who is permitted to let it act for lamps.
const BOB: AccountId = AccountId::from_bytes([9; 16]);
/// Who owns the thing.
const ALICE: AccountId = AccountId::from_bytes([2; 16]);
const TYPE: TypeId = TypeId::from_bytes([4; 16]);
const LIST: &str = "family";
const TYPE_FILE: &str = r#"
name = "lamp"
protected = "family"

[attributes.on]
kind = "bool"
default = false
read = "protected"
write = "protected"
"#;
/// What it may call: so much that it never ends.
pub(crate) const LIMIT: Limit = Limit { calls_per_unit: u32::MAX, seconds_in_unit: 3_600 };
/// Time that a call has, in milliseconds.
const TIME_LEFT_MS: u64 = 30_000;
/// Bytes of a signed record, about.
const RECORD_BYTES: usize = 280;

/// Who we are, who the other server is, and what it was given.
pub(crate) struct Met {
    pub(crate) now: Timestamp,
    our_key: [u8; 32],
    kitchen_key: [u8; 32],
    /// The proof of its place on our list.
    place: Vec<u8>,
    /// Its word that it calls for its user.
    word: Vec<u8>,
    homes: HashMap<ServerId, [u8; 32]>,
}

impl Met {
    /// They have met.
    pub(crate) fn new() -> Result<Self, Fault> {
        let (ours, kitchen) = (setting()?.keys, KeyPair::from_seed(&[8; 32]));
        let now = node::now();
        let place = ProtectionClaim {
            issuer: US,
            subject: KITCHEN,
            holder: kitchen.public(),
            list: Name::new(LIST)?,
            nonce: [1; 16],
            issued_at: now,
        };
        let word = UserClaim {
            issuer: KITCHEN,
            subject: BOB,
            holder: kitchen.public(),
            audience: US,
            scope: vec!["lamp".to_owned()],
            nonce: [1; 16],
            issued_at: now,
            ends_at: now.after_ms(TOKEN_LIFE_MS),
        };
        Ok(Self {
            now,
            our_key: ours.public(),
            kitchen_key: kitchen.public(),
            place: issue_protection(&ours, &place),
            word: issue_user(&kitchen, &word),
            homes: HashMap::from([(KITCHEN, kitchen.public())]),
        })
    }

    /// What is stored here of all that.
    pub(crate) fn rows(&self) -> Result<Changes, Fault> {
        let list = Name::new(LIST)?;
        let schedule = json!({"times": [{"from": "2020-01-01T00:00:00Z"}],
            "schedules": [{"cron": "0 * * * *", "lasts": "2h"}]});
        let schedule = Bounds::from_json(&schedule).map_err(|mistakes| mistakes.join("; "))?;
        let server = Server {
            id: KITCHEN,
            name: Name::new("kitchen")?,
            claims: Name::new("kitchen")?,
            record: SignedRecord(vec![7; RECORD_BYTES]),
            key: self.kitchen_key,
            sequence: 0,
            allowed: ServerState::Allowed,
            paused_at: None,
            limit: Some(LIMIT),
            addresses: vec!["/ip4/127.0.0.1/udp/4750/quic-v1".to_owned()],
            met_at: self.now,
            incarnation: LIFE,
            domain: None,
            confirmed_at: None,
            schedule: Some(schedule),
            settled_in: None,
        };
        let protection = Protection {
            list: list.clone(),
            server: KITCHEN,
            state: ProtectionState::Active,
            issued: *blake3::hash(&self.place).as_bytes(),
            held: vec![7; self.place.len()],
            since: self.now,
        };
        let visitor = Visitor {
            account: BOB,
            home: KITCHEN,
            name: "bob".to_owned(),
            record: None,
            state: PermissionState::Permitted,
            ends_at: None,
            since: self.now,
        };
        let rows = [
            (Key::Server(KITCHEN), Row::Server(Arc::new(server))),
            (Key::Protection(KITCHEN, list.key()), Row::Protection(Arc::new(protection))),
            (Key::Visitor(BOB), Row::Visitor(Arc::new(visitor))),
            (Key::Type(TYPE), Row::Type(Arc::new(lamp_type()?))),
            (Key::Element(WORLD, LAMP), Row::Element(Arc::new(lamp()))),
        ];
        Ok(rows.into_iter().map(|(key, row)| (key, Some(row))).collect())
    }

    fn door(&self) -> Door<'_> {
        Door {
            us: US,
            key: &self.our_key,
            server: KITCHEN,
            server_key: &self.kitchen_key,
            limit: LIMIT,
            keys: &self.homes,
        }
    }
}

fn lamp() -> Element {
    Element {
        id: LAMP,
        world: WORLD,
        type_id: TYPE,
        owner: ALICE,
        name: None,
        values: BTreeMap::from([(ON.to_owned(), Json::Bool(true))]),
        attributes_off: BTreeSet::new(),
        parents_off: BTreeSet::new(),
        in_sets: 0,
        epoch: 0,
        rests: None,
        chain: Vec::new(),
        home: None,
    }
}

fn lamp_type() -> Result<TypeDefinition, Fault> {
    let file = read_type(TYPE_FILE).map_err(|mistakes| format!("{mistakes:?}"))?;
    Ok(TypeDefinition {
        id: TYPE,
        owner: ALICE,
        revision: 1,
        used: true,
        definition: file.definition,
        own: None,
        parents: Vec::new(),
        retired_at: None,
        home: None,
        public_off: false,
        actions_off: BTreeSet::new(),
        above: Vec::new(),
    })
}

/// The door, at which calls of the other server arrive.
pub(crate) struct AtDoor<'m> {
    met: &'m Met,
    inbound: Inbound,
    /// For whom it calls, with its word.
    user: Option<ActsFor>,
    batches: u64,
}

impl<'m> AtDoor<'m> {
    /// The server has shown its place on our list, and its word for its user: all that was verified.
    /// Also gives back a call as it comes through the door.
    pub(crate) fn known(met: &'m Met) -> Result<(Self, Call), Fault> {
        let token = Some(ByteBuf::from(met.word.clone()));
        let mut door = Self::of(met, Some(ActsFor { account: BOB, token }));
        let (_, calls) = door.pass(1, vec![ByteBuf::from(met.place.clone())])?;
        let call = calls.into_iter().next().ok_or("nothing came through the door")?;
        Ok((door, call))
    }

    /// The server has shown nothing, and calls for nobody.
    pub(crate) fn unknown(met: &'m Met) -> Self {
        Self::of(met, None)
    }

    fn of(met: &'m Met, user: Option<ActsFor>) -> Self {
        Self { met, inbound: Inbound::default(), user, batches: 0 }
    }

    /// Lets a batch of so many calls through, and says how long that took.
    pub(crate) fn batch(&mut self, calls: u64) -> Result<Duration, Fault> {
        Ok(self.pass(calls, Vec::new())?.0)
    }

    fn pass(&mut self, calls: u64, presents: Vec<ByteBuf>) -> Result<(Duration, Vec<Call>), Fault> {
        let root =
            Root { job: JobId::from_bytes([7; 16]), path: vec![KITCHEN], budget: Budget::FULL };
        let ask = |id| AskItem {
            id,
            call: WireCall {
                command: COMMAND.to_owned(),
                args: json!({"element": LAMP, "attribute": ON, "value": true}),
                claim: None,
                root: root.clone(),
                time_left_ms: Some(TIME_LEFT_MS),
                user: self.user.clone(),
            },
        };
        let asks = (0..calls).map(ask).collect();
        let lane = Advance { incarnation: LIFE, done_below: 1 };
        let batch = Batch { presents, asks, ..Batch::empty(lane) };
        self.batches += 1;
        let began = now();
        let effects = self.inbound.received(self.met.now, self.met.door(), self.batches, batch);
        let took = began.elapsed();
        let mut passed = Vec::new();
        for effect in effects {
            let InboundEffect::Run(arrival) = effect else { continue };
            if let Some(problem) = arrival.refused {
                return Err(problem.says.into());
            }
            // The door waits for every answer before it lets go of a batch.
            self.inbound.asked(arrival.ticket, Ok(Json::Null));
            passed.push(arrival.call);
        }
        Ok((took, passed))
    }
}
