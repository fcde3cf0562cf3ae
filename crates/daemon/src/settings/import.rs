//! Turning an existing `daemon.json` into a configuration file of our own.

use std::fmt::Write as _;
use std::path::Path;

use super::docker_json::{self, Taken};
use super::error::SettingsError;
use super::keys::{self, Kind};
use super::layer::{Given, Layer};
use crate::config::Config;

/// What an import gave.
#[derive(Debug)]
pub struct Imported {
    /// The text of a configuration file.
    pub text: String,
    /// What became of each key of the file, a line each.
    pub report: Vec<String>,
}

/// Reads a `daemon.json`, and writes what it says as our own configuration.
///
/// # Errors
/// When the file cannot be read, or says what makes no sense.
pub fn import(path: &Path) -> Result<Imported, SettingsError> {
    let text = super::file::read(path)?.ok_or_else(|| SettingsError::Read {
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    let mut taken = docker_json::parse(path, &text)?;
    // what cannot be used shall be told now, and not at the next start
    super::read::config(&taken.layer, &Config::default())?;
    let moved = keep_apart(&mut taken.layer);
    let report = report(path, &taken, moved);
    Ok(Imported {
        text: written(path, &taken.layer),
        report,
    })
}

/// Leaves a Docker engine's own folder alone: ours goes into one below it.
fn keep_apart(layer: &mut Layer) -> bool {
    let Some(root) = layer.0.get_mut("root") else {
        return false;
    };
    let Some(own) = root.texts.last_mut() else {
        return false;
    };
    let apart = super::own_root(Path::new(own.as_str()));
    let moved = apart != Path::new(own.as_str());
    *own = apart.to_string_lossy().into_owned();
    moved
}

fn report(path: &Path, taken: &Taken, moved: bool) -> Vec<String> {
    let mut lines = vec![format!("{}:", path.display())];
    for (from, to) in &taken.became {
        let mut line = if from == to {
            format!("  {from}: taken")
        } else {
            format!("  {from}: taken as {to}")
        };
        if *to == "root" && moved {
            line.push_str(", in a folder of its own beside Docker's data");
        }
        lines.push(line);
    }
    for name in &taken.needless {
        lines.push(format!("  {name}: not needed, it is so anyway"));
    }
    for unmet in &taken.unmet {
        lines.push(format!("  {}: not taken: {}", unmet.name, unmet.why));
    }
    lines
}

/// The settings as the text of a configuration file.
fn written(path: &Path, layer: &Layer) -> String {
    let mut text = format!("# from {}\n", path.display());
    let mut tables = String::new();
    for (name, given) in &layer.0 {
        let kind = keys::find(name).map_or(Kind::Text, |key| key.kind);
        if kind == Kind::Map {
            let _infallible = writeln!(tables, "\n[{name}]");
            for entry in &given.texts {
                let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
                let _infallible = writeln!(tables, "{} = {}", quoted(key), quoted(value));
            }
        } else {
            let _infallible = writeln!(text, "{name} = {}", value(kind, given));
        }
    }
    text + &tables
}

fn value(kind: Kind, given: &Given) -> String {
    let last = given.texts.last().map_or("", String::as_str);
    match kind {
        Kind::Switch | Kind::Number => last.to_owned(),
        Kind::Size if last.bytes().all(|b| b.is_ascii_digit()) => last.to_owned(),
        Kind::List => {
            let all: Vec<String> = given.texts.iter().map(|text| quoted(text)).collect();
            format!("[{}]", all.join(", "))
        }
        Kind::Text | Kind::Size | Kind::Map => quoted(last),
    }
}

/// A basic string of TOML, whose escapes are JSON's; DEL is forbidden in it, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        std::fs::create_dir(folder.path().join("image")).unwrap();
        let root = folder.path().display();
        let json = format!(
            r#"{{"data-root": "{root}", "labels": ["a=\"b\"", "c=d"], "log-opts": {{"max-size": "1m"}},
                "mtu": 1400, "icc": false, "default-shm-size": "1g", "live-restore": true, "builder": {{}}}}"#
        );
        std::fs::write(&path, json).unwrap();
        let Imported { text, report } = import(&path).unwrap();
        let layer = super::super::file::parse(&path, &text).unwrap();
        let check = |name: &str, texts: &[&str]| {
            assert_eq!(layer.0[name].texts, texts, "{text}");
        };
        check("label", &["a=\"b\"", "c=d"]);
        check("log-opt", &["max-size=1m"]);
        check("mtu", &["1400"]);
        check("icc", &["false"]);
        check("default-shm-size", &["1g"]);
        check("root", &[&format!("{root}/gorae")]);
        assert_eq!(layer.0.len(), 6);
        let report = report.join("\n");
        for line in [
            "  data-root: taken as root, in a folder of its own beside Docker's data",
            "  mtu: taken",
            "  labels: taken as label",
            "  live-restore: not needed, it is so anyway",
            "  builder: not taken: the build cache has build-cache-max-size and build-cache-min-free",
        ] {
            assert!(report.contains(line), "{report}");
        }
        std::fs::write(&path, r#"{"mtu": 1}"#).unwrap();
        let error = import(&path).unwrap_err().to_string();
        assert!(error.contains("must be from 68 to 65535"), "{error}");
        assert!(import(Path::new("/nonexistent")).is_err());
    }
}
