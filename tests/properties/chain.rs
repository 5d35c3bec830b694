//! The order of a chain: from the highest priority to the lowest, among equals from the farthest
//! ancestor to the type itself, then by name; each sees what the one before it left, and a refusal
//! ends it.

use std::collections::BTreeMap;

use freehold::model::{Code, Json};
use proptest::prelude::*;
use serde_json::json;

use crate::home::{Home, bare, differences, holds, on_a_machine};

/// Names that actions have. One that several types give is the nearest type's.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[test]
fn actions_run_by_priority_then_from_the_farthest_ancestor_then_by_name() {
    holds(32, lineages, bare, they_run_in_their_order);
}

#[test]
fn an_ancestor_comes_first_however_many_ways_lead_to_it() {
    on_a_machine(|machine| {
        let action =
            |name: &str| format!("\n[actions.{name}]\non = \"event:line\"\naccept = true\n");
        for parents in ["\"mother\", \"grandmother\"", "\"grandmother\", \"mother\""] {
            let mut home = Home::new(machine);
            home.publish(&format!("name = \"grandmother\"\n{}", action("old")));
            let mother = "name = \"mother\"\nparents = [\"grandmother\"]\n";
            home.publish(&format!("{mother}{}", action("middle")));
            let child = format!("name = \"child\"\nparents = [{parents}]\n");
            home.publish(&format!("{child}{}", action("first")));
            home.create("child", "it");

            let ended = home.say("event.send", json!({"element": "it", "event": "line"}));

            let want = ["old", "middle", "first"];
            let want = want.map(|name| format!("event:line: child.{name} answered"));
            assert_eq!(ended.trace, want, "with the parents {parents}");
        }
    });
}

#[test]
fn an_event_is_answered_with_what_the_last_action_that_answered_returned() {
    let table = [
        // The last by priority is not the last by name.
        ([("z", 10, "reply = { who = \"z\" }"), ("a", 0, "reply = { who = \"a\" }")], json!("a")),
        ([("a", 10, "reply = { who = \"a\" }"), ("z", 0, "reply = { who = \"z\" }")], json!("z")),
        // Who has no opinion has not answered.
        ([("a", 10, "reply = { who = \"a\" }"), ("z", 0, "accept = true")], json!("a")),
        ([("z", 10, "accept = true"), ("a", 0, "reply = { who = \"a\" }")], json!("a")),
        ([("a", 10, "accept = true"), ("z", 0, "accept = true")], Json::Null),
    ];
    on_a_machine(|machine| {
        for (actions, want) in &table {
            let mut home = Home::new(machine);
            let mut text = "name = \"it\"\n".to_owned();
            for (name, priority, body) in actions {
                text.push_str(&format!(
                    "\n[actions.{name}]\non = \"event:line\"\npriority = {priority}\n{body}\n"
                ));
            }
            home.publish(&text);
            home.create("it", "it");

            let answer = home.done("event.send", json!({"element": "it", "event": "line"}));

            assert_eq!(&answer["result"]["who"], want, "{actions:?}: {answer}");
        }
    });
}

/// What an action does.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// A script that says what it sees, and adds itself to it.
    Adds,
    /// Constants that are laid over the data.
    Lays,
    /// Nothing.
    Nods,
    /// Refuses.
    Refuses,
    /// A script that says what it sees, and refuses.
    Balks,
}

#[derive(Clone, Copy, Debug)]
struct Act {
    priority: i16,
    does: Does,
}

type Acts = BTreeMap<&'static str, Act>;

/// A type of a line of descent. Beside the one above it, it has a parent that has none.
#[derive(Clone, Debug)]
struct Level {
    own: Acts,
    beside: Acts,
    beside_first: bool,
}

/// The event that all of them listen to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    Custom,
    Before,
    After,
}

impl When {
    const fn on(self) -> &'static str {
        match self {
            Self::Custom => "event:line",
            Self::Before => "before:value_change",
            Self::After => "after:value_change",
        }
    }

    fn said(self) -> (&'static str, Json) {
        match self {
            Self::Custom => ("event.send", json!({"element": "it", "event": "line"})),
            Self::Before | Self::After => {
                ("element.set", json!({"element": "it", "attribute": "level", "value": 1}))
            }
        }
    }
}

fn lineages() -> impl Strategy<Value = (Vec<Level>, When)> {
    let when = prop::sample::select(vec![When::Custom, When::Before, When::After]);
    (prop::collection::vec(level(), 1..5), when)
}

fn level() -> impl Strategy<Value = Level> {
    (acts(), acts(), any::<bool>()).prop_map(|(own, beside, beside_first)| Level {
        own,
        beside,
        beside_first,
    })
}

fn acts() -> impl Strategy<Value = Acts> {
    let does = prop_oneof![
        10 => Just(Does::Adds),
        4 => Just(Does::Lays),
        3 => Just(Does::Nods),
        1 => Just(Does::Refuses),
        1 => Just(Does::Balks),
    ];
    let priority = prop::sample::select(vec![-1_000_i16, -1, 0, 1, 1_000]);
    let act = (priority, does).prop_map(|(priority, does)| Act { priority, does });
    prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), act, 0..4)
}

