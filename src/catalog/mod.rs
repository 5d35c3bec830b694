//! What commands there are: names, arguments, results, documentation, and who may use them. What
//! they do is written in `commands`. Pure.

mod check;
mod entries;
mod events;

pub use check::check_args;
pub use entries::COMMANDS;
pub use events::{EVENTS, SystemEvent};

use std::collections::HashMap;
use std::sync::LazyLock;

use uuid::Uuid;

/// How a command is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It only reads: runs beside the turn on the last commit's state.
    Read,
    /// It may change something: runs in a turn.
    Change,
    /// It concerns the running node rather than what is stored: its files, its network, its end.
    Node,
}

/// Who may use a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Anyone with a key of this node; the rights to things are checked where it runs.
    Account,
    /// The operator alone.
    Operator,
    /// People here, and other servers.
    Both,
    /// Other servers alone.
    Server,
    /// The node itself, telling what it found out.
    Node,
}

/// What an argument's value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgKind {
    /// Text.
    Text,
    /// Several texts.
    Texts,
    /// Any JSON; on the command line what is no JSON is text.
    Value,
    /// A JSON object; on the command line `--NAME key=value`, repeatable.
    Object,
    /// true or false; on the command line a flag.
    Flag,
    /// A whole number from 0.
    Count,
    /// A span of time such as `30s`, `10m`, `24h`, `30d`.
    Duration,
    /// The content of a file; on the command line its path, `-` for standard input.
    File,
}

/// An argument of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// What its value is.
    pub kind: ArgKind,
    /// Whether the command line takes it by place instead of by name.
    pub positional: bool,
    /// Whether it must be given.
    pub required: bool,
}

/// A member of a command's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
}

/// A library command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// `noun.verb`.
    pub name: &'static str,
    /// The word for it in daily use, if there is one.
    pub short: Option<&'static str>,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// How it is carried out.
    pub mode: Mode,
    /// Who may use it.
    pub audience: Audience,
    /// What it takes.
    pub args: &'static [Arg],
    /// What it gives back; `items` for lists.
    pub results: &'static [Field],
}

/// The namespace of commands' ids (RFC 9562, version 5 of their names).
const NAMESPACE: Uuid = Uuid::from_bytes(*b"freehold-command");

impl Command {
    /// The command's constant id.
    pub fn id(&self) -> Uuid {
        Uuid::new_v5(&NAMESPACE, self.name.as_bytes())
    }

    /// The part before the dot.
    pub fn noun(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(noun, _)| noun)
    }

    /// The part after the dot.
    pub fn verb(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(_, verb)| verb)
    }

    /// Members of its result that are shown once and stored nowhere.
    pub fn shown_once(&self) -> &'static [&'static str] {
        if self.name == "key.add" { &["key"] } else { &[] }
    }

    /// Whether it looks at a handful of rows and runs no script, so that it needs no thread of its
    /// own.
    pub fn is_quick(&self) -> bool {
        matches!(self.name, "element.get" | "account.show")
    }

    /// Whether people can call it.
    pub const fn is_public(&self) -> bool {
        match self.audience {
            Audience::Account | Audience::Operator | Audience::Both => true,
            Audience::Server | Audience::Node => false,
        }
    }
}

/// Commands by name and daily word.
static BY_NAME: LazyLock<HashMap<&str, &Command>> = LazyLock::new(|| {
    let names = COMMANDS.iter().map(|command| (command.name, command));
    let words = COMMANDS.iter().filter_map(|command| Some((command.short?, command)));
    names.chain(words).collect()
});

/// The command with this name, daily word or id.
pub fn find(name: &str) -> Option<&'static Command> {
    BY_NAME.get(name).copied().or_else(|| {
        let id = Uuid::try_parse(name).ok()?;
        COMMANDS.iter().find(|command| command.id() == id)
    })
}

/// The public command whose name is most like `name`.
pub fn suggest(name: &str) -> Option<&'static str> {
    let names = COMMANDS.iter().filter(|command| command.is_public()).map(|command| command.name);
    crate::model::suggest(name, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_has_one_name_and_documentation() {
        let mut names = BTreeSet::new();
        for command in COMMANDS {
            assert!(names.insert(command.name), "{} twice", command.name);
            assert!(!command.noun().is_empty() && !command.verb().is_empty(), "{}", command.name);
            assert!(command.about.ends_with('.'), "{}", command.name);
            assert!(!command.results.is_empty() || !command.is_public(), "{}", command.name);
            for arg in command.args {
                assert!(!arg.about.is_empty(), "{} {}", command.name, arg.name);
            }
        }
    }

    #[test]
    fn a_command_is_found_by_name_word_and_id() {
        let command = find("node.status").unwrap();

        assert_eq!(find("status"), Some(command));
        assert_eq!(find(&command.id().to_string()), Some(command));
        assert_eq!(suggest("elment.create"), Some("element.create"));
    }
}
