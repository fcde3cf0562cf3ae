//! Errors as gRPC has them, with the details from which clients show where in a Dockerfile it went wrong.

use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::google::rpc;
use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::error::{Error, Kind};
use crate::llb::{SourceSpan, pb};

/// Details are JSON under the names of BuildKit's own Go types.
const TYPES: &str = "github.com/moby/buildkit/errdefs.";

/// A failure of a call that is no build.
pub(super) fn status(error: &Error) -> Status {
    Status::new(code(error), shortened(error.message()))
}

/// A build's failure. Its code says nothing, for clients print any other before the message.
pub(super) fn failure(error: &Error) -> Status {
    let proto = proto(error);
    let code = Code::from_i32(proto.code);
    let details = Bytes::from(proto.encode_to_vec());
    Status::with_details(code, proto.message, details)
}

/// A message as a header can take it: a step may be megabytes long. How it ended stands at the end.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 8 << 10;
    const END: usize = 1 << 10;
    if message.len() <= LONGEST {
        return message.to_owned();
    }
    let start = message.floor_char_boundary(LONGEST - END);
    let end = message.ceil_char_boundary(message.len() - END);
    format!("{} ... {}", &message[..start], &message[end..])
}

/// A build's failure as a message, which is also what the history keeps.
pub(super) fn proto(error: &Error) -> rpc::Status {
    let code = if error.is_canceled() {
        Code::Cancelled
    } else {
        Code::Unknown
    };
    rpc::Status {
        code: code.into(),
        message: shortened(error.message()),
        details: details(error),
    }
}

/// A build's failure as a front end returns it, with the places that it may have come with.
pub(super) fn parse(status: &rpc::Status) -> Error {
    let mut error = Error::invalid(status.message.clone());
    let mut sources = Vec::new();
    for detail in &status.details {
        let Some(name) = detail.type_url.strip_prefix(TYPES) else {
            continue;
        };
        let Ok(value) = serde_json::from_slice::<Value>(&detail.value) else {
            continue;
        };
        match name {
            "Source+json" => sources.extend(parse_source(&value)),
            "Vertex+json" => {
                let digest = value.get("digest").and_then(Value::as_str);
                if let Some(digest) = digest.and_then(|digest| digest.parse().ok()) {
                    error = error.at(&digest, &[]);
                }
            }
            _ => {}
        }
    }
    error.with_sources(sources)
}

