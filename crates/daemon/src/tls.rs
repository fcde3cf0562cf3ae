//! TLS of the API.

pub(crate) use registry::tls::{Tls, TlsError, TlsFiles};

/// Attach and exec take a connection over, which HTTP/2 has no way for.
pub(crate) const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];
