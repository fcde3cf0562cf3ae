//! A container's cgroup in every hierarchy of the machine: v1, hybrid and v2.
//!
//! A [`Cgroup`] is one path below the root of each hierarchy. Each limit goes to the hierarchy that has its
//! controller, in the form of that hierarchy's version, so mixed machines need no case of their own. A process is
//! attached everywhere, also where there is no controller, so that nothing of a container is ever outside.
//!
//! Nothing here stays open: a descriptor of a cgroup directory that a container inherits is a way out
//! (CVE-2024-21626).

mod create;
mod delete;
mod device;
mod device_program;
mod error;
mod file;
mod freeze;
mod hierarchy;
mod kill;
mod limit;
mod meter;
mod stats;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use oci::runtime::Resources;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

pub use device::default_rules as default_device_rules;
pub use error::CgroupError;
pub use hierarchy::{Controller, Controllers, Hierarchies, Hierarchy, Kind, Support, Version};
pub use meter::Meter;
pub use stats::{BlockEntry, BlockStats, CpuStats, MemoryStats, PidsStats, Stats, Throttling};

const PROCS: &str = "cgroup.procs";

/// One cgroup: the same path in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: PathBuf,
    /// Its directory in each hierarchy, in the hierarchies' order.
    dirs: Vec<PathBuf>,
    /// The device rules that hold, once they have been set through this value.
    devices: Option<device::Policy>,
}

/// A cgroup's directory in one hierarchy.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    version: Version,
    dir: &'a Path,
}

impl Place<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn has(&self, name: &str) -> bool {
        file::exists(&self.file(name))
    }

    fn read(&self, name: &str) -> Result<String, CgroupError> {
        file::read(&self.file(name))
    }

    fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        file::write(&self.file(name), value)
    }
}

impl Cgroup {
    /// Makes a cgroup with everything between it and the roots.
    ///
    /// An empty leftover of the same name is removed first, so that no limit of it stays.
    ///
    /// # Errors
    /// A path that is none, a cgroup of this name with processes, or the kernel's refusal; what was made until then
    /// is removed again.
    pub fn create(hierarchies: &Hierarchies, path: &Path) -> Result<Self, CgroupError> {
        let cgroup = Self::at(hierarchies, path)?;
        create::create(&cgroup)?;
        Ok(cgroup)
    }

    /// Finds a cgroup that exists.
    ///
    /// # Errors
    /// A path that is none, or that no hierarchy has.
    pub fn open(hierarchies: &Hierarchies, path: &Path) -> Result<Self, CgroupError> {
        let mut cgroup = Self::at(hierarchies, path)?;
        if !cgroup.dirs.iter().any(|dir| file::exists(dir)) {
            return Err(CgroupError::Absent { path: cgroup.path });
        }
        cgroup.find_unrenamed();
        Ok(cgroup)
    }

    fn at(hierarchies: &Hierarchies, path: &Path) -> Result<Self, CgroupError> {
        let path = relative(path)?;
        let dirs = hierarchies.iter().map(|one| one.root().join(&path));
        Ok(Self {
            dirs: dirs.collect(),
            path,
            hierarchies: hierarchies.clone(),
            devices: None,
        })
    }

    /// A v2 directory cannot be renamed: on a hybrid machine it keeps its first name, by which its processes know it.
    fn find_unrenamed(&mut self) {
        let Some(at) = self.hierarchies.v2() else {
            return;
        };
        if self.hierarchies.kind() != Kind::Hybrid || file::exists(&self.dirs[at]) {
            return;
        }
        let pids = self.dirs.iter().filter_map(|dir| {
            let text = file::read(&dir.join(PROCS)).ok()?;
            text.lines().next()?.parse::<i32>().ok()
        });
        let own = pids.into_iter().find_map(unified_path_of);
        if let Some(own) = own {
            let root = self.hierarchies.iter().nth(at).map(Hierarchy::root);
            self.dirs[at] = root.unwrap_or(Path::new("/")).join(own);
        }
    }

