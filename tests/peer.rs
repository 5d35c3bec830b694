//! Real nodes and a peer that keeps to no rule but the protocols': what it is sent, what it gets
//! away with, and what it cannot do to others.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect ends there")]

mod probe;
mod support;

use std::path::Path;
use std::time::Duration;

use freehold::model::{
    AccountId, Code, Event, Head, Incarnation, Json, Name, Problem, SignedRecord, Timestamp,
};
use freehold::trust::{
    Inception, KeyPair, ProtectionClaim, Record, RecordKind, decode_record, issue_protection,
};
use freehold::wire::{
    Advance, BATCH_BYTES_MAX, Batch, FRAME_HEAD, Gossip, MessageKind, Notice, Request, Response,
    TellAnswer, decode_gossip, encode_gossip, encode_request, frame_head,
};
use libp2p::PeerId;
use probe::{Frame, Probe, key_of, keypair, peer_of, published, server_of, tcp_address, wait_for};
use serde_json::{Map, json};
use support::{Node, furnish, path};

/// The lamp, as attic names it, and as others do.
const LAMP: &str = "alice/garden/lamp";
const LAMP_THERE: &str = "alice@attic/garden/lamp";

/// Stands in everything private, and nowhere else.
const MARKER: &str = "zq7kvmarkerw4";
/// Stands in a public value: what is sent is really heard.
const LABEL: &str = "xj5plainlabelh8";

const VAULT: &str = "alice/garden/vault";

/// Peers that send half of their messages, each so many at once.
const FLOODERS: usize = 20;
const STREAMS_HALF_SENT: usize = 100;
/// Calls of an approved peer that are served meanwhile, at least.
const CALLS_SERVED: usize = 100;
/// By how much a node may grow through all that.
const GROWN_MAX_KIB: u64 = 32 * 1024;

/// A type with something for everybody, something for a list, and private things all around.
const VAULT_TYPE: &str = r#"
name = "vault"
protected = "family"

[attributes.shown]
kind = "integer"
default = 0
read = "public"
cache = "5s"

[attributes.label]
kind = "string"
default = "xj5plainlabelh8"
read = "public"

[attributes.hidden]
kind = "string"
default = "zq7kvmarkerw4"

[attributes.guarded]
kind = "string"
default = "zq7kvmarkerw4"
read = "protected"
write = "protected"

[actions.bump]
on = "event:bump"
level = "public"
script = '''
return { shown = set("shown", get("shown") + 1) }
'''

[actions.peek]
on = "event:peek"
level = "public"
script = '''
return { shown = get("shown") }
'''

[actions.zq7kvmarkerw4]
on = "event:bump"
script = '''
log("zq7kvmarkerw4")
set("hidden", "zq7kvmarkerw4 " .. get("shown"))
'''

[actions.zq7kvmarkerw4-own]
on = "event:zq7kvmarkerw4-event"
script = '''
return { note = "zq7kvmarkerw4" }
'''

[actions.listed]
on = "event:listed"
level = "protected"
script = '''
return { note = "zq7kvmarkerw4" }
'''
"#;

/// A type whose private actions answer, fail and refuse where public ones are called.
const TELLTALE_TYPE: &str = r#"
name = "vault"

[attributes.dial]
kind = "integer"
default = 0
read = "public"
write = "public"

[attributes.knob]
kind = "integer"
default = 0
read = "public"
write = "public"

[actions.answer]
on = "event:answer"
level = "public"
reply = { ok = true }

[actions.zq7kvmarkerw4-answer]
on = "event:answer"
reply = { note = "zq7kvmarkerw4" }

[actions.refuse]
on = "event:refuse"
level = "public"
accept = true

[actions.zq7kvmarkerw4-refuse]
on = "event:refuse"
script = '''
return false
'''

[actions.fail]
on = "event:fail"
level = "public"
accept = true

[actions.zq7kvmarkerw4-fail]
on = "event:fail"
script = '''
local nothing = nil
return { value = nothing + 1 }
'''

[actions.spin]
on = "event:spin"
level = "public"
accept = true

[actions.zq7kvmarkerw4-spin]
on = "event:spin"
script = '''
while true do end
'''

[actions.zq7kvmarkerw4-before]
on = "before:value_change"
attribute = "dial"
script = '''
return false
'''

[actions.zq7kvmarkerw4-after]
on = "after:value_change"
attribute = "knob"
script = '''
return false
'''
"#;

