//! Named volumes, anonymous volumes, and copy-up.

use testkit::docker::Client;
use testkit::engine::Engine;
use testkit::image::Archive;

use crate::bench::engine;

/// An image with content, an owner and a link below `/data`, which it declares as volume.
fn import_with_data(engine: &Engine) {
    let archive = Archive::new()
        .directory("data/", 0o751)
        .unwrap()
        .file("data/file", b"from the image", 0o640)
        .unwrap()
        .symlink("data/link", "file")
        .unwrap()
        .finish()
        .unwrap();
    engine
        .import_with(&["import", "-c", "VOLUME /data", "-", "seed"], &archive)
        .unwrap();
}

#[test]
fn create_list_inspect_remove() {
    let engine = engine();
    for client in Client::BOTH {
        engine
            .run(client, "volume create --label tier=db one")
            .prints("one");
        engine.run(client, "volume create one").prints("one");
        let anonymous = engine.run(client, "volume create").ok().to_owned();
        assert_eq!(anonymous.len(), 64);
        engine
            .run(client, "volume ls -q --filter label=tier=db")
            .prints("one");
        engine
            .run(
                client,
                "volume ls --filter name=one --format '{{.Name}} {{.Driver}} {{.Scope}}'",
            )
            .prints("one local local");
        let table = engine.run(client, "volume ls");
        assert!(table.ok().starts_with("DRIVER    VOLUME NAME"), "{table:?}");
        let place = engine.run(client, "volume inspect -f {{.Mountpoint}} one");
        assert_eq!(
            place.ok(),
            engine
                .root_folder()
                .join("volumes/one/_data")
                .to_str()
                .unwrap()
        );
        engine
            .run(client, "volume inspect nosuch")
            .complains(1, "no such volume");
        engine
            .run(client, "volume rm nosuch")
            .complains(1, "get nosuch: no such volume");
        engine.run(client, "volume create a/b").complains(1, "includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed");
        engine
            .run(client, "volume create --driver nosuch x1")
            .complains(1, "nosuch");
        engine
            .run(client, "create --name box -v one:/data busybox")
            .ok();
        engine
            .run(client, "volume rm one")
            .complains(1, "volume is in use");
        engine
            .run(client, "volume ls -q --filter dangling=true")
            .prints(&anonymous);
        engine.run(client, "rm box").ok();
        engine
            .run(client, &format!("volume rm one {anonymous}"))
            .prints(&format!("one\n{anonymous}"));
        engine.run(client, "volume ls -q").prints("");
    }
}

#[test]
fn an_empty_volume_gets_the_images_content_once() {
    let engine = engine();
    engine
        .docker(
            "run --name src -v cached:/etc busybox sh -c 'echo mine > /etc/passwd; chmod 700 /etc'",
        )
        .ok();
    engine.docker("run --rm -v cached:/etc busybox sh -c 'cat /etc/passwd; stat -c %a /etc; cat /etc/group | wc -l'").prints("mine\n700\n2");
    engine.docker("run --rm -v plain:/etc:nocopy busybox sh -c 'ls /etc | grep -v \"^host\\|^resolv\" | wc -l'").prints("0");
    engine.docker("run --rm --mount type=volume,src=other,dst=/etc,volume-nocopy busybox sh -c 'ls /etc | grep -c passwd'").fails(1);
}

#[test]
fn volumes_of_the_image_are_anonymous_and_go_with_rm_v() {
    let engine = engine();
    import_with_data(&engine);
    engine.docker("create --name box seed /nothing").ok();
    let name = engine.inspect("box", "{{range .Mounts}}{{.Name}}{{end}}");
    assert_eq!(name.len(), 64);
    let folder = engine
        .root_folder()
        .join("volumes")
        .join(&name)
        .join("_data");
    assert_eq!(
        std::fs::read_to_string(folder.join("link")).unwrap(),
        "from the image"
    );
    engine.docker("rm box").ok();
    engine.docker("volume ls -q").prints(&name);
    engine.docker(&format!("volume rm {name}")).ok();
    engine.docker("create --name box seed /nothing").ok();
    engine.docker("rm -v box").ok();
    engine.docker("volume ls -q").prints("");
    // --rm takes them too, but not the named ones
    engine
        .docker("run --rm -v /anonymous -v named:/n busybox true")
        .ok();
    engine.docker("volume ls -q").prints("named");
}

#[test]
fn prune_takes_anonymous_ones_and_all_on_demand() {
    let engine = engine();
    for client in Client::BOTH {
        engine.run(client, "volume create named").ok();
        engine.run(client, "volume create").ok();
        engine
            .run(client, "run -d --name box -v used:/u busybox sleep 1000")
            .ok();
        engine
            .run(client, "volume prune -f")
            .shows("Total reclaimed space");
        let mut left: Vec<String> = engine
            .run(client, "volume ls -q")
            .ok()
            .lines()
            .map(str::to_owned)
            .collect();
        left.sort();
        assert_eq!(left, ["named", "used"]);
        engine.run(client, "volume prune -a -f").shows("named");
        engine.run(client, "volume ls -q").prints("used");
        engine.run(client, "rm -f box").ok();
        engine.run(client, "volume rm used").ok();
    }
}

#[test]
fn volumes_from_another_container() {
    let engine = engine();
    for client in Client::BOTH {
        engine.run(client, "run --name src -v shared:/one -v /two busybox sh -c 'echo 1 > /one/f; echo 2 > /two/f'").ok();
        engine
            .run(
                client,
                "run --rm --volumes-from src busybox cat /one/f /two/f",
            )
            .prints("1\n2");
        engine
            .run(
                client,
                "run --rm --volumes-from src:ro busybox sh -c 'touch /one/g || echo refused'",
            )
            .prints("refused");
        engine.run(client, "rm -v src").ok();
        engine.run(client, "volume rm shared").ok();
    }
}
