//! A partner that is away: how often it is looked for meanwhile, and how soon it has everything once
//! it is back. Two nodes, and a network in which nothing else goes wrong.

use std::collections::BTreeMap;

use freehold::model::{Budget, Call, JobId, Json, Problem, Root, ServerId, Timestamp};
use freehold::script::Machine;
use serde_json::json;

use crate::dice::Dice;
use crate::genesis::{NODES_MAX, machine, name_there};
use crate::model::Thing;
use crate::network::Message;
use crate::node::{Channel, Node, Planted, Process, Want, Work};

/// When it begins, in milliseconds since 1970: after the nodes were made.
const BEGUN_MS: u64 = 1_700_000_100_000;
/// When the partner leaves.
const LEFT_MS: u64 = 1_000;
/// How long it is away, in milliseconds.
const AWAY_MS: u64 = 3_600_000;
/// When it is back.
const BACK_MS: u64 = LEFT_MS + AWAY_MS;
/// How soon after that it has everything, in milliseconds.
const ARRIVED_MAX_MS: u64 = 5_000;
/// Dials of the one that waits while the partner is away, at most.
const DIALS_MAX: usize = 60;
/// Calls that are made, nearly all while it is away: more than fit into one batch.
const CALLS: i64 = 300;
/// As few as let something wait for it all the time.
const CALLS_FEW: i64 = 2;
/// How long a call is worth doing, in milliseconds.
const PATIENCE_MS: u64 = 2 * AWAY_MS;
/// A deadline that has passed already is looked at again after this time, in milliseconds.
const OVERDUE_AGAIN_MS: u64 = 25;
/// The one that waits; the other one is away.
const WAITS: usize = 0;
const AWAY: usize = 1;

#[test]
fn a_partner_that_was_away_for_an_hour_gets_everything_in_order_and_soon() {
    let machines = [machine(), machine()];
    for partner in 1..NODES_MAX {
        let mut pair = Pair::new(&machines, partner, CALLS);

        pair.play(BACK_MS + ARRIVED_MAX_MS).unwrap();

        let counts: Vec<i64> = pair.called.iter().filter_map(|job| pair.count_told(*job)).collect();
        let want: Vec<i64> = (1..=CALLS).collect();
        assert_eq!(counts, want, "n{}", partner + 1);
        assert_eq!(pair.count_there().unwrap(), CALLS, "n{}", partner + 1);
    }
}

#[test]
fn a_partner_that_is_away_for_an_hour_is_dialled_a_few_times_alone() {
    let machines = [machine(), machine()];
    for partner in 1..NODES_MAX {
        let mut pair = Pair::new(&machines, partner, CALLS_FEW);

        pair.play(BACK_MS - 1).unwrap();

        // It is looked for all the time, but ever more seldom.
        let dials = pair.dials;
        assert!(dials > 0, "n{} is not looked for", partner + 1);
        assert!(dials <= DIALS_MAX, "n{} is dialled {dials} times", partner + 1);
    }
}

/// What happens, to whom.
enum Event {
    /// Somebody where the other is waited for calls there.
    Called,
    /// A node does one thing.
    Worked(usize),
    /// A deadline of a node has come.
    Ticked(usize),
    /// A node reached the other, or did not.
    Dialled(usize),
    /// A batch arrives.
    Requested(Message),
    /// An answer arrives.
    Responded(Message),
    /// The partner leaves.
    Left,
    /// The partner is back.
    Back,
}

/// One that waits, and its partner.
struct Pair<'m> {
    nodes: [Node<'m>; 2],
    /// The partner's element that is counted up.
    thing: Thing,
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
    /// How often the one that waits has dialled since the partner left.
    dials: usize,
    /// What was called, in order.
    called: Vec<JobId>,
    /// How calls ended.
    ended: BTreeMap<JobId, Result<Json, Problem>>,
}

impl<'m> Pair<'m> {
    fn new(machines: &'m [Machine; 2], partner: usize, calls: i64) -> Self {
        let waits = Node::new(0, &machines[WAITS], Planted::Nothing);
        let mut away = Node::new(partner, &machines[AWAY], Planted::Nothing);
        // It goes on dialling whom it knows.
        away.pin(&[waits.server(), away.server()]);
        let mut pair = Self {
            nodes: [waits, away],
            thing: Thing { home: partner, number: 0 },
            dice: Dice::new(partner as u64),
            now: 0,
            events: BTreeMap::new(),
            counted: 0,
            working: [false; 2],
            ticks_at: [None; 2],
            connection: None,
            connections: 0,
            dials: 0,
            called: Vec::new(),
            ended: BTreeMap::new(),
        };
        pair.later(LEFT_MS, Event::Left);
        pair.later(BACK_MS, Event::Back);
        // One while both are there, one as soon as the partner has left, the others at any time.
        pair.later(LEFT_MS / 2, Event::Called);
        pair.later(LEFT_MS + 1, Event::Called);
        for _ in CALLS_FEW..calls {
            let at = pair.dice.between(LEFT_MS, BACK_MS);
            pair.later(at, Event::Called);
        }
        pair
    }

