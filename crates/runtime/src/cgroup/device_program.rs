//! The device rules of a v2 cgroup as a program of extended BPF.
//!
//! The kernel asks it for every open and mknod with `struct bpf_cgroup_dev_ctx`: kind and access in one word, then
//! major and minor number. Rules are asked from the last to the first; each takes the bits it decides on out of
//! those that are still open, so that `c 1:3 r` after `c 1:3 w` allows reading and writing together.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use sys::bpf::{Attach, Instruction};

use super::device::{Access, Kind, Policy, Rule, Verdict};
use super::error::CgroupError;

const ANSWER: u8 = 0;
/// The context at first, scratch once it is read.
const CONTEXT: u8 = 1;
/// The bits of the access that no rule has decided on yet.
const OPEN: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_WORD: u8 = 0x61;
const MOV_REGISTER: u8 = 0xbf;
const MOV: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

fn step(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate,
    }
}

fn from(source: u8, target: u8) -> u8 {
    source << 4 | target
}

/// Writes the program of a policy.
pub(super) fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut program = vec![
        step(LOAD_WORD, from(CONTEXT, OPEN), 0, 0),
        step(MOV_REGISTER, from(OPEN, KIND), 0, 0),
        step(AND, KIND, 0, 0xffff),
        step(SHIFT_RIGHT, OPEN, 0, 16),
        step(LOAD_WORD, from(CONTEXT, MAJOR), 4, 0),
        step(LOAD_WORD, from(CONTEXT, MINOR), 8, 0),
    ];
    for rule in policy.rules.iter().rev() {
        write_rule(&mut program, rule);
    }
    program.extend(answer(policy.default));
    program
}

fn answer(verdict: Verdict) -> [Instruction; 2] {
    let value = match verdict {
        Verdict::Allow => 1,
        Verdict::Deny => 0,
    };
    [step(MOV, ANSWER, 0, value), step(EXIT, 0, 0, 0)]
}

fn write_rule(program: &mut Vec<Instruction>, rule: &Rule) {
    let body = body(rule);
    let kind = match rule.nodes.kind {
        Kind::Char => CHAR,
        Kind::Block => BLOCK,
    };
    let number = |number: u32| number.cast_signed();
    let mut conditions = vec![(KIND, kind)];
    conditions.extend(rule.nodes.major.map(|major| (MAJOR, number(major))));
    conditions.extend(rule.nodes.minor.map(|minor| (MINOR, number(minor))));
    let mut left = conditions.len() + body.len();
    for (register, value) in conditions {
        left -= 1;
        // at most three conditions and five steps
        let skip = i16::try_from(left).unwrap_or(i16::MAX);
        program.push(step(JUMP_NOT_EQUAL, register, skip, value));
    }
    program.extend(body);
}

/// What a rule does with an access to its nodes.
fn body(rule: &Rule) -> Vec<Instruction> {
    let bits = i32::from(rule.access.0);
    let mut body = match (rule.access, rule.verdict) {
        (Access::ALL, _) => Vec::new(),
        (_, Verdict::Allow) => vec![step(AND, OPEN, 0, !bits), step(JUMP_NOT_EQUAL, OPEN, 2, 0)],
        (_, Verdict::Deny) => vec![
            step(MOV_REGISTER, from(OPEN, CONTEXT), 0, 0),
            step(AND, CONTEXT, 0, bits),
            step(JUMP_EQUAL, CONTEXT, 2, 0),
        ],
    };
    body.extend(answer(rule.verdict));
    body
}

