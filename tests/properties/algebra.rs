//! Sets against lists: what stands where, in which order, after any row of operations, some of
//! which an action refuses.

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold::model::{Code, ElementId, Json, Key, Row, Set, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use crate::home::{Home, Rows, garden, holds, on_a_machine};

/// Elements there are.
const THINGS: usize = 8;
/// The first of them define sets.
const SETS: usize = 3;
/// One more than an element has sets that are looked through for who hears it.
const MANY: u64 = 257;
/// The place of a set's first member.
const PLACE: u64 = 1 << 63;

#[test]
fn sets_hold_what_plain_lists_hold() {
    holds(24, chunks, furnish, they_agree);
}

#[test]
fn what_is_destroyed_leaves_every_set_that_it_stood_in() {
    on_a_machine(|machine| {
        let mut home = Home::new(machine);
        home.publish("name = \"thing\"\n");
        let member = home.create("thing", "member");
        home.done("element.create", json!({"type": "thing", "count": MANY}));
        let stands = standing_in_all(&home, member);
        home.plant(stands);

        home.done("element.destroy", json!({"element": "member"}));

        let rows = home.rows();
        let kept: Vec<&Key> = rows.keys().filter(|key| names_member(key, member)).collect();
        assert!(kept.is_empty(), "it is gone and still stands in a set: {kept:?}");
        for row in rows.values() {
            if let Row::Set(set) = row {
                assert_eq!(set.members, 0, "{set:?}");
            }
        }
    });
}

/// A bit of an element that makes its actions refuse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Mood {
    /// It leaves no set.
    Stays,
    /// It enters no set.
    Homely,
    /// Nothing is added to its set.
    Shut,
    /// Nothing is removed from its set.
    Keeps,
    /// Nothing is done to its set as a whole.
    Still,
}

impl Mood {
    const ALL: [Self; 5] = [Self::Stays, Self::Homely, Self::Shut, Self::Keeps, Self::Still];

    const fn name(self) -> &'static str {
        match self {
            Self::Stays => "stays",
            Self::Homely => "homely",
            Self::Shut => "shut",
            Self::Keeps => "keeps",
            Self::Still => "still",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Stays => "it stays where it is",
            Self::Homely => "it stays at home",
            Self::Shut => "it is shut",
            Self::Keeps => "it keeps what it has",
            Self::Still => "it is left alone",
        }
    }

    /// The kinds of events that it refuses.
    const fn refuses(self) -> &'static [&'static str] {
        match self {
            Self::Stays => &["element_leaves_set"],
            Self::Homely => &["element_enters_set"],
            Self::Shut => &["set_element_added"],
            Self::Keeps => &["set_element_removed"],
            Self::Still => &[
                "set_push",
                "set_pop",
                "set_unshift",
                "set_shift",
                "set_union",
                "set_intersection",
                "set_difference",
                "set_symmetric_difference",
                "set_mutual",
            ],
        }
    }

    /// What a type file says of it.
    fn text(self) -> String {
        let (name, sentence) = (self.name(), self.sentence());
        let mut text = format!("\n[attributes.{name}]\nkind = \"bool\"\ndefault = false\n");
        for kind in self.refuses() {
            text.push_str(&format!(
                "\n[actions.{kind}]\non = \"before:{kind}\"\n\
                 script = 'if get(\"{name}\") then refuse(\"{sentence}\") end'\n"
            ));
        }
        text
    }
}

/// An operation with another set.
#[derive(Clone, Copy, Debug)]
enum Algebra {
    Union,
    Intersection,
    Difference,
    SymmetricDifference,
}

impl Algebra {
    const ALL: [Self; 4] =
        [Self::Union, Self::Intersection, Self::Difference, Self::SymmetricDifference];

    const fn command(self) -> &'static str {
        match self {
            Self::Union => "set.union",
            Self::Intersection => "set.intersection",
            Self::Difference => "set.difference",
            Self::SymmetricDifference => "set.symmetric_difference",
        }
    }

    /// Whether something that stands in the set, or not, and in the other, or not, stands in what
    /// comes out.
    const fn keeps(self, held: bool, given: bool) -> bool {
        match self {
            Self::Union => held || given,
            Self::Intersection => held && given,
            Self::Difference => held && !given,
            Self::SymmetricDifference => held != given,
        }
    }
}

