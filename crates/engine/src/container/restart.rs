//! Starting again: on demand, and by policy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::container::Config;
use api::host_config::HostConfig;
use api::query::Stop;
use jiff::Timestamp;
use shim::Exit;

use super::health::Health;
use super::stop::By;
use super::{Container, Record, Status};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::signal;

/// The restart policy that is an addition to Docker's.
const ON_UNHEALTHY: &str = "on-unhealthy";
/// The label by which a client whose flags do not know that policy asks for it.
const LABEL: &str = "io.gorae.restart";

/// The first pause before a restart by policy; doubled each time, as Docker does.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A container that ran this long begins with the first pause again.
const GOOD_RUN: i64 = 10;

/// A container that is stopped to be started again: who follows its log goes on.
struct Returning<'a>(&'a Container);

impl<'a> Returning<'a> {
    fn mark(container: &'a Container) -> Self {
        let set = |phase: &mut super::Phase| phase.restarting_by_hand = true;
        container.phase.send_modify(set);
        Self(container)
    }
}

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        let reset = |phase: &mut super::Phase| phase.restarting_by_hand = false;
        self.0.phase.send_modify(reset);
    }
}

impl Engine {
    /// Stops a container if it runs, and starts it; answers a hint for people when it had to be killed.
    ///
    /// # Errors
    /// Those of stopping and starting.
    pub async fn container_restart(
        self: &Arc<Self>,
        name: &str,
        options: &Stop,
    ) -> Result<Option<String>> {
        let container = self.containers.get(name)?;
        let _turn = container.lifecycle.lock().await;
        let _returning = Returning::mark(&container);
        let restarted = self.restart_in_turn(&container, options).await;
        restarted.map_err(|e| e.context(format!("Cannot restart container {name}")))
    }

    async fn restart_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: &Stop,
    ) -> Result<Option<String>> {
        if !options.signal.is_empty() {
            signal::parse(&options.signal)?;
        }
        let hint = if container.status().is_alive() {
            self.stop_and_tell(container, options, By::Hand).await?
        } else {
            None
        };
        container.begin_anew();
        self.start_in_turn(container).await?;
        self.container_event("restart", container, &[]);
        Ok(hint)
    }

    /// Whether the container's policy asks for another start after this end.
    pub(super) fn will_restart(&self, container: &Container, exit: &Exit) -> bool {
        let wanted = container.restart_wanted.swap(false, Ordering::Relaxed);
        let record = container.record();
        let policy = &record.host.restart_policy;
        let state = &record.state;
        if state.stopped_by_hand {
            return false;
        }
        wanted
            || match policy.name.as_str() {
                "always" | "unless-stopped" => true,
                "on-failure" | ON_UNHEALTHY => {
                    exit.code != 0 && may_again(policy.maximum_retry_count, state.restart_count)
                }
                _ => false,
            }
    }

    /// Restarts a container that has turned unhealthy, if it asked for that.
    pub(super) fn restart_unhealthy(self: &Arc<Self>, container: &Arc<Container>) {
        let most = unhealthy_restarts(&container.record());
        let Some(most) = most else { return };
        let count = container.record().state.restart_count;
        if !may_again(most, count) {
            tracing::warn!(id = %container.id, count, "an unhealthy container has been restarted often enough");
            return;
        }
        let exits = container.phase.borrow().exits;
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        // a task of its own: the check that saw it ends with the container
        tokio::spawn(async move {
            let _turn = container.lifecycle.lock().await;
            let is_same = container.status() == Status::Running
                && container.phase.borrow().exits == exits
                && container
                    .record()
                    .state
                    .health
                    .as_ref()
                    .is_some_and(Health::is_bad);
            if !is_same {
                return;
            }
            tracing::warn!(id = %container.id, "restarts a container that is unhealthy");
            container.restart_wanted.store(true, Ordering::Relaxed);
            let options = Stop::default();
            let stopped = engine.stop_and_tell(&container, &options, By::Policy);
            if let Err(error) = stopped.await {
                container.restart_wanted.store(false, Ordering::Relaxed);
                tracing::error!(id = %container.id, %error, "an unhealthy container could not be stopped");
            }
        });
    }

    /// Starts a container again after its pause.
    pub(crate) fn restart_later(self: &Arc<Self>, container: &Arc<Container>) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        let pause = {
            let mut record = container.record();
            let state = &mut record.state;
            state.restart_count += 1;
            let lasted = state
                .started_at
                .map_or(0, |s| Timestamp::now().duration_since(s).as_secs());
            if lasted >= GOOD_RUN {
                container.pauses.store(0, Ordering::Relaxed);
            }
            pause(container.pauses.fetch_add(1, Ordering::Relaxed))
        };
        tokio::spawn(async move {
            let mut phase = container.phase.subscribe();
            let called_off = phase.wait_for(|p| p.removed || p.status != Status::Restarting);
            if tokio::time::timeout(pause, called_off).await.is_ok() {
                return;
            }
            let _turn = container.lifecycle.lock().await;
            // stopped, started or removed by hand meanwhile
            if container.status() != Status::Restarting {
                return;
            }
            engine.metrics.restarts.add(1);
            if let Err(error) = engine.start_in_turn(&container).await {
                tracing::warn!(id = %container.id, %error, "a restart by policy failed");
            }
        });
    }
}

