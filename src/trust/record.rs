//! Records: who somebody is now. An id is the hash of an inception, so nobody can claim another's.

use serde::{Deserialize, Serialize};

use super::signed::{self, BadSignature, KeyPair};
use crate::model::{AccountId, Name, ServerId, SignedRecord};

const CONTEXT: &str = "freehold 1 record";
/// Records before the newest that are shown along with it.
pub const CHAIN_MAX: usize = 12;
/// Bytes of a signed record at most.
const RECORD_BYTES_MAX: usize = 1_024;

/// Whose record it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum RecordKind {
    /// A server's.
    Server,
    /// An account's.
    Account,
}

/// What an id is the hash of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inception {
    /// Whose.
    pub kind: RecordKind,
    /// The first key.
    pub key: [u8; 32],
    /// blake3 of the recovery key.
    pub recovery_hash: [u8; 32],
    /// Makes the id unlike any other.
    pub nonce: [u8; 16],
}

impl Inception {
    /// The hash that the id (version 8) is made from.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("freehold 1 inception");
        hash.update(&[match self.kind {
            RecordKind::Server => 0,
            RecordKind::Account => 1,
        }]);
        hash.update(&self.key);
        hash.update(&self.recovery_hash);
        hash.update(&self.nonce);
        *hash.finalize().as_bytes()
    }
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// How it began.
    pub inception: Inception,
    /// Grows with each record of the same id, from 0.
    pub sequence: u64,
    /// The key of today.
    pub key: [u8; 32],
    /// blake3 of the recovery key of today.
    pub recovery_hash: [u8; 32],
    /// What it calls itself.
    pub name: Name,
    /// An account's home.
    pub home: Option<ServerId>,
    /// Who signed it: the key before it, or the recovery key.
    pub signer: [u8; 32],
    /// How often the recovery key was used: what it signed wins over whatever a stolen key signed.
    #[serde(default, skip_serializing_if = "is_none")]
    pub recoveries: u32,
}

const fn is_none(recoveries: &u32) -> bool {
    *recoveries == 0
}

impl Record {
    /// The first record of somebody.
    pub fn first(inception: Inception, name: Name, home: Option<ServerId>) -> Self {
        let (key, recovery_hash) = (inception.key, inception.recovery_hash);
        Self { inception, sequence: 0, key, recovery_hash, name, home, signer: key, recoveries: 0 }
    }

    /// A server's id, where it is a server's record.
    pub fn server_id(&self) -> Option<ServerId> {
        matches!(self.inception.kind, RecordKind::Server)
            .then(|| ServerId::of_hash(&self.inception.hash()))
    }

    /// An account's id, where it is an account's record.
    pub fn account_id(&self) -> Option<AccountId> {
        matches!(self.inception.kind, RecordKind::Account)
            .then(|| AccountId::of_hash(&self.inception.hash()))
    }

    /// The record after this one: another key, signed by the key of today.
    pub fn rotated(&self, key: [u8; 32]) -> Self {
        Self { sequence: self.sequence + 1, key, signer: self.key, ..self.clone() }
    }

    /// The record after this one: another key and another recovery key, signed by the recovery key.
    pub fn recovered(&self, key: [u8; 32], recovery_hash: [u8; 32], signer: [u8; 32]) -> Self {
        Self {
            sequence: self.sequence + 1,
            recoveries: self.recoveries + 1,
            key,
            recovery_hash,
            signer,
            ..self.clone()
        }
    }

    /// Whether it comes after another record of the same id.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Where it stands among the records of one id: what the recovery key signed comes last.
    const fn rank(&self) -> (u32, u64) {
        (self.recoveries, self.sequence)
    }

    /// Signs the record. `keys` must be the pair of its signer.
    pub fn sign(&self, keys: &KeyPair) -> SignedRecord {
        let payload = serde_cbor::ser::to_vec_packed(self).unwrap_or_default();
        SignedRecord(keys.sign(CONTEXT, payload))
    }
}

/// A record whose signature and id were checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified(Record);

impl Verified {
    /// What it says.
    pub fn record(&self) -> &Record {
        &self.0
    }
}

/// A record cannot be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifyRecordError {
    /// It is no record, or too large.
    #[error("it is no record")]
    Malformed,
    /// Its signature does not hold.
    #[error("the signature does not hold")]
    BadSignature,
    /// Its signer is neither the key before it nor the recovery key.
    #[error("it is signed by a key that has no say in it")]
    WrongSigner,
    /// It is of somebody else, or not newer than what we have.
    #[error("it does not follow the record that we have")]
    NotNewer,
}

