//! `gorae system prune`, and the `prune` of containers, images, networks and volumes.

use crate::args::{Call, Flag, Operands, Verb};
use crate::output::{self, confirm};
use crate::{connect, filter, units};
use api::Filters;
use api::container::PruneReport as ContainerReport;
use api::image::PruneReport as ImageReport;
use api::network::PruneReport as NetworkReport;
use api::volume::PruneReport as VolumeReport;
use serde::de::DeserializeOwned;

const FILTER: Flag = Flag::many(
    "filter",
    "filter",
    "Provide filter values (e.g. \"label=<key>=<value>\")",
);
const FORCE: Flag = Flag::switch("force", "Do not prompt for confirmation").short('f');

pub(crate) static CONTAINERS: Verb = Verb {
    about: "Remove all stopped containers",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[FILTER, FORCE]],
    examples: &[(
        "container prune --filter until=24h",
        "Remove what ended and was made a day ago or before",
    )],
    run: |call| Box::pin(one(call, "all stopped containers", Kind::Containers)),
};

pub(crate) static IMAGES: Verb = Verb {
    about: "Remove unused images",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::switch("all", "Remove all unused images, not just dangling ones").short('a'),
        FILTER,
        FORCE,
    ]],
    examples: &[("image prune -a", "Remove all images that no container uses")],
    run: |call| {
        let what = if call.on("all") {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        Box::pin(one(call, what, Kind::Images))
    },
};

pub(crate) static NETWORKS: Verb = Verb {
    about: "Remove all unused networks",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[FILTER, FORCE]],
    examples: &[(
        "network prune --filter until=24h",
        "Remove networks without containers that were made a day ago or before",
    )],
    run: |call| {
        let what = "all custom networks not used by at least one container";
        Box::pin(one(call, what, Kind::Networks))
    },
};

pub(crate) static VOLUMES: Verb = Verb {
    about: "Remove unused local volumes",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::switch("all", "Remove all unused volumes, not just anonymous ones").short('a'),
        FILTER,
        FORCE,
    ]],
    examples: &[(
        "volume prune",
        "Remove anonymous volumes that no container uses",
    )],
    run: |call| {
        let what = if call.on("all") {
            "all local volumes not used by at least one container"
        } else {
            "anonymous local volumes not used by at least one container"
        };
        Box::pin(one(call, what, Kind::Volumes))
    },
};

pub(crate) static BUILD_CACHE: Verb = Verb {
    about: "Remove build cache",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::switch(
            "all",
            "Remove all unused build cache, not just dangling ones",
        )
        .short('a'),
        FILTER,
        FORCE,
    ]],
    examples: &[(
        "builder prune -af --filter until=48h",
        "Remove all that no build has used for two days",
    )],
    run: |call| {
        let what = if call.on("all") {
            "all build cache"
        } else {
            "all dangling build cache"
        };
        Box::pin(one(call, what, Kind::BuildCache))
    },
};

pub(crate) static SYSTEM: Verb = Verb {
    about: "Remove unused data",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        Flag::switch("all", "Remove all unused images not just dangling ones").short('a'),
        FILTER,
        FORCE,
        Flag::switch("volumes", "Prune anonymous volumes"),
    ]],
    examples: &[(
        "system prune",
        "Remove stopped containers, unused networks and dangling images",
    )],
    run: |call| Box::pin(system(call)),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containers,
    Networks,
    Volumes,
    Images,
    BuildCache,
}

/// The answer of `POST /build/prune`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BuildReport {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

async fn one(call: &Call, what: &str, kind: Kind) -> anyhow::Result<u8> {
    let filters = filter::from_flags(call)?;
    let question =
        format!("WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ");
    if !call.on("force") && !confirm(&question)? {
        return Ok(0);
    }
    connect::ready(&call.client, &call.globals).await?;
    let reclaimed = prune(call, kind, &filters).await?;
    // a network takes none
    if kind != Kind::Networks {
        output::line(format!("Total reclaimed space: {}", space(reclaimed)))?;
    }
    Ok(0)
}

