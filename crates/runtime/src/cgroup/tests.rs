//! Cgroups in a tree of plain files, which shows each write, and on this machine's kernel.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use oci::runtime::{BlockIo, Cpu, DeviceRule, Memory, Pids, ThrottleDevice};

use super::*;

/// A v2 tree of plain files: what is written to a file stays in it.
struct Fake {
    /// Removed with the value.
    _root: tempfile::TempDir,
    cgroup: Cgroup,
}

impl Fake {
    fn v2() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(
            root.path().join("cgroup.controllers"),
            "cpuset cpu io memory pids\n",
        )
        .unwrap();
        let hierarchies = Hierarchies::at(root.path(), Kind::V2).unwrap();
        let fake = Self::open(root, &hierarchies);
        for name in [
            "cpu.weight",
            "cpu.max",
            "cpuset.cpus",
            "cpuset.mems",
            "memory.max",
            "memory.low",
        ] {
            fake.put(name, "");
        }
        for name in [
            "memory.swap.max",
            "memory.high",
            "pids.max",
            "io.max",
            "io.weight",
            "cgroup.procs",
        ] {
            fake.put(name, "");
        }
        fake
    }

    fn v1(names: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "cpu,cpuacct",
            "memory",
            "blkio",
            "pids",
            "devices",
            "systemd",
        ] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let hierarchies = Hierarchies::at(root.path(), Kind::V1).unwrap();
        let fake = Self::open(root, &hierarchies);
        for name in names {
            fake.put(name, "");
        }
        fake
    }

    fn open(root: tempfile::TempDir, hierarchies: &Hierarchies) -> Self {
        let path = Path::new("/gorae/box");
        for hierarchy in hierarchies {
            fs::create_dir_all(hierarchy.root().join("gorae/box")).unwrap();
        }
        let cgroup = Cgroup::open(hierarchies, path).unwrap();
        Self {
            _root: root,
            cgroup,
        }
    }

    /// Where a file of a controller is, by its first word.
    fn file(&self, name: &str) -> PathBuf {
        let controller = match name.split('.').next().unwrap() {
            "cpu" | "cpuacct" => Controller::Cpu,
            "cpuset" => Controller::Cpuset,
            "memory" => Controller::Memory,
            "io" | "blkio" => Controller::Blkio,
            "devices" => Controller::Devices,
            _ => Controller::Pids,
        };
        self.cgroup.place(controller).unwrap().file(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    #[track_caller]
    fn check(&self, name: &str, expect: &str) {
        assert_eq!(
            fs::read_to_string(self.file(name)).unwrap(),
            expect,
            "{name}"
        );
    }

    fn apply(&mut self, resources: &Resources) -> Result<(), CgroupError> {
        self.cgroup.apply(resources)
    }

    fn memory(&mut self, limit: i64, swap: i64) -> Result<(), CgroupError> {
        self.apply(&memory(limit, swap))
    }
}

fn memory(limit: i64, swap: i64) -> Resources {
    Resources {
        memory: Some(Memory {
            limit: (limit != 0).then_some(limit),
            swap: (swap != 0).then_some(swap),
            ..Memory::default()
        }),
        ..Resources::default()
    }
}

fn cpu(cpu: Cpu) -> Resources {
    Resources {
        cpu: Some(cpu),
        ..Resources::default()
    }
}

#[test]
fn v2_takes_every_limit_in_its_own_form() {
    let mut fake = Fake::v2();
    let rate = |rate| {
        vec![ThrottleDevice {
            major: 8,
            minor: 16,
            rate,
        }]
    };
    fake.apply(&Resources {
        memory: Some(Memory {
            limit: Some(100 << 20),
            swap: Some(300 << 20),
            reservation: Some(50 << 20),
            swappiness: Some(10),
            disable_oom_killer: Some(true),
        }),
        cpu: Some(Cpu {
            shares: Some(1024),
            quota: Some(150_000),
            cpus: Some("0-1".to_owned()),
            mems: Some("0".to_owned()),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: 64 }),
        block_io: Some(BlockIo {
            weight: Some(1000),
            throttle_read_bps_device: rate(1000),
            ..BlockIo::default()
        }),
        unified: BTreeMap::from([("memory.high".to_owned(), "90M".to_owned())]),
        devices: Vec::new(),
    })
    .unwrap();
    fake.check("memory.max", "104857600");
    fake.check("memory.swap.max", "209715200");
    fake.check("memory.low", "52428800");
    fake.check("memory.high", "90M");
    fake.check("cpu.weight", "100");
    fake.check("cpu.max", "150000 100000");
    fake.check("cpuset.cpus", "0-1");
    fake.check("cpuset.mems", "0");
    fake.check("pids.max", "64");
    fake.check("io.weight", "10000");
    fake.check("io.max", "8:16 rbps=1000");
}

#[test]
fn v2_swap_is_the_sum_less_the_memory() {
    for (limit, sum, expect) in [
        (1000, 1000, "0"),
        (1000, -1, "max"),
        (-1, 0, "max"),
        (0, 1500, "500"),
    ] {
        let mut fake = Fake::v2();
        fake.put("memory.max", if limit == 0 { "1000\n" } else { "" });
        fake.memory(limit, sum).unwrap();
        fake.check("memory.swap.max", expect);
    }
    let mut fake = Fake::v2();
    fake.put("memory.max", "max");
    for (limit, sum) in [(-1, 1000), (1000, 999), (0, 1000)] {
        let error = fake.memory(limit, sum);
        assert!(
            matches!(error, Err(CgroupError::Limit { .. })),
            "{limit} {sum}"
        );
    }
    fs::remove_file(fake.file("memory.swap.max")).unwrap();
    fake.memory(1000, 1000).unwrap();
    assert!(matches!(
        fake.memory(1000, 1001),
        Err(CgroupError::Missing { .. })
    ));
}

#[test]
fn v2_keeps_the_half_of_cpu_max_that_is_not_told() {
    let mut fake = Fake::v2();
    fake.put("cpu.max", "20000 1\n");
    let period = Some(50_000);
    fake.apply(&cpu(Cpu {
        period,
        ..Cpu::default()
    }))
    .unwrap();
    fake.check("cpu.max", "20000 50000");
    fake.put("cpu.max", "");
    let quota = Some(-1);
    fake.apply(&cpu(Cpu {
        quota,
        ..Cpu::default()
    }))
    .unwrap();
    fake.check("cpu.max", "max 100000");
}

#[test]
fn v1_tells_a_missing_limit_of_swap() {
    let mut fake = Fake::v1(&[
        "memory.limit_in_bytes",
        "memory.swappiness",
        "memory.oom_control",
    ]);
    fake.memory(1000, 0).unwrap();
    fake.check("memory.limit_in_bytes", "1000");
    let error = fake.memory(1000, 2000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a limit of swap needs the cgroup controller file \"memory.memsw.limit_in_bytes\", which this kernel does not have"
    );
    let wish = Memory {
        swappiness: Some(60),
        disable_oom_killer: Some(true),
        ..Memory::default()
    };
    fake.apply(&Resources {
        memory: Some(wish),
        ..Resources::default()
    })
    .unwrap();
    fake.check("memory.swappiness", "60");
    fake.check("memory.oom_control", "1");
}

#[test]
fn nothing_is_written_outside() {
    let mut fake = Fake::v2();
    for name in ["../pids.max", "cgroup/x.y", "procs"] {
        let unified = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        let error = fake.apply(&Resources {
            unified,
            ..Resources::default()
        });
        assert!(matches!(error, Err(CgroupError::Limit { .. })), "{name}");
    }
    let hierarchies = fake.cgroup.hierarchies.clone();
    for path in ["/", "", "a/../..", "../x"] {
        let error = Cgroup::open(&hierarchies, Path::new(path)).unwrap_err();
        assert!(matches!(error, CgroupError::Path { .. }), "{path}");
    }
    let error = Cgroup::open(&hierarchies, Path::new("/gorae/none")).unwrap_err();
    assert!(matches!(error, CgroupError::Absent { .. }));
}

#[test]
fn v2_figures() {
    let fake = Fake::v2();
    fake.put("cpu.stat", "usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 3\nnr_throttled 1\nthrottled_usec 9\n");
    fake.put("memory.current", "4096\n");
    fake.put("memory.max", "max\n");
    fake.put("memory.peak", "8192\n");
    fake.put("memory.stat", "anon 1\nfile 2\n");
    fake.put("memory.events", "low 0\noom 2\noom_kill 1\n");
    fake.put("pids.current", "5\n");
    fake.put("pids.max", "100\n");
    fake.put(
        "io.stat",
        "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    );
    let stats = fake.cgroup.stats().unwrap();
    assert_eq!(
        (stats.cpu.total, stats.cpu.user, stats.cpu.kernel),
        (12_000, 7000, 5000)
    );
    assert_eq!(stats.cpu.throttling.throttled_time, 9000);
    assert_eq!(
        (
            stats.memory.usage,
            stats.memory.limit,
            stats.memory.max_usage
        ),
        (4096, None, Some(8192))
    );
    assert!(stats.memory.pairs().eq([("anon", 1), ("file", 2)]));
    assert_eq!(fake.cgroup.oom_kills(), Ok(1));
    assert_eq!(
        stats.pids,
        PidsStats {
            current: 5,
            limit: Some(100)
        }
    );
    let told: Vec<_> = stats
        .block
        .bytes
        .iter()
        .map(|one| (one.op.as_str(), one.value))
        .collect();
    assert_eq!(told, [("read", 1), ("write", 2)]);
    let text = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), stats);
}

