//! Noticing that a client is gone, although it may have half-closed its connection.
//!
//! A client that ends its input looks like one that left: both make a read return nothing. The
//! kernel tells them apart: only when both directions are closed does epoll report `EPOLLHUP`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A watch on one connection.
#[derive(Debug)]
pub(crate) struct HangUp {
    // an own descriptor, because epoll takes each only once
    fd: AsyncFd<OwnedFd>,
}

impl HangUp {
    pub(crate) fn new(connection: &impl AsFd) -> io::Result<Self> {
        let fd = connection.as_fd().try_clone_to_owned()?;
        // neither readable nor writable are asked for: EPOLLHUP is reported always (epoll_ctl(2))
        #[expect(
            deprecated,
            reason = "the newer call is unsafe, for types whose descriptor may change; an OwnedFd's cannot"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::PRIORITY)?;
        Ok(Self { fd })
    }

    /// Returns when the peer has closed its connection.
    pub(crate) async fn wait(&self) {
        while let Ok(mut guard) = self.fd.ready(Interest::PRIORITY).await {
            if guard.ready().is_read_closed() {
                return;
            }
            guard.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn tells_a_half_close_from_a_close() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let watch = HangUp::new(&ours).unwrap();
        let short = Duration::from_millis(30);
        theirs.write_all(b"x").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert!(tokio::time::timeout(short, watch.wait()).await.is_err());
        drop(theirs);
        tokio::time::timeout(Duration::from_secs(5), watch.wait())
            .await
            .unwrap();
    }
}
