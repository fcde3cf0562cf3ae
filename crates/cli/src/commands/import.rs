//! `gorae import`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::pull::{self, Place};
use crate::{connect, registry, terminal, upload};
use anyhow::Context;
use std::fs::File;
use std::io::{self, Read};

pub(crate) static VERB: Verb = Verb {
    about: "Import the contents from a tarball to create a filesystem image",
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    operands: Operands::between(1, 2),
    flags: &[&[
        Flag::many(
            "change",
            "list",
            "Apply Dockerfile instruction to the created image",
        )
        .short('c'),
        Flag::one("message", "string", "Set commit message for imported image").short('m'),
        Flag::one(
            "platform",
            "string",
            "Set platform if server is multi-platform capable",
        ),
    ]],
    examples: &[(
        "import -c 'CMD [\"sh\"]' rootfs.tar base:1",
        "Make an image of a root file system",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let source = call.operands[0].as_str();
    let mut request = call.client.post("/images/create");
    let url = ["http://", "https://", "ftp://"]
        .iter()
        .any(|scheme| source.starts_with(scheme));
    request = request.query("fromSrc", if url { source } else { "-" });
    if let Some(name) = call.operands.get(1) {
        let wanted = registry::wanted(name)?;
        request = request.query("repo", &wanted.name);
        if !wanted.defaulted {
            request = request.query("tag", &wanted.tag);
        }
    }
    for change in call.list("change") {
        request = request.query("changes", change);
    }
    request = request
        .query_opt("message", call.text("message"))
        .query_opt("platform", call.text("platform"));
    let reader = if url { None } else { Some(open(source)?) };
    connect::ready(&call.client, &call.globals).await?;
    if let Some(reader) = reader {
        request = request.body(upload::body(reader), "application/x-tar");
    }
    pull::show(request.send().await?.lines(), Place::Output).await?;
    Ok(0)
}

fn open(source: &str) -> anyhow::Result<Box<dyn Read + Send>> {
    if source == "-" {
        if terminal::stdin_is_terminal() {
            return Err(Failure::message(
                "standard input is a terminal: pipe a tar archive into the command",
            )
            .into());
        }
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(source).with_context(|| format!("open {source}"))?;
    Ok(Box::new(file))
}
