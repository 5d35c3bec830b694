//! What is shown at the door, and what is permitted behind it: what was altered, replayed or given to
//! somebody else opens nothing, and for a user who has revoked it nothing runs.

#[path = "../sim/dice.rs"]
mod dice;

use std::collections::HashMap;
use std::thread;

use freehold::model::{
    AccountId, ActsFor, Budget, Call, Caller, Code, Incarnation, JobId, Json, Key, Limit, Name,
    Root, Row, ServerId, Timestamp, User, hex,
};
use freehold::post::{Arrival, Door, Inbound, InboundEffect};
use freehold::script::Machine;
use freehold::trust::{
    Inception, KeyPair, ProtectionClaim, Record, RecordKind, SKEW_MS, TOKEN_LIFE_MS, UserClaim,
    issue_protection, issue_user,
};
use freehold::wire::{Advance, AskItem, Batch, TellItem, WireCall};
use serde_bytes::ByteBuf;
use serde_json::json;

use crate::home::{Ended, Home, Rows, alice, on_a_machine};
use dice::Dice;

/// Things that are altered or replayed, in all.
const SHOWN: u64 = 10_000;
/// Moments in which a permission, its end, calls and restarts meet, in all.
const MOMENTS: u64 = 10_000;
/// Such moments on one node.
const MOMENTS_OF_ONE: u64 = 500;
/// Moments after which nothing more is kept for a server that never answers.
const MOMENTS_TOLD: u64 = 50;
/// Threads that share the work.
const THREADS: u64 = 2;
/// When things are shown: a whole second, as tokens count.
const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);
/// The life of the store of whoever calls.
const LIFE: Incarnation = Incarnation::from_bytes([6; 16]);

// The door.

#[test]
fn what_is_in_order_opens_for_its_holder_and_counts_for_that_connection_alone() {
    let cast = Cast::new();
    for told in [false, true] {
        for shown in [Shown::Id(cast.id.clone()), Shown::Word(cast.word.clone())] {
            let attempt = cast.at_our_door(shown);
            assert!(opens(&mut Inbound::default(), &attempt, told), "{attempt:?}");
        }
    }
    let mut inbound = Inbound::default();
    let nothing = cast.at_our_door(Shown::Nothing);
    let by_thief = Attempt { by: &cast.thief, ..cast.at_our_door(Shown::Nothing) };

    assert!(opens(&mut inbound, &cast.at_our_door(Shown::Id(cast.id.clone())), false));

    assert!(opens(&mut inbound, &nothing, false), "it is shown once for a connection");
    assert!(!opens(&mut inbound, &by_thief, false), "another's connection");
    inbound.gone(cast.partner.server);
    assert!(!opens(&mut inbound, &nothing, false), "the connection after that");
}

#[test]
fn what_was_altered_replayed_or_given_to_somebody_else_opens_nothing() {
    let cast = Cast::new();
    let opened = shared_out(|thread| {
        let mut dice = Dice::new(thread);
        let mut opened = Vec::new();
        for number in 0..SHOWN / THREADS {
            let (what, attempt) =
                if dice.chance(500) { cast.id(&mut dice) } else { cast.word(&mut dice) };
            let mut inbound = Inbound::default();
            if attempt.is_again {
                // It was good before, on the same connection.
                let good = cast.at_our_door(Shown::Word(cast.word.clone()));
                assert!(opens(&mut inbound, &good, false), "{good:?}");
            }
            if opens(&mut inbound, &attempt, dice.chance(500)) {
                opened.push(format!("{thread}/{number}, {what}: {attempt:?}"));
            }
        }
        opened
    });

    let (count, first) = (opened.len(), opened.iter().take(5));
    let first: Vec<&str> = first.map(String::as_str).collect();
    assert!(opened.is_empty(), "{count} of {SHOWN} open the door:\n{}", first.join("\n"));
}

// Permissions.

#[test]
fn nothing_runs_for_a_user_who_has_revoked_it() {
    let histories = MOMENTS / MOMENTS_OF_ONE;
    shared_out(|thread| {
        on_a_machine(|machine| {
            let baseline = furnished(machine);
            for seed in (0..histories).filter(|seed| seed % THREADS == thread) {
                let mut history = History::new(baseline.copy(), seed);
                for _ in 0..MOMENTS_OF_ONE {
                    history.go_on();
                }
                history.end();
            }
        });
        Vec::new()
    });
}

