//! The terminal: words in, text or JSON out, an exit code. What a command does is the node's.

mod bench;
mod call;
mod demo;
mod events;
mod show;
mod walk;
mod words;

use std::path::PathBuf;

use clap::ArgMatches;
use directories::ProjectDirs;
use serde_json::json;

use crate::api::client::Client;
use crate::model::{Code, Json, Problem, parse_duration_ms};
use crate::script::{bad_type, read_type};
use show::{Output, print_json};

pub use show::print_problem;

/// What the command line wants that only `main` can do.
#[derive(Debug)]
pub enum Wish {
    /// Start a node.
    Run(RunOptions),
    /// Give a stopped node another key; with the recovery words where the old one is lost.
    Rekey {
        /// The folder of the node.
        home: PathBuf,
        /// The recovery words.
        words: Option<String>,
        /// Whether to print JSON.
        json: bool,
    },
    /// Put a backup into a home.
    Restore {
        /// The folder of the node.
        home: PathBuf,
        /// The backup.
        file: PathBuf,
        /// Whether to print JSON.
        json: bool,
    },
    /// Nothing more: exit with this code.
    Exit(u8),
}

/// `freehold run`, as it was typed.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The folder of the node.
    pub home: PathBuf,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Where the API listens.
    pub api: Option<String>,
    /// A bootstrap file.
    pub bootstrap: Option<PathBuf>,
    /// The name to claim.
    pub name: Option<String>,
    /// Whether to print JSON.
    pub json: bool,
    /// How much to log: 0 warnings, 1 what happens, 2 everything.
    pub verbose: u8,
    /// Whether to log errors alone.
    pub quiet: bool,
}

/// What goes for every verb.
#[derive(Clone, Debug)]
struct Globals {
    home: PathBuf,
    json: bool,
    timeout_ms: u64,
    account: Option<String>,
    world: Option<String>,
    quiet: bool,
    verbose: u8,
}

/// Carries out a command line.
///
/// # Errors
/// Why it was not done, to be shown.
pub async fn run(arguments: Vec<std::ffi::OsString>) -> Result<Wish, Problem> {
    let matches = match words::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return words::explain(&error),
    };
    let globals = globals(&matches)?;
    let Some((word, inner)) = matches.subcommand() else {
        return Err(Problem::new(Code::Usage, "say what to do").hint("see: freehold --help"));
    };
    let output = Output { json: globals.json, quiet: globals.quiet };
    match word {
        "run" => Ok(Wish::Run(run_options(&globals, inner))),
        "rekey" => Ok(Wish::Rekey { home: globals.home, words: None, json: globals.json }),
        "recover" => {
            let path = inner.get_one::<String>("words").cloned().unwrap_or_default();
            let words = Some(call::read_file(&path)?);
            Ok(Wish::Rekey { home: globals.home, words, json: globals.json })
        }
        "restore" => {
            let file = inner.get_one::<String>("file").cloned().unwrap_or_default();
            Ok(Wish::Restore { home: globals.home, file: PathBuf::from(file), json: globals.json })
        }
        "call" => call::any(&globals, output, inner).await,
        "events" => events::follow(&globals, output, inner).await,
        "demo" => demo::run(&globals, inner).await,
        "bench" => bench::run(&globals, output, inner).await,
        "paths" => Ok(paths(&globals, output)),
        "completions" => words::completions(inner),
        "man" => words::man(),
        noun => {
            if let (Some(name), noun_matches) = (words::daily(noun), inner) {
                return call::one(&globals, output, name, noun_matches).await;
            }
            let Some((verb, verb_matches)) = inner.subcommand() else {
                return Err(Problem::new(Code::Usage, format!("say what to do with '{noun}'"))
                    .hint(format!("see: freehold {noun} --help")));
            };
            if (noun, verb) == ("type", "check") {
                return check_type(output, verb_matches);
            }
            if (noun, verb) == ("world", "enter") && walk::is_possible(&globals) {
                return walk::run(&globals, verb_matches).await;
            }
            call::one(&globals, output, &format!("{noun}.{verb}"), verb_matches).await
        }
    }
}

