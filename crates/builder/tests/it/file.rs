//! Changes of files.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use builder::Kind;
use builder::llb::pb;
use builder::llb::pb::file_action::Action;
use builder::snapshot::Snapshot;

use crate::fixture::{Fixture, read, tree, with_builder};

fn act(input: i64, secondary: i64, output: i64, action: Action) -> pb::FileAction {
    pb::FileAction {
        input,
        secondary_input: secondary,
        output,
        action: Some(action),
    }
}

fn op(actions: Vec<pb::FileAction>) -> pb::op::Op {
    pb::op::Op::File(pb::FileOp { actions })
}

/// A copy as the Dockerfile front end asks for one.
fn copied(src: &str, dest: &str) -> pb::FileActionCopy {
    pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        follow_symlink: true,
        dir_copy_contents: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        ..pb::FileActionCopy::default()
    }
}

async fn copy(
    fixture: &Fixture,
    to: &Snapshot,
    from: &Snapshot,
    action: pb::FileActionCopy,
) -> Result<Snapshot, builder::Error> {
    let inputs = [to.clone(), from.clone()];
    let made = fixture
        .run(op(vec![act(0, 1, 0, Action::Copy(action))]), &inputs)
        .await;
    made.map(|mut made| made.remove(0))
}

fn source(fixture: &Fixture) -> Snapshot {
    fixture.snapshot(&Snapshot::scratch(), |root| {
        std::fs::create_dir_all(root.join("dir/sub/deep")).unwrap();
        for (name, text) in [
            ("a.txt", "a"),
            ("b.txt", "b"),
            ("c.md", "c"),
            ("dir/one", "1"),
            ("dir/sub/two", "2"),
            ("dir/sub/deep/three.md", "3"),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        std::fs::hard_link(root.join("dir/one"), root.join("dir/same")).unwrap();
        symlink("a.txt", root.join("link")).unwrap();
        symlink("sub", root.join("dir/link")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(root.join("dir/sub"), mode).unwrap();
        std::os::unix::fs::chown(root.join("dir/sub/two"), Some(5), Some(6)).unwrap();
    })
}

#[test]
fn copies_go_where_docker_puts_them() {
    with_builder(async |fixture| {
        let from = source(fixture);
        let base = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::create_dir_all(root.join("there")).unwrap();
            std::fs::write(root.join("file"), "old").unwrap();
            symlink("/there", root.join("way")).unwrap();
        });
        for (src, dest, expected) in [
            ("/a.txt", "/x", "/x f 644 0:0 a"),
            ("/a.txt", "/new/", "/new/a.txt f 644 0:0 a"),
            ("/a.txt", "/new/deep/x", "/new/deep/x f 644 0:0 a"),
            ("/a.txt", "/there", "/there/a.txt f 644 0:0 a"),
            ("/a.txt", "/way/", "/there/a.txt f 644 0:0 a"),
            ("/a.txt", "/file", "/file f 644 0:0 a"),
            ("/link", "/x", "/x f 644 0:0 a"),
            ("/*.txt", "/t/", "/t/b.txt f 644 0:0 b"),
            ("/dir", "/t", "/t/sub/two f 644 5:6 2"),
            ("/dir", "/there/", "/there/sub d 700 0:0"),
            ("/dir/", "/way", "/there/sub/deep/three.md f 644 0:0 3"),
            ("/dir", "/t", "/t/link l 0:0 sub"),
            ("/d*/s*", "/t/", "/t/two f 644 5:6 2"),
            ("/", "/all", "/all/dir/one f 644 0:0 1"),
            ("../../a.txt", "../../up", "/up f 644 0:0 a"),
        ] {
            let made = copy(fixture, &base, &from, copied(src, dest))
                .await
                .unwrap();
            let (path, text) = expected.split_once(' ').unwrap();
            let found = tree(&made);
            assert_eq!(
                found.get(path).map(String::as_str),
                Some(text),
                "{src} to {dest}: {found:?}"
            );
        }
        let missing = pb::FileActionCopy {
            allow_empty_wildcard: false,
            ..copied("/nope*", "/")
        };
        let error = copy(fixture, &base, &from, missing).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let error = copy(fixture, &base, &from, copied("/dir", "/file"))
            .await
            .unwrap_err();
        assert!(error.message().contains("/file"), "{error}");
    });
}

