//! How the nodes of every simulation begin: who they are, whom they know, what they hold. Made once,
//! because keys and signatures are slow; each simulation starts from copies of these disks.

use std::sync::{Arc, LazyLock};

use freehold::commands;
use freehold::model::{
    AccountId, Budget, Call, Caller, Changes, Contact, ElementId, Incarnation, JobId, Json, Key,
    Name, Node, Root, Row, ServerId, SignedRecord, Timestamp, WorldId,
};
use freehold::script::Machine;
use freehold::step::Setting;
use freehold::store::{Outside, Store};
use freehold::trust::{Inception, KeyPair, Record, RecordKind};
use freehold::turn::{Done, Effect, Input, Turns};
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::disk::{Disk, Image};
use crate::model::Thing;

/// Nodes that a simulation can have.
pub(crate) const NODES_MAX: usize = 5;
/// Elements of each node.
pub(crate) const THINGS: usize = 2;
/// How long outcomes are kept: longer than any simulation.
pub(crate) const KEEP_MS: u64 = 86_400_000;
/// When the nodes are made.
const BEGUN_MS: u64 = 1_700_000_000_000;

/// The type of all elements.
const COUNTER: &str = r#"
name = "counter"
description = "It is stepped, asked, and sent to"

[attributes.weight]
kind = "integer"
default = 0

[attributes.count]
kind = "integer"
default = 0
read = "public"

[attributes.gathered]
kind = "integer"
default = 0

[attributes.sent]
kind = "integer"
default = 0

[attributes.landed]
kind = "integer"
default = 0

[attributes.replied]
kind = "integer"
default = 0

[actions.step]
on = "event:step"
level = "public"
script = '''
return { count = set("count", get("count") + 1) }
'''

[actions.home_step]
on = "event:home_step"
script = '''
return { count = set("count", get("count") + 1) }
'''

[actions.trick]
on = "event:trick"
level = "public"
script = '''
set("count", get("count") + 1)
refuse("not today")
'''

[actions.blunder]
on = "event:blunder"
level = "public"
script = '''
set("count", get("count") + 1)
error("it fell")
'''

[actions.tell]
on = "event:tell"
level = "public"
script = '''
return { weight = get("weight"), seen = get("count") }
'''

[actions.gather]
on = "event:gather"
level = "public"
script = '''
local answers = ask_all({ { event.one, "tell" }, { event.other, "tell" } })
local one, other = answers[1], answers[2]
set("gathered", get("gathered") + one.weight + 2 * other.weight)
return { first = one.weight, second = other.weight, seen = one.seen }
'''

[actions.post]
on = "event:post"
level = "public"
script = '''
set("sent", get("sent") + 1)
send("land", { by = get("weight") }, event.to)
return { sent = get("sent") }
'''

[actions.land]
on = "event:land"
level = "public"
script = '''
return { landed = set("landed", get("landed") + 1) }
'''

[actions.replied]
on = "event:land_reply"
script = '''
if event.done then set("replied", get("replied") + 1) end
'''
"#;

/// A node as it was made.
pub(crate) struct Founder {
    /// Who it is.
    pub(crate) setting: Setting,
    /// Its key of today.
    pub(crate) key: [u8; 32],
    /// The account that owns everything there.
    pub(crate) account: AccountId,
    /// The world of its elements.
    pub(crate) world: WorldId,
    /// Its elements, by their number.
    pub(crate) things: Vec<ElementId>,
    /// Its disk.
    pub(crate) image: Image,
}

/// Every node that a simulation can have. All of them know each other, each as `n1` and so on.
pub(crate) static FOUNDERS: LazyLock<Vec<Founder>> = LazyLock::new(|| {
    let citizens: Vec<Citizen> = (0..NODES_MAX).map(citizen).collect();
    let introductions: Vec<Introduction> = citizens.iter().map(Citizen::introduction).collect();
    citizens
        .into_iter()
        .enumerate()
        .map(|(number, citizen)| founded(number, citizen, &introductions))
        .collect()
});

/// How another node calls an element.
pub(crate) fn name_there(thing: Thing) -> String {
    format!("alice@n{}/garden/c{}", thing.home + 1, thing.number)
}

/// How its own node calls an element.
pub(crate) fn name_here(thing: Thing) -> String {
    format!("alice/garden/c{}", thing.number)
}

/// No contact with anybody: the network is not what is looked at.
pub(crate) fn no_contacts() -> Arc<dyn Outside> {
    Arc::new(|_: ServerId| Contact::default())
}

/// A machine without a fuse: fuel alone ends every run, so that all runs are the same.
pub(crate) fn machine() -> Machine {
    Machine::new(Arc::new(|_: bool| false)).unwrap()
}

/// A node before it has a store.
struct Citizen {
    setting: Setting,
    record: SignedRecord,
    incarnation: Incarnation,
}

/// What the others are told of a node.
struct Introduction {
    server: ServerId,
    name: Name,
    record: SignedRecord,
    incarnation: Incarnation,
}

