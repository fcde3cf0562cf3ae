//! Folders of clients as caches, as image layouts, and what builds may be made from.

use std::fs;
use std::path::Path;

use testkit::docker::{Outcome, docker_cli};
use testkit::engine::Engine;
use testkit::registry::{Registry, RegistryOptions};

use crate::bench::{context, engine};

fn build(engine: &Engine, flags: &str, context: &Path) -> Outcome {
    let line = format!(
        "buildx build --progress plain {flags} {}",
        context.display()
    );
    engine.docker(&line)
}

#[test]
fn a_folder_of_the_client_is_a_cache() {
    let engine = engine();
    let dockerfile = "FROM busybox AS made\nRUN echo once >/made\nFROM busybox\nCOPY --from=made /made /made\nRUN echo twice >>/made\n";
    let folder = context(&engine, "cached", &[("Dockerfile", dockerfile)]);
    let cache = engine.home().join("cache");
    let to = format!("--cache-to type=local,mode=max,dest={}", cache.display());
    build(&engine, &format!("{to} -t cached:1"), &folder).ok();
    let index = fs::read_to_string(cache.join("index.json")).unwrap();
    assert!(index.contains("sha256:"), "{index}");
    engine.docker("image rm -f cached:1").ok();
    engine.docker("buildx prune --force --all").ok();
    let from = format!("--cache-from type=local,src={}", cache.display());
    let told = build(&engine, &format!("{from} -t cached:2"), &folder);
    told.ok();
    let cached = told.stderr.matches("CACHED").count();
    assert!(cached >= 2, "{told:?}");
    let made = engine.docker("run --rm cached:2 cat /made");
    made.ok();
    assert_eq!(made.stdout, "once\ntwice\n");
    // a cache that is damaged is none, and the build goes on without it
    let blobs = cache.join("blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap() {
        fs::write(blob.unwrap().path(), "damaged").unwrap();
    }
    engine.docker("buildx prune --force --all").ok();
    build(&engine, &format!("{from} -t cached:3"), &folder).ok();
    // a place that takes nothing
    let nowhere = engine.home().join("nowhere");
    fs::create_dir_all(nowhere.join("blobs")).unwrap();
    fs::write(nowhere.join("ingest"), "in the way").unwrap();
    let to = format!("--cache-to type=local,dest={}", nowhere.display());
    assert_ne!(build(&engine, &to, &folder).code, 0);
    let to = format!("{to},ignore-error=true");
    build(&engine, &to, &folder).ok();
}

#[test]
fn registries_that_prove_nothing() {
    let engine = engine();
    // an address that is not loopback, where everything is trusted
    let _other = engine.network().neighbour().unwrap();
    let dockerfile = "FROM busybox\nRUN echo once >/made\n";
    let folder = context(&engine, "insecure", &[("Dockerfile", dockerfile)]);
    for tls_names in [Vec::new(), vec!["10.9.0.1".to_owned()]] {
        let registry = Registry::start_with(&RegistryOptions {
            tls_names,
            listen: [10, 9, 0, 1].into(),
            ..RegistryOptions::default()
        });
        let registry = registry.unwrap();
        let name = registry.name();
        let cache = format!("type=registry,ref={name}/cache:1");
        let output = format!("--output type=registry,name={name}/image:1");
        let to = format!("--cache-to {cache},mode=max");
        let trusting = "registry.insecure=true";
        for strict in [&output, &to, &format!("{to},registry.insecure=false")] {
            let told = build(&engine, strict, &folder);
            assert_ne!(told.code, 0, "{strict}: {told:?}");
        }
        build(&engine, &format!("{output},{trusting}"), &folder).ok();
        build(&engine, &format!("{to},{trusting}"), &folder).ok();
        engine.docker("buildx prune --force --all").ok();
        // who is not trusted brings nothing; the layers come from the registry that is
        let from = format!("--cache-from {cache}");
        let told = build(&engine, &from, &folder);
        told.ok();
        assert!(!told.stderr.contains("CACHED"), "{told:?}");
        engine.docker("buildx prune --force --all").ok();
        let told = build(&engine, &format!("{from},{trusting} -t made:1"), &folder);
        told.ok();
        assert!(told.stderr.contains("CACHED"), "{told:?}");
        engine.docker("run --rm made:1 cat /made").prints("once");
        // one build's trust is not another's
        let told = build(&engine, &output, &folder);
        assert_ne!(told.code, 0, "{told:?}");
        engine.docker("image rm -f made:1").ok();
        engine.docker("buildx prune --force --all").ok();
    }
}

