//! Environment variables, labels, and other `key=value` flags, with the files that hold them.

use crate::args::Call;
use crate::failure::Failure;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

/// The most that is read of a file of variables.
const FILE_MAX: u64 = 16 << 20;

/// All variables: those of `--env-file` first, then those of `--env`.
pub(crate) fn from_flags(call: &Call) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for path in call.list("env-file") {
        all.extend(read_file(path, Missing::FromEnvironment)?);
    }
    all.extend(call.parsed_list("env", variable)?);
    Ok(all)
}

/// All labels: those of `--label-file` first, then those of `--label`.
pub(crate) fn labels(call: &Call) -> Result<BTreeMap<String, String>, Failure> {
    let mut lines = Vec::new();
    for path in call.list("label-file") {
        lines.extend(read_file(path, Missing::Dropped)?);
    }
    lines.extend(call.parsed_list("label", |text| {
        if text.is_empty() || text.starts_with('=') {
            return Err(format!("invalid label '{text}': empty name"));
        }
        Ok(text.to_owned())
    })?);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Ok(split_map(&lines, '='))
}

/// The values of a flag as a map; a value without `=` is a key with nothing.
pub(crate) fn map(call: &Call, flag: &str) -> BTreeMap<String, String> {
    split_map(&call.list(flag), '=')
}

/// Texts cut at their first separator.
pub(super) fn split_map(texts: &[&str], separator: char) -> BTreeMap<String, String> {
    texts
        .iter()
        .map(|text| text.split_once(separator).unwrap_or((text, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// `KEY=value` as it is; `KEY` with the value of our own environment, or alone, which removes the image's.
fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(match std::env::var(text) {
        Ok(value) => format!("{text}={value}"),
        Err(_) => text.to_owned(),
    })
}

/// What a line without `=` means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    FromEnvironment,
    Dropped,
}

/// The lines of a file of variables, as Docker reads them: `#` begins a comment, leading white space goes.
fn read_file(path: &str, missing: Missing) -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Failure::message(format!("open {path}: {why}"))
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::message(format!("env file {path} contains invalid utf8 bytes")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut out = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(Failure::message(format!(
                "no variable name on line '{line}'"
            )));
        }
        if name.contains(char::is_whitespace) {
            let line_number = index + 1;
            return Err(Failure::message(format!(
                "poorly formatted environment: variable '{name}' contains whitespaces (line {line_number} of {path})"
            )));
        }
        match value {
            Some(_) => out.push(line.to_owned()),
            None if missing == Missing::Dropped => {}
            None => {
                if let Ok(value) = std::env::var(name) {
                    out.push(format!("{name}={value}"));
                }
            }
        }
    }
    Ok(out)
}
