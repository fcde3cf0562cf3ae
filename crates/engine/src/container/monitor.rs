//! Watching a running container through its shim, and what follows its end.

use std::sync::Arc;

use jiff::Timestamp;
use shim::{Event, Exit};
use sys::spawn::Spawned;
use tokio::sync::OwnedMutexGuard;

use super::{Container, Status};
use crate::engine::Engine;
use crate::error::Step;
use crate::shim_link::Link;
use crate::warm::reap;

/// The exit code of a container whose shim was killed: nobody saw how it ended.
const UNSEEN: i32 = 137;

impl Engine {
    /// Follows a container's events until its shim has let go of everything.
    ///
    /// `occupied` is held so long: another start of the same container waits for it.
    pub(super) fn watch(
        self: &Arc<Self>,
        container: &Arc<Container>,
        mut link: Link,
        child: Option<Spawned>,
        occupied: OwnedMutexGuard<()>,
    ) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        let adopted = child.is_none();
        tokio::spawn(async move {
            // control is subscribed by the start
            if adopted && let Err(error) = link.call(&shim::Request::Subscribe, &[]).await {
                tracing::debug!(id = %container.id, %error, "the shim ended before it could be followed");
            }
            let mut ended = false;
            loop {
                match link.event().await {
                    Ok(Some(Event::Exited(exit))) => {
                        ended = true;
                        engine.ended(&container, &exit).await;
                        engine.remove_itself(&container);
                    }
                    Ok(Some(Event::ExecExited { id, code })) => {
                        engine.exec_ended(&container, &id, code);
                    }
                    Ok(Some(Event::Oom)) => engine.container_event("oom", &container, &[]),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(id = %container.id, %error, "lost the connection to a shim");
                        break;
                    }
                }
            }
            drop(link);
            if let Some(child) = child {
                reap(child);
            }
            if !ended {
                let exit = engine.exit_record(&container);
                if exit.is_none() {
                    engine.remove_cgroup(&container).await;
                }
                let exit = exit.unwrap_or_else(unseen);
                engine.ended(&container, &exit).await;
                engine.remove_itself(&container);
            }
            drop(occupied);
            if container.status() == Status::Restarting {
                engine.restart_later(&container);
            }
        });
    }

    /// Follows a container that an earlier engine started.
    pub(crate) fn watch_adopted(self: &Arc<Self>, container: &Arc<Container>, link: Link) {
        match Arc::clone(&container.occupied).try_lock_owned() {
            Ok(occupied) => {
                self.check_health(container, false);
                self.forward_log(container);
                self.watch(container, link, None, occupied);
            }
            Err(_) => tracing::error!(id = %container.id, "is followed already"),
        }
    }

    /// Removes the cgroup of a container whose shim was killed before it could do so itself; the
    /// container's processes died with the shim.
    async fn remove_cgroup(self: &Arc<Self>, container: &Container) {
        let path = self.cgroup(&container.record());
        let remove = move || {
            let hierarchies = runtime::cgroup::Hierarchies::detect()?;
            runtime::cgroup::Cgroup::open(&hierarchies, &path)?.delete()
        };
        let removed = self
            .blocking(move || remove().step(|| "remove the cgroup"))
            .await;
        if let Err(error) = removed {
            tracing::warn!(id = %container.id, %error, "the cgroup of a container stays");
        }
    }

    /// What the shim wrote about the end, if it came to that.
    pub(crate) fn exit_record(&self, container: &Container) -> Option<Exit> {
        let path = self.run_dir(&container.id).join(shim::protocol::EXIT_NAME);
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Takes note of a container's end and tells those who wait.
    pub(crate) async fn ended(&self, container: &Arc<Container>, exit: &Exit) {
        self.leave_networks(container);
        self.execs.end_all(&container.id);
        let record = container.record().clone();
        self.detach_volumes(&record).await;
        let will_restart = self.will_restart(container, exit);
        // those who wait for the end are told after the event of it
        let ((), ended) = container.change(|state| {
            state.status = if will_restart {
                Status::Restarting
            } else {
                Status::Exited
            };
            state.pid = 0;
            state.exit_code = exit.code.into();
            state.oom_killed = exit.oom_killed;
            state.finished_at = Some(
                exit.finished_at
                    .parse()
                    .unwrap_or_else(|_| Timestamp::now()),
            );
            if let Some(health) = &mut state.health {
                health.unwatched();
            }
        });
        if exit.oom_killed {
            self.metrics.out_of_memory.add(1);
        }
        self.save_later(container).await;
        let code = exit.code.to_string();
        let started = exit.started_at.parse::<Timestamp>().ok();
        let lasted = started
            .map_or(0, |s| Timestamp::now().duration_since(s).as_secs())
            .to_string();
        self.container_event(
            "die",
            container,
            &[("exitCode", &code), ("execDuration", &lasted)],
        );
        container.announce(ended);
    }

    /// Removes a container that asked for it (`--rm`), as soon as its end is known.
    ///
    /// This is a task of its own: whoever restarts the container holds its turn, and waits for its
    /// shim to let go, which is what the caller goes on to watch.
    fn remove_itself(self: &Arc<Self>, container: &Arc<Container>) {
        if container.status() != Status::Exited || !container.record().host.auto_remove {
            return;
        }
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            let _turn = container.lifecycle.lock().await;
            if container.status() == Status::Exited {
                engine.containers.remember(&container);
                // nobody waits for the disk: an engine that dies now finds it ended, and removes it
                drop(engine.remove_in_turn(&container, true).await);
            }
        });
    }
}

fn unseen() -> Exit {
    let now = Timestamp::now().to_string();
    Exit {
        code: UNSEEN,
        oom_killed: false,
        started_at: now.clone(),
        finished_at: now,
    }
}
