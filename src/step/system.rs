//! The elements that stand for accounts, servers, groups and worlds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Halt, Step};
use crate::model::{
    Account, AccountId, Element, ElementId, Key, Row, ServerId, SystemType, TimerDoes, TypeDefinition,
    TypeId, WorldId,
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
    pub fn change_type(
        &mut self,
        element: &Element,
        to: &Arc<TypeDefinition>,
    ) -> Result<(), Halt> {
        let from = self.type_of(element.type_id)?;
        let current = self.stored().element(element.world, element.id)?;
        let current = current.as_deref().unwrap_or(element).clone();
        self.reindex(&from, Some(&current), None, None)?;
        let changed = Element { type_id: to.id, ..current };
        self.mark_used(to)?;
        self.reindex(to, None, Some(&changed), None)?;
        self.put(Key::Element(changed.world, changed.id), Row::Element(Arc::new(changed)))
    }

    /// Lets an element hear soon that the node has started, once.
    ///
    /// # Errors
    /// It has too many timers.
    pub fn start_later(&mut self, element: &Element) -> Result<(), Halt> {
        let waits = self.timers_of(element)?.iter().any(|timer| timer.does == TimerDoes::Start);
        if waits {
            return Ok(());
        }
        self.start_timer(element, self.now, None, TimerDoes::Start).map(|_| ())
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
