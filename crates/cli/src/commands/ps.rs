//! `gorae ps`.

use super::{FILTER, FORMAT};
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row, ellipsis, short_id};
use crate::{connect, filter, output, units};
use api::container::{MountPoint, Port, Summary};
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) static VERB: Verb = Verb {
    about: "List containers",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::switch("all", "Show all containers (default shows just running)").short('a'),
        FILTER,
        FORMAT,
        Flag::one(
            "last",
            "int",
            "Show n last created containers (includes all states) (default -1)",
        )
        .short('n'),
        Flag::switch(
            "latest",
            "Show the latest created container (includes all states)",
        )
        .short('l'),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only display container IDs").short('q'),
        Flag::switch("size", "Display total file sizes").short('s'),
    ]],
    examples: &[
        ("ps -a --filter status=exited", "List containers that ended"),
        (
            "ps --format 'table {{.Names}}\\t{{.Ports}}'",
            "Show names and ports only",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

static LISTING: Listing = Listing {
    go_type: "formatter.ContainerContext",
    headers: HEADERS,
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};

static WITH_SIZE: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    go_type: "formatter.ContainerContext",
    headers: HEADERS,
};

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n";

async fn run(call: &Call) -> anyhow::Result<u8> {
    let listing = if call.on("size") {
        &WITH_SIZE
    } else {
        &LISTING
    };
    let format = match call.text("format") {
        Some("raw") => Some(RAW),
        text => text,
    };
    let quiet = call.on("quiet").then_some("{{.ID}}");
    let format = Format::read(listing, format, quiet)?;
    let last = if call.on("latest") {
        1
    } else {
        call.integer("last")?.unwrap_or(-1)
    };
    let filters = filter::from_flags(call)?;
    let sizes = call.on("size")
        || quiet.is_none() && format.mentions("Size") && call.text("format") != Some("json");
    connect::ready(&call.client, &call.globals).await?;
    let containers: Vec<Summary> = call
        .client
        .get("/containers/json")
        .query_flag("all", call.on("all"))
        .query_opt("limit", (last > 0).then(|| last.to_string()))
        .query_flag("size", sizes)
        .query_opt("filters", filter::parameter(&filters))
        .fetch()
        .await?;
    let full = call.on("no-trunc");
    let rows: Vec<Row> = containers
        .iter()
        .map(|container| row(listing, container, full))
        .collect();
    output::raw(format.render(listing, &rows)?.as_bytes())?;
    Ok(0)
}

/// A container as a row of the list.
pub(crate) fn row(listing: &Listing, container: &Summary, full: bool) -> Row {
    let id = if full {
        container.id.as_str()
    } else {
        short_id(&container.id)
    };
    let command = if full {
        container.command.clone()
    } else {
        ellipsis(&container.command, 20)
    };
    let names = container.names.clone().unwrap_or_default();
    let mounts = container.mounts.as_deref().unwrap_or_default();
    let local = mounts
        .iter()
        .filter(|mount| mount.driver == "local")
        .count();
    let networks: Vec<&str> = container
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref())
        .map(|networks| networks.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let mut row = Row::new(listing)
        .with("ID", id)
        .with("Names", own_names(&names, full).join(","))
        .with("Image", image(container, full))
        .with(
            "Command",
            serde_json::to_string(&command).unwrap_or_default(),
        )
        .with("CreatedAt", units::go_time(container.created))
        .with("RunningFor", units::ago(container.created))
        .with(
            "Ports",
            ports(container.ports.as_deref().unwrap_or_default()),
        )
        .with("State", container.state.as_str())
        .with("Status", container.status.as_str())
        .with("Size", size(container))
        .with("Mounts", mount_names(mounts, full))
        .with("LocalVolumes", local.to_string())
        .with("Networks", networks.join(","));
    row = match &container.image_manifest_descriptor {
        Some(descriptor) => row.with(
            "Platform",
            serde_json::to_value(&descriptor.platform).unwrap_or_default(),
        ),
        None => row.with("Platform", Value::Null),
    };
    row.with_labels(container.labels.clone().unwrap_or_default())
}

/// Names without their slash; those that other containers gave by links are left out unless all is shown.
fn own_names(names: &[String], full: bool) -> Vec<String> {
    let plain = names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name));
    plain
        .filter(|name| full || !name.contains('/'))
        .map(str::to_owned)
        .collect()
}

/// The image as the user wrote it; an id is cut, and so is the digest behind a name with a tag.
fn image(container: &Summary, full: bool) -> String {
    let name = container.image.as_str();
    if name.is_empty() {
        return "<no image>".to_owned();
    }
    if full {
        return name.to_owned();
    }
    if name.starts_with("sha256:") || short_id(&container.image_id) == short_id(name) {
        return short_id(name).to_owned();
    }
    match name.split_once('@') {
        Some((head, _digest))
            if head
                .rsplit('/')
                .next()
                .is_some_and(|last| last.contains(':')) =>
        {
            head.to_owned()
        }
        _ => name.to_owned(),
    }
}

