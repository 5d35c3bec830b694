//! A walk that is measured: the visitors of some nodes move, and the other nodes see it. Whoever makes
//! a move and whoever sees one notes it here, whatever carried it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rounds::{Fault, now};

/// Nodes at which visitors are at home. They have the numbers from 1; 0 is the host, which has none.
pub(crate) const HOMES: usize = 10;
/// Visitors of one home.
pub(crate) const VISITORS_OF_HOME: usize = 20;
/// All visitors.
pub(crate) const VISITORS: usize = HOMES * VISITORS_OF_HOME;
/// How often each visitor moves.
pub(crate) const EVERY: Duration = Duration::from_millis(100);
/// Moves of one visitor at most.
pub(crate) const STEPS_MAX: usize = 256;

/// The first part of a walk, which does not count.
const WARM_UP: Duration = Duration::from_secs(2);
/// The part that counts, and ends the walk.
pub(crate) const COUNTED: Duration = Duration::from_secs(10);
/// How long what is on its way is waited for after that.
const DRAIN: Duration = Duration::from_secs(2);

/// The node at which a visitor is at home.
pub(crate) const fn home_of(visitor: usize) -> usize {
    1 + visitor / VISITORS_OF_HOME
}

/// The place of a move among all.
const fn place(visitor: usize, step: usize) -> usize {
    visitor * STEPS_MAX + step
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// When which move was made, and how many nodes have seen it.
pub(crate) struct Walk {
    begins: Instant,
    /// In nanoseconds from the beginning; 0: it was not made.
    made: Vec<AtomicU64>,
    seen: Vec<AtomicUsize>,
}

impl Walk {
    /// A walk that begins after this time.
    pub(crate) fn beginning_in(span: Duration) -> Self {
        let moves = VISITORS * STEPS_MAX;
        Self {
            begins: now() + span,
            made: (0..moves).map(|_| AtomicU64::new(0)).collect(),
            seen: (0..moves).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// How long it is until this moment of the walk.
    pub(crate) fn until(&self, moment: Duration) -> Duration {
        (self.begins + moment).saturating_duration_since(now())
    }

    /// Nanoseconds from the beginning; 0 before it.
    fn nanos(&self) -> u64 {
        nanos(now().saturating_duration_since(self.begins))
    }

    /// Whether visitors move at present.
    pub(crate) fn is_on(&self) -> bool {
        (1..nanos(WARM_UP + COUNTED)).contains(&self.nanos())
    }

    /// Notes that a visitor makes a move now.
    pub(crate) fn make(&self, visitor: usize, step: usize) {
        self.made[place(visitor, step)].store(self.nanos().max(1), Ordering::Release);
    }

    /// Notes that a move was refused after all.
    pub(crate) fn unmake(&self, visitor: usize, step: usize) {
        self.made[place(visitor, step)].store(0, Ordering::Release);
    }

    /// Whether a move is younger than this and not seen yet by every node but its visitor's own; of
    /// those there are as many as homes.
    pub(crate) fn is_on_its_way(&self, visitor: usize, step: usize, age_max: Duration) -> bool {
        let at = place(visitor, step);
        let age = self.nanos().saturating_sub(self.made[at].load(Ordering::Acquire));
        self.seen[at].load(Ordering::Acquire) < HOMES && age < nanos(age_max)
    }

    /// The last move of a visitor.
    fn last_of(&self, visitor: usize) -> Option<usize> {
        (0..STEPS_MAX)
            .rev()
            .find(|step| self.made[place(visitor, *step)].load(Ordering::Acquire) > 0)
    }
}

/// What one node sees of the visitors of the others.
pub(crate) struct View {
    node: usize,
    walk: Arc<Walk>,
    seen: Vec<bool>,
    /// When each move was made, and when it was seen here first.
    sights: Vec<(u64, u64)>,
}

/// What each of the nodes sees.
pub(crate) fn views(walk: &Arc<Walk>) -> Vec<Arc<Mutex<View>>> {
    let view = |node| View {
        node,
        walk: walk.clone(),
        seen: vec![false; VISITORS * STEPS_MAX],
        sights: Vec::new(),
    };
    (0..=HOMES).map(|node| Arc::new(Mutex::new(view(node)))).collect()
}

/// Notes that a node sees a move now. What its own visitors do does not count.
pub(crate) fn see(view: &Mutex<View>, visitor: usize, step: usize) {
    let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
    if visitor >= VISITORS || step >= STEPS_MAX || home_of(visitor) == view.node {
        return;
    }
    let at = place(visitor, step);
    if std::mem::replace(&mut view.seen[at], true) {
        return;
    }
    view.walk.seen[at].fetch_add(1, Ordering::AcqRel);
    let sight = (view.walk.made[at].load(Ordering::Acquire), view.walk.nanos());
    view.sights.push(sight);
}

/// What came of a walk.
pub(crate) struct Walked {
    /// Moves that were made in the part that counts.
    pub(crate) moves: usize,
    /// Of the sights that there could be of those moves, how many there were: from 0 to 1.
    pub(crate) reached: f64,
    /// Sights in a second of that part, over all nodes.
    pub(crate) rate: f64,
    /// Milliseconds from making one of those moves to its being seen: the median.
    pub(crate) p50_ms: f64,
    /// The same of the slowest in a hundred.
    pub(crate) p99_ms: f64,
    /// Visitors whose last place a node did not see, once for each such node.
    pub(crate) last_missing: usize,
}

/// Waits until the walk is over and what was on its way has come. Says how much more was used at the
/// end of the part that counts than at its beginning.
pub(crate) async fn watched<const N: usize>(
    walk: &Walk,
    used: impl Fn() -> Result<[Duration; N], Fault>,
) -> Result<[Duration; N], Fault> {
    tokio::time::sleep(walk.until(WARM_UP)).await;
    let before = used()?;
    tokio::time::sleep(walk.until(WARM_UP + COUNTED)).await;
    let after = used()?;
    tokio::time::sleep(DRAIN).await;
    Ok(std::array::from_fn(|at| after[at].saturating_sub(before[at])))
}

/// Counts what was noted.
pub(crate) fn sum_up(walk: &Walk, views: &[Arc<Mutex<View>>]) -> Walked {
    let counts = |at: u64| (nanos(WARM_UP)..nanos(WARM_UP + COUNTED)).contains(&at);
    let made = walk.made.iter().map(|made| made.load(Ordering::Acquire));
    let moves = made.filter(|at| counts(*at)).count();
    let (mut took, mut seen_in_time, mut last_missing) = (Vec::new(), 0_usize, 0);
    for view in views {
        let view = view.lock().unwrap_or_else(PoisonError::into_inner);
        for (made, seen) in &view.sights {
            seen_in_time += usize::from(counts(*seen));
            if counts(*made) {
                took.push(seen.saturating_sub(*made));
            }
        }
        let others = (0..VISITORS).filter(|visitor| home_of(*visitor) != view.node);
        let unseen = |visitor: usize| {
            walk.last_of(visitor).is_some_and(|step| !view.seen[place(visitor, step)])
        };
        last_missing += others.filter(|visitor| unseen(*visitor)).count();
    }
    took.sort_unstable();
    let ms = |percent: usize| {
        took.get(took.len() * percent / 100).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    };
    Walked {
        moves,
        reached: took.len() as f64 / (moves * HOMES) as f64,
        rate: seen_in_time as f64 / COUNTED.as_secs_f64(),
        p50_ms: ms(50),
        p99_ms: ms(99),
        last_missing,
    }
}
