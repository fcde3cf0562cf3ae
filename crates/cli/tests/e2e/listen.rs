//! The daemon's listeners: TCP, TLS, ssh, sockets of a service manager, and clients that are slow.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use testkit::docker::Client;

use crate::bench::{engine, eventually, options};
use crate::service::{Authority, GORAE, Host, free_port, get, listens, ping};

#[test]
fn plain_tcp_on_loopback() {
    let mut host = Host::new();
    let port = free_port();
    let address = format!("tcp://127.0.0.1:{port}");
    let own = format!("unix://{}", host.text("run/gorae.sock"));
    host.gorae(&["-H", &own, "-H", &address]);
    host.import(&host.path("run/gorae.sock"));
    let variables = [("DOCKER_HOST", address.as_str())];
    for client in [GORAE.into(), testkit::docker::docker_cli().unwrap()] {
        let run = |line: &str| host.client(&client, &variables, line);
        run("run --rm busybox echo over tcp").prints("over tcp");
        // the end of the input goes one way, and the output comes the other way after it
        let mut command = std::process::Command::new(&client);
        command.args([
            "run",
            "-i",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "cat; sleep 0.3; echo end",
        ]);
        command.env("DOCKER_HOST", &address).stdin(Stdio::piped());
        command.stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"in\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "in\nend\n");
    }
    host.logs("TCP without TLS");
    // a client that leaves is noticed, although it only waited
    let connections = || {
        let page = get(&host.path("run/gorae.sock"), "/metrics").unwrap();
        let text = String::from_utf8(page.body).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("gorae_http_connections "));
        line.unwrap().to_owned()
    };
    let mut waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    waiting
        .write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut head = [0; 12];
    waiting.read_exact(&mut head).unwrap();
    // those of the docker client end when the engine has seen their end
    eventually("only the waiting client is left", || {
        connections() == "gorae_http_connections 2"
    });
    drop(waiting);
    eventually("the client's end is seen", || {
        connections() == "gorae_http_connections 1"
    });
}

#[test]
fn what_is_not_listened_on() {
    let host = Host::new();
    let check = |flags: &[&str], expect: &str| {
        let mut all = vec!["daemon".to_owned()];
        all.extend(host.flags());
        let line = format!("{} {}", all.join(" "), flags.join(" "));
        let seen = host.client(GORAE, &[], &line);
        assert!(
            seen.code == 1 && seen.stderr.contains(expect),
            "{flags:?}: {seen:?}"
        );
    };
    check(
        &["-H", "tcp://0.0.0.0:2375"],
        "will not listen on tcp://0.0.0.0:2375 without TLS",
    );
    check(&["-H", "tcp://[::]:2375"], "without TLS");
    check(&["-H", "fd://"], "no socket was passed for fd://");
    check(
        &[
            "-H",
            "tcp://0.0.0.0:2376",
            "--tlsverify",
            "--tlscacert",
            "/nonexistent",
        ],
        "set up TLS: read /",
    );
    Authority::new("a").write(&host.path("tls"), true);
    let tls = host.text("tls");
    let files = [
        format!("--tlscert={tls}/cert.pem"),
        format!("--tlskey={tls}/key.pem"),
    ];
    check(
        &["-H", "tcp://0.0.0.0:2376", "--tls", &files[0], &files[1]],
        "for clients without a certificate",
    );
    assert!(!listens(2375) && !listens(2376));
}

