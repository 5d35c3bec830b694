//! What a script asks for, granted by the step that runs it.

use std::sync::Arc;

use serde_json::json;

use super::action::Listener;
use super::{Actor, End, Halt, Step, Target};
use crate::model::{AccountId, Caller, Code, Element, Json, On, Problem};
use crate::script::{Asked, Host, Stop, Subject};

/// Elements that a script finds at a time.
const FOUND_MAX: usize = 1_000;

/// One run of a script inside a step.
pub(super) struct Runner<'r, 's> {
    step: &'r mut Step<'s>,
    listener: Listener<'r>,
    data: &'r Json,
    drawn: u64,
}

impl<'r, 's> Runner<'r, 's> {
    pub(super) fn new(step: &'r mut Step<'s>, listener: Listener<'r>, data: &'r Json) -> Self {
        Self { step, listener, data, drawn: 0 }
    }

    /// What the script is told of a halt: an error that it may catch, or the end of the step.
    fn stop(&mut self, halt: Halt) -> Stop {
        match halt {
            Halt::Problem(problem) if !is_final(problem.code) => Stop::Raise(problem),
            halt => {
                self.step.end = Some(halt);
                Stop::End
            }
        }
    }

    fn try_get(&mut self, attribute: &str, element: Option<&str>) -> Result<Json, Halt> {
        let actor = self.listener.actor();
        let Some(name) = element else {
            let own = self.listener.element;
            let current = self.step.stored().element(own.world, own.id)?;
            return Ok(self
                .step
                .read_value(actor, current.as_deref().unwrap_or(own), attribute)?
                .value);
        };
        match self.step.element(name)? {
            Target::Here(element) => Ok(self.step.read_value(actor, &element, attribute)?.value),
            Target::There { server, name } => {
                let about = format!("{name} {attribute}");
                let args = json!({"element": name, "attribute": attribute});
                let answer = self.step.ask_server(server, "element.get", &about, args, None)?;
                if let Err(problem) = &answer {
                    let what = json!({"server": server, "element": name, "call": attribute});
                    self.step.note_error(actor, what, problem)?;
                }
                Ok(answer?.get("value").cloned().unwrap_or_default())
            }
        }
    }

    fn try_set(
        &mut self,
        attribute: &str,
        value: Json,
        element: Option<&str>,
    ) -> Result<Json, Halt> {
        let actor = self.listener.actor();
        let own = self.listener.element;
        let target = match element {
            None => self.step.stored().element(own.world, own.id)?,
            Some(name) => match self.step.element(name)? {
                Target::Here(element) => Some(element),
                Target::There { name, .. } => {
                    let says = format!(
                        "'{name}' is of another server: it cannot be set within this event"
                    );
                    return Err(Problem::new(Code::Usage, says)
                        .hint("send it an event, which is told once this is committed")
                        .into());
                }
            },
        };
        if element.is_some() {
            self.check_own_only()?;
        }
        let Some(target) = target else {
            return Err(Problem::new(Code::NotFound, "the element is gone").into());
        };
        self.step.set_value(actor, &target, attribute, value)
    }

    fn try_ask(&mut self, questions: Vec<Asked>) -> Result<Vec<Json>, Halt> {
        let actor = self.listener.actor();
        let mut answers = Vec::with_capacity(questions.len());
        let mut missing = None;
        for asked in questions {
            // All of them are noted before the run ends, so that they go out side by side.
            match self.step.ask_action(actor, &asked.element, &asked.action, asked.args) {
                Ok(answer) => answers.push(answer),
                Err(Halt::Needs) => missing = Some(Halt::Needs),
                Err(halt) => return Err(halt),
            }
        }
        match missing {
            Some(halt) => Err(halt),
            None => Ok(answers.into_iter().collect::<Result<Vec<Json>, Problem>>()?),
        }
    }

    fn try_send(&mut self, event: &str, data: Json, element: Option<&str>) -> Result<(), Halt> {
        let own = self.listener.element.id.to_string();
        let args = json!({"element": own, "event": event, "data": data});
        let element = element.map_or(own, str::to_owned);
        self.step.send_call(self.listener, &element, "event.send", event, args)
    }

