//! User tokens: a home's word that a server may act for one of its users at another server, for a
//! short time. CBOR Web Tokens (RFC 8392).

use coset::CborSerializable;
use coset::cbor::Value;
use coset::cwt::{ClaimsSet, ClaimsSetBuilder};

use super::claims::{private, seconds, whole_seconds};
use super::signed::{self, BadSignature, KeyPair};
use crate::model::{AccountId, ServerId, Timestamp};

const CONTEXT: &str = "freehold 1 user";
const CLAIM_HOLDER: &str = "holder";
const CLAIM_SCOPE: &str = "scope";
/// Bytes of a user token at most.
pub const TOKEN_BYTES_MAX: usize = 2_048;
/// How long a token is valid, in milliseconds.
pub const TOKEN_LIFE_MS: u64 = 300_000;
/// How far two clocks may be apart, in milliseconds.
pub const SKEW_MS: u64 = 120_000;

/// What a user token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserClaim {
    /// The user's home, which signed it.
    pub issuer: ServerId,
    /// The user.
    pub subject: AccountId,
    /// The key of the server that may present it.
    pub holder: [u8; 32],
    /// The server that executes.
    pub audience: ServerId,
    /// What it is for; empty: everything.
    pub scope: Vec<String>,
    /// Makes this one unlike the ones before it.
    pub nonce: [u8; 16],
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Until when it is valid.
    pub ends_at: Timestamp,
}

/// A user token is not for this call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenRefused {
    /// It is altered, malformed, or signed by somebody else.
    #[error("the user token's signature does not hold")]
    BadSignature,
    /// It was given to another server.
    #[error("the user token was given to another server")]
    WrongHolder,
    /// It is for another server that executes.
    #[error("the user token is for another server")]
    WrongAudience,
    /// It is of another user.
    #[error("the user token is of another user")]
    WrongUser,
    /// The home that it names was never met.
    #[error("the user token is of a home that was never met here")]
    UnknownHome,
    /// Its time is over.
    #[error("the user token has ended")]
    Ended,
    /// Its time has not come.
    #[error("the user token is not valid yet")]
    TooEarly,
}

/// Signs a user token.
pub fn issue_user(keys: &KeyPair, claim: &UserClaim) -> Vec<u8> {
    let scope = claim.scope.iter().map(|what| Value::Text(what.clone())).collect();
    let claims = ClaimsSetBuilder::new()
        .issuer(claim.issuer.to_string())
        .subject(claim.subject.to_string())
        .audience(claim.audience.to_string())
        .issued_at(whole_seconds(claim.issued_at))
        .expiration_time(whole_seconds(claim.ends_at))
        .cwt_id(claim.nonce.to_vec())
        .text_claim(CLAIM_HOLDER.to_owned(), Value::Bytes(claim.holder.to_vec()))
        .text_claim(CLAIM_SCOPE.to_owned(), Value::Array(scope))
        .build();
    keys.sign(CONTEXT, claims.to_vec().unwrap_or_default())
}

/// The home that a token says it is of. Nothing is checked yet.
pub fn issuer_of(bytes: &[u8]) -> Option<ServerId> {
    if bytes.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (_, payload) = signed::unverified(bytes).ok()?;
    ClaimsSet::from_slice(&payload).ok()?.issuer?.parse().ok()
}

/// Verifies a user token that was signed by the owner of `key`.
///
/// # Errors
/// It is altered, malformed, or of somebody else.
pub fn verify_user(bytes: &[u8], key: &[u8; 32]) -> Result<UserClaim, TokenRefused> {
    let read = || {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(BadSignature);
        }
        let (signed, payload) = signed::unverified(bytes)?;
        signed::verify(&signed, CONTEXT, key)?;
        let claims = ClaimsSet::from_slice(&payload).map_err(|_| BadSignature)?;
        read(&claims).ok_or(BadSignature)
    };
    read().map_err(|BadSignature| TokenRefused::BadSignature)
}

