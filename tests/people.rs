//! Users, types and elements beyond their home: groups with members elsewhere, servers that act for
//! users, names that look alike, types that others hold, and elements that stand elsewhere. Real
//! nodes, nothing shared but the network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must end, and say where")]

mod support;

use serde_json::{Value as Json, json};
use support::{Node, by_key, done, path, refused, split, text, value};

/// Stands in what is private, and nowhere else.
const MARKER: &str = "zq7kvmarkerw4";
/// Stands in what is public: what is looked through really holds something.
const LABEL: &str = "xj5plainlabelh8";

/// What the kitchen does for alice: at eve's chest, and at her own home.
const CALLS: [&str; 7] = [
    "element get eve@cellar/vault/chest gold",
    "element set eve@cellar/vault/chest gold 9",
    "action call eve@cellar/vault/chest who",
    "event send eve@cellar/vault/chest who",
    "element get alice@attic/garden/diary page",
    "element set alice@attic/garden/diary page today",
    "action call alice@attic/garden/diary sign",
];

// Groups.

#[test]
fn a_member_of_a_group_at_another_home_has_its_rights_and_nobody_else_there_has() {
    let [attic, cellar] = met(["attic", "cellar"]);
    let alice = text(&done(&attic, "account add alice"), "id");
    let carol = text(&done(&attic, "account add carol"), "id");
    place_chest(&cellar);
    let shut = |who: &str| {
        for words in ["get CHEST gold", "set CHEST gold 7", "get CHEST map"] {
            let words = words.replace("CHEST", "eve@cellar/vault/chest");
            refused(&attic, &format!("element {words} --as {who}"), 5, "not_offered");
        }
    };
    let get = |what: &str| done(&attic, &format!("element get eve@cellar/vault/chest {what}"));
    // It is her home's word that it is she who asks; nobody here knows her.
    for (who, id) in [("alice", &alice), ("carol", &carol)] {
        let called = done(&attic, &format!("action call eve@cellar/vault/chest who --as {who}"));
        assert_eq!(called["result"], json!({"account": id}), "{who}");
        shut(who);
    }

    done(&cellar, "group member crew alice@attic");

    let members = done(&cellar, "group show crew")["members"].clone();
    assert_eq!(members, json!([{"id": alice, "name": "alice", "admin": false}]));
    assert_eq!(get("gold --as alice")["value"], 5);
    done(&attic, "element set eve@cellar/vault/chest gold 7 --as alice");
    assert_eq!(value(&cellar, "chest gold"), 7);
    // What is kept of it is kept for her alone.
    for cached in [false, true] {
        assert_eq!(get("map --as alice")["cached"], cached);
    }
    shut("carol");

    done(&cellar, "group member crew alice@attic --remove");

    refused(&attic, "element get eve@cellar/vault/chest gold --as alice", 5, "not_offered");
    refused(&attic, "element set eve@cellar/vault/chest gold 8 --as alice", 5, "not_offered");
    assert_eq!(value(&cellar, "chest gold"), 7);
}

// Servers that act for users.

#[test]
fn a_server_acts_for_a_user_once_they_have_said_yes_at_their_home() {
    let [attic, kitchen, cellar] = neighbours();
    let alice = text(&done(&attic, "account show alice"), "id");
    let bob = text(&done(&kitchen, "account show bob"), "id");
    for words in CALLS {
        refused(&kitchen, &for_alice(words), 4, "not_found");
    }

    let visit = done(&attic, "visit start kitchen --as alice");

    let told = (&visit["id"], &visit["name"], &visit["state"]);
    assert_eq!(told, (&json!(alice), &json!("alice"), &json!("asked")));
    let entry = question(&attic);
    assert_eq!((&entry["kind"], &entry["list"]), (&json!("token"), &json!("alice")), "{entry}");
    assert_eq!(entry["from"]["name"], "kitchen", "{entry}");
    for node in [&attic, &kitchen] {
        stands(node, "alice", "asked");
    }
    for words in CALLS {
        refused(&kitchen, &for_alice(words), 5, "not_permitted");
    }

    // The question is hers: another account of her home neither sees nor answers it.
    let [hers, others] = ["alice", "carol"]
        .map(|who| text(&done(&attic, &format!("key add {who} --account {who}")), "key"));
    let seen = |key: &str| by_key(&attic, key, "inbox.ls", json!({})).1["result"].clone();
    assert_eq!(seen(&hers)["items"][0]["id"], entry["id"]);
    assert_eq!(seen(&others)["items"], json!([]));
    let yes = json!({"entry": entry["id"]});
    let (status, problem) = by_key(&attic, &others, "inbox.approve", yes.clone());
    assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    let (status, answer) = by_key(&attic, &hers, "inbox.approve", yes);
    assert_eq!(status, 200, "{answer}");

    for node in [&attic, &kitchen] {
        stands(node, "alice", "permitted");
    }
    assert_eq!(done(&attic, "inbox")["items"], json!([]));
    let said = CALLS.map(|words| done(&kitchen, &for_alice(words)));
    let values = [0_usize, 1, 4, 5].map(|at| &said[at]["value"]);
    assert_eq!(values, [&json!(5), &json!(9), &json!("blank"), &json!("today")]);
    assert_eq!(value(&cellar, "chest gold"), 9);
    assert_eq!(value(&attic, "diary page --as alice"), "today");
    // Who called says nothing; for whom it was, her home has said.
    let who = json!({"account": bob, "user": alice});
    assert_eq!((&said[2]["result"], &said[3]["result"]), (&who, &who));
    assert_eq!(said[6]["result"], json!({"user": alice}));
    // What was done with it at her home she can see.
    let held = done(&attic, "token show kitchen --as alice");
    let acts = held["acts"].as_array().unwrap().iter().map(|act| text(act, "what"));
    let want = ["element.set alice/garden/diary", "action.call alice/garden/diary"];
    assert_eq!(acts.collect::<Vec<_>>(), want, "{held}");
    // For bob himself nothing has changed.
    refused(&kitchen, CALLS[0], 5, "not_offered");
    refused(&kitchen, CALLS[4], 5, "not_offered");
}

