//! Finding others: first peers, joining, meeting by name, and saying whose home we are.

use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::deliver::offer_until_taken;
use super::{AskReply, Hub, Met};
use crate::model::{
    Code, Json, Key, Name, Problem, Row, ServerId, Snapshot, Timestamp, peer_id_of,
};
use crate::net::{self};
use crate::node::pinned::Pinned;
use crate::post::Input as PostInput;
use crate::turn::Input;

/// Accounts that are provided to the network.
const PROVIDED_MAX: usize = 1_000;

impl Hub {
    pub(super) fn dial(&mut self, server: ServerId) {
        let Some(entry) = self.entries.get(&server).cloned() else {
            self.post(PostInput::DialFailed(server, Vec::new()));
            return;
        };
        let mut addresses = entry.addresses.clone();
        for pinned in &self.ground.pinned {
            if pinned.key == entry.key {
                addresses.extend(pinned.addresses.iter().cloned());
            }
        }
        addresses.dedup();
        self.post(PostInput::Dialling(server, addresses.clone()));
        self.command(net::Command::Dial(entry.key, addresses));
    }

    pub(super) fn dial_pinned(&mut self, now: Timestamp) {
        let mut dials = Vec::new();
        let entries = &self.entries;
        let is_known =
            |server: Option<ServerId>| server.is_some_and(|server| entries.contains_key(&server));
        for pinned in &mut self.ground.pinned {
            if pinned.is_due(now) && !(pinned.met && is_known(pinned.server)) {
                pinned.dialling = true;
                dials.push((pinned.key, pinned.addresses.clone()));
            }
        }
        for (key, addresses) in dials {
            self.command(net::Command::Dial(key, addresses));
        }
    }

    pub(super) fn pin(&mut self, pinned: Pinned) {
        if self.ground.pinned.iter().all(|held| held.key != pinned.key) {
            self.ground.pinned.push(pinned);
        }
    }

