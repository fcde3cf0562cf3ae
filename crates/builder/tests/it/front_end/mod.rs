//! Front ends that are images: what they may ask, and what becomes of those that do wrong.

mod escape;
mod program;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use builder::Error;
use builder::export::{ExportRequest, Solved, export};
use builder::front::{FrontResult, FrontendRequest, Refs, solve_frontend};
use builder::job::{Job, JobOptions};
use builder::llb::{digest_of, pb};
use builder::snapshot::Snapshot;
use prost::Message as _;
use serde_json::json;

use crate::fixture::{Fixture, can_run, read, with_builder};

/// No front end takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);
const IMAGE: &str = "front/end:1";

/// Puts an image with this program as front end into the engine's store.
async fn image(fixture: &Fixture) {
    let program = std::env::current_exe().unwrap();
    let base = fixture.busybox();
    let root = fixture.snapshot(&base, |root| {
        std::fs::create_dir(root.join("bin")).unwrap();
        std::os::unix::fs::symlink("busybox", root.join("bin/stty")).unwrap();
        std::fs::copy(program, root.join("front")).unwrap();
    });
    // the test harness prints on the standard output, which is the bridge's
    let command =
        "exec 3>&1 >/dev/null; exec /front --exact front_end::program::program --nocapture";
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/bin/sh", "-c", command],
            "Env": ["PATH=/bin"],
            "Labels": {
                "moby.buildkit.frontend.caps": "moby.buildkit.frontend.inputs",
                "moby.buildkit.frontend.network.none": "true",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let solved = Solved {
        refs: BTreeMap::from([(String::new(), root)]),
        metadata: BTreeMap::from([(
            "containerimage.config".to_owned(),
            config.to_string().into_bytes(),
        )]),
        ..Solved::default()
    };
    let request = ExportRequest {
        kind: "image".to_owned(),
        attrs: BTreeMap::from([("name".to_owned(), IMAGE.to_owned())]),
        ..ExportRequest::default()
    };
    export(&fixture.job, &request, &solved).await.unwrap();
}

/// The definition of a folder with these files.
fn folder(files: &[(&str, &str)]) -> pb::Definition {
    let actions = files.iter().enumerate().map(|(at, (path, data))| {
        let at = i64::try_from(at).unwrap();
        let last = at + 1 == i64::try_from(files.len()).unwrap();
        pb::FileAction {
            input: at - 1,
            secondary_input: -1,
            output: if last { 0 } else { -1 },
            action: Some(pb::file_action::Action::Mkfile(pb::FileActionMkFile {
                path: (*path).to_owned(),
                mode: 0o644,
                data: (*data).into(),
                timestamp: -1,
                ..pb::FileActionMkFile::default()
            })),
        }
    });
    let op = pb::Op {
        op: Some(pb::op::Op::File(pb::FileOp {
            actions: actions.collect(),
        })),
        ..pb::Op::default()
    };
    let op = op.encode_to_vec();
    let target = pb::Op {
        inputs: vec![pb::Input {
            digest: digest_of(&op).to_string(),
            index: 0,
        }],
        ..pb::Op::default()
    };
    pb::Definition {
        def: vec![op, target.encode_to_vec()],
        ..pb::Definition::default()
    }
}

fn request(options: &[(&str, &str)]) -> FrontendRequest {
    let mut attrs = BTreeMap::from([("source".to_owned(), IMAGE.to_owned())]);
    for (name, value) in options {
        attrs.insert((*name).to_owned(), (*value).to_owned());
    }
    FrontendRequest {
        frontend: "gateway.v0".to_owned(),
        attrs,
        ..FrontendRequest::default()
    }
}

fn job(fixture: &Fixture) -> Arc<Job> {
    fixture.builder.job(JobOptions::default()).unwrap()
}

async fn ask(fixture: &Fixture, request: FrontendRequest) -> Result<FrontResult, Error> {
    let job = job(fixture);
    let _end = job.end_on_drop();
    let asked = tokio::time::timeout(PATIENCE, solve_frontend(&job, request)).await;
    asked.unwrap()
}

async fn solved(fixture: &Fixture, request: FrontendRequest) -> (Snapshot, FrontResult) {
    let job = job(fixture);
    let _end = job.end_on_drop();
    let asked = tokio::time::timeout(PATIENCE, solve_frontend(&job, request)).await;
    let result = asked.unwrap().unwrap();
    let Refs::Single(Some(found)) = &result.refs else {
        panic!("{result:?}");
    };
    let snapshot = found.snapshot().await.unwrap();
    (snapshot, result)
}

#[test]
fn a_front_end_builds() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        image(fixture).await;
        let recipe = format!("{IMAGE} hello");
        let dockerfile = format!("# syntax={IMAGE} and more\nwhatever it may be\n");
        let context = folder(&[("recipe", &recipe), ("Dockerfile", &dockerfile)]);
        let inputs = BTreeMap::from([("context".to_owned(), context)]);
        // asked for by the client
        let asked = FrontendRequest {
            inputs: inputs.clone(),
            ..request(&[])
        };
        let (made, result) = solved(fixture, asked).await;
        assert_eq!(read(&made, "/told"), "hello||2|true");
        assert!(result.metadata.contains_key("containerimage.config"));
        // by the first line of a Dockerfile
        let asked = FrontendRequest {
            frontend: "dockerfile.v0".to_owned(),
            inputs: inputs.clone(),
            ..FrontendRequest::default()
        };
        let (made, _) = solved(fixture, asked.clone()).await;
        assert_eq!(
            read(&made, "/told"),
            format!("hello|{IMAGE} and more|2|true")
        );
        // in the place of another one, as the client says
        let line = "docker/dockerfile:1";
        let replaced = format!("# syntax={line}\nwhatever it may be\n");
        let context = folder(&[("recipe", &recipe), ("Dockerfile", &replaced)]);
        let place = format!("context:{line}");
        let replaced = FrontendRequest {
            inputs: BTreeMap::from([("context".to_owned(), context)]),
            attrs: BTreeMap::from([(place, format!("docker-image://{IMAGE}"))]),
            ..asked.clone()
        };
        let (made, _) = solved(fixture, replaced).await;
        assert_eq!(read(&made, "/told"), format!("hello|{line}|2|true"));
        // by a build argument, which goes before the line
        let given = format!("{IMAGE} given");
        let asked = FrontendRequest {
            attrs: BTreeMap::from([("build-arg:BUILDKIT_SYNTAX".to_owned(), given.clone())]),
            ..asked
        };
        let (made, _) = solved(fixture, asked).await;
        assert_eq!(read(&made, "/told"), format!("hello|{given}|2|true"));
    });
}

