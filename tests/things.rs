//! Types, elements, and what they are to each other: parents, groups, sets, selections, timers and
//! questions to people; and what the system has of its own. One node, a real process, and a second
//! one where another server is asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must end, and say where")]

mod support;

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Duration;

use freehold::model::ServerId;
use serde_json::{Value as Json, json};
use support::{Node, Said, by_key, by_key_with, done, path, refused, said, split, text, value};

/// How long something that happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(20);

// Parents.

#[test]
fn a_child_has_what_its_parents_have_and_the_first_that_has_a_name_gives_it() {
    let node = garden();
    for text in [PLANT, POT, ROSE] {
        publish(&node, text);
    }
    done(&node, "element create rose --name rose");

    let values = done(&node, "element show rose")["values"].clone();

    assert_eq!(values, json!({"height": 1, "colour": "red", "clay": "brown", "thorns": 3}));
    // Attributes, events and actions: of both parents, the first before the second.
    let watered = done(&node, "action call rose water --arg amount=2");
    assert_eq!(watered["result"], json!({"height": 3}));
    let emptied = done(&node, "action call rose empty");
    assert_eq!(emptied["result"], json!({"emptied": true}));
    assert_eq!(names_of(&done(&node, "action ls rose")), "low,empty,water");
    refused(&node, "action call rose water --arg litres=2", 2, "unknown_field");
    refused(&node, "action call rose water", 2, "usage");
    let problem = refused(&node, "action call rose water --arg amount=50", 5, "refused");
    assert_eq!(problem["detail"], "no plant is that high");
    assert_eq!(refused(&node, "element set rose height 12", 5, "refused"), problem);
    assert_eq!(value(&node, "rose height"), 3);
}

#[test]
fn at_equal_priority_an_ancestor_is_asked_before_the_type_itself() {
    let node = garden();
    for text in [OLD, MIDDLE, YOUNG] {
        publish(&node, text);
    }
    done(&node, "element create young --name young");

    done(&node, "event send young line");

    // Neither by name nor by the place in a file: first by priority, then from above.
    assert_eq!(value(&node, "young order"), "urgent,z,m,a,late,");
    assert_eq!(names_of(&done(&node, "action ls young")), "urgent,z,m,a,late");
}

#[test]
fn a_revision_of_a_parent_reaches_the_elements_of_its_children() {
    let node = two_gardens();
    let grown = format!("{PLANT}{LEAVES}");
    let revision = |name: &str, who: &str| {
        done(&node, &format!("type show {name} --as {who}"))["revision"].clone()
    };
    publish(&node, PLANT);
    publish(&node, "name = \"bush\"\nparents = [\"plant\"]\n");
    publish(&node, "name = \"hedge\"\nparents = [\"bush\"]\n");
    publish_as(&node, "bob", "name = \"tree\"\nparents = [\"alice:plant\"]\n");
    done(&node, "element create hedge --name hedge --as alice");
    done(&node, "element create tree --name tree --as bob");
    refused(&node, "element get hedge leaves --as alice", 4, "not_found");

    assert_eq!(publish(&node, &grown)["revision"], 2);

    for (element, who) in [("hedge", "alice"), ("tree", "bob")] {
        assert_eq!(value(&node, &format!("{element} leaves --as {who}")), 7, "{element}");
        let shed = done(&node, &format!("action call {element} shed --as {who}"));
        assert_eq!(shed["result"], json!({"leaves": 6}), "{element}");
    }
    let now = [revision("bush", "alice"), revision("hedge", "alice"), revision("tree", "bob")];
    assert_eq!(now, [2, 2, 2]);
    assert_eq!(publish(&node, &grown)["revision"], 2);
    assert_eq!(revision("hedge", "alice"), 2, "what says nothing new is no revision");
}

#[test]
fn a_parent_changes_nothing_that_elements_of_its_children_have() {
    let node = garden();
    publish(&node, "name = \"shell\"\n");
    publish(&node, SIZED);
    publish(&node, "name = \"snail\"\nparents = [\"shell\", \"sized\"]\n");
    done(&node, "element create snail --name snail --value size=5");
    // An element of a child is one of the parent too: what it has may not become something else.
    let table = [
        ("another kind", SIZED.replace("\"integer\"", "\"string\"").replace("= 1", "= \"one\"")),
        ("another default", SIZED.replace("= 1", "= 2")),
        ("an attribute less", "name = \"sized\"\n".to_owned()),
        (
            "a name that the first parent gives",
            "name = \"shell\"\n[attributes.size]\nkind = \"string\"\n".to_owned(),
        ),
    ];

    let missed: Vec<String> = table
        .iter()
        .map(|(what, text)| (what, try_publish(&node, "alice", text)))
        .filter(|(_, said)| (said.exit, &said.err["code"]) != (8, &json!("type_in_use")))
        .map(|(what, said)| format!("{what}: {} {}{}", said.exit, said.out, said.err))
        .collect();

    assert!(missed.is_empty(), "{missed:#?}");
    assert_eq!(value(&node, "snail size"), 5);
}

#[test]
fn what_no_parent_can_be_is_refused_and_nothing_is_published() {
    let node = garden();
    publish(&node, LAW);
    for text in ["name = \"a\"\n", "name = \"b\"\nparents = [\"a\"]\n"] {
        publish(&node, text);
    }
    publish(&node, "name = \"c\"\nparents = [\"b\"]\n[attributes.tax]\nkind = \"integer\"\n");
    let before = done(&node, "type ls")["items"].clone();
    let final_later = format!("{LAW}[attributes.tax]\nkind = \"string\"\nfinal = true\n");
    publish(&node, "name = \"court\"\nparents = [\"law\"]\n[attributes.tax]\nkind = \"bool\"\n");
    let table = [
        // Final in a parent, and in a parent's parent.
        ("name = \"d\"\nparents = [\"law\"]\n[attributes.rate]\nkind = \"integer\"\n", 1),
        ("name = \"d\"\nparents = [\"court\"]\n[attributes.rate]\nkind = \"integer\"\n", 1),
        // A parent that would become final in what its child says already.
        (&final_later, 1),
        ("name = \"d\"\nparents = [\"nosuch\"]\n", 4),
        ("name = \"d\"\nparents = [\"bob:a\"]\n", 4),
        ("name = \"d\"\nparents = [\"d\"]\n", 4),
        ("name = \"d\"\nparents = \"a\"\n", 1),
        ("name = \"d\"\nparents = [3]\n", 1),
        // Its own ancestor: at once, over one, over two.
        ("name = \"a\"\nparents = [\"a\"]\n", 1),
        ("name = \"a\"\nparents = [\"b\"]\n", 1),
        ("name = \"a\"\nparents = [\"law\", \"c\"]\n", 1),
    ];

    for (text, exit) in table {
        let said = try_publish(&node, "alice", text);
        let code = if exit == 1 { "bad_type" } else { "not_found" };
        assert_eq!((said.exit, &said.err["code"]), (exit, &json!(code)), "{text}: {said:?}");
    }

    done(&node, "element create court --name court");
    assert_eq!(value(&node, "court rate"), 5);
    let after = done(&node, "type ls")["items"].clone();
    let others = after.as_array().unwrap().iter().filter(|held| held["name"] != "alice:court");
    assert!(others.eq(before.as_array().unwrap()), "{before} became {after}");
}

#[test]
fn a_family_names_only_what_is_there_and_ends() {
    let node = garden();
    publish(&node, PLANT);
    let parents = ["", "parents = [\"plant\"]\n"];
    let families = [
        "[attributes.leaf]\nkind = \"integer\"\nparent = \"nosuch\"\n",
        "[events.rain]\nparent = \"nosuch\"\n",
        "[attributes.leaf]\nkind = \"integer\"\nparent = \"leaf\"\n",
        "[events.rain]\nparent = \"hail\"\n[events.hail]\nparent = \"rain\"\n",
    ];

    let mut missed = Vec::new();
    for parents in parents {
        for family in families {
            let text = format!("name = \"odd\"\n{parents}{family}");
            let said = try_publish(&node, "alice", &text);
            if (said.exit, &said.err["code"]) != (1, &json!("bad_type")) {
                missed.push(format!("{text}: {} {}{}", said.exit, said.out, said.err));
            }
        }
    }

    assert!(missed.is_empty(), "{missed:#?}");
    // What a parent has, a family of the child may name.
    publish(
        &node,
        "name = \"fern\"\nparents = [\"plant\"]\n[attributes.leaf]\nkind = \"integer\"\n\
         parent = \"height\"\n[events.rain]\nparent = \"water\"\n",
    );
}

#[test]
fn a_static_value_is_the_types_and_is_set_on_no_element() {
    let node = garden();
    publish(&node, COIN);
    publish(&node, &COIN.replace("\"coin\"", "\"medal\"\nparents = [\"coin\"]").replace("5", "7"));
    done(&node, "element create coin --name coin");
    done(&node, "element create medal --name medal");

    refused(&node, "element set coin worth 9", 5, "not_permitted");
    refused(&node, "action call coin cheat", 5, "not_permitted");
    refused(&node, "element create coin --name forged --value worth=9", 5, "not_permitted");

    assert_eq!((value(&node, "coin worth"), value(&node, "medal worth")), (json!(5), json!(7)));
    assert_eq!(select(&node, ""), "coin,medal");
}

#[test]
fn an_action_on_an_attribute_hears_its_children_which_go_off_with_it() {
    let node = garden();
    publish(&node, SPECTRUM);
    done(&node, "element create spectrum --name spectrum");

    // Light is above red, which is above ruby; sound is not of the family.
    for (attribute, heard) in [("light", 1), ("red", 2), ("ruby", 3), ("sound", 3)] {
        done(&node, &format!("element set spectrum {attribute} 4"));
        assert_eq!(value(&node, "spectrum heard"), heard, "{attribute}");
    }
    let problem = refused(&node, "element set spectrum ruby -4", 5, "refused");
    assert_eq!(problem["detail"], "there is no dark ruby");
    done(&node, "element set spectrum sound -4");
    assert_eq!(value(&node, "spectrum ruby"), 4);

    done(&node, "element switch spectrum red --off");
    for words in ["get spectrum red", "get spectrum ruby", "set spectrum ruby 5"] {
        refused(&node, &format!("element {words}"), 4, "not_found");
    }
    assert_eq!(
        (value(&node, "spectrum light"), value(&node, "spectrum sound")),
        (json!(4), json!(-4))
    );
    done(&node, "element switch spectrum red");
    done(&node, "element switch spectrum light --off");
    let values = done(&node, "element show spectrum")["values"].clone();
    assert_eq!(values, json!({"heard": 3, "sound": -4}));
    done(&node, "element switch spectrum light");
    assert_eq!(value(&node, "spectrum ruby"), 4);
}

#[test]
fn a_retired_type_makes_no_more_elements_and_those_there_live_on() {
    let node = two_gardens();
    publish(&node, PLANT);
    publish(&node, "name = \"bush\"\nparents = [\"plant\"]\n");
    done(&node, "element create plant --name plant --as alice");
    refused(&node, "type retire alice:plant --as bob", 5, "not_permitted");
    refused(&node, "type retire nosuch --as alice", 4, "not_found");
    done(&node, "element create plant --as alice");

    let retired = done(&node, "type retire plant --as alice");

    for words in ["plant", "plant --name second", "plant --count 3"] {
        refused(&node, &format!("element create {words} --as alice"), 8, "conflict");
    }
    assert_eq!(done(&node, "world show garden --as alice")["elements"], 2);
    let watered = done(&node, "action call plant water --arg amount=2 --as alice");
    assert_eq!(watered["result"], json!({"height": 3}));
    // It stays so: over another retirement, and over a revision, which reaches its elements.
    assert_eq!(done(&node, "type retire plant --as alice"), retired);
    assert_eq!(publish(&node, &format!("{PLANT}{LEAVES}"))["revision"], 2);
    assert_eq!(value(&node, "plant leaves --as alice"), 7);
    refused(&node, "element create plant --as alice", 8, "conflict");
    // A child is a type of its own.
    done(&node, "element create bush --as alice");
    done(&node, "element destroy plant --as alice");
}

// Groups.

#[test]
fn a_group_is_changed_by_its_owner_and_its_admins_alone() {
    let node = two_gardens();
    for name in ["carol", "dave"] {
        done(&node, &format!("account add {name}"));
    }
    let made = done(&node, "group add friends --as alice");
    let id = made["id"].as_str().unwrap();
    let members = || {
        let shown = done(&node, "group show alice:friends --as bob");
        let members = shown["members"].as_array().unwrap().iter();
        let mut members: Vec<String> = members
            .map(|member| {
                format!(
                    "{}{}",
                    text(member, "name"),
                    if member["admin"] == true { "!" } else { "" }
                )
            })
            .collect();
        members.sort();
        members.join(",")
    };

    for (name, exit, code) in [
        ("friends", 8, "name_taken"),
        ("FRIENDS", 8, "name_taken"),
        ("owner", 2, "usage"),
        ("Everyone", 2, "usage"),
        ("a.b", 2, "usage"),
    ] {
        refused(&node, &format!("group add {name} --as alice"), exit, code);
    }
    done(&node, "group add friends --as bob");
    assert_eq!(names_of(&done(&node, "group ls")), "alice:friends,bob:friends");
    assert_eq!(done(&node, &format!("group show {id} --as bob"))["owner"], "alice");

    let not_permitted = |words: &str, who: &str| {
        let before = members();
        refused(&node, &format!("group {words} --as {who}"), 5, "not_permitted");
        assert_eq!(members(), before, "{words} by {who}");
    };
    not_permitted("member alice:friends bob", "bob");
    let added = done(&node, "group member friends bob --as alice");
    assert_eq!((&added["member"], &added["admin"]), (&json!(true), &json!(false)));
    not_permitted("member alice:friends carol", "bob");
    not_permitted("member alice:friends bob --admin", "bob");
    done(&node, "group member friends bob --admin --as alice");
    done(&node, "group member alice:friends carol --as bob");
    done(&node, "group member alice:friends dave --admin --as bob");
    assert_eq!(members(), "bob!,carol,dave!");
    not_permitted("rm alice:friends", "bob");
    not_permitted("member alice:friends bob --remove", "carol");
    let lowered = done(&node, "group member friends bob --admin --remove --as alice");
    assert_eq!((&lowered["member"], &lowered["admin"]), (&json!(true), &json!(false)));
    not_permitted("member alice:friends carol --remove", "bob");
    done(&node, "group member alice:friends carol --remove --as dave");
    assert_eq!(members(), "bob,dave!");

    // What is so already stays so.
    for words in ["carol --remove", "bob", "dave --admin", "bob --admin --remove"] {
        done(&node, &format!("group member friends {words} --as alice"));
        assert_eq!(members(), "bob,dave!", "{words}");
    }
    refused(&node, "group member friends nobody --as alice", 4, "not_found");
    refused(&node, "group member nosuch bob --as alice", 4, "not_found");
    done(&node, "group rm friends --as alice");
    refused(&node, "group show alice:friends --as bob", 4, "not_found");
    refused(&node, &format!("group show {id} --as bob"), 4, "not_found");
    done(&node, "group add friends --as alice");
    assert_eq!(members(), "", "a new group of the same name is another");
}