#[test]
fn a_planted_marker_in_private_values_and_actions_is_in_nothing_a_peer_is_sent() {
    let attic = quiet("attic", &[]);
    let alice = furnish_vault(&attic, VAULT_TYPE);
    let world = world_of(&attic);
    let probe = Probe::listening("probe");
    let peer = probe.meet(&attic);
    let ask = |command: &str, args: Json| probe.ask(peer, command, args);
    let tell = |command: &str, args: Json| probe.tell(peer, command, args);

    // What is public is given.
    assert_eq!(ask("account.show", json!({"account": "alice"})).unwrap()["id"], alice);
    let get =
        |attribute: &str| ask("element.get", json!({"element": VAULT, "attribute": attribute}));
    assert_eq!(get("shown").unwrap()["value"], 0);
    assert_eq!(get("label").unwrap()["value"], LABEL);
    let action = |name: &str| json!({"element": VAULT, "action": name});
    assert_eq!(ask("action.ask", action("peek")), Ok(json!({"shown": 0})));
    assert_eq!(tell("action.call", action("bump")).unwrap()["result"], json!({"shown": 1}));
    tell("event.send", json!({"element": VAULT, "event": "bump"})).unwrap();

    // What is private, or for a list, is not offered; what is not for servers is not known.
    let set = |attribute: &str| {
        tell("element.set", json!({"element": VAULT, "attribute": attribute, "value": "mine"}))
    };
    let refused = [
        get("hidden"),
        get("guarded"),
        get("nothing"),
        set("hidden"),
        set("guarded"),
        set("shown"),
        ask("action.ask", action("listed")),
        tell("action.call", action("listed")),
        tell("event.send", json!({"element": VAULT, "event": "listed"})),
        ask("account.show", json!({"account": "bob"})),
    ];
    for (number, result) in refused.iter().enumerate() {
        assert_eq!(code_of(result), Some(Code::NotOffered), "{number}: {result:?}");
    }
    for (command, args) in not_for_servers() {
        assert_eq!(code_of(&ask(command, args.clone())), Some(Code::UnknownCommand), "{command}");
        assert_eq!(code_of(&tell(command, args)), Some(Code::UnknownCommand), "{command}");
    }

    // It follows the world by its feed and by gossip, and things happen there.
    let page = ask("feed.pull", json!({"world": world})).unwrap();
    assert_eq!(page["world"], world);
    probe.subscribe(&topic(&world));
    let heard_both = (41..101).any(|value: i64| {
        let text = value.to_string();
        attic.done(&["element", "set", VAULT, "shown", &text]);
        attic.done(&["element", "set", VAULT, "hidden", &format!("{MARKER} {value}")]);
        attic.done(&["element", "set", VAULT, "guarded", &format!("{MARKER} {value}")]);
        attic.done(&["action", "call", VAULT, "zq7kvmarkerw4-own"]);
        std::thread::sleep(Duration::from_millis(200));
        let of_value = |event: &Event| event.value == json!(value);
        let gossiped =
            probe.gossip().iter().filter_map(|said| decode_gossip(&said.data).ok()).any(|said| {
                said.server == server_of(&attic) && said.notice.events.iter().any(of_value)
            });
        gossiped && probe.notices().iter().flat_map(|notice| &notice.events).any(of_value)
    });
    assert!(heard_both, "the world was not followed: {:?}", probe.notices());
    let since = json!({"world": world, "since": page["head"]["seq"], "log": page["head"]["log"]});
    let events = ask("feed.pull", since).unwrap();
    let attributes: Vec<&Json> =
        events["events"].as_array().unwrap().iter().map(|event| &event["attribute"]).collect();
    assert!(!attributes.is_empty());
    assert!(attributes.iter().all(|attribute| **attribute == "shown"), "{attributes:?}");
    let alice: AccountId = alice.parse().unwrap();
    wait_for("attic's record", || probe.find_at(peer, server_of(&attic).as_bytes()));
    wait_for("a provider", || probe.providers(alice.as_bytes()).contains(&peer).then_some(()));

    // Up to here the peer has never said the marker itself.
    let heard = probe.heard();
    assert!(!traces(&heard, LABEL).is_empty(), "the probe does not hear what it is sent");
    assert_eq!(traces(&heard, MARKER), [""; 0]);

    // Who guesses a private name is told what is told about a name that does not exist.
    let guesses = [
        ("element.get", "attribute", "hidden"),
        ("element.get", "attribute", "guarded"),
        ("element.set", "attribute", "hidden"),
        ("action.ask", "action", MARKER),
        ("action.call", "action", MARKER),
        ("action.call", "action", "listed"),
        ("event.send", "event", "zq7kvmarkerw4-event"),
    ];
    for (command, key, private) in guesses {
        let answer = |name: &str| {
            let mut args = json!({"element": VAULT, key: name});
            if command == "element.set" {
                args["value"] = json!("mine");
            }
            let problem = tell(command, args).unwrap_err();
            problem.to_json().to_string().replace(name, "NAME")
        };
        assert_eq!(answer(private), answer("doesnotexist"), "{command} {private}");
    }
}

#[test]
fn what_a_private_action_answers_or_fails_with_is_not_told_to_a_peer() {
    let attic = quiet("attic", &[]);
    furnish_vault(&attic, TELLTALE_TYPE);
    let probe = Probe::new("probe");
    let peer = probe.meet(&attic);

    let set = |attribute: &str| {
        let args = json!({"element": VAULT, "attribute": attribute, "value": 1});
        probe.tell(peer, "element.set", args)
    };
    let mut answers =
        vec![("set dial".to_owned(), set("dial")), ("set knob".to_owned(), set("knob"))];
    for name in ["answer", "refuse", "fail", "spin"] {
        let action = json!({"element": VAULT, "action": name});
        let event = json!({"element": VAULT, "event": name});
        answers.push((format!("ask {name}"), probe.ask(peer, "action.ask", action.clone())));
        answers.push((format!("call {name}"), probe.tell(peer, "action.call", action)));
        answers.push((format!("send {name}"), probe.tell(peer, "event.send", event)));
    }

    let told: Vec<String> = answers
        .iter()
        .filter(|(_, answer)| format!("{answer:?}").contains(MARKER))
        .map(|(what, answer)| format!("{what}: {answer:?}"))
        .collect();
    assert!(told.is_empty(), "private names and answers are told:\n{}", told.join("\n"));
    assert_eq!(traces(&probe.heard(), MARKER), [""; 0]);
}

#[test]
fn each_fault_is_answered_and_raises_its_own_counter_and_the_node_serves_on() {
    let attic = quiet("attic", &[]);
    furnish(&attic);
    let probe = Probe::new("probe");
    let peer = probe.meet(&attic);
    let asking = || probe.asking("element.get", json!({"element": LAMP, "attribute": "count"}));
    let good = encode_request(&Request::Batch(Box::new(asking())));
    let body = good[FRAME_HEAD..].to_vec();
    let deep = (0..30).fold(json!(1), |inner, _| json!([inner]));
    let deep = probe.asking("element.get", json!({"element": deep, "attribute": "count"}));
    let deep = encode_request(&Request::Batch(Box::new(deep)));
    let large = probe.asking("element.get", json!({"element": "x".repeat(70_000)}));
    let large = encode_request(&Request::Batch(Box::new(large)));
    let table = [
        ("too_large", frame_head(MessageKind::Batch, BATCH_BYTES_MAX + 1).to_vec()),
        ("too_large", large),
        ("too_deep", framed(MessageKind::Batch, &[0x81; 200])),
        ("too_deep", deep),
        ("half_sent", good[..good.len() / 2].to_vec()),
        ("half_sent", good[..FRAME_HEAD - 1].to_vec()),
        ("trailing", [good.as_slice(), &[0]].concat()),
        ("trailing", framed(MessageKind::Batch, &[body.as_slice(), &[0]].concat())),
        ("malformed", framed(MessageKind::Batch, &[0xff; 3])),
        ("malformed", framed(MessageKind::Batch, &body[..body.len() - 1])),
        ("malformed", framed(MessageKind::Hello, &body)),
    ];
    let mut want = Map::new();

    for (kind, bytes) in table {
        match probe.raw(peer, &bytes) {
            Response::Refused(problem) => {
                assert_eq!(problem.code, Code::BadBody, "{kind}: {problem:?}");
                assert!(problem.says.contains(kind), "{kind}: {problem:?}");
            }
            other => panic!("{kind}: {other:?}"),
        }
        count_up(&mut want, kind);
        expect_faults(&attic, &want);
    }

    // A message that is never finished is waited for, but not for long.
    let half = Frame { bytes: good[..good.len() / 2].to_vec(), linger: Duration::from_secs(6) };
    probe.send(peer, half).ok();
    count_up(&mut want, "half_sent");
    expect_faults(&attic, &want);

    // What a later version may say is refused by name, or skipped, and is no fault.
    for (kind, bytes) in [
        (77, framed(MessageKind::Other(77), &[])),
        (78, framed(MessageKind::Other(78), &[1, 2, 3])),
        (3, framed(MessageKind::Refused, &[])),
    ] {
        match probe.raw(peer, &bytes) {
            Response::Refused(problem) => {
                assert_eq!(problem.code, Code::UnknownCommand, "{problem:?}");
                assert!(problem.says.contains(&kind.to_string()), "{problem:?}");
            }
            other => panic!("kind {kind}: {other:?}"),
        }
    }
    let problem = probe.ask(peer, "lamp.polish", json!({})).unwrap_err();
    assert_eq!(problem.code, Code::UnknownCommand);
    assert!(problem.says.contains("lamp.polish"), "{problem:?}");
    let polished = json!({"element": LAMP, "attribute": "count", "polish": 1});
    let problem = probe.ask(peer, "element.get", polished).unwrap_err();
    assert_eq!(problem.code, Code::UnknownField);
    assert!(problem.says.contains("polish"), "{problem:?}");
    for field in [[0x18, 0x63, 0x61, b'x'].as_slice(), &[0x63, b'z', b'z', b'z', 0x01]] {
        let bytes = framed(MessageKind::Batch, &with_field(&body, field));
        match probe.raw(peer, &bytes) {
            Response::Batch(answer) => assert_eq!(answer.asks.len(), 1, "{answer:?}"),
            other => panic!("{other:?}"),
        }
        let hello = encode_request(&Request::Hello(Box::new(probe.own_hello())));
        let bytes = framed(MessageKind::Hello, &with_field(&hello[FRAME_HEAD..], field));
        assert!(matches!(probe.raw(peer, &bytes), Response::Hello(_)));
    }
    expect_faults(&attic, &want);

    let kitchen = quiet("kitchen", &[&attic]);
    kitchen.until(&["element", "get", LAMP_THERE, "count"], |read| read["value"] == 0);
}

