//! `gorae system dial-stdio`: the way to the engine for a client on another host, over ssh.

use crate::args::{Call, Operands, Verb};
use crate::connect;
use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that are passed on at once.
const BUFFER: usize = 32 << 10;

pub(crate) static VERB: Verb = Verb {
    about: "Proxy the stdio stream to the engine connection",
    usage: "",
    operands: Operands::NONE,
    flags: &[],
    examples: &[(
        "system dial-stdio",
        "Connect input and output to the engine, as DOCKER_HOST=ssh://host does there",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let endpoint = call.client.endpoint();
    let engine = endpoint.dial().await;
    let engine = engine.with_context(|| format!("cannot connect to the engine at {endpoint}"))?;
    let (from_engine, to_engine) = tokio::io::split(engine);
    let output = pass(from_engine, tokio::io::stdout());
    let input = async {
        // the end of the input is passed on, and what the engine still says comes after it
        drop(pass(tokio::io::stdin(), to_engine).await);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = output => result.context("the connection to the engine broke")?,
        () = input => {}
    }
    Ok(0)
}

/// Passes bytes on as they come, to their end.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.shutdown().await,
            length => {
                to.write_all(&buffer[..length]).await?;
                to.flush().await?;
            }
        }
    }
}
