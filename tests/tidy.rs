//! Rules that hold for the source as text: which room may name which, what a pure room may not
//! touch, and that the pages list what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of the design, and the rooms that each may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("catalog", &["model"]),
    ("wire", &["model"]),
    ("trust", &["model", "wire"]),
    ("script", &["model"]),
    ("step", &["model", "trust", "script"]),
    ("presence", &["model", "trust", "step"]),
    ("sync", &["model", "wire", "step"]),
    ("commands", &["model", "catalog", "trust", "script", "step", "presence", "sync"]),
    // Beyond the design: `catalog` says which calls only read, and `script` hands the machine on.
    ("turn", &["model", "catalog", "trust", "script", "step"]),
    ("post", &["model", "wire", "trust"]),
    ("store", &["model"]),
    ("net", &["model", "wire"]),
    (
        "node",
        &[
            "model", "catalog", "wire", "trust", "script", "step", "presence", "sync", "commands",
            "turn", "post", "store", "net",
        ],
    ),
    ("api", &["model", "catalog", "node"]),
    ("cli", &["model", "catalog", "script", "api::client"]),
];

/// Rooms that do no I/O, read no clock and make no randomness.
const PURE: &[&str] = &[
    "model", "catalog", "wire", "trust", "script", "step", "presence", "sync", "commands", "turn",
    "post",
];

/// Parts of the standard library that a pure room may not name.
const IMPURE_STD: &[&str] = &["fs", "net", "thread", "env", "process"];

/// Words that a pure room may not use.
const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "SystemTime",
    "Instant",
    "rand",
    "rand_core",
    "getrandom",
    "now_v7",
    "new_v4",
    "println",
    "eprintln",
];

/// Crates that one room alone knows.
const KNOWN_TO_ONE: &[(&str, &str)] = &[("redb", "store"), ("libp2p", "net"), ("mlua", "script")];

/// Texts that belong to one machine or to where crates come from. In two parts, so that this file
/// does not hold them itself.
const FOREIGN: &[&str] = &[
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "Users/"),
    concat!("crates", ".io"),
    concat!("npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("proxy.golang", ".org"),
];

/// Verbs of the command line that stand in the table of the README and are no commands.
const NO_COMMANDS: &[&str] = &["type check"];

#[test]
fn rooms_stand_in_the_order_of_the_design() {
    let declared = declared_rooms();
    let order = |room: &str| ROOMS.iter().position(|(known, _)| *known == room);

    let mut mistakes = Vec::new();
    let mut last = 0;
    for (place, room) in &declared {
        match order(room) {
            None => mistakes.push(format!("{place}: there is no room '{room}' in the design")),
            Some(at) if at < last => {
                mistakes.push(format!("{place}: '{room}' stands below {}", ROOMS[last].0));
            }
            Some(at) => last = at,
        }
    }
    let declared: BTreeSet<String> = declared.into_iter().map(|(_, room)| room).collect();
    for room in stored_rooms() {
        if !declared.contains(&room) {
            mistakes.push(format!("src/lib.rs:1: it does not declare the room '{room}'"));
        }
    }

    none(&mistakes);
}

#[test]
fn every_room_names_only_rooms_that_it_may_use() {
    let mut mistakes = Vec::new();
    for (room, file) in room_files() {
        let code = code_of_file(&file);
        let may = may_name(&room, &file);
        for (line, path) in
            paths_from(&code, "crate").into_iter().chain(paths_from(&code, "freehold"))
        {
            let Some(named) = path.first().filter(|named| is_room(named)) else { continue };
            let allowed = *named == room
                || may.iter().any(|may| {
                    may.split("::").zip(&path).all(|(may, part)| may == part)
                        && path.len() >= may.split("::").count()
                });
            if !allowed {
                let path = path.join("::");
                mistakes.push(format!("{}:{line}: '{room}' may not name '{path}'", shown(&file)));
            }
        }
        for line in climbs(&code, depth_in_room(&file)) {
            mistakes.push(format!("{}:{line}: 'super' leaves the room '{room}'", shown(&file)));
        }
    }

    none(&mistakes);
}