#[test]
fn what_comes_twice_late_or_out_of_order_is_run_once() {
    let mut attic = quiet("attic", &[]);
    furnish(&attic);
    let probe = Probe::new("probe");
    let peer = probe.meet(&attic);
    let steps = |numbers: &[u64]| told_in(&probe, peer, probe.lane(), "step", numbers);
    let count = |attic: &Node| attic.done(&["element", "get", LAMP, "count"])["value"].clone();

    assert_eq!(steps(&[1, 1]), [(1, Ok(1)), (1, Ok(1))], "twice in one batch");
    assert_eq!(steps(&[3, 2]), [(3, Ok(2)), (2, Ok(3))], "in another order");
    assert_eq!(steps(&[2, 1, 3]), [(2, Ok(3)), (1, Ok(1)), (3, Ok(2))], "again");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(steps(&[4]), [(4, Ok(4))], "side by side"));
        }
    });
    assert_eq!(count(&attic), 4);

    let conflict = Err(Code::Conflict);
    let stored = Advance { done_below: 4, ..probe.lane() };
    let below = told_in(&probe, peer, stored, "step", &[2, 3, 4]);
    assert_eq!(below, [(2, conflict), (3, conflict), (4, Ok(4))], "below what is stored");
    assert_eq!(steps(&[1, 4]), [(1, conflict), (4, Ok(4))], "what was stored stays stored");

    let mut elsewhere = probe.lane();
    elsewhere.incarnation = Incarnation::from_bytes([0xee; 16]);
    let unknown = told_in(&probe, peer, elsewhere, "step", &[1, 9]);
    assert_eq!(unknown, [(1, conflict), (9, conflict)], "of a life that nobody spoke of");
    assert_eq!(count(&attic), 4);

    attic.kill();
    attic.restart();
    probe.wait_gone(peer);
    probe.meet(&attic);
    assert_eq!(steps(&[4, 5, 4]), [(4, Ok(4)), (5, Ok(5)), (4, Ok(4))], "after a power cut");
    assert_eq!(steps(&[3]), [(3, conflict)], "what was stored stays stored after a power cut");
    assert_eq!(count(&attic), 5);

    // One number with two contents: that is two nodes with one key, and a person is asked.
    let other = told_in(&probe, peer, probe.lane(), "toggle", &[4, 5]);
    assert_eq!(other, [(4, conflict), (5, conflict)], "with other content");
    assert_eq!(attic.done(&["element", "get", LAMP, "on"])["value"], false);
    let inbox = attic.done(&["inbox"]);
    let entry = &inbox["items"][0];
    assert_eq!((&entry["kind"], &entry["from"]["name"]), (&json!("server"), &json!("probe")));
    assert_eq!(steps(&[6]), [(6, Err(Code::Busy))], "until it is answered");
    attic.done(&["approve", entry["id"].as_str().unwrap()]);
    assert_eq!(steps(&[6, 7]), [(6, Ok(6)), (7, Ok(7))], "and after that");
}

#[test]
fn a_number_of_a_life_that_has_ended_is_refused() {
    let attic = quiet("attic", &[]);
    furnish(&attic);
    let probe = Probe::new("probe");
    let peer = probe.meet(&attic);
    let old = probe.lane();
    assert_eq!(told_in(&probe, peer, old, "step", &[1]), [(1, Ok(1))]);

    probe.begin_life(2);
    probe.hello(peer);
    // The hello is stored by a turn of its own.
    std::thread::sleep(Duration::from_millis(500));
    let conflict = Err(Code::Conflict);
    assert_eq!(told_in(&probe, peer, old, "step", &[2]), [(2, conflict)], "before the new life");
    assert_eq!(told_in(&probe, peer, probe.lane(), "step", &[1]), [(1, Ok(2))]);
    let late = told_in(&probe, peer, old, "step", &[1, 3]);
    assert_eq!(late, [(1, conflict), (3, conflict)], "beside the new life");
    assert_eq!(attic.done(&["element", "get", LAMP, "count"])["value"], 2);
}

