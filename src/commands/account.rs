//! Accounts: ours, and copies of others'.

use std::sync::Arc;

use serde_json::json;

use super::record;
use crate::model::{
    Account, AccountId, CachedAccount, Code, Json, Key, Name, Problem, Question, Row, ServerId,
    SystemType, hex, peer_id_of,
};
use crate::step::{AccountPlace, Halt, Step, not_offered};
use crate::trust::{CHAIN_MAX, Inception, KeyPair, Record, RecordKind, decode_record, leading};

/// How long the home of an old copy is tried before the copy is shown, in milliseconds.
pub(super) const PATIENCE_MS: u64 = 2_000;

pub(super) fn add(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let name = step.name(step.word("name"))?;
    if step.stored().id_at(Key::AccountName(name.key()))?.is_some() {
        return Err(
            Problem::new(Code::NameTaken, format!("there is an account '{name}' already")).into()
        );
    }
    if let Some(other) = looks_like_one(step, &name)? {
        let says = format!("'{name}' looks like the account '{other}'");
        return Err(Problem::new(Code::NameTaken, says).into());
    }
    super::visit::yield_name(step, &name)?;
    let keys = KeyPair::from_seed(&step.random());
    let inception = Inception {
        kind: RecordKind::Account,
        key: keys.public(),
        recovery_hash: step.setting.recovery_hash,
        nonce: step.random(),
    };
    let record = Record::first(inception, name.clone(), Some(step.setting.us));
    let Some(id) = record.account_id() else {
        return Err(Problem::new(Code::Internal, "the record is no account's").into());
    };
    let account = Account {
        id,
        name: name.clone(),
        record: record.sign(&keys),
        earlier: Vec::new(),
        added_at: step.now,
    };
    step.put(Key::Account(id), Row::Account(Arc::new(account)))?;
    step.put(Key::AccountName(name.key()), Row::Id(*id.as_bytes()))?;
    step.put(Key::Secret(id), Row::Secret(keys.seed()))?;
    step.make_system_element(SystemType::Account, id.element(), id, step.system_world())?;
    Ok(json!({"id": id, "name": name}))
}

/// Accounts that are looked through.
const ACCOUNTS_MAX: usize = 10_000;

/// An account of this server that a person may take for one of this name.
pub(super) fn looks_like_one(step: &Step<'_>, name: &Name) -> Result<Option<Name>, Halt> {
    let key = |bytes| Key::Account(AccountId::from_bytes(bytes));
    let looks = name.looks();
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), ACCOUNTS_MAX)?;
    Ok(rows.into_iter().find_map(|(_, row)| match row {
        Row::Account(account) if account.name.looks() == looks => Some(account.name.clone()),
        _ => None,
    }))
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let own = AccountId::of_server(step.setting.us);
    super::page::list(
        step,
        |id| Key::Account(AccountId::from_bytes(id)),
        |row| match row {
            Row::Account(account) if account.id != own => Some(json!({
                "id": account.id,
                "name": account.name,
                "local": true,
                "added_at": account.added_at.to_string(),
            })),
            _ => None,
        },
    )
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let account = step.account_here(step.word("account"))?;
    let id = account.id;
    if id == AccountId::of_server(step.setting.us) {
        let says = "the server's own account stays as long as the server does";
        return Err(Problem::new(Code::Conflict, says).into());
    }
    super::avatar::forget(step, id)?;
    step.remove_system_element(step.system_world(), id.element())?;
    for first in [Key::WorldName(id, String::new()), Key::TypeName(id, String::new())] {
        let last = match &first {
            Key::WorldName(..) => Key::WorldName(id, "\u{10ffff}".to_owned()),
            _ => Key::TypeName(id, "\u{10ffff}".to_owned()),
        };
        if !step.stored().rows(&first, &last, 1)?.is_empty() {
            return Err(Problem::new(
                Code::Conflict,
                format!("the account '{}' still owns worlds or types", account.name),
            )
            .hint("remove them first: freehold world ls --account NAME")
            .into());
        }
    }
    let groups = (Key::GroupName(id, String::new()), Key::GroupName(id, "\u{10ffff}".to_owned()));
    if !step.stored().rows(&groups.0, &groups.1, 1)?.is_empty() {
        let says = format!("the account '{}' still owns groups", account.name);
        return Err(Problem::new(Code::Conflict, says)
            .hint("remove them first: freehold group rm NAME")
            .into());
    }
    if step.owns_elements(id)? {
        let says = format!("the account '{}' still owns elements", account.name);
        return Err(Problem::new(Code::Conflict, says)
            .hint("destroy them first, or give them away: freehold element give")
            .into());
    }
    step.change(Key::Account(id), None)?;
    step.change(Key::AccountName(account.name.key()), None)?;
    step.change(Key::Secret(id), None)?;
    Ok(json!({"id": id}))
}

