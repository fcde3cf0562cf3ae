//! The image is whole: every digest leads to a blob that has it.

use super::HELLO_IMAGE;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;

fn files(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, (entry.header().mode().unwrap(), bytes));
    }
    files
}

/// Follows a descriptor, and checks its size and digest.
fn blob<'a>(files: &'a BTreeMap<String, (u32, Vec<u8>)>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"]
        .as_str()
        .unwrap()
        .strip_prefix("sha256:")
        .unwrap();
    let bytes = &files[&format!("blobs/sha256/{digest}")].1;
    assert_eq!(hex::encode(Sha256::digest(bytes)), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

#[test]
fn layout_leads_to_the_program() {
    let files = files(HELLO_IMAGE);
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    assert_eq!(json(&files["oci-layout"].1)["imageLayoutVersion"], "1.0.0");
    let index = json(&files["index.json"].1);
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        "docker.io/gorae/hello:latest"
    );
    let manifest = json(blob(&files, entry));
    let config = json(blob(&files, &manifest["config"]));
    assert_eq!(config["config"]["Entrypoint"][0], "/hello");
    assert_eq!(config["config"]["StopSignal"], "SIGKILL");
    assert_eq!(
        config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"],
        "a plain layer is its own diff"
    );
    let layer = self::files(blob(&files, &manifest["layers"][0]));
    assert_eq!(
        layer.keys().collect::<Vec<_>>(),
        ["etc/", "etc/group", "etc/passwd", "hello", "tmp/"]
    );
    let (mode, program) = &layer["hello"];
    assert!(mode & 0o111 == 0o111 && program.starts_with(b"\x7fELF"));
    assert_eq!(layer["tmp/"].0 & 0o7777, 0o1777);
}

/// A static program asks for no interpreter: the image has no libraries.
#[test]
fn program_is_static() {
    const INTERPRETER: u32 = 3;
    let files = files(HELLO_IMAGE);
    let biggest = files
        .values()
        .map(|(_, bytes)| bytes)
        .max_by_key(|bytes| bytes.len())
        .unwrap();
    let layer = self::files(biggest);
    let program = &layer["hello"].1;
    let short =
        |at: usize| usize::from(u16::from_le_bytes(program[at..at + 2].try_into().unwrap()));
    let table = usize::try_from(u64::from_le_bytes(program[32..40].try_into().unwrap())).unwrap();
    let (size, count) = (short(54), short(56));
    let kinds = (0..count).map(|n| &program[table + n * size..][..4]);
    assert!(kinds.clone().count() > 0);
    for kind in kinds {
        assert_ne!(u32::from_le_bytes(kind.try_into().unwrap()), INTERPRETER);
    }
}

/// Names of the machine that built it do not travel with the image.
#[test]
fn no_path_of_the_builder() {
    let workspace = env!("CARGO_MANIFEST_DIR")
        .strip_suffix("/crates/builtin")
        .unwrap();
    assert!(
        !HELLO_IMAGE
            .windows(workspace.len())
            .any(|part| part == workspace.as_bytes())
    );
}
