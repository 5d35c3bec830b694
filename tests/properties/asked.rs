//! Who is asked: the actions that listen to the kind, whose attribute it is about or of whose
//! family, and whose type is not a parent that is switched off.

use std::collections::BTreeSet;

use freehold::model::{Code, Json};
use proptest::prelude::*;
use serde_json::json;

use crate::home::{Home, bare, holds, on_a_machine};

/// The types: three parents, and their child.
const TYPES: [&str; 4] = ["p0", "p1", "p2", "child"];
/// The child's number.
const CHILD: usize = 3;
/// The attributes. Each is of one of the types.
const ATTRIBUTES: [&str; 4] = ["a", "b", "c", "d"];
/// Actions of one type at most.
const ACTIONS_MAX: usize = 5;
/// What can be listened to, and whether it is about an attribute.
const EVENTS: [(&str, bool); 10] = [
    ("before:value_change", true),
    ("after:value_change", true),
    ("before:attribute_on", true),
    ("after:attribute_on", true),
    ("before:attribute_off", true),
    ("after:attribute_off", true),
    ("before:parent_on", false),
    ("after:parent_on", false),
    ("before:parent_off", false),
    ("after:parent_off", false),
];

#[test]
fn exactly_those_are_asked_who_listen_and_are_there() {
    holds(32, cases, bare, the_expected_ones_are_asked);
}

#[test]
fn a_parent_that_is_off_takes_along_what_is_a_parent_through_it_alone() {
    let line = "\non = \"event:line\"\naccept = true\n";
    let old = format!("[attributes.age]\nkind = \"integer\"\ndefault = 1\n\n[actions.old]{line}");
    let table = [("\"mother\"", false), ("\"mother\", \"grandmother\"", true)];
    on_a_machine(|machine| {
        for (parents, stays) in table {
            let mut home = Home::new(machine);
            home.publish(&format!("name = \"grandmother\"\n\n{old}"));
            let mother = "name = \"mother\"\nparents = [\"grandmother\"]\n\n[actions.middle]";
            home.publish(&format!("{mother}{line}"));
            let child = format!("name = \"child\"\nparents = [{parents}]\n\n[actions.young]");
            home.publish(&format!("{child}{line}"));
            home.create("child", "it");
            home.done("element.switch", json!({"element": "it", "part": "mother", "off": true}));

            let ended = home.say("event.send", json!({"element": "it", "event": "line"}));

            let asked = |name: &str| ended.trace.contains(&heard("event:line", name));
            assert!(asked("young") && !asked("middle"), "{parents}: {:?}", ended.trace);
            assert_eq!(asked("old"), stays, "{parents}: {:?}", ended.trace);
            let read = home.say("element.get", json!({"element": "it", "attribute": "age"}));
            assert_eq!(read.result.is_ok(), stays, "{parents}: {read:?}");
        }
    });
}

/// An attribute: of which type, and the one of whose family it is, where the file may say so.
#[derive(Clone, Copy, Debug)]
struct Slot {
    of: usize,
    parent: Option<usize>,
}

/// An action: of which type, on which of [`EVENTS`], about which attribute.
#[derive(Clone, Copy, Debug)]
struct Ear {
    of: usize,
    event: usize,
    about: Option<usize>,
}

/// What is done to the element.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Set(usize),
    Switch(usize, bool),
    SwitchParent(usize, bool),
}

type Case = (Vec<Slot>, Vec<Ear>, Vec<Deed>);

fn cases() -> impl Strategy<Value = Case> {
    let attribute = 0..ATTRIBUTES.len();
    let slot = (0..TYPES.len(), prop::option::of(attribute.clone()))
        .prop_map(|(of, parent)| Slot { of, parent });
    let ear = (0..TYPES.len(), 0..EVENTS.len(), prop::option::of(attribute.clone()))
        .prop_map(|(of, event, about)| Ear { of, event, about });
    let deed = prop_oneof![
        3 => attribute.clone().prop_map(Deed::Set),
        2 => (attribute, any::<bool>()).prop_map(|(which, off)| Deed::Switch(which, off)),
        2 => (0..CHILD, any::<bool>()).prop_map(|(which, off)| Deed::SwitchParent(which, off)),
    ];
    (
        prop::collection::vec(slot, ATTRIBUTES.len()),
        prop::collection::vec(ear, 1..TYPES.len() * ACTIONS_MAX),
        prop::collection::vec(deed, 1..12),
    )
}

fn the_expected_ones_are_asked(mut home: Home<'_>, (slots, ears, deeds): Case) {
    let mut plain = Plain { slots, ears, off: BTreeSet::new(), parents_off: BTreeSet::new() };
    for number in 0..TYPES.len() {
        home.publish(&plain.text(number));
    }
    home.create(TYPES[CHILD], "it");
    for deed in deeds {
        let want = plain.apply(deed);
        let (command, args) = said(deed);

        let ended = home.say(command, args);

        match want {
            Some(trace) => {
                assert_eq!(ended.trace, trace, "{deed:?}");
                ended.answer();
            }
            None => {
                assert_eq!(ended.trace, [""; 0], "{deed:?}");
                assert_eq!(ended.problem().code, Code::NotFound, "{deed:?}");
            }
        }
    }
}

