//! Groups: members and admins, who are accounts.

use std::sync::Arc;

use serde_json::json;

use super::record::Proven;
use super::visit;
use crate::model::{
    AccountGroup, AccountId, Code, Element, EventKind, GroupId, Json, Key, PermissionState,
    Problem, Row, SystemType, name_key,
};
use crate::step::{AccountPlace, Halt, Step};

/// Members of a group at most.
const MEMBERS_MAX: usize = 10_000;
/// What a member's row says of an admin.
const ADMIN: u64 = 1;

pub(super) fn add(step: &mut Step<'_>) -> Result<Json, Halt> {
    let owner = step.acting()?;
    let name = step.name(step.word("name"))?;
    if matches!(name.key().as_str(), "owner" | "everyone") {
        let says = format!("'{name}' is what types call somebody else");
        return Err(Problem::new(Code::Usage, says).into());
    }
    if step.stored().id_at(Key::GroupName(owner.id, name.key()))?.is_some() {
        let says = format!("{} has a group '{name}' already", owner.name);
        return Err(Problem::new(Code::NameTaken, says).into());
    }
    let element = match step.text("element") {
        Some(text) => Some(step.element_here(text)?),
        None => None,
    };
    if let Some(element) = element.as_ref().filter(|element| element.owner != owner.id) {
        let says = format!("the element {} is somebody else's", element.id);
        return Err(Problem::new(Code::NotPermitted, says).into());
    }
    let group = AccountGroup {
        id: GroupId::at(step.now, step.random()),
        owner: owner.id,
        name,
        added_at: step.now,
        element: element.as_ref().map(|element| (element.world, element.id)),
    };
    let data = json!({"group": group.id, "name": group.name});
    let made = json!({"id": group.id, "name": group.name});
    around(step, &group, EventKind::GroupCreation, &data, |step, group| {
        step.put(Key::GroupName(owner.id, group.name.key()), Row::Id(*group.id.as_bytes()))?;
        step.put(Key::Group(group.id), Row::Group(Arc::new(group.clone())))?;
        let world = step.system_world();
        step.make_system_element(SystemType::Group, group.id.element(), owner.id, world)
    })?;
    Ok(made)
}

/// Does something to a group as an event of the element that hears for it, if there is one.
fn around(
    step: &mut Step<'_>,
    group: &AccountGroup,
    kind: EventKind,
    data: &Json,
    done: impl FnOnce(&mut Step<'_>, &AccountGroup) -> Result<(), Halt>,
) -> Result<(), Halt> {
    match element_of(step, group, kind)? {
        Some(element) => step.around(&[(element.as_ref(), kind)], data, |step| done(step, group)),
        None => done(step, group),
    }
}

/// The element that hears for a group: the one that its owner named, else its own; of its making,
/// when it has none yet, its owner's.
fn element_of(
    step: &Step<'_>,
    group: &AccountGroup,
    kind: EventKind,
) -> Result<Option<Arc<Element>>, Halt> {
    match (group.element, kind) {
        (Some((world, id)), _) => Ok(step.stored().element(world, id)?),
        (None, EventKind::GroupCreation) => step.account_element(group.owner),
        (None, _) => Ok(step.stored().element(step.system_world(), group.id.element())?),
    }
}

/// A group by `NAME` of the acting account, `ACCOUNT:NAME` or id.
fn group(step: &Step<'_>, text: &str) -> Result<Arc<AccountGroup>, Halt> {
    let (owner, name) = match text.split_once(':') {
        Some((account, name)) => (step.account_here(account)?.id, name),
        None => (step.acting()?.id, text),
    };
    let by_name = step.stored().id_at(Key::GroupName(owner, name_key(name)))?;
    let id = by_name.map(GroupId::from_bytes).or_else(|| text.parse().ok());
    let found = match id {
        Some(id) => step.stored().group(id)?,
        None => None,
    };
    found.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no group '{text}' here"))
            .hint("see them with: freehold group ls")
            .into()
    })
}

/// Checks that the acting account owns the group, or is an admin of it.
fn check_admin(step: &Step<'_>, group: &AccountGroup) -> Result<(), Halt> {
    let account = step.acting()?.id;
    let is_admin = step.stored().at(Key::GroupMember(group.id, account))? == Some(ADMIN);
    if account == group.owner || is_admin {
        return Ok(());
    }
    let says = format!("only the owner and the admins of '{}' may do this", group.name);
    Err(Problem::new(Code::NotPermitted, says).hint("name one of them with --as ACCOUNT").into())
}

pub(super) fn rm(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = group(step, step.word("group"))?;
    if step.acting()?.id != held.owner {
        let says = format!("only the owner of '{}' may remove it", held.name);
        return Err(Problem::new(Code::NotPermitted, says).into());
    }
    let members = members(step, held.id)?;
    let data = json!({"group": held.id, "name": held.name});
    around(step, &held, EventKind::GroupDestruction, &data, |step, group| {
        for (account, _) in members {
            step.change(Key::GroupMember(group.id, account), None)?;
        }
        step.change(Key::GroupName(group.owner, group.name.key()), None)?;
        step.change(Key::Group(group.id), None)
    })?;
    // It has heard of its end.
    step.remove_system_element(step.system_world(), held.id.element())?;
    Ok(json!({"id": held.id}))
}

