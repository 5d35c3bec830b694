//! The reader of type files (TOML 1.0): every mistake at once, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use serde_json::json;
use toml_edit::{Document, Item, Table, TableLike, Value};

use super::machine::compile_error;
use crate::model::{
    ATTRIBUTE_BYTES_MAX, Action, Attribute, Body, Bounds, CallBody, Code, Definition,
    EventDefinition, EventKind, Group, Json, Kind, Level, Mapped, Name, On, Problem,
    VALUE_BYTES_DEFAULT, parse_duration_ms, suggest,
};

/// Bytes of a type file at most.
const FILE_BYTES_MAX: usize = 256 * 1024;
/// Attributes, events and actions of a type at most, each.
const MEMBERS_MAX: usize = 256;
/// A remote reader may keep a value for a day at most.
const CACHE_MS_MAX: u64 = 86_400_000;
/// Parents of a type at most.
const PARENTS_MAX: usize = 16;
/// How often a timer may run, in milliseconds: from ten times a second to once a year.
const EVERY_MS_MIN: u64 = 100;
const EVERY_MS_MAX: u64 = 365 * 86_400_000;
/// Characters of a refusal's sentence.
const SENTENCE_MAX: usize = 200;

/// A mistake in a type file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What is wrong.
    pub says: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

/// What somebody is told whose type file, called `subject`, has mistakes: all of them, with their
/// places.
pub fn bad_type(subject: &str, mistakes: &[Mistake]) -> Problem {
    let places: Vec<Json> = mistakes
        .iter()
        .map(|mistake| {
            json!({
                "line": mistake.line,
                "column": mistake.column,
                "says": mistake.says,
                "suggestion": mistake.suggestion,
            })
        })
        .collect();
    let first = mistakes.first().map_or_else(String::new, |mistake| {
        format!(": line {}, column {}: {}", mistake.line, mistake.column, mistake.says)
    });
    let count = match mistakes.len() {
        1 => "a mistake".to_owned(),
        count => format!("{count} mistakes"),
    };
    Problem::new(Code::BadType, format!("{subject} has {count}{first}")).with("places", places)
}

/// A type file that was read without a mistake.
#[derive(Clone, PartialEq, Debug)]
pub struct TypeFile {
    /// What it says.
    pub definition: Definition,
    /// What it does not say and was assumed, for people.
    pub assumed: Vec<String>,
}

/// Reads a type file.
///
/// # Errors
/// Every mistake, in the order of their places.
pub fn read_type(text: &str) -> Result<TypeFile, Vec<Mistake>> {
    if text.len() > FILE_BYTES_MAX {
        let says = format!("a type file has at most {FILE_BYTES_MAX} bytes");
        return Err(vec![Mistake { line: 1, column: 1, says, suggestion: None }]);
    }
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            let says = error.message().to_owned();
            return Err(vec![Mistake { line, column, says, suggestion: None }]);
        }
    };
    let mut reader = Reader { text, mistakes: Vec::new(), assumed: Vec::new() };
    let definition = reader.definition(document.as_table());
    if reader.mistakes.is_empty() {
        return Ok(TypeFile { definition, assumed: reader.assumed });
    }
    reader.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    Err(reader.mistakes)
}

fn place(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
    assumed: Vec<String>,
}

