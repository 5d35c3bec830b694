//! Rights: what the one who acts is to a thing, and what that allows.

use super::{Halt, Step};
use crate::model::{
    AccountId, Attribute, Bond, Caller, Code, Element, ElementId, Level, Problem, TypeDefinition,
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

    /// Checks that somebody of this standing may read an attribute.
    ///
    /// # Errors
    /// They may not.
    pub fn check_read(
        &self,
        standing: Standing,
        attribute: &Attribute,
        name: &str,
    ) -> Result<(), Halt> {
        let right = Right { level: attribute.read, group: attribute.read_group };
        if trust::may(right, standing) {
            return Ok(());
        }
        let seen = self.sees(standing, attribute);
        Err(self.denied(trust::refusal(right, standing, seen), name, None).into())
    }

    /// Checks that somebody of this standing may write an attribute.
    ///
    /// # Errors
    /// They may not.
    pub fn check_write(
        &self,
        standing: Standing,
        attribute: &Attribute,
        name: &str,
        element_type: &TypeDefinition,
    ) -> Result<(), Halt> {
        let right = Right { level: attribute.write, group: attribute.write_group };
        if trust::may(right, standing) {
            return Ok(());
        }
        let seen = self.sees(standing, attribute);
        let list = element_type.definition.protected.as_ref();
        let refusal = trust::refusal(right, standing, seen);
        Err(self.denied(refusal, name, list.map(|list| list.as_str())).into())
    }

    /// Whether an action of this level is offered to somebody of this standing.
    pub fn is_offered(&self, standing: Standing, level: Level) -> bool {
        let group = crate::model::Group::assumed_at(level);
        trust::may(Right { level, group }, standing)
    }

    fn sees(&self, standing: Standing, attribute: &Attribute) -> bool {
        let rights =
            [(attribute.read, attribute.read_group), (attribute.write, attribute.write_group)];
        rights.into_iter().any(|(level, group)| trust::may(Right { level, group }, standing))
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
