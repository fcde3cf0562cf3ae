//! Digests of what snapshots hold.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use builder::op::Selector;
use builder::snapshot::Snapshot;
use oci::Digest;

use crate::fixture::{Fixture, with_builder};

fn of(fixture: &Fixture, snapshot: &Snapshot, path: &str) -> Digest {
    let selector = Selector {
        path: path.to_owned(),
        follow_links: true,
        ..Selector::default()
    };
    fixture
        .builder
        .content_hashes
        .digest(snapshot, &[selector])
        .unwrap()
}

fn fill(root: &Path) {
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/file"), "1").unwrap();
    std::fs::write(root.join("a/b/other"), "2").unwrap();
    std::fs::write(root.join("beside"), "3").unwrap();
    symlink("a/file", root.join("link")).unwrap();
}

#[test]
fn the_same_content_has_the_same_digest() {
    with_builder(async |fixture| {
        let scratch = Snapshot::scratch();
        let one = fixture.snapshot(&scratch, fill);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let two = fixture.snapshot(&scratch, fill);
        let split = fixture.snapshot(&scratch, |root| {
            std::fs::create_dir_all(root.join("a/b")).unwrap();
            std::fs::write(root.join("a/file"), "old").unwrap();
            std::fs::write(root.join("a/b/other"), "2").unwrap();
        });
        let split = fixture.snapshot(&split, |root| {
            std::fs::create_dir(root.join("a")).unwrap();
            std::fs::write(root.join("a/file"), "1").unwrap();
        });
        for path in ["/", "/a", "/a/file", "/link"] {
            assert_eq!(of(fixture, &one, path), of(fixture, &two, path), "{path}");
        }
        assert_eq!(of(fixture, &one, "/a"), of(fixture, &split, "/a"));
        assert_eq!(of(fixture, &one, "/link"), of(fixture, &one, "/a/file"));
        assert_ne!(of(fixture, &one, "/a"), of(fixture, &one, "/"));
    });
}

#[test]
fn changes_count_where_they_are() {
    with_builder(async |fixture| {
        let base = fixture.snapshot(&Snapshot::scratch(), fill);
        let changed = |write: &dyn Fn(&Path)| {
            fixture.snapshot(&base, |root| {
                std::fs::create_dir(root.join("a")).unwrap();
                write(root);
            })
        };
        let content = changed(&|root| std::fs::write(root.join("a/file"), "x").unwrap());
        let mode = changed(&|root| {
            std::fs::write(root.join("a/file"), "1").unwrap();
            std::fs::set_permissions(root.join("a/file"), std::fs::Permissions::from_mode(0o755))
                .unwrap();
        });
        let owner = changed(&|root| {
            std::fs::write(root.join("a/file"), "1").unwrap();
            std::os::unix::fs::chown(root.join("a/file"), Some(9), None).unwrap();
        });
        let more = changed(&|root| std::fs::write(root.join("a/more"), "").unwrap());
        let beside = changed(&|root| std::fs::write(root.join("beside"), "x").unwrap());
        for (what, snapshot) in [
            ("content", &content),
            ("mode", &mode),
            ("owner", &owner),
            ("more", &more),
        ] {
            assert_ne!(
                of(fixture, &base, "/a"),
                of(fixture, snapshot, "/a"),
                "{what}"
            );
            assert_eq!(
                of(fixture, &base, "/a/b"),
                of(fixture, snapshot, "/a/b"),
                "{what}"
            );
        }
        assert_eq!(of(fixture, &base, "/a"), of(fixture, &beside, "/a"));
        let filtered = |snapshot: &Snapshot| {
            let selector = Selector {
                path: "/a".to_owned(),
                exclude: vec!["file".to_owned()],
                ..Selector::default()
            };
            fixture
                .builder
                .content_hashes
                .digest(snapshot, &[selector])
                .unwrap()
        };
        assert_eq!(filtered(&base), filtered(&content));
        assert_ne!(filtered(&base), filtered(&more));
        let wild = |snapshot: &Snapshot, path: &str| {
            let selector = Selector {
                path: path.to_owned(),
                wildcard: true,
                ..Selector::default()
            };
            fixture.builder.content_hashes.digest(snapshot, &[selector])
        };
        assert_eq!(wild(&base, "/b*").unwrap(), wild(&content, "/b*").unwrap());
        assert_ne!(wild(&base, "/*").unwrap(), wild(&content, "/*").unwrap());
        let error = fixture.builder.content_hashes.digest(
            &base,
            &[Selector {
                path: "/nope".to_owned(),
                ..Selector::default()
            }],
        );
        let message = error.unwrap_err().to_string();
        assert!(
            message.starts_with("failed to calculate checksum of ref "),
            "{message}"
        );
        assert!(message.ends_with(": \"/nope\": not found"), "{message}");
    });
}

#[test]
fn a_clients_folder_is_read_again_when_it_changed() {
    with_builder(async |fixture| {
        let folder = fixture.folder.join("context");
        std::fs::create_dir(&folder).unwrap();
        fill(&folder);
        let snapshot = |id: &str| Snapshot::of_folder(id.to_owned(), folder.clone(), Arc::new(()));
        let first = of(fixture, &snapshot("1"), "/");
        assert_eq!(first, of(fixture, &snapshot("2"), "/"));
        std::fs::write(folder.join("a/file"), "x").unwrap();
        assert_ne!(first, of(fixture, &snapshot("3"), "/"));
        let layer = fixture.snapshot(&Snapshot::scratch(), fill);
        assert_eq!(first, of(fixture, &layer, "/"));
    });
}
