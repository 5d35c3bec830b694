//! The queue, turns and jobs. A turn takes calls that wait, runs each as a step, and says what is
//! to be committed, and what may be let out once it is. Pure: it is handed the time, the state and
//! the commands' table.

mod finish;
mod lane;
mod queue;
mod read;
mod timer;
mod trim;
mod turns;

pub use queue::{QUEUE_MAX, Queue};
pub use read::{Read, admits, lists_of, read};
pub use turns::{Done, Effect, Input, ItemAnswer, Refused, STEPS_MAX, Table, Told, Turns};
