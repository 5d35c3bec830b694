//! Who may act for whom: permissions of our accounts for other servers, and what other homes permitted
//! us.

use std::sync::Arc;

use serde_json::json;

use super::record;
use super::server;
use super::visit;
use crate::model::{
    Account, AccountId, Caller, Code, EntryId, EventKind, InboxEntry, InboxKind, Json, Key, Name,
    Permission, PermissionState, Problem, Row, Server, ServerId, Timestamp, hex, parse_duration_ms,
};
use crate::step::{Halt, Step, Verdict};
use crate::trust::{TOKEN_LIFE_MS, UserClaim, issue_user};

/// Permissions that are looked through.
const PERMISSIONS_MAX: usize = 10_000;
/// Entries in one scope.
const SCOPE_MAX: usize = 64;

/// An id by which a permission is named.
fn id_of(account: AccountId, server: ServerId) -> EntryId {
    let mut hash = blake3::Hasher::new_derive_key("freehold 1 permission");
    hash.update(account.as_bytes()).update(server.as_bytes());
    EntryId::of_hash(hash.finalize().as_bytes())
}

fn shown(step: &Step<'_>, held: &Permission) -> Json {
    let account = step.stored().account(held.account).ok().flatten();
    let acts: Vec<Json> =
        held.acts.iter().map(|(at, what)| json!({"at": at.to_string(), "what": what})).collect();
    json!({
        "id": id_of(held.account, held.server),
        "role": "given",
        "user": account.map_or_else(|| held.account.to_string(), |account| account.name.to_string()),
        "account": held.account,
        "server": server::name_of(step, held.server),
        "server_id": held.server,
        "state": state_at(held, step.now),
        "since": held.since.to_string(),
        "permitted_at": held.permitted_at.map(|at| at.to_string()),
        "ends_at": held.ends_at.map(|at| at.to_string()),
        "scope": held.scope,
        "used": held.used,
        "acts": acts,
    })
}

/// A permission whose end has come is one no more.
fn state_at(held: &Permission, now: Timestamp) -> &'static str {
    match held.state {
        PermissionState::Permitted if !held.holds(now) => "ended",
        PermissionState::Known => "known",
        PermissionState::Asked => "asked",
        PermissionState::Permitted => "permitted",
        PermissionState::Refused => "refused",
        PermissionState::Revoked => "revoked",
    }
}

/// The permissions that who acts may see: their own, the operator's all.
fn visible(step: &Step<'_>) -> Result<Vec<Arc<Permission>>, Halt> {
    let account = step.call.caller.account();
    let is_operator = step.check_operator().is_ok();
    let first = Key::Permission(AccountId::from_bytes([0; 16]), ServerId::from_bytes([0; 16]));
    let last = Key::Permission(AccountId::from_bytes([0xff; 16]), ServerId::from_bytes([0xff; 16]));
    let rows = step.stored().rows(&first, &last, PERMISSIONS_MAX)?;
    let seen = |held: &Permission| is_operator || Some(held.account) == account;
    Ok(rows
        .into_iter()
        .filter_map(|(_, row)| match row {
            Row::Permission(held) if seen(&held) => Some(held),
            _ => None,
        })
        .collect())
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let mut items: Vec<Json> = visible(step)?.iter().map(|held| shown(step, held)).collect();
    if step.check_operator().is_ok() {
        items.extend(visit::held_here(step)?);
    }
    Ok(json!({"items": items, "next": null}))
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = named(step, step.word("token"))?;
    Ok(shown(step, &held))
}

/// A permission by its id, a part of it, or its server's name.
fn named(step: &mut Step<'_>, text: &str) -> Result<Arc<Permission>, Halt> {
    let all = visible(step)?;
    let by_id = all.iter().find(|held| id_of(held.account, held.server).to_string() == text);
    if let Some(held) = by_id {
        return Ok(held.clone());
    }
    if let Some(held) =
        step.only_part(all.clone(), text, |held| id_of(held.account, held.server).to_string())?
    {
        return Ok(held);
    }
    let server = step.server(text)?.id;
    let account = step.acting()?.id;
    let found = all.into_iter().find(|held| held.server == server && held.account == account);
    found.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("'{text}' did not ask to act for you"))
            .hint("see who did with: freehold token ls")
            .into()
    })
}

/// The acting account lets a server act for it.
pub(super) fn permit(step: &mut Step<'_>) -> Result<Json, Halt> {
    let (account, server) = subject(step)?;
    let scope: Vec<String> = step
        .arg("only")
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect();
    check_scope(&scope)?;
    let ends_at = match step.text("expires") {
        None => None,
        Some(text) => {
            let ms = parse_duration_ms(text).ok_or_else(|| {
                Problem::new(Code::WrongKind, format!("'{text}' is no span of time"))
                    .hint("write 30d, 24h or 10m")
            })?;
            Some(step.now.after_ms(ms))
        }
    };
    let held = decide(step, &account, &server, PermissionState::Permitted, scope, ends_at)?;
    Ok(shown(step, &held))
}

