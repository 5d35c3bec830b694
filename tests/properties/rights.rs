//! Rights of other servers: each level meets each listing and each kind of access, before a drop and
//! after it, and the answer is what the written rules say.

use std::sync::Arc;

use freehold::model::{
    AccountId, Call, Caller, Code, Incarnation, Json, Key, Level, Name, Node, Presented, Problem,
    Row, ServerId, SignedRecord, Timestamp, User, hex,
};
use freehold::script::Machine;
use freehold::trust::{
    Inception, KeyPair, ProtectionClaim, Record, RecordKind, decode_record, issue_protection,
};
use serde_json::json;

use crate::home::{Ended, Home, alice, differences, on_a_machine};

/// What others want something of.
const CHEST: &str = "alice/garden/chest";
/// The list that its type names.
const LIST: &str = "family";
/// A list that its type does not name.
const OTHER_LIST: &str = "friends";
/// Nothing has this name.
const UNKNOWN: &str = "doesnotexist";
/// From the nearest to the farthest.
const LEVELS: [Level; 3] = [Level::Private, Level::Protected, Level::Public];
/// Events, each heard at some of the levels: one bit each.
const HEARD: std::ops::Range<usize> = 1..8;

#[test]
fn another_server_may_what_the_levels_and_the_lists_say_and_no_more() {
    let partner = partner();
    on_a_machine(|machine| {
        let baseline = furnished(machine, &partner);
        let mut mistakes = Vec::new();
        for listing in Listing::ALL {
            let mut home = baseline.copy();
            let presented = listing.shown(&mut home, &partner);
            let caller = Caller::Remote {
                server: partner.server,
                claim: Some(alice()),
                presented,
                user: None,
            };

            let before = tried(&mut home, &caller, listing.is_mutual());
            drop_from_lists(&mut home);
            let after = tried(&mut home, &caller, false);

            mistakes.extend(before.into_iter().map(|says| format!("{listing:?}: {says}")));
            mistakes.extend(after.into_iter().map(|says| format!("{listing:?}, dropped: {says}")));
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    });
}

#[test]
fn whatever_is_missing_is_answered_with_the_same_words() {
    let partner = partner();
    on_a_machine(|machine| {
        let mut home = furnished(machine, &partner);
        let hash = agree(&mut home, &partner, LIST);
        let listed = vec![Presented { list: LIST.to_owned(), hash }];
        for presented in [Vec::new(), listed] {
            let caller =
                Caller::Remote { server: partner.server, claim: None, presented, user: None };
            for access in Access::ALL {
                let mut told = |element: &str, name: &str| {
                    let problem =
                        remote(&mut home, &caller, access.said(element, name, 1)).problem();
                    assert_eq!(problem.code, Code::NotOffered, "{access:?} {element} {name}");
                    words(&problem, name).replace(element, "ELEMENT")
                };
                let name = access.open();

                let want = told(CHEST, UNKNOWN);

                for element in
                    ["alice/garden/nothing", "alice/nowhere/chest", "nobody/garden/chest"]
                {
                    assert_eq!(told(element, &name), want, "{access:?} {element}");
                }
            }
        }
    });
}

#[test]
fn who_calls_for_a_user_is_told_no_more_of_what_is_hidden() {
    let partner = partner();
    on_a_machine(|machine| {
        let mut home = furnished(machine, &partner);
        home.done("token.permit", json!({"server": "cellar", "only": ["lamp"]}));
        let users = [
            // One of ours, whose permission is for something else.
            User { account: alice(), home: us(&home).server, scope: Vec::new() },
            // One of the caller's own, or of nobody's: its word is enough to call so.
            User {
                account: AccountId::from_bytes([7; 16]),
                home: partner.server,
                scope: vec!["lamp".to_owned()],
            },
        ];
        for user in users {
            let caller = Caller::Remote {
                server: partner.server,
                claim: None,
                presented: Vec::new(),
                user: Some(user),
            };
            for access in Access::ALL {
                let hidden = access.hidden();
                let mut told = |element: &str| {
                    let ended = remote(&mut home, &caller, access.said(element, &hidden, 1));
                    words(&ended.problem(), &hidden).replace(element, "ELEMENT")
                };

                let (there, nowhere) = (told(CHEST), told("alice/garden/nothing"));

                assert_eq!(there, nowhere, "{access:?} by {caller:?}");
            }
        }
    });
}

/// A kind of access by another server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Get,
    Set,
    Call,
    Ask,
    Send,
}

impl Access {
    const ALL: [Self; 5] = [Self::Get, Self::Set, Self::Call, Self::Ask, Self::Send];

