//! Events in memory: how many a second, and what one costs as they cause each other.
//!
//! Steps on one state, as a turn runs them, whose changes are thrown away instead of committed.
//!
//! An event with one listener that reads two fields of it and answers with a table: `event.send` on
//! one element. Wanted: at least 200,000 a second, and at least 0.5 of the floor, a bare Luau call
//! with the same data ([`floor::luau`]).
//!
//! Cascades of 100, 1,000 and 10,000 events over as many elements. A chain: each element hears that
//! its value changed, and sets the next one's. Such events follow each other and are not nested, so
//! the limit of a root, 10,000 events, is what ends it. And in breadth: one event sets all the
//! others, each of which hears it. Wanted: an event of 10,000 costs at most 1.3 times one of 100.
//! In the table the rate at 100 is the floor.
//!
//! The machine has no fuse. A node's own may end the one run that sets 9,999 elements: it leaves a
//! run 52 ms.

mod floor {
    pub(crate) mod luau;
    pub(crate) mod rounds;
}
mod ours {
    pub(crate) mod maker;
    pub(crate) mod setting;
}

use std::path::Path;
use std::sync::Arc;

use freehold::model::{
    AccountId, Answers, Call, Changes, Element, ElementId, Json, Key, Row, Snapshot, Timestamp,
    WorldId,
};
use freehold::script::Machine;
use freehold::step::{Command, Ended, Setting, Step};
use freehold::store::{Folder, Hot, Store};
use freehold::{commands, node};
use serde_json::json;

use crate::floor::luau::Bare;
use crate::floor::rounds::{Fault, Line, is_wanted, medians, print, timed};
use crate::ours::maker::{Maker, nobody};
use crate::ours::setting::{call_of, setting};

/// Events a second that are wanted.
const EVENTS_MIN: f64 = 200_000.0;
/// The least ratio of ours to a bare call.
const RATIO_MIN: f64 = 0.5;
/// Events of one round.
const EVENTS: usize = 20_000;
/// Calls that are made beforehand, so that only steps are timed.
const CALLS: u64 = 256;
/// Events of a cascade. Each divides those of a round.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// Elements of the home: those of the longest cascade.
const ELEMENTS: usize = SIZES[2];
/// How many times more an event of the longest cascade may cost than one of the shortest.
const GROWTH_MAX: f64 = 1.3;
/// The seed of every job.
const SEED: [u8; 32] = [7; 32];

const LAMP: &str = r#"
name = "lamp"

[attributes.charge]
kind = "integer"
default = 0

[attributes.next]
kind = "string"

[actions.glow]
on = "event:glow"
script = '''
return { left = event.charge - event.by }
'''

[actions.pass]
on = "after:value_change"
attribute = "charge"
script = '''
local left = event.value - 1
if left > 0 then
    set("charge", left, get("next"))
end
'''

[actions.spread]
on = "event:spread"
script = '''
local charge = event.charge
for _, lamp in event.lamps do
    set("charge", charge, lamp)
end
'''
"#;

/// How events cause each other.
struct Shape {
    name: &'static str,
    command: &'static str,
    /// What causes one event for each of these elements.
    args: fn(&[ElementId]) -> Json,
}

const SHAPES: [Shape; 2] = [
    Shape { name: "chain", command: "element.set", args: chain },
    Shape { name: "breadth", command: "event.send", args: breadth },
];

/// The charge is the count of those that are still to be lit.
fn chain(lamps: &[ElementId]) -> Json {
    json!({"element": lamps[0], "attribute": "charge", "value": lamps.len()})
}

/// With a charge of 1 nobody passes anything on.
fn breadth(lamps: &[ElementId]) -> Json {
    let data = json!({"charge": 1, "lamps": lamps[1..].to_vec()});
    json!({"element": lamps[0], "event": "spread", "data": data})
}

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let home = Home::made(folder.path())?;
    let mut lines = events(&home)?;
    let mut costs = Vec::new();
    for shape in &SHAPES {
        let rates = cascades(&home, shape)?;
        let [few, more, many] = rates;
        let line = |size: usize, ours, ratio_min| Line {
            name: format!("{} of {size} events; floor: of {}", shape.name, SIZES[0]),
            floor: few,
            ours: Some(ours),
            ratio_min,
        };
        lines.push(line(SIZES[1], more, None));
        lines.push(line(SIZES[2], many, Some(1.0 / GROWTH_MAX)));
        costs.push((shape.name, rates));
    }
    print(&lines);
    println!();
    for (name, rates) in costs {
        for (size, rate) in SIZES.into_iter().zip(rates) {
            println!("{name} of {size}: {:.2} us an event", 1_000_000.0 / rate);
        }
    }
    Ok(())
}

