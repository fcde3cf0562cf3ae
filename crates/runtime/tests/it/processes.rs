//! What a container's process is given: user, limits, capabilities, filter, terminal, reaper.

use std::io::{Read as _, Write as _};

use oci::runtime::{ConsoleSize, NamespaceKind, Rlimit, User};
use runtime::{Fds, PrepareOptions};
use rustix::process::{Signal, pidfd_send_signal};

use super::Test;
use super::bed::{Bed, Output, args, spec, streams};

pub(crate) const TESTS: &[Test] = &[
    ("processes::user_and_groups", user_and_groups),
    (
        "processes::streams_belong_to_the_user",
        streams_belong_to_the_user,
    ),
    (
        "processes::user_and_groups_by_name",
        user_and_groups_by_name,
    ),
    ("processes::capabilities", capabilities),
    ("processes::filters", filters),
    ("processes::limits", limits),
    ("processes::signals_are_fresh", signals_are_fresh),
    ("processes::a_terminal", a_terminal),
    ("processes::exit_codes", exit_codes),
    ("processes::a_reaper", a_reaper),
    (
        "processes::a_reaper_with_a_terminal",
        a_reaper_with_a_terminal,
    ),
    (
        "processes::pid_namespace_of_another",
        pid_namespace_of_another,
    ),
];

fn web() -> User {
    User {
        uid: 33,
        gid: 44,
        umask: Some(0o027),
        additional_gids: vec![4, 5],
        ..User::default()
    }
}

fn user_and_groups() {
    let bed = Bed::new("user");
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "id -u; id -g; id -G; umask; echo $HOME; pwd",
    ]);
    spec.process.user = web();
    spec.process.cwd = "/srv".to_owned();
    let output = bed.run(&spec);
    assert_eq!(output.text, "33\n44\n44 4 5\n0027\n/var/www\n/srv\n");
}

fn user_and_groups_by_name() {
    let bed = Bed::new("user-name");
    let mut spec = spec(&["/bin/sh", "-c", "id -u; id -G; umask; echo $HOME"]);
    spec.process.user = User {
        username: Some("web".to_owned()),
        additional_groups: args(&["adm", "77", "root"]),
        ..web()
    };
    assert_eq!(bed.run(&spec).text, "33\n44 0 4 5 77\n0027\n/var/www\n");
    spec.process.user.username = Some("web:adm".to_owned());
    assert_eq!(bed.run(&spec).text, "33\n4 0 5 77\n0027\n/var/www\n");
    spec.process.user.additional_groups = args(&["staff"]);
    let error = bed.create(&spec, Fds::default()).unwrap_err();
    let text = "unable to find group staff: no matching entries in group file";
    assert_eq!(error.to_string(), text);
}

fn streams_belong_to_the_user() {
    let bed = Bed::new("streams");
    let mut spec = spec(&["/bin/sh", "-c", "echo again > /proc/self/fd/1"]);
    spec.process.user = web();
    assert_eq!(bed.run(&spec).text, "again\n");
}

const STATUS: &str = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status";

fn line<'a>(output: &'a Output, name: &str) -> &'a str {
    let find = |line: &&str| line.starts_with(name);
    let line = output.text.lines().find(find).unwrap();
    line.split_once('\t').unwrap().1
}

fn capabilities() {
    let bed = Bed::new("caps");
    let mut spec = spec(&["/bin/sh", "-c", STATUS]);
    let output = bed.run(&spec);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(line(&output, set), "00000000a80425fb");
    }
    assert_eq!(line(&output, "CapInh"), "0000000000000000");
    spec.process.user = web();
    let output = bed.run(&spec);
    assert_eq!(line(&output, "CapEff"), "0000000000000000");
    assert_eq!(line(&output, "CapPrm"), "0000000000000000");
    assert_eq!(line(&output, "CapBnd"), "00000000a80425fb");
    spec.process.capabilities = None;
    assert_eq!(line(&bed.run(&spec), "CapBnd"), "0000000000000000");
}

fn filters() {
    let bed = Bed::new("seccomp");
    let mut spec = spec(&["/bin/sh", "-c", &format!("{STATUS}; unshare -m true 2>&1")]);
    let set = runtime::capabilities::default_set();
    spec.linux.seccomp = Some(runtime::seccomp::default_profile(&set, (6, 1)));
    for (user, no_new_privileges) in [(0, false), (0, true), (33, false), (33, true)] {
        spec.process.user.uid = user;
        spec.process.no_new_privileges = no_new_privileges;
        let output = bed.run(&spec);
        assert_eq!(line(&output, "Seccomp"), "2");
        let expect = if no_new_privileges { "1" } else { "0" };
        assert_eq!(line(&output, "NoNewPrivs"), expect);
    }
}

