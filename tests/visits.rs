//! People in worlds: going in, here and at other servers, being seen and heard there, leaving, and
//! what follows when a server stops, dies, is denied, or says what is not so. Real nodes, nothing
//! shared but the network; and a peer that keeps to no rule.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must end, and say where")]

#[allow(dead_code, reason = "it is the simulation's, and used in part")]
#[path = "sim/dice.rs"]
mod dice;
mod probe;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dice::Dice;
use freehold::model::{
    AccountId, Act, Changes, Code, Contact, Fleeting, Key, Level, Name, Problem, Row, ServerId,
    Snapshot, SystemType, WorldId, hex,
};
use freehold::store::{Folder, Store};
use freehold::trust::{Inception, Record, RecordKind};
use freehold::wire::Batch;
use libp2p::PeerId;
use probe::{Probe, wait_for};
use serde_json::{Value as Json, json};
use support::{Events, LAMP, Node, by_key, done, path, refused, split, text};

/// How long an answer over TCP may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long contact may be lost before people are taken home.
const GRACE: Duration = Duration::from_secs(5);
/// Well within the grace: so nobody waited for its end.
const AT_ONCE: Duration = Duration::from_secs(3);
/// How long a visit may take to go on when its host is there again.
const BACK_AGAIN: Duration = Duration::from_secs(5);
/// The world of a peer that keeps to no rule.
const DEN: WorldId = WorldId::from_bytes([7; 16]);
/// Somebody whom nobody has let in.
const NOBODY: AccountId = AccountId::from_bytes([9; 16]);

/// People of one other server who are let in.
const GUESTS_OF_SERVER_MAX: usize = 250;
/// People whom a look shows at most.
const GUESTS_SEEN_MAX: usize = 200;
/// Things that are done in the sequence that is drawn.
const STEPS: u64 = 60;
/// After so many of them all nodes run, and it must become true that all agree.
const QUIET_EVERY: u64 = 12;

// Going in, and looking around.

#[test]
fn a_visitor_enters_by_name_and_sees_the_room_and_who_is_in_it() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    publish(&kitchen, "bob", LAMP);
    publish(&kitchen, "bob", GATE);
    done(&kitchen, "element create lamp --name lamp --as bob");
    done(&kitchen, "element create gate --name hatch --value portal=alice@attic/garden --as bob");
    kitchen.done(&["element", "set", "bob/yard", "description", "roses and beans", "--as", "bob"]);
    go(&kitchen, "bob", "bob/yard");
    let yard = world_id(&kitchen, "bob/yard");

    let entered = done(&attic, "world enter bob@kitchen/yard --as alice");

    let told = ["id", "name", "server"].map(|key| entered[key].clone());
    assert_eq!(told, [json!(yard), json!("bob/yard"), json!("kitchen")]);
    let alice = stands(&attic, "alice", "bob/yard");
    let told = ["server", "world", "returns"].map(|key| alice[key].clone());
    assert_eq!(told, [kitchen.ready["server_id"].clone(), json!(yard), json!(false)]);
    for (node, words) in [
        (&attic, "world look --as alice"),
        (&kitchen, "world look --as bob"),
        (&kitchen, "world look yard --as bob"),
        (&kitchen, "world look bob/yard"),
    ] {
        let room = done(node, words);

        let told = ["id", "name", "server", "description", "more"].map(|key| room[key].clone());
        let want = [
            json!(yard),
            json!("bob/yard"),
            json!("kitchen"),
            json!("roses and beans"),
            json!(false),
        ];
        assert_eq!(told, want, "{words}");
        let listed = |key: &str| room[key].as_array().unwrap().clone();
        let things = listed("things");
        assert_eq!(things.len(), 1, "{words}: {room}");
        assert_eq!((&things[0]["name"], &things[0]["type"]), (&json!("lamp"), &json!("lamp")));
        let exits = listed("exits");
        assert_eq!(exits.len(), 1, "{words}: {room}");
        let exit = (&exits[0]["name"], &exits[0]["to"]);
        assert_eq!(exit, (&json!("hatch"), &json!("alice@attic/garden")), "{words}");
        let mut people = listed("people");
        people.sort_by_key(|person| text(person, "name"));
        let bob = place(&kitchen, "bob");
        let want =
            [(&alice, "alice", "attic"), (&bob, "bob", "kitchen")].map(|(at, name, home)| {
                json!({
                    "id": at["avatar"],
                    "account": at["id"],
                    "name": name,
                    "server": home,
                    "position": null,
                })
            });
        assert_eq!(people, want, "{words}");
    }

    // Another server shows a world only to those who are in it.
    done(&attic, "account add carol");
    refused(&attic, "world look bob@kitchen/yard --as carol", 4, "not_found");
    refused(&attic, "world look --as carol", 4, "not_found");
    // She is known there from now on, also after she has left.
    done(&attic, "world leave --as alice");
    holds(&kitchen, "bob/yard", &["bob"]);
    let visits = done(&kitchen, "visit ls");
    assert_eq!(
        (&item_of(&visits, "alice")["id"], &visits["items"][1]),
        (&alice["id"], &Json::Null)
    );
    assert_eq!(item_of(&visits, "alice")["state"], "known");
    refused(&attic, "world look --as alice", 4, "not_found");
}

#[test]
fn a_visitor_is_called_by_home_and_name_where_the_name_is_taken() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    done(&kitchen, "account add alice");
    let heard = [&kitchen, &attic].map(ear);

    let entered = done(&attic, "world enter bob@kitchen/yard --as alice");

    assert_eq!(entered["called"], "attic.alice");
    let alice = stands(&attic, "alice", "bob/yard");
    holds(&kitchen, "bob/yard", &["attic.alice"]);
    let shown = done(&kitchen, "element show bob/yard/attic-alice");
    assert_eq!(shown["id"], alice["avatar"]);
    say(&attic, "alice", "it is me");
    for ear in &heard {
        ear.until(|events| spoken(events) == ["attic.alice: it is me"]);
    }
}

// Saying and moving.

#[test]
fn what_people_say_and_where_they_go_is_heard_by_those_who_are_there_and_kept_nowhere() {
    let [kitchen, attic, cellar] = homes(["kitchen", "attic", "cellar"]);
    let yard = world_id(&kitchen, "bob/yard");
    go(&kitchen, "bob", "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    let ears = [&kitchen, &attic, &cellar].map(ear);
    say(&attic, "alice", "too early");
    for ear in &ears[..2] {
        ear.until(|events| spoken(events) == ["alice: too early"]);
    }
    go(&cellar, "eve", "bob@kitchen/yard");
    let mark = beat(&kitchen, &ears[0], "before");
    let position = |json: Json| ("avatar_moved", "position", json);
    let words = |text: &str| ("avatar_said", "text", json!(text));
    let table: [(&Node, &str, &[&str], _); 4] = [
        (&attic, "alice", &["say", "hello there"], words("hello there")),
        (&kitchen, "bob", &["say", "welcome"], words("welcome")),
        (&attic, "alice", &["move", "3", "4"], position(json!({"x": 3, "y": 4}))),
        (&cellar, "eve", &["move", "-1.5", "2", "7"], position(json!({"x": -1.5, "y": 2, "z": 7}))),
    ];

    for (node, who, does, (kind, key, what)) in table {
        let said = node.done(&[&["avatar"][..], does, &["--as", who]].concat());

        let answered = if key == "text" { &said["said"] } else { &said["position"] };
        assert_eq!(*answered, what);
        let avatar = place(node, who)["avatar"].clone();
        let value = json!({"name": who, key: what});
        let is_it = |event: &&Json| event["value"] == value;
        for ear in &ears {
            let events = ear.until(|events| events.iter().any(|event| is_it(&event)));
            let event = events.iter().find(is_it).unwrap();
            let want = json!({
                "schema": "freehold.event/1",
                "id": null,
                "seq": 0,
                "kind": kind,
                "name": null,
                "world": yard,
                "element": avatar,
                "attribute": null,
                "value": value,
                "old": null,
                "origin": kitchen.ready["server_id"],
                "by": null,
                "at": event["at"],
            });
            assert_eq!(*event, want, "{who}");
        }
    }

    // Who came later hears nothing of what was said before.
    let texts = spoken(&ears[2].so_far());
    assert!(!texts.contains(&"alice: too early".to_owned()), "{texts:?}");
    // Who goes on from an event of before is told what is kept, and nothing else.
    let after = beat(&kitchen, &ears[0], "after");
    let goes_on = ["events", "--since", &mark, "--count", "1", "--json"];
    let output = kitchen.program().args(goes_on).output().unwrap();
    assert_eq!(support::said(output).out["id"], after);
}

#[test]
fn who_comes_later_sees_where_everybody_is() {
    let [kitchen, attic, cellar] = homes(["kitchen", "attic", "cellar"]);
    go(&kitchen, "bob", "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    done(&kitchen, "avatar move 1 2 --as bob");
    done(&attic, "avatar move 3 4 --as alice");
    done(&attic, "avatar move 5 6 7 --as alice");
    let at = |node: &Node, words: &str, wants: Json| {
        node.until(&split(words), |room| positions(room) == wants);
    };
    let moved = json!({"alice": {"x": 5, "y": 6, "z": 7}, "bob": {"x": 1, "y": 2}});
    at(&kitchen, "world look bob/yard", moved);

    go(&cellar, "eve", "bob@kitchen/yard");

    let moved = json!({"alice": {"x": 5, "y": 6, "z": 7}, "bob": {"x": 1, "y": 2}, "eve": null});
    at(&cellar, "world look --as eve", moved);
    // Who comes again has not moved there yet.
    done(&attic, "world leave --as alice");
    holds(&kitchen, "bob/yard", &["bob", "eve"]);
    go(&attic, "alice", "bob@kitchen/yard");
    let anew = json!({"alice": null, "bob": {"x": 1, "y": 2}, "eve": null});
    at(&cellar, "world look --as eve", anew);
}

/// Where the people in a room are, by name.
fn positions(room: &Json) -> Json {
    let people = room["people"].as_array().unwrap();
    people.iter().map(|one| (text(one, "name"), one["position"].clone())).collect()
}

#[test]
fn a_ticket_that_leads_to_a_world_is_a_way_into_it() {
    let [kitchen] = homes(["kitchen"]);
    let [attic, cellar] = ["attic", "cellar"].map(|name| quiet(name, &[]));
    settle(&attic, "alice/garden");
    refused(&kitchen, "invite --to bob/nosuch", 4, "not_found");
    let made = done(&kitchen, "invite --list family --to bob/yard");
    assert_eq!(made["world"], "bob/yard");
    let ticket = text(&made, "ticket");
    assert_eq!(done(&attic, &format!("ticket show {ticket}"))["world"], "bob/yard");
    assert_eq!(done(&kitchen, "ticket ls")["items"][0]["world"], "bob/yard");
    let enter = format!("world enter {ticket} --as alice");

    let entered = done(&attic, &enter);

    assert_eq!(entered["name"], "bob/yard");
    stands(&attic, "alice", "bob/yard");
    holds(&kitchen, "bob/yard", &["alice"]);
    assert_eq!(done(&attic, "protection show family kitchen")["state"], "active");
    // It is for one server, which may use it again.
    done(&attic, "world leave --as alice");
    done(&attic, &enter);
    stands(&attic, "alice", "bob/yard");
    done(&cellar, "account add eve");
    refused(&cellar, &format!("world enter {ticket} --as eve"), 5, "refused");
    let nowhere = text(&done(&kitchen, "invite"), "ticket");
    refused(&attic, &format!("world enter {nowhere} --as alice"), 2, "usage");
    refused(&attic, "world enter fht_none --as alice", 2, "usage");
    stands(&attic, "alice", "bob/yard");
}

#[test]
fn only_the_operator_goes_in_by_a_ticket() {
    let [kitchen] = homes(["kitchen"]);
    let attic = quiet("attic", &[]);
    settle(&attic, "alice/garden");
    let ticket = text(&done(&kitchen, "invite --to bob/yard"), "ticket");
    let key = text(&done(&attic, "key add phone --account alice"), "key");

    let (status, answer) = by_key(&attic, &key, "world.enter", json!({"world": ticket}));

    assert_eq!((status, &answer["code"]), (403, &json!("not_permitted")), "{answer}");
    assert_eq!(done(&kitchen, "ticket ls")["items"][0]["state"], "open");
}

#[test]
fn a_program_hears_what_happens_where_its_own_accounts_are() {
    let [kitchen, attic] = homes(["kitchen", "attic"]);
    settle(&kitchen, "dora/loft");
    done(&attic, "account add carol");
    go(&kitchen, "bob", "bob/yard");
    go(&kitchen, "dora", "dora/loft");
    go(&attic, "alice", "bob@kitchen/yard");
    let open = |node: &Node, who: &str| {
        let key = done(node, &format!("key add {who} --account {who}"));
        Stream::open(node, &text(&key, "key"), "avatar_said")
    };
    let [mut bobs, mut doras] = ["bob", "dora"].map(|who| open(&kitchen, who));
    let [mut alices, mut carols] = ["alice", "carol"].map(|who| open(&attic, who));
    let next = |stream: &mut Stream| stream.next()["value"]["text"].clone();

    say(&attic, "alice", "one");
    assert_eq!([next(&mut bobs), next(&mut alices)], ["one", "one"]);
    say(&kitchen, "dora", "two");
    assert_eq!(next(&mut doras), "two");
    go(&attic, "carol", "bob@kitchen/yard");
    say(&kitchen, "bob", "three");

    // What comes next to each of them is the next of what they were there for.
    assert_eq!([&mut bobs, &mut alices, &mut carols].map(next), ["three", "three", "three"]);
}

#[test]
fn who_says_and_moves_too_much_is_held_back_for_a_second() {
    let [attic] = homes(["attic"]);
    go(&attic, "alice", "alice/garden");
    let key = text(&done(&attic, "key add alice --account alice"), "key");
    let does = |number: i64| {
        if number % 2 == 0 {
            by_key(&attic, &key, "avatar.say", json!({"text": number.to_string()}))
        } else {
            by_key(&attic, &key, "avatar.move", json!({"x": number, "y": 0}))
        }
    };

    let answers: Vec<(u16, Json)> = std::thread::scope(|scope| {
        let hands: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..150).map(does).collect::<Vec<_>>())).collect();
        hands.into_iter().flat_map(|hand| hand.join().unwrap()).collect()
    });

    let (at_once, held_back): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(status, _)| *status == 200);
    assert!(at_once.len() >= 40, "only {} were done", at_once.len());
    assert!(!held_back.is_empty(), "nobody was held back");
    for (status, problem) in held_back {
        let told = (status, &problem["code"], &problem["exit"]);
        assert_eq!(told, (429, &json!("over_limit"), &json!(7)));
    }
    attic.until(&["avatar", "say", "again", "--as", "alice"], |said| said["said"] == "again");
}

