//! Lists in files: a folder a list, a file a manifest.

use super::document::Entry;
use crate::auth;
use crate::failure::Failure;
use crate::globals::Globals;
use anyhow::Context;
use oci::Reference;
use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

/// A manifest is at most 4 MiB, and stands in its file twice.
const FILE_MAX: u64 = 16 << 20;

/// The lists of a user.
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn open(globals: &Globals) -> anyhow::Result<Self> {
        let mut root = auth::path(globals)?;
        root.set_file_name("manifests");
        Ok(Self { root })
    }

    fn folder(&self, list: &Reference) -> PathBuf {
        self.root.join(file_name(list))
    }

    /// A manifest of a list.
    pub(super) fn get(
        &self,
        list: &Reference,
        manifest: &Reference,
    ) -> anyhow::Result<Option<Entry>> {
        read(&self.folder(list).join(file_name(manifest)))
    }

    /// The manifests of a list in the order of their files' names; nothing where there is no list.
    pub(super) fn list(&self, list: &Reference) -> anyhow::Result<Option<Vec<Entry>>> {
        let folder = self.folder(list);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", folder.display()));
            }
        };
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        let found: anyhow::Result<Vec<_>> = names.iter().map(read).collect();
        Ok(Some(found?.into_iter().flatten().collect()))
    }

    /// The same, where the list has to be there.
    pub(super) fn need(&self, list: &Reference) -> anyhow::Result<Vec<Entry>> {
        let found = self.list(list)?;
        Ok(found.ok_or_else(|| missing(list))?)
    }

    pub(super) fn save(
        &self,
        list: &Reference,
        manifest: &Reference,
        entry: &Entry,
    ) -> anyhow::Result<()> {
        let folder = self.folder(list);
        let path = folder.join(file_name(manifest));
        let text = serde_json::to_vec(entry)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn remove(&self, list: &Reference) -> anyhow::Result<()> {
        let folder = self.folder(list);
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }
}

/// Docker's words for a list or a manifest that is not here.
pub(super) fn missing(reference: &Reference) -> Failure {
    Failure::message(format!("No such manifest: {reference}"))
}

fn read(path: &PathBuf) -> anyhow::Result<Option<Entry>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut text = Vec::new();
    file.take(FILE_MAX)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .map(Some)
        .with_context(|| format!("{} is no manifest of a list", path.display()))
}

/// A reference as a file's name; it has no other separators, and does not begin with a point.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}
