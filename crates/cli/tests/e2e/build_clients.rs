//! Clients that build: bake, Compose, docker-py, the docker CLI without BuildKit, and buildx's other commands.

use std::fs;
use std::path::Path;

use serde_json::Value;
use testkit::docker::{Client, Outcome};

use crate::bench::{context, engine};

const DOCKERFILE: &str = "FROM busybox AS base\nARG WHO=nobody\nRUN echo \"made for $WHO\" >/who\n\
                          FROM base AS app\nCMD cat /who\n\
                          FROM base AS tool\nARG KIND\nRUN echo \"$KIND\" >/kind\nCMD cat /kind\n";

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn bake_builds_groups_and_matrices() {
    let engine = engine();
    let hcl = r#"
variable "TAG" { default = "one" }
variable "WHO" { default = "nobody" }
group "default" { targets = ["app", "tool"] }
target "base" {
  args = { WHO = upper(WHO) }
}
target "app" {
  inherits = ["base"]
  target = "app"
  tags = ["bake-app:${TAG}"]
}
target "tool" {
  inherits = ["base"]
  name = "tool-${kind}"
  matrix = { kind = ["small", "large"] }
  target = "tool"
  args = { KIND = kind }
  tags = ["bake-tool:${kind}"]
}
"#;
    let files = [("Dockerfile", DOCKERFILE), ("docker-bake.hcl", hcl)];
    let folder = context(&engine, "bake", &files);
    let told = engine.home().join("bake.json");
    let mut command = engine.command(
        Client::Docker,
        ["buildx", "bake", "--progress", "plain", "--metadata-file"],
    );
    command.arg(&told).args(["--set", "app.tags=bake-app:set"]);
    let output = command.current_dir(&folder).env("WHO", "me").output();
    let output = output.unwrap();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complained}");
    engine.docker("run --rm bake-app:set").prints("made for ME");
    engine.docker("run --rm bake-tool:small").prints("small");
    engine.docker("run --rm bake-tool:large").prints("large");
    let told = json(&told);
    for (target, image) in [("app", "bake-app:set"), ("tool-small", "bake-tool:small")] {
        let id = engine.inspect(image, "{{.Id}}");
        assert_eq!(told[target]["containerimage.config.digest"], id, "{told}");
        let name = format!("docker.io/library/{image}");
        assert_eq!(told[target]["image.name"], name, "{told}");
    }
}

const COMPOSE: &str = "
services:
  web:
    build: {context: ., target: app, args: {WHO: web}}
    image: built-web
  job:
    build: {context: ., target: tool, args: {KIND: quick}, labels: {made: here}}
    depends_on: [web]
";

#[test]
fn compose_builds_and_starts_what_it_built() {
    let engine = engine();
    let files = [("Dockerfile", DOCKERFILE), ("compose.yaml", COMPOSE)];
    let folder = context(&engine, "composed", &files);
    let compose = |words: &str| -> Outcome {
        let file = folder.join("compose.yaml");
        engine.docker(&format!(
            "compose -p composed -f {} {words}",
            file.display()
        ))
    };
    compose("build").ok();
    engine.docker("run --rm built-web").prints("made for web");
    assert_eq!(
        engine.inspect("composed-job", "{{.Config.Labels.made}}"),
        "here"
    );
    let up = compose("up --build --abort-on-container-failure");
    up.ok();
    for part in ["made for web", "quick"] {
        assert!(up.stdout.contains(part), "{part}: {up:?}");
    }
    // what has changed is built anew
    fs::write(
        folder.join("Dockerfile"),
        DOCKERFILE.replace("made for", "changed for"),
    )
    .unwrap();
    compose("up --build --detach").ok();
    crate::bench::eventually("it says what it was changed to", || {
        compose("logs web").stdout.contains("changed for web")
    });
    compose("down --rmi local").ok();
    engine.docker("image inspect composed-job").fails(1);
}