#[test]
fn who_comes_and_who_goes_is_told_to_those_who_are_in_the_world() {
    let [kitchen, attic, cellar] = homes(["kitchen", "attic", "cellar"]);
    done(&kitchen, "world add bob/loft");
    let [yard, loft] = ["bob/yard", "bob/loft"].map(|world| world_id(&kitchen, world));
    let garden = world_id(&attic, "alice/garden");
    go(&attic, "alice", "bob@kitchen/yard");
    let [at_kitchen, at_attic] = [&kitchen, &attic].map(ear);

    go(&cellar, "eve", "bob@kitchen/yard");
    go(&kitchen, "bob", "bob/yard");
    // Who is there already neither comes nor goes.
    done(&cellar, "world enter bob@kitchen/yard --as eve");
    done(&kitchen, "world enter yard --as bob");
    go(&cellar, "eve", "bob@kitchen/loft");
    go(&kitchen, "bob", "bob/loft");
    done(&cellar, "world leave --own --as eve");
    holds(&kitchen, "bob/loft", &["bob"]);
    go(&attic, "alice", "alice/garden");

    let deed = |does: &str, who: &str, world: &str| format!("{who} {does} {world}");
    let in_the_yard = [
        deed("avatar_came", "eve", &yard),
        deed("avatar_came", "bob", &yard),
        deed("avatar_left", "eve", &yard),
        deed("avatar_came", "eve", &loft),
        deed("avatar_left", "bob", &yard),
        deed("avatar_came", "bob", &loft),
        deed("avatar_left", "eve", &loft),
        deed("avatar_left", "alice", &yard),
    ];
    let events = at_kitchen.until(|events| acts(events).len() >= in_the_yard.len());
    assert_eq!(deeds(&events), in_the_yard);
    let seen_from_the_attic = [
        in_the_yard[0].clone(),
        in_the_yard[1].clone(),
        in_the_yard[2].clone(),
        in_the_yard[4].clone(),
        deed("avatar_came", "alice", &garden),
    ];
    let events = at_attic.until(|events| acts(events).len() >= seen_from_the_attic.len());
    assert_eq!(deeds(&events), seen_from_the_attic);
    let origins = acts(&events).into_iter().map(|event| event["origin"].clone());
    let [us, host] = [&attic, &kitchen].map(|node| node.ready["server_id"].clone());
    assert_eq!(origins.collect::<Vec<_>>(), [host.clone(), host.clone(), host.clone(), host, us]);
    assert!(acts(&events).iter().all(|event| event["id"].is_null() && event["seq"] == 0));
}

// Ways out.

#[test]
fn an_element_with_a_portal_leads_on_from_here_and_from_a_visit() {
    let [attic, kitchen, cellar] = homes(["attic", "kitchen", "cellar"]);
    let vault = format!("eve@{}/vault", text(&cellar.ready, "server_id"));
    for (node, who) in [(&attic, "alice"), (&kitchen, "bob")] {
        publish(node, who, GATE);
    }
    for (node, who, name, to) in [
        (&attic, "alice", "gate", "bob@kitchen/yard"),
        (&attic, "alice", "wrong", "bob@kitchen/nosuch"),
        (&attic, "alice", "shut", ""),
        (&kitchen, "bob", "hatch", vault.as_str()),
    ] {
        let value = if to.is_empty() { String::new() } else { format!("--value portal={to}") };
        done(node, &format!("element create gate --name {name} {value} --as {who}"));
    }
    let through = |name: &str, world: &str| {
        let entered = done(&attic, &format!("world enter {name} --as alice"));
        assert_eq!(entered["name"], world, "{name}");
        stands(&attic, "alice", world);
    };

    // From wherever, by its whole name.
    refused(&attic, "world enter gate --as alice", 4, "not_found");
    through("alice/garden/gate", "bob/yard");
    // From a visit, as it is seen there; what leads on is looked up at home.
    assert_eq!(exits_of(&done(&attic, "world look --as alice")), [("hatch".to_owned(), vault)]);
    through("hatch", "eve/vault");
    holds(&kitchen, "bob/yard", &[]);
    holds(&cellar, "eve/vault", &["alice"]);
    // From here, as it is seen here.
    through("alice/garden", "alice/garden");
    through("gate", "bob/yard");

    // One that leads nowhere changes nothing.
    go(&attic, "alice", "alice/garden");
    let before = place(&attic, "alice");
    refused(&attic, "world enter wrong --as alice", 5, "not_offered");
    refused(&attic, "world enter shut --as alice", 4, "not_found");
    refused(&attic, "world enter alice/garden/shut --as alice", 4, "not_found");
    assert_eq!(place(&attic, "alice"), before);
    holds(&kitchen, "bob/yard", &[]);
}

#[test]
fn a_portal_leads_home_by_the_name_and_the_id_of_ones_own_server() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    publish(&kitchen, "bob", GATE);
    let id = text(&attic.ready, "server_id");
    for (name, server) in [("ladder", "attic"), ("rope", id.as_str())] {
        let portal = format!("portal=alice@{server}/garden");
        done(&kitchen, &format!("element create gate --name {name} --value {portal} --as bob"));
    }

    for name in ["ladder", "rope", "alice@attic/garden", &format!("alice@{id}/garden")] {
        go(&attic, "alice", "bob@kitchen/yard");

        done(&attic, &format!("world enter {name} --as alice"));

        stands(&attic, "alice", "alice/garden");
        holds(&kitchen, "bob/yard", &[]);
    }
}

#[test]
fn an_element_of_another_server_is_not_taken_for_one_of_the_same_name_here() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    done(&attic, "world add alice/shed");
    publish(&attic, "alice", GATE);
    let create = "element create gate --name gate --value portal=alice/shed";
    done(&attic, &format!("{create} --world alice/garden --as alice"));
    go(&attic, "alice", "alice/garden");

    refused(&attic, "world enter alice@kitchen/garden/gate --as alice", 5, "not_offered");

    assert_eq!(place(&attic, "alice")["world_name"], "alice/garden");
    assert_eq!(people(&kitchen, "bob/yard"), [""; 0]);
}

// Leaving.