#[test]
fn a_protection_id_gives_its_right_to_its_holder_for_its_list_while_it_stands() {
    let attic = quiet("attic", &[]);
    furnish(&attic);
    let (probe, thief) = (Probe::new("probe"), Probe::new("thief"));
    let peer = probe.meet(&attic);
    thief.meet(&attic);
    let own = protect(&attic, &probe, "family");
    let friends = protect(&attic, &probe, "friends");
    let thiefs = protect(&attic, &thief, "family");
    let claim = ProtectionClaim {
        issuer: server_of(&attic),
        subject: probe.server,
        holder: probe.keys.public(),
        list: Name::new("family").unwrap(),
        nonce: [5; 16],
        issued_at: Timestamp::from_ms(1_000),
    };
    let keys = KeyPair::from_seed(&seed_of(&attic));
    let issued = |keys: &KeyPair, change: &dyn Fn(&mut ProtectionClaim)| {
        let mut changed = claim.clone();
        change(&mut changed);
        issue_protection(keys, &changed)
    };
    let altered = |at: usize| {
        let mut id = own.clone();
        id[at] ^= 1;
        id
    };
    let wrong = [
        ("none", Vec::new()),
        ("of another list", friends),
        ("of another holder", thiefs.clone()),
        ("of another issuer", issued(&thief.keys, &|claim| claim.issuer = thief.server)),
        ("made by its holder", issued(&probe.keys, &|_| {})),
        (
            "made by its holder for itself",
            issued(&probe.keys, &|claim| claim.issuer = probe.server),
        ),
        ("for another key", issued(&keys, &|claim| claim.holder = thief.keys.public())),
        ("for another server", issued(&keys, &|claim| claim.subject = thief.server)),
        ("in another's name", issued(&keys, &|claim| claim.issuer = thief.server)),
        ("not the one that was given", issued(&keys, &|_| {})),
        ("altered at its end", altered(own.len() - 1)),
        ("altered in the middle", altered(own.len() / 2)),
        ("altered at its beginning", altered(0)),
        ("cut short", own[..own.len() - 1].to_vec()),
    ];

    for (what, id) in &wrong {
        assert_eq!(switch(&probe, peer, id, true), Err(Code::NotListed), "{what}");
    }
    assert_eq!(switch(&thief, peer, &own, true), Err(Code::NotListed), "stolen");
    assert_eq!(attic.done(&["element", "get", LAMP, "on"])["value"], false);
    assert_eq!(switch(&thief, peer, &thiefs, true), Ok(()), "the thief's own");
    assert_eq!(switch(&probe, peer, &own, false), Ok(()), "the right one");

    // Dropped: at once, on the same connection and on every later one, also beside a new one.
    attic.done(&["protection", "rm", "family", "probe"]);
    assert_eq!(switch(&probe, peer, &own, true), Err(Code::NotListed), "dropped");
    probe.leave(peer);
    probe.meet(&attic);
    assert_eq!(switch(&probe, peer, &own, true), Err(Code::NotListed), "dropped, shown anew");
    let renewed = protect(&attic, &probe, "family");
    assert_eq!(switch(&probe, peer, &own, true), Err(Code::NotListed), "the one before");
    assert_eq!(attic.done(&["element", "get", LAMP, "on"])["value"], false);
    assert_eq!(switch(&probe, peer, &renewed, true), Ok(()), "the new one");
    assert_eq!(switch(&thief, peer, &thiefs, false), Ok(()), "the other's stands");
}

#[test]
fn a_peer_over_its_limit_is_refused_and_others_are_not() {
    let attic = quiet("attic", &[]);
    furnish(&attic);
    let (probe, other) = (Probe::new("probe"), Probe::new("other"));
    let peer = probe.meet(&attic);
    other.meet(&attic);
    attic.done(&["server", "limit", "probe", "--calls", "5", "--seconds", "60"]);
    let get = json!({"element": LAMP, "attribute": "count"});

    let codes: Vec<Option<Code>> =
        (0..8).map(|_| code_of(&probe.ask(peer, "element.get", get.clone()))).collect();
    let step = probe.tell(peer, "action.call", json!({"element": LAMP, "action": "step"}));

    assert_eq!(codes[..5], [None; 5]);
    assert_eq!(codes[5..], [Some(Code::OverLimit); 3]);
    let problem = step.unwrap_err();
    assert_eq!(problem.code, Code::OverLimit);
    let wait_ms = problem.more["retry_after_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&wait_ms), "{problem:?}");
    assert_eq!(attic.done(&["element", "get", LAMP, "count"])["value"], 0);
    let shown = attic.done(&["server", "show", "probe"]);
    assert_eq!((&shown["calls_made"], &shown["over_limit"]), (&json!(5), &json!(4)));
    assert_eq!(shown["limit"], json!({"calls_per_unit": 5, "seconds_in_unit": 60}));
    assert_eq!(shown["faults"], json!({}));
    assert_eq!(code_of(&other.ask(peer, "element.get", get)), None);
}

#[test]
fn a_join_that_comes_to_nothing_says_why() {
    let attic = quiet("attic", &[]);
    let kitchen = quiet("kitchen", &[]);
    let nobody = Probe::new("nobody").peer();
    let own_bootstrap = kitchen.home.join("bootstrap.toml");

    for address in attic.listen() {
        let place = address.split("/p2p/").next().unwrap();
        let problem = kitchen.refused(&["join", &format!("{place}/p2p/{nobody}")], 3, "wrong_peer");
        let attics = peer_of(&attic).to_string();
        assert!(problem["detail"].as_str().unwrap().contains(&attics), "{problem}");
    }

    let (first, second) = (dead_address(), dead_address());
    let problem =
        kitchen.refused(&["join", &format!("{first}/p2p/{nobody}")], 3, "peer_unreachable");
    expect_reasons(&problem, &[&first]);
    let text = std::fs::read_to_string(own_bootstrap).unwrap_or_default();
    assert!(!text.contains(&nobody.to_string()), "it is kept: {text}");

    // A first peer that was never met: each of its addresses with its reason.
    let lines = format!("peers = [\"{first}/p2p/{nobody}\", \"{second}/p2p/{nobody}\"]\n");
    let cellar = quiet_with("cellar", &lines);
    let show = ["account", "show", "alice@attic", "--timeout", "2s"];
    let problem = cellar.refused(&show, 3, "peer_unreachable");
    expect_reasons(&problem, &[&first, &second]);

    let garage = quiet_with("garage", "peers = []\n\n[network]\nname = \"elsewhere\"\n");
    for address in attic.listen() {
        garage.refused(&["join", &address], 3, "wrong_network");
    }
}

#[test]
fn a_peer_that_was_met_and_is_down_is_unreachable_with_a_reason_for_each_address() {
    let mut attic = quiet("attic", &[]);
    let kitchen = quiet("kitchen", &[&attic]);
    furnish(&attic);
    kitchen.until(&["element", "get", LAMP_THERE, "count"], |read| read["value"] == 0);
    let address = tcp_address(&attic);

    attic.kill();
    let get = ["element", "get", LAMP_THERE, "count", "--timeout", "3s"];
    let problem = kitchen.refused(&get, 3, "peer_unreachable");

    expect_reasons(&problem, &[&address]);
}

#[test]
fn a_copy_of_a_home_that_is_started_beside_it_is_noticed_and_refused() {
    let mut attic = quiet("attic", &[]);
    furnish(&attic);
    assert_eq!(attic.stop(), 0);
    let mut copy = Node::home("attic");
    copy_files(&attic.home, &copy.home);
    attic.restart();
    copy.file("bootstrap.toml", &first_peers(&[&attic]));

    copy.restart();
    assert_eq!(copy.ready["peer_id"], attic.ready["peer_id"]);
    let joins = [copy.say(&["join", &attic.listen()[0]]), attic.say(&["join", &copy.listen()[0]])];

    assert!(joins.iter().all(|said| said.exit != 0), "{joins:?}");
    let noticed = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        [&attic, &copy].iter().any(|node| node.log().contains("another node has our key"))
    });
    assert!(noticed, "nobody noticed:\n{}\n{}", attic.log(), copy.log());
    for node in [&attic, &copy] {
        node.done(&["status"]);
        let servers = node.done(&["server", "ls"]);
        assert_eq!(servers["items"], json!([]), "it met itself");
    }
}

