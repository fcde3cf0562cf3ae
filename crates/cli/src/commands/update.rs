//! `gorae update`.

use super::{container_path, each};
use crate::args::{Call, Flag, Operands, Verb};
use crate::create;
use crate::failure::Failure;
use crate::output::complain;
use api::container::{UpdateRequest, UpdateResponse};

pub(crate) static VERB: Verb = Verb {
    about: "Update configuration of one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[
        create::flags::LIMITS,
        &[Flag::one(
            "restart",
            "string",
            "Restart policy to apply when a container exits",
        )],
    ],
    examples: &[
        (
            "update -m 512m --memory-swap 1g web",
            "Give a running container other limits",
        ),
        (
            "update --net-egress 5mbit web",
            "Let a running container send 5 Mbit a second at most; 0 lifts the limit",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    if !call.verb.flags().any(|flag| call.given(flag.long)) {
        return Err(
            Failure::message("you must provide one or more flags when using this command").into(),
        );
    }
    let request = read(call)?;
    each(call, move |client, name| {
        let request = client
            .post(&container_path(&name, "/update"))
            .json(&request);
        async move {
            let answer: UpdateResponse = request.fetch().await?;
            for warning in answer.warnings.unwrap_or_default() {
                complain(warning);
            }
            Ok(name)
        }
    })
    .await
}

fn read(call: &Call) -> Result<UpdateRequest, Failure> {
    let restart_policy = match call.text("restart").filter(|text| !text.is_empty()) {
        Some(text) => create::restart_policy(text).map_err(Failure::message)?,
        None => api::host_config::RestartPolicy::default(),
    };
    let mut resources = create::changeable(call)?;
    // what is zero stays as it is: a limit is lifted by a negative number
    for (flag, rate) in [
        ("net-ingress", &mut resources.network_ingress_rate),
        ("net-egress", &mut resources.network_egress_rate),
    ] {
        if call.given(flag) && *rate == 0 {
            *rate = -1;
        }
    }
    Ok(UpdateRequest {
        restart_policy,
        resources,
    })
}
