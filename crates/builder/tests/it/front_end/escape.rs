//! What a front end tries that wants to change files outside of its build: by the names that it gives
//! (GHSA-4c29-8rgm-jvjj), and by operations whose paths lead through links (BuildKit's 4ed7a2ff3).

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend as gateway;
use builder::llb::pb;
use pb::file_action::Action;
use prost::Message as _;

use super::program::{Client, Talk, definition, mkfile, read, reference, solve};

/// An operation whose actions go on with each other's results.
fn actions(all: Vec<Action>, onto: bool) -> pb::Op {
    let inputs = i64::from(onto);
    let count = all.len();
    let act = |(at, action): (usize, Action)| pb::FileAction {
        input: match (i64::try_from(at).unwrap(), onto) {
            (0, true) => 0,
            (at, _) => inputs + at - 1,
        },
        // what is copied comes from below
        secondary_input: match action {
            Action::Copy(_) => 0,
            _ => -1,
        },
        output: if at + 1 == count { 0 } else { -1 },
        action: Some(action),
    };
    pb::Op {
        op: Some(pb::op::Op::File(pb::FileOp {
            actions: all.into_iter().enumerate().map(act).collect(),
        })),
        ..pb::Op::default()
    }
}

fn rm(path: &str, wildcard: bool) -> Action {
    Action::Rm(pb::FileActionRm {
        path: path.to_owned(),
        allow_not_found: true,
        allow_wildcard: wildcard,
    })
}

fn link(path: &str, to: &str) -> Action {
    Action::Symlink(pb::FileActionSymlink {
        oldpath: to.to_owned(),
        newpath: path.to_owned(),
        timestamp: -1,
        ..pb::FileActionSymlink::default()
    })
}

fn folder(path: &str) -> Action {
    Action::Mkdir(pb::FileActionMkDir {
        path: path.to_owned(),
        mode: 0o755,
        make_parents: true,
        timestamp: -1,
        ..pb::FileActionMkDir::default()
    })
}

fn file(path: &str) -> Action {
    Action::Mkfile(pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        data: b"written".to_vec(),
        timestamp: -1,
        ..pb::FileActionMkFile::default()
    })
}

fn copy(src: &str, dest: &str) -> Action {
    Action::Copy(pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        follow_symlink: true,
        dir_copy_contents: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        ..pb::FileActionCopy::default()
    })
}

/// A tree with links that lead to a folder outside, by all ways that there are.
fn links(outside: &str) -> pb::Op {
    actions(
        vec![
            folder("/dir/deep"),
            file("/dir/file"),
            link("/link", outside),
            link("/up", &format!("../../../../../../../../../..{outside}")),
            link("/dir/around", "../link"),
            link("/proc-link", "/proc/self/root"),
            link("/own", "dir"),
        ],
        false,
    )
}

/// What is tried on that tree.
fn attempts(outside: &str) -> Vec<Action> {
    let mut all = Vec::new();
    let climbing = format!("/../../../../../../../..{outside}");
    for place in ["/link", "/up", "/dir/around", &climbing] {
        for wildcard in [false, true] {
            all.push(rm(&format!("{place}/file"), wildcard));
            all.push(rm(&format!("{place}/../outside/file"), wildcard));
        }
        all.push(rm(&format!("{place}/*"), true));
        all.push(rm(&format!("{place}/"), false));
        all.push(file(&format!("{place}/new")));
        all.push(file(&format!("{place}/file")));
        all.push(folder(&format!("{place}/new")));
        all.push(link(&format!("{place}/new"), "/"));
        all.push(copy(&format!("{place}/file"), "/copied"));
        all.push(copy("/dir/file", &format!("{place}/new")));
        all.push(copy("/dir", &format!("{place}/")));
    }
    all.extend(["..", "/", "../*", "/dir/../..", "/proc-link/*", "*"].map(|path| rm(path, true)));
    all
}

