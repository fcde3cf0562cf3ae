//! TLS: whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use distribution::ClientConfig;
use distribution::config::NameSources;
use oci::Platform;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use testkit::image::TestImage;
use testkit::registry::{Registry, RegistryOptions, make_certificate};
use tokio_rustls::TlsAcceptor;

use crate::fake::{Fake, answer, descriptor, ok, quick, read_all, repository};

pub(crate) const NAME: &str = "registry.test";

/// A registry with a certificate for `registry.test`, and an image in it.
pub(crate) fn registry() -> Registry {
    let options = RegistryOptions {
        tls_names: vec![NAME.into()],
        ..RegistryOptions::default()
    };
    let registry = Registry::start_with(&options).unwrap();
    let image = TestImage::busybox().unwrap().build().unwrap();
    registry.push("a", "t", &image).unwrap();
    registry
}

/// Settings that know `registry.test` from a hosts file.
pub(crate) fn with_hosts(folder: &Path) -> ClientConfig {
    let hosts = folder.join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 {NAME} other.test\n")).unwrap();
    ClientConfig {
        names: NameSources {
            hosts,
            resolv_conf: "/nonexistent".into(),
        },
        ..quick()
    }
}

async fn pull(host: &str, port: u16, config: ClientConfig) -> Result<(), String> {
    let repository = repository(&format!("{host}:{port}/a:t"), config);
    let resolved = repository.resolve(&Platform::host()).await;
    let resolved = resolved.map_err(|e| e.message())?;
    let layer = &resolved.manifest.layers[0];
    read_all(&resolved.repository, layer).await.unwrap();
    Ok(())
}

#[tokio::test]
async fn trusts_a_given_authority_only() {
    let registry = registry();
    let port = registry.address().port();
    let folder = TempDir::new().unwrap();
    let mut config = with_hosts(folder.path());
    let error = pull(NAME, port, config.clone()).await.unwrap_err();
    assert_eq!(
        error,
        format!(
            "Get \"https://{NAME}:{port}/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
        )
    );
    config.trust.bundle = registry.ca().map(Path::to_owned);
    pull(NAME, port, config.clone()).await.unwrap();
    let error = pull("other.test", port, config.clone()).await.unwrap_err();
    assert!(
        error.contains("certificate is not valid for other.test"),
        "{error}"
    );
    config.trust.bundle = Some("/nonexistent".into());
    let error = pull(NAME, port, config).await.unwrap_err();
    assert!(
        error.ends_with("read certificates from /nonexistent: no such file or directory"),
        "{error}"
    );
    // Several requests share one connection of HTTP/2.
    assert!(
        registry.log().contains("HTTP/2.0\" 200"),
        "{}",
        registry.log()
    );
}

#[tokio::test]
async fn trusts_extra_roots_and_the_folder_of_a_registry() {
    let registry = registry();
    let port = registry.address().port();
    let folder = TempDir::new().unwrap();
    let ca = registry.ca().unwrap();
    let mut extra = with_hosts(folder.path());
    extra.trust.extra = vec![ca.to_owned()];
    pull(NAME, port, extra).await.unwrap();

    let own = folder.path().join("certs.d").join(format!("{NAME}:{port}"));
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(ca, own.join("ca.crt")).unwrap();
    let mut per_host = with_hosts(folder.path());
    per_host.trust.per_host = vec![folder.path().join("certs.d")];
    pull(NAME, port, per_host.clone()).await.unwrap();
    assert!(pull("other.test", port, per_host).await.is_err());

    let directory = folder.path().join("roots");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(ca, directory.join("x.pem")).unwrap();
    std::fs::write(directory.join("README"), "no certificate").unwrap();
    let mut directories = with_hosts(folder.path());
    directories.trust.directories = vec![directory];
    pull(NAME, port, directories).await.unwrap();
}

#[tokio::test]
async fn insecure_registries_need_no_trusted_certificate() {
    let registry = registry();
    let port = registry.address().port();
    let folder = TempDir::new().unwrap();
    let mut config = with_hosts(folder.path());
    config.insecure_registries = vec![format!("{NAME}:{port}")];
    pull(NAME, port, config).await.unwrap();
    // Loopback by address: plain http is tried first, and the server asks for TLS.
    pull("127.0.0.1", port, quick()).await.unwrap();
    pull("localhost", port, quick()).await.unwrap();
}

#[tokio::test]
async fn plain_http_needs_a_word_of_the_person() {
    let registry = Registry::start().unwrap();
    registry
        .push("a", "t", &TestImage::busybox().unwrap().build().unwrap())
        .unwrap();
    let port = registry.address().port();
    let folder = TempDir::new().unwrap();
    let mut config = with_hosts(folder.path());
    let error = pull(NAME, port, config.clone()).await.unwrap_err();
    assert!(
        error.ends_with("http: server gave HTTP response to HTTPS client"),
        "{error}"
    );
    config.insecure_registries = vec![NAME.into()];
    pull(NAME, port, config).await.unwrap();
}

/// A server that lets in who shows this certificate.
pub(crate) fn acceptor_for_clients(folder: &Path, client: CertificateDer<'static>) -> TlsAcceptor {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(client).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let (chain, key) = identity(folder);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Makes the server's certificate and leaves its authority's in the folder.
fn identity(folder: &Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let [ca, certificate, key] = make_certificate(&[NAME.to_owned()]).unwrap();
    std::fs::write(folder.join("ca.crt"), ca).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    (chain, key)
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = identity(folder);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn refuses_a_redirect_from_https_to_http() {
    let plain = Fake::start(|_, _| ok(b"layer")).await;
    let target = format!("http://{}/x", plain.address);
    let folder = TempDir::new().unwrap();
    let fake = Fake::start_with(Some(acceptor(folder.path())), move |seen, _| {
        match seen.target.as_str() {
            "/v2/" => ok(b"{}"),
            _ => answer("302 Found", &[("Location", &target)], b""),
        }
    })
    .await;
    let mut config = with_hosts(folder.path());
    config.trust.bundle = Some(folder.path().join("ca.crt"));
    let secure = repository(&format!("{NAME}:{}/a", fake.address.port()), config.clone());
    let error = read_all(&secure, &descriptor(b"layer")).await.unwrap_err();
    assert!(
        error.message().ends_with("it leads from https to http"),
        "{}",
        error.message()
    );
    assert!(plain.seen().is_empty());
    config.insecure_registries = vec![NAME.into()];
    let insecure = repository(&format!("{NAME}:{}/a", fake.address.port()), config);
    assert_eq!(
        read_all(&insecure, &descriptor(b"layer")).await.unwrap(),
        b"layer"
    );
}

#[tokio::test]
async fn refuses_a_token_server_without_tls() {
    let folder = TempDir::new().unwrap();
    let tokens = Fake::start(|_, _| ok(br#"{"token":"t"}"#)).await;
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address);
    let fake = Fake::start_with(Some(acceptor(folder.path())), move |_, _| {
        answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    let mut config = with_hosts(folder.path());
    config.trust.bundle = Some(folder.path().join("ca.crt"));
    let error = pull(NAME, fake.address.port(), config).await.unwrap_err();
    assert!(error.ends_with("is not https"), "{error}");
    assert!(tokens.seen().is_empty());
}
