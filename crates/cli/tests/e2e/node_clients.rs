//! dockerode and the Dev Containers command line, unmodified, on Node.js.

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::docker::{Outcome, Session, node_packages};
use testkit::engine::Engine;
use testkit::image::TestImage;
use testkit::registry::Registry;

use crate::bench::engine;

const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn dockerode_drives_everything() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let image = TestImage::busybox().unwrap();
    registry
        .push("test/pulled", "v1", &image.build().unwrap())
        .unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/dockerode.js");
    let mut command = engine.program("node");
    command.arg(script).arg(registry.name());
    let outcome = Session::pipes(command).unwrap().finish_within(LIMIT);
    outcome.shows("all well: dockerode");
}

/// Runs `devcontainer` on a folder, with what its environment would otherwise fetch left alone.
#[track_caller]
fn devcontainer(engine: &Engine, folder: &Path, verb: &str, more: &[&str]) -> Outcome {
    let program = node_packages().join("node_modules/.bin/devcontainer");
    let mut command = engine.program("node");
    command.arg(program).arg(verb).arg("--workspace-folder");
    command.arg(folder).args(more);
    Session::pipes(command).unwrap().finish_within(LIMIT)
}

/// A workspace with one file and this configuration.
fn workspace(engine: &Engine, configuration: &str) -> PathBuf {
    let folder = engine.home().join("work");
    std::fs::create_dir_all(folder.join(".devcontainer")).unwrap();
    std::fs::write(folder.join("file"), "of the workspace\n").unwrap();
    let path = folder.join(".devcontainer/devcontainer.json");
    std::fs::write(path, configuration).unwrap();
    folder
}

const IMAGE_ONLY: &str = r#"{
  "name": "here",
  "image": "busybox",
  "containerEnv": {"A": "in the container"},
  "remoteEnv": {"B": "for tools"},
  "mounts": ["source=cache,target=/cache,type=volume"],
  "runArgs": ["--hostname", "devbox"],
  "appPort": ["8095:80"],
  "init": true,
  "capAdd": ["SYS_PTRACE"],
  "onCreateCommand": "echo created > /cache/created",
  "postCreateCommand": {"one": "touch /one", "two": ["touch", "/two words"]},
  "postStartCommand": "date > /started"
}"#;

#[test]
fn a_dev_container_of_an_image() {
    let engine = engine();
    let folder = workspace(&engine, IMAGE_ONLY);
    let made = devcontainer(&engine, &folder, "up", &[]);
    made.shows(r#""outcome":"success""#);
    let exec = |words: &[&str]| devcontainer(&engine, &folder, "exec", words);
    exec(&["sh", "-c", "cat file; pwd; echo $A, $B; hostname; ls /one /started '/two words'"])
        .prints(
            "of the workspace\n/workspaces/work\nin the container, for tools\ndevbox\n/one\n/started\n/two words",
        );
    exec(&["sh", "-c", "echo changed > file; exit 7"]).fails(7);
    assert_eq!(
        std::fs::read_to_string(folder.join("file")).unwrap(),
        "changed\n"
    );
    let id = engine.docker("ps -q --no-trunc").ok().to_owned();
    assert!(made.stdout.contains(&id), "{made:?}");
    // a second time it is the same one, also after a stop
    devcontainer(&engine, &folder, "up", &[]).shows(&id);
    engine.docker(&format!("stop -t 0 {id}")).ok();
    devcontainer(&engine, &folder, "up", &[]).shows(&id);
    devcontainer(&engine, &folder, "run-user-commands", &[]).ok();
    devcontainer(
        &engine,
        &folder,
        "read-configuration",
        &["--include-merged-configuration"],
    )
    .shows("\"image\":\"busybox\"");
    let again = devcontainer(&engine, &folder, "up", &["--remove-existing-container"]);
    assert!(!again.ok().contains(&id), "{again:?}");
    exec(&["cat", "/cache/created"]).prints("created");
}

const COMPOSED: &str = r#"{
  "dockerComposeFile": "compose.yaml",
  "service": "app",
  "workspaceFolder": "/work",
  "shutdownAction": "stopCompose"
}"#;

const COMPOSE_FILE: &str = r#"
services:
  app:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    volumes: ["..:/work"]
    depends_on: [db]
  db:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
"#;

#[test]
fn a_dev_container_of_a_compose_file() {
    let engine = engine();
    let folder = workspace(&engine, COMPOSED);
    std::fs::write(folder.join(".devcontainer/compose.yaml"), COMPOSE_FILE).unwrap();
    devcontainer(&engine, &folder, "up", &[]).shows(r#""outcome":"success""#);
    devcontainer(
        &engine,
        &folder,
        "exec",
        &["sh", "-c", "cat file; ping -c 1 -W 30 db"],
    )
    .shows("1 packets received");
}
