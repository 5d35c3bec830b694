//! The one clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::steady::Steady;
use crate::model::Timestamp;
use crate::script::{Fuse, RUN_MS};

/// Processor time of a run, beyond what its fuel stands for, at which the fuse blows.
const FUSE_SLACK: Duration = Duration::from_millis(2);

/// Our time; it begins where it is first asked for.
static STEADY: Mutex<Option<Steady>> = Mutex::new(None);

/// The time. It never goes back, and does not follow a clock that jumps.
pub fn now() -> Timestamp {
    Timestamp::from_ms(steadily(|_, time_us| time_us / 1_000))
}

/// Our time goes on from `least` at least: something was stored then.
pub(super) fn begin(least: Timestamp) {
    steadily(|steady, _| steady.raise(least.unix_ms().saturating_mul(1_000)));
}

/// Does something with our time, and the time as it is now, in microseconds since 1970.
fn steadily<T>(does: impl FnOnce(&mut Steady, u64) -> T) -> T {
    let mut held = STEADY.lock().unwrap_or_else(PoisonError::into_inner);
    let (clock_us, counter_us) = (machine_us(), micros_of(ClockId::Boottime));
    let steady = held.get_or_insert_with(|| Steady::new(clock_us, counter_us));
    let time_us = steady.at(clock_us, counter_us);
    does(steady, time_us)
}

/// Microseconds since 1970, as the machine's clock says.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one clock that everybody else is handed"
)]
fn machine_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What the machine's clock says.
pub(super) fn machine() -> Timestamp {
    Timestamp::from_ms(machine_us() / 1_000)
}

/// How many milliseconds the machine's clock is ahead of our time, where it has jumped.
pub(super) fn jumped_ms() -> Option<i64> {
    steadily(|steady, _| steady.jumped_us()).map(|us| us / 1_000)
}

/// The machine's clock is right, whatever it did: our time follows it again.
pub(super) fn confirm() {
    steadily(|steady, _| steady.confirm());
}

fn micros_of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000);
    u64::try_from(micros).unwrap_or(0)
}

/// A moment to measure from.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub(super) fn instant() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    now().unix_ms() / 1_000
}

/// Processor time that this thread used so far: what others do on the machine does not count.
fn thread_time() -> Duration {
    Duration::from_micros(micros_of(ClockId::ThreadCPUTime))
}

/// A fuse for one machine: blows when a run, with those inside it, takes longer than its fuel
/// should. Fuel is what counts; the fuse is for what a single request of a library does.
pub(super) fn fuse() -> Fuse {
    let begun = Mutex::new(Duration::ZERO);
    Arc::new(move |begins| {
        let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begins {
            *begun = thread_time();
        }
        thread_time().saturating_sub(*begun) > Duration::from_millis(RUN_MS) + FUSE_SLACK
    })
}

/// The time zone of `world.hour`: the one named, else the system's.
pub(super) fn time_zone(name: Option<&str>) -> Result<jiff::tz::TimeZone, jiff::Error> {
    match name {
        Some(name) => jiff::tz::TimeZone::get(name),
        None => Ok(jiff::tz::TimeZone::system()),
    }
}
