//! `gorae load`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::pull::{self, Place};
use crate::{connect, registry, terminal, upload};
use anyhow::Context;
use std::fs::File;
use std::io::{self, Read};

pub(crate) static VERB: Verb = Verb {
    about: "Load an image from a tar archive or STDIN",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::one(
            "input",
            "string",
            "Read from tar archive file, instead of STDIN",
        )
        .short('i'),
        Flag::one(
            "platform",
            "string",
            "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
        Flag::switch("quiet", "Suppress the load output").short('q'),
    ]],
    examples: &[
        ("load -i busybox.tar", "Read the images of an archive"),
        (
            "load < images.tar.gz",
            "Read them from a pipe; packed archives are recognised",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let source: Box<dyn Read + Send> = match call.text("input").filter(|path| !path.is_empty()) {
        Some(path) => Box::new(File::open(path).with_context(|| format!("open {path}"))?),
        None if terminal::stdin_is_terminal() => {
            return Err(Failure::message("requested load from stdin, but stdin is empty").into());
        }
        None => Box::new(io::stdin()),
    };
    let platform = registry::platform(call.text("platform"))?;
    let quiet = call.on("quiet") || !terminal::stdout_is_terminal();
    connect::ready(&call.client, &call.globals).await?;
    let request = call
        .client
        .post("/images/load")
        .query("quiet", if quiet { "1" } else { "0" })
        .query_opt("platform", platform)
        .body(upload::body(source), "application/x-tar");
    pull::show(request.send().await?.lines(), Place::Output).await?;
    Ok(0)
}
