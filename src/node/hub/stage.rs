//! People in worlds: what they do that is kept nowhere, and what follows when a server comes and goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use serde_json::json;
use tokio::sync::broadcast;
use tracing::{debug, warn};

use super::Hub;
use crate::model::{
    AccountId, Act, Audience, Changes, Code, Event, EventKind, Fleeting, Guest, Head, Incarnation,
    Json, Key, LogId, Problem, Row, ServerId, Snapshot, Timestamp, Whereabouts, WorldId,
};
use crate::node::clock;
use crate::post::Input as PostInput;
use crate::turn;

/// How long contact may be lost before people are taken home, in milliseconds.
const GRACE_MS: u64 = 5_000;
/// Characters that somebody says at once.
pub(in crate::node) const SAY_CHARS_MAX: usize = 500;
/// Characters of what somebody is called in a world: `NAME.SERVER`.
const NAME_CHARS_MAX: usize = 129;
/// Acts of one person in one second; the rest is dropped.
const ACTS_A_SECOND: u32 = 40;
/// People whose acts are counted.
const COUNTED_MAX: usize = 10_000;

/// Who is where, as far as the network must know.
///
/// Invariant: it says what the stored rows say.
pub(super) struct Stage {
    live: broadcast::Sender<Arc<Event>>,
    incarnation: Incarnation,
    guests: HashMap<AccountId, Arc<Guest>>,
    ours: HashMap<AccountId, Whereabouts>,
    counted: HashMap<AccountId, (u64, u32)>,
    /// Servers with which contact was lost, until when they may come back, and whether they said that
    /// they go.
    lost: HashMap<ServerId, (Timestamp, bool)>,
}

impl Stage {
    pub(super) fn new(live: broadcast::Sender<Arc<Event>>, incarnation: Incarnation) -> Self {
        Self {
            live,
            incarnation,
            guests: HashMap::new(),
            ours: HashMap::new(),
            counted: HashMap::new(),
            lost: HashMap::new(),
        }
    }

    /// Takes a changed row in.
    pub(super) fn changed(&mut self, key: &Key, change: Option<&Row>) {
        match (key, change) {
            (Key::Guest(account), Some(Row::Guest(guest))) => {
                self.guests.insert(*account, guest.clone());
            }
            (Key::Guest(account), _) => {
                self.guests.remove(account);
            }
            (Key::Presence(account), Some(Row::Presence(presence))) => {
                self.ours.insert(*account, presence.place.clone());
            }
            (Key::Presence(account), _) => {
                self.ours.remove(account);
            }
            _ => {}
        }
    }

    /// In which world of ours somebody stands, by the row that says so.
    fn stands(&self, key: &Key) -> Option<WorldId> {
        match key {
            Key::Guest(account) => self.guests.get(account).map(|guest| guest.world),
            Key::Presence(account) => match self.ours.get(account)? {
                Whereabouts::Here(world) => Some(*world),
                Whereabouts::There { .. } | Whereabouts::Nowhere => None,
            },
            _ => None,
        }
    }

    /// What a guest is called.
    fn name_of(&self, account: AccountId) -> Option<String> {
        self.guests.get(&account).map(|guest| guest.name.clone())
    }

    /// When somebody's grace ends.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.lost.values().map(|(until, _)| *until).min()
    }

    /// The servers that have someone in a world of ours.
    fn homes_in(&self, world: WorldId) -> BTreeSet<ServerId> {
        let here = self.guests.values().filter(|guest| guest.world == world);
        here.map(|guest| guest.home).collect()
    }

    /// Whether somebody of ours is in a world of a server.
    fn watches(&self, server: ServerId, world: WorldId) -> bool {
        self.ours.values().any(|place| {
            matches!(place, Whereabouts::There { server: at, world: held, .. }
                if *at == server && *held == world)
        })
    }

    /// Whether somebody may do one more thing this second.
    fn may_act(&mut self, account: AccountId, now: Timestamp) -> bool {
        if self.counted.len() >= COUNTED_MAX {
            self.counted.clear();
        }
        let second = now.unix_ms() / 1_000;
        let (counted, acts) = self.counted.entry(account).or_default();
        if *counted != second {
            (*counted, *acts) = (second, 0);
        }
        *acts += 1;
        *acts <= ACTS_A_SECOND
    }

    /// Shows an act to those who look here.
    fn show(&self, origin: ServerId, act: &Fleeting, now: Timestamp) {
        let (kind, value) = match &act.act {
            Act::Say(text) => (EventKind::AvatarSaid, json!({"name": act.name, "text": text})),
            Act::Move(to) => (EventKind::AvatarMoved, json!({"name": act.name, "position": to})),
            Act::Come => (EventKind::AvatarCame, json!({"name": act.name})),
            Act::Leave => (EventKind::AvatarLeft, json!({"name": act.name})),
        };
        let log = LogId::of(self.incarnation, act.world, &Audience::Home);
        let event = Event {
            head: Head { log, seq: 0 },
            feeds: Vec::new(),
            kind,
            name: None,
            world: act.world,
            element: act.account.avatar(),
            attribute: None,
            value,
            old: Json::Null,
            origin,
            by: None,
            at: now,
            masked: false,
        };
        // Nobody may be looking.
        self.live.send(Arc::new(event)).ok();
    }
}

