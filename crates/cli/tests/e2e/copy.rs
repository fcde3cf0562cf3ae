//! Files into containers and out of them: `cp`, `archive`, `export` and `diff`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use api::archive::PathStat;
use tar::EntryType;
use testkit::docker::Client;
use testkit::engine::Engine;
use testkit::http::Response;
use testkit::image::Archive;

use crate::bench::{Checks, engine};

/// An image whose folder `/data` has files, links and a set-user-id program.
fn import_data(engine: &Engine) {
    let busybox = fs::read("/bin/busybox").unwrap();
    let mut archive = Archive::new()
        .directory("bin/", 0o755)
        .and_then(|a| a.file("bin/busybox", &busybox, 0o755))
        .unwrap();
    for applet in [
        "sh", "ls", "cat", "sleep", "ln", "rm", "mv", "stat", "id", "mkdir", "touch",
    ] {
        archive = archive
            .hardlink(&format!("bin/{applet}"), "bin/busybox")
            .unwrap();
    }
    let archive = archive
        .directory("etc/", 0o755)
        .and_then(|a| {
            a.file(
                "etc/passwd",
                b"root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
                0o644,
            )
        })
        .and_then(|a| a.directory("tmp/", 0o1777))
        .and_then(|a| a.directory("data/", 0o755))
        .and_then(|a| a.file("data/file", b"hello\n", 0o644))
        .and_then(|a| a.directory("data/sub/", 0o755))
        .and_then(|a| a.file("data/sub/x", b"x\n", 0o4755))
        .and_then(|a| a.symlink("data/link", "file"))
        .and_then(|a| a.symlink("data/abslink", "/data/sub"))
        .and_then(|a| a.symlink("data/evil", "/etc/shadow"))
        .and_then(|a| a.symlink("data/dangling", "nowhere"))
        .and_then(|a| a.symlink("dlink", "/data"))
        .and_then(Archive::finish)
        .unwrap();
    engine
        .import_with(
            &["import", "-c", "CMD [\"sleep\",\"1000\"]", "-", "data"],
            &archive,
        )
        .unwrap();
}

fn path_of(container: &str, path: &str) -> String {
    format!("/v1.51/containers/{container}/archive?path={path}")
}

fn message(response: &Response) -> String {
    let text = String::from_utf8_lossy(&response.body);
    let text = text.trim().trim_start_matches("{\"message\":\"");
    text.trim_end_matches("\"}").replace("\\\"", "\"")
}

fn stat_of(response: &Response) -> Option<PathStat> {
    let value = response.header("x-docker-container-path-stat")?;
    Some(PathStat::from_header(value).unwrap())
}

/// Sends an archive as a client would.
fn put(engine: &Engine, container: &str, query: &str, body: &[u8]) -> Response {
    let mut stream = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    let kind = [("Content-Type", "application/x-tar")];
    let path = path_of(container, query);
    testkit::http::exchange(&mut stream, "gorae", "PUT", &path, &kind, body).unwrap()
}

/// The entries of an archive: type and name, with the target of a link.
fn entries(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let all = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let kind = char::from(entry.header().entry_type().as_byte());
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.link_name_bytes() {
            Some(link) => format!("{kind} {name} -> {}", String::from_utf8_lossy(&link)),
            None => format!("{kind} {name}"),
        }
    });
    all.collect()
}

const DIR: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

