//! A move, and a machine that falls at any moment of it. Two nodes, and a network in which nothing goes
//! wrong: first it is seen how many things happen from the call until both know what became of it, then
//! it is run again and again, with a power cut after each of them at one end, the other, or both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use freehold::model::{
    Budget, Call, Caller, Element, ElementId, JobId, Json, Key, Problem, Root, Row, ServerId,
    Snapshot, Timestamp, Transfer, TransferId, TransferState,
};
use freehold::script::Machine;
use freehold::store::View;
use serde_json::json;

use crate::THREADS;
use crate::dice::Dice;
use crate::disk::{Disk, Image};
use crate::genesis::{FOUNDERS, id_in, machine};
use crate::network::Message;
use crate::node::{Channel, Node, Planted, Process, Want, Work};

/// When the things are made, in milliseconds since 1970: after the nodes were made.
const MADE_MS: u64 = 1_700_000_100_000;
/// When every run begins, in milliseconds since 1970.
const BEGUN_MS: u64 = 1_700_000_200_000;
/// How long a message takes, in milliseconds; a dial takes as long.
const TRAVEL_MS: u64 = 10;
/// How long a turn or a commit takes, in milliseconds.
const WORK_MS: u64 = 2;
/// How long a node that fell is down, in milliseconds.
const DOWN_MS: u64 = 1_000;
/// How long it may take from contact until all is settled, in milliseconds.
const SETTLED_MAX_MS: u64 = 30_000;
/// How long a call is worth doing, in milliseconds.
const PATIENCE_MS: u64 = 60_000;
/// A deadline that has passed already is looked at again after this time, in milliseconds.
const OVERDUE_AGAIN_MS: u64 = 25;
/// Falls that are tried of one plan, at most: where there are more, every nth of them.
const CASES_MAX: usize = 120;
/// The node that has the things at first, and the one that is offered them.
const GIVER: usize = 0;
const RECEIVER: usize = 1;
const ENDS: [usize; 2] = [GIVER, RECEIVER];

/// The type of what is moved.
const KEEPSAKE: &str = r#"
name = "keepsake"

[attributes.glow]
kind = "integer"
default = 0
read = "public"

[attributes.label]
kind = "string"
default = ""
read = "public"
"#;

/// A world that takes what is offered, as long as nothing of it stays behind.
const OPEN_WORLD: &str = r#"
name = "open-world"
parents = ["server:world"]

[actions.offered]
on = "before:element_offered"
script = '''
if event.type == "keepsake" and not event.sealed then return true end
'''
"#;

#[test]
fn a_thing_that_is_moved_has_one_owner_wherever_a_machine_falls() {
    let owners = every_fall(Plan { rule: Rule::TakesAll, is_called_off: false });

    // Where the call was lost with the machine that took it, nothing has moved.
    for end in ENDS {
        assert!(owners.contains(&end), "it is never n{}'s", end + 1);
    }
}

#[test]
fn a_thing_whose_move_is_called_off_at_once_has_one_owner_wherever_a_machine_falls() {
    let taken = every_fall(Plan { rule: Rule::TakesAll, is_called_off: true });
    let undecided = every_fall(Plan { rule: Rule::Nothing, is_called_off: true });

    // The receiver decides: once it has said yes, it is too late.
    assert!(taken.contains(&RECEIVER), "the rule of the world takes nothing");
    assert!(undecided.iter().all(|owner| *owner == GIVER), "nobody said yes");
}

/// What the receiver's world says to an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Yes.
    TakesAll,
    /// Nothing, and neither does its owner.
    Nothing,
}

/// What is run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rule: Rule,
    /// Whether the move is called off right after the call that began it.
    is_called_off: bool,
}

/// Whose power is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Falls {
    Giver,
    Receiver,
    Both,
}

impl Falls {
    const ALL: [Self; 3] = [Self::Giver, Self::Receiver, Self::Both];

    const fn ends(self) -> &'static [usize] {
        match self {
            Self::Giver => &[GIVER],
            Self::Receiver => &[RECEIVER],
            Self::Both => &ENDS,
        }
    }
}

/// Whose power is cut, and after how many steps since the call.
#[derive(Clone, Copy, Debug)]
struct Fall {
    step: usize,
    falls: Falls,
}

/// How a run ended.
struct Ended {
    /// Steps from the call until all was settled.
    steps: usize,
    /// Who has the things.
    owner: usize,
}

type Machines = [Machine; 2];

