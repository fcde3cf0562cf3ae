//! Further processes in running containers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::exec::{CreateRequest, CreateResponse, Inspect, ProcessConfig, StartRequest};
use oci::ContainerId;
use oci::runtime::{Capabilities, Process, User};
use shim::{AttachOrder, ExecOrder, Reply, Request};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::asking::{ended_or, not_running};
use super::{Attachment, Container, Record, Status, lock, spec};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::names;
use crate::shim_link::{Link, ask, refusal};

/// Ended execs that are kept for `inspect`; the oldest go first.
const KEPT: usize = 512;

/// An exec: what was asked, and how far it is.
#[derive(Clone, Debug)]
struct Exec {
    container: ContainerId,
    request: CreateRequest,
    progress: Progress,
    /// The order of their making.
    number: u64,
    /// Dropped when the end is known.
    unsettled: Option<Arc<oneshot::Sender<()>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Created,
    Running { pid: i32 },
    Ended { code: i32, pid: i32 },
}

/// All execs of an engine. They live no longer than the engine: what runs on after its death is
/// the shim's, and nobody can ask for it by id any more.
#[derive(Debug, Default)]
pub(crate) struct Execs(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<String, Exec>,
    /// Who waits for the end of an exec that no client knows.
    expected: HashMap<String, oneshot::Sender<i32>>,
    next: u64,
}

impl Execs {
    /// The ids of a container's execs that have not ended.
    pub(crate) fn ids_of(&self, container: &ContainerId) -> Vec<String> {
        let table = lock(&self.0);
        let open =
            |e: &Exec| e.container == *container && !matches!(e.progress, Progress::Ended { .. });
        table
            .by_id
            .iter()
            .filter(|(_, exec)| open(exec))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Takes note that a container's execs ended with it.
    pub(super) fn end_all(&self, container: &ContainerId) {
        let mut table = lock(&self.0);
        for exec in table
            .by_id
            .values_mut()
            .filter(|e| e.container == *container)
        {
            if let Progress::Running { pid } = exec.progress {
                exec.progress = Progress::Ended { code: 137, pid };
                exec.unsettled = None;
            }
        }
        // what was never started cannot be any more
        table.by_id.retain(|_, exec| {
            exec.container != *container || !matches!(exec.progress, Progress::Created)
        });
    }

    /// Forgets the execs of a container that is removed.
    pub(super) fn forget(&self, container: &ContainerId) {
        let mut table = lock(&self.0);
        table.by_id.retain(|_, exec| exec.container != *container);
    }

    fn add(&self, id: String, container: ContainerId, request: CreateRequest) {
        let mut table = lock(&self.0);
        if table.by_id.len() >= KEPT {
            let ended = table
                .by_id
                .iter()
                .filter(|(_, e)| matches!(e.progress, Progress::Ended { .. }));
            let oldest = ended
                .min_by_key(|(_, e)| e.number)
                .map(|(id, _)| id.clone());
            oldest.map(|id| table.by_id.remove(&id));
        }
        let number = table.next;
        table.next += 1;
        table.by_id.insert(
            id,
            Exec {
                container,
                request,
                progress: Progress::Created,
                number,
                unsettled: None,
            },
        );
    }

    /// Asks to be told the exit code of an exec of the engine's own.
    pub(super) fn expect(&self, id: &str) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.0).expected.insert(id.to_owned(), sender);
        receiver
    }

    /// Tells the end of an exec to who waits for it; answers whether somebody did.
    fn fulfil(&self, id: &str, code: i32) -> bool {
        let mut table = lock(&self.0);
        // those that gave up are forgotten here
        table
            .expected
            .retain(|other, sender| other == id || !sender.is_closed());
        let waiting = table.expected.remove(id);
        waiting.is_some_and(|sender| sender.send(code).is_ok())
    }

    fn get(&self, id: &str) -> Result<Exec> {
        let missing = || Error::not_found(format!("No such exec instance: {id}"));
        lock(&self.0).by_id.get(id).cloned().ok_or_else(missing)
    }

    /// Takes note that an exec runs; an end that was told before the start's answer stays.
    fn runs(&self, id: &str, now: i32) {
        if let Some(exec) = lock(&self.0).by_id.get_mut(id) {
            match &mut exec.progress {
                Progress::Ended { pid, .. } => *pid = now,
                progress => *progress = Progress::Running { pid: now },
            }
        }
    }

    /// Takes note of an exec's end.
    fn ends(&self, id: &str, code: i32) {
        if let Some(exec) = lock(&self.0).by_id.get_mut(id) {
            exec.progress = match exec.progress {
                Progress::Created => Progress::Ended { code, pid: 0 },
                Progress::Running { pid } => Progress::Ended { code, pid },
                ended @ Progress::Ended { .. } => ended,
            };
            exec.unsettled = None;
        }
    }

    /// Takes an exec for its start, which happens once.
    fn begin(&self, id: &str) -> Result<(Exec, Settled)> {
        let mut table = lock(&self.0);
        let missing = || Error::not_found(format!("No such exec instance: {id}"));
        let exec = table.by_id.get_mut(id).ok_or_else(missing)?;
        match exec.progress {
            Progress::Created => {
                exec.progress = Progress::Running { pid: 0 };
                let begun = exec.clone();
                let (sender, receiver) = oneshot::channel();
                exec.unsettled = Some(Arc::new(sender));
                Ok((begun, Settled(receiver)))
            }
            Progress::Running { .. } => Err(Error::conflict(format!(
                "exec command {id} is already running"
            ))),
            Progress::Ended { .. } => Err(Error::conflict(format!(
                "exec command {id} has already run"
            ))),
        }
    }
}

