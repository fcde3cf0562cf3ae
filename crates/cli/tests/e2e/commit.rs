//! Images of containers: `commit`.

use std::fs;

use testkit::docker::Client;

use crate::bench::{Checks, engine};

#[test]
fn a_container_becomes_an_image() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(client, "run --name box -e OWN=1 -v vol:/vol busybox sh -c 'echo new > /new; rm /etc/group; rm -r /home; mkdir /home; echo 1 > /home/one; chmod 700 /var; touch /vol/not; ln /new /linked'")
            .ok();
        let id = engine.run(client, "commit -a 'Me <me@x>' -m 'a remark' box made:1");
        let id = id.ok().to_owned();
        assert!(id.starts_with("sha256:"), "{id}");
        let check =
            "cat /new; ls /etc /home; stat -c '%a %h' /new; stat -c %a /var; ls /vol; echo $OWN";
        engine
            .run(client, &format!("run --rm made:1 sh -c \"{check} 2>&1\""))
            .prints(
                "new\n/etc:\nhostname\nhosts\npasswd\nresolv.conf\n\n/home:\none\n644 2\n700\n1",
            );
        let format = "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Env}} {{len .RootFS.Layers}}";
        let told = engine.inspect("made:1", format);
        assert!(
            told.starts_with(&format!("{id} Me <me@x> a remark [OWN=1")),
            "{told}"
        );
        assert!(told.ends_with(" 2"), "{told}");
        let history = engine.run(
            client,
            "history --no-trunc --format '{{.CreatedBy}}|{{.Comment}}' made:1",
        );
        let first = history.ok().lines().next().unwrap().to_owned();
        assert!(
            first.starts_with("sh -c echo new > /new;") && first.ends_with("|a remark"),
            "{first}"
        );
        // the images share what lies below
        engine
            .run(client, "run --name next made:1 touch /again")
            .ok();
        engine.run(client, "commit next made:2").ok();
        engine
            .run(client, "run --rm made:2 ls /again /new")
            .prints("/again\n/new");
        engine.run(client, "rm box next").ok();
        engine.run(client, "rmi made:2 made:1").ok();
        engine.run(client, "volume rm vol").ok();
    }
}

#[test]
fn changes_and_configuration() {
    let engine = engine();
    engine
        .docker("run -d --name box -e A=1 -l own=yes busybox sleep 1000")
        .ok();
    for client in Client::BOTH {
        let words = [
            "commit",
            "-c",
            "CMD [\"echo\",\"hi\"]",
            "-c",
            "ENV A=b C=\"d e\"",
            "--change",
            "EXPOSE 80 81/udp",
            "-c",
            "LABEL x=y",
            "-c",
            "WORKDIR /tmp",
            "box",
            "changed",
        ];
        let output = engine.command(client, words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = engine.inspect("changed", "{{json .Config.Cmd}} {{.Config.Env}} {{json .Config.ExposedPorts}} {{.Config.Labels}} {{.Config.WorkingDir}}");
        assert_eq!(
            told,
            r#"["echo","hi"] [A=b C=d e] {"80/tcp":{},"81/udp":{}} map[own:yes x:y] /tmp"#
        );
        engine.run(client, "run --rm changed").prints("hi");
        engine.run(client, "rmi changed").ok();
        // without a name
        let id = engine.run(client, "commit box").ok().to_owned();
        engine.run(client, &format!("rmi {id}")).ok();
    }
    let body = r#"{"Cmd":["zz"],"Env":["Q=1"],"Labels":{"l":"m"}}"#;
    let answer = engine
        .api(
            "POST",
            "/commit?container=box&repo=body&comment=c&author=a&pause=0",
            body,
        )
        .unwrap();
    assert_eq!(answer.status, 201);
    let told = engine.inspect("body", "{{.Config.Cmd}} {{.Config.Env}} {{.Config.Labels}}");
    assert_eq!(told, "[zz] [Q=1 A=1] map[l:m own:yes]");
    engine.docker("rmi body").ok();
}

#[test]
fn wrong_commits_are_refused() {
    let engine = engine();
    engine.docker("run --name box busybox true").ok();
    let mut checks = Checks::default();
    for (query, status, text) in [
        ("container=nosuch", 404, "No such container: nosuch"),
        ("", 400, "invalid name or ID supplied: \\\"\\\""),
        (
            "container=box&changes=RUN+x",
            400,
            "RUN is not a valid change command",
        ),
        (
            "container=box&changes=ENV",
            400,
            "ENV requires at least one argument",
        ),
        ("container=box&repo=UPPER", 400, "must be lowercase"),
        ("container=box&repo=a&tag=b:c", 400, "invalid"),
    ] {
        let answer = engine.api("POST", &format!("/commit?{query}"), "").unwrap();
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let is_so = answer.status == status && body.contains(text);
        checks.note(is_so, || format!("{query}: {} {body}", answer.status));
    }
    for client in Client::BOTH {
        checks.complains(
            &engine.run(client, "commit nosuch x"),
            1,
            "No such container: nosuch",
        );
        checks.complains(
            &engine.run(client, "commit box UPPER"),
            1,
            "must be lowercase",
        );
    }
    engine.docker("run --name marked busybox touch /.wh.x").ok();
    engine
        .docker("commit marked x")
        .complains(1, "names that begin with .wh. mean removed files");
    crate::bench::eventually("nothing is left of it", || {
        let left = fs::read_dir(engine.root_folder().join("tmp"));
        left.unwrap().count() == 0
    });
}

#[test]
fn a_running_container_is_paused_meanwhile() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    engine.docker("commit -m remark box one").ok();
    engine.docker("commit --pause=false box two").ok();
    assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
    engine.docker("pause box").ok();
    engine.docker("commit box three").ok();
    assert_eq!(engine.inspect("box", "{{.State.Status}}"), "paused");
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let events = engine.docker(&format!(
        "events --since 1 --until {} --format '{{{{.Type}}}} {{{{.Action}}}} {{{{.Actor.Attributes.imageRef}}}}'",
        now + 2
    ));
    let events: Vec<&str> = events.ok().lines().collect();
    let from = events
        .iter()
        .position(|line| line.starts_with("container pause"))
        .unwrap();
    let told: Vec<&str> = events[from..]
        .iter()
        .map(|line| line.trim_end_matches(" <no value>"))
        .collect();
    assert_eq!(
        told[..5],
        [
            "container pause",
            "image create",
            "image tag",
            "container commit one:latest",
            "container unpause"
        ]
    );
    engine.docker("rmi one two three").ok();
}
