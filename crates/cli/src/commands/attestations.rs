//! `gorae image attestations`.

use super::FORMAT;
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row};
use crate::units::size;
use crate::{auth, connect, output, registry};
use api::client::{ClientError, encode_component};
use api::image::AttestationStatement;
use serde_json::Value;

pub(crate) static VERB: Verb = Verb {
    about: "List what is stated about an image: its bill of materials, and how it was built",
    usage: "[OPTIONS] IMAGE",
    operands: Operands::between(1, 1),
    flags: &[&[
        FORMAT,
        Flag::one(
            "platform",
            "string",
            "Platform of the image (the image's own, or this machine's)",
        ),
        Flag::one(
            "predicate",
            "string",
            "Print the predicates of this type, such as https://spdx.dev/Document",
        ),
        Flag::switch("remote", "Ask the registry, also where the image is here"),
    ]],
    examples: &[
        ("image attestations alpine", "List them"),
        (
            "image attestations --predicate https://spdx.dev/Document alpine",
            "Print the software bill of materials",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "image.attestationContext",
    headers: &[
        ("PredicateType", "PREDICATE TYPE"),
        ("Size", "SIZE"),
        ("Digest", "DIGEST"),
    ],
    table: "{{.PredicateType}}\t{{.Size}}\t{{.Digest}}",
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let format = Format::read(&LISTING, call.text("format"), None)?;
    let wanted = registry::wanted(&call.operands[0])?;
    let predicate = call.text("predicate").filter(|text| !text.is_empty());
    connect::ready(&call.client, &call.globals).await?;
    let found = match fetch(call, &wanted, call.on("remote")).await {
        // what is not here may be in its registry
        Err(ClientError::Response { status: 404, .. }) if !call.on("remote") => {
            fetch(call, &wanted, true).await?
        }
        other => other?,
    };
    if predicate.is_some() {
        for one in &found {
            let statement = one.statement.as_ref();
            let predicate = statement.and_then(|statement| statement.get("predicate"));
            let text = serde_json::to_string_pretty(predicate.unwrap_or(&Value::Null))?;
            output::line(text)?;
        }
        return Ok(0);
    }
    let rows: Vec<Row> = found.iter().map(row).collect();
    output::raw(format.render(&LISTING, &rows)?.as_bytes())?;
    Ok(0)
}

async fn fetch(
    call: &Call,
    wanted: &registry::Wanted,
    remote: bool,
) -> Result<Vec<AttestationStatement>, ClientError> {
    let platform = registry::platform(call.text("platform")).unwrap_or_default();
    let path = format!(
        "/images/{}/attestations",
        encode_component(&call.operands[0])
    );
    let predicate = call.text("predicate").filter(|text| !text.is_empty());
    let mut request = call
        .client
        .get(&path)
        .query_opt("platform", platform)
        .query_opt("type", predicate)
        .query_opt("statement", predicate.map(|_| "1"))
        .query_opt("remote", remote.then_some("1"));
    if let Ok(Some(header)) = auth::header(&call.globals, &wanted.domain).await {
        request = request.header_static("x-registry-auth", header);
    }
    request.fetch().await
}

fn row(one: &AttestationStatement) -> Row {
    Row::new(&LISTING)
        .with("PredicateType", one.predicate_type.as_str())
        .with("Size", size(one.descriptor.size))
        .with("Digest", one.descriptor.digest.as_str())
}