    /// Where an error is heard of, an action may write only what is its own element's.
    fn check_own_only(&self) -> Result<(), Halt> {
        if self.step.own_only {
            let says = "who hears of an error may write only what is its own";
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        Ok(())
    }

    fn try_find(&mut self, selection: &str) -> Result<Json, Halt> {
        let (actor, world) = (self.listener.actor(), self.listener.element.world);
        let page = self.step.select(actor, world, selection, None, FOUND_MAX + 1)?;
        if page.found.len() > FOUND_MAX || page.next.is_some() {
            let says = format!("a script finds at most {FOUND_MAX} elements at a time");
            return Err(Problem::new(Code::OverLimit, says).into());
        }
        let shown = page.found.iter().map(|element| {
            let name = element.name.as_ref().map(ToString::to_string);
            json!({"id": element.id, "name": name, "owner": element.owner})
        });
        Ok(shown.collect())
    }

    fn try_create(
        &mut self,
        type_name: &str,
        values: &Json,
        name: Option<&str>,
    ) -> Result<Json, Halt> {
        self.check_own_only()?;
        let (actor, own) = (self.listener.actor(), self.listener.element);
        let world = self.step.world(None)?;
        let element_type = self.step.element_type(type_name, Some(world.owner))?;
        self.step.check_creation(actor, &world, &element_type, own.owner)?;
        self.check_type_owner(&world.owner)?;
        let values = self.step.checked_values(&element_type, values)?;
        let name = match name {
            Some(text) => Some(self.step.free_name(&world, text)?),
            None => None,
        };
        let element = self.step.new_element(world.id, &element_type, own.owner, name, values);
        self.step.in_event(|step| step.make_element(&element, &element_type))?;
        Ok(json!(element.id))
    }

    /// Beyond its own element an action may do only what its type's owner may too.
    fn check_type_owner(&self, owner: &AccountId) -> Result<(), Halt> {
        match self.listener.actor() {
            Actor::Action { type_owner, .. } if type_owner != *owner => {
                let says = "the owner of this action's type may not do this";
                Err(Problem::new(Code::NotPermitted, says).into())
            }
            Actor::Action { .. } | Actor::Caller => Ok(()),
        }
    }

    fn here(&mut self, name: &str) -> Result<Arc<Element>, Halt> {
        match self.step.element(name)? {
            Target::Here(element) => Ok(element),
            Target::There { name, .. } => {
                let says = format!("'{name}' is of another server");
                Err(Problem::new(Code::Usage, says).into())
            }
        }
    }

    fn try_destroy(&mut self, name: &str) -> Result<(), Halt> {
        let element = self.own_thing(name)?;
        self.step.destroy_element(&element)
    }

    fn try_travel(&mut self, world: &str, element: Option<&str>) -> Result<(), Halt> {
        let own = self.listener.element.id.to_string();
        let element = self.own_thing(element.unwrap_or(&own))?;
        self.step.check_thing(&element)?;
        let args = json!({"element": element.id, "to": world});
        self.step.send_local(Some(element.owner), "element.move", args, None)
    }

    /// An element of this one's owner with which the action may do as they may.
    fn own_thing(&mut self, name: &str) -> Result<Arc<Element>, Halt> {
        self.check_own_only()?;
        let element = self.here(name)?;
        let own = self.listener.element;
        if element.owner != own.owner {
            let says = format!("'{name}' is somebody else's");
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        if element.id != own.id {
            self.check_type_owner(&element.owner)?;
        }
        Ok(element)
    }

    fn try_stand(&mut self, set: &str, element: Option<&str>, inside: bool) -> Result<bool, Halt> {
        self.check_own_only()?;
        let definer = self.here(set)?;
        let own = self.listener.element.id.to_string();
        let element = self.here(element.unwrap_or(&own))?;
        let actor = self.listener.actor();
        if inside {
            self.step.enter_set(actor, &definer, &element, End::Last)
        } else {
            self.step.leave_set(actor, &definer, &element)
        }
    }

    fn element_facts(&self) -> Json {
        let element = self.listener.element;
        json!({
            "id": element.id,
            "name": element.name,
            "type": self.listener.element_type.definition.name,
            "owner": element.owner,
            "world": element.world,
        })
    }

    fn caller_facts(&self) -> Json {
        let step = &*self.step;
        let account_name =
            |id| step.stored().account(id).ok().flatten().map(|account| account.name.to_string());
        match &step.call.caller {
            Caller::Local { account, .. } => json!({
                "account": account,
                "account_name": account.and_then(account_name),
                "server": step.setting.us,
                "server_name": step.setting.name,
                "home": true,
                "listed": true,
            }),
            Caller::Remote { server, claim, user, .. } => json!({
                "account": claim,
                "user": user.as_ref().and_then(|_| step.known_user().ok()?).map(|user| user.account),
                "account_name": null,
                "server": server,
                "server_name": step.caller_name(),
                "home": false,
                "listed": matches!(step.bond_with(self.listener.element_type), Ok(crate::model::Bond::Proven)),
            }),
            Caller::Node => json!({"server": step.setting.us, "home": true, "listed": true}),
        }
    }

    fn world_facts(&self) -> Json {
        let step = &*self.step;
        let id = self.listener.element.world;
        let world = step.stored().world(id).ok().flatten();
        let ms = i64::try_from(step.now.unix_ms()).unwrap_or(i64::MAX);
        let local = jiff::Timestamp::from_millisecond(ms)
            .unwrap_or_default()
            .to_zoned(step.setting.time_zone.clone());
        json!({
            "id": id,
            "name": world.as_ref().map(|world| world.name.to_string()),
            "owner": world.as_ref().map(|world| world.owner),
            "now": step.now.unix_ms(),
            "hour": local.hour(),
            "weekday": local.weekday().to_monday_one_offset(),
        })
    }
}

/// Whether a problem ends the whole step, whatever a script does.
fn is_final(code: Code) -> bool {
    matches!(code, Code::ScriptBudget | Code::Conflict | Code::Damaged | Code::Internal)
}

impl Host for Runner<'_, '_> {
    fn get(&mut self, attribute: &str, element: Option<&str>) -> Result<Json, Stop> {
        self.try_get(attribute, element).map_err(|halt| self.stop(halt))
    }

    fn set(&mut self, attribute: &str, value: Json, element: Option<&str>) -> Result<Json, Stop> {
        self.try_set(attribute, value, element).map_err(|halt| self.stop(halt))
    }

    fn ask(&mut self, questions: Vec<Asked>) -> Result<Vec<Json>, Stop> {
        self.try_ask(questions).map_err(|halt| self.stop(halt))
    }

    fn send(&mut self, event: &str, data: Json, element: Option<&str>) -> Result<(), Stop> {
        self.try_send(event, data, element).map_err(|halt| self.stop(halt))
    }

    fn find(&mut self, selection: &str) -> Result<Json, Stop> {
        self.try_find(selection).map_err(|halt| self.stop(halt))
    }

    fn create(&mut self, type_name: &str, values: Json, name: Option<&str>) -> Result<Json, Stop> {
        self.try_create(type_name, &values, name).map_err(|halt| self.stop(halt))
    }

    fn destroy(&mut self, element: &str) -> Result<(), Stop> {
        self.try_destroy(element).map_err(|halt| self.stop(halt))
    }

    fn stand(&mut self, set: &str, element: Option<&str>, inside: bool) -> Result<bool, Stop> {
        self.try_stand(set, element, inside).map_err(|halt| self.stop(halt))
    }

    fn travel(&mut self, world: &str, element: Option<&str>) -> Result<(), Stop> {
        self.try_travel(world, element).map_err(|halt| self.stop(halt))
    }

    fn log(&mut self, line: &str) {
        self.step.log(line);
    }

    fn fact(&mut self, subject: Subject, key: &str) -> Json {
        match subject {
            Subject::Event => match (self.data.get(key), &self.listener.action.on) {
                (Some(value), _) => value.clone(),
                (None, _) if key == "name" && self.listener.event.is_some() => {
                    Json::from(self.listener.event)
                }
                (None, On::Custom(name)) if key == "name" => Json::from(name.as_str()),
                (None, On::Before(kind) | On::After(kind)) if key == "name" => {
                    Json::from(kind.as_str())
                }
                (None, On::Custom(_) | On::Before(_) | On::After(_)) => Json::Null,
            },
            other => self.facts(other).get(key).cloned().unwrap_or_default(),
        }
    }

    fn facts(&mut self, subject: Subject) -> Json {
        match subject {
            Subject::Event => self.data.clone(),
            Subject::Element => self.element_facts(),
            Subject::Caller => self.caller_facts(),
            Subject::World => self.world_facts(),
        }
    }

    fn random(&mut self) -> u64 {
        self.drawn += 1;
        self.step.random_at(self.drawn)
    }
}
