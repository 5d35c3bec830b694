//! Actions are run here: constants, mappings, scripts and calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Map;
use serde_json_path::JsonPath;

use super::host::Runner;
use super::{Actor, Halt, Step, Target};
use crate::model::{
    AccountId, Action, Body, Budget, Call, CallBody, Caller, Code, DEADLINE_DEFAULT_MS, Element,
    EventKind, JobId, Json, Mapped, On, Problem, Question, ReplyTo, Root, TypeDefinition,
};
use crate::script::{Ended, RUN_FUEL, Script};

/// Actions that are named where a cascade has run too far.
const RECENT_MAX: usize = 4;

/// An action that hears an event.
#[derive(Clone, Copy)]
pub struct Listener<'l> {
    /// The element whose action it is.
    pub element: &'l Element,
    /// Its type.
    pub element_type: &'l Arc<TypeDefinition>,
    /// The action.
    pub action: &'l Action,
    /// The custom event that was fired, which may be a child of the one that it listens to.
    pub event: Option<&'l str>,
}

/// What each action of a custom event returned, in the order in which they ran.
pub type Replies = Vec<(String, Json)>;

impl Listener<'_> {
    pub(super) fn actor(&self) -> Actor {
        Actor::Action {
            element: self.element.id,
            owner: self.element.owner,
            type_owner: self.type_owner(),
        }
    }

    /// Who defined the action.
    fn type_owner(&self) -> AccountId {
        self.action.defined_by.unwrap_or(self.element_type.owner)
    }

    /// Whether the element and the action are of one account.
    fn is_of_one_owner(&self) -> bool {
        self.type_owner() == self.element.owner
    }

    fn name(&self) -> String {
        format!("{}.{}", self.element_type.definition.name, self.action.name)
    }
}

