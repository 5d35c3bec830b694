//! Plain data and its invariants: what every other room talks about. Pure: no I/O, no clock, no
//! randomness.

mod bootstrap;
mod bounds;
mod call;
mod definition;
mod domain;
mod event;
mod id;
mod name;
mod presence;
mod problem;
mod row;
mod selection;
mod server;
mod settings;
mod snapshot;
mod system;
mod thing;
mod ticket;
mod time;
mod transfer;
mod user;
mod value;

pub use bootstrap::{Bootstrap, BootstrapMistake, BootstrapPeer, NETWORK_DEFAULT};
pub use bounds::{Area, Bounds, Cron, CronText, Schedule, TimeSpan, parse_duration_ms};
pub use call::{
    ANSWERS_MAX, ActsFor, Answer, Answers, Budget, Call, Caller, DEADLINE_DEFAULT_MS,
    DEADLINE_MAX_MS, Job, JobStatus, Need, Outcome, Presented, QUESTIONS_MAX, Question, ROUNDS_MAX,
    Reply, ReplyTo, Root, Tell, Touched,
};
pub use definition::{
    ATTRIBUTE_BYTES_MAX, Action, Attribute, Body, CallBody, Definition, EventDefinition,
    FinalMistake, Group, Mapped, On, TypeDefinition, VALUE_BYTES_DEFAULT, with_parents,
};
pub use domain::is_domain;
pub use event::{Audience, Event, EventKind, Feed, Head};
pub use id::{
    AccountId, ElementId, EntryId, GroupId, Incarnation, JobId, KeyId, LogId, ParseIdError,
    ServerId, TimerId, TransferId, TypeId, WorldId,
};
pub use name::{Name, NameMistake, Place, PlaceMistake, key_of as name_key};
pub use presence::{Act, BACK_MAX, Fleeting, Guest, Presence, Whereabouts};
pub use problem::{Code, Problem};
pub use row::{Change, Changes, Key, Lane, Node, Outbox, Received, Row, Sent, Span, Turn};
pub use selection::{Expr, Selection, SelectionMistake, Test, fits_pattern};
pub use server::{
    Bond, Contact, InboxEntry, InboxKind, Limit, Protection, ProtectionState, Server, ServerState,
    Try, key_of_peer_bytes, key_of_peer_id, peer_bytes_of, peer_id_of,
};
pub use settings::{Settings, SettingsMistake, Strangers};
pub use snapshot::{Damaged, Layered, Snapshot};
pub use system::SystemType;
pub use thing::{
    Account, AccountGroup, ApiKey, CachedAccount, CachedPlace, CachedValue, Element, Following,
    Rest, Set, SignedRecord, Timer, TimerDoes, World,
};
pub use ticket::{Ticket, TicketMistake, TicketText, hash_of_ticket};
pub use time::Timestamp;
pub use transfer::{Held, Moved, Moving, Sealed, Transfer, TransferRole, TransferState};
pub use user::{ACTS_MAX, Permission, PermissionState, User, Visitor};
pub use value::{Json, Kind, KindMistake, Level, bytes_of, depth_of, hex, suggest, unhex};
