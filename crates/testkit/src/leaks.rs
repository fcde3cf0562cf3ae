//! What an engine under test left behind: processes, cgroups, mounts, links, files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::namespace::Namespace;

const CGROUPS: &str = "/sys/fs/cgroup";
/// The end of a process and the release of its cgroup are not one instant, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long what was killed may hold its cgroups.
const FAREWELL: Duration = Duration::from_secs(10);

/// By what the traces of one engine are known.
#[derive(Debug)]
pub struct Marks<'a> {
    /// The folder that holds the engine's `root` and `run`.
    pub folder: &'a Path,
    /// The name of its cgroups' parent, directly below each hierarchy.
    pub cgroup: &'a str,
    /// The network that it runs in.
    pub network: &'a Namespace,
}

impl Marks<'_> {
    /// Waits until nothing is left of an engine that has ended, and names what stays.
    #[must_use]
    pub fn after_end(&self) -> Vec<String> {
        patiently(|| {
            let mut found = self.containers();
            found.extend(self.processes().into_iter().map(|(_, what)| what));
            found.extend(self.cgroups());
            found.extend(self.mounts());
            found.extend(self.strange_links());
            found
        })
    }

    /// Waits until an engine that runs has no trace of a container any more, and names what stays.
    #[must_use]
    pub fn without_containers(&self) -> Vec<String> {
        patiently(|| {
            let mut found = self.containers();
            let warm = |path: &String| path.contains("/warm-");
            found.extend(self.cgroups().into_iter().filter(|path| !warm(path)));
            // layers are images' and stay mounted while the engine runs
            let layers = self.layers().display().to_string();
            let mounts = self.mounts().into_iter();
            found.extend(mounts.filter(|line| !line.contains(&layers)));
            found
        })
    }

    /// Ends what still runs and removes its cgroups. For tests that failed already.
    pub fn sweep(&self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for (pid, _) in processes {
                kill(pid);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.remove_cgroup_parents();
        self.unmount_layers();
    }

    /// Where the engine mounts layers.
    fn layers(&self) -> PathBuf {
        self.folder.join("run/layers")
    }

    /// Unmounts what an engine that was killed left for the next one.
    pub fn unmount_layers(&self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _not_there = rustix::mount::unmount(self.layers(), flags);
    }

    /// Removes the parent of the cgroups, which the engine does not own, and what an engine that was killed
    /// has left below it.
    pub fn remove_cgroup_parents(&self) {
        let begun = Instant::now();
        loop {
            let folders = self.cgroup_folders();
            for folder in &folders {
                let _still_busy = fs::remove_dir(folder);
            }
            // who was killed holds them a moment longer
            let stay = folders.iter().any(|folder| folder.exists());
            if !stay || begun.elapsed() > FAREWELL {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Files of containers.
    fn containers(&self) -> Vec<String> {
        let folders = ["run/containers", "root/containers"].map(|name| self.folder.join(name));
        let entries = folders.iter().flat_map(|folder| children(folder));
        entries
            .map(|path| format!("file {}", path.display()))
            .collect()
    }

    /// Processes of the engine and its containers.
    fn processes(&self) -> Vec<(i32, String)> {
        let network = self.network.identity().unwrap_or_default();
        let pids = children(Path::new("/proc")).into_iter().filter_map(|path| {
            let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
            let what = self.describe(&path, &network)?;
            Some((pid, format!("process {pid} {what}")))
        });
        pids.collect()
    }

    /// What a process is, if it is one of the engine's.
    fn describe(&self, path: &Path, network: &str) -> Option<String> {
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let stat = read("stat");
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        if rest.trim_start().starts_with(['Z', 'X']) {
            return None;
        }
        let cgroup = read("cgroup");
        let in_cgroup = cgroup.lines().any(|line| {
            let place = line.splitn(3, ':').nth(2).unwrap_or_default();
            place.split('/').nth(1) == Some(self.cgroup)
        });
        let inside = || {
            let link = fs::read_link(path.join("ns/net"));
            link.is_ok_and(|link| link == Path::new(network))
        };
        let ours = in_cgroup || (matches!(name, "gorae" | "gorae-shim") && inside());
        ours.then(|| format!("{name}: {}", read("cmdline").replace('\0', " ")))
    }

    /// Cgroups below the parent that was given to the engine.
    fn cgroups(&self) -> Vec<String> {
        let parents: Vec<PathBuf> = hierarchies().map(|h| h.join(self.cgroup)).collect();
        let folders = self.cgroup_folders().into_iter();
        // the parent itself, and below it the engine's own while that runs
        let deep = folders.filter(|folder| {
            let above = parents
                .iter()
                .find_map(|parent| folder.strip_prefix(parent).ok());
            above.is_some_and(|rest| rest.components().count() > 1)
        });
        deep.map(|folder| format!("cgroup {}", folder.display()))
            .collect()
    }

    /// All cgroups of the engine, deepest first.
    fn cgroup_folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for hierarchy in hierarchies() {
            let top = hierarchy.join(self.cgroup);
            if top.is_dir() {
                collect(top, &mut folders);
            }
        }
        folders.reverse();
        folders
    }

    fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let folder = self.folder.display().to_string();
        let ours = table.lines().filter(|line| line.contains(&folder));
        ours.map(|line| format!("mount {line}")).collect()
    }

    fn strange_links(&self) -> Vec<String> {
        let links = self.network.links().unwrap_or_default().into_iter();
        // those of the test itself begin with `lan`
        let strange = links.filter(|name| name != "lo" && !name.starts_with("lan"));
        strange.map(|name| format!("link {name}")).collect()
    }
}

fn patiently(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let found = look();
        if found.is_empty() || begun.elapsed() > PATIENCE {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The mounted hierarchies: one with v2, one a controller with v1.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let top = Path::new(CGROUPS);
    let unified = top.join("cgroup.procs").exists();
    let all = if unified {
        vec![top.to_owned()]
    } else {
        children(top)
    };
    // co-mounted controllers have links to one folder
    all.into_iter().filter(|path| !path.is_symlink())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn collect(folder: PathBuf, into: &mut Vec<PathBuf>) {
    let below = children(&folder).into_iter().filter(|path| path.is_dir());
    into.push(folder);
    for path in below {
        collect(path, into);
    }
}

/// Kills by pidfd what was seen under this number.
fn kill(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else {
        return;
    };
    if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        let _gone = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
    }
}

/// Removes a folder, also where hostile names or modes are in it.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