#[test]
fn docker_py_builds() {
    let engine = engine();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/docker_py_build.py");
    let folder = context(&engine, "py", &[("Dockerfile", "")]);
    let outcome = engine.python(&script, &[folder.to_str().unwrap()]).unwrap();
    outcome.shows("all well");
}

#[test]
fn the_builders_cache_and_history_are_shown() {
    let engine = engine();
    let folder = context(&engine, "shown", &[("Dockerfile", DOCKERFILE)]);
    let (id, told) = (engine.home().join("id"), engine.home().join("told.json"));
    let build = engine.docker(&format!(
        "buildx build --progress rawjson --target app --iidfile {} --metadata-file {} -t shown {}",
        id.display(),
        told.display(),
        folder.display()
    ));
    build.ok();
    let first = build.stderr.lines().next().unwrap_or_default();
    let first: Value = serde_json::from_str(first).unwrap();
    assert!(first["vertexes"].is_array(), "{build:?}");
    let own = engine.inspect("shown", "{{.Id}}");
    assert_eq!(fs::read_to_string(&id).unwrap(), own);
    let told = json(&told);
    assert_eq!(
        told["image.name"], "docker.io/library/shown:latest",
        "{told}"
    );
    assert_eq!(told["containerimage.config.digest"], own, "{told}");
    let provenance = &told["buildx.build.provenance"];
    let kind = "https://mobyproject.org/buildkit@v1";
    assert_eq!(provenance["buildType"], kind, "{told}");
    let parameters = &provenance["invocation"]["parameters"];
    assert_eq!(parameters["frontend"], "dockerfile.v0", "{told}");

    let inspected = engine.docker("buildx inspect --bootstrap");
    inspected.ok();
    let label = "org.mobyproject.buildkit.worker.snapshotter";
    assert!(inspected.stdout.contains(label), "{inspected:?}");
    let attached = engine.docker("buildx history inspect attachment --type provenance");
    assert!(attached.ok().contains(kind), "{attached:?}");
    let used = engine.docker("buildx du --verbose --filter type=regular");
    assert!(used.ok().contains("made for $WHO"), "{used:?}");
    engine.docker("rmi shown").ok();
    engine
        .docker("buildx prune --force --filter until=24h")
        .ok();
    let used = engine.docker("buildx du --verbose");
    assert!(used.ok().contains("made for $WHO"), "{used:?}");
    engine
        .docker("buildx prune --force --all --filter type=regular")
        .ok();
    let used = engine.docker("buildx du --verbose");
    assert!(!used.ok().contains("made for $WHO"), "{used:?}");
}

#[test]
fn older_clients_get_buildkits_messages() {
    let engine = engine();
    let mut archive = tar::Builder::new(Vec::new());
    let dockerfile = "FROM busybox\nRUN echo traced >/traced\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive
        .append_data(&mut header, "Dockerfile", dockerfile.as_bytes())
        .unwrap();
    let file = engine.home().join("context.tar");
    fs::write(&file, archive.into_inner().unwrap()).unwrap();
    let socket = engine.socket();
    let output = engine
        .program("curl")
        .args(["--silent", "--show-error", "--request", "POST"])
        .args(["--header", "Content-Type: application/x-tar"])
        .arg("--data-binary")
        .arg(format!("@{}", file.display()))
        .arg("--unix-socket")
        .arg(&socket)
        .arg("http://localhost/build?version=2&t=traced")
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: curl is not installed");
        return;
    };
    let lines = String::from_utf8(output.stdout).unwrap();
    let messages: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let traces = messages
        .iter()
        .filter(|one| one["id"] == "moby.buildkit.trace");
    assert!(traces.clone().count() > 0, "{lines}");
    assert!(traces.clone().all(|one| one["aux"].is_string()), "{lines}");
    let last = messages.last().unwrap();
    assert_eq!(last["id"], "moby.image.id", "{lines}");
    assert_eq!(last["aux"]["ID"], engine.inspect("traced", "{{.Id}}"));
}
