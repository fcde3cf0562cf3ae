//! Health checks: a command that runs in the container now and then, and what its results mean.
//!
//! The engine only keeps the clock and the score; the shim runs the command. A container goes on
//! unchecked while no engine runs, and its next engine begins with the state that was stored.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::container::{Config, HealthConfig, HealthcheckResult};
use jiff::Timestamp;
use oci::runtime::Process;
use serde::{Deserialize, Serialize};
use shim::{AttachOrder, ExecOrder, Request};
use tokio::io::AsyncReadExt;

use super::{Container, Status, exec, lock};
use crate::engine::Engine;
use crate::error::Result;
use crate::names;
use crate::shim_link::ask;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// How long the news of a container's end may be behind that of its check.
const NEWS: Duration = Duration::from_millis(50);
/// Results kept.
const KEPT: usize = 5;
/// Bytes of a check's output that are kept.
const OUTPUT_MAX: usize = 4096;

/// How healthy a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Condition {
    /// No check has passed yet.
    #[default]
    Starting,
    /// The last check passed.
    Healthy,
    /// So many checks in a row have failed that it counts.
    Unhealthy,
}

impl Condition {
    /// Docker's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One check's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    start: Timestamp,
    end: Timestamp,
    code: i64,
    output: String,
}

/// A container's health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) condition: Condition,
    failing_streak: i64,
    log: Vec<Outcome>,
}

impl Health {
    /// As clients see it.
    pub(crate) fn shown(&self) -> api::container::Health {
        let entry = |outcome: &Outcome| HealthcheckResult {
            start: outcome.start.to_string(),
            end: outcome.end.to_string(),
            exit_code: outcome.code,
            output: outcome.output.clone(),
        };
        api::container::Health {
            status: self.condition.word().to_owned(),
            failing_streak: self.failing_streak,
            log: Some(self.log.iter().map(entry).collect()),
        }
    }

    /// Whether the container counts as unhealthy.
    pub(super) fn is_bad(&self) -> bool {
        self.condition == Condition::Unhealthy
    }

    /// Nobody checks any more; to Docker that is unhealthy.
    pub(super) fn unwatched(&mut self) {
        self.condition = Condition::Unhealthy;
    }

    /// Begins again with a new run; the results of the last one can still be read.
    fn restart(&mut self) {
        self.condition = Condition::Starting;
        self.failing_streak = 0;
    }

    /// As lists show it.
    pub(super) fn summary(&self) -> api::container::HealthSummary {
        api::container::HealthSummary {
            status: self.condition.word().to_owned(),
            failing_streak: self.failing_streak,
        }
    }

    /// Takes an outcome in; failures within the start period do not count.
    fn add(&mut self, outcome: Outcome, retries: i64, in_start_period: bool) {
        if outcome.code == 0 {
            self.failing_streak = 0;
            self.condition = Condition::Healthy;
        } else if !(in_start_period && self.condition == Condition::Starting) {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.condition = Condition::Unhealthy;
            }
        }
        self.log.push(outcome);
        if self.log.len() > KEPT {
            self.log.remove(0);
        }
    }
}

/// The command of a health check; none when there is no check.
fn command(config: &Config) -> Option<Vec<String>> {
    let test = &config.healthcheck.as_ref()?.test;
    match test.first()?.as_str() {
        "NONE" => None,
        "CMD" => Some(test[1..].to_vec()),
        "CMD-SHELL" => {
            let shell = if config.shell.is_empty() {
                vec!["/bin/sh".into(), "-c".into()]
            } else {
                config.shell.clone()
            };
            Some(shell.into_iter().chain(test.get(1).cloned()).collect())
        }
        // dockerd says so in its log, and checks nothing
        _ => None,
    }
}

fn duration(nanoseconds: i64, default: Duration) -> Duration {
    u64::try_from(nanoseconds)
        .ok()
        .filter(|n| *n > 0)
        .map_or(default, Duration::from_nanos)
}

