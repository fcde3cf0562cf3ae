//! Measures how fast a registry takes blobs.
//!
//! ```text
//! push serve ADDRESS FOLDER         a registry without any settings
//! push load ADDRESS CLIENTS BLOBS   each client pushes so many blobs of 32 MiB, in one piece each
//! ```
//!
//! `cargo run -p registry --profile profiling --example push`.
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

type Failure = Box<dyn Error + Send + Sync>;

const BLOB: usize = 32 << 20;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", address, folder] => serve(address.parse()?, folder),
        ["load", address, clients, blobs] => {
            load(address.parse()?, clients.parse()?, blobs.parse()?)
        }
        _ => Err("see the head of the program".into()),
    }
}

fn serve(address: SocketAddr, folder: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let config = registry::Config {
        root: folder.into(),
        listen: vec![address],
        ..registry::Config::default()
    };
    runtime.block_on(async {
        let server = registry::Server::start(&config).await?;
        println!("listens on {:?}", server.addresses());
        std::future::pending::<()>().await;
        drop(server);
        Ok(())
    })
}

fn load(address: SocketAddr, clients: u64, blobs: u64) -> Result<(), Failure> {
    let made: Vec<Vec<(Vec<u8>, String)>> = (0..clients)
        .map(|client| (0..blobs).map(|n| blob(client * blobs + n)).collect())
        .collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = made
            .iter()
            .map(|own| scope.spawn(|| own.iter().try_for_each(|one| push(address, one))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err("a client panicked".into()))
        })
    })?;
    let bytes = clients * blobs * BLOB as u64;
    let took = begun.elapsed();
    let rate = u128::from(bytes) / took.as_micros().max(1);
    println!("{bytes} bytes in {took:?}: {rate} MB/s");
    Ok(())
}

/// Bytes that no other number has, and their digest.
fn blob(number: u64) -> (Vec<u8>, String) {
    let mut bytes = vec![0; BLOB];
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for word in bytes.as_chunks_mut::<8>().0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
    let sum = Sha256::digest(&bytes);
    let digest = oci::Digest::from_sha256(&sum.into()).to_string();
    (bytes, digest)
}

fn push(address: SocketAddr, (bytes, digest): &(Vec<u8>, String)) -> Result<(), Failure> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    let begin = "/v2/bench/load/blobs/uploads/";
    let place = ask(&mut stream, address, "POST", begin, b"")?;
    let path = place.find("/v2/").and_then(|at| place.get(at..));
    let path = path.ok_or("no place for an upload")?;
    let mark = if path.contains('?') { '&' } else { '?' };
    let end = format!("{path}{mark}digest={digest}");
    ask(&mut stream, address, "PUT", &end, bytes).map(drop)
}

/// Asks and gives the answer's `Location`.
fn ask(
    stream: &mut BufReader<TcpStream>,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<String, Failure> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    stream.get_mut().write_all(head.as_bytes())?;
    stream.get_mut().write_all(body)?;
    let (mut line, mut location, mut left) = (String::new(), String::new(), 0);
    stream.read_line(&mut line)?;
    if !line.contains(" 20") {
        return Err(format!("{method} {path}: {line}").into());
    }
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line)?;
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "location" => value.trim().clone_into(&mut location),
            "content-length" => left = value.trim().parse()?,
            _ => {}
        }
    }
    std::io::copy(&mut stream.by_ref().take(left), &mut std::io::sink())?;
    Ok(location)
}
