//! Sending a signal to a container.

use std::sync::Arc;

use shim::Request;

use super::{Container, Status};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::shim_link::ask;
use crate::signal;

impl Engine {
    /// Sends a signal to a container's first process, SIGKILL by default.
    ///
    /// # Errors
    /// When the container does not run or the signal has no such name.
    pub async fn container_kill(self: &Arc<Self>, name: &str, text: Option<&str>) -> Result<()> {
        let container = self.containers.get(name)?;
        let number = text
            .filter(|t| !t.is_empty())
            .map_or(Ok(9), signal::parse)?;
        if !container.status().is_alive() {
            return Err(Error::conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                container.id
            )));
        }
        let own = {
            let stop_signal = container.record().config.stop_signal.clone();
            signal::parse(if stop_signal.is_empty() {
                "SIGTERM"
            } else {
                &stop_signal
            })
            .unwrap_or(15)
        };
        if number == 9 || number == own {
            // by hand: its restart policy leaves it alone
            container.record().state.stopped_by_hand = true;
        }
        if number == 9 {
            let _turn = container.lifecycle.lock().await;
            if container.status() == Status::Paused {
                self.resume_in_turn(&container).await?;
            }
            if container.status().is_alive() {
                self.kill_in_turn(&container).await?;
            }
        } else {
            self.signal(&container, number).await?;
        }
        Ok(())
    }

    /// Sends a signal through the shim; a container that has just ended is as good as signalled.
    pub(super) async fn signal(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        let request = Request::Kill { signal, exec: None };
        match ask(&self.run_dir(&container.id), &request).await {
            Ok(_) => {
                self.container_event("kill", container, &[("signal", &signal.to_string())]);
                Ok(())
            }
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
        let gone = |_| Error::conflict(format!("container {} is not running", container.id));
        let process =
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(gone)?;
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
