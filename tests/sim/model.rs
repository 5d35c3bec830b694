//! The second opinion: what every value must be, counted again from the calls alone, slowly and
//! plainly. It knows nothing of lanes, turns or stores, and shares only `model` with the node.

use std::collections::BTreeMap;
use std::fmt;

use freehold::model::{Code, JobId, Json, Outcome, Problem};

/// Values that calls change, of every element.
pub(crate) const ATTRIBUTES: [&str; 5] = ["count", "gathered", "sent", "landed", "replied"];

/// One number for each of [`ATTRIBUTES`].
pub(crate) type Values = [i64; ATTRIBUTES.len()];

/// Jobs that a store holds, with the result of those that ended.
pub(crate) type Records = BTreeMap<JobId, Option<Result<Json, Problem>>>;

/// An element of the simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Thing {
    /// The node that is its home.
    pub(crate) home: usize,
    /// Its number there.
    pub(crate) number: usize,
}

impl Thing {
    /// A number that no other element has; the element holds it as its `weight`.
    pub(crate) fn weight(self) -> i64 {
        i64::try_from(10 * (self.home + 1) + self.number + 1).unwrap()
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}/c{}", self.home + 1, self.number)
    }
}

/// What a call is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// Adds 1 to `count`, and answers with it.
    Step(Thing),
    /// Asks two others for their weight, and adds the first and twice the second to `gathered`.
    Gather {
        /// Who asks.
        by: Thing,
        /// Who is asked first.
        first: Thing,
        /// Who is asked beside it.
        second: Thing,
    },
    /// Sends an event: 1 more is `sent` here and `landed` there, and `replied` here by its reply.
    Post {
        /// Who sends.
        by: Thing,
        /// Who hears it.
        to: Thing,
    },
    /// It must be refused or fail, and change nothing.
    Nothing,
}

impl Wish {
    /// What it adds to the values of `thing` when it is done, and all that follows from it.
    fn adds_to(self, thing: Thing) -> Values {
        let is = |other: Thing| i64::from(other == thing);
        match self {
            Self::Step(of) => [is(of), 0, 0, 0, 0],
            Self::Gather { by, first, second } => {
                [0, is(by) * (first.weight() + 2 * second.weight()), 0, 0, 0]
            }
            Self::Post { by, to } => [0, 0, is(by), is(to), is(by)],
            Self::Nothing => [0; ATTRIBUTES.len()],
        }
    }

    /// The element whose `count` the answer tells.
    fn counts(self) -> Option<Thing> {
        match self {
            Self::Step(of) => Some(of),
            Self::Gather { first, .. } => Some(first),
            Self::Post { .. } | Self::Nothing => None,
        }
    }
}

/// What became of a call, as far as its caller was told.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// Nothing was heard yet.
    Open,
    /// It was handed over, and what became of it will be known later.
    Unknown,
    /// It was done, with this result.
    Done(Json),
    /// Somebody said no.
    Refused,
    /// It could not be done.
    Failed,
    /// Its node fell before it took the call.
    Lost,
}

#[derive(Debug)]
struct Expected {
    caller: usize,
    wish: Wish,
    fate: Fate,
    /// The highest count that anybody had been told of when the call was made.
    floor: i64,
    /// Whether its caller was told that it was taken.
    was_taken: bool,
    /// Whether its outcome was unknown for a time.
    was_unknown: bool,
}

impl Expected {
    fn is_open(&self) -> bool {
        match self.fate {
            Fate::Open | Fate::Unknown => true,
            Fate::Done(_) | Fate::Refused | Fate::Failed | Fate::Lost => false,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.fate, Fate::Done(_))
    }
}

/// How many calls ended how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    /// All of them.
    pub(crate) calls: u64,
    /// Done.
    pub(crate) done: u64,
    /// Refused.
    pub(crate) refused: u64,
    /// Failed, or lost with the node that was to take them.
    pub(crate) failed: u64,
    /// Of all these, those whose outcome was unknown for a time.
    pub(crate) unknown: u64,
}

