//! Images that are here: list, tag, inspect, history, import, remove, prune.

use testkit::docker::Client;
use testkit::image::Archive;

use crate::bench::{engine, eventually};

#[test]
fn tag_list_and_remove() {
    let engine = engine();
    let id = engine.inspect("busybox", "{{.Id}}");
    let short = &id["sha256:".len()..][..12];
    for client in Client::BOTH {
        engine.run(client, "tag busybox other/name:v2").ok();
        engine.run(client, &format!("tag {short} third")).ok();
        let list = engine.run(client, "images --format '{{.Repository}}:{{.Tag}} {{.ID}}'");
        let mut lines: Vec<&str> = list.ok().lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                format!("busybox:latest {short}"),
                format!("other/name:v2 {short}"),
                format!("third:latest {short}")
            ]
        );
        engine
            .run(client, "images -q --no-trunc other/name")
            .prints(&id);
        engine
            .run(client, "images --filter reference=oth*/* --format {{.Tag}}")
            .prints("v2");
        engine.run(client, "images nosuch -q").prints("");
        let table = engine.run(client, "images busybox");
        let header: Vec<&str> = table
            .ok()
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(
            header,
            ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
        );
        engine
            .run(client, "rmi other/name:v2")
            .prints("Untagged: other/name:v2");
        engine
            .run(client, &format!("rmi {short}"))
            .complains(1, "image is referenced in multiple repositories");
        engine
            .run(client, "rmi third")
            .prints("Untagged: third:latest");
        engine.run(client, "create --name box busybox").ok();
        engine.run(client, "rmi busybox").complains(
            1,
            "unable to remove repository reference \"busybox\" (must force) - container",
        );
        engine.run(client, "rm box").ok();
    }
}

#[test]
fn a_removed_image_is_gone_from_the_disk() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    engine.docker("rmi busybox").complains(1, "container");
    engine
        .docker("rmi -f busybox")
        .shows("Untagged: busybox:latest");
    engine.docker("exec box true").ok();
    engine.docker("rm -f box").ok();
    engine.docker("image prune -a -f").ok();
    engine.docker("images -aq").prints("");
    eventually("no layer is left", || {
        let left = std::fs::read_dir(engine.root_folder().join("snapshots"));
        left.unwrap().count() == 0
    });
}

#[test]
fn import_inspect_and_history() {
    let engine = engine();
    let archive = Archive::new()
        .file("hello", b"hello\n", 0o644)
        .unwrap()
        .finish()
        .unwrap();
    let file = engine.home().join("root.tar");
    std::fs::write(&file, archive).unwrap();
    for client in Client::BOTH {
        let line = format!(
            "import -m 'a message' -c 'ENV A=1' -c 'CMD [\"/hello\"]' -c 'WORKDIR /w' -c 'EXPOSE 80' -c 'USER 5' -c 'LABEL l=v' -c 'ENTRYPOINT [\"/e\"]' {} made:v1",
            file.display()
        );
        let id = engine.run(client, &line).ok().to_owned();
        assert!(id.starts_with("sha256:"), "{id}");
        let check = |format: &str, expect: &str| {
            assert_eq!(engine.inspect("made:v1", format), expect, "{format}");
        };
        check("{{.Id}}", &id);
        check(
            "{{json .Config.Env}} {{json .Config.Cmd}} {{json .Config.Entrypoint}}",
            "[\"A=1\"] [\"/hello\"] [\"/e\"]",
        );
        check(
            "{{.Config.WorkingDir}} {{.Config.User}} {{index .Config.Labels \"l\"}}",
            "/w 5 v",
        );
        check("{{json .Config.ExposedPorts}}", "{\"80/tcp\":{}}");
        check(
            "{{.Comment}} {{len .RootFS.Layers}} {{json .RepoTags}}",
            "a message 1 [\"made:v1\"]",
        );
        let history = engine.run(client, "history made:v1");
        let header: Vec<&str> = history
            .ok()
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(header.join(" "), "IMAGE CREATED CREATED BY SIZE COMMENT");
        history.shows("a message");
        engine
            .run(client, "history -q --no-trunc made:v1")
            .prints(&id);
        engine
            .run(client, "run --rm --entrypoint /hello made:v1")
            .complains(126, "permission denied");
        engine
            .run(client, "rmi made:v1")
            .shows(&format!("Deleted: {id}"));
        engine
            .run(client, "import /nosuch.tar made")
            .complains(1, "nosuch.tar");
    }
}

#[test]
fn the_image_decides_what_runs() {
    let engine = engine();
    let busybox = testkit::image::TestImage::busybox()
        .unwrap()
        .layers
        .remove(0)
        .0;
    let changes = [
        "import",
        "-c",
        "ENTRYPOINT [\"echo\", \"entry\"]",
        "-c",
        "CMD [\"default\"]",
        "-c",
        "ENV FROM=image",
        "-c",
        "USER nobody",
        "-c",
        "WORKDIR /tmp",
        "-c",
        "STOPSIGNAL SIGINT",
        "-",
        "app",
    ];
    engine.import_with(&changes, &busybox).unwrap();
    for client in Client::BOTH {
        engine.run(client, "run --rm app").prints("entry default");
        engine
            .run(client, "run --rm app given")
            .prints("entry given");
        engine
            .run(
                client,
                "run --rm --entrypoint sh app -c 'echo $FROM $(id -un) $PWD'",
            )
            .prints("image nobody /tmp");
        engine.run(client, "run --rm -e FROM=flag -u root -w / --entrypoint sh app -c 'echo $FROM $(id -un) $PWD'").prints("flag root /");
        engine.run(client, "run -d --name box --entrypoint sh app -c \"trap 'exit 9' INT; echo ready; while :; do sleep 0.02; done\"").ok();
        eventually("the trap is set", || {
            engine.run(client, "logs box").stdout.contains("ready")
        });
        engine.run(client, "stop box").ok();
        assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "9");
        engine.run(client, "rm box").ok();
    }
}

#[test]
fn the_built_in_image_is_there() {
    let engine = engine();
    for client in Client::BOTH {
        engine.run(client, "run --rm gorae/hello").shows("gorae");
    }
}

#[test]
fn version_info_and_disk_usage() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(
                client,
                "version --format '{{.Server.APIVersion}} {{.Server.Os}}'",
            )
            .prints("1.51 linux");
        engine
            .run(
                client,
                "info --format '{{.Images}} {{.Containers}} {{.CgroupVersion}} {{.OSType}}'",
            )
            .shows("linux");
        engine.run(client, "system df").shows("Local Volumes");
        engine.run(client, "info").shows("Storage Driver: overlay2");
    }
}
