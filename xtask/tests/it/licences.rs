//! What `cargo deny check licenses` would say, for machines without it: every crate that is linked may be.

use std::process::Command;

use serde_json::Value;

use crate::workspace::root;

/// The licences that `deny.toml` allows.
fn allowed() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let (_, list) = text.split_once("\nallow = [\n").unwrap();
    let (list, _) = list.split_once("\n]").unwrap();
    let quoted = list.lines().filter_map(|line| line.split('"').nth(1));
    quoted.map(str::to_owned).collect()
}

/// Whether an SPDX expression is fulfilled by these licences. `/` is the old way to write `OR`.
fn is_fulfilled(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ");
    let spaced = spaced.replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut is_so = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        is_so |= both(words, allowed);
    }
    is_so
}

fn both(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut is_so = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        is_so &= one(words, allowed);
    }
    is_so
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut name = words.next().unwrap_or_default().to_owned();
    if name == "(" {
        let is_so = either(words, allowed);
        return words.next() == Some(")") && is_so;
    }
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

#[test]
fn expressions_are_read() {
    let allowed = ["MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
    let allowed = allowed.map(str::to_owned);
    for (expression, expect) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("(GPL-3.0 OR LGPL-2.0) AND ISC", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("", false),
    ] {
        assert_eq!(is_fulfilled(expression, &allowed), expect, "{expression}");
    }
}

#[test]
fn every_crate_may_be_linked() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    if !output.status.success() {
        // crates that only another machine's build needs may not be here
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        eprintln!("SKIPPED: the manifests of all crates are not here: {complaint}");
        return;
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = allowed();
    let packages = metadata["packages"].as_array().unwrap();
    let refused = packages.iter().filter(|package| {
        let licence = package["license"].as_str().unwrap_or_default();
        !is_fulfilled(licence, &allowed)
    });
    let refused: Vec<String> = refused
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(
        refused.is_empty(),
        "deny.toml does not allow\n{}",
        refused.join("\n")
    );
}
