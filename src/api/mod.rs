//! HTTP and JSON on loopback and on a Unix socket in the home folder, with live events. Maps a
//! problem's code to a status, and decides nothing.

pub mod client;
mod events;
mod guard;
mod openapi;
mod routes;
mod serve;

pub use openapi::openapi;
pub use serve::{ServeError, Serving, serve};