#[test]
fn what_has_asked_before_a_revocation_or_a_denial_does_not_run_after_it() {
    let table = [
        ("nothing", json!({}), true),
        ("token.revoke", json!({"server": "cellar"}), false),
        ("server.deny", json!({"server": "cellar"}), false),
        ("server.pause", json!({"server": "cellar"}), false),
    ];
    on_a_machine(|machine| {
        let baseline = furnished(machine);
        for (command, args, runs) in table {
            let mut home = baseline.copy();
            home.done("token.permit", json!({"server": "cellar"}));
            let caller = for_alice(&home);
            let call = home.call("action.call", json!({"element": DIARY, "action": "wonder"}));
            home.offer(vec![Call { caller, ..call }]);
            while home.turn().is_some() {}
            match command {
                "nothing" => {}
                "token.revoke" => drop(home.done(command, args)),
                _ => drop(home.say_as_node(command, args).answer()),
            }

            let ended = home.lose_what_was_asked();

            let want = if runs { json!(7) } else { Json::Null };
            assert_eq!(home.value("diary", "page"), want, "{command}: {ended:?}");
            let done = ended.iter().any(|ended| ended.result.is_ok());
            assert_eq!(done, runs, "{command}: {ended:?}");
        }
    });
}

/// Lets each thread do its part. What they found, one after another.
fn shared_out(part: impl Fn(u64) -> Vec<String> + Sync) -> Vec<String> {
    let part = &part;
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || part(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// A server, with its key of today.
#[derive(Clone, Debug)]
struct Party {
    server: ServerId,
    keys: KeyPair,
    key: [u8; 32],
}

impl Party {
    fn new(server: u8, seed: u8) -> Self {
        let keys = KeyPair::from_seed(&[seed; 32]);
        Self { server: ServerId::from_bytes([server; 16]), key: keys.public(), keys }
    }
}

/// Everybody who takes part, and what was given to the partner.
struct Cast {
    /// Whose door it is.
    us: Party,
    /// We, with a new key.
    us_rekeyed: Party,
    /// Who may show the id and the word.
    partner: Party,
    /// The partner, with a new key.
    partner_rekeyed: Party,
    /// The home of the user.
    home: Party,
    /// Who got hold of everything that the others showed.
    thief: Party,
    /// The keys of all that were met, ourselves among them.
    keys: HashMap<ServerId, [u8; 32]>,
    /// The same once each of them has a new key.
    new_keys: HashMap<ServerId, [u8; 32]>,
    user: AccountId,
    /// The protection id that we issued for the partner.
    id: Vec<u8>,
    /// The word of the home that the partner may act for the user here.
    word: Vec<u8>,
}

/// What is shown.
#[derive(Clone)]
enum Shown {
    Nothing,
    Id(Vec<u8>),
    Word(Vec<u8>),
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Id(bytes) => write!(f, "the id {}", hex(bytes)),
            Self::Word(bytes) => write!(f, "the word {}", hex(bytes)),
        }
    }
}

/// Somebody at a door.
#[derive(Clone, Debug)]
struct Attempt<'c> {
    by: &'c Party,
    at: &'c Party,
    keys: &'c HashMap<ServerId, [u8; 32]>,
    now: Timestamp,
    /// For whom it calls, where it shows a word.
    account: AccountId,
    shown: Shown,
    /// Whether the word was good before.
    is_again: bool,
}

impl Cast {
    fn new() -> Self {
        let [us, partner, home, thief] = [1, 2, 3, 4].map(|number| Party::new(number, number));
        let user = AccountId::from_bytes([5; 16]);
        let id = issue_protection(&us.keys, &protection_claim(&us, &partner));
        let word = issue_user(&home.keys, &user_claim(&us, &partner, &home, user));
        let met = [&us, &partner, &home, &thief];
        Self {
            keys: met.iter().map(|party| (party.server, party.key)).collect(),
            new_keys: (1..=4)
                .map(|number| Party::new(number, number + 10))
                .map(by_server)
                .collect(),
            us_rekeyed: Party::new(1, 11),
            partner_rekeyed: Party::new(2, 12),
            us,
            partner,
            home,
            thief,
            user,
            id,
            word,
        }
    }

