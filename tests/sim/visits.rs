//! People in each other's worlds while servers come and go. Three nodes lose contact, part, fall and
//! start again, while people go in and out; whenever all is quiet, each of them must be in one place,
//! and in the right one.
//!
//! What is right is said by a plain model: whoever was told nothing is where they were, however often
//! their visit was broken off; whoever was told to go somewhere, and heard yes, is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use freehold::commands;
use freehold::model::{
    AccountId, Budget, Call, Caller, JobId, Json, Root, ServerId, Snapshot, Timestamp, Whereabouts,
    WorldId,
};
use freehold::script::Machine;
use freehold::store::View;
use serde_json::json;

use crate::dice::Dice;
use crate::genesis::{FOUNDERS, id_in, machine};
use crate::network::{Message, Network, Weather};
use crate::node::{Channel, Node, Planted, Process, Want, Work};
use crate::run::Narrates;
use crate::stage::GRACE_MS;
use crate::{Replay, THREADS, wanted};

/// Nodes.
const NODES: usize = 3;
/// Times that contact is lost in one run, at least.
const FLIPS: u64 = 250;
/// A run takes as long as so many of the other simulation: so many seeds there are one here.
const SEEDS_FOR_ONE: usize = 100;
/// Seeds of which one finds a planted fault.
const SEEDS_TO_FIND: u64 = 5;
/// When every run begins, in milliseconds since 1970: after its nodes were made.
const BEGUN_MS: u64 = 1_700_000_100_000;
/// How long it may take from contact until all is settled, in milliseconds.
const SETTLED_MAX_MS: u64 = 5_000;
/// How long it may take until everybody is in contact once nothing goes wrong any more.
const CONTACT_MAX_MS: u64 = 10_000;
/// How long a node may take to do what is due, in milliseconds.
const DONE_MAX_MS: u64 = 500;
/// How long people stay with a server that said that it goes, at most, in milliseconds.
const PARTED_MAX_MS: u64 = 1_000;
/// How long a server that was asked to let somebody in may still say that they are there.
const ASKED_MS: u64 = 600_000;
/// A deadline that has passed already is looked at again after this time, in milliseconds.
const OVERDUE_AGAIN_MS: u64 = 25;
/// The worlds of each node, all of them alice's; by name the first one comes first.
const WORLDS: [&str; 2] = ["alice/garden", "alice/yard"];