/// Gives an account another key, by its key of today. Its id stays.
pub(super) fn rekey(step: &mut Step<'_>) -> Result<Json, Halt> {
    step.check_operator()?;
    let account = step.account_here(step.word("account"))?;
    let id = account.id;
    let today = step.stored().secret(id)?.ok_or_else(|| {
        Problem::new(Code::Conflict, "the server's own account has the server's key")
            .hint("stop the node, then: freehold rekey")
    })?;
    let earlier = leading(&account.earlier, &account.record, false);
    if earlier.len() >= CHAIN_MAX {
        let says = "the key was changed too often for others to follow";
        return Err(Problem::new(Code::OverLimit, says)
            .hint("stop the node, then use its recovery words: freehold recover")
            .into());
    }
    let next = KeyPair::from_seed(&step.random());
    let held = own_record(&account)?;
    let record = held.rotated(next.public()).sign(&KeyPair::from_seed(&today));
    let renewed = Account { record, earlier, ..account.as_ref().clone() };
    step.put(Key::Account(id), Row::Account(Arc::new(renewed)))?;
    step.put(Key::Secret(id), Row::Secret(next.seed()))?;
    Ok(json!({"id": id, "name": account.name, "key": hex(&next.public())}))
}

fn own_record(account: &Account) -> Result<Record, Problem> {
    decode_record(&account.record).map_err(|error| {
        Problem::new(Code::Damaged, format!("the record of '{}': {error}", account.name))
    })
}

/// The five cases of loading an account: local; a peer that is not known yet; data that was never
/// asked for; data in the cache; and, where its home is away, old data marked stale.
pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let text = step.word("account");
    if step.call.caller.server().is_some() {
        return show_to_server(step, text);
    }
    match step.account_at(text)? {
        AccountPlace::Here(account) => show_local(step, &account),
        AccountPlace::There { server, name } => fetch(step, server, &name),
        AccountPlace::Somewhere(id) => {
            if let Some(cached) = step.stored().cached_account(id)? {
                return fetch(step, cached.home, &id.to_string());
            }
            let found = step.question(&format!("find {id}"), Question::Find(id))??;
            let server =
                found.get("server").and_then(Json::as_str).and_then(|server| server.parse().ok());
            let server = server.ok_or_else(|| {
                Problem::new(Code::NotFound, format!("no server is the home of {id}"))
            })?;
            fetch(step, server, &id.to_string())
        }
    }
}

fn show_to_server(step: &Step<'_>, text: &str) -> Result<Json, Halt> {
    let account = step.account_here(text).map_err(|_| not_offered(text))?;
    if account.id == AccountId::of_server(step.setting.us) {
        // Who the server is, its hello says.
        return Err(not_offered(text).into());
    }
    Ok(json!({"id": account.id, "name": account.name, "record": record::text(&account)}))
}

fn show_local(step: &Step<'_>, account: &Account) -> Result<Json, Halt> {
    let record = own_record(account)?;
    let setting = step.setting;
    let server = json!({"id": setting.us, "name": setting.name, "peer_id": peer_id_of(&setting.keys.public())});
    Ok(json!({
        "id": account.id,
        "name": account.name,
        "server": server,
        "key": hex(&record.key),
        "element": account.id.element(),
        "local": true,
        "cached": false,
        "cached_until": null,
        "stale": false,
    }))
}

