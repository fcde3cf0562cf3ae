//! `gorae port`.

use super::container_path;
use crate::args::{Call, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, output};
use api::container::Inspect;
use api::host_config::PortBinding;

pub(crate) static VERB: Verb = Verb {
    about: "List port mappings or a specific mapping for the container",
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    operands: Operands::between(1, 2),
    flags: &[],
    examples: &[(
        "port web 80",
        "Show where port 80 of a container is published",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    connect::ready(&call.client, &call.globals).await?;
    let name = &call.operands[0];
    let inspect: Inspect = call
        .client
        .get(&container_path(name, "/json"))
        .fetch()
        .await?;
    let ports = inspect
        .network_settings
        .and_then(|settings| settings.ports)
        .unwrap_or_default();
    let Some(wish) = call.operands.get(1) else {
        let mut all: Vec<_> = ports.iter().collect();
        all.sort_by_key(|(port, _)| number(port));
        for (port, bindings) in all {
            for binding in bindings.as_deref().unwrap_or_default() {
                output::line(format!("{port} -> {}", shown(binding)))?;
            }
        }
        return Ok(0);
    };
    let (port, protocol) = wish.split_once('/').unwrap_or((wish, "tcp"));
    if port.parse::<u16>().is_err() {
        return Err(Failure::message(format!("Error: invalid port ({port})")).into());
    }
    let bindings = ports
        .get(&format!("{port}/{protocol}"))
        .and_then(Option::as_deref)
        .unwrap_or_default();
    if bindings.is_empty() {
        return Err(Failure::message(format!(
            "Error: No public port '{wish}' published for {name}\n\nSee what is published with 'gorae port {name}'."
        ))
        .into());
    }
    for binding in bindings {
        output::line(shown(binding))?;
    }
    Ok(0)
}

fn number(port: &str) -> u16 {
    port.split('/')
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(0)
}

fn shown(binding: &PortBinding) -> String {
    if binding.host_ip.contains(':') {
        format!("[{}]:{}", binding.host_ip, binding.host_port)
    } else {
        format!("{}:{}", binding.host_ip, binding.host_port)
    }
}
