//! Caches that other machines can read.
