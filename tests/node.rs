//! One node, a real process: what its command line, its API and its files promise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must end, and say where")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use support::{LAMP, Node, Said, furnish, said};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keeps a node that is started by hand to loopback.
const LOOPBACK: [&str; 4] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0"];
/// Bytes of a body at most.
const BODY_MAX: usize = 512 * 1024;
/// A peer that is never there.
const NOBODY: &str = "12D3KooWGUYqrvWZTwV3jwkg99fD5oCi19cQSAFQ3pQtNPscPJRP";

// Words, help and schema.

#[test]
fn a_mistyped_word_is_answered_with_the_one_that_was_meant() {
    let node = Node::home("attic");
    let table: [(&[&str], &str, &str); 8] = [
        (&["elment", "get", "lamp", "on"], "unknown_command", "'element'"),
        (&["statsu"], "unknown_command", "'status'"),
        (&["element", "creat", "lamp"], "unknown_command", "'create'"),
        (&["job", "shwo", "x"], "unknown_command", "'show'"),
        (&["element", "get", "a", "b", "--wolrd", "c"], "unknown_field", "'--world'"),
        (&["job", "ls", "--outcom", "done"], "unknown_field", "'--outcome'"),
        (&["key", "add", "k", "--acount", "a"], "unknown_field", "'--account'"),
        (&["run", "--lisen", "x"], "unknown_field", "'--listen'"),
    ];
    for (words, code, meant) in table {
        let problem = node.refused(words, 2, code);

        assert!(hint_of(&problem).contains(meant), "{words:?}: {problem}");
    }
}

#[test]
fn a_mistyped_verb_is_answered_with_the_verb_that_is_most_like_it() {
    let node = Node::home("attic");
    let table = [("gett", "get"), ("sett", "set"), ("destory", "destroy"), ("shwo", "show")];

    let missed: Vec<String> = table
        .into_iter()
        .filter_map(|(typed, meant)| {
            let problem = node.refused(&["element", typed, "lamp"], 2, "unknown_command");
            let hint = hint_of(&problem);
            (!hint.contains(&format!("'{meant}'"))).then(|| format!("{typed}: {hint}"))
        })
        .collect();

    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn words_that_are_missing_or_make_no_sense_are_wrong_usage() {
    let node = Node::home("attic");
    let table: [&[&str]; 8] = [
        &["element"],
        &["element", "get"],
        &["account", "add"],
        &["account", "ls", "--limit", "many"],
        &["status", "--timeout", "5"],
        &["status", "--timeout", "2h"],
        &["type", "check", "nosuch.toml"],
        &["completions", "nosuch"],
    ];
    for words in table {
        node.refused(words, 2, "usage");
    }
    let output = node.program().args(["elment", "ls"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();

    assert!(text.starts_with("error: "), "{text}");
    assert!(text.contains("\n\nhint: "), "{text}");
    assert!(output.stdout.is_empty(), "an error is not data");
}

#[test]
fn help_lists_what_is_built_and_nothing_else() {
    let node = Node::home("attic");
    let top = help(&node, &[]);

    let nouns = "account world type element action event job server protection key peer bootstrap";
    for noun in nouns.split(' ').chain(["config", "run", "status", "stop", "call", "events"]) {
        assert!(top.contains(noun), "{noun}: {top:?}");
    }
    // Whatever the contract names is either in the help and works, or it is in neither.
    for word in "run id status join invite inbox approve deny call events demo doctor ui stop \
        bench backup restore paths completions man"
        .split_whitespace()
    {
        assert_eq!(top.contains(word), is_built(&node, &[word]), "{word}");
    }
    for (noun, verbs) in VERBS {
        let listed = if top.contains(noun) { help(&node, &[noun]) } else { BTreeSet::new() };
        for verb in verbs.split(' ') {
            let built = is_built(&node, &[noun, verb]);
            assert_eq!(listed.contains(verb), built, "{noun} {verb}");
        }
    }
}

#[test]
fn the_schema_of_the_api_holds_every_command_of_the_terminal() {
    let node = Node::start("attic", &[]);
    let key = admin_key(&node);

    let answer = request("GET", "/api/v1/openapi.json").key(&key).send(&node);

    assert_eq!(answer.status, 200);
    assert!(answer.body["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<String> = answer.body["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(path, methods)| {
            methods.get("post")?;
            let command = path.strip_prefix("/api/v1/")?.replace('/', ".");
            command.contains('.').then_some(command)
        })
        .collect();
    let mut typed = BTreeSet::new();
    for noun in help(&node, &[]) {
        for verb in help(&node, &[&noun]) {
            typed.insert(format!("{noun}.{verb}"));
        }
    }
    // It reads a file without any node.
    assert!(typed.remove("type.check"));
    assert!(typed.len() > 30, "{typed:?}");
    assert_eq!(described, typed);
}

#[test]
fn an_unknown_command_part_or_field_of_a_call_is_named_with_what_was_meant() {
    let node = Node::start("attic", &[]);
    let key = admin_key(&node);
    let table = [
        (json!({"command": "elment.get"}), "unknown_command", "'element.get'"),
        (json!({"command": "node.id", "timeot_ms": 5}), "unknown_field", "'timeout_ms'"),
        (
            json!({"command": "element.get", "args": {"elment": "lamp", "attribute": "on"}}),
            "unknown_field",
            "'element'",
        ),
    ];
    for (body, code, meant) in table {
        let answer = request("POST", "/api/v1/calls").key(&key).json(&body).send(&node);

        let problem = answer.problem(400, code);
        assert_eq!(problem["exit"], 2);
        assert!(hint_of(&problem).contains(meant), "{body}: {problem}");
    }
    let table = [
        (json!([]), "bad_body"),
        (json!({"args": {}}), "bad_body"),
        (json!({"command": "node.id", "args": []}), "wrong_kind"),
        (json!({"command": "account.show", "args": {}}), "usage"),
        (json!({"command": "account.show", "args": {"account": 3}}), "wrong_kind"),
    ];
    for (body, code) in table {
        request("POST", "/api/v1/calls").key(&key).json(&body).send(&node).problem(400, code);
    }
    let cut = request("POST", "/api/v1/calls").key(&key).text("{\"command\":");
    cut.send(&node).problem(400, "bad_body");
    let problem = node.refused(&["call", "elment.get"], 2, "unknown_command");
    assert!(hint_of(&problem).contains("'element.get'"), "{problem}");
}

#[test]
fn a_call_may_have_all_of_its_eight_parts() {
    let node = Node::start("attic", &[]);
    let key = admin_key(&node);
    let body = json!({
        "command": "node.id",
        "language": "en",
        "world": null,
        "caller": null,
        "recipient": null,
        "args": {},
        "meta": {"mine": [1]},
        "keep_turns": 1,
        "timeout_ms": 5_000,
    });

    let answer = request("POST", "/api/v1/calls").key(&key).json(&body).send(&node);

    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["meta"], json!({"mine": [1]}));
}

#[test]
fn a_command_is_called_by_name_by_daily_word_by_id_and_by_route() {
    let node = Node::start("attic", &[]);
    let server = &node.ready["server_id"];

    assert_eq!(node.done(&["id"])["server_id"], *server);
    assert_eq!(node.done(&["node", "id"])["server_id"], *server);
    assert_eq!(node.done(&["call", "node.id"])["server_id"], *server);
    assert_eq!(node.done(&["call", "id"])["server_id"], *server);
    let key = admin_key(&node);
    let route = request("POST", "/api/v1/account/add").key(&key).header("Prefer", "wait=5");
    let answer = route.json(&json!({"name": "alice"})).send(&node);
    assert_eq!((answer.status, &answer.body["result"]["name"]), (200, &json!("alice")));
    let nowhere = request("POST", "/api/v1/account/nosuch").key(&key).json(&json!({}));
    nowhere.send(&node).problem(404, "not_found");
}

// Type files.

#[test]
fn all_mistakes_of_a_type_file_are_told_at_once_with_their_places() {
    let mut node = Node::home("attic");
    let file = node.file("lamp.toml", MISTAKEN);
    let file = support::path(&file);
    let want = [
        (2, 1, Some("protected")),
        (5, 8, Some("bool")),
        (9, 11, None),
        (10, 9, None),
        (17, 1, None),
        (21, 6, Some("value_change")),
    ];

    let checked = node.refused(&["type", "check", file], 1, "bad_type");
    let said_in_words = node.program().args(["type", "check", file]).output().unwrap();
    node.restart();
    node.done(&["account", "add", "alice"]);
    let published = node.refused(&["type", "publish", file], 1, "bad_type");

    for problem in [checked, published] {
        let found: Vec<(u64, u64, Option<&str>)> = problem["places"]
            .as_array()
            .unwrap()
            .iter()
            .map(|place| {
                let number = |key: &str| place[key].as_u64().unwrap();
                (number("line"), number("column"), place["suggestion"].as_str())
            })
            .collect();
        assert_eq!(found, want, "{problem:#}");
        assert_eq!(problem["status"], 422);
    }
    let text = String::from_utf8(said_in_words.stderr).unwrap();
    for (line, column, meant) in want {
        let told = text.lines().find(|told| told.contains(&format!("{line}:{column}: ")));
        assert!(told.is_some_and(|told| told.contains(meant.unwrap_or_default())), "{text}");
    }
    assert_eq!(node.done(&["type", "ls"])["items"], json!([]));
}

#[test]
fn a_type_file_is_checked_and_published_from_standard_input_too() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);

    let checked = with_input(&node, &["type", "check", "-"], LAMP);
    let published = with_input(&node, &["type", "publish", "-"], LAMP);

    assert_eq!((checked.exit, &checked.out["name"]), (0, &json!("lamp")), "{checked:?}");
    assert_eq!((published.exit, &published.out["revision"]), (0, &json!(1)), "{published:?}");
}

#[test]
fn a_type_grows_by_revisions_and_may_change_until_it_has_elements() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);
    node.done(&["world", "add", "garden"]);
    let first = publish(&node, LAMP).out;
    let changed = LAMP.replace("cache = \"5s\"", "cache = \"6s\"");

    // Nothing uses it yet, so anything may change.
    let again = publish(&node, LAMP).out;
    assert_eq!((&again["id"], &again["revision"]), (&first["id"], &json!(1)));
    assert_eq!(publish(&node, &changed).out["revision"], 2);
    assert_eq!(publish(&node, LAMP).out["revision"], 3);

    node.done(&["element", "create", "lamp", "--name", "lamp"]);
    for other in [changed, LAMP.replace("[attributes.count]", "[attributes.number]")] {
        let refused = publish(&node, &other);
        assert_eq!((refused.exit, &refused.err["code"]), (8, &json!("type_in_use")), "{refused:?}");
    }
    assert_eq!(publish(&node, LAMP).out["revision"], 3);

    let grown = format!("{LAMP}\n[attributes.colour]\nkind = \"string\"\ndefault = \"white\"\n");
    assert_eq!(publish(&node, &grown).out["revision"], 4);
    assert_eq!(node.done(&["element", "get", "lamp", "colour"])["value"], "white");
    let shrunk = publish(&node, LAMP);
    assert_eq!((shrunk.exit, &shrunk.err["code"]), (8, &json!("type_in_use")));
    assert_eq!(node.done(&["type", "show", "lamp"])["revision"], 4);
    assert_eq!(publish(&node, &LAMP.replace("\"lamp\"", "\"torch\"")).out["revision"], 1);
}

#[test]
fn what_is_added_to_a_type_may_stand_anywhere_in_its_file() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    let above = "[attributes.colour]\nkind = \"string\"\n\n[actions.toggle]";
    let grown = LAMP.replace("[actions.toggle]", above);

    let commented = publish(&node, &format!("# It says nothing new.\n{LAMP}"));
    let grown = publish(&node, &grown);

    assert_eq!((commented.exit, &commented.out["revision"]), (0, &json!(1)), "{commented:?}");
    assert_eq!((grown.exit, &grown.out["revision"]), (0, &json!(2)), "{grown:?}");
}

// Scripts.

