//! Whether the user of an exec is known inside the container.
//!
//! Docker refuses an unknown one when the exec is created: later there is no way but the exec's own
//! streams to tell of it.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use api::exec::CreateRequest;
use rustix::fs::{Mode, OFlags};

use super::Container;
use crate::engine::Engine;
use crate::error::{Error, Result, Step};

impl Engine {
    /// Refuses a user or group that the container's own files do not know.
    pub(super) async fn check_user(
        &self,
        container: &Container,
        request: &CreateRequest,
    ) -> Result<()> {
        let (user, pid) = {
            let record = container.record();
            let given = [&request.user, &record.config.user];
            let user = given.into_iter().find(|user| !user.is_empty());
            (user.cloned(), record.state.pid)
        };
        let Some(user) = user else {
            // root, whom every container has
            return Ok(());
        };
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        // the files may lie on anything that the container has mounted
        self.blocking(move || resolve(&root, &user)).await
    }
}

/// Looks a user up in the files of a root that programs of the container write to.
fn resolve(root: &Path, user: &str) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())
        .step(|| format!("open the container's root {}", root.display()))?;
    match runtime::user::resolve(root.as_fd(), user) {
        Ok(_) => Ok(()),
        Err(error @ runtime::user::UserError::Read { .. }) => {
            Err(Error::system(format!("find user {user}"), &error))
        }
        Err(error) => Err(Error::invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn users_and_groups_of_a_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "web:x:33:33::/:/bin/sh\n").unwrap();
        std::fs::write(root.path().join("etc/group"), "adm:x:4:\n").unwrap();
        for known in ["web", "web:adm", "33", "7:8", "0"] {
            resolve(root.path(), known).unwrap();
        }
        let refused = |user: &str, text: &str| {
            let error = resolve(root.path(), user).unwrap_err();
            assert_eq!(
                (error.kind(), error.message()),
                (Kind::InvalidParameter, text)
            );
        };
        refused(
            "nosuch",
            "unable to find user nosuch: no matching entries in passwd file",
        );
        refused(
            "web:nosuch",
            "unable to find group nosuch: no matching entries in group file",
        );
        refused("4294967296", "uids and gids must be in range 0-2147483647");
    }

    #[test]
    fn a_link_leads_nowhere_out_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root/etc/passwd", root.path().join("etc/passwd"))
            .unwrap();
        resolve(root.path(), "root").unwrap_err();
    }
}