    /// Its path below each hierarchy's root, without a leading slash.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directories, with the hierarchies they are in.
    pub fn directories(&self) -> impl Iterator<Item = (&Hierarchy, &Path)> {
        let dirs = self.dirs.iter().map(PathBuf::as_path);
        self.hierarchies.iter().zip(dirs)
    }

    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.directories().map(|(hierarchy, dir)| Place {
            version: hierarchy.version(),
            dir,
        })
    }

    /// The directory where a controller does its work.
    fn place(&self, controller: Controller) -> Option<Place<'_>> {
        let at = self.hierarchies.find(controller)?;
        self.places().nth(at)
    }

    fn v2_place(&self) -> Option<Place<'_>> {
        self.places().nth(self.hierarchies.v2()?)
    }

    /// The directory that is asked for processes: the v2 one, which no process leaves without leaving the container.
    fn main_place(&self) -> Option<Place<'_>> {
        let exists = |place: &Place<'_>| file::exists(place.dir);
        self.v2_place()
            .filter(exists)
            .or_else(|| self.place(Controller::Pids).filter(exists))
            .or_else(|| self.places().find(exists))
    }

    /// Moves a process with its threads into the cgroup, in every hierarchy.
    ///
    /// # Errors
    /// The kernel's refusal; `ESRCH` where the process is gone.
    pub fn attach(&self, pid: i32) -> Result<(), CgroupError> {
        let pid = pid.to_string();
        for place in self.places() {
            file::write(&place.file(PROCS), &pid)?;
        }
        Ok(())
    }

    /// Opens the directory for `CLONE_INTO_CGROUP`, where one v2 hierarchy is all there is.
    pub fn v2_dir(&self) -> Option<OwnedFd> {
        if self.hierarchies.kind() != Kind::V2 {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(CWD, self.v2_place()?.dir, flags, Mode::empty()).ok()
    }

    /// Sets limits; what `resources` does not name stays as it is.
    ///
    /// # Errors
    /// The limit that cannot be, with the file and the kernel's answer.
    pub fn apply(&mut self, resources: &Resources) -> Result<(), CgroupError> {
        if !resources.devices.is_empty() {
            self.apply_devices(&resources.devices)?;
        }
        limit::apply(self, resources)
    }

    /// Sets which device nodes may be used: `rules`, then those that every container needs. Nothing is done where
    /// these rules hold already.
    ///
    /// # Errors
    /// A rule that means nothing or cannot be held, or the kernel's refusal.
    pub fn apply_devices(&mut self, rules: &[oci::runtime::DeviceRule]) -> Result<(), CgroupError> {
        let policy = device::Policy::new(rules)?;
        if self.devices.as_ref() == Some(&policy) {
            return Ok(());
        }
        if let Some(place) = self.place(Controller::Devices) {
            match place.version {
                Version::V1 => policy.apply_v1(place)?,
                Version::V2 => policy.apply_v2(place)?,
            }
        }
        self.devices = Some(policy);
        Ok(())
    }

    /// Gives the cgroup another name in the same parent, while processes are in it.
    ///
    /// On a hybrid machine the v2 directory, which has no controller that matters, keeps its name.
    ///
    /// # Errors
    /// `Unsupported` on v2 and for another parent, which v1 does not have either (cgroups(7)), and the kernel's
    /// refusal; then the old name stands everywhere.
    pub fn rename(&mut self, path: &Path) -> Result<(), CgroupError> {
        if self.hierarchies.kind() == Kind::V2 {
            return Err(CgroupError::Unsupported {
                what: "renaming a cgroup",
                version: "v2",
            });
        }
        let target = Self::at(&self.hierarchies, path)?;
        if target.path.parent() != self.path.parent() {
            return Err(CgroupError::Unsupported {
                what: "moving a cgroup to another parent",
                version: "v1",
            });
        }
        for at in 0..self.dirs.len() {
            if let Err(error) = self.rename_one(at, &target.dirs[at]) {
                self.rename_back(&target, at);
                return Err(error);
            }
        }
        let v2 = self.hierarchies.v2();
        for (at, dir) in target.dirs.into_iter().enumerate() {
            if Some(at) != v2 {
                self.dirs[at] = dir;
            }
        }
        self.path = target.path;
        Ok(())
    }

    fn rename_one(&self, at: usize, to: &Path) -> Result<(), CgroupError> {
        if Some(at) == self.hierarchies.v2() {
            return Ok(());
        }
        let from = &self.dirs[at];
        let rename = || rustix::fs::rename(from, to);
        let renamed = match rename() {
            // an empty leftover of a container of this name
            Err(Errno::EXIST) if delete::delete_tree(to).is_ok() => rename(),
            other => other,
        };
        renamed.map_err(|source| CgroupError::Rename {
            from: from.clone(),
            to: to.to_owned(),
            source,
        })
    }

    fn rename_back(&self, target: &Self, count: usize) {
        for (old, new) in self.dirs.iter().zip(&target.dirs).take(count) {
            // the first failure is the one that is told
            let _ = rustix::fs::rename(new, old);
        }
    }

    /// Lists the processes in the cgroup and below it.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let Some(place) = self.main_place() else {
            return Ok(Vec::new());
        };
        kill::pids_below(place.dir)
    }

    /// Tells how often the kernel killed a process here for lack of memory.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        stats::oom_kills(self)
    }

    /// Reads what the container uses now.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        self.meter()?.read()
    }

    /// Opens what the container uses, to be read more than once.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn meter(&self) -> Result<Meter, CgroupError> {
        Meter::open(self)
    }

    /// Stops every process in the cgroup and waits until they stand still.
    ///
    /// # Errors
    /// The kernel's refusal, or they do not all stop in time; then they run on.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        freeze::freeze(self)
    }

    /// Lets the processes run on.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        freeze::thaw(self)
    }

    /// Tells whether the processes are stopped, or being stopped.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        freeze::is_frozen(self)
    }

    /// Kills every process in the cgroup and below it, also frozen ones and those that are just being born.
    ///
    /// # Errors
    /// A process that cannot be killed, or some still there after a while.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        kill::kill_all(self)
    }

    /// Removes the cgroup and those that the container made in it; gone ones are fine.
    ///
    /// Processes that are just dying get a short time.
    ///
    /// # Errors
    /// Every directory that stays.
    pub fn delete(&self) -> Result<(), CgroupError> {
        delete::delete(self)
    }
}

