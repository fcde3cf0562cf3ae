//! `gorae history`.

use super::FORMAT;
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row, ellipsis, short_id};
use crate::{connect, output, units};
use api::client::encode_component;
use api::image::HistoryItem;

pub(crate) static VERB: Verb = Verb {
    about: "Show the history of an image",
    usage: "[OPTIONS] IMAGE",
    operands: Operands::between(1, 1),
    flags: &[&[
        FORMAT,
        Flag::switch_on("human", "Print sizes and dates in human readable format").short('H'),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only show image IDs").short('q'),
    ]],
    examples: &[(
        "history --no-trunc busybox",
        "See how an image was made, with whole commands",
    )],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "image.historyContext",
    headers: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};

static EXACT: Listing = Listing {
    table: "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    go_type: "image.historyContext",
    headers: LISTING.headers,
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let human = call.still_on("human");
    let listing = if human { &LISTING } else { &EXACT };
    let format = Format::read(
        listing,
        call.text("format"),
        call.on("quiet").then_some("{{.ID}}"),
    )?;
    connect::ready(&call.client, &call.globals).await?;
    let path = format!("/images/{}/history", encode_component(&call.operands[0]));
    let items: Vec<HistoryItem> = call.client.get(&path).fetch().await?;
    let full = call.on("no-trunc");
    let rows: Vec<Row> = items.iter().map(|item| row(item, full, human)).collect();
    output::raw(format.render(listing, &rows)?.as_bytes())?;
    Ok(0)
}

fn row(item: &HistoryItem, full: bool, human: bool) -> Row {
    let created_by = item.created_by.replace('\t', " ");
    let (id, created_by) = if full {
        (item.id.as_str(), created_by)
    } else {
        (short_id(&item.id), ellipsis(&created_by, 45))
    };
    let since = if item.created <= 0 {
        "N/A".to_owned()
    } else {
        units::ago(item.created)
    };
    Row::new(&LISTING)
        .with("ID", id)
        .with(
            "CreatedSince",
            if human { since } else { rfc3339(item.created) },
        )
        .with("CreatedAt", rfc3339(item.created))
        .with("CreatedBy", created_by)
        .with(
            "Size",
            if human {
                units::size(item.size)
            } else {
                item.size.to_string()
            },
        )
        .with("Comment", item.comment.as_str())
}

fn rfc3339(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |time| time.to_string())
}
