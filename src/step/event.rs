//! Events are delivered here: before-events at once, after-events when the outer one has ended.

use std::sync::Arc;

use serde_json_path::JsonPath;

use super::action::{Listener, Replies};
use super::buffer::{DEPTH_MAX, Happened, Waiting};
use super::{Halt, Step};
use crate::model::{
    AccountId, Body, Code, Element, EventKind, Group, Json, Level, On, Problem, TypeDefinition,
    suggest,
};

impl Step<'_> {
    /// Does what makes up one event. What it wrote is dropped where it ends badly; when it is the
    /// outermost one, the after-events are told at its end, in order.
    ///
    /// # Errors
    /// The root's events or the depth are used up, or it ends badly itself.
    pub fn in_event<T>(
        &mut self,
        event: impl FnOnce(&mut Self) -> Result<T, Halt>,
    ) -> Result<T, Halt> {
        let Some(left) = self.budget.events.checked_sub(1) else {
            let last: Vec<&str> = self.recent.iter().map(String::as_str).collect();
            let says = match last.as_slice() {
                [] => "the call fired more events than it may".to_owned(),
                last => format!(
                    "the call fired more events than it may; the last were heard by {}",
                    last.join(" > ")
                ),
            };
            return Err(Problem::new(Code::ScriptBudget, says).into());
        };
        if self.depth >= DEPTH_MAX {
            let says =
                format!("events are nested deeper than {DEPTH_MAX}: {}", self.path.join(" > "));
            return Err(Problem::new(Code::ScriptBudget, says).into());
        }
        self.budget.events = left;
        let savepoint = self.savepoint();
        self.depth += 1;
        let mut result = event(self);
        if self.depth == 1 && result.is_ok() {
            result = self.tell_afters().and(result);
        }
        self.depth -= 1;
        if self.depth == 0 {
            self.writers.clear();
        }
        result.inspect_err(|_| self.rollback(savepoint))
    }

    /// Does something during which nobody elsewhere can be asked: it is not to wait for others.
    pub fn unasked<T>(&mut self, does: impl FnOnce(&mut Self) -> T) -> T {
        self.beside += 1;
        let done = does(self);
        self.beside -= 1;
        done
    }

    fn tell_afters(&mut self) -> Result<(), Halt> {
        while let Some(waiting) = self.waiting.pop_front() {
            let Waiting { world, element, kind, attribute, data } = waiting;
            let Some(element) = self.stored().element(world, element)? else { continue };
            let element_type = self.type_of(element.type_id)?;
            self.fire_after(&element, &element_type, kind, attribute.as_deref(), data)?;
        }
        Ok(())
    }

    /// Does what makes up one event of several elements, each of which hears a kind of its own:
    /// they are asked in order, then it is done, then they are told.
    ///
    /// # Errors
    /// One of them refuses, or it cannot be done.
    pub fn around<T>(
        &mut self,
        subjects: &[(&Element, EventKind)],
        data: &Json,
        done: impl FnOnce(&mut Self) -> Result<T, Halt>,
    ) -> Result<T, Halt> {
        self.in_event(|step| {
            for (element, kind) in subjects {
                let element_type = step.type_of(element.type_id)?;
                step.fire_before(element, &element_type, *kind, None, data.clone())?;
            }
            let result = done(step)?;
            for (element, kind) in subjects {
                let element_type = step.type_of(element.type_id)?;
                step.note(element, &element_type, *kind, data.clone());
                step.wait_after(element, *kind, None, data.clone());
            }
            Ok(result)
        })
    }

    /// Notes that something happened to an element as a whole. Others are told of its beginning and
    /// its end, where they may see anything of it; the rest is for its home.
    pub fn note(
        &mut self,
        element: &Element,
        element_type: &TypeDefinition,
        kind: EventKind,
        value: Json,
    ) {
        let definition = &element_type.definition;
        let told = matches!(kind, EventKind::ElementCreation | EventKind::ElementDestruction);
        let reads = |level| {
            let attribute = definition.attributes.values().any(|attribute| {
                attribute.read >= level && attribute.read_group == Group::Everyone
            });
            told && (attribute || definition.actions.values().any(|action| action.level >= level))
        };
        self.happen(Happened {
            kind,
            name: None,
            world: element.world,
            element: element.id,
            attribute: None,
            value,
            old: Json::Null,
            by: self.call.caller.account(),
            public: reads(Level::Public),
            list: definition.protected.clone().filter(|_| reads(Level::Protected)),
            masked: false,
        });
    }

    /// Notes an after-event.
    pub fn wait_after(
        &mut self,
        element: &Element,
        kind: EventKind,
        attribute: Option<&str>,
        data: Json,
    ) {
        self.waiting.push_back(Waiting {
            world: element.world,
            element: element.id,
            kind,
            attribute: attribute.map(str::to_owned),
            data,
        });
    }

    /// Asks every action that listens to a before-event, in order. Gives back the data as the last
    /// one left it.
    ///
    /// # Errors
    /// One of them refuses.
    pub fn fire_before(
        &mut self,
        element: &Element,
        element_type: &Arc<TypeDefinition>,
        kind: EventKind,
        attribute: Option<&str>,
        mut data: Json,
    ) -> Result<Json, Halt> {
        if element_type.home.is_some() && self.exists(element, element_type) {
            self.check_above(element_type, kind, attribute)?;
        }
        for action in &self.listeners(element, element_type, &On::Before(kind), attribute) {
            let listener = Listener { element, element_type, action, event: None };
            self.run_listener(listener, &mut data)?;
        }
        Ok(data)
    }

    /// Tells every action that listens to an after-event, in order.
    ///
    /// # Errors
    /// One of them fails.
    pub(super) fn fire_after(
        &mut self,
        element: &Element,
        element_type: &Arc<TypeDefinition>,
        kind: EventKind,
        attribute: Option<&str>,
        mut data: Json,
    ) -> Result<(), Halt> {
        let on = On::After(kind);
        for action in &self.listeners(element, element_type, &on, attribute) {
            let listener = Listener { element, element_type, action, event: None };
            self.run_listener(listener, &mut data)?;
        }
        self.tell_neighbours(element, &on, attribute, &data)
    }

    /// Tells an element that a call of its own failed elsewhere. Its actions may write only what is
    /// its own.
    ///
    /// # Errors
    /// One of them fails.
    pub fn tell_error(&mut self, element: &Element, data: Json) -> Result<(), Halt> {
        let element_type = self.type_of(element.type_id)?;
        self.own_only = true;
        self.in_event(|step| {
            step.note(element, &element_type, EventKind::RemoteError, data.clone());
            step.fire_after(element, &element_type, EventKind::RemoteError, None, data)
        })
    }

    /// Tells an element that the node has started.
    ///
    /// # Errors
    /// One of its actions fails.
    pub fn tell_started(&mut self, element: &Element) -> Result<(), Halt> {
        let element_type = self.type_of(element.type_id)?;
        let (kind, data) = (EventKind::NodeStarted, serde_json::json!({"server": self.setting.us}));
        self.in_event(|step| {
            step.note(element, &element_type, kind, data.clone());
            step.fire_after(element, &element_type, kind, None, data)
        })
    }

    /// Asks those who listen for a yes or a no: any no counts, else any yes; else nobody decided.
    ///
    /// # Errors
    /// One of them must know something first, or fails.
    pub fn verdict(
        &mut self,
        element: &Element,
        kind: EventKind,
        mut data: Json,
    ) -> Result<Verdict, Halt> {
        let element_type = self.type_of(element.type_id)?;
        let listeners = self.listeners(element, &element_type, &On::Before(kind), None);
        let asked = self.in_event(|step| {
            let mut verdict = Verdict::Open;
            for action in &listeners {
                let listener =
                    Listener { element, element_type: &element_type, action, event: None };
                let reply = step.run_listener(listener, &mut data)?;
                if action.body == Body::Accept || reply.as_ref().is_some_and(says_yes) {
                    verdict = Verdict::Yes;
                }
            }
            Ok(verdict)
        });
        match asked {
            Err(Halt::Problem(problem)) if problem.code == Code::Refused => {
                Ok(Verdict::No(problem))
            }
            asked => asked,
        }
    }

    /// Checks that an event's data is what the event carries.
    ///
    /// # Errors
    /// Something is missing, too much, or matches no path that must match.
    pub fn check_event(
        &self,
        element_type: &TypeDefinition,
        name: &str,
        data: &Json,
    ) -> Result<(), Halt> {
        check_data(element_type, name, data)
    }

    /// Fires a custom event on a local element. Every action on it runs; gives back what each
    /// returned, by name.
    ///
    /// # Errors
    /// The data is not what the event carries, nothing listens, or an action refuses.
    pub fn fire_custom(
        &mut self,
        element: &Element,
        name: &str,
        mut data: Json,
    ) -> Result<Replies, Halt> {
        let element_type = self.type_of(element.type_id)?;
        check_data(&element_type, name, &data)?;
        let actions = self.listeners(element, &element_type, &On::Custom(name.to_owned()), None);
        if actions.is_empty() {
            return Err(no_such_event(&element_type, name).into());
        }
        self.in_event(|step| {
            let mut replies = Replies::new();
            for action in &actions {
                let listener =
                    Listener { element, element_type: &element_type, action, event: Some(name) };
                let reply = step.run_listener(listener, &mut data)?;
                replies.push((action.name.clone(), reply.unwrap_or_default()));
            }
            if step.reading == 0 {
                step.happen(custom(element, name, data, step.call.caller.account()));
            }
            Ok(replies)
        })
    }
}