#[test]
fn two_nodes_that_count_with_one_servers_numbers_are_paused_and_a_person_is_told() {
    let kitchen = quiet("kitchen", &[]);
    furnish(&kitchen);
    let mut attic = quiet("attic", &[&kitchen]);
    attic.until(&["server", "show", "kitchen"], |_| true);
    assert_eq!(attic.stop(), 0);
    let mut copy = Node::home("attic");
    copy_files(&attic.home, &copy.home);
    copy.file("bootstrap.toml", &first_peers(&[&kitchen]));
    attic.restart();
    copy.restart();
    let step = &["action", "call", "alice@kitchen/garden/lamp", "step", "--timeout", "5s"];

    // Each of them counts on from the same number, without knowing of the other.
    let noticed = (0..20).any(|_| {
        std::thread::scope(|scope| {
            for node in [&attic, &copy] {
                scope.spawn(move || node.say(step));
            }
        });
        kitchen.done(&["inbox"])["items"] != json!([])
    });

    assert!(noticed, "nobody noticed:\n{}", kitchen.log());
    let inbox = kitchen.done(&["inbox"]);
    let entry = &inbox["items"][0];
    assert_eq!((&entry["kind"], &entry["from"]["name"]), (&json!("server"), &json!("attic")));
    assert_eq!(kitchen.done(&["server", "show", "attic"])["state"], "paused");
    let count = kitchen.done(&["element", "get", LAMP, "count"])["value"].clone();
    for node in [&attic, &copy] {
        let said = node.say(step);
        let code = said.err["code"].as_str().unwrap_or_default();
        // What is told to who has paused us waits.
        assert!(["outcome_unknown", "timed_out", "conflict"].contains(&code), "{said:?}");
    }
    assert_eq!(kitchen.done(&["element", "get", LAMP, "count"])["value"], count);
}

#[test]
fn gossip_that_is_altered_old_or_somebody_elses_is_neither_stored_nor_forwarded() {
    let attic = quiet("attic", &[]);
    let kitchen = quiet("kitchen", &[&attic]);
    furnish(&attic);
    let topic = topic(&world_of(&attic));
    kitchen.until(&["element", "get", LAMP_THERE, "on"], |read| read["value"] == false);
    let events = kitchen.events(&["--world", "alice@attic/garden"]);
    let (forger, watcher) = (Probe::new("forger"), Probe::new("watcher"));
    let (at_attic, at_kitchen) = (forger.meet(&attic), forger.meet(&kitchen));
    watcher.meet(&kitchen);
    watcher.subscribe(&topic);

    // What attic says reaches the watcher through the kitchen, which stores it.
    let step =
        || attic.done(&["action", "call", LAMP, "step"])["result"]["count"].as_i64().unwrap();
    let of_attic =
        |data: &[u8]| decode_gossip(data).ok().filter(|said| said.server == server_of(&attic));
    let genuine = (0..60).find_map(|_| {
        step();
        std::thread::sleep(Duration::from_millis(200));
        let heard = watcher.gossip().into_iter().map(|gossiped| gossiped.data);
        let mut heard = heard;
        heard.rfind(|data| of_attic(data).is_some_and(|said| !said.notice.events.is_empty()))
    });
    let genuine = genuine.expect("the kitchen forwards what attic publishes");
    let count = step();
    events.until(|events| counts(events).contains(&count));
    let said = of_attic(&genuine).unwrap();
    let page = forger.ask(at_attic, "feed.pull", json!({"world": said.notice.world})).unwrap();
    let head: Head = serde_json::from_value(page["head"].clone()).unwrap();
    let next = Head { seq: head.seq + 1, ..head };
    let claimed = |server, value: i64| {
        let event = Event { head: next, value: json!(value), ..said.notice.events[0].clone() };
        let notice = Notice { world: said.notice.world, head: next, events: vec![event] };
        encode_gossip(&Gossip { server, notice })
    };
    let attics = keypair(seed_of(&attic));
    let forwarded =
        |data: &[u8]| watcher.gossip().iter().filter(|gossiped| gossiped.data == data).count();

    // What is injected as a node would send it is taken: here the bare head of something new.
    let bare = |seq| {
        let notice =
            Notice { world: said.notice.world, head: Head { seq, ..head }, events: vec![] };
        encode_gossip(&Gossip { server: said.server, notice })
    };
    let (bare, after) = (bare(head.seq + 1), bare(head.seq + 2));
    forger.inject(at_kitchen, published(&attics, 1, &topic, &bare, &bare));
    wait_for("what was injected", || (forwarded(&bare) == 1).then_some(()));

    let stranger = claimed(said.server, 666);
    let foreign = claimed(forger.server, 667);
    let altered = claimed(said.server, 668);
    let garbage = vec![0xff; 40];
    let cases = [
        ("attic's, signed by somebody else", 2, &forger.pair, &stranger, &stranger),
        ("about attic's world, of somebody else", 3, &forger.pair, &foreign, &foreign),
        ("altered after it was signed", 4, &attics, &bare, &altered),
        ("old", 5, &attics, &genuine, &genuine),
        ("no message", 6, &forger.pair, &garbage, &garbage),
    ];
    let before: Vec<usize> = cases.iter().map(|(.., carried)| forwarded(carried)).collect();
    let direct = decode_gossip(&claimed(said.server, 669)).unwrap().notice;
    forger.batch(at_kitchen, Batch { notices: vec![direct], ..forger.empty() });
    // All on one stream: a node gives up on a peer that opens too many. The last one is in order.
    let mut stream: Vec<u8> = cases
        .iter()
        .flat_map(|(_, number, keys, signed, carried)| {
            published(keys, *number, &topic, signed, carried)
        })
        .collect();
    stream.extend(published(&attics, 9, &topic, &after, &after));
    forger.inject(at_kitchen, stream);
    wait_for("what was injected last", || (forwarded(&after) == 1).then_some(()));
    let last = step();

    // What attic says after all that arrives, and nothing of what was injected did.
    let seen = events.until(|events| counts(events).contains(&last));
    let stored = counts(&seen);
    assert!(stored.windows(2).all(|two| two[0] + 1 == two[1]), "{stored:?}");
    assert_eq!(kitchen.done(&["element", "get", LAMP_THERE, "count"])["value"], last);
    wait_for("the last message", || {
        let heard = watcher.gossip();
        let events = heard.iter().filter_map(|gossiped| of_attic(&gossiped.data));
        events.flat_map(|said| said.notice.events).any(|event| event.value == last).then_some(())
    });
    let went_on: Vec<&str> = cases
        .iter()
        .zip(before)
        .filter(|((.., carried), before)| forwarded(carried) != *before)
        .map(|((what, ..), _)| *what)
        .collect();
    assert!(went_on.is_empty(), "forwarded: {went_on:?}");
}

