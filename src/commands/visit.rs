//! Users of other servers who are known here, and ours who are known there.

use std::sync::Arc;

use serde_json::json;

use super::record::{self, Proven};
use super::server;
use super::token::calling_server;
use crate::model::{
    AccountId, ActsFor, Code, Json, Key, Name, PermissionState, Place, Problem, Row, Server,
    ServerId, Timestamp, Visitor, name_key, unhex,
};
use crate::step::{Halt, Step};

/// Users of other servers who are known here at most.
const VISITORS_MAX: usize = 10_000;
/// Users of one other server who are known here at most.
const VISITORS_OF_SERVER_MAX: usize = 1_000;

/// One of ours says to another server who they are, so that it asks to act for them.
pub(super) fn start(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?;
    let server = step.server(step.word("server"))?;
    let args = json!({"record": record::of(step, account.id)?});
    Err(step.forward(server.id, "visit.register", args)?)
}

/// One of ours is not to be known at another server any more.
pub(super) fn end(step: &mut Step<'_>) -> Result<Json, Halt> {
    let account = step.acting()?;
    let server = step.server(step.word("server"))?;
    if step.stored().permission(account.id, server.id)?.is_some() {
        let state = PermissionState::Revoked;
        super::token::decide(step, &account, &server, state, Vec::new(), None)?;
    }
    let tell = step.tell_of(server.id, "visit.leave", json!({"account": account.id}))?;
    step.tell(tell);
    Ok(json!({"id": server.id, "server": server.name}))
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let items: Vec<Json> = step.visitors()?.iter().map(|held| shown(step, held)).collect();
    Ok(json!({"items": items, "next": null}))
}

fn shown(step: &Step<'_>, held: &Visitor) -> Json {
    json!({
        "id": held.account,
        "role": "held",
        "name": held.name,
        "user": held.name,
        "account": held.account,
        "server": server::name_of(step, held.home),
        "server_id": held.home,
        "state": if held.ends_at.is_some_and(|end| end <= step.now) {
            json!("ended")
        } else {
            json!(held.state)
        },
        "ends_at": held.ends_at.map(|at| at.to_string()),
        "since": held.since.to_string(),
    })
}

/// For whom this server may act, or asked to.
pub(super) fn held_here(step: &Step<'_>) -> Result<Vec<Json>, Halt> {
    let all = step.visitors()?;
    let asked = all.iter().filter(|held| held.state != PermissionState::Known);
    Ok(asked.map(|held| shown(step, held)).collect())
}

/// A user of another server by id, by name here, or by `NAME@SERVER`.
pub(super) fn visitor_named(step: &mut Step<'_>, text: &str) -> Result<Option<Arc<Visitor>>, Halt> {
    let key = name_key(text);
    if let Ok(id) = key.parse() {
        return Ok(step.stored().visitor(id)?);
    }
    let all = step.visitors()?;
    if let Some(held) = all.iter().find(|held| name_key(&held.name) == key) {
        return Ok(Some(held.clone()));
    }
    let Ok(Place { server: Some(server), words }) = Place::parse(text) else { return Ok(None) };
    let [name] = words.as_slice() else { return Ok(None) };
    let home = step.server(&server)?;
    Ok(all.iter().find(|held| held.is_called(home.id, name)).cloned())
}

/// Makes a user known here, or brings what is known up to date. They have proven that they are at home
/// there.
pub(super) fn know(
    step: &mut Step<'_>,
    home: &Server,
    user: Proven,
    state: PermissionState,
    ends_at: Option<Timestamp>,
) -> Result<Visitor, Halt> {
    let Proven { account, name, newest } = user;
    let record = Some(newest);
    if step.stored().account(account)?.is_some() {
        return Err(Problem::new(Code::Refused, "that account is at home here").into());
    }
    let held = step.stored().visitor(account)?;
    if held.as_ref().is_some_and(|held| held.home != home.id) {
        return Err(Problem::new(Code::Refused, "that user is at home elsewhere").into());
    }
    let visitor = match held {
        // That they are known says nothing new of whether we may act for them.
        Some(held) if state == PermissionState::Known && held.record == record => {
            return Ok(held.as_ref().clone());
        }
        Some(held) if state == PermissionState::Known => {
            Visitor { record, ..held.as_ref().clone() }
        }
        Some(held) => Visitor { record, state, ends_at, ..held.as_ref().clone() },
        None => {
            let known = step.visitors()?;
            let of_home = known.iter().filter(|known| known.home == home.id).count();
            if known.len() >= VISITORS_MAX || of_home >= VISITORS_OF_SERVER_MAX {
                let says = "too many users of other servers are known here";
                return Err(Problem::new(Code::OverLimit, says).into());
            }
            let name = name_for(step, account, home, &name)?;
            Visitor { account, home: home.id, name, record, state, ends_at, since: step.now }
        }
    };
    step.put(Key::Visitor(account), Row::Visitor(Arc::new(visitor.clone())))?;
    Ok(visitor)
}

/// A local account takes the name that a user of another server has here: that one is called by its
/// home and name from then on.
pub(super) fn yield_name(step: &mut Step<'_>, name: &Name) -> Result<(), Halt> {
    let looks = Key::VisitorName(name.looks());
    let Some(id) = step.stored().id_at(looks.clone())? else { return Ok(()) };
    step.change(looks, None)?;
    let id = AccountId::from_bytes(id);
    let Some(held) = step.stored().visitor(id)? else { return Ok(()) };
    let home = server::name_of(step, held.home);
    let renamed = Visitor { name: format!("{home}.{}", held.name), ..held.as_ref().clone() };
    step.put(Key::Visitor(id), Row::Visitor(Arc::new(renamed)))
}

