//! Signal masks, dispositions and signalfd; `rustix` has none of them for programs that use libc.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::process::Signal;

/// The highest signal number of Linux, `SIGRTMAX` included.
pub const HIGHEST: i32 = 64;

/// A signal taken from a signalfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The signal.
    pub signal: Signal,
    /// The sender, where the kernel tells one.
    pub pid: u32,
}

/// The signal of a number, real-time signals included; `None` outside 1 to 64.
#[must_use]
pub fn from_raw(number: i32) -> Option<Signal> {
    if !(1..=HIGHEST).contains(&number) {
        return None;
    }
    // SAFETY: rustix keeps a non-zero number here and hands it to the kernel unchanged; the range
    // was checked above, and no handler of libc's reserved signals is ever installed through it.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// Adds signals to the calling thread's mask.
pub fn block(signals: &[Signal]) -> io::Result<()> {
    change_mask(libc::SIG_BLOCK, &set_of(signals))
}

/// Adds every signal to the calling thread's mask.
pub fn block_all() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is writable memory of the right size, owned by this frame.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: sigfillset wrote the whole set; it has no failure for a valid pointer.
    let set = unsafe { set.assume_init() };
    change_mask(libc::SIG_SETMASK, &set)
}

/// Empties the calling thread's mask.
pub fn unblock_all() -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, &set_of(&[]))
}

/// Lets a program start with an empty mask, which it would else inherit from its starter.
pub fn unblock_in_child(command: &mut Command) {
    // SAFETY: between fork and execve the closure only calls pthread_sigmask, which is
    // async-signal-safe, takes no lock and allocates nothing.
    unsafe { command.pre_exec(unblock_all) };
}

/// Ignores a signal in the whole process; execve keeps that.
pub fn ignore(signal: Signal) -> io::Result<()> {
    set_disposition(signal.as_raw(), libc::SIG_IGN)
}

/// Gives every signal its default disposition, as a new program expects to find them.
///
/// An ignored signal stays ignored over execve, so that a container started by a process that
/// ignores SIGPIPE would never see its pipelines end.
pub fn reset_dispositions() {
    for number in 1..=HIGHEST {
        // SIGKILL, SIGSTOP and the two signals that libc keeps for itself are refused: EINVAL.
        let _refused = set_disposition(number, libc::SIG_DFL);
    }
}

/// Makes a close-on-exec, non-blocking fd that tells the given signals, and blocks their delivery.
pub fn signalfd(signals: &[Signal]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    change_mask(libc::SIG_BLOCK, &set)?;
    // SAFETY: `set` is an initialised signal set that outlives the call; -1 asks for a new fd.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the next signal of a signalfd; `None` when there is none now.
pub fn read_signalfd(fd: impl AsFd) -> io::Result<Option<Received>> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut bytes = [0_u8; SIZE];
    let count = match rustix::io::read(fd, &mut bytes[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if count != SIZE {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the array has exactly the structure's size, every bit pattern is valid for its
    // integers, and read_unaligned asks for no alignment.
    let info = unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<libc::signalfd_siginfo>()) };
    let number = i32::try_from(info.ssi_signo).unwrap_or(0);
    Ok(from_raw(number).map(|signal| Received {
        signal,
        pid: info.ssi_pid,
    }))
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is writable memory of the right size, owned by this frame.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset wrote the whole set; it has no failure for a valid pointer.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: `set` is initialised and exclusively borrowed; a bad number only yields EINVAL.
        unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
    }
    set
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is an initialised set borrowed for the call; the old mask is not asked for.
    let error = unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

fn set_disposition(number: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: only SIG_IGN and SIG_DFL are ever given by this module, so no code of ours runs in
    // signal context.
    let before = unsafe { libc::signal(number, handler) };
    if before == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_real_time_signals_and_no_others() {
        assert_eq!(from_raw(64).unwrap().as_raw(), 64);
        assert_eq!(from_raw(15), Some(Signal::TERM));
        assert!(from_raw(0).is_none());
        assert!(from_raw(65).is_none());
        assert!(from_raw(-9).is_none());
    }

    #[test]
    fn tells_a_blocked_signal_through_the_fd() {
        // The mask is the thread's own, and the signal goes to this thread alone.
        std::thread::spawn(|| {
            let fd = signalfd(&[Signal::USR1]).unwrap();
            assert_eq!(read_signalfd(&fd).unwrap(), None);
            // SAFETY: raise sends to the calling thread, where the signal is blocked.
            unsafe { libc::raise(libc::SIGUSR1) };
            let received = read_signalfd(&fd).unwrap().unwrap();
            assert_eq!(received.signal, Signal::USR1);
            assert_eq!(read_signalfd(&fd).unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
