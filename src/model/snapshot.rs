//! What a room that decides may ask of stored state.

use std::sync::Arc;

use super::{
    Account, AccountGroup, AccountId, ApiKey, CachedAccount, CachedPlace, CachedValue, Changes,
    Contact, Element, ElementId, EntryId, Following, GroupId, Guest, InboxEntry, Job, JobId, Json,
    Key, KeyId, Lane, Moved, Node, Outbox, Permission, Presence, Problem, Protection, Row, Server,
    ServerId, Set, Transfer, TransferId, Turn, TypeDefinition, TypeId, Visitor, World, WorldId,
};

/// A stored value does not match its checksum, or is not what its key says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored row {0} is damaged")]
pub struct Damaged(pub String);

impl From<Damaged> for Problem {
    fn from(damaged: Damaged) -> Self {
        Self::new(super::Code::Damaged, damaged.to_string())
            .hint("restore a backup, or remove the thing; the store was not changed")
    }
}

/// Stored state at one moment, and what is known of contacts.
pub trait Snapshot {
    /// The row under `key`.
    ///
    /// # Errors
    /// It is damaged.
    fn row(&self, key: &Key) -> Result<Option<Row>, Damaged>;

    /// At most `limit` rows from `first` to `last`, both included, ascending.
    ///
    /// # Errors
    /// One of them is damaged.
    fn rows(&self, first: &Key, last: &Key, limit: usize) -> Result<Vec<(Key, Row)>, Damaged>;

    /// The last row from `first` to `last`, both included.
    ///
    /// # Errors
    /// It is damaged.
    fn last_row(&self, first: &Key, last: &Key) -> Result<Option<(Key, Row)>, Damaged>;

    /// What is known of the contact with a server.
    fn contact(&self, server: ServerId) -> Contact;

    /// Where somebody in a world of ours went last, if they moved since they came.
    fn position(&self, account: AccountId) -> Option<Json>;
}

/// Changes laid over stored state: what is read comes from the changes first.
pub struct Layered<'a> {
    /// What is changed.
    pub top: &'a Changes,
    /// What it is changed in.
    pub below: &'a dyn Snapshot,
}

impl Snapshot for Layered<'_> {
    fn row(&self, key: &Key) -> Result<Option<Row>, Damaged> {
        match self.top.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.below.row(key),
        }
    }

    fn rows(&self, first: &Key, last: &Key, limit: usize) -> Result<Vec<(Key, Row)>, Damaged> {
        if first > last {
            return Ok(Vec::new());
        }
        let changed: Vec<_> = self.top.range(first..=last).collect();
        let removed = changed.iter().filter(|(_, change)| change.is_none()).count();
        let mut rows = self.below.rows(first, last, limit.saturating_add(removed))?;
        rows.retain(|(key, _)| !self.top.contains_key(key));
        let put =
            changed.into_iter().filter_map(|(key, change)| Some((key.clone(), change.clone()?)));
        rows.extend(put);
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.truncate(limit);
        Ok(rows)
    }

    fn last_row(&self, first: &Key, last: &Key) -> Result<Option<(Key, Row)>, Damaged> {
        if first > last {
            return Ok(None);
        }
        let put = self
            .top
            .range(first..=last)
            .rev()
            .find_map(|(key, change)| Some((key.clone(), change.clone()?)));
        let mut last = last.clone();
        loop {
            let Some((key, row)) = self.below.last_row(first, &last)? else { return Ok(put) };
            if put.as_ref().is_some_and(|(held, _)| *held >= key) {
                return Ok(put);
            }
            if !self.top.contains_key(&key) {
                return Ok(Some((key, row)));
            }
            // The stored last one is removed by the changes: the one before it is asked for.
            let before = self.below.rows(first, &key, usize::MAX)?;
            let kept = before.iter().rev().find(|(key, _)| !self.top.contains_key(key));
            match kept {
                Some((kept, _)) => last = kept.clone(),
                None => return Ok(put),
            }
        }
    }

    fn contact(&self, server: ServerId) -> Contact {
        self.below.contact(server)
    }

    fn position(&self, account: AccountId) -> Option<Json> {
        self.below.position(account)
    }
}

