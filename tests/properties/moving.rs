//! A thing that is moved, and every way that this can go: who is told what and when, what comes twice
//! or never, and what people do meanwhile, tried in every order until nothing new comes up.
//!
//! The node's own commands are run, on rows in memory, and with them both ends of the protocol. An end
//! keeps nothing but its rows, and a step changes all of them or none. So who falls before the commit
//! has heard nothing and is told again, which is no other state; who falls after it has heard all and
//! may be told again, which is tried; and what was stored is read back from a real store. Lanes do less
//! than what is tried here: they let nothing run twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use freehold::commands;
use freehold::model::{
    AccountId, Answers, Budget, Call, Caller, Changes, Code, Contact, Damaged, ElementId,
    InboxKind, Incarnation, JobId, Json, Key, Layered, Name, Node, Root, Row, ServerId,
    SignedRecord, Snapshot, Timestamp, TransferRole, TransferState, WorldId, hex,
};
use freehold::presence::{GiverHears, GiverWishes, ReceiverHears, ReceiverWishes, giver, receiver};
use freehold::script::Machine;
use freehold::step::{Ended, Left, Setting, Step};
use freehold::store::Store;
use freehold::trust::{Inception, KeyPair, Record, RecordKind};
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::home::{Memory, Rows, on_a_machine};

/// It is always the same moment: what is the same is the same state.
const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);
/// States of one search at most.
const STATES_MAX: usize = 1_000_000;
/// What can be told in one search at most: one bit each.
const MESSAGES_MAX: usize = 128;
/// The ends: who has the thing at first, who is offered it, and a third one.
const ATTIC: usize = 0;
const KITCHEN: usize = 1;
const CELLAR: usize = 2;
/// What they are called, whose they are, and the world of that account.
const NAMES: [&str; 3] = ["attic", "kitchen", "cellar"];
const OWNERS: [&str; 3] = ["alice", "bob", "eve"];
const WORLDS: [&str; 3] = ["garden", "yard", "vault"];
/// One way of the thing, and there and back.
const THERE: &[(usize, usize)] = &[(ATTIC, KITCHEN)];
const BACK: &[(usize, usize)] = &[(ATTIC, KITCHEN), (KITCHEN, ATTIC)];
/// From one to the next.
const ON: &[(usize, usize)] = &[(ATTIC, KITCHEN), (KITCHEN, CELLAR)];
/// To one or to another.
const EITHER: &[(usize, usize)] = &[(ATTIC, KITCHEN), (ATTIC, CELLAR)];
/// Once round.
const ROUND: &[(usize, usize)] = &[(ATTIC, KITCHEN), (KITCHEN, CELLAR), (CELLAR, ATTIC)];
/// Tells a node that it has met another.
const MET: &str = "server.met";
/// What the thing holds.
const GLOW: i64 = 3;

const STATES: [TransferState; 4] = [
    TransferState::Offered,
    TransferState::Accepted,
    TransferState::Refused,
    TransferState::Reclaimed,
];

#[test]
fn what_a_giver_has_decided_stays_decided_whatever_it_hears() {
    for state in STATES {
        for hears in [GiverHears::Accepted, GiverHears::Refused, GiverHears::Reclaim] {
            let (next, wishes) = giver(state, hears);

            let what = format!("{state:?} {hears:?}");
            assert_eq!(next != state, state == TransferState::Offered, "{what}");
            let decides = match wishes {
                GiverWishes::LetGo => Some(TransferState::Accepted),
                GiverWishes::Thaw => Some(TransferState::Refused),
                GiverWishes::TakeBack => Some(TransferState::Reclaimed),
                GiverWishes::Nothing | GiverWishes::Acknowledge | GiverWishes::SayTakenBack => None,
            };
            assert_eq!(decides, (next != state).then_some(next), "{what}");
        }
    }
}

#[test]
fn what_a_receiver_has_decided_stays_decided_but_for_what_is_taken_back_unheard() {
    let all =
        [ReceiverHears::Yes, ReceiverHears::No, ReceiverHears::Cancel, ReceiverHears::Reclaimed];
    for state in STATES {
        for acknowledged in [false, true] {
            for hears in all {
                let (next, wishes) = receiver(state, acknowledged, hears);

                let what = format!("{state:?}, acknowledged {acknowledged}, {hears:?}");
                let taken_back = state == TransferState::Accepted
                    && hears == ReceiverHears::Reclaimed
                    && !acknowledged;
                let changes = state == TransferState::Offered || taken_back;
                assert_eq!(next != state, changes, "{what}");
                let owns = next != state && next == TransferState::Accepted;
                assert_eq!(wishes == ReceiverWishes::Own, owns, "{what}");
                assert_eq!(wishes == ReceiverWishes::GiveUp, taken_back, "{what}");
            }
        }
    }
}

