//! What a step wants of other servers: it asks before it decides, and tells once it is committed.

use std::sync::Arc;

use super::{Halt, Step};
use crate::model::{
    AccountId, ActsFor, Answer, CachedValue, Caller, Code, Damaged, Json, Key, Need, Problem,
    Question, Root, Row, ServerId, Snapshot, Tell, Touched,
};

impl Step<'_> {
    /// The answer to a question, if it is there; else notes that it is needed.
    ///
    /// # Errors
    /// It must be asked first, or another one was asked at this place.
    pub fn question(
        &mut self,
        about: &str,
        question: Question,
    ) -> Result<Result<Json, Problem>, Halt> {
        if self.beside > 0 {
            let says = "who hears what happens beside it asks nobody";
            return Err(Problem::new(Code::NotPermitted, says).into());
        }
        let place = self.place_of(about);
        match self.answers.get(&place) {
            Some(Answer { question: asked, result }) if *asked == question => Ok(result.clone()),
            Some(_) => Err(Halt::Changed),
            None => {
                self.need(Need { place, question })?;
                Err(Halt::Needs)
            }
        }
    }

    /// Lets what is asked and told from here on be for a user of another server.
    pub fn act_for(&mut self, user: ActsFor) {
        self.acts_for = Some(user);
    }

    /// Asks a reading command of another server. `about` says what the question is about, so that
    /// it is known again when the step runs once more.
    ///
    /// # Errors
    /// As [`Step::question`].
    pub fn ask_server(
        &mut self,
        server: ServerId,
        command: &str,
        about: &str,
        args: Json,
        patience_ms: Option<u64>,
    ) -> Result<Result<Json, Problem>, Halt> {
        let about = format!("{server} {command} {about}");
        let question = Question::Ask {
            server,
            command: command.to_owned(),
            args,
            patience_ms,
            user: self.acts_for.clone(),
            by_action: !self.scope.is_empty(),
        };
        self.question(&about, question)
    }

    /// Ends the step: the call is forwarded as it is, and ends as it ends there.
    ///
    /// # Errors
    /// The root has no hops left.
    pub fn forward(&self, server: ServerId, command: &str, args: Json) -> Result<Halt, Halt> {
        let mut tell = self.tell_of(server, command, args)?;
        tell.job = Some(self.call.id);
        // Who is patient waits for as long as the other server is away.
        let is_patient = self.arg("patient") == &Json::Bool(true);
        tell.deadline_at = (!is_patient).then_some(self.call.deadline_at);
        Ok(Halt::Forward(Box::new(tell)))
    }

    /// What a tell of this step looks like.
    ///
    /// # Errors
    /// The root has no hops left.
    pub fn tell_of(&self, server: ServerId, command: &str, args: Json) -> Result<Tell, Halt> {
        let Some(hops) = self.budget.hops.checked_sub(1) else {
            let path: Vec<String> = self.call.root.path.iter().map(ToString::to_string).collect();
            let says = format!("the call passed too many servers: {}", path.join(" > "));
            return Err(Problem::new(Code::ScriptBudget, says).into());
        };
        let mut path = self.call.root.path.clone();
        path.push(self.setting.us);
        let budget = crate::model::Budget { hops, ..self.budget };
        Ok(Tell {
            server,
            command: command.to_owned(),
            args,
            claim: match &self.call.caller {
                Caller::Local { account, .. } => *account,
                Caller::Remote { .. } | Caller::Node => None,
            },
            root: Root { job: self.call.root.job, path, budget },
            deadline_at: None,
            job: None,
            reply_to: None,
            user: self.acts_for.clone(),
            is_unvouched: false,
        })
    }
}

/// Copies of a remote value that are outdated by what happened at `touched.head`, marked as such.
///
/// # Errors
/// One of them is damaged.
pub fn outdated(
    snapshot: &dyn Snapshot,
    server: ServerId,
    touched: &Touched,
) -> Result<Vec<(Key, Row)>, Damaged> {
    let first = Key::CachedValue(server, touched.element, None, String::new());
    let all = Some(AccountId::from_bytes([0xff; 16]));
    let last = Key::CachedValue(server, touched.element, all, "\u{10ffff}".to_owned());
    let mut marked = Vec::new();
    for (key, row) in snapshot.rows(&first, &last, COPIES_MAX)? {
        let (Key::CachedValue(_, _, _, named), Row::CachedValue(held)) = (&key, &row) else {
            continue;
        };
        let older = held.head.log != touched.head.log || held.head.seq < touched.head.seq;
        if *named == touched.attribute && older && !held.outdated {
            let outdated = CachedValue { outdated: true, ..held.as_ref().clone() };
            marked.push((key, Row::CachedValue(Arc::new(outdated))));
        }
    }
    Ok(marked)
}

/// Copies of one element that are looked at.
const COPIES_MAX: usize = 1_000;
