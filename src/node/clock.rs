//! The one clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;
use crate::script::{Fuse, RUN_MS};

/// How much longer than its fuel says a run may take on the wall clock, as a factor. Only a fuse: a
/// slow machine must not decide what a script does.
const FUSE_FACTOR: u64 = 20;

/// The time.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one clock that everybody else is handed"
)]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    now().unix_ms() / 1_000
}

#[expect(clippy::disallowed_methods, reason = "the fuse measures how long a run takes")]
fn instant() -> Instant {
    Instant::now()
}

/// A fuse for one machine: blows when a run takes far longer than its fuel should.
pub(super) fn fuse() -> Fuse {
    let begun = std::sync::Mutex::new(instant());
    Arc::new(move |begins| {
        let mut begun = begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if begins {
            *begun = instant();
        }
        begun.elapsed() > Duration::from_millis(RUN_MS * FUSE_FACTOR)
    })
}

/// The time zone of `world.hour`: the one named, else the system's.
pub(super) fn time_zone(name: Option<&str>) -> Result<jiff::tz::TimeZone, jiff::Error> {
    match name {
        Some(name) => jiff::tz::TimeZone::get(name),
        None => Ok(jiff::tz::TimeZone::system()),
    }
}
