//! What the engine tells about itself and its disk.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use api::system::DiskUsage;
use serde_json::Value;
use testkit::engine::Engine;

use crate::bench::{Checks, engine, eventually};

/// Fields of `GET /info` and their types, as dockerd 28.5.2 has them for API 1.51. Those with a question
/// mark may be null; `Containerd` is left out, for there is none.
const INFO: &str = "ID:string Containers:number ContainersRunning:number ContainersPaused:number \
    ContainersStopped:number Images:number Driver:string DriverStatus:list Plugins:object \
    MemoryLimit:bool SwapLimit:bool CpuCfsPeriod:bool CpuCfsQuota:bool CPUShares:bool CPUSet:bool \
    PidsLimit:bool IPv4Forwarding:bool Debug:bool NFd:number OomKillDisable:bool NGoroutines:number \
    SystemTime:string LoggingDriver:string CgroupDriver:string CgroupVersion:string \
    NEventsListener:number KernelVersion:string OperatingSystem:string OSVersion:string OSType:string \
    Architecture:string IndexServerAddress:string RegistryConfig:object NCPU:number MemTotal:number \
    GenericResources:null DockerRootDir:string HttpProxy:string HttpsProxy:string NoProxy:string \
    Name:string Labels:list ExperimentalBuild:bool ServerVersion:string Runtimes:object \
    DefaultRuntime:string Swarm:object LiveRestoreEnabled:bool Isolation:string InitBinary:string \
    ContainerdCommit:object RuncCommit:object InitCommit:object SecurityOptions:list \
    FirewallBackend:object CDISpecDirs:list Warnings:list?";

/// Those of `GET /version`.
const VERSION: &str = "Platform:object Components:list Version:string ApiVersion:string \
    MinAPIVersion:string GitCommit:string GoVersion:string Os:string Arch:string KernelVersion:string";

/// Fields that are there in some cases: the host's, or the build's.
const SOMETIMES: [&str; 3] = ["KernelMemoryTCP", "DefaultAddressPools", "BuildTime"];

fn get(engine: &Engine, path: &str) -> Value {
    let answer = engine.api("GET", path, "").unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Compares the fields of an answer with a list of names and types.
fn check_fields(checks: &mut Checks, what: &str, value: &Value, expect: &str) {
    let found: BTreeMap<&str, &str> = value
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), kind(value)))
        .filter(|(name, _)| !SOMETIMES.contains(name))
        .collect();
    let expect: BTreeMap<&str, &str> = expect
        .split_whitespace()
        .map(|pair| pair.split_once(':').unwrap())
        .collect();
    for name in found.keys().chain(expect.keys()) {
        let is_so = match (found.get(name), expect.get(name)) {
            (Some(found), Some(expect)) => match expect.strip_suffix('?') {
                Some(expect) => [expect, "null"].contains(found),
                None => found == expect,
            },
            _ => false,
        };
        checks.note(is_so, || {
            format!(
                "{what}.{name}: {:?} for {:?}",
                found.get(name),
                expect.get(name)
            )
        });
    }
}

#[test]
fn info_and_version_have_dockers_fields() {
    let engine = engine();
    let mut checks = Checks::default();
    let info = get(&engine, "/v1.51/info");
    check_fields(&mut checks, "info", &info, INFO);
    check_fields(
        &mut checks,
        "info.Swarm",
        &info["Swarm"],
        "NodeID:string NodeAddr:string LocalNodeState:string ControlAvailable:bool Error:string \
         RemoteManagers:null",
    );
    check_fields(
        &mut checks,
        "info.Plugins",
        &info["Plugins"],
        "Volume:list Network:list Authorization:null Log:list",
    );
    check_fields(
        &mut checks,
        "info.RegistryConfig",
        &info["RegistryConfig"],
        "IndexConfigs:object InsecureRegistryCIDRs:list Mirrors:list?",
    );
    check_fields(
        &mut checks,
        "info.RegistryConfig.IndexConfigs",
        &info["RegistryConfig"]["IndexConfigs"]["docker.io"],
        "Mirrors:list Name:string Official:bool Secure:bool",
    );
    let version = get(&engine, "/v1.51/version");
    check_fields(&mut checks, "version", &version, VERSION);
    let details = &version["Components"][0]["Details"];
    let expect = "ApiVersion:string Arch:string BuildTime:string Experimental:string GitCommit:string \
         GoVersion:string KernelVersion:string MinAPIVersion:string Os:string";
    for name in expect
        .split_whitespace()
        .filter_map(|p| p.split(':').next())
    {
        checks.note(details[name].is_string(), || format!("no detail {name}"));
    }
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(info["FirewallBackend"]["Driver"], "nftables");
    engine.docker("info").shows("Server Version");
    engine.docker("version").shows("API version:      1.51");
    engine
        .docker("info --format '{{.Swarm.LocalNodeState}}'")
        .prints("inactive");
}

