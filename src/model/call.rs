//! Calls, and jobs: the same seen as something that can be asked about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{AccountId, ElementId, Head, JobId, Json, Problem, ServerId, Timestamp, User, WorldId};

/// Time a call has where its caller does not say, in milliseconds.
pub const DEADLINE_DEFAULT_MS: u64 = 30_000;
/// Time a call may have at most, in milliseconds.
pub const DEADLINE_MAX_MS: u64 = 3_600_000;
/// Times that a step may run, ask and run again.
pub const ROUNDS_MAX: u32 = 8;
/// Questions that one call may ask.
pub const QUESTIONS_MAX: usize = 64;
/// Answers of one call, in bytes of JSON.
pub const ANSWERS_MAX: usize = 256 * 1024;

/// Who makes a call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Caller {
    /// Somebody of this server.
    Local {
        /// As which account, if as one.
        account: Option<AccountId>,
        /// Whether it is the operator.
        operator: bool,
    },
    /// Another server.
    Remote {
        /// Which: authenticated by its connection.
        server: ServerId,
        /// Whom it says it calls for. Gives nothing.
        claim: Option<AccountId>,
        /// The protection ids it showed, checked.
        presented: Vec<Presented>,
        /// The user it calls for, with the word of that user's home.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<User>,
    },
    /// This node itself, telling what it found out.
    Node,
}

impl Caller {
    /// The server that calls, if it is another.
    pub fn server(&self) -> Option<ServerId> {
        match self {
            Self::Remote { server, .. } => Some(*server),
            Self::Local { .. } | Self::Node => None,
        }
    }

    /// The user of another server for whom it is called.
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::Remote { user, .. } => user.as_ref(),
            Self::Local { .. } | Self::Node => None,
        }
    }

    /// The local account that acts.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Local { account, .. } => *account,
            Self::Remote { .. } | Self::Node => None,
        }
    }
}

/// A protection id that was checked on this connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Presented {
    /// The list it is for, as names are compared.
    pub list: String,
    /// Its hash.
    pub hash: [u8; 32],
}

/// What a root may still use up, with all that follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Budget {
    /// Events that may still be fired.
    pub events: u32,
    /// Script fuel left.
    pub fuel: u64,
    /// Servers that may still be passed on the way.
    pub hops: u8,
}

impl Budget {
    /// What a root has: 10,000 events, a second of script time, 16 servers on the way.
    pub const FULL: Self = Self { events: 10_000, fuel: 40_000_000, hops: 16 };
}

/// The first call of a cascade.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Root {
    /// The first call's job.
    pub job: JobId,
    /// The servers on the way from there, the first one first.
    pub path: Vec<ServerId>,
    /// What is left of its budget.
    pub budget: Budget,
}

/// One use of the API.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Call {
    /// Its job.
    pub id: JobId,
    /// The command's name.
    pub command: String,
    /// Who calls.
    pub caller: Caller,
    /// Its arguments, an object.
    pub args: Json,
    /// The world it is meant for, where one is named.
    pub world: Option<String>,
    /// Echoed untouched.
    pub meta: Json,
    /// Until when it is worth doing.
    pub deadline_at: Timestamp,
    /// The cascade it belongs to.
    pub root: Root,
    /// Where its outcome is told: only what an action sent has this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// An action, a right or a rule said no. Nothing changed.
    Refused,
    /// It could not be done. Nothing changed.
    Failed,
    /// It was handed over to another server, which has not answered. Settles by itself.
    Unknown,
}

impl Outcome {
    /// How a call ends that ended with this problem.
    pub fn of(problem: &Problem) -> Self {
        if problem.code.exit() == 5 { Self::Refused } else { Self::Failed }
    }

    /// The outcome's name in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Something a step must know from elsewhere before it can decide.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Question {
    /// A reading call at another server.
    Ask {
        /// Where.
        server: ServerId,
        /// The command.
        command: String,
        /// Its arguments.
        args: Json,
        /// How long to wait for it, where an old answer would do as well, in milliseconds.
        patience_ms: Option<u64>,
        /// The user for whom it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<ActsFor>,
        /// Whether an action asks: then it is for nobody, since the caller's rights are never lent.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_action: bool,
    },
    /// Who is the server that somebody calls by this name? Asked of the first peers' hellos.
    Meet(String),
    /// Which server is this account's home? Asked of the network.
    Find(AccountId),
    /// A yes or a no of a person here, or of a program with a key.
    Person {
        /// Who answers.
        owner: AccountId,
        /// What is asked, as one sentence.
        asks: String,
        /// The element whose action asks.
        #[serde(default)]
        about: Option<(WorldId, ElementId)>,
    },
}

/// A question with the place at which it came up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Need {
    /// The path of events and actions, and the count of that question there.
    pub place: String,
    /// What is asked.
    pub question: Question,
}

/// What came back for a question.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The question as it was asked: another one at its place starts the attempt again.
    pub question: Question,
    /// The result, or why there is none.
    pub result: Result<Json, Problem>,
}