#[test]
fn v1_figures() {
    let fake = Fake::v1(&[]);
    fake.put("cpuacct.usage", "100\n");
    fake.put("cpuacct.usage_user", "60\n");
    fake.put("cpuacct.usage_sys", "40\n");
    fake.put("cpuacct.usage_percpu", "70 30 \n");
    fake.put(
        "cpu.stat",
        "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n",
    );
    fake.put("memory.usage_in_bytes", "4096\n");
    fake.put("memory.max_usage_in_bytes", "9000\n");
    fake.put("memory.limit_in_bytes", "9223372036854771712\n");
    fake.put("memory.failcnt", "4\n");
    fake.put("cpu.cfs_quota_us", "50000\n");
    fake.put("memory.stat", "cache 1\ntotal_rss 2\n");
    fake.put(
        "memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n",
    );
    fake.put("pids.current", "5\n");
    fake.put("pids.max", "max\n");
    fake.put(
        "blkio.throttle.io_service_bytes",
        "8:0 Read 512\n8:0 Total 512\nTotal 512\n",
    );
    let stats = fake.cgroup.stats().unwrap();
    assert_eq!(stats.cpu.per_cpu, [70, 30]);
    assert_eq!(stats.cpu.throttling.throttled_time, 3);
    assert_eq!(stats.memory.limit, None);
    assert_eq!(stats.memory.failures, None, "nothing can be hit");
    assert_eq!(fake.cgroup.oom_kills(), Ok(6));
    assert_eq!(stats.pids.limit, None);
    fake.put("memory.limit_in_bytes", "67108864\n");
    fake.put("cpu.cfs_quota_us", "-1\n");
    let limited = fake.cgroup.stats().unwrap();
    assert_eq!(limited.memory.failures, Some(4));
    assert_eq!(
        limited.cpu.throttling.periods, 0,
        "without a quota nobody counts"
    );
    assert_eq!(stats.block.bytes.len(), 2);
    assert!(stats.block.requests.is_empty());
}