#[test]
fn rights_for_a_group_are_those_of_its_members() {
    let node = two_gardens();
    let early = try_publish(&node, "alice", CLUB);
    assert_eq!((early.exit, &early.err["code"]), (4, &json!("not_found")), "{early:?}");
    refused(&node, "type show club --as alice", 4, "not_found");
    // Another's group of that name is none of ours.
    for group in ["friends", "makers"] {
        done(&node, &format!("group add {group} --as bob"));
    }
    assert_eq!(try_publish(&node, "alice", CLUB).exit, 4);
    for group in ["friends", "makers"] {
        done(&node, &format!("group add {group} --as alice"));
    }
    publish(&node, CLUB);
    done(&node, "element create club --name club --value news=none --as alice");
    let reads = "element get alice/garden/club news --as bob";
    let writes = "element set alice/garden/club news some --as bob";
    let makes = "element create alice:club --as bob";
    let sees = || names_of(&done(&node, "element ls --world alice/garden --as bob"));
    let shut = || {
        refused(&node, reads, 5, "not_permitted");
        refused(&node, writes, 5, "not_permitted");
        assert_eq!(sees(), "");
    };
    let may_not_make = || {
        refused(&node, makes, 5, "not_permitted");
        refused(&node, &format!("{makes} --count 3"), 5, "not_permitted");
    };

    shut();
    may_not_make();
    assert_eq!(value(&node, "club news --as alice"), "none");
    done(&node, "group member friends bob --as alice");
    assert_eq!(done(&node, reads)["value"], "none");
    done(&node, writes);
    assert_eq!(sees(), "club");
    refused(&node, "element get alice/garden/club diary --as bob", 5, "not_permitted");
    refused(&node, "element set alice/garden/club diary x --as bob", 5, "not_permitted");
    may_not_make();
    assert_eq!(done(&node, "world show house --as bob")["elements"], 0);
    done(&node, "group member makers bob --as alice");
    done(&node, makes);

    // Whoever is one no more has the right no more, and without the group nobody has.
    done(&node, "group member friends bob --remove --as alice");
    shut();
    done(&node, "group member friends bob --as alice");
    assert_eq!(done(&node, reads)["value"], "some");
    done(&node, "group rm friends --as alice");
    done(&node, "group rm makers --as alice");
    shut();
    may_not_make();
    assert_eq!(value(&node, "club news --as alice"), "some");
    assert_eq!(names_of(&done(&node, "element ls --world alice/garden --as alice")), "club");
}

#[test]
fn the_element_of_a_group_hears_of_it_and_may_refuse() {
    let node = two_gardens();
    publish(&node, &format!("{WARDEN}{}", wardens(&GROUP_EVENTS)));
    for name in ["judge", "warden"] {
        done(&node, &format!("element create warden --name {name} --as alice"));
    }
    let own = "group add guild --element alice/garden/warden";
    refused(&node, &format!("{own} --as bob"), 5, "not_permitted");
    refused(&node, "group add guild --element nosuch --as alice", 4, "not_found");
    let table = [
        ("group_creation", own),
        ("group_member_added", "group member guild bob"),
        ("group_admin_added", "group member guild bob --admin"),
        ("group_admin_removed", "group member guild bob --admin --remove"),
        ("group_member_removed", "group member guild bob --remove"),
        ("group_destruction", "group rm guild"),
    ];
    let state = || {
        let shown = node.say(&["group", "show", "guild", "--as", "alice"]);
        let (ls, heard) = (done(&node, "group ls"), value(&node, "warden heard --as alice"));
        (shown.exit, shown.out["members"].clone(), ls, heard)
    };

    let mut heard = String::new();
    for (kind, words) in table {
        let words = format!("{words} --as alice");
        let before = state();
        done(&node, &format!("element set judge refuses warden:{kind} --as alice"));
        let problem = refused(&node, &words, 5, "refused");
        assert_eq!(problem["detail"], format!("no {kind}"));
        assert_eq!(state(), before, "{kind}");

        done(&node, "element set judge refuses nobody --as alice");
        done(&node, &words);
        heard.push_str(&format!("{kind},"));
        assert_eq!(value(&node, "warden heard --as alice"), heard);
    }
    assert_eq!(done(&node, "group ls")["items"], json!([]));
}

// Sets.

#[test]
fn a_set_keeps_its_members_in_order() {
    let node = garden();
    things(&node, "bag one two three four");
    done(&node, "set add bag");
    let table = [
        ("push bag one", "one"),
        ("push bag two", "one,two"),
        ("unshift bag three", "three,one,two"),
        ("enter bag four", "three,one,two,four"),
        ("enter bag three", "three,one,two,four"),
        ("push bag three", "one,two,four,three"),
        ("unshift bag four", "four,one,two,three"),
        ("pop bag", "four,one,two"),
        ("shift bag", "one,two"),
        ("leave bag three", "one,two"),
        ("leave bag one", "two"),
        ("pop bag", ""),
        ("pop bag", ""),
        ("shift bag", ""),
        ("unshift bag one", "one"),
        ("unshift bag two", "two,one"),
    ];
    for (words, want) in table {
        let answer = done(&node, &format!("set {words}"));

        assert_eq!(members(&node, "bag"), want, "{words}");
        let count = want.split(',').filter(|name| !name.is_empty()).count();
        assert_eq!(answer["members"], json!(count), "{words}");
    }
    assert_eq!(done(&node, "set enter bag one")["changed"], false);
    assert_eq!(done(&node, "set leave bag three")["changed"], false);
    let one = done(&node, "element show one")["id"].clone();
    assert_eq!(done(&node, "set pop bag")["element"], one);
    done(&node, "set leave bag two");
    assert_eq!(done(&node, "set shift bag")["element"], Json::Null);

    // Made once, listed with its size, and gone without its members.
    done(&node, "set enter bag four");
    done(&node, "set add bag");
    let sets = done(&node, "set ls")["items"].clone();
    assert_eq!((&sets[0]["name"], &sets[0]["members"]), (&json!("bag"), &json!(1)));
    done(&node, "set rm bag");
    for words in ["rm bag", "ls bag", "show bag", "enter bag one", "pop bag", "push bag one"] {
        refused(&node, &format!("set {words}"), 4, "not_found");
    }
    assert_eq!(done(&node, "set ls")["items"], json!([]));
    assert_eq!(select(&node, ""), "bag,one,two,three,four");
    done(&node, "set add bag");
    assert_eq!(members(&node, "bag"), "");
}

#[test]
fn the_pages_of_a_set_hold_every_member_once_and_in_order() {
    let node = garden();
    publish(&node, THING);
    done(&node, "element create thing --name bag");
    done(&node, "element create thing --count 300 --value n=1");
    done(&node, "set add bag");
    let union = node.done(&["set", "union", "bag", "--where", "n = 1"]);
    assert_eq!((&union["entered"], &union["members"]), (&json!(300), &json!(300)));

    let all = ids_of(&done(&node, "set ls bag --limit 1000"));
    let pages = pages(&node, &["set", "ls", "bag", "--limit", "70"]);

    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 300);
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [70, 70, 70, 70, 20]);
    assert_eq!(pages.concat(), all);
    refused(&node, "set ls bag --cursor strange", 2, "usage");
}

#[test]
fn sets_are_combined_with_other_sets_and_with_selections() {
    let node = garden();
    things(&node, "left right one two three four");
    for (element, number) in [("one", 1), ("two", 2), ("three", 3), ("four", 4)] {
        done(&node, &format!("element set {element} n {number}"));
    }
    done(&node, "set add right");
    done(&node, "set enter right three");
    done(&node, "set enter right four");
    let left = || {
        node.say(&["set", "rm", "left"]);
        done(&node, "set add left");
        for name in ["one", "two", "three"] {
            done(&node, &format!("set enter left {name}"));
        }
    };
    let table = [
        ("union", "one,two,three,four", 1, 0),
        ("intersection", "three", 0, 2),
        ("difference", "one,two", 0, 1),
        ("symmetric_difference", "one,two,four", 1, 1),
    ];
    for (verb, want, entered, gone) in table {
        for by in [["--with", "right"], ["--where", "n in 3 .. 4"]] {
            left();
            let answer = node.done(&["set", verb, "left", by[0], by[1]]);

            assert_eq!(members(&node, "left"), want, "{verb} {by:?}");
            let counts = (&answer["entered"], &answer["left"]);
            assert_eq!(counts, (&json!(entered), &json!(gone)), "{verb} {by:?}");
            assert_eq!(members(&node, "right"), "three,four", "{verb} {by:?}");
        }
    }
    left();
    assert_eq!(names_of(&done(&node, "set mutual left right")), "three");
    let mistakes: [(&[&str], i32, &str); 6] = [
        (&["union", "left"], 2, "usage"),
        (&["intersection", "left", "--with", "right", "--where", "n = 3"], 2, "usage"),
        (&["difference", "left", "--where", "n ="], 2, "usage"),
        (&["intersection", "left", "--where", "type = nosuch"], 4, "not_found"),
        (&["symmetric_difference", "left", "--with", "nosuch"], 4, "not_found"),
        (&["union", "left", "--with", "one"], 4, "not_found"),
    ];
    for (words, exit, code) in mistakes {
        node.refused(&[&["set"], words].concat(), exit, code);
    }
    refused(&node, "set mutual left one", 4, "not_found");
    assert_eq!(members(&node, "left"), "one,two,three");
    // With itself: all, all, none, none.
    for (verb, want) in
        [("union", "one,two,three"), ("intersection", "one,two,three"), ("difference", "")]
    {
        done(&node, &format!("set {verb} left --with left"));
        assert_eq!(members(&node, "left"), want, "{verb}");
    }
}

#[test]
fn sets_have_children_and_links_and_none_is_its_own_ancestor() {
    let node = garden();
    things(&node, "house room chest stone");
    for name in ["house", "room", "chest"] {
        done(&node, &format!("set add {name}"));
    }
    let ids: Vec<Json> = ["house", "room", "chest"]
        .map(|name| done(&node, &format!("element show {name}"))["id"].clone())
        .to_vec();
    let ties = |name: &str| {
        let shown = done(&node, &format!("set show {name}"));
        let named = |key: &str| {
            let ends = shown[key].as_array().unwrap().iter();
            let place = |end: &Json| ids.iter().position(|id| id == end).unwrap();
            ends.map(|end| ["house", "room", "chest"][place(end)]).collect::<Vec<_>>().join(",")
        };
        ["parents", "children", "links", "linked"].map(named).join("|")
    };

    for words in ["child house room", "child room chest", "link house chest", "link chest chest"] {
        assert_eq!(done(&node, &format!("set {words}"))["changed"], true, "{words}");
        assert_eq!(done(&node, &format!("set {words}"))["changed"], false, "{words}");
    }
    let tied = || ["house", "room", "chest"].map(ties);
    let want = ["|room|chest|", "house|chest||", "room||chest|house,chest"];
    assert_eq!(tied(), want);
    for words in ["child house house", "child room house", "child chest house", "child chest room"]
    {
        refused(&node, &format!("set {words}"), 8, "conflict");
    }
    for words in ["child house stone", "link house stone", "link stone house", "child nosuch room"]
    {
        refused(&node, &format!("set {words}"), 4, "not_found");
    }
    assert_eq!(tied(), want);

    assert_eq!(done(&node, "set child room chest --remove")["changed"], true);
    assert_eq!(done(&node, "set child room chest --remove")["changed"], false);
    assert_eq!(done(&node, "set link house chest --remove")["changed"], true);
    assert_eq!(tied(), ["|room||", "house|||", "||chest|chest"]);
    // What was an ancestor is one no more, and a set that goes lets go of its ends.
    done(&node, "set child chest house");
    assert_eq!(tied(), ["chest|room||", "house|||", "|house|chest|chest"]);
    done(&node, "set rm house");
    assert_eq!((ties("room"), ties("chest")), ("|||".to_owned(), "||chest|chest".to_owned()));
}

#[test]
fn a_set_is_changed_by_its_owner_and_by_the_elements_in_its_own_world() {
    let node = two_gardens();
    publish(&node, THING);
    for name in ["bag", "box", "stone", "gift"] {
        done(&node, &format!("element create thing --name {name} --as alice"));
    }
    for name in ["bag", "box"] {
        done(&node, &format!("set add {name} --as alice"));
    }
    done(&node, "set enter bag stone --as alice");
    done(&node, "set child bag box --as alice");
    done(&node, "element give gift bob --as alice");
    done(&node, "world add alice/yard");
    done(&node, "element create thing --name far --world alice/yard --as alice");
    done(&node, "set add far --world alice/yard --as alice");
    let state = || {
        ["set ls bag", "set show bag", "set show box", "set ls"]
            .map(|words| done(&node, &format!("{words} --world alice/garden --as alice")))
    };
    let before = state();

    for words in [
        "add stone",
        "rm bag",
        "enter bag stone",
        "enter box stone",
        "leave bag stone",
        "push bag stone",
        "unshift bag stone",
        "pop bag",
        "shift bag",
        "union bag --with bag",
        "intersection bag --with box",
        "difference bag --with bag",
        "symmetric_difference bag --with bag",
        "child bag box --remove",
        "child box bag",
        "link bag box",
    ] {
        let words = format!("set {words} --world alice/garden --as bob");
        refused(&node, &words, 5, "not_permitted");
    }
    for words in [
        "enter bag alice/yard/far",
        "push bag alice/yard/far",
        "unshift bag alice/yard/far",
        "enter alice/yard/far stone",
        "union bag --with alice/yard/far",
        "child bag alice/yard/far",
        "link alice/yard/far bag",
    ] {
        refused(&node, &format!("set {words} --world alice/garden --as alice"), 2, "usage");
    }
    assert_eq!(state(), before);

    // Whose the set is, and whose the element is: either may.
    for who in ["bob", "alice"] {
        done(&node, &format!("set enter bag gift --world alice/garden --as {who}"));
        assert_eq!(members_in(&node, "bag", "alice/garden"), "stone,gift", "{who}");
        done(&node, &format!("set leave bag gift --world alice/garden --as {who}"));
        assert_eq!(members_in(&node, "bag", "alice/garden"), "stone", "{who}");
    }
}

