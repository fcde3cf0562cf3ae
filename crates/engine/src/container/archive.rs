//! Copying files out of containers and into them.

use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use api::archive::{Extract, PathStat, file_mode};
use jiff::Timestamp;
use oci::runtime::IdMapping;
use rustix::fs::{FileType, Mode, OFlags};
use storage::files::{
    ExtractError, ExtractOptions, Found, Owners, Ownership, TreeOptions, find, find_target, resolve,
};
use storage::view::{Access, Extent, View};

use super::tree::Tree;
use super::{Container, MountKind, Record};
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

/// An archive on its way to a client; nothing of it is kept in memory.
pub struct Outgoing(Job);

type Job = Box<dyn FnOnce(&mut dyn Write) -> Result<()> + Send>;

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Outgoing")
    }
}

impl Outgoing {
    pub(super) fn new(job: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> Self {
        Self(Box::new(job))
    }

    /// Writes the archive; blocks as long as the output does.
    ///
    /// # Errors
    /// When a file cannot be read or the output takes no more.
    pub fn write_to(self, output: &mut dyn Write) -> Result<()> {
        (self.0)(output)
    }
}

impl Engine {
    /// Tells what is at a path of a container.
    ///
    /// # Errors
    /// When there is no such container or path.
    pub async fn container_stat(self: &Arc<Self>, name: &str, path: &str) -> Result<PathStat> {
        let (_, stat, ..) = self.look(name, path).await?;
        Ok(stat)
    }

    /// Tells what is at a path of a container, and makes an archive of it.
    ///
    /// # Errors
    /// When there is no such container or path.
    pub async fn container_archive(
        self: &Arc<Self>,
        name: &str,
        path: &str,
    ) -> Result<(PathStat, Outgoing)> {
        let (container, stat, (view, found), owners) = self.look(name, path).await?;
        self.container_event("archive-path", &container, &[]);
        let options = TreeOptions {
            name: stat.name.clone().into_bytes(),
            hidden: view.hidden.clone(),
            owners,
        };
        let step = format!("archive {path} of container {}", container.id);
        let outgoing = Outgoing::new(move |output| {
            let written = storage::files::write_entry(&found, options, output);
            // the mounts live as long as the view
            drop(view);
            written.step(|| step)
        });
        Ok((stat, outgoing))
    }

    async fn look(
        self: &Arc<Self>,
        name: &str,
        path: &str,
    ) -> Result<(Arc<Container>, PathStat, (View, Found), Owners)> {
        let container = self.containers.get(name)?;
        check_path(path)?;
        let Tree { view, owners, .. } = self.tree(&container, Extent::Mounts, Access::Read).await?;
        let (name, path) = (name.to_owned(), path.to_owned());
        let (stat, found) = self
            .blocking(move || {
                let found = find(view.root.as_fd(), path.as_bytes())
                    .map_err(|error| no_file(&error, &path, &name))?;
                let stat = describe(&view, &found, &path)?;
                Ok((stat, (view, found)))
            })
            .await?;
        Ok((container, stat, found, owners))
    }

    /// Extracts an archive, plain or packed, into a directory of a container.
    ///
    /// # Errors
    /// When there is no such container or directory, it is read-only, or the archive is damaged.
    pub async fn container_extract(
        self: &Arc<Self>,
        name: &str,
        wanted: Extract,
        source: impl Read + Send + 'static,
    ) -> Result<()> {
        let container = self.containers.get(name)?;
        check_path(&wanted.path)?;
        let tree = self.tree(&container, Extent::Mounts, Access::Write).await?;
        let (name, record) = (name.to_owned(), container.record().clone());
        // a client may be slow for hours: it gets a thread of its own
        let extracted = move || {
            let owners = tree.owners.clone();
            as_root_of(&owners, || extract(&tree, &name, &record, &wanted, source))
        };
        threaded(extracted).await?;
        self.container_event("extract-to-dir", &container, &[]);
        Ok(())
    }
}

/// Does something as the container's root, who is not the host's in a user namespace: in a tree of its
/// mounts nobody else can make files.
fn as_root_of<T>(owners: &Owners, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let root = |ranges: &[IdMapping]| ranges.iter().find_map(|range| range.to_host(0));
    match (root(&owners.uids), root(&owners.gids)) {
        (Some(uid), Some(gid)) => sys::userns::as_file_owner(uid, gid, work)
            .step(|| format!("make files as the user {uid} of the host"))?,
        _ => work(),
    }
}

/// Runs work that may block for long, on a thread that nobody else waits for.
pub(crate) async fn threaded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("transfer".to_owned())
        .spawn(move || drop(sender.send(work())))
        .step(|| "start a thread for a transfer")?;
    let broken = |_| Err(Error::internal("a transfer broke off"));
    receiver.await.unwrap_or_else(broken)
}

fn check_path(path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(Error::invalid("bad parameter: path cannot be empty"));
    }
    if path.contains('\0') {
        return Err(Error::invalid("bad parameter: path has a NUL byte"));
    }
    Ok(())
}