#[test]
fn paths_are_found_as_docker_finds_them() {
    let engine = engine();
    import_data(&engine);
    let mut checks = Checks::default();
    engine.docker("create --name box data").ok();
    for state in ["created", "running", "paused", "stopped"] {
        match state {
            "running" => engine.docker("start box").ok().to_owned(),
            "paused" => engine.docker("pause box").ok().to_owned(),
            "stopped" => engine.docker("kill box").ok().to_owned(),
            _ => String::new(),
        };
        for (path, name, mode, target) in [
            ("/", "/", DIR | 0o755, ""),
            ("/.", ".", DIR | 0o755, ""),
            ("/data", "data", DIR | 0o755, ""),
            ("/data/", "data", DIR | 0o755, ""),
            ("/data/.", ".", DIR | 0o755, ""),
            ("/data/file", "file", 0o644, ""),
            ("data/file", "file", 0o644, ""),
            ("/data/sub/x", "x", 1 << 23 | 0o755, ""),
            ("/data/link", "link", LINK | 0o777, "/data/file"),
            ("/data/abslink", "abslink", LINK | 0o777, "/data/sub"),
            ("/data/abslink/", "abslink", DIR | 0o755, ""),
            ("/data/evil", "evil", LINK | 0o777, "/etc/shadow"),
            ("/data/dangling", "dangling", LINK | 0o777, "/data/nowhere"),
            ("/dlink/file", "file", 0o644, ""),
            ("/dlink/..", "..", DIR | 0o755, ""),
            ("/data/../../etc", "etc", DIR | 0o755, ""),
            ("/tmp", "tmp", DIR | 1 << 20 | 0o777, ""),
        ] {
            for method in ["HEAD", "GET"] {
                let answer = engine.api(method, &path_of("box", path), "").unwrap();
                let stat = stat_of(&answer).unwrap_or_default();
                let found = (answer.status, &*stat.name, stat.mode, &*stat.link_target);
                let is_so = found == (200, name, mode, target);
                checks.note(is_so, || format!("{state} {method} {path}: {found:?}"));
            }
        }
        for (path, status, text) in [
            ("", 400, "bad parameter: path cannot be empty"),
            (
                "/nope",
                404,
                "Could not find the file /nope in container box",
            ),
            (
                "/data/dangling/",
                404,
                "Could not find the file /data/dangling/ in container box",
            ),
            (
                "nope/../data",
                404,
                "Could not find the file nope/../data in container box",
            ),
            ("/data/file/", 500, "lstat /data/file/: not a directory"),
            ("/data/file/.", 500, "lstat /data/file/.: not a directory"),
            ("/data/link/", 500, "lstat /data/link/: not a directory"),
            ("/data/file/x", 500, "lstat /data/file/x: not a directory"),
            ("a%00b", 400, "bad parameter: path has a NUL byte"),
        ] {
            let answer = engine.api("GET", &path_of("box", path), "").unwrap();
            let found = (answer.status, message(&answer));
            let is_so = (found.0, found.1.as_str()) == (status, text);
            checks.note(is_so, || format!("{state} {path}: {found:?}"));
            let head = engine.api("HEAD", &path_of("box", path), "").unwrap();
            checks.note(head.status == status && head.body.is_empty(), || {
                format!("{head:?}")
            });
        }
        let long = "x".repeat(5000);
        let answer = engine.api("GET", &path_of("box", &long), "").unwrap();
        checks.note(answer.status == 500, || format!("{answer:?}"));
    }
    let answer = engine.api("GET", &path_of("nosuch", "/"), "").unwrap();
    assert_eq!(
        (answer.status, &*message(&answer)),
        (404, "No such container: nosuch")
    );
}

#[test]
fn archives_have_dockers_names() {
    let engine = engine();
    import_data(&engine);
    engine.docker("run -d --name box -v vol:/vol data").ok();
    let get = |path: &str| entries(&engine.api("GET", &path_of("box", path), "").unwrap().body);
    let below = |top: &str| {
        let mut all = vec![format!("5 {top}")];
        for entry in [
            "2 @abslink -> /data/sub",
            "2 @dangling -> nowhere",
            "2 @evil -> /etc/shadow",
            "0 @file",
            "2 @link -> file",
            "5 @sub/",
            "0 @sub/x",
        ] {
            all.push(entry.replace('@', top));
        }
        all
    };
    assert_eq!(get("/data"), below("data/"));
    assert_eq!(get("/data/."), below("./"));
    assert_eq!(get("/dlink/."), below("./"));
    assert_eq!(get("/data/file"), ["0 file"]);
    assert_eq!(get("/data/link"), ["2 link -> file"]);
    assert_eq!(get("/data/abslink/"), ["5 abslink/", "0 abslink/x"]);
    let root = get("/");
    assert!(root.contains(&"5 /".to_owned()), "{root:?}");
    assert!(
        root.contains(&"1 /bin/cat -> /bin/busybox".to_owned()),
        "{root:?}"
    );
    // what the kernel mounts is no content
    for place in ["proc", "sys", "dev"] {
        assert!(root.contains(&format!("5 /{place}/")), "{root:?}");
        let inside = format!(" /{place}/");
        let inside = root.iter().filter(|entry| entry.contains(&inside));
        assert_eq!(inside.count(), 1, "{root:?}");
    }
    let export = engine.api("GET", "/containers/box/export", "").unwrap();
    assert_eq!(
        export.header("content-type"),
        Some("application/octet-stream")
    );
    let export = entries(&export.body);
    assert_eq!(export.first().map(String::as_str), Some("5 bin/"));
    assert!(
        export.contains(&"1 bin/cat -> bin/busybox".to_owned()),
        "{export:?}"
    );
    assert!(export.contains(&"5 vol/".to_owned()), "{export:?}");
}

