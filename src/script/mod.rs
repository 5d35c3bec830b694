//! The reader of type files, and the sandbox that runs an action's script with a budget. Knows no
//! store, no network and no clock: what a script may touch, it reaches through [`Host`].

mod convert;
mod host;
mod machine;
mod type_file;

pub use host::{Asked, Host, Stop, Subject};
pub use machine::{
    Ended, FUEL_PER_MS, Fuse, MEMORY_MAX, Machine, RUN_FUEL, RUN_MS, Script, compile_error,
};
pub use type_file::{Mistake, TypeFile, bad_type, read_type};
