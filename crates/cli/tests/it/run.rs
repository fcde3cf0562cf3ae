//! `run`: one round trip with our own engine, Docker's requests with others, and the exit status of each end.

use crate::engine::{Answer, Engine, gorae, ok, refusal, stream};

const ID: &str = "0123456789abcdef";

fn created() -> (u8, &'static str) {
    (4, r#"{"Id":"0123456789abcdef","Warnings":["low on swap"]}"#)
}

#[test]
fn one_round_trip() {
    let engine = Engine::new(|_line| {
        stream(&[
            created(),
            (1, "out\n"),
            (2, "err\n"),
            (1, "more"),
            (4, r#"{"StatusCode":7}"#),
        ])
    });
    let seen = engine.gorae(&["run", "--rm", "--name", "web", "img", "cmd"], "");
    assert_eq!((seen.code, seen.out.as_str()), (7, "out\nmore"));
    assert_eq!(seen.errors, "WARNING: low on swap\nerr\n");
    let asked = engine.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].0, "POST /gorae/run?name=web&stdout=1&stderr=1");
    let body: serde_json::Value = serde_json::from_str(&asked[0].1).unwrap();
    assert_eq!(
        (&body["Image"], &body["HostConfig"]["AutoRemove"]),
        (&"img".into(), &true.into())
    );
}

#[test]
fn input_reaches_the_engine_to_its_end() {
    let engine = Engine::new(
        |_line| match stream(&[created(), (4, r#"{"StatusCode":0}"#)]) {
            Answer::Stream { output, .. } => Answer::Stream {
                output,
                reads_input: true,
            },
            plain @ Answer::Plain(..) => plain,
        },
    );
    let seen = engine.gorae(&["run", "-i", "img"], "some input");
    assert_eq!(seen.code, 0, "{seen:?}");
    assert_eq!(
        engine.asked()[1],
        ("input".to_owned(), "some input".to_owned())
    );
}

#[test]
fn in_the_background() {
    let engine =
        Engine::new(|_line| Answer::Plain(201, format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}")));
    let seen = engine.gorae(&["run", "-d", "img"], "");
    assert_eq!((seen.code, seen.out), (0, format!("{ID}\n")));
    assert_eq!(engine.lines(), ["POST /gorae/run?detach=1"]);
}

#[test]
fn failures_have_their_status_and_a_hint() {
    let check = |status: u16, message: &'static str, code: i32, hint: &str| {
        let engine = Engine::new(move |_line| refusal(status, message));
        let seen = engine.gorae(&["run", "img"], "");
        assert_eq!(seen.code, code, "{message}");
        let expect = format!(
            "gorae: Error response from daemon: {message}\n\nRun 'gorae run --help' for more information\n"
        );
        assert!(seen.errors.starts_with(&expect), "{}", seen.errors);
        assert!(seen.errors.contains(hint), "{}", seen.errors);
        assert_eq!(engine.lines().len(), 1);
    };
    let busy = "Conflict. The container name \"/web\" is already in use by container \"aa\". You have to remove (or rename) that container to be able to reuse that name.";
    check(409, busy, 125, "Hint: Remove it with 'gorae rm -f web'");
    check(
        500,
        "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated",
        125,
        "Hint: See which container",
    );
    check(
        400,
        "exec: \"nosuch\": executable file not found in $PATH",
        127,
        "",
    );
    check(
        400,
        "exec: \"/etc\": is a directory: permission denied",
        126,
        "",
    );
}

#[test]
fn a_missing_image_is_pulled() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let here = AtomicBool::new(false);
    let engine = Engine::new(move |line| {
        if line.starts_with("POST /images/create") {
            here.store(true, Ordering::Relaxed);
            return ok(
                "{\"status\":\"Pulling from library/img\",\"id\":\"latest\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"aa\"}\r\n{\"status\":\"Status: Downloaded newer image for img:latest\"}\r\n",
            );
        }
        if here.load(Ordering::Relaxed) {
            stream(&[created(), (1, "hi\n"), (4, r#"{"StatusCode":0}"#)])
        } else {
            refusal(404, "No such image: img:latest")
        }
    });
    let seen = engine.gorae(&["run", "img"], "");
    assert_eq!((seen.code, seen.out.as_str()), (0, "hi\n"));
    assert_eq!(
        seen.errors,
        "Unable to find image 'img:latest' locally\nlatest: Pulling from library/img\nStatus: Downloaded newer image for img:latest\nWARNING: low on swap\n"
    );
    assert_eq!(
        engine.lines()[1],
        "POST /images/create?fromImage=img&tag=latest"
    );
    let engine = Engine::new(|_line| refusal(404, "No such image: img:latest"));
    let seen = engine.gorae(&["run", "--pull", "never", "img"], "");
    assert_eq!((seen.code, engine.lines().len()), (125, 1), "{seen:?}");
}

#[test]
fn a_failed_pull_is_the_end() {
    let engine = Engine::new(|line| {
        if line.starts_with("POST /images/create") {
            return ok("{\"errorDetail\":{\"message\":\"disk full\"},\"error\":\"disk full\"}\r\n");
        }
        refusal(404, "No such image: img:latest")
    });
    let seen = engine.gorae(&["run", "img"], "");
    assert_eq!(seen.code, 125);
    assert!(
        seen.errors
            .contains("gorae: Error response from daemon: disk full\n"),
        "{}",
        seen.errors
    );
}

#[test]
fn an_engine_without_our_endpoint_is_driven_as_docker_does() {
    let engine = Engine::new(|line| match line.split(['?', ' ']).nth(1) {
        Some("/gorae/run") => refusal(404, "page not found"),
        Some("/containers/create") => {
            Answer::Plain(201, format!("{{\"Id\":\"{ID}\",\"Warnings\":[]}}"))
        }
        Some("/containers/0123456789abcdef/attach") => stream(&[(1, "hi\n"), (2, "err\n")]),
        Some("/containers/0123456789abcdef/wait") => ok("{\"StatusCode\":3}"),
        _ => Answer::Plain(204, String::new()),
    });
    let seen = engine.gorae(&["run", "img"], "");
    assert_eq!(
        (seen.code, seen.out.as_str(), seen.errors.as_str()),
        (3, "hi\n", "err\n")
    );
    assert_eq!(
        engine.lines(),
        [
            "POST /gorae/run?stdout=1&stderr=1",
            "POST /containers/create",
            "POST /containers/0123456789abcdef/attach?stream=1&stdout=1&stderr=1",
            "POST /containers/0123456789abcdef/wait?condition=next-exit",
            "POST /containers/0123456789abcdef/start",
        ]
    );
}

#[test]
fn a_broken_connection_is_told() {
    let engine = Engine::new(|_line| stream(&[created(), (1, "half")]));
    let seen = engine.gorae(&["run", "img"], "");
    assert_eq!((seen.code, seen.out.as_str()), (125, "half"));
    assert!(
        seen.errors
            .contains("closed the connection before the container ended"),
        "{}",
        seen.errors
    );
}

#[test]
fn no_engine() {
    let seen = gorae("unix:///nonexistent/gorae.sock", &["run", "img"], "");
    assert_eq!(seen.code, 125);
    assert!(seen.errors.contains(
        "Cannot connect to the engine at unix:///nonexistent/gorae.sock: no such socket"
    ));
    assert!(seen.errors.contains("gorae daemon"), "{}", seen.errors);
}