#[test]
fn both_clients_copy_both_ways() {
    let engine = engine();
    import_data(&engine);
    let home = engine.home();
    let at = home.display();
    fs::create_dir_all(home.join("in/deep")).unwrap();
    fs::write(home.join("in/a"), "from outside").unwrap();
    fs::write(home.join("in/deep/b"), "deeper").unwrap();
    symlink("a", home.join("in/link")).unwrap();
    fs::set_permissions(home.join("in/a"), fs::Permissions::from_mode(0o750)).unwrap();
    for client in Client::BOTH {
        for running in [false, true] {
            let out = home.join("out");
            fs::create_dir(&out).unwrap();
            engine
                .run(client, "create --name box -v vol:/vol data")
                .ok();
            if running {
                engine.run(client, "start box").ok();
            }
            engine
                .run(client, &format!("cp {at}/in box:/data/new"))
                .prints("");
            engine
                .run(client, &format!("cp {at}/in/. box:/data/sub"))
                .ok();
            engine
                .run(client, &format!("cp {at}/in/a box:/data/renamed"))
                .ok();
            engine.run(client, &format!("cp {at}/in/a box:vol")).ok();
            engine
                .run(client, &format!("cp -L {at}/in/link box:/data/followed"))
                .ok();
            engine
                .run(client, &format!("cp box:/data {at}/out/copy"))
                .ok();
            engine.run(client, &format!("cp box:/vol/a {at}/out/")).ok();
            engine
                .run(client, &format!("cp -q box:/data/link {at}/out/plain"))
                .ok();
            engine
                .run(client, &format!("cp -L box:/data/link {at}/out/target"))
                .ok();
            engine
                .run(client, &format!("cp -L box:/dlink {at}/out/tree"))
                .ok();
            let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
            assert_eq!(read("copy/new/a"), "from outside");
            assert_eq!(read("copy/new/deep/b"), "deeper");
            assert_eq!(read("copy/sub/deep/b"), "deeper");
            assert_eq!(read("copy/renamed"), "from outside");
            assert_eq!(read("copy/followed"), "from outside");
            assert_eq!(read("copy/file"), "hello\n");
            assert_eq!(read("a"), "from outside");
            assert_eq!(read("target"), "hello\n");
            assert_eq!(read("tree/file"), "hello\n");
            assert_eq!(fs::read_link(out.join("plain")).unwrap(), Path::new("file"));
            let mode = fs::metadata(out.join("copy/new/a")).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o750);
            let mode = fs::metadata(out.join("copy/sub/x")).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o4755);
            engine.run(client, "rm -f -v box").ok();
            engine.run(client, "volume rm vol").ok();
            fs::remove_dir_all(&out).unwrap();
        }
    }
}

#[test]
fn streams_go_through_stdin_and_stdout() {
    let engine = engine();
    import_data(&engine);
    engine.docker("run -d --name box data").ok();
    let archive = Archive::new()
        .file("streamed", b"by stdin", 0o600)
        .and_then(Archive::finish)
        .unwrap();
    let file = engine.home().join("in.tar");
    fs::write(&file, archive).unwrap();
    for client in Client::BOTH {
        let mut command = engine.command(client, ["cp", "-", "box:/tmp"]);
        let output = command
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        engine
            .run(client, "exec box cat /tmp/streamed")
            .prints("by stdin");
        let mut command = engine.command(client, ["cp", "box:/data/sub", "-"]);
        let output = command.output().unwrap();
        assert_eq!(entries(&output.stdout), ["5 sub/", "0 sub/x"]);
        engine.run(client, "exec box rm /tmp/streamed").ok();
        let mut command = engine.command(client, ["cp", "-", "box:/data/file"]);
        let output = command
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("must be a directory"), "{text}");
    }
}

