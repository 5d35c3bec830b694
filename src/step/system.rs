//! The elements that stand for accounts, servers, groups and worlds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Halt, Step};
use crate::model::{
    Account, AccountId, Code, Element, ElementId, Key, Problem, Row, ServerId, SystemType,
    TimerDoes, TypeDefinition, TypeId, WorldId,
};

impl Step<'_> {
    /// The world in which this server keeps elements of its accounts, groups and servers.
    pub fn system_world(&self) -> WorldId {
        self.setting.us.system_world()
    }

    /// The server's own account, if it has one yet.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn own_account(&self) -> Result<Option<Arc<Account>>, Halt> {
        Ok(self.stored().account(AccountId::of_server(self.setting.us))?)
    }

    /// The element that stands for an account of this server, if there is one.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn account_element(&self, account: AccountId) -> Result<Option<Arc<Element>>, Halt> {
        Ok(self.stored().element(self.system_world(), account.element())?)
    }

    /// The element that stands for this server or another, if there is one.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn server_element(&self, server: ServerId) -> Result<Option<Arc<Element>>, Halt> {
        Ok(self.stored().element(self.system_world(), server.element())?)
    }

    /// Makes the element that stands for something, where the system's types are there. Nobody is
    /// asked: it is there because the thing is.
    ///
    /// # Errors
    /// Nothing may change here.
    pub fn make_system_element(
        &mut self,
        of: SystemType,
        id: ElementId,
        owner: AccountId,
        world: WorldId,
    ) -> Result<(), Halt> {
        let Some(element_type) = self.stored().element_type(of.id())? else { return Ok(()) };
        if self.stored().element(world, id)?.is_some() {
            return Ok(());
        }
        let made = self.new_element(world, &element_type, owner, None, BTreeMap::new());
        let element = Element { id, ..made };
        self.reindex(&element_type, None, Some(&element), None)?;
        self.put(Key::Element(world, id), Row::Element(Arc::new(element)))
    }

    /// Removes the element that stands for something that is gone.
    ///
    /// # Errors
    /// Nothing may change here.
    pub fn remove_system_element(&mut self, world: WorldId, id: ElementId) -> Result<(), Halt> {
        let Some(element) = self.stored().element(world, id)? else { return Ok(()) };
        let element_type = self.type_of(element.type_id)?;
        self.remove_element(&element, &element_type)
    }

    /// Makes an element one of a type that is a child of its own.
    ///
    /// # Errors
    /// Too much changed.
    pub fn change_type(&mut self, element: &Element, to: &Arc<TypeDefinition>) -> Result<(), Halt> {
        let from = self.type_of(element.type_id)?;
        let current = self.stored().element(element.world, element.id)?;
        let current = current.as_deref().unwrap_or(element).clone();
        for (name, value) in &current.values {
            let attribute = self.attribute(to, name)?;
            let checked = attribute.check(value.clone());
            if attribute.is_static || checked.is_err() {
                let says = format!(
                    "the value of '{name}' is none that the type {} allows",
                    to.definition.name
                );
                return Err(Problem::new(Code::Conflict, says).into());
            }
        }
        let changed = Element { type_id: to.id, ..current.clone() };
        self.mark_used(to)?;
        self.index_as(&from, &current, to, &changed)?;
        self.put(Key::Element(changed.world, changed.id), Row::Element(Arc::new(changed)))
    }

    /// Whether an element stands for an account, a server, a group, a world, or somebody in one.
    pub fn is_stand_in(&self, element: &Element) -> bool {
        stands_for_world(element)
            || element.world == self.system_world()
            || element.id == element.owner.avatar()
    }

    /// Checks that an element is one of the things of a world: what stands for something else is there
    /// as long as that is.
    ///
    /// # Errors
    /// It stands for something else.
    pub fn check_thing(&self, element: &Element) -> Result<(), Halt> {
        if self.is_stand_in(element) {
            let says = "it stands for a person, an account, a server, a group or a world, and stays with that";
            return Err(Problem::new(Code::Conflict, says).into());
        }
        Ok(())
    }

    /// Lets an element hear soon that the node has started, once.
    ///
    /// # Errors
    /// It has too many timers.
    pub fn start_later(&mut self, element: &Element) -> Result<(), Halt> {
        let waits = self.timers_of(element)?.iter().any(|timer| timer.does == TimerDoes::Start);
        match self.start_timer(element, self.now, None, TimerDoes::Start) {
            _ if waits => Ok(()),
            // One that has all the timers that it may keeps nobody else from hearing.
            Err(Halt::Problem(problem)) if problem.code == Code::OverLimit => Ok(()),
            started => started.map(|_| ()),
        }
    }
}

/// Whether an element stands for the world that it is in.
pub fn stands_for_world(element: &Element) -> bool {
    element.id == element.world.element()
}

/// Whether a type is the system's.
pub fn is_system_type(id: TypeId) -> bool {
    SystemType::ALL.iter().any(|of| of.id() == id)
}
