//! The metadata database: everything that must survive a crash.
//!
//! One writer thread owns all write transactions and gathers what is queued into one commit, so
//! that fifty containers that start at once wait for a few disk flushes and not for fifty. Reads
//! happen at start-up only; the engine works on its own copy in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result, Step};

/// A table: JSON values by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Container id to container record.
    Containers,
    /// Image id to image record.
    Images,
    /// Network id to network record.
    Networks,
    /// Volume name to volume record.
    Volumes,
    /// Image id to when the image was last used.
    Uses,
    /// Work that brings content to what it brings.
    Leases,
    /// Settings that the engine chose once, as its own id.
    Meta,
}

impl Table {
    const ALL: [Self; 7] = [
        Self::Containers,
        Self::Images,
        Self::Networks,
        Self::Volumes,
        Self::Uses,
        Self::Leases,
        Self::Meta,
    ];

    fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Containers => "containers",
            Self::Images => "images",
            Self::Networks => "networks",
            Self::Volumes => "volumes",
            Self::Uses => "uses",
            Self::Leases => "leases",
            Self::Meta => "meta",
        })
    }
}

/// A value that is to be stored, or removed.
#[derive(Debug)]
pub(crate) struct Change {
    table: Table,
    key: String,
    value: Option<Vec<u8>>,
}

impl Change {
    /// Stores a value.
    pub(crate) fn put<T: Serialize>(table: Table, key: &str, value: &T) -> Result<Self> {
        Ok(Self {
            table,
            key: key.to_owned(),
            value: Some(encode(key, value)?),
        })
    }

    /// Removes a value.
    pub(crate) fn remove(table: Table, key: &str) -> Self {
        Self {
            table,
            key: key.to_owned(),
            value: None,
        }
    }
}

/// Changes of which a crash leaves all or none.
struct Write {
    changes: Vec<Change>,
    done: Option<oneshot::Sender<std::result::Result<(), String>>>,
}

/// Writes that may be gathered into one commit.
const BATCH: usize = 256;
/// redb's page cache, bytes: the engine reads the database once, at its start, and a long record must not
/// stay in memory twice.
const CACHE: usize = 256 << 10;

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    file: Arc<DbFile>,
    queue: mpsc::Sender<Write>,
}

/// The database file. After a failed write redb refuses everything until the file is opened again; a disk
/// that was full has room again, and the engine must not end for it.
#[derive(Debug)]
struct DbFile {
    path: PathBuf,
    /// Absent while it cannot be opened again.
    database: RwLock<Option<Database>>,
}

impl DbFile {
    fn open(path: &Path) -> Result<Self> {
        let step = || format!("open database {}", path.display());
        let database = open(path).step(step)?;
        let transaction = database.begin_write().step(step)?;
        for table in Table::ALL {
            transaction.open_table(table.definition()).step(step)?;
        }
        transaction.commit().step(step)?;
        Ok(Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
        })
    }

    /// A view of what is in the database now.
    fn read(&self) -> std::result::Result<redb::ReadTransaction, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(redb::Error::PreviousIo)?;
        Ok(database.begin_read()?)
    }

    /// Writes a batch; where that fails for the disk's sake, once more with the file opened anew.
    fn write(&self, batch: &[Write]) -> std::result::Result<(), redb::Error> {
        let first = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match database.as_ref() {
                Some(database) => commit(database, batch),
                None => Err(redb::Error::PreviousIo),
            }
        };
        match first {
            Err(redb::Error::Io(_) | redb::Error::PreviousIo) => self.write_anew(batch),
            other => other,
        }
    }

    fn write_anew(&self, batch: &[Write]) -> std::result::Result<(), redb::Error> {
        let mut place = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // it holds the file's lock
        drop(place.take());
        let database = place.insert(open(&self.path)?);
        commit(database, batch)
    }
}

fn open(path: &Path) -> std::result::Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(path)
}

