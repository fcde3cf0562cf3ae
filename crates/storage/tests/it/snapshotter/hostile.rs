//! Archives that attack: each refusal names the entry, and nothing outside is touched.

use storage::{ApplyOptions, Devices};

use crate::support::{Head, Tar, chain_text};

/// Applies an archive that must be refused with a text of these words.
fn refused(tar: Tar, words: &[&str]) {
    refused_with(&tar.finish(), &ApplyOptions::default(), words);
}

fn refused_with(bytes: &[u8], options: &ApplyOptions, words: &[&str]) {
    let fixture = super::fixture();
    let error = fixture.store.layers().apply(bytes, options);
    let text = chain_text(&error.expect_err("the archive is refused"));
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
    assert!(
        fixture.leftovers().is_empty(),
        "a refused layer leaves nothing"
    );
}

#[test]
fn names_that_leave_the_layer() {
    refused(
        Tar::new().file("../evil", b"x"),
        &["../evil", "leaves the layer"],
    );
    refused(
        Tar::new().file("a/../../evil", b"x"),
        &["a/../../evil", "leaves"],
    );
    refused(Tar::new().dir("..", 0o755), &["\"..\"", "leaves"]);
    refused(Tar::new().symlink("../evil", "/"), &["../evil", "leaves"]);
    refused(Tar::new().file("/../evil", b"x"), &["/../evil", "leaves"]);
}

#[test]
fn names_that_no_file_can_have() {
    let long = "x".repeat(300);
    refused(
        Tar::new()
            .pax(&[("path", long.as_bytes())])
            .file("short", b"x"),
        &["xxx", "too long"],
    );
    let deep = "d/".repeat(3000);
    refused(
        Tar::new()
            .pax(&[("path", deep.as_bytes())])
            .file("short", b"x"),
        &["d/d", "too long"],
    );
    refused(
        Tar::new().pax(&[("path", b"a\0b")]).file("short", b"x"),
        &["NUL"],
    );
    refused(
        Tar::new().file(".", b"x"),
        &["\".\"", "must be a directory"],
    );
}

#[test]
fn symbolic_links_as_parents_stay_inside() {
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let target = outside.path().to_str().unwrap();
    // The target does not exist inside the layer, so the parent is dangling there.
    let tar = Tar::new()
        .symlink("escape", target)
        .file("escape/evil", b"x");
    refused(tar, &["escape/evil", "is not a directory of this layer"]);
    let tar = Tar::new()
        .symlink("a", "../../../../../..")
        .symlink("b", "a/tmp")
        .file("b/evil", b"x");
    refused(tar, &["b/evil", "is not a directory"]);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);

    // `/` in a layer is the layer's root, as in Docker's chroot.
    let fixture = super::fixture();
    let layer = fixture.unpack(Tar::new().symlink("up", "/").file("up/inside", b"x"));
    assert_eq!(std::fs::read(layer.join("inside")).unwrap(), b"x");
    let magic = Tar::new()
        .symlink("self", "/proc/self/root")
        .file("self/evil", b"x");
    refused(magic, &["self/evil"]);
    let looped = Tar::new().symlink("l", "l").file("l/evil", b"x");
    refused(looped, &["l/evil", "is not a directory"]);
    let file = Tar::new().file("f", b"").file("f/evil", b"x");
    refused(file, &["f/evil", "\"f\" is not a directory"]);
}

#[test]
fn hard_links_to_the_outside() {
    refused(
        Tar::new().hard_link("passwd", "../../etc/passwd"),
        &["\"passwd\"", "../../etc/passwd", "not a path of this layer"],
    );
    refused(
        Tar::new().hard_link("passwd", "/etc/passwd"),
        &["\"passwd\"", "/etc/passwd", "not in this layer"],
    );
    refused(
        Tar::new()
            .symlink("etc", "/etc")
            .hard_link("shadow", "etc/shadow"),
        &["\"shadow\"", "not in this layer"],
    );
    refused(Tar::new().hard_link("self", "self"), &["\"self\""]);
    refused(Tar::new().hard_link("root", "/"), &["\"root\""]);

    // A hard link to a symbolic link is that link, and never what it names.
    let fixture = super::fixture();
    let layer = fixture.unpack(Tar::new().symlink("s", "/etc/passwd").hard_link("h", "s"));
    let found = std::fs::read_link(layer.join("h")).unwrap();
    assert_eq!(found.to_str(), Some("/etc/passwd"));
}

#[test]
fn devices_by_policy() {
    let mut head = Head::new(b'4', 0o660);
    head.device = (8, 0);
    let tar = Tar::new().raw(b"dev/sda", &head, b"");
    let refuse = ApplyOptions {
        devices: Devices::Refuse,
        ..ApplyOptions::default()
    };
    refused_with(&tar.clone().finish(), &refuse, &["dev/sda", "not allowed"]);
    let fixture = super::fixture();
    let layer = fixture.unpack(tar);
    let found = std::fs::symlink_metadata(layer.join("dev/sda")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&found), 0x800);
}

