//! Selections: the small language that says which elements of a world are meant.
//!
//! ```text
//! expr  := and ("or" and)*
//! and   := unary ("and" unary)*
//! unary := "not" unary | "(" expr ")" | term
//! term  := "type" ("=" | "!=") WORD
//!        | "name" ("=" | "!=") PATTERN
//!        | "owner" ("=" | "!=") WORD
//!        | "id" "=" WORD
//!        | "in" WORD
//!        | ("child" | "parent") "of" WORD
//!        | "linked" ("from" | "to") WORD
//!        | "defines" "set"
//!        | ATTRIBUTE ("=" | "!=" | "<" | "<=" | ">" | ">=") VALUE
//!        | ATTRIBUTE "in" VALUE ".." VALUE
//!        | ATTRIBUTE "is" "set"
//! ```
//!
//! Keywords are read without case, and so are the values `true`, `false` and `null`; arrays and
//! objects are strict JSON. A WORD has letters, digits and `- _ : / @ .`, but no `..`; a PATTERN
//! has `*` too. An ATTRIBUTE has letters, digits, `-` and `_`; one that is also a keyword is
//! written with a dot before it: `.name = "x"`. A VALUE is JSON or a bare word, which is text.
//! Wherever a word may stand, a JSON string may stand; `and`, `or` and `not` are words only in
//! quotes. White space alone selects everything.

use std::cmp::Ordering;
use std::fmt;

use super::{Json, name_key};

/// Bytes of a selection's text at most.
const SELECTION_BYTES_MAX: usize = 4096;

/// Conditions of a selection at most.
const SELECTION_TERMS_MAX: usize = 64;

/// How deep parentheses and `not` may stand inside each other, and how deep a value may be nested.
const SELECTION_DEPTH_MAX: usize = 16;

/// Characters of a text that a mistake quotes.
const FOUND_CHARS_MAX: usize = 40;

/// Words that an attribute's name is told from by a dot.
const KEYWORDS: [&str; 17] = [
    "and", "child", "defines", "from", "id", "in", "is", "linked", "name", "not", "of", "or",
    "owner", "parent", "set", "to", "type",
];

/// Keywords that no bare word may be, so that a forgotten word is noticed where it is missing.
const JOINING: [&str; 3] = ["and", "not", "or"];

/// Makes a test of the value that stands after a sign.
type MakeTest = fn(Json) -> Test;

/// What compares an attribute, the longer signs first.
const OPERATORS: [(&str, MakeTest); 6] = [
    ("!=", Test::NotEqual),
    ("<=", Test::AtMost),
    (">=", Test::AtLeast),
    ("=", Test::Equal),
    ("<", Test::Less),
    (">", Test::More),
];

/// Which elements of a world are meant.
///
/// What [`Selection::parse`] made keeps to the limits, and prints as a text that parses to the
/// same selection.
#[derive(Clone, PartialEq, Debug)]
pub struct Selection(pub Expr);

/// A condition on an element. [`Expr::All`] stands alone; [`Expr::And`] and [`Expr::Or`] hold two
/// parts or more.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// Every element.
    All,
    /// Every part holds.
    And(Vec<Self>),
    /// One part holds at least.
    Or(Vec<Self>),
    /// The inner condition does not hold.
    Not(Box<Self>),
    /// It is of the type named so.
    Type(String),
    /// Its name fits the pattern, see [`fits_pattern`].
    Name(String),
    /// It is owned by the account named so.
    Owner(String),
    /// It has this id.
    Id(String),
    /// It stands in the set that the element named so defines.
    In(String),
    /// It defines a set that is a child of the set that the element named so defines.
    ChildOf(String),
    /// It defines a set that is a parent of the set that the element named so defines.
    ParentOf(String),
    /// It defines a set to which the set of the element named so has a link.
    LinkedFrom(String),
    /// It defines a set that has a link to the set of the element named so.
    LinkedTo(String),
    /// It defines a set.
    DefinesSet,
    /// An attribute's value passes a test.
    Value {
        /// The attribute's name as it was written, without the dot.
        attribute: String,
        /// What the value must meet.
        test: Test,
    },
}

/// What a value must meet.
#[derive(Clone, PartialEq, Debug)]
pub enum Test {
    /// It equals this.
    Equal(Json),
    /// It does not equal this.
    NotEqual(Json),
    /// It is less than this.
    Less(Json),
    /// It is this or less.
    AtMost(Json),
    /// It is more than this.
    More(Json),
    /// It is this or more.
    AtLeast(Json),
    /// It is within both, the ends included.
    Between(Json, Json),
    /// It is not null.
    IsSet,
}

/// The text is no selection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}")]
pub struct SelectionMistake {
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// What could have stood there, in words.
    pub expected: String,
    /// What stands there, shortened.
    pub found: String,
}

