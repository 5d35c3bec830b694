//! Who this node is: its key, its record, and this life of its store. Made at the first start, changed
//! while the node is stopped.

use std::path::Path;
use std::sync::Arc;

use bip39::Mnemonic;
use tracing::warn;

use super::clock;
use super::home::{Home, HomeError};
use super::hub::Known;
use super::start::{StartError, open_store};
use crate::model::{
    Account, AccountId, Changes, Code, Damaged, Incarnation, Job, JobId, JobStatus, Json, Key,
    Name, Outbox, Outcome, Problem, Row, ServerId, SignedRecord, Snapshot,
};
use crate::store::Store;
use crate::trust::{CHAIN_MAX, Inception, KeyPair, Record, RecordKind, decode_record, leading};

/// Who this node is: as stored, else made now.
pub(super) fn identity(
    home: &Home,
    store: &Store,
    name: Option<String>,
) -> Result<(crate::model::Node, KeyPair), StartError> {
    let view = store.view()?;
    let held = (&view as &dyn Snapshot).node()?;
    let keys = match &held {
        Some(node) => finish_rekey(home, node)?,
        None => home.identity()?,
    };
    match (held, keys) {
        (Some(node), Some(keys)) => {
            let record = decode_record(&node.record)
                .map_err(|error| StartError::Other(error.to_string()))?;
            if record.key != keys.public() {
                return Err(StartError::Other(
                    "identity.key is not the key of this home.redb".to_owned(),
                ));
            }
            checked_mark(home, store, &view, node.as_ref().clone()).map(|node| (node, keys))
        }
        (Some(_), None) => Err(StartError::Other(format!(
            "{} is missing, and home.redb belongs to it",
            home.path().join("identity.key").display()
        ))),
        (None, keys) => first_start(home, store, keys, name),
    }
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Other(error.to_string()))?;
    Ok(bytes)
}

fn first_start(
    home: &Home,
    store: &Store,
    keys: Option<KeyPair>,
    name: Option<String>,
) -> Result<(crate::model::Node, KeyPair), StartError> {
    let name = match name {
        Some(name) => Name::new(&name)
            .map_err(|mistake| StartError::Setting(format!("--name '{name}': {mistake}")))?,
        None => host_name(),
    };
    let keys = match keys {
        Some(keys) => keys,
        None => {
            let keys = KeyPair::from_seed(&random()?);
            home.write("identity.key", &keys.seed())?;
            keys
        }
    };
    let recovery_hash = write_recovery(home, RECOVERY)?;
    let inception =
        Inception { kind: RecordKind::Server, key: keys.public(), recovery_hash, nonce: random()? };
    let record = Record::first(inception, name.clone(), None);
    let Some(server) = record.server_id() else {
        return Err(StartError::Other("the record is no server's".to_owned()));
    };
    let incarnation = Incarnation::at(clock::now(), random()?);
    let node = crate::model::Node {
        server,
        name,
        record: record.sign(&keys),
        recovery_hash,
        incarnation,
        earlier: Vec::new(),
        is_rekeyed: false,
    };
    let changes = Changes::from([(Key::Node, Some(Row::Node(Arc::new(node.clone()))))]);
    store.commit(&changes).map_err(|error| StartError::Other(error.to_string()))?;
    Ok((node, keys))
}

/// Notices a file that went back: a turn was answered that it does not hold. Then a new life
/// begins, so that no number is given twice.
fn checked_mark(
    home: &Home,
    store: &Store,
    view: &dyn Snapshot,
    mut node: crate::model::Node,
) -> Result<crate::model::Node, StartError> {
    let last = match view.last_row(&Key::Turn(0), &Key::Turn(u64::MAX))? {
        Some((Key::Turn(number), _)) => number,
        _ => 0,
    };
    if let Some((incarnation, answered)) = home.mark()
        && (incarnation != node.incarnation || answered > last)
    {
        warn!(
            answered,
            stored = last,
            "home.redb went back: it is not the one that was answered from last; a new life begins"
        );
        node.incarnation = Incarnation::at(clock::now(), random()?);
        let mut changes = end_lanes(view)?;
        changes.insert(Key::Node, Some(Row::Node(Arc::new(node.clone()))));
        store.commit(&changes).map_err(|error| StartError::Other(error.to_string()))?;
        home.open_mark()?.write(node.incarnation, last);
    }
    Ok(node)
}

