//! Gorae's registry beside CNCF distribution: bytes in and out, many small questions, and memory.

use super::lab::Lab;
use crate::bench::report::Row;
use anyhow::Result;

pub(super) fn measure(_lab: &Lab<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