fn fetch(step: &mut Step<'_>, server: ServerId, name: &str) -> Result<Json, Halt> {
    let by_name = step
        .stored()
        .id_at(Key::CachedAccountName(server, name.to_owned()))?
        .map(AccountId::from_bytes);
    let known = match by_name.or_else(|| name.parse().ok()) {
        Some(id) => step.stored().cached_account(id)?.filter(|cached| cached.home == server),
        None => None,
    };
    if let Some(cached) = known.as_ref().filter(|cached| step.now < cached.until) {
        return show_cached(step, cached, true, false);
    }
    let patience = known.is_some().then_some(PATIENCE_MS);
    let answer =
        step.ask_server(server, "account.show", name, json!({"account": name}), patience)?;
    match (answer, known) {
        (Ok(answer), _) => {
            let fetched = Arc::new(verified(step, server, &answer)?);
            store(step, server, name, &fetched)?;
            show_cached(step, &fetched, false, false)
        }
        (Err(problem), Some(cached))
            if problem.code.exit() == 3 || problem.code == Code::TimedOut =>
        {
            show_cached(step, &cached, true, true)
        }
        (Err(problem), _) => Err(problem.into()),
    }
}

/// An account of another server, by its name there: its record as its home gives it now.
pub(super) fn fetched(
    step: &mut Step<'_>,
    server: ServerId,
    name: &str,
) -> Result<CachedAccount, Halt> {
    let answer =
        step.ask_server(server, "account.show", name, json!({"account": name}), None)??;
    verified(step, server, &answer)
}

fn verified(step: &Step<'_>, server: ServerId, answer: &Json) -> Result<CachedAccount, Halt> {
    let false_record = |says: &str| {
        Halt::from(Problem::new(
            Code::Internal,
            format!("the server's answer cannot be believed: {says}"),
        ))
    };
    let shown = answer.get("record").and_then(Json::as_str);
    let records = shown.and_then(|text| record::parse(text).ok());
    let records = records.ok_or_else(|| false_record("it holds no record"))?;
    let Some((newest, earlier)) = records.split_last() else {
        return Err(false_record("it holds no record"));
    };
    let verified = record::verified(step.stored(), earlier, newest);
    let verified = verified.map_err(|error| false_record(&error.to_string()))?;
    let record = verified.record();
    let (Some(id), true) = (record.account_id(), record.home == Some(server)) else {
        return Err(false_record("it is the record of somebody else"));
    };
    Ok(CachedAccount {
        id,
        name: record.name.clone(),
        home: server,
        record: newest.clone(),
        key: record.key,
        fetched_at: step.now,
        until: step.now.after_ms(step.setting.record_ms),
    })
}

fn store(
    step: &mut Step<'_>,
    server: ServerId,
    name: &str,
    account: &Arc<CachedAccount>,
) -> Result<(), Halt> {
    let id = Row::Id(*account.id.as_bytes());
    step.put(Key::CachedAccountName(server, account.name.key()), id.clone())?;
    step.put(Key::CachedAccountName(server, name.to_owned()), id)?;
    step.put(Key::CachedAccount(account.id), Row::CachedAccount(account.clone()))
}

fn show_cached(
    step: &Step<'_>,
    account: &CachedAccount,
    cached: bool,
    stale: bool,
) -> Result<Json, Halt> {
    let server = step.stored().server(account.home)?;
    let newest = record::newest_held(step.stored(), account.id);
    Ok(json!({
        "id": account.id,
        "name": account.name,
        "server": {
            "id": account.home,
            "name": server.as_ref().map(|server| server.name.to_string()),
            "peer_id": server.as_ref().map(|server| peer_id_of(&server.key)),
        },
        "key": hex(&newest.map_or(account.key, |record| record.key)),
        "local": false,
        "cached": cached,
        "cached_until": account.until.to_string(),
        "stale": stale,
    }))
}
