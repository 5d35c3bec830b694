//! Keys and rows as bytes. A key's bytes sort as the key does; a row's bytes end in a checksum over
//! table, key and value.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{
    AccountId, Damaged, ElementId, GroupId, Key, Row, TimerId, Timestamp, TransferId, TypeId,
    WorldId,
};

/// Bytes of the checksum.
const CHECKSUM: usize = 8;

/// The bytes that a key is stored under: a tag, then its parts. Only the last part may vary in
/// length, or stand before one that does not.
pub(super) fn key_bytes(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    match key {
        Key::Node => bytes.push(0),
        Key::Turn(number) => tagged(&mut bytes, 1, &[&number.to_be_bytes()]),
        Key::Account(id) => tagged(&mut bytes, 2, &[id.as_bytes()]),
        Key::AccountName(name) => tagged(&mut bytes, 3, &[name.as_bytes()]),
        Key::Secret(id) => tagged(&mut bytes, 4, &[id.as_bytes()]),
        Key::World(id) => tagged(&mut bytes, 5, &[id.as_bytes()]),
        Key::WorldName(owner, name) => tagged(&mut bytes, 6, &[owner.as_bytes(), name.as_bytes()]),
        Key::Type(id) => tagged(&mut bytes, 7, &[id.as_bytes()]),
        Key::TypeName(owner, name) => tagged(&mut bytes, 8, &[owner.as_bytes(), name.as_bytes()]),
        Key::Element(world, id) => tagged(&mut bytes, 9, &[world.as_bytes(), id.as_bytes()]),
        Key::ElementName(world, name) => {
            tagged(&mut bytes, 10, &[world.as_bytes(), name.as_bytes()])
        }
        Key::Server(id) => tagged(&mut bytes, 11, &[id.as_bytes()]),
        Key::ServerName(name) => tagged(&mut bytes, 12, &[name.as_bytes()]),
        Key::Protection(server, list) => {
            tagged(&mut bytes, 13, &[server.as_bytes(), list.as_bytes()])
        }
        Key::Inbox(id) => tagged(&mut bytes, 14, &[id.as_bytes()]),
        Key::ApiKey(id) => tagged(&mut bytes, 15, &[id.as_bytes()]),
        Key::Job(id) => tagged(&mut bytes, 16, &[id.as_bytes()]),
        Key::Outbox(server) => tagged(&mut bytes, 17, &[server.as_bytes()]),
        Key::Lane(server) => tagged(&mut bytes, 18, &[server.as_bytes()]),
        Key::FeedAt(log, seq) => tagged(&mut bytes, 19, &[log.as_bytes(), &seq.to_be_bytes()]),
        Key::Following(server, world) => {
            tagged(&mut bytes, 20, &[server.as_bytes(), world.as_bytes()])
        }
        Key::Idempotency(hash) => tagged(&mut bytes, 21, &[hash]),
        Key::CachedAccount(id) => tagged(&mut bytes, 22, &[id.as_bytes()]),
        Key::CachedAccountName(server, name) => {
            tagged(&mut bytes, 23, &[server.as_bytes(), name.as_bytes()])
        }
        Key::CachedPlace(server, name) => {
            tagged(&mut bytes, 24, &[server.as_bytes(), name.as_bytes()])
        }
        Key::CachedValue(server, element, reader, attribute) => {
            let none = [0; 17];
            let mut some = [1; 17];
            if let Some(reader) = reader {
                some[1..].copy_from_slice(reader.as_bytes());
            }
            let reader = if reader.is_some() { &some } else { &none };
            tagged(
                &mut bytes,
                25,
                &[server.as_bytes(), element.as_bytes(), reader, attribute.as_bytes()],
            );
        }
        Key::ElementOf(kind, world, id) => {
            tagged(&mut bytes, 26, &[kind.as_bytes(), world.as_bytes(), id.as_bytes()]);
        }
        Key::ByValue(kind, attribute, world, value, id) => tagged(
            &mut bytes,
            27,
            &[kind.as_bytes(), attribute, world.as_bytes(), value, id.as_bytes()],
        ),
        Key::Set(world, id) => tagged(&mut bytes, 28, &[world.as_bytes(), id.as_bytes()]),
        Key::Member(world, set, place, id) => tagged(
            &mut bytes,
            29,
            &[world.as_bytes(), set.as_bytes(), &place.to_be_bytes(), id.as_bytes()],
        ),
        Key::MemberOf(world, id, set) => pair(&mut bytes, 30, *world, *id, *set),
        Key::SetChild(world, set, child) => pair(&mut bytes, 31, *world, *set, *child),
        Key::SetParent(world, set, parent) => pair(&mut bytes, 32, *world, *set, *parent),
        Key::SetLink(world, from, to) => pair(&mut bytes, 33, *world, *from, *to),
        Key::SetLinked(world, to, from) => pair(&mut bytes, 34, *world, *to, *from),
        Key::Group(id) => tagged(&mut bytes, 35, &[id.as_bytes()]),
        Key::GroupName(owner, name) => tagged(&mut bytes, 36, &[owner.as_bytes(), name.as_bytes()]),
        Key::GroupMember(group, id) => tagged(&mut bytes, 37, &[group.as_bytes(), id.as_bytes()]),
        Key::Timer(at, id) => {
            tagged(&mut bytes, 38, &[&at.unix_ms().to_be_bytes(), id.as_bytes()]);
        }
        Key::TimerOf(world, element, id) => {
            tagged(&mut bytes, 39, &[world.as_bytes(), element.as_bytes(), id.as_bytes()]);
        }
        Key::TypeChild(parent, child) => {
            tagged(&mut bytes, 40, &[parent.as_bytes(), child.as_bytes()]);
        }
        Key::Permission(account, server) => {
            tagged(&mut bytes, 41, &[account.as_bytes(), server.as_bytes()]);
        }
        Key::Visitor(account) => tagged(&mut bytes, 42, &[account.as_bytes()]),
        Key::VisitorName(name) => tagged(&mut bytes, 43, &[name.as_bytes()]),
        Key::TypeHolder(id, server) => tagged(&mut bytes, 44, &[id.as_bytes(), server.as_bytes()]),
        Key::ElementHolder(id, server) => {
            tagged(&mut bytes, 45, &[id.as_bytes(), server.as_bytes()]);
        }
        Key::Ticket(id) => tagged(&mut bytes, 46, &[id.as_bytes()]),
        Key::Transfer(id) => tagged(&mut bytes, 47, &[id.as_bytes()]),
        Key::Piece(id, number) => tagged(&mut bytes, 48, &[id.as_bytes(), &number.to_be_bytes()]),
        Key::Moved(id) => tagged(&mut bytes, 49, &[id.as_bytes()]),
        Key::Held(id, number) => tagged(&mut bytes, 50, &[id.as_bytes(), &number.to_be_bytes()]),
        Key::Presence(id) => tagged(&mut bytes, 51, &[id.as_bytes()]),
        Key::Guest(id) => tagged(&mut bytes, 52, &[id.as_bytes()]),
    }
    bytes
}

