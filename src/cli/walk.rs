//! `freehold world enter` at a terminal: the room as text, what happens in it, and a line to type in.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::ArgMatches;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::call::value_of;
use super::show::{Output, print_problem, print_text};
use super::{Globals, Wish, client};
use crate::api::client::Client;
use crate::catalog;
use crate::model::Problem;

/// What can be typed.
const HELP: &str = "\
look                    what is here
say TEXT                say something (or just: 'TEXT)
move X Y [Z]            go to another place here
use THING ACTION [k=v]  call an action of a thing
get THING ATTRIBUTE     read a value of a thing
set THING ATTRIBUTE V   set a value of a thing
take THING              pick up a thing of yours
drop [WORLD]            put down what you picked up last
give WORLD              the same, in a world of somebody else: it is theirs then
lend WORLD              a copy of it stands there, and it stays yours
held                    what you have picked up
go EXIT or WORLD        through an exit, or into another world
back                    where you came from
home                    into your own world
quit                    leave this program; you stay where you are";

/// What is said before something is given away.
const THEIRS: &str = "that is somebody else's world: there it becomes theirs, for good.
'give WORLD' does that; 'lend WORLD' puts a copy there, and it stays yours";

/// How often it is looked whether one has arrived, at most.
const LOOKS_MAX: u32 = 40;
/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether there is somebody to talk with.
pub(super) fn is_possible(globals: &Globals) -> bool {
    !globals.json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// One visit, as long as somebody types.
struct Walk {
    client: Client,
    globals: Globals,
    /// Where we are: the world, and what stands before the names of its things elsewhere.
    world: String,
    before: String,
    /// The account that walks.
    account: Json,
}

/// Goes in, and walks on from there until the input ends.
pub(super) async fn run(globals: &Globals, matches: &ArgMatches) -> Result<Wish, Problem> {
    let mut walk = Walk {
        client: client(globals),
        globals: globals.clone(),
        world: String::new(),
        before: String::new(),
        account: Json::Null,
    };
    if let Some(command) = catalog::find("world.enter") {
        let entered = walk.call(command.name, super::call::arguments(command, matches)?).await?;
        walk.account = entered.get("account").cloned().unwrap_or_default();
        walk.arrive(&entered).await?;
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        prompt();
        // What happens is shown while a line is awaited; what is typed ends the listening.
        let listening = client(globals);
        let world = walk.world.clone();
        let typed = tokio::select! {
            line = lines.next_line() => line,
            ended = listening.events("", None, |event| show(&event, &world)) => {
                ended?;
                break;
            }
            _ = tokio::signal::ctrl_c() => break,
        };
        let Ok(Some(line)) = typed else { break };
        match walk.hear(line.trim()).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(problem) => print_problem(&problem, false),
        }
    }
    Ok(Wish::Exit(0))
}

fn prompt() {
    let mut out = std::io::stdout().lock();
    write!(out, "> ").and_then(|()| out.flush()).ok();
}

/// Shows one event of the world; goes on listening.
fn show(event: &Json, world: &str) -> bool {
    let text = |json: Option<&Json>| match json {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    if text(event.get("world")) != world {
        return true;
    }
    let value = event.get("value").cloned().unwrap_or_default();
    let who = text(value.get("name"));
    let line = match text(event.get("kind")).as_str() {
        "avatar_said" => format!("{who} says: {}", text(value.get("text"))),
        "avatar_moved" => {
            let at = value.get("position").cloned().unwrap_or_default();
            format!("{who} goes to {} {}", text(at.get("x")), text(at.get("y")))
        }
        "avatar_came" => format!("{who} comes in"),
        "avatar_left" => format!("{who} leaves"),
        "value_change" => {
            format!("{} is {} now", text(event.get("attribute")), text(event.get("value")))
        }
        "custom" => format!("{}!", text(event.get("name"))),
        _ => return true,
    };
    print_text(&format!("\r{line}"));
    prompt();
    true
}

/// The name of something in a room, and where it is, if that is known.
fn called(one: &Json) -> Option<String> {
    let name = one.get("name").and_then(Json::as_str)?;
    let Some(at) = one.get("position").filter(|at| at.is_object()) else {
        return Some(name.to_owned());
    };
    let axes = ["x", "y", "z"].into_iter().filter_map(|axis| at.get(axis));
    let at: Vec<String> = axes.map(ToString::to_string).collect();
    Some(format!("{name} at {}", at.join(" ")))
}

impl Walk {
    /// Makes a call as the account that walks.
    async fn call(&self, command: &str, args: Json) -> Result<Json, Problem> {
        let call = json!({
            "command": command,
            "args": args,
            "caller": self.globals.account,
            "timeout_ms": self.globals.timeout_ms,
        });
        super::call::finished(&self.globals, &self.client, &call).await
    }

    /// Does what was typed. Whether to go on.
    async fn hear(&mut self, line: &str) -> Result<bool, Problem> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (word, words.as_slice()) {
            ("", _) => {}
            ("look" | "l", _) => self.look().await?,
            ("say", _) if !rest.is_empty() => self.say(rest).await?,
            (said, _) if said.starts_with('\'') => self.say(&line[1..]).await?,
            ("move", [x, y, more @ ..]) => {
                let z = more.first().map(|z| value_of(z)).unwrap_or_default();
                let args = json!({"x": value_of(x), "y": value_of(y), "z": z});
                self.call("avatar.move", args).await?;
            }
            ("use", [thing, action, pairs @ ..]) => self.use_thing(thing, action, pairs).await?,
            ("get", [thing, attribute]) => {
                let args = json!({"element": self.name(thing), "attribute": attribute});
                let answer = self.call("element.get", args).await?;
                print_text(&answer.get("value").cloned().unwrap_or_default().to_string());
            }
            ("set", [thing, attribute, value @ ..]) if !value.is_empty() => {
                let value = value_of(&value.join(" "));
                let args =
                    json!({"element": self.name(thing), "attribute": attribute, "value": value});
                self.call("element.set", args).await?;
            }
            ("take", [thing]) => {
                self.call("element.take", json!({"element": self.name(thing)})).await?;
                print_text("taken");
            }
            ("drop", []) => self.drop_thing(json!({})).await?,
            ("drop", [world]) if self.is_others(world).await? => print_text(THEIRS),
            ("drop" | "give", [world]) => self.drop_thing(json!({"to": world})).await?,
            ("lend", [world]) => self.drop_thing(json!({"to": world, "lend": true})).await?,
            ("held", _) => {
                let held = self.call("element.held", json!({})).await?;
                Output { json: false, quiet: false }.show("element.held", &held);
            }
            ("go", [to]) => {
                let exit = self.exit_named(to).await?;
                let to = exit.unwrap_or_else(|| (*to).to_owned());
                let entered = self.call("world.enter", json!({"world": to})).await?;
                self.arrive(&entered).await?;
            }
            ("back", _) => self.leave(json!({})).await?,
            ("home", _) => self.leave(json!({"own": true})).await?,
            ("quit" | "exit" | "q", _) => return Ok(false),
            _ => print_text(HELP),
        }
        Ok(true)
    }

    async fn say(&self, text: &str) -> Result<(), Problem> {
        self.call("avatar.say", json!({"text": text})).await.map(|_| ())
    }

    async fn leave(&mut self, args: Json) -> Result<(), Problem> {
        let left = self.call("world.leave", args).await?;
        self.arrive(&left).await
    }

    /// Shows the room into which one has come, once the node knows of it too.
    async fn arrive(&mut self, entered: &Json) -> Result<(), Problem> {
        for _ in 0..LOOKS_MAX {
            let room = self.call("world.look", json!({})).await.unwrap_or_default();
            if room.get("id") == entered.get("id") {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.look().await
    }

    /// Whether a world is somebody else's.
    async fn is_others(&self, world: &str) -> Result<bool, Problem> {
        if world.contains('@') {
            return Ok(true);
        }
        let shown = self.call("world.show", json!({"world": world})).await?;
        Ok(shown.get("owner_id") != Some(&self.account))
    }

    async fn drop_thing(&self, args: Json) -> Result<(), Problem> {
        let answer = self.call("element.drop", args).await?;
        let state = answer.get("state").and_then(Json::as_str).unwrap_or("gone");
        print_text(match state {
            "offered" => "offered: it is theirs when they accept it",
            "accepted" => "put down",
            "lent" => "lent: a copy of it stands there",
            other => other,
        });
        Ok(())
    }

    async fn use_thing(&self, thing: &str, action: &str, pairs: &[&str]) -> Result<(), Problem> {
        let mut args = serde_json::Map::new();
        for pair in pairs {
            if let Some((key, value)) = pair.split_once('=') {
                args.insert(key.to_owned(), value_of(value));
            }
        }
        let call = json!({"element": self.name(thing), "action": action, "args": args});
        let answer = self.call("action.call", call).await?;
        let result = answer.get("result").cloned().unwrap_or_default();
        if !result.is_null() {
            print_text(&result.to_string());
        }
        Ok(())
    }

    /// A thing's name as it is called from here: of the world where we are.
    fn name(&self, thing: &str) -> String {
        if thing.contains('/') || thing.len() >= 36 {
            thing.to_owned()
        } else {
            format!("{}{thing}", self.before)
        }
    }

    /// Where an exit of this room leads.
    async fn exit_named(&self, name: &str) -> Result<Option<String>, Problem> {
        let room = self.call("world.look", json!({})).await?;
        let exits = room.get("exits").and_then(Json::as_array).cloned().unwrap_or_default();
        let found = exits.iter().find(|exit| exit.get("name").and_then(Json::as_str) == Some(name));
        Ok(found.and_then(|exit| exit.get("to")).and_then(Json::as_str).map(str::to_owned))
    }

    /// Shows the room.
    async fn look(&mut self) -> Result<(), Problem> {
        let room = self.call("world.look", json!({})).await?;
        let text = |key: &str| room.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        self.world = text("id");
        let (name, server) = (text("name"), text("server"));
        // At home the server's name stands for itself, so both forms are understood.
        self.before = match name.split_once('/') {
            Some((owner, world)) => format!("{owner}@{server}/{world}/"),
            None => String::new(),
        };
        print_text(&format!("\n{name} at {server}"));
        if !text("description").is_empty() {
            print_text(&text("description"));
        }
        for (key, title) in [("things", "things"), ("people", "people"), ("exits", "ways out")] {
            let named = room.get(key).and_then(Json::as_array).into_iter().flatten();
            let names: Vec<String> = named.filter_map(called).collect();
            if !names.is_empty() {
                print_text(&format!("{title}: {}", names.join(", ")));
            }
        }
        Ok(())
    }
}