fn globals(matches: &ArgMatches) -> Result<Globals, Problem> {
    let text = |name: &str| words::given(matches, name);
    let timeout = text("timeout").unwrap_or_else(|| "30s".to_owned());
    let timeout_ms = parse_duration_ms(&timeout).ok_or_else(|| {
        Problem::new(Code::Usage, format!("'{timeout}' is no span of time"))
            .hint("write 500ms, 30s, 10m or 1h")
    })?;
    if timeout_ms > crate::model::DEADLINE_MAX_MS {
        return Err(Problem::new(Code::Usage, "a call may take at most 1h"));
    }
    Ok(Globals {
        home: text("home").map_or_else(default_home, PathBuf::from),
        json: words::flag(matches, "json"),
        timeout_ms,
        account: text("as"),
        world: text("in-world"),
        quiet: words::flag(matches, "quiet"),
        verbose: words::count(matches, "verbose"),
    })
}

/// The XDG data folder, where no home is named.
fn default_home() -> PathBuf {
    ProjectDirs::from("", "", "freehold")
        .map_or_else(|| PathBuf::from("freehold"), |dirs| dirs.data_dir().to_owned())
}

fn run_options(globals: &Globals, matches: &ArgMatches) -> RunOptions {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let bootstrap = text("bootstrap").or_else(|| std::env::var("FREEHOLD_BOOTSTRAP").ok());
    RunOptions {
        home: globals.home.clone(),
        listen: matches.get_many::<String>("listen").into_iter().flatten().cloned().collect(),
        api: text("api"),
        bootstrap: bootstrap.map(PathBuf::from),
        name: text("name"),
        json: globals.json,
        verbose: globals.verbose,
        quiet: globals.quiet,
    }
}

fn paths(globals: &Globals, output: Output) -> Wish {
    let file = |name: &str| globals.home.join(name).display().to_string();
    let paths = json!({
        "home": globals.home.display().to_string(),
        "settings": file("freehold.toml"),
        "bootstrap": file("bootstrap.toml"),
        "identity": file("identity.key"),
        "recovery": file("recovery.words"),
        "store": file("home.redb"),
        "cache": file("cache.redb"),
        "socket": file("control.sock"),
    });
    output.show("paths", &paths);
    Wish::Exit(0)
}

/// `type check FILE`: reads a type file without any node.
fn check_type(output: Output, matches: &ArgMatches) -> Result<Wish, Problem> {
    let path = matches.get_one::<String>("file").cloned().unwrap_or_default();
    let text = call::read_file(&path)?;
    match read_type(&text) {
        Ok(file) => {
            let definition = &file.definition;
            if output.json {
                let attributes: Vec<&String> = definition.attributes.keys().collect();
                let actions: Vec<&String> = definition.actions.keys().collect();
                let checked = json!({
                    "name": definition.name, "attributes": attributes, "actions": actions, "assumed": file.assumed,
                });
                output.show("type.check", &checked);
            } else {
                println!("{}: no mistakes", definition.name);
                for line in &file.assumed {
                    println!("  assumed: {line}");
                }
            }
            Ok(Wish::Exit(0))
        }
        Err(mistakes) => Err(bad_type(&path, &mistakes)),
    }
}

/// The client of the node on the home at hand.
fn client(globals: &Globals) -> Client {
    Client::of(&globals.home)
}

/// Prints what was done without a node.
pub fn print_done(name: &str, json: bool, done: &Json) {
    Output { json, quiet: false }.show(name, done);
}

/// Prints the line that says a node is ready.
pub fn print_ready(json: bool, ready: &Json) {
    if json {
        print_json("ready", ready);
    } else {
        let text = |key: &str| ready.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        println!("ready: server {} at {}", text("server_id"), text("api"));
        for address in ready
            .get("listen")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            println!("  {address}");
        }
    }
}
