//! What the system itself has: types whose elements stand for accounts, servers, groups and worlds,
//! so that their events are heard and their attributes are read like any other's. Their ids are
//! constant.

use uuid::Uuid;

use super::{AccountId, ElementId, GroupId, ServerId, TypeId, WorldId};

/// The namespace of system types' ids (RFC 9562, version 5 of their names).
const NAMESPACE: Uuid = Uuid::from_bytes(*b"freehold-type-01");

/// What a system element stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SystemType {
    /// An account of this server.
    Account,
    /// This server, or another that was met.
    Server,
    /// A group.
    Group,
    /// A world.
    World,
    /// Somebody in a world.
    Avatar,
}

impl SystemType {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Account, Self::Server, Self::Group, Self::World, Self::Avatar];

    /// The type's name; it belongs to the server's own account.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Server => "server",
            Self::Group => "group",
            Self::World => "world",
            Self::Avatar => "avatar",
        }
    }

    /// The type's constant id.
    pub fn id(self) -> TypeId {
        TypeId::from_bytes(*Uuid::new_v5(&NAMESPACE, self.name().as_bytes()).as_bytes())
    }

    /// The element of this type that stands for the thing with an id.
    pub(super) fn element(self, thing: &[u8; 16]) -> ElementId {
        let namespace = Uuid::from_bytes(*self.id().as_bytes());
        ElementId::from_bytes(*Uuid::new_v5(&namespace, thing).as_bytes())
    }
}

impl AccountId {
    /// A server's own account: it has the server's id.
    pub const fn of_server(server: ServerId) -> Self {
        Self::from_bytes(*server.as_bytes())
    }

    /// The element that stands for the account.
    pub fn element(&self) -> ElementId {
        SystemType::Account.element(self.as_bytes())
    }
}

impl ServerId {
    /// The element that stands for the server.
    pub fn element(&self) -> ElementId {
        SystemType::Server.element(self.as_bytes())
    }

    /// The world in which a server keeps the elements of its accounts, groups and servers.
    pub fn system_world(&self) -> WorldId {
        WorldId::of_hash(&blake3::derive_key("freehold 1 system world", self.as_bytes()))
    }
}

impl GroupId {
    /// The element that stands for the group.
    pub fn element(&self) -> ElementId {
        SystemType::Group.element(self.as_bytes())
    }
}

impl WorldId {
    /// The element that stands for the world. It is in that world.
    pub fn element(&self) -> ElementId {
        SystemType::World.element(self.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_of_one_id_and_another_sort_have_elements_of_their_own() {
        let id = [7; 16];

        let elements = [
            AccountId::from_bytes(id).element(),
            ServerId::from_bytes(id).element(),
            GroupId::from_bytes(id).element(),
            WorldId::from_bytes(id).element(),
        ];

        for (at, element) in elements.iter().enumerate() {
            assert_eq!(elements.iter().position(|other| other == element), Some(at));
        }
    }
}
