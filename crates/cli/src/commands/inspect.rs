//! `gorae inspect`, for objects of any kind, and for one kind below its group.

use crate::args::{Call, Flag, Operands, Verb};
use crate::inspect::{FORMAT, Shown};
use crate::output::complain;
use crate::{connect, failure};
use api::client::{ClientError, encode_component};
use serde_json::Value;

const SIZE: Flag =
    Flag::switch("size", "Display total file sizes if the type is container").short('s');

pub(crate) static VERB: Verb = Verb {
    about: "Return low-level information on Docker objects",
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    operands: Operands::at_least(1),
    flags: &[&[
        FORMAT,
        SIZE,
        Flag::one("type", "string", "Only inspect objects of the given type"),
    ]],
    examples: &[
        ("inspect web", "Show all that is known of a container"),
        (
            "inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web",
            "Show a container's address",
        ),
    ],
    run: |call| Box::pin(any(call)),
};

pub(crate) static CONTAINER: Verb = Verb {
    about: "Display detailed information on one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[&[FORMAT, SIZE]],
    examples: &[(
        "container inspect -f '{{.State.Status}}' web",
        "Show a container's state",
    )],
    run: |call| Box::pin(of_kinds(call, &["container"])),
};

pub(crate) static IMAGE: Verb = Verb {
    about: "Display detailed information on one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    operands: Operands::at_least(1),
    flags: &[&[FORMAT]],
    examples: &[(
        "image inspect -f '{{json .Config.Env}}' busybox",
        "Show an image's variables",
    )],
    run: |call| Box::pin(of_kinds(call, &["image"])),
};

pub(crate) static NETWORK: Verb = Verb {
    about: "Display detailed information on one or more networks",
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    operands: Operands::at_least(1),
    flags: &[&[
        FORMAT,
        Flag::switch("verbose", "Verbose output for diagnostics").short('v'),
    ]],
    examples: &[
        (
            "network inspect bridge",
            "Show the default network and who is in it",
        ),
        (
            "network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{end}}' front",
            "Show a network's subnets",
        ),
    ],
    run: |call| Box::pin(of_kinds(call, &["network"])),
};

pub(crate) static VOLUME: Verb = Verb {
    about: "Display detailed information on one or more volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    operands: Operands::at_least(1),
    flags: &[&[FORMAT]],
    examples: &[(
        "volume inspect -f '{{.Mountpoint}}' data",
        "Show where a volume's files lie",
    )],
    run: |call| Box::pin(of_kinds(call, &["volume"])),
};

const KINDS: &[&str] = &["container", "image", "network", "volume"];

async fn any(call: &Call) -> anyhow::Result<u8> {
    match call.text("type").filter(|kind| !kind.is_empty()) {
        None => of_kinds(call, KINDS).await,
        Some(kind) => match KINDS.iter().position(|known| *known == kind) {
            Some(place) => of_kinds(call, &KINDS[place..=place]).await,
            None => Err(failure::Failure::message(format!("unknown type: {kind:?}")).into()),
        },
    }
}

/// Shows each object as the first kind that has one of that name.
async fn of_kinds(call: &Call, kinds: &[&str]) -> anyhow::Result<u8> {
    let shown = Shown::read(call.text("format"))?;
    connect::ready(&call.client, &call.globals).await?;
    let mut objects = Vec::new();
    let mut failures = Vec::new();
    for name in &call.operands {
        match find(call, name, kinds).await {
            Ok(object) => objects.push(object),
            Err(text) => failures.push(text),
        }
    }
    shown.print(&objects)?;
    for text in &failures {
        complain(text);
    }
    if let Some(hint) = failures.first().and_then(|text| failure::hint(text)) {
        complain(format!("\nHint: {hint}"));
    }
    Ok(u8::from(!failures.is_empty()))
}

async fn find(call: &Call, name: &str, kinds: &[&str]) -> Result<Value, String> {
    for kind in kinds {
        match one(call, name, kind).await {
            Ok(object) => return Ok(object),
            Err(error) if error.status() == Some(404) && kinds.len() > 1 => {}
            Err(error) => return Err(failure::chain(&error.into())),
        }
    }
    Err(format!("Error: No such object: {name}"))
}

async fn one(call: &Call, name: &str, kind: &str) -> Result<Value, ClientError> {
    let verbose = *kind == *"network" && call.on("verbose");
    let sized = *kind == *"container" && call.on("size");
    let name = encode_component(name);
    let path = match kind {
        "container" => format!("/containers/{name}/json"),
        "image" => format!("/images/{name}/json"),
        "network" => format!("/networks/{name}"),
        _ => format!("/volumes/{name}"),
    };
    call.client
        .get(&path)
        .query_flag("size", sized)
        .query_flag("verbose", verbose)
        .fetch()
        .await
}