fn machines() -> Machines {
    [machine(), machine()]
}

fn said<E: Display>(error: E) -> String {
    error.to_string()
}

/// Runs a plan with every fall that there can be. Who had the things in the end, by case.
fn every_fall(plan: Plan) -> Vec<usize> {
    let first = machines();
    let ready = Ready::new(plan.rule, &first).unwrap();
    let steps = run(&ready, plan, None, &first).unwrap().steps;
    let all: Vec<Fall> =
        (0..steps).flat_map(|step| Falls::ALL.map(|falls| Fall { step, falls })).collect();
    // Those at one step stand together: each kind is to have its turn.
    let nth = all.len().div_ceil(CASES_MAX);
    let nth = if nth.is_multiple_of(Falls::ALL.len()) { nth + 1 } else { nth };
    let cases: Vec<Fall> = all.into_iter().step_by(nth).collect();
    let work = |thread: usize| {
        let machines = machines();
        let mine = cases.iter().skip(thread).step_by(THREADS);
        let tried = mine.map(|fall| {
            let ended = run(&ready, plan, Some(*fall), &machines);
            ended.map_err(|says| format!("{plan:?}, {fall:?}: {says}"))
        });
        tried.collect::<Vec<Result<Ended, String>>>()
    };

    let results: Vec<Result<Ended, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    let failures: Vec<&str> =
        results.iter().filter_map(|result| result.as_ref().err().map(String::as_str)).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail; the first ones:\n{}",
        failures.len(),
        cases.len(),
        failures[..failures.len().min(5)].join("\n")
    );
    let owners: Vec<usize> = results.into_iter().flatten().map(|ended| ended.owner).collect();
    let given = owners.iter().filter(|owner| **owner == RECEIVER).count();
    println!("{plan:?}: {steps} steps, {} falls, {given} times the receiver's", owners.len());
    owners
}

/// Runs a plan once. What it gives back as an error is what does not hold.
fn run(
    ready: &Ready,
    plan: Plan,
    fall: Option<Fall>,
    machines: &Machines,
) -> Result<Ended, String> {
    let mut pair = Pair::new(ready, plan, machines);
    let ended = pair.play(fall);
    ended.map_err(|says| format!("after {} ms: {says}", pair.now))
}

/// Both disks before anything moves.
struct Ready {
    images: [Image; 2],
    /// A chest, and what stands in it.
    chest: Arc<Element>,
    lamp: Arc<Element>,
}

impl Ready {
    fn new(rule: Rule, machines: &Machines) -> Result<Self, String> {
        let [mut giver, mut receiver] = ENDS.map(|at| {
            let node = Node::new(at, &machines[at], Planted::Nothing);
            Making { node, at, dice: Dice::new(at as u64) }
        });
        for end in [&mut giver, &mut receiver] {
            end.node.start(Timestamp::from_ms(MADE_MS))?;
            // A world is stood for once the system's types are there.
            end.make(Caller::Node, "node.started", json!({}))?;
        }
        giver.by_alice("type.publish", json!({"source": KEEPSAKE}))?;
        let chest = giver.keepsake("chest", 3, "brass")?;
        let lamp = giver.keepsake("lamp", 5, "oil")?;
        giver.by_alice("set.add", json!({"element": "chest"}))?;
        giver.by_alice("set.enter", json!({"set": "chest", "element": "lamp"}))?;
        let operator = Caller::Local { account: None, operator: true };
        let args = json!({"server": giver.node.server().to_string()});
        receiver.make(operator, "server.allow", args)?;
        if rule == Rule::TakesAll {
            receiver.by_alice("type.publish", json!({"source": OPEN_WORLD}))?;
            let args = json!({"element": "alice/garden", "type": "open-world"});
            receiver.by_alice("element.become", args)?;
        }
        let (chest, lamp) = (giver.element(chest)?, giver.element(lamp)?);
        Ok(Self { images: [giver, receiver].map(Making::image), chest, lamp })
    }
}

/// A node on which things are made, before there is a network.
struct Making<'m> {
    node: Node<'m>,
    at: usize,
    dice: Dice,
}

