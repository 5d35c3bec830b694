//! What happens to real homes and networks: a truth that went back, cables that are cut, and
//! neighbours that nobody named.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect ends there")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use freehold::model::{Changes, Contact, Key, Outbox, Row, ServerId, Snapshot, Timestamp, Turn};
use freehold::store::{Folder, Store};
use serde_json::{Value as Json, json};
use support::{Node, done, furnish};

/// A node's lamp, as it names it itself.
const OWN_LAMP: &str = "alice/garden/lamp";
/// The kitchen's lamp, as the attic names it.
const LAMP: &str = "alice@kitchen/garden/lamp";
/// More calls than a lane may hold open.
const MANY: u64 = 9_000;
/// How long nodes that must not meet are left alone. Those that may meet need a second or less.
const ALONE: Duration = Duration::from_secs(3);

// A clock that went back.

#[test]
fn a_node_whose_machine_has_lost_the_time_goes_on_from_where_it_was() {
    let mut attic = Node::home("attic");
    settings(&attic, "mdns = false\n");
    attic.restart();
    furnish(&attic);
    assert_eq!(done(&attic, "status")["clock_jumped_ms"], Json::Null);
    assert_eq!(done(&attic, "node clock")["jumped_ms"], Json::Null);
    assert_eq!(attic.stop(), 0);
    let later = move_last_turn(&attic, 3 * 3_600_000);

    attic.restart();

    let toggled = done(&attic, "action call lamp toggle");
    assert_eq!(toggled["result"]["on"], true, "{toggled}");
    let shown = done(&attic, "node clock");
    let now: Timestamp = time(&shown["now"]);
    assert!(now >= later, "{shown}");
    let jumped = shown["jumped_ms"].as_i64().unwrap();
    assert!((-10_800_000..-10_000_000).contains(&jumped), "{shown}");
    assert!(done(&attic, "status")["clock_jumped_ms"].is_i64());
    // Said to be right, it is waited for; time goes on all the same.
    let confirmed = done(&attic, "node clock --confirm");
    assert!(time(&confirmed["now"]) >= now, "{confirmed}");
    assert_eq!(done(&attic, "node clock")["jumped_ms"], Json::Null);
    assert_eq!(done(&attic, "action call lamp toggle")["result"]["on"], false);
}

// A truth that went back.

#[test]
fn a_home_that_was_put_back_from_an_old_copy_begins_a_new_life() {
    let (mut attic, mut kitchen) = attic_that_knows_the_kitchen();
    assert_eq!(steps(&attic, 3), [1, 2, 3]);
    let first = life_of(&attic);

    // Nothing went back: the same life goes on.
    assert_eq!(attic.stop(), 0);
    attic.restart();
    assert_eq!(life_of(&attic), first, "{}", attic.log());
    assert_eq!(steps(&attic, 1), [4]);

    // The copy holds a call that was not answered yet. After it, the call is told and done.
    let (copy, open) = copied_with_an_open_call(&mut attic, &mut kitchen);
    kitchen.until(&["element", "get", OWN_LAMP, "count"], |read| read["value"] == 5);
    assert_eq!(steps(&attic, 3), [6, 7, 8]);

    put_back(&mut attic, &copy);

    let second = life_of(&attic);
    assert_ne!(second, first, "{}", attic.log());
    // The new life does not tell again what the old one told, nor what it does not know the end of.
    let job = attic.done(&["job", "show", &open]);
    assert_eq!(
        (&job["outcome"], &job["problem"]["code"]),
        (&json!("failed"), &json!("conflict")),
        "{job}"
    );
    // Its numbers were given before, by the old life. Each is run, once, with an answer of its own.
    assert_eq!(steps(&attic, 5), [9, 10, 11, 12, 13]);
    assert_eq!(kitchen.done(&["element", "get", OWN_LAMP, "count"])["value"], 13);
    assert_eq!(kitchen.done(&["server", "show", "attic"])["state"], "pending");
    assert_eq!(kitchen.done(&["inbox"])["items"], json!([]));

    // The new life is one like any other.
    assert_eq!(attic.stop(), 0);
    attic.restart();
    assert_eq!(life_of(&attic), second, "{}", attic.log());
    assert_eq!(steps(&attic, 1), [14]);
}

