//! What a container sees, as groups of names and values.

use crate::cgroup::Cgroup;
use crate::network;
use crate::proc::{Mount, mounts, read, value};
use std::fs;

/// One line: what, and how it is here.
#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A group of facts under a title.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) facts: Vec<Fact>,
}

/// Bits of capabilities(7), from 0 on.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The titles of the sections, in order.
pub(crate) const TITLES: [&str; 6] = [
    "Container",
    "Namespaces",
    "Limits",
    "Root file system",
    "Network",
    "Privileges",
];

/// Everything that is shown.
pub(crate) fn sections() -> [Section; 6] {
    let status = read("/proc/self/status").unwrap_or_default();
    let parts = [
        facts(container(&status)),
        facts(namespaces()),
        facts(Cgroup::find().limits()),
        facts(root()),
        facts(network::facts()),
        facts(privileges(&status)),
    ];
    let mut titles = TITLES.into_iter();
    parts.map(|facts| Section {
        title: titles.next().unwrap_or_default(),
        facts,
    })
}

fn facts<N: Into<String>>(facts: Vec<(N, String)>) -> Vec<Fact> {
    facts
        .into_iter()
        .map(|(name, value)| Fact {
            name: name.into(),
            value,
        })
        .collect()
}

/// The container's own name.
pub(crate) fn hostname() -> String {
    read("/proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned())
}

fn container(status: &str) -> Vec<(&'static str, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = processes
        .filter(|entry| entry.file_name().to_str().is_some_and(is_number))
        .count();
    vec![
        ("hostname", hostname()),
        ("pid", std::process::id().to_string()),
        ("processes", format!("{processes} visible")),
        (
            "user",
            user(status, &read("/etc/passwd").unwrap_or_default()),
        ),
        (
            "kernel",
            read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        ),
    ]
}

fn user(status: &str, passwd: &str) -> String {
    let effective = |key| {
        value(status, key)
            .and_then(|ids| ids.split_whitespace().nth(1))
            .unwrap_or("?")
    };
    let (uid, gid) = (effective("Uid"), effective("Gid"));
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    });
    let groups = value(status, "Groups")
        .filter(|groups| !groups.is_empty())
        .map_or_else(String::new, |groups| format!(", groups {groups}"));
    format!("{uid}:{gid} ({}){groups}", name.unwrap_or("no name"))
}

fn namespaces() -> Vec<(&'static str, String)> {
    ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"]
        .into_iter()
        .filter_map(|name| {
            let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
            // reads as "mnt:[4026532177]"
            let inode = link
                .to_string_lossy()
                .trim_start_matches(|c: char| c != '[')
                .trim_matches(['[', ']'])
                .to_owned();
            Some((name, inode))
        })
        .collect()
}

fn root() -> Vec<(&'static str, String)> {
    let mounts = mounts();
    // what was mounted last on a place hides what was there before
    let mut facts = mounts
        .iter()
        .rev()
        .find(|mount| mount.target == "/")
        .map_or_else(Vec::new, root_mount);
    let count = |kind: &str| mounts.iter().filter(|mount| mount.kind == kind).count();
    facts.push((
        "mounts",
        format!(
            "{} in all, {} tmpfs, {} proc",
            mounts.len(),
            count("tmpfs"),
            count("proc")
        ),
    ));
    facts
}

fn root_mount(root: &Mount) -> Vec<(&'static str, String)> {
    let mut layers = 0;
    let mut others = Vec::new();
    for option in root.super_options.split(',') {
        match option.split_once('=') {
            Some(("lowerdir", list)) => {
                layers += list.split("::").flat_map(|part| part.split(':')).count();
            }
            Some(("lowerdir+", _)) => layers += 1,
            // folders of the host, and long
            Some(("upperdir" | "workdir" | "datadir+", _)) => {}
            _ => others.push(option),
        }
    }
    let mut facts = vec![("type", root.kind.clone())];
    if layers > 0 {
        facts.push(("layers", layers.to_string()));
    }
    facts.push(("mount options", root.options.replace(',', ", ")));
    facts.push(("fs options", others.join(", ")));
    facts
}