/// One event at a time, beside a bare call.
fn events(home: &Home) -> Result<Vec<Line>, Fault> {
    let bare = Bare::new()?;
    let send = command("event.send")?;
    let calls: Vec<Call> = (0..CALLS).map(|number| home.glow(number)).collect();
    let count = EVENTS as u64;
    let run = || calls.iter().cycle().take(EVENTS).try_for_each(|call| home.run(call, send, 1));
    let [floor, ours] =
        medians([&mut || timed(count, || bare.calls(count)), &mut || timed(count, run)])?;
    let line = |name: &str, floor, ratio_min| Line {
        name: name.to_owned(),
        floor,
        ours: Some(ours),
        ratio_min: Some(ratio_min),
    };
    Ok(vec![
        line("event with one listener (floor: wanted)", EVENTS_MIN, 1.0),
        line("event with one listener; floor: bare call", floor, RATIO_MIN),
    ])
}

/// Events a second in cascades of each size.
fn cascades(home: &Home, shape: &Shape) -> Result<[f64; 3], Fault> {
    let command = command(shape.command)?;
    let round = |size: usize| {
        let call = home.call(0, shape.command, (shape.args)(&home.lamps[..size]));
        timed(EVENTS as u64, || {
            for _ in 0..EVENTS / size {
                home.run(&call, command, size)?;
            }
            Ok(())
        })
    };
    medians([&mut || round(SIZES[0]), &mut || round(SIZES[1]), &mut || round(SIZES[2])])
}

fn command(name: &str) -> Result<Command, Fault> {
    commands::find(name).ok_or_else(|| format!("there is no command {name}").into())
}

/// Where steps run.
struct Home {
    hot: Hot,
    machine: Machine,
    setting: Setting,
    account: Option<AccountId>,
    lamps: Vec<ElementId>,
    now: Timestamp,
    _store: Store,
}

impl Home {
    /// A home in a folder, with lamps that each know the next one.
    fn made(folder: &Path) -> Result<Self, Fault> {
        let mut maker = Maker::found(folder, LAMP)?;
        maker.create(0..1, ELEMENTS as u64)?;
        let account = maker.account;
        maker.close();
        let store = Store::open(Folder(folder.to_owned()), nobody())?;
        let lamps = tie(&store)?;
        Ok(Self {
            hot: Hot::new(&store)?,
            machine: Machine::new(Arc::new(|_: bool| false)).map_err(|error| error.to_string())?,
            setting: setting()?,
            account,
            lamps,
            now: node::now(),
            _store: store,
        })
    }

    fn call(&self, number: u64, command: &str, args: Json) -> Call {
        call_of(self.account, number, command, args)
    }

    /// A call that sends the event with one listener.
    fn glow(&self, number: u64) -> Call {
        let data = json!({"charge": number + 1_000, "by": number % 7});
        let args = json!({"element": self.lamps[0], "event": "glow", "data": data});
        self.call(number, "event.send", args)
    }

    /// Runs a call as a step that so many events come from, and throws away what it changed.
    fn run(&self, call: &Call, command: Command, events: usize) -> Result<(), Fault> {
        let (answers, now) = (Answers::new(), self.now);
        let step =
            Step::new(&self.hot, &self.machine, &self.setting, call, &answers, now, SEED, false);
        let left = step.run(command);
        if left.happened.len() != events || !matches!(left.ended, Ended::Done(_)) {
            let (count, ended) = (left.happened.len(), left.ended);
            return Err(format!("{count} events instead of {events}, then {ended:?}").into());
        }
        Ok(())
    }
}

/// Lets each lamp know the next one, and gives back their ids in order.
fn tie(store: &Store) -> Result<Vec<ElementId>, Fault> {
    let key = |bytes| Key::Element(WorldId::from_bytes(bytes), ElementId::from_bytes(bytes));
    let rows = store.view()?.rows(&key([0; 16]), &key([0xff; 16]), usize::MAX)?;
    let lamps: Vec<Arc<Element>> = rows
        .into_iter()
        .filter_map(|(_, row)| if let Row::Element(lamp) = row { Some(lamp) } else { None })
        .collect();
    if lamps.len() != ELEMENTS {
        return Err(format!("there are {} lamps instead of {ELEMENTS}", lamps.len()).into());
    }
    let tied: Changes = lamps
        .iter()
        .zip(lamps.iter().skip(1))
        .map(|(lamp, next)| {
            let mut tied = lamp.as_ref().clone();
            tied.values.insert("next".to_owned(), json!(next.id));
            (Key::Element(tied.world, tied.id), Some(Row::Element(Arc::new(tied))))
        })
        .collect();
    store.commit(&tied)?;
    Ok(lamps.iter().map(|lamp| lamp.id).collect())
}
