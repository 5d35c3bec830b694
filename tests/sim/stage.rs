//! What the hub does about people in worlds while servers come and go: those with whom contact was
//! lost have some time to come back, and none where they said that they go.

use std::collections::BTreeMap;

use freehold::model::{ServerId, Timestamp};

/// How long contact may be lost before people are taken home, in milliseconds.
pub(crate) const GRACE_MS: u64 = 5_000;

/// How contact was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// The server said that it goes.
    Announced,
    /// Without a word.
    Silent,
}

/// Who is away, and until when they may come back.
#[derive(Debug)]
pub(crate) struct Stage {
    grace_ms: u64,
    lost: BTreeMap<ServerId, (Timestamp, Loss)>,
}

impl Stage {
    /// Nobody is away.
    pub(crate) const fn new(grace_ms: u64) -> Self {
        Self { grace_ms, lost: BTreeMap::new() }
    }

    /// Contact with a server is lost.
    pub(crate) fn lost(&mut self, now: Timestamp, server: ServerId, loss: Loss) {
        let grace_ms = if loss == Loss::Announced { 0 } else { self.grace_ms };
        let at = now.after_ms(grace_ms);
        let (until, held) = self.lost.entry(server).or_insert((at, loss));
        *until = (*until).min(at);
        if loss == Loss::Announced {
            *held = loss;
        }
    }

    /// A server is there again.
    pub(crate) fn found(&mut self, server: ServerId) {
        self.lost.remove(&server);
    }

    /// Takes those out whose grace has ended.
    pub(crate) fn take_ended(&mut self, now: Timestamp) -> Vec<(ServerId, Loss)> {
        let ended: Vec<(ServerId, Loss)> = self
            .lost
            .iter()
            .filter(|(_, (until, _))| *until <= now)
            .map(|(server, (_, loss))| (*server, *loss))
            .collect();
        for (server, _) in &ended {
            self.lost.remove(server);
        }
        ended
    }

    /// When somebody's grace ends.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.lost.values().map(|(until, _)| *until).min()
    }
}