impl Selection {
    /// Reads a selection.
    ///
    /// # Errors
    /// Says where the text breaks the grammar or a limit, and what could have stood there.
    pub fn parse(text: &str) -> Result<Self, SelectionMistake> {
        let mut reader = Reader { text, at: 0, depth: 0, terms: 0 };
        let expected = format!("at most {SELECTION_BYTES_MAX} bytes");
        if text.len() > SELECTION_BYTES_MAX {
            return Err(reader.mistake_of(expected, format!("{} bytes", text.len())));
        }
        reader.advance(0);
        if reader.rest().is_empty() {
            return Ok(Self(Expr::All));
        }
        let selection = Self(reader.alternatives()?);
        if !reader.rest().is_empty() {
            return Err(reader.mistake("'and', 'or' or the end"));
        }
        // The printed text may have more spaces, and must be read again where it is kept.
        let printed = selection.to_string().len();
        if printed > SELECTION_BYTES_MAX {
            return Err(reader.mistake_of(expected, format!("{printed} bytes written out")));
        }
        Ok(selection)
    }

    /// The type that every selected element is of, where the selection says so.
    pub fn required_type(&self) -> Option<&str> {
        required(&self.0, |expr| match expr {
            Expr::Type(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The set in which every selected element stands, where the selection says so.
    pub fn required_set(&self) -> Option<&str> {
        required(&self.0, |expr| match expr {
            Expr::In(word) => Some(word.as_str()),
            _ => None,
        })
    }

    /// An attribute and the value that it has in every selected element, where the selection says
    /// so.
    pub fn required_value(&self) -> Option<(&str, &Json)> {
        required(&self.0, |expr| match expr {
            Expr::Value { attribute, test: Test::Equal(value) } => {
                Some((attribute.as_str(), value))
            }
            _ => None,
        })
    }

    /// An attribute and the bounds within which its value is in every selected element, where the
    /// selection says so.
    pub fn required_range(&self) -> Option<(&str, &Test)> {
        required(&self.0, |expr| match expr {
            Expr::Value { attribute, test } if test.is_range() => Some((attribute.as_str(), test)),
            _ => None,
        })
    }
}

/// The first condition at the top conjunction from which something is picked.
fn required<'a, T>(expr: &'a Expr, pick: fn(&'a Expr) -> Option<T>) -> Option<T> {
    match expr {
        Expr::And(parts) => parts.iter().find_map(|part| required(part, pick)),
        other => pick(other),
    }
}

impl Test {
    /// Whether `value` passes. Numbers are compared as numbers, so 2 equals 2.0, inside arrays and
    /// objects too; strings as text; other kinds by equality alone. Nothing is less or more than a
    /// value of another kind.
    pub fn holds(&self, value: &Json) -> bool {
        match self {
            Self::Equal(other) => is_equal(value, other),
            Self::NotEqual(other) => !is_equal(value, other),
            Self::Less(other) => order(value, other).is_some_and(Ordering::is_lt),
            Self::AtMost(other) => order(value, other).is_some_and(Ordering::is_le),
            Self::More(other) => order(value, other).is_some_and(Ordering::is_gt),
            Self::AtLeast(other) => order(value, other).is_some_and(Ordering::is_ge),
            Self::Between(least, most) => {
                order(value, least).is_some_and(Ordering::is_ge)
                    && order(value, most).is_some_and(Ordering::is_le)
            }
            Self::IsSet => !value.is_null(),
        }
    }

    const fn is_range(&self) -> bool {
        match self {
            Self::Less(_)
            | Self::AtMost(_)
            | Self::More(_)
            | Self::AtLeast(_)
            | Self::Between(..) => true,
            Self::Equal(_) | Self::NotEqual(_) | Self::IsSet => false,
        }
    }
}

fn is_equal(value: &Json, other: &Json) -> bool {
    match (value, other) {
        (Json::Number(a), Json::Number(b)) => order_of_numbers(a, b) == Some(Ordering::Equal),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_equal(a, b)))
        }
        _ => value == other,
    }
}

fn order(value: &Json, other: &Json) -> Option<Ordering> {
    match (value, other) {
        (Json::Number(a), Json::Number(b)) => order_of_numbers(a, b),
        (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn order_of_numbers(a: &serde_json::Number, b: &serde_json::Number) -> Option<Ordering> {
    // Two whole numbers are compared whole: as floats, large neighbours would be equal.
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn whole(number: &serde_json::Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Whether a text fits a pattern, in which `*` stands for any characters, also none. Both are
/// compared as names are: in NFC, without case.
pub fn fits_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (name_key(pattern), name_key(text));
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = text.strip_prefix(start).and_then(|text| text.strip_suffix(end));
    let Some(mut inner) = inner else { return false };
    for part in middle.split('*') {
        let Some(at) = inner.find(part) else { return false };
        inner = &inner[at + part.len()..];
    }
    true
}

/// A text that is being read. White space before `at` was skipped.
#[derive(Clone, Copy)]
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    terms: usize,
}

impl<'a> Reader<'a> {
    fn alternatives(&mut self) -> Result<Expr, SelectionMistake> {
        let first = self.conjunction()?;
        let mut parts = vec![first];
        while self.keyword("or") {
            parts.push(self.conjunction()?);
        }
        Ok(joined(parts, Expr::Or))
    }

    fn conjunction(&mut self) -> Result<Expr, SelectionMistake> {
        let first = self.unary()?;
        let mut parts = vec![first];
        while self.keyword("and") {
            parts.push(self.unary()?);
        }
        Ok(joined(parts, Expr::And))
    }

    fn unary(&mut self) -> Result<Expr, SelectionMistake> {
        let here = *self;
        if self.keyword("not") {
            here.check_depth()?;
            self.depth += 1;
            let inner = self.unary()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.symbol("(") {
            here.check_depth()?;
            self.depth += 1;
            let inner = self.alternatives()?;
            self.depth -= 1;
            if !self.symbol(")") {
                return Err(self.mistake("'and', 'or' or ')'"));
            }
            return Ok(inner);
        }
        self.term()
    }

    fn check_depth(&self) -> Result<(), SelectionMistake> {
        if self.depth < SELECTION_DEPTH_MAX {
            return Ok(());
        }
        let expected =
            format!("at most {SELECTION_DEPTH_MAX} 'not' and parentheses inside each other");
        Err(self.mistake(expected))
    }

    fn term(&mut self) -> Result<Expr, SelectionMistake> {
        if self.terms == SELECTION_TERMS_MAX {
            let expected = format!("at most {SELECTION_TERMS_MAX} conditions");
            return Err(self.mistake_of(expected, "another".to_owned()));
        }
        self.terms += 1;
        if self.keyword("type") {
            return self.named(Expr::Type, is_in_word, "the name of a type");
        }
        if self.keyword("name") {
            return self.named(Expr::Name, is_in_pattern, "a name or a pattern");
        }
        if self.keyword("owner") {
            return self.named(Expr::Owner, is_in_word, "the name of an account");
        }
        if self.keyword("id") {
            self.need_symbol("=")?;
            return self.word(is_in_word, "an id").map(Expr::Id);
        }
        if self.keyword("in") {
            return self.element(Expr::In);
        }
        if self.keyword("child") {
            self.need_keyword("of")?;
            return self.element(Expr::ChildOf);
        }
        if self.keyword("parent") {
            self.need_keyword("of")?;
            return self.element(Expr::ParentOf);
        }
        if self.keyword("linked") {
            if self.keyword("from") {
                return self.element(Expr::LinkedFrom);
            }
            if self.keyword("to") {
                return self.element(Expr::LinkedTo);
            }
            return Err(self.mistake("'from' or 'to'"));
        }
        if self.keyword("defines") {
            self.need_keyword("set")?;
            return Ok(Expr::DefinesSet);
        }
        let attribute = self.attribute()?;
        let test = self.test()?;
        Ok(Expr::Value { attribute, test })
    }

    fn named(
        &mut self,
        make: fn(String) -> Expr,
        is_part: fn(char) -> bool,
        expected: &str,
    ) -> Result<Expr, SelectionMistake> {
        if self.symbol("!=") {
            let word = self.word(is_part, expected)?;
            return Ok(Expr::Not(Box::new(make(word))));
        }
        if self.symbol("=") {
            return self.word(is_part, expected).map(make);
        }
        Err(self.mistake("'=' or '!='"))
    }

    fn element(&mut self, make: fn(String) -> Expr) -> Result<Expr, SelectionMistake> {
        self.word(is_in_word, "the name of an element").map(make)
    }

    fn attribute(&mut self) -> Result<String, SelectionMistake> {
        let word = self.word_ahead();
        let attribute = word.strip_prefix('.').unwrap_or(word);
        if is_keyword(word) {
            let expected = format!("a condition ('.{word}' for the attribute of that name)");
            return Err(self.mistake(expected));
        }
        if attribute.is_empty() || !attribute.chars().all(is_in_attribute) {
            return Err(self.mistake("a condition"));
        }
        self.advance(word.len());
        Ok(attribute.to_owned())
    }

    fn test(&mut self) -> Result<Test, SelectionMistake> {
        let rest = self.rest();
        let operator = OPERATORS.into_iter().find(|(symbol, _)| rest.starts_with(*symbol));
        if let Some((symbol, make)) = operator {
            self.advance(symbol.len());
            return self.value().map(make);
        }
        if self.keyword("in") {
            let least = self.value()?;
            self.need_symbol("..")?;
            let most = self.value()?;
            return Ok(Test::Between(least, most));
        }
        if self.keyword("is") {
            self.need_keyword("set")?;
            return Ok(Test::IsSet);
        }
        Err(self.mistake("a comparison, 'in' or 'is set'"))
    }

    fn value(&mut self) -> Result<Json, SelectionMistake> {
        if self.rest().starts_with(['"', '[', '{']) {
            return self.json(0);
        }
        if let Some(number) = self.number()? {
            return Ok(number);
        }
        let word = self.word(is_in_word, "a value")?;
        Ok(match word.to_ascii_lowercase().as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            "null" => Json::Null,
            _ => Json::String(word),
        })
    }

    /// Reads JSON that stands inside `depth` arrays and objects.
    fn json(&mut self, depth: usize) -> Result<Json, SelectionMistake> {
        match self.rest().chars().next() {
            Some('"') => return self.quoted().map(Json::String),
            Some('[' | '{') if depth == SELECTION_DEPTH_MAX => {
                let expected = format!("a value nested at most {SELECTION_DEPTH_MAX} deep");
                return Err(self.mistake(expected));
            }
            Some('[') => return self.array(depth + 1),
            Some('{') => return self.object(depth + 1),
            Some(_) | None => {}
        }
        if let Some(number) = self.number()? {
            return Ok(number);
        }
        let value = match self.word_ahead() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            "null" => Json::Null,
            _ => return Err(self.mistake("a JSON value")),
        };
        self.advance(self.word_ahead().len());
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Json, SelectionMistake> {
        self.need_symbol("[")?;
        let mut items = Vec::new();
        if self.symbol("]") {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.json(depth)?);
            if self.symbol("]") {
                return Ok(Json::Array(items));
            }
            if !self.symbol(",") {
                return Err(self.mistake("',' or ']'"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, SelectionMistake> {
        self.need_symbol("{")?;
        let mut members = serde_json::Map::new();
        if self.symbol("}") {
            return Ok(Json::Object(members));
        }
        loop {
            if !self.rest().starts_with('"') {
                return Err(self.mistake("a key in quotes"));
            }
            let key = self.quoted()?;
            self.need_symbol(":")?;
            let value = self.json(depth)?;
            members.insert(key, value);
            if self.symbol("}") {
                return Ok(Json::Object(members));
            }
            if !self.symbol(",") {
                return Err(self.mistake("',' or '}'"));
            }
        }
    }

    /// Reads a number; none where something else stands, also a word that begins like a number.
    fn number(&mut self) -> Result<Option<Json>, SelectionMistake> {
        let rest = self.rest();
        let Some(length) = number_length(rest) else { return Ok(None) };
        if run_length(&rest[length..], is_in_word) > 0 {
            return Ok(None);
        }
        let Some(number) = number_of(&rest[..length]) else {
            return Err(self.mistake("a number within the range of 64 bits"));
        };
        self.advance(length);
        Ok(Some(number))
    }

    /// Reads a bare word or a JSON string.
    fn word(
        &mut self,
        is_part: fn(char) -> bool,
        expected: &str,
    ) -> Result<String, SelectionMistake> {
        let rest = self.rest();
        if rest.starts_with('"') {
            return self.quoted();
        }
        let word = &rest[..run_length(rest, is_part)];
        if word.is_empty() || is_joining(word) {
            return Err(self.mistake(expected));
        }
        self.advance(word.len());
        Ok(word.to_owned())
    }

    /// Reads the JSON string whose first quote stands here.
    fn quoted(&mut self) -> Result<String, SelectionMistake> {
        let rest = self.rest();
        let mut is_escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            if is_escaped {
                is_escaped = false;
            } else if c == '\\' {
                is_escaped = true;
            } else if c == '"' {
                let Ok(text) = serde_json::from_str::<String>(&rest[..=at]) else {
                    return Err(self.mistake("text as JSON writes it"));
                };
                self.advance(at + 1);
                return Ok(text);
            }
        }
        self.advance(rest.len());
        Err(self.mistake("'\"'"))
    }

    /// Takes a keyword, if it stands here.
    fn keyword(&mut self, keyword: &str) -> bool {
        let stands_here = self.word_ahead().eq_ignore_ascii_case(keyword);
        if stands_here {
            self.advance(keyword.len());
        }
        stands_here
    }

    fn need_keyword(&mut self, keyword: &str) -> Result<(), SelectionMistake> {
        if self.keyword(keyword) { Ok(()) } else { Err(self.mistake(format!("'{keyword}'"))) }
    }

    /// Takes a symbol, if it stands here.
    fn symbol(&mut self, symbol: &str) -> bool {
        let stands_here = self.rest().starts_with(symbol);
        if stands_here {
            self.advance(symbol.len());
        }
        stands_here
    }

    fn need_symbol(&mut self, symbol: &str) -> Result<(), SelectionMistake> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.mistake(format!("'{symbol}'"))) }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn word_ahead(&self) -> &'a str {
        let rest = self.rest();
        &rest[..run_length(rest, is_in_word)]
    }

    /// Goes on by so many bytes, and over the white space that follows.
    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn mistake(&self, expected: impl Into<String>) -> SelectionMistake {
        self.mistake_of(expected.into(), self.found())
    }

    fn mistake_of(&self, expected: String, found: String) -> SelectionMistake {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        SelectionMistake {
            line: counted(before.matches('\n').count() + 1),
            column: counted(before[line_start..].chars().count() + 1),
            expected,
            found,
        }
    }

    /// What stands here, shortened for a person.
    fn found(&self) -> String {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return "the end".to_owned() };
        let length = if first == '"' {
            rest[1..].find('"').map_or(rest.len(), |at| at + 2)
        } else {
            run_length(rest, is_in_word).max(first.len_utf8())
        };
        let shown: String = rest[..length]
            .chars()
            .take(FOUND_CHARS_MAX)
            .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        if first == '"' { shown } else { format!("'{shown}'") }
    }
}

fn joined(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

fn counted(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

fn is_joining(word: &str) -> bool {
    JOINING.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

fn is_in_attribute(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

fn is_in_word(c: char) -> bool {
    is_in_attribute(c) || matches!(c, ':' | '/' | '@' | '.')
}

fn is_in_pattern(c: char) -> bool {
    is_in_word(c) || c == '*'
}

/// Bytes of the bare word that `text` begins with. It ends before `..`.
fn run_length(text: &str, is_part: fn(char) -> bool) -> usize {
    text.char_indices()
        .find(|(at, c)| !is_part(*c) || text[*at..].starts_with(".."))
        .map_or(text.len(), |(at, _)| at)
}

/// Bytes of the number that `text` begins with, as JSON writes numbers.
fn number_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let digits =
        |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.starts_with('-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction > 0 {
            at += 1 + fraction;
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent > 0 {
            at += 1 + sign + exponent;
        }
    }
    Some(at)
}

/// The number that a text writes; none where it is too large. Floats are read to the nearest, so
/// that a printed one is read as itself.
fn number_of(text: &str) -> Option<Json> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(Json::from(number));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(Json::from(number));
    }
    text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Json::Number)
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expr(f, &self.0)
    }
}

fn write_expr(f: &mut fmt::Formatter<'_>, expr: &Expr) -> fmt::Result {
    match expr {
        Expr::All => Ok(()),
        Expr::And(parts) => write_parts(f, parts, " and ", is_joined),
        Expr::Or(parts) => write_parts(f, parts, " or ", |part| matches!(part, Expr::Or(_))),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Type(name) => write_word(f, "type != ", name, is_in_word),
            Expr::Name(pattern) => write_word(f, "name != ", pattern, is_in_pattern),
            Expr::Owner(name) => write_word(f, "owner != ", name, is_in_word),
            other => {
                f.write_str("not ")?;
                write_part(f, other, is_joined)
            }
        },
        Expr::Type(name) => write_word(f, "type = ", name, is_in_word),
        Expr::Name(pattern) => write_word(f, "name = ", pattern, is_in_pattern),
        Expr::Owner(name) => write_word(f, "owner = ", name, is_in_word),
        Expr::Id(id) => write_word(f, "id = ", id, is_in_word),
        Expr::In(word) => write_word(f, "in ", word, is_in_word),
        Expr::ChildOf(word) => write_word(f, "child of ", word, is_in_word),
        Expr::ParentOf(word) => write_word(f, "parent of ", word, is_in_word),
        Expr::LinkedFrom(word) => write_word(f, "linked from ", word, is_in_word),
        Expr::LinkedTo(word) => write_word(f, "linked to ", word, is_in_word),
        Expr::DefinesSet => f.write_str("defines set"),
        Expr::Value { attribute, test } => {
            let dot = if is_keyword(attribute) { "." } else { "" };
            write!(f, "{dot}{attribute} ")?;
            write_test(f, test)
        }
    }
}

fn write_parts(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expr],
    between: &str,
    in_parentheses: fn(&Expr) -> bool,
) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        write_part(f, part, in_parentheses)?;
    }
    Ok(())
}

