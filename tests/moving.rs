//! Things that are moved from one server to another: there and back, called off, refused, taken back,
//! picked up and put down, and with machines that fall meanwhile. Real nodes, nothing shared but the
//! network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must end, and say where")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use support::{Node, done, path, refused, split, text};

/// Stands in what is private, and nowhere else.
const MARKER: &str = "zq7kvkeptw4";
/// Offers of one server that wait for an answer at most.
const OPEN_MAX: usize = 64;
/// How often machines fall in one test.
const FALLS: u64 = 3;
/// How long after the call a machine falls at most, in milliseconds.
const FALLS_AFTER_MS_MAX: u64 = 60;
/// From which it is drawn when they fall.
const SEED: u64 = 17;
/// Offers the ball to bob.
const MOVE: &str = "element move ball bob@kitchen/yard --as alice";
/// Offers it to alice.
const MOVE_BACK: &str = "element move ball alice@attic/garden --as bob";

// There and back.

#[test]
fn a_thing_that_is_moved_is_the_receivers_and_its_old_name_leads_there_and_back() {
    let [attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let hums = |node: &Node| done(node, "action call ball hum")["result"].clone();

    let moved = done(&attic, MOVE);

    let told = ["state", "role", "name", "server", "world", "sealed", "acknowledged", "reason"];
    let want = json!(["offered", "giver", "ball", "kitchen", "bob/yard", false, false, null]);
    assert_eq!(Json::from_iter(told.map(|key| moved[key].clone())), want, "{moved}");
    assert_eq!(moved["things"], json!([ball]));
    let nothing = json!({"values": 0, "actions": 0, "refused": 0});
    assert_eq!(moved["stays_behind"], nothing);
    let entry = question(&kitchen);
    assert_eq!(entry["from"]["name"], "attic", "{entry}");
    assert_eq!(entry["asks"], "attic offers you 'ball' (ball) for your world 'yard'");

    done(&kitchen, &format!("approve {} --as bob", text(&entry, "id")));

    let id = text(&moved, "id");
    comes_to(&attic, &id, "accepted");
    let taken = until_known(&kitchen, &id);
    assert_eq!((&taken["role"], &taken["state"]), (&json!("receiver"), &json!("accepted")));
    assert_eq!(names_of(&done(&attic, "element ls --as alice")), "");
    assert_eq!(names_of(&done(&kitchen, "element ls")), "ball");
    assert_eq!(done(&kitchen, "element show ball")["owner"], "bob");
    // Who asks for it where it was is answered from where it is.
    for name in ["ball", "alice/garden/ball", ball.as_str()] {
        let read = done(&attic, &format!("element get {name} glow --as alice"));
        let told = (&read["value"], &read["origin"]);
        assert_eq!(told, (&json!(3), &kitchen.ready["server_id"]), "{name}");
    }
    done(&attic, "element set ball glow 4 --as alice");
    assert_eq!(value(&kitchen, "ball glow"), 4);
    let called = done(&attic, "action call ball hum --as alice");
    assert_eq!(called["result"], json!({"hums": "ball"}));
    assert_eq!(hums(&kitchen), json!({"hums": "ball"}));
    // It is alice's no more.
    for words in [MOVE, "element take ball --as alice", "element destroy ball --as alice"] {
        refused(&attic, words, 4, "not_found");
    }

    done(&kitchen, "element set ball glow 5");
    let back = text(&done(&kitchen, MOVE_BACK), "id");
    take_in(&attic);

    comes_to(&kitchen, &back, "accepted");
    until_known(&attic, &back);
    assert_eq!(id_of(&attic, "ball"), ball);
    assert_eq!(value(&attic, "ball glow --as alice"), 5);
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
    let read = done(&kitchen, "element get ball glow");
    assert_eq!((&read["value"], &read["origin"]), (&json!(5), &attic.ready["server_id"]));
    for node in [&attic, &kitchen] {
        let states = items_of(&done(node, "transfer ls"), "state");
        assert_eq!(states, ["accepted", "accepted"], "{}", node.name);
    }
}

#[test]
fn a_thing_goes_on_to_a_third_server_and_comes_home_from_there() {
    let [attic, kitchen, cellar] = met(["attic", "kitchen", "cellar"]);
    furnish(&attic, &kitchen);
    settle(&cellar, "eve/vault");
    for (node, other) in [(&attic, "cellar"), (&cellar, "attic"), (&cellar, "kitchen")] {
        done(node, &format!("server allow {other}"));
    }
    // Who holds a type of another cannot send it on.
    done(&attic, "type share ball cellar --as alice");
    let ball = id_of(&attic, "ball");
    let route = [
        (&attic, "bob@kitchen/yard --as alice", &kitchen),
        (&kitchen, "eve@cellar/vault", &cellar),
        (&cellar, "alice@attic/garden", &attic),
    ];

    for (from, to, into) in route {
        let id = text(&done(from, &format!("element move ball {to}")), "id");
        take_in(into);

        comes_to(from, &id, "accepted");
        until_known(into, &id);
        let owners = [&attic, &kitchen, &cellar].map(|node| owns(node, &ball));
        let want = [&attic, &kitchen, &cellar].map(|node| node.name == into.name);
        assert_eq!(owners, want, "{to}");
    }

    assert_eq!(value(&attic, "ball glow --as alice"), 3);
}

#[test]
fn a_name_that_is_taken_there_is_not_brought_along() {
    let [attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    publish(&kitchen, "bob", "name = \"marble\"\n");
    done(&kitchen, "element create marble --name ball");

    give_to_bob(&attic, &kitchen);

    assert_eq!(done(&kitchen, &format!("element show {ball}"))["name"], json!(ball));
    // Its name at home stands for it until something else has it.
    assert_eq!(origin(&attic, "ball"), kitchen.ready["server_id"]);
    done(&attic, "element create ball --name ball --as alice");
    assert_eq!(origin(&attic, "ball"), attic.ready["server_id"]);
    assert_eq!(origin(&attic, &ball), kitchen.ready["server_id"]);
}

#[test]
fn a_chest_is_moved_with_what_is_in_it_and_leaves_where_it_stood() {
    let [attic, kitchen] = attic_and_kitchen();
    publish(&attic, "alice", "name = \"chest\"\n");
    for name in ["chest", "box", "shelf"] {
        done(&attic, &format!("element create chest --name {name} --as alice"));
        done(&attic, &format!("set add {name} --as alice"));
    }
    for name in ["bead", "pearl"] {
        done(&attic, &format!("element create ball --name {name} --as alice"));
    }
    for (set, name) in [("shelf", "chest"), ("chest", "bead"), ("chest", "ball"), ("box", "pearl")]
    {
        done(&attic, &format!("set enter {set} {name} --as alice"));
    }
    done(&attic, "set child chest box --as alice");
    let inner = id_of(&attic, "box");
    let all = ["chest", "bead", "ball", "box", "pearl"].map(|name| json!(id_of(&attic, name)));
    let holds = |node: &Node, who: &str| {
        let list = |set: &str| names_of(&done(node, &format!("set ls {set} --as {who}")));
        let shown = done(node, &format!("set show chest --as {who}"));
        assert_eq!((list("chest"), list("box")), ("bead,ball".to_owned(), "pearl".to_owned()));
        assert_eq!((&shown["members"], &shown["children"]), (&json!(2), &json!([inner])));
    };
    holds(&attic, "alice");

    let moved = done(&attic, "element move chest bob@kitchen/yard --as alice");

    assert_eq!(moved["things"], json!(all));
    let entry = question(&kitchen);
    let want = "attic offers you 'chest' (chest) with 4 things for your world 'yard'";
    assert_eq!(entry["asks"], want);
    take_in(&kitchen);
    let id = text(&moved, "id");
    comes_to(&attic, &id, "accepted");
    until_known(&kitchen, &id);
    holds(&kitchen, "bob");
    assert_eq!(names_of(&done(&attic, "element ls --as alice")), "shelf");
    let shelf = done(&attic, "set show shelf --as alice");
    assert_eq!((&shelf["members"], &shelf["children"]), (&json!(0), &json!([])));

    let back = text(&done(&kitchen, "element move chest alice@attic/garden"), "id");
    take_in(&attic);

    comes_to(&kitchen, &back, "accepted");
    holds(&attic, "alice");
    assert_eq!(names_of(&done(&kitchen, "element ls")), "");
}

#[test]
fn what_stays_behind_of_a_sealed_thing_is_there_again_when_it_comes_home() {
    let [attic, kitchen] = attic_and_kitchen();
    publish(&attic, "alice", DIARY);
    done(&attic, "element create diary --name diary --as alice");
    done(&attic, &format!("element set diary secret {MARKER} --as alice"));
    done(&attic, "element set diary page today --as alice");

    let moved = done(&attic, "element move diary bob@kitchen/yard --as alice");

    let told = (&moved["sealed"], &moved["stays_behind"]);
    let want = json!({"values": 1, "actions": 1, "refused": 1});
    assert_eq!(told, (&json!(true), &want), "{moved}");
    let asks = text(&question(&kitchen), "asks");
    let behind = "sealed: 1 values and 1 actions stay behind, 1 events would be refused";
    assert!(asks.contains(behind), "{asks}");
    let entry = question(&kitchen);
    take_in(&kitchen);
    until_known(&kitchen, &text(&moved, "id"));
    assert_eq!(value(&kitchen, "diary page"), "today");
    refused(&kitchen, "element get diary secret", 4, "not_found");
    refused(&kitchen, "element set diary page mine", 5, "refused");
    let seen = ["element show diary", "transfer ls", "type show alice@attic:diary"]
        .map(|words| done(&kitchen, words).to_string());
    assert!(!format!("{entry}{seen:?}").contains(MARKER), "{entry}{seen:?}");

    let back = text(&done(&kitchen, "element move diary alice@attic/garden"), "id");
    take_in(&attic);

    comes_to(&kitchen, &back, "accepted");
    assert_eq!(value(&attic, "diary secret --as alice"), MARKER);
    assert_eq!(value(&attic, "diary page --as alice"), "today");
}

#[test]
fn a_sealed_thing_can_always_be_handed_back() {
    let [attic, kitchen] = attic_and_kitchen();
    publish(&attic, "alice", KEEPSAKE);
    done(&attic, "element create keepsake --name keepsake --as alice");
    let keepsake = id_of(&attic, "keepsake");
    let moved = done(&attic, "element move keepsake bob@kitchen/yard --as alice");
    assert_eq!(moved["sealed"], true, "{moved}");
    take_in(&kitchen);
    until_known(&kitchen, &text(&moved, "id"));

    let back = text(&done(&kitchen, "element move keepsake alice@attic/garden"), "id");
    take_in(&attic);

    comes_to(&kitchen, &back, "accepted");
    assert_eq!(only_owner([&attic, &kitchen], &keepsake), "attic");
}

// Between the offer and the answer.

#[test]
fn a_thing_rests_until_it_is_answered_and_acts_again_where_the_answer_is_no() {
    let [attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");

    let id = text(&done(&attic, MOVE), "id");

    for words in [
        "element get ball glow",
        "element set ball glow 9",
        "action call ball hum",
        "element destroy ball",
        "element give ball carol",
        "element take ball",
        "element share ball bob@kitchen/yard",
        "element move ball bob@kitchen/yard",
        "element move ball carol/loft",
    ] {
        let said = attic.say(&split(&format!("{words} --as alice")));
        assert_ne!(said.exit, 0, "{words}: {said:?}");
        let is_called = words.starts_with("action");
        assert!(is_called || said.err["code"] == "conflict", "{words}: {said:?}");
    }
    assert!(!owns(&attic, &ball) && !owns(&kitchen, &ball));

    done(&kitchen, &format!("deny {}", text(&question(&kitchen), "id")));

    let given = comes_to(&attic, &id, "refused");
    assert_eq!(given["reason"], "the owner of the world said no");
    comes_to(&kitchen, &id, "refused");
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
    assert_eq!(value(&attic, "ball glow --as alice"), 3);
    done(&attic, "element set ball glow 9 --as alice");

    // A no is for that offer alone.
    give_to_bob(&attic, &kitchen);

    assert_eq!(value(&kitchen, "ball glow"), 9);
}

#[test]
fn a_move_that_is_called_off_before_it_is_answered_is_none() {
    let [attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let id = text(&done(&attic, MOVE), "id");
    question(&kitchen);

    let asked = done(&attic, "element move ball --cancel --as alice");

    assert_eq!((&asked["id"], &asked["state"]), (&json!(id), &json!("offered")));
    let given = comes_to(&attic, &id, "refused");
    assert_eq!(given["reason"], "the giver has called it off");
    comes_to(&kitchen, &id, "refused");
    assert_eq!(done(&kitchen, "inbox")["items"], json!([]));
    assert_eq!(names_of(&done(&kitchen, "element ls")), "");
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
    for words in ["element move ball --cancel --as alice", "element reclaim ball --as alice"] {
        refused(&attic, words, 8, "conflict");
    }
    give_to_bob(&attic, &kitchen);
}

#[test]
fn a_move_that_is_called_off_after_the_yes_is_done() {
    let [mut attic, mut kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let id = text(&done(&attic, MOVE), "id");
    question(&kitchen);
    attic.kill();
    take_in(&kitchen);
    kitchen.kill();
    attic.restart();

    done(&attic, "element move ball --cancel --as alice");
    kitchen.restart();

    comes_to(&attic, &id, "accepted");
    until_known(&kitchen, &id);
    assert_eq!(only_owner([&attic, &kitchen], &ball), "kitchen");
}

#[test]
fn a_move_that_is_called_off_while_a_rule_asks_a_person_is_none() {
    let [attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    rule(&kitchen, "bob", "bob/yard", ASKS);
    let id = text(&done(&attic, MOVE), "id");
    let entry = question(&kitchen);
    assert_eq!(entry["kind"], "question", "{entry}");

    done(&attic, "element move ball --cancel --as alice");
    comes_to(&attic, &id, "refused");
    // What is answered now comes too late, whatever it is.
    kitchen.say(&["approve", &text(&entry, "id")]);
    for late in items(&done(&kitchen, "inbox")) {
        kitchen.say(&["approve", &text(&late, "id")]);
    }

    comes_to(&kitchen, &id, "refused");
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
}

#[test]
fn either_end_may_be_away_while_the_other_one_offers_or_decides() {
    let [mut attic, mut kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    kitchen.kill();

    let id = text(&done(&attic, MOVE), "id");
    kitchen.restart();
    question(&kitchen);
    attic.kill();
    take_in(&kitchen);

    assert!(owns(&kitchen, &ball));
    let taken = comes_to(&kitchen, &id, "accepted");
    assert_eq!(taken["acknowledged"], false);
    // Who gave it may not know yet, and may take it back until then.
    refused(&kitchen, MOVE_BACK, 8, "conflict");
    attic.restart();
    comes_to(&attic, &id, "accepted");
    until_known(&kitchen, &id);
    assert_eq!(only_owner([&attic, &kitchen], &ball), "kitchen");
}

// Who takes what.

#[test]
fn a_world_with_rules_of_its_own_takes_and_refuses_by_itself_and_asks_about_the_rest() {
    let [attic, kitchen] = attic_and_kitchen();
    rule(&kitchen, "bob", "bob/yard", RULES);
    publish(&attic, "alice", DIARY);
    done(&attic, "element create ball --name rock --as alice");
    done(&attic, "element create diary --name diary --as alice");
    let offer = |name: &str| {
        let words = format!("element move {name} bob@kitchen/yard --as alice");
        text(&done(&attic, &words), "id")
    };
    let table = [("ball", "accepted", Json::Null), ("rock", "refused", json!("no rocks here"))];

    for (name, state, reason) in table {
        let id = offer(name);

        let given = comes_to(&attic, &id, state);

        assert_eq!(given["reason"], reason, "{name}");
        comes_to(&kitchen, &id, state);
        assert_eq!(done(&kitchen, "inbox")["items"], json!([]), "{name}");
    }
    // It speaks of nothing that is sealed.
    let id = offer("diary");
    take_in(&kitchen);
    comes_to(&attic, &id, "accepted");
    assert_eq!(names_of(&done(&attic, "element ls --as alice")), "rock");
    assert_eq!(value(&attic, "rock glow --as alice"), 0);
}

#[test]
fn a_thing_that_fails_where_it_arrives_has_one_owner() {
    let [attic, kitchen] = attic_and_kitchen();
    rule(&kitchen, "bob", "bob/yard", RULES);
    publish(&attic, "alice", SHAKY);
    done(&attic, "element create shaky --name shaky --as alice");
    let shaky = id_of(&attic, "shaky");

    let id = text(&done(&attic, "element move shaky bob@kitchen/yard --as alice"), "id");

    settle_down([&attic, &kitchen]);
    let given = transfer(&attic, &id).unwrap();
    let want = if given["state"] == "accepted" { "kitchen" } else { "attic" };
    assert_eq!(only_owner([&attic, &kitchen], &shaky), want, "{given}");
}

#[test]
fn who_takes_nothing_from_a_server_refuses_its_things() {
    let [attic, kitchen] = met(["attic", "kitchen"]);
    furnish_unknown(&attic, &kitchen);
    let ball = id_of(&attic, "ball");

    let id = text(&done(&attic, MOVE), "id");

    let given = comes_to(&attic, &id, "refused");
    assert_eq!(given["reason"], "kitchen takes nothing from servers that it does not know");
    assert_eq!(done(&kitchen, "inbox")["items"], json!([]));
    assert_eq!(names_of(&done(&kitchen, "element ls")), "");
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
}

#[test]
fn what_was_refused_by_who_did_not_know_us_is_taken_once_it_does() {
    let [attic, kitchen] = met(["attic", "kitchen"]);
    furnish_unknown(&attic, &kitchen);
    let ball = id_of(&attic, "ball");
    let id = text(&done(&attic, MOVE), "id");
    comes_to(&attic, &id, "refused");
    done(&kitchen, "server allow attic");

    give_to_bob(&attic, &kitchen);

    assert_eq!(only_owner([&attic, &kitchen], &ball), "kitchen");
}

#[test]
fn a_thing_is_taken_back_from_who_takes_no_calls_at_all() {
    let [attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    done(&kitchen, "server deny attic");
    let id = text(&done(&attic, MOVE), "id");
    done(&attic, "element move ball --cancel --as alice");

    let taken_back = done(&attic, "element reclaim ball --as alice");

    assert_eq!((&taken_back["id"], &taken_back["state"]), (&json!(id), &json!("reclaimed")));
    assert!(owns(&attic, &ball));
    assert_eq!(names_of(&done(&kitchen, "element ls")), "");
    assert_eq!(done(&kitchen, "inbox")["items"], json!([]));
}

#[test]
fn a_server_with_too_many_open_offers_is_refused_the_next_one() {
    let [attic, kitchen] = attic_and_kitchen();
    let many = OPEN_MAX + 1;
    done(&attic, &format!("element create ball --count {many} --as alice"));
    let listed = done(&attic, "element ls --limit 200 --as alice");
    let ids: Vec<String> = items(&listed)
        .iter()
        .filter(|item| item["name"] != "ball")
        .map(|item| text(item, "id"))
        .collect();
    assert_eq!(ids.len(), many);
    let offer = |id: &str| {
        let words = format!("element move {id} bob@kitchen/yard --as alice");
        text(&done(&attic, &words), "id")
    };

    std::thread::scope(|scope| {
        for some in ids.chunks(17) {
            let offer = &offer;
            scope.spawn(move || {
                for id in some {
                    offer(id);
                }
            });
        }
    });

    let counts = |listed: &Json| {
        let states = items_of(listed, "state");
        ["offered", "refused"].map(|state| states.iter().filter(|held| *held == state).count())
    };
    let listed = attic.until(&["transfer", "ls"], |listed| counts(listed) == [OPEN_MAX, 1]);
    let late = items(&listed).into_iter().find(|item| item["state"] == "refused").unwrap();
    assert_eq!(late["reason"], "too many offers wait for an answer here");
    let thing = late["things"][0].as_str().unwrap();
    assert!(owns(&attic, thing));
    let waiting = kitchen.until(&["inbox"], |inbox| items(inbox).len() == OPEN_MAX);

    // There is room for it once one of the others was answered.
    done(&kitchen, &format!("deny {}", text(&items(&waiting)[0], "id")));
    let again = offer(thing);

    comes_to(&kitchen, &again, "offered");
    kitchen.until(&["inbox"], |inbox| items(inbox).len() == OPEN_MAX);
}

// Taken back.

#[test]
fn a_thing_is_taken_back_from_a_server_that_has_not_heard_of_it() {
    let [attic, mut kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    kitchen.kill();
    let id = text(&done(&attic, MOVE), "id");

    let taken_back = done(&attic, "element reclaim ball --as alice");

    assert_eq!(taken_back["state"], "reclaimed");
    assert!(owns(&attic, &ball));
    refused(&attic, "element reclaim ball --as alice", 8, "conflict");
    kitchen.restart();
    comes_to(&kitchen, &id, "refused");
    assert_eq!(done(&kitchen, "inbox")["items"], json!([]));
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
    // That is over: it can be moved like any other.
    give_to_bob(&attic, &kitchen);
    assert_eq!(only_owner([&attic, &kitchen], &ball), "kitchen");
}

#[test]
fn of_two_that_have_a_thing_the_one_that_took_it_back_keeps_it_when_they_meet() {
    let [mut attic, mut kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let id = text(&done(&attic, MOVE), "id");
    question(&kitchen);
    attic.kill();
    take_in(&kitchen);
    done(&kitchen, "element set ball glow 8");
    kitchen.kill();
    attic.restart();
    done(&attic, "element reclaim ball --as alice");
    done(&attic, "element set ball glow 9 --as alice");

    kitchen.restart();

    comes_to(&kitchen, &id, "reclaimed");
    comes_to(&attic, &id, "reclaimed");
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
    // What the other one has is a copy.
    let read = done(&kitchen, "element get ball glow");
    assert_eq!((&read["value"], &read["origin"]), (&json!(9), &attic.ready["server_id"]));
    let said = kitchen.say(&split(MOVE_BACK));
    assert_ne!(said.exit, 0, "{said:?}");
}

#[test]
fn what_is_handed_on_before_it_is_taken_back_has_one_owner() {
    let [mut attic, mut kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let id = text(&done(&attic, MOVE), "id");
    question(&kitchen);
    attic.kill();
    take_in(&kitchen);
    // It may be told to wait.
    kitchen.say(&split(MOVE_BACK));
    kitchen.kill();
    attic.restart();
    done(&attic, "element reclaim ball --as alice");

    kitchen.restart();

    comes_to(&kitchen, &id, "reclaimed");
    settle_down([&attic, &kitchen]);
    assert_eq!(only_owner([&attic, &kitchen], &ball), "attic");
}

#[test]
fn a_giver_that_is_put_back_from_before_a_move_yields_when_the_two_meet() {
    let (back, kitchen, ball) = put_back();

    assert_eq!(only_owner([&back, &kitchen], &ball), "kitchen");
    done(&kitchen, "element set ball glow 8");
    assert_eq!(value(&back, &format!("{ball} glow")), 8);
}

#[test]
fn a_giver_that_is_put_back_gives_nothing_away_before_it_has_heard_everybody() {
    let [attic, mut kitchen, cellar] = attic_kitchen_and_cellar();
    let ball = id_of(&attic, "ball");
    let back = put_back_alone(attic, &mut kitchen);
    assert_eq!(value(&back, "ball glow --as alice"), 3);
    let to_cellar = "element move ball eve@cellar/vault --as alice";

    let problem = refused(&back, to_cellar, 8, "conflict");

    assert!(text(&problem, "detail").contains("kitchen"), "{problem}");
    kitchen.restart();
    let get = ["element", "get", ball.as_str(), "glow"];
    back.until(&get, |read| read["origin"] == kitchen.ready["server_id"]);
    assert_eq!(only_owner([&back, &kitchen], &ball), "kitchen");
    // It has heard of everything by then, and gives away what is its own.
    back.until(&split("element move rock eve@cellar/vault --as alice"), |moved| {
        moved["state"] == "offered"
    });
    take_in(&cellar);
    comes_to_own(&cellar, "rock");
}

#[test]
fn a_giver_that_is_put_back_and_forgets_the_receiver_takes_back_what_it_offered_since() {
    let [attic, mut kitchen, cellar] = attic_kitchen_and_cellar();
    let ball = id_of(&attic, "ball");
    let back = put_back_alone(attic, &mut kitchen);
    done(&back, "server rm kitchen");
    // The cellar has to be heard all the same.
    let to_cellar = split("element move ball eve@cellar/vault --as alice");
    let moved = back.until(&to_cellar, |moved| moved["state"] == "offered");
    let offer = question(&cellar);

    kitchen.restart();

    let get = ["element", "get", ball.as_str(), "glow"];
    back.until(&get, |read| read["origin"] == kitchen.ready["server_id"]);
    assert_eq!(transfer(&back, &text(&moved, "id")).unwrap()["state"], "reclaimed");
    cellar.until(&["inbox"], |inbox| inbox["items"] == json!([]));
    assert_eq!(cellar.say(&["approve", &text(&offer, "id")]).exit, 4);
    assert_eq!(only_owner([&cellar, &kitchen], &ball), "kitchen");
}

#[test]
fn a_receiver_that_is_put_back_from_before_a_move_has_the_thing_again() {
    let [attic, mut kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let backup = back_up(&kitchen);
    give_to_bob(&attic, &kitchen);
    assert_eq!(kitchen.stop(), 0);

    let back = restored(&kitchen, &backup);
    done(&back, "peer connect attic");

    let get = ["element", "get", ball.as_str(), "glow"];
    back.until(&get, |read| read["origin"] == back.ready["server_id"]);
    assert_eq!(value(&back, "ball glow --as bob"), 3);
    assert_eq!(done(&back, "inbox")["items"], json!([]), "it was asked again");
    assert_eq!(only_owner([&attic, &back], &ball), "kitchen");
}

/// The attic, with a rock besides the ball, the kitchen, and the cellar, which takes things too.
fn attic_kitchen_and_cellar() -> [Node; 3] {
    let nodes = met(["attic", "kitchen", "cellar"]);
    let [attic, kitchen, cellar] = &nodes;
    furnish(attic, kitchen);
    settle(cellar, "eve/vault");
    done(cellar, "server allow attic");
    done(attic, "type share ball cellar --as alice");
    done(attic, "element create ball --name rock --as alice");
    nodes
}

/// The attic as it was before it gave the ball to bob, while the kitchen is off.
fn put_back_alone(mut attic: Node, kitchen: &mut Node) -> Node {
    let backup = back_up(&attic);
    give_to_bob(&attic, kitchen);
    assert_eq!(attic.stop(), 0);
    assert_eq!(kitchen.stop(), 0);
    restored(&attic, &backup)
}

/// Waits until a node has a thing of this name.
fn comes_to_own(node: &Node, name: &str) {
    node.until(&["element", "ls"], |listed| names_of(listed).contains(name));
}

#[test]
fn a_copy_that_is_left_of_a_thing_goes_nowhere() {
    let (back, kitchen, ball) = put_back();

    for words in [MOVE, "element move ball carol/loft --as alice", "element take ball --as alice"] {
        let said = back.say(&split(words));
        assert_ne!(said.exit, 0, "{words}: {said:?}");
    }

    assert_eq!(done(&kitchen, "inbox")["items"], json!([]));
    assert_eq!(only_owner([&back, &kitchen], &ball), "kitchen");
}

// Picked up and put down.

#[test]
fn what_is_picked_up_rests_and_is_put_down_where_it_was_or_elsewhere() {
    let [attic, kitchen] = attic_and_kitchen();
    publish(&attic, "alice", "name = \"chest\"\n");
    done(&attic, "element create chest --name chest --as alice");
    done(&attic, "set add chest --as alice");
    done(&attic, "element create ball --name bead --as alice");
    done(&attic, "set enter chest ball --as alice");
    let held = || items_of(&done(&attic, "element held --as alice"), "name").join(",");

    assert_eq!(done(&attic, "element take ball --as alice")["held"], 1);

    assert_eq!(held(), "ball");
    assert_eq!(names_of(&done(&attic, "set ls chest --as alice")), "");
    refused(&attic, "element get ball glow --as alice", 8, "conflict");
    refused(&attic, "element take ball --as alice", 8, "conflict");
    let down = done(&attic, "element drop --as alice");
    assert_eq!(down["state"], "accepted", "{down}");
    assert_eq!(value(&attic, "ball glow --as alice"), 3);
    assert_eq!(names_of(&done(&attic, "set ls chest --as alice")), "");

    // The last one first.
    done(&attic, "element take ball --as alice");
    assert_eq!(done(&attic, "element take bead --as alice")["held"], 2);
    assert_eq!(held(), "bead,ball");
    let drop_there = "element drop bob@kitchen/yard --as alice";
    let moved = done(&attic, drop_there);
    assert_eq!((&moved["state"], &moved["name"]), (&json!("offered"), &json!("bead")));
    done(&kitchen, &format!("deny {}", text(&question(&kitchen), "id")));
    comes_to(&attic, &text(&moved, "id"), "refused");
    assert_eq!(value(&attic, "bead glow --as alice"), 0);
    assert_eq!(held(), "ball");
    let moved = done(&attic, drop_there);
    take_in(&kitchen);
    comes_to(&attic, &text(&moved, "id"), "accepted");
    assert_eq!(names_of(&done(&kitchen, "element ls")), "ball");

    assert_eq!(held(), "");
    refused(&attic, "element drop --as alice", 4, "not_found");
}

#[test]
fn what_is_put_down_can_be_lent_and_stays_its_owners() {
    let [attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let lend = "element drop bob@kitchen/yard --lend --as alice";
    refused(&attic, lend, 4, "not_found");
    done(&attic, "element take ball --as alice");
    refused(&attic, "element drop --lend --as alice", 2, "usage");
    refused(&attic, "element drop carol/loft --lend --as alice", 2, "usage");
    assert_eq!(done(&attic, "element held --as alice")["items"][0]["id"], json!(ball));

    let lent = done(&attic, lend);

    assert_eq!((&lent["id"], &lent["state"]), (&json!(ball), &json!("lent")));
    assert_eq!(done(&attic, "element held --as alice")["items"], json!([]));
    assert_eq!(done(&attic, "element show ball --as alice")["owner"], "alice");
    assert_eq!(done(&attic, "transfer ls")["items"], json!([]));
    assert_eq!(names_of(&done(&kitchen, "element ls")), "ball");
    assert_eq!(value(&attic, "ball glow --as alice"), 3);
    done(&attic, "element unshare ball kitchen --as alice");
    kitchen.until(&["element", "ls"], |listed| names_of(listed).is_empty());
}

#[test]
fn what_is_held_goes_no_other_way() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&attic, "element take ball --as alice");

    for words in [
        "element move ball bob@kitchen/yard",
        "element move ball carol/loft",
        "element move ball --cancel",
        "element reclaim ball",
        "element give ball carol",
        "element share ball bob@kitchen/yard",
        "element destroy ball",
    ] {
        refused(&attic, &format!("{words} --as alice"), 8, "conflict");
    }

    assert_eq!(done(&attic, "transfer ls")["items"], json!([]));
    done(&attic, "element drop --as alice");
    assert_eq!(value(&attic, "ball glow --as alice"), 3);
    give_to_bob(&attic, &kitchen);
}

// Worlds of one server.

#[test]
fn a_thing_is_moved_at_once_between_worlds_of_one_server() {
    let [attic] = met(["attic"]);
    furnish_attic(&attic);
    done(&attic, "element create ball --name rock --as alice");
    let ball = id_of(&attic, "ball");

    let moved = done(&attic, "element move alice/garden/ball carol/loft --as alice");

    let told = (&moved["id"], &moved["state"], &moved["things"]);
    assert_eq!(told, (&json!(ball), &json!("accepted"), &json!(1)));
    assert_eq!(done(&attic, "element show carol/loft/ball")["owner"], "carol");
    assert_eq!(value(&attic, "carol/loft/ball glow"), 3);
    let back = "element move carol/loft/ball alice/garden --as";
    refused(&attic, &format!("{back} alice"), 5, "not_permitted");
    done(&attic, &format!("{back} carol"));
    assert_eq!(done(&attic, "element show alice/garden/ball")["owner"], "alice");

    rule(&attic, "carol", "carol/loft", RULES);
    let problem = refused(&attic, "element move rock carol/loft --as alice", 5, "refused");
    assert_eq!(problem["detail"], "no rocks here");
    assert_eq!(done(&attic, "element show alice/garden/rock")["owner"], "alice");
    done(&attic, "world add alice/cellar");
    done(&attic, "element move alice/garden/rock alice/cellar --as alice");
    assert_eq!(value(&attic, "alice/cellar/rock glow"), 0);
}

// Mistakes.

#[test]
fn what_makes_no_sense_has_its_reason_and_changes_nothing() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&attic, "element share ball bob@kitchen/yard --as alice");
    kitchen.until(&["element", "ls"], |listed| names_of(listed) == "ball");
    let alices = [
        ("element move nosuch bob@kitchen/yard", 4, "not_found"),
        ("element move ball bob@nowhere/yard", 4, "not_found"),
        ("element move ball alice/nosuch", 4, "not_found"),
        ("element move ball nobody/garden", 4, "not_found"),
        ("element move ball", 2, "usage"),
        ("element move ball --cancel", 8, "conflict"),
        ("element move alice/garden bob@kitchen/yard", 8, "conflict"),
        ("element take alice/garden", 8, "conflict"),
        ("element reclaim ball", 8, "conflict"),
        ("element reclaim nosuch", 4, "not_found"),
        ("element take nosuch", 4, "not_found"),
        ("element drop", 4, "not_found"),
        ("element drop bob@kitchen/yard", 4, "not_found"),
    ];
    let carols = [
        "element move alice/garden/ball bob@kitchen/yard",
        "element move alice/garden/ball carol/loft",
        "element move alice/garden/ball --cancel",
        "element reclaim alice/garden/ball",
        "element take alice/garden/ball",
    ];
    // What stands with bob is a copy of what is alice's.
    let bobs = [
        ("element move ball alice@attic/garden", 5, "not_permitted"),
        ("element reclaim ball", 5, "not_permitted"),
        ("element take ball", 5, "not_permitted"),
        ("element move alice@attic/garden/ball bob/yard", 4, "not_found"),
        ("element move nosuch alice@attic/garden", 4, "not_found"),
    ];
    let before = [&attic, &kitchen].map(everything);

    for (words, exit, code) in alices {
        refused(&attic, &format!("{words} --as alice"), exit, code);
    }
    for words in carols {
        refused(&attic, &format!("{words} --as carol"), 5, "not_permitted");
    }
    for (words, exit, code) in bobs {
        refused(&kitchen, words, exit, code);
    }

    assert_eq!([&attic, &kitchen].map(everything), before);

    // A world that is not there is known where it is not.
    for world in ["bob@kitchen/nosuch", "nobody@kitchen/yard", "bob@kitchen"] {
        let words = format!("element move ball {world} --as alice");
        let id = text(&done(&attic, &words), "id");
        let given = comes_to(&attic, &id, "refused");
        assert!(text(&given, "reason").starts_with("there is no"), "{world}: {given}");
        assert_eq!(value(&attic, "ball glow --as alice"), 3, "{world}");
    }
}

#[test]
fn a_thing_of_another_server_is_not_mistaken_for_one_of_the_same_name_here() {
    let [attic, _kitchen] = attic_and_kitchen();
    settle(&attic, "bob/yard");
    publish(&attic, "bob", BALL);
    done(&attic, "element create ball --name ball --as bob");

    for words in ["element take NAME", "element move NAME carol/loft", "element destroy NAME"] {
        let words = words.replace("NAME", "bob@kitchen/yard/ball");
        refused(&attic, &format!("{words} --as bob"), 4, "not_found");
    }

    assert_eq!(names_of(&done(&attic, "element ls --as bob")), "ball");
    assert_eq!(value(&attic, "bob/yard/ball glow"), 0);
}

#[test]
fn a_script_moves_what_is_its_owners_here_and_to_another_server_and_nothing_else() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&attic, "world add shed --as alice");
    publish(&attic, "alice", KITE);
    done(&attic, "element create kite --name kite --as alice --world alice/garden");
    settle(&attic, "dora/attic");
    done(&attic, "element create alice:ball --name foreign --as dora --world dora/attic");
    let fly =
        |to: &str| format!("action call kite fly --arg to={to} --as alice --world alice/garden");

    done(&attic, &fly("alice/shed"));
    attic.until(&["element", "ls", "--world", "alice/shed"], |listed| names_of(listed) == "kite");
    refused(&attic, &fly("alice/shed"), 4, "not_found");

    let home = "action call kite fly --arg to=bob@kitchen/yard --as alice --world alice/shed";
    done(&attic, home);
    take_in(&kitchen);
    kitchen.until(&["element", "ls"], |listed| names_of(listed) == "kite");

    done(&attic, "element create kite --name thief --as alice --world alice/garden");
    let steal = "action call thief steal --arg what=dora/attic/foreign --as alice";
    refused(&attic, &format!("{steal} --world alice/garden"), 5, "not_permitted");
    assert_eq!(names_of(&done(&attic, "element ls --world dora/attic")), "foreign");
}

// Machines that fall.

#[test]
fn a_giver_that_falls_at_any_moment_leaves_one_owner() {
    fall([true, false]);
}

#[test]
fn a_receiver_that_falls_at_any_moment_leaves_one_owner() {
    fall([false, true]);
}

#[test]
fn two_that_fall_at_any_moment_leave_one_owner() {
    fall([true, true]);
}

/// Moves things to a world that takes them by itself, and cuts machines off meanwhile: where the call
/// may not have been answered yet, and where it has.
fn fall(falls: [bool; 2]) {
    let mut nodes = attic_and_kitchen();
    rule(&nodes[1], "bob", "bob/yard", RULES);
    let mut drawn = SEED;
    for round in 0..FALLS {
        let [attic, _] = &nodes;
        let name = format!("ball{round}");
        let made = done(attic, &format!("element create ball --name {name} --as alice"));
        let ball = text(&made, "id");
        done(attic, &format!("element set {name} glow {round} --as alice"));
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let after = Duration::from_millis((drawn >> 33) % FALLS_AFTER_MS_MAX);
        let what = format!("SEED={SEED}, fall {round}, after {after:?}");
        let mut moving = attic
            .program()
            .args(["element", "move", name.as_str(), "bob@kitchen/yard", "--as", "alice"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if round % 2 == 1 {
            moving.wait().unwrap();
        }

        // Not to wait for anything: to hit it anywhere.
        std::thread::sleep(after);
        for (node, falls) in nodes.iter_mut().zip(falls) {
            if falls {
                node.kill();
            }
        }
        moving.wait().unwrap();
        for (node, falls) in nodes.iter_mut().zip(falls) {
            if falls {
                node.restart();
            }
        }

        let [attic, kitchen] = &nodes;
        settle_down([attic, kitchen]);
        let given =
            items(&done(attic, "transfer ls")).into_iter().find(|item| item["name"] == name);
        let is_given = given.is_some_and(|item| item["state"] == "accepted");
        // Who was told that it is offered knows that it is.
        assert!(is_given || round % 2 == 0, "{what}");
        let (owner, node) = if is_given { ("kitchen", kitchen) } else { ("attic", attic) };
        assert_eq!(only_owner([attic, kitchen], &ball), owner, "{what}");
        assert_eq!(value(node, &format!("{ball} glow")), round, "{what}");
    }
}

/// What everyone may see and change, with an action that goes along.
const BALL: &str = r#"
name = "ball"

[attributes.glow]
kind = "integer"
default = 0
read = "public"
write = "public"

[actions.hum]
on = "event:hum"
level = "public"
portable = true
script = 'return { hums = element.name }'
"#;

/// It goes where it is told to, and takes what it is told to.
const KITE: &str = r#"
name = "kite"

[actions.fly]
on = "event:fly"
script = 'move(event.to)'

[actions.steal]
on = "event:steal"
script = 'move("alice/garden", event.what)'
"#;

/// Something of it is for its owner's home alone.
const DIARY: &str = r#"
name = "diary"

[attributes.page]
kind = "string"
default = "blank"
read = "public"
write = "public"

[attributes.secret]
kind = "string"
default = ""

[actions.lock]
on = "before:value_change"
attribute = "page"
script = 'log(event.value)'
"#;

/// Has a say about its owner, at home alone.
const KEEPSAKE: &str = r#"
name = "keepsake"

[attributes.glow]
kind = "integer"
default = 0
read = "public"

[actions.mind]
on = "before:element_owner_change"
script = 'log(event.new)'
"#;

/// Fails wherever it arrives.
const SHAKY: &str = r#"
name = "shaky"

[attributes.glow]
kind = "integer"
default = 0
read = "public"

[actions.arrive]
on = "after:element_owner_change"
level = "public"
portable = true
script = 'error("it broke")'
"#;

/// A world that knows what it wants.
const RULES: &str = r#"
name = "ruled"
parents = ["server:world"]

[actions.rule]
on = "before:element_offered"
script = '''
if event.sealed then
  return
end
if event.name == "rock" then
  refuse("no rocks here")
end
return true
'''
"#;

/// A world that asks before it knows.
const ASKS: &str = r#"
name = "asking"
parents = ["server:world"]

[actions.first]
on = "before:element_offered"
priority = 10
ask = "shall it come in?"

[actions.then]
on = "before:element_offered"
accept = true
"#;

/// A node that nobody finds by chance.
fn quiet(name: &str, peers: &[&Node]) -> Node {
    let mut node = Node::home(name);
    std::fs::create_dir_all(&node.home).unwrap();
    std::fs::write(node.home.join("freehold.toml"), "mdns = false\n").unwrap();
    node.write_bootstrap(peers);
    node.restart();
    node
}

/// Servers that have met each other.
fn met<const N: usize>(names: [&str; N]) -> [Node; N] {
    let mut nodes: Vec<Node> = Vec::new();
    for name in names {
        let peers: Vec<&Node> = nodes.iter().collect();
        let node = quiet(name, &peers);
        nodes.push(node);
    }
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.name != one.name) {
            let show = ["server", "show", other.name.as_str()];
            one.until(&show, |shown| shown["connected"] == true);
        }
    }
    nodes.try_into().unwrap_or_else(|_| panic!("there are as many nodes as names"))
}

/// Two servers that take things from each other: alice with her ball, and carol, are at home in the
/// attic, bob in the kitchen.
fn attic_and_kitchen() -> [Node; 2] {
    let nodes = met(["attic", "kitchen"]);
    furnish(&nodes[0], &nodes[1]);
    nodes
}

fn furnish(attic: &Node, kitchen: &Node) {
    furnish_unknown(attic, kitchen);
    done(attic, "server allow kitchen");
    done(kitchen, "server allow attic");
}

/// The same where nobody takes anything from the other.
fn furnish_unknown(attic: &Node, kitchen: &Node) {
    furnish_attic(attic);
    settle(kitchen, "bob/yard");
}

fn furnish_attic(attic: &Node) {
    settle(attic, "alice/garden");
    settle(attic, "carol/loft");
    publish(attic, "alice", BALL);
    done(attic, "element create ball --name ball --as alice");
    done(attic, "element set ball glow 3 --as alice");
}

/// Makes an account with a world.
fn settle(node: &Node, world: &str) {
    let (account, _) = world.split_once('/').unwrap();
    done(node, &format!("account add {account}"));
    done(node, &format!("world add {world}"));
}

/// Publishes a type that must be good.
fn publish(node: &Node, who: &str, text: &str) {
    let file = node.file("published.toml", text);
    node.done(&["type", "publish", path(&file), "--as", who]);
}

/// Gives a world rules of its own.
fn rule(node: &Node, who: &str, world: &str, rules: &str) {
    publish(node, who, rules);
    let line = rules.lines().find(|line| line.starts_with("name")).unwrap();
    let name = line.split('"').nth(1).unwrap();
    done(node, &format!("element become {world} {name} --as {who}"));
}

/// Moves the ball to bob, who says yes, and waits until both know it.
fn give_to_bob(attic: &Node, kitchen: &Node) {
    let id = text(&done(attic, MOVE), "id");
    take_in(kitchen);
    comes_to(attic, &id, "accepted");
    until_known(kitchen, &id);
}

/// Says yes to the only offer.
fn take_in(node: &Node) {
    let entry = question(node);
    assert_eq!(entry["kind"], "move", "{entry}");
    done(node, &format!("approve {}", text(&entry, "id")));
}

/// Waits until a move is in a state, as a node keeps it.
fn comes_to(node: &Node, id: &str, state: &str) -> Json {
    until_so(node, id, |item| item["state"] == state)
}

/// Waits until a receiver knows that the giver knows.
fn until_known(node: &Node, id: &str) -> Json {
    until_so(node, id, |item| item["acknowledged"] == true)
}

fn until_so(node: &Node, id: &str, wanted: impl Fn(&Json) -> bool) -> Json {
    let found =
        |listed: &Json| items(listed).into_iter().find(|item| item["id"] == id && wanted(item));
    found(&node.until(&["transfer", "ls"], |listed| found(listed).is_some())).unwrap()
}

/// A move as a node keeps it now.
fn transfer(node: &Node, id: &str) -> Option<Json> {
    items(&done(node, "transfer ls")).into_iter().find(|item| item["id"] == id)
}

/// Waits until everything that was offered is decided.
fn settle_down(nodes: [&Node; 2]) {
    for node in nodes {
        node.until(&["transfer", "ls"], |listed| {
            items(listed).iter().all(|item| item["state"] != "offered")
        });
    }
}

/// Whether a node answers for a thing itself.
fn owns(node: &Node, id: &str) -> bool {
    let said = node.say(&split(&format!("element get {id} glow --timeout 10s")));
    said.exit == 0 && said.out["origin"] == node.ready["server_id"]
}

/// Which of two answers for a thing: one of them, and not both.
fn only_owner(nodes: [&Node; 2], id: &str) -> String {
    let owners: Vec<&str> =
        nodes.iter().filter(|node| owns(node, id)).map(|node| node.name.as_str()).collect();
    assert_eq!(owners.len(), 1, "{id} is owned by {owners:?}");
    owners.concat()
}

/// Who answers for a thing of alice's.
fn origin(node: &Node, name: &str) -> Json {
    done(node, &format!("element get {name} glow --as alice"))["origin"].clone()
}

/// What a move may change.
fn everything(node: &Node) -> [Json; 5] {
    let who = if node.name == "attic" { "alice" } else { "bob" };
    ["transfer ls", "inbox", "element held", "element ls", "element show ball"]
        .map(|words| done(node, &format!("{words} --as {who}")))
}

/// The attic as it was before it gave the ball to bob, once it has met the kitchen again.
fn put_back() -> (Node, Node, String) {
    let [mut attic, kitchen] = attic_and_kitchen();
    let ball = id_of(&attic, "ball");
    let backup = back_up(&attic);
    give_to_bob(&attic, &kitchen);
    assert_eq!(attic.stop(), 0);
    let back = restored(&attic, &backup);
    let get = ["element", "get", ball.as_str(), "glow"];
    back.until(&get, |read| read["origin"] == kitchen.ready["server_id"]);
    (back, kitchen, ball)
}

/// A backup of a node, beside its home.
fn back_up(node: &Node) -> PathBuf {
    let file = node.home.with_extension("backup");
    done(node, &format!("backup {}", path(&file)));
    file
}

/// A node on a home of its own that was made from a backup. It listens where the other did.
fn restored(of: &Node, backup: &Path) -> Node {
    let mut node = Node::home(&of.name);
    done(&node, &format!("restore {}", path(backup)));
    node.ready = of.ready.clone();
    node.restart();
    node
}

/// The only entry of the inbox, once it is there.
fn question(node: &Node) -> Json {
    let one = |inbox: &Json| inbox["items"].as_array().is_some_and(|items| items.len() == 1);
    node.until(&["inbox"], one)["items"][0].clone()
}

/// The value of an element, named as `ball glow`.
fn value(node: &Node, words: &str) -> Json {
    done(node, &format!("element get {words}"))["value"].clone()
}

/// The id of something of alice's.
fn id_of(node: &Node, name: &str) -> String {
    text(&done(node, &format!("element show {name} --as alice")), "id")
}

fn items(listed: &Json) -> Vec<Json> {
    listed["items"].as_array().cloned().unwrap_or_default()
}

fn items_of(listed: &Json, key: &str) -> Vec<String> {
    items(listed).iter().filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
}

/// The names of what is listed, with commas between.
fn names_of(listed: &Json) -> String {
    items_of(listed, "name").join(",")
}
