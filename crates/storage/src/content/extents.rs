//! Which parts of a file are there.

use std::ops::Range;

/// Parts of a file in order, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extents(Vec<Range<u64>>);

impl Extents {
    /// One part from the beginning.
    pub(super) fn up_to(end: u64) -> Self {
        let mut extents = Self::default();
        extents.add(0..end);
        extents
    }

    /// Adds a part, which may overlap others.
    pub(super) fn add(&mut self, part: Range<u64>) {
        if part.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < part.start);
        let behind = self.0.partition_point(|known| known.start <= part.end);
        let mut whole = part;
        for known in &self.0[first..behind] {
            whole.start = whole.start.min(known.start);
            whole.end = whole.end.max(known.end);
        }
        self.0.splice(first..behind, [whole]);
    }

    /// Where the part at the beginning ends.
    pub(super) fn front(&self) -> u64 {
        match self.0.first() {
            Some(first) if first.start == 0 => first.end,
            _ => 0,
        }
    }

    /// Whether nothing lies behind the part at the beginning.
    pub(super) fn is_plain(&self) -> bool {
        match self.0.as_slice() {
            [] => true,
            [only] => only.start == 0,
            _ => false,
        }
    }

    /// The length of all parts.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|part| part.end - part.start).sum()
    }

    /// What is missing of a file of `size` bytes.
    pub(super) fn gaps(&self, size: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for part in &self.0 {
            if at < part.start {
                gaps.push(at..part.start.min(size));
            }
            at = part.end;
        }
        if at < size {
            gaps.push(at..size);
        }
        gaps
    }

    /// One line a part: first byte, and the byte behind the last.
    pub(super) fn to_text(&self) -> String {
        let lines = self.0.iter();
        lines
            .map(|part| format!("{} {}\n", part.start, part.end))
            .collect()
    }

    /// Reads what [`Extents::to_text`] wrote for a file of `size` bytes.
    pub(super) fn from_text(text: &str, size: u64) -> Option<Self> {
        let mut extents = Self::default();
        for line in text.lines() {
            let (start, end) = line.split_once(' ')?;
            let part: Range<u64> = start.parse().ok()?..end.parse().ok()?;
            if part.is_empty() || part.end > size {
                return None;
            }
            extents.add(part);
        }
        // the end of the last line tells that all of it was written
        (text.is_empty() || text.ends_with('\n')).then_some(extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_together() {
        let mut extents = Extents::default();
        assert_eq!((extents.front(), extents.is_plain()), (0, true));
        assert_eq!(extents.gaps(10), vec![0..10]);
        extents.add(4..6);
        assert_eq!((extents.front(), extents.is_plain()), (0, false));
        extents.add(0..2);
        assert_eq!(extents.gaps(10), vec![2..4, 6..10]);
        extents.add(8..9);
        extents.add(3..3);
        assert_eq!(extents.total(), 5);
        extents.add(2..4);
        assert_eq!((extents.front(), extents.is_plain()), (6, false));
        extents.add(1..10);
        assert_eq!(extents, Extents::up_to(10));
        assert!(extents.gaps(10).is_empty() && extents.is_plain());
    }

    #[test]
    fn texts_are_read_again() {
        let mut extents = Extents::up_to(7);
        extents.add(9..12);
        let text = extents.to_text();
        assert_eq!(text, "0 7\n9 12\n");
        assert_eq!(Extents::from_text(&text, 12), Some(extents));
        assert_eq!(Extents::from_text("", 12), Some(Extents::default()));
        for bad in ["0 7", "0 7\n9 13\n", "a b\n", "5 5\n", "7\n", "0 -1\n"] {
            assert_eq!(Extents::from_text(bad, 12), None, "{bad:?}");
        }
    }

    /// Against a plain table of which bytes are there.
    #[test]
    fn any_order_gives_the_same() {
        let mut state = 7_u64;
        let mut next = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        for _ in 0..500 {
            let mut extents = Extents::default();
            let mut table = [false; 40];
            for _ in 0..next(12) {
                let start = next(40);
                let end = (start + next(9)).min(40);
                extents.add(start..end);
                for at in start..end {
                    table[usize::try_from(at).unwrap()] = true;
                }
                let total = table.iter().filter(|there| **there).count() as u64;
                assert_eq!(extents.total(), total);
                let front = table.iter().take_while(|there| **there).count() as u64;
                assert_eq!(extents.front(), front);
                let missing: u64 = extents.gaps(40).iter().map(|gap| gap.end - gap.start).sum();
                assert_eq!(missing, 40 - total);
            }
            assert_eq!(Extents::from_text(&extents.to_text(), 40), Some(extents));
        }
    }
}
