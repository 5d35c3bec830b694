//! The words of the command line, made from the catalog.

use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::Wish;
use crate::catalog::{self, ArgKind, COMMANDS};
use crate::model::{Code, Problem};

/// Verbs that are no commands of the node.
const OWN: [&str; 11] = [
    "run",
    "call",
    "events",
    "demo",
    "bench",
    "paths",
    "rekey",
    "recover",
    "restore",
    "completions",
    "man",
];

/// The whole command line.
pub(super) fn command() -> Command {
    let mut root = Command::new("freehold")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A peer-to-peer node for worlds you own.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .args(globals());
    for word in own() {
        root = root.subcommand(word);
    }
    for command in COMMANDS.iter().filter(|command| command.is_public()) {
        if let Some(word) = command.short {
            root = root.subcommand(verb(word, command));
        }
    }
    let mut nouns: Vec<&'static str> = Vec::new();
    for command in COMMANDS.iter().filter(|command| command.is_public()) {
        if !nouns.contains(&command.noun()) {
            nouns.push(command.noun());
        }
    }
    for noun in nouns {
        // `inbox` alone lists the inbox: the noun is a daily word too.
        if catalog::find(noun).is_some() {
            root = root.mut_subcommand(noun, |word| with_verbs(word, noun));
            continue;
        }
        let about = format!("Commands for: {noun}.");
        root = root.subcommand(with_verbs(Command::new(noun).about(about), noun));
    }
    root
}

fn with_verbs(mut word: Command, noun: &'static str) -> Command {
    for command in COMMANDS.iter().filter(|command| command.is_public() && command.noun() == noun) {
        word = word.subcommand(verb(command.verb(), command));
    }
    if noun == "type" {
        word = word.subcommand(
            Command::new("check")
                .about("Reads a type file without any node: all mistakes at once, and what was assumed.")
                .arg(Arg::new("file").required(true).help("the type file, - for standard input")),
        );
    }
    word.disable_help_subcommand(true)
}

fn globals() -> Vec<Arg> {
    let option = |id: &'static str, long: &'static str, help: &'static str| {
        Arg::new(id).long(long).global(true).help(help)
    };
    vec![
        option("home", "home", "the folder of one node").env("FREEHOLD_HOME"),
        Arg::new("json")
            .long("json")
            .global(true)
            .action(ArgAction::SetTrue)
            .help("one line of JSON instead of text"),
        option("timeout", "timeout", "how long the call is worth doing: 30s, 10m, 1h")
            .env("FREEHOLD_TIMEOUT"),
        option("as", "as", "the account that acts").env("FREEHOLD_AS"),
        option("in-world", "world", "the world, where the name does not say it")
            .env("FREEHOLD_WORLD"),
        Arg::new("quiet")
            .short('q')
            .long("quiet")
            .global(true)
            .action(ArgAction::SetTrue)
            .help("errors alone"),
        Arg::new("verbose")
            .short('v')
            .long("verbose")
            .global(true)
            .action(ArgAction::Count)
            .help("say more"),
    ]
}

