//! One run: a topology, what people do, and what goes wrong, all from one seed. Then everything is
//! healed, must come to rest, and must be what the model says.

use std::collections::BTreeMap;
use std::fmt;

use freehold::model::{Budget, Call, JobId, Json, Root, ServerId, Timestamp};
use freehold::script::Machine;
use serde_json::json;

use crate::dice::Dice;
use crate::genesis::{THINGS, name_here, name_there};
use crate::model::{Model, Tally, Thing, Wish};
use crate::network::{Message, Network, Weather};
use crate::node::{Channel, Node, Planted, Process, Want, Work};

/// When every run begins, in milliseconds since 1970: after its nodes were made.
const BEGUN_MS: u64 = 1_700_000_100_000;
/// How long people call and things go wrong, in milliseconds.
const BUSY_MS: u64 = 12_000;
/// When everything is healed, in milliseconds.
const HEALED_MS: u64 = BUSY_MS + 2_000;
/// How long it may then take until all is settled, where everybody meets everybody anew.
const SETTLED_MAX_MS: u64 = 30_000;
/// The same where only timers help: the longest pause, the longest silence, and a little more.
const SETTLED_BY_TIMERS_MAX_MS: u64 = 120_000;
/// How long messages from before are waited for, in milliseconds.
const LATE_MAX_MS: u64 = 4_000;
/// The time between two comparisons, in milliseconds.
const COMPARED_EVERY_MS: u64 = 2_500;
/// The time between two looks whether all is at rest, in milliseconds.
const LOOKED_EVERY_MS: u64 = 500;
/// A deadline that has passed already is looked at again after this time, in milliseconds.
const OVERDUE_AGAIN_MS: u64 = 25;
/// Times that nodes fall in one run, at most.
const FALLS_MAX: u64 = 6;

/// What happens, to whom.
#[derive(Clone, Debug)]
enum Event {
    /// So many people at a node call something.
    Called { at: usize, many: u64 },
    /// A node does one thing.
    Worked(usize),
    /// A deadline of a node has come.
    Ticked(usize),
    /// A node starts.
    Started(usize),
    /// A node reached another, or did not.
    Dialled { from: usize, to: usize, life: u64 },
    /// A node notices that a connection is open.
    Opened { at: usize, peer: usize, connection: u64 },
    /// A node notices that a connection has ended.
    Closed { at: usize, peer: usize, connection: u64 },
    /// A batch arrives.
    Requested(Message),
    /// An answer arrives.
    Responded(Message),
    /// A node notices that a batch of its own got lost.
    Lost { at: usize, peer: usize, connection: u64, batch: u64 },
    /// Nothing passes between two nodes for some time.
    Parted { a: usize, b: usize, ms: u64 },
    /// A connection between parted nodes is given up.
    GivenUp { a: usize, b: usize, connection: u64 },
    /// Messages pass again.
    Joined { a: usize, b: usize },
    /// A connection breaks.
    Broken { a: usize, b: usize },
    /// Everything is compared that can be while calls are open.
    Compared,
    /// From now on nothing goes wrong.
    Healed,
    /// Two nodes meet, whoever of them dialled.
    Met { a: usize, b: usize },
    /// It is looked whether all is at rest.
    Looked,
}

/// How a run went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    seed: u64,
    tally: Tally,
    crashes: u64,
    cuts: u64,
    /// A hash of every message, with its time.
    trail: [u8; 32],
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, tally, crashes, cuts, .. } = self;
        let Tally { done, refused, failed, unknown, .. } = tally;
        write!(
            f,
            "seed {seed}: done {done}, refused {refused}, failed {failed}, unknown {unknown}, \
             crashes {crashes}, cuts {cuts}"
        )
    }
}

/// What somebody calls.
struct Wanted {
    wish: Wish,
    command: &'static str,
    args: Json,
}

fn action(wish: Wish, element: String, action: &str, args: Json) -> Wanted {
    let args = json!({"element": element, "action": action, "args": args});
    Wanted { wish, command: "action.call", args }
}

/// Runs one seed, with a machine for each node. What it gives back as an error is where node and
/// model disagree.
pub(crate) fn run(
    seed: u64,
    planted: Planted,
    machines: &[Machine],
    narrates: Narrates,
) -> Result<Summary, String> {
    let mut world = World::new(seed, planted, machines, narrates);
    let ended = world.play().and_then(|()| world.compare_at_rest());
    ended.map_err(|says| format!("SEED={seed}, after {} ms: {says}", world.now))?;
    Ok(world.summary())
}

