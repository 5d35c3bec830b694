//! A world of 1,000,000 elements: how fast it is made, opened and searched, and what memory that
//! takes.
//!
//! Made through the turns ([`ours::maker`]) by `element.create` with 10,000 elements a call, of a
//! type with one indexed attribute. Floor: the rows that one such call writes, inserted into redb
//! directly ([`floor::inserts`]), as many in a commit. Both by turns, 100,000 elements at a time;
//! the floor in a process of its own, which is this bench with a variable set, so that memory of
//! this one is ours alone. Wanted: at least 0.6.
//!
//! Then it is closed and opened again: wanted at most 1 s for `Store::open`, a view and
//! `Turns::load`. A selection by type and indexed value, its first page of 100 elements read as a
//! reading call: wanted at most 5 ms, with 10,000 elements as with all of them. Resident memory of
//! the process: wanted at most 200 MiB, after making and after reading.
//!
//! `ELEMENTS=100000 cargo bench --bench world` makes fewer, in whole calls of 10,000.

mod floor {
    pub(crate) mod inserts;
    pub(crate) mod mixed;
    pub(crate) mod rounds;
}
mod ours {
    pub(crate) mod maker;
    pub(crate) mod setting;
}

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write, stdin, stdout};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use freehold::model::{AccountId, Answers};
use freehold::script::Machine;
use freehold::step::Setting;
use freehold::store::{Folder, Hot, Store};
use freehold::turn::{Read, Turns, read};
use freehold::{commands, node};
use redb::{Builder, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::json;

use crate::floor::inserts::{Inserts, NUMBER, Sample};
use crate::floor::mixed::mixed;
use crate::floor::rounds::{Fault, Line, is_wanted, medians, print, timed};
use crate::ours::maker::{KEEP_MS, Maker, nobody};
use crate::ours::setting::{call_of, setting};

/// Says how many elements, where there are to be others than [`ELEMENTS`].
const ELEMENTS_WANTED: &str = "ELEMENTS";
/// Elements of the world.
const ELEMENTS: u64 = 1_000_000;
/// Elements that one call makes.
const BATCH: u64 = 10_000;
/// Calls of one side until the other has its turn.
const ROUND: usize = 10;
/// Names the folder in which the other process is the floor.
const FLOOR: &str = "FREEHOLD_BENCH_FLOOR";
/// The home with one batch, in the folder.
const SMALL: &str = "small";

/// The least ratio of ours to the floor.
const RATIO_MIN: f64 = 0.6;
/// Seconds that opening may take.
const OPEN_SECONDS_MAX: f64 = 1.0;
/// Seconds that a page may take.
const PAGE_SECONDS_MAX: f64 = 0.005;
/// How many times longer a page may take where there are more elements: it goes down a deeper tree.
const GROWTH_MAX: f64 = 1.5;
/// Resident memory of the process, in MiB.
const RESIDENT_MIB_MAX: f64 = 200.0;
/// Elements of a page.
const PAGE: usize = 100;
/// Pages of one round.
const PAGES: u64 = 100;

/// The rows of a home as its file has them.
const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
/// The first byte of the key of a turn, which ends in its number.
const TURN: u8 = 1;
/// That of the mark of a feed, which ends in its number.
const FEED_AT: u8 = 19;
/// Those of an element, of its place among its type's, and of its place by a value. Each key ends
/// in the element's id.
const OF_ELEMENT: [u8; 3] = [9, 26, 27];
/// Bytes of an id. It begins with its time.
const ID: usize = 16;

const LAMP: &str = r#"
name = "lamp"

[attributes.charge]
kind = "integer"
default = 0
index = true
"#;

fn main() -> Result<(), Fault> {
    if let Some(folder) = env::var_os(FLOOR) {
        return insert_when_asked(Path::new(&folder));
    }
    if !is_wanted() {
        return Ok(());
    }
    let batches = batches()?;
    let elements = batches * BATCH;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (small, large) = (folder.path().join(SMALL), folder.path().join("large"));
    fs::create_dir(&small)?;
    fs::create_dir(&large)?;
    let mut maker = Maker::found(&small, LAMP)?;
    maker.create(1..2, BATCH)?;
    let small_account = maker.account;
    maker.close();

    let mut floor = Apart::start(folder.path())?;
    let mut maker = Maker::found(&large, LAMP)?;
    let (inserted, made) = make(&mut floor, &mut maker, batches)?;
    let large_account = maker.account;
    let after_making = memory_mib("VmRSS:")?;
    maker.close();
    floor.end()?;

    let [opened] = medians([&mut || open(&large)])?;
    let mut large = Reader::of(&large, large_account, batches)?;
    large.pages(PAGES)?;
    let after_reading = memory_mib("VmRSS:")?;
    let mut small = Reader::of(&small, small_account, 1)?;
    let [page_of_few, page_of_many] = medians([&mut || small.round(), &mut || large.round()])?;

    let line = |name: String, floor, ours, ratio_min| Line {
        name,
        floor,
        ours: Some(ours),
        ratio_min: Some(ratio_min),
    };
    let page_min = 1.0 / PAGE_SECONDS_MAX;
    print(&[
        line(format!("{elements} made; floor: redb inserts"), inserted, made, RATIO_MIN),
        line(format!("{elements} opened (floor: wanted)"), 1.0 / OPEN_SECONDS_MAX, opened, 1.0),
        line(format!("page of {BATCH} (floor: wanted)"), page_min, page_of_few, 1.0),
        line(format!("page of {elements} (floor: wanted)"), page_min, page_of_many, 1.0),
        line(
            format!("page of {elements}; floor: of {BATCH}"),
            page_of_few,
            page_of_many,
            1.0 / GROWTH_MAX,
        ),
    ]);
    println!();
    println!("opened in {:.4} s, wanted at most {OPEN_SECONDS_MAX} s", 1.0 / opened);
    for (size, rate) in [(BATCH, page_of_few), (elements, page_of_many)] {
        let wanted_ms = PAGE_SECONDS_MAX * 1_000.0;
        println!("page of {size}: {:.2} ms, wanted at most {wanted_ms} ms", 1_000.0 / rate);
    }
    for (when, mib) in [("after making", after_making), ("opened and read", after_reading)] {
        let verdict = if mib <= RESIDENT_MIB_MAX { "met" } else { "MISSED" };
        println!("resident {when}: {mib:.0} MiB, wanted at most {RESIDENT_MIB_MAX} MiB: {verdict}");
    }
    println!("resident at most: {:.0} MiB", memory_mib("VmHWM:")?);
    Ok(())
}

/// How many calls make the elements that are wanted.
fn batches() -> Result<u64, Fault> {
    let elements: u64 = match env::var(ELEMENTS_WANTED) {
        Ok(text) => text.parse()?,
        Err(_) => ELEMENTS,
    };
    Ok(elements.div_ceil(BATCH).max(1))
}

/// Makes the elements of both sides, and says how many a second the floor made, and we.
fn make(floor: &mut Apart, maker: &mut Maker, batches: u64) -> Result<(f64, f64), Fault> {
    let (mut floor_seconds, mut our_seconds) = (0.0, 0.0);
    for done in (0..batches).step_by(ROUND) {
        let round = (batches - done).min(ROUND as u64);
        floor_seconds += floor.insert(round)?;
        let rate = timed(1, || maker.create(done + 1..done + 1 + round, BATCH))?;
        our_seconds += 1.0 / rate;
    }
    let elements = (batches * BATCH) as f64;
    Ok((elements / floor_seconds, elements / our_seconds))
}

/// Opens a home as a node that starts does. The close that follows is not timed.
fn open(home: &Path) -> Result<f64, Fault> {
    let keys = setting()?.keys;
    let mut opened = None;
    let rate = timed(1, || {
        let store = Store::open(Folder(home.to_owned()), nobody())?;
        let hot = Hot::new(&store)?;
        let turns = Turns::load(commands::find, &hot, &keys, KEEP_MS)?;
        opened = Some((turns, hot, store));
        Ok(())
    })?;
    drop(opened);
    Ok(rate)
}

/// A field of what the system says about the memory of this process.
fn memory_mib(field: &str) -> Result<f64, Fault> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: f64 = value
        .and_then(|value| value.split_whitespace().next())
        .ok_or("the system does not say how much memory is used")?
        .parse()?;
    Ok(kib / 1_024.0)
}