    /// The call by which it is tried; `value` is what is set.
    fn said(self, element: &str, name: &str, value: u64) -> (&'static str, Json) {
        match self {
            Self::Get => ("element.get", json!({"element": element, "attribute": name})),
            Self::Set => {
                let args = json!({"element": element, "attribute": name, "value": value});
                ("element.set", args)
            }
            Self::Call => ("action.call", json!({"element": element, "action": name})),
            Self::Ask => ("action.ask", json!({"element": element, "action": name})),
            Self::Send => ("event.send", json!({"element": element, "event": name})),
        }
    }

    /// What of an answer is the value, or what an action returned.
    fn given(self, answer: &Json) -> Json {
        match self {
            Self::Get | Self::Set => answer["value"].clone(),
            Self::Call | Self::Send => answer["result"].clone(),
            Self::Ask => answer.clone(),
        }
    }

    /// The name of something that is offered to nobody.
    fn hidden(self) -> String {
        match self {
            Self::Get | Self::Set => value_name(Level::Private, Level::Private),
            Self::Call | Self::Ask => action_name(1, Level::Private),
            Self::Send => event_name(1),
        }
    }

    /// The name of something that is offered to everybody.
    fn open(self) -> String {
        match self {
            Self::Get | Self::Set => value_name(Level::Public, Level::Public),
            Self::Call | Self::Ask => action_name(4, Level::Public),
            Self::Send => event_name(4),
        }
    }
}

/// What the rules say of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Done,
    NotListed,
    NotOffered,
}

/// Whether a right of this level is a caller's. Private is for nobody else.
fn reaches(level: Level, mutual: bool) -> bool {
    match level {
        Level::Private => false,
        Level::Protected => mutual,
        Level::Public => true,
    }
}

/// Of a right to a value beside which there is another: who sees the value and lacks a protected right
/// hears of the list, everybody else of nothing.
fn rule_of_value(right: Level, other: Level, mutual: bool) -> Rule {
    if reaches(right, mutual) {
        Rule::Done
    } else if right == Level::Protected && reaches(other, mutual) {
        Rule::NotListed
    } else {
        Rule::NotOffered
    }
}

/// Of actions of these levels: one that is offered is enough.
fn rule_of_actions(levels: &[Level], mutual: bool) -> Rule {
    if levels.iter().any(|level| reaches(*level, mutual)) { Rule::Done } else { Rule::NotOffered }
}

/// One access, and what must come of it.
struct Trial {
    access: Access,
    name: String,
    rule: Rule,
    /// What an action answers where it is done; of values, what is stored or set.
    answer: Json,
    /// The actions that run where it is done.
    ran: Vec<String>,
}

/// Every access of the chest by a server with which we are, or are not, on each other's list.
fn trials(mutual: bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (read, write) in values() {
        let of_value = |access, rule| Trial {
            access,
            name: value_name(read, write),
            rule,
            answer: Json::Null,
            ran: Vec::new(),
        };
        trials.push(of_value(Access::Get, rule_of_value(read, write, mutual)));
        trials.push(of_value(Access::Set, rule_of_value(write, read, mutual)));
    }
    for bits in HEARD {
        let levels = levels_in(bits);
        // Whichever of them is called, every action on its event runs.
        let ran: Vec<String> = levels
            .iter()
            .map(|level| {
                let (event, action) = (event_name(bits), action_name(bits, *level));
                format!("event:{event}: chest.{action} answered")
            })
            .collect();
        for level in &levels {
            for access in [Access::Call, Access::Ask] {
                trials.push(Trial {
                    access,
                    name: action_name(bits, *level),
                    rule: rule_of_actions(&[*level], mutual),
                    answer: json!({"level": level}),
                    ran: ran.clone(),
                });
            }
        }
        // Of what they answer, only what is offered is given.
        let last = levels.iter().rfind(|level| reaches(**level, mutual));
        trials.push(Trial {
            access: Access::Send,
            name: event_name(bits),
            rule: rule_of_actions(&levels, mutual),
            answer: json!({"level": last}),
            ran,
        });
    }
    trials
}

