//! Compiles crate `hello` by rustc alone and packs it as an OCI image layout (image-layout.md).
//!
//! Not by cargo: a build inside a build would wait for the lock that the outer one holds.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The time of everything in the image: the same sources shall give the same image.
const CREATED: &str = "2026-01-01T00:00:00Z";
const CREATED_SECONDS: u64 = 1_767_225_600;

const PASSWD: &str = "root:x:0:0:root:/:/hello\nnobody:x:65534:65534:nobody:/:/hello\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let hello = Path::new("../hello");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", hello.join("src").display());
    println!(
        "cargo::rerun-if-changed={}",
        hello.join("Cargo.toml").display()
    );
    let out = PathBuf::from(variable("OUT_DIR")?);
    let program = compile(&hello.join("src/main.rs"), &out)?;
    let layout = layout(&layer(&program)?)?;
    fs::write(out.join("hello.tar"), layout)?;
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|error| format!("{name} of cargo: {error}").into())
}

/// Compiles the program, small and static, and gives its bytes.
fn compile(source: &Path, out: &Path) -> Result<Vec<u8>> {
    let program = out.join("hello");
    let mut command = Command::new(variable("RUSTC")?);
    command.args([
        "--crate-name",
        "hello",
        "--crate-type",
        "bin",
        "--edition",
        "2024",
    ]);
    command.args(["--target", &variable("TARGET")?, "--cap-lints", "warn"]);
    for option in [
        "opt-level=s",
        "panic=abort",
        "lto=fat",
        "codegen-units=1",
        "target-feature=+crt-static",
        "strip=symbols",
    ] {
        command.args(["-C", option]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        command.arg("-C").arg(format!("linker={linker}"));
    }
    // no path of the machine that builds belongs in the image
    let here = env::current_dir()?;
    let root = here.parent().and_then(Path::parent).unwrap_or(&here);
    command.arg(format!("--remap-path-prefix={}=.", root.display()));
    command.arg("-o").arg(&program).arg(source);
    let status = command
        .status()
        .map_err(|error| format!("start rustc: {error}"))?;
    if !status.success() {
        return Err(format!("compile {}: rustc ended with {status}", source.display()).into());
    }
    Ok(fs::read(program)?)
}

/// The one layer: the program, and the few files that programs look for.
fn layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "etc/", 0o755, &[])?;
    append(&mut layer, "etc/group", 0o644, GROUP.as_bytes())?;
    append(&mut layer, "etc/passwd", 0o644, PASSWD.as_bytes())?;
    append(&mut layer, "hello", 0o755, program)?;
    append(&mut layer, "tmp/", 0o1777, &[])?;
    Ok(layer.into_inner()?)
}

/// Appends a file, or a folder where the name ends with a slash, owned by root.
fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    let kind = if name.ends_with('/') {
        tar::EntryType::Directory
    } else {
        tar::EntryType::Regular
    };
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(CREATED_SECONDS);
    header.set_size(u64::try_from(bytes.len())?);
    archive.append_data(&mut header, name, bytes)?;
    Ok(())
}

/// The layout: the layer's blob, and what leads to it.
fn layout(layer: &[u8]) -> Result<Vec<u8>> {
    let architecture = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => return Err(format!("no OCI name is known for the architecture {other}").into()),
    };
    let config = serde_json::to_vec(&config(architecture, &digest(layer)))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["platform"] = json!({"architecture": architecture, "os": "linux"});
    entry["annotations"] =
        json!({"org.opencontainers.image.ref.name": "docker.io/gorae/hello:latest"});
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;
    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    append(&mut archive, "index.json", 0o644, &index)?;
    append(&mut archive, "blobs/", 0o755, &[])?;
    append(&mut archive, "blobs/sha256/", 0o755, &[])?;
    for blob in [&manifest, &config, layer] {
        append(
            &mut archive,
            &format!("blobs/sha256/{}", hash(blob)),
            0o644,
            blob,
        )?;
    }
    Ok(archive.into_inner()?)
}

/// The image's configuration (config.md of the OCI image specification).
fn config(architecture: &str, diff_id: &str) -> Value {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    json!({
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/hello"],
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "ExposedPorts": {"8080/tcp": {}},
            // The kernel keeps signals without a handler away from pid 1, std has no way to set a
            // handler, and the program has no unsafe code: a SIGTERM would only cost the grace
            // period. It holds no state that an orderly end could save.
            "StopSignal": "SIGKILL",
            "Labels": {
                "org.opencontainers.image.title": "gorae/hello",
                "org.opencontainers.image.description": "Shows what a container sees",
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.version": version,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": CREATED, "created_by": "crates/builtin/build.rs", "comment": "built with gorae"}],
    })
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hash(bytes))
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
