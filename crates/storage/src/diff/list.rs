//! The changes as a list.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use super::walk::Visitor;
use super::{Change, ChangeKind, DiffError};
use crate::files::Description;

#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) changes: Vec<Change>,
}

impl List {
    fn push(&mut self, path: &[u8], kind: ChangeKind) {
        let path = path.to_vec();
        self.changes.push(Change { path, kind });
    }
}

impl Visitor for List {
    fn root(&mut self, _: &Description) -> Result<(), DiffError> {
        Ok(())
    }

    fn directory(
        &mut self,
        path: &[u8],
        kind: ChangeKind,
        _: &Description,
    ) -> Result<(), DiffError> {
        self.push(path, kind);
        Ok(())
    }

    fn leaf(
        &mut self,
        _: (BorrowedFd<'_>, &CStr),
        _: &Stat,
        path: &[u8],
        kind: ChangeKind,
    ) -> Result<(), DiffError> {
        self.push(path, kind);
        Ok(())
    }

    fn deleted(&mut self, path: &[u8]) -> Result<(), DiffError> {
        self.push(path, ChangeKind::Deleted);
        Ok(())
    }

    fn hidden(&mut self, path: &[u8]) -> Result<(), DiffError> {
        self.push(path, ChangeKind::Deleted);
        Ok(())
    }

    fn opaque(&mut self, _: &[u8]) -> Result<(), DiffError> {
        Ok(())
    }
}
