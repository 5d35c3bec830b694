//! The queue: fair between classes by weight, within a class between servers, within a server
//! between accounts.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{AccountId, Code, Problem, ServerId};

/// Calls that wait at most.
pub const QUEUE_MAX: usize = 8_192;
/// Inputs that wait at most, where the node's own come on top.
const NODE_MAX: usize = 4 * QUEUE_MAX;
/// Calls of one server or one local account that wait at most.
const WAITING_MAX: usize = 2_048;
/// When a caller that found the queue full may try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 200;

/// Whose calls are taken together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// The node itself: always first.
    Node,
    /// People here.
    Own,
    /// Servers on one of our lists.
    Protected,
    /// Any other server.
    Public,
}

impl Class {
    const IN_ROUNDS: [Self; 3] = [Self::Own, Self::Protected, Self::Public];

    /// How many of its calls are taken in one round.
    const fn weight(self) -> usize {
        match self {
            Self::Node | Self::Own => 8,
            Self::Protected => 4,
            Self::Public => 2,
        }
    }
}

type Line<T> = VecDeque<T>;
type Servers<T> = Ring<Option<ServerId>, Ring<Option<AccountId>, Line<T>>>;
type Ring<K, V> = (BTreeMap<K, V>, Option<K>);

/// Waiting calls.
#[derive(Debug)]
pub struct Queue<T> {
    classes: BTreeMap<Class, Servers<T>>,
    length: usize,
    rounds: VecDeque<Class>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { classes: BTreeMap::new(), length: 0, rounds: VecDeque::new() }
    }
}

/// The key after the last one taken, in a ring.
fn following<K: Ord + Clone, V>(ring: &Ring<K, V>) -> Option<K> {
    let (members, last) = ring;
    let after = last.as_ref().and_then(|last| {
        members.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded)).next()
    });
    after.or_else(|| members.iter().next()).map(|(key, _)| key.clone())
}

impl<T> Queue<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Lets a call wait.
    ///
    /// # Errors
    /// `busy`, and when to try again; with what was to wait.
    pub(super) fn push(
        &mut self,
        class: Class,
        server: Option<ServerId>,
        account: Option<AccountId>,
        item: T,
    ) -> Result<(), (T, Problem)> {
        // A refused call leaves nothing behind: an empty line would take a turn of its own.
        let servers = self.classes.get(&class);
        let line = servers.and_then(|servers| servers.0.get(&server)?.0.get(&account));
        let full = match class {
            // What the node found out is lost if it is not taken; it comes from what it began itself.
            Class::Node => self.length >= NODE_MAX,
            Class::Own | Class::Protected | Class::Public => {
                self.length >= QUEUE_MAX || line.is_some_and(|line| line.len() >= WAITING_MAX)
            }
        };
        if full {
            let problem = Problem::new(Code::Busy, "too many calls wait already")
                .hint("try again in a moment")
                .with("retry_after_ms", RETRY_AFTER_MS);
            return Err((item, problem));
        }
        let accounts = &mut self.classes.entry(class).or_default().0.entry(server).or_default().0;
        accounts.entry(account).or_default().push_back(item);
        self.length += 1;
        Ok(())
    }

    /// Takes the next call.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.length == 0 {
            return None;
        }
        // What the node itself found out is small, and what comes after it may depend on it.
        if let Some(item) = self.pop_from(Class::Node) {
            self.length -= 1;
            return Some(item);
        }
        // Twice: the round at hand may hold only classes from which nothing waits.
        for _ in 0..2 {
            while let Some(class) = self.rounds.front().copied() {
                if let Some(item) = self.pop_from(class) {
                    self.rounds.pop_front();
                    self.length -= 1;
                    return Some(item);
                }
                self.rounds.retain(|other| *other != class);
            }
            for class in Class::IN_ROUNDS {
                self.rounds.extend(std::iter::repeat_n(class, class.weight()));
            }
        }
        None
    }

    fn pop_from(&mut self, class: Class) -> Option<T> {
        let servers = self.classes.get_mut(&class)?;
        let server = following(servers)?;
        let accounts = servers.0.get_mut(&server)?;
        let account = following(accounts)?;
        let line = accounts.0.get_mut(&account)?;
        let item = line.pop_front();
        if line.is_empty() {
            accounts.0.remove(&account);
        }
        accounts.1 = Some(account);
        if accounts.0.is_empty() {
            servers.0.remove(&server);
        }
        servers.1 = Some(server);
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_does_not_keep_own_people_waiting() {
        let mut queue = Queue::default();
        for number in 0..100 {
            queue.push(Class::Public, Some(server(1)), None, ("stranger", number)).unwrap();
        }
        queue.push(Class::Own, None, None, ("own", 0)).unwrap();

        let first: Vec<_> = (0..3).filter_map(|_| queue.pop()).map(|(who, _)| who).collect();

        assert!(first.contains(&"own"), "{first:?}");
    }

    #[test]
    fn servers_of_one_class_take_turns_and_each_keeps_its_order() {
        let mut queue = Queue::default();
        for number in 0..3 {
            queue.push(Class::Public, Some(server(1)), None, (1, number)).unwrap();
        }
        queue.push(Class::Public, Some(server(2)), None, (2, 0)).unwrap();

        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();

        assert_eq!(taken, [(1, 0), (2, 0), (1, 1), (1, 2)]);
    }

    #[test]
    fn what_cannot_be_taken_is_refused_at_once() {
        let mut queue = Queue::default();
        let pushed = (0..=WAITING_MAX).map(|number| queue.push(Class::Own, None, None, number));
        let refused: Vec<_> = pushed.filter_map(Result::err).collect();

        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].1.code, Code::Busy);
    }

    fn server(number: u8) -> ServerId {
        ServerId::from_bytes([number; 16])
    }
}