/// Tries everything; what comes of it is a tree of what it has seen and done.
pub(super) async fn escape(
    client: &mut Client,
    options: &HashMap<String, String>,
) -> Result<gateway::Result, String> {
    let outside = options["outside"].as_str();
    for attempt in attempts(outside) {
        let tree = definition(vec![links(outside), actions(vec![attempt.clone()], true)]);
        let request = gateway::SolveRequest {
            definition: Some(tree),
            evaluate: true,
            allow_result_return: true,
            ..gateway::SolveRequest::default()
        };
        // it may be refused, or be done inside
        let Ok(solved) = client.solve(request).await else {
            continue;
        };
        let made = reference(&solved.into_inner().result.unwrap());
        if let Ok(copied) = read(client, &made, "/copied").await {
            return Err(format!("{attempt:?} has read {copied:?}"));
        }
        for path in ["/link/file", "/up/file", "/proc-link/etc/hostname"] {
            if let Ok(content) = read(client, &made, path).await
                && content != "written"
            {
                return Err(format!("{path} is {content:?}"));
            }
        }
    }
    inside(client).await?;
    names(client).await?;
    let done = definition(vec![mkfile("/done", "tried", false)]);
    solve(client, done)
        .await
        .map_err(|status| status.message().to_owned())
}

/// What leads through links inside is removed there, and only that.
async fn inside(client: &mut Client) -> Result<(), String> {
    let tree = actions(
        vec![
            folder("/dir"),
            file("/dir/gone"),
            file("/dir/stays"),
            link("/own", "dir"),
            rm("/own/gone", false),
        ],
        false,
    );
    let text = |status: tonic::Status| status.message().to_owned();
    let made = solve(client, definition(vec![tree])).await.map_err(text)?;
    let made = reference(&made);
    let [stays, gone] = ["/dir/stays", "/dir/gone"].map(str::to_owned);
    match (
        read(client, &made, &stays).await,
        read(client, &made, &gone).await,
    ) {
        (Ok(_), Err(_)) => Ok(()),
        other => Err(format!("removed through a link: {other:?}")),
    }
}

/// Containers with names that are paths.
async fn names(client: &mut Client) -> Result<(), String> {
    let own = std::fs::read("/run/config/buildkit/metadata/frontend.bin").unwrap();
    let own = pb::Definition::decode(own.as_slice()).unwrap();
    let image = reference(&solve(client, own).await.unwrap());
    let long = "x".repeat(100_000);
    for (number, name) in [
        "../../../../escaped",
        "/escaped",
        "..",
        ".",
        "a/../../../escaped",
        "escaped\n",
        "escaped\0",
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        let mount = |dest: &str, selector: &str| pb::Mount {
            dest: dest.to_owned(),
            selector: selector.to_owned(),
            result_id: image.clone(),
            ..pb::Mount::default()
        };
        let request = gateway::NewContainerRequest {
            container_id: name.to_owned(),
            mounts: vec![
                mount("/", ""),
                mount("/../../escaped", "/bin/../../.."),
                mount("/etc/in", "../../../.."),
            ],
            network: pb::NetMode::None.into(),
            hostname: "../../escaped".to_owned(),
            extra_hosts: vec![pb::HostIp {
                host: "escaped".to_owned(),
                ip: "not\nan address".to_owned(),
            }],
            ..gateway::NewContainerRequest::default()
        };
        let plain = gateway::NewContainerRequest {
            mounts: vec![mount("/", "")],
            hostname: String::new(),
            extra_hosts: Vec::new(),
            ..request.clone()
        };
        // the first may be refused for its mounts, the second has nothing wrong but its name
        if client.new_container(request).await.is_err() {
            drop(client.new_container(plain).await);
        }
        let mut talk = Talk::of(client, name).await;
        let id = number.to_string();
        talk.start(&id, "echo escaped >/escaped; hostname", false)
            .await;
        let message = talk.answers.message().await;
        drop(message);
        let release = gateway::ReleaseContainerRequest {
            container_id: name.to_owned(),
        };
        drop(client.release_container(release).await);
    }
    Ok(())
}
