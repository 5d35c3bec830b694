//! A row got from redb and decoded: what a read costs that goes to the file's pages each time.

use std::path::Path;

use redb::{Builder, Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::hash::{Held, Place};
use super::rounds::Fault;

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");

/// Values in a file. Its pages are in memory, all of them.
pub(crate) struct Shelf(Database);

/// The file at one moment. Made once and used for many reads, which is the fast way.
pub(crate) struct Reader(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Shelf {
    /// A new file that holds these.
    pub(crate) fn of(
        path: &Path,
        values: impl Iterator<Item = (Place, Held)>,
    ) -> Result<Self, Fault> {
        let database = Builder::new().create(path)?;
        let transaction = database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for (place, held) in values {
                let bytes = serde_cbor::ser::to_vec_packed(&held)?;
                rows.insert(place.as_slice(), bytes.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(Self(database))
    }

    /// The file as it is now.
    pub(crate) fn reader(&self) -> Result<Reader, Fault> {
        Ok(Reader(self.0.begin_read()?.open_table(ROWS)?))
    }
}

impl Reader {
    /// The value at a place.
    pub(crate) fn get(&self, place: &Place) -> Result<Held, Fault> {
        let found = self.0.get(place.as_slice())?.ok_or("there is no such row")?;
        Ok(serde_cbor::from_slice(found.value())?)
    }
}
