//! The flags of `run`, each by its effect inside the container.

use std::fs;

use testkit::docker::Client;
use testkit::engine::Engine;

use crate::bench::{Checks, engine, eventually};

/// Runs `run --rm FLAGS busybox COMMAND` with both clients.
struct Bench {
    engine: Engine,
    checks: Checks,
}

fn bench() -> Bench {
    Bench {
        checks: Checks::default(),
        engine: engine(),
    }
}

impl Bench {
    fn prints(&mut self, flags: &str, command: &str, expect: &str) {
        for client in Client::BOTH {
            let line = format!("run --rm {flags} busybox {command}");
            self.checks.prints(&self.engine.run(client, &line), expect);
        }
    }
}

#[test]
fn environment_workdir_user_and_entrypoint() {
    let mut bench = bench();
    let file = bench.engine.home().join("env");
    fs::write(
        &file,
        "# comment\nFROM_FILE=yes and no\nEMPTY=\n\nHOME=/elsewhere\n",
    )
    .unwrap();
    let file = file.display();
    bench.prints(
        "-e A=1 -e B='two words' -e C=",
        "sh -c 'echo $A/$B/$C/${D-unset}'",
        "1/two words//unset",
    );
    bench.prints(
        &format!("--env-file {file} -e EMPTY=no"),
        "sh -c 'echo $FROM_FILE $EMPTY $HOME'",
        "yes and no no /elsewhere",
    );
    bench.prints(
        "",
        "sh -c 'echo $HOME $PATH; test $HOSTNAME = $(hostname) && echo same'",
        "/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nsame",
    );
    bench.prints("", "pwd", "/");
    bench.prints("-w /tmp", "pwd", "/tmp");
    bench.prints("-w /made/for/it", "pwd", "/made/for/it");
    bench.prints("-u 1000", "id", "uid=1000 gid=0(root) groups=0(root)");
    bench.prints("-u 1000:2000", "id", "uid=1000 gid=2000 groups=2000");
    bench.prints(
        "-u nobody",
        "sh -c 'id; echo $HOME'",
        "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n/home",
    );
    bench.prints("-u nobody:root", "id -g", "0");
    bench.prints(
        "-u 1000 --group-add 7 --group-add nogroup",
        "id -G",
        "0 7 65534",
    );
    bench.prints("--entrypoint echo", "hello there", "hello there");
    bench.prints("--entrypoint '/bin/sh'", "-c 'echo $0'", "/bin/sh");
    for client in Client::BOTH {
        bench
            .engine
            .run(client, "run --rm -u nosuch busybox id")
            .complains(
                125,
                "unable to find user nosuch: no matching entries in passwd file",
            );
        bench
            .engine
            .run(client, "run --rm -u 0:nosuch busybox id")
            .complains(
                125,
                "unable to find group nosuch: no matching entries in group file",
            );
        bench
            .engine
            .run(client, "run --rm -w relative busybox pwd")
            .complains(
                125,
                "the working directory 'relative' is invalid, it needs to be an absolute path",
            );
    }
}

#[test]
fn binds_volumes_and_tmpfs() {
    let mut bench = bench();
    let host = bench.engine.home().join("shared");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "from the host").unwrap();
    let at = host.display();
    bench.prints(
        &format!("-v {at}:/mnt"),
        "sh -c 'cat /mnt/file; echo back > /mnt/made'",
        "from the host",
    );
    assert_eq!(fs::read_to_string(host.join("made")).unwrap(), "back\n");
    bench.prints(
        &format!("-v {at}:/mnt:ro"),
        "sh -c 'echo no > /mnt/x || echo refused'",
        "refused",
    );
    bench.prints(
        &format!("-v {at}/file:/etc/one:ro"),
        "cat /etc/one",
        "from the host",
    );
    bench.prints(
        &format!("--mount type=bind,src={at},dst=/mnt,readonly"),
        "sh -c 'cat /mnt/file; touch /mnt/x || echo refused'",
        "from the hostrefused",
    );
    bench.prints(
        "-v data:/data",
        "sh -c 'echo kept >> /data/file; tail -1 /data/file'",
        "kept",
    );
    bench
        .engine
        .docker("run --rm -v data:/data busybox cat /data/file")
        .prints("kept\nkept");
    bench.prints(
        "--mount type=volume,src=data,dst=/data,ro",
        "sh -c 'touch /data/x || echo refused'",
        "refused",
    );
    bench.prints("--tmpfs /scratch:size=1m,mode=700",
        "sh -c 'stat -f -c %T /scratch; stat -c %a /scratch; df -k /scratch | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
        "tmpfs\n700\n1024",
    );
    bench.prints(
        "--mount type=tmpfs,dst=/scratch,tmpfs-size=2m,tmpfs-mode=1770",
        "sh -c 'stat -c %a /scratch; df -k /scratch | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
        "1770\n2048",
    );
    bench.prints("--tmpfs /scratch",
        "sh -c 'grep \" /scratch \" /proc/mounts | cut -d\" \" -f4 | tr , \"\\n\" | grep -c \"^nosuid$\\|^nodev$\\|^noexec$\"'",
        "3",
    );
    bench.prints("--read-only",
        "sh -c 'touch /x || touch /bin/x || echo refused; echo fine > /dev/null; touch /dev/shm/x && echo shm'",
        "refused\nshm",
    );
    bench.prints(
        "--read-only --tmpfs /tmp -v data:/data",
        "sh -c 'touch /tmp/x /data/y && echo ok'",
        "ok",
    );
    bench.prints(
        "--shm-size 8m",
        "sh -c 'df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
        "8192",
    );
    bench.prints(
        "",
        "sh -c 'df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'",
        "65536",
    );
}

