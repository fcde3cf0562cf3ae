//! Where in a file a build failed: the details of an error as BuildKit sends them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::rpc;
use prost::Message;
use serde::Deserialize;

/// Lines shown before and behind what is meant.
const AROUND: usize = 2;

/// A piece of a file that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The file's name.
    pub file: String,
    /// First and last lines, from 1.
    pub lines: Vec<(usize, usize)>,
    /// The file.
    pub text: String,
}

impl Excerpt {
    /// The lines with a mark at those that are meant.
    #[must_use]
    pub fn shown(&self) -> String {
        let Some(first) = self.lines.iter().map(|(start, _)| *start).min() else {
            return String::new();
        };
        let last = self
            .lines
            .iter()
            .map(|(_, end)| *end)
            .max()
            .unwrap_or(first);
        let all: Vec<&str> = self.text.lines().collect();
        let from = first.saturating_sub(AROUND).max(1);
        let to = (last + AROUND).min(all.len());
        let mut shown = format!("{}:{first}\n--------------------\n", self.file);
        for number in from..=to {
            let meant = self
                .lines
                .iter()
                .any(|(start, end)| (*start..=*end).contains(&number));
            let mark = if meant { ">>>" } else { "   " };
            let line = all.get(number - 1).copied().unwrap_or_default();
            let line = format!("{number:4} | {mark} {line}");
            // a write to a string cannot fail
            let _ = writeln!(shown, "{}", line.trim_end());
        }
        shown.push_str("--------------------\n");
        shown
    }
}

/// What an error says beside its message.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) excerpts: Vec<Excerpt>,
    pub(super) vertex: Option<String>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    info: Info,
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    filename: String,
    data: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Position {
    line: usize,
}

#[derive(Deserialize)]
struct Vertex {
    digest: String,
}

/// Reads the details that are known; typed by names that end in `+json`, as containerd's typeurl does.
pub(super) fn details(status: &tonic::Status) -> Details {
    let mut details = Details::default();
    let Ok(wire) = rpc::Status::decode(status.details()) else {
        return details;
    };
    for any in wire.details {
        let kind = any.type_url.rsplit('/').next().unwrap_or_default();
        match kind {
            "errdefs.Source+json" => details.excerpts.extend(excerpt(&any.value)),
            "errdefs.Vertex+json" => {
                let vertex = serde_json::from_slice::<Vertex>(&any.value);
                details.vertex = vertex.ok().map(|vertex| vertex.digest);
            }
            _ => {}
        }
    }
    details
}

fn excerpt(json: &[u8]) -> Option<Excerpt> {
    let source: Source = serde_json::from_slice(json).ok()?;
    let bytes = STANDARD.decode(source.info.data).ok()?;
    let lines = source
        .ranges
        .iter()
        .map(|range| (range.start.line, range.end.line.max(range.start.line)));
    Some(Excerpt {
        file: source.info.filename,
        lines: lines.filter(|(start, _)| *start > 0).collect(),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_around_what_is_meant_are_shown_with_a_mark() {
        let excerpt = Excerpt {
            file: "Dockerfile".to_owned(),
            lines: vec![(4, 5)],
            text: "FROM a\n\nENV b=c\nRUN false \\\n  || exit 1\nCMD x\nUSER y\nEXPOSE 1\n"
                .to_owned(),
        };
        let expected = "Dockerfile:4\n\
                        --------------------\n   2 |\n   3 |     ENV b=c\n   4 | >>> RUN false \\\n   \
                        5 | >>>   || exit 1\n   6 |     CMD x\n   7 |     USER y\n--------------------\n";
        assert_eq!(excerpt.shown(), expected);
    }

    #[test]
    fn a_source_of_an_error_is_read() {
        let json = br#"{"info":{"filename":"Dockerfile","data":"Uk9NIGE="},"ranges":[{"start":{"line":1},"end":{"line":1}}]}"#;
        let excerpt = excerpt(json).expect("a source");
        assert_eq!(excerpt.lines, [(1, 1)]);
        assert_eq!(excerpt.text, "ROM a");
    }
}