#[test]
fn image_layouts_are_given_and_taken() {
    let engine = engine();
    let dockerfile = "FROM busybox\nENV GIVEN=yes\nRUN echo layout >/made\n";
    let folder = context(&engine, "given", &[("Dockerfile", dockerfile)]);
    let layout = engine.home().join("layout");
    let out = format!(
        "--output type=oci,tar=false,name=given:1,dest={}",
        layout.display()
    );
    build(&engine, &out, &folder).ok();
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(index.contains("sha256:"), "{index}");
    engine.docker("buildx prune --force --all").ok();
    let dockerfile = "FROM base\nRUN test \"$GIVEN\" = yes && cat /made >/again\n";
    let folder = context(&engine, "taken", &[("Dockerfile", dockerfile)]);
    let base = format!("--build-context base=oci-layout://{}:1", layout.display());
    build(&engine, &format!("{base} -t taken:1"), &folder).ok();
    engine
        .docker("run --rm taken:1 cat /again")
        .prints("layout");
    // the same by the command line of the engine, which reads the folder in place
    let line = format!("build {base} -t taken:2 {}", folder.display());
    engine.gorae(&line).ok();
    engine
        .docker("run --rm taken:2 cat /again")
        .prints("layout");
    let missing = base.replace(":1", &format!("@sha256:{}", "0".repeat(64)));
    assert_ne!(build(&engine, &missing, &folder).code, 0);
}

#[test]
fn policies_say_what_a_build_is_made_from() {
    let engine = engine();
    let dockerfile = "FROM nosuch/image\nRUN echo stood in >/made\n";
    let folder = context(&engine, "policy", &[("Dockerfile", dockerfile)]);
    let asked = |rules: &str| {
        let policy = engine.home().join("policy.json");
        fs::write(&policy, format!(r#"{{"rules":[{rules}]}}"#)).unwrap();
        let output = engine
            .program(docker_cli().unwrap())
            .args(["buildx", "build", "--progress", "plain", "-t", "policy:1"])
            .arg(&folder)
            .env("HOME", engine.home())
            .env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", &policy)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), told)
    };
    let (done, told) = asked(
        r#"{"action":"CONVERT","selector":{"identifier":"docker-image://docker.io/nosuch/*"},"updates":{"identifier":"docker-image://docker.io/library/busybox:latest"}}"#,
    );
    assert!(done, "{told}");
    engine
        .docker("run --rm policy:1 cat /made")
        .prints("stood in");
    let (done, told) = asked(
        r#"{"action":"DENY","selector":{"identifier":"docker-image://docker.io/nosuch/image:latest","matchType":"EXACT"}}"#,
    );
    assert!(!done && told.contains("denied by policy"), "{told}");
    let (done, told) =
        asked(r#"{"action":"DENY","selector":{"identifier":"(","matchType":"REGEX"}}"#);
    assert!(!done, "{told}");
}

#[test]
fn scanners_are_images() {
    let engine = engine();
    let scan = "test -e $BUILDKIT_SCAN_SOURCE/subject && test $BUILDKIT_SCAN_DEPTH = 3 && echo '{\"predicateType\":\"https://spdx.dev/Document\",\"predicate\":{\"name\":\"scanned\"}}' >${BUILDKIT_SCAN_DESTINATION}own.spdx.json";
    let dockerfile = format!(
        "FROM busybox\nENTRYPOINT [\"sh\", \"-c\"]\nCMD {}\n",
        format_args!("[{scan:?}]")
    );
    let folder = context(&engine, "scanner", &[("Dockerfile", dockerfile.as_str())]);
    build(&engine, "-t scanner:1", &folder).ok();
    let folder = context(
        &engine,
        "subject",
        &[
            ("Dockerfile", "FROM scratch\nCOPY subject /\n"),
            ("subject", "x"),
        ],
    );
    let out = engine.home().join("scanned");
    let flags = |depth: &str| {
        let out = out.display();
        format!(
            "--attest type=sbom,generator=scanner:1,depth={depth} --output type=local,dest={out}"
        )
    };
    let told = build(&engine, &flags("3"), &folder);
    told.ok();
    let stated = fs::read_to_string(out.join("own.spdx.json")).unwrap();
    assert!(stated.contains("scanned"), "{stated}");
    assert_ne!(build(&engine, &flags("4"), &folder).code, 0);
}
