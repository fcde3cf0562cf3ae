//! What a source asks the client for.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::op::OpContext;
use crate::session::Session;

/// How long a client may take to open its session.
const WAIT: Duration = Duration::from_secs(10);

/// Finds a client who waits for the operation; `wanted` is asked first.
pub(super) async fn session(context: &OpContext, wanted: &str) -> Result<Arc<Session>> {
    let mut ids = context.sessions.all();
    if !wanted.is_empty() {
        ids.insert(0, wanted.to_owned());
    }
    let mut last = Error::invalid("no active sessions");
    for id in ids {
        match context.builder.sessions.get(&id, WAIT).await {
            Ok(session) => return Ok(session),
            Err(error) => last = Error::unavailable(error.to_string()),
        }
    }
    Err(last)
}

/// Asks all clients who wait for the operation for a secret; none where none of them has it.
pub(super) async fn secret(context: &OpContext, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    for id in context.sessions.all() {
        let Ok(session) = context.builder.sessions.get(&id, WAIT).await else {
            continue;
        };
        let secret = session.secret(name).await;
        if let Some(secret) = secret.map_err(|error| Error::unavailable(error.to_string()))? {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}
