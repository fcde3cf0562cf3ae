//! Scanners that are images: run on a result as BuildKit runs them, they write statements into a folder.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use engine::{StepEnd, StepStream};
use rustix::fs::OFlags;
use serde_json::Value;

use crate::error::{Error, Result, Step as _};
use crate::export::{Attestation, layers::blocking};
use crate::front::gateway;
use crate::job::Job;
use crate::llb::pb;
use crate::ops::exec::container::{Container, ContainerRequest, ProcessRequest};
use crate::progress::{STDERR, STDOUT, VertexProgress};
use crate::snapshot::Snapshot;

/// Where a scanner finds the result, and where it writes.
const SOURCE: &str = "/run/src/core/sbom";
const DESTINATION: &str = "/run/out";
/// The number of the mount that it writes to.
const WRITTEN: i32 = 2;
/// What it has to state.
const SPDX: &str = "https://spdx.dev/Document";
/// Statements of one scan, and the longest.
const MAX_STATEMENTS: usize = 100;
const MAX_STATEMENT: usize = 64 << 20;

/// Runs a scanner on a result.
pub(super) async fn scan(
    job: &Arc<Job>,
    image: &str,
    settings: &BTreeMap<String, String>,
    snapshot: &Snapshot,
    progress: &VertexProgress,
) -> Result<Vec<Attestation>> {
    let found = gateway::find(job, image).await?;
    let defaults = found.defaults;
    let mut args = defaults.entrypoint.unwrap_or_default();
    args.extend(defaults.cmd.unwrap_or_default());
    if args.is_empty() {
        return Err(Error::invalid(format!("scanner {image} does not have cmd")));
    }
    let mut env = defaults.env.unwrap_or_default();
    env.push(format!("BUILDKIT_SCAN_DESTINATION={DESTINATION}/"));
    env.push(format!("BUILDKIT_SCAN_SOURCE={SOURCE}"));
    for (name, value) in settings {
        env.push(format!("BUILDKIT_SCAN_{}={value}", name.to_uppercase()));
    }
    let mount = |dest: &str, input: i64, readonly| pb::Mount {
        dest: dest.to_owned(),
        input,
        output: -1,
        readonly,
        ..pb::Mount::default()
    };
    let temporary = pb::Mount {
        mount_type: pb::MountType::Tmpfs.into(),
        ..mount("/tmp", -1, false)
    };
    let request = ContainerRequest {
        mounts: vec![
            mount("/", 0, false),
            mount(SOURCE, 1, true),
            mount(DESTINATION, -1, false),
            temporary,
        ],
        inputs: vec![found.snapshot, snapshot.clone()],
        ..ContainerRequest::default()
    };
    let container = Container::open(job, request).await?;
    let command = args.join(" ");
    let program = ProcessRequest {
        meta: pb::Meta {
            args,
            env,
            cwd: match defaults.working_dir.is_empty() {
                true => "/tmp".to_owned(),
                false => defaults.working_dir,
            },
            ..pb::Meta::default()
        },
        ..ProcessRequest::default()
    };
    judge(&command, &run(&container, program, progress).await?)?;
    let image = image.to_owned();
    blocking(move || {
        let written = container.files(WRITTEN)?;
        statements(&image, &written)
    })
    .await
}

async fn run(
    container: &Container,
    program: ProcessRequest,
    progress: &VertexProgress,
) -> Result<StepEnd> {
    let mut process = match container.start(program).await? {
        Ok(process) => process,
        Err(end) => return Ok(end),
    };
    while let Some(piece) = process.output.recv().await {
        let stream = match piece.stream {
            StepStream::Stdout => STDOUT,
            StepStream::Stderr => STDERR,
        };
        progress.log(stream, &piece.bytes);
    }
    let end = (&mut process.end).await.step(|| "run a scanner")?;
    Ok(end?)
}

fn judge(command: &str, end: &StepEnd) -> Result<()> {
    if end.cancelled {
        return Err(Error::canceled());
    }
    if end.code == 0 && end.refusal.is_none() {
        return Ok(());
    }
    let why = match &end.refusal {
        Some(refusal) => refusal.clone(),
        None => format!("exit code: {}", end.code),
    };
    let process = crate::ops::quoted(command);
    let message = format!("process {process} did not complete successfully: {why}");
    Err(Error::new(crate::Kind::System, message).with_exit_code(end.code))
}

/// Reads what a scanner has written, which is hostile.
fn statements(image: &str, written: &OwnedFd) -> Result<Vec<Attestation>> {
    let step = || format!("read the statements of {image}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = sys::tree::open(written.as_fd(), Path::new("."), flags).step(step)?;
    let mut names = storage::trees::list(folder.as_fd()).step(step)?;
    names.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    if names.len() > MAX_STATEMENTS {
        return Err(Error::invalid(format!("{image}: too many statements")));
    }
    let mut all = Vec::with_capacity(names.len());
    for (name, _) in names {
        let name = name.to_string_lossy().into_owned();
        let bytes = sys::tree::read_bounded(folder.as_fd(), Path::new(&name), MAX_STATEMENT);
        let bytes = bytes.step(|| format!("read {name} of {image}"))?;
        let wrong =
            |error| Error::invalid(format!("cannot decode in-toto statement {name}: {error}"));
        let mut statement: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        let stated = statement.get("predicateType").and_then(Value::as_str);
        if stated != Some(SPDX) {
            return Err(Error::invalid(format!(
                "bundle entry {} does not match required predicate type {SPDX}",
                stated.unwrap_or_default()
            )));
        }
        all.push(Attestation {
            predicate_type: SPDX.to_owned(),
            predicate: statement["predicate"].take(),
            file: name,
            inline_only: false,
        });
    }
    if all.is_empty() {
        return Err(Error::invalid(format!("scanner {image} stated nothing")));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scanners_write() {
        let folder = tempfile::tempdir().unwrap();
        let read = || {
            let opened = crate::ops::stage::open_folder(folder.path()).unwrap();
            statements("scan", &opened)
        };
        read().unwrap_err();
        let good = format!(r#"{{"predicateType":"{SPDX}","predicate":{{"a":1}}}}"#);
        std::fs::write(folder.path().join("a.json"), &good).unwrap();
        let found = read().unwrap();
        assert_eq!(
            (found[0].file.as_str(), &found[0].predicate["a"]),
            ("a.json", &1.into())
        );
        for wrong in ["", "{}", r#"{"predicateType":"other"}"#] {
            std::fs::write(folder.path().join("b.json"), wrong).unwrap();
            read().unwrap_err();
        }
        // a link leads to no file of the host
        std::fs::remove_file(folder.path().join("b.json")).unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), &good).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("c.json")).unwrap();
        read().unwrap_err();
    }
}
