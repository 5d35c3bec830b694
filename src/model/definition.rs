//! Types: what elements are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::value::{Json, Kind, KindMistake, Level};
use super::{AccountId, EventKind, Name, TypeId};

/// Bytes of a value as JSON, where the type does not say.
pub const VALUE_BYTES_DEFAULT: usize = 4_096;
/// Bytes of a value as JSON that a type may allow at most.
pub const ATTRIBUTE_BYTES_MAX: usize = 32_768;

/// Who, within a level, may read or write. More groups come with accounts' groups.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The element's owner.
    Owner,
    /// Everyone at that level.
    Everyone,
}

impl Group {
    /// What a type that names no group means: the owner at home, everyone where it is wider.
    pub const fn assumed_at(level: Level) -> Self {
        match level {
            Level::Private => Self::Owner,
            Level::Protected | Level::Public => Self::Everyone,
        }
    }
}

/// A named, typed value slot of a type.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attribute {
    /// What its values are.
    pub kind: Kind,
    /// What it is until it is set.
    pub default: Json,
    /// How far away it may be read.
    pub read: Level,
    /// How far away it may be written.
    pub write: Level,
    /// Who may read it there.
    pub read_group: Group,
    /// Who may write it there.
    pub write_group: Group,
    /// How long a remote reader may keep a value, in milliseconds; 0: not at all.
    pub cache_ms: u64,
    /// The least number allowed.
    pub min: Option<f64>,
    /// The greatest number allowed.
    pub max: Option<f64>,
    /// Bytes of a value as JSON at most.
    pub max_bytes: usize,
}

impl Attribute {
    /// Checks a value against kind and limits. Null clears an attribute whose default is null.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn check(&self, value: Json) -> Result<Json, KindMistake> {
        if value.is_null() && self.default.is_null() {
            return Ok(value);
        }
        let value = self.kind.check(value)?;
        if let Some(number) = value.as_f64() {
            let min = self.min.unwrap_or(f64::NEG_INFINITY);
            let max = self.max.unwrap_or(f64::INFINITY);
            if number < min || number > max {
                return Err(KindMistake::OutOfLimits { value: number, min, max });
            }
        }
        let bytes = match &value {
            Json::String(text) => text.len(),
            Json::Array(_) | Json::Object(_) => value.to_string().len(),
            Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        };
        if bytes > self.max_bytes {
            return Err(KindMistake::TooLong { bytes, max: self.max_bytes });
        }
        Ok(value)
    }
}

/// What data a custom event may and must carry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EventDefinition {
    /// The only keys allowed; none given: any key.
    pub all_keys: Option<BTreeSet<String>>,
    /// Keys that must be there before any action sees it.
    pub required_keys: BTreeSet<String>,
}

/// What an action listens to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum On {
    /// It is about to happen, and may be refused.
    Before(EventKind),
    /// It has happened.
    After(EventKind),
    /// A custom event of this name.
    Custom(String),
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(kind) => write!(f, "before:{}", kind.as_str()),
            Self::After(kind) => write!(f, "after:{}", kind.as_str()),
            Self::Custom(name) => write!(f, "event:{name}"),
        }
    }
}

/// A value in a mapping: taken from a JSON path, or constant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Mapped {
    /// An RFC 9535 path; what it matches once is taken, else the key is left out.
    Path(String),
    /// This value.
    Constant(Json),
}

/// A call of an action on another element.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CallBody {
    /// The element's name.
    pub element: String,
    /// The action's name.
    pub action: String,
    /// Arguments from the event's data.
    pub args_in: BTreeMap<String, Mapped>,
    /// Keys of the event's data from the reply; none: the action is told, not asked.
    pub data_out: BTreeMap<String, Mapped>,
}

/// What an action does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Allows, and says nothing else.
    Accept,
    /// Refuses with this sentence.
    Refuse(String),
    /// Answers with these constants.
    Reply(BTreeMap<String, Json>),
    /// Runs a script.
    Script {
        /// The Luau source.
        source: String,
        /// The line of the type file on which the source begins, from 1.
        line: u32,
    },
    /// Calls an action of another element.
    Call(CallBody),
}

/// A listener to events.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Action {
    /// Its name within the type.
    pub name: String,
    /// What it listens to.
    pub on: On,
    /// For events about one attribute: which; none: each.
    pub attribute: Option<String>,
    /// How far away it may be called from.
    pub level: Level,
    /// From 1000 (first) to -1000 (last).
    pub priority: i16,
    /// What it does.
    pub body: Body,
}

impl Action {
    /// Whether both say the same, wherever in their files they stand.
    fn says_the_same(&self, other: &Self) -> bool {
        let body = match (&self.body, &other.body) {
            (Body::Script { source, .. }, Body::Script { source: held, .. }) => source == held,
            (body, held) => body == held,
        };
        let head = |action: &Self| {
            (
                action.name.clone(),
                action.on.clone(),
                action.attribute.clone(),
                action.level,
                action.priority,
            )
        };
        body && head(self) == head(other)
    }
}

/// What a type file says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Definition {
    /// The type's name.
    pub name: Name,
    /// For people.
    pub description: String,
    /// The list of servers that are protected for this type.
    pub protected: Option<Name>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// Custom events by name.
    pub events: BTreeMap<String, EventDefinition>,
    /// Actions, by name.
    pub actions: BTreeMap<String, Arc<Action>>,
}

impl Definition {
    /// The actions that listen to `on`, in the order in which they are asked: highest priority
    /// first, then by name.
    pub fn listeners<'a>(
        &'a self,
        on: &'a On,
        attribute: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Action>> {
        let mut found: Vec<&Arc<Action>> = self
            .actions
            .values()
            .filter(move |action| action.on == *on)
            .filter(move |action| {
                action.attribute.is_none() || action.attribute.as_deref() == attribute
            })
            .collect();
        found.sort_by_key(|action| std::cmp::Reverse(action.priority));
        found.into_iter()
    }

    /// Whether `later` only adds: attributes with their defaults, events and actions.
    pub fn grows_into(&self, later: &Self) -> bool {
        self.name.key() == later.name.key()
            && self.protected == later.protected
            && self.attributes.iter().all(|(name, held)| later.attributes.get(name) == Some(held))
            && self.events.iter().all(|(name, held)| later.events.get(name) == Some(held))
            && self.actions.iter().all(|(name, held)| {
                later.actions.get(name).is_some_and(|later| later.says_the_same(held))
            })
    }

    /// Whether both say the same, wherever in their files it stands.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.description == other.description && self.grows_into(other) && other.grows_into(self)
    }

    /// A hash of what the definition says.
    pub fn hash(&self) -> [u8; 32] {
        // The maps are sorted and serde_json's objects are, so one definition has one text.
        let text = serde_json::to_vec(self).unwrap_or_default();
        *blake3::hash(&text).as_bytes()
    }
}

/// A published type: a definition with an owner, at some revision.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TypeDefinition {
    /// The type.
    pub id: TypeId,
    /// Whose it is.
    pub owner: AccountId,
    /// Grows by one with each addition, from 1.
    pub revision: u32,
    /// Whether elements were made from it.
    pub used: bool,
    /// What it says.
    pub definition: Definition,
}
