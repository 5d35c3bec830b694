//! The types in `examples`, used as people would use them, on real nodes.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect ends there")]

mod support;

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde_json::{Value as Json, json};
use support::{Node, path};

const CHEST: &str = "alice/house/chest";

#[test]
fn every_example_is_a_type_without_a_mistake() {
    let node = Node::home("attic");
    let files: Vec<PathBuf> =
        std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path()).collect();

    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        node.done(&["type", "check", path(&file)]);
    }
}

#[test]
fn anybody_toggles_the_lamp_until_its_owner_lets_it_sleep() {
    let node = Node::start("attic", &[]);
    settle(&node);
    make(&node, "lamp", "lamp");
    node.done(&["account", "add", "bob"]);
    let lamp = "alice/house/lamp";

    let toggle = ["action", "call", lamp, "toggle", "--as", "bob"];
    assert_eq!(node.done(&toggle)["result"], json!({"on": true}));
    assert_eq!(node.done(&toggle)["result"], json!({"on": false}));

    node.done(&["element", "set", lamp, "secret", "asleep", "--as", "alice"]);
    let on = ["element", "set", lamp, "on", "true", "--as", "bob"];
    assert_eq!(node.refused(&on, 5, "refused")["detail"], "the lamp is asleep");
    assert_eq!(value(&node, lamp, "on"), false);
    node.refused(&["element", "get", lamp, "secret", "--as", "bob"], 5, "not_permitted");
}

#[test]
fn the_door_opens_at_noon_and_refuses_to_after_nine_in_the_evening() {
    let mut node = Node::home("attic");
    let door = "alice/house/door";
    let (open, close) =
        (["element", "set", door, "open", "true"], ["element", "set", door, "open", "false"]);

    turn_clock_to(&node, 12);
    node.restart();
    settle(&node);
    make(&node, "door", "door");
    assert_eq!(node.done(&open)["value"], true);
    assert_eq!(node.stop(), 0);

    turn_clock_to(&node, 22);
    node.restart();
    assert_eq!(node.done(&close)["value"], false);
    let problem = node.refused(&open, 5, "refused");
    assert_eq!(problem["detail"], "the door stays shut from nine in the evening until six");
    assert_eq!(value(&node, door, "open"), false);
}

#[test]
fn the_cat_wanders_by_itself_until_it_sleeps() {
    let node = Node::start("attic", &[]);
    settle(&node);
    make(&node, "cat", "puss");
    let begins = json!({"x": 5, "y": 5});

    let place = ["element", "get", "puss", "place"];
    node.until(&place, |read| read["value"] != begins);

    node.done(&["element", "set", "puss", "awake", "false"]);
    let rests = value(&node, "puss", "place");
    for axis in ["x", "y"] {
        assert!((0..=10).contains(&rests[axis].as_i64().unwrap()), "{rests}");
    }
    for _ in 0..3 {
        node.done(&["event", "send", "puss", "wander"]);
    }
    assert_eq!(value(&node, "puss", "place"), rests);
}

#[test]
fn only_the_family_opens_the_chest_and_sees_what_is_in_it() {
    let node = Node::start("attic", &[]);
    settle(&node);
    node.done(&["group", "add", "family"]);
    make(&node, "chest", "chest");
    for account in ["bob", "carol"] {
        node.done(&["account", "add", account]);
    }
    node.done(&["group", "member", "family", "bob", "--as", "alice"]);
    let gold = set("content", "[\"gold\"]", "bob");

    let problem = node.refused(&gold, 5, "refused");
    assert_eq!(problem["detail"], "the chest is closed");
    node.refused(&set("open", "true", "carol"), 5, "not_permitted");
    assert_eq!(node.done(&set("open", "true", "bob"))["value"], true);
    assert_eq!(node.done(&gold)["value"], json!(["gold"]));

    assert_eq!(node.done(&["element", "get", CHEST, "open", "--as", "carol"])["value"], true);
    node.refused(&["element", "get", CHEST, "content", "--as", "carol"], 5, "not_permitted");
    node.done(&["group", "member", "family", "bob", "--remove", "--as", "alice"]);
    node.refused(&set("open", "false", "bob"), 5, "not_permitted");
    assert_eq!(node.done(&set("open", "false", "alice"))["value"], false);
}