/// What those who listen decide together.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Somebody said yes, and nobody no.
    Yes,
    /// Somebody said no, with this reason.
    No(Problem),
    /// Nobody decided.
    Open,
}

/// Whether an answer is a yes; refusals have ended the chain before.
fn says_yes(reply: &Json) -> bool {
    match reply {
        Json::Bool(yes) => *yes,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::Object(members) => members.get("event_success") == Some(&Json::Bool(true)),
        Json::Null | Json::String(_) | Json::Array(_) => false,
    }
}

fn custom(element: &Element, name: &str, data: Json, by: Option<AccountId>) -> Happened {
    Happened {
        kind: EventKind::Custom,
        name: Some(name.to_owned()),
        world: element.world,
        element: element.id,
        attribute: None,
        value: data,
        old: Json::Null,
        by,
        public: false,
        list: None,
        masked: false,
    }
}

fn check_data(element_type: &TypeDefinition, name: &str, data: &Json) -> Result<(), Halt> {
    let Some(object) = data.as_object() else {
        return Err(Problem::new(Code::WrongKind, "an event's data is an object").into());
    };
    let Some(event) = element_type.definition.events.get(name) else { return Ok(()) };
    if let Some(all) = &event.all_keys
        && let Some(other) = object.keys().find(|key| !all.contains(*key))
    {
        let problem =
            Problem::new(Code::UnknownField, format!("the event '{name}' carries no '{other}'"));
        return Err(match suggest(other, all.iter().map(String::as_str)) {
            Some(meant) => problem.hint(format!("did you mean '{meant}'?")).into(),
            None => problem.into(),
        });
    }
    if let Some(key) = event.required_keys.iter().find(|key| !object.contains_key(*key)) {
        return Err(Problem::new(Code::Usage, format!("the event '{name}' needs '{key}'")).into());
    }
    for path in &event.paths {
        let matches = JsonPath::parse(path).is_ok_and(|path| !path.query(data).is_empty());
        if !matches {
            let says = format!("the data of the event '{name}' does not match {path}");
            return Err(Problem::new(Code::Usage, says).into());
        }
    }
    Ok(())
}

fn no_such_event(element_type: &TypeDefinition, name: &str) -> Problem {
    let of = &element_type.definition.name;
    let problem = Problem::new(
        Code::NotFound,
        format!("nothing of the type {of} listens to the event '{name}'"),
    );
    let events = element_type.definition.actions.values().filter_map(|action| match &action.on {
        On::Custom(event) => Some(event.as_str()),
        On::Before(_) | On::After(_) => None,
    });
    match suggest(name, events) {
        Some(meant) => problem.hint(format!("did you mean '{meant}'?")),
        None => problem,
    }
}
