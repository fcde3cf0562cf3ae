//! Credential helpers: the programs `docker-credential-<name>`.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::credentials::Credentials;

const OUTPUT_MAX: u64 = 64 * 1024;
/// A helper may ask a person to unlock a store.
const LIMIT: Duration = Duration::from_secs(60);
/// What helpers print when they have nothing for a registry; part of their protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// A failed credential helper.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// The helper's name would leave the search path.
    #[error("invalid credential helper name {name:?}")]
    Name {
        /// The name in the configuration.
        name: String,
    },
    /// The helper cannot be started or spoken to.
    #[error("run {program} {action}")]
    Run {
        /// The program.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// Why it did not.
        #[source]
        source: io::Error,
    },
    /// The helper does not end.
    #[error("{program} {action} did not end within {limit:?}")]
    Timeout {
        /// The program.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// The helper says that it failed.
    #[error("error {action} credentials - {program}: {output}")]
    Failed {
        /// The program.
        program: String,
        /// What it was to do, as `getting`.
        action: &'static str,
        /// What it printed.
        output: String,
    },
    /// The helper printed something else than credentials.
    #[error("parse the output of {program} get")]
    Output {
        /// The program.
        program: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// One helper.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    program: String,
    limit: Duration,
    /// Where programs are looked for, in place of `PATH`.
    directory: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    pub(crate) fn new(name: &str, directory: Option<PathBuf>) -> Result<Self, HelperError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(HelperError::Name {
                name: name.to_owned(),
            });
        }
        Ok(Self {
            program: format!("docker-credential-{name}"),
            limit: LIMIT,
            directory,
        })
    }

    /// The credentials of a registry, `None` where the helper has none.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Credentials>, HelperError> {
        let (success, output) = self.run("get", key.as_bytes()).await?;
        let text = String::from_utf8_lossy(&output);
        if !success && text.trim() == NOT_FOUND {
            return Ok(None);
        }
        if !success {
            return Err(self.failed("getting", &text));
        }
        let entry: Entry =
            serde_json::from_slice(&output).map_err(|source| HelperError::Output {
                program: self.program.clone(),
                source,
            })?;
        Ok(Some(entry.into_credentials()))
    }

    pub(crate) async fn store(&self, key: &str, own: &Credentials) -> Result<(), HelperError> {
        let entry = Entry::new(key, own);
        let input = serde_json::json!(entry).to_string();
        match self.run("store", input.as_bytes()).await? {
            (true, _) => Ok(()),
            (false, output) => Err(self.failed("storing", &String::from_utf8_lossy(&output))),
        }
    }

    pub(crate) async fn erase(&self, key: &str) -> Result<(), HelperError> {
        let (success, output) = self.run("erase", key.as_bytes()).await?;
        let text = String::from_utf8_lossy(&output);
        if success || text.trim() == NOT_FOUND {
            return Ok(());
        }
        Err(self.failed("erasing", &text))
    }

    fn failed(&self, action: &'static str, output: &str) -> HelperError {
        HelperError::Failed {
            program: self.program.clone(),
            action,
            output: crate::answer::printable(output),
        }
    }

    async fn run(
        &self,
        action: &'static str,
        input: &[u8],
    ) -> Result<(bool, Vec<u8>), HelperError> {
        let failed = |source| HelperError::Run {
            program: self.program.clone(),
            action,
            source,
        };
        let path = match &self.directory {
            Some(directory) => directory.join(&self.program),
            None => PathBuf::from(&self.program),
        };
        let child = Command::new(path)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        match tokio::time::timeout(self.limit, converse(child, input)).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err(HelperError::Timeout {
                program: self.program.clone(),
                action,
                limit: self.limit,
            }),
        }
    }
}

/// Writes the input while reading the output, so that neither side waits for the other.
async fn converse(mut child: Child, input: &[u8]) -> io::Result<(bool, Vec<u8>)> {
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let write = async {
        let Some(mut stdin) = stdin else {
            return Ok(());
        };
        match stdin.write_all(input).await {
            // A helper may end before it has read all.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    };
    let (written, output) = tokio::join!(write, read_bounded(stdout));
    written?;
    let output = output?;
    Ok((child.wait().await?.success(), output))
}

async fn read_bounded(source: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    if let Some(source) = source {
        source.take(OUTPUT_MAX + 1).read_to_end(&mut output).await?;
    }
    if output.len() as u64 > OUTPUT_MAX {
        return Err(io::Error::other("the output is too long"));
    }
    Ok(output)
}

impl Entry {
    fn new(key: &str, own: &Credentials) -> Self {
        let (username, secret) = match own.identity_token.as_str() {
            "" => (own.username.clone(), own.password.clone()),
            token => (TOKEN_USER.to_owned(), token.to_owned()),
        };
        Self {
            server_url: key.to_owned(),
            username,
            secret,
        }
    }

    fn into_credentials(self) -> Credentials {
        if self.username == TOKEN_USER {
            return Credentials {
                identity_token: self.secret,
                ..Credentials::default()
            };
        }
        Credentials {
            username: self.username,
            password: self.secret,
            ..Credentials::default()
        }
    }
}
