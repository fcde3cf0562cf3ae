//! From a privileged stage to the process of the configuration, for the first one and for execs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::{Process, Seccomp, User};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use sys::tree::Leaf;

use super::command::{self, Command};
use super::{Launch, StageError, console, identity, stdio};
use crate::capabilities::Sets;
use crate::seccomp::Program;

/// Longest compiled filter: BPF_MAXINSNS instructions of eight bytes, and a head.
const LONGEST_FILTER: u64 = 8 * 4096 + 64;

/// What had to be done while the host's procfs was still there.
#[derive(Debug)]
pub(crate) struct Early {
    sets: Sets,
    apparmor: Option<OwnedFd>,
}

/// Keeps processes of the container from looking into this one: it still holds the host's files.
pub(crate) fn hide() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::NotDumpable,
    )?)
}

/// Reads a compiled filter from its file, or compiles the configuration's.
pub(crate) fn read_filter(
    file: Option<OwnedFd>,
    profile: Option<&Seccomp>,
) -> Result<Option<Program>, StageError> {
    let Some(file) = file else {
        let program = profile.map(crate::seccomp::compile).transpose();
        return program.map_err(StageError::FilterPolicy);
    };
    let bytes = read_file(&file).map_err(StageError::FilterRead)?;
    let program = Program::from_bytes(&bytes).map_err(StageError::FilterFormat)?;
    Ok(Some(program))
}

