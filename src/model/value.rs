//! Values: JSON, and the kinds an attribute may have.

use serde::{Deserialize, Serialize};

/// A value. Objects keep their keys sorted, so the same value has one text.
pub type Json = serde_json::Value;

/// Integers are within +-(2^53-1), so that every JSON reader keeps them whole.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// How deep the JSON of an attribute may be nested.
const DEPTH_MAX: usize = 16;

/// How far from home something may be seen, written or run.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// This server alone.
    #[default]
    Private,
    /// Servers that are mutually on each other's list.
    Protected,
    /// Any server.
    Public,
}

/// What an attribute's value is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// true or false.
    Bool,
    /// A whole number within +-(2^53-1).
    Integer,
    /// A finite number.
    Number,
    /// Text.
    String,
    /// Anything JSON can say, at most 16 deep.
    Json,
    /// Bytes, base64 in JSON (RFC 4648, section 4).
    Bytes,
    /// A whole id.
    Reference,
    /// `{x, y, z}`, finite numbers; z may be left out.
    Position,
}

/// A value is not of its attribute's kind, or not within its limits.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum KindMistake {
    /// Another kind was expected.
    #[error("expected {expected}, got {got}")]
    Other {
        /// The kind in words.
        expected: &'static str,
        /// What was given, shortened.
        got: String,
    },
    /// Nested deeper than 16.
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Outside `min` to `max`.
    #[error("{value} is not within {min} to {max}")]
    OutOfLimits {
        /// The number given.
        value: f64,
        /// The least allowed.
        min: f64,
        /// The most allowed.
        max: f64,
    },
    /// More bytes than `max_bytes`.
    #[error("{bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// The bytes of the value as JSON text.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl Kind {
    /// Every kind, in the order in which they are documented.
    pub const ALL: [Self; 8] = [
        Self::Bool,
        Self::Integer,
        Self::Number,
        Self::String,
        Self::Json,
        Self::Bytes,
        Self::Reference,
        Self::Position,
    ];

    /// The kind's name in type files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Json => "json",
            Self::Bytes => "bytes",
            Self::Reference => "reference",
            Self::Position => "position",
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Integer => "a whole number within +-(2^53-1)",
            Self::Number => "a finite number",
            Self::String => "text",
            Self::Json => "JSON",
            Self::Bytes => "base64 text",
            Self::Reference => "a whole id",
            Self::Position => "a position {x, y, z}",
        }
    }

    /// Checks that `value` is of this kind. A whole number written as `2.0` becomes `2` for an
    /// integer.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn check(self, value: Json) -> Result<Json, KindMistake> {
        let fits = match self {
            Self::Bool => value.is_boolean(),
            Self::Integer => return integer(value),
            Self::Number => value.as_f64().is_some_and(f64::is_finite),
            Self::String => value.is_string(),
            Self::Json => {
                if depth_of(&value) > DEPTH_MAX {
                    return Err(KindMistake::TooDeep);
                }
                true
            }
            Self::Bytes => value.as_str().is_some_and(is_base64),
            Self::Reference => {
                value.as_str().is_some_and(|text| uuid::Uuid::try_parse(text).is_ok())
            }
            Self::Position => is_position(&value),
        };
        if fits { Ok(value) } else { Err(self.mistake(&value)) }
    }

    fn mistake(self, value: &Json) -> KindMistake {
        let mut got = value.to_string();
        if got.chars().count() > 40 {
            got = got.chars().take(40).chain("...".chars()).collect();
        }
        KindMistake::Other { expected: self.expected(), got }
    }
}

fn integer(value: Json) -> Result<Json, KindMistake> {
    let whole = match value.as_i64() {
        Some(number) => Some(number),
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked before the cast")]
        None => value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && number.abs() <= INTEGER_MAX as f64)
            .map(|number| number as i64),
    };
    match whole {
        Some(number) if number.abs() <= INTEGER_MAX => Ok(Json::from(number)),
        Some(_) | None => Err(Kind::Integer.mistake(&value)),
    }
}

fn is_base64(text: &str) -> bool {
    let bytes = text.as_bytes();
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    bytes.len().is_multiple_of(4)
        && padding <= 2
        && bytes[..bytes.len() - padding]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'+' || *byte == b'/')
}

fn is_position(value: &Json) -> bool {
    let Some(object) = value.as_object() else { return false };
    let known = object.keys().all(|key| matches!(key.as_str(), "x" | "y" | "z"));
    let finite = object.values().all(|number| number.as_f64().is_some_and(f64::is_finite));
    known && finite && object.contains_key("x") && object.contains_key("y")
}

/// How deep `value` is nested: 0 for what holds nothing else.
pub fn depth_of(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Json::Object(members) => 1 + members.values().map(depth_of).max().unwrap_or(0),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => 0,
    }
}

/// Bytes of a value in memory or on its way, about.
pub fn bytes_of(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) => 1,
        Json::Number(_) => 9,
        Json::String(text) => text.len() + 5,
        Json::Array(items) => 5 + items.iter().map(bytes_of).sum::<usize>(),
        Json::Object(members) => {
            5 + members.iter().map(|(key, value)| key.len() + 5 + bytes_of(value)).sum::<usize>()
        }
    }
}

/// The candidate most like `word`, if one is like enough to be meant.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Bytes as hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads hexadecimal text; none where it is none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_takes_its_own_values_and_no_others() {
        let id = "01890000-0000-7000-8000-000000000000";
        let table = [
            (Kind::Bool, json!(true), json!(1)),
            (Kind::Integer, json!(-5), json!(1.5)),
            (Kind::Integer, json!(INTEGER_MAX), json!(INTEGER_MAX + 1)),
            (Kind::Number, json!(1.5), json!("1.5")),
            (Kind::String, json!("x"), json!(null)),
            (Kind::Json, json!({"a": [1]}), nested(17)),
            (Kind::Bytes, json!("AAE="), json!("AAE")),
            (Kind::Reference, json!(id), json!("0189")),
            (Kind::Position, json!({"x": 1, "y": 2.5}), json!({"x": 1, "y": 2, "w": 3})),
        ];
        for (kind, good, bad) in table {
            assert!(kind.check(good.clone()).is_ok(), "{kind:?} {good}");
            assert!(kind.check(bad.clone()).is_err(), "{kind:?} {bad}");
        }
    }

    #[test]
    fn a_whole_float_becomes_an_integer() {
        assert_eq!(Kind::Integer.check(json!(2.0)), Ok(json!(2)));
    }

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        assert_eq!(suggest("defualt", ["default", "kind"]), Some("default"));
        assert_eq!(suggest("xyz", ["default", "kind"]), None);
    }

    fn nested(depth: usize) -> Json {
        (0..depth).fold(json!(1), |inner, _| json!([inner]))
    }
}
