//! From a policy to a program: for each architecture a search tree over the calls' numbers.
//!
//! Where several rules speak of a call: of those without conditions the first counts, as in libseccomp; of those
//! whose conditions hold the strictest counts, in the order in which the kernel ranks filters; of these two the
//! stricter answers. libseccomp forgets conditions beside a rule without them, and ranks the others by the kind of
//! their comparison; a refusal that a profile spells out is then lost. Here it never is.

use std::collections::{BTreeMap, HashMap};

use sys::seccomp::{Instruction, MAX_INSTRUCTIONS};

use super::arch::{Arch, X32_BIT};
use super::assemble::{Assembler, Target, Test};
use super::policy::{Action, Condition, Operator, Policy, PolicyError};
use super::{multiplex, syscalls};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How many bits of an argument the kernel's function looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Width {
    /// An `int`: the upper half is whatever the program left in the register.
    Narrow,
    /// The whole register.
    Wide,
}

/// Arguments that the kernel cuts down to 32 bits. A comparison of 64 bits could be walked round by setting a bit
/// that the kernel then ignores (CVE-2019-10063, CVE-2019-7303: `ioctl` with `TIOCSTI`).
const INT_ARGUMENTS: [(&str, u32); 23] = [
    ("bpf", 0),
    ("fcntl", 0),
    ("fcntl", 1),
    ("ioctl", 0),
    ("ioctl", 1),
    ("kcmp", 2),
    ("keyctl", 0),
    ("kill", 1),
    ("madvise", 2),
    ("personality", 0),
    ("prctl", 0),
    ("seccomp", 0),
    ("seccomp", 1),
    ("setns", 1),
    ("setsockopt", 1),
    ("setsockopt", 2),
    ("shutdown", 1),
    ("socket", 0),
    ("socket", 1),
    ("socket", 2),
    ("socketcall", 0),
    ("socketpair", 0),
    ("ipc", 0),
];

/// A condition with the width it is compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Check {
    condition: Condition,
    width: Width,
}

/// What a call answers: the first group of checks that holds, else `otherwise`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Decision {
    groups: Vec<(Vec<Check>, Action)>,
    otherwise: Action,
}

/// What the rules say about one call, before it is put in order.
#[derive(Default)]
struct Gathered {
    always: Option<Action>,
    groups: Vec<(Vec<Check>, Action)>,
}

/// Compiles a policy; the first of its architectures is the native one.
pub(super) fn compile(policy: &Policy) -> Result<Vec<Instruction>, PolicyError> {
    let mut assembler = Assembler::default();
    let mut start = Target::Return(Action::KILL_PROCESS.0);
    for &arch in policy.archs.iter().rev() {
        // x32 is a part of x86-64's tree
        if arch == Arch::X32 {
            continue;
        }
        let tree = Tree::new(&ranges(policy, arch)).emit(&mut assembler);
        let tree = assembler.load(NUMBER, tree);
        start = assembler.test(Test::Equal(arch.audit()), tree, start);
    }
    let start = assembler.load(ARCH, start);
    let program = assembler.finish(start);
    if program.len() > MAX_INSTRUCTIONS {
        let instructions = program.len();
        return Err(PolicyError::TooLong { instructions });
    }
    Ok(program)
}

/// The decisions of all numbers that share an architecture's audit number, each from its first number on.
fn ranges(policy: &Policy, arch: Arch) -> Vec<(u32, Decision)> {
    let mut ranges = Vec::new();
    push_ranges(&mut ranges, policy, arch);
    if arch == Arch::X86_64 {
        if policy.archs.contains(&Arch::X32) {
            push_ranges(&mut ranges, policy, Arch::X32);
        } else {
            push(&mut ranges, X32_BIT, Decision::always(Action::KILL_PROCESS));
        }
    }
    ranges
}

