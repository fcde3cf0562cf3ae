//! The program under the name `dockerd`, with the flags and the file of Docker's engine.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::service::{GORAE, Host};

fn dockerd(host: &Host) -> String {
    let path = host.path("dockerd");
    if !path.exists() {
        symlink(GORAE, &path).unwrap();
    }
    host.text("dockerd")
}

#[test]
fn a_script_that_starts_dockerd_starts_gorae() {
    let mut host = Host::new();
    let file = host.write(
        "daemon.json",
        r#"{"labels": ["from=file"], "mtu": 1400, "storage-driver": "overlay2", "builder": {"gc": {"enabled": true}}}"#,
    );
    let program = dockerd(&host);
    let (socket, pid_file) = (host.path("d/docker.sock"), host.path("d/docker.pid"));
    // a Docker engine was here before: its folders are left alone
    fs::create_dir_all(host.path("data/containers/0123")).unwrap();
    fs::create_dir_all(host.path("data/image")).unwrap();
    let words = [
        "-H",
        &format!("unix://{}", socket.display()),
        "--data-root",
        &host.text("data"),
        "--exec-root",
        &host.text("exec"),
        "--pidfile",
        &host.text("d/docker.pid"),
        "--config-file",
        &file,
        "--cgroup-parent",
        &host.cgroup,
        "--bip=10.77.0.1/24",
        "--insecure-registry=r.example:5000",
        "--userland-proxy=false",
        "--iptables=true",
        "--containerd=/run/containerd/containerd.sock",
        "--storage-opt=size=1G",
        "--log-level=fatal",
        "-D",
        "--raw-logs",
    ]
    .map(str::to_owned);
    let command = host.command(&program, &words);
    host.start(command, &socket);
    assert_eq!(
        fs::read_to_string(&pid_file).unwrap(),
        host.pid().to_string()
    );
    host.import(&socket);
    let address = format!("unix://{}", socket.display());
    let docker = |line: &str| host.docker(&[("DOCKER_HOST", &address)], line);
    docker("info -f '{{json .Labels}}'").prints(r#"["from=file"]"#);
    docker("network inspect -f '{{(index .IPAM.Config 0).Subnet}}' bridge").prints("10.77.0.0/24");
    docker("run --rm busybox cat /sys/class/net/eth0/mtu").prints("1400");
    docker("run --rm busybox hostname -i").shows("10.77.0.");
    assert!(host.path("data/gorae/gorae.db").exists());
    assert!(host.path("data/containers/0123").exists());
    let log = host.log();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("without effect here"))
        .collect();
    assert_eq!(warnings.len(), 1, "{log}");
    for name in ["builder (", "--containerd (", "--storage-opt ("] {
        assert!(warnings[0].contains(name), "{}", warnings[0]);
    }
    for name in [
        "--userland-proxy",
        "--iptables",
        "storage-driver",
        "raw-logs",
    ] {
        assert!(!warnings[0].contains(name), "{}", warnings[0]);
    }
    host.write("daemon.json", r#"{"labels": ["from=reload"]}"#);
    host.signal(Signal::HUP);
    host.logs("the configuration was read again");
    docker("info -f '{{json .Labels}}'").prints(r#"["from=reload"]"#);
    assert!(host.stop().success());
    assert!(!pid_file.exists() && !socket.exists());
}

#[test]
fn what_dockerd_is_asked_without_running() {
    let host = Host::new();
    let program = dockerd(&host);
    let run = |line: &str| host.client(&program, &[], line);
    let fine = host.write("daemon.json", r#"{"mtu": 1400}"#);
    let seen = run(&format!("--validate --config-file {fine} --mtu 1300"));
    assert_eq!(seen.code, 0, "{seen:?}");
    assert!(seen.stderr.ends_with("configuration OK\n"), "{seen:?}");
    assert!(seen.stderr.contains("is overridden by --mtu"), "{seen:?}");
    let unknown = host.write("unknown.json", r#"{"colour": 1}"#);
    run(&format!("--validate --config-file {unknown}")).complains(
        1,
        "the following directives don't match any configuration option: colour",
    );
    run("--validate --config-file /nonexistent").complains(1, "/nonexistent");
    run("--colour").complains(1, "Status: unknown flag: --colour\nSee 'dockerd --help'.");
    run("--mtu x").complains(1, "invalid argument \"x\" for \"--mtu\" flag");
    run("--authorization-plugin x").complains(1, "--authorization-plugin is not supported");
    run("-v").shows("Gorae version ");
    let help = run("--help");
    for flag in [
        "--add-runtime",
        "-H, --host",
        "--userns-remap",
        "--tlsverify",
    ] {
        help.shows(flag);
    }
}

#[test]
fn another_engines_data_is_not_touched() {
    let host = Host::new();
    fs::create_dir_all(host.path("data/overlay2")).unwrap();
    let line = format!(
        "daemon --root {} --run {}",
        host.text("data"),
        host.text("run")
    );
    let seen = host.client(GORAE, &[], &line);
    seen.complains(1, "holds a Docker engine's data");
    assert_eq!(fs::read_dir(host.path("data")).unwrap().count(), 1);
}