#[test]
fn each_event_of_a_set_may_be_refused_and_then_nothing_has_changed() {
    let node = garden();
    publish(&node, &format!("{WARDEN}{}", wardens(&SET_EVENTS)));
    things_of(&node, "warden", "judge bag other kid inner outer");
    for words in [
        "add bag",
        "add other",
        "add kid",
        "enter bag inner",
        "enter other outer",
        "child bag kid",
        "link bag kid",
    ] {
        done(&node, &format!("set {words}"));
    }
    for name in ["bag", "other", "kid", "inner", "outer"] {
        done(&node, &format!("element set {name} heard \"\""));
    }
    let state =
        || ["ls bag", "show bag", "show other"].map(|words| done(&node, &format!("set {words}")));
    let before = state();
    // Who hears it, what it is called, and by what it is fired.
    let table = [
        ("outer", "element_enters_set", "enter bag outer"),
        ("bag", "set_element_added", "enter bag outer"),
        ("inner", "element_leaves_set", "leave bag inner"),
        ("bag", "set_element_removed", "leave bag inner"),
        ("bag", "set_child_added", "child bag other"),
        ("other", "set_parent_added", "child bag other"),
        ("bag", "set_child_removed", "child bag kid --remove"),
        ("kid", "set_parent_removed", "child bag kid --remove"),
        ("bag", "set_link_made", "link bag other"),
        ("other", "set_link_received", "link bag other"),
        ("bag", "set_link_removed", "link bag kid --remove"),
        ("kid", "set_link_lost", "link bag kid --remove"),
        ("bag", "set_union", "union bag --with other"),
        ("bag", "set_intersection", "intersection bag --with other"),
        ("bag", "set_difference", "difference bag --with bag"),
        ("bag", "set_symmetric_difference", "symmetric_difference bag --with other"),
        ("bag", "set_push", "push bag outer"),
        ("bag", "set_pop", "pop bag"),
        ("bag", "set_unshift", "unshift bag outer"),
        ("bag", "set_shift", "shift bag"),
        ("bag", "set_mutual", "mutual bag other"),
        // What an operation consists of may be refused too.
        ("outer", "element_enters_set", "union bag --with other"),
        ("outer", "element_enters_set", "symmetric_difference bag --with other"),
        ("outer", "element_enters_set", "push bag outer"),
        ("bag", "set_element_added", "unshift bag outer"),
        ("inner", "element_leaves_set", "intersection bag --with other"),
        ("inner", "element_leaves_set", "push bag inner"),
        ("bag", "set_element_removed", "pop bag"),
    ];

    for (hearer, kind, words) in table {
        done(&node, &format!("element set judge refuses {hearer}:{kind}"));
        let problem = refused(&node, &format!("set {words}"), 5, "refused");

        assert_eq!(problem["detail"], format!("no {kind}"), "{words}");
        assert_eq!(state(), before, "{kind}: {words}");
    }
    for name in ["bag", "other", "kid", "inner", "outer"] {
        assert_eq!(value(&node, &format!("{name} heard")), "", "{name} was told of nothing");
    }

    // And if nobody refuses, each is told.
    done(&node, "element set judge refuses nobody");
    for words in ["enter bag outer", "child bag other", "link bag kid --remove", "shift bag"] {
        done(&node, &format!("set {words}"));
    }
    let heard = |name: &str| value(&node, &format!("{name} heard"));
    let bag = "set_element_added,set_child_added,set_link_removed,set_element_removed,set_shift,";
    assert_eq!(heard("bag"), bag);
    assert_eq!(
        (heard("other"), heard("kid")),
        (json!("set_parent_added,"), json!("set_link_lost,"))
    );
    assert_eq!(heard("outer"), "element_enters_set,");
    assert_eq!(heard("inner"), "element_leaves_set,");
    let kinds: BTreeSet<&str> = table.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, SET_EVENTS.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn what_stands_in_the_same_set_hears_what_has_happened_there() {
    let node = two_gardens();
    publish(&node, NEIGHBOUR);
    let create = "element create neighbour --world alice/garden --as alice --name";
    for name in ["street", "one", "two", "away", "guest"] {
        done(&node, &format!("{create} {name}"));
    }
    let by_alice = |words: &str| done(&node, &format!("{words} --world alice/garden --as alice"));
    let ids = ["one", "two"].map(|name| by_alice(&format!("element show {name}"))["id"].clone());
    by_alice("set add street");
    for name in ["one", "two", "guest"] {
        by_alice(&format!("set enter street {name}"));
    }
    by_alice("element give guest bob");
    let heard = |name: &str, who: &str| {
        let read = format!("element get {name} heard --world alice/garden --as {who}");
        let heard = done(&node, &read)["value"].clone();
        done(&node, &format!("element set {name} heard [] --world alice/garden --as {who}"));
        heard
    };
    for (name, who) in [("one", "alice"), ("two", "alice"), ("guest", "bob")] {
        heard(name, who);
    }

    by_alice("element set one sign open");
    let told = json!([{
        "name": "value_change", "element": ids[0], "attribute": "sign", "old": "", "value": "open",
    }]);
    assert_eq!(heard("two", "alice"), told);
    assert_eq!(heard("guest", "bob"), told, "what is public, another's element hears too");
    assert_eq!(heard("one", "alice"), json!([]), "of itself it hears nothing");
    assert_eq!(heard("street", "alice"), json!([]), "the set is not in the set");
    // A hidden value is told to whom it may be read by; what a script sets is told as well.
    by_alice("action call two hide --arg what=key");
    let told = json!([{
        "name": "value_change", "element": ids[1], "attribute": "hidden", "old": "", "value": "key",
    }]);
    assert_eq!(heard("one", "alice"), told);
    assert_eq!(heard("guest", "bob"), json!([]));
    // Nothing from outside, nothing that was refused, and the leave is the last that is heard.
    by_alice("element set away sign open");
    refused(&node, "element set alice/garden/one sign never --as alice", 5, "refused");
    assert_eq!(heard("two", "alice"), json!([]));
    by_alice("set leave street one");
    by_alice("element set one sign shut");
    assert_eq!(heard("one", "alice"), json!([]));
    by_alice("element destroy two");
    let gone = heard("guest", "bob");
    let kinds: Vec<(&Json, &Json)> =
        gone.as_array().unwrap().iter().map(|event| (&event["name"], &event["element"])).collect();
    let two = json!("two");
    assert_eq!(kinds, [(&two, &ids[1])]);
    // Only what has happened is heard so.
    let before =
        NEIGHBOUR.replace("\"after:element_destruction\"", "\"before:element_destruction\"");
    assert_eq!(try_publish(&node, "bob", &before).err["code"], "bad_type");
}

#[test]
fn what_is_destroyed_leaves_its_sets_and_takes_its_own_with_it() {
    let node = garden();
    things(&node, "bag sack kid stone pearl");
    for words in [
        "add bag",
        "add sack",
        "add kid",
        "enter bag stone",
        "enter bag pearl",
        "enter sack stone",
        "enter bag sack",
        "child bag sack",
        "link kid sack",
    ] {
        done(&node, &format!("set {words}"));
    }

    done(&node, "element destroy stone");

    assert_eq!(
        (members(&node, "bag"), members(&node, "sack")),
        ("pearl,sack".into(), String::new())
    );
    assert_eq!(done(&node, "set show bag")["members"], 2);
    assert_eq!(done(&node, "set show sack")["members"], 0);
    done(&node, "set enter sack pearl");
    done(&node, "element destroy sack");
    assert_eq!(names_of(&done(&node, "set ls")), "bag,kid");
    assert_eq!(members(&node, "bag"), "pearl");
    let (bag, kid) = (done(&node, "set show bag"), done(&node, "set show kid"));
    assert_eq!((&bag["children"], &kid["links"]), (&json!([]), &json!([])));
    refused(&node, "set show sack", 4, "not_found");
    assert_eq!(select(&node, ""), "bag,kid,pearl");
    // The same name is another element, which is in nothing and defines nothing.
    done(&node, "element create thing --name sack");
    refused(&node, "set ls sack", 4, "not_found");
    assert_eq!(members(&node, "bag"), "pearl");
}

// Selections.

#[test]
fn a_selection_picks_by_type_name_owner_value_and_set() {
    let node = two_gardens();
    for text in [THING, "name = \"toy\"\nparents = [\"thing\"]\n", GEM] {
        publish(&node, text);
    }
    for (kind, name, number) in [
        ("thing", "t1", 1),
        ("thing", "t2", 2),
        ("toy", "top", 2),
        ("gem", "g1", -1),
        ("gem", "g2", 2),
        ("gem", "g3", 10),
        ("gem", "ruby", 2),
    ] {
        let values = format!("--value n={number} --value label={name}-{number}");
        done(&node, &format!("element create {kind} --name {name} {values} --as alice"));
    }
    for words in [
        "element set t1 label null",
        "element give g3 bob",
        "set add t1",
        "set add t2",
        "set add top",
        "set enter t1 ruby",
        "set enter t1 g1",
        "set child t1 t2",
        "set link t2 top",
    ] {
        done(&node, &format!("{words} --as alice"));
    }
    let id = text(&done(&node, "element show g1 --as alice"), "id");
    let by_id = format!("id = {id}");
    let table = [
        ("", "t1,t2,top,g1,g2,g3,ruby"),
        ("type = thing", "t1,t2,top"),
        ("TYPE = alice:thing AND NOT type = toy", "t1,t2"),
        ("type = toy", "top"),
        ("type != thing", "g1,g2,g3,ruby"),
        ("name = t*", "t1,t2,top"),
        ("name = *1", "t1,g1"),
        ("name = T2", "t2"),
        ("name != *", ""),
        ("owner = bob", "g3"),
        ("owner != bob and type = gem", "g1,g2,ruby"),
        (&by_id, "g1"),
        ("n = 2", "t2,top,g2,ruby"),
        ("n = 2.0 and type = thing", "t2,top"),
        ("n != 2", "t1,g1"),
        ("type = gem and n = 2", "g2,ruby"),
        ("type = gem and n = -1", "g1"),
        ("type = gem and n < 2", "g1"),
        ("type = gem and n <= 2", "g1,g2,ruby"),
        ("type = gem and n > 2", ""),
        ("type = gem and n >= 2", "g2,ruby"),
        ("type = gem and n in -1 .. 2", "g1,g2,ruby"),
        ("type = gem and n = \"2\"", ""),
        ("type = gem and label = g2-2", "g2"),
        ("type = gem and label >= g2", "g2,ruby"),
        ("label is set and type = thing", "t2,top"),
        ("label = null", "t1"),
        ("in t1", "ruby,g1"),
        ("in t1 and type = gem and n = 2", "ruby"),
        ("type = gem and not in t1", "g2,g3"),
        ("child of t1", "t2"),
        ("parent of t2", "t1"),
        ("linked from t2", "top"),
        ("linked to top", "t2"),
        ("defines set", "t1,t2,top"),
        ("not (type = thing or n = 2)", "g1,g3"),
        ("name = t1 or (name = g* and n > 1)", "t1,g2"),
        ("nosuch = 1", ""),
    ];

    let missed: Vec<String> = table
        .iter()
        .map(|(text, want)| (text, want, select_as(&node, "alice", text)))
        .filter(|(_, want, got)| sorted(want) != sorted(got))
        .map(|(text, want, got)| format!("{text}: {got}, wanted {want}"))
        .collect();

    assert!(missed.is_empty(), "{missed:#?}");
    // What is moved is found where it is now.
    done(&node, "element set g2 n 7 --as alice");
    assert_eq!(select_as(&node, "alice", "type = gem and n = 2"), "ruby");
    assert_eq!(select_as(&node, "alice", "type = gem and n = 7"), "g2");
    done(&node, "element destroy ruby --as alice");
    assert_eq!(select_as(&node, "alice", "type = gem and n < 9"), "g1,g2");
    for unknown in ["type = nosuch", "owner = nobody", "in nosuch", "child of nosuch"] {
        node.refused(&["element", "ls", "--where", unknown, "--as", "alice"], 4, "not_found");
    }
}

#[test]
fn the_pages_of_a_selection_give_every_element_once() {
    let node = garden();
    for text in [THING, GEM] {
        publish(&node, text);
    }
    done(&node, "element create thing --name bag");
    for number in 1..=3 {
        done(&node, &format!("element create gem --count 100 --value n={number}"));
    }
    done(&node, "set add bag");
    node.done(&["set", "union", "bag", "--where", "type = gem"]);
    let table = [
        ("", 301),
        ("type = gem", 300),
        ("n in 1 .. 2", 200),
        ("type = gem and n = 2", 100),
        ("type = gem and n >= 1", 300),
        ("in bag", 300),
        ("in bag and n = 3", 100),
        ("type = gem and n > 7", 0),
    ];
    for (text, count) in table {
        let ls = ["element", "ls", "--where", text, "--limit"];

        let all = ids_of(&node.done(&[&ls[..], &["1000"]].concat()));
        let pages = pages(&node, &[&ls[..], &["130"]].concat());

        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), count, "{text}");
        assert_eq!(pages.concat(), all, "{text}");
        let full = count.saturating_sub(1) / 130;
        assert!(pages.iter().take(full).all(|page| page.len() == 130), "{text}");
    }
    for text in ["", "type = gem and n = 2", "in bag"] {
        let strange = ["element", "ls", "--where", text, "--cursor", "strange"];
        node.refused(&strange, 2, "usage");
    }
}

#[test]
fn a_mistaken_selection_is_told_with_its_place() {
    let node = garden();
    things(&node, "bag one");
    done(&node, "set add bag");
    let table = [
        ("type =", 1, 7, "the name of a type"),
        ("type thing", 1, 6, "'=' or '!='"),
        ("n", 1, 2, "a comparison, 'in' or 'is set'"),
        ("n > ", 1, 5, "a value"),
        ("n = 1 n = 2", 1, 7, "'and', 'or' or the end"),
        ("n = 1 or", 1, 9, "a condition"),
        ("(n = 1", 1, 7, "'and', 'or' or ')'"),
        ("n in 1 2", 1, 8, "'..'"),
        ("linked one", 1, 8, "'from' or 'to'"),
        ("child one", 1, 7, "'of'"),
        ("n = 1 and\n  name == x", 2, 9, "a name or a pattern"),
        ("n = \"open", 1, 10, "'\"'"),
        ("= 1", 1, 1, "a condition"),
    ];
    for (text, line, column, expected) in table {
        let listed = node.refused(&["element", "ls", "--where", text], 2, "usage");
        let combined = node.refused(&["set", "union", "bag", "--where", text], 2, "usage");

        for problem in [listed, combined] {
            let place = (&problem["line"], &problem["column"]);
            assert_eq!(place, (&json!(line), &json!(column)), "{text}: {problem}");
            assert_eq!(problem["expected"], expected, "{text}: {problem}");
        }
    }
    assert_eq!(members(&node, "bag"), "");
}

#[test]
fn what_one_may_not_read_is_not_selected_by_it() {
    let node = two_gardens();
    publish(&node, VAULT);
    done(&node, "element create vault --name vault --value gold=5 --value door=5 --as alice");
    done(&node, "element create vault --name spare --value gold=5 --value door=5 --as alice");
    let table = [
        ("gold = 5", "vault,spare", ""),
        ("gold > 0 and door = 5", "vault,spare", ""),
        ("gold is set", "vault,spare", ""),
        ("door = 5", "vault,spare", "vault,spare"),
        // An action refuses it to whoever reads, another shows something else.
        ("veiled = 1", "", ""),
        ("veiled is set", "", ""),
        ("shown = 1", "", ""),
        ("shown = 2", "vault,spare", "vault,spare"),
    ];
    for (text, alice, bob) in table {
        let selected = ["alice", "bob"].map(|who| select_as(&node, who, text));

        assert_eq!(selected, [alice, bob], "{text}");
    }
    done(&node, "element switch spare door --off --as alice");
    assert_eq!(select_as(&node, "alice", "door = 5"), "vault");
    done(&node, "element switch spare door --as alice");
    done(&node, "element give spare bob --as alice");
    assert_eq!(select_as(&node, "alice", "gold = 5"), "vault");
    assert_eq!(select_as(&node, "bob", "gold = 5"), "spare");
}

#[test]
fn a_selection_leaves_nothing_out_for_want_of_budget() {
    let node = garden();
    publish(&node, VAULT);
    done(&node, "element create vault --count 300");
    done(&node, "element create vault --name last --value gold=5");
    // Each look at what is shown takes an event of the call's 10,000, and it is looked at so often.
    let looks = ["shown = 2"; 50].join(" and ");

    let said = node.say(&["element", "ls", "--where", &format!("{looks} and gold = 5")]);

    if said.exit == 0 {
        assert_eq!(names_of(&said.out), "last", "{}", said.out);
    } else {
        assert_eq!((said.exit, &said.err["code"]), (1, &json!("script_budget")), "{said:?}");
    }
    assert_eq!(select(&node, "shown = 2 and gold = 5"), "last");
}

#[test]
fn an_indexed_value_is_found_however_many_other_worlds_have_it() {
    let node = garden();
    publish(&node, GEM);
    done(&node, "world add alice/quarry");
    done(&node, "world add alice/ring");
    done(&node, "element create gem --count 600 --value n=1 --world quarry");
    done(&node, "element create gem --name ruby --value n=1 --world ring");
    done(&node, "element create gem --count 600 --value n=1 --world garden");

    let selected = |world: &str, text: &str| {
        let ls = ["element", "ls", "--limit", "1000", "--world", world, "--where", text];
        ids_of(&node.done(&ls)).len()
    };

    for text in ["type = gem and n = 1", "type = gem and n in 0 .. 9", "type = gem and n >= 1"] {
        let counts = ["quarry", "ring", "garden"].map(|world| selected(world, text));
        assert_eq!(counts, [600, 1, 600], "{text}");
    }
}

