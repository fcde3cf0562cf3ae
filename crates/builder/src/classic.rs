//! Builds as Docker's API had them before BuildKit: one request with the context, answered by lines of text.
//!
//! The build itself is the same as all others; only what is told takes the old form.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::image::{Progress as Message, ProgressError};
use dockerfile::syntax::Document;
use engine::ProgressSender;
use oci::Digest;
use storage::files::Owners;
use storage::files::{ExtractOptions, Ownership, extract};

use crate::build::{self, Finish};
use crate::builder::Builder;
use crate::client::{Lookup, Offer, Stream};
use crate::error::{Error, Result, Step as _};
use crate::export::ExportRequest;
use crate::front::{self, DOCKERFILE, FrontResult, FrontendRequest};
use crate::job::{Job, JobOptions};
use crate::llb::Graph;
use crate::progress::Update;
use crate::session::Head;

/// Bytes between the two ends of the session that such a build has with itself.
const PIPE: usize = 64 << 10;
/// How long the last words of a build may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The digits of an id that people see.
const SHORT: usize = 12;

/// A build.
#[derive(Default)]
pub struct ClassicRequest {
    /// The settings of the Dockerfile front end.
    pub attrs: BTreeMap<String, String>,
    /// What the result is called.
    pub tags: Vec<String>,
    /// The client's own session, where it has one; the context comes from there then.
    pub session: String,
    /// Whether nothing but the result's id is told.
    pub quiet: bool,
    /// Whether what is told is BuildKit's own messages, for clients that show them themselves.
    pub trace: bool,
    /// Credentials by registry.
    pub credentials: HashMap<String, (String, String)>,
}

impl std::fmt::Debug for ClassicRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClassicRequest")
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

/// A context that was sent with the request; it goes with its value.
#[derive(Debug)]
struct Sent(PathBuf);

impl Drop for Sent {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a context stays");
        }
    }
}

/// Builds from an archive, or from what the settings name where there is none, and tells of it line by line.
///
/// # Errors
/// When the context is damaged, or the build fails.
pub async fn build(
    builder: &Arc<Builder>,
    request: ClassicRequest,
    archive: Option<Box<dyn Read + Send>>,
    sender: &ProgressSender,
) -> Result<()> {
    let sent = match archive {
        Some(archive) => Some(unpack(builder, archive).await?),
        None => None,
    };
    let session = match request.session.as_str() {
        "" => Some(own_session(builder, &request, sent.as_ref()).await?),
        _ => None,
    };
    let id = match &session {
        Some(session) => session.id.clone(),
        None => request.session.clone(),
    };
    let job = builder.job(JobOptions {
        session: id,
        wants_layers: true,
        ..JobOptions::default()
    })?;
    let _ends = job.end_on_drop();
    // boxed, so that the types of its callers stay shallow
    Box::pin(run(&job, &request, sender)).await
}

async fn unpack(builder: &Arc<Builder>, archive: Box<dyn Read + Send>) -> Result<Sent> {
    let folder = builder.root.join("contexts").join(crate::id::new());
    let work = move || {
        std::fs::create_dir_all(&folder).step(|| "make a folder for the context")?;
        let sent = Sent(folder);
        let opened = std::fs::File::open(&sent.0).step(|| "open the context's folder")?;
        let options = ExtractOptions {
            ownership: Ownership::Archive,
            replace_kind: true,
            rename: None,
            owners: Owners::default(),
        };
        extract(OwnedFd::from(opened), archive, &options).map_err(|error| {
            Error::invalid(format!("failed to read the build context: {error}"))
        })?;
        Ok(sent)
    };
    tokio::task::spawn_blocking(work)
        .await
        .step(|| "read the build context")?
}

/// The session that a build has with itself: the context that was sent, and the credentials.
struct OwnSession {
    id: String,
    _open: crate::session::Opened,
    _serving: crate::client::Serving,
}

async fn own_session(
    builder: &Arc<Builder>,
    request: &ClassicRequest,
    sent: Option<&Sent>,
) -> Result<OwnSession> {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let id = crate::id::new();
    let credentials = request.credentials.clone();
    let lookup: Lookup = Arc::new(move |host| {
        let found = credentials.get(&host).cloned();
        Box::pin(std::future::ready(Ok(found)))
    });
    let offer = Offer {
        session: id.clone(),
        folders: Vec::new(),
        upload: None,
        credentials: lookup,
        secrets: BTreeMap::new(),
        agents: Vec::new(),
        outputs: BTreeMap::new(),
    };
    let methods = offer.methods();
    let serving = crate::client::Serving::start(Stream::new(theirs), offer);
    let path = sent.map(|sent| sent.0.clone());
    let folders = path.into_iter().flat_map(|path| {
        [
            ("context".to_owned(), path.clone()),
            ("dockerfile".to_owned(), path),
        ]
    });
    let head = Head {
        id: id.clone(),
        name: "classic".to_owned(),
        methods,
        folders: folders.collect(),
        ..Head::default()
    };
    let open = builder.sessions.open(head, ours).await;
    let open = open.step(|| "open a session of its own")?;
    Ok(OwnSession {
        id,
        _open: open,
        _serving: serving,
    })
}