/// Whether a run tells what happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Narrates {
    /// Every event, on standard output.
    Everything,
    /// Nothing.
    Nothing,
}

struct World<'m> {
    seed: u64,
    narrates: Narrates,
    dice: Dice,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    counted: u64,
    nodes: Vec<Node<'m>>,
    /// Nodes that are about to do something.
    working: Vec<bool>,
    /// When each node looks at its deadlines next.
    ticks_at: Vec<Option<u64>>,
    network: Network,
    model: Model,
    /// Effects before which a node falls, of 1,000.
    fall_chance: u64,
    falls_left: u64,
    crashes: u64,
    cuts: u64,
    uncalled: u64,
    is_healed: bool,
    is_over: bool,
    trail: blake3::Hasher,
}

impl<'m> World<'m> {
    fn new(seed: u64, planted: Planted, machines: &'m [Machine], narrates: Narrates) -> Self {
        let mut dice = Dice::new(seed);
        let many = usize::try_from(dice.between(3, machines.len() as u64)).unwrap();
        let pins = dice.chance(500);
        let mut nodes: Vec<Node<'m>> = machines[..many]
            .iter()
            .enumerate()
            .map(|(number, machine)| Node::new(number, machine, planted))
            .collect();
        if pins {
            let servers: Vec<ServerId> = nodes.iter().map(Node::server).collect();
            nodes.iter_mut().for_each(|node| node.pin(&servers));
        }
        let weather = Weather {
            lost: dice.one_of(&[0, 20, 60]),
            doubled: dice.one_of(&[0, 50, 150]),
            slow: dice.one_of(&[0, 30, 100]),
        };
        Self {
            seed,
            narrates,
            now: 0,
            events: BTreeMap::new(),
            counted: 0,
            working: vec![false; many],
            ticks_at: vec![None; many],
            nodes,
            network: Network::new(weather),
            model: Model::default(),
            fall_chance: dice.one_of(&[0, 2, 2, 5]),
            falls_left: FALLS_MAX,
            crashes: 0,
            cuts: 0,
            uncalled: 0,
            is_healed: false,
            is_over: false,
            trail: blake3::Hasher::new(),
            dice,
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            seed: self.seed,
            tally: self.model.tally(),
            crashes: self.crashes,
            cuts: self.cuts,
            trail: *self.trail.finalize().as_bytes(),
        }
    }

    /// Tells what happens, where somebody wants to know.
    fn say(&self, what: &dyn fmt::Debug) {
        if self.narrates == Narrates::Everything {
            println!("{:>6} {what:?}", self.now);
        }
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_ms(BEGUN_MS + self.now)
    }

    fn later(&mut self, delay_ms: u64, event: Event) {
        self.counted += 1;
        self.events.insert((self.now + delay_ms, self.counted), event);
    }

