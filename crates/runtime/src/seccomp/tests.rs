//! The compiler against a plain reading of the profile, the default profile against Docker's, and the kernel.

use oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use sys::seccomp::Instruction;

use super::arch::X32_BIT;
use super::compile::{Width, width};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// What the kernel shows a filter of a call.
#[derive(Clone, Copy, Debug)]
struct Call {
    audit: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    fn new(arch: Arch, name: &str, args: &[u64]) -> Self {
        let number = syscalls::number(arch, name).unwrap() + arch.base();
        Self::numbered(arch, number, args)
    }

    fn numbered(arch: Arch, number: u32, args: &[u64]) -> Self {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        Self {
            audit: arch.audit(),
            number,
            args: all,
        }
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16.. if offset.is_multiple_of(4) && offset < 64 => {
                let arg = self.args[usize::try_from((offset - 16) / 8).unwrap()];
                let half = if offset.is_multiple_of(8) {
                    arg
                } else {
                    arg >> 32
                };
                u32::try_from(half & 0xffff_ffff).unwrap()
            }
            _ => panic!("load from {offset}"),
        }
    }
}

/// Runs a filter as the kernel would.
fn run(program: &[Instruction], call: &Call) -> u32 {
    let mut accumulator = 0u32;
    let mut at = 0usize;
    loop {
        let now = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { now.jt } else { now.jf });
        match now.code {
            0x20 => accumulator = call.word(now.k),
            0x54 => accumulator &= now.k,
            0x05 => at += usize::try_from(now.k).unwrap(),
            0x15 => at += branch(accumulator == now.k),
            0x25 => at += branch(accumulator > now.k),
            0x35 => at += branch(accumulator >= now.k),
            0x06 => return now.k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn answer(profile: &Seccomp, native: Arch, call: &Call) -> u32 {
    run(&compile_for(native, profile).unwrap().instructions, call)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn rule(names: &[&str], action: &str, args: &[(u32, &str, u64, u64)]) -> SeccompRule {
    SeccompRule {
        names: strings(names),
        action: action.to_owned(),
        errno_ret: None,
        args: args
            .iter()
            .map(|&(index, op, value, value_two)| SeccompArg {
                index,
                value,
                value_two,
                op: format!("SCMP_CMP_{op}"),
            })
            .collect(),
    }
}

fn profile(default: &str, syscalls: Vec<SeccompRule>) -> Seccomp {
    Seccomp {
        default_action: default.to_owned(),
        architectures: strings(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        syscalls,
        ..Seccomp::default()
    }
}

mod default_profile {
    use super::*;

    const X86: [Arch; 3] = [Arch::X86_64, Arch::I386, Arch::X32];

    #[track_caller]
    fn check(caps: &[&str], arch: Arch, name: &str, args: &[u64], expect: u32) {
        let native = if arch == Arch::Aarch64 {
            Arch::Aarch64
        } else {
            Arch::X86_64
        };
        let profile = profile::profile_for(native, &strings(caps), (6, 1));
        let told = answer(&profile, native, &Call::new(arch, name, args));
        assert_eq!(told, expect, "{arch:?} {name} {args:x?}");
    }

    #[test]
    fn allows_everyday_calls_on_every_interface() {
        for arch in X86 {
            for name in [
                "read",
                "openat",
                "execve",
                "futex",
                "exit_group",
                "mseal",
                "ptrace",
            ] {
                check(&[], arch, name, &[], ALLOW);
            }
        }
        check(&[], Arch::Aarch64, "read", &[], ALLOW);
        check(&[], Arch::I386, "socketcall", &[1], ALLOW);
        check(&[], Arch::X86_64, "modify_ldt", &[], ALLOW);
    }

    #[test]
    fn refuses_what_changes_the_machine() {
        for arch in X86 {
            for name in [
                "mount", "umount2", "unshare", "setns", "bpf", "reboot", "keyctl", "add_key",
            ] {
                check(&[], arch, name, &[], EPERM);
            }
            check(&[], arch, "io_uring_setup", &[], EPERM);
            check(&[], arch, "userfaultfd", &[], EPERM);
        }
    }

    #[test]
    fn capabilities_bring_their_calls() {
        for arch in X86 {
            check(&["CAP_SYS_ADMIN"], arch, "mount", &[], ALLOW);
            check(&["CAP_SYS_ADMIN"], arch, "clone", &[0x1000_0000], ALLOW);
            check(&["CAP_SYS_ADMIN"], arch, "clone3", &[], ALLOW);
            check(&["CAP_SYS_CHROOT"], arch, "chroot", &[], ALLOW);
            check(&["CAP_SYS_BOOT"], arch, "chroot", &[], EPERM);
            check(&["CAP_SYS_TIME"], arch, "clock_settime", &[], ALLOW);
            check(&["CAP_BPF"], arch, "bpf", &[], ALLOW);
        }
    }

    #[test]
    fn looks_at_arguments() {
        for arch in X86 {
            check(&[], arch, "clone", &[0x0100_0011], ALLOW);
            for flag in [
                0x2_0000,
                0x200_0000,
                0x400_0000,
                0x800_0000,
                0x1000_0000,
                0x2000_0000,
                0x4000_0000,
            ] {
                check(&[], arch, "clone", &[flag | 0x11], EPERM);
            }
            check(&[], arch, "clone3", &[], ENOSYS);
            for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
                check(&[], arch, "personality", &[persona], ALLOW);
            }
            check(&[], arch, "personality", &[0x4_0000], EPERM);
            check(&[], arch, "socket", &[2, 1], ALLOW);
            check(&[], arch, "socket", &[40, 1], EPERM);
            // the kernel sees AF_VSOCK here: the upper half is not part of an int
            check(&[], arch, "socket", &[0xabcd_0000_0028, 1], EPERM);
        }
    }

    #[test]
    fn ptrace_needs_a_kernel_that_filters_tracees() {
        let old = profile::profile_for(Arch::X86_64, &[], (4, 7));
        let call = Call::new(Arch::X86_64, "ptrace", &[]);
        assert_eq!(answer(&old, Arch::X86_64, &call), EPERM);
    }

    #[test]
    fn newer_calls_do_not_exist() {
        let profile = profile::profile_for(Arch::X86_64, &[], (6, 1));
        for (arch, number, expect) in [
            (Arch::X86_64, 466, ALLOW),
            (Arch::X86_64, 467, ENOSYS),
            (Arch::X86_64, 100_000, ENOSYS),
            (Arch::I386, 467, ENOSYS),
            (Arch::X86_64, 335, ALLOW),
            (Arch::X86_64, 400, EPERM),
            (Arch::X32, X32_BIT + 547, ALLOW),
            (Arch::X32, X32_BIT + 548, ENOSYS),
            (Arch::X32, X32_BIT + 470, EPERM),
            (Arch::X86_64, u32::MAX, ENOSYS),
        ] {
            let call = Call::numbered(arch, number, &[]);
            assert_eq!(
                answer(&profile, Arch::X86_64, &call),
                expect,
                "{arch:?} {number}"
            );
        }
    }

    #[test]
    fn other_architectures_are_killed() {
        let profile = profile::profile_for(Arch::X86_64, &[], (6, 1));
        let call = Call::numbered(Arch::Aarch64, 63, &[]);
        assert_eq!(answer(&profile, Arch::X86_64, &call), KILL);
        let alone = Seccomp {
            architectures: Vec::new(),
            ..profile
        };
        for arch in [Arch::I386, Arch::X32] {
            let call = Call::new(arch, "read", &[]);
            assert_eq!(answer(&alone, Arch::X86_64, &call), KILL, "{arch:?}");
        }
    }

    #[test]
    fn compiles_quickly_and_small() {
        let profile = profile::profile_for(Arch::X86_64, &[], (6, 1));
        let start = std::time::Instant::now();
        let program = compile_for(Arch::X86_64, &profile).unwrap();
        // about 0.3 ms optimised; this is a debug build on a busy machine
        assert!(start.elapsed().as_secs() < 20);
        assert!(
            program.instructions.len() < 1200,
            "{}",
            program.instructions.len()
        );
        assert!(
            unknown_calls(&profile)
                .iter()
                .all(|name| *name == "riscv_hwprobe")
        );
    }
}

mod differential {
    use super::*;

    const NAMES: [&str; 12] = [
        "read",
        "socket",
        "bind",
        "ioctl",
        "clone",
        "personality",
        "execve",
        "semget",
        "mseal",
        "send",
        "nonsense",
        "socketcall",
    ];
    const OPS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
    const ACTIONS: [&str; 7] = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRACE",
    ];
    const VALUES: [u64; 9] = [
        0,
        1,
        2,
        40,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x7e02_0000,
        u64::MAX,
    ];

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % limit
        }

        fn one<T: Copy>(&mut self, of: &[T]) -> T {
            of[self.below(of.len())]
        }

        fn rule(&mut self) -> SeccompRule {
            let names: Vec<&str> = (0..=self.below(3)).map(|_| self.one(&NAMES)).collect();
            let args: Vec<_> = (0..self.below(3))
                .map(|_| {
                    let index = u32::try_from(self.below(3)).unwrap();
                    (index, self.one(&OPS), self.one(&VALUES), self.one(&VALUES))
                })
                .collect();
            let mut made = rule(&names, self.one(&ACTIONS), &args);
            made.errno_ret = [None, Some(38), Some(4095)][self.below(3)];
            made
        }
    }

    /// What a profile says of a call, read rule by rule.
    fn plain(profile: &Seccomp, arch: Arch, call: &Call) -> u32 {
        let mut always = None;
        let mut strictest: Option<u32> = None;
        let mut holds = |action: u32| {
            if strictest.is_none_or(|old| rank(action) < rank(old)) {
                strictest = Some(action);
            }
        };
        for rule in &profile.syscalls {
            let told = action(&rule.action, rule.errno_ret);
            for name in &rule.names {
                if !matches(rule, name, arch, call) {
                    if arch == Arch::I386 && rule.args.is_empty() && is_carried(name, call) {
                        holds(told);
                    }
                } else if rule.args.is_empty() {
                    always.get_or_insert(told);
                } else {
                    holds(told);
                }
            }
        }
        let default = action(&profile.default_action, profile.default_errno_ret);
        match (always, strictest) {
            (Some(always), Some(other)) if rank(other) < rank(always) => other,
            (Some(always), _) => always,
            (None, Some(other)) => other,
            (None, None) if rank(default) >= rank(0x7ff0_0000) => default,
            (None, None) if is_beyond(profile, arch, call.number) => ENOSYS,
            (None, None) => default,
        }
    }

    fn rank(action: u32) -> i32 {
        (action & 0xffff_0000).cast_signed()
    }

    fn is_carried(name: &str, call: &Call) -> bool {
        multiplex::carried(name).is_some_and(|carried| {
            syscalls::number(Arch::I386, carried.carrier) == Some(call.number)
                && call.args[0] & carried.mask == carried.value
        })
    }

    fn is_beyond(profile: &Seccomp, arch: Arch, number: u32) -> bool {
        let mut named: Vec<u32> = Vec::new();
        for rule in &profile.syscalls {
            for name in &rule.names {
                named.extend(syscalls::number(arch, name).map(|number| number + arch.base()));
                if arch == Arch::I386 && rule.args.is_empty() {
                    let carried = multiplex::carried(name);
                    named.extend(
                        carried.and_then(|carried| syscalls::number(arch, carried.carrier)),
                    );
                }
            }
        }
        named
            .iter()
            .max()
            .is_some_and(|&greatest| number > greatest)
    }

    fn matches(rule: &SeccompRule, name: &str, arch: Arch, call: &Call) -> bool {
        if syscalls::number(arch, name).map(|number| number + arch.base()) != Some(call.number) {
            return false;
        }
        let mut indexes: Vec<u32> = rule.args.iter().map(|arg| arg.index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut conditions = rule.args.iter().map(|arg| {
            let at = usize::try_from(arg.index).unwrap();
            let cut = match width(arch, name, arg.index) {
                Width::Narrow => 0xffff_ffff,
                Width::Wide => u64::MAX,
            };
            let (told, value) = (call.args[at] & cut, arg.value & cut);
            match arg.op.strip_prefix("SCMP_CMP_").unwrap() {
                "EQ" => told == value,
                "NE" => told != value,
                "LT" => told < value,
                "LE" => told <= value,
                "GT" => told > value,
                "GE" => told >= value,
                _ => told & value == arg.value_two & value,
            }
        });
        if indexes.len() == rule.args.len() {
            conditions.all(|holds| holds)
        } else {
            conditions.any(|holds| holds)
        }
    }

    fn action(name: &str, errno: Option<u32>) -> u32 {
        let errno = errno.unwrap_or(1);
        match name {
            "SCMP_ACT_ALLOW" => ALLOW,
            "SCMP_ACT_ERRNO" => 0x0005_0000 | errno,
            "SCMP_ACT_KILL_PROCESS" => KILL,
            "SCMP_ACT_KILL_THREAD" => 0,
            "SCMP_ACT_TRAP" => 0x0003_0000,
            "SCMP_ACT_LOG" => 0x7ffc_0000,
            _ => 0x7ff0_0000 | errno,
        }
    }

    /// Equally strict answers differ in their errno only; which of several rules' errno is told has no meaning.
    fn same(told: u32, expect: u32) -> bool {
        told & 0xffff_0000 == expect & 0xffff_0000
    }

    #[test]
    fn agrees_with_a_plain_reading_of_any_profile() {
        let mut random = Random(42);
        for _ in 0..400 {
            let rules = (0..random.below(7)).map(|_| random.rule()).collect();
            let profile = profile(random.one(&ACTIONS), rules);
            let program = compile_for(Arch::X86_64, &profile).unwrap();
            for _ in 0..150 {
                let arch = random.one(&[Arch::X86_64, Arch::I386, Arch::X32]);
                let number = match syscalls::number(arch, random.one(&NAMES)) {
                    Some(number) => number + arch.base(),
                    None => u32::try_from(random.below(600)).unwrap() + arch.base(),
                };
                let args = [
                    random.one(&VALUES),
                    random.one(&VALUES),
                    random.one(&VALUES),
                ];
                let call = Call::numbered(arch, number, &args);
                let told = run(&program.instructions, &call);
                let expect = plain(&profile, arch, &call);
                assert!(
                    same(told, expect),
                    "{told:#x} for {expect:#x}: {profile:?} {call:x?}"
                );
            }
        }
    }

    #[test]
    fn long_programs_jump_far() {
        // every call with a decision of its own, so that shared answers are out of a comparison's reach
        let numbers = 0..330u32;
        let names: Vec<String> = numbers
            .clone()
            .filter_map(|number| name_of(number).map(str::to_owned))
            .collect();
        let rules: Vec<SeccompRule> = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let value = u64::try_from(at).unwrap() + 1000;
                rule(
                    &[name],
                    "SCMP_ACT_ERRNO",
                    &[(0, "EQ", value, 0), (5, "GE", value, 0)],
                )
            })
            .collect();
        let profile = Seccomp {
            architectures: Vec::new(),
            ..profile("SCMP_ACT_ALLOW", rules)
        };
        let program = compile_for(Arch::X86_64, &profile).unwrap();
        assert!(program.instructions.len() > 2000);
        for (at, name) in names.iter().enumerate() {
            let value = u64::try_from(at).unwrap() + 1000;
            for (first, last, expect) in [
                (value, value, EPERM),
                (value, u64::MAX, EPERM),
                (value, value - 1, ALLOW),
                (value - 1, value, ALLOW),
                (
                    value | 1 << 40,
                    value,
                    if width(Arch::X86_64, name, 0) == Width::Narrow {
                        EPERM
                    } else {
                        ALLOW
                    },
                ),
            ] {
                let call = Call::new(Arch::X86_64, name, &[first, 0, 0, 0, 0, last]);
                assert_eq!(
                    run(&program.instructions, &call),
                    expect,
                    "{name} {first:x} {last:x}"
                );
            }
        }
    }

    fn name_of(number: u32) -> Option<&'static str> {
        syscalls::name_for_tests(Arch::X86_64, number)
    }
}

