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
    Status::new(code(error), error.message())
}

/// A build's failure. Its code says nothing, for clients print any other before the message.
pub(super) fn failure(error: &Error) -> Status {
    let proto = proto(error);
    let code = Code::from_i32(proto.code);
    let details = Bytes::from(proto.encode_to_vec());
    Status::with_details(code, error.message(), details)
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
        message: error.message().to_owned(),
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

/// A place as Go writes it: what is zero or empty is left out.
fn source(span: &SourceSpan) -> Value {
    use base64::Engine as _;
    let info = &span.info;
    let data = base64::engine::general_purpose::STANDARD.encode(&info.data);
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