/// A duration as Go writes it.
fn as_go(duration: Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{duration:?}"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The time to the next check.
fn pause(check: &HealthConfig, in_start_period: bool, condition: Condition) -> Duration {
    let usual = duration(check.interval, INTERVAL);
    if in_start_period && condition == Condition::Starting {
        // who checks often does not want to wait for the first time
        duration(check.start_interval, START_INTERVAL.min(usual))
    } else {
        usual
    }
}

impl Engine {
    /// Begins to check a container that has just started, or that was taken over.
    pub(super) fn check_health(self: &Arc<Self>, container: &Arc<Container>, anew: bool) {
        let (check, words) = {
            let mut record = container.record();
            let Some(words) = command(&record.config) else {
                record.state.health = None;
                return;
            };
            let health = record.state.health.get_or_insert_default();
            if anew {
                health.restart();
            }
            (record.config.healthcheck.clone().unwrap_or_default(), words)
        };
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            let exits = container.phase.borrow().exits;
            let mut phase = container.phase.subscribe();
            let over = phase.wait_for(|p| p.removed || p.exits > exits);
            tokio::select! {
                () = engine.check_for_ever(&container, &check, &words) => {}
                _ = over => {}
            }
        });
    }

    async fn check_for_ever(
        self: &Arc<Self>,
        container: &Arc<Container>,
        check: &HealthConfig,
        words: &[String],
    ) {
        let started = container
            .record()
            .state
            .started_at
            .unwrap_or_else(Timestamp::now);
        let period = duration(check.start_period, Duration::ZERO);
        let retries = if check.retries > 0 {
            check.retries
        } else {
            RETRIES
        };
        let in_start_period = || {
            let age = Timestamp::now().duration_since(started);
            Duration::try_from(age).is_ok_and(|age| age < period)
        };
        loop {
            let condition = container
                .record()
                .state
                .health
                .as_ref()
                .map(|h| h.condition)
                .unwrap_or_default();
            tokio::time::sleep(pause(check, in_start_period(), condition)).await;
            if container.status() != Status::Running {
                continue;
            }
            let age = |at: Timestamp| Duration::try_from(at.duration_since(started));
            let outcome = self
                .check_once(container, words, duration(check.timeout, TIMEOUT))
                .await;
            if outcome.code != 0 {
                // a check that dies with its container says nothing; the news may be on its way
                tokio::time::sleep(NEWS).await;
            }
            let begun_early = age(outcome.start).is_ok_and(|age| age < period);
            let now = {
                let mut record = container.record();
                // its end came while it was checked
                if !record.state.status.is_alive() {
                    return;
                }
                let health = record.state.health.get_or_insert_default();
                health.add(outcome, retries, begun_early);
                health.condition
            };
            self.save_later(container).await;
            if now != condition {
                self.container_event(&format!("health_status: {}", now.word()), container, &[]);
                if now == Condition::Unhealthy {
                    self.restart_unhealthy(container);
                }
            }
        }
    }

    async fn check_once(
        &self,
        container: &Arc<Container>,
        words: &[String],
        timeout: Duration,
    ) -> Outcome {
        let start = Timestamp::now();
        let output = Output::default();
        let probe = self.probe(container, words, &output);
        let (code, output) = match tokio::time::timeout(timeout, probe).await {
            Ok(Ok(code)) => (code, output.text()),
            Ok(Err(error)) => (-1, error.message().to_owned()),
            Err(_) => {
                let said = output.text();
                let separator = if said.is_empty() { "" } else { ": " };
                let time = as_go(timeout);
                let why = format!("Health check exceeded timeout ({time}){separator}{said}");
                (-1, why)
            }
        };
        Outcome {
            start,
            end: Timestamp::now(),
            code,
            output,
        }
    }

    /// Runs the check; if the caller gives up, the process is killed.
    async fn probe(
        &self,
        container: &Arc<Container>,
        words: &[String],
        output: &Output,
    ) -> Result<i64> {
        let bytes: [u8; 32] = names::random()?;
        let id = oci::Digest::from_sha256(&bytes).hex().to_owned();
        let process = {
            let record = container.record();
            let process = exec::process(&record, &api::exec::CreateRequest::default(), None)?;
            Process {
                args: words.to_vec(),
                ..process
            }
        };
        let streams = AttachOrder {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let ended = self.execs.expect(&id);
        let mut guard = KillOnDrop {
            run_dir: self.run_dir(&container.id),
            id: Some(id.clone()),
        };
        for what in ["exec_create", "exec_start"] {
            let action = format!("{what}: {}", exec::command_line(words));
            self.container_event(&action, container, &[("execID", &id)]);
        }
        let order = ExecOrder {
            id,
            process,
            streams,
        };
        let started = self.exec_run(container, order).await;
        let (_, mut stream) = started.map_err(|f| f.error)?;
        output.read(&mut stream).await;
        let code = ended.await.unwrap_or(-1);
        guard.id = None;
        Ok(code.into())
    }
}

