//! `gorae push`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::pull::{self, Place};
use crate::{auth, connect, output, registry};
use api::client::encode_component;
use api::registry::AuthConfig;

pub(crate) static VERB: Verb = Verb {
    about: "Upload an image to a registry",
    usage: "[OPTIONS] NAME[:TAG]",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::switch("all-tags", "Push all tags of an image to the repository").short('a'),
        Flag::many(
            "annotation",
            "key=value",
            "Add an annotation to what gets the tag",
        ),
        Flag::one(
            "compression",
            "string",
            "How layers that were made here are packed: \"gzip\" or \"zstd\", also with a level, \"zstd:9\"",
        ),
        Flag::switch_on("disable-content-trust", "Skip image signing").hidden(),
        Flag::one(
            "platform",
            "string",
            "Push the image only if it is for this platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
        Flag::switch("quiet", "Suppress verbose output").short('q'),
    ]],
    examples: &[
        (
            "push localhost:5000/app:1.0",
            "Upload an image to a registry here",
        ),
        ("push -a user/app", "Upload all tags of a repository"),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let quiet = call.on("quiet");
    let wanted = registry::wanted(&call.operands[0])?;
    let all = call.on("all-tags");
    if all && !wanted.defaulted {
        return Err(Failure::message("tag can't be used with --all-tags/-a").into());
    }
    if !all && wanted.defaulted && !quiet {
        output::line(format!("Using default tag: {}", wanted.tag))?;
    }
    let platform = registry::platform(call.text("platform"))?;
    connect::ready(&call.client, &call.globals).await?;
    let path = format!("/images/{}/push", encode_component(&wanted.name));
    let mut request = call.client.post(&path).query_opt("platform", platform);
    if !all {
        request = request.query("tag", &wanted.tag);
    }
    if let Some(compression) = call.text("compression") {
        request = request.query("compression", compression);
    }
    for annotation in call.list("annotation") {
        request = request.query("annotation", annotation);
    }
    // the API asks for the header even where there are no credentials
    let header = auth::header(&call.globals, &wanted.domain).await?;
    let header = header.unwrap_or_else(|| AuthConfig::default().to_header());
    request = request.header_static("x-registry-auth", header);
    let place = if quiet { Place::Nowhere } else { Place::Output };
    pull::show(request.send().await?.lines(), place).await?;
    if quiet {
        output::line(if all { &wanted.name } else { &wanted.full })?;
    }
    Ok(0)
}
