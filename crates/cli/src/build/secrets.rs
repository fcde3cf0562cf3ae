//! Secrets and ssh agents that steps may use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use builder::client::{SecretSource, SshAgent};

use crate::args::Call;
use crate::csv;
use crate::failure::Failure;

/// Reads `--secret`: `id=name[,src=file|,env=variable]`, where the name is tried as both where neither is said.
pub(crate) fn secrets(call: &Call) -> anyhow::Result<BTreeMap<String, SecretSource>> {
    let mut secrets = BTreeMap::new();
    for text in call.list("secret") {
        let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
        for field in csv::fields(text).map_err(Failure::message)? {
            let Some((name, value)) = field.split_once('=') else {
                bail!(Failure::message(format!(
                    "invalid field {field:?} must be a key=value pair"
                )));
            };
            let slot = match name.to_lowercase().as_str() {
                "id" => &mut id,
                "src" | "source" => &mut file,
                "env" => &mut env,
                "type" => &mut kind,
                other => bail!(Failure::message(format!(
                    "unexpected key {other:?} in {field:?}"
                ))),
            };
            *slot = Some(value.to_owned());
        }
        let Some(id) = id else {
            bail!(Failure::message("secret id is required"));
        };
        if kind.as_deref() == Some("env") && env.is_none() {
            env = file.take().or_else(|| Some(id.clone()));
        }
        let source = match (env, file) {
            (Some(env), _) => SecretSource::Env(env),
            (None, Some(file)) => SecretSource::File(absolute(&file)?),
            (None, None) if std::env::var_os(&id).is_some() => SecretSource::Env(id.clone()),
            (None, None) => SecretSource::File(absolute(&id)?),
        };
        if let SecretSource::File(path) = &source
            && !path.exists()
        {
            bail!(Failure::message(format!(
                "failed to stat {}: no such file or directory",
                path.display()
            )));
        }
        secrets.insert(id, source);
    }
    Ok(secrets)
}

fn absolute(path: &str) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

/// Reads `--ssh`: `default`, `id`, or `id=socket`.
pub(crate) fn agents(call: &Call) -> anyhow::Result<Vec<SshAgent>> {
    let mut agents = Vec::new();
    for text in call.list("ssh") {
        let (id, path) = text.split_once('=').unwrap_or((text, ""));
        let socket = match path {
            "" => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
            path => Some(absolute(path)?),
        };
        let Some(socket) = socket else {
            bail!(Failure::message(format!(
                "invalid empty ssh agent socket for {id:?}: make sure SSH_AUTH_SOCK is set"
            )));
        };
        use std::os::unix::fs::FileTypeExt as _;
        let is_socket = std::fs::metadata(&socket).is_ok_and(|m| m.file_type().is_socket());
        if !is_socket {
            bail!(Failure::message(format!(
                "{} is no socket of an ssh agent; keys in files are not read: add them to an agent with ssh-add",
                socket.display()
            )));
        }
        agents.push(SshAgent {
            id: if id.is_empty() { "default" } else { id }.to_owned(),
            socket,
        });
    }
    Ok(agents)
}