impl Db {
    /// Opens or makes the database file and starts its writer.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(DbFile::open(path)?);
        let (queue, writes) = mpsc::channel(BATCH);
        let writer = Arc::clone(&file);
        std::thread::Builder::new()
            .name("gorae-db".into())
            .stack_size(512 << 10)
            .spawn(move || write_loop(&writer, writes))
            .step(|| "start the database's writer")?;
        Ok(Self { file, queue })
    }

    /// All values of a table.
    pub(crate) fn load<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>> {
        let step = || format!("read table {table:?} of the database");
        let transaction = self.file.read().step(step)?;
        let rows = transaction.open_table(table.definition()).step(step)?;
        let mut values = Vec::new();
        for row in rows.iter().step(step)? {
            let (key, value) = row.step(step)?;
            let key = key.value().to_owned();
            let value = serde_json::from_slice(value.value())
                .step(|| format!("read {key} in table {table:?} of the database"))?;
            values.push((key, value));
        }
        Ok(values)
    }

    /// One value of a table.
    pub(crate) fn load_one<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>> {
        let step = || format!("read {key} in table {table:?} of the database");
        let transaction = self.file.read().step(step)?;
        let rows = transaction.open_table(table.definition()).step(step)?;
        let Some(value) = rows.get(key).step(step)? else {
            return Ok(None);
        };
        serde_json::from_slice(value.value()).map(Some).step(step)
    }

    /// Stores a value and returns when it is on the disk.
    pub(crate) async fn put<T: Serialize>(&self, table: Table, key: &str, value: &T) -> Result<()> {
        self.begin_put(table, key, value).await?.wait().await
    }

    /// Removes a value and returns when that is on the disk.
    pub(crate) async fn remove(&self, table: Table, key: &str) -> Result<()> {
        let change = Change::remove(table, key);
        self.begin(vec![change]).await?.wait().await
    }

    /// Stores a value without waiting for the disk, for what could be found out again.
    pub(crate) async fn put_later<T: Serialize>(&self, table: Table, key: &str, value: &T) {
        let Some(write) = unasked(table, key, value) else {
            return;
        };
        if self.queue.send(write).await.is_err() {
            tracing::error!(key, "the database's writer has ended");
        }
    }

    /// The same, from a thread that may block.
    pub(crate) fn put_later_blocking<T: Serialize>(&self, table: Table, key: &str, value: &T) {
        let Some(write) = unasked(table, key, value) else {
            return;
        };
        if self.queue.blocking_send(write).is_err() {
            tracing::error!(key, "the database's writer has ended");
        }
    }

    /// Stores a value; the answer tells when it is on the disk.
    pub(crate) async fn begin_put<T: Serialize>(
        &self,
        table: Table,
        key: &str,
        value: &T,
    ) -> Result<Saved> {
        self.begin(vec![Change::put(table, key, value)?]).await
    }

    /// Makes several changes in one step, of which a crash leaves all or none; the answer tells when they
    /// are on the disk.
    pub(crate) async fn begin(&self, changes: Vec<Change>) -> Result<Saved> {
        let what = changes.first().map_or_else(String::new, |change| {
            format!("{} to table {:?}", change.key, change.table)
        });
        let (done, result) = oneshot::channel();
        let write = Write {
            changes,
            done: Some(done),
        };
        self.queue.send(write).await.map_err(|_| gone())?;
        Ok(Saved { result, what })
    }
}

/// A write that is on its way to the disk.
#[derive(Debug)]
pub(crate) struct Saved {
    result: oneshot::Receiver<std::result::Result<(), String>>,
    what: String,
}

impl Saved {
    /// Waits until the write is on the disk.
    pub(crate) async fn wait(self) -> Result<()> {
        let failed = |e| Error::internal(format!("write {} of the database: {e}", self.what));
        self.result.await.map_err(|_| gone())?.map_err(failed)
    }
}

/// A write that nobody waits for.
fn unasked<T: Serialize>(table: Table, key: &str, value: &T) -> Option<Write> {
    let change = Change::put(table, key, value).ok()?;
    Some(Write {
        changes: vec![change],
        done: None,
    })
}

fn gone() -> Error {
    Error::internal("write to the database: its writer has ended")
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).step(|| format!("encode {key} for the database"))
}

fn write_loop(file: &DbFile, mut queue: mpsc::Receiver<Write>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let result = file.write(&batch).map_err(|e| crate::error::chain(&e));
        if let Err(error) = &result {
            tracing::error!(error, "the database could not be written");
        }
        for write in batch.drain(..) {
            if let Some(done) = write.done {
                // the one who asked may have gone away
                drop(done.send(result.clone()));
            }
        }
    }
}

fn commit(database: &Database, batch: &[Write]) -> std::result::Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for change in batch.iter().flat_map(|write| &write.changes) {
        let mut table = transaction.open_table(change.table.definition())?;
        match &change.value {
            Some(value) => table.insert(change.key.as_str(), value.as_slice())?,
            None => table.remove(change.key.as_str())?,
        };
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("gorae-db-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn what_was_put_is_there_after_reopening() {
        let dir = folder("reopen");
        let path = dir.join("gorae.db");
        let db = Db::open(&path).unwrap();
        db.put(Table::Volumes, "a", &1).await.unwrap();
        db.put(Table::Volumes, "b", &2).await.unwrap();
        db.remove(Table::Volumes, "a").await.unwrap();
        let copy = dir.join("copy.db");
        // what a kill would leave: the file as it is now, without a clean close
        std::fs::copy(&path, &copy).unwrap();
        let again = Db::open(&copy).unwrap();
        assert_eq!(
            again.load::<i32>(Table::Volumes).unwrap(),
            [("b".to_owned(), 2)]
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_was_lost_for_a_while_is_opened_again() {
        let dir = folder("anew");
        let db = Db::open(&dir.join("gorae.db")).unwrap();
        db.put(Table::Volumes, "a", &1).await.unwrap();
        // what is left when a write failed and the file could not be opened at once
        drop(db.file.database.write().unwrap().take());
        assert!(db.load::<i32>(Table::Volumes).is_err());
        db.put(Table::Volumes, "b", &2).await.unwrap();
        assert_eq!(db.load::<i32>(Table::Volumes).unwrap().len(), 2);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