async fn run(job: &Arc<Job>, request: &ClassicRequest, sender: &ProgressSender) -> Result<()> {
    if request.trace {
        return run_traced(job, request, sender).await;
    }
    let mut told = job.progress.subscribe();
    let front = FrontendRequest {
        frontend: DOCKERFILE.to_owned(),
        attrs: request.attrs.clone(),
        ..FrontendRequest::default()
    };
    let result = front::solve_frontend(job, front).await?;
    let script = Script::of(&result);
    let (say, quiet) = (sender.clone(), request.quiet);
    let telling = tokio::spawn(async move {
        let mut teller = Teller::new(script);
        while let Some(update) = told.next().await {
            for text in teller.take(&update) {
                if !quiet && say.send(stream(text)).await.is_err() {
                    return;
                }
            }
        }
    });
    let done = finish(job, request, result).await;
    job.progress.end();
    let abort = telling.abort_handle();
    if tokio::time::timeout(LAST_WORDS, telling).await.is_err() {
        abort.abort();
    }
    let id = done?;
    last_words(request, &id, sender).await;
    Ok(())
}

/// The same for a client that asked for BuildKit's messages (`version=2`).
async fn run_traced(
    job: &Arc<Job>,
    request: &ClassicRequest,
    sender: &ProgressSender,
) -> Result<()> {
    let (mut told, say) = (job.progress.subscribe(), sender.clone());
    let telling = tokio::spawn(async move {
        while let Some(update) = told.next().await {
            if say.send(trace(&update)).await.is_err() {
                return;
            }
        }
    });
    let front = FrontendRequest {
        frontend: DOCKERFILE.to_owned(),
        attrs: request.attrs.clone(),
        ..FrontendRequest::default()
    };
    let work = async {
        let result = front::solve_frontend(job, front).await?;
        finish(job, request, result).await
    };
    let done = work.await;
    job.progress.end();
    let abort = telling.abort_handle();
    if tokio::time::timeout(LAST_WORDS, telling).await.is_err() {
        abort.abort();
    }
    let id = done?;
    let message = Message {
        id: "moby.image.id".to_owned(),
        aux: Some(serde_json::json!({"ID": id})),
        ..Message::default()
    };
    // a client that has left has its image all the same
    drop(sender.send(message).await);
    Ok(())
}

/// A message of BuildKit's as such clients read it.
fn trace(update: &Update) -> Message {
    use base64::Engine as _;
    use prost::Message as _;
    let bytes = update.encode_to_vec();
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    Message {
        id: "moby.buildkit.trace".to_owned(),
        aux: Some(text.into()),
        ..Message::default()
    }
}

/// Builds and gives the result its names.
async fn finish(job: &Arc<Job>, request: &ClassicRequest, result: FrontResult) -> Result<String> {
    let export = ExportRequest {
        kind: "image".to_owned(),
        attrs: BTreeMap::from([("name".to_owned(), request.tags.join(","))]),
        ..ExportRequest::default()
    };
    let finish = Finish {
        attrs: request.attrs.clone(),
        exports: vec![export],
        ..Finish::default()
    };
    let response = build::complete(job, &result, &finish).await?;
    let id = response
        .get("containerimage.config.digest")
        .or_else(|| response.get("containerimage.digest"));
    id.cloned()
        .ok_or_else(|| Error::internal("the exporter names no image"))
}

async fn last_words(request: &ClassicRequest, id: &str, sender: &ProgressSender) {
    // a client that has left has its image all the same
    let say = async |message: Message| drop(sender.send(message).await);
    say(Message {
        aux: Some(serde_json::json!({"ID": id})),
        ..Message::default()
    })
    .await;
    if request.quiet {
        say(stream(format!("{id}\n"))).await;
        return;
    }
    let short = id.trim_start_matches("sha256:");
    let short = short.get(..SHORT).unwrap_or(short);
    say(stream(format!("Successfully built {short}\n"))).await;
    for tag in &request.tags {
        let familiar = tag.parse::<oci::Reference>();
        let familiar = familiar.map_or_else(|_| tag.clone(), |name| name.or_latest().familiar());
        say(stream(format!("Successfully tagged {familiar}\n"))).await;
    }
}

fn stream(text: String) -> Message {
    Message {
        stream: text,
        ..Message::default()
    }
}