/// Puts a policy's program on a cgroup in the place of what it had.
pub(super) fn install(policy: &Policy, dir: &Path) -> Result<(), CgroupError> {
    let failure = |step| {
        move |source: Errno| CgroupError::DeviceProgram {
            step,
            path: dir.to_owned(),
            source,
        }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let cgroup = openat(CWD, dir, flags, Mode::empty()).map_err(failure("open for"))?;
    let old = sys::bpf::query_device_programs(&cgroup).map_err(failure("list"))?;
    let allows_all = policy.default == Verdict::Allow && policy.rules.is_empty();
    if !allows_all {
        let program = sys::bpf::load_device_program(&compile(policy)).map_err(failure("load"))?;
        // programs add up: the new one comes before the old ones go, so nothing is open in between
        sys::bpf::attach_device_program(&cgroup, &program, Attach::Multi)
            .map_err(failure("attach"))?;
    }
    for program in &old {
        sys::bpf::detach_device_program(&cgroup, program).map_err(failure("detach"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oci::runtime::DeviceRule;

    use super::super::device::default_rules;
    use super::*;

    const READ: u32 = 2;
    const WRITE: u32 = 4;
    const MKNOD: u32 = 1;

    /// Runs a program as the kernel would.
    fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let now = program[at];
            let target = usize::from(now.registers & 0xf);
            let source = usize::from(now.registers >> 4);
            let immediate = i64::from(now.immediate).cast_unsigned();
            let mut next = at + 1;
            let jump = next.saturating_add_signed(now.offset.into());
            match now.code {
                LOAD_WORD => {
                    assert_eq!(source, usize::from(CONTEXT));
                    let word = usize::try_from(now.offset).unwrap() / 4;
                    registers[target] = context[word].into();
                }
                MOV_REGISTER => registers[target] = registers[source],
                MOV => registers[target] = immediate,
                AND => registers[target] &= immediate,
                SHIFT_RIGHT => registers[target] >>= immediate,
                JUMP_EQUAL if registers[target] == immediate => next = jump,
                JUMP_NOT_EQUAL if registers[target] != immediate => next = jump,
                JUMP_EQUAL | JUMP_NOT_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("unknown instruction {other:#x}"),
            }
            at = next;
        }
    }

    fn allows(program: &[Instruction], kind: char, major: u32, minor: u32, access: u32) -> bool {
        let kind = if kind == 'c' { 2 } else { 1 };
        run(program, [access << 16 | kind, major, minor]) == 1
    }

    fn rule(text: &str) -> DeviceRule {
        let mut words = text.split(' ');
        let allow = words.next() == Some("allow");
        let kind = words.next().map(str::to_owned);
        let (major, minor) = words.next().unwrap().split_once(':').unwrap();
        DeviceRule {
            allow,
            kind,
            major: major.parse().ok(),
            minor: minor.parse().ok(),
            access: words.next().map(str::to_owned),
        }
    }

    fn program(rules: &[&str]) -> Vec<Instruction> {
        let rules: Vec<DeviceRule> = rules.iter().map(|text| rule(text)).collect();
        compile(&Policy::new(&rules).unwrap())
    }

    #[test]
    fn default_rules_allow_what_docker_allows() {
        let program = compile(&Policy::new(&default_rules()).unwrap());
        for (major, minor) in [
            (1, 3),
            (1, 5),
            (1, 7),
            (1, 8),
            (1, 9),
            (5, 0),
            (5, 1),
            (5, 2),
        ] {
            assert!(allows(&program, 'c', major, minor, READ | WRITE | MKNOD));
            assert!(!allows(&program, 'b', major, minor, READ));
        }
        assert!(allows(&program, 'c', 136, 77, READ | WRITE));
        assert!(allows(&program, 'b', 8, 0, MKNOD));
        assert!(!allows(&program, 'b', 8, 0, MKNOD | READ));
        assert!(!allows(&program, 'c', 1, 1, READ));
        assert!(!allows(&program, 'c', 10, 229, READ));
    }

    #[test]
    fn the_last_rule_wins_bit_by_bit() {
        let program = program(&[
            "deny a *:* rwm",
            "allow b 8:* rw",
            "deny b 8:1 w",
            "allow c 7:7 r",
            "allow c 7:7 w",
        ]);
        assert!(allows(&program, 'b', 8, 0, READ | WRITE));
        assert!(allows(&program, 'b', 8, 1, READ));
        assert!(!allows(&program, 'b', 8, 1, WRITE));
        assert!(!allows(&program, 'b', 8, 1, READ | WRITE));
        assert!(allows(&program, 'c', 7, 7, READ | WRITE));
        assert!(!allows(&program, 'c', 7, 8, READ));
    }

    #[test]
    fn privileged_is_everything_but_what_is_denied() {
        let program = program(&["deny c 1:3 rwm", "allow a *:* rwm", "deny b 8:16 r"]);
        assert!(allows(&program, 'c', 200, 1, READ | WRITE | MKNOD));
        assert!(!allows(&program, 'b', 8, 16, READ));
        assert!(allows(&program, 'b', 8, 16, WRITE));
    }

    #[test]
    fn agrees_with_a_plain_reading_of_any_rules() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..500 {
            let rules: Vec<String> = (0..random(8))
                .map(|_| {
                    let verdict = ["allow", "deny"][usize::try_from(random(2)).unwrap()];
                    let kind = ["a", "b", "c"][usize::try_from(random(3)).unwrap()];
                    let mut number = || ["*", "1", "2"][usize::try_from(random(3)).unwrap()];
                    let (major, minor) = (number(), number());
                    let access = ["r", "w", "rw", "rwm", "m"][usize::try_from(random(5)).unwrap()];
                    format!("{verdict} {kind} {major}:{minor} {access}")
                })
                .collect();
            let texts: Vec<&str> = rules.iter().map(String::as_str).collect();
            let program = program(&texts);
            for (kind, major, minor, access) in accesses() {
                let expect = (0..3).all(|bit| {
                    access & 1 << bit == 0 || plain(&texts, kind, major, minor, 1 << bit)
                });
                let told = allows(&program, kind, major, minor, access);
                assert_eq!(told, expect, "{rules:?}: {kind} {major}:{minor} {access}");
            }
        }
    }

    /// Numbers that the rules name, and 20, of which the runtime itself allows nothing.
    fn accesses() -> impl Iterator<Item = (char, u32, u32, u32)> {
        const NUMBERS: [u32; 3] = [1, 2, 20];
        let majors = ['b', 'c']
            .into_iter()
            .flat_map(|kind| NUMBERS.map(|major| (kind, major)));
        let nodes = majors.flat_map(|(kind, major)| NUMBERS.map(|minor| (kind, major, minor)));
        nodes
            .flat_map(|(kind, major, minor)| (1..8).map(move |access| (kind, major, minor, access)))
    }

    /// One bit of access by the rules' text, and by what every container may: make any node.
    fn plain(rules: &[&str], kind: char, major: u32, minor: u32, bit: u32) -> bool {
        if bit == MKNOD {
            return true;
        }
        let matching = rules.iter().rev().find(|text| {
            let rule = rule(text);
            let kinds = rule.kind.unwrap();
            let meets = |given: Option<i64>, number: u32| {
                given.is_none_or(|given| given == i64::from(number))
            };
            let letters = rule.access.unwrap();
            let letter = if bit == READ { 'r' } else { 'w' };
            (kinds == "a" || kinds.contains(kind))
                && meets(rule.major, major)
                && meets(rule.minor, minor)
                && letters.contains(letter)
        });
        matching.is_some_and(|text| text.starts_with("allow"))
    }

    #[test]
    fn the_kernel_takes_the_programs() {
        for rules in [
            &["deny a *:* rwm"][..],
            &["allow a *:* rwm", "deny b 8:0 w", "deny c *:3 rwm"],
        ] {
            match sys::bpf::load_device_program(&program(rules)) {
                Ok(_) => {}
                // not root
                Err(Errno::PERM) => return,
                Err(error) => panic!("{rules:?}: {error}"),
            }
        }
    }
}
