//! A cached remote value: how many reads a second.
//!
//! Ours: [`Snapshot`]'s `cached_value` on a view of the store, as a reading call does it. Drawn
//! among 10,000 values. Two floors: a row got from redb and decoded ([`floor::read`]), which ours
//! must be at least 5 times as fast as; and a `HashMap` of Arcs ([`floor::hash`]), of whose time
//! ours may take at most three times, so the ratio must be at least 0.33. Criterion then times one
//! read of ours alone, to compare with the run before.

mod floor {
    pub(crate) mod hash;
    pub(crate) mod mixed;
    pub(crate) mod read;
    pub(crate) mod rounds;
}

use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use freehold::model::{
    CachedValue, Changes, Contact, ElementId, Head, Json, Key, Kind, LogId, Row, ServerId,
    Snapshot, Timestamp,
};
use freehold::store::{Folder, Store};

use crate::floor::hash::{Held, Map, Place, place};
use crate::floor::mixed::mixed;
use crate::floor::read::Shelf;
use crate::floor::rounds::{Fault, Line, is_wanted, medians, print, timed};

/// Values in the cache.
const VALUES: u64 = 10_000;
/// Reads of one round.
const READS: u64 = 500_000;
const ATTRIBUTE: &str = "charge";
const SERVER: [u8; 16] = [1; 16];

fn main() -> Result<(), Fault> {
    if !is_wanted() {
        return Ok(());
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let shelf = Shelf::of(&folder.path().join("floor.redb"), held())?;
    let reader = shelf.reader()?;
    let map = Map::of(held());
    let home = folder.path().join("home");
    fs::create_dir(&home)?;
    let store = Store::open(Folder(home), Arc::new(|_: ServerId| Contact::default()))?;
    store.keep(values());
    store.flush_cache();
    let view = store.view()?;
    let snapshot: &dyn Snapshot = &view;

    let [redb, hash, ours] = medians([
        &mut || {
            reads(|element| {
                drop(black_box(reader.get(&place_of(element))?));
                Ok(())
            })
        },
        &mut || {
            reads(|element| {
                let held = map.get(&place_of(element)).ok_or("there is no such value")?;
                drop(black_box(held));
                Ok(())
            })
        },
        &mut || {
            reads(|element| {
                let held = read(snapshot, element)?.ok_or("there is no such value")?;
                drop(black_box(held));
                Ok(())
            })
        },
    ])?;
    print(&[
        Line {
            name: "cached value; floor: redb get and decode".to_owned(),
            floor: redb,
            ours: Some(ours),
            ratio_min: Some(5.0),
        },
        Line {
            name: "cached value; floor: HashMap of Arcs".to_owned(),
            floor: hash,
            ours: Some(ours),
            ratio_min: Some(1.0 / 3.0),
        },
    ]);

    println!();
    let mut drawn = 0;
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("cached value", |bencher| {
        bencher.iter(|| {
            drawn += 1;
            read(snapshot, mixed(drawn) % VALUES).is_ok()
        });
    });
    criterion.final_summary();
    Ok(())
}

/// One round: reads of elements drawn among all.
fn reads(mut read: impl FnMut(u64) -> Result<(), Fault>) -> Result<f64, Fault> {
    timed(READS, || {
        for number in 0..READS {
            read(mixed(number) % VALUES)?;
        }
        Ok(())
    })
}

fn read(snapshot: &dyn Snapshot, element: u64) -> Result<Option<Arc<CachedValue>>, Fault> {
    let (server, element) = (ServerId::from_bytes(SERVER), ElementId::from_bytes(id(element)));
    Ok(snapshot.cached_value(server, element, None, ATTRIBUTE)?)
}

fn id(element: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mixed(element).to_be_bytes());
    id[8..].copy_from_slice(&mixed(!element).to_be_bytes());
    id
}

fn place_of(element: u64) -> Place {
    place(&SERVER, &id(element), ATTRIBUTE)
}

fn held() -> impl Iterator<Item = (Place, Held)> {
    (0..VALUES).map(|element| (place_of(element), Held::numbered(element)))
}

fn values() -> Changes {
    let value = |element: u64| {
        let server = ServerId::from_bytes(SERVER);
        let id = ElementId::from_bytes(id(element));
        let held = CachedValue {
            value: Json::from(element),
            kind: Kind::Integer,
            until: Timestamp::from_ms(element),
            head: Head { log: LogId::from_bytes([7; 16]), seq: element },
            outdated: false,
        };
        let key = Key::CachedValue(server, id, None, ATTRIBUTE.to_owned());
        (key, Some(Row::CachedValue(Arc::new(held))))
    };
    (0..VALUES).map(value).collect()
}