/// How often a container may be restarted for being unhealthy, 0 for always; none if never.
fn unhealthy_restarts(record: &Record) -> Option<i64> {
    let policy = &record.host.restart_policy;
    if policy.name == ON_UNHEALTHY {
        return Some(policy.maximum_retry_count);
    }
    label(&record.config).ok().flatten()
}

/// What the label asks for: the most restarts.
fn label(config: &Config) -> Result<Option<i64>> {
    let labels = config.labels.as_ref();
    let Some(text) = labels.and_then(|labels| labels.get(LABEL)) else {
        return Ok(None);
    };
    let invalid = || {
        Error::invalid(format!(
            "invalid label {LABEL}={text}: expected {ON_UNHEALTHY} or {ON_UNHEALTHY}:<most restarts>"
        ))
    };
    match text.strip_prefix(ON_UNHEALTHY).ok_or_else(invalid)? {
        "" => Ok(Some(0)),
        rest => {
            let most = rest.strip_prefix(':').and_then(|most| most.parse().ok());
            most.filter(|most| *most >= 0).map(Some).ok_or_else(invalid)
        }
    }
}

/// Takes the policy of the label over where the client has set none.
pub(super) fn policy_of_label(config: &Config, host: &mut HostConfig) -> Result<()> {
    let Some(most) = label(config)? else {
        return Ok(());
    };
    if matches!(host.restart_policy.name.as_str(), "" | "no") && !host.auto_remove {
        ON_UNHEALTHY.clone_into(&mut host.restart_policy.name);
        host.restart_policy.maximum_retry_count = most;
    }
    Ok(())
}

/// Whether there may be one more restart; no bound is 0.
fn may_again(most: i64, count: u64) -> bool {
    u64::try_from(most).is_ok_and(|most| most == 0 || count < most)
}

/// The pause before a restart, after so many that each came too soon.
fn pause(earlier: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << earlier.min(16))
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let millis: Vec<_> = (0..5).map(|n| pause(n).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600]);
        assert_eq!(pause(10), LONGEST_PAUSE);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn bounds() {
        assert!(may_again(0, 1000) && may_again(3, 2));
        assert!(!may_again(3, 3) && !may_again(-1, 0));
    }

    #[test]
    fn the_label_is_a_policy() {
        let of = |text: &str| {
            let labels = [(LABEL.to_owned(), text.to_owned())].into();
            let config = Config {
                labels: Some(labels),
                ..Config::default()
            };
            let mut host = HostConfig::default();
            policy_of_label(&config, &mut host).map(|()| {
                let policy = host.restart_policy;
                (policy.name, policy.maximum_retry_count)
            })
        };
        assert_eq!(of("on-unhealthy").unwrap(), ("on-unhealthy".into(), 0));
        assert_eq!(of("on-unhealthy:3").unwrap(), ("on-unhealthy".into(), 3));
        for bad in [
            "",
            "always",
            "on-unhealthy:",
            "on-unhealthy:x",
            "on-unhealthy:-1",
        ] {
            of(bad).unwrap_err();
        }
    }
}
