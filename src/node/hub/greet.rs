//! Who a connection is to: hellos, records, faults, and when contact ends.

use std::collections::HashMap;

use serde_json::json;
use tracing::{info, warn};

use super::{Hub, HubMessage, Peer, Waiting};
use crate::model::{Code, Json, Problem, ServerId, Snapshot, Try, hex, peer_id_of};
use crate::net::{self, Lost};
use crate::node::clock;
use crate::post::Input as PostInput;
use crate::trust::{CHAIN_MAX, Record, Verified, decode_record};
use crate::wire::{self, Hello, PROTOCOL_VERSION, Request, Response};

/// How long a peer may take to say who it is, in milliseconds.
const HELLO_TIME_MAX_MS: u64 = 10_000;
/// Faults after which a peer is muted for a time.
const FAULTS_MAX: u64 = 100;
/// How long it is muted, in milliseconds.
const MUTED_MS: u64 = 60_000;

impl Hub {
    pub(super) fn connected(&mut self, key: [u8; 32], dialled: bool, address: String) {
        let now = clock::now();
        if self.muted.get(&key).is_some_and(|until| *until > now) {
            self.command(net::Command::Close(key));
            return;
        }
        if let Some(peer) = self.peers.get(&key) {
            // A second connection to the same peer says nothing new, but to whoever waits for it.
            if let Some(server) = peer.server {
                let address = peer.address.clone();
                self.end_joins(key, Ok(server));
                self.post(PostInput::Connected(server, address));
            }
            return;
        }
        let hello_by = now.after_ms(HELLO_TIME_MAX_MS);
        self.peers.insert(
            key,
            Peer { server: None, incarnation: None, hello_by, address, dialled, ping_ms: None },
        );
        if dialled {
            let id = self.next_request;
            self.next_request += 1;
            self.waiting.insert(id, Waiting::Hello);
            let hello = self.hello(&key);
            self.command(net::Command::Send(key, id, Box::new(Request::Hello(Box::new(hello)))));
        }
    }

