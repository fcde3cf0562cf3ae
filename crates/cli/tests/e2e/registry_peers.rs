//! Other people's programs push to the registry and pull from it: skopeo, podman, buildah, dockerd, containerd.
//!
//! They run in the root that the tool `peers` beside the checkout keeps, in the network of that tool.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::image::{Archive, Built, Compression, TestImage};

use crate::peers::TOOL;
use crate::registry::Process;
use crate::service::GORAE;

/// The network that the tool makes.
const NETWORK: &str = "/run/netns/gorae-peers";
const LIMIT: Duration = Duration::from_secs(120);

/// The peers' root, with folders of this test in it.
struct Peers {
    root: PathBuf,
    /// Below the peers' root.
    own: String,
}

impl Peers {
    /// Nothing where the tool is missing, which is said.
    fn find() -> Option<Self> {
        let root = crate::peers::root()?;
        let own = format!("/var/lib/gorae-test-{}", std::process::id());
        std::fs::create_dir_all(root.join(&own[1..])).unwrap();
        Some(Self { root, own })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(TOOL);
        let line = line.replace("OWN", &self.own);
        command.arg("run").args(testkit::docker::words(&line));
        command.env("TMPDIR", "/var/tmp").stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(output.status.success(), "{line}: {said}{complained}");
        said
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.own[1..])
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(self.folder()) {
            println!("{} stays: {error}", self.folder().display());
        }
    }
}

/// An image as an OCI layout that skopeo reads.
fn write_layout(folder: &Path, image: &Built) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let all = image.layers.iter().chain([&image.config, &image.manifest]);
    for blob in all {
        std::fs::write(blobs.join(blob.digest.hex()), &blob.bytes).unwrap();
    }
    let mut entry = image.manifest.descriptor();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "one"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    std::fs::write(folder.join("oci-layout"), version).unwrap();
}

fn image() -> Built {
    let layer = |name: &str, size: usize| {
        let content: Vec<u8> = (0..=255).cycle().take(size).collect();
        Archive::new()
            .file(name, &content, 0o644)
            .unwrap()
            .finish()
            .unwrap()
    };
    TestImage::empty()
        .with_layer(layer("small", 10), Compression::Gzip)
        .with_layer(layer("large", 3 << 20), Compression::Gzip)
        .build()
        .unwrap()
}

#[test]
fn other_programs() {
    let Some(peers) = Peers::find() else {
        return;
    };
    let image = image();
    write_layout(&peers.folder().join("layout"), &image);
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={NETWORK}")).arg(GORAE);
    command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"]);
    command.arg(peers.folder().join("registry"));
    let registry = Process::of(command);
    let name = registry.address.to_string();
    let digest = image.manifest.digest.to_string();
    skopeo(&peers, &name, &digest);
    podman(&peers, &name);
    buildah(&peers, &name);
    docker_and_containerd(&peers, &name);
}

fn skopeo(peers: &Peers, name: &str, digest: &str) {
    let plain = "--src-tls-verify=false --dest-tls-verify=false";
    peers.run(&format!(
        "skopeo copy {plain} oci:OWN/layout:one docker://{name}/a/skopeo:1"
    ));
    let told = peers.run(&format!(
        "skopeo inspect --tls-verify=false --format {{{{.Digest}}}} docker://{name}/a/skopeo:1"
    ));
    assert_eq!(told.trim(), digest);
    peers.run(&format!(
        "skopeo copy {plain} docker://{name}/a/skopeo@{digest} docker://{name}/b/copy:2"
    ));
    peers.run(&format!(
        "skopeo copy {plain} docker://{name}/b/copy:2 dir:OWN/dir"
    ));
    let tags = peers.run(&format!(
        "skopeo list-tags --tls-verify=false docker://{name}/b/copy"
    ));
    assert!(tags.contains("\"2\""), "{tags}");
    peers.run(&format!(
        "skopeo delete --tls-verify=false docker://{name}/b/copy:2"
    ));
    let gone = peers
        .command(&format!(
            "skopeo inspect --tls-verify=false docker://{name}/b/copy:2"
        ))
        .output()
        .unwrap();
    assert!(!gone.status.success());
}

