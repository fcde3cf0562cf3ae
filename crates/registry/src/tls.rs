//! TLS of listeners, the registry's and the engine's: the server's certificate, and who may come in.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The longest file of certificates.
const FILE_MAX: u64 = 16 << 20;

/// The files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities whose certificates clients must show; absent where clients need none.
    pub authority: Option<PathBuf>,
    /// The server's certificate, with those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
}

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file holds nothing of the kind.
    #[error("{path} holds no {what} in PEM form")]
    Empty {
        /// File.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A certificate of the authorities is not one.
    #[error("take the authorities of {path}")]
    Authority {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: rustls::Error,
    },
    /// Clients cannot be verified by these authorities.
    #[error("verify clients by {path}")]
    Verifier {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
    /// Certificate and key cannot be used.
    #[error("use certificate {certificate} with key {key}")]
    Identity {
        /// Certificate.
        certificate: PathBuf,
        /// Key.
        key: PathBuf,
        /// Cause.
        #[source]
        source: rustls::Error,
    },
}

/// The settings of new connections; certificates are renewed in place.
#[derive(Debug)]
pub struct Tls {
    protocols: &'static [&'static [u8]],
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files. Clients may choose among the protocols, the first being the favourite.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn new(files: &TlsFiles, protocols: &'static [&'static [u8]]) -> Result<Self, TlsError> {
        Ok(Self {
            protocols,
            current: RwLock::new(Arc::new(load(files, protocols)?)),
        })
    }

    /// Reads the files again; what they held before stays where they cannot be used.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let next = Arc::new(load(files, self.protocols)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// What takes a new connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }
}

/// Reads certificates, key and authorities.
fn load(files: &TlsFiles, protocols: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let identity = |source| TlsError::Identity {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(identity)?;
    let builder = match &files.authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                let failed = |source| TlsError::Authority {
                    path: path.clone(),
                    source,
                };
                roots.add(certificate).map_err(failed)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|source| TlsError::Verifier {
                    path: path.clone(),
                    source,
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&files.certificate)?;
    let mut config = builder
        .with_single_cert(chain, private_key(&files.key)?)
        .map_err(identity)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .collect();
    if found.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
            what: "certificate",
        });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| TlsError::Empty {
        path: path.to_owned(),
        what: "private key",
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes))
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(
            path("other.pem"),
            KeyPair::generate().unwrap().serialize_pem(),
        )
        .unwrap();
        let check = |authority: Option<&str>, certificate: &str, key: &str, expect: &str| {
            let files = TlsFiles {
                authority: authority.map(path),
                certificate: path(certificate),
                key: path(key),
            };
            match load(&files, &[]) {
                Ok(_) => assert_eq!(expect, ""),
                Err(error) => assert!(error.to_string().contains(expect), "{error}"),
            }
        };
        check(None, "cert.pem", "key.pem", "");
        check(Some("cert.pem"), "cert.pem", "key.pem", "");
        check(None, "none.pem", "key.pem", "read ");
        check(None, "key.pem", "key.pem", "holds no certificate");
        check(None, "cert.pem", "cert.pem", "holds no private key");
        check(None, "cert.pem", "other.pem", "use certificate ");
        check(
            Some("key.pem"),
            "cert.pem",
            "key.pem",
            "holds no certificate",
        );
    }
}