/// One call. Sets and things are told by their numbers.
#[derive(Clone, Copy, Debug)]
enum Op {
    Enter(usize, usize),
    Leave(usize, usize),
    Push(usize, usize),
    Unshift(usize, usize),
    Pop(usize),
    Shift(usize),
    Combine(Algebra, usize, usize),
    Mutual(usize, usize),
    Feel(Mood, usize, bool),
}

impl Op {
    /// The call.
    fn said(self) -> (&'static str, Json) {
        let pair = |set: usize, thing: usize| json!({"set": name(set), "element": name(thing)});
        match self {
            Self::Enter(set, thing) => ("set.enter", pair(set, thing)),
            Self::Leave(set, thing) => ("set.leave", pair(set, thing)),
            Self::Push(set, thing) => ("set.push", pair(set, thing)),
            Self::Unshift(set, thing) => ("set.unshift", pair(set, thing)),
            Self::Pop(set) => ("set.pop", json!({"set": name(set)})),
            Self::Shift(set) => ("set.shift", json!({"set": name(set)})),
            Self::Combine(algebra, set, with) => {
                (algebra.command(), json!({"set": name(set), "with": name(with)}))
            }
            Self::Mutual(set, other) => {
                ("set.mutual", json!({"set": name(set), "other": name(other)}))
            }
            Self::Feel(mood, thing, on) => (
                "element.set",
                json!({"element": name(thing), "attribute": mood.name(), "value": on}),
            ),
        }
    }
}

fn chunks() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(), 1..6), 1..9)
}

fn op() -> impl Strategy<Value = Op> {
    let pair = || (0..SETS, 0..THINGS);
    let algebra = prop::sample::select(Algebra::ALL.to_vec());
    let mood = prop::sample::select(Mood::ALL.to_vec());
    prop_oneof![
        4 => pair().prop_map(|(set, thing)| Op::Enter(set, thing)),
        2 => pair().prop_map(|(set, thing)| Op::Leave(set, thing)),
        2 => pair().prop_map(|(set, thing)| Op::Push(set, thing)),
        2 => pair().prop_map(|(set, thing)| Op::Unshift(set, thing)),
        1 => (0..SETS).prop_map(Op::Pop),
        1 => (0..SETS).prop_map(Op::Shift),
        4 => (algebra, 0..SETS, 0..SETS).prop_map(|(algebra, set, with)| {
            Op::Combine(algebra, set, with)
        }),
        1 => (0..SETS, 0..SETS).prop_map(|(set, other)| Op::Mutual(set, other)),
        2 => (mood, 0..THINGS, any::<bool>()).prop_map(|(mood, thing, on)| {
            Op::Feel(mood, thing, on)
        }),
    ]
}

fn name(number: usize) -> String {
    format!("t{number}")
}

fn furnish(home: &mut Home<'_>) {
    let moods: String = Mood::ALL.into_iter().map(Mood::text).collect();
    home.publish(&format!("name = \"thing\"\n{moods}"));
    for number in 0..THINGS {
        home.create("thing", &name(number));
    }
    for number in 0..SETS {
        home.done("set.add", json!({"element": name(number)}));
    }
}

/// The calls of a chunk are made at once, so that most of them run in one turn.
fn they_agree(mut home: Home<'_>, chunks: Vec<Vec<Op>>) {
    let ids: Vec<ElementId> = (0..THINGS).map(|number| home.id(&name(number))).collect();
    assert!(ids.is_sorted(), "what is made later has the greater id: {ids:?}");
    let mut plain = Plain::default();
    for chunk in chunks {
        let mut calls = Vec::new();
        for op in &chunk {
            let (command, args) = op.said();
            calls.push(home.call(command, args));
        }

        let ends = home.run(calls);

        for (op, ended) in chunk.into_iter().zip(ends) {
            let want = plain.apply(op).map_err(|sentence| (Code::Refused, sentence.to_owned()));
            let got = match ended.result {
                Ok(answer) => Ok(shown(&answer, &ids)),
                Err(problem) => Err((problem.code, problem.says)),
            };
            assert_eq!(got, want, "{op:?}");
        }
        assert_rows(&home.rows(), &plain, &ids);
    }
    for (number, held) in plain.sets.iter().enumerate() {
        let listed = home.done("set.ls", json!({"set": name(number)}));
        let want: Vec<Json> = held.iter().map(|thing| json!(thing)).collect();
        assert_eq!(shown(&listed, &ids)["items"], Json::from(want), "set {number}");
    }
}

