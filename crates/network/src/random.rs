//! Random numbers for names.

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns a random number; should the kernel have none, the names it is for are tried again anyway.
pub(crate) fn number() -> u32 {
    let mut bytes = [0_u8; 4];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(4) => u32::from_ne_bytes(bytes),
        _ => std::process::id().rotate_left(9),
    }
}
