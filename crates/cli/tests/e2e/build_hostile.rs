//! Builds of what was written to do harm: Dockerfiles, contexts, steps and images that reach for what is not theirs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use testkit::docker::{Client, Outcome};
use testkit::engine::Engine;
use testkit::image::{Archive, TestImage};

use crate::bench::{engine, eventually, found_below, holds, options};

/// What a build may take where everything else runs at the same time.
const LIMIT: Duration = Duration::from_secs(240);

/// A context with nothing but this.
fn context(engine: &Engine, name: &str, dockerfile: &str) -> PathBuf {
    crate::bench::context(engine, name, &[("Dockerfile", dockerfile)])
}

fn build(engine: &Engine, client: Client, flags: &str, context: &Path) -> Outcome {
    let line = format!("build --progress plain {flags} {}", context.display());
    engine.session(client, &line).finish_within(LIMIT)
}

#[track_caller]
fn refused(told: &Outcome, part: &str) {
    assert_ne!(told.code, 0, "{told:?}");
    assert!(told.stderr.contains(part), "{part}: {told:?}");
}

/// The engine does what it is there for.
#[track_caller]
fn is_well(engine: &Engine) {
    let folder = context(engine, "well", "FROM busybox\nRUN echo well >/well\n");
    build(engine, Client::Gorae, "--no-cache -t well", &folder).ok();
    engine.docker("run --rm well cat /well").prints("well");
    assert_eq!(engine.traces(), Vec::<String>::new());
}

/// A file outside of everything that a build has, and what is said of it.
struct Outside {
    folder: PathBuf,
}

impl Outside {
    const WORD: &str = "not-for-builds";

    fn new(engine: &Engine) -> Self {
        let folder = engine.home().join("outside");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), Self::WORD).unwrap();
        Self { folder }
    }

    #[track_caller]
    fn is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.folder).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let content = fs::read_to_string(self.folder.join("file")).unwrap();
        assert_eq!(content, Self::WORD);
    }
}

#[test]
fn dockerfiles_without_an_end_or_with_lines_of_ten_megabytes() {
    let engine = engine();
    let folder = context(&engine, "endless", "");
    // as long as a file can be, and none of it on the disk
    let file = fs::File::create(folder.join("Dockerfile")).unwrap();
    file.set_len(1 << 40).unwrap();
    for client in Client::BOTH {
        refused(&build(&engine, client, "", &folder), "Dockerfile");
    }
    let long = format!("FROM busybox\nENV A={}\n", "x".repeat(10 << 20));
    let folder = context(&engine, "long", &long);
    for client in Client::BOTH {
        refused(
            &build(&engine, client, "", &folder),
            "line greater than max allowed size",
        );
    }
    // a mistake far down is shown all the same
    let far = format!(
        "FROM busybox\n{}RUNN here\n",
        "ENV A=xxxxxxxxxxxxxxxxxxxxxxxx\n".repeat(2000)
    );
    let folder = context(&engine, "far", &far);
    for client in Client::BOTH {
        let told = build(&engine, client, "", &folder);
        refused(&told, "unknown instruction: RUNN");
        refused(&told, "2002 | >>> RUNN here");
    }
    // one line, of which each piece is short
    let pieces = format!("FROM busybox\nRUN true{}\n", " \\\n x".repeat(2 << 20));
    let folder = context(&engine, "pieces", &pieces);
    let told = build(&engine, Client::Gorae, "", &folder);
    assert_ne!(told.code, 0, "no program takes that many arguments");
    is_well(&engine);
}

/// The most memory that the engine has had, MiB.
fn peak(engine: &Engine) -> u64 {
    let status = format!("/proc/{}/status", engine.pid().unwrap());
    let status = fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}

