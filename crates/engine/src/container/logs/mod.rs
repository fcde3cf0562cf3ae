//! A container's log: its driver and options, reading it, and sending it on.
//!
//! The shim writes every log to files, whatever the driver: json-file and local are kept so, and for
//! the others the files are the queue from which a task of the engine sends on, and what `logs`
//! reads.

mod attributes;
mod forward;
pub(crate) mod options;
mod read;
mod template;
mod watch;

pub(crate) use forward::Forwarders;
pub use read::{Following, LogReader};
pub(crate) use watch::LogWatch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::host_config::LogConfig;
use api::query::Logs;
use oci::ContainerId;

use super::{Container, Record};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};
use options::{Options, Plan};

/// Fills in the engine's own driver and options, and checks the result.
pub(super) fn settle(config: &mut LogConfig, driver: &str, defaults: &Options) -> Result<()> {
    if config.kind.is_empty() {
        driver.clone_into(&mut config.kind);
    }
    let same = config.kind == driver;
    let options = config.config.get_or_insert_default();
    for (key, value) in defaults {
        // those of the cache are every driver's
        if same || key.starts_with("cache-") {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    options::plan(&config.kind, options).map(drop)
}

/// Checks the driver and the options of containers that name none.
pub(crate) fn check_defaults(config: &crate::Config) -> Result<()> {
    options::plan(&config.log_driver, &config.log_opts)
        .map(drop)
        .map_err(|error| error.context("the log driver for containers"))
}

/// A container's plan; `None` where no log is kept.
fn plan(config: &LogConfig) -> Result<Option<Plan>> {
    let none = Options::new();
    options::plan(&config.kind, config.config.as_ref().unwrap_or(&none))
}

/// Makes the folder of a log; a container that was never started has none.
fn make_folder(log: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(folder) = log.parent().filter(|folder| !folder.exists()) else {
        return Ok(());
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .step(|| format!("create folder {}", folder.display()))
}

impl Engine {
    /// Opens a container's log.
    ///
    /// # Errors
    /// When there is no such container, or it keeps no log.
    pub async fn container_logs(
        self: &Arc<Self>,
        name: &str,
        options: Logs,
        following: Following,
    ) -> Result<LogReader> {
        let container = self.containers.get(name)?;
        let engine = Arc::clone(self);
        // the place of the last lines may lie in a compressed file, which is read for it
        self.blocking(move || engine.open_log(&container, &options, following))
            .await
    }

    pub(super) fn open_log(
        &self,
        container: &Container,
        options: &Logs,
        following: Following,
    ) -> Result<LogReader> {
        let record = container.record().clone();
        let plan = plan(&record.host.log_config)?.filter(|plan| plan.readable);
        let Some(plan) = plan else {
            return Err(Error::not_implemented(
                "configured logging driver does not support reading",
            ));
        };
        let path = self.log_file(&record.id, &plan);
        if options.follow {
            make_folder(&path)?;
        }
        LogReader::open(
            (&path, plan.format),
            record.config.tty,
            options,
            following,
            container.phase.subscribe(),
            &self.log_watch,
        )
    }

    /// Where the shim writes a container's log, with its folder made.
    pub(super) fn log_sink(&self, record: &Record) -> Result<shim::LogSink> {
        let Some(plan) = plan(&record.host.log_config)? else {
            return Ok(shim::LogSink::None);
        };
        if let Some(target) = &plan.target {
            target.check_here(&self.config.journal_socket)?;
        }
        let path = self.log_file(&record.id, &plan);
        make_folder(&path)?;
        let none = Options::new();
        let options = record.host.log_config.config.as_ref().unwrap_or(&none);
        Ok(shim::LogSink::File {
            settings: logfile::Settings {
                path,
                format: plan.format,
                max_size: plan.max_size,
                max_files: plan.max_files,
                compress: plan.compress,
                attrs: attributes::json(record, options),
                ring: usize::try_from(plan.ring).unwrap_or(usize::MAX),
            },
            hold: plan.hold,
        })
    }

    /// A log's current file.
    fn log_file(&self, id: &ContainerId, plan: &Plan) -> PathBuf {
        let folder = self.container_dir(id);
        match plan.format {
            logfile::Format::Json => folder.join(format!("{id}-json.log")),
            logfile::Format::Local if plan.target.is_some() => folder.join("container-cached.log"),
            logfile::Format::Local => folder.join("local-logs/container.log"),
        }
    }

    /// The log's path as `inspect` tells it: that of a json-file, which others read.
    pub(super) fn log_path(&self, record: &Record) -> String {
        match plan(&record.host.log_config) {
            Ok(Some(plan)) if plan.format == logfile::Format::Json => {
                let path = self.log_file(&record.id, &plan);
                path.to_string_lossy().into_owned()
            }
            _ => String::new(),
        }
    }
}