mod semantics {
    use super::*;

    #[track_caller]
    fn check(rules: Vec<SeccompRule>, arch: Arch, name: &str, args: &[u64], expect: u32) {
        let profile = profile("SCMP_ACT_ERRNO", rules);
        let told = answer(&profile, Arch::X86_64, &Call::new(arch, name, args));
        assert_eq!(told, expect);
    }

    #[test]
    fn an_appended_refusal_holds() {
        let rules = || {
            vec![
                rule(&["socket"], "SCMP_ACT_ALLOW", &[(0, "NE", 40, 0)]),
                rule(&["socket"], "SCMP_ACT_KILL_PROCESS", &[(0, "EQ", 38, 0)]),
            ]
        };
        check(rules(), Arch::X86_64, "socket", &[38], KILL);
        check(rules(), Arch::X86_64, "socket", &[2], ALLOW);
        check(rules(), Arch::X86_64, "socket", &[40], EPERM);
    }

    #[test]
    fn rules_without_conditions_count_in_their_order() {
        let rules = || {
            vec![
                rule(&["setns"], "SCMP_ACT_ALLOW", &[]),
                rule(&["setns", "mount"], "SCMP_ACT_ERRNO", &[]),
                rule(&["mount"], "SCMP_ACT_ALLOW", &[]),
                rule(&["setns"], "SCMP_ACT_KILL_PROCESS", &[(1, "EQ", 1, 0)]),
            ]
        };
        check(rules(), Arch::X86_64, "setns", &[0, 0], ALLOW);
        check(rules(), Arch::X86_64, "setns", &[0, 1], KILL);
        check(rules(), Arch::X86_64, "mount", &[], EPERM);
    }

