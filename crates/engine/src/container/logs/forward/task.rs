//! The task that follows one container's log and sends it on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use distribution::HostNames;
use logfile::{Position, Reader};
use oci::ContainerId;
use shim::Request;
use tokio::sync::watch;

use super::batch::Batch;
use super::connection::Connection;
use super::place::PlaceFile;
use super::{Encoder, Patience};
use crate::container::logs::options::{Options, Plan};
use crate::container::logs::watch::Watched;
use crate::container::{Container, Phase, lock};
use crate::engine::Engine;
use crate::error::{Result, Step};
use crate::shim_link::Link;

/// How much is sent at once.
const BATCH: usize = 64 << 10;
const MESSAGES: usize = 512;
/// How long a removed container's last records may take.
const LINGER: Duration = Duration::from_secs(10);
/// How long the end of an engine waits for what is just being sent.
const CLOSE: Duration = Duration::from_secs(2);
/// When a shim is told again that could not be told.
const TELL_AGAIN: Duration = Duration::from_millis(200);

/// The tasks of an engine.
#[derive(Debug, Default)]
pub(crate) struct Forwarders {
    tasks: Mutex<HashMap<ContainerId, Task>>,
    stop: watch::Sender<bool>,
    /// How many are between sending and noting that it was sent.
    busy: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Task {
    /// Whether the container was started since the task last looked whether it is over.
    again: bool,
    /// Ends with the task.
    done: watch::Sender<()>,
}

impl Forwarders {
    /// Waits until a removed container's log is sent, but not for ever.
    pub(crate) async fn drained(&self, id: &ContainerId) {
        let Some(mut done) = lock(&self.tasks).get(id).map(|task| task.done.subscribe()) else {
            return;
        };
        let ended = async { while done.changed().await.is_ok() {} };
        if tokio::time::timeout(LINGER, ended).await.is_err() {
            tracing::warn!(%id, "a removed container's last log records could not be sent");
            lock(&self.tasks).remove(id);
        }
    }

    /// Has every task stop behind what it is sending, and waits for that.
    pub(crate) fn close(&self) {
        self.stop.send_replace(true);
        let began = std::time::Instant::now();
        while self.busy.load(Ordering::Acquire) > 0 && began.elapsed() < CLOSE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether a task is to go on: its container was started again just now. One that is not is
    /// forgotten.
    fn goes_on(&self, id: &ContainerId) -> bool {
        let mut tasks = lock(&self.tasks);
        match tasks.get_mut(id) {
            Some(task) if task.again => {
                task.again = false;
                true
            }
            _ => {
                tasks.remove(id);
                false
            }
        }
    }
}

impl Engine {
    /// Sends a container's log on from now on, where its driver is one that does.
    pub(crate) fn forward_log(self: &Arc<Self>, container: &Arc<Container>) {
        let config = container.record().host.log_config.clone();
        let Ok(Some(plan)) = super::super::plan(&config) else {
            return;
        };
        if plan.target.is_none() {
            return;
        }
        let done = {
            let mut tasks = lock(&self.forwarders.tasks);
            if let Some(task) = tasks.get_mut(&container.id) {
                task.again = true;
                return;
            }
            let done = watch::Sender::default();
            let seen = done.subscribe();
            tasks.insert(container.id.clone(), Task { again: false, done });
            seen
        };
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        let options = config.config.unwrap_or_default();
        tokio::spawn(async move {
            loop {
                let ended = forward(&engine, &container, &plan, &options, &done).await;
                if let Err(error) = ended {
                    tracing::error!(id = %container.id, %error, "a log is not sent on");
                }
                if !engine.forwarders.goes_on(&container.id) {
                    return;
                }
            }
        });
    }
}

/// Follows and sends until the container is over and all is sent.
async fn forward(
    engine: &Arc<Engine>,
    container: &Container,
    plan: &Plan,
    options: &Options,
    listed: &watch::Receiver<()>,
) -> Result<()> {
    let Some(target) = &plan.target else {
        return Ok(());
    };
    let path = engine.log_file(&container.id, plan);
    let step = || format!("follow log {}", path.display());
    let watched = engine.log_watch.folder_of(&path)?;
    let mut reader = Reader::open(&path, plan.format).step(step)?;
    let folder = engine.container_dir(&container.id);
    let places = PlaceFile::open(&folder).step(step)?;
    if let Some(place) = places.load()
        && !reader.go_behind(&place).step(step)?
    {
        tracing::warn!(id = %container.id, "log records were rotated away before they were sent");
    }
    let told = reader.position().filter(|_| plan.hold.is_some());
    let encoder = target.encoder(&container.record(), options);
    let journal = engine.config.journal_socket.clone();
    let mut forwarder = Forwarder {
        id: container.id.clone(),
        address: target.address(journal),
        names: HostNames::default(),
        patience: target.patience(),
        encoder,
        reader,
        places,
        connection: None,
        plan,
        shim: ShimLink {
            dir: engine.run_dir(&container.id),
            link: None,
            untold: told,
        },
        phase: container.phase.subscribe(),
        stop: engine.forwarders.stop.subscribe(),
        busy: Arc::clone(&engine.forwarders.busy),
        listed: listed.clone(),
        watched,
        dropped: 0,
    };
    forwarder.run().await
}

/// The state of one task.
struct Forwarder<'a> {
    id: ContainerId,
    address: super::Address,
    names: HostNames,
    patience: Patience,
    encoder: Encoder,
    reader: Reader,
    places: PlaceFile,
    connection: Option<Connection>,
    plan: &'a Plan,
    shim: ShimLink,
    phase: watch::Receiver<Phase>,
    stop: watch::Receiver<bool>,
    busy: Arc<AtomicUsize>,
    listed: watch::Receiver<()>,
    watched: Watched,
    dropped: u64,
}

/// The way to the shim that waits for what was sent.
struct ShimLink {
    dir: PathBuf,
    link: Option<Link>,
    untold: Option<Position>,
}

/// Says that something is being sent that is not noted yet.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Forwarder<'_> {
    async fn run(&mut self) -> Result<()> {
        while !self.is_stopped() {
            // looked at before reading: what was written before the end is read after it
            let over = self.phase.borrow_and_update().is_over();
            self.watched.mark_seen();
            let batch = self.collect()?;
            if !batch.is_empty() {
                self.deliver(&batch).await?;
            } else if over {
                break;
            } else {
                self.wait().await;
            }
            self.shim.tell().await;
        }
        Ok(())
    }

