//! `bootstrap.toml`: peers that a new node dials first.

use serde::Deserialize;
use toml_edit::DocumentMut;

use super::SettingsMistake;

/// The network's name where the file gives none.
pub const NETWORK_DEFAULT: &str = "home";

/// What is wrong with a bootstrap file.
pub type BootstrapMistake = SettingsMistake;

/// A first peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootstrapPeer {
    /// What we call it, if the file says.
    pub name: Option<String>,
    /// Its peer id, as text.
    pub peer_id: String,
    /// Multiaddrs without the peer id.
    pub addresses: Vec<String>,
}

/// The first peers, and the network they are of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// Part of every protocol name, so two networks never mix.
    pub network: String,
    /// Whom to dial.
    pub peers: Vec<BootstrapPeer>,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { network: NETWORK_DEFAULT.to_owned(), peers: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    peers: Vec<toml::Spanned<String>>,
    network: Option<Network>,
    #[serde(default)]
    peer: Vec<Peer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    name: toml::Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    name: Option<String>,
    peer_id: String,
    #[serde(default)]
    addresses: Vec<String>,
    /// Whether it may carry others' traffic. Read, and without effect until relays are built.
    #[serde(default, rename = "relay")]
    _relay: bool,
}

impl Bootstrap {
    /// Reads a bootstrap file. Whether the multiaddrs are any is for the network room to say.
    ///
    /// # Errors
    /// Says where the first mistake is.
    pub fn parse(text: &str) -> Result<Self, BootstrapMistake> {
        let file: File = toml::from_str(text).map_err(|error| SettingsMistake::of(&error, text))?;
        let mut bootstrap = Self::default();
        if let Some(network) = file.network {
            let span = network.name.span();
            let name = network.name.into_inner();
            if super::Name::new(&name).is_err() {
                let says = format!("'{name}' is no network name: letters, digits, - and _ only");
                return Err(at(text, span.start, says));
            }
            bootstrap.network = name;
        }
        for line in file.peers {
            let span = line.span();
            let line = line.into_inner();
            let peer = split_peer(&line).ok_or_else(|| {
                at(text, span.start, format!("'{line}' does not end in /p2p/PEER_ID"))
            })?;
            bootstrap.add(peer);
        }
        for peer in file.peer {
            bootstrap.add(BootstrapPeer {
                name: peer.name,
                peer_id: peer.peer_id,
                addresses: peer.addresses,
            });
        }
        Ok(bootstrap)
    }

    /// Adds a peer, or more addresses of one that is there.
    pub fn add(&mut self, peer: BootstrapPeer) {
        match self.peers.iter_mut().find(|held| held.peer_id == peer.peer_id) {
            Some(held) => {
                held.name = held.name.take().or(peer.name);
                for address in peer.addresses {
                    if !held.addresses.contains(&address) {
                        held.addresses.push(address);
                    }
                }
            }
            None => self.peers.push(peer),
        }
    }

    /// Adds a multiaddr to the text of a bootstrap file, keeping comments and order. The same text
    /// where it is there already.
    ///
    /// # Errors
    /// The text is no bootstrap file.
    pub fn edit_in(text: &str, multiaddr: &str) -> Result<String, BootstrapMistake> {
        Self::parse(text)?;
        let mut document: DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| at(text, 0, error.message().to_owned()))?;
        let peers =
            document.entry("peers").or_insert_with(|| toml_edit::value(toml_edit::Array::new()));
        if let Some(peers) = peers.as_array_mut()
            && !peers.iter().any(|held| held.as_str() == Some(multiaddr))
        {
            peers.push(multiaddr);
        }
        Ok(document.to_string())
    }

    /// Removes every line that names a peer id from the text of a bootstrap file. None where there
    /// was none.
    ///
    /// # Errors
    /// The text is no bootstrap file.
    pub fn edit_out(text: &str, peer_id: &str) -> Result<Option<String>, BootstrapMistake> {
        Self::parse(text)?;
        let mut document: DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| at(text, 0, error.message().to_owned()))?;
        let mut removed = false;
        if let Some(peers) = document.get_mut("peers").and_then(|item| item.as_array_mut()) {
            let before = peers.len();
            peers.retain(|held| {
                held.as_str().and_then(split_peer).is_none_or(|peer| peer.peer_id != peer_id)
            });
            removed |= peers.len() != before;
        }
        if let Some(tables) =
            document.get_mut("peer").and_then(|item| item.as_array_of_tables_mut())
        {
            let before = tables.len();
            tables.retain(|table| table.get("peer_id").and_then(|id| id.as_str()) != Some(peer_id));
            removed |= tables.len() != before;
        }
        Ok(removed.then(|| document.to_string()))
    }
}

fn at(text: &str, offset: usize, says: String) -> BootstrapMistake {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    SettingsMistake { line, column, says }
}

/// Splits `/ip4/.../p2p/ID` into the address and the peer id.
fn split_peer(multiaddr: &str) -> Option<BootstrapPeer> {
    let (address, peer_id) = multiaddr.rsplit_once("/p2p/")?;
    if peer_id.is_empty() || peer_id.contains('/') || address.is_empty() {
        return None;
    }
    Some(BootstrapPeer {
        name: None,
        peer_id: peer_id.to_owned(),
        addresses: vec![address.to_owned()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# my friends
peers = ["/ip4/10.0.0.1/udp/4750/quic-v1/p2p/12D3A"] # the attic

[network]
name = "lan"

[[peer]]
name = "attic"
peer_id = "12D3A"
addresses = ["/ip4/10.0.0.1/tcp/4750"]
"#;

    #[test]
    fn both_forms_of_one_peer_become_one() {
        let bootstrap = Bootstrap::parse(FILE).unwrap();

        assert_eq!(bootstrap.network, "lan");
        assert_eq!(bootstrap.peers.len(), 1);
        assert_eq!(bootstrap.peers[0].name.as_deref(), Some("attic"));
        assert_eq!(bootstrap.peers[0].addresses.len(), 2);
    }

    #[test]
    fn edits_keep_comments_and_order() {
        let edited = Bootstrap::edit_in(FILE, "/ip4/10.0.0.2/tcp/1/p2p/12D3B").unwrap();

        assert!(edited.contains("# my friends") && edited.contains("# the attic"));
        assert_eq!(Bootstrap::parse(&edited).unwrap().peers.len(), 2);
        let back = Bootstrap::edit_out(&edited, "12D3B").unwrap().unwrap();
        assert_eq!(Bootstrap::parse(&back), Bootstrap::parse(FILE));
        assert_eq!(Bootstrap::edit_out(&back, "12D3B"), Ok(None));
    }

    #[test]
    fn a_mistake_is_shown_with_its_place() {
        let table = [
            ("peers = [\"/ip4/10.0.0.1/tcp/1\"]", (1, 10)),
            ("\npeer = 3", (2, 8)),
            ("[network]\nname = \"a/b\"", (2, 8)),
        ];
        for (text, place) in table {
            let mistake = Bootstrap::parse(text).unwrap_err();
            assert_eq!((mistake.line, mistake.column), place, "{text}: {mistake}");
        }
    }
}