#[test]
fn an_index_changes_nothing_of_what_is_selected() {
    let node = garden();
    // Each value twice: once indexed, once not.
    publish(&node, TWINS);
    done(&node, "element create twins --name zero --value a=0.0 --value b=0.0");
    done(&node, "element create twins --name minus --value a=-0.0 --value b=-0.0");
    done(&node, "element create twins --name huge --value a=1e300 --value b=1e300");
    // As long as an index looks, and longer.
    for (name, text) in [("long", "abcdefghijklmnopqrs"), ("longer", "abcdefghijklmnopqrst")] {
        let values = format!("--value c={text} --value d={text}");
        done(&node, &format!("element create twins --name {name} {values}"));
    }
    let tests = [
        ("a", "b", "= 0"),
        ("a", "b", ">= 0"),
        ("a", "b", "< 0"),
        ("a", "b", "> 1e299"),
        ("a", "b", "in 0 .. 1"),
        ("c", "d", "= abcdefghijklmnopqrs"),
        ("c", "d", "> abcdefghijklmnopqrs"),
        ("c", "d", "<= abcdefghijklmnopqrs"),
        // What a filter shows is ten more than what is kept.
        ("e", "f", "= 11"),
        ("e", "f", "= 1"),
        ("e", "f", "> 10"),
    ];

    let missed: Vec<String> = tests
        .iter()
        .map(|(indexed, plain, test)| {
            let find =
                |name: &str| sorted(&select(&node, &format!("type = twins and {name} {test}")));
            (test, find(indexed), find(plain))
        })
        .filter(|(_, indexed, plain)| indexed != plain)
        .map(|(test, indexed, plain)| format!("{test}: {indexed:?}, without an index {plain:?}"))
        .collect();

    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn an_indexed_attribute_of_a_revision_finds_the_elements_that_are_there() {
    let node = garden();
    publish(&node, THING);
    things_of(&node, "thing", "one two");
    let added = "\n[attributes.rank]\nkind = \"integer\"\ndefault = 5\nindex = true\n";

    publish(&node, &format!("{THING}{added}"));
    done(&node, "element create thing --name three");

    assert_eq!(value(&node, "one rank"), 5);
    assert_eq!(select(&node, "rank = 5"), "one,two,three");
    assert_eq!(sorted(&select(&node, "type = thing and rank = 5")), sorted("one,two,three"));
    done(&node, "element set two rank 6");
    assert_eq!(sorted(&select(&node, "type = thing and rank >= 5")), sorted("one,two,three"));
}

#[test]
fn a_type_in_a_selection_is_the_acting_accounts_else_the_world_owners() {
    let node = two_gardens();
    publish(&node, THING);
    done(&node, "element create thing --name stone --as alice");
    let ls = ["element", "ls", "--world", "alice/garden", "--where", "type = thing"];

    let by_alice = node.done(&[&ls[..], &["--as", "alice"]].concat());
    let by_bob = node.say(&[&ls[..], &["--as", "bob"]].concat());
    let by_nobody = node.say(&ls);

    assert_eq!(names_of(&by_alice), "stone");
    assert_eq!((by_bob.exit, by_nobody.exit), (0, 0), "{by_bob:?} {by_nobody:?}");
    assert_eq!((names_of(&by_bob.out), names_of(&by_nobody.out)), ("stone".into(), "stone".into()));
    publish_as(&node, "bob", THING);
    assert_eq!(names_of(&node.done(&[&ls[..], &["--as", "bob"]].concat())), "");
}

// Many at once.

#[test]
fn many_elements_are_made_by_one_call_or_none_of_them() {
    let node = garden();
    publish(&node, SEED);
    let count = || done(&node, "world show garden")["elements"].clone();

    let made = done(&node, "element create seed --count 5 --value kind=oak");
    assert_eq!((&made["count"], count()), (&json!(5), json!(5)));
    let first = text(&made, "id");
    assert_eq!(value(&node, &format!("{first} batch")), 5, "the first hears of the batch");
    let oaks = node.done(&["element", "ls", "--where", "kind = oak and made = 1"]);
    assert_eq!(ids_of(&oaks).len(), 5, "each hears that it was made");
    done(&node, "element create seed --count 1");
    let ids = ids_of(&done(&node, "element ls"));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 6);

    // Refused as a whole, or because of any one of them.
    let problem = refused(&node, "element create seed --count 501", 5, "refused");
    assert_eq!(problem["detail"], "501 are too many");
    for _ in 0..3 {
        let words = "element create seed --count 300 --value kind=picky";
        let problem = refused(&node, words, 5, "refused");
        assert_eq!(problem["detail"], "not this one");
    }
    let too_many = refused(&node, "element create seed --count 1000000", 2, "usage");
    assert!(text(&too_many, "detail").contains("10000"), "{too_many}");
    for words in ["10001", "0", "2 --name twin", "1 --name twin"] {
        refused(&node, &format!("element create seed --count {words}"), 2, "usage");
    }
    refused(&node, "element create seed --count 3 --value kind=7", 2, "wrong_kind");
    refused(&node, "element create seed --count 3 --value nosuch=7", 4, "not_found");
    assert_eq!(count(), 6);

    let most = done(&node, "element create seed --count 500");
    assert_eq!((&most["count"], count()), (&json!(500), json!(506)));
}

// Whose it is.

#[test]
fn an_element_is_given_away_by_its_owner_and_rights_follow() {
    let node = two_gardens();
    publish(&node, RING);
    done(&node, "element create ring --name ring --as alice");
    let ring = "alice/garden/ring";
    let owner = || text(&done(&node, &format!("element show {ring} --as bob")), "owner");
    let may = |who: &str| {
        for words in [
            format!("element get {ring} secret --as {who}"),
            format!("element set {ring} secret {who} --as {who}"),
            format!("action call {ring} wear --as {who}"),
            format!("event send {ring} wear --as {who}"),
            format!("element switch {ring} secret --as {who}"),
        ] {
            done(&node, &words);
        }
        assert_eq!(value(&node, &format!("{ring} secret --as {who}")), who);
    };
    let may_not = |who: &str| {
        for words in [
            format!("element get {ring} secret --as {who}"),
            format!("element set {ring} secret stolen --as {who}"),
            format!("action call {ring} wear --as {who}"),
            format!("event send {ring} wear --as {who}"),
            format!("element switch {ring} secret --off --as {who}"),
            format!("element give {ring} {who} --as {who}"),
            format!("element destroy {ring} --as {who}"),
        ] {
            refused(&node, &words, 5, "not_permitted");
        }
    };

    may("alice");
    may_not("bob");
    done(&node, &format!("element set {ring} cursed true --as alice"));
    let problem = refused(&node, &format!("element give {ring} bob --as alice"), 5, "refused");
    assert_eq!(
        (problem["detail"].as_str(), owner()),
        (Some("it cannot be given away"), "alice".into())
    );
    refused(&node, &format!("element give {ring} nobody --as alice"), 4, "not_found");
    done(&node, &format!("element set {ring} cursed false --as alice"));
    // Given to whom it belongs, nothing happens.
    assert_eq!(done(&node, &format!("element give {ring} alice --as alice"))["owner"], "alice");
    assert_eq!(value(&node, &format!("{ring} given --as alice")), 0);
    may("alice");
    assert_eq!(done(&node, &format!("element give {ring} bob --as alice"))["owner"], "bob");

    assert_eq!(owner(), "bob");
    assert_eq!(value(&node, &format!("{ring} given --as bob")), 1);
    may_not("alice");
    assert_eq!(value(&node, &format!("{ring} secret --as bob")), "alice");
    may("bob");
    assert_eq!(select_as(&node, "alice", "owner = bob"), "ring");
    done(&node, &format!("element give {ring} alice --as bob"));
    may("alice");
    may_not("bob");
    done(&node, &format!("element destroy {ring} --as alice"));
}

#[test]
fn an_account_that_something_belongs_to_is_not_removed() {
    let node = two_gardens();
    for name in ["carol", "dave"] {
        done(&node, &format!("account add {name}"));
    }
    publish(&node, THING);
    done(&node, "element create thing --name gift --as alice");
    done(&node, "element give gift carol --as alice");
    done(&node, "group add friends --as dave");

    for name in ["bob", "carol", "dave"] {
        let said = node.say(&["account", "rm", name]);

        assert_eq!((said.exit, &said.err["code"]), (8, &json!("conflict")), "{name}: {said:?}");
    }
    done(&node, "element destroy alice/garden/gift --as carol");
    done(&node, "group rm friends --as dave");
    for name in ["carol", "dave"] {
        done(&node, &format!("account rm {name}"));
    }
}

// Switched off and on.

#[test]
fn a_part_of_an_element_is_switched_off_and_on() {
    let node = two_gardens();
    for text in [PLANT, SWITCHED] {
        publish(&node, text);
    }
    done(&node, "element create switched --name one --as alice");
    done(&node, "element create switched --name two --as alice");
    let by_alice = |words: &str| done(&node, &format!("{words} --as alice"));
    let missing = |words: &str| refused(&node, &format!("{words} --as alice"), 4, "not_found");
    by_alice("element set one light 3");

    assert_eq!(by_alice("element switch one light --off")["on"], false);
    missing("element get one light");
    missing("element set one light 4");
    missing("action call one shine");
    let shown = by_alice("element show one")["values"].clone();
    assert!(shown.get("light").is_none(), "{shown}");
    assert_eq!(value(&node, "two light --as alice"), 0, "another element keeps its own");
    assert_eq!(by_alice("element switch one light")["on"], true);
    assert_eq!(value(&node, "one light --as alice"), 3, "its value was kept");
    by_alice("action call one shine");

    // A parent: its attributes, its actions and what they refused go with it.
    by_alice("action call one water --arg amount=1");
    refused(&node, "element set one height 30 --as alice", 5, "refused");
    assert_eq!(by_alice("element switch one plant --off")["on"], false);
    for words in ["get one height", "set one height 3", "get one colour"] {
        missing(&format!("element {words}"));
    }
    missing("action call one water --arg amount=1");
    assert_eq!(value(&node, "one light --as alice"), 4);
    assert_eq!(value(&node, "two height --as alice"), 1);
    by_alice("element switch one plant");
    assert_eq!(value(&node, "one height --as alice"), 2);
    refused(&node, "element set one height 30 --as alice", 5, "refused");

    // Each of it is asked before, told after, and may be refused.
    let told = by_alice("element get one told")["value"].clone();
    assert_eq!(told, "attribute_off light,attribute_on light,parent_off plant,parent_on plant,");
    for (kind, words, on) in [
        ("attribute_off", "light --off", true),
        ("attribute_on", "light", false),
        ("parent_off", "plant --off", true),
        ("parent_on", "plant", false),
    ] {
        // The other way round first, where it is to be switched on.
        if !on {
            by_alice(&format!("element switch one {words} --off"));
        }
        by_alice(&format!("element set one refuses {kind}"));
        let problem =
            refused(&node, &format!("element switch one {words} --as alice"), 5, "refused");
        assert_eq!(problem["detail"], format!("no {kind}"));
        by_alice("element set one refuses nothing");
        let attribute = if words.starts_with("light") { "light" } else { "height" };
        let read = node.say(&["element", "get", "one", attribute, "--as", "alice"]);
        assert_eq!(read.exit, if on { 0 } else { 4 }, "{kind}: {read:?}");
    }
    // What is no part of it, and who is not its owner.
    missing("element switch one nosuch --off");
    missing("element switch one switched --off");
    let words = "element switch alice/garden/two light --off --as bob";
    refused(&node, words, 5, "not_permitted");
    assert_eq!(value(&node, "two light --as alice"), 0);
    // What is so already is no event.
    by_alice("element switch two light");
    assert_eq!(value(&node, "two told --as alice"), "");
}

#[test]
fn what_comes_through_a_parent_alone_goes_off_with_it() {
    let node = garden();
    for text in [PLANT, POT] {
        publish(&node, text);
    }
    publish(
        &node,
        "name = \"bush\"\nparents = [\"plant\"]\n[attributes.twigs]\nkind = \"integer\"\n",
    );
    publish(&node, "name = \"potted\"\nparents = [\"bush\", \"pot\"]\n");
    publish(&node, "name = \"both\"\nparents = [\"bush\", \"plant\"]\n");
    done(&node, "element create potted --name potted");
    done(&node, "element create both --name both");

    done(&node, "element switch potted bush --off");
    done(&node, "element switch both bush --off");

    refused(&node, "element get potted twigs", 4, "not_found");
    assert_eq!(value(&node, "potted clay"), "brown");
    // What the bush has from the plant came through it, unless the plant is a parent too.
    assert_eq!(value(&node, "both colour"), "green");
    refused(&node, "element get potted colour", 4, "not_found");
    refused(&node, "action call potted water --arg amount=1", 4, "not_found");
}

#[test]
fn what_an_action_writes_while_a_part_is_switched_stays() {
    let node = garden();
    publish(&node, COUNTING);
    done(&node, "element create counting --name counting");

    done(&node, "element switch counting light --off");

    refused(&node, "element get counting light", 4, "not_found");
    assert_eq!(value(&node, "counting after"), 1);
    assert_eq!(value(&node, "counting before"), 1);
}

// Filters.

#[test]
fn filters_change_what_others_read_in_order_and_nothing_else() {
    let node = two_gardens();
    publish(&node, SCALE);
    done(&node, "element create scale --name scale --as alice");
    done(&node, "element create scale --name other --as alice");
    let by_alice = |words: &str| done(&node, &format!("{words} --as alice"));
    let raw = || by_alice("action call scale raw")["result"].clone();

    // Twice, then one less: by priority.
    for (who, name) in [("alice", "scale"), ("bob", "alice/garden/scale")] {
        assert_eq!(value(&node, &format!("{name} weight --as {who}")), 199, "{who}");
    }
    assert_eq!(raw(), json!({"weight": 100}));
    let looked = by_alice("action call other look");
    assert_eq!(looked["result"], json!({"weight": 199}), "another element is another reader");
    assert_eq!(by_alice("element set scale weight 10")["value"], 10);
    assert_eq!(
        (value(&node, "scale weight --as alice"), raw()),
        (json!(19), json!({"weight": 10}))
    );
    assert_eq!(select_as(&node, "alice", "weight = 19"), "scale");
    assert_eq!(value(&node, "scale before --as alice"), 100, "a change is told as it is kept");

    // A filter decides what is shown, and changes nothing.
    let table = [
        ("spoilt", 5, "not_permitted"),
        ("veiled", 5, "refused"),
        ("wrong", 2, "wrong_kind"),
        ("asking", 5, "not_permitted"),
    ];
    for (attribute, exit, code) in table {
        let problem =
            refused(&node, &format!("element get scale {attribute} --as alice"), exit, code);
        if attribute == "veiled" {
            assert_eq!(problem["detail"], "it is veiled");
        }
    }
    let shown = by_alice("element show scale")["values"].clone();
    assert_eq!(shown, json!({"before": 100, "touched": 0, "weight": 19}));
    assert_eq!(done(&node, "inbox")["items"], json!([]));
    by_alice("element set scale spoilt 2");
    refused(&node, "element get scale spoilt --as alice", 5, "not_permitted");
    assert_eq!(value(&node, "scale touched --as alice"), 0);
}

// Bounds.

#[test]
fn an_attribute_out_of_its_time_is_neither_read_nor_written() {
    let node = garden();
    publish(&node, SEASONS);
    done(&node, "element create seasons --name seasons");
    let values = json!({"now": 3, "always": 4, "heard": 0});
    assert_eq!(done(&node, "element show seasons")["values"], values);

    for attribute in ["past", "future", "never", "below"] {
        refused(&node, &format!("element get seasons {attribute}"), 4, "not_found");
        refused(&node, &format!("element set seasons {attribute} 9"), 4, "not_found");
        assert_eq!(select(&node, &format!("{attribute} is set")), "", "{attribute}");
    }
    for (attribute, heard) in [("now", 1), ("always", 2)] {
        done(&node, &format!("element set seasons {attribute} 9"));
        assert_eq!(value(&node, &format!("seasons {attribute}")), 9);
        assert_eq!(value(&node, "seasons heard"), heard);
    }
    refused(&node, "action call seasons thaw", 4, "not_found");
    assert_eq!(value(&node, "seasons heard"), 2);
    // A whole type out of its time: its elements are not there.
    publish(
        &node,
        &format!("{THING}\n[bounds]\ntimes = [{{ until = \"2020-01-01T00:00:00Z\" }}]\n"),
    );
    done(&node, "element create thing --name thing");
    for words in ["element get thing n", "element set thing n 1", "event send thing poke"] {
        refused(&node, words, 4, "not_found");
    }

    let table = [
        "times = [{ from = \"2030-01-01T00:00:00Z\", until = \"2020-01-01T00:00:00Z\" }]",
        "times = [{}]",
        "times = [{ from = \"yesterday\" }]",
        "schedules = [{ cron = \"61 * * * *\", lasts = \"1m\" }]",
        "schedules = [{ cron = \"* * * * *\", lasts = \"1s\" }]",
        "zone = \"Europe/Berln\"",
        "area = { attribute = \"pos\", min = { x = 0, y = 0 } }",
        "tmes = []",
    ];
    for bounds in table {
        let text = format!("name = \"bad\"\n[attributes.a]\nkind = \"integer\"\nbounds.{bounds}\n");
        let said = try_publish(&node, "alice", &text);
        assert_eq!((said.exit, &said.err["code"]), (1, &json!("bad_type")), "{bounds}: {said:?}");
    }
}

#[test]
fn a_time_in_bounds_may_be_written_as_toml_writes_times() {
    let node = garden();
    let table = [
        "[[attributes.a.bounds.times]]\nuntil = 2020-01-01T00:00:00Z\n",
        "bounds.times = [{ until = 2020-01-01T00:00:00Z }]\n",
        "bounds = { times = [{ until = 2020-01-01T00:00:00Z }] }\n",
    ];
    for bounds in table {
        let text = format!("name = \"past\"\n[attributes.a]\nkind = \"integer\"\n{bounds}");

        let said = try_publish(&node, "alice", &text);

        assert_eq!(said.exit, 0, "{bounds}: {}", said.err["detail"]);
    }
}

