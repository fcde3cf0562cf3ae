//! `gorae export`.

use super::container_path;
use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, output, terminal};
use anyhow::Context;
use api::client::Response;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) static VERB: Verb = Verb {
    about: "Export a container's filesystem as a tar archive",
    usage: "[OPTIONS] CONTAINER",
    operands: Operands::between(1, 1),
    flags: &[&[Flag::one("output", "string", "Write to a file, instead of STDOUT").short('o')]],
    examples: &[(
        "export -o web.tar web",
        "Write a container's files to an archive",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let file = match call.text("output").filter(|path| !path.is_empty()) {
        Some(path) => Some(OutputFile::create(Path::new(path))?),
        None if terminal::stdout_is_terminal() => {
            let why = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
            return Err(Failure::message(why).into());
        }
        None => None,
    };
    connect::ready(&call.client, &call.globals).await?;
    let request = call
        .client
        .get(&container_path(&call.operands[0], "/export"));
    let mut answer = request.send().await?;
    match file {
        None => {
            while let Some(chunk) = answer.chunk().await? {
                output::raw(&chunk)?;
            }
        }
        Some(file) => file.fill(answer).await?,
    }
    Ok(0)
}

/// A file that appears under its name only when it is whole.
struct OutputFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl OutputFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let invalid = "failed to export container: invalid output path";
        let parent = match path.parent() {
            None => Path::new("/"),
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
        };
        std::fs::metadata(parent)
            .with_context(|| format!("{invalid}: stat {}", parent.display()))?;
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                let path = path.display();
                let why = format!("{invalid}: {path:?} must be a regular file");
                return Err(Failure::message(why).into());
            }
            _ => {}
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = parent.join(format!(".{name}.{}", std::process::id()));
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .with_context(|| format!("create {}", temporary.display()))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file,
        })
    }

    async fn fill(mut self, mut answer: Response) -> anyhow::Result<()> {
        while let Some(chunk) = answer.chunk().await? {
            self.file
                .write_all(&chunk)
                .with_context(|| format!("write {}", self.path.display()))?;
        }
        std::fs::rename(&self.temporary, &self.path)
            .with_context(|| format!("rename to {}", self.path.display()))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // once renamed it is not there any more
        let _renamed = std::fs::remove_file(&self.temporary);
    }
}