#[test]
fn wrong_copies_are_refused() {
    let engine = engine();
    import_data(&engine);
    let home = engine.home();
    let at = home.display();
    fs::create_dir(home.join("dir")).unwrap();
    fs::write(home.join("file"), "x").unwrap();
    fs::write(home.join("large"), vec![0; 20 << 20]).unwrap();
    engine.docker("run -d --name box data").ok();
    engine
        .docker(
            "run -d --name fixed --read-only --tmpfs /scratch -v vol:/vol -v vol:/volro:ro data",
        )
        .ok();
    engine
        .docker("create --name still --read-only -v vol:/vol data")
        .ok();
    for client in Client::BOTH {
        let mut checks = Checks::default();
        for (line, text) in [
            (
                "cp box:/nope .",
                "Could not find the file /nope in container box",
            ),
            ("cp nosuch:/data .", "No such container: nosuch"),
            ("cp @/nope box:/data", "no such file or directory"),
            (
                "cp box:/data fixed:/data",
                "copying between containers is not supported",
            ),
            (
                "cp @/file @/other",
                "must specify at least one container source",
            ),
            ("cp box:/data @/file", "cannot copy directory"),
            ("cp box:/data/file @/nope/", "no such directory"),
            ("cp @/dir box:/data/file", "cannot copy directory"),
            ("cp @/file box:/nope/", "no such directory"),
            ("cp @/file box:/data/file/", "no such directory"),
            (
                "cp @/file fixed:/data",
                "container rootfs is marked read-only",
            ),
            (
                "cp @/file still:/data",
                "container rootfs is marked read-only",
            ),
            (
                "cp @/file fixed:/volro",
                "mounted volume is marked read-only",
            ),
        ] {
            let line = line.replace('@', &at.to_string());
            checks.complains(&engine.run(client, &line), 1, text);
        }
        // the answer comes although nobody reads the rest of what is sent
        let large = engine.run(client, &format!("cp {at}/large fixed:/data"));
        checks.complains(&large, 1, "container rootfs is marked read-only");
        engine
            .run(client, &format!("cp {at}/file fixed:/vol/one"))
            .ok();
        engine
            .run(client, &format!("cp {at}/file still:/vol/two"))
            .ok();
        // Docker does not see it; here it is as from inside
        engine
            .run(client, &format!("cp {at}/file fixed:/scratch/three"))
            .ok();
        engine
            .run(client, "exec fixed cat /vol/one /vol/two /scratch/three")
            .prints("xxx");
    }
}

#[test]
fn archives_are_extracted_as_docker_does() {
    let engine = engine();
    import_data(&engine);
    engine.docker("create --name box -u app data").ok();
    let file = |name: &str| Archive::new().file(name, b"new", 0o644).unwrap();
    let plain = file("n").finish().unwrap();
    let directory = Archive::new()
        .directory("n/", 0o700)
        .and_then(Archive::finish)
        .unwrap();
    for running in [false, true] {
        if running {
            engine.docker("start box").ok();
        }
        let check = |query: &str, body: &[u8], status: u16, text: &str| {
            let answer = put(&engine, "box", query, body);
            let found = (answer.status, message(&answer));
            assert!(
                found.0 == status && found.1.contains(text),
                "{query}: {found:?}"
            );
        };
        check(
            "/nope",
            &plain,
            404,
            "Could not find the file /nope in container box",
        );
        check(
            "/data/file",
            &plain,
            400,
            "extraction point is not a directory",
        );
        check(
            "/data/link",
            &plain,
            400,
            "extraction point is not a directory",
        );
        check(
            "/data/dangling",
            &plain,
            404,
            "Could not find the file /data/dangling",
        );
        check(
            "/data/file/",
            &plain,
            500,
            "lstat /data/file/: not a directory",
        );
        check("/data", &[], 200, "");
        check("/data", &[7; 2000], 400, "archive/tar: invalid tar header");
        check("/data", &[7; 20], 400, "unexpected EOF");
        check("/data", &plain[..514], 400, "unexpected EOF");
        check("/data", &plain, 200, "");
        check(
            "/data&noOverwriteDirNonDir=1",
            &directory,
            400,
            "cannot overwrite non-directory \"n\" with directory \"/data\"",
        );
        check("/data", &directory, 200, "");
        check(
            "/data&noOverwriteDirNonDir=1",
            &plain,
            400,
            "cannot overwrite directory \"n\" with non-directory \"/data\"",
        );
        check("/data", &plain, 200, "");
        check("/data/abslink", &plain, 200, "");
        check("/tmp&copyUIDGID=1", &plain, 200, "");
        let hidden = file(".wh.name").finish().unwrap();
        check("/data", &hidden, 200, "");
    }
    engine
        .docker("exec -u 0 box stat -c '%n %u %g %a' /data/n /data/sub/n /tmp/n /data/.wh.name")
        .prints(
            "/data/n 0 0 644\n/data/sub/n 0 0 644\n/tmp/n 1000 1001 644\n/data/.wh.name 0 0 644",
        );
    let answer = put(&engine, "nosuch", "/", &plain);
    assert_eq!(answer.status, 404);
}

