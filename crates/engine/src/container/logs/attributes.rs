//! The labels and variables of a container that go with each of its log's records.

use std::collections::BTreeMap;

use super::super::Record;
use super::options::Options;
use super::template::Template;

/// The attributes that the options choose.
pub(crate) fn chosen(record: &Record, options: &Options) -> BTreeMap<String, String> {
    let labels: BTreeMap<&str, &str> = record
        .config
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let env: BTreeMap<&str, &str> = record
        .config
        .env
        .iter()
        .flatten()
        .filter_map(|text| text.split_once('='))
        .collect();
    let mut chosen = BTreeMap::new();
    for (values, names, pattern) in [
        (&labels, "labels", "labels-regex"),
        (&env, "env", "env-regex"),
    ] {
        let names = options.get(names).map_or("", String::as_str);
        for name in names.split(',') {
            if let Some(value) = values.get(name) {
                chosen.insert(name.to_owned(), (*value).to_owned());
            }
        }
        let pattern = options
            .get(pattern)
            .filter(|text| !text.is_empty())
            .and_then(|text| regex_lite::Regex::new(text).ok());
        if let Some(pattern) = pattern {
            let found = values.iter().filter(|(name, _)| pattern.is_match(name));
            chosen.extend(found.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        }
    }
    chosen
}

/// The tag that the options ask for; `None` where they name none.
pub(crate) fn tag(record: &Record, options: &Options) -> Option<String> {
    let text = options.get("tag").filter(|text| !text.is_empty())?;
    // it was checked when the container was made
    let template = Template::parse(text).ok()?;
    Some(template.render(record)).filter(|tag| !tag.is_empty())
}

/// The attributes and the tag as the JSON object of a json-file record; empty without any.
pub(crate) fn json(record: &Record, options: &Options) -> String {
    let mut all = chosen(record, options);
    if let Some(tag) = tag(record, options) {
        all.insert("tag".to_owned(), tag);
    }
    if all.is_empty() {
        return String::new();
    }
    let mut text = Vec::new();
    for (key, value) in &all {
        text.push(if text.is_empty() { b'{' } else { b',' });
        for (word, end) in [(key, b':'), (value, b' ')] {
            text.push(b'"');
            logfile::escape(&mut text, word.as_bytes());
            text.push(b'"');
            if end == b':' {
                text.push(end);
            }
        }
    }
    text.push(b'}');
    String::from_utf8_lossy(&text).into_owned()
}
