//! Compressions of layers: recognised by content, undone as a stream.

use std::io::{self, BufReader, Chain, Cursor, Read};

use oci::image::media_type;

/// How a layer blob is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, RFC 1952; several members in a row are one stream.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// Bytes read from the source at once.
const INPUT: usize = 256 * 1024;

impl Compression {
    /// The compression that a layer's media type promises; `None` for a type that is no layer.
    #[must_use]
    pub fn from_media_type(text: &str) -> Option<Self> {
        match text {
            media_type::OCI_LAYER | media_type::DOCKER_LAYER => Some(Self::None),
            media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some(Self::Gzip),
            media_type::OCI_LAYER_ZSTD => Some(Self::Zstd),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            "application/vnd.oci.image.layer.nondistributable.v1.tar" => Some(Self::None),
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The OCI media type of a layer that is packed so.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::OCI_LAYER,
            Self::Gzip => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// Recognises a compression by its first bytes, as Docker does; anything unknown is a tar.
    ///
    /// # Errors
    ///
    /// bzip2 and xz are known by name, so that the message can say what the matter is.
    pub fn detect(start: &[u8]) -> io::Result<Self> {
        let unsupported = |name: &str| {
            let text =
                format!("{name} compression is not supported: use gzip, zstd or a plain tar");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        };
        match start {
            [0x1f, 0x8b, 0x08, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A skippable frame (RFC 8878, 3.1.2) in front: zstd:chunked and pzstd write them.
            [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50 => Ok(Self::Zstd),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            _ => Ok(Self::None),
        }
    }
}

impl Compression {
    /// Reads the uncompressed bytes of a layer's blob, packed in any known way.
    ///
    /// # Errors
    ///
    /// The source fails, or is packed in another way.
    pub fn reader<R: Read + Send + 'static>(source: R) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Decoder::new(source)?))
    }
}

/// A source whose first bytes were looked at.
type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A stream of the uncompressed bytes.
pub(crate) enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Input<R>>>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of a source and starts the fitting decoder.
    pub(crate) fn new(mut source: R) -> io::Result<Self> {
        let start = start_of(&mut source)?;
        Self::with_start(start, source)
    }

    fn with_start(start: Vec<u8>, source: R) -> io::Result<Self> {
        let kind = Compression::detect(&start)?;
        let input = BufReader::with_capacity(INPUT, Cursor::new(start).chain(source));
        Ok(match kind {
            Compression::None => Self::Plain(input),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                Self::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input)?))
            }
        })
    }

    /// The compression that was found.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// The most memory that an xz stream may ask for, KiB; `xz -9` asks for 65 MiB.
const XZ_MEMORY: u32 = 128 << 10;

/// Undoes any packing that an archive may come in: bzip2 and xz too, which no layer can have.
pub(crate) fn unpacked<'r, R: Read + 'r>(mut source: R) -> io::Result<Box<dyn Read + 'r>> {
    let start = start_of(&mut source)?;
    let kind = start.clone();
    let input = |start, source| BufReader::with_capacity(INPUT, Cursor::new(start).chain(source));
    Ok(match kind.as_slice() {
        [b'B', b'Z', b'h', ..] => {
            Box::new(bzip2::bufread::MultiBzDecoder::new(input(start, source)))
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let input = input(start, source);
            Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY))
        }
        _ => Box::new(Decoder::with_start(start, source)?),
    })
}

/// Reads a magic number's worth of bytes, however small the pieces are that the source gives.
fn start_of<R: Read>(source: &mut R) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(6);
    source.by_ref().take(6).read_to_end(&mut start)?;
    Ok(start)
}
