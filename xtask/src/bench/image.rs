//! The images that are run and pulled: made here, the same bytes on every machine.

use super::subject::word;
use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// The small image's name.
pub(crate) const BUSYBOX: &str = "bench/busybox";
/// Debian's busybox-static.
const PROGRAM: &str = "/bin/busybox";

const LAYERS: u64 = 5;
const FILES: u64 = 30_000;
const BYTES: u64 = 909_000_000;

/// Makes a tarball of busybox and its links; gives its path.
pub(crate) fn busybox(folder: &Path) -> Result<PathBuf> {
    let program =
        fs::read(PROGRAM).with_context(|| format!("read {PROGRAM}: install busybox-static"))?;
    let path = folder.join("busybox.tar");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut archive = tar::Builder::new(BufWriter::new(file));
    append(&mut archive, "bin/busybox", 0o755, &program)?;
    for name in ["sh", "true", "sleep"] {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        archive.append_link(&mut header, format!("bin/{name}"), "busybox")?;
    }
    archive.into_inner()?.flush()?;
    Ok(path)
}

/// Unpacks the small image, for what runs without an engine; gives the folder.
pub(crate) fn rootfs(folder: &Path, tarball: &Path) -> Result<PathBuf> {
    let rootfs = folder.join("rootfs");
    fs::create_dir_all(&rootfs).with_context(|| format!("create {}", rootfs.display()))?;
    super::subject::output(Command::new("tar").args([
        "-C",
        &word(&rootfs),
        "-xf",
        &word(tarball),
    ]))?;
    Ok(rootfs)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_767_225_600);
    header.set_size(size);
    header
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = header(u64::try_from(bytes.len())?, mode);
    archive
        .append_data(&mut header, name, bytes)
        .with_context(|| format!("append {name}"))
}

/// How layers are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The big image as an OCI image layout, which names it `all`; `four` are its first four layers, and `last` is
/// the other.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) name: String,
    pub(crate) layout: PathBuf,
    pub(crate) packing: Packing,
    /// The hashes of its layers.
    pub(crate) layers: Vec<String>,
}