/// Tries every access, and gives back where the answer is not what the rules say.
fn tried(home: &mut Home<'_>, caller: &Caller, mutual: bool) -> Vec<String> {
    let unknown = Access::ALL.map(|access| {
        let problem = remote(home, caller, access.said(CHEST, UNKNOWN, 1)).problem();
        assert_eq!(problem.code, Code::NotOffered, "{access:?}");
        words(&problem, UNKNOWN)
    });
    let mut mistakes = Vec::new();
    for (value, trial) in (1..).zip(trials(mutual)) {
        let Trial { access, name, rule, answer, ran } = trial;
        let held = home.value("chest", &name);
        let want = match access {
            Access::Get if held.is_null() => json!(0),
            Access::Get => held,
            Access::Set => json!(value),
            Access::Call | Access::Ask | Access::Send => answer,
        };
        let before = home.rows();

        let ended = remote(home, caller, access.said(CHEST, &name, value));

        let is_right = match (rule, &ended.result) {
            (Rule::Done, Ok(answer)) => access.given(answer) == want && ended.trace == ran,
            (Rule::NotListed, Err(problem)) => {
                problem.code == Code::NotListed && ended.trace.is_empty()
            }
            (Rule::NotOffered, Err(problem)) => {
                let unknown = &unknown[access as usize];
                words(problem, &name) == *unknown && ended.trace.is_empty()
            }
            (Rule::Done, Err(_)) | (Rule::NotListed | Rule::NotOffered, Ok(_)) => false,
        };
        if !is_right {
            mistakes.push(format!("{access:?} {name}: {ended:?}, but {rule:?} {want} {ran:?}"));
        }
        let may_change = rule == Rule::Done && !matches!(access, Access::Get | Access::Ask);
        if !may_change {
            let changed = differences(&before, &home.rows());
            mistakes.extend(changed.into_iter().map(|line| format!("{access:?} {name}: {line}")));
        }
        if rule == Rule::Done && access == Access::Set && home.value("chest", &name) != want {
            mistakes.push(format!("{access:?} {name}: {want} is not stored"));
        }
    }
    mistakes
}

/// Who has whom on its list, and what the caller shows of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listing {
    /// Neither side, and nothing is shown.
    Neither,
    /// Only ours: our row stands, and nothing is shown.
    OnlyOurs,
    /// Only ours: what is shown we did not issue for this list.
    OnlyOursAndOthersIds,
    /// Only theirs: it shows what we issued, and has not said yes.
    OnlyTheirs,
    /// Only theirs: it shows what we issued, and has said no.
    OnlyTheirsRefused,
    /// Only theirs: it shows something of which no row says anything.
    OnlyTheirsUnheardOf,
    /// Both, of another list.
    BothOfAnotherList,
    /// Both, and it shows what we issued.
    Both,
}

impl Listing {
    const ALL: [Self; 8] = [
        Self::Neither,
        Self::OnlyOurs,
        Self::OnlyOursAndOthersIds,
        Self::OnlyTheirs,
        Self::OnlyTheirsRefused,
        Self::OnlyTheirsUnheardOf,
        Self::BothOfAnotherList,
        Self::Both,
    ];

    fn is_mutual(self) -> bool {
        self == Self::Both
    }

    /// Makes it so, as both operators would. What the caller then shows.
    fn shown(self, home: &mut Home<'_>, partner: &Partner) -> Vec<Presented> {
        let id = |list: &str, hash| Presented { list: list.to_owned(), hash };
        match self {
            Self::Neither => Vec::new(),
            Self::OnlyOurs => {
                agree(home, partner, LIST);
                Vec::new()
            }
            Self::OnlyOursAndOthersIds => {
                let hash = agree(home, partner, LIST);
                vec![id(LIST, [9; 32]), id(OTHER_LIST, hash)]
            }
            Self::OnlyTheirs => vec![id(LIST, ask(home, partner, LIST))],
            Self::OnlyTheirsRefused => {
                let hash = ask(home, partner, LIST);
                let said = ("protection.refuse", json!({"list": LIST}));
                remote(home, &partner.showing_nothing(), said).answer();
                vec![id(LIST, hash)]
            }
            Self::OnlyTheirsUnheardOf => vec![id(LIST, [9; 32])],
            Self::BothOfAnotherList => vec![id(OTHER_LIST, agree(home, partner, OTHER_LIST))],
            Self::Both => vec![id(LIST, agree(home, partner, LIST))],
        }
    }
}

/// Another server, which is called `cellar` here.
struct Partner {
    keys: KeyPair,
    record: SignedRecord,
    server: ServerId,
}

impl Partner {
    fn showing_nothing(&self) -> Caller {
        Caller::Remote { server: self.server, claim: None, presented: Vec::new(), user: None }
    }
}

fn partner() -> Partner {
    let keys = KeyPair::from_seed(&[2; 32]);
    let inception = Inception {
        kind: RecordKind::Server,
        key: keys.public(),
        recovery_hash: [2; 32],
        nonce: [2; 16],
    };
    let record = Record::first(inception, Name::new("cellar").unwrap(), None);
    Partner { server: record.server_id().unwrap(), record: record.sign(&keys), keys }
}

