//! Names are labels; ids are truth.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::key_of_peer_id;

/// Letters, digits, `-` and `_` in a name.
const CHARS_MAX: usize = 64;

/// A checked name: 1 to 64 letters, digits, `-`, `_` in NFC, not of the form of an id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The text is no name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameMistake {
    /// Nothing, or more than 64 characters.
    #[error("a name has 1 to {CHARS_MAX} characters")]
    Length,
    /// Something that is no letter, digit, `-` or `_`.
    #[error("a name has no '{0}', only letters, digits, - and _")]
    Character(char),
    /// It looks like an id.
    #[error("'{0}' has the form of an id")]
    LooksLikeId(String),
}

impl Name {
    /// Checks and normalizes a name.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameMistake> {
        let text: String = if text.is_ascii() { text.to_owned() } else { text.nfc().collect() };
        if text.is_empty() || text.chars().count() > CHARS_MAX {
            return Err(NameMistake::Length);
        }
        if let Some(other) = text.chars().find(|c| !c.is_alphanumeric() && !matches!(c, '-' | '_'))
        {
            return Err(NameMistake::Character(other));
        }
        if uuid::Uuid::try_parse(&text).is_ok() {
            return Err(NameMistake::LooksLikeId(text));
        }
        Ok(Self(text))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the name looks like: two that a person may take for each other look the same (UTS 39).
    pub fn looks(&self) -> String {
        let skeleton: String = unicode_security::skeleton(&key_of(&self.0)).collect();
        // Without case, a capital I and a small l are told apart by nobody.
        key_of(&skeleton).replace('l', "i")
    }

    /// Whether its letters are of scripts that nobody writes together (UTS 39).
    pub fn is_mixed(&self) -> bool {
        use unicode_security::MixedScript;
        !self.0.as_str().is_single_script()
    }

    /// What names are compared by: NFC without case.
    pub fn key(&self) -> String {
        key_of(&self.0)
    }
}

/// What any text is compared with names by: NFC without case.
pub fn key_of(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().flat_map(char::to_lowercase).collect()
}

impl TryFrom<String> for Name {
    type Error = NameMistake;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A name as somebody wrote it: `lamp`, `alice`, `alice/garden`, `alice@attic/garden/lamp`,
/// `@attic`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// What stands after `@`: whose it is, as we call them.
    pub server: Option<String>,
    /// The words between the slashes; the first is the account's where there are several or a
    /// server is named.
    pub words: Vec<String>,
}

/// The text names no place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "'{0}' is no name: expected NAME, ACCOUNT/WORLD, ACCOUNT/WORLD/ELEMENT or ACCOUNT@SERVER/..."
)]
pub struct PlaceMistake(String);

impl Place {
    /// The words a place can have at most: account, world, element.
    const WORDS_MAX: usize = 3;
    /// Bytes of a place's text at most.
    const BYTES_MAX: usize = 512;

    /// Reads a place. Letters are compared without case from here on.
    ///
    /// # Errors
    /// The text has empty or too many parts.
    pub fn parse(text: &str) -> Result<Self, PlaceMistake> {
        let mistake = || PlaceMistake(text.chars().take(80).collect());
        if text.len() > Self::BYTES_MAX {
            return Err(mistake());
        }
        let mut words: Vec<String> = text.split('/').map(key_of).collect();
        let mut server = None;
        if let Some((account, named)) = words[0].split_once('@') {
            // A peer id is none any more in other letters.
            let written = text.split('/').next().and_then(|first| first.split_once('@'));
            let peer_id =
                written.map(|(_, peer_id)| peer_id).filter(|id| key_of_peer_id(id).is_some());
            server = Some(peer_id.unwrap_or(named).to_owned());
            words[0] = account.to_owned();
        }
        if words[0].is_empty() && server.is_some() && words.len() == 1 {
            words.clear();
        }
        let empty = words.iter().any(String::is_empty) || server.as_deref() == Some("");
        if empty || words.len() > Self::WORDS_MAX {
            return Err(mistake());
        }
        Ok(Self { server, words })
    }

    /// The same place as its own home would write it: without the server.
    pub fn at_home(&self) -> String {
        self.words.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_in_one_form() {
        let composed = Name::new("Caf\u{e9}").unwrap();
        let decomposed = Name::new("cafe\u{301}").unwrap();

        assert_eq!(composed.key(), decomposed.key());
    }

    #[test]
    fn names_that_look_alike_look_the_same_and_others_do_not() {
        let looks = |text: &str| Name::new(text).unwrap().looks();

        // A Cyrillic letter among Latin ones, a digit for a letter, a capital for a small one.
        for other in ["\u{430}lice", "a1ice", "aIice", "ALICE"] {
            assert_eq!(looks(other), looks("alice"), "{other}");
        }
        assert_ne!(looks("alice"), looks("bob"));
        assert!(Name::new("\u{430}lice").unwrap().is_mixed());
        assert!(!Name::new("alice").unwrap().is_mixed());
        assert!(!Name::new("\u{430}\u{43b}\u{438}\u{441}\u{430}").unwrap().is_mixed());
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        let id = "01890000-0000-7000-8000-000000000000";
        let table = [
            ("", NameMistake::Length),
            (&"a".repeat(65), NameMistake::Length),
            ("a/b", NameMistake::Character('/')),
            ("a b", NameMistake::Character(' ')),
            (id, NameMistake::LooksLikeId(id.to_owned())),
        ];
        for (text, mistake) in table {
            assert_eq!(Name::new(text), Err(mistake), "{text}");
        }
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        let place = |server: Option<&str>, words: &[&str]| Place {
            server: server.map(str::to_owned),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        let table = [
            ("lamp", Some(place(None, &["lamp"]))),
            ("Alice/Garden/Lamp", Some(place(None, &["alice", "garden", "lamp"]))),
            ("alice@attic", Some(place(Some("attic"), &["alice"]))),
            ("alice@attic/garden/lamp", Some(place(Some("attic"), &["alice", "garden", "lamp"]))),
            ("@attic", Some(place(Some("attic"), &[]))),
            ("a//b", None),
            ("a@", None),
            ("", None),
            ("a/b/c/d", None),
        ];
        for (text, want) in table {
            assert_eq!(Place::parse(text).ok(), want, "{text}");
        }
    }
}
