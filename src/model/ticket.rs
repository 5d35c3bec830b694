//! Tickets: joining and being approved in one. What is stored of one, and what is given away.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{EntryId, Name, ServerId, Timestamp};

/// What every ticket begins with, so that it is known when it is found somewhere.
const PREFIX: &str = "fht_";
/// Characters of a ticket at most.
const TEXT_MAX: usize = 4_096;
/// The form of tickets that this program writes.
const VERSION: u8 = 1;

/// A ticket that was given away. What is stored of its secret is a hash.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Which.
    pub id: EntryId,
    /// blake3 of its secret.
    pub hash: [u8; 32],
    /// The list on which it gives a place.
    pub list: Option<Name>,
    /// The world to which it leads: `ACCOUNT/WORLD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<String>,
    /// Until when it can be used.
    pub ends_at: Timestamp,
    /// Since when it is there.
    pub added_at: Timestamp,
    /// Who used it, and when.
    pub used: Option<(ServerId, Timestamp)>,
}

/// What a ticket says to the one who joins with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TicketText {
    /// Its form.
    version: u8,
    /// The network.
    pub network: String,
    /// What the node that made it calls itself.
    pub name: String,
    /// That node's key (ed25519).
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// Multiaddrs at which it may be reached.
    pub addresses: Vec<String>,
    /// Proves it.
    pub secret: ByteBuf,
    /// The list on which it gives a place.
    pub list: Option<String>,
    /// The world of that node to which it leads: `ACCOUNT/WORLD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<String>,
    /// Until when it can be used, in milliseconds since 1970.
    pub ends_at_ms: u64,
}

/// The text is no ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TicketMistake {
    /// It does not begin as tickets do.
    #[error("a ticket begins with {PREFIX}")]
    NoTicket,
    /// A part of it is missing or altered.
    #[error("the ticket is not whole: copy all of it")]
    Broken,
    /// A later version wrote it.
    #[error("the ticket is of a later version of this program")]
    Later,
}

impl TicketText {
    /// A ticket of this version.
    pub fn new(network: String, name: String, key: [u8; 32], addresses: Vec<String>) -> Self {
        Self {
            version: VERSION,
            network,
            name,
            key: key.to_vec(),
            addresses,
            secret: ByteBuf::new(),
            list: None,
            world: None,
            ends_at_ms: 0,
        }
    }

    /// Whether a text is meant as a ticket.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The ticket as text, with a checksum.
    pub fn write(&self) -> String {
        let mut bytes = serde_cbor::ser::to_vec_packed(self).unwrap_or_default();
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..4]);
        format!("{PREFIX}{}", bs58::encode(bytes).into_string())
    }

    /// Reads a ticket.
    ///
    /// # Errors
    /// It is none, or not whole.
    pub fn read(text: &str) -> Result<Self, TicketMistake> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TicketMistake::NoTicket)?;
        if body.len() > TEXT_MAX {
            return Err(TicketMistake::Broken);
        }
        let bytes = bs58::decode(body).into_vec().map_err(|_| TicketMistake::Broken)?;
        let at = bytes.len().checked_sub(4).ok_or(TicketMistake::Broken)?;
        let (said, sum) = bytes.split_at(at);
        if blake3::hash(said).as_bytes()[..4] != *sum {
            return Err(TicketMistake::Broken);
        }
        let ticket: Self = serde_cbor::from_slice(said).map_err(|_| TicketMistake::Broken)?;
        if ticket.version != VERSION {
            return Err(TicketMistake::Later);
        }
        Ok(ticket)
    }

    /// The key of the node that made it.
    pub fn peer_key(&self) -> Option<[u8; 32]> {
        self.key.as_slice().try_into().ok()
    }
}

/// What of a ticket's secret is stored.
pub fn hash_of_ticket(secret: &[u8]) -> [u8; 32] {
    blake3::derive_key("freehold 1 ticket", secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_altered_ones_are_not() {
        let mut ticket = TicketText::new(
            "home".to_owned(),
            "attic".to_owned(),
            [7; 32],
            vec!["/ip4/192.168.1.20/udp/4750/quic-v1".to_owned()],
        );
        ticket.secret = ByteBuf::from(vec![9; 16]);
        ticket.list = Some("family".to_owned());
        let text = ticket.write();

        assert_eq!(TicketText::read(&text), Ok(ticket));
        assert_eq!(TicketText::read("hello"), Err(TicketMistake::NoTicket));
        for at in PREFIX.len()..text.len() {
            let mut altered = text.clone();
            let other = if text.as_bytes()[at] == b'x' { "y" } else { "x" };
            altered.replace_range(at..=at, other);
            assert!(TicketText::read(&altered).is_err(), "{at}");
            assert!(TicketText::read(&text[..at]).is_err(), "{at}");
        }
    }
}
