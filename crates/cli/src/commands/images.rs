//! `gorae images`.

use super::{FILTER, FORMAT};
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row, short_id};
use crate::{connect, filter, output, units};
use api::image::Summary;

pub(crate) static VERB: Verb = Verb {
    about: "List images",
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    operands: Operands::between(0, 1),
    flags: &[&[
        Flag::switch("all", "Show all images (default hides intermediate images)").short('a'),
        Flag::switch("digests", "Show digests"),
        FILTER,
        FORMAT,
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only show image IDs").short('q'),
    ]],
    examples: &[
        ("images", "List images"),
        (
            "images --filter dangling=true -q",
            "Show ids of images without a name",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

static LISTING: Listing = Listing {
    go_type: "formatter.imageContext",
    headers: HEADERS,
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};

static WITH_DIGESTS: Listing = Listing {
    go_type: "formatter.imageContext",
    headers: HEADERS,
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let digests = call.on("digests");
    let listing = if digests { &WITH_DIGESTS } else { &LISTING };
    let quiet = call.on("quiet").then_some("{{.ID}}");
    let format = Format::read(listing, call.text("format"), quiet)?;
    let mut filters = filter::from_flags(call)?;
    if let Some(reference) = call.operands.first() {
        filters.add("reference", reference.as_str());
    }
    connect::ready(&call.client, &call.globals).await?;
    let images: Vec<Summary> = call
        .client
        .get("/images/json")
        .query_flag("all", call.on("all"))
        .query_opt("filters", filter::parameter(&filters))
        .fetch()
        .await?;
    let full = call.on("no-trunc");
    let by_digest = digests || format.mentions("Digest");
    let mut rows: Vec<Row> = images
        .iter()
        .flat_map(|image| rows(listing, image, by_digest, full))
        .collect();
    if quiet.is_some() && call.text("format").is_none() {
        // an image with several names is one id
        let mut lines = Vec::new();
        for row in rows.drain(..) {
            let line = format.row(&row)?;
            if !lines.contains(&line) {
                output::line(&line)?;
                lines.push(line);
            }
        }
        return Ok(0);
    }
    output::raw(format.render(listing, &rows)?.as_bytes())?;
    Ok(0)
}

const NONE: &str = "<none>";

/// An image as rows: one for each of its names.
pub(crate) fn rows(listing: &Listing, image: &Summary, by_digest: bool, full: bool) -> Vec<Row> {
    let tags = image.repo_tags.as_deref().unwrap_or_default();
    let digests: Vec<(&str, &str)> = image
        .repo_digests
        .as_deref()
        .unwrap_or_default()
        .iter()
        .filter_map(|text| text.split_once('@'))
        .filter(|(repository, _)| *repository != NONE)
        .collect();
    let named: Vec<(&str, &str)> = tags
        .iter()
        .filter_map(|text| text.rsplit_once(':'))
        .filter(|(repository, _)| *repository != NONE)
        .collect();
    let mut out = Vec::new();
    for (repository, tag) in &named {
        let own: Vec<&str> = digests
            .iter()
            .filter(|(name, _)| name == repository)
            .map(|(_, digest)| *digest)
            .collect();
        if by_digest && !own.is_empty() {
            out.extend(
                own.into_iter()
                    .map(|digest| row(listing, image, repository, tag, digest, full)),
            );
        } else {
            out.push(row(listing, image, repository, tag, NONE, full));
        }
    }
    for (repository, digest) in &digests {
        if !named.iter().any(|(name, _)| name == repository) {
            let digest = if by_digest { *digest } else { NONE };
            out.push(row(listing, image, repository, NONE, digest, full));
        }
    }
    if out.is_empty() {
        out.push(row(listing, image, NONE, NONE, NONE, full));
    }
    out
}

fn row(
    listing: &Listing,
    image: &Summary,
    repository: &str,
    tag: &str,
    digest: &str,
    full: bool,
) -> Row {
    let id = if full {
        image.id.as_str()
    } else {
        short_id(&image.id)
    };
    let optional = |size: i64| {
        if size < 0 {
            "N/A".to_owned()
        } else {
            units::size(size)
        }
    };
    let unique = if image.shared_size < 0 {
        -1
    } else {
        image.size - image.shared_size
    };
    let containers = if image.containers < 0 {
        "N/A".to_owned()
    } else {
        image.containers.to_string()
    };
    Row::new(listing)
        .with("ID", id)
        .with("Repository", repository)
        .with("Tag", tag)
        .with("Digest", digest)
        .with(
            "CreatedSince",
            if image.created > 0 {
                units::ago(image.created)
            } else {
                "N/A".to_owned()
            },
        )
        .with(
            "CreatedAt",
            if image.created > 0 {
                units::go_time(image.created)
            } else {
                "N/A".to_owned()
            },
        )
        .with("Size", units::size(image.size))
        .with("VirtualSize", units::size_with_digits(image.size, 4))
        .with("Containers", containers)
        .with("SharedSize", optional(image.shared_size))
        .with(
            "UniqueSize",
            if unique < 0 {
                "N/A".to_owned()
            } else {
                units::size_with_digits(unique, 4)
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tags: &[&str], digests: &[&str], by_digest: bool, expect: &str) {
        let owned = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
        let image = Summary {
            repo_tags: owned(tags),
            repo_digests: owned(digests),
            ..Summary::default()
        };
        let format =
            Format::read(&LISTING, Some("{{.Repository}} {{.Tag}} {{.Digest}}"), None).unwrap();
        let shown = format
            .render(&LISTING, &rows(&LISTING, &image, by_digest, false))
            .unwrap();
        assert_eq!(
            shown.trim_end().replace('\n', ", "),
            expect,
            "{tags:?} {digests:?}"
        );
    }

    #[test]
    fn names() {
        check(&["a:1"], &[], false, "a 1 <none>");
        check(
            &["a:1", "b:2"],
            &["a@sha256:0"],
            false,
            "a 1 <none>, b 2 <none>",
        );
        check(
            &["a:1", "b:2"],
            &["a@sha256:0"],
            true,
            "a 1 sha256:0, b 2 <none>",
        );
        check(&[], &["a@sha256:0"], false, "a <none> <none>");
        check(&[], &["a@sha256:0"], true, "a <none> sha256:0");
        check(&[], &[], true, "<none> <none> <none>");
        check(&["h:5000/a:1"], &[], false, "h:5000/a 1 <none>");
    }
}
