//! An engine on another host: its command line connects us there, over ssh's input and output.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What the other host runs: its own command line, whichever it has.
const REMOTE: &str = "command -v gorae >/dev/null 2>&1 && exec gorae";
const FALLBACK: &str = "exec docker";

/// Another host, as `ssh://[user@]host[:port][/path/of/socket]` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The engine's socket there, if it is not at its usual place.
    socket: Option<String>,
}

/// Reads what follows `ssh://`.
pub(super) fn parse(text: &str) -> Option<Ssh> {
    let (authority, path) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user.to_owned()), address),
        None => (None, authority),
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.contains(']') => {
            (host, Some(port.parse().ok()?))
        }
        _ => (address, None),
    };
    let host = host.trim_matches(['[', ']']);
    // ssh takes a word that begins with a dash for an option (CVE-2017-1000117 and its kin)
    let plain = |text: &str| !text.is_empty() && !text.starts_with('-');
    let user_is_plain = user
        .as_deref()
        .is_none_or(|user| plain(user) && !user.contains(':'));
    (plain(host) && user_is_plain).then(|| Ssh {
        user,
        host: host.to_owned(),
        port,
        socket: Some(path).filter(|path| path.len() > 1).map(str::to_owned),
    })
}

impl fmt::Display for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

impl Ssh {
    /// The words behind `ssh`.
    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = ["-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T"]
            .map(str::to_owned)
            .into();
        if let Some(user) = &self.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        let host = self.socket.as_ref().map(|path| {
            let path = path.replace('\'', r"'\''");
            format!(" --host 'unix://{path}'")
        });
        let rest = format!("{} system dial-stdio", host.unwrap_or_default());
        words.extend(["--".to_owned(), self.host.clone()]);
        words.push(format!("{REMOTE}{rest}; {FALLBACK}{rest}"));
        words
    }

    /// Starts ssh.
    pub(super) fn run(&self) -> io::Result<Session> {
        let mut command = Command::new("ssh");
        command.args(self.words());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // ^C is for the container, and not for the way to it
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot start the program ssh: {error}"),
            )
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        match (input, output) {
            (Some(input), Some(output)) => Ok(Session {
                input: Some(input),
                output,
                _child: child,
            }),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// A running ssh; it ends with this value.
#[derive(Debug)]
pub(super) struct Session {
    /// Gone when all was written.
    input: Option<ChildStdin>,
    pub(super) output: ChildStdout,
    _child: Child,
}

impl Session {
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    /// A pipe has no half to shut: it is closed, which ssh passes on.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.poll_flush(context);
        if flushed.is_ready() {
            self.input = None;
        }
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let check = |text: &str, expect: Option<&str>| {
            let found = parse(text).map(|ssh| ssh.to_string());
            assert_eq!(found.as_deref(), expect, "{text}");
        };
        check("host", Some("ssh://host"));
        check("me@host:22/run/x.sock", Some("ssh://me@host:22/run/x.sock"));
        check("[::1]:2222", Some("ssh://[::1]:2222"));
        check("host/", Some("ssh://host"));
        for refused in ["", "-oProxyCommand=x", "-x@host", "me:word@host", "host:x"] {
            check(refused, None);
        }
    }

    #[test]
    fn words() {
        let words = parse("me@host:22/it's.sock").unwrap().words();
        let expect = [
            "-o",
            "ConnectTimeout=30",
            "-o",
            "BatchMode=yes",
            "-T",
            "-l",
            "me",
            "-p",
            "22",
            "--",
            "host",
            r"command -v gorae >/dev/null 2>&1 && exec gorae --host 'unix:///it'\''s.sock' system dial-stdio; exec docker --host 'unix:///it'\''s.sock' system dial-stdio",
        ];
        assert_eq!(words, expect);
    }
}