fn parse_source(value: &Value) -> Option<SourceSpan> {
    use base64::Engine as _;
    let info = value.get("info")?;
    let text = |name: &str| {
        info.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let data = base64::engine::general_purpose::STANDARD
        .decode(text("data"))
        .ok()?;
    let number = |at: &Value, name: &str| {
        let number = at.get(name).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(0)
    };
    let position = |range: &Value, name: &str| {
        range.get(name).map(|at| pb::Position {
            line: number(at, "line"),
            character: number(at, "character"),
        })
    };
    let ranges = value.get("ranges").and_then(Value::as_array);
    let ranges = ranges
        .into_iter()
        .flatten()
        .take(1000)
        .map(|range| pb::Range {
            start: position(range, "start"),
            end: position(range, "end"),
        });
    Some(SourceSpan {
        info: std::sync::Arc::new(pb::SourceInfo {
            filename: text("filename"),
            data,
            language: text("language"),
            ..pb::SourceInfo::default()
        }),
        ranges: ranges.collect(),
    })
}

fn code(error: &Error) -> Code {
    if error.is_canceled() {
        return Code::Cancelled;
    }
    match error.kind() {
        Kind::NotFound => Code::NotFound,
        Kind::InvalidParameter => Code::InvalidArgument,
        Kind::Conflict => Code::AlreadyExists,
        Kind::Unauthorized => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::NotImplemented => Code::Unimplemented,
        _ => Code::Unknown,
    }
}

fn details(error: &Error) -> Vec<Any> {
    let sources = error
        .sources()
        .iter()
        .map(|span| any("Source", &source(span)));
    let vertex = error
        .vertex()
        .map(|digest| any("Vertex", &json!({"digest": digest.to_string()})));
    sources.chain(vertex).collect()
}

fn any(name: &str, value: &Value) -> Any {
    Any {
        type_url: format!("{TYPES}{name}+json"),
        value: value.to_string().into_bytes(),
    }
}

/// What goes along of a file; details of an error travel in one header, which no client takes in any size. Of a long
/// file it is the lines around the places, and empty lines instead of those before.
fn excerpt(data: &[u8], ranges: &[pb::Range]) -> Vec<u8> {
    const WHOLE: usize = 8 << 10;
    const LINE: usize = 512;
    const AROUND: usize = 6;
    if data.len() <= WHOLE {
        return data.to_vec();
    }
    let line = |at: Option<&pb::Position>| at.and_then(|at| usize::try_from(at.line).ok());
    let places = ranges.iter().filter_map(|range| {
        let (start, end) = (line(range.start.as_ref())?, line(range.end.as_ref())?);
        Some((start.saturating_sub(AROUND), end.saturating_add(AROUND)))
    });
    let places: Vec<_> = places.collect();
    let last = places.iter().map(|place| place.1).max().unwrap_or(0);
    let mut kept = Vec::new();
    for (number, text) in (1..=last).zip(data.split(|byte| *byte == b'\n')) {
        if places
            .iter()
            .any(|(start, end)| (*start..=*end).contains(&number))
        {
            kept.extend_from_slice(text.get(..LINE).unwrap_or(text));
        }
        kept.push(b'\n');
        if kept.len() > WHOLE {
            return Vec::new();
        }
    }
    kept
}

/// A place as Go writes it: what is zero or empty is left out.
fn source(span: &SourceSpan) -> Value {
    use base64::Engine as _;
    let info = &span.info;
    let data = base64::engine::general_purpose::STANDARD.encode(excerpt(&info.data, &span.ranges));
    let mut file = serde_json::Map::new();
    for (name, text) in [
        ("filename", &info.filename),
        ("data", &data),
        ("language", &info.language),
    ] {
        if !text.is_empty() {
            file.insert(name.to_owned(), Value::from(text.as_str()));
        }
    }
    let ranges: Vec<Value> = span.ranges.iter().map(range).collect();
    json!({"info": file, "ranges": ranges})
}

fn range(range: &pb::Range) -> Value {
    json!({"start": position(range.start.as_ref()), "end": position(range.end.as_ref())})
}

fn position(position: Option<&pb::Position>) -> Value {
    let mut value = serde_json::Map::new();
    let (line, character) = position.map_or((0, 0), |at| (at.line, at.character));
    for (name, number) in [("line", line), ("character", character)] {
        if number != 0 {
            value.insert(name.to_owned(), Value::from(number));
        }
    }
    Value::Object(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_keep_their_ends() {
        assert_eq!(shortened("short"), "short");
        let long = format!(
            "process \"{}\" did not end: exit code: 7",
            "ä".repeat(1 << 20)
        );
        let short = shortened(&long);
        assert!(short.len() < 9 << 10, "{}", short.len());
        assert!(short.starts_with("process \"ä") && short.ends_with("exit code: 7"));
    }

    #[test]
    fn excerpts_of_long_files_are_short() {
        let range = |start, end| pb::Range {
            start: Some(pb::Position {
                line: start,
                character: 0,
            }),
            end: Some(pb::Position {
                line: end,
                character: 0,
            }),
        };
        let short = b"FROM a\nRUN b\n";
        assert_eq!(excerpt(short, &[]), short);
        let lines: String = (1..=2000).map(|number| format!("RUN {number}\n")).collect();
        let kept = excerpt(lines.as_bytes(), &[range(1000, 1001)]);
        let kept = String::from_utf8(kept).unwrap();
        let kept: Vec<&str> = kept.lines().collect();
        assert_eq!(
            (kept[999], kept[1000], kept[900], kept.len()),
            ("RUN 1000", "RUN 1001", "", 1007)
        );
        let long = format!("FROM a\nENV A={}\n", "x".repeat(10 << 20));
        assert_eq!(excerpt(long.as_bytes(), &[range(2, 2)]).len(), 7 + 513 + 1);
        let far = "\n".repeat(1 << 20);
        assert_eq!(excerpt(far.as_bytes(), &[range(1 << 19, 1 << 19)]).len(), 0);
        assert_eq!(excerpt(far.as_bytes(), &[range(i32::MAX, -1)]).len(), 0);
    }
    use std::sync::Arc;

    #[test]
    fn failures() {
        let at = |line| Some(pb::Position { line, character: 0 });
        let span = SourceSpan {
            info: Arc::new(pb::SourceInfo {
                filename: "Dockerfile".to_owned(),
                data: b"FROM x".to_vec(),
                language: "Dockerfile".to_owned(),
                ..pb::SourceInfo::default()
            }),
            ranges: vec![pb::Range {
                start: at(2),
                end: at(3),
            }],
        };
        let digest = oci::Digest::from_sha256(&[7; 32]);
        let error = Error::not_found("no").at(&digest, &[span]);
        let status = failure(&error);
        assert_eq!((status.code(), status.message()), (Code::Unknown, "no"));
        let proto = rpc::Status::decode(status.details()).unwrap();
        assert_eq!((proto.code, proto.message.as_str()), (2, "no"));
        let details: Vec<(&str, &str)> = proto
            .details
            .iter()
            .map(|any| (&*any.type_url, std::str::from_utf8(&any.value).unwrap()))
            .collect();
        let vertex = format!("{{\"digest\":\"{digest}\"}}");
        let expect = [
            (
                "github.com/moby/buildkit/errdefs.Source+json",
                "{\"info\":{\"filename\":\"Dockerfile\",\"data\":\"RlJPTSB4\",\"language\":\"Dockerfile\"},\
                 \"ranges\":[{\"start\":{\"line\":2},\"end\":{\"line\":3}}]}",
            ),
            (
                "github.com/moby/buildkit/errdefs.Vertex+json",
                vertex.as_str(),
            ),
        ];
        assert_eq!(details, expect);
        let back = parse(&proto);
        assert_eq!((back.message(), back.vertex()), ("no", Some(&digest)));
        assert_eq!(back.sources()[0].ranges[0].end, at(3));
    }

    #[test]
    fn codes() {
        for (error, code, failed) in [
            (Error::not_found("x"), Code::NotFound, Code::Unknown),
            (Error::invalid("x"), Code::InvalidArgument, Code::Unknown),
            (Error::canceled(), Code::Cancelled, Code::Cancelled),
            (Error::internal("x"), Code::Unknown, Code::Unknown),
        ] {
            assert_eq!(
                (status(&error).code(), failure(&error).code()),
                (code, failed)
            );
        }
    }
}