#[test]
fn a_home_that_was_put_back_twice_begins_a_new_life_each_time() {
    let (mut attic, mut kitchen) = attic_that_knows_the_kitchen();
    assert_eq!(steps(&attic, 1), [1]);
    let first = life_of(&attic);
    let (copy, _) = copied_with_an_open_call(&mut attic, &mut kitchen);
    kitchen.until(&["element", "get", OWN_LAMP, "count"], |read| read["value"] == 2);

    put_back(&mut attic, &copy);
    let second = life_of(&attic);
    assert_eq!(steps(&attic, 1), [3]);
    put_back(&mut attic, &copy);
    let third = life_of(&attic);

    assert_ne!(second, first, "{}", attic.log());
    assert_ne!(third, first, "the first life goes on where it was copied:\n{}", attic.log());
    assert_ne!(third, second, "{}", attic.log());
    assert_eq!(steps(&attic, 1), [4], "what the copy holds open was told again");
}

#[test]
fn a_new_life_can_tell_however_much_the_one_before_it_told() {
    let (mut attic, kitchen) = attic_that_knows_the_kitchen();
    assert_eq!(steps(&attic, 1), [1]);
    count_on(&mut attic, &kitchen);
    assert_eq!(steps(&attic, 1), [2]);
    let copy = copied(&mut attic);
    attic.restart();
    assert_eq!(steps(&attic, 1), [3]);

    put_back(&mut attic, &copy);

    assert_eq!(steps(&attic, 2), [4, 5]);
}

#[test]
fn a_server_that_went_back_to_before_it_met_another_takes_what_that_one_tells() {
    let mut kitchen = Node::start("kitchen", &[]);
    furnish(&kitchen);
    let copy = copied(&mut kitchen);
    kitchen.restart();
    let mut attic = Node::start("attic", &[&kitchen]);
    assert_eq!(steps(&attic, 1), [1]);
    count_on(&mut attic, &kitchen);
    assert_eq!(steps(&attic, 1), [2]);

    put_back(&mut kitchen, &copy);

    assert_eq!(steps(&attic, 2), [1, 2]);
}

// Contact that is lost and found.

#[test]
fn a_server_that_went_away_is_shown_as_away_with_the_time_of_the_next_try() {
    let (attic, mut kitchen) = attic_that_knows_the_kitchen();
    attic.until(&["server", "show", "kitchen"], |shown| shown["connected"] == true);

    assert_eq!(kitchen.stop(), 0);

    attic.until(&["server", "show", "kitchen"], |shown| {
        shown["connected"] == false && shown["next_try"].is_string()
    });
}

#[test]
fn a_bench_of_calls_is_shown_beside_exchanges_that_say_nothing() {
    let (attic, _kitchen) = attic_that_knows_the_kitchen();

    let measured = attic.done(&["bench", LAMP, "step", "--calls", "20"]);

    assert_eq!((&measured["calls"], &measured["failed"]), (&json!(20), &json!(0)));
    let bare = &measured["bare_exchange"];
    assert!(bare["per_second"].as_f64() > Some(0.0), "{measured}");
    assert!(bare["ms"].as_f64() <= bare["p99_ms"].as_f64(), "{measured}");
    attic.refused(&["peer", "ping", "nobody"], 4, "not_found");
}

#[test]
fn two_machines_call_each_other_again_when_their_cable_is_mended() {
    let Some(cable) = Cable::laid() else { return };
    let (attic, kitchen) = cable.joined("udp/0/quic-v1");
    assert_eq!(attic.done(&["element", "get", LAMP, "on"])["value"], false);
    assert_eq!(steps(&attic, 1), [1]);

    cable.cut();

    // What is on its way just then is not answered in time, and may have been done or not.
    attic.refused(&["element", "get", LAMP, "count", "--timeout", "2s"], 6, "timed_out");
    attic.refused(&["action", "call", LAMP, "step", "--timeout", "2s"], 6, "outcome_unknown");
    attic.until(&["peer", "ls"], |peers| peers["items"] == json!([]));
    // From here on nothing is handed over, and every address that was tried is named.
    let problem =
        attic.refused(&["action", "call", LAMP, "step", "--timeout", "3s"], 3, "peer_unreachable");
    assert_tried(&problem, &kitchen);
    let kept = attic.done(&["element", "get", LAMP, "on"]);
    assert_eq!((&kept["value"], &kept["stale"]), (&json!(false), &json!(true)));

    cable.mend();

    attic.done(&["action", "call", LAMP, "step", "--timeout", "30s"]);
    assert_each_was_done_once(&attic, &kitchen);
}

