//! Processes.

use builder::llb::pb;
use builder::op::InputKey;
use builder::snapshot::Snapshot;

use crate::fixture::{Fixture, can_run, granted, read, tree, with_builder};

/// A shell command with the root as its only mount.
pub(crate) fn shell(command: &str) -> pb::ExecOp {
    pb::ExecOp {
        meta: Some(pb::Meta {
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".to_owned(), "FOO=bar".to_owned()],
            cwd: "/".to_owned(),
            ..pb::Meta::default()
        }),
        mounts: vec![pb::Mount {
            input: 0,
            dest: "/".to_owned(),
            output: 0,
            ..pb::Mount::default()
        }],
        ..pb::ExecOp::default()
    }
}

async fn run(fixture: &Fixture, base: &Snapshot, op: pb::ExecOp) -> Snapshot {
    let made = fixture
        .run(pb::op::Op::Exec(op), std::slice::from_ref(base))
        .await;
    made.unwrap().remove(0)
}

fn meta(op: &mut pb::ExecOp) -> &mut pb::Meta {
    op.meta.as_mut().unwrap()
}

#[test]
fn a_step_writes_a_layer_and_nothing_else() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let made = run(
            fixture,
            &base,
            shell("echo hello > /out; mkdir -p /a/b; rm /etc/group"),
        )
        .await;
        assert_eq!(made.layers().len(), 2);
        assert_eq!(read(&made, "/out"), "hello\n");
        let (before, after) = (tree(&base), tree(&made));
        let mut new: Vec<_> = after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .collect();
        new.sort();
        // what was mounted on is gone again; the kernel's own places stay, as with BuildKit
        assert_eq!(new, ["/a", "/a/b", "/dev", "/out", "/proc", "/sys"]);
        assert!(!after.contains_key("/etc/group"));
    });
}

#[test]
fn a_step_sees_what_it_is_told() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let mut op =
            shell("{ env; id -u; id -g; pwd; hostname; cat /etc/hosts; ulimit -n; } > /tmp/out");
        meta(&mut op).user = "user".to_owned();
        meta(&mut op).cwd = "/work/place".to_owned();
        meta(&mut op).extra_hosts = vec![pb::HostIp {
            host: "other".to_owned(),
            ip: "10.1.2.3".to_owned(),
        }];
        meta(&mut op).ulimit = vec![pb::Ulimit {
            name: "nofile".to_owned(),
            soft: 77,
            hard: 88,
        }];
        meta(&mut op).proxy_env = Some(pb::ProxyEnv {
            http_proxy: "http://p:1".to_owned(),
            ..pb::ProxyEnv::default()
        });
        let base = fixture.snapshot(&base, |root| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::create_dir(root.join("tmp")).unwrap();
            std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))
                .unwrap();
        });
        let made = run(fixture, &base, op).await;
        let out = read(&made, "/tmp/out");
        for line in [
            "FOO=bar",
            "PATH=/bin",
            "HTTP_PROXY=http://p:1",
            "http_proxy=http://p:1",
            "HOME=/home/user",
            "1000",
            "1001",
            "/work/place",
            "buildkitsandbox",
            "127.0.0.1\tlocalhost buildkitsandbox",
            "10.1.2.3\tother",
            "77",
        ] {
            assert!(
                out.lines().any(|l| l == line),
                "{line:?} is missing in:\n{out}"
            );
        }
        assert!(!out.contains("HOSTNAME="), "{out}");
    });
}

