//! A call that ends refused or failed leaves nothing behind, wherever in its cascade it ended.

use std::sync::atomic::{AtomicU32, Ordering};

use freehold::model::{Code, Json};
use proptest::prelude::*;
use serde_json::json;

use crate::home::{Ended, Home, differences, holds};

/// Elements that can hand a number on, `t0` to `t5`, each to the next one.
const THINGS: i64 = 6;
/// Members of the set of `t1`; the set of `t0` has none.
const MEMBERS: i64 = 4;

/// Calls that ended badly, in all cases.
static ENDED_BADLY: AtomicU32 = AtomicU32::new(0);

#[test]
fn what_ends_badly_leaves_every_row_as_it_was() {
    holds(32, cases, furnish, no_trace_is_left);

    let badly = ENDED_BADLY.load(Ordering::Relaxed);
    assert!(badly > 0, "no drawn call ended badly");
}

#[test]
fn what_a_script_catches_is_undone_and_nothing_else() {
    holds(24, descents, furnish, only_what_was_refused_is_missing);
}

/// What is called.
#[derive(Clone, Copy, Debug)]
enum Scene {
    /// So many elements are made, each of which asks whether it may be.
    Batch(u64),
    /// The members of a set enter another, which counts them and asks at each.
    Union,
    /// The same, but the set minds only when it is told.
    Told,
    /// A number is handed from element to element and counts down, each write inside the other.
    Nested(i64),
}

/// How it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Refuses,
    Says,
    Errs,
}

impl How {
    const fn name(self) -> &'static str {
        match self {
            Self::Refuses => "refuses",
            Self::Says => "says",
            Self::Errs => "errs",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    scene: Scene,
    how: How,
    /// At which event it ends; for a batch, in one of how many.
    at: i64,
    /// How many events there may be at all.
    events: Option<u32>,
}

fn cases() -> impl Strategy<Value = Case> {
    let scene = prop_oneof![
        (1..8_u64).prop_map(Scene::Batch),
        Just(Scene::Union),
        Just(Scene::Told),
        (0..12_i64).prop_map(Scene::Nested),
    ];
    let how = prop::sample::select(vec![How::Refuses, How::Says, How::Errs]);
    let events = prop_oneof![2 => Just(None::<u32>), 1 => (1..8_u32).prop_map(Some)];
    (scene, how, 1..8_i64, events).prop_map(|(scene, how, at, events)| Case {
        scene,
        how,
        at,
        events,
    })
}

fn descents() -> impl Strategy<Value = (i64, i64)> {
    (0..12_i64, 1..12_i64)
}

impl Case {
    /// The call.
    fn said(self) -> (&'static str, Json) {
        match self.scene {
            Scene::Batch(count) => ("element.create", json!({"type": "thing", "count": count})),
            Scene::Union | Scene::Told => ("set.union", json!({"set": "t0", "with": "t1"})),
            Scene::Nested(depth) => hand_on(depth),
        }
    }

    /// Which of the keeper's numbers says where it ends.
    fn limit(self) -> &'static str {
        match self.scene {
            Scene::Batch(_) => "odds",
            Scene::Union | Scene::Nested(_) => "limit",
            Scene::Told => "late",
        }
    }

    /// Whether it ends badly, where that does not depend on chance.
    fn ends_badly(self) -> Option<bool> {
        match (self.events, self.scene) {
            (Some(_), _) | (None, Scene::Batch(_)) => None,
            (None, Scene::Union | Scene::Told) => Some(self.at <= MEMBERS),
            (None, Scene::Nested(depth)) => Some(self.at <= depth),
        }
    }

    /// Whether it can only end with the sentence of an action that was asked.
    fn is_refused(self) -> bool {
        let is_asked = !matches!(self.scene, Scene::Told);
        is_asked && self.events.is_none() && self.how != How::Errs
    }
}

fn no_trace_is_left(mut home: Home<'_>, case: Case) {
    let keep = |attribute: &str, value: Json| {
        ("element.set", json!({"element": "keeper", "attribute": attribute, "value": value}))
    };
    home.all(vec![keep("how", json!(case.how.name())), keep(case.limit(), json!(case.at))]);
    let before = home.rows();
    let (command, args) = case.said();
    let mut bad = home.call(command, args);
    if let Some(events) = case.events {
        bad.root.budget.events = events;
    }
    let note = json!({"element": "t5", "attribute": "note", "value": 1});
    let first = home.call("element.set", note);
    let last = home.call("element.create", json!({"type": "keeper", "name": "other"}));

    // Alone.
    let mut alone = home.copy();
    let ended = alone.run(vec![bad.clone()]).remove(0);
    if let Some(badly) = case.ends_badly() {
        assert_eq!(ended.result.is_err(), badly, "{ended:?}");
    }
    if ended.result.is_err() {
        ENDED_BADLY.fetch_add(1, Ordering::Relaxed);
        assert_eq!(differences(&before, &alone.rows()), [""; 0]);
        assert_ended_badly(case, ended);
    }

    // Between two others of the same turn: these end as if it had never been called.
    let (mut with, mut without) = (home.copy(), home.copy());
    let mut ends = with.run(vec![first.clone(), bad, last.clone()]);
    let bad = ends.remove(1);
    if bad.result.is_err() {
        assert_eq!(ends, without.run(vec![first, last]));
        assert_eq!(differences(&without.rows(), &with.rows()), [""; 0]);
    }
}