#[test]
fn what_belongs_to_files_goes_along() {
    with_builder(async |fixture| {
        let from = source(fixture);
        let old = rustix::fs::Timespec {
            tv_sec: 1_000_000,
            tv_nsec: 5,
        };
        let times = rustix::fs::Timestamps {
            last_access: old,
            last_modification: old,
        };
        let from = fixture.snapshot(&from, |root| {
            std::fs::create_dir(root.join("dir")).unwrap();
            std::fs::write(root.join("dir/file"), "x").unwrap();
            rustix::fs::utimensat(
                rustix::fs::CWD,
                root.join("dir/file"),
                &times,
                rustix::fs::AtFlags::empty(),
            )
            .unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join("dir/file"), "user.mark", b"m", flags).unwrap();
            let sparse = std::fs::File::create(root.join("dir/sparse")).unwrap();
            sparse.set_len(64 << 20).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
        });
        let made = copy(fixture, &Snapshot::scratch(), &from, copied("/dir", "/d"))
            .await
            .unwrap();
        let upper = made.layers()[0].folder().unwrap().0;
        let (one, same) = (
            upper.join("d/one").metadata().unwrap(),
            upper.join("d/same").metadata().unwrap(),
        );
        assert_eq!((one.ino(), one.nlink()), (same.ino(), 2));
        let file = upper.join("d/file").metadata().unwrap();
        assert_eq!((file.mtime(), file.mtime_nsec()), (1_000_000, 5));
        let mut value = [0; 8];
        let length =
            rustix::fs::getxattr(upper.join("d/file"), "user.mark", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"m");
        let sparse = upper.join("d/sparse").metadata().unwrap();
        assert_eq!(sparse.len(), 64 << 20);
        assert!(
            sparse.blocks() * 512 < 1 << 20,
            "the copy of a sparse file is not sparse"
        );

        let changed = pb::FileActionCopy {
            owner: Some(by_id(7, 8)),
            mode_str: "u=rwX,go=rX".to_owned(),
            timestamp: 3_000_000_000,
            ..copied("/dir", "/d")
        };
        let made = copy(fixture, &Snapshot::scratch(), &from, changed)
            .await
            .unwrap();
        let found = tree(&made);
        assert_eq!(found["/d/sub"], "d 755 7:8");
        assert_eq!(found["/d"], "d 755 7:8");
        assert_eq!(found["/d/link"], "l 7:8 sub");
        let upper = made.layers()[0].folder().unwrap().0;
        assert_eq!(upper.join("d/sub/two").metadata().unwrap().mtime(), 3);
        assert_eq!(upper.join("d/sub").metadata().unwrap().mtime(), 3);
    });
}

fn by_id(uid: u32, gid: u32) -> pb::ChownOpt {
    let id = |id| pb::UserOpt {
        user: Some(pb::user_opt::User::ById(id)),
    };
    pb::ChownOpt {
        user: Some(id(uid)),
        group: Some(id(gid)),
    }
}

fn by_name(user: &str, group: Option<&str>, input: i64) -> pb::ChownOpt {
    let named = |name: &str| pb::UserOpt {
        user: Some(pb::user_opt::User::ByName(pb::NamedUserOpt {
            name: name.to_owned(),
            input,
        })),
    };
    pb::ChownOpt {
        user: Some(named(user)),
        group: group.map(named),
    }
}

