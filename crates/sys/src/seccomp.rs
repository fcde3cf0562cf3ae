//! Loading a system call filter into the kernel: seccomp(2).

use std::ffi::{c_int, c_long, c_uint};
use std::ptr;

use rustix::io::{Errno, Result};

/// Writes every action but ALLOW to the audit log.
pub const FLAG_LOG: u32 = 1 << 1;
/// Does not switch Speculative Store Bypass mitigation on for the task.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// Makes a notification that was received wait in a killable way only.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The longest program the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// An instruction of classic BPF, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when the comparison holds.
    pub jt: u8,
    /// How many instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The kernel's `struct sock_fprog`.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

const SET_MODE_FILTER: c_uint = 1;
const GET_ACTION_AVAIL: c_uint = 2;

/// Puts a filter on the calling thread, for good.
///
/// The thread needs `no_new_privs` or `CAP_SYS_ADMIN`, else the kernel answers `EACCES`.
///
/// # Errors
/// What seccomp(2) answers; `EINVAL` for an empty or too long program.
pub fn load_filter(instructions: &[Instruction], flags: u32) -> Result<()> {
    if instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
        return Err(Errno::INVAL);
    }
    let program = Program {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_ptr(),
    };
    // SAFETY: the kernel copies `program` and the `len` instructions behind it before it returns
    // (seccomp_prepare_user_filter); both are borrowed for the whole call and `Instruction` has
    // sock_filter's layout. A refused program changes nothing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags,
            ptr::from_ref(&program),
        )
    };
    check(answer)
}

/// Tells whether the kernel knows a filter's return action, as `0x7fff_0000`.
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes from the pointer, which borrows a live `u32`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            GET_ACTION_AVAIL,
            0,
            ptr::from_ref(&action),
        )
    };
    answer == 0
}

/// A result of seccomp(2): -1 is an error; a positive number would be a thread that TSYNC could not reach.
fn check(answer: c_long) -> Result<()> {
    if answer == 0 {
        return Ok(());
    }
    Err(last_errno())
}

/// The calling thread's errno.
pub(crate) fn last_errno() -> Errno {
    let code: Option<c_int> = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(code.unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RET: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;

    #[test]
    fn refuses_empty_and_long_programs() {
        let allow = Instruction {
            code: RET,
            jt: 0,
            jf: 0,
            k: ALLOW,
        };
        assert_eq!(load_filter(&[], 0), Err(Errno::INVAL));
        assert_eq!(load_filter(&[allow; 4097], 0), Err(Errno::INVAL));
    }

    #[test]
    fn loads_on_one_thread_only() {
        let thread = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let allow = Instruction {
                code: RET,
                jt: 0,
                jf: 0,
                k: ALLOW,
            };
            load_filter(&[allow], 0).unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        assert!(thread.join().unwrap().contains("Seccomp:\t2"));
        let here = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(!here.contains("Seccomp:\t2"));
    }

    #[test]
    fn knows_actions() {
        assert!(action_available(ALLOW));
        assert!(!action_available(0x1234_0000));
    }
}
