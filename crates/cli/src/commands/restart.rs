//! `gorae restart`.

use super::stop;
use crate::args::{Call, Operands, Verb};

pub(crate) static VERB: Verb = Verb {
    about: "Restart one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[stop::FLAGS],
    examples: &[("restart -t 2 web", "Give the program two seconds to end")],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    stop::end_each(call, "/restart").await
}
