//! Digests of the content of a snapshot below chosen paths.