#[test]
fn front_ends_that_do_wrong() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        image(fixture).await;
        let failed = async |options: &[(&str, &str)]| {
            ask(fixture, request(options))
                .await
                .unwrap_err()
                .to_string()
        };
        let told = failed(&[("mode", "crash")]).await;
        assert!(
            told.contains("exit code: 101") && told.contains("nothing works"),
            "{told}"
        );
        let told = failed(&[("mode", "mute")]).await;
        assert!(told.contains("no result for incomplete build"), "{told}");
        assert_eq!(failed(&[("mode", "refuses")]).await, "this recipe is wrong");
        let told = failed(&[("mode", "garbage")]).await;
        assert!(
            told.contains("frontend grpc server closed unexpectedly"),
            "{told}"
        );
        let told = failed(&[("mode", "deep")]).await;
        assert!(told.contains("front ends ask each other already"), "{told}");
        let told = failed(&[("frontend.caps", "moby.buildkit.frontend.subrequests")]).await;
        assert!(told.contains("unsupported frontend capability"), "{told}");
        // one that never answers ends with its build
        let job = job(fixture);
        let asked = request(&[("mode", "silent")]);
        let asking = tokio::spawn({
            let job = Arc::clone(&job);
            async move { solve_frontend(&job, asked).await }
        });
        let run = fixture.folder.join("run/containers");
        let runs = || std::fs::read_dir(&run).is_ok_and(|mut list| list.next().is_some());
        let begun = std::time::Instant::now();
        while !runs() {
            assert!(begun.elapsed() < PATIENCE, "the front end does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        job.end();
        let ended = tokio::time::timeout(PATIENCE, asking).await.unwrap();
        assert!(ended.unwrap().unwrap_err().is_canceled());
    });
}

#[test]
fn front_ends_get_nothing_of_other_builds() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        image(fixture).await;
        let options = [
            ("mode", "hostile"),
            ("foreign", "0123456789abcdefghijklmno"),
            ("build", "x"),
        ];
        let told = ask(fixture, request(&options))
            .await
            .unwrap_err()
            .to_string();
        let answers: Vec<&str> = told.lines().collect();
        assert_eq!(answers.len(), 7, "{told}");
        for (answer, expect) in answers.iter().zip([
            "no such ref",
            "no such ref",
            "no such ref",
            "failed to find ref",
            "network.host is not allowed",
            "failed to load LLB",
            "message length too large",
        ]) {
            assert!(answer.contains(expect), "{answer} is not {expect}");
        }
        let returned = [options[0], options[1], options[2], ("return", "1")];
        ask(fixture, request(&returned)).await.unwrap_err();
    });
}

/// The names in a folder and below.
fn below(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
    }
    found
}

#[test]
fn front_ends_change_nothing_outside() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        image(fixture).await;
        let outside = fixture.folder.join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "not for builds").unwrap();
        let path = outside.to_str().unwrap();
        let asked = request(&[("mode", "escape"), ("outside", path)]);
        let (made, _) = solved(fixture, asked).await;
        assert_eq!(read(&made, "/done"), "tried");
        assert_eq!(below(&outside), [format!("{path}/file")]);
        let content = std::fs::read_to_string(outside.join("file")).unwrap();
        assert_eq!(content, "not for builds");
        let names = std::fs::read_dir(&fixture.folder).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["outside", "root", "run"]);
        let all = below(&fixture.folder.join("run"));
        assert!(!all.iter().any(|path| path.contains("escaped")), "{all:?}");
        for place in [
            "/escaped",
            "/var/escaped",
            "/var/tmp/escaped",
            "/tmp/escaped",
        ] {
            assert!(!std::path::Path::new(place).exists(), "{place}");
        }
    });
}

#[test]
fn front_ends_run_processes() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        image(fixture).await;
        let (made, _) = solved(fixture, request(&[("mode", "containers")])).await;
        assert_eq!(read(&made, "/all"), "well");
    });
}