/// Answers by place.
pub type Answers = BTreeMap<String, Answer>;

/// Something that is wanted done elsewhere, once.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Tell {
    /// Where.
    pub server: ServerId,
    /// The command.
    pub command: String,
    /// Its arguments.
    pub args: Json,
    /// For whom, as a claim.
    pub claim: Option<AccountId>,
    /// The cascade it belongs to.
    pub root: Root,
    /// Until when it is worth doing; none: whenever contact is made.
    pub deadline_at: Option<Timestamp>,
    /// The job that ends as this ends.
    pub job: Option<JobId>,
    /// The element that hears of the outcome, and by which event.
    pub reply_to: Option<ReplyTo>,
    /// The user for whom it is, with the token that says so where another server than theirs runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ActsFor>,
    /// Whether our word does not go along: an action tells it whose type is of somebody else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unvouched: bool,
}

/// A user for whom a server acts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ActsFor {
    /// The user.
    pub account: AccountId,
    /// Their home's token; none where their home runs the call itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<ByteBuf>,
}

/// Where the outcome of something told is sent as an event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The world.
    pub world: WorldId,
    /// The element.
    pub element: ElementId,
    /// The custom event; none: nothing of the element listens to the outcome.
    pub event: Option<String>,
    /// What to say of the call where it failed at another server and the element hears of that.
    #[serde(default)]
    pub error: Option<Json>,
}

/// Where a job stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum JobStatus {
    /// It is stored, and runs in a later turn.
    Waiting,
    /// It asked, and waits for answers.
    Asking {
        /// What it waits for.
        needs: Vec<Need>,
    },
    /// Its whole content was forwarded.
    Told {
        /// Where to.
        server: ServerId,
        /// The number in that lane.
        number: u64,
        /// Whether its deadline passed after it may have been handed over.
        unknown: bool,
    },
    /// It is over.
    Finished {
        /// How.
        outcome: Outcome,
        /// What it gave back, where it was done.
        result: Json,
        /// Why not, where it was not.
        problem: Option<Problem>,
        /// When.
        at: Timestamp,
    },
}

/// A call seen as something that can be asked about.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The call.
    pub call: Call,
    /// Where it stands.
    pub status: JobStatus,
    /// Time of its first run: fixed for all rounds.
    pub started_at: Timestamp,
    /// Seed of its randomness: fixed for all rounds, and forgotten at its end.
    #[serde(default, skip_serializing_if = "is_forgotten", with = "serde_bytes")]
    pub seed: [u8; 32],
    /// Rounds of asking so far.
    pub rounds: u32,
    /// Attempts begun anew because a question changed.
    pub attempts: u32,
    /// Answers so far.
    #[serde(default, skip_serializing_if = "Answers::is_empty")]
    pub answers: Answers,
    /// The number in its sender's lane, where another server told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What its scripts logged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
    /// What it changed, as far as another server that called may see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<Touched>,
    /// Its place among those that wait for a later turn: they run in this order, after a restart too.
    #[serde(default, skip_serializing_if = "is_none")]
    pub queued: u64,
}

const fn is_none(place: &u64) -> bool {
    *place == 0
}

fn is_forgotten(seed: &[u8; 32]) -> bool {
    *seed == [0; 32]
}

/// A value that a call changed, and the number of its feed then.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Touched {
    /// The world.
    pub world: WorldId,
    /// The element.
    pub element: ElementId,
    /// The attribute.
    pub attribute: String,
    /// The place in the feed that the caller may follow.
    pub head: Head,
}

/// What a server answered to something that it was told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// What it gave back, or why not.
    pub result: Result<Json, Problem>,
    /// What changed there.
    pub touched: Vec<Touched>,
}

impl Job {
    /// What it asks, if it asks.
    pub fn needs(&self) -> &[Need] {
        match &self.status {
            JobStatus::Asking { needs } => needs,
            JobStatus::Waiting | JobStatus::Told { .. } | JobStatus::Finished { .. } => &[],
        }
    }

    /// Its outcome as it is shown: unknown goes with started.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.status {
            JobStatus::Waiting | JobStatus::Asking { .. } => None,
            JobStatus::Told { unknown, .. } => unknown.then_some(Outcome::Unknown),
            JobStatus::Finished { outcome, .. } => Some(*outcome),
        }
    }

    /// Whether it is over.
    pub fn is_finished(&self) -> bool {
        matches!(self.status, JobStatus::Finished { .. })
    }

    /// The result, or the problem, of a finished job.
    pub fn result(&self) -> Option<Result<Json, Problem>> {
        match &self.status {
            JobStatus::Finished { problem: Some(problem), .. } => Some(Err(problem.clone())),
            JobStatus::Finished { result, .. } => Some(Ok(result.clone())),
            JobStatus::Waiting | JobStatus::Asking { .. } | JobStatus::Told { .. } => None,
        }
    }
}
