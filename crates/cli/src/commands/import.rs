//! `gorae import`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::pull::{self, Place};
use crate::{connect, registry, terminal};
use anyhow::Context;
use api::client::{Body, BodySender};
use bytes::Bytes;
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

const CHUNK: usize = 256 << 10;

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
        let (sender, body) = Body::stream();
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || runtime.block_on(feed(reader, sender)));
        request = request.body(body, "text/plain");
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

/// Reads on a thread of its own: a file or pipe blocks, and the body must go on meanwhile.
async fn feed(mut reader: Box<dyn Read + Send>, sender: BodySender) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if !sender.send(Bytes::copy_from_slice(&buffer[..length])).await {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return sender.fail(error).await,
        }
    }
}
