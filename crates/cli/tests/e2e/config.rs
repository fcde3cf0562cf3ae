//! The configuration file: reading it, checking it, reading it again, and making one of Docker's.

use rustix::process::Signal;
use testkit::image::TestImage;
use testkit::registry::Registry;

use crate::bench::eventually;
use crate::service::{GORAE, Host, free_port, get};

const CONFIG: &str = r#"
# what every container gets that does not say
default-shm-size = "1m"
default-ulimit = ["nofile=200:300"]
dns = ["10.9.8.7"]
dns-search = ["gorae.example"]
init = true
no-new-privileges = true
icc = false
mtu = 1400
label = ["shelf=3", "rack=a"]
insecure-registry = ["registry.example:5000", "10.1.0.0/16"]
registry-mirror = ["https://mirror.example"]
no-proxy = "a.example"
default-address-pool = ["base=10.111.0.0/16,size=24"]

[log-opt]
max-size = "2m"
"#;

#[test]
fn settings_take_effect() {
    let mut host = Host::new();
    let file = host.write("config.toml", CONFIG);
    host.gorae(&[
        "--config-file",
        &file,
        "--mtu",
        "1300",
        "--label",
        "shelf=4",
    ]);
    host.logs(&format!("label in {file}:11 is overridden by --label"));
    host.logs(&format!("mtu in {file}:10 is overridden by --mtu"));
    let socket = host.path("run/gorae.sock");
    host.import(&socket);
    let address = format!("unix://{}", socket.display());
    let docker = |line: &str| host.docker(&[("DOCKER_HOST", &address)], line);
    docker("info -f '{{json .Labels}}'").prints(r#"["shelf=4"]"#);
    docker("info -f '{{json .RegistryConfig.Mirrors}}'").prints(r#"["https://mirror.example/"]"#);
    docker("info -f '{{json .NoProxy}}'").prints(r#""a.example""#);
    docker("info -f '{{json .SecurityOptions}}'").shows("name=no-new-privileges");
    let info = docker("info");
    for line in [
        "registry.example:5000",
        "10.1.0.0/16",
        "https://mirror.example/",
    ] {
        info.shows(line);
    }
    docker("run -d --name box busybox sh -c 'df -k /dev/shm; ulimit -n; ulimit -Hn; cat /etc/resolv.conf; grep NoNewPrivs /proc/1/status; cat /proc/1/comm; cat /sys/class/net/eth0/mtu'").ok();
    docker("wait box").prints("0");
    let seen = docker("logs box");
    for text in [
        "1024",
        "200\n300\n",
        "nameserver 10.9.8.7",
        "search gorae.example",
        "NoNewPrivs:\t1",
        "1300",
    ] {
        seen.shows(text);
    }
    docker("inspect -f '{{json .HostConfig.LogConfig.Config}}' box").shows(r#""max-size":"2m""#);
    docker("inspect -f '{{.HostConfig.Init}}' box").prints("true");
    docker("rm box").ok();
    docker("network create pooled").ok();
    docker("network inspect -f '{{(index .IPAM.Config 0).Subnet}}' pooled").prints("10.111.0.0/24");
    docker("network rm pooled").ok();
}

#[test]
fn a_hang_up_reads_it_again() {
    let mut host = Host::new();
    let file = host.write("config.toml", "label = ['a=1']\n");
    host.gorae(&["--config-file", &file]);
    let socket = host.path("run/gorae.sock");
    let labels = || {
        let info = get(&socket, "/info").unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info.body).unwrap();
        (
            info["Labels"].to_string(),
            info["RegistryConfig"]["Mirrors"].to_string(),
        )
    };
    assert_eq!(labels(), (r#"["a=1"]"#.to_owned(), "null".to_owned()));
    host.write(
        "config.toml",
        "label = ['a=2']\nregistry-mirror = ['http://m:1']\nmtu = 1400\nlog-level = 'debug'\n",
    );
    host.signal(Signal::HUP);
    eventually("the label changes", || {
        labels() == (r#"["a=2"]"#.to_owned(), r#"["http://m:1/"]"#.to_owned())
    });
    host.logs("the configuration was read again changed=\"label, log-level, registry-mirror\"");
    host.logs(
        "these changes need a restart of the engine; containers run on meanwhile settings=\"mtu\"",
    );
    // what cannot be used changes nothing
    host.write("config.toml", "label = ['a=3']\nmtuu = 1\n");
    host.signal(Signal::HUP);
    host.logs("the configuration cannot be used");
    host.logs(&format!(
        "{file}:2: unknown key \"mtuu\" (did you mean \"mtu\"?)"
    ));
    assert_eq!(labels().0, r#"["a=2"]"#);
    assert!(host.stop().success());
}

#[test]
fn mirrors_of_docker_hub() {
    let mut host = Host::new();
    let file = host.write("config.toml", "");
    host.gorae(&["--config-file", &file]);
    let registry = Registry::start().unwrap();
    let image = TestImage::busybox().unwrap().build().unwrap();
    registry.push("some/thing", "1", &image).unwrap();
    // the first of the mirrors is not there, and the second has the image
    let (dead, alive) = (free_port(), registry.name());
    let text = format!("registry-mirror = ['https://127.0.0.1:{dead}', 'http://{alive}']");
    host.write("config.toml", &text);
    host.signal(Signal::HUP);
    host.logs("changed=\"registry-mirror\"");
    let address = format!("unix://{}", host.text("run/gorae.sock"));
    let docker = |line: &str| host.docker(&[("DOCKER_HOST", &address)], line);
    docker("pull some/thing:1").shows("Status: Downloaded newer image for some/thing:1");
    host.logs("a mirror did not give the image");
    docker("run --rm some/thing:1 echo from the mirror").prints("from the mirror");
    // only Docker Hub has mirrors; and where they fail, its own answer is told
    let other = docker(&format!("pull 127.0.0.1:{dead}/some/thing:1"));
    assert_eq!(other.code, 1, "{other:?}");
    docker("pull some/other:1").complains(1, "registry-1.docker.io");
}

#[test]
fn checking_and_refusing() {
    let host = Host::new();
    let run = |text: &str, more: &str| {
        let file = host.write("config.toml", text);
        let line = format!("daemon --validate --config-file {file} {more}");
        host.client(GORAE, &[], &line)
    };
    let fine = run(CONFIG, "--mtu 1500");
    assert_eq!(fine.code, 0, "{fine:?}");
    assert!(fine.stderr.ends_with("configuration OK\n"), "{fine:?}");
    for (text, more, expect) in [
        (
            "\n\ncolour = 'red'\n",
            "",
            "config.toml:3: unknown key \"colour\"",
        ),
        (
            "hosts = []",
            "",
            "config.toml:1: unknown key \"hosts\" (did you mean \"host\"?)",
        ),
        (
            "mtu = '1400'",
            "",
            "config.toml:1: mtu must be a whole number, not string",
        ),
        (
            "icc = false\nmtu = 10",
            "",
            "config.toml:2: invalid value \"10\" of mtu: must be from 68 to 65535",
        ),
        ("label = 'a=b'", "", "label must be a list of texts"),
        ("label = ['a']", "", "bad attribute format: a"),
        ("= 1", "", "config.toml:1: "),
        ("mtu = 1400\nmtu = 1400", "", "config.toml:2: duplicate key"),
        (
            "host = ['ftp://x']",
            "",
            "invalid bind address format: ftp://x",
        ),
        (
            "default-ulimit = ['nofile']",
            "",
            "invalid ulimit argument: nofile",
        ),
        ("log-level = 'loud'", "", "log level \"loud\" is not debug"),
        ("registry-mirror = ['m']", "", "is not a valid URI"),
        ("", "--mtu x", "invalid argument \"x\" for \"--mtu\" flag"),
        ("", "--colour red", "unknown flag: --colour"),
        ("", "word", "accepts no arguments"),
    ] {
        let seen = run(text, more);
        assert!(
            seen.code != 0 && seen.stderr.contains(expect),
            "{text} {more}: {seen:?}"
        );
    }
    let seen = host.client(GORAE, &[], "daemon --validate --config-file /nonexistent");
    seen.complains(1, "read configuration /nonexistent");
}

#[test]
fn from_dockers_configuration() {
    let host = Host::new();
    let json = r#"{
        "data-root": "/srv/docker", "hosts": ["unix:///run/d.sock", "tcp://127.0.0.1:2375"],
        "insecure-registries": ["r:5000"], "registry-mirrors": ["https://m"], "labels": ["a=b"],
        "log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"},
        "default-address-pools": [{"base": "10.5.0.0/16", "size": 24}],
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}},
        "live-restore": true, "storage-driver": "overlay2", "experimental": false,
        "features": {"containerd-snapshotter": true}, "runtimes": {"kata": {"path": "kata"}}
    }"#;
    let file = host.write("daemon.json", json);
    for line in [
        format!("daemon --import-docker-config {file}"),
        format!("daemon --import-docker-config={file}"),
    ] {
        let seen = host.client(GORAE, &[], &line);
        assert_eq!(seen.code, 0, "{seen:?}");
        for line in [
            "  data-root: taken as root",
            "  hosts: taken as host",
            "  insecure-registries: taken as insecure-registry",
            "  log-driver: taken",
            "  live-restore: not needed, it is so anyway",
            "  storage-driver: not needed, it is so anyway",
            "  features: not taken: there are no features to turn on",
            "  runtimes: not taken: containers are run by gorae-shim",
        ] {
            assert!(
                seen.stderr.lines().any(|found| found == line),
                "{line}\n{}",
                seen.stderr
            );
        }
        assert!(seen.stdout.contains("root = \"/srv/docker\"\n"), "{seen:?}");
        let ours = host.write("config.toml", &seen.stdout);
        let checked = host.client(
            GORAE,
            &[],
            &format!("daemon --validate --config-file {ours}"),
        );
        assert_eq!(checked.code, 0, "{checked:?}");
    }
    let unknown = host.write("unknown.json", r#"{"colour": 1}"#);
    let line = format!("daemon --import-docker-config {unknown}");
    let seen = host.client(GORAE, &[], &line);
    seen.complains(
        1,
        "the following directives don't match any configuration option: colour",
    );
}
