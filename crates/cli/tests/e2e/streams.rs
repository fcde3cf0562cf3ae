//! Standard streams: attach, interactive input, half-close, terminals.

use testkit::docker::Client;

use crate::bench::{engine, eventually};

#[test]
fn input_goes_in_and_its_end_too() {
    let engine = engine();
    for client in Client::BOTH {
        let mut session = engine.session(
            client,
            "run --rm -i busybox sh -c 'cat; echo after the end'",
        );
        session.write("one\n").unwrap();
        session.expect("one");
        session.write("two\n").unwrap();
        let outcome = session.finish();
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (0, "one\ntwo\nafter the end\n"),
            "{outcome:?}"
        );

        let mut session = engine.session(client, "run --rm -i busybox sha256sum");
        session
            .write(&"0123456789abcdef".repeat(64 * 1024))
            .unwrap();
        let outcome = session.finish();
        outcome.shows("aca1cd027e979588d14b877b7b0cb8585ad9fec599eb45801992ee5382b3760f");
    }
}

#[test]
fn without_i_there_is_no_input() {
    let engine = engine();
    for client in Client::BOTH {
        let mut session = engine.session(client, "run --rm busybox sh -c 'cat; echo none'");
        session.write("lost").ok();
        assert_eq!(session.finish().stdout, "none\n");
    }
}

#[test]
fn attach_shows_output_and_takes_input() {
    let engine = engine();
    for client in Client::BOTH {
        engine.run(client, "run -d -i --name box busybox sh -c 'while read line; do echo got $line; test $line = quit && exit 6; done'").ok();
        let mut session = engine.session(client, "attach box");
        session.write("a\n").unwrap();
        session.expect("got a");
        let watcher = engine.session(client, "attach --no-stdin box");
        eventually("both are attached", || {
            session.write("b\n").unwrap();
            watcher.output().contains("got b")
        });
        session.write("quit\n").unwrap();
        let outcome = session.finish();
        assert_eq!(outcome.code, 6, "{outcome:?}");
        assert_eq!(watcher.finish().code, 6);
        engine
            .run(client, "attach box")
            .complains(1, "cannot attach to a stopped container, start it first");
        engine.run(client, "rm box").ok();

        engine
            .run(
                client,
                "create --name box busybox sh -c 'echo out; echo err >&2; exit 2'",
            )
            .ok();
        let outcome = engine.run(client, "start -a box");
        assert_eq!(
            (
                outcome.code,
                outcome.stdout.as_str(),
                outcome.stderr.as_str()
            ),
            (2, "out\n", "err\n")
        );
        engine.run(client, "rm box").ok();
    }
}

#[test]
fn signals_go_to_the_container() {
    let engine = engine();
    for client in Client::BOTH {
        let session = engine.session(client, "run --rm busybox sh -c \"trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done\"");
        session.expect("ready");
        let pid = i32::try_from(session.pid()).unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        session.expect("caught");
        assert_eq!(session.finish().code, 5);
    }
}

#[test]
fn a_terminal_is_one_inside_too() {
    let engine = engine();
    for client in Client::BOTH {
        let mut session = engine.terminal(client, "run --rm -it --name box busybox sh");
        session
            .write("tty; stty size; echo $TERM; echo $((6*7))\n")
            .unwrap();
        session.expect("/dev/pts/0");
        session.expect("24 80");
        session.expect("xterm");
        session.expect("42");
        eventually(&format!("the new size arrives with {client:?}"), || {
            // Docker's command line begins to listen for changes a moment after the container has
            // begun to talk, and loses one that comes before: change it until it is seen
            session.resize(32, 99).unwrap();
            session.resize(33, 99).unwrap();
            session.write("stty size\n").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
            session.output().contains("33 99")
        });
        session.write("exit 8\n").unwrap();
        let outcome = session.finish();
        assert_eq!(outcome.code, 8, "{outcome:?}");
        engine.run(client, "run --rm -t busybox sh -c 'test -t 0 && test -t 1 && test -t 2 && test -c /dev/console && echo terminal'").shows("terminal");
        engine
            .run(client, "run --rm -it busybox true")
            .complains(1, "the input device is not a TTY");
    }
}

#[test]
fn detach_keys_leave_it_running() {
    let engine = engine();
    for client in Client::BOTH {
        let mut session = engine.terminal(client, "run -it --name box busybox sh");
        session.write("echo $((6*7))\n").unwrap();
        session.expect("42");
        session.write("\u{10}\u{11}").unwrap();
        let outcome = session.finish();
        assert_eq!(outcome.code, 0, "{outcome:?}");
        assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
        let mut session = engine.terminal(client, "attach --detach-keys ctrl-x,x box");
        session.write("echo $((7*8))\n").unwrap();
        session.expect("56");
        session.write("\u{18}x").unwrap();
        // Docker reports the detach of attach as an error
        let code = session.finish().code;
        assert!(code <= 1, "{code}");
        assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
        engine.run(client, "rm -f box").ok();
    }
}

#[test]
fn exec_has_streams_and_terminals_of_its_own() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    for client in Client::BOTH {
        let mut session = engine.session(client, "exec -i box sh -c 'cat; echo end'");
        session.write("in\n").unwrap();
        session.expect("in");
        assert_eq!(session.finish().stdout, "in\nend\n");
        let mut session = engine.terminal(client, "exec -it box sh");
        session.write("stty size; tty; echo $((6*7))\n").unwrap();
        session.expect("42");
        session.expect("24 80");
        session.expect("/dev/pts/");
        session.resize(44, 111).unwrap();
        eventually(&format!("the new size arrives with {client:?}"), || {
            session.write("stty size\n").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
            session.output().contains("44 111")
        });
        session.write("exit 3\n").unwrap();
        assert_eq!(session.finish().code, 3);
        engine
            .run(client, "exec -it box true")
            .complains(1, "the input device is not a TTY");
    }
}
