//! Commands that concern the running node rather than what is stored.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::clock;
use super::hub::{HubMessage, SAY_CHARS_MAX, is_text};
use super::pinned::Pinned;
use super::start::Node;
use crate::commands::{find_job, job_json};
use crate::model::{
    AccountId, Act, ApiKey, Bootstrap, BootstrapPeer, Caller, Code, EntryId, JobId, JobStatus,
    Json, Key, Kind, Problem, Row, ServerId, Settings, Snapshot, Strangers, TicketText, WorldId,
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
        "node.backup" => super::backup::back_up(node, text("file")).await,
        "node.clock" => Ok(clock_shown(args.get("confirm") == Some(&Json::Bool(true)))),
        "node.stop" => {
            node.ask_to_stop();
            Ok(json!({"stopping": true}))
        }
        "job.wait" => wait(node, text("job"), caller, timeout_ms).await,
        "peer.ls" => Ok(json!({"items": peers(node).await?, "next": null})),
        "peer.join" if TicketText::is_one(text("address")) => {
            join_by_ticket(node, text("address"), timeout_ms).await
        }
        "peer.join" => join(node, text("address"), timeout_ms).await,
        "peer.connect" => connect(node, text("server"), timeout_ms).await,
        "ticket.add" => add_ticket(node, args).await,
        "ticket.show" => show_ticket(text("ticket")),
        "avatar.say" => say(node, text("text"), caller).await,
        "avatar.move" => go(node, args, caller).await,
        "server.confirm" => confirm(node, text("server")).await,
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
    let worlds =
        count(Key::World(WorldId::from_bytes(none)), Key::World(WorldId::from_bytes(all)))?;
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
        "clock_jumped_ms": clock::jumped_ms(),
    }))
}

/// What time it is; whoever confirms says that the machine's clock is right.
fn clock_shown(confirms: bool) -> Json {
    if confirms {
        clock::confirm();
    }
    json!({
        "now": clock::now().to_string(),
        "machine": clock::machine().to_string(),
        "jumped_ms": clock::jumped_ms(),
    })
}