impl Making<'_> {
    fn keepsake(&mut self, name: &str, glow: i64, label: &str) -> Result<ElementId, String> {
        let values = json!({"glow": glow, "label": label});
        let args = json!({"type": "keepsake", "name": name, "values": values});
        Ok(id_in(&self.by_alice("element.create", args)?))
    }

    fn by_alice(&mut self, command: &str, args: Json) -> Result<Json, String> {
        self.make(self.node.caller(), command, args)
    }

    fn make(&mut self, caller: Caller, command: &str, args: Json) -> Result<Json, String> {
        let now = Timestamp::from_ms(MADE_MS);
        let call = call_of(now, &mut self.dice, caller, command, args);
        let id = call.id;
        let process = self.node.process.as_mut().ok_or("a node does not run")?;
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

    fn element(&self, id: ElementId) -> Result<Arc<Element>, String> {
        let process = self.node.process.as_ref().ok_or("a node does not run")?;
        element_in(&process.state()?, self.at, id)?.ok_or_else(|| "it was not made".to_owned())
    }

    /// Its disk, once its process has ended.
    fn image(mut self) -> Image {
        self.node.process = None;
        self.node.disk.image()
    }
}

fn call_of(now: Timestamp, dice: &mut Dice, caller: Caller, command: &str, args: Json) -> Call {
    let id = JobId::at(now, dice.bytes());
    Call {
        id,
        command: command.to_owned(),
        caller,
        args,
        world: None,
        meta: Json::Null,
        reply_to: None,
        deadline_at: now.after_ms(PATIENCE_MS),
        root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
    }
}

/// What a node has under an id, in its garden.
fn element_in(view: &View, at: usize, id: ElementId) -> Result<Option<Arc<Element>>, String> {
    (view as &dyn Snapshot).element(FOUNDERS[at].world, id).map_err(said)
}

fn acts(element: &Element) -> bool {
    element.home.is_none() && element.rests.is_none()
}

/// What happens, to whom.
enum Event {
    /// A node starts again.
    Started(usize),
    /// A node does one thing.
    Worked(usize),
    /// A deadline of a node has come.
    Ticked(usize),
    /// A process of a node reached the other, or did not.
    Dialled { from: usize, life: u64 },
    /// A batch arrives.
    Requested(Message),
    /// An answer arrives.
    Responded(Message),
}

/// One that gives, and one that is offered something.
struct Pair<'m> {
    ready: &'m Ready,
    plan: Plan,
    nodes: [Node<'m>; 2],
    dice: Dice,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    counted: u64,
    /// Nodes that are about to do something.
    working: [bool; 2],
    /// When each node looks at its deadlines next.
    ticks_at: [Option<u64>; 2],
    /// The connection that is open, and how many there were.
    connection: Option<u64>,
    connections: u64,
    /// When contact was made or lost last.
    stirred_at: u64,
    /// The call that moves, and the last one that calls off.
    moves: Option<JobId>,
    calls_off: Option<JobId>,
    /// Calls that somebody waits for.
    waiting: BTreeSet<JobId>,
    /// How calls ended, as far as somebody heard it.
    ended: BTreeMap<JobId, Result<Json, Problem>>,
}

impl<'m> Pair<'m> {
    fn new(ready: &'m Ready, plan: Plan, machines: &'m Machines) -> Self {
        let mut nodes = ENDS.map(|at| Node::new(at, &machines[at], Planted::Nothing));
        let servers = [nodes[GIVER].server(), nodes[RECEIVER].server()];
        for (node, image) in nodes.iter_mut().zip(&ready.images) {
            node.disk = Disk::holding(image);
            node.pin(&servers);
        }
        Self {
            ready,
            plan,
            nodes,
            dice: Dice::new(1),
            now: 0,
            events: BTreeMap::new(),
            counted: 0,
            working: [false; 2],
            ticks_at: [None; 2],
            connection: None,
            connections: 0,
            stirred_at: 0,
            moves: None,
            calls_off: None,
            waiting: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }

    fn play(&mut self, fall: Option<Fall>) -> Result<Ended, String> {
        for at in ENDS {
            self.start(at)?;
        }
        self.settle(None)?;
        self.stirred_at = self.now;
        let to = json!({"element": "alice/garden/chest", "to": "alice@n2/garden"});
        self.moves = Some(self.call(to)?);
        if self.plan.is_called_off {
            self.call_off()?;
        }
        let steps = self.settle(fall)?;
        let owner = self.check_at_rest()?;
        Ok(Ended { steps, owner })
    }

    /// Lets everything happen until all is settled, and a power cut once so many steps were made. How
    /// many there were.
    fn settle(&mut self, mut fall: Option<Fall>) -> Result<usize, String> {
        let mut steps = 0;
        loop {
            if let Some(fall) = fall.take_if(|fall| fall.step == steps) {
                self.fall(fall.falls)?;
            }
            let unrest = self.unrest()?;
            if fall.is_none() && unrest.is_none() {
                return Ok(steps);
            }
            let unrest = unrest.unwrap_or_default();
            let next = self.events.pop_first();
            let ((at, _), event) = next.ok_or_else(|| format!("nothing happens: {unrest}"))?;
            if at > self.stirred_at + SETTLED_MAX_MS {
                return Err(format!("it is not settled: {unrest}"));
            }
            self.now = at;
            self.happen(event)?;
            self.check()?;
            steps += 1;
        }
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_ms(BEGUN_MS + self.now)
    }

    fn later(&mut self, delay_ms: u64, event: Event) {
        self.counted += 1;
        self.events.insert((self.now + delay_ms, self.counted), event);
    }

    fn server(&self, at: usize) -> ServerId {
        self.nodes[at].server()
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Started(at) => self.start_again(at),
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
            Event::Dialled { from, life } => self.dialled(from, life),
            Event::Requested(message) => self.requested(message),
            Event::Responded(message) => self.responded(message),
        }
    }

