//! `gorae cp`.

mod inward;
mod outward;
mod paths;

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::{connect, output, terminal, units};
use api::archive::{PathStat, STAT_HEADER, file_mode};
use api::client::{Client, Method, Response};

pub(crate) static VERB: Verb = Verb {
    about: "Copy files/folders between a container and the local filesystem",
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tgorae cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    operands: Operands::between(2, 2),
    flags: &[&[
        Flag::switch("archive", "Archive mode (copy all uid/gid information)").short('a'),
        Flag::switch("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
        Flag::switch("quiet", "Suppress the line that tells of success").short('q'),
    ]],
    examples: &[
        ("cp web:/etc/app.conf .", "Take a file out of a container"),
        (
            "cp ./site/. web:/srv",
            "Put the content of a folder into a container",
        ),
        ("cp web:/var/log - | tar t", "Stream an archive to stdout"),
    ],
    run: |call| Box::pin(run(call)),
};

/// A path of a container.
struct Remote<'a> {
    container: &'a str,
    path: &'a str,
}

/// Splits `container:path`; a path that begins with `.` or `/` is always a local one.
fn remote(operand: &str) -> Option<Remote<'_>> {
    if operand.starts_with(['.', '/']) {
        return None;
    }
    let (container, path) = operand.split_once(':')?;
    Some(Remote { container, path })
}

async fn run(call: &Call) -> anyhow::Result<u8> {
    let (source, destination) = (call.operands[0].as_str(), call.operands[1].as_str());
    let refuse = |why: &str| Err(Failure::message(why).into());
    if source.is_empty() {
        return refuse("source can not be empty");
    }
    if destination.is_empty() {
        return refuse("destination can not be empty");
    }
    match (remote(source), remote(destination)) {
        (Some(from), None) => {
            connect::ready(&call.client, &call.globals).await?;
            outward::copy(call, &from, destination).await
        }
        (None, Some(to)) => inward::copy(call, source, &to).await,
        (Some(_), Some(_)) => refuse("copying between containers is not supported"),
        (None, None) => refuse("must specify at least one container source"),
    }
}

/// Asks what is at a path; nothing when the engine does not tell.
async fn stat(client: &Client, container: &str, path: &str) -> Option<PathStat> {
    let endpoint = super::container_path(container, "/archive");
    let request = client.request(Method::HEAD, &endpoint).query("path", path);
    let answer = request.send().await.ok()?;
    let stat = stat_of(&answer);
    answer.finish().await.ok()?;
    stat
}

fn stat_of(answer: &Response) -> Option<PathStat> {
    PathStat::from_header(answer.header(&STAT_HEADER.to_ascii_lowercase())?).ok()
}

fn is_link(stat: &PathStat) -> bool {
    stat.mode & file_mode::SYMLINK != 0
}

fn is_dir(stat: &PathStat) -> bool {
    stat.mode & file_mode::DIR != 0
}

/// Tells a person, and nobody else, that it is done.
fn tell(call: &Call, bytes: u64, destination: &str) {
    if !call.on("quiet") && terminal::stderr_is_terminal() {
        let size = units::size(i64::try_from(bytes).unwrap_or(i64::MAX));
        output::complain(format!("Successfully copied {size} to {destination}"));
    }
}
