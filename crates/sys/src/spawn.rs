//! Starting another program without copying the caller's page tables.
//!
//! `std::process` looks for `posix_spawn` among the program's dynamic symbols; a static executable
//! has none, so there it always forks. For a large process of many threads that is the dearest step
//! of a start: page tables are copied, and every page written afterwards faults in all threads.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, WaitIdOptions, WaitIdStatus};

/// A child process.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Spawned {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether it has ended, without reaping it.
    ///
    /// # Errors
    ///
    /// waitid(2) fails when somebody has reaped the child.
    pub fn has_ended(&self) -> io::Result<bool> {
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(rustix::process::waitid(id, options)?.is_some())
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    ///
    /// pidfd_send_signal(2) fails when somebody has reaped the child.
    pub fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(
            &self.pidfd,
            rustix::process::Signal::KILL,
        )?)
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    ///
    /// waitid(2) fails when somebody else has reaped the child.
    pub fn wait(&self) -> io::Result<Option<WaitIdStatus>> {
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        Ok(rustix::io::retry_on_intr(|| {
            rustix::process::waitid(id.clone(), WaitIdOptions::EXITED)
        })?)
    }
}

/// Starts a program with one argument, its name, and no environment.
///
/// Its standard input is `stdin`, its output and error stream `/dev/null`; every other fd must be
/// close-on-exec. It may have as many files open as this process when that was started.
/// posix_spawn(3) of glibc shares the caller's memory until execve(2).
///
/// # Errors
///
/// What posix_spawn reports, the failure of execve included.
pub fn spawn(program: &CStr, name: &CStr, stdin: BorrowedFd<'_>) -> io::Result<Spawned> {
    let mut actions = Actions::new()?;
    actions.duplicate(stdin, 0)?;
    actions.open_null(1)?;
    actions.open_null(2)?;
    let arguments = [name.as_ptr().cast_mut(), std::ptr::null_mut()];
    let environment = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: the strings and both null-terminated arrays live until the call returns, and the call
    // only reads them; `actions` was initialised by its constructor.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            std::ptr::null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    check(error)?;
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
    // nobody but this process can reap the child, so the number is still the child's
    crate::descriptors::restore_for(pid);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok(Spawned { pid, pidfd })
}

/// What the child does with its fds before execve(2).
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory of the right type, which the call initialises.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: the call above has succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn duplicate(&mut self, fd: BorrowedFd<'_>, to: i32) -> io::Result<()> {
        // SAFETY: `self.0` is initialised; the number is only used by the child, whose copy of the
        // fd lasts as long as the borrow in the parent's `spawn`.
        check(unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd.as_raw_fd(), to)
        })
    }

    fn open_null(&mut self, to: i32) -> io::Result<()> {
        let path = c"/dev/null";
        // SAFETY: `self.0` is initialised, and glibc copies the path.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(
                &raw mut self.0,
                to,
                path.as_ptr(),
                libc::O_WRONLY,
                0,
            )
        })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: `self.0` is initialised and is not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// These functions return an error number and leave errno alone.
fn check(error: i32) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_child_has_its_input_and_is_reaped() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let child = spawn(c"/bin/cat", c"cat", theirs.as_fd()).unwrap();
        drop(theirs);
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let status = child.wait().unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        // the child held the other end alone
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_missing_program_is_told() {
        let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = spawn(c"/no/such/program", c"x", theirs.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
