//! Two machines, one lamp: the story, between real processes.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect ends there")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use support::{Node, furnish};

const LAMP: &str = "alice@attic/garden/lamp";

#[test]
fn a_lamp_is_seen_toggled_listed_and_followed_from_other_machines() {
    let attic = Node::start("attic", &[]);
    let mut kitchen = Node::start("kitchen", &[&attic]);
    let alice = furnish(&attic);

    // An account is fetched, stored, and then comes from the cache.
    let shown = kitchen.done(&["account", "show", "alice@attic"]);
    assert_eq!((&shown["id"], &shown["cached"]), (&json!(alice), &json!(false)));
    assert_eq!(shown["server"]["name"], "attic");
    assert_eq!(kitchen.done(&["account", "show", "alice@attic"])["cached"], true);

    // A value is read at its home, then from the cache.
    let first = kitchen.done(&["element", "get", LAMP, "on"]);
    assert_eq!((&first["value"], &first["cached"]), (&json!(false), &json!(false)));
    assert!(first["cached_until"].is_string());
    assert_eq!(first["origin"], attic.ready["server_id"]);
    let again = kitchen.done(&["element", "get", LAMP, "on"]);
    assert_eq!(
        (&again["value"], &again["cached"], &again["stale"]),
        (&json!(false), &json!(true), &json!(false))
    );

    // A call runs there; its change is seen here, although the old value was still fresh.
    let events = kitchen.events(&[]);
    std::thread::sleep(Duration::from_millis(300));
    let called = kitchen.done(&["action", "call", LAMP, "toggle"]);
    assert_eq!(called["result"], json!({"on": true}));
    assert_eq!(kitchen.done(&["element", "get", LAMP, "on"])["value"], true);
    let seen = events.until(|events| events.iter().any(|event| event["attribute"] == "on"));
    let change = seen.iter().find(|event| event["attribute"] == "on").unwrap();
    assert_eq!((&change["old"], &change["value"]), (&json!(false), &json!(true)));
    assert_eq!(change["origin"], attic.ready["server_id"]);

    // What is for the list is refused with the command that would help.
    let problem = kitchen.refused(&["element", "set", LAMP, "on", "false"], 5, "not_listed");
    assert!(
        problem["hint"].as_str().unwrap().contains("freehold protection add family kitchen"),
        "{problem}"
    );

    // The secret, the private action and what does not exist get the same answer.
    let answers: Vec<String> = [
        (["element", "get", LAMP, "secret"], "secret"),
        (["element", "get", LAMP, "nothing"], "nothing"),
        (["action", "call", LAMP, "reset"], "reset"),
        (["action", "call", LAMP, "nosuch"], "nosuch"),
        (["element", "get", "alice@attic/garden/nolamp", "on"], "on"),
        (["element", "get", "alice@attic/nogarden/lamp", "on"], "on"),
        (["element", "get", "bob@attic/garden/lamp", "on"], "on"),
    ]
    .iter()
    .map(|(words, name)| {
        let problem = kitchen.refused(words, 5, "not_offered");
        let named = format!("{} {name}", words[2].replace("@attic", ""));
        problem.to_string().replace(&named, "NAME")
    })
    .collect();
    assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), 1, "{answers:#?}");

    // Each operator puts the other on the list; from then on it works, until it is dropped.
    assert_eq!(attic.done(&["protection", "add", "family", "kitchen"])["state"], "asked");
    approve_all(&kitchen);
    attic.until(&["protection", "show", "family", "kitchen"], |row| row["state"] == "active");
    assert_eq!(kitchen.done(&["element", "set", LAMP, "on", "false"])["value"], false);

    // A before-action's sentence reaches the caller, and nothing is changed.
    attic.done(&["element", "set", "alice/garden/lamp", "secret", "asleep"]);
    let problem = kitchen.refused(&["element", "set", LAMP, "on", "true"], 5, "refused");
    assert_eq!(problem["detail"], "the lamp is asleep");
    assert_eq!(attic.done(&["element", "get", "alice/garden/lamp", "on"])["value"], false);

    assert_eq!(attic.done(&["protection", "rm", "family", "kitchen"])["state"], "dropped");
    kitchen.refused(&["element", "set", LAMP, "on", "false"], 5, "not_listed");

    // A third node whose first peer is the kitchen finds alice by her id alone, and follows.
    let cellar = Node::start("cellar", &[&kitchen]);
    cellar.until(&["account", "show", &alice], |shown| shown["name"] == "alice");
    let followed = cellar.events(&["--world", "alice@attic/garden"]);
    cellar.until(&["element", "get", LAMP, "count"], |read| read["value"] == 0);
    std::thread::sleep(Duration::from_secs(2));
    cellar.signal("STOP");
    for _ in 0..20 {
        attic.done(&["action", "call", "alice/garden/lamp", "step"]);
    }
    cellar.signal("CONT");
    let counts = |events: &[Json]| -> Vec<i64> {
        events
            .iter()
            .filter(|event| event["attribute"] == "count")
            .filter_map(|event| event["value"].as_i64())
            .collect()
    };
    let all: Vec<i64> = (1..=20).collect();
    let seen = followed.until(|events| counts(events).len() >= 20);
    assert_eq!(counts(&seen), all);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(counts(&followed.so_far()), all, "each of them once");

    kitchen.done(&["element", "get", LAMP, "on"]);
    // The cache serves a restarted node whose source is away, and says when it is stale.
    drop(events);
    assert_eq!(kitchen.stop(), 0);
    let mut attic = attic;
    assert_eq!(attic.stop(), 0);
    kitchen.restart();
    let shown = kitchen.done(&["account", "show", "alice@attic"]);
    assert_eq!((&shown["cached"], &shown["stale"]), (&json!(true), &json!(false)));
    let value = kitchen.done(&["element", "get", LAMP, "on"]);
    assert_eq!(value["cached"], true);
    std::thread::sleep(Duration::from_secs(5));
    let value = kitchen.done(&["element", "get", LAMP, "on"]);
    assert_eq!((&value["cached"], &value["stale"]), (&json!(true), &json!(true)));
    // Who has no copy is told that the home cannot be reached, and why.
    let problem = kitchen.refused(
        &["element", "get", LAMP, "count", "--timeout", "2s"],
        3,
        "peer_unreachable",
    );
    assert!(!problem["tries"].as_array().unwrap().is_empty(), "{problem}");
}

