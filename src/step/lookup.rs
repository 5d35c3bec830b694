//! Names are looked up here: accounts, worlds, types, elements, servers.

use std::sync::Arc;

use super::{Halt, Step, not_offered};
use crate::model::{
    Account, AccountId, Caller, Code, Element, ElementId, EntryId, Json, Key, Name, Place, Problem,
    Question, Row, Server, ServerId, Snapshot, TypeDefinition, TypeId, Visitor, World, WorldId,
    key_of_peer_id, name_key,
};

/// Digits of an id that are enough to name it.
const PART_MIN: usize = 8;
/// Elements that are looked at together for their owner.
const OWNED_AT_ONCE: usize = 1_000;
/// Rows that are looked through for a part of an id.
const LOOK_MAX: usize = 100_000;

/// An element, here or elsewhere.
#[derive(Clone, Debug)]
pub enum Target {
    /// Of this server.
    Here(Arc<Element>),
    /// Of another.
    There {
        /// Whose.
        server: ServerId,
        /// Its name at its home.
        name: String,
    },
}

/// An account, here or elsewhere.
#[derive(Clone, Debug)]
pub enum AccountPlace {
    /// Of this server.
    Here(Arc<Account>),
    /// Of another, by its name or id there.
    There {
        /// Whose.
        server: ServerId,
        /// Its name at its home.
        name: String,
    },
    /// Of a server that is not known yet.
    Somewhere(AccountId),
}

/// Says that a part of an id is too short or not unique.
fn prefix_mistake(text: &str) -> Problem {
    Problem::new(Code::Ambiguous, format!("'{text}' fits several things"))
        .hint("write more digits of the id")
}

fn missing(what: &str, name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no {what} '{name}' here"))
}

