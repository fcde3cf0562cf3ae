//! A table of a TOML file, read key by key, with the line in each complaint.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::HostsError;

/// The file that a table is in.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn wrong(&self, at: usize, problem: impl Into<String>) -> HostsError {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        HostsError::Wrong {
            path: self.path.to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            problem: problem.into(),
        }
    }
}

/// A table.
pub(super) struct Table<'a> {
    source: Source<'a>,
    /// Where it begins.
    pub(super) at: usize,
    entries: &'a DeTable<'a>,
}

/// An entry's value.
type Value<'a> = Spanned<DeValue<'a>>;

impl<'a> Table<'a> {
    pub(super) fn new(source: Source<'a>, at: usize, entries: &'a DeTable<'a>) -> Self {
        Self {
            source,
            at,
            entries,
        }
    }

    /// Refuses keys other than these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), HostsError> {
        for (name, _) in self.entries {
            let key: &str = name.get_ref();
            if !known.contains(&key) {
                let problem = format!("unknown key {key:?}: known are {}", known.join(", "));
                return Err(self.source.wrong(name.span().start, problem));
            }
        }
        Ok(())
    }

    /// A complaint about this table.
    pub(super) fn wrong(&self, problem: impl Into<String>) -> HostsError {
        self.source.wrong(self.at, problem)
    }

    /// A complaint about the value of a key.
    pub(super) fn wrong_at(&self, key: &str, problem: impl Into<String>) -> HostsError {
        let at = self.find(key).map_or(self.at, |value| value.span().start);
        self.source.wrong(at, problem)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, HostsError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        let text = value.get_ref().as_str();
        text.map(Some)
            .ok_or_else(|| self.kind(key, value, "a text in quotes"))
    }

    pub(super) fn switch(&self, key: &str) -> Result<Option<bool>, HostsError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(on) => Ok(Some(*on)),
            _ => Err(self.kind(key, value, "true or false")),
        }
    }

    /// One text or a list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, HostsError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        self.list_of(key, value).map(Some)
    }

    /// A list of lists of texts; a text or a flat list stands for lists of one.
    pub(super) fn lists(&self, key: &str) -> Result<Vec<Vec<&'a str>>, HostsError> {
        let Some(value) = self.find(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(list) = value.get_ref() else {
            return Ok(vec![self.list_of(key, value)?]);
        };
        let entries = list.iter();
        entries.map(|entry| self.list_of(key, entry)).collect()
    }

    /// Paths, relative to the file's folder.
    pub(super) fn paths(&self, key: &str) -> Result<Vec<PathBuf>, HostsError> {
        let texts = self.texts(key)?.unwrap_or_default();
        Ok(texts.iter().map(|text| self.path(text)).collect())
    }

    pub(super) fn path(&self, text: &str) -> PathBuf {
        let folder = self.source.path.parent();
        folder.unwrap_or(Path::new("/")).join(text)
    }

    /// A table of headers, whose values are texts or lists of texts.
    pub(super) fn headers(&self, key: &str) -> Result<HeaderMap, HostsError> {
        let mut headers = HeaderMap::new();
        let Some(table) = self.table(key)? else {
            return Ok(headers);
        };
        for (name, value) in table.entries {
            let at = name.span().start;
            let text: &str = name.get_ref();
            let wrong = |what: &str| self.source.wrong(at, format!("header {text:?} {what}"));
            let name = HeaderName::try_from(text).map_err(|_| wrong("has no valid name"))?;
            for text in self.list_of(text, value)? {
                let mut value =
                    HeaderValue::try_from(text).map_err(|_| wrong("has no valid value"))?;
                // it may be a secret; it must not get into a log
                value.set_sensitive(true);
                headers.append(name.clone(), value);
            }
        }
        Ok(headers)
    }

    pub(super) fn table(&self, key: &str) -> Result<Option<Table<'a>>, HostsError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Table(entries) => {
                Ok(Some(Table::new(self.source, value.span().start, entries)))
            }
            _ => Err(self.kind(key, value, "a table")),
        }
    }

    /// Tables that follow each other, as `[[key]]`.
    pub(super) fn tables(&self, key: &str) -> Result<Vec<Table<'a>>, HostsError> {
        let Some(value) = self.find(key) else {
            return Ok(Vec::new());
        };
        let wanted = "a list of tables, each headed by its name in double brackets";
        let DeValue::Array(list) = value.get_ref() else {
            return Err(self.kind(key, value, wanted));
        };
        let table = |entry: &'a Value<'a>| match entry.get_ref() {
            DeValue::Table(entries) => Ok(Table::new(self.source, entry.span().start, entries)),
            _ => Err(self.kind(key, entry, wanted)),
        };
        list.iter().map(table).collect()
    }

    /// The tables in this one by their names, in the order in which they are written.
    pub(super) fn named(&self) -> Result<Vec<(&'a str, Table<'a>)>, HostsError> {
        let mut found = Vec::new();
        for (name, value) in self.entries {
            let DeValue::Table(entries) = value.get_ref() else {
                return Err(self.kind(name.get_ref(), value, "a table"));
            };
            let name_at = name.span().start;
            let table = Table::new(self.source, name_at, entries);
            let name: &'a str = name.get_ref();
            found.push((name, table));
        }
        found.sort_by_key(|(_, table)| table.at);
        Ok(found)
    }

    fn find(&self, key: &str) -> Option<&'a Value<'a>> {
        let mut entries = self.entries.iter();
        let found = entries.find(|(name, _)| &**name.get_ref() == key);
        found.map(|(_, value)| value)
    }

    fn list_of(&self, key: &str, value: &'a Value<'a>) -> Result<Vec<&'a str>, HostsError> {
        let wrong = || self.kind(key, value, "a text or a list of texts");
        match value.get_ref() {
            DeValue::String(text) => Ok(vec![text]),
            DeValue::Array(list) => {
                let texts = list.iter().map(|entry| entry.get_ref().as_str());
                texts.collect::<Option<_>>().ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    fn kind(&self, key: &str, value: &Value<'_>, wanted: &str) -> HostsError {
        let found = value.get_ref().type_str();
        let problem = format!("{key} must be {wanted}, not {found}");
        self.source.wrong(value.span().start, problem)
    }
}

/// Parses a file and hands its outermost table on.
pub(super) fn with<T>(
    path: &Path,
    text: &str,
    then: impl FnOnce(&Table<'_>) -> Result<T, HostsError>,
) -> Result<T, HostsError> {
    let source = Source { path, text };
    let parsed = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.wrong(at, error.message())
    })?;
    then(&Table::new(source, 0, parsed.get_ref()))
}