#[test]
fn a_cut_that_ends_before_anybody_hangs_up_loses_nothing_and_doubles_nothing() {
    let Some(cable) = Cable::laid() else { return };
    let (attic, kitchen) = cable.joined("tcp/0");
    assert_eq!(steps(&attic, 1), [1]);

    cable.cut();

    attic.refused(&["element", "get", LAMP, "count", "--timeout", "2s"], 6, "timed_out");
    attic.refused(&["action", "call", LAMP, "step", "--timeout", "2s"], 6, "outcome_unknown");
    // The next one waits behind it, so it was not handed over.
    let problem =
        attic.refused(&["action", "call", LAMP, "step", "--timeout", "2s"], 3, "peer_unreachable");

    cable.mend();

    attic.done(&["action", "call", LAMP, "step", "--timeout", "30s"]);
    assert_each_was_done_once(&attic, &kitchen);
    assert_tried(&problem, &kitchen);
}

#[test]
fn a_machine_that_got_another_address_calls_again_without_a_restart() {
    let Some(cable) = Cable::laid() else { return };
    let mut attic = cable.attic.home("attic", &[]);
    attic.listen_first = vec!["/ip4/0.0.0.0/tcp/0".to_owned()];
    let mut kitchen = cable.kitchen.home("kitchen", &["tcp/0"]);
    join(&mut attic, &mut kitchen);
    assert_eq!(steps(&attic, 1), [1]);

    cable.attic.ip(&["address", "del", "10.0.0.1/24", "dev", "cable"]).unwrap();
    cable.attic.ip(&["address", "add", "10.0.0.3/24", "dev", "cable"]).unwrap();

    attic.done(&["action", "call", LAMP, "step", "--timeout", "30s"]);
    assert_each_was_done_once(&attic, &kitchen);
}

#[test]
fn nodes_on_one_network_find_each_other_unless_that_is_switched_off() {
    let Some(cable) = Cable::laid() else { return };
    let mut attic = cable.attic.home("attic", &["udp/0/quic-v1", "tcp/0"]);
    let mut kitchen = cable.kitchen.home("kitchen", &["udp/0/quic-v1", "tcp/0"]);

    for node in [&mut attic, &mut kitchen] {
        settings(node, "mdns = false\n");
        node.restart();
    }
    std::thread::sleep(ALONE);
    for node in [&attic, &kitchen] {
        assert_eq!(node.done(&["peer", "ls"])["items"], json!([]), "{}", node.log());
        assert_eq!(node.done(&["server", "ls"])["items"], json!([]), "{}", node.log());
    }

    for node in [&mut attic, &mut kitchen] {
        assert_eq!(node.stop(), 0);
        settings(node, "mdns = true\n");
        node.restart();
    }
    attic.until(&["peer", "ls"], |peers| has(peers, "kitchen"));
    kitchen.until(&["peer", "ls"], |peers| has(peers, "attic"));
    attic.until(&["server", "ls"], |servers| has(servers, "kitchen"));

    // Who was found so is a server like any other.
    furnish(&kitchen);
    assert_eq!(steps(&attic, 1), [1]);
}

// What the tests stand on.

/// Two nodes with a lamp each, of which the attic calls the kitchen.
fn attic_that_knows_the_kitchen() -> (Node, Node) {
    let kitchen = Node::start("kitchen", &[]);
    let attic = Node::start("attic", &[&kitchen]);
    furnish(&kitchen);
    furnish(&attic);
    (attic, kitchen)
}

/// Steps the kitchen's lamp from the attic, and gives back what it counted.
fn steps(attic: &Node, times: usize) -> Vec<i64> {
    let step = ["action", "call", LAMP, "step", "--timeout", "10s"];
    (0..times).map(|_| attic.done(&step)["result"]["count"].as_i64().unwrap()).collect()
}

/// The log in which a node numbers what happens at home. Each life of its store has its own.
fn life_of(node: &Node) -> String {
    let followed = node.events(&[]);
    let own = |event: &Json| event["origin"] == node.ready["server_id"];
    // Only what happens from now on is told, and following takes a moment to begin.
    node.until(&["action", "call", OWN_LAMP, "step"], |_| followed.so_far().iter().any(own));
    let events = followed.so_far();
    let id = events.iter().find(|event| own(event)).unwrap()["id"].as_str().unwrap();
    id.split(':').next().unwrap().to_owned()
}

/// A copy of a node's truth. The node is stopped for it.
fn copied(node: &mut Node) -> PathBuf {
    assert_eq!(node.stop(), 0);
    let copy = node.home.with_extension("copy");
    fs::copy(node.home.join("home.redb"), &copy).unwrap();
    copy
}

