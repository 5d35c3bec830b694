//! Protection ids: what one server gives another as proof of a place on a list. CBOR Web Tokens
//! (RFC 8392): the issuer is the one who executes.

use coset::CborSerializable;
use coset::cbor::Value;
use coset::cwt::{ClaimsSet, ClaimsSetBuilder};

use super::claims::{private, seconds, whole_seconds};
use super::signed::{self, BadSignature, KeyPair};
use crate::model::{Name, ServerId, Timestamp};

const CONTEXT: &str = "freehold 1 protection";
const CLAIM_HOLDER: &str = "holder";
const CLAIM_LIST: &str = "list";
/// Bytes of a protection id at most.
const PROTECTION_BYTES_MAX: usize = 1_024;

/// What a protection id says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtectionClaim {
    /// Who signed it, and executes.
    pub issuer: ServerId,
    /// For whom.
    pub subject: ServerId,
    /// The key of the one who may present it.
    pub holder: [u8; 32],
    /// The list.
    pub list: Name,
    /// Makes this one unlike the ones before it.
    pub nonce: [u8; 16],
    /// When it was issued.
    pub issued_at: Timestamp,
}

/// Signs a protection id.
pub fn issue_protection(keys: &KeyPair, claim: &ProtectionClaim) -> Vec<u8> {
    let claims = ClaimsSetBuilder::new()
        .issuer(claim.issuer.to_string())
        .subject(claim.subject.to_string())
        .audience(claim.issuer.to_string())
        .issued_at(whole_seconds(claim.issued_at))
        .cwt_id(claim.nonce.to_vec())
        .text_claim(CLAIM_HOLDER.to_owned(), Value::Bytes(claim.holder.to_vec()))
        .text_claim(CLAIM_LIST.to_owned(), Value::Text(claim.list.as_str().to_owned()))
        .build();
    keys.sign(CONTEXT, claims.to_vec().unwrap_or_default())
}

/// Verifies a protection id that was signed by the owner of `key`.
///
/// # Errors
/// It is altered, malformed, or of somebody else.
pub fn verify_protection(bytes: &[u8], key: &[u8; 32]) -> Result<ProtectionClaim, BadSignature> {
    if bytes.len() > PROTECTION_BYTES_MAX {
        return Err(BadSignature);
    }
    let (signed, payload) = signed::unverified(bytes)?;
    signed::verify(&signed, CONTEXT, key)?;
    let claims = ClaimsSet::from_slice(&payload).map_err(|_| BadSignature)?;
    read(&claims).ok_or(BadSignature)
}

fn read(claims: &ClaimsSet) -> Option<ProtectionClaim> {
    let issuer: ServerId = claims.issuer.as_deref()?.parse().ok()?;
    if claims.audience.as_deref()?.parse().ok() != Some(issuer) {
        return None;
    }
    Some(ProtectionClaim {
        issuer,
        subject: claims.subject.as_deref()?.parse().ok()?,
        holder: private(claims, CLAIM_HOLDER)?.as_bytes()?.as_slice().try_into().ok()?,
        list: Name::new(private(claims, CLAIM_LIST)?.as_text()?).ok()?,
        nonce: claims.cwt_id.as_deref()?.try_into().ok()?,
        issued_at: seconds(claims.issued_at.as_ref()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_or_foreign_protection_id_is_refused() {
        let keys = KeyPair::from_seed(&[1; 32]);
        let claim = ProtectionClaim {
            issuer: ServerId::from_bytes([1; 16]),
            subject: ServerId::from_bytes([2; 16]),
            holder: [3; 32],
            list: Name::new("family").unwrap(),
            nonce: [4; 16],
            issued_at: Timestamp::from_ms(5_000),
        };
        let id = issue_protection(&keys, &claim);

        assert_eq!(verify_protection(&id, &keys.public()), Ok(claim));
        let other = KeyPair::from_seed(&[2; 32]).public();
        assert_eq!(verify_protection(&id, &other), Err(BadSignature));
        for at in 0..id.len() {
            let mut altered = id.clone();
            altered[at] ^= 0x10;
            assert!(verify_protection(&altered, &keys.public()).is_err(), "byte {at}");
        }
    }
}
