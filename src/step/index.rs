//! What is kept beside an element's row, so that it is found: by its type, by values of indexed
//! attributes, and the timers of its events and of its end.

use std::sync::Arc;

use super::{Halt, Step};
use crate::model::{
    Attribute, Code, Element, ElementId, EventDefinition, Json, Key, Problem, Row, TimerDoes,
    Timestamp, TypeDefinition, TypeId, WorldId,
};

/// Elements that a revision of their type may concern.
const GROWN_MAX: usize = 20_000;

/// The attribute's name in an index, and the beginning of a value in an order of bytes.
type Place = ([u8; 8], [u8; 16]);

/// The name of an attribute as an index has it.
fn short(name: &str) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    bytes
}

/// The beginning of a value, in the order of the values; none for what no index holds.
pub(super) fn index_bytes(value: &Json) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    match value {
        Json::Bool(value) => {
            bytes[0] = 1;
            bytes[1] = u8::from(*value);
        }
        Json::Number(number) => {
            bytes[0] = 2;
            // Zero has two forms of bits, and is one value.
            let value = number.as_f64().map(|value| if value == 0.0 { 0.0 } else { value })?;
            let bits = value.to_bits();
            // Negative numbers are turned round, so that the order of bytes is that of numbers.
            let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
            bytes[1..9].copy_from_slice(&ordered.to_be_bytes());
        }
        Json::String(text) => {
            bytes[0] = 3;
            let length = text.len().min(15);
            bytes[1..=length].copy_from_slice(&text.as_bytes()[..length]);
        }
        Json::Null | Json::Array(_) | Json::Object(_) => return None,
    }
    Some(bytes)
}

/// The keys between which the elements of a type are found.
pub(super) fn of_type(id: TypeId, world: WorldId, after: Option<ElementId>) -> (Key, Key) {
    let first = after.map_or([0; 16], |id| next(*id.as_bytes()));
    let first = Key::ElementOf(id, world, ElementId::from_bytes(first));
    (first, Key::ElementOf(id, world, ElementId::from_bytes([0xff; 16])))
}

/// The keys between which the elements of a type in a world with values from `first` to `last` of
/// an indexed attribute are found.
pub(super) fn by_value(
    id: TypeId,
    attribute: &str,
    world: WorldId,
    (first, last): ([u8; 16], [u8; 16]),
    after: Option<([u8; 16], ElementId)>,
) -> (Key, Key) {
    let name = short(attribute);
    let begin = match after {
        Some((value, element)) => {
            let element = ElementId::from_bytes(next(*element.as_bytes()));
            Key::ByValue(id, name, world, value, element)
        }
        None => Key::ByValue(id, name, world, first, ElementId::from_bytes([0; 16])),
    };
    (begin, Key::ByValue(id, name, world, last, ElementId::from_bytes([0xff; 16])))
}

/// The bytes after these; the last ones stay.
fn next(bytes: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(bytes).saturating_add(1).to_be_bytes()
}

fn place(element: &Element, name: &str, attribute: &Attribute) -> Option<Place> {
    let value = element.values.get(name).unwrap_or(&attribute.default);
    Some((short(name), index_bytes(value)?))
}