impl Step<'_> {
    /// Runs one action, and lays the keys of its reply over the event's data.
    pub(super) fn run_listener(
        &mut self,
        listener: Listener<'_>,
        data: &mut Json,
    ) -> Result<Option<Json>, Halt> {
        let place = format!("{}@{}", listener.name(), listener.element.id);
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(place.clone());
        self.path.push(place);
        self.scope.push((listener.element.owner, listener.element.world));
        let reply = self.run_body(listener, data);
        self.scope.pop();
        self.path.pop();
        let how = match &reply {
            Ok(_) => "answered",
            Err(Halt::Needs) => "asks",
            Err(_) => "said no",
        };
        self.log(&format!("{}: {} {how}", listener.action.on, listener.name()));
        let reply = reply?;
        refusal_in(&listener, reply.as_ref())?;
        if let (Some(Json::Object(reply)), Json::Object(data)) = (&reply, data) {
            for (key, value) in reply {
                data.insert(key.clone(), value.clone());
            }
        }
        Ok(reply)
    }

    fn run_body(&mut self, listener: Listener<'_>, data: &Json) -> Result<Option<Json>, Halt> {
        if listener.element.home.is_some() {
            // What a copy is, only its home knows.
            return self.run_at_home(listener, data);
        }
        match &listener.action.body {
            Body::Accept => Ok(None),
            Body::Refuse(sentence) => Err(refused(&listener, sentence).into()),
            Body::Reply(constants) => {
                let members: Map<String, Json> =
                    constants.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                Ok(Some(Json::Object(members)))
            }
            Body::Script { source, line } => self.run_script(listener, source, *line, data),
            Body::Call(call) => self.run_call(listener, call, data),
            Body::Ask(sentence) => self.ask_person(listener, sentence),
            Body::Home => self.run_at_home(listener, data),
        }
    }

    /// Asks the element's owner, and waits for a yes or a no.
    fn ask_person(&mut self, listener: Listener<'_>, sentence: &str) -> Result<Option<Json>, Halt> {
        if self.reading > 0 {
            let says = "nobody is asked in person while a question is answered";
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        let owner = listener.element.owner;
        let element = listener.element;
        let name =
            element.name.as_ref().map_or_else(|| element.id.to_string(), ToString::to_string);
        let about = Some((element.world, element.id));
        let question = Question::Person { owner, asks: format!("{name}: {sentence}"), about };
        match self.question("person", question)? {
            Ok(Json::Bool(true)) => Ok(None),
            Ok(_) => Err(refused(&listener, &format!("the answer was no: {sentence}")).into()),
            Err(problem) => Err(problem.into()),
        }
    }

    fn run_script(
        &mut self,
        listener: Listener<'_>,
        source: &str,
        line: u32,
        data: &Json,
    ) -> Result<Option<Json>, Halt> {
        if self.hurried {
            return Err(Halt::Slow);
        }
        let name = listener.name();
        let script = Script { source, name: &name, line };
        let savepoint = self.savepoint();
        let outermost = self.path.len() == 1;
        match self.run_once(listener, script, data) {
            Err(Halt::Memory) if outermost && !self.fresh => {
                // What a used machine has no room for may fit into a fresh one, and only that counts.
                self.fresh = true;
                self.rollback(savepoint);
                let reset = self.machine.reset();
                reset.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
                match self.run_once(listener, script, data) {
                    Err(Halt::Memory) => Err(out_of(&listener, "memory").into()),
                    result => result,
                }
            }
            Err(Halt::Memory) if outermost => Err(out_of(&listener, "memory").into()),
            Err(halt) => {
                // What a run wrote that ended badly is dropped.
                self.rollback(savepoint);
                Err(halt)
            }
            Ok(reply) => Ok(reply),
        }
    }

    fn run_once(
        &mut self,
        listener: Listener<'_>,
        script: Script<'_>,
        data: &Json,
    ) -> Result<Option<Json>, Halt> {
        let machine = self.machine;
        let around = (self.granted, self.used_outside);
        if machine.is_running() {
            self.used_outside += self.granted.saturating_sub(machine.fuel_left());
        }
        let fuel = self.budget.fuel.saturating_sub(self.used_outside).min(RUN_FUEL);
        if fuel == 0 {
            (self.granted, self.used_outside) = around;
            return Err(out_of(&listener, "time").into());
        }
        self.granted = fuel;
        let mut runner = Runner::new(self, listener, data);
        let (ended, used) = machine.run(script, &mut runner, fuel);
        (self.granted, self.used_outside) = around;
        self.budget.fuel = self.budget.fuel.saturating_sub(used);
        match ended {
            Ended::Returned(reply) => Ok(reply),
            Ended::Refused(sentence) => Err(refused(&listener, &sentence).into()),
            Ended::Failed(problem) => Err(problem.into()),
            Ended::OutOfFuel => Err(out_of(&listener, "time").into()),
            Ended::OutOfMemory => Err(out_of(&listener, "memory").into()),
            Ended::OutOfUsedMemory => Err(Halt::Memory),
            Ended::Stopped => Err(self.end.take().unwrap_or(Halt::Needs)),
        }
    }

    fn run_call(
        &mut self,
        listener: Listener<'_>,
        call: &CallBody,
        data: &Json,
    ) -> Result<Option<Json>, Halt> {
        let args = mapped(&call.args_in, data);
        let before = matches!(listener.action.on, On::Before(_));
        if !before && call.data_out.is_empty() && self.reading == 0 {
            self.send_action(listener, &call.element, &call.action, args)?;
            return Ok(None);
        }
        let reply = self.ask_action(listener.actor(), &call.element, &call.action, args)??;
        if call.data_out.is_empty() {
            // Without a mapping a before-event still hears a no.
            return Ok(refuses(&reply).then_some(reply));
        }
        Ok(Some(mapped(&call.data_out, &reply)))
    }

    /// Asks an action of an element, here or elsewhere: nothing may change there.
    ///
    /// # Errors
    /// It must be asked elsewhere first. The inner result is the answer.
    pub(super) fn ask_action(
        &mut self,
        actor: Actor,
        element: &str,
        action: &str,
        args: Json,
    ) -> Result<Result<Json, Problem>, Halt> {
        match self.element(element)? {
            Target::Here(element) => {
                self.reading += 1;
                let answer = self.answer(actor, &element, action, args);
                self.reading -= 1;
                match answer {
                    Ok(json) => Ok(Ok(json)),
                    Err(Halt::Problem(problem)) => Ok(Err(problem)),
                    Err(halt) => Err(halt),
                }
            }
            Target::There { server, name } => {
                let about = format!("{name} {action}");
                let args = serde_json::json!({"element": name, "action": action, "args": args});
                let answer = self.ask_server(server, "action.ask", &about, args, None)?;
                if let Err(problem) = &answer {
                    let what =
                        serde_json::json!({"server": server, "element": name, "call": action});
                    self.note_error(actor, what, problem)?;
                }
                Ok(answer)
            }
        }
    }

    /// Fires the event of a named action on a local element, and gives back what that action
    /// returned. Who has no right to it hears so.
    ///
    /// # Errors
    /// There is none, it is not offered, or it refuses.
    pub fn answer(
        &mut self,
        actor: Actor,
        element: &Element,
        action: &str,
        args: Json,
    ) -> Result<Json, Halt> {
        let element_type = self.type_of(element.type_id)?;
        let standing = self.standing(actor, element, &element_type)?;
        let found = element_type.definition.actions.get(action);
        let event = match found
            .map(|found| (&found.on, self.is_offered(standing, &element_type, found)))
        {
            Some((On::Custom(event), true)) => event.clone(),
            Some((On::Before(_) | On::After(_), true)) if !standing.is_remote() => {
                let says = format!(
                    "'{action}' listens to {}, only actions on event:NAME can be called",
                    found.map(|found| found.on.to_string()).unwrap_or_default()
                );
                return Err(Problem::new(Code::Usage, says).into());
            }
            Some(_) | None if standing.is_remote() => return Err(super::not_offered(action).into()),
            Some(_) => {
                let says = format!("the action '{action}' is private, for the owner");
                return Err(Problem::new(Code::NotPermitted, says).into());
            }
            None => {
                let of = &element_type.definition.name;
                let problem =
                    Problem::new(Code::NotFound, format!("the type {of} has no action '{action}'"));
                let names = element_type.definition.actions.keys().map(String::as_str);
                return Err(match crate::model::suggest(action, names) {
                    Some(meant) => problem.hint(format!("did you mean '{meant}'?")).into(),
                    None => problem.into(),
                });
            }
        };
        if standing.is_remote()
            && self.listeners(element, &element_type, &On::Custom(event.clone()), None).is_empty()
        {
            return Err(super::not_offered(action).into());
        }
        self.check_scope(actor, &element_type, Some(action))?;
        let replies = self.fire_custom(element, &event, args)?;
        let found = replies.into_iter().find(|(name, _)| name == action);
        Ok(found.map(|(_, reply)| reply).unwrap_or_default())
    }

    fn send_action(
        &mut self,
        listener: Listener<'_>,
        element: &str,
        action: &str,
        args: Json,
    ) -> Result<(), Halt> {
        let args = serde_json::json!({"element": element, "action": action, "args": args});
        self.send_call(listener, element, "action.call", action, args)
    }

    /// Notes a call on an element, made with the rights of the listener's owner once this step is
    /// committed. Its outcome comes back as the event `NAME_reply`.
    pub(super) fn send_call(
        &mut self,
        listener: Listener<'_>,
        element: &str,
        command: &str,
        event: &str,
        mut args: Json,
    ) -> Result<(), Halt> {
        if self.reading > 0 {
            let says = "nothing may be sent while a question is answered";
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        let reply = format!("{event}_reply");
        let heard = On::Custom(reply.clone());
        let listens = listener.element_type.definition.listeners(&heard, None).next().is_some();
        let definition = &listener.element_type.definition;
        let on_error = On::After(EventKind::RemoteError);
        let hears_errors = definition.listeners(&on_error, None).next().is_some();
        let (world, own) = (listener.element.world, listener.element.id);
        let reply_to = |error: Option<Json>| {
            let event = listens.then(|| reply.clone());
            (event.is_some() || error.is_some()).then_some(ReplyTo {
                world,
                element: own,
                event,
                error,
            })
        };
        match self.element(element)? {
            Target::Here(target) => {
                args["element"] = Json::from(target.id.to_string());
                // Beyond its own element an action may do only what its type's owner may too.
                let account = if target.id == own || listener.is_of_one_owner() {
                    Some(listener.element.owner)
                } else {
                    self.stored().account(listener.type_owner())?.map(|account| account.id)
                };
                self.send_local(account, command, args, reply_to(None))
            }
            Target::There { server, name } => {
                let what = serde_json::json!({"server": server, "element": name, "call": event});
                args["element"] = Json::from(name);
                let mut tell = self.tell_of(server, command, args)?;
                tell.claim = Some(listener.element.owner);
                tell.is_unvouched = !listener.is_of_one_owner();
                tell.reply_to = reply_to(hears_errors.then_some(what));
                self.tell(tell);
                Ok(())
            }
        }
    }

    /// Lets the element of an action hear that what it asked elsewhere failed, if it listens.
    pub(super) fn note_error(
        &mut self,
        actor: Actor,
        mut what: Json,
        problem: &Problem,
    ) -> Result<(), Halt> {
        let (Actor::Action { element, .. }, Some((_, world))) = (actor, self.scope.last().copied())
        else {
            return Ok(());
        };
        let Some(element) = self.stored().element(world, element)? else { return Ok(()) };
        let element_type = self.type_of(element.type_id)?;
        let on_error = On::After(EventKind::RemoteError);
        let Some(hops) = self.budget.hops.checked_sub(1) else { return Ok(()) };
        if self.listeners(&element, &element_type, &on_error, None).is_empty() {
            return Ok(());
        }
        what["problem"] = problem.to_json();
        let args = serde_json::json!({"element": element.id, "data": what});
        let root = Root { budget: Budget { hops, ..self.budget }, ..self.call.root.clone() };
        let call = Call {
            id: JobId::at(self.now, self.random()),
            command: "event.failed".to_owned(),
            caller: Caller::Node,
            args,
            world: Some(world.to_string()),
            meta: Json::Null,
            reply_to: None,
            deadline_at: self.now.after_ms(DEADLINE_DEFAULT_MS),
            root,
        };
        self.send_error(call);
        Ok(())
    }

    /// Makes a call as an account of ours once everything is committed.
    pub(super) fn send_local(
        &mut self,
        account: Option<AccountId>,
        command: &str,
        args: Json,
        reply_to: Option<ReplyTo>,
    ) -> Result<(), Halt> {
        let Some(hops) = self.budget.hops.checked_sub(1) else {
            return Err(Problem::new(
                Code::ScriptBudget,
                "the call sent more events in a row than it may",
            )
            .into());
        };
        let id = JobId::at(self.now, self.random());
        let root = Root { budget: Budget { hops, ..self.budget }, ..self.call.root.clone() };
        let call = Call {
            id,
            command: command.to_owned(),
            caller: Caller::Local { account, operator: false },
            args,
            world: None,
            meta: Json::Null,
            reply_to,
            deadline_at: self.now.after_ms(DEADLINE_DEFAULT_MS),
            root,
        };
        self.send_here(call);
        Ok(())
    }
}

/// Whether a reply says no.
fn refuses(reply: &Json) -> bool {
    match reply {
        Json::Bool(allowed) => !allowed,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::Object(members) => members.get("event_success") == Some(&Json::Bool(false)),
        Json::Null | Json::String(_) | Json::Array(_) => false,
    }
}

fn refusal_in(listener: &Listener<'_>, reply: Option<&Json>) -> Result<(), Halt> {
    let Some(reply) = reply.filter(|reply| refuses(reply)) else { return Ok(()) };
    let sentence = reply.get("message").and_then(Json::as_str);
    Err(refused(listener, sentence.unwrap_or("an action refused, and said no reason")).into())
}

fn refused(listener: &Listener<'_>, sentence: &str) -> Problem {
    match listener.action.on {
        On::Before(_) | On::Custom(_) => Problem::new(Code::Refused, sentence),
        On::After(_) => {
            let says =
                format!("{}: what has happened cannot be refused ({sentence})", listener.name());
            Problem::new(Code::ScriptFailed, says)
        }
    }
}

fn out_of(listener: &Listener<'_>, what: &str) -> Problem {
    Problem::new(Code::ScriptBudget, format!("{} used up its {what}", listener.name()))
        .hint("a run has 50 ms and 16 MiB, everything that follows from one call 1 s")
}

/// Builds an object by paths into `data` (RFC 9535) and constants. A path that does not match once
/// leaves its key out.
fn mapped(mapping: &BTreeMap<String, Mapped>, data: &Json) -> Json {
    let mut object = Map::new();
    for (key, source) in mapping {
        let value = match source {
            Mapped::Constant(value) => Some(value.clone()),
            Mapped::Path(path) => JsonPath::parse(path)
                .ok()
                .and_then(|path| path.query(data).exactly_one().ok().cloned()),
        };
        if let Some(value) = value {
            object.insert(key.clone(), value);
        }
    }
    Json::Object(object)
}
