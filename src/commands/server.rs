//! Server entries: who was met, and what they may.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::model::{
    Bounds, Code, EntryId, EventKind, InboxEntry, InboxKind, Json, Key, Limit, Name, Problem,
    ProtectionState, Row, Server, ServerId, ServerState, SignedRecord, SystemType, is_domain,
    peer_id_of, unhex,
};
use crate::step::{Halt, Step, Verdict};
use crate::trust::{Verified, decode_record};

/// Addresses that are kept for a server.
const ADDRESSES_MAX: usize = 8;

fn shown(step: &Step<'_>, server: &Server) -> Json {
    let mut json = server.to_json();
    let contact = step.stored().contact(server.id);
    let limit = server.limit.unwrap_or(step.setting.limit);
    json["calls_made"] = json!(contact.calls_made);
    json["over_limit"] = json!(contact.over_limit);
    json["limit"] = json!(limit);
    json["connected"] = json!(contact.connected);
    json["last_contact"] = json!(contact.last_at.map(|at| at.to_string()));
    json["next_try"] = json!(contact.next_try_at.map(|at| at.to_string()));
    json["faults"] = json!(contact.faults);
    json["element"] = json!(server.id.element());
    json
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let this = &*step;
    super::page::list(
        this,
        |id| Key::Server(ServerId::from_bytes(id)),
        |row| match row {
            Row::Server(server) => Some(shown(this, server)),
            _ => None,
        },
    )
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = step.server(step.word("server"))?;
    let mut json = shown(step, &server);
    json["about"] = about(step, &server)?;
    Ok(json)
}

/// How long a server is asked for what it says of itself, in milliseconds.
const ABOUT_MS: u64 = 500;

/// What a server says of itself, as far as it answers at once.
fn about(step: &mut Step<'_>, server: &Server) -> Result<Json, Halt> {
    if !step.stored().contact(server.id).connected {
        return Ok(Json::Null);
    }
    let element = server.id.element().to_string();
    let mut about = serde_json::Map::new();
    for attribute in ["description", "picture"] {
        let args = json!({"element": element, "attribute": attribute});
        let answer = step.ask_server(server.id, "element.get", attribute, args, Some(ABOUT_MS))?;
        if let Ok(answer) = answer {
            about.insert(attribute.to_owned(), answer.get("value").cloned().unwrap_or_default());
        }
    }
    Ok(if about.is_empty() { Json::Null } else { Json::Object(about) })
}

pub(super) fn set(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let server = step.server(step.word("server"))?;
    let (name, domain) = (step.text("name"), step.text("domain"));
    let server = match domain {
        Some(domain) => Arc::new(set_domain(step, &server, domain)?),
        None => server,
    };
    let Some(name) = name else {
        if domain.is_none() {
            return Err(Problem::new(Code::Usage, "say what to set: --name or --domain").into());
        }
        return Ok(shown(step, &server));
    };
    let name = step.name(name)?;
    let holder = step.stored().id_at(Key::ServerName(name.key()))?;
    if holder.is_some_and(|holder| holder != *server.id.as_bytes())
        || name.key() == step.setting.name.key()
    {
        return Err(Problem::new(
            Code::NameTaken,
            format!("another server is called '{name}' already"),
        )
        .into());
    }
    step.change(Key::ServerName(server.name.key()), None)?;
    step.put(Key::ServerName(name.key()), Row::Id(*server.id.as_bytes()))?;
    let renamed = Server { name: name.clone(), ..server.as_ref().clone() };
    step.put(Key::Server(server.id), Row::Server(Arc::new(renamed)))?;
    Ok(json!({"id": server.id, "name": name}))
}

/// Notes the domain that we think is a server's own. It is not confirmed by that.
fn set_domain(step: &mut Step<'_>, server: &Server, domain: &str) -> Result<Server, Halt> {
    let domain = Some(domain.to_lowercase()).filter(|domain| !domain.is_empty());
    if let Some(domain) = domain.as_ref().filter(|domain| !is_domain(domain)) {
        return Err(Problem::new(Code::Usage, format!("'{domain}' is no domain")).into());
    }
    let changed = Server { domain, confirmed_at: None, ..server.clone() };
    step.put(Key::Server(server.id), Row::Server(Arc::new(changed.clone())))?;
    Ok(changed)
}