#[test]
fn everybody_is_in_one_place_however_often_servers_come_and_go() {
    let (seeds, narrates) = wanted();
    let seeds = &seeds[..seeds.len().div_ceil(SEEDS_FOR_ONE)];

    let failures = failures(seeds, narrates);

    assert!(
        failures.is_empty(),
        "{} of {} seeds fail; the first ones:\n{}",
        failures.len(),
        seeds.len(),
        failures.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn visits_that_nobody_takes_up_again_make_the_simulation_fail() {
    assert_is_found(Planted::ForgetsWhoIsBack);
}

#[test]
fn people_who_get_no_grace_make_the_simulation_fail() {
    assert_is_found(Planted::NoGrace);
}

/// Runs every seed, and prints how it went. What failed, by thread and seed.
fn failures(seeds: &[u64], narrates: Narrates) -> Vec<String> {
    let work = |thread: usize| {
        let machines = machines();
        let mut failures = Vec::new();
        for seed in seeds.iter().skip(thread).step_by(THREADS) {
            let replay = Replay(*seed);
            let result = run(*seed, Planted::Nothing, &machines, narrates);
            drop(replay);
            match result {
                Ok(summary) => println!("{summary}"),
                Err(says) => {
                    println!("{says}");
                    failures.push(says);
                }
            }
        }
        failures
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Asserts that a planted fault makes a run fail.
fn assert_is_found(planted: Planted) {
    let machines = machines();

    let found =
        (1..=SEEDS_TO_FIND).find_map(|seed| run(seed, planted, &machines, Narrates::Nothing).err());

    match found {
        Some(says) => println!("{planted:?} is found: {says}"),
        None => panic!("{SEEDS_TO_FIND} seeds do not find {planted:?}"),
    }
}

fn machines() -> Vec<Machine> {
    (0..NODES).map(|_| machine()).collect()
}

/// Runs one seed. What it gives back as an error is where nodes and model disagree.
fn run(
    seed: u64,
    planted: Planted,
    machines: &[Machine],
    narrates: Narrates,
) -> Result<String, String> {
    let mut village = Village::new(seed, planted, machines, narrates);
    let ended = village.play();
    ended.map_err(|says| {
        format!("SEED={seed}, after {} ms and {} flips: {says}", village.now, village.flips)
    })?;
    Ok(village.summary(seed))
}

/// Where an avatar is: in a world of a node; none: in no world.
type Spot = Option<(usize, WorldId)>;

fn shown(spot: Spot) -> String {
    spot.map_or_else(|| "nowhere".to_owned(), |(at, world)| format!("n{} {world}", at + 1))
}

fn said<E: fmt::Display>(error: E) -> String {
    error.to_string()
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// Where the answer to somebody who goes somewhere says that they are.
fn spot_in(answer: &Json) -> Result<Spot, String> {
    if answer["world"].is_null() {
        return Ok(None);
    }
    let world = serde_json::from_value(answer["world"].clone()).map_err(said)?;
    let server = answer["server"].as_str().unwrap_or_default();
    let at = (0..NODES).find(|at| server == format!("n{}", at + 1));
    Ok(Some((at.ok_or_else(|| format!("an answer is of no server here: {answer}"))?, world)))
}

/// What happens, to whom.
#[derive(Clone, Debug)]
enum Event {
    /// Somebody tells their avatar where to go.
    Called(usize),
    /// Nothing passes between two nodes for some time.
    Lost { a: usize, b: usize, ms: u64 },
    /// What was lost between two nodes may be there again.
    Found { a: usize, b: usize },
    /// A node ends, and is started again after some time.
    Ended { at: usize, how: Ending, ms: u64 },
    /// A node starts.
    Started(usize),
    /// A node does one thing.
    Worked(usize),
    /// A deadline of a node has come.
    Ticked(usize),
    /// A node reached another, or did not.
    Dialled { from: usize, to: usize, life: u64 },
    /// Two nodes meet, whoever of them dialled.
    Met { a: usize, b: usize },
    /// A node notices that a connection is open.
    Opened { at: usize, peer: usize, connection: u64 },
    /// A node notices that a connection has ended.
    Closed { at: usize, peer: usize, connection: u64 },
    /// A batch arrives.
    Requested(Message),
    /// An answer arrives.
    Responded(Message),
    /// It is looked whether nobody stayed with a server that said that it goes.
    Checked(Parted),
}

impl Event {
    /// Whether it was decided beforehand: while there is such a one, it is not quiet.
    const fn is_planned(&self) -> bool {
        matches!(
            self,
            Self::Called(_)
                | Self::Lost { .. }
                | Self::Found { .. }
                | Self::Ended { .. }
                | Self::Started(_)
        )
    }
}

/// How a node ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// It says so first.
    Announced,
    /// Its process is killed.
    Killed,
    /// Its power is cut.
    Cut,
}

/// A node that heard another say that it goes.
#[derive(Clone, Copy, Debug)]
struct Parted {
    at: usize,
    gone: usize,
    /// The processes of both at that time.
    lives: [u64; 2],
    since: u64,
}

/// Something that somebody was told to do.
struct Order {
    job: JobId,
    /// Whether it was to leave.
    leaves: bool,
    /// Where they were from then on, until the next order.
    seen: Vec<Spot>,
}

/// Somebody with an avatar.
struct Person {
    name: String,
    home: usize,
    account: AccountId,
    /// Where they were when it was quiet last.
    rested: Spot,
    /// Where their home says that they are, and since when.
    place: (Spot, Timestamp),
    /// In which world of each other node they are.
    guest: [Option<WorldId>; NODES],
    /// What they were told since it was quiet.
    orders: Vec<Order>,
    /// What they wait for.
    waits: Option<JobId>,
    /// Every change of where they are since it was quiet.
    moves: Vec<String>,
}

/// What one node has stored of somebody.
struct Sight {
    place: (Spot, Timestamp),
    is_broken_off: bool,
    guest: Option<WorldId>,
}

/// Three nodes, and who goes from one to the other.
struct Village<'m> {
    narrates: Narrates,
    dice: Dice,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    counted: u64,
    /// Planned events that have not happened, and when the last one did.
    planned: u64,
    planned_at: u64,
    nodes: Vec<Node<'m>>,
    /// The worlds of each node.
    worlds: Vec<Vec<WorldId>>,
    people: Vec<Person>,
    /// Nodes that are about to do something.
    working: [bool; NODES],
    /// When each node looks at its deadlines next.
    ticks_at: [Option<u64>; NODES],
    network: Network,
    /// Until when nothing passes between two nodes, and since when.
    down: BTreeMap<(usize, usize), (u64, u64)>,
    /// Since when a node knows that it has lost another.
    lost: BTreeMap<(usize, usize), u64>,
    /// When something happened last that lets people move.
    stirred_at: u64,
    /// When it was quiet last.
    rested_at: u64,
    /// The longest time since then that a node had lost another.
    outages: BTreeMap<(usize, usize), u64>,
    /// Nodes that ended since then.
    ended: BTreeSet<usize>,
    flips: u64,
    called: u64,
    /// Visits that were broken off and went on.
    resumed: u64,
    /// Visits that a short loss of contact left alone.
    undisturbed: u64,
}

impl<'m> Village<'m> {
    fn new(seed: u64, planted: Planted, machines: &'m [Machine], narrates: Narrates) -> Self {
        let mut nodes: Vec<Node<'m>> = machines
            .iter()
            .enumerate()
            .map(|(number, machine)| Node::new(number, machine, planted))
            .collect();
        nodes.iter_mut().for_each(Node::keep_visits);
        Self {
            narrates,
            dice: Dice::new(seed),
            now: 0,
            events: BTreeMap::new(),
            counted: 0,
            planned: 0,
            planned_at: 0,
            nodes,
            worlds: Vec::new(),
            people: Vec::new(),
            working: [false; NODES],
            ticks_at: [None; NODES],
            network: Network::new(Weather::CALM),
            down: BTreeMap::new(),
            lost: BTreeMap::new(),
            stirred_at: 0,
            rested_at: 0,
            outages: BTreeMap::new(),
            ended: BTreeSet::new(),
            flips: 0,
            called: 0,
            resumed: 0,
            undisturbed: 0,
        }
    }

    fn summary(&self, seed: u64) -> String {
        let Self { flips, called, resumed, undisturbed, .. } = self;
        format!(
            "seed {seed}: flips {flips}, calls {called}, visits that went on {resumed}, \
             that were left alone {undisturbed}"
        )
    }

    /// Tells what happens, where somebody wants to know.
    fn say(&self, what: &dyn fmt::Debug) {
        if self.narrates == Narrates::Everything {
            println!("{:>8} {what:?}", self.now);
        }
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_ms(BEGUN_MS + self.now)
    }

    fn later(&mut self, delay_ms: u64, event: Event) {
        self.counted += 1;
        self.planned += u64::from(event.is_planned());
        self.events.insert((self.now + delay_ms, self.counted), event);
    }

    fn number_of(&self, server: ServerId) -> usize {
        self.nodes.iter().position(|node| node.server() == server).unwrap()
    }

    fn play(&mut self) -> Result<(), String> {
        for at in 0..NODES {
            self.found(at)?;
        }
        for at in 0..NODES {
            self.meet_later(at);
        }
        self.settle()?;
        self.check()?;
        while self.flips < FLIPS {
            self.plan();
            self.settle()?;
            self.check()?;
        }
        if self.resumed == 0 || self.undisturbed == 0 {
            return Err(format!("too little happened: {}", self.summary(0)));
        }
        Ok(())
    }

    /// Starts a node for the first time, and makes what is missing there.
    fn found(&mut self, at: usize) -> Result<(), String> {
        let now = self.clock();
        self.nodes[at].start(now)?;
        let yard = self.make(at, "world.add", json!({"name": WORLDS[1]}))?;
        self.worlds.push(vec![FOUNDERS[at].world, id_in(&yard)]);
        self.people.push(person("alice", at, FOUNDERS[at].account));
        if at == 0 {
            // Bob has no world of his own to come home to.
            let bob = self.make(at, "account.add", json!({"name": "bob"}))?;
            self.people.push(person("bob", at, id_in(&bob)));
        }
        Ok(())
    }

    /// Lets the operator of a node make something, before there is a network.
    fn make(&mut self, at: usize, command: &str, args: Json) -> Result<Json, String> {
        let caller = Caller::Local { account: None, operator: true };
        let call = self.call_of(caller, command, args, 1_000);
        let (id, now) = (call.id, self.clock());
        let process = self.nodes[at].process.as_mut().ok_or("a node does not run")?;
        process.called(call);
        while let Some(work) = process.works(now).last().copied() {
            process.work(now, work)?;
        }
        let ended = std::mem::take(&mut process.wants).into_iter().find_map(|want| match want {
            Want::End(job, result) if job == id => Some(result),
            _ => None,
        });
        let result = ended.ok_or_else(|| format!("{command} has not ended"))?;
        result.map_err(|problem| format!("{command}: {problem:?}"))
    }

    fn call_of(&mut self, caller: Caller, command: &str, args: Json, patience_ms: u64) -> Call {
        let now = self.clock();
        let id = JobId::at(now, self.dice.bytes());
        Call {
            id,
            command: command.to_owned(),
            caller,
            args,
            world: None,
            meta: Json::Null,
            reply_to: None,
            deadline_at: now.after_ms(patience_ms),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        }
    }

    // What is going to happen.

    /// Decides what goes wrong until it is quiet again, and when people move meanwhile.
    fn plan(&mut self) {
        let window = self.dice.one_of(&[200, 3_000, 10_000]);
        let only_short = self.dice.chance(250);
        for _ in 0..self.dice.between(1, 5) {
            let delay = self.dice.below(window);
            self.plan_flip(delay, only_short);
        }
        if self.dice.chance(550) {
            for _ in 0..self.dice.between(1, 6) {
                let delay = self.dice.below(window + 2_000);
                let person = self.dice.index(self.people.len());
                self.later(delay, Event::Called(person));
            }
        }
    }

    fn plan_flip(&mut self, delay: u64, only_short: bool) {
        let (a, b) = self.two();
        let ms = if only_short { self.dice.between(20, 3_000) } else { self.outage() };
        match self.dice.below(10) {
            0 => {
                for other in (0..NODES).filter(|other| *other != a) {
                    self.later(delay, Event::Lost { a, b: other, ms });
                }
            }
            1 | 2 => {
                // Out and in, so that what contact begins is broken off at any moment.
                let mut at = delay;
                for _ in 0..self.dice.between(2, 4) {
                    let short = self.dice.between(5, 150);
                    self.later(at, Event::Lost { a, b, ms: short });
                    at += short + self.dice.between(5, 200);
                }
                self.later(at, Event::Lost { a, b, ms });
            }
            3..=5 if !only_short => {
                let how = self.dice.one_of(&[Ending::Announced, Ending::Killed, Ending::Cut]);
                self.later(delay, Event::Ended { at: a, how, ms: ms.max(50) });
            }
            _ => self.later(delay, Event::Lost { a, b, ms }),
        }
    }

    fn outage(&mut self) -> u64 {
        match self.dice.below(100) {
            0..=39 => self.dice.between(20, 3_500),
            40..=59 => self.dice.between(GRACE_MS - 700, GRACE_MS + 700),
            60..=96 => self.dice.between(6_000, 30_000),
            _ => self.dice.between(ASKED_MS + 10_000, ASKED_MS + 300_000),
        }
    }

    fn two(&mut self) -> (usize, usize) {
        let a = self.dice.index(NODES);
        (a, (a + 1 + self.dice.index(NODES - 1)) % NODES)
    }

    // What happens.

    /// Lets everything happen that is planned, and then some time pass in which all have contact.
    fn settle(&mut self) -> Result<(), String> {
        while self.planned > 0 || !self.are_in_contact() {
            if self.planned == 0 && self.now > self.planned_at + CONTACT_MAX_MS {
                return Err("they do not find each other".to_owned());
            }
            self.happen_next()?;
        }
        let until = self.now + SETTLED_MAX_MS;
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.happen_next()?;
        }
        self.now = until;
        Ok(())
    }

    fn are_in_contact(&self) -> bool {
        let mut pairs = (0..NODES).flat_map(|a| (a + 1..NODES).map(move |b| (a, b)));
        pairs.all(|(a, b)| {
            let connection = self.network.connection(a, b);
            connection.is_some()
                && self.network.noticed(a, b) == connection
                && self.network.noticed(b, a) == connection
        })
    }

    fn happen_next(&mut self) -> Result<(), String> {
        let ((at, _), event) = self.events.pop_first().ok_or("nothing happens any more")?;
        self.now = at;
        self.say(&event);
        if event.is_planned() {
            self.planned -= 1;
            self.planned_at = at;
        }
        self.happen(event)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Called(person) => self.call(person),
            Event::Lost { a, b, ms } => {
                self.lose(a, b, ms);
                Ok(())
            }
            Event::Found { a, b } => {
                self.find(a, b);
                Ok(())
            }
            Event::Ended { at, how, ms } => self.end(at, how, ms),
            Event::Started(at) => self.start(at),
            Event::Worked(at) => {
                self.working[at] = false;
                self.work(at)
            }
            Event::Ticked(at) if self.ticks_at[at] == Some(self.now) => {
                self.ticks_at[at] = None;
                self.let_do(at, |process, now| {
                    process.tick(now);
                    Ok(())
                })
            }
            Event::Ticked(_) => Ok(()),
            Event::Dialled { from, to, life } => self.dialled(from, to, life),
            Event::Met { a, b } => self.meet(a, b),
            Event::Opened { at, peer, connection } => {
                if self.network.connection(at, peer) == Some(connection) {
                    return self.opened(at, peer, connection);
                }
                Ok(())
            }
            Event::Closed { at, peer, connection } => self.closed(at, peer, connection),
            Event::Requested(message) => self.requested(message),
            Event::Responded(message) => self.responded(message),
            Event::Checked(parted) => self.check_parted(parted),
        }
    }

    // The nodes.

    /// Lets the process of a node do something, if it runs, and carries out what it wants then.
    fn let_do(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Process<'m>, Timestamp) -> Result<(), String>,
    ) -> Result<(), String> {
        let now = self.clock();
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        act(process, now)?;
        if let Some(trouble) = process.troubles.pop() {
            return Err(format!("n{}: {trouble}", at + 1));
        }
        let is_changed = std::mem::take(&mut process.people_changed);
        for want in std::mem::take(&mut process.wants) {
            self.carry_out(at, want);
        }
        if is_changed {
            self.observe(at)?;
        }
        self.wake(at);
        Ok(())
    }

    fn carry_out(&mut self, at: usize, want: Want) {
        self.say(&want);
        match want {
            Want::Dial(server) => {
                let to = self.number_of(server);
                let life = self.nodes[at].life;
                let delay = self.dice.between(2, 40);
                self.later(delay, Event::Dialled { from: at, to, life });
            }
            Want::Send { to, batch, bytes } => {
                let to = self.number_of(to);
                if let Some(connection) = self.network.noticed(at, to) {
                    let message = Message { from: at, to, connection, batch, bytes };
                    self.send(message, Event::Requested);
                }
            }
            Want::Respond { channel, bytes } => {
                let Channel { peer, connection, batch } = channel;
                let message = Message { from: at, to: peer, connection, batch, bytes };
                self.send(message, Event::Responded);
            }
            Want::Started(_) => {}
            Want::End(job, _) => {
                // They may go on, also where the outcome is not known yet.
                for person in self.people.iter_mut().filter(|held| held.waits == Some(job)) {
                    person.waits = None;
                }
            }
        }
    }

    /// Sees to it that a node goes on with what it can do, and looks at its deadlines in time.
    fn wake(&mut self, at: usize) {
        let now = self.clock();
        let Some(process) = &self.nodes[at].process else { return };
        let (works, deadline) = (process.works(now), process.deadline());
        if !self.working[at] && !works.is_empty() {
            self.working[at] = true;
            // A turn gathers what comes within a few milliseconds.
            let only_turns = works == [Work::Turn];
            let delay = if only_turns { self.dice.between(1, 10) } else { self.dice.below(3) };
            self.later(delay, Event::Worked(at));
        }
        let Some(deadline) = deadline else { return };
        let due = match deadline.ms_since(now) {
            0 => self.now + OVERDUE_AGAIN_MS,
            ms => self.now + ms,
        };
        if self.ticks_at[at].is_none_or(|tick| tick > due) {
            self.ticks_at[at] = Some(due);
            self.later(due - self.now, Event::Ticked(at));
        }
    }

    fn work(&mut self, at: usize) -> Result<(), String> {
        let now = self.clock();
        let Some(process) = &self.nodes[at].process else { return Ok(()) };
        let works = process.works(now);
        if works.is_empty() {
            return Ok(());
        }
        let work = self.dice.one_of(&works);
        self.let_do(at, |process, now| process.work(now, work))
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
        let now = self.clock();
        self.nodes[at].start(now)?;
        self.stirred_at = self.now;
        self.meet_later(at);
        self.let_do(at, |_, _| Ok(()))
    }

    fn end(&mut self, at: usize, how: Ending, ms: u64) -> Result<(), String> {
        if self.nodes[at].process.is_none() {
            return Ok(());
        }
        self.flips += 1;
        self.ended.insert(at);
        let told = if how == Ending::Announced { self.part(at) } else { BTreeSet::new() };
        match how {
            Ending::Announced | Ending::Killed => self.nodes[at].disk.kill(),
            Ending::Cut => self.nodes[at].disk.cut(&mut self.dice),
        }
        self.nodes[at].process = None;
        self.ticks_at[at] = None;
        self.lost.retain(|(node, _), _| *node != at);
        for peer in (0..NODES).filter(|peer| *peer != at) {
            self.network.forget(at, peer);
            if let Some(connection) = self.network.disconnect(at, peer) {
                let delay = if how == Ending::Announced {
                    self.dice.between(20, 100)
                } else {
                    self.noticing()
                };
                self.later(delay, Event::Closed { at: peer, peer: at, connection });
            }
        }
        // Whoever waited there hears nothing any more.
        for person in self.people.iter_mut().filter(|person| person.home == at) {
            person.waits = None;
        }
        for peer in told {
            let lives = [self.nodes[peer].life, self.nodes[at].life];
            let parted = Parted { at: peer, gone: at, lives, since: self.now };
            self.later(PARTED_MAX_MS, Event::Checked(parted));
        }
        self.later(ms, Event::Started(at));
        Ok(())
    }

    /// Lets a node say that it goes, and gives back who will hear it, and is quiet by then.
    fn part(&mut self, at: usize) -> BTreeSet<usize> {
        let now = self.clock();
        let mut told = BTreeSet::new();
        let Some(process) = &mut self.nodes[at].process else { return told };
        process.part(now);
        for want in std::mem::take(&mut process.wants) {
            if let Want::Send { to, .. } = &want {
                let to = self.number_of(*to);
                let connection = self.network.connection(at, to);
                let is_heard = connection.is_some()
                    && self.network.noticed(at, to) == connection
                    && self.network.noticed(to, at) == connection;
                if is_heard && self.now >= self.stirred_at + PARTED_MAX_MS {
                    told.insert(to);
                }
            }
            self.carry_out(at, want);
        }
        told
    }

    // What people do.

    fn call(&mut self, index: usize) -> Result<(), String> {
        let Person { home, account, waits, .. } = &self.people[index];
        let (home, account) = (*home, *account);
        if waits.is_some() || self.nodes[home].process.is_none() {
            return Ok(());
        }
        let world = self.dice.one_of(&WORLDS);
        let (command, args) = match self.dice.below(10) {
            0 => ("world.leave", json!({})),
            1 => ("world.leave", json!({"own": true})),
            2 | 3 => ("world.enter", json!({"world": world})),
            _ => {
                let there = (home + 1 + self.dice.index(NODES - 1)) % NODES;
                let name = world.replace('/', &format!("@n{}/", there + 1));
                ("world.enter", json!({"world": name}))
            }
        };
        let caller = Caller::Local { account: Some(account), operator: false };
        let patience_ms = self.dice.between(1_000, 40_000);
        let call = self.call_of(caller, command, args, patience_ms);
        self.say(&(&self.people[index].name, command, &call.args));
        let leaves = command == "world.leave";
        let person = &mut self.people[index];
        person.waits = Some(call.id);
        person.orders.push(Order { job: call.id, leaves, seen: Vec::new() });
        self.called += 1;
        self.stirred_at = self.now;
        self.let_do(home, |process, _| {
            process.called(call);
            Ok(())
        })
    }

    // The network.

    /// How long it takes until the loss of a connection is noticed.
    fn noticing(&mut self) -> u64 {
        if self.dice.chance(300) { self.dice.below(1_500) } else { self.dice.below(40) }
    }

    /// Lets a message travel, if it does.
    fn send(&mut self, message: Message, arrived: fn(Message) -> Event) {
        let (from, to) = (message.from, message.to);
        let is_open = self.network.connection(from, to) == Some(message.connection);
        if is_open && !self.network.is_blocked(from, to) {
            let delay = self.dice.between(1, 12);
            self.later(delay, arrived(message));
        }
    }

    fn requested(&mut self, message: Message) -> Result<(), String> {
        let Message { from, to, connection, batch, bytes } = message;
        if self.network.is_blocked(from, to) {
            return Ok(());
        }
        if self.network.connection(from, to) == Some(connection) {
            self.opened(to, from, connection)?;
        } else if self.network.noticed(to, from) != Some(connection) {
            return Ok(());
        }
        let server = self.nodes[from].server();
        let channel = Channel { peer: from, connection, batch };
        self.let_do(to, |process, now| process.requested(now, server, channel, &bytes))
    }

    fn responded(&mut self, message: Message) -> Result<(), String> {
        let Message { from, to, connection, batch, bytes } = message;
        let is_heard = self.network.noticed(to, from) == Some(connection);
        if !is_heard || self.network.is_blocked(from, to) {
            return Ok(());
        }
        let server = self.nodes[from].server();
        self.let_do(to, |process, now| process.responded(now, server, batch, &bytes))
    }

    fn lose(&mut self, a: usize, b: usize, ms: u64) {
        self.flips += u64::from(!self.network.is_blocked(a, b));
        let (until, since) = self.down.entry(pair(a, b)).or_default();
        *until = (*until).max(self.now + ms);
        *since = self.now;
        self.network.block(a, b);
        if let Some(connection) = self.network.disconnect(a, b) {
            for (at, peer) in [(a, b), (b, a)] {
                let delay = self.noticing();
                self.later(delay, Event::Closed { at, peer, connection });
            }
        }
        self.later(ms, Event::Found { a, b });
    }

    fn find(&mut self, a: usize, b: usize) {
        let is_over = self.down.get(&pair(a, b)).is_none_or(|(until, _)| *until <= self.now);
        if is_over {
            self.network.unblock(a, b);
            let delay = self.dice.between(1, 50);
            self.later(delay, Event::Met { a, b });
        }
    }

    fn meet_later(&mut self, at: usize) {
        for peer in (0..NODES).filter(|peer| *peer != at) {
            let delay = self.dice.between(1, 50);
            self.later(delay, Event::Met { a: at, b: peer });
        }
    }

    /// Whether two nodes could connect, and are not.
    fn can_meet(&self, a: usize, b: usize) -> bool {
        let run = |at: usize| self.nodes[at].process.is_some();
        let is_open = self.network.connection(a, b).is_some();
        run(a) && run(b) && !is_open && !self.network.is_blocked(a, b)
    }

    fn meet(&mut self, a: usize, b: usize) -> Result<(), String> {
        if self.can_meet(a, b) { self.connect(a, b) } else { Ok(()) }
    }

    fn dialled(&mut self, from: usize, to: usize, life: u64) -> Result<(), String> {
        if self.nodes[from].life != life || self.nodes[from].process.is_none() {
            return Ok(());
        }
        if let Some(connection) = self.network.connection(from, to) {
            return self.opened(from, to, connection);
        }
        if self.can_meet(from, to) {
            return self.connect(from, to);
        }
        let server = self.nodes[to].server();
        self.let_do(from, |process, now| {
            process.dial_failed(now, server);
            Ok(())
        })
    }

    fn connect(&mut self, from: usize, to: usize) -> Result<(), String> {
        let connection = self.network.connect(from, to);
        let delay = self.dice.below(10);
        self.later(delay, Event::Opened { at: to, peer: from, connection });
        self.opened(from, to, connection)
    }

    /// A node notices a connection, and so the end of the one before it.
    fn opened(&mut self, at: usize, peer: usize, connection: u64) -> Result<(), String> {
        match self.network.noticed(at, peer) {
            Some(noticed) if noticed == connection => return Ok(()),
            Some(before) => self.closed(at, peer, before)?,
            None => {}
        }
        if self.nodes[at].process.is_none() {
            return Ok(());
        }
        self.network.notice(at, peer, connection);
        self.stirred_at = self.now;
        if let Some(since) = self.lost.remove(&(at, peer)) {
            let ms = self.now - since;
            let longest = self.outages.entry((at, peer)).or_default();
            *longest = (*longest).max(ms);
            if ms >= GRACE_MS + DONE_MAX_MS {
                self.check_nobody_left(at, peer)?;
            }
        }
        let server = self.nodes[peer].server();
        self.let_do(at, |process, now| {
            process.connected(now, server);
            Ok(())
        })
    }

    fn closed(&mut self, at: usize, peer: usize, connection: u64) -> Result<(), String> {
        if self.network.noticed(at, peer) != Some(connection) {
            return Ok(());
        }
        self.network.forget(at, peer);
        self.lost.insert((at, peer), self.now);
        let server = self.nodes[peer].server();
        self.let_do(at, |process, now| {
            process.disconnected(now, peer, server);
            Ok(())
        })
    }

    // What is seen.

    fn view(&self, at: usize) -> Result<View, String> {
        self.nodes[at].process.as_ref().ok_or("a node does not run")?.state()
    }

    /// What a node has stored of somebody. Their avatar must stand where its rows say.
    fn sight(&self, view: &View, at: usize, person: &Person) -> Result<Sight, String> {
        let stored: &dyn Snapshot = view;
        let presence = stored.presence(person.account).map_err(said)?;
        let guest = stored.guest(person.account).map_err(said)?;
        let spot = match presence.as_ref().map(|held| &held.place) {
            None | Some(Whereabouts::Nowhere) => None,
            Some(Whereabouts::Here(world)) => Some((at, *world)),
            Some(Whereabouts::There { server, world, .. }) => {
                Some((self.number_of(*server), *world))
            }
        };
        let is_home = at == person.home;
        let named = format!("{} at n{}", person.name, at + 1);
        let home = self.nodes[person.home].server();
        if guest.as_ref().is_some_and(|held| is_home || held.home != home) {
            return Err(format!("{named}: a guest of somebody who is at home elsewhere"));
        }
        if !is_home && presence.is_some() {
            return Err(format!("{named}: a place of somebody who is at home elsewhere"));
        }
        let guest = guest.map(|held| held.world);
        let here = spot.filter(|(node, _)| *node == at).map(|(_, world)| world).or(guest);
        let mut stands = Vec::new();
        for world in &self.worlds[at] {
            let avatar = stored.element(*world, person.account.avatar()).map_err(said)?;
            stands.extend(avatar.map(|_| *world));
        }
        if stands != here.into_iter().collect::<Vec<_>>() {
            return Err(format!("{named}: the rows say {here:?}, and the avatar is in {stands:?}"));
        }
        Ok(Sight {
            place: (spot, presence.as_ref().map_or_else(Timestamp::default, |held| held.since)),
            is_broken_off: presence.is_some_and(|held| held.returns.is_some()),
            guest,
        })
    }

    /// Looks who has moved, as far as a node can tell.
    fn observe(&mut self, at: usize) -> Result<(), String> {
        let view = self.view(at)?;
        for index in 0..self.people.len() {
            let sight = self.sight(&view, at, &self.people[index])?;
            let now = self.now;
            let person = &mut self.people[index];
            if at == person.home && sight.place != person.place {
                let (before, after) = (shown(person.place.0), shown(sight.place.0));
                person.moves.push(format!("{now} ms: from {before} to {after}"));
                person.place = sight.place;
                if let Some(order) = person.orders.last_mut() {
                    order.seen.push(sight.place.0);
                }
            }
            if sight.guest != person.guest[at] {
                let guest = sight.guest.map(|world| (at, world));
                person.moves.push(format!("{now} ms: at n{} a guest {}", at + 1, shown(guest)));
                person.guest[at] = sight.guest;
            }
        }
        Ok(())
    }

    /// Checks that a node has taken its people home from another one, and let those of it go.
    fn check_nobody_left(&self, at: usize, gone: usize) -> Result<(), String> {
        let view = self.view(at)?;
        for person in &self.people {
            let sight = self.sight(&view, at, person)?;
            let is_there = sight.place.0.is_some_and(|(node, _)| node == gone);
            if is_there || (person.home == gone && sight.guest.is_some()) {
                return Err(format!(
                    "n{} had lost n{}, and still says that {} is there: {:?}",
                    at + 1,
                    gone + 1,
                    person.name,
                    person.moves
                ));
            }
        }
        Ok(())
    }

    fn check_parted(&self, parted: Parted) -> Result<(), String> {
        let Parted { at, gone, lives, since } = parted;
        let is_lost = self.down.get(&pair(at, gone)).is_some_and(|(_, lost_at)| *lost_at >= since);
        let is_back = lives != [self.nodes[at].life, self.nodes[gone].life];
        if is_lost || is_back || self.nodes[at].process.is_none() {
            return Ok(());
        }
        self.check_nobody_left(at, gone)
    }

    // The model's opinion.

    /// Compares everything now that it is quiet.
    fn check(&mut self) -> Result<(), String> {
        let now = self.clock();
        for at in 0..NODES {
            let process = self.nodes[at].process.as_ref().ok_or("a node does not run")?;
            if let Some(unrest) = process.unrest(now)? {
                return Err(format!("n{}: it does not settle: {unrest}", at + 1));
            }
        }
        for index in 0..self.people.len() {
            self.check_person(index)?;
        }
        self.rested_at = self.now;
        self.outages.clear();
        self.ended.clear();
        Ok(())
    }

    fn check_person(&mut self, index: usize) -> Result<(), String> {
        let person = &self.people[index];
        let wrong = |what: &str| {
            let Person { name, rested, moves, orders, .. } = person;
            let orders: Vec<JobId> = orders.iter().map(|order| order.job).collect();
            format!("{name} was {}; told {orders:?}; moved {moves:?}; {what}", shown(*rested))
        };
        let home = self.sight(&self.view(person.home)?, person.home, person)?;
        let spot = home.place.0;
        for at in (0..NODES).filter(|at| *at != person.home) {
            let guest = self.sight(&self.view(at)?, at, person)?.guest;
            if guest != spot.filter(|(node, _)| *node == at).map(|(_, world)| world) {
                let guest = shown(guest.map(|world| (at, world)));
                let says = format!("home says {}, and n{} {guest}", shown(spot), at + 1);
                return Err(wrong(&says));
            }
        }
        if home.is_broken_off {
            return Err(wrong("a visit is broken off though its host is there"));
        }
        let may = self.may_be(person)?;
        if !may.contains(&spot) {
            let may: Vec<String> = may.into_iter().map(shown).collect();
            return Err(wrong(&format!("is {}, and should be {may:?}", shown(spot))));
        }
        let is_visit = person.orders.is_empty() && spot.is_some_and(|(at, _)| at != person.home);
        let is_left_alone = self.is_left_alone(person);
        if is_left_alone && !person.moves.is_empty() {
            return Err(wrong("nothing was to move them"));
        }
        let is_moved = !person.moves.is_empty();
        let is_flapped = spot.is_some_and(|(at, _)| self.outages.contains_key(&(person.home, at)));
        self.resumed += u64::from(is_visit && is_moved);
        self.undisturbed += u64::from(is_visit && is_left_alone && is_flapped);
        let person = &mut self.people[index];
        person.rested = spot;
        person.orders.clear();
        person.moves.clear();
        Ok(())
    }

    /// Whether nothing happened since it was quiet that moves somebody.
    fn is_left_alone(&self, person: &Person) -> bool {
        if !person.orders.is_empty() {
            return false;
        }
        let home = person.home;
        match person.rested {
            None => true,
            Some((at, _)) if at == home => true,
            Some((at, _)) => {
                let is_short = |of: (usize, usize)| {
                    self.outages.get(&of).is_none_or(|longest| *longest < GRACE_MS)
                };
                let has_ended = self.ended.contains(&home) || self.ended.contains(&at);
                is_short((home, at)) && is_short((at, home)) && !has_ended
            }
        }
    }

    /// Where somebody may be by what they were told since it was quiet, and what came of it.
    fn may_be(&self, person: &Person) -> Result<BTreeSet<Spot>, String> {
        let view = self.view(person.home)?;
        // A yes that comes too late counts for nothing.
        let is_long = self.now - self.rested_at >= ASKED_MS;
        let mut may = BTreeSet::from([person.rested]);
        for (number, order) in person.orders.iter().enumerate() {
            // What was never taken has no job.
            let Some(job) = commands::find_job(&view, order.job).map_err(said)? else { continue };
            let result = job.result().ok_or_else(|| format!("{} has not ended", order.job))?;
            if order.leaves {
                may = BTreeSet::from([None]);
            }
            let Ok(answer) = result else { continue };
            let spot = spot_in(&answer)?;
            let is_done_at_once = spot.is_none_or(|(at, _)| at == person.home);
            // Who was told something else before they had arrived may have been called back.
            let is_last = number + 1 == person.orders.len() && !is_long;
            if is_done_at_once || is_last || order.seen.contains(&spot) {
                may.clear();
            }
            may.insert(spot);
        }
        Ok(may)
    }
}

/// Somebody who has not been anywhere.
fn person(name: &str, home: usize, account: AccountId) -> Person {
    Person {
        name: format!("{name}@n{}", home + 1),
        home,
        account,
        rested: None,
        place: (None, Timestamp::default()),
        guest: [None; NODES],
        orders: Vec::new(),
        waits: None,
        moves: Vec::new(),
    }
}
