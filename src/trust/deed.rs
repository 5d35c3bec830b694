//! Deeds and receipts: what two servers sign where a thing goes from one to the other. With all of
//! them a thing proves where it lives.

use serde::{Deserialize, Serialize};

use super::signed::{self, BadSignature, KeyPair};
use crate::model::{ElementId, ServerId, Timestamp, TransferId};

/// Bytes of a deed or receipt at most.
const DEED_BYTES_MAX: usize = 1_024;

/// Who says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeedKind {
    /// The giver: the thing is offered.
    Deed,
    /// The receiver: the thing is taken.
    Receipt,
}

impl DeedKind {
    const fn context(self) -> &'static str {
        match self {
            Self::Deed => "freehold 1 deed",
            Self::Receipt => "freehold 1 receipt",
        }
    }
}

/// What a deed or a receipt says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeedClaim {
    /// The thing.
    pub element: ElementId,
    /// The number of its ownership from then on.
    pub epoch: u64,
    /// The transfer.
    pub transfer: TransferId,
    /// Who gives it away.
    pub giver: ServerId,
    /// Who takes it.
    pub receiver: ServerId,
    /// When it was offered.
    pub at: Timestamp,
}

/// Signs a deed, or a receipt.
pub fn issue_deed(keys: &KeyPair, kind: DeedKind, claim: &DeedClaim) -> Vec<u8> {
    let payload = serde_cbor::ser::to_vec_packed(claim).unwrap_or_default();
    keys.sign(kind.context(), payload)
}

/// Verifies a deed, or a receipt, that was signed by the owner of `key`.
///
/// # Errors
/// It is altered, malformed, of the other kind, or of somebody else.
pub fn verify_deed(
    bytes: &[u8],
    kind: DeedKind,
    key: &[u8; 32],
) -> Result<DeedClaim, BadSignature> {
    if bytes.len() > DEED_BYTES_MAX {
        return Err(BadSignature);
    }
    let (signed, payload) = signed::unverified(bytes)?;
    signed::verify(&signed, kind.context(), key)?;
    serde_cbor::from_slice(&payload).map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_no_receipt_and_an_altered_one_is_none() {
        let keys = KeyPair::from_seed(&[1; 32]);
        let claim = DeedClaim {
            element: ElementId::from_bytes([1; 16]),
            epoch: 3,
            transfer: TransferId::from_bytes([2; 16]),
            giver: ServerId::from_bytes([3; 16]),
            receiver: ServerId::from_bytes([4; 16]),
            at: Timestamp::from_ms(5),
        };
        let deed = issue_deed(&keys, DeedKind::Deed, &claim);

        assert_eq!(verify_deed(&deed, DeedKind::Deed, &keys.public()), Ok(claim));
        assert!(verify_deed(&deed, DeedKind::Receipt, &keys.public()).is_err());
        for at in 0..deed.len() {
            let mut altered = deed.clone();
            altered[at] ^= 1;
            assert!(verify_deed(&altered, DeedKind::Deed, &keys.public()).is_err(), "byte {at}");
        }
    }
}
