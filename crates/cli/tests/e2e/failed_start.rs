//! A start that fails at any step says why and leaves nothing behind.

use std::fs;

use testkit::docker::Client;

use crate::bench::{Checks, engine};

#[test]
fn each_step_can_fail() {
    let engine = engine();
    let bad = engine.home().join("bad.json");
    fs::write(&bad, "{\"defaultAction\":\"SCMP_ACT_NOSUCH\"}").unwrap();
    let broken = engine.home().join("broken.json");
    fs::write(&broken, "{").unwrap();
    let source = engine.home().join("source");
    fs::create_dir(&source).unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:7070").unwrap();
    let cases: Vec<(String, i32, &str)> = vec![
        (
            "busybox /no/such".into(),
            127,
            "stat /no/such: no such file or directory",
        ),
        ("busybox /etc/passwd".into(), 126, "permission denied"),
        ("-w /etc/passwd busybox true".into(), 125, "/etc/passwd"),
        (
            "-p 127.0.0.1:7070:80 busybox true".into(),
            125,
            "address already in use",
        ),
        (
            "--sysctl kernel.nosuch=1 busybox true".into(),
            125,
            "kernel.nosuch",
        ),
        (
            "--sysctl kernel.hostname=x --uts host busybox true".into(),
            125,
            "kernel.hostname",
        ),
        (
            "--device /dev/nosuchdevice busybox true".into(),
            127,
            "error gathering device information while adding custom device \"/dev/nosuchdevice\": no such file or directory",
        ),
        (
            format!("--security-opt seccomp={} busybox true", bad.display()),
            125,
            "SCMP_ACT_NOSUCH",
        ),
        (
            format!("--security-opt seccomp={} busybox true", broken.display()),
            125,
            "seccomp",
        ),
        (
            "-u nosuch busybox true".into(),
            125,
            "unable to find user nosuch",
        ),
        (
            format!("-v {}:/etc/passwd busybox true", source.display()),
            125,
            "not a directory",
        ),
        (
            "--mount type=bind,src=/nosuch/at/all,dst=/x busybox true".into(),
            125,
            "bind source path does not exist: /nosuch/at/all",
        ),
        (
            "--mount type=tmpfs,dst=/etc/passwd busybox true".into(),
            125,
            "/etc/passwd",
        ),
        (
            "--network container:nosuch busybox true".into(),
            125,
            "No such container: nosuch",
        ),
        (
            "--pid container:nosuch busybox true".into(),
            125,
            "No such container: nosuch",
        ),
        (
            "--cpuset-mems 7 busybox true".into(),
            125,
            "Requested memory nodes are not available",
        ),
    ];
    let mut checks = Checks::default();
    for (line, code, text) in cases {
        for client in Client::BOTH {
            checks.complains(&engine.run(client, &format!("run --rm {line}")), code, text);
            checks.complains(
                &engine.run(client, &format!("run -d --rm {line}")),
                code,
                text,
            );
        }
        let all = engine.docker("ps -a --format '{{.ID}} {{.Status}}'");
        checks.note(all.stdout.is_empty(), || format!("{line} leaves {all:?}"));
    }
    let left = engine.traces();
    checks.note(left.is_empty(), || left.join("\n"));
    drop(holder);
}

#[test]
fn a_failed_container_can_be_started_later() {
    let engine = engine();
    let place = engine.home().join("later");
    engine
        .docker(&format!(
            "create --name box -v {0}:{0} busybox {0}/go",
            place.display()
        ))
        .ok();
    for client in Client::BOTH {
        let _removed = fs::remove_file(place.join("go"));
        engine
            .run(client, "start box")
            .complains(1, "no such file or directory");
        assert_eq!(
            engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"),
            "created 127"
        );
        assert!(
            engine
                .inspect("box", "{{.State.Error}}")
                .contains("no such file or directory")
        );
        fs::write(place.join("go"), "#!/bin/sh\necho went\n").unwrap();
        fs::set_permissions(
            place.join("go"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        engine.run(client, "start -a box").prints("went");
        engine.docker("rm box").ok();
        engine
            .docker(&format!(
                "create --name box -v {0}:{0} busybox {0}/go",
                place.display()
            ))
            .ok();
    }
}