fn they_run_in_their_order(mut home: Home<'_>, (levels, when): (Vec<Level>, When)) {
    let child = publish(&mut home, &levels, when);
    home.create(&child, "it");
    let want = expected(&levels, when, &child);
    let before = home.rows();
    let (command, args) = when.said();

    let ended = home.say(command, args);

    assert_eq!(ended.trace, want.trace);
    match (want.refused, when) {
        (None, When::Custom) if want.trace.is_empty() => {
            assert_eq!(ended.problem().code, Code::NotFound);
        }
        (None, _) => {
            ended.answer();
        }
        (Some(sentence), When::Custom | When::Before) => {
            let problem = ended.problem();
            assert_eq!((problem.code, problem.says), (Code::Refused, sentence));
            assert_eq!(differences(&before, &home.rows()), [""; 0]);
        }
        (Some(sentence), When::After) => {
            // What has happened cannot be refused: that is a mistake of the action.
            let problem = ended.problem();
            assert_eq!(problem.code, Code::ScriptFailed);
            assert!(problem.says.contains(&sentence), "{problem:?}");
            assert_eq!(differences(&before, &home.rows()), [""; 0]);
        }
    }
}

/// Publishes the line from its beginning. The last of its types.
fn publish(home: &mut Home<'_>, levels: &[Level], when: When) -> String {
    let mut above: Option<String> = None;
    for (at, level) in levels.iter().enumerate() {
        let (name, beside) = (format!("t{at}"), format!("m{at}"));
        home.publish(&text(&beside, &[], &level.beside, when));
        let mut parents = vec![beside];
        if let Some(above) = above {
            parents.insert(usize::from(level.beside_first), above);
        }
        home.publish(&text(&name, &parents, &level.own, when));
        above = Some(name);
    }
    above.unwrap()
}

fn text(label: &str, parents: &[String], acts: &Acts, when: When) -> String {
    let parents: Vec<String> = parents.iter().map(|parent| format!("\"{parent}\"")).collect();
    let actions: String = acts.iter().map(|(name, act)| action(name, label, *act, when)).collect();
    format!(
        "name = \"{label}\"\nparents = [{}]\n\n\
         [attributes.level]\nkind = \"integer\"\ndefault = 0\n{actions}",
        parents.join(", ")
    )
}

fn action(name: &str, label: &str, act: Act, when: When) -> String {
    let Act { priority, does } = act;
    let me = format!("{name}@{label}");
    let sees = format!("log(\"{me} sees \" .. (event.trail or \"nothing\"))");
    let body = match does {
        Does::Adds => format!(
            "script = '''\n{sees}\nreturn {{ trail = (event.trail or \"\") .. \"{me} \" }}\n'''"
        ),
        Does::Lays => format!("reply = {{ trail = \"{me} laid \" }}"),
        Does::Nods => "accept = true".to_owned(),
        Does::Refuses => format!("refuse = \"{me} says no\""),
        Does::Balks => format!("script = '''\n{sees}\nrefuse(\"{me} says no\")\n'''"),
    };
    let on = when.on();
    format!("\n[actions.{name}]\non = \"{on}\"\npriority = {priority}\n{body}\n")
}

/// What the trace of a call must say, and the sentence with which it is refused.
struct Expected {
    trace: Vec<String>,
    refused: Option<String>,
}

/// An action as the last of a line has it.
struct Heard {
    name: &'static str,
    label: String,
    depth: u32,
    act: Act,
}

fn expected(levels: &[Level], when: When, child: &str) -> Expected {
    let mut heard: Vec<Heard> =
        NAMES.into_iter().filter_map(|name| found(levels, levels.len() - 1, name)).collect();
    heard.sort_by(|one, other| {
        let by_priority = other.act.priority.cmp(&one.act.priority);
        by_priority.then(other.depth.cmp(&one.depth)).then(one.name.cmp(other.name))
    });
    let mut trace = Vec::new();
    let mut trail = String::new();
    for Heard { name, label, act, .. } in heard {
        let me = format!("{name}@{label}");
        let seen = if trail.is_empty() { "nothing" } else { trail.as_str() };
        let sees = format!("{me} sees {seen}");
        let how = |how: &str| format!("{}: {child}.{name} {how}", when.on());
        match act.does {
            Does::Adds => {
                trace.push(sees);
                trail.push_str(&format!("{me} "));
            }
            Does::Lays => trail = format!("{me} laid "),
            Does::Nods => {}
            Does::Refuses => {
                trace.push(how("said no"));
                return Expected { trace, refused: Some(format!("{me} says no")) };
            }
            Does::Balks => {
                trace.push(sees);
                trace.push(how("said no"));
                return Expected { trace, refused: Some(format!("{me} says no")) };
            }
        }
        trace.push(how("answered"));
    }
    Expected { trace, refused: None }
}

/// The action of this name, looked for from a type upwards: its own, else its parents' in order.
fn found(levels: &[Level], at: usize, name: &'static str) -> Option<Heard> {
    let level = &levels[at];
    if let Some(act) = level.own.get(name) {
        return Some(Heard { name, label: format!("t{at}"), depth: 0, act: *act });
    }
    let beside = level.beside.get(name).map(|act| Heard {
        name,
        label: format!("m{at}"),
        depth: 1,
        act: *act,
    });
    let above = at.checked_sub(1).and_then(|above| found(levels, above, name));
    let above = above.map(|heard| Heard { depth: heard.depth + 1, ..heard });
    if level.beside_first { beside.or(above) } else { above.or(beside) }
}
