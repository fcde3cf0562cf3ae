//! `gorae logout`.

use crate::args::{Call, Operands, Verb};
use crate::{auth, output};

pub(crate) static VERB: Verb = Verb {
    about: "Log out from a registry.\nIf no server is specified, the default is Docker Hub.",
    usage: "[SERVER]",
    operands: Operands::between(0, 1),
    flags: &[],
    examples: &[(
        "logout registry.example.org",
        "Forget a registry's credentials",
    )],
    run: |call| Box::pin(run(call)),
};

const HUB: &str = "https://index.docker.io/v1/";

async fn run(call: &Call) -> anyhow::Result<u8> {
    let server = call.operands.first().map_or(HUB, String::as_str);
    let mut config = auth::load(&call.globals)?;
    if config.erase(server).await? {
        output::line(format!("Removing login credentials for {server}"))?;
    } else {
        output::line(format!("Not logged in to {server}"))?;
    }
    Ok(0)
}