#[test]
fn a_thing_that_is_moved_has_one_owner_whatever_comes_twice_or_never() {
    for (loses, reclaims) in [(false, false), (true, false), (false, true), (true, true)] {
        // Where the ends meet anew from time to time, that is repetition enough.
        let twice = !(loses && reclaims);
        let rules = Rules { loses, reclaims, twice, ..Rules::of(2, THERE) };

        let found = every_way(rules).unwrap_or_else(|says| panic!("{rules:?}: {says}"));

        println!("{rules:?}: {} states", found.states);
        let at_rest = [[Has::Owns, Has::Nothing], [Has::Nothing, Has::Owns]];
        for ends in at_rest.map(Vec::from) {
            assert!(found.over.contains(&ends), "{rules:?}: {ends:?} of {:?}", found.over);
        }
        let copied = found.over.contains([Has::Owns, Has::Copies].as_slice());
        assert_eq!(copied, reclaims, "{rules:?}: {:?}", found.over);
    }
}

#[test]
fn a_thing_that_may_go_back_at_once_has_one_owner() {
    for (loses, reclaims) in [(false, false), (true, false), (false, true)] {
        let rules = Rules { loses, reclaims, ..Rules::of(2, BACK) };

        let found = every_way(rules).unwrap_or_else(|says| panic!("{rules:?}: {says}"));

        println!("{rules:?}: {} states", found.states);
        assert!(found.came_back, "{rules:?}: it never came back");
    }
}

#[test]
fn a_thing_that_goes_on_to_a_third_server_has_one_owner() {
    has_one_owner(&[
        Rules::of(3, ON),
        Rules { loses: true, ..Rules::of(3, ON) },
        Rules { reclaims: true, ..Rules::of(3, ON) },
        Rules::of(3, EITHER),
        Rules { loses: true, ..Rules::of(3, EITHER) },
        Rules { twice: false, loses: true, ..Rules::of(3, ROUND) },
    ]);
}

#[test]
fn a_giver_that_is_put_back_from_before_a_move_ends_with_a_marked_copy() {
    ends_with_a_copy(&[
        Rules { restores: Some(ATTIC), ..Rules::of(2, THERE) },
        Rules { restores: Some(ATTIC), twice: false, ..Rules::of(2, BACK) },
        Rules { restores: Some(ATTIC), twice: false, ..Rules::of(3, ON) },
        Rules { restores: Some(ATTIC), twice: false, ..Rules::of(3, EITHER) },
    ]);
}

#[test]
fn a_receiver_that_is_put_back_from_before_a_move_has_the_thing_again() {
    has_one_owner(&[
        Rules { restores: Some(KITCHEN), ..Rules::of(2, THERE) },
        Rules { restores: Some(KITCHEN), twice: false, ..Rules::of(2, BACK) },
        Rules { restores: Some(KITCHEN), twice: false, ..Rules::of(3, ON) },
        Rules { restores: Some(CELLAR), twice: false, ..Rules::of(3, ON) },
    ]);
}

/// `cargo test --test properties -- --ignored every_way`: about a minute.
#[test]
#[ignore = "it takes long"]
fn every_way_that_takes_long_to_search_has_one_owner_in_the_end() {
    has_one_owner(&[
        Rules { reclaims: true, ..Rules::of(3, EITHER) },
        Rules { restores: Some(KITCHEN), ..Rules::of(2, BACK) },
        Rules { restores: Some(KITCHEN), ..Rules::of(3, ON) },
    ]);
    ends_with_a_copy(&[Rules { restores: Some(ATTIC), ..Rules::of(2, BACK) }]);
}

/// Searches, and checks that each server can come to be the owner, and alone.
fn has_one_owner(all: &[Rules]) {
    for rules in all {
        let over = ends_of(rules);
        for owner in 0..rules.ends {
            let owns = |ends: &Vec<Has>| ends[owner] == Has::Owns;
            assert!(over.iter().any(owns), "{rules:?}: {owner} of {over:?}");
        }
    }
}

/// Searches, and checks that who was put back can come to have a copy of what it had given away.
fn ends_with_a_copy(all: &[Rules]) {
    for rules in all {
        let over = ends_of(rules);
        let gave = |ends: &Vec<Has>| ends[ATTIC] == Has::Copies && ends[KITCHEN] == Has::Owns;
        assert!(over.iter().any(gave), "{rules:?}: {over:?}");
    }
}

/// How a thing can end, where every way leads to one owner.
fn ends_of(rules: &Rules) -> BTreeSet<Vec<Has>> {
    let found = every_way(*rules).unwrap_or_else(|says| panic!("{rules:?}: {says}"));
    println!("{rules:?}: {} states", found.states);
    found.over
}

