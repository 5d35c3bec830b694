//! What a script asks for, granted by the step that runs it.

use serde_json::json;

use super::action::Listener;
use super::{Halt, Step, Target};
use crate::model::{Caller, Code, Json, On, Problem};
use crate::script::{Asked, Host, Stop, Subject};

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
                let answer = self.step.ask_server(server, "element.get", &about, args, None)??;
                Ok(answer.get("value").cloned().unwrap_or_default())
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
            Caller::Remote { server, claim, .. } => json!({
                "account": claim,
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

    fn log(&mut self, line: &str) {
        self.step.log(line);
    }

    fn fact(&mut self, subject: Subject, key: &str) -> Json {
        match subject {
            Subject::Event => match (self.data.get(key), &self.listener.action.on) {
                (Some(value), _) => value.clone(),
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