/// What an answer says, with numbers instead of ids.
fn shown(answer: &Json, ids: &[ElementId]) -> Json {
    let mut shown = serde_json::Map::new();
    for key in ["members", "changed", "entered", "left", "value"] {
        if let Some(value) = answer.get(key) {
            shown.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(element) = answer.get("element") {
        shown.insert("element".to_owned(), numbered(element, ids));
    }
    if let Some(items) = answer.get("items").and_then(Json::as_array) {
        let items: Vec<Json> = items.iter().map(|item| numbered(&item["id"], ids)).collect();
        shown.insert("items".to_owned(), Json::from(items));
    }
    Json::Object(shown)
}

fn numbered(id: &Json, ids: &[ElementId]) -> Json {
    let text = id.as_str().unwrap_or_default();
    match ids.iter().position(|known| known.to_string() == text) {
        Some(number) => json!(number),
        None => Json::Null,
    }
}

/// The stored rows say the same from both sides: the members of each set in order, the sets of
/// each thing, and both counts.
fn assert_rows(rows: &Rows, plain: &Plain, ids: &[ElementId]) {
    let number = |id: &ElementId| ids.iter().position(|known| known == id).unwrap();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); SETS];
    let mut forth = BTreeSet::new();
    let mut back = BTreeSet::new();
    for (key, row) in rows {
        match (key, row) {
            (Key::Member(_, set, place, id), _) => {
                members[number(set)].push(number(id));
                forth.insert((number(set), number(id), *place));
            }
            (Key::MemberOf(_, id, set), Row::At(place)) => {
                back.insert((number(set), number(id), *place));
            }
            (Key::Set(_, id), Row::Set(set)) => {
                assert_eq!(set.members, plain.sets[number(id)].len() as u64, "{set:?}");
            }
            (Key::Element(_, id), Row::Element(element)) => {
                let thing = number(id);
                let sets = plain.sets.iter().filter(|held| held.contains(&thing)).count();
                assert_eq!(element.in_sets as usize, sets, "{element:?}");
            }
            _ => {}
        }
    }
    assert_eq!(members, plain.sets);
    assert_eq!(forth, back, "the places of members, as the set and as the things have them");
}

/// An end of a list.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// Lists of numbers, and who refuses what.
#[derive(Clone)]
struct Plain {
    sets: Vec<Vec<usize>>,
    moods: BTreeSet<(Mood, usize)>,
}

impl Default for Plain {
    fn default() -> Self {
        Self { sets: vec![Vec::new(); SETS], moods: BTreeSet::new() }
    }
}