/// A lane keeps order; the protocol would do without.
#[test]
fn without_the_order_of_a_lane_a_thing_has_one_owner_too() {
    has_one_owner(&[Rules { order: Order::Any, ..Rules::of(2, THERE) }]);
}

/// Whoever was put back must be met anew; and this search finds two owners where there are any.
#[test]
fn where_nobody_hears_of_a_restore_the_search_finds_two_owners() {
    let rules = Rules { restores: Some(ATTIC), greets: false, ..Rules::of(2, THERE) };

    let found = every_way(rules);

    match found {
        Err(says) => assert!(says.contains("no way leads to one owner"), "{says}"),
        Ok(found) => panic!("it finds nothing in {} states", found.states),
    }
}

/// In which order an end hears what it is told for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// In that in which it was told: as in a lane.
    Kept,
    /// In any.
    Any,
}

/// What may happen in a search. An owner may always call off.
#[derive(Clone, Copy, Debug)]
struct Rules {
    order: Order,
    /// Whether what is told may get lost for good.
    loses: bool,
    /// Whether an owner may take back without an answer. Where that may get lost too, the ends meet
    /// anew from time to time.
    reclaims: bool,
    /// Which end may be put back, once, to what it was before anything was moved.
    restores: Option<usize>,
    /// Whether the others meet anew who was put back.
    greets: bool,
    /// Whether what is told may come a second time.
    twice: bool,
    /// How many ends there are.
    ends: usize,
    /// Who may offer the thing to whom, once for each time that it stands here.
    moves: &'static [(usize, usize)],
}

impl Rules {
    /// What is always so.
    const fn of(ends: usize, moves: &'static [(usize, usize)]) -> Self {
        let order = Order::Kept;
        Self {
            order,
            loses: false,
            reclaims: false,
            restores: None,
            greets: true,
            twice: true,
            ends,
            moves,
        }
    }
}

/// What an end has of the thing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Has {
    /// Nothing.
    Nothing,
    /// A marked copy.
    Copies,
    /// The thing itself, which rests.
    Rests,
    /// The thing itself: it answers for it.
    Owns,
}

/// What is known of one state of one end.
#[derive(Clone, Debug)]
struct Facts {
    has: Has,
    /// Each transfer, as this end keeps it.
    transfers: Vec<(TransferRole, TransferState)>,
    /// Whether one is open, and there is something that can be decided about.
    is_open: bool,
}

/// Something that one end tells another.
struct Message {
    from: usize,
    /// Who hears it.
    to: usize,
    command: String,
    args: Json,
}

/// What happens at an end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Does {
    /// It hears a message.
    Hears(usize),
    /// Its owner offers the thing to another one.
    Moves(usize),
    /// Its owner calls that off.
    Cancels,
    /// Its owner takes the thing back without an answer.
    Reclaims,
    /// Its owner says yes to what is in the inbox.
    SaysYes,
    /// Its owner says no to that.
    SaysNo,
    /// It meets another one, whose store has another life than before.
    Meets(usize),
}

const PEOPLE: [Does; 4] = [Does::Cancels, Does::Reclaims, Does::SaysYes, Does::SaysNo];

/// How one state comes from another.
#[derive(Clone, Copy, Debug)]
enum How {
    /// Something happens at an end.
    Happens(usize, Does),
    /// A message comes again.
    Again(usize),
    /// A message is lost for good.
    Lost(usize),
    /// An end is put back.
    Restored(usize),
}

/// All ends, and what is on its way.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// The state of each end, by its number.
    ends: Vec<usize>,
    /// What each end is still to hear from each other one, in order: lane by lane.
    owed: Vec<Vec<usize>>,
    /// What was heard once, and may come once more: a bit for each message.
    again: u128,
    /// Whether somebody took the thing back without an answer, or was put back.
    is_forced: bool,
    is_restored: bool,
}

/// What comes of something that happens at an end.
#[derive(Clone)]
struct Outcome {
    end: usize,
    told: Vec<usize>,
}

/// What a search has found.
struct Found {
    states: usize,
    /// What the ends have where all is over.
    over: BTreeSet<Vec<Has>>,
    /// Whether the thing was given there and back.
    came_back: bool,
}

/// Tries everything. What it gives back as an error is how it comes to what may not be.
fn every_way(rules: Rules) -> Result<Found, String> {
    let mut result = Err("it did not run".to_owned());
    let place = &mut result;
    on_a_machine(move |machine| *place = Search::new(machine, rules).run());
    result
}

