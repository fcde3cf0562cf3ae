//! Places in a Dockerfile.

use crate::llb::pb;

/// Lines of a file, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first line.
    pub start: u32,
    /// The last line.
    pub end: u32,
}

/// Lines that are told one by one.
const LINES_AT_MOST: usize = 1000;

impl Span {
    /// These lines.
    #[must_use]
    pub const fn new(start: u32, end: u32) -> Self {
        let end = if end < start { start } else { end };
        Self { start, end }
    }

    /// One line.
    #[must_use]
    pub const fn line(line: u32) -> Self {
        Self::new(line, line)
    }

    /// Whether a line is among these.
    #[must_use]
    pub const fn contains(self, line: u32) -> bool {
        self.start <= line && line <= self.end
    }

    /// The lines as ranges of LLB, a range each, as `BuildKit`'s clients expect them; of an endless instruction the
    /// first ones.
    pub fn ranges(self) -> impl Iterator<Item = pb::Range> {
        (self.start..=self.end).take(LINES_AT_MOST).map(|line| {
            let at = Some(pb::Position {
                line: i32::try_from(line).unwrap_or(i32::MAX),
                character: 0,
            });
            pb::Range { start: at, end: at }
        })
    }
}