#[test]
fn pure_rooms_touch_no_disk_network_thread_clock_or_chance() {
    let mut mistakes = Vec::new();
    for (room, file) in room_files() {
        if !PURE.contains(&room.as_str()) {
            continue;
        }
        let code = code_of_file(&file);
        let mut found: Vec<(usize, String)> = words(&code)
            .filter(|(_, word)| IMPURE_WORDS.contains(word))
            .map(|(line, word)| (line, word.to_owned()))
            .collect();
        for (line, path) in paths_from(&code, "std") {
            if path.first().is_some_and(|part| IMPURE_STD.contains(&part.as_str())) {
                found.push((line, format!("std::{}", path.join("::"))));
            }
        }
        for (line, text) in (1..).zip(code.lines()) {
            if text.contains("::now(") {
                found.push((line, "::now()".to_owned()));
            }
        }
        for (line, what) in found {
            mistakes.push(format!("{}:{line}: '{room}' is pure: no {what}", shown(&file)));
        }
    }

    none(&mistakes);
}

#[test]
fn redb_libp2p_and_mlua_are_known_to_one_room_each() {
    let mut mistakes = Vec::new();
    for (room, file) in source_files() {
        let code = code_of_file(&file);
        for (line, word) in words(&code) {
            let known = KNOWN_TO_ONE.iter().find(|(name, _)| *name == word);
            if let Some((name, knows)) = known
                && room.as_deref() != Some(*knows)
            {
                mistakes.push(format!("{}:{line}: only '{knows}' knows {name}", shown(&file)));
            }
        }
    }

    none(&mistakes);
}

