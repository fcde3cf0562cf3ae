//! Folders in the peers' root that engines of the benchmark's own keep their state in.

use crate::bench::peers::Peers;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Empty folders; they go with this value.
#[derive(Debug)]
pub(crate) struct Folders {
    paths: [PathBuf; 2],
}

impl Folders {
    /// Makes them anew, whatever an earlier run left.
    pub(crate) fn new(peers: &Peers, inside: [&str; 2]) -> Result<Self> {
        let paths = inside.map(|path| peers.root().join(path.trim_start_matches('/')));
        for path in &paths {
            remove(path);
            fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        }
        Ok(Self { paths })
    }

    /// The first of them, as this machine sees it.
    pub(crate) fn first(&self) -> &Path {
        &self.paths[0]
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for path in &self.paths {
            remove(path);
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        println!("xtask: cannot remove {}: {error}", folder.display());
    }
}
