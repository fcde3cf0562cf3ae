//! A daemon's life: log, locks, engine, sockets, and the way back.

use std::io;
use std::path::PathBuf;

use crate::config::Config;
use crate::lock::{FolderLock, LockError};
use crate::log::{self, LogError};
use crate::pid_file::{PidFile, PidFileError};
use crate::serve::{ServeError, serve};
use crate::settings;

/// How long work on the disk that was begun may go on at the end.
const LAST_WORK: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log's filter cannot be read.
    #[error("start the log")]
    Log(#[source] LogError),
    /// A folder cannot be had.
    #[error("take the engine's folders")]
    Lock(#[source] LockError),
    /// The folder is another engine's.
    #[error(
        "{root} holds a Docker engine's data, which Gorae cannot use and must not mix with its own: name another folder, such as {root}/gorae"
    )]
    Foreign {
        /// Folder.
        root: PathBuf,
    },
    /// The file of the process id cannot be had.
    #[error("take the pid file")]
    PidFile(#[source] PidFileError),
    /// The runtime cannot be started.
    #[error("start the engine's threads")]
    Runtime(#[source] io::Error),
    /// The engine cannot be opened.
    #[error("open the engine")]
    Engine(#[source] engine::Error),
    /// The build engine cannot be opened.
    #[error("open the build engine")]
    Builder(#[source] builder::Error),
    /// The API cannot be served.
    #[error("serve the API")]
    Serve(#[source] ServeError),
}

/// Runs a daemon until SIGTERM or SIGINT; this blocks the thread.
///
/// # Errors
/// When another engine has the folders, or a step of the start fails; nothing stays behind then.
pub fn run(config: &Config) -> Result<(), RunError> {
    log::start(&config.log_level, config.log_json).map_err(RunError::Log)?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let passed = sys::activation::take();
    prepare_descriptors();
    if settings::holds_docker(&config.engine.root) {
        let root = config.engine.root.clone();
        return Err(RunError::Foreign { root });
    }
    let _root = FolderLock::take(&config.engine.root).map_err(RunError::Lock)?;
    let _run = FolderLock::take(&config.engine.run).map_err(RunError::Lock)?;
    let pid_file = config.pid_file.as_deref().map(PidFile::write);
    let _pid_file = pid_file.transpose().map_err(RunError::PidFile)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("gorae-engine")
        .build()
        .map_err(RunError::Runtime)?;
    let result = runtime.block_on(async {
        let root = config.engine.root.clone();
        let cache = engine::Keeper::new(move || Ok(builder::snapshot::kept(&root)));
        let mut own = config.engine.clone();
        own.keepers.push(cache);
        let engine = engine::Engine::open(own).await.map_err(RunError::Engine)?;
        let result = match builder::Builder::open(
            engine.clone(),
            &config.engine.root,
            config.builder.clone(),
        ) {
            Ok(builder) => serve(engine.clone(), builder, config, passed)
                .await
                .map_err(RunError::Serve),
            Err(error) => Err(RunError::Builder(error)),
        };
        engine.close();
        result
    });
    // what is read or written for nobody any more, as a large layer, does not keep the engine
    runtime.shutdown_timeout(LAST_WORK);
    result
}

/// Makes room for the sockets that hold published ports, two each; less than that is no obstacle
/// until they are wanted. Comes before the first thread.
fn prepare_descriptors() {
    let raised = sys::descriptors::raise_limit();
    match raised.and_then(|limit| sys::descriptors::make_room().map(|()| limit)) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "cannot make room for more open files"),
    }
}