#[test]
fn names_hosts_and_resolver() {
    let mut bench = bench();
    bench.prints(
        "--hostname box.example",
        "sh -c 'hostname; cat /etc/hostname'",
        "box.example\nbox.example",
    );
    bench.prints(
        "--hostname box",
        "sh -c 'grep -c \"172.17.0.*box\" /etc/hosts'",
        "1",
    );
    bench.prints(
        "--add-host db:10.1.2.3 --add-host six=::1",
        "sh -c 'grep \"\\bdb$\\|\\bsix$\" /etc/hosts | tr \"\\t\" \" \"'",
        "10.1.2.3 db\n::1 six",
    );
    bench.prints(
        "--add-host up:host-gateway",
        "sh -c 'grep \"up$\" /etc/hosts | tr \"\\t\" \" \"'",
        "172.17.0.1 up",
    );
    bench.prints(
        "--dns 9.9.9.9 --dns-search example.org --dns-option ndots:3",
        "sh -c 'grep -v ^# /etc/resolv.conf | grep .'",
        "nameserver 9.9.9.9\nsearch example.org\noptions ndots:3",
    );
    bench.prints(
        "",
        "sh -c 'head -1 /etc/hosts | tr \"\\t\" \" \"; test $(hostname | wc -c) = 13 && echo id'",
        "127.0.0.1 localhost\nid",
    );
    bench.prints(
        "--domainname example.net --hostname box",
        "hostname -f",
        "box.example.net",
    );
}

#[test]
fn capabilities_privileges_and_seccomp() {
    let mut bench = bench();
    let set = |name: &str| {
        format!("sh -c 'grep {name} /proc/self/status | tr -s \"\\t\" \" \" | cut -d\" \" -f2'")
    };
    bench.prints("", &set("CapEff"), crate::bench::DEFAULT_CAPABILITIES);
    bench.prints("", &set("CapInh"), "0000000000000000");
    bench.prints("", &set("CapAmb"), "0000000000000000");
    bench.prints("--cap-drop ALL", &set("CapBnd"), "0000000000000000");
    bench.prints(
        "--cap-drop ALL --cap-add NET_RAW",
        &set("CapBnd"),
        "0000000000002000",
    );
    bench.prints(
        "--cap-add CAP_SYS_ADMIN",
        &set("CapEff"),
        "00000000a82425fb",
    );
    bench.prints("--cap-drop net_raw", &set("CapEff"), "00000000a80405fb");
    bench.prints("-u 1000", &set("CapEff"), "0000000000000000");
    bench.prints(
        "-u 1000",
        &set("CapBnd"),
        crate::bench::DEFAULT_CAPABILITIES,
    );
    bench.prints("--security-opt no-new-privileges", &set("NoNewPrivs"), "1");
    bench.prints("", &set("NoNewPrivs"), "0");
    bench.prints("", &set("Seccomp:"), "2");
    bench.prints("--security-opt seccomp=unconfined", &set("Seccomp:"), "0");
    bench.prints("--privileged", &set("Seccomp:"), "0");
    bench.prints("--privileged",
        "sh -c 'mount -t tmpfs x /mnt 2>/dev/null || { mkdir /m; mount -t tmpfs x /m; } && echo mounted; test -w /proc/sys/kernel/shmmax && echo writable; ls /dev/loop-control /dev/kmsg 2>/dev/null | wc -l'",
        "mounted\nwritable\n2",
    );
    let profile = bench.engine.home().join("seccomp.json");
    fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#).unwrap();
    bench.prints(
        &format!("--security-opt seccomp={}", profile.display()),
        "sh -c 'mkdir /x 2>&1; touch /y && echo touched'",
        "mkdir: can't create directory '/x': Operation not permitted\ntouched",
    );
}