impl Reader<'_> {
    fn mistake(&mut self, span: Option<Range<usize>>, says: impl Into<String>) {
        self.suggesting(span, says, None);
    }

    fn suggesting(
        &mut self,
        span: Option<Range<usize>>,
        says: impl Into<String>,
        suggestion: Option<&str>,
    ) {
        let (line, column) = place(self.text, span.map_or(0, |span| span.start));
        let suggestion = suggestion.map(str::to_owned);
        self.mistakes.push(Mistake { line, column, says: says.into(), suggestion });
    }

    /// Names every key of `table` that is not in `known`.
    fn known(&mut self, table: &dyn TableLike, known: &[&str]) {
        for (name, _) in table.iter() {
            if !known.contains(&name) {
                let span = table.key(name).and_then(toml_edit::Key::span);
                self.suggesting(
                    span,
                    format!("unknown key '{name}'"),
                    suggest(name, known.iter().copied()),
                );
            }
        }
    }

    fn definition(&mut self, top: &Table) -> Definition {
        self.known(
            top,
            &[
                "name",
                "description",
                "parents",
                "protected",
                "bounds",
                "create_group",
                "see_group",
                "attributes",
                "events",
                "actions",
            ],
        );
        let name = match self.name(top, "name") {
            Some(name) => name,
            None => {
                if top.get("name").is_none() {
                    self.mistake(None, "a type needs a name");
                }
                Name::new("unnamed").unwrap_or_else(|_| unreachable!("it is a name"))
            }
        };
        let parents = self.parents(top);
        let protected = self.name(top, "protected");
        let attributes = self.members(top, "attributes", Self::attribute);
        let events = self.members(top, "events", Self::event);
        let mut actions = self.members(top, "actions", Self::action);
        for (name, action) in &mut actions {
            name.clone_into(&mut action.name);
        }
        let actions = actions.into_iter().map(|(name, action)| (name, Arc::new(action))).collect();
        if parents.is_empty() {
            // With parents, a name may be one of theirs: that shows when it is published.
            self.check_attributes_of(top, &actions, &attributes);
        }
        self.check_families(top, &attributes, &events, !parents.is_empty());
        let definition = Definition {
            name,
            description: self.string(top, "description").unwrap_or_default(),
            protected,
            attributes,
            events,
            actions,
            parents,
            bounds: self.bounds(top),
            create_group: self.group(top, "create_group").unwrap_or(Group::Everyone),
            see_group: self.group(top, "see_group").unwrap_or(Group::Everyone),
        };
        self.check_list(top, &definition);
        definition
    }

    fn parents(&mut self, top: &Table) -> Vec<String> {
        let Some(item) = top.get("parents") else { return Vec::new() };
        let names: Option<Vec<String>> = item.as_array().and_then(|array| {
            array.iter().map(|value| value.as_str().map(str::to_owned)).collect()
        });
        match names {
            Some(names) if names.len() <= PARENTS_MAX => names,
            Some(_) => {
                self.mistake(item.span(), format!("a type has at most {PARENTS_MAX} parents"));
                Vec::new()
            }
            None => {
                self.mistake(item.span(), "'parents' must be a list of names of types");
                Vec::new()
            }
        }
    }

    /// Checks that each family ends, and that its members are there.
    fn check_families(
        &mut self,
        top: &Table,
        attributes: &BTreeMap<String, Attribute>,
        events: &BTreeMap<String, EventDefinition>,
        has_parents: bool,
    ) {
        let of_attributes: BTreeMap<&str, &str> = attributes
            .iter()
            .filter_map(|(name, held)| Some((name.as_str(), held.parent.as_deref()?)))
            .collect();
        let of_events: BTreeMap<&str, &str> = events
            .iter()
            .filter_map(|(name, held)| Some((name.as_str(), held.parent.as_deref()?)))
            .collect();
        let known_attributes: BTreeSet<&str> = attributes.keys().map(String::as_str).collect();
        let known_events: BTreeSet<&str> = events.keys().map(String::as_str).collect();
        for (what, family, known) in
            [("attributes", of_attributes, known_attributes), ("events", of_events, known_events)]
        {
            for (name, parent) in &family {
                let item = top.get(what).and_then(|item| item.get(name));
                let span = item.and_then(|item| item.get("parent")).and_then(Item::span);
                if !known.contains(parent) && !has_parents {
                    let says = format!("there is no '{parent}' among the {what}");
                    self.suggesting(span, says, suggest(parent, known.iter().copied()));
                    continue;
                }
                let ancestors = std::iter::successors(Some(*parent), |at| family.get(at).copied());
                if ancestors.take(family.len() + 1).any(|at| at == *name) {
                    self.mistake(span, format!("'{name}' would be its own ancestor"));
                }
            }
        }
    }

    fn bounds(&mut self, table: &dyn TableLike) -> Bounds {
        let Some(item) = table.get("bounds") else { return Bounds::default() };
        let Some(json) = table_json(item) else {
            self.mistake(item.span(), "'bounds' must be a table without dates");
            return Bounds::default();
        };
        match Bounds::from_json(&json) {
            Ok(bounds) => bounds,
            Err(mistakes) => {
                for says in mistakes {
                    self.mistake(item.span(), format!("bounds: {says}"));
                }
                Bounds::default()
            }
        }
    }

    fn group(&mut self, table: &dyn TableLike, key: &str) -> Option<Group> {
        match self.string(table, key)?.as_str() {
            "owner" => Some(Group::Owner),
            "everyone" => Some(Group::Everyone),
            _ => self.name(table, key).map(Group::Named),
        }
    }

    fn flag(&mut self, table: &dyn TableLike, key: &str) -> bool {
        let Some(item) = table.get(key) else { return false };
        if item.as_bool().is_none() {
            self.mistake(item.span(), format!("'{key}' must be true or false"));
        }
        item.as_bool().unwrap_or(false)
    }

    fn check_list(&mut self, top: &Table, definition: &Definition) {
        let attributes =
            definition.attributes.values().flat_map(|attribute| [attribute.read, attribute.write]);
        let levels = attributes.chain(definition.actions.values().map(|action| action.level));
        if definition.protected.is_none()
            && levels.into_iter().any(|level| level == Level::Protected)
        {
            let span = top.get("name").and_then(Item::span);
            self.mistake(span, "something is protected, but 'protected' names no list");
        }
    }

    fn check_attributes_of(
        &mut self,
        top: &Table,
        actions: &BTreeMap<String, Arc<Action>>,
        attributes: &BTreeMap<String, Attribute>,
    ) {
        for action in actions.values() {
            let Some(attribute) = &action.attribute else { continue };
            if !attributes.contains_key(attribute) {
                let item = top
                    .get("actions")
                    .and_then(|item| item.get(&action.name))
                    .and_then(|item| item.get("attribute"));
                let meant = suggest(attribute, attributes.keys().map(String::as_str));
                self.suggesting(
                    item.and_then(Item::span),
                    format!("there is no attribute '{attribute}'"),
                    meant,
                );
            }
        }
    }

    fn members<T>(
        &mut self,
        top: &Table,
        key: &str,
        mut read: impl FnMut(&mut Self, &str, &dyn TableLike) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let mut members = BTreeMap::new();
        let Some(item) = top.get(key) else { return members };
        let Some(table) = item.as_table_like() else {
            self.mistake(item.span(), format!("'{key}' must be a table"));
            return members;
        };
        if table.len() > MEMBERS_MAX {
            self.mistake(item.span(), format!("a type has at most {MEMBERS_MAX} {key}"));
            return members;
        }
        for (name, item) in table.iter() {
            let span = table.key(name).and_then(toml_edit::Key::span);
            if let Err(mistake) = Name::new(name) {
                self.mistake(span.clone(), mistake.to_string());
                continue;
            }
            let Some(inner) = item.as_table_like() else {
                self.mistake(item.span().or(span), format!("'{key}.{name}' must be a table"));
                continue;
            };
            if let Some(member) = read(self, name, inner) {
                members.insert(name.to_owned(), member);
            }
        }
        members
    }

    fn attribute(&mut self, name: &str, table: &dyn TableLike) -> Option<Attribute> {
        self.known(
            table,
            &[
                "kind",
                "default",
                "read",
                "write",
                "read_group",
                "write_group",
                "cache",
                "min",
                "max",
                "max_bytes",
                "final",
                "static",
                "parent",
                "expires",
                "index",
                "bounds",
            ],
        );
        let words = Kind::ALL.map(Kind::as_str);
        let word = self.one_of(table, "kind", &words);
        if word.is_none() && table.get("kind").is_none() {
            self.mistake(
                span_of(table),
                format!("attribute '{name}' needs a kind: {}", words.join(", ")),
            );
        }
        let kind = Kind::ALL.into_iter().find(|kind| Some(kind.as_str()) == word.as_deref())?;
        let (read, read_group) = self.right(name, table, "read", "read_group");
        let (write, write_group) = self.right(name, table, "write", "write_group");
        let mut attribute = Attribute {
            kind,
            default: Json::Null,
            read,
            write,
            read_group,
            write_group,
            cache_ms: self.cache(table),
            min: self.number(table, "min"),
            max: self.number(table, "max"),
            max_bytes: self.max_bytes(table),
            is_final: self.flag(table, "final"),
            is_static: self.flag(table, "static"),
            parent: self.string(table, "parent"),
            expires: self.flag(table, "expires"),
            index: self.flag(table, "index"),
            bounds: self.bounds(table),
            ancestor: None,
        };
        if attribute.expires && kind != Kind::Integer {
            let says = "what expires says when, as an integer: milliseconds since 1970";
            self.mistake(table.get("expires").and_then(Item::span), says);
        }
        if attribute.index && matches!(kind, Kind::Json | Kind::Position) {
            let says = format!("a {} cannot be found by its value", kind.as_str());
            self.mistake(table.get("index").and_then(Item::span), says);
        }
        if let Some(item) = table.get("default") {
            match item.as_value().and_then(to_json) {
                Some(value) => match attribute.check(value) {
                    Ok(value) => attribute.default = value,
                    Err(mistake) => self.mistake(item.span(), format!("the default: {mistake}")),
                },
                None => self.mistake(item.span(), "the default must be a value without dates"),
            }
        }
        Some(attribute)
    }

    fn right(
        &mut self,
        name: &str,
        table: &dyn TableLike,
        level: &str,
        group: &str,
    ) -> (Level, Group) {
        let given = self.level(table, level);
        if given.is_none() && table.get(level).is_none() {
            self.assumed.push(format!("{name}: {level} is private, for the owner"));
        }
        let level_is = given.unwrap_or_default();
        let named = self.group(table, group);
        let assumed = named.is_none();
        let group_is = named.unwrap_or_else(|| Group::assumed_at(level_is));
        if assumed && level_is != Level::Private {
            self.assumed.push(format!("{name}: {group} is everyone"));
        }
        (level_is, group_is)
    }

    fn level(&mut self, table: &dyn TableLike, key: &str) -> Option<Level> {
        match self.one_of(table, key, &["private", "protected", "public"])?.as_str() {
            "private" => Some(Level::Private),
            "protected" => Some(Level::Protected),
            _ => Some(Level::Public),
        }
    }

    fn cache(&mut self, table: &dyn TableLike) -> u64 {
        let Some(text) = self.string(table, "cache") else { return 0 };
        let span = table.get("cache").and_then(Item::span);
        match parse_duration_ms(&text) {
            Some(ms) if ms <= CACHE_MS_MAX => ms,
            Some(_) => {
                self.mistake(span, "a value may be kept for at most 24h");
                0
            }
            None => {
                self.mistake(
                    span,
                    format!("'{text}' is no span of time: write 500ms, 5s, 10m or 24h"),
                );
                0
            }
        }
    }

    fn max_bytes(&mut self, table: &dyn TableLike) -> usize {
        let Some(item) = table.get("max_bytes") else { return VALUE_BYTES_DEFAULT };
        match item.as_integer().and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) if (1..=ATTRIBUTE_BYTES_MAX).contains(&bytes) => bytes,
            Some(_) | None => {
                self.mistake(
                    item.span(),
                    format!("max_bytes is a whole number from 1 to {ATTRIBUTE_BYTES_MAX}"),
                );
                VALUE_BYTES_DEFAULT
            }
        }
    }

    fn event(&mut self, _name: &str, table: &dyn TableLike) -> Option<EventDefinition> {
        self.known(table, &["all_keys", "required_keys", "paths", "parent", "every"]);
        let all_keys = self.strings(table, "all_keys");
        let required_keys = self.strings(table, "required_keys").unwrap_or_default();
        if let Some(all) = &all_keys
            && let Some(missing) = required_keys.iter().find(|key| !all.contains(*key))
        {
            let span = table.get("required_keys").and_then(Item::span);
            self.mistake(span, format!("required key '{missing}' is not among all_keys"));
        }
        let paths = self.strings(table, "paths").unwrap_or_default();
        for path in &paths {
            if let Err(error) = serde_json_path::JsonPath::parse(path) {
                let span = table.get("paths").and_then(Item::span);
                self.mistake(span, format!("'{path}' is no JSON path: {error}"));
            }
        }
        let every_ms = self.every(table);
        if let Some(key) = required_keys.first().filter(|_| every_ms.is_some()) {
            let says = format!("what is fired by itself has no data, so nothing fills in '{key}'");
            self.mistake(table.get("every").and_then(Item::span), says);
        }
        let parent = self.string(table, "parent");
        Some(EventDefinition { all_keys, required_keys, paths, parent, every_ms })
    }

    fn every(&mut self, table: &dyn TableLike) -> Option<u64> {
        let text = self.string(table, "every")?;
        let span = table.get("every").and_then(Item::span);
        match parse_duration_ms(&text) {
            Some(ms) if (EVERY_MS_MIN..=EVERY_MS_MAX).contains(&ms) => Some(ms),
            Some(_) => {
                self.mistake(span, "a timer runs every 100ms at most, and every 365d at least");
                None
            }
            None => {
                let says = format!("'{text}' is no span of time: write 500ms, 5s, 10m or 24h");
                self.mistake(span, says);
                None
            }
        }
    }

    fn action(&mut self, name: &str, table: &dyn TableLike) -> Option<Action> {
        self.known(
            table,
            &[
                "on",
                "of",
                "attribute",
                "level",
                "priority",
                "portable",
                "above",
                "ask",
                "script",
                "refuse",
                "accept",
                "reply",
                "call",
                "in",
                "out",
            ],
        );
        let portable = self.flag(table, "portable");
        let above = self.one_of(table, "above", &["accept", "refuse"]);
        let level = self.level(table, "level");
        if level.is_none() && table.get("level").is_none() {
            self.assumed.push(format!("{name}: level is private"));
        }
        let of_set = self.one_of(table, "of", &["self", "set"]).as_deref() == Some("set");
        let priority = self.priority(table);
        let attribute = self.string(table, "attribute");
        let on = self.on(name, table);
        let body = self.body(name, table);
        let on = on?;
        let about = match &on {
            On::Before(kind) | On::After(kind) => kind.is_about_attribute(),
            On::Custom(_) => false,
        };
        if above.is_some() && !matches!(on, On::Before(_)) {
            let says = "only what happens before can be refused or accepted above its level";
            self.mistake(table.get("above").and_then(Item::span), says);
        }
        if of_set && !matches!(on, On::After(_)) {
            let says = "of what stands in the same set, only after-events are heard";
            self.mistake(table.get("of").and_then(Item::span), says);
        }
        if attribute.is_some() && !about {
            self.mistake(
                table.get("attribute").and_then(Item::span),
                format!("{on} is not about an attribute"),
            );
        }
        Some(Action {
            name: name.to_owned(),
            on,
            attribute,
            level: level.unwrap_or_default(),
            priority,
            body: body?,
            of_set,
            depth: 0,
            defined_by: None,
            ancestor: None,
            portable,
            above_accepts: above.map(|above| above == "accept"),
        })
    }

    fn priority(&mut self, table: &dyn TableLike) -> i16 {
        let Some(item) = table.get("priority") else { return 0 };
        match item.as_integer() {
            Some(priority) if (-1_000..=1_000).contains(&priority) => {
                i16::try_from(priority).unwrap_or(0)
            }
            Some(_) | None => {
                self.mistake(item.span(), "priority is a whole number from -1000 to 1000");
                0
            }
        }
    }

    fn on(&mut self, name: &str, table: &dyn TableLike) -> Option<On> {
        let Some(text) = self.string(table, "on") else {
            if table.get("on").is_none() {
                self.mistake(
                    span_of(table),
                    format!("action '{name}' needs 'on': before:KIND, after:KIND or event:NAME"),
                );
            }
            return None;
        };
        let span = table.get("on").and_then(Item::span);
        let when = text.split(':').next().unwrap_or_default().to_owned();
        let fits = move |kind: &EventKind| match when.as_str() {
            "before" => kind.has_before(),
            _ => kind.has_after(),
        };
        let kinds: Vec<&str> =
            EventKind::ALL.iter().filter(|kind| fits(kind)).map(|kind| kind.as_str()).collect();
        let kind = |word: &str| EventKind::named(word).filter(&fits);
        match text.split_once(':') {
            Some(("event", custom)) => match Name::new(custom) {
                Ok(custom) => Some(On::Custom(custom.as_str().to_owned())),
                Err(mistake) => {
                    self.mistake(span, mistake.to_string());
                    None
                }
            },
            Some((when @ ("before" | "after"), word)) => match kind(word) {
                Some(kind) if when == "before" => Some(On::Before(kind)),
                Some(kind) => Some(On::After(kind)),
                None => {
                    let says = format!("there is no event '{word}': {}", kinds.join(", "));
                    self.suggesting(span, says, suggest(word, kinds.iter().copied()));
                    None
                }
            },
            Some(_) | None => {
                self.mistake(
                    span,
                    format!("'{text}' must be before:KIND, after:KIND or event:NAME"),
                );
                None
            }
        }
    }

    fn body(&mut self, name: &str, table: &dyn TableLike) -> Option<Body> {
        let bodies = ["script", "refuse", "accept", "reply", "call", "ask"];
        let given: Vec<&str> =
            bodies.into_iter().filter(|body| table.get(body).is_some()).collect();
        let [body] = given.as_slice() else {
            let says = format!("action '{name}' needs exactly one of: {}", bodies.join(", "));
            self.mistake(span_of(table), says);
            return None;
        };
        if *body != "call" {
            for key in ["in", "out"] {
                if let Some(item) = table.get(key) {
                    self.mistake(item.span(), format!("'{key}' goes with 'call'"));
                }
            }
        }
        let item = table.get(body)?;
        match *body {
            "script" => self.script(item),
            "refuse" => self.refuse(item),
            "accept" => self.accept(item),
            "reply" => self.reply(item),
            "ask" => self.ask(item),
            _ => self.call(table, item),
        }
    }

    fn script(&mut self, item: &Item) -> Option<Body> {
        let Some(source) = item.as_str() else {
            self.mistake(item.span(), "a script is text");
            return None;
        };
        let start = item.span().map_or(0, |span| span.start);
        let (mut line, column) = place(self.text, start);
        // A newline right after the opening quotes is not part of the text.
        let quoted = self.text.get(start..).unwrap_or_default();
        let opening = quoted.trim_start_matches(['\'', '"']);
        if quoted.len() - opening.len() >= 3
            && (opening.starts_with('\n') || opening.starts_with("\r\n"))
        {
            line += 1;
        }
        if let Some((inner, says)) = compile_error(source) {
            let says = format!("the script does not compile: {says}");
            self.mistakes.push(Mistake {
                line: line + inner - 1,
                column: if inner == 1 { column } else { 1 },
                says,
                suggestion: None,
            });
            return None;
        }
        Some(Body::Script { source: source.to_owned(), line })
    }

    fn refuse(&mut self, item: &Item) -> Option<Body> {
        match item.as_str() {
            Some(sentence) if (1..=SENTENCE_MAX).contains(&sentence.chars().count()) => {
                Some(Body::Refuse(sentence.to_owned()))
            }
            Some(_) | None => {
                self.mistake(
                    item.span(),
                    format!("refuse needs a sentence of 1 to {SENTENCE_MAX} characters"),
                );
                None
            }
        }
    }

    fn ask(&mut self, item: &Item) -> Option<Body> {
        match item.as_str() {
            Some(sentence) if (1..=SENTENCE_MAX).contains(&sentence.chars().count()) => {
                Some(Body::Ask(sentence.to_owned()))
            }
            Some(_) | None => {
                let says = format!("ask needs a sentence of 1 to {SENTENCE_MAX} characters");
                self.mistake(item.span(), says);
                None
            }
        }
    }

    fn accept(&mut self, item: &Item) -> Option<Body> {
        if item.as_bool() == Some(true) {
            return Some(Body::Accept);
        }
        self.mistake(item.span(), "accept can only be true");
        None
    }

    fn reply(&mut self, item: &Item) -> Option<Body> {
        let Some(table) = item.as_table_like() else {
            self.mistake(item.span(), "reply must be a table of constants");
            return None;
        };
        let mut constants = BTreeMap::new();
        for (key, item) in table.iter() {
            match item.as_value().and_then(to_json) {
                Some(value) => {
                    constants.insert(key.to_owned(), value);
                }
                None => self.mistake(item.span(), format!("'{key}' must be a value without dates")),
            }
        }
        Some(Body::Reply(constants))
    }

    fn call(&mut self, table: &dyn TableLike, item: &Item) -> Option<Body> {
        let Some(call) = item.as_table_like() else {
            self.mistake(item.span(), "call must be { element = NAME, action = NAME }");
            return None;
        };
        self.known(call, &["element", "action"]);
        let args_in = self.mapping(table, "in");
        let data_out = self.mapping(table, "out");
        let (Some(element), Some(action)) =
            (self.string(call, "element"), self.string(call, "action"))
        else {
            self.mistake(item.span(), "call needs an element and an action");
            return None;
        };
        Some(Body::Call(CallBody { element, action, args_in, data_out }))
    }

    fn mapping(&mut self, table: &dyn TableLike, key: &str) -> BTreeMap<String, Mapped> {
        let mut mapping = BTreeMap::new();
        let Some(item) = table.get(key) else { return mapping };
        let Some(inner) = item.as_table_like() else {
            self.mistake(item.span(), format!("'{key}' must be a table"));
            return mapping;
        };
        for (name, item) in inner.iter() {
            if let Some(path) = item.as_str() {
                match serde_json_path::JsonPath::parse(path) {
                    Ok(_) => {
                        mapping.insert(name.to_owned(), Mapped::Path(path.to_owned()));
                    }
                    Err(error) => {
                        self.mistake(item.span(), format!("'{path}' is no JSON path: {error}"))
                    }
                }
                continue;
            }
            let constant = item
                .as_table_like()
                .filter(|table| table.len() == 1)
                .and_then(|table| table.get("value"));
            match constant.and_then(Item::as_value).and_then(to_json) {
                Some(value) => {
                    mapping.insert(name.to_owned(), Mapped::Constant(value));
                }
                None => self.mistake(
                    item.span(),
                    format!("'{name}' must be \"$.path\" or {{ value = CONSTANT }}"),
                ),
            }
        }
        mapping
    }

    fn name(&mut self, table: &dyn TableLike, key: &str) -> Option<Name> {
        let text = self.string(table, key)?;
        match Name::new(&text) {
            Ok(name) => Some(name),
            Err(mistake) => {
                self.mistake(table.get(key).and_then(Item::span), mistake.to_string());
                None
            }
        }
    }

    fn string(&mut self, table: &dyn TableLike, key: &str) -> Option<String> {
        let item = table.get(key)?;
        if item.as_str().is_none() {
            self.mistake(item.span(), format!("'{key}' must be text"));
        }
        item.as_str().map(str::to_owned)
    }

    fn strings(&mut self, table: &dyn TableLike, key: &str) -> Option<BTreeSet<String>> {
        let item = table.get(key)?;
        let texts: Option<BTreeSet<String>> = item.as_array().and_then(|array| {
            array.iter().map(|value| value.as_str().map(str::to_owned)).collect()
        });
        if texts.is_none() {
            self.mistake(item.span(), format!("'{key}' must be a list of texts"));
        }
        texts
    }

    fn number(&mut self, table: &dyn TableLike, key: &str) -> Option<f64> {
        let item = table.get(key)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a limit beyond 2^53 is no limit of any kind we have"
        )]
        let number = item.as_float().or_else(|| item.as_integer().map(|whole| whole as f64));
        if !number.is_some_and(f64::is_finite) {
            self.mistake(item.span(), format!("'{key}' must be a finite number"));
        }
        number
    }

    fn one_of(&mut self, table: &dyn TableLike, key: &str, words: &[&str]) -> Option<String> {
        let text = self.string(table, key)?;
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        let span = table.get(key).and_then(Item::span);
        let says = format!("{key} '{text}' must be one of: {}", words.join(", "));
        self.suggesting(span, says, suggest(&text, words.iter().copied()));
        None
    }
}