#[test]
fn an_attribute_is_there_while_its_element_stands_in_its_area() {
    let node = garden();
    publish(&node, LANTERN);
    done(&node, "element create lantern --name lantern");
    assert_eq!(value(&node, "lantern glow"), 1);

    for (at, there) in [
        ("{\"x\":10,\"y\":0}", true),
        ("{\"x\":10.5,\"y\":0}", false),
        ("{\"x\":1,\"y\":1,\"z\":1}", false),
        ("{\"x\":0,\"y\":10,\"z\":0}", true),
    ] {
        done(&node, &format!("element set lantern pos {at}"));

        let (read, set) = (
            node.say(&["element", "get", "lantern", "glow"]),
            node.say(&["element", "set", "lantern", "glow", "1"]),
        );
        let exit = if there { 0 } else { 4 };
        assert_eq!((read.exit, set.exit), (exit, exit), "{at}: {read:?} {set:?}");
    }
    assert_eq!(value(&node, "lantern glow"), 1);
}

#[test]
fn an_element_out_of_its_area_is_not_there() {
    let node = garden();
    publish(&node, FISH);
    things_of(&node, "fish", "fish pond");
    done(&node, "action call fish swim");
    done(&node, "set add pond");
    done(&node, "set enter pond fish");

    done(&node, "element set fish pos {\"x\":20,\"y\":1}");

    for words in [
        "element get fish swum",
        "element set fish swum 7",
        "action call fish swim",
        "event send fish swim",
    ] {
        refused(&node, words, 4, "not_found");
    }
    assert_eq!(done(&node, "element show fish")["values"].get("swum"), None);
    assert_eq!(select(&node, "swum >= 0"), "pond");
    // Nothing fires there: neither what hears it, nor what would refuse.
    done(&node, "set leave pond fish");
    done(&node, "element destroy fish");
}

#[test]
fn an_element_that_left_its_area_can_move_in_again() {
    let node = garden();
    publish(&node, FISH);
    things_of(&node, "fish", "fish carp pond");
    done(&node, "action call fish swim");
    done(&node, "set add pond");
    done(&node, "set enter pond fish");
    done(&node, "set enter pond carp");
    done(&node, "element set fish pos {\"x\":20,\"y\":1}");
    done(&node, "element set carp swum 5");

    // Where it stands can be said of it out there too, or it would never come back.
    done(&node, "element set fish pos {\"x\":2,\"y\":1}");

    assert_eq!((value(&node, "fish swum"), value(&node, "fish heard")), (json!(1), json!(0)));
    done(&node, "element set carp swum 6");
    assert_eq!(value(&node, "fish heard"), 1);
    done(&node, "action call fish swim");
    let problem = refused(&node, "set leave pond fish", 5, "refused");
    assert_eq!(problem["detail"], "it stays in the water");
    refused(&node, "element destroy fish", 5, "refused");
}

// Timers.

#[test]
fn a_timer_keeps_its_beat_over_a_restart_and_makes_up_for_nothing() {
    let mut node = garden();
    publish(&node, CLOCK);
    done(&node, "element create clock --name clock");
    let beats = |node: &Node, least: usize| -> Vec<i64> {
        let enough = |read: &Json| read["value"].as_array().is_some_and(|all| all.len() >= least);
        let read = node.until(&["element", "get", "clock", "beats"], enough);
        read["value"].as_array().unwrap().iter().filter_map(Json::as_i64).collect()
    };
    let born = value(&node, "clock born").as_i64().unwrap();
    let before = beats(&node, 3).len();

    node.kill();
    std::thread::sleep(Duration::from_millis(1_130));
    node.restart();

    let all = beats(&node, before + 5);
    let gap = (1..all.len()).max_by_key(|at| all[*at] - all[at - 1]).unwrap();
    assert!(all[gap] - all[gap - 1] > 1_000, "{all:?}");
    // One for all that was missed, then as ever: as many as there were beats since.
    let after = &all[gap..];
    let passed = (after[after.len() - 1] - after[0]) / EVERY_MS;
    assert!(i64::try_from(after.len()).unwrap() <= passed + 2, "{all:?}");
    // Never early, and each meant for its place in the beat, not for so long after the last.
    for (beats, which) in [(&all[..gap], "before"), (&after[1..], "after")] {
        let late = beats.iter().map(|at| (at - born) % EVERY_MS).min().unwrap();
        assert!(late < EVERY_MS / 3, "{which}: {late} ms late at best: {all:?}, {born}");
        assert!(beats.windows(2).all(|pair| pair[1] > pair[0]), "{all:?}");
    }
    assert!(all[0] - born >= EVERY_MS, "{all:?}");
    done(&node, "element destroy clock");
    refused(&node, "element get clock beats", 4, "not_found");
}

#[test]
fn an_element_ends_when_its_time_is_over() {
    let node = garden();
    publish(&node, MAYFLY);
    things_of(&node, "mayfly", "grave soon later sooner never");
    done(&node, "set add grave");
    for name in ["grave", "soon", "later", "sooner", "never"] {
        done(&node, &format!("set enter grave {name}"));
    }
    let arm = |name: &str, ms: i64| {
        let armed = done(&node, &format!("action call {name} arm --arg ms={ms}"));
        armed["result"]["ends"].as_i64().unwrap()
    };
    let gone = |name: &str| comes(|| node.say(&["element", "show", name]).exit == 4);

    // What is said last counts.
    arm("later", 700);
    arm("later", 3_600_000);
    arm("never", 700);
    done(&node, "element set never ends null");
    arm("sooner", 3_600_000);
    let ends = [("sooner", arm("sooner", 300)), ("soon", arm("soon", 800))];
    assert!(gone("sooner") && gone("soon"));

    assert_eq!(members(&node, "grave"), "grave,later,never");
    let told = value(&node, "grave told");
    for (name, end) in ends {
        let event = told.as_array().unwrap().iter().find(|event| event["name"] == name);
        let late = event.and_then(|event| event["at"].as_i64()).unwrap() - end;
        assert!((0..10_000).contains(&late), "{name}: {late} ms late: {told}");
    }
    assert_eq!(told.as_array().unwrap().len(), 2, "{told}");
    // What is over at once, and a name that is free again.
    done(&node, "element create mayfly --name soon --value ends=7");
    assert!(gone("soon"));
    done(&node, "element set later ends 7");
    assert!(gone("later"));
    assert_eq!(select(&node, ""), "grave,never");
    refused(&node, "element set never ends soon", 2, "wrong_kind");
    done(&node, "element show never");
}

#[test]
fn a_default_says_when_the_time_of_an_element_is_over_too() {
    let node = garden();
    publish(&node, &MAYFLY.replace("expires = true", "expires = true\ndefault = 7"));

    done(&node, "element create mayfly --name mayfly");

    let gone = || node.say(&["element", "show", "mayfly"]).exit == 4;
    assert!(comes_within(Duration::from_secs(2), gone));
}

#[test]
fn many_timers_that_are_due_at_once_all_fire() {
    let node = garden();
    for text in [MAYFLY, TICKER] {
        publish(&node, text);
    }
    things_of(&node, "mayfly", "judge");
    let now = done(&node, "action call judge arm --arg ms=3600000")["result"]["ends"].as_i64();
    let ends = now.unwrap() - 3_600_000 + 800;

    done(&node, &format!("element create mayfly --count 600 --value ends={ends}"));
    done(&node, "element create ticker --count 60");

    let left = |text: &str| {
        let listed = node.done(&["element", "ls", "--where", text, "--limit", "1000"]);
        ids_of(&listed).len()
    };
    assert!(comes(|| left("type = mayfly") == 1), "{} are left", left("type = mayfly"));
    assert!(comes(|| left("type = ticker and count < 3") == 0));
    assert_eq!(left("type = ticker"), 60);
    let status = done(&node, "status");
    assert_eq!(status["health"], "good");
}

#[test]
fn a_timer_that_a_revision_adds_runs_for_the_elements_that_are_there() {
    let node = garden();
    publish(&node, "name = \"ticker\"\n");
    done(&node, "element create ticker --name old");

    publish(&node, TICKER);
    done(&node, "element create ticker --name new");

    let ticked = |name: &str| value(&node, &format!("{name} count")).as_i64().unwrap() >= 2;
    assert!(comes(|| ticked("new")));
    assert!(ticked("old") || comes_within(Duration::from_secs(2), || ticked("old")));
}

// Questions to people.

#[test]
fn a_question_waits_in_the_inbox_of_the_owner_until_it_is_answered() {
    let node = two_gardens();
    publish(&node, DOOR);
    done(&node, "element create door --name door --as alice");
    let keys = ["alice", "bob"]
        .map(|who| text(&done(&node, &format!("key add {who} --account {who}")), "key"));
    let open = || value(&node, "door open --as alice");

    let caller = calling(&node, "element set door open true --as alice --timeout 60s");
    let entry = question(&node);
    let id = text(&entry, "id");
    assert_eq!(entry["kind"], "question");
    assert!(text(&entry, "asks").contains("may it open?"), "{entry}");
    assert_eq!((open(), &done(&node, "status")["inbox"]), (json!(false), &json!(1)));
    let seen =
        keys.each_ref().map(|key| by_key(&node, key, "inbox.ls", json!({})).1["result"].clone());
    assert_eq!(seen[0]["items"][0]["id"], entry["id"], "{seen:?}");
    assert_eq!(seen[1]["items"], json!([]), "what another is asked is nobody else's");
    for command in ["inbox.deny", "inbox.approve"] {
        let (status, problem) = by_key(&node, &keys[1], command, json!({"entry": id}));
        assert_eq!((status, &problem["code"]), (403, &json!("not_permitted")), "{problem}");
    }
    assert_eq!(question(&node), entry);

    done(&node, &format!("approve {id}"));
    let said = answered(caller);
    assert_eq!((said.exit, &said.out["value"]), (0, &json!(true)), "{said:?}");
    assert_eq!((open(), done(&node, "inbox")["items"].clone()), (json!(true), json!([])));
    refused(&node, &format!("approve {id}"), 4, "not_found");

    let caller = calling(&node, "element set door open false --as alice --timeout 60s");
    let id = text(&question(&node), "id");
    done(&node, &format!("deny {id}"));
    let said = answered(caller);
    assert_eq!((said.exit, &said.err["code"]), (5, &json!("refused")), "{said:?}");
    assert!(text(&said.err, "detail").contains("may it open?"), "{said:?}");
    assert_eq!((open(), done(&node, "inbox")["items"].clone()), (json!(true), json!([])));
    refused(&node, &format!("deny {id}"), 4, "not_found");

    // Whom it belongs to by then is asked.
    done(&node, "element give door bob --as alice");
    let words = "element set alice/garden/door open false --as bob --timeout 60s";
    let caller = calling(&node, words);
    let id = text(&question(&node), "id");
    let seen = by_key(&node, &keys[1], "inbox.ls", json!({})).1["result"].clone();
    assert_eq!(seen["items"][0]["id"], json!(id), "{seen}");
    done(&node, &format!("approve {id} --as alice"));
    assert_eq!(answered(caller).exit, 0);
}

#[test]
fn a_question_that_nobody_answers_ends_with_its_deadline() {
    let node = garden();
    publish(&node, DOOR);
    done(&node, "element create door --name door");

    refused(&node, "element set door open true --timeout 1s", 6, "timed_out");

    assert_eq!(done(&node, "inbox")["items"], json!([]));
    assert_eq!(
        (value(&node, "door open"), &done(&node, "status")["jobs"]),
        (json!(false), &json!(0))
    );
}

#[test]
fn a_question_waits_over_a_restart() {
    let mut node = garden();
    publish(&node, DOOR);
    done(&node, "element create door --name door");
    let yes = calling(&node, "element set door open true --timeout 60s");
    let entry = question(&node);
    let job = text(&done(&node, "job ls")["items"][0], "id");

    node.kill();
    assert_ne!(answered(yes).exit, 0, "its caller knows of no end");
    node.restart();

    assert_eq!(question(&node), entry);
    assert_eq!(done(&node, &format!("job show {job}"))["status"], "started");
    assert_eq!(value(&node, "door open"), false);
    done(&node, &format!("approve {}", text(&entry, "id")));
    node.until(&["job", "show", &job], |shown| shown["outcome"] == "done");
    assert_eq!(
        (value(&node, "door open"), done(&node, "inbox")["items"].clone()),
        (json!(true), json!([]))
    );

    // A deadline that passes while the node is away ends it too.
    let late = calling(&node, "element set door open false --timeout 2s");
    question(&node);
    let job = text(&done(&node, "job ls")["items"][0], "id");
    node.kill();
    answered(late);
    std::thread::sleep(Duration::from_millis(1_500));
    node.restart();
    let shown = node.until(&["job", "show", &job], |shown| shown["status"] == "finished");
    assert_eq!(shown["problem"]["code"], "timed_out", "{shown}");
    assert_eq!(
        (value(&node, "door open"), done(&node, "inbox")["items"].clone()),
        (json!(true), json!([]))
    );
}

#[test]
fn a_key_of_the_owner_answers_what_the_owner_is_asked() {
    let node = two_gardens();
    publish(&node, DOOR);
    done(&node, "element create door --name door --as alice");
    let key = text(&done(&node, "key add alice --account alice"), "key");

    for (command, exit) in [("inbox.approve", 0), ("inbox.deny", 5)] {
        let caller = calling(&node, "element set door open true --as alice --timeout 20s");
        let id = text(&question(&node), "id");
        let (status, answer) = by_key(&node, &key, command, json!({"entry": id}));

        assert_eq!(status, 200, "{command}: {answer}");
        assert_eq!(answered(caller).exit, exit, "{command}");
    }
}

#[test]
fn a_cancelled_job_takes_its_question_out_of_the_inbox() {
    let node = garden();
    publish(&node, DOOR);
    done(&node, "element create door --name door");
    let caller = calling(&node, "element set door open true --timeout 60s");
    question(&node);
    let job = text(&done(&node, "job ls")["items"][0], "id");

    done(&node, &format!("job cancel {job}"));

    let said = answered(caller);
    assert_eq!((said.exit, &said.err["code"]), (8, &json!("conflict")), "{said:?}");
    assert_eq!(value(&node, "door open"), false);
    assert_eq!(done(&node, "inbox")["items"], json!([]));
}

// Events.

#[test]
fn the_data_of_an_event_keeps_to_its_keys_and_paths() {
    let node = garden();
    publish(&node, SHOP);
    done(&node, "element create shop --name shop");
    let sold = || value(&node, "shop sold");
    let lines = "--data lines=[{\"what\":\"rose\",\"many\":3}]";
    let table = [
        ("order --data who=bob", 2, "usage"),
        (&format!("order {lines}"), 2, "usage"),
        (&format!("order --data who=bob {lines} --data colour=red"), 2, "unknown_field"),
        (&format!("order --data whom=bob {lines}"), 2, "unknown_field"),
        ("order --data who=bob --data lines=[]", 2, "usage"),
        ("order --data who=bob --data lines=3", 2, "usage"),
        ("order --data who=bob --data lines=[{\"what\":\"rose\"}]", 2, "usage"),
        ("order --data who=bob --data lines=[{\"what\":\"rose\",\"many\":0}]", 2, "usage"),
        ("close --data why=late", 2, "unknown_field"),
        ("ordr", 4, "not_found"),
    ];

    for (words, exit, code) in table {
        let problem = refused(&node, &format!("event send shop {words}"), exit, code);
        let called = words.replace("--data", "--arg");
        let again = node.say(&split(&format!("action call shop {called}")));
        assert_eq!(again.exit, exit, "{words}: {again:?}, {problem}");
        assert_eq!(sold(), 0, "{words}");
    }
    let sent = done(&node, &format!("event send shop order --data who=bob {lines}"));
    assert_eq!((&sent["result"], sold()), (&json!({"sold": 3}), json!(3)));
    let words = format!("event send shop order --data who=bob --data note=soon {lines}");
    assert_eq!(done(&node, &words)["result"], json!({"sold": 6}));
    done(&node, "event send shop close");
    done(&node, "event send shop anything --data at=all");
    let table = [
        "[events.e]\nall_keys = [\"a\"]\nrequired_keys = [\"b\"]\n",
        "[events.e]\npaths = [\"$.[\"]\n",
        "[events.e]\npaths = \"$.a\"\n",
        "[events.e]\nevery = \"10ms\"\n",
        "[events.e]\nevery = \"1s\"\nrequired_keys = [\"b\"]\n",
    ];
    for text in table {
        let said = try_publish(&node, "alice", &format!("name = \"bad\"\n{text}"));
        assert_eq!((said.exit, &said.err["code"]), (1, &json!("bad_type")), "{text}: {said:?}");
    }
}

