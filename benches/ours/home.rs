//! A home with one account, one world, one type and many elements, put there as rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freehold::model::{
    Account, AccountId, Change, Changes, Contact, Element, ElementId, Incarnation, Json, Key, Name,
    Node, Row, ServerId, SignedRecord, Timestamp, TypeDefinition, TypeId, World, WorldId,
};
use freehold::script::read_type;
use freehold::store::{Outside, Store};

use crate::floor::mixed::mixed;
use crate::floor::rounds::Fault;

/// How long the node keeps what is old.
pub(crate) const KEEP_MS: u64 = 86_400_000;
/// This server.
pub(crate) const US: ServerId = ServerId::from_bytes([1; 16]);
/// This life of its store.
pub(crate) const LIFE: Incarnation = Incarnation::from_bytes([5; 16]);
/// The account.
pub(crate) const ALICE: AccountId = AccountId::from_bytes([2; 16]);
/// The name of its world.
pub(crate) const GARDEN: &str = "garden";
/// The attribute that is set.
pub(crate) const CHARGE: &str = "charge";

const WORLD: WorldId = WorldId::from_bytes([3; 16]);
const LAMP: TypeId = TypeId::from_bytes([4; 16]);
/// As long as it takes for an element's row to have about 200 bytes.
const LABEL: &str =
    "a lamp between the old pear tree and the gate that shines all night for who comes late";
/// A type of which anyone may read what only its owner may write.
const LAMP_FILE: &str = r#"
name = "lamp"

[attributes.charge]
kind = "integer"
default = 0
read = "public"

[attributes.label]
kind = "string"
"#;
/// Bytes of a signed record, about.
const RECORD_BYTES: usize = 280;
/// Rows of one commit while the home is being filled.
const FILLED_AT_ONCE: usize = 50_000;

/// Contacts of a node that knows nobody.
pub(crate) fn nobody() -> Arc<dyn Outside> {
    Arc::new(|_: ServerId| Contact::default())
}

/// Puts a household and so many elements into a new store.
pub(crate) fn fill(store: &Store, elements: u64) -> Result<(), Fault> {
    store.commit(&household()?)?;
    for first in (0..elements).step_by(FILLED_AT_ONCE) {
        let last = elements.min(first + FILLED_AT_ONCE as u64);
        let changes: Changes = (first..last).map(|number| element(number, 1)).collect();
        store.commit(&changes)?;
    }
    Ok(())
}

/// The id of an element.
pub(crate) fn element_id(number: u64) -> ElementId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mixed(number).to_be_bytes());
    bytes[8..].copy_from_slice(&mixed(!number).to_be_bytes());
    ElementId::from_bytes(bytes)
}

/// An element's row with this charge.
pub(crate) fn element(number: u64, charge: u64) -> (Key, Change) {
    let id = element_id(number);
    let values = BTreeMap::from([
        (CHARGE.to_owned(), Json::from(charge)),
        ("label".to_owned(), Json::from(LABEL)),
    ]);
    let element = Element {
        id,
        world: WORLD,
        type_id: LAMP,
        owner: ALICE,
        name: None,
        values,
        attributes_off: BTreeSet::new(),
        parents_off: BTreeSet::new(),
        in_sets: 0,
        epoch: 0,
        rests: None,
        chain: Vec::new(),
        home: None,
    };
    (Key::Element(WORLD, id), Some(Row::Element(Arc::new(element))))
}

fn household() -> Result<Changes, Fault> {
    let record = SignedRecord(vec![7; RECORD_BYTES]);
    let added_at = Timestamp::default();
    let node = Node {
        server: US,
        name: Name::new("attic")?,
        record: record.clone(),
        recovery_hash: [0; 32],
        incarnation: LIFE,
        earlier: Vec::new(),
        is_rekeyed: false,
    };
    let name = Name::new("alice")?;
    let alice = Account { id: ALICE, name, record, earlier: Vec::new(), added_at };
    let garden = World { id: WORLD, owner: ALICE, name: Name::new(GARDEN)?, added_at };
    let file = read_type(LAMP_FILE).map_err(|mistakes| format!("{mistakes:?}"))?;
    let lamp = TypeDefinition {
        id: LAMP,
        owner: ALICE,
        revision: 1,
        used: true,
        definition: file.definition,
        own: None,
        parents: Vec::new(),
        retired_at: None,
        home: None,
        public_off: false,
        actions_off: BTreeSet::new(),
        above: Vec::new(),
    };
    let rows = [
        (Key::Node, Row::Node(Arc::new(node))),
        (Key::AccountName(alice.name.key()), Row::Id(*ALICE.as_bytes())),
        (Key::Account(ALICE), Row::Account(Arc::new(alice))),
        (Key::WorldName(ALICE, garden.name.key()), Row::Id(*WORLD.as_bytes())),
        (Key::World(WORLD), Row::World(Arc::new(garden))),
        (Key::TypeName(ALICE, lamp.definition.name.key()), Row::Id(*LAMP.as_bytes())),
        (Key::Type(LAMP), Row::Type(Arc::new(lamp))),
    ];
    Ok(rows.into_iter().map(|(key, row)| (key, Some(row))).collect())
}