#[test]
fn older_clients_get_what_they_knew() {
    let engine = engine();
    let info = |version: &str| get(&engine, &format!("/{version}/info"));
    assert!(info("v1.51")["BridgeNfIptables"].is_null());
    assert_eq!(info("v1.49")["BridgeNfIptables"], false);
    let (old, new) = (info("v1.48"), info("v1.49"));
    assert_eq!(old["RuncCommit"]["Expected"], old["RuncCommit"]["ID"]);
    assert!(new["RuncCommit"].get("Expected").is_none());
    let registries = |info: &Value| info["RegistryConfig"].as_object().unwrap().len();
    assert_eq!(registries(&old), registries(&new) + 2);
    assert_eq!(
        info("v1.25")["SecurityOptions"][0],
        "name=seccomp,profile=builtin"
    );
    assert_eq!(info("v1.24")["SecurityOptions"][0], "seccomp");
    let usage = |version: &str| get(&engine, &format!("/{version}/system/df"));
    assert!(usage("v1.51").get("BuilderSize").is_none());
    assert_eq!(usage("v1.41")["BuilderSize"], 0);
}

#[test]
fn pings_say_what_clients_negotiate_by() {
    let engine = engine();
    for (method, body) in [("GET", "OK"), ("HEAD", "")] {
        let answer = engine.api(method, "/_ping", "").unwrap();
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, body.as_bytes()),
            "{method}"
        );
        let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        for (name, expect) in [
            ("api-version", "1.51"),
            ("builder-version", "2"),
            ("cache-control", "no-cache, no-store, must-revalidate"),
            ("content-type", "text/plain; charset=utf-8"),
            ("docker-experimental", "false"),
            ("ostype", "linux"),
            ("pragma", "no-cache"),
            ("swarm", "inactive"),
        ] {
            assert_eq!(header(name), expect, "{method} {name}");
        }
    }
    assert_eq!(engine.api("OPTIONS", "/info", "").unwrap().status, 200);
}

