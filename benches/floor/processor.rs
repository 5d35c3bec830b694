//! What processes use of the processor.

use std::fs;
use std::time::Duration;

use super::rounds::Fault;

/// The unit in which Linux tells programs of processor time (`USER_HZ`, on every common machine).
const TICK: Duration = Duration::from_millis(10);
/// Where the time in the program stands behind the process's name; the time in the kernel follows.
const TIMES_AT: usize = 11;

/// Processor time of a process, or of `self`, so far: all its threads, in the program and in the
/// kernel.
pub(crate) fn used_by(process: &str) -> Result<Duration, Fault> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold anything, spaces and brackets too.
    let (_, behind) = stat.rsplit_once(')').ok_or("the process says nothing of itself")?;
    let mut ticks = 0;
    for time in behind.split_whitespace().skip(TIMES_AT).take(2) {
        ticks += time.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}
