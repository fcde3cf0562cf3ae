//! How Go's `fmt` prints values.

use serde_json::{Number, Value};
use std::fmt::Write;

/// A value as `%v` prints it.
pub(super) fn plain(value: &Value) -> String {
    let mut out = String::new();
    write_plain(&mut out, value);
    out
}

fn write_plain(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(on) => out.push_str(if *on { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write_plain(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Go prints maps in the order of their keys
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _value)| key.as_str());
            out.push_str("map[");
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_plain(out, value);
            }
            out.push(']');
        }
    }
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_text(float),
        _ => number.to_string(),
    }
}

/// A float as `%v` prints it: the shortest digits, with an exponent below 1e-4 and from 1e21.
fn float_text(float: f64) -> String {
    let scientific = format!("{float:e}");
    let exponent: i32 = scientific
        .rsplit_once('e')
        .and_then(|(_, e)| e.parse().ok())
        .unwrap_or(0);
    if float != 0.0 && !(-4..21).contains(&exponent) {
        let digits = scientific
            .rsplit_once('e')
            .map_or(scientific.as_str(), |(digits, _)| digits);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    float.to_string()
}

/// A text as `%q` prints it.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _infallible = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A value as Go's `encoding/json` writes it without escaping HTML.
pub(super) fn json(value: &Value) -> String {
    value.to_string()
}

/// `fmt.Sprint`: a space between operands when neither is a string.
pub(super) fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 && !value.is_string() && !values[index - 1].is_string() {
            out.push(' ');
        }
        write_plain(&mut out, value);
    }
    out
}

/// `fmt.Sprintln`: a space between all operands, and a newline.
pub(super) fn sprintln(values: &[Value]) -> String {
    let mut out = values.iter().map(plain).collect::<Vec<_>>().join(" ");
    out.push('\n');
    out
}

/// The flags, width and precision of one verb.
#[derive(Default)]
struct Verb {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// The widest field that is printed; a format is the user's own, but a typo should not fill the memory.
const WIDEST: usize = 10_000;

/// `fmt.Sprintf`.
pub(super) fn sprintf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values_left = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => verb.left = true,
                '+' => verb.plus = true,
                '0' => verb.zero = true,
                _ => {}
            }
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut text = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            text.parse::<usize>().unwrap_or(0).min(WIDEST)
        };
        verb.width = digits(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut chars));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match values_left.next() {
                Some(value) => out.push_str(&one(letter, value, &verb)),
                None => {
                    let _infallible = write!(out, "%!{letter}(MISSING)");
                }
            },
        }
    }
    let extra: Vec<String> = values_left
        .map(|value| format!("{}={}", type_name(value), plain(value)))
        .collect();
    if !extra.is_empty() {
        let _infallible = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn one(letter: char, value: &Value, verb: &Verb) -> String {
    let text = match (letter, value) {
        ('v', value) => plain(value),
        ('s', Value::String(text)) => cut(text, verb.precision),
        ('s', Value::Array(_) | Value::Object(_)) => plain(value),
        ('q', Value::String(text)) => quote(text),
        ('q', Value::Array(items)) => {
            let quoted: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| plain(item), quote))
                .collect();
            format!("[{}]", quoted.join(" "))
        }
        ('t', Value::Bool(on)) => on.to_string(),
        ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
        ('x' | 'X' | 'o' | 'b' | 'c', Value::Number(number)) => match (letter, number.as_i64()) {
            ('x', Some(n)) => format!("{n:x}"),
            ('X', Some(n)) => format!("{n:X}"),
            ('o', Some(n)) => format!("{n:o}"),
            ('b', Some(n)) => format!("{n:b}"),
            ('c', Some(n)) => u32::try_from(n)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or('\u{fffd}')
                .to_string(),
            _ => mismatch(letter, value),
        },
        ('x', Value::String(text)) => text.bytes().fold(String::new(), |mut hex, byte| {
            let _infallible = write!(hex, "{byte:02x}");
            hex
        }),
        ('f' | 'F' | 'e' | 'g', Value::Number(number)) if number.is_f64() => {
            let float = number.as_f64().unwrap_or(0.0);
            match letter {
                'g' => float_text(float),
                'e' => format!("{float:e}"),
                _ => format!("{float:.*}", verb.precision.unwrap_or(6)),
            }
        }
        _ => mismatch(letter, value),
    };
    pad(text, value.is_number(), verb)
}

fn cut(text: &str, precision: Option<usize>) -> String {
    match precision {
        Some(length) => text.chars().take(length).collect(),
        None => text.to_owned(),
    }
}

fn pad(mut text: String, numeric: bool, verb: &Verb) -> String {
    if verb.plus && numeric && !text.starts_with('-') {
        text.insert(0, '+');
    }
    let missing = verb.width.saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if verb.left {
        return text + &" ".repeat(missing);
    }
    if verb.zero {
        let signed = usize::from(text.starts_with(['-', '+']));
        let (sign, digits) = text.split_at(signed);
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &text
}

fn mismatch(letter: char, value: &Value) -> String {
    if value.is_null() {
        return format!("%!{letter}(<nil>)");
    }
    format!("%!{letter}({}={})", type_name(value), plain(value))
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
