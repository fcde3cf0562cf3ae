//! What every file keeps to.

use crate::workspace::{files, none, packages, root, sources};
use std::os::unix::fs::PermissionsExt;

/// The most lines of one file, its tests left out.
const CEILING: usize = 1000;

/// Files that are one table, whose rows belong together.
const TABLES: &[&str] = &["crates/runtime/src/seccomp/syscalls.rs"];

/// Crates that may hold unsafe code.
const UNSAFE: &[&str] = &["sys"];

/// What must not stay in a source; written in two halves, for this is a source too.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
];

#[test]
fn unsafe_code_has_one_door() {
    let mut broken = Vec::new();
    for package in packages()
        .iter()
        .filter(|package| !UNSAFE.contains(&package.name.as_str()))
    {
        for target in package.manifest["targets"].as_array().unwrap() {
            let kind = &target["kind"][0];
            let path = target["src_path"].as_str().unwrap();
            let head = std::fs::read_to_string(path).unwrap();
            if (kind == "lib" || kind == "bin") && !head.contains("#![forbid(unsafe_code)]") {
                broken.push(path.to_owned());
            }
        }
    }
    none(
        "every crate root but those of UNSAFE forbids unsafe code",
        &broken,
    );
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter_map(|(name, text)| {
        let lines = lines_without_tests(&text);
        let too_long = lines > CEILING && !TABLES.contains(&name.as_str());
        too_long.then(|| format!("{name}: {lines} lines"))
    });
    none(
        "a file is one subject, of at most 1000 lines without its tests",
        &long.collect::<Vec<_>>(),
    );
}

/// Counts the lines above the unit tests at the foot of a file.
fn lines_without_tests(text: &str) -> usize {
    let mut lines = text.lines().peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let tests_begin = line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod tests {"));
        if tests_begin {
            break;
        }
        count += 1;
    }
    count
}

#[test]
fn ignored_tests_say_why() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with(concat!("#[ign", "ore]")) {
                broken.push(format!("{name}:{}", number + 1));
            }
        }
    }
    none("an ignored test gives its reason", &broken);
}

#[test]
fn nothing_is_left_for_later() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if LEFTOVERS.iter().any(|word| line.contains(word)) {
                broken.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("what is not done is an issue, not a comment", &broken);
}

#[test]
fn every_file_begins_with_what_it_is() {
    // unit tests beside their subject need no head of their own
    let has_head = |name: &str, text: &str| text.starts_with("//!") || name.ends_with("/tests.rs");
    let silent = sources()
        .into_iter()
        .filter(|(name, text)| !has_head(name, text));
    let silent: Vec<String> = silent.map(|(name, _)| name).collect();
    none("a source begins with a //! sentence", &silent);
}

#[test]
fn text_is_plain() {
    let mut broken = Vec::new();
    // archives that readers are tested with are no text
    let texts = files().into_iter();
    let texts = texts.filter(|(name, _)| !name.contains("/tests/corpus/"));
    for (name, bytes) in texts {
        let Ok(text) = String::from_utf8(bytes) else {
            broken.push(format!("{name}: not UTF-8"));
            continue;
        };
        if text.contains('\r') && !name.contains("/golden/") {
            broken.push(format!("{name}: a carriage return"));
        }
        let checked = [".rs", ".md", ".toml", ".sh"]
            .iter()
            .any(|end| name.ends_with(end))
            || name.starts_with("scripts/");
        if checked && (!text.ends_with('\n') || text.lines().any(|line| line.ends_with(' '))) {
            broken.push(format!(
                "{name}: a space at a line's end, or no end of the last line"
            ));
        }
    }
    none("files are UTF-8 text", &broken);
}

#[test]
fn no_path_of_a_builder() {
    let here = root().to_str().unwrap();
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .unwrap();
    let found = files().into_iter().filter_map(|(name, bytes)| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // a workspace at / would be in every path
        let paths = [here, home.as_str()];
        paths
            .into_iter()
            .find(|path| path.len() > 5 && text.contains(path))
            .map(|path| format!("{name}: {path}"))
    });
    none(
        "no file names a folder of the machine that builds",
        &found.collect::<Vec<_>>(),
    );
}

#[test]
fn scripts_stop_at_the_first_failure() {
    let mut broken = Vec::new();
    for (name, bytes) in files() {
        let is_script = (name.starts_with("scripts/") && !name.contains('.')) || name == ".ci/run";
        if !is_script {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        let mode = std::fs::metadata(root().join(&name))
            .unwrap()
            .permissions()
            .mode();
        if !text.starts_with("#!/bin/bash\n# ")
            || !text.contains("\nset -euo pipefail\n")
            || mode & 0o111 == 0
        {
            broken.push(name);
        }
    }
    none(
        "a script is executable, says what it does, and sets -euo pipefail",
        &broken,
    );
}

#[test]
fn the_rules_themselves() {
    assert_eq!(
        lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"),
        2
    );
    assert_eq!(lines_without_tests("a\n#[cfg(test)]\nmod tests;\nb\n"), 4);
}