#[test]
fn a_hostile_script_ends_with_a_clear_code_and_leaves_nothing_behind() {
    let budget: &[&str] = &["script_budget"];
    let failed: &[&str] = &["script_failed"];
    let either: &[&str] = &["script_budget", "script_failed"];
    let table = [
        ("loop", "while true do end", budget),
        ("caught", "while true do pcall(function() while true do end end) end", budget),
        ("eat", "local t = {} while true do t[#t + 1] = string.rep('x', 100000) .. #t end", budget),
        ("double", "local s = 'x' while true do s = s .. s end", budget),
        ("huge", "string.rep('x', 1e9)", budget),
        ("buffer", "buffer.create(1e9)", either),
        ("recurse", "local function f() return 1 + f() end f()", either),
        ("fork", "local function f() f() f() end f()", either),
        ("backtrack", "string.find(string.rep('a', 100000), '.-.-.-.-b')", budget),
        (
            "substitute",
            "string.gsub(string.rep('a', 9999), '', function() while true do end end)",
            budget,
        ),
        (
            "sort",
            "table.sort(table.create(99999, 1), function() return true end) while true do end",
            either,
        ),
        ("chatter", "while true do log('x') end", budget),
        ("write", "while true do set('count', get('count') + 1) end", budget),
        ("insist", "while true do pcall(set, 'count', 5) end", budget),
        ("global", "leak = 1", failed),
        ("library", "string.leak = 1", failed),
        ("fact", "event.leak = 1", failed),
        ("raise", "error('mine')", failed),
        ("nothing", "return nosuch.x", failed),
        ("clock", "return { at = os.time() }", failed),
        ("load", "loadstring('x')()", failed),
        ("require", "require('x')", failed),
        ("nan", "return 0 / 0", failed),
        ("function", "return function() end", failed),
        ("mixed", "return { 1, a = 2 }", failed),
        ("wordy", "refuse(string.rep('x', 201))", failed),
        ("silent", "refuse('')", failed),
    ];
    let actions: String = table
        .iter()
        .map(|(name, source, _)| script(name, &format!("set('count', 99)\n{source}")))
        .collect();
    let node = Node::start("attic", &[]);
    let fine = script("fine", "return { count = get('count'), leak = leak }");
    make(&node, &format!("{COUNTED}{actions}{fine}"));

    for (name, _, codes) in table {
        let ended = node.say(&["action", "call", "thing", name]);

        let code = ended.err["code"].as_str().unwrap_or_default();
        assert!(ended.exit == 1 && codes.contains(&code), "{name}: {ended:?}");
        let after = node.done(&["action", "call", "thing", "fine"]);
        assert_eq!(after["result"], json!({"count": 0}), "after {name}");
    }
    let status = node.done(&["status"]);
    assert_eq!((&status["health"], &status["jobs"]), (&json!("good"), &json!(0)));
    let key = admin_key(&node);
    assert_eq!(call(&node, &key, "node.id", json!({})).status, 200);
}

#[test]
fn a_failing_script_is_told_with_the_line_of_its_file() {
    let node = Node::start("attic", &[]);
    let text = format!("{COUNTED}{}", script("fall", "local x = 1\nerror('over ' .. x)"));
    let line = 1 + text.lines().position(|line| line.starts_with("error")).unwrap();
    make(&node, &text);

    let problem = node.refused(&["action", "call", "thing", "fall"], 1, "script_failed");

    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("thing.fall") && detail.contains("over 1"), "{detail}");
    assert!(detail.contains(&format!("line {line}")), "{detail}, wanted {line}");
    let broken = format!("{COUNTED}{}", script("fall", "local x = 1\nif x then"));
    let refused = publish(&node, &broken.replace("\"thing\"", "\"broken\""));
    assert_eq!((refused.exit, &refused.err["code"]), (1, &json!("bad_type")));
    assert_eq!(refused.err["places"][0]["line"], json!(line + 1));
}

#[test]
fn events_inside_events_end_at_a_limit_and_the_node_goes_on() {
    let node = Node::start("attic", &[]);
    make(&node, &format!("{COUNTED}{DESCENDING}"));

    let near = node.done(&["element", "set", "thing", "depth", "-20"]);
    let deep = node.say(&["element", "set", "thing", "depth", "1"]);

    assert_eq!(near["value"], -20);
    assert_eq!((deep.exit, &deep.err["code"]), (1, &json!("script_budget")), "{deep:?}");
    assert_eq!(node.done(&["element", "get", "thing", "depth"])["value"], -20);
    assert_eq!(node.done(&["status"])["health"], "good");
}

#[test]
fn a_call_that_fires_events_without_end_is_ended_and_dropped() {
    let node = Node::start("attic", &[]);
    make(&node, &format!("{COUNTED}{SPINNING}"));

    let problem = node.refused(&["element", "set", "thing", "round", "1"], 1, "script_budget");

    assert_eq!(problem["status"], 422);
    assert_eq!(node.done(&["element", "get", "thing", "round"])["value"], 0);
}

#[test]
fn the_hour_of_a_world_is_that_of_the_time_zone_in_the_settings() {
    let mut node = Node::home("attic");
    // Fourteen hours ahead of UTC all year.
    settings(&node, "time_zone = \"Pacific/Kiritimati\"\n");
    node.restart();
    make(
        &node,
        &format!("{COUNTED}{}", script("tell", "return { at = world.now, hour = world.hour }")),
    );

    let told = node.done(&["action", "call", "thing", "tell"])["result"].clone();

    let hours = told["at"].as_u64().unwrap() / 3_600_000;
    assert_eq!(told["hour"], json!((hours + 14) % 24));
}

// Actions.

#[test]
fn an_action_refuses_with_its_sentence_and_nothing_changes() {
    let node = Node::start("attic", &[]);
    make(&node, BOX);
    let table: [(&[&str], Option<&str>); 7] = [
        (&["action", "call", "thing", "never"], Some("this is never done")),
        (&["action", "call", "thing", "excused"], Some("so it is")),
        (&["action", "call", "thing", "scripted"], Some("not by this script")),
        (&["action", "call", "thing", "no"], None),
        (&["action", "call", "thing", "zero"], None),
        (&["element", "set", "thing", "fixed", "1"], Some("it is fixed")),
        (&["element", "create", "thing", "--name", "forbidden"], Some("not that name")),
    ];

    for (words, sentence) in table {
        let problem = node.refused(words, 5, "refused");
        if let Some(sentence) = sentence {
            assert_eq!(problem["detail"], sentence, "{words:?}");
        }
    }

    let shown = node.done(&["element", "show", "thing"]);
    assert_eq!((&shown["values"]["fixed"], &shown["values"]["order"]), (&json!(0), &json!("")));
    node.refused(&["element", "show", "forbidden"], 4, "not_found");
    node.done(&["element", "create", "thing", "--name", "eternal"]);
    node.refused(&["element", "destroy", "eternal"], 5, "refused");
    node.done(&["element", "show", "eternal"]);
    assert_eq!(node.done(&["action", "call", "thing", "empty"])["result"], json!({}));
}

#[test]
fn a_before_action_changes_what_is_written() {
    let node = Node::start("attic", &[]);
    make(&node, BOX);
    let set =
        |value: &str| node.done(&["element", "set", "thing", "level", value])["value"].clone();
    let get = || node.done(&["element", "get", "thing", "level"])["value"].clone();

    // A script that clamps, then constants that are laid over what it left.
    assert_eq!((set("3"), get()), (json!(3), json!(3)));
    assert_eq!((set("9"), get()), (json!(5), json!(5)));
    assert_eq!(node.done(&["element", "set", "thing", "number", "1.5"])["value"], 4);
    assert_eq!(node.done(&["element", "get", "thing", "number"])["value"], 4);
}

#[test]
fn an_after_action_writes_another_value() {
    let node = Node::start("attic", &[]);
    make(&node, BOX);

    node.done(&["element", "set", "thing", "on", "true"]);
    node.done(&["element", "set", "thing", "on", "false"]);
    node.done(&["element", "set", "thing", "level", "2"]);

    assert_eq!(node.done(&["element", "get", "thing", "switched"])["value"], 2);
}

