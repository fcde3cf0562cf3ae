//! Numbers that nobody outside can guess.

use rustix::rand::{GetRandomFlags, getrandom};

/// Random numbers, fetched from the kernel many at a time.
#[derive(Debug)]
pub(super) struct Dice {
    pool: [u8; 256],
    left: usize,
}

impl Default for Dice {
    fn default() -> Self {
        Self {
            pool: [0; 256],
            left: 0,
        }
    }
}

impl Dice {
    /// Returns a number; `None` when the kernel has none to give, which ends with the early boot.
    pub(super) fn number(&mut self) -> Option<u16> {
        if self.left < 2 {
            self.left = getrandom(&mut self.pool, GetRandomFlags::empty()).ok()?;
        }
        self.left = self.left.checked_sub(2)?;
        let bytes = self.pool.get(self.left..self.left + 2)?;
        Some(u16::from_ne_bytes([bytes[0], bytes[1]]))
    }

    /// Returns a number below a small bound.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.number().unwrap_or_default()) % bound.max(1)
    }

    /// Puts a short list in any order.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.below(index + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_up() {
        let mut dice = Dice::default();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut list = [1, 2, 3];
            dice.shuffle(&mut list);
            seen.insert(list);
        }
        assert_eq!(seen.len(), 6);
    }
}
