//! A small image's tree with something of every kind.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn program(&self, path: &str, bytes: &[u8]) -> &Self {
        self.put(path, bytes);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.0.path().join(path), mode).unwrap();
        self
    }

    fn found(&self) -> Vec<String> {
        let root = open(self.0.path());
        let all = packages(&Root::open(&root).unwrap());
        let mut purls: Vec<String> = all.iter().map(Package::purl).collect();
        purls.sort();
        purls
    }
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

/// An ELF file of 64 bits with one section.
fn elf(name: &str, content: &[u8]) -> Vec<u8> {
    let names = format!("\0.shstrtab\0{name}\0");
    let content_at = 64;
    let names_at = content_at + content.len();
    let table_at = names_at + names.len();
    let mut file = vec![0_u8; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut set = |at: usize, value: usize, width: usize| {
        file[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    };
    set(40, table_at, 8);
    set(58, 64, 2);
    set(60, 3, 2);
    set(62, 1, 2);
    file.extend_from_slice(content);
    file.extend_from_slice(names.as_bytes());
    for (name, offset, size) in [
        (0, 0, 0),
        (1, names_at, names.len()),
        (11, content_at, content.len()),
    ] {
        let mut section = [0_u8; 64];
        let name: usize = name;
        section[..4].copy_from_slice(&name.to_le_bytes()[..4]);
        section[24..32].copy_from_slice(&offset.to_le_bytes());
        section[32..40].copy_from_slice(&size.to_le_bytes());
        file.extend_from_slice(&section);
    }
    file
}

fn go_info(modules: &str) -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    let version = "go1.22.1";
    info.push(u8::try_from(version.len()).unwrap());
    info.extend_from_slice(version.as_bytes());
    let text = format!("{}{modules}{}", "<".repeat(16), ">".repeat(16));
    let length = text.len();
    info.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
    info.push(u8::try_from(length >> 7).unwrap());
    info.extend_from_slice(text.as_bytes());
    info
}

/// A header of rpm with texts and an epoch.
fn rpm_header(name: &str) -> Vec<u8> {
    let texts = [
        (1000, name),
        (1001, "1.2"),
        (1002, "3.fc40"),
        (1022, "x86_64"),
    ];
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, text) in texts {
        let tag: u32 = tag;
        let offset = u32::try_from(data.len()).unwrap();
        for field in [tag, 6, offset, 1] {
            index.extend_from_slice(&field.to_be_bytes());
        }
        data.extend_from_slice(text.as_bytes());
        data.push(0);
    }
    // what makes a row longer than its page
    data.resize(data.len() + 3000, b'x');
    let mut header = Vec::new();
    header.extend_from_slice(&u32::try_from(texts.len()).unwrap().to_be_bytes());
    header.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
    header.extend_from_slice(&index);
    header.extend_from_slice(&data);
    header
}

/// A length in two bytes of seven bits.
fn two(value: usize) -> [u8; 2] {
    [
        u8::try_from(value >> 7).unwrap() | 0x80,
        u8::try_from(value & 0x7f).unwrap(),
    ]
}

/// A file of `SQLite` with a table whose only row goes on in further pages of 1024 bytes.
fn sqlite_file(blob: &[u8]) -> Vec<u8> {
    const PAGE: usize = 1024;
    let schema = {
        let (kind, name) = ("table", "Packages");
        let types = [
            13 + 2 * kind.len(),
            13 + 2 * name.len(),
            13 + 2 * name.len(),
            1,
            13,
        ];
        let mut row = vec![u8::try_from(types.len() + 1).unwrap()];
        row.extend(types.map(|one| u8::try_from(one).unwrap()));
        row.extend_from_slice(kind.as_bytes());
        row.extend_from_slice(name.as_bytes());
        row.extend_from_slice(name.as_bytes());
        row.push(2);
        row
    };
    let mut first = vec![0; PAGE];
    first[..16].copy_from_slice(b"SQLite format 3\0");
    first[16..18].copy_from_slice(&1024_u16.to_be_bytes());
    let at = PAGE - schema.len() - 2;
    first[100] = 13;
    first[104] = 1;
    first[108..110].copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
    first[at] = u8::try_from(schema.len()).unwrap();
    first[at + 1] = 1;
    first[at + 2..].copy_from_slice(&schema);
    // a row of nothing and a blob
    let mut row = vec![4, 0];
    row.extend_from_slice(&two(12 + 2 * blob.len()));
    row.extend_from_slice(blob);
    let least = (PAGE - 12) * 32 / 255 - 23;
    let fitting = least + (row.len() - least) % (PAGE - 4);
    let local = if fitting <= PAGE - 35 { fitting } else { least };
    let mut second = vec![0; PAGE];
    let at = PAGE - local - 4 - 3;
    second[0] = 13;
    second[4] = 1;
    second[8..10].copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
    second[at..at + 2].copy_from_slice(&two(row.len()));
    second[at + 2] = 1;
    second[at + 3..at + 3 + local].copy_from_slice(&row[..local]);
    second[at + 3 + local..].copy_from_slice(&3_u32.to_be_bytes());
    let mut file = [first, second].concat();
    let pieces: Vec<&[u8]> = row[local..].chunks(PAGE - 4).collect();
    for (number, piece) in pieces.iter().enumerate() {
        let next = if number + 1 == pieces.len() {
            0
        } else {
            number + 4
        };
        let mut page = u32::try_from(next).unwrap().to_be_bytes().to_vec();
        page.extend_from_slice(piece);
        page.resize(PAGE, 0);
        file.extend_from_slice(&page);
    }
    file
}

