//! News of log folders: one inotify instance for all who follow, because a user has few of them.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::super::lock;
use crate::error::{Error, Result, Step};

/// The folders that are watched; nothing is opened before the first.
#[derive(Debug, Default)]
pub(crate) struct LogWatch(OnceLock<Result<Arc<Instance>>>);

#[derive(Debug)]
struct Instance {
    fd: Arc<AsyncFd<OwnedFd>>,
    folders: Arc<Mutex<HashMap<i32, Folder>>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Folder {
    news: watch::Sender<()>,
    watchers: usize,
}

/// One who waits for news of a folder.
#[derive(Debug)]
pub(crate) struct Watched {
    news: watch::Receiver<()>,
    id: i32,
    instance: Arc<Instance>,
}

impl LogWatch {
    /// Watches the folder of a log, so that a rotation is seen as well as a write.
    pub(crate) fn folder_of(&self, path: &Path) -> Result<Watched> {
        let instance = self.0.get_or_init(|| Instance::open().map(Arc::new));
        let instance = match instance {
            Ok(instance) => Arc::clone(instance),
            Err(error) => return Err(Error::new(error.kind(), error.message())),
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let mut folders = lock(&instance.folders);
        let id = inotify::add_watch(&*instance.fd, folder, flags)
            .step(|| format!("watch folder {}", folder.display()))?;
        let entry = folders.entry(id).or_insert_with(|| Folder {
            news: watch::channel(()).0,
            watchers: 0,
        });
        entry.watchers += 1;
        let news = entry.news.subscribe();
        drop(folders);
        Ok(Watched { news, id, instance })
    }
}

impl Instance {
    fn open() -> Result<Self> {
        let step = || "watch log folders";
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).step(step)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for fds of unknown owners; an OwnedFd owns itself"
        )]
        let fd = Arc::new(AsyncFd::new(fd).step(step)?);
        let folders = Arc::new(Mutex::new(HashMap::new()));
        let task = tokio::spawn(spread(Arc::clone(&fd), Arc::clone(&folders))).abort_handle();
        Ok(Self { fd, folders, task })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells those who wait for a folder that something has happened in it.
async fn spread(fd: Arc<AsyncFd<OwnedFd>>, folders: Arc<Mutex<HashMap<i32, Folder>>>) {
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    while let Ok(mut ready) = fd.readable().await {
        let mut reader = inotify::Reader::new(fd.get_ref(), &mut buffer);
        while let Ok(event) = reader.next() {
            let folders = lock(&folders);
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                folders.values().for_each(|f| {
                    f.news.send_replace(());
                });
            } else if let Some(folder) = folders.get(&event.wd()) {
                folder.news.send_replace(());
            }
        }
        ready.clear_ready();
    }
}

impl Watched {
    /// Takes what has happened so far for seen; comes before looking.
    pub(crate) fn mark_seen(&mut self) {
        self.news.mark_unchanged();
    }

    /// Waits until something has happened since [`Self::mark_seen`].
    pub(crate) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // the sender lives as long as there are watchers
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut folders = lock(&self.instance.folders);
        let Some(folder) = folders.get_mut(&self.id) else {
            return;
        };
        folder.watchers -= 1;
        if folder.watchers == 0 {
            folders.remove(&self.id);
            // the folder may be gone, and its watch with it
            let _removed = inotify::remove_watch(&*self.instance.fd, self.id);
        }
    }
}
