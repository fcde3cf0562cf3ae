//! A real registry for a test: CNCF distribution, as Debian's `docker-registry` packages it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci::Digest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::image::{Blob, Built, digest_of, index_of};

const START_LIMIT: Duration = Duration::from_secs(60);
/// Another program may take a port between its choice and its use.
const PORT_TRIES: usize = 8;
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry shall ask of its clients.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Whether requests need [`Registry::USER`] and [`Registry::PASSWORD`].
    pub authentication: bool,
    /// Names and addresses to make a certificate for; plain http where there are none.
    pub tls_names: Vec<String>,
    /// The address to listen on.
    pub listen: IpAddr,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            authentication: false,
            tls_names: Vec::new(),
            listen: Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// A running registry with a storage of its own. It ends with this value, and also when the
/// process that holds it is killed.
///
/// It is filled over a second, open port on loopback, so that authentication and TLS need no
/// client in the tests.
#[derive(Debug)]
pub struct Registry {
    public: Server,
    fill: Server,
    ca: Option<PathBuf>,
    // Dropped last, when no server uses the storage any more.
    folder: TempDir,
}

impl Registry {
    /// The user that an authenticating registry knows.
    pub const USER: &str = "gorae";
    /// The user's password.
    pub const PASSWORD: &str = "geheim42";
    /// `htpasswd -nbB` of the two; the registry accepts bcrypt only.
    const HTPASSWD: &str = "gorae:$2y$05$eCD/L8vLkXlyh3w.eQyXBeluZsLeLfDsnIcuHQdEW3olJ9Suz12Qq\n";

    /// Starts an open registry on loopback, over plain http.
    ///
    /// # Errors
    /// When `docker-registry` is not installed or does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&RegistryOptions::default())
    }

    /// Starts a registry.
    ///
    /// # Errors
    /// When `docker-registry` is not installed or does not start.
    pub fn start_with(options: &RegistryOptions) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("gorae-registry-")
            .tempdir()?;
        let mut extra = String::new();
        if options.authentication {
            let file = folder.path().join("htpasswd");
            fs::write(&file, Self::HTPASSWD)?;
            let file = file.display();
            let _infallible = write!(
                extra,
                "auth:\n  htpasswd:\n    realm: gorae-test\n    path: {file}\n"
            );
        }
        let tls = certificate(folder.path(), &options.tls_names)?;
        let public = Server::start(
            folder.path(),
            "public",
            options.listen,
            &extra,
            tls.as_ref(),
        )?;
        let fill = Server::start(folder.path(), "fill", Ipv4Addr::LOCALHOST.into(), "", None)?;
        Ok(Self {
            public,
            fill,
            ca: tls.map(|tls| tls.ca),
            folder,
        })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.public.address
    }

    /// The registry's name in image references, as `127.0.0.1:40123`.
    #[must_use]
    pub fn name(&self) -> String {
        self.public.address.to_string()
    }

    /// The certificate of the authority that signed the registry's, in PEM.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The folder of its storage.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// The registry's log so far, with every request.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.public.log).unwrap_or_default()
    }

    /// Ends the public server, as a registry that goes down. The storage stays.
    pub fn stop(&mut self) {
        self.public.stop();
    }

    /// Pushes an image and returns its manifest's digest.
    ///
    /// # Errors
    /// When the registry refuses.
    pub fn push(&self, repository: &str, tag: &str, image: &Built) -> io::Result<Digest> {
        self.put_image_blobs(repository, image)?;
        self.put_manifest(repository, tag, &image.manifest)
    }

    /// Pushes images and an index of them, and returns the index's digest.
    ///
    /// # Errors
    /// When the registry refuses.
    pub fn push_index(&self, repository: &str, tag: &str, images: &[Built]) -> io::Result<Digest> {
        for image in images {
            self.put_image_blobs(repository, image)?;
            let digest = image.manifest.digest.to_string();
            self.put_manifest(repository, &digest, &image.manifest)?;
        }
        let index = Blob::new(OCI_INDEX, index_of(images));
        self.put_manifest(repository, tag, &index)
    }

    /// Pushes one blob.
    ///
    /// # Errors
    /// When the registry refuses.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> io::Result<Digest> {
        let digest = digest_of(bytes);
        let begin = format!("/v2/{repository}/blobs/uploads/");
        let upload = self.expect("POST", &begin, &[], &[], 202)?;
        let location = upload.header("location").unwrap_or_default();
        let path = location.split_once("/v2/").map_or("", |(_, rest)| rest);
        let path = format!("/v2/{path}&digest={digest}");
        let kind = ("Content-Type", "application/octet-stream");
        self.expect("PUT", &path, &[kind], bytes, 201)?;
        Ok(digest)
    }

    /// Puts a manifest or an index under a tag or its digest.
    ///
    /// # Errors
    /// When the registry refuses.
    pub fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Blob,
    ) -> io::Result<Digest> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let kind = ("Content-Type", manifest.media_type.as_str());
        self.expect("PUT", &path, &[kind], &manifest.bytes, 201)?;
        Ok(manifest.digest.clone())
    }

    fn put_image_blobs(&self, repository: &str, image: &Built) -> io::Result<()> {
        self.put_blob(repository, &image.config.bytes)?;
        for layer in &image.layers {
            self.put_blob(repository, &layer.bytes)?;
        }
        Ok(())
    }

    fn expect(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        status: u16,
    ) -> io::Result<Response> {
        let response = http::request(self.fill.address, method, path, headers, body)?;
        if response.status == status {
            return Ok(response);
        }
        Err(io::Error::other(format!(
            "{method} {path}: {} {}",
            response.status,
            String::from_utf8_lossy(&response.body)
        )))
    }
}