/// Docker's words for a path that cannot be found.
fn no_file(error: &std::io::Error, path: &str, name: &str) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::not_found(format!(
            "Could not find the file {path} in container {name}"
        ));
    }
    Error::system(format!("lstat /{}", path.trim_start_matches('/')), error)
}

/// The last name of a path, as Go's `path.Base` has it.
fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        None | Some("") => "/",
        Some(name) => name,
    }
}

fn describe(view: &View, found: &Found, path: &str) -> Result<PathStat> {
    let stat = &found.stat;
    let step = || format!("look at {path}");
    let link_target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let target = resolve(view.root.as_fd(), path.as_bytes()).step(step)?;
        String::from_utf8_lossy(&target).into_owned()
    } else {
        String::new()
    };
    let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let mtime = Timestamp::new(stat.st_mtime, nanos).unwrap_or_default();
    Ok(PathStat {
        name: base(path).to_owned(),
        size: stat.st_size,
        mode: file_mode::of(stat.st_mode),
        mtime: mtime.to_string(),
        link_target,
    })
}

fn extract(
    tree: &Tree,
    name: &str,
    record: &Record,
    wanted: &Extract,
    source: impl Read,
) -> Result<()> {
    let path = wanted.path.as_str();
    let root = tree.view.root.as_fd();
    let target = find_target(root, path.as_bytes()).map_err(|error| no_file(&error, path, name))?;
    if FileType::from_raw_mode(target.stat.st_mode) != FileType::Directory {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    check_writable(tree, record, &target, path)?;
    let options = ExtractOptions {
        ownership: ownership(tree, record, wanted)?,
        replace_kind: !wanted.no_overwrite_dir_non_dir,
        rename: None,
        owners: tree.owners.clone(),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let start = rustix::fs::openat(&target.fd, c".", flags, Mode::empty())
        .step(|| format!("open {path} of container {}", record.id))?;
    storage::files::extract(start, source, &options).map_err(|error| refusal(&error, path))
}

/// Refuses what the container itself could not write to.
fn check_writable(tree: &Tree, record: &Record, target: &Found, path: &str) -> Result<()> {
    let real = resolve(tree.view.root.as_fd(), path.as_bytes())
        .step(|| format!("look at {path} of container {}", record.id))?;
    let real = String::from_utf8_lossy(&real).into_owned();
    let within = |place: &str| {
        real.strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mount = record
        .mounts
        .iter()
        .filter(|mount| tree.live || mount.kind != MountKind::Tmpfs)
        .filter(|mount| within(&mount.destination))
        .max_by_key(|mount| mount.destination.len());
    if mount.is_some_and(|mount| mount.read_only) {
        return Err(Error::invalid("mounted volume is marked read-only"));
    }
    // what is mounted on a read-only root (`/dev/shm`, `--tmpfs`) is written to as from inside
    let is_read_only = || {
        let mounted = rustix::fs::fstatvfs(&target.fd);
        mounted.is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    };
    if mount.is_none() && record.host.readonly_rootfs && (!tree.live || is_read_only()) {
        return Err(Error::invalid("container rootfs is marked read-only"));
    }
    Ok(())
}

fn ownership(tree: &Tree, record: &Record, wanted: &Extract) -> Result<Ownership> {
    let user = record.config.user.as_str();
    if !wanted.copy_uid_gid || user.is_empty() {
        return Ok(Ownership::Archive);
    }
    match runtime::user::resolve(tree.view.root.as_fd(), user) {
        Ok(found) => Ok(Ownership::Fixed {
            uid: found.uid,
            gid: found.gid,
        }),
        Err(error @ runtime::user::UserError::Read { .. }) => {
            Err(Error::system(format!("find user {user}"), &error))
        }
        Err(error) => Err(Error::invalid(format!(
            "failed to look up user {user:?} in container: {error}"
        ))),
    }
}

/// Whose fault it is that an archive cannot be extracted: most times the archive's.
fn refusal(error: &ExtractError, path: &str) -> Error {
    match error {
        ExtractError::Archive(storage::ArchiveError::Header { .. }) => Error::invalid(format!(
            "archive/tar: invalid tar header: {}",
            crate::error::chain(error)
        )),
        // in the words that Docker's command line shows
        ExtractError::DirectoryOver { .. } | ExtractError::OverDirectory { .. } => {
            Error::invalid(format!("{error} {path:?}"))
        }
        ExtractError::Archive(_)
        | ExtractError::Start(_)
        | ExtractError::Kernels
        | ExtractError::Beside { .. }
        | ExtractError::Refused { .. } => Error::invalid(crate::error::chain(error)),
        ExtractError::Step { .. } => Error::internal(crate::error::chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_names_are_gos() {
        for (path, name) in [
            ("/", "/"),
            ("/.", "."),
            ("/data/", "data"),
            ("/data/.", "."),
            ("/data/..", ".."),
            ("data", "data"),
            ("//", "/"),
        ] {
            assert_eq!(base(path), name, "{path}");
        }
    }
}
