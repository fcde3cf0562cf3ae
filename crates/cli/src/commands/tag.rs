//! `gorae tag`.

use crate::args::{Call, Operands, Verb};
use crate::{connect, registry};
use api::client::encode_component;

pub(crate) static VERB: Verb = Verb {
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    operands: Operands::between(2, 2),
    flags: &[],
    examples: &[(
        "tag app localhost:5000/team/app:1.2",
        "Give an image the name of a registry",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let target = registry::wanted(&call.operands[1])?;
    connect::ready(&call.client, &call.globals).await?;
    let path = format!("/images/{}/tag", encode_component(&call.operands[0]));
    call.client
        .post(&path)
        .query("repo", &target.name)
        .query("tag", &target.tag)
        .run()
        .await?;
    Ok(0)
}
