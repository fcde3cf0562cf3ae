//! Snapshots on top of each other.

use crate::error::Result;
use crate::llb::pb;
use crate::snapshot::{Snapshot, merge};

pub(super) fn run(op: &pb::MergeOp, inputs: &[Snapshot]) -> Result<Vec<Snapshot>> {
    let all = op.inputs.iter().map(|one| super::input(inputs, one.input));
    let all = all.collect::<Result<Vec<_>>>()?;
    Ok(vec![merge(&all)?])
}
