//! `gorae update`.

use super::{container_path, each};
use crate::args::{Call, Flag, Operands, Verb};
use crate::create;
use crate::failure::Failure;
use crate::output::complain;
use crate::units::parse_cpus;
use api::container::{UpdateRequest, UpdateResponse};
use api::host_config::Resources;

pub(crate) static VERB: Verb = Verb {
    about: "Update configuration of one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    operands: Operands::at_least(1),
    flags: &[&[
        Flag::one(
            "blkio-weight",
            "uint16",
            "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
        ),
        Flag::one(
            "cpu-period",
            "int",
            "Limit CPU CFS (Completely Fair Scheduler) period",
        ),
        Flag::one(
            "cpu-quota",
            "int",
            "Limit CPU CFS (Completely Fair Scheduler) quota",
        ),
        Flag::one(
            "cpu-rt-period",
            "int",
            "Limit the CPU real-time period in microseconds",
        ),
        Flag::one(
            "cpu-rt-runtime",
            "int",
            "Limit the CPU real-time runtime in microseconds",
        ),
        Flag::one("cpu-shares", "int", "CPU shares (relative weight)").short('c'),
        Flag::one("cpus", "decimal", "Number of CPUs"),
        Flag::one(
            "cpuset-cpus",
            "string",
            "CPUs in which to allow execution (0-3, 0,1)",
        ),
        Flag::one(
            "cpuset-mems",
            "string",
            "MEMs in which to allow execution (0-3, 0,1)",
        ),
        Flag::one("memory", "bytes", "Memory limit").short('m'),
        Flag::one("memory-reservation", "bytes", "Memory soft limit"),
        Flag::one(
            "memory-swap",
            "bytes",
            "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
        ),
        Flag::one(
            "pids-limit",
            "int",
            "Tune container pids limit (set -1 for unlimited)",
        ),
        Flag::one(
            "restart",
            "string",
            "Restart policy to apply when a container exits",
        ),
    ]],
    examples: &[(
        "update -m 512m --memory-swap 1g web",
        "Give a running container other limits",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    if !call.verb.flags().any(|flag| call.given(flag.long)) {
        return Err(
            Failure::message("you must provide one or more flags when using this command").into(),
        );
    }
    let request = read(call)?;
    each(call, move |client, name| {
        let request = client
            .post(&container_path(&name, "/update"))
            .json(&request);
        async move {
            let answer: UpdateResponse = request.fetch().await?;
            for warning in answer.warnings.unwrap_or_default() {
                complain(warning);
            }
            Ok(name)
        }
    })
    .await
}

fn read(call: &Call) -> Result<UpdateRequest, Failure> {
    let integer = |name: &str| -> Result<i64, Failure> { Ok(call.integer(name)?.unwrap_or(0)) };
    let weight = |text: &str| {
        text.parse()
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    };
    let restart_policy = match call.text("restart").filter(|text| !text.is_empty()) {
        Some(text) => create::restart_policy(text).map_err(Failure::message)?,
        None => api::host_config::RestartPolicy::default(),
    };
    let resources = Resources {
        blkio_weight: call.parsed("blkio-weight", weight)?.unwrap_or(0),
        cpu_period: integer("cpu-period")?,
        cpu_quota: integer("cpu-quota")?,
        cpu_realtime_period: integer("cpu-rt-period")?,
        cpu_realtime_runtime: integer("cpu-rt-runtime")?,
        cpu_shares: integer("cpu-shares")?,
        nano_cpus: call.parsed("cpus", parse_cpus)?.unwrap_or(0),
        cpuset_cpus: call.text_or_empty("cpuset-cpus"),
        cpuset_mems: call.text_or_empty("cpuset-mems"),
        memory: create::memory(call, "memory")?,
        memory_reservation: create::memory(call, "memory-reservation")?,
        memory_swap: create::memory_swap(call)?,
        pids_limit: call.integer("pids-limit")?,
        ..Resources::default()
    };
    Ok(UpdateRequest {
        restart_policy,
        resources,
    })
}