#[test]
fn a_record_of_a_server_that_is_altered_older_or_somebody_elses_is_not_stored() {
    let attic = quiet("attic", &[]);
    let cellar = quiet("cellar", &[]);
    furnish(&attic);
    let probe = Probe::new("probe");
    let (at_attic, at_cellar) = (probe.meet(&attic), probe.meet(&cellar));
    let id = server_of(&attic);
    let key = id.as_bytes();
    let own = wait_for("attic's record", || probe.find_at(at_attic, key));
    let keys = KeyPair::from_seed(&seed_of(&attic));
    let first = decode_record(&SignedRecord(own.clone())).unwrap();
    let next = Record { sequence: 1, ..first.clone() };
    let newer = next.sign(&keys).0;
    let mut altered = own.clone();
    *altered.last_mut().unwrap() ^= 1;
    let usurped = Record {
        key: probe.keys.public(),
        signer: probe.keys.public(),
        sequence: 2,
        ..first.clone()
    };
    let usurped = usurped.sign(&probe.keys).0;
    let renamed = Record { name: Name::new("palace").unwrap(), ..first };
    let wrong = [
        ("altered", altered),
        ("somebody else's", probe.record.0.clone()),
        ("signed by somebody else", usurped),
        ("signed by a key that it does not name", next.sign(&probe.keys).0),
        ("no record", b"attic".to_vec()),
    ];
    let refuses = |node: PeerId, held: Option<&Vec<u8>>| {
        for (what, value) in &wrong {
            probe.put(node, key, value);
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(probe.find_at(node, key).as_ref(), held, "{what}");
        }
    };

    refuses(at_cellar, None);
    refuses(at_attic, Some(&own));
    probe.put(at_cellar, key, &own);
    wait_for("the record", || probe.find_at(at_cellar, key).filter(|held| *held == own));
    refuses(at_cellar, Some(&own));

    // Of the same number there is one; a newer one takes its place, and the older one is over.
    probe.put(at_cellar, key, &renamed.sign(&keys).0);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(probe.find_at(at_cellar, key), Some(own.clone()), "another of the same number");
    probe.put(at_cellar, key, &newer);
    wait_for("the newer record", || probe.find_at(at_cellar, key).filter(|held| *held == newer));
    probe.put(at_cellar, key, &own);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(probe.find_at(at_cellar, key).as_ref(), Some(&newer), "older");
    refuses(at_cellar, Some(&newer));
    assert_eq!(probe.find_at(at_attic, key), Some(own));
}

#[test]
fn what_is_put_under_a_key_that_is_no_servers_own_is_not_stored() {
    let attic = quiet("attic", &[]);
    let probe = Probe::new("probe");
    let at_attic = probe.meet(&attic);
    let own = probe.server.as_bytes().to_vec();
    let inception = Inception {
        kind: RecordKind::Account,
        key: probe.keys.public(),
        recovery_hash: [7; 32],
        nonce: [9; 16],
    };
    let account = Record::first(inception, Name::new("eve").unwrap(), Some(probe.server));
    let id = account.account_id().unwrap().as_bytes().to_vec();
    let (record, account) = (probe.record.0.clone(), account.sign(&probe.keys).0);
    let wrong = [
        ("somebody else's id", vec![7; 16], record.clone()),
        ("more than its id", [own.as_slice(), &[0]].concat(), record.clone()),
        ("less than its id", own[..15].to_vec(), record.clone()),
        ("its key", probe.keys.public().to_vec(), record.clone()),
        ("its peer id", probe.peer().to_bytes(), record.clone()),
        ("its name", b"probe".to_vec(), record.clone()),
        ("an account's id", id.clone(), account),
        ("an account's id, and a server's record", id, record.clone()),
        ("no id, and no record", vec![8; 16], vec![b'x'; 1_500]),
        ("no id, and more than a record may be", vec![6; 32], vec![b'x'; 5_000]),
    ];

    for (_, key, value) in &wrong {
        probe.put(at_attic, key, value);
    }
    // What comes after it is in order: then all of it was looked at.
    probe.put(at_attic, &own, &record);
    wait_for("its own record", || probe.find_at(at_attic, &own).filter(|held| *held == record));

    for (what, key, _) in &wrong {
        assert_eq!(probe.find_at(at_attic, key), None, "{what}");
    }
}

#[test]
fn half_sent_messages_of_twenty_peers_fill_no_node_and_keep_no_approved_peer_waiting() {
    let attic = quiet("attic", &[]);
    furnish(&attic);
    let partner = Probe::new("partner");
    let at_attic = partner.meet(&attic);
    let id = protect(&attic, &partner, "family");
    attic.done(&["server", "limit", "partner", "--calls", "1000000", "--seconds", "60"]);
    let serve = |number: usize| {
        let served = switch(&partner, at_attic, &id, number.is_multiple_of(2));
        assert_eq!(served, Ok(()), "call {number}");
    };
    // What the first calls need is no growth.
    (0..CALLS_SERVED).for_each(serve);
    let strangers: Vec<Probe> =
        (0..FLOODERS).map(|number| Probe::new(&format!("flooder-{number}"))).collect();
    let body = vec![b'a'; BATCH_BYTES_MAX / 2];
    let head = frame_head(MessageKind::Batch, BATCH_BYTES_MAX);
    let half = [head.as_slice(), body.as_slice()].concat();
    // Longer than a node waits for the rest.
    let linger = Duration::from_secs(6);
    peak_kib(&attic);
    let before_kib = peak_kib(&attic);

    std::thread::scope(|scope| {
        for stranger in &strangers {
            let attic = &attic;
            scope.spawn(move || stranger.hello(stranger.dial(attic).unwrap()));
        }
    });
    let served = std::thread::scope(|scope| {
        let streams: Vec<_> = strangers
            .iter()
            .flat_map(|stranger| (0..STREAMS_HALF_SENT).map(move |_| stranger))
            .map(|stranger| {
                let frame = Frame { bytes: half.clone(), linger };
                // As many threads as these must be small.
                let thread = std::thread::Builder::new().stack_size(256 * 1024);
                // Many of them are turned away at once: that is an outcome too.
                thread.spawn_scoped(scope, move || stranger.send(at_attic, frame).ok()).unwrap()
            })
            .collect();
        let mut served = 0;
        while served < CALLS_SERVED || streams.iter().any(|stream| !stream.is_finished()) {
            serve(served);
            served += 1;
        }
        served
    });

    let grown_kib = peak_kib(&attic).saturating_sub(before_kib);
    for stranger in &strangers {
        let faults = attic.done(&["server", "show", &stranger.name])["faults"].clone();
        assert!(faults["half_sent"].as_u64() > Some(0), "{}: {faults}", stranger.name);
    }
    assert!(grown_kib <= GROWN_MAX_KIB, "grown by {grown_kib} KiB while {served} were served");
}