fn write_part(
    f: &mut fmt::Formatter<'_>,
    part: &Expr,
    in_parentheses: fn(&Expr) -> bool,
) -> fmt::Result {
    if !in_parentheses(part) {
        return write_expr(f, part);
    }
    f.write_str("(")?;
    write_expr(f, part)?;
    f.write_str(")")
}

fn is_joined(expr: &Expr) -> bool {
    matches!(expr, Expr::And(_) | Expr::Or(_))
}

fn write_word(
    f: &mut fmt::Formatter<'_>,
    before: &str,
    word: &str,
    is_part: fn(char) -> bool,
) -> fmt::Result {
    f.write_str(before)?;
    let is_bare = !word.is_empty() && run_length(word, is_part) == word.len() && !is_joining(word);
    if is_bare { f.write_str(word) } else { write!(f, "{}", Json::from(word)) }
}

fn write_test(f: &mut fmt::Formatter<'_>, test: &Test) -> fmt::Result {
    match test {
        Test::Equal(value) => write!(f, "= {value}"),
        Test::NotEqual(value) => write!(f, "!= {value}"),
        Test::Less(value) => write!(f, "< {value}"),
        Test::AtMost(value) => write!(f, "<= {value}"),
        Test::More(value) => write!(f, "> {value}"),
        Test::AtLeast(value) => write!(f, ">= {value}"),
        Test::Between(least, most) => write!(f, "in {least}..{most}"),
        Test::IsSet => f.write_str("is set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_condition_is_read() {
        let id = "01890000-0000-7000-8000-000000000000";
        let table = [
            ("type = lamp", Expr::Type("lamp".to_owned())),
            ("TYPE=\"a lamp\"", Expr::Type("a lamp".to_owned())),
            ("type != alice:lamp", not(Expr::Type("alice:lamp".to_owned()))),
            ("name = lamp*", Expr::Name("lamp*".to_owned())),
            ("name != \"* x\"", not(Expr::Name("* x".to_owned()))),
            ("owner = alice@attic", Expr::Owner("alice@attic".to_owned())),
            ("owner != bob", not(Expr::Owner("bob".to_owned()))),
            (&format!("id = {id}"), Expr::Id(id.to_owned())),
            ("in alice/garden/shelf", Expr::In("alice/garden/shelf".to_owned())),
            ("in \"and\"", Expr::In("and".to_owned())),
            ("child of shelf", Expr::ChildOf("shelf".to_owned())),
            ("parent of shelf", Expr::ParentOf("shelf".to_owned())),
            ("linked from shelf", Expr::LinkedFrom("shelf".to_owned())),
            ("Linked To shelf", Expr::LinkedTo("shelf".to_owned())),
            ("defines set", Expr::DefinesSet),
            ("mass is set", value("mass", Test::IsSet)),
            ("größe=1", value("größe", Test::Equal(json!(1)))),
            (".name = x", value("name", Test::Equal(json!("x")))),
            (".mass = 1", value("mass", Test::Equal(json!(1)))),
        ];
        for (text, want) in table {
            assert_eq!(Selection::parse(text), Ok(Selection(want)), "{text}");
        }
    }

    #[test]
    fn every_value_is_read() {
        let id = "01890000-0000-7000-8000-000000000000";
        let table = [
            ("= 5", Test::Equal(json!(5))),
            ("=-5", Test::Equal(json!(-5))),
            ("= 2.5e+1", Test::Equal(json!(25.0))),
            ("= 18446744073709551615", Test::Equal(json!(u64::MAX))),
            ("= TRUE", Test::Equal(json!(true))),
            ("= false", Test::Equal(json!(false))),
            ("= null", Test::Equal(json!(null))),
            ("= \"true\"", Test::Equal(json!("true"))),
            ("= warm", Test::Equal(json!("warm"))),
            (&format!("= {id}"), Test::Equal(json!(id))),
            ("= 007", Test::Equal(json!("007"))),
            ("= 1.5.2", Test::Equal(json!("1.5.2"))),
            ("= \"a \\\"b\\\" \\u00e9\"", Test::Equal(json!("a \"b\" é"))),
            ("= [ ]", Test::Equal(json!([]))),
            ("= [1, \"a\", [true, null]]", Test::Equal(json!([1, "a", [true, null]]))),
            ("= {}", Test::Equal(json!({}))),
            ("= {\"x\":1, \"y\" : -2.5}", Test::Equal(json!({"x": 1, "y": -2.5}))),
            ("!= 5", Test::NotEqual(json!(5))),
            ("< 5", Test::Less(json!(5))),
            ("<= 5", Test::AtMost(json!(5))),
            ("> 5", Test::More(json!(5))),
            (">=5", Test::AtLeast(json!(5))),
            ("in 1..5", Test::Between(json!(1), json!(5))),
            ("in -1.5 .. 2.5", Test::Between(json!(-1.5), json!(2.5))),
            ("in a..\"m\"", Test::Between(json!("a"), json!("m"))),
        ];
        for (text, test) in table {
            let want = Selection(value("mass", test));
            assert_eq!(Selection::parse(&format!("mass {text}")), Ok(want), "{text}");
        }
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        let flag = |name: &str| value(name, Test::IsSet);
        let table = [
            ("", Expr::All),
            (" \n\t ", Expr::All),
            (
                "a is set and b is set or c is set",
                Expr::Or(vec![Expr::And(vec![flag("a"), flag("b")]), flag("c")]),
            ),
            (
                "a is set AND (b is set Or c is set)",
                Expr::And(vec![flag("a"), Expr::Or(vec![flag("b"), flag("c")])]),
            ),
            ("not a is set and b is set", Expr::And(vec![not(flag("a")), flag("b")])),
            ("not(a is set and b is set)", not(Expr::And(vec![flag("a"), flag("b")]))),
            ("not not ((a is set))", not(not(flag("a")))),
        ];
        for (text, want) in table {
            assert_eq!(Selection::parse(text), Ok(Selection(want)), "{text}");
        }
    }

    #[test]
    fn a_mistake_says_where_it_is_and_what_could_have_stood_there() {
        let table = [
            ("mass >=", 1, 8, "a value", "the end"),
            ("mass == 5", 1, 7, "a value", "'='"),
            ("mass = and", 1, 8, "a value", "'and'"),
            ("mass = 1e999", 1, 8, "a number within the range of 64 bits", "'1e999'"),
            ("mass in 1 5", 1, 11, "'..'", "'5'"),
            ("mass is lamp", 1, 9, "'set'", "'lamp'"),
            ("mass ? 5", 1, 6, "a comparison, 'in' or 'is set'", "'?'"),
            ("mass = 5 name = x", 1, 10, "'and', 'or' or the end", "'name'"),
            ("mass = [1, 2", 1, 13, "',' or ']'", "the end"),
            ("mass = [lamp]", 1, 9, "a JSON value", "'lamp'"),
            ("mass = {x: 1}", 1, 9, "a key in quotes", "'x:'"),
            ("mass = {\"x\" 1}", 1, 13, "':'", "'1'"),
            ("note = \"x", 1, 10, "'\"'", "the end"),
            ("note = \"\\q\"", 1, 8, "text as JSON writes it", "\"\\q\""),
            ("type lamp", 1, 6, "'=' or '!='", "'lamp'"),
            ("type = and mass = 5", 1, 8, "the name of a type", "'and'"),
            ("id != x", 1, 4, "'='", "'!'"),
            ("in )", 1, 4, "the name of an element", "')'"),
            ("child shelf", 1, 7, "'of'", "'shelf'"),
            ("linked shelf", 1, 8, "'from' or 'to'", "'shelf'"),
            ("set = 5", 1, 1, "a condition ('.set' for the attribute of that name)", "'set'"),
            ("alice:lamp = 5", 1, 1, "a condition", "'alice:lamp'"),
            ("()", 1, 2, "a condition", "')'"),
            ("(type = lamp", 1, 13, "'and', 'or' or ')'", "the end"),
            ("type = lamp and\n  mass ? 5", 2, 8, "a comparison, 'in' or 'is set'", "'?'"),
            ("ü = 1\nand\n  ü == 1", 3, 6, "a value", "'='"),
            ("type = lamp and\n", 2, 1, "a condition", "the end"),
            ("\u{1b}", 1, 1, "a condition", "'\u{fffd}'"),
        ];
        for (text, line, column, expected, found) in table {
            let want = mistake(line, column, expected, found);
            assert_eq!(Selection::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_a_sentence() {
        let mistake = Selection::parse("height >").unwrap_err();

        assert_eq!(mistake.to_string(), "line 1, column 9: expected a value, found the end");
    }

    #[test]
    fn what_is_too_deep_too_many_or_too_long_is_refused() {
        let nested = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
        let negated = |depth: usize| format!("{}a = 1", "not ".repeat(depth));
        let array = |depth: usize| format!("a = {}{}", "[".repeat(depth), "]".repeat(depth));
        let many = |terms: usize| vec!["a = 1"; terms].join(" and ");
        let long = |bytes: usize| format!("a = {}", "x".repeat(bytes - 4));
        let deep = "at most 16 'not' and parentheses inside each other";
        let table = [
            (nested(16), nested(17), mistake(1, 17, deep, "'('")),
            (negated(16), negated(17), mistake(1, 65, deep, "'not'")),
            (array(16), array(17), mistake(1, 21, "a value nested at most 16 deep", "'['")),
            (many(64), many(65), mistake(1, 641, "at most 64 conditions", "another")),
            (long(4094), long(4097), mistake(1, 1, "at most 4096 bytes", "4097 bytes")),
        ];
        for (good, bad, want) in table {
            assert!(Selection::parse(&good).is_ok(), "{good}");
            assert_eq!(Selection::parse(&bad), Err(want), "{bad}");
        }
    }

    #[test]
    fn what_would_be_too_long_when_printed_is_refused() {
        let text = format!("{}a=\"{}\"", "a=\"x\"and ".repeat(63), "y".repeat(3500));

        let want = mistake(1, 4072, "at most 4096 bytes", "4262 bytes written out");
        assert_eq!(Selection::parse(&text), Err(want));
    }

    #[test]
    fn a_selection_prints_in_one_form() {
        let table = [
            ("", ""),
            ("TYPE=lamp", "type = lamp"),
            ("not type = \"a lamp\"", "type != \"a lamp\""),
            ("name = \"lamp*\"", "name = lamp*"),
            ("owner = \"or\"", "owner = \"or\""),
            ("in \"a..b\"", "in \"a..b\""),
            ("in \"\"", "in \"\""),
            ("mood = warm", "mood = \"warm\""),
            (".Name=1", ".Name = 1"),
            (".mass in 1 .. 2.0", "mass in 1..2.0"),
            ("((a=1)and(b=2))or c=3", "a = 1 and b = 2 or c = 3"),
            ("(a=1 or b=2)and c=3", "(a = 1 or b = 2) and c = 3"),
            ("a=1 and(b=2 and c=3)", "a = 1 and (b = 2 and c = 3)"),
            ("not (a=1 or not b is set)", "not (a = 1 or not b is set)"),
        ];
        for (text, want) in table {
            let selection = Selection::parse(text).unwrap();
            assert_eq!(selection.to_string(), want);
            assert_eq!(Selection::parse(want), Ok(selection), "{want}");
        }
    }

    #[test]
    fn values_are_compared_within_their_kind() {
        let table = [
            (json!(2), Test::Equal(json!(2.0)), true),
            (json!({"x": [1.0]}), Test::Equal(json!({"x": [1]})), true),
            (json!({"x": 1}), Test::Equal(json!({"y": 1})), false),
            (json!([1, 2]), Test::Equal(json!([1])), false),
            (json!(1), Test::Equal(json!("1")), false),
            (json!(1), Test::NotEqual(json!("1")), true),
            (json!(2), Test::NotEqual(json!(2.0)), false),
            (json!(null), Test::Equal(json!(null)), true),
            (json!(-1), Test::Less(json!(0.5)), true),
            (json!(u64::MAX), Test::More(json!(u64::MAX - 1)), true),
            (json!(5), Test::Less(json!(5)), false),
            (json!(5), Test::AtMost(json!(5)), true),
            (json!(5), Test::More(json!(5)), false),
            (json!(5), Test::AtLeast(json!(5.0)), true),
            (json!("apple"), Test::Less(json!("pear")), true),
            (json!("5"), Test::AtLeast(json!(1)), false),
            (json!(null), Test::Less(json!(1)), false),
            (json!(true), Test::AtMost(json!(true)), false),
            (json!(1), Test::Between(json!(1), json!(5)), true),
            (json!(5), Test::Between(json!(1), json!(5)), true),
            (json!(5.1), Test::Between(json!(1), json!(5)), false),
            (json!(3), Test::Between(json!(1), json!("5")), false),
            (json!(false), Test::IsSet, true),
            (json!(null), Test::IsSet, false),
        ];
        for (value, test, want) in table {
            assert_eq!(test.holds(&value), want, "{value} {test:?}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        let table = [
            ("lamp", "Lamp", true),
            ("lamp", "lamps", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("*", "anything", true),
            ("lamp*", "LAMP-2", true),
            ("*lamp", "floor-lamp", true),
            ("l*p", "lp", true),
            ("l*p", "l", false),
            ("aba*aba", "aba", false),
            ("aba*aba", "ababa", false),
            ("aba*aba", "abaaba", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*b*b*", "abcb", true),
            ("*b*b*", "abc", false),
            ("a**c", "ac", true),
            ("caf\u{e9}*", "Cafe\u{301}-1", true),
        ];
        for (pattern, text, want) in table {
            assert_eq!(fits_pattern(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn only_the_top_conjunction_is_required() {
        let selection = Selection::parse(
            "a >= 1 and (type = lamp and in shelf) and not owner = bob and lit = true",
        )
        .unwrap();
        assert_eq!(selection.required_type(), Some("lamp"));
        assert_eq!(selection.required_set(), Some("shelf"));
        assert_eq!(selection.required_value(), Some(("lit", &json!(true))));
        assert_eq!(selection.required_range(), Some(("a", &Test::AtLeast(json!(1)))));

        for text in [
            "",
            "type = lamp or type = chair",
            "not (type = lamp and in shelf)",
            "type != lamp and not in shelf and a != 1 and a is set",
        ] {
            let selection = Selection::parse(text).unwrap();
            assert_eq!(selection.required_type(), None, "{text}");
            assert_eq!(selection.required_set(), None, "{text}");
            assert_eq!(selection.required_value(), None, "{text}");
            assert_eq!(selection.required_range(), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(expr in exprs()) {
            let selection = Selection(expr);
            let text = selection.to_string();
            prop_assume!(text.len() <= SELECTION_BYTES_MAX);
            prop_assert_eq!(Selection::parse(&text), Ok(selection), "{}", text);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = Selection::parse(&text);
        }

        #[test]
        fn what_was_read_prints_as_the_same(pieces in prop::collection::vec(pieces(), 0..24)) {
            if let Ok(selection) = Selection::parse(&pieces.concat()) {
                prop_assert_eq!(Selection::parse(&selection.to_string()), Ok(selection));
            }
        }

        #[test]
        fn patterns_fit_as_a_plain_search_says(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(fits_pattern(&pattern, &text), fits_plainly(&pattern, &text));
        }
    }

    fn not(inner: Expr) -> Expr {
        Expr::Not(Box::new(inner))
    }

    fn value(attribute: &str, test: Test) -> Expr {
        Expr::Value { attribute: attribute.to_owned(), test }
    }

    fn mistake(line: u32, column: u32, expected: &str, found: &str) -> SelectionMistake {
        SelectionMistake { line, column, expected: expected.to_owned(), found: found.to_owned() }
    }

    /// The slow and obvious way: a star stands for nothing, or takes one character and stays.
    fn fits_plainly(pattern: &str, text: &str) -> bool {
        let mut rest = text.chars();
        match pattern.strip_prefix('*') {
            Some(after) => {
                fits_plainly(after, text)
                    || (rest.next().is_some() && fits_plainly(pattern, rest.as_str()))
            }
            None => match pattern.chars().next() {
                Some(c) => rest.next() == Some(c) && fits_plainly(&pattern[1..], rest.as_str()),
                None => text.is_empty(),
            },
        }
    }

    fn pieces() -> impl Strategy<Value = &'static str> {
        let pieces = "(|)|not | and | or |a|.name|type|name| in | is set|=|!=|<=|>| |\n|..|1|-2.5|\
            1e30|x|*|\"|\\|\"é\"|[|]|{|}|:|,|true|null|child of |type = x|a = 1|name != l*p|\
            a in 1..2|b = [1, {\"k\": null}]|in shelf";
        prop::sample::select(pieces.split('|').collect::<Vec<_>>())
    }

    fn words() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9:/@._*-]{1,8}", ".{0,6}", keywords()]
    }

    fn keywords() -> impl Strategy<Value = String> {
        prop::sample::select(KEYWORDS.to_vec()).prop_map(str::to_owned)
    }

    fn values() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            words().prop_map(Json::from),
        ];
        leaf.prop_recursive(2, 4, 2, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::Array),
                prop::collection::btree_map(words(), inner, 0..3)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    fn tests_of_values() -> impl Strategy<Value = Test> {
        prop_oneof![
            values().prop_map(Test::Equal),
            values().prop_map(Test::NotEqual),
            values().prop_map(Test::Less),
            values().prop_map(Test::AtMost),
            values().prop_map(Test::More),
            values().prop_map(Test::AtLeast),
            (values(), values()).prop_map(|(least, most)| Test::Between(least, most)),
            Just(Test::IsSet),
        ]
    }

    fn terms() -> impl Strategy<Value = Expr> {
        let attributes = prop_oneof!["[A-Za-zäéж0-9_-]{1,8}", keywords()];
        prop_oneof![
            words().prop_map(Expr::Type),
            words().prop_map(Expr::Name),
            words().prop_map(Expr::Owner),
            words().prop_map(Expr::Id),
            words().prop_map(Expr::In),
            words().prop_map(Expr::ChildOf),
            words().prop_map(Expr::ParentOf),
            words().prop_map(Expr::LinkedFrom),
            words().prop_map(Expr::LinkedTo),
            Just(Expr::DefinesSet),
            (attributes, tests_of_values())
                .prop_map(|(attribute, test)| Expr::Value { attribute, test }),
        ]
    }

    fn exprs() -> impl Strategy<Value = Expr> {
        terms().prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
                inner.prop_map(not),
            ]
        })
    }
}
