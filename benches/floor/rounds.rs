//! Rounds of a measurement: the sides by turns in one run, the median of each, one table.

use std::time::Instant;

/// Why a bench cannot go on.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// One round of one side: says how many a second it did.
pub(crate) type Side<'a> = &'a mut dyn FnMut() -> Result<f64, Fault>;

/// Rounds of each side. The first one warms up and does not count.
pub(crate) const RUNS: u32 = 6;

/// A line of the table.
pub(crate) struct Line {
    /// What was measured.
    pub(crate) name: String,
    /// What the floor did in a second.
    pub(crate) floor: f64,
    /// What we did in a second, where we were measured.
    pub(crate) ours: Option<f64>,
    /// The least ratio of ours to the floor that is wanted, if one is.
    pub(crate) ratio_min: Option<f64>,
}

/// Whether `cargo bench` runs this. `cargo test --all-targets` starts benches too, in a debug
/// build, and only wants to know that they start.
pub(crate) fn is_wanted() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "a bench is there to read the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Runs something that does `count` things, and says how many a second that is.
pub(crate) fn timed(count: u64, run: impl FnOnce() -> Result<(), Fault>) -> Result<f64, Fault> {
    let began = now();
    run()?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Runs the sides by turns, so that what disturbs one disturbs all, and gives back the median of
/// each.
pub(crate) fn medians<const N: usize>(mut sides: [Side<'_>; N]) -> Result<[f64; N], Fault> {
    let mut rates: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for run in 0..RUNS {
        for (side, counted) in sides.iter_mut().zip(&mut rates) {
            let rate = (**side)()?;
            if run > 0 {
                counted.push(rate);
            }
        }
    }
    Ok(rates.map(median))
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Prints the table.
pub(crate) fn print(lines: &[Line]) {
    println!();
    println!(
        "{:<46} | {:>12} | {:>12} | {:>7} | wanted",
        "name", "floor per s", "ours per s", "ratio"
    );
    for line in lines {
        let ratio = line.ours.map(|ours| ours / line.floor);
        let wanted = match (ratio, line.ratio_min) {
            (Some(ratio), Some(min)) if ratio >= min => format!(">= {min:.2} met"),
            (Some(_), Some(min)) => format!(">= {min:.2} MISSED"),
            (None, Some(min)) => format!(">= {min:.2}"),
            (_, None) => "-".to_owned(),
        };
        println!(
            "{:<46} | {:>12} | {:>12} | {:>7} | {wanted}",
            line.name,
            shown(line.floor),
            line.ours.map_or_else(|| "-".to_owned(), shown),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        );
    }
}

/// A rate with as many digits as say something.
fn shown(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.2}") } else { format!("{rate:.0}") }
}