fn members(step: &Step<'_>, group: GroupId) -> Result<Vec<(AccountId, bool)>, Halt> {
    let key = |bytes| Key::GroupMember(group, AccountId::from_bytes(bytes));
    let rows = step.stored().rows(&key([0; 16]), &key([0xff; 16]), MEMBERS_MAX)?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, row)| match (key, row) {
            (Key::GroupMember(_, account), Row::At(says)) => Some((account, says == ADMIN)),
            _ => None,
        })
        .collect())
}

pub(super) fn ls(step: &mut Step<'_>) -> Result<Json, Halt> {
    let stored = step.stored();
    super::page::list(
        step,
        |id| Key::Group(GroupId::from_bytes(id)),
        |row| match row {
            Row::Group(group) => {
                let owner = stored.account(group.owner).ok().flatten();
                Some(json!({
                    "id": group.id,
                    "name": owner.map_or_else(|| group.name.to_string(), |owner| format!("{}:{}", owner.name, group.name)),
                }))
            }
            _ => None,
        },
    )
}

pub(super) fn show(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = group(step, step.word("group"))?;
    let owner = step.stored().account(held.owner)?;
    let members: Vec<Json> = members(step, held.id)?
        .into_iter()
        .map(|(id, admin)| {
            let account = step.stored().account(id).ok().flatten();
            let visitor = step.stored().visitor(id).ok().flatten();
            let name = account.map(|account| account.name.to_string());
            let name = name.or_else(|| visitor.map(|visitor| visitor.name.clone()));
            json!({"id": id, "name": name, "admin": admin})
        })
        .collect();
    Ok(json!({
        "id": held.id,
        "name": held.name,
        "owner": owner.map(|owner| owner.name.to_string()),
        "element": held.element.map_or_else(|| held.id.element(), |(_, element)| element),
        "members": if may_see_members(step, &held)? { json!(members) } else { Json::Null },
        "added_at": held.added_at.to_string(),
    }))
}

/// Whether who acts may know who belongs to a group: its owner, its members, the operator.
fn may_see_members(step: &Step<'_>, group: &AccountGroup) -> Result<bool, Halt> {
    if step.check_operator().is_ok() {
        return Ok(true);
    }
    let Some(account) = step.call.caller.account() else { return Ok(false) };
    let member = step.stored().at(Key::GroupMember(group.id, account))?;
    Ok(account == group.owner || member.is_some())
}

/// Adds a member or makes one an admin; with `remove`, the other way round.
pub(super) fn member(step: &mut Step<'_>) -> Result<Json, Halt> {
    let held = group(step, step.word("group"))?;
    check_admin(step, &held)?;
    let account = member_named(step, step.word("account"))?;
    let flag = |name: &str| step.arg(name) == &Json::Bool(true);
    let (admin, remove) = (flag("admin"), flag("remove"));
    let key = Key::GroupMember(held.id, account);
    let is = step.stored().at(key.clone())?;
    let (kind, becomes) = match (is, admin, remove) {
        (None, _, true) | (Some(ADMIN), true, false) | (Some(_), false, false) => {
            return Ok(told(&held, account, is));
        }
        (Some(says), true, true) if says != ADMIN => return Ok(told(&held, account, is)),
        (None, false, false) => (EventKind::GroupMemberAdded, Some(0)),
        (None | Some(_), true, false) => (EventKind::GroupAdminAdded, Some(ADMIN)),
        (Some(_), true, true) => (EventKind::GroupAdminRemoved, Some(0)),
        (Some(_), false, true) => (EventKind::GroupMemberRemoved, None),
    };
    if is.is_none() && members(step, held.id)?.len() >= MEMBERS_MAX {
        let says = format!("a group has at most {MEMBERS_MAX} members");
        return Err(Problem::new(Code::OverLimit, says).into());
    }
    let data = json!({"group": held.id, "account": account});
    around(step, &held, kind, &data, |step, _| step.change(key, becomes.map(Row::At)))?;
    Ok(told(&held, account, becomes))
}

/// Who is meant: an account of this server, or one of another, which becomes known here.
fn member_named(step: &mut Step<'_>, text: &str) -> Result<AccountId, Halt> {
    let here = step.account_here(text).map(|account| account.id);
    if let Ok(account) = here {
        return Ok(account);
    }
    if let Some(known) = visit::visitor_named(step, text)? {
        return Ok(known.account);
    }
    match step.account_at(text)? {
        AccountPlace::Here(account) => Ok(account.id),
        AccountPlace::There { server, name } => {
            let fetched = super::account::fetched(step, server, &name)?;
            let home = step.server(&server.to_string())?;
            let state = PermissionState::Known;
            let user = Proven { account: fetched.id, name: fetched.name, newest: fetched.record };
            Ok(visit::know(step, &home, user, state, None)?.account)
        }
        AccountPlace::Somewhere(id) => {
            let says = format!("no account '{id}' is known here");
            Err(Problem::new(Code::NotFound, says).hint("write ACCOUNT@SERVER").into())
        }
    }
}

fn told(group: &AccountGroup, account: AccountId, is: Option<u64>) -> Json {
    json!({"id": group.id, "account": account, "member": is.is_some(), "admin": is == Some(ADMIN)})
}
