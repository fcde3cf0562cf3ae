//! Layers as EROFS images and as folders: what containers see of them, and who mounts them.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use testkit::engine::Engine;
use testkit::image::{Archive, Compression, TestImage};
use testkit::registry::Registry;

use crate::bench::{engine, eventually, options};

/// The layers that an engine has mounted, without the folder that they are in.
fn mounted(engine: &Engine) -> Vec<PathBuf> {
    let layers = engine.run_folder().join("layers");
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    let places = places.map(PathBuf::from);
    places
        .filter(|place| place.parent() == Some(&layers))
        .collect()
}

/// What the engine makes new layers of.
fn new_layers(engine: &Engine) -> String {
    let status =
        "{{range .DriverStatus}}{{if eq (index . 0) \"New Layers\"}}{{index . 1}}{{end}}{{end}}";
    let info = engine.docker(&format!("info --format '{status}'"));
    info.ok().trim().to_owned()
}

/// An engine whose layers are images; none where the kernel takes none.
fn engine_of_images() -> Option<Engine> {
    let engine = engine();
    if new_layers(&engine) != "EROFS images" {
        eprintln!("SKIPPED: the kernel takes no EROFS images as layers");
        return None;
    }
    Some(engine)
}

fn layer(name: &str, text: &str) -> Vec<u8> {
    let archive = Archive::new().file(name, text.as_bytes(), 0o644);
    archive.unwrap().finish().unwrap()
}

/// Three hundred layers that each write the same file, on busybox.
fn many_layers(registry: &Registry) {
    let mut image = TestImage::busybox().unwrap();
    for number in 0..300 {
        image = image.with_layer(layer("last", &number.to_string()), Compression::None);
    }
    let image = image.with_config("Cmd", json!(["cat", "/last"]));
    registry
        .push("test/many", "1", &image.build().unwrap())
        .unwrap();
}

#[test]
fn a_container_of_three_hundred_layers_runs() {
    let engine = engine();
    let registry = Registry::start().unwrap();
    many_layers(&registry);
    let name = format!("{}/test/many:1", registry.name());
    engine.docker(&format!("run --rm {name}")).prints("299");
    engine
        .docker(&format!(
            "run --name changed {name} sh -c 'echo new > /last'"
        ))
        .ok();
    engine.docker("diff changed").shows("C /last");
    engine.docker("rm changed").ok();
    engine.docker(&format!("rmi {name}")).ok();
}

#[test]
fn folders_and_images_lie_in_one_store_and_one_stack() {
    let mut options = options();
    options.flags.push("--snapshotter=overlayfs".to_owned());
    let mut engine = Engine::start(options).unwrap();
    assert_eq!(new_layers(&engine), "folders");
    engine.docker("run --rm busybox true").ok();
    assert!(mounted(&engine).is_empty());
    engine
        .docker("run --name old busybox sh -c 'echo one > /one'")
        .ok();
    engine.stop().unwrap();
    engine.add_flag("--snapshotter=auto");
    engine.restart().unwrap();
    if new_layers(&engine) != "EROFS images" {
        eprintln!("SKIPPED: the kernel takes no EROFS images as layers");
        return;
    }
    engine.docker("commit old two").ok();
    engine.docker("run --rm two cat /one").prints("one");
    assert_eq!(mounted(&engine).len(), 1);
    engine.docker("rm old").ok();
    engine.docker("rmi two").ok();
    eventually("nothing is mounted", || mounted(&engine).is_empty());
}

#[test]
fn a_killed_engines_layers_are_taken_over() {
    let Some(mut engine) = engine_of_images() else {
        return;
    };
    engine.docker("run -d --name box busybox sleep 1000").ok();
    let before = mounted(&engine);
    assert_eq!(before.len(), 1);
    engine.kill9().unwrap();
    assert_eq!(mounted(&engine), before, "nobody was there to unmount it");
    engine.restart().unwrap();
    engine.docker("exec box true").ok();
    engine.docker("run --rm busybox true").ok();
    assert_eq!(mounted(&engine), before);
    engine.stop().unwrap();
    assert_eq!(mounted(&engine), before, "a container runs on it");
    engine.restart().unwrap();
    engine.docker("exec box true").ok();
    engine.docker("rm -f box").ok();
    engine.stop().unwrap();
    eventually("nothing is mounted", || mounted(&engine).is_empty());
    engine.restart().unwrap();
    engine.docker("run --rm busybox true").ok();
}

#[test]
fn programs_see_one_file_system() {
    let engine = engine();
    let devices = engine.docker(
        "run --rm busybox sh -c 'touch /new; stat -c %d / /bin /bin/busybox /new | sort -u | wc -l'",
    );
    devices.prints("1");
    let links =
        "cp /bin/busybox /copy; ln /bin/sh /bin/again 2>/dev/null; find / -xdev -name busybox";
    engine
        .docker(&format!("run --rm busybox sh -c '{links}'"))
        .shows("/bin/busybox");
}