/// Kills an exec whose result nobody waits for any more.
struct KillOnDrop {
    run_dir: std::path::PathBuf,
    id: Option<String>,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let run_dir = self.run_dir.clone();
        tokio::spawn(async move {
            let request = Request::Kill {
                signal: 9,
                exec: Some(id),
            };
            // it may have ended by itself
            drop(ask(&run_dir, &request).await);
        });
    }
}

/// The beginning of a check's output; it can be read while the check still runs.
#[derive(Debug, Default)]
struct Output(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Output {
    fn push(&self, bytes: &[u8]) {
        let mut kept = lock(&self.0);
        let room = OUTPUT_MAX.saturating_sub(kept.bytes.len());
        kept.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        kept.is_cut |= bytes.len() > room;
    }

    fn text(&self) -> String {
        let kept = lock(&self.0);
        let text = String::from_utf8_lossy(&kept.bytes);
        if kept.is_cut {
            format!("{text}...")
        } else {
            text.into_owned()
        }
    }

    /// Reads a framed output to its end.
    async fn read(&self, stream: &mut tokio::net::UnixStream) {
        let mut header = [0; api::stdcopy::HEADER];
        let mut buffer = vec![0; OUTPUT_MAX];
        while stream.read_exact(&mut header).await.is_ok() {
            let Ok((_, length)) = api::stdcopy::parse_header(header) else {
                return;
            };
            let mut left = usize::try_from(length).unwrap_or(usize::MAX);
            while left > 0 {
                let part = left.min(buffer.len());
                let Ok(n @ 1..) = stream.read(&mut buffer[..part]).await else {
                    return;
                };
                left -= n;
                self.push(&buffer[..n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: i64) -> Outcome {
        let now = Timestamp::UNIX_EPOCH;
        Outcome {
            start: now,
            end: now,
            code,
            output: String::new(),
        }
    }

    #[test]
    fn conditions_follow_the_results() {
        let mut health = Health::default();
        health.add(outcome(1), 2, true);
        assert_eq!(
            (health.condition, health.failing_streak),
            (Condition::Starting, 0)
        );
        health.add(outcome(0), 2, true);
        assert_eq!(health.condition, Condition::Healthy);
        health.add(outcome(1), 2, true);
        assert_eq!(health.condition, Condition::Healthy);
        health.add(outcome(1), 2, false);
        assert_eq!(
            (health.condition, health.failing_streak),
            (Condition::Unhealthy, 2)
        );
        health.add(outcome(0), 2, false);
        assert_eq!(
            (health.condition, health.failing_streak),
            (Condition::Healthy, 0)
        );
        for _ in 0..9 {
            health.add(outcome(0), 2, false);
        }
        assert_eq!(health.log.len(), KEPT);
    }

    #[test]
    fn commands_are_docker_s_forms() {
        let config = |test: &[&str]| Config {
            healthcheck: Some(HealthConfig {
                test: test.iter().map(|&w| w.to_owned()).collect(),
                ..HealthConfig::default()
            }),
            ..Config::default()
        };
        assert_eq!(command(&config(&["NONE"])), None);
        assert_eq!(command(&config(&[])), None);
        assert_eq!(command(&config(&["X", "true"])), None);
        assert_eq!(command(&config(&["CMD", "a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(
            command(&config(&["CMD-SHELL", "x y"])).unwrap(),
            ["/bin/sh", "-c", "x y"]
        );
    }

    #[test]
    fn output_is_cut() {
        let output = Output::default();
        output.push(&[b'a'; OUTPUT_MAX]);
        assert_eq!(output.text().len(), OUTPUT_MAX);
        output.push(b"b");
        assert_eq!(output.text(), format!("{}...", "a".repeat(OUTPUT_MAX)));
    }

    #[test]
    fn durations() {
        let shown = [300, 1500, 90_000, 3_600_000].map(|n| as_go(Duration::from_millis(n)));
        assert_eq!(shown, ["300ms", "1.5s", "1m30s", "1h0m0s"]);
    }

    #[test]
    fn pauses() {
        let check = |interval, start_interval, starting: bool| {
            let check = HealthConfig {
                interval,
                start_interval,
                ..HealthConfig::default()
            };
            pause(&check, starting, Condition::Starting)
        };
        const SECOND: i64 = 1_000_000_000;
        assert_eq!(check(0, 0, false), INTERVAL);
        assert_eq!(check(0, 0, true), START_INTERVAL);
        assert_eq!(check(SECOND, 0, true), Duration::from_secs(1));
        assert_eq!(check(SECOND, 9 * SECOND, true), Duration::from_secs(9));
        assert_eq!(check(SECOND, 9 * SECOND, false), Duration::from_secs(1));
    }
}
