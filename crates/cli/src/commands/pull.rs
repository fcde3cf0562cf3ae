//! `gorae pull`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::pull::{self, Place};
use crate::{connect, output, registry};

pub(crate) static VERB: Verb = Verb {
    about: "Download an image from a registry",
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    operands: Operands::between(1, 1),
    flags: &[&[
        Flag::switch("all-tags", "Download all tagged images in the repository").short('a'),
        Flag::switch_on("disable-content-trust", "Skip image verification").hidden(),
        Flag::one(
            "platform",
            "string",
            "Set platform if server is multi-platform capable",
        ),
        Flag::switch("quiet", "Suppress verbose output").short('q'),
    ]],
    examples: &[
        ("pull busybox:1.37", "Fetch an image from Docker Hub"),
        (
            "pull --platform linux/arm64 localhost:5000/app",
            "Fetch it for another machine from a registry here",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let quiet = call.on("quiet");
    let mut wanted = registry::wanted(&call.operands[0])?;
    if call.on("all-tags") {
        if !wanted.defaulted {
            return Err(Failure::message("tag can't be used with --all-tags/-a").into());
        }
        // no tag stands for all of them
        wanted.tag.clear();
    } else if wanted.defaulted && !quiet {
        output::line("Using default tag: latest")?;
    }
    connect::ready(&call.client, &call.globals).await?;
    let place = if quiet { Place::Nowhere } else { Place::Output };
    pull::pull(
        &call.client,
        &call.globals,
        &wanted,
        call.text("platform"),
        place,
    )
    .await?;
    output::line(&wanted.full)?;
    Ok(0)
}