#[test]
fn tls_with_client_certificates() {
    let mut host = Host::new();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    authority.write(&host.path("server"), true);
    authority.write(&host.path("client"), false);
    stranger.write(&host.path("stranger"), false);
    let port = free_port();
    let server = host.text("server");
    let flags = [
        "-H".to_owned(),
        format!("unix://{}", host.text("run/gorae.sock")),
        format!("--host=tcp://0.0.0.0:{port}"),
        "--tlsverify".to_owned(),
        format!("--tlscacert={server}/ca.pem"),
        format!("--tlscert={server}/cert.pem"),
        format!("--tlskey={server}/key.pem"),
    ];
    host.gorae(&flags.each_ref().map(String::as_str));
    host.import(&host.path("run/gorae.sock"));
    let address = format!("tcp://127.0.0.1:{port}");
    let docker = testkit::docker::docker_cli().unwrap();
    let variables = |certificates: &str| {
        [
            ("DOCKER_HOST".to_owned(), address.clone()),
            ("DOCKER_TLS_VERIFY".to_owned(), "1".to_owned()),
            ("DOCKER_CERT_PATH".to_owned(), host.text(certificates)),
        ]
    };
    for client in [std::path::Path::new(GORAE), &docker] {
        let run = |certificates: &str, line: &str| {
            let variables = variables(certificates);
            let variables = variables.each_ref().map(|(n, v)| (n.as_str(), v.as_str()));
            host.client(client, &variables, line)
        };
        run("client", "run --rm busybox echo hello").prints("hello");
        run("client", "run --rm -t busybox echo terminal").shows("terminal");
        let refused = run("stranger", "ps");
        assert_eq!(refused.code, 1, "{refused:?}");
        let files = host.text("client");
        let flags = format!(
            "--host {address} --tlsverify --tlscacert {files}/ca.pem --tlscert {files}/cert.pem --tlskey {files}/key.pem ps -q"
        );
        host.client(client, &[], &flags).prints("");
        let nobody = format!("--host {address} --tls ps -q");
        assert_eq!(host.client(client, &[], &nobody).code, 1);
    }
    // who speaks plain HTTP there is told what is wrong
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.write_all(b"GET /_ping HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    plain.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("Client sent an HTTP request to an HTTPS server"),
        "{text}"
    );
    // certificates are renewed in place: clients of the old authority are strangers then
    stranger.write(&host.path("server"), true);
    host.signal(Signal::HUP);
    host.logs("the configuration was read again");
    let [a, b, c] = variables("client");
    let client = [a, b, c];
    let client = client.each_ref().map(|(n, v)| (n.as_str(), v.as_str()));
    assert_eq!(host.docker(&client, "ps").code, 1);
    let next = variables("stranger");
    let next = next.each_ref().map(|(n, v)| (n.as_str(), v.as_str()));
    host.docker(&next, "ps -q").prints("");
}

/// A program `ssh` that runs the command here, where `docker` is Gorae and finds the engine.
fn fake_ssh(host: &Host) -> String {
    fs::create_dir_all(host.path("ssh")).unwrap();
    fs::create_dir_all(host.path("there")).unwrap();
    symlink(GORAE, host.path("there/docker")).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/ssh.words\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexport PATH={0}/there:/usr/bin:/bin GORAE_HOST=unix://{0}/run/gorae.sock\nexec sh -c \"$*\"\n",
        host.text(".").trim_end_matches("/.")
    );
    let ssh = host.write("ssh/ssh", &script);
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let search = std::env::var("PATH").unwrap();
    format!("{}:{search}", host.text("ssh"))
}

#[test]
fn over_ssh() {
    let mut host = Host::new();
    host.gorae(&[]);
    host.import(&host.path("run/gorae.sock"));
    let search = fake_ssh(&host);
    let variables = [
        ("DOCKER_HOST", "ssh://me@elsewhere:2222"),
        ("PATH", search.as_str()),
    ];
    for client in [GORAE.into(), testkit::docker::docker_cli().unwrap()] {
        let run = |line: &str| host.client(&client, &variables, line);
        run("run --rm busybox echo far away").prints("far away");
        run("run -d --name box busybox sleep 60").ok();
        run("exec box echo inside").prints("inside");
        run("rm -f box").prints("box");
        run("ps -q").prints("");
    }
    let words = fs::read_to_string(host.path("ssh.words")).unwrap();
    assert!(words.contains("-l me -p 2222"), "{words}");
    let nowhere = [("DOCKER_HOST", "ssh://-oProxyCommand=x"), variables[1]];
    host.client(GORAE, &nowhere, "ps")
        .complains(1, "invalid host");
}

