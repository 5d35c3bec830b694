//! Visitors from ten nodes in one world of an eleventh, all real nodes, each a process of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::process::{Door, Process, Stream};
use crate::floor::processor::used_by;
use crate::floor::rounds::Fault;
use crate::floor::walk::{
    HOMES, STEPS_MAX, VISITORS, VISITORS_OF_HOME, View, Walk, Walked, home_of, see, sum_up, views,
    watched,
};

/// The world as its visitors name it.
const WORLD: &str = "alice@host/garden";
/// How long one move may wait for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looks at who has arrived, at most, and the pause between two.
const LOOKS_MAX: u32 = 400;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long it takes until all visitors stand ready.
const READY: Duration = Duration::from_millis(200);

/// What came of a walk of real nodes.
pub(crate) struct Crowded {
    pub(crate) walked: Walked,
    /// Moves that were not answered as done.
    pub(crate) refused: usize,
    /// Streams of events that ended before the walk did.
    pub(crate) streams_ended: usize,
    /// Processor time that the host used in the part that counts.
    pub(crate) host: Duration,
    /// The same of all nodes.
    pub(crate) all: Duration,
}

/// What the bench wants to know of `avatar_moved`.
#[derive(Deserialize)]
struct Shown {
    value: Moved,
}

#[derive(Deserialize)]
struct Moved {
    position: Position,
}

/// A visitor is known by how far east it is, and its move by how far north.
#[derive(Deserialize)]
struct Position {
    x: usize,
    y: usize,
}

fn name_of(visitor: usize) -> String {
    format!("w{visitor}")
}

/// One walk, in which each visitor moves this often, with nodes that are started for it and end with it.
pub(crate) async fn walk(every: Duration) -> Result<Crowded, Fault> {
    let names =
        (0..=HOMES).map(|node| if node == 0 { "host".to_owned() } else { format!("home{node}") });
    let nodes = try_join_all(names.map(Process::start)).await?;
    let host = &nodes[0];
    host.call(None, "account.add", json!({"name": "alice"})).await?;
    host.call(None, "world.add", json!({"name": "alice/garden"})).await?;
    let arriving = nodes[1..].iter().enumerate();
    try_join_all(arriving.map(|(at, home)| arrive(home, host, at * VISITORS_OF_HOME))).await?;

    let mut doors = Vec::new();
    for visitor in 0..VISITORS {
        doors.push(Door::open(&nodes[home_of(visitor)]).await?);
    }
    let mut streams = Vec::new();
    for node in &nodes {
        streams.push(Door::open(node).await?.events("avatar_moved").await?);
    }
    let walk = Arc::new(Walk::beginning_in(READY));
    let views = views(&walk);
    let followers: Vec<_> = streams
        .into_iter()
        .zip(&views)
        .map(|(stream, view)| tokio::spawn(follow(stream, view.clone())))
        .collect();
    let walkers: Vec<_> = doors
        .into_iter()
        .enumerate()
        .map(|(visitor, door)| tokio::spawn(go(visitor, door, every, walk.clone())))
        .collect();
    let pids = nodes.iter().map(Process::pid).collect::<Result<Vec<_>, _>>()?;
    let [host, all] = watched(&walk, || {
        let used = pids.iter().map(|pid| used_by(pid)).collect::<Result<Vec<_>, _>>()?;
        Ok([used[0], used.iter().sum()])
    })
    .await?;
    let mut refused = 0;
    for walker in walkers {
        refused += walker.await??;
    }
    let streams_ended = followers.iter().filter(|follower| follower.is_finished()).count();
    for follower in followers {
        follower.abort();
    }
    Ok(Crowded { walked: sum_up(&walk, &views), refused, streams_ended, host, all })
}

/// Makes the visitors of a home, from number `first` on, and lets them into the world of the host.
async fn arrive(home: &Process, host: &Process, first: usize) -> Result<(), Fault> {
    home.call(None, "peer.join", json!({"address": host.address()?})).await?;
    let visitors = first..first + VISITORS_OF_HOME;
    for visitor in visitors.clone() {
        home.call(None, "account.add", json!({"name": name_of(visitor)})).await?;
    }
    let entering = visitors.map(|visitor| async move {
        home.call(Some(&name_of(visitor)), "world.enter", json!({"world": WORLD})).await
    });
    try_join_all(entering).await?;
    let server = host.server()?;
    for _ in 0..LOOKS_MAX {
        let listed = home.call(None, "avatar.ls", json!({})).await?;
        let places = listed["items"].as_array().into_iter().flatten();
        if places.filter(|place| place["server"] == server).count() == VISITORS_OF_HOME {
            return Ok(());
        }
        sleep(LOOK_AGAIN).await;
    }
    Err("not everybody has arrived".into())
}

/// Moves as long as the walk goes on. Says how many moves were refused.
async fn go(
    visitor: usize,
    mut door: Door,
    every: Duration,
    walk: Arc<Walk>,
) -> Result<usize, Fault> {
    // Not all at the same moment.
    let share = every * u32::try_from(visitor)? / u32::try_from(VISITORS)?;
    sleep(walk.until(share)).await;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let name = name_of(visitor);
    let mut refused = 0;
    for step in 0..STEPS_MAX {
        ticks.tick().await;
        if !walk.is_on() {
            break;
        }
        let args = json!({"x": visitor, "y": step});
        let call = json!({"command": "avatar.move", "caller": name, "args": args});
        walk.make(visitor, step);
        if timeout(PATIENCE, door.call(call.to_string())).await?? != 200 {
            walk.unmake(visitor, step);
            refused += 1;
        }
    }
    Ok(refused)
}

/// Notes what a node shows until its stream ends.
async fn follow(stream: Stream, view: Arc<Mutex<View>>) -> Result<(), Fault> {
    stream
        .hear(|json| {
            let Shown { value: Moved { position } } = serde_json::from_slice(json)?;
            see(&view, position.x, position.y);
            Ok(())
        })
        .await
}
