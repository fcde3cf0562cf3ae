//! `gorae update`.

use super::{container_path, each};
use crate::args::{Call, Flag, Operands, Verb};
use crate::create;
use crate::failure::Failure;
use crate::output::complain;
use api::container::{Inspect, UpdateRequest, UpdateResponse};
use api::host_config::PortMap;

pub(crate) static VERB: Verb = Verb {
    about: "Update configuration of one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[
        create::flags::LIMITS,
        &[
            Flag::many(
                "publish",
                "list",
                "Publish one more port of the container to the host",
            )
            .short('p'),
            Flag::many(
                "publish-rm",
                "list",
                "Publish a port of the container no more, as 80 or 80/udp",
            ),
            Flag::one(
                "restart",
                "string",
                "Restart policy to apply when a container exits",
            ),
        ],
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
        (
            "update -p 8443:443 --publish-rm 80 web",
            "Publish other ports of a running container; connections to the rest go on",
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
    let ports = Republish::read(call)?;
    each(call, move |client, name| {
        let (client, ports, mut request) = (client.clone(), ports.clone(), request.clone());
        async move {
            if let Some(ports) = ports {
                let found: Inspect = client.get(&container_path(&name, "/json")).fetch().await?;
                let bindings = found.host_config.unwrap_or_default().port_bindings;
                request.port_bindings = Some(ports.apply(bindings.unwrap_or_default()));
            }
            let path = container_path(&name, "/update");
            let answer: UpdateResponse = client.post(&path).json(&request).fetch().await?;
            for warning in answer.warnings.unwrap_or_default() {
                complain(warning);
            }
            Ok(name)
        }
    })
    .await
}

/// Ports that come and go; the engine is told what is to be there then.
#[derive(Clone, Debug)]
struct Republish {
    come: PortMap,
    go: Vec<String>,
}

impl Republish {
    fn read(call: &Call) -> Result<Option<Self>, Failure> {
        let with_protocol = |port: &str| match port.split_once('/') {
            Some(_) => port.to_ascii_lowercase(),
            None => format!("{port}/tcp"),
        };
        let go: Vec<_> = call
            .list("publish-rm")
            .into_iter()
            .map(with_protocol)
            .collect();
        let come = create::published(call)?;
        Ok((!come.is_empty() || !go.is_empty()).then_some(Self { come, go }))
    }

    fn apply(self, mut ports: PortMap) -> PortMap {
        ports.retain(|inside, _| !self.go.contains(inside));
        for (inside, bindings) in self.come {
            let had = ports.entry(inside).or_default().get_or_insert_default();
            let new = bindings.unwrap_or_default();
            had.extend(
                new.into_iter()
                    .filter(|b| !had.contains(b))
                    .collect::<Vec<_>>(),
            );
        }
        ports
    }
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
        port_bindings: None,
        resources,
    })
}
