//! Types of other servers here, and ours elsewhere: what of a type another server is given, and what
//! happens with actions that run at its home.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use super::action::Listener;
use super::{Actor, Halt, Step, not_offered};
use crate::model::{
    Action, Body, Bond, Bounds, Code, Definition, Element, ElementId, EventKind, Group, Json, Key,
    Level, On, Problem, Protection, ProtectionState, ServerId, TypeDefinition,
};

/// Servers that hold a copy of one element at most.
const COPIES_MAX: usize = 1_000;

/// What an event means whose listener cannot run where a copy stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Above {
    /// It is refused.
    Refuse,
    /// It is taken as allowed.
    Accept,
}

/// What is meant above the level where the type does not say otherwise.
pub const fn above_default(kind: EventKind) -> Above {
    match kind {
        EventKind::ElementCreation
        | EventKind::ElementBatchCreation
        | EventKind::ElementDestruction
        | EventKind::ElementOwnerChange
        | EventKind::ValueChange
        | EventKind::ValueChangeFiltered
        | EventKind::SetValuesChange => Above::Refuse,
        _ => Above::Accept,
    }
}

/// What of a type a server may see that is, or is not, on its list: attributes and actions of its
/// level. Portable actions go along as they are; of the others it is only said that they run at home.
pub fn outward_definition(held: &TypeDefinition, level: Level) -> Definition {
    let whole = &held.definition;
    let attributes: BTreeMap<_, _> = whole
        .attributes
        .iter()
        .filter(|(_, attribute)| attribute.read >= level || attribute.write >= level)
        .map(|(name, attribute)| {
            let mut shown = attribute.clone();
            shown.ancestor = None;
            shown.parent = None;
            if attribute.read < level {
                // Who may only write it learns nothing of what it is.
                shown.default = Json::Null;
            }
            (name.clone(), shown)
        })
        .collect();
    let is_shown = |action: &Action| {
        action.level >= level
            && !(level == Level::Public && held.is_off_for_public(&action.name))
            && action.attribute.as_ref().is_none_or(|name| attributes.contains_key(name))
    };
    let actions: BTreeMap<_, _> = whole
        .actions
        .iter()
        .filter(|(_, action)| is_shown(action))
        .map(|(name, action)| (name.clone(), Arc::new(outward_action(action))))
        .collect();
    let heard: BTreeSet<&String> = actions
        .values()
        .filter_map(|action| match &action.on {
            On::Custom(event) => Some(event),
            On::Before(_) | On::After(_) => None,
        })
        .collect();
    let events = whole.events.iter().filter(|(name, _)| heard.contains(name));
    let events = events.map(|(name, event)| {
        let mut shown = event.clone();
        shown.parent = None;
        shown.every_ms = None;
        (name.clone(), shown)
    });
    Definition {
        name: whole.name.clone(),
        description: whole.description.clone(),
        protected: None,
        events: events.collect(),
        actions,
        parents: Vec::new(),
        bounds: Bounds {
            // Where it exists is said by a position that may be seen.
            area: whole.bounds.area.clone().filter(|area| attributes.contains_key(&area.attribute)),
            ..whole.bounds.clone()
        },
        create_group: match whole.create_group {
            Group::Owner => Group::Owner,
            Group::Everyone | Group::Named(_) => Group::Everyone,
        },
        see_group: Group::Everyone,
        attributes,
    }
}

fn outward_action(action: &Action) -> Action {
    let body = if action.portable { action.body.clone() } else { Body::Home };
    Action { body, depth: 0, defined_by: None, ancestor: None, ..action.clone() }
}