/// The node looked the domain up, and found that it names the server's key.
pub(super) fn confirmed(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (domain, peer_id) = (step.word("domain").to_owned(), step.word("peer_id").to_owned());
    let now = step.now;
    change(step, |server| {
        // It may have claimed another meanwhile, or have another key.
        if server.domain.as_deref() == Some(&domain) && peer_id_of(&server.key) == peer_id {
            server.confirmed_at = Some(now);
        }
    })
}

/// When a server may call.
pub(super) fn schedule(step: &mut Step<'_>) -> Result<Json, Halt> {
    if step.arg("clear") == &Json::Bool(true) {
        return change(step, |server| server.schedule = None);
    }
    let mut said = serde_json::Map::new();
    match (step.text("cron"), step.text("lasts")) {
        (Some(cron), Some(lasts)) => {
            said.insert("schedules".to_owned(), json!([{"cron": cron, "lasts": lasts}]));
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            let says = "a schedule has both, --cron and --lasts";
            return Err(Problem::new(Code::Usage, says).into());
        }
    }
    let mut span = serde_json::Map::new();
    for end in ["from", "until"] {
        if let Some(text) = step.text(end) {
            span.insert(end.to_owned(), Json::from(text));
        }
    }
    if !span.is_empty() {
        said.insert("times".to_owned(), json!([span]));
    }
    if said.is_empty() {
        let says = "say when: --cron with --lasts, --from, --until, or --clear";
        return Err(Problem::new(Code::Usage, says).into());
    }
    if let Some(zone) = step.text("zone") {
        said.insert("zone".to_owned(), Json::from(zone));
    }
    let bounds = Bounds::from_json(&Json::Object(said))
        .map_err(|mistakes| Problem::new(Code::Usage, mistakes.join("; ")))?;
    change(step, |server| server.schedule = Some(bounds))
}

/// Forgets a server: nothing of ours joins us to it. It may come again, as one that was never met.
pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let server = step.server(step.word("server"))?;
    part(step, server.id)?;
    step.remove_system_element(step.system_world(), server.id.element())?;
    step.change(Key::ServerName(server.name.key()), None)?;
    step.change(Key::Server(server.id), None)?;
    Ok(json!({"id": server.id, "name": server.name}))
}

/// Ends what joins us to a server: protections, and permissions either way.
fn part(step: &mut Step<'_>, id: ServerId) -> Result<(), Halt> {
    decided(step, id)?;
    for row in super::protection::of_server(step, id)? {
        // A no that was said for good stays one.
        if matches!(row.state, ProtectionState::Active | ProtectionState::Asked) {
            super::protection::end(step, &row, ProtectionState::Dropped)?;
        }
    }
    super::avatar::part(step, id, false)?;
    super::token::end_all(step, id)
}

/// Asks the element of this server about one that nobody decided about.
pub(super) fn review(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let server = step.server(step.word("server"))?;
    let allowed = admission(step, &server)?;
    match allowed {
        ServerState::Pending => {}
        ServerState::Allowed => decided(step, server.id)?,
        ServerState::Denied => part(step, server.id)?,
    }
    change(step, |server| server.allowed = allowed)
}

/// What this server's own rules say of another.
fn admission(step: &mut Step<'_>, server: &Server) -> Result<ServerState, Halt> {
    let Some(element) = step.server_element(step.setting.us)? else {
        return Ok(server.allowed);
    };
    let data = json!({
        "server": server.id,
        "name": server.name,
        "peer_id": peer_id_of(&server.key),
        "domain": server.domain,
    });
    match step.verdict(&element, EventKind::IsServerAllowed, data) {
        Ok(Verdict::Yes) => Ok(ServerState::Allowed),
        Ok(Verdict::No(_)) => Ok(ServerState::Denied),
        Ok(Verdict::Open) => Ok(server.allowed),
        // A rule that fails decides nothing.
        Err(Halt::Problem(problem)) => {
            step.log(&problem.says);
            Ok(server.allowed)
        }
        Err(halt) => Err(halt),
    }
}

/// Asks the operator about a server that may use nothing before somebody has decided.
fn ask_operator(step: &mut Step<'_>, server: &Server) -> Result<(), Halt> {
    if super::inbox::check_room(step, server.id).is_err() {
        // It is met all the same, and can be seen among the servers.
        return Ok(());
    }
    let id = question_of(server.id);
    let entry = InboxEntry {
        id,
        kind: InboxKind::Server,
        from: server.id,
        asks: format!("{} wants to use what is public here", server.name),
        list: step.name(ADMISSION)?,
        protection: Vec::new(),
        since: step.now,
        owner: None,
        waits: None,
        later_until: None,
    };
    step.put(Key::Inbox(id), Row::Inbox(Arc::new(entry)))
}