#[test]
fn dial_stdio() {
    let engine = engine();
    let mut session = engine.session(Client::Gorae, "system dial-stdio");
    session
        .write("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    session.close_input();
    let outcome = session.finish();
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.starts_with("HTTP/1.1 200 OK"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("OK"), "{outcome:?}");
}

#[test]
fn sockets_of_a_service_manager() {
    let mut host = Host::new();
    let path = host.path("activated.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let manager = UnixDatagram::bind(host.path("notify")).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let next = || {
        let mut buffer = [0; 200];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    // the manager passes its sockets from number 3 on
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=api exec \"$@\"";
    let mut words = ["-c", script, "sh", GORAE, "daemon"]
        .map(str::to_owned)
        .to_vec();
    words.extend(host.flags());
    words.extend(["-H".to_owned(), "fd://api".to_owned()]);
    let mut command = host.command("sh", &words);
    command
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .env("NOTIFY_SOCKET", host.path("notify"));
    host.start(command, &path);
    assert!(next().starts_with("READY=1"));
    assert!(!host.path("run/gorae.sock").exists());
    host.signal(Signal::HUP);
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(next().starts_with("READY=1"));
    assert!(host.stop().success());
    assert!(next().starts_with("STOPPING=1"));
    // the socket is the manager's: whoever connects now waits for the next engine
    assert!(path.exists());
    let waiting = UnixStream::connect(&path).unwrap();
    drop((waiting, listener));
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    const CLIENTS: usize = 3000;
    let engine = engine();
    let socket = engine.socket();
    let events = engine.session(Client::Docker, "events");
    crate::bench::many_files();
    let mut slow = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // some say nothing, some a part of a head, some a head without its body
        let part: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /_ping HTTP/1.1\r\nHost",
            _ => b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
        };
        stream.write_all(part).unwrap();
        slow.push(stream);
        if number % 100 == 99 {
            assert_eq!(ping(&socket).unwrap().status, 200);
        }
    }
    engine.docker("ps -q").prints("");
    // those that have waited longest gave way, and a stream did not
    let mut byte = [0];
    slow[0]
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    assert_eq!(slow[0].read(&mut byte).unwrap(), 0);
    drop(slow);
    engine.docker("network create seen").ok();
    events.expect("network create");
    events.kill();
    engine.docker("network rm seen").ok();
}

#[test]
fn the_group_may_use_the_socket() {
    use std::os::unix::fs::MetadataExt as _;
    let mut options = options();
    options.flags = vec!["--group".to_owned(), "daemon".to_owned()];
    let engine = testkit::engine::Engine::start(options).unwrap();
    let found = fs::metadata(engine.socket()).unwrap();
    assert_eq!((found.gid(), found.mode() & 0o777), (1, 0o660));
}

#[test]
fn the_units_are_what_systemd_takes() {
    let folder = tempfile::tempdir().unwrap();
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd");
    let mut paths = Vec::new();
    for name in ["gorae.service", "gorae.socket"] {
        let text = fs::read_to_string(format!("{units}/{name}")).unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text.replace("/usr/local/bin/gorae", GORAE)).unwrap();
        paths.push(path);
    }
    let service = fs::read_to_string(&paths[0]).unwrap();
    for line in [
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ] {
        assert!(service.lines().any(|found| found == line), "{line}");
    }
    let verified = std::process::Command::new("systemd-analyze")
        .arg("verify")
        .args(&paths)
        .output();
    match verified {
        Ok(seen) => assert!(
            seen.status.success() && seen.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&seen.stderr)
        ),
        Err(error) => eprintln!("SKIPPED: systemd-analyze cannot be run: {error}"),
    }
}
