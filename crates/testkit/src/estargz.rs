//! Layers in the format eStargz, which gzip readers take for ordinary ones.
//!
//! Each file's content begins a gzip member of its own, so that it can be fetched alone; the archive's last
//! entry is the table of contents, and an empty member behind it says where that begins
//! (containerd/stargz-snapshotter, docs/estargz.md).

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::image::{Blob, digest_of};

/// The name of the table of contents in the archive.
pub const TABLE: &str = "stargz.index.json";
/// The entry that says that nothing of the layer is wanted ahead of the rest.
pub const LANDMARK: &str = ".no.prefetch.landmark";

/// A layer and what it is when it is inflated.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The layer as a registry has it.
    pub blob: Blob,
    /// The archive.
    pub archive: Vec<u8>,
    /// What its descriptor says beside length and digest.
    pub annotations: Value,
}

/// Writes members one after the other.
#[derive(Default)]
struct Writer {
    done: Vec<u8>,
    archive: Vec<u8>,
    member: Vec<u8>,
    table: Vec<Value>,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.member.extend_from_slice(bytes);
        self.archive.extend_from_slice(bytes);
    }

    /// Ends the member; tells where the next one begins.
    fn cut(&mut self) -> io::Result<usize> {
        if !self.member.is_empty() {
            let mut encoder = GzEncoder::new(&mut self.done, Compression::best());
            encoder.write_all(&self.member)?;
            encoder.finish()?;
            self.member.clear();
        }
        Ok(self.done.len())
    }

    /// Writes an entry, its content in a member of its own.
    fn file(&mut self, name: &str, content: &[u8], mode: u32) -> io::Result<usize> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(name)?;
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.put(header.as_bytes());
        let offset = self.cut()?;
        self.put(content);
        self.put(&vec![
            0;
            content.len().next_multiple_of(512) - content.len()
        ]);
        Ok(offset)
    }
}

/// Makes a layer of regular files.
///
/// # Errors
/// When a name does not fit into a header.
pub fn layer(files: &[(&str, &[u8])]) -> io::Result<Layer> {
    let mut writer = Writer::default();
    let landmark: (&str, &[u8]) = (LANDMARK, &[0x0f]);
    for (name, content) in files.iter().copied().chain([landmark]) {
        let offset = writer.file(name, content, 0o644)?;
        let digest = digest_of(content).to_string();
        writer.table.push(json!({
            "name": name, "type": "reg", "size": content.len(), "modtime": "1970-01-01T00:00:00Z",
            "mode": 0o644, "offset": offset, "digest": digest, "chunkDigest": digest,
        }));
    }
    let start = writer.cut()?;
    let table = json!({"version": 1, "entries": writer.table}).to_string();
    let mut header = Header::new_ustar();
    header.set_path(TABLE)?;
    header.set_mode(0o444);
    header.set_size(table.len() as u64);
    header.set_cksum();
    writer.put(header.as_bytes());
    writer.put(table.as_bytes());
    writer.put(&vec![0; table.len().next_multiple_of(512) - table.len()]);
    writer.put(&[0; 1024]);
    writer.cut()?;
    let Writer {
        mut done, archive, ..
    } = writer;
    done.extend(footer(start));
    let annotations = json!({
        "containerd.io/snapshot/stargz/toc.digest": digest_of(table.as_bytes()),
        "io.containers.estargz.uncompressed-size": archive.len().to_string(),
    });
    Ok(Layer {
        blob: Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", done),
        archive,
        annotations,
    })
}

/// An empty member whose header's extra field (RFC 1952, 2.3.1.1) names an offset.
fn footer(table: usize) -> Vec<u8> {
    let place = format!("{table:016x}STARGZ");
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
    footer.extend([26, 0, b'S', b'G', 22, 0]);
    footer.extend(place.as_bytes());
    // one stored block without bytes, and the sum and length of nothing
    footer.extend([1, 0, 0, 0xff, 0xff]);
    footer.extend([0; 8]);
    footer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn is_gzip_of_a_tar_with_a_table_that_is_found_by_the_footer() {
        let layer = layer(&[("a", b"one"), ("b/c", &[7; 600])]).unwrap();
        let bytes = &layer.blob.bytes;
        let mut inflated = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(bytes.as_slice());
        decoder.read_to_end(&mut inflated).unwrap();
        assert_eq!(inflated, layer.archive);
        let mut archive = tar::Archive::new(inflated.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a", "b/c", LANDMARK, TABLE]);
        let footer = &bytes[bytes.len() - 51..];
        let place = std::str::from_utf8(&footer[16..32]).unwrap();
        let place = usize::from_str_radix(place, 16).unwrap();
        let mut table = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&bytes[place..]);
        decoder.read_to_end(&mut table).unwrap();
        assert!(table.starts_with(TABLE.as_bytes()));
    }
}