fn size(container: &Summary) -> String {
    let own = units::size(container.size_rw);
    if container.size_root_fs > 0 {
        format!("{own} (virtual {})", units::size(container.size_root_fs))
    } else {
        own
    }
}

fn mount_names(mounts: &[MountPoint], full: bool) -> String {
    let names = mounts.iter().map(|mount| {
        let name = if mount.name.is_empty() {
            &mount.source
        } else {
            &mount.name
        };
        if full {
            name.clone()
        } else {
            ellipsis(name, 15)
        }
    });
    names.collect::<Vec<_>>().join(",")
}

/// Where ports of one kind and address run together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    ip: &'a str,
    kind: &'a str,
}

/// Ports in Docker's short form, neighbours joined to ranges: `0.0.0.0:80-81->80-81/tcp, 90/udp`.
fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by_key(|port| {
        (
            port.private_port,
            port.ip.clone(),
            port.public_port,
            port.kind.clone(),
        )
    });
    let mut runs: BTreeMap<Place<'_>, (u16, u16)> = BTreeMap::new();
    let mut mapped = Vec::new();
    let mut ranges = Vec::new();
    for port in sorted {
        if port.public_port != 0 && port.public_port != port.private_port {
            let host = if port.ip.contains(':') {
                format!("[{}]", port.ip)
            } else {
                port.ip.clone()
            };
            mapped.push(format!(
                "{host}:{}->{}/{}",
                port.public_port, port.private_port, port.kind
            ));
            continue;
        }
        let ip = if port.public_port == 0 {
            ""
        } else {
            port.ip.as_str()
        };
        let place = Place {
            ip,
            kind: &port.kind,
        };
        match runs.get_mut(&place) {
            Some((_first, last)) if *last == port.private_port => {}
            Some((_first, last)) if port.private_port == *last + 1 => *last = port.private_port,
            Some(run) => {
                ranges.push(range(&place, *run));
                *run = (port.private_port, port.private_port);
            }
            None => {
                runs.insert(place, (port.private_port, port.private_port));
            }
        }
    }
    ranges.extend(runs.iter().map(|(place, run)| range(place, *run)));
    ranges.extend(mapped);
    ranges.join(", ")
}

fn range(place: &Place<'_>, (first, last): (u16, u16)) -> String {
    let span = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    if place.ip.is_empty() {
        return format!("{span}/{}", place.kind);
    }
    let host = if place.ip.contains(':') {
        format!("[{}]", place.ip)
    } else {
        place.ip.to_owned()
    };
    format!("{host}:{span}->{span}/{}", place.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private_port: u16, public_port: u16, kind: &str) -> Port {
        Port {
            ip: ip.to_owned(),
            private_port,
            public_port,
            kind: kind.to_owned(),
        }
    }

    #[test]
    fn ports_in_short() {
        let check = |list: &[Port], expect: &str| assert_eq!(ports(list), expect);
        check(&[], "");
        check(&[port("", 80, 0, "tcp")], "80/tcp");
        check(&[port("0.0.0.0", 80, 8080, "tcp")], "0.0.0.0:8080->80/tcp");
        check(&[port("::", 80, 8080, "tcp")], "[::]:8080->80/tcp");
        check(
            &[
                port("", 80, 0, "tcp"),
                port("", 81, 0, "tcp"),
                port("", 83, 0, "tcp"),
            ],
            "80-81/tcp, 83/tcp",
        );
        check(
            &[
                port("0.0.0.0", 80, 80, "tcp"),
                port("0.0.0.0", 81, 81, "tcp"),
                port("", 53, 0, "udp"),
            ],
            "53/udp, 0.0.0.0:80-81->80-81/tcp",
        );
    }

    #[test]
    fn image_names() {
        let check = |image_name: &str, full: bool, expect: &str| {
            let container = Summary {
                image: image_name.to_owned(),
                image_id: "sha256:00112233445566778899".to_owned(),
                ..Summary::default()
            };
            assert_eq!(image(&container, full), expect);
        };
        check("busybox", false, "busybox");
        check("sha256:aabbccddeeff00112233", false, "aabbccddeeff");
        check("busybox:1@sha256:aa", false, "busybox:1");
        check("busybox@sha256:aa", false, "busybox@sha256:aa");
        check(
            "sha256:aabbccddeeff00112233",
            true,
            "sha256:aabbccddeeff00112233",
        );
        check("", false, "<no image>");
    }
}
