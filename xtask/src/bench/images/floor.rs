//! What this machine takes for the work that no engine can leave out: read, hash, inflate, hash, write.

use crate::bench::image::{Large, Packing};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Bytes that go from step to step at once.
const PIECE: usize = 256 << 10;

/// Hashes what is read through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Unpacks every layer to one file, on as many threads as there are processors; gives milliseconds.
pub(super) fn unpack(large: &Large, folder: &Path) -> Result<f64> {
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let hands = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..hands)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(layer) = large.layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                        one(large, layer, folder)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .unwrap_or_else(|_| bail!("a thread of the floor panicked"))?;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn one(large: &Large, layer: &str, folder: &Path) -> Result<()> {
    let path = large.layout.join("blobs/sha256").join(layer);
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let packed = BufReader::with_capacity(
        PIECE,
        Hashed {
            inner: file,
            hash: Sha256::new(),
        },
    );
    let target = folder.join(layer);
    let out = File::create(&target).with_context(|| format!("create {}", target.display()))?;
    let packed = match large.packing {
        Packing::Gzip => {
            let mut plain = flate2::bufread::GzDecoder::new(packed);
            copy(&mut plain, out)?;
            plain.into_inner()
        }
        Packing::Zstd => {
            let mut plain = zstd::Decoder::with_buffer(packed)?;
            copy(&mut plain, out)?;
            plain.finish()
        }
    };
    let sum = hex::encode(packed.into_inner().hash.finalize());
    if sum != layer {
        bail!("{} has the digest {sum}", path.display());
    }
    Ok(())
}

fn copy(plain: &mut impl Read, mut out: File) -> Result<()> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let count = plain.read(&mut piece).context("unpack a layer")?;
        if count == 0 {
            std::hint::black_box(hash.finalize());
            return Ok(());
        }
        hash.update(&piece[..count]);
        out.write_all(&piece[..count]).context("write a layer")?;
    }
}
