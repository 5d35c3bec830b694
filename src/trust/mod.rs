//! Who may do what: keys, records, protection ids, limits, the gate. Decides; never acts.

// A new level, bond or state must not compile until somebody decides what it means here.
#![warn(clippy::wildcard_enum_match_arm)]

mod claims;
mod deed;
mod gate;
mod limit;
mod protection;
mod record;
mod signed;
mod user;

pub use deed::{DeedClaim, DeedKind, issue_deed, verify_deed};
pub use gate::{Refusal, Right, Standing, bond, may, outward, refusal};
pub use limit::{Meter, OverLimit};
pub use protection::{ProtectionClaim, issue_protection, verify_protection};
pub use record::{
    CHAIN_MAX, Inception, Record, RecordKind, Verified, VerifyRecordError, decode as decode_record,
    leading,
};
pub use signed::{BadSignature, KeyPair};
pub use user::{
    SKEW_MS, TOKEN_BYTES_MAX, TOKEN_LIFE_MS, TokenRefused, UserClaim, issue_user, issuer_of,
    verify_user,
};
