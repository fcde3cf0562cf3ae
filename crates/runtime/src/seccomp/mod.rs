//! System call filters: Docker's profiles, and a compiler from them to the kernel's classic BPF.
//!
//! ```text
//! Docker JSON ──docker──┐
//! default profile ──────┴─> oci Seccomp ──policy──> Policy ──compile──> Program ──load──> kernel
//! ```
//!
//! The compiler is our own because a container's filter needs several answers, several architectures and calls
//! newer than a distribution's libseccomp knows. Nothing here knows of containers: the engine compiles, the
//! container's first process loads.

mod arch;
mod assemble;
mod compile;
mod docker;
mod multiplex;
mod policy;
mod profile;
mod syscalls;
#[cfg(test)]
mod tests;

use oci::runtime::Seccomp;
use rustix::io::Errno;
use sys::seccomp::{Instruction, MAX_INSTRUCTIONS};

pub use arch::Arch;
pub use docker::{ProfileError, from_docker_json};
pub use policy::PolicyError;
pub use profile::default_profile;

/// `GSC` and the layout's version.
const MAGIC: [u8; 4] = *b"GSC\x01";
const HEADER: usize = 8;
const INSTRUCTION: usize = 8;

/// A filter that is ready to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u32,
}

/// Bytes that are no program of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seccomp program of {length} bytes is damaged")]
pub struct FormatError {
    /// How many bytes there are.
    pub length: usize,
}

/// The kernel does not take a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("load seccomp filter of {instructions} instructions")]
pub struct LoadError {
    /// The program's length.
    pub instructions: usize,
    /// The kernel's answer; `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`.
    #[source]
    pub source: Errno,
}

/// Compiles a profile for this machine.
///
/// Calls that no table of ours names are left out, as they can only be newer than every rule about them.
///
/// # Errors
/// The word that means nothing, or a profile too long for the kernel.
pub fn compile(profile: &Seccomp) -> Result<Program, PolicyError> {
    compile_for(Arch::native(), profile)
}

/// Compiles a profile for a machine whose own interface is `native`.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(native: Arch, profile: &Seccomp) -> Result<Program, PolicyError> {
    let policy = policy::Policy::parse(native, profile)?;
    Ok(Program {
        instructions: compile::compile(&policy)?,
        flags: policy.flags,
    })
}

/// Tells the names of a profile that are no system call of any architecture, for a warning.
pub fn unknown_calls(profile: &Seccomp) -> Vec<&str> {
    profile
        .syscalls
        .iter()
        .flat_map(|rule| &rule.names)
        .map(String::as_str)
        .filter(|name| !syscalls::is_known(name))
        .collect()
}

impl Program {
    /// Writes the program down, to hand it to another process of this machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + INSTRUCTION * self.instructions.len());
        bytes.extend(MAGIC);
        bytes.extend(self.flags.to_le_bytes());
        for instruction in &self.instructions {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Program::to_bytes`] wrote. The kernel checks the program itself when it loads it.
    ///
    /// # Errors
    /// The bytes are not of that form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::read(bytes).ok_or(FormatError {
            length: bytes.len(),
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (flags, rest) = rest.split_first_chunk::<4>()?;
        let (chunks, tail) = rest.as_chunks::<INSTRUCTION>();
        if *magic != MAGIC || !tail.is_empty() || chunks.len() > MAX_INSTRUCTIONS {
            return None;
        }
        Some(Self {
            flags: u32::from_le_bytes(*flags),
            instructions: chunks.iter().map(read_instruction).collect(),
        })
    }

    /// Puts the filter on the calling thread for good, with its own flags and `flags` (`sys::seccomp::FLAG_*`).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn load(&self, flags: u32) -> Result<(), LoadError> {
        let flags = self.flags | flags;
        sys::seccomp::load_filter(&self.instructions, flags).map_err(|source| LoadError {
            instructions: self.instructions.len(),
            source,
        })
    }
}

fn read_instruction(bytes: &[u8; INSTRUCTION]) -> Instruction {
    let [c0, c1, jt, jf, k @ ..] = *bytes;
    Instruction {
        code: u16::from_le_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_le_bytes(k),
    }
}
