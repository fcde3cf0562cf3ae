//! A container and its cgroup.

use oci::runtime::{Memory, NamespaceKind, Pids};
use runtime::cgroup::Hierarchies;
use runtime::{Fds, PrepareOptions, prepare};

use super::Test;
use super::bed::{Bed, Container, spec, streams};

pub(crate) const TESTS: &[Test] = &[
    ("cgroups::the_view_of_a_namespace", the_view_of_a_namespace),
    ("cgroups::the_view_of_the_host", the_view_of_the_host),
    ("cgroups::moves_to_its_own_place", moves_to_its_own_place),
    ("cgroups::limits_hold", limits_hold),
];

fn the_view_of_a_namespace() {
    let bed = Bed::new("cg-own");
    let output =
        bed.shell("cat /proc/self/cgroup; ls /sys/fs/cgroup; (touch /sys/fs/cgroup/x) 2>&1");
    let name = bed.cgroup.to_str().unwrap();
    assert!(!output.text.contains(name), "{output:?}");
    assert!(output.text.contains("Read-only"), "{output:?}");
}

fn the_view_of_the_host() {
    let bed = Bed::new("cg-host");
    let mut spec = spec(&[
        "/bin/sh",
        "-c",
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/*/cgroup.procs",
    ]);
    let is_cgroup = |kind| kind == NamespaceKind::Cgroup;
    spec.linux
        .namespaces
        .retain(|namespace| !is_cgroup(namespace.kind));
    let output = bed.run(&spec);
    assert!(
        output.text.contains(bed.cgroup.to_str().unwrap()),
        "{output:?}"
    );
    assert!(output.text.lines().any(|line| line == "1"), "{output:?}");
}

fn moves_to_its_own_place() {
    let bed = Bed::new("cg-moved");
    let mut spec = spec(&["/bin/sleep", "600"]);
    spec.linux.cgroups_path = Some(bed.cgroup.clone());
    let warm = format!("{}-warm", bed.cgroup.display());
    let options = PrepareOptions::for_spec(&spec, warm.clone().into());
    let created = prepare(&options)
        .unwrap()
        .create(&bed.order(spec), Fds::default());
    let container = Container::of(created.unwrap().start().unwrap());
    let pid = container.running().pid;
    let listed = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = format!("{}\n", bed.cgroup.display());
    let v1 = listed
        .lines()
        .filter(|line| !line.starts_with("0::"))
        .count();
    let moved = listed
        .split_inclusive('\n')
        .filter(|line| line.ends_with(&own))
        .count();
    assert!(moved >= v1.max(1), "{listed}");
    assert_eq!(container.running().cgroup.pids().unwrap(), [pid]);
    drop(container);
    assert!(bed.leftovers().is_empty());
    for hierarchy in Hierarchies::detect().unwrap().iter() {
        let left = hierarchy.root().join(warm.trim_start_matches('/'));
        assert!(!left.exists(), "{left:?}");
    }
}

fn limits_hold() {
    let bed = Bed::new("cg-limits");
    let command = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max; \
                   for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done";
    let mut spec = spec(&["/bin/sh", "-c", command]);
    spec.linux.resources.memory = Some(Memory {
        limit: Some(64 << 20),
        ..Memory::default()
    });
    spec.linux.resources.pids = Some(Pids { limit: 5 });
    let (reader, fds) = streams();
    let output = bed.start(&spec, fds).output(reader);
    assert!(output.text.contains("67108864"), "{output:?}");
    let refused = output.text.contains("Resource temporarily unavailable")
        || output.text.contains("can't fork");
    assert!(refused, "{output:?}");
}