fn own() -> Vec<Command> {
    vec![
        Command::new("run")
            .about("Starts the node; makes keys, settings and stores at the first start.")
            .arg(
                Arg::new("listen")
                    .long("listen")
                    .action(ArgAction::Append)
                    .help("multiaddr to listen on; repeatable; else port 4750 of all interfaces"),
            )
            .arg(Arg::new("api").long("api").help("where the API listens; else 127.0.0.1:4751"))
            .arg(Arg::new("bootstrap").long("bootstrap").help("a file that names the first peers"))
            .arg(
                Arg::new("name").long("name").help("the name to claim; kept from the first start"),
            ),
        Command::new("call")
            .about("Makes any call, by name, daily word or id.")
            .arg(Arg::new("command").required(true).help("the command"))
            .arg(
                Arg::new("arg")
                    .long("arg")
                    .action(ArgAction::Append)
                    .allow_hyphen_values(true)
                    .help("k=v, repeatable"),
            )
            .arg(Arg::new("args").long("args").help("all arguments as a JSON object")),
        Command::new("events")
            .about("Follows events as they happen, one line each.")
            .arg(Arg::new("kinds").long("kinds").help("only these kinds, with commas between"))
            .arg(Arg::new("since").long("since").help("the id of the last event that was seen"))
            .arg(
                Arg::new("count")
                    .long("count")
                    .value_parser(clap::value_parser!(u64))
                    .help("end after so many"),
            ),
        Command::new("demo")
            .about("Runs a network of three nodes on this machine, and shows what they do.")
            .arg(
                Arg::new("exec")
                    .long("exec")
                    .help("run this with sh once all three are up, then stop"),
            )
            .arg(Arg::new("keep").long("keep").help("keep everything in this folder")),
        Command::new("bench")
            .about("Measures calls of an action through the running node: rate, p50, p99.")
            .arg(Arg::new("element").required(true).help("the element, here or at another server"))
            .arg(Arg::new("action").required(true).help("the action to call"))
            .arg(
                Arg::new("calls")
                    .long("calls")
                    .default_value("1000")
                    .value_parser(clap::value_parser!(u64))
                    .help("how many calls"),
            )
            .arg(
                Arg::new("in-flight")
                    .long("in-flight")
                    .default_value("16")
                    .value_parser(clap::value_parser!(u64))
                    .help("how many at the same time"),
            ),
        Command::new("rekey").about("Gives a stopped node another key; its id stays."),
        Command::new("recover")
            .about("Gives a stopped node and its accounts other keys, by the recovery words, and makes new words.")
            .arg(
                Arg::new("words")
                    .required(true)
                    .help("the file with the words, - for standard input"),
            ),
        Command::new("restore")
            .about("Puts a backup into a home that has no store and no key.")
            .arg(Arg::new("file").required(true).help("the backup")),
        Command::new("paths").about("Shows where the files of the node are."),
        Command::new("completions").about("Prints completions for a shell.").arg(
            Arg::new("shell").required(true).value_parser(PossibleValuesParser::new([
                "bash",
                "zsh",
                "fish",
                "elvish",
                "powershell",
            ])),
        ),
        Command::new("man").about("Prints the manual page."),
    ]
}

/// The long name of an object argument: `--arg k=v` for `args`.
fn long_of(name: &'static str) -> &'static str {
    match name {
        "args" => "arg",
        "values" => "value",
        other => other,
    }
}

fn verb(word: &'static str, command: &'static catalog::Command) -> Command {
    let mut verb = Command::new(word).about(command.about);
    for arg in command.args {
        // The world is a flag of every verb.
        if arg.name == "world" && !arg.positional {
            continue;
        }
        let mut words = Arg::new(arg.name).help(arg.about);
        if !arg.positional {
            words = words.long(long_of(arg.name));
        }
        words = match arg.kind {
            ArgKind::Flag => words.action(ArgAction::SetTrue),
            ArgKind::Texts | ArgKind::Object => {
                words.action(ArgAction::Append).allow_hyphen_values(true)
            }
            ArgKind::Value => words.allow_hyphen_values(true),
            ArgKind::Count => words.value_parser(clap::value_parser!(u64)),
            ArgKind::Text | ArgKind::Duration | ArgKind::File => words,
        };
        if arg.kind != ArgKind::Flag {
            words = words.required(arg.required);
        }
        verb = verb.arg(words);
    }
    verb
}

/// The command that a daily word stands for; none where a verb follows the noun.
pub(super) fn daily(word: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|command| command.short == Some(word)).map(|command| command.name)
}

/// A global option, wherever it stands.
pub(super) fn given(matches: &ArgMatches, name: &str) -> Option<String> {
    if let Ok(Some(value)) = matches.try_get_one::<String>(name) {
        return Some(value.clone());
    }
    matches.subcommand().and_then(|(_, inner)| given(inner, name))
}

/// A global flag, wherever it stands.
pub(super) fn flag(matches: &ArgMatches, name: &str) -> bool {
    matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false)
        || matches.subcommand().is_some_and(|(_, inner)| flag(inner, name))
}