fn check_scope(scope: &[String]) -> Result<(), Halt> {
    let is_one = |what: &String| what.split('.').all(|part| Name::new(part).is_ok());
    if scope.len() > SCOPE_MAX || !scope.iter().all(is_one) {
        let says = format!("a permission is for at most {SCOPE_MAX} of TYPE or TYPE.ACTION");
        return Err(Problem::new(Code::Usage, says).into());
    }
    Ok(())
}

/// Whose permission it is, and for which server: the entry that is named, else the acting account's.
fn subject(step: &mut Step<'_>) -> Result<(Arc<Account>, Arc<Server>), Halt> {
    let text = step.word("server");
    match named(step, text) {
        Ok(held) => {
            let account = step.account_here(&held.account.to_string())?;
            Ok((account, step.server(&held.server.to_string())?))
        }
        Err(Halt::Problem(_)) => Ok((step.acting()?, step.server(text)?)),
        Err(halt) => Err(halt),
    }
}

pub(super) fn revoke(step: &mut Step<'_>) -> Result<Json, Halt> {
    let text = step.word("server");
    if step.check_operator().is_ok()
        && let Some(visitor) = visit::visitor_named(step, text)?
    {
        return visit::drop_held(step, &visitor);
    }
    let (account, server) = subject(step)?;
    if step.stored().permission(account.id, server.id)?.is_none() {
        let says = format!("'{}' may not act for {}", server.name, account.name);
        return Err(Problem::new(Code::NotFound, says).into());
    }
    let held = decide(step, &account, &server, PermissionState::Revoked, Vec::new(), None)?;
    Ok(shown(step, &held))
}

/// Notes what was decided, and tells the server.
pub(super) fn decide(
    step: &mut Step<'_>,
    account: &Account,
    server: &Server,
    state: PermissionState,
    scope: Vec<String>,
    ends_at: Option<Timestamp>,
) -> Result<Permission, Halt> {
    let before = step.stored().permission(account.id, server.id)?;
    let permitted = state == PermissionState::Permitted;
    let held = Permission {
        account: account.id,
        server: server.id,
        state,
        since: step.now,
        permitted_at: permitted.then_some(step.now),
        ends_at,
        scope,
        used: before.as_ref().map_or(0, |before| before.used),
        acts: before.map_or_else(Vec::new, |before| before.acts.clone()),
    };
    let key = Key::Permission(account.id, server.id);
    step.put(key, Row::Permission(Arc::new(held.clone())))?;
    forget_question(step, account.id, server.id)?;
    let args = json!({
        "record": record::text(account),
        "state": state,
        "ends_at_ms": ends_at.map(|at| at.unix_ms()),
    });
    let tell = step.tell_of(server.id, "token.state", args)?;
    step.tell(tell);
    Ok(held)
}

/// The entry of the inbox that asks the user is answered, whichever way.
fn forget_question(step: &mut Step<'_>, account: AccountId, server: ServerId) -> Result<(), Halt> {
    let id = id_of(account, server);
    if step.stored().inbox(id)?.is_some() {
        step.change(Key::Inbox(id), None)?;
    }
    Ok(())
}

/// A person answered an entry of the inbox.
pub(super) fn answered(step: &mut Step<'_>, entry: &InboxEntry, yes: bool) -> Result<(), Halt> {
    let Some(owner) = entry.owner else { return Ok(()) };
    let account = step.account_here(&owner.to_string())?;
    let server = step.server(&entry.from.to_string())?;
    let state = if yes { PermissionState::Permitted } else { PermissionState::Refused };
    decide(step, &account, &server, state, Vec::new(), None).map(|_| ())
}

/// Ends every permission that joins us to a server: it is denied, or gone.
pub(super) fn end_all(step: &mut Step<'_>, server: ServerId) -> Result<(), Halt> {
    let first = Key::Permission(AccountId::from_bytes([0; 16]), ServerId::from_bytes([0; 16]));
    let last = Key::Permission(AccountId::from_bytes([0xff; 16]), ServerId::from_bytes([0xff; 16]));
    for (key, row) in step.stored().rows(&first, &last, PERMISSIONS_MAX)? {
        if let Row::Permission(held) = row
            && held.server == server
            && held.state != PermissionState::Refused
        {
            let state = PermissionState::Revoked;
            let ended = Permission { state, since: step.now, ..held.as_ref().clone() };
            step.put(key, Row::Permission(Arc::new(ended)))?;
            forget_question(step, held.account, server)?;
        }
    }
    visit::end_all(step, server)
}