#[test]
fn dockerfiles_of_very_many_small_things() {
    let engine = engine();
    for (name, begin, piece, count, told) in [
        (
            "instructions",
            "",
            "ENV A=\n",
            2_000_000,
            "more than 50000 instructions",
        ),
        (
            "unknown",
            "",
            "a\n",
            4_000_000,
            "more than 50000 instructions",
        ),
        (
            "words",
            "EXPOSE 1",
            " \\\n1",
            3_000_000,
            "longer than 1048576 bytes",
        ),
    ] {
        let text = format!("FROM busybox\n{begin}{}", piece.repeat(count));
        let folder = context(&engine, name, &text);
        for client in Client::BOTH {
            refused(&build(&engine, client, "", &folder), told);
        }
        let folder = folder.display();
        let mut classic = engine.command(Client::Docker, ["build", &folder.to_string()]);
        let classic = classic.env("DOCKER_BUILDKIT", "0").output().unwrap();
        let said = String::from_utf8_lossy(&classic.stderr).into_owned();
        assert!(!classic.status.success() && said.contains(told), "{said}");
    }
    // a file of 16 MiB and what is read of it, not a multiple for each of its instructions
    let peak = peak(&engine);
    assert!(peak < 400, "{peak} MiB");
    is_well(&engine);
}

/// An answer that goes on until nobody wants it any more, and how much was sent.
fn endless_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else {
                return;
            };
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _request = connection.read(&mut head);
                let kind =
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n";
                if connection.write_all(kind.as_bytes()).is_err() {
                    return;
                }
                let line = "RUN true\n".repeat(1000);
                // far more than any Dockerfile may have
                for _ in 0..100_000 {
                    if connection.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_dockerfile_from_the_web_that_goes_on() {
    let engine = engine();
    let port = endless_server();
    let line = format!("build --progress plain http://127.0.0.1:{port}/Dockerfile");
    for client in Client::BOTH {
        let told = engine.session(client, &line).finish_within(LIMIT);
        assert_ne!(told.code, 0, "{told:?}");
    }
    is_well(&engine);
}

/// An image as `docker load` takes it.
fn archive_of(image: &TestImage, tag: &str) -> Vec<u8> {
    let built = image.build().unwrap();
    let list = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]);
    let archive = Archive::new();
    let archive = archive
        .file("config.json", &built.config.bytes, 0o644)
        .unwrap();
    let archive = archive
        .file("layer.tar", &built.layers[0].bytes, 0o644)
        .unwrap();
    let archive = archive.file("manifest.json", list.to_string().as_bytes(), 0o644);
    archive.unwrap().finish().unwrap()
}

#[test]
fn triggers_that_trigger_themselves() {
    let engine = engine();
    // dockerd refuses the same, and takes the same
    let cases = [
        (
            vec!["ONBUILD RUN true", "MAINTAINER me"],
            "FROM bad\n",
            None,
        ),
        (vec!["FROM busybox"], "FROM bad\n", Some("")),
        (
            vec!["COPY --from=b /x /x"],
            "FROM bad AS a\nFROM bad AS b\nCOPY --from=a /x /x\n",
            Some("it needs to be defined before current stage \"a\""),
        ),
        (
            vec!["NONSENSE"],
            "FROM bad\n",
            Some("unknown instruction: NONSENSE"),
        ),
        (
            vec!["RUN true\nRUN true"],
            "FROM bad\n",
            Some("single expression"),
        ),
    ];
    for (number, (triggers, dockerfile, part)) in cases.into_iter().enumerate() {
        let image = TestImage::busybox().unwrap();
        let image = image.with_config("OnBuild", json!(triggers));
        let archive = engine.home().join("bad.tar");
        fs::write(&archive, archive_of(&image, "bad:latest")).unwrap();
        engine.gorae(&format!("load -i {}", archive.display())).ok();
        let folder = context(&engine, &format!("trigger-{number}"), dockerfile);
        for client in Client::BOTH {
            let told = build(&engine, client, "", &folder);
            match part {
                None => drop(told.ok()),
                Some(part) => refused(&told, part),
            }
        }
    }
    is_well(&engine);
}

