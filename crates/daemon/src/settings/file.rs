//! The configuration file: TOML, with the settings' names as keys.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::SettingsError;
use super::keys::{self, Key, Kind};
use super::layer::{Layer, Origin};

/// The longest configuration.
const FILE_MAX: u64 = 1 << 20;

/// The table of a registry beside the engine, which has a language of its own.
const REGISTRY: &str = "registry";

/// Reads a file as a whole; nothing where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, SettingsError> {
    let failed = |source| SettingsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(SettingsError::TooLong {
            path: path.to_owned(),
            limit: FILE_MAX,
        });
    }
    Ok(Some(text))
}

/// Takes the settings out of the text of a configuration file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Layer, SettingsError> {
    let origin = |at: usize| Origin::File {
        path: path.to_owned(),
        line: line_of(text, at),
    };
    let table = DeTable::parse(text).map_err(|error| SettingsError::Form {
        origin: origin(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let mut layer = Layer::default();
    for (name, value) in table.get_ref() {
        if name.get_ref() == REGISTRY && value.get_ref().is_table() {
            continue;
        }
        let origin = origin(name.span().start);
        let Some(key) = keys::find(name.get_ref()) else {
            return Err(SettingsError::Unknown {
                origin,
                key: name.get_ref().to_string(),
                resembling: keys::resembling(name.get_ref()).map(str::to_owned),
            });
        };
        let Some(texts) = texts(key, value) else {
            return Err(SettingsError::Kind {
                origin,
                key: key.name.to_owned(),
                wanted: wanted(key),
                found: value.get_ref().type_str(),
            });
        };
        layer.set(key.name, texts, origin);
    }
    Ok(layer)
}

/// Takes the registry out of the text of a configuration file.
pub(super) fn registry(path: &Path, text: &str) -> Result<Option<registry::Config>, SettingsError> {
    #[derive(serde::Deserialize)]
    struct File {
        registry: Option<registry::Config>,
    }
    let read: Result<File, toml::de::Error> = toml::from_str(text);
    let read = read.map_err(|error| SettingsError::Form {
        origin: Origin::File {
            path: path.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
        },
        message: error.message().to_owned(),
    })?;
    Ok(read.registry)
}

pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

fn wanted(key: &Key) -> &'static str {
    match key.kind {
        Kind::Switch => "true or false",
        Kind::Number => "a whole number",
        Kind::Text => "a text in quotes",
        Kind::Size => "a number of bytes or a text such as \"64m\"",
        Kind::List => "a list of texts",
        Kind::Map => "a table of texts",
    }
}

/// A value as the flag of the same name would have it; nothing where it is of another kind.
fn texts(key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    let value = value.get_ref();
    match (key.kind, value) {
        (Kind::Switch, DeValue::Boolean(on)) => Some(vec![on.to_string()]),
        (Kind::Number | Kind::Size, DeValue::Integer(_)) => Some(vec![number(value)?]),
        (Kind::Text | Kind::Size, DeValue::String(text)) => Some(vec![text.to_string()]),
        (Kind::List, DeValue::Array(list)) => {
            list.iter().map(|entry| text(entry.get_ref())).collect()
        }
        (Kind::Map, DeValue::Table(table)) => table
            .iter()
            .map(|(name, value)| Some(format!("{}={}", name.get_ref(), scalar(value.get_ref())?)))
            .collect(),
        _ => None,
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn number(value: &DeValue<'_>) -> Option<String> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix())
        .ok()
        .map(|number| number.to_string())
}

/// What log drivers take for options: texts, and what people write without quotes.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Integer(_) => number(value),
        _ => text(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Layer, String> {
        parse(Path::new("/c.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn values() {
        let layer = parsed(
            "# a comment\nmtu = 1_400\nicc = false\ndefault-shm-size = 0x1000\nbip = '10.0.0.1/24'\n\n\
             label = [\n  'a=b',\n  \"c=d\",\n]\n[log-opt]\nmax-size = '10m'\nmax-file = 3\ncompress = true\n",
        )
        .unwrap();
        let check = |name: &str, texts: &[&str], line: usize| {
            let given = &layer.0[name];
            assert_eq!(given.texts, texts, "{name}");
            let path = "/c.toml".into();
            assert_eq!(given.origin, Origin::File { path, line }, "{name}");
        };
        check("mtu", &["1400"], 2);
        check("icc", &["false"], 3);
        check("default-shm-size", &["4096"], 4);
        check("bip", &["10.0.0.1/24"], 5);
        check("label", &["a=b", "c=d"], 7);
        check(
            "log-opt",
            &["compress=true", "max-file=3", "max-size=10m"],
            11,
        );
        assert_eq!(layer.0.len(), 6);
        assert_eq!(parsed("").unwrap(), Layer::default());
    }

    #[test]
    fn refusals() {
        let check = |text: &str, expect: &str| {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check(
            "mtu = 1\ncolour = 'red'",
            "/c.toml:2: unknown key \"colour\"",
        );
        check(
            "hosts = []",
            "/c.toml:1: unknown key \"hosts\" (did you mean \"host\"?)",
        );
        check(
            "\nmtu = '1400'",
            "/c.toml:2: mtu must be a whole number, not string",
        );
        check("icc = 1", "icc must be true or false, not integer");
        check("label = 'a=b'", "label must be a list of texts, not string");
        check("label = [1]", "label must be a list of texts");
        check("log-opt = ['a=b']", "log-opt must be a table of texts");
        check("mtu = 1\nmtu = 2", "/c.toml:2: duplicate key");
        check("mtu = ", "/c.toml:1: ");
        check(
            "[tls]\nverify = true",
            "tls must be true or false, not table",
        );
        check("mtu = 99999999999999999999", "mtu must be a whole number");
    }

    #[test]
    fn the_registry_has_a_table_of_its_own() {
        let path = Path::new("/c.toml");
        let text = "mtu = 1400\n[registry]\nread-only = true\n[registry.gc]\ngrace = '5m'\n";
        assert_eq!(parsed(text).unwrap().0.len(), 1);
        let found = registry(path, text).unwrap().unwrap();
        assert!(found.read_only);
        assert_eq!(registry(path, "mtu = 1400").unwrap(), None);
        let error = registry(path, "\n[registry]\ncolour = 1\n").unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
        assert!(parsed("registry = true").is_err());
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        assert!(read(&path).unwrap().is_none());
        std::fs::write(&path, "mtu = 1400").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("mtu = 1400"));
        std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("longer"));
        assert!(read(folder.path()).is_err());
    }
}
