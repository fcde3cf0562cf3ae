//! Docker's framing of several output streams on one connection: eight bytes before each piece.

pub use logfile::Stream as Output;

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
