//! `gorae update -p`: other published ports of a container that runs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use testkit::engine::Engine;
use testkit::namespace::Namespace;
use testkit::serve::{Server, ask_tcp, ask_tcp_once};

use crate::bench::engine;

fn shown(engine: &Engine) -> Vec<String> {
    let ports = engine.docker("port web");
    let mut lines: Vec<String> = ports.ok().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn is_reached(who: &Namespace, address: &str) -> bool {
    who.within(|| ask_tcp(address)).unwrap().is_some()
}

fn is_shut(who: &Namespace, address: &str) -> bool {
    who.within(|| ask_tcp_once(address)).unwrap().is_none()
}

/// A connection that goes on for as long as somebody answers on it.
fn connect(who: &Namespace, address: &str) -> TcpStream {
    let stream = who.within(|| TcpStream::connect(address)).unwrap().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

fn talk(mut stream: &TcpStream) {
    stream.write_all(b"still there?").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still there?");
}

/// Serves so many connections: sockets keep the container's network alive.
fn echo(listener: TcpListener, connections: usize) {
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections).map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let mut writer = stream;
                // the end of the test ends it, however that shows
                drop(std::io::copy(&mut reader, &mut writer));
            });
        }
    });
}

#[test]
fn what_stays_is_not_touched() {
    let mut engine = engine();
    engine
        .docker("run -d --name web -p 8080:80 -p 127.0.0.1:9000:90 -p 53 busybox sleep 1000")
        .ok();
    let inside = engine.inside("web");
    echo(
        inside
            .within(|| TcpListener::bind("0.0.0.0:80"))
            .unwrap()
            .unwrap(),
        2,
    );
    let _other = Server::tcp(&inside, "0.0.0.0:90", "other").unwrap();
    let _third = Server::tcp(&inside, "0.0.0.0:91", "third").unwrap();
    let world = engine.network().host(1).unwrap();
    let chosen: Vec<String> = shown(&engine)
        .into_iter()
        .filter(|line| line.starts_with("53/tcp"))
        .collect();
    let far = connect(&world, "10.9.1.1:8080");
    let relayed = connect(engine.network(), "[::1]:8080");
    talk(&far);
    talk(&relayed);

    engine
        .gorae("update -p 127.0.0.1:9001:91 -p 9002:90 --publish-rm 90 web")
        .ok();
    engine.gorae("update -p 9002:90 web").ok();
    talk(&far);
    talk(&relayed);
    let mut expect = vec![
        "80/tcp -> 0.0.0.0:8080".to_owned(),
        "80/tcp -> [::]:8080".to_owned(),
        "90/tcp -> 0.0.0.0:9002".to_owned(),
        "90/tcp -> [::]:9002".to_owned(),
        "91/tcp -> 127.0.0.1:9001".to_owned(),
    ];
    expect.extend(chosen);
    expect.sort_unstable();
    assert_eq!(shown(&engine), expect);
    assert!(is_reached(engine.network(), "127.0.0.1:9001"));
    assert!(is_reached(&world, "10.9.1.1:9002"));
    assert!(is_shut(engine.network(), "127.0.0.1:9000"));

    // one that cannot be had: all stays as it was, and the message says who has it
    let taken = engine
        .network()
        .within(|| TcpListener::bind("0.0.0.0:9100"))
        .unwrap();
    let refused = engine.gorae("update -p 9003:91 -p 9100:90 --publish-rm 91 web");
    refused.complains(1, "address already in use");
    drop(taken);
    assert_eq!(shown(&engine), expect);
    assert!(is_reached(engine.network(), "127.0.0.1:9001"));
    talk(&far);
    talk(&relayed);

    // the next engine and the next start know of it
    engine.kill9().unwrap();
    engine.restart().unwrap();
    assert_eq!(shown(&engine), expect);
    talk(&far);
    drop((far, relayed));
    engine.docker("restart -t 0 web").ok();
    let lines = shown(&engine);
    for line in expect.iter().filter(|line| !line.starts_with("53/tcp")) {
        assert!(lines.contains(line), "{line} of {lines:?}");
    }
}

#[test]
fn a_container_that_does_not_run_gets_them_at_its_start() {
    let engine = engine();
    engine
        .docker("create --name web -p 8080:80 busybox sleep 1000")
        .ok();
    engine.gorae("update -p 8081:81 --publish-rm 80 web").ok();
    engine.docker("start web").ok();
    assert_eq!(
        shown(&engine),
        ["81/tcp -> 0.0.0.0:8081", "81/tcp -> [::]:8081"]
    );
    engine
        .docker("run -d --name on-host --network host busybox sleep 1000")
        .ok();
    let refused = engine.gorae("update -p 8080:80 on-host");
    refused.complains(1, "on the host's network");
}