#[test]
fn who_leaves_goes_back_the_way_they_came_or_home() {
    let [attic, kitchen, cellar] = homes(["attic", "kitchen", "cellar"]);
    done(&attic, "world add alice/loft");
    done(&attic, "account add dora");
    let way = ["alice/garden", "bob@kitchen/yard", "eve@cellar/vault", "alice/loft"];
    for world in way {
        go(&attic, "alice", world);
    }

    for (world, server) in
        [("eve/vault", "cellar"), ("bob/yard", "kitchen"), ("alice/garden", "attic")]
    {
        let left = done(&attic, "world leave --as alice");
        assert_eq!((&left["name"], &left["server"]), (&json!(world), &json!(server)));
        let at = stands(&attic, "alice", world);
        assert_eq!(at["world"], left["id"]);
        for (node, other) in
            [(&attic, "alice/garden"), (&kitchen, "bob/yard"), (&cellar, "eve/vault")]
        {
            holds(node, other, if other == world { &["alice"] } else { &[] });
        }
    }
    for _ in 0..2 {
        let left = done(&attic, "world leave --as alice");
        let told = ["id", "world", "name", "server"].map(|key| left[key].clone());
        assert_eq!(told, [Json::Null, Json::Null, Json::Null, json!("attic")]);
        assert_eq!(place(&attic, "alice")["world"], Json::Null);
        holds(&attic, "alice/garden", &[]);
    }

    // Home is the first of one's own worlds by name; what was before is forgotten there.
    for world in way {
        go(&attic, "alice", world);
    }
    go(&attic, "alice", "bob@kitchen/yard");
    let home = done(&attic, "world leave --own --as alice");
    assert_eq!(home["name"], "alice/garden");
    holds(&kitchen, "bob/yard", &[]);
    assert_eq!(done(&attic, "world leave --as alice")["id"], Json::Null);
    // Who has no world of their own is in none.
    go(&attic, "dora", "bob@kitchen/yard");
    assert_eq!(done(&attic, "world leave --own --as dora")["id"], Json::Null);
    holds(&kitchen, "bob/yard", &[]);

    // A world that is gone is passed over.
    for world in ["alice/garden", "alice/loft", "bob@kitchen/yard"] {
        go(&attic, "alice", world);
    }
    done(&attic, "world rm alice/loft --as alice");
    assert_eq!(done(&attic, "world leave --as alice")["name"], "alice/garden");
    holds(&kitchen, "bob/yard", &[]);
    assert_eq!(done(&attic, "world leave --as alice")["id"], Json::Null);
}

#[test]
fn who_is_not_let_back_into_a_world_elsewhere_is_in_no_world() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    lockable(&kitchen, "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    go(&attic, "alice", "alice/garden");
    close(&kitchen, "bob/yard");

    let problem = refused(&attic, "world leave --as alice", 5, "refused");

    assert_eq!(problem["detail"], "it is closed");
    assert_eq!(place(&attic, "alice")["world"], Json::Null);
    assert_eq!(people(&attic, "alice/garden"), [""; 0]);
    assert_eq!(people(&kitchen, "bob/yard"), [""; 0]);
}

#[test]
fn a_closed_world_at_home_keeps_nobody_where_they_want_to_leave() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    settle(&attic, "carol/loft");
    for world in ["carol/loft", "alice/garden"] {
        lockable(&attic, world);
    }
    go(&attic, "alice", "carol/loft");
    go(&attic, "alice", "bob@kitchen/yard");
    close(&attic, "carol/loft");
    close(&attic, "alice/garden");

    for words in ["world leave --as alice", "world leave --own --as alice"] {
        // Whether it is called done or refused, she has left.
        attic.say(&split(words));

        assert_eq!(place(&attic, "alice")["world"], Json::Null, "{words}");
        holds(&kitchen, "bob/yard", &[]);
        go(&attic, "alice", "bob@kitchen/yard");
    }
}

// Who may come in.

#[test]
fn a_world_whose_rule_refuses_lets_nobody_in_and_who_came_stays_where_they_were() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    lockable(&kitchen, "bob/yard");
    done(&kitchen, "world add bob/loft");
    done(&attic, "account add carol");
    go(&attic, "carol", "bob@kitchen/yard");
    go(&attic, "alice", "alice/garden");
    go(&kitchen, "bob", "bob/loft");
    let heard = ear(&kitchen);
    close(&kitchen, "bob/yard");

    for (node, world, who) in [(&attic, "bob@kitchen/yard", "alice"), (&kitchen, "yard", "bob")] {
        let before = place(node, who);

        let problem = refused(node, &format!("world enter {world} --as {who}"), 5, "refused");

        assert_eq!(problem["detail"], "it is closed");
        assert_eq!(place(node, who), before);
    }
    assert_eq!(people(&kitchen, "bob/yard"), ["carol"]);
    assert_eq!(people(&kitchen, "bob/loft"), ["bob"]);
    assert_eq!(people(&attic, "alice/garden"), ["alice"]);
    // It says nothing to those who are in already; and nobody came or went.
    say(&attic, "carol", "inside");
    let events = heard.until(|events| spoken(events) == ["carol: inside"]);
    assert_eq!(acts(&events).len(), 1, "{events:#?}");

    done(&kitchen, "element set bob/yard closed false --as bob");

    go(&attic, "alice", "bob@kitchen/yard");
    holds(&kitchen, "bob/yard", &["alice", "carol"]);
}

#[test]
fn the_owner_of_a_world_is_asked_in_person_and_who_comes_waits_for_the_answer() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    publish(&kitchen, "bob", KNOCK);
    done(&kitchen, "element become bob/yard knock --as bob");
    go(&attic, "alice", "alice/garden");
    let before = place(&attic, "alice");

    for (answer, stays) in [("deny", true), ("approve", false)] {
        let said = std::thread::scope(|scope| {
            let coming =
                scope.spawn(|| attic.say(&split("world enter bob@kitchen/yard --as alice")));
            let entry = question(&kitchen);
            assert_eq!(entry["kind"], "question", "{entry}");
            assert!(text(&entry, "asks").ends_with("May somebody come in?"), "{entry}");
            assert_eq!(place(&attic, "alice"), before);
            assert_eq!(people(&kitchen, "bob/yard"), [""; 0]);
            done(&kitchen, &format!("{answer} {}", text(&entry, "id")));
            coming.join().unwrap()
        });

        let want = if stays { (5, json!("refused")) } else { (0, Json::Null) };
        assert_eq!((said.exit, said.err["code"].clone()), want, "{answer}: {said:?}");
        if stays {
            assert_eq!(place(&attic, "alice"), before);
        } else {
            stands(&attic, "alice", "bob/yard");
        }
        holds(&kitchen, "bob/yard", if stays { &[] } else { &["alice"] });
    }
    assert_eq!(done(&kitchen, "inbox --all")["items"], json!([]));
}

// When contact ends.