#[test]
fn contexts_with_all_that_a_file_system_can_hold() {
    let engine = engine();
    let dockerfile = "FROM busybox\nCOPY . /all\nRUN find /all -type p >/pipes; find /all -type s >/sockets; \
                      find /all -name 'odd*' | wc -l >/odd; cat /all/private\n";
    let folder = context(&engine, "strange", dockerfile);
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    fs::write(folder.join("odd\n\u{1b}[31m"), "2").unwrap();
    fs::write(folder.join("private"), "mine\n").unwrap();
    fs::set_permissions(folder.join("private"), fs::Permissions::from_mode(0o000)).unwrap();
    symlink("/proc/self/mem", folder.join("link")).unwrap();
    symlink("circle", folder.join("circle")).unwrap();
    let mut deep = folder.clone();
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "3").unwrap();
    for client in Client::BOTH {
        let name = format!("strange-{client:?}").to_lowercase();
        let told = build(&engine, client, &format!("-t {name}"), &folder);
        told.ok();
        let below = format!("/all/{}bottom", "d/".repeat(300));
        for (command, expect) in [
            (format!("cat {below}"), "3"),
            ("readlink /all/circle".to_owned(), "circle"),
            ("cat /sockets".to_owned(), ""),
        ] {
            engine
                .docker(&format!("run --rm {name} {command}"))
                .prints(expect);
        }
    }
    // dockerd cannot take a name that is no UTF-8, either
    let name = std::ffi::OsStr::from_bytes(b"odd\xff\xfe");
    fs::write(folder.join(name), "1").unwrap();
    for client in Client::BOTH {
        refused(&build(&engine, client, "", &folder), "UTF-8");
    }
    is_well(&engine);
}

#[test]
fn a_step_that_two_clients_wait_for_goes_on_without_the_first() {
    let engine = engine();
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c echo run >>/c/runs; while ! test -e /c/go; do sleep 0.1; done; \
                      cp /c/runs /runs\n";
    let folder = context(&engine, "both", dockerfile);
    let line = format!("build --progress plain -t both {}", folder.display());
    let first = engine.session(Client::Docker, &line);
    let runs = |count: usize| found_below(&engine.root_folder(), "run\n").len() == count;
    eventually("the step runs", || runs(1));
    let second = engine.session(Client::Gorae, &line);
    second.expect("echo run");
    first.kill();
    // time to notice that a client has gone
    std::thread::sleep(Duration::from_millis(500));
    let go = context(
        &engine,
        "go",
        "FROM busybox\nRUN --mount=type=cache,target=/c touch /c/go\n",
    );
    build(&engine, Client::Gorae, "", &go).ok();
    second.finish_within(LIMIT).ok();
    engine.docker("run --rm both cat /runs").prints("run");
    assert_eq!(engine.traces(), Vec::<String>::new());
}

#[test]
fn a_step_that_forks_without_end_is_ended_with_its_client() {
    let engine = engine();
    // the machine of the test is no place to try it without a limit
    let parent = format!("{}/few", engine.cgroup());
    let places = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
    let place = places
        .iter()
        .map(Path::new)
        .find(|place| place.join(engine.cgroup()).is_dir());
    let Some(place) = place.map(|place| place.join(&parent)) else {
        println!("skipped: no cgroup of the engine with pids");
        return;
    };
    fs::create_dir_all(&place).unwrap();
    if fs::write(place.join("pids.max"), "200").is_err() {
        println!("skipped: {} has no pids.max", place.display());
        fs::remove_dir(place).unwrap();
        return;
    }
    // the inner shell ends where it cannot fork any more, and what it has begun goes on
    let dockerfile = "FROM busybox\nRUN echo begun; sh -c 'while :; do sleep 1000 & done' 2>/dev/null; exec sleep 1000\n";
    let folder = context(&engine, "bomb", dockerfile);
    let line = format!(
        "build --progress plain --cgroup-parent /{parent} {}",
        folder.display()
    );
    for client in Client::BOTH {
        let running = engine.session(client, &line);
        let count = || {
            let text = fs::read_to_string(place.join("pids.current")).unwrap_or_default();
            text.trim().parse::<u32>().unwrap_or(0)
        };
        eventually("there are many", || count() > 150);
        running.kill();
        eventually("all have ended", || count() == 0);
    }
    eventually("the cgroup is free", || fs::remove_dir(&place).is_ok());
    for controller in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _not_there = fs::remove_dir(controller.path().join(&parent));
    }
    is_well(&engine);
}

