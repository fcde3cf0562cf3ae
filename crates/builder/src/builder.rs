//! The build engine as a whole.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Engine;
use tokio::sync::watch;

use crate::cache::{Cache, OtherStore};
use crate::content_hash::ContentHashes;
use crate::db::Db;
use crate::error::{Result, Step};
use crate::export::PackedBlobs;
use crate::history::History;
use crate::job::{Ended, Job};
use crate::ops::cache_mount::CacheMounts;
use crate::session::Sessions;
use crate::snapshot::Snapshots;
use crate::solver::Solver;
use crate::source::http::Web;
use crate::source::image::Bases;
use crate::source::local::Locals;

/// What the build engine goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What the cache may take, bytes; absent for a tenth of the disk, 0 for no limit. Beyond it, what
    /// was not used for longest goes.
    pub cache_max_size: Option<u64>,
    /// What is to be free on the file system, bytes; with less, what was not used for longest goes.
    pub cache_min_free: Option<u64>,
    /// How many steps run at the same time; absent for twice the number of processors.
    pub max_parallelism: Option<usize>,
}

/// The build engine: its jobs, its cache, and the engine below.
pub struct Builder {
    /// The engine whose isolation, networks and images the builds use.
    pub engine: Arc<Engine>,
    /// What lies below is the build engine's.
    pub root: PathBuf,
    /// What must survive a crash.
    pub db: Db,
    /// What clients offer to their builds.
    pub sessions: Arc<Sessions>,
    /// Builds of the past.
    pub history: Arc<History>,
    /// The folders of clients that builds use.
    pub locals: Arc<Locals>,
    /// States of file systems.
    pub snapshots: Snapshots,
    /// Folders that outlive the steps that use them.
    pub cache_mounts: CacheMounts,
    /// What snapshots hold, as far as it was looked at.
    pub content_hashes: ContentHashes,
    /// What was built before.
    pub cache: Arc<Cache>,
    /// What is built now.
    pub solver: Solver,
    pub(crate) bases: Bases,
    pub(crate) web: Web,
    pub(crate) packed: PackedBlobs,
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) jobs: watch::Sender<HashMap<String, Arc<Job>>>,
    pub(crate) ended: Ended,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Opens the build engine's part of an engine's folder. It blocks, and wants a runtime around it.
    ///
    /// # Errors
    /// When its folder or its database cannot be made.
    pub fn open(engine: Arc<Engine>, root: &Path, settings: Settings) -> Result<Arc<Self>> {
        let root = root.join("builder");
        std::fs::create_dir_all(&root).step(|| format!("make folder {}", root.display()))?;
        let db = Db::open(&root.join("builder.db"))?;
        let store = Arc::clone(engine.store());
        let snapshots =
            Snapshots::open(&root, store).step(|| "open the layers of the build cache")?;
        let cache = Arc::new(Cache::open(&root, db.clone(), snapshots.clone())?);
        let cache_mounts = CacheMounts::open(&root)?;
        cache.add_store(Arc::new(cache_mounts.clone()));
        let locals = Arc::new(Locals::open(&root));
        cache.add_store(Arc::clone(&locals) as Arc<dyn OtherStore>);
        let solver = settings.max_parallelism.map(Solver::new);
        let settings = watch::Sender::new(settings);
        tokio::spawn(Cache::keep_small(
            Arc::downgrade(&cache),
            settings.subscribe(),
        ));
        crate::ops::stage::sweep(&engine.steps_folder());
        Ok(Arc::new(Self {
            engine,
            cache_mounts,
            content_hashes: ContentHashes::default(),
            bases: Bases::default(),
            web: Web::default(),
            packed: PackedBlobs::load(&db)?,
            history: History::open(&root, db.clone())?,
            root,
            db,
            sessions: Arc::default(),
            locals,
            snapshots,
            cache,
            solver: solver.unwrap_or_default(),
            settings,
            jobs: watch::Sender::default(),
            ended: Ended::default(),
        }))
    }

    /// What the build engine goes by now.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    /// Takes other settings while builds go on.
    pub fn configure(&self, settings: Settings) {
        self.settings.send_if_modified(|now| {
            let differs = *now != settings;
            *now = settings;
            differs
        });
    }

    /// Ends all jobs.
    pub fn close(&self) {
        let jobs: Vec<_> = self.jobs.borrow().values().cloned().collect();
        for job in jobs {
            job.end();
        }
    }
}
