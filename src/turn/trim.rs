//! What is old goes: turns whose outcomes and events were kept long enough, jobs that ended, keys
//! of calls made long ago.

use std::sync::Arc;

use super::turns::Running;
use crate::model::{Job, JobId, JobStatus, Key, Row, ServerId, Snapshot, Timestamp};

/// Turns between two looks.
const EVERY: u32 = 64;
/// Rows of one sort that go at once.
const ROWS_MAX: usize = 256;
/// How many times longer than anything else the answers for a silent server are kept.
const SILENT: u64 = 7;
/// Servers whose lanes are looked at.
const LANES_MAX: usize = 10_000;

impl Running<'_> {
    pub(super) fn trim(&mut self) {
        self.turns.since_trim += 1;
        if self.turns.since_trim < EVERY {
            return;
        }
        self.turns.since_trim = 0;
        let before = Timestamp::from_ms(self.turn.at.unix_ms().saturating_sub(self.turns.keep_ms));
        self.forget_silent();
        let pinned = self.oldest_open_turn();
        self.trim_turns(before, pinned);
        self.trim_jobs(before);
    }

    /// Whether the one who told a job may still ask for its answer.
    fn is_asked_for(&self, job: &Job) -> bool {
        let (Some(server), Some(number)) = (job.call.caller.server(), job.number) else {
            return false;
        };
        let lane = (&self.view() as &dyn Snapshot).lane(server);
        !matches!(lane, Ok(None))
            && !matches!(lane, Ok(Some(lane)) if lane.turn_of(number).is_none())
    }

    /// Forgets what servers were answered that have been silent for so long that they will hardly
    /// ask again: nobody may keep our history from being trimmed.
    fn forget_silent(&mut self) {
        let silent = self.turns.keep_ms.saturating_mul(SILENT);
        let before = Timestamp::from_ms(self.turn.at.unix_ms().saturating_sub(silent));
        let (none, all) = (ServerId::from_bytes([0; 16]), ServerId::from_bytes([0xff; 16]));
        for (key, row) in
            self.view().rows(&Key::Lane(none), &Key::Lane(all), LANES_MAX).unwrap_or_default()
        {
            let Row::Lane(lane) = row else { continue };
            let Some(span) = lane.taken.first().copied() else { continue };
            let taken = (&self.view() as &dyn Snapshot).turn(span.turn);
            if matches!(taken, Ok(Some(turn)) if turn.at < before) {
                let mut lane = lane.as_ref().clone();
                lane.forget_below(span.last + 1);
                self.changes.insert(key, Some(Row::Lane(Arc::new(lane))));
            }
        }
    }

    /// The oldest turn that holds something open of any lane.
    fn oldest_open_turn(&self) -> u64 {
        let (none, all) = (ServerId::from_bytes([0; 16]), ServerId::from_bytes([0xff; 16]));
        let view = self.view();
        let outboxes =
            view.rows(&Key::Outbox(none), &Key::Outbox(all), LANES_MAX).unwrap_or_default();
        let lanes = view.rows(&Key::Lane(none), &Key::Lane(all), LANES_MAX).unwrap_or_default();
        let turns = outboxes.iter().chain(&lanes).flat_map(|(_, row)| match row {
            Row::Outbox(outbox) => outbox.open.iter().map(|span| span.turn).collect::<Vec<_>>(),
            Row::Lane(lane) => lane.taken.iter().map(|span| span.turn).collect(),
            _ => Vec::new(),
        });
        turns.min().unwrap_or(u64::MAX)
    }

    fn trim_turns(&mut self, before: Timestamp, pinned: u64) {
        let last = self.turn.number.saturating_sub(1).min(pinned.saturating_sub(1));
        // Turns are large: the oldest alone says whether there is anything to do.
        let oldest = self.view().rows(&Key::Turn(0), &Key::Turn(last), 1).unwrap_or_default();
        let due = oldest.iter().any(|(_, row)| matches!(row, Row::Turn(turn) if turn.at < before));
        if !due {
            return;
        }
        let rows = self.view().rows(&Key::Turn(0), &Key::Turn(last), ROWS_MAX).unwrap_or_default();
        for (key, row) in rows {
            let Row::Turn(turn) = row else { continue };
            if turn.at >= before {
                return;
            }
            for event in &turn.events {
                let heads = event.feeds.iter().map(|feed| feed.head).chain([event.head]);
                for head in heads {
                    // The last mark of a log says where it stands, and stays.
                    let newer = self.view().last_row(
                        &Key::FeedAt(head.log, head.seq + 1),
                        &Key::FeedAt(head.log, u64::MAX),
                    );
                    if matches!(newer, Ok(Some(_))) {
                        self.changes.insert(Key::FeedAt(head.log, head.seq), None);
                    }
                }
            }
            self.changes.insert(key, None);
        }
    }

    fn trim_jobs(&mut self, before: Timestamp) {
        let (none, all) = (JobId::from_bytes([0; 16]), JobId::from_bytes([0xff; 16]));
        let rows = self.view().rows(&Key::Job(none), &Key::Job(all), ROWS_MAX).unwrap_or_default();
        for (key, row) in rows {
            if let Row::Job(job) = row
                && let JobStatus::Finished { at, .. } = &job.status
                && *at < before
                && !self.is_asked_for(&job)
            {
                self.changes.insert(key, None);
            }
        }
        // They have no order in time: another part of them is looked at each time.
        let part = self.turn.number.to_be_bytes()[7];
        let (first, last) = (Key::Idempotency([part; 16]), Key::Idempotency([0xff; 16]));
        for (key, row) in self.view().rows(&first, &last, ROWS_MAX).unwrap_or_default() {
            if let Row::Id(id) = row
                && made_at(id) < before
            {
                self.changes.insert(key, None);
            }
        }
    }
}

/// The time in a version 7 id.
fn made_at(id: [u8; 16]) -> Timestamp {
    Timestamp::from_ms(id[..6].iter().fold(0, |ms, byte| (ms << 8) | u64::from(*byte)))
}
