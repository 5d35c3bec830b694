//! Feeds: what happened here is told, what happened elsewhere is pulled and stored.

use serde_json::json;
use tracing::debug;

use super::{AskReply, Hub, HubMessage, root_of};
use crate::model::{
    Event, Following, Head, JobId, Json, Name, Problem, Question, ServerId, WorldId,
};
use crate::net::{self, Verdict};
use crate::node::clock;
use crate::post::{FeedEffect, Input as PostInput};
use crate::turn;
use crate::wire::{self, Gossip, Notice};

/// Bytes of a gossip message above which it names only the head.
const GOSSIP_BYTES_MAX: usize = 32 * 1024;

impl Hub {
    pub(super) fn show(&mut self, events: &[Event]) {
        let effects = self.feeds.happened(events, |server| self.lists_of(server));
        for effect in effects {
            self.feed(effect);
        }
    }

    /// On which lists of ours a server is that follows a world; none: it may not call now, so it is not
    /// told either.
    fn lists_of(&self, server: ServerId) -> Option<Vec<Name>> {
        let view = self.ground.readers.store.view().ok()?;
        let lists = turn::lists_of(&view, server, self.inbound.shown(server)).ok()?;
        let entry = self.entries.get(&server)?;
        let setting = &self.ground.setting;
        turn::admits(entry, setting, || Ok(!lists.is_empty()), clock::now()).ok().map(|()| lists)
    }

    pub(super) fn feed(&mut self, effect: FeedEffect) {
        match effect {
            FeedEffect::Pull(server, world, held) => {
                let args = match held {
                    Some(held) => {
                        json!({"world": world.to_string(), "since": held.seq, "log": held.log.to_string()})
                    }
                    None => json!({"world": world.to_string()}),
                };
                let question = Question::Ask {
                    server,
                    command: "feed.pull".to_owned(),
                    args,
                    patience_ms: None,
                    user: None,
                    by_action: true,
                };
                let deadline_at = clock::now().after_ms(10_000);
                let root = root_of(self.fresh_job());
                self.ask(question, None, root, deadline_at, AskReply::Pull(server, world));
            }
            FeedEffect::Store(server, notice) => self.store_events(server, &notice, false),
            FeedEffect::Tell(server, notice) => self.post(PostInput::News(server, notice)),
            FeedEffect::Publish(mut notice) => {
                let topic = self.topic(notice.world);
                let server = self.ground.setting.us;
                let mut data = wire::encode_gossip(&Gossip { server, notice: notice.clone() });
                if data.len() > GOSSIP_BYTES_MAX {
                    notice.events.clear();
                    data = wire::encode_gossip(&Gossip { server, notice });
                }
                self.command(net::Command::Publish(topic, data));
            }
        }
    }

    pub(super) fn topic(&self, world: WorldId) -> String {
        format!("/freehold/{}/feed/1/{world}", self.ground.network)
    }

    pub(super) fn store_events(&mut self, server: ServerId, notice: &Notice, more: bool) {
        let page = json!({"world": notice.world, "head": notice.head, "events": notice.events, "resync": false});
        self.store_page(server, notice.world, page, more);
    }

    pub(super) fn store_page(&mut self, server: ServerId, world: WorldId, page: Json, more: bool) {
        let head: Option<Head> =
            page.get("head").and_then(|head| serde_json::from_value(head.clone()).ok());
        let asker = self.ground.asker.clone();
        let hub = self.ground.hub.clone();
        tokio::spawn(async move {
            let args = json!({"server": server.to_string(), "page": page});
            match (asker.call_as_node("feed.store", args).await, head) {
                (Ok(stored), Some(head)) => {
                    let seq = stored.get("seq").and_then(Json::as_u64).unwrap_or(head.seq);
                    let behind = more || seq < head.seq;
                    hub.send(HubMessage::Stored(
                        server,
                        world,
                        Head { log: head.log, seq },
                        behind,
                    ))
                    .await
                    .ok();
                }
                (Err(problem), _) => debug!(says = problem.says, "a page of a feed was not stored"),
                (Ok(_), None) => {}
            }
        });
    }

    pub(super) fn follow(&mut self, server: ServerId, world: WorldId, held: Option<&Following>) {
        let held = held.map(|held| Head { log: held.log, seq: held.seq });
        let connected = self
            .keys
            .get(&server)
            .is_some_and(|key| self.peers.get(key).is_some_and(|peer| peer.server.is_some()));
        if self.feeds.follow(clock::now(), server, world, held, connected) {
            let topic = self.topic(world);
            self.command(net::Command::Subscribe(topic));
        }
    }

    pub(super) fn fresh_job(&mut self) -> JobId {
        self.next_token += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.next_token.to_be_bytes());
        JobId::at(clock::now(), random)
    }

    pub(super) fn pulled(
        &mut self,
        server: ServerId,
        world: WorldId,
        result: Result<Json, Problem>,
    ) {
        match result {
            Ok(page) => {
                let more = page.get("more") == Some(&Json::Bool(true));
                self.store_page(server, world, page, more);
            }
            Err(problem) => {
                debug!(says = problem.says, "a feed could not be pulled");
                self.feeds.pulled(clock::now(), server, world, false);
            }
        }
    }

    pub(super) fn news(&mut self, server: ServerId, notice: Notice) {
        if let Some(effect) = self.feeds.news(clock::now(), server, notice) {
            self.feed(effect);
        }
    }

    /// News of a world's public feed, from gossip: believed only from its home, and only as a hint
    /// to what its home will tell.
    pub(super) fn heard(&mut self, id: u64, author: [u8; 32], topic: &str, data: &[u8]) {
        let verdict = match wire::decode_gossip(data) {
            Err(_) => Verdict::Reject,
            Ok(gossip) if self.topic(gossip.notice.world) != topic => Verdict::Reject,
            Ok(gossip) => match self.keys.get(&gossip.server) {
                Some(key) if *key != author => Verdict::Reject,
                None => Verdict::Drop,
                Some(_) if !self.feeds.follows(gossip.server, gossip.notice.world) => {
                    Verdict::Reject
                }
                Some(_) if !self.feeds.is_news(gossip.server, &gossip.notice) => Verdict::Drop,
                Some(_) => {
                    self.news(gossip.server, gossip.notice);
                    Verdict::Forward
                }
            },
        };
        self.command(net::Command::Judge(id, verdict));
    }
}
