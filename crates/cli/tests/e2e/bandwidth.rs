//! Bandwidth limits: set, shown, changed, kept, and met.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use testkit::engine::Engine;
use testkit::namespace::Namespace;

use crate::bench::{Checks, engine, eventually};

/// The megabits a second that get from one namespace to another by one connection.
fn rate(from: &Namespace, to: &Namespace, address: &str) -> f64 {
    const WARM: Duration = Duration::from_millis(300);
    const TIME: Duration = Duration::from_millis(2000);
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let listener = to
        .within(|| TcpListener::bind(("0.0.0.0", port)))
        .unwrap()
        .unwrap();
    let mut stream = from
        .within(|| TcpStream::connect(address))
        .unwrap()
        .unwrap();
    let (mut sink, _) = listener.accept().unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let data = vec![0; 64 << 10];
            // ends when the other side has closed
            while stream.write_all(&data).is_ok() {}
        });
        let mut buffer = vec![0; 64 << 10];
        let begun = Instant::now();
        let mut count = 0_u32;
        let mut counted_from = None;
        while begun.elapsed() < WARM + TIME {
            let read = sink.read(&mut buffer).unwrap();
            if begun.elapsed() < WARM {
                continue;
            }
            match counted_from {
                None => counted_from = Some(Instant::now()),
                Some(_) => count += u32::try_from(read).unwrap(),
            }
        }
        let time = counted_from.unwrap().elapsed().as_secs_f64();
        drop(sink);
        f64::from(count) * 8.0 / 1e6 / time
    })
}

/// Looks until the rate is that of the limit: a short look on a busy machine is less exact.
#[track_caller]
fn about(measure: impl Fn() -> f64, limit: f64) {
    let mut measured = Vec::new();
    for _ in 0..10 {
        let rate = measure();
        if (limit * 0.85..limit * 1.1).contains(&rate) {
            return;
        }
        measured.push(rate);
    }
    panic!("{measured:?} mbit/s with a limit of {limit}");
}

fn limits(engine: &Engine, name: &str) -> String {
    let answer = engine
        .api("GET", &format!("/containers/{name}/json"), "")
        .unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    let number = |key: &str| {
        let (_, rest) = text.split_once(&format!("\"{key}\":")).unwrap_or_default();
        rest.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    };
    format!(
        "{} {}",
        number("NetworkIngressRate"),
        number("NetworkEgressRate")
    )
}

#[test]
fn limits_are_met_in_both_directions() {
    let engine = engine();
    let world = engine.network().host(1).unwrap();
    engine
        .docker("network create --subnet 10.81.0.0/24 app")
        .ok();
    engine.gorae("run -d --name box --network app --ip 10.81.0.9 -p 5000:5000 --net-ingress 20mbit --net-egress 8mbit busybox sleep 1000").ok();
    let inside = engine.inside("box");
    assert_eq!(limits(&engine, "box"), "20000000 8000000");
    about(|| rate(engine.network(), &inside, "10.81.0.9:5000"), 20.0);
    // through a published port as well
    about(|| rate(&world, &inside, "10.9.1.1:5000"), 20.0);
    about(|| rate(&inside, &world, "10.9.1.2:5001"), 8.0);
    // changed while it runs
    engine
        .gorae("update --net-ingress 5mbit --net-egress 40mbit box")
        .ok();
    assert_eq!(limits(&engine, "box"), "5000000 40000000");
    about(|| rate(&world, &inside, "10.9.1.1:5000"), 5.0);
    about(|| rate(&inside, &world, "10.9.1.2:5001"), 40.0);
}

#[test]
fn limits_stay_through_crashes_restarts_and_new_networks() {
    let mut engine = engine();
    engine.docker("network create app").ok();
    engine.docker("network create more").ok();
    engine
        .gorae("run -d --name box --network app --net-ingress 20mbit --net-egress 8mbit busybox sleep 1000")
        .ok();
    let shaped = |engine: &Engine| {
        let text = engine.network().run("tc qdisc show").unwrap();
        text.lines().filter(|line| line.contains(" tbf ")).count()
    };
    assert_eq!(shaped(&engine), 2);
    engine.docker("network connect more box").ok();
    assert_eq!(shaped(&engine), 4);
    engine.kill9().unwrap();
    engine.restart().unwrap();
    assert_eq!(shaped(&engine), 4);
    assert_eq!(limits(&engine, "box"), "20000000 8000000");
    engine.docker("network disconnect more box").ok();
    eventually("the limits of a link are gone with it", || {
        shaped(&engine) == 2
    });
    engine.docker("restart -t 0 box").ok();
    eventually("the new link is limited, and the old one gone", || {
        shaped(&engine) == 2
    });
    let stats = engine
        .api(
            "GET",
            "/containers/box/stats?stream=false&one-shot=true",
            "",
        )
        .unwrap();
    let stats = String::from_utf8(stats.body).unwrap();
    for part in ["\"rx_limit\":20000000", "\"tx_limit\":8000000"] {
        assert!(stats.contains(part), "{part}: {stats}");
    }
    engine.docker("stop -t 0 box").ok();
    eventually("nothing shapes for a container that is stopped", || {
        shaped(&engine) == 0
    });
    // changed while it is stopped
    engine.gorae("update --net-egress 3mbit box").ok();
    engine.docker("start box").ok();
    assert_eq!(limits(&engine, "box"), "20000000 3000000");
    engine.network().run("tc qdisc show").unwrap();
    engine.docker("rm -f box").ok();
    assert_eq!(engine.traces(), [""; 0]);
    eventually("nothing that shapes is left", || {
        let ifbs = engine.network().run("ip -o link show type ifb");
        ifbs.unwrap().is_empty()
    });
}

#[test]
fn labels_do_the_same_and_bad_rates_are_refused() {
    let engine = engine();
    engine
        .docker("run -d --name box --label io.gorae.net.ingress=20mbit --label io.gorae.net.egress=1gbit busybox sleep 1000")
        .ok();
    assert_eq!(limits(&engine, "box"), "20000000 1000000000");
    engine.docker("run -d --name plain busybox sleep 1000").ok();
    assert_eq!(limits(&engine, "plain").trim(), "");
    let mut checks = Checks::default();
    for rate in ["x", "-1mbit", "20parsec", "99999999gbit"] {
        let words = format!("run --rm --net-ingress={rate} busybox true");
        let outcome = engine.gorae(&words);
        checks.note(outcome.code == 125, || format!("{outcome:?}"));
        let words = format!("run --rm --label io.gorae.net.egress={rate} busybox true");
        let outcome = engine.docker(&words);
        checks.note(outcome.code == 125, || format!("{outcome:?}"));
    }
    // a limit that cannot be kept is not passed over in silence
    let outcome = engine.gorae("run --rm --network host --net-ingress 1mbit busybox true");
    checks.note(outcome.stderr.contains("host"), || format!("{outcome:?}"));
    drop(checks);
    assert_eq!(engine.docker("ps -aq").ok().lines().count(), 2);
}
