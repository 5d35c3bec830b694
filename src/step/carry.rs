//! Elements that come, go and rest as a whole: without anybody being asked, since that was done before.

use std::sync::Arc;

use super::{Actor, Halt, Step, Target};
use crate::model::{
    Code, Element, ElementId, EventKind, Json, Key, Place, Problem, Rest, Row, ServerId, Set,
    World, WorldId,
};

/// Sets that one element stands in, and that are children of one, that are looked at.
const SETS_MAX: usize = 1_000;
/// The place of a set's first member.
const PLACE_FIRST: u64 = 1 << 63;

impl Step<'_> {
    /// Lets an element rest, or act again.
    ///
    /// # Errors
    /// Too much changed.
    pub fn rest(&mut self, element: &Element, rests: Option<Rest>, epoch: u64) -> Result<(), Halt> {
        let current = self.stored().element(element.world, element.id)?;
        let current = current.as_deref().unwrap_or(element).clone();
        let changed = Element { rests, epoch, ..current };
        self.put(Key::Element(changed.world, changed.id), Row::Element(Arc::new(changed)))
    }

    /// Asks every one of several elements before something happens to all of them.
    ///
    /// # Errors
    /// One of them refuses.
    pub fn ask_before(
        &mut self,
        subjects: &[(&Element, EventKind)],
        data: &Json,
    ) -> Result<(), Halt> {
        self.in_event(|step| {
            for (element, kind) in subjects {
                let element_type = step.type_of(element.type_id)?;
                step.fire_before(element, &element_type, *kind, None, data.clone())?;
            }
            Ok(())
        })
    }

    /// Tells elements that something has happened to them.
    ///
    /// # Errors
    /// An action of one of them fails.
    pub fn tell_after(
        &mut self,
        elements: &[Element],
        kind: EventKind,
        data: &Json,
    ) -> Result<(), Halt> {
        self.in_event(|step| {
            for element in elements {
                let element_type = step.type_of(element.type_id)?;
                step.note(element, &element_type, kind, data.clone());
                step.wait_after(element, kind, None, data.clone());
            }
            Ok(())
        })
    }

    /// What stands in the set that an element defines, and the sets that are children of it.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn inside(&self, element: &Element) -> Result<Vec<ElementId>, Halt> {
        let mut found = match self.stored().set(element.world, element.id)? {
            Some(set) => {
                let members = self.members(&set, None, SETS_MAX)?;
                members.into_iter().map(|(_, id)| id).collect()
            }
            None => Vec::new(),
        };
        found.extend(self.child_sets(element)?);
        Ok(found)
    }

    /// The sets that are children of the one that an element defines.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn child_sets(&self, element: &Element) -> Result<Vec<ElementId>, Halt> {
        let key = |bytes| Key::SetChild(element.world, element.id, ElementId::from_bytes(bytes));
        self.tied(&key([0; 16]), &key([0xff; 16]))
    }

    /// Takes an element out of every set that it stands in; each may refuse.
    ///
    /// # Errors
    /// Somebody refuses.
    pub fn leave_all_sets(&mut self, element: &Element) -> Result<(), Halt> {
        for id in self.sets_of(element)? {
            if let Some(definer) = self.stored().element(element.world, id)? {
                self.leave_set(Actor::Caller, &definer, element)?;
            }
        }
        Ok(())
    }

    /// Removes an element that is somebody else's from now on. Its name goes on standing for it.
    ///
    /// # Errors
    /// Too much changed.
    pub fn remove_for_good(&mut self, element: &Element) -> Result<(), Halt> {
        let element_type = self.type_of(element.type_id)?;
        self.remove_element(element, &element_type)?;
        if let Some(name) = &element.name {
            let key = Key::ElementName(element.world, name.key());
            self.put(key, Row::Id(*element.id.as_bytes()))?;
        }
        Ok(())
    }

    /// Puts an element into its world that was another server's, or elsewhere here. A copy of it, or its
    /// older self, goes.
    ///
    /// # Errors
    /// Too much changed.
    pub fn take_over(&mut self, element: Element) -> Result<Element, Halt> {
        for older in self.elements_with_id(element.id)? {
            let element_type = self.type_of(older.type_id)?;
            self.remove_element(&older, &element_type)?;
        }
        if self.stored().moved(element.id)?.is_some() {
            self.change(Key::Moved(element.id), None)?;
        }
        let element_type = self.type_of(element.type_id)?;
        self.mark_used(&element_type)?;
        if let Some(name) = &element.name {
            let key = Key::ElementName(element.world, name.key());
            self.put(key, Row::Id(*element.id.as_bytes()))?;
        }
        self.reindex(&element_type, None, Some(&element), None)?;
        let key = Key::Element(element.world, element.id);
        self.put(key, Row::Element(Arc::new(element.clone())))?;
        Ok(element)
    }

    /// Makes an element of ours a copy of another server's: it is theirs.
    ///
    /// # Errors
    /// Too much changed.
    pub fn make_copy(&mut self, element: &Element, home: ServerId) -> Result<(), Halt> {
        let element_type = self.type_of(element.type_id)?;
        self.remove_element(element, &element_type)?;
        let copy = Element {
            home: Some(home),
            rests: None,
            in_sets: 0,
            values: std::collections::BTreeMap::new(),
            ..element.clone()
        };
        self.put_copy(&copy, &element_type)
    }

    /// Makes the set that an element defined elsewhere, of what came along with it.
    ///
    /// # Errors
    /// Too much changed.
    pub fn rebuild_set(
        &mut self,
        world: WorldId,
        definer: ElementId,
        members: Option<&[ElementId]>,
        children: &[ElementId],
    ) -> Result<(), Halt> {
        let Some(members) = members else { return Ok(()) };
        let count = members.len() as u64;
        let set = Set { element: definer, world, members: count, added_at: self.now };
        self.put(Key::Set(world, definer), Row::Set(Arc::new(set)))?;
        for (place, member) in (PLACE_FIRST..).zip(members) {
            let Some(element) = self.stored().element(world, *member)? else { continue };
            self.put(Key::Member(world, definer, place, *member), Row::At(0))?;
            self.put(Key::MemberOf(world, *member, definer), Row::At(place))?;
            let stands = Element { in_sets: element.in_sets + 1, ..element.as_ref().clone() };
            self.put(Key::Element(world, *member), Row::Element(Arc::new(stands)))?;
        }
        for child in children {
            self.put(Key::SetChild(world, definer, *child), Row::At(0))?;
            self.put(Key::SetParent(world, *child, definer), Row::At(0))?;
        }
        Ok(())
    }

    /// Puts things with their sets into another world of this server, whose owner owns them from then
    /// on.
    ///
    /// # Errors
    /// Too much changed.
    pub fn carry(&mut self, things: &[Arc<Element>], world: &World) -> Result<(), Halt> {
        let mut sets = Vec::new();
        for thing in things {
            let goes = |id: &ElementId| things.iter().any(|thing| thing.id == *id);
            let members = match self.stored().set(thing.world, thing.id)? {
                Some(set) => {
                    let members = self.members(&set, None, SETS_MAX)?;
                    Some(members.into_iter().map(|(_, id)| id).filter(goes).collect::<Vec<_>>())
                }
                None => None,
            };
            let children: Vec<_> = self.child_sets(thing)?.into_iter().filter(goes).collect();
            sets.push((thing.id, members, children));
        }
        for thing in things {
            let current = self.stored().element(thing.world, thing.id)?;
            let current = current.as_deref().unwrap_or(thing).clone();
            let element_type = self.type_of(current.type_id)?;
            self.remove_element(&current, &element_type)?;
            let name = current.name.clone();
            let name = name.filter(|name| self.free_name(world, name.as_str()).is_ok());
            let (world, owner) = (world.id, world.owner);
            let carried = Element { world, owner, name, rests: None, in_sets: 0, ..current };
            self.take_over(carried)?;
        }
        for (definer, members, children) in sets {
            self.rebuild_set(world.id, definer, members.as_deref(), &children)?;
        }
        Ok(())
    }

    /// Where a thing is that was ours, by a name that it had here.
    pub(super) fn moved_to(&self, place: &Place) -> Result<Option<Target>, Halt> {
        let id = match place.words.as_slice() {
            [name] if name.parse::<ElementId>().is_ok() => name.parse().ok(),
            [name] => match self.world(self.text("world").filter(|_| self.scope.is_empty())) {
                Ok(world) => self.stored().id_at(Key::ElementName(world.id, name.clone()))?,
                Err(_) => None,
            }
            .map(ElementId::from_bytes),
            [account, world, name] => {
                let world = self.world(Some(&format!("{account}/{world}")))?;
                let id = self.stored().id_at(Key::ElementName(world.id, name.clone()))?;
                id.map(ElementId::from_bytes)
            }
            _ => None,
        };
        let Some(id) = id else { return Ok(None) };
        let moved = self.stored().moved(id)?;
        Ok(moved.map(|moved| Target::There { server: moved.server, name: id.to_string() }))
    }
}

/// Checks that an element acts: that it is neither held nor on its way.
///
/// # Errors
/// It rests.
pub fn check_acts(element: &Element) -> Result<(), Halt> {
    match element.rests {
        None => Ok(()),
        Some(Rest::Held) => {
            Err(Problem::new(Code::Conflict, "it is held: put it down first").into())
        }
        Some(Rest::Moving(_)) => {
            Err(Problem::new(Code::Conflict, "it is on its way to another server")
                .hint("call it off with: freehold element move ELEMENT --cancel")
                .into())
        }
    }
}