#[test]
fn rock_paper_scissors_ends_the_same_for_both_and_hides_the_choice() {
    let node = Node::start("attic", &[]);
    settle(&node);
    make(&node, "rps", "left");
    node.done(&["element", "create", "rps", "--name", "right"]);
    node.done(&["account", "add", "bob"]);
    let (left, right) = ("alice/house/left", "alice/house/right");
    node.done(&["element", "give", right, "bob", "--as", "alice"]);
    let play = ["action", "call", left, "play", "--arg", "rival=right", "--as", "alice"];
    let choose = |element, choice: &str, account| {
        let choice = format!("choice={choice}");
        node.done(&["action", "call", element, "choose", "--arg", &choice, "--as", account]);
    };

    choose(left, "rock", "alice");
    assert_eq!(node.refused(&play, 5, "refused")["detail"], "the rival has not chosen");
    choose(right, "scissors", "bob");
    let look = ["element", "get", right, "choice", "--as", "alice"];
    node.refused(&look, 5, "not_permitted");

    let rounds =
        [("rock", "scissors", "left"), ("rock", "paper", "right"), ("paper", "paper", "draw")];
    for (of_left, of_right, winner) in rounds {
        choose(left, of_left, "alice");
        choose(right, of_right, "bob");
        node.done(&play);
        for player in [left, right] {
            node.until(&["element", "get", player, "winner"], |read| read["value"] == winner);
        }
    }
}

#[test]
fn another_server_reads_the_weather_rounded_and_keeps_it() {
    let mut attic = Node::start("attic", &[]);
    let desk = Node::start("desk", &[&attic]);
    settle(&attic);
    make(&attic, "weather", "station");
    let station = "alice@attic/house/station";
    let read = ["element", "get", station, "temperature"];

    attic.done(&["element", "set", "station", "calibration", "0.5"]);
    attic.done(&["action", "call", "station", "measure", "--arg", "degrees=21.75"]);
    let first = desk.done(&read);
    assert_eq!((&first["value"], &first["cached"]), (&json!(21), &json!(false)));
    let again = desk.done(&read);
    assert_eq!((&again["value"], &again["cached"]), (&json!(21), &json!(true)));

    // What is the owner's alone is not there for another server.
    desk.refused(&["element", "get", station, "calibration"], 5, "not_offered");
    let measure = ["action", "call", station, "measure", "--arg", "degrees=40"];
    desk.refused(&measure, 5, "not_offered");

    // The station tells who keeps a value that there is another; then it may be away.
    attic.done(&["action", "call", "station", "measure", "--arg", "degrees=3.75"]);
    desk.until(&read, |read| read["value"] == 3);
    assert_eq!(attic.stop(), 0);
    let kept = desk.done(&read);
    assert_eq!((&kept["value"], &kept["cached"]), (&json!(3), &json!(true)));
}

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Gives a node its first account, alice, with a world.
fn settle(node: &Node) {
    node.done(&["account", "add", "alice"]);
    node.done(&["world", "add", "alice/house"]);
}

/// Publishes an example, and makes an element from it. Nobody but alice is there yet.
fn make(node: &Node, example: &str, name: &str) {
    let file = examples().join(format!("{example}.toml"));
    node.done(&["type", "publish", path(&file)]);
    node.done(&["element", "create", example, "--name", name]);
}

fn value(node: &Node, element: &str, attribute: &str) -> Json {
    node.done(&["element", "get", element, attribute])["value"].clone()
}

/// The words that set something of the chest.
fn set<'a>(attribute: &'a str, value: &'a str, account: &'a str) -> [&'a str; 7] {
    ["element", "set", CHEST, attribute, value, "--as", account]
}

/// Chooses the time zone in which it is this hour now.
fn turn_clock_to(node: &Node, hour: u64) {
    std::fs::create_dir_all(&node.home).unwrap();
    let file = node.home.join("freehold.toml");
    std::fs::write(&file, "").unwrap();
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    let now = written.duration_since(UNIX_EPOCH).unwrap().as_secs() / 3_600 % 24;
    // In these names the sign is turned round: 14 hours ahead of UTC is GMT-14.
    let zone = match (hour + 24 - now) % 24 {
        ahead @ 0..=14 => format!("Etc/GMT-{ahead}"),
        ahead => format!("Etc/GMT+{}", 24 - ahead),
    };
    std::fs::write(&file, format!("time_zone = \"{zone}\"\n")).unwrap();
}
