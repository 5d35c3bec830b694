//! The sandbox: Luau with a fixed small library, fuel, and a memory limit.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mlua::chunk::Compiler;
use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::convert::{to_json, to_lua};
use super::host::{Asked, Host, Stop, Subject};
use crate::model::{Code, Json, Problem};

/// Script interrupts in a millisecond, as counted on the slowest machine that we care for.
pub const FUEL_PER_MS: u64 = 40_000;
/// Time of one run, in milliseconds of fuel.
pub const RUN_MS: u64 = 50;
/// Fuel of one run, without the runs inside it.
pub const RUN_FUEL: u64 = RUN_MS * FUEL_PER_MS;
/// A root has a second of fuel.
const _: () = assert!(crate::model::Budget::FULL.fuel == 1_000 * FUEL_PER_MS);
/// Memory that a run may take, in bytes.
pub const MEMORY_MAX: usize = 16 * 1024 * 1024;
/// Garbage above which a machine is cleaned before a run, in bytes.
const GARBAGE_MAX: usize = 1024 * 1024;
/// Compiled scripts that a machine keeps.
const SCRIPTS_MAX: usize = 1_024;
/// Interrupts between two looks at the fuse.
const FUSE_EVERY: u64 = 32;
/// Characters of a refusal's sentence.
const SENTENCE_MAX: usize = 200;

/// Says whether the wall clock ran out for a run: only a fuse, fuel is what counts. Called with
/// true when an outermost run begins.
pub type Fuse = Arc<dyn Fn(bool) -> bool + Send + Sync>;

/// A script as it is run.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// The Luau source.
    pub source: &'a str,
    /// What errors call it, such as `lamp.toggle`.
    pub name: &'a str,
    /// The line of its file on which it begins, from 1.
    pub line: u32,
}

/// How a run ended.
#[derive(Debug, PartialEq)]
pub enum Ended {
    /// It returned this, or nothing.
    Returned(Option<Json>),
    /// It refused with this sentence.
    Refused(String),
    /// It ended with an error: its own, or one that it did not catch.
    Failed(Problem),
    /// Its fuel was used up.
    OutOfFuel,
    /// Its memory was used up in a machine that held nothing else.
    OutOfMemory,
    /// Its memory was used up, but the machine held garbage: run it again in a fresh one.
    OutOfUsedMemory,
    /// The host ended the step.
    Stopped,
}

/// What makes every interrupt fail until the run it concerns is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Halt {
    No,
    Run,
    Step,
}

#[derive(Default)]
struct Gauge {
    left: AtomicU64,
    halted: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.says)]
struct Raised(Problem);

struct Vm {
    lua: Lua,
    bind: Function,
    env: Table,
    compiled: HashMap<[u8; 16], Function>,
    base: usize,
    used: bool,
}

/// A sandbox for scripts. One for each thread that runs some.
pub struct Machine {
    vm: RefCell<Vm>,
    gauge: Arc<Gauge>,
    halt: Cell<Halt>,
    depth: Cell<u32>,
    fuse: Fuse,
}