impl Step<'_> {
    /// Keeps what is beside an element's row up to date: `old` becomes `new`, of which only one
    /// attribute changed where `only` names it.
    ///
    /// # Errors
    /// Too much changed.
    pub fn reindex(
        &mut self,
        element_type: &TypeDefinition,
        old: Option<&Element>,
        new: Option<&Element>,
        only: Option<&str>,
    ) -> Result<(), Halt> {
        let attributes = &element_type.definition.attributes;
        match only {
            Some(name) => {
                if let Some(attribute) = attributes.get(name) {
                    self.reindex_value(element_type, old, new, name, attribute)?;
                }
            }
            None => {
                for (name, attribute) in attributes {
                    self.reindex_value(element_type, old, new, name, attribute)?;
                }
            }
        }
        match (old, new) {
            (None, Some(element)) => {
                let key = Key::ElementOf(element.type_id, element.world, element.id);
                self.put(key, Row::At(0))?;
                self.start_timers(element, element_type)
            }
            (Some(element), None) => {
                self.change(Key::ElementOf(element.type_id, element.world, element.id), None)?;
                self.stop_timers(element, |_| true)
            }
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }

    /// Keeps what is beside an element's row up to date where it becomes one of another type, which is
    /// a child of its own. Its timers stay.
    pub(super) fn index_as(
        &mut self,
        from: &TypeDefinition,
        old: &Element,
        to: &TypeDefinition,
        new: &Element,
    ) -> Result<(), Halt> {
        for (name, attribute) in &from.definition.attributes {
            self.reindex_value(from, Some(old), None, name, attribute)?;
        }
        for (name, attribute) in &to.definition.attributes {
            self.reindex_value(to, None, Some(new), name, attribute)?;
        }
        self.change(Key::ElementOf(old.type_id, old.world, old.id), None)?;
        self.put(Key::ElementOf(new.type_id, new.world, new.id), Row::At(0))?;
        for name in to.definition.events.keys() {
            if !from.definition.events.contains_key(name) {
                self.start_event(new, to, name)?;
            }
        }
        Ok(())
    }

    /// Removes an element and everything that is kept beside it.
    ///
    /// # Errors
    /// Too much changed.
    pub fn remove_element(
        &mut self,
        element: &Element,
        element_type: &TypeDefinition,
    ) -> Result<(), Halt> {
        self.forget_sets(element)?;
        if element.home.is_none() {
            self.take_copies_back(element.id)?;
        }
        // Its actions may have written values of it to the last.
        let current = self.stored().element(element.world, element.id)?;
        self.reindex(element_type, Some(current.as_deref().unwrap_or(element)), None, None)?;
        if let Some(name) = &element.name {
            self.change(Key::ElementName(element.world, name.key()), None)?;
        }
        self.change(Key::Element(element.world, element.id), None)
    }

    /// Gives the elements that are there what a revision of their type adds beside their rows: index
    /// rows, and timers of events.
    ///
    /// # Errors
    /// They are too many for one call.
    pub fn grow(&mut self, held: &TypeDefinition, next: &TypeDefinition) -> Result<(), Halt> {
        let indexed: Vec<(&String, &Attribute)> = next
            .definition
            .attributes
            .iter()
            .filter(|(name, attribute)| {
                let before = held.definition.attributes.get(*name);
                (attribute.index || attribute.expires)
                    && before.is_none_or(|before| !before.index && !before.expires)
            })
            .collect();
        let runs = |event: &EventDefinition| event.every_ms.is_some();
        let timed: Vec<&String> = next
            .definition
            .events
            .iter()
            .filter(|(name, event)| {
                runs(event) && !held.definition.events.get(*name).is_some_and(runs)
            })
            .map(|(name, _)| name)
            .collect();
        if !held.used || (indexed.is_empty() && timed.is_empty()) {
            return Ok(());
        }
        for element in self.elements_of(next.id)? {
            for (name, attribute) in &indexed {
                self.reindex_value(next, None, Some(&element), name, attribute)?;
            }
            for name in &timed {
                self.start_event(&element, next, name)?;
            }
        }
        Ok(())
    }

    /// The elements of a type in every world, as many as one call may concern.
    fn elements_of(&self, id: TypeId) -> Result<Vec<Arc<Element>>, Halt> {
        let key =
            |bytes| Key::ElementOf(id, WorldId::from_bytes(bytes), ElementId::from_bytes(bytes));
        let rows = self.stored().rows(&key([0; 16]), &key([0xff; 16]), GROWN_MAX + 1)?;
        if rows.len() > GROWN_MAX {
            let says =
                format!("more than {GROWN_MAX} elements would have to be indexed, or get a timer");
            return Err(Problem::new(Code::TypeInUse, says)
                .hint("publish it under another name")
                .into());
        }
        let mut found = Vec::with_capacity(rows.len());
        for (key, _) in rows {
            if let Key::ElementOf(_, world, id) = key {
                found.extend(self.stored().element(world, id)?);
            }
        }
        Ok(found)
    }

    fn reindex_value(
        &mut self,
        element_type: &TypeDefinition,
        old: Option<&Element>,
        new: Option<&Element>,
        name: &str,
        attribute: &Attribute,
    ) -> Result<(), Halt> {
        if attribute.index {
            let before = old.and_then(|old| place(old, name, attribute));
            let after = new.and_then(|new| place(new, name, attribute));
            if before != after {
                let key = |(name, value): Place, element: &Element| {
                    Key::ByValue(element_type.id, name, element.world, value, element.id)
                };
                if let (Some(place), Some(old)) = (before, old) {
                    self.change(key(place, old), None)?;
                }
                if let (Some(place), Some(new)) = (after, new) {
                    self.put(key(place, new), Row::At(0))?;
                }
            }
        }
        if attribute.expires
            && let Some(new) = new
        {
            let value =
                |element: &Element| element.values.get(name).unwrap_or(&attribute.default).as_u64();
            let before = old.and_then(value);
            let after = value(new);
            if before != after || old.is_none() {
                self.stop_timers(new, |does| *does == TimerDoes::Destroy)?;
                if let Some(ms) = after {
                    self.start_timer(new, Timestamp::from_ms(ms), None, TimerDoes::Destroy)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        #[test]
        fn numbers_are_ordered_in_an_index_as_numbers_are(a in -1e18..1e18_f64, b in -1e18..1e18_f64) {
            let (one, other) = (index_bytes(&json!(a)).unwrap(), index_bytes(&json!(b)).unwrap());
            prop_assert_eq!(a.partial_cmp(&b).unwrap(), one.cmp(&other));
        }
    }

    #[test]
    fn whole_numbers_and_others_of_the_same_value_share_a_place() {
        assert_eq!(index_bytes(&json!(2)), index_bytes(&json!(2.0)));
        assert_ne!(index_bytes(&json!(2)), index_bytes(&json!("2")));
        assert_eq!(index_bytes(&json!(null)), None);
    }
}
