//! Ids: who and what. All are UUIDs (RFC 9562).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not a UUID.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not an id")]
pub struct ParseIdError(String);

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes, most significant first.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Makes a time-ordered id (version 7) from a time and 10 random bytes.
            pub fn at(now: super::Timestamp, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.unix_ms(), &random).into_uuid())
            }

            /// Makes the id that is a hash (version 8) of what the first 16 bytes of `hash` stand for.
            pub fn of_hash(hash: &[u8; 32]) -> Self {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(&hash[..16]);
                Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let uuid = Uuid::try_parse(text).map_err(|_| ParseIdError(text.to_owned()))?;
                Ok(Self(uuid))
            }
        }
    )*};
}

id! {
    /// A server: the hash of its inception.
    ServerId;
    /// An account: the hash of its inception.
    AccountId;
    /// A world.
    WorldId;
    /// A type.
    TypeId;
    /// An element.
    ElementId;
    /// A group of accounts.
    GroupId;
    /// A timer.
    TimerId;
    /// A call, seen as something that can be asked about.
    JobId;
    /// A feed's log: new at each incarnation.
    LogId;
    /// An entry of the inbox.
    EntryId;
    /// A key for programs.
    KeyId;
    /// Things on their way to another server.
    TransferId;
    /// One life of a node's store; new at creation and after a restore.
    Incarnation;
}

impl LogId {
    /// Names the log of one world for one audience within one incarnation.
    pub fn of(incarnation: Incarnation, world: WorldId, audience: &super::Audience) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("freehold 1 feed log");
        hash.update(incarnation.as_bytes());
        hash.update(world.as_bytes());
        hash.update(audience.label().as_bytes());
        Self::of_hash(hash.finalize().as_bytes())
    }
}

impl EntryId {
    /// The inbox's entry for a question of a job at a place.
    pub fn of_question(job: JobId, place: &str) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("freehold 1 question");
        hash.update(job.as_bytes()).update(place.as_bytes());
        Self::of_hash(hash.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Audience, Timestamp};

    #[test]
    fn ids_made_later_sort_later_and_keep_their_version() {
        let early = ElementId::at(Timestamp::from_ms(1_000), [0xff; 10]);
        let late = ElementId::at(Timestamp::from_ms(1_001), [0; 10]);

        assert!(early < late);
        assert_eq!(early.to_string().as_bytes()[14], b'7');
        assert_eq!(early.to_string().parse::<ElementId>().unwrap(), early);
    }

    #[test]
    fn another_incarnation_or_audience_has_another_log() {
        let world = WorldId::from_bytes([7; 16]);
        let first = Incarnation::from_bytes([1; 16]);
        let second = Incarnation::from_bytes([2; 16]);

        let home = LogId::of(first, world, &Audience::Home);

        assert_ne!(home, LogId::of(second, world, &Audience::Home));
        assert_ne!(home, LogId::of(first, world, &Audience::Public));
    }
}