#[test]
fn a_permission_that_either_side_ends_has_ended_at_once() {
    let [attic, kitchen, _cellar] = neighbours();
    let permitted = || {
        // She need not be asked.
        done(&attic, "token permit kitchen --as alice");
        stands(&kitchen, "alice", "permitted");
        for words in CALLS {
            done(&kitchen, &for_alice(words));
        }
    };
    let over = || {
        for words in CALLS {
            refused(&kitchen, &for_alice(words), 5, "not_permitted");
        }
    };

    permitted();
    done(&attic, "token revoke kitchen --as alice");
    // Nothing has to reach the kitchen first.
    over();
    stands(&attic, "alice", "revoked");
    stands(&kitchen, "alice", "revoked");

    permitted();
    done(&kitchen, "token revoke alice@attic");
    stands(&attic, "alice", "revoked");
    over();

    permitted();
    let ended = done(&attic, "visit end kitchen --as alice");
    assert_eq!(ended["server"], "kitchen");
    stands(&attic, "alice", "revoked");
    kitchen.until(&["visit", "ls"], |visits| visits["items"] == json!([]));
    for words in CALLS {
        refused(&kitchen, &for_alice(words), 4, "not_found");
    }
}

#[test]
fn a_permission_is_for_what_the_user_says_and_for_as_long() {
    let [attic, kitchen, _cellar] = neighbours();
    done(&attic, "token permit kitchen --as alice");
    stands(&kitchen, "alice", "permitted");
    // Three at the chest, of which one is its action; three at the diary, of which one is.
    let calls = [CALLS[0], CALLS[1], CALLS[2], CALLS[4], CALLS[5], CALLS[6]];
    let table = [
        ("", [true; 6]),
        ("--only chest", [true, true, true, false, false, false]),
        ("--only chest.who", [false, false, true, false, false, false]),
        ("--only Diary", [false, false, false, true, true, true]),
        ("--only diary.sign --only chest", [true, true, true, false, false, true]),
        ("--only nosuch", [false; 6]),
    ];

    for (only, want) in table {
        done(&attic, &format!("token permit kitchen {only} --as alice"));

        let said = calls.map(|words| kitchen.say(&split(&for_alice(words))));

        assert_eq!(said.each_ref().map(|said| said.exit == 0), want, "{only}: {said:#?}");
        for said in said.iter().filter(|said| said.exit != 0) {
            // What is there for the user alone is not there for a server that may not act for them.
            let code = said.err["code"].as_str().unwrap_or_default();
            assert!(["not_permitted", "not_offered"].contains(&code), "{only}: {said:?}");
        }
    }
    refused(&attic, "token permit kitchen --only a@b --as alice", 2, "usage");

    done(&attic, "token permit kitchen --expires 1s --as alice");
    let show = ["token", "show", "kitchen", "--as", "alice"];
    attic.until(&show, |held| held["state"] == "ended");
    for words in CALLS {
        refused(&kitchen, &for_alice(words), 5, "not_permitted");
    }
}