#[test]
fn a_step_that_fills_the_disk() {
    let mut options = options();
    options.disk = Some(96 * 1024);
    let engine = Engine::start(options).unwrap();
    let dockerfile = "FROM busybox\nRUN dd if=/dev/zero of=/fill bs=1M count=10000\n";
    let folder = context(&engine, "fill", dockerfile);
    for client in Client::BOTH {
        refused(
            &build(&engine, client, "", &folder),
            "No space left on device",
        );
    }
    // what it wrote is gone with it
    let small = context(
        &engine,
        "small",
        "FROM busybox\nRUN dd if=/dev/zero of=/fill bs=1M count=20\n",
    );
    eventually("there is room again", || {
        build(&engine, Client::Gorae, "-t small", &small).code == 0
    });
    engine.docker("run --rm small ls /fill").prints("/fill");
    assert_eq!(engine.traces(), Vec::<String>::new());
}

#[test]
fn a_secret_is_found_nowhere() {
    const SECRET: &str = "an-0ther-s3cr3t-0f-builds";
    let engine = engine();
    let word = engine.home().join("word");
    fs::write(&word, SECRET).unwrap();
    let dockerfile = "FROM busybox\nARG N\nRUN --mount=type=secret,id=word,env=WORD test \"$WORD\" = \"$(cat)\" </dev/null || echo $N ${#WORD} >/length\n\
                      RUN --mount=type=secret,id=word,target=/etc/word,mode=0400 wc -c </etc/word >/size\n\
                      FROM busybox\nCOPY --from=0 /length /size /\n";
    let failing = "FROM busybox\nRUN --mount=type=secret,id=word,env=WORD test -z \"$WORD\"\n";
    let fails = context(&engine, "fails", failing);
    for client in Client::BOTH {
        let name = format!("hidden-{client:?}").to_lowercase();
        let folder = context(&engine, &name, dockerfile);
        let secret = format!("--secret id=word,src={}", word.display());
        let flags = format!("{secret} --build-arg N={name} -t {name}");
        let told = build(&engine, client, &flags, &folder);
        told.ok();
        engine
            .docker(&format!("run --rm {name} cat /size"))
            .prints("25");
        let failed = build(&engine, client, &secret, &fails);
        assert_ne!(failed.code, 0, "{failed:?}");
        for told in [told, failed] {
            assert!(
                !told.stderr.contains(SECRET) && !told.stdout.contains(SECRET),
                "{told:?}"
            );
        }
    }
    let out = engine.home().join("out.tar");
    let line = format!(
        "--secret id=word,src={} --provenance=mode=max --sbom=true -o type=oci,compression=uncompressed,force-compression=true,dest={}",
        word.display(),
        out.display()
    );
    let folder = engine.home().join("hidden-gorae");
    build(&engine, Client::Gorae, &line, &folder).ok();
    assert!(holds(&out, "slsa.dev/provenance"));
    assert!(!holds(&out, SECRET));
    for records in [
        "buildx history ls",
        "buildx history inspect",
        "buildx du --verbose",
        "events --since 1h --until 0s",
    ] {
        let told = engine.docker(records);
        assert!(!told.stdout.contains(SECRET), "{told:?}");
    }
    fs::remove_file(&word).unwrap();
    for folder in [engine.root_folder(), engine.run_folder(), engine.home()] {
        assert_eq!(found_below(&folder, SECRET), Vec::<PathBuf>::new());
    }
}