fn assert_ended_badly(case: Case, ended: Ended) {
    let problem = ended.problem();
    if case.is_refused() {
        assert_eq!((problem.code, problem.says.as_str()), (Code::Refused, "enough"));
    }
    let known = [Code::Refused, Code::ScriptFailed, Code::ScriptBudget];
    assert!(known.contains(&problem.code), "{problem:?}");
}

/// Each element catches what the next one refuses.
fn only_what_was_refused_is_missing(mut home: Home<'_>, (depth, at): (i64, i64)) {
    let keep = |attribute: &str, value: Json| {
        ("element.set", json!({"element": "keeper", "attribute": attribute, "value": value}))
    };
    home.all(vec![keep("catches", json!(true)), keep("limit", json!(at))]);
    let (command, args) = hand_on(depth);

    let ended = home.say(command, args);

    // Only the first of them has nobody around it who catches.
    assert_eq!(ended.result.is_err(), depth == at, "{ended:?}");
    for thing in 0..THINGS {
        let handed = depth - thing;
        let is_written = handed > 0 && (at > depth || handed > at);
        let want = if is_written { json!(handed) } else { Json::Null };
        assert_eq!(home.value(&format!("t{thing}"), "n"), want, "t{thing}, {depth} to {at}");
    }
}

/// The number is handed on, beginning with the first element.
fn hand_on(depth: i64) -> (&'static str, Json) {
    ("element.set", json!({"element": "t0", "attribute": "n", "value": depth}))
}

fn furnish(home: &mut Home<'_>) {
    home.publish(KEEPER);
    home.publish(&thing());
    home.create("keeper", "keeper");
    for number in 0..THINGS {
        home.create("thing", &format!("t{number}"));
    }
    let next = |number: i64| {
        let (element, next) = (format!("t{number}"), format!("t{}", (number + 1) % THINGS));
        ("element.set", json!({"element": element, "attribute": "next", "value": next}))
    };
    home.all((0..THINGS).map(next).collect());
    home.all(["t0", "t1"].map(|name| ("set.add", json!({"element": name}))).to_vec());
    let enter =
        |number: i64| ("set.enter", json!({"set": "t1", "element": format!("t{}", number + 2)}));
    home.all((0..MEMBERS).map(enter).collect());
}

/// Holds what says where and how a call ends. Zero is nowhere.
const KEEPER: &str = r#"
name = "keeper"

[attributes.how]
kind = "string"
default = "refuses"

[attributes.odds]
kind = "integer"
default = 0

[attributes.limit]
kind = "integer"
default = 0

[attributes.late]
kind = "integer"
default = 0

[attributes.catches]
kind = "bool"
default = false
"#;

const THING: &str = r#"
name = "thing"

[attributes.n]
kind = "integer"
default = 0
index = true

[attributes.next]
kind = "string"
default = ""

[attributes.added]
kind = "integer"
default = 0

[attributes.told]
kind = "integer"
default = 0
index = true

[attributes.note]
kind = "integer"
default = 0
"#;

/// How every script of a thing begins.
const STOP: &str = r#"
local function stop()
  local how = get("how", "keeper")
  if how == "refuses" then refuse("enough") end
  if how == "errs" then error("it fell") end
  return { event_success = false, message = "enough" }
end
"#;

const BORN: &str = r#"
local odds = get("odds", "keeper")
if odds > 0 and math.random(odds) == 1 then return stop() end
"#;

const ADDED: &str = r#"
local added = get("added") + 1
set("added", added)
if added == get("limit", "keeper") then return stop() end
"#;

const TOLD: &str = r#"
local told = get("told") + 1
set("told", told)
if told == get("late", "keeper") then return stop() end
"#;

const PASS: &str = r#"
if event.value > 0 then
  if event.value == get("limit", "keeper") then return stop() end
  if get("catches", "keeper") then
    pcall(set, "n", event.value - 1, get("next"))
  else
    set("n", event.value - 1, get("next"))
  end
end
"#;

fn thing() -> String {
    let action = |name: &str, on: &str, script: &str| {
        format!("\n[actions.{name}]\non = {on}\nscript = '''{STOP}{script}'''\n")
    };
    [
        THING.to_owned(),
        action("born", "\"before:element_creation\"", BORN),
        action("added", "\"before:set_element_added\"", ADDED),
        action("told", "\"after:set_element_added\"", TOLD),
        action("pass", "\"before:value_change\"\nattribute = \"n\"", PASS),
    ]
    .concat()
}
