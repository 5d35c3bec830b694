//! Who may do what: keys, records, protection ids, limits, the gate. Decides; never acts.

// A new level, bond or state must not compile until somebody decides what it means here.
#![warn(clippy::wildcard_enum_match_arm)]

mod gate;
mod limit;
mod protection;
mod record;
mod signed;

pub use gate::{Refusal, Right, Standing, bond, may, outward, refusal};
pub use limit::{Meter, OverLimit};
pub use protection::{ProtectionClaim, issue_protection, verify_protection};
pub use record::{
    Inception, Record, RecordKind, Verified, VerifyRecordError, decode as decode_record,
};
pub use signed::{BadSignature, KeyPair};
