//! Secrets and agents of the clients that wait for a step. They are asked for when the step runs, and
//! go into its memory and nowhere else: no key, no record and no message has anything of them but a name.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::llb::pb;
use crate::op::OpContext;
use crate::session::SshSocket;

/// Asks for a secret by its name; none where no client has it and it may be missing.
pub(super) async fn secret(
    context: &OpContext,
    id: &str,
    optional: bool,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    for session in super::sessions(context).await {
        match session.secret(id).await {
            Ok(Some(data)) => return Ok(Some(data)),
            Ok(None) => {}
            Err(error) => {
                return Err(Error::system(format!("get secret {id}"), &error));
            }
        }
    }
    if optional {
        return Ok(None);
    }
    Err(Error::not_found(format!("secret {id}: not found")))
}

/// The variables whose values are secrets.
pub(super) async fn environment(context: &OpContext, op: &pb::ExecOp) -> Result<Vec<String>> {
    let mut env = Vec::new();
    for wanted in &op.secretenv {
        let Some(data) = secret(context, &wanted.id, wanted.optional).await? else {
            continue;
        };
        let text = std::str::from_utf8(&data);
        let text = text.map_err(|_| Error::invalid(format!("secret {} is no text", wanted.id)))?;
        env.push(format!("{}={text}", wanted.name));
    }
    Ok(env)
}

/// A socket that leads to a client's agent; none where no client has one and it may be missing.
pub(super) async fn agent(
    context: &OpContext,
    wanted: &pb::SshOpt,
    place: PathBuf,
) -> Result<Option<SshSocket>> {
    let mut refusal = None;
    for session in super::sessions(context).await {
        match session.ssh_check(&wanted.id).await {
            Ok(()) => {
                let owner = (wanted.uid, wanted.gid);
                let socket =
                    Arc::clone(&session).ssh_forward(&wanted.id, place, owner, wanted.mode);
                return socket.map(Some).map_err(|error| {
                    Error::system(format!("forward ssh agent {}", wanted.id), &error)
                });
            }
            Err(error) => refusal = Some(error),
        }
    }
    if wanted.optional {
        return Ok(None);
    }
    Err(match refusal {
        Some(error) => Error::system(format!("unset ssh forward key {}", wanted.id), &error),
        None => Error::not_found(format!("unset ssh forward key {}", wanted.id)),
    })
}
