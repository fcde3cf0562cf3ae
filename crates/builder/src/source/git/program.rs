//! The program `git`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::progress::{STDERR, VertexProgress};

/// Bytes of output that are read.
const MAX_OUTPUT: u64 = 4 << 20;
/// Settings of every call: nothing of the repository's runs, and nothing asks.
const SETTINGS: [&str; 14] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.askPass=",
    "-c",
    "credential.helper=",
    "-c",
    "advice.detachedHead=false",
    "-c",
    "gc.auto=0",
    "-c",
    "safe.directory=*",
];

/// How `git` is called.
#[derive(Debug, Clone)]
pub(super) struct Git {
    /// A folder for what is only needed meanwhile.
    pub(super) work: PathBuf,
    pub(super) agent: Option<PathBuf>,
    pub(super) known_hosts: Option<PathBuf>,
    pub(super) header: Option<Zeroizing<String>>,
    pub(super) cancel: Cancel,
    pub(super) progress: VertexProgress,
}

/// A call with an index or in a folder of its own.
#[derive(Debug)]
pub(super) struct Call<'git> {
    git: &'git Git,
    index: Option<&'git Path>,
    folder: Option<&'git Path>,
}

impl Git {
    /// The same with an index that is not the repository's.
    pub(super) fn with_index<'git>(&'git self, index: Option<&'git PathBuf>) -> Call<'git> {
        Call {
            git: self,
            index: index.map(PathBuf::as_path),
            folder: None,
        }
    }

    /// Runs it on what is on this machine.
    pub(super) async fn local(&self, arguments: &[&str]) -> Result<String> {
        self.with_index(None).local(arguments).await
    }

    /// Runs it with the client's credentials.
    pub(super) async fn remote(&self, arguments: &[&str]) -> Result<String> {
        self.with_index(None).remote(arguments).await
    }

    /// Runs it with paths at the end.
    pub(super) async fn run(&self, arguments: &[&str], paths: &[&OsStr]) -> Result<String> {
        let mut command = self.with_index(None).command("file");
        command.args(arguments).args(paths);
        self.finish(command, arguments).await
    }

    /// Runs it to its end, or until nobody wants it any more.
    async fn finish(&self, mut command: Command, arguments: &[&str]) -> Result<String> {
        let work = async {
            let child = command.spawn();
            let mut child = child.map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Error::not_implemented("the program git is not installed beside the engine")
                }
                _ => Error::system("start git", &error),
            })?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let ended = tokio::try_join!(read(stdout), read(stderr), child.wait());
            let (stdout, stderr, status) =
                ended.map_err(|error| Error::system("run git", &error))?;
            Ok(Output {
                status,
                stdout,
                stderr,
            })
        };
        let output = self.cancel.run(work).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        self.progress.log(STDERR, &output.stderr);
        let said = String::from_utf8_lossy(&output.stderr);
        let verb = arguments.iter().find(|argument| !argument.starts_with('-'));
        let verb = verb.copied().unwrap_or_default();
        let code = output.status.code().unwrap_or(-1);
        Err(Error::invalid(format!(
            "git {verb} stderr:\n{}: exit status {code}",
            said.trim()
        )))
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream)
            .take(MAX_OUTPUT)
            .read_to_end(&mut bytes)
            .await?;
        // the rest is of no use, but the program has to be able to write it
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

impl<'git> Call<'git> {
    /// The same in a folder.
    pub(super) fn within(&self, folder: &'git Path) -> Self {
        Self {
            folder: Some(folder),
            ..*self
        }
    }

    pub(super) async fn local(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("file");
        command.args(arguments);
        self.git.finish(command, arguments).await
    }

    pub(super) async fn remote(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("https:http:ssh:git");
        if let Some(header) = &self.git.header {
            // by the environment: arguments are seen by everybody on the machine
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env("GIT_CONFIG_VALUE_0", header.as_str());
        }
        command.args(arguments);
        self.git.finish(command, arguments).await
    }

    fn command(&self, protocols: &str) -> Command {
        let git = self.git;
        let search = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let mut command = Command::new("git");
        command
            .args(SETTINGS)
            .env_clear()
            .env("PATH", search)
            .env("HOME", &git.work)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", protocols)
            .env("GIT_SSH_COMMAND", self.ssh())
            .current_dir(self.folder.unwrap_or(&git.work))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        for name in ["http_proxy", "https_proxy", "no_proxy", "all_proxy"] {
            for name in [name.to_owned(), name.to_uppercase()] {
                if let Some(value) = std::env::var_os(&name) {
                    command.env(name, value);
                }
            }
        }
        if let Some(agent) = &git.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        if let Some(index) = self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command
    }

    fn ssh(&self) -> String {
        match &self.git.known_hosts {
            Some(path) => format!("ssh -F /dev/null -o UserKnownHostsFile={}", path.display()),
            None => "ssh -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
                .to_owned(),
        }
    }
}