/// Every call, and what its caller was told.
#[derive(Debug, Default)]
pub(crate) struct Model {
    calls: BTreeMap<JobId, Expected>,
}

/// A number in the result of an action.
fn number_in(result: &Json, name: &str) -> Option<i64> {
    result["result"][name].as_i64()
}

impl Model {
    /// Somebody at the node `caller` makes a call.
    pub(crate) fn called(&mut self, id: JobId, caller: usize, wish: Wish) {
        let floor = wish.counts().map_or(0, |of| self.highest_answer(of));
        let fate = Fate::Open;
        let expected = Expected { caller, wish, fate, floor, was_taken: false, was_unknown: false };
        self.calls.insert(id, expected);
    }

    /// The caller was told that its call was taken.
    pub(crate) fn taken(&mut self, id: JobId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.was_taken = true;
        }
    }

    /// The highest count that a step of `thing` was answered with.
    fn highest_answer(&self, thing: Thing) -> i64 {
        self.answers(thing).into_iter().map(|(_, answer)| answer).max().unwrap_or(0)
    }

    /// The counts that steps of `thing` were answered with.
    fn answers(&self, thing: Thing) -> Vec<(&Expected, i64)> {
        let steps = self.calls.values().filter_map(|call| match (call.wish, &call.fate) {
            (Wish::Step(of), Fate::Done(result)) if of == thing => {
                Some((call, number_in(result, "count").unwrap_or(-1)))
            }
            _ => None,
        });
        steps.collect()
    }

    /// The caller was told how its call ended, or that this is not known yet. Jobs that nobody
    /// called for are none of ours.
    pub(crate) fn ended(
        &mut self,
        id: JobId,
        result: &Result<Json, Problem>,
    ) -> Result<(), String> {
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        if !call.is_open() {
            return Err(format!("{call:?} has ended, and ended again with {result:?}"));
        }
        call.fate = match result {
            Ok(json) => Fate::Done(json.clone()),
            Err(problem) if problem.code == Code::OutcomeUnknown => Fate::Unknown,
            Err(problem) if Outcome::of(problem) == Outcome::Refused => Fate::Refused,
            Err(_) => Fate::Failed,
        };
        call.was_unknown |= matches!(call.fate, Fate::Unknown);
        if call.is_done() && matches!(call.wish, Wish::Nothing) {
            return Err(format!("what must not be done was done: {call:?}"));
        }
        Ok(())
    }

    /// Compares with what a store holds after its node has fallen: what was told to callers must
    /// be there, and what nobody took must not. Settles what callers were not told.
    pub(crate) fn restarted(&mut self, caller: usize, records: &Records) -> Result<(), String> {
        self.compare_records(caller, records)?;
        let open: Vec<JobId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.caller == caller && call.is_open())
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            match records.get(&id) {
                Some(Some(result)) => self.ended(id, result)?,
                Some(None) => {}
                None => self.lost(id)?,
            }
        }
        Ok(())
    }

    fn lost(&mut self, id: JobId) -> Result<(), String> {
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        if call.was_taken {
            return Err(format!("a call that was taken is gone: {call:?}"));
        }
        call.fate = Fate::Lost;
        Ok(())
    }

    /// Compares what callers were told with what their node has stored of it.
    pub(crate) fn compare_records(&self, caller: usize, records: &Records) -> Result<(), String> {
        for (id, call) in self.calls.iter().filter(|(_, call)| call.caller == caller) {
            let held = records.get(id);
            let agree = match (&call.fate, held) {
                (Fate::Open, _) | (Fate::Unknown, Some(_)) | (Fate::Lost, None) => true,
                (Fate::Done(result), Some(Some(Ok(stored)))) => stored == result,
                (Fate::Refused | Fate::Failed, Some(Some(Err(_)))) => true,
                (
                    Fate::Unknown | Fate::Done(_) | Fate::Refused | Fate::Failed | Fate::Lost,
                    Some(_) | None,
                ) => false,
            };
            if !agree {
                return Err(format!("{id}: expected {call:?}, and the store holds {held:?}"));
            }
        }
        Ok(())
    }

    /// What the calls that `counts` picks add to the values of `thing`.
    fn sum(&self, thing: Thing, counts: impl Fn(&Expected) -> bool) -> Values {
        let mut sum = [0; ATTRIBUTES.len()];
        for call in self.calls.values().filter(|call| counts(call)) {
            for (sum, adds) in sum.iter_mut().zip(call.wish.adds_to(thing)) {
                *sum += adds;
            }
        }
        sum
    }

    /// Compares the values of an element while calls are open: what was answered is there, and no
    /// more than what was called.
    pub(crate) fn compare(&self, thing: Thing, seen: Values) -> Result<(), String> {
        let mut least = self.sum(thing, Expected::is_done);
        // What was sent may still be on its way, and so may its reply.
        least[3..].fill(0);
        let most = self.sum(thing, |call| call.is_done() || call.is_open());
        for (at, name) in ATTRIBUTES.iter().enumerate() {
            if seen[at] < least[at] || seen[at] > most[at] {
                let (seen, least, most) = (seen[at], least[at], most[at]);
                return Err(format!("{thing}: {name} is {seen}, expected {least} to {most}"));
            }
        }
        Ok(())
    }

    /// Compares the values of an element when nothing is open any more.
    pub(crate) fn compare_at_rest(&self, thing: Thing, seen: Values) -> Result<(), String> {
        let want = self.sum(thing, Expected::is_done);
        for (at, name) in ATTRIBUTES.iter().enumerate() {
            if seen[at] != want[at] {
                let (seen, want) = (seen[at], want[at]);
                return Err(format!("{thing}: {name} is {seen} at rest, expected {want}"));
            }
        }
        Ok(())
    }

    /// Compares the answers of the steps of one element: all are different, none is missing, and
    /// whoever called later than others were answered was answered with more.
    pub(crate) fn compare_answers(&self, thing: Thing) -> Result<(), String> {
        let answers = self.answers(thing);
        for (call, answer) in &answers {
            if *answer <= call.floor {
                return Err(format!("{thing}: it went back in time: {call:?}"));
            }
        }
        let mut counts: Vec<i64> = answers.into_iter().map(|(_, answer)| answer).collect();
        counts.sort_unstable();
        if !counts.iter().copied().eq((1..).take(counts.len())) {
            return Err(format!("{thing}: steps were answered with {counts:?}"));
        }
        Ok(())
    }

    /// Compares what was gathered: each question has its own answer, and no answer is older than
    /// what anybody knew when the call was made.
    pub(crate) fn compare_gathered(&self) -> Result<(), String> {
        for call in self.calls.values() {
            let (Wish::Gather { first, second, .. }, Fate::Done(result)) = (call.wish, &call.fate)
            else {
                continue;
            };
            let seen = number_in(result, "seen").unwrap_or(-1);
            let all = self.sum(first, Expected::is_done)[0];
            let own = number_in(result, "first") == Some(first.weight())
                && number_in(result, "second") == Some(second.weight());
            if !own || seen < call.floor || seen > all {
                return Err(format!("{first} has {all}, {call:?} has other answers"));
            }
        }
        Ok(())
    }

    /// One of the calls that have not ended.
    pub(crate) fn open_call(&self) -> Option<String> {
        self.calls
            .iter()
            .find(|(_, call)| call.is_open())
            .map(|(id, call)| format!("{id}: {call:?}"))
    }

    /// Counts the outcomes.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for call in self.calls.values() {
            tally.calls += 1;
            tally.unknown += u64::from(call.was_unknown);
            match call.fate {
                Fate::Done(_) => tally.done += 1,
                Fate::Refused => tally.refused += 1,
                Fate::Failed | Fate::Lost => tally.failed += 1,
                Fate::Open | Fate::Unknown => {}
            }
        }
        tally
    }
}