/// A key of two elements of one world.
fn pair(bytes: &mut Vec<u8>, tag: u8, world: WorldId, one: ElementId, other: ElementId) {
    tagged(bytes, tag, &[world.as_bytes(), one.as_bytes(), other.as_bytes()]);
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    bytes.push(tag);
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

/// The key that was stored under these bytes.
pub(super) fn key_from(bytes: &[u8]) -> Option<Key> {
    let (tag, rest) = bytes.split_first()?;
    let mut parts = Parts(rest);
    let key = match tag {
        0 => Key::Node,
        1 => Key::Turn(parts.number()?),
        2 => Key::Account(AccountId::from_bytes(parts.id()?)),
        3 => Key::AccountName(parts.text()?),
        4 => Key::Secret(AccountId::from_bytes(parts.id()?)),
        5 => Key::World(WorldId::from_bytes(parts.id()?)),
        6 => Key::WorldName(AccountId::from_bytes(parts.id()?), parts.text()?),
        7 => Key::Type(TypeId::from_bytes(parts.id()?)),
        8 => Key::TypeName(AccountId::from_bytes(parts.id()?), parts.text()?),
        9 => Key::Element(WorldId::from_bytes(parts.id()?), ElementId::from_bytes(parts.id()?)),
        10 => Key::ElementName(WorldId::from_bytes(parts.id()?), parts.text()?),
        11 => Key::Server(crate::model::ServerId::from_bytes(parts.id()?)),
        12 => Key::ServerName(parts.text()?),
        13 => Key::Protection(crate::model::ServerId::from_bytes(parts.id()?), parts.text()?),
        14 => Key::Inbox(crate::model::EntryId::from_bytes(parts.id()?)),
        15 => Key::ApiKey(crate::model::KeyId::from_bytes(parts.id()?)),
        16 => Key::Job(crate::model::JobId::from_bytes(parts.id()?)),
        17 => Key::Outbox(crate::model::ServerId::from_bytes(parts.id()?)),
        18 => Key::Lane(crate::model::ServerId::from_bytes(parts.id()?)),
        19 => Key::FeedAt(crate::model::LogId::from_bytes(parts.id()?), parts.number()?),
        20 => Key::Following(
            crate::model::ServerId::from_bytes(parts.id()?),
            WorldId::from_bytes(parts.id()?),
        ),
        21 => Key::Idempotency(parts.id()?),
        22 => Key::CachedAccount(AccountId::from_bytes(parts.id()?)),
        23 => {
            Key::CachedAccountName(crate::model::ServerId::from_bytes(parts.id()?), parts.text()?)
        }
        24 => Key::CachedPlace(crate::model::ServerId::from_bytes(parts.id()?), parts.text()?),
        25 => {
            let server = crate::model::ServerId::from_bytes(parts.id()?);
            let element = ElementId::from_bytes(parts.id()?);
            let named = parts.take(1)? == [1];
            let reader = AccountId::from_bytes(parts.id()?);
            Key::CachedValue(server, element, named.then_some(reader), parts.text()?)
        }
        26 => Key::ElementOf(TypeId::from_bytes(parts.id()?), parts.world()?, parts.element()?),
        27 => Key::ByValue(
            TypeId::from_bytes(parts.id()?),
            parts.take(8)?.try_into().ok()?,
            parts.world()?,
            parts.id()?,
            parts.element()?,
        ),
        28 => Key::Set(parts.world()?, parts.element()?),
        29 => Key::Member(parts.world()?, parts.element()?, parts.number()?, parts.element()?),
        30 => Key::MemberOf(parts.world()?, parts.element()?, parts.element()?),
        31 => Key::SetChild(parts.world()?, parts.element()?, parts.element()?),
        32 => Key::SetParent(parts.world()?, parts.element()?, parts.element()?),
        33 => Key::SetLink(parts.world()?, parts.element()?, parts.element()?),
        34 => Key::SetLinked(parts.world()?, parts.element()?, parts.element()?),
        35 => Key::Group(GroupId::from_bytes(parts.id()?)),
        36 => Key::GroupName(AccountId::from_bytes(parts.id()?), parts.text()?),
        37 => {
            Key::GroupMember(GroupId::from_bytes(parts.id()?), AccountId::from_bytes(parts.id()?))
        }
        38 => Key::Timer(Timestamp::from_ms(parts.number()?), TimerId::from_bytes(parts.id()?)),
        39 => Key::TimerOf(parts.world()?, parts.element()?, TimerId::from_bytes(parts.id()?)),
        40 => Key::TypeChild(TypeId::from_bytes(parts.id()?), TypeId::from_bytes(parts.id()?)),
        41 => Key::Permission(
            AccountId::from_bytes(parts.id()?),
            crate::model::ServerId::from_bytes(parts.id()?),
        ),
        42 => Key::Visitor(AccountId::from_bytes(parts.id()?)),
        43 => Key::VisitorName(parts.text()?),
        44 => Key::TypeHolder(
            TypeId::from_bytes(parts.id()?),
            crate::model::ServerId::from_bytes(parts.id()?),
        ),
        45 => Key::ElementHolder(parts.element()?, crate::model::ServerId::from_bytes(parts.id()?)),
        46 => Key::Ticket(crate::model::EntryId::from_bytes(parts.id()?)),
        47 => Key::Transfer(TransferId::from_bytes(parts.id()?)),
        48 => Key::Piece(TransferId::from_bytes(parts.id()?), parts.number()?),
        49 => Key::Moved(parts.element()?),
        50 => Key::Held(AccountId::from_bytes(parts.id()?), parts.number()?),
        51 => Key::Presence(AccountId::from_bytes(parts.id()?)),
        52 => Key::Guest(AccountId::from_bytes(parts.id()?)),
        _ => return None,
    };
    parts.0.is_empty().then_some(key)
}

struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn id(&mut self) -> Option<[u8; 16]> {
        self.take(16)?.try_into().ok()
    }

    fn world(&mut self) -> Option<WorldId> {
        self.id().map(WorldId::from_bytes)
    }

    fn element(&mut self) -> Option<ElementId> {
        self.id().map(ElementId::from_bytes)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let text = std::str::from_utf8(self.0).ok()?.to_owned();
        self.0 = &[];
        Some(text)
    }
}