fn read(claims: &ClaimsSet) -> Option<UserClaim> {
    let scope = private(claims, CLAIM_SCOPE)?.as_array()?;
    let scope: Option<Vec<String>> =
        scope.iter().map(|what| what.as_text().map(str::to_owned)).collect();
    Some(UserClaim {
        issuer: claims.issuer.as_deref()?.parse().ok()?,
        subject: claims.subject.as_deref()?.parse().ok()?,
        holder: private(claims, CLAIM_HOLDER)?.as_bytes()?.as_slice().try_into().ok()?,
        audience: claims.audience.as_deref()?.parse().ok()?,
        scope: scope?,
        nonce: claims.cwt_id.as_deref()?.try_into().ok()?,
        issued_at: seconds(claims.issued_at.as_ref()?)?,
        ends_at: seconds(claims.expiration_time.as_ref()?)?,
    })
}

impl UserClaim {
    /// Checks that it is for a call of `user` by the server with the key `holder`, executed by
    /// `audience` at `now`.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(
        &self,
        user: AccountId,
        holder: &[u8; 32],
        audience: ServerId,
        now: Timestamp,
    ) -> Result<(), TokenRefused> {
        if self.holder != *holder {
            return Err(TokenRefused::WrongHolder);
        }
        if self.audience != audience {
            return Err(TokenRefused::WrongAudience);
        }
        if self.subject != user {
            return Err(TokenRefused::WrongUser);
        }
        if now >= self.ends_at.after_ms(SKEW_MS) {
            return Err(TokenRefused::Ended);
        }
        if now.after_ms(SKEW_MS) < self.issued_at {
            return Err(TokenRefused::TooEarly);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_or_foreign_token_is_refused() {
        let keys = KeyPair::from_seed(&[1; 32]);
        let token = issue_user(&keys, &claim());

        assert_eq!(verify_user(&token, &keys.public()), Ok(claim()));
        assert_eq!(issuer_of(&token), Some(claim().issuer));
        let other = KeyPair::from_seed(&[2; 32]).public();
        assert_eq!(verify_user(&token, &other), Err(TokenRefused::BadSignature));
        for at in 0..token.len() {
            let mut altered = token.clone();
            altered[at] ^= 0x10;
            assert!(verify_user(&altered, &keys.public()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_token_is_for_one_user_holder_audience_and_time() {
        let claim = claim();
        let (user, holder, audience) = (claim.subject, claim.holder, claim.audience);
        let at = Timestamp::from_ms;
        let other = ServerId::from_bytes([9; 16]);
        let table = [
            (user, holder, audience, at(1_000_000), Ok(())),
            (user, [8; 32], audience, at(1_000_000), Err(TokenRefused::WrongHolder)),
            (user, holder, other, at(1_000_000), Err(TokenRefused::WrongAudience)),
            (
                AccountId::from_bytes([9; 16]),
                holder,
                audience,
                at(1_000_000),
                Err(TokenRefused::WrongUser),
            ),
            (user, holder, audience, at(2_000_000 + SKEW_MS - 1), Ok(())),
            (user, holder, audience, at(2_000_000 + SKEW_MS), Err(TokenRefused::Ended)),
            (user, holder, audience, at(1_000_000 - SKEW_MS), Ok(())),
            (user, holder, audience, at(1_000_000 - SKEW_MS - 1), Err(TokenRefused::TooEarly)),
        ];
        for (user, holder, audience, now, want) in table {
            assert_eq!(claim.check(user, &holder, audience, now), want, "{now}");
        }
    }

    fn claim() -> UserClaim {
        UserClaim {
            issuer: ServerId::from_bytes([1; 16]),
            subject: AccountId::from_bytes([2; 16]),
            holder: [3; 32],
            audience: ServerId::from_bytes([4; 16]),
            scope: vec!["lamp".to_owned(), "door.open".to_owned()],
            nonce: [5; 16],
            issued_at: Timestamp::from_ms(1_000_000),
            ends_at: Timestamp::from_ms(2_000_000),
        }
    }
}