    #[test]
    fn a_refused_call_is_refused_in_its_carrier() {
        let rules = || {
            vec![
                rule(&["socketcall", "ipc"], "SCMP_ACT_ALLOW", &[]),
                rule(&["bind", "shmget"], "SCMP_ACT_KILL_PROCESS", &[]),
            ]
        };
        check(rules(), Arch::I386, "socketcall", &[2], KILL);
        check(rules(), Arch::I386, "socketcall", &[3], ALLOW);
        check(rules(), Arch::I386, "ipc", &[23 | 1 << 16], KILL);
    }

    #[test]
    fn several_conditions_on_one_argument_are_alternatives() {
        let rules = || {
            vec![rule(
                &["read"],
                "SCMP_ACT_ALLOW",
                &[(0, "EQ", 1, 0), (0, "EQ", 2, 0)],
            )]
        };
        check(rules(), Arch::X86_64, "read", &[1], ALLOW);
        check(rules(), Arch::X86_64, "read", &[2], ALLOW);
        check(rules(), Arch::X86_64, "read", &[3], EPERM);
    }

    #[test]
    fn refuses_words_that_mean_nothing() {
        let refused = |profile: &Seccomp| compile(profile).unwrap_err().to_string();
        let mut wrong = profile("SCMP_ACT_MAYBE", Vec::new());
        assert_eq!(
            refused(&wrong),
            "seccomp action \"SCMP_ACT_MAYBE\" is unknown"
        );
        wrong.default_action = "SCMP_ACT_NOTIFY".to_owned();
        assert_eq!(
            refused(&wrong),
            "seccomp action SCMP_ACT_NOTIFY is not supported"
        );
        wrong.default_action = "SCMP_ACT_ERRNO".to_owned();
        wrong.default_errno_ret = Some(4096);
        assert_eq!(
            refused(&wrong),
            "seccomp errno 4096 is out of range (0 to 4095)"
        );
        wrong.default_errno_ret = None;
        wrong.architectures.push("SCMP_ARCH_PDP11".to_owned());
        assert_eq!(
            refused(&wrong),
            "seccomp architecture \"SCMP_ARCH_PDP11\" is unknown"
        );
        wrong.architectures.pop();
        wrong.flags.push("SECCOMP_FILTER_FLAG_ODD".to_owned());
        assert_eq!(
            refused(&wrong),
            "seccomp flag \"SECCOMP_FILTER_FLAG_ODD\" is unknown"
        );
        wrong.flags.pop();
        wrong.syscalls = vec![rule(&["read"], "SCMP_ACT_ALLOW", &[(6, "EQ", 0, 0)])];
        assert_eq!(
            refused(&wrong),
            "seccomp argument index 6 is out of range (0 to 5)"
        );
        wrong.syscalls = vec![rule(&["read"], "SCMP_ACT_ALLOW", &[(0, "SAME", 0, 0)])];
        assert_eq!(
            refused(&wrong),
            "seccomp operator \"SCMP_CMP_SAME\" is unknown"
        );
    }