#[test]
fn passwords_of_addresses_are_in_no_provenance() {
    const SECRET: &str = "pa55w0rd-0f-an-address";
    let engine = engine();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            let mut head = [0; 4096];
            let _request = connection.read(&mut head);
            let _sent = connection.write_all(
                b"HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
            );
        }
    });
    // GHSA-gc89-7gcr-jxqc
    let dockerfile = format!("FROM busybox\nADD http://me:{SECRET}@127.0.0.1:{port}/file /file\n");
    let folder = context(&engine, "address", &dockerfile);
    let out = engine.home().join("out.tar");
    let flags = format!(
        "--provenance=mode=min -o type=oci,compression=uncompressed,force-compression=true,dest={}",
        out.display()
    );
    build(&engine, Client::Gorae, &flags, &folder).ok();
    assert!(holds(&out, &format!("127.0.0.1:{port}/file")));
    let bytes = fs::read(&out).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for line in text
        .split(['\n', '\0'])
        .filter(|line| line.contains(SECRET))
    {
        // the image's history has the instruction as it was written, as with BuildKit
        assert!(line.contains("created_by"), "{line}");
        assert!(!line.contains("slsa.dev"), "{line}");
    }
}

#[test]
fn copies_stay_in_their_trees() {
    let engine = engine();
    let outside = Outside::new(&engine);
    let place = outside.folder.display();
    let up = "../".repeat(16);
    let dockerfile = format!(
        "FROM busybox AS links\nRUN ln -s {place} /absolute && ln -s {up}{place} /relative && mkdir /in && ln -s {place} /in/deep \
           && ln -s {place}/file /in/leaf\n\
         FROM links\nCOPY own /absolute/own\nCOPY own /relative/own2\nCOPY own /in/deep/own3\nCOPY own /in/leaf\nADD archive.tar /absolute/\n\
         COPY --link own /absolute/linked\nWORKDIR /absolute/work\nCOPY own .\n\
         COPY --from=links /in/ /copied/\nRUN ! cat /copied/deep/file 2>/dev/null | grep {word}\n",
        word = Outside::WORD
    );
    let folder = context(&engine, "copies", &dockerfile);
    fs::write(folder.join("own"), "own").unwrap();
    let archive = Archive::new();
    let archive = archive.symlink("escape", &format!("{up}{place}")).unwrap();
    let archive = archive.file("escape/unpacked", b"x", 0o644).unwrap();
    fs::write(folder.join("archive.tar"), archive.finish().unwrap()).unwrap();
    for client in Client::BOTH {
        // the archive may be refused, all else has to be built
        let told = build(&engine, client, "-t copies", &folder);
        outside.is_untouched();
        if told.code != 0 {
            assert!(told.stderr.contains("archive.tar"), "{told:?}");
        }
    }
    let without: String = dockerfile
        .lines()
        .filter(|line| !line.starts_with("ADD"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(folder.join("Dockerfile"), without).unwrap();
    for client in Client::BOTH {
        build(&engine, client, "--no-cache -t copies", &folder).ok();
        outside.is_untouched();
        engine
            .docker(&format!(
                "run --rm copies cat {place}/own {place}/own2 {place}/own3 {place}/file"
            ))
            .prints("ownownownown");
    }
    for source in [
        "/absolute/file".to_owned(),
        "/relative/file".to_owned(),
        format!("{up}{place}/file"),
    ] {
        let dockerfile = format!(
            "FROM busybox AS links\nRUN ln -s {place} /absolute && ln -s {up}{place} /relative\nFROM scratch\nCOPY --from=links {source} /\n"
        );
        let folder = context(&engine, "sources", &dockerfile);
        refused(&build(&engine, Client::Gorae, "", &folder), "not found");
    }
    // links of a client's folder lead nowhere outside of it, either
    let folder = context(&engine, "sources", "FROM scratch\nCOPY link/file /\n");
    symlink(&outside.folder, folder.join("link")).unwrap();
    for client in Client::BOTH {
        let told = build(&engine, client, "", &folder);
        refused(&told, "not found");
    }
}

#[test]
fn mounts_stay_in_their_trees() {
    let engine = engine();
    let outside = Outside::new(&engine);
    let place = outside.folder.display();
    let up = "../".repeat(16);
    let word = Outside::WORD;
    let cases = [
        // CVE-2024-9407, CVE-2024-9675: a source or target that is a link, or goes up
        format!(
            "FROM busybox AS l\nRUN ln -s {place} /link\nFROM busybox\nRUN --mount=from=l,source=/link,target=/m cat /m/file"
        ),
        format!("FROM busybox\nRUN --mount=source={up}{place},target=/m cat /m/file"),
        format!("FROM busybox\nRUN --mount=type=cache,id={up}{place},target=/m cat /m/file"),
        format!("FROM busybox\nRUN --mount=type=cache,source={up}{place},target=/m cat /m/file"),
        "FROM busybox\nRUN --mount=source=link,target=/m cat /m/file".to_owned(),
        // CVE-2024-23651: a folder of a cache becomes a link
        format!(
            "FROM busybox\nRUN --mount=type=cache,id=a,target=/c ln -s {place} /c/sub; ln -s {up}{place} /c/sub2\n\
                 RUN --mount=type=cache,id=a,source=sub,target=/m cat /m/file"
        ),
        "FROM busybox\nRUN --mount=type=cache,id=a,source=sub2,target=/m cat /m/file".to_owned(),
    ];
    for (number, case) in cases.iter().enumerate() {
        let folder = context(&engine, &format!("mount-{number}"), &format!("{case}\n"));
        drop(fs::remove_file(folder.join("link")));
        symlink(&outside.folder, folder.join("link")).unwrap();
        for client in Client::BOTH {
            let told = build(&engine, client, "--no-cache", &folder);
            assert_ne!(told.code, 0, "{case}: {told:?}");
            assert!(!told.stderr.contains(word), "{case}: {told:?}");
        }
    }
    // targets are places of the root, wherever links of it point to
    let dockerfile = format!(
        "FROM busybox\nRUN ln -s {place} /link && ln -s {up}{place} /link2\n\
         RUN --mount=type=tmpfs,target=/link/new --mount=type=cache,target=/link2/cache --mount=type=bind,target=/link/bound touch /link/made\n"
    );
    let folder = context(&engine, "targets", &dockerfile);
    for client in Client::BOTH {
        let told = build(&engine, client, "--no-cache", &folder);
        outside.is_untouched();
        drop(told);
    }
    is_well(&engine);
}

#[test]
fn what_a_mount_leaves_is_removed_nowhere_else() {
    let engine = engine();
    let outside = Outside::new(&engine);
    let place = outside.folder.display();
    fs::create_dir(engine.home().join("other")).unwrap();
    fs::write(engine.home().join("other/stub"), "").unwrap();
    fs::create_dir(engine.home().join("other/empty")).unwrap();
    let other = engine.home().join("other").display().to_string();
    // CVE-2024-23652: the folder above a mount is exchanged for a link, and what was made for the mount is removed
    let dockerfile = format!(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/w/empty --mount=target=/w/stub,source=Dockerfile \
           mv /w /moved && ln -s {other} /w\n\
         RUN --mount=type=secret,id=s,target=/v/file mv /v /moved2 && ln -s {place} /v\n\
         RUN ls -d /w /v\n"
    );
    let folder = context(&engine, "stubs", &dockerfile);
    let secret = engine.home().join("secret");
    fs::write(&secret, "1").unwrap();
    for client in Client::BOTH {
        let flags = format!("--no-cache --secret id=s,src={}", secret.display());
        let told = build(&engine, client, &flags, &folder);
        assert!(told.stderr.contains("RUN --mount=type=tmpfs"), "{told:?}");
        outside.is_untouched();
        assert!(Path::new(&other).join("stub").is_file(), "{told:?}");
        assert!(Path::new(&other).join("empty").is_dir(), "{told:?}");
    }
    assert_eq!(engine.traces(), Vec::<String>::new());
}

#[test]
fn a_folder_of_a_cache_that_changes_while_it_is_mounted() {
    let engine = engine();
    let outside = Outside::new(&engine);
    let place = outside.folder.display();
    // CVE-2024-23651: one step exchanges the folder for a link again and again while others mount it
    let swap = format!(
        "FROM busybox\nARG N\nRUN --mount=type=cache,id=race,target=/c i=0; while test $i -lt 3000 && ! test -e /c/over; do \
           rm -rf /c/sub; ln -s {place} /c/sub; rm /c/sub; mkdir /c/sub; i=$((i+1)); done\n"
    );
    let swap = context(&engine, "swap", &swap);
    let line = format!("build --progress plain --build-arg N=1 {}", swap.display());
    let swapping = engine.session(Client::Gorae, &line);
    let mount = "FROM busybox\nARG N\nRUN --mount=type=cache,id=race,source=sub,target=/m ls /m; cat /m/file || true\n";
    let mount = context(&engine, "mount", mount);
    for number in 0..15 {
        let told = build(
            &engine,
            Client::Gorae,
            &format!("--build-arg N={number}"),
            &mount,
        );
        assert!(!told.stderr.contains(Outside::WORD), "{told:?}");
    }
    let over = context(
        &engine,
        "over",
        "FROM busybox\nRUN --mount=type=cache,id=race,target=/c touch /c/over\n",
    );
    build(&engine, Client::Gorae, "", &over).ok();
    swapping.finish_within(LIMIT).ok();
    outside.is_untouched();
}

#[test]
fn rights_that_nobody_gave() {
    let engine = engine();
    // CVE-2024-23653
    let folder = context(
        &engine,
        "insecure",
        "FROM busybox\nRUN --security=insecure grep CapEff /proc/self/status\n",
    );
    for client in Client::BOTH {
        refused(
            &build(&engine, client, "--no-cache", &folder),
            "security.insecure is not allowed",
        );
    }
    let folder = context(&engine, "host", "FROM busybox\nRUN --network=host true\n");
    for client in Client::BOTH {
        refused(
            &build(&engine, client, "--no-cache", &folder),
            "network.host is not allowed",
        );
    }
}

#[test]
fn nothing_of_the_engine_is_in_a_step() {
    let mut options = options();
    let secret = ("GORAE_TEST_OF_STEPS".to_owned(), "of-the-engine".to_owned());
    options.environment.push(secret);
    let engine = Engine::start(options).unwrap();
    // CVE-2021-3602, CVE-2024-21626: the environment, descriptors and the folder of what started it
    let dockerfile = "FROM busybox\nRUN env; ls -l /proc/self/fd; pwd; cat /proc/self/cwd/../etc/hostname || true\n\
                      WORKDIR /proc/self/fd/8\nRUN pwd; ls ..\n";
    let folder = context(&engine, "nothing", dockerfile);
    for client in Client::BOTH {
        let told = build(&engine, client, "--no-cache", &folder);
        assert!(!told.stderr.contains("of-the-engine"), "{told:?}");
        let root = engine.root_folder().display().to_string();
        let lines: Vec<&str> = told
            .stderr
            .lines()
            .filter(|line| line.contains(&root))
            .collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn lists_of_users_that_are_no_files() {
    let engine = engine();
    // CVE-2024-9676, CVE-2026-47262: a pipe that nobody writes to, a file without an end, a device
    for make in [
        "mkfifo /etc/passwd /etc/group",
        "truncate -s 4G /etc/passwd /etc/group",
        "ln -s /dev/zero /etc/passwd; ln -s /dev/zero /etc/group",
    ] {
        for (number, after) in [
            "USER joe\nRUN id",
            "COPY --chown=joe own /own",
            "COPY --chown=0:some own /own",
        ]
        .iter()
        .enumerate()
        {
            let dockerfile =
                format!("FROM busybox\nRUN rm /etc/passwd /etc/group; {make}\n{after}\n");
            let folder = context(&engine, &format!("users-{number}"), &dockerfile);
            fs::write(folder.join("own"), "1").unwrap();
            let told = build(&engine, Client::Gorae, "", &folder);
            assert!(told.code == 0 || told.stderr.contains("ERROR"), "{told:?}");
        }
    }
    is_well(&engine);
}

#[test]
fn repositories_whose_folders_are_links() {
    let engine = engine();
    let outside = Outside::new(&engine);
    let served = engine.home().join("served");
    let repository = served.join("repo");
    fs::create_dir_all(&repository).unwrap();
    fs::write(outside.folder.join("file"), Outside::WORD).unwrap();
    symlink(&outside.folder, repository.join("sub")).unwrap();
    symlink(outside.folder.join("file"), repository.join("Dockerfile")).unwrap();
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.com",
            "-c",
            "init.defaultBranch=main",
        ]);
        command
            .args(arguments)
            .current_dir(&repository)
            .stdout(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !git(&["init", "--quiet"]) {
        println!("skipped: git is not installed");
        return;
    }
    assert!(
        git(&["add", "."])
            && git(&["commit", "--quiet", "-m", "one"])
            && git(&["update-server-info"])
    );
    let port = files_server(repository.join(".git"));
    for fragment in ["#main:sub", "#main", "#main:../../outside", "#main:/../sub"] {
        let line = format!("build --progress plain http://127.0.0.1:{port}/repo.git{fragment}");
        for client in Client::BOTH {
            let told = engine.session(client, &line).finish_within(LIMIT);
            assert_ne!(told.code, 0, "{told:?}");
            assert!(!told.stderr.contains(Outside::WORD), "{told:?}");
        }
    }
    outside.is_untouched();
}

/// Serves the files of a repository, as any web server would, at `/repo.git/`.
fn files_server(folder: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            let mut head = vec![0; 8192];
            let count = connection.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            let path = head.split_whitespace().nth(1).unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default();
            let content = path
                .strip_prefix("/repo.git/")
                .map(|path| fs::read(folder.join(path)));
            let answer = match content {
                Some(Ok(content)) => {
                    let mut answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        content.len()
                    )
                    .into_bytes();
                    answer.extend(content);
                    answer
                }
                _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    .to_vec(),
            };
            let _sent = connection.write_all(&answer);
        }
    });
    port
}

