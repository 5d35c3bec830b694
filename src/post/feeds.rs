//! Feeds: whose worlds we follow, where each of them stands, and who follows ours.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Audience, Event, Head, LogId, Name, ServerId, Timestamp, WorldId};
use crate::wire::Notice;

/// Worlds of others that are followed at most.
const FOLLOWED_MAX: usize = 1_024;
/// Servers that are told of one world's news directly.
const FOLLOWERS_MAX: usize = 256;
/// Worlds whose followers are known.
const WORLDS_MAX: usize = 4_096;
/// How often a feed is asked where it stands although nothing was heard, in milliseconds.
const QUIET_MAX_MS: u64 = 30_000;
/// When a pull that was not answered is tried again, in milliseconds.
const PULL_AGAIN_MS: u64 = 2_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedEffect {
    /// Pull the feed of a world since a number; none: where it stands.
    Pull(ServerId, WorldId, Option<Head>),
    /// Store events that arrived without a gap.
    Store(ServerId, Notice),
    /// Tell a follower.
    Tell(ServerId, Notice),
    /// Tell everybody else.
    Publish(Notice),
}

#[derive(Clone, Debug, Default)]
struct Followed {
    held: Option<Head>,
    pulling_until: Option<Timestamp>,
    next_pull_at: Timestamp,
    connected: bool,
}

/// What is followed, and by whom.
#[derive(Debug, Default)]
pub struct Feeds {
    followed: BTreeMap<(ServerId, WorldId), Followed>,
    followers: BTreeMap<WorldId, BTreeSet<ServerId>>,
}

impl Feeds {
    /// Begins to follow a world; `held` is the newest number that is stored, if it was followed
    /// before. Whether it was not followed yet.
    pub fn follow(
        &mut self,
        now: Timestamp,
        server: ServerId,
        world: WorldId,
        held: Option<Head>,
        connected: bool,
    ) -> bool {
        if self.followed.contains_key(&(server, world)) || self.followed.len() >= FOLLOWED_MAX {
            return false;
        }
        let followed = Followed { held, next_pull_at: now, connected, ..Followed::default() };
        self.followed.insert((server, world), followed);
        true
    }

    /// Whether a world is followed as this server's.
    pub fn follows(&self, server: ServerId, world: WorldId) -> bool {
        self.followed.contains_key(&(server, world))
    }

    /// Whether a feed that is followed was not known to stand further than this.
    pub fn is_news(&self, server: ServerId, notice: &Notice) -> bool {
        let held = self.followed.get(&(server, notice.world)).and_then(|followed| followed.held);
        held.is_none_or(|held| held.log == notice.head.log && held.seq <= notice.head.seq)
    }

    /// A server can be asked, or not any more.
    pub fn contact(&mut self, now: Timestamp, server: ServerId, connected: bool) {
        for ((home, _), followed) in &mut self.followed {
            if *home == server {
                followed.connected = connected;
                followed.pulling_until = None;
                followed.next_pull_at = now;
            }
        }
        if !connected {
            for followers in self.followers.values_mut() {
                followers.remove(&server);
            }
        }
    }

    /// Another server pulled a world's feed: from now on it is told directly, while it is connected.
    pub fn pulled_by(&mut self, server: ServerId, world: WorldId) {
        if self.followers.len() >= WORLDS_MAX && !self.followers.contains_key(&world) {
            return;
        }
        let followers = self.followers.entry(world).or_default();
        if followers.len() < FOLLOWERS_MAX {
            followers.insert(server);
        }
    }

    /// A feed was heard to stand at `head`: a gap is pulled.
    pub fn heard(&mut self, now: Timestamp, server: ServerId, world: WorldId, head: Head) {
        if let Some(followed) = self.followed.get_mut(&(server, world))
            && followed.held.is_none_or(|held| held.log != head.log || held.seq < head.seq)
        {
            followed.next_pull_at = now;
        }
    }