fn is_part(text: &str) -> bool {
    text.len() >= PART_MIN
        && text.len() < 36
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn fits(id: &str, part: &str) -> bool {
    id.starts_with(part) || id.ends_with(part)
}

/// The only one of `found` that a part of an id fits.
fn only<T>(found: impl Iterator<Item = T>, text: &str) -> Result<Option<T>, Halt> {
    let mut found = found;
    match (found.next(), found.next()) {
        (one, None) => Ok(one),
        (_, Some(_)) => Err(prefix_mistake(text).into()),
    }
}

/// A local account by name, id or part of an id.
///
/// # Errors
/// There is none, or several fit.
pub fn account_by(stored: &dyn Snapshot, text: &str) -> Result<Arc<Account>, Problem> {
    let key = name_key(text);
    let by_name = stored.id_at(Key::AccountName(key.clone()))?.map(AccountId::from_bytes);
    let found = match by_name.or_else(|| key.parse().ok()) {
        Some(id) => stored.account(id)?,
        None if is_part(&key) => {
            let (first, last) = (
                Key::Account(AccountId::from_bytes(NONE)),
                Key::Account(AccountId::from_bytes(ALL)),
            );
            let rows = stored.rows(&first, &last, LOOK_MAX)?;
            let mut fitting = rows.into_iter().filter_map(|(_, row)| match row {
                Row::Account(account) if fits(&account.id.to_string(), &key) => Some(account),
                _ => None,
            });
            match (fitting.next(), fitting.next()) {
                (_, Some(_)) => return Err(prefix_mistake(text)),
                (found, None) => found,
            }
        }
        None => None,
    };
    found.ok_or_else(|| missing("account", text).hint("see them with: freehold account ls"))
}

/// The account that acts where nobody is named: the only one, else the server's own.
///
/// # Errors
/// A row is damaged.
pub fn only_account(
    stored: &dyn Snapshot,
    us: ServerId,
) -> Result<Option<Arc<Account>>, crate::model::Damaged> {
    let own = AccountId::of_server(us);
    let key = |bytes| Key::Account(AccountId::from_bytes(bytes));
    let mut people =
        stored.rows(&key(NONE), &key(ALL), 3)?.into_iter().filter_map(|(_, row)| match row {
            Row::Account(account) if account.id != own => Some(account),
            _ => None,
        });
    match (people.next(), people.next()) {
        (Some(only), None) => Ok(Some(only)),
        _ => stored.account(own),
    }
}

const NONE: [u8; 16] = [0; 16];
const ALL: [u8; 16] = [0xff; 16];

impl Step<'_> {
    fn place(&self, text: &str) -> Result<Place, Halt> {
        let place =
            Place::parse(text).map_err(|mistake| Problem::new(Code::Usage, mistake.to_string()))?;
        if place.server.is_some() && self.scope.is_empty() && self.call.caller.server().is_some() {
            return Err(not_offered(text).into());
        }
        Ok(place)
    }

    /// The local account that acts: the one named, else the settings', else the only one.
    ///
    /// # Errors
    /// There are several, or none.
    pub fn acting(&self) -> Result<Arc<Account>, Halt> {
        let scope = self.scope.last().map(|(owner, _)| *owner);
        if let Some(id) = scope.or(self.call.caller.account()) {
            return self
                .stored()
                .account(id)?
                .ok_or_else(|| missing("account", &id.to_string()).into());
        }
        let hint = "name one with --as ACCOUNT, or make one: freehold account add NAME";
        match self.acting_default()? {
            Some(account) => Ok(account),
            None => Err(Problem::new(Code::Usage, "no account acts here").hint(hint).into()),
        }
    }

    /// The account that acts where the call names none.
    fn acting_default(&self) -> Result<Option<Arc<Account>>, Halt> {
        if let Some(name) = &self.setting.account {
            return self.local_account(&name_key(name)).map(Some);
        }
        Ok(only_account(self.stored(), self.setting.us)?)
    }

    fn local_account(&self, key: &str) -> Result<Arc<Account>, Halt> {
        Ok(account_by(self.stored(), key)?)
    }

    /// An account by name, id or `ACCOUNT@SERVER`.
    ///
    /// # Errors
    /// There is none, or the server must be met first.
    pub fn account_at(&mut self, text: &str) -> Result<AccountPlace, Halt> {
        let place = self.place(text)?;
        let [name] = place.words.as_slice() else {
            return Err(Problem::new(Code::Usage, format!("'{text}' names no account")).into());
        };
        if let Some(server) = self.place_server(&place)? {
            return Ok(AccountPlace::There { server, name: name.clone() });
        }
        match (self.local_account(name), name.parse::<AccountId>()) {
            (Ok(account), _) => Ok(AccountPlace::Here(account)),
            (Err(_), Ok(id)) => Ok(AccountPlace::Somewhere(id)),
            (Err(halt), Err(_)) => Err(halt),
        }
    }

    /// A local account by name or id.
    ///
    /// # Errors
    /// There is none.
    pub fn account_here(&self, text: &str) -> Result<Arc<Account>, Halt> {
        let place = self.place(text)?;
        match (place.words.as_slice(), &place.server) {
            ([name], None) => self.local_account(name),
            _ => Err(missing("account", text).into()),
        }
    }

    /// The other server that a place names; none where it is here.
    fn place_server(&mut self, place: &Place) -> Result<Option<ServerId>, Halt> {
        match &place.server {
            None => Ok(None),
            Some(name) => {
                let server = self.server_id(name)?;
                Ok((server != self.setting.us).then_some(server))
            }
        }
    }

    fn server_id(&mut self, name: &str) -> Result<ServerId, Halt> {
        let name = name.strip_prefix('@').unwrap_or(name);
        if let Some(id) = self.known_server(name)? {
            return Ok(id);
        }
        let met = self.question(&format!("meet {name}"), Question::Meet(name.to_owned()))??;
        let id = met.get("server").and_then(Json::as_str).and_then(|id| id.parse().ok());
        id.ok_or_else(|| missing("server", name).into())
    }

    /// Whether a server that is named is this one.
    fn is_us(&self, server: &str) -> Result<bool, Halt> {
        let name = server.strip_prefix('@').unwrap_or(server);
        Ok(self.known_server(name)? == Some(self.setting.us))
    }

    fn known_server(&self, name: &str) -> Result<Option<ServerId>, Halt> {
        let key = name_key(name);
        if let Some(id) = self.stored().id_at(Key::ServerName(key.clone()))? {
            return Ok(Some(ServerId::from_bytes(id)));
        }
        if self.setting.name.key() == key || self.setting.us.to_string() == key {
            return Ok(Some(self.setting.us));
        }
        let wanted_key = key_of_peer_id(name);
        if wanted_key.is_some_and(|wanted| wanted == self.setting.keys.public()) {
            return Ok(Some(self.setting.us));
        }
        if let Ok(id) = key.parse::<ServerId>() {
            return Ok(self.stored().server(id)?.map(|server| server.id));
        }
        if wanted_key.is_none() && !is_part(&key) {
            return Ok(None);
        }
        let first = Key::Server(ServerId::from_bytes(NONE));
        let rows = self.stored().rows(&first, &Key::Server(ServerId::from_bytes(ALL)), LOOK_MAX)?;
        let ids = rows.into_iter().filter_map(|(_, row)| match row {
            Row::Server(server)
                if wanted_key == Some(server.key)
                    || (wanted_key.is_none() && fits(&server.id.to_string(), &key)) =>
            {
                Some(server.id)
            }
            _ => None,
        });
        only(ids, name)
    }

    /// Another server by name, id, part of an id or peer id.
    ///
    /// # Errors
    /// It was never met, or must be met first.
    pub fn server(&mut self, text: &str) -> Result<Arc<Server>, Halt> {
        let id = self.server_id(text)?;
        if id == self.setting.us {
            return Err(Problem::new(Code::Usage, "that is this server itself").into());
        }
        self.stored()
            .server(id)?
            .ok_or_else(|| missing("server", text).hint("see them with: freehold server ls").into())
    }

    /// A local world by `NAME`, `ACCOUNT/NAME` or id; without a name the acting account's only one.
    ///
    /// # Errors
    /// There is none, or several.
    pub fn world(&self, text: Option<&str>) -> Result<Arc<World>, Halt> {
        let text = match (text, self.scope.last()) {
            (Some(text), _) => Some(text),
            (None, Some((_, world))) => return self.world_by_id(*world, "of this element"),
            (None, None) => self.call.world.as_deref(),
        };
        let Some(text) = text else { return self.only_world() };
        let place = self.place(text)?;
        let is_here = match &place.server {
            None => true,
            Some(server) => self.is_us(server)?,
        };
        match (place.words.as_slice(), is_here) {
            ([name], true) if place.server.is_none() => {
                let owner = self.acting().ok().map(|account| account.id);
                self.world_named(owner, name, text)
            }
            ([account, name], true) => {
                let owner = self.local_account(account)?.id;
                self.world_named(Some(owner), name, text)
            }
            _ => Err(missing("world", text).into()),
        }
    }

    /// The other server that a world's name points at, with its name there; none where it is here.
    ///
    /// # Errors
    /// It is no name, or the server must be met first.
    pub fn world_elsewhere(&mut self, text: &str) -> Result<Option<(ServerId, String)>, Halt> {
        let place = self.place(text)?;
        Ok(self.place_server(&place)?.map(|server| (server, place.at_home())))
    }

    fn only_world(&self) -> Result<Arc<World>, Halt> {
        let owner = self.acting()?.id;
        let first = Key::WorldName(owner, String::new());
        let rows =
            self.stored().rows(&first, &Key::WorldName(owner, "\u{10ffff}".to_owned()), 2)?;
        match rows.as_slice() {
            [(_, Row::Id(id))] => self.world_by_id(WorldId::from_bytes(*id), "the only world"),
            [] => Err(Problem::new(Code::Usage, "the acting account has no world")
                .hint("make one with: freehold world add NAME")
                .into()),
            _ => Err(Problem::new(Code::Usage, "the acting account has several worlds")
                .hint("say which with --world ACCOUNT/WORLD")
                .into()),
        }
    }

    fn world_by_id(&self, id: WorldId, text: &str) -> Result<Arc<World>, Halt> {
        self.stored().world(id)?.ok_or_else(|| missing("world", text).into())
    }

    fn world_named(
        &self,
        owner: Option<AccountId>,
        name: &str,
        text: &str,
    ) -> Result<Arc<World>, Halt> {
        if let Some(owner) = owner
            && let Some(id) = self.stored().id_at(Key::WorldName(owner, name.to_owned()))?
        {
            return self.world_by_id(WorldId::from_bytes(id), text);
        }
        if let Ok(id) = name.parse() {
            return self.world_by_id(id, text);
        }
        if is_part(name) {
            let found =
                self.worlds()?.into_iter().filter(|world| fits(&world.id.to_string(), name));
            if let Some(world) = only(found, text)? {
                return Ok(world);
            }
        }
        Err(missing("world", text).hint("see them with: freehold world ls").into())
    }

    /// Whether an account owns an element of any world: looked for one by one.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn owns_elements(&self, account: AccountId) -> Result<bool, Halt> {
        for world in self.worlds()? {
            let mut first = [0; 16];
            loop {
                let key = |bytes| Key::Element(world.id, ElementId::from_bytes(bytes));
                let rows = self.stored().rows(&key(first), &key(ALL), OWNED_AT_ONCE)?;
                let owned = |row: &Row| matches!(row, Row::Element(held) if held.owner == account);
                if rows.iter().any(|(_, row)| owned(row)) {
                    return Ok(true);
                }
                match rows.last() {
                    Some((Key::Element(_, id), _)) if rows.len() == OWNED_AT_ONCE => {
                        let last = u128::from_be_bytes(*id.as_bytes());
                        first = last.saturating_add(1).to_be_bytes();
                    }
                    _ => break,
                }
            }
        }
        Ok(false)
    }

    fn worlds(&self) -> Result<Vec<Arc<World>>, Halt> {
        let first = Key::World(WorldId::from_bytes(NONE));
        let rows = self.stored().rows(&first, &Key::World(WorldId::from_bytes(ALL)), LOOK_MAX)?;
        let worlds = rows.into_iter().filter_map(|(_, row)| match row {
            Row::World(world) => Some(world),
            _ => None,
        });
        Ok(worlds.collect())
    }

    /// A type by `NAME`, `ACCOUNT:NAME` or id. A bare name is the acting account's, else `owner`'s.
    ///
    /// # Errors
    /// There is none.
    pub fn element_type(
        &self,
        text: &str,
        owner: Option<AccountId>,
    ) -> Result<Arc<TypeDefinition>, Halt> {
        let (account, name) = match text.split_once(':') {
            Some((account, name)) if account.contains('@') => {
                (Some(self.visitor_here(account)?), name)
            }
            Some((account, name)) => (Some(self.local_account(&name_key(account))?.id), name),
            None => (None, text),
        };
        let key = name_key(name);
        let owners: Vec<AccountId> = match account {
            Some(account) => vec![account],
            None => self.acting().ok().map(|account| account.id).into_iter().chain(owner).collect(),
        };
        for owner in owners {
            if let Some(id) = self.stored().id_at(Key::TypeName(owner, key.clone()))? {
                return self.type_of(TypeId::from_bytes(id));
            }
        }
        if let Ok(id) = key.parse() {
            return self.type_of(id);
        }
        if is_part(&key) {
            let first = Key::Type(TypeId::from_bytes(NONE));
            let rows = self.stored().rows(&first, &Key::Type(TypeId::from_bytes(ALL)), LOOK_MAX)?;
            let found = rows.into_iter().filter_map(|(_, row)| match row {
                Row::Type(held) if fits(&held.id.to_string(), &key) => Some(held),
                _ => None,
            });
            if let Some(held) = only(found, text)? {
                return Ok(held);
            }
        }
        Err(missing("type", text).hint("see them with: freehold type ls").into())
    }

    /// The account behind `NAME@SERVER`, where it is known here.
    fn visitor_here(&self, text: &str) -> Result<AccountId, Halt> {
        let unknown = || missing("account", text);
        let place = self.place(text)?;
        let (Some(server), [name]) = (&place.server, place.words.as_slice()) else {
            return Err(unknown().into());
        };
        let home = self.known_server(server)?.ok_or_else(unknown)?;
        let found = self.visitors()?.into_iter().find(|held| held.is_called(home, name));
        found.map(|held| held.account).ok_or_else(|| unknown().into())
    }

    /// Users of other servers who are known here.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn visitors(&self) -> Result<Vec<Arc<Visitor>>, Halt> {
        let key = |bytes| Key::Visitor(AccountId::from_bytes(bytes));
        let rows = self.stored().rows(&key(NONE), &key(ALL), LOOK_MAX)?;
        Ok(rows
            .into_iter()
            .filter_map(|(_, row)| match row {
                Row::Visitor(held) => Some(held),
                _ => None,
            })
            .collect())
    }

    /// A type by its id.
    ///
    /// # Errors
    /// There is none.
    pub fn type_of(&self, id: TypeId) -> Result<Arc<TypeDefinition>, Halt> {
        self.stored().element_type(id)?.ok_or_else(|| missing("type", &id.to_string()).into())
    }

    /// The types above a type: its parents, their parents, and so on.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn ancestors(
        &self,
        element_type: &TypeDefinition,
    ) -> Result<std::collections::BTreeSet<TypeId>, Halt> {
        let mut found = std::collections::BTreeSet::new();
        let mut waiting = element_type.parents.clone();
        while let Some(id) = waiting.pop() {
            if found.insert(id)
                && let Some(parent) = self.stored().element_type(id)?
            {
                waiting.extend(parent.parents.iter().copied());
            }
        }
        Ok(found)
    }

    /// An element by `NAME`, `ACCOUNT/WORLD/NAME`, `ACCOUNT@SERVER/WORLD/NAME` or id.
    ///
    /// # Errors
    /// There is none, or its server must be met first.
    pub fn element(&mut self, text: &str) -> Result<Target, Halt> {
        let place = self.place(text)?;
        if let Some(server) = self.place_server(&place)? {
            return Ok(Target::There { server, name: place.at_home() });
        }
        let element = match self.element_here(text) {
            Err(halt) => return self.moved_to(&place)?.ok_or(halt),
            Ok(element) => element,
        };
        Ok(match element.home {
            // A copy: its values and its owner are at home.
            Some(server) => Target::There { server, name: element.id.to_string() },
            None => Target::Here(element),
        })
    }

    /// A local element, by the same names without a server.
    ///
    /// # Errors
    /// There is none.
    pub fn element_here(&self, text: &str) -> Result<Arc<Element>, Halt> {
        let element = self.element_or_copy(text)?;
        if element.home.is_some() && self.scope.is_empty() && self.call.caller.server().is_some() {
            // Of what is at home elsewhere we tell nobody.
            return Err(missing("element", text).into());
        }
        Ok(element)
    }

    fn element_or_copy(&self, text: &str) -> Result<Arc<Element>, Halt> {
        let place = self.place(text)?;
        if let Some(server) = &place.server
            && !self.is_us(server)?
        {
            let says = format!("'{text}' is at another server, and not here");
            return Err(Problem::new(Code::NotFound, says).hint("do this at its home").into());
        }
        match place.words.as_slice() {
            [name] => match (
                self.world(self.text("world").filter(|_| self.scope.is_empty())),
                name.parse::<ElementId>(),
            ) {
                (Ok(world), _) => self
                    .element_in(&world, name, text)
                    .or_else(|halt| self.element_anywhere(name, halt)),
                (Err(halt), _) => self.element_anywhere(name, halt),
            },
            [account, world] => {
                let owner = self.local_account(account)?.id;
                let world = self.world_named(Some(owner), world, text)?;
                let found = self.stored().element(world.id, world.id.element())?;
                found.ok_or_else(|| missing("element", text).into())
            }
            [account, world, name] => {
                let owner = self.local_account(account)?.id;
                let world = self.world_named(Some(owner), world, text)?;
                self.element_in(&world, name, text)
            }
            _ => Err(missing("element", text)
                .hint("write ACCOUNT/WORLD/ELEMENT, or name the world with --world")
                .into()),
        }
    }

    /// Every element with an id: the one of ours, or copies in several worlds.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn elements_with_id(&self, id: ElementId) -> Result<Vec<Arc<Element>>, Halt> {
        let mut found = Vec::new();
        for world in self.worlds()? {
            found.extend(self.stored().element(world.id, id)?);
        }
        Ok(found)
    }

    /// An element by id alone: looked for in every world.
    fn element_anywhere(&self, name: &str, otherwise: Halt) -> Result<Arc<Element>, Halt> {
        if let Ok(id) = name.parse::<ElementId>() {
            for world in self.worlds()? {
                if let Some(element) = self.stored().element(world.id, id)? {
                    return Ok(element);
                }
            }
            return Err(missing("element", name).into());
        } else if is_part(name) && self.call.caller.server().is_none() {
            let mut found = Vec::new();
            for world in self.worlds()? {
                found.extend(self.elements_like(&world, name)?);
            }
            if let Some(element) = only(found.into_iter(), name)? {
                return Ok(element);
            }
        }
        Err(otherwise)
    }

    fn element_in(&self, world: &World, name: &str, text: &str) -> Result<Arc<Element>, Halt> {
        // A name never has the form of an id.
        let id = match name.parse().ok() {
            Some(id) => Some(id),
            None => {
                let named = self.stored().id_at(Key::ElementName(world.id, name.to_owned()))?;
                named.map(ElementId::from_bytes)
            }
        };
        let element = match id {
            Some(id) => self.stored().element(world.id, id)?,
            // Another server does not look things up by parts of their ids.
            None if is_part(name) && self.call.caller.server().is_none() => {
                only(self.elements_like(world, name)?.into_iter(), name)?
            }
            None => None,
        };
        element.ok_or_else(|| {
            missing("element", text).hint("see them with: freehold element ls").into()
        })
    }

    fn elements_like(&self, world: &World, part: &str) -> Result<Vec<Arc<Element>>, Halt> {
        let first = Key::Element(world.id, ElementId::from_bytes(NONE));
        let rows = self.stored().rows(
            &first,
            &Key::Element(world.id, ElementId::from_bytes(ALL)),
            LOOK_MAX,
        )?;
        let found = rows.into_iter().filter_map(|(_, row)| match row {
            Row::Element(element) if fits(&element.id.to_string(), part) => Some(element),
            _ => None,
        });
        Ok(found.collect())
    }

    /// An entry of the inbox by its id or a part of it.
    ///
    /// # Errors
    /// There is none, or several fit.
    pub fn inbox_entry(&self, text: &str) -> Result<Arc<crate::model::InboxEntry>, Halt> {
        let key = name_key(text);
        let first = Key::Inbox(EntryId::from_bytes(NONE));
        let rows = self.stored().rows(&first, &Key::Inbox(EntryId::from_bytes(ALL)), LOOK_MAX)?;
        let found = rows.into_iter().filter_map(|(_, row)| match row {
            Row::Inbox(entry)
                if entry.id.to_string() == key
                    || (is_part(&key) && fits(&entry.id.to_string(), &key)) =>
            {
                Some(entry)
            }
            _ => None,
        });
        only(found, text)?.ok_or_else(|| {
            missing("entry of the inbox", text).hint("see them with: freehold inbox").into()
        })
    }

    /// The only one of `things` whose id a part fits.
    ///
    /// # Errors
    /// Several fit.
    pub fn only_part<T>(
        &self,
        things: Vec<T>,
        part: &str,
        id: impl Fn(&T) -> String,
    ) -> Result<Option<T>, Halt> {
        if !is_part(part) {
            return Ok(None);
        }
        only(things.into_iter().filter(|thing| fits(&id(thing), part)), part)
    }

    /// Checks a name that is to be given.
    ///
    /// # Errors
    /// It is no name.
    pub fn name(&self, text: &str) -> Result<Name, Halt> {
        let name = Name::new(text).map_err(|mistake| {
            Problem::new(Code::Usage, format!("'{text}' is no name: {mistake}"))
        })?;
        if name.is_mixed() {
            let says = format!("'{text}' mixes letters of scripts that look alike");
            return Err(Problem::new(Code::Usage, says).hint("write it in one script").into());
        }
        Ok(name)
    }

    /// Checks that only people here may go on.
    ///
    /// # Errors
    /// The caller is no operator.
    pub fn check_operator(&self) -> Result<(), Halt> {
        match self.call.caller {
            Caller::Local { operator: true, .. } | Caller::Node => Ok(()),
            Caller::Local { operator: false, .. } | Caller::Remote { .. } => {
                Err(Problem::new(Code::NotPermitted, "only the operator may do this")
                    .hint("use the control socket, or a key made with --admin")
                    .into())
            }
        }
    }
}