#[test]
fn who_listens_to_an_event_hears_its_children() {
    let node = garden();
    publish(&node, NOISE);
    publish(&node, "name = \"tower\"\nparents = [\"noise\"]\n[events.chime]\nparent = \"bell\"\n");
    things_of(&node, "tower", "tower");
    let send = |event: &str, want: &str| {
        done(&node, "element set tower heard \"\"");
        done(&node, &format!("event send tower {event}"));
        assert_eq!(value(&node, "tower heard"), want, "{event}");
    };

    send("sound", "sound,");
    send("bell", "sound,bell,");
    // Nobody listens to the chime itself, which the child type added to the family.
    send("chime", "sound,bell,");
    send("ring", "sound,ring,bell,");
    refused(&node, "event send tower silence", 4, "not_found");

    // Who listens above may refuse, and what it carries is its own.
    done(&node, "element set tower heard \"\"");
    done(&node, "element set tower quiet true");
    for event in ["sound", "bell", "chime", "ring"] {
        let problem = refused(&node, &format!("event send tower {event}"), 5, "refused");
        assert_eq!(problem["detail"], "be quiet", "{event}");
    }
    done(&node, "element set tower quiet false");
    refused(&node, "event send tower ring --data loud=true", 2, "unknown_field");
    assert_eq!(value(&node, "tower heard"), "");
    done(&node, "event send tower bell --data loud=true");
}

#[test]
fn an_action_on_a_parent_event_is_told_which_child_it_hears() {
    let node = garden();
    publish(&node, NOISE);
    things_of(&node, "noise", "noise");

    for event in ["sound", "bell", "ring"] {
        done(&node, &format!("event send noise {event}"));

        assert_eq!(value(&node, "noise last"), event);
    }
}

#[test]
fn two_elements_that_write_one_value_of_a_third_contradict_each_other() {
    let node = garden();
    publish(&node, RIVAL);
    things_of(&node, "rival", "arena left right third");
    done(&node, "set add arena");
    let does = |name: &str, what: &str| {
        done(&node, &format!("element set {name} does {what}"));
    };

    // One that enters, and the set it enters.
    does("arena", "write");
    does("left", "write");
    let problem = refused(&node, "set enter arena left", 8, "conflict");
    assert!(text(&problem, "detail").contains("'score'"), "{problem}");
    assert_eq!((value(&node, "third score"), members(&node, "arena")), (json!(0), String::new()));
    // A script cannot catch it either.
    does("arena", "catch");
    refused(&node, "set enter arena left", 8, "conflict");
    assert_eq!((value(&node, "third score"), members(&node, "arena")), (json!(0), String::new()));
    // Each alone may, as often as it likes; so may two, in two events.
    does("left", "twice");
    does("arena", "nothing");
    done(&node, "set enter arena left");
    assert_eq!(value(&node, "third score"), 2);
    does("arena", "write");
    done(&node, "set enter arena right");
    assert_eq!(value(&node, "third score"), 3);
    // Two neighbours that hear of the same change.
    does("arena", "nothing");
    for name in ["left", "right"] {
        does(name, "echo");
    }
    done(&node, "set enter arena third");
    let before = value(&node, "third score");
    refused(&node, "element set third bell 1", 8, "conflict");
    assert_eq!((value(&node, "third score"), value(&node, "third bell")), (before, json!(0)));
}

#[test]
fn a_write_that_was_refused_contradicts_nobody() {
    let node = garden();
    publish(&node, RIVAL);
    things_of(&node, "rival", "arena left third");
    done(&node, "set add arena");
    // What it tries to write is refused, which it catches: so it has written nothing.
    done(&node, "element set left does fail");
    done(&node, "element set arena does write");

    let entered = node.say(&["set", "enter", "arena", "left"]);

    assert_eq!(entered.exit, 0, "{entered:?}");
    assert_eq!(value(&node, "third score"), 1);
}

// What the system has of its own.

#[test]
fn accounts_groups_servers_and_worlds_have_elements_of_the_systems_types() {
    let node = two_gardens();
    done(&node, "group add friends --as alice");
    let table = [
        ("account", "bob", element_in(&node, "account show bob")),
        ("account", "server", element_in(&node, "account show server")),
        ("group", "alice", element_in(&node, "group show alice:friends")),
        ("world", "bob", element_in(&node, "world show bob/house")),
        ("server", "server", own_element(&node)),
    ];

    for (of, owner, id) in &table {
        let shown = done(&node, &format!("element show {id}"));

        assert_eq!((&shown["type"], &shown["owner"]), (&json!(of), &json!(owner)), "{shown}");
    }

    let ids: BTreeSet<&String> = table.iter().map(|(_, _, id)| id).collect();
    assert_eq!(ids.len(), table.len(), "two of them are one");
    let listed = names_of(&done(&node, "type ls"));
    for (of, _, _) in &table {
        assert_eq!(done(&node, &format!("type show server:{of}"))["name"], json!(of));
        assert!(!listed.split(',').any(|name| name.ends_with(of)), "they fill no list: {listed}");
    }
    let group = &table[2].2;
    done(&node, "group rm friends --as alice");
    refused(&node, &format!("element show {group} --as alice"), 4, "not_found");
}

#[test]
fn the_element_of_a_world_is_named_by_the_world_and_is_no_thing_in_it() {
    let node = two_gardens();
    let id = element_in(&node, "world show alice/garden");
    let listed = || names_of(&done(&node, "element ls --world alice/garden --as alice"));
    let counted = || done(&node, "world show alice/garden")["elements"].clone();

    done(&node, "element set alice/garden description green --as alice");

    for name in ["alice/garden", &id] {
        assert_eq!(value(&node, &format!("{name} description --as bob")), "green", "{name}");
        let words = format!("element set {name} description grey --as bob");
        refused(&node, &words, 5, "not_permitted");
    }
    assert_eq!((listed(), counted()), (String::new(), json!(0)));
    publish(&node, THING);
    done(&node, "element create thing --name gnome --as alice");
    assert_eq!((listed(), counted()), ("gnome".to_owned(), json!(1)));
    refused(&node, "world rm alice/garden --as alice", 8, "conflict");
    done(&node, "element destroy gnome --as alice");
    done(&node, "world rm alice/garden --as alice");
    for name in ["alice/garden", &id] {
        refused(&node, &format!("element show {name} --as bob"), 4, "not_found");
    }
}

#[test]
fn an_element_becomes_one_of_a_child_of_its_type_and_keeps_what_it_has() {
    let node = two_gardens();
    for text in [EGG, BIRD, "name = \"stone\"\n"] {
        publish(&node, text);
    }
    done(&node, "element create egg --name it --value size=3 --as alice");
    let becomes = |to: &str, who: &str| format!("element become alice/garden/it {to} --as {who}");
    let is = || text(&done(&node, "element show it --as alice"), "type");
    let table = [
        ("stone", "alice", 8, "conflict"),
        ("nosuch", "alice", 4, "not_found"),
        ("alice:bird", "bob", 5, "not_permitted"),
    ];

    for (to, who, exit, code) in table {
        refused(&node, &becomes(to, who), exit, code);
        assert_eq!(is(), "egg", "{to} by {who}");
    }
    done(&node, "element set it shut true --as alice");
    let problem = refused(&node, &becomes("bird", "alice"), 5, "refused");
    assert_eq!((problem["detail"].as_str(), is()), (Some("it is not time"), "egg".into()));
    done(&node, "element set it shut false --as alice");
    assert_eq!(done(&node, &becomes("bird", "alice"))["type"], "bird");

    assert_eq!(is(), "bird");
    assert_eq!(done(&node, "action call it fly --as alice")["result"], json!({"wings": 2}));
    for selection in ["type = bird", "type = egg", "type = bird and size = 3"] {
        assert_eq!(select(&node, selection), "it", "{selection}");
    }
    // What it is already it does not become, and nobody hears of that; there is no way back.
    done(&node, &becomes("bird", "alice"));
    refused(&node, &becomes("egg", "alice"), 8, "conflict");
    assert_eq!(value(&node, "it heard --as alice"), "before bird,after bird,");
}

#[test]
fn what_stands_for_a_thing_takes_on_actions_of_its_owner() {
    let node = garden();
    done(&node, "group add friends");
    let table = [
        ("account", "alice", element_in(&node, "account show alice")),
        ("group", "alice", element_in(&node, "group show friends")),
        ("world", "alice", element_in(&node, "world show garden")),
        ("server", "server", own_element(&node)),
    ];

    for (of, who, id) in table {
        let own = format!("name = \"my-{of}\"\nparents = [\"server:{of}\"]\n");
        let greet = "on = \"event:greet\"\nscript = 'return { of = element.type }'";
        publish_as(&node, who, &format!("{own}\n[actions.greet]\n{greet}\n"));
        done(&node, &format!("element become {id} my-{of} --as {who}"));

        let greeted = done(&node, &format!("action call {id} greet --as {who}"));

        assert_eq!(greeted["result"], json!({"of": format!("my-{of}")}));
    }
    assert_eq!(done(&node, "element ls")["items"], json!([]));
    assert_eq!(done(&node, "world show garden")["elements"], 0);
}

#[test]
fn every_element_that_listens_hears_of_each_start_once() {
    let mut node = garden();
    for text in [
        ENGINE,
        BROKEN,
        "name = \"trailer\"\nparents = [\"engine\"]\n",
        "name = \"town\"\nparents = [\"server:world\", \"engine\"]\n",
    ] {
        publish(&node, text);
    }
    // One that fails keeps nobody else from hearing.
    things_of(&node, "broken", "zeroth");
    things_of(&node, "engine", "first second");
    things_of(&node, "trailer", "third");
    done(&node, "element become alice/garden town");
    let listeners = ["first", "second", "third", "alice/garden"];

    for starts in 1..=2 {
        node.kill();
        node.restart();

        for name in listeners {
            node.until(&["element", "get", name, "starts"], |got| got["value"] == starts);
            assert_eq!(done(&node, &format!("timer ls {name}"))["items"], json!([]), "{name}");
        }
    }
    node.until(&["status"], |status| status["jobs"] == 0);
    for name in listeners {
        assert_eq!(value(&node, &format!("{name} starts")), 2, "{name}");
        assert_eq!(value(&node, &format!("{name} server")), node.ready["server_id"], "{name}");
    }
}

#[test]
fn an_event_is_defined_by_the_owner_of_its_type_and_holds_from_then_on() {
    let node = two_gardens();
    publish(&node, GAUGE);
    done(&node, "element create gauge --name gauge --as alice");
    let heard = || value(&node, "gauge heard --as alice");
    let send = "event send gauge reading --as alice";
    let define = "event define reading --type alice:gauge";
    let table = [
        ("--as bob", 5, "not_permitted"),
        ("--paths $.[ --as alice", 2, "usage"),
        ("--all_keys a --required_keys b --as alice", 2, "usage"),
        ("--parent nosuch --as alice", 1, "bad_type"),
    ];
    for (words, exit, code) in table {
        refused(&node, &format!("{define} {words}"), exit, code);
    }
    assert_eq!(names_of(&done(&node, "event ls alice:gauge")), "sound");
    refused(&node, send, 4, "not_found");

    let words = "--all_keys a --all_keys b --required_keys a --paths $.a --parent sound";
    let defined = done(&node, &format!("{define} {words} --as alice"));

    assert_eq!((&defined["name"], &defined["revision"]), (&json!("reading"), &json!(2)));
    let reading = json!({
        "name": "reading",
        "all_keys": ["a", "b"],
        "required_keys": ["a"],
        "paths": ["$.a"],
        "parent": "sound",
        "every_ms": null,
    });
    assert_eq!(done(&node, "event ls alice:gauge")["items"][0], reading);
    refused(&node, send, 2, "usage");
    refused(&node, &format!("{send} --data b=1"), 2, "usage");
    refused(&node, &format!("{send} --data a=1 --data c=1"), 2, "unknown_field");
    assert_eq!(heard(), 0);
    done(&node, &format!("{send} --data a=1"));
    assert_eq!(heard(), 1);
    // The type has an element: what is defined stays as it is.
    refused(&node, &format!("{define} --all_keys z --as alice"), 8, "type_in_use");
}

#[test]
fn where_nobody_is_named_the_only_account_acts_else_the_servers_own() {
    let node = Node::start("attic", &[]);
    let seen = || {
        let status = done(&node, "status");
        let accounts = sorted(&names_of(&done(&node, "account ls")));
        (status["accounts"].clone(), status["worlds"].clone(), accounts)
    };
    assert_eq!(seen(), (json!(0), json!(0), sorted("")));

    let mut made = Vec::new();
    for (account, world) in [(None, "first"), (Some("alice"), "second"), (Some("bob"), "third")] {
        if let Some(name) = account {
            done(&node, &format!("account add {name}"));
        }
        made.push(text(&done(&node, &format!("world add {world}")), "name"));
    }

    assert_eq!(made, ["server/first", "alice/second", "server/third"]);
    assert_eq!(seen(), (json!(2), json!(3), sorted("alice,bob")));
    refused(&node, "account rm server", 8, "conflict");
    refused(&node, "account add server", 8, "name_taken");
}

#[test]
fn a_group_is_heard_for_by_its_own_element_and_by_its_owners_when_it_is_made() {
    let node = two_gardens();
    for (name, of) in [("person", "account"), ("guild", "group")] {
        let named = format!("\"{name}\"\nparents = [\"server:{of}\"]");
        let own = WARDEN.replace("\"warden\"", &named);
        publish(&node, &format!("{own}{}", deciding(&GROUP_EVENTS)));
    }
    let heard = |id: &str| value(&node, &format!("{id} heard --as alice"));
    let at_the_second_try = |id: &str, kind: &str, words: &str| {
        let words = format!("{words} --as alice");
        done(&node, &format!("element set {id} refuses {kind} --as alice"));
        let problem = refused(&node, &words, 5, "refused");
        assert_eq!(problem["detail"], format!("no {kind}"));
        done(&node, &format!("element set {id} refuses nothing --as alice"));
        done(&node, &words);
    };
    let alice = element_in(&node, "account show alice");
    done(&node, &format!("element become {alice} person --as alice"));

    at_the_second_try(&alice, "group_creation", "group add friends");

    let friends = element_in(&node, "group show alice:friends");
    done(&node, &format!("element become {friends} guild --as alice"));
    let mut told = String::new();
    for (kind, words) in [
        ("group_member_added", "group member friends bob"),
        ("group_admin_added", "group member friends bob --admin"),
        ("group_admin_removed", "group member friends bob --admin --remove"),
        ("group_member_removed", "group member friends bob --remove"),
    ] {
        at_the_second_try(&friends, kind, words);
        told.push_str(&format!("{kind},"));
        assert_eq!(heard(&friends), told);
    }
    at_the_second_try(&friends, "group_destruction", "group rm friends");
    refused(&node, &format!("element show {friends} --as alice"), 4, "not_found");
    assert_eq!(heard(&alice), "group_creation,");
}

#[test]
fn who_is_in_a_group_is_shown_to_its_owner_its_members_and_the_operator() {
    let node = two_gardens();
    done(&node, "account add carol");
    done(&node, "group add friends --as alice");
    done(&node, "group member friends bob --as alice");
    let table = [
        ("alice", "--account alice", true),
        ("bob", "--account bob", true),
        ("carol", "--account carol", false),
        ("operator", "--admin", true),
    ];

    for (name, rights, sees) in table {
        let key = text(&done(&node, &format!("key add {name} {rights}")), "key");
        let group = json!({"group": "alice:friends"});

        let (status, shown) = by_key(&node, &key, "group.show", group);

        let members = &shown["result"]["members"];
        assert_eq!((status, members.is_null()), (200, !sees), "{name}: {shown}");
        assert_eq!(members[0]["name"], json!(sees.then_some("bob")), "{name}: {shown}");
    }
}

