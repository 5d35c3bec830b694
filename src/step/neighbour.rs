//! What stands in the same set hears what happens there, as far as its owner may know of it. What
//! it does with that is its own affair: it cannot hold up or undo what others do.

use super::action::Listener;
use super::{Halt, Step};
use crate::model::{AccountId, Element, EventKind, Json, On};
use crate::script::RUN_FUEL;

impl Step<'_> {
    /// Tells what stands in the same sets and listens to that.
    pub(super) fn tell_neighbours(
        &mut self,
        element: &Element,
        on: &On,
        attribute: Option<&str>,
        data: &Json,
    ) -> Result<(), Halt> {
        for id in self.neighbours(element)? {
            let Some(neighbour) = self.stored().element(element.world, id)? else { continue };
            let element_type = self.type_of(neighbour.type_id)?;
            for action in &self.neighbours_listeners(&neighbour, &element_type, on, attribute) {
                let listener = Listener {
                    element: &neighbour,
                    element_type: &element_type,
                    action,
                    event: None,
                };
                if let Some(told) = self.data_for(listener, element, on, attribute, data) {
                    self.tell_neighbour(listener, element.owner, told)?;
                }
            }
        }
        Ok(())
    }

    /// What a neighbour is told: of a value as its owner may read it now, of an element's end, and of
    /// who comes and goes. The rest is for neighbours of the same owner.
    fn data_for(
        &mut self,
        listener: Listener<'_>,
        element: &Element,
        on: &On,
        attribute: Option<&str>,
        data: &Json,
    ) -> Option<Json> {
        let is_own = listener.element.owner == element.owner;
        let mut told = data.clone();
        let members = told.as_object_mut()?;
        members.insert("element".to_owned(), Json::from(element.id.to_string()));
        match (on, attribute) {
            (_, Some(name)) => {
                let value = self.read_value(listener.actor(), element, name).ok()?.value;
                if members.get("value").is_some_and(|written| *written != value) {
                    members.remove("old");
                    members.insert("value".to_owned(), value);
                }
            }
            (On::After(kind), None) if !is_own => {
                let open = matches!(
                    kind,
                    EventKind::ElementDestruction
                        | EventKind::ElementEntersSet
                        | EventKind::ElementLeavesSet
                        | EventKind::SetElementAdded
                        | EventKind::SetElementRemoved
                );
                if !open {
                    return None;
                }
            }
            (On::After(_) | On::Before(_) | On::Custom(_), None) => {}
        }
        Some(told)
    }

    /// Lets one neighbour hear. Of another owner's, what goes wrong is logged and dropped, questions
    /// are not asked, and the time that they take together is bounded apart from the call's own.
    fn tell_neighbour(
        &mut self,
        listener: Listener<'_>,
        owner: AccountId,
        mut data: Json,
    ) -> Result<(), Halt> {
        if listener.element.owner == owner {
            return self.run_listener(listener, &mut data).map(|_| ());
        }
        let savepoint = self.savepoint();
        let budget = self.budget;
        self.budget.fuel = budget.fuel.min(RUN_FUEL.saturating_sub(self.beside_fuel));
        let given = self.budget.fuel;
        self.beside += 1;
        let heard = self.run_listener(listener, &mut data);
        self.beside -= 1;
        self.beside_fuel += given.saturating_sub(self.budget.fuel);
        self.budget.fuel = budget.fuel;
        match heard {
            Ok(_) => Ok(()),
            // Where there is no time for scripts at all, the whole runs again elsewhere.
            Err(Halt::Slow) => Err(Halt::Slow),
            // Whether it has too much memory shows only in a fresh machine.
            Err(Halt::Memory) if !self.fresh => Err(Halt::Memory),
            Err(halt) => {
                self.rollback(savepoint);
                self.end = None;
                if let Halt::Problem(problem) = halt {
                    self.log(&problem.says);
                }
                Ok(())
            }
        }
    }
}
