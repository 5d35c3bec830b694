//! The same calls on the same state do the same: on another copy of the store, in a machine that
//! has run nothing yet, and with turns that were just loaded.

use freehold::model::{Call, Json};
use freehold::turn::STEPS_MAX;
use proptest::prelude::*;
use serde_json::json;

use crate::home::{Home, holds, machine, on_a_machine};

/// Elements at the beginning, `t0` to `t4`; the first two define sets.
const THINGS: usize = 5;
/// Events that one call sends in a row.
const SENT: u64 = 8;

#[test]
fn the_same_calls_on_the_same_state_do_the_same() {
    holds(24, chunks, furnish, both_do_the_same);
}

#[test]
fn what_waits_runs_in_the_same_order_after_a_restart() {
    on_a_machine(|machine| {
        let mut home = Home::new(machine);
        furnish(&mut home);
        let (mut going_on, mut restarted) = (home.copy(), home.copy());

        fill_a_turn_and_send(&mut going_on);
        while going_on.turn().is_some() {}
        fill_a_turn_and_send(&mut restarted);
        restarted.restart();
        while restarted.turn().is_some() {}

        let in_order: Vec<u64> = (1..=SENT).collect();
        assert_eq!(going_on.value("t0", "line"), json!(in_order));
        assert_eq!(restarted.value("t0", "line"), json!(in_order), "after a restart");
    });
}

/// A call.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Roll(usize, usize),
    Post(usize),
    Create,
    CreateMany(u64),
    Enter(usize, usize),
    Push(usize, usize),
    Union(usize, usize),
    Set(usize, i64),
    Fall(usize),
    Destroy(usize),
}

impl Wish {
    fn said(self) -> (&'static str, Json) {
        let name = |number: usize| format!("t{number}");
        match self {
            Self::Roll(by, to) => (
                "action.call",
                json!({"element": name(by), "action": "roll", "args": {"to": name(to)}}),
            ),
            Self::Post(by) => ("event.send", json!({"element": name(by), "event": "post"})),
            Self::Create => ("element.create", json!({"type": "dicer"})),
            Self::CreateMany(count) => ("element.create", json!({"type": "dicer", "count": count})),
            Self::Enter(set, thing) => {
                ("set.enter", json!({"set": name(set), "element": name(thing)}))
            }
            Self::Push(set, thing) => {
                ("set.push", json!({"set": name(set), "element": name(thing)}))
            }
            Self::Union(set, with) => ("set.union", json!({"set": name(set), "with": name(with)})),
            Self::Set(thing, value) => (
                "element.set",
                json!({"element": name(thing), "attribute": "landed", "value": value}),
            ),
            Self::Fall(thing) => ("event.send", json!({"element": name(thing), "event": "fall"})),
            Self::Destroy(thing) => ("element.destroy", json!({"element": name(thing)})),
        }
    }
}

fn chunks() -> impl Strategy<Value = Vec<Vec<Wish>>> {
    prop::collection::vec(prop::collection::vec(wish(), 1..6), 1..6)
}

fn wish() -> impl Strategy<Value = Wish> {
    let thing = || 0..THINGS;
    let set = || 0..2_usize;
    prop_oneof![
        4 => (thing(), thing()).prop_map(|(by, to)| Wish::Roll(by, to)),
        1 => thing().prop_map(Wish::Post),
        1 => Just(Wish::Create),
        1 => (1..4_u64).prop_map(Wish::CreateMany),
        2 => (set(), thing()).prop_map(|(set, thing)| Wish::Enter(set, thing)),
        1 => (set(), thing()).prop_map(|(set, thing)| Wish::Push(set, thing)),
        1 => (set(), set()).prop_map(|(set, with)| Wish::Union(set, with)),
        1 => (thing(), -9..9_i64).prop_map(|(thing, value)| Wish::Set(thing, value)),
        1 => thing().prop_map(Wish::Fall),
        1 => thing().prop_map(Wish::Destroy),
    ]
}

fn both_do_the_same(mut home: Home<'_>, chunks: Vec<Vec<Wish>>) {
    let fresh = machine();
    let (mut one, mut other) = (home.copy(), home.copy_for(&fresh));
    for chunk in chunks {
        let mut calls = Vec::new();
        for wish in chunk {
            let (command, args) = wish.said();
            calls.push(home.call(command, args));
        }
        other.restart();
        one.offer(calls.clone());
        other.offer(calls);
        loop {
            let (done, again) = match (one.turn(), other.turn()) {
                (None, None) => break,
                (Some(done), Some(again)) => (done, again),
                (done, again) => panic!("one has work, the other has not: {done:?} {again:?}"),
            };
            assert_eq!(done.number, again.number);
            assert_eq!(done.changes, again.changes);
            assert_eq!(format!("{:?}", done.effects), format!("{:?}", again.effects));
        }
    }
}

/// Runs a turn that is full when its last call, which sends, has run: what was sent waits.
fn fill_a_turn_and_send(home: &mut Home<'_>) {
    let mut calls: Vec<Call> = Vec::new();
    while calls.len() + 1 < STEPS_MAX {
        let args = json!({"element": "t0", "attribute": "landed"});
        calls.push(home.call("element.get", args));
    }
    calls.push(home.call("event.send", json!({"element": "t0", "event": "post"})));
    home.offer(calls);
    assert!(home.turn().is_some());
    assert_eq!(home.value("t0", "line"), Json::Null, "it was to wait");
}

fn furnish(home: &mut Home<'_>) {
    home.publish(DICER);
    for number in 0..THINGS {
        home.create("dicer", &format!("t{number}"));
    }
    home.all(["t0", "t1"].map(|name| ("set.add", json!({"element": name}))).to_vec());
}

/// What has a name is always made; of what has none, some are refused.
const DICER: &str = r#"
name = "dicer"

[attributes.rolled]
kind = "json"

[attributes.landed]
kind = "integer"
default = 0
index = true
read = "public"

[attributes.line]
kind = "json"

[actions.roll]
on = "event:roll"
script = '''
local order = ""
for key in pairs({ one = 1, two = 2, three = 3, four = 4, five = 5 }) do
  order = order .. key .. " "
end
set("rolled", { math.random(100), math.random(100), math.random() })
send("land", { by = math.random(6) }, event.to)
return { order = order, at = world.now, hour = world.hour, shown = tostring({}) }
'''

[actions.land]
on = "event:land"
script = '''
set("landed", get("landed") + event.by)
'''

[actions.post]
on = "event:post"
script = '''
for number = 1, 8 do
  send("arrive", { number = number })
end
'''

[actions.arrive]
on = "event:arrive"
script = '''
local line = get("line") or {}
line[#line + 1] = event.number
set("line", line)
'''

[actions.fall]
on = "event:fall"
script = '''
set("landed", 99)
if math.random(2) == 1 then refuse("it is refused") end
error("it fell")
'''

[actions.born]
on = "before:element_creation"
script = '''
if not event.name and math.random(4) == 1 then refuse("not that one") end
'''

[actions.hears]
on = "after:value_change"
attribute = "landed"
of = "set"
script = '''
log("heard", element.name or "nobody", math.random(1000))
'''
"#;