#[test]
fn patterns_choose_what_is_copied() {
    with_builder(async |fixture| {
        let from = source(fixture);
        let names = |snapshot: &Snapshot| {
            let mut names: Vec<_> = tree(snapshot).into_keys().collect();
            names.sort();
            names.join(" ")
        };
        let action = pb::FileActionCopy {
            exclude_patterns: vec!["**/*.md".to_owned(), "sub/two".to_owned()],
            ..copied("/dir", "/d")
        };
        let made = copy(fixture, &Snapshot::scratch(), &from, action)
            .await
            .unwrap();
        assert_eq!(names(&made), "/d /d/link /d/one /d/same /d/sub /d/sub/deep");
        // COPY --parents
        let action = pb::FileActionCopy {
            include_patterns: vec!["dir/sub/deep/*.md".to_owned()],
            ..copied("/", "/d")
        };
        let made = copy(fixture, &Snapshot::scratch(), &from, action)
            .await
            .unwrap();
        assert_eq!(
            names(&made),
            "/d /d/dir /d/dir/sub /d/dir/sub/deep /d/dir/sub/deep/three.md"
        );
        assert_eq!(tree(&made)["/d/dir/sub"], "d 700 0:0");
        let action = pb::FileActionCopy {
            include_patterns: vec!["nope".to_owned()],
            required_paths: vec!["nope".to_owned()],
            ..copied("/", "/d")
        };
        let error = copy(fixture, &Snapshot::scratch(), &from, action)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    });
}

#[test]
fn files_folders_links_and_removals() {
    with_builder(async |fixture| {
        let base = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::create_dir_all(root.join("etc")).unwrap();
            std::fs::write(root.join("etc/passwd"), "user:x:1000:1001::/:/bin/sh\n").unwrap();
            std::fs::write(root.join("etc/group"), "others:x:1002:\n").unwrap();
            std::fs::create_dir_all(root.join("old/below")).unwrap();
        });
        let file = |path: &str, data: &str| {
            Action::Mkfile(pb::FileActionMkFile {
                path: path.to_owned(),
                mode: 0o640,
                data: data.as_bytes().to_vec(),
                owner: Some(by_name("user", Some("others"), 0)),
                timestamp: -1,
            })
        };
        let folder = |path: &str, make_parents| {
            Action::Mkdir(pb::FileActionMkDir {
                path: path.to_owned(),
                mode: 0o750,
                make_parents,
                owner: Some(by_name("user", None, 0)),
                timestamp: 5_000_000_000,
            })
        };
        let remove = |path: &str, allow_wildcard, allow_not_found| {
            Action::Rm(pb::FileActionRm {
                path: path.to_owned(),
                allow_wildcard,
                allow_not_found,
            })
        };
        let link = Action::Symlink(pb::FileActionSymlink {
            oldpath: "/target".to_owned(),
            newpath: "/a/link".to_owned(),
            owner: None,
            timestamp: -1,
        });
        let actions = vec![
            act(0, -1, -1, folder("/a/b/c", true)),
            act(1, -1, -1, file("/a/b/file", "data")),
            act(2, -1, 0, link),
            act(3, -1, -1, remove("/o*", true, false)),
            act(4, -1, 1, remove("/nope", false, true)),
        ];
        let made = fixture
            .run(op(actions), std::slice::from_ref(&base))
            .await
            .unwrap();
        let found = tree(&made[0]);
        assert_eq!(found["/a/b"], "d 750 1000:1001");
        assert_eq!(found["/a/b/file"], "f 640 1000:1002 data");
        assert_eq!(found["/a/link"], "l 0:0 /target");
        assert!(found.contains_key("/old/below"));
        assert!(!tree(&made[1]).contains_key("/old"));
        assert_eq!(made[0].layers().len(), 2);
        let inputs = std::slice::from_ref(&base);
        let error = fixture
            .run(
                op(vec![act(0, -1, 0, remove("/nope", false, false))]),
                inputs,
            )
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let error = fixture
            .run(op(vec![act(0, -1, 0, folder("/x/y", false))]), inputs)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let mut unknown = folder("/x", false);
        if let Action::Mkdir(action) = &mut unknown {
            action.owner = Some(by_name("nobody", None, 0));
        }
        // as with BuildKit, who is in no list of users is root
        let made = fixture.run(op(vec![act(0, -1, 0, unknown)]), inputs).await;
        assert_eq!(tree(&made.unwrap()[0])["/x"], "d 750 0:0");
    });
}

