//! What ends a command without success: the message, the hint and the exit status.

use std::fmt;

/// A failure that the command line itself knows how to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The words do not fit the verb.
    Usage {
        message: String,
        usage: String,
        path: String,
        code: u8,
    },
    /// Something went wrong; the message stands alone.
    Message { message: String, code: u8 },
}

impl Failure {
    /// A message with exit status 1.
    pub(crate) fn message(message: impl Into<String>) -> Self {
        Self::Message {
            message: message.into(),
            code: 1,
        }
    }

    /// A message with an exit status of its own.
    pub(crate) fn with_code(message: impl Into<String>, code: u8) -> Self {
        Self::Message {
            message: message.into(),
            code,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage { code, .. } | Self::Message { code, .. } => *code,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage {
                message,
                usage,
                path,
                ..
            } => {
                write!(
                    f,
                    "{message}\n\nUsage:  {usage}\n\nRun 'gorae {path} --help' for more information"
                )
            }
            Self::Message { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Failure {}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// What the user can do next about an engine's message.
pub(crate) fn hint(message: &str) -> Option<String> {
    let quoted = |after: &str, end: char| {
        let rest = message.split_once(after)?.1;
        Some(
            rest.split(end)
                .next()
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
        )
    };
    if message.contains("is already in use by container")
        && let Some(name) = quoted("The container name \"", '"')
    {
        return Some(format!(
            "Remove it with 'gorae rm -f {name}', or choose another --name."
        ));
    }
    if message.contains("port is already allocated") || message.contains("address already in use") {
        return Some(
            "See which container holds it with 'gorae ps', or publish another host port with -p."
                .to_owned(),
        );
    }
    if message.contains("container is running: stop the container before removing") {
        let name = quoted("cannot remove container \"", '"')?;
        return Some(format!(
            "Stop it with 'gorae stop {name}', or remove it anyway with 'gorae rm -f {name}'."
        ));
    }
    if let Some(name) = quoted("No such container: ", '\n') {
        return Some(format!(
            "List all containers with 'gorae ps -a'; '{name}' is not among them."
        ));
    }
    if message.contains("No such image: ") {
        return Some(
            "List images with 'gorae images', or fetch one with 'gorae pull NAME'.".to_owned(),
        );
    }
    if message.contains("has active endpoints") {
        return Some(
            "See who is connected with 'gorae network inspect', and take them off with 'gorae network disconnect'."
                .to_owned(),
        );
    }
    if message.contains("Pool overlaps with other one on this address space") {
        return Some(
            "Choose another --subnet, or leave it out: then one that is free is taken.".to_owned(),
        );
    }
    if message.contains("no such volume") {
        return Some("List volumes with 'gorae volume ls'.".to_owned());
    }
    if message.ends_with(" not found") && message.contains("network ") {
        return Some("List networks with 'gorae network ls'.".to_owned());
    }
    if message.contains("is not running") {
        return Some(
            "Start it with 'gorae start', or see why it ended with 'gorae logs'.".to_owned(),
        );
    }
    if message.contains("bind source path does not exist") {
        return Some("Create the folder first, or use -v, which makes it.".to_owned());
    }
    if message.contains("unauthorized") || message.contains("authentication required") {
        return Some("Log in to the registry with 'gorae login'.".to_owned());
    }
    if message.contains("no space left on device") {
        return Some(
            "Free space with 'gorae system prune'; see 'gorae system df' for what is used."
                .to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expect: Option<&str>) {
        let got = hint(message);
        match expect {
            None => assert_eq!(got, None, "{message}"),
            Some(part) => assert!(
                got.clone().unwrap_or_default().contains(part),
                "{message}: {got:?}"
            ),
        }
    }

    #[test]
    fn hints() {
        check(
            "Conflict. The container name \"/web\" is already in use by container \"abc\". You have to remove",
            Some("gorae rm -f web"),
        );
        check(
            "Bind for 0.0.0.0:80 failed: port is already allocated",
            Some("gorae ps"),
        );
        check(
            "cannot remove container \"x\": container is running: stop the container before removing or force remove",
            Some("gorae rm -f x"),
        );
        check("No such container: zz", Some("'zz'"));
        check(
            "Error response from daemon: network front not found",
            Some("gorae network ls"),
        );
        check(
            "error while removing network: network a has active endpoints (name:\"c\" id:\"1\")",
            Some("gorae network disconnect"),
        );
        check("something else", None);
    }
}
