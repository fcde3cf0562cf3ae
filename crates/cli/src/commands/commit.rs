//! `gorae commit`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::{connect, output, registry};
use api::archive::CommitResponse;

pub(crate) static VERB: Verb = Verb {
    about: "Create a new image from a container's changes",
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    operands: Operands::between(1, 2),
    flags: &[&[
        Flag::one(
            "author",
            "string",
            "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")",
        )
        .short('a'),
        Flag::many(
            "change",
            "list",
            "Apply Dockerfile instruction to the created image",
        )
        .short('c'),
        Flag::one("message", "string", "Commit message").short('m'),
        Flag::switch_on("pause", "Pause container during commit (default true)").short('p'),
    ]],
    examples: &[(
        "commit -c 'CMD [\"serve\"]' web web:tuned",
        "Make an image of what a container has become",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let mut request = call
        .client
        .post("/commit")
        .query("container", &call.operands[0])
        .query("pause", if call.still_on("pause") { "1" } else { "0" })
        .query_opt("author", call.text("author"))
        .query_opt("comment", call.text("message"));
    if let Some(name) = call.operands.get(1).filter(|name| !name.is_empty()) {
        let wanted = registry::wanted(name)?;
        request = request
            .query("repo", &wanted.name)
            .query("tag", &wanted.tag);
    }
    for change in call.list("change") {
        request = request.query("changes", change);
    }
    connect::ready(&call.client, &call.globals).await?;
    let made: CommitResponse = request.fetch().await?;
    output::line(made.id)?;
    Ok(0)
}
