//! Where people are: one place for each of ours, and who is a guest here.

use serde::{Deserialize, Serialize};

use super::{AccountId, ElementId, Json, Name, ServerId, Timestamp, TypeId, WorldId};

/// Places that are remembered to go back to.
pub const BACK_MAX: usize = 16;

/// Where an account's avatar is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Whereabouts {
    /// In no world.
    Nowhere,
    /// In a world of this server.
    Here(WorldId),
    /// In a world of another server.
    There {
        /// Which server.
        server: ServerId,
        /// Which world.
        world: WorldId,
        /// The world's name there.
        name: String,
    },
}

/// An account of ours in the worlds: where it is, and where it comes from.
///
/// Invariant: an avatar is in exactly one place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Presence {
    /// Who.
    pub account: AccountId,
    /// Where they are.
    pub place: Whereabouts,
    /// The places from which they came, the last one last.
    pub back: Vec<Whereabouts>,
    /// A visit that was broken off: they go there again when that server is back.
    pub returns: Option<(ServerId, String)>,
    /// Since when they are there.
    pub since: Timestamp,
    /// A server that was asked to let them in, and until when it may say that they are there.
    #[serde(default)]
    pub asked: Option<(ServerId, Timestamp)>,
    /// What their avatar is made from, where it is not the system's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_type: Option<TypeId>,
}

impl Presence {
    /// Somebody who has not been anywhere.
    pub const fn nowhere(account: AccountId, now: Timestamp) -> Self {
        let place = Whereabouts::Nowhere;
        Self {
            account,
            place,
            back: Vec::new(),
            returns: None,
            since: now,
            asked: None,
            of_type: None,
        }
    }

    /// Whether a server may say that they are in a world of its own now.
    pub fn is_expected_at(&self, server: ServerId, now: Timestamp) -> bool {
        let stands = matches!(&self.place, Whereabouts::There { server: at, .. } if *at == server);
        let asked = self.asked.is_some_and(|(at, until)| at == server && now <= until);
        let is_awaited = self.returns.as_ref().is_some_and(|(at, _)| *at == server);
        stands || asked || is_awaited
    }

    /// The same somewhere else, with the way back.
    #[must_use]
    pub fn moved_to(&self, place: Whereabouts, now: Timestamp) -> Self {
        let mut back = self.back.clone();
        let is_noted = back.last() == Some(&self.place);
        if self.place != Whereabouts::Nowhere && self.place != place && !is_noted {
            back.push(self.place.clone());
        }
        if back.len() > BACK_MAX {
            back.remove(0);
        }
        Self { place, back, returns: None, since: now, asked: None, ..self.clone() }
    }

    /// The same after a step back, and where that leads.
    #[must_use]
    pub fn stepped_back(&self, now: Timestamp) -> Self {
        let mut back = self.back.clone();
        let place = back.pop().unwrap_or(Whereabouts::Nowhere);
        Self { place, back, returns: None, since: now, asked: None, ..self.clone() }
    }
}

/// Somebody of another server in a world of ours.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Guest {
    /// Who.
    pub account: AccountId,
    /// Where they are at home.
    pub home: ServerId,
    /// The world that they are in.
    pub world: WorldId,
    /// What they are called here.
    pub name: String,
    /// Since when they are here.
    pub since: Timestamp,
}

/// Something fleeting that somebody in a world does: it is told to who is there, and kept nowhere.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Act {
    /// They say something.
    Say(String),
    /// They are at a place.
    Move(Json),
    /// They have come into the world.
    Come,
    /// They have left it.
    Leave,
}

/// An act with who does it, and where.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Fleeting {
    /// The world.
    pub world: WorldId,
    /// Who.
    pub account: AccountId,
    /// What they are called there: the world's home says so.
    pub name: String,
    /// What they do.
    pub act: Act,
}

impl AccountId {
    /// The element that is the account's avatar, wherever it stands.
    pub fn avatar(&self) -> ElementId {
        super::SystemType::Avatar.element(self.as_bytes())
    }
}

impl Guest {
    /// The name that the avatar's element has in the world.
    pub fn element_name(&self) -> Option<Name> {
        Name::new(&self.name.replace('.', "-")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_from_world_to_world_finds_the_way_back() {
        let at = Timestamp::from_ms;
        let here = |number| Whereabouts::Here(WorldId::from_bytes([number; 16]));
        let mut alice = Presence::nowhere(AccountId::from_bytes([1; 16]), at(0));
        for number in 1..40 {
            alice = alice.moved_to(here(number), at(u64::from(number)));
        }

        assert_eq!(alice.back.len(), BACK_MAX);
        for number in (23..39).rev() {
            alice = alice.stepped_back(at(100));
            assert_eq!(alice.place, here(number));
        }
        assert_eq!(alice.stepped_back(at(101)).place, Whereabouts::Nowhere);
    }
}
