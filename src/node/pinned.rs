//! The first peers of `bootstrap.toml`: dialled until they are met, and for ever after.

use crate::model::{ServerId, Timestamp, Try, key_of_peer_id};

/// The first pause, in milliseconds; doubled with each failure.
const PAUSE_FIRST_MS: u64 = 250;
/// The longest pause, in milliseconds.
const PAUSE_MAX_MS: u64 = 30_000;

/// A first peer.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) key: [u8; 32],
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<String>,
    /// Who it turned out to be.
    pub(super) server: Option<ServerId>,
    pub(super) next_try_at: Option<Timestamp>,
    pub(super) failures: u32,
    pub(super) tries: Vec<Try>,
    pub(super) dialling: bool,
    pub(super) connected: bool,
    /// Whether it was met since the start: from then on it is dialled as every server is that is waited
    /// for.
    pub(super) met: bool,
}

impl Pinned {
    /// A peer that was not tried yet; none where its peer id is none.
    pub(super) fn new(peer: &crate::model::BootstrapPeer) -> Option<Self> {
        Some(Self {
            key: key_of_peer_id(&peer.peer_id)?,
            name: peer.name.clone(),
            addresses: peer.addresses.clone(),
            server: None,
            next_try_at: Some(Timestamp::default()),
            failures: 0,
            tries: Vec::new(),
            dialling: false,
            connected: false,
            met: false,
        })
    }

    /// Whether it is to be dialled now.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        !self.connected && !self.dialling && self.next_try_at.is_some_and(|at| at <= now)
    }

    /// A try failed.
    pub(super) fn failed(&mut self, now: Timestamp, tries: Vec<Try>) {
        self.dialling = false;
        self.tries = tries;
        let pause = PAUSE_FIRST_MS.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX_MS);
        self.failures += 1;
        self.next_try_at = Some(now.after_ms(pause));
    }
}