#[test]
fn failures_are_told_in_buildkits_words() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let op = pb::op::Op::Exec(shell("echo said; echo \"err\" >&2; exit 3"));
        let error = fixture
            .run(op, std::slice::from_ref(&base))
            .await
            .unwrap_err();
        assert_eq!(
            error.message(),
            r#"process "/bin/sh -c echo said; echo \"err\" >&2; exit 3" did not complete successfully: exit code: 3"#
        );
        assert_eq!(error.exit_code(), Some(3));
        let output = String::from_utf8_lossy(error.output()).into_owned();
        assert!(
            output.contains("said") && output.contains("err"),
            "{output}"
        );

        let mut valid = shell("exit 3");
        meta(&mut valid).valid_exit_codes = vec![3];
        run(fixture, &base, valid).await;

        let mut missing = shell("");
        meta(&mut missing).args = vec!["/no/such/program".to_owned()];
        let error = fixture
            .run(pb::op::Op::Exec(missing), std::slice::from_ref(&base))
            .await
            .unwrap_err();
        assert!(error.message().contains("exit code: 127"), "{error}");
    });
}

#[test]
fn inputs_are_mounted_and_kept_or_not() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let data = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::create_dir(root.join("sub")).unwrap();
            std::fs::write(root.join("sub/file"), "data").unwrap();
        });
        let over = fixture.snapshot(&data, |root| {
            std::fs::write(root.join("top"), "top").unwrap();
        });
        let mut op = shell(
            "set -e; cat /ro/file > /got; ! touch /ro/x 2>/dev/null; cat /rw/top >> /got; echo new > /rw/new; echo lost > /scratch/lost; echo t > /mem/t; test ! -e /empty/x; touch /empty/x",
        );
        let mount = |input, dest: &str, output, readonly, selector: &str| pb::Mount {
            input,
            dest: dest.to_owned(),
            output,
            readonly,
            selector: selector.to_owned(),
            ..pb::Mount::default()
        };
        op.mounts.extend([
            mount(1, "/ro", -1, true, "/sub"),
            mount(2, "/rw", 1, false, ""),
            mount(2, "/scratch", -1, false, ""),
            mount(-1, "/empty", 2, false, ""),
            pb::Mount {
                mount_type: pb::MountType::Tmpfs.into(),
                tmpfs_opt: Some(pb::TmpfsOpt { size: 1 << 20 }),
                ..mount(-1, "/mem", -1, false, "")
            },
        ]);
        let inputs = [base, data, over.clone()];
        let context = fixture.context(pb::op::Op::Exec(op.clone()), 3);
        let keys = builder::ops::cache_map(&context).await.unwrap().inputs;
        assert!(matches!(keys[0], InputKey::Definition));
        assert!(matches!(keys[1], InputKey::Content(_)));
        assert!(matches!(keys[2], InputKey::Definition));
        let made = fixture.run(pb::op::Op::Exec(op), &inputs).await.unwrap();
        assert_eq!(made.len(), 3);
        assert_eq!(read(&made[0], "/got"), "datatop");
        let root = tree(&made[0]);
        for stub in ["/ro", "/rw", "/scratch", "/mem", "/empty"] {
            assert!(!root.contains_key(stub), "{stub} is left in the layer");
        }
        assert_eq!(read(&made[1], "/new"), "new\n");
        assert_eq!(read(&made[1], "/sub/file"), "data");
        assert_eq!(made[1].layers().len(), over.layers().len() + 1);
        assert_eq!(read(&made[2], "/x"), "");
        assert!(!tree(&over).contains_key("/lost"));
    });
}

#[test]
fn a_readonly_root_stays_as_it_is() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let mut op = shell("! touch /x 2>/dev/null");
        op.mounts[0].readonly = true;
        let made = run(fixture, &base, op).await;
        assert_eq!(made.id(), base.id());
    });
}

