//! Settings that change while the engine runs, and what containers get that do not say.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use api::host_config::{HostConfig, Ulimit};

use crate::config::Config;
use crate::engine::Engine;
use crate::error::Result;

/// What is replaced as a whole when settings are read again.
#[derive(Debug)]
pub(crate) struct Live(RwLock<Current>);

#[derive(Clone, Debug)]
struct Current {
    config: Arc<Config>,
    client: distribution::Client,
}

impl Live {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        Ok(Self(RwLock::new(Current {
            config: Arc::new(config.clone()),
            client: crate::image::client(config)?,
        })))
    }

    fn current(&self) -> Current {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

impl Engine {
    /// The settings as they are now.
    pub(crate) fn settings(&self) -> Arc<Config> {
        self.live.current().config
    }

    /// The client of registries, as the settings now have it.
    pub(crate) fn registries(&self) -> distribution::Client {
        self.live.current().client
    }

    /// Takes the settings of `next` that can change while the engine runs.
    ///
    /// What is going on goes on as it began; new containers, networks and pulls have the new settings.
    ///
    /// # Errors
    /// When the settings cannot be used; then none of them is taken.
    pub fn reload(&self, next: &Config) -> Result<()> {
        let mut config = (*self.settings()).clone();
        if config.live_changes(next).is_empty() {
            self.daemon_event("reload", told(&config));
            return Ok(());
        }
        config.take_live(next);
        crate::container::logs::check_defaults(&config)?;
        let live = Live::new(&config)?;
        self.networks.set_pools(&config.address_pools);
        let next = live.current();
        *self.live.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.daemon_event("reload", told(&config));
        Ok(())
    }
}

/// The settings as the event `reload` tells them, by dockerd's names.
fn told(config: &Config) -> BTreeMap<String, String> {
    let list = |values: &[String]| serde_json::to_string(values).unwrap_or_default();
    [
        ("default-ipc-mode", config.default_ipc_mode.clone()),
        ("default-runtime", "runc".to_owned()),
        ("default-shm-size", config.default_shm_size.to_string()),
        ("insecure-registries", list(&config.insecure_registries)),
        ("labels", list(&config.labels)),
        ("live-restore", "true".to_owned()),
        (
            "max-concurrent-downloads",
            config.max_concurrent_downloads.to_string(),
        ),
        (
            "max-download-attempts",
            config.max_download_attempts.to_string(),
        ),
        ("registry-mirrors", list(&config.registry_mirrors)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Fills what a request leaves open with what the settings say.
pub(crate) fn fill(config: &Config, host: &mut HostConfig) {
    let text = |place: &mut String, value: &str| {
        if place.is_empty() {
            value.clone_into(place);
        }
    };
    let list = |place: &mut Option<Vec<String>>, values: &[String]| {
        if place.as_ref().is_none_or(Vec::is_empty) && !values.is_empty() {
            *place = Some(values.to_vec());
        }
    };
    text(&mut host.ipc_mode, &config.default_ipc_mode);
    if !host.privileged {
        text(&mut host.cgroupns_mode, &config.default_cgroupns_mode);
    }
    if host.shm_size == 0 {
        host.shm_size = config.default_shm_size;
    }
    list(&mut host.dns, &config.dns);
    list(&mut host.dns_options, &config.dns_options);
    list(&mut host.dns_search, &config.dns_search);
    ulimits(&mut host.resources.ulimits, &config.default_ulimits);
    if config.init {
        host.init.get_or_insert(true);
    }
    if config.no_new_privileges {
        let options = host.security_opt.get_or_insert_default();
        if !options.iter().any(|o| o.starts_with("no-new-privileges")) {
            options.push("no-new-privileges".to_owned());
        }
    }
}

fn ulimits(own: &mut Option<Vec<Ulimit>>, defaults: &[Ulimit]) {
    for ulimit in defaults {
        let own = own.get_or_insert_default();
        if !own.iter().any(|own| own.name == ulimit.name) {
            own.push(ulimit.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let ulimit = |name: &str, soft| Ulimit {
            name: name.to_owned(),
            soft,
            hard: 9,
        };
        Config {
            dns: vec!["10.0.0.53".to_owned()],
            default_ulimits: vec![ulimit("nofile", 5), ulimit("core", 0)],
            default_shm_size: 1 << 20,
            default_ipc_mode: "shareable".to_owned(),
            init: true,
            no_new_privileges: true,
            ..Config::default()
        }
    }

    #[test]
    fn what_is_left_open() {
        let mut host = HostConfig::default();
        fill(&config(), &mut host);
        assert_eq!(host.dns.as_deref().unwrap(), ["10.0.0.53"]);
        assert_eq!(host.resources.ulimits.as_ref().unwrap().len(), 2);
        assert_eq!((host.shm_size, host.init), (1 << 20, Some(true)));
        assert_eq!(host.ipc_mode, "shareable");
        assert_eq!(host.cgroupns_mode, "private");
        let options = host.security_opt.as_deref().unwrap();
        assert_eq!(options, ["no-new-privileges"]);
    }

    #[test]
    fn what_was_said() {
        let mut host = HostConfig {
            dns: Some(vec!["1.1.1.1".to_owned()]),
            init: Some(false),
            shm_size: 5,
            ipc_mode: "host".to_owned(),
            security_opt: Some(vec!["no-new-privileges=false".to_owned()]),
            privileged: true,
            ..HostConfig::default()
        };
        host.log_config.kind = "none".to_owned();
        host.resources.ulimits = Some(vec![Ulimit {
            name: "nofile".to_owned(),
            soft: 1,
            hard: 1,
        }]);
        let before = host.clone();
        fill(&config(), &mut host);
        let limits = host.resources.ulimits.as_mut().unwrap();
        assert_eq!(limits.pop().unwrap().name, "core");
        assert_eq!(host, before);
    }

    #[test]
    fn changes() {
        let (old, mut new) = (Config::default(), config());
        new.mtu = 9000;
        let live = [
            "default-ipc-mode",
            "default-shm-size",
            "default-ulimit",
            "dns",
        ];
        assert!(old.live_changes(&new).starts_with(&live));
        assert_eq!(old.fixed_changes(&new), ["mtu"]);
        let mut taken = old.clone();
        taken.take_live(&new);
        assert!(taken.live_changes(&new).is_empty());
        assert_eq!(taken.mtu, old.mtu);
    }
}