#[test]
fn a_server_that_is_dropped_is_told_nothing_more_that_is_for_the_list() {
    let attic = quiet("attic", &[]);
    furnish_vault(&attic, VAULT_TYPE);
    let world = world_of(&attic);
    let probe = Probe::listening("probe");
    let at_attic = probe.meet(&attic);
    let id = protect(&attic, &probe, "family");
    let mut pull = probe.asking("feed.pull", json!({"world": world}));
    pull.presents.push(serde_bytes::ByteBuf::from(id));
    probe.batch(at_attic, pull);
    probe.subscribe(&topic(&world));
    let set = |attribute: &str, value: &str| {
        attic.done(&["element", "set", VAULT, attribute, value]);
    };
    let told = |value: Json| {
        let notices = probe.notices();
        notices.iter().flat_map(|notice| &notice.events).any(|event| event.value == value)
    };
    let gossiped = |value: Json| {
        let said = probe.gossip().into_iter().filter_map(|said| decode_gossip(&said.data).ok());
        said.flat_map(|said| said.notice.events).any(|event| event.value == value)
    };
    set("guarded", "first");
    wait_for("what is for the list", || told(json!("first")).then_some(()));

    attic.done(&["protection", "rm", "family", "probe"]);

    set("guarded", "second");
    // Whatever is public still comes, and comes after it.
    wait_for("what is public", || {
        set("shown", "41");
        set("shown", "42");
        (told(json!(42)) || gossiped(json!(42))).then_some(())
    });
    assert!(!told(json!("second")), "{:?}", probe.notices());
}

#[test]
fn as_many_strangers_as_there_is_room_for_keep_no_approved_peer_out() {
    let attic = quiet("attic", &[]);
    let mut kitchen = quiet("kitchen", &[&attic]);
    furnish(&attic);
    kitchen.until(&["element", "get", LAMP_THERE, "count"], |read| read["value"] == 0);
    attic.done(&["protection", "add", "family", "kitchen"]);
    let inbox = kitchen.until(&["inbox"], |inbox| inbox["items"] != json!([]));
    kitchen.done(&["approve", inbox["items"][0]["id"].as_str().unwrap()]);
    attic.until(&["protection", "show", "family", "kitchen"], |row| row["state"] == "active");
    kitchen.done(&["element", "set", LAMP_THERE, "on", "true"]);
    assert_eq!(kitchen.stop(), 0);
    attic.until(&["peer", "ls"], |peers| peers["items"] == json!([]));

    let strangers: Vec<Probe> =
        (0..32).map(|number| Probe::new(&format!("stranger-{number}"))).collect();
    std::thread::scope(|scope| {
        for stranger in &strangers {
            let attic = &attic;
            scope.spawn(move || stranger.hello(stranger.dial(attic).unwrap()));
        }
    });
    let late = Probe::new("late");
    assert!(late.dial(&attic).is_err(), "there is room for one more stranger");

    kitchen.restart();
    kitchen.until(&["element", "set", LAMP_THERE, "on", "false"], |set| set["value"] == false);
    assert_eq!(attic.done(&["element", "get", LAMP, "on"])["value"], false);
    let kept = strangers.iter().filter(|stranger| stranger.is_connected(peer_of(&attic))).count();
    assert_eq!(kept, 32, "a stranger was sent away");
}

#[test]
fn base64_is_found_wherever_it_begins() {
    // As any other program writes "marker", "amarkerb" and "abmarkerc".
    assert_eq!(base64_within(b"marker", 0), "bWFya2Vy");
    assert!("YW1hcmtlcmI=".contains(&base64_within(b"marker", 1)));
    assert!("YWJtYXJrZXJj".contains(&base64_within(b"marker", 2)));
}

/// A node on TCP and QUIC that is not found by others, and dials its first peers by TCP: there the
/// end of a process is noticed at once.
fn quiet(name: &str, peers: &[&Node]) -> Node {
    quiet_with(name, &first_peers(peers))
}

fn quiet_with(name: &str, bootstrap: &str) -> Node {
    let mut node = Node::home(name);
    std::fs::create_dir_all(&node.home).unwrap();
    std::fs::write(node.home.join("freehold.toml"), "mdns = false\n").unwrap();
    node.file("bootstrap.toml", bootstrap);
    node.restart();
    node
}

fn first_peers(peers: &[&Node]) -> String {
    let listed: Vec<String> = peers
        .iter()
        .map(|peer| format!("  \"{}/p2p/{}\",\n", tcp_address(peer), peer_of(peer)))
        .collect();
    format!("peers = [\n{}]\n", listed.concat())
}

/// Gives a node an account alice with a world, and a vault of this type; gives back alice's id.
fn furnish_vault(node: &Node, type_file: &str) -> String {
    let file = node.file("vault.toml", type_file);
    let alice = node.done(&["account", "add", "alice"]);
    node.done(&["world", "add", "alice/garden"]);
    node.done(&["type", "publish", path(&file), "--as", "alice"]);
    let create = ["element", "create", "vault", "--name", "vault", "--world", "alice/garden"];
    node.done(&[create.as_slice(), &["--as", "alice"]].concat());
    alice["id"].as_str().unwrap().to_owned()
}

fn world_of(node: &Node) -> String {
    node.done(&["world", "show", "alice/garden"])["id"].as_str().unwrap().to_owned()
}

fn topic(world: &str) -> String {
    format!("/freehold/home/feed/1/{world}")
}

fn seed_of(node: &Node) -> [u8; 32] {
    std::fs::read(node.home.join("identity.key")).unwrap().try_into().unwrap()
}

fn code_of(result: &Result<Json, Problem>) -> Option<Code> {
    result.as_ref().err().map(|problem| problem.code)
}

/// Commands that no other server may use, with arguments that would do.
fn not_for_servers() -> Vec<(&'static str, Json)> {
    let vault = json!({"element": VAULT});
    vec![
        ("server.ls", json!({})),
        ("inbox.ls", json!({})),
        ("key.ls", json!({})),
        ("job.ls", json!({})),
        ("account.ls", json!({})),
        ("world.ls", json!({})),
        ("type.ls", json!({})),
        ("element.ls", json!({"world": "alice/garden"})),
        ("protection.ls", json!({})),
        ("element.show", vault.clone()),
        ("element.destroy", vault.clone()),
        ("action.ls", vault),
        ("action.show", json!({"element": VAULT, "action": "bump"})),
        ("type.show", json!({"type": "alice:vault"})),
        ("world.show", json!({"world": "alice/garden"})),
        ("server.show", json!({"server": "probe"})),
        ("server.allow", json!({"server": "probe"})),
        ("server.met", json!({})),
        ("protection.add", json!({"list": "family", "server": "probe"})),
        ("account.add", json!({"name": "eve"})),
        ("key.add", json!({"name": "eve", "admin": true})),
        ("feed.store", json!({"server": "probe", "page": {}})),
        ("node.status", json!({})),
        ("node.stop", json!({})),
        ("config.show", json!({})),
        ("peer.ls", json!({})),
    ]
}

