//! Setting limits: each on the hierarchy that has its controller, in the form of that hierarchy's version.

mod block;
mod cpu;
mod memory;
mod pids;

use std::collections::BTreeMap;

use oci::runtime::Resources;
use rustix::io::Errno;

use super::error::CgroupError;
use super::hierarchy::Controller;
use super::{Cgroup, Place, file};

pub(super) use memory::UNLIMITED;

pub(super) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<(), CgroupError> {
    if let Some(memory) = &resources.memory {
        memory::apply(cgroup, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu::apply(cgroup, cpu)?;
    }
    if let Some(pids) = &resources.pids {
        pids::apply(cgroup, pids)?;
    }
    if let Some(block) = &resources.block_io {
        block::apply(cgroup, block)?;
    }
    apply_unified(cgroup, &resources.unified)
}

/// Writes v2 files as they are named.
fn apply_unified(cgroup: &Cgroup, files: &BTreeMap<String, String>) -> Result<(), CgroupError> {
    if files.is_empty() {
        return Ok(());
    }
    let Some(place) = cgroup.v2_place() else {
        return Err(CgroupError::Unsupported {
            what: "a limit of the unified hierarchy",
            version: "v1",
        });
    };
    for (name, value) in files {
        if name.contains('/') || !name.contains('.') {
            return Err(CgroupError::Limit {
                what: "a unified limit is named by a file of the cgroup, as memory.high",
            });
        }
        for line in value.lines() {
            write(place, "a limit of the unified hierarchy", name, line)?;
        }
    }
    Ok(())
}

/// The directory of a controller that a limit needs.
fn need<'a>(
    cgroup: &'a Cgroup,
    controller: Controller,
    what: &'static str,
    file: &'static str,
) -> Result<Place<'a>, CgroupError> {
    cgroup.place(controller).ok_or_else(|| missing(what, file))
}

fn missing(what: &'static str, file: &str) -> CgroupError {
    CgroupError::Missing {
        what,
        file: file.to_owned(),
    }
}

/// Writes a limit; a missing file is told as the kernel's lack of it.
fn write(
    place: Place<'_>,
    what: &'static str,
    name: &str,
    value: &(impl ToString + ?Sized),
) -> Result<(), CgroupError> {
    let value = value.to_string();
    let path = place.file(name);
    match file::try_write(&path, &value) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) if file::exists(place.dir) => Err(missing(what, name)),
        Err(source) => Err(file::failure(&path, &value, source)),
    }
}