    /// The partner at our door.
    fn at_our_door(&self, shown: Shown) -> Attempt<'_> {
        Attempt {
            by: &self.partner,
            at: &self.us,
            keys: &self.keys,
            now: NOW,
            account: self.user,
            shown,
            is_again: false,
        }
    }

    /// A protection id that is not good, or not there, or not shown by its holder.
    fn id(&self, dice: &mut Dice) -> (&'static str, Attempt<'_>) {
        let claim = protection_claim(&self.us, &self.partner);
        let nonce = drawn(dice);
        let issued = |keys: &KeyPair, change: &dyn Fn(&mut ProtectionClaim)| {
            let mut claim = ProtectionClaim { nonce, ..claim.clone() };
            change(&mut claim);
            self.at_our_door(Shown::Id(issue_protection(keys, &claim)))
        };
        let good = || self.at_our_door(Shown::Id(self.id.clone()));
        let another = dice.one_of(&[&self.home, &self.thief]);
        let stranger = ServerId::from_bytes(drawn(dice));
        let ours = &self.us.keys;
        match dice.below(13) {
            0..=3 => {
                let (how, bytes) = altered(dice, &self.id);
                (how, self.at_our_door(Shown::Id(bytes)))
            }
            4 => ("for another's key", issued(ours, &|claim| claim.holder = another.key)),
            5 => ("for another server", issued(ours, &|claim| claim.subject = another.server)),
            6 => ("for a stranger", issued(ours, &|claim| claim.subject = stranger)),
            7 => ("of another issuer", issued(ours, &|claim| claim.issuer = another.server)),
            8 => {
                let signer = dice.one_of(&[&self.partner, another]);
                ("signed by another", issued(&signer.keys, &|_| {}))
            }
            9 => ("shown by another", Attempt { by: another, ..good() }),
            10 => ("at another's door", Attempt { at: another, ..good() }),
            11 => {
                let attempt = if dice.chance(500) {
                    Attempt { at: &self.us_rekeyed, ..good() }
                } else {
                    Attempt { by: &self.partner_rekeyed, ..good() }
                };
                ("of a key before", attempt)
            }
            _ => {
                // What we signed for the partner, but as something else.
                let claim = user_claim(&self.us, &self.partner, &self.us, self.user);
                let bytes = match dice.below(3) {
                    0 => self.word.clone(),
                    1 => issue_user(ours, &UserClaim { nonce, ..claim }),
                    _ => record_of(&self.us, dice),
                };
                ("no protection id", self.at_our_door(Shown::Id(bytes)))
            }
        }
    }

    /// A word for a user that is not good, or not there, or not now, or not for this user.
    fn word(&self, dice: &mut Dice) -> (&'static str, Attempt<'_>) {
        let claim = user_claim(&self.us, &self.partner, &self.home, self.user);
        let nonce = drawn(dice);
        let issued = |keys: &KeyPair, change: &dyn Fn(&mut UserClaim)| {
            let mut claim = UserClaim { nonce, ..claim.clone() };
            change(&mut claim);
            self.at_our_door(Shown::Word(issue_user(keys, &claim)))
        };
        let good = || self.at_our_door(Shown::Word(self.word.clone()));
        let another = dice.one_of(&[&self.home, &self.thief]);
        let somebody = AccountId::from_bytes(drawn(dice));
        let stranger = ServerId::from_bytes(drawn(dice));
        let longer_ms = dice.between(1_000, 1_000_000_000);
        let late = NOW.after_ms(TOKEN_LIFE_MS + SKEW_MS + longer_ms);
        let homes = &self.home.keys;
        match dice.below(18) {
            0..=3 => {
                let (how, bytes) = altered(dice, &self.word);
                (how, self.at_our_door(Shown::Word(bytes)))
            }
            4 => ("for another's key", issued(homes, &|claim| claim.holder = another.key)),
            5 => ("for another door", issued(homes, &|claim| claim.audience = another.server)),
            6 => ("for another user", issued(homes, &|claim| claim.subject = somebody)),
            7 => ("of another user", Attempt { account: somebody, ..good() }),
            8 => {
                let ended = Timestamp::from_ms(NOW.unix_ms() - SKEW_MS - longer_ms);
                ("ended", issued(homes, &|claim| claim.ends_at = ended))
            }
            9 => {
                let begins = NOW.after_ms(SKEW_MS + longer_ms);
                ("too early", issued(homes, &|claim| claim.issued_at = begins))
            }
            10 => {
                let signer = dice.one_of(&[&self.us, &self.partner, &self.thief]);
                ("signed by another", issued(&signer.keys, &|_| {}))
            }
            11 => {
                let signer = dice.one_of(&[&self.home, &self.thief]);
                ("of an unknown home", issued(&signer.keys, &|claim| claim.issuer = stranger))
            }
            12 => ("shown by another", Attempt { by: another, ..good() }),
            13 => ("at another's door", Attempt { at: another, ..good() }),
            14 => {
                let attempt = if dice.chance(500) {
                    Attempt { keys: &self.new_keys, ..good() }
                } else {
                    Attempt { by: &self.partner_rekeyed, ..good() }
                };
                ("of a key before", attempt)
            }
            15 => {
                // What the home, or we, signed for the partner, but as something else.
                let of_home = protection_claim(&self.home, &self.partner);
                let bytes = match dice.below(3) {
                    0 => self.id.clone(),
                    1 => issue_protection(homes, &ProtectionClaim { nonce, ..of_home }),
                    _ => record_of(&self.home, dice),
                };
                ("no word", self.at_our_door(Shown::Word(bytes)))
            }
            16 => ("again after its end", Attempt { now: late, is_again: true, ..good() }),
            _ if dice.chance(500) => {
                ("again by another", Attempt { by: &self.thief, is_again: true, ..good() })
            }
            _ => {
                let attempt = Attempt { account: somebody, is_again: true, ..good() };
                ("again for another user", attempt)
            }
        }
    }
}

