//! The registry's database: which repository may read what, tags, and who refers to whom.
//!
//! One thread owns all write transactions and gathers what is queued into one commit, so that many
//! pushes at once wait for a few disk flushes. What a transaction checks and what it writes are
//! one step: nothing else writes in between. Readers see the last commit and wait for nobody.

pub(crate) mod events;
pub(crate) mod records;
pub(crate) mod tables;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::{Database, ReadTransaction, ReadableDatabase as _};
use tokio::sync::{mpsc, oneshot};

use tables::{Reader, Tables};

/// Writes that may be gathered into one commit.
const BATCH: usize = 128;
/// redb's page cache, bytes; the kernel's holds the rest.
const CACHE: usize = 2 << 20;

/// A failed step on the database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// The file cannot be used.
    #[error("open database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<redb::Error>,
    },
    /// Another process has it open.
    #[error("database {} is in use by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A read failed.
    #[error("read the database")]
    Read(#[source] Arc<redb::Error>),
    /// A write failed; nothing of it is there.
    #[error("write the database")]
    Write(#[source] Arc<redb::Error>),
    /// A row holds what no row should.
    #[error("read a record of the database")]
    Record(#[source] Arc<serde_json::Error>),
    /// The writer's thread cannot be started.
    #[error("start the database's writer")]
    Thread(#[source] Arc<std::io::Error>),
    /// The writer has ended.
    #[error("the database's writer has ended")]
    Ended,
}

impl<E: Into<redb::Error>> From<E> for DbError {
    fn from(error: E) -> Self {
        Self::Read(Arc::new(error.into()))
    }
}

/// Does its part of a transaction; what it gives back tells the one who asked, once the outcome is known.
type Job = Box<dyn for<'t> FnOnce(&mut Tables<'t>) -> Result<Answer, DbError> + Send>;
type Answer = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// The open database. When it is dropped, its file is closed.
#[derive(Debug)]
pub(crate) struct Db {
    file: Arc<DbFile>,
    queue: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Db {
    fn drop(&mut self) {
        // the end of the queue is the end of its reader
        self.queue = None;
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            tracing::error!("the database's writer panicked");
        }
    }
}

#[derive(Debug)]
struct DbFile {
    path: PathBuf,
    /// Absent while it cannot be opened again.
    database: RwLock<Option<Database>>,
}

impl Db {
    /// Opens or makes the database file and starts its writer.
    pub(crate) fn open(path: &Path) -> Result<Self, DbError> {
        let database = open(path)?;
        tables::create(&database).map_err(|source| failed_to_open(path, source))?;
        let file = Arc::new(DbFile {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
        });
        let (queue, jobs) = mpsc::channel(BATCH);
        let own = Arc::clone(&file);
        let writer = std::thread::Builder::new()
            .name("gorae-reg-db".into())
            .stack_size(512 << 10)
            .spawn(move || write_loop(&own, jobs))
            .map_err(|error| DbError::Thread(Arc::new(error)))?;
        Ok(Self {
            file,
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// Reads what is committed.
    pub(crate) fn read<T>(
        &self,
        then: impl FnOnce(&Reader<'_>) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let transaction = self.file.begin_read()?;
        then(&Reader::new(&transaction))
    }

    /// Runs a part of a transaction and returns when it is on the disk. An error is the disk's and takes
    /// the whole transaction down; a refusal is part of `T`, and comes before the part writes anything.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Tables<'_>) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move |tables| {
            let value = act(tables)?;
            let answer = move |outcome: Result<(), DbError>| {
                // the one who asked may have gone away
                drop(done.send(outcome.map(|()| value)));
            };
            Ok(Box::new(answer) as Answer)
        });
        let queue = self.queue.as_ref().ok_or(DbError::Ended)?;
        queue.send(job).await.map_err(|_| DbError::Ended)?;
        result.await.map_err(|_| DbError::Ended)?
    }
}

impl DbFile {
    fn begin_read(&self) -> Result<ReadTransaction, DbError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(DbError::Ended)?;
        Ok(database.begin_read()?)
    }

    fn run(&self, jobs: Vec<Job>) {
        let outcome = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            database.as_ref().map(|database| commit(database, jobs))
        };
        // after a failed write redb refuses everything until the file is opened again; a disk that
        // was full has room again, and the registry must not end for it
        if !matches!(outcome, Some(Ok(()))) {
            self.open_anew();
        }
    }

    fn open_anew(&self) {
        let place = self.database.write();
        let mut place = place.unwrap_or_else(PoisonError::into_inner);
        // it holds the file's lock
        drop(place.take());
        match open(&self.path) {
            Ok(database) => *place = Some(database),
            Err(error) => {
                let error = crate::refusal::chain(&error);
                tracing::error!(error, "the database cannot be opened again yet");
            }
        }
    }
}

fn open(path: &Path) -> Result<Database, DbError> {
    let opened = Database::builder().set_cache_size(CACHE).create(path);
    opened.map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => DbError::Busy {
            path: path.to_owned(),
        },
        other => failed_to_open(path, other.into()),
    })
}

fn failed_to_open(path: &Path, source: redb::Error) -> DbError {
    DbError::Open {
        path: path.to_owned(),
        source: Arc::new(source),
    }
}

fn write_loop(file: &DbFile, mut queue: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        file.run(std::mem::take(&mut batch));
    }
}

/// Runs all jobs in one transaction. Where one fails, all do: each of them is told.
fn commit(database: &Database, jobs: Vec<Job>) -> Result<(), DbError> {
    let mut answers = Vec::with_capacity(jobs.len());
    let outcome = transact(database, jobs, &mut answers);
    if let Err(error) = &outcome {
        let error = crate::refusal::chain(error);
        tracing::error!(error, "the database could not be written");
    }
    for answer in answers {
        answer(outcome.clone());
    }
    outcome
}

fn transact(database: &Database, jobs: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), DbError> {
    let write = |error: redb::Error| DbError::Write(Arc::new(error));
    let transaction = database.begin_write().map_err(|e| write(e.into()))?;
    {
        let mut tables = Tables::open(&transaction)?;
        for job in jobs {
            answers.push(job(&mut tables)?);
        }
    }
    transaction.commit().map_err(|e| write(e.into()))
}