fn limits() {
    let bed = Bed::new("limits");
    let command =
        "ulimit -n; ulimit -c; ulimit -Hn | grep -c unlimited; cat /proc/self/oom_score_adj";
    let mut spec = spec(&["/bin/sh", "-c", command]);
    let limit = |kind: &str, soft, hard| Rlimit {
        kind: kind.to_owned(),
        soft,
        hard,
    };
    // no process may open so many files: the kernel refuses it even to those with CAP_SYS_RESOURCE
    // or else it is lowered to what is permitted
    spec.process.rlimits = vec![
        limit("RLIMIT_NOFILE", 777, u64::from(u32::MAX)),
        limit("RLIMIT_CORE", 0, 0),
    ];
    spec.process.oom_score_adj = Some(500);
    assert_eq!(bed.run(&spec).text, "777\n0\n0\n500\n");
}

fn signals_are_fresh() {
    let bed = Bed::new("signals");
    sys::signal::block_all().unwrap();
    sys::signal::ignore(Signal::TERM).unwrap();
    let output = bed.run(&spec(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
    sys::signal::unblock_all().unwrap();
    let none = "0000000000000000";
    assert_eq!(output.text, format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"));
}

fn a_terminal() {
    let bed = Bed::new("tty");
    let command = "tty; stty size; stat -c '%u %a' /dev/pts/0; stat -c '%t' /dev/console; \
                   echo hi > /dev/console; read line; echo got $line";
    let mut spec = spec(&["/bin/sh", "-c", command]);
    spec.process.terminal = true;
    spec.process.user = web();
    spec.process.console_size = Some(ConsoleSize {
        height: 33,
        width: 99,
    });
    let mut container = bed.start(&spec, Fds::default());
    let mut console = container.take_console();
    console.write_all(b"word\n").unwrap();
    let output = container.output(console);
    let text = output.text.replace('\r', "");
    let lines: Vec<_> = text.lines().filter(|line| *line != "word").collect();
    let expect = ["/dev/pts/0", "33 99", "33 620", "88", "hi", "got word"];
    assert_eq!(lines, expect);
}

fn exit_codes() {
    let bed = Bed::new("exits");
    assert_eq!(bed.run(&spec(&["true"])).code, 0);
    assert_eq!(bed.shell("exit 255").code, 255);
    let container = bed.sleeper(&spec(&[]));
    pidfd_send_signal(&container.running().pidfd, Signal::KILL).unwrap();
    assert_eq!(container.wait(), 137);
}

fn with_reaper(bed: &Bed, command: &str, terminal: bool) -> super::bed::Container {
    let mut spec = spec(&["/bin/sh", "-c", command]);
    spec.process.terminal = terminal;
    let order = runtime::Order {
        own_devices: false,
        init: true,
        ..bed.order(spec.clone())
    };
    let created = bed.prepare(&spec).create(&order, Fds::default()).unwrap();
    super::bed::Container::of(created.start().unwrap())
}

fn a_reaper() {
    let bed = Bed::new("reaper");
    let command = "trap 'echo $(cat /proc/1/comm) $$ > /got; exit 3' TERM; \
                   (setsid sleep 0.1 &) ; echo > /up; while true; do sleep 0.05; done";
    let container = with_reaper(&bed, command, false);
    while !bed.path("upper/up").exists() {
        std::thread::yield_now();
    }
    pidfd_send_signal(&container.running().pidfd, Signal::TERM).unwrap();
    assert_eq!(container.wait(), 3);
    let got = std::fs::read_to_string(bed.path("upper/got")).unwrap();
    assert_eq!(got, "init 2\n");
    drop(container);
    let container = with_reaper(&bed, "kill -9 $$", false);
    assert_eq!(container.wait(), 137);
}

fn a_reaper_with_a_terminal() {
    let bed = Bed::new("reaper-tty");
    let mut container = with_reaper(&bed, "read line; echo got $line", true);
    let mut console = container.take_console();
    console.write_all(b"word\n").unwrap();
    let mut text = String::new();
    let _end = console.read_to_string(&mut text);
    assert!(text.contains("got word"), "{text}");
    assert_eq!(container.wait(), 0);
}

fn pid_namespace_of_another() {
    let bed = Bed::new("pid-first");
    let first = bed.sleeper(&spec(&[]));
    let second = Bed::new("pid-second");
    let mut spec = spec(&["/bin/sh", "-c", "echo $$; cat /proc/1/cmdline"]);
    let pid = first.running().pid;
    for namespace in &mut spec.linux.namespaces {
        let name = match namespace.kind {
            NamespaceKind::Pid => "pid",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Network => "net",
            _ => continue,
        };
        namespace.path = Some(format!("/proc/{pid}/ns/{name}").into());
    }
    spec.hostname = None;
    let options = PrepareOptions::for_spec(&spec, second.cgroup.clone());
    assert!(options.join_pid.is_some() && !options.new_pid && !options.new_ipc);
    let output = second.run(&spec);
    assert_eq!(output.text, "2\n/bin/sleep\x00600\0");
    // and the caller's own children are born where they were
    let (reader, fds) = streams();
    drop((reader, fds));
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(
        std::fs::read_link("/proc/self/ns/pid_for_children").unwrap(),
        own
    );
    let mut spec = super::bed::spec(&[]);
    spec.process.args = args(&["true"]);
    assert_eq!(second.run(&spec).code, 0);
}