fn question_of(server: ServerId) -> EntryId {
    EntryId::of_hash(&blake3::derive_key("freehold 1 admission", server.as_bytes()))
}

/// Somebody has decided about a server: nobody need be asked any more.
pub(super) fn decided(step: &mut Step<'_>, server: ServerId) -> Result<(), Halt> {
    let id = question_of(server);
    if step.stored().inbox(id)?.is_some() {
        step.change(Key::Inbox(id), None)?;
    }
    Ok(())
}

/// What the inbox calls the question whether a server may call here.
const ADMISSION: &str = "admission";

/// A person answered what was asked about a server.
pub(super) fn answered(step: &mut Step<'_>, entry: &InboxEntry, yes: bool) -> Result<(), Halt> {
    if entry.list.as_str() != ADMISSION {
        return if yes { go_on(step, entry.from) } else { Ok(()) };
    }
    let Some(server) = step.stored().server(entry.from)? else { return Ok(()) };
    if !yes {
        part(step, server.id)?;
    }
    let allowed = if yes { ServerState::Allowed } else { ServerState::Denied };
    let decided = Server { allowed, ..server.as_ref().clone() };
    step.put(Key::Server(server.id), Row::Server(Arc::new(decided)))
}

fn change(step: &mut Step<'_>, change: impl FnOnce(&mut Server)) -> Result<Json, Halt> {
    step.check_operator()?;
    let server = step.server(step.word("server"))?;
    let mut changed = server.as_ref().clone();
    change(&mut changed);
    let json = shown(step, &changed);
    step.put(Key::Server(server.id), Row::Server(Arc::new(changed)))?;
    Ok(json)
}

pub(super) fn allow(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = step.server(step.word("server"))?;
    decided(step, server.id)?;
    change(step, |server| server.allowed = ServerState::Allowed)
}

pub(super) fn deny(step: &mut Step<'_>) -> Result<Json, Halt> {
    let json = change(step, |server| server.allowed = ServerState::Denied)?;
    let server = step.server(step.word("server"))?;
    part(step, server.id)?;
    Ok(json)
}

pub(super) fn pause(step: &mut Step<'_>) -> Result<Json, Halt> {
    let now = step.now;
    change(step, |server| server.paused_at = Some(now))
}

pub(super) fn resume(step: &mut Step<'_>) -> Result<Json, Halt> {
    change(step, |server| server.paused_at = None)
}

/// A person looked at a server that was paused by itself, and lets it go on.
fn go_on(step: &mut Step<'_>, id: ServerId) -> Result<(), Halt> {
    if let Some(server) = step.stored().server(id)? {
        let resumed = Server { paused_at: None, ..server.as_ref().clone() };
        step.put(Key::Server(id), Row::Server(Arc::new(resumed)))?;
    }
    Ok(())
}

pub(super) fn limit(step: &mut Step<'_>) -> Result<Json, Halt> {
    let count = |name: &str| step.arg(name).as_u64().and_then(|count| u32::try_from(count).ok());
    let (Some(calls_per_unit), Some(seconds_in_unit)) =
        (count("calls"), count("seconds").filter(|seconds| *seconds > 0))
    else {
        return Err(Problem::new(
            Code::WrongKind,
            "calls and seconds are whole numbers, seconds from 1",
        )
        .into());
    };
    change(step, |server| server.limit = Some(Limit { calls_per_unit, seconds_in_unit }))
}

