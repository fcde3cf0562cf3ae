//! systemd's journal: its native protocol, one datagram a message.

use logfile::{Record, Stream};

use super::super::options::{Options, known_remote};
use super::batch::Batch;
use crate::error::Result;

/// Checks the options.
pub(super) fn check(options: &Options) -> Result<()> {
    known_remote("journald", options, &[])
}

/// Writes messages of one container.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The fields that are the same for all messages.
    fields: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(fields: &[(String, String)]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in fields {
            field(&mut bytes, key, value.as_bytes());
        }
        Self { fields: bytes }
    }

    pub(super) fn encode(&self, batch: &mut Batch, record: &Record<'_>) {
        let into = batch.bytes();
        field(into, "MESSAGE", record.text);
        let priority: &[u8] = match record.stream {
            Stream::Stdout => b"6",
            Stream::Stderr => b"3",
        };
        field(into, "PRIORITY", priority);
        let mut time = Vec::new();
        logfile::timestamp::push(&mut time, record.time);
        field(into, "SYSLOG_TIMESTAMP", &time);
        into.extend_from_slice(&self.fields);
        if let Some(partial) = record.partial {
            if !partial.last {
                field(into, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
            field(into, "CONTAINER_PARTIAL_ID", partial.id);
            let ordinal = partial.ordinal.to_string();
            field(into, "CONTAINER_PARTIAL_ORDINAL", ordinal.as_bytes());
            let last = partial.last.to_string();
            field(into, "CONTAINER_PARTIAL_LAST", last.as_bytes());
        }
        batch.end_frame();
    }
}

/// `KEY=value`, or with the value's length where it has a line feed.
fn field(into: &mut Vec<u8>, key: &str, value: &[u8]) {
    into.extend_from_slice(key.as_bytes());
    if memchr::memchr(b'\n', value).is_none() {
        into.push(b'=');
    } else {
        into.push(b'\n');
        into.extend_from_slice(&(value.len() as u64).to_le_bytes());
    }
    into.extend_from_slice(value);
    into.push(b'\n');
}

/// A label's or variable's name as the journal takes it: capital letters, digits and underscores,
/// and no underscore first.
pub(super) fn key(name: &str) -> String {
    let capital = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let key: String = name.chars().map(capital).collect();
    key.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_keys() {
        let mut bytes = Vec::new();
        field(&mut bytes, "A", b"b=c");
        field(&mut bytes, "B", b"x\ny");
        assert_eq!(bytes, b"A=b=c\nB\n\x03\0\0\0\0\0\0\0x\ny\n");
        assert_eq!(key("com.example/a-1"), "COM_EXAMPLE_A_1");
        assert_eq!(key("__x"), "X");
    }
}