/// Links of images and contexts lead nowhere out of them (CVE-2024-23652, CVE-2018-15664,
/// CVE-2026-17106, and BuildKit's parent traversal of `rm`, 4ed7a2ff3).
#[test]
fn nothing_outside_is_read_or_written() {
    with_builder(async |fixture| {
        let outside = fixture.folder.join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        let shown = outside.to_str().unwrap().to_owned();
        let evil = fixture.snapshot(&Snapshot::scratch(), |root| {
            symlink(&shown, root.join("absolute")).unwrap();
            symlink("../../../../../../../../../..", root.join("up")).unwrap();
            symlink(format!("{shown}/secret"), root.join("file")).unwrap();
            symlink("/proc/self/root", root.join("magic")).unwrap();
            std::fs::create_dir(root.join("tree")).unwrap();
            symlink(&shown, root.join("tree/inner")).unwrap();
        });
        let plain = source(fixture);
        let scratch = Snapshot::scratch();
        for path in ["/absolute/secret", "/file", "/magic/etc/passwd"] {
            let error = copy(fixture, &scratch, &evil, copied(path, "/x")).await;
            assert!(error.is_err(), "{path} was read");
        }
        let up = format!("/up{shown}/secret");
        assert!(
            copy(fixture, &scratch, &evil, copied(&up, "/x"))
                .await
                .is_err()
        );
        let made = copy(fixture, &scratch, &evil, copied("/tree", "/x"))
            .await
            .unwrap();
        assert!(tree(&made)["/x/inner"].starts_with("l "));
        for dest in [
            "/absolute/new",
            "/up/new",
            "/file",
            "/tree/inner/new",
            "/absolute/",
        ] {
            // it lands inside, or is refused
            let made = copy(fixture, &evil, &plain, copied("/a.txt", dest)).await;
            if let Ok(made) = made {
                assert_eq!(
                    tree(&made)
                        .values()
                        .filter(|text| text.ends_with(" a"))
                        .count(),
                    1,
                    "{dest}"
                );
            }
        }
        let overlay = fixture.snapshot(&scratch, |root| {
            std::fs::create_dir_all(root.join("tree/inner")).unwrap();
            std::fs::write(root.join("tree/inner/secret"), "changed").unwrap();
        });
        let refused = copy(fixture, &evil, &overlay, copied("/", "/"))
            .await
            .unwrap_err();
        assert!(refused.message().contains("tree/inner"), "{refused}");
        for path in [
            "/absolute/secret",
            "/tree/inner/secret",
            "/../../outside/secret",
            "/up/*",
        ] {
            let action = Action::Rm(pb::FileActionRm {
                path: path.to_owned(),
                allow_wildcard: true,
                allow_not_found: true,
            });
            let done = fixture
                .run(op(vec![act(0, -1, 0, action)]), std::slice::from_ref(&evil))
                .await;
            drop(done);
        }
        assert_eq!(
            std::fs::read_to_string(outside.join("secret")).unwrap(),
            "secret"
        );
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    });
}

#[test]
fn archives_are_unpacked_where_they_land() {
    with_builder(async |fixture| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o600);
        header.set_uid(3);
        builder
            .append_data(&mut header, "in/file", &b"data"[..])
            .unwrap();
        let archive = builder.into_inner().unwrap();
        let from = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::write(root.join("a.tar"), &archive).unwrap();
            std::fs::write(root.join("no.tar"), "text").unwrap();
        });
        let add = |src: &str| pb::FileActionCopy {
            attempt_unpack_docker_compatibility: true,
            ..copied(src, "/to")
        };
        let made = copy(fixture, &Snapshot::scratch(), &from, add("/a.tar"))
            .await
            .unwrap();
        assert_eq!(tree(&made)["/to/in/file"], "f 600 3:0 data");
        let made = copy(fixture, &Snapshot::scratch(), &from, add("/no.tar"))
            .await
            .unwrap();
        assert_eq!(tree(&made)["/to"], "f 644 0:0 text");
    });
}

