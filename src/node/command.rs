//! Commands that concern the running node rather than what is stored.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::clock;
use super::hub::HubMessage;
use super::pinned::Pinned;
use super::start::Node;
use crate::commands::{find_job, job_json};
use crate::model::{
    AccountId, ApiKey, Bootstrap, BootstrapPeer, Caller, Code, EntryId, JobId, JobStatus, Json,
    Key, Problem, Row, ServerId, Settings, Snapshot, WorldId,
};
use crate::net;

/// Things of one sort that are counted for the status.
const COUNTED_MAX: usize = 10_000;
/// Pause between two looks at a job that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Who sent a call.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Whoever opened the control socket.
    Operator,
    /// A program with a key.
    Key(Arc<ApiKey>),
}

impl Origin {
    /// Whether it is the operator.
    pub fn is_operator(&self) -> bool {
        match self {
            Self::Operator => true,
            Self::Key(key) => key.admin,
        }
    }
}

pub(super) async fn run(
    node: &Node,
    command: &str,
    args: &Json,
    caller: &Caller,
    timeout_ms: u64,
) -> Result<Json, Problem> {
    let text = |name: &str| args.get(name).and_then(Json::as_str).unwrap_or_default();
    match command {
        "node.status" => status(node).await,
        "node.id" => Ok(id(node)),
        "node.stop" => {
            node.ask_to_stop();
            Ok(json!({"stopping": true}))
        }
        "job.wait" => wait(node, text("job"), caller, timeout_ms).await,
        "peer.ls" => Ok(json!({"items": peers(node).await?, "next": null})),
        "peer.join" => join(node, text("address"), timeout_ms).await,
        "peer.ping" => {
            let times = args.get("times").and_then(Json::as_u64).unwrap_or(1);
            ping(node, text("server"), times, timeout_ms).await
        }
        "bootstrap.ls" => Ok(bootstrap_ls(node)),
        "bootstrap.add" => {
            let (_, key) = split(text("address"))?;
            edit(node, |text_now| Bootstrap::edit_in(text_now, text("address")).map(Some))?;
            Ok(json!({"peer_id": crate::model::peer_id_of(&key)}))
        }
        "bootstrap.rm" => {
            let removed = edit(node, |text_now| Bootstrap::edit_out(text_now, text("peer_id")))?;
            if removed {
                Ok(json!({"peer_id": text("peer_id")}))
            } else {
                Err(Problem::new(
                    Code::NotFound,
                    format!("no first peer here is '{}'", text("peer_id")),
                ))
            }
        }
        "config.show" => Ok(config(node)),
        other => Err(Problem::new(Code::UnknownCommand, format!("there is no command '{other}'"))),
    }
}

