//! A record of a log, whichever format it is kept in.

/// An output stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The stream's number in Docker's framing.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One record as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The stream it was written to.
    pub stream: Stream,
    /// When, in nanoseconds since 1970.
    pub time: i64,
    /// The bytes, without the line's end.
    pub text: &'a [u8],
    /// Whether the line ends here.
    pub line_end: bool,
    /// The attributes as a JSON object; empty without any.
    pub attrs: &'a [u8],
    /// What tells the pieces of a long line, where the format keeps it.
    pub partial: Option<Partial<'a>>,
}

/// The place of a piece in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial<'a> {
    /// The same for all pieces of a line.
    pub id: &'a [u8],
    /// Which piece, from 1.
    pub ordinal: u32,
    /// Whether it is the last one.
    pub last: bool,
}

/// A record as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) stream: Stream,
    pub(crate) time: i64,
    pub(crate) piece: crate::split::Piece<'a>,
    /// What is the same for all pieces of a line.
    pub(crate) line_id: u64,
}

/// Where a part of a record lies: in what was read, or unescaped beside it.
#[derive(Clone, Debug)]
pub(crate) enum Span {
    Raw(std::ops::Range<usize>),
    Scratch,
}

/// A record that was parsed, by places in its bytes.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) stream: Stream,
    pub(crate) time: i64,
    pub(crate) text: Span,
    pub(crate) line_end: bool,
    pub(crate) attrs: std::ops::Range<usize>,
    pub(crate) partial: Option<(std::ops::Range<usize>, u32, bool)>,
}

impl Parsed {
    /// The record over its bytes.
    pub(crate) fn over<'a>(&self, raw: &'a [u8], scratch: &'a [u8]) -> Record<'a> {
        Record {
            stream: self.stream,
            time: self.time,
            text: match &self.text {
                Span::Raw(range) => &raw[range.clone()],
                Span::Scratch => scratch,
            },
            line_end: self.line_end,
            attrs: &raw[self.attrs.clone()],
            partial: self.partial.as_ref().map(|(id, ordinal, last)| Partial {
                id: &raw[id.clone()],
                ordinal: *ordinal,
                last: *last,
            }),
        }
    }
}