#[test]
fn actions_run_by_priority_and_see_what_the_ones_before_laid_over() {
    let node = Node::start("attic", &[]);
    make(&node, BOX);

    let called = node.done(&["action", "call", "thing", "low", "--arg", "word=typed"]);

    // The same priority is by name; whichever action is named, every one runs.
    assert_eq!(called["result"], json!({"order": "high,a,b,low,", "word": "laid"}));
    assert_eq!(node.done(&["element", "get", "thing", "order"])["value"], "high,a,b,low,");
    let again = node.done(&["action", "call", "thing", "high"]);
    assert_eq!(again["result"], json!({"word": "laid"}));
    let listed: Vec<String> = node.done(&["action", "ls", "thing"])["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|action| action["on"] == "event:line")
        .map(|action| action["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ["high", "fine", "a", "b", "low"]);
}

#[test]
fn a_mapping_asks_another_element_and_takes_what_it_answers() {
    let node = Node::start("attic", &[]);
    make(&node, BOX);
    node.done(&["element", "create", "thing", "--name", "other"]);
    let relay = |deep: &str, list: &str| {
        node.done(&["action", "call", "thing", "relay", "--arg", deep, "--arg", list])["result"]
            .clone()
    };

    // One match is taken, several or none leave the key out; a constant is a constant.
    assert_eq!(relay("deep={\"a\":4}", "list=[1,2]"), json!({"total": 7, "got": "nil"}));
    assert_eq!(relay("deep={\"a\":-4}", "list=[1]"), json!({"total": -1, "got": "number"}));
    // Who is asked may not change anything, and in a before-event may say no.
    node.refused(&["action", "call", "thing", "meddle"], 5, "not_permitted");
    assert_eq!(node.done(&["element", "get", "other", "kept"])["value"], 0);
    let problem = node.refused(&["element", "set", "thing", "text", "bad"], 5, "refused");
    assert_eq!(problem["detail"], "the other says no");
    assert_eq!(node.done(&["element", "set", "thing", "text", "good"])["value"], "good");
}

#[test]
fn what_is_told_comes_after_the_commit_and_never_from_a_step_that_failed() {
    let node = Node::start("attic", &[]);
    make(&node, BOX);
    node.done(&["element", "create", "thing", "--name", "other"]);

    node.refused(&["action", "call", "thing", "regret"], 1, "script_failed");
    assert_eq!(node.done(&["action", "call", "thing", "send"])["result"], json!({"sent": true}));
    node.until(&["element", "get", "other", "seen"], |read| read["value"]["what"] == "sent");
    node.done(&["action", "call", "thing", "tell", "--arg", "what=told"]);
    let seen =
        node.until(&["element", "get", "other", "seen"], |read| read["value"]["what"] == "told");

    assert_eq!(seen["value"]["by"], "alice");
    assert_eq!(node.done(&["element", "get", "other", "kept"])["value"], 2);
}

#[test]
fn a_custom_event_carries_its_keys_and_no_others() {
    let node = Node::start("attic", &[]);
    make(&node, BOX);
    let poke = |args: &[&str]| node.say(&[&["action", "call", "thing", "poked"], args].concat());

    let said = poke(&["--arg", "how=gently"]);
    let missing = poke(&[]);
    let unknown = poke(&["--arg", "how=gently", "--arg", "ofen=3"]);

    assert_eq!(said.out["result"], json!({"answer": 42, "list": [1, 2]}), "{said:?}");
    assert_eq!((missing.exit, &missing.err["code"]), (2, &json!("usage")));
    assert_eq!((unknown.exit, &unknown.err["code"]), (2, &json!("unknown_field")));
    assert!(hint_of(&unknown.err).contains("'often'"));
    let sent = node.done(&["event", "send", "thing", "poke", "--data", "how=gently"]);
    assert_eq!(sent["result"]["answer"], 42);
    let problem = node.refused(&["event", "send", "thing", "pok"], 4, "not_found");
    assert!(hint_of(&problem).contains("'poke'"), "{problem}");
    // Only what listens to a custom event can be called.
    node.refused(&["action", "call", "thing", "clamp"], 2, "usage");
    node.refused(&["action", "call", "thing", "nosuch"], 4, "not_found");
}

// Names.

#[test]
fn a_taken_name_is_a_conflict_however_it_is_written() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    node.done(&["key", "add", "robot"]);
    let table: [&[&str]; 6] = [
        &["account", "add", "alice"],
        &["account", "add", "ALICE"],
        &["world", "add", "alice/Garden"],
        &["element", "create", "lamp", "--name", "lamp"],
        &["element", "create", "lamp", "--name", "LAMP"],
        &["key", "add", "Robot"],
    ];
    for words in table {
        node.refused(words, 8, "name_taken");
    }
    node.done(&["account", "add", "Caf\u{e9}"]);
    node.refused(&["account", "add", "cafe\u{301}"], 8, "name_taken");

    // What is gone leaves its name.
    node.done(&["element", "destroy", "lamp", "--as", "alice"]);
    node.done(&["element", "create", "lamp", "--name", "Lamp", "--as", "alice"]);
}

#[test]
fn a_name_keeps_to_its_rules() {
    let node = Node::start("attic", &[]);
    let (long, longer) = ("a".repeat(64), "a".repeat(65));
    let bad = ["", "a.b", "a b", "a/b/c", "a@b", "a:b", "a\u{1f600}", &longer];
    for name in bad.into_iter().chain(["01890000-0000-7000-8000-000000000000"]) {
        node.refused(&["account", "add", name], 2, "usage");
    }
    for name in ["a", "_", "3-4_B", "Z\u{fc}rich", "\u{540d}\u{524d}", "a1234567", &long] {
        assert_eq!(node.done(&["account", "add", name])["name"], name);
    }
    assert_eq!(node.done(&["account", "ls"])["items"].as_array().unwrap().len(), 7);
}

#[test]
fn names_are_found_without_regard_to_case() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    let table: [&[&str]; 7] = [
        &["element", "get", "ALICE/Garden/LAMP", "on"],
        &["element", "get", "Lamp", "on", "--world", "GARDEN"],
        &["element", "get", "Alice@ATTIC/garden/lamp", "on"],
        &["account", "show", "Alice"],
        &["world", "show", "alice/GARDEN"],
        &["type", "show", "ALICE:Lamp"],
        &["element", "get", "lamp", "on", "--as", "ALICE"],
    ];
    for words in table {
        node.done(words);
    }
}

#[test]
fn a_name_is_found_in_either_form_of_its_letters() {
    let node = Node::start("attic", &[]);
    let (composed, apart) = ("Zo\u{eb}", "Zoe\u{308}");
    node.done(&["account", "add", composed]);
    node.done(&["world", "add", composed]);
    publish(&node, &LAMP.replace("\"lamp\"", &format!("\"{composed}\"")));
    node.done(&["element", "create", composed, "--name", composed]);
    node.done(&["key", "add", composed]);
    let element = format!("{apart}/{apart}/{apart}");
    let qualified = format!("{apart}:{apart}");
    let table: [&[&str]; 6] = [
        &["account", "show", apart],
        &["element", "get", &element, "on"],
        &["element", "get", apart, "on", "--as", apart],
        &["type", "show", apart],
        &["type", "show", &qualified],
        &["key", "rm", apart],
    ];

    let missed: Vec<String> = table
        .into_iter()
        .map(|words| (words, node.say(words)))
        .filter(|(_, said)| said.exit != 0)
        .map(|(words, said)| format!("{words:?}: {}", said.err["detail"]))
        .collect();

    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn an_id_or_a_part_of_it_stands_for_a_name() {
    let node = Node::start("attic", &[]);
    let account = furnish(&node);
    let id = |words: &[&str]| node.done(words)["id"].as_str().unwrap().to_owned();
    let world = id(&["world", "show", "garden"]);
    let kind = id(&["type", "show", "lamp"]);
    let lamp = id(&["element", "show", "lamp"]);
    let (first, last) = (&lamp[..8], &lamp[28..]);
    let mixed = format!("{}/{}/{last}", &account[..8], &world[28..]);
    let capitals = lamp.to_uppercase();
    let table: [&[&str]; 11] = [
        &["element", "show", &lamp],
        &["element", "show", &capitals],
        &["element", "show", first],
        &["element", "show", last],
        &["element", "show", &lamp[..18]],
        &["element", "show", &mixed],
        &["element", "show", last, "--world", &world],
        &["element", "show", "lamp", "--world", &world[28..]],
        &["element", "show", "lamp", "--as", &account],
        &["element", "show", "alice/garden/lamp"],
        &["element", "show", "lamp"],
    ];
    for words in table {
        assert_eq!(id(words), lamp, "{words:?}");
    }
    assert_eq!(id(&["account", "show", &account[28..]]), account);
    assert_eq!(id(&["type", "show", &kind[28..]]), kind);
    // Without a name an element is known by its id, from whatever world one looks.
    node.done(&["world", "add", "alice/attic"]);
    let unnamed = node.done(&["element", "create", &kind[28..], "--world", "garden"]);
    assert_eq!(unnamed["name"], unnamed["id"]);
    assert_eq!(id(&["element", "show", &lamp, "--world", "attic"]), lamp);
}

#[test]
fn a_part_of_an_id_is_enough_for_who_acts_and_for_which_key_goes() {
    let node = Node::start("attic", &[]);
    let account = furnish(&node);
    let key = node.done(&["key", "add", "robot"])["id"].as_str().unwrap().to_owned();

    let acting = node.say(&["element", "show", "lamp", "--as", &account[28..]]);
    let removed = node.say(&["key", "rm", &key[28..]]);

    assert_eq!((acting.exit, removed.exit), (0, 0), "{acting:?} {removed:?}");
}

#[test]
fn a_part_of_an_id_that_fits_several_is_ambiguous_and_a_short_one_is_none() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    // Ids begin with their time: of three in a row two begin alike for eight digits.
    let ids: Vec<String> = (0..3)
        .map(|_| node.done(&["element", "create", "lamp"])["id"].as_str().unwrap().to_owned())
        .collect();
    let alike = ids.windows(2).find(|pair| pair[0][..8] == pair[1][..8]).unwrap();

    let problem = node.refused(&["element", "show", &alike[0][..8]], 2, "ambiguous");

    assert_eq!(problem["status"], 400);
    node.refused(&["element", "show", &alike[0][29..]], 4, "not_found");
    node.refused(&["element", "destroy", &alike[0][..8]], 2, "ambiguous");
    assert_eq!(node.done(&["world", "show", "garden"])["elements"], 4);
}

#[test]
fn without_a_world_the_only_one_is_meant_and_of_several_none() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    node.done(&["element", "get", "lamp", "on"]);

    node.done(&["world", "add", "alice/attic"]);

    for words in [
        &["element", "get", "lamp", "on"] as &[&str],
        &["element", "create", "lamp", "--name", "second"],
        &["element", "ls"],
    ] {
        let problem = node.refused(words, 2, "usage");
        assert!(hint_of(&problem).contains("--world"), "{problem}");
    }
    for world in ["garden", "alice/garden"] {
        node.done(&["element", "get", "lamp", "on", "--world", world]);
        node.done(&["--world", world, "element", "get", "lamp", "on"]);
        let mut set = node.program();
        set.env("FREEHOLD_WORLD", world).args(["element", "get", "lamp", "on", "--json"]);
        assert_eq!(said(set.output().unwrap()).exit, 0);
    }
    node.refused(&["element", "get", "lamp", "on", "--world", "attic"], 4, "not_found");
    node.refused(&["element", "get", "lamp", "on", "--world", "nosuch"], 4, "not_found");
    node.refused(&["element", "get", "a//b", "on"], 2, "usage");
}

// Values.

#[test]
fn every_kind_takes_its_own_values_and_no_others() {
    let node = Node::start("attic", &[]);
    make(&node, KINDS);
    let (deep, deeper) = (nested(16), nested(17));
    let good = [
        ("bool", "true", json!(true)),
        ("integer", "-5", json!(-5)),
        ("integer", "2.0", json!(2)),
        ("integer", "9007199254740991", json!(9_007_199_254_740_991_i64)),
        ("number", "-0.5", json!(-0.5)),
        ("string", "word", json!("word")),
        ("string", "\"5\"", json!("5")),
        ("string", "two words", json!("two words")),
        ("json", "{\"a\":[1,{\"b\":null}]}", json!({"a": [1, {"b": null}]})),
        ("json", "word", json!("word")),
        ("json", &deep, serde_json::from_str(&deep).unwrap()),
        ("bytes", "AAE=", json!("AAE=")),
        (
            "reference",
            "01890000-0000-7000-8000-000000000000",
            json!("01890000-0000-7000-8000-000000000000"),
        ),
        ("position", "{\"x\":1,\"y\":-2.5}", json!({"x": 1, "y": -2.5})),
        ("position", "{\"x\":1,\"y\":2,\"z\":3}", json!({"x": 1, "y": 2, "z": 3})),
    ];
    for (attribute, value, want) in good {
        let set = node.done(&["element", "set", "thing", attribute, value]);
        assert_eq!(set["value"], want, "{attribute} {value}");
        let read = node.done(&["element", "get", "thing", attribute]);
        assert_eq!(read["value"], want, "{attribute} {value}");
    }
    let before = node.done(&["element", "show", "thing"])["values"].clone();
    let bad = [
        ("bool", "1"),
        ("bool", "True"),
        ("bool", "\"true\""),
        ("integer", "1.5"),
        ("integer", "9007199254740992"),
        ("integer", "five"),
        ("number", "NaN"),
        ("number", "1e400"),
        ("number", "\"1\""),
        ("string", "5"),
        ("string", "true"),
        ("string", "{}"),
        ("json", &deeper),
        ("bytes", "AAE"),
        ("bytes", "A-E="),
        ("reference", "01890000"),
        ("position", "{\"x\":1}"),
        ("position", "{\"x\":1,\"y\":2,\"w\":3}"),
        ("position", "[1,2]"),
    ];
    for (attribute, value) in bad {
        node.refused(&["element", "set", "thing", attribute, value], 2, "wrong_kind");
    }
    assert_eq!(node.done(&["element", "show", "thing"])["values"], before);
}