    pub(super) fn hello(&self, key: &[u8; 32]) -> Hello {
        let known = self.entries.values().find(|entry| entry.key == *key);
        Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: wire::FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
            record: self.ground.record.clone(),
            incarnation: self.ground.incarnation,
            addresses: self.ground.listen.clone(),
            knows: known.map(|entry| entry.incarnation),
            taken: 0,
            earlier: self.ground.earlier.clone(),
            domain: self.ground.domain.clone(),
        }
    }

    pub(super) fn disconnected(&mut self, key: [u8; 32]) {
        let now = clock::now();
        let Some(peer) = self.peers.remove(&key) else { return };
        if let Some(server) = peer.server {
            self.inbound.gone(server);
            self.feeds.contact(now, server, false);
            self.post(PostInput::Disconnected(server));
            self.note(server, |contact| contact.connected = false);
            self.contact_lost(server, false);
        }
        if let Some(pinned) = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key) {
            pinned.connected = false;
            pinned.dialling = false;
            pinned.next_try_at = Some(now.after_ms(250));
        }
        info!(peer = peer_id_of(&key), "disconnected");
    }

    pub(super) fn dial_failed(
        &mut self,
        key: [u8; 32],
        tries: Vec<Try>,
        wrong: bool,
        obtained: Option<[u8; 32]>,
    ) {
        let now = clock::now();
        if let Some(other) = obtained {
            self.look_who_is_there(key, other, &tries);
        }
        let elsewhere =
            |tried: &Try| !self.ground.listen.iter().any(|own| own.starts_with(&tried.address));
        if wrong && key == self.ground.setting.keys.public() && tries.iter().any(elsewhere) {
            self.clone_seen();
        }
        if let Some(pinned) = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key) {
            pinned.failed(now, tries.clone());
        }
        let reason = tries.first().map(|tried| tried.reason.clone()).unwrap_or_default();
        let code = if wrong { Code::WrongPeer } else { Code::PeerUnreachable };
        let shown: Vec<Json> = tries
            .iter()
            .map(|tried| json!({"address": tried.address, "reason": tried.reason}))
            .collect();
        let problem = Problem::new(code, format!("the peer could not be reached: {reason}"))
            .with("tries", shown);
        self.end_joins(key, Err(problem));
        let servers: Vec<ServerId> =
            self.keys.iter().filter(|(_, held)| **held == key).map(|(server, _)| *server).collect();
        for server in servers {
            self.post(PostInput::DialFailed(server, tries.clone()));
            self.note(server, |_| {});
        }
        self.end_meetings(now);
    }

    /// Another key answered where a server was dialled that we know: it may be the same one with a new
    /// key, and then its records say so.
    fn look_who_is_there(&mut self, key: [u8; 32], other: [u8; 32], tries: &[Try]) {
        let is_known = self.entries.values().any(|entry| entry.key == key)
            || self.ground.pinned.iter().any(|pinned| pinned.key == key);
        if is_known
            && other != self.ground.setting.keys.public()
            && !self.peers.contains_key(&other)
        {
            let addresses = tries
                .iter()
                .map(|tried| tried.address.split("/p2p/").next().unwrap_or_default().to_owned());
            self.command(net::Command::Dial(other, addresses.collect()));
        }
    }

    /// Checks who a peer says it is.
    pub(super) fn meet(&mut self, key: [u8; 32], hello: &Hello) -> Result<ServerId, Problem> {
        let refused = |says: &str| Problem::new(Code::Refused, says);
        if hello.version_min > PROTOCOL_VERSION || hello.version_max < PROTOCOL_VERSION {
            let says = format!("this version speaks the exchange {PROTOCOL_VERSION}");
            return Err(Problem::new(Code::WrongNetwork, says));
        }
        let said = decode_record(&hello.record).ok().and_then(|record| record.server_id());
        let known = said.and_then(|server| self.entries.get(&server));
        let held = known.and_then(|entry| decode_record(&entry.record).ok());
        let verified = Verified::by_chain(&hello.earlier, &hello.record, held.as_ref());
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let kind = if held.is_some() { "old_record" } else { "bad_record" };
                self.fault(key, kind);
                return Err(refused(&error.to_string()));
            }
        };
        let record = verified.record();
        let Some(server) = record.server_id().filter(|_| record.key == key) else {
            self.fault(key, "bad_record");
            return Err(refused("the record is of another key than the connection"));
        };
        if server == self.ground.setting.us {
            self.clone_seen();
            return Err(refused("that is this server itself"));
        }
        Ok(server)
    }

    pub(super) fn clone_seen(&self) {
        warn!("another node has our key: a home that was copied must not be started twice");
    }

    /// A peer is who it says: its entry is stored, and what waits for it goes out.
    pub(super) fn met(&mut self, key: [u8; 32], server: ServerId, address: &str, hello: &Hello) {
        let now = clock::now();
        let before = self.entries.get(&server).map(|entry| entry.key);
        let signers = signers(hello);
        let was = |key: &[u8; 32]| Some(*key) == before || signers.contains(key);
        for pinned in self.ground.pinned.iter_mut().filter(|pinned| was(&pinned.key)) {
            // It may have a new key: that is the peer which is redialled from now on.
            pinned.key = key;
        }
        self.keys.insert(server, key);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.server = Some(server);
            peer.incarnation = Some(hello.incarnation);
        }
        let called = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key).map(|pinned| {
            pinned.connected = true;
            pinned.dialling = false;
            pinned.failures = 0;
            pinned.met = true;
            pinned.name.clone()
        });
        let pinned = called.is_some();
        let dialled = self.peers.get(&key).is_some_and(|peer| peer.dialled);
        let own = hello
            .addresses
            .iter()
            .filter_map(|address| net::split_multiaddr(address))
            .map(|(address, _)| address);
        let address =
            if dialled { Some(address.to_owned()) } else { reachable(own.collect(), address) };
        let name =
            decode_record(&hello.record).map(|record| record.name.to_string()).unwrap_or_default();
        let args = json!({
            "server": server.to_string(),
            "record": hex(&hello.record.0),
            "name": name,
            "called": called.flatten(),
            "address": address,
            "incarnation": hello.incarnation.to_string(),
            "domain": hello.domain,
            "earlier": hello.earlier.iter().map(|record| hex(&record.0)).collect::<Vec<_>>(),
        });
        let asker = self.ground.asker.clone();
        let hub = self.ground.hub.clone();
        tokio::spawn(async move {
            match asker.call_as_node("server.met", args).await {
                Ok(_) => {
                    hub.send(HubMessage::Met(server)).await.ok();
                }
                Err(problem) => {
                    warn!(says = problem.says, "a server that was met could not be stored")
                }
            }
        });
        self.note(server, |contact| {
            contact.connected = true;
            contact.last_at = Some(now);
        });
        if pinned {
            self.command(net::Command::Reserve(key));
            self.post(PostInput::Pinned(server));
        }
        info!(peer = peer_id_of(&key), name, "connected");
    }

    pub(super) fn introduced(&mut self, key: [u8; 32], server: ServerId) {
        let now = clock::now();
        self.contact_made(server);
        self.end_joins(key, Ok(server));
        self.protected(server);
        self.post(PostInput::Connected(server, hello_address(&self.peers, &key)));
        self.feeds.contact(now, server, true);
        self.note(server, |contact| contact.connected = true);
    }

    pub(super) fn stored_entry(&mut self, server: ServerId) {
        if let Ok(view) = self.ground.readers.store.view()
            && let Ok(Some(entry)) = (&view as &dyn Snapshot).server(server)
        {
            let key = entry.key;
            for pinned in self.ground.pinned.iter_mut().filter(|pinned| pinned.key == key) {
                pinned.server = Some(server);
            }
            self.learn(entry);
        }
        self.end_meetings(clock::now());
    }

    pub(super) fn answered_hello(&mut self, key: [u8; 32], response: Response) {
        match response {
            Response::Hello(hello) => match self.meet(key, &hello) {
                Ok(server) => {
                    self.met(key, server, &hello_address(&self.peers, &key), &hello);
                    self.introduced(key, server);
                }
                Err(problem) => {
                    self.end_joins(key, Err(problem));
                    self.command(net::Command::Close(key));
                }
            },
            Response::Refused(problem) => {
                self.end_joins(key, Err(problem));
                self.command(net::Command::Close(key));
            }
            Response::Batch(_) | Response::Unknown(_) => self.fault(key, "malformed"),
        }
    }

    pub(super) fn no_hello(&mut self, key: [u8; 32], lost: &Lost) {
        let problem = match lost {
            Lost::WrongNetwork => Problem::new(
                Code::WrongNetwork,
                "the peer is of another network, or of another version",
            )
            .hint("compare the name under [network] in both bootstrap.toml"),
            Lost::Connection | Lost::Fault(_) => {
                Problem::new(Code::PeerUnreachable, "the peer did not say who it is")
            }
        };
        let now = clock::now();
        let tries =
            vec![Try { address: hello_address(&self.peers, &key), reason: problem.says.clone() }];
        if let Some(pinned) = self.ground.pinned.iter_mut().find(|pinned| pinned.key == key) {
            pinned.failed(now, tries);
        }
        self.end_joins(key, Err(problem));
        self.peers.remove(&key);
        self.command(net::Command::Close(key));
    }

    /// Counts a fault of a peer, and mutes one that makes too many.
    pub(super) fn fault(&mut self, key: [u8; 32], kind: &str) {
        let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) else { return };
        let mut total = 0;
        self.note(server, |contact| {
            *contact.faults.entry(kind.to_owned()).or_default() += 1;
            total = contact.faults.values().sum();
        });
        if total > 0 && total % FAULTS_MAX == 0 {
            self.muted.insert(key, clock::now().after_ms(MUTED_MS));
            self.command(net::Command::Close(key));
        }
    }
}

/// The keys that signed records of a peer that was verified: each has said itself whose it is. A key that
/// is only named in a record has said nothing.
fn signers(hello: &Hello) -> Vec<[u8; 32]> {
    let id = |record: &Record| record.server_id();
    let records = hello.earlier.iter().take(CHAIN_MAX).chain([&hello.record]);
    let records: Vec<Record> = records.filter_map(|record| decode_record(record).ok()).collect();
    let newest = records.last().and_then(id);
    records.iter().filter(|record| id(record) == newest).map(|record| record.signer).collect()
}

/// The address of a peer's connection.
pub(super) fn hello_address(peers: &HashMap<[u8; 32], Peer>, key: &[u8; 32]) -> String {
    peers.get(key).map(|peer| peer.address.clone()).unwrap_or_default()
}

/// Of the addresses that a peer says it listens on, one at which it can be reached from here: one
/// with the address that its connection comes from.
fn reachable(own: Vec<String>, seen: &str) -> Option<String> {
    let ip = |address: &str| address.split('/').take(3).collect::<Vec<_>>().join("/");
    own.iter().find(|address| ip(address) == ip(seen)).or_else(|| own.first()).cloned()
}
