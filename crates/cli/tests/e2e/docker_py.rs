//! docker-py against the engine.

use std::path::Path;

use testkit::image::{Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::engine;

#[test]
fn docker_py_drives_everything() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    let image = TestImage::busybox().unwrap();
    assert_eq!(image.layers[0].1, Compression::Gzip);
    registry
        .push("test/pulled", "v1", &image.build().unwrap())
        .unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/docker_py.py");
    let name = registry.name();
    let outcome = engine.python(&script, &[&name]).unwrap();
    outcome.shows("all well");
}