#[test]
fn ids_that_would_wrap_to_root() {
    for (uid, gid) in [(1_u64 << 32, 0_u64), (0, 1 << 32), (u64::from(u32::MAX), 0)] {
        let (uid_text, gid_text) = (uid.to_string(), gid.to_string());
        let records: [(&str, &[u8]); 2] =
            [("uid", uid_text.as_bytes()), ("gid", gid_text.as_bytes())];
        refused(
            Tar::new().pax(&records).file("su", b"x"),
            &["\"su\"", "out of range"],
        );
    }
}

#[test]
fn attributes_of_the_host() {
    for name in [
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.x",
        "foo.bar",
    ] {
        let key = format!("SCHILY.xattr.{name}");
        let tar = Tar::new().pax(&[(&key, b"/etc")]).file("f", b"x");
        refused(tar, &["\"f\"", name, "not allowed"]);
    }
}

#[test]
fn whiteouts_of_nothing() {
    refused(Tar::new().file("d/.wh.", b""), &["d/.wh.", "whiteout"]);
    refused(Tar::new().file("d/.wh..", b""), &["d/.wh..", "whiteout"]);
    refused(Tar::new().file("d/.wh...", b""), &["d/.wh...", "whiteout"]);
    refused(Tar::new().file("../.wh.x", b""), &["../.wh.x", "leaves"]);
}

#[test]
fn limits_of_entries_and_bytes() {
    let mut tar = Tar::new();
    for number in 0..10 {
        tar = tar.file(&format!("f{number}"), b"");
    }
    let few = ApplyOptions {
        max_entries: 9,
        ..ApplyOptions::default()
    };
    refused_with(&tar.finish(), &few, &["\"f9\"", "more than 9 entries"]);

    let bomb = crate::support::gzip(&Tar::new().file("zeros", &vec![0; 4 << 20]).finish());
    assert!(bomb.len() < 100_000);
    let small = ApplyOptions {
        max_bytes: 1 << 20,
        ..ApplyOptions::default()
    };
    refused_with(&bomb, &small, &["zeros", "larger than 1048576 bytes"]);
}

#[test]
fn damaged_headers() {
    let good = Tar::new().file("first", b"x").file("second", b"y").finish();
    let mut bad = good.clone();
    bad[1024 + 3] ^= 1;
    refused_with(&bad, &ApplyOptions::default(), &["first", "checksum"]);
    let mut head = Head::new(b'0', 0o644);
    head.size = Some(1 << 20);
    refused(
        Tar::new().raw(b"cut", &head, b"abc"),
        &["cut", "ends in the middle"],
    );
    refused(
        Tar::new().raw(b"odd", &Head::new(b'Z', 0o644), b""),
        &["odd", "unknown type"],
    );
    let records: [(&str, &[u8]); 1] = [("size", b"99999999999999999999")];
    refused(Tar::new().pax(&records).file("f", b"x"), &["PAX"]);
    let mut huge = Head::new(b'x', 0o644);
    huge.size = Some(1 << 40);
    refused(Tar::new().raw(b"pax", &huge, b""), &["1 MiB"]);
    refused(Tar::new().pax(&[("path", b"x")]), &["without an entry"]);
    let mut lone = Tar::new().file("first", b"").data(&[0; 512]).unfinished();
    lone.extend(Tar::new().file("hidden", b"").finish());
    refused_with(
        &lone,
        &ApplyOptions::default(),
        &["first", "lone zero block"],
    );
}

#[test]
fn the_pax_size_rules_not_the_header() {
    // Readers that trust the header see an entry `hidden` inside the data (CVE-2025-62518).
    let hidden = Tar::new().file("hidden", b"").unfinished();
    let size = hidden.len().to_string();
    let mut head = Head::new(b'0', 0o644);
    head.size = Some(0);
    let tar = Tar::new()
        .pax(&[("size", size.as_bytes())])
        .raw(b"outer", &head, &hidden);
    let fixture = super::fixture();
    let layer = fixture.unpack(tar.file("after", b"x"));
    assert!(!layer.join("hidden").exists());
    assert_eq!(std::fs::read(layer.join("outer")).unwrap(), hidden);
    assert!(layer.join("after").exists());
}

