//! Docker's framing of several output streams on one connection: eight bytes before each piece.

/// An output stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// The stream's number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The stream's name in a log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Length of a piece's header.
pub const HEADER: usize = 8;

/// The header of a piece: the stream's number, three zeros, the length in big endian.
#[must_use]
pub fn header(output: Output, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [output.number(), 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_header_that_clients_know() {
        assert_eq!(header(Output::Stdout, 5), [1, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(
            header(Output::Stderr, 0x0001_0203),
            [2, 0, 0, 0, 0, 1, 2, 3]
        );
    }
}
