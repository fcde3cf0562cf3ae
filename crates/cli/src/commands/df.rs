//! `gorae system df`.

use super::{FORMAT, images, ps, volumes};
use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::format::{Format, Listing, Row, short_id};
use crate::{connect, output, units};
use api::container::Summary as Container;
use api::image::Summary as Image;
use api::system::{Account, ContainerAccount, DiskUsage};
use api::volume::Volume;
use serde_json::Value;

pub(crate) static VERB: Verb = Verb {
    about: "Show disk usage",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        FORMAT,
        Flag::switch("verbose", "Show detailed information on space usage").short('v'),
    ]],
    examples: &[(
        "system df -v",
        "Show what each image, container and volume takes",
    )],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "formatter.diskUsageContext",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

static IMAGES: Listing = Listing {
    go_type: "formatter.imageContext",
    headers: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
};

static CONTAINERS: Listing = Listing {
    go_type: "formatter.ContainerContext",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
};

static VOLUMES: Listing = Listing {
    go_type: "formatter.volumeContext",
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
    ],
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
};

static CACHE: Listing = Listing {
    go_type: "formatter.buildCacheContext",
    headers: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
};

static PARTS: Listing = Listing {
    go_type: "gorae.diskPartContext",
    headers: &[("Part", "PART"), ("Size", "SIZE")],
    table: "{{.Part}}\t{{.Size}}",
};

static DETAILS: Listing = Listing {
    go_type: "gorae.diskContainerContext",
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("Rw", "WRITTEN"),
        ("Logs", "LOGS"),
        ("Metadata", "METADATA"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Rw}}\t{{.Logs}}\t{{.Metadata}}",
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let verbose = call.on("verbose");
    let form = call.text("format").filter(|text| !text.is_empty());
    if verbose && form.is_some_and(|form| form != "json") {
        return Err(Failure::message("the verbose and the format options conflict").into());
    }
    let format = Format::read(&LISTING, form, None)?;
    connect::ready(&call.client, &call.globals).await?;
    let usage: DiskUsage = call.client.get("/system/df").fetch().await?;
    if verbose && form.is_some() {
        output::line(serde_json::to_string(&usage)?)?;
        return Ok(0);
    }
    if verbose {
        return details(&usage);
    }
    output::raw(format.render(&LISTING, &rows(&usage))?.as_bytes())?;
    Ok(0)
}

fn rows(usage: &DiskUsage) -> Vec<Row> {
    let images = usage.images.as_deref().unwrap_or_default();
    let containers = usage.containers.as_deref().unwrap_or_default();
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    vec![
        images_row(usage.layers_size, images),
        containers_row(containers),
        volumes_row(volumes),
        cache_row(usage),
    ]
}

fn row(kind: &str, total: usize, active: usize, size: i64, reclaimable: String) -> Row {
    Row::new(&LISTING)
        .with("Type", kind)
        .with("TotalCount", total.to_string())
        .with("Active", active.to_string())
        .with("Size", units::size_with_digits(size, 4))
        .with("Reclaimable", reclaimable)
}

/// Bytes with their share of the whole.
fn share(part: i64, whole: i64) -> String {
    let shown = units::size_with_digits(part, 4);
    if whole > 0 {
        format!("{shown} ({}%)", part.saturating_mul(100) / whole)
    } else {
        shown
    }
}

fn images_row(layers: i64, images: &[Image]) -> Row {
    let used: i64 = images
        .iter()
        .filter(|image| image.containers > 0 && image.size >= 0 && image.shared_size >= 0)
        .map(|image| image.size - image.shared_size)
        .sum();
    let active = images.iter().filter(|image| image.containers > 0).count();
    row(
        "Images",
        images.len(),
        active,
        layers,
        share((layers - used).max(0), layers),
    )
}

fn containers_row(containers: &[Container]) -> Row {
    let is_active = |container: &&Container| {
        ["running", "paused", "restarting"].contains(&container.state.as_str())
    };
    let size: i64 = containers.iter().map(|container| container.size_rw).sum();
    let used: i64 = containers
        .iter()
        .filter(is_active)
        .map(|container| container.size_rw)
        .sum();
    row(
        "Containers",
        containers.len(),
        containers.iter().filter(is_active).count(),
        size,
        share(size - used, size),
    )
}

fn volumes_row(volumes: &[Volume]) -> Row {
    let usage = || {
        volumes
            .iter()
            .filter_map(|volume| volume.usage_data.as_ref())
    };
    let size: i64 = usage().map(|usage| usage.size.max(0)).sum();
    let free: i64 = usage()
        .filter(|usage| usage.ref_count == 0)
        .map(|usage| usage.size.max(0))
        .sum();
    let active = usage().filter(|usage| usage.ref_count > 0).count();
    row(
        "Local Volumes",
        volumes.len(),
        active,
        size,
        share(free, size),
    )
}

