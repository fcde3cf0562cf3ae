//! The registry as a program: engines push to it and pull from it, and it may be killed at any moment.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::docker::Client;
use testkit::http::{Response, request};
use testkit::image::digest_of;

use crate::bench::engine;
use crate::service::GORAE;

/// A registry process. It ends with this value.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it says on stderr behind its addresses.
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Takes a command that becomes a registry, and waits until it listens.
    pub(crate) fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("the registry does not listen: {said}");
            };
            if let Some((_, address)) = line.split_once("the registry listens on ") {
                break address.parse().unwrap();
            }
            said.push_str(&line);
        };
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            child,
            address,
            log,
        }
    }

    pub(crate) fn start(root: &Path) -> Self {
        let mut command = Command::new(GORAE);
        command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"]);
        command.arg(root);
        Self::of(command)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }

    fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn push_blob(server: SocketAddr, name: &str, bytes: &[u8]) -> Option<String> {
    let begun = request(
        server,
        "POST",
        &format!("/v2/{name}/blobs/uploads/"),
        &[],
        b"",
    )
    .ok()?;
    let place = begun.header("location")?.to_owned();
    for piece in bytes.chunks(40_000) {
        request(server, "PATCH", &place, &[], piece).ok()?;
    }
    let digest = digest_of(bytes).to_string();
    let put = format!("{place}?digest={digest}");
    let done = request(server, "PUT", &put, &[], b"").ok()?;
    (done.status == 201).then_some(digest)
}

/// Pushes an image; `None` where the registry did not say that it has it.
fn push_image(server: SocketAddr, tag: &str, layer: &[u8]) -> Option<()> {
    let config = push_blob(server, "a", b"{}")?;
    let digest = push_blob(server, "a", layer)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len()}],
    });
    let path = format!("/v2/a/manifests/{tag}");
    let kind = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    let text = manifest.to_string();
    let done = request(server, "PUT", &path, &kind, text.as_bytes()).ok()?;
    (done.status == 201).then_some(())
}

fn get(server: SocketAddr, path: &str) -> Response {
    request(server, "GET", path, &[], b"").unwrap()
}

/// Every tag that there is has its image, whole.
fn check_all(server: SocketAddr) -> Vec<String> {
    let list: Value = serde_json::from_slice(&get(server, "/v2/a/tags/list").body).unwrap();
    let tags = list["tags"].as_array().cloned().unwrap_or_default();
    let tags: Vec<String> = tags
        .iter()
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect();
    for tag in &tags {
        let manifest = get(server, &format!("/v2/a/manifests/{tag}"));
        assert_eq!(manifest.status, 200, "{tag}");
        let manifest: Value = serde_json::from_slice(&manifest.body).unwrap();
        for pointer in [&manifest["config"], &manifest["layers"][0]] {
            let digest = pointer["digest"].as_str().unwrap();
            let blob = get(server, &format!("/v2/a/blobs/{digest}"));
            assert_eq!(blob.status, 200, "{tag} {digest}");
            assert_eq!(digest_of(&blob.body).to_string(), digest, "{tag}");
        }
    }
    tags
}