#[test]
fn a_value_keeps_to_its_limits() {
    let node = Node::start("attic", &[]);
    make(&node, KINDS);
    let (full, over) = ("x".repeat(4_096), "x".repeat(4_097));
    for (attribute, value) in [
        ("small", "-10"),
        ("small", "10"),
        ("short", "eightbyt"),
        ("short", "\u{e9}\u{e9}\u{e9}\u{e9}"),
        ("string", &full),
    ] {
        node.done(&["element", "set", "thing", attribute, value]);
    }
    for (attribute, value) in [
        ("small", "-11"),
        ("small", "10.5"),
        ("short", "ninebytes"),
        ("short", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"),
        ("string", &over),
    ] {
        node.refused(&["element", "set", "thing", attribute, value], 2, "wrong_kind");
    }
    let made = ["element", "create", "thing", "--name", "second", "--value"];
    node.refused(&[&made[..], &["small=99"]].concat(), 2, "wrong_kind");
    node.refused(&["element", "show", "second"], 4, "not_found");
}

#[test]
fn null_clears_a_value_and_negative_numbers_need_no_dashes() {
    let node = Node::start("attic", &[]);
    make(&node, KINDS);

    node.done(&["element", "set", "thing", "string", "word"]);
    node.done(&["element", "set", "thing", "string", "null"]);
    node.done(&["element", "set", "thing", "integer", "-3"]);
    let made = ["element", "create", "thing", "--name", "second", "--value", "integer=-7"];
    node.done(&made);
    let args = ["--arg", "n=-2.5", "--arg", "w=a word", "--arg", "o={\"a\":[true,null]}"];
    let echoed = node.done(&[&["action", "call", "thing", "echo"], &args[..]].concat());

    let get = |element: &str, attribute: &str| {
        node.done(&["element", "get", element, attribute])["value"].clone()
    };
    assert_eq!(get("thing", "string"), json!(null));
    assert_eq!((get("thing", "integer"), get("second", "integer")), (json!(-3), json!(-7)));
    let result = &echoed["result"];
    assert_eq!((&result["n"], &result["w"]), (&json!(-2.5), &json!("a word")));
    assert_eq!(result["o"]["a"][0], true);
}

// The home folder.

#[test]
fn a_second_start_on_one_home_names_the_process_that_holds_it() {
    let node = Node::start("attic", &[]);

    let refused = start_refused(&node, &LOOPBACK);

    assert_eq!((refused.exit, &refused.err["code"]), (8, &json!("already_running")));
    let detail = refused.err["detail"].as_str().unwrap();
    assert!(detail.contains(&node.pid().to_string()), "{detail}");
    assert_eq!(node.ready["pid"], node.pid());
    // The one that runs is not disturbed.
    assert_eq!(node.done(&["status"])["health"], "good");
    let key = admin_key(&node);
    assert_eq!(call(&node, &key, "node.id", json!({})).status, 200);
}

#[test]
fn without_a_node_a_command_says_how_to_start_one() {
    let node = Node::home("attic");

    let problem = node.refused(&["status"], 3, "no_node");

    assert!(hint_of(&problem).contains("freehold run"), "{problem}");
}

#[test]
fn everything_in_a_home_is_its_owners_alone() {
    let node = Node::start("attic", &[]);
    furnish(&node);

    let files = files_in(&node.home);

    for name in [
        "identity.key",
        "recovery.words",
        "home.redb",
        "cache.redb",
        "home.mark",
        "control.sock",
        "api.json",
    ] {
        assert!(files.contains(&node.home.join(name)), "{name}: {files:?}");
    }
    for file in files {
        assert_eq!(mode_of(&file), 0o600, "{}", file.display());
    }
    assert_eq!(mode_of(&node.home), 0o700);
    assert_eq!(fs::read(node.home.join("identity.key")).unwrap().len(), 32);
    let api: Json = serde_json::from_slice(&fs::read(node.home.join("api.json")).unwrap()).unwrap();
    assert_eq!((&api["api"], &api["pid"]), (&node.ready["api"], &json!(node.pid())));
}

#[test]
fn a_home_that_is_open_to_others_is_tightened_and_said() {
    let mut node = Node::start("attic", &[]);
    assert_eq!(node.stop(), 0);
    settings(&node, "mdns = false\n");
    let key = node.home.join("identity.key");
    for file in files_in(&node.home).into_iter().filter(|file| *file != key) {
        fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
    }
    fs::set_permissions(&node.home, Permissions::from_mode(0o755)).unwrap();

    node.restart();

    assert_eq!(mode_of(&node.home), 0o700);
    for file in files_in(&node.home) {
        assert_eq!(mode_of(&file), 0o600, "{}", file.display());
    }
    for name in ["home.redb", "recovery.words", "freehold.toml"] {
        let path = node.home.join(name).display().to_string();
        assert!(node.log().lines().any(|line| line.contains(&path)), "{name}: {}", node.log());
    }
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let mut node = Node::start("attic", &[]);
    assert_eq!(node.stop(), 0);
    let key = node.home.join("identity.key");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();

    let refused = start_refused(&node, &LOOPBACK);

    assert_ne!(refused.exit, 0);
    assert!(refused.err["detail"].as_str().unwrap().contains("identity.key"), "{refused:?}");
    assert_eq!(mode_of(&key), 0o640);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    node.restart();
}

#[test]
fn a_damaged_store_is_named_copied_aside_and_never_overwritten() {
    let mut node = Node::start("attic", &[]);
    furnish(&node);
    node.done(&["action", "call", "lamp", "step"]);
    assert_eq!(node.stop(), 0);
    let store = node.home.join("home.redb");
    let good = fs::read(&store).unwrap();
    let damages = [
        ("header", spoiled(&good, 0, 4_096)),
        ("beginning", spoiled(&good, 0, 64)),
        ("everything but the header", spoiled(&good, 4_096, good.len())),
        ("cut", good[..5_000].to_vec()),
        ("empty", Vec::new()),
    ];
    for (number, (damage, broken)) in (1..).zip(&damages) {
        fs::write(&store, broken).unwrap();

        let refused = start_refused(&node, &LOOPBACK);

        assert_eq!((refused.exit, &refused.err["code"]), (1, &json!("damaged")), "{damage}");
        let aside = node.home.join(format!("home.redb.damaged-{number}"));
        let detail = refused.err["detail"].as_str().unwrap();
        assert!(detail.contains("home.redb"), "{damage}: {detail}");
        assert!(detail.contains(aside.to_str().unwrap()), "{damage}: {detail}");
        assert_eq!(fs::read(&store).unwrap(), *broken, "{damage}: it was overwritten");
        for (number, (_, earlier)) in (1..=number).zip(&damages) {
            let kept = node.home.join(format!("home.redb.damaged-{number}"));
            assert_eq!(fs::read(&kept).unwrap(), *earlier, "{damage}: {}", kept.display());
            assert_eq!(mode_of(&kept), 0o600);
        }
    }
    // A backup in its place is all that it takes.
    fs::write(&store, &good).unwrap();
    node.restart();
    assert_eq!(node.done(&["element", "get", "lamp", "count"])["value"], 1);
}

#[test]
fn a_damaged_value_is_never_read_as_a_good_one() {
    let mut node = Node::start("attic", &[]);
    furnish(&node);
    node.done(&["element", "create", "lamp", "--name", "other"]);
    node.done(&["element", "set", "lamp", "secret", "needle-in-the-hay"]);
    node.done(&["action", "call", "other", "step"]);
    assert_eq!(node.stop(), 0);
    flip(&node.home.join("home.redb"), "needle-in-the-hay");

    node.restart();

    let problem = node.refused(&["element", "get", "lamp", "secret"], 1, "damaged");
    assert_eq!(problem["status"], 500);
    node.refused(&["element", "show", "lamp"], 1, "damaged");
    node.refused(&["element", "set", "lamp", "secret", "new"], 1, "damaged");
    // What is whole goes on.
    assert_eq!(node.done(&["element", "get", "other", "count"])["value"], 1);
    assert_eq!(node.done(&["action", "call", "other", "step"])["result"], json!({"count": 2}));
}

#[test]
fn damage_that_keeps_a_node_from_starting_is_named_with_its_file_and_copied_aside() {
    let mut node = Node::start("attic", &[]);
    furnish(&node);
    node.done(&["element", "set", "lamp", "secret", "needle-in-the-hay"]);
    assert_eq!(node.stop(), 0);
    let store = node.home.join("home.redb");
    // The last turn holds it too, and a node reads that first.
    flip(&store, "needle-in-the-hay");
    let broken = fs::read(&store).unwrap();

    let refused = start_refused(&node, &LOOPBACK);

    assert_eq!((refused.exit, &refused.err["code"]), (1, &json!("damaged")), "{refused:?}");
    assert!(refused.err["detail"].as_str().unwrap().contains("home.redb"), "{refused:?}");
    // The copy holds the same; the file's own note that somebody has it open is not part of it.
    let copy = fs::read(node.home.join("home.redb.damaged-1")).unwrap();
    assert!(copy.len() == broken.len() && copy[16..] == broken[16..]);
}

#[test]
fn a_damaged_or_missing_cache_does_not_keep_a_node_from_starting() {
    let mut node = Node::start("attic", &[]);
    furnish(&node);
    assert_eq!(node.stop(), 0);
    let cache = node.home.join("cache.redb");
    let good = fs::read(&cache).unwrap();
    let damages = [
        ("header", spoiled(&good, 0, 4_096)),
        ("everything", spoiled(&good, 0, good.len())),
        ("everything but the header", spoiled(&good, 4_096, good.len())),
        ("empty", Vec::new()),
    ];
    for (damage, broken) in damages {
        fs::write(&cache, broken).unwrap();

        node.restart();

        assert_eq!(node.done(&["status"])["health"], "good", "{damage}");
        assert_eq!(node.done(&["element", "get", "lamp", "on"])["value"], false, "{damage}");
        assert_eq!(node.stop(), 0, "{damage}");
        assert_eq!(mode_of(&cache), 0o600, "{damage}");
    }
    fs::remove_file(&cache).unwrap();
    node.restart();
    node.done(&["element", "get", "lamp", "on"]);
    // It may go while the node runs, too.
    fs::remove_file(&cache).unwrap();
    node.done(&["element", "get", "lamp", "on"]);
    assert_eq!(node.stop(), 0);
    node.restart();
    assert_eq!(node.done(&["status"])["health"], "good");
}

// Ports.

#[test]
fn an_address_that_was_asked_for_and_is_taken_is_refused() {
    let node = Node::home("attic");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = tcp.local_addr().unwrap();
    let stream = format!("/ip4/127.0.0.1/tcp/{}", taken.port());
    let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port());
    let api = taken.to_string();
    let any = "/ip4/127.0.0.1/tcp/0";
    let table: [&[&str]; 4] = [
        &["--listen", &stream, "--api", "127.0.0.1:0"],
        &["--listen", &quic, "--api", "127.0.0.1:0"],
        &["--listen", any, "--listen", &stream, "--api", "127.0.0.1:0"],
        &["--listen", any, "--api", &api],
    ];
    for arguments in table {
        let refused = start_refused(&node, arguments);

        let want = (8, Some("address_in_use"));
        assert_eq!((refused.exit, refused.err["code"].as_str()), want, "{arguments:?}");
        assert!(!node.home.join("api.json").exists());
    }
    settings(&node, &format!("api = \"{api}\"\n"));
    let refused = start_refused(&node, &["--listen", any]);
    assert_eq!((refused.exit, &refused.err["code"]), (8, &json!("address_in_use")));

    drop(tcp);
    let started = Running::start(&node, &["--listen", any]);
    assert_eq!(started.ready["api"], format!("http://{api}"));
}

#[test]
fn a_default_port_that_is_taken_is_replaced() {
    let Ok(taken) = TcpListener::bind("127.0.0.1:4751") else {
        println!("SKIPPED: somebody else has port 4751, so it is not this test's to take");
        return;
    };
    let node = Node::home("attic");

    let started = Running::start(&node, &["--listen", "/ip4/127.0.0.1/tcp/0"]);

    let api = started.ready["api"].as_str().unwrap();
    assert!(api.starts_with("http://127.0.0.1:") && !api.ends_with(":4751"), "{api}");
    assert_eq!(node.done(&["status"])["health"], "good");
    drop(taken);
}

#[test]
fn an_api_that_is_no_loopback_address_is_refused() {
    let node = Node::home("attic");
    for api in ["0.0.0.0:0", "[::]:0", "192.0.2.1:4751", "nonsense"] {
        let refused = start_refused(&node, &["--listen", "/ip4/127.0.0.1/tcp/0", "--api", api]);

        assert_eq!((refused.exit, &refused.err["code"]), (2, &json!("usage")), "{api}");
    }
    let refused = start_refused(&node, &["--listen", "nonsense", "--api", "127.0.0.1:0"]);
    assert_eq!((refused.exit, &refused.err["code"]), (2, &json!("usage")));
}

// The API's door.