#[test]
fn when_a_host_stops_its_visitors_are_home_at_once_and_back_when_it_is() {
    let [attic, mut kitchen] = homes(["attic", "kitchen"]);
    done(&attic, "account add dora");
    go(&kitchen, "bob", "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    go(&attic, "dora", "bob@kitchen/yard");

    assert_eq!(kitchen.stop(), 0);

    let stopped = now();
    let home = stands(&attic, "alice", "alice/garden");
    // Who has no world of their own is in none meanwhile.
    let nowhere = stands(&attic, "dora", Json::Null);
    let took = stopped.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    for at in [&home, &nowhere] {
        assert_eq!(at["returns"], true, "{at}");
    }
    assert_eq!(home["server"], attic.ready["server_id"]);
    assert_eq!(people(&attic, "alice/garden"), ["alice"]);

    kitchen.restart();

    let back = now();
    for who in ["alice", "dora"] {
        assert_eq!(stands(&attic, who, "bob/yard")["returns"], false, "{who}");
    }
    let took = back.elapsed();
    assert!(took < BACK_AGAIN, "it took {took:?}");
    // Who was in a world of the same server still is.
    holds(&kitchen, "bob/yard", &["alice", "bob", "dora"]);
    assert_eq!(people(&attic, "alice/garden"), [""; 0]);
}

#[test]
fn when_a_home_stops_its_people_leave_at_once_and_are_back_when_it_is() {
    let [kitchen, mut attic] = homes(["kitchen", "attic"]);
    done(&attic, "account add carol");
    go(&kitchen, "bob", "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    go(&attic, "carol", "alice/garden");
    let heard = ear(&kitchen);

    assert_eq!(attic.stop(), 0);

    let stopped = now();
    holds(&kitchen, "bob/yard", &["bob"]);
    let took = stopped.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    let yard = world_id(&kitchen, "bob/yard");
    heard.until(|events| deeds(events) == [format!("alice avatar_left {yard}")]);

    attic.restart();

    stands(&attic, "alice", "bob/yard");
    stands(&attic, "carol", "alice/garden");
    holds(&kitchen, "bob/yard", &["alice", "bob"]);
    assert_eq!(people(&attic, "alice/garden"), ["carol"]);
    heard.until(|events| deeds(events).last() == Some(&format!("alice avatar_came {yard}")));
}

#[test]
fn when_a_host_dies_its_visitors_are_home_after_the_grace_and_back_when_it_is() {
    let [attic, mut kitchen] = homes(["attic", "kitchen"]);
    go(&attic, "alice", "bob@kitchen/yard");

    kitchen.kill();

    let killed = now();
    let home = stands(&attic, "alice", "alice/garden");
    let took = killed.elapsed();
    assert!(took > GRACE - Duration::from_millis(500), "it took {took:?}");
    assert_eq!(home["returns"], true);

    kitchen.restart();

    let back = now();
    stands(&attic, "alice", "bob/yard");
    let took = back.elapsed();
    assert!(took < BACK_AGAIN, "it took {took:?}");
    holds(&kitchen, "bob/yard", &["alice"]);
    assert_eq!(people(&attic, "alice/garden"), [""; 0]);
}

#[test]
fn when_a_home_dies_its_people_leave_after_the_grace_and_are_at_home_when_it_starts() {
    let [mut kitchen, mut attic] = homes(["kitchen", "attic"]);
    let yard = world_id(&kitchen, "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    let heard = ear(&kitchen);

    attic.kill();

    let killed = now();
    holds(&kitchen, "bob/yard", &[]);
    let took = killed.elapsed();
    assert!(took > GRACE - Duration::from_millis(500), "it took {took:?}");
    heard.until(|events| deeds(events) == [format!("alice avatar_left {yard}")]);

    // Nobody is there to visit: she is at home, and the visit is remembered.
    assert_eq!(kitchen.stop(), 0);
    attic.restart();
    let home = place(&attic, "alice");
    assert_eq!((&home["world_name"], &home["returns"]), (&json!("alice/garden"), &json!(true)));
    assert_eq!(people(&attic, "alice/garden"), ["alice"]);

    kitchen.restart();

    stands(&attic, "alice", "bob/yard");
    holds(&kitchen, "bob/yard", &["alice"]);
}

#[test]
fn a_host_that_is_killed_and_back_within_the_grace_finds_its_visitors_where_they_were() {
    let [attic, mut kitchen] = homes(["attic", "kitchen"]);
    go(&attic, "alice", "bob@kitchen/yard");
    let before = place(&attic, "alice");

    kitchen.kill();
    let killed = now();
    kitchen.restart();

    holds(&kitchen, "bob/yard", &["alice"]);
    let in_time = killed.elapsed() < GRACE - Duration::from_secs(1);
    let after = stands(&attic, "alice", "bob/yard");
    // A machine that starts it too slowly proves nothing here.
    assert!(!in_time || after == before, "{before} {after}");
}

#[test]
fn a_short_loss_of_contact_throws_nobody_around() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    go(&kitchen, "bob", "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    let ears = [&attic, &kitchen].map(ear);
    let before = done(&attic, "avatar ls")["items"].clone();

    kitchen.signal("STOP");
    // So long nothing comes from it.
    std::thread::sleep(Duration::from_secs(2));
    kitchen.signal("CONT");

    for (node, who) in [(&attic, "alice"), (&kitchen, "bob")] {
        say(node, who, "still here");
    }
    for ear in &ears {
        let events = ear.until(|events| spoken(events).len() >= 2);
        assert_eq!(acts(&events).len(), 2, "{events:#?}");
    }
    assert_eq!(done(&attic, "avatar ls")["items"], before);
    assert_eq!(people(&kitchen, "bob/yard"), ["alice", "bob"]);
}

#[test]
fn who_is_not_let_in_again_when_the_host_is_back_stays_at_home() {
    let [attic, mut kitchen] = homes(["attic", "kitchen"]);
    lockable(&kitchen, "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    close(&kitchen, "bob/yard");
    assert_eq!(kitchen.stop(), 0);
    stands(&attic, "alice", "alice/garden");

    kitchen.restart();

    attic.until(&["avatar", "ls"], |listed| item_of(listed, "alice")["returns"] == false);
    // What is asked now is answered after what her home has asked by itself.
    refused(&attic, "world enter bob@kitchen/yard --as alice", 5, "refused");
    assert_eq!(place(&attic, "alice")["world_name"], "alice/garden");
    assert_eq!(people(&attic, "alice/garden"), ["alice"]);
    assert_eq!(people(&kitchen, "bob/yard"), [""; 0]);
}

#[test]
fn who_is_not_let_in_again_by_a_host_that_was_away_for_a_moment_is_at_home() {
    let [attic, mut kitchen] = homes(["attic", "kitchen"]);
    lockable(&kitchen, "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    close(&kitchen, "bob/yard");

    kitchen.kill();
    kitchen.restart();

    connected(&kitchen, "attic");
    assert_eq!(people(&kitchen, "bob/yard"), [""; 0]);
    stands(&attic, "alice", "alice/garden");
    assert_eq!(people(&attic, "alice/garden"), ["alice"]);
}

#[test]
fn who_went_elsewhere_while_the_host_heard_nothing_is_there_and_nowhere_else() {
    let [kitchen, mut attic] = homes(["kitchen", "attic"]);
    done(&attic, "world add alice/shed");
    go(&attic, "alice", "bob@kitchen/yard");

    // The host hears of the end of her home, and of its return, at the same time.
    kitchen.signal("STOP");
    attic.kill();
    attic.restart();
    go(&attic, "alice", "alice/shed");
    kitchen.signal("CONT");

    connected(&attic, "kitchen");
    holds(&kitchen, "bob/yard", &[]);
    assert_eq!(place(&attic, "alice")["world_name"], "alice/shed");
    assert_eq!(people(&attic, "alice/shed"), ["alice"]);
}

#[test]
fn the_guests_of_a_server_that_is_denied_leave_and_hear_nothing_more() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    let yard = world_id(&kitchen, "bob/yard");
    go(&kitchen, "bob", "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    let [at_attic, at_kitchen] = [&attic, &kitchen].map(ear);

    done(&kitchen, "server deny attic");

    assert_eq!(people(&kitchen, "bob/yard"), ["bob"]);
    at_kitchen.until(|events| deeds(events) == [format!("alice avatar_left {yard}")]);
    say(&kitchen, "bob", "secret");
    at_kitchen.until(|events| spoken(events) == ["bob: secret"]);
    refused(&attic, "world enter bob@kitchen/yard --as alice", 5, "server_denied");
    // What she says now, if her home sends it at all, is heard by nobody.
    attic.say(&["avatar", "say", "let me in", "--as", "alice"]);

    done(&kitchen, "server allow attic");

    go(&attic, "alice", "bob@kitchen/yard");
    holds(&kitchen, "bob/yard", &["alice", "bob"]);
    say(&kitchen, "bob", "open");
    // What is said in the same world comes in order.
    let of_bob = |events: &[Json]| -> Vec<String> {
        spoken(events).into_iter().filter(|said| said.starts_with("bob")).collect()
    };
    let events = at_attic.until(|events| of_bob(events).contains(&"bob: open".to_owned()));
    assert_eq!(of_bob(&events), ["bob: open"]);
    let events = at_kitchen.until(|events| spoken(events).contains(&"bob: open".to_owned()));
    assert_eq!(spoken(&events), ["bob: secret", "bob: open"]);
}

#[test]
fn whom_a_denial_puts_out_is_at_home() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    go(&attic, "alice", "bob@kitchen/yard");

    done(&kitchen, "server deny attic");

    assert_eq!(people(&kitchen, "bob/yard"), [""; 0]);
    stands(&attic, "alice", "alice/garden");
    assert_eq!(people(&attic, "alice/garden"), ["alice"]);
}

#[test]
fn whose_home_denies_the_host_is_at_home_and_nowhere_else() {
    let [attic, mut kitchen] = homes(["attic", "kitchen"]);
    go(&attic, "alice", "bob@kitchen/yard");

    done(&attic, "server deny kitchen");

    assert_eq!(place(&attic, "alice")["world_name"], "alice/garden");
    holds(&kitchen, "bob/yard", &[]);
    // Nor does she go there again by herself.
    assert_eq!(kitchen.stop(), 0);
    kitchen.restart();
    connected(&attic, "kitchen");
    refused(&kitchen, "element get alice@attic/garden description", 5, "server_denied");
    assert_eq!(place(&attic, "alice")["world_name"], "alice/garden");
    holds(&kitchen, "bob/yard", &[]);
}

#[test]
fn the_avatar_of_an_account_that_is_removed_leaves_where_it_visits() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    let yard = world_id(&kitchen, "bob/yard");
    done(&attic, "account add dora");
    go(&attic, "dora", "bob@kitchen/yard");
    let heard = ear(&kitchen);

    done(&attic, "account rm dora");

    holds(&kitchen, "bob/yard", &[]);
    heard.until(|events| deeds(events) == [format!("dora avatar_left {yard}")]);
    assert_eq!(place(&attic, "dora"), Json::Null);
}

#[test]
fn the_avatar_of_an_account_that_is_removed_leaves_a_world_of_the_same_server() {
    let [attic] = homes(["attic"]);
    done(&attic, "account add dora");
    go(&attic, "dora", "alice/garden");
    let heard = ear(&attic);

    done(&attic, "account rm dora");

    assert_eq!(people(&attic, "alice/garden"), [""; 0]);
    let events = heard.until(|events| !acts(events).is_empty());
    assert_eq!(acts(&events)[0]["kind"], "avatar_left");
    assert_eq!(place(&attic, "dora"), Json::Null);
}

// Servers that say what is not so.

#[test]
fn a_server_that_was_not_asked_places_nobody_and_takes_nobody_away() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    go(&attic, "alice", "bob@kitchen/yard");
    let probe = Probe::new("probe");
    let (at_attic, at_kitchen) = (probe.meet(&attic), probe.meet(&kitchen));
    let before = done(&attic, "avatar ls")["items"].clone();
    let alice = text(&before[0], "id");
    let yard = world_id(&kitchen, "bob/yard");
    let garden = world_id(&attic, "alice/garden");

    for world in [&DEN.to_string(), &yard, &garden] {
        let placed = json!({"account": alice, "world": world, "name": "eve/den"});
        let taken = probe.tell(at_attic, "avatar.placed", placed);

        assert_eq!(taken.unwrap()["id"], alice);
        // It is told that she is not there.
        let left = ("avatar.leave".to_owned(), json!({"account": alice, "world": world}));
        wait_for("the answer", || probe.told().contains(&left).then_some(()));
        assert_eq!(done(&attic, "avatar ls")["items"], before, "{world}");
    }
    let nobody = json!({"account": NOBODY, "world": DEN, "name": "eve/den"});
    assert!(probe.tell(at_attic, "avatar.placed", nobody).is_err());
    let there = json!({"account": alice, "world": yard});
    // Neither what it says of her to her home, nor what it says of her to her host, counts.
    probe.tell(at_attic, "avatar.gone", there.clone()).unwrap();
    probe.tell(at_kitchen, "avatar.leave", there.clone()).unwrap();
    probe.tell(at_kitchen, "avatar.gone", there).unwrap();
    // Nor does it get in with her record.
    let shown = probe.ask(at_attic, "account.show", json!({"account": "alice"})).unwrap();
    let enters = json!({"record": shown["record"], "into": "bob/yard"});
    let entered = probe.tell(at_kitchen, "avatar.enter", enters);
    assert_eq!(entered.unwrap_err().code, Code::Refused);
    // What only a node calls by itself no other may.
    for (command, args) in [
        ("avatar.away", json!({"server": text(&kitchen.ready, "server_id"), "announced": true})),
        ("avatar.back", json!({"server": text(&kitchen.ready, "server_id")})),
        ("avatar.ls", json!({})),
        ("world.enter", json!({"world": "alice/garden"})),
        ("world.leave", json!({})),
    ] {
        let problem = probe.tell(at_attic, command, args).unwrap_err();
        assert_eq!(problem.code, Code::UnknownCommand, "{command}");
    }
    let look = probe.ask(at_kitchen, "world.look", json!({"at": yard}));
    assert_eq!(look.unwrap_err().code, Code::NotOffered);

    assert_eq!(done(&attic, "avatar ls")["items"], before);
    assert_eq!(people(&attic, "alice/garden"), [""; 0]);
    assert_eq!(people(&kitchen, "bob/yard"), ["alice"]);
    let again = probe.told().into_iter().filter(|(command, _)| command == "avatar.enter");
    assert_eq!(again.count(), 0);
}

#[test]
fn of_a_world_elsewhere_only_its_server_is_heard_while_somebody_is_there() {
    let [attic] = homes(["attic"]);
    done(&attic, "account add carol");
    go(&attic, "carol", "alice/garden");
    let garden: WorldId = world_id(&attic, "alice/garden").parse().unwrap();
    let heard = ear(&attic);
    let (probe, thief) = (Probe::new("probe"), Probe::new("thief"));
    let (peer, _) = (probe.meet(&attic), thief.meet(&attic));
    let says = |world: WorldId, name: &str, text: &str| Fleeting {
        world,
        account: NOBODY,
        name: name.to_owned(),
        act: Act::Say(text.to_owned()),
    };
    act(&probe, peer, vec![says(DEN, "mallory", "too early")]);
    enter_den(&attic, &probe, "alice");
    placed(&probe, peer, &attic, "alice", DEN).unwrap();
    stands(&attic, "alice", "eve/den");

    // A world of her own home it does not have, whatever it says.
    placed(&probe, peer, &attic, "alice", garden).unwrap();
    assert_eq!(place(&attic, "alice")["world_name"], "eve/den");
    let at = |json: Json| Fleeting { act: Act::Move(json), ..says(DEN, "mallory", "") };
    let wrong = vec![
        says(DEN, "mallory", &"x".repeat(501)),
        says(DEN, "mallory", "\u{1b}[2Jnothing"),
        says(DEN, "mallory", "two\nlines"),
        says(DEN, "mallory", ""),
        says(DEN, "", "nobody"),
        says(DEN, "mal\u{7}lory", "a bell"),
        says(DEN, &"m".repeat(130), "a long name"),
        says(garden, "mallory", "in a world of others"),
        at(json!({"x": 1})),
        at(json!("north")),
    ];
    act(&thief, peer, vec![says(DEN, "thief", "of another server")]);
    act(&probe, peer, wrong);
    act(&probe, peer, vec![says(DEN, "mallory", "welcome")]);
    let events = heard.until(|events| spoken(events).contains(&"mallory: welcome".to_owned()));
    assert_eq!(spoken(&events), ["mallory: welcome"]);
    let welcome = acts(&events).into_iter().find(|event| event["value"]["text"] == "welcome");
    assert_eq!(welcome.unwrap()["origin"], json!(probe.server));

    go(&attic, "alice", "alice/garden");
    act(&probe, peer, vec![says(DEN, "mallory", "too late")]);

    say(&attic, "alice", "home");
    let events = heard.until(|events| spoken(events).contains(&"alice: home".to_owned()));
    assert_eq!(spoken(&events), ["mallory: welcome", "alice: home"]);
    let moved = acts(&events).into_iter().filter(|event| event["kind"] == "avatar_moved");
    assert_eq!(moved.count(), 0, "{events:#?}");
}

#[test]
fn nobody_acts_for_an_avatar_of_somebody_else() {
    let [kitchen, attic] = homes(["kitchen", "attic"]);
    let yard: WorldId = world_id(&kitchen, "bob/yard").parse().unwrap();
    done(&kitchen, "world add bob/loft");
    let loft: WorldId = world_id(&kitchen, "bob/loft").parse().unwrap();
    go(&kitchen, "bob", "bob/yard");
    go(&attic, "alice", "bob@kitchen/yard");
    let probe = Probe::new("probe");
    let peer = probe.meet(&kitchen);
    let ears = [&kitchen, &attic].map(ear);
    let [bob, alice] = [(&kitchen, "bob"), (&attic, "alice")]
        .map(|(node, who)| text(&place(node, who), "id").parse::<AccountId>().unwrap());
    let says = |account: AccountId, text: &str| Fleeting {
        world: yard,
        account,
        name: "bob".to_owned(),
        act: Act::Say(text.to_owned()),
    };
    let record = account_of(&probe, "mallory");
    let mallory = record.account_id().unwrap();
    act(&probe, peer, vec![says(mallory, "not there yet")]);

    let enters = json!({"record": hex(&record.sign(&probe.keys).0), "into": "bob/yard"});
    let entered = probe.tell(peer, "avatar.enter", enters).unwrap();

    assert_eq!((&entered["name"], &entered["called"]), (&json!("bob/yard"), &json!("mallory")));
    holds(&kitchen, "bob/yard", &["alice", "bob", "mallory"]);
    let wrong = vec![
        says(alice, "for alice"),
        says(bob, "for bob"),
        says(NOBODY, "for nobody"),
        Fleeting { world: loft, ..says(mallory, "elsewhere") },
        Fleeting { act: Act::Leave, ..says(alice, "") },
        Fleeting { act: Act::Leave, ..says(mallory, "") },
        Fleeting { act: Act::Come, ..says(mallory, "") },
        Fleeting { act: Act::Move(json!({"x": 1, "y": 1})), ..says(alice, "") },
        says(mallory, &"x".repeat(501)),
        says(mallory, "\u{1b}[2Jnothing"),
    ];
    act(&probe, peer, wrong);
    // It may say what its own people do; what they are called is said here.
    act(&probe, peer, vec![says(mallory, "it is me")]);
    for ear in &ears {
        let events = ear.until(|events| spoken(events).contains(&"mallory: it is me".to_owned()));
        assert_eq!(deeds(&events), [format!("mallory avatar_came {yard}")]);
        assert_eq!(spoken(&events), ["mallory: it is me"]);
    }

    // No more of that than of anybody: 40 in a second, and a second may end meanwhile.
    act(&probe, peer, (0..500).map(|number| says(mallory, &format!("{number}"))).collect());
    say(&kitchen, "bob", "enough");
    for ear in &ears {
        let events = ear.until(|events| spoken(events).last() == Some(&"bob: enough".to_owned()));
        let shown = spoken(&events).len();
        assert!((3..=2 + 80).contains(&shown), "{shown} were shown");
        assert!(acts(&events).iter().all(|event| event["kind"] != "avatar_moved"));
    }
    assert_eq!(place(&attic, "alice")["world_name"], "bob/yard");
}

#[test]
fn a_late_yes_takes_nobody_away_from_where_they_went_since() {
    let [attic] = homes(["attic"]);
    done(&attic, "world add alice/loft");
    let probe = Probe::new("probe");
    let peer = probe.meet(&attic);
    let table = [
        ("alice/garden", "world enter alice/loft --as alice", "alice/loft"),
        ("alice/loft", "world leave --own --as alice", "alice/garden"),
        ("alice/garden", "world enter alice/garden --as alice", "alice/garden"),
    ];

    for (from, words, to) in table {
        go(&attic, "alice", from);
        let before = probe.told().len();
        enter_den(&attic, &probe, "alice");
        assert_eq!(done(&attic, words)["name"], to);

        placed(&probe, peer, &attic, "alice", DEN).unwrap();

        assert_eq!(place(&attic, "alice")["world_name"], to, "{from}: {words}");
        let is_left = |(command, _): &(String, Json)| command == "avatar.leave";
        wait_for("that she is not there", || {
            probe.told().iter().skip(before).any(is_left).then_some(())
        });
    }
}

#[test]
fn a_host_that_shows_nothing_keeps_nobody() {
    let [attic] = homes(["attic"]);
    done(&attic, "world add alice/shed");
    let probe = Probe::new("probe");
    let peer = probe.meet(&attic);
    go(&attic, "alice", "alice/garden");

    for (words, to) in [
        ("world leave --as alice", "alice/garden"),
        ("world leave --own --as alice", "alice/garden"),
        ("world enter alice/shed --as alice", "alice/shed"),
        ("world enter garden --as alice", "alice/garden"),
    ] {
        enter_den(&attic, &probe, "alice");
        placed(&probe, peer, &attic, "alice", DEN).unwrap();
        stands(&attic, "alice", "eve/den");
        refused(&attic, "world look --as alice", 5, "not_offered");

        assert_eq!(done(&attic, words)["name"], to, "{words}");

        assert_eq!(place(&attic, "alice")["world_name"], to, "{words}");
        assert_eq!(people(&attic, to), ["alice"], "{words}");
    }
}

// What cannot be done.

#[test]
fn what_cannot_be_entered_said_or_done_has_its_code_and_changes_nothing() {
    let [attic, mut kitchen] = homes(["attic", "kitchen"]);
    done(&attic, "account add carol");
    let as_alice = |words: &[&str], exit: i32, code: &str| {
        attic.refused(&[words, &["--as", "alice"]].concat(), exit, code)
    };
    let worlds = [
        ("nosuch", 4, "not_found"),
        ("alice/nosuch", 4, "not_found"),
        ("nobody/garden", 4, "not_found"),
        ("alice/garden/nosuch", 4, "not_found"),
        ("bob@kitchen/nosuch", 5, "not_offered"),
        ("eve@kitchen/yard", 5, "not_offered"),
        ("bob@kitchen/yard/lamp", 5, "not_offered"),
        ("bob@nosuch/yard", 4, "not_found"),
        ("a/b/c/d", 2, "usage"),
        ("bob@/yard", 2, "usage"),
    ];
    let in_no_world = || {
        for words in
            [&["world", "look"][..], &["avatar", "say", "hello"], &["avatar", "move", "1", "2"]]
        {
            let problem = as_alice(words, 4, "not_found");
            assert_eq!(problem["detail"], "you are in no world", "{words:?}");
        }
    };
    in_no_world();
    for (world, exit, code) in worlds {
        as_alice(&["world", "enter", world], exit, code);
    }
    in_no_world();

    go(&attic, "alice", "alice/garden");
    let heard = ear(&attic);
    let before = place(&attic, "alice");
    for (world, exit, code) in worlds {
        as_alice(&["world", "enter", world], exit, code);
    }
    let long = "x".repeat(501);
    for said in [long.as_str(), "two\nlines", "\u{1b}[2Jgone", "a bell\u{7}", "\u{9b}31m", "   "] {
        as_alice(&["avatar", "say", said], 2, "usage");
    }
    for to in [["north", "2"], ["1", "true"], ["1", "{\"y\": 1}"], ["null", "1"]] {
        as_alice(&[&["avatar", "move"][..], &to[..]].concat(), 2, "wrong_kind");
    }
    as_alice(&["avatar", "move", "1"], 2, "usage");
    as_alice(&["avatar", "say"], 2, "usage");
    refused(&attic, "world look bob@kitchen/yard --as alice", 4, "not_found");
    assert_eq!(place(&attic, "alice"), before);
    // As long as it may be, it is counted in letters.
    let longest = "\u{fc}".repeat(500);
    say(&attic, "alice", &longest);
    let events = heard.until(|events| !acts(events).is_empty());
    assert_eq!(spoken(&events), [format!("alice: {longest}")]);
    assert_eq!(acts(&events).len(), 1);

    // What could not be handed over is not done later.
    assert_eq!(kitchen.stop(), 0);
    as_alice(&["world", "enter", "bob@kitchen/yard", "--timeout", "1s"], 3, "peer_unreachable");
    assert_eq!(place(&attic, "alice"), before);
    kitchen.restart();
    go(&attic, "carol", "bob@kitchen/yard");
    assert_eq!(people(&kitchen, "bob/yard"), ["carol"]);
    assert_eq!(place(&attic, "alice"), before);
}

#[test]
fn who_finds_a_server_full_is_told_and_those_of_others_still_come() {
    let [kitchen, attic] = homes(["kitchen", "attic"]);
    let probe = Probe::new("probe");
    let peer = probe.meet(&kitchen);
    let enter = |number: usize| {
        let record = account_of(&probe, &format!("crowd-{number}"));
        let record = hex(&record.sign(&probe.keys).0);
        probe.tell(peer, "avatar.enter", json!({"record": record, "into": "bob/yard"}))
    };
    for number in 0..GUESTS_OF_SERVER_MAX {
        enter(number).unwrap();
    }

    let problem = enter(GUESTS_OF_SERVER_MAX).unwrap_err();

    assert_eq!(problem.code, Code::OverLimit, "{problem:?}");
    assert_eq!(people(&kitchen, "bob/yard").len(), GUESTS_SEEN_MAX);
    go(&attic, "alice", "bob@kitchen/yard");
    let first = account_of(&probe, "crowd-0").account_id().unwrap();
    let yard = world_id(&kitchen, "bob/yard");
    probe.tell(peer, "avatar.leave", json!({"account": first, "world": yard})).unwrap();
    enter(GUESTS_OF_SERVER_MAX).unwrap();
}

#[test]
fn a_server_that_asks_for_what_this_version_does_not_know_is_told_so_and_nobody_moves() {
    let [kitchen] = homes(["kitchen"]);
    let probe = Probe::new("probe");
    let peer = probe.meet(&kitchen);
    let record = hex(&account_of(&probe, "mallory").sign(&probe.keys).0);
    let enters = json!({"record": record, "into": "bob/yard", "dimension": 4});

    let problem = probe.tell(peer, "avatar.enter", enters).unwrap_err();

    assert_eq!(problem.code, Code::UnknownField, "{problem:?}");
    assert!(problem.says.contains("dimension"), "{problem:?}");
    let problem = probe.tell(peer, "avatar.fly", json!({})).unwrap_err();
    assert_eq!(problem.code, Code::UnknownCommand, "{problem:?}");
    assert_eq!(people(&kitchen, "bob/yard"), [""; 0]);
    let faults = done(&kitchen, "server show probe")["faults"].clone();
    assert_eq!(faults, json!({}), "to be newer is no fault");
}

#[test]
fn an_avatar_is_nothing_that_can_be_moved_taken_destroyed_given_or_shared() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    done(&attic, "account add carol");
    done(&attic, "world add alice/shed");
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", "name = \"bag\"\n");
    done(&attic, "element create bag --name bag --world alice/garden --as alice");
    done(&attic, "set add alice/garden/bag --as alice");
    go(&attic, "alice", "alice/garden");
    let avatar = text(&place(&attic, "alice"), "avatar");
    let calls = [
        "element destroy IT",
        "element give IT carol",
        "element take IT",
        "element move IT alice/shed",
        "element move IT bob@kitchen/yard",
        "element share IT bob@kitchen/yard",
    ];

    for name in [avatar.as_str(), "alice/garden/alice"] {
        for words in calls {
            let words = words.replace("IT", name);
            refused(&attic, &format!("{words} --as alice"), 8, "conflict");
            refused(&attic, &format!("{words} --as carol"), 5, "not_permitted");
        }
    }
    assert_eq!(people(&attic, "alice/garden"), ["alice"]);
    assert_eq!(done(&attic, "element held --as alice")["items"], json!([]));
    assert_eq!(done(&attic, "transfer ls --as alice")["items"], json!([]));
    // Nobody can make one.
    let ghost = "element create server:avatar --name ghost --world alice/garden --as alice";
    refused(&attic, ghost, 5, "not_permitted");

    // It may stand in a set of the world; it leaves that with the world.
    done(&attic, &format!("set enter alice/garden/bag {avatar} --as alice"));
    done(&attic, &format!("set leave alice/garden {avatar} --as alice"));
    go(&attic, "alice", "bob@kitchen/yard");
    assert_eq!(done(&attic, "set ls alice/garden/bag --as alice")["items"], json!([]));
    refused(&attic, &format!("element show {avatar} --as alice"), 4, "not_found");

    // Nor can the owner of a world do any of that with a guest.
    for words in calls {
        let words = words.replace("IT", &avatar).replace("carol", "bob");
        let words = words.replace("alice/shed", "bob/yard");
        refused(&kitchen, &format!("{words} --as bob"), 5, "not_permitted");
    }
    assert_eq!(people(&kitchen, "bob/yard"), ["alice"]);
}

