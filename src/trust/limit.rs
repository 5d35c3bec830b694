//! Limits: how many calls a server made in the running unit of time.

use crate::model::{Limit, Timestamp};

/// Counts one server's calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meter {
    calls_made: u32,
    unit_ends_at: Timestamp,
}

/// The limit is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("more calls than the limit allows; the next unit begins in {retry_after_ms} ms")]
pub struct OverLimit {
    /// Milliseconds until the next unit begins.
    pub retry_after_ms: u64,
}

impl Meter {
    /// Charges one call. The charge is kept whatever becomes of the call.
    ///
    /// # Errors
    /// The limit is used up; nothing is charged.
    pub fn charge(&mut self, now: Timestamp, limit: Limit) -> Result<(), OverLimit> {
        if now >= self.unit_ends_at {
            self.calls_made = 0;
            self.unit_ends_at = now.after_ms(u64::from(limit.seconds_in_unit) * 1_000);
        }
        if self.calls_made >= limit.calls_per_unit {
            return Err(OverLimit { retry_after_ms: self.unit_ends_at.ms_since(now) });
        }
        self.calls_made += 1;
        Ok(())
    }

    /// Calls made in the unit that runs at `now`.
    pub fn calls_made(&self, now: Timestamp) -> u32 {
        if now < self.unit_ends_at { self.calls_made } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_within_a_unit_and_begins_anew_after_it() {
        let limit = Limit { calls_per_unit: 2, seconds_in_unit: 1 };
        let mut meter = Meter::default();
        let at = Timestamp::from_ms;

        assert_eq!(meter.charge(at(10), limit), Ok(()));
        assert_eq!(meter.charge(at(11), limit), Ok(()));
        assert_eq!(meter.charge(at(1_009), limit), Err(OverLimit { retry_after_ms: 1 }));
        assert_eq!(meter.calls_made(at(1_009)), 2);
        assert_eq!(meter.charge(at(1_010), limit), Ok(()));
        assert_eq!(meter.calls_made(at(1_010)), 1);
    }
}
