//! The same rows inserted into redb again and again under new keys: what many new things of one
//! sort cost at least.
//!
//! Each commit inserts every row once, in the order of keys, with the commit's number in the key
//! and at the beginning of the value, and is synced.

use std::path::Path;

use redb::{Builder, Database, Durability, TableDefinition};

use super::rounds::Fault;

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
/// Bytes of a commit's number in a key.
pub(crate) const NUMBER: usize = 6;

/// A row of each commit.
pub(crate) struct Sample {
    /// Its key.
    pub(crate) key: Vec<u8>,
    /// Where in the key the commit's number stands, with [`NUMBER`] bytes.
    pub(crate) number_at: usize,
    /// Its value.
    pub(crate) value: Vec<u8>,
}

/// A store of rows without a product around it.
pub(crate) struct Inserts {
    database: Database,
    rows: Vec<Sample>,
    number: u64,
}

impl Inserts {
    /// A new file, for commits of these rows.
    pub(crate) fn of(path: &Path, rows: Vec<Sample>) -> Result<Self, Fault> {
        Ok(Self { database: Builder::new().create(path)?, rows, number: 0 })
    }

    /// Makes so many commits.
    pub(crate) fn commits(&mut self, commits: u64) -> Result<(), Fault> {
        for _ in 0..commits {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.number += 1;
        let number = self.number.to_be_bytes();
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for Sample { key, number_at, value } in &mut self.rows {
                let in_key = &number[number.len() - NUMBER..];
                key[*number_at..*number_at + NUMBER].copy_from_slice(in_key);
                for (to, from) in value.iter_mut().zip(number) {
                    *to = from;
                }
                rows.insert(key.as_slice(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