/// A new life does not tell again what the old one may have told: that would be done twice. Jobs
/// that wait for an answer to it end.
fn end_lanes(view: &dyn Snapshot) -> Result<Changes, Damaged> {
    let mut changes = Changes::new();
    let (none, all) = (ServerId::from_bytes([0; 16]), ServerId::from_bytes([0xff; 16]));
    for (key, row) in view.rows(&Key::Outbox(none), &Key::Outbox(all), usize::MAX)? {
        if let Row::Outbox(outbox) = row {
            let ended = Outbox { open: Vec::new(), ..outbox.as_ref().clone() };
            changes.insert(key, Some(Row::Outbox(Arc::new(ended))));
        }
    }
    let (none, all) = (JobId::from_bytes([0; 16]), JobId::from_bytes([0xff; 16]));
    for (key, row) in view.rows(&Key::Job(none), &Key::Job(all), usize::MAX)? {
        if let Row::Job(job) = row
            && matches!(job.status, JobStatus::Told { .. })
        {
            let problem = Problem::new(
                Code::Conflict,
                "the store went back: what became of this call is not known here",
            );
            let status = JobStatus::Finished {
                outcome: Outcome::Failed,
                result: Json::Null,
                problem: Some(problem),
                at: clock::now(),
            };
            changes.insert(key, Some(Row::Job(Arc::new(Job { status, ..job.as_ref().clone() }))));
        }
    }
    Ok(changes)
}

/// The host's name, as far as it is a name of ours.
fn host_name() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let cleaned: String = host
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    Name::new(&cleaned)
        .or_else(|_| Name::new("freehold"))
        .unwrap_or_else(|_| unreachable!("it is a name"))
}

/// Makes a recovery key and writes it as words. The hash of its public part.
fn write_recovery(home: &Home, name: &str) -> Result<[u8; 32], StartError> {
    let entropy: [u8; 32] = random()?;
    let words =
        Mnemonic::from_entropy(&entropy).map_err(|error| StartError::Other(error.to_string()))?;
    let text = format!(
        "{words}\n\nThese words are the recovery key of this node and its accounts. Take them away from this machine.\n"
    );
    home.write(name, text.as_bytes())?;
    Ok(*blake3::hash(&KeyPair::from_seed(&entropy).public()).as_bytes())
}

const RECOVERY: &str = "recovery.words";
/// The new words, until the store says that they are those of today.
const NEXT_WORDS: &str = "recovery.words.new";
/// The new key, until the store says that it is the key of today.
const NEXT_KEY: &str = "identity.key.new";

/// The node's key. A change of keys that was cut in the middle is finished, or undone: what is stored
/// decides.
fn finish_rekey(home: &Home, node: &crate::model::Node) -> Result<Option<KeyPair>, StartError> {
    let stored =
        decode_record(&node.record).map_err(|error| StartError::Other(error.to_string()))?;
    let next = match home.key_in(NEXT_KEY) {
        // It was never the key of anything.
        Err(HomeError::NoKey { .. }) => None,
        next => next?,
    };
    if let Some(next) = next.filter(|next| next.public() == stored.key) {
        put_in_place(home)?;
        return Ok(Some(next));
    }
    for name in [NEXT_KEY, NEXT_WORDS] {
        if home.read(name)?.is_some() {
            home.remove(name)?;
        }
    }
    Ok(home.identity()?)
}

/// The new words and the new key are those of today. The key goes last: while it is there under its other
/// name, this is done again.
fn put_in_place(home: &Home) -> Result<(), HomeError> {
    if home.read(NEXT_WORDS)?.is_some() {
        home.rename(NEXT_WORDS, RECOVERY)?;
    }
    home.rename(NEXT_KEY, "identity.key")
}

/// Who signs the next record of a node.
#[derive(Clone, Debug)]
pub enum Signer {
    /// The key of today.
    Key,
    /// The recovery key, as words.
    Words(String),
}

/// Gives a stopped node another key. Its id stays. The new peer id.
///
/// # Errors
/// A node runs there, the words are not its own, or nothing can be written; then nothing has changed.
pub fn rekey(path: &Path, signer: &Signer) -> Result<Json, Problem> {
    let (home, _) = Home::open(path).map_err(StartError::from)?;
    let store = open_store(&home, Known::default())?;
    let view = store.view()?;
    let node = (&view as &dyn Snapshot).node()?.ok_or_else(|| {
        Problem::new(Code::Usage, "there is no node in this home").hint("see: freehold run")
    })?;
    let node = node.as_ref().clone();
    let today = finish_rekey(&home, &node)?;
    let held = decode_record(&node.record)
        .map_err(|error| Problem::new(Code::Damaged, format!("the node's record: {error}")))?;
    let signing = signing(&home, &node, &held, today, signer)?;
    let (next, record) = signing.next(&held)?;
    home.write(NEXT_KEY, &next.seed()).map_err(StartError::from)?;
    let mut changes = signing.accounts(&view)?;
    let accounts = changes.len() / 2;
    drop(view);
    let changed = crate::model::Node {
        record,
        recovery_hash: signing.recovery_hash,
        earlier: leading(&node.earlier, &node.record, signing.by_recovery),
        is_rekeyed: true,
        ..node
    };
    changes.insert(Key::Node, Some(Row::Node(Arc::new(changed))));
    store.commit(&changes).map_err(|error| Problem::new(Code::ReadOnly, error.to_string()))?;
    put_in_place(&home).map_err(StartError::from)?;
    Ok(serde_json::json!({
        "peer_id": crate::model::peer_id_of(&next.public()),
        "recovery_words": signing.by_recovery.then(|| home.path().join(RECOVERY)),
        "accounts": accounts,
    }))
}