fn span_of(table: &dyn TableLike) -> Option<Range<usize>> {
    table.iter().next().and_then(|(name, _)| table.key(name)).and_then(toml_edit::Key::span)
}

/// A TOML table as JSON, its times as text; none where it is no table.
fn table_json(item: &Item) -> Option<Json> {
    let members = item.as_table_like()?.iter().map(|(key, item)| {
        let value = match item {
            Item::Value(value) => Some(timed_json(value)),
            Item::ArrayOfTables(tables) => tables
                .iter()
                .map(|table| table_json(&Item::Table(table.clone())))
                .collect::<Option<Vec<_>>>()
                .map(Json::Array),
            other => table_json(other),
        };
        value.map(|value| (key.to_owned(), value))
    });
    members.collect::<Option<serde_json::Map<_, _>>>().map(Json::Object)
}

/// A TOML value as JSON, its times as text.
fn timed_json(value: &Value) -> Json {
    match value {
        Value::Datetime(time) => Json::from(time.value().to_string()),
        Value::Array(items) => items.iter().map(timed_json).collect(),
        Value::InlineTable(table) => Json::Object(
            table.iter().map(|(key, value)| (key.to_owned(), timed_json(value))).collect(),
        ),
        other => to_json(other).unwrap_or_default(),
    }
}