    /// Whether the engine ends, or the container's folder goes.
    fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.listed.has_changed().is_err()
    }

    /// Reads what is new.
    fn collect(&mut self) -> Result<Batch> {
        let mut batch = Batch::default();
        let mut count = 0;
        while count < MESSAGES && batch.len() < BATCH {
            let Some(record) = self.reader.next().step(|| "read the log")? else {
                break;
            };
            self.encoder.encode(&mut batch, &record);
            batch.end_record(self.reader.position());
            count += 1;
        }
        self.encoder.finish(&mut batch);
        if self.reader.take_missed() {
            tracing::warn!(id = %self.id, "log records were rotated away before they were sent");
        }
        Ok(batch)
    }

    /// Waits for something new.
    async fn wait(&mut self) {
        let again = if self.shim.untold.is_some() {
            TELL_AGAIN
        } else {
            Duration::MAX
        };
        tokio::select! {
            () = self.watched.changed() => {}
            _ = self.phase.changed() => {}
            _ = self.stop.changed() => {}
            _ = self.listed.changed() => {}
            () = tokio::time::sleep(again) => {}
        }
    }

    /// Sends a batch, again and again, and notes how far it came.
    async fn deliver(&mut self, batch: &Batch) -> Result<()> {
        let mut from = 0;
        let mut failures = 0;
        let mut pause = self.patience.first;
        loop {
            let count = Arc::clone(&self.busy);
            let busy = Busy::new(&count);
            let before = from;
            let error = match self.attempt(batch, &mut from).await {
                Ok(()) => {
                    self.note(batch, batch.frames())?;
                    if failures > 0 {
                        tracing::info!(id = %self.id, "a log's receiver is back");
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            if from > before {
                self.note(batch, from)?;
                failures = 0;
                pause = self.patience.first;
            }
            drop(busy);
            self.connection = None;
            if failures == 0 {
                let error = crate::error::chain(&error);
                tracing::warn!(id = %self.id, error, "a log's receiver takes nothing: tries again");
            }
            failures += 1;
            if self.patience.most.is_some_and(|most| failures > most)
                || self.is_too_far_behind(batch)
            {
                return self.drop_oldest(batch);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.stop.changed() => return Ok(()),
                _ = self.listed.changed() => return Ok(()),
            }
            pause = (pause * 2).min(self.patience.longest);
        }
    }

    async fn attempt(&mut self, batch: &Batch, from: &mut usize) -> std::io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self
                .connection
                .insert(Connection::open(&self.address, &self.names).await?),
        };
        connection.send(batch, *from).await.map_err(|unsent| {
            *from = unsent.frame;
            unsent.error
        })
    }

    /// Notes that the receiver has all frames before one.
    fn note(&mut self, batch: &Batch, frame: usize) -> Result<()> {
        let Some(place) = batch.place(frame) else {
            return Ok(());
        };
        if self.plan.hold.is_some() {
            self.shim.untold = Some(place);
        }
        self.places
            .save(place)
            .step(|| "note how far a log was sent")
    }

    fn most_behind(&self) -> Option<u64> {
        self.plan.drop_behind
    }

    fn is_too_far_behind(&mut self, batch: &Batch) -> bool {
        // a file that cannot be opened now is no reason to drop anything
        let _looked = self.reader.look_for_files();
        let behind = self.reader.behind().saturating_add(batch.len() as u64);
        self.most_behind().is_some_and(|most| behind > most)
    }

    /// Gives a batch up, and of what comes after it all but the newest that may wait.
    fn drop_oldest(&mut self, batch: &Batch) -> Result<()> {
        self.dropped += batch.frames() as u64;
        let most = self.most_behind().unwrap_or(u64::MAX);
        loop {
            let excess = self.reader.behind().saturating_sub(most);
            let mut skipped = 0;
            while skipped < excess {
                let Some(record) = self.reader.next().step(|| "read the log")? else {
                    break;
                };
                skipped += record.text.len() as u64;
                self.dropped += 1;
            }
            if skipped == 0 {
                break;
            }
        }
        tracing::warn!(id = %self.id, dropped = self.dropped, "log records were dropped: their receiver takes nothing");
        if let Some(place) = self.reader.position() {
            self.places
                .save(place)
                .step(|| "note how far a log was sent")?;
        }
        Ok(())
    }
}

impl ShimLink {
    /// Tells the shim how far its log was followed, so that its container can go on.
    async fn tell(&mut self) {
        let Some(place) = self.untold else { return };
        // the link may be that of an earlier run
        for _ in 0..2 {
            if self.try_tell(place).await.is_ok() {
                self.untold = None;
                return;
            }
            self.link = None;
        }
    }

    async fn try_tell(&mut self, place: Position) -> Result<()> {
        let link = match &mut self.link {
            Some(link) => link,
            None => self.link.insert(Link::connect(&self.dir)?),
        };
        link.call(&Request::LogFollowed(place), &[])
            .await
            .map(drop)
            .map_err(|error| crate::shim_link::refusal(&error))
    }
}