/// What signs the next records of a node and its accounts.
struct Signing {
    keys: KeyPair,
    by_recovery: bool,
    /// The hash of the recovery key from then on.
    recovery_hash: [u8; 32],
}

fn signing(
    home: &Home,
    node: &crate::model::Node,
    held: &Record,
    today: Option<KeyPair>,
    signer: &Signer,
) -> Result<Signing, Problem> {
    match signer {
        Signer::Key => {
            if node.earlier.len() + 1 >= CHAIN_MAX {
                let says = "the key was changed too often for others to follow";
                return Err(Problem::new(Code::OverLimit, says)
                    .hint("use the recovery words: freehold recover"));
            }
            let keys = today.filter(|keys| keys.public() == held.key).ok_or_else(|| {
                Problem::new(Code::Usage, "identity.key is missing, or not the key of this home")
                    .hint("use the recovery words: freehold recover")
            })?;
            Ok(Signing { keys, by_recovery: false, recovery_hash: held.recovery_hash })
        }
        Signer::Words(words) => {
            let keys = recovery_key(words, held)?;
            let recovery_hash = write_recovery(home, NEXT_WORDS)?;
            Ok(Signing { keys, by_recovery: true, recovery_hash })
        }
    }
}

impl Signing {
    /// Another key, and the record that names it.
    fn next(&self, held: &Record) -> Result<(KeyPair, SignedRecord), Problem> {
        let next = KeyPair::from_seed(&random()?);
        let key = next.public();
        let record = if self.by_recovery {
            held.recovered(key, self.recovery_hash, self.keys.public())
        } else {
            held.rotated(key)
        };
        Ok((next, record.sign(&self.keys)))
    }

    /// Recovery words are those of the accounts too: each is given another key, two rows an account. One
    /// whose record names other words keeps its key.
    fn accounts(&self, view: &dyn Snapshot) -> Result<Changes, Problem> {
        let mut changes = Changes::new();
        if !self.by_recovery {
            return Ok(changes);
        }
        let hash = *blake3::hash(&self.keys.public()).as_bytes();
        let key = |bytes| Key::Account(AccountId::from_bytes(bytes));
        for (_, row) in view.rows(&key([0; 16]), &key([0xff; 16]), usize::MAX)? {
            let Row::Account(account) = row else { continue };
            let held = decode_record(&account.record).ok();
            let held = held.filter(|held| held.account_id() == Some(account.id));
            let Some(held) = held.filter(|held| held.recovery_hash == hash) else { continue };
            let (next, record) = self.next(&held)?;
            let earlier = leading(&account.earlier, &account.record, true);
            let renewed = Account { record, earlier, ..account.as_ref().clone() };
            changes.insert(Key::Account(account.id), Some(Row::Account(Arc::new(renewed))));
            changes.insert(Key::Secret(account.id), Some(Row::Secret(next.seed())));
        }
        Ok(changes)
    }
}

/// The recovery key behind words, checked against the record.
fn recovery_key(words: &str, held: &Record) -> Result<KeyPair, Problem> {
    let wrong = |says: String| {
        Problem::new(Code::Refused, says).hint("they stood in recovery.words at the first start")
    };
    // What follows the first empty line says what the words are for.
    let words = words.split("\n\n").next().unwrap_or_default().trim();
    let parsed = Mnemonic::parse(words)
        .map_err(|error| wrong(format!("these are no recovery words: {error}")))?;
    let seed: [u8; 32] = parsed
        .to_entropy()
        .try_into()
        .map_err(|_| wrong("these are no recovery words: there are 24 of them".to_owned()))?;
    let keys = KeyPair::from_seed(&seed);
    if *blake3::hash(&keys.public()).as_bytes() != held.recovery_hash {
        return Err(wrong("these are the recovery words of another node".to_owned()));
    }
    Ok(keys)
}