#[test]
fn v2_controllers_are_enabled_down_the_path() {
    let root = tempfile::tempdir().unwrap();
    let controllers = "cpu memory\n";
    let put = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("cgroup.controllers", controllers);
    put("cgroup.subtree_control", "cpu\n");
    put("a/cgroup.subtree_control", "");
    put("a/b/cgroup.controllers", "");
    let hierarchies = Hierarchies::at(root.path(), Kind::V2).unwrap();
    // a plain folder that is not empty cannot be replaced, so the leaf is opened by its parts
    let told = Cgroup::create(&hierarchies, Path::new("a/b")).unwrap_err();
    assert!(matches!(told, CgroupError::InUse { .. }));
    let hierarchy = hierarchies.iter().next().unwrap();
    create::enable_controllers(hierarchy, &root.path().join("a/b")).unwrap();
    let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
    assert_eq!(read("cgroup.subtree_control"), "+memory");
    assert_eq!(read("a/cgroup.subtree_control"), "+cpu +memory");
}

#[test]
fn v1_devices_are_told_as_differences() {
    let mut fake = Fake::v1(&["devices.allow", "devices.deny"]);
    fake.put("devices.list", "a *:* rwm\n");
    fake.cgroup.apply_devices(&default_device_rules()).unwrap();
    // a plain file keeps what is written through one descriptor
    let written = fs::read_to_string(fake.file("devices.allow")).unwrap();
    for rule in ["c 1:3 rwm", "c 5:1 rwm", "b *:* m", "c 136:* rwm"] {
        assert!(written.contains(rule), "{rule} in {written}");
    }
    fake.check("devices.deny", "a");

    fake.put("devices.deny", "");
    fake.cgroup.apply_devices(&default_device_rules()).unwrap();
    fake.check("devices.deny", "");

    let allow_all = DeviceRule {
        allow: true,
        ..DeviceRule::default()
    };
    fake.put("devices.allow", "");
    fake.cgroup.apply_devices(&[allow_all]).unwrap();
    fake.check("devices.allow", "");

    let deny = |allow, minor| DeviceRule {
        allow,
        kind: Some("b".to_owned()),
        major: Some(8),
        minor,
        access: Some("rw".to_owned()),
    };
    let error = fake
        .cgroup
        .apply_devices(&[deny(true, None), deny(false, Some(1))]);
    assert!(matches!(error, Err(CgroupError::DeviceOverlap { .. })));
}