#[test]
fn a_no_stays_a_no_however_often_it_is_asked() {
    let [attic, kitchen] = attic_and_kitchen();
    let carol = text(&done(&attic, "account show carol"), "id");
    let sign = "action call alice@attic/garden/diary sign --for carol@attic";
    let show = ["token", "show", "kitchen", "--as", "carol"];
    done(&attic, "visit start kitchen --as carol");
    done(&attic, &format!("deny {}", text(&question(&attic), "id")));
    for node in [&attic, &kitchen] {
        stands(node, "carol", "refused");
    }
    refused(&kitchen, sign, 5, "not_permitted");
    let since = attic.done(&show)["since"].clone();

    let again = done(&attic, "visit start kitchen --as carol");

    assert_eq!(again["state"], "refused");
    let held = attic.until(&show, |held| held["since"] != since);
    assert_eq!(held["state"], "refused");
    assert_eq!(done(&attic, "inbox")["items"], json!([]));
    refused(&kitchen, sign, 5, "not_permitted");

    // It is hers to change.
    done(&attic, "token permit kitchen --as carol");
    assert_eq!(done(&kitchen, sign)["result"], json!({"user": carol}));
}

#[test]
fn the_element_of_an_account_answers_for_it_where_it_has_an_answer() {
    let [attic, kitchen] = attic_and_kitchen();
    let table = [
        ("alice", "accept = true", "permitted"),
        ("carol", "script = 'return event.name == \"kitchen\"'", "permitted"),
        ("dora", "refuse = \"she sees nobody\"", "refused"),
        ("erin", "script = 'return event.name ~= \"kitchen\"'", "refused"),
        ("frank", "script = 'log(event.name)'", "asked"),
    ];
    for name in ["dora", "erin", "frank"] {
        done(&attic, &format!("account add {name}"));
    }

    for (who, body, state) in table {
        let head = "name = \"person\"\nparents = [\"server:account\"]\n";
        let answer = format!("[actions.answer]\non = \"before:server_register_user\"\n{body}\n");
        publish(&attic, who, &format!("{head}\n{answer}"));
        let element = text(&done(&attic, &format!("account show {who}")), "element");
        done(&attic, &format!("element become {element} person --as {who}"));

        done(&attic, &format!("visit start kitchen --as {who}"));

        for node in [&attic, &kitchen] {
            stands(node, who, state);
        }
    }
    // Nobody else was asked in person.
    assert_eq!(question(&attic)["list"], "frank");
    for (who, _, state) in table {
        let words = format!("action call alice@attic/garden/diary sign --for {who}@attic");
        match state {
            "permitted" => assert!(done(&kitchen, &words)["result"]["user"].is_string(), "{who}"),
            _ => assert!(refused(&kitchen, &words, 5, "not_permitted").is_object(), "{who}"),
        }
    }
}

// Names.

#[test]
fn a_visitor_whose_name_is_taken_or_looks_like_one_is_called_by_home_and_name() {
    let [attic, kitchen, cellar] = met(["attic", "kitchen", "cellar"]);
    for (node, names) in
        [(&attic, "a1ice carol dora"), (&kitchen, "alice bob"), (&cellar, "alice caro1 dora")]
    {
        for name in split(names) {
            done(node, &format!("account add {name}"));
        }
    }
    let table = [
        (&attic, "a1ice", "attic.a1ice"),
        (&cellar, "alice", "cellar.alice"),
        (&attic, "carol", "carol"),
        (&cellar, "caro1", "cellar.caro1"),
        (&attic, "dora", "dora"),
        (&cellar, "dora", "cellar.dora"),
    ];

    for (home, name, called) in table {
        for _ in 0..2 {
            let visit = done(home, &format!("visit start kitchen --as {name}"));
            assert_eq!(visit["name"], called, "{name} of {}", home.name);
        }
    }

    let visits = done(&kitchen, "visit ls");
    let mut called = items_of(&visits, "name");
    called.sort_unstable();
    let mut want = table.map(|(_, _, called)| called);
    want.sort_unstable();
    assert_eq!(called, want);
    // They are told apart by either.
    done(&kitchen, "group add friends --as bob");
    for who in ["dora@attic", "cellar.dora", "alice@cellar"] {
        done(&kitchen, &format!("group member friends {who} --as bob"));
    }
    let members = done(&kitchen, "group show friends --as bob")["members"].clone();
    let mut names: Vec<String> =
        members.as_array().unwrap().iter().map(|member| text(member, "name")).collect();
    names.sort_unstable();
    assert_eq!(names, ["cellar.alice", "cellar.dora", "dora"]);
}

#[test]
fn no_account_is_made_whose_name_looks_like_another() {
    let [attic] = met(["attic"]);
    done(&attic, "account add alice");
    let table = [
        ("alice", 8, "name_taken"),
        ("ALICE", 8, "name_taken"),
        ("a1ice", 8, "name_taken"),
        ("aIice", 8, "name_taken"),
        // A Cyrillic letter among Latin ones.
        ("\u{430}lice", 2, "usage"),
        ("b\u{43e}b", 2, "usage"),
    ];

    for (name, exit, code) in table {
        attic.refused(&["account", "add", name], exit, code);
    }

    // A whole name in another script is a name like any other.
    attic.done(&["account", "add", "\u{43c}\u{430}\u{440}\u{438}\u{44f}"]);
    assert_eq!(done(&attic, "status")["accounts"], 2);
}