/// The wait for an exec's end to be known.
#[derive(Debug)]
pub struct Settled(oneshot::Receiver<()>);

impl Settled {
    /// Waits until the exit code can be asked for, but not long.
    ///
    /// The end of an exec's streams and its exit code come from the shim over two connections. A
    /// process that has closed its streams may itself go on for ever.
    pub async fn wait(self) {
        const SHORT: Duration = Duration::from_millis(500);
        // nothing is ever sent: the sender is dropped at the end
        drop(tokio::time::timeout(SHORT, self.0).await);
    }
}

impl Engine {
    /// Prepares a process for a running container.
    ///
    /// # Errors
    /// When the container does not run, no command is given, or it does not know the user.
    pub async fn exec_create(&self, name: &str, request: CreateRequest) -> Result<CreateResponse> {
        if request.cmd.as_ref().is_none_or(|words| words.is_empty()) {
            return Err(Error::invalid("No exec command specified"));
        }
        let container = self.containers.get(name)?;
        running(&container, name)?;
        self.check_user(&container, &request).await?;
        let bytes: [u8; 32] = names::random()?;
        let id = oci::Digest::from_sha256(&bytes).hex().to_owned();
        let action = format!("exec_create: {}", command_line(words_of(&request)));
        self.execs.add(id.clone(), container.id.clone(), request);
        self.container_event(&action, &container, &[("execID", &id)]);
        Ok(CreateResponse { id })
    }

    /// Starts a prepared process; answers its streams unless it is detached.
    ///
    /// # Errors
    /// When it was started before, the container does not run, or the program cannot be executed.
    pub async fn exec_start(&self, id: &str, request: &StartRequest) -> Result<Option<Attachment>> {
        let exec = self.execs.get(id)?;
        let container = self.containers.get(exec.container.as_str())?;
        if exec.progress == Progress::Created {
            running(&container, container.id.as_str())?;
        }
        let (exec, settled) = self.execs.begin(id)?;
        let tty = exec.request.tty;
        let order = self.exec_order(id, &container, &exec.request, request)?;
        // told first: the end is told by another task, which may be quicker
        let action = format!("exec_start: {}", command_line(words_of(&exec.request)));
        self.container_event(&action, &container, &[("execID", id)]);
        match self.exec_run(&container, order).await {
            Ok((pid, stream)) => {
                self.execs.runs(id, pid);
                Ok((!request.detach).then_some(Attachment {
                    tty,
                    past: None,
                    io: Some(stream),
                    settled: Some(settled),
                }))
            }
            Err(failure) => {
                self.execs.ends(id, failure.code);
                Err(failure.error)
            }
        }
    }

