//! A crate depends only on strictly lower floors, and some third-party crates stay behind a fence.

use std::collections::BTreeSet;

use crate::workspace::{Package, none, packages, root};

/// What a crate may see of ours.
#[derive(Clone, Copy, Debug)]
enum Sight {
    /// These alone.
    Only(&'static [&'static str]),
    /// Every lower floor.
    Below,
}

use Sight::{Below, Only};

/// The table of `docs/architecture.md`.
const FLOORS: &[(&str, u8, Sight)] = &[
    ("sys", 0, Only(&[])),
    ("oci", 0, Only(&[])),
    ("api", 0, Only(&[])),
    ("hello", 0, Only(&[])),
    ("builtin", 0, Only(&[])),
    ("runtime", 1, Only(&["sys", "oci"])),
    ("storage", 1, Only(&["sys", "oci"])),
    ("distribution", 1, Only(&["oci"])),
    ("network", 1, Only(&["sys", "oci"])),
    ("logfile", 1, Only(&[])),
    ("dockerfile", 1, Only(&["oci"])),
    ("shim", 2, Only(&["sys", "oci", "runtime", "logfile"])),
    ("engine", 3, Below),
    ("registry", 4, Only(&["oci", "storage", "distribution"])),
    ("builder", 4, Below),
    ("daemon", 5, Below),
    ("cli", 6, Below),
    // beside the house: nothing that runs on a user's machine depends on these
    ("testkit", 1, Only(&["sys", "oci"])),
    ("xtask", 1, Only(&["sys"])),
    ("clients", 2, Only(&["testkit"])),
];

/// Crates that only tests may depend on.
const NEVER_SHIPPED: &[&str] = &["testkit", "xtask", "clients"];

/// A third-party crate, the packages of ours that may use it, and why no other.
const FENCES: &[(&str, &[&str], &str)] = &[
    ("libc", &["sys"], "unsafe calls have one door"),
    (
        "linux-raw-sys",
        &["sys", "network"],
        "numbers of the kernel stay beside their calls",
    ),
    ("nix", &[], "rustix is the one wrapper"),
    ("axum", &["daemon"], "HTTP is known to the daemon alone"),
    ("clap", &["cli"], "command lines are the cli's"),
    ("clap_complete", &["cli"], "command lines are the cli's"),
    ("indicatif", &["cli"], "terminals are the cli's"),
    (
        "mimalloc",
        &["cli"],
        "a library does not choose the allocator",
    ),
    (
        "anyhow",
        &["cli", "xtask"],
        "errors of libraries name their step",
    ),
    (
        "redb",
        &["engine", "registry", "builder"],
        "the engine has one database; a registry, which needs no engine, and the build cache, which may be lost, have their own",
    ),
    ("tonic", &["builder"], "gRPC is the build clients' alone"),
    (
        "bcrypt",
        &["registry"],
        "passwords are the registry's users' alone",
    ),
    (
        "tokio",
        &[
            "api",
            "distribution",
            "network",
            "engine",
            "registry",
            "builder",
            "daemon",
            "cli",
        ],
        "mechanisms and shim are synchronous, but for the network's resolver and relay",
    ),
    (
        "rustls",
        &["api", "distribution", "registry", "daemon"],
        "TLS is spoken to and by registries and, by the API and its client, over TCP",
    ),
    (
        "toml",
        &["daemon", "distribution"],
        "the configuration file is read in one place, and what it says of registries in another",
    ),
    (
        "hickory-resolver",
        &["distribution"],
        "names are resolved for registries",
    ),
];

fn floor(name: &str) -> Option<(u8, Sight)> {
    FLOORS
        .iter()
        .find(|(crate_name, ..)| *crate_name == name)
        .map(|(_, floor, sight)| (*floor, *sight))
}

#[test]
fn every_crate_has_a_floor() {
    let all = packages();
    let unknown = all.iter().filter(|package| floor(&package.name).is_none());
    let unknown: Vec<String> = unknown
        .map(|package| format!("{} is in no row of FLOORS", package.name))
        .collect();
    none("give it a floor here and in docs/architecture.md", &unknown);
}

#[test]
fn dependencies_go_down() {
    let broken: Vec<String> = packages()
        .iter()
        .flat_map(edges)
        .filter_map(|(from, to)| upward(&from, &to))
        .collect();
    none(
        "a crate depends only on strictly lower floors, and on what its row names",
        &broken,
    );
}

fn edges(package: &Package) -> Vec<(String, String)> {
    let ours = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.ours);
    ours.map(|dependency| (package.name.clone(), dependency.name.clone()))
        .collect()
}

fn upward(from: &str, to: &str) -> Option<String> {
    let ((own, sight), (other, _)) = (floor(from)?, floor(to)?);
    let seen = match sight {
        Below => true,
        Only(list) => list.contains(&to),
    };
    if NEVER_SHIPPED.contains(&to) {
        return Some(format!("{from} -> {to}: {to} is for tests only"));
    }
    (other >= own || !seen).then(|| format!("{from} (floor {own}) -> {to} (floor {other})"))
}

#[test]
fn fences_hold() {
    let mut broken = Vec::new();
    for package in packages() {
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| !dependency.ours)
        {
            let fence = FENCES.iter().find(|(name, ..)| *name == dependency.name);
            if let Some((name, allowed, why)) = fence
                && !allowed.contains(&package.name.as_str())
                && !NEVER_SHIPPED.contains(&package.name.as_str())
            {
                broken.push(format!("{} uses {name}: {why}", package.name));
            }
        }
    }
    none("some crates stay behind a fence", &broken);
}

/// The names in backticks.
fn quoted(cell: &str) -> BTreeSet<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_page_tells_the_fences() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, page) = page.split_once("### Fences").unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| `"));
    let mut told: Vec<(&str, BTreeSet<&str>)> = Vec::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').collect();
        let places = quoted(cells[2]);
        // `unsafe` is no crate
        let names = quoted(cells[1])
            .into_iter()
            .filter(|name| *name != "unsafe");
        told.extend(names.map(|name| (name, places.clone())));
    }
    told.sort();
    let held = FENCES
        .iter()
        .map(|(name, places, _)| (*name, places.iter().copied().collect()));
    let mut held: Vec<(&str, BTreeSet<&str>)> = held.collect();
    held.sort();
    assert_eq!(told, held);
}

#[test]
fn the_rule_itself() {
    assert!(upward("runtime", "engine").is_some(), "up");
    assert!(upward("runtime", "storage").is_some(), "sideways");
    assert!(
        upward("distribution", "sys").is_some(),
        "down, but not in the row"
    );
    assert!(upward("engine", "testkit").is_some(), "a tool of tests");
    assert!(upward("shim", "runtime").is_none());
}
