//! The only room that knows redb: two files of rows, each row with a checksum, and what is hot in
//! memory in front of them.

mod cache;
mod encode;
mod file;
mod hot;
mod place;
mod store;

pub use file::{CommitError, OpenError, SCHEMA};
pub use hot::Hot;
pub use place::{Folder, Place, Which};
pub use store::{Contacts, Store, View};
