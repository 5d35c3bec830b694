//! `freehold.toml`: the settings, all optional.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Limit;

/// What `freehold.toml` may say. What it does not say has the value of [`Settings::default`].
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The account that acts where none is named.
    pub account: Option<String>,
    /// The name this server claims.
    pub name: Option<String>,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Where the local API listens.
    pub api: Option<String>,
    /// The time zone of `world.hour` (IANA name); else the system's.
    pub time_zone: Option<String>,
    /// Whether nodes on the local network are found by multicast DNS.
    pub mdns: bool,
    /// How long a fetched account record counts as fresh, in seconds.
    pub record_seconds: u64,
    /// How long outcomes and events are kept at least, in hours; not less than 24.
    pub keep_hours: u64,
    /// What copies of what is at home elsewhere may take on the disk, in MiB.
    pub cache_mib: u64,
    /// What a server may call that was given no limit of its own.
    pub strangers_limit: StrangersLimit,
    /// Connections of servers that are on none of our lists.
    pub strangers_connections: u32,
    /// What servers may use that nobody decided about.
    pub strangers: Strangers,
    /// The domain that this server says is its own.
    pub domain: Option<String>,
    /// Where names are looked up, `ADDRESS:PORT`; else at the system's servers.
    pub resolver: Option<String>,
}

/// What servers may use that nobody decided about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// What is public, within the limit for strangers.
    #[default]
    Everyone,
    /// Nothing, until the operator has said yes.
    Ask,
}

/// The `[strangers_limit]` table.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrangersLimit {
    /// Calls in one unit.
    pub calls: u32,
    /// The unit in seconds.
    pub seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let strangers = Limit::STRANGERS;
        Self {
            account: None,
            name: None,
            listen: Vec::new(),
            api: None,
            time_zone: None,
            mdns: true,
            record_seconds: 3_600,
            keep_hours: 24,
            cache_mib: 64,
            strangers_limit: StrangersLimit {
                calls: strangers.calls_per_unit,
                seconds: strangers.seconds_in_unit,
            },
            strangers_connections: 32,
            strangers: Strangers::Everyone,
            domain: None,
            resolver: None,
        }
    }
}

/// A settings file has a mistake.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {says}")]
pub struct SettingsMistake {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong.
    pub says: String,
}

impl SettingsMistake {
    /// The mistake that `error` found in `text`, with a suggestion for an unknown key.
    pub(super) fn of(error: &toml::de::Error, text: &str) -> Self {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Self { line, column, says: suggested(error.message()) }
    }
}

/// Adds "did you mean" to serde's sentence about an unknown field.
fn suggested(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next().filter(|_| message.starts_with("unknown field")) else {
        return message.to_owned();
    };
    match super::suggest(unknown, quoted) {
        Some(meant) => format!("unknown key '{unknown}', did you mean '{meant}'?"),
        None => message.to_owned(),
    }
}

impl Settings {
    /// Keys a settings file may have.
    pub const KEYS: [&'static str; 14] = [
        "account",
        "name",
        "listen",
        "api",
        "time_zone",
        "mdns",
        "record_seconds",
        "keep_hours",
        "cache_mib",
        "strangers_limit",
        "strangers_connections",
        "strangers",
        "domain",
        "resolver",
    ];

    /// Reads a settings file.
    ///
    /// # Errors
    /// Says where the first mistake is.
    pub fn parse(text: &str) -> Result<Self, SettingsMistake> {
        toml::from_str(text).map_err(|error| SettingsMistake::of(&error, text))
    }

    /// The keys that a settings file gives.
    pub fn keys_in(text: &str) -> BTreeSet<String> {
        text.parse::<toml::Table>().map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    /// The limit of servers that have none of their own.
    pub fn limit(&self) -> Limit {
        Limit {
            calls_per_unit: self.strangers_limit.calls,
            seconds_in_unit: self.strangers_limit.seconds.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_a_suggestion() {
        let mistake = Settings::parse("account = \"alice\"\ntime_zon = \"UTC\"\n").unwrap_err();

        assert_eq!((mistake.line, mistake.column), (2, 1));
        assert_eq!(mistake.says, "unknown key 'time_zon', did you mean 'time_zone'?");
    }

    #[test]
    fn an_empty_file_says_the_defaults() {
        assert_eq!(Settings::parse(""), Ok(Settings::default()));
    }
}
