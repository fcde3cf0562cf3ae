//! Where a copy goes: `cp -r`'s rules as Docker has them.

use crate::failure::Failure;

/// What is known of the end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_dir: bool,
}

/// The directory to extract to, and the name at the top of what is extracted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: String,
    pub(super) name: String,
}

/// Decides where a source of this name goes.
pub(super) fn place(
    source_name: &str,
    source_is_dir: bool,
    target: &Target,
) -> Result<Place, Failure> {
    if target.exists && target.is_dir {
        return Ok(Place {
            directory: target.path.clone(),
            name: source_name.to_owned(),
        });
    }
    if target.exists && source_is_dir {
        return Err(Failure::message("cannot copy directory"));
    }
    let asserts_directory = target.path.ends_with('/') || is_current_dir(&target.path);
    if !target.exists && !source_is_dir && asserts_directory {
        return Err(Failure::message("no such directory"));
    }
    let (directory, name) = split(&target.path);
    Ok(Place { directory, name })
}

/// A path without `.`, `..` and needless slashes, as Go's `path.Clean`.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The last name of a path, as Go's `path.Base`.
pub(super) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("") => "/",
        Some(name) => name,
    }
}

fn is_current_dir(path: &str) -> bool {
    base(path) == "."
}

/// Directory and last name; `/.` at the end counts as a name.
fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if is_current_dir(path) {
        cleaned.push_str("/.");
    }
    let name = base(&cleaned).to_owned();
    let directory = match cleaned.rsplit_once('/') {
        None => ".".to_owned(),
        Some(("", _)) => "/".to_owned(),
        Some((directory, _)) => clean(directory),
    };
    (directory, name)
}

/// A local path from the root, with the slash or dot at its end kept.
pub(super) fn absolute(path: &str) -> std::io::Result<String> {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        let here = std::env::current_dir()?;
        format!("{}/{path}", here.to_string_lossy())
    };
    let mut cleaned = clean(&whole);
    if is_current_dir(path) {
        cleaned.push_str(if cleaned.ends_with('/') { "." } else { "/." });
    } else if path.ends_with('/') && !cleaned.ends_with('/') {
        cleaned.push('/');
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, exists: bool, is_dir: bool) -> Target {
        Target {
            path: path.to_owned(),
            exists,
            is_dir,
        }
    }

    #[test]
    fn places_are_dockers() {
        let check = |name: &str, dir, to: &Target, expect: Result<(&str, &str), &str>| {
            let found = place(name, dir, to);
            let found = found
                .as_ref()
                .map(|place| (place.directory.as_str(), place.name.as_str()));
            let found = found.map_err(ToString::to_string);
            assert_eq!(found, expect.map_err(str::to_owned), "{name} {to:?}");
        };
        check(
            "in",
            true,
            &target("/data", true, true),
            Ok(("/data", "in")),
        );
        check(".", true, &target("/data", true, true), Ok(("/data", ".")));
        check(
            "in",
            true,
            &target("/data/new", false, false),
            Ok(("/data", "new")),
        );
        check(
            "in",
            true,
            &target("/data/new/", false, false),
            Ok(("/data", "new")),
        );
        check(
            "in",
            true,
            &target("/file", true, false),
            Err("cannot copy directory"),
        );
        check("a", false, &target("/file", true, false), Ok(("/", "file")));
        check("a", false, &target("new", false, false), Ok((".", "new")));
        check(
            "a",
            false,
            &target("/new/", false, false),
            Err("no such directory"),
        );
        check(
            "a",
            false,
            &target("/new/.", false, false),
            Err("no such directory"),
        );
        check(
            "a",
            false,
            &target("", false, false),
            Err("no such directory"),
        );
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expect) in [
            ("/a/./b//c/", "/a/b/c"),
            ("/../a", "/a"),
            ("../a/..", ".."),
            ("", "."),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), expect, "{path}");
        }
        for (path, expect) in [
            ("/a/", "/a/"),
            ("/a/.", "/a/."),
            ("/a/..", "/"),
            ("/.", "/."),
        ] {
            assert_eq!(absolute(path).unwrap(), expect, "{path}");
        }
    }
}