fn by_server(party: Party) -> (ServerId, [u8; 32]) {
    (party.server, party.key)
}

/// Whether an attempt opens anything: a place on a list, or the rights of a user.
fn opens(inbound: &mut Inbound, attempt: &Attempt<'_>, told: bool) -> bool {
    let arrival = arrived(inbound, attempt, told);
    let Caller::Remote { server, presented, user, .. } = &arrival.call.caller else {
        panic!("it is no call of another server: {:?}", arrival.call);
    };
    assert_eq!(*server, attempt.by.server);
    match attempt.shown {
        Shown::Nothing | Shown::Id(_) => {
            let shown = !inbound.shown(attempt.by.server).is_empty();
            assert_eq!(shown, !presented.is_empty(), "{attempt:?}");
            assert!(user.is_none(), "{attempt:?}");
            shown || arrival.listed
        }
        Shown::Word(_) => arrival.refused.is_none() || user.is_some(),
    }
}

/// What a call becomes that is made at a door while something is shown.
fn arrived(inbound: &mut Inbound, attempt: &Attempt<'_>, told: bool) -> Arrival {
    let Attempt { by, at, keys, now, account, shown, .. } = attempt;
    let mut batch = Batch::empty(Advance { incarnation: LIFE, done_below: 1 });
    let mut user = None;
    match shown {
        Shown::Nothing => {}
        Shown::Id(bytes) => batch.presents.push(ByteBuf::from(bytes.clone())),
        Shown::Word(bytes) => {
            user = Some(ActsFor { account: *account, token: Some(ByteBuf::from(bytes.clone())) });
        }
    }
    let call = WireCall {
        command: "element.get".to_owned(),
        args: json!({"element": DIARY, "attribute": "page"}),
        claim: None,
        root: Root { job: JobId::from_bytes([1; 16]), path: Vec::new(), budget: Budget::FULL },
        time_left_ms: None,
        user,
    };
    if told {
        batch.tells.push(TellItem { number: 1, call });
    } else {
        batch.asks.push(AskItem { id: 1, call });
    }
    let door = Door {
        us: at.server,
        key: &at.key,
        server: by.server,
        server_key: &by.key,
        limit: Limit::STRANGERS,
        keys,
    };
    let effects = inbound.received(*now, door, 1, batch);
    let arrival = effects.into_iter().find_map(|effect| match effect {
        InboundEffect::Run(arrival) => Some(*arrival),
        _ => None,
    });
    arrival.unwrap()
}

fn protection_claim(issuer: &Party, holder: &Party) -> ProtectionClaim {
    ProtectionClaim {
        issuer: issuer.server,
        subject: holder.server,
        holder: holder.key,
        list: Name::new("family").unwrap(),
        nonce: [1; 16],
        issued_at: NOW,
    }
}

