//! User, groups and limits of a process.

use std::io;

use oci::runtime::{Rlimit, User};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Uid};

use super::StageError;

/// Takes the user's groups, group and id.
///
/// The process was cloned with one thread, so the calls for one thread are those for all of it.
pub(super) fn take(user: &User) -> Result<(), StageError> {
    let groups: Vec<Gid> = user
        .additional_gids
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    rustix::thread::set_thread_groups(&groups).map_err(fail("setgroups", groups.len()))?;
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(fail("setgid", size(user.gid)))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(fail("setuid", size(user.uid)))
}

fn size(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

fn fail(step: &'static str, id: usize) -> impl FnOnce(Errno) -> StageError {
    move |error| StageError::Identity {
        step,
        id,
        source: error.into(),
    }
}

/// Sets resource limits; where a hard limit may not be raised, the highest permitted one is taken.
pub(super) fn limit(limits: &[Rlimit]) -> Result<(), StageError> {
    for limit in limits {
        let fail = |source| StageError::Rlimit {
            name: limit.kind.clone(),
            source,
        };
        let resource =
            resource(&limit.kind).ok_or_else(|| fail(io::ErrorKind::InvalidInput.into()))?;
        set_limit(resource, limit.soft, limit.hard).map_err(|error| fail(error.into()))?;
    }
    Ok(())
}

/// Raises the hard limits of another process to what it will ask for; where that is not permitted they
/// stay. Tells the limit that failed otherwise.
pub(crate) fn raise(pid: i32, limits: &[Rlimit]) -> Result<(), (String, io::Error)> {
    for limit in limits {
        let Some(resource) = resource(&limit.kind) else {
            // told when the limits are set
            continue;
        };
        // those of a child are still the caller's
        let own = rustix::process::getrlimit(resource);
        if own.maximum.is_none_or(|maximum| maximum >= limit.hard) {
            continue;
        }
        let raised = rustix::process::Rlimit {
            current: own.current,
            maximum: (limit.hard != u64::MAX).then_some(limit.hard),
        };
        match rustix::process::prlimit(rustix::process::Pid::from_raw(pid), resource, raised) {
            Ok(_) | Err(Errno::PERM) => {}
            Err(error) => return Err((limit.kind.clone(), error.into())),
        }
    }
    Ok(())
}

fn set_limit(resource: Resource, soft: u64, hard: u64) -> Result<(), Errno> {
    let value = |number| (number != u64::MAX).then_some(number);
    let wanted = rustix::process::Rlimit {
        current: value(soft),
        maximum: value(hard),
    };
    match rustix::process::setrlimit(resource, wanted) {
        Err(Errno::PERM) => {}
        other => return other,
    }
    // without CAP_SYS_RESOURCE a hard limit only goes down: machines without it still run containers
    let permitted = rustix::process::getrlimit(resource)
        .maximum
        .unwrap_or(u64::MAX);
    let hard = hard.min(permitted);
    let lowered = rustix::process::Rlimit {
        current: value(soft.min(hard)),
        maximum: value(hard),
    };
    rustix::process::setrlimit(resource, lowered)
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}
