//! `gorae network connect` and `gorae network disconnect`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, create, csv};
use api::client::encode_component;
use api::network::{ConnectRequest, DisconnectRequest, EndpointIpamConfig, EndpointSettings};

pub(crate) static CONNECT: Verb = Verb {
    about: "Connect a container to a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    operands: Operands::between(2, 2),
    flags: &[&[
        Flag::many(
            "alias",
            "strings",
            "Add network-scoped alias for the container",
        ),
        Flag::many("driver-opt", "strings", "driver options for the network"),
        Flag::one(
            "gw-priority",
            "int",
            "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
        ),
        Flag::one("ip", "string", "IPv4 address (e.g., \"172.30.100.104\")"),
        Flag::one("ip6", "string", "IPv6 address (e.g., \"2001:db8::33\")"),
        Flag::many("link", "list", "Add link to another container"),
        Flag::many(
            "link-local-ip",
            "strings",
            "Add a link-local address for the container",
        ),
    ]],
    examples: &[
        (
            "network connect front web",
            "Connect a container, running or not",
        ),
        (
            "network connect --ip 10.5.0.7 --alias db back postgres",
            "Choose its address, and a name beside its own",
        ),
    ],
    run: |call| Box::pin(connect_to(call)),
};

pub(crate) static DISCONNECT: Verb = Verb {
    about: "Disconnect a container from a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    operands: Operands::between(2, 2),
    flags: &[&[
        Flag::switch("force", "Force the container to disconnect from a network").short('f'),
    ]],
    examples: &[(
        "network disconnect front web",
        "Take a container off a network",
    )],
    run: |call| Box::pin(disconnect(call)),
};

async fn connect_to(call: &Call) -> anyhow::Result<u8> {
    let request = connect_request(call)?;
    let path = path(call, "connect")?;
    connect::ready(&call.client, &call.globals).await?;
    call.client.post(&path).json(&request).run().await?;
    Ok(0)
}

async fn disconnect(call: &Call) -> anyhow::Result<u8> {
    let request = DisconnectRequest {
        container: container(call)?,
        force: call.on("force"),
    };
    let path = path(call, "disconnect")?;
    connect::ready(&call.client, &call.globals).await?;
    call.client.post(&path).json(&request).run().await?;
    Ok(0)
}

fn path(call: &Call, what: &str) -> Result<String, Failure> {
    let name = named(&call.operands[0], "network")?;
    Ok(format!("/networks/{}/{what}", encode_component(&name)))
}

fn container(call: &Call) -> Result<String, Failure> {
    named(&call.operands[1], "container")
}

fn named(text: &str, what: &str) -> Result<String, Failure> {
    match text.trim() {
        "" => Err(Failure::message(format!(
            "invalid {what} name or ID: value is empty"
        ))),
        name => Ok(name.to_owned()),
    }
}

/// The body of the request that the flags describe.
fn connect_request(call: &Call) -> Result<ConnectRequest, Failure> {
    let list = |flag: &str| -> Result<Vec<String>, Failure> {
        Ok(call.parsed_list(flag, csv::list)?.concat())
    };
    let options = list("driver-opt")?
        .iter()
        .map(|text| {
            create::driver_option(text)
                .ok_or_else(|| Failure::message("invalid key/value pair format in driver options"))
        })
        .collect::<Result<_, _>>()?;
    let links = call.parsed_list("link", create::link)?;
    Ok(ConnectRequest {
        container: container(call)?,
        endpoint_config: Some(EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: call.text_or_empty("ip"),
                ipv6_address: call.text_or_empty("ip6"),
                link_local_ips: list("link-local-ip")?,
            }),
            links: (!links.is_empty()).then_some(links),
            aliases: Some(list("alias")?),
            driver_opts: Some(options),
            gw_priority: call.integer("gw-priority")?.unwrap_or(0),
            ..EndpointSettings::default()
        }),
    })
}
