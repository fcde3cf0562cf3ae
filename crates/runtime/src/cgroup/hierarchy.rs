//! The cgroup hierarchies of this machine: which are mounted where, with which controllers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CgroupError;
use super::file;

/// How the machine lays its cgroups out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Controllers on hierarchies of their own.
    V1,
    /// As [`Kind::V1`], with a v2 hierarchy beside them that has few controllers or none.
    Hybrid,
    /// One hierarchy with every controller.
    V2,
}

/// The version of one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `cgroup`.
    V1,
    /// `cgroup2`.
    V2,
}

/// A controller, under v1's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Controller {
    /// Processor shares and bandwidth.
    Cpu,
    /// Processor time used.
    Cpuacct,
    /// Processors and memory nodes.
    Cpuset,
    /// Memory.
    Memory,
    /// Access to device nodes; a program on v2.
    Devices,
    /// Stopping processes; a part of the core on v2.
    Freezer,
    /// Block devices; `io` on v2.
    Blkio,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// Packet classes.
    NetCls,
    /// Packet priorities.
    NetPrio,
    /// Performance events; a part of the core on v2.
    PerfEvent,
    /// RDMA resources.
    Rdma,
    /// Scarce host resources.
    Misc,
}

/// Each controller with its name on v1 and on v2's `cgroup.controllers`.
const NAMES: [(Controller, &str, &str); 14] = [
    (Controller::Cpu, "cpu", "cpu"),
    (Controller::Cpuacct, "cpuacct", ""),
    (Controller::Cpuset, "cpuset", "cpuset"),
    (Controller::Memory, "memory", "memory"),
    (Controller::Devices, "devices", ""),
    (Controller::Freezer, "freezer", ""),
    (Controller::Blkio, "blkio", "io"),
    (Controller::Pids, "pids", "pids"),
    (Controller::Hugetlb, "hugetlb", "hugetlb"),
    (Controller::NetCls, "net_cls", ""),
    (Controller::NetPrio, "net_prio", ""),
    (Controller::PerfEvent, "perf_event", ""),
    (Controller::Rdma, "rdma", "rdma"),
    (Controller::Misc, "misc", "misc"),
];

/// What every v2 hierarchy does without naming a controller for it.
const CORE_OF_V2: [Controller; 4] = [
    Controller::Cpuacct,
    Controller::Devices,
    Controller::Freezer,
    Controller::PerfEvent,
];

/// A set of controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers(u16);

impl Controllers {
    /// Reads the words of a mount's options or of `cgroup.controllers`; others are left out.
    fn parse<'a>(version: Version, words: impl Iterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for word in words.filter(|word| !word.is_empty()) {
            let row = NAMES.iter().find(|row| match version {
                Version::V1 => row.1 == word,
                Version::V2 => row.2 == word,
            });
            if let Some(row) = row {
                set.add(row.0);
            }
        }
        set
    }

    fn add(&mut self, controller: Controller) {
        self.0 |= 1 << controller as u8;
    }

    /// Tells whether a controller is in the set.
    pub const fn has(self, controller: Controller) -> bool {
        self.0 & (1 << controller as u8) != 0
    }

    /// Tells whether no controller is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in this set but not in the other, by v2's names.
    pub(super) fn v2_names_beyond(self, other: Self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .filter(move |row| !row.2.is_empty() && self.has(row.0) && !other.has(row.0))
            .map(|row| row.2)
    }

    /// Reads a v2 file of controllers' names.
    pub(super) fn read_v2(path: &Path) -> Result<Self, CgroupError> {
        let text = file::read(path)?;
        Ok(Self::parse(Version::V2, text.split_whitespace()))
    }
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    root: PathBuf,
    version: Version,
    controllers: Controllers,
    options: String,
}

impl Hierarchy {
    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its controllers; those of v2's core are not counted.
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// The options that mount a v1 hierarchy again: `cpu,cpuacct`, `name=systemd`; empty for v2.
    pub fn options(&self) -> &str {
        &self.options
    }

