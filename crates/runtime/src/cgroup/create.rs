//! Making a cgroup's directories.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::error::CgroupError;
use super::hierarchy::{Controller, Controllers, Hierarchy, Version};
use super::{Cgroup, PROCS, delete, file};

/// Where processes go that stand in the way of v2's rule that a cgroup has either processes or controllers.
const LEAF: &str = "init";
/// How often the directories above one are made that somebody removes.
const TRIES: usize = 5;

/// Makes the directory in every hierarchy, or in none.
pub(super) fn create(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut made: Vec<&Path> = Vec::new();
    for (hierarchy, dir) in cgroup.directories() {
        if let Err(error) = make(hierarchy, dir) {
            for dir in made {
                // the first failure is the one that is told
                let _ = delete::delete_tree(dir);
            }
            return Err(error);
        }
        made.push(dir);
    }
    Ok(())
}

fn make(hierarchy: &Hierarchy, dir: &Path) -> Result<(), CgroupError> {
    match mkdir(dir) {
        Ok(()) => {}
        Err(Errno::NOENT) => make_below(hierarchy, dir)?,
        Err(Errno::EXIST) => replace_leftover(dir)?,
        Err(source) => return Err(failure(dir, source)),
    }
    let ready = prepare(hierarchy, dir);
    if ready.is_err() {
        // the failure is the one that is told
        let _ = delete::delete_tree(dir);
    }
    ready
}

/// Makes a directory with those above it, which another engine may take for empty ones meanwhile.
fn make_below(hierarchy: &Hierarchy, dir: &Path) -> Result<(), CgroupError> {
    let mut made = Err(Errno::NOENT);
    for _ in 0..TRIES {
        make_parents(hierarchy, dir)?;
        made = mkdir(dir);
        if made != Err(Errno::NOENT) {
            break;
        }
    }
    made.map_err(|source| failure(dir, source))
}

fn prepare(hierarchy: &Hierarchy, dir: &Path) -> Result<(), CgroupError> {
    match hierarchy.version() {
        Version::V1 => inherit_cpuset(hierarchy, dir),
        Version::V2 => enable_controllers(hierarchy, dir),
    }
}

fn mkdir(dir: &Path) -> Result<(), Errno> {
    rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755))
}

fn failure(path: &Path, source: Errno) -> CgroupError {
    CgroupError::Make {
        path: path.to_owned(),
        source,
    }
}

/// Removes a directory of a container that is gone and makes it anew.
fn replace_leftover(dir: &Path) -> Result<(), CgroupError> {
    match delete::delete_tree(dir) {
        Ok(()) => mkdir(dir).map_err(|source| failure(dir, source)),
        Err(_) => Err(CgroupError::InUse {
            path: dir.to_owned(),
        }),
    }
}

fn make_parents(hierarchy: &Hierarchy, dir: &Path) -> Result<(), CgroupError> {
    for parent in parents(hierarchy, dir).iter().skip(1) {
        let is_new = match mkdir(parent) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(source) => return Err(failure(parent, source)),
        };
        if hierarchy.version() == Version::V1 {
            inherit_cpuset(hierarchy, parent)?;
            if is_new {
                pass_cpuset_on(hierarchy, parent);
            }
        }
    }
    Ok(())
}

/// The directories from a hierarchy's root down to a cgroup's parent.
fn parents(hierarchy: &Hierarchy, dir: &Path) -> Vec<PathBuf> {
    let below = dir.ancestors().skip(1);
    let mut parents: Vec<PathBuf> = below
        .take_while(|parent| parent.starts_with(hierarchy.root()))
        .map(Path::to_owned)
        .collect();
    parents.reverse();
    parents
}

/// A new v1 cpuset has no processors and no memory, and takes no process (cpusets(7)).
fn inherit_cpuset(hierarchy: &Hierarchy, dir: &Path) -> Result<(), CgroupError> {
    if !hierarchy.controllers().has(Controller::Cpuset) {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let path = dir.join(name);
        if file::read(&path)?.trim().is_empty() {
            file::write(&path, file::read(&parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// Lets the cpusets that are made in one of ours begin with what it has (cpusets(7), `cgroup.clone_children`):
/// to write it into each takes the kernel longer with every one there is (`validate_change` visits all).
fn pass_cpuset_on(hierarchy: &Hierarchy, dir: &Path) {
    if hierarchy.controllers().has(Controller::Cpuset) {
        // without it each is written
        drop(file::write(&dir.join("cgroup.clone_children"), "1"));
    }
}

/// Makes a v2 hierarchy's controllers reach a cgroup, from the root down.
pub(super) fn enable_controllers(hierarchy: &Hierarchy, dir: &Path) -> Result<(), CgroupError> {
    let wanted = hierarchy.controllers();
    if wanted.is_empty() || Controllers::read_v2(&dir.join("cgroup.controllers"))? == wanted {
        return Ok(());
    }
    for parent in parents(hierarchy, dir) {
        let path = parent.join("cgroup.subtree_control");
        let enabled = Controllers::read_v2(&path)?;
        let missing: Vec<String> = wanted
            .v2_names_beyond(enabled)
            .map(|name| format!("+{name}"))
            .collect();
        if !missing.is_empty() {
            enable(hierarchy, &parent, &path, &missing)?;
        }
    }
    Ok(())
}

/// Enables controllers, all at once or, where one is refused, those that can be: a limit that needs another is
/// refused when it is set.
fn enable(
    hierarchy: &Hierarchy,
    parent: &Path,
    path: &Path,
    names: &[String],
) -> Result<(), CgroupError> {
    let all = names.join(" ");
    let mut answer = file::try_write(path, &all);
    if answer == Err(Errno::BUSY) && parent == hierarchy.root() {
        // in a container of its own the root is a plain cgroup, with the engine in it
        move_processes_to_leaf(parent)?;
        answer = file::try_write(path, &all);
    }
    match answer {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(file::failure(path, &all, Errno::BUSY)),
        Err(source) => {
            let enabled = names
                .iter()
                .filter(|name| file::try_write(path, name).is_ok());
            match enabled.count() {
                0 => Err(file::failure(path, &all, source)),
                _ => Ok(()),
            }
        }
    }
}

fn move_processes_to_leaf(parent: &Path) -> Result<(), CgroupError> {
    let leaf = parent.join(LEAF);
    match mkdir(&leaf) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(source) => return Err(failure(&leaf, source)),
    }
    let target = leaf.join(PROCS);
    for pid in file::read(&parent.join(PROCS))?.lines() {
        match file::try_write(&target, pid) {
            // it ended meanwhile
            Ok(()) | Err(Errno::SRCH) => {}
            Err(source) => return Err(file::failure(&target, pid, source)),
        }
    }
    Ok(())
}
