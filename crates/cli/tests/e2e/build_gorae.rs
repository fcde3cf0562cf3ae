//! `gorae build` and Docker's own clients build on this engine.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::docker::{Client, Outcome};
use testkit::engine::Engine;

use crate::bench::{context, engine, found_below, holds};

fn build(engine: &Engine, client: Client, flags: &str, context: &Path) -> Outcome {
    let line = format!("build --progress plain {flags} {}", context.display());
    engine.run(client, &line)
}

#[test]
fn an_image_is_built_and_runs() {
    let engine = engine();
    for client in Client::BOTH {
        let name = format!("first-{client:?}").to_lowercase();
        let dockerfile = "FROM busybox AS made\nARG WHO=nobody\nRUN echo hello $WHO >/hello\n\
                          FROM busybox\nCOPY --from=made /hello /hello\nCOPY own /own/\nENV A=b\nCMD cat /hello /own/own\n";
        let folder = context(
            &engine,
            &name,
            &[("Dockerfile", dockerfile), ("own", "own\n")],
        );
        let told = build(
            &engine,
            client,
            &format!("--build-arg WHO={name} -t {name}:1"),
            &folder,
        );
        told.ok();
        assert!(
            told.stderr
                .contains("[internal] load build definition from Dockerfile"),
            "{told:?}"
        );
        assert!(told.stderr.contains("RUN echo hello"), "{told:?}");
        engine
            .run(client, &format!("run --rm {name}:1"))
            .prints(&format!("hello {name}\nown"));
        let format = "{{.Config.Env}} {{len .RootFS.Layers}}";
        assert!(
            engine.inspect(&format!("{name}:1"), format).contains("A=b"),
            "{name}"
        );
        // nothing has changed
        let again = build(
            &engine,
            client,
            &format!("--build-arg WHO={name} -t {name}:2"),
            &folder,
        );
        again.ok();
        assert!(again.stderr.contains("CACHED"), "{again:?}");
        assert!(!again.stderr.contains("hello nobody"), "{again:?}");
        let id = |tag: &str| engine.inspect(&format!("{name}:{tag}"), "{{.Id}}");
        assert_eq!(id("1"), id("2"));
        // a file that a step reads has
        fs::write(folder.join("own"), "other\n").unwrap();
        build(&engine, client, &format!("-t {name}:3"), &folder).ok();
        engine
            .run(client, &format!("run --rm {name}:3 cat /own/own"))
            .prints("other");
    }
}

#[test]
fn a_step_that_fails_is_shown_with_its_place() {
    let engine = engine();
    for client in Client::BOTH {
        let name = format!("fails-{client:?}").to_lowercase();
        let dockerfile =
            "FROM busybox\nENV A=b\nRUN echo before; echo on error >&2; exit 7\nRUN true\n";
        let folder = context(&engine, &name, &[("Dockerfile", dockerfile)]);
        let told = build(&engine, client, &format!("-t {name}"), &folder);
        assert_ne!(told.code, 0, "{told:?}");
        let parts = [
            "Dockerfile:3",
            ">>> RUN echo before; echo on error >&2; exit 7",
            "failed to solve: process \"/bin/sh -c echo before; echo on error >&2; exit 7\" did not complete successfully: exit code: 7",
            "on error",
        ];
        for part in parts {
            assert!(told.stderr.contains(part), "{part}: {told:?}");
        }
        engine.run(client, &format!("inspect {name}")).fails(1);
    }
}

#[test]
fn mistakes_in_a_dockerfile_are_named() {
    let engine = engine();
    let cases = [
        (
            "FROM busybox\nRUNN true\n",
            "unknown instruction: RUNN (did you mean RUN?)",
        ),
        ("FROM busybox\nCOPY nothing /\n", "nothing"),
        (
            "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\n",
            "circular dependency",
        ),
        ("RUN true\n", "no build stage in current context"),
        ("FROM busybox\nRUN --mount=type=nothing true\n", "nothing"),
    ];
    for (number, (dockerfile, part)) in cases.iter().enumerate() {
        let folder = context(
            &engine,
            &format!("wrong-{number}"),
            &[("Dockerfile", dockerfile)],
        );
        let told = build(&engine, Client::Gorae, "", &folder);
        assert_ne!(told.code, 0, "{told:?}");
        assert!(told.stderr.contains(part), "{part}: {told:?}");
    }
    let none = engine.home().join("none");
    fs::create_dir_all(&none).unwrap();
    let told = build(&engine, Client::Gorae, "", &none);
    assert!(
        told.stderr.contains("failed to read dockerfile"),
        "{told:?}"
    );
    let told = engine.gorae("build /nowhere");
    assert!(
        told.stderr.contains("path \"/nowhere\" not found"),
        "{told:?}"
    );
}