    fn v1(root: PathBuf, options: &str) -> Option<Self> {
        let words: Vec<&str> = options
            .split(',')
            .filter(|word| word.starts_with("name=") || NAMES.iter().any(|row| row.1 == *word))
            .collect();
        if words.is_empty() {
            return None;
        }
        Some(Self {
            root,
            version: Version::V1,
            controllers: Controllers::parse(Version::V1, words.iter().copied()),
            options: words.join(","),
        })
    }

    fn v2(root: PathBuf) -> Self {
        // an empty set where the file is missing: then nothing is ever written there but processes
        let controllers = Controllers::read_v2(&root.join("cgroup.controllers"));
        Self {
            root,
            version: Version::V2,
            controllers: controllers.unwrap_or_default(),
            options: String::new(),
        }
    }
}

/// What limits this machine can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about the kernel"
)]
pub struct Support {
    /// Memory limits.
    pub memory: bool,
    /// Limits of swap.
    pub swap: bool,
    /// Keeping the OOM killer away.
    pub oom_kill_disable: bool,
    /// Swappiness of a container.
    pub swappiness: bool,
    /// Processor shares.
    pub cpu_shares: bool,
    /// Processor bandwidth.
    pub cpu_quota: bool,
    /// Binding to processors.
    pub cpuset: bool,
    /// Limits of tasks.
    pub pids: bool,
    /// Weights of block devices.
    pub block_weight: bool,
    /// Rates of block devices.
    pub block_throttle: bool,
}

/// All hierarchies of a machine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    list: Arc<[Hierarchy]>,
    kind: Kind,
}

impl Hierarchies {
    /// Finds the hierarchies in `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// It cannot be read, or nothing is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        let text = file::read(Path::new("/proc/self/mountinfo"))?;
        Self::new(parse_mountinfo(&text))
    }

    /// Takes a tree as if it were mounted: on v2 its root is `root`; on v1 each folder of `root` is a hierarchy of
    /// the controllers in its name (`cpu,cpuacct`), or a named one; hybrid has `unified` besides.
    ///
    /// # Errors
    /// The tree cannot be read, or nothing is in it.
    pub fn at(root: &Path, kind: Kind) -> Result<Self, CgroupError> {
        if kind == Kind::V2 {
            return Self::new(vec![Hierarchy::v2(root.to_owned())]);
        }
        let unreadable = |error: std::io::Error| CgroupError::Read {
            path: root.to_owned(),
            source: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
        };
        let mut list = Vec::new();
        for entry in std::fs::read_dir(root).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // distributions link `cpu` to `cpu,cpuacct`
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if name == "unified" {
                list.push(Hierarchy::v2(entry.path()));
                continue;
            }
            let known = Hierarchy::v1(entry.path(), &name);
            list.extend(known.or_else(|| Hierarchy::v1(entry.path(), &format!("name={name}"))));
        }
        list.sort_by(|a, b| a.root.cmp(&b.root));
        Self::new(list)
    }

    fn new(list: Vec<Hierarchy>) -> Result<Self, CgroupError> {
        let has = |version| list.iter().any(|one| one.version == version);
        let kind = match (has(Version::V1), has(Version::V2)) {
            (true, true) => Kind::Hybrid,
            (true, false) => Kind::V1,
            (false, true) => Kind::V2,
            (false, false) => return Err(CgroupError::NotMounted),
        };
        let list = list.into();
        Ok(Self { list, kind })
    }

    /// How the machine lays its cgroups out.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The hierarchies.
    pub fn iter(&self) -> std::slice::Iter<'_, Hierarchy> {
        self.list.iter()
    }

    /// The place in the list of the hierarchy that has a controller.
    pub(super) fn find(&self, controller: Controller) -> Option<usize> {
        let named = self
            .list
            .iter()
            .position(|one| one.controllers.has(controller));
        named.or_else(|| {
            let core = CORE_OF_V2.contains(&controller);
            self.v2().filter(|_| core)
        })
    }

    /// The place in the list of the v2 hierarchy.
    pub(super) fn v2(&self) -> Option<usize> {
        self.list.iter().position(|one| one.version == Version::V2)
    }

    /// Tells what limits this machine can hold.
    pub fn support(&self) -> Support {
        let of = |controller| self.find(controller).map(|at| &self.list[at]);
        let v1_file = |controller, name: &str| {
            of(controller)
                .is_some_and(|one| one.version == Version::V2 || file::exists(&one.root.join(name)))
        };
        let only_v1 = |controller| of(controller).is_some_and(|one| one.version == Version::V1);
        Support {
            memory: of(Controller::Memory).is_some(),
            swap: v1_file(Controller::Memory, "memory.memsw.limit_in_bytes"),
            oom_kill_disable: only_v1(Controller::Memory),
            swappiness: only_v1(Controller::Memory),
            cpu_shares: of(Controller::Cpu).is_some(),
            cpu_quota: v1_file(Controller::Cpu, "cpu.cfs_quota_us"),
            cpuset: of(Controller::Cpuset).is_some(),
            pids: of(Controller::Pids).is_some(),
            block_weight: v1_file(Controller::Blkio, "blkio.weight")
                || v1_file(Controller::Blkio, "blkio.bfq.weight"),
            block_throttle: v1_file(Controller::Blkio, "blkio.throttle.read_bps_device"),
        }
    }
}