/// Removes the cgroups in `parent` that nobody is to keep and that have no process: what a killed supervisor left.
///
/// Tells the directories that stay because something still runs in them. Nobody may be making cgroups in `parent`
/// meanwhile that `keep` does not know.
///
/// # Errors
/// `parent` is no path of a cgroup.
pub fn sweep(
    hierarchies: &Hierarchies,
    parent: &Path,
    keep: &dyn Fn(&OsStr) -> bool,
) -> Result<Vec<PathBuf>, CgroupError> {
    let parent = relative(parent)?;
    Ok(delete::sweep(hierarchies, &parent, keep))
}

/// Removes the cgroups in `parent` that bear such a name and are empty: they have no process and no cgroup in them.
///
/// Whoever makes one there meanwhile makes it again.
///
/// # Errors
/// `parent` is no path of a cgroup.
pub fn sweep_empty(
    hierarchies: &Hierarchies,
    parent: &Path,
    is_stale: &dyn Fn(&OsStr) -> bool,
) -> Result<(), CgroupError> {
    delete::sweep_empty(hierarchies, &relative(parent)?, is_stale);
    Ok(())
}

/// The names that a process's cgroups bear in `parent`, hierarchy by hierarchy; none where it is elsewhere or gone.
///
/// They may differ: a warm cgroup is renamed in v1 hierarchies, and keeps its first name in v2.
#[must_use]
pub fn names_of(pid: i32, parent: &Path) -> Vec<OsString> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    relative(parent).map_or_else(|_| Vec::new(), |parent| names_in(&text, &parent))
}

/// Reads proc_pid_cgroup(5): `4:memory:/parent/name/below`.
fn names_in(text: &str, parent: &Path) -> Vec<OsString> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let below = paths.filter_map(|path| {
        let path = Path::new(path.trim_start_matches('/'));
        let name = path.strip_prefix(parent).ok()?.components().next()?;
        Some(name.as_os_str().to_owned())
    });
    let mut names: Vec<_> = below.collect();
    names.dedup();
    names
}

/// Reads a cgroup's path: relative to the roots, with something in it and nothing that leads out.
fn relative(path: &Path) -> Result<PathBuf, CgroupError> {
    let wrong = || CgroupError::Path {
        path: path.to_owned(),
    };
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => out.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(wrong()),
        }
    }
    if out.as_os_str().is_empty() {
        return Err(wrong());
    }
    Ok(out)
}

/// Tells a process's path in the v2 hierarchy.
fn unified_path_of(pid: i32) -> Option<PathBuf> {
    let text = file::read(Path::new(&format!("/proc/{pid}/cgroup"))).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    relative(Path::new(path)).ok()
}