/// The message of a build that failed, with the exit code of the process where there was one.
#[must_use]
pub fn failure(error: &Error) -> Message {
    let text = error.message().to_owned();
    Message {
        error_detail: Some(ProgressError {
            code: error.exit_code().map_or(0, i64::from),
            message: text.clone(),
        }),
        error: text,
        ..Message::default()
    }
}

/// The instructions of a Dockerfile, with the steps that they became.
#[derive(Debug, Default)]
struct Script {
    lines: Vec<(String, Option<String>)>,
}

impl Script {
    fn of(result: &FrontResult) -> Self {
        let first = result
            .refs
            .iter()
            .find_map(|(_, reference)| reference?.graph());
        first.map_or_else(Self::default, |graph| Self::of_graph(graph))
    }

    fn of_graph(graph: &Graph) -> Self {
        let mut steps: HashMap<i32, Digest> = HashMap::new();
        let mut file = Vec::new();
        for digest in &graph.order {
            let Some(vertex) = graph.vertices.get(digest) else {
                continue;
            };
            for location in &vertex.locations {
                file.clone_from(&location.info.data);
                for range in &location.ranges {
                    let line = range.start.as_ref().map_or(0, |start| start.line);
                    steps.insert(line, digest.clone());
                }
            }
        }
        let Ok(document) = Document::parse(&file) else {
            return Self::default();
        };
        let lines = document.nodes.into_iter().map(|node| {
            let line = i32::try_from(node.span.start).unwrap_or(0);
            (node.original, steps.get(&line).map(Digest::to_string))
        });
        Self {
            lines: lines.collect(),
        }
    }
}

/// Tells steps in the order of the file, whatever order they run in.
#[derive(Debug)]
struct Teller {
    script: Script,
    /// The instruction that is told now, and whether its own line was.
    at: usize,
    headed: bool,
    logs: HashMap<String, Vec<u8>>,
    cached: HashSet<String>,
    done: HashSet<String>,
}

impl Teller {
    fn new(script: Script) -> Self {
        Self {
            script,
            at: 0,
            headed: false,
            logs: HashMap::new(),
            cached: HashSet::new(),
            done: HashSet::new(),
        }
    }

    fn take(&mut self, update: &Update) -> Vec<String> {
        for vertex in &update.vertexes {
            if vertex.cached {
                self.cached.insert(vertex.digest.clone());
            }
            if vertex.completed.is_some() {
                self.done.insert(vertex.digest.clone());
            }
        }
        for log in &update.logs {
            let kept = self.logs.entry(log.vertex.clone()).or_default();
            kept.extend(&log.msg);
        }
        self.tell()
    }

    fn tell(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        let count = self.script.lines.len();
        while let Some((line, step)) = self.script.lines.get(self.at) {
            if !self.headed {
                texts.push(format!("Step {}/{count} : {line}\n", self.at + 1));
                self.headed = true;
            }
            if let Some(step) = step {
                let log = self.logs.remove(step).unwrap_or_default();
                if !log.is_empty() {
                    texts.push(String::from_utf8_lossy(&log).into_owned());
                }
                if !self.done.contains(step) {
                    return texts;
                }
                if self.cached.contains(step) {
                    texts.push(" ---> Using cache\n".to_owned());
                }
                let short = step.trim_start_matches("sha256:");
                texts.push(format!(" ---> {}\n", short.get(..SHORT).unwrap_or(short)));
            }
            self.at += 1;
            self.headed = false;
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{VertexLog, VertexUpdate};

    fn done(digest: &str, cached: bool) -> Update {
        Update {
            vertexes: vec![VertexUpdate {
                digest: digest.to_owned(),
                cached,
                completed: Some(crate::progress::now()),
                ..VertexUpdate::default()
            }],
            ..Update::default()
        }
    }

    #[test]
    fn steps_are_told_in_the_order_of_the_file() {
        let line = |text: &str, step: Option<&str>| (text.to_owned(), step.map(str::to_owned));
        let mut teller = Teller::new(Script {
            lines: vec![
                line("FROM a", Some("sha256:1111111111111111")),
                line("ENV b=c", None),
                line("RUN d", Some("sha256:2222222222222222")),
            ],
        });
        let log = Update {
            logs: vec![VertexLog {
                vertex: "sha256:2222222222222222".to_owned(),
                msg: b"out\n".to_vec(),
                ..VertexLog::default()
            }],
            ..Update::default()
        };
        assert_eq!(teller.take(&log), ["Step 1/3 : FROM a\n"]);
        let first = teller.take(&done("sha256:1111111111111111", true));
        assert_eq!(
            first,
            [
                " ---> Using cache\n",
                " ---> 111111111111\n",
                "Step 2/3 : ENV b=c\n",
                "Step 3/3 : RUN d\n",
                "out\n",
            ]
        );
        let last = teller.take(&done("sha256:2222222222222222", false));
        assert_eq!(last, [" ---> 222222222222\n"]);
    }
}
