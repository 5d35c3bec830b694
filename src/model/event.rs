//! Events: what is about to happen or has happened.

use serde::{Deserialize, Serialize};

use super::{AccountId, ElementId, Json, LogId, Name, ServerId, Timestamp, WorldId};

/// What sort of event it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An attribute of an element gets another value.
    ValueChange,
    /// A custom event, named by the event itself.
    Custom,
    /// An element is made.
    ElementCreation,
    /// An element is destroyed.
    ElementDestruction,
}

impl EventKind {
    /// The kinds a type's actions can listen to with `before:` and `after:`.
    pub const LISTENABLE: [Self; 3] =
        [Self::ValueChange, Self::ElementCreation, Self::ElementDestruction];

    /// The kind's name in type files and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ValueChange => "value_change",
            Self::Custom => "custom",
            Self::ElementCreation => "element_creation",
            Self::ElementDestruction => "element_destruction",
        }
    }
}

/// Whom a feed is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Audience {
    /// This server: every event of the world.
    Home,
    /// Any server: what is public.
    Public,
    /// The servers on this list: what is protected by it, and what is public.
    List(Name),
}

impl Audience {
    /// The audience as a text that no other has.
    pub fn label(&self) -> String {
        match self {
            Self::Home => "home".to_owned(),
            Self::Public => "public".to_owned(),
            Self::List(name) => format!("list:{}", name.key()),
        }
    }
}

/// An event's place in one feed: numbers count from 1 without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The feed's log.
    pub log: LogId,
    /// The number of its newest event.
    pub seq: u64,
}

/// An event's place in a feed that is not its home's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Feed {
    /// Whom the feed is for.
    pub audience: Audience,
    /// The place there.
    pub head: Head,
}

/// Something that happened, as it is kept and told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the log it is shown from: the home's, or the feed it came by.
    pub head: Head,
    /// Places in the feeds for others; empty for what came from elsewhere.
    pub feeds: Vec<Feed>,
    /// What sort.
    pub kind: EventKind,
    /// The name of a custom event.
    pub name: Option<String>,
    /// The world in which it happened.
    pub world: WorldId,
    /// The element to which it happened.
    pub element: ElementId,
    /// The attribute, where it is about one.
    pub attribute: Option<String>,
    /// The new value, or the data of a custom event.
    pub value: Json,
    /// The value before.
    pub old: Json,
    /// The server at whose home it happened.
    pub origin: ServerId,
    /// Who acted, where it was somebody of the origin.
    pub by: Option<AccountId>,
    /// The time of its turn.
    pub at: Timestamp,
}