/// Whatever the registry said that it has, it has after a kill at any moment; and what a kill left is collected.
#[test]
fn a_kill_loses_nothing_that_was_told() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = folder.path().join("r");
    let told = Mutex::new(Vec::new());
    for round in 0..12_u8 {
        let registry = Process::start(&root);
        let (server, over) = (registry.address, AtomicBool::new(false));
        std::thread::scope(|scope| {
            for worker in 0..2_u8 {
                let (told, over) = (&told, &over);
                scope.spawn(move || {
                    for number in 0..u8::MAX {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        let tag = format!("t{round}-{worker}-{number}");
                        let mut layer = vec![number; 150_000];
                        layer.extend([round, worker]);
                        if push_image(server, &tag, &layer).is_some() {
                            told.lock().unwrap().push(tag);
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(15 + 23 * u64::from(round)));
            registry.kill9();
            over.store(true, Ordering::Relaxed);
        });
    }
    let registry = Process::start(&root);
    push_image(registry.address, "last", b"last").unwrap();
    let tags = check_all(registry.address);
    for tag in told.lock().unwrap().iter() {
        assert!(tags.contains(tag), "{tag} was told and is lost");
    }
    // a second one on the same folder is refused, and told why
    let second = Command::new(GORAE)
        .args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"])
        .arg(&root)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use by another process"), "{said}");
    drop(registry);
    // none runs: the collection happens in the folder itself
    let gc = Command::new(GORAE)
        .args(["registry", "gc", "--grace", "0s", "--root"])
        .arg(&root)
        .output()
        .unwrap();
    assert!(
        gc.status.success(),
        "{}",
        String::from_utf8_lossy(&gc.stderr)
    );
    let registry = Process::start(&root);
    assert_eq!(check_all(registry.address), tags);
    let files = std::fs::read_dir(root.join("content/blobs/sha256")).unwrap();
    let mut used: Vec<String> = Vec::new();
    for tag in &tags {
        let manifest = get(registry.address, &format!("/v2/a/manifests/{tag}"));
        used.push(digest_of(&manifest.body).to_string());
        let manifest: Value = serde_json::from_slice(&manifest.body).unwrap();
        for pointer in [&manifest["config"], &manifest["layers"][0]] {
            used.push(pointer["digest"].as_str().unwrap().to_owned());
        }
    }
    used.sort();
    used.dedup();
    assert_eq!(files.count(), used.len(), "nothing else is left");
}

/// An engine pushes and pulls, with its own command line and with Docker's, and signs in.
#[test]
fn an_engine_pushes_and_pulls() {
    let engine = engine();
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    // htpasswd -nbB gorae geheim42
    let line = "gorae:$2y$05$eCD/L8vLkXlyh3w.eQyXBeluZsLeLfDsnIcuHQdEW3olJ9Suz12Qq\n";
    std::fs::write(&users, line).unwrap();
    let config = folder.path().join("registry.toml");
    let text = format!(
        "root = '{root}'\nlisten = ['127.0.0.1:0']\n[auth]\nhtpasswd = '{users}'\n\
         [auth.token]\nservice = 'here'\nissuer = 'here'\nissue = true\n\
         [[access]]\nusers = ['*']\nrepositories = ['**']\nrights = ['pull', 'push', 'delete']\n\
         [[access]]\nanonymous = true\nrepositories = ['public/*']\nrights = ['pull']\n",
        root = folder.path().join("root").display(),
        users = users.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = engine.command(Client::Gorae, ["registry", "serve", "--config-file"]);
    command.arg(&config);
    let registry = engine.network().within(|| Process::of(command)).unwrap();
    let name = registry.address.to_string();
    for (number, client) in Client::BOTH.into_iter().enumerate() {
        let target = format!("{name}/public/box{number}:1");
        engine.run(client, &format!("tag busybox {target}")).ok();
        let refused = engine.run(client, &format!("push {target}"));
        refused.fails(1);
        let wrong = engine.run(client, &format!("login -u gorae -p wrong {name}"));
        wrong.fails(1);
        engine
            .run(client, &format!("login -u gorae -p geheim42 {name}"))
            .shows("Login Succeeded");
        engine.run(client, &format!("push {target}")).ok();
        engine.run(client, &format!("logout {name}")).ok();
        engine.run(client, &format!("rmi {target}")).ok();
        // guests pull what is public, with the tokens that they get
        engine.run(client, &format!("pull {target}")).ok();
        engine
            .run(client, &format!("run --rm {target} echo it works"))
            .prints("it works");
        engine.run(client, &format!("rmi {target}")).ok();
    }
    let log = registry.log.lock().unwrap().clone();
    assert!(!log.contains("ERROR"), "{log}");
    registry.signal(Signal::HUP);
    registry.signal(Signal::TERM);
}
