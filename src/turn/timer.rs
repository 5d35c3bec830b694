//! Timers that are due: each makes a call, and those that come again are set anew from the time that
//! was meant.

use std::sync::Arc;

use serde_json::json;

use super::turns::Running;
use crate::model::{
    Budget, Call, Caller, DEADLINE_DEFAULT_MS, Damaged, JobId, Json, Key, Root, Row, Snapshot,
    Timer, TimerDoes, TimerId, Timestamp,
};

/// Timers that one turn fires at most.
const FIRED_MAX: usize = 64;

/// When timers that could not be read are looked at again, in milliseconds.
const LOOK_AGAIN_MS: u64 = 1_000;

/// Every timer that is due until `last`.
fn until(last: Timestamp) -> (Key, Key) {
    let first = Key::Timer(Timestamp::default(), TimerId::from_bytes([0; 16]));
    (first, Key::Timer(last, TimerId::from_bytes([0xff; 16])))
}

/// When the first timer is due.
pub(super) fn first(snapshot: &dyn Snapshot) -> Result<Option<Timestamp>, Damaged> {
    let (first, last) = until(Timestamp::from_ms(u64::MAX));
    let rows = snapshot.rows(&first, &last, 1)?;
    Ok(rows.into_iter().find_map(|(key, _)| match key {
        Key::Timer(at, _) => Some(at),
        _ => None,
    }))
}

impl Running<'_> {
    /// Fires what is due. What does not fit into this turn is due in the next.
    pub(super) fn fire_timers(&mut self) {
        if self.turns.timer.is_none_or(|at| at > self.turn.at) {
            return;
        }
        let (first, last) = until(self.turn.at);
        let due = self.view().rows(&first, &last, FIRED_MAX).unwrap_or_default();
        if due.is_empty() {
            // What should be there cannot be read: it is looked at again, but not without end.
            self.turns.timer = Some(self.turn.at.after_ms(LOOK_AGAIN_MS));
        }
        for (key, row) in due {
            self.changes.insert(key, None);
            if let Row::Timer(timer) = row {
                self.fire(&timer);
            }
        }
    }

    fn fire(&mut self, timer: &Timer) {
        let of = Key::TimerOf(timer.world, timer.element, timer.id);
        let element = (&self.view() as &dyn Snapshot).element(timer.world, timer.element);
        let (Ok(Some(element)), Some(call)) = (element, self.call_of(timer)) else {
            self.changes.insert(of, None);
            return;
        };
        match timer.every_ms {
            Some(every_ms) => {
                let at = next(timer.at, every_ms, self.turn.at);
                let again = Timer { at, ..timer.clone() };
                self.changes.insert(of, Some(Row::At(at.unix_ms())));
                self.changes.insert(Key::Timer(at, timer.id), Some(Row::Timer(Arc::new(again))));
            }
            None => {
                self.changes.insert(of, None);
            }
        }
        let caller = match &timer.does {
            TimerDoes::Fire(..) => Caller::Local { account: Some(element.owner), operator: false },
            TimerDoes::Destroy | TimerDoes::Start => Caller::Node,
        };
        self.queue_job(Call { caller, ..call });
    }

    fn call_of(&self, timer: &Timer) -> Option<Call> {
        let (command, args) = match &timer.does {
            TimerDoes::Fire(event, data) => {
                ("event.send", json!({"element": timer.element, "event": event, "data": data}))
            }
            TimerDoes::Destroy => ("element.destroy", json!({"element": timer.element})),
            TimerDoes::Start => ("event.started", json!({"element": timer.element})),
        };
        let mut hash = blake3::Hasher::new_derive_key("freehold 1 timer");
        hash.update(timer.id.as_bytes()).update(&timer.at.unix_ms().to_be_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(hash.finalize().as_bytes().get(..10)?);
        let id = JobId::at(self.turn.at, random);
        Some(Call {
            id,
            command: command.to_owned(),
            caller: Caller::Node,
            args,
            world: Some(timer.world.to_string()),
            meta: Json::Null,
            reply_to: None,
            deadline_at: self.turn.at.after_ms(DEADLINE_DEFAULT_MS),
            root: Root { job: id, path: Vec::new(), budget: Budget::FULL },
        })
    }

    /// Notes when the next timer is due, where this turn changed any.
    pub(super) fn note_timers(&mut self) {
        let (first, last) = until(Timestamp::from_ms(u64::MAX));
        if self.changes.range(first..=last).next().is_some() {
            self.turns.timer = self::first(&self.view()).unwrap_or_default();
        }
    }
}

/// The next time of a timer that was meant for `at`: what was missed meanwhile is not made up for.
fn next(at: Timestamp, every_ms: u64, now: Timestamp) -> Timestamp {
    let every_ms = every_ms.max(1);
    let missed = now.ms_since(at) / every_ms;
    at.after_ms(every_ms.saturating_mul(missed.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_keeps_its_beat_and_makes_up_for_nothing_missed() {
        let at = Timestamp::from_ms(10_000);
        let table = [(10_000, 11_000), (10_400, 11_000), (11_000, 12_000), (55_500, 56_000)];
        for (now, want) in table {
            assert_eq!(next(at, 1_000, Timestamp::from_ms(now)), Timestamp::from_ms(want), "{now}");
        }
    }
}