    fn play(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            self.start(at)?;
        }
        self.plan();
        while !self.is_over
            && let Some(((at, _), event)) = self.events.pop_first()
        {
            self.now = at;
            self.say(&event);
            self.happen(event)?;
        }
        Ok(())
    }

    /// Decides beforehand what people will do, and what will go wrong.
    fn plan(&mut self) {
        let mut left = 60 + self.dice.below(21);
        self.uncalled = left;
        while left > 0 {
            let many = self.dice.between(1, 4).min(left);
            let (delay, at) = (self.dice.below(BUSY_MS), self.dice.index(self.nodes.len()));
            self.later(delay, Event::Called { at, many });
            left -= many;
        }
        for _ in 0..self.dice.below(4) {
            let (a, b) = self.two();
            let (delay, ms) = (self.dice.below(BUSY_MS), self.dice.between(300, 4_000));
            self.later(delay, Event::Parted { a, b, ms });
        }
        if self.dice.chance(300) {
            let alone = self.dice.index(self.nodes.len());
            let (delay, ms) = (self.dice.below(BUSY_MS), self.dice.between(300, 4_000));
            for other in (0..self.nodes.len()).filter(|other| *other != alone) {
                self.later(delay, Event::Parted { a: alone, b: other, ms });
            }
        }
        for _ in 0..self.dice.below(5) {
            let (a, b) = self.two();
            let delay = self.dice.below(BUSY_MS);
            self.later(delay, Event::Broken { a, b });
        }
        for time in 1..=HEALED_MS / COMPARED_EVERY_MS {
            self.later(time * COMPARED_EVERY_MS, Event::Compared);
        }
        self.later(HEALED_MS, Event::Healed);
    }

    fn two(&mut self) -> (usize, usize) {
        let a = self.dice.index(self.nodes.len());
        (a, self.other_than(a))
    }

    fn other_than(&mut self, a: usize) -> usize {
        (a + 1 + self.dice.index(self.nodes.len() - 1)) % self.nodes.len()
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Called { at, many } => self.call_some(at, many)?,
            Event::Worked(at) => {
                self.working[at] = false;
                self.work(at)?;
            }
            Event::Ticked(at) => {
                if self.ticks_at[at] == Some(self.now) {
                    self.ticks_at[at] = None;
                    self.let_do(at, |process, now| {
                        process.tick(now);
                        Ok(())
                    })?;
                }
            }
            Event::Started(at) => self.start(at)?,
            Event::Dialled { from, to, life } => self.dialled(from, to, life)?,
            Event::Opened { at, peer, connection } => {
                if self.network.connection(at, peer) == Some(connection) {
                    self.opened(at, peer, connection)?;
                }
            }
            Event::Closed { at, peer, connection } => self.closed(at, peer, connection)?,
            Event::Requested(message) => self.requested(message)?,
            Event::Responded(message) => self.responded(message)?,
            Event::Lost { at, peer, connection, batch } => {
                if self.network.noticed(at, peer) == Some(connection) {
                    let server = self.nodes[peer].server();
                    self.let_do(at, |process, now| {
                        process.lost(now, server, batch);
                        Ok(())
                    })?;
                }
            }
            Event::Parted { a, b, ms } => self.part(a, b, ms),
            Event::GivenUp { a, b, connection } => {
                let is_open = self.network.connection(a, b) == Some(connection);
                if is_open && self.network.is_blocked(a, b) {
                    self.disconnect(a, b);
                }
            }
            Event::Joined { a, b } => self.network.unblock(a, b),
            Event::Broken { a, b } => {
                if !self.is_healed {
                    self.disconnect(a, b);
                }
            }
            Event::Compared => self.compare()?,
            Event::Healed => self.heal(),
            Event::Met { a, b } => self.meet(a, b)?,
            Event::Looked => self.look()?,
        }
        Ok(())
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
        for want in std::mem::take(&mut process.wants) {
            self.carry_out(at, want)?;
        }
        self.wake(at);
        Ok(())
    }

    fn carry_out(&mut self, at: usize, want: Want) -> Result<(), String> {
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
                    self.send(at, message, Event::Requested);
                }
            }
            Want::Respond { channel, bytes } => {
                let Channel { peer, connection, batch } = channel;
                let message = Message { from: at, to: peer, connection, batch, bytes };
                self.send(peer, message, Event::Responded);
            }
            Want::Started(job) => self.model.taken(job),
            Want::End(job, result) => self.model.ended(job, &result)?,
        }
        Ok(())
    }

    fn number_of(&self, server: ServerId) -> usize {
        self.nodes.iter().position(|node| node.server() == server).unwrap()
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
        self.say(&work);
        if !self.is_struck() {
            return self.let_do(at, |process, now| process.work(now, work));
        }
        let node = &mut self.nodes[at];
        if let (Work::Commit(_), Some(process)) = (work, &mut node.process) {
            node.disk.fail_at(self.dice.between(1, 24));
            // Whether it became durable is for the disk to say; nobody is answered.
            process.work(now, work).ok();
        }
        self.fall(at);
        Ok(())
    }

    /// Whether a node falls right now.
    fn is_struck(&mut self) -> bool {
        !self.is_healed && self.falls_left > 0 && self.dice.chance(self.fall_chance)
    }

    fn fall(&mut self, at: usize) {
        self.falls_left -= 1;
        self.say(&format_args!("n{} falls", at + 1));
        let node = &mut self.nodes[at];
        if self.dice.chance(500) {
            self.cuts += 1;
            node.disk.cut(&mut self.dice);
        } else {
            self.crashes += 1;
            node.disk.kill();
        }
        node.process = None;
        self.ticks_at[at] = None;
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            self.network.forget(at, peer);
            if let Some(connection) = self.network.disconnect(at, peer) {
                let delay = self.dice.below(600);
                self.later(delay, Event::Closed { at: peer, peer: at, connection });
            }
        }
        let delay = self.dice.between(50, 3_000);
        self.later(delay, Event::Started(at));
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
        let now = self.clock();
        self.nodes[at].start(now)?;
        if let Some(process) = &self.nodes[at].process {
            self.model.restarted(at, &process.records()?)?;
        }
        self.compare_node(at)?;
        self.let_do(at, |_, _| Ok(()))
    }

    // What people do.

    fn call_some(&mut self, at: usize, many: u64) -> Result<(), String> {
        if self.nodes[at].process.is_none() {
            self.later(200, Event::Called { at, many });
            return Ok(());
        }
        for _ in 0..many {
            let Wanted { wish, command, args } = self.wanted(at);
            let now = self.clock();
            let id = JobId::at(now, self.dice.bytes());
            let patience =
                if self.dice.chance(150) { self.dice.between(500, 4_000) } else { 30_000 };
            let call = Call {
                id,
                command: command.to_owned(),
                caller: self.nodes[at].caller(),
                args,
                world: None,
                meta: Json::Null,
                reply_to: None,
                deadline_at: now.after_ms(patience),
                root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
            };
            self.uncalled -= 1;
            self.say(&(id, wish));
            self.model.called(id, at, wish);
            self.let_do(at, |process, _| {
                process.called(call);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// What somebody at a node wants now.
    fn wanted(&mut self, at: usize) -> Wanted {
        let own = self.thing_of(at);
        let other = self.other_than(at);
        let other = self.thing_of(other);
        match self.dice.below(26) {
            0 => action(Wish::Step(own), name_here(own), "step", json!({})),
            1 | 2 => action(Wish::Step(own), name_here(own), "home_step", json!({})),
            3..=10 => action(Wish::Step(other), name_there(other), "step", json!({})),
            11..=14 => self.gathering(own, name_here(own)),
            15..=19 => self.posting(own, name_here(own)),
            20 => action(Wish::Nothing, name_there(other), "home_step", json!({})),
            21 => action(Wish::Nothing, name_there(other), "trick", json!({})),
            22 => {
                let element = name_there(other);
                if self.dice.chance(500) {
                    return action(Wish::Nothing, element, "blunder", json!({}));
                }
                let args = json!({"element": element, "attribute": "count", "value": 999});
                Wanted { wish: Wish::Nothing, command: "element.set", args }
            }
            _ if self.dice.chance(500) => self.gathering(other, name_there(other)),
            _ => self.posting(other, name_there(other)),
        }
    }

    fn thing_of(&mut self, home: usize) -> Thing {
        Thing { home, number: self.dice.index(THINGS) }
    }

    fn gathering(&mut self, by: Thing, name: String) -> Wanted {
        let (one, other) = self.two();
        let (first, second) = (self.thing_of(one), self.thing_of(other));
        let args = json!({"one": name_there(first), "other": name_there(second)});
        action(Wish::Gather { by, first, second }, name, "gather", args)
    }

    fn posting(&mut self, by: Thing, name: String) -> Wanted {
        let to = self.dice.index(self.nodes.len());
        let to = self.thing_of(to);
        action(Wish::Post { by, to }, name, "post", json!({"to": name_there(to)}))
    }

    // The network.

    /// Lets a message travel. `asker` is the side that waits for the answer.
    fn send(&mut self, asker: usize, message: Message, arrived: fn(Message) -> Event) {
        let Message { from, to, connection, batch, .. } = message;
        let copies = self.network.copies(from, to, connection, &mut self.dice);
        if copies.is_empty() && self.dice.chance(800) {
            let peer = if asker == from { to } else { from };
            let delay = self.dice.between(200, 1_500);
            self.later(delay, Event::Lost { at: asker, peer, connection, batch });
        }
        for delay in copies {
            self.later(delay, arrived(message.clone()));
        }
    }

    fn note(&mut self, message: &Message) {
        self.trail.update(&self.now.to_be_bytes()).update(&message.bytes);
    }

    fn requested(&mut self, message: Message) -> Result<(), String> {
        self.note(&message);
        let Message { from, to, connection, batch, bytes } = message;
        if self.nodes[to].process.is_none() {
            return Ok(());
        }
        if self.is_struck() {
            self.fall(to);
            return Ok(());
        }
        if self.network.connection(from, to) == Some(connection) {
            self.opened(to, from, connection)?;
        } else if self.dice.chance(500) {
            // Else it was read before the end of its connection was noticed.
            return Ok(());
        }
        let server = self.nodes[from].server();
        let channel = Channel { peer: from, connection, batch };
        self.let_do(to, |process, now| process.requested(now, server, channel, &bytes))
    }

    fn responded(&mut self, message: Message) -> Result<(), String> {
        self.note(&message);
        let Message { from, to, connection, batch, bytes } = message;
        if self.nodes[to].process.is_none() || self.network.noticed(to, from) != Some(connection) {
            return Ok(());
        }
        if self.is_struck() {
            self.fall(to);
            return Ok(());
        }
        let server = self.nodes[from].server();
        self.let_do(to, |process, now| process.responded(now, server, batch, &bytes))
    }

    fn dialled(&mut self, from: usize, to: usize, life: u64) -> Result<(), String> {
        if self.nodes[from].life != life || self.nodes[from].process.is_none() {
            return Ok(());
        }
        if let Some(connection) = self.network.connection(from, to) {
            return self.opened(from, to, connection);
        }
        if self.network.is_blocked(from, to) || self.nodes[to].process.is_none() {
            let server = self.nodes[to].server();
            return self.let_do(from, |process, now| {
                process.dial_failed(now, server);
                Ok(())
            });
        }
        self.connect(from, to)
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
        let server = self.nodes[peer].server();
        self.let_do(at, |process, now| {
            process.disconnected(now, peer, server);
            Ok(())
        })
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        let Some(connection) = self.network.disconnect(a, b) else { return };
        for (at, peer) in [(a, b), (b, a)] {
            let delay = self.dice.below(200);
            self.later(delay, Event::Closed { at, peer, connection });
        }
    }

    fn part(&mut self, a: usize, b: usize, ms: u64) {
        if self.is_healed {
            return;
        }
        self.network.block(a, b);
        self.later(ms, Event::Joined { a, b });
        if let Some(connection) = self.network.connection(a, b) {
            let delay = self.dice.between(300, 1_500);
            self.later(delay, Event::GivenUp { a, b, connection });
        }
    }

    // The end of everything bad.

    /// Whether everybody meets everybody anew once all is healed; else only what is not connected.
    fn meets_anew(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    fn heal(&mut self) {
        self.is_healed = true;
        self.network.calm();
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                if self.meets_anew() {
                    self.disconnect(a, b);
                }
                let delay = self.dice.between(1, 1_000);
                self.later(delay, Event::Met { a, b });
            }
        }
        self.later(LOOKED_EVERY_MS, Event::Looked);
    }

    fn meet(&mut self, a: usize, b: usize) -> Result<(), String> {
        if self.nodes[a].process.is_none() || self.nodes[b].process.is_none() {
            self.later(200, Event::Met { a, b });
        } else if self.network.connection(a, b).is_none() {
            return self.connect(a, b);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        let since = self.now - HEALED_MS;
        let most = if self.meets_anew() { SETTLED_MAX_MS } else { SETTLED_BY_TIMERS_MAX_MS };
        match self.unrest()? {
            None if since >= LATE_MAX_MS => self.is_over = true,
            Some(unrest) if since >= most => return Err(format!("it does not settle: {unrest}")),
            Some(_) | None => self.later(LOOKED_EVERY_MS, Event::Looked),
        }
        Ok(())
    }

    /// What is still open, if anything is.
    fn unrest(&self) -> Result<Option<String>, String> {
        if self.uncalled > 0 {
            return Ok(Some(format!("{} calls were not made", self.uncalled)));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let unrest = match &node.process {
                Some(process) => process.unrest(self.clock())?,
                None => Some("it does not run".to_owned()),
            };
            if let Some(unrest) = unrest {
                return Ok(Some(format!("n{}: {unrest}", at + 1)));
            }
        }
        Ok(self.model.open_call())
    }

    // The model's opinion.

    fn compare(&self) -> Result<(), String> {
        (0..self.nodes.len()).try_for_each(|at| self.compare_node(at))
    }

    fn compare_node(&self, at: usize) -> Result<(), String> {
        let Some(process) = &self.nodes[at].process else { return Ok(()) };
        for number in 0..THINGS {
            self.model.compare(Thing { home: at, number }, process.values(number)?)?;
        }
        Ok(())
    }

    fn compare_at_rest(&self) -> Result<(), String> {
        for (home, node) in self.nodes.iter().enumerate() {
            let process = node.process.as_ref().ok_or("a node does not run")?;
            self.model.compare_records(home, &process.records()?)?;
            for number in 0..THINGS {
                let thing = Thing { home, number };
                self.model.compare_at_rest(thing, process.values(number)?)?;
                self.model.compare_answers(thing)?;
            }
        }
        self.model.compare_gathered()?;
        let tally = self.model.tally();
        if tally.done * 2 < tally.calls {
            return Err(format!("less than half of the calls were done: {tally:?}"));
        }
        Ok(())
    }
}
