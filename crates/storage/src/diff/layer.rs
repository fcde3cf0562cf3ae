//! The changes as a layer's tar.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use super::walk::Visitor;
use super::{ChangeKind, DiffError};
use crate::files::{Description, TreeError, TreeOptions, Walker};
use crate::tar_stream::shown;

/// The name that hides all that lower layers have in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What stands in front of the name of a removed file.
const WHITEOUT: &[u8] = b".wh.";

#[derive(Debug)]
pub(super) struct Layer<W> {
    walker: Walker<W>,
}

impl<W: Write> Layer<W> {
    pub(super) fn new(output: W) -> Self {
        Self {
            walker: Walker::new(output, TreeOptions::default()),
        }
    }

    pub(super) fn clamp(&mut self, latest: i64) {
        self.walker.clamp(latest);
    }

    pub(super) fn finish(self) -> Result<(), TreeError> {
        self.walker.finish().map(drop)
    }
}

/// Refuses a name that would be read as a mark.
fn check(path: &[u8]) -> Result<(), DiffError> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if name.starts_with(WHITEOUT) {
        return Err(DiffError::Reserved { path: shown(path) });
    }
    Ok(())
}

impl<W: Write> Visitor for Layer<W> {
    fn root(&mut self, header: &Description) -> Result<(), DiffError> {
        Ok(self.walker.described(b"./", header)?)
    }

    fn directory(
        &mut self,
        path: &[u8],
        _: ChangeKind,
        header: &Description,
    ) -> Result<(), DiffError> {
        check(path)?;
        Ok(self.walker.described(&[path, b"/"].concat(), header)?)
    }

    fn leaf(
        &mut self,
        (dir, name): (BorrowedFd<'_>, &CStr),
        stat: &Stat,
        path: &[u8],
        _: ChangeKind,
    ) -> Result<(), DiffError> {
        check(path)?;
        Ok(self.walker.leaf(dir, name, stat, path)?)
    }

    fn deleted(&mut self, path: &[u8]) -> Result<(), DiffError> {
        check(path)?;
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (dir, name) = path.split_at(slash.map_or(0, |slash| slash + 1));
        Ok(self.walker.mark(&[dir, WHITEOUT, name].concat())?)
    }

    fn hidden(&mut self, _: &[u8]) -> Result<(), DiffError> {
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), DiffError> {
        Ok(self.walker.mark(&[path, b"/", OPAQUE].concat())?)
    }
}
