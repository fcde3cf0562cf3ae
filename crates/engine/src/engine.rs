//! The engine itself: what it holds, and how it opens and closes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::ContainerId;

use crate::config::Config;
use crate::container::exec::Execs;
use crate::container::logs::{self, Forwarders, LogWatch};
use crate::container::registry::Containers;
use crate::container::stats::Machine;
use crate::db::Db;
use crate::df::Measured;
use crate::error::{Error, Result, Step};
use crate::event::{Events, Subscription};
use crate::image::Images;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::network::Networks;
use crate::seccomp::Filters;
use crate::userns::Userns;
use crate::volume::Volumes;
use crate::warm::{Namespaces, Warmer};

/// One engine over one `root` and one `run` folder.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) id: String,
    pub(crate) db: Db,
    pub(crate) store: Arc<storage::Store>,
    /// Settings that can change while the engine runs; all others are in `config`.
    pub(crate) live: Live,
    pub(crate) metrics: Metrics,
    pub(crate) containers: Containers,
    pub(crate) execs: Execs,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) networks: Networks,
    pub(crate) userns: Userns,
    pub(crate) filters: Filters,
    pub(crate) warmer: Arc<Warmer>,
    pub(crate) events: Events,
    pub(crate) measured: Measured,
    pub(crate) machine: Machine,
    pub(crate) log_watch: LogWatch,
    pub(crate) forwarders: Forwarders,
}

impl Engine {
    /// Opens an engine: reads its database, finds the shims that still run, and mends what a crash left.
    ///
    /// # Errors
    /// When a folder, the database, the bridge or the shim's program cannot be used.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        logs::check_defaults(&config)?;
        let userns = Userns::open(config.userns_remap.as_deref())?;
        make_private(&config.run)?;
        let options = storage::StoreOptions {
            snapshotter: config.snapshotter,
            mounts: config.run.join("layers"),
            limits: config.layer_limits,
        };
        let store = storage::Store::open(&config.root, options)
            .step(|| format!("open store {}", config.root.display()))?;
        make_private(&config.run.join("containers"))?;
        let db = Db::open(&config.root.join("gorae.db"))?;
        let launcher = shim::Launcher::new(&config.shim).step(|| "prepare the shim's program")?;
        let id = crate::system::engine_id(&db).await?;
        // two engines of one machine must not take each other's cgroups for orphans
        let cgroup_parent = config.cgroup_parent.join(id.get(..8).unwrap_or(&id));
        let config = Config {
            cgroup_parent,
            ..config
        };
        let usual = Namespaces::usual(userns.is_default());
        let warmer = Warmer::new(launcher, config.cgroup_parent.clone(), config.warm, usual);
        let (records, attached) = crate::recover::records(&db)?;
        let networks = Networks::open(&config, &db, &attached).await?;
        let live = Live::new(&config)?;
        let engine = Arc::new(Self {
            id,
            images: Images::load(&db)?,
            volumes: Volumes::load(&db)?,
            containers: Containers::default(),
            execs: Execs::default(),
            filters: Filters::default(),
            events: Events::new(),
            measured: Measured::default(),
            machine: Machine::default(),
            log_watch: LogWatch::default(),
            forwarders: Forwarders::default(),
            store: Arc::new(store),
            db,
            live,
            metrics: Metrics::default(),
            networks,
            userns,
            warmer,
            config,
        });
        engine.recover(records).await?;
        let known = engine.containers.all();
        engine.userns.take_over(known.iter().map(Arc::as_ref));
        engine.settle_volumes().await;
        engine.watch_networks();
        engine.trim_when_calm();
        engine.start_collector();
        engine.warmer.start();
        Ok(engine)
    }

    /// Lets go of what only this process needs; containers run on.
    pub fn close(&self) {
        self.warmer.stop();
        self.forwarders.close();
        self.networks.close();
        if self
            .containers
            .all()
            .iter()
            .all(|container| !container.status().is_alive())
        {
            self.remove_cgroup_parent();
            if let Err(error) = self.networks.withdraw() {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "links or rules of networks stay");
            }
            if let Err(error) = self.store.layers().unmount() {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "layers stay mounted");
            }
        } else {
            self.store.keep_mounts();
        }
    }

    /// The engine's name for itself, which it keeps for ever.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The client for files and registries beyond this machine, as the settings have it now.
    #[must_use]
    pub fn downloader(&self) -> distribution::Client {
        self.registries()
    }

    /// The events so far and from now on.
    #[must_use]
    pub fn events(&self) -> Subscription {
        self.events.subscribe()
    }

    /// A container's run directory: its shim's socket and exit record.
    pub(crate) fn run_dir(&self, id: &ContainerId) -> PathBuf {
        self.config.run.join("containers").join(id.as_str())
    }

    /// A container's folder: its log, its files and its writable layer.
    pub(crate) fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.config.root.join("containers").join(id.as_str())
    }

    /// Runs disk work where it may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|e| Err(Error::internal(format!("a background step failed: {e}"))))
    }
}

fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .step(|| format!("create folder {}", path.display()))
}
