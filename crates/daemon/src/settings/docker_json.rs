//! `daemon.json`, the configuration file of dockerd.

use std::path::Path;

use serde_json::{Map, Value};

use super::dockerd::{DIRECTIVES, Directive, Fate, Unmet, take};
use super::error::SettingsError;
use super::keys::Kind;
use super::layer::{Layer, Origin};

/// What such a file came to.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) layer: Layer,
    pub(super) unmet: Vec<Unmet>,
    /// Keys whose value is so here anyway.
    pub(super) needless: Vec<String>,
    /// Each key that was taken, with the setting that it became.
    pub(super) became: Vec<(String, &'static str)>,
}

/// The setting that a key of dockerd's, or a flag of it, means.
pub(super) fn meaning(name: &str) -> Option<&'static str> {
    let directive = DIRECTIVES
        .iter()
        .find(|directive| directive.key == name || directive.flag == name)?;
    match directive.fate {
        Fate::Key(key) if key != name => Some(key),
        _ => None,
    }
}

/// Takes the settings out of the text of such a file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Taken, SettingsError> {
    let origin = |line| Origin::File {
        path: path.to_owned(),
        line,
    };
    // dockerd takes an empty file for an empty object
    let text = if text.trim().is_empty() { "{}" } else { text };
    let all: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| SettingsError::Form {
            origin: origin(error.line()),
            message: error.to_string(),
        })?;
    let unknown: Vec<String> = all
        .keys()
        .filter(|key| by_key(key).is_none())
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Err(SettingsError::Directives {
            path: path.to_owned(),
            keys: unknown,
        });
    }
    let mut taken = Taken::default();
    for (key, value) in &all {
        if key == "proxies" {
            proxies(value, &origin(0), &mut taken)?;
        } else if let Some(directive) = by_key(key) {
            one(directive, value, origin(0), &mut taken)?;
        }
    }
    Ok(taken)
}

fn by_key(key: &str) -> Option<&'static Directive> {
    let mut all = DIRECTIVES.iter();
    all.find(|directive| directive.key == key && !key.is_empty())
}

fn one(
    directive: &'static Directive,
    value: &Value,
    origin: Origin,
    taken: &mut Taken,
) -> Result<(), SettingsError> {
    if value.is_null() {
        return Ok(());
    }
    // what has no effect may have any form
    let texts = match directive.fate {
        Fate::Unmet(_) => Some(Vec::new()),
        _ => texts(directive, value),
    };
    let Some(texts) = texts else {
        return Err(SettingsError::Kind {
            origin,
            key: directive.key.to_owned(),
            wanted: "of the kind that dockerd takes",
            found: kind_of(value),
        });
    };
    match take(directive, texts, origin, &mut taken.layer)? {
        Some(unmet) => taken.unmet.push(unmet),
        None => match directive.fate {
            Fate::Key(key) => taken.became.push((directive.key.to_owned(), key)),
            _ => taken.needless.push(directive.key.to_owned()),
        },
    }
    Ok(())
}

