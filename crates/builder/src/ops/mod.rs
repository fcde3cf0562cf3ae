//! The operations: processes, files, merges, differences.