// Types that others hold.

#[test]
fn a_type_is_taken_from_servers_that_were_allowed_or_listed_and_from_nobody_else() {
    let [attic, kitchen, cellar] = met(["attic", "kitchen", "cellar"]);
    let alice = settle(&attic, "alice/garden");
    done(&attic, "account add carol");
    settle(&kitchen, "bob/yard");
    publish(&attic, "alice", TOY);
    let servers = ["cellar", "kitchen"];
    let words = |server: &str| format!("type share toy {server} --as alice");
    for server in servers {
        let problem = refused(&attic, &words(server), 5, "not_listed");
        assert!(text(&problem, "hint").contains("freehold server allow attic"), "{problem}");
    }
    refused(&kitchen, "type show alice@attic:toy", 4, "not_found");
    refused(&attic, "type share alice:toy kitchen --as carol", 5, "not_permitted");

    done(&kitchen, "server allow attic");
    list(&attic, &cellar);

    for server in servers {
        let shared = done(&attic, &words(server));
        let told = (&shared["name"], &shared["revision"], &shared["server"]);
        assert_eq!(told, (&json!("toy"), &json!(1), &json!(server)));
    }
    let show = ["type", "show", "toy", "--as", "alice"];
    let held_by_both =
        |shown: &Json| shown["holders"].as_array().is_some_and(|holders| holders.len() == 2);
    let shown = attic.until(&show, held_by_both);
    let holders = shown["holders"].as_array().unwrap().iter();
    let mut names: Vec<String> = holders.map(|holder| text(holder, "name")).collect();
    names.sort_unstable();
    assert_eq!(names, servers);
    for node in [&kitchen, &cellar] {
        let shown = done(node, "type show alice@attic:toy");
        let whose = (&shown["home"], &shown["owner"]);
        assert_eq!(whose, (&attic.ready["server_id"], &json!(alice)), "{}", node.name);
    }
    // What is another's is not handed on.
    refused(&kitchen, "type share alice@attic:toy cellar", 5, "not_permitted");
}

#[test]
fn what_is_made_elsewhere_asks_portable_actions_there_and_the_others_at_home() {
    let [mut attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", TOY);
    share(&attic, "toy");
    let make = |name: &str| format!("element create alice@attic:toy --name {name}");
    for (name, says) in [("bad", "no bad names"), ("worse", "home says no")] {
        let problem = refused(&kitchen, &make(name), 5, "refused");
        assert_eq!(problem["detail"], says);
    }
    assert_eq!(done(&kitchen, "element ls")["items"], json!([]));

    done(&kitchen, &make("own"));

    assert_eq!(done(&kitchen, "element show own")["owner"], "bob");
    done(&kitchen, "element set own on true");
    assert_eq!(value(&kitchen, "own on"), true);
    let hello = || done(&kitchen, "action call own hello")["result"].clone();
    assert_eq!(hello(), json!({"home": true, "name": "own"}));
    let far = done(&kitchen, "action call own far")["result"].clone();
    assert_eq!(far, json!({"home": false, "name": "own", "from": "kitchen"}));

    attic.kill();

    assert_eq!(hello(), json!({"home": true, "name": "own"}));
    let far = kitchen.say(&split("action call own far --timeout 2s"));
    assert_ne!(far.exit, 0, "nobody answered: {far:?}");
}

#[test]
fn where_a_private_action_decides_it_is_refused_elsewhere_or_taken_as_accepted() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    let accepts = "above = \"accept\"";
    let dial = "attribute = \"dial\"";
    // Creation, a read, two values set, and destruction, each with the exit that it has.
    let table = [
        ("element_creation", "", [5, 4, 4, 4, 4]),
        ("element_creation", accepts, [0, 0, 0, 0, 0]),
        ("element_destruction", "", [0, 0, 0, 0, 5]),
        ("element_destruction", accepts, [0, 0, 0, 0, 0]),
        ("value_change", "", [0, 0, 5, 5, 0]),
        ("value_change", accepts, [0, 0, 0, 0, 0]),
        ("value_change", dial, [0, 0, 5, 0, 0]),
        ("value_change_filtered", "", [0, 5, 0, 0, 0]),
        ("element_enters_set", "", [0, 0, 0, 0, 0]),
    ];

    for (number, (kind, more, want)) in table.into_iter().enumerate() {
        let name = format!("judged{number}");
        publish(&attic, "alice", &judged(&name, kind, more));
        share(&attic, &name);
        let said = [
            format!("element create alice@attic:{name} --name it{number}"),
            format!("element get it{number} dial"),
            format!("element set it{number} dial 1"),
            format!("element set it{number} knob 1"),
            format!("element destroy it{number}"),
        ]
        .map(|words| kitchen.say(&split(&words)));

        let what = format!("{kind} {more}");
        assert_eq!(said.each_ref().map(|said| said.exit), want, "{what}: {said:#?}");
        for said in said {
            assert!(said.exit != 5 || said.err["code"] == "refused", "{what}: {said:?}");
            assert!(!format!("{said:?}").contains(MARKER), "{what}: {said:?}");
        }
    }
}

