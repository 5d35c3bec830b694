//! Rights: what the one who acts is to a thing, and what that allows.

use super::{Halt, Step};
use crate::model::{
    AccountId, Action, Attribute, Bond, Caller, Code, Element, ElementId, Group, GroupId, Key,
    Problem, TypeDefinition, User, name_key,
};
use crate::trust::{self, Refusal, Right, Standing};

/// Who acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    /// Whoever made the call.
    Caller,
    /// An action, with the rights of its element's owner, and beyond its own element only as far
    /// as its type's owner may too.
    Action {
        /// The element whose action it is.
        element: ElementId,
        /// That element's owner.
        owner: AccountId,
        /// The owner of its type.
        type_owner: AccountId,
    },
}

/// What another server is told of a name of which it may see nothing: the same for what is
/// private, what is protected and what does not exist.
pub fn not_offered(name: &str) -> Problem {
    Problem::new(Code::NotOffered, format!("nothing named '{name}' is offered to you"))
}

impl Step<'_> {
    /// What the caller's server is to the list of a type.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn bond_with(&self, element_type: &TypeDefinition) -> Result<Bond, Halt> {
        let Caller::Remote { server, presented, .. } = &self.call.caller else {
            return Ok(Bond::Ourselves);
        };
        let Some(list) = &element_type.definition.protected else { return Ok(Bond::Stranger) };
        let row = self.stored().protection(*server, &list.key())?;
        Ok(trust::bond(row.as_deref(), presented))
    }

    /// What `actor` is to an element.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn standing(
        &self,
        actor: Actor,
        element: &Element,
        element_type: &TypeDefinition,
    ) -> Result<Standing, Halt> {
        let local = |account: Option<AccountId>| {
            if account == Some(element.owner) { Standing::Owner } else { Standing::Here }
        };
        match (actor, &self.call.caller) {
            (Actor::Action { element: own, .. }, _) if own == element.id => Ok(Standing::Owner),
            (Actor::Action { owner, type_owner, .. }, _) if owner == type_owner => {
                Ok(local(Some(owner)))
            }
            (Actor::Action { .. }, _) => Ok(Standing::Here),
            (Actor::Caller, Caller::Local { account, .. }) => Ok(local(*account)),
            (Actor::Caller, Caller::Node) => Ok(Standing::Owner),
            (Actor::Caller, Caller::Remote { .. }) => Ok(match self.bond_with(element_type)? {
                Bond::Proven => Standing::Listed,
                Bond::Stranger | Bond::Ourselves => Standing::Stranger,
            }),
        }
    }

    /// Checks that `actor` may read an attribute.
    ///
    /// # Errors
    /// They may not.
    pub fn check_read(
        &self,
        actor: Actor,
        element: &Element,
        attribute: &Attribute,
        name: &str,
        element_type: &TypeDefinition,
    ) -> Result<(), Halt> {
        let standing = self.standing(actor, element, element_type)?;
        let owner_only = self.leaves_out(actor, &attribute.read_group, attribute, element_type)?
            && !self.is_users(actor, element, element_type)?;
        let right = Right { level: attribute.read, owner_only };
        if trust::may(right, standing) {
            return self.check_scope(actor, element_type, None);
        }
        let seen = self.sees(actor, standing, attribute, element_type)?;
        let list = element_type.definition.protected.as_ref();
        let refusal = trust::refusal(right, standing, seen);
        Err(self.denied(refusal, name, list.map(|list| list.as_str())).into())
    }

    /// Checks that `actor` may write an attribute.
    ///
    /// # Errors
    /// They may not.
    pub fn check_write(
        &self,
        actor: Actor,
        element: &Element,
        attribute: &Attribute,
        name: &str,
        element_type: &TypeDefinition,
    ) -> Result<(), Halt> {
        let standing = self.standing(actor, element, element_type)?;
        let owner_only = self.leaves_out(actor, &attribute.write_group, attribute, element_type)?
            && !self.is_users(actor, element, element_type)?;
        let right = Right { level: attribute.write, owner_only };
        if trust::may(right, standing) {
            return self.check_scope(actor, element_type, None);
        }
        let seen = self.sees(actor, standing, attribute, element_type)?;
        let list = element_type.definition.protected.as_ref();
        let refusal = trust::refusal(right, standing, seen);
        Err(self.denied(refusal, name, list.map(|list| list.as_str())).into())
    }

    /// Whether an action of a type is offered to somebody of this standing.
    pub fn is_offered(
        &self,
        standing: Standing,
        element_type: &TypeDefinition,
        action: &Action,
    ) -> bool {
        let level = action.level;
        let owner_only = Group::assumed_at(level) == Group::Owner;
        let off = standing == Standing::Stranger && element_type.is_off_for_public(&action.name);
        !off && trust::may(Right { level, owner_only }, standing)
    }

    /// Whether a group that an attribute names leaves `actor` out: of the owner of the type that
    /// defined the attribute.
    fn leaves_out(
        &self,
        actor: Actor,
        group: &Group,
        attribute: &Attribute,
        element_type: &TypeDefinition,
    ) -> Result<bool, Halt> {
        match attribute.ancestor {
            Some(id) if matches!(group, Group::Named(_)) => {
                self.is_owners_alone(actor, group, self.type_of(id)?.as_ref())
            }
            Some(_) | None => self.is_owners_alone(actor, group, element_type),
        }
    }

    /// Whether a group leaves `actor` out, unless they own the element.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn is_owners_alone(
        &self,
        actor: Actor,
        group: &Group,
        element_type: &TypeDefinition,
    ) -> Result<bool, Halt> {
        let name = match group {
            Group::Owner => return Ok(true),
            Group::Everyone => return Ok(false),
            Group::Named(name) => name,
        };
        // An action may do only what its element's owner and its type's owner both may.
        let accounts: Vec<AccountId> = match actor {
            Actor::Caller => {
                let user = self.user_for(element_type)?;
                self.call.caller.account().or(user).into_iter().collect()
            }
            Actor::Action { owner, type_owner, .. } => vec![owner, type_owner],
        };
        if accounts.is_empty() {
            return Ok(true);
        }
        let held = self.stored().id_at(Key::GroupName(element_type.owner, name.key()))?;
        for account in accounts.into_iter().filter(|account| *account != element_type.owner) {
            let Some(id) = held else { return Ok(true) };
            let member = Key::GroupMember(GroupId::from_bytes(id), account);
            if self.stored().at(member)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The user for whom another server calls, as far as their permission is for this type.
    fn user_for(&self, element_type: &TypeDefinition) -> Result<Option<AccountId>, Halt> {
        let Some(user) = self.known_user()? else { return Ok(None) };
        let scope = self.scope_of(user)?;
        let name = element_type.definition.name.key();
        let of_type = |what: &String| {
            let what = name_key(what);
            what == name || what.split_once('.').is_some_and(|(of, _)| of == name)
        };
        Ok((scope.is_empty() || scope.iter().any(of_type)).then_some(user.account))
    }

    /// The user for whom another server calls, where they are known here with that home. Anybody can
    /// give their word for somebody who is not.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn known_user(&self) -> Result<Option<&User>, Halt> {
        let Some(user) = self.call.caller.user() else { return Ok(None) };
        let is_ours = user.home == self.setting.us;
        let known = self.stored().visitor(user.account)?;
        let is_known = known.is_some_and(|known| known.home == user.home);
        Ok((is_ours || is_known).then_some(user))
    }

    /// What a permission is for: of an account of ours, as it says now.
    fn scope_of(&self, user: &User) -> Result<Vec<String>, Halt> {
        match self.call.caller.server() {
            Some(server) if user.home == self.setting.us => {
                let held = self.stored().permission(user.account, server)?;
                Ok(held.map(|held| held.scope.clone()).unwrap_or_default())
            }
            _ => Ok(user.scope.clone()),
        }
    }

    /// Whether the element is of the user for whom another server calls.
    fn is_users(
        &self,
        actor: Actor,
        element: &Element,
        element_type: &TypeDefinition,
    ) -> Result<bool, Halt> {
        Ok(actor == Actor::Caller && self.user_for(element_type)? == Some(element.owner))
    }

    /// Checks that the permission with which another server acts for a user is for this: a type, or
    /// one action of it. To be asked once it is known that there is something for that server.
    ///
    /// # Errors
    /// It is not.
    pub fn check_scope(
        &self,
        actor: Actor,
        element_type: &TypeDefinition,
        action: Option<&str>,
    ) -> Result<(), Halt> {
        let user = if actor == Actor::Caller { self.known_user()? } else { None };
        let Some(user) = user else { return Ok(()) };
        let scope = self.scope_of(user)?;
        let name = element_type.definition.name.key();
        let covers = |what: &String| {
            let what = name_key(what);
            what == name
                || action.is_some_and(|action| what == format!("{name}.{}", name_key(action)))
        };
        if scope.is_empty() || scope.iter().any(covers) {
            return Ok(());
        }
        let says = format!("the user's permission is not for the type '{name}'");
        Err(Problem::new(Code::NotPermitted, says)
            .hint(format!("the user can widen it: freehold token permit {}", self.caller_name()))
            .into())
    }

    fn sees(
        &self,
        actor: Actor,
        standing: Standing,
        attribute: &Attribute,
        element_type: &TypeDefinition,
    ) -> Result<bool, Halt> {
        let rights =
            [(attribute.read, &attribute.read_group), (attribute.write, &attribute.write_group)];
        for (level, group) in rights {
            let owner_only = self.leaves_out(actor, group, attribute, element_type)?;
            if trust::may(Right { level, owner_only }, standing) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The problem that a refusal of the gate is told as.
    fn denied(&self, refusal: Refusal, name: &str, list: Option<&str>) -> Problem {
        match refusal {
            Refusal::NotOffered => not_offered(name),
            Refusal::NotPermitted => {
                Problem::new(Code::NotPermitted, format!("you have no right to '{name}'"))
                    .hint("name the account that has it with --as, or ask its owner")
            }
            Refusal::NotListed => {
                let list = list.unwrap_or("LIST");
                let caller = self.caller_name();
                let us = &self.setting.name;
                Problem::new(
                    Code::NotListed,
                    format!("this right to '{name}' is for the servers on the list '{list}'"),
                )
                .hint(format!(
                    "the operator of {us} can run: freehold protection add {list} {caller}"
                ))
            }
        }
    }

    /// What we call the calling server.
    pub fn caller_name(&self) -> String {
        let server = self.call.caller.server();
        let known = server.and_then(|server| self.stored().server(server).ok().flatten());
        match (known, server) {
            (Some(known), _) => known.name.to_string(),
            (None, Some(server)) => server.to_string(),
            (None, None) => self.setting.name.to_string(),
        }
    }
}