    /// Tells that a client has left an exec by its detach keys.
    pub fn exec_detached(&self, id: &str) {
        let exec = self.execs.get(id);
        if let Some(container) = exec
            .ok()
            .and_then(|exec| self.containers.get(exec.container.as_str()).ok())
        {
            self.container_event("exec_detach", &container, &[("execID", id)]);
        }
    }

    /// The keys by which clients leave an exec, as its creator wrote them, and whether it has a terminal.
    ///
    /// # Errors
    /// When there is no such exec.
    pub fn exec_terms(&self, id: &str) -> Result<(String, bool)> {
        let exec = self.execs.get(id)?;
        Ok((exec.request.detach_keys, exec.request.tty))
    }

    fn exec_order(
        &self,
        id: &str,
        container: &Container,
        exec: &CreateRequest,
        start: &StartRequest,
    ) -> Result<ExecOrder> {
        let record = container.record();
        let size = start
            .console_size
            .or(exec.console_size)
            .and_then(spec::console_size);
        let attached = !start.detach;
        Ok(ExecOrder {
            id: id.to_owned(),
            process: process(&record, exec, size)?,
            streams: AttachOrder {
                stdin: attached && exec.attach_stdin,
                stdout: attached && exec.attach_stdout,
                stderr: attached && exec.attach_stderr,
            },
        })
    }

    pub(super) async fn exec_run(
        &self,
        container: &Container,
        order: ExecOrder,
    ) -> Result<(i32, UnixStream), Failure> {
        let mut phase = container.phase.subscribe();
        let mut link = match Link::connect(&self.run_dir(&container.id)) {
            Ok(link) => link,
            Err(error) => {
                let error = ended_or(container, &mut phase, error).await;
                return Err(Failure { error, code: 126 });
            }
        };
        match link.call(&Request::Exec(Box::new(order)), &[]).await {
            Ok(Reply::Exec { pid }) => Ok((pid, link.into_stream())),
            Ok(reply) => Err(Failure {
                error: Error::internal(format!("exec: unexpected answer {reply:?}")),
                code: 126,
            }),
            Err(error @ (shim::CallError::Closed | shim::CallError::Frame(_))) => {
                let error = ended_or(container, &mut phase, refusal(&error)).await;
                Err(Failure { error, code: 126 })
            }
            Err(error) => {
                let missing = matches!(
                    &error,
                    shim::CallError::Refused {
                        kind: shim::ErrorKind::NotFound,
                        ..
                    }
                );
                let text = refusal(&error).context(
                    "OCI runtime exec failed: exec failed: unable to start container process",
                );
                Err(Failure {
                    error: text,
                    code: if missing { 127 } else { 126 },
                })
            }
        }
    }

    /// Takes note of an exec's end.
    pub(super) fn exec_ended(&self, container: &Arc<Container>, id: &str, code: i32) {
        if !self.execs.fulfil(id, code) {
            self.execs.ends(id, code);
        }
        self.container_event(
            "exec_die",
            container,
            &[("execID", id), ("exitCode", &code.to_string())],
        );
    }

