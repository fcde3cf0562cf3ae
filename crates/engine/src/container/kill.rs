//! Sending a signal to a container.

use std::sync::Arc;

use shim::Request;

use super::{Container, Status};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::shim_link::ask;
use crate::signal;

const SIGKILL: i32 = 9;

impl Engine {
    /// Sends a signal to a container's first process, SIGKILL by default.
    ///
    /// # Errors
    /// When the container does not run or the signal has no such name.
    pub async fn container_kill(self: &Arc<Self>, name: &str, text: Option<&str>) -> Result<()> {
        self.kill(name, text)
            .await
            .map_err(|e| e.context(format!("cannot kill container: {name}")))
    }

    async fn kill(self: &Arc<Self>, name: &str, text: Option<&str>) -> Result<()> {
        let number = text
            .filter(|t| !t.is_empty())
            .map_or(Ok(SIGKILL), signal::parse)?;
        let container = self.containers.get(name)?;
        let is_end = number == SIGKILL || number == stop_signal(&container);
        if is_end && container.status() == Status::Restarting {
            let _turn = container.lifecycle.lock().await;
            if self.call_off_restart(&container).await {
                let number = number.to_string();
                self.container_event("kill", &container, &[("signal", &number)]);
                return Ok(());
            }
        }
        if !container.status().is_alive() {
            return Err(Error::conflict(format!(
                "container {} is not running",
                container.id
            )));
        }
        if number != SIGKILL {
            // by hand: its restart policy leaves it alone
            container.record().state.stopped_by_hand |= is_end;
            return self.signal_and_tell(&container, number).await;
        }
        let _turn = container.lifecycle.lock().await;
        if container.status() == Status::Paused {
            self.resume_in_turn(&container).await?;
            self.container_event("unpause", &container, &[]);
        }
        if container.status().is_alive() {
            self.kill_in_turn(&container).await?;
        }
        Ok(())
    }

    /// Sends a signal, and tells of it.
    pub(super) async fn signal_and_tell(
        &self,
        container: &Arc<Container>,
        signal: i32,
    ) -> Result<()> {
        // told first: the end that it may bring is told of at once
        let number = signal.to_string();
        self.container_event("kill", container, &[("signal", &number)]);
        self.signal(container, signal).await
    }

    /// Sends a signal through the shim; a container that has just ended is as good as signalled.
    async fn signal(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        let request = Request::Kill { signal, exec: None };
        match ask(&self.run_dir(&container.id), &request).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            Err(_) if !container.status().is_alive() => Ok(()),
            Err(error) => self.signal_without_shim(container, signal, error),
        }
    }

    /// When the shim does not answer although its container lives, the engine does it itself.
    fn signal_without_shim(&self, container: &Container, signal: i32, error: Error) -> Result<()> {
        let pid = container.record().state.pid;
        let number = rustix::process::Signal::from_named_raw(signal);
        let (Some(pid), Some(number)) = (rustix::process::Pid::from_raw(pid), number) else {
            return Err(error);
        };
        // a pidfd names one process for good; the cgroup tells that it is still the container's
        let flags = rustix::process::PidfdFlags::empty();
        let Ok(process) = rustix::process::pidfd_open(pid, flags) else {
            // it has just ended, and the note of it is on its way
            return Ok(());
        };
        let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))
            .unwrap_or_default();
        if !cgroup.contains(container.id.as_str()) {
            return Err(error);
        }
        match rustix::process::pidfd_send_signal(&process, number) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::system(
                format!("signal container {}", container.id),
                &errno,
            )),
        }
    }
}

/// The signal that a container is stopped by.
fn stop_signal(container: &Container) -> i32 {
    const SIGTERM: i32 = 15;
    let own = container.record().config.stop_signal.clone();
    signal::parse(&own).unwrap_or(SIGTERM)
}