fn id(node: &Node) -> Json {
    json!({
        "peer_id": node.peer_id(),
        "server_id": node.setting.us,
        "name": node.setting.name,
        "element": node.setting.us.element(),
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

/// A ticket as text, with where this node can be reached.
async fn add_ticket(node: &Node, args: &Json) -> Result<Json, Problem> {
    let made = node.asker.call_as_node("ticket.make", args.clone()).await?;
    let field = |name: &str| made.get(name).cloned().unwrap_or_default();
    let secret = field("secret").as_str().and_then(crate::model::unhex).unwrap_or_default();
    let mut ticket = TicketText::new(
        node.bootstrap.network.clone(),
        node.setting.name.to_string(),
        node.setting.keys.public(),
        reachable(&node.listen),
    );
    ticket.secret = secret.into();
    ticket.list = field("list").as_str().map(str::to_owned);
    ticket.world = field("world").as_str().map(str::to_owned);
    ticket.ends_at_ms = field("ends_at_ms").as_u64().unwrap_or(0);
    Ok(json!({
        "id": field("id"),
        "ticket": ticket.write(),
        "list": field("list"),
        "world": field("world"),
        "ends_at": field("ends_at"),
    }))
}

/// Addresses in one ticket at most.
const TICKET_ADDRESSES_MAX: usize = 6;

/// Of the addresses as bound, those that others may reach; where there is none, all.
fn reachable(listen: &[String]) -> Vec<String> {
    let bare = |address: &String| address.split("/p2p/").next().unwrap_or_default().to_owned();
    let local =
        |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    let mut found: Vec<String> =
        listen.iter().filter(|address| !local(address)).map(bare).collect();
    if found.is_empty() {
        found = listen.iter().map(bare).collect();
    }
    found.truncate(TICKET_ADDRESSES_MAX);
    found
}

fn read_ticket(text: &str) -> Result<TicketText, Problem> {
    TicketText::read(text).map_err(|mistake| {
        Problem::new(Code::Usage, mistake.to_string())
            .hint("make one on the other node with: freehold invite")
    })
}

fn show_ticket(text: &str) -> Result<Json, Problem> {
    let ticket = read_ticket(text)?;
    let peer_id = ticket.peer_key().map(|key| crate::model::peer_id_of(&key));
    Ok(json!({
        "name": ticket.name,
        "peer_id": peer_id,
        "network": ticket.network,
        "addresses": ticket.addresses,
        "list": ticket.list,
        "world": ticket.world,
        "ends_at": crate::model::Timestamp::from_ms(ticket.ends_at_ms).to_string(),
    }))
}

/// Joins with a ticket that leads to a world. The world's name from here.
pub(super) async fn world_by_ticket(
    node: &Node,
    text: &str,
    timeout_ms: u64,
) -> Result<String, Problem> {
    let world = read_ticket(text)?.world;
    let world = world.as_deref().and_then(|world| world.split_once('/'));
    let Some((owner, world)) = world else {
        return Err(Problem::new(Code::Usage, "the ticket leads to no world")
            .hint("join with it, then name the world: freehold join TICKET"));
    };
    let joined = join_by_ticket(node, text, timeout_ms).await?;
    let server = joined.get("server").and_then(Json::as_str).unwrap_or_default();
    Ok(format!("{owner}@{server}/{world}"))
}

/// Joins and is approved in one.
async fn join_by_ticket(node: &Node, text: &str, timeout_ms: u64) -> Result<Json, Problem> {
    let ticket = read_ticket(text)?;
    if ticket.network != node.bootstrap.network {
        let says = format!(
            "the ticket is for the network '{}', this node is in '{}'",
            ticket.network, node.bootstrap.network
        );
        return Err(Problem::new(Code::WrongNetwork, says)
            .hint("compare the name under [network] in both bootstrap.toml"));
    }
    let key = ticket.peer_key();
    let peer_id = key.map(|key| crate::model::peer_id_of(&key));
    let peer_id = peer_id.ok_or_else(|| Problem::new(Code::Usage, "the ticket names no peer"))?;
    let was_first_peer = node.home.bootstrap_text().is_ok_and(|text| text.contains(&peer_id));
    let mut joined = Err(Problem::new(Code::Usage, "the ticket names no address"));
    for address in &ticket.addresses {
        joined = join(node, &format!("{address}/p2p/{peer_id}"), timeout_ms).await;
        if joined.is_ok() {
            break;
        }
    }
    let mut joined = joined?;
    let server = joined.get("server").cloned().unwrap_or_default();
    let secret = crate::model::hex(&ticket.secret);
    let present = json!({"server": server, "secret": secret});
    let answer = node.asker.call_as_node_within("ticket.present", present, timeout_ms).await;
    if answer.as_ref().is_err_and(|problem| problem.code == Code::Refused) && !was_first_peer {
        edit(node, |text| Bootstrap::edit_out(text, &peer_id))?;
    }
    let answer = answer?;
    node.asker.call_as_node("server.allow", json!({"server": server})).await?;
    if let Some(list) = answer.get("list").and_then(Json::as_str) {
        let add = json!({"list": list, "server": server});
        node.asker.call_as_node("protection.add", add).await?;
        joined["list"] = json!(list);
        joined["state"] = until_active(node, list, &server, timeout_ms).await?;
    }
    joined["world"] = json!(ticket.world);
    Ok(joined)
}

/// Waits until a place on a list is agreed on by both sides, as long as there is time.
async fn until_active(
    node: &Node,
    list: &str,
    server: &Json,
    timeout_ms: u64,
) -> Result<Json, Problem> {
    let id = server.as_str().and_then(|id| id.parse::<ServerId>().ok());
    let id = id.ok_or_else(|| Problem::new(Code::Internal, "the server has no id"))?;
    let key = crate::model::name_key(list);
    let deadline = clock::now().after_ms(timeout_ms);
    loop {
        let held = (&node.store.view()? as &dyn Snapshot).protection(id, &key)?;
        let state = held.map(|held| held.state);
        let is_open = state == Some(crate::model::ProtectionState::Asked);
        if !is_open || clock::now() >= deadline {
            return Ok(json!(state));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Dials a server that was met, now.
async fn connect(node: &Node, server: &str, timeout_ms: u64) -> Result<Json, Problem> {
    let known = known(node, server)?;
    let (reply, answer) = oneshot::channel();
    let message = HubMessage::Connect { server: known.id, reply };
    node.hub.send(message).await.map_err(|_| stopping())?;
    let met = tokio::time::timeout(Duration::from_millis(timeout_ms), answer).await;
    met.map_err(|_| {
        Problem::new(Code::PeerUnreachable, format!("'{server}' did not answer in time"))
    })?
    .map_err(|_| stopping())??;
    Ok(json!({"server": known.id, "name": known.name}))
}

/// A server that was met, by its name here or its id.
fn known(node: &Node, server: &str) -> Result<Arc<crate::model::Server>, Problem> {
    let stored = node.store.view()?;
    let stored: &dyn Snapshot = &stored;
    let by_name = stored.id_at(Key::ServerName(crate::model::name_key(server)))?;
    let id = by_name.map(ServerId::from_bytes).or_else(|| server.parse().ok());
    let held = match id {
        Some(id) => stored.server(id)?,
        None => None,
    };
    held.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no server '{server}' here"))
            .hint("see them with: freehold server ls")
    })
}

/// Looks up whether a server's domain names its key.
async fn confirm(node: &Node, server: &str) -> Result<Json, Problem> {
    let known = known(node, server)?;
    let domain = known.domain.clone().ok_or_else(|| {
        Problem::new(Code::Usage, format!("'{}' claims no domain", known.name))
            .hint("note one with: freehold server set SERVER --domain DOMAIN")
    })?;
    if !crate::model::is_domain(&domain) {
        return Err(Problem::new(Code::Usage, format!("'{domain}' is no domain")));
    }
    let peer_id = crate::model::peer_id_of(&known.key);
    let resolver = node.settings.resolver.as_deref().and_then(|at| at.parse().ok());
    super::dns::check(&domain, &peer_id, resolver).await?;
    let args = json!({"server": known.id.to_string(), "domain": domain, "peer_id": peer_id});
    node.asker.call_as_node("server.confirmed", args).await
}

/// Who acts, and what they are called.
fn acting(node: &Node, caller: &Caller) -> Result<(AccountId, String), Problem> {
    let id = caller.account().ok_or_else(|| {
        Problem::new(Code::Usage, "no account acts here").hint("name one with --as ACCOUNT")
    })?;
    let held = (&node.store.view()? as &dyn Snapshot).account(id)?;
    let held = held.ok_or_else(|| Problem::new(Code::NotFound, "that account is gone"))?;
    Ok((id, held.name.to_string()))
}

async fn act(node: &Node, caller: &Caller, act: Act) -> Result<(), Problem> {
    let (account, name) = acting(node, caller)?;
    let (reply, answer) = oneshot::channel();
    let message = HubMessage::Act { account, name, act, reply };
    node.hub.send(message).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}

/// Says something to those who are in the same world.
async fn say(node: &Node, text: &str, caller: &Caller) -> Result<Json, Problem> {
    if text.trim().is_empty() || !is_text(text, SAY_CHARS_MAX) {
        let says = format!("somebody says 1 to {SAY_CHARS_MAX} characters at a time, in one line");
        return Err(Problem::new(Code::Usage, says));
    }
    act(node, caller, Act::Say(text.to_owned())).await?;
    Ok(json!({"said": text}))
}

/// Goes to another place in the same world.
async fn go(node: &Node, args: &Json, caller: &Caller) -> Result<Json, Problem> {
    let given = ["x", "y", "z"].into_iter().filter_map(|axis| {
        let value = args.get(axis).filter(|value| !value.is_null())?;
        Some((axis.to_owned(), value.clone()))
    });
    let position = Json::Object(given.collect());
    let position = Kind::Position
        .check(position)
        .map_err(|mistake| Problem::new(Code::WrongKind, format!("the position: {mistake}")))?;
    act(node, caller, Act::Move(position.clone())).await?;
    Ok(json!({"position": position}))
}

/// Exchanges in one measurement at most.
const EXCHANGES_MAX: u64 = 10_000;

async fn ping(node: &Node, server: &str, times: u64, timeout_ms: u64) -> Result<Json, Problem> {
    let id = known(node, server)?.id;
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
        "cache_mib" => json!(settings.cache_mib),
        "strangers_limit" => {
            json!({"calls": settings.strangers_limit.calls, "seconds": settings.strangers_limit.seconds})
        }
        "strangers" => match settings.strangers {
            Strangers::Everyone => json!("everyone"),
            Strangers::Ask => json!("ask"),
        },
        "domain" => json!(settings.domain),
        "resolver" => json!(settings.resolver),
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