#[test]
fn files_of_a_client_are_roots() {
    with_builder(async |fixture| {
        let folder = fixture.folder.join("context");
        std::fs::create_dir_all(folder.join("dir")).unwrap();
        std::fs::write(folder.join("dir/file"), "x").unwrap();
        for path in [&folder, &folder.join("dir"), &folder.join("dir/file")] {
            std::os::unix::fs::chown(path, Some(1234), Some(1234)).unwrap();
        }
        let context = Snapshot::of_folder("context".to_owned(), folder, Arc::new(()));
        let made = copy(fixture, &Snapshot::scratch(), &context, copied("/", "/to"))
            .await
            .unwrap();
        assert_eq!(tree(&made)["/to/dir/file"], "f 644 0:0 x");
        assert_eq!(read(&made, "/to/dir/file"), "x");
    });
}

#[test]
fn two_thousand_files() {
    with_builder(async |fixture| {
        let from = fixture.snapshot(&Snapshot::scratch(), |root| {
            for number in 0..2000 {
                let folder = root.join(format!("d{}", number / 50));
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(number.to_string()), vec![b'x'; 1000]).unwrap();
            }
        });
        let base = fixture.snapshot(&Snapshot::scratch(), |root: &Path| {
            std::fs::create_dir(root.join("etc")).unwrap();
        });
        let begun = std::time::Instant::now();
        let made = copy(fixture, &base, &from, copied("/", "/to/"))
            .await
            .unwrap();
        println!("2000 files took {:?}", begun.elapsed());
        assert_eq!(tree(&made).len(), 2000 + 40 + 2);
    });
}

/// Copies that only add are made without an overlay; the result is the same.
#[test]
fn additions_keep_what_the_folders_on_the_way_are_like() {
    with_builder(async |fixture| {
        let from = source(fixture);
        let base = fixture.snapshot(&Snapshot::scratch(), |root| {
            std::fs::create_dir_all(root.join("srv/app/empty")).unwrap();
            std::fs::create_dir_all(root.join("srv/full")).unwrap();
            std::fs::write(root.join("srv/full/kept"), "kept").unwrap();
            std::os::unix::fs::chown(root.join("srv/app"), Some(5), Some(6)).unwrap();
            for (path, mode) in [("srv", 0o711), ("srv/app", 0o750), ("srv/app/empty", 0o700)] {
                let mode = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(root.join(path), mode).unwrap();
            }
            symlink("srv/app", root.join("app")).unwrap();
            symlink("nowhere", root.join("dangling")).unwrap();
        });
        let base = fixture.snapshot(&base, |root| {
            std::fs::write(root.join("top"), "").unwrap();
        });
        for (src, dest, expected) in [
            (
                "/dir",
                "/app/new/deep",
                "/srv/app/new/deep/sub/two f 644 5:6 2",
            ),
            ("/dir", "/app/empty", "/srv/app/empty/one f 644 0:0 1"),
            ("/dir", "/srv/full", "/srv/full/sub/two f 644 5:6 2"),
            ("/a.txt", "/app/", "/srv/app/a.txt f 644 0:0 a"),
            ("/a.txt", "/srv/full/kept", "/srv/full/kept f 644 0:0 a"),
            // a link is followed, also one that leads to nothing yet
            ("/a.txt", "/dangling", "/nowhere f 644 0:0 a"),
        ] {
            let made = copy(fixture, &base, &from, copied(src, dest))
                .await
                .unwrap();
            let (path, text) = expected.split_once(' ').unwrap();
            let (before, after) = (tree(&base), tree(&made));
            let found = after.get(path).map(String::as_str);
            assert_eq!(found, Some(text), "{src} to {dest}: {after:?}");
            for (other, text) in before.iter().filter(|(other, _)| *other != path) {
                assert_eq!(
                    after.get(other),
                    Some(text),
                    "{other} after {src} to {dest}"
                );
            }
        }
    });
}
