//! The container's terminal: a pair of its own devpts.
//!
//! The slave end comes from the master by `TIOCGPTPEER` and never by a path, so that no link at
//! `/dev/pts` or `/dev/console` can put another file in its place (CVE-2025-52565).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use oci::runtime::{ConsoleSize, Process};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::StageError;
use crate::rootfs;

/// Magic number of devpts, statfs(2).
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// The two ends.
#[derive(Debug)]
pub(crate) struct Pty {
    /// For the parent.
    pub(crate) master: OwnedFd,
    /// For the process.
    pub(crate) slave: OwnedFd,
}

fn fail(step: &'static str) -> impl Fn(io::Error) -> StageError {
    move |source| StageError::Console { step, source }
}

/// The process's own descriptors in a procfs that is known to be one: opening a name in it opens
/// the very file that the descriptor stands for.
#[derive(Debug)]
pub(crate) struct OwnFds(OwnedFd);

impl OwnFds {
    /// Opens them in the host's procfs, before the container's is in its place.
    pub(crate) fn open() -> Result<Self, StageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty());
        fds.map(Self).map_err(|error| fail("open")(error.into()))
    }

    /// Opens what an `O_PATH` descriptor stands for.
    fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
        let name = fd.as_raw_fd().to_string();
        let flags = flags | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, Mode::empty())?)
    }
}

/// Opens a pair in the devpts just mounted, or else in the container's `/dev/pts`.
pub(super) fn open(
    root: BorrowedFd<'_>,
    devpts: Option<&OwnedFd>,
    own: &OwnFds,
    process: &Process,
) -> Result<Pty, StageError> {
    match devpts {
        Some(devpts) => {
            let ptmx = sys::tree::open_beneath(devpts.as_fd(), Path::new("ptmx"), PTMX_FLAGS);
            pair(ptmx.map_err(fail("open"))?, process).map_err(fail("open"))
        }
        None => open_in(root, own, process),
    }
}

const PTMX_FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOCTTY);

/// Opens a pair in the `/dev/pts` of a root, which must be a devpts.
///
/// The file is looked at before it is opened, and then that very file is opened: merely to open
/// some devices does something, and the container may put any in this place.
pub(crate) fn open_in(
    root: BorrowedFd<'_>,
    own: &OwnFds,
    process: &Process,
) -> Result<Pty, StageError> {
    let open = || {
        let path = Path::new("dev/pts/ptmx");
        let look = sys::tree::open_beneath(root, path, OFlags::PATH | OFlags::NOFOLLOW)?;
        check_ptmx(look.as_fd())?;
        pair(own.reopen(look.as_fd(), PTMX_FLAGS)?, process)
    };
    open().map_err(fail("open"))
}

fn check_ptmx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let magic = u64::try_from(rustix::fs::fstatfs(fd)?.f_type).unwrap_or(0);
    match sys::tree::device_of(fd)? {
        (FileType::CharacterDevice, 5, 2) if magic == DEVPTS_SUPER_MAGIC => Ok(()),
        _ => Err(Errno::NODEV.into()),
    }
}

fn pair(master: OwnedFd, process: &Process) -> io::Result<Pty> {
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if let Some(size) = process.console_size {
        resize(master.as_fd(), size)?;
    }
    if process.user.uid != 0 {
        let same_group: Option<Gid> = None;
        rustix::fs::fchown(&slave, Some(Uid::from_raw(process.user.uid)), same_group)?;
    }
    Ok(Pty { master, slave })
}

fn resize(master: BorrowedFd<'_>, size: ConsoleSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.height,
        ws_col: size.width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// Shows the terminal as `/dev/console`.
pub(super) fn mount(pty: &Pty, dev: BorrowedFd<'_>) -> Result<(), StageError> {
    let place = rootfs::open_or_make_console(dev).map_err(fail("mount"))?;
    let mount = || {
        let copy = rootfs::copy_tree(pty.slave.as_fd(), sys::mount::Depth::One)?;
        rootfs::attach(copy.as_fd(), place.as_fd())
    };
    mount().map_err(fail("mount"))
}

/// Makes the terminal on standard input the session's own.
pub(crate) fn take() -> Result<(), StageError> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
        .map_err(|error| fail("take")(error.into()))
}
