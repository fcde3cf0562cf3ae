//! Making processes and becoming another program.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use linux_raw_sys::general::{
    CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CLONE_PARENT, CLONE_PIDFD, CLONE_THREAD, clone_args,
};
use rustix::thread::UnshareFlags;

use crate::signal;

/// The operation of keyctl(2), from the kernel's `linux/keyctl.h`.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;

/// What a new process starts with.
#[derive(Clone, Copy, Debug)]
pub struct CloneOptions<'fd> {
    /// Namespaces that are made for it.
    pub namespaces: UnshareFlags,
    /// The cgroup v2 directory it is born into; else that of its parent.
    pub cgroup: Option<BorrowedFd<'fd>>,
    /// Whether it is a child of the caller's parent, and not of the caller.
    pub sibling: bool,
}

/// A process just made.
#[derive(Debug)]
pub struct Cloned {
    /// Its id in the caller's pid namespace.
    pub pid: i32,
    /// The handle that names it even after its id was given to another.
    pub pidfd: OwnedFd,
}

/// Ends the process when the child's function unwinds, so that it never runs its parent's code.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        exit_now(101);
    }
}

/// Makes a process that runs `child` in a copy of the caller's memory, and ends with its result.
///
/// All signals have their default action in the child, and none is blocked. Its end is told by
/// SIGCHLD. No destructor of the caller's values runs in it.
///
/// # Errors
///
/// EINVAL when the caller has more than one thread: the locks that the others hold would stay
/// locked in the copy for ever. Else what clone3(2) says.
pub fn clone(options: CloneOptions<'_>, child: impl FnOnce() -> u8) -> io::Result<Cloned> {
    refuse_threads()?;
    let mut pidfd: RawFd = -1;
    let mut flags = u64::from(CLONE_PIDFD) | CLONE_CLEAR_SIGHAND;
    flags |= u64::from(options.namespaces.bits());
    let mut cgroup = 0;
    if let Some(directory) = options.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = u64::try_from(directory.as_raw_fd()).unwrap_or(0);
    }
    // clone(2): a sibling's end is told as the caller's own, and takes no signal of its own
    let exit_signal = if options.sibling {
        flags |= u64::from(CLONE_PARENT);
        0
    } else {
        u64::try_from(libc::SIGCHLD).unwrap_or(0)
    };
    let args = clone_args {
        flags,
        pidfd: ptr::from_mut(&mut pidfd).addr() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    // SAFETY: `args` and `pidfd` outlive the call. Without CLONE_VM the child has a copy of all
    // memory, and `refuse_threads` has made sure that no other thread was in the middle of
    // anything, so both processes may go on running Rust.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_ref(&args),
            size_of::<clone_args>(),
        )
    };
    match pid {
        0 => run_child(child),
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Cloned {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            // SAFETY: the kernel has stored a new descriptor there, and nobody else knows it.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

#[expect(
    clippy::mem_forget,
    reason = "the guard has nothing to free, and must not act once the child has returned"
)]
fn run_child(child: impl FnOnce() -> u8) -> ! {
    let guard = ExitOnUnwind;
    default_signals();
    let code = child();
    std::mem::forget(guard);
    exit_now(code)
}

/// Asks the kernel whether this process has one thread only.
///
/// unshare(2): CLONE_THREAD changes nothing in a process of one thread, and is EINVAL elsewhere.
fn refuse_threads() -> io::Result<()> {
    let flags = UnshareFlags::from_bits_retain(CLONE_THREAD);
    // SAFETY: CLONE_THREAD alone takes nothing apart; the flag that `unshare_unsafe` warns of is
    // CLONE_FILES.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Gives all signals their default action and unblocks them.
///
/// CLONE_CLEAR_SIGHAND leaves ignored signals ignored, and execve(2) would keep them so: SIGPIPE,
/// which Rust's start-up ignores, and whatever the engine's own parent ignored.
fn default_signals() {
    signal::reset_dispositions();
    for reserved in [32, 33] {
        reset_reserved(reserved);
    }
    // It fails for a bad `how` only.
    let _done = signal::unblock_all();
}

/// Gives a signal that the C library keeps for itself its default action; its own calls refuse to.
fn reset_reserved(number: libc::c_int) {
    /// The kernel's `struct sigaction`: handler, flags, restorer, mask. All zero is `SIG_DFL`.
    const DEFAULT: [u64; 4] = [0; 4];
    // SAFETY: the kernel only reads the structure, which is static, and the size is that of its
    // signal set; a null third argument asks for no old action.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            DEFAULT.as_ptr(),
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

/// Moves the calling thread into new namespaces, or gives it a root and working directory of its own.
///
/// # Errors
///
/// What unshare(2) says; EINVAL for the other flags that are no namespaces.
pub fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    if namespaces.intersects(UnshareFlags::FILES | UnshareFlags::SYSVSEM) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: without CLONE_FILES the descriptor table stays shared, so no other thread loses
    // track of a descriptor; the check above keeps that flag out.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

/// Gives the calling thread a new, empty session keyring.
///
/// A kernel without keyrings has none to share, and a full quota or a filter that forbids it leaves
/// the parent's.
///
/// # Errors
///
/// What keyctl(2) says.
pub fn new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; no memory of the process is touched.
    let id = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0_usize) };
    if id >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends the process without running destructors or exit handlers.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) touches no memory of the process and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Replaces the process's program; returns only with an error.
