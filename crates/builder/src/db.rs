//! The build engine's database: what its cache knows of what lies on the disk.
//!
//! One writer thread gathers what is queued into one commit, and nobody who builds waits for it. A
//! crash may lose the last moments, after which the things on the disk that nobody knows are removed
//! and made again; it never leaves half of one [`Db::write`]. All of it is a cache: a file that
//! cannot be read, or that another version wrote, is put away and begun anew.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::error::{Error, Result, Step};

/// The layout of the tables. Another one begins anew.
const VERSION: &str = "1";
const META: Table = Table("meta");
/// Writes that may be gathered into one commit.
const BATCH: usize = 512;
/// redb's page cache, bytes: what is read often is in memory already.
const CACHE: usize = 1 << 20;

/// A table of JSON values by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(pub &'static str);

impl Table {
    fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.0)
    }
}

/// A value that is to be stored, or removed.
#[derive(Debug)]
pub struct Change {
    table: Table,
    key: String,
    value: Option<Vec<u8>>,
}

impl Change {
    /// Stores a value.
    ///
    /// # Errors
    /// When it has no form in JSON.
    pub fn put<T: Serialize>(table: Table, key: &str, value: &T) -> Result<Self> {
        let value = serde_json::to_vec(value).step(|| format!("write {key} as JSON"))?;
        Ok(Self {
            table,
            key: key.to_owned(),
            value: Some(value),
        })
    }

    /// Removes a value.
    #[must_use]
    pub fn remove(table: Table, key: &str) -> Self {
        Self {
            table,
            key: key.to_owned(),
            value: None,
        }
    }
}

enum Order {
    Write(Vec<Change>),
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
struct DbFile {
    path: PathBuf,
    /// Absent while it cannot be opened again, as after the disk was full.
    database: RwLock<Option<Database>>,
}

/// The open database. Copies share it.
#[derive(Clone, Debug)]
pub struct Db {
    file: Arc<DbFile>,
    queue: mpsc::Sender<Order>,
}

impl Db {
    /// Opens or makes the file and starts its writer.
    ///
    /// # Errors
    /// When it can neither be opened nor begun anew.
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("open database {}", path.display());
        let database = match open_known(path) {
            Ok(Some(database)) => database,
            Ok(None) => begin_anew(path).step(step)?,
            Err(redb::Error::DatabaseAlreadyOpen) => {
                return Err(Error::conflict(format!(
                    "{}: another engine has it",
                    step()
                )));
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the build cache cannot be read and begins anew");
                begin_anew(path).step(step)?
            }
        };
        let file = Arc::new(DbFile {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
        });
        let (queue, orders) = mpsc::channel();
        let writer = Arc::clone(&file);
        std::thread::Builder::new()
            .name("gorae-build-db".into())
            .stack_size(512 << 10)
            .spawn(move || write_loop(&writer, &orders))
            .step(|| "start the build database's writer")?;
        Ok(Self { file, queue })
    }

    /// Makes several changes in one step, of which a crash leaves all or none. They are on the disk soon.
    pub fn write(&self, changes: Vec<Change>) {
        if self.queue.send(Order::Write(changes)).is_err() {
            tracing::error!("the build database's writer has ended");
        }
    }

    /// Stores a value. It is on the disk soon.
    pub fn put<T: Serialize>(&self, table: Table, key: &str, value: &T) {
        match Change::put(table, key, value) {
            Ok(change) => self.write(vec![change]),
            Err(error) => tracing::error!(%error, "a value of the build database is not stored"),
        }
    }

    /// Removes a value. That is on the disk soon.
    pub fn remove(&self, table: Table, key: &str) {
        self.write(vec![Change::remove(table, key)]);
    }

    /// Waits until everything that was written before is on the disk.
    pub async fn flush(&self) {
        let (tell, told) = oneshot::channel();
        if self.queue.send(Order::Flush(tell)).is_ok() {
            // a writer that ends has nothing more to write
            let _ended = told.await;
        }
    }

