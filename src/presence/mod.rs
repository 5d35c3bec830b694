//! Things on their way between servers. The rules by which a thing never has two owners. Pure.

mod moving;
mod package;

pub use moving::{
    GiverHears, GiverWishes, ReceiverHears, ReceiverWishes, giver, is_newer, receiver,
};
pub use package::{PIECE_BYTES_MAX, Package, PackageMistake, Packed, THINGS_MAX};
