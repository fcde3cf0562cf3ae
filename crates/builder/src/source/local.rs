//! Folders of clients.

use std::os::fd::OwnedFd;

use crate::fsutil::Wanted;

/// Which entries of a folder are wanted.
#[derive(Debug)]
pub struct Filter;

impl Filter {
    /// From patterns.
    pub fn new(_: &OwnedFd, _: &[String], _: &[String], _: &[String]) -> Result<Self, std::io::Error> {
        Ok(Self)
    }

    /// As a walk asks for it.
    pub fn into_wanted(self) -> impl FnMut(&str, bool) -> Wanted + Send + 'static {
        |_, _| Wanted::Yes
    }
}
