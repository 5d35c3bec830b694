//! `freehold events`: follows events as they happen.

use clap::ArgMatches;

use super::show::{Output, print_text};
use super::{Globals, Wish, client};
use crate::model::{Json, Problem};

pub(super) async fn follow(
    globals: &Globals,
    output: Output,
    matches: &ArgMatches,
) -> Result<Wish, Problem> {
    let mut query = Vec::new();
    if let Some(kinds) = matches.get_one::<String>("kinds") {
        query.push(format!("kinds={}", escaped(kinds)));
    }
    if let Some(world) = &globals.world {
        query.push(format!("world={}", escaped(world)));
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let last = matches.get_one::<String>("since").cloned();
    let mut left = matches.get_one::<u64>("count").copied().unwrap_or(u64::MAX);
    let client = client(globals);
    let hear = |event: Json| {
        print_text(&if output.json { event.to_string() } else { line_of(&event) });
        left = left.saturating_sub(1);
        left > 0
    };
    tokio::select! {
        ended = client.events(&query, last, hear) => ended.map(|()| Wish::Exit(0)),
        _ = tokio::signal::ctrl_c() => Ok(Wish::Exit(130)),
    }
}

/// A query's value with everything but plain letters escaped (RFC 3986).
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b',' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn line_of(event: &Json) -> String {
    let text = |key: &str| match event.get(key) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    match text("kind").as_str() {
        "value_change" => {
            format!(
                "{}  {}  {}: {} -> {}",
                text("at"),
                text("element"),
                text("attribute"),
                text("old"),
                text("value")
            )
        }
        "custom" => {
            format!("{}  {}  event {} {}", text("at"), text("element"), text("name"), text("value"))
        }
        kind => format!("{}  {}  {kind} {}", text("at"), text("element"), text("value")),
    }
}
