//! `--log-opt tag`: Go's templates, as far as tags are made of them.

use super::super::Record;
use crate::error::{Error, Result};

/// A tag's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What a tag can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    FullId,
    Name,
    ContainerName,
    ImageId,
    ImageFullId,
    ImageName,
    Command,
    Hostname,
    DaemonName,
}

const FIELDS: [(&str, Field); 13] = [
    ("ID", Field::Id),
    ("FullID", Field::FullId),
    ("ContainerID", Field::FullId),
    ("Name", Field::Name),
    ("ContainerName", Field::ContainerName),
    ("ImageID", Field::ImageId),
    ("ImageFullID", Field::ImageFullId),
    ("ContainerImageID", Field::ImageFullId),
    ("ImageName", Field::ImageName),
    ("ContainerImageName", Field::ImageName),
    ("Command", Field::Command),
    ("Hostname", Field::Hostname),
    ("DaemonName", Field::DaemonName),
];

impl Template {
    /// Docker's template where no tag is given.
    pub(crate) fn id() -> Self {
        Self(vec![Part::Field(Field::Id)])
    }

    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after.split_once("}}").ok_or_else(|| {
                Error::invalid(format!("template: log-tag:1: unclosed action in {text:?}"))
            })?;
            let trimmed = inside.strip_prefix("- ");
            let before = if trimmed.is_some() {
                before.trim_end()
            } else {
                before
            };
            let inside = trimmed.unwrap_or(inside);
            let (inside, behind) = match inside.strip_suffix(" -") {
                Some(inside) => (inside, behind.trim_start()),
                None => (inside, behind),
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Field(field(inside.trim())?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The tag of a container.
    pub(crate) fn render(&self, record: &Record) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Field(field) => text.push_str(&field.of(record)),
            }
        }
        text
    }
}

fn field(action: &str) -> Result<Field> {
    let unknown = || {
        Error::invalid(format!(
            "template: log-tag:1: executing \"log-tag\" at <{action}>: can't evaluate field {} in type *logger.Info",
            action.trim_start_matches('.')
        ))
    };
    let name = action.strip_prefix('.').ok_or_else(unknown)?;
    let found = FIELDS.iter().find(|(known, _)| *known == name);
    found.map(|(_, field)| *field).ok_or_else(unknown)
}

impl Field {
    fn of(self, record: &Record) -> String {
        match self {
            Self::Id => record.id.short().to_owned(),
            Self::FullId => record.id.to_string(),
            Self::Name => record.name.clone(),
            Self::ContainerName => format!("/{}", record.name),
            // Docker cuts the image's digest as it cuts an id, algorithm included
            Self::ImageId => record.image.to_string().chars().take(12).collect(),
            Self::ImageFullId => record.image.to_string(),
            Self::ImageName => record.config.image.clone(),
            Self::Command => record.args().join(" "),
            Self::Hostname => hostname(),
            Self::DaemonName => "docker".to_owned(),
        }
    }
}

/// The host's name.
pub(crate) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let check = |text: &str, parts: &[Part]| {
            assert_eq!(
                Template::parse(text).unwrap(),
                Template(parts.to_vec()),
                "{text}"
            );
        };
        let text = |text: &str| Part::Text(text.to_owned());
        check("", &[]);
        check("plain", &[text("plain")]);
        check("{{.ID}}", &[Part::Field(Field::Id)]);
        check(
            "a/{{ .Name }}/{{.ImageName}}!",
            &[
                text("a/"),
                Part::Field(Field::Name),
                text("/"),
                Part::Field(Field::ImageName),
                text("!"),
            ],
        );
        check(
            "a {{- .ID -}} b",
            &[text("a"), Part::Field(Field::Id), text("b")],
        );
        for (wrong, words) in [
            ("{{.Foo}}", "can't evaluate field Foo in type *logger.Info"),
            ("{{.ID", "unclosed action"),
            ("{{ID}}", "can't evaluate"),
        ] {
            let error = Template::parse(wrong).unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
    }
}