/// The node met a server: its record is checked, and an entry made or brought up to date.
pub(super) fn met(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let bad = |says: String| Halt::from(Problem::new(Code::Usage, says));
    let id: ServerId =
        step.word("server").parse().map_err(|_| bad("the server's id is none".to_owned()))?;
    let record = SignedRecord(
        unhex(step.word("record")).ok_or_else(|| bad("the record is no hex".to_owned()))?,
    );
    let incarnation =
        step.word("incarnation").parse().map_err(|_| bad("the incarnation is none".to_owned()))?;
    let held = step.stored().server(id)?;
    let earlier = step.arg("earlier").as_array().into_iter().flatten().filter_map(Json::as_str);
    let earlier: Vec<SignedRecord> = earlier.filter_map(unhex).map(SignedRecord).collect();
    let known = held.as_ref().and_then(|held| decode_record(&held.record).ok());
    let verified = Verified::by_chain(&earlier, &record, known.as_ref());
    let verified =
        verified.map_err(|error| bad(format!("the record cannot be believed: {error}")))?;
    let claims = verified.record().name.clone();
    if verified.record().server_id() != Some(id) {
        return Err(bad("the record is of another server".to_owned()));
    }
    let mut server = match held {
        Some(held) => Server { claims, record, ..held.as_ref().clone() },
        None => {
            let called = step.text("called").and_then(|called| Name::new(called).ok());
            let name = free_name(step, called.as_ref().unwrap_or(&claims))?;
            step.put(Key::ServerName(name.key()), Row::Id(*id.as_bytes()))?;
            Server {
                id,
                name,
                claims,
                record,
                key: verified.record().key,
                sequence: verified.record().sequence,
                allowed: ServerState::Pending,
                paused_at: None,
                limit: None,
                addresses: Vec::new(),
                met_at: step.now,
                incarnation,
                domain: None,
                confirmed_at: None,
                schedule: None,
                // Who is new took nothing of which we know less than they.
                settled_in: step.stored().node()?.map(|node| node.incarnation),
            }
        }
    };
    let domain = step.text("domain").map(str::to_lowercase).filter(|domain| is_domain(domain));
    // What an operator noted stays where the server says nothing itself.
    if domain.is_some() && domain != server.domain {
        (server.domain, server.confirmed_at) = (domain, None);
    }
    let is_rekeyed = server.key != verified.record().key;
    if is_rekeyed {
        server.confirmed_at = None;
    }
    server.key = verified.record().key;
    server.sequence = verified.record().sequence;
    let is_another_life = server.incarnation != incarnation;
    server.incarnation = incarnation;
    if let Some(address) = step.text("address") {
        server.addresses.retain(|held| held != address);
        server.addresses.insert(0, address.to_owned());
        server.addresses.truncate(ADDRESSES_MAX);
    }
    let is_new = step.stored().server(id)?.is_none();
    step.put(Key::Server(id), Row::Server(Arc::new(server.clone())))?;
    if !is_new {
        super::moving::met_again(step, id, is_another_life)?;
    }
    if is_rekeyed && !is_new {
        // What we issued was for its old key.
        super::protection::renew(step, &server)?;
    }
    if is_new {
        admit(step, server)?;
    }
    if let Some(own) = step.own_account()? {
        let world = step.system_world();
        step.make_system_element(SystemType::Server, id.element(), own.id, world)?;
    }
    Ok(json!({"id": id}))
}

/// A server is met for the first time: our own rules are asked, else the operator, else it is a
/// stranger like others.
fn admit(step: &mut Step<'_>, server: Server) -> Result<(), Halt> {
    let allowed = admission(step, &server)?;
    if allowed == ServerState::Pending && step.setting.strangers_wait {
        ask_operator(step, &server)?;
    }
    if allowed != server.allowed {
        let id = server.id;
        step.put(Key::Server(id), Row::Server(Arc::new(Server { allowed, ..server })))?;
    }
    Ok(())
}

/// The name itself if it is free, else `name-2` and so on.
fn free_name(step: &Step<'_>, wanted: &Name) -> Result<Name, Halt> {
    let mut name = wanted.clone();
    let mut number = 2;
    let looks: BTreeSet<String> = known_looks(step)?;
    while looks.contains(&name.looks()) || name.is_mixed() && number == 2 {
        let stem: String = wanted.as_str().chars().take(56).collect();
        name = Name::new(&format!("{stem}-{number}")).map_err(|mistake| {
            Problem::new(Code::Internal, format!("no name for a server: {mistake}"))
        })?;
        number += 1;
    }
    Ok(name)
}

/// Servers that are looked through for names that look alike.
const SERVERS_MAX: usize = 10_000;

/// What the names of servers that were met, and our own, look like.
fn known_looks(step: &Step<'_>) -> Result<BTreeSet<String>, Halt> {
    let key = |bytes| Key::Server(ServerId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), SERVERS_MAX)?;
    let names = rows.into_iter().filter_map(|(_, row)| match row {
        Row::Server(server) => Some(server.name.looks()),
        _ => None,
    });
    Ok(names.chain([step.setting.name.looks()]).collect())
}

/// What a server is called here; its id, where it is not known.
pub(super) fn name_of(step: &Step<'_>, server: ServerId) -> String {
    let known = step.stored().server(server).ok().flatten();
    known.map_or_else(|| server.to_string(), |known| known.name.to_string())
}
