//! Results as files: a folder of the client's, or a tar of it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use bytes::Bytes;
use storage::files::{ExtractOptions, Ownership, TreeOptions, extract, write_tree};
use tar::{Builder as Tar, EntryType, Header};

use super::assemble::file_name;
use super::layers::{blocking, failed};
use super::{Export, Part};
use crate::attest;
use crate::error::{Error, Result, Step};
use crate::progress::VertexProgress;

/// The end of an archive: two blocks of nothing (tar(5)).
const END: usize = 1024;

/// The files of a result, and beside them what is stated about it.
struct Tree {
    /// The folder that they go to; empty for the top.
    folder: String,
    root: OwnedFd,
    statements: Vec<(String, Bytes)>,
}

/// Sends the files as a tar.
pub(super) async fn tar(export: &Export<'_>) -> Result<BTreeMap<String, String>> {
    let trees = trees(export).await?;
    let write = move |output: &mut dyn Write| write_all(trees, output);
    super::stream::send(export, &BTreeMap::new(), write).await?;
    Ok(BTreeMap::new())
}

/// Sends the files into the client's folder.
pub(super) async fn local(export: &Export<'_>) -> Result<BTreeMap<String, String>> {
    let mut trees = trees(export).await?;
    let plain = |tree: &Tree| tree.folder.is_empty() && tree.statements.is_empty();
    if trees.len() == 1 && trees.iter().all(plain) {
        let root = trees.remove(0).root;
        send(export, root, "copying files".to_owned()).await?;
        return Ok(BTreeMap::new());
    }
    // several trees are one folder for the client
    let builder = export.job.builder()?;
    let snapshots = builder.snapshots.clone();
    let whole = blocking(move || {
        let scratch = crate::snapshot::Snapshot::scratch();
        let place = snapshots.prepare(&scratch).map_err(failed)?;
        let step = || "put the results together";
        let (reader, writer) = io::pipe().step(step)?;
        let (target, sent) = (
            open(&place.upper()).step(step)?,
            open(&place.upper()).step(step)?,
        );
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                let mut output = io::BufWriter::with_capacity(256 << 10, writer);
                write_all(trees, &mut output)?;
                output.flush().step(|| "write the results")
            });
            let options = ExtractOptions {
                ownership: Ownership::Archive,
                replace_kind: false,
                rename: None,
                owners: storage::files::Owners::default(),
            };
            let extracted = extract(target, reader, &options);
            let broken = |_| Error::internal("the writing of the results broke off");
            let written = writing.join().map_err(broken)?;
            extracted.step(step)?;
            written
        })?;
        Ok((place, sent))
    });
    let (place, target) = whole.await?;
    send(export, target, "copying files".to_owned()).await?;
    blocking(move || {
        drop(place);
        Ok(())
    })
    .await?;
    Ok(BTreeMap::new())
}

fn open(path: &std::path::Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

async fn send(export: &Export<'_>, folder: OwnedFd, name: String) -> Result<()> {
    let client = export.client().await?;
    let progress: VertexProgress = export.progress.clone();
    let mut part = progress.part(name);
    let told = move |sent: u64| part.update(sent, 0);
    let number = export.request.number;
    let told = std::sync::Mutex::new(told);
    let tell = move |sent: u64| {
        let mut told = told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        told(sent);
    };
    let sent = client.send_dir(number, folder, tell).await;
    sent.map_err(|error| Error::system("send the result to the client", &error))
}

/// The files of each platform.
async fn trees(export: &Export<'_>) -> Result<Vec<Tree>> {
    let parts = export.solved.parts()?;
    let split = export.options.platform_split.unwrap_or(parts.len() > 1);
    let mut trees = Vec::with_capacity(parts.len());
    for part in parts {
        let folder = if split {
            file_name(&part.platform)
        } else {
            String::new()
        };
        let statements = statements(export, &part)?;
        part.snapshot.ready().await.map_err(failed)?;
        let root = blocking(move || {
            let view = part.snapshot.open().map_err(failed)?;
            readable(&view).step(|| "open the result")
        });
        trees.push(Tree {
            folder,
            root: root.await?,
            statements,
        });
    }
    Ok(trees)
}

/// A view is a mount's root, which was opened without the right to list it.
fn readable(view: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(view, c".", flags, Mode::empty())?)
}

/// What is stated about a result, by the names of the files.
fn statements(export: &Export<'_>, part: &Part) -> Result<Vec<(String, Bytes)>> {
    let prefix = &export.options.attestation_prefix;
    let all = export.solved.attestations.get(&part.id);
    let asked = all.into_iter().flatten();
    let asked = asked.filter(|one| export.options.inline_attestations || !one.inline_only);
    let file = |one: &super::Attestation| {
        let about = storage::digest_of(part.snapshot.id().as_bytes());
        let bytes = attest::statement(one, &[], Some(&part.platform), &about)?;
        Ok((format!("{prefix}{}", one.file), Bytes::from(bytes)))
    };
    asked.map(file).collect()
}

/// Writes all trees as one archive.
fn write_all(trees: Vec<Tree>, output: &mut dyn Write) -> Result<()> {
    let step = || "write the result";
    for tree in trees {
        let options = TreeOptions {
            name: tree.folder.clone().into_bytes(),
            ..TreeOptions::default()
        };
        let mut open = WithoutEnd {
            output: &mut *output,
            held: Vec::new(),
        };
        write_tree(tree.root, options, &mut open).step(step)?;
        let mut tar = Tar::new(Vec::new());
        for (name, bytes) in &tree.statements {
            let name = if tree.folder.is_empty() {
                name.clone()
            } else {
                format!("{}/{name}", tree.folder)
            };
            append(&mut tar, &name, bytes).step(step)?;
        }
        let mut bytes = tar.into_inner().step(step)?;
        bytes.truncate(bytes.len().saturating_sub(END));
        output.write_all(&bytes).step(step)?;
    }
    output.write_all(&[0; END]).step(step)
}

fn append(tar: &mut Tar<Vec<u8>>, name: &str, bytes: &Bytes) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes.len() as u64);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes.as_ref())
}

/// Passes an archive on without its end, so that another one can follow.
struct WithoutEnd<'o> {
    output: &'o mut dyn Write,
    held: Vec<u8>,
}

impl Write for WithoutEnd<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if let Some(over) = self.held.len().checked_sub(END) {
            self.output.write_all(&self.held[..over])?;
            self.held.drain(..over);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(folder: &str, file: &str, statements: &[&str]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), file).unwrap();
        let root = open(dir.path()).unwrap();
        let statements = statements.iter();
        let statements = statements.map(|name| ((*name).to_owned(), Bytes::from_static(b"{}")));
        let tree = Tree {
            folder: folder.to_owned(),
            root,
            statements: statements.collect(),
        };
        (dir, tree)
    }

    #[test]
    fn several_trees_are_one_archive() {
        let (_one, first) = tree("linux_amd64", "a", &["provenance.json"]);
        let (_two, second) = tree("linux_arm64", "b", &[]);
        let mut bytes = Vec::new();
        write_all(vec![first, second], &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            entry.path().unwrap().to_string_lossy().into_owned()
        });
        assert_eq!(
            names.collect::<Vec<_>>(),
            [
                "linux_amd64/",
                "linux_amd64/a",
                "linux_amd64/provenance.json",
                "linux_arm64/",
                "linux_arm64/b"
            ]
        );
    }
}
