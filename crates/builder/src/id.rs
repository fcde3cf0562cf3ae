//! Names that are made up, in the form that BuildKit's clients know: 25 characters of a-z and 0-9.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// A name that nothing else has.
#[must_use]
pub fn new() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = [0_u8; 32];
    // before the kernel has randomness (it has it long before a build) time and a count still tell names apart
    let _filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let mut sum = Sha256::new();
    sum.update(random);
    sum.update(COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    sum.update(jiff::Timestamp::now().as_nanosecond().to_le_bytes());
    let sum: [u8; 32] = sum.finalize().into();
    let letters = sum.iter().take(25);
    letters
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}
