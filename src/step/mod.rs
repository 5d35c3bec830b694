//! One call's buffer: names looked up, rights checked, events delivered, actions run, questions
//! noted. Applied whole or thrown away whole. Pure: the same snapshot and inputs give the same
//! effects.

mod action;
mod buffer;
mod carry;
mod event;
mod exist;
mod host;
mod index;
mod life;
mod lookup;
mod neighbour;
mod remote;
mod right;
mod select;
mod set;
mod shared;
mod system;
mod timer;
mod value;

pub use action::{Listener, Replies};
pub use buffer::{Decided, Happened, Left, Setting, Step};
pub use carry::check_acts;
pub use event::Verdict;
pub use lookup::{AccountPlace, Target, account_by, only_account};
pub use remote::outdated;
pub use right::{Actor, not_offered};
pub use select::{Page, SELECTED_MAX, check_count};
pub use set::{End, Tie};
pub use shared::{Above, above, above_default, outward_definition};
pub use system::{is_system_type, stands_for_world};
pub use value::Reading;

use crate::model::{Damaged, Json, Need, Problem, Tell};

/// Why a command ends before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Halt {
    /// It cannot or may not be done.
    Problem(Problem),
    /// It must know something from elsewhere first: the step's needs say what.
    Needs,
    /// A question at a remembered place is another one now.
    Changed,
    /// Its whole content is one call at another server.
    Forward(Box<Tell>),
    /// It must run a script, and there is no time for one here.
    Slow,
    /// A script used up the memory of a machine that held garbage: once more in a fresh one.
    Memory,
}

impl From<Problem> for Halt {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Damaged> for Halt {
    fn from(damaged: Damaged) -> Self {
        Self::Problem(damaged.into())
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It is done, with this result.
    Done(Json),
    /// It was refused or failed.
    Problem(Problem),
    /// It must know these first.
    Needs(Vec<Need>),
    /// Its questions changed: the attempt begins anew.
    Changed,
    /// It is forwarded as it is.
    Forward(Box<Tell>),
    /// It must run a script where none may run.
    Slow,
}

/// The type of a command's function.
pub type Command = fn(&mut Step<'_>) -> Result<Json, Halt>;
