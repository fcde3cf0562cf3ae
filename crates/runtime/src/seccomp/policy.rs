//! A profile with its words read: actions, architectures, conditions.

use oci::runtime::{Seccomp, SeccompArg, SeccompRule};

use super::arch::{self, Arch};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The kernel cuts a greater errno down to this (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;

/// A profile that says nothing a filter can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// An action that does not exist.
    #[error("seccomp action {name:?} is unknown")]
    Action {
        /// The word.
        name: String,
    },
    /// An action that needs an agent to listen.
    #[error("seccomp action SCMP_ACT_NOTIFY is not supported")]
    Notify,
    /// An errno that no call can answer.
    #[error("seccomp errno {errno} is out of range (0 to 4095)")]
    Errno {
        /// The number.
        errno: u32,
    },
    /// An architecture that does not exist.
    #[error("seccomp architecture {name:?} is unknown")]
    Architecture {
        /// The word.
        name: String,
    },
    /// A comparison that does not exist.
    #[error("seccomp operator {name:?} is unknown")]
    Operator {
        /// The word.
        name: String,
    },
    /// An argument that no call has.
    #[error("seccomp argument index {index} is out of range (0 to 5)")]
    Argument {
        /// The number.
        index: u32,
    },
    /// A flag that does not exist.
    #[error("seccomp flag {name:?} is unknown")]
    Flag {
        /// The word.
        name: String,
    },
    /// More rules than a filter can hold.
    #[error("seccomp filter needs {instructions} instructions, the kernel takes 4096")]
    TooLong {
        /// The program's length.
        instructions: usize,
    },
}

/// What a filter answers, as the kernel's `SECCOMP_RET_*` with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const KILL_PROCESS: Self = Self(0x8000_0000);
    const KILL_THREAD: Self = Self(0);
    const TRAP: Self = Self(0x0003_0000);
    const ERRNO: u32 = 0x0005_0000;
    const TRACE: u32 = 0x7ff0_0000;
    const LOG: Self = Self(0x7ffc_0000);
    pub(super) const ALLOW: Self = Self(0x7fff_0000);
    pub(super) const ENOSYS: Self = Self(Self::ERRNO | ENOSYS);

    /// Orders actions as the kernel does where several filters speak: the least is the strictest.
    pub(super) fn strictness(self) -> i32 {
        (self.0 & 0xffff_0000).cast_signed()
    }

    /// Whether a call that the profile does not name goes on, so that nothing needs to be hidden from a program
    /// that probes for it. A tracer is taken to know what it does.
    pub(super) fn is_permissive(self) -> bool {
        self.strictness() >= Self(Self::TRACE).strictness()
    }

    fn parse(name: &str, errno: Option<u32>) -> Result<Self, PolicyError> {
        let errno = errno.unwrap_or(EPERM);
        if errno > MAX_ERRNO {
            return Err(PolicyError::Errno { errno });
        }
        Ok(match name {
            "SCMP_ACT_KILL_PROCESS" => Self::KILL_PROCESS,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KILL_THREAD,
            "SCMP_ACT_TRAP" => Self::TRAP,
            "SCMP_ACT_ERRNO" => Self(Self::ERRNO | errno),
            "SCMP_ACT_TRACE" => Self(Self::TRACE | errno),
            "SCMP_ACT_LOG" => Self::LOG,
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_NOTIFY" => return Err(PolicyError::Notify),
            _ => {
                let name = name.to_owned();
                return Err(PolicyError::Action { name });
            }
        })
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The argument's bits of the mask are the value.
    MaskedEqual {
        mask: u64,
    },
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

impl Condition {
    fn parse(arg: &SeccompArg) -> Result<Self, PolicyError> {
        if arg.index > 5 {
            return Err(PolicyError::Argument { index: arg.index });
        }
        let (operator, value) = match arg.op.as_str() {
            "SCMP_CMP_EQ" => (Operator::Equal, arg.value),
            "SCMP_CMP_NE" => (Operator::NotEqual, arg.value),
            "SCMP_CMP_LT" => (Operator::Less, arg.value),
            "SCMP_CMP_LE" => (Operator::LessOrEqual, arg.value),
            "SCMP_CMP_GT" => (Operator::Greater, arg.value),
            "SCMP_CMP_GE" => (Operator::GreaterOrEqual, arg.value),
            // `value` is the mask, and bits of the operand outside it do not count, as in libseccomp
            "SCMP_CMP_MASKED_EQ" => {
                let mask = arg.value;
                (Operator::MaskedEqual { mask }, arg.value_two & mask)
            }
            _ => {
                let name = arg.op.clone();
                return Err(PolicyError::Operator { name });
            }
        };
        Ok(Self {
            index: arg.index,
            operator,
            value,
        })
    }
}

/// One rule: calls, what they answer, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    /// The rule holds when one of these groups holds; a group holds when all of its conditions do.
    /// No group at all means always.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

impl Rule {
    fn parse(rule: &SeccompRule) -> Result<Self, PolicyError> {
        let conditions = rule
            .args
            .iter()
            .map(Condition::parse)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            names: rule.names.clone(),
            action: Action::parse(&rule.action, rule.errno_ret)?,
            alternatives: group(conditions),
        })
    }
}

/// All conditions together, but one by one where an argument has several: so runc and crun read such profiles.
fn group(conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    if conditions.is_empty() {
        return Vec::new();
    }
    let repeats = conditions.iter().enumerate().any(|(at, condition)| {
        let before = &conditions[..at];
        before.iter().any(|other| other.index == condition.index)
    });
    if repeats {
        return conditions.into_iter().map(|one| vec![one]).collect();
    }
    vec![conditions]
}

/// A profile with its words read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) default: Action,
    pub(super) archs: Vec<Arch>,
    pub(super) flags: u32,
    pub(super) rules: Vec<Rule>,
}

impl Policy {
    /// Reads a profile for a kernel whose own interface is `native`.
    pub(super) fn parse(native: Arch, profile: &Seccomp) -> Result<Self, PolicyError> {
        Ok(Self {
            default: Action::parse(&profile.default_action, profile.default_errno_ret)?,
            archs: arch::parse_all(native, &profile.architectures)?,
            flags: parse_flags(&profile.flags)?,
            rules: profile
                .syscalls
                .iter()
                .map(Rule::parse)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Without a word about flags a filter leaves Speculative Store Bypass alone, as runc's do: the mitigation that
/// kernels before 5.16 force on every filtered process is costly and the process can ask for it itself.
fn parse_flags(names: &[String]) -> Result<u32, PolicyError> {
    if names.is_empty() {
        return Ok(sys::seccomp::FLAG_SPEC_ALLOW);
    }
    names.iter().try_fold(0, |flags, name| {
        let flag = match name.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => sys::seccomp::FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => sys::seccomp::FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => sys::seccomp::FLAG_WAIT_KILLABLE_RECV,
            // the filter goes on a process that has one thread
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            _ => {
                let name = name.clone();
                return Err(PolicyError::Flag { name });
            }
        };
        Ok(flags | flag)
    })
}
