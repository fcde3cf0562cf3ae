//! Files and pipes as bodies of requests.

use api::client::{Body, BodySender};
use bytes::Bytes;
use std::io::{self, Read};

/// Read and sent at once.
const CHUNK: usize = 256 << 10;

/// A body that is read while it is sent.
pub(crate) fn body(reader: Box<dyn Read + Send>) -> Body {
    let (sender, body) = Body::stream();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || runtime.block_on(feed(reader, sender)));
    body
}

/// Reads on a thread of its own: a file or pipe blocks, and the body must go on meanwhile.
async fn feed(mut reader: Box<dyn Read + Send>, sender: BodySender) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if !sender.send(Bytes::copy_from_slice(&buffer[..length])).await {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return sender.fail(error).await,
        }
    }
}
