//! Scripts: how many actions a second, and how long a hostile one lasts.
//!
//! An action that reads two fields and answers with a table, through [`Machine::run`] with a host
//! that only holds two values. Wanted: at least 250,000 a second; that rate stands in the floor's
//! column. Criterion then times the same action alone, to compare with the run before.
//!
//! Hostile scripts, in a machine whose fuse blows when 50 ms of wall clock are over. Wanted: each
//! is stopped at most 10 ms after that, whatever it does. The worst of all runs counts. The node's
//! own fuse is slower on purpose (a slow machine must not decide what a script does): what is over
//! here lies between two looks at any fuse.

mod floor {
    pub(crate) mod rounds;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::Criterion;
use freehold::model::{Code, Json, Problem};
use freehold::script::{
    Asked, Ended, Fuse, Host, Machine, RUN_FUEL, RUN_MS, Script, Stop, Subject,
};

use crate::floor::rounds::{Fault, Line, RUNS, is_wanted, medians, now, print, timed};

/// Actions a second that are wanted.
const ACTIONS_MIN: f64 = 250_000.0;
/// Actions of one round.
const ACTIONS: u64 = 200_000;
/// Milliseconds that a hostile script may last beyond its budget.
const OVER_MS_MAX: f64 = 10.0;

const ACTION: Script<'static> = Script {
    source: r#"return { on = get("on"), count = get("count") }"#,
    name: "lamp.look",
    line: 1,
};

/// What a hostile script tries, and the script.
const HOSTILE: [(&str, &str); 16] = [
    ("an endless loop", "while true do end"),
    ("an endless loop in pcall", "while true do pcall(function() while true do end end) end"),
    ("requests without end", "while true do pcall(get, 'nothing') end"),
    ("a table that grows", "local t = {} while true do t[#t + 1] = {} end"),
    ("a text that doubles", "local s = 'x' while true do s = s .. s end"),
    ("memory, in pcall", "while true do pcall(string.rep, 'x', 1e9) end"),
    ("recursion", "local function f() f() f() end f()"),
    ("recursion in pcall", "local function f() pcall(f) f() end while true do pcall(f) end"),
    ("a metamethod that calls itself", SELF_CALLING),
    ("a pattern that backtracks", "string.find(string.rep('a', 100000), '.-.-.-.-b')"),
    ("a long pattern that backtracks", BACKTRACKING),
    ("an endless replacement", ENDLESS_GSUB),
    ("a bad order in pcall", BAD_ORDER),
    // What follows stays long in functions of the library that do not count fuel.
    ("fills of a large buffer", LARGE_FILLS),
    ("a plain search in a long text", PLAIN_SEARCH),
    ("a sort of long texts", LONG_SORT),
];
const SELF_CALLING: &str = "local t = setmetatable({}, {})
getmetatable(t).__index = function(s, k) return s[k] end
return t.x";
const BACKTRACKING: &str =
    "string.find(string.rep('a', 5000), string.rep('a?', 5000) .. string.rep('a', 5000))";
const ENDLESS_GSUB: &str =
    "string.gsub(string.rep('a', 100000), '', function() while true do end end)";
const BAD_ORDER: &str = "while true do
    pcall(table.sort, table.create(100000, 1), function() return true end)
end";
const LARGE_FILLS: &str = "local b = buffer.create(8000000)
while true do buffer.fill(b, 0, 1) end";
/// Every place fits but for the last byte. The work is the product of both lengths.
const PLAIN_SEARCH: &str = "local text = string.rep('a', 1000000)
return string.find(text, string.rep('a', 10000) .. 'b', 1, true)";
/// Two texts that differ at their end, compared some ten thousand times.
const LONG_SORT: &str = "local text = string.rep('x', 1000000)
local a, b = text .. 'a', text .. 'b'
local list = table.create(1000, a)
for at = 1, 1000, 2 do list[at] = b end
table.sort(list)";

/// An element with two values.
struct Lamp;

impl Host for Lamp {
    fn get(&mut self, attribute: &str, _element: Option<&str>) -> Result<Json, Stop> {
        match attribute {
            "on" => Ok(Json::Bool(true)),
            "count" => Ok(Json::from(7)),
            _ => Err(Stop::Raise(Problem::new(Code::NotFound, "there is no such attribute"))),
        }
    }