#[test]
fn packed_archives_are_taken() {
    use std::io::Write as _;
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let plain = |name: &str| {
        Archive::new()
            .file(name, name.as_bytes(), 0o644)
            .and_then(Archive::finish)
            .unwrap()
    };
    for (name, program) in [
        ("gz", "gzip"),
        ("bz2", "bzip2"),
        ("xz", "xz"),
        ("zst", "zstd"),
    ] {
        let mut child = std::process::Command::new(program)
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&plain(name)).unwrap();
        let packed = child.wait_with_output().unwrap().stdout;
        let answer = put(&engine, "box", "/tmp", &packed);
        assert_eq!(answer.status, 200, "{name}: {}", message(&answer));
        engine
            .docker(&format!("exec box cat /tmp/{name}"))
            .prints(name);
    }
}

#[test]
fn hostile_archives_stay_in_their_directory() {
    let engine = engine();
    import_data(&engine);
    engine.docker("run -d --name box data").ok();
    let outside = engine.home().join("outside");
    fs::create_dir(&outside).unwrap();
    let up = "../".repeat(12);
    let (direct, climbing) = (
        outside.display().to_string(),
        format!("{up}{}", outside.display()),
    );
    let file = |name: &str| Archive::new().file(name, b"evil", 0o644).unwrap();
    let link = |target: &str| Archive::new().symlink("l", target).unwrap();
    let cases = [
        ("a name that climbs", file("../x").finish().unwrap(), 400),
        ("an absolute name", file("/abs").finish().unwrap(), 200),
        (
            "an absolute link",
            link(&direct)
                .file("l/x", b"evil", 0o644)
                .and_then(Archive::finish)
                .unwrap(),
            400,
        ),
        (
            "a link that climbs",
            link(&climbing)
                .file("l/x", b"evil", 0o644)
                .and_then(Archive::finish)
                .unwrap(),
            400,
        ),
        (
            "a link to the container's etc",
            link("/etc")
                .file("l/x", b"evil", 0o644)
                .and_then(Archive::finish)
                .unwrap(),
            400,
        ),
        (
            "a hard link to the host",
            Archive::new()
                .hardlink("h", "/etc/shadow")
                .and_then(Archive::finish)
                .unwrap(),
            400,
        ),
        (
            "a hard link that climbs",
            Archive::new()
                .hardlink("h", "../../etc/passwd")
                .and_then(Archive::finish)
                .unwrap(),
            400,
        ),
        (
            "a mode through a link",
            link(&direct)
                .directory("l/", 0o777)
                .and_then(Archive::finish)
                .unwrap(),
            200,
        ),
        (
            "a FIFO",
            Archive::new()
                .entry(EntryType::Fifo, "fifo", None, &[], 0o644)
                .and_then(Archive::finish)
                .unwrap(),
            200,
        ),
        (
            "an unknown type",
            Archive::new()
                .entry(EntryType::new(b'Z'), "z", None, &[], 0o644)
                .and_then(Archive::finish)
                .unwrap(),
            400,
        ),
    ];
    for (what, archive, status) in cases {
        for target in ["/tmp", "/data/sub"] {
            let answer = put(&engine, "box", target, &archive);
            assert_eq!(answer.status, status, "{what}: {}", message(&answer));
        }
        let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        engine
            .docker("exec box ls /etc")
            .prints("hostname\nhosts\npasswd\nresolv.conf");
    }
}