#[test]
fn what_a_person_is_asked_is_seen_by_who_follows_the_events() {
    let node = garden();
    publish(&node, DOOR);
    let door = text(&done(&node, "element create door --name door"), "id");
    let alice = text(&done(&node, "account show alice"), "id");
    let followed = node.events(&[]);
    // Only what happens from now on is told, and following takes a moment to begin.
    let noise = ["element", "set", "alice/garden", "description", "noisy"];
    node.until(&noise, |_| !followed.so_far().is_empty());

    let caller = calling(&node, "element set door open true --timeout 60s");
    let entry = question(&node);
    done(&node, &format!("approve {}", text(&entry, "id")));
    assert_eq!(answered(caller).exit, 0);

    let seen = followed.until(|events| events.iter().any(|event| event["attribute"] == "open"));
    let asked: Vec<&Json> = seen.iter().filter(|event| event["kind"] == "question").collect();
    let [asked] = asked.as_slice() else { panic!("{seen:#?}") };
    let want = json!({"entry": entry["id"], "asks": entry["asks"], "owner": alice});
    assert_eq!((&asked["element"], &asked["value"]), (&json!(door), &want));
}

#[test]
fn who_asks_another_server_in_vain_is_told_of_the_error() {
    let attic = garden();
    let cellar = Node::start("cellar", &[&attic]);
    done(&cellar, "account add bob");
    done(&cellar, "world add house");
    publish_as(&cellar, "bob", CURIOUS);
    done(&cellar, "element create curious --name curious");
    let table = [("wonder", 0, "shine"), ("look", 0, "on"), ("insist", 5, "shine")];

    let mut told = String::new();
    for (event, exit, call) in table {
        let said = cellar.say(&["event", "send", "curious", event]);

        assert_eq!(said.exit, exit, "{event}: {said:?}");
        told.push_str(&format!("alice/garden/nosuch {call} not_offered,"));
        let errors = ["element", "get", "curious", "errors"];
        cellar.until(&errors, |got| got["value"] == told.as_str());
    }
}

// What they are about.

const PLANT: &str = r#"
name = "plant"

[attributes.height]
kind = "integer"
default = 1

[attributes.colour]
kind = "string"
default = "green"

[events.water]
all_keys = ["amount"]
required_keys = ["amount"]

[actions.water]
on = "event:water"
script = '''
set("height", get("height") + event.amount)
return { height = get("height") }
'''

[actions.low]
on = "before:value_change"
attribute = "height"
script = '''
if event.value > 9 then
  refuse("no plant is that high")
end
'''
"#;

const LEAVES: &str = r#"
[attributes.leaves]
kind = "integer"
default = 7

[actions.shed]
on = "event:shed"
script = '''
set("leaves", get("leaves") - 1)
return { leaves = get("leaves") }
'''
"#;

const POT: &str = r#"
name = "pot"

[attributes.height]
kind = "integer"
default = 30

[attributes.clay]
kind = "string"
default = "brown"

[actions.water]
on = "event:water"
reply = { pot = true }

[actions.empty]
on = "event:empty"
reply = { emptied = true }
"#;

const ROSE: &str = r#"
name = "rose"
parents = ["plant", "pot"]

[attributes.colour]
kind = "string"
default = "red"

[attributes.thorns]
kind = "integer"
default = 3
"#;

const OLD: &str = r#"
name = "old"

[attributes.order]
kind = "string"
default = ""

[actions.z]
on = "event:line"
script = 'set("order", get("order") .. "z,")'
"#;

const MIDDLE: &str = r#"
name = "middle"
parents = ["old"]

[actions.m]
on = "event:line"
script = 'set("order", get("order") .. "m,")'
"#;

const YOUNG: &str = r#"
name = "young"
parents = ["middle"]

[actions.late]
on = "event:line"
priority = -1
script = 'set("order", get("order") .. "late,")'

[actions.a]
on = "event:line"
script = 'set("order", get("order") .. "a,")'

[actions.urgent]
on = "event:line"
priority = 1
script = 'set("order", get("order") .. "urgent,")'
"#;

const SIZED: &str = r#"
name = "sized"

[attributes.size]
kind = "integer"
default = 1
"#;

const LAW: &str = r#"
name = "law"

[attributes.rate]
kind = "integer"
default = 5
final = true
"#;

const COIN: &str = r#"
name = "coin"

[attributes.worth]
kind = "integer"
default = 5
static = true

[actions.cheat]
on = "event:cheat"
script = 'set("worth", 9)'
"#;

const SPECTRUM: &str = r#"
name = "spectrum"

[attributes.light]
kind = "integer"
default = 0

[attributes.red]
kind = "integer"
default = 0
parent = "light"

[attributes.ruby]
kind = "integer"
default = 0
parent = "red"

[attributes.sound]
kind = "integer"
default = 0

[attributes.heard]
kind = "integer"
default = 0

[actions.hear]
on = "after:value_change"
attribute = "light"
script = 'set("heard", get("heard") + 1)'

[actions.positive]
on = "before:value_change"
attribute = "light"
script = '''
if event.value < 0 then
  refuse("there is no dark " .. event.attribute)
end
'''
"#;

const CLUB: &str = r#"
name = "club"
create_group = "makers"
see_group = "friends"

[attributes.news]
kind = "string"
read_group = "friends"
write_group = "friends"

[attributes.diary]
kind = "string"
"#;

/// Notes what it is told, and refuses what the one called `judge` says.
const WARDEN: &str = r#"
name = "warden"

[attributes.refuses]
kind = "string"
default = ""

[attributes.heard]
kind = "string"
default = ""
"#;

const GROUP_EVENTS: [&str; 6] = [
    "group_creation",
    "group_destruction",
    "group_member_added",
    "group_member_removed",
    "group_admin_added",
    "group_admin_removed",
];

const SET_EVENTS: [&str; 21] = [
    "element_enters_set",
    "element_leaves_set",
    "set_element_added",
    "set_element_removed",
    "set_child_added",
    "set_child_removed",
    "set_parent_added",
    "set_parent_removed",
    "set_link_made",
    "set_link_removed",
    "set_link_received",
    "set_link_lost",
    "set_union",
    "set_intersection",
    "set_difference",
    "set_symmetric_difference",
    "set_push",
    "set_pop",
    "set_unshift",
    "set_shift",
    "set_mutual",
];

const THING: &str = r#"
name = "thing"

[attributes.n]
kind = "integer"
default = 0

[attributes.label]
kind = "string"

[actions.poke]
on = "event:poke"
accept = true
"#;

const GEM: &str = r#"
name = "gem"

[attributes.n]
kind = "integer"
default = 0
index = true

[attributes.label]
kind = "string"
index = true
"#;

const TWINS: &str = r#"
name = "twins"

[attributes.a]
kind = "number"
default = 5
index = true

[attributes.b]
kind = "number"
default = 5

[attributes.c]
kind = "string"
index = true

[attributes.d]
kind = "string"

[attributes.e]
kind = "integer"
default = 1
index = true

[attributes.f]
kind = "integer"
default = 1

[actions.more_e]
on = "before:value_change_filtered"
attribute = "e"
script = 'return { value = event.value + 10 }'

[actions.more_f]
on = "before:value_change_filtered"
attribute = "f"
script = 'return { value = event.value + 10 }'
"#;

const NEIGHBOUR: &str = r#"
name = "neighbour"

[attributes.sign]
kind = "string"
default = ""
read = "public"

[attributes.hidden]
kind = "string"
default = ""

[attributes.heard]
kind = "json"
default = []

[actions.polite]
on = "before:value_change"
attribute = "sign"
script = '''
if event.value == "never" then
  refuse("not here")
end
'''

[actions.see]
on = "after:value_change"
of = "set"
attribute = "sign"
script = '''
local heard = get("heard")
table.insert(heard, {
  name = event.name, element = event.element, attribute = event.attribute,
  old = event.old, value = event.value,
})
set("heard", heard)
'''

[actions.peep]
on = "after:value_change"
of = "set"
attribute = "hidden"
script = '''
local heard = get("heard")
table.insert(heard, {
  name = event.name, element = event.element, attribute = event.attribute,
  old = event.old, value = event.value,
})
set("heard", heard)
'''

[actions.mourn]
on = "after:element_destruction"
of = "set"
script = '''
local heard = get("heard")
table.insert(heard, { name = event.name, element = event.element })
set("heard", heard)
'''

[actions.hide]
on = "event:hide"
script = 'set("hidden", event.what)'
"#;

const VAULT: &str = r#"
name = "vault"

[attributes.gold]
kind = "integer"

[attributes.door]
kind = "integer"
read = "public"

[attributes.veiled]
kind = "integer"
default = 1
read = "public"

[attributes.shown]
kind = "integer"
default = 1
read = "public"

[actions.veil]
on = "before:value_change_filtered"
attribute = "veiled"
refuse = "it is veiled"

[actions.show]
on = "before:value_change_filtered"
attribute = "shown"
reply = { value = 2 }
"#;

/// A picky one refuses one id in eight.
const SEED: &str = r#"
name = "seed"

[attributes.kind]
kind = "string"
default = "any"

[attributes.batch]
kind = "integer"
default = 0

[attributes.made]
kind = "integer"
default = 0

[actions.few]
on = "before:element_batch_creation"
script = '''
if event.count > 500 then
  refuse(event.count .. " are too many")
end
'''

[actions.noted]
on = "after:element_batch_creation"
script = 'set("batch", event.count)'

[actions.made]
on = "after:element_creation"
script = 'set("made", get("made") + 1)'

[actions.pick]
on = "before:element_creation"
script = '''
if get("kind") == "picky" and string.find("07", string.sub(element.id, -1), 1, true) then
  refuse("not this one")
end
'''
"#;

const RING: &str = r#"
name = "ring"

[attributes.secret]
kind = "string"
default = ""

[attributes.cursed]
kind = "bool"
default = false

[attributes.given]
kind = "integer"
default = 0

[actions.stay]
on = "before:element_owner_change"
script = '''
if get("cursed") then
  refuse("it cannot be given away")
end
'''

[actions.gone]
on = "after:element_owner_change"
script = 'set("given", get("given") + 1)'

[actions.wear]
on = "event:wear"
accept = true
"#;

const SWITCHED: &str = r#"
name = "switched"
parents = ["plant"]

[attributes.light]
kind = "integer"
default = 0

[attributes.refuses]
kind = "string"
default = ""

[attributes.told]
kind = "string"
default = ""

[actions.shine]
on = "event:shine"
script = 'set("light", get("light") + 1)'

[actions.keep_off]
on = "before:attribute_off"
script = 'if get("refuses") == event.name then refuse("no " .. event.name) end'

[actions.keep_on]
on = "before:attribute_on"
script = 'if get("refuses") == event.name then refuse("no " .. event.name) end'

[actions.keep_parent_off]
on = "before:parent_off"
script = 'if get("refuses") == event.name then refuse("no " .. event.name) end'

[actions.keep_parent_on]
on = "before:parent_on"
script = 'if get("refuses") == event.name then refuse("no " .. event.name) end'

[actions.off]
on = "after:attribute_off"
script = 'set("told", get("told") .. event.name .. " " .. event.part .. ",")'

[actions.on]
on = "after:attribute_on"
script = 'set("told", get("told") .. event.name .. " " .. event.part .. ",")'

[actions.parent_off]
on = "after:parent_off"
script = 'set("told", get("told") .. event.name .. " " .. event.part .. ",")'

[actions.parent_on]
on = "after:parent_on"
script = 'set("told", get("told") .. event.name .. " " .. event.part .. ",")'
"#;

const COUNTING: &str = r#"
name = "counting"

[attributes.light]
kind = "bool"
default = true

[attributes.before]
kind = "integer"
default = 0

[attributes.after]
kind = "integer"
default = 0

[actions.before]
on = "before:attribute_off"
script = 'set("before", get("before") + 1)'

[actions.after]
on = "after:attribute_off"
script = 'set("after", get("after") + 1)'
"#;

const SCALE: &str = r#"
name = "scale"

[attributes.weight]
kind = "integer"
default = 100
read = "public"

[attributes.before]
kind = "integer"
default = 0

[attributes.touched]
kind = "integer"
default = 0

[attributes.spoilt]
kind = "integer"
default = 1

[attributes.veiled]
kind = "integer"
default = 1

[attributes.wrong]
kind = "integer"
default = 1

[attributes.asking]
kind = "integer"
default = 1

[actions.less]
on = "before:value_change_filtered"
attribute = "weight"
priority = 5
script = 'return { value = event.value - 1 }'

[actions.twice]
on = "before:value_change_filtered"
attribute = "weight"
priority = 10
script = 'return { value = event.value * 2 }'

[actions.spoil]
on = "before:value_change_filtered"
attribute = "spoilt"
script = 'set("touched", get("touched") + 1)'

[actions.veil]
on = "before:value_change_filtered"
attribute = "veiled"
refuse = "it is veiled"

[actions.mistake]
on = "before:value_change_filtered"
attribute = "wrong"
reply = { value = "many" }

[actions.inquire]
on = "before:value_change_filtered"
attribute = "asking"
ask = "may it be read?"

[actions.noted]
on = "after:value_change"
attribute = "weight"
script = 'set("before", event.old)'

[actions.raw]
on = "event:raw"
script = 'return { weight = get("weight") }'

[actions.look]
on = "event:look"
script = 'return { weight = get("weight", "scale") }'
"#;

const SEASONS: &str = r#"
name = "seasons"

[attributes.past]
kind = "integer"
default = 1
bounds.times = [{ until = "2020-01-01T00:00:00Z" }]

[attributes.below]
kind = "integer"
default = 1
parent = "past"

[attributes.future]
kind = "integer"
default = 2
bounds.times = [
  { until = "2020-01-01T00:00:00Z" },
  { from = "2900-01-01T00:00:00Z", until = "2901-01-01T00:00:00Z" },
]

[attributes.now]
kind = "integer"
default = 3
bounds.times = [{ until = "2020-01-01T00:00:00Z" }, { from = "2020-01-01T00:00:00Z" }]

[attributes.always]
kind = "integer"
default = 4

[attributes.always.bounds]
zone = "Europe/Berlin"
schedules = [{ cron = "* * * * *", lasts = "1m" }]

[attributes.never]
kind = "integer"
default = 5

[attributes.never.bounds]
times = [{ until = "2020-01-01T00:00:00Z" }]
schedules = [{ cron = "* * * * *", lasts = "1m" }]

[attributes.heard]
kind = "integer"
default = 0

[actions.hear_now]
on = "after:value_change"
attribute = "now"
script = 'set("heard", get("heard") + 1)'

[actions.hear_always]
on = "after:value_change"
attribute = "always"
script = 'set("heard", get("heard") + 1)'

[actions.thaw]
on = "event:thaw"
script = '''
set("heard", 9)
set("past", 9)
'''
"#;

const LANTERN: &str = r#"
name = "lantern"

[attributes.pos]
kind = "position"
default = { x = 1, y = 1 }

[attributes.glow]
kind = "integer"
default = 1

[attributes.glow.bounds.area]
attribute = "pos"
min = { x = 0, y = 0 }
max = { x = 10, y = 10 }
"#;

const FISH: &str = r#"
name = "fish"

[bounds.area]
attribute = "pos"
min = { x = 0, y = 0 }
max = { x = 10, y = 10 }

[attributes.pos]
kind = "position"
default = { x = 1, y = 1 }

[attributes.swum]
kind = "integer"
default = 0

[attributes.heard]
kind = "integer"
default = 0

[actions.swim]
on = "event:swim"
script = 'set("swum", get("swum") + 1)'

[actions.stay]
on = "before:element_leaves_set"
refuse = "it stays in the water"

[actions.live]
on = "before:element_destruction"
refuse = "it lives"

[actions.hear]
on = "after:value_change"
attribute = "swum"
of = "set"
script = 'set("heard", get("heard") + 1)'
"#;

const EVERY_MS: i64 = 200;

const CLOCK: &str = r#"
name = "clock"

[attributes.born]
kind = "integer"
default = 0

[attributes.beats]
kind = "json"
default = []

[events.tick]
every = "200ms"

[actions.born]
on = "after:element_creation"
script = 'set("born", world.now)'

[actions.tick]
on = "event:tick"
script = '''
local beats = get("beats")
table.insert(beats, world.now)
set("beats", beats)
'''
"#;

const MAYFLY: &str = r#"
name = "mayfly"

[attributes.ends]
kind = "integer"
expires = true

[attributes.told]
kind = "json"
default = []

[actions.arm]
on = "event:arm"
script = '''
set("ends", world.now + event.ms)
return { ends = get("ends") }
'''