/// `{"http-proxy": ..., "https-proxy": ..., "no-proxy": ...}`.
fn proxies(value: &Value, origin: &Origin, taken: &mut Taken) -> Result<(), SettingsError> {
    let wrong = || SettingsError::Kind {
        origin: origin.clone(),
        key: "proxies".to_owned(),
        wanted: "a table of http-proxy, https-proxy and no-proxy",
        found: kind_of(value),
    };
    for (name, value) in value.as_object().ok_or_else(wrong)? {
        let key = ["http-proxy", "https-proxy", "no-proxy"]
            .into_iter()
            .find(|key| key == name)
            .ok_or_else(wrong)?;
        let text = value.as_str().ok_or_else(wrong)?;
        taken.layer.set(key, vec![text.to_owned()], origin.clone());
        taken.became.push((format!("proxies.{name}"), key));
    }
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value as the flag would have it.
fn texts(directive: &Directive, value: &Value) -> Option<Vec<String>> {
    match (directive.key, value) {
        ("default-address-pools", Value::Array(list)) => list.iter().map(pool).collect(),
        ("default-ulimits", Value::Object(map)) => map
            .iter()
            .map(|(name, value)| ulimit(name, value))
            .collect(),
        // a list that dockerd takes as one value, too
        (_, Value::String(text)) if directive.kind == Kind::List => Some(vec![text.clone()]),
        (_, Value::Array(list)) if directive.kind == Kind::List => {
            list.iter().map(scalar).collect()
        }
        (_, Value::Object(map)) if directive.kind == Kind::Map => map
            .iter()
            .map(|(name, value)| Some(format!("{name}={}", scalar(value)?)))
            .collect(),
        (_, Value::Bool(_)) if directive.kind == Kind::Switch => Some(vec![scalar(value)?]),
        (_, Value::Number(_)) if matches!(directive.kind, Kind::Number | Kind::Size) => {
            Some(vec![scalar(value)?])
        }
        (_, Value::String(_)) if matches!(directive.kind, Kind::Text | Kind::Size) => {
            Some(vec![scalar(value)?])
        }
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn pool(value: &Value) -> Option<String> {
    let base = value.get("base")?.as_str()?;
    let size = value.get("size")?.as_u64()?;
    Some(format!("base={base},size={size}"))
}

fn ulimit(name: &str, value: &Value) -> Option<String> {
    let limit = |key: &str| {
        let found = value
            .as_object()?
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map_or(Some(0), |(_, value)| value.as_i64())
    };
    Some(format!("{name}={}:{}", limit("Soft")?, limit("Hard")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Taken, String> {
        parse(Path::new("/d.json"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn values() {
        let taken = parsed(
            r#"{"hosts": ["tcp://127.0.0.1:1", "unix:///d"], "data-root": "/d", "mtu": 1400,
                "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}],
                "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 1024}},
                "log-opts": {"max-size": "10m"}, "debug": true, "features": {"buildkit": true},
                "proxies": {"no-proxy": "a,b"}, "live-restore": true, "storage-driver": "zfs",
                "default-shm-size": "1g", "userland-proxy": false, "dns": null}"#,
        )
        .unwrap();
        let check = |name: &str, texts: &[&str]| {
            assert_eq!(taken.layer.0[name].texts, texts, "{name}");
        };
        check("host", &["tcp://127.0.0.1:1", "unix:///d"]);
        check("root", &["/d"]);
        check("mtu", &["1400"]);
        check("default-address-pool", &["base=10.0.0.0/8,size=24"]);
        check("default-ulimit", &["nofile=1024:64000"]);
        check("log-opt", &["max-size=10m"]);
        check("debug", &["true"]);
        check("no-proxy", &["a,b"]);
        check("default-shm-size", &["1g"]);
        assert_eq!(taken.layer.0.len(), 9);
        assert_eq!(taken.needless, ["live-restore", "userland-proxy"]);
        let unmet: Vec<&str> = taken.unmet.iter().map(|u| u.name.as_str()).collect();
        assert_eq!(unmet, ["features", "storage-driver"]);
        assert_eq!(taken.became.len(), 9);
        assert!(parsed(" \n").unwrap().layer.0.is_empty());
    }

    #[test]
    fn refusals() {
        let check = |text: &str, expect: &str| {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        };
        // dockerd's words, which test suites match
        check(
            r#"{"foo": 1, "bar": 2}"#,
            "unable to configure the Docker daemon with file /d.json: the following directives don't match any configuration option: foo, bar",
        );
        check("{\n\"mtu\": }", "/d.json:2: ");
        check("[]", "/d.json:1: ");
        check(
            r#"{"mtu": "x"}"#,
            "mtu must be of the kind that dockerd takes, not string",
        );
        check(r#"{"labels": {}}"#, "labels must be of the kind");
        check(
            r#"{"authorization-plugins": ["x"]}"#,
            "authorization-plugins is not supported",
        );
        check(
            r#"{"proxies": {"ftp-proxy": "x"}}"#,
            "proxies must be a table",
        );
    }
}