#[test]
fn a_request_is_checked_before_any_route() {
    let node = Node::start("attic", &[]);
    let key = admin_key(&node);
    let api = node.api();
    let schema = || request("GET", "/api/v1/openapi.json");
    let calls = || request("POST", "/api/v1/calls");
    let port = api.split(':').next_back().unwrap();
    let own = format!("http://{api}");
    let body = json!({"command": "node.id"});
    let table = [
        (schema().key(&key).header("Host", "evil.example"), 403, "bad_host"),
        (schema().key(&key).header("Host", &format!("evil.example:{port}")), 403, "bad_host"),
        (schema().key(&key).header("Host", "127.0.0.1"), 403, "bad_host"),
        (schema().key(&key).header("Host", "127.0.0.1:1"), 403, "bad_host"),
        (request("GET", "/health").header("Host", "evil.example"), 403, "bad_host"),
        (calls().key(&key).json(&body).header("Host", "evil.example"), 403, "bad_host"),
        (schema().key(&key).header("Origin", "http://evil.example"), 403, "bad_origin"),
        (schema().key(&key).header("Origin", "null"), 403, "bad_origin"),
        (schema().key(&key).header("Origin", &format!("https://{api}")), 403, "bad_origin"),
        (request("GET", "/health").header("Origin", "http://evil.example"), 403, "bad_origin"),
        (schema(), 401, "no_key"),
        (request("GET", "/nosuch"), 401, "no_key"),
        (request("GET", "/metrics"), 401, "no_key"),
        (request("GET", "/api/v1/events"), 401, "no_key"),
        (calls().json(&body), 401, "no_key"),
        (schema().key(""), 401, "no_key"),
        (schema().key("fh_nosuch"), 401, "no_key"),
        (schema().key(&key[..key.len() - 1]), 401, "no_key"),
        (schema().header("Authorization", &format!("Basic {key}")), 401, "no_key"),
        (schema().header("Cookie", &format!("key={key}")), 401, "no_key"),
        (calls().key(&key).media("text/plain").text(&body.to_string()), 415, "wrong_media"),
        (calls().key(&key).media("").text(&body.to_string()), 415, "wrong_media"),
        (request("GET", "/nosuch").key(&key), 404, "not_found"),
    ];
    for (request, status, code) in table {
        let line = request.line.clone();
        let problem = request.send(&node).problem(status, code);
        assert!(problem["detail"].is_string() && problem["exit"].is_u64(), "{line}: {problem}");
    }
    assert_eq!(schema().key(&key).header("Origin", &own).send(&node).status, 200);
    let with_charset = calls().key(&key).media("application/json; charset=utf-8");
    assert_eq!(with_charset.text(&body.to_string()).send(&node).status, 200);
    for path in ["/api/v1/calls", "/health", "/nosuch"] {
        let asked = request("OPTIONS", path).key(&key).header("Origin", &own).send(&node);
        assert_eq!(asked.status, 405, "{path}");
        assert!(!asked.head.to_lowercase().contains("access-control"), "{}", asked.head);
    }
}

#[test]
fn a_body_has_a_limit_of_size_and_of_depth() {
    let node = Node::start("attic", &[]);
    let key = admin_key(&node);
    let calls = || request("POST", "/api/v1/calls").key(&key);
    let body = json!({"command": "node.id"}).to_string();
    let padded = |bytes: usize| format!("{}{body}", " ".repeat(bytes - body.len()));

    assert_eq!(calls().text(&padded(BODY_MAX)).send(&node).status, 200);
    let problem = calls().text(&padded(BODY_MAX + 1)).over_socket(&node).problem(413, "too_large");
    assert_eq!(problem["exit"], 2);
    calls().text(&nested(200)).send(&node).problem(400, "too_deep");
    let deep: Json = serde_json::from_str(&nested(40)).unwrap();
    let args = json!({"element": "lamp", "attribute": "on", "value": deep});
    let answer = call(&node, &key, "element.set", args);
    assert_eq!(answer.problem(400, "too_deep")["exit"], 2);
    assert_eq!(node.done(&["status"])["health"], "good");
}

#[test]
fn health_needs_no_key_and_metrics_are_open_metrics() {
    let node = Node::start("attic", &[]);
    let key = admin_key(&node);

    let health = request("GET", "/health").send(&node);
    let metrics = request("GET", "/metrics").key(&key).send(&node);

    assert_eq!((health.status, &health.body["health"]), (200, &json!("good")));
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.to_lowercase().contains("application/openmetrics-text"));
    assert!(metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
}

#[test]
fn a_key_acts_as_its_account_alone() {
    let node = Node::start("attic", &[]);
    two_gardens(&node);
    let key = node.done(&["key", "add", "robot", "--account", "alice"])["key"].clone();
    let key = key.as_str().unwrap();
    let secret = |owner: &str| json!({"element": format!("{owner}/garden/lamp"), "attribute": "secret", "value": "mine"});
    let read = json!({"element": "bob/garden/lamp", "attribute": "secret"});

    assert_eq!(call(&node, key, "element.set", secret("alice")).status, 200);
    assert_eq!(call(&node, key, "world.add", json!({"name": "den"})).status, 200);
    call(&node, key, "element.set", secret("bob")).problem(403, "not_permitted");
    call(&node, key, "element.get", read).problem(403, "not_permitted");
    call(&node, key, "world.add", json!({"name": "bob/den"})).problem(403, "not_permitted");
    let lamp = json!({"element": "bob/garden/lamp"});
    call(&node, key, "element.destroy", lamp).problem(403, "not_permitted");
    let body = json!({"command": "node.id", "caller": "bob"});
    let as_bob = request("POST", "/api/v1/calls").key(key).json(&body);
    as_bob.send(&node).problem(403, "not_permitted");

    let address = format!("/ip4/127.0.0.1/tcp/1/p2p/{NOBODY}");
    for (command, args) in [
        ("account.add", json!({"name": "eve"})),
        ("account.rm", json!({"account": "bob"})),
        ("key.add", json!({"name": "wide", "admin": true})),
        ("key.rm", json!({"key": "robot"})),
        ("protection.add", json!({"list": "family", "server": "cellar"})),
        ("protection.rm", json!({"list": "family", "server": "cellar"})),
        ("server.deny", json!({"server": "cellar"})),
        ("peer.join", json!({"address": address})),
        ("bootstrap.add", json!({"address": address})),
        ("bootstrap.rm", json!({"peer_id": NOBODY})),
        ("node.stop", json!({})),
    ] {
        let problem = call(&node, key, command, args).problem(403, "not_permitted");
        assert_eq!(problem["exit"], 5, "{command}");
    }
    let accounts = node.done(&["account", "ls"])["items"].clone();
    let names: BTreeSet<&str> = accounts
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|account| account["name"].as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(["alice", "bob"]));
    assert_eq!(node.done(&["status"])["health"], "good");
}

#[test]
fn a_key_sees_the_jobs_and_events_of_its_accounts_alone() {
    let node = Node::start("attic", &[]);
    two_gardens(&node);
    let key = node.done(&["key", "add", "robot", "--account", "alice"])["key"].clone();
    let key = key.as_str().unwrap();
    let step = |owner: &str| {
        let lamp = format!("{owner}/garden/lamp");
        node.done(&["action", "call", &lamp, "step", "--as", owner])["job"].clone()
    };
    let garden = node.done(&["world", "show", "alice/garden"])["id"].clone();
    let mut stream = Stream::open(&node, key, "", None);

    let (bobs, hers) = (step("bob"), step("alice"));

    assert_eq!(stream.next().data["world"], garden);
    for part in ["", "/data", "/trace"] {
        let path = |job: &Json| format!("/api/v1/jobs/{}{part}", job.as_str().unwrap());
        request("GET", &path(&bobs)).key(key).send(&node).problem(404, "not_found");
        assert_eq!(request("GET", &path(&hers)).key(key).send(&node).status, 200);
    }
    let listed = call(&node, key, "job.ls", json!({})).body["result"]["items"].clone();
    let listed: Vec<&Json> = listed.as_array().unwrap().iter().map(|job| &job["id"]).collect();
    assert!(listed.contains(&&hers) && !listed.contains(&&bobs), "{listed:?}");
}

#[test]
fn an_admin_key_is_the_operator() {
    let node = Node::start("attic", &[]);
    two_gardens(&node);
    let key = admin_key(&node);
    let set = json!({"element": "bob/garden/lamp", "attribute": "secret", "value": "hers"});
    let body = json!({"command": "element.set", "caller": "bob", "args": set});

    assert_eq!(call(&node, &key, "account.add", json!({"name": "eve"})).status, 200);
    let as_bob = request("POST", "/api/v1/calls").key(&key).json(&body).header("Prefer", "wait=5");
    assert_eq!(as_bob.send(&node).status, 200);
    assert_eq!(call(&node, &key, "node.stop", json!({})).status, 200);

    let gone = || !node.home.join("api.json").exists() && TcpStream::connect(node.api()).is_err();
    assert!(comes(gone), "the node did not stop");
}

#[test]
fn a_key_that_expired_or_was_removed_opens_nothing() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);
    let add = |name: &str, more: &[&str]| {
        let words = [&["key", "add", name, "--account", "alice"], more].concat();
        node.done(&words)["key"].as_str().unwrap().to_owned()
    };
    let (lasting, month) = (add("lasting", &[]), add("month", &["--expires", "30d"]));
    let moment = add("moment", &["--expires", "1ms"]);
    let status = |key: &str| call(&node, key, "node.id", json!({})).status;

    assert!(comes(|| status(&moment) == 401), "it did not expire");
    assert_eq!((status(&lasting), status(&month)), (200, 200));
    node.done(&["key", "rm", "lasting"]);
    assert_eq!((status(&lasting), status(&month)), (401, 200));
    let id = node.done(&["key", "ls"])["items"][0]["id"].as_str().unwrap().to_owned();
    node.done(&["key", "rm", &id]);
    assert_eq!(status(&month), 401);
    node.refused(&["key", "rm", "lasting"], 4, "not_found");
    node.refused(&["key", "add", "k", "--expires", "soon"], 2, "wrong_kind");
    node.refused(&["key", "add", "k", "--account", "nosuch"], 4, "not_found");
}

#[test]
fn keys_do_not_appear_in_the_log_or_in_errors() {
    let node = Node::start("attic", &[]);
    let key = admin_key(&node);
    let wrong = "fh_ThisKeyIsNobodysAndShallNotBeRepeated";

    call(&node, &key, "node.id", json!({}));
    let refused = call(&node, wrong, "node.id", json!({}));
    let failed = call(&node, &key, "account.show", json!({"account": "nosuch"}));

    assert_eq!((refused.status, failed.status), (401, 404));
    for said in [&node.log(), &refused.text, &failed.text] {
        assert!(!said.contains(&key) && !said.contains(wrong), "{said}");
    }
    let listed = node.done(&["key", "ls"]).to_string();
    assert!(listed.contains("operator") && !listed.contains(&key), "{listed}");
}

#[test]
fn a_key_is_shown_once_and_stored_nowhere() {
    let mut node = Node::start("attic", &[]);
    let key = admin_key(&node);
    let jobs = node.done(&["job", "ls"])["items"].clone();
    let job = jobs.as_array().unwrap().iter().find(|job| job["command"] == "key.add").unwrap();

    let again = node.say(&["job", "data", job["id"].as_str().unwrap()]);
    assert_eq!(node.stop(), 0);

    let holders: Vec<PathBuf> = files_in(&node.home)
        .into_iter()
        .filter(|file| holds(&fs::read(file).unwrap(), key.as_bytes()))
        .collect();
    assert!(!again.out.to_string().contains(&key), "job data shows it again");
    assert!(holders.is_empty(), "{holders:?}");
}

// Calls and jobs.

#[test]
fn the_same_idempotency_key_does_it_once() {
    let mut node = Node::start("attic", &[]);
    two_gardens(&node);
    let key = admin_key(&node);
    let step = |node: &Node, caller: &str, name: &str| {
        let args = json!({"element": "alice/garden/lamp", "action": "step"});
        let body = json!({"command": "action.call", "caller": caller, "args": args});
        let asked = request("POST", "/api/v1/calls").key(&key).json(&body);
        asked.header("Idempotency-Key", name).header("Prefer", "wait=5").send(node)
    };

    let first = step(&node, "alice", "one");
    let again = step(&node, "alice", "one");
    assert_eq!((first.status, again.status), (200, 200), "{} {}", first.body, again.body);
    assert_eq!(first.body["result"]["result"], json!({"count": 1}));
    assert_eq!(again.body, first.body);

    // Eight at the same time are one too.
    let jobs: BTreeSet<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| step(&node, "alice", "two").body["job"].to_string()))
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(jobs.len(), 1, "{jobs:?}");

    // It is kept over a power cut, and is each caller's own.
    node.kill();
    node.restart();
    assert_eq!(step(&node, "alice", "one").body["job"], first.body["job"]);
    assert_eq!(step(&node, "alice", "three").body["result"]["result"], json!({"count": 3}));
    assert_eq!(step(&node, "bob", "one").body["result"]["result"], json!({"count": 4}));
}