    #[test]
    fn refuses_a_program_that_the_kernel_would() {
        let rules = (0..2000).map(|at| rule(&["read"], "SCMP_ACT_LOG", &[(0, "EQ", at, 0)]));
        let profile = profile("SCMP_ACT_ALLOW", rules.collect());
        assert!(matches!(
            compile(&profile),
            Err(PolicyError::TooLong { .. })
        ));
    }
}

mod docker_json {
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "flags": null,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}
        ],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {}},
            {"name": "mount", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["breakpoint"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]}
        ]
    }"#;

    fn names(caps: &[&str], kernel: (u32, u32)) -> Vec<String> {
        let profile = from_docker_json(PROFILE.as_bytes(), &strings(caps), kernel).unwrap();
        profile
            .syscalls
            .into_iter()
            .flat_map(|rule| rule.names)
            .collect()
    }

    #[test]
    fn rules_hold_where_they_say() {
        assert_eq!(names(&[], (6, 1)), ["read", "clone3", "ptrace", "socket"]);
        assert_eq!(
            names(&["CAP_SYS_ADMIN"], (4, 7)),
            ["read", "mount", "socket"]
        );
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let refused = |text: &str| {
            from_docker_json(text.as_bytes(), &[], (6, 1))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused("["), "decode seccomp profile");
        assert!(refused(r#"{"defaultAction": "x", "architectures": ["a"], "archMap": [{"architecture": "b"}]}"#)
            .starts_with("both 'architectures' and 'archMap'"));
        assert!(
            refused(r#"{"syscalls": [{"name": "a", "names": ["b"], "action": "c"}]}"#)
                .starts_with("both 'name' and 'names'")
        );
        assert!(
            refused(
                r#"{"syscalls": [{"names": ["b"], "action": "c", "includes": {"minKernel": "4"}}]}"#
            )
            .starts_with("invalid kernel version")
        );
    }

    #[test]
    fn an_empty_profile_filters_nothing() {
        let profile = from_docker_json(b"{}", &[], (6, 1)).unwrap();
        for arch in [Arch::X86_64, Arch::I386, Arch::X32] {
            let call = Call::new(arch, "mount", &[]);
            assert_eq!(answer(&profile, Arch::X86_64, &call), ALLOW);
        }
    }
}

mod kernel {
    use std::os::fd::AsFd;

    use rustix::io::Errno;

    use super::*;

    /// A filter stays on its thread, so each test gives it to one that ends.
    fn filtered<T: Send + 'static>(
        program: Program,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            program.load(0).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    #[test]
    fn the_default_profile_holds() {
        let program = compile(&super::super::default_profile(&[], (6, 1))).unwrap();
        let (chroot, setns, other) = filtered(program, || {
            let chroot = rustix::process::chroot("/");
            let uts = std::fs::File::open("/proc/self/ns/uts").unwrap();
            let setns = rustix::thread::move_into_link_name_space(uts.as_fd(), None);
            // glibc makes a thread with clone3, gets ENOSYS and takes clone
            let other =
                std::thread::spawn(|| std::fs::read_to_string("/proc/thread-self/status").unwrap());
            (chroot, setns, other.join().unwrap())
        });
        assert_eq!(chroot, Err(Errno::PERM));
        assert_eq!(setns, Err(Errno::PERM));
        assert!(other.contains("Seccomp:\t2"));
    }

    #[test]
    fn answers_the_errno_that_is_told() {
        let mut refuse = rule(&["getpriority"], "SCMP_ACT_ERRNO", &[(1, "EQ", 0, 0)]);
        refuse.errno_ret = Some(42);
        let program = compile(&profile("SCMP_ACT_ALLOW", vec![refuse])).unwrap();
        let program = Program::from_bytes(&program.to_bytes()).unwrap();
        let told = filtered(program, || {
            let own = rustix::process::getpriority_process(None);
            let other = rustix::process::getpriority_process(Some(rustix::process::getpid()));
            (own, other.is_ok())
        });
        assert_eq!(told, (Err(Errno::from_raw_os_error(42)), true));
    }
}

#[test]
fn bytes_are_read_back() {
    let profile = super::default_profile(&[], (6, 1));
    let program = compile(&profile).unwrap();
    let bytes = program.to_bytes();
    assert_eq!(Program::from_bytes(&bytes), Ok(program));
    for damaged in [
        &bytes[..0],
        &bytes[..7],
        &bytes[..bytes.len() - 1],
        &bytes[1..],
    ] {
        let length = damaged.len();
        assert_eq!(Program::from_bytes(damaged), Err(FormatError { length }));
    }
}