    fn set(&mut self, _attribute: &str, value: Json, _element: Option<&str>) -> Result<Json, Stop> {
        Ok(value)
    }

    fn ask(&mut self, questions: Vec<Asked>) -> Result<Vec<Json>, Stop> {
        Ok(questions.into_iter().map(|asked| asked.args).collect())
    }

    fn send(&mut self, _event: &str, _data: Json, _element: Option<&str>) -> Result<(), Stop> {
        Ok(())
    }

    fn find(&mut self, _: &str) -> Result<Json, Stop> {
        Ok(Json::Array(Vec::new()))
    }

    fn create(&mut self, _: &str, _: Json, _: Option<&str>) -> Result<Json, Stop> {
        Ok(Json::Null)
    }

    fn destroy(&mut self, _: &str) -> Result<(), Stop> {
        Ok(())
    }

    fn stand(&mut self, _: &str, _: Option<&str>, inside: bool) -> Result<bool, Stop> {
        Ok(inside)
    }

    fn travel(&mut self, _: &str, _: Option<&str>) -> Result<(), Stop> {
        Ok(())
    }

    fn log(&mut self, _line: &str) {}

    fn fact(&mut self, _subject: Subject, _key: &str) -> Json {
        Json::Null
    }

    fn facts(&mut self, _subject: Subject) -> Json {
        Json::Null
    }

    fn random(&mut self) -> u64 {
        7
    }
}

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    let machine = Machine::new(wall_fuse()).map_err(|error| error.to_string())?;
    let [ours] = medians([&mut || timed(ACTIONS, || run_actions(&machine))])?;
    print(&[Line {
        name: "action that reads two fields (floor: wanted)".to_owned(),
        floor: ACTIONS_MIN,
        ours: Some(ours),
        ratio_min: Some(1.0),
    }]);
    print_hostile(&machine)?;

    println!();
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("action that reads two fields", |bencher| {
        bencher.iter(|| machine.run(ACTION, &mut Lamp, RUN_FUEL));
    });
    criterion.final_summary();
    Ok(())
}

fn run_actions(machine: &Machine) -> Result<(), Fault> {
    for _ in 0..ACTIONS {
        let (ended, _) = machine.run(ACTION, &mut Lamp, RUN_FUEL);
        if !matches!(ended, Ended::Returned(Some(_))) {
            return Err(format!("the action ended with {ended:?}").into());
        }
    }
    Ok(())
}

/// A fuse that blows when a run has lasted longer than its time.
fn wall_fuse() -> Fuse {
    let epoch = now();
    let began_us = AtomicU64::new(0);
    Arc::new(move |begins| {
        let at_us = u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        if begins {
            began_us.store(at_us, Ordering::Relaxed);
            return false;
        }
        at_us.saturating_sub(began_us.load(Ordering::Relaxed)) >= RUN_MS * 1_000
    })
}

fn print_hostile(machine: &Machine) -> Result<(), Fault> {
    println!();
    println!(
        "{:<46} | {:>8} | {:>8} | {:<14} | ended",
        "hostile script",
        "worst ms",
        "ms over",
        format!("<= {OVER_MS_MAX:.0} ms over")
    );
    for (name, source) in HOSTILE {
        let mut worst_ms: f64 = 0.0;
        let mut how = "";
        for _ in 0..RUNS {
            machine.reset().map_err(|error| error.to_string())?;
            let script = Script { source, name: "hostile.script", line: 1 };
            let began = now();
            let (ended, _) = machine.run(script, &mut Lamp, RUN_FUEL);
            worst_ms = worst_ms.max(began.elapsed().as_secs_f64() * 1_000.0);
            how = word(&ended);
        }
        let over_ms = (worst_ms - RUN_MS as f64).max(0.0);
        let verdict = if over_ms <= OVER_MS_MAX { "met" } else { "MISSED" };
        println!("{name:<46} | {worst_ms:>8.1} | {over_ms:>8.1} | {verdict:<14} | {how}");
    }
    machine.reset().map_err(|error| error.to_string())?;
    Ok(())
}

const fn word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Returned(_) => "returned",
        Ended::Refused(_) => "refused",
        Ended::Failed(_) => "failed",
        Ended::OutOfFuel => "out of fuel",
        Ended::OutOfMemory => "out of memory",
        Ended::OutOfUsedMemory => "out of used memory",
        Ended::Stopped => "stopped",
    }
}