fn checksum(table: &str, key: &[u8], value: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = blake3::Hasher::new();
    hash.update(table.as_bytes()).update(&[0]).update(&(key.len() as u64).to_be_bytes());
    hash.update(key).update(value);
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&hash.finalize().as_bytes()[..CHECKSUM]);
    sum
}

/// The bytes of a row under a key.
pub(super) fn row_bytes(table: &str, key: &[u8], row: &Row) -> Vec<u8> {
    let mut bytes = match row {
        Row::Node(value) => cbor(value),
        Row::Turn(value) => cbor(value),
        Row::Account(value) => cbor(value),
        Row::Id(id) => id.to_vec(),
        Row::Secret(seed) => seed.to_vec(),
        Row::World(value) => cbor(value),
        Row::Type(value) => cbor(value),
        Row::Element(value) => cbor(value),
        Row::Server(value) => cbor(value),
        Row::Protection(value) => cbor(value),
        Row::Inbox(value) => cbor(value),
        Row::ApiKey(value) => cbor(value),
        Row::Job(value) => cbor(value),
        Row::Outbox(value) => cbor(value),
        Row::Lane(value) => cbor(value),
        Row::At(number) => number.to_be_bytes().to_vec(),
        Row::Set(value) => cbor(value),
        Row::Group(value) => cbor(value),
        Row::Timer(value) => cbor(value),
        Row::Following(value) => cbor(value),
        Row::Permission(value) => cbor(value),
        Row::Visitor(value) => cbor(value),
        Row::Ticket(value) => cbor(value),
        Row::Transfer(value) => cbor(value),
        Row::Piece(text) => text.as_bytes().to_vec(),
        Row::Moved(value) => cbor(value),
        Row::Held(value) => cbor(value),
        Row::Presence(value) => cbor(value),
        Row::Guest(value) => cbor(value),
        Row::CachedAccount(value) => cbor(value),
        Row::CachedPlace(value) => cbor(value),
        Row::CachedValue(value) => cbor(value),
    };
    let sum = checksum(table, key, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn cbor(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    // Fields by their place: a field is only ever added at the end, with a default.
    let mut serializer = serde_cbor::Serializer::new(&mut bytes).packed_format();
    // Writing to memory does not fail, and our types have no maps with odd keys.
    value.serialize(&mut serializer).ok();
    bytes
}

/// The row that was stored under a key.
pub(super) fn row_from(
    table: &str,
    key: &Key,
    raw_key: &[u8],
    bytes: &[u8],
) -> Result<Row, Damaged> {
    let damaged = || Damaged(format!("{key:?}"));
    let at = bytes.len().checked_sub(CHECKSUM).ok_or_else(damaged)?;
    let (value, sum) = bytes.split_at(at);
    if checksum(table, raw_key, value) != sum {
        return Err(damaged());
    }
    read(key, value).ok_or_else(damaged)
}

fn read(key: &Key, value: &[u8]) -> Option<Row> {
    Some(match key {
        Key::Node => Row::Node(parse(value)?),
        Key::Turn(_) => Row::Turn(parse(value)?),
        Key::Account(_) => Row::Account(parse(value)?),
        Key::Secret(_) => Row::Secret(value.try_into().ok()?),
        Key::World(_) => Row::World(parse(value)?),
        Key::Type(_) => Row::Type(parse(value)?),
        Key::Element(..) => Row::Element(parse(value)?),
        Key::Server(_) => Row::Server(parse(value)?),
        Key::Protection(..) => Row::Protection(parse(value)?),
        Key::Inbox(_) => Row::Inbox(parse(value)?),
        Key::ApiKey(_) => Row::ApiKey(parse(value)?),
        Key::Job(_) => Row::Job(parse(value)?),
        Key::Outbox(_) => Row::Outbox(parse(value)?),
        Key::Lane(_) => Row::Lane(parse(value)?),
        Key::FeedAt(..)
        | Key::ElementOf(..)
        | Key::ByValue(..)
        | Key::Member(..)
        | Key::MemberOf(..)
        | Key::SetChild(..)
        | Key::SetParent(..)
        | Key::SetLink(..)
        | Key::SetLinked(..)
        | Key::GroupMember(..)
        | Key::TimerOf(..)
        | Key::TypeHolder(..)
        | Key::TypeChild(..) => Row::At(u64::from_be_bytes(value.try_into().ok()?)),
        Key::Set(..) => Row::Set(parse(value)?),
        Key::Group(_) => Row::Group(parse(value)?),
        Key::Timer(..) => Row::Timer(parse(value)?),
        Key::Following(..) => Row::Following(parse(value)?),
        Key::Permission(..) => Row::Permission(parse(value)?),
        Key::Visitor(_) => Row::Visitor(parse(value)?),
        Key::Ticket(_) => Row::Ticket(parse(value)?),
        Key::Transfer(_) => Row::Transfer(parse(value)?),
        Key::Piece(..) => Row::Piece(Arc::new(std::str::from_utf8(value).ok()?.to_owned())),
        Key::Moved(_) => Row::Moved(parse(value)?),
        Key::Held(..) => Row::Held(parse(value)?),
        Key::Presence(_) => Row::Presence(parse(value)?),
        Key::Guest(_) => Row::Guest(parse(value)?),
        Key::CachedAccount(_) => Row::CachedAccount(parse(value)?),
        Key::CachedPlace(..) => Row::CachedPlace(*parse(value)?),
        Key::CachedValue(..) => Row::CachedValue(parse(value)?),
        Key::AccountName(_)
        | Key::WorldName(..)
        | Key::TypeName(..)
        | Key::ElementName(..)
        | Key::ServerName(_)
        | Key::GroupName(..)
        | Key::Idempotency(_)
        | Key::VisitorName(_)
        | Key::ElementHolder(..)
        | Key::CachedAccountName(..) => Row::Id(value.try_into().ok()?),
    })
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> Option<Arc<T>> {
    serde_cbor::from_slice(value).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AccountId, ElementId, LogId, ServerId, WorldId};
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = Key> {
        let id = any::<[u8; 16]>();
        prop_oneof![
            Just(Key::Node),
            any::<u64>().prop_map(Key::Turn),
            "[a-z]{0,6}".prop_map(Key::AccountName),
            (id, "[a-z]{0,6}")
                .prop_map(|(id, name)| Key::WorldName(AccountId::from_bytes(id), name)),
            (id, id)
                .prop_map(|(a, b)| Key::Element(WorldId::from_bytes(a), ElementId::from_bytes(b))),
            (id, any::<u64>()).prop_map(|(id, seq)| Key::FeedAt(LogId::from_bytes(id), seq)),
            (id, "[a-z]{0,6}")
                .prop_map(|(id, list)| Key::Protection(ServerId::from_bytes(id), list)),
            (id, id, prop::option::of(id), "[a-z]{0,6}").prop_map(
                |(server, element, reader, name)| {
                    Key::CachedValue(
                        ServerId::from_bytes(server),
                        ElementId::from_bytes(element),
                        reader.map(AccountId::from_bytes),
                        name,
                    )
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_bytes_and_come_back(a in any_key(), b in any_key()) {
            prop_assert_eq!(a.cmp(&b), key_bytes(&a).cmp(&key_bytes(&b)));
            prop_assert_eq!(key_from(&key_bytes(&a)), Some(a));
        }
    }

    #[test]
    fn a_row_with_any_bit_flipped_or_under_another_key_is_damaged() {
        let key = Key::FeedAt(LogId::from_bytes([1; 16]), 5);
        let raw = key_bytes(&key);
        let bytes = row_bytes("home", &raw, &Row::At(77));

        assert_eq!(row_from("home", &key, &raw, &bytes), Ok(Row::At(77)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(row_from("home", &key, &raw, &flipped).is_err(), "bit {bit}");
        }
        let other = Key::FeedAt(LogId::from_bytes([1; 16]), 6);
        assert!(row_from("home", &other, &key_bytes(&other), &bytes).is_err());
        assert!(row_from("cache", &key, &raw, &bytes).is_err());
    }
}
