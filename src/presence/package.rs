//! What is sent of things that move: their content, in pieces, under a hash.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{ElementId, Json, TypeId};

/// Things in one transfer at most.
pub const THINGS_MAX: usize = 128;
/// Bytes of one piece at most.
pub const PIECE_BYTES_MAX: usize = 40 * 1024;
/// Bytes of the whole content at most.
const PACKAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One thing as it is sent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Packed {
    /// Which.
    pub element: ElementId,
    /// What it is made from.
    #[serde(rename = "type")]
    pub type_id: TypeId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its values, as far as the receiver may see them.
    pub values: BTreeMap<String, Json>,
    /// The number of its ownership at the receiver.
    pub epoch: u64,
    /// Signed words of earlier moves, oldest first, hex.
    pub chain: Vec<String>,
    /// The giver's signed word for this move, hex.
    pub deed: String,
    /// Whether it defines a set, and its members in order, of those that come along.
    pub members: Option<Vec<ElementId>>,
    /// Sets that are children of its own, of those that come along.
    pub children: Vec<ElementId>,
}

/// The content of a transfer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Package {
    /// The things; the first one is what was named.
    pub things: Vec<Packed>,
}

/// The pieces do not make up what was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PackageMistake {
    /// There is more of it than a transfer may hold.
    #[error("a move holds at most {THINGS_MAX} things and {PACKAGE_BYTES_MAX} bytes")]
    TooLarge,
    /// A thing is there twice, or a set holds what does not come along, or itself.
    #[error("its things and sets do not fit together")]
    Tangled,
    /// A piece is missing or altered.
    #[error("the content is not what was offered")]
    NotWhole,
}

impl Package {
    /// The content in pieces, and its hash.
    ///
    /// # Errors
    /// It is too large.
    pub fn write(&self) -> Result<(Vec<String>, [u8; 32]), PackageMistake> {
        let text = serde_json::to_string(self).unwrap_or_default();
        if text.len() > PACKAGE_BYTES_MAX || self.things.len() > THINGS_MAX {
            return Err(PackageMistake::TooLarge);
        }
        let hash = *blake3::hash(text.as_bytes()).as_bytes();
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let mut at = rest.len().min(PIECE_BYTES_MAX);
            while !rest.is_char_boundary(at) {
                at -= 1;
            }
            let (piece, after) = rest.split_at(at);
            pieces.push(piece.to_owned());
            rest = after;
        }
        Ok((pieces, hash))
    }

    /// Puts the pieces together, and checks them against the hash.
    ///
    /// # Errors
    /// They are not what was offered.
    pub fn read(pieces: &[String], hash: &[u8; 32]) -> Result<Self, PackageMistake> {
        let text = pieces.concat();
        if text.len() > PACKAGE_BYTES_MAX {
            return Err(PackageMistake::TooLarge);
        }
        if blake3::hash(text.as_bytes()).as_bytes() != hash {
            return Err(PackageMistake::NotWhole);
        }
        let package: Self = serde_json::from_str(&text).map_err(|_| PackageMistake::NotWhole)?;
        if package.things.is_empty() || package.things.len() > THINGS_MAX {
            return Err(PackageMistake::TooLarge);
        }
        if !package.is_sound() {
            return Err(PackageMistake::Tangled);
        }
        Ok(package)
    }

    /// Whether each thing is there once, sets hold things that come along, each once, and no set is its
    /// own ancestor.
    fn is_sound(&self) -> bool {
        let things: BTreeSet<ElementId> = self.things.iter().map(|thing| thing.element).collect();
        let once = |ids: &[ElementId]| {
            let all: BTreeSet<&ElementId> = ids.iter().collect();
            all.len() == ids.len() && ids.iter().all(|id| things.contains(id))
        };
        let hold = |thing: &Packed| {
            once(thing.members.as_deref().unwrap_or_default())
                && once(&thing.children)
                && (thing.children.is_empty() || thing.members.is_some())
        };
        things.len() == self.things.len() && self.things.iter().all(hold) && self.has_an_order()
    }

    /// Whether every set can be made after its children: what has none is taken away, until nothing is
    /// left.
    fn has_an_order(&self) -> bool {
        let mut left: BTreeMap<ElementId, &[ElementId]> =
            self.things.iter().map(|thing| (thing.element, thing.children.as_slice())).collect();
        loop {
            let ends: Vec<ElementId> = left
                .iter()
                .filter(|(_, children)| !children.iter().any(|child| left.contains_key(child)))
                .map(|(id, _)| *id)
                .collect();
            if ends.is_empty() {
                return left.is_empty();
            }
            left.retain(|id, _| !ends.contains(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(number: u8) -> Packed {
        Packed {
            element: ElementId::from_bytes([number; 16]),
            type_id: TypeId::from_bytes([1; 16]),
            name: Some("l\u{e4}mp".to_owned()),
            values: BTreeMap::from([("text".to_owned(), Json::from("\u{e4}".repeat(1_000)))]),
            epoch: 2,
            chain: Vec::new(),
            deed: String::new(),
            members: None,
            children: Vec::new(),
        }
    }

    #[test]
    fn sets_hold_what_comes_along_once_and_never_themselves() {
        let id = |number: u8| ElementId::from_bytes([number; 16]);
        let set = |number: u8, members: &[u8], children: &[u8]| Packed {
            members: Some(members.iter().copied().map(id).collect()),
            children: children.iter().copied().map(id).collect(),
            ..thing(number)
        };
        let table = [
            (vec![set(1, &[2], &[3]), thing(2), set(3, &[2], &[])], true),
            (vec![set(1, &[2], &[])], false),
            (vec![set(1, &[2, 2], &[]), thing(2)], false),
            (vec![thing(1), thing(1)], false),
            (vec![set(1, &[], &[2]), thing(2), set(3, &[], &[1])], true),
            (vec![set(1, &[], &[1])], false),
            (vec![set(1, &[], &[2]), set(2, &[], &[3]), set(3, &[], &[1])], false),
            (vec![Packed { children: vec![id(2)], ..thing(1) }, thing(2)], false),
        ];
        for (number, (things, want)) in table.into_iter().enumerate() {
            let (pieces, hash) = Package { things }.write().unwrap();

            assert_eq!(Package::read(&pieces, &hash).is_ok(), want, "row {number}");
        }
    }

    #[test]
    fn content_comes_back_from_its_pieces_and_from_no_others() {
        let package = Package { things: (0..100).map(thing).collect() };

        let (pieces, hash) = package.write().unwrap();

        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX));
        assert_eq!(Package::read(&pieces, &hash), Ok(package));
        assert_eq!(Package::read(&pieces[1..], &hash), Err(PackageMistake::NotWhole));
        let too_many = Package { things: vec![thing(1); THINGS_MAX + 1] };
        assert_eq!(too_many.write(), Err(PackageMistake::TooLarge));
    }
}
