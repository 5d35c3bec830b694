//! `freehold demo`: three nodes of this program with homes of their own, and what they really
//! answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::ArgMatches;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Globals, Wish};
use crate::model::{Code, Json, Problem};

/// How long a node may take to start.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a command that waits for others is tried.
const TRIES: u32 = 50;
const NAMES: [&str; 3] = ["attic", "kitchen", "cellar"];
const LAMP: &str = include_str!("../../examples/lamp.toml");

struct DemoNode {
    name: &'static str,
    home: PathBuf,
    child: Child,
    listen: Vec<String>,
}

struct Demo {
    program: PathBuf,
    folder: PathBuf,
    nodes: Vec<DemoNode>,
}

fn failed(says: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, says.to_string())
}

pub(super) async fn run(_globals: &Globals, matches: &ArgMatches) -> Result<Wish, Problem> {
    let keep = matches.get_one::<String>("keep").map(PathBuf::from);
    let folder = match &keep {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("freehold-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)
        .map_err(|error| failed(format!("{}: {error}", folder.display())))?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut demo = Demo { program, folder: folder.clone(), nodes: Vec::new() };
    let result = tokio::select! {
        result = demo.play(matches.get_one::<String>("exec").map(String::as_str)) => result,
        _ = tokio::signal::ctrl_c() => Ok(0),
    };
    demo.stop().await;
    if keep.is_none() {
        std::fs::remove_dir_all(&folder).ok();
    } else {
        println!("\nkept in {}", folder.display());
    }
    result.map(Wish::Exit)
}

impl Demo {
    async fn play(&mut self, exec: Option<&str>) -> Result<u8, Problem> {
        println!(
            "Three nodes of this program, each with a home of its own in {}.\n",
            self.folder.display()
        );
        self.start(0).await?;
        self.write_bootstrap()?;
        self.start(1).await?;
        self.start(2).await?;
        if let Some(exec) = exec {
            return self.exec(exec).await;
        }
        self.story().await?;
        println!("\nThe nodes stay up. Events as they come; end with Ctrl-C.\n");
        let mut events =
            self.command(1, &["events"]).stdout(Stdio::inherit()).spawn().map_err(failed)?;
        events.wait().await.map_err(failed)?;
        Ok(0)
    }

    async fn start(&mut self, at: usize) -> Result<(), Problem> {
        let name = NAMES[at];
        let home = self.folder.join(name);
        let mut args = vec!["run", "--name", name, "--json", "--api", "127.0.0.1:0"];
        args.extend([
            "--listen",
            "/ip4/127.0.0.1/udp/0/quic-v1",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
        ]);
        let bootstrap = self.folder.join("bootstrap.toml").display().to_string();
        if at > 0 {
            args.extend(["--bootstrap", &bootstrap]);
        }
        println!("$ freehold --home {} {}", home.display(), args.join(" "));
        let log = std::fs::File::create(self.folder.join(format!("{name}.log"))).map_err(failed)?;
        let mut child = Command::new(&self.program)
            .arg("--home")
            .arg(&home)
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().ok_or_else(|| failed("the node has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = tokio::time::timeout(START_TIME_MAX, lines.next_line()).await;
        let ready = ready.map_err(|_| failed("a node did not start in time"))?.map_err(failed)?;
        let ready = ready.ok_or_else(|| {
            failed(format!(
                "a node did not start: see {}",
                self.folder.join(format!("{name}.log")).display()
            ))
        })?;
        println!("{ready}");
        let ready: Json = serde_json::from_str(&ready).map_err(failed)?;
        let listen = ready.get("listen").and_then(Json::as_array).into_iter().flatten();
        let listen = listen.filter_map(Json::as_str).map(str::to_owned).collect();
        self.nodes.push(DemoNode { name, home, child, listen });
        Ok(())
    }

    fn write_bootstrap(&self) -> Result<(), Problem> {
        let peers: Vec<String> =
            self.nodes[0].listen.iter().map(|address| format!("  \"{address}\",\n")).collect();
        let text = format!("# The first peers of this demo.\npeers = [\n{}]\n", peers.concat());
        let path = self.folder.join("bootstrap.toml");
        std::fs::write(&path, &text).map_err(failed)?;
        println!("\n{}:\n{text}", path.display());
        Ok(())
    }

    fn command(&self, at: usize, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--home")
            .arg(&self.nodes[at].home)
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command on one node, and shows what it answers.
    async fn say(&self, at: usize, args: &[&str]) -> Result<(bool, String), Problem> {
        let output = self.command(at, args).output().await.map_err(failed)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let shown =
            if output.status.success() { text(&output.stdout) } else { text(&output.stderr) };
        Ok((output.status.success(), shown))
    }

    async fn show(&self, at: usize, args: &[&str]) -> Result<(), Problem> {
        println!("{}$ freehold {}", self.nodes[at].name, args.join(" "));
        let (_, shown) = self.say(at, args).await?;
        println!("{shown}\n");
        Ok(())
    }

    /// Waits until a command answers with a text that holds `wanted`.
    async fn until(&self, at: usize, args: &[&str], wanted: &str) -> Result<String, Problem> {
        for _ in 0..TRIES {
            let (done, shown) = self.say(at, args).await?;
            if done && shown.contains(wanted) {
                return Ok(shown);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(failed(format!("'freehold {}' did not come to show '{wanted}'", args.join(" "))))
    }

    async fn story(&self) -> Result<(), Problem> {
        let lamp = self.folder.join("lamp.toml");
        std::fs::write(&lamp, LAMP).map_err(failed)?;
        let lamp = lamp.display().to_string();
        println!("The attic has an account, a world and a lamp.\n");
        self.show(0, &["account", "add", "alice"]).await?;
        self.show(0, &["world", "add", "alice/garden"]).await?;
        self.show(0, &["type", "publish", &lamp, "--as", "alice"]).await?;
        self.show(
            0,
            &[
                "element",
                "create",
                "lamp",
                "--name",
                "lamp",
                "--world",
                "alice/garden",
                "--as",
                "alice",
            ],
        )
        .await?;
        println!("The kitchen sees it, and toggles it: that is public.\n");
        self.show(1, &["element", "get", "alice@attic/garden/lamp", "on"]).await?;
        self.show(1, &["action", "call", "alice@attic/garden/lamp", "toggle"]).await?;
        self.show(1, &["element", "get", "alice@attic/garden/lamp", "on"]).await?;
        println!("Setting it is for the family, and the secret is nobody's business.\n");
        self.show(1, &["element", "set", "alice@attic/garden/lamp", "on", "false"]).await?;
        self.show(1, &["element", "get", "alice@attic/garden/lamp", "secret"]).await?;
        println!("Each operator puts the other on the list 'family'.\n");
        self.show(0, &["protection", "add", "family", "kitchen"]).await?;
        let inbox = self.until(1, &["inbox", "--json"], "\"kind\":\"protection\"").await?;
        self.show(1, &["inbox"]).await?;
        let entry = serde_json::from_str::<Json>(&inbox).map_err(failed)?;
        let entry = entry["items"][0]["id"].as_str().unwrap_or_default().to_owned();
        self.show(1, &["approve", &entry]).await?;
        self.until(0, &["protection", "show", "family", "kitchen"], "active").await?;
        self.show(1, &["element", "set", "alice@attic/garden/lamp", "on", "false"]).await?;
        println!("The cellar finds alice by her id alone.\n");
        let alice = self.until(0, &["account", "show", "alice", "--json"], "\"id\"").await?;
        let alice: Json = serde_json::from_str(&alice).map_err(failed)?;
        let alice = alice["id"].as_str().unwrap_or_default().to_owned();
        // The network hears of it a moment after the type was published.
        self.until(2, &["account", "show", &alice], "alice").await?;
        self.show(2, &["account", "show", &alice]).await
    }

    async fn exec(&self, script: &str) -> Result<u8, Problem> {
        for at in 1..NAMES.len() {
            self.until(at, &["server", "ls"], NAMES[0]).await?;
        }
        let folder = self.program.parent().map(Path::to_path_buf).unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(folder).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(paths).map_err(failed)?;
        let status = Command::new("sh")
            .args(["-c", script])
            .env("FREEHOLD_HOME", &self.nodes[0].home)
            .env("PATH", path)
            .status()
            .await
            .map_err(failed)?;
        Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
    }

    async fn stop(&mut self) {
        for at in 0..self.nodes.len() {
            // It may have ended by itself: then there is nothing to stop.
            self.say(at, &["stop"]).await.ok();
        }
        for node in &mut self.nodes {
            if tokio::time::timeout(STOP_TIME_MAX, node.child.wait()).await.is_err() {
                node.child.kill().await.ok();
            }
        }
    }
}
