//! `gorae system check`.

use super::FORMAT;
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row};
use crate::output::complain;
use crate::{connect, output, units};
use api::check::{Finding, Lease, Report};

pub(crate) static VERB: Verb = Verb {
    about: "Compare what the engine remembers with what is there",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::switch(
            "deep",
            "Read all content of images again, and compare it with its digests",
        ),
        FORMAT,
        Flag::switch("repair", "Mend what differs, where that is possible"),
    ]],
    examples: &[
        (
            "system check",
            "Look for rules, links, blobs, layers, folders and mounts that are missing, damaged or left over; exit status 1 if any are",
        ),
        ("system check --repair", "Mend them"),
        ("system check --deep", "Find damaged content, too"),
        (
            "system check --format '{{.Kind}} {{.Object}}: {{.Problem}}'",
            "Show them in a form of your own",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "check.findingContext",
    headers: &[
        ("Kind", "KIND"),
        ("Object", "OBJECT"),
        ("Problem", "PROBLEM"),
        ("Action", "ACTION"),
        ("Repaired", "REPAIRED"),
    ],
    table: "{{.Kind}}\t{{.Object}}\t{{.Problem}}\t{{.Action}}\t{{.Repaired}}",
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let format = Format::read(&LISTING, call.text("format"), None)?;
    let repair = call.on("repair");
    connect::ready(&call.client, &call.globals).await?;
    let report: Report = call
        .client
        .post("/gorae/system/check")
        .query_flag("repair", repair)
        .query_flag("deep", call.on("deep"))
        .fetch()
        .await?;
    if format.is_table() {
        for lease in &report.leases {
            output::line(kept(lease))?;
        }
        if report.findings.is_empty() {
            output::line("All is well.")?;
            return Ok(0);
        }
    }
    let rows: Vec<Row> = report.findings.iter().map(row).collect();
    output::raw(format.render(&LISTING, &rows)?.as_bytes())?;
    let left = report.findings.iter().filter(|one| !one.repaired).count();
    if left != 0 && !repair {
        complain("\nHint: Mend this with 'gorae system check --repair'.");
    }
    Ok(u8::from(left != 0))
}

/// Says what work that was cut off has left for the next try.
fn kept(lease: &Lease) -> String {
    let Lease {
        work,
        layers,
        blobs,
        until,
        ..
    } = lease;
    let size = units::size(lease.size);
    format!(
        "Interrupted: {work}; {layers} layers and {blobs} blobs ({size}) are kept for the next try until {until}"
    )
}

fn row(finding: &Finding) -> Row {
    Row::new(&LISTING)
        .with("Kind", finding.kind.as_str())
        .with("Object", finding.object.as_str())
        .with("Problem", finding.problem.as_str())
        .with("Action", finding.action.as_str())
        .with("Repaired", if finding.repaired { "yes" } else { "no" })
}
