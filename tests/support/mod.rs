//! Real nodes for tests: processes of this program on loopback, with nothing shared but the
//! network.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

/// How long something that happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A type with a public counter, a protected switch, and private things.
pub(crate) const LAMP: &str = include_str!("../../examples/lamp.toml");

/// A home, and the node that runs on it, if one does.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    pub(crate) ready: Json,
    /// What its process is started through, such as `nsenter` with its words; mostly nothing.
    pub(crate) through: Vec<String>,
    /// Where it listens when it has not run yet.
    pub(crate) listen_first: Vec<String>,
    child: Option<Child>,
    folder: tempfile::TempDir,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) out: Json,
    pub(crate) err: Json,
    pub(crate) text: String,
}

impl Node {
    /// A home without a node.
    pub(crate) fn home(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        Self {
            name: name.to_owned(),
            home,
            ready: Json::Null,
            through: Vec::new(),
            listen_first: vec![
                "/ip4/127.0.0.1/udp/0/quic-v1".to_owned(),
                "/ip4/127.0.0.1/tcp/0".to_owned(),
            ],
            child: None,
            folder,
        }
    }

    /// A node that is ready, with first peers or without.
    pub(crate) fn start(name: &str, peers: &[&Node]) -> Self {
        let mut node = Self::home(name);
        node.write_bootstrap(peers);
        node.restart();
        node
    }

    /// A file beside the home.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Names the first peers.
    pub(crate) fn write_bootstrap(&self, peers: &[&Node]) {
        let listed: Vec<String> = peers
            .iter()
            .flat_map(|peer| peer.listen())
            .map(|address| format!("  \"{address}\",\n"))
            .collect();
        self.file("bootstrap.toml", &format!("peers = [\n{}]\n", listed.concat()));
    }

