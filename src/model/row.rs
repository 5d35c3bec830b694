//! Rows: everything that is stored, by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Account, AccountGroup, AccountId, ApiKey, CachedAccount, CachedPlace, CachedValue, Element,
    ElementId, EntryId, Event, Following, GroupId, Guest, Held, InboxEntry, Incarnation, Job,
    JobId, KeyId, LogId, Moved, Name, Permission, Presence, Protection, Server, ServerId, Set,
    SignedRecord, Tell, Ticket, Timer, TimerId, Timestamp, Transfer, TransferId, TypeDefinition,
    TypeId, Visitor, World, WorldId,
};

/// What a row is found by. The order of keys is the order of their bytes in the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// The node itself.
    Node,
    /// A turn, by number.
    Turn(u64),
    /// A local account.
    Account(AccountId),
    /// A local account's name.
    AccountName(String),
    /// A local account's secret key.
    Secret(AccountId),
    /// A world.
    World(WorldId),
    /// A world's name among its owner's.
    WorldName(AccountId, String),
    /// A type.
    Type(TypeId),
    /// A type's name among its owner's.
    TypeName(AccountId, String),
    /// An element, by world.
    Element(WorldId, ElementId),
    /// An element's name in its world.
    ElementName(WorldId, String),
    /// Another server.
    Server(ServerId),
    /// Our name for another server.
    ServerName(String),
    /// A server on a list.
    Protection(ServerId, String),
    /// Something that waits for a person.
    Inbox(EntryId),
    /// A key for programs.
    ApiKey(KeyId),
    /// A job that was not finished in the turn that took it.
    Job(JobId),
    /// What is still to be told to a server.
    Outbox(ServerId),
    /// What was answered to a server.
    Lane(ServerId),
    /// The turn that holds a feed's events up to this number.
    FeedAt(LogId, u64),
    /// A feed of another's world that we receive.
    Following(ServerId, WorldId),
    /// The job of an idempotency key, by the key's hash.
    Idempotency([u8; 16]),
    /// A copy of another server's account.
    CachedAccount(AccountId),
    /// The account behind another server's name for it.
    CachedAccountName(ServerId, String),
    /// The element behind another server's name for it.
    CachedPlace(ServerId, String),
    /// A remote value: whose, of which element, for which reader (none: everyone), which attribute.
    CachedValue(ServerId, ElementId, Option<AccountId>, String),
    /// An element of a type.
    ElementOf(TypeId, WorldId, ElementId),
    /// An element of a type by the value of an indexed attribute: a hash of the attribute's name,
    /// the world, and the value's beginning in an order of bytes.
    ByValue(TypeId, [u8; 8], WorldId, [u8; 16], ElementId),
    /// A set, by the element that defines it.
    Set(WorldId, ElementId),
    /// A member of a set, by its place there.
    Member(WorldId, ElementId, u64, ElementId),
    /// The place of an element in a set that it stands in: element, set.
    MemberOf(WorldId, ElementId, ElementId),
    /// A set and a child of it.
    SetChild(WorldId, ElementId, ElementId),
    /// A set and a parent of it.
    SetParent(WorldId, ElementId, ElementId),
    /// A link from a set to another.
    SetLink(WorldId, ElementId, ElementId),
    /// A link to a set from another.
    SetLinked(WorldId, ElementId, ElementId),
    /// A group.
    Group(GroupId),
    /// A group's name among its owner's.
    GroupName(AccountId, String),
    /// A member of a group.
    GroupMember(GroupId, AccountId),
    /// A timer, by when it is due.
    Timer(Timestamp, TimerId),
    /// When a timer of an element is due.
    TimerOf(WorldId, ElementId, TimerId),
    /// A type and a type that has it as a parent.
    TypeChild(TypeId, TypeId),
    /// Whether a server may act for an account of ours.
    Permission(AccountId, ServerId),
    /// A user of another server who is known here.
    Visitor(AccountId),
    /// What names such a user here, as names are told apart by eye.
    VisitorName(String),
    /// A server that holds a type of ours.
    TypeHolder(TypeId, ServerId),
    /// A server that holds a copy of an element of ours.
    ElementHolder(ElementId, ServerId),
    /// A ticket that was given away.
    Ticket(EntryId),
    /// Things on their way to or from another server.
    Transfer(TransferId),
    /// A piece of what came for a transfer.
    Piece(TransferId, u64),
    /// Where an element is that was ours.
    Moved(ElementId),
    /// Something that an account has picked up; the highest number was taken last.
    Held(AccountId, u64),
    /// Where an account of ours is.
    Presence(AccountId),
    /// Somebody of another server in a world of ours.
    Guest(AccountId),
}