/// Makes the big image, or finds it from an earlier run.
pub(crate) fn large(folder: &Path, packing: Packing) -> Result<Large> {
    let name = format!("large-{}", packing.name());
    let layout = folder.join(&name);
    let done = layout.join("layers");
    let found = |layers: String| Large {
        name: name.clone(),
        layout: layout.clone(),
        packing,
        layers: layers.lines().map(str::to_owned).collect(),
    };
    if let Ok(layers) = fs::read_to_string(&done) {
        return Ok(found(layers));
    }
    println!(
        "    making an image of {FILES} files and {} MB",
        BYTES / 1_000_000
    );
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
    let layers = thread::scope(|scope| {
        let threads: Vec<_> = (0..LAYERS)
            .map(|number| {
                scope.spawn({
                    let blobs = &blobs;
                    move || layer(blobs, number, packing)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a layer's thread panicked"))?
            })
            .collect::<Result<Vec<_>>>()
    })?;
    index(&layout, &layers, packing)?;
    let blobs: Vec<&str> = layers.iter().map(|layer| layer.blob.as_str()).collect();
    let text = blobs.join("\n");
    fs::write(&done, &text).with_context(|| format!("write {}", done.display()))?;
    Ok(found(text))
}

/// So many bytes that pack as the large image's do.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    Filler::new(seed).bytes(count)
}

/// Makes a tarball with one file of so many bytes, which pack as the large image's do.
pub(crate) fn tarball(path: &Path, seed: u64, bytes: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut archive = tar::Builder::new(BufWriter::new(file));
    let content = Filler::new(seed).bytes(usize::try_from(bytes)?);
    append(&mut archive, "data", 0o644, &content)?;
    archive.into_inner()?.flush().context("write a tarball")
}

#[derive(Debug)]
struct Layer {
    blob: String,
    size: u64,
    diff: String,
}

/// Counts and hashes what goes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            count: 0,
        }
    }

    fn finish(self) -> (W, String, u64) {
        (self.inner, hex::encode(self.hash.finalize()), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        self.count += u64::try_from(taken).map_err(io::Error::other)?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What packs a layer.
enum Packer<W: Write> {
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Packer<W> {
    fn new(packing: Packing, inner: W) -> Result<Self> {
        Ok(match packing {
            Packing::Gzip => Self::Gzip(GzEncoder::new(inner, Compression::new(6))),
            Packing::Zstd => Self::Zstd(zstd::Encoder::new(inner, 3).context("start zstd")?),
        })
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(packer) => packer.finish(),
            Self::Zstd(packer) => packer.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(packer) => packer.write(bytes),
            Self::Zstd(packer) => packer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(packer) => packer.flush(),
            Self::Zstd(packer) => packer.flush(),
        }
    }
}

fn layer(blobs: &Path, number: u64, packing: Packing) -> Result<Layer> {
    let partial = blobs.join(format!(".layer-{number}"));
    let file = BufWriter::new(
        File::create(&partial).with_context(|| format!("create {}", partial.display()))?,
    );
    let packed = Packer::new(packing, Hashing::new(file))?;
    let mut archive = tar::Builder::new(Hashing::new(packed));
    let mut filler = Filler::new(number + 1);
    let (files, mut left) = (FILES / LAYERS, BYTES / LAYERS);
    for file in 0..files {
        let rest = files - file;
        // about the mean of what is left, from a little to twice as much
        let size = if rest == 1 {
            left
        } else {
            (filler.below(2 * left / rest) + 1).min(left)
        };
        left -= size;
        let name = format!("usr/share/layer{number}/{:03}/{file:05}.dat", file / 100);
        append(
            &mut archive,
            &name,
            0o644,
            &filler.bytes(usize::try_from(size)?),
        )?;
    }
    ensure!(left == 0, "a layer lacks {left} bytes");
    let (packed, diff, _) = archive.into_inner()?.finish();
    let (mut file, blob, size) = packed.finish()?.finish();
    file.flush()?;
    fs::rename(&partial, blobs.join(&blob))
        .with_context(|| format!("rename {}", partial.display()))?;
    Ok(Layer { blob, size, diff })
}

fn index(layout: &Path, layers: &[Layer], packing: Packing) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    let put = |media_type: &str, value: &serde_json::Value| -> Result<serde_json::Value> {
        let bytes = serde_json::to_vec(value)?;
        let hash = hex::encode(Sha256::digest(&bytes));
        fs::write(blobs.join(&hash), &bytes).with_context(|| format!("write blob {hash}"))?;
        Ok(
            json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": bytes.len()}),
        )
    };
    let media_type = format!("application/vnd.oci.image.layer.v1.tar+{}", packing.name());
    let parts = [
        ("all", layers),
        ("four", &layers[..4]),
        ("last", &layers[4..]),
    ];
    let mut manifests = Vec::new();
    for (name, layers) in parts {
        let diffs: Vec<String> = layers
            .iter()
            .map(|layer| format!("sha256:{}", layer.diff))
            .collect();
        let config = put(
            "application/vnd.oci.image.config.v1+json",
            &json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}}),
        )?;
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| json!({"mediaType": media_type, "digest": format!("sha256:{}", layer.blob), "size": layer.size}))
            .collect();
        let mut manifest = put(
            "application/vnd.oci.image.manifest.v1+json",
            &json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers}),
        )?;
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        manifests.push(manifest);
    }
    fs::write(
        layout.join("index.json"),
        serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": manifests}))?,
    )?;
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    Ok(())
}

/// Bytes that look random and pack as programs and texts do, the same for the same seed.
struct Filler {
    state: u64,
    text: Vec<u8>,
    noise: Vec<u8>,
}

/// The pools are longer than what gzip looks back on, so that repeats do not pack to nothing.
const POOL: usize = 1 << 20;

fn letter(byte: u8) -> u8 {
    b'a' + byte % 26
}

impl Filler {
    fn new(seed: u64) -> Self {
        let mut filler = Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            text: Vec::new(),
            noise: Vec::new(),
        };
        let words: Vec<[u8; 8]> = (0..256)
            .map(|_| filler.next().to_le_bytes().map(letter))
            .collect();
        while filler.noise.len() < POOL {
            let bytes = filler.next().to_le_bytes();
            filler.noise.extend(bytes);
        }
        while filler.text.len() < POOL {
            // a word is one byte of surprise, and from three to eight bytes long
            let [word, length, ..] = filler.next().to_le_bytes();
            filler
                .text
                .extend(&words[usize::from(word)][..3 + usize::from(length % 6)]);
            filler.text.push(b' ');
        }
        filler
    }

    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    /// Slices of the pools, of which one in eight is noise.
    fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let pick = self.next();
            let pool = if pick.is_multiple_of(8) {
                &self.noise
            } else {
                &self.text
            };
            let begin = (usize::try_from(pick >> 32).unwrap_or_default()) % (POOL - 4096);
            let length = (size - bytes.len()).min(4096);
            bytes.extend_from_slice(&pool[begin..begin + length]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let bytes = |seed| Filler::new(seed).bytes(10_000);
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
        assert_eq!(bytes(3).len(), 10_000);
    }

    #[test]
    fn the_bytes_pack_like_files() {
        let bytes = Filler::new(9).bytes(1 << 20);
        let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
        packed.write_all(&bytes).unwrap();
        let ratio = packed.finish().unwrap().len() * 100 / bytes.len();
        assert!((30..55).contains(&ratio), "{ratio} %");
    }
}
