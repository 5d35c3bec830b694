//! Elements begin and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::{Actor, Halt, Step};
use crate::model::{
    AccountId, Code, Element, ElementId, EventKind, Json, Key, Name, On, Problem, Row,
    TypeDefinition, TypeId, World, WorldId,
};

impl Step<'_> {
    /// Checks that `actor` may make an element from a type in a world: in a world its owner may,
    /// and the type says who may make elements from it.
    ///
    /// # Errors
    /// They may not, or the type is retired.
    pub fn check_creation(
        &mut self,
        actor: Actor,
        world: &World,
        element_type: &TypeDefinition,
        owner: AccountId,
    ) -> Result<(), Halt> {
        if owner != world.owner {
            let says = format!("the world '{}' is somebody else's", world.name);
            return Err(Problem::new(Code::NotPermitted, says)
                .hint("name its owner with --as ACCOUNT")
                .into());
        }
        self.check_making(actor, element_type, owner)
    }

    /// Checks that `actor` may make an element of `owner` from a type.
    ///
    /// # Errors
    /// They may not, or the type is retired.
    pub fn check_making(
        &mut self,
        actor: Actor,
        element_type: &TypeDefinition,
        owner: AccountId,
    ) -> Result<(), Halt> {
        let name = &element_type.definition.name;
        if element_type.retired_at.is_some() {
            let says =
                format!("the type '{name}' is retired: no elements are made from it any more");
            return Err(Problem::new(Code::Conflict, says).into());
        }
        if super::is_system_type(element_type.id) {
            let says = format!("what a {name} stands for makes its element");
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        if let Some(home) = element_type.home {
            return self.ask_making(actor, element_type, home);
        }
        let group = &element_type.definition.create_group;
        if owner != element_type.owner && self.is_owners_alone(actor, group, element_type)? {
            let says = format!("you may not make elements from the type '{name}'");
            return Err(Problem::new(Code::NotPermitted, says)
                .hint("its owner says who may, with create_group in its file")
                .into());
        }
        Ok(())
    }

    /// The values that a new element is to have, checked.
    ///
    /// # Errors
    /// There is no such attribute, it is the type's, or the value is of another kind.
    pub fn checked_values(
        &self,
        element_type: &TypeDefinition,
        given: &Json,
    ) -> Result<BTreeMap<String, Json>, Halt> {
        let mut values = BTreeMap::new();
        for (attribute, value) in given.as_object().into_iter().flatten() {
            let definition = self.attribute(element_type, attribute)?;
            if definition.is_static {
                let says = format!("'{attribute}' is the type's, the same for all its elements");
                return Err(Problem::new(Code::NotPermitted, says).into());
            }
            let value = definition.check(value.clone()).map_err(|mistake| {
                Problem::new(Code::WrongKind, format!("'{attribute}': {mistake}"))
            })?;
            values.insert(attribute.clone(), value);
        }
        Ok(values)
    }

    /// Checks that a name is free in a world.
    ///
    /// # Errors
    /// It is no name, or taken.
    pub fn free_name(&self, world: &World, text: &str) -> Result<Name, Halt> {
        let name = self.name(text)?;
        let held = self.stored().id_at(Key::ElementName(world.id, name.key()))?;
        let is_there = |id| self.stored().element(world.id, ElementId::from_bytes(id));
        // The name of what was moved away is free again.
        if held.map(is_there).transpose()?.flatten().is_some() {
            let says = format!("the world '{}' has a '{name}' already", world.name);
            return Err(Problem::new(Code::NameTaken, says).into());
        }
        Ok(name)
    }

    /// An element that does not exist yet.
    pub fn new_element(
        &mut self,
        world: WorldId,
        element_type: &TypeDefinition,
        owner: AccountId,
        name: Option<Name>,
        values: BTreeMap<String, Json>,
    ) -> Element {
        Element {
            id: ElementId::at(self.now, self.random()),
            world,
            type_id: element_type.id,
            owner,
            name,
            values,
            attributes_off: BTreeSet::new(),
            parents_off: BTreeSet::new(),
            in_sets: 0,
            epoch: 0,
            rests: None,
            chain: Vec::new(),
            home: None,
        }
    }

    /// Makes an element, within an event: asks the actions of its type, and tells them.
    ///
    /// # Errors
    /// One of them refuses.
    pub fn make_element(
        &mut self,
        element: &Element,
        element_type: &Arc<TypeDefinition>,
    ) -> Result<(), Halt> {
        let kind = EventKind::ElementCreation;
        let data = life_data(element, element_type);
        let heard = |on: On| element_type.definition.listeners(&on, None).next().is_some();
        if heard(On::Before(kind)) || element_type.home.is_some() {
            self.fire_before(element, element_type, kind, None, data.clone())?;
        }
        if !element_type.used {
            self.mark_used(element_type)?;
        }
        if let Some(name) = &element.name {
            self.put(Key::ElementName(element.world, name.key()), Row::Id(*element.id.as_bytes()))?;
        }
        self.put(Key::Element(element.world, element.id), Row::Element(Arc::new(element.clone())))?;
        self.reindex(element_type, None, Some(element), None)?;
        let shown = Json::from(element.name.as_ref().map(ToString::to_string));
        self.note(element, element_type, kind, shown);
        if heard(On::After(kind)) {
            self.wait_after(element, kind, None, data);
        }
        Ok(())
    }

    /// Lets a copy of another server's element stand here. Its values are at its home.
    ///
    /// # Errors
    /// Too much changed.
    pub fn put_copy(
        &mut self,
        copy: &Element,
        element_type: &Arc<TypeDefinition>,
    ) -> Result<(), Halt> {
        self.mark_used(element_type)?;
        if let Some(name) = &copy.name {
            self.put(Key::ElementName(copy.world, name.key()), Row::Id(*copy.id.as_bytes()))?;
        }
        self.put(Key::ElementOf(copy.type_id, copy.world, copy.id), Row::At(0))?;
        self.put(Key::Element(copy.world, copy.id), Row::Element(Arc::new(copy.clone())))
    }

    /// Notes that a type has elements, and so its parents: nothing of them may change from now on.
    pub(super) fn mark_used(&mut self, element_type: &TypeDefinition) -> Result<(), Halt> {
        let ids = self.ancestors(element_type)?.into_iter().chain([element_type.id]);
        for id in ids.collect::<Vec<TypeId>>() {
            let held = self.type_of(id)?;
            if !held.used {
                let used = TypeDefinition { used: true, ..held.as_ref().clone() };
                self.put(Key::Type(id), Row::Type(Arc::new(used)))?;
            }
        }
        Ok(())
    }

    /// Destroys an element: asks its actions, removes it and what is kept beside it.
    ///
    /// # Errors
    /// One of them refuses.
    pub fn destroy_element(&mut self, element: &Element) -> Result<(), Halt> {
        self.check_thing(element)?;
        super::carry::check_acts(element)?;
        let element_type = self.type_of(element.type_id)?;
        let kind = EventKind::ElementDestruction;
        let data = life_data(element, &element_type);
        // What is destroyed works until the end of its last event, and hears of it.
        self.in_event(|step| {
            let heard = step.fire_before(element, &element_type, kind, None, data)?;
            step.fire_after(element, &element_type, kind, None, heard)?;
            step.remove_element(element, &element_type)
        })?;
        let shown = Json::from(element.name.as_ref().map(ToString::to_string));
        self.note(element, &element_type, kind, shown);
        Ok(())
    }
}

/// What is told of an element that begins or ends.
fn life_data(element: &Element, element_type: &TypeDefinition) -> Json {
    json!({
        "name": element.name,
        "type": element_type.definition.name,
        "owner": element.owner,
    })
}
