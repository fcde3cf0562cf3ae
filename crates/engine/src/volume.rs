//! Volumes: their records, and every verb on them.

mod mount;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, RwLock};

use api::Filters;
use api::host_config::VolumeOptions;
use api::volume::{CreateRequest, ListResponse, PruneReport, UsageData, Volume};
use jiff::Timestamp;
use oci::ContainerId;
use serde::{Deserialize, Serialize};

use crate::container::MountKind;
use crate::db::{Db, Table};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};
use crate::filter;
use crate::image::Image;
use crate::names;

/// The label that marks a volume that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume as the database keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    created: Timestamp,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
}

/// The volumes by name.
#[derive(Debug)]
pub(crate) struct Volumes {
    records: RwLock<HashMap<String, Record>>,
    /// Who uses the volumes that are mounts; held while one is mounted or unmounted.
    users: tokio::sync::Mutex<mount::Users>,
}

impl Volumes {
    pub(crate) fn load(db: &Db) -> Result<Self> {
        Ok(Self {
            records: RwLock::new(db.load(Table::Volumes)?.into_iter().collect()),
            users: tokio::sync::Mutex::default(),
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, Record>> {
        self.records
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Record>> {
        self.records
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The options of a volume that is a mount.
    pub(crate) fn mount_options(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let records = self.read();
        let options = &records.get(name)?.options;
        mount::is_mount(options).then(|| options.clone())
    }

    /// The volumes that are mounts.
    fn mounts(&self) -> Vec<String> {
        let records = self.read();
        let mounts = records.values().filter(|r| mount::is_mount(&r.options));
        mounts.map(|record| record.name.clone()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.read().len()
    }

    /// Whether nobody has named the volume.
    pub(crate) fn is_anonymous(&self, name: &str) -> bool {
        self.read()
            .get(name)
            .is_some_and(|record| record.labels.contains_key(ANONYMOUS))
    }
}

impl Engine {
    /// Creates a volume, or answers the one that is there.
    ///
    /// # Errors
    /// When the name or driver is invalid or the disk refuses.
    pub async fn volume_create(self: &Arc<Self>, request: CreateRequest) -> Result<Volume> {
        if request.cluster_volume_spec.is_some() {
            return Err(Error::unavailable(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
                 to connect this node to swarm and try again.",
            ));
        }
        if !matches!(request.driver.as_str(), "" | "local") {
            let driver = request.driver;
            if self.volumes.read().contains_key(&request.name) {
                let name = request.name;
                return Err(Error::conflict(format!(
                    "create {name}: conflict: volume name must be unique: it is of driver local, \
                     not {driver}"
                )));
            }
            return Err(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin {driver:?} not found"
            )));
        }
        let mut labels = request.labels;
        let name = if request.name.is_empty() {
            labels.insert(ANONYMOUS.to_owned(), String::new());
            let bytes: [u8; 32] = names::random()?;
            oci::Digest::from_sha256(&bytes).hex().to_owned()
        } else {
            request.name
        };
        storage::volume::validate_name(&name)
            .map_err(|e| Error::invalid(format!("create {name}: {e}")))?;
        let existing = self.volumes.read().get(&name).cloned();
        if let Some(record) = existing {
            return Ok(self.shown(&record));
        }
        mount::check(&request.driver_opts).map_err(|e| e.context(format!("create {name}")))?;
        let record = Record {
            name,
            created: Timestamp::now(),
            labels,
            options: request.driver_opts,
        };
        let (store, name) = (Arc::clone(&self.store), record.name.clone());
        self.blocking(move || {
            store
                .volumes()
                .create(&name)
                .map(drop)
                .step(|| format!("create volume {name}"))
        })
        .await?;
        self.db.put(Table::Volumes, &record.name, &record).await?;
        self.volumes
            .write()
            .insert(record.name.clone(), record.clone());
        self.volume_event("create", &record.name, &[]);
        Ok(self.shown(&record))
    }

    /// The volume of a container's mount, made if need be.
    pub(crate) async fn volume_for(
        self: &Arc<Self>,
        name: &str,
        options: Option<&VolumeOptions>,
        _container: &ContainerId,
    ) -> Result<Volume> {
        let driver = options
            .and_then(|o| o.driver_config.clone())
            .unwrap_or_default();
        self.volume_create(CreateRequest {
            name: name.to_owned(),
            driver: driver.name,
            driver_opts: driver.options,
            labels: options.map(|o| o.labels.clone()).unwrap_or_default(),
            ..CreateRequest::default()
        })
        .await
    }

    /// Fills an empty volume with what the image has at its mount point.
    pub(crate) async fn copy_up(
        self: &Arc<Self>,
        image: &Arc<Image>,
        path: &str,
        name: &str,
    ) -> Result<()> {
        let (store, image) = (Arc::clone(&self.store), Arc::clone(image));
        let (path, name) = (path.to_owned(), name.to_owned());
        if self.volumes.mount_options(&name).is_some() {
            // its content is elsewhere, and not the image's to fill
            return Ok(());
        }
        self.blocking(move || {
            let step = || format!("copy the image's {path} to volume {name}");
            let volume = store.volumes().get(&name).step(step)?;
            let Some(top) = image.chain_ids().pop() else {
                return Ok(());
            };
            let lowers = store.layers().lowers(&top).step(step)?;
            let view = storage::overlay::mount_view(&lowers).step(step)?;
            let view = std::os::fd::AsFd::as_fd(&view);
            storage::copy_up::copy_up(view, Path::new(&path), &volume).step(step)?;
            Ok(())
        })
        .await
    }

    /// The volumes that have no folder, and the folders that are no volume's.
    pub(crate) fn volume_differences(&self) -> Result<(Vec<String>, Vec<String>)> {
        let found = self.store.volumes().list().step(|| "list volumes")?;
        let found: Vec<String> = found.iter().map(|one| one.name().to_owned()).collect();
        let records = self.volumes.read();
        let lacking = records.keys().filter(|name| !found.contains(name));
        let strange = found.iter().filter(|name| !records.contains_key(*name));
        Ok((lacking.cloned().collect(), strange.cloned().collect()))
    }

    /// Makes a volume known that has a folder only. One with a name that is drawn counts as anonymous, so
    /// that it can be pruned.
    pub(crate) async fn adopt_volume(&self, name: &str) -> Result<()> {
        let drawn = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let labels = drawn.then(|| (ANONYMOUS.to_owned(), String::new()));
        let record = Record {
            name: name.to_owned(),
            created: Timestamp::now(),
            labels: labels.into_iter().collect(),
            options: BTreeMap::new(),
        };
        self.db.put(Table::Volumes, name, &record).await?;
        self.volumes.write().insert(name.to_owned(), record);
        Ok(())
    }

    /// Lists volumes by name.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub fn volume_list(&self, filters: &Filters) -> Result<ListResponse> {
        filters.validate(&["dangling", "driver", "label", "name"])?;
        let dangling = filters.bool_or("dangling", false)?;
        let used = self.volumes_in_use();
        let mut volumes: Vec<Volume> = self
            .volumes
            .read()
            .values()
            .filter(|record| {
                (!filters.contains("dangling") || used.contains_key(&record.name) != dangling)
                    && filters.exact("driver", "local")
                    && filter::labels(filters, Some(&record.labels))
                    && filter::pattern(filters, "name", &record.name)
            })
            .map(|record| self.shown(record))
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ListResponse {
            volumes: Some(volumes),
            warnings: None,
        })
    }

    /// Tells everything about a volume.
    ///
    /// # Errors
    /// When there is no such volume.
    pub fn volume_inspect(&self, name: &str) -> Result<Volume> {
        let record = self.volumes.read().get(name).cloned();
        record
            .map(|record| self.shown(&record))
            .ok_or_else(|| missing(name))
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// When a container uses it, or, unless forced, there is none.
    pub async fn volume_remove(self: &Arc<Self>, name: &str, force: bool) -> Result<()> {
        if !self.volumes.read().contains_key(name) {
            return if force { Ok(()) } else { Err(missing(name)) };
        }
        if let Some(users) = self.volumes_in_use().get(name) {
            let users: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        self.delete_volume(name).await
    }

    async fn delete_volume(self: &Arc<Self>, name: &str) -> Result<()> {
        self.unmount_volume(name).await;
        let record = self.volumes.write().remove(name);
        let (store, owned) = (Arc::clone(&self.store), name.to_owned());
        let removed = self.blocking(move || {
            store
                .volumes()
                .remove(&owned)
                .map(drop)
                .step(|| format!("remove volume {owned}"))
        });
        if let Err(error) = removed.await {
            if let Some(record) = record {
                self.volumes.write().insert(name.to_owned(), record);
            }
            return Err(error);
        }
        self.db.remove(Table::Volumes, name).await?;
        self.volume_event("destroy", name, &[]);
        Ok(())
    }

    /// Removes the volumes that no container uses: those nobody named, or with `all` all of them.
    ///
    /// # Errors
    /// When a filter is unknown or malformed.
    pub async fn volume_prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["all", "label", "label!"])?;
        let all = filters.bool_or("all", false).map_err(|_| {
            let given = filters.get("all").next().unwrap_or_default();
            Error::invalid(format!(
                "invalid filter 'all': strconv.ParseBool: parsing {given:?}: invalid syntax"
            ))
        })?;
        let used = self.volumes_in_use();
        let chosen: Vec<String> = self
            .volumes
            .read()
            .values()
            .filter(|record| {
                !used.contains_key(&record.name)
                    && (all || record.labels.contains_key(ANONYMOUS))
                    && filter::labels(filters, Some(&record.labels))
            })
            .map(|record| record.name.clone())
            .collect();
        let (mut deleted, mut space) = (Vec::new(), 0);
        for name in chosen {
            let size = self.own_size(&name).await;
            if self.delete_volume(&name).await.is_ok() {
                space += size;
                deleted.push(name);
            }
        }
        self.prune_event("volume", space);
        Ok(PruneReport {
            volumes_deleted: Some(deleted),
            space_reclaimed: space,
        })
    }

    /// All volumes with their sizes and numbers of users.
    pub(crate) async fn volume_usage(self: &Arc<Self>) -> Result<Vec<Volume>> {
        let mut volumes = self
            .volume_list(&Filters::default())?
            .volumes
            .unwrap_or_default();
        // what another file system holds takes no place here
        volumes.retain(|volume| self.volumes.mount_options(&volume.name).is_none());
        let used = self.volumes_in_use();
        for volume in &mut volumes {
            let size = self.own_size(&volume.name).await;
            volume.usage_data = Some(UsageData {
                ref_count: used
                    .get(&volume.name)
                    .map_or(0, |users| i64::try_from(users.len()).unwrap_or(i64::MAX)),
                size: i64::try_from(size).unwrap_or(i64::MAX),
            });
        }
        Ok(volumes)
    }

    /// Bytes that the volume takes in the engine's folder.
    async fn own_size(&self, name: &str) -> u64 {
        if self.volumes.mount_options(name).is_some() {
            return 0;
        }
        self.volume_size(name).await.unwrap_or(0)
    }

    /// The folder of a volume that containers see.
    fn volume_path(&self, name: &str) -> std::path::PathBuf {
        self.config.root.join("volumes").join(name).join("_data")
    }

    fn volumes_in_use(&self) -> HashMap<String, Vec<ContainerId>> {
        let mut users: HashMap<String, Vec<ContainerId>> = HashMap::new();
        for container in self.containers.all() {
            for mount in container
                .record()
                .mounts
                .iter()
                .filter(|m| m.kind == MountKind::Volume)
            {
                users
                    .entry(mount.name.clone())
                    .or_default()
                    .push(container.id.clone());
            }
        }
        users
    }

    fn shown(&self, record: &Record) -> Volume {
        let path = self.volume_path(&record.name);
        Volume {
            created_at: record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: "local".to_owned(),
            labels: Some(record.labels.clone()).filter(|l| !l.is_empty()),
            mountpoint: path.to_string_lossy().into_owned(),
            name: record.name.clone(),
            options: Some(record.options.clone()).filter(|o| !o.is_empty()),
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}