/// Flips bytes of an archive that has everything; whatever it then says, the store survives and
/// nothing appears outside the layer.
#[test]
fn random_damage_is_survived() {
    let fixture = super::fixture();
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let mut device = Head::new(b'3', 0o600);
    device.device = (1, 3);
    let whole = Tar::new()
        .dir("d", 0o755)
        .pax(&[
            ("path", b"d/long"),
            ("mtime", b"1.5"),
            ("SCHILY.xattr.user.a", b"b"),
        ])
        .file("x", b"content")
        .hard_link("h", "d/long")
        .symlink("s", "../../../outside")
        .file("s2", b"x")
        .raw(b"null", &device, b"")
        .file("d/.wh.gone", b"")
        .raw(b"././@LongLink", &Head::new(b'L', 0), b"d/longer\0")
        .file("y", b"more")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"100"),
        ])
        .file("z", &[&b"1\n90\n5\n"[..], &[0; 505], b"hello"].concat())
        .finish();
    assert!(fixture.apply(&whole).is_ok());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).unwrap();
            fix_checksum(&mut bytes, at - at % 512);
        }
        match fixture.apply(&bytes) {
            Ok(_) => accepted += 1,
            Err(_) => rejected += 1,
        }
    }
    assert!(
        accepted > 0 && rejected > 0,
        "{accepted} accepted, {rejected} rejected"
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(fixture.leftovers().is_empty());
}

/// Makes the checksum fit again, so that the damage is read and not only detected.
fn fix_checksum(bytes: &mut [u8], block: usize) {
    let Some(block) = bytes.get_mut(block..block + 512) else {
        return;
    };
    if &block[257..262] != b"ustar" {
        return;
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The names of a layer are in memory until its end: what they take is limited.
#[test]
fn names_and_attributes_are_bounded() {
    let fixture = super::fixture();
    let apply = |tar: Tar| {
        let options = storage::ApplyOptions {
            max_entries: 2000,
            max_memory: 100_000,
            ..storage::ApplyOptions::default()
        };
        fixture.store.layers().apply(&tar.finish()[..], &options)
    };
    let mut many = Tar::new();
    for number in 0..2001 {
        many = many.file(&number.to_string(), b"");
    }
    let error = apply(many).unwrap_err();
    assert!(
        chain_text(&error).contains("more than 2000 entries"),
        "{error}"
    );
    let images = fixture.store.layers().format().unwrap() == storage::Format::Erofs;
    let mut long = Tar::new();
    let mut large = Tar::new();
    for number in 0..500 {
        let name = format!("{number:0>250}");
        long = long.pax(&[("path", name.as_bytes())]).file("x", b"");
        let value = vec![b'v'; 1000];
        large = large
            .pax(&[("SCHILY.xattr.user.x", &value)])
            .dir(&number.to_string(), 0o755);
    }
    for tar in [long, large] {
        match apply(tar) {
            // a folder keeps them on the disk
            Ok(_) => assert!(!images),
            Err(error) => assert!(
                chain_text(&error).contains("take more than 100000"),
                "{error}"
            ),
        }
    }
    assert!(fixture.leftovers().is_empty());
}

/// A file of many terabytes with a byte here and there: it takes no room, or is refused.
#[test]
fn sparse_files_of_any_size_take_little() {
    let fixture = super::fixture();
    let sparse = |size: u64, pieces: &[(u64, u64)]| {
        let mut map = Vec::new();
        map.extend_from_slice(format!("{}\n", pieces.len()).as_bytes());
        for (at, length) in pieces {
            map.extend_from_slice(format!("{at}\n{length}\n").as_bytes());
        }
        map.resize(map.len().next_multiple_of(512), 0);
        let data: u64 = pieces.iter().map(|(_, length)| length).sum();
        map.extend(std::iter::repeat_n(b'd', usize::try_from(data).unwrap()));
        let size = size.to_string();
        let tar = Tar::new().pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ]);
        tar.file("x", &map)
    };
    let size = 4_u64 << 40;
    let tar = sparse(size, &[(5, 10), (3 << 40, 5000), (size - 1, 1)]);
    let layer = fixture.image(&[tar]);
    let path = fixture.files(&layer).join("sparse");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
    let file = std::fs::File::open(&path).unwrap();
    let at = |offset: u64| {
        let mut bytes = [9; 4];
        let length = std::os::unix::fs::FileExt::read_at(&file, &mut bytes, offset).unwrap();
        bytes[..length].to_vec()
    };
    assert_eq!(at(3), [0, 0, b'd', b'd']);
    assert_eq!(at(13), [b'd', b'd', 0, 0]);
    assert_eq!(at((3 << 40) + 4998), [b'd', b'd', 0, 0]);
    assert_eq!(at(size - 2), [0, b'd']);
    assert_eq!(at(1 << 40), [0; 4]);
    assert!(fixture.taken(&layer) < 1 << 20);
    let far = sparse(u64::MAX >> 1, &[(1 << 60, 1)]).finish();
    assert!(fixture.apply(&far).is_err());
    super::check_images(&fixture);
    assert!(fixture.leftovers().is_empty());
}
