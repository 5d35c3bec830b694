//! What holds for every call, whatever it is: the real turns are driven in memory with drawn
//! worlds, types and calls, and compared with plain models that share only `model` with the node.

#![expect(clippy::unwrap_used, reason = "a property that cannot be tried must end, and say where")]

#[path = "properties/home.rs"]
mod home;

#[path = "properties/algebra.rs"]
mod algebra;
#[path = "properties/asked.rs"]
mod asked;
#[path = "properties/chain.rs"]
mod chain;
#[path = "properties/limits.rs"]
mod limits;
#[path = "properties/moving.rs"]
mod moving;
#[path = "properties/repeat.rs"]
mod repeat;
#[path = "properties/rights.rs"]
mod rights;
#[path = "properties/rollback.rs"]
mod rollback;
#[path = "properties/tokens.rs"]
mod tokens;
#[path = "properties/walk.rs"]
mod walk;