#[test]
fn networks_are_what_was_asked_and_granted() {
    if !can_run() {
        return;
    }
    granted(&["network.host"], async |fixture| {
        let base = fixture.busybox();
        let links = "ip -o link > /links";
        let made = run(fixture, &base, shell(links)).await;
        assert!(read(&made, "/links").contains("eth0"));
        let mut none = shell(links);
        none.network = pb::NetMode::None.into();
        let made = run(fixture, &base, none).await;
        assert!(!read(&made, "/links").contains("eth0"));
        let mut host = shell(links);
        host.network = pb::NetMode::Host.into();
        let made = run(fixture, &base, host).await;
        assert!(read(&made, "/links").contains("gorae-test0"));
    });
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let mut host = shell("true");
        host.network = pb::NetMode::Host.into();
        let error = fixture
            .run(pb::op::Op::Exec(host), std::slice::from_ref(&base))
            .await
            .unwrap_err();
        assert_eq!(error.message(), "network.host is not allowed");
        let mut insecure = shell("true");
        insecure.security = pb::SecurityMode::Insecure.into();
        let error = fixture
            .run(pb::op::Op::Exec(insecure), std::slice::from_ref(&base))
            .await
            .unwrap_err();
        assert_eq!(error.message(), "security.insecure is not allowed");
    });
}

#[test]
fn isolation_is_a_containers_unless_granted() {
    if !can_run() {
        return;
    }
    granted(&["security.insecure"], async |fixture| {
        let base = fixture.busybox();
        let look = "grep CapEff /proc/self/status > /caps; grep NoNewPrivs /proc/self/status >> /caps; mount -t tmpfs x /tmp 2>/dev/null && echo mounted >> /caps; true";
        let made = run(fixture, &base, shell(look)).await;
        let caps = read(&made, "/caps");
        assert!(caps.contains("00000000a80425fb"), "{caps}");
        assert!(!caps.contains("mounted"), "{caps}");
        let mut insecure = shell(look);
        insecure.security = pb::SecurityMode::Insecure.into();
        let made = run(fixture, &base, insecure).await;
        assert!(read(&made, "/caps").contains("mounted"));
    });
}

#[test]
fn a_step_that_nobody_wants_ends() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let op = shell("sleep 600 & sleep 600");
        let context = fixture.context(pb::op::Op::Exec(op), 1);
        let cancel = context.cancel.clone();
        let work = tokio::spawn(async move { builder::ops::run(&context, &[base]).await });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        cancel.cancel();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), work).await;
        let error = ended.unwrap().unwrap().unwrap_err();
        assert!(error.is_canceled(), "{error}");
    });
}

#[test]
fn stubs_are_removed_without_following_what_the_step_put_there() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let base = fixture.busybox();
        let data = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::write(root.join("file"), "data").unwrap();
        });
        // CVE-2024-23652: after the step the place of the mount is a link to somewhere else
        let victim = fixture.folder.join("victim");
        std::fs::write(&victim, "").unwrap();
        let command = format!("mkdir -p /deep/x; ln -s {} /deep/x/link", victim.display());
        let mut op = shell(&command);
        op.mounts.push(pb::Mount {
            input: 1,
            dest: "/deep/x/place".to_owned(),
            output: -1,
            readonly: true,
            ..pb::Mount::default()
        });
        meta(&mut op).remove_mount_stubs_recursive = true;
        let made = fixture
            .run(pb::op::Op::Exec(op), &[base, data])
            .await
            .unwrap();
        assert!(victim.exists());
        let found = tree(&made[0]);
        assert!(found.contains_key("/deep/x/link"));
        assert!(!found.contains_key("/deep/x/place"));
    });
}

#[test]
fn many_steps_one_after_another() {
    if !can_run() {
        return;
    }
    with_builder(async |fixture| {
        let mut snapshot = fixture.busybox();
        let begun = std::time::Instant::now();
        for number in 0..20 {
            snapshot = run(
                fixture,
                &snapshot,
                shell(&format!("echo {number} > /file{number}")),
            )
            .await;
        }
        println!("20 steps took {:?}", begun.elapsed());
        assert_eq!(snapshot.layers().len(), 21);
        assert_eq!(read(&snapshot, "/file19"), "19\n");
        assert_eq!(read(&snapshot, "/file0"), "0\n");
    });
}
