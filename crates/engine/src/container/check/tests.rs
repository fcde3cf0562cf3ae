//! What is refused, and in which words.

use super::*;

#[track_caller]
fn refused(change: impl FnOnce(&mut HostConfig), words: &str) {
    let config = Config {
        cmd: Some(vec!["true".to_owned()].into()),
        ..Config::default()
    };
    let mut host = HostConfig::default();
    change(&mut host);
    let error = request(&config, &mut host, &mut Vec::new()).unwrap_err();
    assert!(
        error.message().contains(words),
        "{} lacks {words}",
        error.message()
    );
}

#[test]
fn refuses_in_dockers_words() {
    refused(
        |h| h.resources.memory = 1 << 20,
        "Minimum memory limit allowed is 6MB",
    );
    refused(
        |h| (h.resources.memory, h.resources.memory_swap) = (64 << 20, 32 << 20),
        "Minimum memoryswap limit should be larger",
    );
    refused(
        |h| h.resources.nano_cpus = 10_000_000_000_000,
        "range of CPUs is from 0.01 to",
    );
    refused(
        |h| h.resources.cpuset_cpus = "4000".into(),
        "Requested CPUs are not available - requested 4000, available: ",
    );
    refused(
        |h| h.ipc_mode = "nonsense".into(),
        "invalid IPC mode: nonsense",
    );
    refused(
        |h| h.cap_add = Some(vec!["CAP_NOPE".to_owned()].into()),
        "CAP_NOPE",
    );
    refused(
        |h| h.restart_policy.name = "maybe".into(),
        "unknown policy 'maybe'",
    );
    let error = request(
        &Config::default(),
        &mut HostConfig::default(),
        &mut Vec::new(),
    )
    .unwrap_err();
    assert_eq!(error.message(), "no command specified");
}
