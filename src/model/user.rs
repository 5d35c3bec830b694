//! Users of other servers here, and who may act for ours elsewhere.

use serde::{Deserialize, Serialize};

use super::{AccountId, ServerId, SignedRecord, Timestamp};

/// Things that are remembered of what was done with one permission.
pub const ACTS_MAX: usize = 16;

/// The user for whom another server calls: vouched for by their home.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub account: AccountId,
    /// Their home, which signed that; this server where the account is one of ours.
    pub home: ServerId,
    /// What the permission is for: names of types, and `TYPE.ACTION`; empty: everything.
    pub scope: Vec<String>,
}

/// How far it has come that a server may act for a user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionState {
    /// Nobody was asked: the user is known here, and that is all.
    Known,
    /// The user was asked, and has not answered.
    Asked,
    /// The user said yes.
    Permitted,
    /// The user said no.
    Refused,
    /// One side ended it.
    Revoked,
}

/// Whether a server may act for an account of ours. Kept at the account's home.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Permission {
    /// The account.
    pub account: AccountId,
    /// The server.
    pub server: ServerId,
    /// How far it has come.
    pub state: PermissionState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When the user said yes.
    pub permitted_at: Option<Timestamp>,
    /// Until when the yes holds.
    pub ends_at: Option<Timestamp>,
    /// What it is for, as in [`User::scope`].
    pub scope: Vec<String>,
    /// Calls that were made with it.
    pub used: u64,
    /// The newest of them: when, and what.
    pub acts: Vec<(Timestamp, String)>,
}

impl Permission {
    /// Whether the server may act for the account at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.state == PermissionState::Permitted && self.ends_at.is_none_or(|end| now < end)
    }
}

/// A user of another server who is known here.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Visitor {
    /// Who.
    pub account: AccountId,
    /// Their home: only what it signs counts for them.
    pub home: ServerId,
    /// Their name here: their own, or `server.name` where that is taken or looks like another.
    pub name: String,
    /// Their newest record that was seen here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<SignedRecord>,
    /// Whether we may act for them, as their home told us last.
    pub state: PermissionState,
    /// Until when.
    pub ends_at: Option<Timestamp>,
    /// Since when they are known.
    pub since: Timestamp,
}

impl Visitor {
    /// Whether this is who their home calls `name`, as names are compared.
    pub fn is_called(&self, home: ServerId, name: &str) -> bool {
        let own = self.name.rsplit('.').next().map(super::name_key);
        self.home == home && own.as_deref() == Some(name)
    }
}
