//! A walk over the table of events: each of them is made to happen, and those who listen to it are
//! asked and told as the table says.

use std::collections::BTreeSet;

use freehold::catalog::{self, Audience, EVENTS, SystemEvent};
use freehold::model::{Code, ElementId, EventKind, Json, Key, Rest, Row};
use serde_json::json;

use crate::home::{Ended, Home, Rows, alice, bob, differences, garden, on_a_machine};

/// Bounds that nothing is within any more when [`LATER_MS`] have passed.
const UNTIL: &str = "\n[bounds]\ntimes = [{ until = \"2024-01-01T00:00:00Z\" }]\n";
/// Sixty days; the node is made in November 2023.
const LATER_MS: u64 = 60 * 86_400_000;

/// Kinds that other tests walk: they happen between two servers, and here is only one.
const LATER: [EventKind; 4] = [
    EventKind::IsServerAllowed,
    EventKind::ServerAddElement,
    EventKind::ServerRegisterUser,
    EventKind::ElementOffered,
];

/// Says which keys the data of an event has.
const KEYS: &str = r#"script = '''
local keys = {}
for key in event do keys[#keys + 1] = key end
table.sort(keys)
log("keys " .. table.concat(keys, " "))
'''"#;

/// Writes a value of the element that listens.
const WRITES: &str = "script = 'set(\"heard\", get(\"heard\") + 1)'";

/// A command and its arguments: JSON, and what is no JSON is text.
type Said = (&'static str, &'static [(&'static str, &'static str)]);

/// How an event is made to happen to the element `hearer`, or to one of its type.
struct Fixture {
    kind: EventKind,
    /// What must be so before anybody listens.
    first: &'static [Said],
    /// What makes it happen.
    act: Said,
    /// Whether it happened, by what is stored and what was answered.
    happened: fn(&Home<'_>, &Json) -> bool,
}

#[test]
fn every_event_of_the_table_has_one_fixture() {
    let fixtures = FIXTURES.iter().map(|fixture| fixture.kind);
    let walked: Vec<&str> = fixtures.chain(LATER).map(EventKind::as_str).collect();
    let listed: Vec<&str> = EVENTS.iter().map(|row| row.kind.as_str()).collect();

    let sorted =
        |names: &[&'static str]| -> BTreeSet<&'static str> { names.iter().copied().collect() };
    assert_eq!(sorted(&walked), sorted(&listed));
    assert_eq!(walked.len(), sorted(&walked).len(), "two fixtures are of one kind");
    assert_eq!(listed.len(), sorted(&listed).len(), "two rows are of one kind");
    for kind in EventKind::ALL.iter().filter(|kind| kind.has_before() || kind.has_after()) {
        assert!(listed.contains(&kind.as_str()), "EVENTS says nothing of {}", kind.as_str());
    }
}

#[test]
fn who_listens_is_asked_and_told_once_with_the_data_of_the_table() {
    on_a_machine(|machine| {
        let baseline = furnished(Home::new(machine), Bounds::None);
        let mut mistakes = Vec::new();
        for (row, fixture) in walk() {
            let kind = row.kind.as_str();
            let actions = listening(row.kind, KEYS, KEYS);

            let (home, _, ended) = walked(&baseline, Bounds::None, fixture, &actions);

            let mut want = Vec::new();
            for when in whens(row.kind) {
                want.push(format!("keys {}", sorted_keys(row)));
                want.push(format!("{when}:{kind}: hearer.{when} answered"));
            }
            if ended.trace != want {
                mistakes.push(format!("{kind}: {:#?}, but {want:#?}", ended.trace));
            }
            match ended.result {
                Ok(answer) if (fixture.happened)(&home, &answer) => {}
                result => mistakes.push(format!("{kind}: it did not happen: {result:?}")),
            }
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    });
}

#[test]
fn a_sentence_of_refusal_reaches_the_caller_and_nothing_changes() {
    on_a_machine(|machine| {
        let baseline = furnished(Home::new(machine), Bounds::None);
        let mut mistakes = Vec::new();
        for (row, fixture) in walk().filter(|(row, _)| row.kind.has_before()) {
            let kind = row.kind.as_str();
            let sentence = format!("not now: {kind}");
            let actions = listening(row.kind, &format!("refuse = \"{sentence}\""), KEYS);

            let (home, before, ended) = walked(&baseline, Bounds::None, fixture, &actions);

            let want = [format!("before:{kind}: hearer.before said no")];
            if ended.trace != want {
                mistakes.push(format!("{kind}: {:?}, but {want:?}", ended.trace));
            }
            match ended.result {
                Err(problem) if (problem.code, &problem.says) == (Code::Refused, &sentence) => {}
                result => mistakes.push(format!("{kind}: it was not refused: {result:?}")),
            }
            let changed = differences(&before, &home.rows());
            mistakes.extend(changed.into_iter().map(|line| format!("{kind}: {line}")));
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    });
}

#[test]
fn who_is_out_of_bounds_hears_nothing() {
    on_a_machine(|machine| {
        let baseline = furnished(Home::new(machine), Bounds::Over);
        let mut mistakes = Vec::new();
        for (row, fixture) in walk() {
            let kind = row.kind.as_str();
            let actions = listening(row.kind, "refuse = \"nobody is there to say so\"", KEYS);

            let (home, _, ended) = walked(&baseline, Bounds::Over, fixture, &actions);

            if !ended.trace.is_empty() {
                mistakes.push(format!("{kind}: {:?}", ended.trace));
            }
            let is_value =
                matches!(row.kind, EventKind::ValueChange | EventKind::ValueChangeFiltered);
            match ended.result {
                // What does not exist has no values.
                Err(problem) if is_value && problem.code == Code::NotFound => {}
                Ok(answer) if !is_value && (fixture.happened)(&home, &answer) => {}
                result => mistakes.push(format!("{kind}: {result:?}")),
            }
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    });
}

#[test]
fn what_an_action_writes_to_its_element_stays_whatever_it_hears() {
    on_a_machine(|machine| {
        let baseline = furnished(Home::new(machine), Bounds::None);
        let mut mistakes = Vec::new();
        for (row, fixture) in walk().filter(|(row, _)| may_write(row.kind)) {
            let kind = row.kind.as_str();
            let actions = listening(row.kind, WRITES, WRITES);

            let (home, _, ended) = walked(&baseline, Bounds::None, fixture, &actions);

            let (times, heard) = (whens(row.kind).len(), home.value("hearer", "heard"));
            if heard != json!(times) {
                mistakes.push(format!("{kind}: written {times} times, and {heard} is there"));
            }
            match ended.result {
                Ok(answer) if (fixture.happened)(&home, &answer) => {}
                result => mistakes.push(format!("{kind}: it did not happen: {result:?}")),
            }
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    });
}

#[test]
fn who_asked_another_server_in_vain_hears_of_it_as_of_a_call() {
    let table = [
        ("pcall(ask, \"alice@elsewhere/garden/lamp\", \"shine\", {})", true),
        ("pcall(get, \"on\", \"alice@elsewhere/garden/lamp\")", true),
        ("ask(\"alice@elsewhere/garden/lamp\", \"shine\", {})", false),
    ];
    on_a_machine(|machine| {
        let baseline = furnished(Home::new(machine), Bounds::None);
        let row = EVENTS.iter().find(|row| row.kind == EventKind::RemoteError).unwrap();
        let told = [
            format!("keys {}", sorted_keys(row)),
            "after:remote_error: hearer.after answered".to_owned(),
        ];
        for (script, is_caught) in table {
            let mut home = baseline.copy();
            let wonder =
                format!("\n[actions.wonder]\non = \"event:wonder\"\nscript = '{script}'\n");
            let actions = format!("{wonder}{}", listening(row.kind, KEYS, KEYS));
            home.publish(&hearer(Bounds::None, &actions));
            let call = home.call("event.send", json!({"element": "hearer", "event": "wonder"}));
            home.offer(vec![call]);
            while home.turn().is_some() {}

            let ended = home.lose_what_was_asked();

            let [asked, heard] = ended.as_slice() else { panic!("{script}: {ended:#?}") };
            assert_eq!(asked.result.is_ok(), is_caught, "{script}: {asked:?}");
            assert_eq!(heard.trace, told, "{script}");
            let answer = json!({"id": home.id("hearer")});
            assert_eq!(heard.result, Ok(answer), "{script}");
        }
    });
}

/// Every row of the table with what makes it happen, but for [`LATER`].
fn walk() -> impl Iterator<Item = (&'static SystemEvent, &'static Fixture)> {
    EVENTS.iter().filter(|row| !LATER.contains(&row.kind)).map(|row| {
        let fixture = FIXTURES.iter().find(|fixture| fixture.kind == row.kind);
        let name = row.kind.as_str();
        (row, fixture.unwrap_or_else(|| panic!("no fixture makes {name} happen")))
    })
}

/// When those who listen hear of a kind: before it, and after it where it is told.
fn whens(kind: EventKind) -> Vec<&'static str> {
    let before = kind.has_before().then_some("before");
    before.into_iter().chain(kind.has_after().then_some("after")).collect()
}

fn sorted_keys(row: &SystemEvent) -> String {
    let mut keys = row.data.to_vec();
    keys.sort_unstable();
    keys.join(" ")
}

/// Whether an action on it may write, and its element is there before and afterwards.
fn may_write(kind: EventKind) -> bool {
    !matches!(
        kind,
        EventKind::ElementCreation
            | EventKind::ElementBatchCreation
            | EventKind::ElementDestruction
            | EventKind::ValueChangeFiltered
    )
}

/// Actions that hear a kind before and after, named so; about one attribute where it is about one.
fn listening(kind: EventKind, before: &str, after: &str) -> String {
    let attribute = if kind.is_about_attribute() { "attribute = \"level\"\n" } else { "" };
    let name = kind.as_str();
    let action = |when: &str| {
        let body = if when == "before" { before } else { after };
        format!("\n[actions.{when}]\non = \"{when}:{name}\"\n{attribute}{body}\n")
    };
    whens(kind).into_iter().map(action).collect()
}

/// Whether who listens is within its bounds when the event happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bounds {
    None,
    Over,
}

/// A garden with two sets, `hearer` and `other`, and a thing. Nothing listens yet.
fn furnished(mut home: Home<'_>, bounds: Bounds) -> Home<'_> {
    home.publish("name = \"base\"\n");
    home.publish("name = \"plain\"\n\n[attributes.level]\nkind = \"integer\"\ndefault = 0\n");
    home.publish(&hearer(bounds, ""));
    home.create("hearer", "hearer");
    home.create("plain", "other");
    home.create("plain", "thing");
    home.done("set.add", json!({"element": "hearer"}));
    home.done("set.add", json!({"element": "other"}));
    // A server that is known by name; nobody is there.
    let elsewhere = Key::ServerName("elsewhere".to_owned());
    home.plant(Rows::from([(elsewhere, Row::Id([9; 16]))]));
    home
}

fn hearer(bounds: Bounds, actions: &str) -> String {
    let bounds = match bounds {
        Bounds::None => "",
        Bounds::Over => UNTIL,
    };
    format!(
        "name = \"hearer\"\nparents = [\"base\"]\n{bounds}\n\
         [attributes.level]\nkind = \"integer\"\ndefault = 0\n\n\
         [attributes.heard]\nkind = \"integer\"\ndefault = 0\n\n\
         [actions.cry]\non = \"event:cry\"\n\
         script = 'send(\"help\", {{}}, \"alice@elsewhere/garden/lamp\")'\n{actions}"
    )
}

/// Lets an event happen while somebody listens. What was stored before, and how it ended.
fn walked<'m>(
    baseline: &Home<'m>,
    bounds: Bounds,
    fixture: &Fixture,
    actions: &str,
) -> (Home<'m>, Rows, Ended) {
    let mut home = baseline.copy();
    for said in fixture.first {
        say(&mut home, *said).answer();
    }
    home.publish(&hearer(bounds, actions));
    // What failed elsewhere is heard of when the call that sent it has long ended.
    let is_late = fixture.kind == EventKind::RemoteError;
    if is_late {
        say(&mut home, fixture.act).answer();
    }
    if bounds == Bounds::Over {
        home.pass_ms(LATER_MS);
    }
    let before = home.rows();
    let ended = if is_late {
        home.lose_what_was_told().remove(0)
    } else if fixture.kind == EventKind::NodeStarted {
        // Each element hears of the start in a call of its own.
        let mut ended = home.ended_by(|home| {
            say(home, fixture.act).answer();
        });
        ended.remove(0)
    } else {
        say(&mut home, fixture.act)
    };
    (home, before, ended)
}

fn say(home: &mut Home<'_>, (command, pairs): Said) -> Ended {
    let mut args = serde_json::Map::new();
    for (name, text) in pairs {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Json::from(*text));
        args.insert((*name).to_owned(), value);
    }
    let args = Json::Object(args);
    match catalog::find(command).map(|command| command.audience) {
        Some(Audience::Node) => home.say_as_node(command, args),
        _ => home.say(command, args),
    }
}

/// Whether a row is stored that two elements make up.
fn has(home: &Home<'_>, key: fn(ElementId, ElementId) -> Key, one: &str, other: &str) -> bool {
    home.rows().contains_key(&key(home.id(one), home.id(other)))
}

/// Whether an element stands in a set.
fn stands(home: &Home<'_>, element: &str, set: &str) -> bool {
    has(home, |element, set| Key::MemberOf(garden(), element, set), element, set)
}

fn is_child(home: &Home<'_>, set: &str, child: &str) -> bool {
    let down = has(home, |set, child| Key::SetChild(garden(), set, child), set, child);
    let up = has(home, |child, set| Key::SetParent(garden(), child, set), child, set);
    assert_eq!(down, up, "both sides of {set} and {child}");
    down
}

fn is_linked(home: &Home<'_>, from: &str, to: &str) -> bool {
    let forth = has(home, |from, to| Key::SetLink(garden(), from, to), from, to);
    let back = has(home, |to, from| Key::SetLinked(garden(), to, from), to, from);
    assert_eq!(forth, back, "both sides of {from} and {to}");
    forth
}

fn is_group(home: &Home<'_>) -> bool {
    home.rows().contains_key(&Key::GroupName(alice(), "crew".to_owned()))
}

fn is_bob(answer: &Json, member: bool, admin: bool) -> bool {
    answer["member"] == json!(member) && answer["admin"] == json!(admin)
}

const ENTER_HEARER: Said = ("set.enter", &[("set", "hearer"), ("element", "thing")]);
const ENTER_OTHER: Said = ("set.enter", &[("set", "other"), ("element", "thing")]);
const ADD_GROUP: Said = ("group.add", &[("name", "crew"), ("element", "hearer")]);
const ADD_MEMBER: Said = ("group.member", &[("group", "crew"), ("account", "bob")]);
const ADD_ADMIN: Said =
    ("group.member", &[("group", "crew"), ("account", "bob"), ("admin", "true")]);

const FIXTURES: &[Fixture] = &[
    Fixture {
        kind: EventKind::ValueChange,
        first: &[],
        act: ("element.set", &[("element", "hearer"), ("attribute", "level"), ("value", "1")]),
        happened: |home, _| home.value("hearer", "level") == json!(1),
    },
    Fixture {
        kind: EventKind::ValueChangeFiltered,
        first: &[],
        act: ("element.get", &[("element", "hearer"), ("attribute", "level")]),
        happened: |_, answer| answer["value"] == json!(0),
    },
    Fixture {
        kind: EventKind::ElementCreation,
        first: &[],
        act: ("element.create", &[("type", "hearer"), ("name", "made")]),
        happened: |home, _| home.element("made").is_some(),
    },
    Fixture {
        kind: EventKind::ElementBatchCreation,
        first: &[],
        act: ("element.create", &[("type", "hearer"), ("count", "3")]),
        happened: |home, answer| {
            let elements = home.rows().into_keys().filter(|key| matches!(key, Key::Element(..)));
            answer["count"] == json!(3) && elements.count() == 6
        },
    },
    Fixture {
        kind: EventKind::ElementDestruction,
        first: &[],
        act: ("element.destroy", &[("element", "hearer")]),
        happened: |home, _| home.element("hearer").is_none(),
    },
    Fixture {
        kind: EventKind::ElementOwnerChange,
        first: &[],
        act: ("element.give", &[("element", "hearer"), ("account", "bob")]),
        happened: |home, _| home.element("hearer").unwrap().owner == bob(),
    },
    Fixture {
        kind: EventKind::ElementTaken,
        first: &[],
        act: ("element.take", &[("element", "hearer")]),
        happened: |home, _| home.element("hearer").unwrap().rests == Some(Rest::Held),
    },
    Fixture {
        kind: EventKind::ElementDropped,
        first: &[("element.take", &[("element", "hearer")])],
        act: ("element.drop", &[]),
        happened: |home, _| home.element("hearer").unwrap().rests.is_none(),
    },
    Fixture {
        kind: EventKind::AttributeOn,
        first: &[("element.switch", &[("element", "hearer"), ("part", "level"), ("off", "true")])],
        act: ("element.switch", &[("element", "hearer"), ("part", "level")]),
        happened: |home, _| home.element("hearer").unwrap().attributes_off.is_empty(),
    },
    Fixture {
        kind: EventKind::AttributeOff,
        first: &[],
        act: ("element.switch", &[("element", "hearer"), ("part", "level"), ("off", "true")]),
        happened: |home, _| home.element("hearer").unwrap().attributes_off.contains("level"),
    },
    Fixture {
        kind: EventKind::ParentOn,
        first: &[("element.switch", &[("element", "hearer"), ("part", "base"), ("off", "true")])],
        act: ("element.switch", &[("element", "hearer"), ("part", "base")]),
        happened: |home, _| home.element("hearer").unwrap().parents_off.is_empty(),
    },
    Fixture {
        kind: EventKind::ParentOff,
        first: &[],
        act: ("element.switch", &[("element", "hearer"), ("part", "base"), ("off", "true")]),
        happened: |home, _| home.element("hearer").unwrap().parents_off.len() == 1,
    },
    Fixture {
        kind: EventKind::ElementEntersSet,
        first: &[],
        act: ("set.enter", &[("set", "other"), ("element", "hearer")]),
        happened: |home, _| stands(home, "hearer", "other"),
    },
    Fixture {
        kind: EventKind::SetElementAdded,
        first: &[],
        act: ENTER_HEARER,
        happened: |home, _| stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::ElementLeavesSet,
        first: &[("set.enter", &[("set", "other"), ("element", "hearer")])],
        act: ("set.leave", &[("set", "other"), ("element", "hearer")]),
        happened: |home, _| !stands(home, "hearer", "other"),
    },
    Fixture {
        kind: EventKind::SetElementRemoved,
        first: &[ENTER_HEARER],
        act: ("set.leave", &[("set", "hearer"), ("element", "thing")]),
        happened: |home, _| !stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetChildAdded,
        first: &[],
        act: ("set.child", &[("set", "hearer"), ("other", "other")]),
        happened: |home, _| is_child(home, "hearer", "other"),
    },
    Fixture {
        kind: EventKind::SetParentAdded,
        first: &[],
        act: ("set.child", &[("set", "other"), ("other", "hearer")]),
        happened: |home, _| is_child(home, "other", "hearer"),
    },
    Fixture {
        kind: EventKind::SetChildRemoved,
        first: &[("set.child", &[("set", "hearer"), ("other", "other")])],
        act: ("set.child", &[("set", "hearer"), ("other", "other"), ("remove", "true")]),
        happened: |home, _| !is_child(home, "hearer", "other"),
    },
    Fixture {
        kind: EventKind::SetParentRemoved,
        first: &[("set.child", &[("set", "other"), ("other", "hearer")])],
        act: ("set.child", &[("set", "other"), ("other", "hearer"), ("remove", "true")]),
        happened: |home, _| !is_child(home, "other", "hearer"),
    },
    Fixture {
        kind: EventKind::SetLinkMade,
        first: &[],
        act: ("set.link", &[("set", "hearer"), ("other", "other")]),
        happened: |home, _| is_linked(home, "hearer", "other"),
    },
    Fixture {
        kind: EventKind::SetLinkReceived,
        first: &[],
        act: ("set.link", &[("set", "other"), ("other", "hearer")]),
        happened: |home, _| is_linked(home, "other", "hearer"),
    },
    Fixture {
        kind: EventKind::SetLinkRemoved,
        first: &[("set.link", &[("set", "hearer"), ("other", "other")])],
        act: ("set.link", &[("set", "hearer"), ("other", "other"), ("remove", "true")]),
        happened: |home, _| !is_linked(home, "hearer", "other"),
    },
    Fixture {
        kind: EventKind::SetLinkLost,
        first: &[("set.link", &[("set", "other"), ("other", "hearer")])],
        act: ("set.link", &[("set", "other"), ("other", "hearer"), ("remove", "true")]),
        happened: |home, _| !is_linked(home, "other", "hearer"),
    },
    Fixture {
        kind: EventKind::SetUnion,
        first: &[ENTER_OTHER],
        act: ("set.union", &[("set", "hearer"), ("with", "other")]),
        happened: |home, _| stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetIntersection,
        first: &[ENTER_HEARER],
        act: ("set.intersection", &[("set", "hearer"), ("with", "other")]),
        happened: |home, _| !stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetDifference,
        first: &[ENTER_HEARER, ENTER_OTHER],
        act: ("set.difference", &[("set", "hearer"), ("with", "other")]),
        happened: |home, _| !stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetSymmetricDifference,
        first: &[ENTER_OTHER],
        act: ("set.symmetric_difference", &[("set", "hearer"), ("with", "other")]),
        happened: |home, _| stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetPush,
        first: &[],
        act: ("set.push", &[("set", "hearer"), ("element", "thing")]),
        happened: |home, _| stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetPop,
        first: &[ENTER_HEARER],
        act: ("set.pop", &[("set", "hearer")]),
        happened: |home, _| !stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetUnshift,
        first: &[],
        act: ("set.unshift", &[("set", "hearer"), ("element", "thing")]),
        happened: |home, _| stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetShift,
        first: &[ENTER_HEARER],
        act: ("set.shift", &[("set", "hearer")]),
        happened: |home, _| !stands(home, "thing", "hearer"),
    },
    Fixture {
        kind: EventKind::SetMutual,
        first: &[ENTER_HEARER, ENTER_OTHER],
        act: ("set.mutual", &[("set", "hearer"), ("other", "other")]),
        happened: |home, answer| answer["items"][0]["id"] == json!(home.id("thing")),
    },
    Fixture {
        kind: EventKind::SetValuesChange,
        first: &[ENTER_HEARER],
        act: ("set.change", &[("set", "hearer"), ("attribute", "level"), ("value", "1")]),
        happened: |home, _| home.value("thing", "level") == json!(1),
    },
    Fixture {
        kind: EventKind::GroupCreation,
        first: &[],
        act: ADD_GROUP,
        happened: |home, _| is_group(home),
    },
    Fixture {
        kind: EventKind::GroupDestruction,
        first: &[ADD_GROUP],
        act: ("group.rm", &[("group", "crew")]),
        happened: |home, _| !is_group(home),
    },
    Fixture {
        kind: EventKind::GroupMemberAdded,
        first: &[ADD_GROUP],
        act: ADD_MEMBER,
        happened: |_, answer| is_bob(answer, true, false),
    },
    Fixture {
        kind: EventKind::GroupMemberRemoved,
        first: &[ADD_GROUP, ADD_MEMBER],
        act: ("group.member", &[("group", "crew"), ("account", "bob"), ("remove", "true")]),
        happened: |_, answer| is_bob(answer, false, false),
    },
    Fixture {
        kind: EventKind::GroupAdminAdded,
        first: &[ADD_GROUP, ADD_MEMBER],
        act: ADD_ADMIN,
        happened: |_, answer| is_bob(answer, true, true),
    },
    Fixture {
        kind: EventKind::GroupAdminRemoved,
        first: &[ADD_GROUP, ADD_MEMBER, ADD_ADMIN],
        act: (
            "group.member",
            &[("group", "crew"), ("account", "bob"), ("admin", "true"), ("remove", "true")],
        ),
        happened: |_, answer| is_bob(answer, true, false),
    },
    Fixture {
        kind: EventKind::RemoteError,
        first: &[],
        act: ("event.send", &[("element", "hearer"), ("event", "cry")]),
        happened: |home, answer| answer["id"] == json!(home.id("hearer")),
    },
    Fixture {
        kind: EventKind::NodeStarted,
        first: &[],
        act: ("node.started", &[]),
        happened: |home, answer| answer["id"] == json!(home.id("hearer")),
    },
];

/// Elements of types that are at home elsewhere: what somebody decides there who cannot be asked from
/// here is refused, or taken as accepted.
mod above {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use freehold::model::{
        Answer, Code, Definition, EventKind, Job, JobStatus, Json, Key, Level, Need, Row, ServerId,
        TypeDefinition,
    };
    use freehold::step::{Above, above, above_default};
    use serde_json::json;

    use super::{Bounds, FIXTURES, Fixture, furnished, hearer};
    use crate::home::{Ended, Home, Rows, differences, on_a_machine};

    /// Where the type is at home. Nobody is there.
    const ELSEWHERE: ServerId = ServerId::from_bytes([9; 16]);

    /// What is refused above the level, where the type does not say otherwise. Everything else is
    /// taken as accepted.
    const REFUSED: [EventKind; 7] = [
        EventKind::ElementCreation,
        EventKind::ElementBatchCreation,
        EventKind::ElementDestruction,
        EventKind::ElementOwnerChange,
        EventKind::ValueChange,
        EventKind::ValueChangeFiltered,
        EventKind::SetValuesChange,
    ];

    /// Who hears of an event about which attribute, and whether it is refused.
    type Listed = Vec<(EventKind, Option<String>, bool)>;

    #[test]
    fn above_the_level_creation_destruction_and_values_are_refused_and_the_rest_is_accepted() {
        for kind in EventKind::ALL {
            let refuses = above_default(kind) == Above::Refuse;

            assert_eq!(refuses, REFUSED.contains(&kind), "{}", kind.as_str());
        }
    }

    #[test]
    fn above_the_level_each_event_is_refused_or_happens_as_its_kind_or_its_type_says() {
        on_a_machine(|machine| {
            let baseline = furnished(Home::new(machine), Bounds::None);
            let mut mistakes = Vec::new();
            for fixture in FIXTURES.iter().filter(|fixture| fixture.kind.has_before()) {
                let kind = fixture.kind;
                let by_default = REFUSED.contains(&kind);
                let table = [
                    ("", by_default),
                    ("above = \"refuse\"\n", true),
                    ("above = \"accept\"\n", false),
                ];
                for (says, refuses) in table {
                    let listed = listed(&mut baseline.copy(), kind, says);
                    let want: Listed = vec![(kind, None, refuses)];
                    assert_eq!(listed, want, "{says}");

                    let walked = walked(&baseline, fixture, listed);

                    let mistake = check(fixture, walked, refuses);
                    mistakes
                        .extend(mistake.map(|wrong| format!("{} {says}{wrong}", kind.as_str())));
                }
            }
            assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
        });
    }

    #[test]
    fn above_the_level_what_is_said_of_one_attribute_is_not_said_of_another() {
        on_a_machine(|machine| {
            let baseline = furnished(Home::new(machine), Bounds::None);
            let mut mistakes = Vec::new();
            for fixture in FIXTURES.iter().filter(|fixture| fixture.kind.is_about_attribute()) {
                let kind = fixture.kind;
                for (about, refuses) in [("level", true), ("heard", false)] {
                    let listed = vec![(kind, Some(about.to_owned()), true)];

                    let walked = walked(&baseline, fixture, listed);

                    let mistake = check(fixture, walked, refuses);
                    mistakes.extend(
                        mistake.map(|wrong| format!("{} of {about}: {wrong}", kind.as_str())),
                    );
                }
            }
            assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
        });
    }

    /// What is wrong, if an event was to be refused, or to happen, and was or did not.
    fn check(
        fixture: &Fixture,
        (home, before, ended): (Home<'_>, Rows, Ended),
        refuses: bool,
    ) -> Option<String> {
        let changed = differences(&before, &home.rows());
        match (ended.result, refuses) {
            (Err(problem), true) if problem.code == Code::Refused => {
                (!changed.is_empty()).then(|| format!("refused, and changed: {changed:#?}"))
            }
            (Ok(answer), false) if (fixture.happened)(&home, &answer) => None,
            (Ok(_), false) => Some(format!("it did not happen: {changed:#?}")),
            (result, true) => Some(format!("it was not refused: {result:?}")),
            (result, false) => Some(format!("it did not happen: {result:?}")),
        }
    }

    /// What the home of the type says elsewhere of one who listens to a kind, for itself alone.
    fn listed(home: &mut Home<'_>, kind: EventKind, says: &str) -> Listed {
        let on = format!("on = \"before:{}\"", kind.as_str());
        let action = format!("\n[actions.decides]\n{on}\naccept = true\n{says}");
        home.publish(&hearer(Bounds::None, &action));
        above(&held(home), Level::Public)
    }

    /// Lets an event happen to what is made from a type of another server, of which this is said here.
    /// What was stored before, and how it ended.
    fn walked<'m>(
        baseline: &Home<'m>,
        fixture: &Fixture,
        listed: Listed,
    ) -> (Home<'m>, Rows, Ended) {
        let mut home = baseline.copy();
        for (command, pairs) in fixture.first {
            home.done(command, args_of(pairs));
        }
        let held = held(&home);
        let definition = Definition { actions: BTreeMap::new(), ..held.definition.clone() };
        let foreign = TypeDefinition {
            home: Some(ELSEWHERE),
            definition,
            own: None,
            above: listed,
            ..held.as_ref().clone()
        };
        home.plant(Rows::from([(Key::Type(held.id), Row::Type(Arc::new(foreign)))]));
        let before = home.rows();
        let (command, pairs) = fixture.act;
        let call = home.call(command, args_of(pairs));
        let mut ended = home.ended_by(|home| {
            home.offer(vec![call]);
            while home.turn().is_some() {}
            let answered = answered(home);
            if !answered.is_empty() {
                home.plant(answered);
            }
        });
        (home, before, ended.remove(0))
    }

    /// The type of the hearer.
    fn held(home: &Home<'_>) -> Arc<TypeDefinition> {
        let types = home.rows().into_values().filter_map(|row| match row {
            Row::Type(held) => Some(held),
            _ => None,
        });
        let mut hearers = types.filter(|held| held.definition.name.as_str() == "hearer");
        hearers.next().unwrap()
    }

    /// The jobs that wait for the type's home, as they stand once it has said yes to each question.
    fn answered(home: &Home<'_>) -> Rows {
        let waiting = home.jobs().into_iter().filter(|job| !job.needs().is_empty());
        let jobs = waiting.map(|job| {
            let answers = job.needs().iter().map(|Need { place, question }| {
                (place.clone(), Answer { question: question.clone(), result: Ok(json!({})) })
            });
            let answers = answers.collect();
            let job = Job { status: JobStatus::Waiting, answers, ..job.as_ref().clone() };
            (Key::Job(job.call.id), Row::Job(Arc::new(job)))
        });
        jobs.collect()
    }

    /// Arguments as JSON; what is no JSON is text.
    fn args_of(pairs: &[(&str, &str)]) -> Json {
        let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Json::from(text));
        let members = pairs.iter().map(|&(name, text)| (name.to_owned(), read(text)));
        Json::Object(members.collect())
    }
}