#[test]
fn what_is_private_of_a_type_is_nowhere_at_those_who_hold_it() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", VAULT);
    share(&attic, "vault");
    let at_home = done(&attic, "type show vault --as alice").to_string();
    assert!(at_home.contains(MARKER) && at_home.contains(LABEL), "{at_home}");

    let shown = done(&kitchen, "type show alice@attic:vault");

    let keys = |what: &str| {
        let members = shown["definition"][what].as_object().unwrap();
        members.keys().map(String::as_str).collect::<Vec<_>>().join(",")
    };
    assert_eq!(keys("attributes"), "label");
    assert_eq!(keys("actions"), "far,ring");
    assert_eq!(keys("events"), "ring");
    done(&kitchen, "element create alice@attic:vault --name vault");
    for words in ["element show vault", "action ls vault", "event ls alice@attic:vault"] {
        assert!(!done(&kitchen, words).to_string().contains(MARKER), "{words}");
    }
    let shown = shown.to_string();
    assert!(shown.contains(LABEL) && !shown.contains(MARKER), "{shown}");
}

#[test]
fn who_holds_a_type_gets_what_is_new_and_what_its_place_on_the_list_gives() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", TOY);
    share(&attic, "toy");
    done(&kitchen, "element create alice@attic:toy --name own");
    let show = ["type", "show", "alice@attic:toy"];
    assert!(!has("kin")(&kitchen.done(&show)));
    refused(&kitchen, "action call own kin", 4, "not_found");

    publish(&attic, "alice", &format!("{TOY}{MORE}"));

    assert_eq!(kitchen.until(&show, has("more"))["revision"], 2);
    let at_home = ["type", "show", "toy", "--as", "alice"];
    attic.until(&at_home, |shown| shown["holders"][0]["revision"] == 2);
    assert_eq!(done(&kitchen, "action call own more")["result"], json!({"more": true}));

    list(&attic, &kitchen);

    kitchen.until(&show, has("kin"));
    let kin = json!({"kin": true});
    kitchen.until(&["action", "call", "own", "kin"], |answer| answer["result"] == kin);
    assert_eq!(value(&kitchen, "own kinship"), "close");

    done(&attic, "protection rm family kitchen");

    kitchen.until(&show, |shown| !has("kin")(shown));
    refused(&kitchen, "action call own kin", 4, "not_found");
    refused(&kitchen, "element get own kinship", 4, "not_found");
    assert_eq!(done(&kitchen, "action call own more")["result"], json!({"more": true}));
}

#[test]
fn what_is_not_shared_any_more_is_not_made_any_more_and_what_was_made_stays() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", TOY);
    let unshare = "type unshare toy kitchen --as alice";
    refused(&attic, unshare, 4, "not_found");
    share(&attic, "toy");
    let make = |name: &str| format!("element create alice@attic:toy --name {name}");
    done(&kitchen, &make("first"));

    done(&attic, unshare);

    let show = ["type", "show", "alice@attic:toy"];
    kitchen.until(&show, |shown| shown["retired_at"].is_string());
    assert_eq!(done(&attic, "type show toy --as alice")["holders"], json!([]));
    refused(&kitchen, &make("second"), 8, "conflict");
    let hello = done(&kitchen, "action call first hello")["result"].clone();
    assert_eq!(hello, json!({"home": true, "name": "first"}));
    refused(&kitchen, "action call first far", 5, "not_offered");
    refused(&attic, unshare, 4, "not_found");

    share(&attic, "toy");

    done(&kitchen, &make("second"));
}

