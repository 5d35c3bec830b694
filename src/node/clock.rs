//! The one clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;
use crate::script::{Fuse, RUN_MS};

/// Processor time of a run, beyond what its fuel stands for, at which the fuse blows.
const FUSE_SLACK: Duration = Duration::from_millis(2);

/// The time.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one clock that everybody else is handed"
)]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
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
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A fuse for one machine: blows when a run, with those inside it, takes longer than its fuel
/// should. Fuel is what counts; the fuse is for what a single request of a library does.
pub(super) fn fuse() -> Fuse {
    let begun = std::sync::Mutex::new(Duration::ZERO);
    Arc::new(move |begins| {
        let mut begun = begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
