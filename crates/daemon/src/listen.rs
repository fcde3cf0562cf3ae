//! The unix sockets that clients connect to.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use tokio::net::UnixListener;

/// A socket that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("another process listens on {path}: stop it, or choose another socket")]
    Taken {
        /// Socket.
        path: PathBuf,
    },
    /// There is something that is no socket.
    #[error("{path} is in the way: it is not a socket")]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The group does not exist.
    #[error("group {name} does not exist on this host")]
    NoGroup {
        /// Group.
        name: String,
    },
    /// A step failed.
    #[error("{step} {path}")]
    Step {
        /// What was done.
        step: &'static str,
        /// Socket or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// A listening socket; its file goes when this value goes.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Listens at a path, for root and the group.
    ///
    /// The socket is made under another name and renamed when it has its owner and mode, so that
    /// it never stands there open for everyone, and never without a listener behind it.
    pub(crate) fn bind(path: &Path, group: Option<u32>) -> Result<Self, ListenError> {
        let failed = |step: &'static str| {
            move |source| ListenError::Step {
                step,
                path: path.to_owned(),
                source,
            }
        };
        make_way(path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(failed("create the folder of socket"))?;
        let own = folder.join(format!(".gorae-{}.sock", std::process::id()));
        remove_if_there(&own).map_err(failed("clear the way for socket"))?;
        let listener = UnixListener::bind(&own).map_err(failed("listen on"))?;
        let socket = finish(&own, path, group).map_err(failed("set up socket"));
        match socket {
            Ok(inode) => Ok(Self {
                listener,
                path: path.to_owned(),
                inode,
            }),
            Err(error) => {
                // the first error is the one to tell
                drop(remove_if_there(&own));
                Err(error)
            }
        }
    }
}

fn finish(own: &Path, path: &Path, group: Option<u32>) -> io::Result<u64> {
    let owner = group.map(Gid::from_raw);
    rustix::fs::chown(own, Some(Uid::ROOT), owner)?;
    std::fs::set_permissions(own, PermissionsExt::from_mode(0o660))?;
    std::fs::rename(own, path)?;
    Ok(std::fs::symlink_metadata(path)?.ino())
}

/// Removes a socket that nobody listens on any more.
fn make_way(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NotASocket {
            path: path.to_owned(),
        }),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(ListenError::Taken {
                path: path.to_owned(),
            }),
            Err(_) => remove_if_there(path).map_err(|source| ListenError::Step {
                step: "remove the old socket",
                path: path.to_owned(),
                source,
            }),
        },
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // another engine may have put its own there meanwhile
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours && let Err(error) = remove_if_there(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays");
        }
    }
}

/// Finds the group for sockets: the one that was asked for, or the first of the usual ones.
pub(crate) fn group(wanted: Option<&str>) -> Result<Option<u32>, ListenError> {
    match wanted {
        None => Ok(crate::group::first_of(&["gorae", "docker"])),
        Some(name) => match crate::group::first_of(&[name]) {
            Some(id) => Ok(Some(id)),
            None => Err(ListenError::NoGroup { name: name.into() }),
        },
    }
}

/// Lets the group, and nobody else, pass through the run folder to the socket in it.
pub(crate) fn open_folder(folder: &Path, group: Option<u32>) -> Result<(), ListenError> {
    let Some(group) = group else {
        return Ok(());
    };
    let open = || {
        rustix::fs::chown(folder, Some(Uid::ROOT), Some(Gid::from_raw(group)))?;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o710))
    };
    open().map_err(|source| ListenError::Step {
        step: "open for the group the folder",
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn binds_and_cleans_up() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/a.sock");
        let socket = Socket::bind(&path, Some(0)).unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o660);
        assert!(matches!(
            Socket::bind(&path, None),
            Err(ListenError::Taken { .. })
        ));
        drop(socket);
        assert!(!path.exists());

        // a socket whose engine was killed
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, None).unwrap();
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
        // somebody else's stays
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        drop(socket);
        assert!(path.exists());
        assert!(matches!(
            Socket::bind(&path, None),
            Err(ListenError::NotASocket { .. })
        ));
    }

    #[test]
    fn groups() {
        assert_eq!(group(Some("root")).unwrap(), Some(0));
        assert!(group(Some("no-such-group-here")).is_err());
    }
}
