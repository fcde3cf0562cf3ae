//! Registries that are reached as files say: mirrors, prefixes, and what is told when they fail.

use testkit::image::TestImage;
use testkit::registry::Registry;

use crate::bench::eventually;
use crate::service::{Host, free_port};

/// A registry with `some/thing:1`, which says `from the mirror`.
fn registry() -> Registry {
    let registry = Registry::start().unwrap();
    let image = TestImage::busybox().unwrap().build().unwrap();
    registry.push("some/thing", "1", &image).unwrap();
    registry
}

#[test]
fn any_registry_has_mirrors() {
    let mut host = Host::new();
    let file = host.write("config.toml", "");
    std::fs::create_dir(host.path("registries.d")).unwrap();
    host.gorae(&["--config-file", &file]);
    let address = format!("unix://{}", host.text("run/gorae.sock"));
    let docker = |line: &str| host.docker(&[("DOCKER_HOST", &address)], line);
    let (dead, alive) = (free_port(), registry());
    let alive_at = alive.name();
    // the second mirror has the image; the registry itself does not even have an address
    let text = format!(
        "[[registry]]\nhost = 'quay.example'\n\
         [[registry.mirror]]\naddress = 'http://127.0.0.1:{dead}'\n\
         [[registry.mirror]]\naddress = 'http://{alive_at}'\n"
    );
    host.write("registries.d/quay.toml", &text);
    // files are read again at once, or a moment later
    eventually("the file holds", || {
        let pulled = docker("pull quay.example/some/thing:1");
        pulled.stdout.contains("Status: Downloaded newer image for")
    });
    host.logs("a mirror did not give the image");
    docker("run --rm quay.example/some/thing:1 echo from the mirror").prints("from the mirror");
    // what is said last is the registry's own answer
    docker("pull quay.example/some/other:1").complains(1, "lookup quay.example");
    docker("rmi quay.example/some/thing:1").ok();

    // a mirror that is trusted with content only is asked for the digest that the registry gives
    let own = registry();
    let text = format!(
        "[[registry]]\nhost = 'quay.example'\naddress = 'http://{}'\n\
         [[registry.mirror]]\naddress = 'http://{alive_at}'\ncapabilities = ['pull']\n",
        own.name()
    );
    host.write("registries.d/quay.toml", &text);
    let mut asked = String::new();
    // files are read again at once, or a moment later
    eventually("the new file holds", || {
        drop(docker("rmi quay.example/some/thing:1"));
        let before = alive.log().len();
        let pulled = docker("pull quay.example/some/thing:1");
        asked = alive.log().split_off(before);
        pulled.code == 0 && own.log().contains("HEAD")
    });
    assert!(asked.contains("/manifests/sha256:"), "{asked}");
    assert!(!asked.contains("/manifests/1"), "{asked}");
    docker("rmi quay.example/some/thing:1").ok();
}

#[test]
fn mistakes_in_files_stop_the_pull_and_are_named() {
    let mut host = Host::new();
    let file = host.write("config.toml", "");
    std::fs::create_dir(host.path("registries.d")).unwrap();
    host.gorae(&["--config-file", &file]);
    let address = format!("unix://{}", host.text("run/gorae.sock"));
    let docker = |line: &str| host.docker(&[("DOCKER_HOST", &address)], line);
    let wrong = host.write("registries.d/a.toml", "[[registry]]\nhots = 'x'\n");
    let expect = format!("{wrong}:2: unknown key \"hots\": known are host, address");
    let told = |expect: &str| {
        let pulled = docker("pull 127.0.0.1:9/a:1");
        pulled.code == 1 && pulled.stderr.contains(expect)
    };
    eventually(&expect, || told(&expect));
    let dead = free_port();
    let text =
        format!("[[registry]]\nhost = '127.0.0.1:9'\naddress = 'https://127.0.0.1:{dead}'\n");
    host.write("registries.d/a.toml", &text);
    let expect = format!("connection refused (reached as {wrong} says)");
    eventually(&expect, || told(&expect));
}
