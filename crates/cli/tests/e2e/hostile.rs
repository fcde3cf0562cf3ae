//! Images that lay links where the engine mounts and writes.

use testkit::engine::Engine;
use testkit::image::Archive;

use crate::bench::engine;

/// An image of busybox whose folder `name` is a link to `target`.
fn import_with_link(engine: &Engine, image: &str, name: &str, target: &str) {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut archive = Archive::new().directory("bin/", 0o755).unwrap();
    archive = archive.file("bin/busybox", &busybox, 0o755).unwrap();
    for applet in [
        "sh", "ls", "cat", "touch", "stat", "readlink", "grep", "echo", "id", "mount", "wc",
    ] {
        archive = archive
            .hardlink(&format!("bin/{applet}"), "bin/busybox")
            .unwrap();
    }
    let archive = archive.symlink(name, target).unwrap().finish().unwrap();
    engine
        .import_with(&["import", "-", image], &archive)
        .unwrap();
}

#[test]
fn links_in_the_image_lead_nowhere_outside() {
    let engine = engine();
    let outside = engine.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let at = outside.display().to_string();
    for (image, name) in [
        ("dev", "dev"),
        ("proc", "proc"),
        ("sys", "sys"),
        ("etc", "etc"),
        ("data", "data"),
        ("work", "work"),
    ] {
        for (kind, target) in [
            ("absolute", at.clone()),
            ("climbing", format!("../../../../../../../..{at}")),
        ] {
            let image = format!("{image}-{kind}");
            import_with_link(&engine, &image, name, &target);
            let outcome = engine.docker(&format!("run --rm -v /data/vol -v {at}/../home-file:/data/file --tmpfs /data/tmp -w /job/dir --dns 9.9.9.9 {image} sh -c 'echo inside; mount | grep -c proc'"));
            // it may run inside its own tree or be refused; outside nothing may appear
            assert!([0, 125, 126, 127].contains(&outcome.code), "{outcome:?}");
            let made: Vec<_> = std::fs::read_dir(&outside)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert!(made.is_empty(), "{image}: {made:?} {outcome:?}");
        }
    }
}

#[test]
fn masked_paths_cannot_be_moved_by_the_image() {
    let engine = engine();
    import_with_link(&engine, "null", "dev/null", "/proc/sys/kernel/core_pattern");
    engine
        .docker("run --rm null sh -c 'stat -c %t:%T /dev/null; wc -c < /proc/timer_list'")
        .prints("1:3\n0");
    import_with_link(&engine, "console", "dev/console", "/proc/sysrq-trigger");
    let outcome = engine.docker("run --rm -t console sh -c 'test -c /dev/console && echo console'");
    assert!(outcome.stdout.contains("console"), "{outcome:?}");
}

#[test]
fn users_files_of_the_image_are_read_with_care() {
    let engine = engine();
    let program = std::fs::read("/bin/busybox").unwrap();
    let passwd = |image: &str, content: &[u8]| {
        let archive = Archive::new()
            .file("etc/passwd", content, 0o644)
            .and_then(|archive| archive.file("bin/id", &program, 0o755))
            .and_then(Archive::finish)
            .unwrap();
        engine
            .import_with(&["import", "-", image], &archive)
            .unwrap();
    };
    // an id that wraps to 0 is refused, as one that is no number
    passwd(
        "wrap",
        b"evil:x:4294967296:4294967296::/:/bin/sh\nbad:x:-1:0::/:/bin/sh\n",
    );
    for user in ["evil", "bad", "4294967296", "2147483648:0"] {
        let outcome = engine.docker(&format!("run --rm -u {user} wrap id -u"));
        assert_ne!(outcome.code, 0, "{user}: {outcome:?}");
    }
    passwd("huge", &[b'x'; 16 << 20]);
    engine
        .docker("run --rm -u nobody huge id -u")
        .complains(125, "etc/passwd");
    import_with_link(&engine, "linked", "etc/passwd", "/proc/1/environ");
    engine.docker("run --rm linked id -u").ok();
}

#[test]
fn the_container_cannot_reach_the_shims_program() {
    let engine = engine();
    import_with_link(&engine, "self", "run-me", "/proc/self/exe");
    // executed through the link, the init stage must not hand out a program that can be written
    let outcome = engine.docker("run --rm --cap-add ALL self /run-me");
    assert_ne!(outcome.code, -1, "{outcome:?}");
    let shim = std::path::Path::new(env!("CARGO_BIN_EXE_gorae")).with_file_name("gorae-shim");
    let before = std::fs::metadata(&shim).unwrap().modified().unwrap();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let script = "for i in $(seq 200); do for f in /proc/[0-9]*/exe; do case $(readlink $f) in *shim*|*memfd*) : > $f && echo written;; esac; done; done; echo done";
    let watcher = engine.docker(&format!("exec box sh -c '{script}'"));
    assert!(!watcher.stdout.contains("written"), "{watcher:?}");
    assert_eq!(
        std::fs::metadata(&shim).unwrap().modified().unwrap(),
        before
    );
}
