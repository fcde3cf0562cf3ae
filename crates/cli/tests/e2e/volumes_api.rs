//! Volumes on the API: shapes, filters, the local driver's options, and what each does when it is used.

use api::volume::{ListResponse, Volume};
use serde_json::json;
use testkit::docker::Client;
use testkit::engine::{Engine, EngineOptions};

use crate::bench::{Checks, engine, options};

/// An engine whose mounts nobody else sees.
fn mounting() -> Engine {
    Engine::start(EngineOptions {
        private_etc: true,
        ..options()
    })
    .unwrap()
}

fn create(engine: &Engine, body: &str) -> Volume {
    let answer = engine.api("POST", "/v1.51/volumes/create", body).unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 201, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn shapes_are_dockers() {
    let engine = engine();
    let place = engine.root_folder().join("volumes");
    let made = |body: &str| {
        let answer = engine.api("POST", "/v1.51/volumes/create", body).unwrap();
        let mut value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let object = value.as_object_mut().unwrap();
        let time = object.remove("CreatedAt").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        let path = object.remove("Mountpoint").unwrap();
        assert!(path.as_str().unwrap().starts_with(place.to_str().unwrap()));
        value
    };
    assert_eq!(
        made(r#"{"Name":"one"}"#),
        json!({"Driver": "local", "Labels": null, "Name": "one", "Options": null, "Scope": "local"})
    );
    assert_eq!(
        made(
            r#"{"Name":"two","Labels":{"a":"b"},"DriverOpts":{"type":"tmpfs","device":"tmpfs","o":"size=1m"}}"#
        ),
        json!({
            "Driver": "local", "Labels": {"a": "b"}, "Name": "two", "Scope": "local",
            "Options": {"device": "tmpfs", "o": "size=1m", "type": "tmpfs"}
        })
    );
    // who asks again gets what is there, whatever else they ask for
    let again = create(
        &engine,
        r#"{"Name":"two","Labels":{"c":"d"},"DriverOpts":{"type":"nfs","device":":/"}}"#,
    );
    assert_eq!(again.labels.unwrap()["a"], "b");
    assert_eq!(again.options.unwrap()["type"], "tmpfs");
    let other = engine
        .api(
            "POST",
            "/v1.51/volumes/create",
            r#"{"Name":"two","Driver":"nosuch"}"#,
        )
        .unwrap();
    assert_eq!(other.status, 409);
    let anonymous = create(&engine, "{}");
    assert_eq!(anonymous.name.len(), 64);
    assert_eq!(anonymous.labels.unwrap()["com.docker.volume.anonymous"], "");
    let longest = "a".repeat(255);
    assert_eq!(
        create(&engine, &format!(r#"{{"Name":"{longest}"}}"#)).name,
        longest
    );
}

#[test]
fn filters_of_lists() {
    let engine = engine();
    create(&engine, r#"{"Name":"sv1","Labels":{"a":"b"}}"#);
    create(&engine, r#"{"Name":"sv2","Labels":{"a":"c"}}"#);
    create(&engine, r#"{"Name":"other"}"#);
    engine.docker("create --name user -v sv1:/x busybox").ok();
    let mut checks = Checks::default();
    for (filters, names) in [
        ("", "other sv1 sv2"),
        (r#"{"name":["sv"]}"#, "sv1 sv2"),
        (r#"{"name":["v1","oth"]}"#, "other sv1"),
        (r#"{"name":["^v"]}"#, ""),
        (r#"{"driver":["local"]}"#, "other sv1 sv2"),
        (r#"{"driver":["loc"]}"#, ""),
        (r#"{"label":["a"]}"#, "sv1 sv2"),
        (r#"{"label":["a=b"]}"#, "sv1"),
        (r#"{"label":["a","nosuch"]}"#, ""),
        (r#"{"dangling":["true"]}"#, "other sv2"),
        (r#"{"dangling":["0"]}"#, "sv1"),
        (r#"{"dangling":{"true":true},"label":{"a":true}}"#, "sv2"),
    ] {
        let escaped: String = filters.bytes().map(|b| format!("%{b:02x}")).collect();
        let path = format!("/v1.51/volumes?filters={escaped}");
        let answer = engine.api("GET", &path, "").unwrap();
        let list: ListResponse = serde_json::from_slice(&answer.body).unwrap();
        let found: Vec<String> = list.volumes.unwrap().into_iter().map(|v| v.name).collect();
        checks.note(found.join(" ") == names, || format!("{filters}: {found:?}"));
        checks.note(list.warnings.is_none(), || format!("{:?}", list.warnings));
    }
    engine.docker("rm user").ok();
}

/// A volume in memory is one for all who use it, and ends with the last of them.
#[test]
fn a_volume_in_memory_is_shared() {
    let mut engine = mounting();
    for client in Client::BOTH {
        engine
            .run(
                client,
                "volume create -o type=tmpfs -o device=tmpfs -o o=size=2m,mode=1700 mem",
            )
            .prints("mem");
        engine
            .run(client, "run -d --name one -v mem:/m busybox sleep 1000")
            .ok();
        engine
            .run(client, "run -d --name two -v mem:/m:ro busybox sleep 1000")
            .ok();
        engine
            .run(client, "exec one sh -c 'echo hello > /m/f'")
            .ok();
        engine.run(client, "exec two cat /m/f").prints("hello");
        engine.run(client, "exec two touch /m/g").fails(1);
        engine
            .run(client, "exec one stat -f -c %T /m")
            .prints("tmpfs");
        engine.run(client, "exec one stat -c %a /m").prints("1700");
        engine
            .run(
                client,
                "exec one sh -c 'head -c 4000000 /dev/zero > /m/big'",
            )
            .fails(1);
        engine.run(client, "rm -f one").ok();
        engine.run(client, "exec two cat /m/f").prints("hello");
        // it outlives the engine, and the next one knows who uses it
        engine.kill9().unwrap();
        engine.restart().unwrap();
        engine
            .run(client, "run --rm -v mem:/m busybox cat /m/f")
            .prints("hello");
        engine.run(client, "rm -f two").ok();
        engine
            .run(client, "run --rm -v mem:/m busybox ls /m")
            .prints("");
        let folder = engine.root_folder().join("volumes/mem/_data");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        engine.run(client, "volume rm mem").ok();
    }
}

#[test]
fn a_volume_that_is_a_folder_of_the_host() {
    let engine = mounting();
    let folder = engine.home().join("data");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("here"), "host").unwrap();
    let device = folder.to_str().unwrap();
    for (name, option) in [("bound", "bind"), ("shut", "bind,ro,noexec")] {
        engine
            .docker(&format!(
                "volume create -o type=none -o device={device} -o o={option} {name}"
            ))
            .ok();
    }
    engine
        .docker("run --rm -v bound:/d busybox sh -c 'cat /d/here; echo box > /d/there'")
        .prints("host");
    assert_eq!(
        std::fs::read_to_string(folder.join("there")).unwrap(),
        "box\n"
    );
    engine
        .docker("run --rm -v shut:/d busybox touch /d/x")
        .complains(1, "Read-only file system");
    // by --mount, with the driver's options
    engine
        .docker(&format!(
            "run --rm --mount type=volume,src=third,dst=/d,volume-opt=type=none,volume-opt=device={device},volume-opt=o=bind busybox cat /d/here"
        ))
        .prints("host");
    engine
        .docker("volume inspect -f '{{.Options.o}}' third")
        .prints("bind");
    engine.docker("volume rm bound shut third").ok();
    assert!(
        folder.join("here").exists(),
        "the host's own is not removed"
    );
}

#[test]
fn mounts_that_fail_are_told() {
    let engine = mounting();
    let place = engine.root_folder().join("volumes");
    engine
        .docker("volume create -o type=none -o device=/nosuch/x -o o=bind gone")
        .ok();
    engine
        .docker("volume create -o type=nosuchfs -o device=none -o o=ro,a=b odd")
        .ok();
    // Docker's command line takes a file that is missing for a program that is
    for (name, code, text) in [
        (
            "gone",
            127,
            "mount /nosuch/x:PLACE/gone/_data, flags: 0x1000: no such file or directory",
        ),
        (
            "odd",
            125,
            "mount none:PLACE/odd/_data, flags: 0x1, data: a=b: no such device",
        ),
    ] {
        let text = text.replace("PLACE", place.to_str().unwrap());
        let text = format!(
            "error while mounting volume '{}/{name}/_data': failed to mount local volume: {text}",
            place.display()
        );
        engine
            .docker(&format!("run --rm -v {name}:/x busybox true"))
            .complains(code, &text);
    }
    engine.docker("ps -aq").prints("");
    engine.docker("volume rm gone odd").ok();
}

#[test]
fn prune_by_label_and_all() {
    let engine = engine();
    create(&engine, r#"{"Name":"kept","Labels":{"keep":"yes"}}"#);
    create(&engine, r#"{"Name":"named"}"#);
    let anonymous = create(&engine, r#"{"Labels":{"keep":"yes"}}"#).name;
    create(&engine, "{}");
    let left = || {
        let mut names: Vec<String> = engine
            .docker("volume ls -q")
            .ok()
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    let mut expect = vec!["kept".to_owned(), "named".to_owned(), anonymous.clone()];
    expect.sort();
    engine.docker("volume prune -f --filter label!=keep").ok();
    assert_eq!(left(), expect);
    engine
        .docker("volume prune -f --filter all=1 --filter label!=keep=yes")
        .shows("named");
    expect.retain(|name| name != "named");
    assert_eq!(left(), expect);
    engine.docker("volume prune -f").shows(&anonymous);
    assert_eq!(left(), ["kept"]);
    engine.docker("volume prune -a -f").shows("kept");
    assert!(left().is_empty());
}