fn space(bytes: u64) -> String {
    units::size_with_digits(i64::try_from(bytes).unwrap_or(i64::MAX), 4)
}

async fn system(call: &Call) -> anyhow::Result<u8> {
    let filters = filter::from_flags(call)?;
    if !call.on("force") && !confirm(&warning(call))? {
        return Ok(0);
    }
    connect::ready(&call.client, &call.globals).await?;
    let mut kinds = vec![Kind::Containers, Kind::Networks];
    if call.on("volumes") {
        kinds.push(Kind::Volumes);
    }
    kinds.extend([Kind::Images, Kind::BuildCache]);
    let mut reclaimed = 0;
    for kind in kinds {
        reclaimed += prune(call, kind, &filters).await?;
    }
    output::line(format!("Total reclaimed space: {}", space(reclaimed)))?;
    Ok(0)
}

fn warning(call: &Call) -> String {
    let mut lines = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if call.on("volumes") {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if call.on("all") {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if call.on("all") {
        "all build cache"
    } else {
        "unused build cache"
    });
    let list: String = lines.iter().map(|line| format!("  - {line}\n")).collect();
    let mut text = format!("WARNING! This will remove:\n{list}\n");
    let filters = call.list("filter");
    if !filters.is_empty() {
        let list: String = filters
            .iter()
            .map(|filter| format!("  - {filter}\n"))
            .collect();
        text.push_str(&format!(
            "  Items to be pruned will be filtered with:\n{list}\n"
        ));
    }
    text + "Are you sure you want to continue? [y/N] "
}

async fn ask<T: DeserializeOwned>(call: &Call, path: &str, filters: &Filters) -> anyhow::Result<T> {
    Ok(call
        .client
        .post(path)
        .query_opt("filters", filter::parameter(filters))
        .fetch()
        .await?)
}

/// Removes what is unused of one kind; shows what went, and gives the bytes.
async fn prune(call: &Call, kind: Kind, filters: &Filters) -> anyhow::Result<u64> {
    let all = call.on("all");
    let mut filters = filters.clone();
    let (title, names, reclaimed) = match kind {
        Kind::Containers => {
            let report: ContainerReport = ask(call, "/containers/prune", &filters).await?;
            (
                "Deleted Containers",
                report.containers_deleted.unwrap_or_default(),
                report.space_reclaimed,
            )
        }
        Kind::Networks => {
            let report: NetworkReport = ask(call, "/networks/prune", &filters).await?;
            (
                "Deleted Networks",
                report.networks_deleted.unwrap_or_default(),
                0,
            )
        }
        Kind::Volumes => {
            // `--all` of `system prune` speaks of images
            if all && call.path.starts_with("volume") {
                filters.add("all", "true");
            }
            let report: VolumeReport = ask(call, "/volumes/prune", &filters).await?;
            (
                "Deleted Volumes",
                report.volumes_deleted.unwrap_or_default(),
                report.space_reclaimed,
            )
        }
        Kind::Images => {
            filters.add("dangling", if all { "false" } else { "true" });
            let report: ImageReport = ask(call, "/images/prune", &filters).await?;
            let items = report
                .images_deleted
                .unwrap_or_default()
                .into_iter()
                .map(|item| {
                    if item.untagged.is_empty() {
                        format!("deleted: {}", item.deleted)
                    } else {
                        format!("untagged: {}", item.untagged)
                    }
                });
            ("Deleted Images", items.collect(), report.space_reclaimed)
        }
        Kind::BuildCache => {
            let request = call.client.post("/build/prune").query_flag("all", all);
            let given = filter::parameter(&filters);
            let report: BuildReport = request.query_opt("filters", given).fetch().await?;
            (
                "Deleted build cache objects",
                report.caches_deleted.unwrap_or_default(),
                report.space_reclaimed,
            )
        }
    };
    if !names.is_empty() {
        output::line(format!("{title}:\n{}\n", names.join("\n")))?;
    }
    Ok(reclaimed)
}
