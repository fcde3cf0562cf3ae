//! What one snapshot has over another.

use crate::error::Result;
use crate::llb::pb;
use crate::op::OpContext;
use crate::snapshot::{Snapshot, diff};

pub(super) async fn run(
    context: &OpContext,
    op: &pb::DiffOp,
    inputs: &[Snapshot],
) -> Result<Vec<Snapshot>> {
    let lower = super::input(inputs, op.lower.map_or(-1, |lower| lower.input))?;
    let upper = super::input(inputs, op.upper.map_or(-1, |upper| upper.input))?;
    lower.ready().await?;
    upper.ready().await?;
    let snapshots = context.builder.snapshots.clone();
    super::blocking(move || Ok(vec![diff(&snapshots, &lower, &upper)?])).await
}
