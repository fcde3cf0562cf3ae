//! Requests as bytes: several messages that go to the kernel in one `sendmsg`.

use std::borrow::Cow;

use super::NetlinkError;
use super::abi::{
    ATTRIBUTE_HEADER_LENGTH, HEADER_LENGTH, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST,
    align,
};

/// Several netlink messages and, for each, what it is for.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    messages: Vec<Sent>,
    too_long: Option<usize>,
}

/// What is remembered of a message to make sense of its answer.
#[derive(Debug)]
pub(crate) struct Sent {
    offset: usize,
    pub(crate) step: Cow<'static, str>,
    /// The kernel ends its answer to this message with an acknowledgement or the end of a dump.
    pub(crate) concluded: bool,
}

impl Batch {
    /// Adds a message: `kind` and `flags` of the header, the family's fixed header, attributes.
    ///
    /// `step` completes the sentence "cannot ...".
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        fixed_header: &[u8],
        step: impl Into<Cow<'static, str>>,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let offset = self.bytes.len();
        let flags = flags | NLM_F_REQUEST;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(fixed_header);
        pad(&mut self.bytes);
        let mut attributes = Attributes {
            bytes: &mut self.bytes,
            too_long: false,
        };
        fill(&mut attributes);
        if attributes.too_long {
            self.too_long.get_or_insert(self.messages.len());
        }
        let concluded = flags & (NLM_F_ACK | NLM_F_DUMP) != 0;
        self.messages.push(Sent {
            offset,
            step: step.into(),
            concluded,
        });
    }

    /// Numbers the messages from `first` and returns the bytes to send.
    pub(crate) fn seal(&mut self, first: u32) -> Result<&[u8], NetlinkError> {
        if let Some(index) = self.too_long {
            return Err(NetlinkError::TooLong {
                step: self.step(index),
            });
        }
        let mut end = self.bytes.len();
        for (index, message) in self.messages.iter().enumerate().rev() {
            let too_long = || NetlinkError::TooLong {
                step: message.step.clone().into_owned(),
            };
            let length = u32::try_from(end - message.offset).map_err(|_| too_long())?;
            let number = u32::try_from(index).map_err(|_| too_long())?;
            let header = &mut self.bytes[message.offset..message.offset + HEADER_LENGTH];
            header[..4].copy_from_slice(&length.to_ne_bytes());
            header[8..12].copy_from_slice(&first.wrapping_add(number).to_ne_bytes());
            end = message.offset;
        }
        Ok(&self.bytes)
    }

    pub(crate) fn messages(&self) -> &[Sent] {
        &self.messages
    }

    /// Returns what the message is for, or the whole batch when there is no such message.
    pub(crate) fn step(&self, index: usize) -> String {
        self.messages
            .get(index)
            .or(self.messages.first())
            .map_or_else(
                || "do nothing".to_owned(),
                |message| message.step.clone().into_owned(),
            )
    }
}

/// The attributes of one message or one nest, written in order.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
    too_long: bool,
}

impl Attributes<'_> {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    /// Writes a string with the NUL that the kernel expects.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// Writes a number in the machine's byte order (rtnetlink).
    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Writes a number in the machine's byte order (rtnetlink).
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Writes a number in network byte order (nftables, connection tracking).
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.open(kind | NLA_F_NESTED);
        fill(self);
        self.close(start);
    }

    /// Appends bytes that stand before a nest's attributes, such as a link's fixed header.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    /// Writes the length, which must not wrap: a wrapped length lets the rest of a value be read
    /// as further attributes (CVE-2021-43784).
    fn close(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        debug_assert!(length >= ATTRIBUTE_HEADER_LENGTH);
        match u16::try_from(length) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        pad(self.bytes);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(align(bytes.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{attributes, find};

    #[test]
    fn lengths_and_numbers_are_written() {
        let mut batch = Batch::default();
        batch.message(16, NLM_F_ACK, &[1, 2, 3, 4], "first", |a| a.text(1, "ab"));
        batch.message(17, 0, &[], "second", |a| a.nest(2, |b| b.u8(3, 9)));
        let bytes = batch.seal(7).unwrap().to_vec();
        assert_eq!(bytes.len(), 28 + 28);
        assert_eq!(bytes[..4], 28_u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 7_u32.to_ne_bytes());
        assert_eq!(bytes[28 + 8..28 + 12], 8_u32.to_ne_bytes());
        assert_eq!(find(&bytes[20..28], 1), Some(&b"ab\0"[..]));
        let nest = find(&bytes[28 + 16..], 2).unwrap();
        assert_eq!(attributes(nest).count(), 1);
    }

    #[test]
    fn a_length_never_wraps() {
        let mut batch = Batch::default();
        batch.message(16, 0, &[], "name it", |a| a.bytes(1, &vec![0; 65_532]));
        assert!(matches!(batch.seal(1), Err(NetlinkError::TooLong { step }) if step == "name it"));
        let mut batch = Batch::default();
        batch.message(16, 0, &[], "nest it", |a| {
            a.nest(1, |b| {
                b.bytes(2, &[0; 40_000]);
                b.bytes(2, &[0; 40_000]);
            });
        });
        assert!(matches!(batch.seal(1), Err(NetlinkError::TooLong { .. })));
        let mut batch = Batch::default();
        batch.message(16, 0, &[], "fit", |a| a.bytes(1, &vec![0; 65_531]));
        assert!(batch.seal(1).is_ok());
    }
}