fn ndb_file(blob: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[..4].copy_from_slice(b"RpmP");
    file[12] = 1;
    let mut slot = b"Slot".to_vec();
    for field in [7_u32, 256, 1] {
        slot.extend_from_slice(&field.to_le_bytes());
    }
    file[32..48].copy_from_slice(&slot);
    file.extend_from_slice(b"BlbS");
    for field in [7, 0, u32::try_from(blob.len()).unwrap()] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(blob);
    file
}

#[test]
fn packages_of_distributions() {
    let tree = Tree::new();
    tree.put("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n")
        .put(
            "var/lib/dpkg/status",
            "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36)\nVersion: 2.36-9\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        )
        .put("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a\n");
    assert_eq!(
        tree.found(),
        [
            "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=glibc",
            "pkg:deb/debian/tzdata@2024a?distro=debian-12",
        ]
    );
    let tree = Tree::new();
    tree.put("etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n")
        .put(
            "lib/apk/db/installed",
            "C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\n",
        );
    assert_eq!(
        tree.found(),
        ["pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1&upstream=musl"]
    );
}

#[test]
fn rpms_of_all_databases() {
    for (place, file) in [
        ("var/lib/rpm/rpmdb.sqlite", sqlite_file(&rpm_header("bash"))),
        (
            "usr/lib/sysimage/rpm/Packages.db",
            ndb_file(&rpm_header("bash")),
        ),
        (
            "var/lib/rpm/Packages",
            bdb::tests::table(&[vec![0; 4], rpm_header("bash")], 4096, false),
        ),
        (
            "usr/lib/sysimage/rpm/Packages",
            bdb::tests::table(&[rpm_header("bash")], 512, true),
        ),
    ] {
        let tree = Tree::new();
        tree.put("etc/os-release", "ID=fedora\nVERSION_ID=40\n")
            .put(place, &file);
        let expect = "pkg:rpm/fedora/bash@1.2-3.fc40?arch=x86_64&distro=fedora-40";
        assert_eq!(tree.found(), [expect], "{place}");
        // cut off or damaged anywhere, it is read as far as it goes
        for end in (0..file.len()).step_by(97) {
            let tree = Tree::new();
            let mut damaged = file.clone();
            damaged[end] ^= 0xff;
            tree.put(place, &damaged[..damaged.len() - end / 2]);
            let _found = tree.found();
        }
    }
}

#[test]
fn packages_of_languages() {
    let tree = Tree::new();
    tree.put(
        "usr/lib/python3/dist-packages/Foo_Bar-1.0.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\nLicense: MIT\n\nName: other\n",
    )
    .put("app/node_modules/left-pad/package.json", r#"{"name":"left-pad","version":"1.3.0"}"#)
    .put(
        "app/node_modules/@s/x/package.json",
        r#"{"name":"@s/x","version":"2.0.0","license":{"type":"ISC"}}"#,
    )
    .put("app/node_modules/@s/x/lib/package.json", r#"{"name":"no","version":"1"}"#)
    .put("app/package.json", r#"{"name":"app","version":"0"}"#)
    .put(
        "src/Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n",
    );
    assert_eq!(
        tree.found(),
        [
            "pkg:cargo/own@0.1.0",
            "pkg:cargo/serde@1.0.1",
            "pkg:npm/%40s/x@2.0.0",
            "pkg:npm/left-pad@1.3.0",
            "pkg:pypi/foo-bar@1.0",
        ]
    );
}

#[test]
fn packages_in_programs() {
    let tree = Tree::new();
    let modules = "path\tx.example/cmd\nmod\tx.example/cmd\t(devel)\t\ndep\tx.example/a\tv1.0.0\th1:x\ndep\tx.example/b\tv1.0.0\th1:x\n=>\tx.example/fork\tv2.0.0\th1:x\n";
    tree.program("usr/bin/tool", &elf(".go.buildinfo", &go_info(modules)));
    let list = br#"{"packages":[{"name":"rand","version":"0.8.5"},{"name":"cc","version":"1.0.0","kind":"build"}]}"#;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(list).unwrap();
    tree.program("usr/bin/rusty", &elf(".dep-v0", &packed.finish().unwrap()));
    tree.program("usr/bin/script", b"#!/bin/sh\n");
    // what nobody can run is no program
    tree.put("usr/bin/data", elf(".go.buildinfo", &go_info(modules)));
    assert_eq!(
        tree.found(),
        [
            "pkg:cargo/rand@0.8.5",
            "pkg:golang/stdlib@1.22.1",
            "pkg:golang/x.example/a@v1.0.0",
            "pkg:golang/x.example/cmd",
            "pkg:golang/x.example/fork@v2.0.0",
        ]
    );
}

#[test]
fn links_lead_nowhere_outside() {
    let outside = Tree::new();
    outside.put("status", "Package: secret\nVersion: 1\n");
    let tree = Tree::new();
    fs::create_dir_all(tree.0.path().join("var/lib/dpkg")).unwrap();
    let target = outside.0.path().join("status");
    std::os::unix::fs::symlink(target, tree.0.path().join("var/lib/dpkg/status")).unwrap();
    assert!(tree.found().is_empty());
}

#[test]
fn the_same_packages_give_the_same_document() {
    let tree = Tree::new();
    tree.put(
        "var/lib/dpkg/status",
        "Package: a\nVersion: 1\n\nPackage: b\nVersion: 2\n",
    );
    let state = || scan(&open(tree.0.path()), "app", Timestamp::UNIX_EPOCH).unwrap();
    let document = state().predicate;
    assert_eq!(document, state().predicate);
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert_eq!(document["packages"].as_array().unwrap().len(), 2);
    assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
    let first = &document["packages"][0];
    assert_eq!(
        first["externalRefs"][0]["referenceLocator"],
        "pkg:deb/debian/a@1"
    );
    assert_eq!(
        document["relationships"][0]["relatedSpdxElement"],
        first["SPDXID"]
    );
}