fn user_claim(audience: &Party, holder: &Party, home: &Party, user: AccountId) -> UserClaim {
    UserClaim {
        issuer: home.server,
        subject: user,
        holder: holder.key,
        audience: audience.server,
        scope: Vec::new(),
        nonce: [1; 16],
        issued_at: NOW,
        ends_at: NOW.after_ms(TOKEN_LIFE_MS),
    }
}

/// A record that somebody signed: of themselves, or of an account of theirs.
fn record_of(party: &Party, dice: &mut Dice) -> Vec<u8> {
    let kind = dice.one_of(&[RecordKind::Server, RecordKind::Account]);
    let inception = Inception { kind, key: party.key, recovery_hash: [7; 32], nonce: drawn(dice) };
    let record = Record::first(inception, Name::new("cellar").unwrap(), Some(party.server));
    record.sign(&party.keys).0
}

/// Some bytes that nobody else drew.
fn drawn(dice: &mut Dice) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..10].copy_from_slice(&dice.bytes());
    bytes
}

/// Something good that is good no more, and how.
fn altered(dice: &mut Dice, good: &[u8]) -> (&'static str, Vec<u8>) {
    let mut bytes = good.to_vec();
    let how = dice.one_of(&["flipped", "cut short", "made longer"]);
    match how {
        "flipped" => {
            for _ in 0..dice.between(1, 4) {
                let at = dice.index(bytes.len());
                bytes[at] ^= 1_u8 << dice.below(8);
            }
            if bytes == good {
                bytes[0] ^= 1;
            }
        }
        "cut short" => bytes.truncate(dice.index(good.len())),
        _ if dice.chance(500) => bytes.extend(dice.bytes()),
        _ => {
            let at = dice.index(bytes.len() + 1);
            bytes.insert(at, u8::try_from(dice.below(256)).unwrap());
        }
    }
    (how, bytes)
}

/// What alice's own home lets others read and write for her alone.
const DIARY: &str = "alice/garden/diary";
const DIARY_TYPE: &str = r#"
name = "diary"

[attributes.page]
kind = "integer"
default = 0
read = "public"
write = "public"
read_group = "owner"
write_group = "owner"

[actions.wonder]
on = "event:wonder"
level = "public"
script = '''
pcall(ask, "alice@elsewhere/garden/lamp", "shine", {})
set("page", 7)
'''
"#;

/// A node with a diary of alice's that has met the cellar, and knows of a server where nobody is.
fn furnished(machine: &Machine) -> Home<'_> {
    let mut home = Home::new(machine);
    home.publish(DIARY_TYPE);
    home.create("diary", "diary");
    let (server, record) = cellar();
    let args = json!({
        "server": server.to_string(),
        "record": hex(&record),
        "name": "cellar",
        "incarnation": LIFE.to_string(),
    });
    home.say_as_node("server.met", args).answer();
    let elsewhere = Key::ServerName("elsewhere".to_owned());
    home.plant(Rows::from([(elsewhere, Row::Id([9; 16]))]));
    home
}

/// The other server, and its record.
fn cellar() -> (ServerId, Vec<u8>) {
    let keys = KeyPair::from_seed(&[2; 32]);
    let inception = Inception {
        kind: RecordKind::Server,
        key: keys.public(),
        recovery_hash: [2; 32],
        nonce: [2; 16],
    };
    let record = Record::first(inception, Name::new("cellar").unwrap(), None);
    (record.server_id().unwrap(), record.sign(&keys).0)
}

/// The cellar, as it calls for alice, whose home this is.
fn for_alice(home: &Home<'_>) -> Caller {
    let us = match home.rows().remove(&Key::Node) {
        Some(Row::Node(node)) => node.server,
        row => panic!("the node is not stored: {row:?}"),
    };
    Caller::Remote {
        server: cellar().0,
        claim: None,
        presented: Vec::new(),
        user: Some(User { account: alice(), home: us, scope: Vec::new() }),
    }
}

/// What happens in one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    /// Alice lets the cellar act for her.
    Permit,
    /// Alice lets it no more.
    Revoke,
    /// The cellar writes into her diary.
    Act,
}

