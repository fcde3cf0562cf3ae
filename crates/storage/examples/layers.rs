//! Measures the store by itself: layers into folders or images, their removal, and packing.
//!
//! ```text
//! layers unpack overlayfs|erofs STORE ROUNDS BLOB...   unpacks all of them at once, and removes them again
//! layers pack gzip|zstd:9|... FILE                     packs a file into nothing
//! ```
//!
//! `cargo run -p storage --profile profiling --example layers`; needs root.
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use storage::{SnapshotterChoice, Store, StoreOptions};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["unpack", choice, root, rounds, ref blobs @ ..] => {
            let store = open(choice, Path::new(root))?;
            (0..rounds.parse()?).try_for_each(|_: u32| unpack(&store, blobs))
        }
        ["pack", packing, file] => pack(packing, file),
        _ => Err("see the head of the program".into()),
    }
}

/// Counts what is written to it.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(packing: &str, file: &str) -> Result<(), Failure> {
    let source = File::open(file)?;
    let length = source.metadata()?.len();
    let mut target = Counted(0);
    let begun = Instant::now();
    storage::gzip::pack_as(packing.parse()?, source, &mut target)?;
    let took = begun.elapsed();
    println!("{length} bytes into {} in {took:?}", target.0);
    Ok(())
}

fn open(choice: &str, root: &Path) -> Result<Store, Failure> {
    let snapshotter = match choice {
        "overlayfs" => SnapshotterChoice::Overlayfs,
        "erofs" => SnapshotterChoice::Erofs,
        _ => return Err("neither overlayfs nor erofs".into()),
    };
    let options = StoreOptions {
        snapshotter,
        mounts: root.join("mounts"),
        limits: storage::LayerLimits::default(),
    };
    Ok(Store::open(root, options)?)
}

fn unpack(store: &Store, blobs: &[&str]) -> Result<(), Failure> {
    let begun = Instant::now();
    let staged = std::thread::scope(|scope| {
        let threads: Vec<_> = blobs
            .iter()
            .map(|blob| {
                let layers = store.layers();
                scope.spawn(move || -> Result<_, Failure> {
                    let source = File::open(blob)?;
                    let staged = layers.apply(source, &layers.options(None))?;
                    Ok(staged)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a thread panicked".into()))
            })
            .collect::<Result<Vec<_>, Failure>>()
    })?;
    let mut chains = Vec::new();
    for layer in staged {
        let chain = layer.commit(chains.last())?;
        chains.push(chain);
    }
    println!("unpacked in {:?}", begun.elapsed());
    let begun = Instant::now();
    for chain in chains.iter().rev() {
        store.layers().remove(chain)?;
    }
    println!("removed in {:?}", begun.elapsed());
    Ok(())
}