#[test]
fn an_avatar_of_a_type_of_ones_own_is_still_a_person() {
    let [attic] = homes(["attic"]);
    publish(&attic, "alice", "name = \"puppet\"\nparents = [\"server:avatar\"]\n");
    go(&attic, "alice", "alice/garden");

    // Whether it may become one or not.
    attic.say(&split("element become alice/garden/alice puppet --as alice"));

    let room = done(&attic, "world look --as alice");
    assert_eq!(
        (people(&attic, "alice/garden"), &room["things"]),
        (vec!["alice".to_owned()], &json!([]))
    );
    go(&attic, "alice", "alice/garden");
    assert_eq!(done(&attic, "world leave --as alice")["id"], Json::Null);
    assert_eq!(done(&attic, "world look alice/garden")["things"], json!([]));
    assert_eq!(people(&attic, "alice/garden"), [""; 0]);
}

#[test]
fn the_look_of_an_avatar_is_its_own_to_write_everybodys_to_read_and_gone_with_it() {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    done(&attic, "account add carol");
    done(&attic, "world add alice/shed");
    let look = || done(&attic, "element get alice/garden/alice look --as carol")["value"].clone();
    go(&attic, "alice", "alice/garden");
    assert_eq!(look(), "");

    done(&attic, "element set alice/garden/alice look tall --as alice");

    assert_eq!(look(), "tall");
    let far = done(&kitchen, "element get alice@attic/garden/alice look");
    assert_eq!(far["value"], "tall");
    for (node, words) in [
        (&attic, "element set alice/garden/alice look small --as carol"),
        (&kitchen, "element set alice@attic/garden/alice look small"),
    ] {
        assert_eq!(node.say(&split(words)).exit, 5, "{words}");
    }
    assert_eq!(look(), "tall");
    go(&attic, "alice", "alice/shed");
    refused(&attic, "element get alice/garden/alice look", 4, "not_found");
    go(&attic, "alice", "alice/garden");
    assert_eq!(look(), "");
    // In a world elsewhere she writes it from home.
    go(&attic, "alice", "bob@kitchen/yard");
    done(&attic, "element set bob@kitchen/yard/alice look small --as alice");
    assert_eq!(done(&kitchen, "element get bob/yard/alice look")["value"], "small");
    let others = "element set bob@kitchen/yard/alice look tall --as carol";
    assert_eq!(attic.say(&split(others)).exit, 5);
    assert_eq!(done(&kitchen, "element get bob/yard/alice look")["value"], "small");
}