impl Key {
    /// Whether the row belongs to the cache: what anyone with our key could fetch again.
    pub const fn is_cached(&self) -> bool {
        match self {
            Self::CachedAccount(_)
            | Self::CachedAccountName(..)
            | Self::CachedPlace(..)
            | Self::CachedValue(..) => true,
            Self::Node
            | Self::Turn(_)
            | Self::Account(_)
            | Self::AccountName(_)
            | Self::Secret(_)
            | Self::World(_)
            | Self::WorldName(..)
            | Self::Type(_)
            | Self::TypeName(..)
            | Self::Element(..)
            | Self::ElementName(..)
            | Self::Server(_)
            | Self::ServerName(_)
            | Self::Protection(..)
            | Self::Inbox(_)
            | Self::ApiKey(_)
            | Self::Job(_)
            | Self::Outbox(_)
            | Self::Lane(_)
            | Self::FeedAt(..)
            | Self::Following(..)
            | Self::Idempotency(_)
            | Self::ElementOf(..)
            | Self::ByValue(..)
            | Self::Set(..)
            | Self::Member(..)
            | Self::MemberOf(..)
            | Self::SetChild(..)
            | Self::SetParent(..)
            | Self::SetLink(..)
            | Self::SetLinked(..)
            | Self::Group(_)
            | Self::GroupName(..)
            | Self::GroupMember(..)
            | Self::Timer(..)
            | Self::TimerOf(..)
            | Self::TypeChild(..)
            | Self::Permission(..)
            | Self::Visitor(_)
            | Self::VisitorName(_)
            | Self::TypeHolder(..)
            | Self::ElementHolder(..)
            | Self::Ticket(_)
            | Self::Transfer(_)
            | Self::Piece(..)
            | Self::Moved(_)
            | Self::Held(..)
            | Self::Presence(_)
            | Self::Guest(_) => false,
        }
    }
}

/// What the node knows of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Who we are.
    pub server: ServerId,
    /// The name we claim.
    pub name: Name,
    /// Our signed record.
    pub record: SignedRecord,
    /// blake3 of our recovery key.
    pub recovery_hash: [u8; 32],
    /// This life of the store.
    pub incarnation: Incarnation,
    /// Our records before this one, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<SignedRecord>,
    /// Whether the key is new, and those on our lists have not been given new protection ids.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_rekeyed: bool,
}

/// Numbers of one lane that one turn holds: `first` to `last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// The turn.
    pub turn: u64,
}

/// What is still to be told to a server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outbox {
    /// The highest number given.
    pub last: u64,
    /// Numbers whose answer is not stored yet, ascending.
    pub open: Vec<Span>,
}

impl Outbox {
    /// Everything below this was answered, and the answers are stored.
    pub fn done_below(&self) -> u64 {
        self.open.first().map_or(self.last + 1, |span| span.first)
    }

    /// Gives out the next number, held by `turn`.
    pub fn push(&mut self, turn: u64) -> u64 {
        self.last += 1;
        set_span(&mut self.open, self.last, turn);
        self.last
    }

