//! The `/dev` of a user namespace, whose root can make no device node: the nodes are made before, on a
//! file system of the host's.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use oci::runtime::{Device, Mount, Spec};
use sys::mount::Depth;

use super::UsernsError;
use crate::rootfs::{self, DevicesError};

/// Whether a mount is the tmpfs of `/dev`.
pub(crate) fn is_dev(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("tmpfs") && mount.destination == Path::new("/dev")
}

/// The device nodes that do not lie below `/dev`, in their order.
pub(crate) fn outside(spec: &Spec) -> impl Iterator<Item = &Device> {
    let devices = spec.linux.devices.iter();
    devices.filter(|device| !device.path.starts_with("/dev"))
}

/// Makes the file system of `/dev`, and a mount of each node that goes elsewhere.
pub(super) fn make(spec: &Spec) -> Result<(Option<OwnedFd>, Vec<OwnedFd>), UsernsError> {
    let Some(mount) = spec.mounts.iter().find(|mount| is_dev(mount)) else {
        // one that is bound from outside has what it has
        let bound = |mount: &Mount| mount.destination == Path::new("/dev");
        if spec.mounts.iter().any(bound) {
            return Ok((None, Vec::new()));
        }
        return Err(UsernsError::NoDev);
    };
    let dev = rootfs::make_dev(mount).map_err(|error| UsernsError::Dev(Box::new(error)))?;
    let inside = spec.linux.devices.iter();
    let inside = inside.filter(|device| device.path.starts_with("/dev"));
    rootfs::make_nodes(dev.as_fd(), inside, &spec.linux).map_err(devices)?;
    let nodes = outside(spec).map(|device| make_outside(device, spec));
    Ok((Some(dev), nodes.collect::<Result<_, _>>()?))
}

fn devices(error: DevicesError) -> UsernsError {
    UsernsError::Devices(Box::new(error))
}

/// Makes a node on a file system of its own, to be mounted as a file.
fn make_outside(device: &Device, spec: &Spec) -> Result<OwnedFd, UsernsError> {
    let fail = |source| {
        let path = device.path.clone();
        devices(DevicesError::Node { path, source })
    };
    let hidden = rootfs::make_hidden().map_err(|error| UsernsError::Dev(Box::new(error)))?;
    // before Linux 6.15 a mount that is nowhere cannot be copied; this one goes with the namespace
    let over = rustix::fs::open(
        c"/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let over = over.map_err(|error| fail(error.into()))?;
    rootfs::attach(hidden.as_fd(), over.as_fd()).map_err(fail)?;
    let name = Path::new("node");
    rootfs::make_one(hidden.as_fd(), name, device, &spec.linux).map_err(devices)?;
    let look = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW;
    let node = sys::tree::open_beneath(hidden.as_fd(), name, look).map_err(fail)?;
    rootfs::copy_tree(node.as_fd(), Depth::One).map_err(fail)
}