#[test]
fn the_avatars_of_a_home_of_before_are_brought_up_to_date() {
    let [mut attic] = homes(["attic"]);
    assert_eq!(attic.stop(), 0);
    let key = Key::Type(SystemType::Avatar.id());
    let store = Store::open(Folder(attic.home.clone()), Arc::new(|_: ServerId| Contact::default()))
        .unwrap();
    let held = store.view().unwrap().row(&key).unwrap();
    let Some(Row::Type(held)) = held else { panic!("there is no type") };
    let mut before = held.as_ref().clone();
    before.definition.attributes.get_mut("look").unwrap().write = Level::Private;
    store.commit(&Changes::from([(key, Some(Row::Type(Arc::new(before))))])).unwrap();
    drop(store);

    attic.restart();

    let shown = done(&attic, "type show server:avatar");
    assert_eq!(shown["revision"], 2, "{shown}");
    let look = &shown["definition"]["attributes"]["look"];
    assert_eq!(look["write"], "public", "{shown}");
    assert_eq!(attic.stop(), 0);
    attic.restart();
    assert_eq!(done(&attic, "type show server:avatar")["revision"], 2);
}

// What acts in an avatar.

/// Counts at home who comes where the avatar stands, switches the lamp there, and is never angry.
const PUPPET: &str = r#"
name = "puppet"
parents = ["server:avatar"]

[attributes.mood]
kind = "string"
default = ""
read = "public"
write = "public"
write_group = "owner"

[actions.shy]
on = "before:value_change"
attribute = "mood"
level = "public"
script = 'if event.value == "angry" then refuse("never angry") end'

[actions.greet]
on = "after:element_enters_set"
of = "set"
level = "public"
script = '''
send("count", {}, "alice/garden/book")
send("toggle", {}, "bob@kitchen/yard/lamp")
'''
"#;

const BOOK: &str = r#"
name = "book"

[attributes.seen]
kind = "integer"
default = 0

[events.count]

[actions.count]
on = "event:count"
script = 'set("seen", get("seen") + 1)'
"#;

/// The attic, where alice's avatar is a puppet that writes into a book, and the kitchen with a lamp.
fn puppeteer(allows: bool) -> [Node; 2] {
    let [attic, kitchen] = homes(["attic", "kitchen"]);
    publish(&attic, "alice", PUPPET);
    publish(&attic, "alice", BOOK);
    done(&attic, "element create book --name book --as alice");
    publish(&kitchen, "bob", LAMP);
    done(&kitchen, "element create lamp --name lamp --as bob");
    if allows {
        done(&kitchen, "server allow attic");
    }
    let became = done(&attic, "avatar become puppet --as alice");
    assert_eq!(became["type"], "puppet");
    [attic, kitchen]
}

#[test]
fn what_acts_in_an_avatar_runs_at_its_home_wherever_it_stands() {
    let [mut attic, kitchen] = puppeteer(true);
    let seen = |attic: &Node| done(attic, "element get book seen --as alice")["value"].clone();
    go(&attic, "alice", "bob@kitchen/yard");
    let shown = done(&kitchen, "element show bob/yard/alice");
    assert_eq!((&shown["type"], &shown["avatar"]), (&json!("puppet"), &json!("proxy")));

    go(&kitchen, "bob", "bob/yard");

    attic.until(&split("element get book seen --as alice"), |got| got["value"] == 1);
    kitchen.until(&split("element get bob/yard/lamp on"), |got| got["value"] == true);
    // What is asked before something happens is asked at home.
    let mood = "element set bob@kitchen/yard/alice mood";
    let problem = refused(&attic, &format!("{mood} angry --as alice"), 5, "refused");
    assert_eq!(problem["detail"], "never angry");
    done(&attic, &format!("{mood} glad --as alice"));
    assert_eq!(done(&kitchen, "element get bob/yard/alice mood")["value"], "glad");
    // It is still that after the home was started anew, and in a world of its own.
    assert_eq!(attic.stop(), 0);
    attic.restart();
    stands(&attic, "alice", "bob/yard");
    holds(&kitchen, "bob/yard", &["alice", "bob"]);
    assert_eq!(done(&kitchen, "element show bob/yard/alice")["type"], "puppet");
    assert_eq!(seen(&attic), 1);
    go(&attic, "alice", "alice/garden");
    let shown = done(&attic, "element show alice/garden/alice");
    assert_eq!((&shown["type"], &shown["avatar"]), (&json!("puppet"), &json!("player")));
    done(&attic, "account add carol");
    go(&attic, "carol", "alice/garden");
    assert_eq!(seen(&attic), 2);
}

#[test]
fn a_host_that_takes_no_types_shows_a_plain_avatar() {
    let [attic, kitchen] = puppeteer(false);

    go(&attic, "alice", "bob@kitchen/yard");

    assert_eq!(done(&kitchen, "element show bob/yard/alice")["type"], "avatar");
    assert_eq!(people(&kitchen, "bob/yard"), ["alice"]);
}