impl Machine {
    /// A fresh sandbox.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(fuse: Fuse) -> Result<Self, mlua::Error> {
        let gauge = Arc::new(Gauge::default());
        let vm = Vm::new(&gauge, &fuse)?;
        Ok(Self {
            vm: RefCell::new(vm),
            gauge,
            halt: Cell::new(Halt::No),
            depth: Cell::new(0),
            fuse,
        })
    }

    /// Throws away everything that runs left behind. Does nothing inside a run.
    ///
    /// # Errors
    /// There is no memory for a new one.
    pub fn reset(&self) -> Result<(), mlua::Error> {
        if self.depth.get() == 0 {
            *self.vm.borrow_mut() = Vm::new(&self.gauge, &self.fuse)?;
        }
        Ok(())
    }

    /// Whether a run is under way, so that the next one is inside it.
    pub fn is_running(&self) -> bool {
        self.depth.get() > 0
    }

    /// What the run under way has left of its fuel.
    pub fn fuel_left(&self) -> u64 {
        self.gauge.left.load(Ordering::Relaxed)
    }

    /// Runs a script with at most `fuel`. Gives back how it ended and the fuel it used, without
    /// that of the runs inside it.
    pub fn run(&self, script: Script<'_>, host: &mut dyn Host, fuel: u64) -> (Ended, u64) {
        let outermost = self.depth.get() == 0;
        if outermost {
            (self.fuse)(true);
            self.halt.set(Halt::No);
        }
        let (lua, bind, function) = match self.prepare(script, outermost) {
            Ok(ready) => ready,
            Err(ended) => return (ended, 0),
        };
        let outer_left = self.gauge.left.load(Ordering::Relaxed);
        let left = Cell::new(fuel);
        self.depth.set(self.depth.get() + 1);
        let result = self.enter(&lua, &bind, &function, host, &left);
        self.depth.set(self.depth.get() - 1);
        self.gauge.left.store(outer_left, Ordering::Relaxed);
        (self.ended(script, result, left.get()), fuel - left.get())
    }

    fn prepare(
        &self,
        script: Script<'_>,
        outermost: bool,
    ) -> Result<(Lua, Function, Function), Ended> {
        let mut vm = self.vm.borrow_mut();
        let failed = |error: mlua::Error| {
            Ended::Failed(Problem::new(Code::ScriptFailed, sentence_of(&error, script)))
        };
        if outermost {
            vm.clean().map_err(failed)?;
        }
        let function = vm.compiled(script).map_err(failed)?;
        Ok((vm.lua.clone(), vm.bind.clone(), function))
    }

    fn enter(
        &self,
        lua: &Lua,
        bind: &Function,
        function: &Function,
        host: &mut dyn Host,
        left: &Cell<u64>,
    ) -> mlua::Result<Outcome> {
        let refused: RefCell<Option<String>> = RefCell::new(None);
        let host = RefCell::new(host);
        lua.scope(|scope| {
            let requests = scope.create_function(|lua, args: MultiValue| {
                let mut host = host
                    .try_borrow_mut()
                    .map_err(|_| mlua::Error::runtime("it cannot be called from inside itself"))?;
                self.request(lua, args, &mut **host, &refused)
            })?;
            // Binding is ours: it costs no fuel, and works after a run that was ended.
            self.gauge.left.store(u64::MAX, Ordering::Relaxed);
            let before: Value = bind.call(requests)?;
            self.gauge.left.store(left.get(), Ordering::Relaxed);
            let result = function.call::<MultiValue>(());
            left.set(self.gauge.left.swap(u64::MAX, Ordering::Relaxed));
            let halt = self.halt.get();
            self.halt_with(Halt::No);
            bind.call::<Value>(before)?;
            if halt == Halt::Step {
                self.halt_with(Halt::Step);
                return Ok(Outcome::Stopped);
            }
            if let Some(sentence) = refused.borrow_mut().take() {
                return Ok(Outcome::Refused(sentence));
            }
            let values = result?;
            let Some(first) = values.front() else { return Ok(Outcome::Returned(None)) };
            match to_json(first) {
                Ok(Json::Null) => Ok(Outcome::Returned(None)),
                Ok(json) => Ok(Outcome::Returned(Some(json))),
                Err(says) => Err(mlua::Error::runtime(format!("the answer: {says}"))),
            }
        })
    }

    fn halt_with(&self, halt: Halt) {
        self.halt.set(halt);
        self.gauge.halted.store(halt != Halt::No, Ordering::Relaxed);
    }

    fn request(
        &self,
        lua: &Lua,
        args: MultiValue,
        host: &mut dyn Host,
        refused: &RefCell<Option<String>>,
    ) -> mlua::Result<Value> {
        if self.halt.get() != Halt::No {
            return Err(mlua::Error::runtime("the run has ended"));
        }
        let mut args = args.into_iter();
        let number = args
            .next()
            .and_then(|value| value.as_integer().or(value.as_number().map(|n| n as i64)));
        let (first, second, third) = (args.next(), args.next(), args.next());
        let answer = match number {
            Some(1) => {
                host.get(&word(first, "attribute")?, optional(second, "element")?.as_deref())
            }
            Some(2) => {
                let value = json(third)?;
                host.set(&word(first, "attribute")?, value, optional(second, "element")?.as_deref())
            }
            Some(3) => {
                let asked = Asked {
                    element: word(first, "element")?,
                    action: word(second, "action")?,
                    args: object(third)?,
                };
                host.ask(vec![asked]).map(|mut answers| answers.pop().unwrap_or(Json::Null))
            }
            Some(4) => host.ask(questions(third)?).map(Json::Array),
            Some(5) => {
                let element = optional(second, "element")?;
                let data = object(third)?;
                host.send(&word(first, "event")?, data, element.as_deref()).map(|()| Json::Null)
            }
            Some(6) => {
                let sentence = word(first, "sentence")?;
                let length = sentence.chars().count();
                if length == 0 || length > SENTENCE_MAX {
                    let says = format!("refuse needs a sentence of 1 to {SENTENCE_MAX} characters");
                    return Err(mlua::Error::runtime(says));
                }
                refused.replace(Some(sentence));
                self.halt_with(Halt::Run);
                return Err(mlua::Error::runtime("refused"));
            }
            Some(7) => {
                host.log(&word(first, "text")?);
                Ok(Json::Null)
            }
            Some(8) => {
                let key = word(first, "key")?;
                return to_lua(lua, &host.fact(subject(third)?, &key));
            }
            Some(9) => return to_lua(lua, &host.facts(subject(third)?)),
            Some(10) => {
                // 53 bits are what a number holds whole.
                return Ok(Value::Number((host.random() >> 11) as f64 / (1_u64 << 53) as f64));
            }
            Some(11) => host.find(&word(first, "selection")?),
            Some(12) => {
                let values = object(third)?;
                host.create(&word(first, "type")?, values, optional(second, "name")?.as_deref())
            }
            Some(13) => host.destroy(&word(first, "element")?).map(|()| Json::Null),
            Some(number @ (14 | 15)) => {
                let element = optional(second, "element")?;
                host.stand(&word(first, "set")?, element.as_deref(), number == 14).map(Json::Bool)
            }
            Some(16) => {
                let element = optional(second, "element")?;
                host.travel(&word(first, "world")?, element.as_deref()).map(|()| Json::Null)
            }
            Some(_) | None => return Err(mlua::Error::runtime("no such request")),
        };
        match answer {
            Ok(json) => to_lua(lua, &json),
            Err(Stop::Raise(problem)) => Err(mlua::Error::external(Raised(problem))),
            Err(Stop::End) => {
                self.halt_with(Halt::Step);
                Err(mlua::Error::runtime("the step has ended"))
            }
        }
    }

    fn ended(&self, script: Script<'_>, result: mlua::Result<Outcome>, left: u64) -> Ended {
        if self.depth.get() == 0 {
            self.halt_with(Halt::No);
        }
        if left == 0 {
            return Ended::OutOfFuel;
        }
        let error = match result {
            Ok(Outcome::Returned(json)) => return Ended::Returned(json),
            Ok(Outcome::Refused(sentence)) => return Ended::Refused(sentence),
            Ok(Outcome::Stopped) => return Ended::Stopped,
            Err(error) => error,
        };
        if is_memory(&error) {
            let used = self.vm.try_borrow().is_ok_and(|vm| vm.used) || self.depth.get() > 0;
            return if used { Ended::OutOfUsedMemory } else { Ended::OutOfMemory };
        }
        if let Some(Raised(problem)) = error.downcast_ref::<Raised>() {
            return Ended::Failed(problem.clone());
        }
        Ended::Failed(Problem::new(Code::ScriptFailed, sentence_of(&error, script)))
    }
}

