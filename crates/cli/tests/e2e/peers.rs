//! The root with other engines that the tool `peers` beside the checkout keeps.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where the tool lies, beside the checkout.
pub(crate) const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/peers/peers");

/// The root's folder, which is made where it is not there yet, and the tool's network. Nothing where the tool is
/// missing, which is said.
pub(crate) fn root() -> Option<PathBuf> {
    // two tests that made the root at once would make it in the same place
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    ROOT.get_or_init(find).clone()
}

fn find() -> Option<PathBuf> {
    if !Path::new(TOOL).is_file() {
        println!("skipped: there is no {TOOL}, which has the other engines");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // a file and no pipe: what goes on after its end would keep a pipe open
    let file = std::fs::File::create(&log).unwrap();
    let ready = Command::new(TOOL)
        .args(["run", "true"])
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .status()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(ready.success(), "{}", said());
    let path = Command::new(TOOL).arg("path").output().unwrap();
    let path = String::from_utf8(path.stdout).unwrap();
    Some(PathBuf::from(path.trim()))
}