#[test]
fn an_avatar_is_made_from_a_type_of_its_own_account_or_a_plain_one() {
    let [attic, _kitchen] = puppeteer(false);
    done(&attic, "account add carol");
    publish(&attic, "carol", &PUPPET.replace("puppet", "clown"));
    publish(&attic, "alice", "name = \"stone\"\n");
    for (words, exit, code) in [
        ("avatar become nosuch", 4, "not_found"),
        ("avatar become stone", 8, "conflict"),
        ("avatar become carol:clown", 5, "not_permitted"),
    ] {
        refused(&attic, &format!("{words} --as alice"), exit, code);
    }
    go(&attic, "alice", "alice/garden");
    assert_eq!(done(&attic, "element show alice/garden/alice")["type"], "puppet");

    assert_eq!(done(&attic, "avatar become --as alice")["type"], "avatar");

    assert_eq!(done(&attic, "element show alice/garden/alice")["type"], "puppet");
    done(&attic, "world leave --as alice");
    go(&attic, "alice", "alice/garden");
    assert_eq!(done(&attic, "element show alice/garden/alice")["type"], "avatar");
}

#[test]
fn what_makes_things_act_is_a_player_code_that_is_local_or_a_proxy() {
    let [attic, kitchen] = puppeteer(true);
    publish(&kitchen, "bob", "name = \"stone\"\n");
    publish(&kitchen, "bob", &BOOK.replace("book", "ledger"));
    done(&kitchen, "element create stone --name stone --as bob");
    done(&kitchen, "element create ledger --name ledger --as bob");
    done(&attic, "element create book --name diary --as alice");
    done(&attic, "element share diary bob@kitchen/yard --as alice");
    go(&attic, "alice", "bob@kitchen/yard");
    go(&kitchen, "bob", "bob/yard");
    let made_of =
        |name: &str| done(&kitchen, &format!("element show bob/yard/{name}"))["avatar"].clone();

    let kinds = ["bob", "alice", "diary", "lamp", "ledger"].map(made_of);

    assert_eq!(kinds, ["player", "proxy", "proxy", "local", "local"]);
    assert_eq!(made_of("stone"), Json::Null);
    let listed = done(&kitchen, "avatar ls --all");
    let kind = |name: &str| item_of(&listed, name)["kind"].clone();
    assert_eq!((kind("bob"), kind("alice")), (json!("player"), json!("proxy")));
    assert_eq!(item_of(&listed, "alice")["home"], "attic");
    assert_eq!(item_of(&done(&kitchen, "avatar ls"), "alice"), Json::Null);
    // What it may see nothing of, another server is not told either.
    let room = done(&attic, "world look --as alice");
    let things = room["things"].as_array().unwrap();
    let told =
        |name: &str| things.iter().find(|thing| thing["name"] == name).unwrap()["avatar"].clone();
    assert_eq!((told("lamp"), told("ledger")), (json!("local"), Json::Null), "{room}");
}

// Whenever a machine dies.

/// Moments of a visit at which one side is killed, in milliseconds after it begins.
const MOMENTS_MS: [u64; 14] = [0, 20, 45, 80, 110, 150, 190, 240, 300, 370, 450, 540, 640, 750];
/// At these of them it is back only after the grace.
const LONG: [usize; 2] = [4, 10];
/// Longer than the grace.
const AFTER_GRACE: Duration = Duration::from_secs(6);

const DIARY: &str = "name = \"diary\"\n[attributes.page]\nkind = \"integer\"\ndefault = 0\n";

/// What a visit has done so far, as alice was told.
#[derive(Default)]
struct Visited {
    /// Steps of the host's lamp that were asked for, and the newest one of which she was told.
    steps: (u64, u64),
    /// Pages of her diary, likewise.
    pages: (u64, u64),
}

impl Visited {
    /// One call after another: in, a step of the lamp, about, a page, and out again.
    fn goes_on(&mut self, attic: &Node, turn: u64) {
        let call = |words: &str| attic.say(&split(&format!("{words} --as alice --timeout 2s")));
        match turn % 5 {
            0 => drop(call("world enter bob@kitchen/yard")),
            1 => {
                self.steps.0 += 1;
                let said = call("action call bob@kitchen/yard/lamp step");
                if let Some(count) = said.out["result"]["count"].as_u64() {
                    self.steps.1 = self.steps.1.max(count);
                }
            }
            2 => drop(call(&format!("avatar move {turn} 1"))),
            3 => {
                let page = self.pages.0 + 1;
                self.pages.0 = page;
                if call(&format!("element set alice/garden/diary page {page}")).exit == 0 {
                    self.pages.1 = page;
                }
            }
            _ => drop(call("world leave")),
        }
    }
}

/// Kills one of two nodes while alice goes from the attic to the kitchen and back, at each moment.
fn visit_and_die(dies: usize) {
    let mut nodes = homes(["attic", "kitchen"]);
    publish(&nodes[1], "bob", LAMP);
    done(&nodes[1], "element create lamp --name lamp --as bob");
    publish(&nodes[0], "alice", DIARY);
    done(&nodes[0], "element create diary --name diary --as alice");
    let mut visited = Visited::default();
    for (round, moment_ms) in MOMENTS_MS.into_iter().enumerate() {
        let (attic, is_over) = (&nodes[0], AtomicBool::new(false));
        std::thread::scope(|scope| {
            let (visited, is_over) = (&mut visited, &is_over);
            let visit = scope.spawn(move || {
                // Each round begins at another of the five.
                for turn in (round as u64).. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    visited.goes_on(attic, turn);
                }
            });
            std::thread::sleep(Duration::from_millis(moment_ms));
            nodes[dies].signal("KILL");
            is_over.store(true, Ordering::Relaxed);
            visit.join().unwrap();
        });
        nodes[dies].kill();
        if LONG.contains(&round) {
            std::thread::sleep(AFTER_GRACE);
        }
        nodes[dies].restart();
        nothing_is_lost(&nodes, &visited, moment_ms);
    }
    assert!(visited.steps.1 > 0 && visited.pages.1 > 0, "nothing was ever done");
}

fn nothing_is_lost(nodes: &[Node; 2], visited: &Visited, moment_ms: u64) {
    let [attic, kitchen] = nodes;
    let (asked, told) = visited.steps;
    let count = done(kitchen, "element get bob/yard/lamp count")["value"].as_u64().unwrap();
    assert!((told..=asked).contains(&count), "{moment_ms} ms: {count} of {told} to {asked} steps");
    let (asked, told) = visited.pages;
    let page = done(attic, "element get diary page --as alice")["value"].as_u64().unwrap();
    assert!((told..=asked).contains(&page), "{moment_ms} ms: page {page} of {told} to {asked}");
    connected(attic, "kitchen");
    connected(kitchen, "attic");
    // Both come to say the same, and she is in one place.
    let agree = || {
        let place = place(attic, "alice");
        let (here, there) = (people(attic, "alice/garden"), people(kitchen, "bob/yard"));
        let name = place["world_name"].as_str();
        let is_here = here == ["alice"];
        let is_there = there == ["alice"];
        place["returns"] != true
            && is_here == (name == Some("alice/garden"))
            && is_there == (name == Some("bob/yard"))
    };
    let begun = now();
    while !agree() {
        let waited = begun.elapsed();
        let where_is = place(attic, "alice");
        assert!(waited < PATIENCE, "{moment_ms} ms: {where_is} {:?}", people(kitchen, "bob/yard"));
    }
    done(attic, "world leave --own --as alice");
    stands(attic, "alice", "alice/garden");
    holds(kitchen, "bob/yard", &[]);
    assert_eq!(people(attic, "alice/garden"), ["alice"], "{moment_ms} ms");
}

#[test]
fn a_host_that_is_killed_at_any_moment_of_a_visit_loses_nothing_and_the_visitor_comes_home() {
    visit_and_die(1);
}

#[test]
fn a_home_that_is_killed_at_any_moment_of_a_visit_loses_nothing_and_its_own_come_home() {
    visit_and_die(0);
}

// Whatever happens.

/// `SEED=17 cargo test --test visits whatever -- --nocapture` draws another sequence, and tells it.
#[test]
fn an_avatar_is_in_one_place_whatever_is_entered_left_and_restarted() {
    let seed = std::env::var("SEED").map_or(11, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut nodes = homes(["attic", "kitchen", "cellar"]);
    for node in &nodes {
        // From now on each of them dials the others when it starts.
        let others: Vec<&Node> = nodes.iter().filter(|other| other.name != node.name).collect();
        node.write_bootstrap(&others);
    }
    done(&nodes[0], "account add dora");
    let people = [(0, "alice"), (0, "dora"), (1, "bob"), (2, "eve")];
    let mut down = None;

    for step in 1..=STEPS {
        let is_quiet = step % QUIET_EVERY == 0;
        if let Some(at) = down.take_if(|_| is_quiet || dice.chance(400)) {
            restarted(step, &mut nodes, at);
        }
        if is_quiet {
            println!("{step}: all is quiet");
            nodes[0].until(&["avatar", "ls"], |_| agrees(&nodes));
            // And it stays so.
            assert!(agrees(&nodes));
            continue;
        }
        match dice.below(12) {
            0 | 1 if down.is_none() => {
                let at = dice.index(nodes.len());
                fallen(step, &mut nodes, at, dice.chance(500));
                down = Some(at);
            }
            2 if down.is_none() => {
                let at = dice.index(nodes.len());
                fallen(step, &mut nodes, at, dice.chance(800));
                restarted(step, &mut nodes, at);
            }
            kind => {
                let there: Vec<(usize, &str)> =
                    people.into_iter().filter(|(at, _)| Some(*at) != down).collect();
                let (at, who) = dice.one_of(&there);
                let words = match kind {
                    3 => "avatar say hello".to_owned(),
                    4 | 5 => "world leave".to_owned(),
                    6 => "world leave --own".to_owned(),
                    _ => {
                        let to = dice.index(nodes.len());
                        format!("world enter {}", name_from(at, to, &nodes))
                    }
                };
                let words = format!("{words} --as {who} --timeout 2s");
                let said = nodes[at].say(&split(&words));
                println!("{step}: {}$ {words}: {} {}", nodes[at].name, said.exit, said.err);
                assert!([0, 3, 4, 6].contains(&said.exit), "{words}: {said:?}");
            }
        }
    }
}

/// A node stops, or is killed.
fn fallen(step: u64, nodes: &mut [Node], at: usize, is_killed: bool) {
    println!("{step}: {} {}", nodes[at].name, if is_killed { "is killed" } else { "stops" });
    if is_killed {
        nodes[at].kill();
    } else {
        assert_eq!(nodes[at].stop(), 0);
    }
}

fn restarted(step: u64, nodes: &mut [Node], at: usize) {
    println!("{step}: {} starts", nodes[at].name);
    nodes[at].restart();
}

/// What the world of one node is called at another.
fn name_from(at: usize, to: usize, nodes: &[Node]) -> String {
    let world = own_world(&nodes[to].name);
    if at == to {
        return world.to_owned();
    }
    let (owner, name) = world.split_once('/').unwrap();
    format!("{owner}@{}/{name}", nodes[to].name)
}

/// Whether everybody is seen where their home says, there alone, and nobody is still to go on with a
/// visit.
fn agrees(nodes: &[Node]) -> bool {
    let mut said = BTreeMap::new();
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut returning = Vec::new();
    for node in nodes {
        for item in done(node, "avatar ls")["items"].as_array().unwrap() {
            if item["returns"] == true {
                returning.push(text(item, "name"));
            }
            if let Some(world) = item["world"].as_str() {
                said.insert(text(item, "id"), vec![world.to_owned()]);
            }
        }
        let room = done(node, &format!("world look {}", own_world(&node.name)));
        for person in room["people"].as_array().unwrap() {
            seen.entry(text(person, "account")).or_default().push(text(&room, "id"));
        }
    }
    let agree = returning.is_empty() && said == seen;
    if !agree {
        println!("  said {said:?}, seen {seen:?}, returning {returning:?}");
    }
    agree
}

// What the tests stand on.

/// A way to another world.
const GATE: &str = r#"
name = "gate"

[attributes.portal]
kind = "string"
read = "public"
"#;

/// A world that can be closed.
const LOCKABLE: &str = r#"
name = "lockable"
parents = ["server:world"]

[attributes.closed]
kind = "bool"
default = false

[actions.door]
on = "before:set_element_added"
script = '''
if get("closed") then
  refuse("it is closed")
end
'''
"#;

/// A world whose owner is asked about everybody who comes.
const KNOCK: &str = r#"
name = "knock"
parents = ["server:world"]

[actions.knock]
on = "before:set_element_added"
ask = "May somebody come in?"
"#;

/// A node that nobody finds by chance. It listens on TCP alone: there the end of a process is
/// noticed at once.
fn quiet(name: &str, peers: &[&Node]) -> Node {
    let mut node = Node::home(name);
    std::fs::create_dir_all(&node.home).unwrap();
    std::fs::write(node.home.join("freehold.toml"), "mdns = false\n").unwrap();
    node.listen_first = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    node.write_bootstrap(peers);
    node.restart();
    node
}

/// Servers that have met each other, each with somebody who is at home there and has a world. The
/// later ones dial the earlier ones.
fn homes<const N: usize>(names: [&str; N]) -> [Node; N] {
    let mut nodes: Vec<Node> = Vec::new();
    for name in names {
        let peers: Vec<&Node> = nodes.iter().collect();
        let node = quiet(name, &peers);
        nodes.push(node);
    }
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.name != one.name) {
            connected(one, &other.name);
        }
        settle(one, own_world(&one.name));
    }
    nodes.try_into().unwrap_or_else(|_| panic!("there are as many nodes as names"))
}

