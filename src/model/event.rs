//! Events: what is about to happen or has happened.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    /// Many elements are made from a type by one call.
    ElementBatchCreation,
    /// An element gets another owner.
    ElementOwnerChange,
    /// A value is read: actions in order filter what the reader gets.
    ValueChangeFiltered,
    /// An attribute of an element is switched on.
    AttributeOn,
    /// An attribute of an element is switched off.
    AttributeOff,
    /// A parent of an element's type is switched on for it.
    ParentOn,
    /// A parent of an element's type is switched off for it.
    ParentOff,
    /// An element enters a set: told to the element.
    ElementEntersSet,
    /// An element leaves a set: told to the element.
    ElementLeavesSet,
    /// An element enters a set: told to the set.
    SetElementAdded,
    /// An element leaves a set: told to the set.
    SetElementRemoved,
    /// A set gets a child: told to the parent.
    SetChildAdded,
    /// A set loses a child: told to the parent.
    SetChildRemoved,
    /// A set gets a parent: told to the child.
    SetParentAdded,
    /// A set loses a parent: told to the child.
    SetParentRemoved,
    /// A link is made from a set: told to where it begins.
    SetLinkMade,
    /// A link from a set is removed: told to where it begins.
    SetLinkRemoved,
    /// A link is made to a set: told to where it ends.
    SetLinkReceived,
    /// A link to a set is removed: told to where it ends.
    SetLinkLost,
    /// A set takes in what is selected.
    SetUnion,
    /// A set keeps only what is selected too.
    SetIntersection,
    /// A set loses what is selected.
    SetDifference,
    /// A set keeps and takes in what stands in one of both alone.
    SetSymmetricDifference,
    /// An element is put at the end of a set.
    SetPush,
    /// The last element of a set is taken out.
    SetPop,
    /// An element is put at the beginning of a set.
    SetUnshift,
    /// The first element of a set is taken out.
    SetShift,
    /// What stands in both of two sets is asked for.
    SetMutual,
    /// One attribute of every member of a set gets a value.
    SetValuesChange,
    /// A group is made.
    GroupCreation,
    /// A group is destroyed.
    GroupDestruction,
    /// A group gets a member.
    GroupMemberAdded,
    /// A group loses a member.
    GroupMemberRemoved,
    /// A member of a group becomes an admin of it.
    GroupAdminAdded,
    /// An admin of a group is one no more.
    GroupAdminRemoved,
    /// A call that an action of the element made to another server failed.
    RemoteError,
    /// The node has started.
    NodeStarted,
    /// May a server that was met call here? Any no denies it, else any yes allows it.
    IsServerAllowed,
    /// An element, or its type, is to be copied to another server.
    ServerAddElement,
    /// A server asks to act for an account. Any no refuses it, else any yes permits it.
    ServerRegisterUser,
    /// A person is asked, by an action or by a server.
    Question,
    /// Somebody in a world is at another place of it.
    AvatarMoved,
    /// Somebody in a world says something.
    AvatarSaid,
    /// Somebody comes into a world.
    AvatarCame,
    /// Somebody leaves a world.
    AvatarLeft,
    /// An element is picked up.
    ElementTaken,
    /// An element that was picked up is put down.
    ElementDropped,
    /// An element is to be put down in somebody's world, whose own it would be. Any no refuses it, else any
    /// yes accepts it.
    ElementOffered,
}

