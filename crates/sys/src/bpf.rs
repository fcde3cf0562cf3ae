//! Extended BPF as far as the device controller of cgroup v2 needs it: bpf(2).

use std::ffi::{c_int, c_long};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, Result};

use crate::seccomp::last_errno;

/// An instruction of extended BPF, laid out as the kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

/// How a program joins those that a cgroup has already.
#[derive(Clone, Copy, Debug)]
pub enum Attach<'a> {
    /// Beside the others; every one must agree to an access.
    Multi,
    /// In the place of a program that was attached with [`Attach::Multi`].
    Replace(BorrowedFd<'a>),
}

const PROG_LOAD: c_int = 5;
const PROG_ATTACH: c_int = 8;
const PROG_DETACH: c_int = 9;
const PROG_GET_FD_BY_ID: c_int = 13;
const PROG_QUERY: c_int = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// The programs that [`query_device_programs`] can tell; the kernel allows 64 on a cgroup.
const MAX_PROGRAMS: usize = 64;

/// The members of `union bpf_attr` for `BPF_PROG_LOAD`, up to `prog_ifindex`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The members for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The members for `BPF_PROG_QUERY`. Kernels since 6.6 may write `revision` back whatever size they are told.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The members for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ByIdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Has the kernel check and take a program that decides on access to devices.
///
/// # Errors
/// What bpf(2) answers; `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`, `EINVAL` or `EACCES` for a refused program.
pub fn load_device_program(instructions: &[Instruction]) -> Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        insns: address(instructions.as_ptr()),
        license: address(c"Apache".as_ptr()),
        prog_name: *b"gorae_device\0\0\0\0",
        expected_attach_type: ATTACH_CGROUP_DEVICE,
        ..LoadAttr::default()
    };
    // SAFETY: `insns` names `insn_cnt` live instructions with bpf_insn's layout and `license` a static
    // C string; the kernel only reads them, and no log buffer is given, so it writes nowhere.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr) }?;
    owned(fd)
}

/// Attaches a device program to a cgroup v2 directory.
///
/// # Errors
/// What bpf(2) answers.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd, how: Attach<'_>) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: number(&cgroup)?,
        attach_bpf_fd: number(&program)?,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI,
        ..AttachAttr::default()
    };
    if let Attach::Replace(old) = how {
        attr.attach_flags |= F_REPLACE;
        attr.replace_bpf_fd = number(&old)?;
    }
    // SAFETY: the attributes hold numbers only, of descriptors that are borrowed for the call.
    unsafe { bpf(PROG_ATTACH, &mut attr) }?;
    Ok(())
}

/// Takes a device program off a cgroup v2 directory.
///
/// # Errors
/// What bpf(2) answers; `ENOENT` where it is not attached.
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: number(&cgroup)?,
        attach_bpf_fd: number(&program)?,
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: the attributes hold numbers only, of descriptors that are borrowed for the call.
    unsafe { bpf(PROG_DETACH, &mut attr) }?;
    Ok(())
}

/// Opens the device programs that are attached to a cgroup v2 directory itself.
///
/// # Errors
/// What bpf(2) answers.
pub fn query_device_programs(cgroup: impl AsFd) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: number(&cgroup)?,
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: address(ids.as_mut_ptr()),
        prog_cnt: u32::try_from(ids.len()).map_err(|_| Errno::TOOBIG)?,
        ..QueryAttr::default()
    };
    // SAFETY: the kernel writes at most `prog_cnt` numbers to `ids`, which has room for as many and
    // is not read before the call returns.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    let count = usize::try_from(attr.prog_cnt).map_err(|_| Errno::TOOBIG)?;
    ids.iter().take(count).map(|&id| open_program(id)).collect()
}

fn open_program(id: u32) -> Result<OwnedFd> {
    let mut attr = ByIdAttr {
        prog_id: id,
        ..ByIdAttr::default()
    };
    // SAFETY: the attributes hold a number only.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }?;
    owned(fd)
}

/// Calls bpf(2).
///
/// # Safety
/// Every address in `attr` must name memory that the command may use as bpf(2) says, for the whole call,
/// and `Attr` must start with the members that `union bpf_attr` has for the command.
unsafe fn bpf<Attr>(command: c_int, attr: &mut Attr) -> Result<c_long> {
    // SAFETY: the kernel reads and writes at most the given size of `attr`, which is borrowed mutably;
    // what the addresses in it name is the caller's promise.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_mut(attr),
            size_of::<Attr>(),
        )
    };
    if answer < 0 {
        return Err(last_errno());
    }
    Ok(answer)
}

/// Takes a descriptor that bpf(2) just made. Such descriptors are close-on-exec.
fn owned(fd: c_long) -> Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel answered this number for a descriptor it made for this call; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: &impl AsFd) -> Result<u32> {
    u32::try_from(fd.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)
}

fn address<T>(pointer: *const T) -> u64 {
    // exposed, for the kernel may write through it; usize is at most 64 bits on every Linux architecture
    pointer.expose_provenance() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOV_IMM: u8 = 0xb7;
    const EXIT: u8 = 0x95;

    fn answer(value: i32) -> [Instruction; 2] {
        let step = |code, immediate| Instruction {
            code,
            registers: 0,
            offset: 0,
            immediate,
        };
        [step(MOV_IMM, value), step(EXIT, 0)]
    }

    #[test]
    fn loads_a_program_and_refuses_nonsense() {
        match load_device_program(&answer(1)) {
            Ok(_) | Err(Errno::PERM) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(load_device_program(&answer(1)[..1]).is_err());
    }
}
