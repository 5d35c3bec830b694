//! The kinds of events that the system fires.

use crate::model::EventKind;

/// A kind of event as people are told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemEvent {
    /// The kind.
    pub kind: EventKind,
    /// When it is fired.
    pub when: &'static str,
    /// Whose actions hear it.
    pub heard_by: &'static str,
    /// The keys of its data.
    pub data: &'static [&'static str],
}

const fn event(
    kind: EventKind,
    when: &'static str,
    heard_by: &'static str,
    data: &'static [&'static str],
) -> SystemEvent {
    SystemEvent { kind, when, heard_by, data }
}

/// Every kind that is fired, in the order in which they are documented.
pub const EVENTS: &[SystemEvent] = &[
    event(
        EventKind::ValueChange,
        "set, by a call or a script",
        "the element",
        &["attribute", "old", "value"],
    ),
    event(
        EventKind::ValueChangeFiltered,
        "a value is read, but by the element itself",
        "the element",
        &["attribute", "value"],
    ),
    event(
        EventKind::ElementCreation,
        "an element is made",
        "the element to be",
        &["name", "type", "owner"],
    ),
    event(
        EventKind::ElementBatchCreation,
        "many elements are made by one call, before each of them",
        "the first element to be",
        &["type", "owner", "count"],
    ),
    event(
        EventKind::ElementDestruction,
        "an element is destroyed, or its time is over",
        "the element",
        &["name", "type", "owner"],
    ),
    event(
        EventKind::ElementOwnerChange,
        "an element is given to another account",
        "the element",
        &["old", "new"],
    ),
    event(
        EventKind::AttributeOn,
        "an attribute of an element is switched on",
        "the element",
        &["part"],
    ),
    event(
        EventKind::AttributeOff,
        "an attribute of an element is switched off",
        "the element",
        &["part"],
    ),
    event(
        EventKind::ParentOn,
        "a parent of its type is switched on for an element",
        "the element",
        &["part"],
    ),
    event(
        EventKind::ParentOff,
        "a parent of its type is switched off for an element",
        "the element",
        &["part"],
    ),
    event(
        EventKind::ElementEntersSet,
        "an element enters a set",
        "the element",
        &["set", "element"],
    ),
    event(EventKind::SetElementAdded, "an element enters a set", "the set", &["set", "element"]),
    event(
        EventKind::ElementLeavesSet,
        "an element leaves a set",
        "the element",
        &["set", "element"],
    ),
    event(EventKind::SetElementRemoved, "an element leaves a set", "the set", &["set", "element"]),
    event(EventKind::SetChildAdded, "a set gets a child", "the parent", &["from", "to"]),
    event(EventKind::SetParentAdded, "a set gets a parent", "the child", &["from", "to"]),
    event(EventKind::SetChildRemoved, "a set loses a child", "the parent", &["from", "to"]),
    event(EventKind::SetParentRemoved, "a set loses a parent", "the child", &["from", "to"]),
    event(EventKind::SetLinkMade, "a link is made", "the set where it begins", &["from", "to"]),
    event(EventKind::SetLinkReceived, "a link is made", "the set where it ends", &["from", "to"]),
    event(
        EventKind::SetLinkRemoved,
        "a link is removed",
        "the set where it begins",
        &["from", "to"],
    ),
    event(EventKind::SetLinkLost, "a link is removed", "the set where it ends", &["from", "to"]),
    event(
        EventKind::SetUnion,
        "set union, before each that enters",
        "the set",
        &["enter", "leave"],
    ),
    event(
        EventKind::SetIntersection,
        "set intersection, before each that leaves",
        "the set",
        &["enter", "leave"],
    ),
    event(
        EventKind::SetDifference,
        "set difference, before each that leaves",
        "the set",
        &["enter", "leave"],
    ),
    event(
        EventKind::SetSymmetricDifference,
        "set symmetric_difference, before each that leaves or enters",
        "the set",
        &["enter", "leave"],
    ),
    event(EventKind::SetPush, "set push", "the set", &["element"]),
    event(EventKind::SetPop, "set pop", "the set", &["element"]),
    event(EventKind::SetUnshift, "set unshift", "the set", &["element"]),
    event(EventKind::SetShift, "set shift", "the set", &["element"]),
    event(EventKind::SetMutual, "set mutual", "the first set", &["other"]),
    event(
        EventKind::SetValuesChange,
        "set change, before each member's own change",
        "the set",
        &["attribute", "value"],
    ),
    event(
        EventKind::GroupCreation,
        "a group is made",
        "the element that hears for it",
        &["group", "name"],
    ),
    event(
        EventKind::GroupDestruction,
        "a group is removed",
        "the element that hears for it",
        &["group", "name"],
    ),
    event(
        EventKind::GroupMemberAdded,
        "an account becomes a member",
        "the element that hears for it",
        &["group", "account"],
    ),
    event(
        EventKind::GroupMemberRemoved,
        "a member is removed",
        "the element that hears for it",
        &["group", "account"],
    ),
    event(
        EventKind::GroupAdminAdded,
        "a member becomes an admin",
        "the element that hears for it",
        &["group", "account"],
    ),
    event(
        EventKind::GroupAdminRemoved,
        "an admin is one no more",
        "the element that hears for it",
        &["group", "account"],
    ),
    event(
        EventKind::RemoteError,
        "what an action of the element sent to another server, or asked there, failed, after all of that has ended",
        "the element",
        &["server", "element", "call", "problem"],
    ),
    event(EventKind::ElementTaken, "an element is picked up", "the element", &["name"]),
    event(
        EventKind::ElementDropped,
        "an element that was picked up is put down",
        "the element",
        &["name"],
    ),
    event(
        EventKind::ElementOffered,
        "an element is to be put down in somebody else's world; any no refuses it, else any yes accepts it",
        "the element of the world",
        &["element", "name", "type", "server", "sealed"],
    ),
    event(
        EventKind::NodeStarted,
        "the node has started",
        "every element that listens",
        &["server"],
    ),
    event(
        EventKind::IsServerAllowed,
        "a server is met for the first time, or server review; any no denies it, else any yes allows it",
        "the element of this server",
        &["server", "name", "peer_id", "domain"],
    ),
    event(
        EventKind::ServerAddElement,
        "an element is to be copied to another server",
        "the element",
        &["server", "name"],
    ),
    event(
        EventKind::ServerRegisterUser,
        "a server asks to act for an account; any no refuses it, else any yes permits it",
        "the element of the account",
        &["server", "name", "account"],
    ),
];
