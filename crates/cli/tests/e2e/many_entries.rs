//! Archives of very many entries: they come in within bounds of memory, or are refused with the reason.

use tar::{EntryType, Header};
use testkit::engine::{Engine, EngineOptions};

use crate::bench::options;

/// What the engine may take at most, kB.
const MEMORY_MAX: u64 = 120 << 10;

/// An archive of empty files, a thousand a folder.
fn files(count: u32) -> Vec<u8> {
    let mut archive = Vec::new();
    for number in 0..count {
        let folder = number / 1000;
        if number % 1000 == 0 {
            put(
                &mut archive,
                EntryType::Directory,
                &format!("usr/folder-{folder}/"),
            );
        }
        let name = format!("usr/folder-{folder}/file-number-{number}.txt");
        put(&mut archive, EntryType::Regular, &name);
    }
    archive.extend_from_slice(&[0; 1024]);
    archive
}

fn put(archive: &mut Vec<u8>, kind: EntryType, name: &str) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_path(name).unwrap();
    header.set_mode(0o755);
    header.set_size(0);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
}

fn engine(flags: &[&str]) -> Engine {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Engine::start(EngineOptions { flags, ..options() }).unwrap()
}

/// The most memory that the engine had so far, kB.
fn peak(engine: &Engine) -> u64 {
    let status = format!("/proc/{}/status", engine.pid().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.unwrap().split_whitespace().next().unwrap();
    words.parse().unwrap()
}

fn is_well(engine: &Engine) {
    engine.gorae("system check").prints("All is well.");
}

#[track_caller]
fn comes_in(snapshotter: &str, count: u32) {
    let engine = engine(&["--snapshotter", snapshotter]);
    engine
        .import_with(&["import", "-", "many"], &files(count))
        .unwrap();
    let peak = peak(&engine);
    assert!(
        peak < MEMORY_MAX,
        "{count} entries in {snapshotter}: {peak} kB"
    );
    let last = count - 1;
    engine.docker("create --name box many /none").ok();
    let name = format!("box:/usr/folder-{}/file-number-{last}.txt", last / 1000);
    let target = engine.home().join("last");
    engine
        .docker(&format!("cp {name} {}", target.display()))
        .ok();
    assert_eq!(std::fs::metadata(target).unwrap().len(), 0);
    engine.docker("rm box").ok();
    engine.docker("rmi many").ok();
    is_well(&engine);
}

#[test]
fn two_hundred_thousand_in_an_image() {
    comes_in("auto", 200_000);
}

/// Each is a file of the host's file system, which takes its time.
#[test]
fn twenty_thousand_in_a_folder() {
    comes_in("overlayfs", 20_000);
}

#[test]
fn more_than_the_settings_allow_is_refused() {
    let engine = engine(&["--layer-max-entries", "20000"]);
    let refused = engine.import_with(&["import", "-", "many"], &files(20_000));
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("more than 20000 entries"), "{text}");
    engine.docker("images -q many").prints("");
    is_well(&engine);
}

/// Members of the archive around the images, of which most mean nothing.
#[test]
fn an_archive_of_endless_members_is_refused() {
    let engine = engine(&[]);
    let mut archive = Vec::new();
    for number in 0..=100_000 {
        put(
            &mut archive,
            EntryType::Directory,
            &format!("folder-{number}/"),
        );
    }
    archive.extend_from_slice(&[0; 1024]);
    let refused = engine.import_with(&["load"], &archive);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("more than 100000 members"), "{text}");
    let peak = peak(&engine);
    assert!(peak < MEMORY_MAX, "{peak} kB");
    is_well(&engine);
}

/// No path of five thousand bytes can be opened on Linux, whatever its parts are.
#[test]
fn paths_of_five_thousand_bytes_are_refused() {
    let engine = engine(&[]);
    let path = "d/".repeat(2_499) + "ff";
    assert_eq!(path.len(), 5_000);
    for number in 0..2 {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(1);
        if number == 0 {
            // GNU's way
            archive.append_data(&mut header, &path, &b"x"[..]).unwrap();
        } else {
            archive
                .append_pax_extensions([("path", path.as_bytes())])
                .unwrap();
            header.set_path("short").unwrap();
            header.set_cksum();
            archive.append(&header, &b"x"[..]).unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        let refused = engine.import_with(&["import", "-", "deep"], &bytes);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("too long"), "{number}: {text}");
        engine.docker("images -q deep").prints("");
    }
    is_well(&engine);
}