fn podman(peers: &Peers, name: &str) {
    let podman = "podman --root OWN/podman --runroot OWN/podman-run --storage-driver vfs";
    let image = format!("{name}/a/skopeo:1");
    peers.run(&format!("{podman} pull --tls-verify=false {image}"));
    peers.run(&format!("{podman} tag {image} {name}/c/podman:1"));
    peers.run(&format!(
        "{podman} push --tls-verify=false {name}/c/podman:1"
    ));
    peers.run(&format!("{podman} rmi -a -f"));
    peers.run(&format!(
        "{podman} pull --tls-verify=false {name}/c/podman:1"
    ));
    peers.run(&format!("{podman} rmi -a -f"));
}

fn buildah(peers: &Peers, name: &str) {
    let buildah = "buildah --root OWN/buildah --runroot OWN/buildah-run --storage-driver vfs";
    peers.run(&format!(
        "{buildah} pull --tls-verify=false {name}/c/podman:1"
    ));
    let push = "push --tls-verify=false";
    peers.run(&format!(
        "{buildah} {push} {name}/c/podman:1 docker://{name}/d/buildah:1"
    ));
    peers.run(&format!("{buildah} rmi -a -f"));
    peers.run(&format!(
        "{buildah} pull --tls-verify=false {name}/d/buildah:1"
    ));
    peers.run(&format!("{buildah} rmi -a -f"));
}

/// A dockerd of this test's own, with its containerd.
struct Dockerd {
    child: Child,
}

impl Dockerd {
    fn start(peers: &Peers) -> Self {
        let line = "dockerd -H unix://OWN/d.sock --data-root OWN/data --exec-root OWN/exec --pidfile OWN/d.pid \
             --bridge none --iptables=false --ip6tables=false";
        let log = std::fs::File::create(peers.folder().join("dockerd.log")).unwrap();
        let mut command = peers.command(line);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let own = Self {
            child: command.spawn().unwrap(),
        };
        let started = Instant::now();
        loop {
            let asked = peers
                .command("docker -H unix://OWN/d.sock version")
                .output();
            if asked.unwrap().status.success() {
                return own;
            }
            let log = || std::fs::read_to_string(peers.folder().join("dockerd.log"));
            assert!(started.elapsed() < LIMIT, "{}", log().unwrap());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // its containerd ends with it, and its mounts are those of a namespace of its own
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _gone = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ended = self.child.wait();
    }
}

fn docker_and_containerd(peers: &Peers, name: &str) {
    let dockerd = Dockerd::start(peers);
    let docker = "docker -H unix://OWN/d.sock";
    let image = format!("{name}/d/buildah:1");
    peers.run(&format!("{docker} pull {image}"));
    peers.run(&format!("{docker} tag {image} {name}/e/docker:1"));
    peers.run(&format!("{docker} push {name}/e/docker:1"));
    peers.run(&format!("{docker} rmi {image} {name}/e/docker:1"));
    peers.run(&format!("{docker} pull {name}/e/docker:1"));
    peers.run(&format!("{docker} rmi {name}/e/docker:1"));
    let ctr = "ctr -a OWN/exec/containerd/containerd.sock -n gorae-test";
    // its content store needs no snapshotter of a kernel's
    peers.run(&format!(
        "{ctr} content fetch --plain-http {name}/e/docker:1"
    ));
    peers.run(&format!(
        "{ctr} images tag {name}/e/docker:1 {name}/f/ctr:1"
    ));
    peers.run(&format!("{ctr} images push --plain-http {name}/f/ctr:1"));
    peers.run(&format!(
        "{ctr} images rm --sync {name}/f/ctr:1 {name}/e/docker:1"
    ));
    peers.run(&format!("{ctr} content fetch --plain-http {name}/f/ctr:1"));
    drop(dockerd);
}
