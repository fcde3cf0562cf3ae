//! Test images, made in memory from the host's static busybox.

use std::io::{self, Read as _, Write as _};
use std::process::Command;

use flate2::write::GzEncoder;
use oci::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

const BUSYBOX: &str = "/bin/busybox";

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, the usual one.
    #[default]
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Which media types an image has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Those of the OCI image specification.
    #[default]
    Oci,
    /// Those of Docker's schema 2.
    Docker,
}

/// An image to be built.
#[derive(Clone, Debug)]
pub struct TestImage {
    /// Uncompressed archives with their compression, lowest first.
    pub layers: Vec<(Vec<u8>, Compression)>,
    /// The `config` object of the image configuration, as `{"Cmd": ["sh"]}`.
    pub config: Value,
    /// GOOS, GOARCH and variant.
    pub platform: (String, String, Option<String>),
    /// The media types.
    pub format: Format,
}

/// Bytes with what they are.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The media type.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// An image in the form in which a registry has it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The manifest.
    pub manifest: Blob,
    /// The image configuration.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<Blob>,
    /// The digests of the uncompressed layers.
    pub diff_ids: Vec<Digest>,
    platform: Value,
}

impl Blob {
    /// Bytes of a media type.
    #[must_use]
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest_of(&bytes),
            bytes,
        }
    }

    /// The descriptor in JSON.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.bytes.len(),
        })
    }
}

impl TestImage {
    /// An image without layers for this machine's platform.
    #[must_use]
    pub fn empty() -> Self {
        let host = oci::Platform::host();
        Self {
            layers: Vec::new(),
            config: json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}),
            platform: (host.os, host.architecture, host.variant),
            format: Format::Oci,
        }
    }

    /// An image of busybox with all its applets, `sh` as command.
    ///
    /// # Errors
    /// When the host has no static busybox (Debian's `busybox-static`).
    pub fn busybox() -> io::Result<Self> {
        let image = Self::empty().with_config("Cmd", json!(["sh"]));
        Ok(image.with_layer(busybox_layer()?, Compression::Gzip))
    }

    /// The image with one more layer on top.
    #[must_use]
    pub fn with_layer(mut self, archive: Vec<u8>, compression: Compression) -> Self {
        self.layers.push((archive, compression));
        self
    }

    /// The image with a field of its `config` set.
    #[must_use]
    pub fn with_config(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// The image for another platform, as `arm64`.
    #[must_use]
    pub fn with_architecture(mut self, architecture: &str, variant: Option<&str>) -> Self {
        self.platform.1 = architecture.to_owned();
        self.platform.2 = variant.map(str::to_owned);
        self
    }

    /// The image with other media types.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Compresses the layers and makes configuration and manifest.
    ///
    /// # Errors
    /// When a layer cannot be compressed.
    pub fn build(&self) -> io::Result<Built> {
        let mut layers = Vec::new();
        for (archive, compression) in &self.layers {
            let media_type = self.layer_type(*compression);
            layers.push(Blob::new(media_type, compress(archive, *compression)?));
        }
        let archives = self.layers.iter().map(|(archive, _)| digest_of(archive));
        let diff_ids: Vec<Digest> = archives.collect();
        let config = Blob::new(self.config_type(), self.configuration(&diff_ids));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.manifest_type(),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        Ok(Built {
            manifest: Blob::new(self.manifest_type(), manifest.to_string().into_bytes()),
            config,
            layers,
            diff_ids,
            platform: self.platform_json(),
        })
    }

    fn configuration(&self, diff_ids: &[Digest]) -> Vec<u8> {
        let created = "2026-01-01T00:00:00Z";
        let step =
            |number| json!({"created": created, "created_by": format!("test layer {number}")});
        let mut configuration = self.platform_json();
        configuration["created"] = created.into();
        configuration["config"] = self.config.clone();
        configuration["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        configuration["history"] = (0..diff_ids.len()).map(step).collect();
        configuration.to_string().into_bytes()
    }

    fn platform_json(&self) -> Value {
        let (os, architecture, variant) = &self.platform;
        let mut platform = json!({"architecture": architecture, "os": os});
        if let Some(variant) = variant {
            platform["variant"] = variant.as_str().into();
        }
        platform
    }

    fn manifest_type(&self) -> &'static str {
        match self.format {
            Format::Oci => "application/vnd.oci.image.manifest.v1+json",
            Format::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn config_type(&self) -> &'static str {
        match self.format {
            Format::Oci => "application/vnd.oci.image.config.v1+json",
            Format::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer_type(&self, compression: Compression) -> &'static str {
        match (self.format, compression) {
            (Format::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Format::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (_, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Format::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Format::Docker, Compression::Gzip) => {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
        }
    }
}

impl Built {
    /// The image with other bytes of a layer, which inflate to the same, and with annotations of it.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn with_blob(
        mut self,
        number: usize,
        blob: &Blob,
        annotations: &Value,
    ) -> io::Result<Self> {
        let mut manifest: Value = serde_json::from_slice(&self.manifest.bytes)?;
        let missing = || io::Error::other(format!("there is no layer {number}"));
        *self.layers.get_mut(number).ok_or_else(missing)? = blob.clone();
        manifest["layers"][number] = blob.descriptor();
        manifest["layers"][number]["annotations"] = annotations.clone();
        let bytes = manifest.to_string().into_bytes();
        self.manifest = Blob::new(&self.manifest.media_type, bytes);
        Ok(self)
    }
}

/// An OCI index of images, in the given order.
#[must_use]
pub fn index_of(images: &[Built]) -> Vec<u8> {
    let entry = |image: &Built| {
        let mut entry = image.manifest.descriptor();
        entry["platform"] = image.platform.clone();
        entry
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": images.iter().map(entry).collect::<Vec<_>>(),
    });
    index.to_string().into_bytes()
}

/// The digest of bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// A layer's archive, entry by entry.
///
/// Names are written as they are given, hostile ones too.
pub struct Archive {
    builder: Builder<Vec<u8>>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self::new()
    }
}

impl Archive {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self {
            builder: Builder::new(Vec::new()),
        }
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// When the name does not fit into a header.
    pub fn file(self, name: &str, content: &[u8], mode: u32) -> io::Result<Self> {
        self.entry(EntryType::Regular, name, None, content, mode)
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// When the name does not fit into a header.
    pub fn directory(self, name: &str, mode: u32) -> io::Result<Self> {
        self.entry(EntryType::Directory, name, None, &[], mode)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When a name does not fit into a header.
    pub fn symlink(self, name: &str, target: &str) -> io::Result<Self> {
        self.entry(EntryType::Symlink, name, Some(target), &[], 0o777)
    }

    /// Adds a hard link.
    ///
    /// # Errors
    /// When a name does not fit into a header.
    pub fn hardlink(self, name: &str, target: &str) -> io::Result<Self> {
        self.entry(EntryType::Link, name, Some(target), &[], 0o644)
    }

    /// Adds an entry of any type.
    ///
    /// # Errors
    /// When a name does not fit into a header.
    pub fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        target: Option<&str>,
        content: &[u8],
        mode: u32,
    ) -> io::Result<Self> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_767_225_600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        put_name(&mut header.as_old_mut().name, name)?;
        if let Some(target) = target {
            put_name(&mut header.as_old_mut().linkname, target)?;
        }
        header.set_cksum();
        self.builder.append(&header, content)?;
        Ok(self)
    }

    /// The archive's bytes.
    ///
    /// # Errors
    /// Never: it is in memory.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.builder.into_inner()
    }
}