async fn peers(node: &Node) -> Result<Vec<Json>, Problem> {
    let (reply, answer) = oneshot::channel();
    node.hub.send(HubMessage::Peers(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())
}

fn stopping() -> Problem {
    Problem::new(Code::Busy, "the node is stopping")
}

async fn status(node: &Node) -> Result<Json, Problem> {
    let peers = peers(node).await?;
    let view = node.store.view()?;
    let count =
        |first: Key, last: Key| view.rows(&first, &last, COUNTED_MAX).map(|rows| rows.len());
    let (none, all) = ([0; 16], [0xff; 16]);
    // What the system has of its own is not counted.
    let own = AccountId::of_server(node.setting.us);
    let accounts =
        count(Key::Account(AccountId::from_bytes(none)), Key::Account(AccountId::from_bytes(all)))?;
    let worlds = count(Key::World(WorldId::from_bytes(none)), Key::World(WorldId::from_bytes(all)))?;
    let others = |system: Key, all: usize| {
        view.row(&system).map(|held| all - usize::from(held.is_some() && all > 0))
    };
    let open = view.rows(
        &Key::Job(JobId::from_bytes(none)),
        &Key::Job(JobId::from_bytes(all)),
        COUNTED_MAX,
    )?;
    let open = open.iter().filter(|(_, row)| match row {
        Row::Job(job) => !matches!(job.status, JobStatus::Finished { .. }),
        _ => false,
    });
    let turn = match view.last_row(&Key::Turn(0), &Key::Turn(u64::MAX))? {
        Some((Key::Turn(number), _)) => number,
        _ => 0,
    };
    Ok(json!({
        "health": if node.is_read_only() { "read_only" } else { "good" },
        "name": node.setting.name,
        "server_id": node.setting.us,
        "peer_id": node.peer_id(),
        "listen": node.listen,
        "peers": peers.len(),
        "servers": count(Key::Server(ServerId::from_bytes(none)), Key::Server(ServerId::from_bytes(all)))?,
        "accounts": others(Key::Account(own), accounts)?,
        "worlds": others(Key::World(node.setting.us.system_world()), worlds)?,
        "jobs": open.count(),
        "inbox": count(Key::Inbox(EntryId::from_bytes(none)), Key::Inbox(EntryId::from_bytes(all)))?,
        "turn": turn,
    }))
}

fn id(node: &Node) -> Json {
    json!({
        "peer_id": node.peer_id(),
        "server_id": node.setting.us,
        "name": node.setting.name,
        "listen": node.listen,
        "network": node.bootstrap.network,
    })
}

async fn wait(node: &Node, job: &str, caller: &Caller, timeout_ms: u64) -> Result<Json, Problem> {
    let missing = || Problem::new(Code::NotFound, format!("there is no job '{job}' here"));
    let id: JobId = job.parse().map_err(|_| missing())?;
    let patience = Duration::from_millis(timeout_ms);
    let ended = async {
        loop {
            let view = node.store.view()?;
            let held = find_job(&view, id)?.ok_or_else(missing)?;
            let own = matches!(caller, Caller::Local { operator: true, .. })
                || held.call.caller.account() == caller.account();
            if !own {
                return Err(missing());
            }
            if held.is_finished() {
                return Ok(job_json(&held, |server| {
                    match (&view as &dyn Snapshot).server(server) {
                        Ok(Some(known)) => known.name.to_string(),
                        Ok(None) | Err(_) => server.to_string(),
                    }
                }));
            }
            drop(view);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(patience, ended).await.unwrap_or_else(|_| {
        Err(Problem::new(Code::TimedOut, "the job has not ended yet")
            .hint("wait longer with --timeout"))
    })
}

fn split(address: &str) -> Result<(String, [u8; 32]), Problem> {
    net::split_multiaddr(address).ok_or_else(|| {
        let problem = Problem::new(
            Code::Usage,
            format!("'{address}' is no multiaddr that ends in /p2p/PEER_ID"),
        );
        problem.hint("the other node shows its own with: freehold id")
    })
}

async fn join(node: &Node, address: &str, timeout_ms: u64) -> Result<Json, Problem> {
    let (place, key) = split(address)?;
    if key == node.setting.keys.public() {
        if !node.listen.iter().any(|own| own == address) {
            tracing::warn!(
                "another node has our key: a home that was copied must not be started twice"
            );
        }
        return Err(Problem::new(Code::Usage, "that is this node itself"));
    }
    let (reply, answer) = oneshot::channel();
    let message = HubMessage::Join { key, address: place.clone(), reply };
    node.hub.send(message).await.map_err(|_| stopping())?;
    let met = tokio::time::timeout(Duration::from_millis(timeout_ms), answer).await;
    let server = met
        .map_err(|_| {
            Problem::new(Code::PeerUnreachable, "nobody answered in time at that address")
        })?
        .map_err(|_| stopping())??;
    node.asker.wait_for_entry(server).await;
    edit(node, |text| Bootstrap::edit_in(text, address).map(Some))?;
    let peer = BootstrapPeer {
        name: None,
        peer_id: crate::model::peer_id_of(&key),
        addresses: vec![place],
    };
    if let Some(mut pinned) = Pinned::new(&peer) {
        pinned.server = Some(server);
        pinned.connected = true;
        node.hub.send(HubMessage::Pin(Box::new(pinned))).await.ok();
    }
    let known = (&node.store.view()? as &dyn Snapshot).server(server)?;
    Ok(json!({
        "server": server,
        "name": known.map(|known| known.name.to_string()),
        "peer_id": crate::model::peer_id_of(&key),
    }))
}

/// Exchanges in one measurement at most.
const EXCHANGES_MAX: u64 = 10_000;

async fn ping(node: &Node, server: &str, times: u64, timeout_ms: u64) -> Result<Json, Problem> {
    let stored = node.store.view()?;
    let id = (&stored as &dyn Snapshot)
        .id_at(Key::ServerName(crate::model::name_key(server)))?
        .map(ServerId::from_bytes);
    let id = id.or_else(|| server.parse().ok());
    let id = id.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no server '{server}' here"))
    })?;
    let mut took = Vec::new();
    for _ in 0..times.clamp(1, EXCHANGES_MAX) {
        let begun = clock::instant();
        let (reply, answer) = oneshot::channel();
        node.hub.send(HubMessage::Exchange(id, reply)).await.map_err(|_| stopping())?;
        let waited = tokio::time::timeout(Duration::from_millis(timeout_ms), answer).await;
        if !matches!(waited, Ok(Ok(()))) {
            let says = format!("'{server}' does not answer, or there is no connection to it");
            return Err(Problem::new(Code::PeerUnreachable, says)
                .hint(format!("see why with: freehold server show {server}")));
        }
        took.push(begun.elapsed());
    }
    let all: Duration = took.iter().sum();
    took.sort();
    let ms = |at: usize| took.get(at).map(|time| time.as_secs_f64() * 1_000.0);
    Ok(json!({
        "server": server,
        "ms": ms(took.len() / 2),
        "p99_ms": ms(took.len() * 99 / 100),
        "per_second": took.len() as f64 / all.as_secs_f64(),
    }))
}

fn bootstrap_ls(node: &Node) -> Json {
    let items: Vec<Json> = node
        .bootstrap
        .peers
        .iter()
        .map(|peer| json!({"id": peer.peer_id, "name": peer.name, "addresses": peer.addresses}))
        .collect();
    json!({"items": items, "next": null})
}

/// Edits the bootstrap file of the home. Whether there was anything to edit.
fn edit(
    node: &Node,
    edit: impl FnOnce(&str) -> Result<Option<String>, crate::model::BootstrapMistake>,
) -> Result<bool, Problem> {
    let failed = |says: String| Problem::new(Code::Usage, says);
    let text = node.home.bootstrap_text().map_err(|error| failed(error.to_string()))?;
    let edited = edit(&text).map_err(|mistake| failed(format!("bootstrap.toml, {mistake}")))?;
    let Some(edited) = edited else { return Ok(false) };
    node.home
        .write("bootstrap.toml", edited.as_bytes())
        .map_err(|error| failed(error.to_string()))?;
    Ok(true)
}

fn config(node: &Node) -> Json {
    let settings = &node.settings;
    let flag = |key: &str| match key {
        "name" => node.flags.name.as_ref().map(|name| json!(name)),
        "listen" => {
            Some(&node.flags.listen).filter(|listen| !listen.is_empty()).map(|listen| json!(listen))
        }
        "api" => node.flags.api.as_ref().map(|api| json!(api)),
        _ => None,
    };
    let value = |key: &str| match key {
        "account" => json!(settings.account),
        "name" => json!(settings.name),
        "listen" => json!(settings.listen),
        "api" => json!(settings.api),
        "time_zone" => json!(settings.time_zone),
        "mdns" => json!(settings.mdns),
        "record_seconds" => json!(settings.record_seconds),
        "keep_hours" => json!(settings.keep_hours),
        "strangers_limit" => {
            json!({"calls": settings.strangers_limit.calls, "seconds": settings.strangers_limit.seconds})
        }
        _ => json!(settings.strangers_connections),
    };
    let items: Vec<Json> = Settings::KEYS
        .iter()
        .map(|key| match (flag(key), node.given.contains(*key)) {
            (Some(given), _) => json!({"name": key, "value": given, "from": "flag"}),
            (None, true) => json!({"name": key, "value": value(key), "from": "freehold.toml"}),
            (None, false) => json!({"name": key, "value": value(key), "from": "default"}),
        })
        .collect();
    json!({"items": items, "next": null})
}