[actions.mourn]
on = "after:element_destruction"
of = "set"
script = '''
if element.name == "grave" then
  local told = get("told")
  table.insert(told, { name = event.name, at = world.now })
  set("told", told)
end
'''
"#;

const TICKER: &str = r#"
name = "ticker"

[attributes.count]
kind = "integer"
default = 0

[events.tick]
every = "200ms"

[actions.tick]
on = "event:tick"
script = 'set("count", get("count") + 1)'
"#;

const DOOR: &str = r#"
name = "door"

[attributes.open]
kind = "bool"
default = false

[actions.knock]
on = "before:value_change"
attribute = "open"
ask = "may it open?"
"#;

const SHOP: &str = r#"
name = "shop"

[attributes.sold]
kind = "integer"
default = 0

[events.order]
all_keys = ["who", "lines", "note"]
required_keys = ["who"]
paths = ["$.lines[0].what", "$.lines[?@.many > 0]"]

[events.close]
all_keys = []

[actions.order]
on = "event:order"
script = '''
for _, line in ipairs(event.lines) do
  set("sold", get("sold") + line.many)
end
return { sold = get("sold") }
'''

[actions.close]
on = "event:close"
accept = true

[actions.anything]
on = "event:anything"
accept = true
"#;

const NOISE: &str = r#"
name = "noise"

[attributes.heard]
kind = "string"
default = ""

[attributes.last]
kind = "string"
default = ""

[attributes.quiet]
kind = "bool"
default = false

[events.sound]

[events.bell]
parent = "sound"

[events.ring]
parent = "bell"
all_keys = []

[actions.sound]
on = "event:sound"
priority = 9
script = '''
set("heard", get("heard") .. "sound,")
set("last", event.name)
if get("quiet") then
  refuse("be quiet")
end
'''

[actions.bell]
on = "event:bell"
script = 'set("heard", get("heard") .. "bell,")'

[actions.ring]
on = "event:ring"
priority = 3
script = 'set("heard", get("heard") .. "ring,")'
"#;

const RIVAL: &str = r#"
name = "rival"

[attributes.does]
kind = "string"
default = ""

[attributes.score]
kind = "integer"
default = 0

[attributes.bell]
kind = "integer"
default = 0

[actions.positive]
on = "before:value_change"
attribute = "score"
script = '''
if event.value < 0 then
  refuse("no less than nothing")
end
'''

[actions.entering]
on = "before:element_enters_set"
script = '''
local does = get("does")
if does == "write" then
  set("score", get("score", "third") + 1, "third")
elseif does == "twice" then
  set("score", get("score", "third") + 1, "third")
  set("score", get("score", "third") + 1, "third")
elseif does == "fail" then
  pcall(set, "score", -1, "third")
end
'''

[actions.entered]
on = "before:set_element_added"
script = '''
local does = get("does")
if does == "write" then
  set("score", get("score", "third") + 1, "third")
elseif does == "catch" then
  pcall(set, "score", 9, "third")
end
'''

[actions.echo]
on = "after:value_change"
attribute = "bell"
of = "set"
script = '''
if get("does") == "echo" then
  set("score", get("score", "third") + 1, "third")
end
'''
"#;

const EGG: &str = r#"
name = "egg"

[attributes.size]
kind = "integer"
default = 1
index = true

[attributes.shut]
kind = "bool"
default = false

[attributes.heard]
kind = "string"
default = ""

[actions.hatching]
on = "before:parent_on"
script = '''
if get("shut") then
  refuse("it is not time")
end
set("heard", get("heard") .. "before " .. event.part .. ",")
'''

[actions.hatched]
on = "after:parent_on"
script = 'set("heard", get("heard") .. "after " .. event.part .. ",")'
"#;

const BIRD: &str = r#"
name = "bird"
parents = ["egg"]

[attributes.wings]
kind = "integer"
default = 2

[actions.fly]
on = "event:fly"
script = 'return { wings = get("wings") }'
"#;

const ENGINE: &str = r#"
name = "engine"

[attributes.starts]
kind = "integer"
default = 0

[attributes.server]
kind = "string"
default = ""

[actions.start]
on = "after:node_started"
script = '''
set("starts", get("starts") + 1)
set("server", event.server)
'''
"#;

const BROKEN: &str = r#"
name = "broken"

[actions.start]
on = "after:node_started"
script = 'error("it does not start")'
"#;

const GAUGE: &str = r#"
name = "gauge"

[attributes.heard]
kind = "integer"
default = 0

[events.sound]

[actions.hear]
on = "event:sound"
script = 'set("heard", get("heard") + 1)'
"#;

/// Asks another server for what is not there, and notes what it is told of that.
const CURIOUS: &str = r#"
name = "curious"

[attributes.errors]
kind = "string"
default = ""

[actions.wonder]
on = "event:wonder"
script = 'pcall(ask, "alice@attic/garden/nosuch", "shine", {})'

[actions.look]
on = "event:look"
script = 'pcall(get, "on", "alice@attic/garden/nosuch")'

[actions.insist]
on = "event:insist"
script = 'ask("alice@attic/garden/nosuch", "shine", {})'

[actions.told]
on = "after:remote_error"
script = '''
local told = event.element .. " " .. event.call .. " " .. event.problem.code
set("errors", get("errors") .. told .. ",")
'''
"#;

/// For each kind an action that may refuse it, and one that notes that it has happened.
fn wardens(kinds: &[&str]) -> String {
    let action = |kind: &&str| {
        let before = format!(
            "\n[actions.before_{kind}]\non = \"before:{kind}\"\nscript = '''\n\
             if get(\"refuses\", \"judge\") == element.name .. \":{kind}\" then\n\
             refuse(\"no {kind}\")\nend\n'''\n"
        );
        // Of what two sets have in common nothing has happened afterwards.
        if *kind == "set_mutual" {
            return before;
        }
        format!(
            "{before}\n[actions.after_{kind}]\non = \"after:{kind}\"\nscript = '''\n\
             set(\"heard\", get(\"heard\") .. \"{kind},\")\n'''\n"
        )
    };
    kinds.iter().map(action).collect()
}

/// The same for elements that say themselves what they refuse.
fn deciding(kinds: &[&str]) -> String {
    let action = |kind: &&str| {
        format!(
            "\n[actions.before_{kind}]\non = \"before:{kind}\"\nscript = '''\n\
             if get(\"refuses\") == \"{kind}\" then\nrefuse(\"no {kind}\")\nend\n'''\n\
             \n[actions.after_{kind}]\non = \"after:{kind}\"\nscript = '''\n\
             set(\"heard\", get(\"heard\") .. \"{kind},\")\n'''\n"
        )
    };
    kinds.iter().map(action).collect()
}

/// A node with an account alice, who owns a garden and acts where nobody is named.
fn garden() -> Node {
    let node = Node::start("attic", &[]);
    done(&node, "account add alice");
    done(&node, "world add alice/garden");
    node
}

/// A node with two accounts: alice, who owns a garden, and bob, who owns a house.
fn two_gardens() -> Node {
    let node = garden();
    done(&node, "account add bob");
    done(&node, "world add bob/house");
    node
}

/// The id of the element that stands for what is shown.
fn element_in(node: &Node, words: &str) -> String {
    text(&done(node, words), "element")
}

/// The id of the element that stands for the node's own server.
fn own_element(node: &Node) -> String {
    let us: ServerId = serde_json::from_value(node.ready["server_id"].clone()).unwrap();
    us.element().to_string()
}

fn try_publish(node: &Node, who: &str, text: &str) -> Said {
    let file = node.file("published.toml", text);
    node.say(&["type", "publish", path(&file), "--as", who])
}

/// Publishes a type that must be good.
fn publish_as(node: &Node, who: &str, text: &str) -> Json {
    let said = try_publish(node, who, text);
    assert_eq!(said.exit, 0, "{text}: {said:?}");
    said.out
}

/// Publishes a type of alice.
fn publish(node: &Node, text: &str) -> Json {
    publish_as(node, "alice", text)
}

/// Makes elements with these names.
fn things_of(node: &Node, kind: &str, names: &str) {
    for name in names.split(' ') {
        done(node, &format!("element create {kind} --name {name}"));
    }
}

/// Makes things with these names.
fn things(node: &Node, names: &str) {
    publish(node, THING);
    things_of(node, "thing", names);
}

fn items_of<'l>(listed: &'l Json, key: &str) -> Vec<&'l str> {
    let items = listed["items"].as_array().unwrap_or_else(|| panic!("no list: {listed}"));
    items.iter().filter_map(|item| item[key].as_str()).collect()
}

/// The names of what is listed, with commas between.
fn names_of(listed: &Json) -> String {
    items_of(listed, "name").join(",")
}

fn ids_of(listed: &Json) -> Vec<String> {
    items_of(listed, "id").into_iter().map(str::to_owned).collect()
}

fn sorted(names: &str) -> Vec<String> {
    let mut names: Vec<String> = names.split(',').map(str::to_owned).collect();
    names.sort();
    names
}

/// The names of what a selection picks in alice's garden.
fn select_as(node: &Node, who: &str, text: &str) -> String {
    let ls = ["element", "ls", "--world", "alice/garden", "--as", who, "--where", text];
    names_of(&node.done(&ls))
}

fn select(node: &Node, text: &str) -> String {
    select_as(node, "alice", text)
}

/// The names of a set's members, in order.
fn members_in(node: &Node, set: &str, world: &str) -> String {
    names_of(&done(node, &format!("set ls {set} --world {world}")))
}

fn members(node: &Node, set: &str) -> String {
    members_in(node, set, "alice/garden")
}

/// The ids on each page of a list.
fn pages(node: &Node, words: &[&str]) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let next = cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]);
        let page = node.done(&words.iter().copied().chain(next).collect::<Vec<_>>());
        pages.push(ids_of(&page));
        assert!(pages.len() < 100, "{words:?} do not end");
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return pages,
        }
    }
}

/// Waits until something is so.
fn comes(so: impl Fn() -> bool) -> bool {
    comes_within(PATIENCE, so)
}

fn comes_within(patience: Duration, so: impl Fn() -> bool) -> bool {
    (0..patience.as_millis() / 50).any(|_| {
        let is_so = so();
        if !is_so {
            std::thread::sleep(Duration::from_millis(50));
        }
        is_so
    })
}

/// A call that is not waited for yet.
fn calling(node: &Node, words: &str) -> Child {
    node.program()
        .args(split(words))
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How such a call ended.
fn answered(caller: Child) -> Said {
    said(caller.wait_with_output().unwrap())
}

/// The only entry of the inbox, once it is there.
fn question(node: &Node) -> Json {
    let one = |inbox: &Json| inbox["items"].as_array().is_some_and(|items| items.len() == 1);
    node.until(&["inbox"], one)["items"][0].clone()
}

#[test]
fn a_timer_is_listed_and_stopped_by_the_owner_of_its_element() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);
    node.done(&["account", "add", "bob"]);
    node.done(&["world", "add", "alice/garden"]);
    let counter = "name = 'counter'\n[attributes.n]\nkind = 'integer'\ndefault = 0\n\
        [actions.count]\non = 'event:count'\nscript = \"set('n', get('n') + 1)\"\n";
    let file = node.file("counter.toml", counter);
    node.done(&["type", "publish", path(&file), "--as", "alice"]);
    node.done(&["element", "create", "counter", "--name", "c", "--as", "alice"]);
    let alice = ["--as", "alice"];
    let send = ["event", "send", "c", "count", "--every", "200ms", "--as", "alice"];
    let timer = node.done(&send)["timer"].as_str().unwrap().to_owned();
    let listed = node.done(&["timer", "ls", "c", alice[0], alice[1]]);
    assert_eq!(listed["items"][0]["id"], timer.as_str(), "{listed}");
    assert_eq!(listed["items"][0]["every_ms"], 200);
    node.until(&["element", "get", "c", "n", "--as", "alice"], |n| n["value"].as_i64() > Some(1));

    let other = "alice/garden/c";
    node.refused(&["timer", "rm", other, &timer, "--as", "bob"], 5, "not_permitted");
    node.refused(&["timer", "rm", "c", "nothing", "--as", "alice"], 4, "not_found");
    node.done(&["timer", "rm", "c", &timer, "--as", "alice"]);

    assert_eq!(node.done(&["timer", "ls", "c", "--as", "alice"])["items"], json!([]));
    let at = node.done(&["element", "get", "c", "n", "--as", "alice"])["value"].clone();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(node.done(&["element", "get", "c", "n", "--as", "alice"])["value"], at);
}

#[test]
fn what_a_caller_says_in_the_metadata_fires_nothing_in_anothers_name() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);
    node.done(&["account", "add", "mallory"]);
    node.done(&["world", "add", "alice/garden"]);
    let vault = "name = 'vault'\n[attributes.open]\nkind = 'bool'\ndefault = false\n\
        [actions.open]\non = 'event:open'\nscript = \"set('open', true)\"\n";
    let file = node.file("vault.toml", vault);
    node.done(&["type", "publish", path(&file), "--as", "alice"]);
    let made = node.done(&["element", "create", "vault", "--name", "v", "--as", "alice"]);
    let key = node.done(&["key", "add", "hers", "--account", "mallory"]);
    let reply_to = json!({"world": made["world"], "element": made["id"], "event": "open"});
    let call = json!({
        "command": "group.add",
        "args": {"name": "mine"},
        "meta": {"reply_to": reply_to},
    });

    let (status, said) = by_key_with(&node, key["key"].as_str().unwrap(), &call);

    assert_eq!(status, 200, "{said}");
    std::thread::sleep(Duration::from_millis(300));
    let open = node.done(&["element", "get", "v", "open", "--as", "alice"]);
    assert_eq!(open["value"], false, "{open}");
}

#[test]
fn a_neighbour_can_neither_stop_what_others_do_nor_ask_in_between() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);
    node.done(&["account", "add", "mallory"]);
    node.done(&["world", "add", "alice/garden"]);
    let file = node.file(
        "lamp.toml",
        "name = 'lamp'\n[attributes.on]\nkind = 'bool'\ndefault = false\nread = 'public'\n",
    );
    node.done(&["type", "publish", path(&file), "--as", "alice"]);
    let bad = |name: &str, body: &str| {
        let text = format!(
            "name = '{name}'\n[actions.hear]\non = 'after:value_change'\nof = 'set'\n{body}\n"
        );
        let file = node.file(&format!("{name}.toml"), &text);
        node.done(&["type", "publish", path(&file), "--as", "alice"]);
        node.done(&["element", "create", name, "--name", name, "--as", "alice"]);
    };
    bad("looper", "script = 'while true do end'");
    bad("asker", "ask = 'may it?'");
    bad("thrower", "script = \"error('no')\"");
    node.done(&["element", "create", "lamp", "--name", "l", "--as", "alice"]);
    node.done(&["set", "add", "l", "--as", "alice"]);
    node.done(&["set", "enter", "l", "l", "--as", "alice"]);
    for name in ["looper", "asker", "thrower"] {
        node.done(&["set", "enter", "l", name, "--as", "alice"]);
        node.done(&["element", "give", name, "mallory", "--as", "alice"]);
    }

    node.done(&["element", "set", "l", "on", "true", "--as", "alice"]);

    assert_eq!(node.done(&["element", "get", "l", "on", "--as", "alice"])["value"], true);
    assert_eq!(node.done(&["inbox"])["items"], json!([]));
}

#[test]
fn what_a_type_hides_from_others_is_hidden_in_the_lists_of_sets_too() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);
    node.done(&["account", "add", "bob"]);
    node.done(&["world", "add", "alice/garden"]);
    let file = node.file("hidden.toml", "name = 'hidden'\nsee_group = 'owner'\n");
    node.done(&["type", "publish", path(&file), "--as", "alice"]);
    for name in ["a", "b"] {
        node.done(&["element", "create", "hidden", "--name", name, "--as", "alice"]);
        node.done(&["set", "add", name, "--as", "alice"]);
        node.done(&["set", "enter", name, "a", "--as", "alice"]);
    }

    let listed = |who: &str| node.done(&["set", "ls", "alice/garden/a", "--as", who]);
    let both =
        |who: &str| node.done(&["set", "mutual", "alice/garden/a", "alice/garden/b", "--as", who]);

    for list in [&listed as &dyn Fn(&str) -> Json, &both] {
        assert_eq!(list("alice")["items"][0]["name"], "a");
        assert_eq!(list("bob")["items"], json!([]));
    }
}
