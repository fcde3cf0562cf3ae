//! What the API answers to requests about containers: one table a subject, each row a request, its
//! status and words of its answer, as dockerd 28.5 gives them.
//!
//! Where dockerd answers 500 to a request that is the client's mistake, Gorae says 400 or 409, in
//! the same words. Those rows are marked with `!`.

use testkit::engine::Engine;

use crate::bench::{Checks, engine};

/// Method, path, body, status, and what the answer contains.
type Row = (&'static str, &'static str, &'static str, u16, &'static str);

fn check(engine: &Engine, rows: &[Row]) {
    let mut checks = Checks::default();
    for (method, path, body, status, text) in rows {
        let method = method.trim_end_matches('!');
        let answer = engine
            .api(method, &format!("/v1.51{path}"), body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        checks.note(answer.status == *status && told.contains(text), || {
            format!(
                "{method} {path} {body}: expected {status} {text:?}: {} {told}",
                answer.status
            )
        });
    }
}

/// A host configuration, 201 or the refusal, in whose words.
type HostRow = (&'static str, u16, &'static str);

fn check_creates(engine: &Engine, rows: &[HostRow], body: impl Fn(&str) -> String) {
    let mut checks = Checks::default();
    for (part, status, text) in rows {
        let answer = engine
            .api("POST", "/v1.51/containers/create?name=tried", &body(part))
            .unwrap();
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        checks.note(answer.status == *status && told.contains(text), || {
            format!(
                "{part}: expected {status} {text:?}: {} {told}",
                answer.status
            )
        });
        engine
            .api("DELETE", "/v1.51/containers/tried?v=1", "")
            .unwrap();
    }
}

#[test]
fn host_configurations() {
    #[rustfmt::skip]
    const ROWS: &[HostRow] = &[
        (r#""Memory":1"#, 400, "Minimum memory limit allowed is 6MB"),
        (r#""Memory":-1"#, 400, "Minimum memory limit allowed is 6MB"),
        (r#""MemorySwap":104857600"#, 400, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (r#""Memory":104857600,"MemorySwap":52428800"#, 400, "Minimum memoryswap limit should be larger than memory limit, see usage"),
        (r#""MemorySwappiness":101"#, 400, "Invalid value: 101, valid memory swappiness range is 0-100"),
        (r#""MemoryReservation":1"#, 400, "Minimum memory reservation allowed is 6MB"),
        (r#""Memory":10485760,"MemoryReservation":20971520"#, 400, "Minimum memory limit can not be less than memory reservation limit, see usage"),
        (r#""KernelMemory":1"#, 201, r#""Warnings":[]"#),
        (r#""NanoCpus":-1"#, 400, "range of CPUs is from 0.01 to"),
        (r#""NanoCpus":1000000000,"CpuQuota":5000"#, 400, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        (r#""NanoCpus":1000000000,"CpuPeriod":5000"#, 400, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        (r#""CpuShares":-1"#, 400, "invalid CPU shares (-1): value must be a positive integer"),
        (r#""CpuPeriod":10"#, 400, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
        (r#""CpuQuota":10"#, 400, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (r#""CpusetCpus":"0-8000""#, 400, "Requested CPUs are not available - requested 0-8000, available: "),
        (r#""CpusetCpus":"x""#, 400, "Invalid value x for cpuset cpus: invalid format: x"),
        (r#""CpusetMems":"0-1-2""#, 400, "Invalid value 0-1-2 for cpuset mems: invalid format: 0-1-2"),
        (r#""CpuRealtimePeriod":1000,"CpuRealtimeRuntime":2000"#, 400, "cpu real-time runtime cannot be higher than cpu real-time period"),
        (r#""PidsLimit":-5"#, 201, ""),
        (r#""CpuPercent":200"#, 201, "linux does not support CPU percent. Percent discarded."),
        (r#""IOMaximumIOps":1"#, 400, "invalid option: QoS maximum IOPs configuration is not supported on linux"),
        (r#""RestartPolicy":{"Name":"x"}"#, 400, "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"),
        (r#""RestartPolicy":{"Name":"always","MaximumRetryCount":3}"#, 400, "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
        (r#""RestartPolicy":{"Name":"always","MaximumRetryCount":-1}"#, 400, "maximum retry count can only be used with 'on-failure' and cannot be negative"),
        (r#""RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-1}"#, 400, "invalid restart policy: maximum retry count cannot be negative"),
        (r#""RestartPolicy":{"Name":"always"},"AutoRemove":true"#, 400, "can't create 'AutoRemove' container with restart policy"),
        (r#""PidMode":"x""#, 400, "invalid PID mode: x"),
        (r#""PidMode":"private""#, 400, "invalid PID mode: private"),
        (r#""PidMode":"container:nosuch""#, 400, "No such container: nosuch"),
        (r#""IpcMode":"x""#, 400, "invalid IPC mode: x"),
        (r#""IpcMode":"container:nosuch""#, 400, "No such container: nosuch"),
        (r#""UTSMode":"x""#, 400, "invalid UTS mode: x"),
        (r#""CgroupnsMode":"x""#, 400, "invalid cgroup namespace mode: x"),
        (r#""Isolation":"hyperv""#, 400, "invalid isolation (hyperv): linux only supports 'default'"),
        (r#""ShmSize":-1"#, 400, "SHM size can not be less than 0"),
        (r#""OomScoreAdj":1001"#, 400, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (r#""CapAdd":["X"]"#, 400, "invalid CapAdd: unknown capability: \\\"CAP_X\\\""),
        (r#""Privileged":true,"CapAdd":["X"]"#, 400, "invalid CapAdd: unknown capability: \\\"CAP_X\\\""),
        (r#""Runtime":"x""#, 400, "unknown or invalid runtime name: x"),
        (r#""ExtraHosts":["x"]"#, 400, "bad format for add-host: \\\"x\\\""),
        (r#""ExtraHosts":["a:x"]"#, 400, "invalid IP address in add-host: \\\"x\\\""),
        (r#""ExtraHosts":["a:host-gateway"]"#, 201, ""),
        (r#""NetworkMode":"container:""#, 400, "invalid network mode: invalid container format container:<name|id>"),
        (r#""NetworkMode":"container:one","Dns":["1.2.3.4"]"#, 400, "conflicting options: dns and the network mode"),
        (r#""NetworkMode":"container:one","ExtraHosts":["a:1.2.3.4"]"#, 400, "conflicting options: custom host-to-IP mapping and the network mode"),
        (r#""NetworkMode":"container:one","Links":["one:a"]"#, 400, "conflicting options: container type network can't be used with links."),
        (r#""NetworkMode":"container:one","PortBindings":{"80/tcp":[{}]}"#, 400, "conflicting options: port publishing and the container type network mode"),
        (r#""NetworkMode":"host","Links":["one:a"]"#, 400, "conflicting options: host type networking can't be used with links."),
        (r#""VolumeDriver":"nosuch","Binds":["v1:/x"]"#, 404, "create v1: error looking up volume plugin nosuch: plugin \\\"nosuch\\\" not found"),
        (r#""VolumesFrom":["nosuch"]"#, 400, "No such container: nosuch"),
        (r#""VolumesFrom":[""]"#, 400, "volumes-from specification cannot be an empty string"),
        (r#""Mounts":[{"Type":"x","Target":"/a"}]"#, 400, "invalid mount config for type \\\"x\\\": mount type unknown"),
        (r#""Mounts":[{"Type":"bind","Source":"/tmp","Target":"/a","VolumeOptions":{}}]"#, 400, "VolumeOptions must not be specified on mount type \\\"bind\\\""),
        (r#""Mounts":[{"Type":"volume","Target":"/a","BindOptions":{}}]"#, 400, "BindOptions must not be specified on mount type \\\"volume\\\""),
        (r#""Mounts":[{"Type":"bind","Source":"/tmp","Target":"/a","BindOptions":{"Propagation":"x"}}]"#, 400, "invalid mount config for type \\\"bind\\\": invalid propagation mode: x"),
        (r#""Binds":["a/b:/x"]"#, 400, "create a/b: \\\"a/b\\\" includes invalid characters for a local volume name"),
        (r#""Annotations":{"":"x"}"#, 400, "invalid Annotations: the empty string is not permitted as an annotation key"),
        // 500 of dockerd
        (r#""SecurityOpt":["x"]"#, 400, "invalid --security-opt 1: \\\"x\\\""),
        (r#""SecurityOpt":["x=1"]"#, 400, "invalid --security-opt 2: \\\"x=1\\\""),
        (r#""SecurityOpt":["no-new-privileges:maybe"]"#, 400, "invalid --security-opt 2: \\\"no-new-privileges:maybe\\\""),
        (r#""StorageOpt":{"size":"10G"}"#, 400, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
        (r#""Binds":["/a:b"]"#, 400, "invalid volume specification: '/a:b': invalid mount config for type \\\"bind\\\": invalid mount path: 'b' mount path must be absolute"),
        (r#""Binds":["/tmp:/a:ro,rw"]"#, 400, "invalid mode: ro,rw"),
        // additions
        (r#""RestartPolicy":{"Name":"on-unhealthy","MaximumRetryCount":3}"#, 201, ""),
        (r#""RestartPolicy":{"Name":"on-unhealthy"},"AutoRemove":true"#, 400, "can't create 'AutoRemove' container with restart policy"),
    ];
    let engine = engine();
    engine.docker("create --name one busybox true").ok();
    check_creates(&engine, ROWS, |part| {
        format!(r#"{{"Image":"busybox","HostConfig":{{{part}}}}}"#)
    });
}

#[test]
fn configurations() {
    #[rustfmt::skip]
    const ROWS: &[HostRow] = &[
        (r#""WorkingDir":"x""#, 400, "the working directory 'x' is invalid, it needs to be an absolute path"),
        (r#""StopSignal":"X""#, 400, "invalid signal: X"),
        (r#""Env":["=a"]"#, 400, "invalid environment variable: =a"),
        (r#""Hostname":"a","HostConfig":{"NetworkMode":"container:x"}"#, 400, "conflicting options: hostname and the network mode"),
        (r#""Hostname":"a","HostConfig":{"UTSMode":"host"}"#, 400, "conflicting options: hostname and the UTS mode"),
        (r#""ExposedPorts":{"80/tcp":{}},"HostConfig":{"NetworkMode":"container:x"}"#, 400, "conflicting options: port exposing and the container type network mode"),
        (r#""MacAddress":"02:42:ac:11:00:02""#, 201, "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."),
        (r#""MacAddress":"02:42:ac:11:00:02","NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:42:ac:11:00:03"}}}"#, 400, "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"),
        (r#""NetworkingConfig":{"EndpointsConfig":{"bridge":null}}"#, 400, "invalid config for network bridge: EndpointsConfig is nil"),
        (r#""Healthcheck":{"Test":["CMD","true"],"Interval":1}"#, 400, "Interval in Healthcheck cannot be less than 1ms"),
        (r#""Healthcheck":{"Timeout":-1}"#, 400, "Timeout in Healthcheck cannot be less than 1ms"),
        (r#""Healthcheck":{"StartPeriod":1}"#, 400, "StartPeriod in Healthcheck cannot be less than 1ms"),
        (r#""Healthcheck":{"StartInterval":1}"#, 400, "StartInterval in Healthcheck cannot be less than 1ms"),
        (r#""Healthcheck":{"Retries":-1}"#, 400, "Retries in Healthcheck cannot be negative"),
        (r#""Labels":{"io.gorae.restart":"always"}"#, 400, "invalid label io.gorae.restart=always"),
        (r#""Labels":{"io.gorae.restart":"on-unhealthy:3"}"#, 201, ""),
    ];
    let engine = engine();
    check_creates(&engine, ROWS, |part| {
        format!(r#"{{"Image":"busybox",{part}}}"#)
    });
    #[rustfmt::skip]
    check(&engine, &[
        ("POST", "/containers/create", "{}", 400, "config cannot be empty in order to create a container"),
        ("POST", "/containers/create", r#"{"HostConfig":{"Memory":7}}"#, 400, "config cannot be empty in order to create a container"),
        ("POST", "/containers/create?name=/", r#"{"Image":"busybox"}"#, 400, "Invalid container name (/), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ("POST", "/containers/create?name=-x", r#"{"Image":"busybox"}"#, 400, "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ]);
}

/// A container in each state that lasts.
fn states(engine: &Engine) {
    engine.docker("run -d --name on busybox sleep 1000").ok();
    engine.docker("run --name off busybox true").ok();
    engine.docker("create --name new busybox sleep 1000").ok();
    engine.docker("run -d --name ice busybox sleep 1000").ok();
    engine.docker("pause ice").ok();
    engine
        .docker("run -d --name again --restart always busybox false")
        .ok();
    crate::bench::eventually("a restart's pause is long", || {
        let told = engine.inspect("again", "{{.RestartCount}} {{.State.Status}}");
        let (count, status) = told.split_once(' ').unwrap();
        count.parse::<u32>().unwrap() >= 6 && status == "restarting"
    });
}

#[test]
fn states_and_verbs() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("POST", "/containers/again/pause", "", 409, " is restarting, wait until the container is running"),
        ("POST", "/containers/again/start", "", 304, ""),
        ("POST", "/containers/again/exec", r#"{"Cmd":["true"]}"#, 409, "Container again is restarting, wait until the container is running"),
        ("POST", "/containers/again/attach?stream=1&stdout=1", "", 409, "container again is restarting, wait until the container is running"),
        ("POST", "/containers/again/stop", "", 204, ""),
        ("GET", "/containers/again/json", "", 200, r#""Status":"exited","Running":false,"Paused":false,"Restarting":false"#),
        ("POST", "/containers/on/start", "", 304, ""),
        ("POST", "/containers/on/start?checkpoint=x", "", 400, "checkpoint is only supported in experimental mode"),
        ("POST", "/containers/on/start", r#"{"Binds":["/:/x"]}"#, 400, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"),
        ("POST", "/containers/ice/start", "", 409, "cannot start a paused container, try unpause instead"),
        ("POST", "/containers/nosuch/start", "", 404, "No such container: nosuch"),
        ("POST", "/containers/ice/pause", "", 409, " is already paused"),
        ("POST", "/containers/off/pause", "", 409, " is not running"),
        ("POST!", "/containers/on/unpause", "", 409, " is not paused"),
        ("POST", "/containers/off/stop", "", 304, ""),
        ("POST", "/containers/new/stop?t=1", "", 304, ""),
        ("POST!", "/containers/on/stop?t=x", "", 400, r#"strconv.Atoi: parsing \"x\": invalid syntax"#),
        ("POST!", "/containers/on/stop?signal=x", "", 400, "cannot stop container: on: invalid signal: x"),
        ("POST!", "/containers/on/restart?signal=x", "", 400, "Cannot restart container on: invalid signal: x"),
        ("POST", "/containers/nosuch/restart", "", 404, "No such container: nosuch"),
        ("POST", "/containers/on/kill?signal=0", "", 400, "cannot kill container: on: invalid signal: 0"),
        ("POST", "/containers/on/kill?signal=99", "", 400, "cannot kill container: on: the linux daemon does not support signal 99"),
        ("POST", "/containers/on/kill?signal=RTMIN%2B3x", "", 400, "cannot kill container: on: invalid signal: RTMIN+3x"),
        ("POST", "/containers/on/kill?signal=CONT", "", 204, ""),
        ("POST", "/containers/on/kill?signal=sigcont", "", 204, ""),
        ("POST", "/containers/on/kill?signal=18", "", 204, ""),
        ("POST", "/containers/off/kill", "", 409, "cannot kill container: off: container "),
        ("POST", "/containers/nosuch/kill", "", 404, "cannot kill container: nosuch: No such container: nosuch"),
        ("POST", "/containers/nosuch/kill?signal=x", "", 400, "cannot kill container: nosuch: invalid signal: x"),
        ("POST", "/containers/on/rename", "", 400, "Neither old nor new names may be empty"),
        ("POST", "/containers/on/rename?name=/", "", 400, "Error when allocating new name: Invalid container name (/), only"),
        ("POST", "/containers/on/rename?name=-x", "", 400, "Error when allocating new name: Invalid container name (/-x), only"),
        ("POST", "/containers/off/rename?name=on", "", 409, r#"Error when allocating new name: Conflict. The container name \"/on\" is already in use by container"#),
        ("POST", "/containers/on/rename?name=on", "", 400, "Renaming a container with the same name as its current name"),
        ("POST", "/containers/nosuch/rename?name=x", "", 404, "No such container: nosuch"),
        ("POST", "/containers/on/resize?h=10&w=10", "", 200, ""),
        ("POST", "/containers/ice/resize?h=10&w=70000", "", 200, ""),
        ("POST", "/containers/off/resize?h=10&w=10", "", 409, " is not running"),
        ("POST", "/containers/on/resize?h=x&w=10", "", 400, r#"invalid resize height \"x\": invalid syntax"#),
        ("POST", "/containers/on/resize?h=10", "", 400, r#"invalid resize width \"\": invalid syntax"#),
        ("POST", "/containers/on/resize?h=-1&w=1", "", 400, r#"invalid resize height \"-1\": value out of range"#),
        ("POST", "/containers/on/wait?condition=x", "", 400, r#"invalid condition: \"x\""#),
        ("POST", "/containers/off/wait", "", 200, r#"{"StatusCode":0}"#),
        ("POST", "/containers/new/wait?condition=not-running", "", 200, r#"{"StatusCode":0}"#),
        ("GET", "/containers/off/top", "", 409, " is not running"),
        ("GET", "/containers/on/top?ps_args=-o%20pid,comm", "", 200, r#"["PID","COMMAND"]"#),
        ("GET", "/containers/on/top?ps_args=-p%201", "", 200, r#""Processes":null"#),
        ("GET!", "/containers/on/top?ps_args=-o%20user", "", 400, "Couldn't find PID field in ps output"),
        ("GET!", "/containers/on/top?ps_args=-Q", "", 400, "ps: error: unsupported SysV option"),
        ("GET", "/containers/ice/top", "", 200, r#""Titles":["UID","PID","PPID","C","STIME","TTY","TIME","CMD"]"#),
        ("POST", "/containers/on/attach?stream=1&detachKeys=xx", "", 400, "Invalid detach keys (xx) provided"),
        ("POST", "/containers/ice/attach?stream=1&stdout=1", "", 409, "container ice is paused, unpause the container before attach"),
        ("GET", "/containers/on/attach/ws", "", 400, "not websocket protocol"),
        ("GET", "/containers/nosuch/attach/ws", "", 404, "No such container: nosuch"),
        ("GET", "/containers/on/checkpoints", "", 501, "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."),
        ("POST", "/containers/on/checkpoints", r#"{"CheckpointID":"x"}"#, 501, "This experimental feature is disabled by default."),
        ("DELETE", "/containers/on/checkpoints/x", "", 501, "This experimental feature is disabled by default."),
        ("DELETE!", "/containers/off?link=1", "", 409, "Conflict, cannot remove the default link name of the container"),
        ("DELETE", "/containers/on", "", 409, r#"cannot remove container \"on\": container is running: stop the container before removing or force remove"#),
        ("DELETE", "/containers/ice", "", 409, r#"cannot remove container \"ice\": container is paused and must be unpaused first"#),
        ("DELETE", "/containers/nosuch?force=1", "", 404, "No such container: nosuch"),
        ("POST", "/containers/ice/unpause", "", 204, ""),
        ("DELETE", "/containers/ice?force=1&v=1", "", 204, ""),
        ("DELETE", "/containers/new", "", 204, ""),
    ];
    let engine = engine();
    states(&engine);
    check(&engine, ROWS);
}

#[test]
fn updates() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("POST", "/containers/nosuch/update", "{}", 404, "No such container: nosuch"),
        ("POST", "/containers/nosuch/update", r#"{"Memory":1}"#, 400, "Minimum memory limit allowed is 6MB"),
        ("POST", "/containers/nosuch/update", r#"{"RestartPolicy":{"Name":"x"}}"#, 400, "invalid restart policy: unknown policy 'x'; use one of"),
        ("POST", "/containers/nosuch/update", r#"{"CpuQuota":10}"#, 400, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ("POST", "/containers/nosuch/update", r#"{"CpusetCpus":"8000"}"#, 400, "Requested CPUs are not available - requested 8000, available: "),
        ("POST", "/containers/box/update", "{}", 200, r#"{"Warnings":null}"#),
        ("POST", "/containers/box/update", r#"{"Memory":67108864,"MemorySwap":134217728}"#, 200, r#"{"Warnings":null}"#),
        ("POST", "/containers/box/update", r#"{"PidsLimit":50}"#, 200, ""),
        ("GET", "/containers/box/stats?stream=0&one-shot=1", "", 200, r#""limit":50"#),
        ("POST", "/containers/box/update", r#"{"PidsLimit":-1}"#, 200, ""),
        ("GET", "/containers/box/stats?stream=0&one-shot=1", "", 200, r#""pids_stats":{"current":1}"#),
        ("POST", "/containers/box/update", r#"{"CpuQuota":20000,"CpuPeriod":50000}"#, 200, ""),
        ("POST", "/containers/box/update", r#"{"NanoCpus":1000000000}"#, 409, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"),
        ("POST", "/containers/box/update", r#"{"KernelMemory":10485760}"#, 200, ""),
        ("POST", "/containers/box/update", r#"{"RestartPolicy":{"Name":"unless-stopped"}}"#, 200, ""),
        ("GET", "/containers/box/json", "", 200, r#""RestartPolicy":{"Name":"unless-stopped","MaximumRetryCount":0}"#),
        ("POST", "/containers/nano/update", r#"{"CpuQuota":20000}"#, 409, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"),
        ("POST", "/containers/swap/update", r#"{"Memory":209715200}"#, 409, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"),
        ("POST", "/containers/nano/update", r#"{"RestartPolicy":{"Name":"always"}}"#, 409, "Restart policy cannot be updated because AutoRemove is enabled for the container"),
    ];
    let engine = engine();
    engine.docker("run -d --name box busybox sleep 1000").ok();
    engine
        .docker("create --rm --name nano --cpus 1 busybox sleep 1000")
        .ok();
    engine
        .docker("create --name swap -m 64m --memory-swap 100m busybox sleep 1000")
        .ok();
    check(&engine, ROWS);
}

#[test]
fn prunes() {
    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        ("POST", "/containers/prune?filters=%7B%22x%22:%5B%221%22%5D%7D", "", 400, "invalid filter 'x'"),
        ("POST", "/containers/prune?filters=%7B", "", 400, "invalid filter"),
        ("POST", "/containers/prune?filters=%7B%22until%22:%5B%22x%22%5D%7D", "", 400, r#"failed to parse value as time or duration: \"x\""#),
        ("POST", "/containers/prune?filters=%7B%22until%22:%5B%222000-01-01%22%5D%7D", "", 200, r#"{"ContainersDeleted":null,"SpaceReclaimed":0}"#),
        ("POST", "/containers/prune?filters=%7B%22until%22:%5B%222000-01-01T10:00:00%22%5D%7D", "", 200, r#""ContainersDeleted":null"#),
        ("POST", "/containers/prune?filters=%7B%22until%22:%5B%221h%22%5D%7D", "", 200, r#""ContainersDeleted":null"#),
        ("POST", "/containers/prune?filters=%7B%22label%22:%5B%22keep=1%22%5D%7D", "", 200, r#""ContainersDeleted":null"#),
        ("POST", "/containers/prune?filters=%7B%22label!%22:%5B%22a%22%5D%7D", "", 200, r#""ContainersDeleted":null"#),
        ("POST", "/containers/prune?filters=%7B%22label%22:%5B%22a=b%22%5D%7D", "", 200, r#""ContainersDeleted":[""#),
    ];
    let engine = engine();
    engine.docker("create --name box -l a=b busybox true").ok();
    check(&engine, ROWS);
}
