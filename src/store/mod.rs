//! The only room that knows redb: two files of rows, each row with a checksum, and what is hot in
//! memory in front of them.

mod backup;
mod both;
mod cache;
mod decoded;
mod encode;
mod evict;
mod file;
mod hot;
mod place;

pub use backup::{BackupError, Beside, restore};
pub use both::{Outside, Store, View};
pub use file::{CommitError, OpenError, SCHEMA};
pub use hot::Hot;
pub use place::{Folder, Place, Which};