enum Outcome {
    Returned(Option<Json>),
    Refused(String),
    Stopped,
}

impl Vm {
    fn new(gauge: &Arc<Gauge>, fuse: &Fuse) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE
            | StdLib::STRING
            | StdLib::MATH
            | StdLib::UTF8
            | StdLib::BIT
            | StdLib::BUFFER;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let prelude: MultiValue =
            lua.load(include_str!("prelude.luau")).set_name("=prelude").call(())?;
        let mut values = prelude.into_iter();
        let (Some(Value::Function(bind)), Some(Value::Table(env))) = (values.next(), values.next())
        else {
            return Err(mlua::Error::runtime("the prelude answers with something else"));
        };
        for name in [
            "print",
            "gcinfo",
            "collectgarbage",
            "loadstring",
            "getfenv",
            "setfenv",
            "newproxy",
            "require",
        ] {
            lua.globals().raw_set(name, Value::Nil)?;
        }
        lua.sandbox(true)?;
        env.set_readonly(true);
        let gauge = gauge.clone();
        let fuse = fuse.clone();
        lua.set_interrupt(move |_| {
            let left = gauge.left.load(Ordering::Relaxed);
            if left == 0 || gauge.halted.load(Ordering::Relaxed) {
                return Err(mlua::Error::runtime("the run has ended"));
            }
            let blown = left.is_multiple_of(FUSE_EVERY) && fuse(false);
            gauge.left.store(if blown { 0 } else { left - 1 }, Ordering::Relaxed);
            Ok(VmState::Continue)
        });
        let base = lua.used_memory();
        lua.set_memory_limit(base + MEMORY_MAX)?;
        Ok(Self { lua, bind, env, compiled: HashMap::new(), base, used: false })
    }

    fn clean(&mut self) -> mlua::Result<()> {
        if self.lua.used_memory() > self.base + GARBAGE_MAX {
            self.lua.gc_collect()?;
            self.base = self.base.max(self.lua.used_memory());
            self.lua.set_memory_limit(self.base + MEMORY_MAX)?;
        }
        Ok(())
    }

    fn compiled(&mut self, script: Script<'_>) -> mlua::Result<Function> {
        let mut key = [0; 16];
        let mut hash = blake3::Hasher::new();
        hash.update(script.name.as_bytes()).update(&[0]).update(&script.line.to_be_bytes());
        hash.update(script.source.as_bytes());
        key.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        if let Some(function) = self.compiled.get(&key) {
            self.used = true;
            return Ok(function.clone());
        }
        if self.compiled.len() >= SCRIPTS_MAX {
            self.compiled.clear();
        }
        let function = self
            .lua
            .load(script.source)
            .set_name(format!("={}", script.name))
            .set_environment(self.env.clone())
            .into_function()?;
        self.used = !self.compiled.is_empty();
        self.compiled.insert(key, function.clone());
        Ok(function)
    }
}