#[test]
fn the_demo_tells_the_story_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(&folder, &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    while !told.contains("The nodes stay up") {
        let line = lines.next().unwrap_or_else(|| panic!("it ended early:\n{told}")).unwrap();
        told += &line;
        told.push('\n');
    }

    let interrupted = Command::new("kill").args(["-INT", &demo.id().to_string()]).status();

    assert!(interrupted.unwrap().success());
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{told}");
    // The rest is read: whoever still writes there has not ended.
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let mut from = 0;
    for step in [
        "attic$ freehold account add alice",
        "attic$ freehold element create lamp",
        "kitchen$ freehold element get alice@attic/garden/lamp on",
        "false",
        "kitchen$ freehold action call alice@attic/garden/lamp toggle",
        "kitchen$ freehold element get alice@attic/garden/lamp on",
        "true",
        "kitchen$ freehold element set alice@attic/garden/lamp on false",
        "freehold protection add family kitchen",
        "kitchen$ freehold element get alice@attic/garden/lamp secret",
        "error:",
        "attic$ freehold protection add family kitchen",
        "kitchen$ freehold inbox",
        "kitchen$ freehold approve",
        "kitchen$ freehold element set alice@attic/garden/lamp on false",
        "cellar$ freehold account show",
        "alice",
    ] {
        let at = told[from..].find(step);
        let at = at.unwrap_or_else(|| panic!("no '{step}' after:\n{}\nin:\n{told}", &told[..from]));
        from += at + step.len();
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?} {rest:?}");
}

