//! Types: what elements are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::value::{Json, Kind, KindMistake, Level};
use super::{AccountId, Bounds, EventKind, Name, ServerId, Timestamp, TypeId};

/// Bytes of a value as JSON, where the type does not say.
pub const VALUE_BYTES_DEFAULT: usize = 4_096;
/// Bytes of a value as JSON that a type may allow at most.
pub const ATTRIBUTE_BYTES_MAX: usize = 32_768;

/// How deep families of attributes and events are looked through.
const FAMILY_MAX: usize = 16;

/// Who, within a level, may do something.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The element's owner.
    Owner,
    /// Everyone at that level.
    Everyone,
    /// The members of this group of the type's owner.
    Named(Name),
}

const fn everyone() -> Group {
    Group::Everyone
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
    /// No child of the type may say otherwise.
    #[serde(default)]
    pub is_final: bool,
    /// Its value is the type's, the same for all elements: it cannot be set on one.
    #[serde(default)]
    pub is_static: bool,
    /// The attribute that it is one of the family of: who listens to that hears this too, and where
    /// that is switched off or out of bounds, this is.
    #[serde(default)]
    pub parent: Option<String>,
    /// It says when the element's time is over, in milliseconds since 1970.
    #[serde(default)]
    pub expires: bool,
    /// Elements can be found by its value without looking at each.
    #[serde(default)]
    pub index: bool,
    /// When and where it exists.
    #[serde(default)]
    pub bounds: Bounds,
    /// The ancestor that defined it; none: the type itself.
    #[serde(default)]
    pub ancestor: Option<TypeId>,
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
    /// RFC 9535 paths that must each match something in its data.
    #[serde(default)]
    pub paths: BTreeSet<String>,
    /// The event that it is a child of: who listens to that hears this too.
    #[serde(default)]
    pub parent: Option<String>,
    /// How often it is fired by itself on each element, in milliseconds.
    #[serde(default)]
    pub every_ms: Option<u64>,
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
    /// Waits until a person has answered this question.
    Ask(String),
    /// Runs at the type's home, which is another server.
    Home,
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
    /// Whether it hears what stands in the same sets instead of its own element; after-events alone.
    #[serde(default)]
    pub of_set: bool,
    /// How many parents up it was defined; 0: by the type itself.
    #[serde(default)]
    pub depth: u8,
    /// Whose type defined it, where that is an ancestor.
    #[serde(default)]
    pub defined_by: Option<AccountId>,
    /// The ancestor that defined it.
    #[serde(default)]
    pub ancestor: Option<TypeId>,
    /// Whether it runs where a copy of its type stands, instead of at the type's home.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub portable: bool,
    /// Whether what it listens to is accepted, or refused, where it cannot run; none: as the event says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above_accepts: Option<bool>,
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
                (
                    action.of_set,
                    action.depth,
                    action.ancestor,
                    action.portable,
                    action.above_accepts,
                ),
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
    /// Types that it takes attributes, events and actions from, as the file names them: of several
    /// that have a name, the first gives it.
    #[serde(default)]
    pub parents: Vec<String>,
    /// When and where its elements exist.
    #[serde(default)]
    pub bounds: Bounds,
    /// Who may make elements from it.
    #[serde(default = "everyone")]
    pub create_group: Group,
    /// Who sees its elements in lists.
    #[serde(default = "everyone")]
    pub see_group: Group,
}

