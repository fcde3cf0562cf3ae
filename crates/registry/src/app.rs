//! What all requests share, and what of it can change while the registry runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::access_log::AccessLog;
use crate::auth::{Auth, AuthError};
use crate::config::Config;
use crate::gc::{CollectError, Collected, Plan};
use crate::hooks::{self, Action, Hooks, Target};
use crate::http::Call;
use crate::metrics::Metrics;
use crate::name::Name;
use crate::proxy::{Proxy, ProxyError};
use crate::refusal::{Code, Refusal};
use crate::store::{Store, StoreError};
use crate::tls::{Tls, TlsError};

/// What clients may speak.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A registry that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("make the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("open the registry's store")]
    Store(#[source] StoreError),
    /// Authentication cannot be set up.
    #[error("set up authentication")]
    Auth(#[source] AuthError),
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[source] TlsError),
    /// The upstream cannot be used.
    #[error("set up the proxy")]
    Proxy(#[source] ProxyError),
    /// The access log cannot be opened.
    #[error("open the access log {}", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) tls: Option<Tls>,
    pub(crate) log: Option<AccessLog>,
    pub(crate) hooks: Hooks,
    pub(crate) proxy: Option<Proxy>,
    live: RwLock<Live>,
    collecting: AtomicBool,
}

/// What a reload changes.
#[derive(Clone, Debug)]
struct Live {
    auth: Arc<Auth>,
    config: Arc<Config>,
}

impl App {
    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        std::fs::create_dir_all(&config.root).map_err(|source| OpenError::Folder {
            path: config.root.clone(),
            source,
        })?;
        let auth = Auth::new(config).map_err(OpenError::Auth)?;
        let tls = config
            .tls
            .as_ref()
            .map(|files| Tls::new(&files.files(), PROTOCOLS));
        let proxy = config.proxy.as_ref().map(Proxy::new);
        let log = config.access_log.as_deref().map(|path| {
            AccessLog::open(path).map_err(|source| OpenError::AccessLog {
                path: path.to_owned(),
                source,
            })
        });
        let store = Store::open(config).map_err(OpenError::Store)?;
        let kept = store.db.read(|reader| reader.events());
        let kept = kept.map_err(|error| OpenError::Store(StoreError::Db(error)))?;
        Ok(Self {
            store,
            metrics: Metrics::default(),
            tls: tls.transpose().map_err(OpenError::Tls)?,
            log: log.transpose()?,
            proxy: proxy.transpose().map_err(OpenError::Proxy)?,
            hooks: Hooks::new(&config.webhook, kept),
            live: RwLock::new(Live {
                auth: Arc::new(auth),
                config: Arc::new(config.clone()),
            }),
            collecting: AtomicBool::new(false),
        })
    }

    /// Takes what can change while the registry runs: users, rules, certificates, read-only, deletion,
    /// the page, times of collection. What cannot be used stays as it was.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), OpenError> {
        let auth = Auth::new(config).map_err(OpenError::Auth)?;
        if let (Some(tls), Some(files)) = (&self.tls, &config.tls) {
            tls.reload(&files.files()).map_err(OpenError::Tls)?;
        }
        if let Some(log) = &self.log {
            log.reopen();
        }
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Live {
            auth: Arc::new(auth),
            config: Arc::new(config.clone()),
        };
        Ok(())
    }

    pub(crate) fn auth(&self) -> Arc<Auth> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&live.auth)
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&live.config)
    }

    pub(crate) fn stall(&self) -> Duration {
        self.config().limits.stall.0
    }

    /// Refuses what changes something, where nothing may be changed.
    pub(crate) fn writable(&self) -> Result<(), Refusal> {
        match self.config().read_only {
            true => Err(Refusal::new(Code::Unsupported, "the registry is read-only")),
            false => Ok(()),
        }
    }

    pub(crate) fn deletable(&self) -> Result<(), Refusal> {
        match self.config().delete {
            true => Ok(()),
            false => Err(Refusal::new(Code::Unsupported, "deletion is disabled")),
        }
    }

    /// Notes what was done, for those who are told. What was changed is told for sure when this returns;
    /// a pull waits for no disk.
    pub(crate) async fn told(
        self: &Arc<Self>,
        call: &Call,
        action: Action,
        name: &Name,
        target: &Target,
    ) {
        tracing::debug!(
            action = action.text(),
            repository = name.as_str(),
            digest = %target.digest,
            user = call.who.name(),
            "done"
        );
        let events = self.hooks.events(call, action, name, target);
        if events.is_empty() {
            return;
        }
        let app = Arc::clone(self);
        // a client that goes away now takes nothing of it along
        let keeping = async move { hooks::keep(events, &app.store.db, &app.metrics).await };
        let keeping = tokio::spawn(keeping);
        if action != Action::Pull {
            drop(keeping.await);
        }
    }

    /// Collects garbage, unless that is going on already.
    pub(crate) async fn collect(
        &self,
        grace: Option<Duration>,
    ) -> Option<Result<Collected, CollectError>> {
        if self.collecting.swap(true, Ordering::AcqRel) {
            return None;
        }
        let gc = self.config().gc.clone();
        let plan = Plan {
            grace: grace.unwrap_or(gc.grace.0),
            untagged: gc.untagged.map(|span| span.0),
            uploads: gc.uploads.0,
            unused: gc
                .unused
                .filter(|_| self.proxy.is_some())
                .map(|span| span.0),
        };
        let result = self.store.collect(plan).await;
        self.collecting.store(false, Ordering::Release);
        if let Ok(taken) = &result {
            self.metrics.collections.fetch_add(1, Ordering::Relaxed);
            self.metrics
                .collected_bytes
                .fetch_add(taken.bytes, Ordering::Relaxed);
            self.metrics
                .collected_blobs
                .fetch_add(taken.blobs, Ordering::Relaxed);
        }
        Some(result)
    }

    /// The page of figures.
    pub(crate) fn figures(&self) -> String {
        let counts = self.store.db.read(|reader| {
            let (repositories, blobs) = reader.counts()?;
            Ok((repositories, blobs, reader.usage(None)?))
        });
        let (repositories, blobs, bytes) = counts.unwrap_or_default();
        let (hits, misses) = self.store.cache.counts();
        self.metrics.page(&[
            ("repositories", "Repositories.", repositories),
            ("blobs", "Blobs and manifests in the store.", blobs),
            ("stored_bytes", "Bytes of all of them.", bytes),
            (
                "uploads",
                "Uploads that are not finished.",
                self.store.uploads.count() as u64,
            ),
            (
                "events_waiting",
                "Events that webhooks have not taken yet.",
                self.hooks.waiting(),
            ),
            ("manifest_cache_hits", "Manifests served from memory.", hits),
            (
                "manifest_cache_misses",
                "Manifests read from the disk.",
                misses,
            ),
        ])
    }
}
