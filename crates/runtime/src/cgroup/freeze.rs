//! Stopping a cgroup's processes and letting them run on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::error::CgroupError;
use super::hierarchy::Controller;
use super::{Cgroup, Place, file};

/// A process in an uninterruptible call stops only after it.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

pub(super) fn freeze(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let place = freezer(cgroup)?;
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    ask(place, State::Frozen)?;
    while !has_stopped(place)? {
        if start.elapsed() > PATIENCE {
            ask(place, State::Running)?;
            return Err(CgroupError::Timeout {
                path: place.dir.to_owned(),
                state: "frozen",
                milliseconds: start.elapsed().as_millis(),
            });
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        if !place.is_v2() {
            // v1 misses a process that is born while it freezes, until it is asked again
            ask(place, State::Frozen)?;
        }
    }
    Ok(())
}

pub(super) fn thaw(cgroup: &Cgroup) -> Result<(), CgroupError> {
    ask(freezer(cgroup)?, State::Running)
}

pub(super) fn is_frozen(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    let Ok(place) = freezer(cgroup) else {
        return Ok(false);
    };
    let name = if place.is_v2() {
        "cgroup.freeze"
    } else {
        "freezer.state"
    };
    // a directory that is gone, or a kernel before v2 could freeze
    let text = file::read_if_there(&place.file(name))?.unwrap_or_default();
    Ok(matches!(text.trim(), "1" | "FROZEN" | "FREEZING"))
}

#[derive(Clone, Copy)]
enum State {
    Frozen,
    Running,
}

fn freezer(cgroup: &Cgroup) -> Result<Place<'_>, CgroupError> {
    cgroup
        .place(Controller::Freezer)
        .ok_or_else(|| CgroupError::Missing {
            what: "pausing a container",
            file: "freezer.state".to_owned(),
        })
}

fn ask(place: Place<'_>, state: State) -> Result<(), CgroupError> {
    let (name, value) = match (place.is_v2(), state) {
        (true, State::Frozen) => ("cgroup.freeze", "1"),
        (true, State::Running) => ("cgroup.freeze", "0"),
        (false, State::Frozen) => ("freezer.state", "FROZEN"),
        (false, State::Running) => ("freezer.state", "THAWED"),
    };
    let path = place.file(name);
    match file::try_write(&path, value) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(CgroupError::Missing {
            what: "pausing a container",
            file: name.to_owned(),
        }),
        Err(source) => Err(file::failure(&path, value, source)),
    }
}

fn has_stopped(place: Place<'_>) -> Result<bool, CgroupError> {
    if place.is_v2() {
        let events = place.read("cgroup.events")?;
        return Ok(file::field(&events, "frozen") == Some(1));
    }
    Ok(place.read("freezer.state")?.trim() == "FROZEN")
}