/// Where a text stands in what was heard: as it is, in hexadecimal, or in base64.
fn traces(heard: &[Vec<u8>], text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![text.to_owned(), text.to_uppercase(), hex.to_uppercase(), hex];
    forms.extend((0..3).map(|shift| base64_within(text.as_bytes(), shift)));
    let mut found = Vec::new();
    for (number, stream) in heard.iter().enumerate() {
        for form in &forms {
            let form = form.as_bytes();
            if let Some(at) = stream.windows(form.len()).position(|part| part == form) {
                let around = &stream[at.saturating_sub(80)..stream.len().min(at + 80)];
                found.push(format!("stream {number}: {}", String::from_utf8_lossy(around)));
            }
        }
    }
    found
}

/// The digits of base64 (RFC 4648, section 4) that are the same whatever stands around some bytes
/// that begin `shift` after a group of three.
fn base64_within(bytes: &[u8], shift: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padded = [vec![0; shift], bytes.to_vec()].concat();
    let bit =
        |at: usize| padded.get(at / 8).map_or(0, |byte| usize::from((byte >> (7 - at % 8)) & 1));
    let first = (shift * 8).div_ceil(6);
    let digits = (first..padded.len() * 8 / 6).map(|digit| {
        let value = (0..6).fold(0, |value, offset| (value << 1) | bit(digit * 6 + offset));
        char::from(DIGITS[value])
    });
    digits.collect()
}

fn framed(kind: MessageKind, body: &[u8]) -> Vec<u8> {
    [frame_head(kind, body.len()).as_slice(), body].concat()
}

/// The same map with one more member.
fn with_field(map: &[u8], field: &[u8]) -> Vec<u8> {
    assert!((0xa0..0xb7).contains(&map[0]), "it is no short map");
    [[map[0] + 1].as_slice(), &map[1..], field].concat()
}

fn count_up(faults: &mut Map<String, Json>, kind: &str) {
    let count = faults.get(kind).and_then(Json::as_u64).unwrap_or(0);
    faults.insert(kind.to_owned(), json!(count + 1));
}

fn expect_faults(node: &Node, want: &Map<String, Json>) {
    let shown = node.done(&["server", "show", "probe"]);
    assert_eq!(shown["faults"].as_object(), Some(want));
}

/// Tells calls of one action of the lamp under these numbers, in one batch; gives back the counts
/// that were returned, or the codes of the problems.
fn told_in(
    probe: &Probe,
    to: PeerId,
    lane: Advance,
    action: &str,
    numbers: &[u64],
) -> Vec<(u64, Result<i64, Code>)> {
    let args = || json!({"element": LAMP, "action": action});
    let tells = numbers.iter().map(|number| probe.item(*number, "action.call", args())).collect();
    let answer = probe.batch(to, Batch { lane, tells, ..probe.empty() });
    let counted = |answer: TellAnswer| match answer {
        TellAnswer::Done(reply) => match reply.result {
            Ok(json) => Ok(json["result"]["count"].as_i64().unwrap_or(-1)),
            Err(problem) => Err(problem.code),
        },
        TellAnswer::Fault(problem) => Err(problem.code),
        TellAnswer::Started => panic!("it goes on"),
    };
    answer.tells.into_iter().map(|(number, answer)| (number, counted(answer))).collect()
}

/// Puts a probe on a node's list, as both operators would; gives back the id that the node issued.
fn protect(node: &Node, probe: &Probe, list: &str) -> Vec<u8> {
    let offers = || -> Vec<String> {
        let told = probe.told().into_iter();
        told.filter(|(command, args)| command == "protection.offer" && args["list"] == list)
            .map(|(_, args)| args["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = offers().len();
    node.done(&["protection", "add", list, &probe.name]);
    let offered = wait_for("an offer", || offers().pop().filter(|_| offers().len() > before));
    let claim = ProtectionClaim {
        issuer: probe.server,
        subject: server_of(node),
        holder: key_of(node),
        list: Name::new(list).unwrap(),
        nonce: [u8::try_from(before).unwrap(); 16],
        issued_at: Timestamp::from_ms(1_000),
    };
    let id = issue_protection(&probe.keys, &claim);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let accepted = probe.tell(peer_of(node), "protection.accept", json!({"list": list, "id": id}));
    assert_eq!(accepted, Ok(json!({"state": "active"})));
    let show = ["protection", "show", list, &probe.name];
    assert_eq!(node.done(&show)["state"], "active");
    unhex(&offered)
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Shows a protection id and switches the lamp, which is for the list.
fn switch(probe: &Probe, to: PeerId, id: &[u8], on: bool) -> Result<(), Code> {
    let args = json!({"element": LAMP, "attribute": "on", "value": on});
    let ids = [id];
    let ids = if id.is_empty() { &ids[..0] } else { &ids[..] };
    match probe.tell_with(to, ids, "element.set", args) {
        Ok(set) => {
            assert_eq!(set["value"], on);
            Ok(())
        }
        Err(problem) => Err(problem.code),
    }
}

/// An address of this machine at which nobody listens.
fn dead_address() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("/ip4/127.0.0.1/tcp/{port}")
}

/// Checks that a problem gives a reason for each of these addresses.
fn expect_reasons(problem: &Json, addresses: &[&str]) {
    let tries = problem["tries"].as_array().unwrap_or_else(|| panic!("no tries: {problem}"));
    for address in addresses {
        let tried = tries.iter().find(|tried| {
            tried["address"].as_str().is_some_and(|tried| tried.starts_with(address))
        });
        let reason = tried.and_then(|tried| tried["reason"].as_str()).unwrap_or_default();
        assert!(!reason.is_empty(), "no reason for {address}: {problem}");
    }
}

/// The most memory that a node had at once since this was asked last, in KiB.
fn peak_kib(node: &Node) -> u64 {
    let folder = Path::new("/proc").join(node.pid().to_string());
    let status = std::fs::read_to_string(folder.join("status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
    // From now on it is noted anew.
    std::fs::write(folder.join("clear_refs"), "5").unwrap();
    peak
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The values that the lamp's counter took, in order.
fn counts(events: &[Json]) -> Vec<i64> {
    let counts = events.iter().filter(|event| event["attribute"] == "count");
    counts.filter_map(|event| event["value"].as_i64()).collect()
}
