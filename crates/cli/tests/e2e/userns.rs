//! Containers whose users are not those of the host: `userns-remap`, `--userns=host` and `--userns=auto`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};

use crate::bench::{Checks, options};

/// The range that the engine gives to `dockremap` where nobody has one.
const FIRST: u32 = 0x7000_0000;

/// An engine with `userns-remap=default`, and an `/etc` of its own to write the ranges to.
fn remapped() -> Engine {
    Engine::start(EngineOptions {
        private_etc: true,
        flags: vec!["--userns-remap=default".to_owned()],
        ..options()
    })
    .unwrap()
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

#[test]
fn root_inside_is_nobody_outside() {
    let engine = remapped();
    let ranges = fs::read_to_string("/etc/subuid").unwrap();
    assert!(
        ranges.ends_with(&format!("dockremap:{FIRST}:67108864\n")),
        "{ranges}"
    );
    engine
        .docker("info -f '{{json .SecurityOptions}}'")
        .shows("name=userns");
    let shared = engine.home().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let shared = shared.display();
    engine.docker(&format!("run -d --name box -v {shared}:/shared -v data:/data busybox sh -c 'id -u > /shared/file; touch /data/own; chown 7:8 /data/own; echo x > /etc/new; sleep 1000'")).ok();
    crate::bench::eventually("all is written", || {
        engine.docker("exec box test -s /etc/new").code == 0
    });
    let pid = engine.inspect("box", "{{.State.Pid}}");
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let map: Vec<_> = map.split_whitespace().collect();
    assert_eq!(map, ["0", &FIRST.to_string(), "65536"]);
    assert_eq!(owner(format!("/proc/{pid}")), (FIRST, FIRST));
    let mut checks = Checks::default();
    let mut prints = |line: &str, expect: &str| checks.prints(&engine.docker(line), expect);
    prints("exec box id -u", "0");
    prints("exec -u 33:44 box id -g", "44");
    prints(
        "exec box stat -c %u:%g / /bin/busybox /shared/file /data/own /etc/hosts /etc/resolv.conf",
        "0:0\n0:0\n0:0\n7:8\n0:0\n0:0",
    );
    prints(
        "exec box sh -c 'echo 10.1.2.3 else >> /etc/hosts; grep -c else /etc/hosts'",
        "1",
    );
    prints("exec -t box tty", "/dev/pts/0");
    prints("inspect -f '{{.HostConfig.UsernsMode}}' box", "");
    assert_eq!(
        fs::read_to_string(engine.home().join("shared/file")).unwrap(),
        "0\n"
    );
    // what is the host's is of the user outside, what is the container's keeps its owner
    assert_eq!(owner(engine.home().join("shared/file")), (FIRST, FIRST));
    let data = engine
        .docker("volume inspect -f '{{.Mountpoint}}' data")
        .ok()
        .to_owned();
    assert_eq!(owner(Path::new(&data).join("own")), (7, 8));
    let id = engine.docker("ps -q --no-trunc").ok().to_owned();
    let upper = engine
        .root_folder()
        .join("containers")
        .join(id)
        .join("upper");
    assert_eq!(owner(upper.join("etc/new")), (0, 0));
    engine.docker("rm -f box").ok();
    engine.docker("volume rm data").ok();
}

#[test]
fn escapes_fail() {
    let engine = remapped();
    let secret = engine.home().join("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let secret = secret.display();
    let mut checks = Checks::default();
    let mut prints = |line: &str, expect: &str| checks.prints(&engine.docker(line), expect);
    // with all that a container may have without --privileged
    let strong = "run --rm --cap-add ALL --security-opt seccomp=unconfined";
    for (script, expect) in [
        ("mknod /sda b 8 0 || echo refused", "refused"),
        ("mknod /dev/mem c 1 1 || echo refused", "refused"),
        ("cat /secret || echo refused", "refused"),
        ("chmod 666 /secret || echo refused", "refused"),
        (
            "mount -o remount,rw /proc/sys; echo 1 > /proc/sys/kernel/panic || echo refused",
            "refused",
        ),
        ("echo b > /proc/sysrq-trigger || echo refused", "refused"),
        (
            "mkdir /m; mount -t ext4 /dev/vda /m || echo refused",
            "refused",
        ),
        (
            "mkdir /m; mount -t debugfs none /m || echo refused",
            "refused",
        ),
        ("umount -l /proc/kcore; cat /proc/kcore | wc -c", "0"),
        ("dmesg > /dev/null || echo refused", "refused"),
        ("nsenter -t 1 -u -i true && echo own", "own"),
        ("echo 0 0 1 > /proc/self/uid_map || echo refused", "refused"),
        (
            "echo +x > /sys/fs/cgroup/pids/cgroup.procs || echo refused",
            "refused",
        ),
        ("hostname other && hostname", "other"),
    ] {
        let line = format!("{strong} -v {secret}:/secret busybox sh -c '({script}) 2> /dev/null'");
        prints(&line, expect);
    }
    // unless the host's root says that it is the container's
    let line = format!(
        "run --rm -v {secret}:/secret:idmap busybox sh -c 'stat -c %u /secret; cat /secret'"
    );
    checks.prints(&engine.docker(&line), "0\nx");
    let refused = [
        (
            "--privileged",
            "privileged mode is incompatible with user namespaces",
        ),
        (
            "--network host",
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            "--pid host",
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ];
    for (flag, text) in refused {
        checks.complains(
            &engine.docker(&format!("run --rm {flag} busybox true")),
            125,
            text,
        );
        let line = format!("run --rm {flag} --userns host busybox id -u");
        checks.prints(&engine.docker(&line), "0");
    }
}

#[test]
fn what_works_without_works_with_it() {
    let engine = remapped();
    let mut checks = Checks::default();
    let mut prints = |line: &str, expect: &str| checks.prints(&engine.docker(line), expect);
    prints(
        "run --rm --read-only --tmpfs /scratch:uid=5 busybox sh -c 'touch /scratch/x && stat -c %u /scratch; touch /x 2> /dev/null || echo read-only'",
        "5\nread-only",
    );
    prints(
        "run --rm --init busybox sh -c 'cat /proc/1/comm; id -u'",
        "init\n0",
    );
    prints(
        "run --rm --device /dev/null:/dev/own --device /dev/zero:/elsewhere busybox sh -c 'echo x > /dev/own; dd if=/elsewhere bs=4 count=1 2> /dev/null | wc -c'",
        "4",
    );
    prints(
        "run --rm --user 33 busybox sh -c 'echo x > /dev/stdout; id -u; touch /x 2> /dev/null || echo refused'",
        "x\n33\nrefused",
    );
    prints(
        "run --rm --sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=4096 busybox cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax",
        "1\n4096",
    );
    prints(
        "run --rm --ulimit nofile=100:200 --memory 64m busybox sh -c 'ulimit -n; ulimit -Hn'",
        "100\n200",
    );
    prints(
        "run --rm -t busybox sh -c 'tty; stat -c %u /dev/console'",
        "/dev/pts/0\n0",
    );
    prints(
        "run --rm --ipc host busybox sh -c 'test -d /dev/shm && echo there'",
        "there",
    );
    prints(
        "run --rm --network none busybox sh -c 'ls /sys/class/net; ip addr add 10.0.0.1/24 dev lo || echo refused'",
        "lo\nrefused",
    );
    prints(
        "run --rm --cap-add NET_ADMIN busybox sh -c 'ip addr add 10.9.9.1/24 dev lo && echo added'",
        "added",
    );
    prints(
        "run --rm busybox sh -c 'cp /bin/busybox /b; chmod 4755 /b; chown 9:9 /b; stat -c %a:%u /b'",
        "755:9",
    );
}

#[test]
fn an_image_made_inside_has_the_owners_inside() {
    let engine = remapped();
    engine.docker("create --name maker busybox sh -c 'chown 0:0 /run-as; chmod 4755 /run-as; touch /web; chown 33:44 /web'").ok();
    // a set-user-id program; busybox gives such rights up by itself
    let program = Path::new(env!("CARGO_BIN_EXE_gorae")).with_file_name("gorae-shim");
    engine
        .docker(&format!("cp {} maker:/run-as", program.display()))
        .ok();
    engine.docker("start -a maker").ok();
    engine.docker("diff maker").prints("A /run-as\nA /web");
    engine.docker("commit maker setuid").ok();
    for mode in ["", "--userns host"] {
        let line = format!("run --rm {mode} setuid stat -c %u:%g:%a /run-as /web");
        engine.docker(&line).prints("0:0:4755\n33:44:644");
    }
    engine
        .docker("run -d --name box --user 33 setuid /run-as init -- sleep 1000")
        .ok();
    let pid = engine.inspect("box", "{{.State.Pid}}");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = format!("Uid:\t{}\t{FIRST}\t{FIRST}\t{FIRST}\n", FIRST + 33);
    assert!(status.contains(&ids), "{status}");
    engine.docker("rm -f box maker").ok();
    engine.docker("rmi setuid").ok();
}

#[test]
fn files_come_and_go_with_the_owners_inside() {
    let engine = remapped();
    engine.docker("run -d --name box busybox sh -c 'echo x > /file; chown 5:6 /file; mkdir /dir; sleep 1000'").ok();
    crate::bench::eventually("all is made", || {
        engine.docker("exec box test -d /dir").code == 0
    });
    let home = engine.home().display().to_string();
    fs::write(engine.home().join("in"), "in").unwrap();
    fs::create_dir(engine.home().join("tree")).unwrap();
    fs::write(engine.home().join("tree/of"), "of").unwrap();
    for client in Client::BOTH {
        engine
            .run(client, &format!("cp {home}/in box:/dir/in"))
            .ok();
        engine
            .run(client, &format!("cp -a {home}/tree box:/dir/"))
            .ok();
        engine
            .docker("exec box stat -c %u:%g /dir/in /dir/tree /dir/tree/of")
            .prints("0:0\n0:0\n0:0");
        engine
            .docker("exec box sh -c 'chown 9 /dir/in && echo mine; rm -r /dir/in /dir/tree'")
            .prints("mine");
        engine
            .run(client, &format!("cp -a box:/file {home}/out"))
            .ok();
        if client == Client::Gorae {
            // Docker's client gives what it brings to whoever runs it
            assert_eq!(owner(engine.home().join("out")), (5, 6));
        }
        engine
            .run(client, &format!("export -o {home}/all.tar box"))
            .ok();
        let listed = std::process::Command::new("tar")
            .args([
                "--numeric-owner",
                "-tvf",
                &format!("{home}/all.tar"),
                "file",
                "bin/busybox",
            ])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(
            listed.contains(" 5/6 ") && listed.contains(" 0/0 "),
            "{listed}"
        );
    }
    engine.docker("stop -t 0 box").ok();
    engine.docker(&format!("cp {home}/in box:/dir/in")).ok();
    engine.gorae(&format!("cp -a box:/file {home}/out2")).ok();
    assert_eq!(owner(engine.home().join("out2")), (5, 6));
    engine.docker("start box").ok();
    engine
        .docker("exec box stat -c %u:%g /dir/in")
        .prints("0:0");
    engine.docker("rm -f box").ok();
}

#[test]
fn networks_are_the_containers_own() {
    let engine = remapped();
    engine.docker("network create net").ok();
    engine.docker("run -d --name web --network net -p 127.0.0.1:8099:80 busybox sh -c 'mkdir /www; echo hello > /www/index.html; httpd -f -p 80 -h /www'").ok();
    crate::bench::eventually("the published port answers", || {
        let server = ([127, 0, 0, 1], 8099).into();
        let got = testkit::http::request(server, "GET", "/index.html", &[], b"");
        got.is_ok_and(|answer| String::from_utf8_lossy(&answer.body).contains("hello"))
    });
    engine
        .docker("run --rm --network net busybox wget -q -O - http://web/index.html")
        .prints("hello");
    engine
        .docker("run --rm busybox ping -c 1 -W 30 -q 127.0.0.1")
        .shows(" 0% packet loss");
    // who joins a namespace of a container comes into its users
    engine
        .docker("run --rm --network container:web busybox wget -q -O - http://127.0.0.1/index.html")
        .prints("hello");
    engine
        .docker(
            "run --rm --pid container:web busybox sh -c 'cat /proc/1/comm; kill -0 1 && echo may'",
        )
        .prints("httpd\nmay");
    engine
        .docker("run -d --name sharer --ipc shareable busybox sleep 1000")
        .ok();
    engine
        .docker("run --rm --ipc container:sharer busybox sh -c 'touch /dev/shm/x && echo shared'")
        .prints("shared");
    engine.docker("exec sharer ls /dev/shm").prints("x");
    engine.docker("network connect net sharer").ok();
    engine
        .docker("exec sharer wget -q -O - http://web/index.html")
        .prints("hello");
    engine.docker("network disconnect net sharer").ok();
    engine.docker("rm -f web sharer").ok();
    engine.docker("network rm net").ok();
}

#[test]
fn a_range_for_each_alone() {
    let mut engine = remapped();
    let first = |name: &str, engine: &Engine| {
        let pid = engine.inspect(name, "{{.State.Pid}}");
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        map.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    for name in ["one", "two"] {
        let line = format!(
            "run -d --name {name} --userns auto -v data:/data busybox sh -c 'echo {name} >> /data/names; sleep 1000'"
        );
        engine.gorae(&line).ok();
    }
    engine
        .docker("run -d --name shared busybox sleep 1000")
        .ok();
    let (a, b) = (first("one", &engine), first("two", &engine));
    assert_eq!((a, b), (FIRST + 65536, FIRST + 2 * 65536));
    assert_eq!(first("shared", &engine), FIRST);
    crate::bench::eventually("both have written", || {
        let names = engine.docker("exec two wc -l /data/names");
        names.stdout == "2 /data/names\n"
    });
    // one volume, and the same owners for both
    engine.docker("exec two stat -c %u /data/names").prints("0");
    engine.kill9().unwrap();
    engine.restart().unwrap();
    engine.docker("exec one id -u").prints("0");
    engine.docker("restart -t 0 one").ok();
    assert_eq!(first("one", &engine), a);
    engine.docker("rm -f two").ok();
    crate::bench::eventually("the range is free again", || {
        engine
            .gorae("run -d --name three --userns auto busybox sleep 1000")
            .ok();
        let free = first("three", &engine) == b;
        engine.docker("rm -f three").ok();
        free
    });
    engine.docker("rm -f one shared").ok();
    engine.docker("volume rm data").ok();
    engine
        .gorae("run --rm --userns auto --privileged busybox true")
        .complains(125, "privileged mode is incompatible");
    engine
        .gorae("run --rm --userns odd busybox true")
        .complains(125, "invalid USER mode");
}

#[test]
fn without_the_setting_nothing_changes() {
    let engine = Engine::start(EngineOptions {
        private_etc: true,
        ..options()
    })
    .unwrap();
    engine
        .docker("run --rm busybox cat /proc/self/uid_map")
        .shows("4294967295");
    engine
        .gorae("run --rm --userns auto busybox true")
        .complains(125, "userns-remap=default");
    let info = engine.docker("info -f '{{json .SecurityOptions}}'");
    assert!(!info.stdout.contains("userns"), "{info:?}");
    assert!(
        !fs::read_to_string("/etc/subuid")
            .unwrap_or_default()
            .contains("dockremap")
    );
}

#[test]
fn what_looks_at_a_container_sees_it() {
    let engine = remapped();
    engine
        .docker("run -d --name box --health-cmd 'test $(id -u) = 0' --health-interval 1s busybox sleep 4321")
        .ok();
    crate::bench::eventually("healthy", || {
        engine.inspect("box", "{{.State.Health.Status}}") == "healthy"
    });
    engine.docker("top box").shows("sleep 4321");
    engine.docker("top box").shows(&FIRST.to_string());
    // a check may be running beside it
    crate::bench::eventually("its processes are counted", || {
        engine
            .docker("stats --no-stream --format {{.PIDs}} box")
            .ok()
            == "1"
    });
    engine.docker("pause box").ok();
    engine.docker("unpause box").ok();
    engine
        .docker("update --memory 64m --memory-swap 64m box")
        .ok();
    engine
        .docker("exec box sh -c 'kill 1; echo sent'")
        .prints("sent");
    engine.docker("logs box").ok();
    engine.docker("rm -f box").ok();
}