#[test]
fn the_map_lists_exactly_the_rooms_that_exist() {
    let page = root().join("ARCHITECTURE.md");
    let text = read(&page);
    let mut mistakes = Vec::new();

    let mut listed = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let name = text.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`'));
        let Some(name) = name else { continue };
        if !stored_rooms().contains(name) {
            mistakes.push(format!("ARCHITECTURE.md:{line}: the room '{name}' does not exist"));
        }
        listed.push(name.to_owned());
    }
    for room in stored_rooms() {
        if !listed.contains(&room) {
            mistakes.push(format!("ARCHITECTURE.md:1: the room '{room}' is missing"));
        }
    }
    let in_order: Vec<String> = ROOMS
        .iter()
        .map(|(room, _)| (*room).to_owned())
        .filter(|room| listed.contains(room))
        .collect();
    if listed != in_order {
        mistakes.push(format!("ARCHITECTURE.md:1: the rooms stand as {listed:?}"));
    }

    none(&mistakes);
}

#[test]
fn no_file_names_a_registry_or_a_folder_of_one_machine() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "docs"] {
        walk(&root().join(folder), &mut files);
    }
    for page in ["README.md", "ARCHITECTURE.md", "GLOSSARY.md", "CHANGELOG.md", "bootstrap.toml"] {
        files.push(root().join(page));
    }
    let mut mistakes = Vec::new();
    for file in files {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let text = String::from_utf8_lossy(&bytes);
        for (line, text) in (1..).zip(text.lines()) {
            for foreign in FOREIGN.iter().filter(|foreign| text.contains(**foreign)) {
                mistakes.push(format!("{}:{line}: it names {foreign}", shown(&file)));
            }
        }
    }

    none(&mistakes);
}

#[test]
fn the_reference_holds_every_command_with_its_arguments() {
    let reference = sections(&read(&root().join("docs/commands.md")));
    let commands = commands();
    let mut mistakes = Vec::new();

    for command in commands.values() {
        let at = format!("src/catalog/entries.rs:{}", command.line);
        let Some((_, section)) = reference.get(&command.name) else {
            mistakes.push(format!("{at}: docs/commands.md does not hold {}", command.name));
            continue;
        };
        for arg in &command.args {
            if !section.contains(&format!("| `{arg}` |")) {
                let name = &command.name;
                mistakes.push(format!("{at}: docs/commands.md holds no '{arg}' of {name}"));
            }
        }
    }
    for (name, (line, _)) in &reference {
        if !commands.contains_key(name) {
            mistakes.push(format!("docs/commands.md:{line}: there is no command {name}"));
        }
    }

    none(&mistakes);
}

#[test]
fn the_table_of_verbs_holds_what_people_can_call_and_nothing_else() {
    let commands = commands();
    let mut listed = BTreeSet::new();
    let mut mistakes = Vec::new();

    for (line, text) in (1..).zip(read(&root().join("README.md")).lines()) {
        let cells: Vec<&str> = text.split('|').map(str::trim).collect();
        let ["", noun, verbs, _, ""] = cells.as_slice() else { continue };
        let [noun] = spans(noun)[..] else { continue };
        for verb in spans(verbs) {
            let name = format!("{noun} {verb}");
            let known = commands.get(&format!("{noun}.{verb}")).is_some_and(|held| held.for_people);
            if !known && !NO_COMMANDS.contains(&name.as_str()) {
                mistakes.push(format!("README.md:{line}: there is no verb '{name}'"));
            }
            listed.insert(name);
        }
    }
    for command in commands.values().filter(|command| command.for_people) {
        if !listed.contains(&command.name.replace('.', " ")) {
            let (line, name) = (command.line, &command.name);
            mistakes.push(format!(
                "src/catalog/entries.rs:{line}: the table in README.md does not hold {name}"
            ));
        }
    }

    none(&mistakes);
}

#[test]
fn nothing_in_the_source_is_left_for_later() {
    let mut mistakes = Vec::new();
    for (_, file) in source_files() {
        let code = blanked(&read(&file));
        for (line, text) in (1..).zip(code.lines()) {
            for left in ["todo!", "unimplemented!", "dbg!"] {
                if text.contains(left) {
                    mistakes.push(format!("{}:{line}: {left}", shown(&file)));
                }
            }
        }
    }

    none(&mistakes);
}

#[test]
fn comments_strings_and_tests_are_not_code() {
    let source = "use crate::{model::{Key, Row}, wire}; // crate::net\n\
                  /* crate::cli /* again */ */ fn f<'a>(c: char) -> &'a str { '\"'; r#\"crate::api\"# }\n\
                  #[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}\n\
                  fn g() { super::super::h(\"\\\"crate::node\"); crate::turn::<u8>() }\n";

    let code = without_tests(&blanked(source));
    let found: Vec<(usize, String)> = paths_from(&code, "crate")
        .into_iter()
        .map(|(line, path)| (line, path.join("::")))
        .collect();

    let want = [(1, "model::Key"), (1, "model::Row"), (1, "wire"), (7, "turn")];
    assert_eq!(found, want.map(|(line, path)| (line, path.to_owned())));
    assert_eq!(climbs(&code, 1), [7]);
    assert_eq!(climbs(&code, 2), [0; 0]);
}

/// Fails with every mistake, one a line.
fn none(mistakes: &[String]) {
    assert!(mistakes.is_empty(), "\n{}\n", mistakes.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// Every file below a folder, sorted; nothing where there is no such folder.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            walk(&entry, files);
        } else {
            files.push(entry);
        }
    }
}

fn is_room(name: &str) -> bool {
    ROOMS.iter().any(|(room, _)| *room == name)
}

/// Rooms as `lib.rs` and `main.rs` declare them, each with its file and line.
fn declared_rooms() -> Vec<(String, String)> {
    let mut rooms = Vec::new();
    for file in ["src/lib.rs", "src/main.rs"] {
        let code = blanked(&read(&root().join(file)));
        for (line, text) in (1..).zip(code.lines()) {
            let name = text.trim().trim_start_matches("pub ").strip_prefix("mod ");
            if let Some(name) = name.and_then(|rest| rest.strip_suffix(';')) {
                rooms.push((format!("{file}:{line}"), name.to_owned()));
            }
        }
    }
    rooms
}

/// Rooms that have files.
fn stored_rooms() -> BTreeSet<String> {
    room_files().into_iter().map(|(room, _)| room).collect()
}

/// Rust files below `src` that are not tests alone, each with its room.
fn source_files() -> Vec<(Option<String>, PathBuf)> {
    let source = root().join("src");
    let mut files = Vec::new();
    walk(&source, &mut files);
    let is_code = |file: &PathBuf| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| {
            name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs")
        })
    };
    let with_room = |file: PathBuf| {
        let first = file.strip_prefix(&source).ok().and_then(|inner| inner.components().next());
        let first = first.map(|first| first.as_os_str().to_string_lossy().into_owned());
        let room = first.map(|first| first.trim_end_matches(".rs").to_owned());
        (room.filter(|room| room != "lib" && room != "main"), file)
    };
    files.into_iter().filter(is_code).map(with_room).collect()
}

fn room_files() -> Vec<(String, PathBuf)> {
    source_files().into_iter().filter_map(|(room, file)| Some((room?, file))).collect()
}

/// What a file of a room may name. The API's client is all of `api` that the terminal uses, and
/// knows as little as the terminal does.
fn may_name(room: &str, file: &Path) -> &'static [&'static str] {
    if shown(file).starts_with("src/api/client") {
        return &["model", "catalog"];
    }
    ROOMS.iter().find(|(known, _)| *known == room).map_or(&[], |(_, may)| may)
}

/// How many `super` lead from a file to its room.
fn depth_in_room(file: &Path) -> usize {
    let depth = shown(file).split('/').count().saturating_sub(2);
    if file.file_name().is_some_and(|name| name == "mod.rs") { depth - 1 } else { depth }
}

/// A file's code without comments, texts and tests. Every line keeps its number.
fn code_of_file(file: &Path) -> String {
    without_tests(&blanked(&read(file)))
}

/// Source with its comments, texts and characters blanked.
fn blanked(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        let end = end_of_quiet(&chars, at);
        if end == at {
            code.push(*c);
            at += 1;
            continue;
        }
        let end = end.min(chars.len());
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// The end of the comment, text or character that begins at `at`; `at` where none does.
fn end_of_quiet(chars: &[char], at: usize) -> usize {
    let is = |offset: usize, c: char| chars.get(at + offset) == Some(&c);
    if is(0, '/') && is(1, '/') {
        return (at..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len());
    }
    if is(0, '/') && is(1, '*') {
        return end_of_block(chars, at);
    }
    if is(0, '"') {
        return end_of_text(chars, at + 1, '"');
    }
    if is(0, '\'') && (is(1, '\\') || is(2, '\'')) {
        return end_of_text(chars, at + 1, '\'');
    }
    if is(0, 'r') && !before_is_word(chars, at) {
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        if is(1 + hashes, '"') {
            return end_of_raw(chars, at + 2 + hashes, hashes);
        }
    }
    at
}

fn end_of_block(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_text(chars: &[char], mut at: usize, quote: char) -> usize {
    while let Some(c) = chars.get(at) {
        at += if *c == '\\' { 2 } else { 1 };
        if *c == quote {
            break;
        }
    }
    at
}

fn end_of_raw(chars: &[char], mut at: usize, hashes: usize) -> usize {
    while at < chars.len() {
        let closed =
            chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        at += 1;
        if closed {
            return at + hashes;
        }
    }
    at
}

/// Whether an `r` ends a word; a `b` alone before it makes bytes of a raw text.
fn before_is_word(chars: &[char], at: usize) -> bool {
    let word = |at: Option<usize>| at.is_some_and(|at| is_word(chars[at]));
    let before = at.checked_sub(1);
    let byte = before.is_some_and(|at| chars[at] == 'b') && !word(at.checked_sub(2));
    word(before) && !byte
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks every item that is built for tests only.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, after)) = rest.split_once(MARK) {
        kept.push_str(before);
        let end = end_of_item(after);
        kept.extend(after[..end].chars().filter(|c| *c == '\n'));
        rest = &after[end..];
    }
    kept.push_str(rest);
    kept
}

fn end_of_item(code: &str) -> usize {
    let mut depth = 0_i32;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return at;
        }
        if depth == 0 && (c == ';' || c == '}') {
            return at + 1;
        }
    }
    code.len()
}

/// Every word of some code, with its line.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(code.lines()).flat_map(|(line, text)| {
        text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| (line, word))
    })
}

/// Every path that begins with `start::`, without it, with its line; groups in braces are taken
/// apart.
fn paths_from(code: &str, start: &str) -> Vec<(usize, Vec<String>)> {
    let chars: Vec<char> = code.chars().collect();
    let start: Vec<char> = start.chars().chain("::".chars()).collect();
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..chars.len() {
        if chars[at] == '\n' {
            line += 1;
        }
        let begins = chars[at..].starts_with(&start)
            && at.checked_sub(1).is_none_or(|before| !is_word(chars[before]));
        if begins {
            let mut paths = Vec::new();
            read_path(&chars, at + start.len(), &[], &mut paths);
            found.extend(paths.into_iter().map(|path| (line, path)));
        }
    }
    found
}

/// Reads a path, or a group of paths, and says where it ends.
fn read_path(chars: &[char], at: usize, before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut at = past_space(chars, at);
    if chars.get(at) == Some(&'{') {
        at += 1;
        while chars.get(at).is_some_and(|c| *c != '}') {
            at = read_path(chars, at, before, paths);
            while chars.get(at).is_some_and(|c| *c != ',' && *c != '}') {
                at += 1;
            }
            if chars.get(at) == Some(&',') {
                at = past_space(chars, at + 1);
            }
        }
        return at + 1;
    }
    let word: String = chars[at..].iter().take_while(|c| is_word(**c)).collect();
    if word.is_empty() {
        paths.push(before.to_vec());
        return at + 1;
    }
    at += word.chars().count();
    let mut path = before.to_vec();
    path.push(word);
    if chars.get(at) == Some(&':') && chars.get(at + 1) == Some(&':') {
        return read_path(chars, at + 2, &path, paths);
    }
    paths.push(path);
    at
}

fn past_space(chars: &[char], at: usize) -> usize {
    at + chars.get(at..).unwrap_or_default().iter().take_while(|c| c.is_whitespace()).count()
}

/// Lines on which more than `depth` `super::` follow each other.
fn climbs(code: &str, depth: usize) -> Vec<usize> {
    let chain = "super::".repeat(depth + 1);
    let lines = (1..).zip(code.lines()).filter(|(_, text)| text.contains(&chain));
    lines.map(|(line, _)| line).collect()
}

/// A command as the catalog holds it.
struct Command {
    line: usize,
    name: String,
    for_people: bool,
    args: Vec<String>,
}

fn commands() -> BTreeMap<String, Command> {
    let file = root().join("src/catalog/entries.rs");
    let text = read(&file);
    let mut commands = BTreeMap::new();
    let mut line = 1;
    for part in text.split_inclusive("Command {") {
        let name = quoted_after(part, "name:");
        if let Some(name) = name.first().filter(|name| name.contains('.')) {
            let own = ["Audience::Server", "Audience::Node"];
            let args = ["arg(", "named(", "optional("];
            let command = Command {
                line,
                name: name.clone(),
                for_people: !own.iter().any(|own| part.contains(own)),
                args: args.iter().flat_map(|call| quoted_after(part, call)).collect(),
            };
            commands.insert(name.clone(), command);
        }
        line += part.matches('\n').count();
    }
    assert!(commands.len() > 10, "{}: its commands are not understood", shown(&file));
    commands
}

/// The quoted texts that directly follow a word.
fn quoted_after(text: &str, word: &str) -> Vec<String> {
    let follows = |at: usize| {
        let before = text[..at].chars().next_back();
        let quoted = text[at + word.len()..].trim_start().strip_prefix('"')?;
        let alone = before.is_none_or(|c| !is_word(c));
        alone.then(|| quoted.split('"').next().unwrap_or_default().to_owned())
    };
    text.match_indices(word).filter_map(|(at, _)| follows(at)).collect()
}

/// The sections of a page under headings of the third level, by name, each with its line.
fn sections(page: &str) -> BTreeMap<String, (usize, String)> {
    let mut sections: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut open: Option<String> = None;
    for (line, text) in (1..).zip(page.lines()) {
        if text.starts_with('#') {
            open = text.strip_prefix("### ").map(str::to_owned);
            if let Some(name) = &open {
                sections.insert(name.clone(), (line, String::new()));
            }
        } else if let Some((_, section)) = open.as_ref().and_then(|name| sections.get_mut(name)) {
            section.push_str(text);
            section.push('\n');
        }
    }
    sections
}

/// What stands between backticks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}