impl Definition {
    /// The actions that listen to `on`, in the order in which they are asked: highest priority
    /// first, then those of the farthest ancestors, then by name.
    pub fn listeners<'a>(
        &'a self,
        on: &'a On,
        attribute: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Action>> {
        let mut found: Vec<&Arc<Action>> = self
            .actions
            .values()
            .filter(move |action| self.hears(&action.on, on))
            .filter(move |action| match (&action.attribute, attribute) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(heard), Some(name)) => {
                    heard == name || self.family(name).any(|above| above == heard)
                }
            })
            .collect();
        found.sort_by_key(|action| std::cmp::Reverse((action.priority, action.depth)));
        found.into_iter()
    }

    /// Whether who listens to `listened` hears `fired`: itself, or a child of it.
    fn hears(&self, listened: &On, fired: &On) -> bool {
        match (listened, fired) {
            (On::Custom(listened), On::Custom(fired)) => {
                let parent = |name: &&String| self.events.get(*name)?.parent.as_ref();
                std::iter::successors(Some(fired), parent)
                    .take(FAMILY_MAX)
                    .any(|event| event == listened)
            }
            (listened, fired) => listened == fired,
        }
    }

    /// The attributes that one is of the family of, nearest first.
    pub fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let parent = |name: &&'a str| self.attributes.get(*name)?.parent.as_deref();
        std::iter::successors(parent(&name), parent).take(FAMILY_MAX)
    }

    /// Whether `later` only adds: attributes with their defaults, events and actions.
    pub fn grows_into(&self, later: &Self) -> bool {
        self.name.key() == later.name.key()
            && self.protected == later.protected
            && self.parents == later.parents
            && self.bounds == later.bounds
            && self.attributes.iter().all(|(name, held)| later.attributes.get(name) == Some(held))
            && self.events.iter().all(|(name, held)| later.events.get(name) == Some(held))
            && self.actions.iter().all(|(name, held)| {
                later.actions.get(name).is_some_and(|later| later.says_the_same(held))
            })
    }

    /// Whether both say the same, wherever in their files it stands.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let rest = |definition: &Self| {
            let Self { description, create_group, see_group, .. } = definition;
            (description.clone(), create_group.clone(), see_group.clone())
        };
        rest(self) == rest(other) && self.grows_into(other) && other.grows_into(self)
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
    /// What it says, with what it takes from its parents.
    pub definition: Definition,
    /// What its own file says; none where that is all.
    #[serde(default)]
    pub own: Option<Arc<Definition>>,
    /// Its parents, in order.
    #[serde(default)]
    pub parents: Vec<TypeId>,
    /// Since when no elements are made from it any more.
    #[serde(default)]
    pub retired_at: Option<Timestamp>,
    /// The server that it is at home on, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<ServerId>,
    /// Whether nothing of it is for servers that are not on its list, for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public_off: bool,
    /// Actions that are not for servers that are not on its list, for now.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub actions_off: BTreeSet<String>,
    /// Events to which somebody listens there who cannot run or be asked here: about which attribute,
    /// and whether they are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<(EventKind, Option<String>, bool)>,
}

impl TypeDefinition {
    /// What its own file says.
    pub fn own(&self) -> &Definition {
        self.own.as_deref().unwrap_or(&self.definition)
    }

    /// Whether an action is switched off for servers that are not on the type's list.
    pub fn is_off_for_public(&self, action: &str) -> bool {
        self.public_off || self.actions_off.contains(action)
    }
}

/// Something final that a child says otherwise.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{attribute}' is final in {parent}: a child cannot say otherwise")]
pub struct FinalMistake {
    /// The attribute.
    pub attribute: String,
    /// The parent's name.
    pub parent: Name,
}

/// A definition with what it takes from its parents: of several that have a name, the type itself
/// comes first, then its parents in order.
///
/// # Errors
/// It says something otherwise that is final in a parent.
pub fn with_parents(
    own: &Definition,
    parents: &[Arc<TypeDefinition>],
) -> Result<Definition, FinalMistake> {
    let mut whole = own.clone();
    for parent in parents {
        let held = &parent.definition;
        for (name, attribute) in &held.attributes {
            if attribute.is_final && own.attributes.contains_key(name) {
                let (attribute, parent) = (name.clone(), held.name.clone());
                return Err(FinalMistake { attribute, parent });
            }
            whole.attributes.entry(name.clone()).or_insert_with(|| {
                let mut inherited = attribute.clone();
                inherited.ancestor.get_or_insert(parent.id);
                inherited
            });
        }
        for (name, event) in &held.events {
            whole.events.entry(name.clone()).or_insert_with(|| event.clone());
        }
        for (name, action) in &held.actions {
            let mut inherited = action.as_ref().clone();
            inherited.depth = inherited.depth.saturating_add(1);
            inherited.defined_by.get_or_insert(parent.owner);
            inherited.ancestor.get_or_insert(parent.id);
            match whole.actions.get(name) {
                None => {
                    whole.actions.insert(name.clone(), Arc::new(inherited));
                }
                // The same one by a longer way: it counts as far away as that.
                Some(held)
                    if held.ancestor == inherited.ancestor && held.depth < inherited.depth =>
                {
                    whole.actions.insert(name.clone(), Arc::new(inherited));
                }
                Some(_) => {}
            }
        }
    }
    Ok(whole)
}