/// What of a type's events somebody listens to who cannot be named to a server of this level.
pub fn above(held: &TypeDefinition, level: Level) -> Vec<(EventKind, Option<String>, bool)> {
    let shown = outward_definition(held, level);
    let mut found: Vec<_> = held
        .definition
        .actions
        .iter()
        .filter(|(name, _)| !shown.actions.contains_key(*name))
        .filter_map(|(_, action)| match &action.on {
            On::Before(kind) => {
                // Which attribute it is about is for those who may know of it.
                let attribute = action.attribute.clone();
                let hidden =
                    attribute.as_ref().is_some_and(|name| !shown.attributes.contains_key(name));
                let refuses = match action.above_accepts {
                    Some(accepts) => !accepts,
                    None => above_default(*kind) == Above::Refuse,
                };
                (!hidden).then_some((*kind, attribute, refuses))
            }
            On::After(_) | On::Custom(_) => None,
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

impl Step<'_> {
    /// How much of a type another server may see: what is protected, where it is on the type's list.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn level_for(&self, held: &TypeDefinition, server: ServerId) -> Result<Level, Halt> {
        let Some(list) = &held.definition.protected else { return Ok(Level::Public) };
        let row = self.stored().protection(server, &list.key())?;
        let is_listed = |row: &Protection| row.state == ProtectionState::Active;
        Ok(if row.as_deref().is_some_and(is_listed) { Level::Protected } else { Level::Public })
    }

    /// Refuses an event about an element of another server's type to which somebody listens at the
    /// type's home who cannot be asked from here.
    pub(super) fn check_above(
        &self,
        element_type: &TypeDefinition,
        kind: EventKind,
        attribute: Option<&str>,
    ) -> Result<(), Halt> {
        let refuses = element_type.above.iter().any(|(above, about, refuses)| {
            let same = about.is_none() || about.as_deref() == attribute;
            *above == kind && same && *refuses
        });
        if refuses {
            let says = format!(
                "at the home of the type '{}' somebody decides about this who cannot be asked from here",
                element_type.definition.name
            );
            return Err(Problem::new(Code::Refused, says).into());
        }
        Ok(())
    }

    /// Runs an action at its type's home: it is asked before something happens, and told afterwards.
    pub(super) fn run_at_home(
        &mut self,
        listener: Listener<'_>,
        data: &Json,
    ) -> Result<Option<Json>, Halt> {
        let Some(home) = listener.element_type.home else {
            return Err(Problem::new(Code::Internal, "an action without a body").into());
        };
        let element = listener.element;
        let args = json!({
            "type": listener.element_type.id,
            "action": listener.action.name,
            "data": data,
            "element": element.id,
            "values": element.values,
            "name": element.name,
        });
        let about = format!("{} {}", listener.action.name, element.id);
        if matches!(listener.action.on, On::After(_)) {
            if self.reading == 0 {
                let tell = self.tell_of(home, "action.run", args)?;
                self.tell(tell);
            }
            return Ok(None);
        }
        let answer = self.ask_server(home, "action.decide", &about, args, None)?;
        match answer {
            Ok(answer) => Ok(answer.get("reply").cloned().filter(|reply| !reply.is_null())),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Runs an action of a type of ours for an element that stands at another server. An element of
    /// ours that was copied there acts as itself, others as they are described.
    ///
    /// # Errors
    /// It is not offered to the calling server, or refuses.
    pub fn run_for_copy(
        &mut self,
        element_type: &Arc<TypeDefinition>,
        action: &str,
        element: &Element,
        mut data: Json,
    ) -> Result<Json, Halt> {
        let bond = self.bond_with(element_type)?;
        let level = match bond {
            Bond::Proven | Bond::Ourselves => Level::Protected,
            Bond::Stranger => Level::Public,
        };
        let found = element_type.definition.actions.get(action);
        let found = found.filter(|found| {
            let off = level == Level::Public && element_type.is_off_for_public(&found.name);
            found.level >= level && !off
        });
        let Some(found) = found.cloned() else { return Err(not_offered(action).into()) };
        let event = match &found.on {
            On::Custom(event) => Some(event.clone()),
            On::Before(_) | On::After(_) => None,
        };
        self.in_event(|step| {
            let listener =
                Listener { element, element_type, action: &found, event: event.as_deref() };
            Ok(step.run_listener(listener, &mut data)?.unwrap_or_default())
        })
    }

    /// Tells a server that its copy of an element of ours is none any more.
    ///
    /// # Errors
    /// The root has no hops left.
    pub fn take_copy_back(&mut self, id: ElementId, server: ServerId) -> Result<(), Halt> {
        self.change(Key::ElementHolder(id, server), None)?;
        let tell = self.tell_of(server, "element.forget", json!({"element": id}))?;
        self.tell(tell);
        Ok(())
    }

    /// An element of ours is gone, or another's: its copies elsewhere go.
    ///
    /// # Errors
    /// The root has no hops left.
    pub fn take_copies_back(&mut self, id: ElementId) -> Result<(), Halt> {
        let key = |bytes| Key::ElementHolder(id, ServerId::from_bytes(bytes));
        for (key, _) in self.stored().rows(&key([0; 16]), &key([0xff; 16]), COPIES_MAX)? {
            if let Key::ElementHolder(id, server) = key {
                self.take_copy_back(id, server)?;
            }
        }
        Ok(())
    }

    /// Checks with the home of another server's type that `actor` may make an element from it.
    pub(super) fn ask_making(
        &mut self,
        actor: Actor,
        element_type: &TypeDefinition,
        home: ServerId,
    ) -> Result<(), Halt> {
        if actor != Actor::Caller && element_type.definition.create_group == Group::Owner {
            return Err(not_offered(element_type.definition.name.as_str()).into());
        }
        let about = element_type.id.to_string();
        let args = json!({"type": element_type.id});
        self.ask_server(home, "type.ask", &about, args, None)??;
        Ok(())
    }
}
