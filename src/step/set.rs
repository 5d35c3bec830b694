//! Sets: what stands in them, what they are to each other, and how they change.

use std::sync::Arc;

use serde_json::json;

use super::{Actor, Halt, Step};
use crate::model::{
    AccountId, Caller, Code, Element, ElementId, EventKind, Json, Key, Problem, Row, Set,
};

/// Elements that hear what happens beside them, of one element at most.
const NEIGHBOURS_MAX: usize = 256;
/// The place of a set's first member; later ones count up from here, earlier ones down.
const PLACE_FIRST: u64 = 1 << 63;
/// Sets above each other that are looked through.
const ANCESTORS_MAX: usize = 10_000;

/// An end of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Where its first member stands.
    First,
    /// Where its last member stands.
    Last,
}

/// How two sets can be joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tie {
    /// The first is a parent of the second.
    Child,
    /// The first links to the second.
    Link,
}

impl Tie {
    /// The events that both ends hear when it is made, or removed.
    const fn kinds(self, made: bool) -> (EventKind, EventKind) {
        match (self, made) {
            (Self::Child, true) => (EventKind::SetChildAdded, EventKind::SetParentAdded),
            (Self::Child, false) => (EventKind::SetChildRemoved, EventKind::SetParentRemoved),
            (Self::Link, true) => (EventKind::SetLinkMade, EventKind::SetLinkReceived),
            (Self::Link, false) => (EventKind::SetLinkRemoved, EventKind::SetLinkLost),
        }
    }

    const fn keys(self, one: &Element, other: &Element) -> [Key; 2] {
        let world = one.world;
        match self {
            Self::Child => {
                [Key::SetChild(world, one.id, other.id), Key::SetParent(world, other.id, one.id)]
            }
            Self::Link => {
                [Key::SetLink(world, one.id, other.id), Key::SetLinked(world, other.id, one.id)]
            }
        }
    }
}