impl Hub {
    /// Loads who is where.
    pub(super) fn load_stage(&mut self, view: &dyn Snapshot) {
        let (none, all) = (AccountId::from_bytes([0; 16]), AccountId::from_bytes([0xff; 16]));
        let ranges =
            [(Key::Guest(none), Key::Guest(all)), (Key::Presence(none), Key::Presence(all))];
        for (first, last) in ranges {
            for (key, row) in view.rows(&first, &last, COUNTED_MAX).unwrap_or_default() {
                self.stage.changed(&key, Some(&row));
            }
        }
    }

    /// Takes in who came and went.
    pub(super) fn stage_changed(&mut self, changes: &Changes) {
        for (key, change) in changes {
            let (Key::Guest(account) | Key::Presence(account)) = key else { continue };
            let before = (self.stage.stands(key), self.stage.name_of(*account));
            self.stage.changed(key, change.as_ref());
            self.came_and_went(*account, before, self.stage.stands(key));
            if let (Key::Presence(_), Some(Row::Presence(presence))) = (key, change)
                && let Whereabouts::There { server, world, .. } = &presence.place
            {
                self.follow(*server, *world, None);
            }
        }
    }

    /// Tells those in a world of ours who has come into it, or left it.
    fn came_and_went(
        &mut self,
        account: AccountId,
        (left, was_called): (Option<WorldId>, Option<String>),
        came: Option<WorldId>,
    ) {
        if left == came {
            return;
        }
        let name = was_called.or_else(|| self.stage.name_of(account)).unwrap_or_else(|| {
            let view = self.ground.readers.store.view().ok();
            let held =
                view.and_then(|view| (&view as &dyn Snapshot).account(account).ok().flatten());
            held.map_or_else(|| account.to_string(), |held| held.name.to_string())
        });
        if let Some(world) = left {
            self.spread(Fleeting { world, account, name: name.clone(), act: Act::Leave });
        }
        if let Some(world) = came {
            self.spread(Fleeting { world, account, name, act: Act::Come });
        }
    }

    /// Somebody of ours does something where they are.
    pub(super) fn act(
        &mut self,
        account: AccountId,
        name: String,
        act: Act,
    ) -> Result<(), Problem> {
        let now = clock::now();
        if !self.stage.may_act(account, now) {
            return Err(Problem::new(
                Code::OverLimit,
                format!("at most {ACTS_A_SECOND} of these a second"),
            ));
        }
        match self.stage.ours.get(&account).cloned() {
            Some(Whereabouts::Here(world)) => {
                self.spread(Fleeting { world, account, name, act });
                Ok(())
            }
            Some(Whereabouts::There { server, world, .. }) => {
                // It is shown when the world's home says so.
                self.post(PostInput::Act(server, Fleeting { world, account, name, act }));
                Ok(())
            }
            Some(Whereabouts::Nowhere) | None => {
                Err(Problem::new(Code::NotFound, "you are in no world")
                    .hint("go into one with: freehold world enter WORLD"))
            }
        }
    }