impl From<BadSignature> for VerifyRecordError {
    fn from(_: BadSignature) -> Self {
        Self::BadSignature
    }
}

impl Verified {
    /// Verifies a record that is seen for the first time.
    ///
    /// # Errors
    /// Says why it cannot be believed.
    pub fn first_seen(record: &SignedRecord) -> Result<Self, VerifyRecordError> {
        let record = decode(record)?;
        let is_first = record.sequence == 0;
        let by_key = record.signer == record.inception.key
            && record.recoveries == 0
            && record.recovery_hash == record.inception.recovery_hash
            && (!is_first || record.key == record.inception.key);
        let recovered = *blake3::hash(&record.signer).as_bytes() == record.inception.recovery_hash;
        if by_key || (recovered && !is_first) {
            return Ok(Self(record));
        }
        Err(VerifyRecordError::WrongSigner)
    }

    /// A record that was verified before it was stored here.
    pub fn stored(record: Record) -> Self {
        Self(record)
    }

    /// Verifies a record against the one that we have of the same id. The same record again is
    /// fine; an older one is not.
    ///
    /// # Errors
    /// Says why it cannot be believed.
    pub fn following(record: &SignedRecord, held: &Record) -> Result<Self, VerifyRecordError> {
        let next = decode(record)?;
        if next.inception != held.inception {
            return Err(VerifyRecordError::NotNewer);
        }
        if next == *held {
            return Ok(Self(next));
        }
        if !next.is_newer_than(held) {
            return Err(VerifyRecordError::NotNewer);
        }
        let recovered = *blake3::hash(&next.signer).as_bytes() == held.recovery_hash;
        // Whoever has the key has no say in the recovery key.
        let by_key = next.signer == held.key
            && next.recoveries == held.recoveries
            && next.recovery_hash == held.recovery_hash;
        if !by_key && !recovered {
            return Err(VerifyRecordError::WrongSigner);
        }
        Ok(Self(next))
    }

    /// Verifies the newest record of somebody by those before it, oldest first, from the one that we
    /// have on, if we have one. One in between that does not follow leads nowhere, and is passed over.
    ///
    /// # Errors
    /// Says why the newest cannot be believed.
    pub fn by_chain(
        earlier: &[SignedRecord],
        newest: &SignedRecord,
        held: Option<&Record>,
    ) -> Result<Self, VerifyRecordError> {
        let mut known = held.cloned();
        for record in earlier.iter().take(CHAIN_MAX) {
            let next = match &known {
                None => Self::first_seen(record),
                Some(known) => Self::following(record, known),
            };
            if let Ok(next) = next {
                known = Some(next.0);
            }
        }
        match &known {
            None => Self::first_seen(newest),
            Some(known) => Self::following(newest, known),
        }
    }
}

/// The records that lead somebody who holds none to the one after `newest`, oldest first: all of them;
/// or where the recovery key signs that one, the first and those that it signed before.
pub fn leading(
    earlier: &[SignedRecord],
    newest: &SignedRecord,
    by_recovery: bool,
) -> Vec<SignedRecord> {
    let mut recoveries = None;
    let all = earlier.iter().chain([newest]);
    let leads = all.filter(|record| {
        let at = decode(record).ok().map(|record| record.recoveries);
        let leads = at > recoveries;
        recoveries = recoveries.max(at);
        leads || !by_recovery
    });
    leads.cloned().collect()
}