/// A node, and what must be so there.
struct History<'m> {
    home: Home<'m>,
    /// The cellar, as it calls for alice.
    caller: Caller,
    dice: Dice,
    seed: u64,
    moments: u64,
    /// Whether alice has ever decided about the cellar.
    is_known: bool,
    /// Whether it may act for her now.
    is_permitted: bool,
    /// What it wrote last.
    page: Json,
    /// The next thing that it writes.
    next_page: u64,
    /// How often it wrote.
    acts: u64,
}

impl<'m> History<'m> {
    fn new(home: Home<'m>, seed: u64) -> Self {
        Self {
            caller: for_alice(&home),
            home,
            dice: Dice::new(seed),
            seed,
            moments: 0,
            is_known: false,
            is_permitted: false,
            page: Json::Null,
            next_page: 1,
            acts: 0,
        }
    }

    /// One moment: what is called at once, in any order, by both.
    fn go_on(&mut self) {
        self.moments += 1;
        let many = self.dice.between(1, 5);
        let choices = [Deed::Permit, Deed::Revoke, Deed::Act, Deed::Act, Deed::Act];
        let deeds: Vec<Deed> = (0..many).map(|_| self.dice.one_of(&choices)).collect();
        let first_page = self.next_page;
        let calls: Vec<Call> = deeds.iter().map(|deed| self.call(*deed)).collect();
        if self.dice.chance(50) {
            // Nobody was answered, and nothing of it has happened.
            self.home.offer(calls);
            self.home.restart();
        } else {
            let ended = self.home.run(calls);
            self.compare(&deeds, &ended, first_page);
        }
        assert_eq!(self.home.value("diary", "page"), self.page, "{}", self.place());
        if self.moments.is_multiple_of(MOMENTS_TOLD) {
            self.home.lose_what_was_told();
        }
        if self.dice.chance(100) {
            self.home.restart();
        }
    }

    fn call(&mut self, deed: Deed) -> Call {
        let server = json!({"server": "cellar"});
        match deed {
            Deed::Permit => self.home.call("token.permit", server),
            Deed::Revoke => self.home.call("token.revoke", server),
            Deed::Act => {
                let args = json!({"element": DIARY, "attribute": "page", "value": self.next_page});
                self.next_page += 1;
                Call { caller: self.caller.clone(), ..self.home.call("element.set", args) }
            }
        }
    }

    /// Compares how each ended with what alice has decided. Hers run in her order and the cellar's in
    /// its own; how both are mixed is the node's affair.
    fn compare(&mut self, deeds: &[Deed], ended: &[Ended], first_page: u64) {
        let mut states = vec![self.is_permitted];
        for (deed, ended) in deeds.iter().zip(ended) {
            match (deed, &ended.result) {
                (Deed::Act, _) => continue,
                (Deed::Permit, Ok(_)) => {
                    self.is_known = true;
                    states.push(true);
                }
                (Deed::Revoke, Ok(_)) if self.is_known => states.push(false),
                (Deed::Revoke, Err(problem)) if !self.is_known => {
                    assert_eq!(problem.code, Code::NotFound, "{}", self.place());
                }
                (Deed::Permit | Deed::Revoke, result) => {
                    panic!("{}, {deed:?}: {result:?}", self.place());
                }
            }
        }
        let acts = deeds.iter().zip(ended).filter(|(deed, _)| **deed == Deed::Act);
        let mut left = states.as_slice();
        for (page, (_, ended)) in (first_page..).zip(acts) {
            let was_done = match &ended.result {
                Ok(_) => true,
                Err(problem) => {
                    assert_eq!(problem.code, Code::NotPermitted, "{}", self.place());
                    false
                }
            };
            // The first state from here on in which it ends so.
            let Some(at) = left.iter().position(|permitted| *permitted == was_done) else {
                panic!("{}: {deeds:?} from {states:?} ended {ended:?}", self.place());
            };
            left = &left[at..];
            if was_done {
                self.page = json!(page);
                self.acts += 1;
            }
        }
        self.is_permitted = states.last().copied().unwrap_or_default();
    }

    /// What alice sees of all that.
    fn end(mut self) {
        let held = self.home.done("token.show", json!({"token": "cellar"}));
        let state = if self.is_permitted { "permitted" } else { "revoked" };
        assert_eq!(held["state"], state, "{}", self.place());
        assert_eq!(held["used"], self.acts, "{}", self.place());
        assert!(self.acts > 0, "{}: it never acted", self.place());
    }

    fn place(&self) -> String {
        format!("history {}, moment {}", self.seed, self.moments)
    }
}