#[test]
fn who_may_make_elements_elsewhere_the_home_of_the_type_decides() {
    let [attic, kitchen] = attic_and_kitchen();
    settle(&kitchen, "dora/loft");
    done(&kitchen, "server allow attic");
    done(&attic, "group add makers --as alice");
    for group in ["makers", "owner"] {
        let head = format!("name = \"for-{group}\"\n");
        publish(&attic, "alice", &format!("{head}create_group = \"{group}\"\n"));
        share(&attic, &format!("for-{group}"));
    }
    let make = |of: &str, who: &str| format!("element create alice@attic:for-{of} --as {who}");
    let may_not = |of: &str, who: &str| {
        refused(&kitchen, &make(of, who), 5, "not_permitted");
    };
    for who in ["bob", "dora"] {
        may_not("makers", who);
        may_not("owner", who);
    }

    done(&attic, "group member makers bob@kitchen --as alice");

    done(&kitchen, &make("makers", "bob"));
    may_not("makers", "dora");
    may_not("owner", "bob");

    done(&attic, "group member makers bob@kitchen --remove --as alice");

    may_not("makers", "bob");
    assert_eq!(done(&kitchen, "world show bob/yard")["elements"], 1);
    assert_eq!(done(&kitchen, "world show dora/loft")["elements"], 0);
}

// Elements that stand elsewhere.

#[test]
fn a_copy_stands_in_a_world_elsewhere_and_its_values_and_actions_stay_at_home() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", TOY);
    done(&attic, "element create toy --name orig --as alice");

    let shared = done(&attic, "element share orig bob@kitchen/yard --as alice");

    let told = (&shared["server"], &shared["world"]);
    assert_eq!(told, (&json!("kitchen"), &json!("bob/yard")));
    kitchen.until(&["element", "ls"], |listed| names_of(listed) == "orig");
    let read = done(&kitchen, "element get orig on");
    assert_eq!(
        (&read["value"], &read["origin"]),
        (&json!(false), &attic.ready["server_id"]),
        "{read}"
    );
    done(&kitchen, "element set orig on true");
    assert_eq!(value(&attic, "orig on --as alice"), true);
    assert_eq!(value(&kitchen, "orig on"), true);
    let hello = done(&kitchen, "action call orig hello")["result"].clone();
    assert_eq!(hello, json!({"home": false, "name": "orig"}));
    for words in ["element get orig secret", "element set orig secret mine"] {
        refused(&kitchen, words, 5, "not_offered");
    }

    // It enters sets where it stands, and who decides about that decides at home.
    publish(&kitchen, "bob", "name = \"bag\"\n");
    done(&kitchen, "element create bag --name bag");
    done(&kitchen, "set add bag");
    let members = || names_of(&done(&kitchen, "set ls bag"));
    done(&kitchen, "set enter bag orig");
    assert_eq!(members(), "orig");
    done(&kitchen, "set leave bag orig");
    done(&attic, "element set orig secret stay --as alice");
    let problem = refused(&kitchen, "set enter bag orig", 5, "refused");
    assert_eq!(problem["detail"], "it stays");
    assert_eq!(members(), "");
}

#[test]
fn a_copy_is_offered_to_nobody_by_the_one_who_holds_it() {
    let [attic, kitchen, cellar] = neighbours();
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", TOY);
    done(&attic, "element create toy --name orig --as alice");
    let shared = done(&attic, "element share orig bob@kitchen/yard --as alice");
    kitchen.until(&["element", "ls"], |listed| names_of(listed) == "orig");
    assert_eq!(value(&cellar, "alice@attic/garden/orig on"), false);

    for name in ["orig", shared["id"].as_str().unwrap()] {
        for words in [
            "element get IT on",
            "element set IT on true",
            "action call IT hello",
            "event send IT hello",
        ] {
            let words = words.replace("IT", &format!("bob@kitchen/yard/{name}"));
            refused(&cellar, &words, 5, "not_offered");
            // Nor to its home: there it is itself.
            refused(&attic, &format!("{words} --as alice"), 5, "not_offered");
        }
    }

    assert_eq!(value(&attic, "orig on --as alice"), false);
}

#[test]
fn an_element_that_does_not_want_to_stand_elsewhere_is_not_shared() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    publish(&attic, "alice", SHY);
    done(&attic, "element create shy --name shy --as alice");
    let words = "element share shy bob@kitchen/yard --as alice";
    let shared = || value(&attic, "shy shared --as alice");
    let table = [
        ("element share alice/garden/shy bob@kitchen/yard --as carol", 5, "not_permitted"),
        ("element share shy alice/garden --as alice", 2, "usage"),
    ];
    for (words, exit, code) in table {
        refused(&attic, words, exit, code);
    }

    let problem = refused(&attic, words, 5, "refused");

    assert_eq!((&problem["detail"], shared()), (&json!("it stays from kitchen"), json!(0)));
    done(&attic, "element set shy mood bold --as alice");
    done(&attic, words);
    assert_eq!(shared(), 1);
    let listed = kitchen.until(&["element", "ls"], |listed| listed["items"] != json!([]));
    assert_eq!(names_of(&listed), "shy");
}

