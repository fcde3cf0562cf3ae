//! The number of tasks.

use oci::runtime::Pids;

use super::super::Cgroup;
use super::super::error::CgroupError;
use super::super::hierarchy::Controller;

const WHAT: &str = "a limit of tasks";

pub(super) fn apply(cgroup: &Cgroup, pids: &Pids) -> Result<(), CgroupError> {
    let limited = pids.limit > 0;
    let place = match cgroup.place(Controller::Pids) {
        None if !limited => return Ok(()),
        _ => super::need(cgroup, Controller::Pids, WHAT, "pids.max")?,
    };
    let value = if limited {
        pids.limit.to_string()
    } else {
        "max".to_owned()
    };
    super::write(place, WHAT, "pids.max", &value)
}