/// Reads from the start, whatever the offset: the file is shared with other containers' stages.
fn read_file(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let length = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(u64::MAX);
    if length > LONGEST_FILTER {
        return Err(Errno::FBIG.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut done = 0;
    while done < bytes.len() {
        let offset = u64::try_from(done).map_err(io::Error::other)?;
        match rustix::io::pread(file, &mut bytes[done..], offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(bytes)
}

/// Leaves the engine's session keyring: its keys would be the container's too.
fn leave_keyring() -> io::Result<()> {
    match sys::process::new_session_keyring() {
        Err(error) => match Errno::from_io_error(&error) {
            // a kernel without keyrings, or an engine that may not touch any: then it has none
            Some(Errno::NOSYS | Errno::PERM) => Ok(()),
            _ => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

/// Does what needs the host's procfs: in the container's, a file may be another than it seems.
pub(crate) fn prepare(process: &Process) -> Result<Early, StageError> {
    if let Some(value) = process.oom_score_adj {
        set_oom_score(value).map_err(|source| StageError::OomScore { value, source })?;
    }
    leave_keyring().map_err(StageError::Keyring)?;
    let capabilities = process.capabilities.clone().unwrap_or_default();
    let sets = Sets::new(&capabilities);
    sets.apply_before_setuid()
        .map_err(StageError::Capabilities)?;
    let profile = process.apparmor_profile.as_deref();
    let apparmor = match profile.filter(|profile| !profile.is_empty()) {
        Some(profile) => Some(open_apparmor().map_err(|source| StageError::Apparmor {
            profile: profile.to_owned(),
            source,
        })?),
        None => None,
    };
    Ok(Early { sets, apparmor })
}

/// Does the first half of the capabilities again, in a user namespace that was entered since.
pub(crate) fn prepare_capabilities(early: &Early) -> Result<(), StageError> {
    let applied = early.sets.apply_before_setuid();
    applied.map_err(StageError::Capabilities)
}

/// Sets the score; a lower one than the parent's needs CAP_SYS_RESOURCE, and without it stays.
fn set_oom_score(value: i32) -> io::Result<()> {
    match std::fs::write("/proc/self/oom_score_adj", value.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

fn open_apparmor() -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let open = |path| rustix::fs::open(path, flags, Mode::empty());
    // the first is for kernels with several security modules at once
    match open(c"/proc/self/attr/apparmor/exec") {
        Err(Errno::NOENT) => Ok(open(c"/proc/self/attr/exec")?),
        other => Ok(other?),
    }
}

fn apply_apparmor(file: &OwnedFd, profile: &str) -> io::Result<()> {
    let word = format!("exec {profile}");
    rustix::io::write(file, word.as_bytes())?;
    Ok(())
}

/// Makes the working directory if it is missing, as Docker and runc do.
pub(crate) fn make_cwd(root: BorrowedFd<'_>, cwd: &str) -> Result<(), StageError> {
    if cwd.is_empty() || cwd == "/" {
        return Ok(());
    }
    match sys::tree::open_or_make(root, Path::new(cwd), Leaf::Directory) {
        // a read-only mount without it: chdir will tell
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        Err(source) => Err(cwd_error(cwd, source)),
        Ok(_directory) => Ok(()),
    }
}

fn cwd_error(cwd: &str, source: io::Error) -> StageError {
    StageError::Cwd {
        cwd: cwd.to_owned(),
        source,
    }
}

/// Puts numbers in the place of names, by the files of the container's root.
pub(crate) fn resolve_user(root: BorrowedFd<'_>, user: &mut User) -> Result<(), StageError> {
    if let Some(name) = user.username.take() {
        let named = crate::user::resolve(root, &name).map_err(StageError::User)?;
        (user.uid, user.gid) = (named.uid, named.gid);
        let own = std::mem::replace(&mut user.additional_gids, named.additional_gids);
        add_groups(user, &own);
    }
    for group in std::mem::take(&mut user.additional_groups) {
        let gid = crate::user::resolve_group(root, &group).map_err(StageError::User)?;
        add_groups(user, &[gid]);
    }
    Ok(())
}

fn add_groups(user: &mut User, gids: &[u32]) {
    for gid in gids {
        if !user.additional_gids.contains(gid) {
            user.additional_gids.push(*gid);
        }
    }
}

/// Takes limits, streams, user, groups and working directory, and finds the program.
///
/// Capabilities and the filter are left to [`Launch::go`], right before execve(2).
pub(crate) fn become_user(
    process: &Process,
    early: &Early,
    filter: Option<Program>,
    streams: stdio::Source,
) -> Result<Launch, StageError> {
    let terminal = matches!(streams, stdio::Source::Terminal(_));
    stdio::place(streams, process.user.uid).map_err(StageError::Stdio)?;
    if terminal {
        console::take()?;
    }
    if let (Some(file), Some(profile)) = (&early.apparmor, &process.apparmor_profile) {
        apply_apparmor(file, profile).map_err(|source| StageError::Apparmor {
            profile: profile.clone(),
            source,
        })?;
    }
    let mut command = Command::new(process)?;
    if !command.has_home() {
        command.set_home(process.user.uid);
    }
    identity::limit(&process.rlimits)?;
    let mask = process.user.umask.unwrap_or(0o022);
    rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| StageError::NoNewPrivileges(error.into()))?;
    }
    let early_cwd = enter_cwd(&process.cwd);
    identity::take(&process.user)?;
    // who supervises the process must not die before it; a change of user clears this (prctl(2))
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| StageError::Detach(error.into()))?;
    match early_cwd {
        // root is not everybody on network file systems
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => enter_cwd(&process.cwd),
        other => other,
    }
    .map_err(|source| cwd_error(&process.cwd, source))?;
    check_cwd()?;
    command.find()?;
    Ok(Launch {
        command,
        sets: early.sets,
        filter,
        no_new_privileges: process.no_new_privileges,
        terminal,
    })
}

fn enter_cwd(cwd: &str) -> io::Result<()> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    Ok(rustix::process::chdir(cwd)?)
}

/// Refuses a working directory that a leaked descriptor of the host leads to (CVE-2024-21626).
///
/// getcwd(2) gives a path that begins with `(unreachable)` for a directory outside of the root.
fn check_cwd() -> Result<(), StageError> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().first() == Some(&b'/') => Ok(()),
        _ => Err(StageError::CwdOutside),
    }
}

/// Tells the home directory of a user inside the container that the stage is in.
pub(super) fn home_of(uid: u32) -> String {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty());
    let home = root.map(|root| crate::user::home(std::os::fd::AsFd::as_fd(&root), uid));
    match home {
        Ok(Ok(home)) => home,
        // a damaged file of the image is no reason not to run its program
        _ => String::from(command::DEFAULT_HOME),
    }
}