#[test]
fn device_rules_that_say_nothing() {
    let mut fake = Fake::v1(&[]);
    let rule = |kind: &str, major, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: Some(major),
        minor: None,
        access: Some(access.to_owned()),
    };
    for rule in [
        rule("p", 1, "r"),
        rule("c", 5000, "r"),
        rule("c", 1, "rx"),
        rule("c", 1, ""),
    ] {
        let error = fake.cgroup.apply_devices(std::slice::from_ref(&rule));
        assert!(
            matches!(error, Err(CgroupError::DeviceRule { .. })),
            "{rule:?}"
        );
    }
}

/// A cgroup of this machine's kernel that is removed whatever happens.
struct Real(Option<Cgroup>);

impl Real {
    /// `None` where this process may not make cgroups.
    fn new() -> Option<Self> {
        Self::within(&Hierarchies::detect().ok()?)
    }

    /// In the v2 hierarchy alone, as if it were all there is; on a hybrid machine it has the core's abilities.
    fn new_v2() -> Option<Self> {
        let all = Hierarchies::detect().ok()?;
        let v2 = all.iter().find(|one| one.version() == Version::V2)?;
        Self::within(&Hierarchies::at(v2.root(), Kind::V2).ok()?)
    }

    fn within(hierarchies: &Hierarchies) -> Option<Self> {
        let path = unique_path();
        match Cgroup::create(hierarchies, &path) {
            Ok(cgroup) => Some(Self(Some(cgroup))),
            Err(error) => {
                eprintln!("no cgroups here, so this test shows nothing: {error}");
                None
            }
        }
    }

    fn get(&mut self) -> &mut Cgroup {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let Some(cgroup) = self.0.take() else { return };
        // whatever failed, the next step may still help
        cgroup.thaw().ok();
        cgroup.kill_all().ok();
        cgroup.delete().ok();
        for (hierarchy, _) in cgroup.directories() {
            let parent = cgroup.path().parent().unwrap();
            rustix::fs::rmdir(hierarchy.root().join(parent)).ok();
        }
    }
}

/// A cgroup in a parent of its own.
fn unique_path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/gorae-test-{}-{count}/box", std::process::id()))
}

/// A process that ends with its test.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_process_is_in_every_hierarchy() {
    let Some(mut real) = Real::new() else { return };
    let sleeper = Sleeper::new();
    let cgroup = real.get();
    cgroup.attach(sleeper.pid()).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()]);
    let path = Path::new("/").join(cgroup.path());
    let told = fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).unwrap();
    for line in told.lines() {
        assert!(line.ends_with(path.to_str().unwrap()), "{line}");
    }
    assert!(matches!(cgroup.delete(), Err(CgroupError::Delete { .. })));
    let again = Cgroup::create(&cgroup.hierarchies, cgroup.path()).unwrap_err();
    assert!(matches!(again, CgroupError::InUse { .. }));
}

#[test]
fn leftovers_are_made_anew() {
    let Some(mut real) = Real::new() else { return };
    let cgroup = real.get();
    cgroup.apply(&memory(64 << 20, 0)).unwrap();
    for (_, dir) in cgroup.directories() {
        fs::create_dir(dir.join("child")).unwrap();
    }
    let again = Cgroup::create(&cgroup.hierarchies, cgroup.path()).unwrap();
    assert_eq!(again.stats().unwrap().memory.limit, None);
    assert_eq!(
        cgroup
            .dirs
            .iter()
            .filter(|dir| file::exists(&dir.join("child")))
            .count(),
        0
    );
}