/// Reads a record that this node stored after it had been verified.
///
/// # Errors
/// It is no record.
pub fn decode(record: &SignedRecord) -> Result<Record, VerifyRecordError> {
    if record.0.len() > RECORD_BYTES_MAX {
        return Err(VerifyRecordError::Malformed);
    }
    let (signed, payload) = signed::unverified(&record.0)?;
    let decoded: Record =
        serde_cbor::from_slice(&payload).map_err(|_| VerifyRecordError::Malformed)?;
    signed::verify(&signed, CONTEXT, &decoded.signer)?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_believed_only_with_its_own_signature() {
        let record = first_record();
        let signed = record.sign(&keys(1));

        assert_eq!(Verified::first_seen(&signed).unwrap().record(), &record);
        for at in 0..signed.0.len() {
            let mut altered = signed.clone();
            altered.0[at] ^= 1;
            assert!(Verified::first_seen(&altered).is_err(), "byte {at}");
        }
        let mut stolen = record;
        stolen.key = keys(2).public();
        stolen.signer = keys(2).public();
        assert_eq!(
            Verified::first_seen(&stolen.sign(&keys(2))),
            Err(VerifyRecordError::WrongSigner)
        );
    }

    #[test]
    fn only_the_key_before_or_the_recovery_key_names_the_next() {
        let held = first_record();
        let next = |signer: u8, sequence| Record {
            sequence,
            key: keys(5).public(),
            signer: keys(signer).public(),
            ..held.clone()
        };
        let table = [
            (1, 1, Ok(())),
            (9, 1, Ok(())),
            (7, 1, Err(VerifyRecordError::WrongSigner)),
            (1, 0, Err(VerifyRecordError::NotNewer)),
        ];
        for (signer, sequence, want) in table {
            let record = next(signer, sequence).sign(&keys(signer));
            let got = Verified::following(&record, &held).map(|_| ());
            assert_eq!(got, want, "signer {signer}, sequence {sequence}");
        }
    }

    #[test]
    fn what_the_recovery_key_signed_wins_over_a_stolen_key() {
        let first = first_record();
        let stolen = first.rotated(keys(6).public());
        let stolen = stolen.rotated(keys(6).public());
        let own = first.recovered(keys(5).public(), [8; 32], keys(9).public());
        let signed = own.sign(&keys(9));

        // Whatever the thief has shown before, and shows afterwards.
        assert_eq!(Verified::following(&signed, &stolen).map(|_| ()), Ok(()));
        let again = Record { sequence: 99, signer: keys(6).public(), ..stolen.clone() };
        assert_eq!(
            Verified::following(&again.sign(&keys(6)), &own),
            Err(VerifyRecordError::NotNewer)
        );
        let raised = Record { recoveries: 2, ..again };
        assert_eq!(
            Verified::following(&raised.sign(&keys(6)), &own),
            Err(VerifyRecordError::WrongSigner)
        );
    }

    #[test]
    fn a_chain_of_records_leads_from_the_first_to_the_newest() {
        let first = first_record();
        let second = first.rotated(keys(2).public());
        let third = second.rotated(keys(3).public());
        let chain = [first.sign(&keys(1)), second.sign(&keys(1))];
        let newest = third.sign(&keys(2));

        let by = |chain: &[SignedRecord], held: Option<&Record>| {
            Verified::by_chain(chain, &newest, held).map(|verified| verified.record().sequence)
        };
        assert_eq!(by(&chain, None), Ok(2));
        assert_eq!(by(&chain, Some(&first)), Ok(2));
        assert_eq!(by(&chain, Some(&third)), Ok(2));
        assert_eq!(by(&[], Some(&second)), Ok(2));
        assert_eq!(by(&[], None), Err(VerifyRecordError::WrongSigner));
        assert_eq!(by(&[], Some(&first)), Err(VerifyRecordError::WrongSigner));
        // The first key may speak for the record after it.
        assert_eq!(by(&chain[1..], None), Ok(2));
        assert_eq!(by(&chain[..1], None), Err(VerifyRecordError::WrongSigner));
    }

    #[test]
    fn what_leads_to_the_next_record_is_all_or_what_the_recovery_key_signed() {
        let first = first_record();
        let second = first.rotated(keys(2).public());
        let third = second.recovered(keys(3).public(), [8; 32], keys(9).public());
        let fourth = third.rotated(keys(4).public());
        let [first, second, third, fourth] =
            [(first, 1), (second, 1), (third, 9), (fourth, 3)].map(|(r, by)| r.sign(&keys(by)));
        let earlier = [first.clone(), second.clone(), third.clone()];

        let only = std::slice::from_ref(&first);
        assert_eq!(leading(&[], &first, false), only);
        assert_eq!(leading(&[], &first, true), only);
        assert_eq!(leading(only, &second, true), only);
        assert_eq!(
            leading(&earlier, &fourth, false),
            [first.clone(), second, third.clone(), fourth.clone()]
        );
        assert_eq!(leading(&earlier, &fourth, true), [first, third]);
    }

    fn keys(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32])
    }

    fn first_record() -> Record {
        let inception = Inception {
            kind: RecordKind::Server,
            key: keys(1).public(),
            recovery_hash: *blake3::hash(&keys(9).public()).as_bytes(),
            nonce: [3; 16],
        };
        Record::first(inception, Name::new("attic").unwrap(), None)
    }
}