impl<'a> IntoIterator for &'a Hierarchies {
    type Item = &'a Hierarchy;
    type IntoIter = std::slice::Iter<'a, Hierarchy>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Reads the cgroup mounts of a mountinfo; of several mounts of one hierarchy the first counts.
fn parse_mountinfo(text: &str) -> Vec<Hierarchy> {
    let mut list: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        let Some(mount) = parse_mount(line) else {
            continue;
        };
        let again = list
            .iter()
            .any(|one| one.version == mount.version && one.options == mount.options);
        if !again {
            list.push(mount);
        }
    }
    list
}

/// `36 35 98:0 /root /mount/point options [tags] - type source super-options`, proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<Hierarchy> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let kind = after.next()?;
    let options = after.nth(1)?;
    let point = PathBuf::from(unescape(point));
    match kind {
        "cgroup" => Hierarchy::v1(point, options),
        "cgroup2" => Some(Hierarchy::v2(point)),
        _ => None,
    }
}

/// Reads the octal escapes of blanks, tabs, newlines and backslashes.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, plain) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(escape, plain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_v1_hierarchies_in_a_mountinfo() {
        let list = parse_mountinfo(
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:31 / /sys/fs/cgroup/sys\\040temd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
             34 31 0:29 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:33 / /nonexistent/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
             garbage\n",
        );
        let told: Vec<_> = list
            .iter()
            .map(|one| {
                (
                    one.root.to_str().unwrap(),
                    one.version,
                    one.options.as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("/sys/fs/cgroup/cpu,cpuacct", Version::V1, "cpu,cpuacct"),
                ("/sys/fs/cgroup/sys temd", Version::V1, "name=systemd"),
                ("/nonexistent/unified", Version::V2, ""),
            ]
        );
        let all = Hierarchies::new(list).unwrap();
        assert_eq!(all.kind(), Kind::Hybrid);
        assert_eq!(all.find(Controller::Cpuacct), Some(0));
        assert_eq!(all.find(Controller::Memory), None);
        assert_eq!(all.find(Controller::Freezer), Some(2));
    }

    #[test]
    fn needs_a_hierarchy() {
        let none = Hierarchies::new(parse_mountinfo("")).unwrap_err();
        assert_eq!(none, CgroupError::NotMounted);
    }

    #[test]
    fn knows_this_machine() {
        let all = Hierarchies::detect().unwrap();
        assert!(all.iter().count() > 0);
    }
}