/// A container that exchanges a folder with a link to the host's all the time never gets the engine
/// to read or write outside of it (CVE-2018-15664).
#[test]
fn a_folder_that_becomes_a_link_leads_nowhere() {
    let engine = engine();
    let outside = engine.home().join("secret");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "the host's").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).unwrap();
    let swap = format!(
        "mkdir -p /w/real{0} /w/d; echo inside > /w/d/file; mkdir -p {0}; echo inside > {0}/file; cd /w; while :; do mv d e; ln -s {0} d; rm d; mv e d; done",
        outside.display()
    );
    let command = ["run", "-d", "--name", "box", "busybox", "sh", "-c", &swap];
    let output = engine.command(Client::Docker, command).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let archive = Archive::new()
        .directory("n/", 0o777)
        .and_then(|a| a.file("n/new", b"evil", 0o666))
        .and_then(|a| a.file("file", b"evil", 0o666))
        .and_then(Archive::finish)
        .unwrap();
    let begun = Instant::now();
    let (mut read, mut written) = (0, 0);
    while begun.elapsed() < Duration::from_secs(5) {
        let answer = engine.api("GET", &path_of("box", "/w/d/."), "").unwrap();
        if answer.status == 200 {
            let mut archive = tar::Archive::new(answer.body.as_slice());
            for entry in archive.entries().unwrap() {
                let mut text = String::new();
                entry.unwrap().read_to_string(&mut text).unwrap();
                assert!(!text.contains("host"), "{text}");
                read += 1;
            }
        }
        let answer = put(&engine, "box", "/w/d", &archive);
        written += usize::from(answer.status == 200);
        let answer = put(&engine, "box", "/w", &archive);
        assert!([200, 400, 404, 500].contains(&answer.status));
    }
    assert!(read > 10 && written > 10, "{read} {written}");
    let names: Vec<_> = fs::read_dir(&outside)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["file"]);
    assert_eq!(
        fs::read_to_string(outside.join("file")).unwrap(),
        "the host's"
    );
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn attributes_survive_the_way_out_and_in() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let source = engine.home().join("src");
    fs::create_dir(&source).unwrap();
    let file = source.join("file");
    fs::write(&file, "x").unwrap();
    fs::hard_link(&file, source.join("same")).unwrap();
    let tree = testkit_xattr(&file);
    let words = ["cp", "-a", source.to_str().unwrap(), "box:/data"];
    let output = engine.command(Client::Gorae, words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let back = engine.home().join("back");
    let words = ["cp", "-a", "box:/data", back.to_str().unwrap()];
    let output = engine.command(Client::Gorae, words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (before, after) = (
        fs::metadata(&file).unwrap(),
        fs::metadata(back.join("file")).unwrap(),
    );
    assert_eq!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec())
    );
    assert_eq!(after.ino(), fs::metadata(back.join("same")).unwrap().ino());
    if tree {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(back.join("file"), c"user.test", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"a\nb");
    }
}

/// Sets an attribute; says whether the file system has them.
fn testkit_xattr(file: &Path) -> bool {
    rustix::fs::setxattr(file, c"user.test", b"a\nb", rustix::fs::XattrFlags::empty()).is_ok()
}

#[test]
fn the_engines_own_files_are_filled_not_replaced() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let archive = Archive::new()
        .file("hosts", b"1.2.3.4 x\n", 0o644)
        .and_then(Archive::finish)
        .unwrap();
    let answer = put(&engine, "box", "/etc", &archive);
    assert_eq!(answer.status, 200, "{}", message(&answer));
    engine.docker("exec box cat /etc/hosts").prints("1.2.3.4 x");
}

/// 500 MB there and back: the engine keeps next to nothing of it in memory.
#[test]
fn large_files_are_streamed() {
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", engine.pid().unwrap())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let large = engine.home().join("large");
    let made = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "count=500", "status=none"])
        .arg(format!("of={}", large.display()))
        .status()
        .unwrap();
    assert!(made.success());
    let before = resident();
    let at = engine.home().display().to_string();
    engine.docker(&format!("cp {at}/large box:/large")).ok();
    engine
        .docker("exec box stat -c %s /large")
        .prints("524288000");
    engine.gorae(&format!("cp box:/large {at}/back")).ok();
    assert_eq!(
        fs::metadata(engine.home().join("back")).unwrap().len(),
        524_288_000
    );
    let grown = resident() - before;
    assert!(grown < 24 << 10, "{grown} KiB");
}