#[test]
fn the_demo_runs_a_script_gives_back_how_it_ended_and_keeps_what_is_to_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let script = "freehold id --json > who; exit 7";

    let ended = demo(&folder, &["--exec", script, "--keep", kept.to_str().unwrap()]).output();

    assert_eq!(ended.as_ref().unwrap().status.code(), Some(7), "{ended:?}");
    let who = std::fs::read_to_string(folder.path().join("who")).unwrap();
    let who: Json = serde_json::from_str(&who).unwrap();
    assert_eq!(who["name"], "attic");
    for name in ["attic", "kitchen", "cellar"] {
        assert!(kept.join(name).join("home.redb").exists(), "{name}");
        assert!(!kept.join(name).join("control.sock").exists(), "{name} still runs");
    }
    let wrong = demo(&folder, &["--exce", script]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

/// The demo, with a folder of its own for what it makes.
fn demo(folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
    command.arg("demo").args(arguments).env("TMPDIR", folder.path()).current_dir(folder.path());
    command.stdin(Stdio::null());
    command
}

#[test]
fn a_thousand_steps_survive_kills_of_either_side() {
    let mut attic = Node::start("attic", &[]);
    let mut kitchen = Node::start("kitchen", &[&attic]);
    furnish(&attic);
    kitchen.until(&["element", "get", LAMP, "count"], |read| read["value"] == 0);
    let answered = std::sync::Mutex::new(Vec::new());
    let unanswered = std::sync::atomic::AtomicUsize::new(0);
    let home = kitchen.home.clone();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..125 {
                    // The node may be away just now; then the next call finds it again.
                    let output = std::process::Command::new(env!("CARGO_BIN_EXE_freehold"))
                        .arg("--home")
                        .arg(&home)
                        .args(["action", "call", LAMP, "step", "--json", "--timeout", "10s"])
                        .stdin(std::process::Stdio::null())
                        .output()
                        .unwrap();
                    let said = support::said(output);
                    match said.out["result"]["count"].as_i64() {
                        Some(count) if said.exit == 0 => answered.lock().unwrap().push(count),
                        _ => {
                            unanswered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(100));
                        }
                    }
                }
            });
        }
        for round in 0..4 {
            std::thread::sleep(Duration::from_millis(700));
            if round % 2 == 0 {
                attic.kill();
                attic.restart();
            } else {
                kitchen.kill();
                kitchen.restart();
            }
        }
    });

    // Every answered number came once, and the counter is at least their count.
    let answered = answered.into_inner().unwrap();
    let distinct: BTreeSet<i64> = answered.iter().copied().collect();
    assert_eq!(distinct.len(), answered.len(), "a number was answered twice");
    let count =
        attic.done(&["element", "get", "alice/garden/lamp", "count"])["value"].as_i64().unwrap();
    println!("answered {}, unanswered {unanswered:?}, counted {count}", answered.len());
    assert!(answered.len() >= 500, "only {} were answered", answered.len());
    assert!(usize::try_from(count).unwrap() >= answered.len());

    // Nothing stays unknown once both are up, and every open job ends by itself.
    kitchen.until(&["job", "ls", "--outcome", "unknown"], |jobs| {
        jobs["items"].as_array().unwrap().is_empty()
    });
    kitchen.until(&["status"], |status| status["jobs"] == 0);
}

#[test]
fn a_job_between_question_and_answer_ends_after_a_restart_without_its_caller() {
    let mut attic = Node::start("attic", &[]);
    let mut kitchen = Node::start("kitchen", &[&attic]);
    furnish(&attic);
    let asking = kitchen.file("asking.toml", ASKING);
    kitchen.done(&["account", "add", "bob"]);
    kitchen.done(&["world", "add", "bob/house"]);
    kitchen.done(&["type", "publish", support::path(&asking)]);
    kitchen.done(&["element", "create", "asking", "--name", "box"]);
    kitchen.until(&["element", "get", LAMP, "count"], |read| read["value"] == 0);
    assert_eq!(kitchen.done(&["action", "call", "box", "fetch"])["result"], json!({"seen": 1}));

    attic.kill();
    // Nobody answers: the job waits between question and answer, and its caller goes away.
    let mut caller = kitchen
        .program()
        .args(["action", "call", "box", "fetch", "--timeout", "60s"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    kitchen.until(&["status"], |status| status["jobs"] == 1);
    caller.kill().unwrap();
    caller.wait().unwrap();
    kitchen.kill();
    kitchen.restart();
    assert_eq!(kitchen.done(&["status"])["jobs"], 1);
    attic.restart();

    kitchen.until(&["status"], |status| status["jobs"] == 0);
    assert_eq!(kitchen.done(&["element", "get", "box", "seen"])["value"], 1);
    assert_eq!(kitchen.done(&["element", "get", "box", "runs"])["value"], 2);
}

/// Asks the lamp before it decides what to write.
const ASKING: &str = r#"
name = "asking"

[attributes.seen]
kind = "integer"
default = 0

[attributes.runs]
kind = "integer"
default = 0

[actions.fetch]
on = "event:fetch"
script = '''
local answer = ask("alice@attic/garden/lamp", "peek")
set("runs", get("runs") + 1)
set("seen", answer.count + 1)
return { seen = get("seen") }
'''
"#;

fn approve_all(node: &Node) {
    let inbox = node.until(&["inbox"], |inbox| !inbox["items"].as_array().unwrap().is_empty());
    for entry in inbox["items"].as_array().unwrap() {
        node.done(&["approve", entry["id"].as_str().unwrap()]);
    }
}