/// The namespace of system events' ids (RFC 9562, version 5 of their names).
const NAMESPACE: Uuid = Uuid::from_bytes(*b"freehold-event-1");

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 52] = [
        Self::ValueChange,
        Self::Custom,
        Self::ElementCreation,
        Self::ElementDestruction,
        Self::ElementBatchCreation,
        Self::ElementOwnerChange,
        Self::ValueChangeFiltered,
        Self::AttributeOn,
        Self::AttributeOff,
        Self::ParentOn,
        Self::ParentOff,
        Self::ElementEntersSet,
        Self::ElementLeavesSet,
        Self::SetElementAdded,
        Self::SetElementRemoved,
        Self::SetChildAdded,
        Self::SetChildRemoved,
        Self::SetParentAdded,
        Self::SetParentRemoved,
        Self::SetLinkMade,
        Self::SetLinkRemoved,
        Self::SetLinkReceived,
        Self::SetLinkLost,
        Self::SetUnion,
        Self::SetIntersection,
        Self::SetDifference,
        Self::SetSymmetricDifference,
        Self::SetPush,
        Self::SetPop,
        Self::SetUnshift,
        Self::SetShift,
        Self::SetMutual,
        Self::SetValuesChange,
        Self::GroupCreation,
        Self::GroupDestruction,
        Self::GroupMemberAdded,
        Self::GroupMemberRemoved,
        Self::GroupAdminAdded,
        Self::GroupAdminRemoved,
        Self::RemoteError,
        Self::NodeStarted,
        Self::IsServerAllowed,
        Self::ServerAddElement,
        Self::ServerRegisterUser,
        Self::Question,
        Self::AvatarMoved,
        Self::AvatarSaid,
        Self::AvatarCame,
        Self::AvatarLeft,
        Self::ElementTaken,
        Self::ElementDropped,
        Self::ElementOffered,
    ];

    /// The kind's name in type files and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ValueChange => "value_change",
            Self::Custom => "custom",
            Self::ElementCreation => "element_creation",
            Self::ElementDestruction => "element_destruction",
            Self::ElementBatchCreation => "element_batch_creation",
            Self::ElementOwnerChange => "element_owner_change",
            Self::ValueChangeFiltered => "value_change_filtered",
            Self::AttributeOn => "attribute_on",
            Self::AttributeOff => "attribute_off",
            Self::ParentOn => "parent_on",
            Self::ParentOff => "parent_off",
            Self::ElementEntersSet => "element_enters_set",
            Self::ElementLeavesSet => "element_leaves_set",
            Self::SetElementAdded => "set_element_added",
            Self::SetElementRemoved => "set_element_removed",
            Self::SetChildAdded => "set_child_added",
            Self::SetChildRemoved => "set_child_removed",
            Self::SetParentAdded => "set_parent_added",
            Self::SetParentRemoved => "set_parent_removed",
            Self::SetLinkMade => "set_link_made",
            Self::SetLinkRemoved => "set_link_removed",
            Self::SetLinkReceived => "set_link_received",
            Self::SetLinkLost => "set_link_lost",
            Self::SetUnion => "set_union",
            Self::SetIntersection => "set_intersection",
            Self::SetDifference => "set_difference",
            Self::SetSymmetricDifference => "set_symmetric_difference",
            Self::SetPush => "set_push",
            Self::SetPop => "set_pop",
            Self::SetUnshift => "set_unshift",
            Self::SetShift => "set_shift",
            Self::SetMutual => "set_mutual",
            Self::SetValuesChange => "set_values_change",
            Self::GroupCreation => "group_creation",
            Self::GroupDestruction => "group_destruction",
            Self::GroupMemberAdded => "group_member_added",
            Self::GroupMemberRemoved => "group_member_removed",
            Self::GroupAdminAdded => "group_admin_added",
            Self::GroupAdminRemoved => "group_admin_removed",
            Self::RemoteError => "remote_error",
            Self::NodeStarted => "node_started",
            Self::IsServerAllowed => "is_server_allowed",
            Self::ServerAddElement => "server_add_element",
            Self::ServerRegisterUser => "server_register_user",
            Self::Question => "question",
            Self::AvatarMoved => "avatar_moved",
            Self::AvatarSaid => "avatar_said",
            Self::AvatarCame => "avatar_came",
            Self::AvatarLeft => "avatar_left",
            Self::ElementTaken => "element_taken",
            Self::ElementDropped => "element_dropped",
            Self::ElementOffered => "element_offered",
        }
    }

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The constant id of its definition.
    pub fn id(self) -> Uuid {
        Uuid::new_v5(&NAMESPACE, self.as_str().as_bytes())
    }

    /// Whether actions can listen to it with `before:`: it may be refused.
    pub const fn has_before(self) -> bool {
        !matches!(
            self,
            Self::Custom
                | Self::RemoteError
                | Self::NodeStarted
                | Self::Question
                | Self::AvatarMoved
                | Self::AvatarSaid
                | Self::AvatarCame
                | Self::AvatarLeft
        )
    }

    /// Whether actions can listen to it with `after:`: it is told.
    pub const fn has_after(self) -> bool {
        !matches!(
            self,
            Self::Custom
                | Self::ValueChangeFiltered
                | Self::SetMutual
                | Self::IsServerAllowed
                | Self::ServerRegisterUser
                | Self::ElementOffered
                | Self::AvatarMoved
                | Self::AvatarSaid
                | Self::AvatarCame
                | Self::AvatarLeft
                | Self::Question
        )
    }

    /// Whether it is told to who stands in the world, and kept nowhere.
    pub const fn is_fleeting(self) -> bool {
        matches!(self, Self::AvatarMoved | Self::AvatarSaid | Self::AvatarCame | Self::AvatarLeft)
    }

    /// Whether it is about one attribute.
    pub const fn is_about_attribute(self) -> bool {
        matches!(
            self,
            Self::ValueChange | Self::ValueChangeFiltered | Self::AttributeOn | Self::AttributeOff
        )
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
    /// Others are told that it happened, and not what the value is: each reader gets another.
    #[serde(default)]
    pub masked: bool,
}

impl Event {
    /// The event as it stands in a feed for others: who acted is the home's own affair.
    pub fn outward(&self, head: Head) -> Self {
        let shown = |value: &Json| if self.masked { Json::Null } else { value.clone() };
        Self {
            head,
            feeds: Vec::new(),
            by: None,
            value: shown(&self.value),
            old: shown(&self.old),
            ..self.clone()
        }
    }
}