fn said(deed: Deed) -> (&'static str, Json) {
    let switch = |part: &str, off: bool| {
        ("element.switch", json!({"element": "it", "part": part, "off": off}))
    };
    match deed {
        Deed::Set(which) => {
            ("element.set", json!({"element": "it", "attribute": ATTRIBUTES[which], "value": 7}))
        }
        Deed::Switch(which, off) => switch(ATTRIBUTES[which], off),
        Deed::SwitchParent(which, off) => switch(TYPES[which], off),
    }
}

/// The line of the trace for an action that allowed.
fn heard(on: &str, name: &str) -> String {
    format!("{on}: child.{name} answered")
}

/// The types as they are meant, and what of the element is switched off.
struct Plain {
    slots: Vec<Slot>,
    ears: Vec<Ear>,
    off: BTreeSet<usize>,
    parents_off: BTreeSet<usize>,
}

impl Plain {
    /// Whether the file of a type may name an attribute: the child knows those of its parents.
    fn knows(&self, of: usize, attribute: usize) -> bool {
        of == CHILD || self.slots[attribute].of == of
    }

    /// The attribute of whose family one is. Only earlier ones, so that no family is a circle.
    fn parent(&self, attribute: usize) -> Option<usize> {
        let Slot { of, parent } = self.slots[attribute];
        parent.filter(|parent| *parent < attribute && self.knows(of, *parent))
    }

    /// An attribute and those of whose family it is.
    fn family(&self, attribute: usize) -> Vec<usize> {
        let mut family = vec![attribute];
        let mut at = attribute;
        while let Some(above) = self.parent(at) {
            family.push(above);
            at = above;
        }
        family
    }

    /// The attribute that an action is about, where its event and its file allow one.
    fn about(&self, ear: Ear) -> Option<usize> {
        let (_, has_attribute) = EVENTS[ear.event];
        ear.about.filter(|about| has_attribute && self.knows(ear.of, *about))
    }

    fn text(&self, number: usize) -> String {
        let mut text = format!("name = \"{}\"\n", TYPES[number]);
        if number == CHILD {
            text.push_str("parents = [\"p0\", \"p1\", \"p2\"]\n");
        }
        for (at, _) in self.slots.iter().enumerate().filter(|(_, slot)| slot.of == number) {
            let name = ATTRIBUTES[at];
            text.push_str(&format!("\n[attributes.{name}]\nkind = \"integer\"\ndefault = 0\n"));
            if let Some(parent) = self.parent(at) {
                text.push_str(&format!("parent = \"{}\"\n", ATTRIBUTES[parent]));
            }
        }
        for (at, ear) in self.ears.iter().enumerate().filter(|(_, ear)| ear.of == number) {
            let (name, (on, _)) = (action_name(at, *ear), EVENTS[ear.event]);
            text.push_str(&format!("\n[actions.{name}]\non = \"{on}\"\naccept = true\n"));
            if let Some(about) = self.about(*ear) {
                text.push_str(&format!("attribute = \"{}\"\n", ATTRIBUTES[about]));
            }
        }
        text
    }

    fn is_there(&self, of: usize) -> bool {
        !self.parents_off.contains(&of)
    }

    /// What the trace says of an event; those of the parents come first, then all by name.
    fn asked(&self, on: &str, attribute: Option<usize>) -> Vec<String> {
        let family = attribute.map(|attribute| self.family(attribute)).unwrap_or_default();
        let mut names: Vec<(bool, String)> = Vec::new();
        for (at, ear) in self.ears.iter().enumerate() {
            let concerned = self.about(*ear).is_none_or(|about| family.contains(&about));
            if EVENTS[ear.event].0 == on && concerned && self.is_there(ear.of) {
                names.push((ear.of == CHILD, action_name(at, *ear)));
            }
        }
        names.sort();
        names.into_iter().map(|(_, name)| heard(on, &name)).collect()
    }

    /// Whether an attribute is there: all of its family are on, and so are the types they are of.
    fn has(&self, attribute: usize) -> bool {
        let family = self.family(attribute);
        family.iter().all(|at| !self.off.contains(at) && self.is_there(self.slots[*at].of))
    }

    /// What the trace of a deed says; none where it cannot be done.
    fn apply(&mut self, deed: Deed) -> Option<Vec<String>> {
        let (kind, attribute) = match deed {
            Deed::Set(which) if !self.has(which) => return None,
            Deed::Set(which) => ("value_change", Some(which)),
            Deed::Switch(which, true) => ("attribute_off", Some(which)),
            Deed::Switch(which, false) => ("attribute_on", Some(which)),
            Deed::SwitchParent(_, true) => ("parent_off", None),
            Deed::SwitchParent(_, false) => ("parent_on", None),
        };
        let mut trace = self.asked(&format!("before:{kind}"), attribute);
        let changed = match deed {
            Deed::Set(_) => true,
            Deed::Switch(which, true) => self.off.insert(which),
            Deed::Switch(which, false) => self.off.remove(&which),
            Deed::SwitchParent(which, true) => self.parents_off.insert(which),
            Deed::SwitchParent(which, false) => self.parents_off.remove(&which),
        };
        if !changed {
            // It is so already: nothing happens, and nobody is asked.
            return Some(Vec::new());
        }
        trace.extend(self.asked(&format!("after:{kind}"), attribute));
        Some(trace)
    }
}

fn action_name(at: usize, ear: Ear) -> String {
    format!("{}_{at:02}", TYPES[ear.of])
}
