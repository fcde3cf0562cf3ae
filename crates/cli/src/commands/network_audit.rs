//! `gorae network audit`.

use super::FORMAT;
use crate::args::{Call, Operands, Verb};
use crate::format::{Format, Listing, Row, short_id};
use crate::output::complain;
use crate::{connect, output};
use api::audit::{Audit, AuditPort, Origin};

pub(crate) static VERB: Verb = Verb {
    about: "Show which container port is reachable from where, and by which rule",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[FORMAT]],
    examples: &[
        ("network audit", "See who reaches what"),
        (
            "network audit --format 'table {{.Container}}\\t{{.Published}}\\t{{.From}}\\t{{.Reachable}}'",
            "Choose the columns",
        ),
        (
            "network audit --format json | jq 'select(.From == \"other hosts\" and .Reachable == \"yes\")'",
            "List what the outside reaches",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "audit.portContext",
    headers: &[
        ("Container", "CONTAINER"),
        ("ContainerID", "CONTAINER ID"),
        ("Network", "NETWORK"),
        ("Port", "PORT"),
        ("Protocol", "PROTOCOL"),
        ("Published", "PUBLISHED"),
        ("HostIP", "HOST IP"),
        ("HostPort", "HOST PORT"),
        ("ContainerIP", "CONTAINER IP"),
        ("ContainerPort", "CONTAINER PORT"),
        ("From", "FROM"),
        ("Reachable", "REACHABLE"),
        ("Rule", "RULE"),
        ("Policy", "POLICY"),
    ],
    table: "{{.Container}}\t{{.Network}}\t{{.Port}}\t{{.Published}}\t{{.From}}\t{{.Reachable}}\t{{.Rule}}",
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let format = Format::read(&LISTING, call.text("format"), None)?;
    connect::ready(&call.client, &call.globals).await?;
    let audit: Audit = call.client.get("/gorae/network/audit").fetch().await?;
    let rows: Vec<Row> = audit
        .ports
        .iter()
        .flat_map(|port| port.from.iter().map(move |origin| (port, origin)))
        .map(|(port, origin)| row(&audit, port, origin))
        .collect();
    output::raw(format.render(&LISTING, &rows)?.as_bytes())?;
    if format.is_table() {
        output::line(format!("\nPublish policy: {}", audit.policy))?;
    }
    for warning in &audit.warnings {
        let line = format!("WARNING: {warning}");
        // what a program reads stays free of words
        if format.is_table() {
            output::line(line)?;
        } else {
            complain(line);
        }
    }
    Ok(0)
}

fn row(audit: &Audit, port: &AuditPort, origin: &Origin) -> Row {
    Row::new(&LISTING)
        .with("Container", port.container.as_str())
        .with("ContainerID", short_id(&port.container_id))
        .with("Network", port.network.as_str())
        .with("Port", format!("{}/{}", port.container_port, port.protocol))
        .with("Protocol", port.protocol.as_str())
        .with("Published", published(port))
        .with("HostIP", port.host_ip.as_str())
        .with("HostPort", port.host_port.to_string())
        .with("ContainerIP", port.container_ip.as_str())
        .with("ContainerPort", port.container_port.to_string())
        .with("From", origin.who.as_str())
        .with("Reachable", if origin.reachable { "yes" } else { "no" })
        .with("Rule", origin.rule.as_str())
        .with("Policy", audit.policy.as_str())
}

/// The host's address and port; a dash for what is not published.
fn published(port: &AuditPort) -> String {
    match (port.host_ip.as_str(), port.host_port) {
        (_, 0) => "-".to_owned(),
        (ip, number) if ip.contains(':') => format!("[{ip}]:{number}"),
        (ip, number) => format!("{ip}:{number}"),
    }
}