#[test]
fn a_copy_is_gone_when_its_home_or_the_owner_of_its_world_does_not_want_it() {
    let [attic, kitchen] = attic_and_kitchen();
    done(&kitchen, "server allow attic");
    settle(&kitchen, "dora/loft");
    publish(&attic, "alice", TOY);
    let listed = ["element", "ls", "--as", "bob"];
    let lend = |name: &str| {
        done(&attic, &format!("element share {name} bob@kitchen/yard --as alice"));
        kitchen.until(&listed, |listed| names_of(listed) == name);
    };
    let table = [
        (&attic, "element unshare NAME kitchen --as alice", true),
        (&attic, "element give NAME carol --as alice", true),
        (&attic, "element destroy NAME --as alice", false),
        (&kitchen, "element destroy NAME --as bob", true),
    ];

    for (number, (node, words, stays)) in table.into_iter().enumerate() {
        let name = format!("toy{number}");
        done(&attic, &format!("element create toy --name {name} --as alice"));
        lend(&name);
        let others = format!("element destroy bob/yard/{name} --as dora");
        refused(&kitchen, &others, 5, "not_permitted");

        done(node, &words.replace("NAME", &name));

        kitchen.until(&listed, |listed| listed["items"] == json!([]));
        let at_home = attic.say(&split(&format!("element show {name} --as alice")));
        assert_eq!(at_home.exit == 0, stays, "{words}: {at_home:?}");
    }
    // What the kitchen did not want it can be lent again.
    lend("toy3");
}

/// A chest for a crew.
const CHEST: &str = r#"
name = "chest"

[attributes.gold]
kind = "integer"
default = 5
read = "public"
read_group = "crew"
write = "public"
write_group = "crew"

[attributes.map]
kind = "string"
default = "north"
read = "public"
read_group = "crew"
cache = "1m"

[actions.who]
on = "event:who"
level = "public"
script = 'return { account = caller.account, user = caller.user }'
"#;

/// What its owner alone reads and writes, from wherever.
const DIARY: &str = r#"
name = "diary"

[attributes.page]
kind = "string"
default = "blank"
read = "public"
read_group = "owner"
write = "public"
write_group = "owner"

[actions.sign]
on = "event:sign"
level = "public"
script = 'return { user = caller.user }'
"#;

/// Something of every level, with actions that run where it stands, and others that run at home.
const TOY: &str = r#"
name = "toy"
protected = "family"

[attributes.on]
kind = "bool"
default = false
read = "public"
write = "public"

[attributes.kinship]
kind = "string"
default = "close"
read = "protected"

[attributes.secret]
kind = "string"
default = ""

[actions.port]
on = "before:element_creation"
level = "public"
portable = true
script = '''
if event.name == "bad" then
  refuse("no bad names")
end
'''

[actions.athome]
on = "before:element_creation"
level = "public"
script = '''
if event.name == "worse" then
  refuse("home says no")
end
'''

[actions.enter]
on = "before:element_enters_set"
level = "public"
script = '''
if get("secret") == "stay" then
  refuse("it stays")
end
'''

[actions.hello]
on = "event:hello"
level = "public"
portable = true
script = 'return { home = caller.home, name = element.name }'

[actions.far]
on = "event:far"
level = "public"
script = 'return { home = caller.home, name = element.name, from = caller.server_name }'

[actions.kin]
on = "event:kin"
level = "protected"
reply = { kin = true }
"#;

/// What a revision of the toy adds.
const MORE: &str = r#"
[actions.more]
on = "event:more"
level = "public"
reply = { more = true }
"#;

/// Public things, and the marker in all that is private or for a list.
const VAULT: &str = r#"
name = "vault"
protected = "family"

[attributes.label]
kind = "string"
default = "xj5plainlabelh8"
read = "public"

[attributes.zq7kvmarkerw4]
kind = "string"
default = "zq7kvmarkerw4"

[attributes.zq7kvmarkerw4-kin]
kind = "string"
default = "zq7kvmarkerw4"
read = "protected"
write = "protected"

[events.ring]

[events.zq7kvmarkerw4-own]
all_keys = ["zq7kvmarkerw4"]

[actions.ring]
on = "event:ring"
level = "public"
reply = { rung = true }

[actions.far]
on = "event:far"
level = "public"
script = 'return { note = get("zq7kvmarkerw4") }'

[actions.watch]
on = "before:value_change"
attribute = "zq7kvmarkerw4"
level = "public"
accept = true

[actions.zq7kvmarkerw4]
on = "before:value_change"
attribute = "zq7kvmarkerw4"
script = 'refuse("zq7kvmarkerw4")'

[actions.zq7kvmarkerw4-own]
on = "event:zq7kvmarkerw4-own"
script = 'log("zq7kvmarkerw4")'

[actions.zq7kvmarkerw4-ring]
on = "event:ring"
portable = true
script = 'log("zq7kvmarkerw4")'

