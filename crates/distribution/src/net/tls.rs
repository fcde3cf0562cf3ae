//! TLS settings: which certificates are trusted, for which host.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::TransportError;
use crate::config::Trust;
use crate::hosts::Site;
use crate::location::Origin;

/// Bundles of the distributions, in the order in which Go looks for them.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const FILE_MAX: u64 = 16 << 20;
/// More files of one directory are not read.
const FILES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct TlsSettings {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    usual: OnceLock<Arc<ClientConfig>>,
    unverified: OnceLock<Arc<ClientConfig>>,
}

impl TlsSettings {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            trust,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            usual: OnceLock::new(),
            unverified: OnceLock::new(),
        }
    }

    /// The settings for a host. Certificates are read at the first use: an engine that never
    /// pulls never pays for them.
    pub(super) fn for_host(
        &self,
        origin: &Origin,
        verify: Verify,
        site: Option<&Site>,
    ) -> Result<Arc<ClientConfig>, TransportError> {
        let folder = self.folder_of(origin);
        let own = Own {
            folder: folder.as_deref(),
            site: site.filter(|site| !site.ca.is_empty() || site.identity.is_some()),
        };
        if own.folder.is_some() || own.site.is_some() {
            return self.build(origin, own, verify).map(Arc::new);
        }
        let cache = match verify {
            Verify::Certificate => &self.usual,
            Verify::Nothing => &self.unverified,
        };
        if let Some(settings) = cache.get() {
            return Ok(settings.clone());
        }
        let settings = Arc::new(self.build(origin, own, verify)?);
        Ok(cache.get_or_init(|| settings).clone())
    }

    fn build(
        &self,
        origin: &Origin,
        own: Own<'_>,
        verify: Verify,
    ) -> Result<ClientConfig, TransportError> {
        let setup = |source| TransportError::TlsSetup {
            host: origin.host.clone(),
            source,
        };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(setup)?;
        let builder = match verify {
            Verify::Certificate => {
                let roots = Arc::new(self.roots(own)?);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
                        .build()
                        .map_err(|e| setup(rustls::Error::General(e.to_string())))?;
                builder.with_webpki_verifier(verifier)
            }
            Verify::Nothing => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(self.provider.clone()))),
        };
        let mut settings = match own.identity()? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(setup)?,
            None => builder.with_no_client_auth(),
        };
        settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(settings)
    }

    fn roots(&self, own: Own<'_>) -> Result<RootCertStore, TransportError> {
        let mut roots = RootCertStore::empty();
        self.add_system_roots(&mut roots)?;
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in &self.trust.extra {
            roots.add_parsable_certificates(certificates(path)?);
        }
        for path in own.authorities() {
            roots.add_parsable_certificates(certificates(&path)?);
        }
        Ok(roots)
    }

    /// As Go does: a bundle and directories of the environment replace the system's own.
    fn add_system_roots(&self, roots: &mut RootCertStore) -> Result<(), TransportError> {
        if let Some(bundle) = &self.trust.bundle {
            roots.add_parsable_certificates(certificates(bundle)?);
        } else if self.trust.directories.is_empty() {
            let found = BUNDLES.iter().find_map(|p| certificates(Path::new(p)).ok());
            roots.add_parsable_certificates(found.unwrap_or_default());
        }
        for directory in &self.trust.directories {
            for path in files(directory, "") {
                // A directory of the system may hold anything; only certificates of it count.
                roots.add_parsable_certificates(certificates(&path).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// The folder with the registry's own certificates, if there is one.
    fn folder_of(&self, origin: &Origin) -> Option<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if origin.host.starts_with('.') || !origin.host.chars().all(plain) {
            return None;
        }
        let with_port = format!("{}:{}", origin.host, origin.port);
        let mut names = vec![with_port];
        if origin.port == 443 {
            names.push(origin.host.clone());
        }
        let all = self.trust.per_host.iter();
        all.flat_map(|base| names.iter().map(|name| base.join(name)))
            .find(|folder| folder.is_dir())
    }
}

/// What of a server is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// The certificate: chain, name and time.
    Certificate,
    /// Nothing: the person said that the registry is insecure.
    Nothing,
}

/// Certificate chain and key of the client, from the first `*.cert` that has its `*.key`.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What a host has of its own: a folder with certificates, and what a file says.
#[derive(Clone, Copy)]
struct Own<'a> {
    folder: Option<&'a Path>,
    site: Option<&'a Site>,
}

impl Own<'_> {
    fn authorities(self) -> Vec<PathBuf> {
        let mut all = self.folder.map(|f| files(f, "crt")).unwrap_or_default();
        all.extend(self.site.iter().flat_map(|site| site.ca.iter().cloned()));
        all
    }

    fn identity(self) -> Result<Option<Identity>, TransportError> {
        if let Some((cert, key)) = self.site.and_then(|site| site.identity.as_ref()) {
            return client_identity(cert, key).map(Some);
        }
        let mut all = self.folder.map(|f| files(f, "cert")).unwrap_or_default();
        if all.is_empty() {
            return Ok(None);
        }
        let path = all.swap_remove(0);
        client_identity(&path, &path.with_extension("key")).map(Some)
    }
}

fn client_identity(path: &Path, key_path: &Path) -> Result<Identity, TransportError> {
    let failed = |source| TransportError::Certificates {
        path: key_path.to_owned(),
        source,
    };
    let pem = read_bounded(key_path).map_err(failed)?;
    let key =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|e| failed(io::Error::other(e.to_string())))?;
    Ok((certificates(path)?, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let failed = |source| TransportError::Certificates {
        path: path.to_owned(),
        source,
    };
    let pem = read_bounded(path).map_err(failed)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .collect();
    if found.is_empty() {
        return Err(failed(io::Error::other("no certificate in the file")));
    }
    Ok(found)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The regular files of a directory with this extension (any, if it is empty), sorted by name.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let fits = |path: &PathBuf| {
        path.is_file() && (extension.is_empty() || path.extension().is_some_and(|e| e == extension))
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(fits).take(FILES_MAX).collect();
    found.sort();
    found
}

/// Accepts any certificate; the handshake's signature is checked all the same.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