fn privileges(status: &str) -> Vec<(&'static str, String)> {
    let seccomp = match value(status, "Seccomp") {
        Some("0") => "off".to_owned(),
        Some("1") => "strict".to_owned(),
        Some("2") => format!(
            "filter ({} in place)",
            value(status, "Seccomp_filters").unwrap_or("at least 1")
        ),
        other => other.unwrap_or("unknown").to_owned(),
    };
    let yes = |key| {
        if value(status, key) == Some("1") {
            "yes"
        } else {
            "no"
        }
        .to_owned()
    };
    let (effective, bounding) = (value(status, "CapEff"), value(status, "CapBnd"));
    let bounding_names = if bounding == effective {
        "the same".to_owned()
    } else {
        capabilities(bounding.unwrap_or_default())
    };
    let mut facts = vec![
        ("capabilities", capabilities(effective.unwrap_or_default())),
        ("bounding set", bounding_names),
        ("seccomp", seccomp),
        ("no new privs", yes("NoNewPrivs")),
    ];
    if let Some(label) = read("/proc/self/attr/current").filter(|label| !label.is_empty()) {
        facts.push(("security label", label.trim_matches('\0').to_owned()));
    }
    facts
}

fn capabilities(mask: &str) -> String {
    let Ok(mask) = u64::from_str_radix(mask, 16) else {
        return "unknown".to_owned();
    };
    let names = |held: bool| {
        let bits = CAPABILITIES.iter().enumerate();
        let chosen = bits.filter(|(bit, _)| (mask >> bit & 1 == 1) == held);
        chosen.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    };
    let held = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .count();
    match (held, CAPABILITIES.len()) {
        (0, _) => "none".to_owned(),
        (held, all) if held == all => format!("all {all}"),
        // the shorter list says more
        (held, all) if held > all / 2 => format!("{held} of {all}, all but {}", names(false)),
        (held, all) => format!("{held} of {all}: {}", names(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names() {
        assert_eq!(capabilities("0"), "none");
        assert_eq!(capabilities("1ffffffffff"), "all 41");
        assert!(
            capabilities("00000000a80425fb").starts_with("14 of 41: CHOWN, DAC_OVERRIDE, FOWNER")
        );
        assert_eq!(capabilities("8000000000"), "1 of 41: BPF");
        assert_eq!(
            capabilities("1fffeffffff"),
            "40 of 41, all but SYS_RESOURCE"
        );
    }

    #[test]
    fn users() {
        let status = "Uid:\t0\t1000\t0\t0\nGid:\t0\t7\t0\t0\nGroups:\t7 8\n";
        assert_eq!(
            user(status, "root:x:0:0::/:\nann:x:1000:7::/:\n"),
            "1000:7 (ann), groups 7 8"
        );
        assert_eq!(
            user("Uid:\t0\t9\t0\t0\nGid:\t0\t9\t0\t0\n", ""),
            "9:9 (no name)"
        );
    }

    #[test]
    fn overlay_layers() {
        let mount = |super_options: &str| Mount {
            root: "/".to_owned(),
            target: "/".to_owned(),
            options: "rw,relatime".to_owned(),
            kind: "overlay".to_owned(),
            super_options: super_options.to_owned(),
        };
        let check = |super_options: &str, layers: &str| {
            let facts = root_mount(&mount(super_options));
            assert!(facts.contains(&("layers", layers.to_owned())), "{facts:?}");
            assert!(
                facts.contains(&("fs options", "rw, xino=off".to_owned())),
                "{facts:?}"
            );
        };
        check("rw,lowerdir=/a:/b:/c,upperdir=/u,workdir=/w,xino=off", "3");
        check(
            "rw,lowerdir+=/a,lowerdir+=/b,upperdir=/u,workdir=/w,xino=off",
            "2",
        );
    }

    #[test]
    fn every_section_says_something() {
        for section in sections() {
            assert!(!section.facts.is_empty(), "{}", section.title);
        }
    }
}