#[test]
fn changes_are_listed_in_order() {
    let engine = engine();
    import_data(&engine);
    engine.docker("create --name box -v vol:/vol data").ok();
    let answer = engine.api("GET", "/containers/box/changes", "").unwrap();
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b"null\n"[..])
    );
    engine.docker("start box").ok();
    engine.docker("exec box sh -c 'rm /data/file; echo more >> /etc/passwd; mkdir -p /new/deep; echo 1 > /new/deep/f; rm -r /data/sub; mkdir /data/sub; touch /data/sub/y'").ok();
    for client in Client::BOTH {
        engine.run(client, "diff box").prints(
            "C /data\nD /data/file\nC /data/sub\nD /data/sub/x\nA /data/sub/y\nC /etc\nC /etc/passwd\nA /new\nA /new/deep\nA /new/deep/f\nA /vol",
        );
        engine
            .run(client, "diff nosuch")
            .complains(1, "No such container: nosuch");
    }
    engine.docker("kill box").ok();
    let answer = engine.api("GET", "/containers/box/changes", "").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.starts_with(r#"[{"Path":"/data","Kind":0},{"Path":"/data/file","Kind":2},"#),
        "{text}"
    );
}

#[test]
fn exports_can_be_imported() {
    let engine = engine();
    import_data(&engine);
    let at = engine.home().display().to_string();
    engine
        .docker("run --name box -v vol:/vol data sh -c 'touch /vol/not /own'")
        .ok();
    for client in Client::BOTH {
        engine
            .run(client, &format!("export -o {at}/export.tar box"))
            .prints("");
        engine
            .run(client, &format!("import {at}/export.tar again"))
            .ok();
        engine
            .run(
                client,
                "run --rm again sh -c 'ls /vol /own /data; stat -c %a /data/sub/x'",
            )
            .prints("/own\n\n/data:\nabslink\ndangling\nevil\nfile\nlink\nsub\n\n/vol:\n4755");
        engine.run(client, "rmi again").ok();
        engine
            .run(client, "export nosuch")
            .complains(1, "No such container: nosuch");
        let output = engine.command(client, ["export", "box"]).output().unwrap();
        assert!(entries(&output.stdout).contains(&"0 own".to_owned()));
    }
}

/// Where a volume is to be mounted, the container has put a link to a folder of the host
/// (CVE-2026-42306).
#[test]
fn a_place_of_a_mount_that_became_a_link_leads_nowhere() {
    let engine = engine();
    let outside = engine.home().join("outside");
    fs::create_dir(&outside).unwrap();
    let at = outside.display();
    let script = format!("mv /place /other && ln -s {at} /place");
    engine
        .docker(&format!(
            "run --name box -v vol:/place/v busybox sh -c '{script}'"
        ))
        .ok();
    let archive = Archive::new()
        .file("x", b"in the volume", 0o644)
        .and_then(Archive::finish)
        .unwrap();
    for path in ["/place/v", "/place", "/"] {
        let answer = put(&engine, "box", path, &archive);
        assert!([200, 404].contains(&answer.status), "{}", message(&answer));
        let answer = engine.api("GET", &path_of("box", path), "").unwrap();
        assert!([200, 404].contains(&answer.status), "{}", message(&answer));
    }
    let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    engine
        .docker("run --rm -v vol:/v busybox cat /v/x")
        .prints("in the volume");
}

#[test]
fn success_is_told_to_a_person() {
    let engine = engine();
    engine.docker("create --name box busybox").ok();
    let at = engine.home().display().to_string();
    for client in Client::BOTH {
        let session = engine.terminal(client, &format!("cp box:/etc/passwd {at}/copy"));
        session.expect("Successfully copied 2.05kB to");
        assert_eq!(session.finish().code, 0);
        let session = engine.terminal(client, &format!("cp {at}/copy box:/tmp"));
        session.expect("Successfully copied 2.05kB to box:/tmp");
        assert_eq!(session.finish().code, 0);
    }
}