#[must_use]
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: the path and both lists are NUL-terminated, and borrowed from values that live here
    // until the call has failed or the program is gone.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    let mut list: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
    list.push(ptr::null());
    list
}

/// Marks all descriptors from `first` on to be closed at execve(2).
///
/// # Errors
///
/// What close_range(2) says: ENOSYS before Linux 5.9, EINVAL before 5.11.
pub fn close_from_at_exec(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes all descriptors from 3 on but `keep`, in a process made by [`clone`].
///
/// The values of the parent's memory that own those descriptors are never dropped here, so nothing
/// closes them a second time.
///
/// # Errors
///
/// What close_range(2) says.
pub fn close_all_but(keep: BorrowedFd<'_>) -> io::Result<()> {
    let keep = u32::try_from(keep.as_raw_fd()).map_err(io::Error::other)?;
    if keep > 3 {
        close_range(3, keep - 1, 0)?;
    }
    close_range((keep + 1).max(3), u32::MAX, 0)
}

/// Closes a descriptor's copy in a process made by [`clone`], where its owner's memory is but a copy too.
pub fn close_copy(fd: BorrowedFd<'_>) {
    // SAFETY: the value that owns the descriptor is never dropped in this process, which ends by
    // _exit(2) or execve(2), so nothing uses or closes the number later.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Closes all descriptors from 3 on, in a process made by [`clone`] that goes on without any.
///
/// # Errors
///
/// What close_range(2) says.
pub fn close_all() -> io::Result<()> {
    close_range(3, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: close_range(2) touches no memory; the callers answer for the descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Waits for any blocked signal and takes it.
///
/// # Errors
///
/// What sigwaitinfo(2) says; EINTR after a stop and continue.
pub fn wait_signal() -> io::Result<i32> {
    // SAFETY: an all-zero sigset_t is a valid value, filled by the next call.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is a sigset_t of ours.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: `all` outlives the call, and a null second argument asks for no details.
    let signal = unsafe { libc::sigwaitinfo(&raw const all, ptr::null_mut()) };
    if signal > 0 {
        Ok(signal)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id of the calling thread's session keyring.
    fn session_keyring() -> libc::c_long {
        const GET_KEYRING_ID: libc::c_long = 0;
        const SESSION: libc::c_long = -3;
        // SAFETY: the call takes numbers only.
        unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0) }
    }

    #[test]
    fn a_new_session_keyring_is_another_one() {
        let ids = std::thread::spawn(|| {
            let before = session_keyring();
            new_session_keyring().unwrap();
            (before, session_keyring())
        });
        let (before, after) = ids.join().unwrap();
        assert_ne!(before, after);
        assert_ne!(session_keyring(), after);
    }

    #[test]
    fn a_process_of_several_threads_is_not_copied() {
        let options = CloneOptions {
            namespaces: UnshareFlags::empty(),
            cgroup: None,
            sibling: false,
        };
        // the test harness runs each test in a thread beside its own
        let error = std::thread::spawn(move || clone(options, || 0).map(|_| ()));
        let error = error.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn only_namespaces_are_unshared() {
        assert!(unshare(UnshareFlags::FILES).is_err());
        assert!(unshare(UnshareFlags::empty()).is_ok());
    }
}