    /// Forgets an answered number. Whether it was open.
    pub fn close(&mut self, number: u64) -> bool {
        take_span(&mut self.open, number).is_some()
    }

    /// The turn that holds an open number.
    pub fn turn_of(&self, number: u64) -> Option<u64> {
        find_span(&self.open, number)
    }
}

/// What was taken from a server, and answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lane {
    /// Its life that counts these numbers.
    pub incarnation: Incarnation,
    /// Below this nothing is kept and nothing is run again.
    pub done_below: u64,
    /// What was taken at or above that, ascending, with the turn that holds the newest answer.
    pub taken: Vec<Span>,
}

impl Lane {
    /// A lane from which nothing was taken.
    pub const fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, done_below: 1, taken: Vec::new() }
    }

    /// Whether a number was taken, and the turn that holds its answer.
    pub fn turn_of(&self, number: u64) -> Option<u64> {
        find_span(&self.taken, number)
    }

    /// Notes that `turn` holds the newest answer for `number`.
    pub fn set(&mut self, number: u64, turn: u64) {
        take_span(&mut self.taken, number);
        set_span(&mut self.taken, number, turn);
    }

    /// Forgets what the sender has stored the answers of. Whether that was anything new.
    pub fn forget_below(&mut self, done_below: u64) -> bool {
        if done_below <= self.done_below {
            return false;
        }
        self.done_below = done_below;
        self.taken.retain_mut(|span| {
            span.first = span.first.max(done_below);
            span.first <= span.last
        });
        true
    }
}

fn find_span(spans: &[Span], number: u64) -> Option<u64> {
    let at = spans.partition_point(|span| span.last < number);
    spans.get(at).filter(|span| span.first <= number).map(|span| span.turn)
}

fn set_span(spans: &mut Vec<Span>, number: u64, turn: u64) {
    let at = spans.partition_point(|span| span.last < number);
    if at > 0 && spans[at - 1].turn == turn && spans[at - 1].last + 1 == number {
        spans[at - 1].last = number;
    } else {
        spans.insert(at, Span { first: number, last: number, turn });
    }
}

fn take_span(spans: &mut Vec<Span>, number: u64) -> Option<u64> {
    let at = spans.partition_point(|span| span.last < number);
    let span = *spans.get(at).filter(|span| span.first <= number)?;
    let before = Span { last: number.wrapping_sub(1), ..span };
    let after = Span { first: number + 1, ..span };
    let rest = [before, after].into_iter().filter(|_| span.first < span.last);
    let rest: Vec<Span> = rest.filter(|part| part.first <= part.last).collect();
    spans.splice(at..=at, rest);
    Some(span.turn)
}

/// An item of a lane as it was taken.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Received {
    /// Who told it.
    pub server: ServerId,
    /// Its number in that lane.
    pub number: u64,
    /// A hash of what was told: the same number with other content is a fault.
    pub digest: [u8; 16],
    /// The job it became: finished in this turn, or found by its own row.
    pub job: JobId,
}

/// Something told, with its number.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// The number in the server's lane.
    pub number: u64,
    /// What.
    pub tell: Tell,
}

/// One turn: everything that it changed, enough to replay it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Turn {
    /// Its number, from 1.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
    /// What happened to worlds.
    pub events: Vec<Event>,
    /// Calls that it finished.
    pub jobs: Vec<Job>,
    /// Items that other servers told.
    pub received: Vec<Received>,
    /// Items for other servers.
    pub sent: Vec<Sent>,
}