/// A node with a chest of alice's that has met the partner.
fn furnished<'m>(machine: &'m Machine, partner: &Partner) -> Home<'m> {
    let mut home = Home::new(machine);
    home.publish(&chest());
    home.create("chest", "chest");
    let args = json!({
        "server": partner.server.to_string(),
        "record": hex(&partner.record.0),
        "name": "cellar",
        "incarnation": Incarnation::from_bytes([2; 16]).to_string(),
    });
    home.say_as_node("server.met", args).answer();
    home
}

/// Values with each level to read and to write them, and actions with each level on each event.
fn chest() -> String {
    let mut text = format!("name = \"chest\"\nprotected = \"{LIST}\"\n");
    for (read, write) in values() {
        let (name, read, write) = (value_name(read, write), word(read), word(write));
        text.push_str(&format!(
            "\n[attributes.{name}]\nkind = \"integer\"\ndefault = 0\n\
             read = \"{read}\"\nwrite = \"{write}\"\n"
        ));
    }
    for bits in HEARD {
        for level in levels_in(bits) {
            let (name, event, level) = (action_name(bits, level), event_name(bits), word(level));
            text.push_str(&format!(
                "\n[actions.{name}]\non = \"event:{event}\"\nlevel = \"{level}\"\n\
                 reply = {{ level = \"{level}\" }}\n"
            ));
        }
    }
    text
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Private => "private",
        Level::Protected => "protected",
        Level::Public => "public",
    }
}

/// Each level to read with each level to write.
fn values() -> impl Iterator<Item = (Level, Level)> {
    LEVELS.into_iter().flat_map(|read| LEVELS.map(|write| (read, write)))
}

fn value_name(read: Level, write: Level) -> String {
    format!("read_{}_write_{}", word(read), word(write))
}

/// The levels whose bits are set, the nearest first: so their actions run, by name.
fn levels_in(bits: usize) -> Vec<Level> {
    let is_in = |at: &usize| bits & (1 << at) != 0;
    (0..LEVELS.len()).filter(is_in).map(|at| LEVELS[at]).collect()
}

fn event_name(bits: usize) -> String {
    format!("heard_{bits}")
}

fn action_name(bits: usize, level: Level) -> String {
    format!("act_{bits}_{}", word(level))
}

/// What this node is.
fn us(home: &Home<'_>) -> Arc<Node> {
    match home.rows().remove(&Key::Node) {
        Some(Row::Node(node)) => node,
        row => panic!("the node is not stored: {row:?}"),
    }
}

/// Our operator asks the partner. The hash of the id that we issue for it.
fn ask(home: &mut Home<'_>, partner: &Partner, list: &str) -> [u8; 32] {
    home.say_as_node("protection.add", json!({"list": list, "server": "cellar"})).answer();
    match home.rows().remove(&Key::Protection(partner.server, list.to_owned())) {
        Some(Row::Protection(row)) => row.issued,
        row => panic!("the protection is not stored: {row:?}"),
    }
}

/// Our operator asks the partner, whose operator says yes. The hash of the id that we issue for it.
fn agree(home: &mut Home<'_>, partner: &Partner, list: &str) -> [u8; 32] {
    let hash = ask(home, partner, list);
    let node = us(home);
    let claim = ProtectionClaim {
        issuer: partner.server,
        subject: node.server,
        holder: decode_record(&node.record).unwrap().key,
        list: Name::new(list).unwrap(),
        nonce: [1; 16],
        issued_at: Timestamp::from_ms(1_700_000_000_000),
    };
    let id = hex(&issue_protection(&partner.keys, &claim));
    let said = ("protection.accept", json!({"list": list, "id": id}));
    let accepted = remote(home, &partner.showing_nothing(), said).answer();
    assert_eq!(accepted, json!({"state": "active"}));
    hash
}

/// Our operator drops the partner from every list on which it is.
fn drop_from_lists(home: &mut Home<'_>) {
    for list in [LIST, OTHER_LIST] {
        let args = json!({"list": list, "server": "cellar"});
        match home.say_as_node("protection.rm", args).result {
            Ok(row) => assert_eq!(row["state"], "dropped"),
            Err(problem) => assert_eq!(problem.code, Code::NotFound, "{problem:?}"),
        }
    }
}

/// Another server calls.
fn remote(home: &mut Home<'_>, caller: &Caller, (command, args): (&str, Json)) -> Ended {
    let call = home.call(command, args);
    home.run(vec![Call { caller: caller.clone(), ..call }]).remove(0)
}

/// Everything that a problem says, but for the name.
fn words(problem: &Problem, name: &str) -> String {
    problem.to_json().to_string().replace(name, "NAME")
}