impl Citizen {
    fn introduction(&self) -> Introduction {
        Introduction {
            server: self.setting.us,
            name: self.setting.name.clone(),
            record: self.record.clone(),
            incarnation: self.incarnation,
        }
    }
}

fn citizen(number: usize) -> Citizen {
    let byte = u8::try_from(number + 1).unwrap();
    let keys = KeyPair::from_seed(&[byte; 32]);
    let name = Name::new(&format!("n{byte}")).unwrap();
    let recovery_hash = *blake3::hash(&[byte; 32]).as_bytes();
    let inception = Inception {
        kind: RecordKind::Server,
        key: keys.public(),
        recovery_hash,
        nonce: [byte; 16],
    };
    let record = Record::first(inception, name.clone(), None);
    let us = record.server_id().unwrap();
    Citizen {
        record: record.sign(&keys),
        incarnation: Incarnation::from_bytes([byte; 16]),
        setting: Setting {
            us,
            keys,
            name,
            recovery_hash,
            time_zone: TimeZone::UTC,
            account: None,
            record_ms: 3_600_000,
            strangers_wait: false,
            limit: freehold::model::Limit::STRANGERS,
        },
    }
}

fn founded(number: usize, citizen: Citizen, introductions: &[Introduction]) -> Founder {
    let Citizen { setting, record, incarnation } = citizen;
    let disk = Disk::default();
    let store = Store::open(disk.clone(), no_contacts()).unwrap();
    let node = Node {
        server: setting.us,
        name: setting.name.clone(),
        record,
        recovery_hash: setting.recovery_hash,
        incarnation,
        earlier: Vec::new(),
        is_rekeyed: false,
    };
    store.commit(&Changes::from([(Key::Node, Some(Row::Node(Arc::new(node))))])).unwrap();
    let turns =
        Turns::load(commands::find, &store.view().unwrap(), &setting.keys, KEEP_MS).unwrap().0;
    let mut beginning =
        Beginning { number, calls: 0, store, turns, machine: machine(), setting: &setting };
    let account = id_in(&beginning.by_operator("account.add", json!({"name": "alice"})));
    let world = id_in(&beginning.by_operator("world.add", json!({"name": "alice/garden"})));
    beginning.by(account, "type.publish", json!({"source": COUNTER}));
    let things = (0..THINGS).map(|thing| beginning.thing(account, thing)).collect();
    for other in introductions.iter().filter(|other| other.server != setting.us) {
        beginning.meet(other);
    }
    drop(beginning);
    let (key, image) = (setting.keys.public(), disk.image());
    Founder { setting, key, account, world, things, image }
}

/// A node while it is made, one turn for each call.
struct Beginning<'s> {
    number: usize,
    calls: u64,
    store: Store,
    turns: Turns,
    machine: Machine,
    setting: &'s Setting,
}

impl Beginning<'_> {
    fn by_operator(&mut self, command: &str, args: Json) -> Json {
        self.called(Caller::Local { account: None, operator: true }, command, args)
    }

    fn by(&mut self, account: AccountId, command: &str, args: Json) -> Json {
        self.called(Caller::Local { account: Some(account), operator: false }, command, args)
    }

    fn thing(&mut self, account: AccountId, number: usize) -> ElementId {
        let weight = Thing { home: self.number, number }.weight();
        let args = json!({
            "type": "counter",
            "name": format!("c{number}"),
            "values": {"weight": weight},
        });
        id_in(&self.by(account, "element.create", args))
    }

    fn meet(&mut self, other: &Introduction) {
        let record: String = other.record.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let args = json!({
            "server": other.server.to_string(),
            "record": record,
            "name": other.name,
            "incarnation": other.incarnation.to_string(),
        });
        self.called(Caller::Node, "server.met", args);
    }

    fn called(&mut self, caller: Caller, command: &str, args: Json) -> Json {
        self.calls += 1;
        let now = Timestamp::from_ms(BEGUN_MS + self.calls);
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.calls.to_be_bytes());
        random[9] = u8::try_from(self.number).unwrap();
        let id = JobId::at(now, random);
        let call = Call {
            id,
            command: command.to_owned(),
            caller,
            args,
            world: None,
            meta: Json::Null,
            reply_to: None,
            deadline_at: now.after_ms(1_000),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        };
        self.turns.offer(Input::Called { call, idempotency: None }, false).unwrap();
        let view = self.store.view().unwrap();
        let done = self.turns.run(now, &view, &self.machine, self.setting).unwrap();
        let Done { changes, effects, .. } = done;
        self.store.commit(&changes).unwrap();
        let ended = effects.into_iter().find_map(|effect| {
            if let Effect::End(job, result) = effect { (job == id).then_some(result) } else { None }
        });
        ended.unwrap().unwrap_or_else(|problem| panic!("{command}: {problem:?}"))
    }
}

/// The id in the answer of a command that makes something.
pub(crate) fn id_in<T: DeserializeOwned>(answer: &Json) -> T {
    serde_json::from_value(answer["id"].clone()).unwrap()
}