    /// News arrived. They are stored where they go on from what is held; a gap is pulled.
    pub fn news(
        &mut self,
        now: Timestamp,
        server: ServerId,
        mut notice: Notice,
    ) -> Option<FeedEffect> {
        let followed = self.followed.get_mut(&(server, notice.world))?;
        let held = followed.held?;
        if held.log != notice.head.log {
            followed.next_pull_at = now;
            return None;
        }
        notice.events.retain(|event| event.head.seq > held.seq);
        let first = notice.events.first().map(|event| event.head.seq);
        if first == Some(held.seq + 1) {
            return Some(FeedEffect::Store(server, notice));
        }
        if held.seq < notice.head.seq {
            followed.next_pull_at = now;
        }
        None
    }

    /// A pull was answered, and what it held is being stored.
    pub fn pulled(&mut self, now: Timestamp, server: ServerId, world: WorldId, more: bool) {
        if let Some(followed) = self.followed.get_mut(&(server, world)) {
            followed.pulling_until = None;
            followed.next_pull_at = if more { now } else { now.after_ms(QUIET_MAX_MS) };
        }
    }

    /// A feed is stored up to `held`.
    pub fn stored(&mut self, server: ServerId, world: WorldId, held: Head) {
        if let Some(followed) = self.followed.get_mut(&(server, world)) {
            followed.held = Some(held);
        }
    }

    /// What is due.
    pub fn tick(&mut self, now: Timestamp) -> Vec<FeedEffect> {
        let mut effects = Vec::new();
        for ((server, world), followed) in &mut self.followed {
            if !followed.connected
                || followed.next_pull_at > now
                || followed.pulling_until.is_some_and(|at| at > now)
            {
                continue;
            }
            followed.pulling_until = Some(now.after_ms(PULL_AGAIN_MS));
            followed.next_pull_at = now.after_ms(QUIET_MAX_MS);
            effects.push(FeedEffect::Pull(*server, *world, followed.held));
        }
        effects
    }

    /// When [`Feeds::tick`] is due.
    pub fn deadline(&self) -> Option<Timestamp> {
        let due = self.followed.values().filter(|followed| followed.connected);
        due.map(|followed| followed.next_pull_at.max(followed.pulling_until.unwrap_or_default()))
            .min()
    }

    /// A turn's events are durable: those who follow are told what is theirs, everybody else what
    /// is public. `lists_of` says on which lists of ours a server is; none: it is told nothing.
    pub fn happened(
        &self,
        events: &[Event],
        lists_of: impl Fn(ServerId) -> Option<Vec<Name>>,
    ) -> Vec<FeedEffect> {
        let mut effects = Vec::new();
        let worlds: BTreeSet<WorldId> = events
            .iter()
            .filter(|event| !event.feeds.is_empty())
            .map(|event| event.world)
            .collect();
        for world in worlds {
            let of_world: Vec<&Event> =
                events.iter().filter(|event| event.world == world).collect();
            if let Some(notice) = notice(world, &of_world, |audience| *audience == Audience::Public)
            {
                effects.push(FeedEffect::Publish(notice));
            }
            for server in self.followers.get(&world).into_iter().flatten() {
                let Some(lists) = lists_of(*server) else { continue };
                let theirs = |audience: &Audience| match audience {
                    Audience::List(list) => lists.iter().any(|on| on.key() == list.key()),
                    Audience::Public => lists.is_empty(),
                    Audience::Home => false,
                };
                effects.extend(
                    notice(world, &of_world, theirs)
                        .map(|notice| FeedEffect::Tell(*server, notice)),
                );
            }
        }
        effects
    }
}

/// The events that one audience may see, numbered for its feed.
fn notice(world: WorldId, events: &[&Event], theirs: impl Fn(&Audience) -> bool) -> Option<Notice> {
    let mut log: Option<LogId> = None;
    let mut seen = Vec::new();
    for event in events {
        let Some(feed) = event.feeds.iter().find(|feed| theirs(&feed.audience)) else { continue };
        if *log.get_or_insert(feed.head.log) == feed.head.log {
            seen.push(event.outward(feed.head));
        }
    }
    let head = seen.last()?.head;
    Some(Notice { world, head, events: seen })
}