#[test]
fn who_waits_is_answered_in_place_and_who_does_not_gets_the_job() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    let key = admin_key(&node);
    let body = json!({
        "command": "action.call",
        "args": {"element": "lamp", "action": "step"},
        "meta": {"mine": 7},
    });

    let waited = request("POST", "/api/v1/calls").key(&key).json(&body);
    let waited = waited.header("Prefer", "wait=5").send(&node);
    let taken = request("POST", "/api/v1/calls").key(&key).json(&body).send(&node);

    assert_eq!((waited.status, &waited.body["outcome"]), (200, &json!("done")));
    assert_eq!(waited.body["result"]["result"], json!({"count": 1}));
    assert_eq!(waited.body["meta"], json!({"mine": 7}));
    // What was done at once may be answered at once.
    match taken.status {
        202 => assert_eq!(taken.body["status"], "started"),
        status => assert_eq!((status, &taken.body["status"]), (200, &json!("finished"))),
    }
    let job = taken.body["job"].as_str().unwrap();
    node.until(&["job", "show", job], |job| job["status"] == "finished");
    let get =
        |part: &str| request("GET", &format!("/api/v1/jobs/{job}{part}")).key(&key).send(&node);
    let (shown, data, trace) = (get(""), get("/data"), get("/trace"));
    assert_eq!((shown.status, &shown.body["outcome"]), (200, &json!("done")));
    assert_eq!((&shown.body["id"], &shown.body["meta"]), (&json!(job), &json!({"mine": 7})));
    assert_eq!((data.status, &data.body["result"]["result"]), (200, &json!({"count": 2})));
    assert_eq!(trace.status, 200);
    let nothing = "/api/v1/jobs/01890000-0000-7000-8000-000000000000";
    for part in ["", "/data", "/trace"] {
        let asked = request("GET", &format!("{nothing}{part}")).key(&key);
        asked.send(&node).problem(404, "not_found");
    }
}

#[test]
fn a_call_that_must_wait_is_answered_with_its_job_which_can_be_cancelled() {
    let mut node = Node::home("attic");
    node.file(
        "bootstrap.toml",
        &format!(
            "[[peer]]\nname = \"cellar\"\npeer_id = \"{NOBODY}\"\n\
             addresses = [\"/ip4/127.0.0.1/tcp/1\"]\n"
        ),
    );
    node.restart();
    node.done(&["account", "add", "alice"]);
    let key = admin_key(&node);
    let args = json!({"element": "bob@cellar/house/box", "action": "open"});
    let body = json!({"command": "action.call", "args": args, "timeout_ms": 60_000});

    let taken = request("POST", "/api/v1/calls").key(&key).json(&body).send(&node);
    let job = taken.body["job"].as_str().unwrap_or_default().to_owned();
    let shown = node.done(&["job", "show", &job]);

    assert_eq!((taken.status, &taken.body["status"]), (202, &json!("started")));
    assert_eq!((&shown["status"], &shown["outcome"]), (&json!("started"), &json!(null)));
    assert_eq!(shown["waits_for"][0]["server"], "cellar");
    assert_eq!(node.done(&["status"])["jobs"], 1);
    node.refused(&["job", "data", &job], 8, "conflict");
    node.refused(&["job", "wait", &job, "--timeout", "200ms"], 6, "timed_out");
    node.done(&["job", "cancel", &job]);
    let ended = node.done(&["job", "wait", &job]);
    assert_eq!((&ended["status"], &ended["outcome"]), (&json!("finished"), &json!("failed")));
    node.refused(&["job", "cancel", &job], 8, "conflict");

    // A deadline ends it too, and who asked on the terminal is told.
    let words = ["action", "call", "bob@cellar/house/box", "open", "--timeout", "500ms"];
    let problem = node.say(&words);
    assert!(problem.exit == 6 || problem.exit == 3, "{problem:?}");
    node.until(&["status"], |status| status["jobs"] == 0);
}

#[test]
fn a_job_shows_how_it_ended_and_why() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    let done = node.done(&["action", "call", "lamp", "toggle"]);
    node.done(&["element", "set", "lamp", "secret", "asleep"]);
    node.refused(&["element", "set", "lamp", "on", "true"], 5, "refused");
    node.refused(&["action", "call", "lamp", "nosuch"], 4, "not_found");

    let refused = node.done(&["job", "ls", "--outcome", "refused"])["items"].clone();

    let [job] = refused.as_array().unwrap().as_slice() else { panic!("{refused}") };
    let members = [
        "id",
        "command",
        "caller",
        "status",
        "outcome",
        "reason",
        "problem",
        "deadline_at",
        "waits_for",
    ];
    for member in members {
        assert!(job.get(member).is_some(), "{member}: {job}");
    }
    assert_eq!((&job["command"], &job["status"]), (&json!("element.set"), &json!("finished")));
    assert_eq!(
        (&job["reason"], &job["outcome"]),
        (&json!("the lamp is asleep"), &json!("refused"))
    );
    assert_eq!((&job["problem"]["code"], &job["problem"]["exit"]), (&json!("refused"), &json!(5)));
    let problem = node.refused(&["job", "data", job["id"].as_str().unwrap()], 5, "refused");
    assert_eq!(problem["detail"], "the lamp is asleep");
    let failed = node.done(&["job", "ls", "--outcome", "failed"])["items"].clone();
    assert!(failed.as_array().unwrap().iter().any(|job| job["problem"]["code"] == "not_found"));
    let shown = node.done(&["job", "show", done["job"].as_str().unwrap()]);
    assert_eq!((&shown["outcome"], &shown["reason"]), (&json!("done"), &json!(null)));
    assert!(shown["deadline_at"].as_str().unwrap().ends_with('Z'));
    let data = node.done(&["job", "data", done["job"].as_str().unwrap()]);
    assert_eq!(data["result"]["result"], done["result"]);
    assert_eq!(node.done(&["job", "ls", "--outcome", "unknown"])["items"], json!([]));
    node.refused(&["job", "show", "nosuch"], 4, "not_found");
}

#[test]
fn the_trace_of_a_job_holds_what_its_scripts_logged() {
    let node = Node::start("attic", &[]);
    let noisy = script("noisy", "for i = 1, 1000 do log('line', i, true, {}) end");
    make(&node, &format!("{COUNTED}{noisy}"));
    let key = admin_key(&node);

    let job = node.done(&["action", "call", "thing", "noisy"])["job"].clone();
    let path = format!("/api/v1/jobs/{}/trace", job.as_str().unwrap());
    let trace = request("GET", &path).key(&key).send(&node);

    assert!(trace.text.contains("line 1 true table"), "{}", trace.text);
    // 4 KiB a run, and no more; quotes and commas come on top.
    assert!((2_048..8_192).contains(&trace.text.len()), "{} bytes", trace.text.len());
}

#[test]
fn the_trace_of_a_job_names_the_actions_that_were_asked() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    let key = admin_key(&node);

    let job = node.done(&["action", "call", "lamp", "toggle"])["job"].clone();
    let path = format!("/api/v1/jobs/{}/trace", job.as_str().unwrap());
    let trace = request("GET", &path).key(&key).send(&node).body["trace"].to_string();

    // Its own event asks `toggle`, whose change asks `curfew`.
    assert!(trace.contains("toggle") && trace.contains("curfew"), "{trace}");
}

#[test]
fn what_was_answered_is_there_after_a_kill_and_so_is_its_job() {
    let mut node = Node::start("attic", &[]);
    furnish(&node);
    let jobs: Vec<String> = (0..20)
        .map(|_| node.done(&["action", "call", "lamp", "step"])["job"].as_str().unwrap().to_owned())
        .collect();
    node.done(&["element", "set", "lamp", "secret", "asleep"]);
    node.refused(&["element", "set", "lamp", "on", "true"], 5, "refused");

    node.kill();
    node.restart();

    assert_eq!(node.done(&["element", "get", "lamp", "count"])["value"], 20);
    assert_eq!(node.done(&["element", "get", "lamp", "secret"])["value"], "asleep");
    for (count, job) in (1..).zip(&jobs) {
        assert_eq!(node.done(&["job", "show", job])["outcome"], "done");
        assert_eq!(node.done(&["job", "data", job])["result"]["result"], json!({"count": count}));
    }
    let refused = node.done(&["job", "ls", "--outcome", "refused"])["items"].clone();
    assert_eq!(refused.as_array().unwrap().len(), 1);
    assert_eq!(node.done(&["action", "call", "lamp", "step"])["result"], json!({"count": 21}));
}

#[test]
fn lists_are_paged_by_cursor() {
    let node = Node::start("attic", &[]);
    node.done(&["account", "add", "alice"]);
    for name in ["a", "b", "c", "d", "e"] {
        node.done(&["world", "add", name]);
    }
    for list in ["world", "job"] {
        let whole = node.done(&[list, "ls"])["items"].as_array().unwrap().clone();
        let mut paged = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..20 {
            let from: Vec<&str> = cursor.iter().flat_map(|cursor| ["--cursor", cursor]).collect();
            let page = node.done(&[&[list, "ls", "--limit", "2"], &from[..]].concat());
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 2, "{page}");
            paged.extend(items.iter().cloned());
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                assert!(page["next"].is_null(), "{page}");
                break;
            }
        }

        assert!(cursor.is_none(), "{list}: the pages have no end");
        assert_eq!(paged, whole, "{list}");
        assert!(whole.len() >= 5);
    }
    node.refused(&["world", "ls", "--cursor", "nosuch"], 2, "usage");
}

// Events.

#[test]
fn a_stream_of_events_is_resumed_where_it_was_left() {
    let mut node = Node::start("attic", &[]);
    furnish(&node);
    let key = admin_key(&node);
    let mut stream = Stream::open(&node, &key, "", None);
    node.done(&["action", "call", "lamp", "step"]);
    node.done(&["action", "call", "lamp", "step"]);

    let first = stream.change();
    let second = stream.change();
    let members =
        ["id", "seq", "kind", "world", "element", "attribute", "value", "old", "origin", "at"];
    for member in members {
        assert!(first.data.get(member).is_some(), "{member}: {}", first.data);
    }
    assert_eq!(first.data["schema"], "freehold.event/1");
    assert_eq!((&first.data["old"], &first.data["value"]), (&json!(0), &json!(1)));
    assert_eq!(
        (&first.data["id"], &first.data["origin"]),
        (&json!(first.id), &node.ready["server_id"])
    );
    assert_eq!(first.id.rsplit(':').next().unwrap(), first.data["seq"].to_string());
    assert_eq!(second.data["value"], 2);
    drop(stream);

    // From the first on: the second, and what came since, each once.
    node.done(&["action", "call", "lamp", "step"]);
    let mut resumed = Stream::open(&node, &key, "", Some(&first.id));
    assert_eq!(resumed.change().id, second.id);
    assert_eq!(resumed.change().data["value"], 3);
    node.done(&["action", "call", "lamp", "step"]);
    assert_eq!(resumed.change().data["value"], 4);

    node.kill();
    node.restart();
    node.done(&["action", "call", "lamp", "step"]);
    let mut resumed = Stream::open(&node, &key, "", Some(&second.id));
    let values: Vec<Json> = (0..3).map(|_| resumed.change().data["value"].clone()).collect();
    assert_eq!(values, [3, 4, 5]);
}

#[test]
fn a_place_that_is_not_known_gets_one_resync_and_then_what_happens() {
    let node = Node::start("attic", &[]);
    furnish(&node);
    let key = admin_key(&node);
    let mut stream = Stream::open(&node, &key, "", None);
    node.done(&["action", "call", "lamp", "step"]);
    let id = stream.change().id;
    let log = id.split(':').next().unwrap();
    let strange = "01890000-0000-8000-8000-000000000000:1".to_owned();

    for place in ["nonsense".to_owned(), strange, format!("{log}:99999"), format!("{log}:x")] {
        let mut stream = Stream::open(&node, &key, "", Some(&place));
        let stepped = node.done(&["action", "call", "lamp", "step"]);

        assert_eq!(stream.next().event, "resync", "{place}");
        // What was answered just before may still be on its way to it.
        while stream.change().data["value"] != stepped["result"]["count"] {}
    }
}