/// The server that calls, as it is known here.
pub(super) fn calling_server(step: &Step<'_>) -> Result<Arc<Server>, Halt> {
    let known = match &step.call.caller {
        Caller::Remote { server, .. } => step.stored().server(*server)?,
        Caller::Local { .. } | Caller::Node => None,
    };
    known.ok_or_else(|| {
        Problem::new(Code::Refused, "only a server that was met may ask this").into()
    })
}

fn local(step: &Step<'_>) -> Result<Arc<Account>, Halt> {
    let text = step.word("account");
    let id: AccountId = text.parse().map_err(|_| crate::step::not_offered(text))?;
    step.stored().account(id)?.ok_or_else(|| crate::step::not_offered(text).into())
}

/// Another server asks to act for an account of ours.
pub(super) fn ask(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let account = local(step)?;
    if let Some(held) = step.stored().permission(account.id, server.id)?
        && (held.holds(step.now) || held.state == PermissionState::Refused)
    {
        // It was answered before, and the answer stands.
        let (scope, ends_at) = (held.scope.clone(), held.ends_at);
        let held = decide(step, &account, &server, held.state, scope, ends_at)?;
        return Ok(json!({"state": held.state}));
    }
    let data = json!({"server": server.id, "name": server.name, "account": account.id});
    let verdict = match step.account_element(account.id)? {
        Some(element) => step.verdict(&element, EventKind::ServerRegisterUser, data)?,
        None => Verdict::Open,
    };
    let state = match verdict {
        Verdict::Yes => PermissionState::Permitted,
        Verdict::No(_) => PermissionState::Refused,
        Verdict::Open => {
            wait_for_user(step, &account, &server)?;
            return Ok(json!({"state": PermissionState::Asked}));
        }
    };
    decide(step, &account, &server, state, Vec::new(), None)?;
    Ok(json!({"state": state}))
}

fn wait_for_user(step: &mut Step<'_>, account: &Account, server: &Server) -> Result<(), Halt> {
    super::inbox::check_room(step, server.id)?;
    let before = step.stored().permission(account.id, server.id)?;
    let held = Permission {
        account: account.id,
        server: server.id,
        state: PermissionState::Asked,
        since: step.now,
        permitted_at: None,
        ends_at: None,
        scope: Vec::new(),
        used: before.as_ref().map_or(0, |before| before.used),
        acts: before.map_or_else(Vec::new, |before| before.acts.clone()),
    };
    step.put(Key::Permission(account.id, server.id), Row::Permission(Arc::new(held)))?;
    let entry = InboxEntry {
        id: id_of(account.id, server.id),
        kind: InboxKind::Token,
        from: server.id,
        asks: format!("{} asks to act for {}", server.name, account.name),
        list: account.name.clone(),
        protection: Vec::new(),
        since: step.now,
        owner: Some(account.id),
        waits: None,
        later_until: None,
    };
    step.put(Key::Inbox(entry.id), Row::Inbox(Arc::new(entry)))
}

/// Another server gives up what it was permitted.
pub(super) fn dropped(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let account = local(step)?;
    // A no stays a no: it is not asked again because the other side gave it up.
    if let Some(held) = step.stored().permission(account.id, server.id)?
        && held.state != PermissionState::Refused
    {
        let ended = Permission {
            state: PermissionState::Revoked,
            since: step.now,
            ..held.as_ref().clone()
        };
        let key = Key::Permission(account.id, server.id);
        step.put(key, Row::Permission(Arc::new(ended)))?;
        forget_question(step, account.id, server.id)?;
    }
    Ok(json!({"state": PermissionState::Revoked}))
}

/// A server that may act for an account of ours asks for a token that it can show to another.
pub(super) fn mint(step: &mut Step<'_>) -> Result<Json, Halt> {
    let server = calling_server(step)?;
    let account = local(step)?;
    let held = step.stored().permission(account.id, server.id)?;
    let Some(held) = held.filter(|held| held.holds(step.now)) else {
        let says = format!("{} has not permitted your server to act for them", account.name);
        return Err(Problem::new(Code::NotPermitted, says).into());
    };
    let audience: ServerId = step
        .word("audience")
        .parse()
        .map_err(|_| Problem::new(Code::Usage, "the audience is no server's id"))?;
    let life_ends = step.now.after_ms(TOKEN_LIFE_MS);
    let claim = UserClaim {
        issuer: step.setting.us,
        subject: account.id,
        holder: server.key,
        audience,
        scope: held.scope.clone(),
        nonce: step.random(),
        issued_at: step.now,
        ends_at: held.ends_at.map_or(life_ends, |end| end.min(life_ends)),
    };
    Ok(json!({"token": hex(&issue_user(&step.setting.keys, &claim))}))
}