    pub(super) fn join(&mut self, key: [u8; 32], address: String, reply: Met) {
        if let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) {
            reply.send(Ok(server)).ok();
            return;
        }
        self.joins.push((key, reply));
        self.command(net::Command::Dial(key, vec![address]));
    }

    /// Dials a server that was met, at every address that is known.
    pub(super) fn connect(&mut self, server: ServerId, reply: Met) {
        let Some(key) = self.keys.get(&server).copied() else {
            let problem = Problem::new(Code::NotFound, "the server is not known any more");
            reply.send(Err(problem)).ok();
            return;
        };
        if let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) {
            reply.send(Ok(server)).ok();
            return;
        }
        self.joins.push((key, reply));
        self.dial(server);
    }

    pub(super) fn end_joins(&mut self, key: [u8; 32], result: Result<ServerId, Problem>) {
        let (ended, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.joins).into_iter().partition(|(held, _)| *held == key);
        self.joins = kept;
        for (_, reply) in ended {
            reply.send(result.clone()).ok();
        }
    }

    /// Ends what waits for a server to be met: it is there, or cannot come any more.
    pub(super) fn end_meetings(&mut self, now: Timestamp) {
        if self.meetings.is_empty() {
            return;
        }
        let unmet = self.ground.pinned.iter().any(|pinned| pinned.server.is_none());
        let meetings = std::mem::take(&mut self.meetings);
        let Ok(view) = self.ground.readers.store.view() else { return };
        for meeting in meetings {
            let key = Name::new(&meeting.name).map(|name| name.key()).unwrap_or_default();
            let by_name = (&view as &dyn Snapshot)
                .id_at(Key::ServerName(key))
                .ok()
                .flatten()
                .map(ServerId::from_bytes);
            let by_key = self.entries.values().find(|entry| {
                peer_id_of(&entry.key) == meeting.name || entry.id.to_string() == meeting.name
            });
            let found = by_name.or_else(|| by_key.map(|entry| entry.id));
            let result = match found {
                Some(server) => Ok(json!({"server": server})),
                None if unmet && meeting.deadline_at > now => {
                    self.meetings.push(meeting);
                    continue;
                }
                None => Err(self.never_met(&meeting.name, unmet)),
            };
            self.answer(meeting.token, result);
        }
    }

    pub(super) fn never_met(&self, name: &str, unmet: bool) -> Problem {
        if unmet {
            let tries: Vec<Json> = self
                .ground
                .pinned
                .iter()
                .filter(|pinned| pinned.server.is_none())
                .flat_map(|pinned| &pinned.tries)
                .map(|tried| json!({"address": tried.address, "reason": tried.reason}))
                .collect();
            return Problem::new(
                Code::PeerUnreachable,
                format!(
                    "no server called '{name}' was met, and not every first peer could be reached"
                ),
            )
            .hint("see who was met with: freehold server ls")
            .with("tries", tries);
        }
        Problem::new(Code::NotFound, format!("no server called '{name}' was met")).hint(
            "see who was met with: freehold server ls; meet one with: freehold join MULTIADDR",
        )
    }

    pub(super) fn found(&mut self, id: u64, keys: &[[u8; 32]]) {
        let Some(token) = self.finding.remove(&id) else { return };
        let us = self.ground.setting.keys.public();
        let Some(key) = keys.iter().find(|key| **key != us).copied() else {
            let problem = Problem::new(
                Code::NotFound,
                "nobody in the network says it is the home of this account",
            )
            .hint("is its home running, and has it something public?");
            self.answer(token, Err(problem));
            return;
        };
        if let Some(server) = self.peers.get(&key).and_then(|peer| peer.server) {
            self.answer(token, Ok(json!({"server": server})));
            return;
        }
        let (reply, met) = oneshot::channel();
        self.join(key, String::new(), reply);
        let asker = self.ground.asker.clone();
        let reply = self.asks.remove(&token);
        let engine = self.ground.engine.clone();
        tokio::spawn(async move {
            let waited = tokio::time::timeout(Duration::from_secs(15), met).await;
            let met = waited.ok().and_then(Result::ok);
            let result = match met {
                Some(Ok(server)) => {
                    asker.wait_for_entry(server).await;
                    Ok(json!({"server": server}))
                }
                Some(Err(problem)) => Err(problem),
                None => Err(Problem::new(
                    Code::PeerUnreachable,
                    "the account's home could not be reached",
                )),
            };
            match reply {
                Some(AskReply::Caller(reply)) => {
                    reply.send(result).ok();
                }
                Some(AskReply::Job(job, need)) => {
                    let input =
                        Input::Answered { job, place: need.place, question: need.question, result };
                    offer_until_taken(engine, input).await;
                }
                Some(AskReply::Pull(..)) | None => {}
            }
        });
    }

    /// Says in the network whose home we are: of those who have something public.
    pub(super) fn provide(&mut self) {
        let Ok(view) = self.ground.readers.store.view() else { return };
        let (none, all) = (
            crate::model::TypeId::from_bytes([0; 16]),
            crate::model::TypeId::from_bytes([0xff; 16]),
        );
        let mut owners = std::collections::BTreeSet::new();
        for (_, row) in view.rows(&Key::Type(none), &Key::Type(all), 10_000).unwrap_or_default() {
            let Row::Type(held) = row else { continue };
            let public = crate::model::Level::Public;
            let shown =
                held.definition.attributes.values().any(|attribute| attribute.read == public)
                    || held.definition.actions.values().any(|action| action.level == public);
            if shown && owners.len() < PROVIDED_MAX {
                owners.insert(held.owner);
            }
        }
        for owner in owners {
            self.command(net::Command::Provide(owner.as_bytes().to_vec()));
        }
        let us = self.ground.setting.us.as_bytes().to_vec();
        self.command(net::Command::PutRecord(us, self.ground.record.0.clone()));
    }
}
