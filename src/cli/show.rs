//! Answers on the terminal: one compact line of JSON, or plain ASCII.

use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::ASCII_BORDERS_ONLY_CONDENSED;
use qrcode::QrCode;
use qrcode::render::unicode;

use crate::model::{Json, Problem};

/// How answers are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) json: bool,
    pub(super) quiet: bool,
}

impl Output {
    /// Shows the result of a command.
    pub(super) fn show(self, name: &str, result: &Json) {
        if self.json {
            print_json(name, result);
        } else if !self.quiet {
            print_text(&text_of(result));
        }
    }
}

impl Output {
    /// Shows a ticket as a QR code, for people.
    pub(super) fn show_code(self, result: &Json) {
        let ticket = result.get("ticket").and_then(Json::as_str);
        if self.json || self.quiet {
            return;
        }
        if let Some(code) = ticket.and_then(|ticket| QrCode::new(ticket).ok()) {
            let picture = code.render::<unicode::Dense1x2>().quiet_zone(true).build();
            print_text(&format!("\n{picture}"));
        }
    }
}

/// Prints one compact line with its schema first.
pub(super) fn print_json(name: &str, result: &Json) {
    let mut line = format!("{{\"schema\":\"freehold.{name}/1\"");
    match result {
        Json::Object(members) => {
            for (key, value) in members {
                line.push_str(&format!(",{}:{value}", Json::from(key.as_str())));
            }
        }
        other => line.push_str(&format!(",\"value\":{other}")),
    }
    line.push('}');
    print_text(&line);
}

/// Prints a line. Whoever reads may have closed the pipe; that is its right.
pub(super) fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).ok();
}

/// Prints a problem: with `json` as one RFC 9457 object, the last line on standard error.
pub fn print_problem(problem: &Problem, json: bool) {
    if json {
        eprintln!("{}", problem.to_json());
        return;
    }
    eprintln!("error: {}", problem.says);
    for place in problem.more.get("places").and_then(Json::as_array).into_iter().flatten() {
        let number = |key: &str| place.get(key).and_then(Json::as_u64).unwrap_or(0);
        let text = |key: &str| place.get(key).and_then(Json::as_str);
        let meant = text("suggestion")
            .map(|meant| format!(", did you mean '{meant}'?"))
            .unwrap_or_default();
        eprintln!(
            "  {}:{}: {}{meant}",
            number("line"),
            number("column"),
            text("says").unwrap_or_default()
        );
    }
    for tried in problem.more.get("tries").and_then(Json::as_array).into_iter().flatten() {
        let text = |key: &str| tried.get(key).and_then(Json::as_str).unwrap_or_default();
        eprintln!("  {}: {}", text("address"), text("reason"));
    }
    if let Some(hint) = &problem.hint {
        eprintln!("\nhint: {hint}");
    }
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn text_of(result: &Json) -> String {
    match (result.get("items").and_then(Json::as_array), result) {
        (Some(items), _) => table_of(items, result.get("next")),
        (None, Json::Object(members)) => {
            let width = members.keys().map(String::len).max().unwrap_or(0);
            let lines = members.iter().map(|(key, value)| format!("{key:width$}  {}", cell(value)));
            lines.collect::<Vec<_>>().join("\n")
        }
        (None, other) => cell(other),
    }
}

/// What a table shows of a value: lists and what has no name stay out of it.
fn short(value: &Json) -> Option<String> {
    match value {
        Json::Object(members) => members.get("name").and_then(Json::as_str).map(str::to_owned),
        Json::Array(_) | Json::Null => None,
        other => Some(cell(other)),
    }
}

fn table_of(items: &[Json], next: Option<&Json>) -> String {
    if items.is_empty() {
        return "nothing".to_owned();
    }
    // The id first, since the other verbs want it; a column that says nothing is left out.
    let mut columns: Vec<&String> = Vec::new();
    for item in items {
        for (key, value) in item.as_object().into_iter().flatten() {
            if short(value).is_some() && !columns.contains(&key) {
                columns.push(key);
            }
        }
    }
    columns.sort_by_key(|column| match column.as_str() {
        "id" => 0,
        "name" => 1,
        _ => 2,
    });
    let mut table = Table::new();
    table
        .load_preset(ASCII_BORDERS_ONLY_CONDENSED)
        .set_header(columns.iter().map(|column| column.as_str()));
    for item in items {
        table.add_row(
            columns.iter().map(|column| item.get(column.as_str()).map(cell).unwrap_or_default()),
        );
    }
    match next.and_then(Json::as_str) {
        Some(next) => format!("{table}\nmore with --cursor {next}"),
        None => table.to_string(),
    }
}
