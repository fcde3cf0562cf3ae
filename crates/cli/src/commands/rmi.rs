//! `gorae rmi`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::output::{self, complain};
use crate::{connect, failure};
use api::client::encode_component;
use api::image::DeleteItem;

pub(crate) static VERB: Verb = Verb {
    about: "Remove one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    operands: Operands::at_least(1),
    flags: &[&[
        Flag::switch("force", "Force removal of the image").short('f'),
        Flag::switch("no-prune", "Do not delete untagged parents"),
    ]],
    examples: &[(
        "rmi busybox:1.36",
        "Remove a name, and the image if that was its last",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let mut code = 0;
    for name in &call.operands {
        let path = format!("/images/{}", encode_component(name));
        let request = call
            .client
            .delete(&path)
            .query_flag("force", call.on("force"));
        let removed: Result<Vec<DeleteItem>, _> = request
            .query_flag("noprune", call.on("no-prune"))
            .fetch()
            .await;
        match removed {
            Ok(items) => {
                for item in items {
                    if item.deleted.is_empty() {
                        output::line(format!("Untagged: {}", item.untagged))?;
                    } else {
                        output::line(format!("Deleted: {}", item.deleted))?;
                    }
                }
            }
            Err(error) => {
                let absent = error.status() == Some(404);
                let text = error.to_string();
                complain(&text);
                if !(call.on("force") && absent) {
                    if let Some(hint) = failure::hint(&text).filter(|_| code == 0) {
                        complain(format!("\nHint: {hint}"));
                    }
                    code = 1;
                }
            }
        }
    }
    Ok(code)
}