#[test]
fn limits_rise_and_fall() {
    let Some(mut real) = Real::new() else { return };
    let cgroup = real.get();
    let swap = cgroup.hierarchies.support().swap;
    for (limit, sum) in [(64, 128), (256, 512), (32, 32), (512, -1), (-1, 0)] {
        let bytes = |mebi: i64| if mebi > 0 { mebi << 20 } else { mebi };
        let sum = if swap { bytes(sum) } else { 0 };
        cgroup.apply(&memory(bytes(limit), sum)).unwrap();
        let told = cgroup.stats().unwrap().memory.limit;
        assert_eq!(told, u64::try_from(bytes(limit)).ok(), "{limit}");
    }
    cgroup
        .apply(&Resources {
            pids: Some(Pids { limit: 7 }),
            cpu: Some(Cpu {
                shares: Some(512),
                quota: Some(20_000),
                period: Some(50_000),
                cpus: Some("0".to_owned()),
                ..Cpu::default()
            }),
            ..Resources::default()
        })
        .unwrap();
    assert_eq!(cgroup.stats().unwrap().pids.limit, Some(7));
    cgroup
        .apply(&Resources {
            pids: Some(Pids { limit: -1 }),
            ..Resources::default()
        })
        .unwrap();
    assert_eq!(cgroup.stats().unwrap().pids.limit, None);
}

#[test]
fn a_name_changes_under_its_processes() {
    let Some(mut real) = Real::new() else { return };
    let sleeper = Sleeper::new();
    let cgroup = real.get();
    cgroup.attach(sleeper.pid()).unwrap();
    let target = Path::new("/").join(cgroup.path()).with_file_name("renamed");
    let renamed = cgroup.rename(&target);
    if cgroup.hierarchies.kind() == Kind::V2 {
        assert!(matches!(renamed, Err(CgroupError::Unsupported { .. })));
        return;
    }
    renamed.unwrap();
    let elsewhere = cgroup.rename(&target.join("below"));
    assert!(matches!(elsewhere, Err(CgroupError::Unsupported { .. })));
    assert_eq!(Path::new("/").join(cgroup.path()), target);
    assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()]);
    let found = Cgroup::open(&cgroup.hierarchies, &target).unwrap();
    assert_eq!(found.dirs, cgroup.dirs);
    cgroup.kill_all().unwrap();
    drop(sleeper);
    cgroup.delete().unwrap();
    assert!(cgroup.dirs.iter().all(|dir| !file::exists(dir)));
}

#[test]
fn frozen_processes_can_be_killed() {
    kill_frozen(Real::new());
}

#[test]
fn frozen_processes_can_be_killed_on_v2() {
    kill_frozen(Real::new_v2());
}

fn kill_frozen(real: Option<Real>) {
    let Some(mut real) = real else { return };
    let mut sleeper = Sleeper::new();
    let cgroup = real.get();
    cgroup.attach(sleeper.pid()).unwrap();
    assert_eq!(cgroup.is_frozen(), Ok(false));
    cgroup.freeze().unwrap();
    assert_eq!(cgroup.is_frozen(), Ok(true));
    cgroup.thaw().unwrap();
    assert_eq!(cgroup.is_frozen(), Ok(false));
    cgroup.freeze().unwrap();
    // a zombie leaves its cgroup when it is waited for
    let waiter = std::thread::spawn(move || {
        let status = sleeper.0.wait().unwrap();
        drop(sleeper);
        status
    });
    cgroup.kill_all().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&waiter.join().unwrap()),
        Some(9)
    );
    cgroup.delete().unwrap();
    cgroup.delete().unwrap();
}

#[test]
fn processes_in_cgroups_of_the_containers_own_are_found() {
    let Some(mut real) = Real::new() else { return };
    let mut sleeper = Sleeper::new();
    let cgroup = real.get();
    let child = Cgroup::create(&cgroup.hierarchies, &cgroup.path().join("inner")).unwrap();
    child.attach(sleeper.pid()).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()]);
    let waiter = std::thread::spawn(move || {
        sleeper.0.wait().unwrap();
        drop(sleeper);
    });
    cgroup.kill_all().unwrap();
    waiter.join().unwrap();
    cgroup.delete().unwrap();
    assert!(cgroup.dirs.iter().all(|dir| !file::exists(dir)));
}

#[test]
fn device_rules_hold() {
    hold_devices(Real::new());
}

#[test]
fn device_rules_hold_on_v2() {
    hold_devices(Real::new_v2());
}