/// A home that reading calls are made on.
struct Reader {
    machine: Machine,
    setting: Setting,
    account: Option<AccountId>,
    charges: u64,
    drawn: u64,
    store: Store,
}

impl Reader {
    /// Opens a home in which there are lamps with charges from 1 to `charges`.
    fn of(home: &Path, account: Option<AccountId>, charges: u64) -> Result<Self, Fault> {
        Ok(Self {
            machine: Machine::new(Arc::new(|_: bool| false)).map_err(|error| error.to_string())?,
            setting: setting()?,
            account,
            charges,
            drawn: 0,
            store: Store::open(Folder(home.to_owned()), nobody())?,
        })
    }

    /// One round of pages.
    fn round(&mut self) -> Result<f64, Fault> {
        timed(PAGES, || self.pages(PAGES))
    }

    /// Reads the first pages of selections by charges drawn among all, each on a view of its own.
    fn pages(&mut self, pages: u64) -> Result<(), Fault> {
        for _ in 0..pages {
            self.drawn += 1;
            let charge = mixed(self.drawn) % self.charges + 1;
            let args = json!({"where": format!("type = lamp and charge = {charge}")});
            let call = call_of(self.account, self.drawn, "element.ls", args);
            let (view, answers, now) = (self.store.view()?, Answers::new(), node::now());
            let page = read(
                commands::find,
                &view,
                &self.machine,
                &self.setting,
                &call,
                &answers,
                now,
                false,
            );
            match page {
                Read::Done(Ok(page), _)
                    if page["items"].as_array().is_some_and(|items| items.len() == PAGE) => {}
                other => return Err(format!("no page of {PAGE} elements: {other:?}").into()),
            }
        }
        Ok(())
    }
}

