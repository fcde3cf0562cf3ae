//! `gorae save`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, output, registry, terminal};
use anyhow::Context;
use api::client::Response;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) static VERB: Verb = Verb {
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    operands: Operands::at_least(1),
    flags: &[&[
        Flag::one("output", "string", "Write to a file, instead of STDOUT").short('o'),
        Flag::one(
            "platform",
            "string",
            "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
        ),
    ]],
    examples: &[
        (
            "save -o busybox.tar busybox:1.37",
            "Write an image to a file",
        ),
        (
            "save app db | gzip > images.tar.gz",
            "Write two images to one packed archive",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let target = call.text("output").filter(|path| !path.is_empty());
    if target.is_none() && terminal::stdout_is_terminal() {
        return Err(Failure::message(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        )
        .into());
    }
    let platform = registry::platform(call.text("platform"))?;
    connect::ready(&call.client, &call.globals).await?;
    let mut request = call.client.get("/images/get");
    for name in &call.operands {
        request = request.query("names", name);
    }
    let response = request.query_opt("platform", platform).send().await?;
    match target {
        None => to_output(response).await?,
        Some(path) => to_file(response, Path::new(path)).await?,
    }
    Ok(0)
}

async fn to_output(mut response: Response) -> anyhow::Result<()> {
    while let Some(chunk) = response.chunk().await? {
        output::raw(&chunk)?;
    }
    Ok(())
}

/// A file that is removed unless it is whole.
struct Partial {
    path: PathBuf,
    file: Option<File>,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.file.is_some() {
            // there is nobody to tell that an incomplete file stays
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Writes beside the target and renames, so that a broken archive never stands where one was asked for.
async fn to_file(mut response: Response, path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    // what is there and is no file, as /dev/null or a pipe, is written to as it is
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut file = File::options()
            .write(true)
            .open(path)
            .with_context(|| format!("failed to save image: open {shown}"))?;
        while let Some(chunk) = response.chunk().await? {
            file.write_all(&chunk)?;
        }
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let file = File::create(&temporary)
        .with_context(|| format!("failed to save image: create {shown}"))?;
    let mut partial = Partial {
        path: temporary,
        file: Some(file),
    };
    while let Some(chunk) = response.chunk().await? {
        if let Some(file) = &mut partial.file {
            file.write_all(&chunk)
                .with_context(|| format!("write {shown}"))?;
        }
    }
    fs::rename(&partial.path, path).with_context(|| format!("rename to {shown}"))?;
    partial.file = None;
    Ok(())
}
