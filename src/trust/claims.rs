//! What protection ids and user tokens share: claims of CBOR Web Tokens (RFC 8392).

use coset::cbor::Value;
use coset::cwt::{ClaimName, ClaimsSet, Timestamp as CwtTime};

use crate::model::Timestamp;

/// A claim of our own, by its name.
pub(super) fn private<'c>(claims: &'c ClaimsSet, name: &str) -> Option<&'c Value> {
    claims.rest.iter().find_map(|(key, value)| match key {
        ClaimName::Text(text) if text == name => Some(value),
        ClaimName::Text(_) | ClaimName::Assigned(_) | ClaimName::PrivateUse(_) => None,
    })
}

/// A time as tokens carry it: whole seconds.
pub(super) fn whole_seconds(at: Timestamp) -> CwtTime {
    CwtTime::WholeSeconds((at.unix_ms() / 1_000).cast_signed())
}

/// The time of a claim.
pub(super) fn seconds(claim: &CwtTime) -> Option<Timestamp> {
    match claim {
        CwtTime::WholeSeconds(seconds) => {
            Some(Timestamp::from_ms(u64::try_from(*seconds).ok()?.checked_mul(1_000)?))
        }
        CwtTime::FractionalSeconds(_) => None,
    }
}