/// A TOML value as JSON; none where it holds a date or a time.
fn to_json(value: &Value) -> Option<Json> {
    match value {
        Value::String(text) => Some(Json::from(text.value().as_str())),
        Value::Integer(number) => Some(Json::from(*number.value())),
        Value::Float(number) => serde_json::Number::from_f64(*number.value()).map(Json::Number),
        Value::Boolean(value) => Some(Json::from(*value.value())),
        Value::Datetime(_) => None,
        Value::Array(items) => {
            items.iter().map(to_json).collect::<Option<Vec<_>>>().map(Json::Array)
        }
        Value::InlineTable(table) => table
            .iter()
            .map(|(key, value)| to_json(value).map(|value| (key.to_owned(), value)))
            .collect::<Option<serde_json::Map<_, _>>>()
            .map(Json::Object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMP: &str = include_str!("../../examples/lamp.toml");

    #[test]
    fn the_lamp_is_read_and_what_it_does_not_say_is_said() {
        let file = read_type(LAMP).unwrap();

        let on = &file.definition.attributes["on"];
        assert_eq!((on.read, on.write, on.cache_ms), (Level::Public, Level::Protected, 5_000));
        let secret = &file.definition.attributes["secret"];
        assert_eq!((secret.read, secret.read_group.clone()), (Level::Private, Group::Owner));
        assert!(file.assumed.contains(&"secret: read is private, for the owner".to_owned()));
        assert_eq!(file.definition.actions["curfew"].priority, 10);
    }

    #[test]
    fn all_mistakes_come_at_once_with_their_places() {
        let text = r#"name = "lamp"
protectd = "family"

[attributes.on]
kind = "boolean"

[attributes.level]
kind = "integer"
default = "five"
cache = "2 days"

[actions.toggle]
on = "event:toggle"
script = '''
local x = 1
if x then
'''

[actions.both]
on = "before:value_chang"
accept = true
refuse = "no"
"#;
        let mistakes = read_type(text).unwrap_err();
        let found: Vec<(u32, Option<&str>)> =
            mistakes.iter().map(|mistake| (mistake.line, mistake.suggestion.as_deref())).collect();

        assert_eq!(
            found,
            [
                (2, Some("protected")),
                (5, Some("bool")),
                (9, None),
                (10, None),
                (17, None),
                (20, None),
                (20, Some("value_change"))
            ],
            "{mistakes:#?}"
        );
    }

    #[test]
    fn no_text_at_all_makes_the_reader_panic() {
        for end in 0..LAMP.len() {
            if let Some(text) = LAMP.get(..end) {
                let _ = read_type(text);
            }
        }
    }
}
