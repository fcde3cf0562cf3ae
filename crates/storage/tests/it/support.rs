//! A store in a temporary folder, and archives made byte by byte.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use storage::{ApplyOptions, LayerError, SnapshotterChoice, StagedLayer, Store, StoreOptions};

/// Opens a store.
pub(crate) fn open(root: &Path, snapshotter: SnapshotterChoice) -> Store {
    Store::open(root, options(root, snapshotter)).unwrap()
}

/// Options of a store that has its mounts beside it.
pub(crate) fn options(root: &Path, snapshotter: SnapshotterChoice) -> StoreOptions {
    StoreOptions {
        snapshotter,
        mounts: root.with_extension("mounts"),
        limits: storage::LayerLimits::default(),
    }
}

/// A store that is removed with its folder.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::of(SnapshotterChoice::Auto)
    }

    /// A store whose layers are of one kind.
    pub(crate) fn of(snapshotter: SnapshotterChoice) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = open(&dir.path().join("root"), snapshotter);
        Self { store, dir }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn apply(&self, tar: &[u8]) -> Result<StagedLayer, LayerError> {
        self.store.layers().apply(tar, &ApplyOptions::default())
    }

    /// Unpacks layers on each other; returns the topmost chain id.
    pub(crate) fn image(&self, layers: &[Tar]) -> oci::Digest {
        let mut top = None;
        for layer in layers {
            let staged = self.apply(&layer.clone().finish()).unwrap();
            top = Some(staged.commit(top.as_ref()).unwrap());
        }
        top.unwrap()
    }

    /// Unpacks one layer and returns its folder.
    pub(crate) fn unpack(&self, tar: Tar) -> PathBuf {
        let chain = self.image(&[tar]);
        self.files(&chain)
    }

    /// The folder with a layer's files, to be looked into.
    pub(crate) fn files(&self, chain: &oci::Digest) -> PathBuf {
        self.store.layers().mounted(chain).unwrap()
    }

    /// Bytes that a layer takes on the disk.
    pub(crate) fn taken(&self, chain: &oci::Digest) -> u64 {
        let folder = self.root().join("snapshots").join(chain.hex());
        let output = std::process::Command::new("du")
            .args(["-s", "-B1"])
            .arg(folder)
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The names that writers left in the temporary folder.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join("tmp")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

/// One header of an archive, with what tests change.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) size: Option<u64>,
}

impl Head {
    pub(crate) fn new(flag: u8, mode: u32) -> Self {
        Self {
            flag,
            mode,
            owner: (0, 0),
            mtime: 1_600_000_000,
            link: Vec::new(),
            device: (0, 0),
            size: None,
        }
    }
}

/// An archive under construction. It writes whatever it is told, as an attacker would.
#[derive(Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn raw(mut self, name: &[u8], head: &Head, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_mode(head.mode);
        header.set_uid(head.owner.0);
        header.set_gid(head.owner.1);
        header.set_mtime(head.mtime);
        header.set_size(head.size.unwrap_or(data.len() as u64));
        header.set_device_major(head.device.0).unwrap();
        header.set_device_minor(head.device.1).unwrap();
        let bytes = header.as_mut_bytes();
        bytes[156] = head.flag;
        bytes[..100].fill(0);
        bytes[157..257].fill(0);
        bytes[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        let link = &head.link[..head.link.len().min(100)];
        bytes[157..157 + link.len()].copy_from_slice(link);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.data(data)
    }

    /// The entries of another behind its own.
    pub(crate) fn append(mut self, other: &Self) -> Self {
        self.bytes.extend_from_slice(&other.bytes);
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        let padded = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(padded, 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(name.as_bytes(), &Head::new(b'0', 0o644), data)
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.raw(name.as_bytes(), &Head::new(b'5', mode), b"")
    }

    pub(crate) fn link(self, flag: u8, name: &str, target: &str) -> Self {
        let mut head = Head::new(flag, 0o777);
        head.link = target.as_bytes().to_vec();
        self.raw(name.as_bytes(), &head, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(b'2', name, target)
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(b'1', name, target)
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            write!(text, "{length} {key}=").unwrap();
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.raw(b"PaxHeaders/x", &Head::new(b'x', 0o644), &text)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    /// Without the mark of the end.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> oci::Digest {
    use sha2::Digest as _;
    oci::Digest::from_sha256(&sha2::Sha256::digest(bytes).into())
}

/// An error with all its sources, as a user reads it.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
