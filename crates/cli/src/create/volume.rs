//! `--volume`: binds, named volumes and anonymous ones.

use crate::args::Call;
use crate::failure::Failure;

/// The volumes of a command line.
pub(super) struct Volumes {
    /// `source:target[:options]`, as the engine reads them.
    pub(super) binds: Vec<String>,
    /// Targets without a source.
    pub(super) anonymous: Vec<String>,
}

pub(super) fn read(call: &Call) -> Result<Volumes, Failure> {
    let mut out = Volumes {
        binds: Vec::new(),
        anonymous: Vec::new(),
    };
    for text in call.list("volume") {
        match bind(text).map_err(Failure::message)? {
            Some(bind) => out.binds.push(bind),
            None => out.anonymous.push(text.to_owned()),
        }
    }
    Ok(out)
}

/// The bind, with a relative source made absolute; nothing for an anonymous volume.
fn bind(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    if !text.contains(':') {
        return Ok(None);
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!(
            "invalid spec: {text}: empty section between colons"
        ));
    }
    if parts.len() > 3 {
        return Err(format!("invalid spec: {text}: too many colons"));
    }
    let source = absolute(parts[0])?;
    Ok(Some(format!("{source}:{}", parts[1..].join(":"))))
}

/// A source that begins with a dot is a path from here, as a shell would take it.
pub(super) fn absolute(source: &str) -> Result<String, String> {
    if !source.starts_with('.') {
        return Ok(source.to_owned());
    }
    let here = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?;
    let mut path = here;
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            name => path.push(name),
        }
    }
    path.into_os_string()
        .into_string()
        .map_err(|_| format!("the path of {source} is not valid UTF-8"))
}
