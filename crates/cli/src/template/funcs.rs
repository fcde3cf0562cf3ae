//! The functions of templates: Go's own and those that Docker adds.

use super::exec::truth;
use super::print::{json, plain, quote, sprint, sprintf, sprintln, type_name};
use serde_json::Value;
use std::cmp::Ordering;

const NAMES: [&str; 27] = [
    "and", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt",
    "ne", "not", "or", "pad", "print", "printf", "println", "slice", "split", "table", "title",
    "truncate", "upper", "urlquery",
];

pub(super) fn exists(name: &str) -> bool {
    name != "table" && NAMES.contains(&name)
}

/// Calls a function; the error is what Go says behind `executing "" at <…>: `.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let result = match (name, arguments) {
        ("not", [value]) => Ok(Value::Bool(!truth(value))),
        ("len", [value]) => length(value),
        ("index", [container, keys @ ..]) => index(container, keys),
        ("slice", [container, bounds @ ..]) => slice(container, bounds),
        ("print", values) => Ok(Value::String(sprint(values))),
        ("println", values) => Ok(Value::String(sprintln(values))),
        ("printf", [Value::String(format), values @ ..]) => {
            Ok(Value::String(sprintf(format, values)))
        }
        ("json", [value]) => Ok(Value::String(json(value))),
        ("html", values) => Ok(Value::String(html(&sprint(values)))),
        ("js", values) => Ok(Value::String(
            quote(&sprint(values)).trim_matches('"').to_owned(),
        )),
        ("urlquery", values) => Ok(Value::String(api::client::encode_component(&sprint(
            values,
        )))),
        ("lower", [Value::String(text)]) => Ok(Value::String(text.to_lowercase())),
        ("upper", [Value::String(text)]) => Ok(Value::String(text.to_uppercase())),
        ("title", [Value::String(text)]) => Ok(Value::String(title(text))),
        ("join", [list, Value::String(separator)]) => join(list, separator),
        ("split", [Value::String(text), Value::String(separator)]) => Ok(split(text, separator)),
        ("pad", [Value::String(text), before, after]) => pad(text, before, after),
        ("truncate", [Value::String(text), length]) => truncate(text, length),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => any_equal(first, rest),
        ("ne", [a, b]) => equal(a, b).map(|same| Value::Bool(!same)),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            order(a, b).map(|order| Value::Bool(holds(name, order)))
        }
        _ => return Err(wrong_arguments(name, arguments)),
    };
    result.map_err(|what| format!("error calling {name}: {what}"))
}

fn wrong_arguments(name: &str, arguments: &[Value]) -> String {
    let wanted = match name {
        "not" | "len" | "json" | "lower" | "upper" | "title" => "1",
        "index" | "slice" | "printf" => "at least 1",
        "eq" => "at least 1",
        "pad" => "3",
        _ => "2",
    };
    if wanted == arguments.len().to_string() || wanted.starts_with("at") && !arguments.is_empty() {
        let shown = arguments.iter().map(plain).collect::<Vec<_>>().join(", ");
        return format!("wrong type for value; {name} cannot take {shown}");
    }
    format!(
        "wrong number of args for {name}: want {wanted} got {}",
        arguments.len()
    )
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Null => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => return Err(format!("len of type {}", plain(value))),
    };
    Ok(Value::from(length))
}

fn index(container: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = container.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Array(items), Value::Number(number)) => {
                let place = number
                    .as_u64()
                    .and_then(|place| usize::try_from(place).ok());
                let item = place.and_then(|place| items.get(place));
                item.ok_or_else(|| format!("index out of range: {number}"))?
                    .clone()
            }
            (Value::Object(map), Value::String(key)) => {
                map.get(key).cloned().unwrap_or(Value::Null)
            }
            (Value::String(text), Value::Number(number)) => {
                let place = number
                    .as_u64()
                    .and_then(|place| usize::try_from(place).ok());
                let byte = place.and_then(|place| text.as_bytes().get(place));
                Value::from(*byte.ok_or_else(|| format!("index out of range: {number}"))?)
            }
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (Value::Array(_), key) => {
                return Err(format!("cannot index slice/array with {}", plain(key)));
            }
            (Value::Object(_), key) => {
                return Err(format!(
                    "value {} has wrong type; should be string",
                    plain(key)
                ));
            }
            (other, _) => return Err(format!("can't index item of {}", plain(other))),
        };
    }
    Ok(value)
}

fn slice(container: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match container {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        _ => return Err(format!("can't slice item of {}", plain(container))),
    };
    let bound = |place: usize, default: usize| match bounds.get(place) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|bound| usize::try_from(bound).ok())
            .filter(|bound| *bound <= length)
            .ok_or_else(|| format!("index out of range: {}", plain(value))),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match container {
        Value::String(text) => {
            Value::String(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned())
        }
        Value::Array(items) => Value::Array(items[from..to].to_vec()),
        _ => Value::Null,
    })
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn title(text: &str) -> String {
    let mut fresh = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if fresh {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        fresh = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::Null => Ok(Value::String(String::new())),
        Value::Array(items) => Ok(Value::String(
            items.iter().map(plain).collect::<Vec<_>>().join(separator),
        )),
        other => Err(format!(
            "wrong type for value; expected []string; got {}",
            plain(other)
        )),
    }
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::Array(text.chars().map(|c| Value::String(c.to_string())).collect());
    }
    Value::Array(
        text.split(separator)
            .map(|part| Value::String(part.to_owned()))
            .collect(),
    )
}

fn count(value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count <= 10_000)
        .ok_or_else(|| format!("wrong type for value; expected int; got {}", plain(value)))
}

/// Pads a text that is not empty with this many spaces on both sides.
fn pad(text: &str, before: &Value, after: &Value) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::String(String::new()));
    }
    let (before, after) = (count(before)?, count(after)?);
    Ok(Value::String(format!(
        "{}{text}{}",
        " ".repeat(before),
        " ".repeat(after)
    )))
}

fn truncate(text: &str, length: &Value) -> Result<Value, String> {
    Ok(Value::String(text.chars().take(count(length)?).collect()))
}

fn any_equal(first: &Value, rest: &[Value]) -> Result<Value, String> {
    for other in rest {
        if equal(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => Ok(x == y || x.as_f64() == y.as_f64()),
        (Value::String(x), Value::String(y)) => Ok(x == y),
        (Value::Bool(x), Value::Bool(y)) => Ok(x == y),
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err("non-comparable type".to_owned())
        }
        _ => Err(incompatible(a, b)),
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!(
        "incompatible types for comparison: {} and {}",
        type_name(a),
        type_name(b)
    )
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let whole = x.as_i64().zip(y.as_i64()).map(|(x, y)| x.cmp(&y));
            let float = || {
                x.as_f64()
                    .zip(y.as_f64())
                    .and_then(|(x, y)| x.partial_cmp(&y))
            };
            whole
                .or_else(float)
                .ok_or_else(|| "invalid type for comparison".to_owned())
        }
        (Value::String(x), Value::String(y)) => Ok(x.cmp(y)),
        (Value::Number(_), Value::String(_)) | (Value::String(_), Value::Number(_)) => {
            Err(incompatible(a, b))
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn holds(name: &str, order: Ordering) -> bool {
    match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    }
}
