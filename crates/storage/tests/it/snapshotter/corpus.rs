//! Archives of other programs, and archives that were made to do harm: each is read again.

use std::path::PathBuf;
use std::process::Command;

use super::tree;

fn corpus() -> Vec<(String, PathBuf)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let mut all: Vec<_> = named.collect();
    all.sort();
    all
}

#[test]
fn good_archives_are_as_gnu_tar_extracts_them() {
    let fixture = super::fixture();
    let (mut good, mut bad) = (0, 0);
    for (name, path) in corpus() {
        let applied = fixture.apply(&std::fs::read(&path).unwrap());
        if name.starts_with("bad-") {
            bad += 1;
            assert!(applied.is_err(), "{name}");
            continue;
        }
        good += 1;
        let expected = fixture.dir.path().join(&name);
        std::fs::create_dir(&expected).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "--delay-directory-restore", "-xpzf"]);
        tar.arg(&path).arg("-C").arg(&expected);
        tar.args(["--xattrs", "--xattrs-include=*", "--warning=no-timestamp"]);
        assert!(tar.status().unwrap().success(), "{name}");
        let layer = applied.unwrap().commit(None).unwrap();
        tree::compare(&fixture.files(&layer), &expected, &name);
    }
    assert!(good >= 7 && bad >= 8, "{good} good, {bad} bad");
    super::check_images(&fixture);
    assert!(fixture.leftovers().is_empty());
}