/// The world of whoever is at home on a node.
fn own_world(node: &str) -> &'static str {
    match node {
        "attic" => "alice/garden",
        "kitchen" => "bob/yard",
        "cellar" => "eve/vault",
        other => panic!("nobody is at home in the {other}"),
    }
}

fn connected(node: &Node, other: &str) {
    node.until(&["server", "show", other], |shown| shown["connected"] == true);
}

/// Makes an account with a world.
fn settle(node: &Node, world: &str) {
    done(node, &format!("account add {}", owner_of(world)));
    done(node, &format!("world add {world}"));
}

fn owner_of(world: &str) -> &str {
    world.split_once('/').unwrap().0
}

/// Publishes a type that must be good.
fn publish(node: &Node, who: &str, text: &str) {
    let file = node.file("published.toml", text);
    node.done(&["type", "publish", path(&file), "--as", who]);
}

/// Makes a world one that can be closed.
fn lockable(node: &Node, world: &str) {
    let owner = owner_of(world);
    publish(node, owner, LOCKABLE);
    done(node, &format!("element become {world} lockable --as {owner}"));
}

fn close(node: &Node, world: &str) {
    done(node, &format!("element set {world} closed true --as {}", owner_of(world)));
}

/// The only entry of the inbox, once it is there.
fn question(node: &Node) -> Json {
    let one = |inbox: &Json| inbox["items"].as_array().is_some_and(|items| items.len() == 1);
    node.until(&["inbox"], one)["items"][0].clone()
}

// People.

/// Somebody goes into a world, and is there as far as their home knows.
fn go(node: &Node, who: &str, world: &str) {
    done(node, &format!("world enter {world} --as {who}"));
    let name = match world.split_once('@') {
        Some((owner, rest)) => format!("{owner}/{}", rest.split_once('/').unwrap().1),
        None => world.to_owned(),
    };
    stands(node, who, name);
}

/// Where somebody is, as their home says; null where they never were anywhere.
fn place(node: &Node, who: &str) -> Json {
    item_of(&done(node, "avatar ls"), who)
}

/// Waits until somebody is in a world as far as their home knows, or in none.
fn stands(node: &Node, who: &str, world: impl Into<Json>) -> Json {
    let world = world.into();
    let is_there = |listed: &Json| {
        let item = item_of(listed, who);
        item.is_object() && item["world_name"] == world
    };
    item_of(&node.until(&["avatar", "ls"], is_there), who)
}

/// Who is in a world of this node, as it shows it.
fn people(node: &Node, world: &str) -> Vec<String> {
    names_in(&done(node, &format!("world look {world}")))
}

/// Waits until these are in a world of this node, and nobody else.
fn holds(node: &Node, world: &str, who: &[&str]) {
    node.until(&["world", "look", world], |room| names_in(room) == who);
}

fn names_in(room: &Json) -> Vec<String> {
    let people = room["people"].as_array().unwrap();
    let mut names: Vec<String> = people.iter().map(|person| text(person, "name")).collect();
    names.sort_unstable();
    names
}

/// The ways out of a room, each with where it leads.
fn exits_of(room: &Json) -> Vec<(String, String)> {
    let exits = room["exits"].as_array().unwrap();
    exits.iter().map(|exit| (text(exit, "name"), text(exit, "to"))).collect()
}

fn world_id(node: &Node, world: &str) -> String {
    text(&done(node, &format!("world show {world}")), "id")
}

fn say(node: &Node, who: &str, text: &str) {
    let said = node.done(&["avatar", "say", text, "--as", who]);
    assert_eq!(said["said"], text);
}

// What is heard.

/// Follows everything that happens at a node, and waits until it is really heard.
fn ear(node: &Node) -> Events {
    let events = node.events(&[]);
    let world = own_world(&node.name);
    let words = format!("element set {world} description listening --as {}", owner_of(world));
    let is_heard = || events.so_far().iter().any(|event| event["value"] == "listening");
    node.until(&split(&words), |_| is_heard());
    events
}

/// Lets something happen that is kept, and gives back the id of its event.
fn beat(node: &Node, ear: &Events, word: &str) -> String {
    let world = own_world(&node.name);
    done(node, &format!("element set {world} description {word} --as {}", owner_of(world)));
    let is_it = |event: &&Json| event["value"] == word;
    let events = ear.until(|events| events.iter().any(|event| is_it(&event)));
    text(events.iter().find(is_it).unwrap(), "id")
}

/// What people did, of all that happened.
fn acts(events: &[Json]) -> Vec<&Json> {
    let is_act =
        |event: &&Json| event["kind"].as_str().is_some_and(|kind| kind.starts_with("avatar_"));
    events.iter().filter(is_act).collect()
}

/// Who said what, in order.
fn spoken(events: &[Json]) -> Vec<String> {
    let said = acts(events).into_iter().filter(|event| event["kind"] == "avatar_said");
    said.map(|event| {
        format!("{}: {}", text(&event["value"], "name"), text(&event["value"], "text"))
    })
    .collect()
}

/// Who came into which world, or left it, in order.
fn deeds(events: &[Json]) -> Vec<String> {
    let is_deed = |kind: &Json| kind == "avatar_came" || kind == "avatar_left";
    let deeds = acts(events).into_iter().filter(|event| is_deed(&event["kind"]));
    deeds
        .map(|event| {
            let who = text(&event["value"], "name");
            format!("{who} {} {}", text(event, "kind"), text(event, "world"))
        })
        .collect()
}

/// A stream of events, as a program with a key hears it.
struct Stream {
    lines: BufReader<TcpStream>,
}

impl Stream {
    /// Opens a stream of events of a kind; from then on nothing is missed.
    fn open(node: &Node, key: &str, kind: &str) -> Self {
        let host = node.api();
        let mut stream = TcpStream::connect(&host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /api/v1/events?kinds={kind} HTTP/1.1\r\nHost: {host}\r\n\
             Authorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut opened = Self { lines: BufReader::new(stream) };
        let status = opened.line();
        assert!(status.contains(" 200 "), "{status}");
        while !opened.line().is_empty() {}
        opened
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        assert!(read.as_ref().is_ok_and(|bytes| *bytes > 0), "the stream ended: {read:?}");
        line.trim_end().to_owned()
    }

    /// The next event, which must come.
    fn next(&mut self) -> Json {
        loop {
            // The sizes of chunks stand between; each event is a chunk of its own.
            if let Some(data) = self.line().strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

// A peer that keeps to no rule.

/// Says what people do, as a host or as a home would.
fn act(probe: &Probe, to: PeerId, acts: Vec<Fleeting>) {
    probe.batch(to, Batch { acts, ..probe.empty() });
}

/// Somebody asks to be let into the world of a probe, which says yes to everything. That they are
/// there it has not said by that.
fn enter_den(node: &Node, probe: &Probe, who: &str) {
    let is_asked = |(command, _): &&(String, Json)| command == "avatar.enter";
    let before = probe.told().iter().filter(is_asked).count();
    done(node, &format!("world enter eve@{}/den --as {who}", probe.name));
    let asked = wait_for("that somebody wants to come", || {
        probe.told().iter().filter(is_asked).nth(before).cloned()
    });
    assert_eq!(asked.1["into"], "eve/den");
}

/// A probe says that somebody is in a world of its own.
fn placed(
    probe: &Probe,
    to: PeerId,
    home: &Node,
    who: &str,
    world: WorldId,
) -> Result<Json, Problem> {
    let account = text(&place(home, who), "id");
    let args = json!({"account": account, "world": world, "name": "eve/den"});
    probe.tell(to, "avatar.placed", args)
}

/// The record of somebody who is at home with a probe, as it is before it is signed.
fn account_of(probe: &Probe, name: &str) -> Record {
    let mut nonce = [0; 16];
    nonce[..name.len()].copy_from_slice(name.as_bytes());
    let inception = Inception {
        kind: RecordKind::Account,
        key: probe.keys.public(),
        recovery_hash: [7; 32],
        nonce,
    };
    Record::first(inception, Name::new(name).unwrap(), Some(probe.server))
}

// Words.

#[expect(clippy::disallowed_methods, reason = "how long people wait is what is measured")]
fn now() -> Instant {
    Instant::now()
}

/// What is listed under a name; null where nothing is.
fn item_of(listed: &Json, name: &str) -> Json {
    let items = listed["items"].as_array().unwrap_or_else(|| panic!("no list: {listed}"));
    items.iter().find(|item| item["name"] == name).cloned().unwrap_or_default()
}
