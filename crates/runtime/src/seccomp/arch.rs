//! The architectures that a filter tells apart.

use super::policy::PolicyError;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the table of system calls has no column for this architecture");

/// A system call interface of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, which a 64-bit kernel runs too.
    I386,
    /// x86-64 with 32-bit pointers: x86-64's audit number, and a bit in the call's number.
    X32,
    /// 64-bit ARM.
    Aarch64,
}

/// `__X32_SYSCALL_BIT`.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// The interface that this program was built for.
    pub const fn native() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::X86_64
        }
    }

    /// The kernel's `AUDIT_ARCH_*`, as `seccomp_data` tells it.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// The interface's place in a row of the table of calls.
    pub(super) const fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::I386 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
        }
    }

    /// What the interface adds to each number of the table.
    pub(super) const fn base(self) -> u32 {
        match self {
            Self::X32 => X32_BIT,
            Self::X86_64 | Self::I386 | Self::Aarch64 => 0,
        }
    }

    /// Whether arguments are 32 bits wide, with nothing above.
    pub(super) const fn has_narrow_arguments(self) -> bool {
        matches!(self, Self::I386)
    }

    /// Whether a kernel whose own interface is `native` can run programs of this one.
    const fn runs_on(self, native: Self) -> bool {
        match native {
            Self::X86_64 | Self::X32 => matches!(self, Self::X86_64 | Self::I386 | Self::X32),
            Self::I386 => matches!(self, Self::I386),
            Self::Aarch64 => matches!(self, Self::Aarch64),
        }
    }
}

/// Reads a profile's architectures: the native one always, and those of the list that can ever be seen here.
pub(super) fn parse_all(native: Arch, names: &[String]) -> Result<Vec<Arch>, PolicyError> {
    let mut archs = vec![native];
    for name in names {
        let Some(arch) = parse(name)? else { continue };
        if arch.runs_on(native) && !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    Ok(archs)
}

/// `None` for an architecture that exists and is none of ours: its calls never pass this kernel's gate.
fn parse(name: &str) -> Result<Option<Arch>, PolicyError> {
    let unknown = || PolicyError::Architecture {
        name: name.to_owned(),
    };
    let bare = name.strip_prefix("SCMP_ARCH_").ok_or_else(unknown)?;
    match bare {
        "X86_64" => Ok(Some(Arch::X86_64)),
        "X86" => Ok(Some(Arch::I386)),
        "X32" => Ok(Some(Arch::X32)),
        "AARCH64" => Ok(Some(Arch::Aarch64)),
        "ARM" | "LOONGARCH64" | "M68K" | "MIPS" | "MIPS64" | "MIPS64N32" | "MIPSEL"
        | "MIPSEL64" | "MIPSEL64N32" | "PARISC" | "PARISC64" | "PPC" | "PPC64" | "PPC64LE"
        | "RISCV64" | "S390" | "S390X" | "SH" | "SHEB" => Ok(None),
        _ => Err(unknown()),
    }
}
