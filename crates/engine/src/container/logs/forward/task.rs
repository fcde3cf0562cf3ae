//! The task that follows one container's log and sends it on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
/// How long a removed container's last records may take, and how long of that without any progress.
const LINGER: Duration = Duration::from_secs(30);
const NO_PROGRESS: Duration = Duration::from_secs(3);
/// How long the end of an engine waits for what is just being sent.
const CLOSE: Duration = Duration::from_secs(1);
/// When a task begins anew that could not read or note something, as on a full disk.
const TRY_ANEW: Duration = Duration::from_secs(5);
/// How often the engine's log tells of records that were dropped.
const TELL_OF_DROPS: Duration = Duration::from_secs(60);
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
    /// Tells of what was sent.
    progress: Arc<watch::Sender<()>>,
    /// Ends with the task.
    done: watch::Sender<()>,
}

impl Forwarders {
    /// Waits until a removed container's log is sent, but not for ever.
    pub(crate) async fn drained(&self, id: &ContainerId) {
        let receivers = |task: &Task| (task.done.subscribe(), task.progress.subscribe());
        let Some((mut done, mut progress)) = lock(&self.tasks).get(id).map(receivers) else {
            return;
        };
        let ended = async {
            loop {
                tokio::select! {
                    _ = done.changed() => return true,
                    _ = progress.changed() => {}
                    () = tokio::time::sleep(NO_PROGRESS) => return false,
                }
            }
        };
        if tokio::time::timeout(LINGER, ended).await != Ok(true) {
            tracing::warn!(%id, "a removed container's last log records could not be sent");
            lock(&self.tasks).remove(id);
        }
    }

    /// Has every task stop behind what it is sending, and waits for that.
    pub(crate) fn close(&self) {
        self.stop.send_replace(true);
        let began = Instant::now();
        while self.busy.load(Ordering::Acquire) > 0 && began.elapsed() < CLOSE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether a container's log is still to be sent on.
    fn is_wanted(&self, id: &ContainerId) -> bool {
        !*self.stop.borrow() && lock(&self.tasks).contains_key(id)
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
        let progress = Arc::new(watch::Sender::default());
        let done = {
            let mut tasks = lock(&self.forwarders.tasks);
            if let Some(task) = tasks.get_mut(&container.id) {
                task.again = true;
                return;
            }
            let done = watch::Sender::default();
            let seen = done.subscribe();
            let task = Task {
                again: false,
                progress: Arc::clone(&progress),
                done,
            };
            tasks.insert(container.id.clone(), task);
            seen
        };
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        let options = config.config.unwrap_or_default();
        tokio::spawn(async move {
            loop {
                let ended = forward(&engine, &container, (&plan, &options), &progress, &done).await;
                if let Err(error) = ended {
                    tracing::error!(id = %container.id, %error, "sending a log on failed; it is tried again");
                    tokio::time::sleep(TRY_ANEW).await;
                    if engine.forwarders.is_wanted(&container.id) {
                        continue;
                    }
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
    (plan, options): (&Plan, &Options),
    progress: &Arc<watch::Sender<()>>,
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
        progress: Arc::clone(progress),
        listed: listed.clone(),
        watched,
        failing: None,
        dropped: 0,
        told_of_drops: None,
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
    progress: Arc<watch::Sender<()>>,
    listed: watch::Receiver<()>,
    watched: Watched,
    /// The last pause between two attempts, while the receiver takes nothing.
    failing: Option<Duration>,
    dropped: u64,
    told_of_drops: Option<Instant>,
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
            let Some(record) = self.reader.read_next().step(|| "read the log")? else {
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
        loop {
            let count = Arc::clone(&self.busy);
            let busy = Busy::new(&count);
            let before = from;
            let Err(error) = self.attempt(batch, &mut from).await else {
                self.receiver_takes();
                return self.note(batch, batch.frames());
            };
            if from > before {
                self.receiver_takes();
                self.note(batch, from)?;
                failures = 0;
            }
            drop(busy);
            self.connection = None;
            failures += 1;
            if !self.pause_after(&error).await {
                return Ok(());
            }
            let enough = self.patience.most.is_some_and(|most| failures > most);
            if enough || self.is_too_far_behind(batch) {
                return self.drop_oldest(batch);
            }
        }
    }

    fn receiver_takes(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!(id = %self.id, "a log's receiver is back");
        }
    }

    /// Waits before the next attempt, each time longer; `false` when the task is to end.
    async fn pause_after(&mut self, error: &std::io::Error) -> bool {
        let pause = match self.failing {
            Some(last) => (last * 2).min(self.patience.longest),
            None => {
                let error = crate::error::chain(error);
                tracing::warn!(id = %self.id, error, "a log's receiver takes nothing: tries again");
                self.patience.first
            }
        };
        self.failing = Some(pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            _ = self.stop.changed() => false,
            _ = self.listed.changed() => false,
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
        self.progress.send_replace(());
        self.places
            .save(place)
            .step(|| "note how far a log was sent")
    }

    fn is_too_far_behind(&mut self, batch: &Batch) -> bool {
        // a file that cannot be opened now is no reason to drop anything
        let _looked = self.reader.look_for_files();
        let behind = self.reader.behind().saturating_add(batch.len() as u64);
        self.plan.drop_behind.is_some_and(|most| behind > most)
    }

    /// Gives a batch up, and of what comes after it all but the newest that may wait.
    fn drop_oldest(&mut self, batch: &Batch) -> Result<()> {
        self.dropped += batch.frames() as u64;
        let most = self.plan.drop_behind.unwrap_or(u64::MAX);
        loop {
            let excess = self.reader.behind().saturating_sub(most);
            let mut skipped = 0;
            while skipped < excess {
                let Some(record) = self.reader.read_next().step(|| "read the log")? else {
                    break;
                };
                skipped += record.text.len() as u64;
                self.dropped += 1;
            }
            if skipped == 0 {
                break;
            }
        }
        if self
            .told_of_drops
            .is_none_or(|then| then.elapsed() > TELL_OF_DROPS)
        {
            self.told_of_drops = Some(Instant::now());
            tracing::warn!(id = %self.id, dropped = self.dropped, "log records were dropped: their receiver takes nothing");
        }
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
