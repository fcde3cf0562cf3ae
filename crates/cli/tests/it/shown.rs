//! What commands show: lists, several objects at once, failures in between, and words that make no sense.

use crate::engine::{Answer, Engine, gorae, ok, refusal};

#[test]
fn a_list_in_every_form() {
    let check = |words: &[&str], expect: &str| {
        let engine = Engine::new(|_line| {
            ok(
                r#"[{"Id":"0123456789abcdef","Names":["/web"],"Image":"img","Command":"sleep 1","State":"running","Status":"Up 1 second","Created":1,"Ports":[{"PrivatePort":80,"Type":"tcp"}],"Labels":{"a":"b"}}]"#,
            )
        });
        let seen = engine.gorae(words, "");
        assert_eq!(
            (seen.code, seen.out.as_str(), seen.errors.as_str()),
            (0, expect, ""),
            "{words:?}"
        );
    };
    check(&["ps", "-q"], "0123456789ab\n");
    check(&["ps", "-q", "--no-trunc"], "0123456789abcdef\n");
    check(
        &["ps", "--format", "{{.Names}} {{.Label \"a\"}} {{.Ports}}"],
        "web b 80/tcp\n",
    );
    check(
        &["container", "ls", "--format", "table {{.ID}}\\t{{.Status}}"],
        "CONTAINER ID   STATUS\n0123456789ab   Up 1 second\n",
    );
}

#[test]
fn filters_and_flags_reach_the_engine() {
    let engine = Engine::new(|_line| ok("[]"));
    engine.gorae(
        &[
            "ps",
            "-a",
            "-n",
            "3",
            "--filter",
            "label=x",
            "-f",
            "status=exited",
        ],
        "",
    );
    assert_eq!(
        engine.lines(),
        [
            "GET /containers/json?all=1&limit=3&filters=%7B%22label%22%3A%7B%22x%22%3Atrue%7D%2C%22status%22%3A%7B%22exited%22%3Atrue%7D%7D"
        ]
    );
}

#[test]
fn several_objects_go_on_after_a_failure() {
    let engine = Engine::new(|line| {
        if line.contains("/b?") || line.ends_with("/b") {
            refusal(404, "No such container: b")
        } else {
            Answer::Plain(204, String::new())
        }
    });
    let seen = engine.gorae(&["rm", "a", "b", "c"], "");
    assert_eq!((seen.code, seen.out.as_str()), (1, "a\nc\n"));
    assert!(
        seen.errors
            .starts_with("Error response from daemon: No such container: b\n"),
        "{}",
        seen.errors
    );
}

#[test]
fn inspect_tries_every_kind() {
    let engine = Engine::new(|line| {
        if line == "GET /networks/x" {
            ok(r#"{"Name":"x","Labels":null}"#)
        } else {
            refusal(404, "no such thing")
        }
    });
    let seen = engine.gorae(&["inspect", "x", "y"], "");
    assert_eq!(seen.code, 1);
    assert_eq!(
        seen.out,
        "[\n    {\n        \"Name\": \"x\",\n        \"Labels\": null\n    }\n]\n"
    );
    assert_eq!(seen.errors, "Error: No such object: y\n");
    let seen = engine.gorae(&["inspect", "-f", "{{.Name}} {{.Labels}}", "x"], "");
    assert_eq!(seen.out, "x map[]\n");
}

#[test]
fn words_that_make_no_sense() {
    let check = |words: &[&str], code: i32, expect: &str| {
        let seen = gorae("unix:///nonexistent", words, "");
        assert_eq!(seen.code, code, "{words:?}: {seen:?}");
        assert!(
            seen.errors.starts_with(expect),
            "{words:?}: {}",
            seen.errors
        );
    };
    check(
        &["run", "--foo", "img"],
        125,
        "unknown flag: --foo\n\nUsage:  gorae run [OPTIONS] IMAGE [COMMAND] [ARG...]\n",
    );
    check(
        &["run", "-itZ", "img"],
        125,
        "unknown shorthand flag: 'Z' in -Z\n",
    );
    check(&["run", "-e"], 125, "flag needs an argument: 'e' in -e\n");
    check(&["run", "--name"], 125, "flag needs an argument: --name\n");
    check(
        &["run", "--rm=x", "img"],
        125,
        "invalid argument \"x\" for \"--rm\" flag: strconv.ParseBool",
    );
    check(
        &["run"],
        1,
        "gorae: 'gorae run' requires at least 1 argument\n",
    );
    check(&["ps", "x"], 1, "gorae: 'gorae ps' accepts no arguments\n");
    check(
        &["rnu"],
        1,
        "gorae: unknown command: gorae rnu\n\nDid you mean this?\n\trun\n",
    );
    check(
        &["volume", "lss"],
        1,
        "gorae: unknown command: gorae volume lss\n\nDid you mean this?\n\tls\n",
    );
    check(&["run", "-it", "img"], 1, "the input device is not a TTY");
    check(&["--host"], 125, "flag needs an argument: --host");
}

#[test]
fn help_needs_no_engine() {
    for words in [
        &["--help"][..],
        &[],
        &["help", "run"],
        &["run", "--help"],
        &["container"],
        &["image", "rm", "--help"],
    ] {
        let seen = gorae("unix:///nonexistent", words, "");
        assert_eq!(seen.code, 0, "{words:?}: {seen:?}");
        assert!(
            seen.out.starts_with("Usage:  gorae"),
            "{words:?}: {}",
            seen.out
        );
    }
}

#[test]
fn prune_of_each_kind() {
    let check = |words: &[&str], expect: &[&str]| {
        let engine = Engine::new(|_line| ok(r#"{"SpaceReclaimed":1500}"#));
        let seen = engine.gorae(words, "");
        assert_eq!(seen.code, 0, "{words:?}: {seen:?}");
        assert!(
            seen.out.ends_with("Total reclaimed space: 1.5kB\n") || words[0] == "system",
            "{words:?}: {}",
            seen.out
        );
        assert_eq!(engine.lines(), expect, "{words:?}");
    };
    check(&["container", "prune", "-f"], &["POST /containers/prune"]);
    check(&["volume", "prune", "-f"], &["POST /volumes/prune"]);
    check(
        &["volume", "prune", "-af"],
        &["POST /volumes/prune?filters=%7B%22all%22%3A%7B%22true%22%3Atrue%7D%7D"],
    );
    check(
        &["image", "prune", "-f"],
        &["POST /images/prune?filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%7D"],
    );
    check(
        &["system", "prune", "-f"],
        &[
            "POST /containers/prune",
            "POST /networks/prune",
            "POST /images/prune?filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%7D",
            "POST /build/prune",
        ],
    );
}
