//! The gate: what a caller may do with a thing of ours, by level, group and bond.

use crate::model::{Bond, Code, Level, Presented, Problem, Protection, ProtectionState};

/// What a caller is to the thing it asks about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// Its owner, at home.
    Owner,
    /// Somebody else of this server.
    Here,
    /// A server on the list of the thing's type, proven.
    Listed,
    /// Any other server.
    Stranger,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Here, Self::Listed, Self::Stranger];

    /// Whether it is somebody of another server.
    pub const fn is_remote(self) -> bool {
        match self {
            Self::Owner | Self::Here => false,
            Self::Listed | Self::Stranger => true,
        }
    }
}

/// A level and who within it: who has a right.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Right {
    /// How far away.
    pub level: Level,
    /// Whether it is the owner's alone.
    pub owner_only: bool,
}

/// Decides whether somebody of this standing has the right.
pub const fn may(right: Right, standing: Standing) -> bool {
    match (right.owner_only, right.level, standing) {
        (_, _, Standing::Owner) => true,
        (true, _, Standing::Here | Standing::Listed | Standing::Stranger) => false,
        (false, _, Standing::Here) => true,
        (false, Level::Private, Standing::Listed | Standing::Stranger) => false,
        (false, Level::Protected, Standing::Listed) => true,
        (false, Level::Protected, Standing::Stranger) => false,
        (false, Level::Public, Standing::Listed | Standing::Stranger) => true,
    }
}

/// Why a caller may not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// For another server there is nothing of this name.
    NotOffered,
    /// The server sees the thing; this right is for servers on the list.
    NotListed,
    /// The account has no such right.
    NotPermitted,
}

/// What somebody without a right is told. `seen` says whether they may see the thing at all.
pub const fn refusal(right: Right, standing: Standing, seen: bool) -> Refusal {
    match (standing, right.owner_only, right.level, seen) {
        (Standing::Owner | Standing::Here, _, _, _) => Refusal::NotPermitted,
        (Standing::Stranger, false, Level::Protected, true) => Refusal::NotListed,
        (Standing::Listed | Standing::Stranger, _, _, _) => Refusal::NotOffered,
    }
}

/// A problem as another server is told it: what an action refuses with is for its caller, but how a
/// script failed names what may be private.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these few say how a script is made")]
pub fn outward(problem: Problem) -> Problem {
    let says = match problem.code {
        Code::ScriptFailed => "an action of the element failed",
        Code::ScriptBudget => "an action of the element used up what it may",
        Code::Damaged | Code::Internal => "something is wrong at that server",
        _ => return problem,
    };
    Problem::new(problem.code, says)
}

/// What joins us to a server for one of our lists: the row decides, and the id it shows must be
/// the one that we issued.
pub fn bond(row: Option<&Protection>, presented: &[Presented]) -> Bond {
    let Some(row) = row else { return Bond::Stranger };
    let shown = presented
        .iter()
        .any(|presented| presented.list == row.list.key() && presented.hash == row.issued);
    match row.state {
        ProtectionState::Active if shown => Bond::Proven,
        ProtectionState::Active
        | ProtectionState::Asked
        | ProtectionState::Denied
        | ProtectionState::Dropped => Bond::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Name, ServerId, Timestamp};

    #[test]
    fn every_level_and_group_meets_every_standing() {
        use Level::*;
        let table = [
            (Private, true, [true, false, false, false]),
            (Protected, true, [true, false, false, false]),
            (Public, true, [true, false, false, false]),
            (Private, false, [true, true, false, false]),
            (Protected, false, [true, true, true, false]),
            (Public, false, [true, true, true, true]),
        ];
        for (level, owner_only, wants) in table {
            for (standing, want) in Standing::ALL.into_iter().zip(wants) {
                assert_eq!(
                    may(Right { level, owner_only }, standing),
                    want,
                    "{level:?} {owner_only} {standing:?}"
                );
            }
        }
    }

    #[test]
    fn only_who_sees_a_thing_is_told_of_the_list() {
        let protected = Right { level: Level::Protected, owner_only: false };
        let private = Right { level: Level::Private, owner_only: false };

        assert_eq!(refusal(protected, Standing::Stranger, true), Refusal::NotListed);
        assert_eq!(refusal(protected, Standing::Stranger, false), Refusal::NotOffered);
        assert_eq!(refusal(private, Standing::Stranger, true), Refusal::NotOffered);
        assert_eq!(refusal(private, Standing::Here, true), Refusal::NotPermitted);
    }

    #[test]
    fn only_an_active_row_and_the_id_that_we_issued_prove_a_bond() {
        let shown = |list: &str, hash| vec![Presented { list: list.to_owned(), hash: [hash; 32] }];
        let row = |state| Protection {
            list: Name::new("family").unwrap(),
            server: ServerId::from_bytes([1; 16]),
            state,
            issued: [7; 32],
            held: Vec::new(),
            since: Timestamp::from_ms(0),
        };
        let active = row(ProtectionState::Active);
        assert_eq!(bond(Some(&active), &shown("family", 7)), Bond::Proven);
        assert_eq!(bond(Some(&active), &shown("friends", 7)), Bond::Stranger);
        assert_eq!(bond(Some(&active), &shown("family", 8)), Bond::Stranger);
        assert_eq!(bond(Some(&active), &[]), Bond::Stranger);
        assert_eq!(bond(None, &shown("family", 7)), Bond::Stranger);
        for state in [ProtectionState::Asked, ProtectionState::Denied, ProtectionState::Dropped] {
            assert_eq!(bond(Some(&row(state)), &shown("family", 7)), Bond::Stranger);
        }
    }
}