#[test]
fn events_are_filtered_by_kind_and_by_world() {
    let node = Node::start("attic", &[]);
    two_gardens(&node);
    let key = admin_key(&node);
    let garden = node.done(&["world", "show", "alice/garden"])["id"].clone();
    let mut changes = Stream::open(&node, &key, "?kinds=value_change", None);
    let mut sent = Stream::open(&node, &key, "?kinds=custom,element_creation", None);
    let mut hers = Stream::open(&node, &key, "?world=alice/garden", None);
    let both = "?world=alice/garden&kinds=value_change";
    let mut her_changes = Stream::open(&node, &key, both, None);

    for owner in ["bob", "alice"] {
        let lamp = format!("{owner}/garden/lamp");
        node.done(&["action", "call", &lamp, "step", "--as", owner]);
        node.done(&["action", "call", &lamp, "step", "--as", owner]);
    }

    for _ in 0..4 {
        assert_eq!(changes.next().data["kind"], "value_change");
        assert_eq!(sent.next().data["kind"], "custom");
        assert_eq!(hers.next().data["world"], garden);
    }
    assert_eq!(her_changes.next().data["value"], 1);
    assert_eq!(her_changes.next().data["value"], 2);
    let nowhere = request("GET", "/api/v1/events?world=alice/nosuch").key(&key);
    nowhere.send(&node).problem(404, "not_found");
}

// Settings.

#[test]
fn a_mistake_in_the_settings_is_named_with_its_place() {
    let node = Node::home("attic");
    let table = [
        ("account = \"alice\"\ntime_zon = \"UTC\"\n", "line 2, column 1", "time_zone"),
        ("\n[strangers_limit]\ncalls = 3\nsecnds = 1\n", "line 4, column 1", "seconds"),
        ("mdns = 3\n", "line 1, column 8", ""),
        ("name = \"attic\"\nmdns = \n", "line 2, column 8", ""),
    ];
    for (text, place, meant) in table {
        settings(&node, text);

        let refused = start_refused(&node, &LOOPBACK);

        assert_eq!((refused.exit, &refused.err["code"]), (2, &json!("usage")), "{refused:?}");
        let told = format!("{} {}", refused.err["detail"], refused.err["hint"]);
        assert!(told.contains("freehold.toml") && told.contains(place), "{told}");
        assert!(told.contains(meant), "{told}");
    }
}

#[test]
fn config_show_says_which_values_stand_in_the_file() {
    let mut node = Node::home("attic");
    settings(&node, "keep_hours = 48\nmdns = false\n");
    node.restart();

    let shown = node.done(&["config", "show"]);

    assert_eq!(setting(&shown, "keep_hours"), (json!(48), "freehold.toml".to_owned()));
    assert_eq!(setting(&shown, "mdns"), (json!(false), "freehold.toml".to_owned()));
    assert_eq!(setting(&shown, "record_seconds"), (json!(3_600), "default".to_owned()));
}

#[test]
fn config_show_says_which_values_flags_gave() {
    let mut node = Node::home("attic");
    settings(&node, "name = \"cellar\"\nkeep_hours = 24\n");
    node.restart();
    assert_eq!(node.done(&["id"])["name"], "attic");

    let shown = node.done(&["config", "show"]);

    // What the file says comes from the file, even where it is the default.
    assert_eq!(setting(&shown, "keep_hours"), (json!(24), "freehold.toml".to_owned()));
    for (name, value) in [("name", Some(json!("attic"))), ("listen", None), ("api", None)] {
        let (held, from) = setting(&shown, name);
        assert!(from.contains("flag") || from.contains(&format!("--{name}")), "{name}: {from}");
        assert!(value.is_none_or(|value| value == held), "{name}: {held}");
    }
}

// The end.

#[test]
fn a_node_ends_well_however_it_is_asked_to() {
    let node = Node::home("attic");
    type Way<'a> = (&'a str, &'a dyn Fn(&Running));
    let ways: [Way<'_>; 3] = [
        ("SIGTERM", &|running| running.signal("TERM")),
        ("SIGINT", &|running| running.signal("INT")),
        ("stop", &|_| {
            node.done(&["stop"]);
        }),
    ];
    for (way, ask) in ways {
        let mut running = Running::start(&node, &LOOPBACK);
        node.done(&["account", "add", way]);
        assert!(node.home.join("api.json").exists() && node.home.join("control.sock").exists());

        ask(&running);

        assert_eq!(running.end(), Some(0), "{way}");
        for left in ["api.json", "control.sock"] {
            assert!(!node.home.join(left).exists(), "{way}: {left} is left");
        }
        node.refused(&["status"], 3, "no_node");
    }
    let _running = Running::start(&node, &LOOPBACK);
    assert_eq!(node.done(&["account", "ls"])["items"].as_array().unwrap().len(), 3);
}

#[test]
fn a_node_that_is_killed_leaves_nothing_that_keeps_the_next_from_starting() {
    let mut node = Node::start("attic", &[]);
    furnish(&node);

    node.kill();
    assert!(node.home.join("control.sock").exists());
    node.refused(&["status"], 3, "no_node");
    node.restart();

    assert_eq!(node.done(&["element", "get", "lamp", "on"])["value"], false);
}

// A full disk.

