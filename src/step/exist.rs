//! What exists now: bounds, and what is switched off. Out of bounds a thing is not read, not written
//! and fires nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Halt, Step};
use crate::model::{Action, Attribute, Bounds, Code, Element, On, Problem, TypeDefinition, TypeId};

impl Step<'_> {
    /// Whether an element exists now and where it is.
    pub fn exists(&self, element: &Element, element_type: &TypeDefinition) -> bool {
        element.rests.is_none()
            && self.holds(&element_type.definition.bounds, element, element_type)
    }

    /// The definition of an attribute that exists for an element now.
    ///
    /// # Errors
    /// There is none, it is switched off, or it is out of its bounds.
    pub fn attribute_of<'t>(
        &self,
        element: &Element,
        element_type: &'t TypeDefinition,
        name: &str,
    ) -> Result<&'t Attribute, Halt> {
        let attribute = self.attribute(element_type, name)?;
        let missing = |says: String| Err(Problem::new(Code::NotFound, says).into());
        super::carry::check_acts(element)?;
        if !self.exists(element, element_type) && !self.is_way_back(element_type, name) {
            return missing("the element is out of its bounds".to_owned());
        }
        let definition = &element_type.definition;
        for above in std::iter::once(name).chain(definition.family(name)) {
            if element.attributes_off.contains(above) {
                return missing(format!("'{above}' is switched off"));
            }
            let Some(held) = definition.attributes.get(above) else { continue };
            if held.ancestor.is_some_and(|parent| self.is_off(element, element_type, parent)) {
                return missing(format!("'{above}' is of a parent that is switched off"));
            }
            if !self.holds(&held.bounds, element, element_type) {
                return missing(format!("'{above}' is out of its bounds"));
            }
        }
        Ok(attribute)
    }

    /// Whether it is the position whose area the elements of a type exist in: what is outside comes
    /// back by it. Out of its time nothing does.
    fn is_way_back(&self, element_type: &TypeDefinition, name: &str) -> bool {
        let bounds = &element_type.definition.bounds;
        bounds.area.as_ref().is_some_and(|area| area.attribute == name)
            && bounds.hold_at(self.now, &self.setting.time_zone)
    }

    /// Whether an ancestor is switched off for an element: no way up to it is without a parent that
    /// is.
    fn is_off(&self, element: &Element, element_type: &TypeDefinition, ancestor: TypeId) -> bool {
        if element.parents_off.is_empty() {
            return false;
        }
        let mut waiting = element_type.parents.clone();
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if element.parents_off.contains(&id) || !seen.insert(id) {
                continue;
            }
            if id == ancestor {
                return false;
            }
            if let Ok(parent) = self.type_of(id) {
                waiting.extend(parent.parents.iter().copied());
            }
        }
        true
    }

    fn holds(&self, bounds: &Bounds, element: &Element, element_type: &TypeDefinition) -> bool {
        if bounds.is_empty() {
            return true;
        }
        if !bounds.hold_at(self.now, &self.setting.time_zone) {
            return false;
        }
        let position = bounds.area.as_ref().and_then(|area| {
            let attribute = element_type.definition.attributes.get(&area.attribute)?;
            Some(self.value_of(element, &area.attribute, attribute))
        });
        bounds.hold_in(position.as_ref())
    }

    /// The actions of an element that hear an event about it, in the order in which they are asked.
    pub fn listeners(
        &self,
        element: &Element,
        element_type: &TypeDefinition,
        on: &On,
        attribute: Option<&str>,
    ) -> Vec<Arc<Action>> {
        self.heard_by(element, element_type, on, attribute, false)
    }

    /// The actions of an element that hear an event about something else in a set that it stands in.
    pub(super) fn neighbours_listeners(
        &self,
        element: &Element,
        element_type: &TypeDefinition,
        on: &On,
        attribute: Option<&str>,
    ) -> Vec<Arc<Action>> {
        self.heard_by(element, element_type, on, attribute, true)
    }

    fn heard_by(
        &self,
        element: &Element,
        element_type: &TypeDefinition,
        on: &On,
        attribute: Option<&str>,
        of_set: bool,
    ) -> Vec<Arc<Action>> {
        let found = element_type.definition.listeners(on, attribute);
        let mut found = found
            .filter(|action| action.of_set == of_set)
            .filter(|action| {
                action.ancestor.is_none_or(|parent| !self.is_off(element, element_type, parent))
            })
            .peekable();
        if found.peek().is_none() || !self.exists(element, element_type) {
            return Vec::new();
        }
        found.cloned().collect()
    }
}