fn cache_row(usage: &DiskUsage) -> Row {
    let records = usage.build_cache.as_deref().unwrap_or_default();
    let size = |record: &Value| record["Size"].as_i64().unwrap_or(0);
    let shared = |record: &Value| record["Shared"].as_bool().unwrap_or(false);
    let in_use = |record: &Value| record["InUse"].as_bool().unwrap_or(false);
    let total: i64 = records
        .iter()
        .filter(|record| !shared(record))
        .map(size)
        .sum();
    let used: i64 = records
        .iter()
        .filter(|record| in_use(record) && !shared(record))
        .map(size)
        .sum();
    let active = records.iter().filter(|record| in_use(record)).count();
    row(
        "Build Cache",
        records.len(),
        active,
        total,
        units::size_with_digits(total - used, 4),
    )
}

/// A record of the build cache as a row.
fn cache_record(record: &Value) -> Row {
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let since = |name: &str| {
        let time = text(name).parse::<jiff::Timestamp>();
        time.map_or_else(|_| String::new(), |time| units::ago(time.as_second()))
    };
    let id = text("ID");
    let in_use = record["InUse"].as_bool().unwrap_or(false);
    Row::new(&CACHE)
        .with(
            "ID",
            format!("{}{}", short_id(&id), if in_use { "*" } else { "" }),
        )
        .with("CacheType", text("Type"))
        .with("Size", units::size(record["Size"].as_i64().unwrap_or(0)))
        .with("CreatedSince", since("CreatedAt"))
        .with("LastUsedSince", since("LastUsedAt"))
        .with("UsageCount", record["UsageCount"].to_string())
        .with("Shared", record["Shared"].to_string())
}

/// One table a kind.
fn details(usage: &DiskUsage) -> anyhow::Result<u8> {
    let table = |listing: &'static Listing, rows: &[Row]| -> anyhow::Result<String> {
        Ok(Format::read(listing, None, None)?.render(listing, rows)?)
    };
    let images: Vec<Row> = usage
        .images
        .iter()
        .flatten()
        .flat_map(|image| images::rows(&IMAGES, image, false, false))
        .collect();
    let containers: Vec<Row> = usage
        .containers
        .iter()
        .flatten()
        .map(|container| {
            // the layers below are counted with the images
            ps::row(&CONTAINERS, container, false).with("Size", units::size(container.size_rw))
        })
        .collect();
    let volumes: Vec<Row> = usage.volumes.iter().flatten().map(volumes::row).collect();
    output::line(format!(
        "Images space usage:\n\n{}",
        table(&IMAGES, &images)?
    ))?;
    output::line(format!(
        "Containers space usage:\n\n{}",
        table(&CONTAINERS, &containers)?
    ))?;
    output::line(format!(
        "Local Volumes space usage:\n\n{}",
        table(&VOLUMES, &volumes)?
    ))?;
    let records = usage.build_cache.as_deref().unwrap_or_default();
    let caches: Vec<Row> = records.iter().map(cache_record).collect();
    let size: i64 = records
        .iter()
        .filter_map(|record| record["Size"].as_i64())
        .sum();
    output::line(format!(
        "Build cache usage: {}\n",
        units::size_with_digits(size, 4)
    ))?;
    output::raw(table(&CACHE, &caches)?.as_bytes())?;
    if let Some(account) = &usage.gorae {
        let parts = table(&PARTS, &parts(account))?;
        output::line(format!("\nEvery byte on the disk:\n\n{parts}"))?;
        let containers: Vec<Row> = account
            .container_details
            .iter()
            .flatten()
            .map(container_account)
            .collect();
        output::raw(table(&DETAILS, &containers)?.as_bytes())?;
    }
    Ok(0)
}

/// The parts of the engine's folder, and their sum.
fn parts(account: &Account) -> Vec<Row> {
    [
        ("Blobs", account.blobs),
        ("Snapshots", account.snapshots),
        ("Containers", account.containers),
        ("Logs", account.logs),
        ("Volumes", account.volumes),
        ("Build cache", account.build_cache),
        ("Metadata", account.metadata),
        ("Other", account.other),
        ("Total", account.total),
    ]
    .map(|(name, bytes)| {
        Row::new(&PARTS)
            .with("Part", name)
            .with("Size", units::size_with_digits(bytes, 4))
    })
    .into()
}

fn container_account(one: &ContainerAccount) -> Row {
    Row::new(&DETAILS)
        .with("ID", short_id(&one.id))
        .with("Name", one.name.clone())
        .with("Rw", units::size(one.rw))
        .with("Logs", units::size(one.logs))
        .with("Metadata", units::size(one.metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::volume::UsageData;

    #[test]
    fn shares() {
        let image = |size, containers| Image {
            size,
            containers,
            ..Image::default()
        };
        let volume = |size, ref_count| Volume {
            usage_data: Some(UsageData { ref_count, size }),
            ..Volume::default()
        };
        let usage = DiskUsage {
            layers_size: 7_046_000,
            images: Some(vec![image(1_983_000, 1), image(5_063_000, 0)]),
            volumes: Some(vec![volume(10, 0), volume(30, 2)]),
            ..DiskUsage::default()
        };
        let format = Format::read(&LISTING, None, None).unwrap();
        assert_eq!(
            format.render(&LISTING, &rows(&usage)).unwrap(),
            "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images          2         1         7.046MB   5.063MB (71%)\n\
             Containers      0         0         0B        0B\n\
             Local Volumes   2         1         40B       10B (25%)\n\
             Build Cache     0         0         0B        0B\n"
        );
    }
}
