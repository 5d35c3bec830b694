//! What the turns of a bench know of their node, and what a call of it looks like.

use freehold::model::{
    AccountId, Budget, Call, Caller, DEADLINE_DEFAULT_MS, JobId, Json, Name, Root, ServerId,
};
use freehold::node;
use freehold::step::Setting;
use freehold::trust::KeyPair;
use jiff::tz::TimeZone;

use crate::floor::rounds::Fault;

/// This server.
pub(crate) const US: ServerId = ServerId::from_bytes([1; 16]);
/// The world of every call.
pub(crate) const GARDEN: &str = "garden";
/// How long a fetched record counts as fresh.
const RECORD_MS: u64 = 3_600_000;

/// What every step may know of the node.
pub(crate) fn setting() -> Result<Setting, Fault> {
    Ok(Setting {
        us: US,
        keys: KeyPair::from_seed(&[1; 32]),
        name: Name::new("attic")?,
        recovery_hash: [0; 32],
        time_zone: TimeZone::UTC,
        account: None,
        record_ms: RECORD_MS,
        strangers_wait: false,
        limit: freehold::model::Limit::STRANGERS,
    })
}

/// A call in the world, by an account once there is one.
pub(crate) fn call_of(account: Option<AccountId>, number: u64, command: &str, args: Json) -> Call {
    let at = node::now();
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    let id = JobId::at(at, random);
    Call {
        id,
        command: command.to_owned(),
        caller: Caller::Local { account, operator: true },
        args,
        world: Some(GARDEN.to_owned()),
        meta: Json::Null,
        reply_to: None,
        deadline_at: at.after_ms(DEADLINE_DEFAULT_MS),
        root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
    }
}