#[test]
fn an_engine_that_is_killed_at_any_moment_of_a_build() {
    let mut engine = engine();
    let dockerfile = "FROM busybox AS a\nRUN echo a >/a\nRUN --mount=type=cache,target=/c echo x >>/c/x; sleep 0.3; echo b >/b\n\
                      FROM busybox AS b\nCOPY own /own\nRUN --mount=type=tmpfs,target=/t sleep 0.2; echo c >/c\n\
                      FROM busybox\nCOPY --from=a /a /b /\nCOPY --from=b /c /own /\nRUN cat /a /b /c /own >/all\n";
    let folder = context(&engine, "moments", dockerfile);
    fs::write(folder.join("own"), "own\n").unwrap();
    for (number, client) in [Client::Gorae, Client::Docker]
        .into_iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let line = format!("build --progress plain -t moments {}", folder.display());
        let running = engine.session(client, &line);
        let moment = u64::try_from(number).unwrap() * 150;
        std::thread::sleep(Duration::from_millis(moment));
        engine.kill9().unwrap();
        running.kill();
        engine.restart().unwrap();
        assert_eq!(engine.traces(), Vec::<String>::new());
        let half = fs::read_dir(engine.root_folder().join("builder/new"))
            .into_iter()
            .flatten();
        assert_eq!(half.count(), 0);
    }
    build(&engine, Client::Gorae, "-t moments", &folder).ok();
    engine
        .docker("run --rm moments cat /all")
        .prints("a\nb\nc\nown");
    let again = build(&engine, Client::Docker, "-t moments", &folder);
    again.ok();
    assert!(again.stderr.contains("CACHED"), "{again:?}");
}