fn hold_devices(real: Option<Real>) {
    let Some(mut real) = real else { return };
    let cgroup = real.get();
    cgroup.apply_devices(&default_device_rules()).unwrap();
    // makes a node outside the rules in its own folder and reads it, and one inside them
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("kmsg");
    let made = rustix::fs::mknodat(
        CWD,
        &node,
        rustix::fs::FileType::CharacterDevice,
        Mode::from_raw_mode(0o600),
        rustix::fs::makedev(1, 11),
    );
    if made.is_err() || fs::File::open(&node).is_err() {
        eprintln!("no device nodes here, so this test shows nothing");
        return;
    }
    let script = "read x; true < /dev/null || exit 2; true < \"$0\" && exit 3; exit 0";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(&node)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cgroup.attach(i32::try_from(child.id()).unwrap()).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
    let status = child.wait().unwrap();
    assert!(
        status.code().is_some_and(|code| code != 2 && code != 3),
        "{status}"
    );
}

#[test]
fn a_kill_for_lack_of_memory_is_counted() {
    let Some(mut real) = Real::new() else { return };
    let cgroup = real.get();
    let limit = 8 << 20;
    let sum = if cgroup.hierarchies.support().swap {
        limit
    } else {
        0
    };
    cgroup.apply(&memory(limit, sum)).unwrap();
    assert_eq!(cgroup.oom_kills(), Ok(0));
    let mut child = Command::new("sh")
        .args(["-c", "read x; exec tail /dev/zero"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cgroup.attach(i32::try_from(child.id()).unwrap()).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    assert_eq!(cgroup.oom_kills(), Ok(1));
}

#[test]
fn a_v2_directory_takes_one_program_at_a_time() {
    let Some(mut real) = Real::new_v2() else {
        return;
    };
    let cgroup = real.get();
    let count = |cgroup: &Cgroup| {
        let dir = cgroup.v2_dir().unwrap();
        sys::bpf::query_device_programs(&dir).unwrap().len()
    };
    assert_eq!(count(cgroup), 0);
    cgroup.apply_devices(&default_device_rules()).unwrap();
    assert_eq!(count(cgroup), 1);
    cgroup.apply_devices(&[]).unwrap();
    assert_eq!(count(cgroup), 1);
    let allow_all = DeviceRule {
        allow: true,
        ..DeviceRule::default()
    };
    cgroup.apply_devices(&[allow_all]).unwrap();
    assert_eq!(count(cgroup), 0);
}

#[test]
fn sweeping_takes_what_is_empty_and_unknown() {
    let Some(mut real) = Real::new() else { return };
    let sleeper = Sleeper::new();
    let cgroup = real.get();
    let child =
        |name: &str| Cgroup::create(&cgroup.hierarchies, &cgroup.path().join(name)).unwrap();
    let (kept, busy, stale) = (child("kept"), child("busy"), child("stale"));
    busy.attach(sleeper.pid()).unwrap();
    let stay = sweep(&cgroup.hierarchies, cgroup.path(), &|name| name == "kept").unwrap();
    assert_eq!(stay, busy.dirs);
    assert!(kept.dirs.iter().all(|dir| file::exists(dir)));
    assert!(stale.dirs.iter().all(|dir| !file::exists(dir)));
}

#[test]
fn only_what_is_quite_empty_is_taken_for_stale() {
    let Some(mut real) = Real::new() else { return };
    let sleeper = Sleeper::new();
    let cgroup = real.get();
    let child =
        |name: &str| Cgroup::create(&cgroup.hierarchies, &cgroup.path().join(name)).unwrap();
    let (stale, other, busy) = (child("stale"), child("other"), child("stale-busy"));
    let above = child("stale-above/below");
    busy.attach(sleeper.pid()).unwrap();
    let is_stale = |name: &OsStr| name.to_string_lossy().starts_with("stale");
    sweep_empty(&cgroup.hierarchies, cgroup.path(), &is_stale).unwrap();
    let stays = |cgroup: &Cgroup| cgroup.dirs.iter().all(|dir| file::exists(dir));
    assert!(stale.dirs.iter().all(|dir| !file::exists(dir)));
    assert!(stays(&other) && stays(&busy) && stays(&above));
}

#[test]
fn names_of_a_process() {
    let text = "5:pids:/gorae/0a/abc\n4:memory:/gorae/0a/abc/init.scope\n3:cpu:/elsewhere\n0::/gorae/0a/warm-1\nodd\n";
    let names = super::names_in(text, Path::new("gorae/0a"));
    assert_eq!(names, ["abc", "warm-1"]);
    assert!(super::names_in(text, Path::new("gorae/0")).is_empty());
    assert!(super::names_of(i32::MAX, Path::new("/gorae")).is_empty());
}