/// The floor in a process of its own.
struct Apart {
    child: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Apart {
    /// Starts it in a folder in which the small home is closed.
    fn start(folder: &Path) -> Result<Self, Fault> {
        let mut child = Command::new(env::current_exe()?)
            .env(FLOOR, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asks = child.stdin.take().ok_or("the floor hears nothing")?;
        let out = child.stdout.take().ok_or("the floor says nothing")?;
        Ok(Self { child, asks, answers: BufReader::new(out).lines() })
    }

    /// Has it insert so many batches, and says how many seconds that took.
    fn insert(&mut self, batches: u64) -> Result<f64, Fault> {
        writeln!(self.asks, "{batches}")?;
        let seconds = self.answers.next().ok_or("the floor has ended")??;
        Ok(seconds.parse()?)
    }

    /// Ends it, and waits until it has.
    fn end(self) -> Result<(), Fault> {
        let Self { mut child, asks, answers: _ } = self;
        // It goes on for as long as somebody may ask.
        drop(asks);
        let ended = child.wait()?;
        if ended.success() { Ok(()) } else { Err(format!("the floor ended with {ended}").into()) }
    }
}

/// The floor's process: inserts batches for each line that asks for some, and answers with the
/// seconds that it took.
fn insert_when_asked(folder: &Path) -> Result<(), Fault> {
    let rows = batch_in(&folder.join(SMALL).join("home.redb"))?;
    let mut inserts = Inserts::of(&folder.join("floor.redb"), rows)?;
    let mut out = stdout();
    for asked in stdin().lines() {
        let batches = asked?.parse()?;
        let rate = timed(1, || inserts.commits(batches))?;
        writeln!(out, "{}", 1.0 / rate)?;
    }
    Ok(())
}

/// What was written by the call that made the elements of a home with one batch.
fn batch_in(path: &Path) -> Result<Vec<Sample>, Fault> {
    let database = Builder::new().open(path)?;
    let rows = database.begin_read()?.open_table(ROWS)?;
    let mut batch: Vec<Sample> = Vec::new();
    for row in rows.iter()? {
        let (key, value) = row?;
        let (key, value) = (key.value().to_vec(), value.value().to_vec());
        let tag = key.first().copied().unwrap_or_default();
        let number_at = if OF_ELEMENT.contains(&tag) {
            key.len() - ID
        } else if tag == TURN || tag == FEED_AT {
            key.len() - NUMBER
        } else {
            continue;
        };
        if tag == TURN {
            // The turns before made the home, the last one made the elements.
            batch.retain(|held| held.key.first() != Some(&TURN));
        }
        batch.push(Sample { key, number_at, value });
    }
    let count = batch.len() as u64;
    let rows_min = BATCH * OF_ELEMENT.len() as u64;
    if count <= rows_min {
        return Err(format!("a batch has {count} rows, not more than {rows_min}").into());
    }
    Ok(batch)
}