    /// Another server says that somebody does something: its own people in our worlds, or anybody in a
    /// world of its own in which we have someone.
    pub(super) fn acted(&mut self, server: ServerId, act: Fleeting) {
        let is_guest = self
            .stage
            .guests
            .get(&act.account)
            .filter(|guest| guest.home == server && guest.world == act.world)
            .cloned();
        let now = clock::now();
        match is_guest {
            // Who comes and goes in a world of ours we know ourselves.
            Some(_) if matches!(act.act, Act::Come | Act::Leave) => {}
            Some(guest) if is_sound(&act) && self.is_admitted(server) => {
                if self.stage.may_act(act.account, now) {
                    self.spread(Fleeting { name: guest.name.clone(), ..act });
                }
            }
            None if self.stage.watches(server, act.world) && is_sound(&act) => {
                // What one of ours does there was counted when it was done.
                let is_ours = self.stage.ours.contains_key(&act.account);
                if is_ours || self.stage.may_act(act.account, now) {
                    self.stage.show(server, &act, now);
                }
            }
            // Who has just left may still be heard of: that is nobody's fault.
            Some(_) | None => debug!("an act of somebody who is not there"),
        }
    }

    /// Tells everybody in a world of ours.
    fn spread(&mut self, act: Fleeting) {
        self.note_position(&act);
        self.stage.show(self.ground.setting.us, &act, clock::now());
        for server in self.stage.homes_in(act.world) {
            if self.is_admitted(server) {
                self.post(PostInput::Act(server, act.clone()));
            }
        }
    }

    /// Notes where somebody in a world of ours went; who comes has not moved there yet.
    fn note_position(&self, act: &Fleeting) {
        let mut positions =
            self.ground.known.positions.lock().unwrap_or_else(PoisonError::into_inner);
        match &act.act {
            Act::Move(to) => {
                positions.insert(act.account, to.clone());
            }
            Act::Come | Act::Leave => {
                positions.remove(&act.account);
            }
            Act::Say(_) => {}
        }
    }

    /// Whether a server may call now: else its people say and hear nothing either.
    fn is_admitted(&self, server: ServerId) -> bool {
        let entry = self.entries.get(&server);
        // Whoever is a guest was let in after somebody had decided.
        entry.is_some_and(|entry| {
            turn::admits(entry, &self.ground.setting, || Ok(true), clock::now()).is_ok()
        })
    }

    /// Contact with a server is lost: its people, and ours with it, have some time to come back; none
    /// where it said that it goes.
    pub(super) fn contact_lost(&mut self, server: ServerId, announced: bool) {
        let grace_ms = if announced { 0 } else { GRACE_MS };
        let at = clock::now().after_ms(grace_ms);
        let (until, is_announced) = self.stage.lost.entry(server).or_insert((at, announced));
        *until = (*until).min(at);
        *is_announced |= announced;
    }

    /// A server is there again.
    pub(super) fn contact_made(&mut self, server: ServerId) {
        self.stage.lost.remove(&server);
        self.call_about("avatar.back", json!({"server": server.to_string()}));
    }

    /// Takes home whose grace has ended.
    pub(super) fn end_grace(&mut self, now: Timestamp) {
        let ended: Vec<(ServerId, bool)> = self
            .stage
            .lost
            .iter()
            .filter(|(_, (until, _))| *until <= now)
            .map(|(server, (_, announced))| (*server, *announced))
            .collect();
        for (server, announced) in ended {
            self.stage.lost.remove(&server);
            let args = json!({"server": server.to_string(), "announced": announced});
            self.call_about("avatar.away", args);
        }
    }

    fn call_about(&self, command: &'static str, args: Json) {
        let asker = self.ground.asker.clone();
        tokio::spawn(async move {
            if let Err(problem) = asker.call_as_node(command, args).await {
                warn!(says = problem.says, command, "visits could not be brought up to date");
            }
        });
    }
}

/// Whether an act is one that a person of ours could do.
fn is_sound(act: &Fleeting) -> bool {
    let is_name = is_text(&act.name, NAME_CHARS_MAX);
    is_name
        && match &act.act {
            Act::Say(text) => is_text(text, SAY_CHARS_MAX),
            Act::Move(to) => crate::model::Kind::Position.check(to.clone()).is_ok(),
            Act::Come | Act::Leave => true,
        }
}

/// Whether a text can be said: nothing in it does anything to a terminal.
pub(in crate::node) fn is_text(text: &str, chars_max: usize) -> bool {
    !text.chars().any(char::is_control) && (1..=chars_max).contains(&text.chars().count())
}
