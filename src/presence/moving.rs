//! The protocol of a transfer, as each end keeps it. The receiver alone decides, with an epoch; each
//! arrow is one transaction; what was decided stays.
//!
//! ```text
//! giver                         receiver
//! offer (things rest) --------> offered
//!                     <-------- accept: the things are the receiver's from here on
//! gone, acknowledge   --------> what was taken cannot be taken back any more
//!                     <-------- or refuse: the things are the giver's again
//! cancel (a question) --------> offered: refuse. Accepted: says so again
//! reclaim (epoch + 1) --------> not acknowledged: the higher epoch wins
//! ```

use crate::model::TransferState;

/// What the giver of a transfer hears.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GiverHears {
    /// The receiver has taken the things.
    Accepted,
    /// The receiver has not taken them.
    Refused,
    /// Their owner takes them back without an answer.
    Reclaim,
}

/// What the giver of a transfer does then, besides keeping the new state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GiverWishes {
    /// Nothing.
    Nothing,
    /// Remove the things, keep where they are, and acknowledge.
    LetGo,
    /// Acknowledge again.
    Acknowledge,
    /// Let the things act again.
    Thaw,
    /// Let the things act again under a higher epoch, and tell the receiver.
    TakeBack,
    /// Tell the receiver again that they were taken back.
    SayTakenBack,
}

/// What the giver of a transfer in `state` makes of what it hears.
pub const fn giver(state: TransferState, hears: GiverHears) -> (TransferState, GiverWishes) {
    use TransferState as State;
    match (state, hears) {
        (State::Offered, GiverHears::Accepted) => (State::Accepted, GiverWishes::LetGo),
        (State::Offered, GiverHears::Refused) => (State::Refused, GiverWishes::Thaw),
        (State::Offered, GiverHears::Reclaim) => (State::Reclaimed, GiverWishes::TakeBack),
        (State::Accepted, GiverHears::Accepted) => (State::Accepted, GiverWishes::Acknowledge),
        (State::Reclaimed, GiverHears::Accepted) => (State::Reclaimed, GiverWishes::SayTakenBack),
        (State::Accepted, GiverHears::Refused | GiverHears::Reclaim) => {
            (State::Accepted, GiverWishes::Nothing)
        }
        // The receiver's store went back to before its no, and then it said yes: too late.
        (State::Refused, GiverHears::Accepted) => (State::Refused, GiverWishes::SayTakenBack),
        (State::Refused, GiverHears::Refused | GiverHears::Reclaim) => {
            (State::Refused, GiverWishes::Nothing)
        }
        (State::Reclaimed, GiverHears::Refused | GiverHears::Reclaim) => {
            (State::Reclaimed, GiverWishes::Nothing)
        }
    }
}

/// What the receiver of a transfer hears.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReceiverHears {
    /// Whoever decides here said yes.
    Yes,
    /// Whoever decides here said no.
    No,
    /// The giver asks whether it may be called off.
    Cancel,
    /// The giver has taken the things back.
    Reclaimed,
}

/// What the receiver of a transfer does then, besides keeping the new state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReceiverWishes {
    /// Nothing.
    Nothing,
    /// Make the things its own, and say so.
    Own,
    /// Say again that they are its own.
    SayAccepted,
    /// Say that they are not.
    SayRefused,
    /// Make what it has of them marked copies.
    GiveUp,
}

/// What the receiver of a transfer in `state` makes of what it hears. `acknowledged`: the giver has
/// stored that the things were taken.
pub const fn receiver(
    state: TransferState,
    acknowledged: bool,
    hears: ReceiverHears,
) -> (TransferState, ReceiverWishes) {
    use TransferState as State;
    match (state, hears) {
        (State::Offered, ReceiverHears::Yes) => (State::Accepted, ReceiverWishes::Own),
        (State::Offered, ReceiverHears::No | ReceiverHears::Cancel) => {
            (State::Refused, ReceiverWishes::SayRefused)
        }
        (State::Offered, ReceiverHears::Reclaimed) => (State::Refused, ReceiverWishes::Nothing),
        (State::Accepted, ReceiverHears::Reclaimed) if acknowledged => {
            (State::Accepted, ReceiverWishes::Nothing)
        }
        (State::Accepted, ReceiverHears::Reclaimed) => (State::Reclaimed, ReceiverWishes::GiveUp),
        (State::Accepted, ReceiverHears::Yes | ReceiverHears::No | ReceiverHears::Cancel) => {
            (State::Accepted, ReceiverWishes::SayAccepted)
        }
        (State::Refused, ReceiverHears::Cancel) => (State::Refused, ReceiverWishes::SayRefused),
        (State::Refused, ReceiverHears::Yes | ReceiverHears::No | ReceiverHears::Reclaimed) => {
            (State::Refused, ReceiverWishes::Nothing)
        }
        (State::Reclaimed, _) => (State::Reclaimed, ReceiverWishes::Nothing),
    }
}

/// Of two that say they own a thing, the one with the higher epoch does.
pub const fn is_newer(epoch: u64, than: u64) -> bool {
    epoch > than
}
