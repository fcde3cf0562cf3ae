//! Volumes that are mounts: the local driver's options `type`, `device` and `o`.
//!
//! As with Docker such a volume is mounted at its folder while containers use it, so that all of them
//! see the same, and it outlives the engine. What nobody uses any more is unmounted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use oci::ContainerId;
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::container::{Container, MountKind, Record};
use crate::engine::Engine;
use crate::error::{Error, Result, chain};

/// How long the lookup of a file server's name may take.
const LOOKUP: Duration = Duration::from_secs(10);

/// The containers that run, by the volumes with options that they use.
pub(super) type Users = HashMap<String, HashSet<ContainerId>>;

/// Checks a new volume's options by the rules of Docker's local driver.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
    if let Some(name) = options.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(Error::invalid(format!("invalid option: {name:?}")));
    }
    if let Some(size) = options.get("size") {
        return Err(Error::invalid(if is_size(size) {
            "quota size requested but no quota support".to_owned()
        } else {
            format!("invalid size: '{size}'")
        }));
    }
    let given = |name: &str| options.get(name).is_some_and(|text| !text.is_empty());
    if ["type", "o", "device"].into_iter().any(given) {
        for name in ["device", "type"] {
            if !options.contains_key(name) {
                return Err(Error::invalid(format!("missing required option: {name:?}")));
            }
        }
    }
    Ok(())
}

/// Whether a text is a size as Docker's clients write them: `10m`, `1.5GiB`.
fn is_size(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text[number.len()..].trim().to_ascii_lowercase();
    let unit = unit.trim_end_matches("ib").trim_end_matches('b');
    number.parse::<f64>().is_ok_and(f64::is_finite)
        && (unit.is_empty() || (unit.len() == 1 && "kmgtp".contains(unit)))
}

/// Whether a volume's options make it a mount.
pub(super) fn is_mount(options: &BTreeMap<String, String>) -> bool {
    let given = |name: &str| options.get(name).is_some_and(|text| !text.is_empty());
    given("device") && given("type")
}

/// Mount options as the kernel takes them: flags, and the rest for the file system (mount(8)).
#[derive(Debug, PartialEq)]
struct Options {
    flags: MountFlags,
    data: String,
}

fn parse(text: &str) -> Options {
    let mut options = Options {
        flags: MountFlags::empty(),
        data: String::new(),
    };
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (on, flag) = match word {
            "defaults" => continue,
            "ro" => (true, MountFlags::RDONLY),
            "rw" => (false, MountFlags::RDONLY),
            "bind" => (true, MountFlags::BIND),
            "rbind" => (true, MountFlags::BIND | MountFlags::REC),
            "nosuid" => (true, MountFlags::NOSUID),
            "suid" => (false, MountFlags::NOSUID),
            "nodev" => (true, MountFlags::NODEV),
            "dev" => (false, MountFlags::NODEV),
            "noexec" => (true, MountFlags::NOEXEC),
            "exec" => (false, MountFlags::NOEXEC),
            "noatime" => (true, MountFlags::NOATIME),
            "atime" => (false, MountFlags::NOATIME),
            "nodiratime" => (true, MountFlags::NODIRATIME),
            "diratime" => (false, MountFlags::NODIRATIME),
            "relatime" => (true, MountFlags::RELATIME),
            "norelatime" => (false, MountFlags::RELATIME),
            "strictatime" => (true, MountFlags::STRICTATIME),
            "sync" => (true, MountFlags::SYNCHRONOUS),
            "async" => (false, MountFlags::SYNCHRONOUS),
            "dirsync" => (true, MountFlags::DIRSYNC),
            other => {
                if !options.data.is_empty() {
                    options.data.push(',');
                }
                options.data.push_str(other);
                continue;
            }
        };
        options.flags.set(flag, on);
    }
    options
}

/// The server's address among the options of a network file system.
fn address(options: &str) -> Option<&str> {
    let mut words = options.split(',');
    words
        .find_map(|word| word.strip_prefix("addr="))
        .filter(|a| !a.is_empty())
}

