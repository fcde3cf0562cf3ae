//! Further processes in running containers.

use crate::wire::{StrSlice, wire};

wire! {
    /// The body of `POST /containers/{id}/exec`.
    #[derive(Eq)]
    pub struct CreateRequest {
        /// User; empty for the container's.
        "User" => user: String,
        /// Whether the process gets all capabilities.
        "Privileged" => privileged: bool,
        /// Whether the process has a terminal.
        "Tty" => tty: bool,
        /// Initial height and width of the terminal.
        "ConsoleSize" [omitempty] => console_size: Option<[u64; 2]>,
        /// Whether stdin is attached.
        "AttachStdin" => attach_stdin: bool,
        /// Whether stderr is attached.
        "AttachStderr" => attach_stderr: bool,
        /// Whether stdout is attached.
        "AttachStdout" => attach_stdout: bool,
        /// Whether it runs without a client; older clients send it here.
        "Detach" [omitempty] => detach: bool,
        /// Keys that detach the client.
        "DetachKeys" => detach_keys: String,
        /// Further environment.
        "Env" => env: Option<Vec<String>>,
        /// Working directory; empty for the container's.
        "WorkingDir" => working_dir: String,
        /// Command.
        "Cmd" => cmd: Option<StrSlice>,
    }

    /// The answer of `POST /containers/{id}/exec`.
    #[derive(Eq)]
    pub struct CreateResponse {
        /// Id.
        "Id" => id: String,
    }

    /// The body of `POST /exec/{id}/start`.
    #[derive(Eq)]
    pub struct StartRequest {
        /// Whether it runs without a client.
        "Detach" => detach: bool,
        /// Whether the client expects a raw stream.
        "Tty" => tty: bool,
        /// Initial height and width of the terminal.
        "ConsoleSize" [omitempty] => console_size: Option<[u64; 2]>,
    }

    /// The answer of `GET /exec/{id}/json`.
    #[derive(Eq)]
    pub struct Inspect {
        /// Id.
        "ID" => id: String,
        /// Whether it runs.
        "Running" => running: bool,
        /// Exit code, after the end.
        "ExitCode" => exit_code: Option<i64>,
        /// Process.
        "ProcessConfig" => process_config: ProcessConfig,
        /// Whether stdin is attached.
        "OpenStdin" => open_stdin: bool,
        /// Whether stderr is attached.
        "OpenStderr" => open_stderr: bool,
        /// Whether stdout is attached.
        "OpenStdout" => open_stdout: bool,
        /// Whether it may be forgotten.
        "CanRemove" => can_remove: bool,
        /// Container.
        "ContainerID" => container_id: String,
        /// Keys that detach the client, in base64.
        "DetachKeys" => detach_keys: crate::wire::Bytes,
        /// Host pid.
        "Pid" => pid: i64,
    }

    /// The process of an exec.
    #[derive(Eq)]
    pub struct ProcessConfig {
        /// Whether it has a terminal.
        "tty" => tty: bool,
        /// Program.
        "entrypoint" => entrypoint: String,
        /// Arguments.
        "arguments" => arguments: Vec<String>,
        /// Whether it has all capabilities.
        "privileged" [omitempty] => privileged: Option<bool>,
        /// User.
        "user" [omitempty] => user: String,
    }
}
