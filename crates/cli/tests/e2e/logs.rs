//! `logs`, its flags, and following.

use testkit::docker::Client;

use crate::bench::{engine, eventually};

#[test]
fn tail_since_until_and_timestamps() {
    let engine = engine();
    let script = "for i in 1 2 3 4 5; do echo line $i; done; sleep 1.1; echo late; echo error >&2";
    engine
        .docker(&format!("run --name box busybox sh -c '{script}'"))
        .ok();
    for client in Client::BOTH {
        let all = engine.run(client, "logs box");
        assert_eq!(all.stdout, "line 1\nline 2\nline 3\nline 4\nline 5\nlate\n");
        assert_eq!(all.stderr, "error\n");
        engine.run(client, "logs --tail 2 box").prints("late");
        engine.run(client, "logs -n 3 box").prints("line 5\nlate");
        assert_eq!(engine.run(client, "logs --tail 0 box").stdout, "");
        let stamped = engine.run(client, "logs -t --tail 2 box");
        let (stamp, rest) = stamped.ok().split_once(' ').unwrap();
        assert_eq!(
            (stamp.len(), rest),
            ("2026-01-01T00:00:00.000000000Z".len(), "late"),
            "{stamped:?}"
        );
        let since = format!("logs --since {stamp} box");
        engine.run(client, &since).prints("late");
        let until = engine.run(client, &format!("logs --until {stamp} box"));
        assert!(until.ok().starts_with("line 1\n"), "{until:?}");
        engine.run(client, "logs --since 1h box").shows("line 1");
        engine
            .run(client, "logs nosuch")
            .complains(1, "No such container: nosuch");
    }
}

#[test]
fn following_shows_lines_as_they_come_and_ends_with_the_container() {
    let engine = engine();
    for client in Client::BOTH {
        engine.run(client, "run -d --name box busybox sh -c 'echo first; read x < /dev/null; while [ ! -e /go ]; do sleep 0.02; done; echo second; sleep 0.2'").ok();
        let follower = engine.session(client, "logs -f box");
        follower.expect("first");
        engine.run(client, "exec box touch /go").ok();
        follower.expect("second");
        let outcome = follower.finish();
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (0, "first\nsecond\n")
        );
        engine.run(client, "logs -f box").prints("first\nsecond");
        engine.run(client, "rm box").ok();
    }
}

#[test]
fn no_line_of_a_fast_writer_is_lost() {
    let engine = engine();
    engine.docker("run -d --name box busybox seq 1 100000").ok();
    let all = engine.session(Client::Docker, "logs -f box").finish();
    let expect: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(
        all.stdout == expect,
        "{} of {} bytes",
        all.stdout.len(),
        expect.len()
    );
    let attached = engine.docker("run --rm busybox seq 1 100000");
    assert!(
        attached.stdout == expect,
        "{} of {} bytes",
        attached.stdout.len(),
        expect.len()
    );
}

#[test]
fn odd_lines_come_through_whole() {
    let engine = engine();
    let long = "x".repeat(50_000);
    engine.docker("run --name box busybox sh -c 'head -c 50000 /dev/zero | tr \"\\0\" x; echo; printf \"no end\"; printf \"\\001\\377\\n\" >&2'").ok();
    for client in Client::BOTH {
        let all = engine.run(client, "logs box");
        assert_eq!(all.stdout, format!("{long}\nno end"));
        engine.run(client, "logs --tail 1 box").ok();
    }
}

#[test]
fn log_options_rotate_and_switch_off() {
    let engine = engine();
    engine
        .docker("run --name box --log-opt max-size=10k --log-opt max-file=2 busybox seq 1 5000")
        .ok();
    let kept = engine.docker("logs box").ok().to_owned();
    assert!(
        kept.ends_with("5000") && kept.len() < 20_000,
        "{} bytes",
        kept.len()
    );
    engine
        .docker("run --name two --log-driver none busybox echo hello")
        .prints("hello");
    engine
        .docker("logs two")
        .complains(1, "configured logging driver does not support reading");
    eventually("nothing of it on the disk", || {
        !engine
            .root_folder()
            .join("containers")
            .join(engine.inspect("two", "{{.Id}}"))
            .join("json.log")
            .exists()
    });
}