impl Step<'_> {
    /// The set that an element defines.
    ///
    /// # Errors
    /// It defines none.
    pub fn set_of(&self, element: &Element) -> Result<Arc<Set>, Halt> {
        self.stored().set(element.world, element.id)?.ok_or_else(|| {
            let name =
                element.name.as_ref().map_or_else(|| element.id.to_string(), ToString::to_string);
            Problem::new(Code::NotFound, format!("'{name}' defines no set"))
                .hint(format!("make it define one with: freehold set add {name}"))
                .into()
        })
    }

    /// Members of a set in order, from after a place on.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn members(
        &self,
        set: &Set,
        after: Option<(u64, ElementId)>,
        limit: usize,
    ) -> Result<Vec<(u64, ElementId)>, Halt> {
        let first = match after {
            None => Key::Member(set.world, set.element, 0, ElementId::from_bytes([0; 16])),
            Some((place, id)) => {
                let next = u128::from_be_bytes(*id.as_bytes()).saturating_add(1).to_be_bytes();
                Key::Member(set.world, set.element, place, ElementId::from_bytes(next))
            }
        };
        let rows = self.stored().rows(&first, &last_member(set), limit)?;
        Ok(rows.into_iter().filter_map(|(key, _)| member_in(key)).collect())
    }

    /// The place of an element in a set, if it stands there.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn place_in(&self, element: &Element, set: &Set) -> Result<Option<u64>, Halt> {
        Ok(self.stored().at(Key::MemberOf(element.world, element.id, set.element))?)
    }

    /// What stands beside an element in the sets that it stands in.
    pub(super) fn neighbours(&self, element: &Element) -> Result<Vec<ElementId>, Halt> {
        // The row at hand may be older than the step's own changes.
        let now = self.stored().element(element.world, element.id)?;
        if now.as_deref().unwrap_or(element).in_sets == 0 {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for set in self.sets_of(element)? {
            let room = NEIGHBOURS_MAX.saturating_sub(found.len());
            let Some(set) = self.stored().set(element.world, set)? else { continue };
            let members = self.members(&set, None, room)?.into_iter().map(|(_, id)| id);
            found.extend(members.filter(|id| *id != element.id));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The sets that an element stands in.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn sets_of(&self, element: &Element) -> Result<Vec<ElementId>, Halt> {
        let key = |bytes| Key::MemberOf(element.world, element.id, ElementId::from_bytes(bytes));
        let rows = self.stored().rows(&key([0; 16]), &key([0xff; 16]), NEIGHBOURS_MAX)?;
        Ok(rows
            .into_iter()
            .filter_map(|(key, _)| match key {
                Key::MemberOf(_, _, set) => Some(set),
                _ => None,
            })
            .collect())
    }

    /// Checks that `actor` may change a set as far as this element is concerned: its owner may, and
    /// the element's.
    ///
    /// # Errors
    /// They may not.
    pub fn check_set(
        &self,
        actor: Actor,
        definer: &Element,
        element: Option<&Element>,
    ) -> Result<(), Halt> {
        let owners = [Some(definer.owner), element.map(|element| element.owner)];
        let is_one = |account: AccountId| owners.contains(&Some(account));
        let may = match (actor, &self.call.caller) {
            (Actor::Caller, Caller::Node) => true,
            (Actor::Caller, caller) => caller.account().is_some_and(is_one),
            (Actor::Action { element: own, owner, type_owner }, _) => {
                // Beyond its own element an action may do only what its type's owner may too.
                let is_own = own == definer.id || element.is_some_and(|element| element.id == own);
                is_one(owner) && (is_own || is_one(type_owner))
            }
        };
        if may {
            return Ok(());
        }
        Err(Problem::new(Code::NotPermitted, "only the set's owner, or the element's, may do this")
            .hint("name one of them with --as ACCOUNT")
            .into())
    }

    /// Puts an element into a set. Whether it did not stand there before.
    ///
    /// # Errors
    /// Somebody refuses, or `actor` may not.
    pub fn enter_set(
        &mut self,
        actor: Actor,
        definer: &Element,
        element: &Element,
        end: End,
    ) -> Result<bool, Halt> {
        self.check_set(actor, definer, Some(element))?;
        super::carry::check_acts(element)?;
        let set = self.set_of(definer)?;
        if element.world != definer.world {
            let says = "a set holds elements of its own world alone";
            return Err(Problem::new(Code::Usage, says).into());
        }
        if self.place_in(element, &set)?.is_some() {
            return Ok(false);
        }
        self.enter(definer, element, end)?;
        Ok(true)
    }

    fn enter(&mut self, definer: &Element, element: &Element, end: End) -> Result<(), Halt> {
        let data = membership(definer, element);
        let subjects =
            [(element, EventKind::ElementEntersSet), (definer, EventKind::SetElementAdded)];
        self.around(&subjects, &data, |step| {
            let set = step.set_of(definer)?;
            let place = step.free_place(&set, end)?;
            let member = Key::Member(set.world, set.element, place, element.id);
            step.put(member, Row::At(0))?;
            step.put(Key::MemberOf(set.world, element.id, set.element), Row::At(place))?;
            step.count_members(&set, 1)?;
            step.count_sets(element, 1)
        })
    }

    /// Makes an element define a set, if it does not yet.
    ///
    /// # Errors
    /// Too much changed.
    pub fn make_set(&mut self, definer: &Element) -> Result<(), Halt> {
        if self.stored().set(definer.world, definer.id)?.is_none() {
            let (element, world) = (definer.id, definer.world);
            let set = Set { element, world, members: 0, added_at: self.now };
            self.put(Key::Set(world, element), Row::Set(Arc::new(set)))?;
        }
        Ok(())
    }

    /// Lets an avatar into the set of a world: whoever comes may ask, and the set may refuse.
    ///
    /// # Errors
    /// Somebody refuses.
    pub fn admit(&mut self, definer: &Element, element: &Element) -> Result<(), Halt> {
        self.enter(definer, element, End::Last)
    }

    /// Lets an avatar out of the set of a world: nobody can keep it. Who listens is told; what goes wrong
    /// there is logged.
    ///
    /// # Errors
    /// Too much changed.
    pub fn dismiss(&mut self, definer: &Element, element: &Element) -> Result<(), Halt> {
        let Some(set) = self.stored().set(definer.world, definer.id)? else { return Ok(()) };
        let Some(place) = self.place_in(element, &set)? else { return Ok(()) };
        let data = membership(definer, element);
        self.remove_member(&set, element, place)?;
        let element_type = self.type_of(definer.type_id)?;
        self.note(definer, &element_type, EventKind::SetElementRemoved, data.clone());
        let told = self.unasked(|step| {
            step.in_event(|step| {
                step.wait_after(definer, EventKind::SetElementRemoved, None, data);
                Ok(())
            })
        });
        match told {
            Err(Halt::Problem(problem)) => {
                self.end = None;
                self.log(&problem.says);
                Ok(())
            }
            told => told,
        }
    }

    /// Takes an element out of a set. Whether it stood there.
    ///
    /// # Errors
    /// Somebody refuses, or `actor` may not.
    pub fn leave_set(
        &mut self,
        actor: Actor,
        definer: &Element,
        element: &Element,
    ) -> Result<bool, Halt> {
        self.check_set(actor, definer, Some(element))?;
        let set = self.set_of(definer)?;
        let Some(place) = self.place_in(element, &set)? else { return Ok(false) };
        let data = membership(definer, element);
        let subjects =
            [(element, EventKind::ElementLeavesSet), (definer, EventKind::SetElementRemoved)];
        self.around(&subjects, &data, |step| step.remove_member(&set, element, place))?;
        Ok(true)
    }

    /// Removes a membership, without asking anybody.
    fn remove_member(&mut self, set: &Set, element: &Element, place: u64) -> Result<(), Halt> {
        self.change(Key::Member(set.world, set.element, place, element.id), None)?;
        self.change(Key::MemberOf(set.world, element.id, set.element), None)?;
        let held = self.stored().set(set.world, set.element)?;
        if let Some(held) = held {
            self.count_members(&held, -1)?;
        }
        self.count_sets(element, -1)
    }

    fn count_members(&mut self, set: &Set, by: i64) -> Result<(), Halt> {
        let members = set.members.saturating_add_signed(by);
        let changed = Set { members, ..set.clone() };
        self.put(Key::Set(set.world, set.element), Row::Set(Arc::new(changed)))
    }

    fn count_sets(&mut self, element: &Element, by: i32) -> Result<(), Halt> {
        let Some(held) = self.stored().element(element.world, element.id)? else { return Ok(()) };
        let mut changed = held.as_ref().clone();
        changed.in_sets = changed.in_sets.saturating_add_signed(by);
        self.put(Key::Element(element.world, element.id), Row::Element(Arc::new(changed)))
    }

    fn free_place(&self, set: &Set, end: End) -> Result<u64, Halt> {
        let held = match end {
            End::First => self.members(set, None, 1)?.first().map(|(place, _)| *place),
            End::Last => self.last_member(set)?.map(|(place, _)| place),
        };
        Ok(match (held, end) {
            (None, _) => PLACE_FIRST,
            (Some(place), End::First) => place.saturating_sub(1),
            (Some(place), End::Last) => place.saturating_add(1),
        })
    }

    /// The last member of a set.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn last_member(&self, set: &Set) -> Result<Option<(u64, ElementId)>, Halt> {
        let first = Key::Member(set.world, set.element, 0, ElementId::from_bytes([0; 16]));
        let last = self.stored().last_row(&first, &last_member(set))?;
        Ok(last.and_then(|(key, _)| member_in(key)))
    }

    /// Ties two sets together, or unties them. Whether that changed anything.
    ///
    /// # Errors
    /// Somebody refuses, `actor` may not, or a set would be its own ancestor.
    pub fn tie(
        &mut self,
        actor: Actor,
        tie: Tie,
        one: &Element,
        other: &Element,
        make: bool,
    ) -> Result<bool, Halt> {
        self.check_set(actor, one, None)?;
        self.set_of(one)?;
        self.set_of(other)?;
        if one.world != other.world {
            let says = "only sets of one world can be tied together";
            return Err(Problem::new(Code::Usage, says).into());
        }
        let keys = tie.keys(one, other);
        if self.stored().at(keys[0].clone())?.is_some() == make {
            return Ok(false);
        }
        if make && tie == Tie::Child && self.is_above(other, one.id)? {
            let says = "a set cannot be its own ancestor";
            return Err(Problem::new(Code::Conflict, says).into());
        }
        let (kind, other_kind) = tie.kinds(make);
        let data = json!({"from": one.id, "to": other.id});
        self.around(&[(one, kind), (other, other_kind)], &data, |step| {
            for key in keys {
                step.change(key, make.then_some(Row::At(0)))?;
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// Whether a set is `below` itself, or stands somewhere above it.
    fn is_above(&self, set: &Element, below: ElementId) -> Result<bool, Halt> {
        let mut waiting = vec![below];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(at) = waiting.pop() {
            if at == set.id {
                return Ok(true);
            }
            if seen.len() >= ANCESTORS_MAX || !seen.insert(at) {
                continue;
            }
            let key = |bytes| Key::SetParent(set.world, at, ElementId::from_bytes(bytes));
            for (key, _) in self.stored().rows(&key([0; 16]), &key([0xff; 16]), ANCESTORS_MAX)? {
                if let Key::SetParent(_, _, parent) = key {
                    waiting.push(parent);
                }
            }
        }
        Ok(false)
    }

    /// The other ends of an element's ties: of keys from `first` to `last`, their last ids.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn tied(&self, first: &Key, last: &Key) -> Result<Vec<ElementId>, Halt> {
        let rows = self.stored().rows(first, last, ANCESTORS_MAX)?;
        Ok(rows
            .into_iter()
            .filter_map(|(key, _)| match key {
                Key::SetChild(_, _, id)
                | Key::SetParent(_, _, id)
                | Key::SetLink(_, _, id)
                | Key::SetLinked(_, _, id) => Some(id),
                _ => None,
            })
            .collect())
    }

    /// Lets go of everything that an element is to sets: it is about to be gone.
    pub(super) fn forget_sets(&mut self, element: &Element) -> Result<(), Halt> {
        // As many as are found at a time, until there are none.
        loop {
            let sets = self.sets_of(element)?;
            if sets.is_empty() {
                break;
            }
            for id in sets {
                let held = self.stored().set(element.world, id)?;
                let set = held.ok_or_else(|| Problem::new(Code::Internal, "a set is missing"))?;
                if let Some(place) = self.place_in(element, &set)? {
                    self.remove_member(&set, element, place)?;
                }
            }
        }
        if self.stored().set(element.world, element.id)?.is_some() {
            self.empty_set(element)?;
        }
        Ok(())
    }

    /// Removes a set: its members stay, no longer in it.
    ///
    /// # Errors
    /// It has too many members or ties to be removed at once.
    pub fn empty_set(&mut self, definer: &Element) -> Result<(), Halt> {
        let set = self.set_of(definer)?;
        loop {
            let members = self.members(&set, None, NEIGHBOURS_MAX)?;
            if members.is_empty() {
                break;
            }
            for (place, id) in members {
                let held = self.stored().element(definer.world, id)?;
                let member =
                    held.ok_or_else(|| Problem::new(Code::Internal, "a member is missing"))?;
                self.remove_member(&set, &member, place)?;
            }
        }
        let (world, own) = (definer.world, definer.id);
        let ends: [fn(crate::model::WorldId, ElementId, ElementId) -> Key; 4] =
            [Key::SetChild, Key::SetParent, Key::SetLink, Key::SetLinked];
        for (at, make) in ends.into_iter().enumerate() {
            let back = ends[at ^ 1];
            let key = |bytes| make(world, own, ElementId::from_bytes(bytes));
            for other in self.tied(&key([0; 16]), &key([0xff; 16]))? {
                self.change(make(world, own, other), None)?;
                self.change(back(world, other, own), None)?;
            }
        }
        self.change(Key::Set(world, own), None)
    }
}

fn last_member(set: &Set) -> Key {
    Key::Member(set.world, set.element, u64::MAX, ElementId::from_bytes([0xff; 16]))
}

fn member_in(key: Key) -> Option<(u64, ElementId)> {
    match key {
        Key::Member(_, _, place, id) => Some((place, id)),
        _ => None,
    }
}

fn membership(definer: &Element, element: &Element) -> Json {
    json!({"set": definer.id, "element": element.id})
}