macro_rules! typed {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $arg_type:ty),*) -> $variant:ident $value:ty, $key:expr;)*) => {
        impl dyn Snapshot + '_ {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// It is damaged.
                pub fn $name(&self, $($arg: $arg_type),*) -> Result<Option<$value>, Damaged> {
                    let key = $key;
                    match self.row(&key)? {
                        Some(Row::$variant(value)) => Ok(Some(value)),
                        Some(_) => Err(Damaged(format!("{key:?}"))),
                        None => Ok(None),
                    }
                }
            )*
        }
    };
}

typed! {
    /// The node itself.
    node() -> Node Arc<Node>, Key::Node;
    /// A turn.
    turn(number: u64) -> Turn Arc<Turn>, Key::Turn(number);
    /// A local account.
    account(id: AccountId) -> Account Arc<Account>, Key::Account(id);
    /// A local account's secret key.
    secret(id: AccountId) -> Secret [u8; 32], Key::Secret(id);
    /// A world.
    world(id: WorldId) -> World Arc<World>, Key::World(id);
    /// A type.
    element_type(id: TypeId) -> Type Arc<TypeDefinition>, Key::Type(id);
    /// An element.
    element(world: WorldId, id: ElementId) -> Element Arc<Element>, Key::Element(world, id);
    /// Another server.
    server(id: ServerId) -> Server Arc<Server>, Key::Server(id);
    /// A server on a list.
    protection(server: ServerId, list: &str) -> Protection Arc<Protection>, Key::Protection(server, list.to_owned());
    /// A set.
    set(world: WorldId, element: ElementId) -> Set Arc<Set>, Key::Set(world, element);
    /// A group.
    group(id: GroupId) -> Group Arc<AccountGroup>, Key::Group(id);
    /// A number that says something by itself or by being there.
    at(key: Key) -> At u64, key;
    /// An entry of the inbox.
    inbox(id: EntryId) -> Inbox Arc<InboxEntry>, Key::Inbox(id);
    /// A key for programs.
    api_key(id: KeyId) -> ApiKey Arc<ApiKey>, Key::ApiKey(id);
    /// A job that was not finished in the turn that took it.
    job(id: JobId) -> Job Arc<Job>, Key::Job(id);
    /// What is still to be told to a server.
    outbox(server: ServerId) -> Outbox Arc<Outbox>, Key::Outbox(server);
    /// What was taken from a server.
    lane(server: ServerId) -> Lane Arc<Lane>, Key::Lane(server);
    /// Whether a server may act for an account of ours.
    permission(account: AccountId, server: ServerId) -> Permission Arc<Permission>, Key::Permission(account, server);
    /// A user of another server who is known here.
    visitor(account: AccountId) -> Visitor Arc<Visitor>, Key::Visitor(account);
    /// Things on their way to or from another server.
    transfer(id: TransferId) -> Transfer Arc<Transfer>, Key::Transfer(id);
    /// Where an element is that was ours.
    moved(id: ElementId) -> Moved Arc<Moved>, Key::Moved(id);
    /// Where an account of ours is.
    presence(id: AccountId) -> Presence Arc<Presence>, Key::Presence(id);
    /// Somebody of another server in a world of ours.
    guest(id: AccountId) -> Guest Arc<Guest>, Key::Guest(id);
    /// A feed that we receive.
    following(server: ServerId, world: WorldId) -> Following Arc<Following>, Key::Following(server, world);
    /// A copy of another server's account.
    cached_account(id: AccountId) -> CachedAccount Arc<CachedAccount>, Key::CachedAccount(id);
    /// The element behind another server's name for it.
    cached_place(server: ServerId, name: &str) -> CachedPlace CachedPlace, Key::CachedPlace(server, name.to_owned());
    /// A remote value.
    cached_value(server: ServerId, element: ElementId, reader: Option<AccountId>, attribute: &str) -> CachedValue Arc<CachedValue>,
        Key::CachedValue(server, element, reader, attribute.to_owned());
    /// The id under a name.
    id_at(key: Key) -> Id [u8; 16], key;
}