    /// Arguments of `run`: mostly they keep to loopback. Ports stay the same over restarts.
    fn run_arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["run", "--json", "--name", &self.name, "--api", "127.0.0.1:0"]
                .map(str::to_owned)
                .to_vec();
        let again = self.listen();
        let listen = if again.is_empty() { self.listen_first.clone() } else { again };
        for address in listen {
            let address = address.split("/p2p/").next().unwrap_or_default().to_owned();
            arguments.extend(["--listen".to_owned(), address]);
        }
        let bootstrap = self.folder.path().join("bootstrap.toml");
        if bootstrap.exists() {
            arguments.extend(["--bootstrap".to_owned(), bootstrap.display().to_string()]);
        }
        arguments
    }

    /// Starts the node, and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let mut words = self.through.clone();
        words.push(env!("CARGO_BIN_EXE_freehold").to_owned());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .arg("--home")
            .arg(&self.home)
            .current_dir(self.folder.path())
            .env_remove("FREEHOLD_BOOTSTRAP")
            .args(self.run_arguments())
            .env("FREEHOLD_LOG", "warn,freehold=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{} did not start:\n{}", self.name, self.log());
        self.ready = serde_json::from_str(&line).unwrap();
        self.child = Some(child);
    }

    /// What the node logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The program, on this home.
    pub(crate) fn program(&self) -> Command {
        // Nothing that a test starts outlives it by much, whatever goes wrong.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120", env!("CARGO_BIN_EXE_freehold")]);
        command.arg("--home").arg(&self.home).current_dir(self.folder.path());
        for name in [
            "FREEHOLD_HOME",
            "FREEHOLD_AS",
            "FREEHOLD_WORLD",
            "FREEHOLD_BOOTSTRAP",
            "FREEHOLD_TIMEOUT",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Where it listens.
    pub(crate) fn listen(&self) -> Vec<String> {
        let listen = self.ready.get("listen").and_then(Json::as_array);
        listen.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
    }

    /// The address of its API, such as `127.0.0.1:4751`.
    pub(crate) fn api(&self) -> String {
        self.ready["api"].as_str().unwrap().trim_start_matches("http://").to_owned()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Runs a command on it, with `--json`.
    pub(crate) fn say(&self, arguments: &[&str]) -> Said {
        said(self.program().args(arguments).arg("--json").stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a command that must be done, and gives back what it answered.
    pub(crate) fn done(&self, arguments: &[&str]) -> Json {
        let said = self.say(arguments);
        assert_eq!(said.exit, 0, "{} {arguments:?}: {said:?}\n{}", self.name, self.log());
        said.out
    }

    /// Runs a command that must fail with this exit and code, and gives back the problem.
    pub(crate) fn refused(&self, arguments: &[&str], exit: i32, code: &str) -> Json {
        let said = self.say(arguments);
        assert_eq!(
            (said.exit, said.err["code"].as_str()),
            (exit, Some(code)),
            "{} {arguments:?}: {said:?}",
            self.name
        );
        said.err
    }

    /// Runs a command until what it answers is as wanted.
    pub(crate) fn until(&self, arguments: &[&str], wanted: impl Fn(&Json) -> bool) -> Json {
        let mut last = None;
        for _ in 0..PATIENCE.as_millis() / 100 {
            let said = self.say(arguments);
            if said.exit == 0 && wanted(&said.out) {
                return said.out;
            }
            last = Some(said);
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "{} {arguments:?} did not come to be as wanted: {last:?}\n{}",
            self.name,
            self.log()
        );
    }

    /// Kills the node, as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the node as its operator would; gives back its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        self.done(&["stop"]);
        let mut child = self.child.take().unwrap();
        for _ in 0..PATIENCE.as_millis() / 100 {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        child.kill().ok();
        panic!("{} did not stop:\n{}", self.name, self.log());
    }

    /// Sends the node's process a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Follows its events into a file until the guard is dropped.
    pub(crate) fn events(&self, arguments: &[&str]) -> Events {
        let path = self.folder.path().join(format!("events-{}", arguments.len()));
        let file = std::fs::File::create(&path).unwrap();
        let child = self
            .program()
            .arg("events")
            .args(arguments)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(file)
            .spawn()
            .unwrap();
        Events { path, child }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A followed stream of events.
pub(crate) struct Events {
    path: PathBuf,
    child: Child,
}

impl Events {
    /// What came so far.
    pub(crate) fn so_far(&self) -> Vec<Json> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until as many events came as wanted.
    pub(crate) fn until(&self, wanted: impl Fn(&[Json]) -> bool) -> Vec<Json> {
        for _ in 0..PATIENCE.as_millis() / 100 {
            let events = self.so_far();
            if wanted(&events) {
                return events;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the events did not come to be as wanted: {:#?}", self.so_far());
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a process answered.
pub(crate) fn said(output: Output) -> Said {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line = text.lines().last().unwrap_or_default().to_owned();
        (serde_json::from_str(&line).unwrap_or(Json::Null), text)
    };
    let (out, _) = last(&output.stdout);
    let (err, text) = last(&output.stderr);
    Said { exit: output.status.code().unwrap_or(-1), out, err, text }
}

/// Gives a node an account alice with a world, the lamp's type, and a lamp.
pub(crate) fn furnish(node: &Node) -> String {
    let lamp = node.file("lamp.toml", LAMP);
    let alice = node.done(&["account", "add", "alice"]);
    node.done(&["world", "add", "alice/garden"]);
    node.done(&["type", "publish", path(&lamp), "--as", "alice"]);
    node.done(&[
        "element",
        "create",
        "lamp",
        "--name",
        "lamp",
        "--world",
        "alice/garden",
        "--as",
        "alice",
    ]);
    alice["id"].as_str().unwrap().to_owned()
}

/// A path as text.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A command line as words.
pub(crate) fn split(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

/// Says words that must be done, and gives back what was answered.
pub(crate) fn done(node: &Node, words: &str) -> Json {
    node.done(&split(words))
}

/// Says words that must fail with this exit and code, and gives back the problem.
pub(crate) fn refused(node: &Node, words: &str, exit: i32, code: &str) -> Json {
    node.refused(&split(words), exit, code)
}

/// The value of an element, named as `lamp on`.
pub(crate) fn value(node: &Node, words: &str) -> Json {
    done(node, &format!("element get {words}"))["value"].clone()
}

/// A text in an answer.
pub(crate) fn text(json: &Json, key: &str) -> String {
    json[key].as_str().unwrap_or_else(|| panic!("no '{key}' in {json}")).to_owned()
}

/// A call over TCP with a key: the status, and the body.
pub(crate) fn by_key(node: &Node, key: &str, command: &str, args: Json) -> (u16, Json) {
    by_key_with(node, key, &json!({"command": command, "args": args}))
}

/// The same with whatever parts of a call.
pub(crate) fn by_key_with(node: &Node, key: &str, call: &Json) -> (u16, Json) {
    let body = call.to_string();
    let host = node.api();
    let mut stream = TcpStream::connect(&host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST /api/v1/calls HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nPrefer: wait=5\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    (status, serde_json::from_str(body).unwrap())
}