impl Plain {
    /// What the operation answers, or with which sentence it is refused: then nothing changes.
    fn apply(&mut self, op: Op) -> Result<Json, &'static str> {
        let mut next = self.clone();
        let answer = next.change(op)?;
        *self = next;
        Ok(answer)
    }

    fn change(&mut self, op: Op) -> Result<Json, &'static str> {
        match op {
            Op::Enter(set, thing) => {
                let changed = self.enter(set, thing, End::Last)?;
                Ok(json!({"members": self.sets[set].len(), "changed": changed}))
            }
            Op::Leave(set, thing) => {
                let changed = self.leave(set, thing)?;
                Ok(json!({"members": self.sets[set].len(), "changed": changed}))
            }
            Op::Push(set, thing) => self.put(set, thing, End::Last),
            Op::Unshift(set, thing) => self.put(set, thing, End::First),
            Op::Pop(set) => self.take(set, End::Last),
            Op::Shift(set) => self.take(set, End::First),
            Op::Combine(algebra, set, with) => self.combine(algebra, set, with),
            Op::Mutual(set, other) => {
                self.ask(Mood::Still, set)?;
                // In the order of the first.
                let other = &self.sets[other];
                let items: Vec<usize> =
                    self.sets[set].iter().copied().filter(|thing| other.contains(thing)).collect();
                Ok(json!({"items": items}))
            }
            Op::Feel(mood, thing, on) => {
                if on {
                    self.moods.insert((mood, thing));
                } else {
                    self.moods.remove(&(mood, thing));
                }
                Ok(json!({"value": on}))
            }
        }
    }

    fn ask(&self, mood: Mood, thing: usize) -> Result<(), &'static str> {
        if self.moods.contains(&(mood, thing)) { Err(mood.sentence()) } else { Ok(()) }
    }

    fn enter(&mut self, set: usize, thing: usize, end: End) -> Result<bool, &'static str> {
        if self.sets[set].contains(&thing) {
            return Ok(false);
        }
        self.ask(Mood::Homely, thing)?;
        self.ask(Mood::Shut, set)?;
        match end {
            End::First => self.sets[set].insert(0, thing),
            End::Last => self.sets[set].push(thing),
        }
        Ok(true)
    }

    fn leave(&mut self, set: usize, thing: usize) -> Result<bool, &'static str> {
        if !self.sets[set].contains(&thing) {
            return Ok(false);
        }
        self.ask(Mood::Stays, thing)?;
        self.ask(Mood::Keeps, set)?;
        self.sets[set].retain(|held| *held != thing);
        Ok(true)
    }

    /// What stands there already is moved to the end.
    fn put(&mut self, set: usize, thing: usize, end: End) -> Result<Json, &'static str> {
        self.ask(Mood::Still, set)?;
        self.leave(set, thing)?;
        self.enter(set, thing, end)?;
        Ok(json!({"members": self.sets[set].len(), "changed": true}))
    }

    fn take(&mut self, set: usize, end: End) -> Result<Json, &'static str> {
        let held = match end {
            End::First => self.sets[set].first(),
            End::Last => self.sets[set].last(),
        };
        let Some(thing) = held.copied() else {
            return Ok(json!({"members": 0, "element": null}));
        };
        self.ask(Mood::Still, set)?;
        self.leave(set, thing)?;
        Ok(json!({"members": self.sets[set].len(), "element": thing}))
    }

    /// First what goes goes, then what comes comes, both by age.
    fn combine(&mut self, algebra: Algebra, set: usize, with: usize) -> Result<Json, &'static str> {
        self.ask(Mood::Still, set)?;
        let given = self.sets[with].clone();
        let held = self.sets[set].clone();
        let kept = |thing: &usize| algebra.keeps(held.contains(thing), given.contains(thing));
        let leaves = |thing: &usize| held.contains(thing) && !kept(thing);
        let enters = |thing: &usize| !held.contains(thing) && kept(thing);
        let leaving: Vec<usize> = (0..THINGS).filter(leaves).collect();
        let entering: Vec<usize> = (0..THINGS).filter(enters).collect();
        for thing in &leaving {
            self.leave(set, *thing)?;
        }
        for thing in &entering {
            self.enter(set, *thing, End::Last)?;
        }
        let members = self.sets[set].len();
        Ok(json!({"members": members, "entered": entering.len(), "left": leaving.len()}))
    }
}

/// Rows as if every other element defined a set, and `member` stood in each.
fn standing_in_all(home: &Home<'_>, member: ElementId) -> Rows {
    let mut rows = Rows::new();
    let mut held = home.element("member").unwrap().as_ref().clone();
    for key in home.rows().into_keys() {
        let Key::Element(world, element) = key else { continue };
        if element == member {
            continue;
        }
        let set = Set { element, world, members: 1, added_at: Timestamp::default() };
        rows.insert(Key::Set(world, element), Row::Set(Arc::new(set)));
        rows.insert(Key::Member(world, element, PLACE, member), Row::At(0));
        rows.insert(Key::MemberOf(world, member, element), Row::At(PLACE));
        held.in_sets += 1;
    }
    rows.insert(Key::Element(garden(), member), Row::Element(Arc::new(held)));
    rows
}

/// Whether a row says that an element stands in a set.
fn names_member(key: &Key, member: ElementId) -> bool {
    match key {
        Key::Member(_, _, _, id) | Key::MemberOf(_, id, _) => *id == member,
        _ => false,
    }
}