    /// Lets both begin, and everything happen up to a moment.
    fn play(&mut self, until: u64) -> Result<(), String> {
        for at in [WAITS, AWAY] {
            self.start(at)?;
        }
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= until)
            && let Some(((at, _), event)) = self.events.pop_first()
        {
            self.now = at;
            self.happen(event)?;
        }
        Ok(())
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
            Event::Called => self.call(),
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
            Event::Dialled(at) => self.dialled(at),
            Event::Requested(message) => self.requested(message),
            Event::Responded(message) => self.responded(message),
            Event::Left => self.leave(),
            Event::Back => self.start(AWAY),
        }
    }

    // The nodes.

    fn start(&mut self, at: usize) -> Result<(), String> {
        let now = self.clock();
        self.nodes[at].start(now)?;
        self.let_do(at, |_, _| Ok(()))
    }

    /// The partner's process is gone; the other one notices.
    fn leave(&mut self) -> Result<(), String> {
        self.nodes[AWAY].disk.kill();
        self.nodes[AWAY].process = None;
        self.ticks_at[AWAY] = None;
        self.connection = None;
        let server = self.server(AWAY);
        self.let_do(WAITS, |process, now| {
            process.disconnected(now, AWAY, server);
            Ok(())
        })
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
                if at == WAITS && (LEFT_MS..BACK_MS).contains(&self.now) {
                    self.dials += 1;
                }
                let delay = self.dice.between(2, 40);
                self.later(delay, Event::Dialled(at));
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
                self.ended.insert(job, result);
            }
        }
    }

    fn send(&mut self, from: usize, batch: u64, bytes: Vec<u8>, arrived: fn(Message) -> Event) {
        let Some(connection) = self.connection else { return };
        let message = Message { from, to: 1 - from, connection, batch, bytes };
        let delay = self.dice.between(5, 60);
        self.later(delay, arrived(message));
    }

    /// Sees to it that a node goes on with what it can do, and looks at its deadlines in time.
    fn wake(&mut self, at: usize) {
        let now = self.clock();
        let Some(process) = &self.nodes[at].process else { return };
        let (works, deadline) = (process.works(now), process.deadline());
        if !self.working[at] && !works.is_empty() {
            self.working[at] = true;
            // A commit takes its time, and a turn gathers what comes within a few milliseconds.
            let delay = if works.contains(&Work::Release) { 0 } else { self.dice.between(1, 10) };
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

    /// Somebody counts the partner's element up.
    fn call(&mut self) -> Result<(), String> {
        let now = self.clock();
        let id = JobId::at(now, self.dice.bytes());
        let call = Call {
            id,
            command: "action.call".to_owned(),
            caller: self.nodes[WAITS].caller(),
            args: json!({"element": name_there(self.thing), "action": "step"}),
            world: None,
            meta: Json::Null,
            reply_to: None,
            deadline_at: now.after_ms(PATIENCE_MS),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        };
        self.called.push(id);
        self.let_do(WAITS, |process, _| {
            process.called(call);
            Ok(())
        })
    }

    // The network.

    fn dialled(&mut self, at: usize) -> Result<(), String> {
        let other = 1 - at;
        if self.connection.is_some() || self.nodes[at].process.is_none() {
            return Ok(());
        }
        let server = self.server(other);
        if self.nodes[other].process.is_none() {
            return self.let_do(at, |process, now| {
                process.dial_failed(now, server);
                Ok(())
            });
        }
        self.connections += 1;
        self.connection = Some(self.connections);
        for at in [WAITS, AWAY] {
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

    // What is looked at from outside.

    /// The count that a caller was told.
    fn count_told(&self, job: JobId) -> Option<i64> {
        self.ended.get(&job)?.as_ref().ok()?["result"]["count"].as_i64()
    }

    /// The count that the partner has stored.
    fn count_there(&self) -> Result<i64, String> {
        let process = self.nodes[AWAY].process.as_ref().ok_or("the partner does not run")?;
        let [count, ..] = process.values(self.thing.number)?;
        Ok(count)
    }
}