/// A copy of the attic's truth, taken while a call of its waited for the kitchen, and the call's
/// job. Both nodes go on afterwards.
fn copied_with_an_open_call(attic: &mut Node, kitchen: &mut Node) -> (PathBuf, String) {
    assert_eq!(kitchen.stop(), 0);
    let mut caller = attic
        .program()
        .args(["action", "call", LAMP, "step", "--timeout", "60s"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    attic.until(&["status"], |status| status["jobs"] == 1);
    caller.kill().unwrap();
    caller.wait().unwrap();
    let jobs = attic.done(&["job", "ls"]);
    let items = jobs["items"].as_array().unwrap();
    let open = items.iter().find(|job| job["status"] == "started").unwrap();
    let copy = copied(attic);
    kitchen.restart();
    attic.restart();
    (copy, open["id"].as_str().unwrap().to_owned())
}

/// Lets the newest turn of a node that does not run be of a later time, which it gives back.
fn move_last_turn(node: &Node, later_ms: u64) -> Timestamp {
    let store =
        Store::open(Folder(node.home.clone()), Arc::new(|_: ServerId| Contact::default())).unwrap();
    let last = store.view().unwrap().last_row(&Key::Turn(0), &Key::Turn(u64::MAX)).unwrap();
    let Some((key, Row::Turn(turn))) = last else { panic!("there is no turn") };
    let at = turn.at.after_ms(later_ms);
    let moved = Turn { at, ..turn.as_ref().clone() };
    store.commit(&Changes::from([(key, Some(Row::Turn(Arc::new(moved))))])).unwrap();
    at
}

fn time(json: &Json) -> Timestamp {
    let at: jiff::Timestamp = json.as_str().unwrap().parse().unwrap();
    Timestamp::from_ms(u64::try_from(at.as_millisecond()).unwrap())
}

/// Puts a copy of a node's truth back, and nothing else of its home.
fn put_back(node: &mut Node, copy: &Path) {
    assert_eq!(node.stop(), 0);
    fs::copy(copy, node.home.join("home.redb")).unwrap();
    node.restart();
}

/// Lets the attic stand where it told the kitchen many things, and all of them were answered.
fn count_on(attic: &mut Node, kitchen: &Node) {
    assert_eq!(attic.stop(), 0);
    let server: ServerId = kitchen.ready["server_id"].as_str().unwrap().parse().unwrap();
    let outbox = Row::Outbox(Arc::new(Outbox { last: MANY, open: Vec::new() }));
    let store = Store::open(Folder(attic.home.clone()), Arc::new(|_: ServerId| Contact::default()))
        .unwrap();
    store.commit(&Changes::from([(Key::Outbox(server), Some(outbox))])).unwrap();
    drop(store);
    attic.restart();
}

/// Writes the settings of a node that does not run.
fn settings(node: &Node, text: &str) {
    fs::create_dir_all(&node.home).unwrap();
    fs::write(node.home.join("freehold.toml"), text).unwrap();
}

/// Starts both, gives the kitchen a lamp, and lets the attic join it by its address alone.
fn join(attic: &mut Node, kitchen: &mut Node) {
    for node in [&mut *attic, &mut *kitchen] {
        settings(node, "mdns = false\n");
        node.restart();
    }
    furnish(kitchen);
    let joined = attic.done(&["join", &kitchen.listen()[0]]);
    assert_eq!(joined["name"], "kitchen");
}

/// Whether a list has an item of this name.
fn has(list: &Json, name: &str) -> bool {
    list["items"].as_array().is_some_and(|items| items.iter().any(|item| item["name"] == name))
}

/// Checks that a problem names where the kitchen was tried, and why that failed.
fn assert_tried(problem: &Json, kitchen: &Node) {
    let address = kitchen.listen()[0].split("/p2p/").next().unwrap_or_default().to_owned();
    let tries = problem["tries"].as_array().unwrap();
    let tried = tries.iter().any(|tried| {
        tried["address"].as_str().is_some_and(|named| named.starts_with(&address))
            && tried["reason"].as_str().is_some_and(|reason| !reason.is_empty())
    });
    assert!(tried, "{address} is not among what was tried: {problem}");
}

/// Checks that every call settles by itself, and that each that is said to be done was done once.
fn assert_each_was_done_once(attic: &Node, kitchen: &Node) {
    attic.until(&["status"], |status| status["jobs"] == 0);
    let jobs = attic.done(&["job", "ls"]);
    let items = jobs["items"].as_array().unwrap().iter();
    let done = items.filter(|job| job["command"] == "action.call" && job["outcome"] == "done");
    let count = kitchen.done(&["element", "get", OWN_LAMP, "count"])["value"].as_i64().unwrap();
    assert_eq!(usize::try_from(count).unwrap(), done.count(), "{jobs}");
}

/// Two machines on one cable, with no other network.
struct Cable {
    attic: Machine,
    kitchen: Machine,
}

impl Cable {
    /// Lays one; none, and said so, where that is not allowed.
    fn laid() -> Option<Self> {
        match Self::lay() {
            Ok(cable) => Some(cable),
            Err(reason) => {
                println!("SKIPPED: no two network namespaces can be joined here: {reason}");
                None
            }
        }
    }

    fn lay() -> Result<Self, String> {
        let attic = Machine::new()?;
        let kitchen = attic.another()?;
        let process = kitchen.holder.id().to_string();
        attic.ip(&[
            "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &process,
        ])?;
        for machine in [&attic, &kitchen] {
            let address = format!("{}/24", machine.address);
            machine.ip(&["address", "add", &address, "dev", "cable"])?;
            machine.ip(&["link", "set", "lo", "up"])?;
            machine.ip(&["link", "set", "cable", "up"])?;
        }
        Ok(Self { attic, kitchen })
    }

    /// Two nodes that speak over this transport alone; the attic has joined the kitchen.
    fn joined(&self, transport: &str) -> (Node, Node) {
        let mut attic = self.attic.home("attic", &[transport]);
        let mut kitchen = self.kitchen.home("kitchen", &[transport]);
        join(&mut attic, &mut kitchen);
        (attic, kitchen)
    }

    fn cut(&self) {
        self.kitchen.ip(&["link", "set", "cable", "down"]).unwrap();
    }

    fn mend(&self) {
        self.kitchen.ip(&["link", "set", "cable", "up"]).unwrap();
    }
}

/// What a program is started through to be where another process is, as root.
const AS_ROOT: &[&str] = &["nsenter", "--net", "--target"];
/// The same, where the other process has users of its own.
const AS_USER: &[&str] = &["nsenter", "--user", "--preserve-credentials", "--net", "--target"];

/// A machine, as far as its network goes: a namespace that is gone when nobody is in it any more.
struct Machine {
    address: &'static str,
    /// Sits in the namespace and does nothing. It ends with whoever holds its input.
    holder: Child,
    enter: &'static [&'static str],
}

impl Machine {
    /// A machine of its own: as root, or else with users of its own.
    fn new() -> Result<Self, String> {
        let address = "10.0.0.1";
        match hold(&[], &["unshare", "--net"]) {
            Ok(holder) => Ok(Self { address, holder, enter: AS_ROOT }),
            Err(_) => {
                let holder = hold(&[], &["unshare", "--user", "--map-root-user", "--net"])?;
                Ok(Self { address, holder, enter: AS_USER })
            }
        }
    }

    /// A machine that may be joined to this one.
    fn another(&self) -> Result<Self, String> {
        let holder = hold(&self.through(), &["unshare", "--net"])?;
        Ok(Self { address: "10.0.0.2", holder, enter: self.enter })
    }

    /// What a program is started through to be here.
    fn through(&self) -> Vec<String> {
        let words = self.enter.iter().map(|word| (*word).to_owned());
        words.chain([self.holder.id().to_string()]).collect()
    }

    /// A home whose node will run here, and listen with these transports.
    fn home(&self, name: &str, transports: &[&str]) -> Node {
        let mut node = Node::home(name);
        node.through = self.through();
        node.listen_first = transports
            .iter()
            .map(|transport| format!("/ip4/{}/{transport}", self.address))
            .collect();
        node
    }

    /// Runs `ip` here.
    fn ip(&self, words: &[&str]) -> Result<(), String> {
        let through = self.through();
        let output = Command::new(&through[0])
            .args(&through[1..])
            .arg("ip")
            .args(words)
            .output()
            .map_err(|error| format!("{}: {error}", through[0]))?;
        if output.status.success() {
            return Ok(());
        }
        let says = String::from_utf8_lossy(&output.stderr);
        Err(format!("ip {}: {}", words.join(" "), says.trim()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// Starts a process that does nothing, through these words, and waits until it is there.
fn hold(through: &[String], words: &[&str]) -> Result<Child, String> {
    let before = through.iter().map(String::as_str);
    let words: Vec<&str> = before.chain(words.iter().copied()).chain(["cat"]).collect();
    let mut holder = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", words[0]))?;
    // Where it cannot be, it ends without reading this.
    holder.stdin.as_mut().unwrap().write_all(b"there\n").ok();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line == "there\n" {
        return Ok(holder);
    }
    let ended = holder.wait_with_output().map_err(|error| error.to_string())?;
    Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned())
}