#[test]
fn ulimits_sysctls_and_devices() {
    let mut bench = bench();
    bench.prints(
        "--ulimit nofile=100:200 --ulimit core=0",
        "sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c'",
        "100\n200\n0",
    );
    bench.prints(
        "--sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=12345",
        "sh -c 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax'",
        "1\n12345",
    );
    bench.prints(
        "",
        "sh -c 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start'",
        "0",
    );
    let see = "sh -c 'stat -c %t:%T /dev/made; true 2>/dev/null < /dev/made && echo read; true 2>/dev/null > /dev/made && echo written; true'";
    bench.prints("--device /dev/kmsg:/dev/made:w", see, "1:b\nwritten");
    bench.prints("--device /dev/kmsg:/dev/made:m", see, "1:b");
    bench.prints("--device /dev/zero:/dev/made", see, "1:5\nread\nwritten");
}

#[test]
fn init_and_namespaces() {
    let mut bench = bench();
    bench.prints("", "sh -c 'echo $$'", "1");
    bench.prints("--init",
        "sh -c 'test $$ -ne 1 && echo child; (sleep 0.1 &) ; sleep 0.3; for i in $(seq 300); do ps | grep -q \"[[]sleep[]]\" || break; sleep 0.1; done; ps | grep -c \"[[]sleep[]]\"; true'",
        "child\n0",
    );
    bench
        .engine
        .docker("run -d --name one --hostname one busybox sleep 1000")
        .ok();
    for (flags, name) in [
        ("--pid container:one", "pid"),
        ("--network container:one", "net"),
    ] {
        let inside = format!("exec one readlink /proc/self/ns/{name}");
        let same = bench.engine.docker(&inside).ok().to_owned();
        bench.prints(flags, &format!("readlink /proc/self/ns/{name}"), &same);
    }
    bench
        .engine
        .docker("run -d --name shared --ipc shareable busybox sleep 1000")
        .ok();
    let ipc = bench
        .engine
        .docker("exec shared readlink /proc/self/ns/ipc")
        .ok()
        .to_owned();
    bench.prints("--ipc container:shared", "readlink /proc/self/ns/ipc", &ipc);
    bench.engine.docker("exec shared touch /dev/shm/seen").ok();
    bench.prints("--ipc container:shared", "ls /dev/shm", "seen");
    for client in Client::BOTH {
        bench
            .engine
            .run(client, "run --rm --ipc container:one busybox true")
            .complains(125, "non-shareable IPC");
    }
    let host = |name: &str| {
        fs::read_link(format!("/proc/thread-self/ns/{name}"))
            .unwrap()
            .display()
            .to_string()
    };
    bench.prints("--pid host", "readlink /proc/self/ns/pid", &host("pid"));
    bench.prints("--uts host", "readlink /proc/self/ns/uts", &host("uts"));
    bench.prints("--ipc host", "readlink /proc/self/ns/ipc", &host("ipc"));
    bench.prints("--network host", "readlink /proc/self/ns/net", &host("net"));
    bench.prints("--network container:one", "hostname", "one");
    bench.prints(
        "--pid container:one",
        "sh -c 'ps | grep -c \"[s]leep 1000\"'",
        "1",
    );
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        for client in Client::BOTH {
            let inside = bench.engine.run(
                client,
                &format!("run --rm busybox readlink /proc/self/ns/{name}"),
            );
            assert_ne!(inside.ok(), host(name), "{name}");
        }
    }
}

#[test]
fn labels_pull_policy_and_platform() {
    let bench = bench();
    let labels = bench.engine.home().join("labels");
    fs::write(&labels, "from=file\n").unwrap();
    for client in Client::BOTH {
        bench
            .engine
            .run(
                client,
                &format!(
                    "create --name box -l tier=web -l bare --label-file {} busybox",
                    labels.display()
                ),
            )
            .ok();
        assert_eq!(
            bench.engine.inspect("box", "{{json .Config.Labels}}"),
            r#"{"bare":"","from":"file","tier":"web"}"#
        );
        bench.engine.run(client, "rm box").ok();
        bench
            .engine
            .run(client, "run --rm --pull never nosuch true")
            .complains(125, "No such image: nosuch:latest");
        bench
            .engine
            .run(client, "run --rm --pull sometimes busybox true")
            .complains(125, "sometimes");
        bench
            .engine
            .run(
                client,
                "run --rm --platform linux/amd64 --pull never busybox echo ok",
            )
            .prints("ok");
        bench
            .engine
            .run(
                client,
                "run --rm --platform linux/s390x --pull never busybox true",
            )
            .fails(125);
    }
}

#[test]
fn cidfile_and_auto_remove() {
    let bench = bench();
    for client in Client::BOTH {
        let file = bench.engine.home().join("cid");
        let line = format!("run -d --rm --cidfile {} busybox sleep 0.3", file.display());
        let id = bench.engine.run(client, &line).ok().to_owned();
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), id);
        bench
            .engine
            .run(client, &line)
            .complains(125, "ontainer ID file found");
        fs::remove_file(file).unwrap();
        eventually("it is removed", || {
            bench.engine.run(client, "ps -aq").ok().is_empty()
        });
    }
}
