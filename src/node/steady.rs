//! Time that only goes on: the machine's clock, as far as it makes sense.

/// How far the machine's clock may be from ours before it counts as having jumped, in microseconds.
const JUMP_US: u64 = 3_600_000_000;

/// Our time, beside the machine's clock and a counter of how long the machine has been on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    time_us: u64,
    counter_us: u64,
    /// How far the machine's clock is ahead of ours, where it has jumped.
    jumped_us: Option<i64>,
    /// Somebody said that the machine's clock is right.
    is_confirmed: bool,
}

impl Steady {
    /// Begins with the machine's clock.
    pub(super) const fn new(clock_us: u64, counter_us: u64) -> Self {
        Self { time_us: clock_us, counter_us, jumped_us: None, is_confirmed: false }
    }

    /// Goes on from a time at least: something was stored then.
    pub(super) fn raise(&mut self, least_us: u64) {
        self.time_us = self.time_us.max(least_us);
    }

    /// Our time now. It follows the machine's clock. Where that is behind, ours goes at half its speed
    /// until they meet; where that has jumped by more than an hour, ours goes on by the counter until
    /// the jump is confirmed, or taken back.
    pub(super) fn at(&mut self, clock_us: u64, counter_us: u64) -> u64 {
        let passed = counter_us.saturating_sub(self.counter_us);
        self.counter_us = self.counter_us.max(counter_us);
        let own = self.time_us.saturating_add(passed);
        let has_jumped = own.abs_diff(clock_us) > JUMP_US;
        self.is_confirmed &= has_jumped;
        self.jumped_us =
            (has_jumped && !self.is_confirmed).then(|| clock_us.wrapping_sub(own).cast_signed());
        self.time_us = if self.jumped_us.is_some() {
            own
        } else {
            clock_us.max(own.saturating_sub(passed / 2))
        };
        self.time_us
    }

    /// How far the machine's clock is ahead of ours, in microseconds, where it has jumped.
    pub(super) const fn jumped_us(&self) -> Option<i64> {
        self.jumped_us
    }

    /// The machine's clock is right: ours follows it again.
    pub(super) fn confirm(&mut self) {
        self.is_confirmed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const HOUR: u64 = 3_600 * SECOND;
    /// Some time in 2026.
    const BEGIN: u64 = 1_790_000_000 * SECOND;

    #[test]
    fn it_follows_a_clock_that_makes_sense() {
        let mut steady = Steady::new(BEGIN, 7);

        for (clock, passed) in [(1, 1), (50, 2), (51, 3), (3_500, 4), (3_600, 104)] {
            let at = steady.at(BEGIN + clock * SECOND, 7 + passed * SECOND);
            assert_eq!(at, BEGIN + clock * SECOND, "{clock}");
            assert_eq!(steady.jumped_us(), None);
        }
    }

    #[test]
    fn it_never_goes_back_and_meets_a_clock_that_did() {
        let mut steady = Steady::new(BEGIN, 0);
        let back = 600 * SECOND;
        let mut last = BEGIN;

        for second in 1..=1_200 {
            let clock = BEGIN - back + second * SECOND;
            let at = steady.at(clock, second * SECOND);
            assert!(at > last, "{second}");
            assert_eq!(at == clock, second == 1_200, "{second}");
            last = at;
        }
        assert_eq!(steady.at(last + SECOND, 1_201 * SECOND), last + SECOND);
    }

    #[test]
    fn a_jump_is_not_followed_until_it_is_confirmed_or_taken_back() {
        for forward in [true, false] {
            let jump = 5 * HOUR;
            let clock = |second: u64| {
                let right = BEGIN + second * SECOND;
                if forward { right + jump } else { right - jump }
            };
            let mut steady = Steady::new(BEGIN, 0);
            assert_eq!(steady.at(clock(1), SECOND), BEGIN + SECOND);
            let ahead = i64::try_from(jump).unwrap();
            assert_eq!(steady.jumped_us(), Some(if forward { ahead } else { -ahead }));
            // Taken back.
            assert_eq!(steady.at(BEGIN + 2 * SECOND, 2 * SECOND), BEGIN + 2 * SECOND);
            assert_eq!(steady.jumped_us(), None);

            assert_eq!(steady.at(clock(3), 3 * SECOND), BEGIN + 3 * SECOND);
            steady.confirm();
            let at = steady.at(clock(5), 5 * SECOND);
            assert_eq!(steady.jumped_us(), None);
            assert_eq!(at, if forward { clock(5) } else { BEGIN + 4 * SECOND });
        }
    }

    #[test]
    fn a_jump_after_a_confirmed_one_must_be_confirmed_again() {
        let mut steady = Steady::new(BEGIN, 0);
        steady.at(BEGIN + 2 * HOUR, 1);
        steady.confirm();
        assert_eq!(steady.at(BEGIN + 2 * HOUR, 2), BEGIN + 2 * HOUR);
        steady.at(BEGIN + 2 * HOUR, 3);

        assert_eq!(steady.at(BEGIN + 9 * HOUR, 4), BEGIN + 2 * HOUR + 2);
        assert!(steady.jumped_us().is_some());
    }

    #[test]
    fn it_begins_no_earlier_than_what_was_stored() {
        let mut steady = Steady::new(BEGIN, 0);
        steady.raise(BEGIN - HOUR);
        assert_eq!(steady.at(BEGIN, 0), BEGIN);

        steady.raise(BEGIN + 8 * HOUR);

        assert_eq!(steady.at(BEGIN + SECOND, SECOND), BEGIN + 8 * HOUR + SECOND);
        assert!(steady.jumped_us().is_some_and(|ahead| ahead < 0));
    }
}