/// A user's own name where nobody here has it, or one that looks like it; else `server.name`.
fn name_for(
    step: &mut Step<'_>,
    account: AccountId,
    home: &Server,
    name: &Name,
) -> Result<String, Halt> {
    let looks = Key::VisitorName(name.looks());
    let is_taken = step.stored().id_at(looks.clone())?.is_some()
        || super::account::looks_like_one(step, name)?.is_some()
        || name.is_mixed();
    if is_taken {
        return Ok(format!("{}.{name}", home.name));
    }
    step.put(looks, Row::Id(*account.as_bytes()))?;
    Ok(name.to_string())
}

/// Users of a home that is denied, or gone, count for nothing here.
pub(super) fn end_all(step: &mut Step<'_>, home: ServerId) -> Result<(), Halt> {
    for held in step.visitors()? {
        if held.home == home && held.state == PermissionState::Permitted {
            let state = PermissionState::Revoked;
            let ended = Visitor { state, ends_at: None, ..held.as_ref().clone() };
            step.put(Key::Visitor(held.account), Row::Visitor(Arc::new(ended)))?;
        }
    }
    Ok(())
}

/// A user says who they are, through their home: it is asked whether we may act for them.
pub(super) fn register(step: &mut Step<'_>) -> Result<Json, Halt> {
    let home = calling_server(step)?;
    let user = record::of_user(step, &home, "record")?;
    let account = user.account;
    let held = step.stored().visitor(account)?;
    let is_answered = |held: &Visitor| {
        matches!(held.state, PermissionState::Permitted | PermissionState::Refused)
    };
    let (state, ends_at) = match held.filter(|held| is_answered(held)) {
        Some(held) => (held.state, held.ends_at),
        None => (PermissionState::Asked, None),
    };
    let visitor = know(step, &home, user, state, ends_at)?;
    let tell = step.tell_of(home.id, "token.ask", json!({"account": account}))?;
    step.tell(tell);
    Ok(json!({"id": account, "name": visitor.name, "state": visitor.state}))
}

/// A user is not to be known here any more.
pub(super) fn leave(step: &mut Step<'_>) -> Result<Json, Halt> {
    let home = calling_server(step)?;
    let text = step.word("account");
    let id: AccountId = text.parse().map_err(|_| crate::step::not_offered(text))?;
    if let Some(held) = step.stored().visitor(id)?.filter(|held| held.home == home.id) {
        forget(step, &held)?;
    }
    Ok(json!({"id": id}))
}

fn forget(step: &mut Step<'_>, held: &Visitor) -> Result<(), Halt> {
    if let Ok(name) = Name::new(&held.name) {
        let key = Key::VisitorName(name.looks());
        if step.stored().id_at(key.clone())? == Some(*held.account.as_bytes()) {
            step.change(key, None)?;
        }
    }
    step.change(Key::Visitor(held.account), None)
}

/// The home of a user says whether we may act for them.
pub(super) fn state(step: &mut Step<'_>) -> Result<Json, Halt> {
    let home = calling_server(step)?;
    let state: PermissionState = serde_json::from_value(step.arg("state").clone())
        .map_err(|_| Problem::new(Code::Usage, "the state is none"))?;
    let ends_at = step.arg("ends_at_ms").as_u64().map(Timestamp::from_ms);
    let user = record::of_user(step, &home, "record")?;
    let known = know(step, &home, user, state, ends_at)?;
    Ok(json!({"id": known.account}))
}

/// We give up acting for a user, and tell their home.
pub(super) fn drop_held(step: &mut Step<'_>, held: &Visitor) -> Result<Json, Halt> {
    let ended = Visitor { state: PermissionState::Revoked, ends_at: None, ..held.clone() };
    step.put(Key::Visitor(held.account), Row::Visitor(Arc::new(ended.clone())))?;
    let tell = step.tell_of(held.home, "token.drop", json!({"account": held.account}))?;
    step.tell(tell);
    Ok(shown(step, &ended))
}

/// Lets what this call asks and tells be for a user of another server, with the word of their home
/// where another server runs it.
pub(super) fn act_for(step: &mut Step<'_>, server: ServerId) -> Result<(), Halt> {
    let Some(text) = step.text("for") else { return Ok(()) };
    // They permitted this server, and so whoever operates it.
    step.check_operator()?;
    let Some(visitor) = visitor_named(step, text)? else {
        let says = format!("no user '{text}' of another server is known here");
        return Err(Problem::new(Code::NotFound, says)
            .hint("they make themselves known from their home: freehold visit start SERVER")
            .into());
    };
    let account = visitor.account;
    if server == visitor.home {
        step.act_for(ActsFor { account, token: None });
        return Ok(());
    }
    let args = json!({"account": account, "audience": server});
    let about = format!("{account} for {server}");
    let answer = step.ask_server(visitor.home, "token.mint", &about, args, None)??;
    let token = answer.get("token").and_then(Json::as_str).and_then(unhex);
    let token =
        token.ok_or_else(|| Problem::new(Code::Internal, "the home of that user gave no token"))?;
    step.act_for(ActsFor { account, token: Some(token.into()) });
    Ok(())
}
