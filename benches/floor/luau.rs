//! A Luau function called with a table and answering with one, and nothing around it: what an
//! action that hears an event costs at least.
//!
//! The interpreter has the libraries of the product's, is sandboxed, counts its interrupts and has
//! the same limit of memory. Tables are made and read directly, without JSON between.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use mlua::{Function, Lua, LuaOptions, StdLib, Table, VmState};

use super::rounds::Fault;

/// Memory that the interpreter may take, in bytes.
const MEMORY_MAX: usize = 16 * 1024 * 1024;
/// What is called: it reads two fields and answers with a third.
const LISTENER: &str = "local event = ... return { left = event.charge - event.by }";

/// An interpreter with one function.
pub(crate) struct Bare {
    lua: Lua,
    listener: Function,
}

impl Bare {
    /// The interpreter, with the function compiled.
    pub(crate) fn new() -> Result<Self, Fault> {
        let libraries = StdLib::TABLE
            | StdLib::STRING
            | StdLib::MATH
            | StdLib::UTF8
            | StdLib::BIT
            | StdLib::BUFFER;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        lua.sandbox(true)?;
        let left = AtomicU64::new(u64::MAX);
        lua.set_interrupt(move |_| match left.load(Ordering::Relaxed).checked_sub(1) {
            Some(less) => {
                left.store(less, Ordering::Relaxed);
                Ok(VmState::Continue)
            }
            None => Err(mlua::Error::runtime("the run has ended")),
        });
        lua.set_memory_limit(lua.used_memory() + MEMORY_MAX)?;
        let listener = lua.load(LISTENER).set_name("=floor").into_function()?;
        Ok(Self { lua, listener })
    }

    /// Calls it so many times, with other data each time.
    pub(crate) fn calls(&self, calls: u64) -> Result<(), Fault> {
        for number in 0..calls {
            let event = self.lua.create_table_with_capacity(0, 2)?;
            event.raw_set("charge", (number + 1_000) as f64)?;
            event.raw_set("by", (number % 7) as f64)?;
            let answer: Table = self.listener.call(event)?;
            let left: f64 = answer.raw_get("left")?;
            black_box(left);
        }
        Ok(())
    }
}
