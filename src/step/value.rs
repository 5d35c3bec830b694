//! Values are read and written here.

use std::sync::Arc;

use serde_json::json;

use super::buffer::Happened;
use super::{Actor, Halt, Step};
use crate::model::{
    Attribute, Code, Element, EventKind, Group, Json, Key, Level, Name, On, Problem, Row,
    TypeDefinition, suggest,
};

/// A local value that was read, with what its reader must know.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The value.
    pub value: Json,
    /// What its type says of it.
    pub attribute: Attribute,
}

impl Step<'_> {
    /// The definition of an attribute.
    ///
    /// # Errors
    /// There is none.
    pub fn attribute<'t>(
        &self,
        element_type: &'t TypeDefinition,
        name: &str,
    ) -> Result<&'t Attribute, Halt> {
        let attributes = &element_type.definition.attributes;
        attributes.get(name).ok_or_else(|| {
            let of = &element_type.definition.name;
            let problem =
                Problem::new(Code::NotFound, format!("the type {of} has no attribute '{name}'"));
            match suggest(name, attributes.keys().map(String::as_str)) {
                Some(meant) => problem.hint(format!("did you mean '{meant}'?")).into(),
                None => problem.into(),
            }
        })
    }

    /// The value of an attribute as it stands, without any right being asked.
    pub fn value_of(&self, element: &Element, name: &str, attribute: &Attribute) -> Json {
        element.values.get(name).unwrap_or(&attribute.default).clone()
    }

    /// Reads an attribute of a local element, as its actions let it be read.
    ///
    /// # Errors
    /// There is none, `actor` has no right to it, or an action refuses.
    pub fn read_value(
        &mut self,
        actor: Actor,
        element: &Element,
        name: &str,
    ) -> Result<Reading, Halt> {
        check_at_home(element)?;
        let element_type = self.type_of(element.type_id)?;
        let attribute = self.attribute_of(element, &element_type, name)?;
        self.check_read(actor, element, attribute, name, &element_type)?;
        let value = self.value_of(element, name, attribute);
        let is_own = matches!(actor, Actor::Action { element: own, .. } if own == element.id);
        let value = if is_own {
            value
        } else {
            self.filtered(element, &element_type, name, attribute, value)?
        };
        Ok(Reading { value, attribute: attribute.clone() })
    }

    /// What a reader gets of a value: the actions on the filter event change it in order. Nothing
    /// else may change there.
    fn filtered(
        &mut self,
        element: &Element,
        element_type: &Arc<TypeDefinition>,
        name: &str,
        attribute: &Attribute,
        value: Json,
    ) -> Result<Json, Halt> {
        let kind = EventKind::ValueChangeFiltered;
        if !hears(element_type, &On::Before(kind), name) && element_type.home.is_none() {
            return Ok(value);
        }
        let data = json!({"attribute": name, "value": value});
        self.reading += 1;
        let heard =
            self.in_event(|step| step.fire_before(element, element_type, kind, Some(name), data));
        self.reading -= 1;
        let value = heard?.get("value").cloned().unwrap_or_default();
        if value.is_null() { Ok(value) } else { checked(attribute, name, value) }
    }

    /// Sets an attribute of a local element: fires its before-event, writes, notes the after-event.
    /// Gives back what was really set.
    ///
    /// # Errors
    /// It is refused, of another kind, or `actor` has no right to it. Nothing is changed then.
    pub fn set_value(
        &mut self,
        actor: Actor,
        element: &Element,
        name: &str,
        value: Json,
    ) -> Result<Json, Halt> {
        check_at_home(element)?;
        let element_type = self.type_of(element.type_id)?;
        let attribute = self.attribute_of(element, &element_type, name)?;
        self.check_write(actor, element, attribute, name, &element_type)?;
        if attribute.is_static {
            let says = format!("'{name}' is the type's, the same for all its elements");
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        let value = checked(attribute, name, value)?;
        self.check_writer(actor, element, name)?;
        let value =
            self.in_event(|step| step.write(element, &element_type, name, attribute, value))?;
        self.note_writer(actor, element, name);
        Ok(value)
    }

    fn write(
        &mut self,
        element: &Element,
        element_type: &Arc<TypeDefinition>,
        name: &str,
        attribute: &Attribute,
        value: Json,
    ) -> Result<Json, Halt> {
        let value = self.ask_before_write(element, element_type, name, attribute, value)?;
        // An action before may have written other values of the same element.
        let current = self.stored().element(element.world, element.id)?;
        let current = current.as_deref().unwrap_or(element);
        let mut changed = current.clone();
        let old = self.value_of(&changed, name, attribute);
        if value == attribute.default {
            changed.values.remove(name);
        } else {
            changed.values.insert(name.to_owned(), value.clone());
        }
        self.reindex(element_type, Some(current), Some(&changed), Some(name))?;
        self.put(Key::Element(element.world, element.id), Row::Element(Arc::new(changed)))?;
        let (public, list) = shown_to(element_type, attribute);
        let filter = On::Before(EventKind::ValueChangeFiltered);
        self.happen(Happened {
            kind: EventKind::ValueChange,
            name: None,
            world: element.world,
            element: element.id,
            attribute: Some(name.to_owned()),
            value: value.clone(),
            old: old.clone(),
            by: self.call.caller.account(),
            public,
            list,
            masked: hears(element_type, &filter, name),
        });
        let heard = hears(element_type, &On::After(EventKind::ValueChange), name);
        if heard || element.in_sets > 0 {
            let data = json!({"attribute": name, "old": old, "value": value});
            self.wait_after(element, EventKind::ValueChange, Some(name), data);
        }
        Ok(value)
    }

    /// Checks that no other element's action wrote this attribute in the event at hand: two that do
    /// so contradict each other.
    fn check_writer(&self, actor: Actor, element: &Element, name: &str) -> Result<(), Halt> {
        let Actor::Action { element: writer, .. } = actor else { return Ok(()) };
        match self.writers.get(&(element.id, name.to_owned())) {
            Some(other) if *other != writer && writer != element.id => {
                let says = format!(
                    "actions of two elements, {other} and {writer}, write '{name}' of {} in one event",
                    element.id
                );
                Err(Problem::new(Code::Conflict, says).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Notes which element's action wrote an attribute of another.
    fn note_writer(&mut self, actor: Actor, element: &Element, name: &str) {
        if let Actor::Action { element: writer, .. } = actor
            && writer != element.id
            && self.depth > 0
        {
            self.writers.insert((element.id, name.to_owned()), writer);
        }
    }

    /// The value to be written, as the actions before leave it.
    fn ask_before_write(
        &mut self,
        element: &Element,
        element_type: &Arc<TypeDefinition>,
        name: &str,
        attribute: &Attribute,
        value: Json,
    ) -> Result<Json, Halt> {
        let heard = hears(element_type, &On::Before(EventKind::ValueChange), name);
        if !heard && element_type.home.is_none() {
            return Ok(value);
        }
        let old = self.value_of(element, name, attribute);
        let data = json!({"attribute": name, "old": old, "value": value});
        let data =
            self.fire_before(element, element_type, EventKind::ValueChange, Some(name), data)?;
        checked(attribute, name, data.get("value").cloned().unwrap_or_default())
    }
}

/// Checks that this is the element itself, and no copy of it.
fn check_at_home(element: &Element) -> Result<(), Halt> {
    if element.home.is_none() {
        return Ok(());
    }
    Err(Problem::new(Code::NotFound, "its values are at its home").into())
}

/// Whose feeds carry a change of a value: of those who may read it. What is for a group is read one
/// by one.
fn shown_to(element_type: &TypeDefinition, attribute: &Attribute) -> (bool, Option<Name>) {
    if attribute.read_group != Group::Everyone {
        return (false, None);
    }
    let list = element_type.definition.protected.clone();
    match attribute.read {
        Level::Public => (true, list),
        Level::Protected => (false, list),
        Level::Private => (false, None),
    }
}

/// Whether an action listens at all: most values have none, and are written without a stop.
fn hears(element_type: &TypeDefinition, on: &On, attribute: &str) -> bool {
    element_type.definition.listeners(on, Some(attribute)).next().is_some()
}

fn checked(attribute: &Attribute, name: &str, value: Json) -> Result<Json, Halt> {
    attribute
        .check(value)
        .map_err(|mistake| Problem::new(Code::WrongKind, format!("'{name}': {mistake}")).into())
}