    /// All values of a table, as they are on the disk. One that cannot be read is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>> {
        let step = || format!("read table {} of the build database", table.0);
        let place = self.file.database.read();
        let place = place.unwrap_or_else(PoisonError::into_inner);
        let Some(database) = place.as_ref() else {
            return Err(Error::internal(format!("{}: it is not open", step())));
        };
        let transaction = database.begin_read().step(step)?;
        let rows = match transaction.open_table(table.definition()) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other.step(step)?,
        };
        let mut values = Vec::new();
        for row in rows.iter().step(step)? {
            let (key, value) = row.step(step)?;
            match serde_json::from_slice(value.value()) {
                Ok(value) => values.push((key.value().to_owned(), value)),
                Err(error) => {
                    tracing::warn!(key = key.value(), table = table.0, %error, "a value of the build database is left out");
                }
            }
        }
        Ok(values)
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// Opens the file, where it is one of this version.
fn open_known(path: &Path) -> Result<Option<Database>, redb::Error> {
    let database = builder().create(path)?;
    let transaction = database.begin_write()?;
    let known = {
        let mut meta = transaction.open_table(META.definition())?;
        let found = meta.get("version")?.map(|v| v.value().to_vec());
        if found.is_none() {
            meta.insert("version", VERSION.as_bytes())?;
        }
        found.is_none_or(|found| found == VERSION.as_bytes())
    };
    transaction.commit()?;
    Ok(known.then_some(database))
}

fn begin_anew(path: &Path) -> Result<Database, redb::Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => (),
    }
    open_known(path)?.ok_or_else(|| redb::Error::Corrupted("a new file has a version".to_owned()))
}

fn write_loop(file: &DbFile, orders: &mpsc::Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        let mut take = |order| match order {
            Order::Write(mut more) => changes.append(&mut more),
            Order::Flush(tell) => waiting.push(tell),
        };
        take(first);
        for order in orders.try_iter().take(BATCH) {
            take(order);
        }
        if !changes.is_empty()
            && let Err(error) = file.write(&changes)
        {
            tracing::error!(%error, "the build database is not written");
        }
        for tell in waiting {
            let _gone = tell.send(());
        }
    }
}

impl DbFile {
    /// Writes changes; where that fails for the disk's sake, once more with the file opened anew.
    fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let first = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match database.as_ref() {
                Some(database) => commit(database, changes),
                None => Err(redb::Error::PreviousIo),
            }
        };
        match first {
            Err(redb::Error::Io(_) | redb::Error::PreviousIo) => {
                let place = self.database.write();
                let mut place = place.unwrap_or_else(PoisonError::into_inner);
                // it holds the file's lock
                drop(place.take());
                let database = place.insert(builder().create(&self.path)?);
                commit(database, changes)
            }
            other => other,
        }
    }
}

fn commit(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for change in changes {
        let mut table = transaction.open_table(change.table.definition())?;
        match &change.value {
            Some(value) => drop(table.insert(change.key.as_str(), value.as_slice())?),
            None => drop(table.remove(change.key.as_str())?),
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table("things");

    fn values(db: &Db) -> Vec<(String, i32)> {
        db.load(TABLE).unwrap()
    }

    #[tokio::test]
    async fn keeps_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let db = Db::open(&path).unwrap();
        assert_eq!(values(&db), []);
        db.put(TABLE, "a", &1);
        db.put(TABLE, "b", &2);
        db.remove(TABLE, "a");
        db.flush().await;
        assert_eq!(values(&db), [("b".to_owned(), 2)]);
        drop(db);
        // the writer ends with the last copy and lets the file go
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let again = loop {
            match Db::open(&path) {
                Err(_) if std::time::Instant::now() < until => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert_eq!(values(&again), [("b".to_owned(), 2)]);
    }

    #[tokio::test]
    async fn begins_anew_with_a_file_it_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        std::fs::write(&path, [7; 9000]).unwrap();
        let db = Db::open(&path).unwrap();
        db.put(TABLE, "a", &1);
        db.flush().await;
        assert_eq!(values(&db), [("a".to_owned(), 1)]);
    }

    #[test]
    fn begins_anew_with_a_file_of_another_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        {
            let database = Database::create(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            {
                let mut meta = transaction.open_table(META.definition()).unwrap();
                meta.insert("version", b"0".as_slice()).unwrap();
                let mut table = transaction.open_table(TABLE.definition()).unwrap();
                table.insert("a", b"1".as_slice()).unwrap();
            }
            transaction.commit().unwrap();
        }
        let db = Db::open(&path).unwrap();
        assert_eq!(values(&db), []);
    }
}
