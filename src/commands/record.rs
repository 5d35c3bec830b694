//! Records of accounts as servers show them to each other: the newest, and those that lead to it.

use serde_json::json;

use crate::model::{
    Account, AccountId, Code, Json, Name, Problem, Server, SignedRecord, Snapshot, hex, unhex,
};
use crate::step::{Halt, Step};
use crate::trust::{CHAIN_MAX, Record, Verified, VerifyRecordError, decode_record};

/// The records of an account of ours as they are sent: oldest first, hex, with commas between.
pub(super) fn text(account: &Account) -> String {
    let records = account.earlier.iter().chain([&account.record]);
    records.map(|record| hex(&record.0)).collect::<Vec<_>>().join(",")
}

/// The same by the account's id; null where it is none of ours.
pub(super) fn of(step: &Step<'_>, account: AccountId) -> Result<Json, Halt> {
    Ok(json!(step.stored().account(account)?.map(|account| text(&account))))
}

/// Records that came as [`text`]. At least one.
pub(super) fn parse(text: &str) -> Result<Vec<SignedRecord>, Problem> {
    let bad = |says: &str| Problem::new(Code::Usage, format!("the records are {says}"));
    if text.split(',').count() > CHAIN_MAX + 1 {
        return Err(bad("too many"));
    }
    let records = text.split(',').map(|part| unhex(part).filter(|bytes| !bytes.is_empty()));
    records.map(|bytes| bytes.map(SignedRecord).ok_or_else(|| bad("no hex"))).collect()
}

/// Who a user of another server is, by records that hold.
pub(super) struct Proven {
    pub(super) account: AccountId,
    /// What their home calls them.
    pub(super) name: Name,
    pub(super) newest: SignedRecord,
}

/// Who a user at home on a server is, by the records in an argument.
pub(super) fn of_user(step: &Step<'_>, home: &Server, argument: &str) -> Result<Proven, Halt> {
    let refused = |says: String| Halt::from(Problem::new(Code::Refused, says));
    let records = parse(step.word(argument))?;
    let Some((newest, earlier)) = records.split_last() else {
        return Err(refused("the user has no record".to_owned()));
    };
    let verified = if *newest == home.record {
        // A server's own account has the server's record, which was verified when it was met.
        decode_record(newest).map(Verified::stored)
    } else {
        verified(step.stored(), earlier, newest)
    };
    let verified = verified.map_err(|error| refused(format!("the user's record: {error}")))?;
    let said = verified.record();
    let account = if said.server_id() == Some(home.id) {
        Some(AccountId::of_server(home.id))
    } else {
        said.account_id().filter(|_| said.home == Some(home.id))
    };
    let account = account
        .ok_or_else(|| refused("the record is of somebody who is at home elsewhere".to_owned()))?;
    Ok(Proven { account, name: said.name.clone(), newest: newest.clone() })
}

/// Verifies an account's newest record by those before it, and by what is known here: an old one never
/// wins.
pub(super) fn verified(
    stored: &dyn Snapshot,
    earlier: &[SignedRecord],
    newest: &SignedRecord,
) -> Result<Verified, VerifyRecordError> {
    let id = decode_record(newest)?.account_id();
    let held = id.and_then(|id| newest_held(stored, id));
    Verified::by_chain(earlier, newest, held.as_ref())
}

/// The newest record of another server's account that is known here, as a copy or as a user's.
pub(super) fn newest_held(stored: &dyn Snapshot, id: AccountId) -> Option<Record> {
    let copy = stored.cached_account(id).ok().flatten();
    let user = stored.visitor(id).ok().flatten();
    let records = copy.map(|copy| copy.record.clone()).into_iter();
    let records = records.chain(user.and_then(|user| user.record.clone()));
    let known = records.filter_map(|record| decode_record(&record).ok());
    known.reduce(|one, other| if other.is_newer_than(&one) { other } else { one })
}