/// `Header::set_path` would refuse what a hostile layer may hold.
fn put_name(field: &mut [u8; 100], name: &str) -> io::Result<()> {
    let too_long = || io::Error::other(format!("{name:?} is too long for a tar header"));
    let place = field.get_mut(..name.len()).ok_or_else(too_long)?;
    place.copy_from_slice(name.as_bytes());
    Ok(())
}

/// Compresses an archive.
///
/// # Errors
/// Never: it is in memory.
pub fn compress(archive: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(archive.to_vec()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(archive)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::encode_all(archive, 1),
    }
}

fn busybox_layer() -> io::Result<Vec<u8>> {
    let missing = |error: io::Error| {
        let text = format!("{BUSYBOX}: {error}: apt-get install busybox-static");
        io::Error::new(error.kind(), text)
    };
    let mut program = Vec::new();
    std::fs::File::open(BUSYBOX)
        .map_err(missing)?
        .read_to_end(&mut program)?;
    let list = Command::new(BUSYBOX).arg("--list").output()?;
    let mut archive = Archive::new();
    for (name, mode) in [
        ("bin/", 0o755),
        ("dev/", 0o755),
        ("etc/", 0o755),
        ("home/", 0o755),
        ("proc/", 0o755),
        ("root/", 0o700),
        ("sys/", 0o755),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("var/", 0o755),
    ] {
        archive = archive.directory(name, mode)?;
    }
    archive = archive
        .file("bin/busybox", &program, 0o755)?
        .file(
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
            0o644,
        )?
        .file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)?;
    for applet in String::from_utf8_lossy(&list.stdout).lines() {
        if applet != "busybox" {
            archive = archive.hardlink(&format!("bin/{applet}"), "bin/busybox")?;
        }
    }
    archive.finish()
}
