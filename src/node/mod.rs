//! The running node: the clock, the threads and the channels between them, the files of its home.
//! Joins the rooms, and decides nothing.

mod backup;
mod clock;
mod command;
mod dns;
mod engine;
mod gather;
mod home;
mod hub;
mod identity;
mod pinned;
mod reader;
mod start;
mod steady;

pub use backup::restore;
pub use clock::{now, unix_seconds};
pub use command::Origin;
pub use engine::{Engine, Ground, Offered, Outlet, Threads, start as start_turns};
pub use home::{ApiFile, Home, HomeError, Mark, read_api_file};
pub use identity::{Signer, rekey};
pub use reader::READERS_MAX;
pub use start::{Answer, Node, Request, StartError, StartOptions};
