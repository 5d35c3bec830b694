//! When the next turn begins: who was answered by the last commit is given a moment to call again,
//! so that as many calls as can share one.

use std::time::{Duration, Instant};

use crate::turn::STEPS_MAX;

/// What share of a commit's time is waited for more calls after it, as a divisor.
const SHARE: u32 = 4;
/// The longest such wait.
const WAIT_MAX: Duration = Duration::from_millis(2);
/// While a commit is under way, calls are let in at once where they run as long as it takes; else
/// the turn's thread looks again when it has ended, or after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What was measured of the last turn and the last commit.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Inputs of the last turn.
    steps: usize,
    /// How long one of them took.
    step: Duration,
    /// How long the last commit took.
    commit: Duration,
    /// Until when more inputs are waited for.
    until: Option<Instant>,
}

impl Gather {
    /// Notes a turn of so many inputs that took so long.
    pub(super) fn ran(&mut self, steps: usize, took: Duration) {
        self.steps = steps;
        self.step = took / u32::try_from(steps.max(1)).unwrap_or(u32::MAX);
    }

    /// Notes a commit that took so long and ended `now`.
    pub(super) fn committed(&mut self, took: Duration, now: Instant) {
        self.commit = took;
        self.until = Some(now + (took / SHARE).min(WAIT_MAX));
    }

    /// How long the next turn waits for a message, where `waiting` inputs are there and `pending`
    /// turns are on their way to the disk; none where it begins at once.
    pub(super) fn wait(&self, waiting: usize, pending: usize, now: Instant) -> Option<Duration> {
        if waiting >= STEPS_MAX {
            return None;
        }
        if pending > 0 {
            // Overlapping pays where running takes longer than making durable.
            let run = self.step * u32::try_from(waiting).unwrap_or(u32::MAX);
            return (run < self.commit).then_some(LOOK_AGAIN);
        }
        if waiting >= self.steps {
            return None;
        }
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn a_turn_waits_for_as_many_as_the_last_one_had_but_not_for_long() {
        let begun = Instant::now();
        let mut gather = Gather::default();

        assert_eq!(gather.wait(1, 0, begun), None, "nothing is known yet");
        gather.ran(10, Duration::from_micros(100));
        assert_eq!(gather.wait(1, 1, begun), None, "no commit was measured");
        gather.committed(Duration::from_millis(4), begun);

        assert_eq!(gather.wait(10, 0, begun), None);
        assert_eq!(gather.wait(9, 0, begun), Some(Duration::from_millis(1)));
        assert_eq!(gather.wait(9, 0, begun + Duration::from_millis(1)), None);
        assert_eq!(gather.wait(STEPS_MAX, 1, begun), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn turns_that_take_longer_than_commits_overlap_them() {
        let begun = Instant::now();
        let mut gather = Gather::default();
        gather.ran(10, Duration::from_millis(10));
        gather.committed(Duration::from_millis(4), begun);

        assert_eq!(gather.wait(3, 1, begun), Some(LOOK_AGAIN));
        assert_eq!(gather.wait(4, 1, begun), None);
    }
}
