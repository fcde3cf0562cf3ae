//! Creating a container: the client's wishes and the image's defaults become a record and a folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::container::{Config, CreateRequest, CreateResponse};
use api::host_config::HostConfig;
use api::network::EndpointSettings;
use api::query::ContainerRemove;
use jiff::Timestamp;
use oci::image::ContainerDefaults;

use super::mounts::Wanted;
use super::{Container, Mount, MountKind, Record, State, check, mounts};
use crate::db::{Saved, Table};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};
use crate::image::Image;
use crate::names;
use crate::network::check_network_mode;
use crate::network::names::split_link;

impl Engine {
    /// Creates a container and answers its id.
    ///
    /// # Errors
    /// When the image is missing, the name taken, the configuration wrong or the disk refuses.
    pub async fn container_create(
        self: &Arc<Self>,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<CreateResponse> {
        let (created, saved) = self.create(name, platform, request).await?;
        if let Err(error) = saved.wait().await {
            let options = ContainerRemove {
                force: true,
                ..ContainerRemove::default()
            };
            drop(self.container_remove(&created.id, options).await);
            return Err(error);
        }
        Ok(created)
    }

    /// Creates a container; its record may still be on its way to the disk.
    pub(super) async fn create(
        self: &Arc<Self>,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
    ) -> Result<(CreateResponse, Saved)> {
        let CreateRequest {
            config,
            host_config,
            networking_config,
        } = request;
        let mut host = host_config.unwrap_or_default();
        let name = name.filter(|n| !n.is_empty());
        if let Some(name) = name {
            names::check(name.strip_prefix('/').unwrap_or(name))
                .map_err(|_| names::invalid(name))?;
        }
        let name = name.map(|n| n.strip_prefix('/').unwrap_or(n));
        check::network(&config, &host)?;
        let image = self.images.get(&config.image, platform)?;
        // until the container is known, nothing else keeps the layers of an image that is removed now
        let _lease = self.images.leases.take_there(image.chain_ids()).await;
        let image = self
            .images
            .get(&image.id.to_string(), None)
            .map_err(|_| Error::not_found(format!("No such image: {}", config.image)))?;
        self.image_used(&image.id).await;
        let mut config = config;
        merge_image(&mut config, image.config.config.as_ref());
        let mut warnings = Vec::new();
        crate::live::fill(&self.settings(), &mut host);
        super::restart::policy_of_label(&config, &mut host)?;
        check::request(&config, &mut host, &mut warnings)?;
        config.working_dir = cleaned(&config.working_dir);
        let settings = self.settings();
        let (driver, options) = (&settings.log_driver, &settings.log_opts);
        super::logs::settle(&mut host.log_config, driver, options)?;
        check_network_mode(&host)?;
        self.check_donors(&host)?;
        crate::network::bandwidth::fill(&config, &mut host)?;
        if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty())
        {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        self.userns.check(&host)?;
        let mut wanted = mounts::wanted(&config, &host)?;
        self.volumes_from(&host, &mut wanted)?;
        let id = names::draw_id()?;
        default_hostname(&mut config, &host, id.short());
        let mut endpoints = networking_config
            .and_then(|n| n.endpoints_config)
            .unwrap_or_default();
        if let Some((network, _)) = endpoints.iter().find(|(_, settings)| settings.is_none()) {
            return Err(Error::invalid(format!(
                "invalid config for network {network}: EndpointsConfig is nil"
            )));
        }
        if let Some(warning) = own_mac(&mut config, &host, &mut endpoints)? {
            warnings.push(warning);
        }
        let endpoints = self.networks.by_name(&host.network_mode, endpoints);
        self.networks.check_endpoints(&endpoints)?;
        self.check_links(&host)?;
        let name = self.containers.reserve(&id, name)?;
        let userns = self.userns.settle(&id, &host);
        let userns = userns.inspect_err(|_| self.containers.release(&id))?;
        let record = Record {
            userns,
            id: id.clone(),
            name,
            created: Timestamp::now(),
            image: image.id.clone(),
            layers: image.chain_ids(),
            platform: image.config.os.clone(),
            config,
            host,
            endpoints,
            mounts: Vec::new(),
            attached: None,
            state: State::default(),
        };
        match self.build(record, &image, wanted).await {
            Ok(saved) => Ok((
                CreateResponse {
                    id: id.to_string(),
                    warnings,
                },
                saved,
            )),
            Err(error) => {
                self.containers.release(&id);
                self.userns.release(&id);
                Err(error)
            }
        }
    }

    /// Refuses a legacy link to a container that does not exist.
    fn check_links(&self, host: &HostConfig) -> Result<()> {
        for text in host.links.iter().flatten() {
            let (name, _) = split_link(text);
            let found = self.containers.get(name);
            found
                .map_err(|e| Error::invalid(format!("could not get container for {name}: {e}")))?;
        }
        Ok(())
    }

    /// Refuses namespaces of containers that do not exist.
    fn check_donors(&self, host: &HostConfig) -> Result<()> {
        for mode in [&host.pid_mode, &host.ipc_mode] {
            if let Some(name) = mode.strip_prefix("container:") {
                self.donor(name)?;
            }
        }
        Ok(())
    }

    /// A container that a new one wants something of; to Docker a missing one is a wrong request.
    fn donor(&self, name: &str) -> Result<Arc<Container>> {
        let found = self.containers.get(name);
        found.map_err(|missing| Error::invalid(missing.message()))
    }

    /// Adds the binds and volumes of other containers (`--volumes-from NAME[:ro|rw]`), unless the
    /// container has a mount of its own there.
    fn volumes_from(&self, host: &HostConfig, wanted: &mut Vec<Wanted>) -> Result<()> {
        for text in host.volumes_from.iter().flatten() {
            if text.is_empty() {
                return Err(Error::invalid(
                    "volumes-from specification cannot be an empty string",
                ));
            }
            let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
            if !matches!(mode, "ro" | "rw" | "z" | "Z") {
                return Err(Error::invalid(format!("invalid mode: {mode}")));
            }
            let donor = self.donor(name)?;
            let mounts = donor.record().mounts.clone();
            for mut mount in mounts {
                let taken = wanted
                    .iter()
                    .any(|w| w.mount.destination == mount.destination);
                if !taken && mount.kind != MountKind::Tmpfs {
                    mount.read_only |= mode == "ro";
                    wanted.push(Wanted {
                        mount,
                        copy_up: false,
                        create_source: false,
                        driver: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// Makes what the record needs on the disk, and the record last.
    async fn build(
        self: &Arc<Self>,
        mut record: Record,
        image: &Arc<Image>,
        wanted: Vec<Wanted>,
    ) -> Result<Saved> {
        record.mounts = self.resolve_mounts(&record, image, wanted).await?;
        let (store, id) = (self.store.clone(), record.id.clone());
        let (engine, top) = (Arc::clone(self), record.layers.last().cloned());
        let folder = move || {
            let image_root = top.map(|chain| engine.layer_path(&chain)).transpose()?;
            let made = store.containers().create(&id, image_root.as_deref());
            made.map(drop)
                .step(|| format!("create the folder of container {id}"))
        };
        self.blocking(folder).await?;
        let container = Arc::new(Container::new(record));
        let record = container.record().clone();
        let saved = match self
            .db
            .begin_put(Table::Containers, record.id.as_str(), &record)
            .await
        {
            Ok(saved) => saved,
            Err(error) => {
                self.remove_folder(&record.id).await;
                return Err(error);
            }
        };
        self.containers.insert(&container);
        self.container_event("create", &container, &[]);
        Ok(saved)
    }

    /// Makes the volumes and missing host folders that the mounts need.
    async fn resolve_mounts(
        self: &Arc<Self>,
        record: &Record,
        image: &Arc<Image>,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<Mount>> {
        let mut mounts = Vec::with_capacity(wanted.len());
        for Wanted {
            mut mount,
            copy_up,
            create_source,
            driver,
        } in wanted
        {
            match mount.kind {
                MountKind::Volume => {
                    let volume = self
                        .volume_for(&mount.name, driver.as_ref(), &record.id)
                        .await?;
                    mount.name.clone_from(&volume.name);
                    mount.source = volume.mountpoint.clone();
                    if copy_up {
                        self.copy_up(image, &mount.destination, &volume.name)
                            .await?;
                    }
                }
                MountKind::Bind if create_source => make_source(&mount.source)?,
                MountKind::Bind | MountKind::Tmpfs => {}
            }
            mounts.push(mount);
        }
        Ok(mounts)
    }
}

/// A path without `.`, `..` and doubled slashes, as Go's `filepath.Clean` writes it.
fn cleaned(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Moves the container's MAC address to the network that its mode names, where it belongs since
/// API 1.44; answers the warning about it.
fn own_mac(
    config: &mut Config,
    host: &HostConfig,
    endpoints: &mut BTreeMap<String, Option<Box<EndpointSettings>>>,
) -> Result<Option<String>> {
    let mac = std::mem::take(&mut config.mac_address);
    if mac.is_empty() {
        return Ok(None);
    }
    let mode = host.network_mode.as_str();
    if !matches!(mode, "host" | "none") && !mode.starts_with("container:") {
        let named = if endpoints.contains_key(mode) || mode != "bridge" {
            mode
        } else {
            // the default network has two names
            let default = endpoints.keys().find(|name| *name == "default");
            default.map_or(mode, |_| "default")
        };
        let endpoint = endpoints.entry(named.to_owned()).or_default();
        let endpoint = endpoint.get_or_insert_default();
        if !(endpoint.mac_address.is_empty() || endpoint.mac_address == mac) {
            return Err(Error::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
        endpoint.mac_address = mac;
    }
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.".to_owned(),
    ))
}

/// Makes a missing bind source as a folder, as `-v` has always done.
fn make_source(path: &str) -> Result<()> {
    match std::fs::create_dir_all(path) {
        Ok(()) => Ok(()),
        // a file, a socket: it is there
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::system(
            format!("error while creating mount source path '{path}'"),
            &error,
        )),
    }
}

fn default_hostname(config: &mut Config, host: &HostConfig, short_id: &str) {
    if host.network_mode == "host" || host.uts_mode == "host" {
        if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname")
            && config.hostname.is_empty()
        {
            config.hostname = name.trim().to_owned();
        }
    } else if config.hostname.is_empty() && !host.network_mode.starts_with("container:") {
        config.hostname = short_id.to_owned();
    }
}

/// Fills what the client left open from the image, as dockerd does.
fn merge_image(config: &mut Config, image: Option<&ContainerDefaults>) {
    let Some(image) = image else { return };
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    if let Some(ports) = &image.exposed_ports {
        for port in ports.keys() {
            config
                .exposed_ports
                .entry(if port.contains('/') {
                    port.clone()
                } else {
                    format!("{port}/tcp")
                })
                .or_default();
        }
    }
    if let Some(env) = &image.env {
        merge_environment(config.env.get_or_insert_default(), env);
    }
    merge_map(config.labels.get_or_insert_default(), image.labels.as_ref());
    if config.entrypoint.is_none() {
        // an own command keeps the image's entrypoint; an own entrypoint drops the image's command
        if config.cmd.as_ref().is_none_or(|words| words.is_empty()) {
            config.cmd = image.cmd.clone().map(Into::into);
        }
        config.entrypoint = image.entrypoint.clone().map(Into::into);
    } else if config
        .entrypoint
        .as_ref()
        .is_some_and(|words| words.len() == 1 && words[0].is_empty())
    {
        // `--entrypoint ""` takes the image's away
        config.entrypoint = None;
    }
    if let Some(volumes) = &image.volumes {
        let own = config.volumes.get_or_insert_default();
        for path in volumes.keys() {
            own.entry(path.clone()).or_default();
        }
    }
    merge_health(config, image);
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
}

/// The image's health check, unless the client sets its own; what the client leaves zero is the image's.
fn merge_health(config: &mut Config, image: &ContainerDefaults) {
    let Some(check) = &image.healthcheck else {
        return;
    };
    let check = crate::image::health(check);
    let Some(own) = &mut config.healthcheck else {
        config.healthcheck = Some(check);
        return;
    };
    if own.test.is_empty() {
        own.test = check.test;
    }
    let fill = |own: &mut i64, image: i64| {
        if *own == 0 {
            *own = image;
        }
    };
    fill(&mut own.interval, check.interval);
    fill(&mut own.timeout, check.timeout);
    fill(&mut own.start_period, check.start_period);
    fill(&mut own.start_interval, check.start_interval);
    fill(&mut own.retries, check.retries);
}

/// The image's variables in front, each unless the client sets it.
fn merge_environment(own: &mut Vec<String>, image: &[String]) {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = own.iter().map(|v| name(v)).collect();
    // Docker appends the image's variables behind the client's
    own.extend(image.iter().filter(|v| !given.contains(&name(v))).cloned());
}

fn merge_map(own: &mut BTreeMap<String, String>, image: Option<&BTreeMap<String, String>>) {
    for (key, value) in image.into_iter().flatten() {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ContainerDefaults {
        ContainerDefaults {
            env: Some(vec!["PATH=/bin".into(), "A=image".into()]),
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["arg".into()]),
            working_dir: "/srv".into(),
            ..ContainerDefaults::default()
        }
    }

    fn check(config: &mut Config, entrypoint: Option<&[&str]>, cmd: Option<&[&str]>) {
        merge_image(config, Some(&image()));
        let owned =
            |w: Option<&[&str]>| w.map(|w| w.iter().map(|&w| w.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            (
                config.entrypoint.clone().map(|w| w.0),
                config.cmd.clone().map(|w| w.0)
            ),
            (owned(entrypoint), owned(cmd))
        );
    }

    #[test]
    fn entrypoint_and_command_merge_as_dockers() {
        check(&mut Config::default(), Some(&["/entry"]), Some(&["arg"]));
        let cmd = Some(vec!["own".to_owned()].into());
        check(
            &mut Config {
                cmd: cmd.clone(),
                ..Config::default()
            },
            Some(&["/entry"]),
            Some(&["own"]),
        );
        let entrypoint = Some(vec!["sh".to_owned()].into());
        check(
            &mut Config {
                entrypoint,
                ..Config::default()
            },
            Some(&["sh"]),
            None,
        );
        let none = Some(vec![String::new()].into());
        check(
            &mut Config {
                entrypoint: none,
                cmd,
                ..Config::default()
            },
            None,
            Some(&["own"]),
        );
    }

    #[test]
    fn the_clients_environment_wins() {
        let mut config = Config {
            env: Some(vec!["A=own".into()]),
            ..Config::default()
        };
        merge_image(&mut config, Some(&image()));
        assert_eq!(config.env.unwrap(), ["A=own", "PATH=/bin"]);
        assert_eq!(config.working_dir, "/srv");
    }
}