#[test]
fn a_secret_is_seen_by_its_step_alone() {
    const SECRET: &str = "s3cr3t-4nd-l0ng-3n0ugh";
    let engine = engine();
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=word sha256sum /run/secrets/word | cut -c 1-8 >/sum\n\
                      RUN --mount=type=secret,id=word,env=WORD test -n \"$WORD\" && ! test -e /run/secrets/word\n\
                      RUN ! test -e /run/secrets/word\n";
    let folder = context(
        &engine,
        "secret",
        &[("Dockerfile", dockerfile), ("../word", SECRET)],
    );
    let word = engine.home().join("word");
    let flags = format!("--secret id=word,src={} -t secret", word.display());
    let told = build(&engine, Client::Gorae, &flags, &folder);
    told.ok();
    assert!(!told.stderr.contains(SECRET), "{told:?}");
    engine.gorae("run --rm secret cat /sum").ok();
    let saved = engine.home().join("secret.tar");
    engine
        .gorae(&format!("save -o {} secret", saved.display()))
        .ok();
    // nowhere: no layer, no configuration, no record, no log
    assert!(!holds(&saved, SECRET));
    fs::remove_file(&word).unwrap();
    assert_eq!(
        found_below(&engine.root_folder(), SECRET),
        Vec::<PathBuf>::new()
    );
    assert!(!engine.log().contains(SECRET));
}

#[test]
fn results_go_where_the_client_wants_them() {
    let engine = engine();
    let dockerfile = "FROM busybox AS made\nRUN mkdir /out && echo 1 >/out/one && ln -s one /out/two && chmod 750 /out/one\n\
                      FROM scratch\nCOPY --from=made /out /\n";
    let folder = context(&engine, "outputs", &[("Dockerfile", dockerfile)]);
    let place = |name: &str| engine.home().join(name);
    for client in Client::BOTH {
        let name = format!("{client:?}").to_lowercase();
        let out = place(&format!("out-{name}"));
        build(&engine, client, &format!("-o {}", out.display()), &folder).ok();
        assert_eq!(fs::read_to_string(out.join("two")).unwrap(), "1\n");
        let tar = place(&format!("{name}.tar"));
        build(
            &engine,
            client,
            &format!("-o type=tar,dest={}", tar.display()),
            &folder,
        )
        .ok();
        let mut archive = tar::Archive::new(fs::File::open(&tar).unwrap());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(names.iter().any(|name| name.ends_with("one")), "{names:?}");
        // buildx asks the docker driver for no archive of an image
        if client == Client::Docker {
            continue;
        }
        let oci = place(&format!("{name}-oci.tar"));
        build(
            &engine,
            client,
            &format!("-o type=oci,dest={} -t some/name:1", oci.display()),
            &folder,
        )
        .ok();
        engine.gorae(&format!("load -i {}", oci.display())).ok();
        engine.gorae("rmi some/name:1").ok();
    }
}

#[test]
fn an_engine_that_is_killed_leaves_nothing_of_a_build() {
    let mut engine = engine();
    let dockerfile = "FROM busybox\nRUN echo done >/done\nRUN echo reached >/reached; sleep 1000\n";
    let folder = context(&engine, "killed", &[("Dockerfile", dockerfile)]);
    let line = format!("build --progress plain {}", folder.display());
    let running = engine.session(Client::Gorae, &line);
    running.expect("[3/3] RUN");
    let reached = || !found_below(&engine.root_folder(), "reached\n").is_empty();
    crate::bench::eventually("the last step runs", reached);
    engine.kill9().unwrap();
    running.kill();
    engine.restart().unwrap();
    fs::write(
        folder.join("Dockerfile"),
        "FROM busybox\nRUN echo done >/done\nRUN cat /done\n",
    )
    .unwrap();
    let told = build(&engine, Client::Gorae, "-t again", &folder);
    told.ok();
    assert!(
        told.stderr.contains("CACHED"),
        "what was finished is used again: {told:?}"
    );
}

#[test]
fn docker_without_buildkit_and_python_build() {
    let engine = engine();
    let dockerfile = "FROM busybox\nRUN echo classic >/c\nCOPY a /a\nCMD cat /c\n";
    let folder = context(
        &engine,
        "classic",
        &[
            ("Dockerfile", dockerfile),
            ("a", "1"),
            (".dockerignore", "b\n"),
            ("b", "2"),
        ],
    );
    let mut command = engine.command(
        Client::Docker,
        ["build", "-t", "classic", folder.to_str().unwrap()],
    );
    let output = command.env("DOCKER_BUILDKIT", "0").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}{complained}");
    for part in [
        "Step 1/4 : FROM busybox",
        "Step 2/4 : RUN echo classic >/c",
        "Successfully built ",
        "Successfully tagged classic:latest",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    engine.docker("run --rm classic").prints("classic");
}