/// How often a global flag was given.
pub(super) fn count(matches: &ArgMatches, name: &str) -> u8 {
    matches.try_get_one::<u8>(name).ok().flatten().copied().unwrap_or(0)
}

/// Shows help and version; anything else is a mistake in the words.
pub(super) fn explain(error: &clap::Error) -> Result<Wish, Problem> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Whoever reads may have closed the pipe.
            error.print().ok();
            Ok(Wish::Exit(0))
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print().ok();
            Ok(Wish::Exit(2))
        }
        kind => Err(mistake(error, kind)),
    }
}

fn mistake(error: &clap::Error, kind: ErrorKind) -> Problem {
    let text = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let rendered = error.render().to_string();
    let first = rendered.lines().next().unwrap_or_default();
    let says = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches('.').to_owned();
    let code = match kind {
        ErrorKind::InvalidSubcommand => Code::UnknownCommand,
        ErrorKind::UnknownArgument => Code::UnknownField,
        _ => Code::Usage,
    };
    // Ours first: clap takes the first that is a little like it, not the one most like it.
    let meant = text(ContextKind::InvalidSubcommand).and_then(|word| {
        let verbs = COMMANDS.iter().filter(|command| {
            command.is_public()
                && rendered.contains(&format!("Usage: freehold {} ", command.noun()))
        });
        let verbs: Vec<&str> = verbs.map(|command| command.verb()).collect();
        if !verbs.is_empty() {
            return crate::model::suggest(&word, verbs).map(str::to_owned);
        }
        let nouns = COMMANDS.iter().map(|command| command.noun()).chain(OWN);
        crate::model::suggest(&word, nouns).map(str::to_owned)
    });
    let meant = meant
        .or_else(|| text(ContextKind::SuggestedSubcommand))
        .or_else(|| text(ContextKind::SuggestedArg));
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(texts)) if kind == ErrorKind::MissingRequiredArgument => {
            Some(texts.join(" "))
        }
        _ => None,
    };
    let says = match missing {
        Some(missing) => format!("{} {missing}", says.trim_end_matches(':')),
        None => says,
    };
    match meant {
        Some(meant) => Problem::new(code, says).hint(format!("did you mean '{meant}'?")),
        None => Problem::new(code, says).hint("see: freehold --help, or freehold NOUN VERB --help"),
    }
}

pub(super) fn completions(matches: &ArgMatches) -> Result<Wish, Problem> {
    let shell = matches.get_one::<String>("shell").cloned().unwrap_or_default();
    let shell: clap_complete::Shell = shell
        .parse()
        .map_err(|_| Problem::new(Code::Usage, format!("'{shell}' is no shell that is known")))?;
    clap_complete::generate(shell, &mut command(), "freehold", &mut std::io::stdout());
    Ok(Wish::Exit(0))
}

pub(super) fn man() -> Result<Wish, Problem> {
    let page = clap_mangen::Man::new(command());
    page.render(&mut std::io::stdout())
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(Wish::Exit(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_command_has_a_verb_with_help() {
        let root = command();
        root.clone().debug_assert();
        for entry in COMMANDS.iter().filter(|command| command.is_public()) {
            let noun =
                root.find_subcommand(entry.noun()).unwrap_or_else(|| panic!("{}", entry.name));
            let verb =
                noun.find_subcommand(entry.verb()).unwrap_or_else(|| panic!("{}", entry.name));
            assert!(verb.get_about().is_some(), "{}", entry.name);
            if let Some(word) = entry.short {
                assert!(root.find_subcommand(word).is_some(), "{word}");
            }
        }
    }

    #[test]
    fn a_mistyped_word_is_answered_with_the_one_that_was_meant() {
        let error = command().try_get_matches_from(["freehold", "elment", "get"]).unwrap_err();
        let problem = explain(&error).unwrap_err();

        assert_eq!(problem.code, Code::UnknownCommand);
        assert_eq!(problem.hint.as_deref(), Some("did you mean 'element'?"));
    }
}