struct Search<'m> {
    machine: &'m Machine,
    rules: Rules,
    ends: Vec<End>,
    thing: ElementId,
    /// What is stored at each end in each of its states, laid over what was there at first.
    laid: Vec<Vec<Changes>>,
    facts: Vec<Vec<Facts>>,
    numbers: Vec<HashMap<[u8; 32], usize>>,
    messages: Vec<Message>,
    /// What comes of what happens at an end in a state; none where it cannot be done.
    outcomes: HashMap<(usize, usize, Does), Option<Outcome>>,
    states: Vec<Arc<State>>,
    known: HashMap<Arc<State>, usize>,
    /// From which state each was reached first, and how.
    from: Vec<Option<(usize, How)>>,
    /// From which states each can be reached.
    before: Vec<Vec<usize>>,
}

impl<'m> Search<'m> {
    fn new(machine: &'m Machine, rules: Rules) -> Self {
        let mut ends: Vec<End> = (0..rules.ends).map(|at| End::founded(at, machine)).collect();
        let introductions: Vec<Json> = ends.iter().map(|end| end.introduction(0)).collect();
        for (at, end) in ends.iter_mut().enumerate() {
            for (other, introduction) in introductions.iter().enumerate() {
                if other != at {
                    end.done(machine, Caller::Node, MET, introduction.clone());
                    end.done(machine, operator(), "server.allow", json!({"server": NAMES[other]}));
                }
            }
        }
        let thing = id_in(&End::furnish(machine, &mut ends));
        Self {
            machine,
            rules,
            thing,
            laid: vec![Vec::new(); ends.len()],
            facts: vec![Vec::new(); ends.len()],
            numbers: vec![HashMap::new(); ends.len()],
            ends,
            messages: Vec::new(),
            outcomes: HashMap::new(),
            states: Vec::new(),
            known: HashMap::new(),
            from: Vec::new(),
            before: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Found, String> {
        let ends = self.all().map(|end| self.number(end, Changes::new())).collect();
        let owed = vec![Vec::new(); self.rules.ends * self.rules.ends];
        let first = State { ends, owed, again: 0, is_forced: false, is_restored: false };
        self.reach(first, None)?;
        let mut at = 0;
        while at < self.states.len() {
            let state = self.states[at].clone();
            for (how, next) in self.after(&state) {
                self.reach(next, Some((at, how)))?;
            }
            at += 1;
        }
        self.check_ways_forward()?;
        for end in self.all() {
            self.ends[end].check_restarts(&self.laid[end]);
        }
        Ok(self.found())
    }

    /// The numbers of the ends.
    fn all(&self) -> std::ops::Range<usize> {
        0..self.rules.ends
    }

    /// The place of what one end is still to hear from another.
    fn lane(&self, from: usize, to: usize) -> usize {
        from * self.rules.ends + to
    }

    fn found(&self) -> Found {
        let over: Vec<&Arc<State>> =
            self.states.iter().filter(|state| self.is_over(state)).collect();
        let both = [
            (TransferRole::Giver, TransferState::Accepted),
            (TransferRole::Receiver, TransferState::Accepted),
        ];
        let came_back = over.iter().any(|state| {
            let attic = self.facts_of(state)[ATTIC];
            attic.has == Has::Owns && both.iter().all(|one| attic.transfers.contains(one))
        });
        Found {
            states: self.states.len(),
            over: over
                .iter()
                .map(|state| self.facts_of(state).iter().map(|facts| facts.has).collect())
                .collect(),
            came_back,
        }
    }

    // States.

    /// Notes a state, and checks it where it is new.
    fn reach(&mut self, state: State, from: Option<(usize, How)>) -> Result<(), String> {
        if let Some(known) = self.known.get(&state) {
            self.before[*known].extend(from.map(|(before, _)| before));
            return Ok(());
        }
        let number = self.states.len();
        let state = Arc::new(state);
        self.states.push(state.clone());
        self.known.insert(state.clone(), number);
        self.from.push(from);
        self.before.push(from.map(|(before, _)| before).into_iter().collect());
        if number >= STATES_MAX {
            return Err(format!("there are more than {STATES_MAX} states\n{}", self.trail(number)));
        }
        let owners = self.owners(&state);
        if owners > 1 && !state.is_forced {
            return Err(format!("two owners\n{}", self.trail(number)));
        }
        Ok(())
    }

    /// Checks that from every state some way leads to one at which all is over.
    fn check_ways_forward(&self) -> Result<(), String> {
        let mut leads: Vec<bool> = self.states.iter().map(|state| self.is_over(state)).collect();
        let mut waiting: Vec<usize> = (0..leads.len()).filter(|at| leads[*at]).collect();
        while let Some(at) = waiting.pop() {
            for before in &self.before[at] {
                if !leads[*before] {
                    leads[*before] = true;
                    waiting.push(*before);
                }
            }
        }
        match leads.iter().position(|leads| !leads) {
            None => Ok(()),
            Some(at) => {
                let stuck = leads.iter().filter(|leads| !**leads).count();
                let says = format!("{stuck} states from which no way leads to one owner");
                Err(format!("{says}, the first one:\n{}", self.trail(at)))
            }
        }
    }

    /// Whether nothing is to be heard or decided any more, and the thing has one owner.
    fn is_over(&self, state: &State) -> bool {
        let is_told = state.owed.iter().all(Vec::is_empty);
        let is_open = self.facts_of(state).iter().any(|facts| facts.is_open);
        is_told && !is_open && self.owners(state) == 1
    }

    fn owners(&self, state: &State) -> usize {
        self.facts_of(state).iter().filter(|facts| facts.has == Has::Owns).count()
    }

    fn facts_of(&self, state: &State) -> Vec<&Facts> {
        self.all().map(|end| &self.facts[end][state.ends[end]]).collect()
    }

    /// How a state was reached, one line for each thing that happened.
    fn trail(&self, number: usize) -> String {
        let mut lines = Vec::new();
        let mut at = number;
        while let Some((before, how)) = self.from[at] {
            lines.push(self.told(how));
            at = before;
        }
        lines.reverse();
        for (end, facts) in self.facts_of(&self.states[number]).iter().enumerate() {
            lines.push(format!("then {}: {facts:?}", NAMES[end]));
        }
        lines.join("\n")
    }

    fn told(&self, how: How) -> String {
        match how {
            How::Happens(end, Does::Hears(message)) => {
                format!("{} hears {}", NAMES[end], self.messages[message].command)
            }
            How::Happens(end, does) => format!("{}: {does:?}", NAMES[end]),
            How::Again(message) => {
                let Message { to, command, .. } = &self.messages[message];
                format!("{} hears {command} again", NAMES[*to])
            }
            How::Lost(message) => format!("{} is lost", self.messages[message].command),
            How::Restored(end) => format!("{} is put back", NAMES[end]),
        }
    }

    // What happens.

    /// Every state that comes from one.
    fn after(&mut self, state: &State) -> Vec<(How, State)> {
        let mut found = Vec::new();
        for lane in 0..state.owed.len() {
            let many = match self.rules.order {
                Order::Kept => state.owed[lane].len().min(1),
                Order::Any => state.owed[lane].len(),
            };
            for place in 0..many {
                let mut rest = state.clone();
                let message = rest.owed[lane].remove(place);
                let end = self.messages[message].to;
                if self.rules.loses {
                    found.push((How::Lost(message), rest.clone()));
                }
                // After a restore only what was told before it is tried again.
                if self.comes_twice(message) && !state.is_restored {
                    rest.again |= 1 << message;
                }
                let does = Does::Hears(message);
                let next = self.happens(end, does, &rest);
                found.push((How::Happens(end, does), next.unwrap_or(rest)));
            }
        }
        for end in self.all() {
            let others = self.all().filter(|other| *other != end);
            let about = others.flat_map(|other| [Does::Moves(other), Does::Meets(other)]);
            for does in about.chain(PEOPLE) {
                if let Some(next) = self.happens(end, does, state) {
                    found.push((How::Happens(end, does), next));
                }
            }
        }
        if let Some(end) = self.rules.restores.filter(|_| !state.is_restored) {
            found.push((How::Restored(end), self.restored(end, state)));
        }
        for message in 0..self.messages.len() {
            if state.again & (1 << message) != 0 {
                let rest = State { again: state.again & !(1 << message), ..state.clone() };
                let end = self.messages[message].to;
                let next = self.happens(end, Does::Hears(message), &rest);
                found.push((How::Again(message), next.unwrap_or(rest)));
            }
        }
        found
    }

    /// The state after an end was put back: it has another life, in which it has told nothing, and the
    /// others meet it anew.
    fn restored(&mut self, end: usize, state: &State) -> State {
        let first = &self.ends[end];
        let stored: &dyn Snapshot = &first.stored;
        let node = stored.node().unwrap().unwrap();
        let node = Node { incarnation: first.lives[1], ..node.as_ref().clone() };
        let introduction = first.introduction(1);
        let laid = Changes::from([(Key::Node, Some(Row::Node(Arc::new(node))))]);
        let mut next = State { is_forced: true, is_restored: true, ..state.clone() };
        next.ends[end] = self.number(end, laid);
        for (number, message) in self.messages.iter().enumerate() {
            if message.from == end {
                next.again &= !(1 << number);
            }
        }
        let others = if self.rules.greets { self.all() } else { 0..0 };
        for other in others.filter(|other| *other != end) {
            let met = self.message(end, other, MET.to_owned(), introduction.clone());
            let lane = self.lane(end, other);
            next.owed[lane] = vec![met];
        }
        next
    }

    /// Whether a message is tried a second time. Content that comes again says nothing new, and where
    /// there are two ways it is left out.
    fn comes_twice(&self, message: usize) -> bool {
        let is_said = self.messages[message].command != "move.piece" || self.rules.moves.len() == 1;
        self.rules.twice && is_said
    }

    /// The state after something has happened at an end; none where it cannot be done there.
    fn happens(&mut self, end: usize, does: Does, state: &State) -> Option<State> {
        let Outcome { end: number, told } = self.outcome(end, state.ends[end], does)?;
        let mut next = state.clone();
        next.ends[end] = number;
        next.is_forced |= does == Does::Reclaims;
        for message in told {
            let owed = &mut next.owed[self.lane(end, self.messages[message].to)];
            if !owed.contains(&message) {
                owed.push(message);
            }
            if self.rules.order == Order::Any {
                owed.sort_unstable();
            }
        }
        Some(next)
    }

    fn outcome(&mut self, end: usize, number: usize, does: Does) -> Option<Outcome> {
        if let Some(known) = self.outcomes.get(&(end, number, does)) {
            return known.clone();
        }
        let outcome = self.run_step(end, number, does);
        self.outcomes.insert((end, number, does), outcome.clone());
        outcome
    }

    fn run_step(&mut self, end: usize, number: usize, does: Does) -> Option<Outcome> {
        let laid = &self.laid[end][number];
        let (caller, command, args) = self.said(end, laid, does)?;
        let left = self.ends[end].step(self.machine, laid, caller, &command, args);
        let Left { ended, changes, tells, sends, .. } = left;
        match ended {
            Ended::Done(_) => {}
            Ended::Problem(problem) => {
                let is_fault = matches!(
                    problem.code,
                    Code::Internal | Code::Damaged | Code::ScriptBudget | Code::ScriptFailed
                );
                assert!(!is_fault, "{} {does:?} {command}: {problem:?}", NAMES[end]);
                return None;
            }
            other => panic!("{} {does:?} {command}: {other:?}", NAMES[end]),
        }
        assert!(sends.is_empty(), "{} {does:?} {command}: {sends:?}", NAMES[end]);
        let laid = self.ends[end].laid(laid, changes);
        let mut told = Vec::new();
        for tell in tells {
            let to = self.ends.iter().position(|other| other.setting.us == tell.server);
            let to = to.unwrap_or_else(|| panic!("{} {does:?} {command}: {tell:?}", NAMES[end]));
            told.push(self.message(end, to, tell.command, tell.args));
        }
        Some(Outcome { end: self.number(end, laid), told })
    }

    /// What is called where something happens, and by whom; none where it cannot happen.
    fn said(&self, end: usize, laid: &Changes, does: Does) -> Option<(Caller, String, Json)> {
        let owner = Caller::Local { account: Some(self.ends[end].account), operator: false };
        let thing = self.thing.to_string();
        let (caller, command, args) = match does {
            Does::Hears(message) => {
                let Message { from, command, args, .. } = &self.messages[message];
                let caller = if command == MET { Caller::Node } else { self.ends[*from].caller() };
                return Some((caller, command.clone(), args.clone()));
            }
            Does::Moves(there) => {
                let server = self.ends[there].setting.us;
                let gave = laid.values().filter(|change| {
                    matches!(change, Some(Row::Transfer(held))
                        if held.role == TransferRole::Giver && held.other == server)
                });
                let may = self.rules.moves.iter().filter(|way| **way == (end, there));
                if gave.count() >= may.count() {
                    return None;
                }
                let to = format!("{}@{}/{}", OWNERS[there], NAMES[there], WORLDS[there]);
                (owner, "element.move", json!({"element": thing, "to": to}))
            }
            Does::Cancels => (owner, "element.move", json!({"element": thing, "cancel": true})),
            Does::Reclaims if self.rules.reclaims => {
                (owner, "element.reclaim", json!({"element": thing}))
            }
            Does::SaysYes | Does::SaysNo => {
                let entry = laid.values().find_map(|change| match change {
                    Some(Row::Inbox(entry)) if entry.kind == InboxKind::Move => Some(entry.id),
                    _ => None,
                })?;
                let says = if does == Does::SaysYes { "inbox.approve" } else { "inbox.deny" };
                (owner, says, json!({"entry": entry}))
            }
            Does::Meets(other) if self.rules.reclaims && self.rules.loses => {
                let other = &self.ends[other];
                let view = Layered { top: laid, below: &self.ends[end].stored };
                let known = (&view as &dyn Snapshot).server(other.setting.us).unwrap().unwrap();
                let life = usize::from(known.incarnation == other.lives[0]);
                (Caller::Node, MET, other.introduction(life))
            }
            Does::Reclaims | Does::Meets(_) => return None,
        };
        Some((caller, command.to_owned(), args))
    }

    fn message(&mut self, from: usize, to: usize, command: String, args: Json) -> usize {
        let same = |held: &Message| {
            (held.from, held.to) == (from, to) && held.command == command && held.args == args
        };
        if let Some(known) = self.messages.iter().position(same) {
            return known;
        }
        assert!(self.messages.len() < MESSAGES_MAX, "there are too many messages");
        self.messages.push(Message { from, to, command, args });
        self.messages.len() - 1
    }

    /// The number of a state of an end.
    fn number(&mut self, end: usize, laid: Changes) -> usize {
        let hash = *blake3::hash(format!("{laid:?}").as_bytes()).as_bytes();
        if let Some(known) = self.numbers[end].get(&hash) {
            return *known;
        }
        let facts = self.ends[end].facts(&laid, self.thing);
        let number = self.laid[end].len();
        self.laid[end].push(laid);
        self.facts[end].push(facts);
        self.numbers[end].insert(hash, number);
        number
    }
}

/// A server.
struct End {
    setting: Setting,
    record: SignedRecord,
    /// What the lives of its store are called.
    lives: [Incarnation; 2],
    /// Who owns everything there.
    account: AccountId,
    /// The world of that account.
    world: WorldId,
    /// What is stored there before anything is moved.
    stored: Stored,
}

impl End {
    /// A server with an account and a world, that knows nobody.
    fn founded(at: usize, machine: &Machine) -> Self {
        let byte = u8::try_from(at + 1).unwrap();
        let keys = KeyPair::from_seed(&[byte; 32]);
        let name = Name::new(NAMES[at]).unwrap();
        let recovery_hash = *blake3::hash(&[byte; 32]).as_bytes();
        let inception = Inception {
            kind: RecordKind::Server,
            key: keys.public(),
            recovery_hash,
            nonce: [byte; 16],
        };
        let record = Record::first(inception, name.clone(), None);
        let us = record.server_id().unwrap();
        let record = record.sign(&keys);
        let lives = [byte, byte + 100].map(|byte| Incarnation::from_bytes([byte; 16]));
        let node = Node {
            server: us,
            name: name.clone(),
            record: record.clone(),
            recovery_hash,
            incarnation: lives[0],
            earlier: Vec::new(),
            is_rekeyed: false,
        };
        let setting = Setting {
            us,
            keys,
            name,
            recovery_hash,
            time_zone: TimeZone::UTC,
            account: None,
            record_ms: 3_600_000,
            strangers_wait: false,
            limit: freehold::model::Limit::STRANGERS,
        };
        let mut end = Self {
            setting,
            record,
            lives,
            account: AccountId::from_bytes([0; 16]),
            world: WorldId::from_bytes([0; 16]),
            stored: Stored(Rows::from([(Key::Node, Row::Node(Arc::new(node)))])),
        };
        let world = format!("{}/{}", OWNERS[at], WORLDS[at]);
        let made = end.done(machine, operator(), "account.add", json!({"name": OWNERS[at]}));
        end.account = id_in(&made);
        let made = end.done(machine, operator(), "world.add", json!({"name": world}));
        end.world = id_in(&made);
        end
    }

    /// Makes the thing at the first end. Its type is at the others already.
    fn furnish(machine: &Machine, ends: &mut [Self]) -> Json {
        let Some((first, others)) = ends.split_first_mut() else { panic!("there are no ends") };
        let alice = Caller::Local { account: Some(first.account), operator: false };
        first.done(machine, alice.clone(), "type.publish", json!({"source": BALL}));
        for other in others {
            let share = json!({"type": "ball", "server": other.setting.name});
            let shared = first.step(machine, &Changes::new(), alice.clone(), "type.share", share);
            let Ended::Forward(tell) = shared.ended else { panic!("it is not sent") };
            first.stored.keep(shared.changes);
            let args = tell.args.clone();
            let taken = other.step(machine, &Changes::new(), first.caller(), &tell.command, args);
            assert!(matches!(taken.ended, Ended::Done(_)), "{:?}", taken.ended);
            other.stored.keep(taken.changes);
            for tell in taken.tells {
                first.done(machine, other.caller(), &tell.command, tell.args);
            }
        }
        let ball = json!({"type": "ball", "name": "ball", "values": {"glow": GLOW}});
        first.done(machine, alice, "element.create", ball)
    }

    /// As whom another server knows it.
    fn caller(&self) -> Caller {
        let server = self.setting.us;
        Caller::Remote { server, claim: None, presented: Vec::new(), user: None }
    }

    /// What another server is told of it in one of its lives.
    fn introduction(&self, life: usize) -> Json {
        json!({
            "server": self.setting.us,
            "record": hex(&self.record.0),
            "incarnation": self.lives[life],
        })
    }

    /// Runs one step on what is stored, with changes laid over it. The same is always run alike.
    fn step(
        &self,
        machine: &Machine,
        laid: &Changes,
        caller: Caller,
        command: &str,
        args: Json,
    ) -> Left {
        let moves = laid.keys().filter(|key| matches!(key, Key::Transfer(_))).count();
        let life = laid.contains_key(&Key::Node);
        let about = format!("{} {command} {moves} {life}", self.setting.name);
        let seed = *blake3::hash(about.as_bytes()).as_bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&seed[..10]);
        let id = JobId::at(NOW, random);
        let call = Call {
            id,
            command: command.to_owned(),
            caller,
            args,
            world: None,
            meta: Json::Null,
            reply_to: None,
            deadline_at: NOW.after_ms(30_000),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        };
        let view = Layered { top: laid, below: &self.stored };
        let answers = Answers::new();
        let function = commands::find(command).unwrap_or_else(|| panic!("no {command}"));
        Step::new(&view, machine, &self.setting, &call, &answers, NOW, seed, false).run(function)
    }

    /// Something is called that must be done, and belongs to what is stored from then on.
    fn done(&mut self, machine: &Machine, caller: Caller, command: &str, args: Json) -> Json {
        let left = self.step(machine, &Changes::new(), caller, command, args);
        self.stored.keep(left.changes);
        match left.ended {
            Ended::Done(json) => json,
            other => panic!("{command}: {other:?}"),
        }
    }

    /// Lays changes over others. What is as it was at first is no change.
    fn laid(&self, laid: &Changes, changes: Changes) -> Changes {
        let mut laid = laid.clone();
        for (key, change) in changes {
            if self.stored.0.get(&key) == change.as_ref() {
                laid.remove(&key);
            } else {
                laid.insert(key, change);
            }
        }
        laid
    }

    fn facts(&self, laid: &Changes, thing: ElementId) -> Facts {
        let view = Layered { top: laid, below: &self.stored };
        let element = (&view as &dyn Snapshot).element(self.world, thing).unwrap();
        let has = match element {
            None => Has::Nothing,
            Some(element) if element.home.is_some() => Has::Copies,
            Some(element) => {
                let glow = element.values.get("glow").and_then(Json::as_i64);
                assert_eq!(glow, Some(GLOW), "{}: {element:?}", self.setting.name);
                if element.rests.is_some() { Has::Rests } else { Has::Owns }
            }
        };
        let mut facts = Facts { has, transfers: Vec::new(), is_open: false };
        for change in laid.values() {
            if let Some(Row::Transfer(held)) = change {
                facts.transfers.push((held.role, held.state));
                facts.is_open |= held.state == TransferState::Offered && !held.things.is_empty();
            }
        }
        facts
    }

    /// Checks that everything of a move that a restart must find is in a store as it was put there.
    fn check_restarts(&self, states: &[Changes]) {
        for laid in states {
            let store = Store::open(Memory, Arc::new(|_: ServerId| Contact::default())).unwrap();
            store.commit(laid).unwrap();
            let view = store.view().unwrap();
            for (key, change) in laid.iter().filter(|(key, _)| !matches!(key, Key::Type(_))) {
                let read = Snapshot::row(&view, key).unwrap();
                assert_eq!(&read, change, "{}: {key:?}", self.setting.name);
            }
        }
    }
}

/// Rows, with no store around them.
struct Stored(Rows);

impl Stored {
    fn keep(&mut self, changes: Changes) {
        for (key, change) in changes {
            match change {
                Some(row) => self.0.insert(key, row),
                None => self.0.remove(&key),
            };
        }
    }
}

impl Snapshot for Stored {
    fn row(&self, key: &Key) -> Result<Option<Row>, Damaged> {
        Ok(self.0.get(key).cloned())
    }

    fn rows(&self, first: &Key, last: &Key, limit: usize) -> Result<Vec<(Key, Row)>, Damaged> {
        if first > last {
            return Ok(Vec::new());
        }
        let found = self.0.range(first..=last).take(limit);
        Ok(found.map(|(key, row)| (key.clone(), row.clone())).collect())
    }

    fn last_row(&self, first: &Key, last: &Key) -> Result<Option<(Key, Row)>, Damaged> {
        if first > last {
            return Ok(None);
        }
        let found = self.0.range(first..=last).next_back();
        Ok(found.map(|(key, row)| (key.clone(), row.clone())))
    }

    fn contact(&self, _server: ServerId) -> Contact {
        Contact::default()
    }

    fn position(&self, _account: AccountId) -> Option<Json> {
        None
    }
}

fn operator() -> Caller {
    Caller::Local { account: None, operator: true }
}

/// The id in the answer of a command that makes something.
fn id_in<T: DeserializeOwned>(answer: &Json) -> T {
    serde_json::from_value(answer["id"].clone()).unwrap()
}

/// What is moved: all of it may be seen by everyone.
const BALL: &str = r#"
name = "ball"

[attributes.glow]
kind = "integer"
default = 0
read = "public"
write = "public"
"#;