#[test]
fn on_a_full_disk_writes_are_refused_and_reads_go_on() {
    let Some(disk) = Disk::mounted() else { return };
    let (node, count) = node_on_full(&disk);

    let health = request("GET", "/health").send(&node).body["health"].clone();

    assert_eq!(health, "read_only");
    // Longer than the node waits between two tries to write again.
    for _ in 0..30 {
        let read = node.say(&["element", "get", "lamp", "count"]);
        assert_eq!((read.exit, &read.out["value"]), (0, &json!(count)), "{read:?}\n{}", node.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(node.done(&["status"])["health"], "read_only");
    let problem = node.refused(&["action", "call", "lamp", "step"], 1, "read_only");
    assert_eq!(problem["status"], 503);
    node.refused(&["account", "add", "bob"], 1, "read_only");
}

#[test]
fn a_node_whose_disk_has_room_again_takes_writes_by_itself() {
    let Some(disk) = Disk::mounted() else { return };
    let (mut node, count) = node_on_full(&disk);

    disk.free();

    node.until(&["status"], |status| status["health"] == "good");
    let stepped = node.done(&["action", "call", "lamp", "step"]);
    assert_eq!(stepped["result"], json!({"count": count + 1}));
    node.kill();
    node.restart();
    assert_eq!(node.done(&["element", "get", "lamp", "count"])["value"], json!(count + 1));
}

#[test]
fn a_node_that_is_called_all_the_time_takes_writes_again_too() {
    let Some(disk) = Disk::mounted() else { return };
    let (node, count) = node_on_full(&disk);

    disk.free();

    let stepped = node.until(&["action", "call", "lamp", "step"], |_| true);
    assert_eq!(stepped["result"], json!({"count": count + 1}));
    assert_eq!(node.done(&["status"])["health"], "good");
}

// What the tests stand on.

/// The verbs that the contract names, built or not.
const VERBS: [(&str, &str); 23] = [
    ("account", "add ls show rm"),
    ("world", "add ls show rm enter leave nest"),
    ("type", "check publish ls show share unshare retire"),
    ("element", "create ls show set get destroy give move"),
    ("set", "add ls rm enter leave link child"),
    ("group", "add ls show member"),
    ("event", "define ls send"),
    ("action", "ls show call"),
    ("server", "ls show set allow deny pause resume limit schedule confirm rm"),
    ("protection", "add ls show rm"),
    ("token", "ls permit revoke show"),
    ("visit", "start end ls"),
    ("job", "ls show data wait cancel"),
    ("sync", "start stop export import trim history"),
    ("filter", "run"),
    ("peer", "ls connect ping"),
    ("bootstrap", "ls add rm check"),
    ("key", "add ls rm"),
    ("config", "show check"),
    ("alias", "add ls"),
    ("inbox", "ls approve deny"),
    ("node", "status id stop"),
    ("ticket", "add"),
];

const MISTAKEN: &str = r#"name = "lamp"
protectd = "family"

[attributes.on]
kind = "boolean"

[attributes.level]
kind = "integer"
default = "five"
cache = "2 days"

[actions.toggle]
on = "event:toggle"
script = '''
local x = 1
if x then
'''

# One more after the script.
[actions.both]
on = "before:value_chang"
accept = true
"#;

/// The beginning of a type whose actions are added.
const COUNTED: &str = r#"
name = "thing"

[attributes.count]
kind = "integer"
default = 0
"#;

/// Each event fires the next inside itself; below zero it stops after twenty.
const DESCENDING: &str = r#"
[attributes.depth]
kind = "integer"
default = 0

[actions.descend]
on = "before:value_change"
attribute = "depth"
script = '''
if event.value ~= 0 then
  set("depth", event.value + 1)
end
'''
"#;

/// Each event fires the next after itself.
const SPINNING: &str = r#"
[attributes.round]
kind = "integer"
default = 0

[actions.spin]
on = "after:value_change"
attribute = "round"
script = '''
set("round", event.value + 1)
'''
"#;

const KINDS: &str = r#"
name = "thing"

[attributes.bool]
kind = "bool"
[attributes.integer]
kind = "integer"
[attributes.number]
kind = "number"
[attributes.string]
kind = "string"
[attributes.json]
kind = "json"
[attributes.bytes]
kind = "bytes"
[attributes.reference]
kind = "reference"
[attributes.position]
kind = "position"

[attributes.small]
kind = "number"
min = -10
max = 10
[attributes.short]
kind = "string"
max_bytes = 8

[actions.echo]
on = "event:echo"
script = "return { n = event.n, w = event.w, o = event.o }"
"#;

const BOX: &str = r#"
name = "thing"

[attributes.on]
kind = "bool"
default = false
[attributes.switched]
kind = "integer"
default = 0
[attributes.level]
kind = "integer"
default = 0
[attributes.number]
kind = "number"
[attributes.fixed]
kind = "integer"
default = 0
[attributes.text]
kind = "string"
[attributes.order]
kind = "string"
default = ""
[attributes.seen]
kind = "json"
[attributes.kept]
kind = "integer"
default = 0

[events.poke]
all_keys = ["how", "often"]
required_keys = ["how"]

[actions.never]
on = "event:never"
refuse = "this is never done"
[actions.excused]
on = "event:excused"
script = "return { event_success = false, message = 'so it is' }"
[actions.scripted]
on = "event:scripted"
script = "set('order', 'spoiled') refuse('not by this script')"
[actions.no]
on = "event:no"
script = "return false"
[actions.zero]
on = "event:zero"
script = "return 0"
[actions.empty]
on = "event:empty"
script = "return {}"
[actions.poked]
on = "event:poke"
reply = { answer = 42, list = [1, 2] }

[actions.fix]
on = "before:value_change"
attribute = "fixed"
refuse = "it is fixed"
[actions.clamp]
on = "before:value_change"
attribute = "level"
script = "if event.value > 5 then return { value = 5 } end"
[actions.halve]
on = "before:value_change"
attribute = "number"
script = "return { value = event.value / 2 }"
[actions.settle]
on = "before:value_change"
attribute = "number"
priority = -1
reply = { value = 4 }
[actions.switch]
on = "after:value_change"
attribute = "on"
script = "set('switched', get('switched') + 1)"
[actions.choosy]
on = "before:element_creation"
script = "if event.name == 'forbidden' then refuse('not that name') end"
[actions.stay]
on = "before:element_destruction"
script = "if element.name == 'eternal' then refuse('it stays') end"

[actions.low]
on = "event:line"
priority = -5
script = "set('order', get('order') .. 'low,') return { order = get('order'), word = event.word }"
[actions.b]
on = "event:line"
script = "set('order', get('order') .. 'b,')"
[actions.a]
on = "event:line"
script = "set('order', get('order') .. 'a,')"
[actions.high]
on = "event:line"
priority = 1000
script = "set('order', get('order') .. 'high,') return { word = 'laid' }"
[actions.fine]
on = "event:line"
priority = 999
accept = true

[actions.relay]
on = "event:relay"
call = { element = "other", action = "sum" }
in = { a = "$.deep.a", b = { value = 3 }, many = "$.list[*]", none = "$.nosuch" }
out = { total = "$.sum", got = "$.got", gone = "$.nosuch" }
[actions.sum]
on = "event:sum"
script = "return { sum = event.a + event.b, got = type(event.many), none = type(event.none) }"
[actions.meddle]
on = "event:meddle"
call = { element = "other", action = "keep" }
out = { kept = "$.kept" }
[actions.guard]
on = "before:value_change"
attribute = "text"
call = { element = "other", action = "judge" }
in = { text = "$.value" }
[actions.judge]
on = "event:judge"
script = "if event.text == 'bad' then return { event_success = false, message = 'the other says no' } end"

[actions.keep]
on = "event:keep"
script = '''
set("kept", get("kept") + 1)
set("seen", { what = event.what, by = caller.account_name })
return { kept = get("kept") }
'''
[actions.tell]
on = "event:tell"
call = { element = "other", action = "keep" }
in = { what = "$.what" }
[actions.send]
on = "event:send"
script = "send('keep', { what = 'sent' }, 'other') return { sent = true }"
[actions.regret]
on = "event:regret"
script = "send('keep', { what = 'regretted' }, 'other') error('after all')"
"#;

/// An action on the event of its own name.
fn script(name: &str, source: &str) -> String {
    format!("\n[actions.{name}]\non = \"event:{name}\"\nscript = '''\n{source}\n'''\n")
}

/// Lists nested in lists.
fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn hint_of(problem: &Json) -> &str {
    problem["hint"].as_str().unwrap_or_default()
}

/// A setting as it is shown: its value, and where that comes from.
fn setting(shown: &Json, name: &str) -> (Json, String) {
    let item = shown["items"].as_array().unwrap().iter().find(|item| item["name"] == name).unwrap();
    (item["value"].clone(), item["from"].as_str().unwrap().to_owned())
}

/// Waits until something is so.
fn comes(so: impl Fn() -> bool) -> bool {
    (0..PATIENCE.as_millis() / 50).any(|_| {
        let is_so = so();
        if !is_so {
            std::thread::sleep(Duration::from_millis(50));
        }
        is_so
    })
}

/// Publishes a type as alice.
fn publish(node: &Node, text: &str) -> Said {
    let file = node.file("published.toml", text);
    let accounts = node.done(&["account", "ls"])["items"].clone();
    let owner = accounts[0]["name"].as_str().unwrap();
    node.say(&["type", "publish", support::path(&file), "--as", owner])
}

/// Gives a node an account alice with a world, a type, and an element of it, all three `thing`.
fn make(node: &Node, text: &str) {
    node.done(&["account", "add", "alice"]);
    node.done(&["world", "add", "thing"]);
    let published = publish(node, text);
    assert_eq!(published.exit, 0, "{published:?}");
    node.done(&["element", "create", "thing", "--name", "thing"]);
}

/// Gives a node two accounts, alice and bob, each with a lamp in a garden.
fn two_gardens(node: &Node) {
    furnish(node);
    let lamp = node.file("lamp.toml", LAMP);
    node.done(&["account", "add", "bob"]);
    node.done(&["world", "add", "bob/garden"]);
    node.done(&["type", "publish", support::path(&lamp), "--as", "bob"]);
    let made = ["element", "create", "lamp", "--name", "lamp", "--world", "bob/garden"];
    node.done(&[&made[..], &["--as", "bob"]].concat());
}

fn admin_key(node: &Node) -> String {
    node.done(&["key", "add", "operator", "--admin"])["key"].as_str().unwrap().to_owned()
}

fn settings(node: &Node, text: &str) {
    fs::create_dir_all(&node.home).unwrap();
    fs::write(node.home.join("freehold.toml"), text).unwrap();
}

fn with_input(node: &Node, arguments: &[&str], input: &str) -> Said {
    let mut child = node
        .program()
        .args(arguments)
        .arg("--json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap())
}

/// The words that `--help` lists.
fn help(node: &Node, words: &[&str]) -> BTreeSet<String> {
    let output = node.program().args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// Whether a verb is there; else it must be unknown.
fn is_built(node: &Node, words: &[&str]) -> bool {
    let asked = said(node.program().args(words).args(["--json", "--help"]).output().unwrap());
    let unknown = (2, Some("unknown_command"));
    assert!(
        asked.exit == 0 || (asked.exit, asked.err["code"].as_str()) == unknown,
        "{words:?}: {asked:?}"
    );
    asked.exit == 0
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The same bytes with every one from `first` to `last` changed.
fn spoiled(bytes: &[u8], first: usize, last: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let last = last.min(bytes.len());
    bytes[first..last].iter_mut().for_each(|byte| *byte ^= 0x55);
    bytes
}

/// Flips one bit wherever a text stands in a file.
fn flip(path: &Path, text: &str) {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(text.as_bytes())).collect();
    assert!(!places.is_empty(), "{} does not hold {text}", path.display());
    for at in places {
        bytes[at + 1] ^= 1;
    }
    fs::write(path, bytes).unwrap();
}

/// A node that was started by hand.
struct Running {
    child: Child,
    ready: Json,
}

impl Running {
    fn spawn(node: &Node, arguments: &[&str]) -> (Child, String) {
        // The program itself, so that its process is the one that is signalled and waited for.
        let mut child = Command::new(env!("CARGO_BIN_EXE_freehold"))
            .arg("--home")
            .arg(&node.home)
            .args(["run", "--json"])
            .args(arguments)
            .current_dir(node.home.parent().unwrap())
            .env("RUST_BACKTRACE", "0")
            .env_remove("FREEHOLD_BOOTSTRAP")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line)
    }

    fn start(node: &Node, arguments: &[&str]) -> Self {
        let (child, line) = Self::spawn(node, arguments);
        match serde_json::from_str(&line) {
            Ok(ready) => Self { child, ready },
            Err(_) => panic!("{arguments:?}: {line}{:?}", child.wait_with_output()),
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, which was asked for; gives back its exit code.
    fn end(&mut self) -> Option<i32> {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the node does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A start that must fail, and what it said.
fn start_refused(node: &Node, arguments: &[&str]) -> Said {
    let (mut child, line) = Running::spawn(node, arguments);
    if !line.is_empty() {
        child.kill().ok();
        child.wait().ok();
        panic!("{arguments:?} started: {line}");
    }
    said(child.wait_with_output().unwrap())
}

/// A request, written by hand so that every header is the test's own.
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    media: String,
    body: Option<String>,
}

/// What the API answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    text: String,
    body: Json,
}

fn request(method: &str, path: &str) -> Request {
    Request {
        line: format!("{method} {path} HTTP/1.1"),
        headers: Vec::new(),
        media: "application/json".to_owned(),
        body: None,
    }
}

/// A call that is waited for.
fn call(node: &Node, key: &str, command: &str, args: Json) -> Answer {
    let body = json!({"command": command, "args": args});
    request("POST", "/api/v1/calls").key(key).json(&body).header("Prefer", "wait=5").send(node)
}

impl Request {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn key(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    /// The body's media type; empty for none.
    fn media(mut self, media: &str) -> Self {
        media.clone_into(&mut self.media);
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.body = Some(text.to_owned());
        self
    }

    fn json(self, body: &Json) -> Self {
        let text = body.to_string();
        self.text(&text)
    }

    fn written(&self, host: &str) -> String {
        let mut text = format!("{}\r\nConnection: close\r\n", self.line);
        if !self.headers.iter().any(|(name, _)| name == "Host") {
            text.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            if !self.media.is_empty() {
                text.push_str(&format!("Content-Type: {}\r\n", self.media));
            }
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        format!("{text}\r\n{}", self.body.as_deref().unwrap_or_default())
    }

    /// Sends it over TCP, to the node's own address.
    fn send(self, node: &Node) -> Answer {
        let stream = TcpStream::connect(node.api()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.exchange(stream, &node.api())
    }

    /// Sends it over the socket in the home folder.
    fn over_socket(self, node: &Node) -> Answer {
        let stream = UnixStream::connect(node.home.join("control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.exchange(stream, "localhost")
    }

    fn exchange(self, mut stream: impl Read + Write, host: &str) -> Answer {
        // Who refuses a request need not read it to its end.
        stream.write_all(self.written(host).as_bytes()).ok();
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let all = String::from_utf8_lossy(&bytes).into_owned();
        let (head, text) = all
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{}: no answer: {read:?} {all}", self.line));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let body = serde_json::from_str(text).unwrap_or(Json::Null);
        Answer { status, head: head.to_owned(), text: text.to_owned(), body }
    }
}

impl Answer {
    /// The problem that it must be.
    fn problem(&self, status: u16, code: &str) -> Json {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.body["status"], status);
        assert!(self.head.to_lowercase().contains("application/problem+json"), "{}", self.head);
        self.body.clone()
    }
}

/// A stream of server-sent events.
struct Stream {
    lines: BufReader<TcpStream>,
}

/// One of them.
struct Sent {
    id: String,
    event: String,
    data: Json,
}

impl Stream {
    /// Opens a stream; from then on nothing is missed.
    fn open(node: &Node, key: &str, query: &str, last: Option<&str>) -> Self {
        let mut asked = request("GET", &format!("/api/v1/events{query}")).key(key);
        if let Some(last) = last {
            asked = asked.header("Last-Event-ID", last);
        }
        let mut stream = TcpStream::connect(node.api()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(asked.written(&node.api()).as_bytes()).unwrap();
        let mut lines = Self { lines: BufReader::new(stream) };
        let status = lines.line();
        assert!(status.contains(" 200 "), "{status}");
        while !lines.line().is_empty() {}
        lines
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        assert!(read.as_ref().is_ok_and(|bytes| *bytes > 0), "the stream ended: {read:?}");
        line.trim_end().to_owned()
    }

    /// The next one, which must come.
    fn next(&mut self) -> Sent {
        let mut sent = Sent { id: String::new(), event: String::new(), data: Json::Null };
        // The sizes of chunks stand between; each event is a chunk of its own.
        loop {
            let line = self.line();
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut sent.id);
            } else if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut sent.event);
            } else if let Some(data) = line.strip_prefix("data: ") {
                sent.data = serde_json::from_str(data).unwrap();
                return sent;
            }
        }
    }

    /// The next change of a value.
    fn change(&mut self) -> Sent {
        loop {
            let sent = self.next();
            assert_eq!(sent.event, "event", "{}", sent.data);
            if sent.data["kind"] == "value_change" {
                return sent;
            }
        }
    }
}

/// A disk of 8 MiB.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts one; none, and said so, where that is not allowed.
    fn mounted() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("SKIPPED: no small disk can be mounted here, which takes root and `mount`");
            return None;
        }
        Some(Self { folder })
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.folder.path().join("filler")).unwrap();
        while filler.write_all(&[0; 4_096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.folder.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.folder.path()).status().ok();
    }
}

/// A node with a lamp on a disk that has just become full, and how often the lamp was stepped.
fn node_on_full(disk: &Disk) -> (Node, u64) {
    let mut node = Node::home("attic");
    node.home = disk.folder.path().join("home");
    node.restart();
    furnish(&node);
    node.done(&["action", "call", "lamp", "step"]);
    disk.fill();
    let mut count = 1;
    // There may be room for some more inside the store.
    while let Said { exit: 0, out, .. } = node.say(&["action", "call", "lamp", "step"]) {
        count += 1;
        assert_eq!(out["result"], json!({"count": count}));
        assert!(count < 10_000, "the disk does not become full");
    }
    let problem = node.refused(&["action", "call", "lamp", "step"], 1, "read_only");
    assert_eq!(problem["status"], 503);
    assert_eq!(node.done(&["element", "get", "lamp", "count"])["value"], json!(count));
    (node, count)
}
