//! The verbs, one a file.

pub(crate) mod attach;
pub(crate) mod attestations;
pub(crate) mod build;
pub(crate) mod build_cache;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod completion;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod daemon;
pub(crate) mod df;
pub(crate) mod dial_stdio;
pub(crate) mod diff;
pub(crate) mod dockerd;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod image_referrers;
pub(crate) mod image_sign;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod network_audit;
pub(crate) mod network_connect;
pub(crate) mod network_create;
pub(crate) mod network_rm;
pub(crate) mod networks;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod registry;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod search;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod tag;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod volume_create;
pub(crate) mod volume_rm;
pub(crate) mod volumes;
pub(crate) mod wait;

use crate::args::{Call, Flag};
use crate::connect;
use crate::output::{self, complain};
use api::client::{Client, encode_component};
use std::collections::VecDeque;
use tokio::task::JoinHandle;

/// The flag that filters a list.
pub(crate) const FILTER: Flag = Flag::many(
    "filter",
    "filter",
    "Filter output based on conditions provided",
)
.short('f');

/// The flag of a list's form.
pub(crate) const FORMAT: Flag = Flag::one("format", "string", crate::format::HELP);

/// The flag that other keys detach by.
pub(crate) const DETACH_KEYS: Flag = Flag::one(
    "detach-keys",
    "string",
    "Override the key sequence for detaching a container",
);

/// How many objects are worked on at the same time.
const AT_ONCE: usize = 16;

/// Does the same to each operand, several at a time; prints what each gives, in their order, and goes on after failures.
pub(crate) async fn each<F>(call: &Call, act: impl Fn(Client, String) -> F) -> anyhow::Result<u8>
where
    F: Future<Output = anyhow::Result<String>> + Send + 'static,
{
    connect::ready(&call.client, &call.globals).await?;
    let mut names = call.operands.iter();
    let mut running: VecDeque<JoinHandle<anyhow::Result<String>>> = VecDeque::new();
    let mut code = 0;
    loop {
        while running.len() < AT_ONCE
            && let Some(name) = names.next()
        {
            running.push_back(tokio::spawn(act(call.client.clone(), name.clone())));
        }
        let Some(next) = running.pop_front() else {
            return Ok(code);
        };
        match next.await? {
            Ok(text) if text.is_empty() => {}
            Ok(text) => output::line(text)?,
            Err(error) => {
                let text = crate::failure::chain(&error);
                complain(&text);
                if code == 0
                    && let Some(hint) = crate::failure::hint(&text)
                {
                    complain(format!("\nHint: {hint}"));
                }
                code = 1;
            }
        }
    }
}

/// The path of a container's endpoint.
pub(crate) fn container_path(name: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", encode_component(name))
}