fn push_ranges(ranges: &mut Vec<(u32, Decision)>, policy: &Policy, arch: Arch) {
    let gathered = gather(policy, arch);
    let mut next = arch.base();
    for (number, call) in gathered {
        if number > next {
            push(ranges, next, Decision::always(policy.default));
        }
        push(ranges, number, call.decide(policy.default));
        next = number + 1;
    }
    push(ranges, next, Decision::always(beyond(policy, arch, next)));
}

/// What calls answer that are newer than every call the profile's author named.
///
/// A program that probes for a new call falls back on `ENOSYS`, but takes `EPERM` for a refusal: so does runc.
fn beyond(policy: &Policy, arch: Arch, next: u32) -> Action {
    if policy.default.is_permissive() || next == arch.base() {
        return policy.default;
    }
    Action::ENOSYS
}

fn push(ranges: &mut Vec<(u32, Decision)>, number: u32, decision: Decision) {
    if ranges.last().is_none_or(|last| last.1 != decision) {
        ranges.push((number, decision));
    }
}

/// Sorts the rules by the numbers of the calls that they name.
fn gather(policy: &Policy, arch: Arch) -> BTreeMap<u32, Gathered> {
    let mut gathered: BTreeMap<u32, Gathered> = BTreeMap::new();
    for rule in &policy.rules {
        for name in &rule.names {
            if let Some(number) = syscalls::number(arch, name) {
                let call = gathered.entry(number + arch.base()).or_default();
                call.add(arch, name, &rule.alternatives, rule.action);
            }
            if arch == Arch::I386 && rule.alternatives.is_empty() {
                add_carried(&mut gathered, name, rule.action);
            }
        }
    }
    gathered
}

/// Extends an unconditional rule to the i386 call that carries the named one.
fn add_carried(gathered: &mut BTreeMap<u32, Gathered>, name: &str, action: Action) {
    let Some(carried) = multiplex::carried(name) else {
        return;
    };
    let Some(number) = syscalls::number(Arch::I386, carried.carrier) else {
        return;
    };
    let mask = carried.mask;
    let condition = Condition {
        index: 0,
        operator: Operator::MaskedEqual { mask },
        value: carried.value,
    };
    let call = gathered.entry(number).or_default();
    call.add(Arch::I386, carried.carrier, &[vec![condition]], action);
}

impl Gathered {
    fn add(&mut self, arch: Arch, name: &str, alternatives: &[Vec<Condition>], action: Action) {
        if alternatives.is_empty() {
            self.always.get_or_insert(action);
        }
        for group in alternatives {
            let checks = group
                .iter()
                .map(|&condition| Check {
                    condition,
                    width: width(arch, name, condition.index),
                })
                .collect();
            self.groups.push((checks, action));
        }
    }

    /// Puts the strictest first and leaves out what an unconditional rule outdoes.
    fn decide(mut self, default: Action) -> Decision {
        if let Some(always) = self.always {
            self.groups
                .retain(|group| group.1.strictness() < always.strictness());
        }
        // stable: of equally strict rules the profile's first one answers
        self.groups.sort_by_key(|group| group.1.strictness());
        let otherwise = self.always.unwrap_or(default);
        while self.groups.last().is_some_and(|last| last.1 == otherwise) {
            self.groups.pop();
        }
        Decision {
            groups: self.groups,
            otherwise,
        }
    }
}

/// Tells how wide an argument of a call is.
pub(super) fn width(arch: Arch, name: &str, index: u32) -> Width {
    if arch.has_narrow_arguments() || INT_ARGUMENTS.contains(&(name, index)) {
        return Width::Narrow;
    }
    Width::Wide
}

impl Decision {
    const fn always(action: Action) -> Self {
        Self {
            groups: Vec::new(),
            otherwise: action,
        }
    }

    fn emit(&self, assembler: &mut Assembler) -> Target {
        let mut next = Target::Return(self.otherwise.0);
        for (checks, action) in self.groups.iter().rev() {
            let mut body = Target::Return(action.0);
            for check in checks.iter().rev() {
                body = check.emit(assembler, body, next);
            }
            next = body;
        }
        next
    }
}

