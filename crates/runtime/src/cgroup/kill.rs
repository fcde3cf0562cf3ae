//! Finding and killing the processes of a cgroup.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::error::CgroupError;
use super::hierarchy::Version;
use super::{Cgroup, PROCS, Place, delete, file, freeze};

const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Kills until nothing is left, in the v2 directory at one stroke and in all the others process by process.
pub(super) fn kill_all(cgroup: &Cgroup) -> Result<(), CgroupError> {
    if let Some(place) = cgroup.v2_place() {
        kill_at_once(place)?;
    }
    // the signal reaches a process that the v1 freezer holds only once it runs
    if freeze::is_frozen(cgroup)? {
        for place in cgroup.places() {
            signal_all(place)?;
        }
        freeze::thaw(cgroup)?;
    }
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    while signal_everywhere(cgroup)? {
        if start.elapsed() > PATIENCE {
            return Err(still_there(cgroup, start.elapsed()));
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Writes `cgroup.kill` (Linux 5.14), which no fork can outrun.
fn kill_at_once(place: Place<'_>) -> Result<(), CgroupError> {
    let path = place.file("cgroup.kill");
    match file::try_write(&path, "1") {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(source) => Err(file::failure(&path, "1", source)),
    }
}

/// Kills what is in any of the directories; tells whether there was something.
fn signal_everywhere(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    let mut found = false;
    for place in cgroup.places() {
        found |= signal_all(place)?;
    }
    Ok(found)
}

fn signal_all(place: Place<'_>) -> Result<bool, CgroupError> {
    let pids = pids_below(place.dir)?;
    for &number in &pids {
        let Some(pid) = Pid::from_raw(number) else {
            continue;
        };
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(source) => {
                return Err(CgroupError::Kill {
                    path: place.dir.to_owned(),
                    pid: number,
                    source,
                });
            }
        }
    }
    Ok(!pids.is_empty())
}

fn still_there(cgroup: &Cgroup, waited: Duration) -> CgroupError {
    CgroupError::Timeout {
        path: cgroup.path().to_owned(),
        state: "empty",
        milliseconds: waited.as_millis(),
    }
}

/// Lists the processes of a directory and those below it; a directory that is gone has none.
pub(super) fn pids_below(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let mut pids = pids_in(dir)?;
    for child in delete::children(dir) {
        pids.extend(pids_below(&child)?);
    }
    Ok(pids)
}

fn pids_in(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let path = dir.join(PROCS);
    let text = match file::read_if_there(&path) {
        // a threaded v2 cgroup, whose processes its parent lists
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => None,
        other => other?,
    };
    let text = text.unwrap_or_default();
    text.lines()
        .map(|line| line.parse().map_err(|_| CgroupError::format(&path, line)))
        // zero is a process of a pid namespace that this one cannot see
        .filter(|pid| *pid != Ok(0))
        .collect()
}

impl Place<'_> {
    /// Whether the directory is of the version that freezes for itself.
    pub(super) fn is_v2(&self) -> bool {
        self.version == Version::V2
    }
}
