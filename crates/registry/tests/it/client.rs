//! A registry under test, and the plainest client.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use registry::{Config, Server};
use testkit::http::{Response, request};

/// A registry with a folder of its own, on a runtime of its own.
pub(crate) struct Registry {
    runtime: Option<tokio::runtime::Runtime>,
    server: Option<Server>,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
    pub(crate) config: Config,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_with(|_, _| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            root: folder.path().join("root"),
            listen: vec![([127, 0, 0, 1], 0).into()],
            ..Config::default()
        };
        change(&mut config, folder.path());
        let (runtime, server) = start(&config);
        Self {
            address: server.addresses()[0],
            runtime: Some(runtime),
            server: Some(server),
            _folder: folder,
            config,
        }
    }

    /// Ends the server and starts another one on the same folder.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let (runtime, server) = start(&self.config);
        self.address = server.addresses()[0];
        (self.runtime, self.server) = (Some(runtime), Some(server));
    }

    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.server.as_ref().unwrap().reload(&self.config).unwrap();
    }

    pub(crate) fn try_reload(&self) -> Result<(), registry::OpenError> {
        self.server.as_ref().unwrap().reload(&self.config)
    }

    pub(crate) fn metrics(&self) -> SocketAddr {
        self.server.as_ref().unwrap().metrics_address().unwrap()
    }

    /// Ends the server for good.
    pub(crate) fn halt(&mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let (runtime, server) = (self.runtime.take(), self.server.take());
        if let (Some(runtime), Some(server)) = (runtime, server) {
            runtime.block_on(server.stop(Duration::from_secs(5)));
            runtime.shutdown_timeout(Duration::from_secs(30));
        }
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        request(self.address, method, path, headers, body).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[], b"")
    }

    /// Pushes a blob in one request.
    pub(crate) fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = storage::digest_of(bytes).to_string();
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.ask("POST", &path, &[], bytes);
        assert_eq!(answer.status, 201, "{}", text(&answer));
        digest
    }

    /// Pushes an image of one layer.
    pub(crate) fn image(&self, name: &str, tag: &str, layer: &[u8]) -> Image {
        let config = self.blob(name, b"{}");
        let layer_digest = self.blob(name, layer);
        let manifest = manifest(&config, &[(&layer_digest, layer.len())], "");
        let digest = self.manifest(name, tag, &manifest);
        Image {
            digest,
            manifest,
            layer: layer_digest,
        }
    }

    pub(crate) fn manifest(&self, name: &str, reference: &str, manifest: &str) -> String {
        let answer = self.put(name, reference, MANIFEST, manifest);
        assert_eq!(answer.status, 201, "{}", text(&answer));
        answer.header("docker-content-digest").unwrap().to_owned()
    }

    pub(crate) fn put(&self, name: &str, reference: &str, kind: &str, manifest: &str) -> Response {
        let path = format!("/v2/{name}/manifests/{reference}");
        self.ask("PUT", &path, &[("Content-Type", kind)], manifest.as_bytes())
    }

    pub(crate) fn collect(&self, grace: Duration) -> registry::Collected {
        let runtime = self.runtime.as_ref().unwrap();
        let socket = self.config.admin_socket();
        runtime
            .block_on(registry::admin::collect_at(&socket, Some(grace)))
            .unwrap()
    }

    /// How many files the content store has.
    pub(crate) fn files(&self) -> usize {
        let blobs = self.config.root.join("content/blobs/sha256");
        std::fs::read_dir(blobs).unwrap().count()
    }
}

fn start(config: &Config) -> (tokio::runtime::Runtime, Server) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::start(config)).unwrap();
    (runtime, server)
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) manifest: String,
    pub(crate) layer: String,
}

pub(crate) const MANIFEST: &str = oci::image::media_type::OCI_MANIFEST;
pub(crate) const INDEX: &str = oci::image::media_type::OCI_INDEX;

/// A manifest; `more` is put behind its layers, as `,"k":1`.
pub(crate) fn manifest(config: &str, layers: &[(&str, usize)], more: &str) -> String {
    let layers: Vec<String> = layers
        .iter()
        .map(|(digest, size)| {
            let kind = oci::image::media_type::OCI_LAYER_GZIP;
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    let kind = oci::image::media_type::OCI_CONFIG;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{kind}","digest":"{config}","size":2}},"layers":[{}]{more}}}"#,
        layers.join(",")
    )
}

pub(crate) fn text(answer: &Response) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    format!("{} {body}", answer.status)
}

pub(crate) fn code(answer: &Response) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["errors"][0]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

pub(crate) fn json(answer: &Response) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}
