//! One command of the node: words to arguments, the call, its answer.

use std::io::Read;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::{Map, json};

use super::show::Output;
use super::words::daily;
use super::{Globals, Wish, client};
use crate::api::client::{Answer, Client};
use crate::catalog::{self, ArgKind, Command};
use crate::model::{Code, Json, Problem};

/// How long a call that may wait for long is waited for in place, in seconds.
const PATIENT_SECONDS: u64 = 2;
/// Seconds that a call waits in place before its job is asked about instead.
const WAIT_SECONDS: u64 = 2;
/// Pause between two questions about a job.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Makes the call of one verb.
pub(super) async fn one(
    globals: &Globals,
    output: Output,
    name: &str,
    matches: &ArgMatches,
) -> Result<Wish, Problem> {
    // A daily word that is a noun too may be followed by a verb.
    if let Some((verb, inner)) = matches.subcommand() {
        let noun = name.split('.').next().unwrap_or(name);
        return Box::pin(one(globals, output, &format!("{noun}.{verb}"), inner)).await;
    }
    let name = daily(name).unwrap_or(name);
    let command = catalog::find(name).ok_or_else(|| {
        Problem::new(Code::UnknownCommand, format!("there is no command '{name}'"))
    })?;
    let mut args = arguments(command, matches)?;
    if command.name == "node.backup" {
        // The node has a folder of its own: it is told where ours is.
        let file = args.get("file").and_then(Json::as_str).unwrap_or_default();
        let path = std::path::absolute(file);
        let path = path.map_err(|error| Problem::new(Code::Usage, format!("{file}: {error}")))?;
        args["file"] = json!(path.display().to_string());
    }
    make(globals, output, command.name, args).await
}

/// `freehold call COMMAND`.
pub(super) async fn any(
    globals: &Globals,
    output: Output,
    matches: &ArgMatches,
) -> Result<Wish, Problem> {
    let name = matches.get_one::<String>("command").cloned().unwrap_or_default();
    let mut args = match matches.get_one::<String>("args") {
        None => Map::new(),
        Some(text) => serde_json::from_str(text).map_err(|error| {
            Problem::new(Code::Usage, format!("--args is no JSON object: {error}"))
        })?,
    };
    for pair in matches.get_many::<String>("arg").into_iter().flatten() {
        let (key, value) = pair_of(pair)?;
        args.insert(key, value);
    }
    make(globals, output, &name, Json::Object(args)).await
}

async fn make(
    globals: &Globals,
    output: Output,
    command: &str,
    args: Json,
) -> Result<Wish, Problem> {
    let client = client(globals);
    let call = json!({
        "command": command,
        "args": args,
        "caller": globals.account,
        "world": globals.world,
        "timeout_ms": globals.timeout_ms,
    });
    let result = finished(globals, &client, &call).await?;
    let name = catalog::find(command).map_or(command, |command| command.name);
    output.show(name, &result);
    if name == "ticket.add" {
        output.show_code(&result);
    }
    Ok(Wish::Exit(0))
}

/// Makes a call, and waits for its end.
pub(super) async fn finished(
    globals: &Globals,
    client: &Client,
    call: &Json,
) -> Result<Json, Problem> {
    let is_patient = call.pointer("/args/patient") == Some(&Json::Bool(true));
    let most = if is_patient { PATIENT_SECONDS } else { WAIT_SECONDS };
    let answer = client.call(call, most.min(globals.timeout_ms / 1_000 + 1)).await?;
    match answer.status {
        202 if is_patient => {
            let job = answer.body.get("job").cloned().unwrap_or_default();
            Ok(json!({"job": job, "state": "waiting"}))
        }
        202 => settled(globals, client, &answer).await,
        _ => Ok(answer.body.get("result").cloned().unwrap_or_default()),
    }
}

/// Waits for a job that goes on. An interrupt leaves it running, and names it.
async fn settled(globals: &Globals, client: &Client, answer: &Answer) -> Result<Json, Problem> {
    let job = answer.body.get("job").and_then(Json::as_str).unwrap_or_default().to_owned();
    let ended = async {
        loop {
            let shown =
                client.call(&json!({"command": "job.show", "args": {"job": job}}), 0).await?.body;
            let shown = shown.get("result").cloned().unwrap_or_default();
            if shown.get("status").and_then(Json::as_str) == Some("finished") {
                let data = json!({"command": "job.data", "args": {"job": job}});
                let data = client.call(&data, 0).await?.body;
                return Ok(data
                    .get("result")
                    .and_then(|result| result.get("result"))
                    .cloned()
                    .unwrap_or_default());
            }
            if shown.get("outcome").and_then(Json::as_str) == Some("unknown") {
                return Err(unknown(&job));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::select! {
        result = tokio::time::timeout(Duration::from_millis(globals.timeout_ms + 2_000), ended) => {
            result.unwrap_or_else(|_| Err(unknown(&job)))
        }
        _ = tokio::signal::ctrl_c() => {
            eprintln!("the job goes on: {job}");
            std::process::exit(130);
        }
    }
}

fn unknown(job: &str) -> Problem {
    Problem::new(Code::OutcomeUnknown, "it was handed over, and no answer came yet")
        .hint(format!("it settles by itself; see how with: freehold job show {job}"))
        .with("job", job)
}

/// What is no JSON is text.
pub(super) fn value_of(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| Json::from(text))
}

fn pair_of(text: &str) -> Result<(String, Json), Problem> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value_of(value))),
        _ => Err(Problem::new(Code::Usage, format!("'{text}' must be k=v"))),
    }
}

/// Reads a file, or standard input for `-`.
pub(super) fn read_file(path: &str) -> Result<String, Problem> {
    let read = if path == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Problem::new(Code::Usage, format!("{path} cannot be read: {error}")))
}

pub(super) fn arguments(command: &Command, matches: &ArgMatches) -> Result<Json, Problem> {
    let mut args = Map::new();
    for arg in command.args {
        if arg.name == "world" && !arg.positional {
            continue;
        }
        let text = || matches.try_get_one::<String>(arg.name).ok().flatten().cloned();
        let many = || {
            matches.try_get_many::<String>(arg.name).ok().flatten().into_iter().flatten().cloned()
        };
        let value = match arg.kind {
            ArgKind::Text | ArgKind::Duration => text().map(Json::from),
            ArgKind::Value => text().map(|text| value_of(&text)),
            ArgKind::File => match text() {
                // Only types come as files; what servers give each other is never typed.
                Some(path) => Some(Json::from(read_file(&path)?)),
                None => None,
            },
            ArgKind::Texts => {
                let texts: Vec<Json> = many().map(Json::from).collect();
                (!texts.is_empty()).then_some(Json::Array(texts))
            }
            ArgKind::Object => {
                let pairs: Map<String, Json> =
                    many().map(|pair| pair_of(&pair)).collect::<Result<_, _>>()?;
                (!pairs.is_empty()).then_some(Json::Object(pairs))
            }
            ArgKind::Flag => matches.get_flag(arg.name).then_some(Json::Bool(true)),
            ArgKind::Count => {
                matches.try_get_one::<u64>(arg.name).ok().flatten().map(|count| json!(count))
            }
        };
        if let Some(value) = value {
            args.insert(arg.name.to_owned(), value);
        }
    }
    Ok(Json::Object(args))
}