/// Where and why a script does not compile: its own line from 1, and the reason.
pub fn compile_error(source: &str) -> Option<(u32, String)> {
    let error = Compiler::new().compile(source).err()?;
    // The compiler says `3: why`, without the name that a running script would have.
    let text = innermost(&error);
    let (line, says) = place_in(&format!(":{text}")).unwrap_or((1, text.clone()));
    Some((line, says))
}

fn innermost(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => innermost(cause),
        mlua::Error::RuntimeError(text) | mlua::Error::SyntaxError { message: text, .. } => {
            text.lines().next().unwrap_or_default().to_owned()
        }
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// Splits `name:12: why` into the line and the reason.
fn place_in(text: &str) -> Option<(u32, String)> {
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once(':')?;
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        if let Some(says) = after[digits.len()..].strip_prefix(": ")
            && let Ok(line) = digits.parse()
        {
            return Some((line, says.to_owned()));
        }
        rest = after;
    }
}

/// The error as a sentence with the line of the script's file.
fn sentence_of(error: &mlua::Error, script: Script<'_>) -> String {
    let text = innermost(error);
    match place_in(&text) {
        Some((line, says)) => format!("{}, line {}: {says}", script.name, script.line + line - 1),
        None => format!("{}: {text}", script.name),
    }
}

fn is_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. } => is_memory(cause),
        other => other.to_string().contains("not enough memory"),
    }
}

fn word(value: Option<Value>, what: &str) -> mlua::Result<String> {
    match value {
        Some(Value::String(text)) => Ok(text.to_str()?.to_owned()),
        _ => Err(mlua::Error::runtime(format!("the {what} must be text"))),
    }
}

fn optional(value: Option<Value>, what: &str) -> mlua::Result<Option<String>> {
    match value {
        None | Some(Value::Nil) => Ok(None),
        value => word(value, what).map(Some),
    }
}

fn json(value: Option<Value>) -> mlua::Result<Json> {
    to_json(&value.unwrap_or(Value::Nil)).map_err(mlua::Error::runtime)
}

fn object(value: Option<Value>) -> mlua::Result<Json> {
    match json(value)? {
        Json::Null => Ok(Json::Object(serde_json::Map::new())),
        object @ Json::Object(_) => Ok(object),
        _ => Err(mlua::Error::runtime("arguments must be a table with names")),
    }
}

fn questions(value: Option<Value>) -> mlua::Result<Vec<Asked>> {
    let Json::Array(items) = json(value)? else {
        return Err(mlua::Error::runtime("ask_all needs a list of {element, action, args}"));
    };
    let asked = |item: Json| {
        let Json::Array(parts) = item else { return None };
        let mut parts = parts.into_iter();
        let (element, action) = (parts.next()?, parts.next()?);
        Some(Asked {
            element: element.as_str()?.to_owned(),
            action: action.as_str()?.to_owned(),
            args: parts.next().unwrap_or_else(|| Json::Object(serde_json::Map::new())),
        })
    };
    items
        .into_iter()
        .map(|item| {
            asked(item).ok_or_else(|| {
                mlua::Error::runtime("ask_all needs a list of {element, action, args}")
            })
        })
        .collect()
}

fn subject(value: Option<Value>) -> mlua::Result<Subject> {
    match value.and_then(|value| value.as_number().or(value.as_integer().map(|n| n as f64))) {
        Some(1.0) => Ok(Subject::Event),
        Some(2.0) => Ok(Subject::Element),
        Some(3.0) => Ok(Subject::Caller),
        Some(4.0) => Ok(Subject::World),
        _ => Err(mlua::Error::runtime("no such subject")),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
