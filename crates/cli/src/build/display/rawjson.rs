//! News as JSON, a line each, with the names that BuildKit's clients use.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use builder::client::Update;
use serde_json::{Map, Value, json};

/// One piece of news; empty for none.
pub(super) fn line(update: &Update) -> String {
    let mut object = Map::new();
    let mut put = |name: &str, values: Vec<Value>| {
        if !values.is_empty() {
            object.insert(name.to_owned(), Value::Array(values));
        }
    };
    put("vertexes", update.vertices.iter().map(vertex).collect());
    put("statuses", update.statuses.iter().map(status).collect());
    put("logs", update.logs.iter().map(log).collect());
    put("warnings", update.warnings.iter().map(warning).collect());
    if object.is_empty() {
        return String::new();
    }
    format!("{}\n", Value::Object(object))
}

/// An object without what is empty, as Go's `omitempty`.
fn object(fields: [(&str, Value); 8]) -> Value {
    let there = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Object(_) => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| there(value));
    Value::Object(
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

const NONE: (&str, Value) = ("", Value::Null);

fn vertex(vertex: &builder::client::Vertex) -> Value {
    object([
        ("digest", json!(vertex.digest)),
        ("inputs", json!(vertex.inputs)),
        ("name", json!(vertex.name)),
        ("started", json!(vertex.started)),
        ("completed", json!(vertex.completed)),
        ("cached", json!(vertex.cached)),
        ("error", json!(vertex.error)),
        NONE,
    ])
}

fn status(status: &builder::client::Status) -> Value {
    object([
        ("id", json!(status.id)),
        ("vertex", json!(status.vertex)),
        ("name", json!(status.name)),
        ("total", json!(status.total)),
        ("current", json!(status.current)),
        ("started", json!(status.started)),
        ("completed", json!(status.completed)),
        NONE,
    ])
}

fn log(log: &builder::client::Log) -> Value {
    object([
        ("vertex", json!(log.vertex)),
        ("stream", json!(log.stream)),
        ("data", json!(STANDARD.encode(&log.bytes))),
        ("timestamp", json!(log.at)),
        NONE,
        NONE,
        NONE,
        NONE,
    ])
}

fn warning(warning: &builder::client::Warning) -> Value {
    let detail: Vec<String> = warning.detail.iter().map(|d| STANDARD.encode(d)).collect();
    let info = json!({
        "filename": warning.file,
        "data": STANDARD.encode(&warning.text),
    });
    let ranges = warning
        .lines
        .iter()
        .map(|(start, end)| json!({"start": {"line": start}, "end": {"line": end}}));
    object([
        ("vertex", json!(warning.vertex)),
        ("level", json!(warning.level)),
        ("short", json!(STANDARD.encode(&warning.short))),
        ("detail", json!(detail)),
        ("url", json!(warning.url)),
        ("sourceInfo", info),
        ("range", ranges.collect()),
        NONE,
    ])
}
