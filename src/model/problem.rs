//! What went wrong, for programs (a code), for people (a sentence and a hint), for the log (the rest).

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $exit:literal;)*) => {
        /// What kind of problem it is. Programs decide by this alone.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code's name, as it stands in answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it (RFC 9110).
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The exit code of a command line that ends with it.
            pub const fn exit(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }

            /// The code with this name.
            pub fn named(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

codes! {
    /// A type file has mistakes.
    BadType = "bad_type", 422, 1;
    /// A script ended with an error of its own.
    ScriptFailed = "script_failed", 422, 1;
    /// A script, or all scripts of a root, used up a budget.
    ScriptBudget = "script_budget", 422, 1;
    /// The store takes no changes at present.
    ReadOnly = "read_only", 503, 1;
    /// Something stored does not match its checksum.
    Damaged = "damaged", 500, 1;
    /// A fault of the node itself.
    Internal = "internal", 500, 1;
    /// The words of the call do not fit together.
    Usage = "usage", 400, 2;
    /// No command has this name.
    UnknownCommand = "unknown_command", 400, 2;
    /// The command has no such field, or the thing no such key.
    UnknownField = "unknown_field", 400, 2;
    /// A value of another kind was expected, or one within other limits.
    WrongKind = "wrong_kind", 400, 2;
    /// The body is not what the route takes.
    BadBody = "bad_body", 400, 2;
    /// Several things fit the name.
    Ambiguous = "ambiguous", 400, 2;
    /// The JSON is nested deeper than allowed.
    TooDeep = "too_deep", 400, 2;
    /// The body is larger than allowed.
    TooLarge = "too_large", 413, 2;
    /// The body is of another media type.
    WrongMedia = "wrong_media", 415, 2;
    /// No node runs on this home.
    NoNode = "no_node", 503, 3;
    /// The server could not be reached before the deadline; nothing was handed over.
    PeerUnreachable = "peer_unreachable", 503, 3;
    /// Another peer answered at that address.
    WrongPeer = "wrong_peer", 502, 3;
    /// The peer is of another network, or of a version that shares no protocol with ours.
    WrongNetwork = "wrong_network", 502, 3;
    /// Nothing has this name here.
    NotFound = "not_found", 404, 4;
    /// An action refused, and said why.
    Refused = "refused", 403, 5;
    /// Another server offers nothing of this name to us.
    NotOffered = "not_offered", 403, 5;
    /// The thing is offered, but this right is for servers on its list.
    NotListed = "not_listed", 403, 5;
    /// The acting account has no such right.
    NotPermitted = "not_permitted", 403, 5;
    /// The calling server is denied or paused.
    ServerDenied = "server_denied", 403, 5;
    /// The request names another host than ours.
    BadHost = "bad_host", 403, 5;
    /// The request comes from a page of another origin.
    BadOrigin = "bad_origin", 403, 5;
    /// No key, or one that is not known.
    NoKey = "no_key", 401, 5;
    /// The deadline passed before it was done.
    TimedOut = "timed_out", 504, 6;
    /// It was handed over, and no answer came yet.
    OutcomeUnknown = "outcome_unknown", 504, 6;
    /// More calls than the limit allows.
    OverLimit = "over_limit", 429, 7;
    /// Not at this time of day.
    OutsideSchedule = "outside_schedule", 429, 7;
    /// The queue is full.
    Busy = "busy", 503, 7;
    /// It contradicts what is there.
    Conflict = "conflict", 409, 8;
    /// The type has elements, so this may not change.
    TypeInUse = "type_in_use", 409, 8;
    /// The name is taken.
    NameTaken = "name_taken", 409, 8;
    /// The address is in use.
    AddressInUse = "address_in_use", 409, 8;
    /// A node runs on this home already.
    AlreadyRunning = "already_running", 409, 8;
}

/// A problem as its reader sees it: `says` and `hint` for people, `code` for programs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What kind it is.
    pub code: Code,
    /// One sentence, lower case, no full stop.
    pub says: String,
    /// What the reader could do next.
    pub hint: Option<String>,
    /// More for programs: `tries`, `retry_after_ms`, `places`, `job`; an object or null.
    pub more: super::Json,
}

impl Problem {
    /// A problem with a sentence and nothing else.
    pub fn new(code: Code, says: impl Into<String>) -> Self {
        Self { code, says: says.into(), hint: None, more: super::Json::Null }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one more member for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<super::Json>) -> Self {
        if !self.more.is_object() {
            self.more = super::Json::Object(serde_json::Map::new());
        }
        self.more[key] = value.into();
        self
    }

    /// Renders it as an RFC 9457 object.
    pub fn to_json(&self) -> super::Json {
        let mut json = serde_json::json!({
            "type": "about:blank",
            "title": self.code.as_str().replace('_', " "),
            "status": self.code.status(),
            "code": self.code.as_str(),
            "detail": self.says,
            "hint": self.hint,
            "exit": self.code.exit(),
        });
        if let (Some(object), super::Json::Object(more)) = (json.as_object_mut(), &self.more) {
            for (key, value) in more {
                object.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        json
    }

    /// Reads what [`Problem::to_json`] made; what is missing is filled in as `internal`.
    pub fn from_json(json: &super::Json) -> Self {
        let text = |key: &str| json.get(key).and_then(super::Json::as_str).map(str::to_owned);
        let code = text("code").and_then(|code| Code::named(&code)).unwrap_or(Code::Internal);
        let known = ["type", "title", "status", "code", "detail", "hint", "exit"];
        let mut problem = Self::new(code, text("detail").unwrap_or_else(|| json.to_string()));
        problem.hint = text("hint");
        for (key, value) in json.as_object().into_iter().flatten() {
            if !known.contains(&key.as_str()) {
                problem = problem.with(key, value.clone());
            }
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_survives_its_json() {
        let problem = Problem::new(Code::NotListed, "no").hint("ask").with("retry_after_ms", 5);

        assert_eq!(Problem::from_json(&problem.to_json()), problem);
    }

    #[test]
    fn every_code_has_a_name_of_its_own_and_an_exit_of_the_contract() {
        for code in Code::ALL {
            assert_eq!(Code::named(code.as_str()), Some(*code));
            assert!((1..=8).contains(&code.exit()), "{code:?}");
        }
    }
}
