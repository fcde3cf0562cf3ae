//! `gorae image referrers` and `attach`: what is stored beside an image, and about it.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::tabwriter::align;
use crate::{output, remote, units};
use anyhow::Context;
use distribution::{Attachment, BlobSource, RegistryError, Repository, chain, empty_config};
use oci::Reference;
use oci::image::Descriptor;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

pub(crate) static REFERRERS: Verb = Verb {
    about: "List what refers to an image in its registry: signatures, bills of material, attachments",
    usage: "[OPTIONS] IMAGE",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::one("artifact-type", "type", "Only what is of this type"),
        Flag::one("format", "string", "\"table\" or \"json\"").default("table"),
        Flag::switch("insecure", remote::INSECURE),
    ]],
    examples: &[(
        "image referrers --artifact-type application/spdx+json r.example.org/app:1",
        "List the bills of material of an image",
    )],
    run: |call| Box::pin(list(call)),
};

pub(crate) static ATTACH: Verb = Verb {
    about: "Store files beside an image in its registry, as something about it",
    usage: "[OPTIONS] IMAGE FILE... --artifact-type TYPE",
    operands: Operands::at_least(2),
    flags: &[&[
        Flag::many("annotation", "key=value", "Annotation of the attachment"),
        Flag::one("artifact-type", "type", "What it is, a media type"),
        Flag::switch("insecure", remote::INSECURE),
        Flag::one("media-type", "type", "Media type of the files")
            .default("application/octet-stream"),
    ]],
    examples: &[(
        "image attach --artifact-type application/spdx+json r.example.org/app:1 app.spdx.json",
        "Attach a bill of material",
    )],
    run: |call| Box::pin(attach(call)),
};

fn told(error: &RegistryError) -> Failure {
    Failure::message(chain(error))
}

/// What the operand names in its registry now.
async fn subject(call: &Call) -> anyhow::Result<(Reference, Repository, Descriptor)> {
    let reference = remote::reference(&call.operands[0])?;
    let repository = remote::repository(&call.globals, &reference, call.on("insecure")).await?;
    let document = repository.document().await;
    let document = document.map_err(|error| remote::failure(&reference, &error))?;
    Ok((reference, repository, document.descriptor))
}

async fn list(call: &Call) -> anyhow::Result<u8> {
    let json = match call.text("format").unwrap_or("table") {
        "table" => false,
        "json" => true,
        other => {
            let text = format!("unknown format {other:?}: it is \"table\" or \"json\"");
            return Err(Failure::message(text).into());
        }
    };
    let (_, repository, subject) = subject(call).await?;
    let found = repository
        .referrers(&subject.digest, call.text("artifact-type"))
        .await
        .map_err(|error| told(&error))?;
    if json {
        for referrer in &found {
            output::line(serde_json::to_string(referrer)?)?;
        }
        return Ok(0);
    }
    let mut table = "DIGEST\tARTIFACT TYPE\tSIZE\n".to_owned();
    for referrer in &found {
        let size = units::size(i64::try_from(referrer.size).unwrap_or(i64::MAX));
        // a registry's text must not move the terminal's cursor
        let kind = referrer.artifact_type.replace(char::is_control, "?");
        table.push_str(&format!("{}\t{kind}\t{size}\n", referrer.digest));
    }
    output::raw(align(&table).as_bytes())?;
    Ok(0)
}

async fn attach(call: &Call) -> anyhow::Result<u8> {
    let artifact_type = call.text_or_empty("artifact-type");
    if artifact_type.is_empty() {
        return Err(call.misused("needs --artifact-type TYPE").into());
    }
    let annotations = call.parsed_list("annotation", |text| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be key=value".to_owned()),
    })?;
    let media_type = call
        .text("media-type")
        .unwrap_or("application/octet-stream");
    let mut files = Vec::new();
    for path in &call.operands[1..] {
        files.push((PathBuf::from(path), describe(Path::new(path), media_type)?));
    }
    let (reference, repository, subject) = subject(call).await?;
    for (path, layer) in &files {
        let source = source(path.clone());
        let pushed = repository.push_blob(layer, &[], &source).await;
        pushed.map_err(|error| told(&error))?;
    }
    let attachment = Attachment {
        artifact_type,
        config: empty_config(),
        layers: files.into_iter().map(|(_, layer)| layer).collect(),
        annotations: annotations.into_iter().collect(),
        subject,
    };
    let made = repository.attach(&attachment).await;
    let made = made.map_err(|error| told(&error))?;
    output::line(format!("{}@{}", reference.familiar_name(), made.digest))?;
    Ok(0)
}

/// What points to a file's content, under the file's name.
fn describe(path: &Path, media_type: &str) -> anyhow::Result<Descriptor> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let (digest, size) = distribution::digest_of_reader(&mut file).with_context(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let title = (
        "org.opencontainers.image.title".to_owned(),
        name.into_owned(),
    );
    Ok(Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: BTreeMap::from([title]),
    })
}

fn source(path: PathBuf) -> BlobSource {
    BlobSource::new(move |offset| -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    })
}