impl Check {
    fn emit(&self, assembler: &mut Assembler, yes: Target, no: Target) -> Target {
        let value = self.condition.value;
        match self.condition.operator {
            Operator::Equal => self.equal(assembler, u64::MAX, value, yes, no),
            Operator::NotEqual => self.equal(assembler, u64::MAX, value, no, yes),
            Operator::MaskedEqual { mask } => self.equal(assembler, mask, value, yes, no),
            Operator::Greater => self.order(assembler, Test::Greater, yes, no),
            Operator::LessOrEqual => self.order(assembler, Test::Greater, no, yes),
            Operator::GreaterOrEqual => self.order(assembler, Test::GreaterOrEqual, yes, no),
            Operator::Less => self.order(assembler, Test::GreaterOrEqual, no, yes),
        }
    }

    fn equal(
        &self,
        assembler: &mut Assembler,
        mask: u64,
        value: u64,
        yes: Target,
        no: Target,
    ) -> Target {
        let mut half = |offset, mask, value, yes| {
            if mask == 0 {
                return yes;
            }
            let mut test = assembler.test(Test::Equal(value), yes, no);
            if mask != u32::MAX {
                test = assembler.and(mask, test);
            }
            assembler.load(offset, test)
        };
        let first = half(self.low(), low(mask), low(value), yes);
        match self.width {
            Width::Narrow => first,
            Width::Wide => half(self.high(), high(mask), high(value), first),
        }
    }

    fn order(
        &self,
        assembler: &mut Assembler,
        compare: fn(u32) -> Test,
        yes: Target,
        no: Target,
    ) -> Target {
        let value = self.condition.value;
        let test = assembler.test(compare(low(value)), yes, no);
        let first = assembler.load(self.low(), test);
        match self.width {
            Width::Narrow => first,
            Width::Wide => {
                let same = assembler.test(Test::Equal(high(value)), first, no);
                let test = assembler.test(Test::Greater(high(value)), yes, same);
                assembler.load(self.high(), test)
            }
        }
    }

    /// The offset of the argument's lower half; every architecture of ours is little endian.
    const fn low(&self) -> u32 {
        ARGUMENTS + 8 * self.condition.index
    }

    const fn high(&self) -> u32 {
        self.low() + 4
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn low(value: u64) -> u32 {
    value as u32
}

const fn high(value: u64) -> u32 {
    low(value >> 32)
}

/// A binary search over ranges; equal decisions share their code.
struct Tree<'a> {
    ranges: &'a [(u32, Decision)],
    written: HashMap<&'a Decision, Target>,
}

impl<'a> Tree<'a> {
    fn new(ranges: &'a [(u32, Decision)]) -> Self {
        Self {
            ranges,
            written: HashMap::new(),
        }
    }

    fn emit(mut self, assembler: &mut Assembler) -> Target {
        self.node(assembler, self.ranges)
    }

    fn node(&mut self, assembler: &mut Assembler, ranges: &'a [(u32, Decision)]) -> Target {
        if let [only] = ranges {
            return self.leaf(assembler, &only.1);
        }
        let (left, right) = ranges.split_at(ranges.len() / 2);
        // the parser never makes an empty list: each architecture has at least what lies beyond its calls
        let first = right.first().map_or(0, |range| range.0);
        let yes = self.node(assembler, right);
        let no = self.node(assembler, left);
        assembler.test(Test::GreaterOrEqual(first), yes, no)
    }

    fn leaf(&mut self, assembler: &mut Assembler, decision: &'a Decision) -> Target {
        if decision.groups.is_empty() {
            return Target::Return(decision.otherwise.0);
        }
        *self
            .written
            .entry(decision)
            .or_insert_with(|| decision.emit(assembler))
    }
}