/// Bytes that `du` counts.
fn du(path: &Path) -> u64 {
    let output = Command::new("du")
        .args(["-s", "-B1"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn usage(engine: &Engine) -> DiskUsage {
    serde_json::from_value(get(engine, "/v1.51/system/df")).unwrap()
}

#[test]
fn every_byte_is_accounted_for() {
    let engine = engine();
    engine
        .docker(
            "run --name writer -v data:/data busybox sh -c \
             'seq 1 100000; head -c 3000000 /dev/zero > /file; ln /file /again; \
              head -c 2000000 /dev/zero > /data/file; truncate -s 1000000000 /data/hole'",
        )
        .ok();
    engine.docker("tag busybox second:1").ok();
    engine
        .docker("create --name idle -v /anonymous busybox")
        .ok();
    let root = engine.root_folder();
    // the database may have written a page in between
    let mut found = usage(&engine);
    eventually("what is told is what du counts", || {
        found = usage(&engine);
        let total = found.gorae.as_ref().unwrap().total;
        total.abs_diff(du(&root).cast_signed()) <= 64 << 10
    });
    let account = found.gorae.clone().unwrap();
    let parts = [
        account.blobs,
        account.snapshots,
        account.containers,
        account.logs,
        account.volumes,
        account.build_cache,
        account.metadata,
        account.other,
    ];
    assert_eq!(parts.iter().sum::<i64>(), account.total);
    assert!(
        account.logs >= 588_895,
        "the lines of seq and more: {account:?}"
    );
    assert!(
        (3_000_000..4_000_000).contains(&account.containers),
        "{account:?}"
    );
    assert!(
        (2_000_000..3_000_000).contains(&account.volumes),
        "{account:?}"
    );

    let containers = found.containers.unwrap();
    let size = |name: &str| {
        let named = |c: &&api::container::Summary| c.names.as_ref().unwrap()[0] == name;
        containers.iter().find(named).unwrap().size_rw
    };
    assert!(
        (3_000_000..3_100_000).contains(&size("/writer")),
        "a file with two names once"
    );
    assert_eq!(size("/idle"), 0);
    let volumes = found.volumes.unwrap();
    let data = volumes.iter().find(|v| v.name == "data").unwrap();
    let data = data.usage_data.clone().unwrap();
    assert_eq!(data.ref_count, 1);
    assert!(
        (2_000_000..2_100_000).contains(&data.size),
        "holes take nothing: {data:?}"
    );
    // one layer, whatever names it has
    let images = found.images.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(
        (images[0].size, images[0].shared_size),
        (found.layers_size, 0)
    );
    assert_eq!(images[0].containers, 2);

    let table = engine.gorae("system df -v").ok().to_owned();
    for text in [
        "Every byte on the disk:",
        "Logs",
        "Metadata",
        "Total",
        "WRITTEN",
        "writer",
    ] {
        assert!(table.contains(text), "{table}");
    }
    engine
        .docker("system df -v")
        .shows("Local Volumes space usage:");
    engine.docker("rm -v writer idle").ok();
    engine.docker("volume rm data").ok();
    eventually("all of it is given back", || {
        let after = usage(&engine).gorae.unwrap();
        (after.logs, after.containers) == (0, 0) && after.volumes < 100_000
    });
}

#[test]
fn layers_of_several_images_are_shared() {
    let engine = engine();
    let one = testkit::image::Archive::new()
        .file("one", &[b'1'; 50_000], 0o644)
        .unwrap()
        .finish()
        .unwrap();
    engine.import_with(&["import", "-", "one"], &one).unwrap();
    // the same layer by another configuration is another image
    engine
        .import_with(&["import", "-c", "ENV a=b", "-", "two"], &one)
        .unwrap();
    let found = usage(&engine);
    let images = found.images.unwrap();
    let shared: Vec<i64> = images.iter().map(|image| image.shared_size).collect();
    let sizes: i64 = images.iter().map(|image| image.size).sum();
    assert_eq!(
        shared.iter().filter(|size| **size == 50_000).count(),
        2,
        "{shared:?}"
    );
    assert_eq!(found.layers_size, sizes - 50_000);
}

#[test]
fn types_of_disk_usage() {
    let engine = engine();
    for (types, there) in [
        ("type=container", "Containers"),
        ("type=image", "Images"),
        ("type=volume", "Volumes"),
        ("type=build-cache", "BuildCache"),
        ("type=image&type=volume", "Images Volumes"),
        ("verbose=1", "Images Containers Volumes BuildCache Gorae"),
    ] {
        let found = get(&engine, &format!("/v1.51/system/df?{types}"));
        for name in ["Images", "Containers", "Volumes", "BuildCache", "Gorae"] {
            let is_there = found.get(name).is_some_and(|value| !value.is_null());
            let expect = there.split(' ').any(|word| word == name);
            assert_eq!(is_there, expect, "{types}: {name}: {found}");
        }
    }
    // the parameter is of API 1.42
    let old = get(&engine, "/v1.41/system/df?type=nosuch");
    assert!(old["Images"].is_array(), "{old}");
}

/// Sizes are told while containers write, and nobody waits for long.
#[test]
fn sizes_while_containers_write() {
    let engine = engine();
    engine
        .docker(
            "run -d --name busy busybox sh -c \
             'while true; do mkdir -p /d/$((i % 50)); echo x > /d/$((i % 50))/$i; \
              rm -rf /d/$(((i + 25) % 50)); i=$((i+1)); done'",
        )
        .ok();
    for _ in 0..20 {
        let found = usage(&engine);
        assert!(found.gorae.unwrap().total > 0);
        engine.docker("ps -s").shows("busy");
    }
    let folder = std::fs::metadata(engine.root_folder()).unwrap();
    assert!(folder.blocks() > 0);
    engine.docker("rm -f busy").ok();
}

#[test]
fn system_prune_by_both_clients() {
    let engine = engine();
    for client in testkit::docker::Client::BOTH {
        for line in [
            "run --name done --label keep=no busybox true",
            "run --name kept --label keep=yes busybox true",
            "network create --label keep=no shut",
            "network create --label keep=yes open",
            "volume create --label keep=no named",
        ] {
            engine.run(client, line).ok();
        }
        let anonymous = engine
            .run(client, "volume create --label keep=no")
            .ok()
            .to_owned();
        let said = engine.run(client, "system prune -f --filter label!=keep=yes");
        for text in [
            "Deleted Containers:",
            "Deleted Networks:\nshut",
            "Total reclaimed space: ",
        ] {
            assert!(said.ok().contains(text), "{said:?}");
        }
        engine
            .run(client, "ps -a --format '{{.Names}}'")
            .prints("kept");
        let networks = engine.run(
            client,
            "network ls --filter type=custom --format '{{.Name}}'",
        );
        networks.prints("open");
        let said = engine.run(client, "system prune -f --volumes --filter label=keep=no");
        assert!(said.ok().contains(&anonymous), "{said:?}");
        engine.run(client, "volume ls -q").prints("named");
        for line in ["rm kept", "network rm open", "volume rm named"] {
            engine.run(client, line).ok();
        }
        let said = engine.run(client, "system prune -a -f");
        assert!(said.ok().contains("busybox"), "{said:?}");
        engine.import("busybox").unwrap();
    }
}