[actions.zq7kvmarkerw4-kin]
on = "event:kin"
level = "protected"
portable = true
reply = { note = "zq7kvmarkerw4" }
"#;

/// Says itself whether it is shared.
const SHY: &str = r#"
name = "shy"

[attributes.mood]
kind = "string"
default = "shy"

[attributes.shared]
kind = "integer"
default = 0

[actions.keep]
on = "before:server_add_element"
script = '''
if get("mood") == "shy" then
  refuse("it stays from " .. event.name)
end
'''

[actions.lent]
on = "after:server_add_element"
script = 'set("shared", get("shared") + 1)'
"#;

/// A type of which a private action decides about an event.
fn judged(name: &str, kind: &str, more: &str) -> String {
    let value = "kind = \"integer\"\ndefault = 0\nread = \"public\"\nwrite = \"public\"\n";
    let action = format!("on = \"before:{kind}\"\n{more}\nscript = 'log(\"{MARKER}\")'\n");
    format!(
        "name = \"{name}\"\n[attributes.dial]\n{value}[attributes.knob]\n{value}\
         [actions.{MARKER}]\n{action}"
    )
}

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

/// Two servers: alice with her diary, and carol, are at home in the attic, bob in the kitchen.
fn attic_and_kitchen() -> [Node; 2] {
    let nodes = met(["attic", "kitchen"]);
    furnish(&nodes[0], &nodes[1]);
    nodes
}

/// The same, and the cellar, where eve has a chest. Alice is one of its crew.
fn neighbours() -> [Node; 3] {
    let nodes = met(["attic", "kitchen", "cellar"]);
    furnish(&nodes[0], &nodes[1]);
    place_chest(&nodes[2]);
    done(&nodes[2], "group member crew alice@attic");
    nodes
}

fn furnish(attic: &Node, kitchen: &Node) {
    settle(attic, "alice/garden");
    done(attic, "account add carol");
    publish(attic, "alice", DIARY);
    done(attic, "element create diary --name diary --as alice");
    settle(kitchen, "bob/yard");
}

/// Gives a node eve, her crew, and her chest.
fn place_chest(cellar: &Node) {
    settle(cellar, "eve/vault");
    done(cellar, "group add crew");
    publish(cellar, "eve", CHEST);
    done(cellar, "element create chest --name chest");
}

/// Makes an account with a world, and gives back its id.
fn settle(node: &Node, world: &str) -> String {
    let (account, _) = world.split_once('/').unwrap();
    let id = text(&done(node, &format!("account add {account}")), "id");
    done(node, &format!("world add {world}"));
    id
}

/// Publishes a type that must be good.
fn publish(node: &Node, who: &str, text: &str) {
    let file = node.file("published.toml", text);
    node.done(&["type", "publish", path(&file), "--as", who]);
}

/// Shares a type of alice with the kitchen, and waits until her home knows that it is held.
fn share(attic: &Node, name: &str) {
    done(attic, &format!("type share {name} kitchen --as alice"));
    let show = ["type", "show", name, "--as", "alice"];
    attic.until(&show, |shown| shown["holders"][0]["name"] == "kitchen");
}

/// Puts two servers on each other's list.
fn list(attic: &Node, other: &Node) {
    done(attic, &format!("protection add family {}", other.name));
    done(other, &format!("approve {}", text(&question(other), "id")));
    let show = ["protection", "show", "family", other.name.as_str()];
    attic.until(&show, |row| row["state"] == "active");
}

/// Whether a type, as it is shown, has an action.
fn has(action: &str) -> impl Fn(&Json) -> bool {
    move |shown| shown["definition"]["actions"][action].is_object()
}

/// Waits until a permission of a user is in a state, as their home or their host shows it.
fn stands(node: &Node, user: &str, state: &str) {
    let is_so = |item: &Json| item["user"] == user && item["state"] == state;
    node.until(&["token", "ls"], |listed| {
        listed["items"].as_array().is_some_and(|items| items.iter().any(is_so))
    });
}

fn for_alice(words: &str) -> String {
    format!("{words} --for alice@attic")
}

/// The only entry of the inbox, once it is there.
fn question(node: &Node) -> Json {
    let one = |inbox: &Json| inbox["items"].as_array().is_some_and(|items| items.len() == 1);
    node.until(&["inbox"], one)["items"][0].clone()
}

fn items_of<'l>(listed: &'l Json, key: &str) -> Vec<&'l str> {
    let items = listed["items"].as_array().unwrap_or_else(|| panic!("no list: {listed}"));
    items.iter().filter_map(|item| item[key].as_str()).collect()
}

/// The names of what is listed, with commas between.
fn names_of(listed: &Json) -> String {
    items_of(listed, "name").join(",")
}
