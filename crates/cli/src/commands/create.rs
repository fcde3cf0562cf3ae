//! `gorae create`.

use crate::args::{Call, Operands, Verb};
use crate::{connect, create, output, run};

pub(crate) static VERB: Verb = Verb {
    about: "Create a new container",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    operands: Operands::verbatim(1),
    flags: &[create::flags::LIMITS, create::flags::FLAGS],
    examples: &[(
        "create --name job busybox sleep 60",
        "Make a container that 'gorae start job' runs",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let creation = create::from_flags(call)?;
    connect::ready(&call.client, &call.globals).await?;
    run::pull_always(call, &creation).await?;
    let created = run::create(call, &creation).await?;
    output::line(created.id)?;
    Ok(0)
}
