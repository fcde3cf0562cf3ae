//! `gorae stats`.

use super::{FORMAT, container_path};
use crate::args::{Call, Flag, Operands, Verb};
use crate::format::{Format, Listing, Row, short_id};
use crate::output::{self, complain};
use crate::{connect, failure, terminal, units};
use api::client::Client;
use api::container::Summary;
use api::stats::Stats;
use std::time::Duration;
use tokio::task::JoinSet;

pub(crate) static VERB: Verb = Verb {
    about: "Display a live stream of container(s) resource usage statistics",
    usage: "[OPTIONS] [CONTAINER...]",
    operands: Operands::at_least(0),
    flags: &[&[
        Flag::switch("all", "Show all containers (default shows just running)").short('a'),
        FORMAT,
        Flag::switch(
            "no-stream",
            "Disable streaming stats and only pull the first result",
        ),
        Flag::switch("no-trunc", "Do not truncate output"),
    ]],
    examples: &[(
        "stats --no-stream",
        "Show once what each running container uses",
    )],
    run: |call| Box::pin(run(call)),
};

static LISTING: Listing = Listing {
    go_type: "container.statsContext",
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};

/// How often the figures are shown anew.
const PERIOD: Duration = Duration::from_millis(500);

async fn run(call: &Call) -> anyhow::Result<u8> {
    let format = Format::read(&LISTING, call.text("format"), None)?;
    connect::ready(&call.client, &call.globals).await?;
    let full = call.on("no-trunc");
    let once = call.on("no-stream");
    loop {
        let (rows, failures) = sample(call, full).await?;
        let text = format.render(&LISTING, &rows)?;
        if once {
            output::raw(text.as_bytes())?;
            for failure in &failures {
                complain(failure);
            }
            return Ok(u8::from(!failures.is_empty()));
        }
        if !failures.is_empty() && rows.is_empty() {
            return Err(failure::Failure::message(failures.join("\n")).into());
        }
        if terminal::stdout_is_terminal() {
            // home, the new lines, and nothing of the old ones
            let lines = text.replace('\n', "\x1b[K\n");
            output::raw(format!("\x1b[H{lines}\x1b[J").as_bytes())?;
        } else {
            output::raw(text.as_bytes())?;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Figures of all containers that are asked for, and what could not be had.
async fn sample(call: &Call, full: bool) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let names = if call.operands.is_empty() {
        let request = call
            .client
            .get("/containers/json")
            .query_flag("all", call.on("all"));
        let all: Vec<Summary> = request.fetch().await?;
        all.into_iter().map(|container| container.id).collect()
    } else {
        call.operands.clone()
    };
    let mut tasks = JoinSet::new();
    for (place, name) in names.into_iter().enumerate() {
        tasks.spawn(one(call.client.clone(), place, name));
    }
    let mut found: Vec<(usize, String, Stats)> = Vec::new();
    let mut failures = Vec::new();
    while let Some(result) = tasks.join_next().await {
        match result? {
            Ok(stats) => found.push(stats),
            Err(error) => failures.push(failure::chain(&error)),
        }
    }
    found.sort_by_key(|(place, _, _)| *place);
    Ok((
        found
            .iter()
            .map(|(_, name, stats)| row(name, stats, full))
            .collect(),
        failures,
    ))
}

async fn one(client: Client, place: usize, name: String) -> anyhow::Result<(usize, String, Stats)> {
    let request = client
        .get(&container_path(&name, "/stats"))
        .query("stream", "0");
    let stats = request.fetch().await?;
    Ok((place, name, stats))
}

fn row(name: &str, stats: &Stats, full: bool) -> Row {
    let id = if full {
        stats.id.as_str()
    } else {
        short_id(&stats.id)
    };
    let used = memory_used(stats);
    let binary = |bytes: u64| units::binary_size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let decimal = |bytes: u64| units::size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let received: u64 = stats
        .networks
        .values()
        .map(|network| network.rx_bytes)
        .sum();
    let sent: u64 = stats
        .networks
        .values()
        .map(|network| network.tx_bytes)
        .sum();
    let (read, written) = block_io(stats);
    Row::new(&LISTING)
        .with("Container", name)
        .with("ID", id)
        .with("Name", stats.name.trim_start_matches('/'))
        .with("CPUPerc", format!("{:.2}%", cpu_percent(stats)))
        .with(
            "MemUsage",
            format!("{} / {}", binary(used), binary(stats.memory.limit)),
        )
        .with(
            "MemPerc",
            format!("{:.2}%", percent(used, stats.memory.limit)),
        )
        .with(
            "NetIO",
            format!("{} / {}", decimal(received), decimal(sent)),
        )
        .with(
            "BlockIO",
            format!("{} / {}", decimal(read), decimal(written)),
        )
        .with("PIDs", stats.pids.current.to_string())
}

/// Memory without the page cache that the kernel can take back at once.
fn memory_used(stats: &Stats) -> u64 {
    let memory = &stats.memory;
    let inactive = memory
        .stats
        .get("total_inactive_file")
        .or_else(|| memory.stats.get("inactive_file"));
    match inactive {
        Some(inactive) if *inactive < memory.usage => memory.usage - inactive,
        _ => memory.usage,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage with two digits")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64 * 100.0
    }
}

/// The share of one processor: 200 for two that are busy.
fn cpu_percent(stats: &Stats) -> f64 {
    let used = stats
        .cpu
        .usage
        .total
        .saturating_sub(stats.precpu.usage.total);
    let passed = stats
        .cpu
        .system_usage
        .saturating_sub(stats.precpu.system_usage);
    let processors = match stats.cpu.online_cpus {
        0 => u32::try_from(stats.cpu.usage.percpu.len()).unwrap_or(1),
        count => count,
    };
    if stats.precpu.system_usage == 0 {
        0.0
    } else {
        percent(used, passed) * f64::from(processors)
    }
}

fn block_io(stats: &Stats) -> (u64, u64) {
    let entries = stats
        .blkio
        .io_service_bytes_recursive
        .as_deref()
        .unwrap_or_default();
    let sum = |name: &str| {
        entries
            .iter()
            .filter(|entry| entry.op.eq_ignore_ascii_case(name))
            .map(|entry| entry.value)
            .sum()
    };
    (sum("read"), sum("write"))
}
