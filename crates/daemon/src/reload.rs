//! SIGHUP: settings are read again, and those that can change without a restart do.

use std::sync::Arc;

use builder::Builder;
use engine::Engine;

use crate::config::Config;
use crate::log;
use crate::tls::Tls;

/// What settings take effect on.
#[derive(Debug)]
pub(crate) struct Reloader {
    engine: Arc<Engine>,
    builder: Arc<Builder>,
    current: Config,
    tls: Option<Arc<Tls>>,
}

impl Reloader {
    pub(crate) fn new(
        engine: Arc<Engine>,
        builder: Arc<Builder>,
        current: Config,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self {
            engine,
            builder,
            current,
            tls,
        }
    }

    /// Reads the settings again. Where they cannot be used, all goes on as it was.
    pub(crate) fn reload(&mut self) {
        let Some(sources) = &self.current.sources else {
            tracing::info!("the settings come from no file: there is nothing to read again");
            return;
        };
        let next = match sources.load() {
            Ok(next) => next,
            Err(error) => {
                let error = chain(&error);
                tracing::error!(%error, "the configuration cannot be used: all goes on as it was");
                return;
            }
        };
        for notice in &next.notices {
            tracing::warn!("{notice}");
        }
        self.certificates();
        let changes = changes(&self.current, &next);
        if next.log_level != self.current.log_level
            && let Err(error) = log::change(&next.log_level)
        {
            tracing::error!(%error, "the log goes on as it was");
        }
        if let Err(error) = self.engine.reload(&next.engine) {
            tracing::error!(%error, "the engine's settings go on as they were");
            return;
        }
        self.builder.configure(next.builder.clone());
        tracing::info!(
            changed = changes.live.join(", "),
            "the configuration was read again"
        );
        if !changes.restart.is_empty() {
            tracing::warn!(
                settings = changes.restart.join(", "),
                "these changes need a restart of the engine; containers run on meanwhile"
            );
        }
        keep(&mut self.current, next);
    }

    /// Certificates are renewed in place, in files of the same names.
    fn certificates(&self) {
        if let (Some(tls), Some(files)) = (&self.tls, &self.current.tls)
            && let Err(error) = tls.reload(files)
        {
            let error = chain(&error);
            tracing::error!(%error, "TLS goes on with the certificates that it has");
        }
    }
}

/// Takes what took effect; what did not is compared again at the next time.
fn keep(current: &mut Config, next: Config) {
    current.engine.take_live(&next.engine);
    current.log_level = next.log_level;
    current.builder = builder::Settings {
        max_parallelism: current.builder.max_parallelism,
        ..next.builder
    };
}

/// Names of settings that differ.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    live: Vec<&'static str>,
    restart: Vec<&'static str>,
}

fn changes(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes {
        live: old.engine.live_changes(&new.engine),
        restart: old.engine.fixed_changes(&new.engine),
    };
    if old.log_level != new.log_level {
        changes.live.push("log-level");
    }
    let (was, is) = (&old.builder, &new.builder);
    let live = [
        (
            "build-cache-max-size",
            was.cache_max_size != is.cache_max_size,
        ),
        (
            "build-cache-min-free",
            was.cache_min_free != is.cache_min_free,
        ),
    ];
    let differ = live.iter().filter(|(_, differs)| *differs);
    changes.live.extend(differ.map(|(name, _)| *name));
    let own = [
        (
            "build-max-parallelism",
            was.max_parallelism != is.max_parallelism,
        ),
        ("host", old.hosts != new.hosts),
        ("docker-socket", old.docker_socket != new.docker_socket),
        ("group", old.group != new.group),
        ("tls", old.tls != new.tls),
        ("metrics-addr", old.metrics_address != new.metrics_address),
        ("pidfile", old.pid_file != new.pid_file),
        ("shutdown-timeout", old.grace != new.grace),
        ("log-format", old.log_json != new.log_json),
    ];
    let differ = own.iter().filter(|(_, differs)| *differs);
    changes.restart.extend(differ.map(|(name, _)| *name));
    changes.live.sort_unstable();
    changes.restart.sort_unstable();
    changes
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::keys;

    #[test]
    fn what_changes_and_what_waits() {
        let old = Config::default();
        let mut new = Config::default();
        assert_eq!(changes(&old, &new), Changes::default());
        new.engine.labels = vec!["a=b".to_owned()];
        new.log_level = "debug".to_owned();
        new.engine.mtu = 1400;
        new.builder.cache_max_size = Some(1 << 30);
        new.builder.max_parallelism = Some(3);
        new.hosts = vec![crate::Address::Inherited(None)];
        let found = changes(&old, &new);
        let live = ["build-cache-max-size", "label", "log-level"];
        assert_eq!(found.live, live);
        let restart = ["build-max-parallelism", "host", "mtu"];
        assert_eq!(found.restart, restart);
        for (names, live) in [(found.live, true), (found.restart, false)] {
            for name in names {
                assert_eq!(keys::find(name).unwrap().reload, live, "{name}");
            }
        }
        let mut current = old;
        keep(&mut current, new.clone());
        assert_eq!(changes(&current, &new).restart, restart);
        assert!(changes(&current, &new).live.is_empty());
    }
}