    /// Waits until the end of a process that has ended is known here: a client that has read all of its
    /// output asks for its exit code at once.
    pub async fn exec_settled(&self, id: &str) {
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            let progress = self.execs.get(id).map(|exec| exec.progress);
            match progress {
                Ok(Progress::Running { pid }) if pid > 0 && has_ended(pid) => {}
                _ => return,
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Tells everything about an exec.
    ///
    /// # Errors
    /// When there is no such exec.
    pub fn exec_inspect(&self, id: &str) -> Result<Inspect> {
        let exec = self.execs.get(id)?;
        let request = exec.request;
        let mut words = request.cmd.unwrap_or_default().0;
        let entrypoint = if words.is_empty() {
            String::new()
        } else {
            words.remove(0)
        };
        let (running, exit_code, pid) = match exec.progress {
            Progress::Created => (false, None, 0),
            Progress::Running { pid } => (true, None, pid),
            Progress::Ended { code, pid } => (false, Some(code.into()), pid),
        };
        Ok(Inspect {
            id: id.to_owned(),
            running,
            exit_code,
            process_config: ProcessConfig {
                tty: request.tty,
                entrypoint,
                arguments: words,
                privileged: Some(request.privileged),
                user: request.user,
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: false,
            container_id: exec.container.to_string(),
            detach_keys: api::wire::Bytes(request.detach_keys.into_bytes()),
            pid: pid.into(),
        })
    }

    /// Sets the size of an exec's terminal; one without a terminal has none to set.
    ///
    /// # Errors
    /// When there is no such exec or it does not run.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let exec = self.execs.get(id)?;
        match exec.progress {
            Progress::Created => {
                let why = format!("cannot resize exec {id}: it has not been started");
                return Err(Error::conflict(why));
            }
            Progress::Ended { .. } => {
                let why = format!("process does not exist {id}: not found");
                return Err(Error::not_found(why));
            }
            Progress::Running { .. } => {}
        }
        if !exec.request.tty {
            return Ok(());
        }
        let request = Request::Resize {
            exec: Some(id.to_owned()),
            height,
            width,
        };
        ask(&self.run_dir(&exec.container), &request)
            .await
            .map(drop)
            .map_err(|e| e.context("resize exec"))
    }

    /// Sets the size of a container's terminal; one without a terminal has none to set.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn container_resize(&self, name: &str, height: u16, width: u16) -> Result<()> {
        let container = self.containers.get(name)?;
        let (alive, tty) = {
            let record = container.record();
            (record.state.status.is_alive(), record.config.tty)
        };
        if !alive {
            return Err(not_running(&container));
        }
        if tty {
            let request = Request::Resize {
                exec: None,
                height,
                width,
            };
            self.ask_running(&container, &request).await?;
        }
        let (height, width) = (height.to_string(), width.to_string());
        let size = [("height", height.as_str()), ("width", &width)];
        self.container_event("resize", &container, &size);
        Ok(())
    }
}

/// A failed start of an exec and the exit code it counts as.
pub(super) struct Failure {
    pub(super) error: Error,
    code: i32,
}

/// Whether a process is gone, or only still to be reaped (proc_pid_stat(5): the state follows the name).
fn has_ended(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

fn running(container: &Container, name: &str) -> Result<()> {
    match container.status() {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::conflict(format!(
            "Container {name} is paused, unpause the container before exec"
        ))),
        Status::Restarting => Err(Error::conflict(format!(
            "Container {name} is restarting, wait until the container is running"
        ))),
        _ => Err(not_running(container)),
    }
}

fn words_of(request: &CreateRequest) -> &[String] {
    request.cmd.as_ref().map_or(&[], |words| words.as_slice())
}

/// A command as events show it: the program, a space, its arguments.
pub(super) fn command_line(words: &[String]) -> String {
    let (program, arguments) = words.split_first().map_or(("", words), |(p, a)| (p, a));
    format!("{program} {}", arguments.join(" "))
}

pub(super) fn process(
    record: &Record,
    exec: &CreateRequest,
    size: Option<oci::runtime::ConsoleSize>,
) -> Result<Process> {
    let mut host = record.host.clone();
    host.privileged |= exec.privileged;
    let capabilities = spec::capabilities(&host)?;
    let user = if exec.user.is_empty() {
        record.config.user.clone()
    } else {
        exec.user.clone()
    };
    let own = exec.env.clone().unwrap_or_default();
    let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = own.iter().map(name).collect();
    let mut env = spec::environment(record);
    env.retain(|variable| !set.contains(&name(variable)));
    if exec.tty && !env.iter().chain(&own).any(|v| v.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(own);
    let cwd = [&exec.working_dir, &record.config.working_dir]
        .into_iter()
        .find(|d| !d.is_empty());
    Ok(Process {
        terminal: exec.tty,
        console_size: size,
        user: User {
            username: Some(user),
            additional_groups: host.group_add.clone().unwrap_or_default(),
            ..User::default()
        },
        args: exec.cmd.clone().unwrap_or_default().0,
        env,
        cwd: cwd.cloned().unwrap_or_else(|| "/".to_owned()),
        capabilities: Some(Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Capabilities::default()
        }),
        rlimits: spec::rlimits(&host),
        no_new_privileges: spec::no_new_privileges(&host),
        oom_score_adj: None,
        apparmor_profile: None,
    })
}
