//! `gorae search`.

use super::{FILTER, FORMAT};
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row, ellipsis};
use crate::{auth, connect, filter, output};
use api::image::SearchResult;

pub(crate) static VERB: Verb = Verb {
    about: "Search Docker Hub for images",
    usage: "[OPTIONS] TERM",
    operands: Operands::between(1, 1),
    flags: &[&[
        FILTER,
        FORMAT,
        Flag::one("limit", "int", "Max number of search results"),
        Flag::switch("no-trunc", "Don't truncate output"),
    ]],
    examples: &[
        (
            "search --filter is-official=true busybox",
            "Find what Docker Hub answers for itself",
        ),
        (
            "search registry.example/app",
            "Ask another registry that can be searched",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "search.searchContext",
    headers: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
    ],
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
};

/// As much of a description as a table shows.
const DESCRIPTION: usize = 45;

async fn run(call: &Call) -> anyhow::Result<u8> {
    let format = Format::read(&LISTING, call.text("format"), None)?;
    let filters = filter::from_flags(call)?;
    let limit = call.integer("limit")?.map(|limit| limit.to_string());
    connect::ready(&call.client, &call.globals).await?;
    let term = call.operands[0].as_str();
    let mut request = call
        .client
        .get("/images/search")
        .query("term", term)
        .query_opt("limit", limit)
        .query_opt("filters", filter::parameter(&filters));
    if let Some(header) = auth::header(&call.globals, domain(term)).await? {
        request = request.header_static("x-registry-auth", header);
    }
    let mut found: Vec<SearchResult> = request.fetch().await?;
    found.sort_by_key(|one| std::cmp::Reverse(one.star_count));
    let full = call.on("no-trunc");
    let rows: Vec<Row> = found.iter().map(|one| row(one, full)).collect();
    output::raw(format.render(&LISTING, &rows)?.as_bytes())?;
    Ok(0)
}

fn row(found: &SearchResult, full: bool) -> Row {
    let description = found.description.replace(['\n', '\r'], " ");
    let description = if full {
        description
    } else {
        ellipsis(&description, DESCRIPTION)
    };
    Row::new(&LISTING)
        .with("Name", found.name.as_str())
        .with("Description", description)
        .with("StarCount", found.star_count.to_string())
        .with("IsOfficial", if found.is_official { "[OK]" } else { "" })
}

/// The registry that a term is for, as the engine reads it.
fn domain(term: &str) -> &str {
    match term.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => oci::reference::DEFAULT_DOMAIN,
    }
}
