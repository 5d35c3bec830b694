//! Signing and verifying: COSE_Sign1 with EdDSA (RFC 9052), a context string for each kind.

use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder, iana};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// An ed25519 key pair (RFC 8032). Its debug text does not show the secret.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

/// The bytes are no COSE_Sign1 of ours, or the signature is not of that key over them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

impl KeyPair {
    /// The pair of a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The secret seed, for the one who stores it.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Signs `payload` for one `context`.
    pub(super) fn sign(&self, context: &str, payload: Vec<u8>) -> Vec<u8> {
        let header = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build();
        CoseSign1Builder::new()
            .protected(header)
            .payload(payload)
            .create_signature(context.as_bytes(), |bytes| self.0.sign(bytes).to_bytes().to_vec())
            .build()
            .to_vec()
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

/// The payload that `bytes` say was signed. Nothing is checked yet.
pub(super) fn unverified(bytes: &[u8]) -> Result<(CoseSign1, Vec<u8>), BadSignature> {
    let mut signed = CoseSign1::from_slice(bytes).map_err(|_| BadSignature)?;
    let payload = signed.payload.clone().ok_or(BadSignature)?;
    // What is not signed may not be carried along.
    if !signed.unprotected.is_empty() {
        return Err(BadSignature);
    }
    signed.unprotected = coset::Header::default();
    Ok((signed, payload))
}

/// Checks that `key` signed exactly these bytes for `context`.
pub(super) fn verify(
    signed: &CoseSign1,
    context: &str,
    key: &[u8; 32],
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| BadSignature)?;
    signed.verify_signature(context.as_bytes(), |signature, bytes| {
        let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
        key.verify_strict(bytes, &signature).map_err(|_| BadSignature)
    })
}