/// What is stored under a key.
#[derive(Clone, PartialEq, Debug)]
pub enum Row {
    /// Under [`Key::Node`].
    Node(Arc<Node>),
    /// Under [`Key::Turn`].
    Turn(Arc<Turn>),
    /// Under [`Key::Account`].
    Account(Arc<Account>),
    /// An id, under names and idempotency keys; of a world, under [`Key::ElementHolder`].
    Id([u8; 16]),
    /// Under [`Key::Secret`]: 32 bytes of an ed25519 key.
    Secret([u8; 32]),
    /// Under [`Key::World`].
    World(Arc<World>),
    /// Under [`Key::Type`].
    Type(Arc<TypeDefinition>),
    /// Under [`Key::Element`].
    Element(Arc<Element>),
    /// Under [`Key::Server`].
    Server(Arc<Server>),
    /// Under [`Key::Protection`].
    Protection(Arc<Protection>),
    /// Under [`Key::Inbox`].
    Inbox(Arc<InboxEntry>),
    /// Under [`Key::ApiKey`].
    ApiKey(Arc<ApiKey>),
    /// Under [`Key::Job`].
    Job(Arc<Job>),
    /// Under [`Key::Outbox`].
    Outbox(Arc<Outbox>),
    /// Under [`Key::Lane`].
    Lane(Arc<Lane>),
    /// Under [`Key::FeedAt`]: a turn's number. Under [`Key::MemberOf`]: a place. Under
    /// [`Key::TimerOf`]: a time. Under [`Key::GroupMember`]: 1 for an admin. Else nothing is said but
    /// that the row is there.
    At(u64),
    /// Under [`Key::Set`].
    Set(Arc<Set>),
    /// Under [`Key::Group`].
    Group(Arc<AccountGroup>),
    /// Under [`Key::Timer`].
    Timer(Arc<Timer>),
    /// Under [`Key::Permission`].
    Permission(Arc<Permission>),
    /// Under [`Key::Visitor`].
    Visitor(Arc<Visitor>),
    /// Under [`Key::Ticket`].
    Ticket(Arc<Ticket>),
    /// Under [`Key::Transfer`].
    Transfer(Arc<Transfer>),
    /// Under [`Key::Piece`].
    Piece(Arc<String>),
    /// Under [`Key::Moved`].
    Moved(Arc<Moved>),
    /// Under [`Key::Held`].
    Held(Arc<Held>),
    /// Under [`Key::Presence`].
    Presence(Arc<Presence>),
    /// Under [`Key::Guest`].
    Guest(Arc<Guest>),
    /// Under [`Key::Following`].
    Following(Arc<Following>),
    /// Under [`Key::CachedAccount`].
    CachedAccount(Arc<CachedAccount>),
    /// Under [`Key::CachedPlace`].
    CachedPlace(CachedPlace),
    /// Under [`Key::CachedValue`].
    CachedValue(Arc<CachedValue>),
}

/// What becomes of one row: put, or removed.
pub type Change = Option<Row>;

/// Rows that are to be put or removed, by key.
pub type Changes = BTreeMap<Key, Change>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_answer_as_a_plain_map_does(
            steps in prop::collection::vec((0..4u8, 1..40u64, 1..5u64), 0..80)
        ) {
            let mut lane = Lane::new(Incarnation::from_bytes([0; 16]));
            let mut plain = BTreeMap::new();
            let mut below = 1;
            for (what, number, turn) in steps {
                if what == 0 {
                    below = below.max(number);
                    lane.forget_below(number);
                    plain.retain(|held, _| *held >= below);
                } else if number >= below {
                    lane.set(number, turn);
                    plain.insert(number, turn);
                }
                for number in 1..40 {
                    prop_assert_eq!(lane.turn_of(number), plain.get(&number).copied());
                }
            }
        }

        #[test]
        fn an_outbox_is_done_below_its_oldest_open_number(closed in prop::collection::vec(1..20u64, 0..30)) {
            let mut outbox = Outbox::default();
            let mut open: std::collections::BTreeSet<u64> = (1..20).map(|turn| outbox.push(turn / 4)).collect();
            for number in closed {
                prop_assert_eq!(outbox.close(number), open.remove(&number));
                prop_assert_eq!(outbox.done_below(), open.first().copied().unwrap_or(20));
            }
        }
    }
}