/// Opens a volume's folder without following a link.
fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn is_mounted(path: &Path) -> Result<bool, Errno> {
    let fd = open(path)?;
    let stat = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Mounts a volume at its folder.
fn mount(path: &Path, kind: &str, device: &str, text: &str) -> Result<()> {
    let Options { flags, data } = parse(text);
    let shown = path.display();
    let failed = |errno: Errno| {
        let mut step = format!(
            "error while mounting volume '{shown}': failed to mount local volume: mount {device}:{shown}"
        );
        if !flags.is_empty() {
            step.push_str(&format!(", flags: {:#x}", flags.bits()));
        }
        if !data.is_empty() {
            step.push_str(&format!(", data: {data}"));
        }
        Error::internal(format!("{step}: {}", chain(&errno)))
    };
    let fd = open(path).map_err(failed)?;
    // the folder is the engine's own; by its descriptor nothing put in its place meanwhile is mounted on
    let target = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let words = std::ffi::CString::new(data.as_str()).map_err(|_| failed(Errno::INVAL))?;
    let words = Some(words.as_c_str()).filter(|words| !words.is_empty());
    rustix::mount::mount(device, &target, kind, flags, words).map_err(failed)?;
    let later = flags.difference(MountFlags::BIND | MountFlags::REC);
    if flags.contains(MountFlags::BIND) && !later.is_empty() {
        // a bind mount takes its other flags by a second call alone (mount(2))
        let remount = later | MountFlags::BIND;
        if let Err(errno) = rustix::mount::mount_remount(path, remount, c"") {
            unmount(path);
            return Err(failed(errno));
        }
    }
    Ok(())
}

fn unmount(path: &Path) {
    if let Err(error) = rustix::mount::unmount(path, UnmountFlags::NOFOLLOW)
        && error != Errno::INVAL
    {
        tracing::warn!(path = %path.display(), %error, "a volume stays mounted");
    }
}

impl Engine {
    /// Mounts those of a container's volumes that are mounts; it runs from now on.
    pub(crate) async fn attach_volumes(&self, record: &Record) -> Result<()> {
        let mounts = record.mounts.iter();
        for mount in mounts.filter(|m| m.kind == MountKind::Volume) {
            if let Err(error) = self.attach_volume(&mount.name, &record.id).await {
                self.detach_volumes(record).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn attach_volume(&self, name: &str, user: &ContainerId) -> Result<()> {
        let Some(options) = self.volumes.mount_options(name) else {
            return Ok(());
        };
        let mut users = self.volumes.users.lock().await;
        let option = |name: &str| options.get(name).cloned().unwrap_or_default();
        let (kind, device) = (option("type"), option("device"));
        let words = self.resolved(&kind, option("o")).await?;
        let path = self.volume_path(name);
        self.blocking(move || {
            let failed = |errno| Error::system(format!("open volume {}", path.display()), &errno);
            if is_mounted(&path).map_err(failed)? {
                return Ok(());
            }
            mount(&path, &kind, &device, &words)
        })
        .await?;
        users
            .entry(name.to_owned())
            .or_default()
            .insert(user.clone());
        Ok(())
    }

    /// The options with the server's name replaced by its address: the kernel knows no names.
    async fn resolved(&self, kind: &str, options: String) -> Result<String> {
        let name = match address(&options) {
            Some(name) if matches!(kind, "nfs" | "nfs4" | "cifs") => name.to_owned(),
            _ => return Ok(options),
        };
        if name.parse::<IpAddr>().is_ok() {
            return Ok(options);
        }
        let found = distribution::HostNames::default()
            .lookup(&name, LOOKUP)
            .await;
        let addresses = found.map_err(|e| {
            let step = "error resolving passed in network volume address";
            Error::invalid(format!("{step}: {}", distribution::chain(&e)))
        })?;
        let Some(first) = addresses.first() else {
            let why =
                format!("error resolving passed in network volume address: {name} has no address");
            return Err(Error::invalid(why));
        };
        Ok(options.replace(&format!("addr={name}"), &format!("addr={first}")))
    }

    /// Unmounts those of a container's volumes that nobody else uses; it runs no more.
    pub(crate) async fn detach_volumes(&self, record: &Record) {
        let mounts = record.mounts.iter();
        for mount in mounts.filter(|m| m.kind == MountKind::Volume) {
            if self.volumes.mount_options(&mount.name).is_none() {
                continue;
            }
            let mut users = self.volumes.users.lock().await;
            if let Some(others) = users.get_mut(&mount.name) {
                others.remove(&record.id);
                if !others.is_empty() {
                    continue;
                }
            }
            users.remove(&mount.name);
            self.unmount_volume(&mount.name).await;
        }
    }

    /// Unmounts a volume that nobody uses.
    pub(super) async fn unmount_volume(&self, name: &str) {
        let path = self.volume_path(name);
        let work = self.blocking(move || {
            if is_mounted(&path).unwrap_or(false) {
                unmount(&path);
            }
            Ok(())
        });
        if let Err(error) = work.await {
            tracing::warn!(volume = name, %error, "could not be unmounted");
        }
    }

    /// The folders of volumes that are mounts and in use.
    pub(crate) async fn mounted_volumes(&self) -> Vec<std::path::PathBuf> {
        let users = self.volumes.users.lock().await;
        users.keys().map(|name| self.volume_path(name)).collect()
    }

    /// Learns at the engine's start who uses which volume, and unmounts what nobody does.
    pub(crate) async fn settle_volumes(&self) {
        let names = self.volumes.mounts();
        let mut users = self.volumes.users.lock().await;
        for container in self.containers.all() {
            if container.status().is_alive() {
                note(&mut users, &container, &names);
            }
        }
        for name in names.iter().filter(|name| !users.contains_key(*name)) {
            self.unmount_volume(name).await;
        }
    }
}

fn note(users: &mut Users, container: &Container, names: &[String]) {
    let record = container.record();
    let volumes = record.mounts.iter().filter(|m| names.contains(&m.name));
    for mount in volumes.filter(|m| m.kind == MountKind::Volume) {
        let of = users.entry(mount.name.clone()).or_default();
        of.insert(container.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_new_volumes() {
        let check = |pairs: &[(&str, &str)], expect: Result<(), &str>| {
            let options = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
            let found = check(&options.collect()).map_err(|e| e.message().to_owned());
            assert_eq!(found, expect.map_err(str::to_owned), "{pairs:?}");
        };
        check(&[], Ok(()));
        check(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "")], Ok(()));
        check(&[("type", ""), ("device", ""), ("o", "")], Ok(()));
        check(&[("nosuch", "x")], Err("invalid option: \"nosuch\""));
        let device = "missing required option: \"device\"";
        check(&[("type", "tmpfs")], Err(device));
        check(&[("o", "bind")], Err(device));
        let kind = "missing required option: \"type\"";
        check(&[("device", "/tmp")], Err(kind));
        let quota = "quota size requested but no quota support";
        for size in ["10m", "1GiB", "5", "1.5kb"] {
            check(&[("size", size)], Err(quota));
        }
        check(&[("size", "x")], Err("invalid size: 'x'"));
        check(&[("size", "10q")], Err("invalid size: '10q'"));
    }

    #[test]
    fn options_of_mounts() {
        let check = |text: &str, flags: MountFlags, data: &str| {
            let expect = Options {
                flags,
                data: data.to_owned(),
            };
            assert_eq!(parse(text), expect, "{text}");
        };
        let none = MountFlags::empty();
        check("", none, "");
        check("defaults,rw", none, "");
        check("bind", MountFlags::BIND, "");
        check(
            "rbind,ro",
            MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY,
            "",
        );
        check("ro,rw", none, "");
        check(
            "addr=1.2.3.4,nosuid,vers=4",
            MountFlags::NOSUID,
            "addr=1.2.3.4,vers=4",
        );
        assert_eq!(address("rw,addr=nas,vers=4"), Some("nas"));
        assert_eq!(address("rw,addr=,vers=4"), None);
        assert_eq!(address("rw"), None);
    }
}
