//! `gorae rm`.

use super::{container_path, each};
use crate::args::{Call, Flag, Operands, Verb};

pub(crate) static VERB: Verb = Verb {
    about: "Remove one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[&[
        Flag::switch(
            "force",
            "Force the removal of a running container (uses SIGKILL)",
        )
        .short('f'),
        Flag::switch("link", "Remove the specified link").short('l'),
        Flag::switch(
            "volumes",
            "Remove anonymous volumes associated with the container",
        )
        .short('v'),
    ]],
    examples: &[
        ("rm web", "Remove a container that ended"),
        ("rm -f web", "End and remove it"),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let (force, link, volumes) = (call.on("force"), call.on("link"), call.on("volumes"));
    each(call, move |client, name| async move {
        // Docker takes a leading slash, which names of inspect have
        let name = name.trim_matches('/').to_owned();
        let request = client.delete(&container_path(&name, ""));
        let request = request
            .query_flag("force", force)
            .query_flag("link", link)
            .query_flag("v", volumes);
        match request.run().await {
            // what is gone already is what --force asks for
            Err(error) if force && error.status() == Some(404) => {
                crate::output::complain(error.to_string());
                Ok(String::new())
            }
            result => {
                result?;
                Ok(name)
            }
        }
    })
    .await
}