/// One process of `docker-registry`.
#[derive(Debug)]
struct Server {
    /// The shell that ends the registry when the pipe to it closes, whoever closes it.
    shell: Child,
    registry: u32,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    fn start(
        folder: &Path,
        name: &str,
        listen: IpAddr,
        extra: &str,
        tls: Option<&Tls>,
    ) -> io::Result<Self> {
        require_program("docker-registry")?;
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let address = free_port(listen)?;
            let configuration = folder.join(format!("{name}.yml"));
            fs::write(&configuration, configure(folder, address, extra, tls))?;
            let log = folder.join(format!("{name}.log"));
            let server = Self::spawn(&configuration, log, address)?;
            match server.wait_ready() {
                Ok(()) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("docker-registry did not start")))
    }

    fn spawn(configuration: &Path, log: PathBuf, address: SocketAddr) -> io::Result<Self> {
        const SCRIPT: &str = r#"docker-registry serve "$1" </dev/null >"$2" 2>&1 &
            pid=$!; echo $pid; read -r _; kill $pid; wait $pid"#;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sh"])
            .args([configuration, &log])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        Ok(Self {
            shell,
            registry: line.trim().parse().map_err(io::Error::other)?,
            address,
            log,
        })
    }

    /// The log says that it listens; a connection alone could be to someone else on the port.
    fn wait_ready(&self) -> io::Result<()> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains("listening on") {
                return Ok(());
            }
            // A process that has ended, reaped or not, has no executable any more.
            if fs::read_link(format!("/proc/{}/exe", self.registry)).is_err() {
                return Err(io::Error::other(format!("docker-registry ended: {log}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(io::Error::other("docker-registry does not listen"))
    }

    fn stop(&mut self) {
        // The end of its input makes the shell end the registry.
        drop(self.shell.stdin.take());
        let _already_ended = self.shell.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn require_program(name: &str) -> io::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(name).is_file()) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{name} is not in PATH: apt-get install {name}"),
    ))
}

fn free_port(listen: IpAddr) -> io::Result<SocketAddr> {
    TcpListener::bind((listen, 0))?.local_addr()
}

fn configure(folder: &Path, address: SocketAddr, extra: &str, tls: Option<&Tls>) -> String {
    let storage = folder.join("storage");
    let mut text = format!(
        "version: 0.1\n\
         log:\n  level: info\n\
         storage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {}\n    maxthreads: 100\n\
         http:\n  addr: '{address}'\n",
        storage.display()
    );
    if let Some(tls) = tls {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        let _infallible = write!(
            text,
            "  tls:\n    certificate: {certificate}\n    key: {key}\n"
        );
    }
    text + extra
}

#[derive(Debug)]
struct Tls {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

fn certificate(folder: &Path, names: &[String]) -> io::Result<Option<Tls>> {
    if names.is_empty() {
        return Ok(None);
    }
    let made = make_certificate(names).map_err(io::Error::other)?;
    let files = ["ca.crt", "server.crt", "server.key"].map(|name| folder.join(name));
    for (path, pem) in files.iter().zip(made) {
        fs::write(path, pem)?;
    }
    let [ca, certificate, key] = files;
    Ok(Some(Tls {
        ca,
        certificate,
        key,
    }))
}

/// An authority's certificate, and a certificate that it signed with its key, all in PEM.
///
/// # Errors
/// When a name cannot be in a certificate.
pub fn make_certificate(names: &[String]) -> Result<[String; 3], rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut authority.distinguished_name;
    name.push(DnType::CommonName, "Gorae test authority");
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let server = CertificateParams::new(names.to_vec())?.signed_by(&key, &issuer)?;
    Ok([issuer.pem(), server.pem(), key.serialize_pem()])
}
