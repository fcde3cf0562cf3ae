//! Answers as values. Every length is checked against what is really there.

use super::abi::{
    ATTRIBUTE_HEADER_LENGTH, HEADER_LENGTH, NLA_TYPE_MASK, NLM_F_ACK_TLVS, NLM_F_CAPPED,
    NLMSGERR_ATTR_MSG, align,
};

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The socket that asked, or that made the change that a notification is about.
    pub(crate) asker: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Splits the first message off; `None` when the bytes hold no whole message.
    pub(crate) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = usize::try_from(integer_ne(bytes.get(..4)?)?).ok()?;
        if length < HEADER_LENGTH || length > bytes.len() {
            return None;
        }
        let message = Self {
            kind: short(&bytes[4..])?,
            flags: short(&bytes[6..])?,
            sequence: u32::try_from(integer_ne(&bytes[8..12])?).ok()?,
            asker: u32::try_from(integer_ne(&bytes[12..HEADER_LENGTH])?).ok()?,
            payload: &bytes[HEADER_LENGTH..length],
        };
        Some((message, bytes.get(align(length)..).unwrap_or_default()))
    }

    /// Returns the attributes behind a fixed header of this length.
    pub(crate) fn attributes(&self, fixed_header: usize) -> &'a [u8] {
        self.payload.get(align(fixed_header)..).unwrap_or_default()
    }

    /// Reads an error or the end of a dump: the (positive) error number, 0 for success.
    pub(crate) fn error_number(&self) -> Option<i32> {
        let bytes: [u8; 4] = self.payload.get(..4)?.try_into().ok()?;
        i32::from_ne_bytes(bytes).checked_neg()
    }

    /// Reads the kernel's words from an error message's extended acknowledgement.
    pub(crate) fn error_text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        // struct nlmsgerr: the error, then the request's header, and the whole request if not capped
        let request = self.payload.get(4..)?;
        let skip = if self.flags & NLM_F_CAPPED != 0 {
            HEADER_LENGTH
        } else {
            usize::try_from(integer_ne(request.get(..4)?)?)
                .ok()?
                .max(HEADER_LENGTH)
        };
        let words = find(request.get(align(skip)..)?, NLMSGERR_ATTR_MSG)?;
        Some(text(words))
    }
}

/// Walks over attributes; ends at the first that does not fit.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(bytes)?);
        let kind = short(bytes.get(2..)?)? & NLA_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER_LENGTH..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Finds the last attribute of a kind, as the kernel's own parser does.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .filter(|(found, _)| *found == kind)
        .last()
        .map(|(_, value)| value)
}

/// Reads a number of 1, 2, 4 or 8 bytes in the machine's byte order.
pub(crate) fn integer_ne(bytes: &[u8]) -> Option<u64> {
    Some(match bytes.len() {
        1 => u64::from(bytes[0]),
        2 => u64::from(u16::from_ne_bytes(bytes.try_into().ok()?)),
        4 => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)),
        8 => u64::from_ne_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

/// Reads a number of 1, 2, 4 or 8 bytes in network byte order.
pub(crate) fn integer_be(bytes: &[u8]) -> Option<u64> {
    matches!(bytes.len(), 1 | 2 | 4 | 8).then(|| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    })
}

/// Reads a string up to its NUL or its end.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn short(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_that_lie_end_the_walk() {
        for length in [0_u16, 1, 3, 9, 200, u16::MAX] {
            let mut bytes = [0_u8; 8];
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "{length}");
        }
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_refused() {
        let mut bytes = [0_u8; 20];
        for length in [0_u32, 15, 21, u32::MAX] {
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Message::split(&bytes), None, "{length}");
        }
        bytes[..4].copy_from_slice(&20_u32.to_ne_bytes());
        assert!(Message::split(&bytes).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut rest = &bytes[..];
            while let Some((message, next)) = Message::split(rest) {
                let _words = message.error_text();
                let _number = message.error_number();
                let _count = attributes(message.attributes(20)).count();
                prop_assert!(next.len() < rest.len());
                rest = next;
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
        }
    }
}