    // What people do.

    fn call(&mut self, args: Json) -> Result<JobId, String> {
        let (now, caller) = (self.clock(), self.nodes[GIVER].caller());
        let call = call_of(now, &mut self.dice, caller, "element.move", args);
        let id = call.id;
        self.waiting.insert(id);
        self.let_do(GIVER, |process, _| {
            process.called(call);
            Ok(())
        })?;
        Ok(id)
    }

    fn call_off(&mut self) -> Result<(), String> {
        let args = json!({"element": "alice/garden/chest", "cancel": true});
        self.calls_off = Some(self.call(args)?);
        Ok(())
    }

    // The nodes.

    fn start(&mut self, at: usize) -> Result<(), String> {
        let now = self.clock();
        self.nodes[at].start(now)?;
        self.let_do(at, |_, _| Ok(()))
    }

    fn start_again(&mut self, at: usize) -> Result<(), String> {
        self.start(at)?;
        // Who did not hear that it was called off calls again.
        let unheard = self.calls_off.is_some_and(|job| !self.ended.contains_key(&job));
        if at == GIVER && unheard { self.call_off() } else { Ok(()) }
    }

    /// The power of one or both is cut; who still runs notices.
    fn fall(&mut self, falls: Falls) -> Result<(), String> {
        self.connection = None;
        self.stirred_at = self.now;
        for at in falls.ends().iter().copied() {
            self.nodes[at].disk.cut(&mut self.dice);
            self.nodes[at].process = None;
            self.ticks_at[at] = None;
            if at == GIVER {
                self.waiting.clear();
            }
            self.later(DOWN_MS, Event::Started(at));
        }
        for at in ENDS {
            let (peer, server) = (1 - at, self.server(1 - at));
            self.let_do(at, |process, now| {
                process.disconnected(now, peer, server);
                Ok(())
            })?;
        }
        Ok(())
    }

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
            self.carry_out(at, want);
        }
        self.wake(at);
        Ok(())
    }

    fn carry_out(&mut self, at: usize, want: Want) {
        match want {
            Want::Dial(_) => {
                let life = self.nodes[at].life;
                self.later(TRAVEL_MS, Event::Dialled { from: at, life });
            }
            Want::Send { batch, bytes, .. } => self.send(at, batch, bytes, Event::Requested),
            Want::Respond { channel, bytes } => {
                // An answer belongs to the connection on which it was asked for.
                if self.connection == Some(channel.connection) {
                    self.send(at, channel.batch, bytes, Event::Responded);
                }
            }
            Want::Started(_) => {}
            Want::End(job, result) => {
                self.waiting.remove(&job);
                self.ended.insert(job, result);
            }
        }
    }

    fn send(&mut self, from: usize, batch: u64, bytes: Vec<u8>, arrived: fn(Message) -> Event) {
        let Some(connection) = self.connection else { return };
        let message = Message { from, to: 1 - from, connection, batch, bytes };
        self.later(TRAVEL_MS, arrived(message));
    }

    /// Sees to it that a node goes on with what it can do, and looks at its deadlines in time.
    fn wake(&mut self, at: usize) {
        let now = self.clock();
        let Some(process) = &self.nodes[at].process else { return };
        let (works, deadline) = (process.works(now), process.deadline());
        if !self.working[at] && !works.is_empty() {
            self.working[at] = true;
            let delay = if works.contains(&Work::Release) { 0 } else { WORK_MS };
            self.later(delay, Event::Worked(at));
        }
        let Some(deadline) = deadline else { return };
        let delay = match deadline.ms_since(now) {
            0 => OVERDUE_AGAIN_MS,
            ms => ms,
        };
        let due = self.now + delay;
        if self.ticks_at[at].is_none_or(|tick| tick > due) {
            self.ticks_at[at] = Some(due);
            self.later(delay, Event::Ticked(at));
        }
    }

    /// What is durable goes out, then what was decided becomes durable, then more is decided.
    fn work(&mut self, at: usize) -> Result<(), String> {
        let now = self.clock();
        let Some(process) = &self.nodes[at].process else { return Ok(()) };
        let works = process.works(now);
        let release = works.iter().find(|work| **work == Work::Release);
        let Some(work) = release.or(works.first()).copied() else { return Ok(()) };
        self.let_do(at, |process, now| process.work(now, work))
    }

    // The network.

    fn dialled(&mut self, from: usize, life: u64) -> Result<(), String> {
        let node = &self.nodes[from];
        if self.connection.is_some() || node.process.is_none() || node.life != life {
            return Ok(());
        }
        let (to, server) = (1 - from, self.server(1 - from));
        if self.nodes[to].process.is_none() {
            return self.let_do(from, |process, now| {
                process.dial_failed(now, server);
                Ok(())
            });
        }
        self.connections += 1;
        self.connection = Some(self.connections);
        self.stirred_at = self.now;
        for at in ENDS {
            let server = self.server(1 - at);
            self.let_do(at, |process, now| {
                process.connected(now, server);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn requested(&mut self, message: Message) -> Result<(), String> {
        let Message { from, to, connection, batch, bytes } = message;
        if self.connection != Some(connection) {
            return Ok(());
        }
        let server = self.server(from);
        let channel = Channel { peer: from, connection, batch };
        self.let_do(to, |process, now| process.requested(now, server, channel, &bytes))
    }

    fn responded(&mut self, message: Message) -> Result<(), String> {
        let Message { from, to, connection, batch, bytes } = message;
        if self.connection != Some(connection) {
            return Ok(());
        }
        let server = self.server(from);
        self.let_do(to, |process, now| process.responded(now, server, batch, &bytes))
    }

    // What must hold.

    /// What is still to be done, if anything is.
    fn unrest(&self) -> Result<Option<String>, String> {
        for (at, node) in self.nodes.iter().enumerate() {
            let unrest = match &node.process {
                Some(process) => process.unrest(self.clock())?,
                None => Some("it does not run".to_owned()),
            };
            if let Some(unrest) = unrest {
                return Ok(Some(format!("n{}: {unrest}", at + 1)));
            }
        }
        if self.connection.is_none() {
            return Ok(Some("they are not in contact".to_owned()));
        }
        Ok(self.waiting.first().map(|job| format!("somebody waits for {job}")))
    }

    fn view(&self, at: usize) -> Result<View, String> {
        let process = self.nodes[at].process.as_ref();
        process.ok_or_else(|| format!("n{} does not run", at + 1))?.state()
    }

    fn things(&self) -> [&'m Arc<Element>; 2] {
        [&self.ready.chest, &self.ready.lamp]
    }

    /// At every moment somebody has the things, and they act at one end at most.
    fn check(&self) -> Result<(), String> {
        if self.nodes.iter().any(|node| node.process.is_none()) {
            return Ok(());
        }
        let views = [self.view(GIVER)?, self.view(RECEIVER)?];
        for thing in self.things() {
            let mut held = Vec::new();
            for at in ENDS {
                held.extend(element_in(&views[at], at, thing.id)?);
            }
            if !held.iter().any(|element| element.home.is_none()) {
                return Err(format!("nobody has {:?}: {held:?}", thing.name));
            }
            if held.iter().filter(|element| acts(element)).count() > 1 {
                return Err(format!("two have {:?}: {held:?}", thing.name));
            }
        }
        Ok(())
    }

    /// What both ends say once all is settled. Who has the things.
    fn check_at_rest(&self) -> Result<usize, String> {
        let views = [self.view(GIVER)?, self.view(RECEIVER)?];
        let chest_at = |at: usize| element_in(&views[at], at, self.ready.chest.id);
        let acts_at_giver = chest_at(GIVER)?.is_some_and(|chest| acts(&chest));
        let owner = if acts_at_giver { GIVER } else { RECEIVER };
        for thing in self.things() {
            self.check_thing(&views, owner, thing)?;
        }
        self.check_set(&views[owner], owner)?;
        self.check_transfers(&views, owner)?;
        Ok(owner)
    }

    /// A thing is its owner's, whole, and nobody else's.
    fn check_thing(&self, views: &[View; 2], owner: usize, thing: &Element) -> Result<(), String> {
        let (other, what) = (1 - owner, &thing.name);
        let held = element_in(&views[owner], owner, thing.id)?;
        let held = held.ok_or_else(|| format!("n{} has no {what:?}", owner + 1))?;
        let is_whole = held.values == thing.values && held.name == thing.name;
        let is_whole = is_whole && held.type_id == thing.type_id;
        if !acts(&held) || !is_whole || held.owner != FOUNDERS[owner].account {
            return Err(format!("n{} has {what:?} only so: {held:?}", owner + 1));
        }
        let older = element_in(&views[other], other, thing.id)?;
        if let Some(older) = &older
            && (older.home != Some(self.server(owner)) || older.epoch > held.epoch)
        {
            return Err(format!("n{} has {what:?} as well: {older:?}", other + 1));
        }
        let moved = (&views[other] as &dyn Snapshot).moved(thing.id).map_err(said)?;
        let leads_there = moved
            .as_ref()
            .is_some_and(|moved| moved.server == self.server(owner) && moved.epoch <= held.epoch);
        if owner == RECEIVER && !leads_there {
            return Err(format!("where {what:?} is, n1 says so: {moved:?}"));
        }
        if owner == GIVER && moved.is_some() {
            return Err(format!("{what:?} has come to n2 and gone: {moved:?}"));
        }
        Ok(())
    }

    /// The lamp stands in the chest.
    fn check_set(&self, view: &View, owner: usize) -> Result<(), String> {
        let (world, chest) = (FOUNDERS[owner].world, self.ready.chest.id);
        let set = (view as &dyn Snapshot).set(world, chest).map_err(said)?;
        let first = Key::Member(world, chest, 0, ElementId::from_bytes([0; 16]));
        let last = Key::Member(world, chest, u64::MAX, ElementId::from_bytes([0xff; 16]));
        let rows = view.rows(&first, &last, usize::MAX).map_err(said)?;
        let stands: Vec<ElementId> = rows
            .into_iter()
            .filter_map(|(key, _)| match key {
                Key::Member(_, _, _, member) => Some(member),
                _ => None,
            })
            .collect();
        if set.as_ref().map(|set| set.members) == Some(1) && stands == [self.ready.lamp.id] {
            return Ok(());
        }
        Err(format!("in the chest at n{} stands {stands:?}: {set:?}", owner + 1))
    }

    /// Both ends know what became of the transfer, and say the same.
    fn check_transfers(&self, views: &[View; 2], owner: usize) -> Result<(), String> {
        let given = transfer_in(&views[GIVER])?;
        let taken = transfer_in(&views[RECEIVER])?;
        let says = format!("n{} has it; {given:?}; {taken:?}", owner + 1);
        let Some(given) = given else {
            // The call was lost: then nobody was told that it was done.
            let was_told = self.moves.is_some_and(|job| self.ended.contains_key(&job));
            return if taken.is_some() || was_told || owner != GIVER { Err(says) } else { Ok(()) };
        };
        let want = if owner == RECEIVER { TransferState::Accepted } else { TransferState::Refused };
        let is_same = taken.as_ref().is_none_or(|taken| taken.state == want);
        if given.state != want || !is_same {
            return Err(says);
        }
        let is_known = taken.as_ref().is_some_and(|taken| taken.acknowledged);
        if owner == RECEIVER && !is_known {
            return Err(format!("it is not acknowledged: {says}"));
        }
        if owner == GIVER && !self.plan.is_called_off {
            return Err(format!("nobody called it off: {says}"));
        }
        Ok(())
    }
}

/// The transfer that a node keeps, if it keeps one.
fn transfer_in(view: &View) -> Result<Option<Arc<Transfer>>, String> {
    let key = |byte| Key::Transfer(TransferId::from_bytes([byte; 16]));
    let mut rows = view.rows(&key(0), &key(0xff), usize::MAX).map_err(said)?;
    match (rows.pop(), rows.is_empty()) {
        (None, _) => Ok(None),
        (Some((_, Row::Transfer(held))), true) => Ok(Some(held)),
        (held, _) => Err(format!("one transfer has become more: {held:?}")),
    }
}
